from . import components as components
from . import demo as demo
from . import doctor as doctor
from . import engine as engine
from . import errors as errors
from . import evidence as evidence
from . import feeds as feeds
from . import gate as gate
from . import limits as limits
from . import live as live
from . import monitors as monitors
from . import orders as orders
from . import parameters as parameters
from . import policy as policy
from . import portfolio as portfolio
from . import protection as protection
from . import report as report
from . import rules as rules
from . import signals as signals
from . import state as state
from . import stores as stores
from . import tolerances as tolerances
from .components import observers as observers
from .components.correlation_cap import CorrelationCap
from .components.drawdown_breaker import DrawdownBreaker
from .components.half_kelly import HalfKellySizer
from .components.portfolio_risk import PortfolioRisk
from .components.risk_journal import RiskJournal
from .components.risk_parity import RiskParitySizer
from .components.screener import Screener
from .components.target_weights import target_weights
from .components.trailing_stop import ATRTrailingStop
from .doctor.check import check_store
from .doctor.report import StoreReport
from .engine.fast import fast
from .errors import (
    BtRiskError,
    DataError,
    ParameterError,
    StateError,
)
from .evidence.challenge import challenge
from .evidence.compare import compare
from .evidence.halt_odds import halt_probability
from .evidence.sweep import sweep
from .evidence.sweep_space import Between
from .evidence.verification import verify
from .evidence.walk_forward import walk_forward
from .feeds.bundled import list_data, load_data
from .feeds.files import read_prices
from .feeds.frame import FrameData
from .gate.broker import RiskBroker
from .gate.cash_flow import cash_flow
from .gate.headroom import Headroom
from .limits.account_floor import AccountFloor
from .limits.base import Decision, Limit, NotionalLimit, Request, RiskPerTrade
from .limits.challenge import Consistency, MinimumTradingDays, ProfitTarget
from .limits.clock_guards import OrderRateLimit
from .limits.correlation import CorrelationLimit
from .limits.day_guards import DailyLossLimit, DailyProfitTarget, ProfitLock
from .limits.exit_rules import BreakEven, TakeProfit, TimeExit
from .limits.exposure import (
    ExposureLimit,
    GrossLimit,
    GroupLimit,
    NetLimit,
    PositionLimit,
)
from .limits.gap import GapLimit
from .limits.hours_guards import Blackout, TradingHours
from .limits.margin_account import MarginAccount
from .limits.name_guards import Allow, Deny, LongOnly, MaxPositions
from .limits.order_guards import DuplicateOrder, OrderSize, PriceCollar, RepeatedOrders
from .limits.signal_guards import ConvictionScale, SignalGate
from .limits.trade_guards import (
    CooldownGuard,
    LosingStreakGuard,
    MinimumEdgeGuard,
    StopoutGuard,
)
from .limits.volatility import VolatilityLimit
from .live.alerts import webhook
from .live.settings import Live
from .policy import Policy
from .protection import protect
from .report.record import ReportData
from .rules.allocation import inverse_volatility, risk_parity
from .rules.conviction import conviction_scale
from .rules.correlation import correlation_exposure, correlation_matrix, rolling_correlation
from .rules.drawdown import RiskManager, drawdown, high_water_mark
from .rules.kelly import (
    empirical_kelly,
    half_kelly_position,
    kelly_criterion,
    kelly_lower_bound,
)
from .rules.leverage_tiers import leverage_tiers
from .rules.margin import (
    MarginTier,
    MarginTiers,
    bankruptcy_price,
    borrow_interest,
    funding_payment,
    initial_margin,
    leverage_limit,
    liquidation_price,
    maintenance_margin,
    margin_ratio,
)
from .rules.signals import generate_signal
from .rules.sizing import position_size
from .rules.trailing_stop import atr, atr_stop, ratchet
from .signals.data import SignalData
from .signals.receiver import SignalReceiver
from .signals.sources import SignalPoller, SignalSource, SignalTail

__version__: str

__all__ = [
    "BreakEven",
    "TakeProfit",
    "TimeExit",
    "RepeatedOrders",
    "PriceCollar",
    "OrderSize",
    "DuplicateOrder",
    "MaxPositions",
    "LongOnly",
    "Deny",
    "Allow",
    "ATRTrailingStop",
    "AccountFloor",
    "Between",
    "Blackout",
    "BtRiskError",
    "Consistency",
    "ConvictionScale",
    "SignalData",
    "SignalGate",
    "SignalPoller",
    "SignalReceiver",
    "SignalSource",
    "SignalTail",
    "conviction_scale",
    "CooldownGuard",
    "CorrelationCap",
    "CorrelationLimit",
    "DailyLossLimit",
    "DailyProfitTarget",
    "DataError",
    "Decision",
    "DrawdownBreaker",
    "ExposureLimit",
    "FrameData",
    "GrossLimit",
    "GapLimit",
    "GroupLimit",
    "HalfKellySizer",
    "Headroom",
    "Limit",
    "Live",
    "LosingStreakGuard",
    "MarginAccount",
    "MarginTier",
    "MarginTiers",
    "MinimumEdgeGuard",
    "MinimumTradingDays",
    "NetLimit",
    "NotionalLimit",
    "OrderRateLimit",
    "ParameterError",
    "Policy",
    "PortfolioRisk",
    "PositionLimit",
    "ProfitLock",
    "ProfitTarget",
    "ReportData",
    "Request",
    "RiskBroker",
    "RiskJournal",
    "RiskManager",
    "RiskParitySizer",
    "RiskPerTrade",
    "Screener",
    "StateError",
    "StopoutGuard",
    "StoreReport",
    "TradingHours",
    "VolatilityLimit",
    "atr",
    "atr_stop",
    "bankruptcy_price",
    "borrow_interest",
    "cash_flow",
    "challenge",
    "check_store",
    "compare",
    "correlation_exposure",
    "correlation_matrix",
    "drawdown",
    "empirical_kelly",
    "fast",
    "funding_payment",
    "generate_signal",
    "half_kelly_position",
    "halt_probability",
    "high_water_mark",
    "initial_margin",
    "inverse_volatility",
    "kelly_criterion",
    "kelly_lower_bound",
    "leverage_limit",
    "leverage_tiers",
    "liquidation_price",
    "list_data",
    "load_data",
    "maintenance_margin",
    "margin_ratio",
    "position_size",
    "protect",
    "ratchet",
    "read_prices",
    "risk_parity",
    "rolling_correlation",
    "sweep",
    "target_weights",
    "walk_forward",
    "webhook",
    "verify",
]
