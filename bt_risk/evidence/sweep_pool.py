"""Who runs the points of a sweep: this process, forked or new ones, or a Dask cluster."""

from __future__ import annotations

import gc
import multiprocessing
import pickle
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from typing import Any, NamedTuple, Protocol

from bt_risk.errors import ParameterError
from bt_risk.evidence.forked import can_fork, ignore_interrupts, pages_shared
from bt_risk.evidence.sweep_point import Job, PointResult
from bt_risk.evidence.sweep_space import Point

__all__ = ["Lost", "Pool", "open_pool"]

# Points that a worker holds: one runs, and another waits, so that the worker never does.
AHEAD = 2


class Lost(NamedTuple):
    """Say that the process of a point ended before its run did.

    Attributes
    ----------
    why : str
    """

    why: str


class Pool(Protocol):
    """Run points of a job."""

    def room(self) -> bool:
        """Return whether a point would be taken now."""

    def submit(self, key: str, point: Point) -> None:
        """Take a point."""

    def result(self) -> tuple[str, PointResult | Lost]:
        """Wait for a point that was taken; return its key, and what came of it."""


@contextmanager
def open_pool(job: Job, workers: int, client: Any = None) -> Iterator[Pool]:
    """Yield what runs the points of a job; its processes end with the context.

    Parameters
    ----------
    job : Job
    workers : int
        Number of processes. One is this one.
    client : dask.distributed.Client, optional
        Whose workers run the points, in place of processes of this machine.
    """
    if client is not None:
        from bt_risk.evidence.dask_pool import DaskPool

        with DaskPool(job, client) as pool:
            yield pool
    elif workers == 1:
        yield InProcess(job)
    elif can_fork():
        with ForkedPool(job.evaluate, workers) as forked:
            yield forked
    else:
        with SpawnedPool(job, workers) as spawned:
            yield spawned


class InProcess:
    """Run points in this process."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._waiting: deque[tuple[str, Point]] = deque()

    def room(self) -> bool:
        """Return whether no point waits."""
        return not self._waiting

    def submit(self, key: str, point: Point) -> None:
        """Take a point."""
        self._waiting.append((key, point))

    def result(self) -> tuple[str, PointResult | Lost]:
        """Run the point that waits."""
        key, point = self._waiting.popleft()
        return key, self._job.evaluate(point)


class ForkedPool:
    """Run points in processes that are forked once, and share what this one has loaded.

    A process that dies is replaced. That is why nothing here starts a thread: it could not be
    forked beside one.
    """

    def __init__(self, evaluate: Callable[[Point], PointResult], workers: int) -> None:
        self._evaluate, self._workers = evaluate, list[_Worker]()
        self._context = multiprocessing.get_context("fork")
        self._returned: deque[tuple[str, PointResult | Lost]] = deque()
        self._count, self._shared = workers, ExitStack()

    def __enter__(self) -> ForkedPool:
        gc.collect()
        self._shared.enter_context(pages_shared())
        try:
            for _ in range(self._count):
                self._fork()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self._workers:
            worker.end()
        self._shared.close()

    def _fork(self) -> None:
        others = [worker.pipe for worker in self._workers]
        self._workers.append(_Worker(self._context, self._evaluate, others))

    def room(self) -> bool:
        """Return whether a worker holds fewer points than it may."""
        return any(len(worker.held) < AHEAD for worker in self._workers)

    def submit(self, key: str, point: Point) -> None:
        """Give a point to the worker that holds fewest."""
        min(self._workers, key=lambda worker: len(worker.held)).take(key, point)

    def result(self) -> tuple[str, PointResult | Lost]:
        """Wait for the next result."""
        while not self._returned:
            busy = {worker.pipe: worker for worker in self._workers if worker.held}
            for ready in wait_for(list(busy)):
                self._read(busy[ready])
        return self._returned.popleft()

    def _read(self, worker: _Worker) -> None:
        try:
            self._returned.append(worker.read())
        except (EOFError, OSError):
            code = worker.end()
            self._workers.remove(worker)
            self._fork()
            (key, _), *rest = worker.held.items()
            self._returned.append((key, Lost(f"its process ended with {code}")))
            for waiting, point in rest:
                self.submit(waiting, point)


class _Worker:
    """One forked process, and the points that it holds."""

    def __init__(
        self, context: Any, evaluate: Callable[[Point], PointResult], others: list[Connection]
    ) -> None:
        self.held: dict[str, Point] = {}
        self.pipe, end = context.Pipe()
        # The child closes what it inherits: else it would not notice that this process has ended.
        closed = [*others, self.pipe]
        self._process = context.Process(target=_work, args=(evaluate, end, closed), daemon=True)
        self._process.start()
        end.close()

    def take(self, key: str, point: Point) -> None:
        """Send a point; where the process has died, `read` says so."""
        self.held[key] = point
        with suppress(OSError):
            self.pipe.send((key, point))

    def read(self) -> tuple[str, PointResult]:
        """Return a result; EOFError if the process has ended."""
        key, result = self.pipe.recv()
        del self.held[key]
        return key, result

    def end(self) -> int | None:
        """End the process; return its exit status."""
        self._process.kill()
        self._process.join()
        self.pipe.close()
        return self._process.exitcode


def _work(
    evaluate: Callable[[Point], PointResult], pipe: Connection, closed: list[Connection]
) -> None:
    """Run points as they arrive, until the other process ends."""
    ignore_interrupts()
    for one in closed:
        one.close()
    with suppress(EOFError, OSError):
        while True:
            key, point = pipe.recv()
            pipe.send((key, evaluate(point)))


class SpawnedPool:
    """Run points in new processes, where this one cannot be forked.

    When a process dies, the executor loses every point that it holds. They run again one by one, so
    that the one at fault is known.
    """

    def __init__(self, job: Job, workers: int) -> None:
        self._pickled, self._count = pickle.dumps(job), workers
        self._held: dict[Future[PointResult], tuple[str, Point]] = {}
        self._suspects: deque[tuple[str, Point]] = deque()
        self._alone = False

    def __enter__(self) -> SpawnedPool:
        self._start()
        return self

    def __exit__(self, *error: object) -> None:
        for process in list((self._pool._processes or {}).values()):
            process.kill()
        self._pool.shutdown(cancel_futures=True)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(self._count, context, _receive, (self._pickled,))

    def room(self) -> bool:
        """Return whether fewer points are held than the processes may."""
        return not self._suspects and len(self._held) < AHEAD * self._count

    def submit(self, key: str, point: Point) -> None:
        """Take a point."""
        if self._suspects:
            self._suspects.append((key, point))
            return
        try:
            self._held[self._pool.submit(_evaluate, point)] = key, point
        except BrokenProcessPool:  # `result` hears of it, too
            self._suspects.append((key, point))

    def result(self) -> tuple[str, PointResult | Lost]:
        """Wait for the next result."""
        while True:
            if not self._held:
                self._next_suspect()
            done = next(iter(wait(self._held, return_when=FIRST_COMPLETED).done))
            key, point = self._held.pop(done)
            alone, self._alone = self._alone, False
            try:
                return key, done.result()
            except BrokenProcessPool:
                self._pool.shutdown()
                self._start()
                if alone:
                    return key, Lost("its process ended")
                self._suspects.extend([(key, point), *self._held.values()])
                self._held.clear()

    def _next_suspect(self) -> None:
        """Run one point alone."""
        key, point = self._suspects.popleft()
        try:
            future = self._pool.submit(_evaluate, point)
        except BrokenProcessPool:
            self._pool.shutdown()
            self._start()
            future = self._pool.submit(_evaluate, point)
        self._held[future], self._alone = (key, point), True


_job: Job | ParameterError | None = None


def _receive(pickled: bytes) -> None:
    """Keep the job in a new process, or why it cannot be had there: each point says it then."""
    global _job
    ignore_interrupts()
    try:
        _job = pickle.loads(pickled)
    except Exception as error:  # the modules of a user may raise anything
        _job = ParameterError(
            "sweep",
            "build",
            "a function of a module, which other processes can import",
            f"{type(error).__name__}: {error}",
            "Define it at the top of a module, or use n_jobs=1.",
        )


def _evaluate(point: Point) -> PointResult:
    assert _job is not None
    if isinstance(_job, ParameterError):
        raise _job
    return _job.evaluate(point)
