"""What a guard costs while nothing happens: calls a bar, of Python and of C, beyond a run without.

One position is held in one data feed of hours under the default policy. `python -m benchmarks
rules` has the CPU time; a call is a tenth of a microsecond on most machines.
"""

import json
from pathlib import Path

import pytest
from helpers.benchmark_package import load

guards, overhead = load("guards"), load("overhead")
stored = json.loads(Path(overhead.STORED).read_text(encoding="utf-8"))

# The comparison of the account itself is one; a day that ends costs about a hundred, 24 bars later.
BUDGETS = {
    "AccountFloor": 1.5,
    "AccountFloor trailing_closed": 1.6,
    "AccountFloor trailing_eod": 4.9,
    "AccountFloor trailing_intraday": 2.1,
    "AccountFloor daily": 5.3,
    "AccountFloor intrabar": 2.4,
    "AccountFloor daily intrabar": 6.9,
    "AccountFloor taper": 1.8,
    "ProfitTarget": 1.6,
    "MinimumTradingDays": 4.4,
    "Consistency": 4.6,
    "Consistency pause": 5.0,
    "DailyLossLimit": 5.6,
    "DailyLossLimit flatten": 5.7,
    "DailyLossLimit balance": 6.2,
    "DailyLossLimit intrabar": 7.5,
    "DailyLossLimit currency": 5.6,
    "DailyLossLimit data": 7.3,
    "DailyProfitTarget": 5.6,
    "ProfitLock": 5.7,
    "TradingHours": 1.4,
    "TradingHours flat_before": 4.1,
    "Blackout flat_before": 1.6,
    "CooldownGuard": 1.3,
    "LosingStreakGuard": 1.3,
    "OrderRateLimit": 1.6,
    "DuplicateOrder": 1.4,
    "RepeatedOrders": 3.4,
    "PriceCollar": 1.3,
    "TimeExit": 1.4,
    "TakeProfit": 11.9,  # BackBroker tries the limit that rests
    "BreakEven": 1.4,
    "gap_limit": 3.0,
    "drawdown_trigger": 6.4,
}


def test_every_guard_that_is_measured_has_a_budget():
    assert BUDGETS.keys() == guards.GUARDS.keys()


@pytest.mark.skipif(
    not overhead.versions()["python"].startswith(stored["versions"]["python"][:4]),
    reason="another Python counts other calls",
)
@pytest.mark.parametrize("name", BUDGETS)
def test_a_guard_costs_no_more_calls_than_its_budget(name):
    assert 0.0 < guards.more_calls(name) <= BUDGETS[name]
