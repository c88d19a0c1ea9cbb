"""HalfKellySizer on hand-made bars: what it proposes, what is filled, and what it learns from.

The market stands still at 100 with a range of 2, so the ATR is 2 and the stop 4 away. 1 % of
100,000 at risk is 1,000: 250 units.
"""

import logging
import math
from datetime import date, datetime, timedelta

import backtrader as bt
import pytest
from helpers.recording import play
from helpers.scenarios import MODES, Plan, bars, cerebro, flat, optimised, tape_of, taped

import bt_risk
from bt_risk.components.kelly_estimate import KellyEstimate
from bt_risk.components.settings import SizerSettings
from bt_risk.errors import ParameterError

NAN = math.nan
CALM = flat(8)
# A range of 0.2: the stop is 0.4 away, risk alone would buy 2,500 units for 250,000.
QUIET = flat(8, width=0.1)


def order(bar, method, **arguments):
    return bar, method, arguments


def sized(*frames, cash=100_000.0, **params):
    engine = cerebro(*frames, cash=cash)
    engine.addsizer(bt_risk.HalfKellySizer, **({"atr_period": 3} | params))
    return engine


ONE_BUY = [order(5, "buy")]


def bought(engine, plan=ONE_BUY, mode="runonce", **kwargs):
    return [fill[2:] for fill in tape_of(taped(engine, plan, mode, **kwargs))["fills"]]


# -- the size ------------------------------------------------------------------------------------

EDGE = [1.0] * 51 + [-1.0] * 49  # f* = 0.51 - 0.49 = 0.02, half of it 0.01
NO_EDGE = [-1.0] * 100
FAT = [1.0] * 60 + [-1.0] * 39 + [-6.0]

# name: sizer's parameters, rows, units
SIZES = {
    "risks 1 % during warm-up": ({}, CALM, 250),
    "risks warmup_risk": ({"warmup_risk": 0.005}, CALM, 125),
    "waits for the last of min_trades": ({"history": [1.0] * 99}, CALM, 250),
    "atr_multiple 4 is half the size": ({"atr_multiple": 4.0}, CALM, 125),
    "notional_limit cuts 25,000 to 10,000": ({"notional_limit": 0.1}, CALM, 100),
    "notional_limit of 1 cuts 2,500 units to 1,000": ({}, QUIET, 1000),
    "cash cuts what notional_limit does not": ({"notional_limit": None}, QUIET, 1000),
    "half Kelly of a small edge": ({"history": EDGE}, CALM, 250),
    "kelly_scale 1 is full Kelly": ({"history": EDGE, "kelly_scale": 1.0}, CALM, 500),
    "kelly_limit caps at 2 %": ({"history": [1.5] * 55 + [-1.0] * 45}, CALM, 500),
    "kelly_limit is a parameter": (
        # f* = 0.25, half of it 0.125, capped at 0.03
        {"history": [1.5] * 55 + [-1.0] * 45, "kelly_limit": 0.03},
        CALM,
        750,
    ),
    "win_rate and payoff_ratio are a history": ({"win_rate": 0.51, "payoff_ratio": 1.0}, CALM, 250),
    # p / L - q / W = 0.6 / 1.125 - 0.4 = 0.1333; a twentieth of it is 0.00667: 166 units
    "two-point estimator": ({"history": FAT, "kelly_scale": 0.05}, CALM, 166),
    # 0.0867 / 20 = 0.004335: 108 units
    "empirical estimator": (
        {"history": FAT, "kelly_scale": 0.05, "estimator": "empirical"},
        CALM,
        108,
    ),
    "no edge is a probe of 0.1 %": ({"history": NO_EDGE}, CALM, 25),
    "an edge of exactly zero is a probe": ({"history": [1.0, -1.0] * 50}, CALM, 25),
    "probe_risk is a parameter": ({"history": NO_EDGE, "probe_risk": 0.002}, CALM, 50),
    "lookback takes the last 100": ({"history": [-1.0] * 50 + EDGE}, CALM, 250),
    "lookback 150 takes all": ({"history": [-1.0] * 50 + EDGE, "lookback": 150}, CALM, 25),
    "min_trades 2": ({"history": [-1.0, -1.0], "min_trades": 2}, CALM, 25),
    # ATR 2.3, 4.6 away: 217.39
    "rounds down to whole units": ({}, flat(8, width=1.15), 217),
    "step 0.1": ({"step": 0.1}, flat(8, width=1.15), 217.3),
    "step 100": ({"step": 100}, flat(8, width=1.15), 200),
}


@pytest.mark.parametrize("name", SIZES)
def test_size_that(name):
    params, rows, units = SIZES[name]
    assert bought(sized(bars(*rows), **params)) == [(units, 100.0)]


@pytest.mark.parametrize("mode", MODES)
def test_the_size_is_the_same_in_every_engine_mode(mode):
    assert bought(sized(bars(*CALM)), mode=mode) == [(250, 100.0)]


@pytest.mark.parametrize("maxcpus", [1, 2])
def test_an_optimisation_sizes_as_single_runs_do(maxcpus):
    plans = [[order(5, "buy")], [order(5, "sell")], [order(2, "buy")]]
    single = [tape_of(taped(sized(bars(*CALM)), plan)) for plan in plans]
    assert [tape_of(r) for r in optimised(sized(bars(*CALM)), plans, maxcpus)] == single


def test_a_second_run_of_the_same_cerebro_equals_the_first():
    engine = sized(bars(*CALM))
    first = taped(engine, [order(5, "buy"), order(6, "sell")])
    assert tape_of(engine.run()[0]) == tape_of(first)
    assert tape_of(first)["fills"]


def test_an_optimised_parameter_of_the_sizer_makes_the_size():
    """setsizer in the strategy's __init__, with the optimisation's own value."""
    engine = cerebro(bars(*CALM))
    engine.optstrategy(SetsInInit, warmup_risk=[0.01, 0.02], plan=[[order(5, "buy")]])
    engine.addanalyzer(Position)
    points = [point[0] for point in engine.run(maxcpus=1)]
    assert [p.analyzers.position.get_analysis()["size"] for p in points] == [250, 500]


def test_atr_period_is_a_parameter():
    """Ranges 2, 2, 2, 10: period 1 is 10 (stop 20 away, 50 units), period 2 is 6 (83.3)."""
    rows = [*flat(4), (100, 105, 95, 100), *flat(3)]
    assert bought(sized(bars(*rows), atr_period=1)) == [(50, 100.0)]
    assert bought(sized(bars(*rows), atr_period=2)) == [(83, 100.0)]


@pytest.mark.parametrize(("floor", "units"), [(0.5, 250), (0.25, 500), (0.0, 1000)])
def test_atr_floor_keeps_calm_from_growing_the_size(floor, units):
    """Twenty ATRs of 4, then ten of 0.5: the median is 4, half of it 2, a quarter of it 1."""
    rows = [*flat(21, width=2), *flat(10, width=0.25), *flat(2, width=0.25)]
    engine = sized(bars(*rows), atr_period=1, atr_floor=floor)
    assert bought(engine, [order(31, "buy")]) == [(units, 100.0)]


def test_the_floor_does_not_move_the_stop():
    """The stop of the position is 2 x 0.5 below the entry although the size was for 4."""
    rows = [*flat(21, width=2), *flat(12, width=0.25)]
    engine = sized(bars(*rows), atr_period=1)
    engine.addobserver(bt_risk.ATRTrailingStop, atr_period=1)
    strategy = taped(engine, [order(31, "buy")])
    assert strategy.stats.atrtrailingstop.lines.stop.array[31] == 99.0


def test_confidence_sizes_on_the_lower_bound():
    history = [1.5] * 60 + [-1.0] * 40
    bound = bt_risk.kelly_lower_bound(history, 0.8)
    assert 0 < bound < bt_risk.kelly_criterion(0.6, 1.5)
    units = math.floor(bound * 0.05 * 100_000 / 4)
    engine = sized(bars(*CALM), history=history, kelly_scale=0.05, confidence=0.8)
    assert bought(engine) == [(units, 100.0)]


def test_a_size_cut_by_the_notional_limit_is_whole():
    """30,000 at 101 a unit is 297.03."""
    rows = flat(8, price=101, width=0.1)
    assert bought(sized(bars(*rows), notional_limit=0.3)) == [(297, 101.0)]


def test_a_second_order_has_what_the_first_leaves_of_the_notional_limit():
    plan = [order(4, "buy", size=200), order(5, "buy")]
    assert bought(sized(bars(*CALM), notional_limit=0.3), plan) == [(200, 100.0), (100, 100.0)]


# -- cash, margin, commission --------------------------------------------------------------------


def test_two_buys_in_one_bar_share_the_cash():
    """Each may hold 60 %: the first takes 60,000, the second what is left."""
    engine = sized(bars(*QUIET), bars(*QUIET), notional_limit=0.6)
    plan = [order(5, "buy", data=0), order(5, "buy", data=1)]
    assert tape_of(taped(engine, plan))["fills"] == [
        (6, "D0", 600, 100.0),
        (6, "D1", 400, 100.0),
    ]


def test_a_resting_entry_keeps_its_cash():
    """300 wanted at 90 hold 27,000; 730 at 100 are left."""
    engine = sized(bars(*QUIET), bars(*QUIET))
    limit = order(4, "buy", data=0, size=300, price=90.0, exectype=bt.Order.Limit)
    fills = tape_of(taped(engine, [limit, order(5, "buy", data=1)]))["fills"]
    assert fills == [(6, "D1", 730, 100.0)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("commission", "units"), [(0.0, 990), (0.001, 989)])
def test_an_open_above_the_close_fits_to_the_cash_and_is_no_margin(mode, commission, units):
    """100,000 / 101 = 990.1; with 0.1 % commission 100,000 / 101.101 = 989.1."""
    engine = sized(bars(*QUIET[:5], (101, 101.1, 100.9, 101), *flat(2, price=101)))
    engine.broker.setcommission(commission=commission)
    tape = tape_of(taped(engine, [order(5, "buy")], mode))
    assert [fill[2:] for fill in tape["fills"]] == [(units, 101.0)]
    assert {status for *_, status in tape["notes"]} == {"Submitted", "Accepted", "Completed"}


def test_a_short_is_sized_like_a_long():
    assert bought(sized(bars(*CALM)), [order(5, "sell")]) == [(-250, 100.0)]


def test_the_proceeds_of_a_short_do_not_grow_the_next_one():
    """Cash is 125,000 after the first, equity still 100,000."""
    plan = [order(4, "sell"), order(5, "sell")]
    assert bought(sized(bars(*CALM)), plan) == [(-250, 100.0), (-250, 100.0)]


@pytest.mark.parametrize(("margin", "contracts"), [(2000.0, 25), (8000.0, 12)])
def test_futures_are_sized_by_multiplier_and_margin(margin, contracts):
    """1,000 / (4 x 10) = 25 contracts; 100,000 / 8,000 = 12.5 of them have their margin."""
    engine = sized(bars(*CALM))
    engine.broker.setcommission(commission=0.0, margin=margin, mult=10.0)
    assert bought(engine) == [(contracts, 100.0)]


def test_the_notional_of_futures_counts_the_multiplier():
    """10 % of 100,000 at 100 x 10 a contract is 10."""
    engine = sized(bars(*CALM), notional_limit=0.1)
    engine.broker.setcommission(commission=0.0, margin=500.0, mult=10.0)
    assert bought(engine) == [(10, 100.0)]


def test_percent_commission_is_paid_from_the_cash():
    """100,000 / 100.1 = 999.0009."""
    engine = sized(bars(*QUIET))
    engine.broker.setcommission(commission=0.001)
    assert bought(engine) == [(999, 100.0)]


class FixedFee(bt.CommInfoBase):
    """50 for each order, whatever its size."""

    params = dict(stocklike=True, commtype=bt.CommInfoBase.COMM_FIXED)

    def _getcommission(self, size, price, pseudoexec):
        return 50.0


def test_a_fixed_fee_is_paid_from_the_cash():
    """1,000 units and the fee are 100,050: 999 units."""
    engine = sized(bars(*QUIET))
    engine.broker.addcommissioninfo(FixedFee())
    assert bought(engine) == [(999, 100.0)]


def test_leverage_affords_more():
    """A fifth of the value is paid: 2,500 units cost 50,000."""
    engine = sized(bars(*QUIET), notional_limit=None)
    engine.broker.setcommission(commission=0.0, leverage=5.0)
    assert bought(engine) == [(2500, 100.0)]


@pytest.mark.parametrize(
    ("facts", "units"),
    [({"step": 0.1}, 217.3), ({"step": 10}, 210), ({"atr_multiple": 4.0, "step": 1}, 108)],
)
def test_instrument_facts_of_the_broker_count(facts, units):
    """ATR 2.3: 217.39 units at 2 ATRs, 108.7 at 4."""
    engine = sized(bars(*flat(8, width=1.15)))
    engine.setbroker(bt_risk.RiskBroker(engine.broker, instruments={"D0": facts}))
    assert bought(engine) == [(units, 100.0)]


# -- exits, brackets, set-up ---------------------------------------------------------------------


def test_a_sell_that_closes_a_long_returns_the_position():
    plan = [order(4, "buy", size=7), order(5, "sell")]
    assert bought(sized(bars(*CALM)), plan) == [(7, 100.0), (-7, 100.0)]


def test_a_buy_that_closes_a_short_returns_the_position():
    plan = [order(4, "sell", size=7), order(5, "buy")]
    assert bought(sized(bars(*CALM)), plan) == [(-7, 100.0), (7, 100.0)]


def test_an_exit_passes_before_the_atr_is_known():
    plan = [order(1, "buy", size=7), order(2, "sell")]
    assert bought(sized(bars(*CALM), atr_period=6), plan) == [(7, 100.0), (-7, 100.0)]


def test_a_bracket_survives_a_size_of_zero():
    strategy = taped(
        sized(bars(*CALM)), [order(2, "buy_bracket", stopprice=90.0, limitprice=110.0)]
    )
    (family,) = strategy.made
    assert [o.getstatusname() for o in family] == ["Rejected"] * 3
    assert family[0].info.bt_risk == "HalfKellySizer: ATR(3) needs 4 bars, D0 has 2"
    assert tape_of(strategy)["fills"] == []


@pytest.mark.parametrize(("bar", "fills"), [(3, []), (4, [(250, 100.0)])])
def test_the_first_size_is_there_with_the_first_atr(bar, fills):
    assert bought(sized(bars(*CALM)), [order(bar, "buy")]) == fills


class SetsInInit(Plan):
    """Brings its own sizer."""

    params = {"warmup_risk": 0.02}

    def __init__(self):
        super().__init__()
        self.setsizer(bt_risk.HalfKellySizer(atr_period=3, warmup_risk=self.p.warmup_risk))


class SetsInStart(Plan):
    """Brings its own sizer, late."""

    def start(self):
        self.setsizer(bt_risk.HalfKellySizer(atr_period=3, warmup_risk=0.02))


class Position(bt.Analyzer):
    """The size of the position at the end."""

    def stop(self):
        self.rets["size"] = self.strategy.position.size


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("strategy", [SetsInInit, SetsInStart])
def test_setsizer_works_wherever_the_strategy_calls_it(strategy, mode):
    assert bought(cerebro(bars(*CALM)), mode=mode, strategy=strategy) == [(500, 100.0)]


# -- the Kelly estimate --------------------------------------------------------------------------


class Asks(Plan):
    """Asks its sizer on every bar from `first` on."""

    params = {"first": 4}

    def __init__(self):
        super().__init__()
        self.asked = []

    def next(self):
        super().next()
        if len(self) >= self.p.first:
            size = float(self.getsizing(self.data))
            self.asked.append((self.data.datetime.datetime(), size, self.getsizer().state))


def round_trips(*numbers):
    """Return a plan that buys on these bars and leaves on the next: a loss by commission only.

    Both fill at the open after that: what is bought on bar 2 is sold on bar 4.
    """
    return [step for n in numbers for step in (order(n, "buy"), order(n + 1, "close"))]


def probe_times(frame, plan, **params):
    """Return when the sizer is in state PROBE; two losing trades are its whole sample."""
    engine = sized(frame, min_trades=2, lookback=2, atr_period=1, **params)
    engine.broker.setcommission(commission=0.001)
    strategy = taped(engine, plan, strategy=Asks)
    return [time for time, _, state in strategy.asked if state == "PROBE"]


def test_the_estimate_is_frozen_within_the_iso_week():
    """Monday 6 January; the trades close on Thursday and Saturday; the next Monday is the 13th."""
    frame = bars(*flat(20), start="2020-01-06")
    assert probe_times(frame, round_trips(2, 4))[0].date() == date(2020, 1, 13)


def test_asked_late_in_the_week_it_knows_what_was_closed_before_the_week_began():
    """Both trades are over by Saturday 11 January; the first question comes on Sunday."""
    plan = [order(2, "buy", size=10, stop_price=96.0), order(3, "close")]
    plan += [order(4, "buy", size=10, stop_price=96.0), order(5, "close")]
    engine = sized(bars(*flat(9), start="2020-01-06"), min_trades=2, lookback=2, atr_period=1)
    engine.broker.setcommission(commission=0.001)
    asked = taped(engine, plan, strategy=Asks, first=7).asked
    assert [(time.day, state) for time, _, state in asked] == [
        (12, "WARMUP"),
        (13, "PROBE"),
        (14, "PROBE"),
    ]


def test_the_iso_week_goes_on_over_new_year():
    """Monday 30 December; both trades are closed by 4 January; nothing changes before the 6th."""
    frame = bars(*flat(20), start="2019-12-30")
    assert probe_times(frame, round_trips(2, 4))[0].date() == date(2020, 1, 6)


def test_the_week_of_hourly_data_begins_on_monday_at_midnight():
    frame = bars(*flat(100), start="2020-01-10 00:00", freq="h")
    assert probe_times(frame, round_trips(5, 8))[0] == datetime(2020, 1, 13, 0)


@pytest.mark.parametrize(
    ("recalculate", "first"),
    [
        ("daily", datetime(2020, 1, 31)),
        ("weekly", datetime(2020, 2, 3)),
        ("monthly", datetime(2020, 2, 1)),
    ],
)
def test_recalculate_says_when(recalculate, first):
    """Hourly bars from Thursday 30 January on; both trades are over that morning."""
    frame = bars(*flat(120), start="2020-01-30", freq="h")
    assert probe_times(frame, round_trips(5, 8), recalculate=recalculate)[0] == first


@pytest.mark.parametrize("recalculate", ["daily", "weekly", "monthly"])
def test_a_period_begins_where_the_calendar_says(recalculate):
    kelly = KellyEstimate(SizerSettings(recalculate=recalculate), None, None)
    first = date(2019, 12, 20).toordinal()
    for day in range(first, first + 60):
        for part in (0.0, 0.5, 0.99991, 1.0 - 1e-7, 1.0 - 1.2e-10):
            now = bt.num2date(day + part).date()
            begin = {
                "daily": now,
                "weekly": now - timedelta(days=now.weekday()),
                "monthly": now.replace(day=1),
            }
            assert kelly._period_begin(day + part) == begin[recalculate].toordinal()


def test_recalculate_trade_counts_at_once():
    """The second round trip, bought on bar 8, is sold at the open of bar 10: 09:00."""
    frame = bars(*flat(120), start="2020-01-30", freq="h")
    times = probe_times(frame, round_trips(5, 8), recalculate="trade")
    assert times[0] == datetime(2020, 1, 30, 9)


@pytest.mark.parametrize(("pool", "sizes"), [("strategy", (24, 24)), ("data", (24, 249))])
def test_pool_data_does_not_learn_from_another_data(pool, sizes):
    """One losing trade on D0 alone: 0.1 % of a little less than 100,000, or 1 % of it."""
    engine = sized(
        bars(*flat(9)), bars(*flat(9)), pool=pool, min_trades=1, lookback=1, recalculate="trade"
    )
    engine.broker.setcommission(commission=0.001)
    plan = [*round_trips(4), order(7, "buy", data=0), order(7, "buy", data=1)]
    fills = tape_of(taped(engine, plan))["fills"][2:]
    assert fills == [(8, "D0", sizes[0], 100.0), (8, "D1", sizes[1], 100.0)]


def test_a_strategy_does_not_learn_from_the_trades_of_another():
    engine = sized(bars(*flat(9)), min_trades=1, lookback=1, recalculate="trade")
    engine.broker.setcommission(commission=0.001)
    engine.addstrategy(Asks, plan=round_trips(4))
    engine.addstrategy(Asks, plan=[])
    loser, other = engine.run()
    assert loser.asked[-1][2] == "PROBE"
    assert other.asked[-1][2] == "WARMUP"


# -- probe and starvation ------------------------------------------------------------------------


def test_probe_risk_zero_refuses_natively_with_the_kelly():
    strategy = taped(sized(bars(*CALM), history=NO_EDGE, probe_risk=0), [order(5, "buy")])
    assert strategy.made[0].getstatusname() == "Rejected"
    assert tape_of(strategy)["reasons"] == [
        (6, "HalfKellySizer: Kelly -1.0000 <= 0 over the last 100 trades")
    ]


def starving(**kwargs):
    """0.1 % of 100,000 is 100, the stop is 2 x 200 away: a quarter of a unit."""
    engine = sized(bars(*flat(9, price=1000, width=100)), history=NO_EDGE, **kwargs)
    engine.addanalyzer(bt_risk.RiskJournal)
    return taped(engine, [order(bar, "buy") for bar in (5, 6, 7)])


def test_a_probe_below_one_step_is_starved_rejected_journalled_and_warned_of_once(caplog):
    with caplog.at_level(logging.WARNING, logger="bt_risk"):
        strategy = starving()
    assert strategy.getsizer().state == "STARVED"
    assert [o.getstatusname() for o in strategy.made] == ["Rejected"] * 3
    counts = strategy.analyzers.riskjournal.counts()
    assert counts["HalfKellySizer", "starved"] == 1
    assert counts["HalfKellySizer", "reject"] == 3
    assert len([r for r in caplog.records if " starved " in r.message]) == 1


def test_a_fractional_step_is_not_starved():
    strategy = starving(step=0.01)
    assert strategy.getsizer().state == "PROBE"
    assert [fill[2] for fill in tape_of(strategy)["fills"]] == [0.25] * 3


def test_a_probe_below_the_minimum_notional_is_starved():
    """25 units are worth 2,500."""
    for floor, state in ((2500, "PROBE"), (2501, "STARVED")):
        engine = sized(bars(*CALM), history=NO_EDGE)
        facts = {"D0": {"min_notional": floor}}
        engine.setbroker(bt_risk.RiskBroker(engine.broker, instruments=facts))
        assert taped(engine, [order(5, "buy")]).getsizer().state == state


def test_too_small_during_warm_up_is_rejected_but_not_starved():
    strategy = taped(sized(bars(*flat(8, price=1000, width=500)), cash=1000.0), [order(5, "buy")])
    assert strategy.getsizer().state == "WARMUP"
    assert "buys less than one step" in tape_of(strategy)["reasons"][0][1]


# -- R-multiples ---------------------------------------------------------------------------------

# Four calm bars, then opens of 100, 104, 106, 108 and the ATR that comes with them; the first
# distance of a trade is frozen at the close of bar 4: 2 x 2 = 4.
STEPS = [
    *flat(5),
    (104, 105, 103, 104),
    (106, 107, 105, 106),
    (108, 109, 107, 108),
    *flat(2, price=108),
]


def trades_of(plan, rows=STEPS, **commission):
    engine = cerebro(bars(*rows))
    engine.setbroker(bt_risk.RiskBroker(engine.broker, atr_period=2))
    engine.broker.setcommission(**commission)
    engine.addanalyzer(bt_risk.RiskJournal)
    return taped(engine, plan).analyzers.riskjournal


def test_r_of_a_pyramided_and_partly_closed_trade_is_net_of_commission():
    """10 at 100, 10 at 104, -5 at 106, -15 at 108: 110 gross, 0.1 % of 4,190 is 4.19.

    Risked: 4 x 20, the largest size.
    """
    plan = [
        order(4, "buy", size=10),
        order(5, "buy", size=10),
        order(6, "sell", size=5),
        order(7, "close"),
    ]
    journal = trades_of(plan, commission=0.001)
    assert journal.r_multiples() == pytest.approx([(110 - 4.19) / 80])
    (trade,) = journal.trades().to_dict("records")
    assert (trade["side"], trade["size"], trade["pnl"]) == (1, 20, pytest.approx(105.81))


def test_r_of_a_short_future_counts_the_multiplier():
    """Short 2 at 100, bought at 104: -4 x 2 x 10, and 1 a contract and side: -84 of 80 risked."""
    plan = [order(4, "sell", size=2), order(5, "close")]
    journal = trades_of(plan, commission=1.0, margin=2000.0, mult=10.0)
    assert journal.r_multiples() == pytest.approx([-84 / 80])


def test_a_reversal_ends_one_trade_and_begins_another():
    """+40 less 1.00 for the entry and a third of 3.12; then short 20 from 104 to 106.

    The second distance is 2 x ATR of bar 5: 4.
    """
    plan = [order(4, "buy", size=10), order(5, "sell", size=30), order(6, "close")]
    journal = trades_of(plan, commission=0.001)
    assert journal.r_multiples() == pytest.approx(
        [(40 - 1.0 - 1.04) / 40, (-40 - 2.08 - 2.12) / 80]
    )
    assert journal.trades()["side"].tolist() == [1, -1]


def test_a_stop_price_of_the_user_is_the_risk_of_the_trade():
    plan = [order(4, "buy", size=10, stop_price=98.0), order(5, "close")]
    assert trades_of(plan, commission=0.0).r_multiples() == pytest.approx([40 / 20])


def test_the_history_of_one_run_feeds_the_sizer_of_the_next():
    """Two round trips of +1 R: 4 points at a distance of 4; Kelly is 1, capped at 2 %: 500."""
    plan = [order(4, "buy", size=10), order(5, "close")]
    r = trades_of(plan, commission=0.0).r_multiples()
    assert r == [1.0]
    engine = sized(bars(*CALM), history=r, min_trades=1)
    assert bought(engine) == [(500, 100.0)]


# -- parameters ----------------------------------------------------------------------------------

WHOLE = "a whole number of at least 1"
BAD = [
    ("kelly_scale", {"kelly_scale": 50}, "in (0, 1]"),
    ("kelly_scale", {"kelly_scale": 0}, "in (0, 1]"),
    ("kelly_limit", {"kelly_limit": 2}, "in (0, 1]"),
    ("kelly_limit", {"kelly_limit": NAN}, "in (0, 1]"),
    ("lookback", {"lookback": 99}, "a whole number of at least 100"),
    ("min_trades", {"min_trades": 0}, WHOLE),
    ("min_trades", {"min_trades": 1.5}, WHOLE),
    ("warmup_risk", {"warmup_risk": 1.01}, "in (0, 1]"),
    ("warmup_risk", {"warmup_risk": 0}, "in (0, 1]"),
    ("probe_risk", {"probe_risk": -0.001}, "in [0, 1]"),
    ("recalculate", {"recalculate": "hourly"}, "one of 'weekly', 'daily', 'monthly', 'trade'"),
    ("estimator", {"estimator": "bayes"}, "one of 'two-point', 'empirical'"),
    ("confidence", {"confidence": 95}, "in (0, 1)"),
    ("confidence", {"confidence": 1.0}, "in (0, 1)"),
    ("pool", {"pool": "all"}, "one of 'strategy', 'data'"),
    ("atr_period", {"atr_period": 0}, WHOLE),
    ("atr_multiple", {"atr_multiple": 0}, "positive and finite"),
    ("atr_floor", {"atr_floor": -0.5}, "zero or more, and finite"),
    ("notional_limit", {"notional_limit": 0}, "positive, or None for no limit"),
    ("step", {"step": 0}, "positive and finite"),
    ("win_rate", {"win_rate": 55, "payoff_ratio": 1.0}, "in [0, 1]"),
    ("payoff_ratio", {"payoff_ratio": 0, "win_rate": 0.5}, "positive and finite"),
    ("history", {"history": [1.0, NAN]}, "finite multiples of the risk taken (R)"),
    ("history", {"history": [1.0, math.inf]}, "finite multiples of the risk taken (R)"),
]


@pytest.mark.parametrize(("param", "given", "constraint"), BAD)
def test_a_bad_parameter_raises_and_says_what_would_be_good(param, given, constraint):
    with pytest.raises(ParameterError) as caught:
        bt_risk.HalfKellySizer(**given)
    error = caught.value
    assert (error.component, error.param, error.constraint) == (
        "HalfKellySizer",
        param,
        constraint,
    )
    assert repr(given[param]) in str(error)


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"win_rate": 0.5}, "win_rate and payoff_ratio"),
        ({"payoff_ratio": 1.5}, "win_rate and payoff_ratio"),
        ({"history": [1.0], "win_rate": 0.5, "payoff_ratio": 1.0}, "history"),
    ],
)
def test_parameters_that_contradict_each_other_raise(given, param):
    with pytest.raises(ParameterError) as caught:
        bt_risk.HalfKellySizer(**given)
    assert caught.value.param == param


@pytest.mark.parametrize("history", [["a", "b"], 5, "abc"])
def test_a_history_that_is_no_list_of_numbers_raises(history):
    with pytest.raises(ParameterError, match="history"):
        bt_risk.HalfKellySizer(history=history)


def test_a_misspelt_parameter_raises():
    with pytest.raises((ParameterError, TypeError), match="kelly_fraction"):
        taped(sized(bars(*CALM), kelly_fraction=0.5))


def test_trades_of_unknown_risk_do_not_end_the_warm_up():
    """Two trades before there is an ATR have no R-multiple: the sample is empty still."""
    engine = cerebro(bars(*flat(30)))
    engine.addsizer(bt_risk.HalfKellySizer, min_trades=2, lookback=2, recalculate="trade")
    entries = dict.fromkeys((2, 6), lambda s: s.buy(size=1))
    exits = dict.fromkeys((4, 8), lambda s: s.close())
    strategy = play(engine, entries | exits | {20: lambda s: s.buy()})
    assert len(strategy.trades) == 2
    assert strategy.getsizer().state == "WARMUP"


def test_a_future_below_zero_is_sized_by_its_points():
    """ATR 2, stop at 4 points of 10 currency: 1 % of 100,000 is 25 contracts."""
    engine = cerebro(bars(*flat(40, price=-30.0)))
    engine.broker.setcommission(margin=1000.0, mult=10.0)
    engine.addsizer(bt_risk.HalfKellySizer)
    tape = tape_of(taped(engine, [(30, "buy", {})]))
    assert [fill[2] for fill in tape["fills"]] == [25]
