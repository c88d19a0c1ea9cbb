"""Headroom: the largest order that would pass now, and the rule that allows no more."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bt_risk.errors import ParameterError, check_choice
from bt_risk.limits.base import Decision, Limit
from bt_risk.limits.order_guards import DuplicateOrder
from bt_risk.orders import DEFAULTS, OrderRequest, SizeProposal, Verdict
from bt_risk.portfolio.instrument import Instrument
from bt_risk.rules.sizing import round_down
from bt_risk.tolerances import SIZE_EPS

if TYPE_CHECKING:
    from bt_risk.gate.order_review import OrderReview

__all__ = ["AT_MOST", "Headroom", "HeadroomReview", "at_most"]

AT_MOST = "{}; at most {} would pass"
# A size that no limit of ours lets pass: what does pass is without a limit.
_HUGE = 1e15
# Digits of the answer for an order of a fraction of a unit, where no step is known.
_DIGITS = 6


@dataclass(frozen=True)
class Headroom:
    """The largest order that would pass now.

    Attributes
    ----------
    size : float
        Units, whole lots; infinity where nothing limits them. What closes a position counts: it
        always passes.
    rule : str
        Name of the limit that allows the least, empty where none limits the order.
    reason : str
        Why an order of one lot more would be cut or refused.
    answers : tuple of Decision
        The same for each limit alone, in the sequence in which they are asked. Where something
        refuses entries before any limit is asked (a halt, an unknown price), only that answer.
    """

    size: float
    rule: str = ""
    reason: str = ""
    answers: tuple[Decision, ...] = ()


class HeadroomReview:
    """Ask the limits of one `RiskBroker` about orders that nobody sends."""

    def __init__(self, review: OrderReview) -> None:
        self.review, self.gate, self.book = review, review.gate, review.book

    def ask(
        self,
        data: Any,
        side: int,
        stop_price: float | None,
        owner: Any,
        terms: dict[str, Any],
    ) -> Headroom:
        """Answer one call of ``RiskBroker.headroom``."""
        check_choice("RiskBroker.headroom", "side", side, (1, -1))
        sent_on = self.book.find(data)
        if sent_on is None:
            constraint = "a data feed of this Cerebro, while it runs"
            raise ParameterError("RiskBroker.headroom", "data", constraint, data)
        instrument = sent_on
        if data._compensate is not None:
            instrument = self.gate.venue.held_in(data) or sent_on
        owner = self._owner(owner)
        with self._unchanged(instrument, owner):
            scheme = self.gate.inner.getcommissioninfo(instrument.data)
            if scheme is not instrument.scheme:
                self.book.measure(instrument, scheme)
            self.book.equity = float(self.gate.equity())
            request = OrderRequest(
                side, owner, instrument, 0.0, DEFAULTS | terms, stop_price, sent_on=sent_on
            )
            return self._headroom(request, float(instrument.facts.get("step") or 1.0))

    def _owner(self, owner: Any) -> Any:
        """Return the strategy that would send the order: the only one, if none is named."""
        strategies = self.gate.cerebro.runningstrats
        if owner is None and len(strategies) == 1:
            return strategies[0]
        if owner is None or not any(owner is one for one in strategies):
            constraint = "a strategy of this run, because each is judged by its own positions"
            raise ParameterError("RiskBroker.headroom", "owner", constraint, owner)
        return owner

    def _headroom(self, request: OrderRequest, lot: float) -> Headroom:
        general = self._alone(request, lot, ())
        if general.size < math.inf:
            return Headroom(general.size, general.rule, general.reason, (general,))
        limits = self.gate.registry.limits
        answers = tuple(self._alone(request, lot, (limit,)) for limit in limits)
        if not answers:
            return Headroom(math.inf)
        least = min(answers, key=lambda answer: answer.size)
        least = self._that_passes(request, lot, least)
        return Headroom(least.size, least.rule, least.reason if least.rule else "", answers)

    def _that_passes(self, request: OrderRequest, lot: float, least: Decision) -> Decision:
        """Return the answer itself, or a smaller one where a limit refuses just that size."""
        size, limits = least.size, self.gate.registry.limits
        if not 0.0 < size < math.inf:
            return least
        verdict = self._judge(request, size, None, limits)
        if verdict.size >= size - SIZE_EPS:
            return least

        def passes(lots: int) -> bool:
            smaller = lots * lot
            return self._judge(request, smaller, None, limits).size >= smaller - SIZE_EPS

        lots = _most(passes, max(0, round(size / lot) - 1), round(size / lot))
        return replace(verdict.decision, size=round_down(lots * lot, lot))

    def _alone(self, request: OrderRequest, lot: float, asked: Sequence[Limit]) -> Decision:
        """Return the largest size that passes some of the limits, and why no more does."""
        name = asked[0].name if asked else ""
        huge = self._judge(request, _HUGE, None, asked)
        if huge.size >= _HUGE:
            return Decision(math.inf, rule=name)
        refusals: dict[int, Decision] = {}

        def passes(lots: int) -> bool:
            size = lots * lot
            verdict = self._judge(request, size, None, asked)
            refusals[lots] = verdict.decision
            return verdict.size >= size - SIZE_EPS

        lots = _most(passes, round(round_down(huge.size, lot) / lot))
        if lots * lot >= _HUGE:
            return Decision(math.inf, rule=name)
        why = refusals[lots + 1]
        return replace(why, size=round_down(lots * lot, lot), rule=why.rule or name)

    def _judge(
        self, request: OrderRequest, size: float, distance: float | None, asked: Sequence[Limit]
    ) -> Verdict:
        """Return the verdict of some limits on an order of another size."""
        proposal = request.size
        if isinstance(proposal, SizeProposal):
            size = SizeProposal(size, proposal.stop_distance, proposal.step)
        other = replace(request, size=size)
        self.review.look_ahead(other)
        return self.review.judge(other, distance, asked)

    @contextmanager
    def _unchanged(self, instrument: Instrument, owner: Any) -> Iterator[None]:
        """Leave the book as it was: an order that nobody sends changes nothing."""
        book, key = self.book, (instrument.index, owner)
        known = key in book.parts
        saved = book.equity, set(book.latched)
        facts = {name: getattr(instrument, name) for name in _MEASURED}
        try:
            yield
        finally:
            book.equity, book.latched = saved
            for name, value in facts.items():
                setattr(instrument, name, value)
            if not known and key in book.parts:
                instrument.parts.remove(book.parts.pop(key))

    def explain(
        self, request: OrderRequest, decision: Decision, distance: float | None
    ) -> Decision:
        """Return the decision by which a limit refuses an order, with the size that would pass.

        Only limits that refuse by the size are asked again; where another one decides, or something
        that is no limit, as a halt, the answer is known. An order that repeats another one has no
        such answer: the same order of another size may pass.
        """
        limits = self.gate.registry.limits
        refusing = [limit for limit in limits if limit.name == decision.rule]
        if not refusing or isinstance(refusing[0], DuplicateOrder):
            return decision
        lot = _lot(request)
        hint = round(round_down(decision.size, lot) / lot)
        lots = 0
        if hint or any(limit.by_size for limit in refusing):
            latched = set(self.book.latched)
            # Which size repeats another order's has nothing to do with larger and smaller.
            asked = [limit for limit in limits if not isinstance(limit, DuplicateOrder)]

            def passes(lots: int) -> bool:
                size = lots * lot
                return self._judge(request, size, distance, asked).size >= size - SIZE_EPS

            lots = _most(passes, hint, math.ceil(request.size / lot))
            asked = limits
            lots -= bool(lots) and not passes(lots)
            self.book.latched = latched
        reason = AT_MOST.format(decision.reason, at_most(round_down(lots * lot, lot)))
        return replace(decision, reason=reason)


# What `Instrument.measure` sets.
_MEASURED = ("tick", "negative_prices", "multiplier", "scheme", "exchange", "unconverted")


def _most(passes: Callable[[int], bool], hint: int, fails: int | None = None) -> int:
    """Return the most lots that pass, where fewer always do; `hint` is tried first.

    Some number of lots `fails`, if one is known.
    """
    low, stride = 0, 1
    if hint:
        low, fails = (hint, fails) if passes(hint) else (0, hint)
    while fails is None or low + stride < fails:
        if not passes(low + stride):
            fails = low + stride
            break
        low, stride = low + stride, 2 * stride
        if low > _HUGE:
            return low
    while fails - low > 1:
        middle = (low + fails) // 2
        low, fails = (middle, fails) if passes(middle) else (low, middle)
    return low


def _lot(request: OrderRequest) -> float:
    """Return the smallest difference between two sizes of an order that count as two."""
    step = request.instrument.facts.get("step")
    if isinstance(request.size, SizeProposal):
        step = request.size.step or step
    size = float(request.size)
    if step is None:
        step = 1.0 if size.is_integer() else 10.0 ** (math.floor(math.log10(size)) + 1 - _DIGITS)
    return float(step)


def at_most(size: float) -> str:
    """Return a size in words: whole numbers whole, fractions with the digits that count."""
    return f"{size:.0f}" if size.is_integer() else f"{size:.12g}"
