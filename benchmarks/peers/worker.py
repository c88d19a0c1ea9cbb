"""Run one job of one engine whenever a line arrives; answer each with one line of JSON.

    python worker.py JOB ENGINE FOLDER      the folder has the prices

This runs in the Python that has the engines, which may be another one than that of bt_risk: it
imports nothing from outside of this folder but the engine.
"""

import contextlib
import gc
import importlib
import io
import json
import os
import sys
import time
import warnings
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pandas as pd


def main(job, engine, folder):
    """Answer every line until there is none."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    warnings.simplefilter("ignore")
    run = None
    for _ in sys.stdin:
        silence = io.StringIO()  # progress bars and warnings of the engines are no answers
        try:
            with contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
                run = run or ENGINES[engine](job, _frames(Path(folder)))
                gc.collect()
                begin = time.process_time()
                count, value = run()
                seconds = time.process_time() - begin
            release = version(PACKAGES.get(engine, engine))
            answer = dict(seconds=seconds, count=int(count), value=float(value), version=release)
        except ImportError as error:
            answer = dict(error=f"not installed: {error}")
        except Exception as error:  # the row of the engine gives the reason
            answer = dict(error=f"{type(error).__name__}: {error}".splitlines()[0])
        print(json.dumps(answer), file=answers, flush=True)


def _frames(folder):
    """Return the prices; text keeps them exactly, and every version of pandas reads it."""
    read = partial(
        pd.read_csv, index_col="datetime", parse_dates=True, float_precision="round_trip"
    )
    return [read(path) for path in sorted(folder.glob("*.csv"))]


def _native(module, job, frames, **settings):
    """Prepare a job of a module of this folder."""
    return getattr(importlib.import_module(module), job)(frames, **settings)


def _fast(job, frames):
    return _native("backtrader_job", job, frames, setup=importlib.import_module("bt_risk").fast)


def _protect(job, frames, **settings):
    bt_risk = importlib.import_module("bt_risk")
    # At 10 % the breaker would end the run early.
    policy = bt_risk.Policy(drawdown_limit=0.99)
    protect = partial(bt_risk.protect, policy=policy, **settings)
    return _native("backtrader_job", job, frames, setup=protect)


PACKAGES = {
    "bt_risk.fast": "bt_risk",
    "bt_risk.protect": "bt_risk",
    "bt_risk, observe": "bt_risk",
    "backtesting.py": "backtesting",
}
ENGINES = {
    "backtrader": partial(_native, "backtrader_job"),
    "bt_risk.fast": _fast,
    "bt_risk.protect": _protect,
    "bt_risk, observe": partial(_protect, mode="observe"),
    "backtrader-next": partial(
        _native, "backtrader_job", package="backtrader_next", argument="dataframe"
    ),
    "back-trader-cpp": partial(_native, "backtrader_job", package="back_trader"),
    "backtesting.py": partial(_native, "backtesting_job"),
    "vectorbt": partial(_native, "vectorbt_job"),
    "ml4t-backtest": partial(_native, "ml4t_job"),
}

if __name__ == "__main__":
    main(*sys.argv[1:])
