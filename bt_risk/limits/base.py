"""What the gate asks before it lets an order open anything.

A limit is an object with one method, ``review(request, book) -> Decision``. The request is the
part of an order that opens (exits are never reviewed), the decision's size lies between 0 and the
size requested, and the smallest decision counts. The book is `bt_risk.portfolio.book.Book`, or
anything that answers the same questions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from bt_risk.errors import ParameterError
from bt_risk.limits.settings import REJECT, TRIM, TradeSettings
from bt_risk.parameters import ceiling
from bt_risk.tolerances import LIMIT_EPS

__all__ = [
    "REJECT",
    "TRIM",
    "Decision",
    "Limit",
    "NotionalLimit",
    "Request",
    "RiskPerTrade",
    "check_limits",
]


@dataclass(frozen=True)
class Request:
    """The opening part of one order, as the limits see it.

    Attributes
    ----------
    instrument : bt_risk.portfolio.book.Instrument
        What is traded; has `multiplier`, `name` and the facts of this instrument.
    side : int
        +1 buys, -1 sells.
    size : float
        Units that would open, positive.
    price : float
        Where it is expected to fill: its own price, or the last close for a market order.
    stop_distance : float
        Price distance to the stop that will protect it; NaN while it is unknown.
    budgeted : bool
        Whether a risk budget governs its size, so that scaling the budget scales the order.
    again : bool
        Whether this is an order that was judged before, and has gone out.
    """

    instrument: object
    side: int
    size: float
    price: float
    stop_distance: float
    budgeted: bool = False
    again: bool = False

    @property
    def unit_risk(self):
        """Currency lost per unit if the stop is hit."""
        return self.stop_distance * self.instrument.multiplier

    @property
    def unit_notional(self):
        """Currency held per unit."""
        return self.price * self.instrument.multiplier


@dataclass(frozen=True)
class Decision:
    """The answer of one limit: how many units of the request may be sent, and why not all.

    Parameters
    ----------
    size : float
        Units, from 0 to the size requested.
    reason : str
        Empty when all of it may be sent; else ``"{Rule}: {measured} > {limit}"``. The journal and
        the rejected order quote it.
    rule : str
        Name of the limit that has decided.
    measured, limit : float
        The two numbers that were compared, for the journal; NaN where there are none.
    """

    size: float
    reason: str = ""
    rule: str = ""
    measured: float = math.nan
    limit: float = math.nan

    def __post_init__(self):
        if not self.size >= 0.0:  # NaN included: it would compare as "not smaller", and pass
            raise ParameterError("Decision", "size", "zero or more", self.size)


class Limit:
    """A rule that is asked before an order opens anything; the base class of all limits.

    To write a limit of your own, inherit from this class and define `review`; pass an instance to
    ``RiskBroker(limits=[...])`` or ``protect(cerebro, limits=[...])``. Exits never reach it. The
    other members are optional.

    Attributes
    ----------
    limit : float
        The number that `refuse` writes to the journal; infinity switches the limit off, NaN is for
        a limit that has no such number.
    history : tuple or None
        ``(DataFrame, kind)`` of what is known from before the run, for limits that use returns.

    Examples
    --------
    >>> class AtMost(Limit):
    ...     def __init__(self, names):
    ...         self.limit = names
    ...
    ...     def review(self, request, book):
    ...         others = [one for one in book.exposure.live() if one is not request.instrument]
    ...         if len(others) < self.limit:
    ...             return Decision(request.size)
    ...         return self.refuse(0.0, f"{len(others)} names held >= {self.limit}", len(others))
    """

    history: Any = None
    limit = math.nan

    @property
    def name(self):
        """Name of the limit in decisions and errors."""
        return type(self).__name__

    @property
    def active(self):
        """Whether this limit can ever refuse anything; one that cannot is not asked."""
        return not math.isinf(self.limit)

    def prepare(self, book):
        """Get ready for a run, before its first bar; a limit may start windows of closes here."""

    def review(self, request, book):
        """Return the `Decision` for `request`."""
        raise TypeError(f"{self.name} has no review(request, book)")

    def explain(self, decision):
        """Return a decision of this limit that cuts an order with a reason and a rule."""
        reason = decision.reason or f"{self.name}: at most {decision.size:g} units"
        return replace(decision, reason=reason, rule=decision.rule or self.name)

    def refuse(self, size, reason, measured=math.nan):
        """Return the decision that leaves `size`, because of what the reason says."""
        return Decision(size, f"{self.name}: {reason}", self.name, measured, self.limit)

    def cap(self, request, equity, used, unit, limit, parameter, on=TRIM):
        """Cut the request to what is left of ``limit x equity`` after `used`, both in currency.

        The `unit` is ``"risk"`` or ``"notional"``.
        """
        per_unit = request.unit_risk if unit == "risk" else request.unit_notional
        if not (equity > 0 and math.isfinite(equity)):
            return self.refuse(0.0, f"equity {equity:.6g} is not positive")
        wanted = used + request.size * per_unit
        if math.isnan(wanted):
            return self.refuse(0.0, f"{parameter} cannot be judged: {self._unknown(request)}")
        if wanted <= limit * equity * (1 + LIMIT_EPS):
            return Decision(request.size)
        room = max(0.0, (limit * equity - used) / per_unit) if per_unit > 0 else 0.0
        measured = wanted / equity
        reason = f"{measured:.4f} of equity > {parameter} {limit:.4f}"
        allowed = 0.0 if on == REJECT else min(room, request.size)
        return Decision(allowed, f"{self.name}: {reason}", self.name, measured, limit)

    def _unknown(self, request):
        instrument = request.instrument
        if math.isnan(request.stop_distance) and not math.isnan(instrument.stop_distance()):
            return "its stop is not on the losing side of its price"
        return instrument.why_unknown()


class RiskPerTrade(Limit):
    """Rule 1: what a position loses at its stop stays below `risk_limit` of equity.

    It judges the position that would result, held and working orders on that side included, so
    that many small orders cannot walk around it; the part above is cut. An instrument's own
    ``risk_limit`` goes before.

    Parameters
    ----------
    risk_limit : float, default 0.01
        Fraction of equity; None or infinity switches the limit off.
    """

    def __init__(self, risk_limit: float | None = TradeSettings.risk_limit) -> None:
        settings = TradeSettings.checked(self.name, {"risk_limit": risk_limit})
        self.limit = ceiling(settings.risk_limit)

    def review(self, request, book):
        """Return the `Decision` for `request`."""
        limit = request.instrument.facts.get("risk_limit", self.limit) * book.risk_scale
        if math.isinf(limit):
            return Decision(request.size)
        used = book.exposure.of(request.instrument, request.side, "trade")
        return self.cap(request, book.equity, used, "risk", limit, "risk_limit")


class NotionalLimit(Limit):
    """A position is worth at most `notional_limit` of equity, working orders included.

    Parameters
    ----------
    notional_limit : float, default 1.0
        Fraction of equity (2.0 allows leverage of 2); None or infinity switches it off.
    """

    def __init__(self, notional_limit: float | None = TradeSettings.notional_limit) -> None:
        settings = TradeSettings.checked(self.name, {"notional_limit": notional_limit})
        self.limit = ceiling(settings.notional_limit)

    def review(self, request, book):
        """Return the `Decision` for `request`."""
        used = book.exposure.of(request.instrument, request.side, "notional")
        return self.cap(request, book.equity, used, "notional", self.limit, "notional_limit")


def check_limits(component, limits):
    """Return the limits as a tuple, or raise ParameterError for an object that is none."""
    constraint = "a list of limits, such as [bt_risk.NotionalLimit(1.0)]"
    remedy = "A limit of your own inherits from bt_risk.Limit and has review(request, book)."
    if not isinstance(limits, (list, tuple)):
        raise ParameterError(component, "limits", constraint, limits, remedy)
    for one in limits:
        if not isinstance(one, Limit) or type(one).review is Limit.review:
            raise ParameterError(component, "limits", constraint, one, remedy)
    return tuple(limits)
