"""Guards on a single order: its price, its size, and its repetition.

They judge entries when they are placed; exits always pass. A resting entry is not judged again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from bt_risk.errors import check_choice, check_limit, check_whole
from bt_risk.limits.base import Decision, Request
from bt_risk.limits.settings import REJECT, TRIM
from bt_risk.limits.trade_guards import Guard, check_count_limit
from bt_risk.portfolio.bar_history import track_closes
from bt_risk.portfolio.position import identity
from bt_risk.tolerances import LIMIT_EPS, PRICE_EPS, SIZE_EPS

if TYPE_CHECKING:
    from bt_risk.portfolio.book import Book

__all__ = [
    "DuplicateOrder",
    "OrderSize",
    "PriceCollar",
    "RepeatedOrders",
]


@dataclass(frozen=True)
class PriceCollar(Guard):
    """No entry at a price that is too far from a reference: the market, or its last bars.

    The limit and the stop price of an order are compared with the newest price; an order at the
    market has none, and passes. Both sides count: a limit order far from the market is as probably
    a mistake as one that would fill far beyond it.

    With `lookback` the reference is the median close of so many bars, which one wrong price does
    not move, and the price that an order can fill at as things are counts, too: that of an order at
    the market is the newest price. A market that has run away takes no entry then. It takes two
    guards to have both references.

    Parameters
    ----------
    atr : float, optional
        ATRs (of the period of the stop distance); None or infinity is no collar in ATRs.
    fraction : float, optional
        Fraction of the reference; None or infinity is no collar in fractions.
    lookback : int, optional
        Closes of the data feed whose median is the reference; None: the newest price is. Entries
        are refused before there are so many.
    """

    atr: float | None = None
    fraction: float | None = None
    lookback: int | None = None

    def __post_init__(self) -> None:
        self._set(
            atr=check_limit(self.name, "atr", self.atr, remedy="It counts ATRs."),
            fraction=check_limit(self.name, "fraction", self.fraction),
        )
        if self.lookback is not None:
            self._set(lookback=check_whole(self.name, "lookback", self.lookback))

    @property
    def active(self) -> bool:
        """Return whether this guard can ever refuse anything."""
        return not (math.isinf(self.atr or 0.0) and math.isinf(self.fraction or 0.0))

    def prepare(self, book: Book) -> None:
        """Keep the closes that the reference is computed from."""
        if self.lookback is not None:
            track_closes(book, self.lookback)

    def review(self, request: Request, book: Book) -> Decision:
        """Return the `Decision` for `request`."""
        prices = () if request.order is None else request.order.prices
        if request.again or not (prices or self.lookback):
            return Decision(request.size)
        instrument, of = request.instrument, ""
        reference = instrument.quote()
        if self.lookback is not None:
            closes, name = instrument.lead.last_closes(self.lookback), instrument.name
            if len(closes) < self.lookback:
                known = f"{name} has {len(closes)} of {self.lookback} closes"
                return self._refuse(f"the reference is unknown: {known}", math.nan, math.nan)
            reference, of = median(closes), f", the median of {self.lookback} closes"
            prices = (*prices, request.price)
        units = {"atr": instrument.atr(instrument.stop_rule[0]), "fraction": abs(reference)}
        for name, unit in units.items():
            limit: float = getattr(self, name)
            for price in () if math.isinf(limit) else prices:
                away = abs(price - reference) / unit if unit > 0.0 else math.nan
                if math.isnan(away):
                    reason = f"{name} cannot be judged: {instrument.why_unknown()}"
                    return self._refuse(reason, math.nan, limit)
                if away > limit * (1 + LIMIT_EPS):
                    from_ = f"from {reference:g}{of}"
                    text = f"its price {price:g} is {away:.4f} {_UNITS[name]} {from_}"
                    return self._refuse(f"{text} > {name} {limit:.4f}", away, limit)
        return Decision(request.size)

    def describe(self) -> str:
        """Return the rule in words."""
        limits = [(self.atr, "ATR"), (self.fraction, "of the price")]
        words = [f"{limit:g} {unit}" for limit, unit in limits if not math.isinf(limit or 0.0)]
        of = "the market" if self.lookback is None else f"the median of {self.lookback} closes"
        return f"price collar: no entry at a price more than {' or '.join(words)} from {of}"


_UNITS = {"atr": "ATR", "fraction": "of the price"}


@dataclass(frozen=True)
class OrderSize(Guard):
    """No entry that is larger than one order may be.

    Parameters
    ----------
    units : float, optional
        Units of the instrument: shares, coins, contracts.
    currency : float, optional
        Notional of the order, multiplier included.
    volume_share : float, optional
        Fraction of the volume of the last closed bar. A bar without a volume is unknown: entries
        are refused.
    on_size : {"reject", "trim"}
        Refuse the order whole, because a size far from the usual is a mistake, or cut it.
    """

    units: float | None = None
    currency: float | None = None
    volume_share: float | None = None
    on_size: str = field(default=REJECT, kw_only=True)

    def __post_init__(self) -> None:
        for name in _SIZES:
            self._set(**{name: check_limit(self.name, name, getattr(self, name), remedy=_IN[name])})
        check_choice(self.name, "on_size", self.on_size, (REJECT, TRIM))

    @property
    def active(self) -> bool:
        """Return whether this guard can ever refuse anything."""
        return not all(math.isinf(getattr(self, name)) for name in _SIZES)

    @property
    def by_size(self) -> bool:
        """Return True: a smaller order may pass."""
        return True

    def review(self, request: Request, book: Book) -> Decision:
        """Return the `Decision` for `request`."""
        answer = Decision(request.size)
        if request.again:
            return answer
        volume = math.nan if math.isinf(self.volume_share or 0.0) else request.instrument.volume()
        per_unit = {
            "units": 1.0,
            "currency": request.unit_notional,
            "volume_share": 1.0 / volume if volume > 0.0 else math.nan,
        }
        for name, unit in per_unit.items():
            limit: float = getattr(self, name)
            measured = request.size * unit
            if math.isinf(limit) or measured <= limit * (1 + LIMIT_EPS):
                continue
            if math.isnan(measured):
                return self._refuse(f"{name} cannot be judged: it is unknown", math.nan, limit)
            room = min(limit / unit, request.size) if self.on_size == TRIM else 0.0
            if room < answer.size:
                reason = f"{self.name}: {_number(measured)} {_OF[name]} > {name} {_number(limit)}"
                answer = Decision(room, reason, self.name, measured, limit)
        return answer

    def describe(self) -> str:
        """Return the rule in words."""
        limits = {name: getattr(self, name) for name in _SIZES}
        words = [f"{_number(n)} {_OF[name]}" for name, n in limits.items() if not math.isinf(n)]
        return f"order size: at most {', '.join(words)} in one order"


_SIZES = ("units", "currency", "volume_share")
_IN = {
    "units": "It counts units.",
    "currency": "It is an amount of money.",
    "volume_share": "0.05 is 5 %.",
}
_OF = {"units": "units", "currency": "in currency", "volume_share": "of the volume of a bar"}


def _number(value: float) -> str:
    return f"{value:.4f}" if value < 100 and value != int(value) else f"{value:.0f}"


@dataclass(frozen=True)
class DuplicateOrder(Guard):
    """No entry that repeats, within some bars, an order that was sent.

    An order repeats another one of the same strategy on the same side of the same instrument if
    size, kind and prices are equal. A refused order may be tried again.

    Parameters
    ----------
    within : int, default 1
        Bars of the data feed: 1 is the same bar alone. None or 0 switches the guard off.
    """

    within: int | None = 1

    def __post_init__(self) -> None:
        bars = 0 if self.within is None else self.within
        self._set(within=check_whole(self.name, "within", bars, low=0))

    @property
    def active(self) -> bool:
        """Return whether this guard can ever refuse anything."""
        return bool(self.within)

    @property
    def by_size(self) -> bool:
        """Return True: an order of another size is another order."""
        return True

    def review(self, request: Request, book: Book) -> Decision:
        """Return the `Decision` for `request`."""
        if request.again or request.order is None:
            return Decision(request.size)
        order = identity(request.order)
        lead, within = request.instrument.lead, self.within or 0
        for sent in reversed(book.sent or ()):
            if sent.index != lead.index:
                continue
            ago = lead.length - sent.bar
            if ago >= within:
                break
            if sent.side == request.side and _same(sent.order, order):
                reason = f"the same order was sent {ago} bars ago < within {within}"
                return self._refuse(reason, ago, within)
        return Decision(request.size)

    def describe(self) -> str:
        """Return the rule in words."""
        return f"duplicates: no entry that repeats an order of the last {self.within} bars"


def _same(one: Sequence[Any] | None, other: Sequence[Any]) -> bool:
    """Return whether owner, size, kind and prices of two orders are equal, up to rounding."""
    if one is None or one[0] is not other[0] or one[2] != other[2]:
        return False
    prices = list(zip(one[3], other[3], strict=False))
    close = all(math.isclose(a, b, rel_tol=PRICE_EPS) for a, b in prices)
    return abs(one[1] - other[1]) <= SIZE_EPS and len(one[3]) == len(other[3]) and close


@dataclass(frozen=True)
class RepeatedOrders(Guard):
    """No entry of anybody once a strategy has sent too many entries in a row, as in a loop.

    Entries count on one side of one instrument, whether they fill or not, until the position that
    they make is closed. The last one that is allowed refuses all entries of the account until
    ``bt-risk rearm``, over a restart too.

    Parameters
    ----------
    n : int, default 20
        Entries in a row; None or infinity switches the guard off.
    until : {"rearm"}
        What ends the refusal: an operator.
    """

    n: float = 20
    until: str = "rearm"

    def __post_init__(self) -> None:
        self._set(n=check_count_limit(self.name, "n", self.n))
        check_choice(self.name, "until", self.until, ("rearm",))

    @property
    def active(self) -> bool:
        """Return whether this guard can ever refuse anything."""
        return not math.isinf(self.n)

    def review(self, request: Request, book: Book) -> Decision:
        """Return the `Decision` for `request`."""
        if not request.again:
            key = request.instrument.lead.index, request.side, request.owner
            count = book.repeats[key]
            if count >= self.n:
                return self._refuse(self.reason(count, request.instrument.name), count, self.n)
        return Decision(request.size)

    def reason(self, count: int, name: str) -> str:
        """Return why there is no entry any more."""
        return f"{count} entries of {name} in a row >= n {self.n}"

    def describe(self) -> str:
        """Return the rule in words."""
        return f"repetition: no entry after {self.n} in a row of one strategy, until re-armed"
