"""The heartbeat of a live run: at most every five seconds, and with what the account is worth."""

from itertools import pairwise

from helpers.restarts import ROWS, Wants, run

from bt_risk.state.file import read_state


class Times:
    """Stand in for `time.time`: each call is `step` seconds later."""

    def __init__(self, step):
        self.step, self.seconds = step, 1_600_000_000.0

    def __call__(self):
        self.seconds += self.step
        return self.seconds


def beats(folder, step):
    """Return the different heartbeats that a run has saved, with their equity."""
    found = []

    class Reads(Wants):
        def next(self):
            super().next()
            record = read_state(folder / "risk.db").records.get(("run", "heartbeat"))
            if record and record not in found:
                found.append(record)

    run(folder, rows=ROWS[:25], strategy=Reads, live={"now": Times(step)})
    return found


def test_a_heartbeat_has_the_time_and_the_equity_of_the_loop(tmp_path):
    found = beats(tmp_path, 5.0)
    assert len(found) > 10
    assert found[0]["equity"] == 100_000.0
    assert found[-1]["equity"] > 100_100.0
    assert all(one["time"] > 1_600_000_000.0 for one in found)


def test_a_heartbeat_is_not_saved_more_often_than_every_five_seconds(tmp_path):
    found = beats(tmp_path, 1.0)
    gaps = [later["time"] - one["time"] for one, later in pairwise(found)]
    assert min(gaps) == 5.0


def test_a_clock_that_is_set_back_does_not_end_the_heartbeat(tmp_path):
    found = beats(tmp_path, -1.0)
    assert len(found) > 10
