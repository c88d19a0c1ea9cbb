"""DrawdownBreaker(trigger="intrabar"): each bar at its worst for what is held.

The account starts with 100,000 and holds 500 units bought at 100: one point is 0.5 % of it.
"""

import datetime
import math
import random

import backtrader as bt
import pytest
from helpers.fake_broker import FakeBroker
from helpers.live_feed import LiveFrame
from helpers.recording import play
from helpers.scenarios import MODES, bars, cerebro, flat, random_walk, tape_of, taped

import bt_risk
from bt_risk.monitors.drawdown import DrawdownMonitor
from bt_risk.rules.drawdown import ARMED, TRIPPED, BreakerRule, BreakerState, step

HELD = [(1, "buy", {"size": 500})]
# Bought at the open of bar 2. Bar 4 falls to 79, 10.5 % down, and closes where it began.
DIP = [*flat(3), (100, 101, 79, 100), (100, 101, 99, 100), *flat(4)]


def braked(*rows, frames=None, **params):
    engine = cerebro(*(frames or [bars(*rows)]))
    params = {"trigger": "intrabar"} | params
    engine.addanalyzer(bt_risk.DrawdownBreaker, **params)
    engine.addanalyzer(bt_risk.RiskJournal)
    return engine


def breaker_of(strategy):
    return strategy.analyzers.drawdownbreaker.get_analysis()


@pytest.mark.parametrize("mode", MODES)
def test_a_low_inside_a_bar_trips_it_and_the_next_open_closes(mode):
    strategy = taped(braked(*DIP), HELD, mode)
    report = breaker_of(strategy)
    assert [fill[::2] for fill in tape_of(strategy)["fills"]] == [(2, 500), (5, -500)]
    assert report["tripped_at"] == datetime.datetime(2020, 1, 4)
    assert report["drawdown_at_trip"] == pytest.approx(0.105)
    assert report["drawdown_at_flat"] == pytest.approx(0.0)
    assert report["overshoot"] == pytest.approx(0.005)
    assert report["max_drawdown"] == pytest.approx(0.105)
    assert report["state"] == "LOCKED"


def test_the_journal_names_the_drawdown_of_the_bar():
    frame = taped(braked(*DIP), HELD).analyzers.riskjournal.frame()
    halt = frame[frame.action == "halt"].iloc[0]
    reason = "DrawdownBreaker: drawdown 0.1050, inside a bar >= drawdown_limit 0.1000"
    assert (halt.reason, halt.measured) == (reason, pytest.approx(0.105))


def test_the_close_is_judged_by_default():
    assert breaker_of(taped(braked(*DIP, trigger="close"), HELD))["state"] == "ARMED"
    assert bt_risk.Policy().drawdown_trigger == "close"


def test_a_short_is_judged_at_the_high():
    rows = [*flat(3), (100, 121, 99, 100), *flat(4)]
    report = breaker_of(taped(braked(*rows), [(1, "sell", {"size": 500})]))
    assert report["drawdown_at_trip"] == pytest.approx(0.105)
    assert breaker_of(taped(braked(*DIP), [(1, "sell", {"size": 500})]))["state"] == "ARMED"


def test_a_future_counts_with_its_multiplier():
    engine = braked(*DIP)
    engine.broker.setcommission(margin=1000.0, mult=50.0)
    report = breaker_of(taped(engine, [(1, "buy", {"size": 10})]))
    assert report["drawdown_at_trip"] == pytest.approx(0.105)


def test_positions_of_several_data_feeds_are_at_their_worst_at_once():
    other = bars(*flat(3), (100, 101, 89, 100), *flat(5))
    plan = [(1, "buy", {"size": 250}), (1, "buy", {"size": 250, "data": 1})]
    engine = braked(frames=[bars(*DIP), other], drawdown_limit=0.08)
    assert breaker_of(taped(engine, plan))["drawdown_at_trip"] == pytest.approx(0.0525 + 0.0275)


def test_the_low_of_a_bar_is_compared_with_the_mark_before_its_close():
    """The low is 9.5 % below the mark; the close makes a new mark, 14 % above that low."""
    rows = [*flat(3), (100, 111, 81, 110), *flat(4, price=110.0)]
    report = breaker_of(taped(braked(*rows), HELD))
    assert (report["state"], report["max_drawdown"]) == ("ARMED", pytest.approx(0.095))
    assert report["high_water_mark"] == pytest.approx(105.0)


def test_a_stop_that_filled_first_counts_at_its_price():
    stop = {"size": 500, "exectype": bt.Order.Stop, "price": 95.0}
    report = breaker_of(taped(braked(*DIP), [*HELD, (2, "sell", stop)]))
    assert (report["state"], report["max_drawdown"]) == ("ARMED", pytest.approx(0.025))


@pytest.mark.parametrize("bar", [(100, 79, 101, 100), (100, 101, math.nan, 100)])
def test_a_bar_that_cannot_be_true_trips_nothing(bar):
    rows = [*flat(30), bar, *flat(4)]
    report = breaker_of(taped(braked(*rows), [(20, "buy", {"size": 500})]))
    assert (report["state"], report["max_drawdown"]) == ("ARMED", pytest.approx(0.005))


def test_a_lifetime_limit_is_judged_inside_the_bar_too():
    report = breaker_of(taped(braked(*DIP, drawdown_limit=0.5, lifetime_limit=0.105), HELD))
    assert report["state"] == "LOCKED"


def test_a_callable_of_equity_is_lower_by_what_the_bar_was_worse_by():
    engine = braked(*DIP, equity=lambda: 100_000.0)
    assert breaker_of(taped(engine, HELD))["drawdown_at_trip"] == pytest.approx(0.105)


def live(rows, **params):
    engine = bt.Cerebro(stdstats=False)
    engine.adddata(LiveFrame(dataname=bars(*rows)), name="D0")
    engine.setbroker(FakeBroker())
    engine.addanalyzer(bt_risk.DrawdownBreaker, trigger="intrabar", **params)
    return play(engine, {20: lambda s: s.buy(size=500)})


@pytest.mark.parametrize("low", [79.0, 1.0, 0.01])
def test_one_low_of_a_live_data_feed_sells_nothing(low):
    strategy = live([*flat(30), (100, 101, low, 100), *flat(6)])
    assert strategy.held[-1] == (500,)
    assert breaker_of(strategy)["state"] == "ARMED"


def test_a_live_fall_that_lasts_sells():
    strategy = live([*flat(30), (100, 101, 79, 79), *flat(6, price=79.0)])
    assert strategy.held[-1] == (0,)


def test_a_policy_has_its_own_name_for_it(tmp_path):
    policy = bt_risk.Policy(drawdown_trigger="intrabar", trailing_stop=False)
    assert policy.trigger == "intrabar"  # the stop's
    assert "below the high-water mark, each bar at its worst, closes" in policy.describe()
    assert bt_risk.Policy.from_toml(_written(policy, tmp_path)) == policy
    engine = cerebro(bars(*DIP))
    nothing = dict(risk_limit=None, notional_limit=None, exposure_limit=None)
    policy = bt_risk.Policy(
        drawdown_trigger="intrabar", correlation_limit=None, trailing_stop=False, **nothing
    )
    bt_risk.protect(engine, policy)
    assert breaker_of(taped(engine, HELD))["state"] == "LOCKED"
    engine = cerebro(bars(*DIP))
    bt_risk.protect(engine, bt_risk.Policy(correlation_limit=None, trailing_stop=False, **nothing))
    assert breaker_of(taped(engine, HELD))["state"] == "ARMED"


def _written(policy, folder):
    path = folder / "policy.toml"
    policy.to_toml(path)
    return path


def test_the_worst_value_of_a_bar_in_the_state_machine():
    rule = BreakerRule(0.10)
    begun = step(BreakerState(), 100.0, rule, worst=50.0)  # there is no mark before it
    assert (begun.status, begun.high_water_mark) == (ARMED, 100.0)
    assert step(begun, 105.0, rule, worst=90.1).status == ARMED
    assert step(begun, 105.0, rule, worst=90.0).status == TRIPPED
    assert step(begun, 105.0, rule, worst=math.nan).status == ARMED
    tripped = step(begun, 105.0, rule, worst=90.0)
    assert tripped.high_water_mark == 105.0
    assert step(begun, math.nan, rule, worst=1.0) is begun


def test_a_low_before_a_limit_took_the_profit_trips_after_a_smaller_one():
    """Bar 3 was 3 % down; bar 5 falls to 79, 10.5 % down, and reaches the limit at 105."""
    rows = [*flat(2), (100, 101, 94, 100), *flat(1), (100, 106, 79, 100), *flat(3)]
    limit = {"size": 500, "exectype": bt.Order.Limit, "price": 105.0}
    report = breaker_of(taped(braked(*rows), [*HELD, (3, "sell", limit)]))
    assert report["tripped_at"] == datetime.datetime(2020, 1, 5)


def test_what_was_worse_before_is_not_forgotten():
    """A low that is no worse than one before changes nothing, a worse one is the worst."""
    lows = [97, 96, 98, 95, 99]
    rows = [*flat(2), *[(100, 101, low, 100) for low in lows], *flat(3)]
    report = breaker_of(taped(braked(*rows), HELD))
    assert (report["max_drawdown"], report["state"]) == (pytest.approx(0.025), "ARMED")


class Converts(bt.CommInfoBase):
    """A contract whose points are worth less, the higher its price is."""

    params = (("stocklike", False), ("commtype", bt.CommInfoBase.COMM_FIXED), ("margin", 50.0))

    def profitandloss(self, size, price, newprice):
        return 400.0 * size * (newprice - price) / newprice

    cashadjust = profitandloss


STOCKS = bt.CommInfoBase(commission=0.0, percabs=True)
FUTURES = bt.CommInfoBase(stocklike=False, margin=50.0, mult=3.0)


class Wanderer(bt.Strategy):
    """Change the position at random, pay in and out, and note what the breaker has measured."""

    params = {"seed": 0, "notes": None}

    def __init__(self):
        self.random = random.Random(self.p.seed)

    def next(self):
        chance = self.random.random()
        if chance < 0.06:
            self.order_target_size(target=self.random.choice([-300, -50, 0, 50, 400]))
        elif chance < 0.1:
            self.broker.add_cash(self.random.choice([-60_000.0, 60_000.0]))
        elif chance < 0.3:  # where a point is worth something else now, it is known from now on
            self.broker.multiplier(self.data)
        (breaker,) = [m for m in self.broker.registry.monitors if isinstance(m, DrawdownMonitor)]
        measured = breaker.drawdown, breaker.max_drawdown, breaker.state
        self.p.notes.append((*measured, self.broker.book.risk_scale))


def wandered(seed, scheme, trigger, **params):
    engine, notes = cerebro(random_walk(seed, bars=400, volatility=0.02)), []
    engine.broker.addcommissioninfo(scheme)
    engine.addstrategy(Wanderer, seed=seed, notes=notes)
    policy = bt_risk.Policy(
        drawdown_limit=0.3,
        drawdown_trigger=trigger,
        risk_limit=None,
        exposure_limit=None,
        notional_limit=None,
        correlation_limit=None,
        trailing_stop=False,
        **params,
    )
    bt_risk.protect(engine, policy)
    engine.run()
    return notes


@pytest.mark.parametrize("trigger", ["intrabar", "close"])
@pytest.mark.parametrize("scheme", [STOCKS, FUTURES, Converts()], ids=["stocks", "futures", "pair"])
@pytest.mark.parametrize("seed", range(6))
def test_bars_of_no_news_are_passed_over_and_change_nothing(seed, scheme, trigger, monkeypatch):
    judged, judge = [], DrawdownMonitor._judge
    monkeypatch.setattr(
        DrawdownMonitor, "_judge", lambda self, fresh: (judged.append(1), judge(self, fresh))
    )
    tapers = {"taper_from": 0.05} if seed % 2 else {}
    notes = wandered(seed, scheme, trigger, **tapers)
    passed_over = len(notes) - len(judged)
    monkeypatch.setattr(DrawdownMonitor, "_find_calm", lambda self: None)
    assert wandered(seed, scheme, trigger, **tapers) == notes
    assert passed_over > len(notes) / 4
