"""The files of a state are private, and a run that cannot write them does not start."""

import os
import resource
import stat
import tempfile
from pathlib import Path

import backtrader as bt
import pytest
from helpers.fake_broker import FakeBroker
from helpers.frames import PandasData
from helpers.live_feed import LiveFrame
from helpers.restarts import ROWS, in_child, run
from helpers.scenarios import Script, bars, flat

import bt_risk
from bt_risk.state.file import StateFile, read_state

NOBODY = 65534


def modes(folder):
    return {one.name: stat.S_IMODE(one.stat().st_mode) for one in folder.iterdir()}


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o277, 0o777], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield
    os.umask(before)


def test_files_of_a_state_are_for_its_user_alone(tmp_path, umask):
    file = StateFile(tmp_path / "risk.db")
    file.write({("run", "x"): "{}"})
    found = modes(tmp_path)
    file.close()
    assert found.keys() >= {"risk.db", "risk.db-wal", "risk.db-shm", "risk.db-lock"}
    assert set(found.values()) == {0o600}
    assert set(modes(tmp_path).values()) == {0o600}


def test_a_wider_mode_of_files_that_exist_is_narrowed(tmp_path):
    def dies():
        file = StateFile(tmp_path / "risk.db")
        file.write({("run", "x"): "{}"})
        os._exit(0)

    assert in_child(dies) == 0
    (tmp_path / "risk.db.damaged").touch()
    for one in tmp_path.iterdir():
        one.chmod(0o666)
    assert modes(tmp_path).keys() >= {"risk.db", "risk.db-wal", "risk.db-shm", "risk.db.damaged"}
    file = StateFile(tmp_path / "risk.db")
    assert set(modes(tmp_path).values()) == {0o600}
    file.close()


def test_a_file_that_is_set_aside_is_private_too(tmp_path):
    for name in ("risk.db", "risk.db-wal"):
        (tmp_path / name).write_bytes(b"what it held" * 1000)
        (tmp_path / name).chmod(0o644)
    StateFile(tmp_path / "risk.db").close()
    assert {"risk.db.damaged", "risk.db.damaged-wal"} <= modes(tmp_path).keys()
    assert set(modes(tmp_path).values()) == {0o600}


def test_a_file_of_another_user_is_used_with_a_warning(tmp_path, monkeypatch, caplog):
    StateFile(tmp_path / "risk.db").close()
    (tmp_path / "risk.db").chmod(0o660)

    def refused(path, mode):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("pathlib.Path.chmod", refused)
    StateFile(tmp_path / "risk.db").close()
    assert "others may read" in caplog.text


# -- a run that cannot save does not start -------------------------------------------------------


def the_error(path):
    with pytest.raises(bt_risk.StateError) as raised:
        StateFile(path)
    text = str(raised.value)
    assert text.startswith(f"state: {path} cannot be ")
    assert text.endswith("A run whose state cannot be saved does not start.")
    return text


@pytest.mark.parametrize("room", [0, 100, 5000, 30_000])
def test_a_full_disk_at_the_start_is_one_error_and_no_loss(tmp_path, room):
    """No file may grow beyond `room`; once there is room, the state is as new as it was."""
    path = tmp_path / "risk.db"

    def on_a_full_disk():
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        the_error(path)

    assert in_child(on_a_full_disk) == 0
    assert not any(one.name in ("risk.db", "risk.db-lock") for one in tmp_path.iterdir())
    file = StateFile(path)
    assert file.new
    file.close()


def test_a_full_disk_loses_no_state_that_exists(tmp_path):
    path = tmp_path / "risk.db"
    file = StateFile(path)
    file.write({("run", "x"): '{"is": 1}'})
    file.close()

    def on_a_full_disk():
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        the_error(path)

    assert in_child(on_a_full_disk) == 0
    file = StateFile(path)
    assert not file.lost
    assert file.saved.records == {("run", "x"): {"is": 1}}
    file.close()


@pytest.fixture
def shared_folder():
    """Yield a folder that another user reaches: those above `tmp_path` may be private."""
    with tempfile.TemporaryDirectory(dir="/tmp") as found:
        yield Path(found)


@pytest.mark.parametrize("exists", [True, False])
def test_a_folder_that_cannot_be_written_is_one_error(shared_folder, exists):
    path = shared_folder / "risk.db"
    if exists:
        file = StateFile(path)
        file.write({})
        file.close()

    def as_a_user():
        if not os.geteuid():
            for one in (shared_folder, *shared_folder.iterdir()):
                os.chown(one, NOBODY, NOBODY)
            os.setegid(NOBODY)
            os.seteuid(NOBODY)
        shared_folder.chmod(0o500)
        assert "in use" not in the_error(path)

    assert in_child(as_a_user) == 0
    shared_folder.chmod(0o700)
    assert not StateFile(path).lost or not exists


# -- the data feeds of a run ---------------------------------------------------------------------


def engine_of(folder, *names, feed=PandasData):
    engine = bt.Cerebro(stdstats=False)
    for name in names:
        engine.adddata(feed(dataname=bars(*flat(30))), name=name)
    engine.addstrategy(Script)
    bt_risk.protect(engine, state=folder / "risk.db")
    return engine


@pytest.mark.parametrize(
    "names", [("X", "X"), ("A", "X", "B", "X"), (None, "data0"), ("", "data0")]
)
def test_data_feeds_of_one_name_raise_when_the_run_begins(tmp_path, names):
    with pytest.raises(bt_risk.ParameterError, match="state must be used with data feeds of diff"):
        engine_of(tmp_path, *names).run()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("names", [("X", "Y"), (None, None), ("X", "x")])
def test_data_feeds_of_different_names_have_a_record_each(tmp_path, names):
    engine_of(tmp_path, *names).run()
    assert len(read_state(tmp_path / "risk.db").of("instrument")) == 2


@pytest.mark.parametrize("broker", [FakeBroker, bt.brokers.BackBroker])
@pytest.mark.parametrize("late", [(3, 0), (0, 3), (2, 3), (1, 60), (3, 3)])
def test_live_feeds_that_bring_no_bar_in_the_first_rounds_end_no_run(tmp_path, late, broker):
    """A store begins with rounds without a bar, and one of its feeds may be long without one."""

    class LateFrame(LiveFrame):
        params = (("rounds", 0),)

        def start(self):
            super().start()
            self._wait, self._ended = self.p.rounds, False

        def _load(self):
            found = False if self._ended else super()._load()
            self._ended = found is False
            return found

    for _ in range(2):
        engine = bt.Cerebro(stdstats=False)
        for number, rounds in enumerate(late):
            feed = LateFrame(dataname=bars(*flat(5)), rounds=rounds)
            engine.adddata(feed, name=f"D{number}")
        engine.setbroker(broker())
        # A strategy that asks BackBroker for a position too early ends the run of plain Backtrader.
        engine.addstrategy(Script if broker is FakeBroker else bt.Strategy)
        bt_risk.protect(engine, state=tmp_path / "risk.db")
        engine.run()
    found = read_state(tmp_path / "risk.db").of("instrument")
    assert [found[f"D{number}"]["bars"] for number in (0, 1)] == [5, 5]


def test_a_run_says_on_one_line_why_its_state_cannot_be_opened(tmp_path):
    (tmp_path / "risk.db").mkdir()
    with pytest.raises(bt_risk.StateError, match="cannot be"):
        run(tmp_path, rows=ROWS[:19])
