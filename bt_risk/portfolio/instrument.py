"""One data feed as the gate sees it: what has closed, how far its stop is, what is held of it."""

import math
from datetime import datetime
from statistics import median

from bt_risk.errors import ParameterError, check_fraction, check_positive
from bt_risk.rules.trailing_stop import WilderATR

__all__ = ["STALE_BARS", "Instrument", "check_instruments", "instruments_of"]

ATR_MEDIAN_BARS = 100
STALE_BARS = 5

# What an instrument keeps across a restart, beside its ATRs.
_KEPT = ("price", "closed", "top", "bottom", "time", "longest_gap", "multiplier")

_FACTS = {
    "step": lambda c, p, v: check_positive(c, p, v),
    "min_notional": lambda c, p, v: check_positive(c, p, v, zero=True),
    "tick": lambda c, p, v: check_positive(c, p, v),
    "atr_multiple": lambda c, p, v: check_positive(c, p, v),
    "risk_limit": lambda c, p, v: check_fraction(c, p, v),
}


def check_instruments(component, instruments):
    """Return a copy of ``{name: {fact: value}}``, every fact checked; None is no facts."""
    checked = {}
    facts_of = {} if instruments is None else instruments
    if not isinstance(facts_of, dict) or not all(isinstance(f, dict) for f in facts_of.values()):
        raise ParameterError(component, "instruments", "a dict of dicts by data name", instruments)
    for name, facts in facts_of.items():
        for fact, value in facts.items():
            if fact not in _FACTS:
                raise ParameterError(
                    component,
                    f"instruments[{name!r}]",
                    f"facts named {', '.join(_FACTS)}",
                    fact,
                )
            _FACTS[fact](component, f"instruments[{name!r}][{fact!r}]", value)
        checked[name] = dict(facts)
    return checked


def instruments_of(component, datas, facts):
    """Return an `Instrument` for each data of a Cerebro, with the facts of its name."""
    names = [getattr(data, "_name", "") or f"data{i}" for i, data in enumerate(datas)]
    for name in facts:
        if name not in names:
            listed = f"named after a data of this Cerebro ({', '.join(names)})"
            raise ParameterError(component, "instruments", listed, name)
    roots = [data.data if data._clone else data for data in datas]
    return [
        Instrument(data, i, names[i], roots[i], facts.get(names[i], {}))
        for i, data in enumerate(datas)
    ]


class _ATR:
    """A Wilder ATR with its last values, for the median that the sizer's floor needs."""

    __slots__ = ("count", "recent", "wilder")

    def __init__(self, period):
        self.wilder = WilderATR(period)
        self.recent = []
        self.count = 0

    def update(self, high, low, close):
        value = self.wilder.update(high, low, close)
        if value != value:
            return
        if self.count < ATR_MEDIAN_BARS:
            self.recent.append(value)
        else:
            self.recent[self.count % ATR_MEDIAN_BARS] = value
        self.count += 1

    def persist(self):
        return {"wilder": self.wilder.persist(), "recent": self.recent, "count": self.count}

    def restore(self, kept):
        self.wilder.restore(kept["wilder"])
        self.recent, self.count = list(kept["recent"]), kept["count"]


class Instrument:
    """What has closed on one data feed, and what is held and working there.

    Attributes
    ----------
    index : int
        Place among Cerebro's datas.
    length : int
        Bars that have closed and been taken in.
    price, closed, time : float
        Last valid close, close of the last bar (may be NaN), time of the last bar (a Backtrader
        date number); NaN before the first.
    top, bottom : float
        High and low of the last bar with a valid close.
    round, longest_gap : int, float
        When the last bar came, in rounds of the book, and the longest time between two bars.
    known_until, repeats : float, bool
        Time of the last bar that the restored state knows (minus infinity without one), and
        whether no later bar has come yet.
    size : float
        Net position of all owners, negative for short.
    root : object
        The feed itself, or the one that it is a resampled copy of.
    copies : tuple of Instrument
        All instruments with that root, this one included.
    facts : dict
        ``step``, ``min_notional``, ``tick``, ``atr_multiple``, ``risk_limit`` where the user gave
        them.
    """

    def __init__(self, data, index=0, name=None, root=None, facts=None):
        self.data = data
        self.index = index
        self.name = name or f"data{index}"
        self.root = data if root is None else root
        self.facts = facts or {}
        self.close, self.high, self.low = data.close, data.high, data.low
        self.datetime = data.datetime
        self.length = self.round = 0
        self.longest_gap = 0.0
        self.known_until, self.repeats = -math.inf, False
        self.forming = int(getattr(data, "replaying", False))
        self.price = self.closed = self.top = self.bottom = self.time = math.nan
        self.multiplier = 1.0
        self.size = 0.0
        self.copies = (self,)
        self.parts = []
        self.orders = {}
        self.stop_rule = (14, 2.0)
        self._atrs = {}
        self._updates = ()

    @property
    def value(self):
        """Currency held per unit."""
        return self.price * self.multiplier

    @property
    def lead(self):
        """The first of the copies of one instrument: it has the most bars."""
        return self.copies[0]

    def day_begin(self, time):
        """Return when the calendar day of `time` began in the data's time zone, as date numbers."""
        day = self.data.num2date(time).date()
        return self.data.date2num(datetime.combine(day, datetime.min.time()))

    def track_atr(self, atr_period):
        """Compute the ATR of this period from the next bar on."""
        if atr_period not in self._atrs:
            self._atrs[atr_period] = _ATR(atr_period)
            self._updates = tuple(atr.update for atr in self._atrs.values())

    def advance(self, number=0):
        """Take in the bar that has just closed, in round `number` of the book.

        A bar with a NaN in it counts but says nothing.
        """
        # The buffers are read directly: the public way costs two calls for each value, and this
        # runs for every data on every bar. `_idx` differs from line to line with exactbars.
        close, ago = self.close, self.forming
        self.length = length = close.lencount
        if length <= ago:
            return
        time = self.datetime.array[self.datetime._idx - ago]
        if self.repeats:
            if time <= self.known_until:
                return
            self._go_on(time)
        self.closed = price = float(close.array[close._idx - ago])
        if price == price and price > 0:
            self.price = price
            high, low = self.high, self.low
            self.top = top = float(high.array[high._idx - ago])
            self.bottom = bottom = float(low.array[low._idx - ago])
            for update in self._updates:
                update(top, bottom, price)
        if time - self.time > self.longest_gap:
            self.longest_gap = time - self.time
        self.time, self.round = time, number

    # -- across a restart ------------------------------------------------------------------------

    def persist(self):
        """Return what the next run needs to go on with this feed, as plain values."""
        numbers = {name: getattr(self, name) for name in _KEPT}
        return numbers | {"atrs": {str(k): atr.persist() for k, atr in self._atrs.items()}}

    def restore(self, kept):
        """Begin where an earlier run stood; bars up to there are not taken in again."""
        for name in _KEPT:
            setattr(self, name, kept[name])
        for atr_period, atr in self._atrs.items():
            if str(atr_period) in kept["atrs"]:
                atr.restore(kept["atrs"][str(atr_period)])
        if self.time == self.time:
            self.known_until, self.repeats = self.time, True

    def _go_on(self, time):
        """Begin with the first new bar; after a gap that no back-filled bar fills, anew."""
        if time - self.known_until > 2.0 * self.longest_gap > 0.0:
            for atr_period in self._atrs:
                self._atrs[atr_period] = _ATR(atr_period)
            self._updates = tuple(atr.update for atr in self._atrs.values())
        self.known_until, self.repeats = -math.inf, False

    @property
    def complete(self):
        """Bars that have closed: a replayed feed is forming its last one."""
        return self.length - self.forming

    def moment(self):
        """Return what `after` compares with: bars that have closed, and the newest tick."""
        return self.complete, self.data.datetime[0] if self.forming else -math.inf

    def after(self, moment):
        """Whether this feed has a bar, or a tick of the bar that it forms, later than `moment`."""
        closed, tick = moment
        if self.close.lencount <= closed:
            return False
        return not self.forming or self.data.datetime[0] > tick

    def quote(self):
        """Return the newest price that an order placed now can know of.

        It is the last close, but in cheat-on-open the open of the bar that has come, and on a
        replayed feed where the forming bar is.
        """
        if self.forming and self.length:
            return float(self.data.close[0])
        if self.close.lencount > self.length:
            return float(self.data.open[0])
        return self.price

    def atr(self, atr_period):
        """Return the ATR of the last closed bar, NaN while it has too little history."""
        return self._atrs[atr_period].wilder.value

    def floored_atr(self, atr_period, atr_floor):
        """Return the ATR, or `atr_floor` times its 100-bar median where that is more.

        Sizes shrink with it when a calm market would let them grow; stops do not move.
        """
        watched = self._atrs[atr_period]
        if not watched.recent:
            return math.nan
        return max(watched.wilder.value, atr_floor * median(watched.recent))

    def stop_distance(self):
        """Return the price distance of a stop that is not there yet: a multiple of the ATR."""
        atr_period, atr_multiple = self.stop_rule
        return self.facts.get("atr_multiple", atr_multiple) * self.atr(atr_period)

    def stop_price(self, price, side):
        """Return where the stop of a long (+1) or short (-1) position can rest, in whole ticks.

        It is nearer to the market by less than a tick: no more is at risk than was planned.
        """
        tick = self.facts.get("tick")
        if tick is None or math.isnan(price):
            return price
        ticks = round(price / tick, 6)  # 0.3 is three ticks of 0.1, and 0.3 / 0.1 is not three
        return round((math.ceil(ticks) if side > 0 else math.floor(ticks)) * tick, 10)

    def why_unknown(self):
        """Say why an order on this instrument cannot be judged."""
        if self.repeats:
            return f"{self.name} repeats bars from before the restart"
        if not self.length:
            return f"{self.name} has no bar yet"
        atr_period, _ = self.stop_rule
        if math.isnan(self.atr(atr_period)):
            return f"ATR({atr_period}) needs {atr_period + 1} bars, {self.name} has {self.length}"
        return f"{self.name} has no valid price"
