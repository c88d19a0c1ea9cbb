"""A target at a live broker: a limit beside the stop, and never more closed than is held."""

import backtrader as bt
import pytest
from helpers.capable_broker import CapableBroker
from helpers.hostile_brokers import Clock, reasons, run
from helpers.scenarios import flat

import bt_risk

PAIR = ("reduce_only", "two_exits")
CALM = flat(1)
# The ATR is 2: the stop of an entry at 100 is at 96, and 2 R are at 108.
RISE = [*flat(20), *CALM * 2, (100, 109, 99, 105), *flat(4, price=105.0)]
FALL = [*flat(20), *CALM * 2, (100, 101, 90, 91), *flat(4, price=91.0)]
BOTH = [*flat(20), *CALM * 2, (100, 115, 80, 100), *flat(4)]
BUY = {20: lambda s: s.buy(size=100)}


def traded(broker, rows, actions=BUY, stop=True, **live):
    clock = Clock(step=0.01)
    limits = [bt_risk.TakeProfit(2.0)]
    return run(
        broker, rows, actions, stop=stop, limits=limits, retry_after=0.0, clock=clock, **live
    )


def sent(broker, exectype):
    """Return ``(number, side, size, reduce_only)`` of the orders of a kind that were sent."""
    rows = [row for row in broker.requests if row[0] == "send"]
    return [(*row[1:4], row[4]["reduce_only"]) for row in rows if broker.kinds[row[1]] == exectype]


class Venue(CapableBroker):
    """Remember of which kind each order was, and what rested beside each market exit."""

    def start(self):
        super().start()
        self.kinds, self.beside = {}, []

    def _request(self, kind, owner, data, size, **kwargs):
        beside = [one.exectype for one in self._working]
        order = super()._request(kind, owner, data, size, **kwargs)
        if not order.isbuy() and order.exectype == bt.Order.Market:
            self.beside.append(beside)
        self.kinds[order.info.number] = order.exectype
        return order

    def held(self):
        return sum(position.size for position in self._positions.values())


def assert_flat(broker, strategy):
    assert broker.held() == 0
    assert min(broker.sizes) >= 0
    assert broker._working == []
    assert strategy.broker.book.working == {}


@pytest.mark.parametrize("can", [PAIR, (*PAIR, "replace")])
@pytest.mark.parametrize("lag", [0, 3])
@pytest.mark.parametrize(("rows", "price"), [(RISE, 108.0), (FALL, 96.0)])
def test_the_one_that_fills_withdraws_the_other(can, lag, rows, price):
    broker = Venue(can=can, lag=lag)
    strategy, _ = traded(broker, rows)
    assert_flat(broker, strategy)
    (limit,) = sent(broker, bt.Order.Limit)
    assert limit[1:] == (-1, 100, True)
    assert [trade.pnl for trade in strategy.broker.book.trades] == [
        pytest.approx(100 * (price - 100.0), abs=210.0)
    ]


def test_both_that_are_reached_within_one_bar_close_it_once():
    for lag in (0, 3):
        broker = Venue(can=PAIR, lag=lag)
        strategy, _ = traded(broker, BOTH)
        assert_flat(broker, strategy)


@pytest.mark.parametrize("can", [(), ("two_exits",), ("reduce_only",)])
def test_without_both_abilities_closes_are_judged(can):
    rows = [*RISE, (105, 110, 104, 109), *flat(3, price=109.0)]
    broker = Venue(can=can)
    strategy, journal = traded(broker, rows)
    assert_flat(broker, strategy)
    assert sent(broker, bt.Order.Limit) == []
    assert "R at the close >= r 2.0000" in reasons(journal, "close")[0]


@pytest.mark.parametrize("faults", [{"lag": 2}, {"deaf": (2,)}, {"deaf": (3,)}])
def test_a_market_exit_of_the_strategy_waits_until_both_are_cancelled(faults):
    broker = Venue(can=PAIR, **faults)
    actions = BUY | {22: lambda s: s.close()}
    strategy, _ = traded(broker, [*flat(20), *CALM * 10], actions)
    assert_flat(broker, strategy)
    assert broker.beside == [[]]


def test_a_lost_cancel_of_the_target_is_repeated():
    broker = Venue(can=PAIR, deaf=(2, 3))
    strategy, _ = traded(broker, FALL)
    assert_flat(broker, strategy)


def test_a_target_that_fills_in_part_leaves_the_stop_the_rest():
    target = sent_number = None
    for number in (2, 3):  # the stop and the target, in whichever sequence they are sent
        broker = Venue(can=(*PAIR, "replace"), parts={number: 40})
        strategy, _ = traded(broker, [*RISE[:23], (105, 106, 80, 81), *flat(4, price=81.0)])
        assert_flat(broker, strategy)
        if broker.kinds[number] == bt.Order.Limit:
            target, sent_number = broker, number
    assert target is not None
    assert target.sizes[:2] == [100, 60]
    assert sent_number in target.kinds


@pytest.mark.parametrize("can", [PAIR, (*PAIR, "replace")])
def test_what_is_added_moves_it(can):
    """100 at 100 and 100 at 102 are 200 at 101: the target is 8 above that."""
    rows = [*flat(20), *CALM, (102, 103, 101, 102), (102, 108.5, 101, 104), (104, 110, 103, 105)]
    broker = Venue(can=can)
    actions = BUY | {21: lambda s: s.buy(size=100)}
    strategy, _ = traded(broker, [*rows, *flat(4, price=105.0)], actions, stop=False)
    assert_flat(broker, strategy)
    (trade,) = strategy.broker.book.trades
    assert trade.size == 200


def test_a_broker_that_refuses_the_limit_judges_closes_after_some_tries():
    class Refusing(Venue):
        def _request(self, kind, owner, data, size, exectype=None, **kwargs):
            if exectype == bt.Order.Limit:
                self.refused = getattr(self, "refused", 0) + 1
                raise ValueError("no limits today")
            return super()._request(kind, owner, data, size, exectype=exectype, **kwargs)

    rows = [*RISE, (105, 110, 104, 109), *flat(3, price=109.0)]
    broker = Refusing(can=PAIR)
    strategy, journal = traded(broker, rows)
    assert_flat(broker, strategy)
    assert broker.refused == 3
    notes = [line for line in reasons(journal, "note") if line.startswith("TakeProfit")]
    assert len(notes) == 2
    assert notes[-1].endswith("3 times: the target is judged at closes")


def test_a_halt_with_flatten_withdraws_both_before_it_closes():
    broker = Venue(can=PAIR, lag=1)
    actions = BUY | {22: lambda s: s.broker.halt("by hand", flatten=True)}
    strategy, _ = traded(broker, [*flat(20), *CALM * 10], actions)
    assert_flat(broker, strategy)
