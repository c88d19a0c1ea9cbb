"""Rules 3 and 4: limits on one direction, on what moves together, and on the whole portfolio."""

from __future__ import annotations

from dataclasses import fields
from inspect import Parameter, signature
from typing import Any

import pandas as pd
from backtrader import date2num

from bt_risk.errors import ParameterError, check_choice, check_names
from bt_risk.gate.broker import RiskBroker
from bt_risk.limits.portfolio import portfolio_limits
from bt_risk.limits.settings import ESTIMATOR, LimitSettings
from bt_risk.live.settings import Live
from bt_risk.parameters import keyword_parameters, with_signature
from bt_risk.portfolio.instrument_facts import check_instruments

__all__ = ["CorrelationCap"]

_LIMITS = {one.name: one for one in keyword_parameters(LimitSettings, ESTIMATOR)}


def _parameters() -> list[Parameter]:
    """Return the parameters of a `CorrelationCap`: those of the limits, and of a `RiskBroker`."""
    this, broker, *gate, live = signature(RiskBroker.__init__).parameters.values()
    history = [
        Parameter("history", Parameter.KEYWORD_ONLY, default=None),
        Parameter("history_kind", Parameter.KEYWORD_ONLY, default="prices"),
    ]
    return [this, broker, *_LIMITS.values(), *history, *gate, live]


_SIGNATURE = _parameters()
_NAMES = [*(one.name for one in _SIGNATURE), *(one.name for one in fields(Live))]


class CorrelationCap(RiskBroker):
    """Refuse the same bet twice, and too much in one direction: a broker around a broker.

    ``cerebro.setbroker(bt_risk.CorrelationCap(cerebro.broker))``. With every instrument that is
    held, or that a working order may open, the signed correlation ``side_i x side_j x rho`` must
    not exceed the limit; a hedge passes, and so does every exit. Too little common history counts
    as +1: the order is refused with that reason.

    It can also limit exposure in all, in one instrument and in groups, and the volatility of the
    whole portfolio. The fractions of equity are in `exposure_unit`.

    Parameters
    ----------
    broker : broker, optional
        The broker to wrap (None: a new ``BackBroker``); wrapping a RiskBroker joins it.
    correlation_limit : float, default 0.7
        Signed correlation; None or infinity switches it off.
    window, min_periods : int, default 252, 60
        Bars of log returns joined on time, and how many two must have in common. Two data feeds
        of different time frames are compared on the bars of the coarser one.
    on_correlation : {"reject", "trim"}
        Refuse a correlated order, or leave `correlated_scale` of it.
    correlated_scale : float, default 0.8
        What ``on_correlation="trim"`` leaves of an order, once.
    hysteresis : float, default 0.0
        A pair that was refused stays so until it is at most ``correlation_limit - hysteresis``.
    estimator : {"rolling", "ewm", "ledoit-wolf"}
        Equal weights; weights that halve every `halflife` bars; or correlations drawn towards
        their mean. (Drawn towards zero, as scikit-learn does it, a cap would see too little.)
    halflife : float, optional
        In bars, for "ewm" and only for it.
    multi_bar : int, default 1
        Bars that a return spans; above 1 they overlap, for closes that are hours apart.
    downside : bool, default False
        Count the correlation of the bars at which the two positions lose where it is worse.
    unknown : {"refuse", "allow"}
        What to do while correlation or volatility is unknown.
    max_stale_bars : int, default 5
        A data is unknown once others have had more bars than that since its last, and more than
        twice its own longest gap has passed: not at its old prices.
    history : DataFrame, optional
        Prices (or returns) by time and data name that fill the window before the first bar.
    history_kind : {"prices", "returns"}
        What `history` holds.
    exposure_limit : float, optional
        All positions in one direction; None: no limit (0.05 in `Policy`).
    gross_limit, net_limit : float, optional
        Sum of the absolute values of all positions, absolute value of their sum.
    position_limit : float, optional
        One instrument.
    groups : dict of str to list of str, optional
        Data names by name of the group: ``{"majors": ["BTC", "ETH"]}``; a typo raises.
    group_limit : float, optional
        Sum of absolute values in each group.
    exposure_unit : {"risk", "notional"}
        Whether these are fractions of equity lost at the stops, or held.
    allow_extreme : bool, default False
        Take limits of risk of 0.5 and more, which are percent by mistake otherwise; those of
        `instruments` too.
    on_exposure : {"trim", "reject"}
        Cut an order to what they leave, or refuse it.
    volatility_limit : float, optional
        Ex-ante volatility of a year after the order, fraction of equity.
    on_volatility : {"trim", "reject"}
        Cut an order to the largest size that keeps it, or refuse it. A hedge passes.
    gap_limit, gap_floor : float, optional
        What a position may lose in a gap like the worst of the window, fraction of equity, and
        the least gap that is assumed, fraction of the price.
    periods_per_year : float, optional
        Bars in a year; None: counted in the window itself, by the calendar.
    instruments, atr_period, atr_multiple, bar_jump, on_bypass, guards, limits, state, **live
        As for `RiskBroker`.
    """

    @with_signature(_SIGNATURE)
    def __init__(
        self,
        broker: Any = None,
        *,
        history: pd.DataFrame | None = None,
        history_kind: str = "prices",
        **settings: Any,
    ) -> None:
        name = type(self).__name__
        check_names(name, settings, _NAMES)
        given = {key: settings.pop(key) for key in _LIMITS if key in settings}
        limits = LimitSettings.checked(name, given, ESTIMATOR)
        known = _history(history, history_kind)
        if limits.allow_extreme:
            facts = check_instruments(name, settings.get("instruments"), allow_extreme=True)
            settings["instruments"] = {n: own | {"allow_extreme": True} for n, own in facts.items()}
        super().__init__(broker, **settings)
        self.call_stale_after(limits.max_stale_bars)
        for limit in portfolio_limits(limits):
            limit.history = known
            self.registry.permanent.append(limit)


def _history(frame: pd.DataFrame | None, kind: str) -> tuple[pd.DataFrame, str] | None:
    """Return the frame indexed by Backtrader's date numbers, and its kind."""
    kind = check_choice("CorrelationCap", "history_kind", kind, ("prices", "returns"))
    if frame is None:
        return None
    if not isinstance(frame, pd.DataFrame):
        constraint = "a DataFrame of prices by time and data name"
        raise ParameterError("CorrelationCap", "history", constraint, type(frame).__name__)
    times = frame.index
    if not isinstance(times, pd.DatetimeIndex):
        raise ParameterError("CorrelationCap", "history", "indexed by time", type(times).__name__)
    times = times if times.tz is None else times.tz_convert("UTC").tz_localize(None)
    return frame.set_axis([date2num(time) for time in times]), kind
