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
            _drive(job.space, sampler, store, pool, step)
    except KeyboardInterrupt:
        _log.warning("sweep: interrupted; %s points are done", len(store.rows))
        return False
    return True


def _drive(
    space: Space, sampler: Sampler, store: Store, pool: Pool, step: Callable[[], None]
) -> None:
    """Pass points from the sampler to the pool, and results to the store and the sampler."""
    running: dict[str, Point] = {}
    tickets: dict[str, list[Any]] = {}
    tries: Counter[str] = Counter()
    more = True
    while True:
        while more and pool.room():
            asked = sampler.ask()
            if asked is None:
                more = False
                break
            ticket, point = asked
            key = space.key(point)
            if key in store.rows:
                sampler.tell(ticket, store.rows[key]["objective"])
                continue
            tickets.setdefault(key, []).append(ticket)
            if key not in running:  # Optuna may ask again for what runs
                running[key] = point
                pool.submit(key, point)
        if not running:
            return
        key, result = pool.result()
        if isinstance(result, Lost):
            tries[key] += 1
            if tries[key] < TRIES:
                pool.submit(key, running[key])
                continue
            result = PointResult({}, f"{result.why} before the run did, {TRIES} times")
        row = row_of(space, running.pop(key), result)
        store.add(key, row)
        for ticket in tickets.pop(key):
            sampler.tell(ticket, row["objective"])
        step()
