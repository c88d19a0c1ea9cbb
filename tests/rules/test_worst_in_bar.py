import math

import pytest

from bt_risk.rules.worst_in_bar import worst_in_bar

NAN, INF = math.nan, math.inf
BAR = 100.0, 104.0, 90.0, 101.0  # open, high, low, close


@pytest.mark.parametrize(
    ("size", "stops", "change"),
    [
        (10, [], 10 * (90 - 101)),
        (-10, [], -10 * (104 - 101)),
        (10, [(95.0, 10)], 10 * (95 - 101)),
        (-10, [(103.0, 10)], -10 * (103 - 101)),
        (10, [(89.0, 10)], 10 * (90 - 101)),  # not reached
        (10, [(90.0, 10)], 10 * (90 - 101)),
        (10, [(102.0, 10)], 10 * (100 - 101)),  # the bar begins beyond it: the open
        (-10, [(99.0, 10)], 0.0),  # filled at the open, 100, and the close is higher
        (10, [(95.0, 4)], 4 * (95 - 101) + 6 * (90 - 101)),
        (10, [(92.0, 10), (96.0, 4)], 4 * (96 - 101) + 6 * (92 - 101)),  # the nearest first
        (10, [(95.0, 30)], 10 * (95 - 101)),  # no more than is held
        (10, [(95.0, 8), (93.0, 8)], 8 * (95 - 101) + 2 * (93 - 101)),
        (0.5, [], 0.5 * (90 - 101)),
    ],
)
def test_a_bar_at_its_worst(size, stops, change):
    assert worst_in_bar(size, *BAR, stops) == pytest.approx(change)


def test_a_price_below_zero_is_a_price():
    assert worst_in_bar(2, -10.0, -5.0, -40.0, -12.0) == -56.0
    assert worst_in_bar(-2, -10.0, 3.0, -40.0, -12.0) == -30.0
    assert worst_in_bar(2, -10.0, -5.0, -40.0, -12.0, [(-20.0, 2)]) == -16.0


def test_a_stop_whose_bar_has_no_open_filled_as_badly_as_it_can_have():
    assert worst_in_bar(10, NAN, 104.0, 90.0, 101.0, [(95.0, 10)]) == 10 * (90 - 101)


@pytest.mark.parametrize(
    "bar",
    [
        (100.0, NAN, 90.0, 101.0),
        (100.0, 104.0, NAN, 101.0),
        (100.0, 104.0, -INF, 101.0),
        (100.0, 104.0, 90.0, NAN),
        (100.0, 90.0, 104.0, 101.0),
    ],
)
def test_a_bar_that_cannot_be_true_tells_nothing(bar):
    assert math.isnan(worst_in_bar(10, *bar))


def test_a_close_that_rounding_puts_below_the_low_is_the_worst_itself():
    assert worst_in_bar(10, 100.0, 101.0, 99.0, 98.9999) == 0.0
    assert worst_in_bar(-10, 100.0, 101.0, 99.0, 101.0001) == 0.0
