"""A test of the difference of two Sharpe ratios: the signs of blocks of days are drawn anew."""

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from bt_risk.evidence.metrics import Days, volatility

__all__ = ["SharpeTest", "sharpe_test"]

TINY = 1e-12
POWER = 0.8
_NORMAL = NormalDist()


class SharpeTest(NamedTuple):
    """The difference of two annual Sharpe ratios, and whether there is evidence of one.

    Attributes
    ----------
    difference, low, high : float
        The difference and its joint bounds.
    evidence : bool
        Whether the bounds leave out zero.
    years : float
        Years of such data in which a true difference of this size would be seen in four cases of
        five; NaN without an error.
    """

    difference: float
    low: float
    high: float
    evidence: bool
    years: float = math.nan


def sharpe_test(
    runs: Mapping[str, Days],
    base: str,
    block: float,
    year: float,
    confidence: float = 0.95,
    samples: int = 1000,
    seed: int = 0,
) -> dict[str, SharpeTest]:
    """Test whether any run's Sharpe ratio differs from the base's; the bounds hold jointly.

    Parameters
    ----------
    runs : dict of str to Days
    base : str
        Label of the run that the others are compared with.
    block : float
        Days that may depend on each other: see `bt_risk.evidence.bootstrap.block_length`.
    year : float
        Days a year.
    confidence : float
    samples : int
        How often signs are drawn.
    seed : int

    Returns
    -------
    dict of str to SharpeTest
        By label, without the base. If no run differs, the test claims evidence for any of them
        with probability ``1 - confidence``, however many there are.

    Notes
    -----
    What a day adds to the difference is given by the influence function of the ratio. The sum of a
    block of days is as likely to be positive as negative if there is no difference, whatever the
    volatility of that block; so the signs of all blocks are drawn, the same for every run, and the
    difference is compared with what remains. Both are divided by the standard error from the sums
    of blocks (HAC: days of one block may depend on each other in any way). A rule that acted on a
    few days is compared with the few signs that these days can have. `python -m benchmarks
    coverage` prints how often the test claims evidence where there is none.

    The bounds of a run are a quantile of its own ratios, the same share for every run, and so far
    out that all hold at once. Leverage cancels out of a Sharpe ratio, so the test also holds at
    equal volatility. `years` is for one comparison on its own.

    References
    ----------
    Ledoit & Wolf, Robust Performance Hypothesis Testing with the Sharpe Ratio, Journal of Empirical
    Finance 15 (2008), for influence function and blocks; Ibragimov & Mueller, t-Statistic Based
    Correlation and Heterogeneity Robust Inference, Journal of Business & Economic Statistics 28
    (2010), and Canay, Romano & Shaikh, Randomization Tests under an Approximate Symmetry
    Assumption, Econometrica 85 (2017), for signs of groups; Westfall & Young, Resampling-Based
    Multiple Testing (1993), min P.
    """
    bare, tests, sums = sharpe_influence(runs[base].returns), {}, {}
    for label, days in runs.items():
        if label == base:
            continue
        ratio, influence = sharpe_influence(days.returns)
        difference, influence = float(ratio - bare[0]), influence - bare[1]
        centred = _block_sums(influence, block)
        error = _error(centred, influence.size)
        tests[label] = difference, error
        if error > TINY:
            sums[label] = _block_sums(influence + difference, block)
    reaches = _joint_reaches(_drawn(sums, samples, seed), confidence)
    found = {}
    for label, (difference, error) in tests.items():
        test = _test(difference, error, reaches.get(label, math.nan), math.sqrt(year))
        years = runs[label].returns.size / year * _times_needed(difference, error, confidence)
        found[label] = test._replace(years=years)
    return found


def _times_needed(difference: float, error: float, confidence: float) -> float:
    """Return how many times as much data shows a true difference of this size, with `POWER`."""
    if not (error > TINY and difference):
        return math.nan
    apart = _NORMAL.inv_cdf((1.0 + confidence) / 2) + _NORMAL.inv_cdf(POWER)
    return (apart * error / difference) ** 2


def sharpe_influence(returns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the Sharpe ratio per day and its influence function; NaN without any spread."""
    deviation = returns - returns.mean(axis=-1, keepdims=True)
    spread = volatility(returns)[..., None]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = returns.mean(axis=-1) / spread[..., 0]
        scaled = deviation / spread
        return ratio, scaled - 0.5 * ratio[..., None] * (scaled**2 - 1.0)


def _block_sums(values: np.ndarray, block: float) -> np.ndarray:
    """Return the sums of successive blocks of days; the last one may be shorter."""
    return np.add.reduceat(values, np.arange(0, values.size, max(1, round(block))))


def _error(sums: np.ndarray, days: int) -> float:
    """Return the standard error of a mean of so many days from the sums of their blocks."""
    count = len(sums)
    if count < 2:
        return math.nan
    return math.sqrt(float(sums @ sums) * count / (count - 1)) / days


def _drawn(sums: Mapping[str, np.ndarray], samples: int, seed: int) -> dict[str, np.ndarray]:
    """Return the studentised size of each difference, each time that signs are drawn."""
    if not sums:
        return {}
    count = len(next(iter(sums.values())))
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], (samples, count))
    found = {}
    for label, of_blocks in sums.items():
        total = signs @ of_blocks
        spread = (of_blocks @ of_blocks - total**2 / count) * count / (count - 1)
        # All blocks with one sign and of one size: nothing is further out.
        with np.errstate(divide="ignore"):
            found[label] = np.abs(total) / np.sqrt(np.maximum(spread, 0.0))
    return found


def _joint_reaches(ratios: Mapping[str, np.ndarray], confidence: float) -> dict[str, float]:
    """Return the quantile of each run's own ratios at which all runs are inside at once."""
    if not ratios:
        return {}
    count = len(next(iter(ratios.values())))
    # Share of each run's own draws that lie at least as far out.
    shares = [1.0 - np.searchsorted(np.sort(one), one) / count for one in ratios.values()]
    cut = float(np.quantile(np.min(shares, axis=0), 1.0 - confidence, method="lower"))
    return {
        label: float(np.quantile(one, 1.0 - cut, method="higher")) for label, one in ratios.items()
    }


def _test(difference: float, error: float, reach: float, scale: float) -> SharpeTest:
    if not (error > TINY and math.isfinite(difference)):
        return SharpeTest(scale * difference, math.nan, math.nan, evidence=False)
    low, high = difference - reach * error, difference + reach * error
    return SharpeTest(scale * difference, scale * low, scale * high, bool(low > 0 or high < 0))
