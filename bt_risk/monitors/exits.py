"""ExitMonitor: close positions by time and profit, over as many bars as it takes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from bt_risk.limits.exit_rules import BreakEven, ExitRule, TakeProfit, TimeExit
from bt_risk.monitors.base import Monitor, Quiet, Sample
from bt_risk.monitors.trailing_stop import TrailingStopMonitor
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.position import OwnerPosition, place_of, position_key
from bt_risk.portfolio.price_watch import PriceWatch
from bt_risk.tolerances import PRICE_EPS, RATIO_EPS

__all__ = ["ExitMonitor"]


class ExitMonitor(Monitor):
    """Carry out the exit rules of one gate.

    Attributes
    ----------
    rules : list of ExitRule
        The active ones.
    held : dict of OwnerPosition to (int, int)
        Number of the open trade, and how many bars have closed since the one of its first entry.
    due : dict of OwnerPosition to (int, str, str)
        Number of a trade that is being closed, with the rule and the reason.
    """

    name, state_kind = "exits", "exit"
    sleeps = True

    def __init__(self, gate: Any) -> None:
        self.gate = gate
        self.rules: list[ExitRule] = []
        self.held: dict[OwnerPosition, tuple[int, int]] = {}
        self.due: dict[OwnerPosition, tuple[int, str, str]] = {}
        # When it was asked last: the round, and by position its trade and the bars so far.
        self._asked, self._begun = 0, dict[OwnerPosition, tuple[int, int]]()

    def add(self, rule: ExitRule) -> None:
        """Carry out this rule from now on."""
        self.rules.append(rule)

    def on_fill(self, part: OwnerPosition) -> None:
        """Note when a trade begins, and forget one that is closed."""
        if not part.size:
            self.held.pop(part, None)
            self.due.pop(part, None)
        elif self.held.get(part, (0, 0))[0] != part.number:
            self.due.pop(part, None)
            self.held[part] = part.number, -1  # the bar of the entry has yet to close
            self._check_stop(part)

    def on_bar(self, fresh: list[Instrument]) -> None:
        """Judge the positions that have a new bar, and close those that are due."""
        if self.gate.observe:
            return
        for part in self._one_bar_more(fresh):
            if part not in self.due:
                self._judge(part)
        for part, (_, rule, reason) in list(self.due.items()):
            self.gate.exit_orders.close(part, rule, reason)

    def quiet(self, sample: Sample) -> Quiet | None:
        """Return on which of the next bars no rule closes anything."""
        if self.due:
            return None
        self._asked = self.gate.book.rounds
        self._begun = {
            part: (number, part.instrument.length) for part, (number, _) in self.held.items()
        }
        limits = [rule.bars for rule in self.rules if isinstance(rule, TimeExit)]
        left = [limit - held for limit in limits for _, held in self.held.values()]
        watched = [
            self._watch(part, rule.r)
            for rule in self.rules
            if isinstance(rule, TakeProfit)
            for part in self.held
        ]
        bars = min(left, default=math.inf)
        return Quiet(bars=bars, watched=tuple(watched), ends_with_orders=True)

    def _watch(self, part: OwnerPosition, r: float) -> PriceWatch:
        """Return the prices at which a position has not gained so many R."""
        one, distance = part.instrument, part.stop_distance
        if not distance > 0.0:
            return PriceWatch(one)
        level = part.price + part.side * r * distance
        rounding = PRICE_EPS * (abs(part.price) + r * distance)
        if part.side > 0:
            return PriceWatch(one, high=level - rounding)
        return PriceWatch(one, low=level + rounding)

    def skip(self, sample: Sample, bars: int) -> None:
        """Count the bars of the positions that were held before and still are."""
        last = self._asked + bars
        for part, (number, length) in self._begun.items():
            held = self.held.get(part)
            if held is not None and held[0] == number:
                one = part.instrument
                more = one.length - length - (one.round > last)
                self.held[part] = number, held[1] + more

    def on_missed(self, instruments: list[Instrument]) -> None:
        """Count bars that closed while the process or the connection was down."""
        list(self._one_bar_more(instruments))

    def _one_bar_more(self, instruments: list[Instrument]) -> Iterator[OwnerPosition]:
        """Count a bar of each position in these instruments; yield the positions."""
        for instrument in instruments:
            for part in instrument.parts if instrument.held else ():
                if part.size:
                    number, bars = self.held.get(part, (part.number, -1))
                    self.held[part] = number, bars + 1
                    yield part

    def _judge(self, part: OwnerPosition) -> None:
        """Let a position be closed if a rule says so; the first rule counts."""
        instrument, held = part.instrument, self.held[part][1]
        for rule in self.rules:
            if isinstance(rule, TimeExit) and held >= rule.bars:
                reason = f"held for {held} bars >= bars {rule.bars}"
                self._close(part, rule, reason, float(held), float(rule.bars))
                return
            if isinstance(rule, TakeProfit):
                gained = part.side * (instrument.closed - part.price)
                risked = part.stop_distance
                if risked > 0.0 and gained >= rule.r * risked * (1.0 - RATIO_EPS):
                    reason = f"{gained / risked:.4f} R at the close >= r {rule.r:.4f}"
                    self._close(part, rule, reason, gained / risked, rule.r)
                    return

    def _close(
        self, part: OwnerPosition, rule: ExitRule, reason: str, measured: float, limit: float
    ) -> None:
        """Note that a position is to be closed, with a line."""
        text = f"{rule.name}: {reason}"
        self.due[part] = part.number, rule.name, text
        journal = self.gate.journal
        journal.instrument(
            part.instrument, rule.name, "close", text, measured=measured, limit=limit
        )

    def _check_stop(self, part: OwnerPosition) -> None:
        """Note once that there is no stop for `BreakEven` to move."""
        moves = any(isinstance(rule, BreakEven) for rule in self.rules)
        if not moves or self.gate.registry.monitor(TrailingStopMonitor) is not None:
            return
        if self.gate.journal.once(("BreakEven", "no stop")):
            reason = "BreakEven: there is no stop of bt_risk to move; add ATRTrailingStop"
            self.gate.journal.instrument(part.instrument, "BreakEven", "note", reason)

    # -- across a restart ------------------------------------------------------------------------

    def persist(self) -> Iterable[tuple[str, dict[str, Any]]]:
        """Yield ``(key, plain values)`` of every open trade."""
        strategies = self.gate.cerebro.runningstrats
        for part, (number, bars) in self.held.items():
            if part.number == number:
                _, rule, reason = self.due.get(part, (0, "", ""))
                yield (
                    position_key(part.instrument, place_of(part.owner, strategies)),
                    {
                        "data": part.instrument.name,
                        "bars": bars,
                        "rule": rule,
                        "reason": reason,
                    },
                )

    def restore(self, saved: dict[str, dict[str, Any]]) -> None:
        """Go on counting bars, and go on closing what an earlier run was closing."""
        strategies = self.gate.cerebro.runningstrats
        for part in self.gate.book.parts.values():
            record = saved.get(position_key(part.instrument, place_of(part.owner, strategies)))
            if part.size and record is not None:
                self.held[part] = part.number, record["bars"]
                if record["rule"]:
                    self.due[part] = part.number, record["rule"], record["reason"]
                    self.gate.venue.mark_closing(part)
