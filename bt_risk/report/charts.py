"""The interactive charts of the tear sheet, one function each: a plotly figure and a caption."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from bt_risk.report.events import (
    exposure_bounds,
    halts,
    price_events,
    stop_line,
    worst_moment,
)
from bt_risk.report.record import RunRecord
from bt_risk.rules.drawdown import drawdown

__all__ = [
    "BLUE",
    "GREEN",
    "GREY",
    "ORANGE",
    "RED",
    "Chart",
    "blank_figure",
    "correlation_chart",
    "draw_line",
    "equity_chart",
    "exposure_chart",
    "kelly_chart",
    "price_chart",
    "r_multiple_chart",
]

Chart = tuple[go.Figure, str]

BLUE, ORANGE, GREEN, RED, GREY = "#3b82c4", "#d97706", "#2e9e6b", "#d64545", "#8a8f98"
BAND = "rgba(214, 69, 69, 0.16)"
TAPER = "rgba(217, 119, 6, 0.14)"
GRID = "rgba(128, 128, 128, 0.25)"
EVENT_MARKERS = {
    "entry": ("triangle-up", GREEN),
    "exit": ("triangle-down", BLUE),
    "stop": ("x", RED),
    "refused": ("circle-open", GREY),
    "cut": ("diamond-open", ORANGE),
}
EVENT_LABELS = {
    "entry": "entry",
    "exit": "exit",
    "stop": "stopped out",
    "refused": "order refused",
    "cut": "order cut",
}


def equity_chart(record: RunRecord, benchmark: pd.Series | None = None) -> Chart:
    """Draw equity over drawdown, with the breaker's limit, its taper, and halts as bands."""
    times = _with_end(record, record.times)
    equity = _to_end(record, record.bars["equity"])
    figure = blank_figure(rows=2, row_heights=[0.62, 0.38])
    draw_line(figure, times, equity, record.strategy, BLUE, row=1)
    if benchmark is not None:
        path = record.start[0] * (1.0 + benchmark).cumprod()
        draw_line(figure, path.index, path, benchmark.name or "benchmark", GREY, row=1)
    units = np.r_[record.start[1], record.bars["unit_value"].ffill()]
    fall = pd.Series(drawdown(units)[1:], record.bars.index)
    draw_line(figure, times, _to_end(record, fall), "drawdown", RED, row=2, fill="tozeroy")
    rebased = record.bars["breaker_drawdown"]
    if (rebased - fall).abs().max() > 1e-9:
        draw_line(figure, record.times, rebased, "since the last re-arming", ORANGE, row=2, width=1)
    for breaker in record.breakers:
        _breaker_lines(figure, breaker)
    for begin, end, _ in halts(record):
        figure.add_vrect(x0=_ms([begin])[0], x1=_ms([end])[0], fillcolor=BAND, line_width=0)
    figure.update_yaxes(title_text="equity", row=1)
    figure.update_yaxes(title_text="drawdown", tickformat=".0%", autorange="reversed", row=2)
    last, deepest = float(np.asarray(equity)[-1]), float(fall.max())
    caption = (
        f"Equity went from {record.start[0]:,.0f} to {last:,.0f}; the deepest drawdown was "
        f"{deepest:.1%}, measured at every bar. {_halt_caption(record)}"
    )
    return figure, caption


def _breaker_lines(figure: go.Figure, breaker: dict[str, Any]) -> None:
    limit, taper = breaker["drawdown_limit"], breaker["taper_from"]
    if np.isfinite(limit):
        _limit(figure, limit, f"limit {limit:.0%}", row=2)
    if np.isfinite(breaker["lifetime_limit"]):
        _limit(figure, breaker["lifetime_limit"], "lifetime limit", row=2)
    if taper is not None:
        figure.add_hrect(y0=taper, y1=limit, fillcolor=TAPER, line_width=0, row=2, col=1)


def _halt_caption(record: RunRecord) -> str:
    found = halts(record)
    if not found:
        return "The breaker never tripped." if record.breakers else ""
    times = ", ".join(f"{begin:%Y-%m-%d}" for begin, _, _ in found[:6])
    more = f" and {len(found) - 6} more" if len(found) > 6 else ""
    end = " The run ended there; the line continues flat." if record.halted else ""
    return f"Halted on {times}{more} (bands).{end}"


def price_chart(record: RunRecord, name: str) -> Chart:
    """Draw close and stop of one data feed, with its fills and its refused and cut orders."""
    closes = record.closes[name]
    figure = blank_figure(rows=1)
    draw_line(figure, closes.index, closes, "close", GREY, width=1)
    stop = stop_line(record, name)
    if stop.notna().any():
        draw_line(figure, stop.index, stop, "stop", ORANGE, shape="hv")
    counts = []
    for kind, (times, prices, texts) in price_events(record, name).items():
        if not len(times):
            continue
        symbol, color = EVENT_MARKERS[kind]
        figure.add_scatter(
            x=_ms(times),
            y=_small(prices),
            text=texts,
            name=EVENT_LABELS[kind],
            mode="markers",
            marker={"symbol": symbol, "size": 9, "color": color, "line": {"width": 1.5}},
            hovertemplate="%{text}<extra></extra>",
        )
        counts.append(f"{len(times):,} x {EVENT_LABELS[kind]}")
    caption = f"{name}: " + (", ".join(counts) if counts else "no order was placed") + "."
    figure.update_layout(hovermode="closest")
    return figure, caption


def kelly_chart(record: RunRecord) -> Chart | None:
    """Draw Kelly through time over the size of its sample; None without a `HalfKellySizer`."""
    kelly = record.kelly
    if kelly.empty:
        return None
    figure = blank_figure(rows=2, row_heights=[0.7, 0.3])
    pools = kelly["pool"].unique()
    for pool in pools:
        part = kelly[kelly["pool"] == pool]
        end = record.times[-1]
        times = part["time"].tolist() + [end]
        label = f" {pool}" if pool else ""
        dashes = {"full": "dot", "half": "dash", "lower": "dashdot", "used": "solid"}
        colors = {"full": GREY, "half": BLUE, "lower": GREEN, "used": ORANGE}
        for column, dash in dashes.items():
            values = part[column].tolist() + [part[column].iloc[-1]]
            name = {"lower": "lower bound of full", "used": "used (at risk)"}.get(column, column)
            color = colors[column]
            draw_line(figure, times, values, name + label, color, row=1, shape="hv", dash=dash)
        trades = part["trades"].tolist() + [part["trades"].iloc[-1]]
        draw_line(figure, times, trades, "trades" + label, GREY, row=2, shape="hv", fill="tozeroy")
    top = max(0.05, kelly[["full", "half", "lower", "used"]].max().max())
    bottom = max(kelly[["full", "half", "lower"]].min().min(), -top)
    figure.update_yaxes(title_text="fraction of equity", tickformat=".1%", row=1)
    figure.update_yaxes(range=[min(bottom, 0.0) - 0.05 * top, 1.05 * top], row=1)
    figure.update_yaxes(title_text="sample", row=2)
    last = kelly.iloc[-1]
    caption = (
        f"At the end: {last.used:.2%} of equity at risk per trade ({last.state}), from the last "
        f"{last.trades:.0f} trades. Estimates begin with ten trades; values far below zero are "
        "cut off."
    )
    return figure, caption


def exposure_chart(record: RunRecord) -> Chart:
    """Draw the exposure long and short, at risk and in notional, with the limits."""
    bars, times = record.bars, record.times
    units = ("notional",) if record.mode == "bare" else ("risk", "notional")
    figure = blank_figure(rows=len(units))
    for row, unit in enumerate(units, start=1):
        draw_line(figure, times, bars[f"long_{unit}"], f"long {unit}", BLUE, row, fill="tozeroy")
        draw_line(
            figure, times, -bars[f"short_{unit}"], f"short {unit}", ORANGE, row, fill="tozeroy"
        )
        for bound in exposure_bounds(record, unit):
            _limit(figure, bound, f"limit {bound:.3g}", row=row)
            _limit(figure, -bound, None, row=row)
        figure.update_yaxes(title_text=unit, tickformat=".1%", row=row)
    risk = bars[["long_risk", "short_risk"]].max().max()
    held = bars[["long_notional", "short_notional"]].max().max()
    at_risk = f"{risk:.2%} of equity at risk and " if "risk" in units else ""
    caption = f"At most {at_risk}{held:.1%} of equity held in one direction; short is below zero."
    return figure, caption


def correlation_chart(record: RunRecord) -> Chart | None:
    """Draw the worst correlations of held instruments; None if none were held together."""
    found = worst_moment(record)
    if found is None:
        return None
    matrix = found.matrix
    names = [f"{name} ({'long' if side > 0 else 'short'})" for name, side in found.sides.items()]
    figure = go.Figure()
    figure.add_heatmap(
        z=matrix.to_numpy(),
        x=names,
        y=names,
        zmin=-1,
        zmax=1,
        colorscale=[[0, BLUE], [0.5, "#f2f2f2"], [1, RED]],
        text=np.where(matrix.isna(), "unknown", matrix.round(2).astype(str)),
        texttemplate="%{text}" if len(names) <= 12 else None,
        textfont={"color": "#222"},
        hovertemplate="%{x}<br>%{y}<br>signed correlation %{z:.3f}<extra></extra>",
    )
    _style(figure)
    figure.update_yaxes(autorange="reversed")
    limit = record.limits.get("CorrelationLimit", np.inf)
    limit_text = f", limit {limit:.2f}" if np.isfinite(limit) else ""
    caption = (
        f"{found.time:%Y-%m-%d %H:%M}: {found.pair[0]} and {found.pair[1]} had a signed "
        f"correlation of {found.value:.2f}{limit_text}. Computed whenever a position opens, closes "
        "or changes sides, and at each month's end; positive is the same bet twice, negative a "
        "hedge. The cap judges entries: the correlation of open positions may drift above it."
    )
    return figure, caption


def r_multiple_chart(record: RunRecord) -> Chart | None:
    """Draw the results of trades in multiples of their risk; None without a known multiple."""
    multiples = record.trades["r_multiple"].dropna()
    if multiples.empty:
        return None
    figure = blank_figure(rows=1, dates=False)
    width = max(0.25, float(multiples.max() - multiples.min()) / 60)
    figure.add_histogram(
        x=multiples.to_numpy(), xbins={"size": width}, name="trades", marker_color=BLUE
    )
    figure.add_vline(x=float(multiples.mean()), line={"color": ORANGE, "dash": "dash"})
    figure.update_xaxes(title_text="R (net profit / what the first stop risked)")
    figure.update_yaxes(title_text="trades")
    figure.update_layout(bargap=0.05, hovermode="closest", margin_b=56)
    won = (multiples > 0).mean()
    caption = (
        f"{len(multiples):,} trades: {won:.0%} won, the mean is {multiples.mean():+.2f} R (dashed),"
        f" the worst {multiples.min():.2f} R, the best {multiples.max():+.2f} R. Below -1 R the "
        "price gapped through a stop, or costs added to the loss."
    )
    return figure, caption


# -- parts -----------------------------------------------------------------------------------------


def blank_figure(rows: int, dates: bool = True, **kwargs: Any) -> go.Figure:
    """Return an empty figure in the style of the page."""
    figure = make_subplots(rows=rows, cols=1, shared_xaxes=True, vertical_spacing=0.05, **kwargs)
    if dates:
        figure.update_xaxes(type="date")
    _style(figure)
    return figure


def _style(figure: go.Figure) -> None:
    """Set colours that are readable on white and on black; the page's script sets the others."""
    figure.update_layout(
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 56, "r": 16, "t": 8, "b": 36},
        hovermode="x unified",
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0},
        showlegend=True,
        template="none",
    )
    figure.update_xaxes(gridcolor=GRID, zerolinecolor=GRID, automargin=True)
    figure.update_yaxes(gridcolor=GRID, zerolinecolor=GRID, automargin=True)


def draw_line(
    figure: go.Figure,
    times: Iterable[Any],
    values: Iterable[Any],
    name: str,
    color: str,
    row: int = 1,
    width: float = 1.5,
    **line: Any,
) -> None:
    """Draw values by time."""
    fill = line.pop("fill", None)
    figure.add_scatter(
        x=_ms(times),
        y=_small(values),
        name=name,
        mode="lines",
        line={"color": color, "width": width, **line},
        fill=fill,
        row=row,
        col=1,
    )


def _limit(figure: go.Figure, value: float, name: str | None, row: int) -> None:
    text = {"annotation_text": name, "annotation_position": "top left"} if name else {}
    line = {"color": RED, "width": 1, "dash": "dash"}
    figure.add_hline(y=value, line=line, row=row, col=1, **text)


def _ms(times: Iterable[Any]) -> np.ndarray:
    """Return times as milliseconds since 1970, a tenth of the size of plotly's date texts."""
    return pd.DatetimeIndex(times).as_unit("ms").asi8.astype(float)


def _small(values: Iterable[Any]) -> np.ndarray:
    """Return values with seven digits, which are more than a screen shows."""
    return np.asarray(values, dtype=np.float32)


def _with_end(record: RunRecord, times: pd.DatetimeIndex) -> pd.DatetimeIndex:
    return times.append(record.rest[-1:]) if record.halted else times


def _to_end(record: RunRecord, values: pd.Series) -> pd.Series:
    """Repeat the last value at the end of the data where a run was halted before it."""
    last = values.ffill().iloc[-1:]
    return pd.concat([values, last]) if record.halted else values
