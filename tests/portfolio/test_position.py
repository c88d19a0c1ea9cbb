"""Exits that rest shrink with the position they close."""

from bt_risk.portfolio.position import shrink_exits


def test_later_exits_shrink_to_what_earlier_ones_leave():
    orders = [(1, 1, "limit", 5.0), (2, 2, "limit", 5.0)]
    assert shrink_exits(orders, before=10.0, after=5.0) == {2: 0.0}


def test_exits_that_replace_each_other_shrink_alike():
    orders = [(1, "pair", "limit", 10.0), (2, "pair", "limit", 10.0)]
    assert shrink_exits(orders, before=10.0, after=5.0) == {1: 5.0, 2: 5.0}
