"""Target weights: capital split over the data feeds of a Cerebro by their risk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date
from typing import Annotated, Any, ClassVar, Self

import numpy as np

from bt_risk.errors import (
    ParameterError,
    check_positive,
    check_whole,
    is_number,
    raised_as,
)
from bt_risk.gate.broker import RiskBroker
from bt_risk.limits.settings import LimitSettings
from bt_risk.orders import AT_MARKET
from bt_risk.parameters import (
    Check,
    EquityLimit,
    OptionalPositive,
    PositiveOrZero,
    Returns,
    Settings,
    one_of,
)
from bt_risk.portfolio.instrument import Instrument
from bt_risk.rules.allocation import METHODS, signed_weights
from bt_risk.rules.return_model import ReturnModel
from bt_risk.tolerances import LIMIT_EPS

__all__ = ["Allocation", "AllocationSettings", "target_weights"]

# Shares of risk by name of the data feed, or one for each.
Budgets = Mapping[str, float] | Sequence[float]

REFRESH: dict[str, Callable[[date], tuple[int, ...]]] = {
    "weekly": lambda day: day.isocalendar()[:2],
    "monthly": lambda day: (day.year, day.month),
}

_VOLATILITY = Check(
    check_positive, optional=True, remedy="Ratios are fractions: 10 % a year is 0.1."
)


@dataclass(frozen=True, kw_only=True)
class AllocationSettings(Settings):
    """The parameters of `target_weights` that `RiskParitySizer` has too, which describes them."""

    component: ClassVar[str] = "target_weights"

    method: Annotated[str, one_of(*METHODS)] = "risk_parity"
    volatility_target: Annotated[float | None, _VOLATILITY] = None  # of equity, per year
    budgets: Budgets | None = None  # shares of risk
    refresh: Annotated[str, one_of(*REFRESH)] = "weekly"
    rebalance_buffer: PositiveOrZero = 0.1  # share of a weight
    gross_limit: EquityLimit = 1.0
    window: int = LimitSettings.window  # bars, at least min_periods
    min_periods: Returns = LimitSettings.min_periods
    periods_per_year: OptionalPositive = None  # bars

    def __post_init__(self) -> None:
        super().__post_init__()
        name = type(self).__name__
        self._set("window", check_whole(name, "window", self.window, low=self.min_periods))
        if self.budgets is not None:
            self._check_budgets(name, self.budgets)

    def _check_budgets(self, name: str, budgets: Any) -> None:
        if self.method != "risk_parity":
            raise ParameterError(name, "budgets", "None unless method='risk_parity'", budgets)
        if not isinstance(budgets, (dict, list, tuple)):
            raise ParameterError(name, "budgets", "a dict by data name, or a list", budgets)
        for share in budgets.values() if isinstance(budgets, dict) else budgets:
            check_positive(name, "budgets", share, remedy="One share of risk for each name.")

    @property
    def frozen(self) -> tuple[str, int, int]:
        """Return the settings that an estimate depends on, which is frozen for a period."""
        return self.refresh, self.window, self.min_periods


_PARAMETERS = [one.name for one in fields(AllocationSettings)]


def target_weights(
    strategy: Any,
    method: str = AllocationSettings.method,
    volatility_target: float | None = AllocationSettings.volatility_target,
    budgets: Budgets | None = AllocationSettings.budgets,
    *,
    sides: Mapping[Any, int] | Sequence[int] | None = None,
    datas: Sequence[Any] | None = None,
    refresh: str = AllocationSettings.refresh,
    rebalance_buffer: float = AllocationSettings.rebalance_buffer,
    gross_limit: float | None = AllocationSettings.gross_limit,
    window: int = AllocationSettings.window,
    min_periods: int = AllocationSettings.min_periods,
    periods_per_year: float | None = AllocationSettings.periods_per_year,
) -> dict[Any, float]:
    """Return the weights to bring positions to, by data feed.

    ::

        for data, weight in bt_risk.target_weights(self).items():
            self.order_target_percent(data, target=weight)

    They come from the closes of all data feeds in this run, joined on time, up to the bar that has
    just closed. The gate records closes from the first call on: call it in the strategy's
    ``__init__`` too. The covariance is estimated at the first call of a week (or month) and frozen
    in it. A position within its buffer gets no weight: it is not to be traded now.

    Parameters
    ----------
    strategy : backtrader.Strategy
    method : {"risk_parity", "inverse_volatility", "equal"}
    volatility_target : float, optional
        Standard deviation of the portfolio's return per year that the weights are scaled to, as a
        fraction. Default: absolute weights add up to 1 (or to `gross_limit` if that is less).
    budgets : dict by name of the data feed, or sequence with one for each of `datas`, optional
        Shares of risk, positive, in any scale; for risk parity only. Default: equal.
    sides : dict by data feed or name, or sequence with one for each of `datas`, optional
        +1 long, -1 short, 0 (or left out of a dict) not to be held: its weight is 0. Default: the
        side that is held, long where nothing is.
    datas : sequence of data feeds, optional
        Default: all; of a resampled or replayed copy only the first counts.
    refresh : {"weekly", "monthly"}
        ISO weeks or calendar months of the first data feed's own time.
    rebalance_buffer : float, default 0.1
        Share of its weight that a position may be away from it before it is traded; 0: always.
    gross_limit : float, default 1.0
        Ceiling on the sum of absolute weights; None is no ceiling.
    window, min_periods : int, default 252, 60
        Bars of log returns, and how many must be common to all names; a name that has fewer, or
        whose price was at or below zero in the window, is left as it is.
    periods_per_year : float, optional
        Bars of a year for the `volatility_target`. Default: counted from the times in the window.

    Returns
    -------
    dict of data feed to float
        Signed fractions of equity, for the data feeds that are to be traded now; empty while there
        is too little history.

    Raises
    ------
    ParameterError
        For an argument outside its range.
    """
    given = {name: value for name, value in locals().items() if name in _PARAMETERS}
    settings = AllocationSettings.checked("target_weights", given)
    allocation = Allocation.of(RiskBroker.of(strategy), settings, datas)
    signs = allocation.signs(sides)
    weights = allocation.weights(signs, settings)
    weights |= {one.index: 0.0 for one in allocation.instruments if not signs[one.index]}
    return {
        one.data: weights[one.index]
        for one in allocation.instruments
        if one.index in weights
        and _drifted(allocation.held(one), weights[one.index], rebalance_buffer)
        and not _leaving(one)
    }


def _drifted(held: float, weight: float, buffer: float) -> bool:
    return abs(weight - held) > buffer * abs(weight) + LIMIT_EPS


def _leaving(instrument: Instrument) -> bool:
    """Return whether a market order is working: the position is about to change."""
    return any(w.kind in AT_MARKET for w in instrument.orders.values())


@dataclass
class _Estimate:
    """The covariance as of the first call of a period."""

    period: tuple[int, ...]
    indices: list[int]
    covariance: Any
    per_year: float


class Allocation:
    """The covariance of some instruments of one gate, frozen within a period."""

    def __init__(
        self,
        gate: RiskBroker,
        instruments: list[Instrument],
        refresh: str,
        window: int,
        min_periods: int,
    ) -> None:
        self.gate, self.instruments = gate, instruments
        self.refresh, self.window, self.min_periods = refresh, window, min_periods
        self._estimate: _Estimate | None = None
        self._model = ReturnModel(window, min_periods)
        gate.book.windows.add(self._model)

    @classmethod
    def of(
        cls, gate: RiskBroker, settings: AllocationSettings, datas: Sequence[Any] | None = None
    ) -> Self:
        """Return the allocation of these settings in this run, made on first use."""
        found = [_find(gate, data, settings.component) for data in datas or ()]
        every = found or gate.book.instruments
        instruments = list(dict.fromkeys(one.lead for one in every))
        key = tuple(one.index for one in instruments), settings.frozen
        if key not in gate.allocations:
            gate.allocations[key] = cls(gate, instruments, *settings.frozen)
        allocation: Self = gate.allocations[key]
        return allocation

    def signs(self, sides: Mapping[Any, int] | Sequence[int] | None) -> dict[int, int]:
        """Return +1, -1 or 0 for each instrument, by its index."""
        held = {one.index: -1 if one.size < 0 else 1 for one in self.instruments}
        if sides is None:
            return held
        if not isinstance(sides, Mapping):
            return dict(zip(held, _check_signs(sides, len(held)), strict=True))
        named = {self._index(key): value for key, value in sides.items()}
        _check_signs(list(named.values()), len(named))
        return {index: named.get(index, 0) for index in held}

    def _index(self, key: Any) -> int:
        for one in self.instruments:
            if key is one.data or (isinstance(key, str) and key == one.name):
                return one.index
        names = ", ".join(one.name for one in self.instruments)
        raise ParameterError("target_weights", "sides", f"by data feed, or by name ({names})", key)

    def held(self, instrument: Instrument) -> float:
        """Return the present weight of an instrument."""
        instrument.multiplier = self.gate.multiplier(instrument.data)
        return instrument.size * instrument.value / self.gate.equity() if instrument.size else 0.0

    def weights(self, signs: Mapping[int, int], settings: AllocationSettings) -> dict[int, float]:
        """Return the weights by index, of the instruments to be held whose returns are known."""
        wanted = [one for one in self.instruments if signs[one.index] and self._is_alive(one)]
        if not wanted:
            return {}
        if settings.method == "equal" and settings.volatility_target is None:
            covariance, names = np.eye(len(wanted)), [one.index for one in wanted]
        else:
            covariance, names = self._known(wanted, settings)
        if not names:
            return {}
        with raised_as(settings.component):
            weights = signed_weights(
                covariance,
                [signs[index] for index in names],
                settings.method,
                self._budgets(settings, names),
                settings.volatility_target,
                settings.gross_limit,
            )
        return dict(zip(names, map(float, weights), strict=True))

    def _is_alive(self, instrument: Instrument) -> bool:
        book = self.gate.book
        return instrument.price == instrument.price and not book.is_stale(instrument)

    def _known(
        self, wanted: list[Instrument], settings: AllocationSettings
    ) -> tuple[Any, list[int]]:
        """Return the frozen covariance per year of those that it has, and their indices."""
        day = self.instruments[0].data.num2date(self.gate.book.latest).date()
        period = REFRESH[self.refresh](day)
        if self._estimate is None or self._estimate.period != period:
            self._estimate = self._measure(period)
        if self._estimate is None:
            return None, []
        indices = self._estimate.indices
        places = [indices.index(one.index) for one in wanted if one.index in indices]
        per_year = settings.periods_per_year or self._estimate.per_year
        covariance = self._estimate.covariance[np.ix_(places, places)] * per_year
        return covariance, [indices[place] for place in places]

    def _measure(self, period: tuple[int, ...]) -> _Estimate | None:
        """Return the covariance of all instruments with enough returns, None without any."""
        returns = self.gate.book.windows[self._model]
        rows = np.array([one.index for one in self.instruments if self._is_alive(one)], dtype=int)
        if len(rows):
            rows = rows[(returns.closes(rows) > self.min_periods) & ~returns.below_zero(rows)]
        covariance, _ = returns.covariance(rows) if len(rows) else (None, 0)
        if covariance is None:
            return None
        moving = np.flatnonzero(covariance.variances > 0)
        matrix = covariance.matrix()[np.ix_(moving, moving)]
        return _Estimate(period, rows[moving].tolist(), matrix, covariance.bars_per_year)

    def _budgets(self, settings: AllocationSettings, names: list[int]) -> list[float] | None:
        """Return the shares of risk of these instruments, given by name or in order."""
        budgets: Any = settings.budgets
        if budgets is None:
            return None
        if not isinstance(budgets, dict):
            shares: dict[Any, float] = dict(enumerate(budgets))
            places: dict[int, Any] = {one.index: k for k, one in enumerate(self.instruments)}
        else:
            shares = budgets
            places = {one.index: one.name for one in self.instruments}
        if shares.keys() != set(places.values()):
            listed = f"one for each of {', '.join(one.name for one in self.instruments)}"
            raise ParameterError(settings.component, "budgets", listed, settings.budgets)
        return [shares[places[index]] for index in names]


def _find(gate: RiskBroker, data: Any, component: str) -> Instrument:
    """Return the instrument of a data feed, or raise a ParameterError."""
    instrument = gate.find(data)
    if instrument is None:
        raise ParameterError(component, "datas", "of this Cerebro", data)
    return instrument


def _check_signs(signs: Sequence[int], count: int) -> Sequence[int]:
    if len(signs) != count or not all(is_number(s) and s in (-1, 0, 1) for s in signs):
        raise ParameterError("target_weights", "sides", f"{count} of +1, -1 and 0", signs)
    return signs
