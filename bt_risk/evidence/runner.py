"""The runner of all variants, in several processes where that is possible."""

import ast
import logging
import multiprocessing
import os
import pickle
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TypeVar, cast

import backtrader as bt
import numpy as np

from bt_risk.engine.fast import fast
from bt_risk.errors import ParameterError, check_whole
from bt_risk.evidence.costs import UNCHANGED, CostChange
from bt_risk.evidence.forked import (
    can_fork,
    forked_runs,
    ignore_interrupts,
    loaded,
)
from bt_risk.evidence.metrics import final_equity
from bt_risk.evidence.order_log import OrderLog, OrderLogger
from bt_risk.evidence.variants import PROTECTED
from bt_risk.policy import Policy
from bt_risk.protection import protect
from bt_risk.report.pyfolio import daily_returns
from bt_risk.report.record import ReportData, RunRecord, record_of

__all__ = [
    "RunEnd",
    "VariantRun",
    "built",
    "quiet",
    "results_of",
    "run_all",
    "run_variant",
    "running",
    "worker_count",
]

_log = logging.getLogger("bt_risk")
_BUILD = "a function that returns a new Cerebro"
_REMEDY = "Each variant runs its own: write `def build():`, make the Cerebro in it and return it."
_DATA = "evidence_data"
_GUARD = "__name__ == '__main__'"
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


class RunEnd(NamedTuple):
    """Keep of one run what an attribution needs.

    Attributes
    ----------
    start, final : float
        Equity in currency.
    returns : ndarray of shape (n_days,)
        Simple daily returns.
    """

    start: float
    final: float
    returns: np.ndarray

    @classmethod
    def of(cls, record: RunRecord) -> "RunEnd":
        """Return that of a record."""
        returns = daily_returns(record).to_numpy()
        return cls(float(record.start[0]), final_equity(record), returns)

    @property
    def max_drawdown(self) -> float:
        """Return the deepest fall from a high-water mark at the end of a day, as a fraction."""
        wealth = np.r_[1.0, np.cumprod(1.0 + self.returns)]
        return float((1.0 - wealth / np.maximum.accumulate(wealth)).max())


def run_variant(
    build: Callable[[], bt.Cerebro], policy: Policy | None, logs: bool = True
) -> VariantRun:
    """Run the Cerebro that `build` returns with a policy, or bare where it is None.

    `logs` tells whether the orders are logged.
    """
    return _run(built(build), policy, logs)


def built(
    build: Callable[[], bt.Cerebro], component: str = "compare", mark: str = _DATA
) -> bt.Cerebro:
    """Return a Cerebro that `build` has made, or raise ParameterError in the name of `component`.

    One that has an analyzer called `mark` has been run already.
    """
    check_build(build, component)
    cerebro = build()
    if not isinstance(cerebro, bt.Cerebro):
        raise ParameterError(component, "build", _BUILD, cerebro, _REMEDY)
    if any(named.get("_name") == mark for _, _, named in cerebro.analyzers):
        raise ParameterError(component, "build", _BUILD, "the same one again", _REMEDY)
    if cerebro._dooptimize or not cerebro.datas:
        raise ParameterError(component, "build", "a Cerebro with a strategy", cerebro)
    return cerebro


def check_build(build: Any, component: str = "compare") -> None:
    """Raise ParameterError for what is no function that builds: a strategy, or a Cerebro."""
    strategy = isinstance(build, type) and issubclass(build, bt.Strategy)
    # A Cerebro is callable: its own processes call it.
    if strategy or isinstance(build, bt.Cerebro) or not callable(build):
        raise ParameterError(component, "build", _BUILD, build, _REMEDY)


def _run(cerebro: bt.Cerebro, policy: Policy | None, logs: bool) -> VariantRun:
    """Run a Cerebro that has not run yet."""
    if policy is None:
        fast(cerebro)
    else:
        protect(cerebro, policy)
    cerebro.addanalyzer(ReportData, _name=_DATA)
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
    ends: Collection[str] = (),
    costs: Mapping[str, CostChange] | None = None,
) -> Iterator[Iterator[tuple[str, VariantRun | RunEnd]]]:
    """Start the run of every policy; yield an iterator of the runs by label, as each gets done.

    Parameters
    ----------
    build : callable
        Returns a new Cerebro. Where processes are not forked, several need one that pickles: a
        function of a module, not a lambda, not one defined within another function.
    policies : dict
        Policy by label; None is the bare run. Equal policies have one run, and the order log is
        that of the label `PROTECTED` alone: nothing else reads one.
    workers : int, optional
        Number of processes. When left out: one for each core, see `compare`.
    ends : list of str
        Labels of runs of which the `RunEnd` is enough: the whole record of each would fill memory.
        Each has a policy or costs of its own.
    costs : dict, optional
        Costs by label, of some of those: the usual ones where a label is not in it.
    """
    labels = _equal({label: one for label, one in policies.items() if label not in ends})
    labels |= {label: [label] for label in ends}
    check_build(build)
    workers = worker_count(build, workers, len(labels))
    # Processes start before anybody shows a progress bar, which has a thread.
    jobs = {label: (policies[label], (costs or {}).get(label, UNCHANGED)) for label in labels}
    with _runs(build, jobs, workers, ends) as results:
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
    build: Callable[[], bt.Cerebro],
    jobs: Mapping[str, tuple[Policy | None, CostChange]],
    workers: int,
    ends: Collection[str],
) -> Iterator[Iterator[tuple[str, VariantRun | RunEnd]]]:
    if workers == 1 or not can_fork():
        work = {
            label: (_charged(build, costs), policy, label == PROTECTED, label in ends)
            for label, (policy, costs) in jobs.items()
        }
        yield results_of(_run_job, work, workers)
        return
    cerebro = built(build)

    def run(label: str) -> VariantRun | RunEnd:
        policy, costs = jobs[label]
        done = _run(costs.apply(cerebro), policy, label == PROTECTED)
        return RunEnd.of(done.record) if label in ends else done

    with loaded(cerebro), forked_runs(run, jobs, workers) as results:
        yield results


def _charged(build: Callable[[], bt.Cerebro], costs: CostChange) -> Callable[[], bt.Cerebro]:
    """Return what builds the same Cerebro with other costs."""
    return build if costs == UNCHANGED else partial(_with_costs, build, costs)


def _with_costs(build: Callable[[], bt.Cerebro], costs: CostChange) -> bt.Cerebro:
    return costs.apply(built(build))


def _run_job(
    build: Callable[[], bt.Cerebro], policy: Policy | None, logs: bool, end: bool
) -> VariantRun | RunEnd:
    done = run_variant(build, policy, logs)
    return RunEnd.of(done.record) if end else done


def run_all(
    build: Callable[[], bt.Cerebro],
    policies: Mapping[str, Policy | None],
    workers: int | None = None,
) -> dict[str, VariantRun]:
    """Run every policy, see `running`; return the runs by label, in the order of `policies`."""
    with running(build, policies, workers) as results:
        done = dict(results)
    return {label: cast(VariantRun, done[label]) for label in policies}


def worker_count(
    build: Any,
    workers: int | None,
    jobs: int,
    component: str = "compare",
    param: str = "workers",
) -> int:
    """Return how many processes run the variants, at most as many as were asked for.

    `build` is what they need beside the variant. `component` and `param` are for messages.
    """
    asked = workers
    if asked is not None:
        asked = check_whole(component, param, asked, remedy="It counts processes.")
    workers = min(jobs, os.cpu_count() or 1) if asked is None else asked
    if workers == 1 or can_fork():
        return workers
    main = sys.modules["__main__"]
    if not _pickles(build, main):
        if asked is None:
            return 1
        remedy = f"Define it at the top of a module, or use {param}=1."
        constraint = "a function of a module, which other processes can import"
        raise ParameterError(component, "build", constraint, build, remedy)
    if _imported_again(main) and not imports_safely(main):
        _log.warning(
            "%s: runs in one process, because others would run this script again: put what "
            'it does under `if __name__ == "__main__":`',
            component,
        )
        return 1
    return workers


def _imported_again(main: ModuleType) -> bool:
    """Return whether a new process imports ``__main__``: no prompt, notebook or run package."""
    name = main.__spec__.name if main.__spec__ else ""
    return hasattr(main, "__file__") and not (name == "__main__" or name.endswith(".__main__"))


def imports_safely(main: ModuleType) -> bool:
    """Return whether a script can be imported without doing its work: it has the usual guard."""
    try:
        tree = ast.parse(Path(str(main.__file__)).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return False
    return any(isinstance(one, ast.If) and _GUARD in ast.unparse(one.test) for one in tree.body)


def _pickles(build: Any, main: ModuleType) -> bool:
    """Return whether a new process can have `build`: one of a notebook cannot be imported."""
    try:
        pickled = pickle.dumps(build)
    except (pickle.PicklingError, AttributeError, TypeError):
        return False
    return b"__main__" not in pickled or _imported_again(main)


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
    """Keep what a run reports of itself out of Python's log: the result has it."""
    log = logging.getLogger("bt_risk")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)
