import datetime as dt
import math
from zoneinfo import ZoneInfo

import backtrader as bt
import pytest

from bt_risk.errors import ParameterError
from bt_risk.rules.trading_day import moment
from bt_risk.rules.trading_hours import ExchangeHours, ListedSpans, WeeklyHours, gaps_of, merged

NEW_YORK = ZoneInfo("America/New_York")


def at(text):
    return bt.date2num(dt.datetime.fromisoformat(text))


def span(hours, text):
    found = hours.find(at(text))
    return None if found is None else tuple(f"{moment(edge):%a %d %H:%M}" for edge in found)


def weekly(*windows, tz=None):
    return WeeklyHours("x", windows, tz)


def test_a_window_of_every_day_ends_before_its_end():
    hours = weekly("09:30-16:00")
    assert span(hours, "2024-01-05 09:30") == ("Fri 05 09:30", "Fri 05 16:00")
    assert span(hours, "2024-01-05 15:59") == ("Fri 05 09:30", "Fri 05 16:00")
    assert span(hours, "2024-01-05 16:00") is None
    assert span(hours, "2024-01-05 09:29") is None
    assert span(hours, "2024-01-06 12:00") == ("Sat 06 09:30", "Sat 06 16:00")


def test_a_window_of_weekdays_has_no_weekend():
    hours = weekly("Mon-Fri 09:30-16:00")
    assert span(hours, "2024-01-06 12:00") is None
    assert span(hours, "2024-01-08 12:00") == ("Mon 08 09:30", "Mon 08 16:00")


def test_a_window_over_midnight_belongs_to_the_day_on_which_it_begins():
    hours = weekly("Sun-Thu 18:00-17:00")
    assert span(hours, "2024-01-07 18:00") == ("Sun 07 18:00", "Mon 08 17:00")
    assert span(hours, "2024-01-08 02:00") == ("Sun 07 18:00", "Mon 08 17:00")
    assert span(hours, "2024-01-08 17:30") is None
    assert span(hours, "2024-01-12 16:59") == ("Thu 11 18:00", "Fri 12 17:00")
    assert span(hours, "2024-01-12 18:00") is None


def test_windows_that_touch_are_one():
    assert span(weekly("Mon-Fri"), "2024-01-10 12:00") == ("Mon 08 00:00", "Sat 13 00:00")
    two = weekly("09:00-12:00", "12:00-15:00")
    assert span(two, "2024-01-05 11:00") == ("Fri 05 09:00", "Fri 05 15:00")
    lunch = weekly("09:00-11:30", "12:30-15:00")
    assert span(lunch, "2024-01-05 12:00") is None


def test_a_market_that_never_closes_has_no_end():
    always = -math.inf, math.inf
    for windows in (["00:00-24:00"], ["18:00-18:00"], ["Mon-Fri", "Sat-Sun", "09:00-12:00"]):
        assert weekly(*windows, tz=NEW_YORK).find(at("2024-01-05 12:00")) == always
    for windows in (["Mon-Sat"], ["00:00-23:59"], ["Mon-Fri", "Sat-Sun 00:00-23:00"]):
        begin, end = weekly(*windows).find(at("2024-01-05 12:00"))
        assert begin <= at("2024-01-05 00:00")
        assert end < at("2024-01-09 00:00")


def test_clocks_open_a_gap_in_windows_that_overlap_by_less_than_they_skip():
    """On 10 March clocks go from 02:00 to 03:00: nothing is open from 03:10 to 03:30."""
    hours = weekly("03:30-03:10", "02:50-03:40", tz=NEW_YORK)
    assert hours.find(at("2024-03-10 07:05")) is not None
    assert hours.find(at("2024-03-10 07:20")) is None
    assert hours.find(at("2024-03-10 07:55")) is not None


@pytest.mark.parametrize("tz", [None, NEW_YORK])
@pytest.mark.parametrize("windows", [("Sun-Thu 18:00-17:00", "Sat 10:00-12:00"), ("Mon-Fri",)])
def test_what_is_laid_out_once_serves_for_weeks_as_if_it_were_new(windows, tz):
    served = weekly(*windows, tz=tz)
    for hour in range(0, 24 * 120, 5):
        time = at("2024-01-05 12:00") + hour / 24.0
        assert served.find(time) == weekly(*windows, tz=tz).find(time)


def test_lists_of_days():
    hours = weekly("Mon,Wed,Fri 10:00-11:00")
    days = [day for day in range(8, 15) if span(hours, f"2024-01-{day:02} 10:30")]
    assert days == [8, 10, 12]
    assert span(weekly("Fri-Mon 10:00-11:00"), "2024-01-09 10:30") is None
    assert span(weekly("fri-mon 10:00-11:00"), "2024-01-07 10:30") is not None


def test_clocks_that_change_move_a_window_in_utc():
    hours = weekly("09:30-16:00", tz=NEW_YORK)
    assert span(hours, "2024-03-08 15:00") == ("Fri 08 14:30", "Fri 08 21:00")
    assert span(hours, "2024-03-11 15:00") == ("Mon 11 13:30", "Mon 11 20:00")  # since 10 March
    assert span(hours, "2024-11-01 15:00") == ("Fri 01 13:30", "Fri 01 20:00")
    assert span(hours, "2024-11-04 15:00") == ("Mon 04 14:30", "Mon 04 21:00")  # since 3 November


@pytest.mark.parametrize(
    ("day", "end"),
    [
        ("2024-11-27", "21:00"),  # the day before Thanksgiving
        ("2024-11-28", None),
        ("2024-11-29", "18:00"),  # a half-day
        ("2024-07-03", "17:00"),
        ("2024-07-04", None),
        ("2024-12-24", "18:00"),
        ("2000-12-25", None),
    ],
)
def test_the_half_days_and_holidays_of_an_exchange(day, end):
    found = span(ExchangeHours("x", "XNYS"), f"{day} 16:00")
    assert (found and found[1][-5:]) == end


def test_the_sessions_of_an_exchange_are_found_in_any_order():
    hours = ExchangeHours("x", "XNYS")
    texts = ["2024-01-05 16:00", "2015-01-06 16:00", "2024-12-24 17:59", "2024-12-24 18:00"]
    assert [span(hours, text) is None for text in texts] == [False, False, False, True]


@pytest.mark.parametrize(
    ("exchange", "time", "expected"),
    [
        ("XHKG", "2024-03-05 03:59", ("Tue 05 01:30", "Tue 05 04:00")),
        ("XHKG", "2024-03-05 04:00", None),
        ("XHKG", "2024-03-05 04:59", None),
        ("XHKG", "2024-03-05 05:00", ("Tue 05 05:00", "Tue 05 08:00")),
        ("XHKG", "2024-12-24 03:00", ("Tue 24 01:30", "Tue 24 04:00")),  # a half-day has no break
        ("XHKG", "2024-12-24 05:00", None),
        ("XTKS", "2024-10-01 02:29", ("Tue 01 00:00", "Tue 01 02:30")),
        ("XTKS", "2024-10-01 03:00", None),
        ("XTKS", "2024-10-01 03:30", ("Tue 01 03:30", "Tue 01 06:00")),
        ("XTKS", "2024-12-02 06:10", ("Mon 02 03:30", "Mon 02 06:30")),  # longer since November
    ],
)
def test_a_break_at_lunch_is_closed_time(exchange, time, expected):
    """Hong Kong pauses from 12:00 to 13:00, Tokyo from 11:30 to 12:30, at UTC+8 and UTC+9."""
    assert span(ExchangeHours("x", exchange), time) == expected


def test_an_unknown_exchange_is_an_error():
    with pytest.raises(ParameterError, match="x: calendar must be the name of a calendar"):
        ExchangeHours("x", "MOON").find(at("2024-01-05 16:00"))


def test_listed_spans_and_what_is_between_them():
    assert merged([(5, 6), (1, 3), (2, 4), (4, 4.5)]) == [(1, 4.5), (5, 6)]
    gaps = ListedSpans(gaps_of([(1, 3), (5, 6)]))
    assert [gaps.find(t) is None for t in (0, 1, 2.9, 3, 4.9, 5, 6, 99)] == [
        *(False, True, True, False),
        *(False, True, False, False),
    ]


@pytest.mark.parametrize(
    "window",
    [
        "",
        "9:30-16:00",
        "09:30",
        "Mon-Xyz 09:30-16:00",
        "09:30-25:00",
        "09:75-16:00",
        930,
        "24:00-25:00",
    ],
)
def test_a_window_is_checked(window):
    with pytest.raises(ParameterError, match="TradingHours: windows must be "):
        WeeklyHours("TradingHours", [window], None)
