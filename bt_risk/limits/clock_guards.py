"""Guard on the number of orders in a bar, a minute or a day."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bt_risk.errors import check_whole
from bt_risk.limits.base import Decision, Request
from bt_risk.limits.trade_guards import ScopedGuard, check_count_limit

if TYPE_CHECKING:
    from bt_risk.portfolio.book import Book
    from bt_risk.portfolio.position import SentOrder

__all__ = ["OrderRateLimit"]

LIMITS = ("bar_limit", "minute_limit", "day_limit")
MINUTE = 1.0 / 1440.0
_TICK = 1e-8  # a millisecond: date numbers are no more exact than that


@dataclass(frozen=True)
class OrderRateLimit(ScopedGuard):
    """No new entry while too many orders were sent, as by a strategy in a loop.

    Every order that was sent counts, exits too, which always pass. A bracket counts once. Refused
    orders and the stops of bt_risk do not count.

    Parameters
    ----------
    bar_limit, minute_limit, day_limit : int, optional
        Orders within one bar, within 60 seconds, and within a day of the data feed, as in
        `DailyLossLimit`; None or infinity is no limit. Times are those of the bars.
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
        day = request.instrument.day.begin(at.time)
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
