"""VolatilityLimit: a ceiling on the ex-ante volatility of the whole portfolio."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from bt_risk.limits.base import Decision, Limit, Request
from bt_risk.limits.settings import ESTIMATOR, REJECT, LimitSettings
from bt_risk.parameters import ceiling
from bt_risk.tolerances import LIMIT_EPS

if TYPE_CHECKING:
    from bt_risk.portfolio.book import Book
    from bt_risk.rules.covariance import Covariance

__all__ = ["VolatilityLimit", "largest_size"]


def largest_size(before: float, cross: float, own: float, ceiling: float) -> float:
    """Return the largest size of an order that leaves the variance of a portfolio at `ceiling`.

    Parameters
    ----------
    before : float
        Variance of the portfolio without the order.
    cross : float
        Covariance of one unit of the order with the portfolio; negative for a hedge.
    own : float
        Variance of one unit of the order, positive.
    ceiling : float
        At least `before`.

    Returns
    -------
    float
        The larger root of ``before + 2 cross x + own x^2 = ceiling``, zero or more.

    Examples
    --------
    >>> largest_size(before=0.01, cross=0.0, own=0.01, ceiling=0.02)
    1.0
    >>> largest_size(before=0.01, cross=-0.01, own=0.01, ceiling=0.01)
    2.0
    """
    room = ceiling - before
    root = math.sqrt(cross * cross + own * room)
    # Of the two forms of the root, the one without a difference of nearly equal numbers.
    return room / (cross + root) if cross > 0 else (root - cross) / own


def _with_rests(
    covariance: Covariance, weights: Any, order: Any, rests: list[tuple[int, float]]
) -> Iterator[Any]:
    """Yield the weights after fills of resting entries, each time of those that are worse together.

    The first are those that move with the portfolio after the order. What does not may fill before
    them and alone: an entry that has nothing to do with the order adds to the volatility, too.
    """
    pull = covariance.times(weights + order)
    first = [k for k, (row, value) in enumerate(rests) if value * pull[row] > 0]
    yield _filled(weights, [rests[k] for k in first])
    for k, rest in enumerate(rests):
        if k not in first:
            pull = covariance.times(_filled(weights + order, [rest]))
            others = [one for j, one in enumerate(rests) if j != k and one[1] * pull[one[0]] > 0]
            yield _filled(weights, [rest, *others])


def _with_least_hedges(covariance: Covariance, weights: Any, order: Any, shares: Any) -> Any:
    """Return the weights, with `shares` of those that offset the portfolio after the order."""
    hedges = weights * covariance.times(weights + order) < 0.0
    return np.where(hedges, weights * shares, weights)


def _filled(weights: Any, rests: list[tuple[int, float]]) -> Any:
    filled = weights.copy()
    for row, value in rests:
        filled[row] += value
    return filled


class VolatilityLimit(Limit):
    """The ex-ante volatility of the portfolio after the order is at most `volatility_limit`.

    The order is cut to the largest size that keeps the volatility at the limit, or at its present
    value where that is above the limit already: an order that lowers it, a hedge, passes. Working
    market orders count as filled. Resting entries may never fill: the order is judged without any,
    with those that move with what it makes of the portfolio, and with each of the others filled
    first; the smallest answer counts. Which these are is asked again for an order that was cut. A
    position that offsets the portfolio counts at what a point of it is worth at least.

    Parameters
    ----------
    volatility_limit : float, optional
        Standard deviation of a year's return, as a fraction of equity (0.15 is 15 % a year); None
        or infinity switches it off.
    window, min_periods : int
        Bars of the window, and the least number of returns that all instruments have in common.
    on_volatility : {"trim", "reject"}
        Cut the order to what fits, or refuse it whole.
    unknown : {"refuse", "allow"}
        What to do while the volatility is unknown: with fewer than `min_periods` common returns,
        or where a price did not move or was at or below zero within the window.
    estimator, halflife, multi_bar
        As of `CorrelationLimit`. Variance of returns of k bars is divided by k.
    periods_per_year : float, optional
        Bars in a year. None: as many as the window itself has in a year of 365.25 days, from the
        times of its first and last bar; 252 for daily stocks, 365 for daily coins, 8766 for hourly.

    Notes
    -----
    ``sqrt(periods_per_year x w'S w)``, w the signed values in equity after the order and S the
    covariance of log returns on the bars of the coarsest data feed, at the times of all of them.
    """

    def __init__(
        self,
        volatility_limit: float | None = LimitSettings.volatility_limit,
        window: int = LimitSettings.window,
        min_periods: int = LimitSettings.min_periods,
        on_volatility: str = LimitSettings.on_volatility,
        unknown: str = LimitSettings.unknown,
        *,
        estimator: str = LimitSettings.correlation_estimator,
        halflife: float | None = LimitSettings.halflife,
        multi_bar: int = LimitSettings.multi_bar,
        periods_per_year: float | None = LimitSettings.periods_per_year,
    ) -> None:
        given = {name: value for name, value in locals().items() if name != "self"}
        settings = LimitSettings.checked(self.name, given, ESTIMATOR)
        self.limit = ceiling(settings.volatility_limit)
        self.model = settings.return_model
        self.on, self.periods_per_year = settings.on_volatility, settings.periods_per_year

    def prepare(self, book: Book) -> None:
        """Record the closes that the covariance is computed from."""
        book.windows.add(self.model, self.history)

    def review(self, request: Request, book: Book) -> Decision:
        """Return the `Decision` for `request`."""
        if not (book.equity > 0 and math.isfinite(book.equity)):
            return self.refuse(0.0, f"equity {book.equity:.6g} is not positive")
        sure, resting = book.exposure.holdings(request.instrument, request.owner, request.side)
        names = list(dict.fromkeys([*sure, *[name for name, _ in resting]]))
        covariance, why = book.correlations.covariance(names, self.model)
        if covariance is None:
            if self.model.unknown == "allow":
                return request.whole
            return self.refuse(0.0, f"volatility unknown: {why}")
        weights = np.array([sure.get(name, 0.0) for name in names]) / book.equity
        unit = np.zeros(len(names))
        own = names.index(request.instrument.copies[0])
        unit[own] = request.side * request.unit_notional / book.equity
        shares = np.array([min([copy.least_share for copy in name.copies]) for name in names])
        rests = [(names.index(name), value / book.equity) for name, value in resting]
        if not rests and (shares == 1.0).all():
            return self._judge(request, covariance, weights, unit)
        best = request.whole
        while True:  # other entries may move with an order that was cut
            order = unit * best.size
            held = _with_least_hedges(covariance, weights, order, shares)
            cases = [held, *_with_rests(covariance, held, order, rests)] if rests else [held]
            answers = [self._judge(request, covariance, case, unit) for case in cases]
            answer = min(answers, key=lambda decision: decision.size)
            if not answer.size < best.size:
                return best
            best = answer

    def _judge(self, request: Request, covariance: Covariance, weights: Any, unit: Any) -> Decision:
        """Judge a request beside these weights; `unit` is one unit of it, as weights."""
        per_year = self.periods_per_year or covariance.bars_per_year
        moved = covariance.times(weights) * per_year
        before, cross = float(weights @ moved), float(unit @ moved)
        square = float(unit**2 @ covariance.variances) * per_year
        after = before + 2 * cross * request.size + square * request.size**2
        ceiling = max(self.limit**2, before)
        if after <= ceiling * (1 + LIMIT_EPS):
            return request.whole
        if not math.isfinite(after):
            return self.refuse(0.0, f"volatility unknown: {request.instrument.why_unknown()}")
        measured = math.sqrt(after)
        reason = f"{measured:.4f} of equity a year > volatility_limit {self.limit:.4f}"
        room = largest_size(before, cross, square, ceiling)
        return self.refuse(0.0 if self.on == REJECT else min(room, request.size), reason, measured)
