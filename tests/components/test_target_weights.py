"""Target weights and the sizer that goes by them: what was known, when, and traded how often."""

import inspect
import math

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from helpers.frames import PandasData
from helpers.recording import ends, play
from helpers.scenarios import MODES, bars, cerebro, flat, optimised, random_walk, tape_of, taped

import bt_risk
from bt_risk import ParameterError, RiskParitySizer, target_weights
from bt_risk.rules.allocation import risk_parity, signed_weights

WINDOW = {"window": 60, "min_periods": 30}


def walks(*volatilities, length=120, **kwargs):
    return [
        random_walk(k, length, volatility, **kwargs) for k, volatility in enumerate(volatilities)
    ]


def factor(loadings, length=120, seed=0):
    """Return bars of names that move with one market by their loading, 1 % a day."""
    rng = np.random.default_rng(seed)
    market = rng.normal(0, 0.01, length)
    frames = []
    for loading in loadings:
        close = 100 * np.exp(np.cumsum(loading * market + rng.normal(0, 0.005, length)))
        index = pd.date_range("2020-01-01", periods=length, name="datetime")
        columns = dict.fromkeys(("open", "high", "low", "close"), close)
        frames.append(pd.DataFrame(columns | {"volume": 1.0}, index=index))
    return frames


class Rebalance(bt.Strategy):
    """Bring all datas to their weights on every bar from `since` on."""

    params = {"since": 1, "arguments": (), "plan": None}

    def __init__(self):
        self.asked, self.orders = {}, []
        target_weights(self, **dict(self.p.arguments))

    def notify_order(self, order):
        self.orders.append((len(self), order.getstatusname()))

    def next(self):
        if len(self) >= self.p.since:
            weights = target_weights(self, **dict(self.p.arguments))
            self.asked[len(self)] = {data._name: w for data, w in weights.items()}
            for data, weight in weights.items():
                self.order_target_percent(data, target=weight)


def rebalanced(frames, mode="runonce", since=1, **arguments):
    engine = cerebro(*frames, cash=1_000_000.0)
    engine.addstrategy(Rebalance, since=since, arguments=tuple((WINDOW | arguments).items()))
    return engine.run(**MODES[mode])[0]


def returns_until(frames, bar, window=60):
    closes = pd.concat([frame.close for frame in frames], axis=1).iloc[:bar]
    return np.log(closes).diff().iloc[1:].iloc[-window:]


# -- what is known --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_the_weights_are_those_of_the_covariance_of_the_bars_so_far(mode):
    """The first 30 returns are there on bar 31; 2020-01-31 is a Friday, so the week is short."""
    frames = walks(0.01, 0.02, 0.03)
    strategy = rebalanced(frames, mode)
    first = min(bar for bar, weights in strategy.asked.items() if weights)
    assert first == 31
    expected = risk_parity(returns_until(frames, 31).cov().to_numpy())
    assert list(strategy.asked[31].values()) == pytest.approx(list(expected))
    assert sum(strategy.asked[31].values()) == pytest.approx(1.0)


def test_nothing_looks_ahead():
    """Other prices from bar 80 on: what was asked for until bar 79 is the same."""
    frames = walks(0.01, 0.02, 0.03)
    other = [frame.copy() for frame in frames]
    for frame, sign in zip(other, (1, -1, 1), strict=True):
        frame.iloc[79:, :4] *= 1 + 0.2 * sign
    one, two = rebalanced(frames), rebalanced(other)
    upto = {bar: weights for bar, weights in one.asked.items() if bar < 80}
    assert upto == {bar: weights for bar, weights in two.asked.items() if bar < 80}
    assert one.asked != two.asked


@pytest.mark.parametrize(("refresh", "same"), [("weekly", "W-SUN"), ("monthly", "M")])
def test_weights_are_frozen_within_the_period(refresh, same):
    frames = walks(0.01, 0.02, 0.03, length=200)
    strategy = rebalanced(frames, refresh=refresh, rebalance_buffer=0)
    asked = pd.DataFrame({k: v for k, v in strategy.asked.items() if len(v) == 3}).T
    periods = frames[0].index[asked.index - 1].to_period(same)
    by_period = asked.groupby(periods)
    assert (by_period.max() - by_period.min()).to_numpy().max() < 1e-15
    assert len(by_period) > 3
    assert by_period.first().diff().abs().iloc[1:].min().min() > 0


def test_a_name_that_begins_late_is_left_alone_until_it_is_known():
    frames = walks(0.01, 0.02)
    late = random_walk(7, 60, 0.01, start="2020-03-01")
    engine = cerebro(*frames, late, cash=1e6)
    engine.addstrategy(Rebalance, arguments=tuple(WINDOW.items()))
    strategy = engine.run()[0]
    # Its first bar is day 61 of the year: its 31st close is on day 91.
    known = [weights for weights in strategy.asked.values() if "D2" in weights]
    assert known
    assert sum(known[0].values()) <= 1.0 + 1e-9


def test_a_name_whose_price_was_below_zero_is_left_alone():
    """Log returns do not exist there: what is left of them is no covariance."""
    frames = walks(0.01, 0.02, 0.03)
    spread = frames[2] - 100.0
    engine = cerebro(*frames[:2], spread, cash=1_000_000.0)
    facts = {"D2": {"negative_prices": True}}
    engine.setbroker(bt_risk.RiskBroker(engine.broker, instruments=facts))
    arguments = tuple((WINDOW | {"min_periods": 10}).items())
    engine.addstrategy(Rebalance, since=60, arguments=arguments)
    asked = [weights for weights in engine.run()[0].asked.values() if weights]
    assert {name for weights in asked for name in weights} == {"D0", "D1"}


def test_a_copy_of_an_instrument_is_not_a_second_one():
    frames = walks(0.01, 0.02)
    engine = cerebro(*frames, cash=1e6)
    engine.resampledata(engine.datas[0], timeframe=bt.TimeFrame.Weeks, name="week")
    engine.addstrategy(Rebalance, arguments=tuple(WINDOW.items()))
    asked = engine.run()[0].asked
    assert {name for weights in asked.values() for name in weights} == {"D0", "D1"}


# -- methods --------------------------------------------------------------------------------------


def test_equal_weights_need_no_history():
    strategy = rebalanced(walks(0.01, 0.02), method="equal")
    assert strategy.asked[1] == {"D0": 0.5, "D1": 0.5}


def test_inverse_volatility_is_what_it_says():
    frames = walks(0.01, 0.02)
    asked = rebalanced(frames, method="inverse_volatility").asked[31]
    inverse = 1 / returns_until(frames, 31).std()
    assert list(asked.values()) == pytest.approx(list(inverse / inverse.sum()))


def test_budgets_by_name_and_in_order_are_the_same_and_are_met():
    frames = walks(0.01, 0.02, 0.03)
    by_name = rebalanced(frames, budgets={"D2": 1, "D0": 3, "D1": 2}).asked[31]
    assert by_name == rebalanced(frames, budgets=[3, 2, 1]).asked[31]
    weights = np.array(list(by_name.values()))
    risk = weights * (returns_until(frames, 31).cov().to_numpy() @ weights)
    assert risk / risk.sum() == pytest.approx([3 / 6, 2 / 6, 1 / 6], rel=1e-5)


def test_the_volatility_of_the_portfolio_is_the_target_unless_gross_is_used_up():
    """Daily bars of every day of the week: 365.25 a year."""
    frames = walks(0.01, 0.02, 0.03)
    covariance = returns_until(frames, 31).cov().to_numpy() * 365.25
    for target in (0.02, 0.05):
        weights = np.array(list(rebalanced(frames, volatility_target=target).asked[31].values()))
        assert math.sqrt(weights @ covariance @ weights) == pytest.approx(target)
    high = {"volatility_target": 0.9}
    assert sum(rebalanced(frames, **high).asked[31].values()) == pytest.approx(1.0)
    levered = rebalanced(frames, **high, gross_limit=None).asked[31]
    assert sum(levered.values()) > 2.0
    said = rebalanced(frames, volatility_target=0.02, periods_per_year=4 * 365.25).asked[31]
    once = rebalanced(frames, volatility_target=0.02).asked[31]
    assert list(said.values()) == pytest.approx([w / 2 for w in once.values()])


def test_one_name_alone_can_have_a_volatility_target():
    frames = walks(0.01)
    weight = rebalanced(frames, volatility_target=0.05).asked[31]["D0"]
    deviation = returns_until(frames, 31).std().iloc[0] * math.sqrt(365.25)
    assert weight == pytest.approx(0.05 / deviation)


# -- long and short -------------------------------------------------------------------------------


def test_a_short_that_moves_with_the_longs_is_a_hedge_and_gets_more():
    """Three names of one market: long all of them they are alike, the short one is the odd one."""
    frames = factor([1.0, 1.0, 1.0])
    long = rebalanced(frames, sides={"D0": 1, "D1": 1, "D2": 1}).asked[31]
    mixed = rebalanced(frames, sides=[1, 1, -1]).asked[31]
    covariance = returns_until(frames, 31).cov().to_numpy()
    assert list(mixed.values()) == pytest.approx(list(signed_weights(covariance, [1, 1, -1])))
    assert mixed["D2"] < 0
    assert abs(mixed["D2"]) > long["D2"]


def test_what_is_not_wanted_is_closed_and_what_is_unknown_is_left():
    class Drop(Rebalance):
        def next(self):
            sides = {"D0": 1, "D1": 1} if len(self) < 50 else {self.data1: 1}
            weights = target_weights(self, sides=sides, **WINDOW)
            for data, weight in weights.items():
                self.order_target_percent(data, target=weight)

    engine = cerebro(*walks(0.01, 0.02, 0.01), cash=1e6)
    engine.addstrategy(Drop, arguments=tuple(WINDOW.items()))
    strategy = engine.run()[0]
    sizes = [strategy.getposition(data).size for data in strategy.datas]
    assert sizes[0] == sizes[2] == 0
    assert sizes[1] > 0


def test_without_sides_a_short_stays_short():
    class Short(Rebalance):
        def next(self):
            if len(self) == 40:
                self.sell(data=self.data1, size=10)
            super().next()

    engine = cerebro(*walks(0.01, 0.02), cash=1e6)
    engine.addstrategy(Short, since=45, arguments=tuple(WINDOW.items()))
    strategy = engine.run()[0]
    assert strategy.getposition(strategy.data1).size < -10
    assert strategy.getposition(strategy.data0).size > 0


# -- churn ----------------------------------------------------------------------------------------


def test_a_position_inside_its_buffer_is_not_traded():
    frames = walks(0.01, 0.02, 0.03, length=250)
    counts = [
        sum(status == "Completed" for _, status in rebalanced(frames, rebalance_buffer=b).orders)
        for b in (0, 0.1, 0.5)
    ]
    assert counts[0] > 200 > counts[1] > counts[2] >= 3


def test_the_boundary_of_the_buffer():
    """100 units at 100 are a weight of 0.1; 0.1 of the target below it is still inside."""
    engine = cerebro(bars(*flat(40)), cash=100_000.0)
    seen = {}

    def ask(key, buffer):
        def act(s):
            seen[key] = target_weights(s, "equal", gross_limit=0.1, rebalance_buffer=buffer)

        return act

    actions = {5: lambda s: s.buy(size=91), 7: ask("in", 0.1), 8: ask("out", 0.08)}
    strategy = play(engine, actions)
    assert seen["in"] == {}
    assert list(seen["out"].values()) == [0.1]
    assert list(seen["out"]) == [strategy.data]


def test_a_market_order_that_is_on_its_way_is_waited_for():
    seen = []

    def twice(s):
        first = target_weights(s, "equal", gross_limit=0.5)
        for data, weight in first.items():
            s.order_target_percent(data, target=weight)
        seen.append((len(first), len(target_weights(s, "equal", gross_limit=0.5))))

    # The first call of all puts the gate there, which knows of no bar yet.
    play(cerebro(bars(*flat(20))), {4: twice, 5: twice})
    assert seen == [(0, 0), (1, 0)]


def test_a_second_run_and_every_point_of_an_optimisation_begin_clean():
    engine = cerebro(*walks(0.01, 0.02), cash=1e6)
    engine.addstrategy(Rebalance, arguments=tuple(WINDOW.items()))
    assert engine.run()[0].asked == engine.run()[0].asked
    for maxcpus in (1, 2):
        engine = cerebro(*walks(0.01, 0.02), cash=1e6)
        points = optimised(engine, [None, None], maxcpus, strategy=Rebalance)
        fills = [tape_of(point)["fills"] for point in points]
        assert fills[0] == fills[1] != []


# -- the sizer ------------------------------------------------------------------------------------


def sized(frames, actions, cash=1_000_000.0, **params):
    engine = cerebro(*frames, cash=cash)
    engine.addsizer(RiskParitySizer, **(WINDOW | params))
    return play(engine, actions)


def test_a_buy_brings_each_position_to_its_weight():
    frames = walks(0.01, 0.02, 0.03)
    strategy = sized(frames, {40: lambda s: [s.buy(data=d) for d in s.datas]})
    # 2020-02-09, bar 40, is a Sunday: the first one who asks in that week is bar 40.
    weights = risk_parity(returns_until(frames, 40).cov().to_numpy())
    for frame, weight, end in zip(frames, weights, ends(strategy), strict=True):
        assert end[0] == "Completed"
        assert end[1] == pytest.approx(weight * 1e6 / frame.close.iloc[39], rel=0.02)


def test_what_is_at_its_weight_is_refused_and_an_exit_is_the_position():
    actions = {40: lambda s: s.buy(), 42: lambda s: s.buy(), 44: lambda s: s.sell()}
    strategy = sized(walks(0.01, 0.02), actions)
    assert [end[0] for end in ends(strategy)] == ["Completed", "Rejected", "Completed"]
    assert "RiskParitySizer: D0 is at its weight of" in ends(strategy)[1][-1]
    assert strategy.held[-1] == (0, 0)


def test_what_is_not_known_yet_is_rejected_with_the_reason():
    strategy = sized(walks(0.01, 0.02), {10: lambda s: s.buy()})
    assert ends(strategy)[0][-1] == (
        "RiskParitySizer: no weight for D0 yet: fewer than 30 returns are common to all instruments"
    )


def test_a_sell_from_flat_is_sized_as_a_short():
    frames = factor([1.0, 1.0])
    strategy = sized(frames, {40: lambda s: (s.buy(), s.sell(data=s.data1))})
    assert [np.sign(end[1]) for end in ends(strategy)] == [1, -1]
    covariance = returns_until(frames, 40).cov().to_numpy()
    weights = signed_weights(covariance, [1, -1])
    assert ends(strategy)[1][1] == pytest.approx(
        weights[1] * 1e6 / frames[1].close.iloc[39], rel=0.02
    )


def test_steps_and_multipliers_count():
    engine = cerebro(*walks(0.01, 0.02), cash=1e6)
    engine.broker.setcommission(0.0, margin=100.0, mult=10.0, name="D0")
    facts = {"D0": {"step": 5}}
    engine.setbroker(bt_risk.RiskBroker(engine.broker, instruments=facts))
    engine.addsizer(RiskParitySizer, **WINDOW)
    strategy = play(engine, {40: lambda s: s.buy()})
    size = ends(strategy)[0][1]
    assert size % 5 == 0
    frames = walks(0.01, 0.02)
    weight = risk_parity(returns_until(frames, 40).cov().to_numpy())[0]
    exact = weight * 1e6 / (10 * frames[0].close.iloc[39])
    assert exact - 5 < size <= exact


@pytest.mark.parametrize("mode", MODES)
def test_the_sizer_does_the_same_in_every_mode(mode):
    def run(mode):
        engine = cerebro(*walks(0.01, 0.02), cash=1e6)
        engine.addsizer(RiskParitySizer, **WINDOW)
        plan = [(40, "buy", {"data": 0}), (41, "buy", {"data": 1}), (60, "close", {"data": 0})]
        return tape_of(taped(engine, plan, mode))["fills"]

    assert run(mode) == run("runonce")
    assert len(run(mode)) == 3


# -- arguments ------------------------------------------------------------------------------------

BAD = {
    "method": ("hrp", "one of 'risk_parity'"),
    "volatility_target": (0, "positive and finite"),
    "budgets": ([1, -1], "positive and finite"),
    "refresh": ("daily", "one of 'weekly', 'monthly'"),
    "rebalance_buffer": (-0.1, "zero or more"),
    "gross_limit": (0, "positive, or None"),
    "window": (20, "a whole number of at least 60"),
    "min_periods": (1, "a whole number of at least 2"),
    "periods_per_year": (math.inf, "positive and finite"),
    "step": (0, "positive and finite"),
    "sides": ([1, 2], "1 of +1, -1 and 0"),
    "datas": ([PandasData(dataname=bars(*flat(3)))], "of this Cerebro"),
}


def call(component, name, value):
    engine = cerebro(bars(*flat(20)))
    if component == "RiskParitySizer":
        engine.addsizer(RiskParitySizer, **{name: value})
        return play(engine, {})
    return play(engine, {3: lambda s: target_weights(s, **{name: value})})


PARAMETERS = {
    "target_weights": set(inspect.signature(target_weights).parameters) - {"strategy"},
    "RiskParitySizer": set(RiskParitySizer.params._getkeys()),
}


@pytest.mark.parametrize(
    ("component", "name"),
    [(component, name) for component, names in PARAMETERS.items() for name in sorted(names)],
)
def test_a_bad_argument_is_refused_by_name(component, name):
    value, constraint = BAD[name]
    with pytest.raises(ParameterError) as caught:
        call(component, name, value)
    assert str(caught.value).startswith(f"{component}: {name} must be {constraint}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"sides": {"D7": 1}},
            "target_weights: sides must be by data feed, or by name (D0); got 'D7'",
        ),
        ({"budgets": {"D7": 1}}, "target_weights: budgets must be one for each of D0; got"),
        ({"budgets": [1], "method": "equal"}, "target_weights: budgets must be None unless"),
        ({"budgets": 3}, "target_weights: budgets must be a dict by data name, or a list; got 3"),
    ],
)
def test_what_does_not_fit_the_datas_is_refused(arguments, message):
    engine = cerebro(random_walk(1, 100))
    with pytest.raises(ParameterError) as caught:
        play(engine, dict.fromkeys((3, 90), lambda s: target_weights(s, **(WINDOW | arguments))))
    assert str(caught.value).startswith(message)
