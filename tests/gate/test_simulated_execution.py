"""Orders of one bar in a backtest: which of them BackBroker executes first, and which it cannot."""

from datetime import timedelta
from functools import partial

import backtrader as bt
import pytest
from helpers import scenarios as feeds
from helpers.frames import PandasData
from helpers.recording import breaker_out_of_reach, ends, fills, limit_orders, play
from helpers.scenarios import bars, cerebro, flat

import bt_risk
from bt_risk.limits.base import NotionalLimit
from bt_risk.limits.exposure import ExposureLimit


def test_a_close_of_one_strategy_goes_before_the_stop_of_the_other():
    """close() sells what both hold, at the open of 97: nothing is left for the stop at 95."""
    engine = cerebro(bars(*flat(18), (97, 98, 90, 92), (92, 93, 91, 92)))
    engine.addobserver(bt_risk.ATRTrailingStop, atr_multiple=2.5)
    engine.addstrategy(feeds.Script, actions={15: lambda s: s.buy(size=10)})
    engine.addstrategy(feeds.Script, actions={15: lambda s: s.buy(size=5), 18: lambda s: s.close()})
    first, second = engine.run()
    assert fills(first) == [(16, 10, 100.0)]
    assert fills(second) == [(16, 5, 100.0), (19, -15, 97.0)]


def test_an_unaffordable_entry_ends_margin_although_the_next_open_is_cheap():
    engine = cerebro(bars(*flat(3), *flat(3, price=90.0)))
    breaker_out_of_reach(engine)
    strategy = play(engine, {3: lambda s: (s.buy(size=1001), s.buy(size=1))})
    assert [end[0] for end in ends(strategy)] == ["Margin", "Margin"]


@pytest.mark.parametrize("fast", [True, False])
def test_a_limit_of_a_strategy_expires_beside_a_stop_that_rests(fast):
    """The bars are far from both: the stop is left alone, the limit ends after its three days."""
    engine = cerebro(bars(*flat(40)))
    bt_risk.protect(engine, bt_risk.Policy(atr_multiple=3.0), fast=fast)
    valid, limit = timedelta(days=3), bt.Order.Limit
    actions = {
        18: lambda s: s.buy(size=10),
        22: lambda s: s.sell(size=s.position.size, exectype=limit, price=200.0, valid=valid),
    }
    strategy = play(engine, actions)
    assert [row[0] for row in strategy.orders if row[2] == "Expired"] == [26]
    assert strategy.position.size > 0


@pytest.mark.parametrize("fast", [True, False])
def test_a_stop_that_was_left_alone_fills_on_the_bar_that_reaches_it(fast):
    engine = cerebro(bars(*flat(30), (99, 99, 80, 85), *flat(3, price=85.0)))
    bt_risk.protect(engine, bt_risk.Policy(atr_multiple=3.0), fast=fast)
    strategy = play(engine, {18: lambda s: s.buy(size=10)})
    assert strategy.position.size == 0
    assert [line[0] for line in fills(strategy)] == [19, 31]


@pytest.mark.parametrize("later", [1, 7, 8, 9, 10, 30, 519, 520, 521, 522, 600])
@pytest.mark.parametrize("reached", [(100, 113, 99, 100), (100, 101, 93, 100), (95, 95, 90, 91)])
@pytest.mark.parametrize("fast", [True, False])
def test_an_exit_fills_on_the_first_bar_that_reaches_it(fast, reached, later):
    """The stop is at 94, the target at 112; nothing is reached between the entry and that bar."""
    engine = cerebro(bars(*flat(18 + later), reached, *flat(3)))
    policy = bt_risk.Policy(atr_multiple=3.0, guards=[bt_risk.TakeProfit(2.0)])
    bt_risk.protect(engine, policy, fast=fast)
    strategy = play(engine, {18: lambda s: s.buy(size=10)})
    assert [line[0] for line in fills(strategy)] == [19, 19 + later]


def test_a_stop_that_has_moved_fills_at_its_new_price():
    """It rests for 40 bars and moves by three; the last bar reaches it, and not where it was."""
    rise = [(100 + k, 101 + k, 99 + k, 100 + k) for k in range(1, 4)]
    rows = [*flat(60), *rise, (103, 104, 102, 103), (103, 104, 96, 97), *flat(3, price=97.0)]
    found = []
    for fast in (True, False):
        engine = cerebro(bars(*rows))
        bt_risk.protect(engine, bt_risk.Policy(atr_multiple=3.0), fast=fast)
        found.append(fills(play(engine, {18: lambda s: s.buy(size=10)})))
    assert found[0] == found[1]
    assert [line[0] for line in found[0]] == [19, 65]


# Before our exits on the queue, behind them, and when it is known how long these are left alone.
@pytest.mark.parametrize("at", [10, 20, 35])
@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("cancels", [True, False])  # what has ended: notifications are read then
def test_an_order_that_got_around_the_gate_fills_beside_exits_that_are_left_alone(
    cancels, fast, at
):
    engine = cerebro(bars(*flat(45), (100, 101, 96.5, 100), *flat(3)))
    bt_risk.protect(engine, bt_risk.Policy(guards=[bt_risk.TakeProfit(2.0)]), fast=fast)

    def past_it(strategy):
        order = {"exectype": bt.Order.Limit, "price": 97.0, "_checksubmit": False}
        strategy.broker.inner.buy(strategy, strategy.data, 3, **order)
        for entry in strategy.broker.inner.orders[:1] if cancels else ():
            strategy.cancel(entry)

    strategy = play(engine, {16: lambda s: s.buy(size=10), at: past_it})
    assert [line[0] for line in fills(strategy)] == [17, 46]


# -- what an order may open is decided when it fills ----------------------------------------------


def behind_a_breaker(rows, actions, **options):
    engine = cerebro(bars(*rows))
    breaker_out_of_reach(engine)
    for key, value in options.items():
        getattr(engine.broker, key)(value)
    return play(engine, actions)


def test_a_second_close_of_the_bar_does_its_work_when_the_first_is_cancelled():
    made = []

    def twice(strategy):
        made.extend([strategy.close(), strategy.close()])
        strategy.broker.inner.submitted.remove(made[0])  # as if it had never been sent
        made[0].cancel()
        strategy.broker.inner.notify(made[0])

    strategy = behind_a_breaker(flat(24), {5: lambda s: s.buy(size=10), 20: twice})
    assert fills(strategy) == [(6, 10, 100.0), (21, -10, 100.0)]
    assert made[1].status == bt.Order.Completed


def test_two_closes_of_one_bar_leave_the_account_flat():
    """No limit would refuse the second; it opens nothing all the same."""
    actions = {5: lambda s: s.buy(size=10), 20: lambda s: (s.close(), s.close())}
    assert behind_a_breaker(flat(24), actions).held[-1] == (0,)


def test_a_part_and_a_close_of_one_bar_leave_the_account_flat():
    actions = {5: lambda s: s.buy(size=10), 20: lambda s: (s.sell(size=5), s.close())}
    strategy = behind_a_breaker(flat(24), actions)
    assert [end[:2] for end in ends(strategy)] == [
        ("Completed", 10),
        ("Completed", -5),
        ("Canceled", -5),
    ]
    assert strategy.held[-1] == (0,)


def test_a_close_and_an_order_of_one_bar_turn_the_position_round():
    """Only what ``close()`` sends is an exit in any case: the sale after it opens."""
    actions = {5: lambda s: s.buy(size=10), 20: lambda s: (s.close(), s.sell(size=10))}
    assert behind_a_breaker(flat(24), actions).held[-1] == (-10,)


def test_whichever_of_two_orders_fills_first_the_other_has_its_allowance():
    """10 held, to sell 10 at 110 closes, to sell 10 at 105 opens: both fill, and 10 are short."""
    rows = [*flat(22), (100, 106, 99, 105), (105, 112, 104, 111), *flat(2, price=111.0)]

    def two(strategy):
        return [
            strategy.sell(size=10, exectype=bt.Order.Limit, price=price) for price in (110.0, 105.0)
        ]

    strategy = behind_a_breaker(rows, {5: lambda s: s.buy(size=10), 20: two})
    assert fills(strategy) == [(6, 10, 100.0), (23, -10, 105.0), (24, -10, 110.0)]


@pytest.mark.parametrize("size", [4, 7])
def test_a_stop_that_is_reached_while_its_entry_fills_follows_what_fills(size):
    """The entry of 10 fills `size` a bar; its stop is reached on the first of these bars."""
    rows = [*flat(20), (100, 101, 94, 95), *flat(5)]

    def begin(strategy):
        strategy.buy(size=10)
        return strategy.sell(size=10, exectype=bt.Order.Stop, price=96.0)

    filler = bt.fillers.FixedSize(size=size)
    strategy = behind_a_breaker(rows, {20: begin}, set_filler=filler)
    assert sum(fill[1] for fill in fills(strategy) if fill[1] > 0) == 10
    assert sum(fill[1] for fill in fills(strategy)) == 0
    assert min(held for (held,) in strategy.held) == 0
    assert strategy.held[-1] == (0,)


def refused_again(rows, actions, *limits):
    engine = cerebro(bars(*rows))
    limit_orders(engine, *limits)
    return play(engine, actions)


def lone_stop(strategy):
    """Send an entry that never fills, and the stop of it."""
    strategy.buy(size=10, exectype=bt.Order.Limit, price=98.5, valid=timedelta(days=1))
    return strategy.sell(size=10, exectype=bt.Order.Stop, price=97.0)


@pytest.mark.parametrize(("limit", "held"), [(1.0, -10), (1e-6, 0)])
def test_a_stop_whose_entry_never_filled_is_reviewed_when_it_is_reached(limit, held):
    """In plain Backtrader it opens a short position: here that is an entry like any other."""
    rows = [*flat(24), (97, 97, 90, 91), *flat(3, price=91.0)]
    frozen = NotionalLimit(limit)
    actions = {20: lone_stop, 22: lambda s: s.broker.add_limit(frozen)}
    strategy = refused_again(rows, actions, NotionalLimit(1.0))
    assert strategy.held[-1] == (held,)
    last = ends(strategy)[-1]
    assert last[0] == ("Completed" if held else "Canceled")
    assert ("the entry that it closes did not fill" in last[3]) == (not held)


# -- rotation --------------------------------------------------------------------------------------


def names(count=2):
    """Return random walks of which all move alike."""
    first = feeds.random_walk(4, 140)
    return [first * (1 + 0.5 * k) for k in range(count)]


def rotation(side, frames=None, exit_kind=None, first="exit", size=60, filler=None):
    """Hold `size` of D0, then close it and open as much of D1 on one bar."""
    engine = cerebro(*(frames or names()))
    if filler is not None:
        engine.broker.set_filler(filler)
    engine.setbroker(bt_risk.CorrelationCap(engine.broker))

    def enter(strategy, data):
        return (strategy.buy if side > 0 else strategy.sell)(data, size=size)

    def rotate(strategy):
        exit_order = partial(strategy.close, strategy.data0, **(exit_kind or {}))
        steps = [exit_order, partial(enter, strategy, strategy.data1)]
        return [step() for step in steps[:: 1 if first == "exit" else -1]]

    return play(engine, {100: lambda s: enter(s, s.data0), 110: rotate})


@pytest.mark.parametrize("side", [1, -1])
def test_an_exit_that_was_sent_before_makes_room_at_the_same_open(side):
    strategy = rotation(side)
    assert strategy.held[-1] == (0, side * 60)


def test_an_exit_that_is_sent_after_the_entry_makes_no_room():
    strategy = rotation(1, first="entry")
    assert strategy.held[-1] == (0, 0)
    assert ends(strategy)[1][0] == "Rejected"


@pytest.mark.parametrize(
    "kind",
    [
        {"exectype": bt.Order.Limit, "price": 50.0},
        {"exectype": bt.Order.Close},
        {"exectype": bt.Order.Stop, "price": 500.0},
    ],
)
def test_an_exit_that_does_not_fill_at_the_open_makes_no_room(kind):
    strategy = rotation(1, exit_kind=kind)
    assert strategy.held[-1] == (0, 0)
    assert ends(strategy)[-1][0] == "Rejected"
    assert "CorrelationLimit" in ends(strategy)[-1][3]


@pytest.mark.parametrize("cause", ["no bar", "volume"])
def test_an_entry_whose_exit_has_not_filled_is_reviewed_again_at_the_open(cause):
    frames, filler = names(), None
    if cause == "no bar":
        frames[0] = frames[0].drop(frames[0].index[110:112])
    else:
        filler = bt.fillers.FixedSize(size=30)
    strategy = rotation(1, frames, filler=filler)
    last = ends(strategy)[-1]
    assert last[:2] == ("Canceled", 0)
    assert "CorrelationLimit" in last[3]
    assert "(the exit of D0 has not filled)" in last[3]
    assert strategy.held[-1] == (0, 0)


def test_a_daily_exit_makes_no_room_for_an_entry_of_the_next_hour():
    hours = feeds.random_walk(4, 24 * 90, freq="h")
    engine = bt.Cerebro(stdstats=False)
    hourly = PandasData(dataname=hours, timeframe=bt.TimeFrame.Minutes, compression=60)
    engine.adddata(hourly, name="hours")
    days = hours.resample("D").last().set_axis(hours.resample("D").last().index + timedelta(days=1))
    daily = PandasData(dataname=days, timeframe=bt.TimeFrame.Days)
    engine.adddata(daily, name="days")
    limit_orders(engine, ExposureLimit(0.5, "notional", "reject"))

    def rotate(strategy):
        return strategy.close(strategy.data1), strategy.buy(strategy.data0, size=30)

    strategy = play(engine, {24 * 40: lambda s: s.buy(s.data1, size=30), 24 * 60 + 5: rotate})
    assert [end[0] for end in ends(strategy)] == ["Completed", "Completed", "Rejected"]


def test_the_cash_of_an_exit_is_there_for_the_sizer():
    """Everything is in D0; what its sale brings buys D1 at the same open."""
    engine = cerebro(*[bars(*flat(40)), bars(*flat(40))])
    engine.addsizer(bt_risk.HalfKellySizer, warmup_risk=0.02, atr_multiple=1.0)
    actions = {
        20: lambda s: s.buy(s.data0, size=990),
        25: lambda s: (s.close(s.data0), s.buy(s.data1)),
    }
    strategy = play(engine, actions)
    assert strategy.held[-1] == (0, 1000)


def test_a_sale_of_one_strategy_is_no_exit_of_what_another_holds():
    engine = cerebro(bars(*flat(30)))
    breaker_out_of_reach(engine)
    engine.addstrategy(feeds.Script, actions={15: lambda s: s.buy(size=10)})
    engine.addstrategy(feeds.Script, actions={18: lambda s: s.sell(size=10)})
    first, second = engine.run()
    book = first.broker.book
    sizes = [book.part(book.instruments[0], one).size for one in (first, second)]
    assert sizes == [10, -10]
    assert first.held[-1] == (0,)


def test_the_stop_of_each_strategy_closes_its_own_part():
    """At 95 the stop of the long part fills, and leaves the short part in the account."""
    engine = cerebro(bars(*flat(24), (100, 100, 90, 91), *flat(3, price=91.0)))
    engine.addobserver(bt_risk.ATRTrailingStop, atr_multiple=2.5)
    engine.addstrategy(feeds.Script, actions={15: lambda s: s.buy(size=10)})
    engine.addstrategy(feeds.Script, actions={18: lambda s: s.sell(size=4)})
    first, second = engine.run()
    assert fills(first) == [(16, 10, 100.0), (25, -10, 95.0)]
    assert fills(second) == [(19, -4, 100.0)]
    assert first.held[-1] == (-4,)


def test_a_close_of_what_another_strategy_holds_never_opens():
    """The first strategy covers its short at the same open: nothing is left for the close()."""
    engine = cerebro(bars(*flat(30)))
    breaker_out_of_reach(engine)
    first = {15: lambda s: s.sell(size=10), 20: lambda s: s.buy(size=10)}
    engine.addstrategy(feeds.Script, actions=first)
    engine.addstrategy(feeds.Script, actions={20: lambda s: s.close()})
    _, second = engine.run()
    assert second.held[-1] == (0,)
    assert ends(second)[0][:2] == ("Canceled", 0)


def test_an_allowance_that_stood_behind_a_position_is_reviewed_before_it_opens():
    """400 long, a stop of 400 may open 400; another short uses the limit up meanwhile."""
    rows = [*flat(26), (100, 100, 90, 91), *flat(3, price=91.0)]
    engine = cerebro(bars(*rows), bars(*flat(30)))
    limit_orders(engine, ExposureLimit(0.5, "notional"))
    actions = {
        15: lambda s: (
            s.buy(s.data0, size=400, exectype=bt.Order.Stop, price=100.5),
            s.sell(s.data0, size=400, exectype=bt.Order.Stop, price=95.0),
        ),
        18: lambda s: s.sell(s.data1, size=500),
        20: lambda s: s.close(s.data0),
    }
    strategy = play(engine, actions)
    assert [held[0] for held in strategy.held][16:18] == [400] * 2
    assert strategy.held[-1][0] == 0 > strategy.held[-1][1]
    reasons = [end[3] for end in ends(strategy) if end[0] == "Canceled"]
    assert len(reasons) == 1
    assert reasons[0].endswith("(it stood behind a position since)")


@pytest.mark.parametrize("price", [0.0, -3.0])
def test_an_order_at_a_close_of_zero_waits_for_a_price(price):
    """A close that cannot be a price is no price to fill at: the next close is."""
    rows = [*flat(20), (100, 101, price, price), *flat(3)]
    strategy = behind_a_breaker(rows, {20: lambda s: s.buy(size=10, exectype=bt.Order.Close)})
    assert fills(strategy) == [(22, 10, 100.0)]


@pytest.mark.parametrize("stop", [False, True])
def test_a_close_opens_nothing_where_a_sale_of_the_bar_has_closed_a_part(stop):
    """By volume 4 fill on a bar: the sale closes 4 of the 10, and close() the other 6."""
    actions = {5: lambda s: s.buy(size=10), 20: lambda s: (s.close(), s.sell(size=10))}
    engine = cerebro(bars(*flat(30)))
    engine.broker.set_filler(bt.fillers.FixedSize(size=4))
    breaker_out_of_reach(engine)
    if stop:
        engine.addobserver(bt_risk.ATRTrailingStop, atr_multiple=10.0)
    strategy = play(engine, actions)
    assert [order.executed.size for order in strategy.made[1]] == [-6, -10]
    assert strategy.held[-1] == (-6,)
