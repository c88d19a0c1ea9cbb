import pandas as pd
import pytest
from backtrader import date2num

from bt_risk.errors import ParameterError
from bt_risk.rules.funding import FundingRates

ROWS = [("2024-01-01 00:00", 0.0001), ("2024-01-01 08:00", -0.0002), ("2024-01-01 16:00", 0.0003)]


def at(text):
    return date2num(pd.Timestamp(text).to_pydatetime())


def test_rates_between_two_bars_are_summed_the_later_end_included():
    rates = FundingRates.read("it", ROWS)
    assert rates.between(at("2024-01-01 00:00"), at("2024-01-01 08:00")) == pytest.approx(-0.0002)
    assert rates.between(at("2023-12-31"), at("2024-01-02")) == pytest.approx(0.0002)
    assert rates.between(at("2024-01-01 16:00"), at("2025-01-01")) == 0.0


def test_a_file_a_series_and_a_frame_are_the_same(tmp_path):
    path = tmp_path / "funding.csv"
    path.write_text("time,rate\n" + "\n".join(f"{time},{rate}" for time, rate in ROWS))
    index = pd.DatetimeIndex([time for time, _ in ROWS], tz="UTC")
    series = pd.Series([rate for _, rate in ROWS], index)
    expected = FundingRates.read("it", ROWS).rows
    for given in (path, str(path), series, series.tz_localize(None), series.to_frame()):
        assert FundingRates.read("it", given).rows == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (0.0001, "funding must be rows of a time and a rate"),
        ([(1, 0.0001)], "funding must be dates and times; got 1"),
        ([("soon", 0.0001)], "funding must be dates and times; got 'soon'"),
        ([("2024-01-01", 1.5)], r"funding must be rates in \(-1, 1\); got 1.5"),
        ([("2024-01-01", float("nan"))], r"funding must be rates in \(-1, 1\)"),
        ([("2024-01-01", 0.1), ("2024-01-01", 0.2)], "funding must be one rate for each time"),
        ("nowhere.csv", "funding must be an existing file; got 'nowhere.csv'"),
    ],
)
def test_what_is_no_series_of_rates_is_refused(given, message):
    with pytest.raises(ParameterError, match=message):
        FundingRates.read("it", given)
