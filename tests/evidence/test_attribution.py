"""Attribution: what each rule is worth, by hand, to the cent, and what is said of it."""

import functools

import numpy as np
import pandas as pd
import pytest
from helpers.scenarios import Plan, bars, cerebro, flat, random_walk
from helpers.shadow_runs import building, only, order

import bt_risk
from bt_risk.errors import ParameterError
from bt_risk.evidence import runner
from bt_risk.evidence.attribution import RunsBySubset, attribute, plan_subsets
from bt_risk.evidence.attribution_table import attribution_columns, attribution_note
from bt_risk.evidence.runner import RunEnd, VariantRun, running
from bt_risk.evidence.variants import RULES, active, variants

# 600 are bought at 100; the stop at 96 is hit in bar 7, and the strategy leaves at 110 in bar 9.
DIP = bars(*flat(6), (100, 101, 90, 95), (95, 112, 94, 110), *flat(22, 110))
BOUGHT = (order(5, "buy", size=600), order(8, "close"))
TWO = only(exposure_limit=0.5, exposure_unit="notional", trailing_stop=True)
NINE = bt_risk.Policy(gross_limit=0.4, net_limit=0.4)


@pytest.fixture(scope="module")
def dip():
    build = building(DIP, plan=BOUGHT)
    return bt_risk.compare(build, TWO, samples=200, workers=1, attribution=True)


def test_two_rules_by_hand(dip):
    """Bare 6,000; with the stop -2,400; with 500 units 5,000; with both -2,000.

    Stop: the mean of -2,400 - 6,000 and of -2,000 - 5,000. Limit: that of 5,000 - 6,000 and of
    -2,000 + 2,400.
    """
    found = dip.attribution
    columns = ["shapley", "leave_one_out", "alone", "error"]
    rows = found.frame[columns].to_dict("index")
    assert rows["stop"] == pytest.approx(
        {"shapley": -7700, "leave_one_out": -7000, "alone": -8400, "error": 0}
    )
    assert rows["one direction"] == pytest.approx(
        {"shapley": -300, "leave_one_out": 400, "alone": -1000, "error": 0}
    )
    assert found.difference == pytest.approx(-8000)
    assert (found.runs, found.permutations) == (4, 0)
    pair = found.pairs.loc[("stop", "one direction")]
    assert pair["interaction"] == pytest.approx(-2000 - 5000 + 2400 + 6000)
    assert not pair["named"]  # the stop alone is worth more
    # At closes bare falls from 100,000 to 97,000; with 500 units to 97,500; with the stop to 97,600
    # and 98,000.
    falls = np.array([0.03, 0.024, 0.025, 0.02])
    stop = ((falls[1] - falls[0]) + (falls[3] - falls[2])) / 2
    assert found.frame.loc["stop", "drawdown"] == pytest.approx(stop)
    assert found.frame["drawdown"].sum() == pytest.approx(falls[3] - falls[0])


def test_it_is_said_first_and_in_words(dip):
    first, second, third, *rest = dip.verdicts()
    assert first == (
        "protected ends with 98,000 instead of 106,000 (-8,000), max drawdown 2.0 % "
        "instead of 3.0 %"
    )
    assert second == "what each rule is worth: stop -7,700, one direction -300; together -8,000"
    assert third == "no evidence that any rule is worth more or less than nothing (95 %)"
    assert rest == list(dict.fromkeys(dip.verdict(v) for v in dip.sharpe.index[1:]))


def test_the_tables_have_every_rule_and_the_sum(dip):
    columns = attribution_columns(dip.attribution)
    assert columns["Shapley"] == {"stop": "-7,700", "one direction": "-300", "together": "-8,000"}
    assert columns["left out"] == {"stop": "-7,000", "one direction": "+400", "together": ""}
    assert columns["alone"] == {"stop": "-8,400", "one direction": "-1,000", "together": ""}
    assert columns["max drawdown"]["together"] == "-1.0"
    assert "standard error" not in columns
    assert "all subsets of the rules (4 runs)" in attribution_note(dip.attribution)
    html = dip._repr_html_()
    assert "<td>-7,700</td>" in html
    assert html.index("protected ends with") < html.index("<td>-7,700</td>") < html.index("Sharpe<")


# -- runs ------------------------------------------------------------------------------------------


def trading(count=150):
    engine = cerebro(random_walk(1, count, 0.02), random_walk(51, count, 0.02))
    engine.broker.setcommission(0.001)
    plan = []
    for bar in range(20, count - 10, 9):
        data = ("data", bar % 2)
        plan += [(bar, "buy", (data, ("size", 500))), (bar + 8, "close", (data,))]
    engine.addstrategy(Plan, plan=tuple(plan))
    return engine


SEVEN = bt_risk.Policy(action="pause", cooldown_bars=10, drawdown_limit=0.03, min_periods=10)


@pytest.fixture
def forks(monkeypatch):
    """Fork although the runner of the tests has threads: they hold no lock that a run needs."""
    monkeypatch.setattr(runner, "can_fork", lambda: True)


def test_seven_rules_sum_to_the_difference_to_the_cent(forks):
    found = bt_risk.compare(trading, SEVEN, "all", samples=200, workers=2, attribution=True)
    worth, records = found.attribution, found.records
    ends = {label: record.bars["equity"].iloc[-1] for label, record in records.items()}
    assert (worth.runs, worth.permutations) == (128, 0)
    assert worth.frame["shapley"].sum() == pytest.approx(ends["protected"] - ends["bare"], abs=1e-6)
    assert list(worth.frame.index) == active(SEVEN)
    for rule, row in worth.frame.iterrows():
        assert row["leave_one_out"] == ends["protected"] - ends[f"no {rule}"]
        assert row["alone"] == ends[f"only {rule}"] - ends["bare"]
    assert (worth.frame["shapley"].abs() > 1).sum() >= 3
    assert len(worth.pairs) == 21
    # What a comparison holds is that of the variants alone.
    assert list(records) == list(variants(SEVEN, "all"))
    falls = found.frame["value"].unstack()["Max drawdown"]
    assert worth.frame["drawdown"].sum() == pytest.approx(falls["protected"] - falls["bare"])


def test_one_process_and_several_give_the_same(forks):
    build = functools.partial(trading, 80)
    policy = only(exposure_limit=0.2, exposure_unit="notional", trailing_stop=True)
    one, two = (
        bt_risk.compare(build, policy, samples=200, workers=workers, attribution=True).attribution
        for workers in (1, 2)
    )
    pd.testing.assert_frame_equal(one.frame, two.frame)
    pd.testing.assert_frame_equal(one.pairs, two.pairs)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_that_only_the_attribution_needs_sends_no_record(workers, forks):
    policies = {"bare": None, "protected": TWO}
    build = building(DIP, plan=BOUGHT)
    with running(build, policies, workers, ["protected"]) as results:
        kinds = {label: type(run) for label, run in results}
    assert kinds == {"bare": VariantRun, "protected": RunEnd}


def test_nothing_more_runs_unless_it_is_asked_for():
    found = bt_risk.compare(building(DIP, plan=BOUGHT), TWO, samples=200, workers=1)
    assert found.attribution is None
    assert found.verdicts()[0].startswith("protected ends with 98,000")
    assert not [line for line in found.verdicts() if "worth" in line]


def test_a_policy_without_a_rule_has_nothing_to_divide():
    found = bt_risk.compare(
        building(DIP, plan=BOUGHT), only(), samples=200, workers=1, attribution=True
    )
    assert (found.attribution.runs, found.attribution.difference) == (1, 0.0)
    assert found.attribution.sentences() == ["no rule is on"]
    assert "protected ends with 106,000" in found._repr_html_()


# -- which subsets ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "permutations", "runs"),
    [(1, 10, 2), (6, 10, 64), (7, 24, 128), (7, 20, None), (8, 24, None), (8, 37, 256)],
)
def test_all_subsets_run_where_that_takes_no_more_runs_than_permutations_could(
    rules, permutations, runs
):
    whole = bt_risk.Policy(gross_limit=0.4)
    on = active(whole)
    policy = only(**{f: getattr(whole, f) for rule in on[:rules] for f in RULES[rule]})
    plan = plan_subsets(policy, permutations, seed=1)
    assert plan.rules == on[:rules]
    if runs:
        assert (len(plan.labels), plan.orders) == (runs, [])
    else:
        assert len(plan.labels) < min(2**rules, permutations * (rules - 1) + 3 + 2 * rules)
        assert len(plan.orders) == permutations
    made = plan.policies(policy)
    assert (made["bare"], made["protected"]) == (None, policy)
    for subset, label in plan.labels.items():
        assert subset == frozenset() or set(active(made[label])) == subset


def test_labels_are_those_of_the_variants():
    plan = plan_subsets(SEVEN, 24, 0)
    made, named = plan.policies(SEVEN), variants(SEVEN, "all")
    assert set(named) <= set(made)
    assert {label: made[label] for label in named} == named
    assert len(set(made)) == len(plan.labels)


def test_so_many_runs_that_the_machine_would_choke_are_refused():
    many = bt_risk.Policy(
        gross_limit=0.4, net_limit=0.4, position_limit=0.4, volatility_limit=0.2, gap_limit=0.05
    )
    with pytest.raises(ParameterError, match=r"at most 800 runs.*12 rules are on, which need"):
        plan_subsets(many, 200, 0)


@pytest.mark.parametrize(
    ("arguments", "param"),
    [(dict(attribution=1), "attribution"), (dict(permutations=9), "permutations")],
)
def test_what_makes_no_sense_raises(arguments, param):
    with pytest.raises(ParameterError) as caught:
        bt_risk.compare(trading, workers=1, samples=200, **arguments)
    assert caught.value.param == param


# -- without a run ---------------------------------------------------------------------------------


def returned(total, days=40, rng=None):
    """Return a run of 100,000 that ends with so much more, with noise from `rng` on its days."""
    logs = np.full(days, np.log1p(total / 100_000) / days)
    if rng is not None:
        noise = rng.normal(0, 0.01, days)
        logs += noise - noise.mean()
    return RunEnd(100_000.0, 100_000.0 + total, np.expm1(logs))


def picked(days=40, samples=400, seed=0):
    return np.random.default_rng(seed).integers(0, days, (samples, days))


def divided(policy, worth, permutations=24, picks=None):
    plan = plan_subsets(policy, permutations, 0)
    ends = {label: worth(subset) for subset, label in plan.labels.items()}
    return attribute(RunsBySubset(plan, ends), picked() if picks is None else picks, 1.0, 0.95)


def test_rules_that_only_work_together_are_named():
    found = divided(TWO, lambda on: returned(20_000 if len(on) == 2 else 0))
    assert found.frame["shapley"].tolist() == pytest.approx([10_000, 10_000])
    assert found.frame["alone"].tolist() == [0, 0]
    assert found.sentences()[1] == (
        "stop and one direction act together: +20,000 comes only of both, more than either is "
        "worth (+10,000 and +10,000)"
    )


def test_an_interaction_of_pennies_is_not_named():
    found = divided(TWO, lambda on: returned(20 if len(on) == 2 else 0))
    assert found.pairs["interaction"].tolist() == pytest.approx([20])
    assert not found.pairs["named"].any()


def test_a_rule_that_earns_every_day_is_evident_and_one_that_does_nothing_has_no_bounds():
    found = divided(TWO, lambda on: returned(5_000 if "stop" in on else 0, rng=rng_of(1)))
    stop, idle = found.frame.loc["stop"], found.frame.loc["one direction"]
    assert (stop["evidence"], idle["evidence"]) == (True, False)
    assert 0 < stop["low"] < stop["shapley"] < stop["high"]
    assert np.isnan([idle["low"], idle["high"]]).all()
    said = found.sentences()
    values = "stop +5,000; together +5,000; one direction changes nothing"
    assert said[0] == f"what each rule is worth: {values}"
    assert said[1].startswith("evidence that stop earns: 95 % +")
    assert said[1].endswith("; no evidence for any other rule")


def rng_of(seed):
    return np.random.default_rng(seed)


def test_bounds_are_for_all_rules_at_once():
    """Six rules of pure noise: bounds for one at a time would leave out zero too often."""
    policy = only(**{f: getattr(bt_risk.Policy(), f) for r in active(SEVEN)[:6] for f in RULES[r]})
    claimed = 0
    for seed in range(60):
        rng = rng_of(seed)
        own = {rule: rng.normal(0, 0.002, 120) for rule in active(policy)}
        market = rng.normal(0, 0.01, 120)

        def worth(on, own=own, market=market):
            logs = market + sum((own[rule] for rule in on), np.zeros(120))
            return RunEnd(1e5, 1e5 * np.exp(logs.sum()), np.expm1(logs))

        found = divided(policy, worth, picks=picked(120, 400, seed))
        claimed += found.frame["evidence"].any()
    assert claimed <= 8  # 3 are expected at 95 %


def test_a_run_that_its_returns_do_not_explain_has_no_bounds():
    """A deposit, for example: the account ends with more than its returns compound to."""

    def deposited(on):
        end = returned(5_000 if "stop" in on else 0, rng=rng_of(1))
        return end._replace(final=end.final + 1_000)

    found = divided(TWO, deposited)
    assert found.frame[["low", "high"]].isna().all(axis=None)
    assert found.frame["shapley"].sum() == pytest.approx(5_000)
    assert "no evidence" in found.sentences()[-1]


def test_nine_rules_are_estimated_and_sum_all_the_same():
    rng = rng_of(3)
    worths = {}

    def worth(on):
        if on not in worths:
            worths[on] = returned(float(rng.normal(0, 3_000)))
        return worths[on]

    found = divided(NINE, worth, permutations=20)
    assert (len(found.frame), found.permutations) == (9, 20)
    assert found.runs < 20 * 8 + 20
    assert found.frame["shapley"].sum() == pytest.approx(found.difference, abs=1e-6)
    whole = frozenset(active(NINE))
    for rule, row in found.frame.iterrows():
        assert row["error"] > 0
        assert row["leave_one_out"] == worths[whole].final - worths[whole - {rule}].final
        assert row["alone"] == worths[frozenset([rule])].final - worths[frozenset()].final
    assert found.pairs.empty
    assert found.sentences()[-1].startswith("estimated from 20 permutations of the rules")
    columns = attribution_columns(found)
    assert columns["standard error"]["stop"] == f"{found.frame.loc['stop', 'error']:,.0f}"
    assert "20 random permutations" in attribution_note(found)
