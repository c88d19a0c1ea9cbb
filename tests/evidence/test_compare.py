"""compare: which variants run, what the result says, and what is refused."""

import functools
import math
import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest
from helpers.scenarios import Plan, cerebro, random_walk

import bt_risk
from bt_risk.errors import DataError, ParameterError
from bt_risk.evidence import runner
from bt_risk.evidence.halt_odds import halt_probability
from bt_risk.evidence.metrics import MEASURES
from bt_risk.evidence.runner import run_all
from bt_risk.evidence.sharpe_test import SharpeTest
from bt_risk.evidence.variants import (
    RULES,
    active,
    alone,
    variants,
    without,
)
from bt_risk.policy import Policy
from bt_risk.report.no_trades import no_trades

FIVE = ["risk per trade", "size", "stop", "notional", "one direction", "correlation", "drawdown"]
WHOLE = bt_risk.Policy(
    gross_limit=0.4,
    net_limit=0.4,
    position_limit=0.4,
    groups={"all": ["A"]},
    group_limit=0.4,
    volatility_limit=0.2,
    gap_limit=0.05,
    gap_floor=0.02,
    lifetime_limit=0.3,
    taper_from=0.05,
    guards=[bt_risk.CooldownGuard(5), bt_risk.MarginAccount(20), bt_risk.SignalGate()],
    instruments={"A": {"risk_limit": 0.005, "step": 0.1}},
)


# -- variants --------------------------------------------------------------------------------------


def test_every_switch_of_a_policy_belongs_to_one_rule():
    named = [name for off in RULES.values() for name in off]
    assert len(named) == len(set(named)) + 2  # margin and signals are rules of their own
    switches = Policy.switches() - {"bar_jump"}  # a check of prices, and no rule
    assert switches <= set(named) <= {field.name for field in fields(bt_risk.Policy)}
    assert set(active(WHOLE)) == set(RULES)
    assert active(bt_risk.Policy()) == FIVE


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_left_out_leaves_the_others_as_they_were(rule):
    left = without(WHOLE, rule)
    assert active(left) == [other for other in RULES if other != rule]
    assert active(alone(WHOLE, rule)) == [rule]
    changed = {f.name for f in fields(left) if getattr(left, f.name) != getattr(WHOLE, f.name)}
    assert changed <= set(RULES[rule]) | {"instruments"}
    facts = left.instruments["A"]
    assert facts == (
        {"step": 0.1} if rule == "risk per trade" else {"risk_limit": 0.005, "step": 0.1}
    )


def test_which_variants_run():
    policy = bt_risk.Policy()
    each = variants(policy, "each")
    assert list(each) == ["bare", "protected", *(f"only {r}" for r in FIVE), "no drawdown"]
    left = variants(policy, "leave-one-out")
    assert list(left) == ["bare", "protected", *(f"no {r}" for r in FIVE)]
    assert len(variants(policy, "all")) == 2 + 2 * len(FIVE)
    assert (each["bare"], each["protected"]) == (None, policy)
    calm = replace(policy, drawdown_limit=None)
    assert "no drawdown" not in variants(calm, "all")


def test_without_the_stop_and_the_sizer_the_strategy_s_own_are_left():
    frame = random_walk(1, 200, 0.02)
    plan = tuple((bar, "buy", ()) for bar in range(30, 150, 20))
    engine = cerebro(frame)
    engine.addstrategy(Plan, plan=plan)
    bt_risk.protect(engine, without(bt_risk.Policy(), "size", "stop"))
    strategy = engine.run()[0]
    decisions = strategy.analyzers.riskjournal.frame()
    assert (
        "sizes come from FixedSize: the policy leaves them as they are" in decisions.reason.iloc[0]
    )
    assert "stop" not in set(decisions.action)
    assert strategy.position.size == 6
    # Risk is judged all the same, at the distance where the stop would be.
    assert strategy.broker.find(strategy.data).stop_distance() > 0


# -- a comparison ----------------------------------------------------------------------------------


def building(seed=1, count=400, size=None):
    engine = cerebro(random_walk(seed, count, 0.02), random_walk(seed + 50, count, 0.02))
    engine.broker.setcommission(0.001)
    arguments = (("size", size),) if size else ()
    plan = []
    for bar in range(20, count - 10, 15):
        data = ("data", bar % 2)
        plan += [(bar, "buy", (data, *arguments)), (bar + 12, "close", (data,))]
    engine.addstrategy(Plan, plan=tuple(plan))
    return engine


POLICY = bt_risk.Policy(action="pause", cooldown_bars=20, drawdown_limit=0.05)


@pytest.fixture(scope="module")
def result():
    build = functools.partial(building, size=500)
    return bt_risk.compare(build, POLICY, "all", samples=200, workers=1)


def test_the_frame_has_every_variant_and_measure_with_bounds(result):
    labels = list(variants(POLICY, "all"))
    assert list(result.frame.index) == [(v, m) for v in labels for m in MEASURES]
    known = result.frame.dropna()
    assert len(known) > 0.8 * len(result.frame)
    for kind in ("value", "difference", "levelled"):
        low, high = known[f"{kind}_low"], known[f"{kind}_high"]
        assert (low <= high).all()
    values = result.frame["value"].unstack("measure")
    differences = result.frame["difference"].unstack("measure")
    pd.testing.assert_frame_equal(values - values.loc["bare"], differences)
    assert (differences.loc["bare"] == 0).all()


def test_the_values_are_those_of_the_runs(result):
    record = result.records["protected"]
    equity = record.bars["equity"]
    growth = (equity.iloc[-1] / 100_000) ** (365 / len(equity)) - 1
    assert result.frame.loc[("protected", "CAGR"), "value"] == pytest.approx(growth)
    costs = record.fills["commission"]
    paid = costs.to_numpy() / equity.to_numpy()[np.searchsorted(record.times, record.fills.time)]
    expected = paid.sum() * 365 / len(equity)
    assert result.frame.loc[("protected", "Costs"), "value"] == pytest.approx(expected)


def test_a_walk_without_an_edge_is_no_evidence_and_it_says_so(result):
    assert not result.sharpe["evidence"].any()
    said = result.verdict()
    assert said.startswith("no evidence that protected changes return for risk: Sharpe ")
    assert "95 %" in said
    assert result.verdict("only correlation").startswith("no evidence")


def test_evidence_is_said_with_its_direction(result):
    row = SharpeTest(-0.5, -0.8, -0.2, evidence=True)
    sharpe = pd.DataFrame([row], ["protected"])
    said = replace(result, sharpe=sharpe).verdict()
    assert said == (
        "evidence that protected earns less for its risk: Sharpe -0.50 against bare, "
        "95 % -0.80 to -0.20"
    )


def test_the_shadow_book_explains_the_difference(result):
    ends = [result.records[v].bars["equity"].iloc[-1] for v in ("bare", "protected")]
    assert result.shadow.difference == pytest.approx(ends[1] - ends[0])
    assert result.shadow.by_rule()["balance"].sum() == pytest.approx(ends[1] - ends[0])
    assert abs(result.shadow.residual) < 0.1 * abs(result.shadow.ledger["balance"]).sum()


def test_the_same_seed_gives_the_same_result(result):
    again = bt_risk.compare(
        functools.partial(building, size=500), POLICY, "all", samples=200, workers=1
    )
    pd.testing.assert_frame_equal(result.frame, again.frame)
    pd.testing.assert_frame_equal(result.sharpe, again.sharpe)


@pytest.mark.full
def test_several_processes_give_the_same_runs(tmp_path):
    """In a process of its own: the workers import what `build` is from."""
    (tmp_path / "mine.py").write_text(
        "import backtrader as bt, bt_risk\n"
        "from bt_risk.demo.portfolios import MeanReversion\n"
        "def build():\n"
        "    engine = bt.Cerebro(stdstats=False)\n"
        "    data = bt_risk.load_data('ibm_1d').iloc[:400]\n"
        "    engine.adddata(bt.feeds.PandasData(dataname=data), name='IBM')\n"
        "    engine.addstrategy(MeanReversion)\n"
        "    return engine\n"
    )
    (tmp_path / "main.py").write_text(
        "import bt_risk, mine\n"
        "if __name__ == '__main__':\n"
        "    for workers in (1, 2):\n"
        "        r = bt_risk.compare(mine.build, samples=200, workers=workers)\n"
        "        print(repr(r.frame['value'].sum()), r.verdict())\n"
    )
    command = [sys.executable, "main.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    one, two = done.stdout.splitlines()
    assert one == two
    assert done.stderr == ""


def test_a_function_that_no_process_can_import_runs_here():
    runs = run_all(lambda: building(count=60), {"bare": None})
    assert runs["bare"].record.mode == "bare"


def test_several_processes_that_are_not_forked_need_what_they_can_import(monkeypatch):
    monkeypatch.setattr(runner, "can_fork", lambda: False)
    with pytest.raises(ParameterError, match="a function of a module"):
        run_all(lambda: building(count=60), {"bare": None, "protected": bt_risk.Policy()}, 2)


def twice():
    engine = building()
    engine.setbroker(bt_risk.RiskBroker(engine.broker))
    return engine


@pytest.mark.parametrize(
    ("arguments", "param"),
    [
        (dict(build=None), "build"),
        (dict(build=twice), "build"),
        (dict(policy=3), "policy"),
        (dict(rules="none"), "rules"),
        (dict(workers=0), "workers"),
        (dict(confidence=95), "confidence"),
        (dict(samples=5), "samples"),
    ],
)
def test_what_makes_no_sense_raises(arguments, param):
    usual = dict(build=building, workers=1, samples=200)
    with pytest.raises(ParameterError) as caught:
        bt_risk.compare(**(usual | arguments))
    assert caught.value.param == param


TIGHT = bt_risk.Policy(risk_limit=0.005)


@pytest.mark.parametrize("form", ["by name", "dict", "path"])
def test_a_policy_is_taken_in_the_forms_that_protect_takes(form, tmp_path, monkeypatch):
    TIGHT.to_toml(tmp_path / "risk.toml")
    given = {
        "by name": dict(risk_limit=0.005),
        "dict": dict(policy={"risk_limit": 0.005}),
        "path": dict(policy=tmp_path / "risk.toml"),
    }[form]
    ran = []
    monkeypatch.setattr(runner, "run_variant", lambda build, policy, logs: ran.append(policy))
    with pytest.raises(AttributeError):  # no run has a record
        bt_risk.compare(building, workers=1, **given)
    assert TIGHT in ran
    returns = np.random.default_rng(1).normal(0, 0.02, 60)
    policy = given.get("policy", given)
    assert halt_probability(returns, policy, periods_per_year=252) == halt_probability(
        returns, TIGHT, periods_per_year=252
    )


@pytest.mark.parametrize(("name", "near"), [("risk_limt", "risk_limit"), ("worker", "workers")])
def test_a_misspelt_name_is_answered_with_the_nearest(name, near):
    with pytest.raises(TypeError, match=f"no parameter '{name}'; did you mean '{near}'"):
        bt_risk.compare(building, **{name: 1})
    with pytest.raises(ParameterError, match="risk_limit must be part of the policy"):
        bt_risk.compare(building, TIGHT, risk_limit=0.01)


def test_too_few_days_raise():
    with pytest.raises(DataError, match="at least 20"):
        bt_risk.compare(functools.partial(building, count=15), workers=1, samples=200)


def test_a_strategy_that_never_trades_is_named_first_and_has_no_ratio():
    def build():
        engine = cerebro(random_walk(1, 60))
        engine.addstrategy(Plan)
        return engine

    found = bt_risk.compare(build, workers=1, samples=200)
    assert found.verdicts() == [f"no trades in bare: {no_trades(found.records['bare'])}"]
    assert math.isnan(found.frame.loc[("bare", "Sharpe"), "value"])
    assert found.shadow.difference == 0
    assert str(found.halt).startswith("A drawdown of 10 % is reached within 365 days (a year) with")
    assert str(found).split("\n") == [*found.verdicts(), str(found.halt)]  # what print() shows
