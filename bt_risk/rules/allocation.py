"""Weights that split capital over names: equal risk, inverse volatility, or equal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias, overload

import numpy as np
import numpy.typing as npt
import pandas as pd

from bt_risk.errors import (
    ParameterError,
    check_choice,
    check_limit,
    check_positive,
)
from bt_risk.rules.frames import Column, FloatArray

__all__ = ["METHODS", "inverse_volatility", "risk_parity", "signed_weights"]

METHODS = ("risk_parity", "inverse_volatility", "equal")

_TOLERANCE = 1e-6  # of a share of risk, relative to its budget
_CLOSE = 1e-7  # a Newton step this small, relative to each x, leaves an error of its square
_FULL_STEP = 0.36  # Spinu's rule: the full step is safe below 0.95 (3 - sqrt 5) / 2
_SYMMETRY = 1e-8  # in correlation units
_STEPS = 100
_IMPROVEMENTS = 3  # of the first guess
_HEDGED = 1e-6  # a variance of correlated names below it has few digits to scale by

_Matrix: TypeAlias = FloatArray | pd.DataFrame
_Budgets: TypeAlias = Sequence[float] | FloatArray | Mapping[str, float] | pd.Series


@overload
def risk_parity(covariance: FloatArray, budgets: _Budgets | None = None) -> FloatArray: ...


@overload
def risk_parity(covariance: pd.DataFrame, budgets: _Budgets | None = None) -> pd.Series: ...


def risk_parity(covariance: _Matrix, budgets: _Budgets | None = None) -> Column:
    """Long-only weights at which every name contributes its budget of the portfolio's risk.

    Parameters
    ----------
    covariance : DataFrame or ndarray of shape (n_names, n_names)
        Covariance of returns; only its shape matters, not its scale.
    budgets : sequence of float, Series or dict, of length n_names, optional
        Shares of risk, positive, in any scale. Default: equal.

    Returns
    -------
    Series or ndarray of shape (n_names,)
        Weights, positive, of sum 1. There is no NaN rule: NaN in `covariance` is an error.

    Notes
    -----
    The weights are ``x / sum(x)`` at the minimum of the convex function
    ``x' C x / 2 - sum(b log(x))``, where ``x_i (C x)_i = b_i``. It is solved on the correlation
    matrix (so names of any volatility mix) by Newton steps, damped so that every x stays
    positive; shares match the budgets to 1e-6 of each, and but near a hedge to the last digits.

    References
    ----------
    Maillard, S., Roncalli, T. and Teiletche, J. (2010). The properties of equally weighted risk
    contribution portfolios. Journal of Portfolio Management 36(4).
    Spinu, F. (2013). An algorithm for computing risk parity weights. SSRN 2297383.

    Examples
    --------
    Volatilities of 10 % and 20 %: the calm name gets twice the weight.

    >>> risk_parity(np.array([[0.01, 0.006], [0.006, 0.04]])).round(6)
    array([0.666667, 0.333333])
    """
    volatility, correlation = _check_covariance("risk_parity", covariance)
    smallest = _smallest_eigenvalue(correlation)
    if smallest < -_SYMMETRY * len(correlation):
        remedy = "Estimates from pairs with gaps can be so: use the rows that all names share."
        raise _unsolvable("positive semi-definite (smallest eigenvalue)", smallest, remedy)
    budgets = _check_budgets("risk_parity", budgets, covariance)
    weights = _equal_risk(correlation, budgets) / volatility
    return _like(covariance, weights / weights.sum())


@overload
def inverse_volatility(covariance: FloatArray) -> FloatArray: ...


@overload
def inverse_volatility(covariance: pd.DataFrame) -> pd.Series: ...


def inverse_volatility(covariance: _Matrix) -> Column:
    """Weights in proportion to one over the volatility of each name.

    Parameters
    ----------
    covariance : DataFrame or ndarray of shape (n_names, n_names)
        Covariance of returns; its diagonal is used.

    Returns
    -------
    Series or ndarray of shape (n_names,)
        Weights, positive, of sum 1. There is no NaN rule: NaN in `covariance` is an error.

    Notes
    -----
    ``w_i = (1 / s_i) / sum(1 / s)``. It equals `risk_parity` when all correlations are equal,
    as with two names.

    Examples
    --------
    >>> inverse_volatility(np.diag([0.01, 0.04])).round(6)
    array([0.666667, 0.333333])
    """
    volatility, _ = _check_covariance("inverse_volatility", covariance)
    weights = volatility.min() / volatility
    return _like(covariance, weights / weights.sum())


@overload
def signed_weights(
    covariance: FloatArray,
    sides: npt.ArrayLike | None = None,
    method: str = "risk_parity",
    budgets: _Budgets | None = None,
    volatility_target: float | None = None,
    gross_limit: float | None = 1.0,
) -> FloatArray: ...


@overload
def signed_weights(
    covariance: pd.DataFrame,
    sides: npt.ArrayLike | None = None,
    method: str = "risk_parity",
    budgets: _Budgets | None = None,
    volatility_target: float | None = None,
    gross_limit: float | None = 1.0,
) -> pd.Series: ...


def signed_weights(
    covariance: _Matrix,
    sides: npt.ArrayLike | None = None,
    method: str = "risk_parity",
    budgets: _Budgets | None = None,
    volatility_target: float | None = None,
    gross_limit: float | None = 1.0,
) -> Column:
    """Weights of a long-short portfolio by its signed covariance, scaled to a volatility.

    Parameters
    ----------
    covariance : DataFrame or ndarray of shape (n_names, n_names)
        Covariance of returns, per year if there is a `volatility_target`.
    sides : sequence of {+1, -1}, of length n_names, optional
        Which names are short. Default: none.
    method : {"risk_parity", "inverse_volatility", "equal"}
    budgets : sequence of float, Series or dict, optional
        Shares of risk, as of `risk_parity`; for that method only.
    volatility_target : float, optional
        Standard deviation of the portfolio's return per year, as a fraction. Default: weights add
        up to 1 in absolute value.
    gross_limit : float, default 1.0
        Ceiling on the sum of absolute weights; None is no ceiling.

    Returns
    -------
    Series or ndarray of shape (n_names,)
        Signed weights, fractions of equity.

    Notes
    -----
    With ``D = diag(sides)`` the method is applied to ``D S D``: a name held short against one that
    it moves with is a hedge, and gets more. The level is ``w volatility_target / sqrt(w' S w)``.

    References
    ----------
    Roncalli, T. (2013). Introduction to Risk Parity and Budgeting. Chapman & Hall, section 2.2.

    Examples
    --------
    Two names of 20 % that move together: long both, or long and short.

    >>> covariance = np.array([[0.04, 0.03], [0.03, 0.04]])
    >>> signed_weights(covariance, volatility_target=0.1, gross_limit=None).round(4)
    array([0.2673, 0.2673])
    >>> signed_weights(covariance, [1, -1], volatility_target=0.1, gross_limit=None).round(4)
    array([ 0.7071, -0.7071])
    """
    here = "signed_weights"
    check_choice(here, "method", method, METHODS)
    if budgets is not None and method != "risk_parity":
        raise ParameterError(here, "budgets", "None unless method='risk_parity'", budgets)
    limit = check_limit(here, "gross_limit", gross_limit)
    _check_covariance(here, covariance)
    matrix = np.asarray(covariance, dtype=float)
    signs = _check_sides(here, sides, len(matrix))
    signed = _like_matrix(covariance, matrix * signs[:, None] * signs)
    if method == "equal":
        weights = signs / len(signs)
    elif method == "inverse_volatility":
        weights = signs * np.asarray(inverse_volatility(signed))
    else:
        weights = signs * np.asarray(risk_parity(signed, budgets))
    if volatility_target is not None:
        check_positive(here, "volatility_target", volatility_target)
        variance = float(weights @ matrix @ weights)
        if not variance > 0:
            remedy = "Leave out one of the names that offset each other."
            raise ParameterError(here, "covariance", "of a portfolio with risk", variance, remedy)
        weights = weights * (volatility_target / math.sqrt(variance))
    gross = float(np.abs(weights).sum())
    return _like(covariance, weights * min(1.0, limit / gross))


def _check_sides(component: str, sides: npt.ArrayLike | None, n_names: int) -> FloatArray:
    if sides is None:
        return np.ones(n_names)
    signs = np.asarray(sides, dtype=float)
    if signs.shape != (n_names,) or not np.isin(signs, (-1.0, 1.0)).all():
        remedy = "Leave out a name that is not to be held."
        raise ParameterError(component, "sides", f"{n_names} of +1 and -1", sides, remedy)
    return signs


def _like_matrix(covariance: _Matrix, matrix: FloatArray) -> _Matrix:
    if isinstance(covariance, pd.DataFrame):
        return pd.DataFrame(matrix, index=covariance.index, columns=covariance.columns)
    return matrix


def _smallest_eigenvalue(correlation: FloatArray) -> float:
    """Return it, or 0.0 where it is clearly within what rounding makes of a true zero."""
    shifted = correlation.copy()
    shifted.reshape(-1)[:: len(shifted) + 1] += _SYMMETRY * len(shifted) / 2
    try:
        np.linalg.cholesky(shifted)  # takes a tenth of the time, and fails below zero
    except np.linalg.LinAlgError:
        return float(np.linalg.eigvalsh(correlation)[0])
    return 0.0


def _equal_risk(correlation: FloatArray, budgets: FloatArray) -> FloatArray:
    """Solve ``x_i (C x)_i = b_i`` for x > 0 by Newton's method on Spinu's function."""
    x = _first_guess(correlation, budgets)
    hessian = np.empty_like(correlation)
    diagonal = hessian.reshape(-1)[:: len(x) + 1]
    previous = misfit = math.inf
    rounding = False
    for _ in range(_STEPS):
        pull = budgets / x
        hessian[:] = correlation
        diagonal += pull / x
        try:
            step = np.linalg.solve(hessian, pull - correlation @ x)
        except np.linalg.LinAlgError:  # no minimum: a riskless portfolio lets x grow forever
            break
        largest = float(np.abs(step / x).max())
        x = x + (step if largest < _FULL_STEP else step / (1.0 + largest))
        rounding = rounding or largest <= _CLOSE or previous < _FULL_STEP and largest >= previous
        if rounding:  # what remains is no more; near a hedge the next step may turn out better
            misfit = min(misfit, _misfit(correlation, budgets, x))
            if misfit < _TOLERANCE:
                return x
        previous = largest
    misfit = min(misfit, _misfit(correlation, budgets, x))
    if misfit < _TOLERANCE:
        return x
    remedy = "Leave out one of the names that offset each other."
    raise _unsolvable("such that every long-only portfolio has risk (misfit)", misfit, remedy)


def _misfit(correlation: FloatArray, budgets: FloatArray, x: FloatArray) -> float:
    """Return the largest deviation of a share of risk from its budget, relative to that."""
    return float(np.abs(x * (correlation @ x) / budgets - 1.0).max())


def _first_guess(correlation: FloatArray, budgets: FloatArray) -> FloatArray:
    """Return the exact solution for uncorrelated names, improved where no name is a hedge.

    An improvement solves the equation of each name as if the others were right already, and takes
    a third of the time of a Newton step. Before it, and in the end, x is scaled to a variance of
    1, which the solution has.
    """
    apart = x = np.sqrt(budgets)
    improvements = 0
    while True:
        moves = correlation @ x
        variance = float(x @ moves)
        if variance < _HEDGED:
            return apart
        scale = math.sqrt(variance)
        x = x / scale
        if improvements == _IMPROVEMENTS or not improvements and moves.min() <= 0.0:
            return x
        moves /= scale
        others = moves - x
        x = (np.sqrt(others * others + 4.0 * budgets) - others) * 0.5
        improvements += 1


def _check_covariance(component: str, covariance: _Matrix) -> tuple[FloatArray, FloatArray]:
    """Return the volatilities and the correlation matrix of a valid covariance matrix."""
    matrix = np.asarray(covariance, dtype=float)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise ParameterError(component, "covariance", "square", matrix.shape)
    if isinstance(covariance, pd.DataFrame) and not covariance.index.equals(covariance.columns):
        names = list(covariance.index), list(covariance.columns)
        raise ParameterError(component, "covariance", "labelled alike on rows and columns", names)
    if not np.isfinite(matrix).all():
        count = np.count_nonzero(~np.isfinite(matrix))
        raise ParameterError(component, "covariance", "finite", f"{count} values that are not")
    variance = matrix.diagonal()
    if variance.min() <= 0:
        remedy = "Leave out names that stood still."
        value = float(variance.min())
        raise ParameterError(component, "covariance", "positive on the diagonal", value, remedy)
    volatility = np.sqrt(variance)
    correlation = matrix / volatility[:, None] / volatility
    skew = float(np.abs(correlation - correlation.T).max())
    if skew > _SYMMETRY:
        raise ParameterError(component, "covariance", "symmetric", f"a difference of {skew:.3g}")
    return volatility, (correlation + correlation.T) / 2


def _check_budgets(component: str, budgets: _Budgets | None, covariance: _Matrix) -> FloatArray:
    n_names = len(covariance)
    if budgets is None:
        return np.full(n_names, 1 / n_names)
    if isinstance(budgets, (dict, pd.Series)) and isinstance(covariance, pd.DataFrame):
        budgets = pd.Series(budgets, dtype=float).reindex(covariance.index)
    shares = np.asarray(budgets, dtype=float)
    if shares.shape != (n_names,):
        raise ParameterError(component, "budgets", f"{n_names} numbers", budgets)
    if not (np.isfinite(shares).all() and shares.min() > 0):
        remedy = "Leave a name out to give it no risk."
        value = shares.tolist()
        raise ParameterError(component, "budgets", "positive, one per name", value, remedy)
    normalised: FloatArray = shares / shares.sum()
    return normalised


def _unsolvable(constraint: str, value: float, remedy: str) -> ParameterError:
    return ParameterError("risk_parity", "covariance", constraint, float(value), remedy)


def _like(covariance: _Matrix, weights: FloatArray) -> Column:
    if isinstance(covariance, pd.DataFrame):
        return pd.Series(weights, index=covariance.index)
    return weights
