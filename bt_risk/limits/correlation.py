"""Rule 4: no second bet on the same market move."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from bt_risk.limits.base import Decision, Limit, Request
from bt_risk.limits.settings import ESTIMATOR, TRIM, LimitSettings
from bt_risk.parameters import ceiling
from bt_risk.tolerances import LIMIT_EPS

if TYPE_CHECKING:
    from bt_risk.portfolio.book import Book
    from bt_risk.portfolio.instrument import Instrument

__all__ = ["CorrelationLimit"]


class CorrelationLimit(Limit):
    """Rule 4: no second bet on the same market move.

    With every instrument that is held, or that a working order may open, the signed correlation
    ``side_i x side_j x rho`` of log returns must not exceed the limit. Two long positions that move
    together are one bet twice; so are a long and a short position that move against each other. A
    hedge passes.

    Parameters
    ----------
    correlation_limit : float, default 0.7
        In (0, 1]; None or infinity switches it off.
    window, min_periods : int
        Bars of the window, and the least number of returns that both must have in common.
    on_correlation : {"reject", "trim"}
        Refuse the order, or scale it by `correlated_scale` (once, however many instruments match).
    correlated_scale : float, default 0.8
        In (0, 1).
    unknown : {"refuse", "allow"}
        What to do when fewer than `min_periods` returns are common, when a price did not move or
        was at or below zero within the window, or when an instrument is stale. "refuse" counts the
        signed correlation as +1 on either side.
    estimator : {"rolling", "ewm", "ledoit-wolf"}
        How returns become a correlation: see `bt_risk.rules.estimators.Estimator`.
    halflife : float, optional
        In returns, for "ewm".
    hysteresis : float, default 0.0
        A pair that was refused stays so until its signed correlation is at most
        ``correlation_limit - hysteresis``. Judged with each order, not on every bar.
    multi_bar : int, default 1
        Bars that a return spans.
    downside : bool, default False
        Whether the correlation of the bars at which the two positions lose counts where it is
        worse: see `bt_risk.rules.estimators.semi_correlation`.
    """

    def __init__(
        self,
        correlation_limit: float | None = LimitSettings.correlation_limit,
        window: int = LimitSettings.window,
        min_periods: int = LimitSettings.min_periods,
        on_correlation: str = LimitSettings.on_correlation,
        correlated_scale: float = LimitSettings.correlated_scale,
        unknown: str = LimitSettings.unknown,
        *,
        estimator: str = LimitSettings.correlation_estimator,
        halflife: float | None = LimitSettings.halflife,
        hysteresis: float = LimitSettings.hysteresis,
        multi_bar: int = LimitSettings.multi_bar,
        downside: bool = LimitSettings.downside,
    ) -> None:
        given = {name: value for name, value in locals().items() if name != "self"}
        settings = LimitSettings.checked(self.name, given, ESTIMATOR)
        self.limit = ceiling(settings.correlation_limit)
        self.model = settings.return_model
        self.on, self.scale = settings.on_correlation, settings.correlated_scale
        self.hysteresis, self.downside = settings.hysteresis, settings.downside
        weighs = self.model.estimator.fades or self.model.estimator.shrinks
        self._alone = False  # one instrument correlates with nothing
        # Whether a row of correlations says that an order passes.
        self._by_row = not (weighs or self.hysteresis or self.downside)

    @property
    def by_size(self) -> bool:
        """Return False: a correlation has no size."""
        return False

    def prepare(self, book: Book) -> None:
        """Record the closes that correlations are computed from."""
        self._alone = len({id(instrument.root) for instrument in book.instruments}) < 2
        if not self._alone:
            book.windows.add(self.model, self.history)

    def review(self, request: Request, book: Book) -> Decision:
        """Return the `Decision` for `request`."""
        if self._alone:
            return request.whole
        if self._by_row and book.correlations.all_within(
            request.instrument, request.side, self.model, self.limit
        ):
            return request.whole
        others, sides, signed, counts = book.correlations.same_bets(
            request.instrument, request.side, self.model, self.downside
        )
        if not len(others):
            return request.whole
        if self.model.unknown == "allow":
            signed = np.where(np.isnan(signed), -1.0, signed)
        limits: Any = self.limit
        if self.hysteresis:
            limits = self._latches(request, zip(others, sides, signed, strict=True), book)
        excess = signed - limits
        k = int(np.argmax(excess))  # the first NaN, if there is one
        if math.isnan(excess[k]):
            other = book.instruments[others[k]]
            return self.refuse(0.0, self._not_known(request.instrument, other, counts[k], book))
        if excess[k] <= LIMIT_EPS:
            return request.whole
        allowed = request.size * self.scale if self.on == TRIM else 0.0
        reason = self._same_bet(book.instruments[others[k]], signed[k])
        return self.refuse(allowed, reason, float(signed[k]))

    def _latches(
        self, request: Request, bets: Iterable[tuple[Any, Any, Any]], book: Book
    ) -> list[float]:
        """Return the limit of each pair: the lower one for a pair that is not released yet."""
        released = self.limit - self.hysteresis
        limits = []
        for other, side, signed in bets:
            pair = frozenset((request.instrument.copies[0].index, int(other)))
            key = id(self), pair, int(side) * request.side
            if signed > (released if key in book.latched else self.limit) + LIMIT_EPS:
                book.latched.add(key)
            elif signed <= released + LIMIT_EPS:
                book.latched.discard(key)
            limits.append(released if key in book.latched else self.limit)
        return limits

    def _same_bet(self, other: Instrument, signed: float) -> str:
        text = f"signed correlation with {other.name} {signed:.4f} > correlation_limit"
        if signed > self.limit + LIMIT_EPS:
            return f"{text} {self.limit:.4f}"
        return f"{text} {self.limit:.4f} - hysteresis {self.hysteresis:.4f}"

    def _not_known(self, own: Instrument, other: Instrument, count: int, book: Book) -> str:
        unknown = f"correlation with {other.name} unknown"
        if book.is_stale(other):
            return f"{unknown}: it has had no bar for {book.rounds - other.round} of the others"
        below = book.correlations.below_zero([own, other], self.model)
        if below:
            return f"{unknown}: {below}"
        if count < self.model.min_periods:
            return f"{unknown}: {count} of {self.model.min_periods} common returns"
        return f"{unknown}: one of the two did not move"
