"""The charts of the account: equity and drawdown, exposure, and Kelly through time."""

from typing import Any

import numpy as np
import pandas as pd

from bt_risk.report.events import exposure_bounds, halts
from bt_risk.report.floors import floor_lines
from bt_risk.report.line_charts import BLUE, GREEN, GREY, ORANGE, RED, Chart, LineChart
from bt_risk.report.record import RunRecord
from bt_risk.rules.drawdown import drawdown

__all__ = ["drawdowns", "equity_chart", "exposure_chart", "kelly_chart"]

# Column of the timeline: label, colour and dash of its line.
KELLY = {
    "full": ("full", GREY, 1),
    "half": ("half", BLUE, 2),
    "lower": ("lower bound of full", GREEN, 3),
    "used": ("used (at risk)", ORANGE, 0),
}


def drawdowns(record: RunRecord) -> pd.Series:
    """Return the drawdown of the unit value at every bar."""
    units = np.r_[record.start[1], record.bars["unit_value"].ffill()]
    return pd.Series(drawdown(units)[1:], record.bars.index)


def equity_chart(record: RunRecord, benchmark: pd.Series | None = None) -> Chart:
    """Draw equity over drawdown, with the breaker's limit, its taper, and halts as bands."""
    bars, fall = record.bars, drawdowns(record)
    known = bars["time"].notna()
    times = _to_end(record, record.times[known])
    chart = LineChart(times)
    equity = _repeated(record, bars["equity"].ffill()[known])
    chart.pane("equity", "money", height=2)
    chart.line(record.strategy, equity, BLUE)
    if benchmark is not None:
        path = record.start[0] * (1.0 + benchmark).cumprod()
        path.index = path.index.tz_localize(None)
        chart.line(str(benchmark.name or "benchmark"), path.reindex(times, method="ffill"), GREY)
    for floor in floor_lines(record):
        chart.line("floor", _repeated(record, floor[known]), RED, width=1)
    chart.pane("drawdown", "percent", inverted=True)
    chart.line("drawdown", _repeated(record, fall[known]), RED, fill=True)
    rebased = bars["breaker_drawdown"]
    if (rebased - fall).abs().max() > 1e-9:
        chart.line("since the last re-arming", _repeated(record, rebased[known]), ORANGE, width=1)
    for breaker in record.breakers:
        _breaker_levels(chart, breaker)
    chart.bands([(begin, end) for begin, end, _ in halts(record)])
    return chart.chart(
        f"Equity went from {record.start[0]:,.0f} to {equity[-1]:,.0f}; the deepest drawdown was "
        f"{fall.max():.1%}, measured at every bar. {_halt_caption(record)}"
    )


def _breaker_levels(chart: LineChart, breaker: dict[str, Any]) -> None:
    limit, taper = breaker["drawdown_limit"], breaker["taper_from"]
    if np.isfinite(limit):
        chart.limit(limit, "limit")
    if np.isfinite(breaker["lifetime_limit"]):
        chart.limit(breaker["lifetime_limit"], "lifetime limit")
    if taper is not None:
        chart.limit(taper, "smaller from here", ORANGE)


def _halt_caption(record: RunRecord) -> str:
    found = halts(record)
    if not found:
        return "The breaker never tripped." if record.breakers else ""
    times = ", ".join(f"{begin:%Y-%m-%d}" for begin, _, _ in found[:6])
    more = f" and {len(found) - 6} more" if len(found) > 6 else ""
    end = " The run ended there; the line continues flat." if record.halted else ""
    return f"Halted on {times}{more} (bands).{end}"


def exposure_chart(record: RunRecord) -> Chart:
    """Draw the exposure long and short, at risk and in notional, with the limits."""
    bars = record.bars[record.bars["time"].notna()]
    units = ("notional",) if record.mode == "bare" else ("risk", "notional")
    short = bool(bars["short_notional"].gt(0).any())
    chart = LineChart(bars["time"])
    for unit in units:
        chart.pane(unit, "percent")
        chart.line(f"long {unit}", bars[f"long_{unit}"], BLUE, fill=True)
        if short:
            chart.line(f"short {unit}", -bars[f"short_{unit}"], ORANGE, fill=True)
        for bound in exposure_bounds(record, unit):
            chart.limit(bound, "limit")
            if short:
                chart.limit(-bound, "limit")
    risk = bars[["long_risk", "short_risk"]].max().max()
    held = bars[["long_notional", "short_notional"]].max().max()
    at_risk = f"{risk:.2%} of equity at risk and " if "risk" in units else ""
    below = "; short is below zero" if short else ""
    return chart.chart(f"At most {at_risk}{held:.1%} of equity held in one direction{below}.")


def kelly_chart(record: RunRecord) -> Chart | None:
    """Draw Kelly through time over the size of its sample; None without a `HalfKellySizer`."""
    kelly = record.kelly
    if kelly.empty:
        return None
    times = pd.DatetimeIndex(sorted({*kelly["time"], record.times[-1]}))
    parts = kelly.fillna({"pool": ""}).groupby("pool", sort=False)
    pools = {pool: _of_pool(part, times) for pool, part in parts}
    chart = LineChart(times)
    # An estimate far below zero would leave no room for the others.
    floor = -max(0.05, kelly[list(KELLY)].max().max())
    chart.pane("fraction of equity; far below zero is cut off", "percent", height=2)
    for pool, part in pools.items():
        for column, (label, color, dash) in KELLY.items():
            values = part[column].clip(lower=floor)
            chart.line(f"{label} {pool}".strip(), values, color, dash=dash, steps=True)
    chart.pane("trades in the sample", "number")
    for pool, part in pools.items():
        chart.line(f"trades {pool}".strip(), part["trades"], GREY, steps=True, fill=True)
    last = kelly.iloc[-1]
    return chart.chart(
        f"At the end: {last.used:.2%} of equity at risk per trade ({last.state}), from the last "
        f"{last.trades:.0f} trades. Estimates begin with ten trades."
    )


def _of_pool(part: pd.DataFrame, times: pd.DatetimeIndex) -> pd.DataFrame:
    """Return the estimates of one pool at each of the times."""
    latest = part.drop_duplicates("time", keep="last").set_index("time")
    return latest.reindex(times, method="ffill")


def _to_end(record: RunRecord, times: pd.DatetimeIndex) -> pd.DatetimeIndex:
    return times.append(record.rest[-1:]) if record.halted else times


def _repeated(record: RunRecord, values: pd.Series) -> np.ndarray:
    """Return the values, with the last one again at the end of the data after a halt."""
    array = values.to_numpy(dtype=float)
    return np.r_[array, array[-1:]] if record.halted else array
