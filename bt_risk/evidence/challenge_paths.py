"""Paths of a challenge: days drawn in blocks from a history, and how each path ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bt_risk.evidence.account_days import (
    BALANCE,
    BALANCE_HIGH,
    END,
    AccountDays,
)
from bt_risk.evidence.bootstrap import future_days, resampled_days
from bt_risk.evidence.challenge_judge import OUTCOMES, Judge, Outcome
from bt_risk.evidence.challenge_screen import eventful

__all__ = ["Judged", "drawn_days", "judged", "path_columns", "windows"]

CHUNK = 500  # paths at a time, which bounds the memory


@dataclass(frozen=True)
class Judged:
    """Hold how many paths have ended.

    Attributes
    ----------
    outcomes, days : ndarray of int of shape (n_paths,)
        Place in `OUTCOMES`, and the number of the day on which the path has ended.
    equity : ndarray of shape (n_paths, ahead + 1)
        Equity at the begin and at the end of each day, in currency; it stays where it has ended.
    """

    outcomes: np.ndarray
    days: np.ndarray
    equity: np.ndarray

    def shares(self) -> dict[str, float]:
        """Return the share of paths with each outcome, by its name."""
        counts = np.bincount(self.outcomes, minlength=len(OUTCOMES)) / max(len(self.outcomes), 1)
        return dict(zip(OUTCOMES, counts.tolist(), strict=True))


def drawn_days(
    count: int, ahead: int, block: float, samples: int, paths: int, seed: int
) -> np.ndarray:
    """Return the days of every path: `samples` resampled histories, and `paths` futures of each.

    Returns
    -------
    ndarray of int of shape (samples * paths, ahead)
        Places of the days in the history; the futures of one history follow each other.
    """
    rng, laps = np.random.default_rng([seed, 1]), 1 + -(-ahead // count)
    histories = resampled_days(count, block, samples, seed)
    futures = [
        np.tile(history, laps)[future_days(rng, paths, count, ahead, block)]
        for history in histories
    ]
    return np.concatenate(futures)


def windows(count: int, ahead: int) -> np.ndarray:
    """Return the days of the challenges that begin on each day of the history and end within it."""
    starts = np.arange(max(count - ahead + 1, 0))
    days: np.ndarray = starts[:, None] + np.arange(ahead)
    return days


def path_columns(account: AccountDays, days: np.ndarray, start: float) -> np.ndarray:
    """Return the columns of each day of each path, in currency.

    Parameters
    ----------
    account : AccountDays
    days : ndarray of int of shape (n_paths, ahead)
        Places of the days in the history.
    start : float
        Equity at the begin of each path, in currency.

    Returns
    -------
    ndarray of shape (n_paths, ahead, COLUMNS)

    Notes
    -----
    Sizes scale with equity: the return of a day is that of the history. Where two days of a path do
    not follow each other in the history, the account takes over at their border, at the same
    equity, what the later day begins with: profit that was open then is none of this account, and
    its balance begins at its equity.
    """
    growth = np.maximum(account.ratios[:, END], 0.0)[days]
    begin = np.empty_like(growth)
    begin[:, 0] = start
    begin[:, 1:] = start * np.cumprod(growth[:, :-1], axis=1)
    columns: np.ndarray = account.ratios[days]
    columns[..., END] = growth
    columns[..., [BALANCE, BALANCE_HIGH]] += _taken_over(account, days)[..., None]
    columns *= begin[..., None]
    return columns


def _taken_over(account: AccountDays, days: np.ndarray) -> np.ndarray:
    """Return the open profit that a path has not earned, as a multiple of equity at the begin."""
    places = np.arange(days.shape[1])
    jumps = np.ones(days.shape, dtype=bool)
    jumps[:, 1:] = days[:, 1:] != days[:, :-1] + 1
    firsts = np.maximum.accumulate(np.where(jumps, places, 0), axis=1)
    before = np.take_along_axis(days, firsts, axis=1) - 1
    held = account.trades[days]
    same = (held == account.trades[before]) & (held > 0) & (before >= 0)[..., None]
    # What was sold of a position since then has realised its share.
    size, earlier = np.abs(account.sizes[days]), np.abs(account.sizes[before])
    left = np.divide(size, earlier, out=np.ones_like(size), where=same & (earlier > 0.0))
    profit = np.where(same, account.open_profit[before] * np.minimum(left, 1.0), 0.0)
    taken: np.ndarray = profit.sum(axis=-1) / account.begin[days]
    return taken


def judged(judge: Judge, days: np.ndarray) -> Judged:
    """Judge every path of days; see `path_columns`."""
    count, ahead = days.shape
    outcomes, ended = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
    equity = np.empty((count, ahead + 1))
    equity[:, 0] = judge.start
    for first in range(0, count, CHUNK):
        chosen = days[first : first + CHUNK]
        columns = path_columns(judge.account, chosen, judge.start)
        asked = eventful(judge, columns)
        quiet = np.flatnonzero(~asked) + first
        outcomes[quiet] = Outcome.PASSED if judge.rules.target is None else Outcome.OPEN
        ended[quiet] = ahead
        equity[quiet, 1:] = columns[~asked][..., END]
        rows_of = columns[asked].tolist()
        for path, rows in zip(np.flatnonzero(asked).tolist(), rows_of, strict=True):
            verdict = judge.judge(rows, chosen[path].tolist())
            place, lasted = first + path, len(verdict.ends)
            outcomes[place], ended[place] = verdict.outcome, verdict.day
            equity[place, 1 : lasted + 1] = verdict.ends
            equity[place, lasted + 1 :] = verdict.ends[-1]
    return Judged(outcomes, ended, equity)
