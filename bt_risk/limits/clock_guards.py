"""Guards that go by the clock: what a day may lose, and how many orders a bar, a minute, a day."""

import math
from dataclasses import dataclass, field
from itertools import product

from bt_risk.errors import check_limit, check_whole
from bt_risk.limits.base import Decision
from bt_risk.limits.trade_guards import Guard, check_count_limit
from bt_risk.tolerances import RATIO_EPS

__all__ = ["DailyLossLimit", "OrderRateLimit"]

MINUTE = 1.0 / 1440.0
_TICK = 1e-8  # a millisecond: date numbers are no more exact than that


@dataclass(frozen=True)
class DailyLossLimit(Guard):
    """No new entry for the rest of a day on which too much was lost.

    Open losses count: the loss is measured at every close, from the last close of the day before,
    and once it has reached the limit the day is over for entries, whatever comes back. The day is
    the calendar day in the time zone of the data that the order is for. For the account it is the
    fall of the unit value, which deposits do not move; with ``scope="data"`` or `side_aware` it
    is what those positions lost, net of commission, as a fraction of equity.

    Parameters
    ----------
    daily_loss_limit : float, default 0.03
        Fraction of equity at the last close of the day before; reached, it trips. None or
        infinity switches the guard off.
    cooldown_bars : int, default 0
        Bars of any data without an entry from the breach on, where the day ends before that.
    scope : {"all", "data"}
        Whose losses count.
    side_aware : bool, default False
        Whether longs and shorts are measured, and refused, apart.
    """

    daily_loss_limit: float = 0.03
    cooldown_bars: int = 0
    scope: str = field(default="all", kw_only=True)

    def __post_init__(self):
        super().__post_init__()
        limit = check_limit(self.name, "daily_loss_limit", self.daily_loss_limit, fraction=True)
        bars = check_whole(self.name, "cooldown_bars", self.cooldown_bars, low=0)
        self._set(daily_loss_limit=limit, cooldown_bars=bars)

    @property
    def active(self):
        """Whether this guard can ever refuse anything."""
        return not math.isinf(self.daily_loss_limit)

    def review(self, request, book):
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

    def keys(self, instruments):
        """Return the keys of the series of `EquityCurve` that this guard reads."""
        indices = {None} if self.scope == "all" else {one.lead.index for one in instruments}
        return list(product(indices, (1, -1) if self.side_aware else (0,)))

    def _key(self, request):
        index = None if self.scope == "all" else request.instrument.lead.index
        return index, request.side if self.side_aware else 0

    def describe(self):
        """Return the rule in words."""
        longer = f" (at least {self.cooldown_bars} bars)" if self.cooldown_bars else ""
        return (
            f"daily loss: no entry for the rest of a day{longer} that lost "
            f"{100 * self.daily_loss_limit:g} % of equity, open losses included, "
            f"{self._scope_in_words()}"
        )


@dataclass(frozen=True)
class OrderRateLimit(Guard):
    """No new entry while too many orders were sent: what a strategy in a loop runs into.

    Every order that went out counts, exits too (they always pass); a bracket is one, and neither
    the stops of bt_risk count nor what was refused.

    Parameters
    ----------
    bar_limit, minute_limit, day_limit : int, optional
        Orders within one bar, within 60 seconds, and within a calendar day in the time zone of
        the data; None or infinity is no limit. Time is that of the bars.
    cooldown_bars : int, default 0
        Bars without an entry from the order on that has used up a limit.
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

    def __post_init__(self):
        super().__post_init__()
        for limit in ("bar_limit", "minute_limit", "day_limit"):
            self._set(**{limit: check_count_limit(self.name, limit, getattr(self, limit))})
        bars = check_whole(self.name, "cooldown_bars", self.cooldown_bars, low=0)
        self._set(cooldown_bars=bars)

    @property
    def active(self):
        """Whether this guard can ever refuse anything."""
        return not math.isinf(min(self.bar_limit, self.minute_limit, self.day_limit))

    def review(self, request, book):
        """Return the `Decision` for `request`."""
        if request.again:
            return Decision(request.size)
        sent, now = book.sent, book.now(request.instrument, request.side)
        refusal = self._used_up(request, sent, len(sent), now)
        for end in range(len(sent), 0, -1):
            order = sent[end - 1]
            if not self._concerns(order, request):
                continue
            if refusal or self._bar(now) - self._bar(order) >= self.cooldown_bars:
                break
            refusal = self._used_up(request, sent, end, order)
        return refusal or Decision(request.size)

    def _used_up(self, request, sent, end, at):
        """Return the refusal if a limit was used up at that time by the first `end` orders."""
        day = request.instrument.day_begin(at.time)
        inside = {
            "bar_limit": lambda order: self._bar(order) == self._bar(at),
            "minute_limit": lambda order: at.time - order.time < MINUTE - _TICK,
            "day_limit": lambda order: order.time >= day,
        }
        for name, within in inside.items():
            limit = getattr(self, name)
            count = 0 if math.isinf(limit) else self._count(request, sent, end, within, limit)
            if count >= limit:
                word = name.partition("_")[0]
                return self._refuse(f"{count} orders in one {word} >= {name} {limit}", count, limit)
        return None

    def _count(self, request, sent, end, within, enough):
        count = 0
        for place in range(end - 1, -1, -1):
            if self._concerns(sent[place], request):
                if count >= enough or not within(sent[place]):
                    break
                count += 1
        return count

    def describe(self):
        """Return the rule in words."""
        limits = {"bar": self.bar_limit, "minute": self.minute_limit, "day": self.day_limit}
        words = [f"{n} a {name}" for name, n in limits.items() if not math.isinf(n)]
        return f"orders: at most {', '.join(words) or 'no limit'} {self._scope_in_words()}"
