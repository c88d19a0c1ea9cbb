"""How a stop moves at a live broker: in one request, beside the one before it, or after that."""

import backtrader as bt
import pytest
from helpers.capable_broker import CapableBroker
from helpers.hostile_brokers import Clock, run
from helpers.scenarios import flat

RISE = [(100 + k, 102 + k, 99 + k, 101 + k) for k in range(20)]
UP = [*flat(20), *RISE]
BUY = {20: lambda s: s.buy(size=100)}


class Watched(CapableBroker):
    """Note in each round what is held, and the stops that rest; refuse a second stop, or let it be.

    `refuses` says how a second stop is refused: "at once" or "later". A stop is accepted `accepts`
    rounds after it was sent.
    """

    params = (("refuses", None), ("accepts", 0))

    def start(self):
        super().start()
        self.rounds, self._late, self._sent = [], [], {}

    def _stops(self):
        return [o for o in self._working if o.exectype == bt.Order.Stop]

    def _request(self, kind, owner, data, size, **kwargs):
        stops = kwargs.get("exectype") == bt.Order.Stop
        second = stops and any(o.data is data for o in self._stops())
        if second and self.p.refuses == "at once":
            return None
        order = super()._request(kind, owner, data, size, **kwargs)
        if second and self.p.refuses == "later":
            self._late.append(order)
        return order

    def next(self):
        super().next()
        accepted = [o for o in self._stops() if o.status != o.Submitted]
        resting = [(abs(o.executed.remsize), o.created.price) for o in accepted]
        held = sum(position.size for position in self._positions.values())
        self.rounds.append((held, resting))

    def _answer(self, order):
        since = self._sent.setdefault(order.ref, len(self.rounds))
        if order.exectype == bt.Order.Stop and len(self.rounds) < since + self.p.accepts:
            return
        if order in self._late:
            self._end(order, order.reject)
        else:
            super()._answer(order)
            self._accepted_at.setdefault(order.ref, len(order.data))

    def _try(self, order):
        if order.status != order.Submitted:
            super()._try(order)

    @property
    def unguarded(self):
        """Rounds with a position and no stop, after the first stop of it."""
        guards = [bool(stops) or not held for held, stops in self.rounds]
        first = next(k for k, (_, stops) in enumerate(self.rounds) if stops)
        return [k for k, guarded in enumerate(guards) if k > first and not guarded]


def moved(broker, rows=UP, actions=BUY, **live):
    return run(broker, rows, actions, retry_after=0.0, clock=Clock(step=0.01), **live)


def levels(broker):
    return [max(price for _, price in stops) for _, stops in broker.rounds if stops]


TWO = ("reduce_only", "two_exits")


@pytest.mark.parametrize("accepts", [0, 3])
@pytest.mark.parametrize("can", [("replace",), TWO, (*TWO, "replace")])
def test_a_stop_that_moves_leaves_no_moment_without_one(can, accepts):
    broker = Watched(can=can, accepts=accepts)
    strategy, _ = moved(broker)
    assert broker.unguarded == []
    assert len(set(levels(broker))) > 10
    assert levels(broker) == sorted(levels(broker))
    assert {held for held, _ in broker.rounds} == {0, 100}
    most = max(len(stops) for _, stops in broker.rounds)
    assert most == (1 if "replace" in can else 2)
    assert (len([row for row in broker.requests if row[0] == "send"]) == 2) == ("replace" in can)
    stops = [w for w in strategy.broker.book.working.values() if w.own]
    assert len(stops) == 1 or accepts  # the run may end while a stop is on its way


@pytest.mark.parametrize("can", [(), ("two_exits",), ("reduce_only",)])
def test_without_reduce_only_one_stop_makes_room_for_the_next(can):
    broker = Watched(can=can)
    moved(broker)
    assert broker.unguarded
    assert max(len(stops) for _, stops in broker.rounds) == 1


def test_the_first_stop_stays_until_the_second_is_accepted():
    broker = Watched(can=TWO)
    moved(broker)
    sent = [k for k, row in enumerate(broker.requests) if row[0] == "send" and row[2] < 0]
    cancelled = [k for k, row in enumerate(broker.requests) if row[0] == "cancel"]
    assert all(later > earlier for earlier, later in zip(sent[1:], cancelled, strict=False))
    assert len(sent) == len(cancelled) + 1


@pytest.mark.parametrize("refuses", ["at once", "later"])
def test_a_broker_that_refuses_the_second_stop_is_asked_once(refuses):
    broker = Watched(can=TWO, refuses=refuses)
    strategy, _ = moved(broker)
    assert {held for held, _ in broker.rounds} == {0, 100}  # nothing was closed for it
    assert len(set(levels(broker))) > 8
    asked = [row for row in broker.requests if row[0] == "send"]
    second = sum(order[2] == "Rejected" for order in strategy.orders)
    assert second == 0  # a strategy does not hear of it
    assert len(asked) < 30
    assert strategy.broker.state == "ACTIVE"


def test_a_lost_cancel_of_the_first_stop_is_repeated():
    """Order 1 is the entry, 2 its stop: the cancel of that is lost once."""
    broker = Watched(can=TWO, deaf=(2,))
    strategy, _ = moved(broker)
    assert broker.unguarded == []
    assert len([w for w in strategy.broker.book.working.values() if w.own]) == 1
    assert len(broker._stops()) == 1


@pytest.mark.parametrize("lag", [0, 3])
def test_stops_that_are_hit_while_both_rest_close_the_position_once(lag):
    crash = [*flat(20), *RISE[:4], (104, 104, 80, 81), *flat(5, 81.0)]
    broker = Watched(can=TWO, lag=lag)
    strategy, _ = moved(broker, rows=crash)
    assert broker.rounds[-1] == (0, [])
    assert min(held for held, _ in broker.rounds) == 0
    assert strategy.broker.book.working == {}


@pytest.mark.parametrize("lag", [0, 3])
def test_a_close_withdraws_both(lag):
    broker = Watched(can=TWO, lag=lag)
    strategy, _ = moved(broker, actions=BUY | {26: lambda s: s.close()})
    assert broker.rounds[-1] == (0, [])
    assert min(held for held, _ in broker.rounds) == 0
    assert strategy.broker.book.working == {}


@pytest.mark.parametrize("lost", range(3, 12))
def test_a_position_that_a_target_closes_leaves_neither(lost):
    """Whatever cancel is lost, and whichever of both stops is the newer one at that moment."""

    def target(s):
        return s.sell(size=100, exectype=bt.Order.Limit, price=106.0)

    broker = Watched(can=TWO, deaf=(lost,), accepts=3)
    strategy, _ = moved(broker, actions=BUY | {22: target})
    assert broker.rounds[-1][0] == 0
    assert min(held for held, _ in broker.rounds) == 0
    cancelled = {row[1] for row in broker.requests if row[0] == "cancel"}
    assert {order.info.number for order in broker._stops()} <= cancelled & {lost}


@pytest.mark.parametrize("sign", [1, -1])
def test_a_stop_grows_and_shrinks_beside_the_one_before(sign):
    def more(s):
        return s.buy(size=50) if sign > 0 else s.sell(size=50)

    def less(s):
        return s.sell(size=120) if sign > 0 else s.buy(size=120)

    first = {20: lambda s: s.buy(size=100) if sign > 0 else s.sell(size=100)}
    rows = UP if sign > 0 else [*flat(20), *[(100 - k, 101 - k, 98 - k, 99 - k) for k in range(20)]]
    broker = Watched(can=TWO)
    moved(broker, rows=rows, actions=first | {24: more, 28: less})
    assert abs(broker.rounds[-1][0]) == 30
    assert [size for size, _ in broker.rounds[-1][1]] == [30]


class LateNews(CapableBroker):
    """Report nothing of order 2, the stop, for so many rounds after it has filled."""

    params = (("late", 3),)

    def start(self):
        super().start()
        self._unread = []

    def _notify(self, order):
        if order.info.get("number") == 2 and order.executed.size:
            self._unread.append([self.p.late, order.clone()])
        else:
            super()._notify(order)

    def next(self):
        super().next()
        self._news.extend(order for left, order in self._unread if not left)
        self._unread = [[left - 1, order] for left, order in self._unread if left]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_stop_that_has_filled_unheard_is_not_replaced(sign):
    """Bar 26 reaches the stop, and closes so high that it would move; its fill is heard later."""
    rows = [*flat(25), (100, 112, 90, 111), *flat(6, price=111.0)]
    rows = rows if sign > 0 else [(200 - o, 200 - low, 200 - h, 200 - c) for o, h, low, c in rows]
    broker = LateNews(can=("replace",))
    actions = {20: lambda s: s.buy(size=100) if sign > 0 else s.sell(size=100)}
    strategy, _ = moved(broker, rows=rows, actions=actions)
    asked = [row[:2] for row in broker.requests]
    assert asked[-2:] == [("replace", 2), ("cancel", 2)]
    assert broker.sizes == [sign * 100, 0]
    assert strategy.held[-1] == (0,)
    assert strategy.broker.book.working == {}
