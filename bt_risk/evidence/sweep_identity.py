"""What makes two sweeps the same: parameters, code and prices, in plain values."""

from __future__ import annotations

import hashlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from functools import partial
from typing import Any

import backtrader as bt
import numpy as np

from bt_risk.evidence.forked import loaded
from bt_risk.evidence.sweep_point import Job

__all__ = ["identity_of"]

_ENGINES = ("backtrader.", "bt_risk.", "builtins")
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def identity_of(job: Job, cerebro: bt.Cerebro | None) -> dict[str, Any]:
    """Return what a result depends on, but for the parameters of its point.

    Parameters
    ----------
    job : Job
    cerebro : Cerebro or None
        That of one point, whose data feeds are loaded, where that is possible before a run.
    """
    return {
        "space": job.space.described(),
        "objective": job.objective.name,
        "policy": _ADDRESS.sub("", repr(job.policy)),
        "window": repr(job.window),
        "code": _digest(text for part in _code(job, cerebro) for text in part),
        "prices": "" if cerebro is None else _digest(_bars(cerebro)),
    }


def _code(job: Job, cerebro: bt.Cerebro | None) -> Iterator[tuple[str, str]]:
    """Yield names and sources of what a user has written: `build`, objective, strategies."""
    for function in (job.build, job.objective.function):
        while isinstance(function, partial):
            yield _ADDRESS.sub("", repr((function.args, function.keywords))), ""
            function = function.func
        if inspect.isroutine(function):
            yield function.__qualname__, _source(function)
        elif function is not None:
            yield _ADDRESS.sub("", repr(function)), ""
    for kind, *_ in (found[0] for found in (cerebro.strats if cerebro else ())):
        for base in kind.__mro__:
            if not base.__module__.startswith(_ENGINES):
                yield base.__qualname__, _source(base)


def _source(code: Any) -> str:
    try:
        return textwrap.dedent(inspect.getsource(code))
    except (OSError, TypeError):  # at a prompt there is none
        return ""


def _bars(cerebro: bt.Cerebro) -> Iterator[bytes]:
    """Yield every bar of data feeds that can be loaded before a run."""
    with loaded(cerebro):
        for data in cerebro.datas:
            yield data._name.encode()
            for line in data.lines:
                yield np.asarray(line.array).tobytes()


def _digest(parts: Iterator[str] | Iterator[bytes]) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(part.encode() if isinstance(part, str) else part)
        found.update(b"\0")
    return found.hexdigest()
