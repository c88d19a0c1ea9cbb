"""A run dies around an entry whose stop is its child: then one stop is for what is held."""

import os
import signal

import backtrader as bt
import pytest
from helpers import restarts
from helpers.persistent_broker import PersistentBroker, bar_of, read, write
from helpers.restarts import in_child, killed_run, run
from helpers.scenarios import flat

import bt_risk

POLICY = bt_risk.Policy(
    **restarts.OFF, drawdown_limit=None, atr_multiple=2.0, entry_stop="attached"
)
CAN = {"order_lists": True, "brackets": True, "attached": True}
WAYS = {
    "lists": CAN,
    "replaces": CAN | {"replace": True},
    "ids": CAN | {"client_ids": True},
}
# Filled in part on bar 21 and whole on 24; then nothing, or a fall that reaches the stop.
AWAY = [(100, 101.6, 99.6, 100)]
CALM = [*flat(21), *AWAY * 2, *flat(1), *AWAY * 3]
FALLEN = [*flat(21), *AWAY * 2, (99.4, 99.5, 90, 91), *flat(4, price=91.0)]


class Enters(bt.Strategy):
    """Buy 100 at a limit on bar 20, once: what an earlier run has sent is not sent again."""

    price = 99.5

    def next(self):
        if bar_of(self.data) == 20 and not self.position and not self.broker.book.working:
            self.buy(size=100, price=self.price, exectype=bt.Order.Limit)


class Venue(PersistentBroker):
    """Keep a child with its parent in the file, from the moment that both have arrived.

    The entry fills 30 on the first bar that reaches it. A child fills for what its parent has.
    """

    def buy(self, owner, data, size, transmit=True, parent=None, **kwargs):
        return self._place(super().buy, owner, data, size, transmit, parent, **kwargs)

    def sell(self, owner, data, size, transmit=True, parent=None, **kwargs):
        return self._place(super().sell, owner, data, size, transmit, parent, **kwargs)

    def start(self):
        super().start()
        self._parents, self._untold, self.parts = {}, [], {}

    def _place(self, send, owner, data, size, transmit, parent, **kwargs):
        self._sending = parent, transmit
        return send(owner, data, size, **kwargs)

    def _make(self, *args):
        parent, transmit = self._sending
        before = self._save
        self._save = lambda: None if not transmit else before()
        order = super()._make(*args)
        self._save = before
        if not transmit:
            self._untold.append(order.ref)
        elif parent is not None:
            self._parents[order.info["venue_id"]] = parent.info["venue_id"]
            self._untold.clear()
            self._save()
        return order

    def _load(self):
        super()._load()
        self._parents = dict(self.book.get("parents", {}))
        self.parts = dict(self.book.get("parts", {}))

    def _save(self):
        self.book["parents"], self.book["parts"] = self._parents, self.parts
        super()._save()
        held = {o.info["venue_id"] for o in self._working if o.ref in self._untold}
        if held:
            self.book["orders"] = [row for row in self.book["orders"] if row["id"] not in held]
            write(self.p.file, self.book)

    def get_orders_open(self):
        return [o for o in super().get_orders_open() if o.ref not in self._untold]

    def active(self, order):
        """Return what may fill of an order now, in signed units."""
        left, known = order.executed.remsize, order.info["venue_id"]
        if known not in self._parents:
            return left
        filled = self.parts.get(self._parents[known], 0)
        held = self._positions[order.data].size
        return -max(0, min(-left, filled, held))

    def _try(self, order):
        if order.ref in self._untold or self._price(order) is None:
            return
        size, known = self.active(order), order.info["venue_id"]
        if not size:
            return
        if order.exectype == bt.Order.Limit and abs(size) == 100:
            size = 30
        price = self._price(order)
        self._positions[order.data].update(size, price)
        self.cash -= size * price
        order.execute(order.data.datetime[0], size, price, size, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        self.parts[known] = self.parts.get(known, 0) + size
        row = {"what": "filled", "id": known, "size": size, "price": price}
        self.book["log"].append(row | {"bar": bar_of(order.data), "data": order.data._name})
        self._accepted_at[order.ref] = len(order.data)
        if not order.executed.remsize:
            self._working.remove(order)
            self._cancelling.discard(order.ref)
        self._notify(order)

    def _end(self, order, how):
        super()._end(order, how)
        known = order.info["venue_id"]
        if not self.parts.get(known, 0):
            for one in list(self._working):
                if self._parents.get(one.info["venue_id"]) == known:
                    super()._end(one, one.cancel)

    def _log_guard(self, data):
        super()._log_guard(data)
        stops = [o for o in self._working if o.data is data and o.exectype == bt.Order.Stop]
        units = [self.active(o) for o in stops if o.ref not in self._cancelling]
        self.book["log"][-1]["active"] = [one for one in units if one]


@pytest.fixture(autouse=True)
def venue(monkeypatch):
    monkeypatch.setattr(restarts, "PersistentBroker", Venue)


def check(book, fallen):
    """Whenever a bar comes: stops for all that is held and no more, or an exit of it."""
    held = 0
    for row in book["log"]:
        if row["what"] == "filled":
            held += row["size"]
            assert 0 <= held <= 100
        elif row["what"] == "guard":
            assert -sum(row["active"]) <= row["held"], row
            assert -sum(row["active"]) == row["held"] or row["leaving"] == [-row["held"]], row
    filled = [row["size"] for row in book["log"] if row["what"] == "filled" and row["size"] > 0]
    assert sum(filled) in (0, 100)  # 0: it died before the venue had both
    left = [row["left"] for row in book["orders"]]
    assert left == ([] if fallen or not filled else [-100])


def settings(rows, way):
    return dict(rows=rows, policy=POLICY, strategy=Enters, can=WAYS[way])


FULL = pytest.mark.full
REPLACES = pytest.mark.parametrize(
    "way", ["replaces", *[pytest.param(way, marks=FULL) for way in ("lists", "ids")]]
)
POINTS = [
    pytest.param(point, after, marks=() if point in (23, 26) and after else FULL)
    for point in range(21, 35)
    for after in (False, True)
]


@REPLACES
@pytest.mark.parametrize("rows", [CALM, FALLEN], ids=["calm", "fallen"])
@pytest.mark.parametrize(("point", "after"), POINTS)
def test_killed_at_a_write_it_goes_on_with_one_stop(tmp_path, way, rows, point, after):
    in_child(killed_run, tmp_path, point, after, **settings(rows, way))  # some end before that
    strategy = run(tmp_path, **settings(rows, way))
    book = read(tmp_path / "venue.json")
    check(book, rows is FALLEN)
    held = book["positions"]["D0"][0]
    assert strategy.broker.book.instruments[0].size == held
    assert [w.remaining for w in strategy.broker.book.working.values()] == [held] * bool(held)
    assert strategy.broker.state == "ACTIVE"


def dies_between(folder, rows, way, number, after):
    """Die just before or just after the request with this number has arrived."""
    make = Venue._make

    def counted(self, *args):
        counted.requests += 1
        if counted.requests == number and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        order = make(self, *args)
        if counted.requests == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return order

    counted.requests = 0
    Venue._make = counted
    run(folder, **settings(rows, way))


@REPLACES
@pytest.mark.parametrize("rows", [CALM, FALLEN], ids=["calm", "fallen"])
@pytest.mark.parametrize(("number", "after"), [(1, True), (2, False), (2, True)])
def test_killed_between_entry_and_child_it_goes_on_with_one_stop(
    tmp_path, way, rows, number, after
):
    died = in_child(dies_between, tmp_path, rows, way, number, after)
    assert died == signal.SIGKILL
    strategy = run(tmp_path, **settings(rows, way))
    check(read(tmp_path / "venue.json"), rows is FALLEN)
    assert strategy.broker.state == "ACTIVE"
    sent = [row["side"] for row in read(tmp_path / "venue.json")["log"] if row["what"] == "sent"]
    assert sent.count(1) == (1 if after and number == 2 else 0)  # alone it never got to the venue


@pytest.mark.parametrize("way", WAYS)
def test_a_child_that_is_restored_with_its_entry_is_the_stop_of_what_that_fills(tmp_path, way):
    """The run ends on bar 20, while both rest; in the next the entry fills on bar 21."""
    run(tmp_path, **settings(CALM[:20], way))
    strategy = run(tmp_path, **settings(CALM, way))
    book = read(tmp_path / "venue.json")
    check(book, False)
    first = next(row for row in book["log"] if row["what"] == "filled")
    sent = [row["bar"] for row in book["log"] if row["what"] == "sent" and row["side"] < 0]
    assert sent[0] == 20 < first["bar"]
    assert (len(sent) == 1) == (way == "replaces")
    assert [w.remaining for w in strategy.broker.book.working.values()] == [100]


class Turns(bt.Strategy):
    """Rest to buy at 90 with a child, and sell short 50 at a limit that fills."""

    def next(self):
        if bar_of(self.data) == 20 and not self.position and not self.broker.book.working:
            self.buy(size=100, price=90.0, exectype=bt.Order.Limit)
            self.sell(size=50, price=100.0, exectype=bt.Order.Limit)


def test_a_child_on_the_other_side_is_not_taken_for_the_stop_of_a_position(tmp_path):
    rows, options = flat(27), settings(CALM, "lists") | {"strategy": Turns}
    run(tmp_path, **options | {"rows": rows[:24]})
    strategy = run(tmp_path, **options | {"rows": rows})
    log = read(tmp_path / "venue.json")["log"]
    stops = [r["side"] for r in log if r["what"] == "sent" and r["exectype"] == bt.Order.Stop]
    assert stops == [-1, 1]
    assert [row for row in log if row["what"] == "cancel"] == []
    kinds = [(w.kind, w.side, w.remaining) for w in strategy.broker.book.working.values()]
    assert sorted(kinds) == [("limit", 1, 100), ("stop", -1, 100), ("stop", 1, 50)]
