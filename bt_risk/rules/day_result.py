"""The result of a trading day, and the rules that end it: a loss, a target, a profit given back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from bt_risk.tolerances import RATIO_EPS

__all__ = ["BASES", "DayResult", "base_level", "gave_back", "lost", "won"]

BASES = ("equity", "balance", "higher")

# Takes a result so far and the highest before it, and returns whether it ends the day.
Rule = Callable[[float, float], bool]


@dataclass(slots=True)
class DayResult:
    """What a trading day has won or lost so far, as a fraction or in currency.

    Attributes
    ----------
    begin : float
        Date number at which the day began, NaN before the first.
    gain, low, best : float
        Result at the last close, the lowest and the highest so far, negative for a loss.
    judged, breaches : float, int
        The result that was judged last, and how many in a row were beyond the
        limit.
    over : bool
        Whether the limit was reached: no entry for the rest of the day.
    confirmed : bool
        Whether enough results in a row agreed on that, so that positions may be closed.
    marks, breach : int
        Results so far, of all days, and which of them was beyond the limit last.
    measured : float
        The result that ended the day, or the worst since then.
    noted, exits : bool, str
        Whether the journal has the end of the day, and what became of positions: nothing yet,
        ``"closing"`` or ``"flat"``.
    """

    begin: float = math.nan
    gain: float = 0.0
    low: float = 0.0
    best: float = 0.0
    judged: float = 0.0
    breaches: int = 0
    over: bool = False
    confirmed: bool = False
    marks: int = 0
    breach: int = -1
    measured: float = 0.0
    noted: bool = False
    exits: str = ""

    def start(self, begin: float, gain: float = 0.0) -> None:
        """Begin another day; `gain` is what lies between its base and what the account is worth."""
        self.begin, self.gain = begin, gain
        self.low = self.best = self.judged = gain
        self.breaches, self.exits = 0, ""
        self.over = self.confirmed = self.noted = False

    def add(
        self,
        rule: Rule,
        gain: float,
        worst: float | None = None,
        confirmations: int = 1,
        closed: bool = True,
    ) -> None:
        """Add the result at a close, or between two bars where it is not `closed`.

        Parameters
        ----------
        rule : callable
            Whether a result ends the day.
        gain : float
            Result at the close.
        worst : float, optional
            The lowest result inside the bar, which is judged in its place.
        confirmations : int
            Results in a row that must be beyond the limit before positions are closed, or before a
            worst result counts at all.
        closed : bool
            Whether `gain` is that of a close: only those move `best` and `marks`.

        Examples
        --------
        >>> day = DayResult()
        >>> day.add(lambda gain, best: lost(gain, 0.03), -0.01, worst=-0.06)
        >>> day.over, day.measured
        (True, -0.06)
        """
        judged = gain if worst is None else min(worst, gain)
        breach = rule(judged, self.best)
        self.breaches = self.breaches + 1 if breach else 0
        enough = self.breaches >= confirmations
        if breach and (enough or worst is None):
            self.measured = min(judged, self.measured) if self.over else judged
            self.over, self.breach = True, self.marks
        self.confirmed |= breach and enough
        agreed = judged if confirmations == 1 or worst is None else max(judged, self.judged)
        self.low, self.judged = min(self.low, agreed), judged
        if closed:
            # One value of a live broker moves no ratchet.
            if not self.over:
                self.best = max(self.best, gain if confirmations == 1 else min(gain, self.gain))
            self.gain, self.marks = gain, self.marks + 1

    def cools(self, marks: int) -> bool:
        """Return whether the last result beyond the limit is less than so many closes ago."""
        return self.breach >= 0 and self.marks - 1 - self.breach < marks


def lost(gain: float, limit: float, slack: float = RATIO_EPS) -> bool:
    """Return whether a result is a loss of `limit` or more; `slack` is what arithmetic rounds."""
    return -gain >= limit - slack


def won(gain: float, target: float, slack: float = RATIO_EPS) -> bool:
    """Return whether a result is a profit of `target` or more."""
    return gain >= target - slack


def gave_back(
    gain: float, best: float, share: float, profit_from: float, slack: float = RATIO_EPS
) -> bool:
    """Return whether `share` of the best profit is lost again, which counts from a profit on.

    Examples
    --------
    >>> gave_back(0.004, best=0.008, share=0.5, profit_from=0.01)
    False
    >>> gave_back(0.011, best=0.02, share=0.5, profit_from=0.01)
    False
    >>> gave_back(0.010, best=0.02, share=0.5, profit_from=0.01)
    True
    """
    return best >= profit_from - slack and gain <= best * (1.0 - share) + slack


def base_level(base: str, equity: float, open_profit: float) -> float:
    """Return what a day is measured from: equity, the balance without open profit, or the higher.

    Examples
    --------
    >>> [base_level(base, 101.0, 4.0) for base in BASES]
    [101.0, 97.0, 101.0]
    """
    balance = equity - open_profit
    return {"equity": equity, "balance": balance, "higher": max(equity, balance)}[base]
