"""Where inside a bar equity falls to the maintenance margin, against the closed form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bt_risk.rules.liquidation import Leg, first_breach
from bt_risk.rules.margin import MarginTiers, liquidation_price

TIERS = MarginTiers.from_rows([(0, 0.004), (4_000, 0.006), (20_000, 0.01), (60_000, 0.025)])
NONE = MarginTiers.flat(0.0)


@given(
    st.sampled_from([1, -1]),
    st.floats(0.1, 1e4),
    st.floats(2.0, 100.0),
    st.floats(-0.04, 0.04),
    st.floats(0.0, 0.5),
)
def test_one_position_is_liquidated_at_the_closed_form(side, units, leverage, gain, fall):
    entry, start = 100.0, 100.0 * (1.0 + side * gain)
    margin = units * entry / leverage
    worst = start * (1.0 - side * fall)
    price = liquidation_price(side, units, entry, margin, TIERS)
    balance = margin + side * units * (start - entry)
    leg = Leg(side, units, start, worst, TIERS)
    for own in (True, False):
        t = first_breach(balance, [leg], own)
        if side * (start - price) <= 0.0:
            assert t == 0.0
        elif side * (worst - price) > 1e-9:
            assert t is None
        elif side * (worst - price) < -1e-9:
            assert leg.price(t) == pytest.approx(price, rel=1e-9)


def test_a_stop_that_closes_a_part_takes_its_share_of_the_margin_along():
    # 10 from 100 with 50; 4 leave at 97. Isolated 30 are left for 6: 95. In an account 50 - 12 are:
    # 100 - 38 / 6.
    leg = Leg(1, 10.0, 100.0, 90.0, NONE, ((97.0, 4.0),))
    assert leg.price(first_breach(50.0, [leg], own=True)) == pytest.approx(95.0)
    assert leg.price(first_breach(50.0, [leg])) == pytest.approx(100.0 - 38.0 / 6.0)
    assert leg.left(0.5) == 6.0


def test_a_stop_beyond_the_start_fills_there():
    leg = Leg(1, 10.0, 96.0, 90.0, NONE, ((97.0, 10.0),))
    assert leg.state(0.5) == (0.0, 0.0)
    assert first_breach(10.0, [leg], own=True) is None


def test_a_stop_that_fills_frees_its_margin():
    # 10 % of 1,000 maintain it. Without the stop 150 - 10 x + x = 100 at x = 50 / 9.
    tenth = MarginTiers.flat(0.1)
    bare = Leg(1, 10.0, 100.0, 90.0, tenth)
    assert bare.price(first_breach(150.0, [bare])) == pytest.approx(100 - 50 / 9)
    stopped = Leg(1, 10.0, 100.0, 90.0, tenth, ((95.0, 5.0),))
    # At 95 equity is 100, and 5 are left: 100 - 5 y = 0.5 (95 - y), y = 52.5 / 4.5: not in the bar.
    assert first_breach(150.0, [stopped]) is None


def test_a_stop_at_the_price_of_liquidation_is_first():
    leg = Leg(1, 10.0, 100.0, 90.0, NONE, ((95.0, 10.0),))
    assert first_breach(50.0, [leg], own=True) is None
    assert first_breach(50.0, [leg]) is None
    assert first_breach(50.0, [Leg(1, 10.0, 100.0, 95.0, NONE)]) == pytest.approx(1.0)


def test_two_legs_are_taken_at_once():
    # A hedge: what the long loses on its way, the short does not win: each is at its worst.
    long, short = Leg(1, 10.0, 100.0, 90.0, NONE), Leg(-1, 10.0, 100.0, 110.0, NONE)
    assert first_breach(100.0, [long, short]) == pytest.approx(0.5)
    assert first_breach(201.0, [long, short]) is None
