"""CashFlows: keep deposits and withdrawals of a live account out of profit and loss.

The unit value is what a share of a fund would be worth: the account value times `factor`, which
changes with every flow by as much as the account does.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any

from bt_risk.tolerances import SIZE_EPS

if TYPE_CHECKING:
    from bt_risk.live.protocols import Gate

__all__ = ["CashFlows", "amount_of"]

# Fraction of equity by which cash may move without a reason, and be profit or loss. A quarter's
# dividend of a stock that is all of the account is as much (2 % a year); funding (0.01 % to 0.1 %
# of a position), monthly interest and fees are less.
_PROFIT = 0.005
# Fraction of what has been traded that fees may take without being reported; and after a restart,
# where the price of a fill is not always known.
_FEES, _FEES_OF_THE_PAST = 0.002, 0.1
# Fractions of a move of cash: by which the account value must show it, by which two samples of it
# agree, and by which it agrees with what was announced (a bank deducts its fee).
_SHOWN, _SAME, _ANNOUNCED = 0.5, 0.1, 0.02
_ROUNDING = 1e-6
# Samples that agree on a flow; and those after which cash that has moved alone is no flow.
_SAMPLES = 2
_REMEMBERED = 50


class CashFlows:
    """Find the flows of one `RiskBroker`, and compute the factor of its unit value.

    A flow is a move of cash that neither prices nor fills explain, and that the account value shows
    as well. One that was announced (`announce`, or ``flows=``) counts at whatever size, any other
    beyond `_PROFIT` of equity. Two samples have to agree on it.

    Attributes
    ----------
    factor : float
        Unit value for one unit of currency: 1.0 before the first flow.
    moved : float
        The move of cash that was seen last.
    """

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.factor = 1.0
        # Cash that neither prices nor fills explain, and the account value less both.
        self._rest = self._value = self._reported = math.nan
        self._traded = self._fees = 0.0
        # What was announced and has not moved cash yet; moves of cash that nothing has announced,
        # each with whether it was booked as a flow.
        self._announced: list[float] = []
        self._unclaimed: deque[tuple[float, bool]] = deque(maxlen=_REMEMBERED)
        self._inbox: deque[float] = deque()
        self.moved, self._samples, self._alone = math.nan, 0, 0
        self._total, self._asked_at = math.nan, -math.inf
        self._sampled_at, self._round = -math.inf, -1

    # -- what is announced -----------------------------------------------------------------------

    def announce(self, amount: float) -> None:
        """Take note of a deposit, or of a withdrawal (negative); any thread may call it."""
        self._inbox.append(amount)

    def ask(self, equity: float) -> None:
        """Ask ``flows=`` once in a while, and compare what is announced with earlier moves."""
        live, now = self.gate.live, self.gate.live.clock()
        if live.flows is not None and now - self._asked_at >= live.retry_after:
            self._asked_at = now
            total = number(live.flows)
            if math.isfinite(total):
                if abs(total - self._total) > 0.0:
                    self._inbox.append(total - self._total)
                self._total = total
        while self._inbox:
            self._claim(self._inbox.popleft(), equity)

    def _claim(self, amount: float, equity: float) -> None:
        """Find the move of cash that an announcement is about, or wait for it."""
        for move in self._unclaimed:
            if abs(move[0] - amount) <= _ANNOUNCED * abs(amount):
                self._unclaimed.remove(move)
                if not move[1]:  # it has counted as profit or loss
                    self._scale(amount, equity - amount, "it was announced after it had come")
                return
        self._announced.append(amount)

    # -- what cash shows -------------------------------------------------------------------------

    @property
    def waits(self) -> bool:
        """Return whether a move of cash waits for a second sample, or an announcement for cash."""
        return bool(self._samples or self._announced or self._inbox)

    def check(self, reported: float, worth: float, level: float, equity: float) -> float:
        """Return the flow since the last sample, 0.0 without one, NaN while one is in doubt.

        Parameters
        ----------
        reported : float
            Account value of the broker, NaN where it cannot be used.
        worth : float
            Cash and what the positions add to it.
        level : float
            What prices and fills have earned.
        equity : float
            Account value without the flow.
        """
        moved, shown = worth - level - self._rest, reported - level - self._value
        if math.isnan(worth):
            moved = shown  # without cash the account value has to show what was announced
        announced = self._announced_as(moved)
        if not math.isfinite(moved) or (
            announced is None and self._is_profit(moved, worth, equity)
        ):
            self._samples = 0
            return 0.0
        seen = abs(shown - moved) <= _SHOWN * abs(moved)
        if not (seen or (math.isnan(shown) and self._is_all_cash())):
            self._samples = 0
            return 0.0
        if not self._samples or abs(moved - self.moved) > _SAME * abs(moved):
            self.moved, self._samples = moved, 1
            self._is_new_moment()
            return math.nan
        self._samples += self._is_new_moment()
        if self._samples < _SAMPLES:
            return math.nan
        self._samples = 0
        how = "cash has moved by it, and neither prices nor fills explain that"
        if announced is not None:
            how = "it was announced"
            self._forget(announced)
        else:
            self._unclaimed.append((moved, True))
        self._scale(moved, equity, how)
        self._rest, self._value = self._rest + moved, self._value + moved
        return moved

    def settle(self, reported: float, worth: float, level: float, equity: float) -> None:
        """Take the present cash as the one that the next move is measured from."""
        rest, value = worth - level, reported - level
        moved = rest - self._rest
        if math.isfinite(moved) and not self._is_profit(moved, worth, equity):
            # Cash has moved, and the account value has not: orders may reserve cash, a fill may not
            # have been notified, or the broker reports its value more seldom.
            if math.isnan(reported) or reported == self._reported:
                return
            self._alone += self._is_new_moment()
            if self._alone < self.gate.live.equity_confirmations:
                return
        elif abs(moved) > _ROUNDING * abs(equity):
            self._unclaimed.append((moved, False))
        self._alone, self._samples, self._reported = 0, 0, reported
        self._traded, self._fees = self.gate.fill_tracker.flow, _FEES
        self._rest = rest if math.isfinite(rest) else self._rest
        self._value = value if math.isfinite(value) else self._value

    def _is_profit(self, moved: float, worth: float, equity: float) -> bool:
        """Return whether a move of cash is too small to be a flow that nobody has announced."""
        if math.isnan(worth):
            return True
        traded = abs(self.gate.fill_tracker.flow - self._traded)
        return abs(moved) <= _PROFIT * abs(equity) + self._fees * traded

    def _announced_as(self, moved: float) -> list[float] | None:
        """Return the announcements that a move of cash fulfils: one of them, or all together."""
        for part in [*([one] for one in self._announced), self._announced]:
            if part and abs(moved - sum(part)) <= _ANNOUNCED * abs(sum(part)):
                return part
        return None

    def _forget(self, announced: list[float]) -> None:
        for amount in list(announced):
            self._announced.remove(amount)

    def _is_new_moment(self) -> bool:
        """Return whether a bar has come, or some seconds have passed, since the last sample."""
        now, rounds = self.gate.live.clock(), self.gate.book.rounds
        if now < self._sampled_at + self.gate.live.retry_after and rounds == self._round:
            return False
        self._sampled_at, self._round = now, rounds
        return True

    def _is_all_cash(self) -> bool:
        """Return whether cash shows a flow by itself: all else is in the book as at the broker."""
        for one in self.gate.book.instruments:
            if one.size or one.orders:
                scheme = self.gate.inner.getcommissioninfo(one.data)
                held = self.gate.venue.view.position(one)
                if held is None:
                    return False
                shared = sum([copy.size for copy in one.copies])
                same = min(abs(held - one.size), abs(held - shared)) <= SIZE_EPS
                if not (same and getattr(scheme, "stocklike", True)):
                    return False
        return True

    # -- the unit value --------------------------------------------------------------------------

    def _scale(self, amount: float, before: float, how: str) -> None:
        """Let an account that `amount` changes from `before` have the unit value that it had."""
        self.go_on(before, before + amount)
        kind = "deposit" if amount > 0.0 else "withdrawal"
        reason = f"flow: a {kind} of {amount_of(abs(amount))}, no gain and no loss: {how}"
        self.gate.journal.account("flow", "flow", reason)

    def go_on(self, before: float, after: float) -> None:
        """Continue at the same unit value with another account value."""
        if before > 0.0 and after > 0.0:
            self.factor *= before / after

    # -- across a restart ------------------------------------------------------------------------

    def persist(self) -> dict[str, Any]:
        """Return the factor and the cash as plain values."""
        fills = self.gate.fill_tracker.flow
        return {
            "factor": self.factor,
            "rest": self._rest + fills,
            "value": self._value + fills,
            "announced": self._announced,
            "total": self._total,
        }

    def restore(self, saved: dict[str, Any], whole: bool) -> None:
        """Continue from a saved state: a deposit since then is none of this run's profit.

        `whole` says that cash can be compared: the positions are those of the saved account.
        """
        self.factor, self._total = saved["factor"], saved["total"]
        self._announced = list(saved["announced"])
        if whole:
            self._rest, self._value = saved["rest"], saved["value"]
        self._fees = _FEES_OF_THE_PAST


def number(source: Any) -> float:
    """Return the answer of a callable as a number, NaN where it fails or is not finite."""
    try:
        value = float(source()) if source is not None else math.nan
    except Exception:  # a store may raise anything, and one sample is not worth a run
        return math.nan
    return value if math.isfinite(value) else math.nan


def amount_of(amount: float) -> str:
    """Return an amount of money for a sentence.

    Examples
    --------
    >>> amount_of(15000.0), amount_of(0.5)
    ('15,000', '0.50')
    """
    return f"{amount:,.0f}" if amount == round(amount) else f"{amount:,.2f}"
