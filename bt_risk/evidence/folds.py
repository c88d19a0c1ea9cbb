"""The folds of a walk-forward: the bars that choose parameters, and those that judge the choice."""

from __future__ import annotations

from typing import NamedTuple

from bt_risk.errors import DataError, check_flag, check_whole

__all__ = ["Fold", "folds"]

COMPONENT = "walk_forward"


class Fold(NamedTuple):
    """One choice, and the time for which it is used.

    Each pair counts bars from the first one; the second of a pair is not part of it.

    Attributes
    ----------
    train : tuple of int
        The bars that the parameters are chosen on.
    test : tuple of int
        The bars that they are used on.
    """

    train: tuple[int, int]
    test: tuple[int, int]


def folds(count: int, train: int, test: int, purge: int = 1, anchored: bool = False) -> list[Fold]:
    """Return the folds of a history, oldest first.

    Parameters
    ----------
    count : int
        Bars of the history.
    train, test : int
        Bars that choose, and bars that the choice is used on. The last fold has what is left.
    purge : int
        Bars between them that neither has.
    anchored : bool
        Whether each training begins with the first bar, and grows; else it has `train` bars.

    Returns
    -------
    list of Fold
        Every bar from ``train + purge`` on is tested once.

    Raises
    ------
    DataError
        If no bar is left to test.

    Examples
    --------
    >>> folds(10, train=4, test=3, purge=1)
    [Fold(train=(0, 4), test=(5, 8)), Fold(train=(3, 7), test=(8, 10))]
    """
    remedy = "It counts bars of the first data feed."
    check_whole(COMPONENT, "train", train, remedy=remedy)
    check_whole(COMPONENT, "test", test, remedy=remedy)
    check_whole(COMPONENT, "purge", purge, low=0, remedy=remedy)
    check_flag(COMPONENT, "anchored", anchored)
    first = train + purge
    if count <= first:
        raise DataError(
            f"{COMPONENT}: the first data feed must have more than {first:,} bars, for train and "
            f"purge; got {count:,}."
        )
    found = []
    for begin in range(first, count, test):
        end = begin - purge
        found.append(Fold((0 if anchored else end - train, end), (begin, min(begin + test, count))))
    return found
