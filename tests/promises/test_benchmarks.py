"""benchmarks/: what it compares is comparable, it says what is missing, and is quoted as it is."""

import json
import sys
from types import SimpleNamespace

import pytest
from helpers.benchmark_package import load

job, prices, quote, row, suite = map(load, ("job", "prices", "quote", "row", "suite"))
environment, replay, results, timing = map(load, ("environment", "replay", "results", "timing"))
peers, engine = load("peers"), load("peers.engine")


@pytest.fixture(scope="module")
def frames():
    """Return a few names."""
    return prices.panel(3, 200)


@pytest.fixture(scope="module")
def recording(frames):
    """Return what a protected run has sent."""
    return replay.record(frames)


def fills(cerebro):
    """Run; return every fill."""
    found = []

    class Fills(load("job").bt.Analyzer):
        def notify_order(self, order):
            if order.status == order.Completed:
                one = order.executed
                found.append((order.data._name, one.dt, one.size, one.price, one.comm))

    cerebro.addanalyzer(Fills)
    cerebro.run()
    return found


def test_the_bare_run_trades_what_the_protected_run_traded(frames, recording):
    protected, bare = job.protected(frames), replay.replay(frames, recording)
    expected = fills(protected)
    assert fills(bare) == expected
    assert len(expected) > 10
    assert bare.broker.getvalue() == pytest.approx(recording.value, abs=0.005)
    assert protected.broker.getvalue() == recording.value


def test_a_recording_has_the_stops_that_moved(recording):
    kinds = {kind for events in recording.events.values() for kind, *_ in events}
    assert {"send", "amend"} <= kinds


def test_runs_with_other_values_are_not_compared(frames, recording):
    speed = load("speed")
    with pytest.raises(ArithmeticError, match="the runs end with"):
        speed.run(lambda: replay.replay(frames, recording), recording.value + 1.0)


def test_rounds_take_turns_forwards_and_backwards():
    called = []
    runs = {name: (lambda name=name: called.append(name)) for name in "ab"}
    times = timing.take_turns(runs, 2)
    assert "".join(called) == "ab" + "ba" + "ab"
    assert [len(taken) for taken in times.values()] == [2, 2]


def test_a_ratio_is_the_median_of_the_ratios_of_the_rounds():
    found = timing.ratios({"a": [1.0, 2.0, 9.0], "b": [2.0, 2.0, 3.0]}, "b")["a"]
    assert found == timing.Spread(1.0, 0.5, 3.0)


def test_what_the_system_takes_for_memory_is_told_apart():
    rules = load("rules")
    parts = {"pandas": [(2.2, 0.2), (2.1, 0.1)], "ours": [(0.4, 0.3), (0.3, 0.2)]}
    note = rules._of_the_system(parts, "ours", "pandas")
    assert note == "0.05 without the system, which took 250 ms for memory"
    assert rules._of_the_system({**parts, "ours": [(0.1, 0.001)]}, "ours", "pandas") == ""
    whole, system = timing.parts_of_cpu()
    assert whole > system >= 0.0


@pytest.mark.parametrize(("goal", "missed"), [(0.4, True), (0.5, False), (None, False)])
def test_a_row_says_that_its_goal_is_missed(goal, missed):
    one = row.Row("speed", "1 x 10 bars", "protect", timing.Spread(0.5, 0.4, 0.6), "bare", goal)
    assert one.missed is missed
    assert ("missed" in " ".join(one.cells())) is missed


@pytest.mark.parametrize(("goal", "missed"), [(1e-7, True), (5e-7, False), (None, False)])
def test_a_row_with_a_time_has_a_goal_in_time(goal, missed):
    ratio, more = timing.Spread(1.1, 1.0, 1.2), timing.Spread(3e-7, 2e-7, 4e-7)
    one = row.Row("rules", "quiet bars", "AccountFloor", ratio, "no guard", goal, more=more)
    assert one.missed is missed
    cells = one.cells()
    assert cells[2] == "1.10"
    assert cells[6] == "+0.30 us a bar (+0.20 to +0.40)"
    assert cells[5] == ("0.10 us missed" if missed else "0.50 us" if goal else "")
    assert row.Row.of(one.record()) == one


def test_of_every_piece_of_a_run_the_quickest_turn_counts(monkeypatch):
    """The guard takes 2 us a bar flat and 3 us with a position, whatever disturbs which turn."""
    guards, disturbed = load("guards"), []
    bars = guards.PIECES  # each piece has one

    def pieces(builder, guard):
        half = bars // 2
        times = [1e-5] * (half - 1) + [2e-5] * half
        if guard:
            times = [time + (2e-6 if k < half - 1 else 3e-6) for k, time in enumerate(times)]
        times[len(disturbed) % len(times)] += 0.5
        disturbed.append(guard)
        return times

    monkeypatch.setattr(guards, "_pieces", pieces)
    without, with_it = guards._quickest(None, "a guard", 3)
    more = [(one - other) / bars for one, other in zip(with_it, without, strict=True)]
    assert more == pytest.approx([2e-6, 3e-6])
    assert disturbed == ["a guard", (), (), "a guard", "a guard", ()]


def test_an_engine_that_is_missing_is_a_row_that_says_so(monkeypatch):
    few = {
        "stop": {"backtrader": "", "bt_risk.fast": "", "backtesting.py": ""},
        "rotation": {"backtrader": "", "bt_risk, observe": ""},
    }
    monkeypatch.setattr(peers, "ENGINES", few)
    options = SimpleNamespace(quick=True, peers=sys.executable)
    rows = {(one.work.partition(",")[0], one.run): one for one in peers.rows(options)}
    assert rows["stop", "backtrader"].ratio.median == 1.0
    for job_name, name in (("stop", "bt_risk.fast"), ("rotation", "bt_risk, observe")):
        mine, bare = rows[job_name, name], rows[job_name, "backtrader"]
        assert (mine.count, mine.value) == (bare.count, bare.value)
    missing = rows["stop", "backtesting.py"]
    assert missing.ratio is None
    assert missing.note == "not installed: No module named 'backtesting'"


def test_an_engine_whose_process_ends_has_no_answer(tmp_path):
    with engine.Engine(sys.executable, "stop", "no such engine", tmp_path) as broken:
        with pytest.raises(engine.EngineError, match="KeyError: 'no such engine'"):
            broken.run()
        broken._process.kill()
        broken._process.wait()
        with pytest.raises(engine.EngineError, match="ended without an answer"):
            broken.run()


def test_a_part_that_is_measured_anew_keeps_the_rows_of_the_others(monkeypatch, tmp_path):
    def rows(part, ratio):
        spread = timing.Spread(ratio, ratio, 2 * ratio)
        return lambda options: [row.Row(part, "1 x 10 bars", "bare", spread, "bare", note="x")]

    def measure(part, ratio):
        monkeypatch.setattr(load(part), "rows", rows(part, ratio))
        assert suite.run([part], SimpleNamespace(quick=True, out=tmp_path)) == 0
        written = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
        return [(one["part"], one["ratio"]["median"]) for one in written["rows"]]

    assert measure("report", 1.5) == [("report", 1.5)]
    assert measure("speed", 0.5) == [("speed", 0.5), ("report", 1.5)]
    assert measure("report", 1.25) == [("speed", 0.5), ("report", 1.25)]
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert text.index(load("speed").TITLE) < text.index(load("report").TITLE)
    monkeypatch.setattr(suite, "environment", lambda: {**environment.environment(), "cores": 99})
    assert measure("growth", 1.0) == [("growth", 1.0)]  # another machine: nothing is comparable


def test_a_part_that_fails_leaves_the_rows_of_the_others(monkeypatch, tmp_path, capsys):
    def broken(options):
        yield row.Row("speed", "1 x 10 bars", "bare", timing.Spread(1.0, 1.0, 1.0), "bare")
        raise ZeroDivisionError("nothing was measured")

    monkeypatch.setattr(load("speed"), "rows", broken)
    options = SimpleNamespace(quick=True, out=tmp_path)
    assert suite.run(["speed"], options) == 1
    assert "failed: ZeroDivisionError: nothing was measured" in capsys.readouterr().out
    written = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert [one["run"] for one in written["rows"]] == ["bare", ""]
    assert "1.00" in (tmp_path / "README.md").read_text(encoding="utf-8")
    assert (tmp_path / "results.png").stat().st_size > 10_000
