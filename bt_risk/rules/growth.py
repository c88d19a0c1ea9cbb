"""The bet that lets wealth grow fastest, had the trades of a sample come up again and again."""

from __future__ import annotations

import math

import numpy as np

from bt_risk.rules.frames import FloatArray

__all__ = ["SCRATCH", "fastest_growth", "rough_fastest_growth"]

SCRATCH = 1e-9  # in R; a smaller result is rounding, not a win or a loss

_DECIDED = (math.nextafter(-SCRATCH, 0), SCRATCH)  # losses are below, wins at or above
_GRAIN = 2.0**-50  # of ruin; a smaller bet is none, and no bet is nearer to ruin
_STEPS = 60  # of Newton or of bisection; four or five are usual
_CLOSE = 1e-8  # a Newton step this small leaves an error of its square
_HALVINGS = 24  # for the bootstrap, whose own error is far larger


@np.errstate(over="ignore")  # a slope of infinity or NaN moves nothing: the bracket is halved
def fastest_growth(sample: FloatArray) -> float:
    """Return the growth-optimal fraction of a sample of results in R, at least 0 and below ruin.

    Parameters
    ----------
    sample : ndarray of shape (n_trades,)
        Known results in R, sorted, at least one.

    Returns
    -------
    float
        1 for a sample with wins and no loss, whose growth has no maximum.

    Notes
    -----
    At the optimum the sum over wins ``W = sum 1 / (1/r + f)`` equals that over losses,
    ``L = sum 1 / (1/|r| - f)``. ``1/W - 1/L`` rises with f all the way to ruin, and in a straight
    line where all wins are alike and all losses are: Newton's method needs few steps to its root.
    """
    n_losses, first_win = sample.searchsorted(_DECIDED).tolist()
    if not n_losses:
        return 1.0 if first_win < sample.size else 0.0
    every = n_losses == first_win
    decided = sample if every else np.delete(sample, slice(n_losses, first_win))
    inverse = np.reciprocal(decided)
    ruin = -1.0 / float(sample[0])
    fraction, low, high = 0.0, 0.0, ruin * (1.0 - _GRAIN)
    for _ in range(_STEPS):
        terms = inverse + fraction
        np.reciprocal(terms, out=terms)
        wins, losses = terms[n_losses:], terms[:n_losses]
        won, lost = float(np.add.reduce(wins)), -float(np.add.reduce(losses))
        if won > lost:
            low = fraction
        elif fraction == 0.0:
            return 0.0
        else:
            high = fraction
        slope = float(wins.dot(wins)) / (won * won) + float(losses.dot(losses)) / (lost * lost)
        step = (1.0 / lost - 1.0 / won) / slope
        fraction += step
        if not low <= fraction <= high:
            fraction = (low + high) / 2.0
        elif abs(step) <= _CLOSE * min(fraction, ruin - fraction):
            break
    return fraction if fraction > ruin * _GRAIN else 0.0


def rough_fastest_growth(samples: FloatArray) -> FloatArray:
    """Return the growth-optimal fractions along the last axis, from below, to seven digits."""
    worst = -samples.min(axis=-1)
    unbounded = (worst <= 0) & (samples.max(axis=-1) > 0)
    low = np.zeros(worst.shape)
    high = 1 / np.where(worst > 0, worst, 1.0)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        grows = (samples / (1 + middle[..., None] * samples)).sum(axis=-1) > 0
        low, high = np.where(grows, middle, low), np.where(grows, high, middle)
    return np.where(unbounded, 1.0, low)
