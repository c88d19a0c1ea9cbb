"""Monitor: the base of what acts on every bar and every fill."""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.position import OwnerPosition
from bt_risk.portfolio.price_watch import PriceWatch

__all__ = ["LaterDays", "Monitor", "Quiet", "Sample"]


class Quiet(NamedTuple):
    """Say on which bars a monitor would do nothing that anybody sees: it is not called on them.

    Attributes
    ----------
    low, high : float
        The account value is between these two, in currency; with `worst` its lowest inside the bar
        counts, too.
    balance : float
        The account value without the profit of open positions is at most this.
    until : float
        The bar comes before this time, a date number.
    bars : float
        Fewer than so many points in time with a new bar have come since.
    watched : tuple of PriceWatch
        The price of each is in its range; it is noted on every bar that is left out.
    ends_with_orders : bool
        No position and no working order has changed since the last call.
    trail : float
        Where bars are read ahead, the account value may reach `high` and more, as long as it stays
        less than this below the highest value so far. `Monitor.rise` is told of each new highest.
    profit, worst, extremes : bool
        Whether `Sample.profit`, the lowest value inside each bar, and the extremes of the sample
        are needed.
    """

    low: float = -math.inf
    high: float = math.inf
    balance: float = math.inf
    until: float = math.inf
    bars: float = math.inf
    watched: tuple[PriceWatch, ...] = ()
    ends_with_orders: bool = False
    profit: bool = False
    worst: bool = False
    extremes: bool = False
    trail: float = math.inf


class LaterDays(NamedTuple):
    """Say on which days after the present one a monitor does nothing but begin them.

    Attributes
    ----------
    low, high, balance, watched
        As `Quiet` has them.
    fall, rise : float
        On none of these bars the account is worth so much less, or more, than at any close before
        that its day may be measured from.
    longest : float
        No day is longer than so many days.
    """

    low: float = -math.inf
    high: float = math.inf
    balance: float = math.inf
    watched: tuple[PriceWatch, ...] = ()
    fall: float = math.inf
    rise: float = math.inf
    longest: float = 0.0


class Sample:
    """What an account was worth at the close of the last bar.

    Attributes
    ----------
    value : float
        In currency, with deposits.
    shares : float
        Into so many the account is divided; a deposit adds some.
    profit : float
        Of open positions at their last closes, in currency; 0 where nobody needs it.
    lowest, highest, worst : float
        The lowest and highest value at the closes since `begin_extremes`, and the lowest inside
        the bars, where somebody needs it.
    """

    __slots__ = ("highest", "lowest", "profit", "shares", "value", "worst")

    def __init__(self) -> None:
        self.value = self.shares = math.nan
        self.profit = 0.0
        self.begin_extremes()

    @property
    def unit(self) -> float:
        """Return the value of one share, by BackBroker's own operation."""
        return self.value / self.shares

    def begin_extremes(self) -> None:
        """Forget the extremes so far."""
        self.lowest = self.worst = math.inf
        self.highest = -math.inf

    def extend(self, value: float, worst: float) -> None:
        """Let the extremes have the value of a bar, and the lowest inside it."""
        if worst < self.worst:
            self.worst = worst
        if value < self.lowest:
            self.lowest = value
        if value > self.highest:
            self.highest = value


class Monitor:
    """Act on the bars and fills of one gate; a subclass overrides the hooks that it needs.

    `name` is the rule that its lines in the journal bear. A monitor with a `state_kind` is saved
    under that name and restored in the next run. One that defines `quiet` has `sleeps`, unless its
    `on_bar` costs less on a quiet bar than the comparison that leaves it out.
    """

    name = ""
    state_kind = ""
    sleeps = False

    def on_fill(self, part: OwnerPosition) -> None:
        """Act on a fill of an owner's position."""

    def on_bar(self, fresh: list[Instrument]) -> None:
        """Act on the instruments that have a new bar; the list may be empty in live mode."""

    def quiet(self, sample: Sample) -> Quiet | None:
        """Return on which of the next bars `on_bar` would do nothing; None: it always may.

        It is asked after each `on_bar` of a backtest, and `sample` is of that bar.
        """
        return None

    def skip(self, sample: Sample, bars: int) -> None:
        """Go on as if `on_bar` had been called on so many quiet bars; `sample` is of the last."""

    def rise(self, value: float, time: float) -> None:
        """Take a new highest account value of a quiet bar, which `Quiet.trail` has allowed."""
        raise TypeError(f"{type(self).__name__} takes no new highs")

    def go_on(self, sample: Sample, bars: int, time: float) -> Quiet | None:
        """Begin the day of `time`, with whose first bar a quiet time ends; return as `quiet` does.

        It is called before that bar counts: `sample` is of the one before, the last of so many
        quiet ones. None: `on_bar` has to begin the day.
        """
        if bars:
            self.skip(sample, bars)
        return None

    def later_days(self, sample: Sample) -> LaterDays | None:
        """Return on which bars of later days `go_on` and `skip` are all that it needs.

        It is asked while it sleeps until the end of a day; `sample` is of the present bar. None:
        it has to be asked on each day.
        """
        return None

    def day_begin(self, time: float) -> float | None:
        """Return when the day of a time began, where days that are over leave nothing behind.

        None: each of the days that `later_days` has allowed is to be passed, one after the other.
        """
        return None

    def pass_day(self, sample: Sample, time: float) -> float:
        """Begin the day of a bar as `go_on` does, and return when it ends; another one follows."""
        raise TypeError(f"{type(self).__name__} passes no days")

    def on_missed(self, instruments: list[Instrument]) -> None:
        """Act on instruments whose bars arrived late: they closed before this run could act."""

    def on_end(self) -> None:
        """Finish at the end of the run."""

    def persist(self) -> Iterable[tuple[str, dict[str, Any]]]:
        """Return ``(key, plain values)`` of everything that must survive the process."""
        return ()

    def restore(self, saved: dict[str, dict[str, Any]]) -> None:
        """Go on from the values that `persist` returned in an earlier run, by key."""

    @property
    def final(self) -> bool:
        """Return whether it has tripped for good, so that no operator can re-arm it."""
        return False

    def rearm(self) -> None:
        """Take back what was tripped: entries are judged again."""
