"""What never breaks, by accident: random strategies, and a model that believes Backtrader only."""

import pytest
from helpers.slices import sliced

import bt_risk.gate.exit_orders
import bt_risk.gate.liquidation
import bt_risk.gate.simulated_execution
import bt_risk.monitors.guards
import bt_risk.monitors.trailing_stop
import bt_risk.portfolio.instrument
import bt_risk.signals.data
from bt_risk import (
    CooldownGuard,
    DailyLossLimit,
    MinimumEdgeGuard,
    StopoutGuard,
    TradingHours,
)
from bt_risk.gate import order_review
from bt_risk.gate.brackets import Brackets
from bt_risk.gate.exit_orders import ExitOrders
from bt_risk.gate.exit_pair import ExitPair
from bt_risk.gate.liquidation import Liquidation
from bt_risk.gate.simulated_execution import SimulatedExecution
from bt_risk.gate.trading_state import TradingState
from bt_risk.limits.base import Decision, RiskPerTrade
from bt_risk.limits.correlation import CorrelationLimit
from bt_risk.limits.exposure import (
    ExposureLimit,
    GrossLimit,
    GroupLimit,
    NetLimit,
    PositionLimit,
)
from bt_risk.limits.margin_account import MarginAccount
from bt_risk.limits.signal_guards import ConvictionScale, SignalGate
from bt_risk.limits.volatility import VolatilityLimit
from bt_risk.monitors.drawdown import DrawdownMonitor
from bt_risk.monitors.guards import GuardMonitor
from bt_risk.orders import OrderRequest
from bt_risk.portfolio import reachable
from bt_risk.portfolio.book import Book
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.loaded_instrument import LoadedInstrument
from bt_risk.portfolio.reachable import claims
from promises import safety
from promises.safety import Action, Feed, World, check, make_world, report, run

CHUNKS, CHUNK = 32, 32
# What a breaker ends early is not made up for: 1,024 worlds of 40 to 80 bars run 54,000.
BARS = 45_000

# Worlds that broke a promise once, shrunk. The name says what went wrong.
REGRESSIONS = {
    "what rests and moves with a large order offsets what is left of it": World(
        seed=590182,
        bars=63,
        feeds=(
            Feed(volatility=0.01),
            Feed(end=0.7, nans=0.05, volatility=0.03, beta=0.5),
            Feed(volatility=0.01, bad=0.08),
        ),
        limits=(
            ("action", "pause"),
            ("anchor", "close"),
            ("correlation_limit", None),
            ("costs_in_risk", True),
            ("downside", True),
            ("exposure_limit", 0.02),
            ("group_limit", 0.04),
            ("groups", {"some": ["D0", "D2"]}),
            ("risk_limit", 0.01),
            ("slippage", 0.01),
            ("volatility_limit", 0.05),
        ),
        engine=(("runonce", False),),
        actions=(
            Action(48, 0, "resting", 0, (-1, 781.92, "StopLimit", 0.0249, 1)),
            Action(48, 0, "fork", 2, (301, 0.0173)),
            Action(48, 0, "market", 1, (1, 283, None)),
        ),
    ),
    "a hedge that converts counts at what a point is worth at most": World(
        seed=521215,
        bars=44,
        feeds=(
            Feed(volatility=0.03, margin=0.05, scheme="converts"),
            Feed(volatility=0.02, beta=0.5),
            Feed(volatility=0.03),
        ),
        parts=("cap",),
        limits=(
            ("correlation_limit", 0.7),
            ("exposure_limit", 0.05),
            ("multi_bar", 3),
            ("risk_limit", 0.03),
            ("volatility_limit", 0.05),
        ),
        engine=(("runonce", False),),
        actions=(
            Action(14, 0, "resting", 0, (-1, None, "Limit", -0.0304, 1)),
            Action(16, 0, "market", 2, (1, 41.057, None)),
        ),
    ),
    "a stop of the entry bar does not know what the stop before it has filled": World(
        seed=560568,
        bars=70,
        feeds=(Feed(volatility=0.03, margin=0.05, scheme="converts"),),
        limits=(
            ("action", "pause"),
            ("anchor", "close"),
            ("cooldown_bars", 3),
            ("correlation_limit", None),
            ("drawdown_limit", 0.01),
            ("entry_stop", "attached"),
            ("exposure_limit", None),
            ("flatten", True),
            ("gap_floor", 0.02),
            ("gap_limit", 0.01),
            ("net_limit", 0.04),
            ("risk_limit", 0.01),
        ),
        engine=(("cheat_on_open", True), ("exactbars", 1)),
        actions=(
            Action(9, 0, "scalp", 0, (1, 1983, 0.0299)),
            Action(11, 0, "close", 0, (1.0, "Market", 2), True),
            Action(45, 0, "market", 0, (1, 1423, None, "Market", 1)),
            Action(55, 0, "leave", 0, ("reverse",), True),
            Action(55, 0, "family", 0, (1, 32.03, 0.031, 0.0135, 1.5, 50)),
            Action(
                55, 0, "bracket", 0, (1, 751, "Limit", 0.0155, 0.0343, 0.0453, "limit", None), True
            ),
        ),
    ),
    "a stop that is sent while another strategy is liquidated fills on the bar before it": World(
        seed=300150,
        bars=63,
        feeds=(
            Feed(volatility=0.03, beta=0.5),
            Feed(gaps=0.15, volatility=0.005, beta=0.5),
            Feed(gaps=0.15, volatility=0.02, beta=0.97),
        ),
        traders=2,
        parts=("cap", "stop"),
        limits=(
            ("action", "pause"),
            ("anchor", "close"),
            ("cooldown_bars", None),
            ("correlation_limit", None),
            ("drawdown_limit", 0.1),
            ("entry_stop", "attached"),
            ("exposure_limit", None),
            ("exposure_unit", "notional"),
            ("flatten", False),
            (
                "guards",
                (MarginAccount(20.0, ((0.0, 0.005), (200000.0, 0.01, 10)), call=0.3, buffer=None),),
            ),
            ("notional_limit", None),
            ("risk_limit", None),
        ),
        engine=(("runonce", False),),
        actions=(
            Action(32, 1, "planned", 2, (1, 10.517, 0.0555)),
            Action(33, 0, "resting", 2, (-1, 185, "Limit", -0.0374, None)),
        ),
    ),
    "the model forgets that an order for the close goes on at that close one bar later": World(
        seed=300072,
        bars=79,
        feeds=(Feed(volatility=0.005, beta=0.97), Feed(volatility=0.005, beta=0.5)),
        parts=("cap", "sizer"),
        limits=(
            ("action", "stop"),
            ("anchor", "close"),
            ("correlation_estimator", "rolling"),
            ("correlation_limit", None),
            ("downside", True),
            ("drawdown_limit", 0.1),
            ("exposure_limit", None),
            ("gap_floor", 0.02),
            ("gap_limit", 0.01),
            ("group_limit", 0.02),
            ("groups", {"some": ["D0", "D1"]}),
            (
                "guards",
                (MarginAccount(50.0, ((0.0, 0.004), (100000.0, 0.01)), call=0.8, buffer=None),),
            ),
            ("hysteresis", 0.0),
            ("multi_bar", 1),
            ("notional_limit", None),
            ("risk_limit", None),
            ("volatility_limit", 0.15),
        ),
        filler=10.0,
        engine=(("broker_coo", False), ("cheat_on_open", True), ("runonce", False)),
        actions=(
            Action(
                26, 0, "bracket", 1, (1, None, "Close", 0.005, 0.039, 0.0468, "stop", None), True
            ),
        ),
    ),
    "an exit that has begun to open is no exit to a halt": World(
        seed=70948,
        bars=57,
        feeds=(Feed(volatility=0.005, beta=0.5), Feed(volatility=0.03)),
        parts=("stop",),
        commission=0.0,
        filler=10.0,
        engine=(("runonce", False),),
        actions=(
            Action(17, 0, "scalp", 1, (1, 2695.927, 0.0374)),
            Action(19, 0, "switch", 0, ("halt",)),
            Action(19, 0, "switch", 0, ("resume",)),
        ),
    ),
    "a volatility is told of a spread that is below zero": World(
        seed=52211,
        bars=57,
        feeds=(Feed(gaps=0.15, volatility=0.005, beta=0.5, margin=500.0, mult=10.0, spread=True),),
        limits=(("action", "pause"), ("cooldown_bars", 3), ("volatility_limit", 0.05)),
        engine=(("runonce", False),),
        actions=(
            Action(29, 0, "resting", 0, (1, 40, "Stop", 0.0027, None)),
            Action(30, 0, "market", 0, (-1, 14, None)),
        ),
    ),
    "a position that ends and begins anew in one bar is judged from its own entry": World(
        seed=72,
        bars=78,
        feeds=(Feed(beta=0.5),),
        limits=(
            ("action", "pause"),
            ("cooldown_bars", 8),
            ("exposure_limit", None),
            ("flatten", False),
            (
                "guards",
                (
                    MarginAccount(
                        50.0,
                        ((0.0, 0.005), (200000.0, 0.01, 10)),
                        call=1.0,
                        liquidation_fee=0.005,
                        buffer=None,
                    ),
                ),
            ),
            ("notional_limit", 50.0),
            ("risk_limit", 0.03),
            ("volatility_limit", 0.05),
        ),
        engine=(("runonce", False),),
        actions=(
            Action(62, 0, "rotate", 0, (0, 1, 0.703, True)),
            Action(63, 0, "scalp", 0, (-1, 179, -0.0481, "Stop")),
        ),
    ),
    "the model counts an entry that a guard has ended": World(
        seed=10508,
        bars=59,
        feeds=(Feed(volatility=0.01), Feed(volatility=0.02, beta=0.5)),
        traders=2,
        limits=(
            ("drawdown_limit", 0.03),
            ("exposure_limit", 0.6),
            ("exposure_unit", "notional"),
            ("gross_limit", 0.5),
            ("guards", (StopoutGuard(1, 15, 8, scope="data"), MinimumEdgeGuard(0.0, 3, 3))),
            ("multi_bar", 3),
            ("risk_limit", 0.03),
        ),
        commission=0.0,
        filler=10.0,
        engine=(("runonce", False),),
        actions=(
            Action(11, 1, "resting", 0, (1, 9, "Limit", 0.0484, 4)),
            Action(12, 0, "exits", 0, (0.0211, 0.0459, True, 1.0)),
            Action(12, 1, "close", 0, (0.5,)),
            Action(13, 0, "market", 0, (1, 2374, None)),
            Action(20, 1, "resting", 0, (-1, 1540, "Limit", 0.0396, 4)),
            Action(22, 0, "family", 1, (1, 199.635, 0.029, 0.0338, 0.5, 50)),
        ),
    ),
    "a sizer is asked for a data without a bar": World(
        seed=0,
        bars=79,
        feeds=(Feed(volatility=0.03, beta=0.97), Feed(start=0.3)),
        engine=(("runonce", False),),
        actions=(Action(13, 0, "market", 1, (-1, None, None)),),
    ),
    "an exit placed on a bar without a close ends margin": World(
        seed=80,
        bars=68,
        feeds=(Feed(gaps=0.15, nans=0.05, beta=0.5), Feed(start=0.3, volatility=0.01)),
        parts=("stop",),
        engine=(("runonce", False),),
        actions=(
            Action(52, 0, "planned", 0, (1, None, 0.0444)),
            Action(55, 0, "market", 0, (-1, None, (0.0358, 0.0419, False, 0.5))),
        ),
    ),
    "a pair of exits is not shrunk together": World(
        seed=42,
        bars=74,
        feeds=(Feed(volatility=0.01),),
        filler=10.0,
        engine=(("runonce", False),),
        actions=(Action(19, 0, "market", 0, (1, 396, (0.0385, 0.0325, True, 1.0))),),
    ),
    "an exit that may not open does when another fills first": World(
        seed=43,
        bars=71,
        feeds=(Feed(nans=0.05),),
        engine=(("runonce", False),),
        actions=(
            Action(61, 0, "bracket", 0, (-1, 63, "Market", 0.0015, 0.0333, 0.0105, "stop", None)),
            Action(62, 0, "market", 0, (1, 13.245, None)),
        ),
    ),
    "a market exit after a trip flips what a resting exit has closed": World(
        seed=15,
        bars=47,
        feeds=(Feed(volatility=0.01),),
        parts=("breaker",),
        limits=(("action", "pause"), ("drawdown_limit", 0.03), ("flatten", False)),
        filler=10.0,
        engine=(("runonce", False),),
        actions=(
            Action(20, 0, "resting", 0, (-1, 529.486, "Limit", 0.0355, None)),
            Action(33, 0, "market", 0, (-1, 587, (0.053, 0.0272, True, 1.0))),
            Action(36, 0, "close", 0, (1.0,)),
            Action(39, 0, "family", 0, (1, 79, 0.026, 0.0556, 1.5, 0)),
            Action(41, 0, "exits", 0, (0.0165, 0.0278, False, 0.5)),
            Action(42, 0, "close", 0, (0.3,)),
        ),
    ),
    "the second of two exits is lost to margin": World(
        seed=291,
        bars=79,
        feeds=(Feed(volatility=0.03, beta=0.97), Feed(end=0.7, beta=0.5)),
        parts=("stop",),
        engine=(("runonce", False),),
        actions=(
            Action(50, 0, "market", 1, (1, 481.184, None)),
            Action(54, 0, "scalp", 1, (1, 380, 0.0319)),
            Action(65, 0, "resting", 0, (-1, 103, "Stop", 0.0053, None)),
            Action(66, 0, "exits", 0, (0.0436, 0.0517, False, 1.0)),
        ),
    ),
    "the orders of one strategy eat the exits of the other": World(
        seed=54,
        bars=76,
        feeds=(Feed(volatility=0.03),),
        traders=2,
        engine=(("runonce", False),),
        actions=(
            Action(64, 1, "resting", 0, (1, 24.572, "Limit", -0.0434, None)),
            Action(67, 0, "reverse", 0, (2.0,)),
            Action(67, 1, "exits", 0, (0.0291, 0.0579, False, 1.0)),
        ),
    ),
    "a resting stop takes the room that ours left to a market exit": World(
        seed=140,
        bars=64,
        feeds=(Feed(gaps=0.15, volatility=0.01),),
        traders=2,
        cash=8000.0,
        engine=(("runonce", False),),
        actions=(
            Action(9, 0, "bracket", 0, (-1, 206, "Market", 0.0135, 0.0369, 0.0343, "limit", None)),
            Action(10, 0, "close", 0, (0.5,)),
            Action(10, 1, "resting", 0, (1, None, "StopTrail", 0.0104, None)),
            Action(11, 0, "market", 0, (-1, 15, None)),
            Action(12, 0, "exits", 0, (0.0212, 0.0055, False, 1.0)),
            Action(12, 0, "market", 0, (1, 11, None)),
        ),
    ),
    "fills of one bar are booked out of their order": World(
        seed=52,
        bars=42,
        feeds=(Feed(beta=0.97),),
        traders=2,
        filler=3.0,
        engine=(("runonce", False),),
        actions=(
            Action(21, 1, "planned", 0, (-1, 141, 0.0292)),
            Action(22, 0, "planned", 0, (1, 251, 0.0592)),
            Action(24, 0, "scalp", 0, (1, 35, 0.052)),
        ),
    ),
    "a child opens beyond its parent and is not counted": World(
        seed=328,
        bars=51,
        feeds=(Feed(volatility=0.03, beta=0.97), Feed(), Feed(0.15, 0.7, 0.0, 0.0, 0.005, 0.5)),
        engine=(("runonce", False),),
        actions=(
            Action(37, 0, "family", 2, (-1, 6, 0.0221, 0.0576, 1.5, 0)),
            Action(38, 0, "resting", 2, (1, 878, "Limit", -0.0444, None)),
        ),
    ),
    "what a trimmed entry lost outlives its trade": World(
        seed=4513,
        bars=51,
        feeds=(Feed(volatility=0.005, beta=0.97),),
        engine=(("runonce", False),),
        actions=(
            Action(36, 0, "target", 0, ("value", -50000.0)),
            Action(37, 0, "target", 0, ("percent", 0.2)),
            Action(37, 0, "bracket", 0, (-1, None, "Market", 0.013, 0.0463, 0.0286, "limit", None)),
            Action(39, 0, "market", 0, (1, None, None)),
            Action(39, 0, "market", 0, (-1, 159, None)),
        ),
    ),
    "a strategy trades where there is no price and no bar": World(
        seed=7,
        bars=40,
        feeds=(Feed(), Feed(start=0.5), Feed(nans=0.4)),
        parts=("cap",),
        limits=(("exposure_limit", None),),
        actions=tuple(
            Action(bar, 0, "market", data, (1, 5, None))
            for bar in range(1, 41)
            for data in ((1, 2) if bar % 2 else (2, 1))
        ),
    ),
    "an exit that fills in parts seems to cover less than it does": World(
        seed=3033,
        bars=79,
        feeds=(Feed(volatility=0.03, beta=0.5), Feed(volatility=0.005, beta=0.97)),
        traders=2,
        limits=(("correlation_limit", None), ("exposure_limit", 0.02), ("risk_limit", 0.03)),
        filler=3.0,
        engine=(("runonce", False),),
        actions=(
            Action(8, 1, "market", 0, (1, 134, None)),
            Action(10, 1, "resting", 0, (-1, 26, "StopLimit", 0.0088, None)),
            Action(15, 0, "close", 0, (0.3,)),
            Action(15, 0, "scalp", 0, (1, 40.492, 0.0075)),
            Action(16, 0, "market", 0, (1, 574, (0.0262, 0.0288, False, 1.0))),
            Action(17, 0, "resting", 0, (-1, 9, "Limit", -0.0243, 4)),
            Action(19, 0, "market", 1, (1, None, None)),
            Action(19, 1, "market", 0, (1, None, None)),
            Action(20, 0, "resting", 0, (1, 1271, "StopLimit", -0.0221, 1)),
            Action(21, 1, "family", 0, (1, 235.594, 0.0212, 0.0446, 1.5, 0)),
        ),
    ),
    # Nothing has a limit: BackBroker's Margin is left alone, an exit's too.
    "an exit that cash does not cover is rescued where nothing has a limit": World(
        seed=3141,
        bars=43,
        feeds=(Feed(volatility=0.005, beta=0.5), Feed()),
        traders=2,
        parts=("cap",),
        limits=(("correlation_limit", None), ("exposure_limit", None)),
        engine=(("runonce", False),),
        actions=(
            Action(16, 0, "planned", 1, (1, 349.704, 0.0202)),
            Action(18, 0, "family", 0, (1, 994, 0.0393, 0.053, 0.5, 0)),
            Action(18, 1, "exits", 1, (0.0262, 0.0418, False, 0.5)),
        ),
    ),
    "an exit at the close opens what the stop has closed": World(
        seed=439,
        bars=48,
        feeds=(Feed(beta=0.97),),
        engine=(("runonce", False),),
        actions=(
            Action(3, 0, "planned", 0, (-1, 22, 0.0092)),
            Action(4, 0, "ladder", 0, (0.0794, 0.0654, 1.0)),
            Action(4, 0, "market", 0, (-1, 2, None, "Close")),
            Action(4, 0, "close", 0, (0.5, "Close")),
        ),
    ),
    "the close and the stop of a pair are not shrunk together": World(
        seed=2365,
        bars=75,
        feeds=(Feed(volatility=0.03, beta=0.5), Feed(volatility=0.01, beta=0.5)),
        parts=("stop",),
        filler=10.0,
        engine=(("cheat_on_open", True),),
        actions=(
            Action(47, 0, "resting", 1, (-1, 260, "StopTrail", 0.0197, None)),
            Action(62, 0, "timed", 1, (0.0516, True), True),
        ),
    ),
    "an order at the close fills at a close that is not there": World(
        seed=585,
        bars=71,
        feeds=(Feed(nans=0.05, beta=0.5),),
        traders=2,
        limits=(("action", "pause"), ("anchor", "extreme"), ("flatten", False)),
        engine=(("runonce", False),),
        actions=(Action(50, 1, "market", 0, (-1, 426.949, None, "Close")),),
    ),
    "an entry that a trip cancels takes the exits of its family with it": World(
        seed=5384,
        bars=78,
        feeds=(Feed(volatility=0.01),),
        traders=2,
        parts=("breaker", "stop"),
        limits=(
            ("action", "pause"),
            ("cooldown_bars", 3),
            ("drawdown_limit", 0.01),
            ("flatten", False),
        ),
        filler=3.0,
        engine=(("runonce", False),),
        actions=(
            Action(21, 1, "resting", 0, (-1, 1768, "StopTrail", -0.0064, 4)),
            Action(22, 0, "timed", 0, (0.0016, True)),
            Action(22, 0, "target", 0, ("value", 50000.0)),
            Action(23, 1, "close", 0, (0.5,)),
            Action(23, 1, "market", 0, (-1, 170, None)),
            Action(41, 1, "resting", 0, (1, 846, "Stop", 0.0233, None)),
            Action(42, 0, "exits", 0, (0.0059, 0.041, True, 0.5)),
            Action(42, 1, "reverse", 0, (1.5,)),
            Action(43, 1, "target", 0, ("value", 50000.0)),
            Action(44, 0, "close", 0, (1.0, "Close")),
            Action(44, 0, "reverse", 0, (2.0,)),
            Action(44, 0, "exits", 0, (0.0098, 0.0148, False, 1.0)),
            Action(47, 0, "family", 0, (1, 746, 0.0378, 0.0216, 1.5, 50)),
            Action(48, 0, "fork", 0, (6, 0.0232)),
        ),
    ),
    # What the model had to learn of fills in parts, of which cheats and closes make more.
    "what closes of a reversal fills first": World(
        seed=563,
        bars=71,
        feeds=(Feed(volatility=0.01), Feed(start=0.15)),
        traders=2,
        filler=3.0,
        engine=(("runonce", False),),
        actions=(
            Action(18, 0, "target", 0, ("size", 1200)),
            Action(20, 1, "market", 1, (1, 23, None)),
            Action(21, 0, "reverse", 1, (2.0,)),
            Action(21, 0, "market", 1, (1, None, None)),
            Action(22, 0, "bracket", 1, (-1, None, "Limit", 0.0114, 0.0436, 0.0423, "both", 2)),
        ),
    ),
    "a stop that has begun to fill covers what is left of it": World(
        seed=4742,
        bars=68,
        feeds=(Feed(volatility=0.005),),
        limits=(("anchor", "extreme"), ("exposure_limit", 0.02), ("risk_limit", 0.03)),
        filler=3.0,
        engine=(("cheat_on_open", True),),
        actions=(
            Action(38, 0, "target", 0, ("size", 200)),
            Action(46, 0, "resting", 0, (1, 1061, "StopLimit", -0.0443, 1), True),
        ),
    ),
    "close() of what another holds is judged as an entry": World(
        seed=14,
        bars=59,
        feeds=(Feed(gaps=0.15, beta=0.5),),
        traders=2,
        parts=("cap",),
        engine=(("runonce", False),),
        actions=(
            Action(38, 1, "resting", 0, (1, 660, "StopLimit", 0.0294, 4)),
            Action(41, 0, "close", 0, (1.0,)),
        ),
    ),
    "close() of what another holds opens when that is gone": World(
        seed=1,
        bars=70,
        feeds=(Feed(volatility=0.005, beta=0.97),),
        traders=2,
        engine=(("runonce", False),),
        actions=(
            Action(37, 0, "family", 0, (-1, 159, 0.027, 0.0458, 1.0, 0)),
            Action(38, 0, "resting", 0, (1, 241, "Stop", 0.0099, None)),
            Action(38, 1, "close", 0, (1.0,)),
        ),
    ),
    "close() opens by what another order hands over": World(
        seed=71,
        bars=69,
        feeds=(Feed(volatility=0.01), Feed(volatility=0.005, beta=0.5)),
        filler=3.0,
        engine=(("runonce", False),),
        actions=(
            Action(21, 0, "resting", 1, (-1, 2204.546, "Stop", 0.0145, None)),
            Action(30, 0, "leave", 1, ("reverse",)),
        ),
    ),
    "a late child brings a cancelled parent back": World(
        seed=67,
        bars=57,
        feeds=(Feed(beta=0.97),),
        engine=(("runonce", False),),
        actions=(
            Action(7, 0, "target", 0, ("percent", 0.2)),
            Action(14, 0, "exits", 0, (0.0132, 0.0304, True, 0.5)),
            Action(15, 0, "late", 0, (1, 9, 0.0185)),
        ),
    ),
    "a family that may not add takes its exit with it": World(
        seed=97,
        bars=80,
        feeds=(Feed(volatility=0.005),),
        traders=2,
        parts=("cap",),
        cash=8000.0,
        engine=(("runonce", False),),
        actions=(
            Action(8, 1, "family", 0, (1, 4, 0.0563, 0.0145, 1.0, 0)),
            Action(9, 1, "family", 0, (-1, 140, 0.0503, 0.0525, 1.5, 50)),
        ),
    ),
    "an exit stays when a guard has ended its entry": World(
        seed=34,
        bars=50,
        feeds=(Feed(volatility=0.03, beta=0.5), Feed(volatility=0.01)),
        parts=("cap",),
        limits=(("guards", (CooldownGuard(3),)),),
        filler=3.0,
        engine=(("runonce", False),),
        actions=(Action(21, 0, "scalp", 1, (1, 66.174, 0.0105)),),
    ),
    "an exit stays when a halt has ended what it may open": World(
        seed=3032,
        bars=56,
        feeds=(Feed(volatility=0.005),),
        filler=3.0,
        engine=(("runonce", False),),
        actions=(
            Action(15, 0, "market", 0, (-1, 2033, None)),
            Action(18, 0, "resting", 0, (1, 17205.515, "StopLimit", -0.9999, None)),
            Action(33, 0, "switch", 0, ("halt",)),
        ),
    ),
    "what rounding has left of an allowance opens nothing": World(
        seed=734,
        bars=70,
        feeds=(Feed(gaps=0.15, volatility=0.01), Feed(volatility=0.01, margin=2000.0, mult=10.0)),
        limits=(
            ("action", "pause"),
            ("cooldown_bars", 3),
            ("drawdown_limit", 0.03),
            ("exposure_limit", 0.02),
        ),
        filler=10.0,
        engine=(("cheat_on_open", True),),
        actions=(
            Action(42, 0, "family", 1, (-1, 116.95, 0.0543, 0.0244, 1.5, 0)),
            Action(52, 0, "market", 1, (1, 830, None), True),
            Action(52, 0, "resting", 1, (1, 535, "StopLimit", -0.0409, None)),
            Action(52, 0, "target", 1, ("size", -500), True),
            Action(53, 0, "target", 1, ("value", 0.0), True),
        ),
    ),
    "an exit of another's position opens after a trip": World(
        seed=74,
        bars=78,
        feeds=(Feed(),),
        traders=2,
        limits=(
            ("action", "pause"),
            ("drawdown_limit", 0.01),
            ("exposure_limit", 0.02),
            ("flatten", False),
        ),
        slippage=0.001,
        engine=(("runonce", False),),
        actions=(
            Action(12, 0, "family", 0, (1, 195, 0.0085, 0.0415, 0.5, 0)),
            Action(14, 0, "market", 0, (1, 30.911, (0.0581, 0.0599, False, 1.0))),
            Action(14, 1, "family", 0, (-1, 1595, 0.0325, 0.057, 0.5, 0)),
        ),
    ),
    "a child that adds claims what its parent has closed": World(
        seed=31254,
        bars=54,
        feeds=(Feed(volatility=0.005),),
        coc=True,
        engine=(("runonce", False),),
        actions=(
            Action(28, 0, "family", 0, (1, 63, 0.0296, 0.044, 1.5, 0)),
            Action(34, 0, "family", 0, (1, 80, 0.0201, 0.0514, 0.5, 50)),
            Action(36, 0, "reverse", 0, (1.5,)),
            Action(39, 0, "exits", 0, (0.0462, 0.0337, False, 1.0)),
        ),
    ),
    "a stop that is tried outlives its trade": World(
        seed=41354,
        bars=76,
        feeds=(Feed(),),
        parts=("cap", "stop"),
        limits=(
            ("correlation_limit", None),
            ("exposure_limit", None),
            (
                "guards",
                (MarginAccount(50.0, ((0.0, 0.004), (100_000.0, 0.01)), call=0.5, buffer=None),),
            ),
        ),
        filler=3.0,
        engine=(("runonce", False),),
        actions=(
            Action(19, 0, "market", 0, (-1, 852, (0.0431, 0.0363, True, 0.5))),
            Action(22, 0, "target", 0, ("value", 50000.0)),
            Action(24, 0, "family", 0, (-1, 294, 0.0076, 0.0107, 1.0, 50)),
            Action(30, 0, "family", 0, (1, 9.375, 0.0257, 0.0207, 0.5, 0)),
            Action(31, 0, "target", 0, ("percent", 0.5)),
        ),
    ),
    "the model takes from a child what its parent opens, where other exits claim all": World(
        seed=51704,
        bars=68,
        feeds=(Feed(volatility=0.01),),
        parts=("stop",),
        filler=10.0,
        engine=(("runonce", False),),
        actions=(
            Action(2, 0, "target", 0, ("percent", 0.2)),
            Action(7, 0, "timed", 0, (0.0092, True)),
            Action(9, 0, "planned", 0, (1, 1439.609, 0.0445)),
            Action(9, 0, "exits", 0, (0.0071, 0.048, True, 0.5)),
            Action(10, 0, "bracket", 0, (1, 22, "Limit", 0.0038, 0.0014, 0.0421, "stop", None)),
            Action(12, 0, "bracket", 0, (-1, 203, "Limit", 0.011, 0.0269, 0.0215, "limit", 2)),
            Action(14, 0, "reverse", 0, (2.0,)),
            Action(17, 0, "resting", 0, (-1, 240, "Stop", 0.037, None)),
            Action(17, 0, "target", 0, ("size", -500)),
        ),
    ),
    "an exit counts on what cash has cut from an entry": World(
        seed=52068,
        bars=68,
        feeds=(Feed(volatility=0.03, margin=500.0, mult=10.0),),
        parts=("cap",),
        limits=(
            ("correlation_limit", None),
            ("exposure_limit", None),
            (
                "guards",
                (MarginAccount(50.0, ((0.0, 0.005), (200000.0, 0.01, 10)), call=0.3),),
            ),
        ),
        filler=10.0,
        engine=(("runonce", False),),
        actions=(
            Action(55, 0, "bracket", 0, (-1, 234, "Market", 0.0084, 0.0016, 0.0134, "stop", 2)),
            Action(56, 0, "resting", 0, (1, 123.238, "Limit", -0.9999, None)),
        ),
    ),
    "the model counts on an entry that was cut behind a position while equity was in doubt": World(
        seed=61292,
        bars=57,
        feeds=(
            Feed(volatility=0.03, bad=0.08),
            Feed(volatility=0.02, bad=0.03),
            Feed(volatility=0.005, bad=0.03),
        ),
        traders=2,
        parts=("cap",),
        filler=3.0,
        engine=(("runonce", False),),
        actions=(
            Action(20, 1, "market", 1, (-1, 2913, None, "Market", 0)),
            Action(24, 0, "reverse", 1, (2.0,)),
            Action(27, 1, "fork", 1, (2303, 0.0261)),
            Action(28, 0, "fork", 0, (None, 0.0087)),
            Action(29, 0, "rotate", 2, (1, -1, 2072.613, True)),
            Action(29, 0, "resting", 1, (1, 2387, "StopLimit", 0.011, 1)),
            Action(36, 0, "market", 0, (1, 1032, None, "Market", 0)),
            Action(36, 0, "bracket", 1, (1, 390, "Limit", 0.0182, 0.0068, 0.0362, "stop", 2)),
        ),
    ),
    "the model judges half a bracket where nothing but the switch of an operator is there": World(
        seed=61238,
        bars=76,
        feeds=(Feed(volatility=0.01, beta=0.5),),
        parts=("cap",),
        limits=(("correlation_limit", None), ("exposure_limit", None)),
        engine=(("runonce", False),),
        actions=(
            Action(59, 0, "switch", 0, ("reduce_only",)),
            Action(61, 0, "family", 0, (1, None, 0.0305, 0.056, 1.0, 0)),
        ),
    ),
}


def test_worlds_have_margin_of_both_kinds():
    guards = [guard for seed in range(100) for guard in make_world(seed).policy["guards"]]
    accounts = [guard for guard in guards if isinstance(guard, MarginAccount)]
    assert {account.mode for account in accounts} == {"isolated", "cross"}


def test_worlds_have_both_guards_on_signals():
    worlds = [make_world(seed) for seed in range(100)]
    guards = [type(guard) for w in worlds if w.signals for guard in w.policy["guards"]]
    assert {SignalGate, ConvictionScale} <= set(guards)


def test_worlds_have_every_mode_of_the_engine():
    drawn = {option for seed in range(100) for option in make_world(seed).engine}
    modes = {("runonce", True), ("runonce", False), ("quicknotify", True), ("preload", False)}
    assert drawn >= modes | {("exactbars", 1), ("cheat_on_open", True), ("broker_coo", False)}
    assert {make_world(seed).coc for seed in range(100)} == {True, False}


def bars_of(seeds):
    """Run the worlds of these seeds, fail on the first breach; return how many bars they ran."""
    bars = 0
    for seed in seeds:
        world = make_world(seed)
        model = run(world)
        bars += model.bar
        if model.breaches:
            pytest.fail(report(world, model.breaches[0]), pytrace=False)
    return bars


@pytest.mark.parametrize("chunk", sliced(range(CHUNKS), 8))
def test_no_random_strategy_breaks_a_promise(chunk):
    assert bars_of(range(chunk * CHUNK, (chunk + 1) * CHUNK)) >= BARS / CHUNKS


@pytest.mark.parametrize("chunk", sliced(range(4), 4))
def test_what_comes_later_changes_nothing_that_was_decided(chunk):
    for seed in range(2000 + 30 * chunk, 2000 + 30 * (chunk + 1)):
        world = make_world(seed)
        breach = safety.foresight(world, run(world))
        if breach:
            pytest.fail(report(world, breach), pytrace=False)


@pytest.mark.parametrize("name", REGRESSIONS)
def test_what_went_wrong_once_does_not_again(name):
    assert check(REGRESSIONS[name]) is None


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("worker", range(4))
def test_a_million_bars_break_no_promise(worker):
    seed, bars = 10_000 + worker, 0
    while bars < 250_000:
        bars += bars_of([seed])
        seed += 4


# -- the harness itself ----------------------------------------------------------------------------


def _allow(self, request, *more):
    return Decision(request.size)


_ask = TradingState.ask
_init = OrderRequest.__post_init__
_measure = Instrument.measure
_preview = order_review.preview_order
_breach = bt_risk.gate.liquidation.first_breach


def _ask_and_forget(self, *request):
    _ask(self, *request)
    self.asked.clear()


def _at_its_own_price(self):
    _init(self)
    self.dearest = self.riskiest = self.price


def _behind_every_exit(book, instrument, owner, side, size, terms):
    preview = _preview(book, instrument, owner, side, size, terms)
    every = claims(preview.part, side, ("market", "close", "limit", "stop"), terms.group)
    left = min(size, max(0.0, -side * preview.part.size - every))
    if left >= preview.reduces:
        return preview
    return preview._replace(closing=left, opening=size - left - preview.void, reduces=left)


def _at_the_worst(balance, legs, own=False):
    return None if _breach(balance, legs, own) is None else 1.0


def _with_a_position(part):
    orders = part.instrument.orders.values()
    return [w for w in orders if not w.own and w.owner is part.owner and w.closing > 0]


def _without_prices_below_zero(self, scheme):
    multiplier = _measure(self, scheme)
    self.negative_prices = False
    return multiplier


# What is broken: the promise that notices it, and what is replaced by what.
FAULTS = {
    "reduce_only lets entries in": ("9 entry accepted", TradingState, "ask", _ask_and_forget),
    "what rests is not held back": (
        "9 entry filled after reduce_only",
        SimulatedExecution,
        "_allowed",
        lambda self, part, working: reachable.allowed_fill(part, working),
    ),
    "a guard forgets what rests": (
        "9 entry filled in a cool-down",
        GuardMonitor,
        "_judge",
        lambda self, working: None,
    ),
    "a day that is over lets entries in": (
        "9 entry accepted after a loss",
        DailyLossLimit,
        "review",
        _allow,
    ),
    "what is held stays on a day that is over": (
        "9 nothing closes a position",
        GuardMonitor,
        "_end_day",
        lambda self, guard: None,
    ),
    "a day is judged at its close alone": (
        "9 entry accepted after a loss",
        bt_risk.monitors.guards,
        "worst_change",
        lambda *bar: 0.0,
    ),
    "a breaker judges closes alone": (
        "7 ",
        DrawdownMonitor,
        "_worst",
        lambda self, value, new: value,
    ),
    "a breaker forgets the lows of a bar": (
        "7 ",
        DrawdownMonitor,
        "_inside",
        lambda self, value, fresh: value,
    ),
    "hours let entries in": ("9 entry accepted after trading", TradingHours, "review", _allow),
    "what is held stays after hours": (
        "9 nothing closes a position",
        GuardMonitor,
        "_leave",
        lambda self, guard: None,
    ),
    "a stop fills after a target of its bar": (
        "4 a target has filled before the stop of its bar",
        ExitPair,
        "let_first",
        lambda self, working: True,
    ),
    "no risk limit": ("1 risk_limit", RiskPerTrade, "review", _allow),
    "no exposure limit": ("1 exposure_limit", ExposureLimit, "review", _allow),
    "no gross limit": ("1 gross_limit", GrossLimit, "review", _allow),
    "no net limit": ("1 net_limit", NetLimit, "review", _allow),
    "no position limit": ("1 position_limit", PositionLimit, "review", _allow),
    "no group limit": ("1 group_limit", GroupLimit, "review", _allow),
    "no volatility limit": ("1 volatility_limit", VolatilityLimit, "review", _allow),
    "no correlation limit": ("4 the same bet", CorrelationLimit, "review", _allow),
    "a stop steps back": (
        "4 stop is not where the rule puts it",
        bt_risk.monitors.trailing_stop,
        "ratchet",
        lambda price, level, side: level - side,
    ),
    "exits are left behind": (
        "3 an exit outlives its position",
        bt_risk.gate.exit_orders,
        "stranded",
        lambda part: [],
    ),
    "exits are withdrawn too early": (
        "2 an exit was cancelled",
        bt_risk.gate.exit_orders,
        "stranded",
        _with_a_position,
    ),
    "fills are not clamped": (
        "3 an order opened more than was reviewed",
        bt_risk.gate.simulated_execution,
        "allowed_fill",
        lambda part, working: working.remaining,
    ),
    "close() is any order": (
        "3 close() has opened a position",
        order_review,
        "sent_by_close",
        lambda: False,
    ),
    "a take-profit stands before a market exit": (
        "2 exit refused or trimmed",
        order_review,
        "preview_order",
        _behind_every_exit,
    ),
    "an exit closes what another strategy holds": (
        "3 an order opened more than was reviewed",
        reachable,
        "held_for",
        lambda part, side, shared: max(0.0, -side * part.instrument.size),
    ),
    "an entry is not reviewed again without its exit": (
        "1 ",
        SimulatedExecution,
        "_review_relying",
        lambda self, working, price: None,
    ),
    "a limit is worth its own price": (
        "1 exposure_limit",
        OrderRequest,
        "__post_init__",
        _at_its_own_price,
    ),
    "a bracket is judged without its stop": (
        "1 risk_limit",
        Brackets,
        "_distance",
        lambda self, family, last: None,
    ),
    "a point is worth mult": (
        "1 risk_limit",
        bt_risk.portfolio.instrument,
        "point_value",
        lambda scheme, price, distance=0.0: float(scheme.p.mult),
    ),
    "a late child is passed on": (
        "3 an order opened more than was reviewed",
        Brackets,
        "_submit_late",
        lambda self, request: self.order_review.sender.transmit(request, request.size),
    ),
    "no stop rests below zero": (
        "3 position without its stop",
        Instrument,
        "measure",
        _without_prices_below_zero,
    ),
    "margin is never short": ("1 margin", MarginAccount, "_initial", _allow),
    "any notional at any leverage": ("1 tiers", MarginAccount, "_bands", _allow),
    "liquidation comes before the stop": (
        "1 liquidation before the stop",
        MarginAccount,
        "_stop",
        lambda self, request, book, beside: Decision(request.size),
    ),
    "what is held is never liquidated": (
        "9 a position outlives its margin",
        Liquidation,
        "_before",
        lambda self, held: None,
    ),
    "a position is liquidated at the worst of its bar": (
        "9 liquidated at another price than its own",
        bt_risk.gate.liquidation,
        "first_breach",
        _at_the_worst,
    ),
    "an entry needs no signal": ("9 entry accepted", SignalGate, "review", _allow),
    "a weak signal risks as much": ("1 conviction", ConvictionScale, "review", _allow),
    "a signal never grows old": (
        "9 entry accepted without a signal",
        bt_risk.signals.data,
        "_seconds",
        lambda name, span, zero=False: 0.0 if zero else 1e9,
    ),
    "every bar is believed": (
        "8 entry accepted without a valid price",
        bt_risk.portfolio.instrument,
        "suspicion",
        lambda *prices: "",
    ),
    "one bar that cannot be true trips": ("7 ", Book, "doubt", lambda self, bars=None: ""),
    "the stop comes before a market exit": (
        "3 the stop took what a market exit takes",
        SimulatedExecution,
        "_leaves_now",
        lambda self, other: False,
    ),
    "entries outlive a trip": (
        "7 entry rests after a trip",
        ExitOrders,
        "cancel_entry",
        lambda self, working, rule: False,
    ),
}


@pytest.mark.parametrize("fault", sliced(FAULTS, 4))
def test_a_fault_in_the_core_is_noticed(fault, monkeypatch):
    promise, *replaced = FAULTS[fault]
    monkeypatch.setattr(*replaced)
    seeds = 1372, *range(200)  # one fault shows in few worlds, and in this one
    assert any(promise in b.promise for seed in seeds for b in run(make_world(seed)).breaches)


def test_a_gate_that_reads_the_close_at_the_open_is_noticed(monkeypatch):
    for kind in (Instrument, LoadedInstrument):
        monkeypatch.setattr(kind, "quote", lambda self: float(self.data.close[0]))
    cheats = (seed for seed in range(60) if dict(make_world(seed).engine).get("cheat_on_open"))
    found = (b.promise for seed in cheats for b in run(make_world(seed)).breaches)
    assert "1 risk_limit" in found


def test_a_world_is_shrunk_to_the_actions_that_matter():
    world = make_world(3)
    wanted = [world.actions[2], world.actions[-3]]

    small = safety.shrink(world, "", lambda one: all(a in one.actions for a in wanted))

    assert list(small.actions) == wanted
    assert len(small.feeds) <= len(world.feeds)


def test_a_report_names_the_seed_and_evaluates_to_the_world_that_breaks(monkeypatch):
    monkeypatch.setattr(RiskPerTrade, "review", _allow)
    seed, breach = next(
        (seed, b)
        for seed in range(60)
        for b in run(make_world(seed)).breaches
        if b.promise[0] == "1"
    )

    text = report(make_world(seed), breach)

    assert f"seed {seed} breaks: {breach.promise}" in text
    again = eval(text[text.index("check(") :], vars(safety))  # what a developer pastes
    assert again.promise == breach.promise


def test_the_same_seed_makes_the_same_run():
    one, two = run(make_world(5)), run(make_world(5))

    assert one.log == two.log
    assert len(one.log) > 20
