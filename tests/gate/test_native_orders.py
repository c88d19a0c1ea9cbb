"""Orders that are made and copied here are Backtrader's own, in everything that can be read."""

import datetime
import gc
import pickle
import random
import tracemalloc

import backtrader as bt
import pytest
from backtrader.order import BuyOrder, SellOrder
from helpers.frames import PandasData
from helpers.recording import limit_orders, play
from helpers.scenarios import NextScript, bars, cerebro, flat, random_walk

from bt_risk.gate.native_orders import clone, is_simple, order_of, refused_order
from bt_risk.limits.base import Decision, Limit, NotionalLimit
from bt_risk.orders import DEFAULTS, OrderRequest

KINDS = {1: BuyOrder, -1: SellOrder}
ORDER = bt.Order
EXECTYPES = (None, ORDER.Market, ORDER.Close, ORDER.Limit, ORDER.Stop, ORDER.StopLimit)
SESSIONS = (datetime.time(9, 30), datetime.time(16), datetime.time(23, 59, 59, 999999))
PARTS = ("created", "executed", "params", "p")
METHODS = ("isbuy", "issell", "alive", "active", "getstatusname", "getordername", "ordtypename")


def read(order):
    """Return everything that can be read of an order but its number."""
    names = {*vars(BuyOrder(owner=None, data=order.data, size=1)), "plen"}
    names |= set(BuyOrder.params._getkeys())
    seen = {name: getattr(order, name, "none") for name in names - {"ref", *PARTS}}
    seen |= {method: getattr(order, method)() for method in METHODS}
    for part in PARTS:
        seen[part] = {k: repr(v) for k, v in vars(getattr(order, part)).items()}
        if part in ("created", "executed"):
            seen[part]["exbits"] = list(getattr(order, part).exbits)
    return seen | {"limit": order.plimit, "lengths": (len(order.created), len(order.executed))}


def arguments(rng, price, earlier):
    """Return the arguments of any order that has no date and does not trail."""
    near = (None, 0.0, price, price * 1.01)
    return DEFAULTS | {
        "price": rng.choice(near),
        "plimit": rng.choice(near),
        "exectype": rng.choice(EXECTYPES),
        "tradeid": rng.choice((0, 7)),
        "trailamount": rng.choice((None, 1.0)),
        "parent": rng.choice((None, earlier)),
        "transmit": rng.random() < 0.5,
    }


def native(request, size):
    """Return the order as Backtrader's constructor makes it."""
    args = {**request.args, "pricelimit": request.args["plimit"]}
    del args["plimit"], args["oco"]
    kind = KINDS[request.side]
    return kind(owner=request.owner, data=request.instrument.data, size=size, **args)


def world(seed):
    """Return a Cerebro with one data feed of a random clock, and its gate."""
    rng = random.Random(seed)
    frame = random_walk(seed, 40, freq=rng.choice(("D", "7h", "61min")))
    frame.index += datetime.timedelta(seconds=rng.choice((0, 86_399, 86_399.999995, 34_200)))
    engine = cerebro()
    options = {"sessionend": rng.choice(SESSIONS)} if rng.random() < 0.7 else {}
    zone = rng.choice(({}, {"tz": "America/New_York"}))
    engine.adddata(PandasData(dataname=frame, **options, **zone), name="D0")
    gate = limit_orders(engine, NotionalLimit(0.5))
    return rng, engine, gate


def along(seed, compare):
    """Call ``compare(request)`` with random requests on every bar of a run."""
    rng, engine, gate = world(seed)

    class Asks(bt.Strategy):
        def next(self):
            instrument = gate.book.instruments[0]
            earlier = BuyOrder(owner=self, data=self.data, size=1)
            for _ in range(12):
                args = arguments(rng, self.data.close[0], earlier)
                size = rng.choice((1, 3, 2.5))
                compare(OrderRequest(rng.choice((1, -1)), self, instrument, size, args))

    engine.addstrategy(Asks)
    engine.run()


@pytest.mark.parametrize("seed", range(12))
def test_an_order_is_the_one_that_backtrader_makes(seed):
    def compare(request):
        assert is_simple(request)
        made, one = order_of(request, request.size), native(request, request.size)
        assert type(made) is type(one)
        assert read(made) == read(one)
        assert made.ref == one.ref - 1

    along(seed, compare)


def test_an_order_takes_less_memory_than_one_that_backtrader_makes():
    """Its request has no executions: all requests share one empty deque, of 0.8 kB."""
    deques = {}

    def compare(request):
        for make in (order_of, native):
            kept = [make(request, request.size) for _ in range(5)]
            parts = [part for order in kept for part in (order.created, order.executed)]
            deques[make] = len({id(part.exbits) for part in parts})

    along(0, compare)
    assert deques == {order_of: 5 + 1, native: 5 + 5}


def test_executions_of_one_order_are_those_of_no_other():
    def compare(request):
        one, other = order_of(request, 1), order_of(request, 1)
        one.executed.exbits.append("execution")
        one.created.exbits.append("none")
        assert (len(one.executed), len(other.executed)) == (1, 0)
        assert (len(one.created), len(other.created)) == (0, 0)

    along(1, compare)


def test_dated_and_trailing_orders_are_made_by_backtrader():
    def compare(request):
        for args in ({"valid": 0.0}, {"exectype": ORDER.StopTrail}, {"simulated": True}):
            one = OrderRequest(1, None, request.instrument, 1, request.args | args)
            assert not is_simple(one)

    along(0, compare)


@pytest.mark.parametrize("seed", range(12))
def test_a_refused_order_is_one_that_backtrader_has_rejected(seed):
    def compare(request):
        made, one = (
            refused_order(request, "no", request.owner.broker),
            native(request, request.size),
        )
        one.addinfo(bt_risk="no")
        one.submit(request.owner.broker)
        one.reject(request.owner.broker)
        assert isinstance(made, type(one))
        assert read(made) == read(one)
        assert read(made.clone()) == read(one.clone())
        assert str(made).partition("\n")[2] == str(one).partition("\n")[2]

    along(seed, compare)


def test_what_a_strategy_adds_to_a_refused_order_stays_there():
    strategy = _refusing({5: lambda s: s.buy(size=1000), 6: lambda s: None})
    order = strategy.made[0]
    order.addinfo(note="mine")
    assert dict(order.info) == {"bt_risk": order.info.bt_risk, "note": "mine"}
    assert order.clone().info.note == "mine"


def test_what_a_strategy_passes_with_an_order_that_is_refused_is_in_its_info():
    strategy = _refusing({5: lambda s: s.buy(size=1000, note="mine")})
    assert strategy.made[0].info.note == "mine"
    assert "Small: 1000 > 100" in strategy.made[0].info.bt_risk


@pytest.mark.parametrize("valid", [None, datetime.timedelta(days=2)])
def test_a_refused_order_can_be_pickled(valid):
    strategy = _refusing({5: lambda s: s.buy(size=1000, valid=valid)})
    order = strategy.made[0]
    order.owner = order.data = order.broker = None
    if valid is not None:
        order.params.owner = order.params.data = None
    again = pickle.loads(pickle.dumps(order))
    assert (again.ref, again.status, again.created.size) == (order.ref, bt.Order.Rejected, 1000)


def test_an_alternative_may_name_an_order_that_was_refused():
    def alternatives(strategy):
        first = strategy.buy(size=1000, exectype=bt.Order.Limit, price=99.0)
        second = strategy.buy(size=10, exectype=bt.Order.Limit, price=99.5, oco=first)
        return first, second, strategy.sell(size=10, exectype=bt.Order.Stop, price=98.0, oco=second)

    strategy = _refusing({5: alternatives})
    assert [order.status for order in strategy.made[0][:1]] == [bt.Order.Rejected]
    ends = {ref: status for _, ref, status, *_ in strategy.orders}
    assert [ends[order.ref] for order in strategy.made[0]] == ["Rejected", "Completed", "Canceled"]


class Small(Limit):
    """Refuse every order for more than 100 units."""

    limit = 100.0

    def review(self, request, book):
        """Return the decision."""
        if request.size <= self.limit:
            return Decision(request.size)
        return self.refuse(0.0, f"{request.size:g} > {self.limit:g}", request.size)


def _refusing(actions):
    engine = cerebro(bars(*flat(20)))
    limit_orders(engine, Small())
    return play(engine, actions, NextScript)


# -- copies ------------------------------------------------------------------------------------


def test_a_copy_is_the_one_that_an_order_makes_of_itself():
    """Partial fills are marked as reported on the way, so both are copied once."""
    pairs = []

    def both(order):
        marks = vars(order.executed).copy()
        mine = clone(order)
        after = vars(order.executed).copy()
        vars(order.executed).update(marks)
        theirs = order.clone()
        assert vars(order.executed) == after
        pairs.append((mine, theirs))

    engine = cerebro(bars(*flat(20)))
    engine.broker.set_filler(bt.fillers.FixedSize(size=4))
    notify = engine.broker.notify
    engine.broker.notify = lambda order: (both(order), notify(order))
    play(engine, {5: lambda s: s.buy(size=10), 12: lambda s: s.close()}, NextScript)
    assert len(pairs) == 10
    for mine, theirs in pairs:
        assert type(mine) is type(theirs)
        assert vars(mine).keys() == vars(theirs).keys()
        assert vars(mine.executed) == vars(theirs.executed)
        assert mine.executed is not theirs.executed
        assert read(mine) == read(theirs)


# -- memory ------------------------------------------------------------------------------------


class Insists(bt.Strategy):
    """Ask for too much on every bar; `bytes` is what a refusal takes."""

    params = {"first": 40, "last": 140, "each": 10}

    def next(self):
        if len(self) == self.p.first:
            gc.collect()
            tracemalloc.start()
            self.before = tracemalloc.get_traced_memory()[0]
        if len(self) == self.p.last:
            gc.collect()
            taken = tracemalloc.get_traced_memory()[0] - self.before
            tracemalloc.stop()
            self.bytes = taken / ((self.p.last - self.p.first) * self.p.each)
            self.cerebro.runstop()
        elif len(self) >= self.p.first:
            for _ in range(self.p.each):
                self.buy(size=1000 + len(self))


def test_a_refusal_takes_less_than_a_kilobyte():
    """Its order, the notification, the reason and the line of the journal."""
    engine = cerebro(random_walk(3, 150))
    limit_orders(engine, NotionalLimit(1e-9))
    engine.addstrategy(Insists)
    (strategy,) = engine.run()
    assert 300 < strategy.bytes <= 1000
