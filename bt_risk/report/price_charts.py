"""The chart of each data feed: candles, our stop, fills, refused and cut orders, halts."""

from typing import Any

import numpy as np
import pandas as pd

from bt_risk.report.events import Event, Events, halts, price_events, stop_line
from bt_risk.report.line_charts import DAY, Chart
from bt_risk.report.packing import differences, pack, seconds, unit_of
from bt_risk.report.record import RunRecord
from bt_risk.report.thinning import Candles, candles

__all__ = ["price_charts"]

CANDLES = 128_000  # of all data feeds together: what keeps a page below 2 MB
FEWEST = 250  # of one data feed
REASONS = 15_000  # more refusals than these have no text on the chart, only in the journal
LABELS = {
    "entry": "entry",
    "exit": "exit",
    "stop": "stopped out",
    "refused": "order refused",
    "cut": "order cut",
}


def price_charts(record: RunRecord) -> dict[str, Chart]:
    """Return the chart of each data feed by name, those with the most events first."""
    share = max(FEWEST, CANDLES // len(record.names))
    events = {name: price_events(record, name) for name in record.names}
    judged = sum(len(found["cut"]) + len(found["refused"]) for found in events.values())
    # Python's sort keeps the sequence of the data feeds where counts are equal.
    busiest = sorted(events, key=lambda name: -sum(map(len, events[name].values())))
    return {name: _chart(record, name, events[name], share, judged <= REASONS) for name in busiest}


def _chart(
    record: RunRecord, name: str, events: dict[str, Events], count: int, reasons: bool
) -> Chart:
    closes = record.closes[name]
    prices = np.vstack([record.ranges[name].astype(float), closes])
    # A data feed may have closes only.
    prices = np.where(np.isfinite(prices), prices, prices[3])
    shown = candles(seconds(closes.index), prices, count)
    value = {
        "name": name,
        "times": differences(shown.times.astype(float), 1.0),
        "hours": bool((shown.times % DAY).any()),
        **_packed_prices(shown, stop_line(record, name)),
        "events": {
            kind: _packed_events(shown, found, reasons or kind not in ("cut", "refused"))
            for kind, found in events.items()
            if found
        },
        "bands": [shown.place(seconds(span)).tolist() for *span, _ in halts(record)],
    }
    return Chart(pack(value), _caption(name, events, shown, len(closes)))


def _packed_prices(shown: Candles, stop: pd.Series) -> dict[str, Any]:
    """Return the candles in whole units: each close less the one before, the rest by its close."""
    if not len(shown.times):
        return {"unit": 1.0, "close": [], "open": [], "high": [], "low": [], "stop": []}
    unit = _unit(shown.prices)
    opens, highs, lows, closes = np.rint(shown.prices / unit)
    return {
        "unit": unit,
        "close": differences(closes, 1.0),
        "open": (opens[1:] - closes[:-1]).astype(int).tolist(),
        "first": int(opens[0]),
        "high": (highs - np.maximum(opens, closes)).astype(int).tolist(),
        "low": (np.minimum(opens, closes) - lows).astype(int).tolist(),
        "stop": differences(_last_stops(shown, stop), unit),
    }


def _unit(prices: np.ndarray) -> float:
    """Return the unit of the prices: that of their own decimals, where five digits have them."""
    unit = unit_of(np.quantile(np.abs(prices[3]), [0.1]))
    while unit < 1.0:
        tens = prices / (10.0 * unit)
        # All but the closes have the seven digits of a float32.
        if np.abs(tens - np.rint(tens)).max() > 0.02:
            break
        unit *= 10.0
    return unit


def _last_stops(shown: Candles, stop: pd.Series) -> np.ndarray:
    """Return the last known stop within each candle, NaN where nothing was held."""
    known = stop[stop.notna() & stop.index.notna()]
    levels = np.full(len(shown.times), np.nan)
    levels[shown.place(seconds(known.index))] = known.to_numpy()
    return levels


def _packed_events(shown: Candles, events: Events, texts: bool) -> dict[str, Any]:
    """Return one mark for each candle that has such an event, with the text of the first."""
    marks: dict[int, list[Event]] = {}
    if len(shown.times):
        places = shown.place(seconds(event.time for event in events)).tolist()
        for place, event in zip(places, events, strict=True):
            marks.setdefault(place, []).append(event)
    return {
        "at": differences(np.array(list(marks), dtype=float), 1.0),
        "side": [found[0].side for found in marks.values()],
        "count": [len(found) for found in marks.values()],
        "text": [found[0].text for found in marks.values()] if texts else None,
    }


def _caption(name: str, events: dict[str, Events], shown: Candles, bars: int) -> str:
    if not len(shown.times):
        return f"{name}: no bar had a price."
    counts = [f"{len(found):,} x {LABELS[kind]}" for kind, found in events.items() if found]
    caption = f"{name}: {', '.join(counts) if counts else 'no order was placed'}."
    return caption + _width(shown, bars)


def _width(shown: Candles, bars: int) -> str:
    if shown.width == 1:
        return ""
    return (
        f" Each candle is {shown.width:,} of {bars:,} bars: their first open, highest high, lowest"
        " low and last close."
    )
