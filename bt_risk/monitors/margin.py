"""MarginMonitor: judge the margin of what is held, and refuse entries at a margin call."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from bt_risk.limits.margin_account import MarginAccount
from bt_risk.monitors.base import Monitor
from bt_risk.orders import ACTIVE, REDUCING
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.margin import entry_price
from bt_risk.rules.drawdown import ARMED
from bt_risk.rules.margin import liquidation_price, maintenance_margin, margin_ratio

__all__ = ["Liquidated", "MarginMonitor", "MarginSample"]


class MarginSample(NamedTuple):
    """The margin of one position at one close; `time` is that of the newest bar.

    `ratio` is maintenance margin / equity that secures it, `distance` how far the price is from
    liquidation and `stop` how far it is from the nearest stop, both fractions of the price (NaN
    without one).
    """

    time: float
    name: str
    ratio: float
    distance: float
    stop: float


@dataclass(frozen=True)
class Liquidated:
    """One liquidation: `size` units, negative for short, at `price`.

    `gap` says that the bar opened beyond the liquidation price, `fee` what it cost beside, and
    `insured` what was lost beyond the margin and paid by insurance, in currency.
    """

    time: float
    name: str
    size: float
    price: float
    gap: bool
    fee: float
    insured: float


class Reported(Protocol):
    """The margin ratio that a venue reports."""

    ratio: float
    answer: str

    def sample(self) -> bool:
        """Ask again where the last answer is old; return whether it did."""


class _Samples:
    """Count for how many samples a margin ratio has been at a margin call, and below it."""

    def __init__(self, call: float) -> None:
        self.call = call
        self.at = self.below = self.unknown = 0

    def add(self, ratio: float) -> None:
        """Count a sample; NaN is neither at the call nor below it."""
        self.at = self.at + 1 if ratio >= self.call else 0
        self.below = self.below + 1 if ratio < self.call else 0
        self.unknown = self.unknown + 1 if ratio != ratio else 0


class MarginMonitor(Monitor):
    """Follow the margin of one gate at every close; its venue liquidates inside the bars.

    A live venue may report a ratio of its own: a margin call begins and ends with the worse of the
    two. Two samples have to agree there; from the first one on, and while the venue's ratio is not
    known, `MarginAccount` refuses entries.

    Attributes
    ----------
    guard : MarginAccount
    ratio : float
        The highest margin ratio of what is held at the last close, 0 where nothing is.
    venue : Reported or None
        What the venue reports, None where it reports nothing.
    samples : list of MarginSample
        One for each position and bar.
    liquidations : list of Liquidated
    funding, interest : float
        What was paid for it in a backtest so far, in currency; negative funding was received.
    """

    name, state_kind = "MarginAccount", "margin"

    def __init__(self, gate: Any, guard: MarginAccount) -> None:
        self.gate, self.guard = gate, guard
        self.ratio = 0.0
        self.venue: Reported | None = None
        self._own, self._reported = _Samples(guard.call), _Samples(guard.call)
        self._needs = gate.venue.min_confirmations
        self.samples: list[MarginSample] = []
        self.liquidations: list[Liquidated] = []
        self.funding = self.interest = 0.0
        self._called = ""
        gate.venue.use_margin(self)

    @property
    def ratios(self) -> dict[str, float]:
        """Return the margin ratios that are followed, by name; NaN where one is not known."""
        found = {"margin ratio": self.ratio}
        return found if self.venue is None else found | {"margin ratio, venue": self.venue.ratio}

    def persist(self) -> Iterable[tuple[str, dict[str, Any]]]:
        """Yield ``(key, plain values)`` of a margin call, and of its absence."""
        state = {"status": CALLED if self._called else ARMED, "final": False}
        yield "", {"state": state, "gate": REDUCING, "reason": self._called}

    def restore(self, saved: dict[str, dict[str, Any]]) -> None:
        """Go on in a margin call until the ratio is known to be below it."""
        record = saved.get("")
        if record is not None and record["state"]["status"] != ARMED:
            self._called = record["reason"]
            self.gate.trading_state.ask(self, REDUCING, self._called)

    def rearm(self) -> None:
        """Judge entries again until the next close."""
        if self._called:
            self._own, self._reported = _Samples(self.guard.call), _Samples(self.guard.call)
            self._end_call("re-armed by hand")

    def on_end(self) -> None:
        """Say what holding positions has cost."""
        if self.guard.charges and not self.gate.observe and self.gate.venue.direct:
            costs = f"{self.funding:,.2f} of funding and {self.interest:,.2f} of interest"
            self._journal("note", f"{costs} were paid for what was held")

    def on_bar(self, fresh: list[Instrument]) -> None:
        """Judge the margin of what is held at the close, and begin or end a margin call."""
        sampled = self.venue is not None and self.venue.sample()
        if fresh:
            self._measure(fresh)
        if sampled:
            self._hear()
        if fresh or sampled:
            self._judge()

    def _measure(self, fresh: list[Instrument]) -> None:
        """Compute the margin ratio at the last close."""
        held = [one for one in self.gate.book.instruments if one.size]
        if not held:
            self.ratio = 0.0
        else:
            self._sample(held, max([one.time for one in fresh]))
        self._own.add(self.ratio)

    def _hear(self) -> None:
        """Take what the venue has answered; send one alert where it cannot be used."""
        assert self.venue is not None
        before, samples = self._reported.unknown, self._reported
        samples.add(self.venue.ratio)
        if before < self._needs <= samples.unknown:
            text = f"the venue's margin ratio is not known (it answers {self.venue.answer})"
            self._journal("margin", f"{text}: entries are refused")
        elif before >= self._needs and not samples.unknown:
            self._journal(
                "note", f"the venue's margin ratio is known again: {self.venue.ratio:.2f}"
            )

    def _judge(self) -> None:
        """Begin or end a margin call where enough samples agree, and say what is in doubt."""
        heard = [self._own] if self.venue is None else [self._own, self._reported]
        if any(samples.at >= self._needs for samples in heard):
            self._call()
        elif self._called and all(samples.below >= self._needs for samples in heard):
            # An unknown ratio ends no call.
            self._end_call(f"margin ratio {self._worse():.2f} < {self.guard.call:.2f}")
        doubt = ""
        if self._reported.unknown:
            doubt = _NOT_KNOWN
        elif not self._called and any(samples.at for samples in heard):
            doubt = f"{self._at_call()}, which one more sample has to confirm"
        self.gate.book.margin_doubt = doubt

    def _worse(self) -> float:
        """Return the higher of the ratios that are known."""
        return max([ratio for ratio in self.ratios.values() if ratio == ratio], default=math.nan)

    def _at_call(self) -> str:
        """Return the worse ratio beside the limit, and whose it is."""
        ratio = self._worse()
        whose = "the venue's margin ratio" if ratio != self.ratio else "margin ratio"
        return f"{whose} {ratio:.2f} >= {self.guard.call:.2f}"

    # -- the margin of what is held --------------------------------------------------------------

    def margin_of(self, one: Instrument) -> float:
        """Return the initial margin of what is held, at its entry, in currency."""
        units = abs(one.size) * one.multiplier
        return units * abs(entry_price(one)) / self.guard.leverage

    def needed(self, one: Instrument, price: float | None = None) -> float:
        """Return the maintenance margin of what is held, in currency."""
        worth = abs(one.size) * one.multiplier * (one.price if price is None else price)
        return maintenance_margin(worth, self.guard.tiers_of(one.name))

    def _sample(self, held: list[Instrument], now: float) -> None:
        """Add a sample for each position, and take the highest ratio."""
        equity = math.nan if self.guard.isolated else float(self.gate.equity())
        total = 0.0 if self.guard.isolated else sum([self.needed(one) for one in held])
        ratios = []
        for one in held:
            side, units, entry = _side(one), abs(one.size) * one.multiplier, entry_price(one)
            if self.guard.isolated:
                margin, others = self.margin_of(one), 0.0
                secured = margin + side * units * (one.price - entry)
                ratio = margin_ratio(self.needed(one), secured)
            else:
                # The balance of the account less the open profit of this position.
                margin = equity - side * units * (one.price - entry)
                others = self.needed(one) - total
                ratio = margin_ratio(total, equity)
            tiers = self.guard.tiers_of(one.name)
            at = liquidation_price(side, units, entry, margin, tiers, others=others)
            # The formula knows no price below zero.
            distance = side * (one.price - at) / one.price if one.price > 0.0 else math.nan
            stop = side * (one.price - _nearest_stop(one, side)) / (abs(one.price) or math.nan)
            self.samples.append(MarginSample(now, one.name, ratio, distance, stop))
            ratios.append(ratio)
        self.ratio = math.nan if any(r != r for r in ratios) else max(ratios)

    def _call(self) -> None:
        if not self._called:
            reason = self._at_call()
            self._called = f"{self.name}: {reason}"
            self.gate.trading_state.ask(self, REDUCING, self._called)
            self._journal("margin call", f"{reason}: entries are refused")

    def _end_call(self, reason: str) -> None:
        self._called = ""
        self.gate.trading_state.ask(self, ACTIVE)
        self._journal("note", f"{reason}: entries are judged again")

    def _journal(self, action: str, reason: str) -> None:
        self.gate.journal.account(
            self.name,
            action,
            f"{self.name}: {reason}",
            measured=self._worse(),
            limit=self.guard.call,
        )

    # -- what the venue tells --------------------------------------------------------------------

    def liquidated(self, one: Instrument, done: Liquidated, equity: float) -> None:
        """Record a liquidation, with a line; say so where the account is below zero after it."""
        self.liquidations.append(done)
        word = "at the open, which is beyond" if done.gap else "at"
        side = "long" if done.size > 0.0 else "short"
        reason = (
            f"{side} {abs(done.size):g} liquidated {word} its liquidation price: {done.price:g}"
        )
        if done.fee:
            reason += f", fee {done.fee:,.2f}"
        if done.insured:
            reason += f"; {done.insured:,.2f} beyond its margin are paid by insurance"
        if equity < 0.0:
            reason += f"; equity is {equity:,.2f}: a gap took more than the account"
        units = abs(done.size)
        self.gate.journal.record(
            done.time,
            one.name,
            self.name,
            "liquidation",
            requested=units,
            allowed=units,
            measured=done.price,
            reason=f"{self.name}: {reason}",
        )


# The status of a margin call, as a state file has it; ARMED without one.
CALLED = "CALLED"
_NOT_KNOWN = "the venue's margin ratio is not known"


def _side(one: Instrument) -> int:
    return 1 if one.size > 0.0 else -1


def _nearest_stop(one: Instrument, side: int) -> float:
    """Return the price of the nearest stop behind what is held, NaN without one."""
    prices = [w.price for w in one.orders.values() if w.kind == "stop" and w.side == -side]
    return (max if side > 0 else min)(prices, default=math.nan)
