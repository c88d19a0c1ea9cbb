"""Exits that wait at a live broker, and what they open by accident, over a restart."""

import signal

import backtrader as bt
import pytest
from helpers.persistent_broker import bar_of, meanwhile, read
from helpers.restarts import POLICY, in_child, killed_run, run
from helpers.scenarios import flat
from helpers.slices import sliced

from bt_risk.state.file import read_state

WIDE = (100, 106, 94, 100)
ROWS = [*flat(23), WIDE, *flat(4)]
POINTS = range(8, 40)


class Exits(bt.Strategy):
    """Be long 100 on bar 20, with a take-profit and a stop of the strategy; leave as `way` says."""

    way = None

    def next(self):
        bar = bar_of(self.data)
        if bar == 20 and not self.position and not self.broker.book.working:
            self.buy(size=100)
        if bar == 21 and self.position and not self.mine():
            self.sell(size=100, price=105.0, exectype=bt.Order.Limit)
            self.sell(size=100, price=95.0, exectype=bt.Order.Stop)
        if bar == 22 and self.position and self.way:
            self.way()

    def mine(self):
        return [w for w in self.broker.book.working.values() if not w.own]


class Half(Exits):
    def way(self):
        if self.position.size == 100 and not any(w.kind == "market" for w in self.mine()):
            self.sell(size=40)


class Twice(Exits):
    def way(self):
        self.close()
        self.close()


def after_a_kill(folder, point, after, rows, strategy):
    died = in_child(killed_run, folder, point, after, rows=rows, strategy=strategy)
    run(folder, rows=rows, strategy=strategy)
    return died, read(folder / "venue.json")


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("point", sliced(POINTS, 6))
def test_what_two_exits_open_is_closed_whenever_the_process_dies(point, after, tmp_path):
    died, book = after_a_kill(tmp_path, point, after, ROWS, Exits)
    assert died in (0, signal.SIGKILL)
    assert book["positions"]["D0"][0] in (0, 100)  # it may have died before the exits were sent
    if book["positions"]["D0"][0] == 0:
        assert book["orders"] == []
    assert [r["excess"] for r in read_state(tmp_path / "risk.db").of("position").values()] in (
        [],
        [0.0],
    )


@pytest.mark.parametrize("strategy", [Half, Twice])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("point", sliced(POINTS, 6))
def test_an_exit_that_waits_never_turns_the_position(point, after, strategy, tmp_path):
    rows = [*flat(23), *flat(6)]
    _, book = after_a_kill(tmp_path, point, after, rows, strategy)
    held = book["positions"].get("D0", [0])[0]
    assert held in ((0, 60, 100) if strategy is Half else (0, 100))
    resting = [row["left"] for row in book["orders"] if row["exectype"] == bt.Order.Limit]
    assert -sum(resting) <= held


def test_two_exits_that_fill_while_no_run_is_active_leave_nothing_open(tmp_path):
    run(tmp_path, rows=ROWS[:22], strategy=Exits)
    meanwhile(tmp_path / "venue.json", "D0", [WIDE], 23)
    assert read(tmp_path / "venue.json")["positions"]["D0"][0] < 0
    run(tmp_path, rows=[*ROWS[:22], WIDE, *flat(6)], strategy=Exits, policy=POLICY)
    book = read(tmp_path / "venue.json")
    assert book["positions"]["D0"][0] == 0
    assert book["orders"] == []


class Later(Exits):
    def next(self):
        super().next()
        if bar_of(self.data) == 24 and self.position:
            self.close()
            self.close()


def test_a_restored_position_is_closed_once(tmp_path):
    rows = flat(28)
    run(tmp_path, rows=rows[:22], strategy=Later)
    strategy = run(tmp_path, rows=rows, strategy=Later)
    assert not [line for line in strategy.broker.journal.lines if "no run has saved" in line[-1]]
    book = read(tmp_path / "venue.json")
    assert [row["size"] for row in book["log"] if row["what"] == "filled"] == [100, -100]
    assert book["orders"] == []
    assert read_state(tmp_path / "risk.db").of("position") == {}
