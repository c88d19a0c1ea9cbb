"""What a point is worth, measured from the commission scheme."""

import math

import backtrader as bt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bt_risk.portfolio.point_value import point_value


class Contract(bt.CommInfoBase):
    """A future whose size stands in the scheme's own words."""

    params = dict(stocklike=False, commtype=bt.CommInfoBase.COMM_FIXED, margin=100.0, units=100.0)

    def profitandloss(self, size, price, newprice):
        return size * (newprice - price) * self.p.units


class Converting(bt.CommInfoBase):
    """USD/JPY in an account of dollars."""

    def profitandloss(self, size, price, newprice):
        return size * (newprice - price) / newprice


class Inverse(bt.CommInfoBase):
    """A contract of 1 USD that is settled in the coin."""

    def profitandloss(self, size, price, newprice):
        return size * (1.0 / price - 1.0 / newprice)


@given(
    price=st.floats(0.01, 1e6),
    distance=st.floats(1e-6, 1e4) | st.just(math.nan),
    mult=st.sampled_from([1.0, 0.1, 50.0, 12.5]),
)
def test_a_linear_scheme_gives_its_multiplier_to_the_last_bit(price, distance, mult):
    scheme = bt.CommissionInfo(mult=mult, margin=1000.0)
    assert point_value(scheme, price, distance) == mult


def test_the_size_of_a_contract_counts_wherever_it_stands():
    assert point_value(Contract(), 100.0, 4.0) == 100.0
    assert point_value(Contract(), math.nan) == 100.0


def test_a_scheme_that_converts_is_measured_over_the_distance_to_the_stop():
    """150.4 to 147.6: 2.8 yen cost 2.8 / 147.6 dollars."""
    assert point_value(Converting(), 150.4, 2.8) * 2.8 == pytest.approx(2.8 / 147.6)


def test_an_inverse_contract_has_no_value_at_zero_and_one_at_its_price():
    """100 to 90 costs 1/90 - 1/100 of a coin, 1/900 of 10 points each."""
    assert point_value(Inverse(), 100.0, 10.0) == pytest.approx((1 / 90 - 1 / 100) / 10)
