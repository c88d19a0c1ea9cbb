"""End to end on loopback: a live run dies at any write of its state, or loses its line there.

The exchange goes on living in a process of its own, and its book is the oracle.
"""

import itertools
import os
import signal

import backtrader as bt
import pytest
from helpers.live_exchange import FINE, ROWS, exchange, trade
from helpers.restarts import in_child, levels, round_trips
from helpers.scenarios import flat
from helpers.slices import sliced

import bt_risk
from bt_risk.state.file import StateFile, read_state

MULTIPLE, PART, WHOLE = 3.0, 700, 900
SIGN = {"BUY": 1, "SELL": -1}
POLICY = bt_risk.Policy(
    risk_limit=None,
    exposure_limit=None,
    drawdown_limit=0.02,
    atr_multiple=MULTIPLE,
    action="pause",
    instruments=FINE,
)


class Holds(bt.Strategy):
    """Be long 900 from bar 21 to 24 and 700 from there on: decided anew on every live bar."""

    params = {"actions": None}

    def __init__(self):
        self.live, self.asked = False, []

    def notify_data(self, data, status, *args, **kwargs):
        self.live = status == data.LIVE

    def next(self):
        bar = self.data.datetime.datetime(0).hour * 60 + self.data.datetime.datetime(0).minute + 1
        wanted = WHOLE if 21 <= bar < 25 else PART if bar >= 25 else 0
        if not self.live or any(not w.own for w in self.broker.book.working.values()):
            return
        missing = wanted - self.position.size
        if missing > 1e-6 and (wanted == WHOLE or not self.position):
            self.buy(size=missing)
        elif missing < -1e-6:
            self.sell(size=-missing)


def go(venue, folder, state=True):
    """Trade until the bars end; go on where an earlier run has ended."""
    state = folder / "risk.db" if state else None
    return trade(venue, None, POLICY, idle=12, strategy=Holds, state=state)


def at_every_write(act):
    """Call ``act(n)`` before and after every write of the state: 0 and 1 for the first one."""
    write, count = StateFile.write, itertools.count()

    def counted(self, *args, **kwargs):
        number = next(count)
        act(2 * number)
        write(self, *args, **kwargs)
        act(2 * number + 1)

    StateFile.write = counted


def at_write(point, act, after):
    """Let something happen just before or just after a write of the state."""
    moment = 2 * (point - 1) + after
    at_every_write(lambda number: act() if number == moment else None)


def drop(venue):
    """Close the line for bars, and let the next requests get lost, or their answers."""
    venue.call("fault", {"kind": "sockets", "changes": False})
    venue.call("fault", {"kind": "lost answer", "changes": False})
    venue.call("fault", {"kind": "lost request", "changes": False, "times": 5})


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def killed_run(venue, folder, point, after):
    """Trade, and die at a write of the state."""
    at_write(point, die, after)
    go(venue, folder)


def mark_of(folder):
    state = read_state(folder / "risk.db").of("breaker").get("0:", {"state": {}})["state"]
    return state.get("high_water_mark", 0.0)


# -- what must hold, from the exchange's book ----------------------------------------------------


def trips_of(book):
    """Return ``(entry bar, entry price, exit bar, P&L)`` of every position, from the fills."""
    return round_trips(
        [
            {"what": "filled", "bar": bar, "price": price, "size": size * SIGN[side]}
            for _, side, size, price, bar in book["fills"]
        ]
    )


def check_guards(book, rows=ROWS):
    """Whenever a bar began: one stop of the right size at the right level, or an exit."""
    trips, still = trips_of(book)
    assert len(trips) <= 1, "a position was closed and opened again"
    for bar, held, stops, leaving in book["guards"]:
        if not held:
            assert stops == leaving == []
            continue
        opened = trips[0][:2] if trips else still
        level = levels(opened, bar, rows, MULTIPLE)[bar]
        rest = held + sum(leaving)
        wanted = [[-rest, pytest.approx(level)]] if rest else []
        assert stops == wanted, f"bar {bar}: {held} held, {leaving} leaving"


def check_end(book, folder, mark=0.0):
    """Flat and halted, every order needed, every trade counted once, the mark never lower."""
    assert book["trouble"] == []
    assert (book["position"], book["open"]) == (0, [])
    entries = [order for order in book["orders"] if order["side"] == "BUY"]
    exits = [o for o in book["orders"] if o["side"] == "SELL" and o["type"] == "MARKET"]
    assert [float(order["origQty"]) for order in entries] == [WHOLE]
    assert sum(float(order["origQty"]) for order in exits) == WHOLE
    saved = read_state(folder / "risk.db")
    breaker = saved.of("breaker")["0:"]
    assert breaker["state"]["status"] == "LOCKED"
    assert [trip["flattened"] for trip in breaker["trips"]] == [True]
    assert mark_of(folder) >= mark
    assert mark_of(folder) == pytest.approx(max(closing_equity(book)))
    trips, _ = trips_of(book)
    assert [t["pnl"] for t in saved.trades.values()] == pytest.approx([t[3] for t in trips])


def closing_equity(book):
    """Yield what the account was worth at the close of every bar, from the fills."""
    cash, held, fills = 100_000.0, 0.0, list(book["fills"])
    for number in range(20, len(ROWS) + 1):
        while fills and fills[0][4] <= number:
            _, side, size, price, _ = fills.pop(0)
            cash, held = cash - SIGN[side] * size * price, held + SIGN[side] * size
        yield cash + held * ROWS[number - 1][3]


# -- the matrix ----------------------------------------------------------------------------------

# Writes that every run makes which nobody kills; a few more depend on how fast the machine is.
POINTS, SOME_MORE = 60, 5
KILLS = [(point, after) for point in range(1, POINTS + 1) for after in (False, True)]


def reduced(cases, step, every):
    """Return all cases for `pytest -m soak`, of which every `step`-th is `full`.

    Of these every `every`-th runs each time. Both are odd: kills before a write and after one take
    turns.
    """
    some = iter(sliced(cases[::step], every, full_every=1))
    return [
        next(some) if number % step == 0 else pytest.param(*case, marks=pytest.mark.soak)
        for number, case in enumerate(cases)
    ]


@pytest.fixture(autouse=True)
def _every_write_as_it_was(monkeypatch):
    monkeypatch.setattr(StateFile, "write", StateFile.write)


def test_every_write_is_a_point(tmp_path):
    count = []
    at_every_write(lambda number: count.append(number))
    with exchange(ROWS, 20, tmp_path) as venue:
        go(venue, tmp_path)
        book = venue.book
    check_guards(book)
    check_end(book, tmp_path)
    assert POINTS <= len(count) / 2 <= POINTS + SOME_MORE


@pytest.mark.parametrize(("point", "after"), reduced(KILLS, 5, 9))
def test_killed_at_any_write_it_goes_on(point, after, tmp_path):
    with exchange(ROWS, 20, tmp_path) as venue:
        assert in_child(killed_run, venue, tmp_path, point, after) == signal.SIGKILL
        mark = mark_of(tmp_path)
        go(venue, tmp_path)
        book = venue.book
    check_guards(book)
    check_end(book, tmp_path, mark)


@pytest.mark.parametrize(("point", "after"), reduced(KILLS, 7, 7))
def test_the_line_drops_at_any_write_and_it_goes_on(point, after, tmp_path):
    with exchange(ROWS, 20, tmp_path) as venue:
        at_write(point, lambda: drop(venue), after)
        go(venue, tmp_path)
        book = venue.book
    check_guards(book)
    check_end(book, tmp_path)


@pytest.mark.parametrize(("point", "after"), reduced(KILLS[40:], 15, 5))
def test_the_line_drops_and_then_it_is_killed(point, after, tmp_path):
    """The requests of the last moments are lost, or their answers are."""

    def lost_run():
        at_write(point - 1, lambda: drop(venue), after)
        killed_run(venue, tmp_path, point, after)

    with exchange(ROWS, 20, tmp_path) as venue:
        assert in_child(lost_run) == signal.SIGKILL
        mark = mark_of(tmp_path)
        venue.call("mend", {})
        go(venue, tmp_path)
        book = venue.book
    check_guards(book)
    check_end(book, tmp_path, mark)


@pytest.mark.parametrize("point", sliced([27, 33, 38], 3))
def test_killed_and_the_market_goes_on_without_it(point, tmp_path):
    """The stop is where it would be had the run seen the bars, once it is there again."""
    with exchange(ROWS, 20, tmp_path) as venue:
        assert in_child(killed_run, venue, tmp_path, point, True) == signal.SIGKILL
        for _ in range(2):
            venue.call("next", {})
        missed = len(venue.book["guards"])
        go(venue, tmp_path)
        book = venue.book
    check_end(book, tmp_path)
    check_guards(book | {"guards": book["guards"][missed:]})


def test_a_high_that_no_run_has_seen_has_moved_the_stop(tmp_path):
    rows = [*ROWS[:25], (105, 112, 104, 111), (111, 111, 105, 106), *flat(6, 106.0)]
    with exchange(rows, 20, tmp_path) as venue:
        assert in_child(killed_run, venue, tmp_path, 38, True) == signal.SIGKILL
        while venue.book["guards"][-1][0] < 26:
            venue.call("next", {})
        missed = len(venue.book["guards"])
        go(venue, tmp_path)
        book = venue.book
    check_guards(book | {"guards": book["guards"][missed:]}, rows)
    assert book["guards"][-1][1] == PART


@pytest.mark.parametrize("point", sliced([25, 27, 29, 32], 4))
def test_killed_with_an_entry_that_has_filled_in_part(point, tmp_path):
    """What the venue counts in the position already is not counted again."""
    with exchange(ROWS, 20, tmp_path) as venue:
        venue.call("set", {"partial": 0.4})
        assert in_child(killed_run, venue, tmp_path, point, True) == signal.SIGKILL
        assert venue.book["position"] in (360, 900)
        strategy = go(venue, tmp_path)
        book = venue.book
    for _, held, stops, leaving in book["guards"]:
        assert [size for size, _ in stops] == [-held - sum(leaving)] * (held + sum(leaving) > 0)
    check_end(book, tmp_path)
    assert strategy.broker.inner.cash == pytest.approx(book["cash"])


@pytest.mark.full
def test_without_a_state_the_same_checks_fail(tmp_path):
    """Wherever a position was held or a halt was on when it died."""
    failed = []
    points = range(27, POINTS, 8)
    for point in points:
        folder = tmp_path / str(point)
        folder.mkdir()
        with exchange(ROWS, 20, folder) as venue:
            assert in_child(killed_run, venue, folder, point, True) == signal.SIGKILL
            go(venue, folder, state=False)
            book = venue.book
        try:
            check_guards(book)
            check_end(book, folder)
        except AssertionError:
            failed.append(point)
    assert len(failed) == len(points)
