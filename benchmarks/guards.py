"""What each guard costs on a bar on which nothing happens, beyond a run without it."""

import gc
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
CALLED_BARS = 480
BARS, ROUNDS = 20_000, 7
QUICK_BARS, QUICK_ROUNDS = 200, 1


class Holder(bt.Strategy):
    """Buy once, and hold: what a guard does on a bar is all that it does."""

    def next(self):
        """Buy on the hundredth bar."""
        if len(self) == 100:
            self.buy(size=100)


def build(frame, guard=()):
    """Return a Cerebro under the default policy and one guard; breaker and stop are out of reach.

    A guard may be parameters of the policy, too.
    """
    params = guard if isinstance(guard, dict) else {"guards": [guard] if guard else []}
    policy = bt_risk.Policy(drawdown_limit=0.9, atr_multiple=1_000.0, allow_extreme=True, **params)
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(bt_risk.FrameData(dataname=frame))
    cerebro.broker.setcash(10_000_000.0)
    cerebro.addstrategy(Holder)
    bt_risk.protect(cerebro, policy)
    return cerebro


@cache
def _calls(name):
    frame = random_walk(1, CALLED_BARS, "h")
    build(frame, GUARDS.get(name, ())).run()  # the first run imports modules
    cerebro = build(frame, GUARDS.get(name, ()))
    return count_calls(cerebro.run)


def more_calls(name):
    """Return how many more functions are called on a bar with a guard, those of C included."""
    with_it, without = (_calls(one).total() for one in (name, None))
    return (with_it - without) / CALLED_BARS


def rows(quick):
    """Yield a row for each guard, against a run without it."""
    bars, rounds = (QUICK_BARS, QUICK_ROUNDS) if quick else (BARS, ROUNDS)
    frame = random_walk(1, bars, "h")
    for name, guard in GUARDS.items():
        pairs = [_seconds(partial(build, frame), guard) for _ in range(rounds)]
        ratio = Spread.of([with_it / without for without, with_it in pairs])
        more = Spread.of([with_it - without for without, with_it in pairs]).median / bars
        note = f"{1e6 * more:+.2f} us, {more_calls(name):+.1f} calls a bar"
        yield Row("rules", f"1 x {bars:,} quiet bars", name, ratio, "no guard", note=note)


def _seconds(builder, guard):
    """Return the CPU time of a run without a guard, and of one with it, right after each other."""
    taken = []
    for cerebro in (builder(), builder(guard)):
        gc.collect()
        begin = time.process_time()
        cerebro.run()
        taken.append(time.process_time() - begin)
    return taken
