"""Exits that rest beside each other: none of them turns a position round."""

import backtrader as bt
import pytest
from helpers import scenarios as feeds
from helpers.recording import breaker_out_of_reach, ends, fills, limit_orders, play
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


# -- exits whose position is gone ------------------------------------------------------------------

UP = [*flat(26), (100, 110, 100, 109), *flat(4, price=109.0)]
DOWN = [*flat(26), (100, 100, 90, 91), *flat(4, price=91.0)]


def leave(side, kind, price, **options):
    """Return an action: place an exit of what is held on `side`, which rests at a price."""

    def place(strategy):
        send = strategy.sell if side > 0 else strategy.buy
        return send(size=100, exectype=kind, price=price, **options)

    return place


def enter(side):
    return lambda s: (s.buy if side > 0 else s.sell)(size=100)


@pytest.mark.parametrize("mode", feeds.MODES)
@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize(
    ("rows", "kind", "price"),
    [
        ((UP, DOWN), bt.Order.Limit, (108.0, 92.0)),
        ((DOWN, UP), bt.Order.Stop, (95.0, 105.0)),
    ],
)
def test_after_a_close_nothing_rests_that_could_open(mode, side, rows, kind, price):
    which = 0 if side > 0 else 1
    engine = cerebro(bars(*rows[which]), **feeds.MODES[mode])
    breaker_out_of_reach(engine)
    exit_order = leave(side, kind, price[which])
    strategy = play(engine, {20: enter(side), 22: exit_order, 24: lambda s: s.close()})
    assert {size for (size,) in strategy.held} == {0, 100 * side}
    assert [end[:2] for end in ends(strategy)] == [
        ("Completed", 100 * side),
        ("Canceled", 0),
        ("Completed", -100 * side),
    ]
    reason = "execution: cancelled, the position it was to close is gone"
    assert ends(strategy)[1][3] == reason
    assert reason in [line[-1] for line in strategy.broker.journal.lines]


def test_a_partial_close_leaves_the_resting_exit_what_is_held():
    engine = cerebro(bars(*UP))
    breaker_out_of_reach(engine)
    actions = {
        20: enter(1),
        22: leave(1, bt.Order.Limit, 108.0),
        24: lambda s: s.close(size=60),
    }
    strategy = play(engine, actions)
    assert [held for (held,) in strategy.held][19:28] == [0, 100, 100, 100, 100, 40, 40, 0, 0]
    assert ends(strategy)[1][:3] == ("Canceled", -40, 108.0)
    partial = [row for row in strategy.orders if row[2] == "Partial"]
    assert [row[4] for row in partial] == [-40]


def test_an_entry_that_is_cancelled_and_sent_again_keeps_its_stop():
    """The stop relies on the limit entry; for a moment there is none that it could rely on."""
    rows = [*flat(24), (98, 98, 94, 95), (95, 95, 85, 86), *flat(3, price=86.0)]
    engine = cerebro(bars(*rows))
    breaker_out_of_reach(engine)
    made = {}

    def begin(strategy):
        made["entry"] = strategy.buy(size=100, exectype=bt.Order.Limit, price=95.0)
        return strategy.sell(size=100, exectype=bt.Order.Stop, price=90.0)

    def again(strategy):
        strategy.cancel(made["entry"])
        return strategy.buy(size=100, exectype=bt.Order.Limit, price=96.0)

    strategy = play(engine, {20: begin, 22: again})
    assert fills(strategy) == [(25, 100, 96.0), (26, -100, 90.0)]


def test_both_legs_of_a_straddle_are_entries_and_the_second_closes_the_first():
    engine = cerebro(bars(*UP, (109, 109, 90, 91), *flat(2, price=91.0)))
    breaker_out_of_reach(engine)

    def straddle(strategy):
        return (
            strategy.buy(size=100, exectype=bt.Order.Stop, price=105.0),
            strategy.sell(size=100, exectype=bt.Order.Stop, price=95.0),
        )

    strategy = play(engine, {20: straddle})
    assert fills(strategy) == [(27, 100, 105.0), (32, -100, 95.0)]
    lines = [line for line in strategy.broker.journal.lines if line[4] == 100]
    assert [line[3] for line in lines] == ["allow", "allow"]
