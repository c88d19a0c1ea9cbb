"""The runner of all variants, in several processes where that is possible."""

import logging
import multiprocessing
import os
import pickle
import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import backtrader as bt

from bt_risk.errors import ParameterError, check_whole
from bt_risk.evidence.order_log import OrderLog, OrderLogger
from bt_risk.policy import Policy
from bt_risk.protection import protect
from bt_risk.report.record import ReportData, RunRecord, record_of

__all__ = ["VariantRun", "quiet", "results_of", "run_all", "run_variant"]

Job = TypeVar("Job")
Result = TypeVar("Result")


class VariantRun(NamedTuple):
    """Keep the results of one run.

    Attributes
    ----------
    record : RunRecord
    order_log : OrderLog
        Every order as the strategy requested it.
    """

    record: RunRecord
    order_log: OrderLog


def run_variant(build: Callable[[], bt.Cerebro], policy: Policy | None) -> VariantRun:
    """Run the Cerebro that `build` returns with a policy, or bare where it is None."""
    cerebro = build()
    if policy is not None:
        protect(cerebro, policy)
    cerebro.addanalyzer(ReportData, _name="evidence_data")
    cerebro.addanalyzer(OrderLogger, _name="evidence_log")
    with quiet():
        strategies = cerebro.run()
    if not strategies or isinstance(strategies[0], list):
        raise ParameterError("compare", "build", "a Cerebro with a strategy", cerebro)
    strategy = strategies[0]
    return VariantRun(record_of(strategy, "compare"), strategy.analyzers.evidence_log.log)


def run_all(
    build: Callable[[], bt.Cerebro],
    policies: Mapping[str, Policy | None],
    workers: int | None = None,
    on_done: Callable[[], None] = lambda: None,
) -> dict[str, VariantRun]:
    """Run every policy.

    Parameters
    ----------
    build : callable
        Returns a new Cerebro. Several processes need one that pickles: a function of a module,
        not a lambda, not one defined within another function.
    policies : dict
        Policy by label; None is the bare run.
    workers : int, optional
        Number of processes. When left out: one for each core where `build` pickles, else one.
    on_done : callable
        Called after each run.

    Returns
    -------
    dict of str to VariantRun
        In the order of `policies`.
    """
    workers = _worker_count(build, workers, len(policies))
    done, work = {}, {label: (build, policy) for label, policy in policies.items()}
    for label, run in results_of(run_variant, work, workers):
        done[label] = run
        on_done()
    return {label: done[label] for label in policies}


def _worker_count(build: Callable[[], bt.Cerebro], workers: int | None, jobs: int) -> int:
    if not callable(build):
        raise ParameterError("compare", "build", "a function that returns a new Cerebro", build)
    if workers is not None:
        workers = check_whole("compare", "workers", workers, remedy="It counts processes.")
        if workers > 1 and not _pickles(build):
            remedy = "Define it at the top of a module, or use workers=1."
            constraint = "a function of a module, which other processes can import"
            raise ParameterError("compare", "build", constraint, build, remedy)
        return workers
    # A script without `if __name__ == "__main__"` would be run again by every process.
    home = getattr(getattr(build, "func", build), "__module__", "__main__")
    if home == "__main__" or not _pickles(build):
        return 1
    return min(jobs, os.cpu_count() or 1)


def _pickles(build: Callable[[], bt.Cerebro]) -> bool:
    try:
        pickle.dumps(build)
    except (pickle.PicklingError, AttributeError, TypeError):
        return False
    return True


def results_of(
    function: Callable[..., Result], work: Mapping[Job, tuple[Any, ...]], workers: int
) -> Iterator[tuple[Job, Result]]:
    """Yield ``(job, function(*arguments))`` for each job of `work`, as each gets done.

    `work` holds arguments by job; several processes need all of it to pickle.
    """
    if workers == 1:
        yield from ((job, function(*arguments)) for job, arguments in work.items())
        return
    # Spawned, not forked: a progress bar has a thread, and a fork could inherit its lock.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _ignore_interrupt) as pool:
        futures = {pool.submit(function, *arguments): job for job, arguments in work.items()}
        try:
            yield from ((futures[future], future.result()) for future in as_completed(futures))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _ignore_interrupt() -> None:
    """Leave Ctrl-C to the parent process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep halts out of Python's log: the tables report them."""
    log = logging.getLogger("bt_risk")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)
