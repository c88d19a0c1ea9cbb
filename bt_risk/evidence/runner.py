"""Run every variant, on several processes where that is possible."""

import logging
import multiprocessing
import os
import pickle
import signal
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from typing import NamedTuple

from bt_risk.errors import ParameterError, check_whole
from bt_risk.evidence.order_log import OrderLog, OrderLogger
from bt_risk.policy import protect
from bt_risk.report.record import ReportData, RunRecord, record_of

__all__ = ["VariantRun", "play", "quiet", "results_of", "run_all"]


class VariantRun(NamedTuple):
    """What one run left behind: its record, and the tape of what was asked for."""

    record: RunRecord
    tape: OrderLog


def play(build, policy):
    """Run what `build` returns with a policy, or bare with None; return its `VariantRun`."""
    cerebro = build()
    if policy is not None:
        protect(cerebro, policy)
    cerebro.addanalyzer(ReportData, _name="evidence_data")
    cerebro.addanalyzer(OrderLogger, _name="evidence_tape")
    with quiet():
        strategies = cerebro.run()
    if not strategies or isinstance(strategies[0], list):
        raise ParameterError("compare", "build", "a Cerebro with a strategy", cerebro)
    strategy = strategies[0]
    return VariantRun(record_of(strategy, "compare"), strategy.analyzers.evidence_tape.tape)


def run_all(build, policies, workers=None, on_done=lambda: None):
    """Run every policy.

    Parameters
    ----------
    build : callable
        Returns a fresh Cerebro. Several processes need one that pickles: a function of a module,
        not a lambda, not one defined within another.
    policies : dict
        Policy by label; None is the bare run.
    workers : int, optional
        Processes. Left out: as many as there are cores where `build` pickles, else one.
    on_done : callable
        Called after each run.

    Returns
    -------
    dict of str to Run
        In the order of `policies`.
    """
    workers = _workers(build, workers, len(policies))
    done, work = {}, {label: (build, policy) for label, policy in policies.items()}
    for label, run in results_of(play, work, workers):
        done[label] = run
        on_done()
    return {label: done[label] for label in policies}


def _workers(build, workers, jobs):
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


def _pickles(build):
    try:
        pickle.dumps(build)
    except (pickle.PicklingError, AttributeError, TypeError):
        return False
    return True


def results_of(function, work, workers):
    """Yield ``(job, function(*arguments))`` for each job of `work`, as they get done.

    `work` holds arguments by job; with several processes all of it pickles.
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


def _ignore_interrupt():
    """Let the parent alone answer Ctrl-C, in one place."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def quiet():
    """Keep halts out of the log: the tables report them."""
    log = logging.getLogger("bt_risk")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)
