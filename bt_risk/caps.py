"""Rules 3 and 4: how much in one direction, and how much of what moves together."""

import math

import backtrader as bt
import pandas as pd

from bt_risk.broker import RiskBroker
from bt_risk.errors import ParameterError, check_choice, said_by
from bt_risk.rules.limits import CorrelationLimit, ExposureLimit

__all__ = ["CorrelationCap", "PortfolioRisk", "highest_correlation"]


class CorrelationCap(RiskBroker):
    """A broker that refuses the same bet twice, and too much in one direction.

    ``cerebro.setbroker(bt_risk.CorrelationCap(cerebro.broker))``. With every name that is held, or
    about to be, the signed correlation ``side_i x side_j x rho`` must not exceed the limit; a hedge
    passes, and so does every exit. Too little common history counts as +1: refused with a reason.

    Parameters
    ----------
    broker : broker, optional
        What to wrap (None: a new ``BackBroker``); wrapping a RiskBroker joins it.
    correlation_limit : float, default 0.7
        Signed correlation; None or infinity switches it off.
    window, min_periods : int, default 252, 60
        Bars of log returns joined on time, and how many must be common.
    exposure_limit : float, optional
        Fraction of equity in one direction; None: no limit (0.05 in `Policy`).
    exposure_unit : {"risk", "notional"}
        Whether that fraction is lost at the stops or held.
    on_correlation, on_exposure : {"reject", "trim"}
        Default: reject a correlated order, trim one that exposes too much.
    correlated_scale : float, default 0.8
        What ``on_correlation="trim"`` leaves of an order, once.
    history : DataFrame, optional
        Prices (or returns) by time and data name that fill the window before the first bar.
    history_kind : {"prices", "returns"}
        What `history` holds.
    unknown : {"refuse", "allow"}
        What to do while correlation is unknown.
    instruments, atr_period, atr_multiple, guards
        As for `RiskBroker`.
    """

    def __init__(
        self,
        broker=None,
        *,
        correlation_limit=0.7,
        window=252,
        min_periods=60,
        exposure_limit=None,
        exposure_unit="risk",
        on_correlation="reject",
        on_exposure="trim",
        correlated_scale=0.8,
        history=None,
        history_kind="prices",
        unknown="refuse",
        **gate,
    ):
        super().__init__(broker, **gate)
        with said_by("CorrelationCap"):
            correlation = CorrelationLimit(
                correlation_limit, window, min_periods, on_correlation, correlated_scale, unknown
            )
            exposure = ExposureLimit(exposure_limit, exposure_unit, on_exposure)
        correlation.history = _history(history, history_kind)
        self._fixed += [correlation, exposure]


def _history(frame, kind):
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
    return frame.set_axis([bt.date2num(time) for time in times]), kind


class PortfolioRisk(bt.Analyzer):
    """Report what the gate sees at the close of every bar.

    get_analysis: a dict of lists of equal length

      - ``time``: naive UTC datetimes
      - ``long_risk``, ``short_risk``: loss at the stops, fraction of equity; NaN while unknown
      - ``long_notional``, ``short_notional``: what is held, fraction of equity
      - ``gross``, ``net``: sum of absolute values and signed sum of notional, fraction of equity
      - ``correlation``: highest signed correlation among what is held, NaN with fewer than two
    """

    def __init__(self):
        self._gate = RiskBroker.of(self.strategy)
        self._rows = []

    def next(self):
        """Measure the book at this close."""
        gate = self._gate
        book, equity = gate.book, gate.equity()
        sums = [
            sum([self._held(measure, i, side) for i in book.instruments if i.size]) / equity
            for measure in (book.position_risk, _notional)
            for side in (1, -1)
        ]
        time = bt.num2date(gate.latest) if gate.latest == gate.latest else None
        self._rows.append((time, *sums, highest_correlation(book)))

    @staticmethod
    def _held(measure, instrument, side):
        return measure(instrument) if instrument.size * side > 0 else 0.0

    def stop(self):
        """Let go of the gate, so that optimisations can send the result between processes."""
        self._gate = None

    def get_analysis(self):
        """Return the measures by name."""
        frame = self.frame()
        return {"time": frame.index.to_list(), **frame.to_dict("list")}

    def frame(self):
        """Return the measures as a DataFrame indexed by time."""
        columns = ["time", "long_risk", "short_risk", "long_notional", "short_notional"]
        frame = pd.DataFrame(self._rows, columns=[*columns, "correlation"]).set_index("time")
        frame.insert(4, "gross", frame.long_notional + frame.short_notional)
        frame.insert(5, "net", frame.long_notional - frame.short_notional)
        return frame


def _notional(instrument):
    return abs(instrument.size) * instrument.value


def highest_correlation(book):
    """Return the highest signed correlation among what is held, NaN with fewer than two names."""
    held = [i for i in book.instruments if i.size]
    if not book.returns or len(held) < 2:
        return math.nan
    signed = [
        (1 if one.size > 0 else -1) * (1 if other.size > 0 else -1) * rho
        for k, one in enumerate(held[:-1])
        for other, rho in _pairs(book, one, held[k + 1 :])
    ]
    known = [value for value in signed if not math.isnan(value)]
    return max(known, default=math.nan)


def _pairs(book, one, others):
    returns = next(iter(book.returns.values()))
    rho, _ = returns.correlations(one.index, [o.index for o in others])
    return zip(others, rho, strict=True)
