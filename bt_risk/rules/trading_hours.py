"""Trading hours: the spans of time in which a market may be traded, as date numbers.

A span is ``(begin, end)``; its end is not part of it. Every class here has one method,
``find(time)``, which returns the span of an instant, or None where none holds it.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from bt_risk.errors import ParameterError
from bt_risk.rules.trading_day import DailyTime, date_number, local_time, moment

__all__ = [
    "ExchangeHours",
    "ListedSpans",
    "Span",
    "Spans",
    "WeeklyHours",
    "gaps_of",
    "merged",
    "sessions",
]

Span = tuple[float, float]

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WINDOW = re.compile(
    r"(?:(?P<days>[a-z]{3}(?:[-,][a-z]{3})*)\s*)?"
    r"(?:(?P<begin>\d\d:\d\d)\s*-\s*(?P<end>\d\d:\d\d))?"
)
_DAY = dt.timedelta(days=1)
# Days on each side that are laid out around an instant: a week, so that a window that runs through
# the week is whole. What is laid out serves for so many days.
_AROUND, _SERVES = 9, 28


class Spans(Protocol):
    """Spans of time."""

    def find(self, time: float) -> Span | None:
        """Return the span that holds an instant, or None."""


def merged(spans: Iterable[Span]) -> list[Span]:
    """Return spans in order, those that touch or overlap as one.

    Examples
    --------
    >>> merged([(3.0, 4.0), (1.0, 2.0), (2.0, 2.5)])
    [(1.0, 2.5), (3.0, 4.0)]
    """
    found: list[Span] = []
    for begin, end in sorted(spans):
        if found and begin <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((begin, end))
    return found


def gaps_of(spans: Iterable[Span]) -> list[Span]:
    """Return what lies between spans, before the first and after the last.

    Examples
    --------
    >>> gaps_of([(1.0, 2.0)])
    [(-inf, 1.0), (2.0, inf)]
    """
    edges = [-math.inf, *(edge for span in merged(spans) for edge in span), math.inf]
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return [(begin, end) for begin, end in pairs if begin < end]


class ListedSpans:
    """Spans that are listed one by one.

    Examples
    --------
    >>> ListedSpans([(1.0, 2.0), (3.0, 4.0)]).find(3.5)
    (3.0, 4.0)
    >>> ListedSpans([(1.0, 2.0)]).find(2.0) is None
    True
    """

    def __init__(self, spans: Iterable[Span]) -> None:
        self.spans = merged(spans)
        self._begins = [begin for begin, _ in self.spans]

    def find(self, time: float) -> Span | None:
        """Return the span that holds an instant, or None."""
        place = bisect_right(self._begins, time) - 1
        if place < 0 or not time < self.spans[place][1]:
            return None
        return self.spans[place]


class WeeklyHours:
    """Windows of local time that come back every week.

    A window is ``"09:30-16:00"``, ``"Mon-Fri 09:30-16:00"`` or ``"Sun-Thu 18:00-17:00"``: one that
    ends no later than it begins ends on the next day, and its days are those on which it begins. A
    window without times is whole days, ``"Mon-Fri"``. ``24:00`` is the end of a day.

    Examples
    --------
    >>> hours = WeeklyHours("x", ["Mon-Fri 09:30-16:00"], dt.timezone(dt.timedelta(hours=-5)))
    >>> [str(moment(edge)) for edge in hours.find(date_number(dt.datetime(2024, 1, 5, 15)))]
    ['2024-01-05 14:30:00', '2024-01-05 21:00:00']
    >>> hours.find(date_number(dt.datetime(2024, 1, 6, 15))) is None
    True
    """

    def __init__(self, component: str, windows: Sequence[str], tz: dt.tzinfo | None) -> None:
        self.tz = tz
        self._windows = [_parsed(component, window) for window in windows]
        self._listed = ListedSpans([])
        self._from, self._until = math.inf, -math.inf  # what is laid out as yet
        if self._never_close():
            self._listed = ListedSpans([(-math.inf, math.inf)])
            self._from, self._until = -math.inf, math.inf
        self._times: dict[int, DailyTime] = {}

    def find(self, time: float) -> Span | None:
        """Return the span that holds an instant, or None."""
        if not self._from <= time < self._until:
            self._lay_out(time)
        return self._listed.find(time)

    def _never_close(self) -> bool:
        """Return whether there is a window on every day that lasts until the next one begins."""
        whole = [(begin, days) for days, begin, minutes in self._windows if minutes == 1440]
        return any(
            {day for first, days in whole if first == begin for day in days} == set(range(7))
            for begin, _ in whole
        )

    def _lay_out(self, time: float) -> None:
        """Lay the windows out around an instant, and keep them for the days from that instant."""
        today = local_time(moment(time), self.tz).date()
        spans = []
        for number in range(-_AROUND, _SERVES + _AROUND):
            date = today + number * _DAY
            for days, begin, minutes in self._windows:
                if date.weekday() in days:
                    spans.append(tuple(self._number(date, m) for m in (begin, begin + minutes)))
        self._listed = ListedSpans([(begin, end) for begin, end in spans if begin < end])
        self._from, self._until = self._number(today, 0), self._number(today + _SERVES * _DAY, 0)

    def _number(self, date: dt.date, minutes: int) -> float:
        """Return the date number of a local time, in minutes from the begin of a local date."""
        days, minute = divmod(minutes, 1440)
        time = self._times.get(minutes)
        if time is None:
            clock = dt.time(minute // 60, minute % 60)
            time = self._times[minutes] = DailyTime(clock, self.tz)
        return time.on(date + days * _DAY if days else date)


class ExchangeHours:
    """The sessions of an exchange, with holidays and half-days, from exchange_calendars.

    A break at lunch, as of Tokyo and Hong Kong, is between two spans of one session.
    """

    def __init__(self, component: str, name: str) -> None:
        self.component, self.name = component, name
        self._listed = ListedSpans([])
        self._from, self._until = math.inf, -math.inf
        _calendars(component)  # a missing package is an error before the run

    def find(self, time: float) -> Span | None:
        """Return the session, or the part of it beside a break, that holds an instant; or None."""
        if not self._from <= time < self._until:
            self._load(time)
        return self._listed.find(time)

    def _load(self, time: float) -> None:
        """Load a year of sessions around an instant."""
        around = dt.timedelta(days=190)
        begin, end = (moment(time) + sign * around for sign in (-1, 1))
        calendar = _calendar(self.component, self.name, begin.date(), end.date())
        columns = calendar.opens, calendar.break_starts, calendar.break_ends, calendar.closes
        days = zip(*[times.dt.tz_localize(None) for times in columns], strict=True)
        # A day without a break has NaT, the only time that is not equal to itself.
        halves = [
            half
            for first, pause, again, last in days
            for half in ([(first, pause), (again, last)] if pause == pause else [(first, last)])
        ]
        self._listed = ListedSpans(
            (date_number(begin.to_pydatetime()), date_number(end.to_pydatetime()))
            for begin, end in halves
        )
        whole = dt.timedelta(days=180)
        self._from, self._until = (date_number(moment(time) + k * whole) for k in (-1, 1))


def sessions(component: str, name: str, begin: dt.date, end: dt.date) -> Any:
    """Return the days with a session of an exchange, a DatetimeIndex."""
    return _calendar(component, name, begin, end).sessions


def _calendar(component: str, name: str, begin: dt.date, end: dt.date) -> Any:
    calendars = _calendars(component)
    try:
        return calendars.get_calendar(name, start=begin, end=end)
    except calendars.errors.InvalidCalendarName:
        constraint = "the name of a calendar of exchange_calendars, such as 'XNYS' or 'CMES'"
        raise ParameterError(component, "calendar", constraint, name) from None


def _calendars(component: str) -> Any:
    try:
        import exchange_calendars
    except ImportError:
        remedy = "Run pip install 'bt_risk[calendars]', or write the windows."
        constraint = "left out without the package exchange_calendars"
        raise ParameterError(component, "calendar", constraint, "a name", remedy) from None
    return exchange_calendars


def _parsed(component: str, window: object) -> tuple[frozenset[int], int, int]:
    """Return weekdays, the begin in minutes of the day, and the length in minutes of a window."""
    text = window.strip().lower() if isinstance(window, str) else ""
    found = _WINDOW.fullmatch(text) if text else None
    days = None if found is None else _weekdays(found["days"])
    if found is None or days is None:
        constraint = "windows such as '09:30-16:00', 'Mon-Fri 09:30-16:00' or 'Sun-Thu 18:00-17:00'"
        raise ParameterError(component, "windows", constraint, window)
    if found["begin"] is None:
        return days, 0, 1440
    begin, end = _minutes(found["begin"]), _minutes(found["end"])
    if begin >= 1440 or end > 1440 or max(begin % 60, end % 60) > 59:
        raise ParameterError(component, "windows", "times from 00:00 to 24:00", window)
    return days, begin, end - begin if end > begin else end - begin + 1440


def _minutes(text: str) -> int:
    hours, minutes = text.split(":")
    # 25:00 and 09:75 are no times: beyond the end of the day.
    return int(hours) * 60 + int(minutes) if int(minutes) < 60 else 10_000


def _weekdays(text: str | None) -> frozenset[int] | None:
    """Return the numbers of weekdays, Monday 0, of ``mon-fri`` or ``mon,wed``; None for others."""
    if text is None:
        return frozenset(range(7))
    found: set[int] = set()
    for part in text.split(","):
        names = part.split("-")
        if len(names) > 2 or any(name not in _DAYS for name in names):
            return None
        first, last = _DAYS.index(names[0]), _DAYS.index(names[-1])
        found |= {day % 7 for day in range(first, last + 1 + 7 * (last < first))}
    return frozenset(found)
