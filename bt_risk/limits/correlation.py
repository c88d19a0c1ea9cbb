"""Rule 4: no second bet on what is held already."""

from __future__ import annotations

import math

import numpy as np

from bt_risk.limits.base import Decision, Limit
from bt_risk.limits.settings import ESTIMATOR, TRIM, LimitSettings
from bt_risk.parameters import ceiling
from bt_risk.tolerances import LIMIT_EPS

__all__ = ["CorrelationLimit"]


class CorrelationLimit(Limit):
    """Rule 4: no second bet on what is held already.

    With every name that is held, or about to be by a working order, the signed correlation
    ``side_i x side_j x rho`` of log returns must not exceed the limit: long two names that move
    together is one bet twice, and so is long one and short its mirror image; a hedge passes.

    Parameters
    ----------
    correlation_limit : float, default 0.7
        In (0, 1]; None or infinity switches it off.
    window, min_periods : int
        Bars of the window, and the least number of common returns for an opinion.
    on_correlation : {"reject", "trim"}
        Refuse the order, or scale it by `correlated_scale` (once, however many names match).
    correlated_scale : float, default 0.8
        In (0, 1).
    unknown : {"refuse", "allow"}
        What to do when fewer than `min_periods` returns are common, or a name stood still or has
        no bars any more. "refuse" counts the signed correlation as +1 whatever the sides.
    estimator : {"rolling", "ewm", "ledoit-wolf"}
        How returns become a correlation: see `bt_risk.rules.estimators.Estimator`.
    halflife : float, optional
        In returns, for "ewm".
    hysteresis : float, default 0.0
        A pair that was refused stays so until its signed correlation is at most
        ``correlation_limit - hysteresis``. Judged when an order asks, not on every bar.
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

    def prepare(self, book):
        """Have the window kept that correlations are computed from."""
        if len({id(instrument.root) for instrument in book.instruments}) > 1:
            book.windows.add(self.model, self.history)  # one instrument correlates with nothing

    def review(self, request, book):
        """Return the `Decision` for `request`."""
        others, sides, signed, counts = book.correlations.same_bets(
            request.instrument, request.side, self.model, self.downside
        )
        if not len(others):
            return Decision(request.size)
        if self.model.unknown == "allow":
            signed = np.where(np.isnan(signed), -1.0, signed)
        limits = self.limit
        if self.hysteresis:
            limits = self._latches(request, zip(others, sides, signed, strict=True), book)
        excess = signed - limits
        k = int(np.argmax(excess))  # the first NaN, if there is one
        if math.isnan(excess[k]):
            return self.refuse(0.0, self._not_known(book.instruments[others[k]], counts[k], book))
        if excess[k] <= LIMIT_EPS:
            return Decision(request.size)
        kept = request.size * self.scale if self.on == TRIM else 0.0
        reason = self._same_bet(book.instruments[others[k]], signed[k])
        return self.refuse(kept, reason, float(signed[k]))

    def _latches(self, request, bets, book):
        """Return the limit of each pair: the lower one where it was above and has not come down."""
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

    def _same_bet(self, other, signed):
        text = f"signed correlation with {other.name} {signed:.4f} > correlation_limit"
        if signed > self.limit + LIMIT_EPS:
            return f"{text} {self.limit:.4f}"
        return f"{text} {self.limit:.4f} - hysteresis {self.hysteresis:.4f}"

    def _not_known(self, other, count, book):
        unknown = f"correlation with {other.name} unknown"
        if book.is_stale(other):
            return f"{unknown}: it has had no bar for {book.rounds - other.round} of the others"
        if count < self.model.min_periods:
            return f"{unknown}: {count} of {self.model.min_periods} common returns"
        return f"{unknown}: one of the two did not move"
