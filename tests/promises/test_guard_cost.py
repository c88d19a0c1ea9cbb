"""What a guard costs while nothing happens: calls a bar, of Python and of C, beyond a run without.

One position is held in one data feed of hours under the default policy, and the start of the run
is left out. `python -m benchmarks rules` has the CPU time.
"""

import json
from pathlib import Path

import pytest
from helpers.benchmark_package import load

guards, overhead = load("guards"), load("overhead")
stored = json.loads(Path(overhead.STORED).read_text(encoding="utf-8"))

# The comparison of the account is one. A day that passes while a rule sleeps costs ten to thirty.
BUDGETS = {
    "AccountFloor": 1.1,
    "AccountFloor trailing_closed": 1.1,
    "AccountFloor trailing_eod": 2.2,
    "AccountFloor trailing_intraday": 1.3,
    "AccountFloor daily": 2.6,
    "AccountFloor intrabar": 1.1,
    "AccountFloor daily intrabar": 2.6,
    "AccountFloor taper": 1.1,
    "ProfitTarget": 1.1,
    "MinimumTradingDays": 1.9,
    "Consistency": 2.1,
    "Consistency pause": 2.1,
    "DailyLossLimit": 1.4,
    "DailyLossLimit flatten": 1.4,
    "DailyLossLimit balance": 1.2,
    "DailyLossLimit intrabar": 1.4,
    "DailyLossLimit currency": 1.4,
    "DailyLossLimit data": 1.5,
    "DailyProfitTarget": 1.4,
    "ProfitLock": 1.5,
    "TradingHours": 1.1,
    "TradingHours flat_before": 1.1,
    "Blackout flat_before": 1.1,
    "CooldownGuard": 1.1,
    "LosingStreakGuard": 1.1,
    "OrderRateLimit": 1.1,
    "DuplicateOrder": 1.1,
    "RepeatedOrders": 1.1,
    "PriceCollar": 1.1,
    "TimeExit": 1.1,
    "TakeProfit": 1.1,
    "BreakEven": 1.1,
    "gap_limit": 1.1,
    "drawdown_trigger": 1.7,
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
