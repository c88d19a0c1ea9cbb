"""Exits by rule: after some bars, at a profit, and a stop that moves to the entry."""

import backtrader as bt
import pytest
from helpers.recording import fills, play
from helpers.scenarios import MODES, NextScript, bars, cerebro, flat

import bt_risk
from bt_risk import BreakEven, ParameterError, Policy, TakeProfit, TimeExit

OFF = dict.fromkeys(
    ("risk_limit", "notional_limit", "exposure_limit", "correlation_limit", "drawdown_limit")
)
CALM = bars(*flat(60))
AT_CLOSE = TakeProfit(2.0, trigger="close")


def protected(*guards, frames=(CALM,), trailing_stop=False, mode="enforce", **options):
    engine = cerebro(*frames, **options)
    policy = Policy(**OFF, sizer=False, trailing_stop=trailing_stop, guards=guards)
    bt_risk.protect(engine, policy, mode)
    return engine


def lines(strategy, action):
    decisions = strategy.analyzers.riskjournal.get_analysis()["decisions"]
    return [d for d in decisions if d["action"] == action]


def bar(first, close):
    """Return a bar whose true range is 2 beyond its two prices."""
    return first, max(first, close) + 1, min(first, close) - 1, close


def rising(start, count, step=1.0, before=30):
    """Return calm bars at `start`, then bars that rise by a step each."""
    rows = flat(before, price=start)
    for _ in range(count):
        close = rows[-1][3] + step
        rows.append(
            (close - step, max(close, close - step) + 1, min(close, close - step) - 1, close)
        )
    return rows


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("side", [1, -1])
def test_a_position_is_closed_so_many_bars_after_its_entry(mode, side):
    """As ``len(self) >= self.bar_executed + 5`` does: filled on bar 21, closed on bar 27."""
    actions = {20: lambda s: (s.buy if side > 0 else s.sell)(size=10)}
    strategy = play(protected(TimeExit(5), **MODES[mode]), actions)
    held = [row[0] for row in strategy.held]
    assert held[20:26] == [10 * side] * 6
    assert set(held[26:]) == {0}
    (line,) = lines(strategy, "close")
    assert (line["rule"], line["measured"], line["limit"]) == ("TimeExit", 5, 5)
    assert line["reason"] == "TimeExit: held for 5 bars >= bars 5"


def test_adding_does_not_begin_anew_and_all_of_it_is_closed():
    actions = {20: lambda s: s.buy(size=10), 23: lambda s: s.buy(size=5)}
    strategy = play(protected(TimeExit(5)), actions)
    assert [row[0] for row in strategy.held][20:27] == [10, 10, 10, 15, 15, 15, 0]


def test_what_is_added_while_it_is_closed_is_closed_too():
    """The entry of bar 26 fills after the exit was sent."""
    actions = {20: lambda s: s.buy(size=10), 26: lambda s: s.buy(size=5)}
    strategy = play(protected(TimeExit(5)), actions)
    assert strategy.held[-1] == (0,)


def test_the_orders_of_the_strategy_behind_it_never_open_another():
    """A bracket's stop and limit, and an exit of its own on the bar of ours."""
    actions = {
        20: lambda s: s.buy_bracket(size=10, exectype=None, stopprice=90.0, limitprice=130.0)[0],
        25: lambda s: s.close(),
        26: lambda s: s.close(),
    }
    rows = [*flat(30), *flat(10, price=140.0), *flat(10, price=80.0)]
    strategy = play(protected(TimeExit(5), frames=(bars(*rows),)), actions)
    assert {row[0] for row in strategy.held} == {0, 10}
    assert strategy.held[-1] == (0,)


def test_a_position_that_somebody_else_closes_is_not_turned_round():
    actions = {20: lambda s: s.buy(size=10), 26: lambda s: s.sell(size=10)}
    actions |= {25: lambda s: s.sell(size=4)}
    strategy = play(protected(TimeExit(5)), actions)
    assert min(row[0] for row in strategy.held) == 0
    assert strategy.held[-1] == (0,)


@pytest.mark.parametrize("side", [1, -1])
def test_a_profit_of_so_many_r_is_taken_at_the_close(side):
    """The ATR is 2 and the stop 4 away: 2 R are 8 points, reached at the close of bar 38."""
    frame = bars(*rising(100.0, 20, step=side))
    actions = {29: lambda s: (s.buy if side > 0 else s.sell)(size=10)}
    strategy = play(protected(AT_CLOSE, frames=(frame,)), actions)
    (line,) = lines(strategy, "close")
    assert line["reason"] == "TakeProfit: 2.0000 R at the close >= r 2.0000"
    bar, size, price = fills(strategy)[-1]
    assert (bar, size, price) == (39, -10 * side, 100.0 + 8 * side)


def test_the_profit_counts_from_the_average_entry():
    frame = bars(*rising(100.0, 20))
    actions = {29: lambda s: s.buy(size=10), 33: lambda s: s.buy(size=10)}
    strategy = play(protected(AT_CLOSE, frames=(frame,)), actions)
    # 10 at 100 and 10 at 103 are 20 at 101.5: 8 points more are closed at 110.
    assert fills(strategy)[-1][1:] == (-20, 110.0)


def test_future_prices_may_be_negative_and_several_feeds_are_apart():
    low = bars(*rising(-50.0, 20, step=-1.0))
    engine = protected(AT_CLOSE, TimeExit(15), frames=(CALM.iloc[:50], low), cash=1e6)
    engine.broker.setcommission(commission=0.0, margin=10.0, mult=50.0, name="D1")
    actions = {29: lambda s: (s.sell(s.datas[1], size=2), s.buy(size=3))[0]}
    strategy = play(engine, actions, NextScript)
    assert [line["rule"] for line in lines(strategy, "close")] == ["TakeProfit", "TimeExit"]
    assert strategy.held[-1] == (0, 0)


def stop_prices(strategy):
    return [
        round(line["limit"], 6)
        for line in strategy.analyzers.riskjournal.get_analysis()["decisions"]
        if line["rule"] == "BreakEven"
    ]


@pytest.mark.parametrize("side", [1, -1])
def test_the_stop_moves_to_the_entry_once_the_price_was_so_far(side):
    """The price rises by 1 R and falls back: with break-even the entry is what is left."""
    rows = rising(100.0, 4, step=side)
    for _ in range(10):
        close = rows[-1][3] - side
        rows.append(
            (close + side, max(close, close + side) + 1, min(close, close + side) - 1, close)
        )
    actions = {29: lambda s: (s.buy if side > 0 else s.sell)(size=10)}

    def closed(*guards):
        engine = protected(*guards, frames=(bars(*rows),), trailing_stop=True)
        strategy = play(engine, actions)
        return fills(strategy)[-1][2], stop_prices(strategy)

    assert closed(BreakEven(1.0))[0] == 100.0
    assert closed(BreakEven(1.0))[1] == [100.0]
    without, moved = closed()
    assert side * (without - 100.0) != 0.0
    assert moved == []
    assert closed(BreakEven(50.0)) == (without, [])


def test_a_stop_never_moves_back():
    frame = bars(*rising(100.0, 20))
    actions = {29: lambda s: s.buy(size=10), 45: lambda s: s.buy(size=10)}
    engine = protected(BreakEven(1.0), frames=(frame,), trailing_stop=True)
    prices = []

    class Watching(bt.Strategy):
        def next(self):
            if len(self) in actions:
                actions[len(self)](self)
            for w in self.broker.book.working.values():
                if w.own and w.kind == "stop":
                    prices.append(w.price)

    engine.addstrategy(Watching)
    engine.run()
    assert len(prices) > 15
    assert prices == sorted(prices)


def test_a_position_that_is_added_to_above_the_entry_keeps_its_stop():
    """The average entry falls below the stop that has followed the price."""
    rows = [*rising(100.0, 14), *flat(6, price=109.0)]
    actions = {29: lambda s: s.buy(size=10), 45: lambda s: s.buy(size=1)}
    engine = protected(BreakEven(1.0), frames=(bars(*rows),), trailing_stop=True)
    strategy = play(engine, actions)
    assert [round(price, 2) for price in stop_prices(strategy)] == [100.0]


def test_break_even_needs_a_stop_to_move():
    with pytest.raises(ParameterError, match="trailing_stop must be True with BreakEven"):
        Policy(trailing_stop=False, guards=[BreakEven()])
    engine = cerebro(CALM)
    engine.setbroker(bt_risk.RiskBroker(engine.broker, guards=[BreakEven()]))
    engine.addanalyzer(bt_risk.RiskJournal)
    strategy = play(
        engine, {20: lambda s: s.buy(size=1), 30: lambda s: s.close(), 35: lambda s: s.buy(size=1)}
    )
    (line,) = lines(strategy, "note")
    assert line["reason"].startswith("BreakEven: there is no stop of bt_risk to move")


def test_nothing_is_closed_in_observe_mode():
    strategy = play(
        protected(TimeExit(2), TakeProfit(0.1), mode="observe"), {20: lambda s: s.buy(size=1)}
    )
    assert strategy.held[-1] == (1,)


def test_none_switches_each_off_and_a_file_keeps_them(tmp_path):
    off = (TimeExit(None), TakeProfit(None), BreakEven(None))
    engine = cerebro(CALM)
    engine.setbroker(bt_risk.RiskBroker(engine.broker, guards=off))
    assert play(engine, {}).broker.registry.monitors == []
    policy = Policy(guards=[*off, TimeExit(7), TakeProfit(3), BreakEven(1.5)])
    policy.to_toml(tmp_path / "policy.toml")
    assert Policy.from_toml(tmp_path / "policy.toml") == policy
    assert policy.describe().splitlines()[-3:] == [
        "time exit: every position is closed 7 bars after its entry",
        "take profit: every position is closed at a limit 3 R beyond its entry",
        "break even: the stop moves to the entry once the price was 1.5 R beyond",
    ]


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [(TimeExit, "bars", 0), (TakeProfit, "r", 0), (BreakEven, "at_r", -1)],
)
def test_a_bad_parameter_is_refused(kind, name, value):
    with pytest.raises(ParameterError, match=f"{kind.__name__}: {name} must be"):
        kind(**{name: value})
