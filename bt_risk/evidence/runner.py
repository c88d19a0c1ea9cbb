"""The runner of all variants, in several processes where that is possible."""

import logging
import multiprocessing
import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import backtrader as bt

from bt_risk.engine.fast import fast
from bt_risk.errors import ParameterError, check_whole
from bt_risk.evidence.forked import (
    can_fork,
    forked_runs,
    ignore_interrupts,
    loaded,
)
from bt_risk.evidence.order_log import OrderLog, OrderLogger
from bt_risk.evidence.variants import PROTECTED
from bt_risk.policy import Policy
from bt_risk.protection import protect
from bt_risk.report.record import ReportData, RunRecord, record_of

__all__ = ["VariantRun", "quiet", "results_of", "run_all", "run_variant", "running"]

Job = TypeVar("Job")
Result = TypeVar("Result")


class VariantRun(NamedTuple):
    """Keep the results of one run.

    Attributes
    ----------
    record : RunRecord
    order_log : OrderLog or None
        Every order as the strategy requested it; None where nobody asks for it.
    """

    record: RunRecord
    order_log: OrderLog | None


def run_variant(
    build: Callable[[], bt.Cerebro], policy: Policy | None, logs: bool = True
) -> VariantRun:
    """Run the Cerebro that `build` returns with a policy, or bare where it is None.

    `logs` tells whether the orders are logged.
    """
    return _run(_built(build), policy, logs)


def _built(build: Callable[[], bt.Cerebro]) -> bt.Cerebro:
    cerebro = build()
    if not isinstance(cerebro, bt.Cerebro):
        raise ParameterError("compare", "build", "a function that returns a new Cerebro", cerebro)
    if cerebro._dooptimize or not cerebro.datas:
        raise ParameterError("compare", "build", "a Cerebro with a strategy", cerebro)
    return cerebro


def _run(cerebro: bt.Cerebro, policy: Policy | None, logs: bool) -> VariantRun:
    """Run a Cerebro that has not run yet."""
    if policy is None:
        fast(cerebro)
    else:
        protect(cerebro, policy)
    cerebro.addanalyzer(ReportData, _name="evidence_data")
    if logs:
        cerebro.addanalyzer(OrderLogger, _name="evidence_log")
    with quiet():
        strategies = cerebro.run()
    if not strategies:
        raise ParameterError("compare", "build", "a Cerebro with a strategy", cerebro)
    strategy = strategies[0]
    log = strategy.analyzers.evidence_log.log if logs else None
    return VariantRun(record_of(strategy, "compare"), log)


@contextmanager
def running(
    build: Callable[[], bt.Cerebro],
    policies: Mapping[str, Policy | None],
    workers: int | None = None,
) -> Iterator[Iterator[tuple[str, VariantRun]]]:
    """Start the run of every policy; yield an iterator of the runs by label, as each gets done.

    Parameters
    ----------
    build : callable
        Returns a new Cerebro. Several processes need one that pickles: a function of a module,
        not a lambda, not one defined within another function.
    policies : dict
        Policy by label; None is the bare run. Equal policies have one run, and the order log is
        that of the label `PROTECTED` alone: nothing else reads one.
    workers : int, optional
        Number of processes. When left out: one for each core where `build` pickles, else one.
    """
    labels = _equal(policies)
    workers = _worker_count(build, workers, len(labels))
    # Processes start before anybody shows a progress bar, which has a thread.
    with _runs(build, {label: policies[label] for label in labels}, workers) as results:
        yield ((label, run) for first, run in results for label in labels[first])


def _equal(policies: Mapping[str, Policy | None]) -> dict[str, list[str]]:
    """Return the labels by the first one that has the same policy."""
    found: dict[str, list[str]] = {}
    for label, policy in policies.items():
        first = next((one for one in found if policies[one] == policy), label)
        found.setdefault(first, []).append(label)
    return found


@contextmanager
def _runs(
    build: Callable[[], bt.Cerebro], policies: Mapping[str, Policy | None], workers: int
) -> Iterator[Iterator[tuple[str, VariantRun]]]:
    if workers == 1 or not can_fork():
        jobs = {label: (build, policy, label == PROTECTED) for label, policy in policies.items()}
        yield results_of(run_variant, jobs, workers)
        return
    cerebro = _built(build)

    def run(label: str) -> VariantRun:
        return _run(cerebro, policies[label], label == PROTECTED)

    with loaded(cerebro), forked_runs(run, policies, workers) as results:
        yield results


def run_all(
    build: Callable[[], bt.Cerebro],
    policies: Mapping[str, Policy | None],
    workers: int | None = None,
) -> dict[str, VariantRun]:
    """Run every policy, see `running`; return the runs by label, in the order of `policies`."""
    with running(build, policies, workers) as results:
        done = dict(results)
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
    with ProcessPoolExecutor(workers, context, ignore_interrupts) as pool:
        futures = {pool.submit(function, *arguments): job for job, arguments in work.items()}
        try:
            yield from ((futures[future], future.result()) for future in as_completed(futures))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


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
