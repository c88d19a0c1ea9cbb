"""What a margin account did in a run: how near it came to liquidation, and what it cost."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING

import pandas as pd

from bt_risk.monitors.margin import Liquidated, MarginMonitor, MarginSample
from bt_risk.report.calendar import timestamps

if TYPE_CHECKING:
    from bt_risk.gate.broker import RiskBroker
    from bt_risk.report.record import RunRecord

__all__ = ["MarginUse", "margin_headline", "margin_use"]

SAMPLES = list(MarginSample._fields)
LIQUIDATIONS = [field.name for field in fields(Liquidated)]


@dataclass(frozen=True)
class MarginUse:
    """What one `MarginAccount` did in a run; ratios are fractions, amounts currency.

    Attributes
    ----------
    rule : str
        The rule in words.
    call : float
        Margin ratio from which entries are refused.
    liquidates : bool
        Whether the run liquidated and charged; where it was observed, or its broker is a venue, it
        did not.
    charges : bool
        Whether what is held costs funding or interest.
    samples : DataFrame
        One row for each position and bar: `SAMPLES`; distance and stop are fractions of the price.
    liquidations : DataFrame
        `LIQUIDATIONS`.
    funding, interest : float
        What was paid; negative funding was received.
    """

    rule: str
    call: float
    liquidates: bool
    charges: bool
    samples: pd.DataFrame
    liquidations: pd.DataFrame
    funding: float
    interest: float

    @cached_property
    def beyond(self) -> int:
        """How many bars in a position had its stop beyond its liquidation price."""
        return int((self.samples["stop"] > self.samples["distance"]).sum())

    @property
    def share_beyond(self) -> float:
        """Return the same as a share of the bars in a position, NaN without one."""
        return self._share(self.beyond)

    @cached_property
    def nearest(self) -> pd.DataFrame:
        """The sample of the position that is nearest to liquidation, by time.

        One whose distance is unknown counts as the nearest.
        """
        by_distance = self.samples.sort_values("distance", kind="stable", na_position="first")
        return by_distance.drop_duplicates("time").set_index("time").sort_index()

    def figures(self) -> dict[str, float]:
        """Return the figures by name; NaN where one does not exist."""
        samples, done = self.samples, self.liquidations
        bare = int(samples["stop"].isna().sum())
        found = {
            "Bars in a position": len(samples),
            "Stop beyond liquidation": self.share_beyond if bare < len(samples) else math.nan,
            "Bars without a stop": self._share(bare),
            "Nearest to liquidation": samples["distance"].min(),
            "Highest margin ratio": samples["ratio"].max(),
        }
        if self.liquidates:
            found |= {
                "Liquidations": len(done),
                "Liquidation fees": done["fee"].sum(),
                "Paid by insurance": done["insured"].sum(),
            }
        if self.liquidates and self.charges:
            found |= {"Funding paid": self.funding, "Interest paid": self.interest}
        return {name: float(value) for name, value in found.items()}

    def sentences(self) -> list[str]:
        """Return what a reader has to know, in sentences."""
        return [*self._of_stops(), *self._of_liquidations(), *self._of_costs()]

    def _share(self, count: int) -> float:
        return count / len(self.samples) if len(self.samples) else math.nan

    def _of_stops(self) -> Iterator[str]:
        bars = len(self.samples)
        if not bars:
            yield "No position was held at the close of a bar."
            return
        if self.samples["stop"].isna().all():
            yield f"There was no stop on any of its {bars:,} bars in a position."
        else:
            yield self._beyond_text(bars)
        distance = self.samples["distance"]
        if distance.notna().any():
            place = int(distance.argmin())
            one = self.samples.iloc[place]
            yield (
                f"The nearest to liquidation was {one['name']} on {one['time']:%Y-%m-%d}: the "
                f"close was {one['distance']:.2%} of the price away from it."
            )

    def _beyond_text(self, bars: int) -> str:
        text = (
            f"On {self.beyond:,} of {bars:,} bars in a position ({self.share_beyond:.1%}) the stop "
            "lay beyond the liquidation price"
        )
        return f"{text}, where it protects nothing." if self.beyond else f"{text}."

    def _of_liquidations(self) -> Iterator[str]:
        if not self.liquidates:
            yield "Nothing was liquidated or charged by bt_risk in this run."
            return
        done = self.liquidations
        if done.empty:
            yield "No position was liquidated."
            return
        gaps = int(done["gap"].sum())
        text = _count(len(done), "liquidation")
        if gaps:
            text += f", {gaps:,} of them after a gap at the open"
        fees, insured = done["fee"].sum(), done["insured"].sum()
        if fees:
            text += f"; fees of {fees:,.2f}"
        if insured:
            text += f"; insurance paid {insured:,.2f} beyond the margin"
        yield f"{text}."

    def _of_costs(self) -> Iterator[str]:
        if self.liquidates and self.charges:
            yield f"What was held cost {_costs(self)}."


def margin_use(gate: RiskBroker) -> MarginUse | None:
    """Return what the margin account of a gate did, None without one."""
    monitor = gate.registry.monitor(MarginMonitor)
    if monitor is None:
        return None
    samples = pd.DataFrame(monitor.samples, columns=SAMPLES)
    done = [tuple(vars(one).values()) for one in monitor.liquidations]
    liquidations = pd.DataFrame(done, columns=LIQUIDATIONS)
    return MarginUse(
        rule=monitor.guard.describe(),
        call=monitor.guard.call,
        liquidates=not gate.observe and gate.venue.direct,
        charges=monitor.guard.charges,
        samples=samples.assign(time=timestamps(samples["time"].astype(float))),
        liquidations=liquidations.assign(time=timestamps(liquidations["time"].astype(float))),
        funding=monitor.funding,
        interest=monitor.interest,
    )


def margin_headline(record: RunRecord) -> list[str]:
    """Return what the first sentence of a page says of margin."""
    use = record.margin
    if use is None:
        return []
    parts = []
    if use.liquidates and len(use.liquidations):
        parts.append(f"it had {_count(len(use.liquidations), 'liquidation')}")
    if use.beyond:
        parts.append(
            f"its stop lay beyond liquidation on {use.share_beyond:.1%} of its bars in a position"
        )
    if use.liquidates and use.charges:
        parts.append(f"what it held cost {_costs(use)}")
    return parts


def _costs(use: MarginUse) -> str:
    return f"{use.funding:,.2f} of funding and {use.interest:,.2f} of interest"


def _count(number: int, name: str) -> str:
    return f"{number:,} {name}{'' if number == 1 else 's'}"
