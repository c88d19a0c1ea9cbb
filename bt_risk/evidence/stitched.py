"""The runs of a walk-forward as one: the record of an account that changed its parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import backtrader as bt
import numpy as np
import pandas as pd

from bt_risk.errors import DataError
from bt_risk.evidence.metrics import final_equity
from bt_risk.portfolio.point_value import point_value
from bt_risk.report.held_positions import EXPOSURE
from bt_risk.report.record import RunRecord, exchange_of
from bt_risk.rules.loss_distribution import loss_distribution
from bt_risk.tolerances import SIZE_EPS

__all__ = ["Part", "closing_fills", "equity_after", "stitched"]


class Part(NamedTuple):
    """One run, and the part of it that counts.

    Attributes
    ----------
    record : RunRecord
    after : Timestamp
        Up to here it has only warmed up: nothing was held.
    closing : DataFrame
        The fills that close what is held at the end, like `RunRecord.fills`.
    """

    record: RunRecord
    after: pd.Timestamp
    closing: pd.DataFrame


def closing_fills(strategy: bt.Strategy, record: RunRecord) -> pd.DataFrame:
    """Return the fills that close what a strategy holds after its last bar.

    Each is at the last close, without slippage, and pays the commission of its scheme.
    """
    rows, broker = [], strategy.broker
    for name, data in zip(record.names, strategy.datas, strict=True):
        size = broker.getposition(data).size if len(data) else 0.0
        if abs(size) <= SIZE_EPS:
            continue
        price, info = float(data.close[0]), broker.getcommissioninfo(data)
        multiplier = point_value(info, price) * exchange_of(broker, data)
        commission = float(info.getcommission(size, price))
        rows.append((record.times[-1], name, -size, price, multiplier, commission, False))
    return pd.DataFrame(rows, columns=record.fills.columns)


def equity_after(part: Part) -> float:
    """Return what is left in currency when all is closed."""
    return final_equity(part.record) - float(part.closing["commission"].sum())


def stitched(parts: Sequence[Part]) -> RunRecord:
    """Return one record of runs that follow each other, each of which begins with what is left.

    A run that was halted is flat to its end. Of several policies it has what they share: limits and
    breakers that are the same in all, and no policy where they differ. Nothing is said of losses in
    R and of margin.
    """
    first = parts[0].record
    if any(part.record.names != first.names for part in parts):
        names = sorted({", ".join(part.record.names) for part in parts})
        raise DataError(f"walk_forward: every run must have the same data feeds; got {names}.")
    bars, held = _bars_and_held(parts)
    records = [part.record for part in parts]
    return replace(
        first,
        bars=bars,
        held=held,
        rest=pd.DatetimeIndex([]),
        closes={name: _closes(parts, name) for name in first.names},
        ranges={name: _ranges(parts, name) for name in first.names},
        fills=_joined([piece for part in parts for piece in (_fills(part), part.closing)]),
        decisions=_joined([_since(part.record.decisions, part.after) for part in parts]),
        trades=_joined([one.trades for one in records]),
        losses=loss_distribution(()),
        kelly_timeline=partial(_kelly, [(part.record, part.after) for part in parts]),
        breakers=first.breakers if all(one.breakers == first.breakers for one in records) else [],
        floors=[_floors(parts, place) for place in range(min(len(one.floors) for one in records))],
        margin=None,
        limits=_shared([one.limits for one in records]),
        units=_shared([one.units for one in records]),
        policy=first.policy if all(one.policy == first.policy for one in records) else None,
        screened={},
    )


def _bars_and_held(parts: Sequence[Part]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the bars of all parts, and what was held at them."""
    bars, held, count = list[pd.DataFrame](), list[pd.DataFrame](), 0
    unit = parts[0].record.start[1]
    for part in parts:
        record = part.record
        own = record.bars[record.bars["time"] > part.after]
        rows = _closed(own.assign(unit_value=own["unit_value"] * unit / record.start[1]), part)
        if len(rest := record.rest[record.rest > part.after]):
            rows = pd.concat([rows, _flat(rows, rest)])
        kept = record.held[record.held["bar"].isin(own.index)]
        if len(part.closing):
            kept = kept[kept["bar"] != own.index[-1]]
        held.append(kept.assign(bar=kept["bar"] - own.index[0] + count))
        bars.append(rows)
        unit, count = float(rows["unit_value"].iloc[-1]), count + len(rows)
    return _joined(bars), _joined(held)


def _closed(bars: pd.DataFrame, part: Part) -> pd.DataFrame:
    """Return bars at whose end everything is closed."""
    if not len(part.closing):
        return bars
    bars, last, left = bars.copy(), bars.index[-1], equity_after(part)
    before = final_equity(part.record)
    if before > 0:
        bars.loc[last, "unit_value"] = bars["unit_value"].ffill().iloc[-1] * left / before
    bars.loc[last, "equity"] = left
    bars.loc[last, EXPOSURE] = 0.0
    return bars


def _flat(bars: pd.DataFrame, rest: pd.DatetimeIndex) -> pd.DataFrame:
    """Return a bar for each time that a halted run did not reach."""
    last = bars.ffill().iloc[-1].to_dict() | dict.fromkeys(EXPOSURE, 0.0)
    return pd.DataFrame({**last, "time": rest}, index=range(len(rest)), columns=bars.columns)


def _since(frame: pd.DataFrame, after: pd.Timestamp) -> pd.DataFrame:
    return frame[frame["time"] > after]


def _fills(part: Part) -> pd.DataFrame:
    return _since(part.record.fills, part.after)


def _joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return frames below each other; of those without a row the columns count."""
    full = [frame for frame in frames if len(frame)]
    return pd.concat(full, ignore_index=True) if full else frames[0].reset_index(drop=True)


def _closes(parts: Sequence[Part], name: str) -> pd.Series:
    closes = [part.record.closes[name] for part in parts]
    pairs = zip(closes, parts, strict=True)
    return pd.concat([series[series.index > part.after] for series, part in pairs])


def _ranges(parts: Sequence[Part], name: str) -> np.ndarray:
    pieces = [
        part.record.ranges[name][:, np.asarray(part.record.closes[name].index > part.after)]
        for part in parts
    ]
    return np.concatenate(pieces, axis=1)


def _floors(parts: Sequence[Part], place: int) -> pd.DataFrame:
    """Return the levels of one floor; that of the beginning of a part was set before it."""
    pieces = []
    for part in parts:
        levels = part.record.floors[place]
        known = levels[levels["time"] <= part.after].tail(1).assign(time=part.after)
        pieces += [known, levels[levels["time"] > part.after]]
    return _joined(pieces)


def _kelly(parts: Sequence[tuple[RunRecord, pd.Timestamp]]) -> pd.DataFrame:
    return _joined([_since(record.kelly, after) for record, after in parts])


def _shared(tables: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what is the same in all of them."""
    first, *others = tables
    return {
        name: value
        for name, value in first.items()
        if all(other.get(name, math.nan) == value for other in others)
    }
