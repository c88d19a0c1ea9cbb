"""The book by hand, without Backtrader: positions, working orders, what is at stake."""

import math
from types import SimpleNamespace

import pytest
from helpers.books import ME, NAN, OTHER, book_of, close, fill, work

from bt_risk.portfolio.preview import OrderTerms, preview_order
from bt_risk.portfolio.reachable import book_claims

# -- bars ----------------------------------------------------------------------------------------


def test_update_returns_only_what_has_a_new_bar():
    book = book_of(2)
    close(book.instruments[1].data, 9.0, 101.0)
    assert [i.name for i in book.update()] == ["D1"]
    assert book.update() == []
    assert (book.instruments[1].price, book.instruments[1].time) == (101.0, 9.0)


def test_the_stop_distance_is_a_multiple_of_the_atr_and_unknown_before_it():
    assert book_of(bars=3).instruments[0].stop_distance() == 4.0
    assert math.isnan(book_of(bars=2).instruments[0].stop_distance())
    assert book_of(bars=2).instruments[0].why_unknown() == "ATR(2) needs 3 bars, D0 has 2"


def test_a_bar_of_nan_counts_but_says_nothing():
    book = book_of()
    instrument = book.instruments[0]
    close(instrument.data, 9.0, NAN)
    book.update()
    assert (instrument.length, instrument.price, instrument.stop_distance()) == (5, 100.0, 4.0)
    assert math.isnan(instrument.closed)
    assert instrument.suspect == ""


# -- positions and trades ------------------------------------------------------------------------


def test_a_trade_runs_from_flat_to_flat():
    """10 at 100, 10 at 110 (mean 105), -5 at 120: +75; -15 at 100: -75. Commission 4 x 1."""
    book = book_of()
    part = fill(book, 10, 100.0, 1.0)
    fill(book, 10, 110.0, 1.0)
    assert (part.price, part.size, part.entry) == (105.0, 20, 100.0)
    fill(book, -5, 120.0, 1.0)
    assert book.trades == []
    fill(book, -15, 100.0, 1.0)
    (trade,) = book.trades
    assert (trade.side, trade.size, trade.pnl) == (1, 20, -4.0)
    assert trade.r_multiple == pytest.approx(-4.0 / (4.0 * 20))
    assert part.size == book.instruments[0].size == 0


def test_a_reversal_closes_one_trade_and_opens_the_next():
    """Of 30 sold 10 close: a third of the commission of 3 belongs to the first trade."""
    book = book_of()
    part = fill(book, 10, 100.0)
    number = part.number
    fill(book, -30, 104.0, 3.0, distance=8.0)
    assert book.trades[0].pnl == pytest.approx(40.0 - 1.0)
    assert (part.size, part.entry, part.stop_distance) == (-20, 104.0, 8.0)
    assert part.number == number + 1
    fill(book, 20, 100.0)
    assert book.trades[1].pnl == pytest.approx(80.0 - 2.0)
    assert book.trades[1].r_multiple == pytest.approx(78.0 / (8.0 * 20))


def test_the_multiplier_counts_in_pnl_and_risk():
    book = book_of()
    book.instruments[0].multiplier = 50.0
    fill(book, -2, 100.0, distance=4.0)
    fill(book, 2, 98.0)
    assert book.trades[0].pnl == 200.0
    assert book.trades[0].r_multiple == 0.5


def test_a_rest_of_rounding_is_flat():
    book = book_of()
    part = fill(book, 0.3)
    for _ in range(3):
        fill(book, -0.1)
    assert part.size == 0.0
    assert len(book.trades) == 1


def test_two_owners_have_parts_that_add_up():
    book = book_of()
    fill(book, 10)
    fill(book, 5, owner=OTHER)
    assert book.instruments[0].size == 15
    fill(book, -10)
    assert [p.size for p in book.instruments[0].parts] == [0, 5]
    assert [trade.owner for trade in book.trades] == [ME]


def test_owners_that_offset_each_other_hold_their_parts():
    """The broker is flat, and both are at risk: the stop of each part fills alone."""
    book = book_of()
    fill(book, 10, 100.0)
    fill(book, -10, 104.0, owner=OTHER)
    instrument = book.instruments[0]
    assert [p.size for p in instrument.parts] == [10, -10]
    assert (instrument.size, instrument.held, book.opposed) == (0, True, {0})
    assert book.trades == []
    exposure = book.exposure
    assert [exposure.of(instrument, side, "notional") for side in (1, -1)] == [1000, 1000]
    assert [exposure.of_side(side) for side in (1, -1)] == [40, 40]
    assert exposure.gross(instrument, "notional") == 0
    assert exposure.net(instrument, "new", 1, "notional") == 0
    assert exposure.of_owner(instrument, ME, -1, "risk") == 0


# -- what an order would do ----------------------------------------------------------------------


def split(book, side, size, owner=ME, kind="market"):
    terms = OrderTerms(kind, 100.0)
    preview = preview_order(book, book.instruments[0], owner, side, size, terms)
    return preview.closing, preview.opening, preview.void


@pytest.mark.parametrize(
    ("held", "side", "size", "expected"),
    [
        (0, 1, 10, (0, 10, 0)),
        (10, 1, 5, (0, 5, 0)),
        (10, -1, 4, (4, 0, 0)),
        (10, -1, 10, (10, 0, 0)),
        (10, -1, 25, (10, 15, 0)),
        (-10, 1, 25, (10, 15, 0)),
        (-10, -1, 5, (0, 5, 0)),
    ],
)
def test_an_order_is_split_in_what_closes_and_what_opens(held, side, size, expected):
    book = book_of()
    if held:
        fill(book, held)
    assert split(book, side, size) == expected


def test_market_orders_are_those_that_work():
    book = book_of()
    work(book, 1, 1, 10, kind="market")
    work(book, 2, -1, 10, kind="stop")
    assert list(book.market_orders) == [1]
    book.rekey(book.working[1], SimpleNamespace(ref=7))
    book.rekey(book.working[2], SimpleNamespace(ref=8))
    assert book.market_orders == {7: book.working[7]}
    book.drop(8)
    book.drop(7)
    assert not book.market_orders


def test_what_working_exits_will_close_is_not_closed_again():
    book = book_of()
    fill(book, 10)
    work(book, 1, -1, 6, opening=0)
    assert split(book, -1, 10, kind="limit") == (4, 6, 0)
    assert split(book, -1, 10, kind="stop") == (10, 0, 0)
    assert split(book, -1, 10) == (10, 0, 0)


def test_alternatives_close_once():
    book = book_of()
    fill(book, 10)
    work(book, 1, -1, 6, opening=0, group="oco")
    work(book, 2, -1, 6, opening=0, group="oco")
    assert split(book, -1, 10, kind="limit") == (4, 6, 0)


def test_our_own_stop_and_waiting_children_are_no_exits_of_the_user():
    book = book_of()
    fill(book, 10)
    work(book, 1, -1, 10, opening=0, kind="stop", own=True)
    work(book, 2, 1, 5)
    work(book, 3, -1, 5, opening=0, parent=2)
    assert split(book, -1, 10, kind="limit") == (10, 0, 0)
    book.drop(2)
    assert split(book, -1, 10, kind="limit") == (5, 5, 0)


def test_what_a_trim_cut_is_void_on_the_way_out():
    """It asked for 1,000, got 500, sells 1,000: flat. What exceeds 1,000 opens."""
    book = book_of()
    part = fill(book, 500)
    part.lost, part.lost_side = 500.0, 1
    assert split(book, -1, 1000) == (500, 0, 500)
    assert split(book, -1, 1200) == (500, 200, 500)
    assert split(book, 1, 100) == (0, 100, 0)
    fill(book, -500)
    assert split(book, -1, 100) == (0, 100, 0)


# -- what is at stake ----------------------------------------------------------------------------


def test_risk_is_that_of_the_nearest_stops_and_the_atr_for_the_rest():
    """5 at 1 point, 3 at 2 points, and the 2 left at 4: 5 + 6 + 8."""
    book = book_of()
    fill(book, 10)
    work(book, 1, -1, 3, opening=0, kind="stop", price=98.0)
    work(book, 2, -1, 5, opening=0, kind="stop", price=99.0, own=True)
    assert book.exposure.position_risk(book.instruments[0]) == 19.0


@pytest.mark.parametrize(("side", "price", "risk"), [(1, 98.0, 20.0), (-1, 102.0, 20.0)])
def test_a_stop_on_the_right_side_bounds_the_risk(side, price, risk):
    book = book_of()
    fill(book, 10 * side)
    work(book, 1, -side, 10, opening=0, kind="stop", price=price)
    assert book.exposure.position_risk(book.instruments[0]) == risk


def test_risk_is_unknown_without_stop_and_atr():
    book = book_of(bars=2)
    fill(book, 10, distance=4.0)
    assert math.isnan(book.exposure.position_risk(book.instruments[0]))


def test_held_and_working_orders_of_one_side_add_up():
    """Held 10 at 4; a working entry of 5 at its own 3: 55. The exit and the short do not count."""
    book = book_of()
    instrument = book.instruments[0]
    fill(book, 10)
    work(book, 1, 1, 5, distance=3.0, price=90.0)
    work(book, 2, -1, 10, opening=0)
    work(book, 3, -1, 7, distance=2.0, price=120.0)
    assert book.exposure.of(instrument, 1, "trade") == 55.0
    assert book.exposure.of(instrument, -1, "trade") == 14.0
    assert book.exposure.of(instrument, 1, "notional") == 1000.0 + 450.0
    assert book.exposure.of(instrument, -1, "notional") == 840.0


def test_alternative_entries_count_once_with_the_larger_stake():
    book = book_of()
    work(book, 1, 1, 5, group="oco", distance=3.0)
    work(book, 2, 1, 5, group="oco", distance=4.0)
    assert book.exposure.of(book.instruments[0], 1, "trade") == 20.0


def test_exposure_adds_the_instruments_of_a_side():
    book = book_of(3)
    fill(book, 10, index=0)
    work(book, 1, 1, 5, index=1)
    fill(book, -3, index=2)
    assert book.exposure.of_side(1) == 60.0
    assert book.exposure.of_side(-1) == 12.0
    assert book.exposure.of_side(1, "notional") == 1500.0
    assert [i.name for i in book.exposure.live()] == ["D0", "D1", "D2"]


def test_a_partial_fill_takes_what_closes_first():
    book = book_of()
    part = fill(book, 10)
    working = work(book, 1, -1, 25, opening=15)
    assert book_claims(part, working, 4) == 0
    fill(book, -4)
    assert (working.remaining, working.opening, working.closing) == (21, 15, 6)
    assert book_claims(part, working, 11) == 0
    assert (working.remaining, working.opening, working.closing) == (10, 10, 0)


def test_dropping_an_unknown_order_is_nothing():
    book = book_of()
    book.drop(99)
    assert book.working == {}


# -- several stops, and what rounding leaves -----------------------------------------------------


@pytest.mark.parametrize("order", [1, -1], ids=["nearest first", "farthest first"])
def test_the_nearest_stop_covers_where_there_is_more_than_one(order):
    book = book_of()
    fill(book, 10)
    for ref, price in enumerate([98.0, 95.0][::order]):
        work(book, ref, -1, 10, opening=0, kind="stop", price=price)
    assert book.exposure.position_risk(book.instruments[0]) == 20.0


def test_a_rest_of_rounding_is_flat_although_another_strategy_holds_some():
    book = book_of()
    fill(book, 5, owner="another")
    for _ in range(3):
        fill(book, 0.1)
    part = fill(book, -0.3)
    assert part.size == 0.0
    assert len(book.trades) == 1


# -- budgets that shrink -------------------------------------------------------------------------


def test_of_several_tapering_breakers_the_smallest_scale_counts():
    """A breaker that lets go of its own scale leaves that of the other."""
    book = book_of()
    first, second = object(), object()
    scales = []
    for source, scale in ((first, 0.5), (second, 0.8), (second, 0.2), (second, 1.0), (first, 1.0)):
        book.set_risk_scale(source, scale)
        scales.append(book.risk_scale)
    assert scales == [0.5, 0.5, 0.2, 0.5, 1.0]
