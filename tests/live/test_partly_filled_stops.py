"""A stop that has begun to fill at a live broker: it rests for what is held, whatever happens."""

import backtrader as bt
import pytest
from helpers.owners import NotingBroker, enters, leaves, run_owners
from helpers.scenarios import flat

SHORT = pytest.param(-1, marks=pytest.mark.full, id="short")
SIDES = pytest.mark.parametrize("side", [pytest.param(1, id="long"), SHORT])
TWO = ("reduce_only", "two_exits")
CAN = pytest.mark.parametrize("can", [(), ("replace",), pytest.param(TWO, marks=pytest.mark.full)])
# The stop of 345 rests at 96: bar 26 reaches it, and so do the bars from 40 on.
DIP = [*flat(25), (100, 100, 95.5, 99), *flat(13), (100, 100, 90, 91), *flat(4, price=91.0)]


def dipped(side, plan, **venue):
    """Hold 345 from bar 21 on; the stop, order 2, fills 100 of them on bar 26."""
    broker = NotingBroker(parts={2: 100}, **venue)
    (strategy,) = run_owners(broker, DIP, [{20: enters(side, 345), **plan}], side=side)
    return broker, strategy


def at(broker, bar):
    """Return what is held at the end of a bar, and the stops that rest then."""
    return [row[1:3] for row in broker.rounds if row[0] == bar][-1]


@SIDES
@CAN
def test_a_stop_that_has_filled_in_part_is_left_alone(side, can):
    broker, strategy = dipped(side, {}, can=can)
    assert at(broker, 26) == (245, [245])
    assert [row[1] for row in broker.requests if row[0] != "send"] == []
    assert broker.sizes == [side * size for size in (345, 245, 0)]
    assert strategy.broker.book.working == {}


@SIDES
def test_it_does_not_trail_any_more(side):
    """It is a market order at most venues by then; prices rise from bar 27 on."""
    rows = [*DIP[:26], *[(99 + k, 101 + k, 98 + k, 100 + k) for k in range(8)]]
    broker = NotingBroker(parts={2: 100})
    run_owners(broker, rows, [{20: enters(side, 345)}], side=side)
    assert broker.rounds[-1] == (34, 245, [245], [])
    assert {row[0] for row in broker.requests} == {"send"}


@SIDES
@CAN
def test_it_grows_with_the_position(side, can):
    broker, strategy = dipped(side, {30: enters(side, 200)}, can=can)
    assert at(broker, 29) == (245, [245])
    assert at(broker, 32) == (445, [445])
    assert broker.beyond == [] or can == TWO  # there neither of two can open anything
    assert ("replace", 2) not in [row[:2] for row in broker.requests]
    assert broker.sizes[-1] == 0
    assert min(side * size for size in broker.sizes) == 0
    assert strategy.broker.book.working == {}


@SIDES
@CAN
def test_it_shrinks_with_the_position(side, can):
    """A limit of the strategy for 200 is reached on bar 30, beside the stop for 245."""
    limit = leaves(side, 200, exectype=bt.Order.Limit, price=100.0 + side)
    broker, strategy = dipped(side, {28: limit}, can=can)
    assert at(broker, 32) == (45, [45])
    assert broker.sizes == [side * size for size in (345, 245, 45, 0)]
    assert strategy.broker.book.working == {}


@SIDES
@CAN
@pytest.mark.parametrize("lag", [0, pytest.param(3, marks=pytest.mark.full)])
def test_a_stop_that_goes_on_to_fill_while_it_is_cancelled_closes_once(side, can, lag):
    """200 are added on the bar before the price falls through the stop for good."""
    broker, strategy = dipped(side, {38: enters(side, 200)}, can=can, lag=lag)
    assert broker.sizes[-1] == 0
    assert min(side * size for size in broker.sizes) == 0
    assert strategy.broker.book.working == {}


@SIDES
def test_where_the_new_stop_is_refused_the_rest_is_closed_at_the_market(side):
    reject = tuple(f"V{number}" for number in range(4, 7))
    broker, strategy = dipped(side, {30: enters(side, 200)}, reject=reject)
    assert broker.sizes == [side * size for size in (345, 245, 445, 0)]
    assert strategy.broker.book.working == {}


@SIDES
@pytest.mark.parametrize("lag", [0, 5])
def test_a_position_that_grows_beyond_the_price_of_its_stop_is_closed_at_the_market(side, lag):
    """Bar 26 fills 100 of the stop and 200 more of the entry, and closes far beyond the stop.

    With a late cancel the stop fills its other 245 on bar 27, and 200 are left.
    """
    rows = [*flat(25), (100, 100, 90, 91), *flat(6, price=91.0)]
    broker = NotingBroker(parts={2: 100}, lag=lag)
    plans = [{20: enters(side, 345), 25: enters(side, 200)}]
    run_owners(broker, rows, plans, side=side)
    filled = [245, 445, 200, 0] if lag else [245, 445, 0]
    assert broker.sizes == [side * size for size in (345, *filled)]
    assert broker.beyond == []
