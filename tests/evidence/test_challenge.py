"""challenge: what runs, what the result says, its page, and how right it is on held-out days."""

import functools
import json
import re
from dataclasses import replace

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from helpers.command_line import command_in
from helpers.scenarios import Plan, bars, cerebro, random_walk

import bt_risk
from bt_risk import (
    AccountFloor,
    DataError,
    MinimumTradingDays,
    ParameterError,
    Policy,
    ProfitTarget,
)
from bt_risk.evidence.account_days import COLUMNS, END, account_of_returns, days_run
from bt_risk.evidence.bootstrap import block_length, chance_interval
from bt_risk.evidence.challenge import BEST, LEVELLED, PATHS
from bt_risk.evidence.challenge_judge import OUTCOMES, Judge, Outcome
from bt_risk.evidence.challenge_paths import drawn_days, judged, windows
from bt_risk.evidence.challenge_rules import rules_of
from bt_risk.evidence.runner import run_variant
from bt_risk.evidence.variants import RULES, without
from bt_risk.report.pyfolio import daily_equity

UTC = "00:00 UTC"
FIRM = [
    AccountFloor(0.10, daily=0.05, reset=UTC, trigger="intrabar"),
    ProfitTarget(0.08),
    MinimumTradingDays(2, reset=UTC),
]
OFF = without(Policy(), *RULES)


def building(seed=1, count=400, freq="D", volatility=0.02, hold=12):
    engine = cerebro(
        random_walk(seed, count, volatility, freq=freq),
        random_walk(seed + 50, count, volatility, freq=freq),
    )
    engine.broker.setcommission(0.001)
    plan = []
    for at in range(20, count - 10, 15):
        data = ("data", at % 2)
        size = ("size", 700 if at % 4 else -500)
        verb = "buy" if at % 4 else "sell"
        plan += [(at, verb, (data, ("size", abs(size[1])))), (at + hold, "close", (data,))]
    engine.addstrategy(Plan, plan=tuple(plan))
    return engine


@pytest.fixture(scope="module")
def result():
    return bt_risk.challenge(building, {"drawdown_limit": 0.2}, FIRM, days=30, samples=200)


# -- the days of a run -----------------------------------------------------------------------------


@pytest.mark.parametrize("freq", ["D", "h"])
def test_the_days_of_a_bare_run_are_those_of_the_run_to_the_last_bit(freq):
    build = functools.partial(building, count=700, freq=freq)
    days = days_run("challenge", build, None, "session")
    equity = daily_equity(run_variant(build, None).record)
    assert len(days) == len(equity)
    assert (days.begin[1:] == equity.to_numpy()[:-1]).all()
    assert days.ratios.shape == (len(days), COLUMNS)
    ends = days.begin * days.ratios[:, END]
    assert ends == pytest.approx(equity.to_numpy(), rel=1e-14)


def test_a_day_has_the_lows_and_highs_of_what_was_held():
    """1,000 bought at 100 on bar 3; its bars go from 97 to 104, and close at 101."""
    rows = [(100, 101, 99, 100)] * 2 + [(100, 104, 97, 101), (101, 101, 101, 101)]

    def build():
        engine = cerebro(bars(*rows, freq="12h"))
        engine.addstrategy(Plan, plan=((2, "buy", (("size", 1_000),)),))
        return engine

    days = days_run("challenge", build, None, UTC)
    assert days.opened.tolist() == [False, True]
    assert days.bars[1][:, 0].tolist() == [1.0, 1.01, 0.97, 1.04]
    assert (days.open_profit[1, 0], days.sizes[1, 0], days.trades[1, 0]) == (1_000.0, 1_000.0, 1.0)


def test_days_begin_when_the_rules_say():
    def build():
        return building(count=100, freq="h")

    midnight = days_run("challenge", build, None, UTC)
    prague = days_run("challenge", build, None, "00:00 Europe/Prague")
    assert [len(days.bars[0].T) for days in (midnight, prague)] == [24, 23]


# -- the judge sees what the monitors of a run see -------------------------------------------------

MODES = ["static", "trailing_closed", "trailing_eod", "trailing_intraday"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("trigger", ["close", "intrabar"])
@pytest.mark.parametrize("seed", range(6))
def test_a_history_ends_on_the_day_on_which_a_real_run_does(mode, trigger, seed):
    """One bar a day: the monitors of a run and the judge see the same, in the same order."""
    build = functools.partial(building, seed=seed, hold=9)
    guards = [
        AccountFloor(0.06, mode, daily=0.035, trigger=trigger, reset=UTC),
        ProfitTarget(0.07, action="stop"),
    ]
    days = days_run("challenge", build, None, UTC)
    judge = Judge(rules_of("challenge", guards), days, 100_000.0)
    found = judged(judge, np.arange(len(days))[None])
    expected = real_end(build, guards)
    outcome = OUTCOMES[found.outcomes[0]]
    if expected is None:
        assert outcome == "open"
        return
    time, rule, reason = expected
    word = "daily loss" if "of the day" in reason else "floor"
    assert outcome == ("passed" if rule == "ProfitTarget" else word)
    assert int(days.keys[found.days[0] - 1]) == time.toordinal()


def real_end(build, guards):
    """Return time, rule and reason of the first halt of a run under the real monitors."""
    engine = build()
    bt_risk.protect(engine, replace(OFF, guards=tuple(guards), sizer=False))
    (strategy,) = engine.run()
    journal = strategy.analyzers.riskjournal.frame()
    halts = journal[(journal.action == "halt")]
    return None if halts.empty else tuple(halts.iloc[0][["time", "rule", "reason"]])


# -- the result ------------------------------------------------------------------------------------


def test_the_odds_of_every_variant_add_up(result):
    assert list(result.frame.index) == ["bare", LEVELLED, "protected", BEST]
    assert result.frame[list(OUTCOMES)].sum(axis=1).to_numpy() == pytest.approx(1.0)
    assert result.begun.sum(axis=1).to_numpy() == pytest.approx(1.0)
    for _, row in result.frame.iterrows():
        assert 0.0 <= row["low"] <= row["passed"] <= row["high"] <= 1.0
        assert row["difference_low"] <= row["difference"] <= row["difference_high"]
    assert (result.frame.loc["bare", ["difference", "difference_high"]] == 0.0).all()
    apart = result.frame["passed"] - result.frame.loc["bare", "passed"]
    assert apart.to_numpy() == pytest.approx(result.frame["difference"].to_numpy())
    assert result.paths == 200 * PATHS


def test_the_same_seed_gives_the_same_odds(result):
    again = bt_risk.challenge(building, {"drawdown_limit": 0.2}, FIRM, days=30, samples=200)
    pd.testing.assert_frame_equal(again.frame, result.frame)
    other = bt_risk.challenge(building, {"drawdown_limit": 0.2}, FIRM, days=30, samples=200, seed=1)
    assert not other.frame.equals(result.frame)


def test_bare_at_equal_volatility_has_the_volatility_of_protected(result):
    bare = days_run("challenge", building, None, UTC)
    assert 0.0 < result.leverage < 1.0
    first = int(np.argmax(bare.opened))
    scaled = bare.part(first).scaled(result.leverage)
    policy = Policy(drawdown_limit=None)
    protected = days_run("challenge", building, policy, UTC).part(first)
    assert scaled.returns.std() == pytest.approx(protected.returns.std(), rel=1e-9)


def test_the_best_risk_is_the_best_of_those_tried_and_has_a_run_of_its_own(result):
    assert result.by_risk["passed"].max() == result.by_risk.loc[result.multiple, "passed"]
    assert result.by_risk.loc[1.0, "risk"] == 0.01
    assert result.frame.loc[BEST, "passed"] >= result.frame.loc["protected", "passed"] - 0.05


def test_a_fan_begins_with_the_cash_and_spreads(result):
    for fan in result.fans.values():
        assert (fan.iloc[0] == 100_000.0).all()
        assert (fan.diff(axis=1).iloc[:, 1:] >= 0.0).all(axis=None)
        assert len(fan) == 31


def rising(step):
    """Return a build whose account gains or loses about the same on every day."""

    def build():
        close = 100.0 * (1.0 + step) ** np.arange(120)
        rows = [(a, max(a, b), min(a, b), b) for a, b in zip(close[:-1], close[1:], strict=True)]
        engine = cerebro(bars(*rows))
        engine.addstrategy(Hold)
        return engine

    return build


class Hold(bt.Strategy):
    def next(self):
        self.order_target_percent(target=0.9)


@pytest.mark.parametrize(("step", "outcome"), [(0.005, "passed"), (-0.005, "floor")])
def test_what_is_sure_has_the_odds_of_one(step, outcome):
    rules = [AccountFloor(0.10), ProfitTarget(0.10, of="equity")]
    found = bt_risk.challenge(rising(step), OFF, rules, days=30, samples=120, confidence=0.9)
    row = found.frame.loc["bare"]
    assert row[outcome] == 1.0
    assert (row["low"], row["high"]) == (row["passed"], row["passed"])
    assert len(set(found.frame["passed"])) == 1 or outcome == "floor"


def test_without_a_target_a_challenge_is_passed_by_what_survives():
    rules = [AccountFloor(0.10)]
    assert (
        bt_risk.challenge(rising(0.001), OFF, rules, days=20, samples=200).frame["passed"].min()
        == 1.0
    )


def test_sentences_say_what_is_known(result):
    first, *_, last = result.sentences()
    assert re.match(r"bare passes with a probability of \d+ % \(95 %: \d+ to \d+ %\)", first)
    assert "which have room for 12 challenges of 30 days" in last
    assert sum("evidence that protected" in one for one in result.sentences()) == 1
    assert str(result).splitlines() == result.sentences()
    html = result._repr_html_()
    assert html.count("<li>") == len(result.sentences())
    assert LEVELLED in html


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"days": 0}, "challenge: days must be"),
        ({"samples": 10}, "challenge: samples must be"),
        ({"confidence": 1.5}, "challenge: confidence must be"),
        ({"blocks": -1.0}, "challenge: blocks must be"),
        ({"rules": []}, "challenge: rules must be"),
        ({"policy": 3}, "challenge: policy must be"),
        ({"build": 3}, "challenge: build must be"),
        ({"build": bt.Cerebro()}, "challenge: build must be"),
    ],
)
def test_an_argument_outside_its_range_is_refused(arguments, words):
    given = {"build": building, "policy": None, "rules": FIRM} | arguments
    with pytest.raises(ParameterError, match=words):
        bt_risk.challenge(**given)


def test_the_same_cerebro_again_is_refused():
    engine = building()
    with pytest.raises(ParameterError, match="the same one again"):
        bt_risk.challenge(lambda: engine, None, FIRM)


def test_a_run_without_a_trade_is_refused():
    def build():
        engine = cerebro(random_walk(1, 100, 0.01))
        engine.addstrategy(Plan)
        return engine

    with pytest.raises(DataError, match="no run has opened a position"):
        bt_risk.challenge(build, None, FIRM)


def test_too_few_days_are_refused():
    with pytest.raises(DataError, match="at least 20 days"):
        bt_risk.challenge(functools.partial(building, count=35), None, FIRM)


# -- how right it is -------------------------------------------------------------------------------


def test_the_error_of_few_futures_is_no_uncertainty_of_the_history():
    """Histories with the same odds have no spread of their own, however few futures each has."""
    rng = np.random.default_rng(1)
    same = (rng.random((400, 25)) < 0.3).astype(float)
    found = chance_interval(same, 0.95)
    assert found.high - found.low < 0.12
    assert found.value == pytest.approx(same.mean())
    odds = rng.beta(2, 5, 400)
    apart = (rng.random((400, 25)) < odds[:, None]).astype(float)
    wide = chance_interval(apart, 0.95)
    expected = np.quantile(rng.beta(2, 5, 100_000), [0.025, 0.975])
    assert [wide.low, wide.high] == pytest.approx(expected, abs=0.06)


RIGHT = [AccountFloor(0.08), ProfitTarget(0.08, of="equity")]


def odds_of(returns, days=60, samples=100):
    """Return the odds that a history of daily returns gives, with bounds."""
    history = account_of_returns([np.array([one]) for one in returns], 100_000.0)
    judge = Judge(rules_of("challenge", RIGHT), history, 100_000.0)
    drawn = drawn_days(len(history), days, block_length(returns), samples, PATHS, 0)
    passed = judged(judge, drawn).outcomes == Outcome.PASSED
    return chance_interval(passed.astype(float).reshape(samples, PATHS), 0.95)


def truth(make, days=60, paths=4_000):
    """Return the odds themselves: of many challenges on days that no history has."""
    returns = make(np.random.default_rng(99), paths * days)
    history = account_of_returns([np.array([one]) for one in returns], 100_000.0)
    judge = Judge(rules_of("challenge", RIGHT), history, 100_000.0)
    found = judged(judge, np.arange(paths * days).reshape(paths, days))
    return float((found.outcomes == Outcome.PASSED).mean())


def normal(rng, count):
    return rng.normal(0.0006, 0.012, count)


def clustered(rng, count):
    """Return days whose volatility changes slowly, and whose tails are fat."""
    calm = np.repeat(rng.choice([0.006, 0.016], count // 20 + 1), 20)[:count]
    return 0.0006 + calm * rng.standard_t(5, count) / np.sqrt(5 / 3)


def bounded(make, histories):
    """Return in how many histories of four years the bounds contain the true odds."""
    odds = truth(make)
    found = [odds_of(make(np.random.default_rng(seed), 1_000)) for seed in range(histories)]
    return sum(one.low <= odds <= one.high for one in found)


@pytest.mark.full
def test_the_bounds_contain_the_true_odds_of_days_with_fat_tails():
    assert bounded(clustered, 12) >= 10


@pytest.mark.soak
@pytest.mark.parametrize("make", [normal, clustered])
def test_the_bounds_contain_the_true_odds_as_often_as_they_say(make):
    """0.85 is 0.95 less three and a half standard errors of 60 histories."""
    assert bounded(make, 60) / 60 >= 0.85


HELD_OUT = [("sp500_1d", 0.9), ("nasdaq_1d", 0.9), ("ibm_1d", 0.7), ("msft_1d", 0.6)]


@pytest.mark.full
@pytest.mark.parametrize(("name", "share"), HELD_OUT)
def test_later_years_pass_about_as_often_as_the_first_years_say(name, share):
    """The first half of a series says what the second half does, within its bounds and luck."""
    returns = share * bt_risk.load_data(name)["close"].pct_change().dropna().to_numpy()
    half = len(returns) // 2
    said = odds_of(returns[:half], samples=400)
    later = account_of_returns([np.array([one]) for one in returns[half:]], 100_000.0)
    judge = Judge(rules_of("challenge", RIGHT), later, 100_000.0)
    found = judged(judge, windows(len(later), 60)).shares()["passed"]
    luck = 2.0 * np.sqrt(said.value * (1.0 - said.value) / (len(later) / 60))
    assert said.low - luck <= found <= said.high + luck


# -- the page and the command ----------------------------------------------------------------------


def test_the_page_has_the_odds_the_rules_and_a_fan(result, tmp_path):
    page = result.write(tmp_path / "page.html", "Angry <b>birds").read_text(encoding="utf-8")
    assert "Angry &lt;b&gt;birds" in page
    for sentence in result.sentences():
        assert sentence in page
    assert page.count('<svg class="fan"') == 4
    for word in ("target", "floor", BEST, "within a day 5 % of the initial balance"):
        assert word in page
    assert not re.search(r"\bnan\b", re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL))


SOURCE = """
import backtrader as bt


class Cross(bt.Strategy):
    params = dict(fast=10, slow=40, target=0.95)

    def __init__(self):
        fast, slow = bt.ind.SMA(period=self.p.fast), bt.ind.SMA(period=self.p.slow)
        self.cross = bt.ind.CrossOver(fast, slow)

    def next(self):
        if self.cross > 0:
            self.order_target_percent(target=self.p.target)
        elif self.cross < 0:
            self.close()
"""
TOML = """
[[guards]]
guard = "AccountFloor"
amount = 0.1
daily = 0.05
reset = "00:00 Europe/Prague"

[[guards]]
guard = "ProfitTarget"
amount = 0.1
"""


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    (tmp_path / "cross.py").write_text(SOURCE)
    (tmp_path / "ftmo.toml").write_text(TOML)
    bt_risk.load_data("sp500_1d").iloc[:500].to_csv(tmp_path / "spx.csv")
    monkeypatch.chdir(tmp_path)
    return command_in(100, monkeypatch, capsys)


WORDS = ["challenge", "cross.py:Cross", "--data", "spx.csv", "--samples", "200", "--days", "20"]


def test_the_command_prints_the_odds_and_writes_a_page(command, tmp_path):
    status, out, err = command(*WORDS, "--rules", "ftmo.toml", "--out", "page.html")
    assert (status, err) == (0, "")
    assert "- bare passes with a probability of" in out
    assert "protected at the best risk" in out
    assert out.endswith("wrote page.html\n")
    assert (tmp_path / "page.html").is_file()


def test_the_command_prints_one_object_for_other_programs(command):
    status, out, err = command(
        *WORDS, "--rules", "ftmo.toml", "--json", "--set", "risk_limit=0.005"
    )
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert set(found["odds"]) == {"bare", LEVELLED, "protected", BEST}
    assert found["by_risk"]["1.0"]["risk"] == 0.005
    assert found["paths"] == 5_000
    assert found["page"] == "bt-risk-challenge.html"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rules", "no.toml"], "rules must be an existing file"),
        (["--rules", "spx.csv"], "the file must be TOML"),
        (["--rules", "ftmo.toml", "--days", "0"], "days must be"),
        (["--rules", "ftmo.toml", "--out", "."], "--out must be"),
        ([], "Missing option '--rules'"),
    ],
)
def test_bad_input_is_one_line_and_the_status_2(command, words, message):
    status, out, err = command(*WORDS, *words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err
