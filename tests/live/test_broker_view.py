"""BrokerView: what the broker holds and lists, and how much of an answer is believed."""

import math
from types import SimpleNamespace

import backtrader as bt
import pytest
from helpers.fake_broker import FakeBroker
from helpers.hostile_brokers import Clock, Ticking
from helpers.scenarios import Script, bars, flat

import bt_risk
from bt_risk.live.broker_view import BrokerView


class Listing(FakeBroker):
    """List open orders as `lists` makes them of the true ones; report the position as `says`."""

    params = (("lists", None), ("says", None), ("can", None))

    def start(self):
        super().start()
        self.capabilities = self.p.can or {}
        self.asked = 0

    def get_orders_open(self):
        self.asked += 1
        return self.p.lists(self._working) if self.p.lists else list(self._working)

    def getposition(self, data, clone=True):
        if self.p.says is not None and len(data) > 17:
            return self.p.says(super().getposition(data))
        return super().getposition(data)


def seen(look, at=20, clock=None, **params):
    """Buy 10 on bar 17, and return what `look(view, gate)` returns on bar `at`, stop in place."""
    engine = bt.Cerebro(stdstats=False)
    engine.adddata(Ticking(dataname=bars(*flat(26))), name="D0")
    gate = bt_risk.RiskBroker(Listing(**params), clock=clock or Clock())
    engine.setbroker(gate)
    found = []
    actions = {
        17: lambda s: s.buy(size=10),
        at: lambda s: found.append(look(gate.venue.view, gate)),
    }
    engine.addstrategy(Script, actions=actions)
    engine.addobserver(bt_risk.ATRTrailingStop)
    engine.run(quicknotify=True)
    return found[0]


def stop_of(gate):
    return next(w for w in gate.book.working.values() if w.own)


def raises(error):
    def ask(_):
        raise error

    return ask


def rebuilt(order, *, ids=True, **changes):
    """Return another object for an order, as a store makes it of the venue's answer."""
    kind = bt.order.BuyOrder if order.isbuy() else bt.order.SellOrder
    terms = {"size": abs(order.size), "price": order.created.price, "exectype": order.exectype}
    one = kind(owner=None, data=order.data, simulated=True, **(terms | changes))
    one.addinfo(**({"venue_id": order.info["venue_id"]} if ids else {}))
    one.submit(None)
    one.accept(None)
    return one


def test_a_broker_is_asked_for_positions_and_orders():
    def look(view, gate):
        return view.position(gate.book.instruments[0]), len(view.open_orders())

    assert seen(look) == (10.0, 1)


@pytest.mark.parametrize(
    "answer",
    [raises(ConnectionError("reset")), lambda _: None]
    + [lambda _, n=n: SimpleNamespace(size=n) for n in (math.nan, math.inf, None)],
)
def test_a_position_without_an_answer_is_none_and_not_zero(answer):
    position = {}

    def look(view, gate):
        position["is"] = BrokerView.position(view, gate.book.instruments[0])

    broken = {"now": False}
    with_fault = lambda p: answer(p) if broken["now"] else p  # noqa: E731

    def spoiled(view, gate):
        broken["now"] = True
        look(view, gate)
        broken["now"] = False

    seen(spoiled, says=with_fault)
    assert position["is"] is None


def test_a_list_that_raises_is_none_and_one_that_is_empty_is_empty():
    assert seen(lambda v, g: v.open_orders(), lists=lambda _: []) == []
    assert seen(lambda v, g: v.open_orders(), lists=raises(OSError("down"))) is None
    assert seen(lambda v, g: v.error, lists=lambda _: []) == ""


def test_a_broker_without_any_list_has_listed_nothing():
    class Mute(Listing):
        get_orders_open = None

    def look(view, gate):
        gate.inner.__class__ = Mute
        return view.open_orders(), view.lists(stop_of(gate)), view.proven(stop_of(gate))

    assert seen(look) == (None, None, False)


@pytest.mark.parametrize(
    "lists",
    [
        list,
        lambda orders: [order.clone() for order in orders],
        lambda orders: {order.info["venue_id"]: order for order in orders},
        lambda orders: [rebuilt(order) for order in orders],
        lambda orders: [rebuilt(order, ids=False) for order in orders],
    ],
    ids=["the same", "clones", "a dict", "by id", "by terms"],
)
def test_an_order_is_found_in_a_list_whatever_objects_it_has(lists):
    def look(view, gate):
        view.open_orders()
        return view.lists(stop_of(gate)), view.proven(stop_of(gate))

    assert seen(look, lists=lists) == (True, True)


@pytest.mark.parametrize("changes", [{"size": 9}, {"price": 97.0}, {"exectype": bt.Order.Limit}])
def test_an_order_with_other_terms_and_without_ids_is_another_one(changes):
    def look(view, gate):
        view.open_orders()
        return view.lists(stop_of(gate)), view.proven(stop_of(gate))

    def lists(orders):
        return [rebuilt(order, ids=False, **changes) for order in orders]

    assert seen(look, lists=lists) == (False, False)


def test_an_order_with_the_same_terms_and_another_id_is_another_one():
    def look(view, gate):
        view.open_orders()
        return view.lists(stop_of(gate))

    def lists(orders):
        made = [rebuilt(order) for order in orders]
        for order in made:
            order.addinfo(venue_id="X" + order.info["venue_id"])
        return made

    assert seen(look, lists=lists) is False


def test_one_listed_order_is_not_two_of_the_book():
    def look(view, gate):
        first = stop_of(gate)
        twin = bt_risk.portfolio.position.WorkingOrder(
            10**6, first.instrument, first.owner, -1, 10.0, 0.0, "stop", first.price
        )
        twin.handle = rebuilt(first.handle, ids=False)
        gate.book.working[twin.ref] = twin
        view.open_orders()
        answers = view.lists(first), view.lists(twin)
        del gate.book.working[twin.ref]
        return answers

    assert seen(look, lists=lambda orders: [rebuilt(o, ids=False) for o in orders]) == (True, False)


def test_a_list_that_has_shown_the_order_before_or_is_declared_is_believed():
    def look(view, gate):
        view.open_orders()
        before = view.proven(stop_of(gate))
        gate.inner.p.lists = lambda _: []
        view.open_orders()
        return before, view.lists(stop_of(gate)), view.proven(stop_of(gate))

    assert seen(look) == (True, False, True)
    assert seen(look, lists=lambda _: []) == (False, False, False)
    assert seen(look, lists=lambda _: [], can={"order_lists": True}) == (True, False, True)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("HTTP 429"),
        type("RateLimitExceeded", (Exception,), {})("no"),
        type("DDoSProtection", (Exception,), {})("no"),
        ValueError("Too many requests"),
    ],
)
def test_a_broker_that_is_asked_too_often_is_asked_less(error):
    clock = Clock()

    def look(view, gate):
        asked = []
        for now in (0, 4, 5, 14, 15, 34, 35, 74, 75, 134, 135, 194, 195):
            clock.now = now
            assert view.open_orders() is None
            asked.append(gate.inner.asked)
        gate.inner.p.lists = list
        clock.now = 255
        answered = len(view.open_orders())
        gate.inner.p.lists = raises(error)
        view.open_orders()
        before = gate.inner.asked
        clock.now = 260
        view.open_orders()
        return (
            [b - a for a, b in zip(asked, asked[1:], strict=False)],
            answered,
            (gate.inner.asked - before),
        )

    rises, answered, again = seen(look, lists=raises(error), clock=clock)
    assert rises == [0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1]
    assert (answered, again) == (1, 1)


def test_any_other_error_and_a_price_of_429_are_no_reason_to_wait():
    def look(view, gate):
        before = gate.inner.asked
        view.open_orders()
        view.open_orders()
        return gate.inner.asked - before

    for text in ("price 429.5 is off", "order 14291", "down"):
        assert seen(look, lists=raises(RuntimeError(text))) == 2


def test_a_snapshot_serves_a_whole_look_in_one_request():
    class Whole(Listing):
        def account_snapshot(self, datas):
            self.asked += 1
            return {data: self._positions[data].size for data in datas}, self._working

    def look(view, gate):
        gate.inner.__class__ = Whole
        before = gate.inner.asked
        answer = view.look(gate.book.instruments)
        return answer.sizes, len(answer.orders), gate.inner.asked - before

    assert seen(look) == ({0: 10.0}, 1, 1)


def test_a_snapshot_that_raises_answers_nothing():
    class Broken(Listing):
        def account_snapshot(self, datas):
            raise OSError("down")

    def look(view, gate):
        gate.inner.__class__ = Broken
        answer = view.look(gate.book.instruments)
        return answer.sizes, answer.orders, view.error

    assert seen(look) == ({0: None}, None, "OSError: down")


def test_a_look_without_a_snapshot_asks_for_each():
    def look(view, gate):
        answer = view.look(gate.book.instruments)
        return answer.sizes, len(answer.orders)

    assert seen(look) == ({0: 10.0}, 1)
