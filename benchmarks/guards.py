"""What each guard costs on a bar on which nothing happens, beyond a run without it.

A microsecond is little beside what else a machine does. So both runs take turns, many times, and of
every piece of a run the quickest turn counts: what disturbs a turn makes it slower, never quicker.
"""

import gc
import statistics
import time
from functools import cache, partial

import backtrader as bt

import bt_risk
from benchmarks.counting import count_calls
from benchmarks.prices import random_walk
from benchmarks.row import Row
from benchmarks.timing import Spread
from bt_risk import (
    AccountFloor,
    Blackout,
    BreakEven,
    Consistency,
    CooldownGuard,
    DailyLossLimit,
    DailyProfitTarget,
    DuplicateOrder,
    LosingStreakGuard,
    MinimumTradingDays,
    OrderRateLimit,
    PriceCollar,
    ProfitLock,
    ProfitTarget,
    RepeatedOrders,
    TakeProfit,
    TimeExit,
    TradingHours,
)

__all__ = ["GUARDS", "more_calls", "rows"]

PRAGUE = "00:00 Europe/Prague"
NEVER = 1e9  # a limit out of reach
DAY = ["00:00-24:00"]
# By name: the guards, or other parameters of the policy. Hours: a day has 24 bars.
GUARDS = {
    "AccountFloor": AccountFloor(0.4),
    "AccountFloor trailing_closed": AccountFloor(0.4, mode="trailing_closed"),
    "AccountFloor trailing_eod": AccountFloor(0.4, mode="trailing_eod"),
    "AccountFloor trailing_intraday": AccountFloor(0.4, mode="trailing_intraday"),
    "AccountFloor daily": AccountFloor(0.4, daily=0.3),
    "AccountFloor intrabar": AccountFloor(0.4, trigger="intrabar"),
    "AccountFloor daily intrabar": AccountFloor(0.4, daily=0.3, trigger="intrabar"),
    "AccountFloor taper": AccountFloor(0.4, taper_to_floor=0.5),
    "ProfitTarget": ProfitTarget(NEVER),
    "MinimumTradingDays": MinimumTradingDays(4),
    "Consistency": Consistency(0.5),
    "Consistency pause": Consistency(0.5, target=NEVER, action="pause"),
    "DailyLossLimit": DailyLossLimit(0.3),
    "DailyLossLimit flatten": DailyLossLimit(0.3, flatten=True),
    "DailyLossLimit balance": DailyLossLimit(0.3, base="balance", reset=PRAGUE),
    "DailyLossLimit intrabar": DailyLossLimit(0.3, trigger="intrabar"),
    "DailyLossLimit currency": DailyLossLimit(NEVER, unit="currency"),
    "DailyLossLimit data": DailyLossLimit(0.3, scope="data"),
    "DailyProfitTarget": DailyProfitTarget(0.3),
    "ProfitLock": ProfitLock(0.9, profit_from=0.0001),
    "TradingHours": TradingHours(DAY, tz="UTC"),
    "TradingHours flat_before": TradingHours(DAY, tz="UTC", flat_before=10),
    "Blackout flat_before": Blackout([("2030-01-01", "2030-01-02")], flat_before=10),
    "CooldownGuard": CooldownGuard(5),
    "LosingStreakGuard": LosingStreakGuard(4),
    "OrderRateLimit": OrderRateLimit(day_limit=100),
    "DuplicateOrder": DuplicateOrder(within=1.0),
    "RepeatedOrders": RepeatedOrders(100),
    "PriceCollar": PriceCollar(fraction=0.5),
    "TimeExit": TimeExit(1_000_000),
    "TakeProfit": TakeProfit(NEVER),
    "BreakEven": BreakEven(NEVER),
    "gap_limit": {"gap_limit": 0.4},
    "drawdown_trigger": {"drawdown_trigger": "intrabar"},
}
GOAL = 0.5e-6  # seconds a bar
# Calls are counted from the first of these bars to the second: starting a run is no cost of a bar.
CALLED_BARS = 240, 480
# Each of the figures comes from so many turns of both runs.
BARS, FIGURES, TURNS = 4_800, 3, 5
QUICK_BARS, QUICK_FIGURES, QUICK_TURNS = 200, 1, 1
PIECES = 20  # of a run; the first tenth is left out


class Holder(bt.Strategy):
    """Buy once, and hold: what a guard does on a bar is all that it does.

    `times` gets the CPU time after each piece of so many bars.
    """

    params = {"buys_at": 100, "piece": 0, "times": None}

    def next(self):
        """Buy on one bar."""
        length = len(self)
        if length == self.p.buys_at:
            self.buy(size=100)
        if self.p.piece and not length % self.p.piece:
            self.p.times.append(time.process_time())


def build(frame, guard=(), **params):
    """Return a Cerebro under the default policy and one guard; breaker and stop are out of reach.

    A guard may be parameters of the policy, too; `params` are those of the strategy.
    """
    settings = guard if isinstance(guard, dict) else {"guards": [guard] if guard else []}
    policy = bt_risk.Policy(
        drawdown_limit=0.9, atr_multiple=1_000.0, allow_extreme=True, **settings
    )
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(bt_risk.FrameData(dataname=frame))
    cerebro.broker.setcash(10_000_000.0)
    cerebro.addstrategy(Holder, **params)
    bt_risk.protect(cerebro, policy)
    return cerebro


@cache
def _calls(name):
    """Return the calls between two bars with a position, by function."""
    first, last = CALLED_BARS
    frame = random_walk(1, last, "h")
    build(frame.head(first), GUARDS.get(name, ())).run()  # the first run imports modules
    until = [count_calls(build(frame.head(bars), GUARDS.get(name, ())).run) for bars in CALLED_BARS]
    until[1].subtract(until[0])
    return until[1]


def more_calls(name):
    """Return how many more functions are called on a bar with a guard, those of C included."""
    with_it, without = (_calls(one).total() for one in (name, None))
    return (with_it - without) / (CALLED_BARS[1] - CALLED_BARS[0])


def rows(quick):
    """Yield a row for each guard, against a run without it; the dearer of flat and held counts."""
    bars, figures, turns = BARS, FIGURES, TURNS
    if quick:
        bars, figures, turns = QUICK_BARS, QUICK_FIGURES, QUICK_TURNS
    builder = partial(build, random_walk(1, bars, "h"), buys_at=bars // 2, piece=bars // PIECES)
    _pieces(builder, ())  # imports modules
    for name, guard in GUARDS.items():
        _pieces(builder, guard)
        found = [_quickest(builder, guard, turns) for _ in range(figures)]
        flat, held = (
            Spread.of([(with_it[part] - without[part]) / bars for without, with_it in found])
            for part in (0, 1)
        )
        ratio = Spread.of([sum(with_it) / sum(without) for without, with_it in found])
        note = (
            f"flat {1e6 * flat.median:+.2f}, with a position {1e6 * held.median:+.2f} us, "
            f"{more_calls(name):+.1f} calls a bar"
        )
        more = max(flat, held, key=lambda one: one.median)
        goal = None if quick else GOAL
        yield Row(
            "rules", "quiet bars of 1 feed", name, ratio, "no guard", goal, more=more, note=note
        )


def _quickest(builder, guard, turns):
    """Return CPU seconds, flat and with a position, of a run without a guard and of one with it.

    They are the seconds of as many bars as the run has, from the quickest turn of each piece.
    """
    sides = (), guard
    taken = [], []
    for number in range(turns):
        for side in (0, 1) if number % 2 else (1, 0):
            taken[side].append(_pieces(builder, sides[side]))
    return [_halves([min(piece) for piece in zip(*pieces, strict=True)]) for pieces in taken]


def _halves(pieces):
    """Return the mean of the pieces before the order, and of those with a position, per run."""
    half = PIECES // 2
    flat, held = pieces[1 : half - 1], pieces[half:]
    return [PIECES * statistics.fmean(part) for part in (flat, held)]


def _pieces(builder, guard):
    """Return the CPU seconds of the pieces of a run but the first."""
    times = []
    cerebro = builder(guard=guard, times=times)
    gc.collect()
    gc.disable()
    try:
        cerebro.run()
    finally:
        gc.enable()
    return [after - before for before, after in zip(times, times[1:], strict=False)]
