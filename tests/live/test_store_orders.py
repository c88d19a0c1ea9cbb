"""A position closed by hand that the store reports later, by an order of its own."""

import backtrader as bt
import pytest
from helpers.hand_traded import run


def report(venue, size):
    """Report a trade that is in the position already, by an order that nobody has sent."""
    data = venue.data
    kind = bt.order.BuyOrder if size > 0 else bt.order.SellOrder
    order = kind(data=data, size=abs(size), exectype=bt.Order.Market, simulated=True)
    order.addcomminfo(venue.getcommissioninfo(data))
    order.submit(venue)
    order.accept(venue)
    order.execute(data.datetime[0], size, 100.0, size, *[0.0] * 8, 100.0)
    order.completed()
    venue._news.append(order.clone())


@pytest.mark.parametrize("side", [1, -1], ids=["long", "short"])
def test_what_the_position_has_shown_is_not_booked_again_when_the_store_reports_it(side):
    plan = {24: lambda v: v.close_by_hand(), 34: lambda v: report(v, -100 * side)}
    actions = {20: lambda s: s.buy(size=100) if side > 0 else s.sell(size=100)}
    venue, strategy, journal = run(plan, actions)
    assert "position gone" in set(journal.action)
    assert strategy.broker.book.instruments[0].size == 0
    assert len(strategy.broker.book.trades) == 1
    assert venue._positions[venue.data].size == 0
    assert venue.sizes == [100 * side, 0]
