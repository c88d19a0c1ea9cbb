"""How compare runs its variants: once each, on bars that are loaded once, with equal results."""

import functools
import gc
import importlib.machinery
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import types
from dataclasses import fields

import backtrader as bt
import numpy as np
import pytest
from helpers.random_market import full_world as world
from helpers.scenarios import Plan, cerebro, random_walk
from helpers.slices import sliced
from helpers.step_by_step import plain

import bt_risk
from bt_risk.errors import DataError, ParameterError
from bt_risk.evidence import runner
from bt_risk.evidence.forked import can_fork, forked_runs
from bt_risk.evidence.runner import imports_safely, run_all
from bt_risk.evidence.sweep_pool import ForkedPool
from bt_risk.evidence.variants import PROTECTED, alone, variants

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks on Linux")
POLICY = bt_risk.Policy(action="pause", cooldown_bars=5, drawdown_limit=0.02, min_periods=5)

VARIANTS = {"bare": None, PROTECTED: POLICY, "other": alone(POLICY, "stop")}


@pytest.fixture
def forks(monkeypatch):
    """Fork although the runner of the tests has threads: they hold no lock that a run needs."""
    monkeypatch.setattr(runner, "can_fork", lambda: True)


def outcome(build, workers):
    try:
        runs = run_all(build, VARIANTS, workers)
    except Exception as error:
        return type(error), str(error)
    return {label: (exact(run.record), exact(run.order_log)) for label, run in runs.items()}


def exact(result):
    if result is None:
        return None
    values = {field.name: plain(getattr(result, field.name)) for field in fields(result)}
    values.pop("kelly_timeline", None)
    values.pop("policy", None)
    return values


@pytest.mark.parametrize("seed", sliced(range(60), 4))
def test_forked_runs_are_those_of_one_process(seed, forks):
    build = functools.partial(world, seed)
    assert outcome(build, 3) == outcome(build, 1)


def unusual(mode):
    engine = cerebro(random_walk(2, 90, 0.02), **({} if mode == "replay" else mode))
    if mode == "replay":
        engine.replaydata(engine.datas[0], timeframe=bt.TimeFrame.Weeks, name="weeks")
    last = ("data", len(engine.datas) - 1)
    engine.addstrategy(Plan, plan=((30, "buy", (last, ("size", 90))), (60, "close", (last,))))
    return engine


@pytest.mark.parametrize("mode", ["replay", {"exactbars": 1}, {"live": True}, {"preload": False}])
def test_what_cannot_be_loaded_ahead_is_loaded_by_each_run(mode, forks):
    build = functools.partial(unusual, mode)
    found = outcome(build, 3)
    assert found == outcome(build, 1)
    assert len(found) == 3


def test_spawned_runs_are_those_of_one_process(monkeypatch):
    monkeypatch.setattr(runner, "can_fork", lambda: False)
    build = functools.partial(world, 3)
    found = outcome(build, 2)
    assert found == outcome(build, 1)
    assert len(found) == 3


# What a script of a user begins its function `build` with.
BUILD = """
def build():
    engine = bt.Cerebro(stdstats=False)
    close = 100 + np.cumsum(np.random.default_rng(1).normal(0, 1, 100))
    columns = dict(open=close, high=close + 1, low=close - 1, close=close, volume=1.0)
    frame = pd.DataFrame(columns, pd.date_range('2020-01-01', periods=100))
    engine.adddata(bt.feeds.PandasData(dataname=frame), name='A')
"""


# -- how often ------------------------------------------------------------------------------------

BUILT, RAN, LOADED = (multiprocessing.Value("i") for _ in range(3))


class Counted(bt.feeds.PandasData):
    def _load(self):
        LOADED.value += 1
        return super()._load()


class Counting(Plan):
    def start(self):
        with RAN.get_lock():
            RAN.value += 1


def counted():
    BUILT.value += 1
    engine = bt.Cerebro(stdstats=False)
    engine.adddata(Counted(dataname=random_walk(1, 80, 0.02)), name="D0")
    engine.addstrategy(Counting, plan=((30, "buy", (("size", 900),)), (60, "close", ())))
    return engine


@pytest.fixture
def counts():
    for count in (BUILT, RAN, LOADED):
        count.value = 0
    return lambda: (BUILT.value, RAN.value, LOADED.value)


def test_several_processes_build_once_and_read_every_bar_once(forks, counts):
    result = bt_risk.compare(counted, POLICY, samples=200, workers=2)
    assert len(result.records) == 10
    assert counts() == (1, 10, 81)  # the 81st finds the end


def test_one_process_builds_each_run(counts):
    bt_risk.compare(counted, POLICY, samples=200, workers=1)
    assert counts() == (10, 10, 810)


@pytest.mark.parametrize("workers", [1, 2])
def test_variants_that_are_equal_run_once(forks, counts, workers):
    policy = alone(POLICY, "stop")
    assert list(variants(policy)) == ["bare", "protected", "only stop"]
    result = bt_risk.compare(counted, policy, samples=200, workers=workers)
    assert counts()[1] == 2
    assert result.records["only stop"] is result.records["protected"]
    assert list(result.sharpe.index) == ["bare", "protected", "only stop"]


def test_the_orders_of_the_protected_run_alone_are_logged():
    runs = run_all(counted, variants(POLICY), workers=1)
    logged = [label for label, run in runs.items() if run.order_log is not None]
    assert logged == [PROTECTED]


def test_no_process_that_runs_a_variant_imports_what_the_evidence_needs(tmp_path):
    """arch and SciPy take as long to import as several runs: compare imports them once."""
    (tmp_path / "mine.py").write_text(
        "import sys, backtrader as bt, numpy as np, pandas as pd, bt_risk\n"
        "class Shows(bt.Strategy):\n"
        "    def stop(self):\n"
        "        print([name for name in ('scipy', 'arch') if name in sys.modules], flush=True)\n"
        + BUILD
        + "    engine.addstrategy(Shows)\n"
        "    return engine\n"
        "if __name__ == '__main__':\n"
        "    bt_risk.compare(build, samples=200, workers=2)\n"
    )
    command = [sys.executable, "mine.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    # Two processes write at once: one may end its line after the other has begun its own.
    assert "".join(done.stdout.split()) == "[]" * 10
    assert done.stderr == ""


def test_any_function_will_do_where_processes_are_forked(forks, counts):
    run_all(lambda: counted(), {"bare": None, "other": POLICY}, workers=2)
    assert counts() == (1, 2, 81)


@pytest.mark.parametrize("what", ["cerebro", "strategy", "nothing", "call"])
def test_what_compare_cannot_take_is_answered_with_what_to_write(what):
    engine = with_strategy(Plan)
    given = {"cerebro": engine, "strategy": Plan, "nothing": lambda: None, "call": 3}[what]
    with pytest.raises(ParameterError, match=r"returns a new Cerebro.*def build\(\):"):
        bt_risk.compare(given)


def test_one_cerebro_for_all_variants_is_an_error():
    engine = with_strategy(Plan)
    with pytest.raises(ParameterError, match="a new Cerebro; got 'the same one again'"):
        run_all(lambda: engine, {"bare": None, "other": POLICY}, workers=1)


# -- scripts --------------------------------------------------------------------------------------

GUARDED = "import bt_risk\nif {test}:\n    bt_risk.compare(None)\n"


@pytest.mark.parametrize(
    ("source", "safe"),
    [
        (GUARDED.format(test="__name__ == '__main__'"), True),
        (GUARDED.format(test='"x" and __name__ == "__main__"'), True),
        (GUARDED.format(test="True"), False),
        ("import bt_risk\nbt_risk.compare(None)  # __name__ == '__main__'\n", False),
        ("not Python", False),
        (None, False),
    ],
)
def test_a_script_is_imported_again_only_where_it_has_the_usual_guard(source, safe, tmp_path):
    main = types.ModuleType("__main__")
    main.__file__ = str(tmp_path / "script.py")
    if source is not None:
        (tmp_path / "script.py").write_text(source)
    assert imports_safely(main) is safe


def in_notebook():
    return counted()


in_notebook.__module__ = "__main__"


@pytest.mark.parametrize("package", [False, True])
def test_what_a_notebook_defines_is_compared_in_one_process(package, monkeypatch, counts):
    """New processes import neither a prompt nor a package that `python -m` has run."""
    main = types.ModuleType("__main__")
    if package:
        main.__file__, main.__spec__ = "x.py", importlib.machinery.ModuleSpec("p.__main__", None)
    main.in_notebook = in_notebook
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(runner, "can_fork", lambda: False)
    run_all(in_notebook, {"bare": None, "other": POLICY})
    assert counts()[:2] == (2, 2)
    with pytest.raises(ParameterError, match="a function of a module"):
        run_all(in_notebook, VARIANTS, 2)


@pytest.mark.parametrize(("fork", "workers"), [(True, None), (False, 2)])
def test_a_script_without_a_guard_runs_once(fork, workers, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import backtrader as bt, numpy as np, pandas as pd\n" + BUILD + "    return engine\n"
    )
    no_fork = "" if fork else "import bt_risk.evidence.runner as r; r.can_fork = lambda: False\n"
    (tmp_path / "script.py").write_text(
        f"import bt_risk\nfrom mine import build\n{no_fork}"
        f"print('ran', flush=True)\nbt_risk.compare(build, samples=200, workers={workers})\n"
    )
    command = [sys.executable, "script.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["ran"]
    lines = done.stderr.splitlines()
    assert lines == [] if fork else ["runs in one process" in line for line in lines] == [True]


# -- processes ------------------------------------------------------------------------------------


class Fails(bt.Strategy):
    def start(self):
        raise DataError("no such thing")


class Dies(bt.Strategy):
    def start(self):
        os.kill(os.getpid(), signal.SIGKILL)


def with_strategy(kind):
    engine = cerebro(random_walk(1, 30))
    engine.addstrategy(kind)
    return engine


def test_an_error_of_a_run_is_raised_with_where_it_happened(forks):
    with pytest.raises(DataError, match="no such thing") as caught:
        run_all(functools.partial(with_strategy, Fails), variants(POLICY), workers=2)
    assert "in start" in str(caught.value.__cause__)
    assert multiprocessing.active_children() == []


def test_a_process_that_dies_ends_the_comparison(forks):
    with pytest.raises(RuntimeError, match="a process ended with -9 before its run did"):
        run_all(functools.partial(with_strategy, Dies), variants(POLICY), workers=2)
    assert multiprocessing.active_children() == []


def test_a_result_that_does_not_pickle_is_an_error():
    with forked_runs(lambda job: lambda: job, [1], 1) as results, pytest.raises(RuntimeError):
        next(results)


def test_who_stops_waiting_leaves_no_process_behind():
    with forked_runs(lambda job: signal.pause(), range(3), 2):
        assert len(multiprocessing.active_children()) == 3
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("before", [False, True])
def test_objects_that_somebody_has_frozen_stay_so(before):
    if before:
        gc.freeze()
    try:
        for forks in (forked_runs(abs, [1], 1), ForkedPool(abs, 1)):
            with forks:
                pass
            assert bool(gc.get_freeze_count()) == before
    finally:
        gc.unfreeze()


def test_no_more_run_at_a_time_than_there_are_workers():
    at_work, most = multiprocessing.Value("i"), multiprocessing.Value("i")

    def job(_):
        with at_work.get_lock():
            at_work.value += 1
            most.value = max(most.value, at_work.value)
        total = float(np.square(np.arange(2e5)).sum())
        with at_work.get_lock():
            at_work.value -= 1
        return total

    with forked_runs(job, range(6), 2) as results:
        assert len({value for _, value in results}) == 1
    assert 1 <= most.value <= 2


def test_a_process_with_threads_is_not_forked():
    wait = threading.Event()
    thread = threading.Thread(target=wait.wait)
    thread.start()
    assert not can_fork()
    wait.set()
    thread.join()
