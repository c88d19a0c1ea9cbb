"""The loop of a sweep: from the sampler to the workers, and from them to the store."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

from bt_risk.evidence.progress import progress
from bt_risk.evidence.sweep_point import Job, PointResult
from bt_risk.evidence.sweep_pool import Lost, Pool, open_pool
from bt_risk.evidence.sweep_sampler import Sampler
from bt_risk.evidence.sweep_space import Point, Space
from bt_risk.evidence.sweep_store import Store, row_of

__all__ = ["TRIES", "run_points"]

_log = logging.getLogger("bt_risk")
# A point whose process dies runs again, as often as this: another may have taken the memory.
TRIES = 3


def run_points(job: Job, sampler: Sampler, store: Store, workers: int, client: Any) -> bool:
    """Run every point that the store does not have; return False after Ctrl-C."""
    sampler.restore({key: row["objective"] for key, row in store.rows.items()})
    done = min(len(store.rows), sampler.total)
    try:
        with (
            open_pool(job, workers, client) as pool,
            progress(sampler.total, done, threaded=False) as step,
        ):
            _Sweeping(job.space, sampler, store, pool, step).drive()
    except KeyboardInterrupt:
        _log.warning("sweep: interrupted; %s points are done", len(store.rows))
        return False
    return True


class _Sweeping:
    """Pass points from the sampler to the pool, and results to the store and the sampler."""

    def __init__(
        self, space: Space, sampler: Sampler, store: Store, pool: Pool, step: Callable[[], None]
    ) -> None:
        self._space, self._sampler, self._store = space, sampler, store
        self._pool, self._step = pool, step
        self._running: dict[str, Point] = {}
        self._tickets: dict[str, list[Any]] = {}
        self._tries: Counter[str] = Counter()

    def drive(self) -> None:
        """Run until the sampler has no other point."""
        more = True
        while more or self._running:
            while more and self._pool.room():
                more = self._ask()
            if self._running:
                self._take(*self._pool.result())

    def _ask(self) -> bool:
        """Submit the next point, unless it is known or running; return whether there was one."""
        asked = self._sampler.ask()
        if asked is None:
            return False
        ticket, point = asked
        key = self._space.key(point)
        if key in self._store.rows:
            self._sampler.tell(ticket, self._store.rows[key]["objective"])
            return True
        self._tickets.setdefault(key, []).append(ticket)
        if key not in self._running:  # Optuna may ask again for what runs
            self._running[key] = point
            self._pool.submit(key, point)
        return True

    def _take(self, key: str, result: PointResult | Lost) -> None:
        """Keep a result, or run the point of a process that has died again."""
        if isinstance(result, Lost):
            self._tries[key] += 1
            if self._tries[key] < TRIES:
                self._pool.submit(key, self._running[key])
                return
            result = PointResult({}, f"{result.why} before the run did, {TRIES} times")
        row = row_of(self._space, self._running.pop(key), result)
        self._store.add(key, row)
        for ticket in self._tickets.pop(key):
            self._sampler.tell(ticket, row["objective"])
        self._step()
