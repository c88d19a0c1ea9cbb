"""The life of an order, from the rows that a run saves of it."""

import math
import sqlite3
from contextlib import closing

from helpers.restarts import ROWS, Wants, in_child, killed_run, run
from helpers.scenarios import flat

import bt_risk
from bt_risk.state.file import read_state
from bt_risk.state.history import read_journal, read_order
from bt_risk.state.order_life import order_events

ROW = {
    "data": "BTC",
    "owner": 0,
    "side": 1,
    "size": 10.0,
    "remaining": 10.0,
    "opening": 10.0,
    "kind": "limit",
    "price": 96.0,
    "own": False,
    "venue_id": None,
}
END = {"status": "Completed", "filled": 10.0, "paid": 95.5, "reason": None}


def sentences(*rows):
    return [sentence for _, sentence in order_events((1.0, row) for row in rows)]


def test_an_entry_that_fills_in_parts():
    sent = ROW | {"venue_id": "V7"}
    part = sent | {"remaining": 4.0, "opening": 4.0, "paid": 95.0}
    assert sentences(ROW, sent, part, END) == [
        "sent by strategy 0: buy 10 BTC, limit at 96, an entry",
        "the venue calls it V7",
        "filled 6, 4 left; 95 on average",
        "ended Completed, 10 filled at 95.5",
    ]


def test_an_order_that_closes_and_opens_says_how_much_may_open():
    first = sentences(ROW | {"side": -1, "opening": 4.0, "kind": "market", "price": math.nan})
    assert first == ["sent by strategy 0: sell 10 BTC, market, of which 4 may open a position"]


def test_a_stop_that_moves_is_resized_and_withdrawn():
    stop = ROW | {"kind": "stop", "side": -1, "opening": 0.0, "own": True, "venue_id": "V8"}
    stop["reason"] = "ATRTrailingStop: stop of BTC"
    moved = stop | {"price": 97.0}
    smaller = moved | {"size": 6.0, "remaining": 6.0}
    ended = {"status": "Canceled", "filled": 0.0, "paid": None, "reason": stop["reason"]}
    assert sentences(stop, moved, smaller, ended) == [
        "sent by bt_risk: sell 10 BTC, stop at 96, an exit (ATRTrailingStop: stop of BTC)"
        "; the venue calls it V8",
        "is to move from 96 to 97",
        "resized from 10 to 6",
        "ended Canceled",
    ]


def test_an_allowance_that_a_halt_takes_is_said():
    assert sentences(ROW, ROW | {"opening": 0.0})[1:] == ["may open 0 from now on, not 10"]


def test_an_end_that_nobody_has_reported_is_not_called_one():
    (_, last) = sentences(ROW, {"status": None})
    assert last == "ended: it was not sent, or the broker does not list it after a restart"


# -- what a run saves ----------------------------------------------------------------------------


def test_a_run_saves_the_life_of_a_cut_entry_and_of_its_stop(tmp_path):
    off = dict.fromkeys(("notional_limit", "exposure_limit", "correlation_limit"))
    policy = bt_risk.Policy(**off, risk_limit=0.002, drawdown_limit=0.06, atr_multiple=5.0)
    run(tmp_path, rows=ROWS[:23], policy=policy)
    path = tmp_path / "risk.db"
    entry = read_order(path, "V1")
    assert [sentence for _, sentence in entry.events] == [
        "sent by strategy 0: buy 20 D0, market, an entry",
        "the venue calls it V1",
        "ended Completed, 20 filled at 100",
    ]
    (line,) = entry.lines
    assert (line.values[3:6], line.values[2]) == (["trim", 100.0, 20.0], "RiskPerTrade")
    assert entry.record is None
    assert read_order(path, f"#{line.number}").client_id == entry.client_id
    assert read_order(path, entry.client_id) == entry
    stop = read_order(path, "V2")
    assert [sentence for _, sentence in stop.events][:3] == [
        "sent by bt_risk: sell 20 D0, stop at 90, an exit",
        "the venue calls it V2 (ATRTrailingStop: stop of D0)",
        "is to move from 90 to 93.2857",
    ]
    assert stop.events[-1][1] == "ended Canceled"


def test_a_line_of_an_order_that_was_refused_is_its_whole_life(tmp_path):
    off = dict.fromkeys(("notional_limit", "exposure_limit", "correlation_limit"))
    run(tmp_path, rows=ROWS[:22], policy=bt_risk.Policy(**off, risk_limit=1e-9, atr_multiple=5.0))
    path = tmp_path / "risk.db"
    line = next(one for one in read_journal(path) if one.values[3] == "reject")
    order = read_order(path, str(line.number))
    assert (order.client_id, order.events, order.record) == ("", [], None)
    assert order.lines == [line]


def test_the_life_of_an_order_goes_on_after_a_restart(tmp_path):
    assert in_child(killed_run, tmp_path, 40, after=True)
    path = tmp_path / "risk.db"
    before = read_order(path, "V2").events
    run(tmp_path, rows=ROWS[:25])
    after = read_order(path, "V2").events
    assert after[: len(before)] == before
    stop = next(iter(read_state(path).of("order").values()))
    assert stop["kind"] == "stop"
    assert read_order(path, stop["venue_id"]).record == stop


def test_what_is_seen_of_an_order_again_and_again_is_no_event(tmp_path):
    class Sees(Wants):
        """Change the record of the stop on every bar, as a look at the venue does."""

        def next(self):
            super().next()
            recorder = self.broker.recovery.recorder
            order = recorder._order
            recorder._order = lambda *args: order(*args) | {"seen_at": float(len(self))}

    run(tmp_path, rows=[*ROWS[:21], *flat(8, price=100.0)], strategy=Sees)
    path = tmp_path / "risk.db"
    stop = next(iter(read_state(path).of("order").values()))
    assert stop["seen_at"] > 25
    with closing(sqlite3.connect(path)) as db:
        query = "SELECT count(*) FROM order_events GROUP BY client_id"
        assert max(count for (count,) in db.execute(query)) <= 4
