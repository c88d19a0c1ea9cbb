"""Times in a terminal and on a page: always UTC, and read as UTC where they have no time zone."""

import datetime
import re

from bt_risk.errors import ParameterError

__all__ = ["bar_time", "duration", "parse_since", "utc"]

_DAY_ONE = datetime.datetime(1, 1, 1)
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def utc(seconds: float) -> str:
    """Return seconds since 1970 as a time of UTC, ``-`` where they are not known."""
    if not seconds:
        return "-"
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")


def bar_time(number: float) -> str:
    """Return a Backtrader date number as text."""
    if number != number:
        return "before start"
    moment = _DAY_ONE + datetime.timedelta(days=number - 1.0)
    return (moment + datetime.timedelta(milliseconds=500)).isoformat(" ", "seconds")


def duration(seconds: float) -> str:
    """Return a span of time in its largest unit: ``12 s``, ``3 min``, ``5.2 h``, ``2.1 d``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172800 else f"{seconds / 86400:.1f} d"


def parse_since(text: str, now: float) -> float:
    """Return the seconds since 1970 of a time (``2026-11-28 03:00``) or a duration (``30m``)."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if found:
        return now - float(found[1]) * _UNITS[found[2]]
    try:
        moment = datetime.datetime.fromisoformat(text.strip())
    except ValueError:
        wanted = "a time of UTC such as 2026-11-28T03:00, or a duration such as 30m, 12h or 2d"
        raise ParameterError("journal", "--since", wanted, text) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return moment.timestamp()
