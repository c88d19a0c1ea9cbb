"""Trading days: on which day an instant lies where a day does not begin at midnight.

An instant is a date number as Backtrader has it: days in UTC, midnight of 0001-01-01 is 1.0. The
times of a data feed are taken as UTC: a feed with ``tzinput`` has been converted by Backtrader, and
``tz`` changes only how its times are shown.
"""

from __future__ import annotations

import datetime as dt
import math
from typing import Any
from zoneinfo import ZoneInfo

from bt_risk.errors import ParameterError

__all__ = [
    "SESSION",
    "DailyTime",
    "TradingDay",
    "check_reset",
    "date_number",
    "local_time",
    "moment",
    "utc_time",
    "zone",
]

# The `reset` of a day that is the session of each data feed.
SESSION = "session"

_DAY, _NONE = dt.timedelta(days=1), dt.timedelta()
_MIDNIGHT = dt.time.min
_US_PER_SECOND = 1_000_000
_EPOCH = 719_163.0  # 1970 as a date number
_LONGEST_DAY = 1.3  # since then, in days: of 31 hours


def moment(time: float) -> dt.datetime:
    """Return a date number as a naive datetime in UTC.

    Examples
    --------
    >>> moment(738886.75)
    datetime.datetime(2024, 1, 1, 18, 0)
    """
    whole = math.floor(time)
    microseconds = round((time - whole) * 86_400 * _US_PER_SECOND)
    # A date number of today is exact to 10 microseconds.
    over = microseconds % _US_PER_SECOND
    if over < 10:
        microseconds -= over
    elif over >= _US_PER_SECOND - 5:
        microseconds += _US_PER_SECOND - over
    return dt.datetime.fromordinal(whole) + dt.timedelta(microseconds=microseconds)


def date_number(moment: dt.datetime) -> float:
    """Return the date number of a naive datetime in UTC, to the last digit as Backtrader has it.

    Examples
    --------
    >>> date_number(dt.datetime(2024, 1, 1, 18))
    738886.75
    """
    seconds = moment.second / 86_400, moment.microsecond / 86_400e6
    return math.fsum((moment.toordinal(), moment.hour / 24.0, moment.minute / 1440.0, *seconds))


def local_time(utc: dt.datetime, tz: dt.tzinfo | None) -> dt.datetime:
    """Return the time of a zone at a naive datetime in UTC; a zone of None is UTC."""
    return utc if tz is None else utc.replace(tzinfo=dt.UTC).astimezone(tz)


def utc_time(local: dt.datetime, tz: dt.tzinfo | None) -> dt.datetime:
    """Return the naive datetime in UTC of a naive local time.

    A time that clocks skip is as late as they have skipped it; of one that they show twice the
    first counts (with pytz the second).
    """
    if tz is None:
        return local
    localize: Any = getattr(tz, "localize", None)  # pytz has no other right way
    aware: dt.datetime = localize(local) if localize else local.replace(tzinfo=tz)
    return aware.astimezone(dt.UTC).replace(tzinfo=None)


class DailyTime:
    """Find when clocks show one time of the day, date by date.

    Examples
    --------
    >>> close = DailyTime(dt.time(16), ZoneInfo("America/New_York"))
    >>> [str(moment(close.on(dt.date(2024, 3, day)))) for day in (8, 11)]
    ['2024-03-08 21:00:00', '2024-03-11 20:00:00']
    """

    def __init__(self, time: dt.time, tz: dt.tzinfo | None) -> None:
        self.time, self.tz = time, tz
        # The date that was asked for last, and how far its clocks were ahead of UTC at that time.
        self._date, self._number = dt.date.min, math.nan
        self._ahead: dt.timedelta | None = None
        self._localizes = hasattr(tz, "localize")  # as pytz does: how far is not known before

    def on(self, date: dt.date) -> float:
        """Return the date number at which they show it on a local date."""
        local = dt.datetime.combine(date, self.time)
        ahead: dt.timedelta | None = _NONE
        if self.tz is not None:
            ahead = None if self._localizes else self.tz.utcoffset(local)
        if ahead is not None and ahead == self._ahead:
            # To the last digit, in the centuries that have markets.
            number = self._number + (date - self._date).days
        else:
            number = date_number(utc_time(local, self.tz))
        self._date, self._number, self._ahead = date, number, ahead
        return number


class TradingDay:
    """Cut time into trading days, which begin at one local time of every date.

    A day of 23 or 25 hours, where clocks change, is one day. Where clocks skip the local time, the
    day begins when they have skipped it.

    Parameters
    ----------
    reset : datetime.time
        Local time at which a day begins.
    tz : tzinfo, optional
        Zone of that time, of zoneinfo or pytz; None is UTC.
    after : bool, default False
        Whether an instant exactly at `reset` belongs to the day before, as the last bar of a
        session does.

    Examples
    --------
    >>> day = TradingDay(dt.time(17), ZoneInfo("America/New_York"))
    >>> noon = date_number(dt.datetime(2024, 7, 1, 12))
    >>> moment(day.begin(noon)), moment(day.end(noon)), day.date(noon)
    (datetime.datetime(2024, 6, 30, 21, 0), datetime.datetime(2024, 7, 1, 21, 0), \
datetime.date(2024, 7, 1))
    """

    def __init__(self, reset: dt.time, tz: dt.tzinfo | None = None, after: bool = False) -> None:
        self.reset, self.tz, self.after = reset, tz, after
        self.name = f"{reset} {'UTC' if tz is None else tz}{' after' if after else ''}"
        self._begin, self._end = math.inf, -math.inf  # of the day that was computed last
        self._date = self._first = dt.date.min
        self._resets = DailyTime(reset, tz)

    @classmethod
    def of_session(cls, start: dt.time, end: dt.time, tz: dt.tzinfo | None) -> TradingDay | None:
        """Return the days of a session that runs over midnight, None where it does not.

        A day ends with the session, its last bar included; what comes between a session and the
        next one belongs to the next.
        """
        if start == end != _MIDNIGHT:
            return cls(start, tz)
        return cls(end, tz, after=True) if start > end else None

    def longest(self, since: float) -> float:
        """Return the length, in days of 24 hours, that no trading day after `since` exceeds.

        `since` is a date number. A zone that crossed the date line had a day of 47 hours in 1969;
        the longest since 1970 has 31, at a station in Antarctica.
        """
        if self.tz is None or str(self.tz) == "UTC":
            return 1.0
        return _LONGEST_DAY if since > _EPOCH else 2.0

    def span(self, time: float) -> tuple[float, float]:
        """Return what `begin` and `end` do."""
        if not self._begin <= time < self._end:
            if not -math.inf < time < math.inf:
                return math.nan, math.nan
            self._find(time)
        return self._begin, self._end

    def begin(self, time: float) -> float:
        """Return the date number at which the day of an instant began; NaN for NaN."""
        return self.span(time)[0]

    def end(self, time: float) -> float:
        """Return the date number at which the day of an instant ends, and the next one begins."""
        return self.span(time)[1]

    def date(self, time: float) -> dt.date:
        """Return the date of the day of a finite instant: that on which its last instant lies.

        A session that begins on Sunday evening is that of Monday.
        """
        self.begin(time)
        return self._date

    def _find(self, time: float) -> None:
        """Compute the day of a finite instant."""
        begin, end, date = self._end, -math.inf, self._first
        if time >= begin > -math.inf:  # most often it is the day after the last one
            date += _DAY
            end = self._boundary(date + _DAY)
        if not begin <= time < end:
            date = local_time(moment(time), self.tz).date()
            while self._boundary(date) > time:
                date -= _DAY
            while self._boundary(date + _DAY) <= time:
                date += _DAY
            begin, end = self._boundary(date), self._boundary(date + _DAY)
        self._begin, self._end, self._first = begin, end, date
        self._date = date if self.reset == _MIDNIGHT else date + _DAY

    def _boundary(self, date: dt.date) -> float:
        """Return the date number at which the day begins that begins on a local date."""
        number = self._resets.on(date)
        return math.nextafter(number, math.inf) if self.after else number


def zone(component: str, param: str, name: object) -> dt.tzinfo:
    """Return the zone of a name such as ``"Europe/Prague"``."""
    try:
        return ZoneInfo(str(name))
    except (KeyError, ValueError, OSError):
        pass
    constraint = "the name of a time zone, such as 'Europe/Prague' or 'UTC'"
    raise ParameterError(component, param, constraint, name)


def check_reset(component: str, param: str, value: object) -> TradingDay | None:
    """Return the days of ``"00:00 Europe/Prague"``, or None for ``"session"``.

    Examples
    --------
    >>> check_reset("DailyLossLimit", "reset", "17:00 America/New_York").reset
    datetime.time(17, 0)
    """
    if value == SESSION:
        return None
    time, _, name = value.strip().partition(" ") if isinstance(value, str) else ("", "", "")
    try:
        reset = dt.time.fromisoformat(time)
    except ValueError:
        reset = None
    if reset is None or reset.tzinfo is not None or not name:
        constraint = "'session', or a time and a zone, such as '00:00 Europe/Prague'"
        raise ParameterError(component, param, constraint, value)
    return TradingDay(reset, zone(component, param, name.strip()))
