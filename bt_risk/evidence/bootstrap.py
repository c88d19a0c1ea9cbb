"""The certainty of a comparison: a stationary bootstrap of days, the same days for every run."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from bt_risk.errors import ParameterError, check_fraction, check_whole
from bt_risk.evidence.metrics import Days, measures, volatility

__all__ = [
    "Interval",
    "block_length",
    "chance_interval",
    "future_days",
    "intervals",
    "resampled_days",
]

CHUNK = 100  # histories at a time, which bounds the memory


class Interval(NamedTuple):
    """A value and its bounds; NaN where the value does not exist.

    Attributes
    ----------
    value, low, high : float
    """

    value: float
    low: float = math.nan
    high: float = math.nan


def block_length(*series: np.ndarray) -> float:
    """Return the mean length of blocks in days that the most dependent of the series needs.

    It is at least the cube root of the number of days: what a sample does not show of its
    dependence (volatility that clusters, say) would make bounds too narrow.

    References
    ----------
    Politis & White, Automatic Block-Length Selection for the Dependent Bootstrap (2004), corrected
    by Patton, Politis & White (2009); as ``arch.bootstrap.optimal_block_length``. The floor: Hall,
    Horowitz & Jing, On Blocking Rules for the Bootstrap with Dependent Data, Biometrika 82 (1995).
    """
    # Here, after the runs: no process that runs a variant imports it.
    from arch.bootstrap import optimal_block_length

    lengths = [len(series[0]) ** (1 / 3)]
    for values in series:
        if len(values) > 20 and np.ptp(values) > 0:
            with np.errstate(all="ignore"):
                lengths.append(float(optimal_block_length(values)["stationary"].iloc[0]))
    known = [length for length in lengths if math.isfinite(length)]
    return max(1.0, min(max(known), len(series[0]) / 4))


def wideness(count: int, block: float, confidence: float) -> float:
    """Return by how much percentiles of resampled histories are too close to the value.

    A bootstrap of n blocks has ``(n - 1) / n`` of the variance, and takes it for known: as with the
    mean of n values, Student's distribution has to take the place of the normal one.

    References
    ----------
    Hesterberg, What Teachers Should Know About the Bootstrap, The American Statistician 69 (2015),
    section 4.3: expanded percentile intervals.
    """
    from scipy.special import ndtri, stdtrit  # which arch needs, too

    blocks = max(2.0, count / block)
    tail = (1.0 + confidence) / 2
    return float(math.sqrt(blocks / (blocks - 1)) * stdtrit(blocks - 1, tail) / ndtri(tail))


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


def future_days(
    rng: np.random.Generator, paths: int, count: int, ahead: int, block: float
) -> np.ndarray:
    """Return the days of futures drawn from one history: the stationary bootstrap.

    Parameters
    ----------
    rng : Generator
    paths, count, ahead : int
        Futures, days of the history, and days of each future.
    block : float
        Mean length of a block in days.

    Returns
    -------
    ndarray of shape (paths, ahead)
        Days from `count` on are those from the first day of the history on.
    """
    jumps = rng.random((paths, ahead)) < 1.0 / block
    jumps[:, 0] = True
    starts = rng.integers(0, count, (paths, ahead))
    begins = np.flatnonzero(jumps)
    lengths = np.diff(begins, append=jumps.size)
    days = np.repeat(starts.ravel()[begins] - begins, lengths)
    days += np.arange(jumps.size)
    return days.reshape(paths, ahead)


def chance_interval(values: np.ndarray, confidence: float) -> Interval:
    """Return the mean of a value of many futures, and bounds for what the history leaves open.

    Parameters
    ----------
    values : ndarray of shape (samples, paths)
        1 where something has happened in a future of a history and 0 where not, or the difference
        of two of these.
    confidence : float

    Notes
    -----
    The mean over the futures of one history has an error of its own, which is no uncertainty of the
    history: the means are drawn towards that of all until their variance is what the error leaves
    of it.
    """
    chances, paths = values.mean(axis=1), values.shape[1]
    mean, spread = float(chances.mean()), float(chances.var())
    noise = float(values.var(axis=1, ddof=1).mean()) / paths
    kept = math.sqrt(max(0.0, 1.0 - noise / spread)) if spread > 0.0 else 0.0
    tail = (1.0 - confidence) / 2
    low, high = np.quantile(mean + kept * (chances - mean), [tail, 1.0 - tail])
    return Interval(mean, float(low), float(high))


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
    block: float,
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
    block : float
        Mean length of the blocks of `picks`, in days.
    confidence : float

    Returns
    -------
    dict
        By label and measure three `Interval`: of the value, of the difference from the base, and
        of the difference from the base at the leverage that gives it the run's volatility.
        Bounds are percentiles of the resampled histories, expanded by `wideness`.
    """
    wide = wideness(picks.shape[1], block, confidence)
    bare, other = runs[base], measures(runs[base], year)
    drawn, levelled = _draws(runs, base, picks, year)
    found = {}
    for label, days in runs.items():
        own, at_level = measures(days, year), measures(_levelled(bare, days), year)
        every, of_base, equal = drawn[label], drawn[base], levelled[label]
        found[label] = {
            name: (
                _interval(own[name], every[name], confidence, wide),
                _interval(own[name] - other[name], every[name] - of_base[name], confidence, wide),
                _interval(own[name] - at_level[name], every[name] - equal[name], confidence, wide),
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


def _interval(
    value: float | np.ndarray, drawn: np.ndarray, confidence: float, wide: float
) -> Interval:
    known = drawn[np.isfinite(drawn)]
    if not math.isfinite(value) or len(known) < len(drawn) / 2:
        return Interval(float(value))
    tail = (1.0 - confidence) / 2
    bounds = value + wide * (np.quantile(known, [tail, 1.0 - tail]) - value)
    # What no history makes negative (a drawdown, a count) has no negative bound.
    low, high = np.clip(bounds, min(value, known.min()), max(value, known.max()))
    return Interval(float(value), float(low), float(high))
