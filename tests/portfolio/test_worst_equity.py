import math

import pytest
from helpers.books import OTHER, Line, book_of, close, fill, work

from bt_risk.portfolio.worst_equity import worst_change


def bar(book, *bars, time=10.0):
    """Add a bar of ``(close, high, low)`` to each instrument, and return those that are new.

    It opens at 99.
    """
    for instrument, prices in zip(book.instruments, bars, strict=True):
        if prices is not None:
            price, high, low = prices
            close(instrument.data, time, price)
            instrument.data.high.array[-1], instrument.data.low.array[-1] = high, low
    fresh = book.update()
    for instrument in fresh:
        opens_at(instrument, 99.0)
    return fresh


def opens_at(instrument, price):
    instrument.open = Line()
    instrument.open.add(price)


def test_longs_count_at_the_low_and_shorts_at_the_high():
    book = book_of(2)
    fill(book, 10)
    fill(book, -4, index=1)
    assert worst_change(book, bar(book, (100, 103, 93), (100, 105, 99))) == -70 - 20


def test_a_future_counts_with_its_multiplier():
    book = book_of(1)
    fill(book, 2)
    book.instruments[0].multiplier = 50.0
    assert worst_change(book, bar(book, (100, 103, 93))) == -7 * 2 * 50


def test_an_instrument_without_a_new_bar_stands_at_its_last_close():
    book = book_of(2)
    fill(book, 10)
    fill(book, 10, index=1)
    assert worst_change(book, bar(book, (100, 103, 93), None)) == -70
    assert worst_change(book, []) == 0.0


def test_both_sides_of_two_owners_count():
    book = book_of(1)
    fill(book, 10)
    fill(book, -10, owner=OTHER)
    fresh = bar(book, (100, 103, 93))
    assert worst_change(book, fresh) == -70 - 30
    assert worst_change(book, fresh, key=(0, 1)) == -70
    assert worst_change(book, fresh, key=(None, -1)) == -30
    assert worst_change(book, fresh, key=(1, 0)) == 0.0


def test_a_stop_that_rests_at_a_venue_counts_at_its_price():
    book = book_of(1)
    fill(book, 10)
    work(book, 1, -1, 10, opening=0.0, kind="stop", price=96.0)
    fresh = bar(book, (98, 101, 93))
    assert worst_change(book, fresh, resting=True) == 10 * (96 - 98)
    opens_at(book.instruments[0], 95.0)
    assert worst_change(book, fresh, resting=True) == 10 * (95 - 98)
    # A simulation would have filled it: what is held there was held through the bar.
    assert worst_change(book, fresh) == 10 * (93 - 98)


@pytest.mark.parametrize(
    "order",
    [
        dict(kind="limit"),
        dict(owner=OTHER),
        dict(side=1),
        dict(assumed="unknown"),
        dict(set_at=(5, -math.inf)),  # at the close of this bar
        dict(opening=10.0),  # it would open, and covers nothing
    ],
)
def test_what_does_not_rest_behind_the_position_covers_nothing(order):
    book = book_of(1)
    fill(book, 10)
    given = dict(side=-1, opening=0.0, kind="stop", price=96.0) | order
    work(book, 1, given.pop("side"), 10, given.pop("opening"), **given)
    fresh = bar(book, (98, 101, 93))
    assert worst_change(book, fresh, resting=True) == 10 * (93 - 98)


@pytest.mark.parametrize(
    "prices",
    [
        (100, 93, 103),  # swapped
        (100, math.nan, 93),
        (100, 103, math.nan),
        (100, 103, -math.inf),
        (math.nan, 103, 93),
        (160, 161, 93),  # 30 ATR away: the next bar has to agree
    ],
)
def test_a_bar_that_is_not_believed_tells_nothing(prices):
    book = book_of(1)
    fill(book, 10)
    assert worst_change(book, bar(book, prices)) == 0.0


def test_a_bar_that_the_next_one_confirms_counts_with_that_one():
    book = book_of(1)
    fill(book, 10)
    bar(book, (160, 161, 93))
    book.instruments[0].open = None
    assert worst_change(book, bar(book, (160, 161, 158), time=11.0)) == -20
