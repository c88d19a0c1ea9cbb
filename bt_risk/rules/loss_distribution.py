"""The distribution of losses in R: how many trades lost more than they risked, and why.

R is what a trade risked at its first stop. Nothing here knows Backtrader.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from bt_risk.tolerances import RATIO_EPS

__all__ = [
    "ADDED",
    "CAUSES",
    "COST",
    "ENTRY_BAR",
    "GAP",
    "NO_STOP",
    "THRESHOLDS",
    "UNKNOWN",
    "VENUE",
    "LossDistribution",
    "TradeLoss",
    "loss_distribution",
]

ENTRY_BAR, GAP, COST, VENUE = "entry bar", "gap", "cost", "venue"
NO_STOP, ADDED, UNKNOWN = "no stop", "added", "unknown"
CAUSES = (ENTRY_BAR, GAP, COST, VENUE, NO_STOP, ADDED, UNKNOWN)
# In R.
THRESHOLDS = (1.0, 1.5, 2.0)
# What was planned for costs is used up in this sequence.
_PLANNED_FOR = (COST, VENUE, GAP, ENTRY_BAR, NO_STOP)


@dataclass(frozen=True, slots=True)
class TradeLoss:
    """The result of a closed trade, and what it lost beside the distance to its first stop.

    Attributes
    ----------
    r_multiple : float
        Net profit in R; a full stop-out without costs is -1.
    cost : float
        Commission that it paid, in R; NaN where nobody knows.
    planned : float
        The part of 1 R that was planned for costs; 0 where R is the distance to the stop alone.
    beyond : dict of str to float
        What it lost beyond its first stop, in R, by cause.
    stopped_at_entry : bool
        Whether a stop has closed it within the bar of its entry.
    """

    r_multiple: float
    cost: float = math.nan
    planned: float = 0.0
    beyond: Mapping[str, float] = field(default_factory=dict)
    stopped_at_entry: bool = False

    @property
    def full_stop_out(self) -> float:
        """What this trade would have lost exactly at its first stop, in R, with its commission."""
        return 1.0 - self.planned + self.cost

    def parts(self) -> dict[str, float]:
        """Return the loss beyond 1 R by cause, in R; empty for a trade that lost no more.

        What adding to the position lost beyond the risk of its first entry is `ADDED`.
        """
        excess = -self.r_multiple - 1.0
        if not excess > RATIO_EPS:
            return {}
        if math.isnan(self.cost):
            return {UNKNOWN: excess}
        found, planned = {**self.beyond, COST: self.cost}, self.planned
        for cause in _PLANNED_FOR:
            covered = min(planned, found.get(cause, 0.0))
            found[cause] = found.get(cause, 0.0) - covered
            planned -= covered
        found[ADDED] = excess - sum(found.values())
        # What a part of the position had gained before makes good for some of it.
        return {cause: min(lost, excess) for cause, lost in found.items() if lost > RATIO_EPS}

    @property
    def cause(self) -> str:
        """The largest of these parts; empty for a trade that lost no more than 1 R."""
        parts = self.parts()
        return max(parts, key=lambda cause: parts[cause]) if parts else ""


@dataclass(frozen=True)
class LossDistribution:
    """How many trades lost more than they risked, and why.

    Attributes
    ----------
    trades : int
        Closed trades with a known R.
    beyond : dict of float to dict of str to int
        For each of `THRESHOLDS` the number of trades that lost more, by cause.
    worst, worst_cause : float, str
        The lowest R-multiple, and why; NaN without a trade.
    full_stop_out : float
        What a trade would have lost exactly at its first stop, in R, with the commission that it
        paid: the mean of all trades; NaN where none is known.
    entry_bar, entry_bar_trades : float, int
        R that trades have lost beyond their stop because no stop was active on the bar of the
        entry, and how many trades.
    stopped_at_entry, stopped_at_entry_r : int, float
        How many trades a stop has closed within the bar of the entry, and their sum in R.
    """

    trades: int
    beyond: Mapping[float, Mapping[str, int]]
    worst: float
    worst_cause: str
    full_stop_out: float
    entry_bar: float
    entry_bar_trades: int
    stopped_at_entry: int
    stopped_at_entry_r: float

    def count(self, threshold: float) -> int:
        """Return the number of trades that lost more than `threshold`, one of `THRESHOLDS`."""
        return sum(self.beyond[threshold].values())

    def share(self, threshold: float) -> float:
        """Return them as a fraction of all trades, NaN without a trade."""
        return self.count(threshold) / self.trades if self.trades else math.nan

    def sentences(self) -> list[str]:
        """Return the distribution in words; nothing without a trade whose R is known."""
        if not self.trades:
            return []
        shares = [f"{self.share(limit):.1%} beyond {limit:g} R" for limit in THRESHOLDS]
        why = f" ({self.worst_cause})" if self.worst_cause else ""
        first = f"Losses of {self.trades:,} trades: {', '.join(shares)}"
        found = [f"{first}, worst {self.worst:.2f} R{why}."]
        if self.full_stop_out == self.full_stop_out:
            found.append(f"A full stop-out costs {self.full_stop_out:.2f} R with its commission.")
        if self.entry_bar_trades:
            found.append(
                f"The unprotected bar of the entry cost {self.entry_bar:.2f} R beyond the stops of "
                f"{self.entry_bar_trades:,} trades."
            )
        if self.stopped_at_entry:
            found.append(
                f"{self.stopped_at_entry:,} trades were stopped on the bar of the entry, for "
                f"{self.stopped_at_entry_r:+.2f} R."
            )
        return found


def loss_distribution(losses: Iterable[TradeLoss]) -> LossDistribution:
    """Return the `LossDistribution` of trades; those whose R is unknown are left out.

    Examples
    --------
    >>> stopped = TradeLoss(-1.04, 0.04)
    >>> gapped = TradeLoss(-1.84, 0.04, beyond={GAP: 0.8})
    >>> found = loss_distribution([stopped, gapped, TradeLoss(2.0, 0.05), TradeLoss(0.4, 0.03)])
    >>> found.share(1.0), found.share(1.5), found.share(2.0)
    (0.5, 0.25, 0.0)
    >>> found.beyond[1.0], found.worst, found.worst_cause
    ({'gap': 1, 'cost': 1}, -1.84, 'gap')
    >>> round(found.full_stop_out, 4)
    1.04
    """
    known = [loss for loss in losses if not math.isnan(loss.r_multiple)]
    causes = [loss.cause for loss in known]
    beyond = {limit: _by_cause(known, causes, limit) for limit in THRESHOLDS}
    costs = [loss.full_stop_out for loss in known if not math.isnan(loss.cost)]
    least = min(range(len(known)), key=lambda k: known[k].r_multiple, default=None)
    entry = [loss.beyond[ENTRY_BAR] for loss in known if loss.beyond.get(ENTRY_BAR, 0.0) > 0.0]
    stopped = [loss.r_multiple for loss in known if loss.stopped_at_entry]
    return LossDistribution(
        trades=len(known),
        beyond=beyond,
        worst=math.nan if least is None else known[least].r_multiple,
        worst_cause="" if least is None else causes[least],
        full_stop_out=sum(costs) / len(costs) if costs else math.nan,
        entry_bar=sum(entry),
        entry_bar_trades=len(entry),
        stopped_at_entry=len(stopped),
        stopped_at_entry_r=sum(stopped),
    )


def _by_cause(losses: list[TradeLoss], causes: list[str], limit: float) -> dict[str, int]:
    """Return how many trades lost more than `limit`, by cause, in the sequence of `CAUSES`."""
    found = [
        cause
        for loss, cause in zip(losses, causes, strict=True)
        if -loss.r_multiple > limit + RATIO_EPS
    ]
    return {cause: found.count(cause) for cause in CAUSES if cause in found}
