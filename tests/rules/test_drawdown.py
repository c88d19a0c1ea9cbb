"""High-water mark, drawdown, the article's RiskManager, and the breaker's step function."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bt_risk.errors import ParameterError
from bt_risk.rules.drawdown import (
    ARMED,
    COOLING,
    LOCKED,
    TRIPPED,
    BreakerRule,
    BreakerState,
    RiskManager,
    drawdown,
    fall,
    high_water_mark,
    rearm,
    step,
    taper,
)

NAN = math.nan
EQUITY = [100.0, 120.0, 90.0, NAN, 108.0, 130.0, 65.0]
MARK = [100.0, 120.0, 120.0, NAN, 120.0, 130.0, 130.0]
FALLS = [0.0, 0.0, 0.25, NAN, 0.1, 0.0, 0.5]


def series(values):
    return pd.Series(values, index=pd.date_range("2020-01-01", periods=len(values)), name="equity")


@pytest.mark.parametrize(
    ("function", "expected"), [(high_water_mark, MARK), (drawdown, FALLS)], ids=["mark", "fall"]
)
def test_values_by_hand_as_array_and_as_series(function, expected):
    np.testing.assert_allclose(function(np.array(EQUITY)), expected, rtol=1e-15)
    pd.testing.assert_series_equal(function(series(EQUITY)), series(expected))


@pytest.mark.parametrize("function", [high_water_mark, drawdown])
def test_edges_of_the_input(function):
    assert len(function(np.array([]))) == 0
    assert np.isnan(function(np.array([NAN, NAN]))).all()
    assert function(np.array([5.0]))[0] == (5.0 if function is high_water_mark else 0.0)


def test_a_nan_at_the_beginning_is_skipped():
    np.testing.assert_array_equal(drawdown(np.array([NAN, 10.0, 5.0])), [NAN, 0.0, 0.5])


def test_the_input_is_not_changed():
    equity = np.array(EQUITY)
    drawdown(equity)
    np.testing.assert_array_equal(equity, EQUITY)


@pytest.mark.parametrize("first", [0.0, -5.0])
def test_drawdown_of_a_bankrupt_start_raises(first):
    with pytest.raises(ParameterError, match="first equity"):
        drawdown(np.array([first, 1.0]))


EQUITIES = st.lists(st.floats(0.01, 1e6) | st.just(NAN), min_size=1, max_size=40)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(EQUITIES, st.integers(0, 40), st.floats(0.001, 1000.0))
def test_drawdown_is_a_fraction_that_knows_no_future_and_no_currency(values, cut, scale):
    equity = np.array(values)
    falls = drawdown(equity)
    known = falls[~np.isnan(falls)]
    assert ((known >= 0) & (known < 1)).all()
    np.testing.assert_array_equal(drawdown(equity[:cut]), falls[:cut])
    np.testing.assert_allclose(drawdown(equity * scale), falls, atol=1e-12)
    np.testing.assert_array_equal(np.isnan(falls), np.isnan(equity))


# -- the article's class -------------------------------------------------------------------------


def test_the_risk_manager_of_the_article_runs_as_printed():
    assert RiskManager(100000).update(-5000) is True


def test_the_risk_manager_keeps_trading_at_exactly_the_limit():
    manager = RiskManager(100_000)
    assert manager.update(-10_000)
    assert manager.drawdown == 0.1
    assert not manager.update(-0.01)


def test_the_risk_manager_counts_from_the_peak():
    manager = RiskManager(100_000, drawdown_limit=0.2)
    assert manager.update(25_000)
    assert manager.update(-25_000)  # 100 of 125: exactly 20 %
    assert not manager.update(-1)
    assert manager.update(10_000)  # 110 of 125


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"capital": 0}, "capital"),
        ({"capital": -1.0}, "capital"),
        ({"capital": NAN}, "capital"),
        ({"capital": 1.0, "drawdown_limit": 10}, "drawdown_limit"),
        ({"capital": 1.0, "drawdown_limit": 0}, "drawdown_limit"),
    ],
)
def test_the_risk_manager_checks_its_parameters(given, param):
    with pytest.raises(ParameterError) as caught:
        RiskManager(**given)
    assert caught.value.param == param


def test_the_risk_manager_refuses_a_profit_of_nan():
    manager = RiskManager(100.0)
    with pytest.raises(ParameterError, match="pnl"):
        manager.update(NAN)
    assert manager.capital == 100.0


# -- the step function ---------------------------------------------------------------------------


def walk(values, rule, state=None, **kwargs):
    """Return the statuses and the last state after each value."""
    state, statuses = state or BreakerState(), []
    for value in values:
        state = step(state, value, rule, **kwargs)
        statuses.append(state.status)
    return statuses, state


RULE = BreakerRule()
PAUSE = BreakerRule(cooldown_bars=2)

TRANSITIONS = [
    # from, value, keywords, rule, to
    (BreakerState(), 100.0, {}, RULE, ARMED),
    (BreakerState(ARMED, 100.0, 100.0), 90.0, {}, RULE, TRIPPED),
    (BreakerState(ARMED, 100.0, 100.0), 90.001, {}, RULE, ARMED),
    (BreakerState(ARMED, 100.0, 100.0), 0.0, {}, RULE, TRIPPED),
    (BreakerState(ARMED, 100.0, 100.0), -5.0, {}, RULE, TRIPPED),
    (BreakerState(ARMED, 100.0, 100.0), NAN, {}, RULE, ARMED),
    (BreakerState(ARMED, 100.0, 100.0), math.inf, {}, RULE, ARMED),
    (BreakerState(ARMED, 100.0, 100.0), -math.inf, {}, RULE, ARMED),
    (BreakerState(ARMED, 100.0, 100.0), 90.0, {}, BreakerRule(math.inf), ARMED),
    (BreakerState(ARMED, 100.0, 100.0), 90.0, {}, BreakerRule(confirmations=2), ARMED),
    (BreakerState(ARMED, 100.0, 100.0, 1), 90.0, {}, BreakerRule(confirmations=2), TRIPPED),
    (BreakerState(ARMED, 100.0, 120.0), 95.0, {}, BreakerRule(lifetime_limit=0.2), TRIPPED),
    (BreakerState(ARMED, 100.0, 120.0), 97.0, {}, BreakerRule(lifetime_limit=0.2), ARMED),
    (BreakerState(TRIPPED, 100.0, 100.0), 100.0, {}, RULE, TRIPPED),
    (BreakerState(TRIPPED, 100.0, 100.0), 90.0, {"flat": True}, RULE, LOCKED),
    (BreakerState(TRIPPED, 100.0, 100.0), 90.0, {"flat": True}, PAUSE, COOLING),
    (BreakerState(TRIPPED, 100.0, 100.0, final=True), 90.0, {"flat": True}, PAUSE, LOCKED),
    (BreakerState(COOLING, 100.0, 100.0, cooldown_left=2), 90.0, {}, PAUSE, COOLING),
    (BreakerState(COOLING, 100.0, 100.0, cooldown_left=1), 90.0, {}, PAUSE, ARMED),
    (BreakerState(COOLING, 100.0, 100.0, cooldown_left=1), NAN, {}, PAUSE, COOLING),
    # A mark of nothing would trip at once, at a drawdown that is none.
    (BreakerState(COOLING, 100.0, 100.0, cooldown_left=1), 0.0, {}, PAUSE, COOLING),
    (BreakerState(COOLING, 100.0, 100.0, cooldown_left=0), -5.0, {}, PAUSE, COOLING),
    (BreakerState(COOLING, 100.0, 100.0, cooldown_left=0), 5.0, {}, PAUSE, ARMED),
    (
        BreakerState(COOLING, 100.0, 100.0, cooldown_left=1),
        90.0,
        {"new_bar": False},
        PAUSE,
        COOLING,
    ),
    (
        BreakerState(COOLING, 100.0, 100.0, cooldown_left=1),
        99.9,
        {},
        BreakerRule(cooldown_bars=1, rearm_at="recovery"),
        COOLING,
    ),
    (
        BreakerState(COOLING, 100.0, 100.0, cooldown_left=1),
        100.0,
        {},
        BreakerRule(cooldown_bars=1, rearm_at="recovery"),
        ARMED,
    ),
    (BreakerState(LOCKED, 100.0, 100.0), 200.0, {"flat": True}, PAUSE, LOCKED),
]


@pytest.mark.parametrize(("state", "value", "kwargs", "rule", "status"), TRANSITIONS)
def test_each_transition(state, value, kwargs, rule, status):
    assert step(state, value, rule, **kwargs).status == status


@pytest.mark.parametrize(("under", "status"), [(0.0, TRIPPED), (5e-13, TRIPPED), (5e-12, ARMED)])
def test_it_trips_within_rounding_of_the_limit(under, status):
    assert step(BreakerState(ARMED, 100.0, 100.0), 100 * (0.9 + under), RULE).status == status


def test_a_sequence_by_hand_pauses_and_comes_back_at_the_new_mark():
    """110 x 0.9 = 99 trips; the mark stays until re-arming at 98, whose 10 % is 88.2."""
    statuses, state = walk([100.0, 110.0, 99.0], PAUSE)
    assert statuses == [ARMED, ARMED, TRIPPED]
    state = step(state, 98.0, PAUSE, flat=True)
    assert (state.status, state.high_water_mark, state.cooldown_left) == (COOLING, 110.0, 2)
    statuses, state = walk([98.0, 98.0, 88.3, 88.2], PAUSE, state)
    assert statuses == [COOLING, ARMED, ARMED, TRIPPED]
    assert (state.high_water_mark, state.lifetime_mark, state.trips) == (98.0, 110.0, 2)


def test_a_good_value_between_two_bad_ones_starts_the_count_again():
    statuses, _ = walk([100, 89, 91, 89, 89], BreakerRule(confirmations=2))
    assert statuses == [ARMED, ARMED, ARMED, ARMED, TRIPPED]


def test_a_nan_between_two_bad_values_concludes_nothing():
    statuses, _ = walk([100, 89, NAN, 89], BreakerRule(confirmations=2))
    assert statuses == [ARMED, ARMED, ARMED, TRIPPED]


def test_rearm_rebases_the_mark_and_a_final_state_stays():
    locked = BreakerState(LOCKED, 100.0, 120.0, trips=1)
    assert rearm(locked, 80.0) == BreakerState(ARMED, 80.0, 120.0, trips=1)
    final = BreakerState(LOCKED, 100.0, 120.0, final=True)
    assert rearm(final, 80.0) == final
    assert rearm(locked, NAN) == rearm(locked, 0.0) == rearm(locked, -1.0) == locked


def test_the_lifetime_limit_makes_a_trip_final():
    state = step(BreakerState(ARMED, 100.0, 120.0), 95.0, BreakerRule(lifetime_limit=0.2))
    assert state.final
    assert not step(BreakerState(ARMED, 100.0, 100.0), 90.0, BreakerRule(lifetime_limit=0.2)).final


@pytest.mark.parametrize(
    ("fallen", "left"), [(0.0, 1.0), (0.05, 1.0), (0.075, 0.5), (0.09, 0.2), (0.1, 0.0), (0.3, 0.0)]
)
def test_taper_by_hand(fallen, left):
    assert taper(fallen, 0.05, 0.10) == pytest.approx(left, abs=1e-12)


def test_taper_without_a_limit_leaves_everything():
    assert taper(0.5, 0.05, math.inf) == 1.0


def test_fall_is_positive_and_beyond_any_limit_without_a_mark():
    assert fall(75.0, 100.0) == 0.25
    assert fall(1.0, 0.0) == math.inf


VALUES = st.lists(
    st.tuples(st.floats(-10, 200) | st.just(NAN), st.booleans(), st.booleans()), max_size=60
)
RULES = st.builds(
    BreakerRule,
    drawdown_limit=st.floats(0.01, 1.0),
    cooldown_bars=st.none() | st.integers(1, 5),
    rearm_at=st.sampled_from(["rebase", "recovery"]),
    lifetime_limit=st.just(math.inf) | st.floats(0.1, 1.0),
    confirmations=st.integers(1, 3),
)
LEGAL = {
    ARMED: {ARMED, TRIPPED},
    TRIPPED: {TRIPPED, COOLING, LOCKED},
    COOLING: {COOLING, ARMED},
    LOCKED: {LOCKED},
}


@settings(max_examples=150, deadline=None, derandomize=True)
@given(VALUES, RULES)
def test_marks_never_fall_while_armed_and_only_legal_transitions_happen(values, rule):
    state = BreakerState()
    for value, flat, new_bar in [(100.0, False, True), *values]:
        before, state = state, step(state, value, rule, flat=flat, new_bar=new_bar)
        if before.status == ARMED and not flat:
            assert state.status in LEGAL[ARMED]
            assert not state.high_water_mark < before.high_water_mark
        elif before.status != ARMED:
            assert state.status in LEGAL[before.status]
        assert not state.lifetime_mark < before.lifetime_mark
        assert state.high_water_mark <= state.lifetime_mark
        assert 0 <= state.trips - before.trips <= 1
        assert state.final or not before.final
        if not math.isfinite(value):
            assert state.status == before.status or flat
            assert state.high_water_mark == before.high_water_mark


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.floats(1, 200), min_size=1, max_size=40), st.floats(0.01, 0.99))
def test_the_step_function_trips_where_the_vector_form_first_reaches_the_limit(values, limit):
    falls = drawdown(np.array(values))
    reached = np.flatnonzero(falls >= limit - 1e-12)
    statuses, _ = walk(values, BreakerRule(limit))
    first = statuses.index(TRIPPED) if TRIPPED in statuses else None
    assert first == (int(reached[0]) if len(reached) else None)


def test_the_mark_rises_again_after_a_rebase():
    """Below the highest mark ever, which is that of the lifetime limit."""
    state = rearm(BreakerState(status=TRIPPED, high_water_mark=100.0, lifetime_mark=100.0), 80.0)
    state = step(state, 90.0, BreakerRule())
    assert (state.high_water_mark, state.lifetime_mark) == (90.0, 100.0)
    assert step(state, 80.0, BreakerRule()).status == TRIPPED
