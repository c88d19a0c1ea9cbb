"""The certainty of a comparison: a stationary bootstrap of days, the same days for every run."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from bt_risk.errors import ParameterError, check_fraction, check_whole
from bt_risk.evidence.metrics import Days, measures, volatility

__all__ = ["Interval", "SharpeTest", "block_length", "intervals", "resampled_days", "sharpe_test"]

CHUNK = 100  # histories at a time, which bounds the memory
TINY = 1e-12


class Interval(NamedTuple):
    """A value and its bounds; NaN where the value does not exist.

    Attributes
    ----------
    value, low, high : float
    """

    value: float
    low: float = math.nan
    high: float = math.nan


class SharpeTest(NamedTuple):
    """The difference of two annual Sharpe ratios, and whether there is evidence of one.

    Attributes
    ----------
    difference, low, high : float
        The difference and its joint bounds.
    evidence : bool
        Whether the bounds leave out zero.
    """

    difference: float
    low: float
    high: float
    evidence: bool


def block_length(*series: np.ndarray) -> float:
    """Return the mean length of blocks in days that the most dependent of the series needs.

    References
    ----------
    Politis & White, Automatic Block-Length Selection for the Dependent Bootstrap (2004), corrected
    by Patton, Politis & White (2009); as ``arch.bootstrap.optimal_block_length``.
    """
    # Here, after the runs: no process that runs a variant imports it.
    from arch.bootstrap import optimal_block_length

    lengths = [1.0]
    for values in series:
        if len(values) > 20 and np.ptp(values) > 0:
            with np.errstate(all="ignore"):
                lengths.append(float(optimal_block_length(values)["stationary"].iloc[0]))
    known = [length for length in lengths if math.isfinite(length)]
    return max(1.0, min(max(known), len(series[0]) / 4))


def resampled_days(count: int, block: float, samples: int, seed: int) -> np.ndarray:
    """Return the days of each resampled history, an array of shape (samples, count).

    References
    ----------
    Politis & Romano, The Stationary Bootstrap, JASA 89 (1994); as in ``arch.bootstrap``.
    """
    from arch.bootstrap import StationaryBootstrap

    places = np.arange(count)
    # arch declares an int, and takes any mean length.
    bootstrap = StationaryBootstrap(
        block,  # type: ignore[arg-type]
        places,
        seed=np.random.default_rng(seed),
    )
    return np.array([args[0] for args, _ in bootstrap.bootstrap(samples)])


def check_bootstrap(component: str, confidence: float, samples: int, seed: int) -> None:
    """Raise ParameterError for an argument that a bootstrap cannot use."""
    check_fraction(component, "confidence", confidence, one=False, remedy="Usual are 0.9 and 0.95.")
    check_whole(component, "samples", samples, low=100, remedy="1000 are usual.")
    check_whole(component, "seed", seed, low=0, remedy="The same seed gives the same bounds.")
    if samples * (1.0 - confidence) < 10:
        least = math.ceil(10 / (1.0 - confidence))
        remedy = "Fewer say nothing about tails that small."
        raise ParameterError(component, "samples", f"at least {least}", samples, remedy)


def intervals(
    runs: Mapping[str, Days],
    base: str,
    picks: np.ndarray,
    year: float,
    confidence: float = 0.95,
) -> dict[str, dict[str, tuple[Interval, Interval, Interval]]]:
    """Return every measure of every run with its bounds, and its differences from the base.

    Parameters
    ----------
    runs : dict of str to Days
    base : str
        Label of the run that the others are compared with.
    picks : ndarray of shape (samples, n_days)
        Days of each resampled history, the same for all runs: differences are paired.
    year : float
        Days a year.
    confidence : float

    Returns
    -------
    dict
        By label and measure three `Interval`: of the value, of the difference from the base, and
        of the difference from the base at the leverage that gives it the run's volatility.
        Bounds are percentiles of the resampled histories.
    """
    bare, other = runs[base], measures(runs[base], year)
    drawn, levelled = _draws(runs, base, picks, year)
    found = {}
    for label, days in runs.items():
        own, at_level = measures(days, year), measures(_levelled(bare, days), year)
        every, of_base, equal = drawn[label], drawn[base], levelled[label]
        found[label] = {
            name: (
                _interval(own[name], every[name], confidence),
                _interval(own[name] - other[name], every[name] - of_base[name], confidence),
                _interval(own[name] - at_level[name], every[name] - equal[name], confidence),
            )
            for name in own
        }
    return found


Draws = dict[str, dict[str, np.ndarray]]


def _draws(
    runs: Mapping[str, Days], base: str, picks: np.ndarray, year: float
) -> tuple[Draws, Draws]:
    """Return the measures of every resampled history by run, and the base's at its volatility."""
    own: dict[str, list[dict[str, np.ndarray]]] = {label: [] for label in runs}
    levelled: dict[str, list[dict[str, np.ndarray]]] = {label: [] for label in runs}
    for first in range(0, len(picks), CHUNK):
        chosen = picks[first : first + CHUNK]
        bare = runs[base].take(chosen)
        for label, days in runs.items():
            history = bare if label == base else days.take(chosen)
            own[label].append(measures(history, year))
            levelled[label].append(measures(_levelled(bare, history), year))
    return _joined(own), _joined(levelled)


def _joined(parts: Mapping[str, list[dict[str, np.ndarray]]]) -> Draws:
    return {
        label: {name: np.concatenate([part[name] for part in of_run]) for name in of_run[0]}
        for label, of_run in parts.items()
    }


def _levelled(days: Days, level: Days) -> Days:
    """Return a run at the constant leverage that gives it the volatility of another."""
    own, target = volatility(days.returns), volatility(level.returns)
    leverage = np.divide(target, own, out=np.zeros_like(own), where=own > 0)
    return days.scaled(leverage[..., None])


def _interval(value: float | np.ndarray, drawn: np.ndarray, confidence: float) -> Interval:
    known = drawn[np.isfinite(drawn)]
    if not math.isfinite(value) or len(known) < len(drawn) / 2:
        return Interval(float(value))
    tail = (1.0 - confidence) / 2
    low, high = np.quantile(known, [tail, 1.0 - tail])
    return Interval(float(value), float(low), float(high))


def sharpe_test(
    runs: Mapping[str, Days],
    base: str,
    picks: np.ndarray,
    year: float,
    confidence: float = 0.95,
) -> dict[str, SharpeTest]:
    """Test whether any run's Sharpe ratio differs from the base's; the bounds hold jointly.

    Returns
    -------
    dict of str to SharpeTest
        By label, without the base. If no run differs, the test claims evidence for any of them
        with probability ``1 - confidence``, however many there are.

    Notes
    -----
    Studentised: each difference is divided by its standard error, from the influence function of
    the ratio, in the data and in each history. The bounds of a run are a quantile of its own
    ratios, the same share for every run, and so far out that all hold at once: a rule that acted
    a few times has wide bounds, and does not widen those of the others. Leverage cancels out of a
    Sharpe ratio, so the test also holds at equal volatility.

    References
    ----------
    Ledoit & Wolf, Robust Performance Hypothesis Testing with the Sharpe Ratio, Journal of Empirical
    Finance 15 (2008); Westfall & Young, Resampling-Based Multiple Testing (1993), min P.
    """
    bare, scale, tests, ratios = runs[base].returns, math.sqrt(year), {}, {}
    of_base = _sharpe(bare[picks])
    for label, days in runs.items():
        if label == base:
            continue
        difference, error = _gap(_sharpe(days.returns), _sharpe(bare))
        tests[label] = float(difference), float(error)
        if error > TINY:
            drawn, errors = _gap(_sharpe(days.returns[picks]), of_base)
            with np.errstate(divide="ignore", invalid="ignore"):
                # A history with none of the days on which a rule acted says nothing about it.
                ratios[label] = np.where(errors > TINY, np.abs(drawn - difference) / errors, np.inf)
    reaches = _joint_reaches(ratios, confidence)
    return {
        label: _test(*found, reaches.get(label, math.nan), scale) for label, found in tests.items()
    }


def _joint_reaches(ratios: Mapping[str, np.ndarray], confidence: float) -> dict[str, float]:
    """Return the quantile of each run's own ratios at which all runs are inside at once."""
    if not ratios:
        return {}
    count = len(next(iter(ratios.values())))
    # Share of each run's own histories that lie at least as far out.
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


def _sharpe(returns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the Sharpe ratio per day and its influence function; NaN without any spread."""
    deviation = returns - returns.mean(axis=-1, keepdims=True)
    spread = volatility(returns)[..., None]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = returns.mean(axis=-1) / spread[..., 0]
        scaled = deviation / spread
        return ratio, scaled - 0.5 * ratio[..., None] * (scaled**2 - 1.0)


def _gap(
    one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the difference of two Sharpe ratios and its standard error, along the last axis."""
    influence = one[1] - other[1]
    return one[0] - other[0], influence.std(axis=-1, ddof=1) / math.sqrt(influence.shape[-1])
