"""What a run says at its end: why nothing was traded, what a halt means, and the page."""

import logging

import backtrader as bt
import pandas as pd
import pytest
from helpers.scenarios import Plan, cerebro, random_walk
from helpers.scenarios import bars as bars_of

import bt_risk
from bt_risk.errors import ParameterError
from bt_risk.report import tear_sheet
from bt_risk.report.no_trades import no_trades
from bt_risk.report.record import record_of

FRAME = random_walk(1, 120, 0.01)
BUY = ((30, "buy", ()), (60, "buy", ()))


def finished(plan, cash=100_000.0, mode="enforce", frames=FRAME, analyzers=(), **settings):
    engine = cerebro(frames)
    engine.broker.setcash(cash)
    engine.addstrategy(Plan, plan=plan)
    engine.addanalyzer(bt_risk.ReportData)
    for analyzer, named in analyzers:
        engine.addanalyzer(analyzer, **named)
    if mode != "bare":
        bt_risk.protect(engine, mode=mode, **settings)
    return engine.run()[0]


def reason(*args, **named):
    return no_trades(record_of(finished(*args, **named)))


def test_a_run_with_a_trade_needs_no_reason():
    assert reason(BUY) == ""


def test_a_strategy_that_orders_nothing_is_named():
    assert reason(()) == "No order was executed: the strategy sent none."


def test_the_rule_that_refused_everything_is_named():
    text = reason(BUY, cash=50.0)
    assert text.startswith(
        "No order was executed: each of 2 was refused (rule 2, size: 2). The first reason: "
        "HalfKellySizer: 0.0100 of equity buys less than one step of 1 "
    )
    assert text.endswith("and the account had 50.00.")


def test_orders_that_passed_and_did_not_fill_are_counted():
    limit = ("exectype", bt.Order.Limit), ("price", 50.0)
    plan = ((30, "buy", (("size", 1), *limit)),)
    text = "No order was executed: 1 of 1 passed the rules and did not fill."
    assert reason(plan) == text
    text = reason(plan, notional_limit=1e-9)
    assert text.startswith(
        "No order was executed: each of 1 was refused (rule 2, position value: 1). "
        "The first reason: NotionalLimit: "
    )


@pytest.mark.parametrize("mode", ["bare", "observe"])
def test_without_an_enforcing_gate_no_rule_is_named(mode):
    text = reason((), mode=mode)
    assert text.startswith("No order was executed.")
    assert ("A run without a gate has no record" in text) is (mode == "bare")
    assert "sent none" not in text


def test_a_price_above_the_whole_account_is_named():
    """order_target_percent and most sizers round down to no order at all."""
    plan = ((30, "order_target_percent", (("target", 0.5),)),)
    low = FRAME["close"].min()
    assert reason(plan, cash=10.0) == (
        "No order was executed: the strategy sent none. "
        f"The price of D0 was never below {low:,.2f}, and the account had 10.00."
    )


# -- what protect logs -----------------------------------------------------------------------------


def warnings_of(caplog, *args, **named):
    with caplog.at_level(logging.WARNING, "bt_risk"):
        finished(*args, **named)
    return [r.getMessage() for r in caplog.records]


def test_a_protected_run_that_refused_everything_says_so_once(caplog):
    (text,) = [t for t in warnings_of(caplog, BUY, cash=50.0) if "No order" in t]
    assert "each of 2 was refused" in text


@pytest.mark.parametrize(("plan", "mode"), [(BUY, "enforce"), ((), "enforce"), (BUY, "observe")])
def test_other_runs_say_nothing(plan, mode, caplog):
    cash = 50.0 if mode == "observe" else 100_000.0
    assert not [t for t in warnings_of(caplog, plan, mode=mode, cash=cash) if "No order" in t]


DAYS = {"timeframe": bt.TimeFrame.Days}
CRASH = bars_of(*[(100, 101, 99, 100)] * 30, *[(80, 81, 79, 80)] * 10)
ALL_IN = ((25, "buy", (("size", 900),)),)
LOOSE = dict(risk_limit=0.4, exposure_limit=0.45, sizer=False, trailing_stop=False)
LOOSE |= dict(drawdown_limit=0.1)


def test_a_halt_in_the_first_year_says_what_it_means_for_a_ratio_of_years(caplog):
    halted(caplog, {})
    text = caplog.records[-1].getMessage()
    assert "ended this run in its first year: SharpeRatio has one annual return" in text
    assert "the halt of 2020-01-31" in text


def halted(caplog, kind, **settings):
    with caplog.at_level(logging.WARNING, "bt_risk"):
        analyzers = [(bt.analyzers.SharpeRatio, kind)]
        return finished(ALL_IN, analyzers=analyzers, **{"frames": CRASH} | LOOSE | settings)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (DAYS, {}),
        ({}, {"action": "pause"}),
        ({}, {"drawdown_limit": None}),
    ],
)
def test_a_ratio_of_days_and_a_run_that_goes_on_need_no_word(kind, settings, caplog):
    halted(caplog, kind, **settings)
    assert not [r for r in caplog.records if "SharpeRatio" in r.getMessage()]


def test_a_halt_in_a_later_year_needs_no_word(caplog):
    frame = CRASH.set_axis(CRASH.index - pd.Timedelta(days=20))
    halted(caplog, {}, frames=frame)
    assert not [r for r in caplog.records if "SharpeRatio" in r.getMessage()]


# -- protect(..., report="sheet.html") -------------------------------------------------------------


def engine_with(plan=BUY, strategies=1, **settings):
    engine = cerebro(FRAME)
    for _ in range(strategies):
        engine.addstrategy(Plan, plan=plan)
    bt_risk.protect(engine, **settings)
    return engine


@pytest.mark.parametrize("plan", [BUY, ()])
def test_protect_writes_the_page_that_tear_sheet_writes(plan, tmp_path):
    (strategy,) = engine_with(plan, report=tmp_path / "auto.html").run()
    tear_sheet(strategy, tmp_path / "own.html")
    assert (tmp_path / "auto.html").read_bytes() == (tmp_path / "own.html").read_bytes()


def test_several_strategies_have_one_page_and_an_optimisation_none(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(bt_risk.report, "tear_sheet", lambda *args: written.append(args))
    engine_with(strategies=2, report=tmp_path / "one.html").run()
    assert [path for _, path in written] == [tmp_path / "one.html"]
    engine = cerebro(FRAME)
    engine.optstrategy(Plan, plan=[BUY, ()])
    bt_risk.protect(engine, report=tmp_path / "none.html")
    engine.run(maxcpus=1)
    assert len(written) == 1


def test_a_page_that_cannot_be_written_is_an_error_before_the_run(tmp_path):
    with pytest.raises(ParameterError, match="protect: report must be the path of a file"):
        engine_with(report=tmp_path)


def test_fills_are_counted_once_however_many_record_them():
    engine = engine_with()
    engine.addanalyzer(bt_risk.ReportData, _name="one")
    engine.addanalyzer(bt_risk.ReportData, _name="two")
    (strategy,) = engine.run()
    one, two = (strategy.analyzers.getbyname(name).record for name in ("one", "two"))
    assert 0 < len(one.fills) == len(two.fills) == one.fills["time"].nunique()
