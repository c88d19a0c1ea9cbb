"""A restart fails closed: a saved stop that the broker does not list is never doubled."""

import itertools

import backtrader as bt
import pytest
from helpers.persistent_broker import PersistentBroker, bar_of, meanwhile, read, write
from helpers.restarts import run
from helpers.scenarios import flat

from bt_risk.state.file import read_state, request
from bt_risk.state.requests import OperatorRequest

# A rise to 112, on which a position of 100 from bar 21 is trailed; then it stands still.
RISE = [*flat(20), *[(100 + 4 * k, 104 + 4 * k, 100 + 4 * k, 104 + 4 * k) for k in range(3)]]
STAND = flat(8, price=112.0)
UNPROVEN = ["none", "new", "error", "no method"]


class Holds(bt.Strategy):
    """Hold 100 on a side from bar 20 on, and again whenever nothing is held, until bar 60."""

    side = 1

    def next(self):
        bar = bar_of(self.data)
        waits = any(not w.own for w in self.broker.book.working.values())
        if 20 <= bar < 60 and not self.position and not waits:
            (self.buy if self.side > 0 else self.sell)(size=100)


class Shorts(Holds):
    side = -1


class Passive(bt.Strategy):
    pass


def mirrored(rows, side):
    return rows if side > 0 else [(200 - o, 200 - lo, 200 - h, 200 - c) for o, h, lo, c in rows]


def venue_of(folder):
    return read(folder / "venue.json")


def stops_of(folder):
    return [row for row in venue_of(folder)["orders"] if row["exectype"] == bt.Order.Stop]


def filled(folder):
    return [row["size"] for row in venue_of(folder)["log"] if row["what"] == "filled"]


def held(folder):
    return venue_of(folder)["positions"]["D0"][0]


def lines(folder, action):
    saved = read_state(folder / "risk.db", 1000).decisions
    return [line[-1] for line in saved if line[3] == action]


def begin(folder, side=1):
    """Hold 100 behind a stop at the venue, and end the run; return the row of the stop."""
    run(folder, mirrored(RISE, side), strategy=Holds if side > 0 else Shorts)
    assert held(folder) == side * 100
    (stop,) = stops_of(folder)
    return stop


def go_on(folder, rows, side=1, strategy=None, **options):
    kind = strategy or (Holds if side > 0 else Shorts)
    return run(folder, mirrored([*RISE, *rows], side), strategy=kind, **options)


def ask(folder, verb, **args):
    request(folder / "risk.db", OperatorRequest(verb, "ann@desk", 1.0, args))


# -- where nothing proves that the stop is gone --------------------------------------------------


@pytest.mark.parametrize("lists", UNPROVEN)
@pytest.mark.parametrize("side", [1, -1])
def test_a_stop_that_is_not_listed_is_not_doubled_and_nothing_is_opened(side, lists, tmp_path):
    stop = begin(tmp_path, side)
    for rows in (STAND[:4], STAND):  # and again after a further restart
        strategy = go_on(tmp_path, rows, side, lists=lists)
        assert stops_of(tmp_path) == [stop]
        state, reason = strategy.broker.trading_state.why
        assert state == "REDUCING"
    why = {
        "none": "the broker lists no orders",
        "new": "the broker lists no orders",
        "error": "the broker's list of orders cannot be read (ConnectionError: no list)",
        "no method": "the broker has no list of orders",
    }[lists]
    path = tmp_path / "risk.db"
    assert reason == (
        f"state: {why}, and 100 D0 were guarded by a stop at {stop['price']:g} (id {stop['id']}). "
        f"Look at the venue, then `bt-risk resume --stops-are-gone {path}` or `--stops-are-there`"
    )


@pytest.mark.parametrize("side", [1, -1])
def test_the_stop_at_the_venue_fills_and_the_account_ends_flat(side, tmp_path):
    stop = begin(tmp_path, side)
    drop = [(112, 112, 90, 91), *flat(5, price=91.0)]
    strategy = go_on(tmp_path, [*STAND, *drop], side, lists="none", strategy=Passive)
    assert held(tmp_path) == 0
    assert venue_of(tmp_path)["orders"] == []
    assert filled(tmp_path) == [side * 100, -side * 100]
    (trade,) = strategy.broker.book.trades
    assert trade.pnl == pytest.approx(100 * side * (stop["price"] - 100))
    assert strategy.broker.state == "ACTIVE"  # its own report shows which order it was


def test_an_addition_behind_an_unlisted_stop_is_guarded_by_a_stop_of_its_own(tmp_path):
    stop = begin(tmp_path)
    book = venue_of(tmp_path)
    write(tmp_path / "venue.json", book | {"positions": {"D0": [130, 102.0]}})
    go_on(tmp_path, STAND, lists="none")
    assert stops_of(tmp_path)[0] == stop
    assert [row["left"] for row in stops_of(tmp_path)] == [-100, -30]


@pytest.mark.parametrize("replaces", [True, False])
@pytest.mark.parametrize("no_list", [5, 40])
@pytest.mark.parametrize("side", [1, -1])
def test_a_stop_that_is_listed_late_gives_way_to_the_one_beside_it(
    side, no_list, replaces, tmp_path
):
    """The list comes back when the addition has a stop already: one is left, for all."""
    begin(tmp_path, side)
    price = 102.0 if side > 0 else 98.0
    write(tmp_path / "venue.json", venue_of(tmp_path) | {"positions": {"D0": [130 * side, price]}})
    clock = itertools.count(step=1.0)
    rows = [*STAND, *flat(12, price=112.0)]
    live = {"clock": lambda: next(clock)}
    options = {"can": {"order_lists": True, "replace": replaces}, "live": live}
    strategy = go_on(tmp_path, rows, side, strategy=Passive, no_list=no_list, **options)
    guards = [row for row in venue_of(tmp_path)["log"] if row["what"] == "guard"]
    resting = [sum(size for size, _ in row["stops"]) for row in guards if row["bar"] > 25]
    assert max(map(abs, resting)) == 130
    assert [row["left"] for row in stops_of(tmp_path)] == [-130 * side]
    assert strategy.broker.state == "ACTIVE"


class Both(bt.Strategy):
    """Two owners of one data feed."""

    params = (("size", 100),)

    def next(self):
        if bar_of(self.data) == 20 and not self.broker.book.find(self.data).orders:
            self.buy(size=self.p.size)
        elif bar_of(self.data) == 20:
            self.buy(size=2 * self.p.size)


@pytest.mark.parametrize("gone", [True, False])
def test_the_stops_of_two_owners_are_each_in_question(gone, tmp_path, monkeypatch):
    add = bt.Cerebro.addstrategy
    monkeypatch.setattr(
        bt.Cerebro, "addstrategy", lambda self, *args: [add(self, *args) for _ in range(2)]
    )
    run(tmp_path, RISE, strategy=Both)
    before = stops_of(tmp_path)
    assert sorted(row["left"] for row in before) == [-200, -100]
    strategy = go_on(tmp_path, STAND[:3], strategy=Passive, lists="none")
    assert stops_of(tmp_path) == before
    reason = strategy.broker.trading_state.why[1]
    assert "100 D0 were guarded" in reason
    assert "200 D0 were guarded" in reason
    if gone:
        write(tmp_path / "venue.json", venue_of(tmp_path) | {"orders": []})
    ask(tmp_path, "resume", stops="gone" if gone else "there")
    strategy = go_on(tmp_path, STAND, strategy=Passive, lists="none")
    assert sorted(row["left"] for row in stops_of(tmp_path)) == [-200, -100]
    assert (stops_of(tmp_path) == before) is not gone
    assert strategy.broker.state == "ACTIVE"


# -- what an operator says -----------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "between"])
@pytest.mark.parametrize("side", [1, -1])
def test_the_operator_says_that_the_stops_are_gone(side, when, tmp_path):
    stop = begin(tmp_path, side)
    write(tmp_path / "venue.json", venue_of(tmp_path) | {"orders": []})
    if when == "between":
        go_on(tmp_path, STAND[:3], side, lists="none")
        assert stops_of(tmp_path) == []
    ask(tmp_path, "resume", stops="gone")
    strategy = go_on(tmp_path, STAND, side, lists="none")
    (again,) = stops_of(tmp_path)
    assert again["left"] == -side * 100
    assert side * (again["price"] - stop["price"]) >= 0
    assert strategy.broker.state == "ACTIVE"


@pytest.mark.parametrize("side", [1, -1])
def test_what_two_stops_open_where_the_operator_was_wrong_is_closed(side, tmp_path):
    begin(tmp_path, side)
    ask(tmp_path, "resume", stops="gone")
    rows = [*STAND, (112, 112, 90, 91), *flat(6, price=91.0)]
    strategy = go_on(tmp_path, rows, side, lists="none", strategy=Passive)
    assert filled(tmp_path) == [side * 100, -side * 100, -side * 100, side * 100]
    assert held(tmp_path) == strategy.broker.book.instruments[0].size == 0


@pytest.mark.parametrize("side", [1, -1])
def test_the_operator_says_that_the_stops_are_there(side, tmp_path):
    stop = begin(tmp_path, side)
    ask(tmp_path, "resume", stops="there")
    for rows in (STAND[:4], STAND):  # the answer holds after a further restart
        strategy = go_on(tmp_path, rows, side, lists="none")
        assert strategy.broker.state == "ACTIVE"
        assert stops_of(tmp_path) == [stop]
    (answer,) = [text for text in lines(tmp_path, "request") if "Answer" in text]
    assert f"The stop at {stop['price']:g} (id {stop['id']}) of D0 counts as working" in answer


@pytest.mark.parametrize("stops", [None, "there"])
@pytest.mark.parametrize("side", [1, -1])
def test_a_stop_that_outlives_its_position_is_to_be_cancelled_by_hand(side, stops, tmp_path):
    stop = begin(tmp_path, side)

    class Closes(Passive):
        def next(self):
            if bar_of(self.data) == 26:
                self.close()

    if stops:
        ask(tmp_path, "resume", stops=stops)
    go_on(tmp_path, STAND, side, strategy=Closes, lists="none")
    assert held(tmp_path) == 0
    (line,) = [text for text in lines(tmp_path, "left over") if "cancel it by hand" in text]
    word = "sell" if side > 0 else "buy"
    assert f"the stop to {word} 100 at {stop['price']:g} (id {stop['id']})" in line


@pytest.mark.parametrize("side", [1, -1])
def test_a_stop_that_fills_although_its_position_was_closed_leaves_nothing(side, tmp_path):
    begin(tmp_path, side)

    class Closes(Passive):
        def next(self):
            if bar_of(self.data) == 26:
                self.close()

    rows = [*STAND, (112, 112, 90, 91), *flat(6, price=91.0)]
    strategy = go_on(tmp_path, rows, side, strategy=Closes, lists="none")
    assert filled(tmp_path) == [side * 100, -side * 100, -side * 100, side * 100]
    assert held(tmp_path) == strategy.broker.book.instruments[0].size == 0


def test_neither_a_plain_resume_nor_rearm_takes_it_back(tmp_path):
    begin(tmp_path)
    ask(tmp_path, "resume")
    ask(tmp_path, "rearm")
    strategy = go_on(tmp_path, STAND, lists="none")
    assert strategy.broker.state == "REDUCING"
    assert "--stops-are-gone" in strategy.broker.trading_state.why[1]
    answers = [line.partition("Answer: ")[2] for line in lines(tmp_path, "request")]
    assert [answer.partition(":")[0] for answer in answers] == [
        "not possible",
        "still REDUCING",
    ]


def test_a_halt_of_the_operator_stays_when_the_stops_are_settled(tmp_path):
    begin(tmp_path)
    ask(tmp_path, "halt", reason="news")
    ask(tmp_path, "resume", stops="there")
    assert go_on(tmp_path, STAND, lists="none").broker.state == "HALTED"


# -- where the broker proves it ------------------------------------------------------------------


@pytest.mark.parametrize("lists", ["all", "none"])
@pytest.mark.parametrize("lost", [True, False])
@pytest.mark.parametrize("side", [1, -1])
def test_a_broker_that_can_be_asked_needs_no_operator(side, lost, lists, tmp_path):
    """By its list of orders, or by the client id that the stop was sent with."""
    can = {"order_lists": True} if lists == "all" else {"client_ids": True}
    run(tmp_path, mirrored(RISE, side), strategy=Holds if side > 0 else Shorts, can=can)
    (stop,) = stops_of(tmp_path)
    if lost:
        write(tmp_path / "venue.json", venue_of(tmp_path) | {"orders": []})
    rise = [(112 + 4 * k, 116 + 4 * k, 112 + 4 * k, 116 + 4 * k) for k in range(4)]
    strategy = go_on(tmp_path, rise, side, lists=lists, can=can)
    (now,) = stops_of(tmp_path)
    assert now["left"] == -side * 100
    assert side * (now["price"] - stop["price"]) > 8  # it goes on trailing
    assert strategy.broker.state == "ACTIVE"
    assert lines(tmp_path, "reduce") == []


@pytest.mark.parametrize("side", [1, -1])
def test_a_stop_that_has_filled_gets_no_successor(side, tmp_path):
    """Its end is proven before the position is compared: a stop sent then would open a trade."""
    can = {"order_lists": True, "client_ids": True}
    run(tmp_path, mirrored(RISE, side), strategy=Holds if side > 0 else Shorts, can=can)
    venue = venue_of(tmp_path)
    write(tmp_path / "venue.json", venue | {"orders": [], "positions": {"D0": [0, 0.0]}})
    strategy = go_on(tmp_path, STAND, side, strategy=Passive, can=can)
    assert [row["what"] for row in venue_of(tmp_path)["log"][len(venue["log"]) :]].count(
        "sent"
    ) == 0
    assert held(tmp_path) == strategy.broker.book.instruments[0].size == 0
    assert strategy.broker.state == "ACTIVE"


@pytest.mark.parametrize("side", [1, -1])
def test_one_answer_alone_proves_nothing(side, tmp_path):
    begin(tmp_path, side)
    before = len(venue_of(tmp_path)["log"])
    strategy = go_on(tmp_path, STAND[:1], side, lists="none once", can={"order_lists": True})
    sent = [row["what"] for row in venue_of(tmp_path)["log"][before:]]
    assert sent.count("sent") == sent.count("cancel")  # it is moved, after it was cancelled
    assert len(stops_of(tmp_path)) == 1
    assert strategy.broker.state == "ACTIVE"


@pytest.mark.parametrize("silent", [1, 2, 3, 8, 40])
@pytest.mark.parametrize("side", [1, -1])
def test_errors_at_the_start_are_no_traceback_and_settle_by_themselves(side, silent, tmp_path):
    stop = begin(tmp_path, side)
    clock = itertools.count(step=1.0)
    options = {"live": {"clock": lambda: next(clock)}, "silent": silent}
    strategy = go_on(tmp_path, STAND, side, **options)
    assert strategy.broker.state == "ACTIVE"
    assert strategy.broker.book.instruments[0].size == side * 100
    assert strategy.broker.book.trades == []
    (now,) = stops_of(tmp_path)
    assert now["left"] == -side * 100
    assert side * (now["price"] - stop["price"]) >= 0


def test_errors_at_the_start_without_a_state_are_no_traceback(tmp_path):
    begin(tmp_path)
    strategy = go_on(tmp_path, STAND, state=False, silent=3, strategy=Passive)
    assert strategy.broker.book.instruments[0].size == 100
    assert strategy.broker.state == "ACTIVE"


@pytest.mark.parametrize("state", [True, False])
def test_while_a_broker_does_not_say_what_it_holds_nothing_is_opened(state, tmp_path):
    begin(tmp_path)
    strategy = go_on(tmp_path, STAND, state=state, silent=10**6, strategy=Passive)
    assert len(stops_of(tmp_path)) == 1
    now, reason = strategy.broker.trading_state.asked["start"]
    assert now == "REDUCING"
    assert "does not say what it holds of D0 (ConnectionError: not connected yet)" in reason
    if state:
        assert lines(tmp_path, "broker error") == [reason]


# -- positions that a store has not loaded -------------------------------------------------------


@pytest.mark.parametrize("forgets", [1, 3])
def test_a_position_that_a_store_has_not_loaded_yet_was_not_closed(forgets, tmp_path):
    stop = begin(tmp_path)
    strategy = go_on(tmp_path, STAND, lists="none", forgets=forgets)
    assert strategy.broker.book.trades == []
    assert strategy.broker.book.instruments[0].size == 100
    assert stops_of(tmp_path) == [stop]


def test_a_position_that_is_never_reported_opens_nothing_and_is_not_guarded_twice(tmp_path):
    stop = begin(tmp_path)
    strategy = go_on(tmp_path, STAND, lists="none", forgets=10**6)
    assert strategy.broker.state == "REDUCING"
    assert stops_of(tmp_path) == [stop]
    assert held(tmp_path) == 100


# -- orders that a store invents -----------------------------------------------------------------


class Inventing(PersistentBroker):
    """Explain the position at the start, and what is closed by hand at bar 26, by an order."""

    def start(self):
        super().start()
        self._told = self._closed = False

    def _invent(self, size, price, time=0.0):
        data = self.cerebro.datas[0]
        kind = bt.order.BuyOrder if size > 0 else bt.order.SellOrder
        order = kind(owner=None, data=data, size=abs(size), price=price, simulated=True)
        order.addcomminfo(self.getcommissioninfo(data))
        order.execute(time, size, price, 0, 0, 0, size, size * price, 0, 0, 0, size, price)
        order.completed()
        self._news.append(order)

    def next(self):
        super().next()
        data = self.cerebro.datas[0]
        position = self._positions[data]
        if not self._told:
            self._told = True
            self._invent(position.size, position.price) if position.size else None
        if len(data) and bar_of(data) == 26 and not self._closed:
            self._closed = True
            size, price = -position.size, 111.0 if position.size > 0 else 89.0
            self._positions[data].update(size, price)
            self.cash -= size * price
            self._save()
            self._invent(size, price, data.datetime[0])


@pytest.mark.parametrize("every", [0.0, 5.0])
@pytest.mark.parametrize("side", [1, -1])
def test_what_is_closed_by_hand_later_is_booked_and_its_stop_withdrawn(
    side, every, tmp_path, monkeypatch
):
    begin(tmp_path, side)
    monkeypatch.setattr("helpers.restarts.PersistentBroker", Inventing)
    clock = itertools.count(step=1.0)
    live = {"clock": lambda: next(clock), "reconcile_every": every}
    strategy = go_on(tmp_path, STAND, side, strategy=Passive, live=live)
    assert strategy.broker.book.instruments[0].size == 0
    assert held(tmp_path) == 0
    assert stops_of(tmp_path) == []
    (trade,) = strategy.broker.book.trades
    assert trade.pnl == pytest.approx(100 * 11)
    assert trade.side == side


@pytest.mark.parametrize("size", [130, 60])
def test_an_order_that_explains_the_position_at_the_start_is_not_booked(
    size, tmp_path, monkeypatch
):
    begin(tmp_path)
    write(tmp_path / "venue.json", venue_of(tmp_path) | {"positions": {"D0": [size, 102.0]}})
    monkeypatch.setattr("helpers.restarts.PersistentBroker", Inventing)
    strategy = go_on(tmp_path, STAND[:2], strategy=Passive, live={"reconcile_every": 0.0})
    assert strategy.broker.book.instruments[0].size == size
    assert [row["left"] for row in stops_of(tmp_path)] == [-size]
    closed = [line for line in lines(tmp_path, "note") if "were closed" in line]
    assert len(closed) == (size < 100)


# -- market exits of bt_risk ---------------------------------------------------------------------


class Halts(Holds):
    """Halt and flatten at bar 24; the run ends while the exit is at the venue."""

    def next(self):
        super().next()
        if bar_of(self.data) == 24:
            self.broker.halt("enough", flatten=True)


class HaltsShort(Halts):
    side = -1


def begin_to_leave(folder, side, **options):
    kind = Halts if side > 0 else HaltsShort
    run(folder, mirrored([*RISE, STAND[0]], side), strategy=kind, **options)
    assert held(folder) == side * 100
    (exit_,) = venue_of(folder)["orders"]
    assert (exit_["exectype"], exit_["left"]) == (bt.Order.Market, -side * 100)


@pytest.mark.parametrize("lists", UNPROVEN)
@pytest.mark.parametrize("side", [1, -1])
def test_a_market_exit_that_is_not_listed_is_not_sent_twice(side, lists, tmp_path):
    begin_to_leave(tmp_path, side)
    strategy = go_on(tmp_path, STAND, side, lists=lists)
    assert filled(tmp_path) == [side * 100, -side * 100]
    assert venue_of(tmp_path)["orders"] == []
    assert strategy.broker.state == "HALTED"
    assert "flat: enough" in lines(tmp_path, "flat")


@pytest.mark.parametrize("can", ["order_lists", "client_ids", ""])
@pytest.mark.parametrize("side", [1, -1])
def test_a_market_exit_that_the_venue_has_lost_is_sent_again(side, can, tmp_path):
    """Where the broker cannot prove that, the operator says so."""
    options = {"can": {can: True} if can else {}}
    begin_to_leave(tmp_path, side, **options)
    write(tmp_path / "venue.json", venue_of(tmp_path) | {"orders": []})
    if not can:
        go_on(tmp_path, STAND[:3], side, lists="none")
        assert held(tmp_path) == side * 100
        (reason,) = [line for line in lines(tmp_path, "reduce") if "stops-are-gone" in line]
        assert "and 100 D0 were being closed by a market exit (id V" in reason
        ask(tmp_path, "resume", stops="gone")
    lists = "all" if can == "order_lists" else "none"
    go_on(tmp_path, STAND, side, lists=lists, **options)
    assert filled(tmp_path) == [side * 100, -side * 100]
    assert "flat: enough" in lines(tmp_path, "flat")


@pytest.mark.parametrize("reports", [True, False])
@pytest.mark.parametrize("lists", ["all", "none"])
@pytest.mark.parametrize("side", [1, -1])
def test_a_market_exit_that_filled_in_the_meantime_is_not_waited_for(
    side, lists, reports, tmp_path
):
    begin_to_leave(tmp_path, side)
    meanwhile(tmp_path / "venue.json", "D0", mirrored(STAND[:1], side), first=25)
    strategy = go_on(tmp_path, STAND, side, lists=lists, reports=reports)
    assert held(tmp_path) == strategy.broker.book.instruments[0].size == 0
    assert filled(tmp_path) == [side * 100, -side * 100]
    assert "flat: enough" in lines(tmp_path, "flat")
    assert "stops" not in strategy.broker.trading_state.asked


@pytest.mark.parametrize("side", [1, -1])
def test_a_flatten_waits_until_the_saved_position_is_compared_with_the_broker(side, tmp_path):
    """List and client id prove in one look that the exit has ended: it has closed the position."""
    options = {"can": {"order_lists": True, "client_ids": True}}
    begin_to_leave(tmp_path, side, **options)
    meanwhile(tmp_path / "venue.json", "D0", mirrored(STAND[:1], side), first=25)
    strategy = go_on(tmp_path, STAND, side, lists="all", **options)
    sent = [row for row in venue_of(tmp_path)["log"] if row["what"] == "sent"]
    exits = [row["size"] for row in sent if row["exectype"] == bt.Order.Market][1:]
    assert exits == [100], "a second exit was sent"
    assert held(tmp_path) == strategy.broker.book.instruments[0].size == 0
    assert "flat: enough" in lines(tmp_path, "flat")


class HaltsOnly(Passive):
    def next(self):
        if bar_of(self.data) == 26:
            self.broker.halt("enough")


def test_an_order_that_no_run_has_sent_is_counted_and_a_halt_leaves_it_alone(tmp_path):
    begin(tmp_path)
    strange = {"id": "F1", "data": "D0", "side": 1, "left": 50, "price": 10.0}
    book = venue_of(tmp_path)
    orders = [*book["orders"], strange | {"exectype": bt.Order.Limit}]
    write(tmp_path / "venue.json", book | {"orders": orders})
    strategy = go_on(tmp_path, STAND, strategy=HaltsOnly, lists="all", can={"order_lists": True})
    assert "state: an order for +50 is working that no run has saved" in lines(tmp_path, "note")
    assert strategy.broker.state == "HALTED"
    assert "F1" in [order["id"] for order in venue_of(tmp_path)["orders"]]
    (foreign,) = [w for w in strategy.broker.book.working.values() if w.foreign]
    assert (foreign.remaining, foreign.opening) == (50, 50)
