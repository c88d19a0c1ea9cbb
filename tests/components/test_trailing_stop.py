"""ATRTrailingStop on hand-made bars: where it rests, when it moves, what it fills at.

Every feed begins with four bars that stand still at 100 with a range of 2: true range 2, so with
``atr_period=2`` the ATR is 2 and the first stop is 4 away. Wilder's step with period 2 is
``ATR = (previous ATR + true range) / 2``; all prices are exact in binary.
"""

import math

import backtrader as bt
import pandas as pd
import pytest
from helpers.scenarios import (
    MODES,
    Plan,
    Tape,
    bars,
    cerebro,
    flat,
    optimised,
    random_walk,
    tape_of,
    taped,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bt_risk
from bt_risk.errors import ParameterError

NAN = math.nan


class Recorded(bt_risk.ATRTrailingStop):
    """Leave the line, the trade it belongs to and what rests with the strategy."""

    def next(self):
        super().next()
        owner, instrument = self._owner, self._instrument
        gate = owner.broker
        part = gate.book.part(instrument, owner)
        resting = sum(
            w.remaining
            for w in instrument.orders.values()
            if w.own and w.owner is owner and w.kind == "stop"
        )
        rows = owner.__dict__.setdefault("stops", [])
        rows.append((self.lines.stop[0], part.number, part.side, resting, abs(part.size)))


def guarded(*frames, observer=Recorded, cash=100_000.0, **params):
    engine = cerebro(*frames, cash=cash)
    engine.addobserver(observer, **({"atr_period": 2} | params))
    return engine


def line(strategy):
    """Return the stop's price at the close of each bar, None where none rests."""
    return [None if math.isnan(row[0]) else row[0] for row in strategy.stops]


def order(bar, method, **arguments):
    return bar, method, arguments


BUY = order(4, "buy", size=10)
SELL = order(4, "sell", size=10)

# Entry at the open of bar 5, at 100: first stop 100 - 2 x 2 = 96.
#   5  close 100, TR 2                     ATR 2      level 100 - 4      = 96     stop 96
#   6  close 104, TR 105 - 100 = 5         ATR 3.5    level 104 - 7      = 97     stop 97
#   7  close 102, TR 104 - 102 = 2         ATR 2.75   level 102 - 5.5    = 96.5   stop 97
#   8  close 108, TR 108 - 102 = 6         ATR 4.375  level 108 - 8.75   = 99.25  stop 99.25
RISE = [
    *flat(5),
    (100, 105, 100, 104),
    (104, 104, 102, 102),
    (102, 108, 102, 108),
]
TOUCH = (100, 101, 99, 100)  # low 99 is through 99.25, the open is not
GAP = (95, 96, 94, 95)
HIGH = (100, 115, 100, 112)
TRAIL = [None] * 4 + [96.0, 97.0, 97.0, 99.25]


def mirror(rows):
    """Return the same bars upside down around 100."""
    return [(200 - o, 200 - low, 200 - high, 200 - c) for o, high, low, c in rows]


CASES = {
    "trails the close and never loosens": (
        [*RISE, TOUCH, *flat(1)],
        [BUY],
        {},
        [(5, 10, 100.0), (9, -10, 99.25)],
        [*TRAIL, None, None],
    ),
    "fills a gap at the open": (
        [*RISE, GAP],
        [BUY],
        {},
        [(5, 10, 100.0), (9, -10, 95.0)],
        [*TRAIL, None],
    ),
    "short mirror": (
        mirror([*RISE, TOUCH]),
        [SELL],
        {},
        [(5, -10, 100.0), (9, 10, 100.75)],
        [None] * 4 + [104.0, 103.0, 103.0, 100.75, None],
    ),
    # The range of the entry bar is 11, so ATR = (2 + 11) / 2 = 6.5 and the level 87: the distance
    # of 4 was frozen at the review, and the bar itself is not protected although it went to 90.
    "does not protect the entry bar and keeps the planned distance": (
        [*flat(4), (100, 101, 90, 100), (97, 98, 95, 96)],
        [BUY],
        {},
        [(5, 10, 100.0), (6, -10, 96.0)],
        [None] * 4 + [96.0, None],
    ),
    # Entry fills at 102: first stop 98. TR = 103 - 100 = 3, ATR 2.5, level 102 - 5 = 97.
    "starts from the fill not from the close it was sized on": (
        [*flat(4), (102, 103, 101, 102), (98, 99, 97, 98)],
        [BUY],
        {},
        [(5, 10, 102.0), (6, -10, 98.0)],
        [None] * 4 + [98.0, None],
    ),
    # Chandelier: 101 - 4 = 97, 105 - 7 = 98, 105 - 5.5 = 99.5, 108 - 8.75 = 99.25 (lower: stays).
    "anchor extreme trails the highest high": (
        [*RISE, TOUCH],
        [BUY],
        {"anchor": "extreme"},
        [(5, 10, 100.0), (9, -10, 99.5)],
        [None] * 4 + [97.0, 98.0, 99.5, 99.5, None],
    ),
    "anchor extreme trails the lowest low of a short": (
        mirror([*RISE, TOUCH]),
        [SELL],
        {"anchor": "extreme"},
        [(5, -10, 100.0), (9, 10, 100.5)],
        [None] * 4 + [103.0, 102.0, 100.5, 100.5, None],
    ),
    "anchor high is extreme": (
        [*RISE, TOUCH],
        [BUY],
        {"anchor": "high"},
        [(5, 10, 100.0), (9, -10, 99.5)],
        [None] * 4 + [97.0, 98.0, 99.5, 99.5, None],
    ),
    # 2.5 ATRs from the entry bar's close on: 95, 95.25, 95.125 are all below 96; 108 - 10.9375.
    "buffer keeps it further away": (
        [*RISE, (100, 101, 97, 100)],
        [BUY],
        {"buffer": 0.5},
        [(5, 10, 100.0), (9, -10, 97.0625)],
        [None] * 4 + [96.0, 96.0, 96.0, 97.0625, None],
    ),
    # 97 is 1 above 96, less than 0.5 x 3.5; 99.25 is 3.25 above, more than 0.5 x 4.375.
    "min_step leaves small moves out": (
        [*RISE, TOUCH],
        [BUY],
        {"min_step": 0.5},
        [(5, 10, 100.0), (9, -10, 99.25)],
        [None] * 4 + [96.0, 96.0, 96.0, 99.25, None],
    ),
    "atr_multiple 3 is three ATRs away": (
        # 94; 100 - 6 = 94; 104 - 10.5 = 93.5; 102 - 8.25 = 93.75; 108 - 13.125 = 94.875
        [*RISE, (100, 101, 94, 100)],
        [BUY],
        {"atr_multiple": 3.0},
        [(5, 10, 100.0), (9, -10, 94.875)],
        [None] * 4 + [94.0, 94.0, 94.0, 94.875, None],
    ),
    # Period 1 is the last true range: 2, 5, 2, 6: 100 - 4, 104 - 10, 102 - 4 = 98, 108 - 12.
    "atr_period 1 is the last range": (
        [*RISE, (100, 101, 97, 100)],
        [BUY],
        {"atr_period": 1},
        [(5, 10, 100.0), (9, -10, 98.0)],
        [None] * 4 + [96.0, 96.0, 98.0, 98.0, None],
    ),
    # Bar 7 goes to 90 and closes above 97; bar 8 closes at 96.5, out at the open of bar 9.
    "trigger close waits for the close and leaves at the open": (
        [*RISE[:6], (104, 104, 90, 102), (102, 102, 96, 96.5), GAP],
        [BUY],
        {"trigger": "close"},
        [(5, 10, 100.0), (9, -10, 95.0)],
        [None] * 4 + [96.0, 97.0, 97.0, 97.0, None],
    ),
    "trigger close leaves at a close of exactly the stop": (
        [*RISE[:6], (104, 104, 97, 97), GAP],
        [BUY],
        {"trigger": "close"},
        [(5, 10, 100.0), (8, -10, 95.0)],
        [None] * 4 + [96.0, 97.0, 97.0, None],
    ),
    "trigger close stays at a close just above the stop": (
        [*RISE[:6], (104, 104, 97, 97.0625), (98, 99, 97.5, 98)],
        [BUY],
        {"trigger": "close"},
        [(5, 10, 100.0)],
        [None] * 4 + [96.0, 97.0, 97.0, 97.0],
    ),
    "stays when the low is just above the stop": (
        [*RISE, (100, 101, 99.3125, 100)],
        [BUY],
        {},
        [(5, 10, 100.0)],
        [*TRAIL, 99.25],
    ),
    "fills when the low is exactly the stop": (
        [*RISE, (100, 101, 99.25, 100)],
        [BUY],
        {},
        [(5, 10, 100.0), (9, -10, 99.25)],
        [*TRAIL, None],
    ),
    # 3 - 4 = -1: nothing rests. Bar 6: TR 6, ATR 4, level 9 - 8 = 1.
    "rests nothing at or below zero": (
        [*flat(5, price=3), (3, 9, 3, 9), (9, 9, 0.5, 5)],
        [BUY],
        {},
        [(5, 10, 3.0), (7, -10, 1.0)],
        [None] * 5 + [1.0, None],
    ),
    "covers what was scaled in and does not loosen": (
        [*RISE, TOUCH],
        [BUY, order(6, "buy", size=5)],
        {},
        [(5, 10, 100.0), (7, 5, 104.0), (9, -15, 99.25)],
        [*TRAIL, None],
    ),
    "covers what scaling out leaves": (
        [*RISE, TOUCH],
        [BUY, order(6, "sell", size=4)],
        {},
        [(5, 10, 100.0), (7, -4, 104.0), (9, -6, 99.25)],
        [*TRAIL, None],
    ),
    # The short of bar 7 was reviewed at the close of bar 6 (ATR 3.5): 104 + 7 = 111, and at its
    # close already 102 + 2 x 2.75 = 107.5, which bar 8 reaches.
    "follows a reversal to the other side": (
        RISE,
        [BUY, order(6, "sell", size=20)],
        {},
        [(5, 10, 100.0), (7, -20, 104.0), (8, 10, 107.5)],
        [None] * 4 + [96.0, 97.0, 107.5, None],
    ),
    "leaves the open to the user's own market exit": (
        [*RISE, TOUCH, *flat(1)],
        [BUY, order(8, "close")],
        {},
        [(5, 10, 100.0), (9, -10, 100.0)],
        [*TRAIL, None, None],
    ),
    "covers the rest of a partial market exit in the same bar": (
        [*RISE, TOUCH],
        [BUY, order(8, "sell", size=4)],
        {},
        [(5, 10, 100.0), (9, -6, 99.25), (9, -4, 100.0)],  # the stop was queued first
        [*TRAIL, None],
    ),
    "does not sell twice when a take-profit fills in the bar of the stop": (
        [*RISE, (100, 111, 99, 100), HIGH],
        [BUY, order(6, "sell", size=10, price=110.0, exectype=bt.Order.Limit)],
        {},
        [(5, 10, 100.0), (9, -10, 99.25)],
        [*TRAIL, None, None],
    ),
    "does not flip through a take-profit placed with the entry": (
        [*RISE, TOUCH, HIGH],
        [BUY, order(4, "sell", size=10, price=110.0, exectype=bt.Order.Limit)],
        {},
        [(5, 10, 100.0), (9, -10, 99.25)],
        [*TRAIL, None, None],
    ),
    # The short of 112 keeps its frozen distance of 4: 116. Bar 9: TR 9, ATR 6.6875; bar 10: TR 15,
    # ATR 10.84375, level 112 + 21.6875: farther away, so 116 stays.
    "lets a short entry above the take-profit live": (
        [*RISE, TOUCH, HIGH],
        [
            BUY,
            order(4, "sell", size=10, price=110.0, exectype=bt.Order.Limit),
            order(4, "sell", size=10, price=112.0, exectype=bt.Order.Limit),
        ],
        {},
        [(5, 10, 100.0), (9, -10, 99.25), (10, -10, 112.0)],
        [*TRAIL, None, 116.0],
    ),
    "withdraws when the user's take-profit fills": (
        [*RISE, (108, 111, 108, 108), (100, 101, 90, 100)],
        [BUY, order(5, "sell", size=10, price=110.0, exectype=bt.Order.Limit)],
        {},
        [(5, 10, 100.0), (9, -10, 110.0)],
        [*TRAIL, None, None],
    ),
    "stays when the user cancels every open order": (
        [*RISE, TOUCH],
        [BUY, order(6, "cancel_all"), order(8, "cancel_all")],
        {},
        [(5, 10, 100.0), (9, -10, 99.25)],
        [*TRAIL, None],
    ),
    # The second trade starts anew: fill 100 at bar 11 with ATR(10) = (6.6875 + 2) / 2 = 4.34375,
    # first stop 100 - 8.6875; bar 11 TR 2, ATR 3.171875, level 100 - 6.34375 = 93.65625.
    "begins anew with the next trade": (
        [*RISE, TOUCH, *flat(2)],
        [BUY, order(10, "buy", size=7)],
        {},
        [(5, 10, 100.0), (9, -10, 99.25), (11, 7, 100.0)],
        [*TRAIL, None, None, 93.65625],
    ),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CASES)
def test_stop_that(name, mode):
    rows, plan, params, fills, stops = CASES[name]
    strategy = taped(guarded(bars(*rows), **params), plan, mode)
    assert [fill[:1] + fill[2:] for fill in tape_of(strategy)["fills"]] == fills
    assert line(strategy) == stops


@pytest.mark.parametrize("maxcpus", [1, 2])
def test_an_optimisation_fills_as_single_runs_do(maxcpus):
    plans = [CASES[name][1] for name in CASES if CASES[name][0] == [*RISE, TOUCH, HIGH]]
    plans += [[BUY], [SELL]]
    single = [tape_of(taped(guarded(bars(*RISE, TOUCH, HIGH)), plan)) for plan in plans]
    engine = guarded(bars(*RISE, TOUCH, HIGH), observer=bt_risk.ATRTrailingStop)
    assert [tape_of(r) for r in optimised(engine, plans, maxcpus)] == single


def test_a_second_run_of_the_same_cerebro_equals_the_first():
    engine = guarded(bars(*RISE, TOUCH, HIGH))
    first = taped(engine, [BUY])
    second = engine.run()[0]
    assert tape_of(second) == tape_of(first)
    assert line(second) == line(first)


# -- parameters ----------------------------------------------------------------------------------

BAD = [
    ("atr_period", 0, "a whole number of at least 1"),
    ("atr_period", 2.5, "a whole number of at least 1"),
    ("atr_period", NAN, "a whole number of at least 1"),
    ("atr_multiple", 0.0, "positive and finite"),
    ("atr_multiple", -2.0, "positive and finite"),
    ("atr_multiple", math.inf, "positive and finite"),
    ("atr_multiple", "2", "positive and finite"),
    ("anchor", "low", "one of 'close', 'extreme', 'high'"),
    ("buffer", -0.1, "zero or more, and finite"),
    ("trigger", "tick", "one of 'intrabar', 'close'"),
    ("min_step", -1.0, "zero or more, and finite"),
    ("min_step", None, "zero or more, and finite"),
]


@pytest.mark.parametrize(("param", "value", "constraint"), BAD)
def test_a_bad_parameter_raises_and_says_what_would_be_good(param, value, constraint):
    engine = guarded(bars(*RISE), **{param: value})
    with pytest.raises(ParameterError) as caught:
        taped(engine)
    error = caught.value
    assert (error.component, error.param, error.constraint) == (
        "ATRTrailingStop",
        param,
        constraint,
    )
    assert error.value is value
    assert repr(value) in str(error)


@pytest.mark.parametrize("add", ["addobserver", "addobservermulti"])
def test_a_misspelt_parameter_raises(add):
    engine = cerebro(bars(*RISE))
    getattr(engine, add)(bt_risk.ATRTrailingStop, atr_multiplier=3.0)
    with pytest.raises((ParameterError, TypeError), match="atr_multiplier"):
        taped(engine)


def test_two_different_stops_behind_one_data_raise():
    engine = guarded(bars(*RISE))
    engine.addobserver(bt_risk.ATRTrailingStop, atr_period=2, atr_multiple=3.0)
    with pytest.raises(ParameterError, match="the same wherever it is added"):
        taped(engine)


def test_the_same_stop_added_twice_sells_once():
    engine = guarded(bars(*RISE, TOUCH))
    engine.addobserver(bt_risk.ATRTrailingStop, atr_period=2)
    tape = tape_of(taped(engine, [BUY]))
    assert tape["positions"][-1] == (0,)
    assert len(tape["fills"]) == 2


# -- several datas -------------------------------------------------------------------------------

# D0 trades every day, D1 on the even days only: bars 4, 6, 8 ... of D0. D1 warms up over four of
# its bars (days 2 to 8); the entry is placed on day 8 and fills on day 10, whose range goes to 90.
DAILY = bars(*flat(14), start="2020-01-01")
SPARSE_ROWS = [*flat(4), (100, 101, 90, 100), (99, 100, 97, 99), (98, 99, 95, 96)]


def sparse(rows):
    return bars(*rows, start="2020-01-02", freq="2D")


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "exactbars"])
def test_a_bar_of_another_data_does_not_trigger_the_stop(mode):
    """Day 11 has a bar of D0 only: BackBroker would try the stop on D1's bar of the entry."""
    engine = guarded(DAILY, sparse(SPARSE_ROWS))
    tape = tape_of(taped(engine, [order(8, "buy", data=1, size=10)], mode))
    assert tape["fills"] == [(10, "D1", 10, 100.0), (14, "D1", -10, 96.0)]
    assert [p[1] for p in tape["positions"]] == [0] * 9 + [10] * 4 + [0]


def test_a_level_set_at_a_close_is_not_filled_by_the_bar_it_came_from():
    """D1 closes at 110 after a low of 100: level 110 - 2 x ATR is above that low.

    Day 12: TR = 110 - 100 = 10, ATR = (2 + 10) / 2 = 6, level 98. Day 14: TR 0.5, ATR 3.25,
    level 110 - 6.5 = 103.5, above the low of day 12 and below every later one.
    """
    rows = [*flat(5), (100, 110, 100, 110), (110, 110, 109.5, 110), (104, 105, 103.75, 104)]
    engine = guarded(bars(*flat(16)), sparse(rows))
    tape = tape_of(taped(engine, [order(8, "buy", data=1, size=10)]))
    assert tape["fills"] == [(10, "D1", 10, 100.0)]


def test_each_data_has_its_own_stop():
    engine = guarded(bars(*RISE, TOUCH), bars(*mirror([*RISE, TOUCH])))
    plan = [BUY, order(4, "sell", data=1, size=3)]
    assert tape_of(taped(engine, plan))["fills"] == [
        (5, "D0", 10, 100.0),
        (5, "D1", -3, 100.0),
        (9, "D0", -10, 99.25),
        (9, "D1", 3, 100.75),
    ]


def test_addobserver_guards_every_data_and_addobservermulti_draws_each():
    frames = bars(*RISE, TOUCH), bars(*mirror([*RISE, TOUCH]))
    plan = [BUY, order(4, "sell", data=1, size=3)]
    drawn = {}
    for add in ("addobserver", "addobservermulti"):
        engine = cerebro(*frames)
        getattr(engine, add)(bt_risk.ATRTrailingStop, atr_period=2)
        strategy = taped(engine, plan)
        assert len(tape_of(strategy)["fills"]) == 4
        drawn[add] = strategy.stats.atrtrailingstop
    stop = [96.0, 97.0, 97.0, 99.25]
    assert list(drawn["addobserver"].lines.stop.array[4:8]) == stop
    short = [104.0, 103.0, 103.0, 100.75]
    assert [list(o.lines.stop.array[4:8]) for o in drawn["addobservermulti"]] == [stop, short]


# -- partial fills -------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_a_begun_stop_goes_on_as_a_market_order(mode):
    """Four units a bar: 4 + 4 + 2 at the opens of bars 5 to 7; the stop 4, then 4 + 2 at opens.

    After bar 9 the price is back at 112, far above the stop: what has begun is finished.
    """
    rows = [*RISE, TOUCH, (112, 113, 111, 112), (113, 114, 112, 113), (90, 91, 80, 90)]
    engine = guarded(bars(*rows))
    engine.broker.set_filler(bt.broker.fillers.FixedSize(size=4))
    strategy = taped(engine, [BUY], mode)
    assert [fill[:1] + fill[2:] for fill in tape_of(strategy)["fills"]] == [
        (5, 4, 100.0),
        (6, 4, 100.0),
        (7, 2, 104.0),
        (9, -4, 99.25),
        (10, -4, 112.0),
        (11, -2, 113.0),
    ]
    covered = [row[3] for row in strategy.stops]
    assert covered == [0, 0, 0, 0, 4, 8, 10, 10, 6, 2, 0, 0]


def test_a_resting_exit_shrinks_with_every_part_of_the_stop():
    """The take-profit of 10 would sell 6 when 4 are stopped out, and 2 after that."""
    rows = [*RISE, TOUCH, (105, 109, 104, 108), (109, 111, 108, 110), (112, 120, 112, 118)]
    engine = guarded(bars(*rows))
    engine.broker.set_filler(bt.broker.fillers.FixedSize(size=4))
    plan = [BUY, order(7, "sell", size=10, price=119.0, exectype=bt.Order.Limit)]
    tape = tape_of(taped(engine, plan))
    assert [p[0] for p in tape["positions"]] == [0, 0, 0, 0, 4, 8, 10, 10, 6, 2, 0, 0]
    assert tape["notes"][-1] == (11, 1, "Canceled")


# -- what the user sees --------------------------------------------------------------------------


def test_the_user_sees_the_fill_of_the_stop_and_not_its_moves():
    tape = tape_of(taped(guarded(bars(*RISE, TOUCH)), [BUY]))
    assert tape["notes"] == [
        (5, 0, "Submitted"),
        (5, 0, "Accepted"),
        (5, 0, "Completed"),
        (9, 1, "Completed"),
    ]


def test_the_stop_closes_the_trade_with_the_entrys_tradeid():
    """(99.25 - 100) x 10 = -7.5."""
    plan = [order(4, "buy", size=10, tradeid=7)]
    tape = tape_of(taped(guarded(bars(*RISE, TOUCH)), plan))
    assert tape["trades"] == [(9, 7, -7.5)]


class OneOrder(bt.Strategy):
    """The pattern of most tutorials: no new order while one is out."""

    params = {"plan": ()}

    def __init__(self):
        self.order, self.placed, self.stopped = None, 0, 0

    def notify_order(self, order):
        if order.status in (order.Completed, order.Canceled, order.Margin, order.Rejected):
            if self.order is None or order.ref != self.order.ref:
                self.stopped += 1
            self.order = None

    def next(self):
        if self.order is None and not self.position:
            self.placed += 1
            self.order = self.buy(size=10)


def test_the_one_order_pattern_places_as_many_orders_as_there_are_entries():
    strategy = taped(guarded(random_walk(3, 200, volatility=0.02)), strategy=OneOrder)
    assert strategy.stopped > 5
    assert strategy.placed == strategy.stopped + (1 if strategy.position else 0)


# -- two strategies on one broker ----------------------------------------------------------------


class First(Plan):
    """A strategy class of its own, so that two of them are two owners."""


class Second(Plan):
    """Another."""


def both(engine, first, second):
    engine.addstrategy(First, plan=first)
    engine.addstrategy(Second, plan=second)
    engine.addanalyzer(Tape, _name="tape")
    return engine.run()


def executed(strategy):
    return [fill[:1] + fill[2:] for fill in tape_of(strategy)["fills"]]


def test_two_strategies_have_each_their_own_stop():
    """The second enters at the open of bar 8, reviewed at bar 7: ATR 2.75, 102 - 5.5 = 96.5.

    At its close the level is 99.25 for both.
    """
    engine = guarded(bars(*RISE, TOUCH))
    one, two = both(engine, [BUY], [order(7, "buy", size=5)])
    assert executed(one) == [(5, 10, 100.0), (9, -10, 99.25)]
    assert executed(two) == [(8, 5, 102.0), (9, -5, 99.25)]
    assert line(one) == [*TRAIL, None]
    assert line(two) == [None] * 7 + [99.25, None]
    assert [row[3] for row in one.stops][4:8] == [10] * 4
    assert engine.broker.getposition(engine.datas[0]).size == 0


def test_the_first_stop_of_one_strategy_does_not_come_from_the_other_ones_stop():
    """Entry 102 less 2 x 2.75 is 96.5; the other strategy's stop at 96 is 6 away, not 5.5.

    With a buffer of one ATR no level (100 - 6, 104 - 10.5, 102 - 8.25, 102 - 3 x 2.375) is above
    the first stops, so both stay.
    """
    rows = [*RISE[:7], (102, 103, 101, 102)]
    engine = guarded(bars(*rows), buffer=1.0)
    _, two = both(engine, [BUY], [order(7, "buy", size=5)])
    assert line(two)[-1] == 96.5


def test_one_strategys_exit_leaves_the_other_ones_stop():
    engine = guarded(bars(*RISE, TOUCH))
    one, two = both(engine, [BUY, order(6, "close")], [order(4, "buy", size=5)])
    sold = [sum(size for _, size, _ in executed(s)) for s in (one, two)]
    # close() of Backtrader closes the broker's position of 15, as without bt_risk.
    assert engine.broker.getposition(engine.datas[0]).size == 0
    assert sum(sold) == 0


# -- properties ----------------------------------------------------------------------------------


@st.composite
def price_rows(draw):
    count = draw(st.integers(12, 30))
    price, rows = 100.0, []
    move = st.floats(-0.12, 0.12)
    for _ in range(count):
        opening = price * (1 + draw(move) / 3)
        close = opening * (1 + draw(move))
        high = max(opening, close) * (1 + abs(draw(move)) / 2)
        low = min(opening, close) * (1 - abs(draw(move)) / 2)
        rows.append((opening, high, low, close))
        price = close
    return rows


ORDERS = st.lists(
    st.tuples(
        st.integers(3, 28),
        st.sampled_from(["buy", "sell"]),
        st.integers(1, 10),
        st.sampled_from([None, bt.Order.Limit, bt.Order.Stop]),
        st.floats(0.9, 1.1),
    ),
    max_size=8,
)


class Random(Plan):
    """Any order of any type; remembers every fill and which orders it made."""

    def __init__(self):
        super().__init__()
        self.filled = []

    def notify_order(self, order):
        self.filled += [(order.ref, bit.size) for bit in order.executed.iterpending()]

    def next(self):
        for bar, method, size, exectype, relative in self.p.plan:
            if bar == len(self):
                price = self.data.close[0] * relative if exectype is not None else None
                self.made.append(getattr(self, method)(size=size, price=price, exectype=exectype))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(price_rows(), ORDERS, st.sampled_from(["close", "extreme"]))
def test_whatever_the_orders_the_stop_tightens_covers_and_never_crosses_zero(rows, plan, anchor):
    strategy = taped(guarded(bars(*rows), anchor=anchor), plan, strategy=Random)
    for before, after in zip(strategy.stops, strategy.stops[1:], strict=False):
        if before[1] == after[1] and before[2] == after[2] and before[2] and before[0] == before[0]:
            assert before[2] * (after[0] - before[0]) >= 0
    for price, _, side, resting, size in strategy.stops:
        assert resting == (size if price == price else 0)
        assert side == 0 or not math.isnan(price)
    placed, held = {o.ref for o in strategy.made}, 0
    for ref, size in strategy.filled:
        if ref not in placed:
            assert size * held < 0
            assert abs(size) <= abs(held)
        held += size
    assert held == strategy.position.size


class LongOnly(bt.Strategy):
    """Buys, and has at most one exit out at a time: alone it could never be short."""

    params = {"plan": ()}

    def __init__(self):
        self.exit, self.lowest = None, 0.0

    def next(self):
        self.lowest = min(self.lowest, self.position.size)
        for bar, what, size, relative in self.p.plan:
            if bar != len(self):
                continue
            held = self.position.size
            if what == "buy":
                self.buy(size=size)
            elif held > 0 and (self.exit is None or not self.exit.alive()):
                self._leave(what, held, self.data.close[0] * relative)

    def _leave(self, what, held, price):
        if what == "close":
            self.exit = self.close()
        elif what == "limit":
            self.exit = self.sell(size=held, price=price, exectype=bt.Order.Limit)
        else:
            self.exit = self.sell(
                size=held, price=2 * self.data.close[0] - price, exectype=bt.Order.Stop
            )

    def notify_order(self, order):
        self.lowest = min(self.lowest, self.position.size)


EXITS = st.lists(
    st.tuples(
        st.integers(3, 28),
        st.sampled_from(["buy", "close", "limit", "stop"]),
        st.integers(1, 10),
        st.floats(1.0, 1.15),
    ),
    max_size=10,
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(price_rows(), EXITS, st.sampled_from(["intrabar", "close"]), st.sampled_from([None, 3]))
def test_a_strategy_that_never_means_to_be_short_never_is(rows, plan, trigger, filler):
    engine = guarded(bars(*rows), observer=bt_risk.ATRTrailingStop, trigger=trigger)
    if filler:
        engine.broker.set_filler(bt.broker.fillers.FixedSize(size=filler))
    assert taped(engine, plan, strategy=LongOnly).lowest == 0.0


def test_the_line_of_a_run_in_pieces_is_the_line_of_the_whole():
    """No look-ahead: the first 60 bars alone give the same stops."""
    walk = random_walk(5, 120, volatility=0.02)
    plan = [order(b, "buy", size=10) for b in range(20, 120, 20)]
    whole = line(taped(guarded(walk), plan))
    piece = line(taped(guarded(walk.iloc[:60]), plan))
    assert piece == whole[:60]
    assert pd.Series(piece).notna().sum() > 10
