"""Each trap of Backtrader: the bare engine falls into it, the component does not.

The first half of every test is the trap itself, asserted, so that it documents what Backtrader
does; the second half is the same run with the component.

Traps of feeds and of Backtrader's own analyzers are in test_traps_of_data.py. Some are tested with
what they are a part of:

- at the open the close of the bar is readable, and is the future; the first bar that a stop is
  active on under either cheat; an order at a close that is NaN: test_modes.py;
- a venue notifies only when a bar comes, and may return no order: test_live.py, test_broker.py;
- a sizer that the strategy sets in ``__init__`` or in ``start``: test_policy.py;
- what is unknown to a broker is not passed on to it (``stop_price``): test_broker.py;
- a hook, an observer or an analyzer costs calls on every bar: test_overhead.py.

These need no test, because nothing here touches what they are about:

- ``ind.OLS_Slope_InterceptN`` imports statsmodels, which is not installed with Backtrader: bt_risk
  uses no indicator at all, and correlates with numpy;
- ``datetime.utcnow`` in Cerebro's loop warns from Python 3.12 on: bt_risk asks no clock, every time
  is a bar's;
- ``runstop`` from ``notify_order`` lets ``next`` run once more, and from ``start`` leaves no bar:
  the breaker calls it from an analyzer after the bar, or between live bars;
- an observer hears nothing of orders, and an order without an owner is booked to nobody: the gate
  hears the broker itself, and its own orders carry the owner of the position;
- ``submit`` overridden on a wrapper is never called, and a wrapper is no BackBroker to isinstance:
  the gate takes ``buy`` and ``sell``, and asks the broker inside what it is;
- a live bar that comes late with a resampled copy fails in Cerebro itself, before any broker;
- what single stores do (IB's clones of positions and keywords, Oanda's children): there is none
  here; tests/venue.py behaves like the strictest of them;
- the figures of speed: they are measurements, not faults.
"""

import math
import pickle
import subprocess
import sys

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from helpers import scenarios as feeds
from helpers.fake_broker import FakeBroker
from helpers.recording import RandomTrader, breaker_out_of_reach, ends, fills, limit_orders, play
from helpers.scenarios import bars, cerebro, flat

import bt_risk
from bt_risk.limits.base import NotionalLimit, RiskPerTrade

QUIET = flat(15)  # ATR(14) is 2 and known from bar 15 on


def stop_behind(engine, atr_multiple=2.5, **params):
    engine.addobserver(bt_risk.ATRTrailingStop, atr_multiple=atr_multiple, **params)


class Careful(feeds.Script):
    """Does not ask for any position by itself."""

    def next(self):
        action = (self.p.actions or {}).get(len(self))
        if action is not None:
            action(self)


def position_at_the_end(strategy):
    return strategy.held[-1][0]


# -- exits that BackBroker loses ------------------------------------------------------------------


def too_much_then(*exits):
    def actions(strategy):
        strategy.buy(size=1_000_000)
        for leave in exits:
            leave(strategy)

    return {1: lambda s: s.buy(size=10), 5: actions}


@pytest.mark.parametrize(
    "leave",
    [
        lambda s: s.close(),
        lambda s: s.sell(size=10, exectype=bt.Order.Stop, price=95.0),
        lambda s: s.sell(size=10, exectype=bt.Order.Limit, price=101.0),
        lambda s: s.order_target_percent(target=0.0),
    ],
    ids=["close", "stop", "take-profit", "order_target_percent"],
)
def test_one_unaffordable_order_does_not_take_the_exits_of_its_bar_with_it(leave):
    bare = play(cerebro(bars(*flat(10))), too_much_then(leave))
    assert [end[0] for end in ends(bare)] == ["Completed", "Margin", "Margin"]
    assert position_at_the_end(bare) == 10

    engine = cerebro(bars(*flat(10)))
    breaker_out_of_reach(engine)
    strategy = play(engine, too_much_then(leave))
    entry, unaffordable, exit_ = ends(strategy)
    assert unaffordable[:2] == ("Margin", 0)
    assert exit_[0] in ("Completed", "Accepted")


def test_a_close_is_not_lost_when_a_short_has_doubled():
    rows = [*flat(3), (100, 221, 99, 220), *flat(3, price=220.0)]
    actions = {1: lambda s: s.sell(size=90), 5: lambda s: s.close()}
    bare = play(cerebro(bars(*rows), cash=10_000.0), actions)
    assert ends(bare)[1][0] == "Margin"
    assert position_at_the_end(bare) == -90

    engine = cerebro(bars(*rows), cash=10_000.0)
    breaker_out_of_reach(engine)
    strategy = play(engine, actions)
    assert ends(strategy)[1][:3] == ("Completed", 90, 220.0)
    assert position_at_the_end(strategy) == 0


def test_a_close_is_not_lost_after_a_futures_crash():
    rows = [*flat(3), (100, 101, 29, 30), *flat(3, price=30.0)]
    actions = {1: lambda s: s.buy(size=5), 5: lambda s: s.close()}

    def futures():
        engine = cerebro(bars(*rows), cash=10_000.0)
        engine.broker.setcommission(margin=1000.0, mult=50.0)
        return engine

    bare = play(futures(), actions)
    assert bare.broker.getcash() < 0
    assert ends(bare)[1][0] == "Margin"
    assert position_at_the_end(bare) == 5

    engine = futures()
    breaker_out_of_reach(engine)
    strategy = play(engine, actions)
    assert ends(strategy)[1][0] == "Completed"
    assert position_at_the_end(strategy) == 0


def test_a_protective_stop_is_not_lost_to_an_unaffordable_order_of_its_bar():
    rows = [*QUIET, *flat(3), (97, 98, 90, 92), (92, 93, 91, 92)]
    actions = {16: lambda s: s.buy(size=10), 17: lambda s: s.buy(size=10**6)}
    by_hand = actions | {
        17: lambda s: (s.buy(size=10**6), s.sell(size=10, exectype=bt.Order.Stop, price=95.0))
    }
    assert position_at_the_end(play(cerebro(bars(*rows)), by_hand)) == 10

    engine = cerebro(bars(*rows))
    stop_behind(engine)
    strategy = play(engine, actions)
    assert fills(strategy)[1] == (19, -10, 95.0)
    assert position_at_the_end(strategy) == 0


# -- exits that Backtrader does twice -------------------------------------------------------------

GAP = [*flat(18), (97, 98, 90, 92), (92, 93, 91, 92)]


@pytest.mark.parametrize("mode", feeds.MODES)
def test_a_stop_and_a_close_of_one_bar_leave_the_account_flat(mode):
    options = feeds.MODES[mode]
    by_hand = {
        16: lambda s: s.buy(size=10),
        17: lambda s: s.sell(size=10, exectype=bt.Order.Stop, price=95.0),
        18: lambda s: s.close(),
    }
    bare = play(cerebro(bars(*GAP), **options), by_hand)
    assert position_at_the_end(bare) == -10

    engine = cerebro(bars(*GAP), **options)
    stop_behind(engine)
    strategy = play(engine, {16: lambda s: s.buy(size=10), 18: lambda s: s.close()})
    assert [fill[1:] for fill in fills(strategy)] == [(10, 100.0), (-10, 97.0)]
    assert position_at_the_end(strategy) == 0


def test_a_take_profit_and_a_stop_that_one_wide_bar_reaches_leave_the_account_flat():
    rows = [*flat(18), (100, 106, 90, 100), *flat(2)]
    profit = {"size": 10, "exectype": bt.Order.Limit, "price": 105.0}
    by_hand = {
        16: lambda s: s.buy(size=10),
        17: lambda s: (
            s.sell(**profit),
            s.sell(size=10, exectype=bt.Order.Stop, price=95.0),
        ),
    }
    assert position_at_the_end(play(cerebro(bars(*rows)), by_hand)) == -10

    engine = cerebro(bars(*rows))
    stop_behind(engine)
    strategy = play(engine, {16: lambda s: s.buy(size=10), 17: lambda s: s.sell(**profit)})
    assert position_at_the_end(strategy) == 0
    assert sum(fill[1] for fill in fills(strategy)) == 0


def test_two_strategies_do_not_get_two_stops_behind_one_position():
    class ByHand(feeds.Script):
        """The naive stop manager: it looks at the position of the broker."""

        def next(self):
            super().next()
            if len(self) == 17 and self.position:
                self.sell(size=self.position.size, exectype=bt.Order.Stop, price=95.0)

    bare = cerebro(bars(*GAP))
    bare.addstrategy(ByHand, actions={16: lambda s: s.buy(size=10)})
    bare.addstrategy(ByHand)
    assert position_at_the_end(bare.run()[0]) == -10

    engine = cerebro(bars(*GAP))
    stop_behind(engine)
    engine.addstrategy(feeds.Script, actions={16: lambda s: s.buy(size=10)})
    engine.addstrategy(feeds.Script)
    first, second = engine.run()
    assert position_at_the_end(first) == 0
    assert fills(first) == [(17, 10, 100.0), (19, -10, 95.0)]
    assert fills(second) == []


def test_two_strategies_on_one_data_have_each_their_own_stop():
    engine = cerebro(bars(*GAP))
    stop_behind(engine)
    engine.addstrategy(feeds.Script, actions={15: lambda s: s.buy(size=10)})
    engine.addstrategy(feeds.Script, actions={16: lambda s: s.buy(size=4)})
    first, second = engine.run()
    assert [fill[1] for fill in fills(first)] == [10, -10]
    assert [fill[1] for fill in fills(second)] == [4, -4]
    assert position_at_the_end(first) == 0
    assert len(first.trades) == len(second.trades) == 1


def test_a_stop_does_not_outlive_the_position_that_was_closed():
    """Peers' fact i: an orphan trailing stop turns a flat account short."""
    rows = [*flat(20), (100, 101, 90, 91), *flat(2, price=91.0)]
    trail = {"size": 10, "exectype": bt.Order.StopTrail, "trailamount": 5.0}
    by_hand = {16: lambda s: s.buy(size=10), 17: lambda s: s.sell(**trail), 18: lambda s: s.close()}
    assert position_at_the_end(play(cerebro(bars(*rows)), by_hand)) == -10

    engine = cerebro(bars(*rows))
    stop_behind(engine)
    strategy = play(engine, {16: lambda s: s.buy(size=10), 18: lambda s: s.close()})
    assert position_at_the_end(strategy) == 0
    assert strategy.broker.inner.get_orders_open() == []


def test_a_reversal_takes_the_old_stop_away_and_brings_a_new_one():
    rows = [*flat(20), (100, 108, 92, 100), *flat(2)]
    turn = {16: lambda s: s.buy(size=10), 17: lambda s: s.sell(size=20)}
    by_hand = {
        16: lambda s: s.buy(size=10),
        17: lambda s: (
            s.sell(size=20),
            s.sell(size=10, exectype=bt.Order.Stop, price=95.0),
        ),
    }
    assert position_at_the_end(play(cerebro(bars(*rows)), by_hand)) == -20

    engine = cerebro(bars(*rows))
    stop_behind(engine)
    strategy = play(engine, turn)
    assert fills(strategy) == [(17, 10, 100.0), (18, -20, 100.0), (21, 10, 105.0)]
    assert position_at_the_end(strategy) == 0


def test_a_short_entry_above_a_take_profit_is_not_taken_for_an_exit():
    """Long 10, take-profit 10 at 105, short entry 10 at 108: the strategy wants to end short."""
    rows = [*flat(18), (101, 109, 100.5, 108), *flat(2, price=108.0)]
    actions = {
        16: lambda s: s.buy(size=10),
        17: lambda s: (
            s.sell(size=10, exectype=bt.Order.Limit, price=105.0),
            s.sell(size=10, exectype=bt.Order.Limit, price=108.0),
        ),
    }
    assert position_at_the_end(play(cerebro(bars(*rows)), actions)) == -10

    engine = cerebro(bars(*rows))
    stop_behind(engine)
    assert position_at_the_end(play(engine, actions)) == -10


# -- partial fills --------------------------------------------------------------------------------


def in_threes(*rows):
    engine = cerebro(bars(*rows))
    engine.broker.set_filler(bt.fillers.FixedSize(size=3))
    return engine


def test_a_stop_covers_a_position_that_is_filled_in_parts():
    """A stop placed at the first partial fill covers 3 of 10 for ever."""

    class ByHand(feeds.Script):
        guard = None

        def notify_order(self, order):
            super().notify_order(order)
            if order.isbuy() and order.executed.size and self.guard is None:
                size = self.position.size
                self.guard = self.sell(size=size, exectype=bt.Order.Stop, price=95.0)

    rows = [*flat(22), *[(97, 98, 90, 92)] * 5]
    actions = {16: lambda s: s.buy(size=10)}
    assert position_at_the_end(play(in_threes(*rows), actions, ByHand)) == 7

    engine = in_threes(*rows)
    stop_behind(engine)
    strategy = play(engine, actions)
    assert [held[0] for held in strategy.held[15:22]] == [0, 3, 6, 9, 10, 10, 10]
    assert [held[0] for held in strategy.held[22:]] == [7, 4, 1, 0, 0]


def test_an_oco_sibling_does_not_leave_the_rest_of_a_partial_fill_unprotected():
    rows = [*flat(21), (100, 106, 99, 104), (100, 101, 90, 92), *flat(5, price=92.0)]
    profit = {"size": 10, "exectype": bt.Order.Limit, "price": 105.0}

    def with_oco(strategy):
        first = strategy.sell(**profit)
        strategy.sell(size=10, exectype=bt.Order.Stop, price=95.0, oco=first)

    by_hand = {16: lambda s: s.buy(size=10), 20: with_oco}
    assert position_at_the_end(play(in_threes(*rows), by_hand)) == 7

    engine = in_threes(*rows)
    stop_behind(engine)
    strategy = play(engine, {16: lambda s: s.buy(size=10), 20: lambda s: s.sell(**profit)})
    assert position_at_the_end(strategy) == 0


# -- what a stop manager gets wrong ---------------------------------------------------------------


def test_the_moves_of_the_stop_are_hidden_from_a_strategy_that_waits_for_its_order():
    """The usual ``self.order = None`` pattern orders again whenever a stop is replaced."""

    class Waiting(bt.Strategy):
        def __init__(self):
            self.order, self.guard, self.count = None, None, 0

        def notify_order(self, order):
            if not order.alive():
                self.order = None

        def next(self):
            self.replace_stop()
            if len(self) == 15:
                self.buy(size=10)
            if len(self) > 15 and self.order is None:
                self.order = self.buy(size=10, exectype=bt.Order.Limit, price=90.0)
                self.count += 1

        def replace_stop(self):
            pass

    class ByHand(Waiting):
        def replace_stop(self):
            if self.position:
                self.cancel(self.guard)
                self.guard = self.sell(size=10, exectype=bt.Order.Stop, price=50.0)

    rising = [(p, p + 1, p - 1, p) for p in np.arange(100.0, 140.0)]
    engine = cerebro(bars(*rising))
    engine.addstrategy(ByHand)
    assert engine.run()[0].count > 10

    engine = cerebro(bars(*rising))
    stop_behind(engine)
    engine.addstrategy(Waiting)
    assert engine.run()[0].count <= 2


def test_an_indicator_in_an_analyzer_delays_the_strategy_and_our_components_do_not():
    class WithIndicator(bt.Analyzer):
        def __init__(self):
            self.atr = bt.ind.ATR(self.data, period=14)

    class FirstBar(bt.Strategy):
        first = None

        def next(self):
            self.first = self.first or len(self)

    engine = cerebro(bars(*flat(30)))
    engine.addanalyzer(WithIndicator)
    engine.addstrategy(FirstBar)
    assert engine.run()[0].first == 15

    engine = cerebro(bars(*flat(30)))
    engine.addsizer(bt_risk.HalfKellySizer)
    engine.addobserver(bt_risk.ATRTrailingStop)
    engine.setbroker(bt_risk.CorrelationCap(engine.broker))
    engine.addanalyzer(bt_risk.DrawdownBreaker)
    engine.addanalyzer(bt_risk.PortfolioRisk)
    engine.addstrategy(FirstBar)
    assert engine.run()[0].first == 1


def test_exactbars_does_not_change_what_the_stop_remembers():
    frame = feeds.random_walk(5, 80)

    class Back(bt.Strategy):
        def next(self):
            if len(self) == 60:
                self.seen = self.data.close[-20]

    bare = cerebro(frame, exactbars=1)
    bare.addstrategy(Back)
    with pytest.raises(IndexError):
        bare.run()

    def stopped(**options):
        engine = cerebro(frame, **options)
        stop_behind(engine, 1.5)
        strategy = play(engine, {20: lambda s: s.buy(size=10), 40: lambda s: s.sell(size=25)})
        return [(bar, size, float(price)) for bar, size, price in fills(strategy)]

    assert stopped(exactbars=1) == stopped()
    assert len(stopped()) > 2


def test_the_bar_of_the_entry_is_not_protected_and_the_next_one_is():
    rows = [*flat(16), (100, 101, 90, 98), (98, 99, 90, 92), *flat(2, price=92.0)]
    engine = cerebro(bars(*rows))
    stop_behind(engine)
    strategy = play(engine, {16: lambda s: s.buy(size=10)})
    assert fills(strategy) == [(17, 10, 100.0), (18, -10, 95.0)]


def test_a_gap_through_the_stop_fills_at_the_open():
    rows = [*flat(18), (85, 86, 80, 82), *flat(2, price=82.0)]
    engine = cerebro(bars(*rows))
    stop_behind(engine)
    strategy = play(engine, {16: lambda s: s.buy(size=10)})
    assert fills(strategy) == [(17, 10, 100.0), (19, -10, 85.0)]


def test_a_trailing_stop_of_backtrader_follows_the_close_and_ours_says_what_it_follows():
    """Peers' fact h: a high of 120 does not move a StopTrail."""
    rows = [*flat(17), (100, 120, 99.5, 100), (100, 101, 99, 100), *flat(2)]
    trail = {"size": 10, "exectype": bt.Order.StopTrail, "trailamount": 5.0}
    bare = play(cerebro(bars(*rows)), {15: lambda s: s.buy(size=10), 16: lambda s: s.sell(**trail)})
    assert position_at_the_end(bare) == 10

    engine = cerebro(bars(*rows))
    stop_behind(engine, 1.0, anchor="extreme")
    strategy = play(engine, {15: lambda s: s.buy(size=10)})
    assert position_at_the_end(strategy) == 0


def test_a_dust_of_floats_is_no_position():
    def three_tenths(strategy):
        for _ in range(3):
            strategy.buy(size=0.1)

    actions = {16: three_tenths, 18: lambda s: s.sell(size=0.3)}
    bare = play(cerebro(bars(*flat(22))), actions)
    assert 0 < abs(position_at_the_end(bare)) < 1e-15

    engine = cerebro(bars(*flat(22)))
    stop_behind(engine)
    strategy = play(engine, actions)
    assert strategy.broker.inner.get_orders_open() == []


# -- runstop --------------------------------------------------------------------------------------

CRASH = [*flat(5), *[(p, p + 1, p - 1, p) for p in np.arange(98.0, 60.0, -2.0)]]


class Stranded(bt.Analyzer):
    """The naive breaker: close, then stop the engine at once."""

    def next(self):
        if self.strategy.broker.getvalue() < 90_000.0:
            self.strategy.close()
            self.strategy.env.runstop()


def crash(*breaker, **params):
    engine = cerebro(bars(*CRASH))
    for kind in breaker:
        engine.addanalyzer(kind, **params)
    return play(engine, {1: lambda s: s.buy(size=900)})


def test_a_close_before_runstop_strands_the_position_and_the_breaker_does_not():
    bare = crash(Stranded)
    assert bare.broker.getposition(bare.data).size == 900

    strategy = crash(bt_risk.DrawdownBreaker)
    assert strategy.broker.getposition(strategy.data).size == 0
    assert len(strategy.held) < len(CRASH)
    assert strategy.analyzers[0].get_analysis()["flattened"]
    assert ends(strategy)[-1][0] == "Completed"


def optimised_bars(analyzer, maxcpus, **params):
    class Counter(bt.Analyzer):
        def next(self):
            self.rets["bars"] = len(self.strategy)

    global CountBars
    CountBars = Counter
    Counter.__qualname__ = "CountBars"
    engine = cerebro(bars(*CRASH), maxcpus=maxcpus)
    engine.addanalyzer(analyzer, **params)
    engine.addanalyzer(Counter, _name="count")
    engine.optstrategy(Sized, size=[900, 1, 800, 1])
    return [run[0].analyzers.count.get_analysis().get("bars", 0) for run in engine.run()]


CountBars = None


class Sized(bt.Strategy):
    params = {"size": 1}

    def next(self):
        if len(self) == 1:
            self.buy(size=self.p.size)


def test_runstop_leaks_into_the_next_parameter_sets_and_the_breaker_does_not():
    alone = optimised_bars(Stranded, 1)
    assert alone[0] > 0
    assert alone[1:] == [0, 0, 0]

    assert optimised_bars(Stranded, 2)[1] == len(CRASH)
    one = optimised_bars(bt_risk.DrawdownBreaker, 1)
    assert one == optimised_bars(bt_risk.DrawdownBreaker, 2)
    assert one[1] == one[3] == len(CRASH)
    assert one[0] < one[2] < len(CRASH)


def test_a_second_strategy_misses_the_bar_of_runstop_and_with_the_breaker_it_does_not():
    def lengths(kind):
        engine = cerebro(bars(*CRASH))
        engine.addanalyzer(kind)
        engine.addstrategy(feeds.Script, actions={1: lambda s: s.buy(size=900)})
        engine.addstrategy(feeds.Script)
        return [len(strategy.held) for strategy in engine.run()]

    first, second = lengths(Stranded)
    assert second == first - 1
    first, second = lengths(bt_risk.DrawdownBreaker)
    assert first == second


def test_a_trip_on_the_last_bars_says_that_it_was_not_flattened():
    engine = cerebro(bars(*CRASH[:11]))
    engine.addanalyzer(bt_risk.DrawdownBreaker, _name="breaker")
    strategy = play(engine, {1: lambda s: s.buy(size=900)})
    analysis = strategy.analyzers.breaker.get_analysis()
    assert analysis["tripped_at"] is not None
    assert analysis["flattened"] is False
    assert position_at_the_end(strategy) == 900


def test_a_strategy_that_buys_on_every_bar_cannot_undo_the_flattening():
    class Stubborn(feeds.Script):
        def next(self):
            super().next()
            self.buy(size=10)

    def held(action):
        engine = cerebro(bars(*CRASH))
        engine.addanalyzer(bt_risk.DrawdownBreaker, action=action)
        return play(engine, {1: lambda s: s.buy(size=900)}, Stubborn)

    for action in ("pause", "stop"):
        strategy = held(action)
        assert position_at_the_end(strategy) == 0
        assert max(size for (size,) in strategy.held) > 900
        refused = [end for end in ends(strategy) if end[0] == "Rejected"]
        assert refused
        assert all("DrawdownBreaker" in end[3] for end in refused)


def test_a_withdrawal_is_no_drawdown():
    """Peers' fact j."""
    engine = cerebro(bars(*flat(10)))
    engine.addanalyzer(bt.analyzers.DrawDown, _name="bare")
    engine.addanalyzer(bt_risk.DrawdownBreaker, _name="breaker")
    strategy = play(engine, {3: lambda s: s.broker.add_cash(-50_000.0)})
    assert strategy.analyzers.bare.get_analysis().max.drawdown == pytest.approx(50.0)
    analysis = strategy.analyzers.breaker.get_analysis()
    assert analysis["max_drawdown"] == 0.0
    assert analysis["state"] == "ARMED"
    assert len(strategy.held) == 10


def test_a_close_that_is_nan_neither_trips_nor_moves_the_mark():
    rows = [*flat(5), (100, 101, 99, math.nan), *flat(5)]

    class Value(feeds.Script):
        def notify_cashvalue(self, cash, value):
            self.__dict__.setdefault("values", []).append(value)

    engine = cerebro(bars(*rows))
    engine.addanalyzer(bt_risk.DrawdownBreaker, _name="breaker")
    strategy = play(engine, {1: lambda s: s.buy(size=900)}, Value)
    assert math.isnan(strategy.values[5])
    assert position_at_the_end(strategy) == 900
    analysis = strategy.analyzers.breaker.get_analysis()
    assert analysis["state"] == "ARMED"
    assert analysis["high_water_mark"] == pytest.approx(100.0)


def test_a_cancel_in_the_bar_of_submission_does_nothing_and_ours_are_cancelled_at_once():
    def at_once(strategy):
        strategy.cancel(strategy.buy(size=10))

    assert position_at_the_end(play(cerebro(bars(*flat(5))), {1: at_once})) == 10

    # The entry fills and is closed in one bar: its stop is placed and taken away in between.
    engine = cerebro(bars(*flat(17), (100, 101, 90, 92), *flat(3, price=92.0)))
    stop_behind(engine)
    strategy = play(engine, {16: lambda s: (s.buy(size=10), s.sell(size=10))})
    assert fills(strategy) == [(17, 10, 100.0), (17, -10, 100.0)]
    assert position_at_the_end(strategy) == 0
    assert strategy.broker.inner.get_orders_open() == []


def test_a_position_from_before_the_run_gets_a_stop():
    class Restored(feeds.Script):
        def start(self):
            self.broker.positions[self.data].update(10, 100.0)

    rows = [*flat(18), (100, 101, 90, 92), *flat(3, price=92.0)]
    assert position_at_the_end(play(cerebro(bars(*rows)), {}, Restored)) == 10

    engine = cerebro(bars(*rows))
    stop_behind(engine)
    strategy = play(engine, {}, Restored)
    assert fills(strategy) == [(19, -10, 95.0)]
    assert position_at_the_end(strategy) == 0


# -- sizers ---------------------------------------------------------------------------------------


class Returns(bt.Sizer):
    params = {"size": 0}

    def _getsizing(self, comminfo, cash, data, isbuy):
        return self.p.size


def test_a_sizer_that_says_zero_breaks_a_bracket_and_ours_rejects_it():
    bracket = {5: lambda s: s.buy_bracket(price=100.0, stopprice=95.0, limitprice=105.0)}
    bare = cerebro(bars(*flat(10)))
    bare.addsizer(Returns, size=0)
    with pytest.raises(AttributeError, match="'NoneType' object has no attribute 'size'"):
        play(bare, bracket)

    engine = cerebro(bars(*flat(10)))
    engine.addsizer(bt_risk.HalfKellySizer)
    strategy = play(engine, bracket)
    assert [end[0] for end in ends(strategy)] == ["Rejected"] * 3
    assert "ATR(14) needs 15 bars" in ends(strategy)[0][3]
    assert all(order is not None for order in strategy.made[0])


def test_a_size_that_is_nan_does_not_take_the_orders_of_its_bar_with_it():
    actions = {2: lambda s: (s.buy(size=math.nan), s.buy(size=1))}
    bare = play(cerebro(bars(*flat(5))), actions)
    assert [end[0] for end in ends(bare)] == ["Margin", "Margin"]

    engine = cerebro(bars(*flat(5)))
    breaker_out_of_reach(engine)
    strategy = play(engine, actions)
    assert [end[0] for end in ends(strategy)] == ["Rejected", "Completed"]
    assert "nan" in ends(strategy)[0][3]


def test_three_of_four_kinds_of_order_bypass_a_sizer_and_none_bypasses_the_gate():
    """Peers' fact d."""
    kinds = (
        lambda s: s.buy(),
        lambda s: s.buy(size=500),
        lambda s: s.order_target_size(target=500),
        lambda s: s.order_target_value(target=50_000.0),
        lambda s: s.order_target_percent(target=0.5),
    )

    def held(action, *limits):
        engine = cerebro(bars(*flat(20)))
        engine.addsizer(Returns, size=1)
        if limits:
            limit_orders(engine, *limits)
        return position_at_the_end(play(engine, {16: action}))

    assert [held(kind) for kind in kinds] == [1, 500, 500, 500, 500]
    assert [held(kind, RiskPerTrade(0.01)) for kind in kinds] == [1, 250, 250, 250, 250]


def test_a_percent_sizer_doubles_a_position_and_the_gate_does_not_let_it():
    """Peers' fact e."""
    actions = {16: lambda s: s.buy(), 18: lambda s: s.buy()}

    def held(*limits):
        engine = cerebro(bars(*flat(22)))
        engine.addsizer(bt.sizers.PercentSizer, percents=20)
        if limits:
            limit_orders(engine, *limits)
        return position_at_the_end(play(engine, actions))

    assert held() == pytest.approx(400.0)
    assert held(NotionalLimit(0.2)) == pytest.approx(200.0)


def test_sizing_on_all_cash_ends_margin_and_our_sizer_is_cut_at_the_fill():
    """Peers' fact g: commission and the gap from close to open cost more than cash has."""
    rows = [*flat(16), (102, 103, 101, 102), *flat(3, price=102.0)]
    actions = {16: lambda s: s.buy()}

    def filled(sizer, **params):
        engine = cerebro(bars(*rows), cash=10_000.0)
        engine.broker.setcommission(0.001)
        engine.addsizer(sizer, **params)
        return ends(play(engine, actions))

    assert filled(bt.sizers.AllInSizer)[0][0] == "Margin"
    status, size, price, _ = filled(bt_risk.HalfKellySizer, warmup_risk=0.9, allow_extreme=True)[0]
    assert (status, price) == ("Completed", 102.0)
    assert size == 97  # 97 x 102 x 1.001 is 9,903.89, one more is above 10,000


def test_two_buys_of_one_bar_do_not_spend_the_same_cash():
    both = {16: lambda s: (s.buy(), s.buy())}

    def ended(sizer, **params):
        engine = cerebro(bars(*flat(20)))
        engine.addsizer(sizer, **params)
        return [end[0] for end in ends(play(engine, both))]

    assert ended(bt.sizers.PercentSizer, percents=60) == ["Completed", "Margin"]
    half = {"warmup_risk": 0.024, "notional_limit": None}
    assert ended(bt_risk.HalfKellySizer, **half) == ["Completed", "Completed"]


def test_a_sell_that_closes_returns_the_position_and_not_a_new_size():
    actions = {16: lambda s: s.buy(size=10), 18: lambda s: s.sell()}

    def left(sizer, **params):
        engine = cerebro(bars(*flat(22)))
        engine.addsizer(sizer, **params)
        return position_at_the_end(play(engine, actions))

    assert left(Returns, size=7) == 3
    assert left(bt_risk.HalfKellySizer) == 0


def test_cash_grows_with_a_short_and_our_sizes_do_not():
    short_one_buy_other = {16: lambda s: s.sell(size=900), 18: lambda s: s.buy(s.data1)}

    def size(sizer, **params):
        engine = cerebro(bars(*flat(22)), bars(*flat(22)))
        engine.addsizer(sizer, **params)
        return play(engine, short_one_buy_other).held[-1][1]

    assert size(bt.sizers.PercentSizer, percents=10) == pytest.approx(190.0)
    assert size(bt_risk.HalfKellySizer, warmup_risk=0.01) == 250


def test_a_negative_size_is_bought_and_a_negative_kelly_is_not():
    actions = {16: lambda s: s.buy()}

    def held(sizer, **params):
        engine = cerebro(bars(*flat(20)))
        engine.addsizer(sizer, **params)
        return position_at_the_end(play(engine, actions))

    assert held(Returns, size=-40) == 40
    losing = {"history": [1.0, -1.0, -1.0] * 40, "probe_risk": 0.0}
    assert held(bt_risk.HalfKellySizer, **losing) == 0


def test_a_target_in_percent_buys_no_part_of_a_coin_and_our_sizer_does():
    coin = flat(20, price=30_000.0, width=300.0)
    bare = cerebro(bars(*coin), cash=10_000.0)
    assert position_at_the_end(play(bare, {16: lambda s: s.order_target_percent(target=0.9)})) == 0

    engine = cerebro(bars(*coin), cash=10_000.0)
    engine.addsizer(bt_risk.HalfKellySizer, step=0.001)
    size = position_at_the_end(play(engine, {16: lambda s: s.buy()}))
    assert size == pytest.approx(0.083)  # 1 % of 10,000 at a stop of 1,200


def test_a_recorder_of_a_sizer_that_is_set_in_start_never_starts_and_ours_needs_none():
    class Records(bt.Analyzer):
        def start(self):
            self.trades = []

        def notify_order(self, order):
            self.trades.append(order)

    class Naive(Returns):
        def set(self, strategy, broker):
            super().set(strategy, broker)
            strategy._addanalyzer_slave(Records)

    def held(make):
        class SetLate(feeds.Script):
            def start(self):
                self.setsizer(make())

        return position_at_the_end(play(cerebro(bars(*flat(20))), {16: lambda s: s.buy()}, SetLate))

    with pytest.raises(AttributeError):
        held(lambda: Naive(size=1))
    assert held(lambda: bt_risk.HalfKellySizer()) == 250


def test_a_position_that_is_asked_for_before_the_first_bar_is_valued_and_ours_is_not():
    """BackBroker values it at the last bar of the file: nothing times no number is no number."""
    late = bars(*flat(3), (100, 101, 99, math.nan), start="2020-01-10")
    values = []

    def run(*sizer):
        engine = cerebro(bars(*flat(12)), late)
        for one in sizer:
            engine.addsizer(one)
        ask = {
            3: lambda s: s.buy(s.data1) if sizer else s.getposition(s.data1),
            4: lambda s: values.append(s.broker.getvalue()),
        }
        engine.addstrategy(Careful, actions=ask)
        engine.run()

    run()
    assert math.isnan(values.pop())
    run(bt_risk.HalfKellySizer)
    assert values == [100_000.0]


# -- what the gate has to know --------------------------------------------------------------------


def test_backbroker_shorts_a_thousand_times_the_account_and_the_gate_does_not():
    """Peers' fact f."""
    actions = {16: lambda s: s.sell(size=10_000_000)}
    bare = play(cerebro(bars(*flat(20)), cash=10_000.0), actions)
    assert position_at_the_end(bare) == -10_000_000

    engine = cerebro(bars(*flat(20)), cash=10_000.0)
    limit_orders(engine, NotionalLimit(1.0))
    assert position_at_the_end(play(engine, actions)) == -100


def test_an_order_before_the_first_bar_of_its_data_is_refused():
    """Bare: the price of a data without a bar is its last one, from the future."""
    early, late = feeds.random_walk(1, 30), feeds.random_walk(2, 30).iloc[20:]
    seen = []

    def too_early(strategy):
        assert len(strategy.data1) == 0
        seen.append(strategy.data1.close[0])
        return strategy.buy(strategy.data1, size=10)

    bare = play(cerebro(early, late), {5: too_early})
    assert seen == [late.close.iloc[-1]]
    assert ends(bare)[0][0] == "Accepted"

    engine = cerebro(early, late)
    limit_orders(engine, NotionalLimit(1.0))
    strategy = play(engine, {5: too_early})
    assert ends(strategy)[0][0] == "Rejected"
    assert "D1 has no bar yet" in ends(strategy)[0][3]


def test_siblings_of_one_bar_are_counted_although_nothing_is_held_yet():
    def five(strategy):
        assert strategy.position.size == 0
        return [strategy.buy(size=300) for _ in range(5)]

    bare = play(cerebro(bars(*flat(20))), {16: five})
    assert [end[0] for end in ends(bare)] == ["Completed"] * 3 + ["Margin"] * 2

    engine = cerebro(bars(*flat(20)))
    limit_orders(engine, NotionalLimit(0.5))
    strategy = play(engine, {16: five})
    assert [end[:2] for end in ends(strategy)] == [
        ("Completed", 300),
        ("Completed", 200),
        *[("Rejected", 0)] * 3,
    ]


def test_futures_count_with_their_multiplier_and_not_with_their_margin():
    engine = cerebro(bars(*flat(20)))
    engine.broker.setcommission(margin=2000.0, mult=50.0)
    limit_orders(engine, NotionalLimit(1.0))
    worth = []
    actions = {
        16: lambda s: s.buy(size=100),
        18: lambda s: worth.append(s.broker.getvalue([s.data])),
    }
    assert position_at_the_end(play(engine, actions)) == 20  # 20 x 100 x 50 is all of 100,000
    assert worth == [40_000.0]


def test_correlation_is_joined_on_time_and_not_on_row_number():
    """A name against its own copy with five bars missing."""
    frame = feeds.random_walk(3, 120)
    gaps = frame.drop(frame.index[[20, 35, 50, 61, 77]])
    returns = [np.diff(np.log(f.close.to_numpy()[-100:])) for f in (frame, gaps)]
    assert abs(np.corrcoef(*returns)[0, 1]) < 0.7

    engine = cerebro(frame, gaps)
    engine.setbroker(bt_risk.CorrelationCap(engine.broker))
    actions = {100: lambda s: s.buy(size=1), 102: lambda s: s.buy(s.data1, size=1)}
    status, *_, reason = ends(play(engine, actions))[1]
    assert status == "Rejected"
    assert "signed correlation with D0 1.0000" in reason


def test_a_resampled_copy_is_no_second_name():
    engine = cerebro(feeds.random_walk(3, 120))
    engine.resampledata(engine.datas[0], timeframe=bt.TimeFrame.Weeks, name="weekly")
    engine.setbroker(bt_risk.CorrelationCap(engine.broker))

    class Quiet(feeds.Script):
        """Does not ask for the position of the copy before it has a bar: BackBroker raises."""

        def next(self):
            if len(self) in (100, 105):
                self.buy(self.datas[len(self) == 105], size=1)

    assert [end[0] for end in ends(play(engine, {}, Quiet))] == ["Completed", "Completed"]


def test_a_feed_that_has_ended_shows_its_last_bar_for_ever_and_takes_no_entry_of_ours():
    seen = []
    actions = {
        30: lambda s: (seen.append((len(s.data1), s.data1.close[0])), s.buy(s.data1, size=1))
    }
    bare = play(cerebro(bars(*flat(40)), bars(*flat(20, price=50.0))), actions)
    assert seen == [(20, 50.0)]
    assert ends(bare)[0][0] == "Accepted"

    engine = cerebro(bars(*flat(40)), bars(*flat(20, price=50.0)))
    limit_orders(engine, NotionalLimit(1.0))
    assert ends(play(engine, actions))[0][0] == "Rejected"


def test_open_orders_leave_out_what_was_just_submitted_and_the_gate_counts_it():
    listed = []

    def two(strategy):
        strategy.buy(size=500, exectype=bt.Order.Limit, price=90.0)
        listed.append(len(strategy.broker.get_orders_open()))
        return strategy.buy(size=600)

    play(cerebro(bars(*flat(20))), {16: two})
    assert listed == [0]

    engine = cerebro(bars(*flat(20)))
    limit_orders(engine, NotionalLimit(1.0))
    assert play(engine, {16: two}).made[0].size == 550  # 100,000 less 500 x 90 is left


def test_the_bars_to_come_are_readable_in_runonce_and_no_decision_depends_on_them():
    frame, seen = feeds.random_walk(6, 60), []
    play(cerebro(frame), {10: lambda s: seen.append(s.data.close[5])})
    assert seen == [frame.close.iloc[14]]

    def decided(count):
        engine = cerebro(frame.iloc[:count])
        bt_risk.protect(engine)
        engine.addstrategy(RandomTrader, seed=6)
        frame_of = engine.run()[0].analyzers.riskjournal.frame()
        return frame_of[frame_of.time <= frame.index[34]].to_csv()

    assert decided(35).count("RiskPerTrade") > 1
    assert decided(60) == decided(35)


def test_leverage_multiplies_what_an_account_holds_and_the_gate_counts_all_of_it():
    def levered():
        engine = cerebro(bars(*flat(20)), cash=10_000.0)
        engine.broker.setcommission(0.0, leverage=5.0)
        return engine

    actions = {16: lambda s: s.buy(size=300)}
    assert position_at_the_end(play(levered(), actions)) == 300  # 30,000 with 10,000

    engine = levered()
    limit_orders(engine, NotionalLimit(1.0))
    assert position_at_the_end(play(engine, actions)) == 100


def test_a_subclass_of_backbroker_forgets_what_was_set_and_a_gate_keeps_it():
    class Custom(bt.brokers.BackBroker):
        pass

    def cash(wrap):
        engine = cerebro(bars(*flat(3)), cash=12_345.0)
        engine.setbroker(wrap(engine.broker))
        return play(engine, {}).broker.getcash()

    assert cash(lambda broker: Custom()) == 10_000.0
    assert cash(bt_risk.RiskBroker) == 12_345.0


def test_a_broker_without_get_value_breaks_pyfolio_and_the_gate_supplies_it():
    def run(wrap):
        engine = cerebro(bars(*flat(5)))
        engine.setbroker(wrap(FakeBroker()))
        engine.addanalyzer(bt.analyzers.PositionsValue, cash=True, _name="values")
        return play(engine, {}).analyzers.values.get_analysis()

    with pytest.raises(AttributeError):
        run(lambda broker: broker)
    assert {cash for _, cash in run(bt_risk.RiskBroker).values()} == {100_000.0}


def test_a_live_broker_values_one_data_at_the_whole_account_and_the_gate_does_not_ask_it():
    valued = []
    actions = {
        16: lambda s: s.buy(s.data0, size=400),
        20: lambda s: (
            valued.append(s.broker.getvalue([s.data1])),
            s.buy(s.data1, size=1000),
        ),
    }

    def venue():
        engine = cerebro(bars(*flat(30)), bars(*flat(30)))
        engine.setbroker(bt_risk.RiskBroker(FakeBroker()))
        return engine

    play(venue(), actions)
    assert valued == [100_000.0]  # of a data that is not held

    engine = venue()
    limit_orders(engine, NotionalLimit(0.5))
    strategy = play(engine, actions)
    assert strategy.held[-1] == (400, 500)


# -- what the bar by bar hooks see ----------------------------------------------------------------


def stop_line(engine, **params):
    stop_behind(engine, 1.5, **params)
    strategy = play(engine, {20: lambda s: s.buy(size=10)})
    return list(strategy.observers[0].lines.stop.get(size=len(strategy)))


def test_an_indicator_in_an_observer_is_never_calculated_and_ours_needs_none():
    class WithIndicator(bt.Observer):
        lines = ("atr",)

        def __init__(self):
            self.atr = bt.ind.ATR(self.data, period=14)

        def next(self):
            self.lines.atr[0] = self.atr[0]

    bare = cerebro(bars(*flat(30)))
    bare.addobserver(WithIndicator)
    with pytest.raises(IndexError):
        play(bare, {})

    frame = feeds.random_walk(5, 40)
    line = stop_line(cerebro(frame))
    assert [value == value for value in line].index(True) == 20
    assert repr(line) == repr(stop_line(cerebro(frame, runonce=False)))


def test_an_observer_has_another_length_in_another_mode_and_ours_that_of_the_strategy():
    class Naive(bt.Observer):
        lines = ("close",)

        def next(self):
            pass

    whole = feeds.random_walk(5, 40)
    gaps = whole.drop(whole.index[5:20])

    def lengths(kind, **mode):
        engine = cerebro(gaps, whole, **mode)
        engine.addobserver(kind)
        strategy = play(engine, {})
        return len(strategy), len(strategy.observers[0])

    assert lengths(Naive) != lengths(Naive, runonce=False)
    for mode in ({}, {"runonce": False}):
        assert lengths(bt_risk.ATRTrailingStop, **mode) == (40, 40)


def test_an_observer_of_a_late_feed_is_called_before_its_first_bar_and_ours_draws_nothing_then():
    calls = []

    class Naive(bt.Observer):
        lines = ("close",)

        def next(self):
            calls.append(len(self.data))

    early, late = feeds.random_walk(1, 40), feeds.random_walk(2, 40).iloc[10:]
    bare = cerebro(early, late)
    bare.addobservermulti(Naive)
    play(bare, {})
    assert 0 in calls

    for mode in ({}, {"runonce": False}):
        engine = cerebro(early, late, **mode)
        engine.addobservermulti(bt_risk.ATRTrailingStop, atr_multiple=1.5)
        strategy = play(engine, {30: lambda s: s.buy(s.data1, size=10)}, Unasking)
        drawn = list(strategy.getobservers()[1].lines.stop.get(size=len(strategy)))
        assert [value == value for value in drawn].index(True) == 30


class Unasking(feeds.Script):
    """Does not ask for the position of a data before it has a bar: BackBroker raises."""

    def next(self):
        action = self.p.actions.get(len(self))
        if action is not None:
            self.made.append(action(self))


def test_an_exit_marked_as_simulated_is_missing_from_the_transactions_and_our_stop_is_there():
    rows = [*flat(18), (100, 101, 90, 92), *flat(3, price=92.0)]
    by_hand = {"size": 10, "exectype": bt.Order.Stop, "price": 95.0, "simulated": True}
    actions = {16: lambda s: s.buy(size=10)}

    def sides(engine, more):
        engine.addanalyzer(bt.analyzers.Transactions, _name="seen")
        done = play(engine, actions | more).analyzers.seen.get_analysis()
        return [amount for rows in done.values() for amount, *_ in rows]

    def hidden(strategy):
        order = strategy.sell(**{key: by_hand[key] for key in ("size", "exectype", "price")})
        order.p.simulated = True

    assert sides(cerebro(bars(*rows)), {17: hidden}) == [10]
    engine = cerebro(bars(*rows))
    stop_behind(engine)
    assert sides(engine, {}) == [10, -10]


def test_ta_lib_fails_with_exactbars_where_our_atr_does_not():
    class WithAtr(bt.Strategy):
        def __init__(self):
            self.atr = bt.talib.ATR(self.data.high, self.data.low, self.data.close, timeperiod=14)

    frame = feeds.random_walk(5, 40)
    bare = cerebro(frame, exactbars=1)
    bare.addstrategy(WithAtr)
    with pytest.raises(ValueError, match="islice"):
        bare.run()

    line = [float(value) for value in stop_line(cerebro(frame, exactbars=-1))]
    assert repr(line) == repr([float(value) for value in stop_line(cerebro(frame))])


def test_exactbars_brings_numpy_numbers_and_none_of_them_gets_into_the_journal():
    frame, kinds = feeds.random_walk(5, 40), []
    play(cerebro(frame, exactbars=1), {5: lambda s: kinds.append(type(s.data.close[0]))})
    assert kinds == [np.float64]

    engine = cerebro(frame, exactbars=1)
    engine.broker.set_filler(bt.fillers.FixedBarPerc(perc=0.5))
    bt_risk.protect(engine, bt_risk.Policy(atr_multiple=1.0))
    engine.addstrategy(RandomTrader, seed=5)
    journal = engine.run()[0].analyzers.riskjournal
    lines = journal.get_analysis()["decisions"]
    assert len(lines) > 10
    kinds = {type(value).__module__ for line in lines for value in line.values()}
    assert kinds <= {"builtins", "datetime"}
    assert {type(r) for r in journal.r_multiples()} == {float}


def test_plotting_takes_the_backend_away_and_we_load_no_plotting_at_all():
    def said(code):
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        return run.stdout.strip()

    chosen = "import matplotlib; matplotlib.use('Agg'); import backtrader.plot"
    assert said(f"{chosen}; print(matplotlib.rcParams['backend'].lower())") == "tkagg"
    assert said("import bt_risk, sys; print('matplotlib' in sys.modules)") == "False"


# -- trades ---------------------------------------------------------------------------------------


def test_closing_a_restored_position_is_an_open_trade_of_the_other_side_and_our_log_is_right():
    class Restored(feeds.Script):
        def start(self):
            self.broker.positions[self.data].update(10, 100.0)

    rows = [*flat(17), *flat(5, price=104.0)]
    bare = play(cerebro(bars(*rows)), {18: lambda s: s.close()}, Restored)
    ((trade,),) = bare._trades[bare.data].values()
    assert (trade.isopen, trade.size) == (True, -10)

    engine = cerebro(bars(*rows))
    engine.addanalyzer(bt_risk.RiskJournal, _name="journal")
    stop_behind(engine)
    strategy = play(engine, {18: lambda s: s.close()}, Restored)
    (trade,) = strategy.analyzers.journal.trades().to_dict("records")
    assert (trade["side"], trade["size"], trade["pnl"]) == (1, 10.0, 40.0)


def test_a_closed_trade_has_forgotten_its_size_and_our_log_knows_what_it_risked():
    """Pyramiding: 10, then 10 more; the stop is 5 below the first fill. 20 x 5 were at risk."""
    rows = [*flat(17), *flat(6, price=102.0)]
    actions = {16: lambda s: s.buy(size=10), 17: lambda s: s.buy(size=10), 20: lambda s: s.close()}
    bare = play(cerebro(bars(*rows)), actions)
    ((trade,),) = bare._trades[bare.data].values()
    assert (trade.isclosed, trade.size, trade.value) == (True, 0, 0.0)

    engine = cerebro(bars(*rows))
    engine.addanalyzer(bt_risk.RiskJournal, _name="journal")
    stop_behind(engine)
    (r_multiple,) = play(engine, actions).analyzers.journal.r_multiples()
    assert r_multiple == pytest.approx(20.0 / 100.0)


# -- orders that refer to rejected ones -----------------------------------------------------------

NOTHING = 1e-9


def refusing(engine):
    """Refuse every entry, and say so."""
    return limit_orders(engine, NotionalLimit(NOTHING))


def test_an_oco_to_an_order_that_never_reached_the_broker_does_not_raise():
    def with_oco(strategy):
        first = strategy.buy(size=10, exectype=bt.Order.Limit, price=99.5)
        return strategy.buy(size=10, exectype=bt.Order.Limit, price=99.0, oco=first)

    def unknown(strategy):
        first = bt.order.BuyOrder(owner=strategy, data=strategy.data, size=1, simulated=True)
        return strategy.buy(size=10, oco=first)

    with pytest.raises(KeyError):
        play(cerebro(bars(*flat(10))), {3: unknown})

    engine = cerebro(bars(*flat(10)))
    refusing(engine)
    assert [end[0] for end in ends(play(engine, {3: with_oco}))] == ["Rejected"] * 2


def test_an_exit_whose_oco_was_rejected_still_works():
    def with_oco(strategy):
        first = strategy.buy(size=10**6, exectype=bt.Order.Limit, price=99.5)
        return strategy.sell(size=10, exectype=bt.Order.Stop, price=98.0, oco=first)

    engine = cerebro(bars(*flat(5), (100, 101, 90, 95), *flat(3, price=95.0)))
    limit_orders(engine, NotionalLimit(0.01))
    strategy = play(engine, {1: lambda s: s.buy(size=10), 4: with_oco})
    assert [end[0] for end in ends(strategy)] == ["Completed", "Rejected", "Completed"]
    assert position_at_the_end(strategy) == 0


def test_a_rejected_parent_rejects_its_children():
    refs = []

    def bracket(strategy):
        orders = strategy.buy_bracket(size=10, price=99.5, stopprice=95.0, limitprice=105.0)
        refs.extend(order.ref for order in orders)
        return orders

    engine = cerebro(bars(*flat(10)))
    refusing(engine)
    strategy = play(engine, {3: bracket})
    assert len(set(refs)) == 3
    assert [end[0] for end in ends(strategy)] == ["Rejected"] * 3
    assert "notional_limit" in ends(strategy)[0][3]
    assert all(end[3] for end in ends(strategy))
    assert strategy.broker.inner.get_orders_open() == []


def test_a_rejected_order_can_be_cancelled_without_harm():
    def cancelled(strategy):
        order = strategy.buy(size=10)
        strategy.cancel(order)
        return order

    engine = cerebro(bars(*flat(10)))
    refusing(engine)
    assert [end[0] for end in ends(play(engine, {3: cancelled}))] == ["Rejected"]


def test_the_rest_of_a_bracket_does_not_wait_for_a_last_child_that_was_refused():
    """A parent that closes goes alone: its child would open, and may not."""

    def alone(strategy):
        return strategy.sell(size=100, transmit=False)

    def with_child(strategy):
        strategy.broker.add_limit(NotionalLimit(1e-9))
        parent = alone(strategy)
        return strategy.buy(size=100, exectype=bt.Order.Stop, price=105.0, parent=parent)

    buy = {16: lambda s: s.buy(size=100)}
    bare = play(cerebro(bars(*flat(24))), buy | {20: alone})
    assert bare.made[1].getstatusname() == "Created"  # and so it stays for ever
    assert position_at_the_end(bare) == 100

    engine = cerebro(bars(*flat(24)))
    limit_orders(engine, NotionalLimit(1.0))
    strategy = play(engine, buy | {20: with_child})
    assert strategy.made[1].getstatusname() == "Rejected"
    assert position_at_the_end(strategy) == 0


# -- Backtrader's own classes ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("add", "kind", "params"),
    [
        ("addobserver", bt_risk.ATRTrailingStop, {"atr_multipel": 3.0}),
        ("addobservermulti", bt_risk.ATRTrailingStop, {"atr_multipel": 3.0}),
        ("addanalyzer", bt_risk.DrawdownBreaker, {"drawdown_limt": 0.1}),
        ("addanalyzer", bt_risk.RiskJournal, {"paths": "x"}),
        ("addanalyzer", bt_risk.PortfolioRisk, {"window": 10}),
        ("addsizer", bt_risk.HalfKellySizer, {"kelly_scal": 0.5}),
    ],
)
def test_a_misspelt_parameter_raises(add, kind, params):
    """Backtrader's own observers swallow it."""

    class Swallows(bt.Observer):
        lines = ("nothing",)

        def __init__(self, **kwargs):
            pass

        def next(self):
            pass

    engine = cerebro(bars(*flat(3)))
    engine.addobserver(Swallows, anything=1)
    play(engine, {})

    engine = cerebro(bars(*flat(3)))
    getattr(engine, add)(kind, **params)
    with pytest.raises(TypeError, match=next(iter(params))):
        play(engine, {})


def test_a_misspelt_parameter_of_a_broker_raises():
    with pytest.raises(TypeError, match="correlation_limt"):
        bt_risk.CorrelationCap(correlation_limt=0.7)
    with pytest.raises(TypeError, match="instrument"):
        bt_risk.RiskBroker(instrument={})


@pytest.mark.parametrize("kind", [bt_risk.RiskBroker, bt_risk.CorrelationCap])
def test_a_gate_pickles(kind):
    """A wrapper that forwards every name recurses without end when it is unpickled."""

    class Naive:
        def __init__(self, inner):
            self.inner = inner

        def __getattr__(self, name):
            return getattr(self.inner, name)

    name = "hello"
    with pytest.raises(RecursionError):
        getattr(Naive.__new__(Naive), name)

    gate = kind(bt.brokers.BackBroker(cash=123.0))
    copy = pickle.loads(pickle.dumps(gate))
    assert type(copy) is kind
    assert copy.inner.p.cash == 123.0
    with pytest.raises(AttributeError, match="no attribute 'hello'"):
        getattr(kind.__new__(kind), name)


def test_pandas_frames_that_a_cap_remembers_survive_an_optimisation_on_two_processes():
    frame = feeds.random_walk(8, 80)
    history = pd.DataFrame({"D0": frame.close, "D1": frame.close}).iloc[:70]
    engine = cerebro(frame.iloc[70:], frame.iloc[70:], maxcpus=2)
    engine.setbroker(bt_risk.CorrelationCap(engine.broker, history=history))
    engine.addanalyzer(bt_risk.RiskJournal, _name="journal")
    engine.optstrategy(Both, size=[1, 2])
    for (run,) in engine.run():
        counts = run.analyzers.journal.counts()
        assert counts["CorrelationLimit", "reject"] == 1


class Both(bt.Strategy):
    params = {"size": 1}

    def next(self):
        if len(self) == 3:
            self.buy(self.data0, size=self.p.size)
            self.buy(self.data1, size=self.p.size)


def test_the_second_run_of_a_cerebro_starts_from_a_clean_state():
    engine = cerebro(bars(*CRASH))
    engine.setbroker(bt_risk.CorrelationCap(engine.broker, exposure_limit=0.4, min_periods=2))
    engine.addanalyzer(bt_risk.DrawdownBreaker, drawdown_limit=0.01)
    engine.addobserver(bt_risk.ATRTrailingStop, atr_period=2, atr_multiple=8.0)
    engine.addstrategy(feeds.Script, actions={4: lambda s: s.buy(size=900)})
    first, second = (
        [(row[0], *row[2:]) for row in engine.run()[0].orders],
        [(row[0], *row[2:]) for row in engine.run()[0].orders],
    )
    assert first == second
    assert any(row[1] == "Completed" and row[3] < 0 for row in first)
