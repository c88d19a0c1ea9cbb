"""Guards: what refuses entries for a while, by hand-made bars, alone and in a policy."""

import datetime as dt
import inspect
import math
import pickle
from dataclasses import fields

import backtrader as bt
import pandas as pd
import pytest
from helpers.frames import PandasData
from helpers.recording import ends, play
from helpers.scenarios import (
    MODES,
    Plan,
    Script,
    bars,
    cerebro,
    flat,
    optimised,
    random_walk,
    tape_of,
    taped,
)

import bt_risk
from bt_risk import (
    Allow,
    CooldownGuard,
    DailyLossLimit,
    DailyProfitTarget,
    Deny,
    DuplicateOrder,
    LosingStreakGuard,
    MaxPositions,
    MinimumEdgeGuard,
    OrderRateLimit,
    OrderSize,
    ParameterError,
    Policy,
    PriceCollar,
    ProfitLock,
    RepeatedOrders,
    StopoutGuard,
)
from bt_risk.limits.guard_config import GUARDS
from bt_risk.limits.trade_guards import ScopedGuard

# Those of the whole account have tests of their own: test_account_floor.py.
SCOPED = [kind for kind in GUARDS.values() if issubclass(kind, ScopedGuard)]
SINGLE = [PriceCollar, OrderSize, DuplicateOrder, RepeatedOrders, Allow, Deny, MaxPositions]
KINDS = [*SCOPED, *SINGLE]
CALM = bars(*flat(40))


def guarded(*guards, frames=(CALM,), **options):
    engine = cerebro(*frames)
    engine.setbroker(bt_risk.RiskBroker(engine.broker, guards=list(guards), **options))
    engine.addanalyzer(bt_risk.RiskJournal)
    return engine


def lines(strategy, *actions):
    decisions = strategy.analyzers.riskjournal.get_analysis()["decisions"]
    return [d for d in decisions if d["action"] in actions]


def buy(bar_count=1, **kwargs):
    return lambda s: s.buy(size=bar_count, **kwargs)


def told(*placed):
    """Return the bars in which a strategy hears of what was refused in these."""
    return [bar + 1 for bar in placed]


def statuses(strategy):
    return [end[0] for end in ends(strategy)]


# -- CooldownGuard --------------------------------------------------------------------------------

# Bought on bar 6, left on bar 8; entries are tried at the closes of bars 8 to 12.
LEFT_ON_8 = {5: buy(), 7: lambda s: s.close()}


@pytest.mark.parametrize("mode", MODES)
def test_three_bars_lie_between_an_exit_and_the_next_entry(mode):
    """Left on bar 8: what is ordered on 8, 9 and 10 is refused, on 11 it passes and fills on 12."""
    plan = [(5, "buy", {"size": 1}), (7, "close", {})]
    plan += [(bar, "buy", {"size": 1}) for bar in (8, 9, 10, 11)]
    tape = tape_of(taped(guarded(CooldownGuard(3)), plan, mode))
    assert [bar for bar, *_ in tape["fills"]] == [6, 8, 12]
    assert [bar for bar, _ in tape["reasons"]] == told(8, 9, 10)
    assert tape["reasons"][0][1] == (
        "CooldownGuard: a position in D0 was closed less than cooldown_bars 3 ago"
        "; at most 0 would pass"
    )


def test_a_cool_down_with_cheat_on_open_is_as_long():
    class AtOpen(Plan):
        def next_open(self):
            super().next()

        def next(self):
            pass

    engine = cerebro(CALM, cheat_on_open=True)
    engine.setbroker(bt_risk.RiskBroker(engine.broker, guards=[CooldownGuard(3)]))
    plan = [(5, "buy", {"size": 1}), (8, "close", {})]
    plan += [(bar, "buy", {"size": 1}) for bar in (9, 10, 11, 12)]
    tape = tape_of(taped(engine, plan, strategy=AtOpen))
    # The strategy's own count is one behind there: it leaves on bar 9, and 10, 11, 12 are empty.
    assert [bar for bar, *_ in tape["fills"]] == [6, 9, 13]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["Rejected", "Rejected", "Completed"]),
        ({"scope": "all"}, ["Rejected", "Rejected", "Rejected"]),
        ({"side_aware": True}, ["Rejected", "Completed", "Completed"]),
        ({"scope": "all", "side_aware": True}, ["Rejected", "Completed", "Rejected"]),
    ],
)
def test_a_cool_down_is_of_the_data_or_of_all_and_of_the_side_or_of_both(options, expected):
    """A long in D0 was left: then buy D0, sell D0, buy D1 (of the two in D0 only one is open)."""
    tries = {
        8: lambda s: (s.buy(size=1), s.sell(size=1), s.buy(data=s.data1, size=1)),
    }
    engine = guarded(CooldownGuard(3, **options), frames=(CALM, CALM))
    assert statuses(play(engine, LEFT_ON_8 | tries))[2:] == expected


def test_an_entry_that_rests_is_cancelled_when_the_cool_down_begins():
    rows = [*flat(8), (100, 101, 94, 95), *flat(8, price=95.0)]
    resting = {6: lambda s: s.buy(size=1, exectype=bt.Order.Limit, price=96.0)}
    strategy = play(guarded(CooldownGuard(3), frames=(bars(*rows),)), LEFT_ON_8 | resting)
    assert statuses(strategy) == ["Completed", "Canceled", "Completed"]
    (line,) = lines(strategy, "trim")
    assert line["reason"].startswith("CooldownGuard: ")
    assert strategy.held[-1] == (0,)


def test_a_reversal_is_one_decision_and_passes():
    strategy = play(guarded(CooldownGuard(3)), {5: buy(), 7: lambda s: s.sell(size=3)})
    assert strategy.held[-1] == (-2,)


def test_a_resampled_copy_is_the_same_instrument():
    engine = guarded(CooldownGuard(3), frames=(bars(*flat(40), freq="h"),))
    engine.resampledata(engine.datas[0], timeframe=bt.TimeFrame.Minutes, compression=120, name="2h")
    tries = {8: lambda s: s.buy(data=s.data1, size=1), 12: lambda s: s.buy(data=s.data1, size=1)}
    strategy = play(engine, LEFT_ON_8 | tries)
    assert statuses(strategy)[2:] == ["Rejected", "Completed"]


# -- StopoutGuard ---------------------------------------------------------------------------------

DIP = (100, 101, 96, 100)


def stopped_at(*dips, last=30, stop=97.0):
    """Return rows that dip on these bars, and actions that are long, with a stop, in each."""
    rows = [DIP if bar in dips else flat(1)[0] for bar in range(1, last + 1)]
    actions = {}
    for bar in dips:
        actions[bar - 2] = buy()
        actions[bar - 1] = lambda s: s.sell(size=1, exectype=bt.Order.Stop, price=stop)
    return bars(*rows), actions


def test_entries_are_refused_after_so_many_stop_outs():
    """Stopped on bars 5, 9 and 13: refused on 13 to 16, four bars; 17 passes."""
    frame, actions = stopped_at(5, 9, 13)
    guard = StopoutGuard(3, lookback=9, cooldown_bars=4)
    tries = {bar: buy() for bar in (13, 16, 17)}
    strategy = play(guarded(guard, frames=(frame,)), actions | tries)
    assert statuses(strategy)[-3:] == ["Rejected", "Rejected", "Completed"]
    (line, _) = lines(strategy, "reject")
    assert (line["rule"], line["measured"], line["limit"]) == ("StopoutGuard", 3, 3)
    assert line["reason"] == (
        "StopoutGuard: 3 trades of any data feed stopped out within 9 bars >= stopout_limit 3"
        "; at most 0 would pass"
    )


def test_stop_outs_further_apart_than_the_lookback_are_not_together():
    """From bar 5 to bar 13 are nine bars, both ends counted: eight are too few."""
    frame, actions = stopped_at(5, 9, 13)
    guard = StopoutGuard(3, lookback=8, cooldown_bars=4)
    strategy = play(guarded(guard, frames=(frame,)), actions | {13: buy()})
    assert statuses(strategy)[-1] == "Completed"


def test_a_stop_that_takes_a_profit_and_a_loss_without_a_stop_are_no_stop_outs():
    rows = [*flat(5), *flat(3, price=110.0), (110, 111, 104, 105), *flat(10, price=100.0)]
    actions = {
        4: buy(),
        7: lambda s: s.sell(size=1, exectype=bt.Order.Stop, price=105.0),  # +5
        9: buy(),
        10: lambda s: s.close(),  # at a loss
        12: buy(),
    }
    guard = StopoutGuard(1, cooldown_bars=10)
    strategy = play(guarded(guard, frames=(bars(*rows),)), actions)
    assert statuses(strategy) == ["Completed"] * 5


@pytest.mark.parametrize("trigger", ["intrabar", "close"])
def test_the_stop_of_bt_risk_counts_however_it_is_triggered(trigger):
    """The first stop is 96 below 100: bar 22 goes through it, and closes beyond it."""
    rows = [*flat(21), (97, 97, 90, 91), *flat(8, price=91.0)]
    engine = guarded(StopoutGuard(1, cooldown_bars=10), frames=(bars(*rows),))
    engine.addobserver(bt_risk.ATRTrailingStop, trigger=trigger)
    strategy = play(engine, {20: buy(), 24: buy()})
    assert statuses(strategy)[-1] == "Rejected"
    assert "StopoutGuard" in ends(strategy)[-1][-1]


def test_longs_that_were_stopped_out_do_not_refuse_a_short_that_knows_sides():
    frame, actions = stopped_at(5, 9)
    guard = StopoutGuard(2, cooldown_bars=10, side_aware=True)
    tries = {10: lambda s: (s.buy(size=1), s.sell(size=1))}
    strategy = play(guarded(guard, frames=(frame,)), actions | tries)
    assert statuses(strategy)[-2:] == ["Rejected", "Completed"]


# -- LosingStreakGuard ----------------------------------------------------------------------------


def traded(*results, price=100.0):
    """Return rows and actions of one trade of five bars for each result, and the bar after them."""
    rows, actions, bar = flat(2), {}, 2
    for result in results:
        actions[bar], actions[bar + 3] = buy(10), lambda s: s.close()
        rows += [*flat(2, price=price), *flat(3, price=price + result)]
        bar += 5
    return rows, actions, bar


def test_a_streak_of_losses_refuses_and_goes_on_after_the_cool_down():
    rows, actions, bar = traded(2, -1, -1, -1)
    guard = LosingStreakGuard(3, cooldown_bars=4)
    # The last trade ends on bar 21; after the cool-down one more loss trips it again.
    later = {bar - 1: buy(), 25: buy(10), 27: lambda s: s.close(), 28: buy()}
    rows += [*flat(5), *flat(8, price=99.0)]
    strategy = play(guarded(guard, frames=(bars(*rows),)), actions | later)
    assert statuses(strategy)[8:] == ["Rejected", "Completed", "Completed", "Rejected"]
    first, second = lines(strategy, "reject")
    assert (first["measured"], second["measured"]) == (3, 4)
    assert "4 trades of any data feed lost in a row >= streak_limit 3" in second["reason"]


def test_a_win_ends_a_streak():
    rows, actions, bar = traded(-1, -1, 1, -1, -1)
    guard = LosingStreakGuard(3, cooldown_bars=10)
    strategy = play(guarded(guard, frames=(bars(*rows, *flat(5)),)), actions | {bar + 1: buy()})
    assert statuses(strategy)[-1] == "Completed"


# -- MinimumEdgeGuard -----------------------------------------------------------------------------


def test_what_does_not_pay_for_its_risk_is_left_alone():
    """10 units, the stop 4 away by ATR(3): +2 is half an R, -3 three quarters."""
    rows = flat(5) + [*flat(2), *flat(3, price=102.0), *flat(2), *flat(8, price=97.0)]
    actions = {5: buy(10), 8: lambda s: s.close(), 11: buy(10), 13: lambda s: s.close()}
    guards = [MinimumEdgeGuard(floor, lookback=2, cooldown_bars=5) for floor in (-2.0, 9.0)]
    results = []
    for guard in guards:
        engine = guarded(guard, frames=(bars(*rows),), atr_period=3)
        results.append(play(engine, actions | {15: buy()}))
    assert [statuses(s)[-1] for s in results] == ["Completed", "Rejected"]
    trades = results[1].broker.book.trades
    edge = sum(trade.r_multiple for trade in trades)
    (line,) = lines(results[1], "reject")
    assert line["measured"] == pytest.approx(edge)
    assert line["reason"] == (
        f"MinimumEdgeGuard: {edge:.2f} R from the last 2 trades of D0 < edge_floor 9.00"
        "; at most 0 would pass"
    )


def test_too_few_trades_say_nothing_of_the_edge():
    rows, actions, bar = traded(-1, -1)
    guard = MinimumEdgeGuard(5.0, lookback=3, cooldown_bars=10)
    strategy = play(guarded(guard, frames=(bars(*rows, *flat(5)),)), actions | {bar: buy()})
    assert statuses(strategy)[-1] == "Completed"


# -- DailyLossLimit -------------------------------------------------------------------------------

# Hours: 24 bars a day. 300 units bought at 100 lose 3 % of 100,000 ten points lower.
DAY = [*flat(6), (100, 100, 89, 90), *flat(17, price=99.0), *flat(24, price=99.0)]


def hours(rows, start="2020-01-01", tz=None):
    frame = bars(*rows, start=start, freq="h")
    return frame if tz is None else frame.tz_localize(tz)


@pytest.mark.parametrize("mode", MODES)
def test_an_open_loss_ends_the_day_for_entries_also_when_it_comes_back(mode):
    """Down 3 % at the close of bar 7, 0.3 % after that: bar 7 and 23 refuse, the next day passes.

    The order of bar 24, the last of the day, would fill on the next one: it is refused too.
    """
    plan = [(4, "buy", {"size": 300})]
    plan += [(bar, "buy", {"size": 1}) for bar in (6, 7, 8, 23, 24, 25)]
    engine = guarded(DailyLossLimit(0.03), frames=(hours(DAY),))
    tape = tape_of(taped(engine, plan, mode))
    assert [bar for bar, *_ in tape["fills"]] == [5, 7, 26]
    assert [bar for bar, _ in tape["reasons"]] == told(7, 8, 23, 24)
    loss = (301 * 10) / 100_000
    assert tape["reasons"][0][1] == (
        f"DailyLossLimit: {loss:.4f} of equity lost in a day >= daily_loss_limit 0.0300"
        "; at most 0 would pass"
    )


def test_a_loss_just_below_the_limit_is_none_and_the_limit_itself_is():
    for limit, status in ((0.0301, "Completed"), (0.03, "Rejected")):
        engine = guarded(DailyLossLimit(limit), frames=(hours(DAY),))
        strategy = play(engine, {4: buy(300), 8: buy()})
        assert statuses(strategy)[-1] == status


def test_the_loss_of_a_day_is_measured_from_the_last_close_of_the_day_before():
    """The gap over night is a loss of the new day: 100 at the close, 90 at the next one."""
    rows = [*flat(24), *flat(24, price=90.0)]
    engine = guarded(DailyLossLimit(0.03), frames=(hours(rows),))
    strategy = play(engine, {20: buy(300), 25: buy(), 40: buy()})
    assert statuses(strategy) == ["Completed", "Rejected", "Rejected"]


def test_a_gain_of_the_morning_may_be_lost_again():
    """From 100 up to 110 and down to 98: the day has lost 2 points, not 12."""
    rows = [*flat(6), *flat(3, price=110.0), *flat(15, price=98.0)]
    engine = guarded(DailyLossLimit(0.03), frames=(hours(rows),))
    assert statuses(play(engine, {4: buy(300), 12: buy()}))[-1] == "Completed"


def test_the_day_is_that_of_the_data_s_time_zone():
    """In Tokyo the day ends at 15:00 UTC: bar 15 is its last, bar 16 the first of the next."""
    frame = hours(DAY, tz="UTC")
    engine = bt.Cerebro(stdstats=False)
    engine.adddata(PandasData(dataname=frame, tz="Asia/Tokyo"), name="D0")
    engine.broker.setcash(100_000.0)
    engine.setbroker(bt_risk.RiskBroker(engine.broker, guards=[DailyLossLimit(0.03)]))
    strategy = play(engine, {4: buy(300), 8: buy(), 15: buy(), 16: buy()})
    assert statuses(strategy) == ["Completed", "Rejected", "Rejected", "Completed"]


def test_a_cool_down_goes_on_into_the_next_day():
    """The breach is on bar 7 (and 8, 9, ... are none): 20 bars are over with bar 26."""
    engine = guarded(DailyLossLimit(0.03, cooldown_bars=20), frames=(hours(DAY),))
    strategy = play(engine, {4: buy(300), 26: buy(), 27: buy()})
    assert statuses(strategy) == ["Completed", "Rejected", "Completed"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"scope": "all"}, ["Rejected", "Rejected", "Rejected"]),
        ({"scope": "data"}, ["Rejected", "Rejected", "Completed"]),
        ({"scope": "data", "side_aware": True}, ["Rejected", "Completed", "Completed"]),
        ({"scope": "all", "side_aware": True}, ["Rejected", "Completed", "Rejected"]),
    ],
)
def test_the_loss_is_of_the_account_or_of_a_data_and_of_one_side_or_of_both(options, expected):
    """A long in D0 loses 3 % and is closed on bar 8: then buy D0, sell D0, buy D1."""
    actions = {
        4: buy(300),
        7: lambda s: s.close(),
        9: lambda s: (s.buy(size=1), s.sell(size=1), s.buy(data=s.data1, size=1)),
    }
    calm = hours(flat(48))
    engine = guarded(DailyLossLimit(0.03, **options), frames=(hours(DAY), calm))
    assert statuses(play(engine, actions))[2:] == expected


def test_a_deposit_is_no_gain_and_a_withdrawal_no_loss():
    engine = guarded(DailyLossLimit(0.03), frames=(hours(flat(24)),))
    actions = {4: buy(300), 6: lambda s: s.broker.add_cash(-50_000.0), 9: buy()}
    assert statuses(play(engine, actions))[-1] == "Completed"


def test_a_resting_entry_does_not_fill_on_a_lost_day():
    rows = [*flat(6), (100, 100, 89, 90), (90, 91, 84, 90), *flat(16, price=90.0)]
    actions = {4: buy(300), 5: lambda s: s.buy(size=9, exectype=bt.Order.Limit, price=85.0)}
    strategy = play(guarded(DailyLossLimit(0.03), frames=(hours(rows),)), actions)
    assert statuses(strategy) == ["Completed", "Canceled"]


def test_a_nan_close_neither_trips_nor_hides_a_loss():
    rows = [*flat(6), (math.nan,) * 4, (90, 91, 89, 90), *flat(16, price=90.0)]
    strategy = play(
        guarded(DailyLossLimit(0.03), frames=(hours(rows),)),
        {4: buy(300), 8: buy(), 10: buy()},
    )
    assert statuses(strategy)[1:] == ["Rejected", "Rejected"]


# A session from 18:00 to 17:00 that begins on bar 19, and loses 3 % on bar 23, before midnight.
OVERNIGHT = [*flat(22), (100, 100, 89, 90), *flat(40, price=99.0)]
CME = dict(sessionstart=dt.time(18), sessionend=dt.time(17))


def on_session(guard, rows=OVERNIGHT, tz=None, **session):
    engine = bt.Cerebro(stdstats=False)
    frame = hours(rows, start="2020-01-06 00:00", tz=tz and "UTC")
    engine.adddata(PandasData(dataname=frame, tz=tz, **(session or CME)), name="D0")
    engine.broker.setcash(100_000.0)
    engine.setbroker(bt_risk.RiskBroker(engine.broker, guards=[guard]))
    return engine


@pytest.mark.parametrize("mode", MODES)
def test_a_session_that_runs_over_midnight_is_one_day(mode):
    """Lost at 22:00, bar 23: bar 25 is after midnight, bar 42 at 17:00 the last of the session."""
    plan = [(19, "buy", {"size": 300})]
    plan += [(bar, "buy", {"size": 1}) for bar in (22, 23, 25, 42, 43)]
    tape = tape_of(taped(on_session(DailyLossLimit(0.03)), plan, mode))
    assert [bar for bar, _ in tape["reasons"]] == told(23, 25, 42)


def test_the_times_of_a_session_are_in_the_zone_of_the_data():
    """17:00 in New York is 22:00 UTC: bar 23 is in the session that it ends, bar 24 is not."""
    tries = {bar: buy() for bar in (23, 24)}
    engine = on_session(DailyLossLimit(0.03), tz="America/New_York")
    strategy = play(engine, {19: buy(300)} | tries)
    assert statuses(strategy) == ["Completed", "Rejected", "Completed"]


def test_a_session_within_a_date_leaves_the_days_of_the_calendar():
    session = dict(sessionstart=dt.time(9), sessionend=dt.time(17))
    engine = on_session(DailyLossLimit(0.03), **session)
    strategy = play(engine, {19: buy(300), 24: buy(), 25: buy()})
    assert statuses(strategy) == ["Completed", "Rejected", "Completed"]


# -- OrderRateLimit -------------------------------------------------------------------------------


def test_the_orders_of_a_session_over_midnight_are_those_of_one_day():
    tries = {bar: buy() for bar in (18, 19, 26, 42, 43)}
    strategy = play(on_session(OrderRateLimit(day_limit=2)), tries)
    assert statuses(strategy) == ["Completed", "Completed", "Completed", "Rejected", "Completed"]


def repeat(count, **kwargs):
    return lambda s: [s.buy(size=1, **kwargs) for _ in range(count)]


def test_a_strategy_that_runs_wild_is_held_back_in_every_bar():
    strategy = play(guarded(OrderRateLimit(bar_limit=3)), {5: repeat(5), 6: repeat(2)})
    assert statuses(strategy) == ["Completed"] * 3 + ["Rejected"] * 2 + ["Completed"] * 2
    reason = "OrderRateLimit: 3 orders in one bar >= bar_limit 3; at most 0 would pass"
    assert ends(strategy)[3][-1] == reason


def test_orders_of_a_day_and_of_a_minute():
    frame = bars(*flat(60), freq="20s", start="2020-01-01 23:50")
    guard = OrderRateLimit(minute_limit=2)
    strategy = play(guarded(guard, frames=(frame,)), {bar: buy() for bar in (5, 6, 7, 8, 9)})
    # The third within 60 seconds is refused; a minute after the first there is room again.
    expected = ["Completed", "Completed", "Rejected", "Completed", "Completed"]
    assert statuses(strategy) == expected
    guard = OrderRateLimit(day_limit=2)
    # Bar 31 is the first of the next day.
    strategy = play(guarded(guard, frames=(frame,)), {bar: buy() for bar in (5, 15, 30, 31, 32)})
    assert statuses(strategy) == expected


def test_exits_pass_and_count_and_a_bracket_is_one():
    actions = {
        5: lambda s: s.buy_bracket(size=1, exectype=None, stopprice=90.0, limitprice=120.0)[0],
        6: lambda s: (s.buy(size=2), s.close(size=1), s.close(size=1), s.close(size=1)),
    }
    strategy = play(guarded(OrderRateLimit(bar_limit=1)), actions)
    sent = [row for row in ends(strategy) if row[0] == "Completed"]
    assert [row[1] for row in sent] == [1, 2, -1, -1, -1]


def test_the_rate_of_one_data_or_side_is_its_own():
    for options, expected in (
        ({}, ["Completed", "Rejected", "Rejected"]),
        ({"scope": "data"}, ["Completed", "Rejected", "Completed"]),
        ({"side_aware": True}, ["Completed", "Completed", "Rejected"]),
    ):
        engine = guarded(OrderRateLimit(bar_limit=1, **options), frames=(CALM, CALM))
        action = lambda s: (  # noqa: E731
            s.buy(size=1, exectype=bt.Order.Limit, price=100.0),
            s.sell(size=5),
            s.buy(data=s.data1, size=1),
        )
        assert statuses(play(engine, {5: action})) == expected


def test_a_cool_down_after_a_burst():
    guard = OrderRateLimit(bar_limit=2, cooldown_bars=3)
    strategy = play(guarded(guard), {5: repeat(2), 6: buy(), 7: buy(), 8: buy()})
    assert statuses(strategy)[2:] == ["Rejected", "Rejected", "Completed"]


def test_an_order_that_rests_is_not_cancelled_by_its_own_count():
    actions = {5: buy(exectype=bt.Order.Limit, price=99.5), 6: buy()}
    strategy = play(guarded(OrderRateLimit(day_limit=1), frames=(hours(flat(24)),)), actions)
    assert statuses(strategy) == ["Completed", "Rejected"]


# -- exits, state, policy -------------------------------------------------------------------------

ALWAYS = [
    CooldownGuard(99, scope="all"),
    StopoutGuard(1, lookback=99, cooldown_bars=99),
    LosingStreakGuard(1, cooldown_bars=99),
    DailyLossLimit(1e-9, cooldown_bars=99),
    DailyLossLimit(140, 99, unit="currency", reset="00:00 UTC", base="higher", trigger="intrabar"),
    OrderRateLimit(bar_limit=1, cooldown_bars=99),
    MinimumEdgeGuard(99.0, lookback=1, cooldown_bars=99, scope="all"),
]


@pytest.mark.parametrize("guard", ALWAYS, ids=lambda g: g.name)
def test_exits_of_every_kind_pass_under_a_guard_that_refuses_every_entry(guard):
    """D1 is stopped out at a loss first; then nothing opens in D0, and what is held leaves."""
    dip = bars(*flat(21), (100, 101, 80, 80), *flat(28, price=80.0))
    engine = guarded(guard, frames=(bars(*flat(50)), dip))
    actions = {
        19: lambda s: s.buy(size=100),
        20: lambda s: s.buy(data=s.data1, size=10),
        21: lambda s: s.sell(data=s.data1, size=10, exectype=bt.Order.Stop, price=95.0),
        25: buy(),
        26: lambda s: s.sell(size=20),
        27: lambda s: s.order_target_size(target=60),
        28: lambda s: s.sell(size=20, exectype=bt.Order.Limit, price=100.5),
        29: lambda s: s.sell(size=10, exectype=bt.Order.Stop, price=99.5),
        32: lambda s: s.close(),
    }
    if guard.name == "OrderRateLimit":  # it refuses the second entry already
        actions = {20: lambda s: s.buy(size=100)} | {k: v for k, v in actions.items() if k > 22}
    strategy = play(engine, actions)
    assert [row[0] for row in ends(strategy) if row[0] == "Rejected"] == ["Rejected"]
    assert guard.name in next(row for row in ends(strategy) if row[0] == "Rejected")[-1]
    assert strategy.held[-1] == (0, 0)


def test_a_second_run_begins_clean():
    engine = guarded(CooldownGuard(40))
    plan = [(5, "buy", {"size": 1}), (7, "close", {}), (9, "buy", {"size": 1})]
    first = tape_of(taped(engine, plan))
    second = tape_of(engine.run()[0])
    assert first["fills"] == second["fills"]
    assert len(first["fills"]) == 2


@pytest.mark.parametrize("maxcpus", [1, 2])
def test_every_point_of_an_optimisation_begins_clean(maxcpus):
    plan = [(5, "buy", {"size": 1}), (7, "close", {}), (9, "buy", {"size": 1})]
    frames = (hours(DAY),)
    guards = CooldownGuard(40), DailyLossLimit(0.03), OrderRateLimit(day_limit=9)
    engine = guarded(*guards, frames=frames)
    points = optimised(engine, [plan, plan[:2], plan], maxcpus)
    assert [len(tape_of(p)["fills"]) for p in points] == [2, 2, 2]
    assert [len(tape_of(p)["reasons"]) for p in points] == [1, 0, 1]


@pytest.mark.parametrize("guard", ALWAYS, ids=lambda g: g.name)
def test_a_guard_survives_pickling_and_the_file_of_a_policy(guard, tmp_path):
    assert pickle.loads(pickle.dumps(guard)) == guard
    path = tmp_path / "risk.toml"
    policy = Policy(guards=[guard, guard])
    policy.to_toml(path)
    assert Policy.from_toml(path) == policy


@pytest.mark.parametrize("guard", ALWAYS, ids=lambda g: g.name)
def test_a_policy_describes_its_guards_and_protect_installs_them(guard):
    policy = Policy(guards=[guard])
    assert policy.describe().splitlines()[-1] == guard.describe()
    engine = cerebro(CALM)
    bt_risk.protect(engine, policy)
    assert guard in play(engine, {}).broker.limits


def test_a_guard_can_be_added_by_a_strategy():
    class Careful(Script):
        def __init__(self):
            super().__init__()
            bt_risk.RiskBroker.of(self).add_limit(CooldownGuard(3))

    engine = cerebro(CALM)
    engine.addstrategy(Careful, actions=LEFT_ON_8 | {8: buy(), 11: buy()})
    assert statuses(engine.run()[0])[2:] == ["Rejected", "Completed"]


OFF = [
    CooldownGuard(0),
    CooldownGuard(None),
    StopoutGuard(None),
    LosingStreakGuard(math.inf),
    DailyLossLimit(None),
    DailyProfitTarget(None),
    ProfitLock(None),
    OrderRateLimit(),
    MinimumEdgeGuard(None),
    MinimumEdgeGuard(-math.inf),
]


def test_a_guard_that_is_off_is_not_there():
    engine = guarded(*OFF)
    strategy = play(engine, {})
    assert strategy.broker.limits == []
    assert strategy.broker.registry.monitors == []
    assert Policy(guards=OFF).describe() == Policy().describe()


def test_guards_of_a_policy_are_judged_and_not_enforced_in_observe_mode():
    def run(observe):
        engine = cerebro(random_walk(3, bars=120, freq="h"))
        if observe:
            nothing = dict.fromkeys(
                ("risk_limit", "notional_limit", "exposure_limit", "correlation_limit")
            )
            policy = Policy(**nothing, drawdown_limit=None, guards=ALWAYS)
            bt_risk.protect(engine, policy, mode="observe")
        plan = [(bar, "buy" if bar % 7 else "close", {"size": 3}) for bar in range(20, 110, 3)]
        plan += [(22, "buy", {"size": 1, "exectype": bt.Order.Limit, "price": 1.0})]
        return taped(engine, plan)

    free, watched = run(False), run(True)
    assert tape_of(free) == tape_of(watched)
    rules = {d["rule"] for d in lines(watched, "reject")}
    assert {"CooldownGuard", "OrderRateLimit", "DailyLossLimit"} & rules


# -- parameters -----------------------------------------------------------------------------------

WHOLE = "a whole number of at least"
BAD = [
    (CooldownGuard, "cooldown_bars", -1, WHOLE),
    (CooldownGuard, "cooldown_bars", 2.5, WHOLE),
    (CooldownGuard, "cooldown_bars", math.inf, WHOLE),
    (StopoutGuard, "stopout_limit", 0, WHOLE),
    (StopoutGuard, "stopout_limit", "3", WHOLE),
    (StopoutGuard, "lookback", 0, WHOLE),
    (StopoutGuard, "cooldown_bars", 0, WHOLE),
    (LosingStreakGuard, "streak_limit", 1.5, WHOLE),
    (LosingStreakGuard, "cooldown_bars", None, WHOLE),
    (DailyLossLimit, "daily_loss_limit", 3, "in (0, 1]"),
    (DailyLossLimit, "daily_loss_limit", -0.03, "positive"),
    (DailyLossLimit, "daily_loss_limit", math.nan, "positive"),
    (DailyLossLimit, "cooldown_bars", -1, WHOLE),
    (DailyLossLimit, "daily_loss_limit", 1, "below 0.5, which is 50 %"),
    (DailyLossLimit, "allow_extreme", 1, "True or False"),
    (OrderRateLimit, "bar_limit", 0, WHOLE),
    (OrderRateLimit, "minute_limit", True, WHOLE),
    (OrderRateLimit, "day_limit", -5, WHOLE),
    (OrderRateLimit, "cooldown_bars", 1.5, WHOLE),
    (MinimumEdgeGuard, "edge_floor", math.nan, "a number of R"),
    (MinimumEdgeGuard, "edge_floor", math.inf, "a number of R"),
    (MinimumEdgeGuard, "edge_floor", "0", "a number of R"),
    (MinimumEdgeGuard, "lookback", 0, WHOLE),
    (MinimumEdgeGuard, "cooldown_bars", 0, WHOLE),
    *[
        (kind, name, value, constraint)
        for kind in (DailyLossLimit, DailyProfitTarget, ProfitLock)
        for name, value, constraint in (
            ("flatten", 1, "True or False"),
            ("base", "cash", "one of 'equity', 'balance', 'higher'"),
            ("unit", "usd", "one of 'fraction', 'currency'"),
            ("reset", "midnight", "'session', or a time and a zone"),
            ("trigger", "low", "one of 'close', 'intrabar'"),
        )
        if kind is not DailyProfitTarget or name != "trigger"
    ],
    (DailyProfitTarget, "profit_target", 0, "positive"),
    (DailyProfitTarget, "allow_extreme", 1, "True or False"),
    (ProfitLock, "allow_extreme", 1, "True or False"),
    (ProfitLock, "give_back", 1.5, "in (0, 1]"),
    (ProfitLock, "give_back", 0, "in (0, 1]"),
    (ProfitLock, "profit_from", -1, "positive"),
    (PriceCollar, "atr", 0, "positive"),
    (PriceCollar, "fraction", -0.1, "positive"),
    (PriceCollar, "lookback", 0, WHOLE),
    (OrderSize, "units", 0, "positive"),
    (OrderSize, "currency", "all", "positive"),
    (OrderSize, "volume_share", -1, "positive"),
    (OrderSize, "on_size", "cut", "one of 'reject', 'trim'"),
    (DuplicateOrder, "within", -1, WHOLE),
    (RepeatedOrders, "n", 0, WHOLE),
    (RepeatedOrders, "until", "noon", "one of 'rearm'"),
    *[(kind, "names", "SPY", "a list of names of data feeds") for kind in (Allow, Deny)],
    *[(kind, "side", 2, "one of 1, -1, None") for kind in (Allow, Deny)],
    (MaxPositions, "n", 1.5, WHOLE),
    *[(kind, "scope", "pair", "one of 'data', 'all'") for kind in SCOPED],
    *[(kind, "side_aware", 1, "True or False") for kind in SCOPED],
]


@pytest.mark.parametrize(
    ("kind", "name", "value", "constraint"),
    BAD,
    ids=[f"{kind.__name__}-{name}-{value}" for kind, name, value, _ in BAD],
)
def test_a_bad_parameter_is_refused_when_the_guard_is_built(kind, name, value, constraint):
    with pytest.raises(ParameterError) as caught:
        kind(**{name: value})
    assert str(caught.value).startswith(f"{kind.__name__}: {name} must be {constraint}")
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_is_in_the_table_and_in_the_docstring(kind):
    tested = {name for tested_kind, name, *_ in BAD if tested_kind is kind}
    names = {field.name for field in fields(kind)}
    assert names == tested
    assert all(name in inspect.getdoc(kind) for name in names)


WRONG = {
    '[[guards]]\nguard = "Cooldown"': "guards must be tables with guard = one of CooldownGuard",
    "[[guards]]\ncooldown_bars = 5": "guards must be tables with guard = one of CooldownGuard",
    'guards = "CooldownGuard"': "guards must be a list of tables, [[guards]]; got 'CooldownGuard'.",
    '[[guards]]\nguard = "CooldownGuard"\nbars = 5': "guards: CooldownGuard must be one of scope",
    '[[guards]]\nguard = "DailyLossLimit"\ndaily_loss_limit = 3': "daily_loss_limit must be in (0",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_in_the_table_of_a_guard_is_named(tmp_path, text):
    path = tmp_path / "risk.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ParameterError) as caught:
        Policy.from_toml(path)
    assert str(caught.value).startswith(str(path))
    assert WRONG[text] in str(caught.value)


def test_a_policy_takes_nothing_else_for_a_guard():
    with pytest.raises(ParameterError, match="Policy: guards must be a list of guards"):
        Policy(guards=[0.03])


def test_frames_have_the_days_that_the_tests_say():
    assert len(hours(DAY)) == 48
    assert hours(DAY).index[24] == pd.Timestamp("2020-01-02")
