"""The tables of the tear sheet: months, correlations, R-multiples, the journal, the policy."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from bt_risk.report.events import WorstMoment
from bt_risk.report.line_charts import DAY
from bt_risk.report.packing import differences, pack, seconds
from bt_risk.report.record import RunRecord
from bt_risk.rules.loss_distribution import CAUSES, THRESHOLDS, LossDistribution

__all__ = [
    "JOURNAL_COLUMNS",
    "JOURNAL_NUMBERS",
    "Bin",
    "correlation_table",
    "journal_block",
    "loss_causes",
    "loss_rows",
    "months",
    "multiples_of",
    "policy_rows",
    "r_bins",
]

# What matters first comes first: a narrow screen shows the beginning.
JOURNAL_COLUMNS = ["time", "data", "action", "reason", "rule"]
JOURNAL_NUMBERS = ["requested", "allowed", "measured", "limit"]
JOURNAL_LINES = 25_000  # what keeps a page below 2 MB
NAMES = 20  # of the correlation table
BINS, WIDTHS = 41, (0.25, 0.5, 1.0, 2.0, 5.0)


def months(returns: pd.Series) -> list[tuple[int, list[float | None], float]]:
    """Return the compounded return of each month as rows by year, the year's own last."""
    growth = 1.0 + returns
    by_month = growth.groupby([returns.index.year, returns.index.month]).prod() - 1.0
    by_year = growth.groupby(returns.index.year).prod() - 1.0
    rows = []
    for year, whole in by_year.items():
        known = by_month.loc[year]
        values = [float(known[month]) if month in known else None for month in range(1, 13)]
        rows.append((int(year), values, float(whole)))
    return rows


def correlation_table(moment: WorstMoment) -> tuple[list[str], list[list[float | None]]]:
    """Return the names with their sides, and their correlations; None is unknown.

    Of more than `NAMES` names those with the highest correlation stay.
    """
    matrix = moment.matrix
    others = matrix.where(~np.eye(len(matrix), dtype=bool)).max().fillna(-2.0)
    kept = others.sort_values(ascending=False, kind="stable").index[:NAMES]
    names = [name for name in matrix.index if name in set(kept)]
    labels = [f"{name} {'long' if moment.sides[name] > 0 else 'short'}" for name in names]
    cells = matrix.loc[names, names].to_numpy().tolist()
    return labels, [[value if math.isfinite(value) else None for value in row] for row in cells]


@dataclass(frozen=True)
class Bin:
    """Hold a bar of the histogram: from and to in R, and how many trades."""

    low: float
    high: float
    count: int


def r_bins(multiples: pd.Series) -> list[Bin]:
    """Return the bars of the histogram of R-multiples, whose edges include zero."""
    low, high = min(float(multiples.min()), 0.0), max(float(multiples.max()), 0.0)
    span = high - low
    width = next((width for width in WIDTHS if span <= BINS * width), span / BINS)
    first, last = math.floor(low / width), max(math.floor(high / width), 0)
    places = np.floor(multiples.to_numpy() / width).astype(int) - first
    counts = np.bincount(places, minlength=last - first + 1)
    edges = [(first + place) * width for place in range(len(counts) + 1)]
    return [Bin(edges[i], edges[i + 1], int(count)) for i, count in enumerate(counts)]


def multiples_of(values: pd.Series) -> dict[str, Any] | None:
    """Return the histogram of R-multiples, with a caption; None without a known multiple."""
    multiples = values.dropna()
    if multiples.empty:
        return None
    caption = (
        f"{len(multiples):,} trades: {(multiples > 0).mean():.0%} won, the mean is "
        f"{multiples.mean():+.2f} R, the worst {multiples.min():.2f} R, the best "
        f"{multiples.max():+.2f} R. Below -1 R the price gapped through a stop, or costs added to "
        "the loss."
    )
    return {"bins": r_bins(multiples), "caption": caption}


def journal_block(decisions: pd.DataFrame) -> tuple[str, int]:
    """Return the journal for the script of the page, and how many lines it has.

    Only the last `JOURNAL_LINES` of a longer journal are there.
    """
    frame = decisions.iloc[-JOURNAL_LINES:]
    value: dict[str, Any] = {"hours": False, "time": []}
    known = frame["time"].notna().to_numpy()
    if known.any():
        times = np.full(len(frame), np.nan)
        times[known] = seconds(frame["time"][known])
        hours = bool((times[known] % DAY).any())
        value = {"hours": hours, "time": differences(times, 1.0)}
    for name in JOURNAL_COLUMNS[1:]:
        codes, texts = pd.factorize(frame[name].astype(str), sort=False)
        value[name] = {"codes": codes.tolist(), "texts": [str(text) for text in texts]}
    for name in JOURNAL_NUMBERS:
        value[name] = [f"{x:.6g}" if x == x else "" for x in frame[name].astype(float)]
    return pack(value), len(frame)


def loss_rows(losses: LossDistribution) -> list[tuple[float, int, float, dict[str, int]]]:
    """Return a row for each threshold: R, trades beyond it, their share, and trades by cause."""
    if not losses.trades:
        return []
    return [
        (limit, losses.count(limit), losses.share(limit), dict(losses.beyond[limit]))
        for limit in THRESHOLDS
    ]


def loss_causes(losses: LossDistribution) -> list[str]:
    """Return the causes of losses beyond 1 R that there are, in the sequence of `CAUSES`."""
    return [cause for cause in CAUSES if cause in losses.beyond[THRESHOLDS[0]]]


def policy_rows(
    policy: Any, record: RunRecord | None = None
) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """Return the rules of a `bt_risk.Policy` with their descriptions, and every parameter.

    A run without a policy has its limits and breakers, and no parameters.
    """
    if policy is not None:
        lines = [line.partition(": ") for line in policy.describe().splitlines()]
        fields = {name: str(value) for name, value in asdict(policy).items()}
        return [(rule, description) for rule, _, description in lines], fields
    if record is None:
        return [], {}
    rows = [
        (name, f"{value:.4g}" if math.isfinite(value) else "no limit")
        for name, value in record.limits.items()
    ]
    rows += [("DrawdownBreaker", f"{b['drawdown_limit']:.4g}") for b in record.breakers]
    return rows, {}
