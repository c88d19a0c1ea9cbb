"""Let another engine, so far backtrader-next, take Backtrader's place in the tests.

Nothing here imports Backtrader before `stand_in` has done so.
"""

import importlib
import sys

import pytest

__all__ = ["LEFT_OUT", "add_in_order", "skip_left_out", "stand_in"]

_NO_DRAWDOWN = "its own statistics fail on a point of an optimisation that had no drawdown"
_PROCESS = "it starts another process, where nothing stands in for Backtrader"
_OWN_FEED = "it compares with Backtrader's own PandasData, which reads a frame in another way there"
_WORLDS = "the worlds use oldsync, which it lacks, and late data feeds, which it reads too early"
_NO_LOANS = "it lends nothing: an order needs its whole notional in cash"
_ALWAYS_ASKED = "there every bar calls all monitors"

# Tests by the beginning of their name, and why they need Backtrader itself.
LEFT_OUT = {
    "components/test_drawdown_breaker.py::test_the_later_points_of_an_optimisation": _NO_DRAWDOWN,
    "components/test_half_kelly.py::test_an_optimisation": _NO_DRAWDOWN,
    "components/test_half_kelly.py::test_an_optimised_parameter": _NO_DRAWDOWN,
    "components/test_screener.py::test_points_of_an_optimisation": _NO_DRAWDOWN,
    "components/test_breaker_inside_bars.py::test_lows_that_are_nothing_new": _ALWAYS_ASKED,
    "engine/test_collector.py": "the quick loop runs with Backtrader only",
    "engine/test_loop.py": "the quick loop runs with Backtrader only",
    "engine/test_times.py": "the quick loop runs with Backtrader only",
    "engine/test_worlds.py": "the quick loop runs with Backtrader only",
    "feeds/test_bulk.py": _OWN_FEED,
    "feeds/test_frame.py": _OWN_FEED,
    "gate/test_broker.py::test_a_broker_without_the_usual_extras": "it quotes Backtrader's error",
    "gate/test_bypass.py::test_an_optimisation": _NO_DRAWDOWN,
    "gate/test_compensation.py::test_without_limits_the_run_is_the_bare_run": (
        "it values a compensated position at nothing, so a bare run is no measure"
    ),
    "gate/test_converting.py::test_what_is_held_counts": _NO_LOANS,
    "gate/test_liquidation.py": _NO_LOANS,
    "gate/test_lone_orders.py": "orders end quickly with Backtrader only",
    "gate/test_margin_at_the_fill.py": _NO_LOANS,
    "gate/test_native_orders.py": "orders are made quickly with Backtrader only",
    "gate/test_order_review.py::test_a_feed_without_a_close": "every data feed needs a close there",
    "gate/test_trading_state.py::test_a_second_signal": _PROCESS,
    "gate/test_trading_state.py::test_a_signal_ends_a_live_run": _PROCESS,
    "gate/test_trading_state.py::test_a_venue_that_never_confirms": _PROCESS,
    "gate/test_trading_state.py::test_every_point_of_an_optimisation": _NO_DRAWDOWN,
    "limits/test_own_limit.py::test_every_run_of_an_optimisation": _NO_DRAWDOWN,
    "monitors/test_rounds.py::test_a_floor_is_not_called": _ALWAYS_ASKED,
    "monitors/test_rounds.py::test_a_monitor_is_called_only": _ALWAYS_ASKED,
    "monitors/test_rounds.py::test_bars_that_are_as_expected": _ALWAYS_ASKED,
    "monitors/test_rounds.py::test_days_without_news": _ALWAYS_ASKED,
    "monitors/test_rounds.py::test_what_happens_after_quiet_bars": _ALWAYS_ASKED,
    "promises/test_transparency.py::test_in_every_mode_and_with_every_feature": _WORLDS,
    "promises/test_transparency.py::test_most_worlds": _WORLDS,
    "promises/test_transparency.py::test_the_harness_sees": _WORLDS,
    "report/test_pyfolio_inputs.py::test_leverage_and_turnover": (
        "it shows a fault of Backtrader's PyFolio analyzer, which is mended there"
    ),
    "report/test_records.py": _WORLDS,
}


def stand_in(engine):
    """Import an engine, and let it and its modules be found under the name of Backtrader."""
    importlib.import_module(engine)
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == engine:
            sys.modules["backtrader" + name.removeprefix(engine)] = module


def add_in_order():
    """Let bare runs add the values of data feeds in one order, as protected runs do.

    Two bare runs of backtrader-next differ in the last digits of the account value.
    """
    import backtrader as bt

    from bt_risk.gate.other_engines import order_held_feeds

    native = bt.brokers.BackBroker.init

    def init(broker):
        native(broker)
        order_held_feeds(broker)

    bt.brokers.BackBroker.init = init


def skip_left_out(config, items):
    """Skip the tests in `LEFT_OUT`."""
    for item in items:
        name = item.nodeid.removeprefix("tests/")
        for begin, reason in LEFT_OUT.items():
            if name.startswith(begin):
                item.add_marker(pytest.mark.skip(reason=reason))
