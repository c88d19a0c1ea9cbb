"""DrawdownBreaker on hand-made bars: when it trips, what it does, and what it reports.

The account starts with 100,000 and holds 500 units bought at 100, so that one point of price is
0.5 % of the account: a close of 80 is a drawdown of exactly 10 %.
"""

import datetime
import logging
import math

import backtrader as bt
import pytest
from helpers.scenarios import MODES, Plan, Tape, bars, cerebro, flat, optimised, tape_of, taped

import bt_risk
from bt_risk.errors import ParameterError

NAN = math.nan


def day(number):
    """Return the time of a bar, counted from 1."""
    return datetime.datetime(2020, 1, number)


def close_at(price, opening=None):
    """Return a bar that opens and closes there."""
    opening = price if opening is None else opening
    return (opening, max(opening, price), min(opening, price), price)


def braked(*frames, cash=100_000.0, **params):
    engine = cerebro(*frames, cash=cash)
    engine.addanalyzer(bt_risk.DrawdownBreaker, **params)
    return engine


def order(bar, method, **arguments):
    return bar, method, arguments


def breaker_of(result):
    return result.analyzers.drawdownbreaker.get_analysis()


def plain(fills):
    return [fill[:1] + fill[2:] for fill in fills]


BUY = order(1, "buy", size=500)
# Bought at the open of bar 2; bar 3 closes 10 % down; bar 4 opens at 78: 500 x 22 = 11 % down.
FALL = [*flat(2), close_at(80.0, 100), close_at(79.0, 78), *flat(4, price=79)]


# -- tripping ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_it_trips_at_exactly_the_limit_closes_at_the_next_open_and_stops(mode):
    strategy = taped(braked(bars(*FALL)), [BUY], mode)
    tape, report = tape_of(strategy), breaker_of(strategy)
    assert plain(tape["fills"]) == [(2, 500, 100.0), (4, -500, 78.0)]
    assert tape["positions"] == [(0,), (500,), (500,), (0,)]
    assert (report["tripped_at"], report["flat_at"]) == (day(3), day(4))
    assert report["drawdown_at_trip"] == pytest.approx(0.10, abs=1e-12)
    assert report["drawdown_at_flat"] == pytest.approx(0.11, abs=1e-12)
    assert report["overshoot"] == pytest.approx(0.01, abs=1e-12)
    assert report["flattened"] is True
    assert report["state"] == "LOCKED"
    assert len(report["trips"]) == 1


@pytest.mark.parametrize(
    ("close", "trips"),
    # 500 x 1e-9 / 100,000 = 5e-12 under the limit, 500 x 1e-10 / 100,000 = 5e-13 under it.
    [(80.0, 1), (80.0 + 1e-10, 1), (80.0 + 1e-9, 0), (80.01, 0), (79.99, 1)],
)
def test_it_trips_within_rounding_of_the_limit_and_not_above(close, trips):
    rows = [*flat(2), close_at(close, 100), *flat(3, price=close)]
    strategy = taped(braked(bars(*rows)), [BUY])
    assert len(breaker_of(strategy)["trips"]) == trips
    assert len(tape_of(strategy)["values"]) == (4 if trips else 6)


@pytest.mark.parametrize("limit", [None, math.inf])
def test_without_a_limit_it_never_trips(limit):
    strategy = taped(braked(bars(*FALL), drawdown_limit=limit), [BUY])
    assert breaker_of(strategy)["trips"] == []
    assert len(tape_of(strategy)["values"]) == len(FALL)


def test_the_limit_counts_from_the_high_water_mark_and_not_from_the_start():
    """110,000 at 120; 99,000 at 98: 10 % below the mark, 1 % below the start."""
    rows = [*flat(2), close_at(120.0, 100), close_at(98.0, 120), *flat(3, price=98)]
    report = breaker_of(taped(braked(bars(*rows)), [BUY]))
    assert report["tripped_at"] == day(4)
    assert report["high_water_mark"] == pytest.approx(110.0)  # unit value starts at 100
    assert report["max_drawdown"] == pytest.approx(0.10)


def test_the_limit_is_a_parameter():
    strategy = taped(braked(bars(*FALL), drawdown_limit=0.11), [BUY])
    assert breaker_of(strategy)["trips"] == []  # bar 4 closes at 79: 10.5 %


def test_confirmations_wait_for_consecutive_closes():
    """80, 81, 80, 80: the second of two in a row is bar 6."""
    rows = [*flat(2), *[close_at(p) for p in (80.0, 81.0, 80.0, 80.0, 80.0, 80.0)]]
    strategy = taped(braked(bars(*rows), confirmations=2), [BUY])
    assert breaker_of(strategy)["tripped_at"] == day(6)
    assert plain(tape_of(strategy)["fills"])[-1] == (7, -500, 80.0)


class Account:
    """An equity of the user's own, by the length of the strategy's data."""

    def __init__(self, values):
        self.values, self.broker = values, None

    def __call__(self):
        return self.values[len(self.broker.cerebro.datas[0]) - 1]


def test_equity_may_come_from_a_callable():
    """The broker's own value never falls; the callable loses 10 % on bar 3."""
    account = Account([100.0, 100.0, 90.0, 90.0, 90.0])
    engine = braked(bars(*flat(5)), equity=account)
    account.broker = engine.broker
    report = breaker_of(taped(engine, [BUY]))
    assert (report["tripped_at"], report["flat_at"]) == (day(3), day(4))


@pytest.mark.parametrize("mode", ["runonce", "next", "no-preload"])
def test_a_bar_of_nan_neither_trips_nor_moves_the_mark(mode):
    rows = [*flat(2), close_at(110.0, 100), (NAN, NAN, NAN, NAN), *[close_at(110.0)] * 2]
    rows += [close_at(94.5), close_at(89.0), *flat(2, price=89)]
    report = breaker_of(taped(braked(bars(*rows)), [BUY], mode))
    # Mark 105,000; 10 % below is 94,500, a close of 89. 94.5 is 97,250: 7.4 %.
    assert report["tripped_at"] == day(8)
    assert report["high_water_mark"] == pytest.approx(105.0)
    assert math.isfinite(report["max_drawdown"])


class Deposits(Plan):
    """Move cash as `plan` says."""

    def pay(self, amount):
        self.broker.add_cash(amount)


def test_a_withdrawal_is_no_drawdown():
    plan = [BUY, order(2, "pay", amount=-40_000.0)]
    strategy = taped(braked(bars(*flat(6))), plan, strategy=Deposits)
    assert tape_of(strategy)["values"][-1] == pytest.approx(60_000)
    assert breaker_of(strategy)["trips"] == []
    assert breaker_of(strategy)["max_drawdown"] == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(("close", "trips"), [(61.0, 0), (60.0, 1)])
def test_a_deposit_does_not_move_the_mark(close, trips):
    """200,000 after the deposit: 500 x 40 is 10 %."""
    rows = [*flat(4), *flat(4, price=close)]
    plan = [BUY, order(2, "pay", amount=100_000.0)]
    report = breaker_of(taped(braked(bars(*rows)), plan, strategy=Deposits))
    assert len(report["trips"]) == trips


# -- block, cancel, close, wait, stop ------------------------------------------------------------


class Rebuyer(bt.Strategy):
    """Buys on every bar, whatever happens."""

    params = {"plan": ()}

    def __init__(self):
        self.statuses, self.closed = [], []

    def notify_order(self, order):
        self.statuses.append((len(self.data), order.getstatusname(), order.size))

    def notify_trade(self, trade):
        self.closed.append((len(self.data), trade.isclosed, trade.pnl))

    def next(self):
        self.buy(size=500 if len(self) == 1 else 10)


@pytest.mark.parametrize("mode", MODES)
def test_a_strategy_that_buys_on_every_bar_is_flat_when_the_run_ends(mode):
    """Bars 1 and 2 buy 500 and 10; the buys of bars 3 and 4 are refused."""
    strategy = taped(braked(bars(*FALL)), (), mode, Rebuyer)
    tape = tape_of(strategy)
    assert tape["positions"] == [(0,), (500,), (510,), (0,)]
    assert [reason for _, reason in tape["reasons"]] == [
        "DrawdownBreaker: drawdown 0.1020 >= drawdown_limit 0.1000"  # 510 x 20
    ] * len(tape["reasons"])
    assert len(tape["reasons"]) >= 1


@pytest.mark.parametrize("mode", MODES)
def test_the_last_fill_is_notified_before_the_run_ends(mode):
    strategy = taped(braked(bars(*FALL)), (), mode, Rebuyer)
    # Bar 3's second entry of 10 fills at its open of 100, all leave at 78: -22 x 510.
    assert (4, "Completed", -510) in strategy.statuses
    assert strategy.closed[-1] == (4, True, -22.0 * 510)


def test_resting_entries_and_brackets_are_cancelled_and_do_not_fill_while_it_closes():
    """Bar 4 trades down to 70, through every limit; bar 3 went no lower than 80."""
    rows = [*flat(2), close_at(80.0, 100), (78, 78, 70, 75), *flat(3, price=75)]
    plan = [
        BUY,
        order(1, "buy", size=50, price=75.0, exectype=bt.Order.Limit),
        order(1, "buy_bracket", size=20, price=74.0, stopprice=60.0, limitprice=90.0),
        order(1, "sell", size=30, price=130.0, exectype=bt.Order.Limit),
    ]
    tape = tape_of(taped(braked(bars(*rows)), plan))
    assert plain(tape["fills"]) == [(2, 500, 100.0), (4, -500, 78.0)]
    cancelled = {number for _, number, status in tape["notes"] if status == "Canceled"}
    assert len(cancelled) >= 4  # the limit, the bracket's three, and the exit with its position


def test_a_resting_entry_on_another_data_is_cancelled():
    """D1 trades through the limit in the very bar in which D0 is closed."""
    other = [*flat(3), (100, 100, 70, 75), *flat(3, price=75)]
    engine = braked(bars(*FALL[:7]), bars(*other))
    limit = order(1, "buy", data=1, size=50, price=75.0, exectype=bt.Order.Limit)
    tape = tape_of(taped(engine, [BUY, limit]))
    assert tape["fills"] == [(2, "D0", 500, 100.0), (4, "D0", -500, 78.0)]
    assert [status for _, number, status in tape["notes"] if status == "Canceled"] == ["Canceled"]


def test_without_flatten_resting_entries_go_and_exits_stay():
    """Bar 4 goes from 70 to 110: the entry at 75 is gone, the take-profit at 105 is not.

    Of the 700 that it would have sold 500 close; the 200 that would open are gone as well.
    """
    rows = [*flat(2), close_at(80.0, 100), (80, 110, 70, 90), *flat(3, price=90)]
    plan = [
        BUY,
        order(1, "buy", size=50, price=75.0, exectype=bt.Order.Limit),
        order(2, "sell", size=700, price=105.0, exectype=bt.Order.Limit),
    ]
    tape = tape_of(taped(braked(bars(*rows), action="pause", flatten=False), plan))
    assert plain(tape["fills"]) == [(2, 500, 100.0), (4, -500, 105.0)]
    assert tape["positions"][-1] == (0,)


def test_a_bracket_around_the_position_is_gone_with_it():
    rows = [*flat(2), close_at(80.0, 100), (78, 78, 40, 50), *flat(3, price=50)]
    bracket = order(1, "buy_bracket", size=500, stopprice=60.0, limitprice=130.0, exectype=None)
    tape = tape_of(taped(braked(bars(*rows)), [bracket]))
    assert plain(tape["fills"]) == [(2, 500, 100.0), (4, -500, 78.0)]
    assert tape["positions"][-1] == (0,)


def test_a_short_is_bought_back():
    """Short 500 at 100; a close of 120 is 10 % down, the open of 121 another half."""
    rows = [*flat(2), close_at(120.0, 100), close_at(121.0), *flat(3, price=121)]
    strategy = taped(braked(bars(*rows)), [order(1, "sell", size=500)])
    assert plain(tape_of(strategy)["fills"]) == [(2, -500, 100.0), (4, 500, 121.0)]
    assert breaker_of(strategy)["drawdown_at_flat"] == pytest.approx(0.105)


def test_it_waits_for_a_data_that_has_no_bar():
    """D1 trades on even days: tripped on day 4 by D1's close, D1 can only be left on day 6."""
    daily = bars(*flat(9))
    rows = [*flat(1), close_at(80.0, 100), close_at(78.0), *flat(1, price=78)]
    engine = braked(daily, bars(*rows, start="2020-01-02", freq="2D"))
    plan = [order(2, "buy", data=1, size=500), order(4, "buy", data=0, size=10)]
    strategy = taped(engine, plan)
    assert tape_of(strategy)["fills"] == [(4, "D1", 500, 100.0), (6, "D1", -500, 78.0)]
    report = breaker_of(strategy)
    assert (report["tripped_at"], report["flat_at"]) == (day(4), day(6))


def test_it_waits_for_partial_fills():
    engine = braked(bars(*flat(4), close_at(80.0, 100), *flat(6, price=78)))
    engine.broker.set_filler(bt.broker.fillers.FixedSize(size=200))
    strategy = taped(engine, [BUY])
    sizes = [size for _, size, _ in plain(tape_of(strategy)["fills"])]
    assert sizes == [200, 200, 100, -200, -200, -100]
    assert breaker_of(strategy)["flat_at"] == day(8)
    assert len(tape_of(strategy)["values"]) == 8


def test_data_that_ends_first_is_reported_as_not_flattened():
    strategy = taped(braked(bars(*FALL[:3])), [BUY])
    report = breaker_of(strategy)
    assert report["tripped_at"] == day(3)
    assert report["flattened"] is False
    assert report["flat_at"] is None
    assert math.isnan(report["drawdown_at_flat"])
    assert report["state"] == "TRIPPED"


def test_a_users_own_exit_is_refused_while_the_breaker_closes():
    """It would sell twice. The close() of bar 3 comes after the breaker's own exit."""
    tape = tape_of(taped(braked(bars(*FALL)), [BUY, order(3, "close")]))
    assert tape["positions"][-1] == (0,)
    (reason,) = [r for _, r in tape["reasons"]]
    assert reason.startswith("DrawdownBreaker: ")
    assert reason.endswith("being closed already")


def test_an_exit_that_was_placed_before_is_not_doubled():
    """close() on bar 2 fills at bar 3's open: nothing is held when bar 3 closes."""
    tape = tape_of(taped(braked(bars(*FALL)), [BUY, order(2, "close")]))
    assert plain(tape["fills"]) == [(2, 500, 100.0), (3, -500, 100.0)]


def test_stop_without_flatten_ends_the_run_and_keeps_the_position():
    strategy = taped(braked(bars(*FALL), flatten=False), [BUY])
    assert tape_of(strategy)["positions"] == [(0,), (500,), (500,)]
    assert breaker_of(strategy)["flattened"] is False


class Mixed(Plan):
    """Tie an exit of the 500 that are held to an entry, each in one way that Backtrader knows."""

    def pair(self):
        stop = self.sell(size=500, exectype=bt.Order.Stop, price=70.0)
        self.buy(size=50, exectype=bt.Order.Stop, price=200.0, oco=stop)

    def family(self):
        parent = self.sell(size=500, exectype=bt.Order.Limit, price=110.0, transmit=False)
        self.sell(size=50, exectype=bt.Order.Stop, price=50.0, parent=parent)


@pytest.mark.parametrize(
    ("tie", "after", "price"), [("pair", 60.0, 70.0), ("family", 120.0, 110.0)]
)
def test_an_entry_that_a_trip_cancels_takes_no_exit_with_it(tie, after, price):
    """BackBroker cancels the rest of an OCO group, or of a bracket, with any one of them."""
    rows = [*FALL[:4], close_at(after, 79), *flat(3, price=after), *flat(2, price=45.0)]
    engine = braked(bars(*rows), action="pause", flatten=False)
    tape = tape_of(taped(engine, [BUY, order(2, tie)], strategy=Mixed))
    assert plain(tape["fills"]) == [(2, 500, 100.0), (5, -500, price)]
    assert tape["positions"][-1] == (0,)


def test_a_trip_is_warned_of_once(caplog):
    with caplog.at_level(logging.WARNING, logger="bt_risk"):
        taped(braked(bars(*FALL)), [BUY])
    assert [r.message for r in caplog.records if " halt " in r.message] == [
        "2020-01-03 00:00:00 halt DrawdownBreaker: drawdown 0.1000 >= drawdown_limit 0.1000"
    ]


# -- pausing -------------------------------------------------------------------------------------


class Tries(Plan):
    """Buys 10 on every bar after the first; the first buys 500."""

    def next(self):
        self.buy(size=500 if len(self) == 1 else 10)
        super().next()


def rejected_bars(strategy):
    """Return the bars on which an order was refused (it is notified one bar later)."""
    return [bar - 1 for bar, _ in tape_of(strategy)["reasons"]]


def test_a_pause_refuses_entries_until_the_cool_down_is_over():
    """Tripped at the close of bar 3, flat on bar 4, two bars of cool-down: bars 5 and 6.

    Bar 6 has closed when the strategy trades on it.
    """
    rows = [*FALL[:4], *flat(8, price=79)]
    strategy = taped(braked(bars(*rows), action="pause", cooldown_bars=2), strategy=Tries)
    assert rejected_bars(strategy) == [3, 4, 5]
    assert len(tape_of(strategy)["values"]) == len(rows)
    assert breaker_of(strategy)["state"] == "ARMED"
    assert breaker_of(strategy)["flat_at"] == day(4)


def test_after_a_pause_the_mark_is_rebased():
    """The mark falls to what is left after the exit at 78; the drawdown is measured from there."""
    rows = [*FALL[:4], *flat(8, price=79)]
    strategy = taped(braked(bars(*rows), action="pause", cooldown_bars=2), [BUY])
    report = breaker_of(strategy)
    assert report["high_water_mark"] == pytest.approx(89.0)
    assert report["drawdown"] == 0.0
    assert report["max_drawdown"] == pytest.approx(0.11)


class Rearming(Plan):
    """Re-arms by hand."""

    def rearm(self):
        self.analyzers.drawdownbreaker.rearm()


def test_a_pause_without_cool_down_is_locked_until_rearm():
    rows = [*FALL[:4], *flat(8, price=79)]
    buys = [order(bar, "buy", size=10) for bar in (6, 7, 8, 9)]
    engine = braked(bars(*rows), action="pause")
    strategy = taped(engine, [BUY, *buys[:2], order(8, "rearm"), *buys[2:]], strategy=Rearming)
    assert rejected_bars(strategy) == [6, 7]
    assert plain(tape_of(strategy)["fills"])[2:] == [(9, 10, 79.0), (10, 10, 79.0)]
    assert breaker_of(strategy)["state"] == "ARMED"


def test_a_pause_lets_exits_through():
    engine = braked(bars(*FALL), action="pause", flatten=False)
    tape = tape_of(taped(engine, [BUY, order(4, "sell", size=200), order(5, "close")]))
    assert plain(tape["fills"]) == [(2, 500, 100.0), (5, -200, 79.0), (6, -300, 79.0)]
    assert tape["reasons"] == []


@pytest.mark.parametrize(("price", "refused"), [(99.0, [3, 4, 5, 6, 7]), (100.0, [3, 4])])
def test_recovery_waits_for_the_old_mark(price, refused):
    """The position is kept; bar 5 closes at 99, just below the mark, or at 100, on it."""
    rows = [*flat(2), close_at(80.0, 100), close_at(80.0), *[close_at(price)] * 4]
    engine = braked(
        bars(*rows), action="pause", flatten=False, cooldown_bars=1, rearm_at="recovery"
    )
    buys = [order(bar, "buy", size=1) for bar in range(3, 8)]
    assert rejected_bars(taped(engine, [BUY, *buys])) == refused


def test_the_lifetime_limit_has_no_way_back():
    """10 % down at 80: paused one bar, re-armed at 90,000 flat; 500 more at 80, down to 70: 85,000.

    That is 5.6 % from the new mark and 15 % from the highest ever.
    """
    rows = [*flat(2), close_at(80.0, 100), *flat(4, price=80), *flat(5, price=70)]
    engine = braked(bars(*rows), action="pause", cooldown_bars=1, lifetime_limit=0.15)
    strategy = taped(engine, [BUY, order(6, "buy", size=500), order(11, "buy", size=1)])
    report = breaker_of(strategy)
    assert [trip["tripped_at"] for trip in report["trips"]] == [day(3), day(8)]
    assert report["state"] == "LOCKED"
    assert tape_of(strategy)["reasons"] == [
        (12, "DrawdownBreaker: drawdown 0.1500 >= lifetime_limit 0.1500")
    ]
    plan = [BUY, order(6, "buy", size=500), order(11, "rearm")]
    with pytest.raises(ParameterError, match="cannot be re-armed"):
        taped(
            braked(bars(*rows), action="pause", cooldown_bars=1, lifetime_limit=0.15),
            plan,
            strategy=Rearming,
        )


# -- tapering ------------------------------------------------------------------------------------

# A close of 85 is 7.5 % down: half way from 5 % to 10 %.
HALF_WAY = [*flat(6), close_at(85.0, 100), *flat(3, price=85)]
LATE = order(5, "buy", size=500)


@pytest.mark.parametrize(("close", "filled"), [(90.0, 100), (85.0, 50), (81.0, 10)])
def test_taper_alone_scales_the_order(close, filled):
    """Up to 5 % all, at 7.5 % a half, at 9.5 % a tenth."""
    rows = [*flat(2), close_at(close, 100), *flat(3, price=close)]
    engine = braked(bars(*rows), taper_from=0.05)
    tape = tape_of(taped(engine, [BUY, order(3, "buy", size=100)]))
    assert plain(tape["fills"]) == [(2, 500, 100.0), (4, filled, close)]


def test_taper_does_not_touch_exits():
    engine = braked(bars(*HALF_WAY), taper_from=0.05)
    tape = tape_of(taped(engine, [LATE, order(7, "sell", size=300)]))
    assert plain(tape["fills"]) == [(6, 500, 100.0), (8, -300, 85.0)]


def test_taper_scales_the_risk_budget_of_the_gate_once():
    """Rule 1 leaves 1 % x 0.5 of 92,500 at a distance of 2 x 2: 115.6 units, not half of them.

    D0 has a stop far away and a budget of its own, so that it can lose 7.5 %.
    """
    engine = cerebro(bars(*HALF_WAY), bars(*flat(10)))
    far = {"D0": {"atr_multiple": 20.0, "risk_limit": 0.5, "allow_extreme": True}}
    policy = bt_risk.Policy(
        notional_limit=None,
        exposure_limit=None,
        correlation_limit=None,
        taper_from=0.05,
        atr_period=3,
        instruments=far,
    )
    bt_risk.protect(engine, policy)
    tape = tape_of(taped(engine, [LATE, order(7, "buy", data=1, size=1000)]))
    assert tape["fills"] == [(6, "D0", 500, 100.0), (8, "D1", 115, 100.0)]


def test_taper_scales_the_sizers_budget_once():
    """1 % x 0.5 of 92,500 at 4 a unit: 115."""
    engine = braked(bars(*HALF_WAY), bars(*flat(10)), taper_from=0.05)
    engine.addsizer(bt_risk.HalfKellySizer, atr_period=3)
    tape = tape_of(taped(engine, [LATE, order(7, "buy", data=1)]))
    assert tape["fills"] == [(6, "D0", 500, 100.0), (8, "D1", 115, 100.0)]


# -- several runs, strategies, breakers ----------------------------------------------------------


@pytest.mark.parametrize("maxcpus", [1, 2])
def test_the_later_points_of_an_optimisation_run_in_full(maxcpus):
    """A stop leaks into the next point of one process in plain Backtrader."""
    plans = [[BUY], [], [BUY], [order(1, "buy", size=10)]]
    results = optimised(braked(bars(*FALL)), plans, maxcpus)
    assert [len(tape_of(r)["values"]) for r in results] == [4, 8, 4, 8]
    assert [breaker_of(r)["flattened"] for r in results] == [True, False, True, False]


def test_a_second_run_of_the_same_cerebro_equals_the_first():
    engine = braked(bars(*FALL))
    first = taped(engine, [BUY])
    second = engine.run()[0]
    assert tape_of(second) == tape_of(first)
    assert breaker_of(second) == breaker_of(first)


class Other(Plan):
    """A second owner."""


@pytest.mark.parametrize("mode", MODES)
def test_two_strategies_both_see_the_last_bar(mode):
    engine = braked(bars(*FALL))
    engine.addstrategy(Plan, plan=[BUY])
    engine.addstrategy(Other, plan=[order(1, "buy", size=20)])
    engine.addanalyzer(Tape, _name="tape")
    one, two = engine.run(**MODES[mode])
    assert [len(tape_of(s)["values"]) for s in (one, two)] == [4, 4]
    assert plain(tape_of(one)["fills"])[-1] == (4, -500, 78.0)
    assert plain(tape_of(two)["fills"])[-1] == (4, -20, 78.0)
    assert engine.broker.getposition(engine.datas[0]).size == 0


def test_two_breakers_of_different_settings_each_do_their_own():
    """The pause at 5 % flattens first, so that the stop at 10 % is never reached."""
    engine = cerebro(bars(*flat(2), close_at(90.0, 100), *flat(5, price=89)))
    engine.addanalyzer(bt_risk.DrawdownBreaker, drawdown_limit=0.05, action="pause", _name="soft")
    engine.addanalyzer(bt_risk.DrawdownBreaker, drawdown_limit=0.10, _name="hard")
    strategy = taped(engine, [BUY])
    soft, hard = (strategy.analyzers.getbyname(n).get_analysis() for n in ("soft", "hard"))
    assert soft["tripped_at"] == day(3)
    assert soft["state"] == "LOCKED"
    assert hard["trips"] == []
    assert plain(tape_of(strategy)["fills"]) == [(2, 500, 100.0), (4, -500, 89.0)]


def test_two_breakers_that_trip_together_close_once():
    engine = cerebro(bars(*FALL))
    engine.addanalyzer(bt_risk.DrawdownBreaker, drawdown_limit=0.05, action="pause", _name="soft")
    engine.addanalyzer(bt_risk.DrawdownBreaker, drawdown_limit=0.10, _name="hard")
    strategy = taped(engine, [BUY])
    assert plain(tape_of(strategy)["fills"]) == [(2, 500, 100.0), (4, -500, 78.0)]
    for name in ("soft", "hard"):
        report = strategy.analyzers.getbyname(name).get_analysis()
        assert (report["flat_at"], report["flattened"]) == (day(4), True)


@pytest.mark.parametrize("order_of", [("observer", "analyzer"), ("analyzer", "observer")])
def test_a_stop_and_a_breaker_together_exit_once(order_of):
    """The stop, 20 x 2 below 100, is touched in bar 6 too; the breaker's exit goes at its open."""
    rows = [*flat(4), close_at(80.0, 100), (78, 78, 60, 70), *flat(2, price=70)]
    engine = cerebro(bars(*rows))
    for kind in order_of:
        if kind == "observer":
            engine.addobserver(bt_risk.ATRTrailingStop, atr_period=2, atr_multiple=20.0)
        else:
            engine.addanalyzer(bt_risk.DrawdownBreaker)
    tape = tape_of(taped(engine, [order(3, "buy", size=500)]))
    assert plain(tape["fills"]) == [(4, 500, 100.0), (6, -500, 78.0)]
    assert tape["positions"][-1] == (0,)


# -- parameters ----------------------------------------------------------------------------------

FRACTION_OR_NONE = "in (0, 1], or None for no limit"
BAD = [
    ("drawdown_limit", {"drawdown_limit": 10}, FRACTION_OR_NONE),
    ("drawdown_limit", {"drawdown_limit": 0.0}, "positive, or None for no limit"),
    ("drawdown_limit", {"drawdown_limit": -0.1}, "positive, or None for no limit"),
    ("drawdown_limit", {"drawdown_limit": NAN}, "positive, or None for no limit"),
    ("action", {"action": "halt"}, "one of 'stop', 'pause'"),
    ("flatten", {"flatten": "yes"}, "True or False"),
    ("cooldown_bars", {"cooldown_bars": 0, "action": "pause"}, "a whole number of at least 1"),
    ("cooldown_bars", {"cooldown_bars": 1.5, "action": "pause"}, "a whole number of at least 1"),
    ("cooldown_bars", {"cooldown_bars": 5}, "None with action='stop'"),
    ("rearm_at", {"rearm_at": "never"}, "one of 'rebase', 'recovery'"),
    ("rearm_at", {"rearm_at": "recovery"}, "'rebase' with flatten=True"),
    ("lifetime_limit", {"lifetime_limit": 25}, FRACTION_OR_NONE),
    ("lifetime_limit", {"lifetime_limit": 0}, "positive, or None for no limit"),
    ("taper_from", {"taper_from": -0.05}, "in [0, 1]"),
    ("taper_from", {"taper_from": 0.10}, "below drawdown_limit"),
    ("taper_from", {"taper_from": 0.05, "drawdown_limit": None}, "below drawdown_limit"),
    ("confirmations", {"confirmations": 0}, "a whole number of at least 1"),
    ("equity", {"equity": 100_000.0}, "a callable without arguments"),
]


@pytest.mark.parametrize(("param", "given", "constraint"), BAD)
def test_a_bad_parameter_raises_and_says_what_would_be_good(param, given, constraint):
    with pytest.raises(ParameterError) as caught:
        taped(braked(bars(*FALL), **given))
    error = caught.value
    assert (error.component, error.param, error.constraint) == (
        "DrawdownBreaker",
        param,
        constraint,
    )
    assert repr(given[param]) in str(error)


def test_a_misspelt_parameter_raises():
    with pytest.raises((ParameterError, TypeError), match="drawdown_limt"):
        taped(braked(bars(*FALL), drawdown_limt=0.2))
