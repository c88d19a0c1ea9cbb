"""sweep: which points run, what their figures are, and what a sweep keeps when it is cut."""

import functools
import importlib
import json
import multiprocessing
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from helpers.scenarios import random_walk
from hypothesis import given
from hypothesis import strategies as st

import bt_risk
from bt_risk import Between, ParameterError, Policy, StateError
from bt_risk.evidence import runner, sweep_pool
from bt_risk.evidence.metrics import MEASURES, days_of, measures
from bt_risk.evidence.runner import run_variant
from bt_risk.evidence.sharpe import deflated_sharpe, expected_best
from bt_risk.evidence.sweep_point import Job, objective_of
from bt_risk.evidence.sweep_pool import ForkedPool, open_pool
from bt_risk.evidence.sweep_sampler import sampler_of
from bt_risk.evidence.sweep_space import COLUMNS, Space
from bt_risk.evidence.window import Window

FRAME = random_walk(4, 120, 0.02, 0.001)
POLICY = Policy(drawdown_limit=0.5, min_periods=5)
RAN = multiprocessing.Value("i")


class Swing(bt.Strategy):
    """Buy every `period` bars, and close after `hold` of them."""

    params = dict(period=10, hold=4)

    def __init__(self):
        if self.p.hold >= self.p.period:
            raise ValueError(f"hold {self.p.hold} is too long")

    def start(self):
        with RAN.get_lock():
            RAN.value += 1

    def next(self):
        place = len(self) % self.p.period
        if place == 0 and len(self) > 20:
            self.buy()
        elif place == self.p.hold:
            self.close()


def build(period=10, hold=4):
    engine = bt.Cerebro(stdstats=False)
    engine.adddata(bt.feeds.PandasData(dataname=FRAME), name="D0")
    engine.addstrategy(Swing, period=period, hold=hold)
    return engine


SPACE = {"risk_limit": [0.005, 0.01], "period": range(8, 14, 4), "hold": [3]}
FAILING = {"period": [4, 8], "hold": [3, 5]}  # one of four raises an error
run = functools.partial(bt_risk.sweep, build, policy=POLICY, store=None)


@pytest.fixture(scope="module")
def whole():
    return run(SPACE, n_jobs=1, trials=7)


@pytest.fixture
def forks(monkeypatch):
    """Fork although the runner of the tests has threads: they hold no lock that a run needs."""
    monkeypatch.setattr(sweep_pool, "can_fork", lambda: True)
    monkeypatch.setattr(runner, "can_fork", lambda: True)


@pytest.fixture
def spawns(monkeypatch):
    """Start new processes, which import this module by its name from the root of the project."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    monkeypatch.setattr(sweep_pool, "can_fork", lambda: False)
    monkeypatch.setattr(runner, "can_fork", lambda: False)


@pytest.fixture
def ran():
    RAN.value = 0
    return lambda: RAN.value


def table(result):
    return result.frame.drop(columns="seconds")


# -- the space --------------------------------------------------------------------------------


def test_a_name_of_the_policy_goes_to_the_policy_and_any_other_to_build():
    space = Space({"period": [5], "risk_limit": [0.01], "build.hold": [2]}, build)
    point = {"period": 5, "risk_limit": 0.01, "build.hold": 2}
    assert space.split(point) == ({"risk_limit": 0.01}, {"period": 5, "hold": 2})


def both(lookback=5, risk_limit=0.01):
    return build()


@pytest.mark.parametrize("function", [both, functools.partial(both, lookback=3)])
def test_a_name_that_both_have_must_be_told_apart(function):
    with pytest.raises(ParameterError, match=r"Write 'policy.lookback' or 'build.lookback'"):
        Space({"lookback": [5, 6]}, function)
    space = Space({"policy.lookback": [5], "build.lookback": [6]}, function)
    assert space.split({"policy.lookback": 5, "build.lookback": 6}) == (
        {"lookback": 5},
        {"lookback": 6},
    )


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"risk_limt": [1]}, "Did you mean 'risk_limit'"),
        ({"build.perod": [1]}, "Did you mean 'period'"),
        ({"policy.period": [1]}, "parameters of the policy and keywords of `build`"),
        ({"period": 5}, r"Write period: \[5\], or a range"),
        ({"period": "5"}, "a list of values"),
        ({"period": []}, "each once"),
        ({"period": [5, 5.0]}, "each once"),
        ({"risk_limit": [float("nan")]}, "without NaN"),
        ({"period": [object()]}, "plain values"),
        ({"period": [5], "build.period": [6]}, "each name once"),
        ({}, "a dict of values by parameter"),
        ([("period", [5])], "a dict of values by parameter"),
    ],
)
def test_a_space_that_is_none_is_refused(space, words):
    with pytest.raises(ParameterError, match=words):
        Space(space, build)


def test_no_parameter_may_have_the_name_of_a_column():
    with pytest.raises(ParameterError, match="The table of a sweep has a column of that name"):
        Space({"sharpe": [1]}, lambda sharpe: None)


def test_a_grid_changes_the_last_parameter_first():
    space = Space({"period": [8, 9], "hold": (3, 5)}, build)
    points = [tuple(point.values()) for point in space.grid()]
    assert points == [(8, 3), (8, 5), (9, 3), (9, 5)]
    assert points == [tuple(space.at(place).values()) for place in range(space.size)]


@given(
    st.integers(-50, 50),
    st.integers(1, 80),
    st.floats(0, 1, exclude_max=True),
    st.booleans(),
)
def test_what_lies_between_stays_between(low, width, share, whole):
    ends = (low, low + width) if whole else (float(low), float(low + width))
    value = Between(*ends).at(share)
    assert ends[0] <= value <= ends[1]
    assert isinstance(value, int) is whole
    if low > 0:
        assert ends[0] <= Between(*ends, log=True).at(share) <= ends[1]


def test_both_ends_are_drawn_and_a_logarithm_halves_the_way():
    drawn = {Between(3, 5).at(share) for share in np.linspace(0, 0.999, 50)}
    assert drawn == {3, 4, 5}
    assert Between(0.01, 1.0, log=True).at(0.5) == pytest.approx(0.1)


@pytest.mark.parametrize("ends", [(2, 1), (1, 1), (0, float("nan")), (0, float("inf"))])
def test_ends_must_be_in_sequence(ends):
    with pytest.raises(ParameterError, match="Between: "):
        Between(*ends)
    with pytest.raises(ParameterError, match="positive with log=True"):
        Between(0, 1, log=True)


# -- the points -------------------------------------------------------------------------------


def test_every_point_runs_as_protect_would_run_it(whole):
    assert len(whole.frame) == 4
    assert list(whole.frame.columns) == [*SPACE, *COLUMNS]
    row = whole.frame.set_index(list(SPACE)).loc[(0.01, 12, 3)]
    other = run_variant(lambda: build(12, 3), Policy(drawdown_limit=0.5, min_periods=5)).record
    days, _, year = days_of(other)
    expected = {name: float(value) for name, value in measures(days, year).items()}
    assert {name: row[name] for name in MEASURES} == pytest.approx(expected, rel=1e-15, nan_ok=True)
    assert row["Final equity"] == other.bars["equity"].iloc[-1]
    assert row["objective"] == row["Sharpe"] != 0.0


def test_the_best_is_the_one_with_the_best_objective(whole):
    result = whole
    best = result.frame["Sharpe"].idxmax()
    assert result.best == {name: result.frame[name][best] for name in SPACE}
    assert result.best_policy == Policy(
        drawdown_limit=0.5, min_periods=5, risk_limit=result.best["risk_limit"]
    )
    assert result.best_row.name == best
    smallest = run(SPACE, "max_drawdown", n_jobs=1)
    assert smallest.best_row["Max drawdown"] == result.frame["Max drawdown"].min()


def test_the_deflated_ratio_counts_every_distinct_try_and_those_that_are_stated(whole):
    result = whole
    job = Job(build, POLICY, Space(SPACE, build), objective_of("sweep", "sharpe"))
    days, _, _ = days_of(job.run(result.best))
    ratios = result.frame["Sharpe"] / result.frame["year"] ** 0.5
    assert result.tries == ratios.nunique() + 7
    assert result.deflated == pytest.approx(deflated_sharpe(days.returns, ratios, 7), abs=1e-12)
    assert result.deflated < deflated_sharpe(days.returns, ratios)


def test_what_chance_finds_in_more_tries_is_larger():
    assert expected_best(0.1, 12) < expected_best(0.1, 120)


def days_flat(record):
    return float((record.held.empty and 1) or -len(record.held))


def test_an_objective_of_ones_own_reads_the_record():
    result = run({"hold": [5, 3, 4]}, days_flat, n_jobs=1)
    assert result.objective.name == "days_flat"
    assert result.best == {"hold": 3}
    assert (result.frame["objective"] < 0).all()


def never(record):
    return float("nan")


def test_nothing_is_best_where_no_point_has_an_objective():
    result = run({"period": [8, 9]}, never, n_jobs=1)
    assert result.best is result.best_row is None
    assert result.best_policy == POLICY
    assert np.isnan(result.deflated)
    assert len(result.frame) == 2


@pytest.mark.parametrize("name", ["sharp", 3, None])
def test_an_unknown_objective_is_refused(name):
    with pytest.raises(ParameterError, match="one of cagr, sharpe, sortino"):
        run(SPACE, name)


def test_a_point_that_fails_is_a_row_with_its_error():
    result = run(FAILING, n_jobs=1)
    assert len(result.frame) == 4
    (text,) = result.failed["error"]
    assert text.startswith("ValueError: hold 5 is too long (test_sweep.py:")
    assert text.endswith(" in __init__)")
    assert result.failed[list(MEASURES)].isna().all().all()
    assert result.best is not None


def test_a_policy_that_is_not_possible_is_a_row_too():
    result = run({"risk_limit": [0.01, 0.9]}, n_jobs=1)
    assert "risk_limit must be below 0.5" in result.frame["error"][1]


@pytest.mark.parametrize("function", [lambda: None, lambda: bt.Cerebro(), Swing, 3])
def test_a_function_that_does_not_build_is_refused(function):
    with pytest.raises(ParameterError, match="sweep: build must be"):
        bt_risk.sweep(function, {"risk_limit": [0.01]}, store=None)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"n_jobs": 0}, "-1 is one for each core"),
        ({"n_jobs": -2}, "-1 is one for each core"),
        ({"trials": -1}, "trials must be"),
        ({"sampler": "bayes"}, "one of 'grid', 'random', 'optuna'"),
        ({"points": 3}, "points must be None for a grid"),
        ({"sampler": "random"}, "points must be a whole number"),
        ({"store": 3}, "the path of a SQLite file"),
        ({"store": "no/such/sweep.db"}, "There is no folder no/such"),
        ({"client": object()}, "a dask.distributed.Client"),
    ],
)
def test_arguments_are_checked_before_anything_runs(wrong, words, ran):
    with pytest.raises(ParameterError, match=words):
        run(SPACE, **wrong)
    assert ran() == 0


# -- samplers ---------------------------------------------------------------------------------


def test_points_at_random_are_distinct_and_more_of_them_begin_with_the_same():
    few, more, other, all_there_are = (
        drawn(SPACE | {"hold": range(2, 7)}, points, seed)
        for points, seed in ((4, 3), (7, 3), (4, 4), (99, 3))
    )
    assert len(set(few)) == 4
    assert more[:4] == few != other
    assert len(set(all_there_are)) == len(all_there_are) == 20


def drawn(space, points, seed):
    space = Space(space, build)
    sampler = sampler_of("random", space, points, seed, smallest=False)
    return [space.key(point) for _, point in iter(sampler.ask, None)]


def test_points_of_a_space_without_end_are_distinct_too():
    space = {"risk_limit": Between(0.002, 0.02), "period": Between(8, 9)}
    few, more = drawn(space, 5, 1), drawn(space, 9, 1)
    assert more[:5] == few
    assert len(set(more)) == 9


def test_what_lies_between_is_drawn():
    space = {"risk_limit": Between(0.002, 0.02, log=True), "period": Between(8, 12)}
    result = run(space, n_jobs=1, sampler="random", points=3)
    assert result.frame["risk_limit"].between(0.002, 0.02).all()
    assert result.frame["risk_limit"].is_monotonic_increasing
    with pytest.raises(ParameterError, match="sampler='random', points=100"):
        run(space, n_jobs=1)


def test_optuna_is_asked_and_told(tmp_path, ran):
    optuna = pytest.importorskip("optuna")
    space = SPACE | {"sizer": [True, False], "risk_limit": Between(0.004, 0.02, log=True)}
    one = run(space, n_jobs=1, sampler="optuna", points=5, seed=5)
    again = run(space, n_jobs=1, sampler=optuna.samplers.TPESampler(seed=5), points=5)
    pd.testing.assert_frame_equal(table(one), table(again))
    kept = functools.partial(run, space, n_jobs=1, sampler="optuna", store=tmp_path / "s.db")
    kept(points=3)
    before = ran()
    assert len(kept(points=5).frame) == 5
    assert ran() == before + 2


def test_optuna_does_not_run_a_point_twice_and_learns_of_those_that_fail(ran):
    pytest.importorskip("optuna")
    result = run(FAILING, n_jobs=1, sampler="optuna", points=15)
    assert ran() + 1 == len(result.frame) == 4


# -- processes --------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [2, 5])
def test_forked_processes_find_what_one_finds(workers, whole, forks, ran):
    several = run(SPACE, n_jobs=workers)
    pd.testing.assert_frame_equal(table(whole), table(several))
    assert ran() == 4
    assert multiprocessing.active_children() == []


@pytest.mark.full
def test_new_processes_find_what_one_finds(whole, spawns):
    several = run(SPACE, n_jobs=2)
    pd.testing.assert_frame_equal(table(whole), table(several))


def test_any_function_will_do_where_processes_are_forked(forks):
    result = bt_risk.sweep(lambda period: build(period), {"period": [8, 9]}, store=None, n_jobs=2)
    assert len(result.frame) == 2


def deadly(period=10):
    if period == 9:
        os.kill(os.getpid(), signal.SIGKILL)
    return build(period)


def test_a_point_that_kills_its_process_is_a_row_and_no_other_is_lost(forks, ran):
    space = {"period": [8, 9, 10, 11, 12]}
    job = Job(deadly, POLICY, Space(space, deadly), objective_of("sweep", "sharpe"))
    with open_pool(job, 2) as pool:
        for period in space["period"][:4]:
            pool.submit(str(period), {"period": period})
        found = dict(pool.result() for _ in range(4))
    assert "its process ended with -9" in found.pop("9").why
    assert sorted(found) == ["10", "11", "8"]
    assert all(not result.error for result in found.values())
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("start", ["forks", pytest.param("spawns", marks=pytest.mark.full)])
def test_a_point_whose_process_dies_each_time_ends_as_an_error(start, request):
    request.getfixturevalue(start)
    result = bt_risk.sweep(deadly, {"period": [8, 10, 9, 11]}, store=None, n_jobs=2)
    errors = dict(zip(result.frame["period"], result.frame["error"], strict=True))
    assert errors.pop(9).startswith("its process ended")
    assert set(errors.values()) == {""}


@pytest.mark.full
def test_a_function_that_new_processes_cannot_import_is_named(spawns, tmp_path, monkeypatch):
    (tmp_path / "vanishing.py").write_text("def mine(period=8):\n    raise AssertionError\n")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        mine = importlib.import_module("vanishing").mine
    with pytest.raises(
        ParameterError, match='can import; got "ModuleNotFoundError: No module named'
    ):
        bt_risk.sweep(mine, {"period": [8, 9]}, store=None, n_jobs=2)


def test_who_stops_waiting_leaves_no_process_behind():
    with ForkedPool(lambda point: signal.pause(), 2) as pool:
        pool.submit("a", {})
        assert len(multiprocessing.active_children()) == 2
    assert multiprocessing.active_children() == []


# -- the store --------------------------------------------------------------------------------

KINDS = ["sweep.db", "sweep.parquet"]


@pytest.mark.parametrize("name", KINDS)
def test_a_sweep_goes_on_where_it_was_and_runs_no_point_twice(name, tmp_path, ran):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    space = FAILING | {"sizer": [True, False], "risk_limit": [0.01]}
    kept = functools.partial(run, space, n_jobs=1, store=tmp_path / name)
    kept(sampler="random", points=3)
    every = kept()
    count = ran()
    again = kept()
    assert ran() == count == len(every.frame) - len(every.failed) == 6
    pd.testing.assert_frame_equal(every.frame, again.frame)
    pd.testing.assert_frame_equal(table(every), table(run(space, n_jobs=1)))
    assert again.best == every.best


def test_a_store_is_read_with_pandas(tmp_path, whole):
    run(SPACE, n_jobs=1, store=tmp_path / "sweep.db")
    with sqlite3.connect(tmp_path / "sweep.db") as db:
        frame = pd.read_sql("SELECT * FROM points", db)
    assert frame["Sharpe"].tolist() == whole.frame["Sharpe"].tolist()
    assert json.loads(frame["point"][0]) == {"risk_limit": 0.005, "period": 8, "hold": 3}
    pytest.importorskip("pyarrow")
    run(SPACE, n_jobs=1, store=tmp_path / "sweep.parquet")
    frame = pd.read_parquet(tmp_path / "sweep.parquet")
    assert sorted(frame["Sharpe"]) == sorted(whole.frame["Sharpe"])


class Other(Swing):
    pass


def other_strategy(period=10, hold=4):
    engine = build(period, hold)
    engine.strats = []
    engine.addstrategy(Other, period=period, hold=hold)
    return engine


def other_prices(period=10, hold=4):
    engine = build(period, hold)
    engine.datas[0].p.dataname = FRAME * 1.0001
    return engine


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"space": {"hold": [3, 4], "period": [10]}}, "differs in space"),
        ({"objective": "cagr"}, "differs in objective"),
        ({"policy": Policy(min_periods=6)}, "differs in policy"),
        ({"build": other_strategy}, "differs in code"),
        ({"build": other_prices}, "differs in code, prices"),
    ],
)
def test_the_store_of_another_sweep_is_refused(name, change, words, tmp_path, ran):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    space = {"hold": [3], "period": [10]}
    given = {"build": build, "space": space, "policy": POLICY, "store": tmp_path / name}
    bt_risk.sweep(**given, n_jobs=1)
    before = ran()
    with pytest.raises(ParameterError, match=words):
        bt_risk.sweep(**given | change, n_jobs=1)
    assert ran() == before


def test_what_is_no_store_is_left_as_it_is(tmp_path, ran):
    (tmp_path / "text.db").write_text("no database, but longer than its head would be " * 9)
    with sqlite3.connect(tmp_path / "other.db") as db:
        db.execute("CREATE TABLE mine (a)")
    for name in ("text.db", "other.db"):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(StateError, match="cannot be used as a store"):
            run(SPACE, store=tmp_path / name)
        assert (tmp_path / name).read_bytes() == before
    assert ran() == 0


SCRIPT = """
import sys, time
sys.path[:0] = {paths!r}
import bt_risk
from evidence.test_sweep import POLICY, SPACE, build

def slow(period=10, hold=4):
    time.sleep(0.15)
    return build(period, hold)

if __name__ == "__main__":
    space = SPACE | {{"hold": [2, 3, 4]}}
    result = bt_risk.sweep(slow, space, policy=POLICY, store=sys.argv[1], n_jobs=2)
    print(len(result.frame), result.complete, flush=True)
"""


def started(tmp_path, store):
    tests = os.path.dirname(os.path.dirname(__file__))
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(paths=[tests]))
    command = [sys.executable, str(script), str(store)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def rows(store):
    try:
        with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as db:
            return db.execute("SELECT count(*) FROM points").fetchone()[0]
    except sqlite3.Error:
        return 0


def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(one) for one in file.read().split()]


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks, and reads /proc")
@pytest.mark.full
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_sweep_that_is_cut_keeps_what_is_done_and_ends_its_processes(how, tmp_path):
    store = tmp_path / "sweep.db"
    process = started(tmp_path, store)
    until(lambda: rows(store) >= 2)
    workers = children(process.pid)
    process.send_signal(how)
    out, err = process.communicate(timeout=60)
    until(lambda: not any(map(alive, workers)))
    done = rows(store)
    assert 2 <= done < 12
    assert len(workers) == 2
    if how == signal.SIGINT:
        assert out.split() == [str(done), "False"]
        assert err.strip() == f"sweep: interrupted; {done} points are done"
    process = started(tmp_path, store)
    out, _ = process.communicate(timeout=60)
    assert out.split() == ["12", "True"]
    with sqlite3.connect(store) as db:
        assert db.execute("SELECT max(number), count(DISTINCT point) FROM points").fetchone() == (
            12,
            12,
        )


# -- words ------------------------------------------------------------------------------------


def test_what_was_found_is_said_with_whether_it_is_luck(whole):
    ran, best, luck, last = whole.sentences()
    assert ran == "4 of 4 points have run"
    row = whole.best_row
    assert best == (
        f"best Sharpe {row['Sharpe']:.2f} at risk_limit {row['risk_limit']:g}, "
        f"period {row['period']}, hold 3; CAGR {100 * row['CAGR']:.1f} %; "
        f"Max drawdown {100 * row['Max drawdown']:.1f} %"
    )
    assert luck.startswith("no evidence that the best is more than the luck of 11 distinct tries")
    assert f"ratio is {whole.deflated:.2f}" in luck
    assert "chosen on the bars" in last
    assert str(whole) == "\n".join(whole.sentences())
    assert whole._repr_html_().count("<tr") == 5
    sure = replace(whole, deflated=0.97).sentences()[2]
    assert sure.startswith("evidence that")


def test_failures_and_an_interruption_are_said():
    result = replace(run(FAILING, n_jobs=1), complete=False, asked=9)
    text = result.sentences()[0]
    assert text.startswith("4 of 9 points have run; 1 raised an error, the first ValueError: hold")
    assert text.endswith("interrupted: the same call goes on with the rest")
    nothing = run({"period": [8, 9]}, never, n_jobs=1)
    assert nothing.sentences()[1] == "no point has a finite never"


# -- windows ----------------------------------------------------------------------------------


def number(bar):
    return bt.date2num(FRAME.index[bar].to_pydatetime())


def test_a_window_warms_up_trades_and_ends_at_its_times():
    begin, since = FRAME.index[60], FRAME.index[30]
    windows = [Window(number(after), number(109), number(30)) for after in (59, 29)]
    job = Job(build, POLICY, Space(SPACE, build), objective_of("sweep", "sharpe"))
    point = {"risk_limit": 0.01, "period": 8, "hold": 3}
    whole = Job(job.build, POLICY, job.space, job.objective, windows[0])
    record = whole.run(point)
    assert (record.times[0], record.times[-1]) == (since, FRAME.index[109])
    assert record.fills["time"].min() > begin
    assert {line for line in record.decisions["rule"] if line == "NotBefore"}
    figures = whole.evaluate(point).figures
    assert figures["days"] == 50
    assert figures["Trades"] > 2
    free = Job(job.build, POLICY, job.space, job.objective, windows[1])
    assert free.run(point).fills["time"].min() < begin


def test_a_window_without_days_is_an_error_of_its_point():
    window = Window(number(59), number(60))
    job = Job(build, POLICY, Space(SPACE, build), objective_of("sweep", "sharpe"), window)
    result = job.evaluate({"risk_limit": 0.01, "period": 8, "hold": 3})
    assert "at least 2 days to measure; got 1" in result.error


# -- data feeds -------------------------------------------------------------------------------


class WithLine(bt.feeds.GenericCSVData):
    lines = ("extra",)
    params = (("extra", 5),)


class Reading(bt.feeds.GenericCSVData):
    def _loadline(self, tokens):
        return super()._loadline(tokens)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "prices.csv"
    FRAME.assign(extra=1.0).to_csv(path)
    return str(path)


def from_csv(kind, file, period=10):
    engine = bt.Cerebro(stdstats=False)
    engine.adddata(kind(dataname=file, dtformat="%Y-%m-%d", openinterest=-1), name="D0")
    engine.addstrategy(Swing, period=period)
    return engine


@pytest.mark.parametrize("kind", [bt.feeds.GenericCSVData, WithLine, Reading])
def test_a_file_of_prices_is_read_once_where_nothing_of_a_user_reads_it(kind, file, monkeypatch):
    lines = []
    native = bt.feeds.GenericCSVData._loadline

    def counted(self, tokens):
        lines.append(1)
        return native(self, tokens)

    monkeypatch.setattr(bt.feeds.GenericCSVData, "_loadline", counted)
    space = {"period": [8, 9, 10]}
    make = functools.partial(from_csv, kind, file)
    result = bt_risk.sweep(make, space, policy=POLICY, n_jobs=1, store=None)
    once = len(lines)
    for period, sharpe, final in zip(
        *(result.frame[name] for name in ("period", "Sharpe", "Final equity")), strict=True
    ):
        record = run_variant(functools.partial(make, period=period), POLICY).record
        days, _, year = days_of(record)
        assert float(measures(days, year)["Sharpe"]) == sharpe
        assert record.bars["equity"].iloc[-1] == final
    assert once == (4 if kind is Reading else 1) * 120
    assert len(lines) == once + 3 * 120


def test_what_was_loaded_stays_in_its_process(file):
    make = functools.partial(from_csv, bt.feeds.GenericCSVData, file)
    job = Job(make, POLICY, Space({"period": [8]}, make), objective_of("sweep", "sharpe"))
    job.evaluate({"period": 8})
    assert len(job.feeds._known) == 1
    assert pickle.loads(pickle.dumps(job)).feeds._known == []


def test_bars_of_one_file_are_not_given_to_the_feed_of_another(file, tmp_path):
    other = tmp_path / "other.csv"
    (FRAME * 2).to_csv(other)
    make = functools.partial(from_csv, bt.feeds.GenericCSVData)
    job = Job(
        make, POLICY, Space({"file": [file, str(other)]}, make), objective_of("sweep", "cagr")
    )
    closes = [job.run({"file": one}).closes["D0"].iloc[-1] for one in (file, str(other), file)]
    assert closes[1] == 2 * closes[0] == 2 * closes[2]
