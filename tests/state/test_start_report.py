"""The line about the start of a live run: what was restored, what the broker has, what follows."""

import logging

from helpers.frames import PandasData
from helpers.persistent_broker import PersistentFeed, read, write
from helpers.restarts import POLICY, ROWS, Wants, run
from helpers.scenarios import flat

import bt_risk
from bt_risk.state.file import read_state, request
from bt_risk.state.requests import OperatorRequest


def started(folder, rows, **kwargs):
    """Run, and return the line about the start, without its name of the run and the file."""
    run(folder, rows=rows, **kwargs)
    lines = [line for line in read_state(folder / "risk.db", 1000).decisions if line[3] == "start"]
    text = lines[-1][-1]
    head = f"state: run {len(lines)} with {folder / 'risk.db'}. "
    assert text.startswith(head)
    return text.removeprefix(head)


def test_the_first_run_restores_nothing(tmp_path):
    why = f"{tmp_path / 'risk.db'} did not exist"
    text = started(tmp_path, ROWS[:23])
    assert text == f"Nothing was restored: {why}. The broker holds nothing. Entries pass."


def test_a_restart_names_the_position_the_stop_and_what_entries_wait_for(tmp_path):
    run(tmp_path, rows=ROWS[:25])
    assert started(tmp_path, ROWS[:27]) == (
        "Restored: +100 D0, 1 working order, 0 closed trades, a drawdown of 0.20 %. The broker "
        "holds +100 D0. +100 D0: its stop at 102.438 rests. Entries wait: D0 has had no new bar "
        "since the restart."
    )


def test_a_stop_that_the_broker_does_not_list_is_named(tmp_path):
    run(tmp_path, rows=ROWS[:23])
    book = read(tmp_path / "venue.json")
    (stop,) = book["orders"]
    book["orders"] = []
    write(tmp_path / "venue.json", book)
    text = started(tmp_path, ROWS[:25])
    lost = f"sell 100 D0 stop at {stop['price']:g} ({stop['id']})"
    assert f"It does not list what was saved as working: {lost}." in text


def test_a_lost_state_says_why_entries_are_refused_and_says_it_once(tmp_path):
    run(tmp_path, rows=ROWS[:23])
    for file in tmp_path.glob("risk.db*"):
        file.unlink()
    text = started(tmp_path, ROWS[:25])
    assert text.startswith("Nothing was restored. The broker holds +100 D0. ")
    assert text.count("did not exist") == 1
    assert "REDUCING: state:" in text
    assert f"`bt-risk rearm {tmp_path / 'risk.db'}`" in text


def test_a_halt_that_goes_on_is_said(tmp_path):
    run(tmp_path, rows=ROWS[:23])
    request(tmp_path / "risk.db", OperatorRequest("halt", "ann@desk", 1.0, {"reason": "news"}))
    assert "HALTED: news (halt by ann@desk)." in started(tmp_path, ROWS[:25])


def test_a_feed_without_a_bar_is_waited_for_and_then_named(tmp_path, monkeypatch):
    begin, seconds = PersistentFeed.start, iter(range(10**6))

    def begin_late(self):
        begin(self)
        self._wait = 50

    monkeypatch.setattr(PersistentFeed, "start", begin_late)
    text = started(tmp_path, ROWS[:21], live={"clock": lambda: float(next(seconds))})
    assert "Not compared with the broker yet, for want of a bar: D0." in text
    assert "The broker holds nothing" not in text


def test_the_line_is_the_only_one_about_the_start_in_the_log(tmp_path, caplog):
    run(tmp_path, rows=ROWS[:23])
    caplog.set_level(logging.INFO, "bt_risk")
    run(tmp_path, rows=ROWS[:25])
    about = [record.getMessage() for record in caplog.records]
    about = [text for text in about if not text.startswith(("enforce", "loop: "))]
    assert len(about) == 1
    assert " start state: run 2 with " in about[0]


def test_a_run_on_backtraders_own_broker_has_no_such_line(tmp_path):
    import backtrader as bt
    from helpers.scenarios import bars

    engine = bt.Cerebro(stdstats=False)
    engine.adddata(PandasData(dataname=bars(*flat(20))), name="D0")
    engine.addstrategy(Wants)
    bt_risk.protect(engine, POLICY, state=tmp_path / "risk.db")
    engine.run()
    actions = [line[3] for line in read_state(tmp_path / "risk.db", 100).decisions]
    assert "start" not in actions
