"""The trading day of a data feed: its session where that runs over midnight, else the date."""

from __future__ import annotations

import datetime as dt
from typing import Any

from bt_risk.rules.trading_day import TradingDay

__all__ = ["feed_day"]

_MIDNIGHT = dt.time.min


def feed_day(data: Any) -> TradingDay:
    """Return the trading days of a data feed that has started, in its own time zone.

    A session that ends before it begins (``sessionstart`` 18:00, ``sessionend`` 17:00) runs over
    midnight. Every other data feed has the days of the calendar.
    """
    tz, params = getattr(data, "_tz", None), getattr(data, "p", None)
    start, end = getattr(params, "sessionstart", None), getattr(params, "sessionend", None)
    if isinstance(start, dt.time) and isinstance(end, dt.time):
        session = TradingDay.of_session(start, end, tz)
        if session is not None:
            return session
    return TradingDay(_MIDNIGHT, tz)
