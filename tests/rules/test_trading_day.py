import datetime as dt
import math
from zoneinfo import ZoneInfo, available_timezones

import backtrader as bt
import pytest
import pytz
from hypothesis import example, given
from hypothesis import strategies as st

from bt_risk.errors import ParameterError
from bt_risk.rules.trading_day import TradingDay, check_reset, date_number, moment

PRAGUE = ZoneInfo("Europe/Prague")


def at(text):
    return bt.date2num(dt.datetime.fromisoformat(text))


def span(day, text):
    return tuple(str(moment(edge(at(text)))) for edge in (day.begin, day.end))


MOMENTS = ["2024-01-01 18:00", "2024-03-31 01:00", "2024-07-04 16:59:59", "1999-12-31 23:59:59"]


@pytest.mark.parametrize("text", MOMENTS)
def test_date_numbers_are_those_of_backtrader_to_the_last_digit(text):
    then = dt.datetime.fromisoformat(text)
    assert date_number(then) == bt.date2num(then)
    assert moment(bt.date2num(then)) == then


def test_the_last_moment_of_a_date_stays_on_it():
    # Backtrader stamps daily bars of a CSV file so.
    assert moment(at("2024-01-01 23:59:59.999990")).date() == dt.date(2024, 1, 1)


def test_a_day_begins_at_the_reset_time_and_ends_a_day_later():
    day = check_reset("x", "reset", "17:00 America/New_York")
    assert span(day, "2024-01-10 21:59") == ("2024-01-09 22:00:00", "2024-01-10 22:00:00")
    assert span(day, "2024-01-10 22:00") == ("2024-01-10 22:00:00", "2024-01-11 22:00:00")
    assert day.date(at("2024-01-10 21:59")) == dt.date(2024, 1, 10)
    assert day.date(at("2024-01-10 22:00")) == dt.date(2024, 1, 11)


def test_midnight_in_a_zone_moves_with_its_clocks():
    day = check_reset("x", "reset", "00:00 Europe/Prague")
    # Clocks went forward on 31 March 2024 and back on 27 October: 23 and 25 hours.
    assert span(day, "2024-03-30 12:00") == ("2024-03-29 23:00:00", "2024-03-30 23:00:00")
    assert span(day, "2024-03-31 12:00") == ("2024-03-30 23:00:00", "2024-03-31 22:00:00")
    assert span(day, "2024-10-27 12:00") == ("2024-10-26 22:00:00", "2024-10-27 23:00:00")
    assert day.date(at("2024-10-26 22:00")) == dt.date(2024, 10, 27)


@pytest.mark.parametrize("tz", [PRAGUE, pytz.timezone("Europe/Prague")])
def test_a_reset_that_clocks_skip_comes_when_they_have_skipped_it(tz):
    day = TradingDay(dt.time(2, 30), tz)
    assert span(day, "2024-03-31 01:29") == ("2024-03-30 01:30:00", "2024-03-31 01:30:00")
    assert span(day, "2024-03-31 01:30") == ("2024-03-31 01:30:00", "2024-04-01 00:30:00")


ZONES = ["Europe/Prague", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "UTC"]


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("reset", ["00:00", "02:30", "17:07:11"])
def test_days_one_after_the_other_are_those_that_are_found_alone(zone, reset):
    """Most often a day begins 24 hours after the one before it, to the last digit."""
    first, time = at("2023-02-27 11:00"), dt.time.fromisoformat(reset)
    after = reset == "02:30"
    for tz in (ZoneInfo(zone), pytz.timezone(zone)):
        day = TradingDay(time, tz, after)
        for noon in [first + number for number in range(300)]:
            assert day.span(noon) == TradingDay(time, tz, after).span(noon)


def test_a_reset_that_clocks_show_twice_begins_one_day():
    day = TradingDay(dt.time(2, 30), PRAGUE)
    begins = [day.begin(at("2024-10-26 12:00") + hour / 24) for hour in range(48)]
    assert sorted(set(begins)) == [
        at("2024-10-26 00:30"),
        at("2024-10-27 00:30"),
        at("2024-10-28 01:30"),
    ]


def test_a_session_over_midnight_is_one_day_with_its_last_bar():
    day = TradingDay.of_session(dt.time(18), dt.time(17), None)
    monday = ["2020-01-05 18:00", "2020-01-05 23:00", "2020-01-06 00:00", "2020-01-06 17:00"]
    assert len({day.begin(at(text)) for text in monday}) == 1
    assert {day.date(at(text)) for text in monday} == {dt.date(2020, 1, 6)}
    later = ["2020-01-06 17:01", "2020-01-06 18:00", "2020-01-07 16:00"]
    assert {day.date(at(text)) for text in later} == {dt.date(2020, 1, 7)}
    assert day.begin(at("2020-01-06 17:00")) < day.begin(at("2020-01-06 17:01"))


def test_a_session_around_the_clock_begins_with_its_first_bar():
    day = TradingDay.of_session(dt.time(17), dt.time(17), pytz.timezone("America/New_York"))
    assert span(day, "2024-07-01 21:00") == ("2024-07-01 21:00:00", "2024-07-02 21:00:00")


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (dt.time(9, 30), dt.time(16)),
        (dt.time.min, dt.time(23, 59, 59, 999990)),
        (dt.time.min, dt.time.min),
        (dt.time(18), dt.time(23, 59, 59, 999990)),
    ],
)
def test_a_session_of_one_date_has_no_days_of_its_own(start, end):
    assert TradingDay.of_session(start, end, None) is None


def test_an_unknown_time_is_on_no_day():
    day = TradingDay(dt.time.min)
    assert math.isnan(day.begin(math.nan))
    assert math.isnan(day.end(math.inf))


def test_days_are_found_in_any_order():
    day = check_reset("x", "reset", "00:00 UTC")
    texts = ["2024-05-03 10:00", "2024-05-01 10:00", "2024-05-02 00:00", "2024-05-01 23:59"]
    assert [day.date(at(text)).day for text in texts] == [3, 1, 2, 1]


def test_the_session_of_the_data_feed_has_no_reset_time():
    assert check_reset("x", "reset", "session") is None


@pytest.mark.parametrize(
    ("value", "constraint"),
    [
        ("00:00", "'session', or a time and a zone"),
        ("Europe/Prague", "'session', or a time and a zone"),
        ("25:00 UTC", "'session', or a time and a zone"),
        ("00:00+01:00 UTC", "'session', or a time and a zone"),
        (None, "'session', or a time and a zone"),
        (0, "'session', or a time and a zone"),
        ("00:00 Europe/Atlantis", "the name of a time zone"),
        ("00:00 ../etc", "the name of a time zone"),
    ],
)
def test_a_reset_is_checked(value, constraint):
    with pytest.raises(ParameterError, match=r"DailyLossLimit: reset must be") as raised:
        check_reset("DailyLossLimit", "reset", value)
    assert constraint in str(raised.value)


@given(
    st.sampled_from(sorted(available_timezones())),
    st.datetimes(dt.datetime(1945, 1, 1), dt.datetime(2037, 1, 1)),
    st.times(),
)
@example("Europe/Prague", dt.datetime(2024, 10, 27, 12), dt.time(0))
@example("Antarctica/Troll", dt.datetime(2024, 10, 27, 0, 30), dt.time(0))
@example("Antarctica/Vostok", dt.datetime(1994, 1, 31, 20), dt.time(0))
@example("Pacific/Kwajalein", dt.datetime(1969, 9, 30, 20), dt.time(0))
@example("UTC", dt.datetime(2024, 10, 27, 12), dt.time(17))
def test_no_day_is_longer_than_the_longest(name, time, reset):
    day, now = TradingDay(reset, ZoneInfo(name)), date_number(time)
    begin, end = day.span(now)
    assert end - begin <= day.longest(now) <= 2.0


def test_days_of_utc_have_24_hours():
    zones = None, ZoneInfo("UTC"), pytz.utc, dt.UTC
    assert {TradingDay(dt.time(0), tz).longest(738_886.0) for tz in zones} == {1.0}
