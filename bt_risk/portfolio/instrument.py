"""Instruments: the closed bars, ATRs, position and working orders of one data feed."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from statistics import median
from typing import TYPE_CHECKING, Any

from bt_risk.errors import ParameterError
from bt_risk.portfolio.bar_check import BAR_JUMP, suspicion
from bt_risk.portfolio.contract_facts import tick_of
from bt_risk.portfolio.feed_day import feed_day
from bt_risk.portfolio.point_value import is_linear, least_share, point_value
from bt_risk.portfolio.signals import instrument_feeds, is_signal
from bt_risk.rules.gaps import GapWindow
from bt_risk.rules.return_model import STALE_BARS
from bt_risk.rules.trading_day import TradingDay
from bt_risk.rules.trailing_stop import WilderATR

if TYPE_CHECKING:
    from bt_risk.portfolio.position import OwnerPosition, WorkingOrder

__all__ = ["ATR_MEDIAN_BARS", "STALE_BARS", "Instrument", "instruments_of"]

ATR_MEDIAN_BARS = 100

# Attributes that the state file saves, beside the ATRs.
_SAVED = ("price", "closed", "top", "bottom", "time", "longest_gap", "multiplier")


def instruments_of(
    component: str, datas: Iterable[Any], facts: Mapping[str, dict[str, float]]
) -> list[Instrument]:
    """Return an `Instrument` for each data feed with prices, with the facts of its name."""
    named = [(getattr(data, "_name", "") or f"data{i}", data) for i, data in enumerate(datas)]
    datas = instrument_feeds([data for _, data in named])
    names = [name for name, data in named if not is_signal(data)]
    for name in facts:
        if name not in names:
            listed = f"named after a data feed of this Cerebro ({', '.join(names)})"
            raise ParameterError(component, "instruments", listed, name)
    roots = [data.data if data._clone else data for data in datas]
    return [
        Instrument(data, i, names[i], roots[i], facts.get(names[i], {}))
        for i, data in enumerate(datas)
    ]


class _Priceless:
    """Stand in for the prices of a data feed without any, so that its bars are still counted."""

    def __init__(self, times: Any) -> None:
        self.close = self.high = self.low = times


class RecentATR:
    """A Wilder ATR with its last values, whose median is the floor of a sizer's ATR."""

    __slots__ = ("count", "recent", "wilder")

    def __init__(self, period: int) -> None:
        self.wilder = WilderATR(period)
        self.recent: list[float] = []
        self.count = 0

    def update(self, high: float, low: float, close: float) -> None:
        """Process a closed bar."""
        value = self.wilder.update(high, low, close)
        if value != value:
            return
        if self.count < ATR_MEDIAN_BARS:
            self.recent.append(value)
        else:
            self.recent[self.count % ATR_MEDIAN_BARS] = value
        self.count += 1

    def floored(self, atr_floor: float) -> float:
        """Return the ATR, or `atr_floor` times its median where that is more; NaN without one."""
        if not self.recent:
            return math.nan
        value: float = self.wilder.value
        return max(value, atr_floor * median(self.recent))

    def persist(self) -> dict[str, Any]:
        """Return its state as plain values."""
        return {"wilder": self.wilder.persist(), "recent": self.recent, "count": self.count}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self.wilder.restore(saved["wilder"])
        self.recent, self.count = list(saved["recent"]), saved["count"]


class Instrument:
    """One data feed: its closed bars, its ATRs, its position and its working orders.

    Attributes
    ----------
    data : data feed
        Backtrader's, or any object with the line buffers ``close``, ``high``, ``low``,
        ``datetime``.
    index : int
        Place among Cerebro's data feeds.
    name : str
        Name of the data feed.
    length : int
        Bars that have closed and been processed.
    price, closed, time : float
        Last valid close, close of the last bar (may be NaN), time of the last bar (a Backtrader
        date number); NaN before the first.
    top, bottom : float
        High and low of the last bar with a valid close.
    round, longest_gap : int, float
        Round of the book in which the last bar came, and the longest time between two bars in
        days.
    shortest_gap : float
        Length of a bar in days: that of the data feed's time frame, or the shortest time between
        two bars where a guard on time follows it.
    scheme : object
        Commission scheme that `multiplier` was measured from, None where it depends on the price.
    charges : object or None
        Commission scheme that was measured last: its ``getcommission`` states the commission.
    multiplier : float
        Currency of the account that a move of the price by 1 earns per unit.
    least_share : float
        The share of `multiplier` that counts where a position offsets another: 1.0, or less where
        a point is worth less on a rise of the price than on a fall.
    rate : callable or None
        Takes the instrument, returns what its currency is worth in that of the account.
    exchange, unconverted : float, str
        The rate that `multiplier` was measured with, and why there is none.
    known_until, repeats : float, bool
        Time of the last bar that the restored state knows (minus infinity without one), and
        whether no later bar has come yet.
    size, held : float, bool
        Net position of all owners, negative for short, and whether any owner holds something.
    parts : list of OwnerPosition
        What each owner holds.
    orders : dict of int to WorkingOrder
        Working orders by ref.
    root : object
        The data feed itself, or the one that it is a resampled or replayed copy of.
    copies : tuple of Instrument
        All instruments with that root, this one included.
    facts : dict
        ``step``, ``min_notional``, ``tick``, ``atr_multiple``, ``risk_limit``, ``currency``,
        ``negative_prices`` where the user gave them.
    bar_jump : float
        ATRs by which a close may differ from the one before; a larger move waits for the next bar.
    suspect, suspect_bars : str, int
        Why the newest bar is not believed yet, empty where it is, and how many in a row are not.
    priced : bool
        Whether the data feed has lines of prices.
    bar_length : tuple of (int, int)
        Time frame and compression of the data feed, to compare it with others.
    gaps : GapWindow or None
        Gaps between its bars, where a limit needs them; the first of its copies has them.
    kept, kept_since : deque of float or None, int
        Last closes that count, where a limit needs them, and bars before the first of them.
    stop_rule : tuple of (int, float)
        Period of the ATR, and its multiple that is the stop distance without a stop order.
    """

    # Whether the bars to come are known to the feed, so that they are read when somebody asks.
    loaded = False

    def __init__(
        self,
        data: Any,
        index: int = 0,
        name: str | None = None,
        root: Any = None,
        facts: dict[str, Any] | None = None,
    ) -> None:
        self.data = data
        self.index = index
        self.name = name or f"data{index}"
        self.root = data if root is None else root
        self.facts = facts or {}
        self._find_lines(data)
        self.length = self.round = 0
        self.longest_gap, self.shortest_gap = 0.0, _length_of(data)
        self.known_until, self.repeats = -math.inf, False
        self.forming = int(getattr(data, "replaying", False))
        self.price = self.closed = self.top = self.bottom = self.time = math.nan
        self.multiplier, self.scheme, self.charges = 1.0, None, None
        self.least_share = 1.0
        self.rate: Callable[[Instrument], float] | None = None
        self.exchange, self.unconverted = 1.0, ""
        self.negative_prices = bool(self.facts.get("negative_prices", False))
        self.tick = float(self.facts.get("tick", 0.0))
        self.bar_jump = BAR_JUMP
        self.suspect, self.suspect_bars = "", 0
        self._held_back: tuple[float, float, float] | None = None
        self._jump = math.inf
        self.bar_length = getattr(data, "_timeframe", 0), getattr(data, "_compression", 1)
        self.size, self.held = 0.0, False
        self.copies: tuple[Instrument, ...] = (self,)
        self.parts: list[OwnerPosition] = []
        self.orders: dict[int, WorkingOrder] = {}
        self.stop_rule = (14, 2.0)
        self.gaps: GapWindow | None = None
        self.kept: deque[float] | None = None
        self.kept_since = 0
        self._atrs: dict[int, RecentATR] = {}
        self._updates: tuple[Callable[[float, float, float], None], ...] = ()

    def _find_lines(self, data: Any) -> None:
        """Bind the lines of the data feed; one of bids and asks alone has no prices here."""
        self.datetime = data.datetime
        self.priced = all(hasattr(data, name) for name in ("close", "high", "low"))
        prices = data if self.priced else _Priceless(data.datetime)
        self.close: Any = prices.close
        self.high: Any = prices.high
        self.low: Any = prices.low
        self.open: Any = getattr(prices, "open", None)

    def measure(self, scheme: Any) -> float:
        """Return what a point is worth under a commission scheme, and keep it as `multiplier`.

        A scheme that multiplies is measured once, and kept as `scheme`; one that converts by the
        price is measured each time.
        """
        self.charges = scheme
        # What is held on margin, a future or a spread, may cost less than nothing.
        on_margin = not getattr(scheme, "stocklike", True)
        # A live data feed may know its contract only once it has started.
        self.tick = self.tick or tick_of(self.data)
        self.negative_prices = bool(self.facts.get("negative_prices", on_margin))
        self.multiplier = point_value(scheme, self.price, self.stop_distance())
        self.scheme = scheme if is_linear(scheme) else None
        self.least_share = 1.0
        if self.scheme is None:
            self.least_share = least_share(scheme, self.price, self.stop_distance())
        if self.rate is not None and self.scheme is not None:  # no other scheme has converted it
            self.exchange = self.rate(self)
            if self.exchange != 1.0:
                self.multiplier, self.scheme = self.multiplier * self.exchange, None
        return self.multiplier

    @property
    def value(self) -> float:
        """Value of one unit in currency, at the last valid close."""
        return self.price * self.multiplier

    @property
    def lead(self) -> Instrument:
        """The first of the copies of one instrument: it has the most bars."""
        return self.copies[0]

    @cached_property
    def day(self) -> TradingDay:
        """The trading days of the data feed, which is asked once it has started."""
        return feed_day(self.data)

    def track_atr(self, atr_period: int) -> None:
        """Compute the ATR of this period from the next bar on."""
        if atr_period not in self._atrs:
            self.compute(self._atrs | {atr_period: RecentATR(atr_period)})

    def compute(self, atrs: dict[int, Any]) -> None:
        """Compute these ATRs, by period; the first decides which moves are believed."""
        self._atrs = atrs
        self._first = next(iter(atrs.values()))
        self._updates = tuple(atr.update for atr in atrs.values())

    @property
    def atr_periods(self) -> tuple[int, ...]:
        """Periods of the ATRs that are computed."""
        return tuple(self._atrs)

    @property
    def jump(self) -> float:
        """Return how far the next close may be from the last one and be believed at once."""
        return self._jump

    def advance(self, number: int = 0) -> None:
        """Process the bar that has just closed, in round `number` of the book.

        A bar without a valid close counts, but changes no price and no ATR.
        """
        # The buffers are read directly, and what `_believe` does stands here once more:
        # Backtrader's accessors cost two calls for each value, a method of ours one, and this runs
        # for every data feed on every bar. `_idx` differs between lines with exactbars.
        close, ago = self.close, self.forming
        self.length = length = close.lencount
        if length <= ago:
            return
        time = self.datetime.array[self.datetime._idx - ago]
        if self.repeats:
            if time <= self.known_until:
                return
            self._go_on(time)
        self.closed = price = float(close.array[close._idx - ago]) if self.priced else math.nan
        if price == price:
            high, low, first = self.high, self.low, self.open
            top = float(high.array[high._idx - ago])
            bottom = float(low.array[low._idx - ago])
            opened = price if first is None else first.array[first._idx - ago]
            if (
                bottom <= price <= top
                and bottom <= opened <= top
                and -self._jump <= price - self.price <= self._jump
                and (price > 0.0 or self.negative_prices)
            ):
                self.price, self.top, self.bottom = price, top, bottom
                for update in self._updates:
                    update(top, bottom, price)
                atr = self._first.wilder.value
                if atr == atr:
                    self._jump = self.bar_jump * atr
                if self.suspect:
                    self.suspect, self.suspect_bars, self._held_back = "", 0, None
            else:
                self._question(opened, top, bottom, price)
        gap = time - self.time
        if gap > self.longest_gap:
            self.longest_gap = gap
        if 0.0 < gap < self.shortest_gap:
            self.shortest_gap = gap
        self.time, self.round = time, number

    def _believe(self, top: float, bottom: float, price: float) -> None:
        """Process a bar that `advance` could not accept at once."""
        self.closed = price
        self.price, self.top, self.bottom = price, top, bottom
        for update in self._updates:
            update(top, bottom, price)
        self.expect_moves()
        if self.suspect:
            self.suspect, self.suspect_bars, self._held_back = "", 0, None

    def expect_moves(self) -> None:
        """Expect the next close within `bar_jump` ATRs of the last one, once the ATR is known."""
        atr = self._first.wilder.value
        if atr == atr:
            self._jump = self.bar_jump * atr

    def _question(self, opened: float, top: float, bottom: float, price: float) -> None:
        """Believe a bar that only looks odd, or one that agrees with an odd one before it."""
        prices = opened, top, bottom, price
        if not self._doubt(prices, self.price):
            self._believe(top, bottom, price)
            return
        held = self._held_back
        if held is not None and not self._doubt(prices, held[2]):
            self._believe(*held)
            self._believe(top, bottom, price)
            return
        self.suspect = f"{self.name}: {self._doubt(prices, self.price)}"
        self.suspect_bars += 1
        # A jump may be true, and the next bar says so; prices that contradict each other never are.
        possible = not self._doubt(prices, price)
        self._held_back = (top, bottom, price) if possible else None
        self.closed = math.nan

    def _doubt(self, prices: tuple[float, float, float, float], before: float) -> str:
        atr = self._first.wilder.value
        return suspicion(prices, before, atr, self.tick, self.bar_jump, self.negative_prices)

    # -- across a restart ------------------------------------------------------------------------

    def persist(self) -> dict[str, Any]:
        """Return the state of this data feed as plain values."""
        numbers = {name: getattr(self, name) for name in _SAVED}
        if self.gaps is not None:
            numbers["gaps"] = self.gaps.persist()
        if self.kept is not None:
            numbers["kept"] = list(self.kept)
        return numbers | {"atrs": {str(k): atr.persist() for k, atr in self._atrs.items()}}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Continue from a saved state; bars up to its time are not processed again."""
        for name in _SAVED:
            setattr(self, name, saved[name])
        for atr_period, atr in self._atrs.items():
            if str(atr_period) in saved["atrs"]:
                atr.restore(saved["atrs"][str(atr_period)])
        if self.gaps is not None and "gaps" in saved:
            self.gaps.restore(saved["gaps"])
        if self.kept is not None:
            self.kept.extend(saved.get("kept", ()))
        self._jump = self.bar_jump * self._first.wilder.value  # for the first bar of this run
        if self.time == self.time:
            self.known_until, self.repeats = self.time, True

    def _go_on(self, time: float) -> None:
        """Process bars from this one on; reset the ATRs after a gap that no old bar fills."""
        if time - self.known_until > 2.0 * self.longest_gap > 0.0:
            self.compute({atr_period: RecentATR(atr_period) for atr_period in self._atrs})
            if self.gaps is not None:
                self.gaps.skip()
        self.known_until, self.repeats = -math.inf, False

    @property
    def complete(self) -> int:
        """Bars that have closed: a replayed feed is forming its last one."""
        return self.length - self.forming

    def moment(self) -> tuple[int, float]:
        """Return the present for `after`: number of closed bars, and time of the newest tick."""
        return self.complete, self.data.datetime[0] if self.forming else -math.inf

    def after(self, moment: tuple[int, float]) -> bool:
        """Return whether there is a bar, or a tick of the bar that forms, later than `moment`."""
        closed, tick = moment
        if self.close.lencount <= closed:
            return False
        return not self.forming or self.data.datetime[0] > tick

    def quote(self) -> float:
        """Return the newest price that an order placed now can know of.

        It is the last close, but in cheat-on-open the open of the bar that has come, and on a
        replayed feed where the forming bar is.
        """
        if self.forming and self.length:
            return float(self.close[0])
        if self.close.lencount > self.length and self.open is not None:
            return float(self.open[0])
        return self.price

    def keep_closes(self, count: int) -> None:
        """Keep so many closes from now on; the largest number counts."""
        if self.kept is None:
            self.kept, self.kept_since = deque(maxlen=count), self.length
        elif count > (self.kept.maxlen or 0):
            self.kept = deque(self.kept, maxlen=count)

    def last_closes(self, count: int) -> list[float]:
        """Return so many of the last closes that count, oldest first; fewer where fewer are kept.

        Those of bars that are not believed, and of bars without a close, are left out.
        """
        return list(self.kept or ())[-count:]

    def volume(self) -> float:
        """Return the volume of the last closed bar, NaN where the data feed has none."""
        try:
            return float(self.data.volume[self.complete - self.close.lencount])
        except (AttributeError, IndexError):
            return math.nan

    def atr(self, atr_period: int) -> float:
        """Return the ATR of the last closed bar, NaN while it has too little history."""
        value: float = self._atrs[atr_period].wilder.value
        return value

    def floored_atr(self, atr_period: int, atr_floor: float) -> float:
        """Return the ATR, or `atr_floor` times its 100-bar median where that is more.

        Sizes shrink with it when a calm market would let them grow; stops do not move.
        """
        return self._atrs[atr_period].floored(atr_floor)

    def stop_distance(self) -> float:
        """Return the price distance of a stop that is not placed yet: a multiple of the ATR.

        It is NaN while the ATR is unknown or 0: a price that does not move says nothing of risk.
        """
        atr_period, atr_multiple = self.stop_rule
        distance: float = self.facts.get("atr_multiple", atr_multiple) * self.atr(atr_period)
        return distance if distance > 0.0 else math.nan

    def stop_price(self, price: float, side: int) -> float:
        """Return where the stop of a long (+1) or short (-1) position can rest, in whole ticks.

        It is nearer to the market by less than a tick: no more is at risk than was planned.
        """
        tick = self.tick
        if not tick or math.isnan(price):
            return price
        ticks = round(price / tick, 6)  # 0.3 is three ticks of 0.1, and 0.3 / 0.1 is not three
        return round((math.ceil(ticks) if side > 0 else math.floor(ticks)) * tick, 10)

    def why_unknown(self) -> str:
        """Return why an order on this instrument cannot be judged."""
        if self.unconverted:
            return self.unconverted
        if self.repeats:
            return f"{self.name} repeats bars from before the restart"
        if not self.length:
            return f"{self.name} has no bar yet"
        if not self.priced:
            return f"{self.name} has no open, high, low and close"
        if self.suspect:
            below = not self.negative_prices and float(self.close[0]) <= 0.0
            hint = "; declare negative_prices=True if that is a price" if below else ""
            return f"the last bar of {self.suspect}{hint}"
        atr_period, _ = self.stop_rule
        if math.isnan(self.atr(atr_period)):
            return f"ATR({atr_period}) needs {atr_period + 1} bars, {self.name} has {self.length}"
        if self.atr(atr_period) == 0.0:
            return f"ATR({atr_period}) of {self.name} is 0: its price does not move"
        return f"{self.name} has no valid price"


def _length_of(data: Any) -> float:
    """Return the length of the bars of a data feed in days by its time frame.

    A time frame of days and longer is a default that says nothing of the bars: infinity.
    """
    frame, count = getattr(data, "_timeframe", None), getattr(data, "_compression", 1)
    lengths = {4: 1440.0, 3: 86_400.0, 2: 86_400e6, 1: math.inf}  # minutes, seconds, microseconds
    return count / lengths[frame] if frame in lengths else math.inf
