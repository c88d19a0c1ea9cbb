"""What a bar can be: odd bars wait for the next one, and move nothing before it agrees."""

import json
import math

import pytest
from helpers.books import book_of, close, fill
from hypothesis import given, settings
from hypothesis import strategies as st

from bt_risk.portfolio.bar_check import suspicion
from bt_risk.portfolio.book import Book
from bt_risk.portfolio.instrument import Instrument

SOUND = (100.0, 101.0, 99.0, 100.5)


@pytest.mark.parametrize(
    ("prices", "reason"),
    [
        (SOUND, ""),
        ((math.nan, 101.0, 99.0, 100.5), ""),
        ((100.0, 101.0, 99.0, 0.0), "its close 0 is not above zero"),
        ((100.0, 101.0, 99.0, -4.0), "its close -4 is not above zero"),
        ((100.0, 99.0, 101.0, 100.5), "its high 99 is below its low 101"),
        ((100.0, 101.0, 99.0, 101.5), "its close 101.5 is outside 99 to 101"),
        ((98.0, 101.0, 99.0, 100.5), "its open 98 is outside 99 to 101"),
        ((100.0, 101.0, 99.0, 101.005), ""),  # adjusted prices are rounded
        ((141.0, 142.0, 139.0, 140.0), ""),  # 20 ATR, the limit itself
        ((141.0, 142.0, 139.0, 140.5), "its close 140.5 is 20 ATR away from 100"),
        ((50.0, 51.0, 49.0, 50.0), "its close 50 is 25 ATR away from 100: a split of 2 to 1?"),
        (
            (1000.0, 1001.0, 999.0, 1000.0),
            "its close 1000 is 450 ATR away from 100: a reverse split of 10 to 1?",
        ),
    ],
)
def test_a_bar_is_suspect_for_one_reason(prices, reason):
    assert suspicion(prices, before=100.0, atr=2.0) == reason


def test_the_tolerance_is_a_tick_where_that_is_more():
    prices = (100.0, 101.0, 99.0, 101.25)
    assert suspicion(prices, 100.0, 2.0).startswith("its close")
    assert suspicion(prices, 100.0, 2.0, tick=0.25) == ""


def test_prices_below_zero_are_real_where_that_is_declared():
    prices = (-4.0, -3.0, -5.0, -4.5)
    assert suspicion(prices, -4.0, 1.0, negative_prices=True) == ""


def test_without_an_atr_or_with_none_as_jump_every_move_is_believed():
    far = (900.0, 901.0, 899.0, 900.0)
    assert suspicion(far, 100.0, math.nan) == ""
    assert suspicion(far, math.nan, 2.0) == ""
    assert suspicion(far, 100.0, 2.0, bar_jump=math.inf) == ""


def bar(book, time, price, high=None, low=None):
    data = book.instruments[0].data
    close(data, float(time), price)
    for line, value in ((data.high, high), (data.low, low)):
        if value is not None:
            line.array[-1] = value
    book.update()
    return book.instruments[0]


def test_a_wrong_bar_changes_nothing_and_is_forgotten_when_the_next_is_right():
    book = book_of()
    seen = bar(book, 5, 1000.0)
    assert seen.suspect == (
        "D0: its close 1000 is 450 ATR away from 100: a reverse split of 10 to 1?"
    )
    assert (seen.price, seen.atr(2), seen.top) == (100.0, 2.0, 101.0)
    assert math.isnan(seen.closed)
    assert book.suspects == {0: seen}
    seen = bar(book, 6, 100.0)
    assert (seen.suspect, seen.price, seen.closed, seen.atr(2)) == ("", 100.0, 100.0, 2.0)
    assert book.suspects == {}


def test_a_move_that_lasts_counts_from_the_second_bar_on_with_the_range_of_both():
    """True ranges 51 (101 - 50 + ...) and 2: ATR(2) is (2 + 51) / 2 = 26.5, then (26.5 + 2) / 2."""
    book = book_of()
    assert bar(book, 5, 50.0).price == 100.0
    seen = bar(book, 6, 50.0)
    assert (seen.price, seen.suspect) == (50.0, "")
    assert seen.atr(2) == pytest.approx(((2.0 + 51.0) / 2 + 2.0) / 2)


def test_two_wrong_bars_that_differ_are_both_wrong():
    book = book_of()
    bar(book, 5, 1000.0)
    seen = bar(book, 6, 5.0)
    assert (seen.price, seen.suspect_bars) == (100.0, 2)
    assert bar(book, 7, 101.0).price == 101.0


def test_a_zero_is_never_agreed_with():
    book = book_of()
    for time in (5, 6, 7):
        seen = bar(book, time, 0.0)
    assert (seen.price, seen.suspect_bars) == (100.0, 3)


def test_high_and_low_swapped_are_never_used():
    book = book_of()
    for time in range(5, 9):
        seen = bar(book, time, 100.0, high=99.0, low=101.0)
    assert seen.suspect == "D0: its high 99 is below its low 101"
    assert seen.atr(2) == 2.0


def test_a_bar_of_contradicting_prices_is_no_second_opinion():
    """The close of the swapped bar is that of the next: it is a jump that nothing has confirmed."""
    book = book_of()
    bar(book, 5, 1000.0, high=999.0, low=1001.0)
    assert bar(book, 6, 1000.0).price == 100.0
    assert bar(book, 7, 1000.0).price == 1000.0


def test_equity_is_in_doubt_while_a_position_has_a_suspect_bar_and_for_a_breaker_for_one_bar():
    book = book_of(2)
    fill(book, 10.0)
    bar(book, 5, 0.0)
    assert book.doubt(bars=1) == book.doubt() == "D0: its close 0 is not above zero"
    bar(book, 6, 0.0)
    assert (book.doubt(bars=1), bool(book.doubt())) == ("", True)
    fill(book, -10.0)
    assert book.doubt() == ""


@settings(max_examples=200, deadline=None)
@given(
    moves=st.lists(st.floats(-0.02, 0.02), min_size=5, max_size=30),
    wrong=st.floats(3.0, 1000.0) | st.floats(-10.0, 0.3),
    place=st.integers(3, 100),
)
def test_one_wrong_bar_among_sound_ones_leaves_no_trace(moves, wrong, place):
    """Its ATR is that of the sound bars alone, for whatever the wrong close is."""
    sound = book_of(bars=20)
    odd = book_of(bars=20)
    price, place = 100.0, place % len(moves)
    for time, move in enumerate(moves, 20):
        if time - 20 == place:
            assert bar(odd, time, price * wrong).suspect
        price *= 1.0 + move
        one, other = bar(sound, time, price), bar(odd, time + 0.5, price)
    assert (one.price, one.atr(2)) == (other.price, other.atr(2))


def test_a_feed_without_prices_has_bars_and_no_price():
    class Quotes:
        def __init__(self):
            self.datetime = book_of().instruments[0].data.datetime

    instrument = Instrument(Quotes(), name="Q")
    book = Book([instrument])
    assert book.update() == [instrument]
    assert math.isnan(instrument.price)
    assert instrument.why_unknown() == "Q has no open, high, low and close"


# -- both ways, and across a restart -------------------------------------------------------------


@pytest.mark.parametrize(
    ("price", "believed"), [(60.0, 60.0), (140.0, 140.0), (59, 100), (141, 100)]
)
def test_a_jump_up_and_a_jump_down_wait_for_the_next_bar(price, believed):
    """20 x 2 is how far a close may be from 100."""
    assert bar(book_of(), 5, float(price)).price == believed


def again(saved):
    """Return a new book that goes on where an instrument was saved."""
    book = book_of(bars=0)
    book.instruments[0].restore(json.loads(json.dumps(saved)))
    return book


@pytest.mark.parametrize("price", [59.0, 141.0])
def test_the_first_bar_after_a_restart_is_questioned_like_any_other(price):
    saved = book_of().instruments[0].persist()
    seen = bar(again(saved), 4, price)
    assert (seen.price, seen.atr(2)) == (100.0, 2.0)
    assert "ATR away from 100" in seen.suspect
    assert bar(again(saved), 4, 100.0).suspect == ""


def test_after_a_long_time_without_a_run_any_price_is_believed():
    """Bars came every day until day 3, and the next comes on day 9: the ATR begins anew."""
    seen = bar(again(book_of().instruments[0].persist()), 9, 141.0)
    assert (seen.price, seen.suspect) == (141.0, "")
    assert math.isnan(seen.atr(2))
