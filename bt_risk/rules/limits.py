"""What the gate asks before it lets an order open anything.

A limit is an object with one verb, ``review(request, book) -> Decision``. The request is the part
of an order that opens (exits are never reviewed), the decision's size lies between 0 and the size
requested, and decisions combine by ``min``. The book is `bt_risk.book.Book`, or anything that
answers the same questions.
"""

import math
from dataclasses import dataclass

from bt_risk.errors import check_choice, check_fraction, check_limit, check_whole

__all__ = [
    "CorrelationLimit",
    "Decision",
    "ExposureLimit",
    "NotionalLimit",
    "Request",
    "RiskPerTrade",
]

# Sums of floats that equal a limit exactly may exceed it by rounding: that is not a breach.
_SLACK = 1e-9

REJECT, TRIM = "reject", "trim"


@dataclass(frozen=True)
class Request:
    """The opening part of one order, as the limits see it.

    Attributes
    ----------
    instrument : bt_risk.book.Instrument
        What is traded; has `multiplier`, `name` and the facts of this instrument.
    side : int
        +1 buys, -1 sells.
    size : float
        Units that would open, positive.
    price : float
        Where it is expected to fill: its own price, or the last close for a market order.
    stop_distance : float
        Price distance to the stop that will protect it; NaN while it is unknown.
    budgeted : bool
        Whether a risk budget governs its size, so that scaling the budget scales the order.
    again : bool
        Whether this is an order that was judged before, and has gone out.
    """

    instrument: object
    side: int
    size: float
    price: float
    stop_distance: float
    budgeted: bool = False
    again: bool = False

    @property
    def unit_risk(self):
        """Currency lost per unit if the stop is hit."""
        return self.stop_distance * self.instrument.multiplier

    @property
    def unit_notional(self):
        """Currency held per unit."""
        return self.price * self.instrument.multiplier


@dataclass(frozen=True)
class Decision:
    """What one limit answers: how much of the request may go, and why not all of it.

    `reason` is empty when all of it may go; it names the rule, the measured value and the limit.
    """

    size: float
    reason: str = ""
    rule: str = ""
    measured: float = math.nan
    limit: float = math.nan


class _Limit:
    """A ceiling with a name; infinite means that it is not there."""

    component = "limit"

    @property
    def name(self):
        return type(self).__name__

    @property
    def active(self):
        """Whether this limit can ever refuse anything."""
        return not math.isinf(self.limit)

    def _refuse(self, size, reason, measured=math.nan):
        return Decision(size, f"{self.name}: {reason}", self.name, measured, self.limit)

    def _cap(self, request, equity, used, per_unit, limit, parameter, on=TRIM):
        """Cut the request to what is left of ``limit x equity`` after `used`, both in currency."""
        if not (equity > 0 and math.isfinite(equity)):
            return self._refuse(0.0, f"equity {equity:.6g} is not positive")
        wanted = used + request.size * per_unit
        if math.isnan(wanted):
            return self._refuse(0.0, f"{parameter} cannot be judged: {self._unknown(request)}")
        if wanted <= limit * equity * (1 + _SLACK):
            return Decision(request.size)
        room = max(0.0, (limit * equity - used) / per_unit) if per_unit > 0 else 0.0
        measured = wanted / equity
        reason = f"{measured:.4f} of equity > {parameter} {limit:.4f}"
        allowed = 0.0 if on == REJECT else min(room, request.size)
        return Decision(allowed, f"{self.name}: {reason}", self.name, measured, limit)

    def _unknown(self, request):
        instrument = request.instrument
        if math.isnan(request.stop_distance) and not math.isnan(instrument.stop_distance()):
            return "its stop is not on the losing side of its price"
        return instrument.why_unknown()


class RiskPerTrade(_Limit):
    """Rule 1: what a position loses at its stop stays below `risk_limit` of equity.

    It judges the position that would result, held and working orders on that side included, so
    that many small orders cannot walk around it; the part above is cut. An instrument's own
    ``risk_limit`` goes before.

    Parameters
    ----------
    risk_limit : float, default 0.01
        Fraction of equity; None or infinity switches the limit off.
    """

    def __init__(self, risk_limit=0.01):
        self.limit = check_limit("RiskPerTrade", "risk_limit", risk_limit, fraction=True)

    def review(self, request, book):
        """Return the `Decision` for `request`."""
        limit = request.instrument.facts.get("risk_limit", self.limit) * book.risk_scale
        if math.isinf(limit):
            return Decision(request.size)
        used = book.risk(request.instrument, request.side)
        return self._cap(request, book.equity, used, request.unit_risk, limit, "risk_limit")


class NotionalLimit(_Limit):
    """A position is worth at most `notional_limit` of equity, working orders included.

    Parameters
    ----------
    notional_limit : float, default 1.0
        Fraction of equity (2.0 allows leverage of 2); None or infinity switches it off.
    """

    def __init__(self, notional_limit=1.0):
        self.limit = check_limit("NotionalLimit", "notional_limit", notional_limit)

    def review(self, request, book):
        """Return the `Decision` for `request`."""
        used = book.notional(request.instrument, request.side)
        return self._cap(
            request, book.equity, used, request.unit_notional, self.limit, "notional_limit"
        )


class ExposureLimit(_Limit):
    """Rule 3: all positions in one direction together stay below `exposure_limit` of equity.

    Parameters
    ----------
    exposure_limit : float, default 0.05
        Fraction of equity; None or infinity switches it off.
    exposure_unit : {"risk", "notional"}
        What is added up: the loss at the stops, or what is held.
    on_exposure : {"trim", "reject"}
        Cut the order to what fits, or refuse it whole.
    """

    def __init__(self, exposure_limit=0.05, exposure_unit="risk", on_exposure=TRIM):
        self.limit = check_limit("ExposureLimit", "exposure_limit", exposure_limit)
        self.unit = check_choice(
            "ExposureLimit", "exposure_unit", exposure_unit, ("risk", "notional")
        )
        self.on = check_choice("ExposureLimit", "on_exposure", on_exposure, (TRIM, REJECT))

    def review(self, request, book):
        """Return the `Decision` for `request`."""
        used = book.exposure(request.side, self.unit)
        per_unit = request.unit_risk if self.unit == "risk" else request.unit_notional
        return self._cap(
            request, book.equity, used, per_unit, self.limit, "exposure_limit", self.on
        )

    def _unknown(self, request):
        known = not math.isnan(request.unit_risk) and not math.isnan(request.unit_notional)
        return "a position on that side has no known risk" if known else super()._unknown(request)


class CorrelationLimit(_Limit):
    """Rule 4: no second bet on what is held already.

    With every name that is held, or about to be by a working order, the signed correlation
    ``side_i x side_j x rho`` of log returns must not exceed the limit: long two names that move
    together is one bet twice, and so is long one and short its mirror image; a hedge passes.

    Parameters
    ----------
    correlation_limit : float, default 0.7
        In (0, 1]; None or infinity switches it off.
    on_correlation : {"reject", "trim"}
        Refuse the order, or scale it by `correlated_scale` (once, however many names match).
    correlated_scale : float, default 0.8
        In (0, 1).
    unknown : {"refuse", "allow"}
        What to do when fewer than `min_periods` returns are common. "refuse" counts the signed
        correlation as +1 whatever the sides.
    window, min_periods : int
        Bars of the window, and the least number of common returns for an opinion.
    """

    def __init__(
        self,
        correlation_limit=0.7,
        window=252,
        min_periods=60,
        on_correlation=REJECT,
        correlated_scale=0.8,
        unknown="refuse",
    ):
        name = "CorrelationLimit"
        self.limit = check_limit(name, "correlation_limit", correlation_limit, fraction=True)
        self.min_periods = check_whole(name, "min_periods", min_periods, low=2)
        self.window = check_whole(name, "window", window, low=self.min_periods)
        self.on = check_choice(name, "on_correlation", on_correlation, (REJECT, TRIM))
        self.scale = check_fraction(name, "correlated_scale", correlated_scale, one=False)
        self.unknown = check_choice(name, "unknown", unknown, ("refuse", "allow"))
        self.history = None

    def review(self, request, book):
        """Return the `Decision` for `request`."""
        worst, reason = 0.0, ""
        for other, signed, count in self._same_bets(request, book):
            if math.isnan(signed):
                if self.unknown == "refuse":
                    return self._refuse(0.0, self._not_known(other, count))
            elif signed > self.limit + _SLACK and signed > worst:
                worst = signed
                reason = (
                    f"signed correlation with {other.name} {signed:.4f} "
                    f"> correlation_limit {self.limit:.4f}"
                )
        if not reason:
            return Decision(request.size)
        kept = request.size * self.scale if self.on == TRIM else 0.0
        return self._refuse(kept, reason, worst)

    def _same_bets(self, request, book):
        return book.same_bets(request.instrument, request.side, self.window, self.min_periods)

    def _not_known(self, other, count):
        if count < self.min_periods:
            return (
                f"correlation with {other.name} unknown: "
                f"{count} of {self.min_periods} common returns"
            )
        return f"correlation with {other.name} unknown: one of the two did not move"
