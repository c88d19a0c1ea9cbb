"""Runs of one Cerebro in forked processes, which share what the parent has built and loaded."""

import gc
import multiprocessing
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

import backtrader as bt

from bt_risk.engine.loop import QuickLoop
from bt_risk.evidence.user_traceback import InChild, user_traceback
from bt_risk.feeds.bulk import use_bulk_preload

__all__ = ["can_fork", "forked_runs", "ignore_interrupts", "loaded", "pages_shared"]

Job = TypeVar("Job")
Result = TypeVar("Result")


def can_fork() -> bool:
    """Return whether this process can be forked safely.

    Another thread may hold a lock that the child then waits for, and what macOS links to a process
    may not survive a fork.
    """
    return sys.platform.startswith("linux") and threading.active_count() == 1


def ignore_interrupts() -> None:
    """Leave Ctrl-C to the parent process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def loaded(cerebro: bt.Cerebro) -> Iterator[None]:
    """Load the data feeds of a Cerebro for all runs of it in forked processes, where that is safe.

    It is what Backtrader does before an optimisation on several processes: each bar is read once.
    """
    p = cerebro.p
    ahead = p.preload and p.runonce and not (p.live or cerebro._dolive or int(p.exactbars))
    replays = cerebro._doreplay or any(data.replaying for data in cerebro.datas)
    stores = [store for store in cerebro.stores if not isinstance(store, QuickLoop)]
    if not ahead or replays or stores or cerebro.feeds:
        yield
        return
    for data in cerebro.datas:
        use_bulk_preload(data)
        data.reset()
        data.extend(size=p.lookahead)
        data._start()
        data.preload()
    run = cerebro.runstrategies
    cerebro.runstrategies = lambda strategies: run(strategies, predata=True)
    yield
    for data in cerebro.datas:
        data.stop()


@contextmanager
def pages_shared() -> Iterator[None]:
    """Freeze what exists, as garbage collection in a child would copy every page that it shares.

    Whoever has frozen objects before thaws them himself.
    """
    mine = not gc.get_freeze_count()
    if mine:
        gc.freeze()
    try:
        yield
    finally:
        if mine:
            gc.unfreeze()


@contextmanager
def forked_runs(
    run: Callable[[Job], Result], jobs: Iterable[Job], workers: int
) -> Iterator[Iterator[tuple[Job, Result]]]:
    """Fork a process for each job; yield an iterator of ``(job, run(job))``, as each gets done.

    All are forked before this yields, so that no thread of the caller is among them; `workers` of
    them run at a time. One that is left when the context ends is killed.
    """
    context = multiprocessing.get_context("fork")
    turns, children = context.Semaphore(workers), list[_Child]()
    try:
        with pages_shared():
            children.extend(_Child(context, turns, run, job) for job in jobs)
        yield _results(children)
    finally:
        for child in children:
            child.end()


class _Child:
    """One forked process, and the end of the pipe that its result arrives at."""

    def __init__(self, context: Any, turns: Any, run: Callable[[Any], Any], job: Any) -> None:
        self.job = job
        self.results, sender = context.Pipe(duplex=False)
        self.process = context.Process(target=_work, args=(turns, run, job, sender))
        self.process.start()
        sender.close()

    def result(self) -> Any:
        """Return the result, or raise the error that the process ended with."""
        try:
            done, value, text = self.results.recv()
        except EOFError:
            self.process.join()
            code = self.process.exitcode
            raise RuntimeError(f"compare: a process ended with {code} before its run did") from None
        if done:
            return value
        raise value from InChild(text)

    def end(self) -> None:
        """End the process if it still runs."""
        self.process.kill()
        self.process.join()
        self.results.close()


def _results(children: Iterable[_Child]) -> Iterator[tuple[Any, Any]]:
    left = {child.results: child for child in children}
    while left:
        for ready in wait(list(left)):
            child = left.pop(ready)
            yield child.job, child.result()


def _work(turns: Any, run: Callable[[Any], Any], job: Any, sender: Connection) -> None:
    """Do one job in a forked process, and send what came of it."""
    ignore_interrupts()
    with turns:
        try:
            answer = True, run(job), ""
        except Exception as error:
            answer = False, error, user_traceback(error) or traceback.format_exc()
        try:
            sender.send(answer)
        except Exception as error:  # it does not pickle
            sender.send((False, RuntimeError(f"{type(error).__name__}: {error}"), answer[2]))
