"""Correlation and covariance of the returns of what is held and of what may be opened."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from bt_risk.portfolio.reachable import opens_now
from bt_risk.tolerances import LIMIT_EPS, SIZE_EPS

if TYPE_CHECKING:
    from bt_risk.portfolio.book import Book
    from bt_risk.portfolio.instrument import Instrument
    from bt_risk.rules.covariance import Covariance
    from bt_risk.rules.return_model import ReturnModel

__all__ = ["Correlations"]

Integers = np.ndarray[tuple[int], np.dtype[np.int_]]
Floats = np.ndarray[tuple[int], np.dtype[np.float64]]


class Correlations:
    """Compare the instruments of one `Book` by the returns in its windows.

    The resampled and replayed copies of an instrument count as that instrument: the first copy
    stands for all.
    """

    def __init__(self, book: Book) -> None:
        self._book = book
        self._lead = [one.copies[0].index for one in book.instruments]
        self._copied = len(set(self._lead)) < len(self._lead)
        # Index and side of what is held; None where that has to be read again.
        self._held: dict[tuple[int, int], None] | None = None
        # The round of the book that was seen last, and the oldest last bar in it.
        self._round, self._oldest = -1, 0

    def same_bets(
        self, instrument: Instrument, side: int, model: ReturnModel, downside: bool = False
    ) -> tuple[Integers, Integers, Floats, Integers]:
        """Return how far every other live instrument is the same bet as an order.

        Parameters
        ----------
        instrument, side
            Of the order.
        model : ReturnModel
        downside : bool
            Whether the correlation of the falls counts where it is worse.

        Returns
        -------
        others : ndarray of int, shape (n,)
            Indexes of the other instruments; one with exposure on both sides is there twice.
        sides : ndarray of int, shape (n,)
            Their sides, +1 or -1.
        signed : ndarray of float, shape (n,)
            ``side_i x side_j x rho``, in [-1, 1]; NaN where it is unknown, or where the other
            instrument is stale, or one of the two has closed at or below zero.
        counts : ndarray of int, shape (n,)
            Returns that both have in common.
        """
        others, sides = self._bets(instrument.copies[0])
        if not len(others):
            return others, sides, np.empty(0), others
        both = (side, sides) if downside else None
        rho, counts = self._book.windows[model].correlations(
            instrument.copies[0].index, others, model.estimator, both
        )
        signed = side * sides * rho
        stale = self._stale(others)
        if stale:
            signed[np.isin(others, stale)] = math.nan
        return others, sides, signed, counts

    def all_within(
        self, instrument: Instrument, side: int, model: ReturnModel, limit: float
    ) -> bool:
        """Return whether no signed correlation of `same_bets` exceeds a limit, if that is simple.

        It takes a fraction of the time: an order mostly passes. All others that may be the same bet
        count, and all of them must be known. The returns of the model count alike. False says that
        `same_bets` must tell.
        """
        book = self._book
        if self._copied:
            return False
        if self._held is None:
            self._held = dict.fromkeys(self._sides_held())
        if not (self._held or book.working):
            return True
        row = None if self._may_be_stale() else book.windows[model].row(instrument.index)
        if row is None:
            return False
        own, gone = instrument.index, book.gone
        for one in self._held:
            k, other = one
            excess = side * other * row[k] - limit  # NaN where it is not known
            if not excess <= LIMIT_EPS and k != own and one not in gone:
                return False
        for w in book.working.values():
            if w.opening > SIZE_EPS:
                k = w.instrument.index
                if not side * w.side * row[k] - limit <= LIMIT_EPS and k != own:
                    return False
        return True

    def covariance(
        self, instruments: Iterable[Instrument], model: ReturnModel
    ) -> tuple[Covariance | None, str]:
        """Return the `Covariance` of some instruments, or None and the reason it is unknown."""
        instruments = list(instruments)
        rows = np.array([instrument.copies[0].index for instrument in instruments])
        book = self._book
        for k in self._stale(rows):
            late = book.rounds - book.instruments[k].round
            return None, f"{book.instruments[k].name} has had no bar for {late} of the others"
        covariance, count = book.windows[model].covariance(rows, model.estimator)
        if covariance is None:
            below = self.below_zero(instruments, model)
            if below:
                return None, below
            return None, f"{count} of {model.min_periods} returns common to all that is held"
        still = np.flatnonzero(covariance.variances <= 0)
        if len(still):
            return None, f"{instruments[still[0]].name} did not move"
        return covariance, ""

    def below_zero(self, instruments: Iterable[Instrument], model: ReturnModel) -> str:
        """Return which instrument has closed at or below zero in the window of some, or nothing."""
        leads = [instrument.copies[0] for instrument in instruments]
        below = self._book.windows[model].below_zero([one.index for one in leads])
        for one, is_below in zip(leads, below, strict=True):
            if is_below:
                return f"{one.name} has closed at or below zero, where no log return exists"
        return ""

    def _bets(self, own: Instrument) -> tuple[Integers, Integers]:
        """Return index and side of what is held or may be opened by a working order, but `own`."""
        book, gone = self._book, self._book.gone
        if gone and self._copied:
            held = [one for one in self._sides_held() if one not in gone]
            bets = dict.fromkeys([(self._lead[k], side) for k, side in held])
            gone = {}
        else:
            if self._held is None:
                self._held = dict.fromkeys([(self._lead[k], s) for k, s in self._sides_held()])
            bets = self._held
        new: dict[tuple[int, int], None] = {}
        for w in book.working.values():
            if w.opening > SIZE_EPS:
                one = w.instrument.copies[0].index, w.side
                # Against a position of its owner an order may only close.
                if (one not in bets or one in gone) and (
                    w.part.size * w.side >= 0.0 or opens_now(w.part, w.side)
                ):
                    new[one] = None
        rows, index = [one for one in bets if one not in gone], own.index
        rows += new
        return _columns([one for one in rows if one[0] != index])

    def _sides_held(self) -> list[tuple[int, int]]:
        """Return index and side of all that is held, one that owners hold both sides of twice."""
        book = self._book
        held = book.sides.nonzero()[0]
        sides = book.sides[held]
        both = zip(held.tolist(), sides.tolist(), strict=True)
        return [*both, *((k, -1) for k in book.opposed)]

    def forget_held(self) -> None:
        """Read again what is held: a side has changed."""
        self._held = None

    def _stale(self, indexes: Integers) -> list[int]:
        """Return those of these indexes whose instruments are stale."""
        if not self._may_be_stale():
            return []
        book = self._book
        late = book.rounds - book.max_stale_bars
        old = [k for k in indexes.tolist() if book.instruments[k].round < late]
        return [k for k in old if book.is_stale(book.instruments[k])]

    def _may_be_stale(self) -> bool:
        """Return whether any instrument has had no bar for long."""
        book = self._book
        if self._round != book.rounds:
            self._round = book.rounds
            self._oldest = min([one.round for one in book.instruments])
        return self._oldest < book.rounds - book.max_stale_bars


def _columns(bets: list[tuple[int, int]]) -> tuple[Integers, Integers]:
    """Return the indexes and the sides of some bets."""
    leads, sides = [one[0] for one in bets], [one[1] for one in bets]
    return np.array(leads, dtype=int), np.array(sides, dtype=int)
