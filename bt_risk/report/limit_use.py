"""How near a run came to each of its limits: the share of a limit that was used, through time."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bt_risk.report.account_charts import drawdowns
from bt_risk.report.events import WorstMoment
from bt_risk.report.floors import floors_used
from bt_risk.report.labels import rule_label, rules_in_order
from bt_risk.report.line_charts import BLUE, GREEN, GREY, ORANGE, RED, Chart, LineChart
from bt_risk.report.record import RunRecord

__all__ = ["LimitUse", "limit_uses", "use_chart"]

COLORS = (BLUE, ORANGE, GREEN, RED, "#8b5cf6", GREY)


@dataclass(frozen=True)
class LimitUse:
    """One limit of a run, and how much of it was used.

    Attributes
    ----------
    rule : str
    limit : float
    most, last : float
        The highest value that the run reached, and its last one; NaN where bars do not tell.
    time : Timestamp or NaT
        When it was highest.
    judged : int
        How many orders the rule has cut or refused.
    line : Series or None
        The value at each bar, where bars tell it.
    """

    rule: str
    limit: float
    most: float
    last: float
    time: pd.Timestamp
    judged: int
    line: pd.Series | None = None

    @property
    def used(self) -> float:
        """Return the largest share of the limit that was used, NaN where it is unknown."""
        return self.most / self.limit if self.limit > 0 else math.nan

    @property
    def label(self) -> str:
        """Return the name of the rule on the page."""
        return rule_label(self.rule)


def limit_uses(record: RunRecord, worst: WorstMoment | None) -> list[LimitUse]:
    """Return the use of every limit of a run that has one, in the order of the rules."""
    limits = {name: value for name, value in record.limits.items() if math.isfinite(value)}
    for breaker in record.breakers:
        if math.isfinite(breaker["drawdown_limit"]):
            limits["DrawdownBreaker"] = breaker["drawdown_limit"]
    if record.floors:
        limits["AccountFloor"] = 1.0  # of what may be lost
    judged = record.decisions[record.decisions["action"].isin(["trim", "reject"])]["rule"]
    counts = judged.value_counts()
    return [
        _use(record, rule, limits[rule], int(counts.get(rule, 0)), worst)
        for rule in rules_in_order(limits)
    ]


def _use(
    record: RunRecord, rule: str, limit: float, judged: int, worst: WorstMoment | None
) -> LimitUse:
    line = _line(record, rule)
    if line is not None and line.notna().any():
        place = int(np.nanargmax(line.to_numpy()))
        most, last = float(line.iloc[place]), float(line.ffill().iloc[-1])
        return LimitUse(rule, limit, most, last, record.times[place], judged, line)
    most, time = math.nan, pd.NaT
    if rule == "CorrelationLimit" and worst is not None:
        most, time = worst.value, worst.time
    return LimitUse(rule, limit, most, math.nan, time, judged)


def _line(record: RunRecord, rule: str) -> pd.Series | None:
    """Return what a limit is compared with at each bar, None where bars do not tell it."""
    if rule == "DrawdownBreaker":
        fall = record.bars["breaker_drawdown"]
        return fall if fall.notna().any() else drawdowns(record)
    if rule == "AccountFloor":
        return floors_used(record)
    unit = record.units.get(rule, "risk")
    long, short = record.bars[f"long_{unit}"], record.bars[f"short_{unit}"]
    if rule == "ExposureLimit":
        return pd.concat([long, short], axis=1).max(axis=1, skipna=False)
    if rule == "GrossLimit":
        return long + short
    if rule == "NetLimit":
        return (long - short).abs()
    if rule == "NotionalLimit":
        return _largest_position(record)
    return None


def _largest_position(record: RunRecord) -> pd.Series:
    """Return the notional of the largest position at each bar, as a fraction of equity."""
    held = record.held
    largest = held["value"].abs().groupby(held["bar"]).max()
    return largest.reindex(record.bars.index).fillna(0.0) / record.bars["equity"]


def use_chart(record: RunRecord, uses: list[LimitUse]) -> Chart | None:
    """Draw the share of each limit that was used at each bar; None without such a limit."""
    drawn = [(use, use.line) for use in uses if use.line is not None and use.limit > 0]
    if not drawn:
        return None
    known = record.bars["time"].notna()
    chart = LineChart(record.times[known])
    chart.pane("share of the limit that is used", "percent")
    for (use, line), color in zip(drawn, COLORS, strict=False):
        chart.line(use.label, (line / use.limit)[known], color, width=1)
    chart.limit(1.0, "limit")
    nearest = max((use for use, _ in drawn), key=lambda use: use.used)
    return chart.chart(
        f"The run came nearest to {nearest.label}: {nearest.used:.0%} of it was used on "
        f"{nearest.time:%Y-%m-%d}. A limit judges orders before they are sent, so prices can move "
        "what is held above it."
    )
