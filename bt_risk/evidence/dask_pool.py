"""Run the points of a sweep on the workers of a Dask cluster."""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from typing import Any

from bt_risk.errors import ParameterError
from bt_risk.evidence.sweep_point import Job, PointResult
from bt_risk.evidence.sweep_pool import AHEAD, Lost
from bt_risk.evidence.sweep_space import COMPONENT, Point

__all__ = ["DaskPool", "check_client"]

_COUNTED = 5.0  # seconds until the workers are counted again
# Backtrader keeps what belongs to a run in its classes: two runs of one process would mix it up.
_ONE_RUN = threading.Lock()


def check_client(client: Any) -> None:
    """Raise ParameterError for what is no client of Dask that waits for its results."""
    named = any(one.__module__ == "distributed.client" for one in type(client).__mro__)
    if not named or client.asynchronous:
        constraint = "a dask.distributed.Client that is not asynchronous"
        raise ParameterError(COMPONENT, "client", constraint, type(client).__name__)


class DaskPool:
    """Run points on the workers of a client; the scheduler repeats those of a worker that dies.

    The job is a task of its own: a worker has it once, with the prices that it has loaded, and the
    scheduler makes it again where the worker that had it is gone.
    """

    def __init__(self, job: Job, client: Any) -> None:
        self._job, self._client = job, client
        self._name, self._numbers = f"bt-risk-sweep-{uuid.uuid4().hex}", itertools.count()
        self._held: dict[Any, str] = {}
        self._threads, self._counted = 0, -_COUNTED

    def __enter__(self) -> DaskPool:
        from distributed import as_completed

        self._sent = self._client.submit(_same, self._job, key=self._name)
        self._done = as_completed(loop=self._client.loop)
        return self

    def __exit__(self, *error: object) -> None:
        self._client.cancel([*self._held, self._sent])

    def room(self) -> bool:
        """Return whether fewer points are held than the workers may have ahead."""
        if time.monotonic() - self._counted >= _COUNTED:
            self._counted = time.monotonic()
            self._threads = sum(self._client.nthreads().values())
        return len(self._held) < AHEAD * max(self._threads, 1)

    def submit(self, key: str, point: Point) -> None:
        """Send a point to the scheduler."""
        name = f"{self._name}-{next(self._numbers)}"
        future = self._client.submit(_evaluate, self._sent, point, key=name)
        self._held[future] = key
        self._done.add(future)

    def result(self) -> tuple[str, PointResult | Lost]:
        """Wait for the next result; raise what keeps a worker from running any point."""
        from distributed import KilledWorker

        future = next(self._done)
        key = self._held.pop(future)
        try:
            return key, future.result()
        except KilledWorker as error:
            return key, PointResult(
                {}, f"every worker that ran it died: {error.last_worker.address}"
            )


def _same(job: Job) -> Job:
    return job


def _evaluate(job: Job, point: Point) -> PointResult:
    with _ONE_RUN:
        return job.evaluate(point)
