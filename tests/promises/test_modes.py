"""Real limits in every mode of the engine, with every kind of order and feed."""

import csv
import datetime
import math
import re

import backtrader as bt
import numpy as np
import pytest
from helpers import random_market as everything
from helpers import recording
from helpers import scenarios as feeds
from helpers.frames import PandasData
from helpers.random_market import DAY, World
from helpers.recording import ends, fills, play
from helpers.scenarios import bars, cerebro, flat
from helpers.slices import sliced

import bt_risk
from bt_risk import Policy, protect

Order = bt.Order

# ATR(14) is 2 from bar 15 on: a stop is 4 away, and 1 % of 100,000 buys 250 units at risk.
QUIET = flat(15)
NO_LIMITS = {
    "risk_limit": None,
    "notional_limit": None,
    "exposure_limit": None,
    "correlation_limit": None,
    "drawdown_limit": None,
}
# From 98 down by 2 a bar after 16 bars at 100.
CRASH = [*flat(16), *[(p, p + 1, p - 1, p) for p in np.arange(98.0, 60.0, -2.0)]]
# The entry of bar 17 sees a low of 90 in its own bar, bar 18 goes there again.
DEEP = [*flat(16), (100, 101, 90, 98), (98, 99, 90, 92), *flat(2, price=92.0)]
NONE_PASSES = "; at most 0 would pass"
RISK = "RiskPerTrade: 0.0160 of equity > risk_limit 0.0100"


def protected(engine, actions, strategy=feeds.Script, **policy):
    """Run `actions` under a policy that differs from the default one in `policy`."""
    protect(engine, Policy(**policy))
    return play(engine, actions, strategy)


def breaker_only(engine, actions, strategy=feeds.Script, **policy):
    """Run `actions` with a breaker, and stops that are too far away to be hit."""
    policy = NO_LIMITS | {"drawdown_limit": 0.1, "atr_multiple": 50.0} | policy
    return protected(engine, actions, strategy, **policy)


def breaker_of(strategy):
    return strategy.analyzers.drawdownbreaker.get_analysis()


def decisions(strategy, rule):
    lines = strategy.analyzers.riskjournal.get_analysis()["decisions"]
    return [line for line in lines if line["rule"] == rule]


def held(strategy, data=0):
    return [sizes[data] for sizes in strategy.held]


class AtTheOpen(feeds.Script):
    """Act in ``next_open``; the bar that opens has the number that `actions` says."""

    def prenext_open(self):
        self.next_open()

    def next_open(self):
        action = (self.p.actions or {}).get(len(self.data))
        if action is not None:
            self.made.append(action(self))

    def next(self):
        self.held.append(tuple(self.getposition(d).size for d in self.datas))


class Careful(feeds.Script):
    """Do not ask for the position of a data that has no bar yet: BackBroker raises."""

    def next(self):
        action = (self.p.actions or {}).get(len(self.data))
        if action is not None:
            self.made.append(action(self))
        self.held.append(tuple(self.getposition(d).size if len(d) else 0 for d in self.datas))


# -- cheat-on-open --------------------------------------------------------------------------------

OPEN_MODES = [{}, {"runonce": False}, {"exactbars": 1}, {"broker_coo": False}]


@pytest.mark.parametrize("mode", OPEN_MODES)
def test_at_the_open_the_gate_judges_at_the_open_and_not_at_the_close_to_come(mode):
    rows = [*flat(16), (102, 112, 101, 110), *flat(3, price=110.0)]
    engine = cerebro(bars(*rows), cheat_on_open=True, **mode)
    limits = NO_LIMITS | {"notional_limit": 0.5}
    strategy = protected(engine, {17: lambda s: s.buy(size=1000)}, AtTheOpen, **limits)
    (order,) = strategy.made
    assert order.size == 490  # 500 at the close of 100 before, 454 at the close of 110 to come


@pytest.mark.parametrize("low", [90.0, 99.0])
def test_at_the_open_the_stop_distance_is_that_of_the_bar_before(low):
    rows = [*flat(16), (100, 101, low, 98), *flat(3)]
    engine = cerebro(bars(*rows), cheat_on_open=True)
    strategy = protected(engine, {17: lambda s: s.buy(size=1000)}, AtTheOpen)
    assert strategy.made[0].size == 250
    assert fills(strategy)[0] == (17, 250, 100.0)


@pytest.mark.parametrize("mode", OPEN_MODES[:3])
def test_at_the_open_a_stop_is_first_active_on_the_bar_after_the_fill(mode):
    engine = cerebro(bars(*DEEP), cheat_on_open=True, **mode)
    strategy = protected(engine, {17: lambda s: s.buy(size=10)}, AtTheOpen)
    assert fills(strategy) == [(17, 10, 100.0), (18, -10, 96.0)]


@pytest.mark.parametrize("mode", OPEN_MODES[:3])
def test_at_the_open_an_exit_of_the_user_goes_before_the_stop(mode):
    rows = [*flat(18), (100, 101, 90, 92), *flat(3, price=92.0)]
    engine = cerebro(bars(*rows), cheat_on_open=True, **mode)
    actions = {17: lambda s: s.buy(size=10), 19: lambda s: s.close()}
    strategy = protected(engine, actions, AtTheOpen)
    assert fills(strategy) == [(17, 10, 100.0), (19, -10, 100.0)]
    assert held(strategy)[-1] == 0


@pytest.mark.parametrize("mode", OPEN_MODES)
def test_a_breaker_closes_at_the_next_open_although_orders_may_cheat(mode):
    engine = cerebro(bars(*CRASH), cheat_on_open=True, **mode)
    again = dict.fromkeys(range(24, 40), lambda s: s.buy(size=100))
    strategy = breaker_only(engine, {17: lambda s: s.buy(size=900)} | again, AtTheOpen)
    analysis = breaker_of(strategy)
    assert analysis["flattened"]
    assert held(strategy)[-1] == 0
    entry, exit_ = [fill for fill in fills(strategy) if abs(fill[1]) == 900]
    tripped = (analysis["tripped_at"] - datetime.datetime(2020, 1, 1)).days + 1
    assert exit_[0] == tripped + 1
    assert exit_[2] == CRASH[tripped][0]
    refused = [end for end in ends(strategy) if end[0] == "Rejected"]
    assert refused
    assert all("DrawdownBreaker" in end[3] for end in refused)


# -- cheat-on-close -------------------------------------------------------------------------------


def on_close(*rows):
    engine = cerebro(bars(*rows))
    engine.broker.set_coc(True)
    return engine


def test_on_the_close_a_stop_is_first_active_on_the_bar_after_the_fill():
    strategy = protected(on_close(*DEEP), {16: lambda s: s.buy(size=10)})
    assert fills(strategy) == [(17, 10, 100.0), (18, -10, 96.0)]


def test_on_the_close_an_exit_of_the_user_goes_before_the_stop():
    rows = [*flat(18), (97, 98, 90, 92), *flat(3, price=92.0)]
    actions = {16: lambda s: s.buy(size=10), 18: lambda s: s.close()}
    strategy = protected(on_close(*rows), actions)
    assert fills(strategy) == [(17, 10, 100.0), (19, -10, 100.0)]
    assert held(strategy)[-1] == 0


def test_on_the_close_orders_are_trimmed_as_ever():
    strategy = protected(on_close(*flat(20)), {16: lambda s: s.buy(size=1000)})
    assert fills(strategy) == [(17, 250, 100.0)]


def test_on_the_close_a_breaker_ends_flat():
    strategy = breaker_only(on_close(*CRASH), {16: lambda s: s.buy(size=900)})
    assert breaker_of(strategy)["flattened"]
    assert held(strategy)[-1] == 0
    assert fills(strategy)[1][2] == 86.0  # the open after the close at 88 that tripped


# -- replayed and resampled feeds -----------------------------------------------------------------


def weekly(frame, kind, clock=None):
    """Return a Cerebro with a frame and its weekly copy, or with a clock and the copy alone."""
    engine = cerebro(frame if clock is None else clock)
    source = engine.datas[0]
    if clock is not None:
        source = PandasData(dataname=frame)
    getattr(engine, kind)(source, timeframe=bt.TimeFrame.Weeks, name="weekly")
    return engine


def true_ranges(frame, weeks, atr_period):
    """Wilder's ATR of the first complete weeks, by hand."""
    rows = frame.resample("W").agg({"high": "max", "low": "min", "close": "last"}).iloc[:weeks]
    before = rows.close.shift()
    ranges = np.maximum(rows.high, before) - np.minimum(rows.low, before)
    value = ranges.iloc[1 : atr_period + 1].mean()
    for one in ranges.iloc[atr_period + 1 :]:
        value += (one - value) / atr_period
    return value


@pytest.mark.parametrize(("bar", "complete"), [(33, 4), (34, 5), (40, 5), (41, 6)])
def test_the_atr_of_a_replayed_feed_is_that_of_its_complete_bars(bar, complete):
    """Bars 33 and 40 are Sundays; the last tick of a week does not complete it."""
    frame, seen = feeds.random_walk(5, 60), []

    def look(strategy):
        assert len(strategy.data1) == complete + 1
        seen.append(strategy.broker.book.instruments[1].atr(2))

    protected(weekly(frame, "replaydata"), {bar: look}, Careful, atr_period=2)
    assert seen == [pytest.approx(true_ranges(frame, complete, 2))]


def test_a_replayed_feed_without_a_tick_does_not_take_its_bars_in_twice():
    """Cerebro winds it back to its last complete bar while only another data has a bar."""
    frame, seen = feeds.random_walk(5, 60), []
    holes = frame.drop(frame.index[[29, 36, 43]])
    engine = weekly(holes, "replaydata", clock=bars(*flat(60)))

    def look(strategy):
        seen.append(strategy.broker.book.instruments[1].atr(2))

    protected(engine, {55: look}, Careful, atr_period=2)
    assert seen == [pytest.approx(true_ranges(holes, 8, 2))]


def test_a_replayed_feed_whose_first_bar_is_forming_has_no_time_yet():
    """Sorting times with a NaN among them follows the address of the NaN."""
    walks = [feeds.random_walk(seed, 20) for seed in (1, 2)]
    for _ in range(20):
        engine = cerebro(*walks, runonce=False)
        engine.replaydata(engine.datas[0], timeframe=bt.TimeFrame.Weeks, name="weekly")
        assert len(protected(engine, {}, Careful).held) == 20


DIP = flat(40)
DIP[28] = (100, 101, 94, 100)


def test_on_a_replayed_feed_a_stop_does_not_fill_on_the_tick_it_was_set_from():
    """The feed ends with the tick of the entry; the clock goes on."""
    frame = bars(*DIP)
    for end in (40, 29):
        engine = weekly(frame.iloc[:end], "replaydata", clock=bars(*flat(40)))
        actions = {28: lambda s: s.buy(s.data1, size=10)}
        strategy = protected(engine, actions, Careful, atr_period=2)
        assert fills(strategy) == [(29, 10, 100.0)]
        assert held(strategy, 1)[-1] == 10


def test_on_a_replayed_feed_a_stop_fills_on_a_later_tick_of_the_same_bar():
    rows = flat(40)
    rows[29] = (100, 101, 94, 100)
    engine = weekly(bars(*rows), "replaydata", clock=bars(*flat(40)))
    actions = {28: lambda s: s.buy(s.data1, size=10)}
    strategy = protected(engine, actions, Careful, atr_period=2)
    assert fills(strategy) == [(29, 10, 100.0), (30, -10, 96.0)]


@pytest.mark.parametrize("kind", ["resampledata", "replaydata"])
def test_copies_of_one_instrument_are_one_instrument_for_rule_1(kind):
    actions = {
        40: lambda s: s.buy(size=200),
        42: lambda s: s.buy(s.data1, size=200),
        44: lambda s: s.buy(size=1),
    }
    strategy = protected(weekly(bars(*flat(60)), kind), actions, Careful, atr_period=2)
    assert ends(strategy) == [
        ("Completed", 200, 100.0, ""),
        ("Completed", 50, 100.0, RISK),
        ("Rejected", 0, 0.0, f"RiskPerTrade: 0.0100 of equity > risk_limit 0.0100{NONE_PASSES}"),
    ]


@pytest.mark.parametrize("kind", ["resampledata", "replaydata"])
def test_copies_of_one_instrument_count_once_for_notional_and_exposure(kind):
    actions = {40: lambda s: s.buy(size=300), 42: lambda s: s.buy(s.data1, size=300)}
    for limits in (
        {"notional_limit": 0.4},
        {"exposure_limit": 0.4, "exposure_unit": "notional"},
        {"exposure_limit": 0.016},
    ):
        engine = weekly(bars(*flat(60)), kind)
        strategy = protected(engine, actions, Careful, **NO_LIMITS | {"atr_period": 2} | limits)
        assert [end[:2] for end in ends(strategy)] == [("Completed", 300), ("Completed", 100)]


def with_other(kind, seed):
    """Return a daily walk, its weekly copy, and another daily walk; stops are far away."""
    engine = weekly(feeds.random_walk(3, 60), kind)
    other = PandasData(dataname=feeds.random_walk(seed, 60))
    engine.adddata(other, name="other")
    return engine


FAR = {"atr_period": 2, "atr_multiple": 20.0, "window": 30, "min_periods": 20}


@pytest.mark.parametrize("kind", ["resampledata", "replaydata"])
def test_the_copy_of_an_instrument_is_not_correlated_with_it(kind):
    actions = {
        40: lambda s: s.buy(size=1),
        42: lambda s: s.buy(s.data1, size=1),
        44: lambda s: s.buy(s.data2, size=1),
    }
    first, copy, twin = ends(protected(with_other(kind, 3), actions, Careful, **FAR))
    assert first[0] == copy[0] == "Completed"
    assert twin[0] == "Rejected"
    assert "correlation with D0 1.0000" in twin[3]


@pytest.mark.parametrize("kind", ["resampledata", "replaydata"])
@pytest.mark.parametrize("pair", [(1, 2), (2, 1)])
def test_an_order_on_a_copy_has_the_correlation_of_its_instrument(kind, pair):
    """The copy has some eight bars, which say nothing; the instrument itself has forty."""

    def outcome(seed):
        actions = {
            42: lambda s: s.buy(s.datas[pair[0]], size=1),
            44: lambda s: s.buy(s.datas[pair[1]], size=1),
        }
        return ends(protected(with_other(kind, seed), actions, Careful, **FAR))[1]

    assert outcome(4)[0] == "Completed"
    status, *_, reason = outcome(3)
    assert status == "Rejected"
    assert "1.0000" in reason


def test_datas_of_different_time_frames_have_each_their_own_atr_and_stop():
    daily = bars(*flat(60))
    slow = bars(*flat(12, width=2.0), start="2020-01-05", freq="W")
    engine = cerebro(daily)
    engine.adddata(PandasData(dataname=slow, timeframe=bt.TimeFrame.Weeks), name="slow")
    actions = {30: lambda s: (s.buy(size=1000), s.buy(s.data1, size=1000))}
    strategy = protected(engine, actions, Careful, atr_period=3, correlation_limit=None)
    sizes = {end[1] for end in ends(strategy)}
    assert sizes == {250, 125}


# -- memory ---------------------------------------------------------------------------------------

KEPT = (bt.analyzers.TradeAnalyzer, bt.analyzers.Transactions, bt_risk.RiskJournal)


def remembered(seed, **mode):
    """All that is seen of a protected run; numbers by their digits, numpy's or not."""
    engine = cerebro(feeds.random_walk(seed, 60), feeds.random_walk(seed + 50, 60), **mode)
    protect(engine, Policy(min_periods=10, window=20, atr_period=5, drawdown_limit=0.05))
    engine.addstrategy(recording.RandomTrader, seed=seed)
    engine.addstrategy(everything.Everything, seed=seed + 1)
    seen = repr(recording.record(engine, KEPT))
    return re.sub(r"np\.(float64|True_|False_)\(?([^()]*)\)?", r"\2", seen)


@pytest.mark.parametrize("seed", range(3))
def test_however_little_memory_is_kept_the_run_is_the_same(seed):
    runs = [remembered(seed, exactbars=kept) for kept in (False, 0, 1, -1, -2)]
    assert "ATRTrailingStop: stop of" in runs[0]
    assert "RiskPerTrade" in runs[0]
    assert all(run == runs[0] for run in runs[1:])


# -- orders from elsewhere ------------------------------------------------------------------------


@pytest.mark.parametrize("notify", [True, False])
def test_a_position_from_the_order_history_has_a_stop(notify):
    engine = cerebro(bars(*flat(18), (97, 98, 90, 92), *flat(4, price=92.0)))
    engine.add_order_history([[datetime.date(2020, 1, 16), 10, 100.0]], notify=notify)
    strategy = protected(engine, {})
    assert held(strategy)[17:20] == [10, 0, 0]
    assert fills(strategy)[-1] == (19, -10, 96.0)


@pytest.mark.parametrize("notify", [True, False])
def test_a_position_from_the_order_history_counts_and_can_be_closed(notify):
    engine = cerebro(bars(*flat(24)))
    history = [[datetime.date(2020, 1, 16), 700, 100.0], [datetime.date(2020, 1, 17), 300, 100.0]]
    engine.add_order_history(history, notify=notify)
    strategy = protected(engine, {18: lambda s: s.buy(size=1), 20: lambda s: s.close()})
    refused, closed = ends(strategy)[-2:]
    assert refused[0] == "Rejected"
    assert closed[:2] == ("Completed", -1000)
    assert held(strategy)[-1] == 0


class After(bt.Indicator):
    """A signal that is there from bar 16 on."""

    lines = ("signal",)

    def next(self):
        self.lines.signal[0] = float(len(self) >= 16)


@pytest.mark.parametrize("accumulate", [False, True])
def test_the_orders_of_signals_are_sized_judged_and_stopped(accumulate):
    engine = cerebro(bars(*flat(18), (97, 98, 90, 92), *flat(4, price=92.0)))
    engine.add_signal(bt.SIGNAL_LONG, After)
    engine.signal_accumulate(accumulate)
    protect(engine)
    engine.addanalyzer(feeds.Tape, _name="tape")
    (strategy,) = engine.run()
    tape = feeds.tape_of(strategy)
    assert tape["fills"][:2] == [(17, "D0", 250, 100.0), (19, "D0", -250, 96.0)]
    assert max(size for (size,) in tape["positions"]) == 250
    assert all("RiskPerTrade" in reason for _, reason in tape["reasons"])
    assert bool(tape["reasons"]) == accumulate


class OnTimer(feeds.Script):
    """Act when a timer rings on a day of `actions`."""

    params = {"cheat": False}

    def __init__(self):
        super().__init__()
        self.add_timer(bt.timer.SESSION_START, cheat=self.p.cheat)

    def notify_timer(self, timer, when, *args, **kwargs):
        action = self.p.actions.get(len(self.data))
        if action is not None:
            self.made.append(action(self))

    def next(self):
        self.held.append((self.position.size,))


@pytest.mark.parametrize(("cheat", "size"), [(False, 454), (True, 490)])
@pytest.mark.parametrize("mode", [{}, {"runonce": False}])
def test_an_order_of_a_timer_is_judged_with_what_is_known_when_it_rings(mode, cheat, size):
    """A cheating timer rings before the bar has closed: it knows its open."""
    rows = [*flat(16), (102, 112, 101, 110), *flat(3, price=110.0)]
    engine = cerebro(bars(*rows), **mode)
    protect(engine, Policy(**NO_LIMITS | {"notional_limit": 0.5}))
    engine.addstrategy(OnTimer, actions={17: lambda s: s.buy(size=1000)}, cheat=cheat)
    (strategy,) = engine.run()
    assert strategy.made[0].size == size


# -- how the broker fills and charges -------------------------------------------------------------


def test_a_breaker_waits_until_partial_fills_have_closed_all_of_it():
    engine = cerebro(bars(*CRASH))
    engine.broker.set_filler(bt.fillers.FixedSize(size=300))
    actions = {16: lambda s: s.buy(size=900), 25: lambda s: s.buy(size=5)}
    strategy = breaker_only(engine, actions)
    assert held(strategy)[-4:] == [900, 600, 300, 0]
    assert breaker_of(strategy)["flattened"]
    assert ends(strategy)[-1][0] == "Rejected"


@pytest.mark.parametrize(
    "filler",
    [
        bt.fillers.FixedSize(size=7),
        bt.fillers.FixedBarPerc(perc=1.0),
        bt.fillers.BarPointPerc(minmov=0.1, perc=20.0),
    ],
)
@pytest.mark.parametrize("exactbars", [0, 1])
def test_a_stop_follows_a_position_that_is_filled_and_closed_in_parts(filler, exactbars):
    engine = cerebro(bars(*flat(22), *flat(60, price=90.0)), exactbars=exactbars)
    engine.broker.set_filler(filler)
    strategy = protected(engine, {16: lambda s: s.buy(size=40)})
    sizes = held(strategy)
    assert max(sizes) == 40
    assert all(size >= 0 for size in sizes)
    assert sizes[-1] == 0
    assert len([size for size in sizes if 0 < size < 40]) > 2
    assert strategy.broker.inner.get_orders_open() == []


@pytest.mark.parametrize(
    ("slip", "price"),
    [
        (lambda b: b.set_slippage_fixed(0.5), 96.0),
        (lambda b: b.set_slippage_perc(0.01), 96.03),
        (lambda b: b.set_slippage_fixed(50.0), 90.0),
    ],
    ids=["fixed", "percent", "to the end of the bar"],
)
def test_a_stop_slips_as_the_broker_says_and_ends_flat(slip, price):
    """It is 4 below the fill of the entry, which has slipped up: 100.5, 101 (twice)."""
    engine = cerebro(bars(*flat(18), (100, 101, 90, 92), *flat(3, price=92.0)))
    slip(engine.broker)
    strategy = protected(engine, {16: lambda s: s.buy(size=10)})
    (_, size, _), (_, closed, paid) = fills(strategy)
    assert (size, closed) == (10, -10)
    assert paid == pytest.approx(price)
    assert held(strategy)[-1] == 0


def futures(*rows, **options):
    engine = cerebro(bars(*rows), **options)
    engine.broker.setcommission(commission=2.0, margin=500.0, mult=50.0)
    return engine


def test_futures_are_sized_by_what_the_contract_loses_at_its_stop():
    limits = {"notional_limit": None}
    strategy = protected(futures(*flat(20)), {16: lambda s: s.buy(size=100)}, **limits)
    assert fills(strategy) == [(17, 5, 100.0)]  # 4 x 50 a contract, 1,000 in all
    strategy = protected(futures(*flat(20)), {16: lambda s: s.buy()}, **limits)
    assert fills(strategy) == [(17, 5, 100.0)]
    strategy = protected(futures(*flat(20)), {16: lambda s: s.buy(size=100)})
    assert fills(strategy) == [(17, 5, 100.0)]


def test_the_stop_of_a_future_loses_what_was_planned():
    rows = [*flat(18), (100, 101, 90, 92), *flat(3, price=92.0)]
    strategy = protected(futures(*rows), {16: lambda s: s.buy(size=100)}, notional_limit=None)
    assert fills(strategy) == [(17, 5, 100.0), (19, -5, 96.0)]
    assert strategy.broker.getvalue() == 100_000.0 - 1000.0 - 20.0


def test_interest_alone_trips_the_breaker():
    engine = cerebro(bars(*flat(60)))
    engine.broker.setcommission(0.0, interest=2.0, interest_long=True)
    strategy = breaker_only(engine, {16: lambda s: s.buy(size=900)})
    analysis = breaker_of(strategy)
    assert analysis["flattened"]
    # A day costs 900 x 100 x 2 / 365 = 493: 21 of them are the first to be more than 10,000.
    assert analysis["drawdown_at_trip"] == pytest.approx(21 * 180_000 / 365 / 100_000)


@pytest.mark.parametrize("fundmode", [False, True])
@pytest.mark.parametrize("amount", [50_000.0, -5_000.0])
def test_a_deposit_or_withdrawal_is_no_gain_and_no_loss(fundmode, amount):
    """The 900 shares lose 900 for each point; cash that comes or goes only dilutes that."""
    engine = cerebro(bars(*CRASH))
    engine.broker.set_fundmode(fundmode, 50.0)
    actions = {16: lambda s: s.buy(size=900), 18: lambda s: s.broker.add_cash(amount)}
    strategy = breaker_only(engine, actions)
    analysis = breaker_of(strategy)
    before = 1.0 - 2 * 900.0 / 100_000.0  # at the close of bar 18, when the cash is booked
    value = 98_200.0 + amount
    prices = np.arange(94.0, 60.0, -2.0)
    units = [before * (1.0 - 900.0 * (96.0 - price) / value) for price in prices]
    tripped = next(unit for unit in units if unit <= 0.9)
    assert analysis["drawdown_at_trip"] == pytest.approx(1.0 - tripped)
    assert analysis["high_water_mark"] == pytest.approx(50.0)
    assert analysis["flattened"]


# -- kinds of orders ------------------------------------------------------------------------------

ENTRIES = {
    "Market": {},
    "Close": {"exectype": Order.Close},
    "Limit": {"exectype": Order.Limit, "price": 99.5},
    "Stop": {"exectype": Order.Stop, "price": 100.5},
    "StopLimit": {"exectype": Order.StopLimit, "price": 100.5, "plimit": 100.8},
    "StopTrail": {"exectype": Order.StopTrail, "trailamount": 0.5},
    "StopTrailLimit": {
        "exectype": Order.StopTrailLimit,
        "price": 100.5,
        "plimit": 100.5,
        "trailamount": 0.5,
    },
}
EXITS = {
    **ENTRIES,
    "Limit": {"exectype": Order.Limit, "price": 100.5},
    "Stop": {"exectype": Order.Stop, "price": 99.5},
    "StopLimit": {"exectype": Order.StopLimit, "price": 99.5, "plimit": 99.2},
    "StopTrailLimit": {
        "exectype": Order.StopTrailLimit,
        "price": 99.5,
        "plimit": 99.5,
        "trailamount": 0.5,
    },
}


@pytest.mark.parametrize("kind", ENTRIES)
def test_entries_of_every_kind_are_judged_together(kind):
    def two(strategy):
        return [strategy.buy(size=200, **ENTRIES[kind]) for _ in range(2)]

    strategy = protected(cerebro(bars(*flat(24))), {16: two})
    assert [end[:2] for end in ends(strategy)] == [("Completed", 200), ("Completed", 50)]
    assert ends(strategy)[1][3] == RISK


@pytest.mark.parametrize("kind", EXITS)
def test_exits_of_every_kind_pass_whole_while_entries_are_refused(kind):
    actions = {
        16: lambda s: s.buy(size=200),
        17: lambda s: s.broker.set_state("test", bt_risk.gate.broker.REDUCING, "test: closed"),
        18: lambda s: (s.sell(size=200, **EXITS[kind]), s.buy(size=1)),
    }
    strategy = protected(cerebro(bars(*flat(24))), actions)
    _, closed, refused = ends(strategy)
    assert closed[:2] == ("Completed", -200)
    assert refused == ("Rejected", 0, 0.0, "test: closed")
    assert held(strategy)[-1] == 0
    assert strategy.broker.inner.get_orders_open() == []


@pytest.mark.parametrize("kind", EXITS)
def test_an_exit_of_any_kind_and_the_stop_never_sell_twice_in_one_bar(kind):
    engine = cerebro(bars(*flat(18), (100, 101, 90, 92), *flat(4, price=92.0)))
    actions = {16: lambda s: s.buy(size=200), 18: lambda s: s.sell(size=200, **EXITS[kind])}
    strategy = protected(engine, actions)
    assert [size for _, size, _ in fills(strategy)] == [200, -200]
    assert held(strategy)[-1] == 0
    assert strategy.broker.inner.get_orders_open() == []


STOPPED = [*flat(18), (100, 101, 90, 92), *flat(3, price=92.0)]


def test_an_exit_at_the_close_goes_with_the_position_whatever_rests_beside_it():
    """The stop sells 200 within bar 19: nothing is left that 100 could be sold of at its close."""
    actions = {
        16: lambda s: s.buy(size=200),
        17: lambda s: s.sell(size=200, exectype=Order.Limit, price=110.0),
        18: lambda s: s.sell(size=100, exectype=Order.Close),
    }
    strategy = protected(cerebro(bars(*STOPPED)), actions)
    assert fills(strategy) == [(17, 200, 100.0), (19, -200, 96.0)]


def test_a_stop_and_an_exit_at_the_close_that_replace_each_other_shrink_together():
    """A hundred a bar: ours sells 100 of 200 at 96, so of the pair 100 are left, sold at 95."""

    def either(strategy):
        stop = strategy.sell(size=200, exectype=Order.Stop, price=95.0)
        strategy.sell(size=200, exectype=Order.Close, oco=stop)

    engine = cerebro(bars(*STOPPED))
    engine.broker.set_filler(bt.fillers.FixedSize(size=100))
    strategy = protected(engine, {16: lambda s: s.buy(size=200), 18: either})
    assert held(strategy)[16:] == [100, 200, 0, 0, 0, 0]
    assert strategy.broker.inner.get_orders_open() == []


CLOSELESS = [*flat(17), (100, 101, 99, math.nan), (99, 101, 98, 100), *flat(3)]


@pytest.mark.parametrize("kind", ["buy", "sell"])
def test_an_order_at_the_close_of_a_bar_that_has_none_waits_for_the_next(kind):
    """A fill at no price would leave an account that is not a number, and no stop."""
    actions = {16: lambda s: s.buy(size=100), 17: lambda s: getattr(s, kind)(exectype=Order.Close)}
    strategy = protected(cerebro(bars(*CLOSELESS)), actions)
    assert [fill[0] for fill in fills(strategy)] == [17, 19]
    assert fills(strategy)[1][2] == 100.0
    assert math.isfinite(strategy.broker.getvalue())


def test_an_exit_at_the_close_of_a_feed_that_pauses_waits_for_a_close_that_is_there():
    """Placed on a bar without one: BackBroker would fill it at that close two bars later."""
    clock = bars(*flat(24))
    frame = bars(*flat(24)).drop(clock.index[18])
    frame.loc[clock.index[17], "close"] = math.nan

    def leave(strategy):
        strategy.sell(data=strategy.datas[1], size=100, exectype=Order.Close)

    actions = {16: lambda s: s.buy(data=s.datas[1], size=100), 18: leave}
    strategy = protected(cerebro(clock, frame), actions)
    assert fills(strategy) == [(17, 100, 100.0), (21, -100, 100.0)]


def test_on_the_close_an_exit_of_a_bar_that_has_none_leaves_at_the_next_open():
    engine = on_close(*CLOSELESS)
    strategy = protected(engine, {16: lambda s: s.buy(size=100), 18: lambda s: s.close()})
    assert fills(strategy) == [(17, 100, 100.0), (19, -100, 99.0)]
    assert math.isfinite(strategy.broker.getvalue())


def test_an_order_that_expires_gives_its_risk_back():
    rest = {"exectype": Order.Limit, "price": 90.0, "valid": DAY}
    actions = {
        16: lambda s: s.buy(size=250, **rest),
        17: lambda s: s.buy(size=250),
        19: lambda s: s.buy(size=250),
    }
    strategy = protected(cerebro(bars(*flat(24))), actions)
    assert [end[0] for end in ends(strategy)] == ["Expired", "Rejected", "Completed"]


def test_an_order_that_is_cancelled_gives_its_risk_back():
    rest = {"exectype": Order.Limit, "price": 90.0}
    actions = {
        16: lambda s: s.buy(size=250, **rest),
        17: lambda s: (s.cancel(s.made[0]), s.buy(size=250)),
    }
    strategy = protected(cerebro(bars(*flat(24))), actions)
    assert [end[0] for end in ends(strategy)] == ["Canceled", "Completed"]


def test_a_cancel_in_the_bar_of_submission_that_does_nothing_frees_nothing():
    """BackBroker ignores it, and the order fills: it has to count."""
    actions = {16: lambda s: (s.cancel(s.buy(size=250)), s.buy(size=250))}
    strategy = protected(cerebro(bars(*flat(24))), actions)
    assert [end[0] for end in ends(strategy)] == ["Completed", "Rejected"]
    assert held(strategy)[-1] == 250


def test_alternatives_of_an_oco_group_bind_the_risk_of_one():
    def group(strategy):
        first = strategy.buy(size=250, exectype=Order.Limit, price=98.0)
        second = strategy.buy(size=250, exectype=Order.Stop, price=100.5, oco=first)
        third = strategy.buy(size=250, exectype=Order.Limit, price=97.0, oco=second)
        return first, second, third

    actions = {16: group, 18: lambda s: s.buy(size=1)}
    strategy = protected(cerebro(bars(*flat(24))), actions)
    assert [end[0] for end in ends(strategy)] == ["Canceled", "Completed", "Canceled", "Rejected"]
    assert held(strategy)[-1] == 250


@pytest.mark.parametrize("wide", [(100, 110, 90, 100), (100, 101, 90, 92), (100, 110, 99, 108)])
def test_several_brackets_at_once_share_the_limit_and_end_flat(wide):
    family = {"price": 100.0, "exectype": Order.Market, "stopprice": 98.0, "limitprice": 104.0}
    actions = {16: lambda s: [s.buy_bracket(size=300, **family) for _ in range(2)]}
    engine = cerebro(bars(*flat(18), wide, *flat(4, price=wide[-1])))
    strategy = protected(engine, actions)
    # 1 % of 100,000 at their own stop, 2 away, is 500 units: 300, and 200 of the second.
    assert [end[1] for end in ends(strategy) if end[1] > 0] == [300, 200]
    assert held(strategy)[17:] == [500, *[0] * 5]
    assert strategy.broker.inner.get_orders_open() == []


# -- feeds with holes -----------------------------------------------------------------------------

NO_CLOSE = (100, 101, 99, math.nan)
NO_BAR = (math.nan,) * 4


@pytest.mark.parametrize("hole", [NO_CLOSE, NO_BAR])
@pytest.mark.parametrize("mode", feeds.MODES)
def test_on_a_bar_with_a_hole_entries_are_refused_and_the_stop_stays(hole, mode):
    rows = [*flat(17), hole, *flat(2), (100, 101, 94, 100), *flat(2)]
    engine = cerebro(bars(*rows), **feeds.MODES[mode])
    actions = {16: lambda s: s.buy(size=10), 18: lambda s: s.buy(size=10)}
    strategy = protected(engine, actions)
    assert [fill[1:] for fill in fills(strategy)] == [(10, 100.0), (-10, 96.0)]
    assert held(strategy)[19:21] == [10, 0]
    assert [end for end in ends(strategy) if end[0] == "Rejected"] == [
        ("Rejected", 0, 0.0, "unknown: D0 has no valid price")
    ]
    assert breaker_of(strategy)["state"] == "ARMED"
    assert breaker_of(strategy)["high_water_mark"] == pytest.approx(100.0)


@pytest.mark.parametrize("hole", [NO_CLOSE, NO_BAR])
def test_an_exit_of_a_bar_with_a_hole_passes(hole):
    rows = [*flat(17), hole, *flat(5)]
    strategy = protected(
        cerebro(bars(*rows)), {16: lambda s: s.buy(size=10), 18: lambda s: s.close()}
    )
    assert [size for _, size, _ in fills(strategy)] == [10, -10]
    assert held(strategy)[-1] == 0


@pytest.mark.parametrize("mode", [{}, {"runonce": False}, {"exactbars": -1}, {"oldsync": True}])
def test_a_feed_that_starts_late_is_unknown_until_it_has_an_atr(mode):
    engine = cerebro(bars(*flat(60)), bars(*flat(40), start="2020-01-21"), **mode)
    actions = {day: lambda s: s.buy(s.data1, size=10) for day in (10, 25, 40)}
    strategy = protected(engine, actions, Careful, correlation_limit=None)
    first, second, third = ends(strategy)
    assert first == ("Rejected", 0, 0.0, "unknown: D1 has no bar yet")
    assert (second[0], third[:2]) == ("Rejected", ("Completed", 10))
    assert "ATR(14) needs 15 bars, D1 has 5" in second[3]


def test_a_late_feed_is_protected_on_its_own_bars():
    late = bars(*flat(20), (100, 101, 90, 92), *flat(19, price=92.0), start="2020-01-21")
    engine = cerebro(bars(*flat(60)), late)
    actions = {38: lambda s: s.buy(s.data1, size=10)}
    strategy = protected(engine, actions, Careful, correlation_limit=None)
    assert fills(strategy) == [(39, 10, 100.0), (41, -10, 96.0)]


def test_an_entry_on_a_feed_that_has_ended_is_refused():
    engine = cerebro(bars(*flat(40)), bars(*flat(20)))
    actions = {30: lambda s: s.buy(s.data1, size=10)}
    (end,) = ends(protected(engine, actions, correlation_limit=None))
    assert end[0] == "Rejected"
    assert "D1" in end[3]


def test_a_position_on_a_feed_that_has_ended_keeps_the_breaker_from_being_flat():
    """What can be closed is closed, entries stay refused, and the analysis says that it is not."""
    engine = cerebro(bars(*CRASH), bars(*flat(20)))
    actions = {
        16: lambda s: (s.buy(size=800), s.buy(s.data1, size=10)),
        30: lambda s: s.buy(size=1),
    }
    strategy = breaker_only(engine, actions)
    assert held(strategy)[-1] == 0
    assert held(strategy, 1)[-1] == 10
    assert len(strategy.held) == len(CRASH)
    assert breaker_of(strategy)["flattened"] is False
    assert ends(strategy)[-1][0] == "Rejected"


def test_bars_that_are_missing_do_not_move_a_stop_of_their_data():
    frame = bars(*flat(18), (100, 112, 99, 111), *flat(6, price=111.0))
    engine = cerebro(bars(*flat(25)), frame.drop(frame.index[19:22]))
    seen = []

    def look(strategy):
        seen.append([w.price for w in strategy.broker.book.working.values() if w.own])

    actions = {16: lambda s: s.buy(s.data1, size=10)} | dict.fromkeys(range(18, 24), look)
    protected(engine, actions, correlation_limit=None)
    before, after = seen[0], seen[1]
    assert before < after
    assert seen[1:5] == [after] * 4


# -- what hangs on Cerebro ------------------------------------------------------------------------


def test_a_writer_gets_the_stop_and_the_decisions(tmp_path):
    path = tmp_path / "run.csv"
    engine = cerebro(bars(*flat(18), (100, 101, 90, 92), *flat(3, price=92.0)))
    engine.addwriter(bt.WriterFile, csv=True, out=str(path))
    protected(engine, {16: lambda s: s.buy(size=1000)})
    lines = path.read_text().splitlines()
    table = list(csv.DictReader(lines[1 : 2 + 22]))
    assert [row["stop"] for row in table[15:19]] == ["", "96.0", "96.0", ""]
    text = "\n".join(lines)
    assert "riskjournal" in text.lower()
    assert "RiskPerTrade" in text


def test_a_trade_history_holds_the_fill_of_the_stop():
    engine = cerebro(bars(*flat(18), (100, 101, 90, 92), *flat(3)), tradehistory=True)
    strategy = protected(engine, {16: lambda s: s.buy(size=10)})
    ((trade,),) = strategy._trades[strategy.data].values()
    assert [(step.event.size, step.event.price) for step in trade.history] == [
        (10, 100.0),
        (-10, 96.0),
    ]


@pytest.mark.parametrize("mode", ["runonce", "next", "no-preload", "quicknotify"])
def test_a_run_that_was_halted_can_be_plotted(mode):
    """Backtrader's plot asks for TkAgg when it is first imported: choose the backend after it."""
    matplotlib = pytest.importorskip("matplotlib")
    import backtrader.plot  # noqa: F401

    matplotlib.use("Agg")
    engine = cerebro(bars(*CRASH), **feeds.MODES[mode])
    policy = {"trigger": "close", "atr_multiple": 8.0}
    strategy = breaker_only(engine, {16: lambda s: s.buy(size=900)}, **policy)
    assert breaker_of(strategy)["flattened"]
    ((figure,),) = engine.plot(iplot=False)
    lines = [list(line.get_ydata()) for axes in figure.axes for line in axes.lines]
    drawn = [[price for price in line if price == price] for line in lines]
    assert [82.0] * len([size for size in held(strategy) if size]) in drawn  # 98 less 8 x 2
    matplotlib.pyplot.close(figure)


# -- anything at all ------------------------------------------------------------------------------


class Watch(bt.Analyzer):
    """Compare, at every close, what the gate believes with what BackBroker has."""

    def __init__(self):
        self.faults, self.stops = [], 0

    def notify_order(self, order):
        reason = order.info.get("bt_risk", "")
        if order.status == order.Rejected and order.parent is None and not reason:
            self.faults.append(f"{len(self.strategy)}: rejected without a reason")
        if order.status == order.Completed and reason.startswith("ATRTrailingStop"):
            self.stops += 1

    def prenext(self):
        self.next()

    def next(self):
        gate = self.strategy.broker
        for instrument in gate.book.instruments:
            position = gate.inner.positions.get(instrument.data)
            size = position.size if position is not None else 0.0
            if abs(size - instrument.size) > 1e-6:
                self.faults.append(f"{len(self.strategy)}: {instrument.size} is {size}")
            self._check_stops(gate, instrument)

    def _check_stops(self, gate, instrument):
        """No stop is larger than what it protects; one that has begun to fill is cut later."""
        for side in (1, -1):
            guarded = sum(part.size * side for part in instrument.parts if part.size * side > 0)
            resting = [
                abs(order.executed.remsize)
                for order in gate.inner.pending
                if order is not None
                and order.ref in gate.own
                and order.data is instrument.data
                and order.exectype == Order.Stop
                and order.status == order.Accepted
                and order.isbuy() == (side < 0)
            ]
            if sum(resting) > guarded + 1e-6:
                self.faults.append(f"{len(self.strategy)}: stops of {resting} behind {guarded}")


@pytest.mark.parametrize("seed", sliced(range(2000, 2060), 7))
def test_in_every_mode_the_book_is_right_and_no_stop_is_larger_than_its_position(seed):
    world = World(seed)
    bare = everything.play(world)
    engine, _ = world.cerebro()
    policy = Policy(
        atr_period=3,
        atr_multiple=1.0 + seed % 3,
        window=20,
        min_periods=5,
        drawdown_limit=0.05,
        action=("stop", "pause")[seed % 2],
        cooldown_bars=(None, 10)[seed % 2],
        anchor=("close", "extreme")[seed % 3 == 0],
        trigger=("intrabar", "close")[seed % 7 == 0],
    )
    protect(engine, policy)
    engine.addanalyzer(Watch, _name="watch")
    for number in range(world.strategies):
        params = {"seed": seed + 1000 * number, **world.params}
        engine.addstrategy(everything.Everything, **params)
    error, strategies = ended(engine)
    # Backtrader itself does not survive a position on a feed that ends early, with oldsync.
    natural = type(bare[0]) is type and isinstance(error, bare[0])
    assert error is None or natural or "NaN to integer" in str(error), world.features
    for strategy in strategies:
        assert strategy.analyzers.watch.faults == [], world.features


def ended(engine):
    """Return the error that a run ended with, or None, and its strategies."""
    try:
        return None, engine.run()
    except Exception as error:
        return error, []
