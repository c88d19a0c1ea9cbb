"""How much of an exit belongs to each tradeid, from a book made by hand."""

import pytest
from helpers.books import ME, book_of, work

from bt_risk.portfolio.tradeids import by_tradeid


def held(sizes, exits=()):
    """Return a position with these sizes by tradeid, and market exits by tradeid beside it."""
    book = book_of()
    part = book.part(book.instruments[0], ME)
    for tradeid, size in sizes.items():
        book.fill(part, float(size), 100.0, 0.0, 1.0, tradeid=tradeid)
    for ref, (tradeid, size) in enumerate(exits, 1):
        working = work(book, ref, -part.side, size, 0.0, "market")
        working.tradeid = tradeid
    return part


@pytest.mark.parametrize(
    ("sizes", "exits", "size", "shares"),
    [
        ({7: 10}, (), 10, {7: 10}),
        ({7: 10}, [(0, 4)], 6, {7: 6}),  # an exit under another tradeid closes the position, too
        ({1: 10, 2: 5}, (), 15, {1: 10, 2: 5}),
        ({1: -10, 2: -5}, (), 15, {1: 10, 2: 5}),
        ({1: 20, 0: -10}, (), 10, {1: 10}),
        ({0: -10, 1: 20}, (), 10, {1: 10}),
        ({1: 10, 2: 5, 0: -7}, (), 8, {1: 8}),
        ({1: 10, 2: 5}, [(1, 10)], 5, {2: 5}),
        ({1: 10, 2: 5}, [(1, 4)], 11, {1: 6, 2: 5}),
        ({1: 10, 2: 5}, [(1, 4)], 15, {1: 10, 2: 5}),  # what is left of it is needed
        ({1: 10, 2: 5}, [(0, 4)], 11, {1: 10, 2: 1}),
    ],
)
def test_an_exit_is_split_among_the_trades_on_the_side_of_the_position(sizes, exits, size, shares):
    assert by_tradeid(held(sizes, exits), size) == shares


def test_a_position_that_no_order_explains_has_tradeid_0():
    book = book_of()
    part = book.part(book.instruments[0], ME)
    book.fill(part, 10.0, 100.0, 0.0, 1.0)
    assert by_tradeid(part, 10.0) == {0: 10.0}


def test_a_change_that_no_order_explains_closes_the_oldest_trades_and_then_opens_under_0():
    book = book_of()
    part = book.part(book.instruments[0], ME)
    book.fill(part, 60.0, 100.0, 0.0, 1.0, tradeid="a")
    book.fill(part, 40.0, 100.0, 0.0, 1.0, tradeid=2)
    book.fill(part, -70.0, 100.0, 0.0, 1.0)
    assert part.tradeids == {2: 30.0}
    book.fill(part, -50.0, 100.0, 0.0, 1.0)
    assert part.tradeids == {0: -20.0}
