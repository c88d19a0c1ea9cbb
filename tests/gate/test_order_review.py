"""Orders in review: what counts towards a limit, and what makes room again."""

import backtrader as bt
from helpers.recording import ends, limit_orders, play
from helpers.scenarios import NextScript, bars, cerebro, flat

from bt_risk.limits.base import NotionalLimit, RiskPerTrade


def test_the_orders_of_an_oco_group_count_again_after_one_was_added():
    """250 units use up the risk limit; the smaller alternative of 50 does not make room."""
    engine = cerebro(bars(*flat(30)))
    limit_orders(engine, RiskPerTrade(0.01))

    def alternatives(strategy):
        first = strategy.buy(size=250, exectype=bt.Order.Limit, price=95.0)
        strategy.buy(size=50, exectype=bt.Order.Limit, price=96.0, oco=first)
        return strategy.buy(size=100)

    strategy = play(engine, {20: alternatives})
    assert [end[0] for end in ends(strategy)] == ["Accepted", "Accepted", "Rejected"]


def test_a_short_counts_towards_the_notional_limit_like_a_long():
    engine = cerebro(bars(*flat(30)))
    limit_orders(engine, NotionalLimit(0.5))
    strategy = play(engine, {5: lambda s: s.sell(size=300), 10: lambda s: s.sell(size=300)})
    assert strategy.held[-1] == (-500,)


def test_a_named_stop_beyond_the_price_bounds_no_loss():
    engine = cerebro(bars(*flat(30)))
    limit_orders(engine, RiskPerTrade(0.01))
    strategy = play(engine, {20: lambda s: s.buy(size=10, stop_price=104.0)})
    (end,) = ends(strategy)
    assert end[0] == "Rejected"
    assert "its stop is not on the losing side of its price" in end[3]


def test_a_resampled_copy_has_no_risk_limit_of_its_own():
    """250 units use up the risk limit; the copy is the same instrument."""
    engine = cerebro(bars(*flat(40)))
    engine.resampledata(engine.datas[0], timeframe=bt.TimeFrame.Weeks, name="weekly")
    limit_orders(engine, RiskPerTrade(0.01))

    def both(strategy):
        strategy.buy(size=250)
        strategy.buy(data=strategy.datas[1], size=100, stop_price=96.0)

    strategy = play(engine, {30: both}, NextScript)
    assert sorted(end[0] for end in ends(strategy)) == ["Completed", "Rejected"]
