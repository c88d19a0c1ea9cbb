"""A stop that is active from the fill of its entry on: what the bar of the entry may do to it.

The market stands still at 100 with an ATR of 2, so that a stop is 4 away; bar 6 executes what was
ordered on bar 5. Shorts see the mirror image.
"""

import dataclasses

import backtrader as bt
import pandas as pd
import pytest
from helpers.fake_broker import FakeBroker
from helpers.live_feed import LiveFrame
from helpers.scenarios import MODES, Plan, Script, bars, cerebro, flat, tape_of, taped

import bt_risk
from bt_risk.errors import ParameterError

OFF = dict.fromkeys(
    ("risk_limit", "notional_limit", "exposure_limit", "correlation_limit", "drawdown_limit")
)
ATTACHED = bt_risk.Policy(**OFF, atr_period=3, sizer=False, entry_stop="attached")
NEXT_BAR = dataclasses.replace(ATTACHED, entry_stop="next bar")
CALM = (100, 101, 99, 100)
BUY = (5, "buy", {"size": 100})


def priced(kind, price):
    return [(5, "buy", {"size": 100, "exectype": getattr(bt.Order, kind), "price": price})]


# name: bars from bar 6 on, orders, fills from bar 6 on as (bar, size, price)
LONG = {
    "the low reaches the stop": ([(100, 101, 95, 99)], [BUY], [(6, 100, 100), (6, -100, 96)]),
    "the low is the stop": ([(100, 101, 96, 99)], [BUY], [(6, 100, 100), (6, -100, 96)]),
    "the low stays above it": ([(100, 101, 96.5, 99), (99, 99, 98, 99)], [BUY], [(6, 100, 100)]),
    "the low has followed a limit inside the bar": (
        [(100, 101, 93, 99)],
        *(priced("Limit", 98.0), [(6, 100, 98), (6, -100, 94)]),
    ),
    "a limit that fills at the open": (
        [(97, 101, 92.5, 99)],
        *(priced("Limit", 98.0), [(6, 100, 97), (6, -100, 93)]),
    ),
    "the low may have followed a stop inside the bar": (
        [(100, 103, 97.5, 103)],
        *(priced("Stop", 102.0), [(6, 100, 102), (6, -100, 98)]),
    ),
    "the low is above the stop of a stop": (
        [(100, 103, 98.5, 103), CALM],
        *(priced("Stop", 102.0), [(6, 100, 102)]),
    ),
    "a stop that is above the open": (
        [(100, 107, 99, 106)],
        *(priced("Stop", 106.0), [(6, 100, 106), (6, -100, 102)]),
    ),
    "an entry at the close of a bar has not seen its low": (
        [(100, 101, 90, 100), (100, 101, 97, 100)],
        *([(5, "buy", {"size": 100, "exectype": bt.Order.Close})], [(6, 100, 100)]),
    ),
    "an entry at a close and the gap after it": (
        [(100, 101, 90, 100), (94, 95, 93, 94)],
        *([(5, "buy", {"size": 100, "exectype": bt.Order.Close})], [(6, 100, 100), (7, -100, 94)]),
    ),
    "a market exit of the same bar goes first": (
        [(100, 101, 90, 99)],
        *([BUY, (5, "sell", {"size": 100})], [(6, 100, 100), (6, -100, 100)]),
    ),
    "a half of it leaves at the open": (
        [(100, 101, 90, 99)],
        *([BUY, (5, "sell", {"size": 50})], [(6, 100, 100), (6, -50, 96), (6, -50, 100)]),
    ),
    "a position that is enlarged where a gap has closed it": (
        [CALM, (94, 95, 93, 94)],
        *([BUY, (6, "buy", {"size": 50})], [(6, 100, 100), (7, -100, 94), (7, 50, 94)]),
    ),
}


def mirrored(rows):
    return [(200 - o, 200 - low, 200 - high, 200 - c) for o, high, low, c in rows]


def turned(orders):
    """Return the orders of the mirror image."""
    other = {"buy": "sell", "sell": "buy", "close": "close"}
    for bar, method, args in orders:
        price = {"price": 200 - args["price"]} if "price" in args else {}
        yield bar, other[method], args | price


def played(rows, orders, short=False, policy=ATTACHED, mode="runonce", prepare=None, **options):
    rows = [*flat(5), *rows, *flat(2, rows[-1][-1])]
    engine = cerebro(bars(*(mirrored(rows) if short else rows)))
    if prepare is not None:
        prepare(engine)
    bt_risk.protect(engine, policy, **options)
    return taped(engine, list(turned(orders)) if short else orders, mode)


def fills(result, short=False):
    """Return the fills of the first bars as of a long position."""
    found = tape_of(result)["fills"]
    return [(bar, -size if short else size, 200 - p if short else p) for bar, _, size, p in found]


@pytest.mark.parametrize("mode", ["runonce", "exactbars"])
@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("name", LONG)
def test_the_worst_that_the_bar_can_show_counts(name, short, mode):
    rows, orders, expected = LONG[name]
    found = fills(played(rows, orders, short, mode=mode), short)
    assert found[: len(expected)] == expected
    assert not [fill for fill in found[len(expected) :] if fill[0] <= 5 + len(rows)]
    assert sum(size for _, size, _ in found) >= 0


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_every_engine_does_the_same(mode, fast):
    rows, orders, expected = LONG["the low reaches the stop"]
    result = played(rows, orders, mode=mode, fast=fast)
    assert fills(result) == expected
    assert result.broker.getvalue() == 100_000 - 400
    (trade,) = result.analyzers.riskjournal._journal.trades
    assert (trade.r_multiple, trade.loss.stopped_at_entry, trade.stopped) == (-1.0, True, True)
    assert result.analyzers.riskjournal.losses().sentences()[-1] == (
        "1 trades were stopped on the bar of the entry, for -1.00 R."
    )


def test_by_default_the_bar_of_the_entry_is_not_protected():
    rows, orders, _ = LONG["the low reaches the stop"]
    assert fills(played(rows, orders, policy=NEXT_BAR))[0] == (6, 100, 100)
    assert not [f for f in fills(played(rows, orders, policy=NEXT_BAR))[1:] if f[0] == 6]


def test_an_entry_at_the_last_close_has_seen_the_whole_bar():
    result = played([(94, 95, 93, 94)], [BUY], prepare=lambda e: e.broker.set_coc(True))
    assert fills(result) == [(6, 100, 100), (6, -100, 94)]


def test_slippage_and_contracts():
    def prepare(engine):
        engine.broker.setcommission(margin=100.0, mult=10.0)
        engine.broker.set_slippage_perc(0.01, slip_open=False)

    result = played([(100, 101, 90, 99)], [BUY], prepare=prepare)
    assert fills(result) == [(6, 100, 100), (6, -100, pytest.approx(95.04))]
    assert result.broker.getvalue() == pytest.approx(100_000 - 100 * 4.96 * 10)
    assert result.analyzers.riskjournal._journal.trades[0].loss.parts() == pytest.approx(
        {"venue": 0.24}
    )


def test_what_is_left_of_a_bar_after_the_stop_may_be_bought_again():
    rows = [(100, 101, 95, 99), (99, 100, 98, 99)]
    result = played(rows, [BUY, (6, "buy", {"size": 50})])
    assert fills(result)[:3] == [(6, 100, 100), (6, -100, 96), (7, 50, 99)]
    assert [trade.size for trade in result.analyzers.riskjournal._journal.trades][:1] == [100]


def test_a_filler_fills_a_part_and_the_stop_covers_that():
    def prepare(engine):
        engine.broker.set_filler(bt.fillers.FixedSize(size=40))

    found = fills(played([(100, 101, 95, 99)], [BUY], prepare=prepare))
    assert found[:2] == [(6, 40, 100), (6, -40, 96)]
    assert sum(size for bar, size, _ in found) >= 0


def test_two_strategies_have_each_their_own_stop():
    rows = [*flat(5), (100, 101, 95, 99), *flat(3, 99)]
    engine = cerebro(bars(*rows))
    bt_risk.protect(engine, ATTACHED)
    for size in (100, 50):
        engine.addstrategy(Plan, plan=[(5, "buy", {"size": size})])
    first, second = engine.run()
    assert not first.position.size
    assert not second.position.size
    assert [t.r_multiple for t in first.analyzers.riskjournal._journal.trades] == [-1.0, -1.0]


def test_words_and_a_trigger_that_cannot_be():
    assert "active within the bar of the entry" in ATTACHED.describe()
    assert "active within" not in NEXT_BAR.describe()
    with pytest.raises(ParameterError, match="entry_stop must be 'next bar' with trigger='close'"):
        bt_risk.Policy(entry_stop="attached", trigger="close")


def test_a_live_broker_gets_the_stop_with_the_fill_and_the_journal_says_so_once():
    engine = bt.Cerebro(stdstats=False)
    rows = [*flat(25), (100, 101, 95, 99), *flat(3, 99)]
    engine.adddata(LiveFrame(dataname=bars(*rows)), name="D0")
    engine.setbroker(FakeBroker())
    for _ in range(2):
        engine.addstrategy(Script, actions={20: lambda s: s.buy(size=10)})
    engine.addobserver(bt_risk.ATRTrailingStop, entry_stop="attached")
    engine.addanalyzer(bt_risk.RiskJournal)
    strategy, _ = engine.run()
    frame = strategy.analyzers.riskjournal.frame()
    reason = "entry_stop: the stop is sent when the broker reports the fill of its entry"
    assert list(frame["reason"]).count(reason) == 1


@pytest.mark.parametrize("fast", [True, False])
def test_a_stop_that_fills_in_part_within_the_bar_goes_on_at_the_next_open(fast):
    def prepare(engine):
        engine.broker.set_filler(lambda order, price, ago: 40 if order.isbuy() else 10)

    rows = [(100, 101, 95, 99), (98, 99, 97, 98), (98, 99, 97, 98), (98, 99, 97, 98)]
    orders = [(5, "buy", {"size": 40})]
    result = played(rows, orders, prepare=prepare, fast=fast)
    assert fills(result) == [(6, 40, 100), (6, -10, 96), *[(bar, -10, 98) for bar in (7, 8, 9)]]
    actions = result.analyzers.riskjournal.frame()["action"]
    assert not set(actions) & {"bypass", "unprotected"}
    notes = [note for note in tape_of(result)["notes"] if note[1] == 1]
    assert "Canceled" not in {status for _, _, status in notes}


def test_a_stop_that_has_filled_ends_completed():
    seen = []
    rows = [*flat(5), (100, 101, 95, 99), *flat(3, 99)]
    engine = cerebro(bars(*rows))
    bt_risk.protect(engine, ATTACHED)
    look = {
        5: lambda s: s.buy(size=100),
        6: lambda s: seen.extend(order.getstatusname() for order in s.broker.own.values()),
        7: lambda s: seen.append(len(s.broker.inner.pending)),
    }
    engine.addstrategy(Script, actions=look)
    engine.run()
    assert seen == ["Completed", 0]


def test_a_limit_that_fills_on_a_bar_that_is_over_is_not_stopped_by_that_bar():
    # The stop has moved to 98.3 by the close of bar 7, after its low of 96.5. On day 8 there is no
    # bar, and BackBroker fills the limit of 97 on bar 7.
    gappy = bars(*flat(5), CALM, (100, 110, 96.5, 110), (110, 111, 109, 110), *flat(2, 110))
    gappy.index = gappy.index[:7].append(gappy.index[7:] + pd.Timedelta(days=1))
    engine = cerebro(bars(*flat(11)), gappy)
    bt_risk.protect(engine, ATTACHED)
    limit = {"size": 50, "exectype": bt.Order.Limit, "price": 97.0, "data": 1}
    plan = [(6, "buy", {"size": 100, "data": 1}), (7, "buy", limit)]
    found = [fill[2:] for fill in tape_of(taped(engine, plan))["fills"]]
    assert found == [(100, 100), (50, 97)]


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("short", [False, True])
def test_a_stop_is_not_tried_again_on_the_bar_of_its_entry(short, fast):
    # Bought at the close of bar 6, after its low of 90. On day 7 this data feed has no bar: the
    # stop at 96 waits for that of day 8.
    rows = [*flat(5), (100, 101, 90, 100), (95, 99, 94, 98), *flat(3, 98)]
    gappy = bars(*(mirrored(rows) if short else rows))
    gappy.index = gappy.index[:6].append(gappy.index[6:] + pd.Timedelta(days=1))
    engine = cerebro(bars(*flat(11)), gappy)
    bt_risk.protect(engine, ATTACHED, fast=fast)
    plan = [(5, "buy", {"size": 100, "data": 1, "exectype": bt.Order.Close})]
    result = taped(engine, list(turned(plan)) if short else plan)
    assert fills(result, short)[1:] == [(8, -100, 95)]
