"""Positions whose points are worth more or less as prices move, in the limits of other orders."""

import backtrader as bt
import pytest
from helpers.scenarios import bars, cerebro, flat, taped

import bt_risk
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.point_value import least_share, point_value

CAP = {"correlation_limit": None, "exposure_limit": None, "exposure_unit": "notional"}


class Converting(bt.CommInfoBase):
    """USD/JPY in an account of dollars."""

    params = {"stocklike": False, "commtype": bt.CommInfoBase.COMM_FIXED, "margin": 0.05}

    def profitandloss(self, size, price, newprice):
        return size * (newprice - price) / newprice

    cashadjust = profitandloss


def played(rows, first, second, **limits):
    """Return the sizes that pass of an order in the pair that converts, and of one at 100."""
    engine = cerebro(bars(*rows), bars(*flat(len(rows))))
    engine.broker.addcommissioninfo(Converting(), name="D0")
    engine.setbroker(bt_risk.CorrelationCap(engine.broker, **CAP | limits))
    plan = [
        (20, first, {"size": 30_000, "data": 0}),
        (len(rows) - 1, second, {"size": 1_000, "data": 1}),
    ]
    return [abs(order.size) for order in taped(engine, plan, "runonce").made]


def test_what_is_held_counts_at_the_prices_of_now():
    """30,000 dollars lose 30,000 as the price halves, and are as many dollars still.

    They count at a fall by 2 x ATR: 30,000 x 50 / 48 = 31,250 of the half of 70,000 that may be
    held. By what a point was worth at 100 they were 15,625, and 193 units passed.
    """
    rows = [*flat(30), *flat(150, price=50.0, width=0.5)]
    assert played(rows, "buy", "buy", gross_limit=0.5, bar_jump=None) == [30_000, 37]


@pytest.mark.parametrize(("first", "second"), [("sell", "buy"), ("buy", "sell")])
def test_a_hedge_counts_at_least(first, second):
    """Where 2 x ATR is 4, a point is worth 1 / 96 at most, and 1 / 104 at least.

    10,000 are 9,600 units of the pair, which offset 9,600 x 100 / 104 = 9,231: 92 units beside the
    100 that are within the limit.
    """
    assert played(flat(150), first, second, net_limit=0.1) == [9_600, 192]


def test_a_scheme_that_converts_no_more_counts_in_full():
    one = Instrument(cerebro(bars(*flat(3))).datas[0], 0, "D0")
    one.track_atr(14)
    one.price = 100.0
    one.measure(Converting())
    assert 0.9 < one.least_share < 1.0
    one.measure(bt.CommissionInfo(mult=5.0, margin=10.0))
    assert (one.multiplier, one.least_share) == (5.0, 1.0)


def test_the_least_share_of_a_point():
    scheme = Converting()
    assert least_share(scheme, 100.0, 4.0) == pytest.approx((1 / 104) / (1 / 96))
    assert least_share(scheme, 100.0, 4.0) * point_value(scheme, 100.0, 4.0) == pytest.approx(
        1 / 104
    )
    assert least_share(bt.CommissionInfo(mult=5.0, margin=10.0), 100.0, 4.0) == 1.0
