"""Signals in a file: CSV, Parquet or one JSON object a line, as it was recorded or bought."""

from __future__ import annotations

import json
import logging
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from bt_risk.errors import DataError, ParameterError
from bt_risk.feeds.pandas_versions import EXACT
from bt_risk.signals.record import FIELDS, RefusedSignal, Signal, parse_signal, to_plain

__all__ = ["SignalFile", "line_of", "read_records", "read_signals", "unique"]

_log = logging.getLogger("bt_risk")

JSON_LINES = (".jsonl", ".ndjson")
PARQUET = (".parquet", ".pq")


@dataclass(frozen=True)
class SignalFile:
    """The signals of a file, oldest line first, and how many records were refused, by reason."""

    signals: tuple[Signal, ...]
    refused: Counter[str]


def read_signals(source: str | PathLike[str] | pd.DataFrame) -> SignalFile:
    """Read signals, and refuse each record that cannot be true.

    Parameters
    ----------
    source : str, path or DataFrame
        ``.jsonl`` (one JSON object a line), ``.parquet``, or else CSV, packed or not, with the
        names of `bt_risk.SignalData` in its first line. A frame has them as columns.

    Returns
    -------
    SignalFile
        `signals`, and `refused`: counts by reason. The log ``bt_risk`` (WARNING) has them, too.

    Raises
    ------
    DataError
        If the file cannot be read, has no time or no score in it, or nothing that is a signal.
    """
    shown = "the frame" if isinstance(source, pd.DataFrame) else str(source)
    refused: Counter[str] = Counter()
    signals = tuple(unique(read_records(_rows(source), refused), refused))
    if refused:
        reasons = ", ".join(f"{count} x {kind}" for kind, count in refused.most_common())
        _log.warning("signals: %s: refused %s of its records: %s", shown, refused.total(), reasons)
        if not signals:
            raise DataError(f"SignalData: {shown} has no signal: {reasons}. Repair it.")
    return SignalFile(signals, refused)


def read_records(
    rows: Iterable[Mapping[str, Any] | RefusedSignal], refused: Counter[str]
) -> Iterator[Signal]:
    """Yield the signals among some records; the others are counted in `refused`."""
    for row in rows:
        try:
            if isinstance(row, RefusedSignal):
                raise row
            yield parse_signal(row)
        except RefusedSignal as reason:
            refused[reason.kind] += 1


def unique(signals: Iterable[Signal], refused: Counter[str]) -> Iterator[Signal]:
    """Yield the first signal of each id; the others are counted in `refused`."""
    seen: set[str] = set()
    for signal in signals:
        if signal.id in seen:
            refused["id seen before"] += 1
            continue
        seen.add(signal.id)
        yield signal


def line_of(signal: Signal) -> str:
    """Return the line of a signal in a file of JSON lines, with its end."""
    return json.dumps(to_plain(signal), separators=(",", ":")) + "\n"


def _rows(source: Any) -> Iterable[Mapping[str, Any] | RefusedSignal]:
    if isinstance(source, pd.DataFrame):
        return _of_table(source, "the frame")
    if not isinstance(source, (str, PathLike)):
        constraint = "the path of a file, a DataFrame, or a source of signals"
        raise ParameterError("SignalData", "dataname", constraint, source)
    path = Path(source)
    if not path.exists():
        raise DataError(f"SignalData: {path} does not exist. Check the path.")
    try:
        if path.suffix.lower() in JSON_LINES:
            return [*_of_lines(path)]
        if path.suffix.lower() in PARQUET:
            table = pd.read_parquet(path)
            named = table.index.name is not None or isinstance(table.index, pd.DatetimeIndex)
            if named:
                table = table.rename_axis(table.index.name or "published").reset_index()
        else:
            table = pd.read_csv(path, dtype=str, skipinitialspace=True, **EXACT)
    except ImportError as error:
        raise DataError(f"SignalData: {path} needs pyarrow. pip install pyarrow") from error
    except pd.errors.EmptyDataError as error:
        raise DataError(f"SignalData: {path} is empty. Its first line must hold names.") from error
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(
            f"SignalData: {path} cannot be read: {error}. Save it as CSV in UTF-8."
        ) from error
    return _of_table(table, str(path))


def _of_lines(path: Path) -> Iterator[Mapping[str, Any] | RefusedSignal]:
    """Yield the object of each line; a last line that was cut short is one that is refused."""
    with path.open("rb") as lines:
        for line in lines:
            if line.strip():
                try:
                    yield json.loads(line)
                except (ValueError, RecursionError):
                    yield RefusedSignal("not JSON")


def _of_table(table: pd.DataFrame, shown: str) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of a table that has the columns which a signal needs."""
    table = table.rename(columns=lambda name: str(name).strip().casefold())
    known = {name: [one for one in names if one in table] for name, names in FIELDS.items()}
    if not known["published"] or not (known["score"] or known["direction"]):
        raise DataError(
            f"SignalData: {shown} must have a column published, and score or direction; got "
            f"{', '.join(map(repr, table.columns))}. Rename its columns."
        )
    columns = [one for names in known.values() for one in names]
    kept = table[list(dict.fromkeys(columns))]
    lists = [kept[name].astype(object).where(kept[name].notna(), None).tolist() for name in kept]
    return (dict(zip(kept.columns, row, strict=True)) for row in zip(*lists, strict=True))
