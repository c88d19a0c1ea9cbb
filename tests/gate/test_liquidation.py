"""Where inside a bar a margin account is liquidated, and at what price.

The market stands still at 100; bar 6 executes what was ordered on bar 5. At 20x without maintenance
margin a long from 100 is liquidated at 95, and a short at 105: shorts see the mirror image.
"""

import math
from datetime import datetime

import backtrader as bt
import numpy as np
import pytest
from helpers.scenarios import MODES, Plan, Tape, bars, cerebro, flat, tape_of, taped
from helpers.step_ledger import Ledger

import bt_risk
from bt_risk.monitors.margin import MarginMonitor

TWENTY = bt_risk.MarginAccount(20, tiers=[(0, 0.0)], buffer=None, call=1.0)
CALM = (100, 101, 99, 100)
BUY = (5, "buy", {"size": 1000})


def priced(bar, method, kind, price, size=1000):
    return (bar, method, {"size": size, "exectype": getattr(bt.Order, kind), "price": price})


def stop(price, size=1000, bar=5):
    return priced(bar, "sell", "Stop", price, size)


LIMIT_ABOVE = {"price": 96.0, "plimit": 98.0}
# name: bars from bar 6 on, orders, fills from bar 6 on as (bar, size, price)
LONG = {
    "the low is the liquidation price": (
        [CALM, (100, 101, 95, 99)],
        *([BUY], [(6, 1000, 100), (7, -1000, 95)]),
    ),
    "the low is above it": ([CALM, (100, 101, 95.01, 99)], [BUY], [(6, 1000, 100)]),
    "the bar of the entry counts": ([(100, 101, 90, 99)], [BUY], [(6, 1000, 100), (6, -1000, 95)]),
    "a gap is liquidated at the open": (
        [CALM, (94, 96, 90, 95)],
        *([BUY], [(6, 1000, 100), (7, -1000, 94)]),
    ),
    "a stop that is nearer fills first": (
        [CALM, (100, 101, 90, 99)],
        *([BUY, stop(96.0)], [(6, 1000, 100), (7, -1000, 96)]),
    ),
    "a gap beyond the stop alone fills the stop at the open": (
        [CALM, (95.5, 96, 90, 95)],
        *([BUY, stop(96.0)], [(6, 1000, 100), (7, -1000, 95.5)]),
    ),
    "a gap beyond both is a liquidation at the open": (
        [CALM, (94, 96, 90, 95)],
        *([BUY, stop(96.0)], [(6, 1000, 100), (7, -1000, 94)]),
    ),
    "a stop at the liquidation price is a stop": (
        [CALM, (100, 101, 90, 99)],
        *([BUY, stop(95.0)], [(6, 1000, 100), (7, -1000, 95)]),
    ),
    "a stop that is farther away comes too late": (
        [CALM, (100, 101, 90, 99)],
        *([BUY, stop(92.0)], [(6, 1000, 100), (7, -1000, 95)]),
    ),
    "a stop that is farther away comes too late in the bar of the entry": (
        [(100, 101, 90, 99)],
        *([BUY, stop(92.0)], [(6, 1000, 100), (6, -1000, 95)]),
    ),
    "a stop for a part of it fills before the rest is liquidated": (
        [CALM, (100, 101, 90, 99)],
        *([BUY, stop(97.0, 400)], [(6, 1000, 100), (7, -600, 95), (7, -400, 97)]),
    ),
    "a profit that the same bar may have shown comes too late": (
        [CALM, (100, 120, 94, 100)],
        [BUY, priced(5, "sell", "Limit", 110.0)],
        [(6, 1000, 100), (7, -1000, 95)],
    ),
    "a profit in the bar of the entry comes too late": (
        [(100, 120, 94, 100)],
        [BUY, priced(5, "sell", "Limit", 110.0)],
        [(6, 1000, 100), (6, -1000, 95)],
    ),
    "a limit that is marketable when the position is opened fills with it": (
        [(100, 101, 90, 99)],
        *([BUY, priced(5, "sell", "Limit", 99.0)], [(6, 1000, 100), (6, -1000, 100)]),
    ),
    "a limit for a part that is marketable at the entry leaves the rest": (
        [(100, 101, 90, 99)],
        [BUY, priced(5, "sell", "Limit", 100.0, 400)],
        [(6, 1000, 100), (6, -400, 100), (6, -600, 95)],
    ),
    "what is left and grows again in one bar goes at the price of its own": (
        [CALM, (101, 108, 98, 107)],
        [BUY, priced(6, "sell", "Limit", 104.0, 900), priced(6, "buy", "Stop", 107.0, 1900)],
        [(6, 1000, 100), (7, -900, 104), (7, 1900, 107), (7, -2000, 106.65 - 106.65 / 20)],
    ),
    "a market exit at the open goes first": (
        [CALM, (100, 101, 90, 99)],
        *([BUY, (6, "close", {})], [(6, 1000, 100), (7, -1000, 100)]),
    ),
    "a half of it leaves at the open": (
        [CALM, (100, 101, 90, 99)],
        [BUY, (6, "sell", {"size": 500})],
        [(6, 1000, 100), (7, -500, 95), (7, -500, 100)],
    ),
    "an entry at the close has not seen the low of its bar": (
        [(100, 101, 90, 100), (100, 101, 94, 100)],
        [(5, "buy", {"size": 1000, "exectype": bt.Order.Close})],
        [(6, 1000, 100), (7, -1000, 95)],
    ),
    "the low has followed a limit inside the bar": (
        [(100, 101, 92, 99)],
        [priced(5, "buy", "Limit", 98.0)],
        [(6, 1000, 98), (6, -1000, 98 - 98 / 20)],
    ),
    "the low may have followed a stop inside the bar": (
        [(100, 107, 99, 106)],
        [priced(5, "buy", "Stop", 106.0)],
        [(6, 1000, 106), (6, -1000, 106 - 106 / 20)],
    ),
    "a stop limit that would rest once it is reached protects nothing": (
        [CALM, (100, 101, 90, 92)],
        [BUY, (5, "sell", {"size": 1000, "exectype": bt.Order.StopLimit} | LIMIT_ABOVE)],
        [(6, 1000, 100), (7, -1000, 95)],
    ),
    "a stop that has expired protects nothing": (
        [CALM, (100, 101, 90, 92)],
        [BUY, (5, "sell", stop(96.0)[2] | {"valid": datetime(2020, 1, 6)})],
        [(6, 1000, 100), (7, -1000, 95)],
    ),
    "what is added moves the price": (
        [CALM, (110, 110, 99, 104)],
        [BUY, (6, "buy", {"size": 1000})],
        [(6, 1000, 100), (7, 1000, 110), (7, -2000, 105 - 105 / 20)],
    ),
}


def mirrored(rows):
    return [(200 - o, 200 - low, 200 - high, 200 - c) for o, high, low, c in rows]


def turned(orders):
    other = {"buy": "sell", "sell": "buy", "close": "close"}
    for bar, method, args in orders:
        prices = {name: 200 - args[name] for name in ("price", "plimit") if name in args}
        yield bar, other[method], args | prices


def gate_with(engine, guard, **facts):
    engine.setbroker(bt_risk.RiskBroker(engine.broker, guards=[guard], **facts))


def played(rows, orders, short=False, guard=TWENTY, mode="runonce", cash=100_000.0, fast=False):
    rows = [*flat(5), *rows, *flat(2, rows[-1][-1])]
    engine = cerebro(bars(*(mirrored(rows) if short else rows)), cash=cash)
    gate_with(engine, guard)
    if fast:
        bt_risk.fast(engine)
    return taped(engine, list(turned(orders)) if short else orders, mode)


def fills(result, short=False):
    found = tape_of(result)["fills"]
    return [(bar, -size if short else size, 200 - p if short else p) for bar, _, size, p in found]


def monitor(result):
    return result.broker.registry.monitor(MarginMonitor)


def test_a_gap_after_an_entry_at_the_last_close_is_a_gap():
    engine = cerebro(bars(*flat(5), (90, 91, 89, 90), *flat(2, 90.0)))
    engine.broker.set_coc(True)
    gate_with(engine, TWENTY)
    result = taped(engine, [BUY])
    assert fills(result) == [(6, 1000, 100), (6, -1000, 90)]
    (reason,) = [line[-1] for line in result.broker.journal.lines if line[3] == "liquidation"]
    assert "liquidated at the open, which is beyond its liquidation price: 90" in reason


@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("name", LONG)
def test_the_worst_that_the_bar_can_show_counts(name, short):
    rows, orders, expected = LONG[name]
    if short and "inside the bar" in name:  # the margin is a share of another price there
        entry, last = 200 - expected[0][2], len(expected) - 1
        expected = [*expected[:last], (6, -1000, 200 - (entry + entry / 20))]
    if short and "grows again" in name:
        expected = [*expected[:3], (7, -2000, 200 - (93.35 + 93.35 / 20))]
    if short and "added" in name:
        expected = [*expected[:2], (7, -2000, 200 - (95 + 95 / 20))]
    result = played(rows, orders, short)
    found = fills(result, short)
    assert [f[:2] for f in found[: len(expected)]] == [f[:2] for f in expected]
    assert [f[2] for f in found[: len(expected)]] == pytest.approx([f[2] for f in expected])
    assert not [fill for fill in found[len(expected) :] if fill[0] <= 5 + len(rows)]
    if not result.position:  # cash is what the fills brought, and insurance
        brought = -sum(size * price for _, size, price in found)
        insured = sum(one.insured for one in monitor(result).liquidations)
        assert result.broker.getvalue() == pytest.approx(100_000 + brought + insured)


def test_a_limit_beyond_the_entry_comes_too_late_whatever_the_open_was():
    """BackBroker would fill it at the open, before the entry; it opens what it was allowed to."""
    orders = [priced(5, "buy", "Limit", 98.0), priced(5, "sell", "Limit", 98.5)]
    found = fills(played([(100, 101, 90, 99)], orders, False), False)
    assert [fill[1] for fill in found] == [1000, -1000, -1000]
    assert found[1][2] == pytest.approx(98 - 98 / 20)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_every_engine_does_the_same(mode, fast):
    rows, orders, expected = LONG["the low is the liquidation price"]
    result = played(rows, orders, mode=mode, fast=fast)
    assert fills(result) == expected
    assert result.broker.getvalue() == 100_000 - 5_000
    assert tape_of(result)["values"][-3:] == [95_000.0] * 3
    assert tape_of(result)["trades"] == [(7, 0, -5_000.0)]


# ---------------------------------------------------------------- the account


PATH = [100, 100, 100, 100, 98.5, 97, 98, 100, 102, 104, 104.894726, 104.894726]
FALL = bars(*[(a, max(a, b), min(a, b), b) for a, b in zip([100, *PATH], PATH, strict=False)])
ALL_IN = [(1, "buy", {"size": 91_200})]


def test_backtrader_alone_goes_on_below_zero():
    engine = cerebro(FALL)
    engine.broker.setcommission(leverage=100)
    values = tape_of(taped(engine, ALL_IN))["values"]
    assert min(values) == pytest.approx(-173_600)
    assert values[-1] == pytest.approx(546_399, abs=1)


@pytest.mark.parametrize("mode", MODES)
def test_the_account_that_came_back_from_below_zero_is_liquidated(mode):
    # Half of 1 % maintains it: (100 - 1) / 0.995 = 99.4975, on bar 5, where the low is 98.5. Its
    # margin was 91,200; what is left of that is the maintenance margin.
    engine = cerebro(FALL)
    gate_with(engine, bt_risk.MarginAccount(100, buffer=None))
    result = taped(engine, ALL_IN, mode)
    (entry, exit_) = tape_of(result)["fills"]
    assert entry == (2, "D0", 91_200, 100.0)
    assert exit_ == (5, "D0", -91_200, pytest.approx(99 / 0.995, abs=1e-9))
    left = 100_000 - 91_200 * (100 - 99 / 0.995)
    assert tape_of(result)["values"][4:] == pytest.approx([left] * 8)
    assert left - 8_800 == pytest.approx(0.005 * 91_200 * 99 / 0.995)
    (done,) = monitor(result).liquidations
    assert (done.name, done.size, done.gap, done.insured) == ("D0", 91_200, False, 0.0)


def test_cross_the_whole_account_secures_it():
    # (91,200 x 100 - 100,000) / (91,200 x 0.995) = 99.4005...
    engine = cerebro(FALL)
    gate_with(engine, bt_risk.MarginAccount(100, mode="cross", buffer=None))
    _, exit_ = tape_of(taped(engine, ALL_IN))["fills"]
    assert exit_ == (5, "D0", -91_200, pytest.approx(9_020_000 / (91_200 * 0.995), abs=1e-9))


@pytest.mark.parametrize("short", [False, True])
def test_an_isolated_position_loses_no_more_than_its_margin(short):
    # The gap to 80 takes 20,000 of a margin of 5,000: insurance pays 15,000.
    result = played([CALM, (80, 80, 79, 80)], [BUY], short)
    assert fills(result, short)[1] == (7, -1000, 80)
    assert result.broker.getvalue() == pytest.approx(95_000)
    assert tape_of(result)["trades"] == [(7, 0, -5_000.0)]
    (done,) = monitor(result).liquidations
    assert (done.gap, done.insured) == (True, 15_000.0)


def test_cross_a_gap_may_take_more_than_the_account_and_that_is_said():
    guard = bt_risk.MarginAccount(20, tiers=[(0, 0.0)], mode="cross", buffer=None)
    result = played([CALM, (80, 80, 79, 80)], [BUY], guard=guard, cash=6_000.0)
    assert result.broker.getvalue() == -14_000.0
    (line,) = [one for one in result.broker.journal.lines if one[3] == "liquidation"]
    assert line[-1] == (
        "MarginAccount: long 1000 liquidated at the open, which is beyond its liquidation price: "
        "80; equity is -14,000.00: a gap took more than the account"
    )


def test_at_zero_a_breaker_that_pauses_halts_once():
    # Cross, 1,000 from 100 on 5,000: at 95 nothing is left. There is no mark to begin anew from.
    guard = bt_risk.MarginAccount(20, tiers=[(0, 0.0)], mode="cross", buffer=None)
    engine = cerebro(bars(*flat(5), CALM, (100, 100, 95, 95), *flat(20, 95)), cash=5_000.0)
    gate_with(engine, guard)
    engine.addanalyzer(bt_risk.DrawdownBreaker, action="pause", cooldown_bars=3)
    result = taped(engine, [BUY, (20, "buy", {"size": 1})])
    assert result.broker.getvalue() == 0.0
    lines = [line for line in result.broker.journal.lines if line[2] == "DrawdownBreaker"]
    assert [line[3] for line in lines] == ["halt", "flat", "note", "reject"]
    assert lines[0][-1] == "DrawdownBreaker: drawdown 1.0000 >= drawdown_limit 0.1000"
    assert lines[2][-1] == "cool-down over, and unit value is 0: it stays halted"


def test_an_entry_has_the_margin_of_what_is_sold_at_the_same_open():
    # 900 at 100 bind 4,500 of 5,000. The 800 of D1 are bought with what 500 of them leave: 2,500 +
    # 500 are 600 units; with 900 sold all of them.
    for sold, bought in ((500, 600), (900, 800)):
        engine = cerebro(bars(*flat(12)), bars(*flat(12)), cash=5_000.0)
        gate_with(engine, TWENTY)
        plan = [(5, "buy", {"size": 900, "data": 0}), (8, "sell", {"size": sold, "data": 0})]
        found = tape_of(taped(engine, [*plan, (8, "buy", {"size": 800, "data": 1})]))["fills"]
        assert [f[:3] for f in found[1:]] == [(9, "D0", -sold), (9, "D1", bought)]


def test_a_fee_is_part_of_the_trade_and_ends_at_the_margin():
    def result_of(fee, mmr):
        guard = bt_risk.MarginAccount(20, tiers=[(0, mmr)], buffer=None, liquidation_fee=fee)
        return played([CALM, (100, 101, 90, 99)], [BUY], guard=guard)

    # 95 / 0.99 = 95.9596; 0.5 % of 95,959.6 are 479.80, on top of 4,040.40.
    price = 95 / 0.99
    result = result_of(0.005, 0.01)
    assert result.broker.getvalue() == pytest.approx(100_000 - 1000 * (100 - price) - 5 * price)
    assert tape_of(result)["trades"][0][2] == pytest.approx(-1000 * (100 - price) - 5 * price)
    assert result_of(0.5, 0.01).broker.getvalue() == pytest.approx(95_000)


def test_two_strategies_share_a_liquidation_and_nothing_is_left_that_could_open():
    engine = cerebro(bars(*flat(5), CALM, (100, 101, 90, 99), *flat(3, 99)))
    gate_with(engine, TWENTY)
    for size in (600, 400):
        orders = [(5, "buy", {"size": size}), stop(92.0, size)]
        engine.addstrategy(Plan, plan=orders)
    first, second = engine.run()
    assert engine.broker.getvalue() == 95_000.0
    assert [s.position.size for s in (first, second)] == [0, 0]
    assert not engine.broker.get_orders_open()


def test_an_exit_that_was_sent_just_before_does_not_outlive_its_position():
    orders = [BUY, priced(6, "sell", "Limit", 120.0)]
    result = played([CALM, (100, 101, 90, 99), CALM], orders)
    assert [note[:3] for note in tape_of(result)["notes"] if note[1] == 1][-1] == (7, 1, "Canceled")


class Watched(Plan):
    """Keep which stops of the gate work at each bar: bar, units and price."""

    def next(self):
        super().next()
        working = self.broker.book.working.values()
        stops = [(w.remaining, w.price) for w in working if w.own and w.kind == "stop"]
        self.stops = getattr(self, "stops", {}) | {len(self): stops}


@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_what_a_liquidation_leaves_of_another_trade_has_one_stop(mode, short):
    """The stop of the trade that has ended is on its way through the bar when it is withdrawn.

    Bar 7 takes the profit of 400 at 101.5, finds nothing for the stop at 97 to close yet, and buys
    1,000 at 99 (short: sells at 101). They are liquidated 5 % from there, but for the 400 that the
    stop at 97 would have closed by then; these leave at the next open. Our stops are 20 x ATR away
    from the entry, and ATR(3) is 1.5 on bar 5.
    """
    calm = (100, 100.75, 99.25, 100)
    rows = [*[calm] * 6, (100, 103, 90, 96), *flat(3, 96)]
    orders = [
        (5, "buy", {"size": 400}),
        *(priced(5, "sell", "Limit", 101.5, 400), stop(97.0, 400)),
        priced(5, "buy", "Limit", 99.0),
    ]
    engine = cerebro(bars(*(mirrored(rows) if short else rows)), **MODES[mode])
    gate_with(engine, TWENTY)
    engine.addobserver(bt_risk.ATRTrailingStop, atr_period=3, atr_multiple=20.0)
    engine.addanalyzer(Tape)
    engine.addstrategy(Watched, plan=list(turned(orders)) if short else orders)
    result = engine.run()[0]

    left = 99 - (101 if short else 99) / 20
    first, second = (130.0, 131.0) if short else (70.0, 69.0)
    assert fills(result, short) == [
        *((6, 400, 100), (7, -400, 101.5), (7, 1000, 99)),
        *((7, -600, pytest.approx(left)), (8, -400, 96)),
    ]
    assert [result.stops[bar] for bar in (6, 7, 8)] == [[(400, first)], [(400, second)], []]


@pytest.mark.parametrize("mode", ["isolated", "cross"])
def test_cross_positions_go_together_and_isolated_ones_alone(mode):
    guard = bt_risk.MarginAccount(20, tiers=[(0, 0.0)], mode=mode, buffer=None)
    fall = bars(*flat(5), CALM, (100, 101, 90, 99), *flat(3, 99))
    still = bars(*flat(10))
    engine = cerebro(fall, still, cash=10_000.0)
    gate_with(engine, guard)
    orders = [(5, "buy", {"size": 1000, "data": k}) for k in (0, 1)]
    found = tape_of(taped(engine, orders))["fills"][2:]
    # The other one falls to 99 at worst: 1 for every 10 of the first. 10,000 are gone at
    # 1000 x 10 t + 1000 x 1 t = 10,000: t = 1 / 1.1.
    together = [(7, "D0", -1000, 100 - 10 / 1.1), (7, "D1", -1000, 100 - 1 / 1.1)]
    alone = [(7, "D0", -1000, 95.0)]
    expected = together if mode == "cross" else alone
    assert [f[:3] for f in found] == [f[:3] for f in expected]
    assert [f[3] for f in found] == pytest.approx([f[3] for f in expected])


def test_what_has_no_bar_closes_at_its_next_open():
    guard = bt_risk.MarginAccount(20, tiers=[(0, 0.0)], mode="cross", buffer=None)
    fast_bars = bars(*flat(10), CALM, (100, 100, 80, 85), *flat(12, 85), freq="12h")
    slow = bars(*flat(12))
    engine = cerebro(fast_bars, slow, cash=12_000.0)
    gate_with(engine, guard)
    orders = [(9, "buy", {"size": 1000, "data": k}) for k in (0, 1)]
    found = tape_of(taped(engine, orders))["fills"]
    closed = [f for f in found if f[2] < 0]
    assert [f[:3] for f in closed] == [(12, "D0", -1000), (13, "D1", -1000)]
    assert closed[1][3] == 100.0


@pytest.mark.parametrize("bad", [(100, math.nan, 90, 99), (94, 94, 101, 99), (100, 101, 0, 99)])
def test_a_bar_that_contradicts_itself_liquidates_nothing(bad):
    found = fills(played([CALM, bad, (100, 101, 96, 99)], [BUY]))
    assert found == [(6, 1000, 100)]


def test_observe_lends_and_liquidates_nothing():
    def run(guarded):
        engine = cerebro(FALL)
        engine.broker.setcommission(leverage=100)
        if guarded:
            policy = bt_risk.Policy(guards=[bt_risk.MarginAccount(50)], sizer=False)
            bt_risk.protect(engine, policy, mode="observe")
        return tape_of(taped(engine, ALL_IN))

    assert run(True) == run(False)


def test_the_schemes_of_the_user_come_back():
    class Fixed(bt.CommInfoBase):
        params = (
            ("stocklike", True),
            ("commission", 2.0),
            ("commtype", bt.CommInfoBase.COMM_FIXED),
        )

        def get_leverage(self):
            return 3.0

    engine = cerebro(bars(*flat(8), (100, 101, 90, 99), *flat(2, 99)))
    own = Fixed()
    engine.broker.addcommissioninfo(own, name="D0")
    schemes = dict(engine.broker.comminfo)
    gate_with(engine, TWENTY)
    result = taped(engine, [BUY])
    assert engine.broker.comminfo == schemes
    assert own.get_leverage() == 3.0
    # 4 x 1000 of commission, and 5 a unit.
    assert result.broker.getvalue() == 100_000 - 4_000 - 5_000


def test_a_future_keeps_its_own_margin():
    engine = cerebro(bars(*flat(5), CALM, (100, 101, 90, 99), *flat(2, 99)))
    engine.broker.setcommission(margin=1_000.0, mult=10.0)
    gate_with(engine, TWENTY)
    result = taped(engine, [(5, "buy", {"size": 10})])
    # 10 contracts x 10 x 100 are 10,000; a margin of 500 is gone at 95.
    assert fills(result)[1] == (7, -10, 95.0)
    assert result.broker.getvalue() == 99_500.0


# ---------------------------------------------------------------- an independent simulation


class Gambler(bt.Strategy):
    """Open and close at random, with stops at random; `fills` are those of its own orders."""

    params = {"seed": 0}

    def __init__(self):
        self.rng = np.random.default_rng(self.p.seed)
        self.fills, self.values, self.stops = [], [], {}

    def notify_order(self, order):
        if order.status == order.Margin:  # its stop would be an entry
            for other in self.broker.get_orders_open():
                if other.data is order.data:
                    self.cancel(other)
        if order.status in (order.Partial, order.Completed):
            liquidated = "liquidated" in (order.info.get("bt_risk") or "")
            for bit in order.executed.iterpending():
                name = order.data._name
                kind = "liquidated" if liquidated else order.getordername()
                self.fills.append((len(self), name, kind, bit.size, bit.price))

    def next(self):
        self.values.append(self.broker.getvalue())
        for data in self.datas:
            held = self.getposition(data).size
            draw = self.rng.random(4)
            working = [o for o in self.broker.get_orders_open() if o.data is data]
            if not held and draw[0] < 0.4 and not working:
                side = 1 if draw[1] < 0.5 else -1
                share = 0.1 + 0.25 * draw[2]
                size = round(share * self.broker.getvalue() * 20 / data.close[0], 3)
                if size > 0.0:
                    (self.buy if side > 0 else self.sell)(data, size)
                    if draw[3] < 0.5:
                        level = data.close[0] * (1 - side * (0.005 + 0.06 * draw[3]))
                        leave = self.sell if side > 0 else self.buy
                        leave(data, size, exectype=bt.Order.Stop, price=level)
            elif held and draw[0] < 0.15:
                for order in working:
                    self.cancel(order)
                self.close(data)


def jumpy(seed, count=12):
    """Return bars with wide ranges and some gaps."""
    rng = np.random.default_rng(seed)
    rows, last = [], 100.0
    for _ in range(count):
        opened = last * math.exp(rng.normal(0, 0.005) + (rng.random() < 0.1) * rng.normal(0, 0.06))
        close = opened * math.exp(rng.normal(0, 0.025))
        high = max(opened, close) * math.exp(abs(rng.normal(0, 0.015)))
        low = min(opened, close) * math.exp(-abs(rng.normal(0, 0.015)))
        rows.append((opened, high, low, close))
        last = close
    return rows


TIERS = [(0, 0.004), (4_000, 0.006), (20_000, 0.01), (60_000, 0.025)]


def compare_with_steps(seed):
    """Return how many liquidations a run had that equals the step simulation in all of them."""
    mode = "isolated" if seed % 2 else "cross"
    rows = [jumpy(1_000_000 + 2 * seed + k) for k in range(2)]
    guard = bt_risk.MarginAccount(
        20,
        tiers=TIERS,
        mode=mode,
        buffer=None,
        call=1.0,
        liquidation_fee=0.0 if seed % 3 else 0.002,
    )
    engine = cerebro(*(bars(*one) for one in rows), cash=10_000.0)
    gate_with(engine, guard)
    engine.addstrategy(Gambler, seed=seed)
    result = engine.run()[0]
    ledger = Ledger(10_000.0, 20.0, TIERS, mode, guard.liquidation_fee)
    values, liquidations = ledger.replay(rows, result.fills)
    found = sorted((f[0], f[1], *f[3:]) for f in result.fills if f[2] == "liquidated")
    assert [f[:2] for f in found] == [f[:2] for f in liquidations], seed
    assert [f[2] for f in found] == pytest.approx([f[2] for f in liquidations]), seed
    assert [f[3] for f in found] == pytest.approx([f[3] for f in liquidations], rel=1e-9), seed
    assert result.values == pytest.approx(values, rel=1e-9, abs=1e-6), seed
    return len(found)


def test_random_paths_equal_an_independent_step_simulation():
    assert sum(compare_with_steps(seed) for seed in range(150)) > 80  # of two paths each


@pytest.mark.parametrize(
    "block",
    [pytest.param(k, marks=pytest.mark.soak if k % 5 else pytest.mark.full) for k in range(10)],
)
def test_thousands_of_random_paths_equal_an_independent_step_simulation(block):
    first = 1_000 + 250 * block
    assert sum(compare_with_steps(seed) for seed in range(first, first + 250)) > 100


# ---------------------------------------------------------------- funding and interest


def held_for_a_while(short=False, **costs):
    guard = bt_risk.MarginAccount(20, tiers=[(0, 0.0)], buffer=None, **costs)
    return played([CALM, CALM, CALM, CALM], [BUY, (8, "close", {})], short, guard)


@pytest.mark.parametrize("short", [False, True])
def test_a_long_pays_funding_and_a_short_is_paid(short):
    # Entry on the 6th, exit at the open of the 9th: those of the 7th to the 9th count, on 100,000.
    days = [(f"2020-01-{day:02}", 0.0001) for day in range(1, 15)]
    result = held_for_a_while(short, funding=days)
    paid = -30.0 if short else 30.0
    assert result.broker.getvalue() == pytest.approx(100_000 - paid)
    assert tape_of(result)["trades"] == [(9, 0, pytest.approx(-paid))]
    assert result.broker.journal.trades[0].pnl == pytest.approx(-paid)
    assert monitor(result).funding == pytest.approx(paid)
    assert result.broker.journal.lines[-1][-1] == (
        f"MarginAccount: {paid:,.2f} of funding and 0.00 of interest were paid for what was held"
    )


def test_interest_is_paid_on_what_is_borrowed():
    # 95,000 of the long, all of the short: 3.65 % a year are 0.01 % a day, for three days.
    assert held_for_a_while(borrow_rate=0.0365).broker.getvalue() == pytest.approx(100_000 - 28.5)
    assert held_for_a_while(True, borrow_rate=0.0365).broker.getvalue() == pytest.approx(99_970)


def below_zero(rows, guard, side=1):
    """Hold 1,000 units that were opened at -100, until the run ends; return the strategy."""
    engine = cerebro(bars(*flat(5, -100.0), *rows))
    facts = {"D0": {"negative_prices": True}}
    engine.setbroker(bt_risk.RiskBroker(engine.broker, guards=[guard], instruments=facts))
    return taped(engine, [(5, "buy" if side > 0 else "sell", {"size": 1000})])


@pytest.mark.parametrize(("side", "interest"), [(1, 28.5), (-1, 30.0)])
def test_interest_is_paid_at_prices_below_zero(side, interest):
    guard = bt_risk.MarginAccount(20, tiers=[(0, 0.0)], buffer=None, borrow_rate=0.0365)
    result = below_zero(flat(4, -100.0), guard, side)
    assert monitor(result).interest == pytest.approx(interest)
    assert all(math.isnan(sample.distance) for sample in monitor(result).samples)


def test_a_price_of_zero_ends_no_run():
    guard = bt_risk.MarginAccount(20, tiers=[(0, 0.0)], buffer=None)
    rows = [(-100, -99, -101, -100), (-100, 1, -101, 0), *flat(2, 0.0)]
    assert below_zero(rows, guard).position.size == 1000


@pytest.mark.parametrize("side", [1, -1])
def test_a_liquidation_below_zero_costs_its_fee_and_never_brings_one(side):
    """A margin of 5,000 less 1 % of what the position is worth: at -104 (or -96) 1,000 is left.

    From -100 a loss of 4 leaves 1,000 of 5,000, and the maintenance margin is 1 % of 104,000 (or
    96,000): it is reached when 5,000 - 1,000 x = 10 (100 + x), or 10 (100 - x) for the short.
    """
    guard = bt_risk.MarginAccount(20, tiers=[(0, 0.01)], buffer=None, liquidation_fee=0.005)
    rows = [(-100, -99, -101, -100), (-100, -90, -110, -100), *flat(2, -100.0)]
    result = below_zero(rows, guard, side)
    (done,) = monitor(result).liquidations
    lost = 4_000 / 1_010 if side > 0 else 4_000 / 990
    assert done.price == pytest.approx(-100 - side * lost)
    assert done.fee == pytest.approx(min(0.005 * 1000 * -done.price, 5_000 - 1_000 * lost))


def test_funding_brings_liquidation_nearer_in_cross_mode():
    guard = bt_risk.MarginAccount(
        20, tiers=[(0, 0.0)], mode="cross", buffer=None, funding=[("2020-01-07", 0.01)]
    )
    rows = [CALM, (100, 101, 80, 85)]
    result = played(rows, [BUY], guard=guard, cash=10_000.0)
    # 10,000 less 1 % of 100,000: 9 a unit.
    assert fills(result)[1] == (7, -1000, pytest.approx(91.0))
