"""Guards on time: entries within trading hours only, and none while a blackout lasts."""

from __future__ import annotations

import csv
import datetime as dt
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bt_risk.errors import ParameterError, check_positive
from bt_risk.limits.base import Decision, Request
from bt_risk.limits.trade_guards import Guard
from bt_risk.rules.trading_day import date_number, local_time, moment, utc_time, zone
from bt_risk.rules.trading_hours import ExchangeHours, ListedSpans, Spans, WeeklyHours, gaps_of

if TYPE_CHECKING:
    from bt_risk.portfolio.book import Book
    from bt_risk.portfolio.instrument import Instrument

__all__ = ["Blackout", "HoursGuard", "TradingHours"]

_MINUTE = 1.0 / 1440.0
_TICK = 1e-8  # a millisecond: date numbers are no more exact than that
_STEP = 15.0 * _MINUTE  # no window of a market is shorter


@dataclass(frozen=True)
class HoursGuard(Guard):
    """Refuse entries at times; the base class of `TradingHours` and `Blackout`.

    The present is the time of the newest bar. An order fills on the next bar, so that has to be in
    the same span of time, too.
    """

    tz: str | None = field(default=None, kw_only=True)
    flat_before: float | None = field(default=None, kw_only=True)
    names: tuple[str, ...] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.tz is not None:
            zone(self.name, "tz", self.tz)
        if self.flat_before is not None:
            remedy = "It counts minutes."
            check_positive(self.name, "flat_before", self.flat_before, zero=True, remedy=remedy)
        if self.names is not None:
            self._set(names=_texts(self.name, "names", self.names, "names of data feeds"))
        self._set(_spans={})

    def review(self, request: Request, book: Book) -> Decision:
        """Return the `Decision` for `request`."""
        why = self.closed(request.instrument, book.latest)
        if not why:
            return Decision(request.size)
        return Decision(0.0, f"{self.name}: {why}", self.name)

    def closed(self, instrument: Instrument, now: float) -> str:
        """Return why nothing may open on an instrument now, or nothing."""
        if not self._concerned(instrument) or not math.isfinite(now):
            return ""
        bar = instrument.shortest_gap
        if self.flat_before is not None and math.isinf(bar):
            return f"how long a bar of {instrument.name} lasts is unknown before its second one"
        span = self._open(instrument).find(now)
        if self.flat_before is None and self._by_date and bar >= 1.0:
            return "" if self._on_date(instrument, now) else self._outside(instrument, now)
        if span is None:
            return self._outside(instrument, now)
        if self._must_leave(span[1], now, bar):
            flat = f"flat {self._before(bar)} {self._end(instrument, span[1])}"
            return f"{self._at(instrument, now)} is too late to be {flat}"
        if now + bar >= span[1] - _TICK:
            after = f"the next bar after {self._at(instrument, now)} is not before"
            return f"{after} {self._end(instrument, span[1])}"
        return ""

    def leaves(self, instrument: Instrument, now: float) -> str:
        """Return why what is held of an instrument must be closed now, or nothing."""
        if self.flat_before is None or not self._concerned(instrument) or not math.isfinite(now):
            return ""
        bar, span = instrument.shortest_gap, self._open(instrument).find(now)
        if math.isinf(bar):
            return ""
        if span is None:
            return f"{self._outside(instrument, now)}, and nothing may be held there"
        if not self._must_leave(span[1], now, bar):
            return ""
        return f"flat {self._before(bar)} {self._end(instrument, span[1])}"

    def leaves_at(self, instrument: Instrument, now: float) -> float:
        """Return a time before which `leaves` goes on with nothing; minus infinity if it does not.

        `now` is the time of the last bar.
        """
        if self.flat_before is None or not self._concerned(instrument):
            return math.inf
        bar, span = instrument.shortest_gap, self._open(instrument).find(now)
        if span is None or math.isinf(bar) or self._must_leave(span[1], now, bar):
            return -math.inf
        return span[1] - max(self.flat_before * _MINUTE, bar) - 2.0 * bar

    def coarse(self, instrument: Instrument) -> str:
        """Return why an instrument's bars are too long for `flat_before`, or nothing."""
        bar = instrument.shortest_gap
        if self.flat_before is None or not self._concerned(instrument) or math.isinf(bar):
            return ""
        if bar <= self.flat_before * _MINUTE + _TICK:
            return ""
        minutes = f"{bar / _MINUTE:.4g} minutes"
        return (
            f"bars of {minutes} are longer than flat_before {self.flat_before:g}: positions are "
            f"closed {minutes} before the end"
        )

    def _must_leave(self, end: float, now: float, bar: float) -> bool:
        """Return whether an exit that waits for one more bar would fill too late.

        It fills at the open of the bar after that on which it is sent.
        """
        if self.flat_before is None:
            return False
        return now + 2.0 * bar > end - max(self.flat_before * _MINUTE, bar) + _TICK

    def _concerned(self, instrument: Instrument) -> bool:
        return self.names is None or instrument.name in self.names

    # -- spans and words -------------------------------------------------------------------------

    _by_date = False

    def _zone(self, instrument: Instrument) -> dt.tzinfo | None:
        """Return the zone of the guard, else that of the data feed."""
        return instrument.day.tz if self.tz is None else zone(self.name, "tz", self.tz)

    def _open(self, instrument: Instrument) -> Spans:
        """Return the spans of time in which entries pass, made once for each zone."""
        spans: dict[str, Spans] = self._spans  # type: ignore[attr-defined]  # of __post_init__
        tz = self._zone(instrument)
        if str(tz) not in spans:
            spans[str(tz)] = self._spans_in(tz)
        return spans[str(tz)]

    def _spans_in(self, tz: dt.tzinfo | None) -> Spans:
        raise TypeError(f"{self.name} has no spans of time")

    def _on_date(self, instrument: Instrument, now: float) -> bool:
        """Return whether the date of a bar of a day or longer has a span."""
        date = local_time(moment(now), instrument.day.tz).date()
        begin = date_number(
            utc_time(dt.datetime.combine(date, dt.time.min), self._zone(instrument))
        )
        spans = self._open(instrument)
        return any(spans.find(begin + k * _STEP) is not None for k in range(round(1.0 / _STEP)))

    def _at(self, instrument: Instrument, time: float) -> str:
        tz = self._zone(instrument)
        local = local_time(moment(time), tz)
        return f"{local:%a %Y-%m-%d %H:%M} {'UTC' if tz is None else tz}"

    def _before(self, bar: float) -> str:
        return f"{max(self.flat_before or 0.0, bar / _MINUTE):.4g} minutes before"

    def _outside(self, instrument: Instrument, now: float) -> str:
        raise TypeError(f"{self.name} has no spans of time")

    def _end(self, instrument: Instrument, time: float) -> str:
        raise TypeError(f"{self.name} has no spans of time")

    def _of_names(self) -> str:
        names = "" if self.names is None else f", of {', '.join(self.names)}"
        if self.flat_before is None:
            return names
        return f", flat {self.flat_before:g} minutes before{names}"


@dataclass(frozen=True)
class TradingHours(HoursGuard):
    """Entries within windows of time only, and flat before a window ends.

    An entry has to be sent, and to fill on the next bar, within a window. Resting entries are
    cancelled in time. Exits always pass.

    Parameters
    ----------
    windows : list of str
        ``"09:30-16:00"``, ``"Mon-Fri 09:30-16:00"``, ``"Mon-Fri"`` for whole days, or
        ``"Sun-Thu 18:00-17:00"``, which ends on the day after. Windows that touch are one.
    calendar : str, optional
        In their place the sessions of an exchange, with holidays, half-days and breaks at lunch: a
        name of exchange_calendars, ``"XNYS"`` or ``"CMES"`` (``pip install 'bt_risk[calendars]'``).
        A break is closed time, and `flat_before` counts to its begin, too.
    tz : str, optional
        Zone of the windows, ``"America/New_York"``; None: that of each data feed (``tz=``), else
        UTC.
    flat_before : float, optional
        Minutes before the end of a window by which everything is closed: at the last open that is
        early enough. Bars longer than that close one bar before the end. Nothing is opened after
        that either.
    names : list of str, optional
        The data feeds that are concerned; None: all.

    Examples
    --------
    >>> TradingHours(["Mon-Fri 09:30-16:00"], tz="America/New_York", flat_before=10).describe()
    'hours: entries on Mon-Fri 09:30-16:00 America/New_York only, flat 10 minutes before'
    """

    windows: tuple[str, ...] = ()
    calendar: str | None = field(default=None, kw_only=True)

    _by_date = True

    def __post_init__(self) -> None:
        super().__post_init__()
        what = "windows such as '09:30-16:00'"
        self._set(windows=_texts(self.name, "windows", self.windows, what))
        if bool(self.windows) == (self.calendar is not None):
            constraint = "given, or a calendar in their place"
            raise ParameterError(self.name, "windows", constraint, self.windows)
        if self.calendar is not None:
            if not isinstance(self.calendar, str):
                raise ParameterError(self.name, "calendar", "a text", self.calendar)
            ExchangeHours(self.name, self.calendar).find(date_number(dt.datetime(2024, 1, 2)))
        WeeklyHours(self.name, self.windows, None)

    @property
    def active(self) -> bool:
        """Return whether this guard can ever refuse anything."""
        return True

    def _spans_in(self, tz: dt.tzinfo | None) -> Spans:
        if self.calendar is not None:
            return ExchangeHours(self.name, self.calendar)
        return WeeklyHours(self.name, self.windows, tz)

    def _hours(self) -> str:
        if self.calendar is not None:
            return f"the sessions of {self.calendar}"
        return f"{', '.join(self.windows)}{'' if self.tz is None else f' {self.tz}'}"

    def _outside(self, instrument: Instrument, now: float) -> str:
        return f"{self._at(instrument, now)} is outside {self._hours()}"

    def _end(self, instrument: Instrument, time: float) -> str:
        return f"{self._at(instrument, time)}, the end of {self._hours()}"

    def describe(self) -> str:
        """Return the rule in words."""
        return f"hours: entries on {self._hours()} only{self._of_names()}"


@dataclass(frozen=True)
class Blackout(HoursGuard):
    """No entry while a blackout lasts, as around news, and flat before it begins.

    Parameters
    ----------
    intervals : list of (begin, end), or path
        Pairs of times, ``("2024-01-05 13:25", "2024-01-05 13:45")``, or a CSV file with one in each
        row: begin, end, and maybe a reason. A time with an offset counts as it is written.
    tz : str, optional
        Zone of the times without an offset; None: UTC.
    flat_before : float, optional
        Minutes before a blackout begins by which everything is closed, as in `TradingHours`.
    names : list of str, optional
        The data feeds that are concerned; None: all.
    """

    intervals: str | tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        intervals = self.intervals
        if isinstance(intervals, Path):
            intervals = str(intervals)
        tz = None if self.tz is None else zone(self.name, "tz", self.tz)
        if isinstance(intervals, str):
            rows = _read(self.name, intervals)
        else:
            rows = _rows(self.name, intervals)
            intervals = tuple((begin, end) for begin, end, _ in rows)
        spans = [_span(self.name, row, tz) for row in rows]
        reasons = {span: row[2] for span, row in zip(spans, rows, strict=True)}
        self._set(intervals=intervals, _blackouts=spans, _reasons=reasons)

    @property
    def active(self) -> bool:
        """Return whether this guard can ever refuse anything."""
        spans: list[tuple[float, float]] = self._blackouts  # type: ignore[attr-defined]
        return bool(spans)

    def _zone(self, instrument: Instrument) -> dt.tzinfo | None:
        return None if self.tz is None else zone(self.name, "tz", self.tz)

    def _spans_in(self, tz: dt.tzinfo | None) -> Spans:
        return ListedSpans(gaps_of(self._blackouts))  # type: ignore[attr-defined]

    def _named(self, instrument: Instrument, time: float) -> str:
        """Return the blackout that lasts at a time, or begins there, with its reason."""
        reasons: dict[tuple[float, float], str] = self._reasons  # type: ignore[attr-defined]
        for (begin, end), reason in reasons.items():
            if begin - _TICK <= time < end:
                why = f" ({reason})" if reason else ""
                return f"{self._at(instrument, begin)} to {self._at(instrument, end)}{why}"
        return self._at(instrument, time)

    def _outside(self, instrument: Instrument, now: float) -> str:
        return f"{self._at(instrument, now)} is inside {self._named(instrument, now)}"

    def _end(self, instrument: Instrument, time: float) -> str:
        return f"the blackout from {self._named(instrument, time)}"

    def describe(self) -> str:
        """Return the rule in words."""
        spans: list[tuple[float, float]] = self._blackouts  # type: ignore[attr-defined]
        source = f" of {self.intervals}" if isinstance(self.intervals, str) else ""
        return f"blackout: no entry in {len(spans)} intervals{source}{self._of_names()}"


def _texts(component: str, param: str, values: Any, what: str) -> tuple[str, ...]:
    """Return a list of texts as a tuple; one text alone is a list of it."""
    values = (values,) if isinstance(values, str) else values
    if not isinstance(values, Iterable) or not all(isinstance(one, str) for one in values):
        raise ParameterError(component, param, f"a list of {what}", values)
    return tuple(values)


Row = tuple[str, str, str]


def _read(component: str, path: str) -> list[Row]:
    """Return the rows of a CSV file; a first row whose begin is no time is a header."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        constraint = f"a list of intervals, or a file that can be read ({error.strerror})"
        raise ParameterError(component, "intervals", constraint, path) from None
    rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines())]
    found: list[Row] = []
    for number, row in enumerate(rows, start=1):
        if not any(row) or row[0].startswith("#") or (number == 1 and _time(row[0]) is None):
            continue
        if len(row) < 2:
            constraint = f"rows of begin, end and maybe a reason (row {number} of {path})"
            raise ParameterError(component, "intervals", constraint, ",".join(row))
        found.append((row[0], row[1], row[2] if len(row) > 2 else ""))
    return found


def _rows(component: str, intervals: Any) -> list[Row]:
    """Return pairs of times as texts."""
    try:
        pairs = [(begin, end) for begin, end in intervals]
    except (TypeError, ValueError):
        constraint = "a list of (begin, end), or the path of a CSV file"
        raise ParameterError(component, "intervals", constraint, intervals) from None
    return [(_text(begin), _text(end), "") for begin, end in pairs]


def _text(time: Any) -> str:
    return time.isoformat(" ") if isinstance(time, dt.datetime) else str(time)


def _time(text: str) -> dt.datetime | None:
    try:
        return dt.datetime.fromisoformat(text)
    except ValueError:
        return None


def _span(component: str, row: Row, tz: dt.tzinfo | None) -> tuple[float, float]:
    """Return the date numbers of an interval."""
    times = [_time(text) for text in row[:2]]
    numbers = [math.nan if time is None else _number(time, tz) for time in times]
    if not numbers[0] < numbers[1]:
        constraint = "intervals that begin before they end, as ('2024-01-05 13:25', ...)"
        raise ParameterError(component, "intervals", constraint, row[:2])
    return numbers[0], numbers[1]


def _number(time: dt.datetime, tz: dt.tzinfo | None) -> float:
    if time.tzinfo is not None:
        return date_number(time.astimezone(dt.UTC).replace(tzinfo=None))
    return date_number(utc_time(time, tz))
