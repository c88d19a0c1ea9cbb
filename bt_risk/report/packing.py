"""Numbers of a page in few bytes: whole steps of a unit, as differences, in compressed JSON."""

import base64
import gzip
import json
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["differences", "pack", "seconds", "series", "unit_of"]

DIGITS = 5  # of the largest number of a line: a screen shows fewer


def pack(value: Any) -> str:
    """Return a value of JSON as text that any element of a page can contain."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    # Without a time in its header, so that one run has one page.
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode()


def seconds(times: Iterable[Any]) -> np.ndarray:
    """Return times as whole seconds since 1970, never decreasing; NaT counts as the time before."""
    index = pd.DatetimeIndex(times)
    # NaT is the lowest of all integers.
    return np.maximum.accumulate(index.as_unit("s").asi8)


def unit_of(values: np.ndarray, digits: int = DIGITS) -> float:
    """Return the power of ten that leaves so many digits to the largest of these numbers."""
    known = np.abs(values[np.isfinite(values)])
    top = float(known.max()) if len(known) else 0.0
    return 10.0 ** (math.floor(math.log10(top)) + 1 - digits) if top > 0 else 1.0


def differences(values: np.ndarray, unit: float) -> list[int | None]:
    """Return each number less the one before it, in units; None stands for NaN and infinity."""
    known = np.isfinite(values)
    steps = np.full(len(values), None, dtype=object)
    whole = np.rint(values[known] / unit).astype(np.int64)
    steps[known] = np.diff(whole, prepend=0)
    return steps.tolist()


def series(values: Iterable[float]) -> dict[str, Any]:
    """Return a line of numbers as the page reads it: a unit, and differences."""
    array = np.asarray(values, dtype=float)
    unit = unit_of(array)
    return {"unit": unit, "steps": differences(array, unit)}
