"""ProfitTarget, MinimumTradingDays and Consistency in a run."""

from dataclasses import replace

import pytest
from helpers.persistent_broker import read
from helpers.recording import play
from helpers.restarts import POLICY, ROWS, run
from helpers.scenarios import bars, cerebro, flat

import bt_risk
from bt_risk import Consistency, MinimumTradingDays, ProfitTarget
from bt_risk.monitors.challenge import (
    ConsistencyMonitor,
    ProfitTargetMonitor,
    TradingDaysMonitor,
)
from bt_risk.rules.challenge import DayProfits
from bt_risk.state.file import read_state, request
from bt_risk.state.requests import OperatorRequest

UTC = "00:00 UTC"


def ramp(*closes, start=100.0):
    """Return rows whose closes are these; each opens at the close before."""
    before = [start, *closes]
    return [(a, max(a, b) + 0.1, min(a, b) - 0.1, b) for a, b in zip(before, closes, strict=False)]


def guarded(rows, *guards, freq="1D", **options):
    engine = cerebro(bars(*rows, freq=freq, start="2024-01-01"))
    engine.setbroker(bt_risk.RiskBroker(engine.broker, guards=list(guards), **options))
    engine.addanalyzer(bt_risk.RiskJournal)
    return engine


def lines(strategy, rule):
    decisions = strategy.analyzers.riskjournal.get_analysis()["decisions"]
    return [(d["action"], d["reason"]) for d in decisions if d["rule"] == rule]


def monitor(strategy, kind):
    return strategy.broker.registry.monitor(kind)


def buy(size=1_000):
    return lambda s: s.buy(size=size)


def close(strategy):
    strategy.close()


# -- LuxAlgo/prop-firm-sim and firms, worked by hand -----------------------------------------------


def test_half_of_the_profit_may_come_from_one_day():
    """+3,000 is all of it; +1,000 leaves 75 %; +2,000 makes 3,000 of 6,000: exactly half."""
    profits = DayProfits()
    profits.update(100_000, 0.0)
    shares = []
    for day, balance in enumerate((103_000, 104_000, 106_000), 1):
        profits.update(balance, float(day))
        shares.append(profits.share)
    assert shares == [1.0, 0.75, 0.5]


def test_a_day_without_a_new_position_is_no_trading_day():
    """FTMO, minimum trading days: a day counts if a position was opened on it."""
    profits = DayProfits()
    for day, opened in ((1.0, True), (1.0, True), (2.0, False), (3.0, True)):
        profits.update(100_000, day, opened)
    assert profits.days == 2


def test_a_loss_has_no_share():
    profits = DayProfits(initial=100_000)
    profits.update(99_000, 1.0)
    assert profits.share != profits.share
    profits.update(float("nan"), 2.0)
    assert (profits.day, profits.balance) == (1.0, 99_000)


# -- ProfitTarget ----------------------------------------------------------------------------------

# 1,000 bought on bar 4 at 100; 111,000 open on bar 6; sold at 110 on bar 8.
RISE = ramp(*[100.0] * 4, 105.0, 111.0, 110.0, 110.0, *[110.0] * 5)


@pytest.mark.parametrize(("of", "bar", "value"), [("balance", 8, 110_000), ("equity", 6, 111_000)])
def test_a_target_is_reached_by_the_closed_balance_or_by_equity(of, bar, value):
    strategy = play(guarded(RISE, ProfitTarget(0.10, of=of)), {3: buy(), 7: close})
    decisions = strategy.analyzers.riskjournal.get_analysis()["decisions"]
    (line,) = [d for d in decisions if d["rule"] == "ProfitTarget"]
    assert line["reason"] == f"ProfitTarget: {of} {value:,.2f} >= 110,000.00"
    assert line["time"].day == bar
    assert len(strategy) == len(RISE)


def test_a_target_that_pauses_closes_what_is_open_and_refuses_entries():
    guard = ProfitTarget(10_000, of="equity", action="pause")
    strategy = play(guarded(RISE, guard), {3: buy(), 9: buy(1)})
    actions = [action for action, _ in lines(strategy, "ProfitTarget")]
    assert actions == ["halt", "flat", "reject"]
    assert strategy.position.size == 0
    assert len(strategy) == len(RISE)


def test_a_target_that_stops_ends_the_run():
    guard = ProfitTarget(0.10, of="equity", action="stop")
    assert len(play(guarded(RISE, guard), {3: buy()})) == 7


@pytest.mark.parametrize("amount", [20_000.0, -20_000.0])
def test_a_deposit_is_no_profit(amount):
    pay = {5: lambda s: s.broker.add_cash(amount)}
    strategy = play(guarded(flat(20), ProfitTarget(0.10)), pay)
    assert lines(strategy, "ProfitTarget") == []


# -- MinimumTradingDays ----------------------------------------------------------------------------


def test_days_with_a_new_position_are_counted():
    """Opened on days 1, 1 and 3; closed on day 2."""
    actions = {2: buy(1), 4: close, 6: buy(1), 9: close, 18: buy(1)}
    guard = MinimumTradingDays(2, reset=UTC)
    strategy = play(guarded(flat(30), guard, freq="3h"), actions)
    assert monitor(strategy, TradingDaysMonitor).profits.days == 2
    assert lines(strategy, "MinimumTradingDays") == [
        ("note", "MinimumTradingDays: 2 trading days >= 2")
    ]


# -- Consistency -----------------------------------------------------------------------------------


def daily(*profits):
    """Return hourly rows and trades that earn so much on each day, with 1,000 units."""
    rows, actions, price = [], {}, 100.0
    for profit in profits:
        first = len(rows)
        actions |= {first + 2: buy(), first + 6: close}
        after = price + profit / 1_000.0
        rows += ramp(*[price] * 4, *[after] * 20, start=price)
        price = after
    return rows, actions


def test_the_answer_is_written_when_it_changes():
    rows, actions = daily(3_000, 1_000, 2_000, 1_000)
    strategy = play(guarded(rows, Consistency(0.5, reset=UTC), freq="1h"), actions)
    assert [reason for _, reason in lines(strategy, "Consistency")] == [
        "Consistency: the best day is 1.0000 of the profit > best_day_limit 0.5000",
        "Consistency: the best day is 0.5000 of the profit <= best_day_limit 0.5000",
    ]


def test_a_day_ends_that_has_brought_its_share_of_the_target():
    """Half of 6,000 a day: 3,000 end the first day, entries pass on the second one."""
    rows, actions = daily(3_000, 1_000)
    guard = Consistency(0.5, target=6_000, action="pause", reset=UTC)
    strategy = play(guarded(rows, guard, freq="1h"), actions | {12: buy(1), 30: buy(1)})
    found = lines(strategy, "Consistency")
    assert found[0] == (
        "halt",
        "Consistency: 3,000.00 earned in a day >= 3,000.00, which is best_day_limit of the target",
    )
    assert [action for action, _ in found] == ["halt", "reject", "note", "rearm"]


# -- parameters, files, restarts -------------------------------------------------------------------


def test_they_are_tables_of_a_policy_file(tmp_path):
    guards = [
        ProfitTarget(0.10, of="equity", action="pause"),
        MinimumTradingDays(5),
        Consistency(0.4, target=3_000, action="pause"),
        bt_risk.AccountFloor(0.06, "trailing_eod", lock=0.0, daily=0.04, taper_to_floor=0.5),
    ]
    policy = bt_risk.Policy(guards=guards)
    path = tmp_path / "policy.toml"
    policy.to_toml(path)
    assert bt_risk.Policy.from_toml(path) == policy
    assert policy.describe().splitlines()[-4:] == [
        "profit target: 10 % of the initial balance in equity closes everything and refuses "
        "entries until re-armed",
        "trading days: at least 5 on which a position is opened, each from 00:00 Europe/Prague",
        "consistency: the best day is at most 40 % of the profit; a day that has brought 40 % of "
        "3,000 closes everything and ends",
        "account floor: equity 6 % of the initial balance below the highest balance at the end of "
        "a day, up to the initial balance, and within a day 4 % of the initial balance below the "
        "balance at 00:00 Europe/Prague closes everything and ends the run; risk is scaled down "
        "over the last 50 % of room",
    ]


def test_a_target_that_was_reached_stays_so_after_a_restart(tmp_path):
    """The first trade earns 244 by bar 26."""
    guards = [ProfitTarget(200, action="pause"), MinimumTradingDays(2), Consistency(0.5)]
    policy = replace(POLICY, drawdown_limit=None, guards=guards)
    first = run(tmp_path, rows=ROWS[:28], policy=policy)
    assert monitor(first, ProfitTargetMonitor).reached
    second = run(tmp_path, rows=ROWS[:32], policy=policy)
    assert second.broker.state == "REDUCING"
    assert read(tmp_path / "venue.json")["positions"]["D0"][0] == 0
    assert monitor(second, TradingDaysMonitor).profits.days == 1
    assert monitor(second, ConsistencyMonitor).profits.profit > 200
    request(tmp_path / "risk.db", OperatorRequest("rearm"))
    third = run(tmp_path, rows=[*ROWS, *flat(3, price=89.0)], policy=policy)
    assert third.broker.state == "ACTIVE"
    assert monitor(third, TradingDaysMonitor).profits.days == 2
    assert read_state(tmp_path / "risk.db").of("target")["0:"]["reached"] is False


def test_a_target_that_was_reported_is_not_reported_again(tmp_path):
    policy = replace(POLICY, drawdown_limit=None, guards=[ProfitTarget(200)])
    first, second = (run(tmp_path, rows=ROWS[:end], policy=policy) for end in (27, 28))
    assert len(lines(first, "ProfitTarget")) == 1
    assert lines(second, "ProfitTarget") == []
