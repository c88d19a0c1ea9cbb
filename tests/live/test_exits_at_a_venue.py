"""Behind a live broker no exit is at the broker that could open a position."""

import backtrader as bt
import pytest
from helpers.capable_broker import CapableBroker
from helpers.hostile_brokers import reasons, run
from helpers.scenarios import flat

from bt_risk import NotionalLimit

LIMIT, STOP = bt.Order.Limit, bt.Order.Stop
GONE = "exit handover: the position it was to close is gone"
SIDES = pytest.mark.parametrize("side", [1, -1], ids=["long", "short"])
# Flat at 100, then a rise to 112 and a fall to 88, so that what rests is reached.
RISE = [*flat(34), (100, 112, 99, 111), *flat(5, price=111.0)]


def mirrored(rows, side):
    return rows if side > 0 else [(200 - o, 200 - low, 200 - h, 200 - c) for o, h, low, c in rows]


class Trader:
    """Give orders as if the side were long; keep each by name."""

    def __init__(self, side):
        self.side, self.made = side, {}

    def price(self, price):
        return price if self.side > 0 else 200 - price

    def enter(self, s, name, size=10, price=None, **options):
        send = s.buy if self.side > 0 else s.sell
        price = None if price is None else self.price(price)
        self.made[name] = send(size=size, price=price, **options)
        return self.made[name]

    def leave(self, s, name, size=10, price=None, **options):
        send = s.sell if self.side > 0 else s.buy
        price = None if price is None else self.price(price)
        self.made[name] = send(size=size, price=price, **options)
        return self.made[name]

    def close(self, s, name):
        self.made[name] = s.close()


def trade(side, rows, steps, *, stop=False, **options):
    """Run ``{bar: [call(strategy, trader), ...]}``; return venue, strategy, trader and journal."""
    names = ("can", "parts", "deaf", "lag", "slow", "broken", "reject")
    venue = CapableBroker(**{name: options.pop(name) for name in names if name in options})
    trader = Trader(side)

    def act(calls):
        return lambda s: [call(s, trader) for call in calls]

    actions = {bar: act(calls) for bar, calls in steps.items()}
    limits = options.pop("limits", [NotionalLimit(5.0)])
    settings = {"stop": stop, "limits": limits, "retry_after": 0.0} | options
    strategy, journal = run(venue, mirrored(rows, side), actions, **settings)
    return venue, strategy, trader, journal


def held(venue, side):
    return [side * size for size in venue.sizes]


def ends(strategy, order):
    """Return the statuses of an order under the number that the strategy knows, without doubles."""
    seen = [row[2] for row in strategy.orders if row[1] == order.ref]
    return [status for k, status in enumerate(seen) if not k or seen[k - 1] != status]


def resting(venue):
    return sorted(abs(order.executed.remsize) for order in venue._working)


def enter(s, t):
    t.enter(s, "entry")


def profit(s, t):
    t.leave(s, "profit", price=110.0, exectype=LIMIT)


def loss(s, t):
    t.leave(s, "loss", price=90.0, exectype=STOP)


# -- a market exit over what rests -----------------------------------------------------------------


@SIDES
@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize("lag", [0, 2])
def test_a_close_waits_until_the_take_profit_is_cancelled(side, stop, lag):
    steps = {20: [enter], 22: [profit], 25: [lambda s, t: t.close(s, "close")]}
    venue, strategy, trader, _ = trade(side, RISE, steps, stop=stop, lag=lag)
    assert held(venue, side) == [10, 0]
    assert not venue._working
    assert venue.requests[-1][0] == "send"  # after every cancel
    assert ends(strategy, trader.made["close"])[-1] == "Completed"
    assert ends(strategy, trader.made["profit"])[-1] == "Canceled"
    profits = [row[-1] for row in strategy.orders if row[1] == trader.made["profit"].ref]
    assert "gone" in profits[-1]
    assert strategy.broker.book.working == {}
    assert not strategy.broker.held_orders


@SIDES
def test_a_take_profit_that_fills_while_its_cancel_is_on_the_way_was_the_exit(side):
    rows = [*flat(25), (100, 112, 99, 111), *flat(8, price=111.0)]
    steps = {20: [enter], 22: [profit], 25: [lambda s, t: t.close(s, "close")]}
    venue, strategy, trader, _ = trade(side, rows, steps, lag=5)
    assert held(venue, side) == [10, 0]
    assert ends(strategy, trader.made["profit"])[-1] == "Completed"
    assert ends(strategy, trader.made["close"])[-1] == "Canceled"
    assert strategy.orders[-1][-1] == GONE or GONE in [row[-1] for row in strategy.orders]


@SIDES
@pytest.mark.parametrize("can", [(), ("replace",)])
def test_a_partial_exit_leaves_no_more_resting_than_is_held_after_it(side, can):
    steps = {20: [enter], 22: [profit], 25: [lambda s, t: t.leave(s, "part", size=4)]}
    venue, strategy, trader, _ = trade(side, RISE, steps, can=can)
    assert held(venue, side) == [10, 6, 0]
    assert ends(strategy, trader.made["part"])[-1] == "Completed"
    # What is left of its size has nothing to close, as in a simulation.
    assert ends(strategy, trader.made["profit"])[-2:] == ["Partial", "Canceled"]
    assert ends(strategy, trader.made["profit"]).count("Canceled") == 1
    sent = [row[3] for row in venue.requests if row[0] == "send"]
    assert sent == ([10, 10, 4] if can else [10, 10, 4, 6])
    assert strategy.broker.book.working == {}


@SIDES
@pytest.mark.parametrize("can", [(), ("replace",)])
def test_what_rests_is_whole_again_where_the_partial_exit_fails(side, can):
    steps = {20: [enter], 22: [profit], 25: [lambda s, t: t.leave(s, "part", size=4)]}
    venue, strategy, trader, _ = trade(side, RISE, steps, can=can, reject=("V3",))
    assert ends(strategy, trader.made["part"])[-1] == "Rejected"
    assert held(venue, side) == [10, 0]
    assert ends(strategy, trader.made["profit"])[-1] == "Completed"


@SIDES
def test_where_a_close_fails_our_stop_and_the_user_s_exits_rest_again(side):
    steps = {20: [enter], 22: [profit, loss], 25: [lambda s, t: t.close(s, "close")]}
    venue, strategy, trader, _ = trade(side, flat(34), steps, stop=True, reject=("V5",))
    assert ends(strategy, trader.made["close"])[-1] == "Rejected"
    assert held(venue, side) == [10]
    assert resting(venue) == [10, 10, 10]
    assert ends(strategy, trader.made["profit"])[-1] == "Accepted"
    assert ends(strategy, trader.made["loss"])[-1] == "Accepted"
    assert trader.made["profit"].alive()


@SIDES
def test_a_cancel_that_got_lost_holds_no_exit_for_ever(side):
    steps = {20: [enter], 22: [profit], 25: [lambda s, t: t.close(s, "close")]}
    venue, _, _, _ = trade(side, RISE, steps, deaf=(2,))
    assert held(venue, side) == [10, 0]


@SIDES
@pytest.mark.parametrize("can", [("oco",), ("oco", "replace")])
def test_a_partial_exit_keeps_the_alternatives_of_an_oco_group_together(side, can):
    def pair(s, t):
        profit(s, t)
        t.leave(s, "loss", price=90.0, exectype=STOP, oco=t.made["profit"])

    steps = {20: [enter], 22: [pair], 25: [lambda s, t: t.leave(s, "part", size=4)]}
    venue, strategy, trader, _ = trade(side, RISE, steps, can=can)
    assert held(venue, side) == [10, 6, 0]
    assert not venue._working
    assert "Canceled" in ends(strategy, trader.made["loss"])
    linked = [row[4]["oco"] is not None for row in venue.requests if row[0] == "send"]
    again = [] if "replace" in can else [False, True]
    assert linked == [False, False, True, False, *again]
    assert strategy.broker.book.working == {}


# -- two market exits ----------------------------------------------------------------------------


@SIDES
def test_two_closes_sell_the_position_once(side):
    both = [lambda s, t: t.close(s, "one"), lambda s, t: t.close(s, "two")]
    venue, strategy, trader, _ = trade(side, flat(34), {20: [enter], 25: both})
    assert held(venue, side) == [10, 0]
    assert ends(strategy, trader.made["two"])[-1] == "Canceled"
    assert GONE in [row[-1] for row in strategy.orders if row[1] == trader.made["two"].ref]


@SIDES
@pytest.mark.parametrize("fails", [False, True])
def test_a_close_after_a_partial_exit_sells_what_that_leaves(side, fails):
    both = [lambda s, t: t.leave(s, "part", size=4), lambda s, t: t.close(s, "close")]
    reject = ("V2",) if fails else ()
    venue, strategy, trader, _ = trade(side, flat(34), {20: [enter], 25: both}, reject=reject)
    assert held(venue, side) == ([10, 0] if fails else [10, 6, 0])
    assert ends(strategy, trader.made["close"])[-1] == "Completed"


@SIDES
def test_two_partial_exits_of_different_units_are_sent_at_once(side):
    both = [lambda s, t: t.leave(s, "a", size=4), lambda s, t: t.leave(s, "b", size=6)]
    venue, _, _, _ = trade(side, flat(34), {20: [enter], 25: both})
    assert held(venue, side) == [10, 6, 0]
    assert [row[3] for row in venue.requests] == [10, 4, 6]


@SIDES
def test_an_exit_that_may_open_more_does_so(side):
    """Of 25, 10 close what is held and 15 are an entry, once the take-profit is cancelled."""
    steps = {20: [enter], 22: [profit], 25: [lambda s, t: t.leave(s, "turn", size=25)]}
    venue, _, _, _ = trade(side, RISE, steps)
    assert held(venue, side) == [10, -15]


# -- exits of an entry that has not filled ---------------------------------------------------------


def limit_entry(s, t):
    t.enter(s, "entry", price=97.0, exectype=LIMIT)


DIP = [*flat(25), (100, 101, 96, 98), *flat(5, price=98.0), (98, 99, 88, 89), *flat(4, price=89.0)]


@SIDES
def test_a_stop_sent_with_its_entry_is_held_until_that_has_filled(side):
    venue, strategy, trader, _ = trade(side, DIP, {20: [limit_entry, loss]})
    verbs = [(row[0], row[3]) for row in venue.requests]
    assert verbs == [("send", 10), ("send", 10)]
    assert held(venue, side) == [10, 0]
    assert ends(strategy, trader.made["loss"])[-1] == "Completed"


@SIDES
def test_a_stop_whose_entry_is_cancelled_is_cancelled_with_its_reason(side):
    steps = {20: [limit_entry, loss], 23: [lambda s, t: s.cancel(t.made["entry"])]}
    venue, strategy, trader, _ = trade(side, DIP, steps)
    assert venue.sizes == []
    assert len([row for row in venue.requests if row[0] == "send"]) == 1
    reason = [row[-1] for row in strategy.orders if row[1] == trader.made["loss"].ref][-1]
    assert reason == "exit handover: the entry that it was to close did not fill"
    assert strategy.broker.book.working == {}


@SIDES
@pytest.mark.parametrize("can", [(), ("replace",)])
def test_a_stop_protects_what_has_filled_of_its_entry(side, can):
    """4 fill on bar 26; the rest does when the price comes back, on bar 32, before the stop."""
    rows = [*flat(25), (100, 101, 96, 98), *flat(5, price=98.0), (98, 99, 96.5, 98)]
    rows += [*flat(3, price=98.0), (98, 98, 88, 89), *flat(4, price=89.0)]
    steps = {20: [limit_entry, loss]}
    venue, strategy, trader, _ = trade(side, rows, steps, can=can, parts={1: 4})
    assert held(venue, side) == [4, 10, 0]
    assert ends(strategy, trader.made["loss"])[-1] == "Completed"
    assert strategy.broker.book.working == {}


@SIDES
def test_a_stop_of_a_partly_filled_entry_ends_with_the_position(side):
    """4 fill on bar 26, and the stop closes them while 6 of the entry still rest."""
    rows = [*flat(25), (100, 101, 96, 98), (98, 99, 97.5, 98), (98, 98, 97.5, 98)]
    rows += [(89, 89.5, 88, 89), *flat(4, price=98.5)]
    steps = {20: [limit_entry, loss]}
    venue, strategy, trader, _ = trade(side, rows, steps, parts={1: 4})
    assert min(held(venue, side)) >= 0
    assert strategy.broker.book.instruments[0].size == (venue.sizes or [0])[-1]
    assert trader.made


@SIDES
def test_a_held_stop_can_be_cancelled(side):
    steps = {20: [limit_entry, loss], 23: [lambda s, t: s.cancel(t.made["loss"])]}
    venue, strategy, trader, _ = trade(side, DIP, steps)
    assert held(venue, side) == [10]
    assert ends(strategy, trader.made["loss"])[-1] == "Canceled"


@SIDES
def test_exits_of_a_market_entry_and_a_second_limit_exit_wait_their_turn(side):
    """The second limit may open nothing: it waits for the first, and is sent when that ends."""

    def second(s, t):
        t.leave(s, "second", price=108.0, exectype=LIMIT)

    steps = {20: [enter, profit], 22: [second], 26: [lambda s, t: s.cancel(t.made["profit"])]}
    limits = [NotionalLimit(0.0101)]
    venue, strategy, trader, _ = trade(side, RISE, steps, limits=limits)
    assert held(venue, side) == [10, 0]
    assert ends(strategy, trader.made["second"])[-1] == "Completed"
    assert strategy.broker.book.working == {}


# -- reduce only -----------------------------------------------------------------------------------


@SIDES
def test_orders_without_an_allowance_are_marked_where_the_broker_knows_it(side):
    steps = {20: [enter], 22: [profit, loss], 25: [lambda s, t: t.close(s, "close")]}
    venue, _, _, _ = trade(side, flat(34), steps, can=("reduce_only",))
    marks = [row[4]["reduce_only"] for row in venue.requests if row[0] == "send"]
    assert marks == [False, True, True, True]


# -- both fill -------------------------------------------------------------------------------------


@SIDES
@pytest.mark.parametrize("stop", [False, True])
def test_what_two_exits_open_that_fill_together_is_closed_at_once(side, stop):
    rows = [*flat(25), (100, 112, 88, 100), *flat(8)]
    steps = {20: [enter], 22: [profit, loss]}
    venue, strategy, _, journal = trade(side, rows, steps, stop=stop)
    assert held(venue, side)[-1] == 0
    assert min(held(venue, side)) in (-10, -20)
    assert strategy.held[-1] == (0,)
    doubts = [r for r in reasons(journal, "doubt") if r.startswith("late fill")]
    assert doubts
    assert strategy.broker.book.working == {}
    assert [part.excess for part in strategy.broker.book.parts.values()] == [0.0]


@SIDES
def test_a_late_fill_closes_no_more_than_it_has_opened(side):
    """A short of 5 was allowed beside the exit of 10; the stop without allowance opens 10 more."""
    rows = [*flat(25), (100, 112, 88, 100), *flat(8)]

    def exits(s, t):
        t.leave(s, "profit", size=15, price=110.0, exectype=LIMIT)
        loss(s, t)

    venue, strategy, _, _ = trade(side, rows, {20: [enter], 22: [exits]})
    assert min(held(venue, side)) == -15
    assert held(venue, side)[-1] == -5
    assert strategy.held[-1] == (-5 * side,)


@SIDES
@pytest.mark.parametrize("rests", [False, True])
def test_an_entry_behind_a_close_opens_the_other_side(side, rests):
    both = [lambda s, t: t.close(s, "close"), lambda s, t: t.leave(s, "turn", size=12)]
    steps = {20: [enter], 22: [profit] if rests else [], 25: both}
    venue, strategy, _, journal = trade(side, flat(34), steps)
    assert held(venue, side) == [10, 0, -12]
    assert reasons(journal, "doubt") == []
    assert strategy.held[-1] == (-12 * side,)


@SIDES
def test_an_alternative_that_is_held_back_ends_with_its_group(side):
    """The take-profit was judged as an entry and rests at once; its stop waits for the entry."""

    def pair(s, t):
        t.enter(s, "entry", price=97.0, exectype=LIMIT)
        profit(s, t)
        t.leave(s, "loss", price=90.0, exectype=STOP, oco=t.made["profit"])

    venue, strategy, trader, _ = trade(side, RISE, {20: [pair]}, can=("oco",))
    assert held(venue, side) == [-10]
    assert ends(strategy, trader.made["loss"])[-1] == "Canceled"
    losses = [row[-1] for row in strategy.orders if row[1] == trader.made["loss"].ref]
    assert "replace" in losses[-1]


@SIDES
def test_a_close_beside_the_closing_of_a_late_fill_is_not_refused_and_closes_nothing_twice(side):
    rows = [*flat(25), (100, 112, 88, 100), *flat(8)]
    steps = {20: [enter], 22: [profit, loss], 26: [lambda s, t: t.close(s, "close")]}
    venue, strategy, trader, _ = trade(side, rows, steps)
    assert held(venue, side)[-2:] == [-10, 0]
    assert ends(strategy, trader.made["close"])[-1] == "Canceled"
    assert strategy.broker.book.working == {}
