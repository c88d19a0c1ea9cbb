"""Exits that rest beside each other: none of them turns a position round."""

import backtrader as bt
from helpers import scenarios as feeds
from helpers.recording import ends, fills, limit_orders, play
from helpers.scenarios import bars, cerebro, flat

from bt_risk.limits.base import Decision, Limit, NotionalLimit, RiskPerTrade


class NoShorts(Limit):
    """A limit that lets nothing open on the short side."""

    def review(self, request, book):
        if request.side > 0:
            return Decision(request.size)
        return Decision(0.0, "NoShorts: no shorts")


def take_profit(strategy):
    return strategy.sell(size=100, exectype=bt.Order.Limit, price=105.0)


def without_shorts(actions, rows):
    engine = cerebro(bars(*rows))
    limit_orders(engine, NoShorts())
    return play(engine, {20: lambda s: s.buy(size=100), 25: take_profit} | actions)


def test_an_exit_that_passed_behind_a_resting_one_does_not_flip_when_that_fills_first():
    """The open of bar 30 is beyond the take-profit, which was placed first."""
    rows = [*flat(29), (106, 107, 105, 106), *flat(3, price=106)]
    strategy = without_shorts({29: lambda s: s.sell(size=100)}, rows)
    assert [end[0] for end in ends(strategy)] == ["Completed", "Completed", "Canceled"]
    assert {size for (size,) in strategy.held} == {0, 100}


def test_a_resting_exit_whose_position_another_one_closed_does_not_touch_the_next():
    rows = [*flat(32), (100, 106, 99, 100), *flat(3)]
    actions = {29: lambda s: s.sell(size=100), 31: lambda s: s.buy(size=50)}
    strategy = without_shorts(actions, rows)
    assert [end[0] for end in ends(strategy)] == ["Completed", "Canceled", "Completed", "Completed"]
    assert strategy.held[-1] == (50,)


def test_what_was_never_bought_is_void_once():
    """It asked for 1,000, got 500, and sells 1,000 and another 400: short of 400."""
    engine = cerebro(bars(*flat(30)))
    limit_orders(engine, NotionalLimit(0.5))
    sales = lambda s: (s.sell(size=1000), s.sell(size=400))  # noqa: E731
    strategy = play(engine, {20: lambda s: s.buy(size=1000), 25: sales})
    assert [end[:2] for end in ends(strategy)] == [
        ("Completed", 500),
        ("Completed", -500),
        ("Completed", -400),
    ]


def test_a_trimmed_reversal_opens_no_more_when_another_strategy_closes_first():
    """Of 1,000 to sell at 105, 476 may open and 100 close; then close() of the other is first."""
    engine = cerebro(bars(*flat(31), (100, 106, 99, 100), *flat(3)))
    limit_orders(engine, NotionalLimit(0.5))
    reverse = {"size": 1000, "exectype": bt.Order.Limit, "price": 105.0}
    engine.addstrategy(
        feeds.Script, actions={20: lambda s: s.buy(size=100), 25: lambda s: s.sell(**reverse)}
    )
    engine.addstrategy(feeds.Script, actions={28: lambda s: s.close()})
    first, second = engine.run()
    assert fills(second) == [(29, -100, 100.0)]
    assert first.held[-1] == (-476,)


def test_a_cancelled_exit_makes_room_at_once():
    """The 300 close 100 and open 200, which the limit of 250 units allows."""
    engine = cerebro(bars(*flat(32)))
    limit_orders(engine, RiskPerTrade(0.01))

    def instead(strategy):
        strategy.cancel(strategy.made[-1])
        strategy.sell(size=300)

    strategy = play(engine, {20: lambda s: s.buy(size=100), 25: take_profit, 28: instead})
    assert strategy.held[-1] == (-200,)
