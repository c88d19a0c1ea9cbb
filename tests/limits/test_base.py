"""The limits one by one, against a book that answers what the test says."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bt_risk.errors import ParameterError
from bt_risk.limits.base import (
    Decision,
    NotionalLimit,
    Request,
    RiskPerTrade,
)
from bt_risk.limits.correlation import CorrelationLimit
from bt_risk.limits.exposure import ExposureLimit

NAN, INF = math.nan, math.inf


class Ledger:
    """A book with 100,000 of equity and what it is given in use."""

    def __init__(self, equity=100_000.0, used=0.0, scale=1.0, bets=()):
        self.equity, self.used, self.risk_scale, self.bets = equity, used, scale, bets
        self.asked = []
        self.exposure = self.correlations = self

    def of(self, instrument, side, unit):
        self.asked.append((unit, side))
        return self.used

    def of_owner(self, instrument, owner, side, unit):
        return self.of(instrument, side, unit)

    def of_side(self, side, unit):
        self.asked.append((unit, side))
        return self.used

    def all_within(self, instrument, side, model, limit):
        return False  # each pair must be asked

    def same_bets(self, instrument, side, model, downside):
        self.asked.append((model.window, model.min_periods))
        others, signed, counts = zip(*self.bets, strict=True) if self.bets else ([], [], [])
        self.instruments, count = others, len(others)
        return np.arange(count), np.ones(count), np.array(signed), np.array(counts)

    def below_zero(self, instruments, model):
        names = [one.name for one in instruments if one.name == "BELOW"]
        return f"{names[0]} is below zero" if names else ""

    def is_stale(self, instrument):
        return instrument.name == "ENDED"


def request(
    size=100.0, price=100.0, distance=4.0, side=1, multiplier=1.0, atr_distance=NAN, **facts
):
    instrument = SimpleNamespace(
        name="A",
        multiplier=multiplier,
        facts=facts,
        why_unknown=lambda: "no ATR yet",
        stop_distance=lambda: atr_distance,
    )
    return Request(instrument, side, size, price, distance)


def close_to(value):
    return pytest.approx(value, rel=1e-12)


# limit, request, book, allowed: 1 % of 100,000 at 4 a unit is 250
SIZES = [
    (RiskPerTrade(0.01), request(250), Ledger(), 250),
    (RiskPerTrade(0.01), request(250.001), Ledger(), 250),
    (RiskPerTrade(0.01), request(1000), Ledger(), 250),
    (RiskPerTrade(0.01), request(1000), Ledger(used=600.0), 100),
    (RiskPerTrade(0.01), request(1000), Ledger(used=1000.0), 0),
    (RiskPerTrade(0.01), request(1000), Ledger(used=5000.0), 0),
    (RiskPerTrade(0.01), request(1000, multiplier=10.0), Ledger(), 25),
    (RiskPerTrade(0.01), request(1000), Ledger(scale=0.5), 125),
    (RiskPerTrade(0.01), request(1000), Ledger(scale=0.0), 0),
    (RiskPerTrade(0.01), request(1000, risk_limit=0.02), Ledger(scale=0.5), 250),
    (RiskPerTrade(None), request(1000, risk_limit=0.02), Ledger(scale=0.25), 125),
    (RiskPerTrade(0.01), request(1000, risk_limit=0.02), Ledger(), 500),
    (RiskPerTrade(0.01), request(1000, distance=0.0), Ledger(), 1000),
    (NotionalLimit(1.0), request(1000), Ledger(), 1000),
    (NotionalLimit(1.0), request(1001), Ledger(), 1000),
    (NotionalLimit(0.5), request(1000), Ledger(used=20_000.0), 300),
    (NotionalLimit(2.0), request(3000), Ledger(), 2000),
    (NotionalLimit(0.5), request(1000, multiplier=50.0), Ledger(), 10),
    (ExposureLimit(0.05), request(2000), Ledger(), 1250),
    (ExposureLimit(0.05), request(2000), Ledger(used=3000.0), 500),
    (ExposureLimit(0.05, on_exposure="reject"), request(1250), Ledger(), 1250),
    (ExposureLimit(0.05, on_exposure="reject"), request(1251), Ledger(), 0),
    (ExposureLimit(0.05, "notional"), request(2000), Ledger(), 50),
    (ExposureLimit(0.05, "notional"), request(2000), Ledger(used=3000.0), 20),
    # what is not known is not safe
    (RiskPerTrade(0.01), request(1, distance=NAN), Ledger(), 0),
    (RiskPerTrade(0.01), request(1), Ledger(used=NAN), 0),
    (RiskPerTrade(0.01), request(1), Ledger(equity=NAN), 0),
    (RiskPerTrade(0.01), request(1), Ledger(equity=INF), 0),
    (RiskPerTrade(0.01), request(1), Ledger(equity=0.0), 0),
    (RiskPerTrade(0.01), request(1), Ledger(equity=-5.0), 0),
    (NotionalLimit(1.0), request(1, price=NAN), Ledger(), 0),
    (ExposureLimit(0.05), request(1), Ledger(used=NAN), 0),
]


@pytest.mark.parametrize(("limit", "asked", "book", "allowed"), SIZES)
def test_what_each_limit_allows(limit, asked, book, allowed):
    decision = limit.review(asked, book)
    assert decision.size == close_to(allowed)
    assert bool(decision.reason) == (allowed < asked.size)
    if decision.reason:
        assert decision.rule == type(limit).__name__
        assert decision.reason.startswith(decision.rule + ": ")


def test_a_decision_names_the_rule_the_measured_value_and_the_limit():
    decision = RiskPerTrade(0.01).review(request(1000), Ledger(used=500.0))
    assert decision.reason == "RiskPerTrade: 0.0450 of equity > risk_limit 0.0100"
    assert (decision.measured, decision.limit) == (close_to(0.045), 0.01)


def test_a_size_within_rounding_of_the_limit_passes_whole():
    assert RiskPerTrade(0.01).review(request(250 * (1 + 1e-12)), Ledger()).reason == ""


def test_what_is_unknown_is_said():
    reason = RiskPerTrade(0.01).review(request(1, distance=NAN), Ledger()).reason
    assert reason == "RiskPerTrade: risk_limit cannot be judged: no ATR yet"
    reason = RiskPerTrade(0.01).review(request(distance=NAN, atr_distance=4.0), Ledger()).reason
    assert reason.endswith("its stop is not on the losing side of its price")
    reason = ExposureLimit(0.05).review(request(1), Ledger(used=NAN)).reason
    assert reason.endswith("a position on that side has no known risk")


@pytest.mark.parametrize("side", [1, -1])
def test_each_limit_asks_the_book_about_its_own_unit_and_side(side):
    book = Ledger()
    limits = (RiskPerTrade(), NotionalLimit(), ExposureLimit(), ExposureLimit(0.05, "notional"))
    for limit in limits:
        limit.review(request(side=side), book)
    assert book.asked == [(unit, side) for unit in ("trade", "notional", "risk", "notional")]


# -- correlation ---------------------------------------------------------------------------------


def bet(name, signed, count=252):
    return SimpleNamespace(name=name), signed, count


@pytest.mark.parametrize(
    ("bets", "options", "allowed"),
    [
        ([], {}, 100),
        ([bet("B", 0.7)], {}, 100),
        ([bet("B", 0.7 + 1e-12)], {}, 100),
        ([bet("B", 0.7001)], {}, 0),
        ([bet("B", -0.99)], {}, 100),
        ([bet("B", 0.2), bet("C", 0.8)], {}, 0),
        ([bet("B", 0.9)], {"on_correlation": "trim"}, 80),
        ([bet("B", 0.9), bet("C", 0.95)], {"on_correlation": "trim"}, 80),
        ([bet("B", 0.9)], {"on_correlation": "trim", "correlated_scale": 0.3}, 30),
        ([bet("B", NAN, 37)], {}, 0),
        ([bet("B", NAN, 37)], {"on_correlation": "trim"}, 0),
        ([bet("B", NAN, 37)], {"unknown": "allow"}, 100),
        ([bet("B", NAN, 37), bet("C", 0.9)], {"unknown": "allow"}, 0),
        ([bet("B", 0.9)], {"correlation_limit": 0.95}, 100),
    ],
)
def test_what_the_correlation_limit_allows(bets, options, allowed):
    decision = CorrelationLimit(**options).review(request(100), Ledger(bets=bets))
    assert decision.size == close_to(allowed)
    assert bool(decision.reason) == (allowed < 100)


def test_the_worst_match_is_named():
    bets = [bet("B", 0.8), bet("C", 0.95), bet("D", 0.9)]
    decision = CorrelationLimit().review(request(), Ledger(bets=bets))
    assert decision.reason == (
        "CorrelationLimit: signed correlation with C 0.9500 > correlation_limit 0.7000"
    )
    assert decision.measured == 0.95


@pytest.mark.parametrize(
    ("name", "count", "words"),
    [
        ("B", 37, "37 of 60 common returns"),
        ("B", 60, "one of the two did not move"),
        ("BELOW", 37, "BELOW is below zero"),  # to wait for 23 more would not help
        ("BELOW", 60, "BELOW is below zero"),
    ],
)
def test_unknown_says_why(name, count, words):
    decision = CorrelationLimit().review(request(), Ledger(bets=[bet(name, NAN, count)]))
    assert decision.reason == f"CorrelationLimit: correlation with {name} unknown: {words}"


def test_the_window_is_asked_for():
    book = Ledger()
    CorrelationLimit(window=100, min_periods=20).review(request(), book)
    assert book.asked == [(100, 20)]


# -- all of them ---------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, INF])
@pytest.mark.parametrize("kind", [RiskPerTrade, NotionalLimit, ExposureLimit, CorrelationLimit])
def test_none_and_infinity_switch_a_limit_off(kind, value):
    assert not kind(value).active
    assert kind(0.4).active


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.sampled_from(
        [
            RiskPerTrade(0.01),
            NotionalLimit(0.7),
            ExposureLimit(0.05),
            ExposureLimit(0.05, "notional"),
            ExposureLimit(0.05, on_exposure="reject"),
        ]
    ),
    st.floats(1e-6, 1e9),
    st.floats(0.01, 1e5),
    st.floats(0, 1e4) | st.just(NAN),
    st.floats(0, 1e7) | st.just(NAN),
    st.sampled_from([NAN, 0.0, -1e6]) | st.floats(1e-6, 1e9),
)
def test_an_answer_lies_between_nothing_and_the_request_and_keeps_the_limit(
    limit, size, price, distance, used, equity
):
    asked = request(size, price, distance)
    decision = limit.review(asked, Ledger(equity, used))
    assert 0 <= decision.size <= size
    if decision.size > 0:
        risk = isinstance(limit, RiskPerTrade) or getattr(limit, "unit", "") == "risk"
        per_unit = asked.unit_risk if risk else asked.unit_notional
        assert used + decision.size * per_unit <= limit.limit * equity * (1 + 2e-9)


@pytest.mark.parametrize(
    ("kind", "given", "param"),
    [
        (RiskPerTrade, {"risk_limit": 1.01}, "risk_limit"),
        (RiskPerTrade, {"risk_limit": 0}, "risk_limit"),
        (RiskPerTrade, {"risk_limit": NAN}, "risk_limit"),
        (NotionalLimit, {"notional_limit": -1}, "notional_limit"),
        (ExposureLimit, {"exposure_limit": 0}, "exposure_limit"),
        (ExposureLimit, {"exposure_unit": "gross"}, "exposure_unit"),
        (ExposureLimit, {"on_exposure": "halve"}, "on_exposure"),
        (CorrelationLimit, {"correlation_limit": 1.01}, "correlation_limit"),
        (CorrelationLimit, {"window": 59}, "window"),
        (CorrelationLimit, {"min_periods": 1}, "min_periods"),
        (CorrelationLimit, {"on_correlation": "halve"}, "on_correlation"),
        (CorrelationLimit, {"correlated_scale": 1.0}, "correlated_scale"),
        (CorrelationLimit, {"unknown": "maybe"}, "unknown"),
    ],
)
def test_a_bad_parameter_raises_with_the_name_of_the_limit(kind, given, param):
    with pytest.raises(ParameterError) as caught:
        kind(**given)
    assert (caught.value.component, caught.value.param) == (kind.__name__, param)


def test_decisions_are_equal_where_every_field_is():
    """Python 3.13 compares the fields of a dataclass one by one, and NaN is not equal to itself."""
    fields = {"size": 2.0, "reason": "why", "rule": "Rule", "measured": NAN, "limit": NAN}
    one = Decision(**fields)
    assert one == Decision(**fields)
    assert hash(one) == hash(Decision(**fields))
    for name, other in {"size": 1.0, "reason": "", "rule": "", "measured": 0, "limit": 0}.items():
        assert one != Decision(**(fields | {name: other}))
    assert one != tuple(fields.values())


def test_a_decision_without_a_reason_is_all_of_it():
    assert Decision(5.0) == Decision(5.0, "")
    assert math.isnan(Decision(5.0).measured)
