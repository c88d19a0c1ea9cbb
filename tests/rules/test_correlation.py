import copy
import logging
import math
import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bt_risk.errors import ParameterError
from bt_risk.rules.correlation import (
    correlation_exposure,
    correlation_matrix,
    rolling_correlation,
    same_bet,
)
from bt_risk.rules.return_window import ReturnWindow


def market(n_bars, n_names, seed=0, common=0.7):
    """Returns of names that share a market move."""
    rng = np.random.default_rng(seed)
    own = rng.normal(0, 0.01, (n_bars, n_names))
    returns = common * rng.normal(0, 0.01, (n_bars, 1)) + (1 - common) * own
    names = [f"N{i}" for i in range(n_names)]
    index = pd.date_range("2020-01-01", periods=n_bars, name="time")
    return pd.DataFrame(returns, index=index, columns=pd.Index(names, name="name"))


def price_path(returns):
    return 100 * np.exp(returns.cumsum())


def with_gaps(prices, share, seed=1):
    holes = np.random.default_rng(seed).random(prices.shape) < share
    return prices.mask(holes)


def filled(prices, window=252, min_periods=60):
    returns = ReturnWindow(prices.columns, window, min_periods)
    for time, row in zip(prices.index, prices.to_numpy(), strict=True):
        returns.update(time, row)
    return returns


def joined_reference(prices, one, other, window, min_periods):
    """Pandas' answer: join the prices on time, then take returns."""
    axis = prices.dropna(how="all").tail(window + 1)
    pair = np.log(axis[[one, other]].dropna()).diff().iloc[1:]
    if len(pair) < min_periods:
        return math.nan, len(pair)
    return pair[one].corr(pair[other]), len(pair)


def assert_like_pandas(returns, prices, others, candidate=0):
    rho, counts = returns.correlations(candidate, others)
    names = prices.columns
    expected = [
        joined_reference(prices, names[candidate], names[i], returns.window, returns.min_periods)
        for i in others
    ]
    np.testing.assert_allclose(rho, [r for r, _ in expected], rtol=0, atol=1e-9)
    assert counts.tolist() == [n for _, n in expected]


# correlation_matrix -------------------------------------------------------------------------


def test_matrix_of_three_hand_made_rows():
    # A = 1, 0, -1 and B = 1, 0, 2: means 0 and 1, deviations of B 0, -1, 1.
    # Sum of products = -1, sums of squares 2 and 2: rho = -1 / 2.
    returns = np.array([[1.0, 1.0], [0.0, 0.0], [-1.0, 2.0]])
    matrix = correlation_matrix(returns, window=3, min_periods=3)
    np.testing.assert_allclose(matrix, [[1, -0.5], [-0.5, 1]], atol=1e-15)


def test_matrix_looks_at_the_last_window_only():
    # The same three rows behind two that would turn the sign.
    rows = [[90.0, 90.0], [-90.0, -90.0], [1.0, 1.0], [0.0, 0.0], [-1.0, 2.0]]
    matrix = correlation_matrix(np.array(rows), window=3, min_periods=3)
    assert matrix[0, 1] == pytest.approx(-0.5)
    assert correlation_matrix(np.array(rows), window=5, min_periods=3)[0, 1] > 0.99


def test_article_row_6_the_last_window_is_a_matrix_with_every_pair():
    returns = market(300, 3)
    matrix = correlation_matrix(returns)
    expected = returns.tail(252).corr()
    pd.testing.assert_frame_equal(matrix, expected)
    assert isinstance(matrix.loc["N0", "N2"], float)
    with pytest.raises(
        pd.errors.IndexingError
    ):  # the article's own line: a row has no second label
        returns.rolling(252).corr().iloc[-1].loc["N0", "N2"]


def test_article_row_6_series_of_different_calendars_are_joined_on_time():
    returns = market(200, 2)
    sparse = {"N0": returns["N0"], "N1": returns["N1"].drop(returns.index[[5, 50, 51, 150]])}
    matrix = correlation_matrix(sparse)
    frame = returns.drop(returns.index[[5, 50, 51, 150]])
    assert matrix.loc["N0", "N1"] == pytest.approx(frame["N0"].corr(frame["N1"]), abs=1e-12)
    by_position = np.corrcoef(sparse["N0"].to_numpy()[:196], sparse["N1"].to_numpy())[0, 1]
    assert abs(by_position - matrix.loc["N0", "N1"]) > 0.1


def test_matrix_is_nan_below_min_periods_and_not_at_it():
    returns = market(60, 2)
    returns.iloc[0, 1] = math.nan
    matrix = correlation_matrix(returns, min_periods=60)
    assert np.isnan(matrix.loc["N0", "N1"])
    assert matrix.loc["N0", "N0"] == 1
    assert np.isfinite(correlation_matrix(returns, min_periods=59).loc["N0", "N1"])


def test_matrix_of_a_name_that_stands_still_is_nan():
    returns = market(100, 2).assign(N1=0.0)
    matrix = correlation_matrix(returns)
    assert matrix.loc["N0", "N0"] == 1
    assert matrix["N1"].isna().all()


@pytest.mark.parametrize("function", [correlation_matrix, rolling_correlation])
def test_array_in_array_out_with_the_values_of_the_frame(function):
    returns = market(260, 3)
    array = function(returns.to_numpy())
    assert isinstance(array, np.ndarray)
    np.testing.assert_array_equal(array.reshape(-1, 3), function(returns).to_numpy())


@pytest.mark.parametrize("function", [correlation_matrix, rolling_correlation])
@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ([1, 2], "a DataFrame, a dict of Series or an ndarray"),
        (np.arange(3.0), "ndarray of shape"),
        (market(70, 2).iloc[::-1], "sorted, oldest first"),
        (market(70, 2).assign(day="monday"), "numeric"),
        (market(70, 2).set_axis(["A", "A"], axis=1), "one column per name"),
        ({"A": [1.0, 2.0]}, "a Series with one value per time"),
        ({"A": pd.Series([1.0, 2.0], index=[0, 0])}, "a Series with one value per time"),
    ],
)
def test_bad_returns_raise_one_clear_error(function, bad, words):
    with pytest.raises(ParameterError, match=words):
        function(bad)


@pytest.mark.parametrize("call", [correlation_matrix, rolling_correlation])
@pytest.mark.parametrize("window", [1, 0, -5, 2.5, math.nan, "252", True])
def test_bad_window_raises(call, window):
    with pytest.raises(ParameterError, match="window must be a whole number"):
        call(market(10, 2), window)


def test_min_periods_above_the_window_raises():
    with pytest.raises(ParameterError, match="min_periods must be at most window, which is 30"):
        correlation_matrix(market(100, 2), window=30)


# rolling_correlation ------------------------------------------------------------------------


def test_rolling_correlation_is_pandas_frame():
    returns = market(300, 4)
    expected = returns.rolling(252).corr()
    pd.testing.assert_frame_equal(rolling_correlation(returns), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("window", [2, 3, 7, 50])
@pytest.mark.parametrize("n_bars", [1, 6, 7, 13, 14, 15, 50, 99])
def test_rolling_correlation_at_every_bar_is_the_matrix_of_its_window(window, n_bars):
    returns = market(n_bars, 3).to_numpy()
    rolling = rolling_correlation(returns, window)
    assert np.isnan(rolling[: window - 1]).all()
    for bar in range(window - 1, n_bars):
        expected = np.corrcoef(returns[bar - window + 1 : bar + 1].T)
        np.testing.assert_allclose(rolling[bar], expected, rtol=0, atol=1e-9)


def test_rolling_correlation_by_hand():
    # Window 3 over A = 1, 0, -1, 0 and B = 1, 0, 2, 4. First window as above: -1/2. Second:
    # A 0, -1, 0 has deviations 1/3, -2/3, 1/3; B 0, 2, 4 has -2, 0, 2: products sum to 0.
    returns = np.array([[1.0, 1.0], [0.0, 0.0], [-1.0, 2.0], [0.0, 4.0]])
    rolling = rolling_correlation(returns, window=3)[:, 0, 1]
    np.testing.assert_allclose(rolling, [math.nan, math.nan, -0.5, 0], atol=1e-12)


def test_rolling_correlation_of_a_window_with_a_gap_is_nan_for_its_name_only():
    returns = market(120, 3)
    returns.iloc[60, 1] = math.nan
    returns.iloc[80, 2] = math.inf  # pandas counts it as missing too
    rolling = rolling_correlation(returns, 20)
    expected = returns.rolling(20).corr()
    pd.testing.assert_frame_equal(rolling, expected, rtol=0, atol=1e-9)
    time = returns.index[79]
    assert np.isnan(rolling.loc[(time, "N0"), "N1"])
    assert np.isfinite(rolling.loc[(time, "N0"), "N2"])
    assert np.isfinite(rolling.loc[(returns.index[80], "N0"), "N1"])


def test_rolling_correlation_forgets_a_bad_tick_that_has_left_the_window():
    returns = market(700, 3)
    returns.iloc[300, 0] = 1000.0
    rolling = rolling_correlation(returns, 252).to_numpy().reshape(-1, 3, 3)
    for bar in (551, 552, 553, 699):
        expected = np.corrcoef(returns.to_numpy()[bar - 251 : bar + 1].T)
        np.testing.assert_allclose(rolling[bar], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("still", [0.0, 0.01, 1.0])
def test_rolling_correlation_of_a_name_that_stands_still_is_nan_until_it_moves(still):
    returns = market(700, 3).to_numpy(copy=True)
    returns[100:500, 1] = still
    rolling = rolling_correlation(returns, 252)
    assert np.isnan(rolling[351:500, 1]).all()
    assert np.isfinite(rolling[351:500, 0, 2]).all()
    for bar in (350, 500, 501, 699):
        expected = np.corrcoef(returns[bar - 251 : bar + 1].T)
        np.testing.assert_allclose(rolling[bar], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("level", [1.0, 1e5])
def test_rolling_correlation_keeps_its_digits_far_from_zero(level):
    # Sums of squares alone would lose eps * (1e5 / 0.01)^2 = 2 % at the upper level.
    returns = level + market(120, 3).to_numpy()
    rolling = rolling_correlation(returns, 50)
    for bar in (49, 80, 119):
        expected = np.corrcoef(returns[bar - 49 : bar + 1].T)
        np.testing.assert_allclose(rolling[bar], expected, rtol=0, atol=1e-9)


def test_rolling_correlation_of_a_halted_name_has_the_digits_of_its_own_window():
    returns = market(900, 2, common=0.5).to_numpy(copy=True)
    returns[300:700, 0] *= 1e-6
    rolling = rolling_correlation(returns, 252)
    for bar in (551, 600, 699, 899):
        expected = np.corrcoef(returns[bar - 251 : bar + 1].T)
        np.testing.assert_allclose(rolling[bar], expected, rtol=0, atol=1e-9)


def test_rolling_correlation_leaves_its_input_alone():
    returns = market(60, 2)
    before = returns.copy()
    rolling_correlation(returns, 20)
    rolling_correlation(returns.to_numpy(), 20)
    pd.testing.assert_frame_equal(returns, before)


def test_rolling_correlation_of_nothing_is_empty():
    assert rolling_correlation(np.empty((0, 3)), 20).shape == (0, 3, 3)
    assert rolling_correlation(np.empty((5, 0)), 20).shape == (5, 0, 0)
    assert rolling_correlation(pd.DataFrame(columns=["A"], dtype=float), 20).empty


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), cut=st.integers(1, 89), window=st.integers(2, 40))
def test_rolling_correlation_never_looks_ahead(seed, cut, window):
    returns = market(90, 3, seed).to_numpy()
    past = rolling_correlation(returns[:cut], window)
    # Not to the last bit: an older BLAS changes it with the place in memory.
    whole = rolling_correlation(returns, window)
    np.testing.assert_allclose(whole[:cut], past, rtol=0, atol=1e-10)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), order=st.permutations(range(4)))
def test_order_of_the_names_does_not_matter(seed, order):
    returns = market(60, 4, seed).to_numpy()
    for function in (lambda r: correlation_matrix(r, 50, 10), lambda r: rolling_correlation(r, 9)):
        moved = function(returns)[..., order, :][..., order]
        np.testing.assert_allclose(function(returns[:, order]), moved, rtol=0, atol=1e-12)


# same_bet and correlation_exposure ----------------------------------------------------------


@pytest.mark.parametrize(
    ("side_i", "side_j", "rho", "expected"),
    [
        (1, 1, 0.9, 0.9),
        (-1, -1, 0.9, 0.9),
        (1, -1, 0.9, -0.9),
        (-1, 1, -0.9, 0.9),
        (1, 1, -0.9, -0.9),
        (1, 1, math.nan, 1.0),
        (1, -1, math.nan, 1.0),
        (-1, -1, math.nan, 1.0),
    ],
)
def test_same_bet_is_signed_and_counts_the_unknown_as_one(side_i, side_j, rho, expected):
    assert same_bet(side_i, side_j, rho) == expected


def test_same_bet_takes_arrays():
    bets = same_bet(1, np.array([1, -1, -1]), np.array([0.5, 0.5, math.nan]))
    np.testing.assert_array_equal(bets, [0.5, -0.5, 1.0])


def pair(rho_sign=1, n_bars=100):
    """Two names that always move together (+1) or against each other (-1), and one on its own.

    Sine, its mirror and cosine over whole turns: correlations +1 or -1, and 0.
    """
    angle = np.arange(n_bars) * 2 * np.pi / 20
    move = 0.01 * np.sin(angle)
    return pd.DataFrame({"A": move, "B": rho_sign * 2 * move, "C": 0.01 * np.cos(angle)})


def test_first_name_of_a_correlated_pair_is_scaled():
    sized = correlation_exposure({"A": 1.0, "B": 1.0, "C": 1.0}, pair(), capital=1000)
    assert sized == {"A": 0.8, "B": 1.0, "C": 1.0}
    assert correlation_exposure({"B": 1.0, "A": 1.0}, pair(), capital=1000) == {"B": 0.8, "A": 1.0}


def test_a_name_is_scaled_once_however_many_partners_it_has():
    returns = pair().assign(D=lambda frame: 3 * frame["A"])
    sized = correlation_exposure({"A": 1.0, "B": 1.0, "D": 1.0}, returns, capital=1000)
    assert sized == {"A": 0.8, "B": 0.8, "D": 1.0}


def test_article_row_7_positions_are_a_dict_that_is_left_unchanged():
    # The article's own call. All three are the same bet, BTC with both others and ETH with SPY:
    # 0.1 * 0.8 + 0.05 * 0.8 + 0.03 = 0.15, and 5 % of the capital of 1 is a third of that.
    positions = {"BTC": 0.1, "ETH": 0.05, "SPY": 0.03}
    rets = pair().set_axis(["BTC", "ETH", "SPY"], axis=1).assign(SPY=lambda f: f["BTC"] * 0.5)
    safe_pos = correlation_exposure(positions, rets)
    assert safe_pos == pytest.approx({"BTC": 0.08 / 3, "ETH": 0.04 / 3, "SPY": 0.01})
    assert positions == {"BTC": 0.1, "ETH": 0.05, "SPY": 0.03}
    assert safe_pos is not positions


def test_article_row_7_capital_is_an_argument():
    positions = {"A": 600.0, "C": -400.0}  # 1,000 in total, at 5 % of 10,000 only 500
    assert correlation_exposure(positions, pair(), 10_000) == {"A": 300.0, "C": -200.0}
    assert correlation_exposure(positions, pair(), capital=20_000) == positions


@pytest.mark.parametrize(
    ("rho_sign", "a", "b", "same"),
    [(1, 1, 1, True), (1, -1, -1, True), (1, 1, -1, False), (-1, 1, -1, True), (-1, 1, 1, False)],
)
def test_article_row_8_correlation_is_signed_by_side(rho_sign, a, b, same):
    sized = correlation_exposure({"A": 1.0 * a, "B": 1.0 * b}, pair(rho_sign), capital=1000)
    assert sized == {"A": (0.8 if same else 1.0) * a, "B": 1.0 * b}


@pytest.mark.parametrize("side", [1, -1])
def test_article_row_9_the_cap_is_closed_before_there_is_enough_history(side):
    positions = {"A": 1.0, "C": 1.0 * side}  # uncorrelated, once that is known
    cut = {"A": 0.8, "C": 1.0 * side}
    assert correlation_exposure(positions, pair(n_bars=59), capital=1000) == cut
    assert correlation_exposure(positions, pair(n_bars=60), capital=1000) == positions
    still = pair().assign(C=0.0)
    assert correlation_exposure(positions, still, capital=1000) == cut


def test_a_correlation_at_the_limit_passes_and_above_it_does_not():
    returns = market(100, 2)
    rho = float(correlation_matrix(returns).iloc[0, 1])
    positions = {"N0": 1.0, "N1": 1.0}
    at = dict(capital=1000, correlation_limit=rho)
    below = dict(capital=1000, correlation_limit=np.nextafter(rho, 0))
    assert correlation_exposure(positions, returns, **at) == positions
    assert correlation_exposure(positions, returns, **below) == {"N0": 0.8, "N1": 1.0}


def test_no_limits_change_nothing():
    positions = {"A": 5.0, "B": 7.0}
    off = dict(correlation_limit=None, exposure_limit=math.inf)
    assert correlation_exposure(positions, pair(), **off) == positions
    assert correlation_exposure(positions, pair(n_bars=5), **off) == positions
    assert correlation_exposure({}, pair()) == {}


def test_a_position_of_zero_is_no_bet():
    assert correlation_exposure({"A": 0.0, "B": 1.0}, pair(), 1000) == {"A": 0.0, "B": 1.0}
    unknown = pair(n_bars=5)
    assert correlation_exposure({"A": 1.0, "B": 0.0}, unknown, 1000) == {"A": 1.0, "B": 0.0}


def test_what_was_cut_is_logged_and_nothing_is_printed(caplog, capsys):
    with caplog.at_level(logging.INFO, logger="bt_risk"):
        correlation_exposure({"A": 600.0, "B": 600.0}, pair(), 10_000)
    assert caplog.messages == [
        "A and B are one bet: correlation 1.00",
        "exposure 1080 is cut to 500",
    ]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(positions=[1, 2]), "positions must be a dict"),
        (dict(positions={"A": math.nan}), r"positions\['A'\] must be finite"),
        (dict(positions={"A": None}), r"positions\['A'\] must be finite"),
        (dict(positions={"XRP": 1.0}), r"column for every position; got \"none for \['XRP'\]\""),
        (dict(capital=0), "capital must be positive"),
        (dict(correlation_limit=70), r"correlation_limit must be in \(0, 1\]"),
        (dict(exposure_limit=-0.05), "exposure_limit must be positive"),
        (dict(correlated_scale=80), r"correlated_scale must be in \[0, 1\]"),
    ],
)
def test_bad_arguments_of_correlation_exposure_raise(change, words):
    with pytest.raises(ParameterError, match=words):
        correlation_exposure(**(dict(positions={"A": 1.0}, returns=pair()) | change))


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3),
    capital=st.floats(1, 1e7),
    seed=st.integers(0, 50),
    limit=st.floats(0.01, 1),
)
def test_exposure_never_grows_never_turns_and_never_passes_the_ceiling(sizes, capital, seed, limit):
    positions = dict(zip(["N0", "N1", "N2"], sizes, strict=True))
    sized = correlation_exposure(positions, market(80, 3, seed), capital, limit)
    for name, value in positions.items():
        assert abs(sized[name]) <= abs(value)
        assert sized[name] * value >= 0
    assert sum(map(abs, sized.values())) <= 0.05 * capital * (1 + 1e-12)


# ReturnWindow -------------------------------------------------------------------------------


def test_window_correlations_by_hand():
    # Log returns of A: ln 2, 0, -ln 2; of B: ln 2, 0, 2 ln 2: as the matrix above, rho = -1/2.
    returns = ReturnWindow("AB", window=3, min_periods=3)
    for time, closes in enumerate([(1, 1), (2, 2), (2, 2), (1, 8)]):
        returns.update(time, closes)
    rho, counts = returns.correlations(0, [1])
    assert rho == pytest.approx([-0.5])
    assert counts.tolist() == [3]


@pytest.mark.parametrize("n_bars", [30, 60, 61, 62, 252, 253, 254, 505, 506, 507, 758, 760])
def test_window_equals_pandas_at_every_fill(n_bars):
    prices = price_path(market(n_bars, 4))
    returns = filled(prices)
    assert len(returns) == min(n_bars - 1, 252)
    assert_like_pandas(returns, prices, [1, 2, 3])


@pytest.mark.parametrize("share", [0.01, 0.3, 0.7])
def test_window_with_gaps_joins_prices_on_time_first(share):
    prices = with_gaps(price_path(market(600, 5)), share)
    assert_like_pandas(filled(prices, min_periods=20), prices, [1, 2, 3, 4])


def test_only_the_pairs_with_gaps_are_joined():
    prices = price_path(market(300, 4))
    prices.iloc[280, 2] = math.nan
    rho, counts = filled(prices).correlations(0, [1, 2, 3])
    assert counts.tolist() == [252, 251, 252]
    assert_like_pandas(filled(prices), prices, [1, 2, 3])
    assert_like_pandas(filled(prices), prices, [0, 1, 3], candidate=2)


def test_a_name_against_its_own_copy_with_bars_dropped_is_exactly_one():
    prices = price_path(market(300, 1))
    prices["copy"] = 3 * prices["N0"].drop(prices.index[[60, 61, 100, 200, 299]])
    prices["twin"] = prices["N0"]
    rho, counts = filled(prices).correlations(0, [1, 2])
    np.testing.assert_allclose(rho, 1.0, rtol=0, atol=1e-12)
    assert rho[1] == pytest.approx(1.0, rel=0, abs=1e-15)
    assert counts.tolist() == [247, 252]
    same = prices.assign(copy=prices["N0"].drop(prices.index[[60, 61, 100, 200, 299]]))
    assert filled(same).correlations(0, [1])[0][0] == 1.0


def test_correlations_are_unknown_below_min_periods_and_known_at_it():
    prices = price_path(market(61, 2))
    rho, counts = filled(prices.head(60)).correlations(0, [1])
    assert np.isnan(rho[0])
    assert counts[0] == 59
    rho, counts = filled(prices).correlations(0, [1])
    assert np.isfinite(rho[0])
    assert counts[0] == 60


def test_article_row_9_an_empty_window_knows_nothing_and_counts_zero():
    returns = ReturnWindow(["A", "B"])
    for _ in range(2):
        rho, counts = returns.correlations(0, [1])
        assert np.isnan(rho[0])
        assert counts.tolist() == [0]
        assert len(returns) == 0
        returns.update(1.0, [10.0, math.nan])


def test_a_bad_tick_that_has_left_the_window_leaves_no_trace():
    prices = price_path(market(700, 3))
    prices.iloc[300, 0] *= 1e6
    returns = filled(prices.head(553))
    assert_like_pandas(returns, prices.head(553), [1, 2])
    returns.update(prices.index[553], prices.iloc[553].to_numpy())  # return 301 leaves
    assert_like_pandas(returns, prices.head(554), [1, 2])
    clean = price_path(market(700, 3)).head(554)
    np.testing.assert_array_equal(
        returns.correlations(0, [1, 2])[0], filled(clean).correlations(0, [1, 2])[0]
    )


def test_a_name_that_stands_still_is_unknown_and_known_again_when_it_moves():
    prices = price_path(market(700, 3))
    prices.iloc[100:500, 1] = prices.iloc[100, 1]
    returns = filled(prices.head(500))
    rho, counts = returns.correlations(0, [1, 2])
    assert np.isnan(rho[0])
    assert np.isfinite(rho[1])
    assert counts.tolist() == [252, 252]
    assert np.isnan(returns.correlations(1, [0, 2])[0]).all()
    returns.update(prices.index[500], prices.iloc[500].to_numpy())
    assert_like_pandas(returns, prices.head(501), [1, 2])


def test_a_name_that_compounds_evenly_stands_still_too():
    # Its log returns differ by rounding only: a correlation of that is noise.
    prices = price_path(market(300, 2))
    prices["N1"] = 100 * 1.001 ** np.arange(300)
    assert np.isnan(filled(prices).correlations(0, [1])[0][0])


def test_a_name_that_stands_still_between_gaps_is_unknown_too():
    prices = price_path(market(300, 2)).assign(N1=100.0)
    prices.iloc[[100, 280], 1] = math.nan
    rho, counts = filled(prices).correlations(0, [1])
    assert np.isnan(rho[0])
    assert counts[0] == 250


def test_a_second_call_at_the_same_time_merges():
    whole, parts = (ReturnWindow("AB", window=10, min_periods=2) for _ in range(2))
    prices = price_path(market(8, 2)).to_numpy()
    for time, (a, b) in enumerate(prices):
        whole.update(time, [a, b])
        parts.update(time, [a, math.nan])
        parts.update(time, [math.nan, b])
    assert len(parts) == len(whole) == 7
    np.testing.assert_array_equal(parts.correlations(0, [1])[0], whole.correlations(0, [1])[0])
    parts.update(7, [math.nan, 50.0])  # overwrites, after a query at the same time
    assert parts.correlations(0, [1])[0][0] != whole.correlations(0, [1])[0][0]


@pytest.mark.parametrize("bad", [0.0, -5.0, math.inf, -math.inf, math.nan])
def test_a_close_that_is_no_price_counts_as_missing(bad):
    prices = price_path(market(100, 2))
    prices.iloc[50, 1] = math.nan
    expected = filled(prices).correlations(0, [1])
    prices.iloc[50, 1] = bad
    got = filled(prices).correlations(0, [1])
    assert got[0] == expected[0]
    assert got[1] == expected[1] == [98]


def test_a_time_without_any_close_does_not_enter_the_axis():
    returns = filled(price_path(market(100, 2)), window=60)
    before = returns.correlations(0, [1])
    returns.update(pd.Timestamp("2021-01-01"), [math.nan, 0.0])
    assert returns.last_time == pd.Timestamp("2020-04-09")
    assert returns.correlations(0, [1]) == before


@pytest.mark.parametrize(
    "time",
    [
        pd.Timestamp("2020-01-01"),
        None,
        pd.NaT,
        737000.0,
        pd.Timestamp("2021-01-01", tz="UTC"),
    ],
)
def test_a_time_that_goes_back_or_is_of_another_kind_raises(time):
    returns = filled(price_path(market(5, 2)))
    with pytest.raises(ParameterError, match=r"time must be Timestamp\('2020-01-05.*or later"):
        returns.update(time, [1.0, 1.0])


@pytest.mark.parametrize("time", [None, math.nan])
def test_the_first_time_must_be_one(time):
    with pytest.raises(ParameterError, match="time must be a time"):
        ReturnWindow("A").update(time, [1.0])


@pytest.mark.parametrize("closes", [[1.0], [1.0, 2.0, 3.0], 1.0, [[1.0, 2.0]]])
def test_closes_of_the_wrong_number_raise(closes):
    with pytest.raises(ParameterError, match="closes must be one price for each of 2 names"):
        ReturnWindow("AB").update(1.0, closes)


def test_update_does_not_keep_the_callers_array():
    returns, closes = ReturnWindow("AB", window=4, min_periods=2), np.empty(2)
    expected = ReturnWindow("AB", window=4, min_periods=2)
    for time, row in enumerate([(1.0, 1.0), (2.0, 2.0), (2.0, 3.0)]):
        closes[:] = row
        returns.update(time, closes)
        expected.update(time, row)
    np.testing.assert_array_equal(returns.correlations(0, [1])[0], expected.correlations(0, [1])[0])


def test_a_candidate_with_nobody_to_compare_gets_empty_answers():
    rho, counts = filled(price_path(market(100, 2))).correlations(0, [])
    assert rho.shape == counts.shape == (0,)


def test_window_survives_pickle_and_copy():
    prices = with_gaps(price_path(market(400, 3)), 0.02)
    returns = filled(prices.head(399))
    returns.correlations(0, [1, 2])
    for twin in (pickle.loads(pickle.dumps(returns)), copy.deepcopy(returns)):
        twin.update(prices.index[399], prices.iloc[399].to_numpy())
        assert_like_pandas(twin, prices, [1, 2])


def test_seeding_prices_equals_having_lived_through_them():
    prices = with_gaps(price_path(market(500, 3)), 0.1)
    seeded = ReturnWindow(prices.columns)
    seeded.seed(prices.head(450)[["N2", "N0", "N1"]].assign(unknown=1.0))
    for time, row in zip(prices.index[450:], prices.to_numpy()[450:], strict=True):
        seeded.update(time, row)
    np.testing.assert_array_equal(
        seeded.correlations(0, [1, 2]), filled(prices).correlations(0, [1, 2])
    )


def test_a_name_that_history_lacks_is_unknown():
    prices = price_path(market(300, 3))
    seeded = ReturnWindow(prices.columns)
    seeded.seed(prices[["N0", "N2"]])
    rho, counts = seeded.correlations(0, [1, 2])
    assert np.isnan(rho[0])
    assert counts.tolist() == [0, 252]


@pytest.mark.parametrize("n_bars", [40, 300])
def test_seeded_returns_are_the_returns_of_the_window(n_bars):
    simple = market(n_bars, 3)
    seeded = ReturnWindow(simple.columns, min_periods=20)
    seeded.seed(simple, kind="returns")
    assert len(seeded) == min(n_bars, 252)
    expected = np.log1p(simple).tail(252).corr()
    rho, _ = seeded.correlations(0, [1, 2])
    np.testing.assert_allclose(rho, expected.loc["N0", ["N1", "N2"]], rtol=0, atol=1e-9)


@pytest.mark.parametrize("gap", [False, True])
@pytest.mark.parametrize("n_live", [1, 2, 30, 200, 251, 252, 253, 600])
def test_no_return_is_taken_from_seeded_returns_to_the_first_close(n_live, gap):
    history, live = market(300, 2, seed=1), market(n_live, 2, seed=2)
    live.index = history.index[-1] + pd.to_timedelta(np.arange(n_live), unit="D")
    prices = 5000 * np.exp(live.cumsum())
    if gap:
        prices.iloc[n_live // 2, 1] = math.nan
    seeded = ReturnWindow(history.columns, min_periods=2)
    seeded.seed(history, kind="returns")
    for time, row in zip(prices.index, prices.to_numpy(), strict=True):
        seeded.update(time, row)  # the first at the very time of the last seeded return
    known = np.log(prices.dropna()).diff().dropna()
    seam_in_window = n_live <= 252
    n_seeded = 252 - n_live if seam_in_window else 0
    if seam_in_window:
        known = pd.concat([np.log1p(history.tail(n_seeded)) if n_seeded else None, known])
    else:
        known = np.log(prices.tail(253).dropna()).diff().dropna()
    rho, counts = seeded.correlations(0, [1])
    assert counts[0] == len(known)
    np.testing.assert_allclose(rho[0], known["N0"].corr(known["N1"]), rtol=0, atol=1e-9)


def test_a_seeded_return_spans_the_times_at_which_its_name_had_no_bar():
    prices = price_path(market(200, 2))
    prices.iloc[2:] = with_gaps(prices.iloc[2:], 0.2)
    own_calendars = {name: prices[name].dropna().pct_change() for name in prices}
    seeded = ReturnWindow(prices.columns)
    seeded.seed(own_calendars, kind="returns")
    expected = joined_reference(prices, "N0", "N1", 252, 60)
    rho, counts = seeded.correlations(0, [1])
    assert counts[0] == expected[1]
    assert rho[0] == pytest.approx(expected[0], abs=1e-9)


def test_seeded_returns_of_a_name_that_begins_later_start_with_its_first_return():
    # What that first return is measured from is not known: 99 returns, 98 between known times.
    simple = market(200, 2)
    simple.iloc[:101, 1] = math.nan
    seeded = ReturnWindow(simple.columns)
    seeded.seed(simple, kind="returns")
    rho, counts = seeded.correlations(0, [1])
    assert counts[0] == 98
    assert rho[0] == pytest.approx(np.log1p(simple.iloc[102:]).corr().iloc[0, 1], abs=1e-9)


def test_history_that_overlaps_the_run_is_cut_at_its_first_bar():
    prices = price_path(market(300, 2))
    cut, short = ReturnWindow(prices.columns), ReturnWindow(prices.columns)
    cut.seed(prices, before=prices.index[200])
    short.seed(prices.head(200))
    assert cut.last_time == short.last_time == prices.index[199]
    np.testing.assert_array_equal(cut.correlations(0, [1]), short.correlations(0, [1]))
    with pytest.raises(ParameterError, match=r"seed\(history, before=first_time\)"):
        short.update(prices.index[100], [1.0, 1.0])


def test_history_that_begins_after_the_run_is_no_history():
    prices = price_path(market(100, 2))
    returns = ReturnWindow(prices.columns)
    returns.seed(prices, before=prices.index[0])
    assert len(returns) == 0
    assert returns.last_time is None
    returns.update(prices.index[0], [1.0, 1.0])


@pytest.mark.parametrize(
    ("history", "options", "words"),
    [
        (price_path(market(9, 2)).iloc[::-1], {}, "history must be sorted"),
        (pd.DataFrame({"N0": [1.0, 2.0]}, index=[1, 1]), {}, "one row per time; got '1'"),
        (pd.DataFrame({"N0": [1.0, 0.0]}), {}, "prices above 0 and finite, or NaN; got 0.0"),
        (market(9, 2), {}, 'kind="returns" takes returns'),
        (pd.DataFrame({"N0": [0.1, math.inf]}), dict(kind="returns"), "returns above -1 and"),
        (pd.DataFrame({"N0": [0.1, -3.0]}), dict(kind="returns"), "got -3.0"),
        (pd.DataFrame({"btc": [1.0, 2.0]}), {}, r"at least one of \['N0', 'N1'\]"),
        (price_path(market(9, 2)), dict(kind="log"), "kind must be one of"),
        (price_path(market(9, 2)), dict(before=737000.0), "before must be comparable"),
    ],
)
def test_bad_history_raises(history, options, words):
    with pytest.raises(ParameterError, match=words):
        ReturnWindow(["N0", "N1"]).seed(history, **options)


def test_history_comes_before_the_first_update():
    returns = filled(price_path(market(5, 2)))
    with pytest.raises(ParameterError, match="history must be given to an empty window"):
        returns.seed(price_path(market(5, 2)))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(window=1), "window must be"),
        (dict(min_periods=1), "min_periods must be"),
        (dict(window=50), "min_periods must be at most window, which is 50"),
    ],
)
def test_bad_parameters_of_the_window_raise(options, words):
    with pytest.raises(ParameterError, match=words):
        ReturnWindow("AB", **options)


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n_bars=st.integers(1, 90),
    share=st.sampled_from([0.0, 0.02, 0.3, 0.8]),
    window=st.integers(2, 40),
    candidate=st.integers(0, 3),
)
def test_window_equals_pandas_whatever_the_gaps(seed, n_bars, share, window, candidate):
    prices = with_gaps(price_path(market(n_bars, 4, seed)), share, seed)
    returns = filled(prices, window, min_periods=2)
    others = [i for i in range(4) if i != candidate]
    rho, counts = returns.correlations(candidate, others)
    for i, other in enumerate(others):
        expected, n = joined_reference(prices, f"N{candidate}", f"N{other}", window, 2)
        assert counts[i] == n
        assert rho[i] == pytest.approx(expected, abs=1e-9, nan_ok=True)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), queries=st.lists(st.integers(0, 3), max_size=30))
def test_a_query_never_changes_a_later_answer(seed, queries):
    prices = with_gaps(price_path(market(60, 4, seed)), 0.05, seed)
    asked, silent = (ReturnWindow(prices.columns, 20, 5) for _ in range(2))
    for bar, row in enumerate(prices.to_numpy()):
        asked.update(bar, row)
        silent.update(bar, row)
        if bar < len(queries):
            asked.correlations(queries[bar], [0, 2])
    np.testing.assert_array_equal(
        asked.correlations(0, [1, 2, 3]), silent.correlations(0, [1, 2, 3])
    )


@pytest.mark.parametrize("gaps", [0.0, 0.2])
def test_no_correlation_is_that_of_the_bar_before(gaps):
    """What several orders of one bar share is computed again after every change."""
    prices = with_gaps(price_path(market(60, 5)), gaps)
    asked = ReturnWindow(prices.columns, 20, 5)
    for k, (time, row) in enumerate(zip(prices.index, prices.to_numpy(), strict=True)):
        first = np.where(np.arange(5) < 3, row, np.nan)
        for closes in (first, row):  # the closes of one time may arrive in two parts
            asked.update(time, closes)
            new = filled(prices.iloc[:k], 20, 5)
            new.update(time, first)
            new.update(time, closes)
            for candidate in (0, 4, 0):
                others = [i for i in range(5) if i != candidate]
                for one, other in zip(
                    asked.correlations(candidate, others),
                    new.correlations(candidate, others),
                    strict=True,
                ):
                    # Where a window lies in memory may change the last digits of a product.
                    np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)
    asked.blank(np.arange(5) == 1)
    rho, _ = asked.correlations(0, [1, 2])
    assert np.isnan(rho[0])
    assert np.isfinite(rho[1])
