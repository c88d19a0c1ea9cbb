"""Risk controls for Backtrader: five rules as native components and as plain functions."""

from bt_risk import report as report
from bt_risk.components import observers as observers
from bt_risk.components.correlation_cap import CorrelationCap
from bt_risk.components.drawdown_breaker import DrawdownBreaker
from bt_risk.components.half_kelly import HalfKellySizer
from bt_risk.components.portfolio_risk import PortfolioRisk
from bt_risk.components.risk_journal import RiskJournal
from bt_risk.components.risk_parity import RiskParitySizer
from bt_risk.components.target_weights import target_weights
from bt_risk.components.trailing_stop import ATRTrailingStop
from bt_risk.doctor.check import check_store
from bt_risk.doctor.report import StoreReport
from bt_risk.engine.fast import fast
from bt_risk.errors import (
    BtRiskError,
    DataError,
    ParameterError,
    StateError,
)
from bt_risk.evidence.compare import compare
from bt_risk.evidence.halt_odds import halt_probability
from bt_risk.feeds.bundled import list_data, load_data
from bt_risk.feeds.files import read_prices
from bt_risk.feeds.frame import FrameData
from bt_risk.gate.broker import RiskBroker
from bt_risk.gate.cash_flow import cash_flow
from bt_risk.limits.base import Decision, Limit, NotionalLimit, Request, RiskPerTrade
from bt_risk.limits.clock_guards import DailyLossLimit, OrderRateLimit
from bt_risk.limits.correlation import CorrelationLimit
from bt_risk.limits.exposure import (
    ExposureLimit,
    GrossLimit,
    GroupLimit,
    NetLimit,
    PositionLimit,
)
from bt_risk.limits.trade_guards import (
    CooldownGuard,
    LosingStreakGuard,
    MinimumEdgeGuard,
    StopoutGuard,
)
from bt_risk.limits.volatility import VolatilityLimit
from bt_risk.live.alerts import webhook
from bt_risk.live.settings import Live
from bt_risk.policy import Policy
from bt_risk.protection import protect
from bt_risk.report.record import ReportData
from bt_risk.rules.allocation import inverse_volatility, risk_parity
from bt_risk.rules.correlation import correlation_exposure, correlation_matrix, rolling_correlation
from bt_risk.rules.drawdown import RiskManager, drawdown, high_water_mark
from bt_risk.rules.kelly import (
    empirical_kelly,
    half_kelly_position,
    kelly_criterion,
    kelly_lower_bound,
)
from bt_risk.rules.signals import generate_signal
from bt_risk.rules.sizing import position_size
from bt_risk.rules.trailing_stop import atr, atr_stop, ratchet

__version__ = "0.1.0"

__all__ = [
    "ATRTrailingStop",
    "BtRiskError",
    "CooldownGuard",
    "CorrelationCap",
    "CorrelationLimit",
    "DailyLossLimit",
    "DataError",
    "Decision",
    "DrawdownBreaker",
    "ExposureLimit",
    "FrameData",
    "GrossLimit",
    "GroupLimit",
    "HalfKellySizer",
    "Limit",
    "Live",
    "LosingStreakGuard",
    "MinimumEdgeGuard",
    "NetLimit",
    "NotionalLimit",
    "OrderRateLimit",
    "ParameterError",
    "Policy",
    "PortfolioRisk",
    "PositionLimit",
    "ReportData",
    "Request",
    "RiskBroker",
    "RiskJournal",
    "RiskManager",
    "RiskParitySizer",
    "RiskPerTrade",
    "StateError",
    "StopoutGuard",
    "StoreReport",
    "VolatilityLimit",
    "atr",
    "atr_stop",
    "cash_flow",
    "check_store",
    "compare",
    "correlation_exposure",
    "correlation_matrix",
    "drawdown",
    "empirical_kelly",
    "fast",
    "generate_signal",
    "half_kelly_position",
    "halt_probability",
    "high_water_mark",
    "inverse_volatility",
    "kelly_criterion",
    "kelly_lower_bound",
    "list_data",
    "load_data",
    "position_size",
    "protect",
    "ratchet",
    "read_prices",
    "risk_parity",
    "rolling_correlation",
    "target_weights",
    "webhook",
]
