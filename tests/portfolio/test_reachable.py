"""What working orders can close and open: every function by hand, on a book without Backtrader."""

import math

import pytest
from helpers.books import ME, NAN, OTHER, book_of, fill, work

from bt_risk.portfolio.preview import OrderTerms, exiting, preview_order
from bt_risk.portfolio.reachable import (
    allowed_fill,
    book_claims,
    certain,
    claims,
    coming,
    entering,
    held_for,
    market_exits,
    note_dormant,
    opens_now,
    opposed,
    orders_of,
    parts_closed,
    stranded,
)


def holding(size, owner=ME, book=None):
    """Return a book and the part of an owner that holds so much."""
    book = book_of() if book is None else book
    part = book.part(book.instruments[0], owner)
    return (book, fill(book, size, owner=owner)) if size else (book, part)


def parts_of(working):
    return working.closing, working.opening, working.remaining


def preview(book, side, size, kind="market", owner=ME, **terms):
    terms = OrderTerms(kind, terms.pop("price", 100.0), **terms)
    return preview_order(book, book.instruments[0], owner, side, size, terms)


def split(*args, **kwargs):
    one = preview(*args, **kwargs)
    return one.closing, one.opening, one.reduces


@pytest.mark.parametrize(
    ("sizes", "found"),
    [((), False), ((60,), False), ((60, 20), False), ((-60, -20), False), ((60, -20), True)],
)
def test_owners_are_opposed_where_one_is_long_and_another_short(sizes, found):
    book = book_of()
    for size, owner in zip(sizes, (ME, OTHER), strict=False):
        fill(book, size, owner=owner)
    assert opposed(book.instruments[0]) is found


# -- whose orders, and what they find --------------------------------------------------------------


def test_orders_of_an_owner_are_those_that_are_judged_and_not_ours():
    book, part = holding(10)
    mine = work(book, 1, -1, 5)
    work(book, 2, -1, 5, owner=OTHER)
    work(book, 3, -1, 5, own=True)
    work(book, 4, -1, 5, waits=True)
    work(book, 5, 1, 5)
    assert orders_of(part, -1) == [mine]


def test_close_finds_what_all_owners_hold_and_closes_its_own_first():
    """15 against 10 of its own, 3 and 4: 10, the first of the others, and 2 of the second."""
    book, mine = holding(10)
    _, first = holding(3, "first", book)
    _, second = holding(4, "second", book)
    holding(-2, "short", book)
    assert (held_for(mine, -1, True), held_for(mine, -1, False), held_for(mine, 1, True)) == (
        17,
        10,
        2,
    )
    assert list(parts_closed(mine, -1, 15, True)) == [(first, 3), (second, 2), (mine, 10)]
    assert list(parts_closed(mine, -1, 15, False)) == [(mine, 15)]
    assert list(parts_closed(mine, -1, 20, True)) == [(first, 3), (second, 4), (mine, 13)]


def test_market_exits_of_several_owners_close_each_unit_once():
    """10, 6 and 9 are held. The first exit is of 2, and leaves 4 to the second, from close()."""
    book, mine = holding(10)
    _, second = holding(6, "second", book)
    _, third = holding(9, "third", book)
    holding(-2, "short", book)
    instrument = mine.instrument
    one = work(book, 1, -1, 2, opening=0, kind="market", owner="second")
    all_ = work(book, 2, -1, 16, opening=0, kind="market", shared=True)
    work(book, 3, -1, 5, opening=0, kind="market", waits=True)
    work(book, 4, -1, 5, opening=0, kind="limit")
    own = work(book, 5, -1, 9, opening=0, kind="market", owner="third", own=True)
    expected = [(one, second, 2), (all_, mine, 10), (all_, second, 4), (all_, third, 2)]
    assert list(market_exits(instrument, -1)) == [*expected, (own, third, 7)]
    assert list(market_exits(instrument, 1)) == []
    # Of the owner's own exits the claim counts, of others' what they close here.
    assert [exiting(part, -1) for part in (mine, second, third)] == [16, 6, 2]
    work(book, 6, -1, 3, opening=0, kind="close", owner="third")
    assert exiting(third, -1) == 2 + 3


def test_only_what_close_has_sent_closes_what_others_hold():
    book, mine = holding(10)
    _, other = holding(6, OTHER, book)
    order = work(book, 1, -1, 16, opening=0, kind="market")
    assert [exiting(part, -1) for part in (mine, other)] == [16, 0]
    order.shared = True
    assert [exiting(part, -1) for part in (mine, other)] == [16, 6]


# -- which entry fills before an order -------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "kind", "price", "trails", "expected"),
    [
        ("market", "market", 100.0, False, True),
        ("market", "stop", 105.0, True, True),
        ("close", "market", 100.0, False, False),
        ("limit", "stop", 95.0, False, True),  # the price passes 100 before it reaches 95
        ("limit", "stop", 105.0, False, False),
        ("limit", "stop", 100.0, False, False),
        ("limit", "stop", 95.0, True, False),  # a trailing stop may rise above 100
        ("limit", "limit", 95.0, False, False),
        ("limit", "market", 95.0, False, False),
        ("stop", "stop", 95.0, False, False),
    ],
)
@pytest.mark.parametrize("side", [1, -1])
def test_an_entry_is_certain_if_its_price_is_passed_before_the_order_fills(
    side, entry, kind, price, trails, expected
):
    book = book_of()
    bought = work(book, 1, side, 10, kind=entry, price=100.0)
    price = 100.0 + side * (price - 100.0)
    assert certain(bought, kind, -side, price, trails) is expected


def test_of_the_alternatives_that_come_the_largest_counts_and_exits_do_not():
    book, part = holding(0)
    first = work(book, 1, 1, 4, kind="market", group="oco")
    work(book, 2, 1, 6, kind="market", group="oco")
    work(book, 3, 1, 5, kind="market", opening=0)
    work(book, 4, 1, 3, kind="market")
    assert coming(part, "market", -1, 100.0) == 6 + 3
    assert coming(part, "market", -1, 100.0, order=first) == 6 + 3
    assert coming(part, "market", 1, 100.0) == 0


# -- what exits claim ------------------------------------------------------------------------------


def test_claims_are_those_of_some_accounts_without_the_own_group_and_waiting_children():
    book, part = holding(20)
    work(book, 1, -1, 5, opening=0, kind="market")
    work(book, 2, -1, 4, opening=0, kind="limit", group="oco")
    work(book, 3, -1, 6, opening=0, kind="stop", group="oco")
    work(book, 4, 1, 7, kind="limit")
    work(book, 5, -1, 7, opening=0, kind="limit", parent=4)
    work(book, 6, -1, 2, opening=0, kind="close")
    assert claims(part, -1, ("market",)) == 5
    assert claims(part, -1, ("market", "limit")) == 5 + 4
    assert claims(part, -1, ("market", "limit", "stop")) == 5 + 6
    assert claims(part, -1, ("market", "limit"), "oco") == 5
    assert exiting(part, -1) == 5 + 2
    book.drop(4)
    assert claims(part, -1, ("limit",)) == 4 + 7


# -- what may be added to a side -------------------------------------------------------------------


@pytest.mark.parametrize(("held", "expected"), [(0, 10), (5, 10), (8, 7), (15, 0), (-3, 10)])
def test_orders_add_their_allowances_as_far_as_they_are_larger_than_the_position(held, expected):
    """Sizes are 15 together, allowances 10."""
    book, part = holding(held)
    work(book, 1, -1, 9, opening=6)
    work(book, 2, -1, 6, opening=4)
    assert entering(part, -1) == expected
    assert opens_now(part, -1) is (expected > 0)


def test_the_units_that_are_worth_most_count_and_one_unknown_makes_all_unknown():
    """Of 10 units 7 may open: 4 at 3, and 3 at 2."""
    book, part = holding(3)
    work(book, 1, -1, 6, distance=2.0)
    work(book, 2, -1, 4, distance=3.0)
    assert entering(part, -1, "risk") == 4 * 3.0 + 3 * 2.0
    assert entering(part, -1, "risk", ("stop",)) == 0
    work(book, 3, -1, 1, distance=NAN)
    assert math.isnan(entering(part, -1, "risk"))


def test_of_alternatives_the_one_of_the_largest_value_counts():
    book, part = holding(0)
    work(book, 1, 1, 5, distance=3.0, group="oco")
    work(book, 2, 1, 4, distance=4.0, group="oco")
    work(book, 3, 1, 1, distance=1.0)
    assert entering(part, 1, "risk") == 16.0 + 1.0


@pytest.mark.parametrize(("held", "expected"), [(0, False), (9, False), (11, True), (-9, False)])
def test_an_allowance_behind_a_larger_position_is_dormant(held, expected):
    """An order for 15 of which 6 may open closes 9; behind 11 two of the 6 are out of reach."""
    book, part = holding(held)
    working = work(book, 1, -1, 15, opening=6)
    exit_ = work(book, 2, -1, 1, opening=0, kind="stop", own=True)
    note_dormant(part, -1)
    assert (working.dormant, exit_.dormant) == (expected, False)


def test_the_end_of_another_exit_and_a_larger_position_make_an_allowance_dormant():
    book, _ = holding(2)
    work(book, 1, -1, 1, opening=0)
    working = work(book, 2, -1, 2, opening=1)
    assert not working.dormant
    book.drop(1)
    assert working.dormant
    working.dormant = False
    fill(book, 1)
    assert working.dormant


# -- a fill ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("held", "size", "opening", "expected"),
    [
        (10, 10, 0, 10),
        (4, 10, 0, 4),
        (0, 10, 0, 0),
        (4, 10, 5, 9),
        (10, 25, 15, 25),
        (-4, 10, 3, 3),
        (14, 73, 14.000000000000002 - 14, 14),  # a rest of 2e-15 would be a position
    ],
)
def test_a_fill_is_what_the_order_closes_and_its_allowance(held, size, opening, expected):
    book, part = holding(held)
    working = work(book, 1, -1, size, opening=opening)
    assert allowed_fill(part, working) == expected
    assert book_claims(part, working, expected) == 0
    assert working.remaining == size - expected


@pytest.mark.parametrize("first", [0, 1])
def test_of_two_sells_one_closes_and_the_other_opens_whichever_fills_first(first):
    book, part = holding(10)
    orders = [work(book, 1, -1, 10, opening=0), work(book, 2, -1, 10, opening=10)]
    order, other = orders[first], orders[1 - first]
    assert book_claims(part, order, allowed_fill(part, order)) == 0
    fill(book, -10)
    assert parts_of(order) == (0, 0, 0)
    assert (other.opening, allowed_fill(part, other)) == (10, 10)


def test_what_is_handed_over_is_not_opened_as_well():
    """1 is held and claimed; the exit of 2 closes it, and its allowance of 1 goes to the other."""
    book, part = holding(1)
    other = work(book, 1, -1, 1, opening=0)
    exit_ = work(book, 2, -1, 2, opening=1, closing=0.0)
    assert allowed_fill(part, exit_) == 1
    assert book_claims(part, exit_, 1) == 0
    assert (other.opening, exit_.opening) == (1, 0)


@pytest.mark.parametrize(("held", "expected"), [(2, True), (0, False)])
def test_an_allowance_stays_dormant_when_it_is_handed_over(held, expected):
    book, part = holding(held)
    other = work(book, 1, -1, 2, opening=0)
    order = work(book, 2, -1, 1, opening=1)
    order.dormant = True
    book_claims(part, order, 1)
    assert (other.opening, other.dormant) == (int(expected), expected)


def test_nothing_is_handed_to_an_alternative():
    book, part = holding(10)
    other = work(book, 1, -1, 10, opening=0, group="oco")
    order = work(book, 2, -1, 10, opening=10, closing=0.0, group="oco")
    assert allowed_fill(part, order) == 10
    book_claims(part, order, 10)
    assert parts_of(other) == (10, 0, 10)


def test_what_a_child_opens_is_taken_off_its_siblings():
    book, part = holding(0)
    child = work(book, 1, 1, 5, group="children")
    sibling = work(book, 2, 1, 4, group="children")
    stranger = work(book, 3, 1, 4)
    book_claims(part, child, 3)
    assert (child.opening, sibling.opening, stranger.opening) == (2, 1, 4)


def test_what_a_broker_fills_beyond_position_and_allowance_is_the_excess():
    book, part = holding(4)
    working = work(book, 1, -1, 10, opening=2, closing=4.0)
    assert book_claims(part, working, 10) == 10 - 4 - 2
    assert parts_of(working) == (0, 0, 0)


# -- exits without a position ----------------------------------------------------------------------


def left(book, part):
    return [w.ref for w in stranded(part)]


def test_an_exit_whose_position_is_gone_is_stranded():
    book, part = holding(10)
    work(book, 1, -1, 10, opening=0)
    work(book, 2, -1, 10, opening=10, closing=0.0)
    assert left(book, part) == []
    fill(book, -10)
    assert left(book, part) == [1]


def test_an_exit_stays_while_an_entry_on_its_way_will_give_it_a_position():
    book, part = holding(10)
    work(book, 1, -1, 10, opening=0, kind="stop", price=95.0)
    work(book, 2, 1, 10, kind="limit", price=98.0)
    fill(book, -10)
    assert left(book, part) == []
    book.drop(2)
    assert left(book, part) == [1]


def test_an_exit_that_never_had_a_position_and_a_waiting_child_stay():
    book, part = holding(0)
    work(book, 1, 1, 10, kind="stop", price=105.0)
    work(book, 2, -1, 10, opening=0, parent=1, kind="stop", had_position=True)
    work(book, 3, -1, 10, opening=0)
    assert left(book, part) == []
    book.drop(1)
    assert left(book, part) == [2]


def test_a_close_of_all_stays_while_another_owner_holds_something():
    book, part = holding(10)
    holding(5, OTHER, book)
    work(book, 1, -1, 15, opening=0, kind="limit", shared=True)
    fill(book, -10)
    assert left(book, part) == []
    fill(book, -5, owner=OTHER)
    assert left(book, part) == [1]


# -- an order before it is sent --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("limit", (0, 10, 10)),
        ("stop", (10, 0, 10)),
        ("market", (10, 0, 10)),
        ("close", (10, 0, 10)),
    ],
)
def test_limits_and_stops_have_an_account_each(kind, expected):
    book, _ = holding(10)
    work(book, 1, -1, 10, opening=0, kind="limit")
    assert split(book, -1, 10, kind=kind) == expected


@pytest.mark.parametrize("kind", ["limit", "stop", "market", "close"])
def test_market_exits_claim_from_every_account_and_an_exit_of_all_still_passes(kind):
    """What exceeds the claims would open; refused, the order stays and closes what is left."""
    book, _ = holding(10)
    work(book, 1, -1, 10, opening=0, kind="market")
    assert split(book, -1, 10, kind=kind) == (0, 10, 10)


def test_an_alternative_closes_what_its_group_claims():
    book, _ = holding(10)
    work(book, 1, -1, 10, opening=0, group="oco")
    assert split(book, -1, 10, "limit") == (0, 10, 10)
    assert split(book, -1, 10, "limit", group="oco") == (10, 0, 10)


def test_an_exit_sent_with_a_market_entry_closes_it_and_a_straddle_is_two_entries():
    book, _ = holding(0)
    work(book, 1, 1, 10, kind="market")
    assert split(book, -1, 10, "stop", price=95.0) == (10, 0, 10)
    assert split(book, -1, 15, "market") == (10, 5, 10)
    book.drop(1)
    work(book, 2, 1, 10, kind="stop", price=105.0)
    assert split(book, -1, 10, "stop", price=95.0) == (0, 10, 0)


def test_a_child_closes_what_is_held_and_what_its_parent_opens():
    book, _ = holding(10)
    parent = work(book, 1, 1, 5, kind="limit", price=98.0)
    assert split(book, -1, 15, "stop", price=90.0, parent=parent) == (15, 0, 15)
    assert split(book, -1, 20, "limit", price=110.0, parent=parent) == (15, 5, 15)


def test_a_child_is_left_what_its_parent_opens_although_other_exits_claim_more_than_is_held():
    """2 come at the market, and are claimed; the child closes the 1 of its parent."""
    book, _ = holding(0)
    work(book, 1, 1, 2, kind="market")
    work(book, 2, -1, 2, opening=0, kind="limit")
    parent = work(book, 3, 1, 1, kind="limit", price=98.0)
    assert split(book, -1, 1, "limit", parent=parent) == (1, 0, 1)
    assert split(book, -1, 3, "limit", parent=parent) == (1, 2, 3)
    book.drop(1)
    assert split(book, -1, 1, "limit", parent=parent) == (1, 0, 1)


def test_a_market_parent_counts_once_for_its_child():
    book, _ = holding(0)
    parent = work(book, 1, 1, 5, kind="market")
    assert split(book, -1, 8, "stop", price=90.0, parent=parent) == (5, 3, 5)


def test_close_opens_nothing_and_passes_whole_whatever_works():
    book, _ = holding(10)
    holding(5, OTHER, book)
    assert split(book, -1, 15, closes=True) == (15, 0, 15)
    work(book, 1, -1, 12, opening=0, kind="market", shared=True)
    assert split(book, -1, 15, closes=True) == (3, 0, 15)
    assert split(book, -1, 15) == (0, 15, 10)


def test_orders_of_other_owners_claim_nothing_of_mine():
    book, _ = holding(10)
    work(book, 1, -1, 10, opening=0, kind="market", owner=OTHER)
    assert split(book, -1, 10) == (10, 0, 10)
    assert split(book, -1, 10, owner="third") == (0, 10, 0)
