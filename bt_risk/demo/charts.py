"""The pictures of the demo: equity and drawdown of all runs, and prices with fills and stop."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.dates as mdates
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from bt_risk.demo.runs import DemoRun
from bt_risk.rules.drawdown import drawdown

__all__ = ["draw_equity", "draw_stops"]

COLORS = {
    "bare": "0.55",
    "protected": "tab:blue",
    "cap 0.5": "tab:green",
    "groups": "tab:purple",
    "pause": "tab:orange",
    "rules": "tab:brown",
    "isolated": "tab:red",
    "cross": "tab:purple",
}
STRETCH = 240  # the number of bars that is readable in one picture


def draw_equity(path: str | Path, runs: Sequence[DemoRun], drawdown_limit: float = 0.10) -> None:
    """Draw equity above drawdown for all runs of a portfolio.

    Parameters
    ----------
    path : str or path
        PNG file to write.
    runs : list of bt_risk.demo.DemoRun
    drawdown_limit : float
        Fraction at which the breaker trips: the dashed line.
    """
    figure, (top, bottom) = _figure(runs[0].portfolio.title, 2, height_ratios=(3, 2), sharex=True)
    for place, run in enumerate(runs):
        color, days = COLORS[run.label], _daily(run)
        # Other runs equal the protected one at first and would hide it: its line is broader.
        width = 3.2 if run.label == "protected" else 1.2
        top.plot(days.index, days["equity"], color=color, label=run.label, linewidth=width)
        bottom.plot(days.index, days["drawdown"], color=color, linewidth=width)
        _mark_halts(top, bottom, run, dict(marker="v", s=45 * (len(runs) - place), color=color))
    bottom.axhline(drawdown_limit, color="tab:red", linestyle="--", linewidth=1)
    bottom.annotate(
        f"limit {drawdown_limit:.0%}",
        (1, drawdown_limit),
        xycoords=bottom.get_yaxis_transform(),
        xytext=(4, 0),
        textcoords="offset points",
        color="tab:red",
        va="center",
    )
    top.set_ylabel("equity")
    top.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    bottom.set_ylabel("drawdown")
    bottom.yaxis.set_major_formatter(PercentFormatter(1, 0))
    bottom.set_ylim(bottom.get_ylim()[1], 0)
    _legend(top)
    figure.savefig(path, dpi=135)


def _daily(run: DemoRun) -> pd.DataFrame:
    """Return equity and the deepest drawdown of each day, the finest that this scale shows."""
    frame = pd.DataFrame({"equity": run.equity, "drawdown": drawdown(run.equity)})
    return frame.groupby(frame.index.normalize()).agg({"equity": "last", "drawdown": "max"})


def _mark_halts(top: Axes, bottom: Axes, run: DemoRun, style: dict[str, Any]) -> None:
    times = run.decisions.loc[run.decisions.action == "halt", "time"]
    if times.empty:
        return
    style |= dict(edgecolors="black", linewidths=0.6, zorder=5)
    equity, falls = run.equity, drawdown(run.equity)
    label = f"halt ({run.label})"
    top.scatter(times, equity.reindex(times, method="ffill"), label=label, **style)
    bottom.scatter(times, falls.reindex(times, method="ffill"), **style)


def draw_stops(path: str | Path, run: DemoRun) -> None:
    """Draw an eventful stretch of prices with fills, stop and refused orders.

    Parameters
    ----------
    path : str or path
        PNG file to write.
    run : bt_risk.demo.DemoRun
        A protected run; its first instrument is drawn.
    """
    name, prices = next(iter(run.portfolio.frames.items()))
    events = _events(run, name)
    prices = prices.loc[_stretch(prices.index, events)]
    figure, axes = _figure(f"{name}: fills and stop of the run '{run.label}'", 1)
    _candles(axes, prices)
    stops = run.stops.reindex(prices.index)
    axes.step(prices.index, stops, where="post", color="tab:red", linewidth=1.6, label="stop")
    for label, (shape, color, times, levels) in events.items():
        inside = (times >= prices.index[0]) & (times <= prices.index[-1])
        if inside.any():
            style = dict(marker=shape, color=color, s=70, edgecolors="black", linewidths=0.7)
            axes.scatter(times[inside], levels[inside], label=label, zorder=5, **style)
    axes.set_ylabel("price")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    _legend(axes)
    figure.savefig(path, dpi=135)


def _events(run: DemoRun, name: str) -> dict[str, tuple[str, str, pd.Series, pd.Series]]:
    """Return ``(marker, color, times, prices)`` of all fills and refused orders, by label."""
    fills = run.fills[run.fills.data == name]
    bought, stopped = fills["size"] > 0, fills["stop"]
    kinds = {
        "bought": ("^", "tab:green", fills[bought]),
        "stopped out": ("v", "tab:red", fills[stopped]),
        "sold on signal": ("s", "tab:blue", fills[~bought & ~stopped]),
    }
    events = {k: (m, c, f["time"], f["price"]) for k, (m, c, f) in kinds.items()}
    refused = (run.decisions.action == "reject") & (run.decisions.data == name)
    times = run.decisions.loc[refused, "time"]
    closes = run.portfolio.frames[name]["close"].reindex(times, method="ffill")
    events["order refused"] = ("X", "0.4", times, closes.set_axis(times.index))
    return events


def _stretch(index: pd.DatetimeIndex, events: Mapping[str, tuple[Any, ...]]) -> slice:
    """Return the slice of bars with the most kinds of events; three of a kind are enough."""
    seen = np.zeros(len(index))
    starts = range(0, max(1, len(index) - STRETCH + 1), STRETCH // 8)
    places = [np.searchsorted(index, times) for _, _, times, _ in events.values()]
    counts = [
        sum(min(3, int(np.count_nonzero((p >= start) & (p < start + STRETCH)))) for p in places)
        for start in starts
    ]
    first = starts[int(np.argmax(counts))]
    last = min(first + STRETCH, len(seen)) - 1
    return slice(index[first], index[last])


def _candles(axes: Axes, prices: pd.DataFrame) -> None:
    rising = prices["close"] >= prices["open"]
    colors = np.where(rising, "0.65", "0.25").tolist()
    axes.vlines(prices.index, prices["low"], prices["high"], colors=colors, linewidth=0.8)
    body = prices["open"], prices["close"]
    axes.vlines(prices.index, *body, colors=colors, linewidth=2.4)


def _figure(title: str, rows: int, **kwargs: Any) -> tuple[Figure, Any]:
    figure = Figure(figsize=(9, 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, **_split(kwargs))
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    for one in np.atleast_1d(axes):
        one.grid(alpha=0.3)
        one.spines[["top", "right"]].set_visible(False)
        locator = mdates.AutoDateLocator()
        one.xaxis.set_major_locator(locator)
        one.xaxis.set_major_formatter(mdates.ConciseDateFormatter(locator))
    return figure, axes


def _split(kwargs: dict[str, Any]) -> dict[str, Any]:
    ratios = kwargs.pop("height_ratios", None)
    return kwargs | ({"gridspec_kw": {"height_ratios": ratios}} if ratios else {})


def _legend(axes: Axes) -> None:
    axes.legend(loc="best", frameon=True, framealpha=0.85)
