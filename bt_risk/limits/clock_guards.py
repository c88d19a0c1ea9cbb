"""Guards on time: the loss of a day, and the number of orders in a bar, a minute or a day."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING

from bt_risk.errors import check_extreme, check_flag, check_limit, check_whole
from bt_risk.limits.base import Decision, Request
from bt_risk.limits.trade_guards import ScopedGuard, check_count_limit
from bt_risk.tolerances import RATIO_EPS

if TYPE_CHECKING:
    from bt_risk.portfolio.book import Book
    from bt_risk.portfolio.equity_curve import Key
    from bt_risk.portfolio.instrument import Instrument
    from bt_risk.portfolio.position import SentOrder

__all__ = ["DailyLossLimit", "OrderRateLimit"]

LIMITS = ("bar_limit", "minute_limit", "day_limit")
MINUTE = 1.0 / 1440.0
_TICK = 1e-8  # a millisecond: date numbers are no more exact than that


@dataclass(frozen=True)
class DailyLossLimit(ScopedGuard):
    """No new entry for the rest of a day on which the loss has reached a limit.

    Open losses count: the loss is measured at every close, from the last close of the day before.
    Once it has reached the limit there is no entry for the rest of the day, even if the account
    recovers. The day is the calendar day in the time zone of the order's data feed. The loss of
    the account is the fall of the unit value, which deposits do not move; with ``scope="data"`` or
    `side_aware` it is the loss of those positions, net of commission, as a fraction of equity.

    Parameters
    ----------
    daily_loss_limit : float, default 0.03
        Fraction of equity at the last close of the day before; a loss of exactly the limit trips
        the guard. None or infinity switches it off.
    cooldown_bars : int, default 0
        Bars of any data feed without an entry from the breach on, if the day ends sooner.
    scope : {"all", "data"}
        Whose losses count.
    side_aware : bool, default False
        Whether longs and shorts are measured, and refused, apart.
    allow_extreme : bool, default False
        Take a limit of 0.5 and more, which is percent by mistake otherwise.
    """

    daily_loss_limit: float = 0.03
    cooldown_bars: int = 0
    scope: str = field(default="all", kw_only=True)
    allow_extreme: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        allowed = check_flag(self.name, "allow_extreme", self.allow_extreme)
        limit = check_limit(self.name, "daily_loss_limit", self.daily_loss_limit, fraction=True)
        check_extreme(self.name, "daily_loss_limit", limit, allowed)
        bars = check_whole(self.name, "cooldown_bars", self.cooldown_bars, low=0)
        self._set(daily_loss_limit=limit, cooldown_bars=bars)

    @property
    def active(self) -> bool:
        """Return whether this guard can ever refuse anything."""
        return not math.isinf(self.daily_loss_limit)

    def review(self, request: Request, book: Book) -> Decision:
        """Return the `Decision` for `request`."""
        curve, end, today = book.curve, len(book.curve.times), True
        since = end - self.cooldown_bars  # of the days before today, only the closes from here on
        while end > 0 and (today or end > since):
            begin = curve.day_begin(end - 1, request.instrument)
            first = begin if today else max(begin, since)
            loss = curve.loss(self._key(request), begin, first, end)
            if loss >= self.daily_loss_limit - RATIO_EPS:
                limit = self.daily_loss_limit
                reason = f"{loss:.4f} of equity lost in a day >= daily_loss_limit {limit:.4f}"
                return self._refuse(reason, loss, limit)
            end, today = begin, False
        return Decision(request.size)

    def keys(self, instruments: Iterable[Instrument]) -> list[Key]:
        """Return the keys of the series of `EquityCurve` that this guard reads."""
        indices: set[int | None] = (
            {None} if self.scope == "all" else {one.lead.index for one in instruments}
        )
        return list(product(indices, (1, -1) if self.side_aware else (0,)))

    def _key(self, request: Request) -> Key:
        index = None if self.scope == "all" else request.instrument.lead.index
        return index, request.side if self.side_aware else 0

    def describe(self) -> str:
        """Return the rule in words."""
        longer = f" (at least {self.cooldown_bars} bars)" if self.cooldown_bars else ""
        return (
            f"daily loss: no entry for the rest of a day{longer} that lost "
            f"{100 * self.daily_loss_limit:g} % of equity, open losses included, "
            f"{self._scope_in_words()}"
        )


@dataclass(frozen=True)
class OrderRateLimit(ScopedGuard):
    """No new entry while too many orders were sent, as by a strategy in a loop.

    Every order that was sent counts, exits too, which always pass. A bracket counts once. Refused
    orders and the stops of bt_risk do not count.

    Parameters
    ----------
    bar_limit, minute_limit, day_limit : int, optional
        Orders within one bar, within 60 seconds, and within a calendar day in the time zone of
        the data feed; None or infinity is no limit. Times are those of the bars.
    cooldown_bars : int, default 0
        Bars without an entry, from the order that used up a limit.
    scope : {"all", "data"}
        Whose orders count.
    side_aware : bool, default False
        Whether buys and sells are counted, and refused, apart.
    """

    bar_limit: float | None = None
    minute_limit: float | None = None
    day_limit: float | None = None
    cooldown_bars: int = 0
    scope: str = field(default="all", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        for limit in LIMITS:
            self._set(**{limit: check_count_limit(self.name, limit, getattr(self, limit))})
        bars = check_whole(self.name, "cooldown_bars", self.cooldown_bars, low=0)
        self._set(cooldown_bars=bars)

    @property
    def active(self) -> bool:
        """Return whether this guard can ever refuse anything."""
        return not all(math.isinf(getattr(self, limit)) for limit in LIMITS)

    def review(self, request: Request, book: Book) -> Decision:
        """Return the `Decision` for `request`."""
        if request.again:
            return Decision(request.size)
        sent, now = book.sent or [], book.now(request.instrument, request.side)
        refusal = self._used_up(request, sent, len(sent), now)
        for end in range(len(sent), 0, -1):
            order = sent[end - 1]
            if not self._concerns(order, request):
                continue
            if refusal or self._bar(now) - self._bar(order) >= self.cooldown_bars:
                break
            refusal = self._used_up(request, sent, end, order)
        return refusal or Decision(request.size)

    def _used_up(
        self, request: Request, sent: Sequence[SentOrder], end: int, at: SentOrder
    ) -> Decision | None:
        """Return the refusal if the first `end` orders have used up a limit at that time."""
        day = request.instrument.day_begin(at.time)
        inside: dict[str, Callable[[SentOrder], bool]] = {
            "bar_limit": lambda order: self._bar(order) == self._bar(at),
            "minute_limit": lambda order: at.time - order.time < MINUTE - _TICK,
            "day_limit": lambda order: order.time >= day,
        }
        for name, within in inside.items():
            limit: float = getattr(self, name)
            count = 0 if math.isinf(limit) else self._count(request, sent, end, within, limit)
            if count >= limit:
                word = name.partition("_")[0]
                return self._refuse(f"{count} orders in one {word} >= {name} {limit}", count, limit)
        return None

    def _count(
        self,
        request: Request,
        sent: Sequence[SentOrder],
        end: int,
        within: Callable[[SentOrder], bool],
        enough: float,
    ) -> int:
        """Return how many of the first `end` orders lie within the time, at most `enough`."""
        count = 0
        for place in range(end - 1, -1, -1):
            if self._concerns(sent[place], request):
                if count >= enough or not within(sent[place]):
                    break
                count += 1
        return count

    def describe(self) -> str:
        """Return the rule in words."""
        limits = {limit.partition("_")[0]: getattr(self, limit) for limit in LIMITS}
        words = [f"{n} a {name}" for name, n in limits.items() if not math.isinf(n)]
        return f"orders: at most {', '.join(words) or 'no limit'} {self._scope_in_words()}"
