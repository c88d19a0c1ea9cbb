"""A sweep on a Dask cluster: a scheduler and workers that are processes on loopback."""

import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from helpers.shared_data import ROOT

import bt_risk

pytest.importorskip("distributed")
pytestmark = [
    pytest.mark.full,
    pytest.mark.filterwarnings("ignore"),  # of distributed, about its own
]

WORLD = """
import os
import signal
import time

import backtrader as bt
import numpy as np
import pandas as pd

close = 100 * np.exp(np.cumsum(np.random.default_rng(3).normal(0.001, 0.02, 120)))
columns = dict(open=close, high=1.01 * close, low=0.99 * close, close=close, volume=1.0)
FRAME = pd.DataFrame(columns, pd.date_range("2020-01-01", periods=120))


class Swing(bt.Strategy):
    params = dict(period=10)

    def next(self):
        if len(self) % self.p.period == 0 and len(self) > 20:
            self.buy()
        elif len(self) % self.p.period == 4:
            self.close()


def build(period=10, wait=0.0):
    time.sleep(wait)
    if period == 99:
        raise ValueError("no such period")
    if period == 98:
        os.kill(os.getpid(), signal.SIGKILL)
    engine = bt.Cerebro(stdstats=False)
    engine.adddata(bt.feeds.PandasData(dataname=FRAME), name="D0")
    engine.addstrategy(Swing, period=period)
    return engine
"""


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Return a module that the workers can import, too."""
    (tmp_path / "cluster_world.py").write_text(WORLD)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("cluster_world")
    sys.modules.pop("cluster_world", None)


class Cluster:
    """A scheduler and workers, each a process."""

    def __init__(self, folder):
        self.file, self.processes = folder / "scheduler.json", []
        package = str(Path(bt_risk.__file__).parents[1])
        paths = [str(folder), package, str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
        self.environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
        host = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
        self.start("dask_scheduler", *host)
        self.workers = [self.worker() for _ in range(2)]

    def start(self, what, *words):
        command = [sys.executable, "-m", f"distributed.cli.{what}", *words]
        command += ["--scheduler-file", str(self.file)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command, env=self.environment, **quiet)
        self.processes.append(process)
        return process

    def worker(self):
        words = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1"]
        return self.start("dask_worker", *words)

    def close(self):
        for process in reversed(self.processes):
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path, world):
    made = Cluster(tmp_path)
    yield made
    made.close()


@pytest.fixture
def client(cluster):
    from distributed import Client

    end = time.monotonic() + 60
    while not cluster.file.exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    with Client(scheduler_file=str(cluster.file)) as made:
        made.wait_for_workers(2, timeout=60)
        yield made


def table(result):
    return result.frame.drop(columns="seconds")


def test_a_worker_that_is_killed_in_mid_sweep_loses_nothing_and_nothing_counts_twice(
    world, client, cluster, tmp_path
):
    from bt_risk.evidence import sweep_store

    space = {"period": [*range(8, 19), 99], "wait": [0.2]}
    added = []
    native = sweep_store.SQLiteStore.add

    def add(self, key, row):
        added.append(key)
        native(self, key, row)
        if len(added) == 3:
            cluster.workers[0].send_signal(signal.SIGKILL)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep_store.SQLiteStore, "add", add)
        several = bt_risk.sweep(world.build, space, store=tmp_path / "s.db", client=client)
    assert cluster.workers[0].wait(10) == -signal.SIGKILL
    assert len(added) == len(set(added)) == len(several.frame) == 12
    one = bt_risk.sweep(world.build, space, store=None, n_jobs=1)
    pd.testing.assert_frame_equal(table(one), table(several))
    assert several.best == one.best
    assert len(several.failed) == 1


def test_a_walk_forward_is_that_of_one_process_and_goes_on_from_its_store(
    world, client, tmp_path, monkeypatch
):
    from bt_risk.evidence.dask_pool import DaskPool

    sent, submit = [], DaskPool.submit
    monkeypatch.setattr(DaskPool, "submit", lambda *args: sent.append(args[1]) or submit(*args))
    given = dict(space={"period": [7, 9]}, train=50, test=35, warmup=20)
    one = bt_risk.walk_forward(world.build, **given, n_jobs=1)
    walk = bt_risk.walk_forward(world.build, **given, client=client, store=tmp_path / "walk")
    pd.testing.assert_frame_equal(one.frame, walk.frame)
    pd.testing.assert_frame_equal(one.record.bars, walk.record.bars)
    assert len(sent) == 4  # two points in two folds
    again = bt_risk.walk_forward(world.build, **given, client=client, store=tmp_path / "walk")
    pd.testing.assert_frame_equal(one.frame, again.frame)
    assert len(sent) == 4


@pytest.mark.soak
def test_a_point_that_kills_every_worker_is_a_row(world, client, cluster):
    for _ in range(4):
        cluster.worker()
    client.wait_for_workers(6, timeout=120)
    result = bt_risk.sweep(world.build, {"period": [8, 98, 10]}, store=None, client=client)
    assert [error[:26] for error in result.frame["error"]] == ["", "every worker that ran it d", ""]
