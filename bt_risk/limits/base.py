"""Limits: rules that the gate asks before an order opens anything.

A limit is an object with one method, ``review(request, book) -> Decision``. The request is the
part of an order that opens; exits are never reviewed. The decision's size lies between 0 and the
size requested, and the smallest decision counts. The book is a `bt_risk.portfolio.book.Book`, or
an object with the same attributes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from bt_risk.errors import ParameterError
from bt_risk.limits.settings import REJECT, TRIM, TradeSettings
from bt_risk.parameters import ceiling
from bt_risk.rules.stop_costs import largest_within
from bt_risk.tolerances import LIMIT_EPS

if TYPE_CHECKING:
    from bt_risk.portfolio.book import Book
    from bt_risk.portfolio.instrument import Instrument
    from bt_risk.portfolio.stop_costs import StopCosts

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
    """The part of one order that opens or increases a position.

    Attributes
    ----------
    instrument : bt_risk.portfolio.instrument.Instrument
        The instrument of the order, with its `name`, `price`, `size` and `multiplier`.
    side : int
        +1 buys, -1 sells.
    size : float
        Units that would open, positive.
    price : float
        Expected fill: the order's own price, or the last close for a market order.
    stop_distance : float
        Price distance to the stop that will protect the position; NaN while it is unknown.
    budgeted : bool
        Whether a risk budget limits the size, so that a smaller budget makes a smaller order.
    again : bool
        Whether the order was judged before and is working at the broker.
    owner : object
        The strategy that sends it.
    costs : StopCosts or None
        What a stop-out costs beside the distance; None where the distance alone is counted.
    order : OrderRequest or None
        The whole order, with its `size`, `kind` and `prices` of its own; None where it is `again`.
    """

    instrument: Instrument
    side: int
    size: float
    price: float
    stop_distance: float
    budgeted: bool = False
    again: bool = False
    owner: object = field(default=None, repr=False, compare=False)
    costs: StopCosts | None = field(default=None, repr=False, compare=False)
    order: Any = field(default=None, repr=False, compare=False)

    @cached_property
    def whole(self) -> Decision:
        """The decision that sends all of it: one object for all limits that let it pass."""
        return Decision(self.size)

    @property
    def unit_risk(self) -> float:
        """Currency lost per unit if the stop is hit, with the costs of all units shared out."""
        if self.costs is None:
            return self.stop_distance * self.instrument.multiplier
        return self.loss(self.size) / self.size

    def loss(self, size: float) -> float:
        """Return the currency lost at the stop by so many units, with costs where they count."""
        lost = size * self.stop_distance * self.instrument.multiplier
        return lost if self.costs is None else lost + self.cost(size)

    def cost(self, size: float) -> float:
        """Return what is counted of commission and slippage for so many units, in currency."""
        if self.costs is None:
            return 0.0
        stop_price = self.price - self.side * self.stop_distance
        return self.costs.of(self.instrument, self.side, size, self.price, stop_price)

    @property
    def unit_notional(self) -> float:
        """Currency held per unit."""
        return abs(self.price) * self.instrument.multiplier


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

    def __post_init__(self) -> None:
        if not self.size >= 0.0:  # NaN too: no size is smaller than NaN, so it would pass
            raise ParameterError("Decision", "size", "zero or more", self.size)

    def __eq__(self, other: object) -> bool:
        # Python 3.13 compares field by field, where the NaN of a missing number is not equal.
        return self._fields() == other._fields() if isinstance(other, Decision) else NotImplemented

    def _fields(self) -> tuple[float | str, ...]:
        return self.size, self.reason, self.rule, self.measured, self.limit


class Limit:
    """Judge orders before they open anything; the base class of all limits.

    To write a limit of your own, inherit from this class and define ``review(request, book)``,
    which returns a `Decision`: ``Decision(request.size)`` to send all of it, `refuse` to send
    less. Pass an instance to ``RiskBroker(limits=[...])`` or ``protect(cerebro, limits=[...])``.
    The order is cut to the smallest decision of all limits; exits are never reviewed.

    Three members are optional: ``prepare(book)`` is called before the first bar of a run, a limit
    whose `active` is False is not asked, and one whose `by_size` is False refuses every size where
    it refuses one. ``review`` is also asked about orders that nobody sends
    (`RiskBroker.headroom`): it changes nothing.

    Attributes
    ----------
    limit : float
        The number that `refuse` writes to the journal; infinity switches the limit off, and NaN
        is for a limit that has no such number.
    history : tuple or None
        ``(DataFrame, kind)`` of prices or returns from before the run, for limits on returns.

    Examples
    --------
    >>> class AtMost(Limit):
    ...     def __init__(self, names):
    ...         self.limit = names
    ...
    ...     def review(self, request: Request, book: Book) -> Decision:
    ...         others = [one for one in book.exposure.live() if one is not request.instrument]
    ...         if len(others) < self.limit:
    ...             return Decision(request.size)
    ...         return self.refuse(0.0, f"{len(others)} names held >= {self.limit}", len(others))
    """

    history: tuple[Any, str] | None = None
    limit: float = math.nan

    @property
    def name(self) -> str:
        """Name of the limit in decisions and errors."""
        return type(self).__name__

    @property
    def by_size(self) -> bool:
        """Return whether it may let a smaller order pass where it lets nothing pass of one.

        A rejected order names the size that would have passed: such a limit is asked again.
        """
        return True

    @property
    def active(self) -> bool:
        """Return whether this limit can ever refuse anything; one that cannot is not asked."""
        return not math.isinf(self.limit)

    def prepare(self, book: Book) -> None:
        """Prepare for a run, before its first bar; ``book.windows.add`` records closes."""

    def review(self, request: Request, book: Book) -> Decision:
        """Return the `Decision` for `request`."""
        raise TypeError(f"{self.name} has no review(request, book)")

    def explain(self, decision: Decision) -> Decision:
        """Return a decision that cuts an order, with a reason and a rule where it has none."""
        reason = decision.reason or f"{self.name}: at most {decision.size:g} units"
        return replace(decision, reason=reason, rule=decision.rule or self.name)

    def refuse(self, size: float, reason: str, measured: float = math.nan) -> Decision:
        """Return the decision that cuts a request to `size` units, with the reason."""
        return Decision(size, f"{self.name}: {reason}", self.name, measured, self.limit)

    def cap(
        self,
        request: Request,
        equity: float,
        used: float,
        unit: str,
        limit: float,
        parameter: str,
        on: str = TRIM,
    ) -> Decision:
        """Return the decision that cuts a request to what `used` leaves of ``limit x equity``.

        Both are in currency; the `unit` is ``"risk"`` or ``"notional"``.
        """
        per_unit = request.unit_risk if unit == "risk" else request.unit_notional
        if not (equity > 0 and math.isfinite(equity)):
            return self.refuse(0.0, f"equity {equity:.6g} is not positive")
        wanted = used + request.size * per_unit
        if math.isnan(wanted):
            return self.refuse(0.0, f"{parameter} cannot be judged: {self._unknown(request)}")
        if wanted <= limit * equity * (1 + LIMIT_EPS):
            return request.whole
        room = max(0.0, (limit * equity - used) / per_unit) if per_unit > 0 else 0.0
        measured, counted = wanted / equity, ""
        if unit == "risk" and request.costs is not None:
            room = largest_within(limit * equity - used, request.loss, min(room, request.size))
            counted = " with costs"
        reason = f"{measured:.4f} of equity{counted} > {parameter} {limit:.4f}"
        allowed = 0.0 if on == REJECT else min(room, request.size)
        return Decision(allowed, f"{self.name}: {reason}", self.name, measured, limit)

    def _unknown(self, request: Request) -> str:
        """Return why the risk of a request is unknown."""
        instrument = request.instrument
        if math.isnan(request.stop_distance) and not math.isnan(instrument.stop_distance()):
            return "its stop is not on the losing side of its price"
        if not math.isnan(request.stop_distance) and math.isnan(request.cost(request.size)):
            return "its commission scheme answers no number"
        return instrument.why_unknown()


class RiskPerTrade(Limit):
    """Rule 1: a position of one strategy loses at most `risk_limit` of equity at its stop.

    The limit judges the position that would result, with the working orders on that side, so that
    many small orders are no way around it. It cuts the part above. An instrument's own
    ``risk_limit`` replaces this one.

    Parameters
    ----------
    risk_limit : float, default 0.01
        Fraction of equity; None or infinity switches the limit off.
    costs_in_risk : bool
        Whether commission of the entry and of the exit at the stop, and slippage, count as lost at
        the stop: in every limit that counts risk.
    slippage : float
        How far beyond its price a stop fills, as a fraction of that price.
    allow_extreme : bool, default False
        Take a limit of 0.5 and more, which is percent by mistake otherwise.
    """

    def __init__(
        self,
        risk_limit: float | None = TradeSettings.risk_limit,
        costs_in_risk: bool = TradeSettings.costs_in_risk,
        slippage: float = TradeSettings.slippage,
        *,
        allow_extreme: bool = TradeSettings.allow_extreme,
    ) -> None:
        given = {"risk_limit": risk_limit, "costs_in_risk": costs_in_risk, "slippage": slippage}
        settings = TradeSettings.checked(self.name, given | {"allow_extreme": allow_extreme})
        self.limit, self.costs = ceiling(settings.risk_limit), settings.stop_costs

    @property
    def by_size(self) -> bool:
        """Return False: it cuts an order to what fits."""
        return False

    def review(self, request: Request, book: Book) -> Decision:
        """Return the `Decision` for `request`."""
        limit: float = request.instrument.facts.get("risk_limit", self.limit) * book.risk_scale
        if math.isinf(limit):
            return request.whole
        used = book.exposure.of_owner(request.instrument, request.owner, request.side, "trade")
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

    @property
    def by_size(self) -> bool:
        """Return False: it cuts an order to what fits."""
        return False

    def review(self, request: Request, book: Book) -> Decision:
        """Return the `Decision` for `request`."""
        used = book.exposure.of(request.instrument, request.side, "notional")
        return self.cap(request, book.equity, used, "notional", self.limit, "notional_limit")


def check_limits(component: str, limits: Any) -> tuple[Limit, ...]:
    """Return the limits as a tuple, or raise ParameterError for an object that is no limit."""
    constraint = "a list of limits, such as [bt_risk.NotionalLimit(1.0)]"
    remedy = "A limit of your own inherits from bt_risk.Limit and has review(request, book)."
    if not isinstance(limits, (list, tuple)):
        raise ParameterError(component, "limits", constraint, limits, remedy)
    for one in limits:
        if not isinstance(one, Limit) or type(one).review is Limit.review:
            raise ParameterError(component, "limits", constraint, one, remedy)
    return tuple(limits)
