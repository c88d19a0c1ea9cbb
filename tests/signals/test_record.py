"""One record of a signal: what is read, and what is refused and never put right in silence."""

import contextlib
import datetime as dt
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bt_risk.signals.record import RefusedSignal, parse_signal, same_symbol, to_plain

NOON = 1_704_110_400_000_000  # 2024-01-01T12:00Z
AT = "2024-01-01T12:00:00Z"


def read(received=None, **values):
    return parse_signal({"published": AT, **values}, received)


@pytest.mark.parametrize(
    ("values", "score", "direction", "conviction"),
    [
        ({"score": 60}, 60.0, 1, 0.6),
        ({"score": "-40.5"}, -40.5, -1, 0.405),
        ({"score": 0}, 0.0, 0, 0.0),
        ({"score": -100, "conviction": 0.2}, -100.0, -1, 0.2),
        ({"direction": "sell", "conviction": 0.5}, -50.0, -1, 0.5),
        ({"ACTION": "Buy"}, math.nan, 1, math.nan),
        ({"side": -1.0}, math.nan, -1, math.nan),
        ({"score": 12, "direction": "LONG"}, 12.0, 1, 0.12),
        ({"score": float("nan"), "direction": 0}, math.nan, 0, math.nan),
    ],
)
def test_score_direction_and_conviction_by_hand(values, score, direction, conviction):
    found = read(**values)
    assert (found.score, found.conviction) == pytest.approx((score, conviction), nan_ok=True)
    assert found.direction == direction


@pytest.mark.parametrize(
    ("value", "micros"),
    [
        (AT, NOON),
        ("2024-01-01 12:00", NOON),  # without a zone: UTC
        ("2024-01-01T13:00:00+01:00", NOON),
        (1704110400, NOON),
        ("1704110400.5", NOON + 500_000),
        (1704110400000, NOON),  # milliseconds
        (dt.datetime(2024, 1, 1, 12), NOON),
        ("2023-12-31", NOON - 43_200_000_000),  # a date counts from its end on
    ],
)
def test_times_are_read_as_utc(value, micros):
    assert parse_signal({"time": value, "score": 1}).published == micros


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"score": 100.0001}, "score is out of range"),
        ({"score": -101}, "score is out of range"),
        ({"score": math.inf}, "score is no number"),
        ({"score": "nan"}, "score is no number"),
        ({"score": True}, "score is no number"),
        ({"score": [50]}, "score is no number"),
        ({"score": "1" * 400}, "score is no number"),
        ({"score": 10**400}, "score is no number"),
        ({"score": 50, "conviction": 50}, "conviction is out of range"),
        ({"score": 50, "conviction": -0.1}, "conviction is out of range"),
        ({"score": 50, "direction": "short"}, "direction contradicts score"),
        ({"score": 0, "direction": "long"}, "direction contradicts score"),
        ({"direction": "sideways"}, "direction is unknown"),
        ({"direction": True}, "direction is unknown"),
        ({}, "neither score nor direction"),
        ({"conviction": 0.5}, "neither score nor direction"),
        ({"score": 5, "published": "soon"}, "published is no time"),
        ({"score": 5, "published": True}, "published is no time"),
        ({"score": 5, "published": 20240101}, "published is out of range"),
        ({"score": 5, "published": "1024-01-01T00:00Z"}, "published is out of range"),
        ({"score": 5, "published": 1e300}, "published is no time"),
        ({"score": 5, "symbol": "B" * 201}, "symbol is no text"),
        ({"score": 5, "symbol": "a\nb"}, "symbol is no text"),
        ({"score": 5, "id": {"a": 1}}, "id is no text"),
    ],
)
def test_what_is_out_of_range_is_refused(values, kind):
    with pytest.raises(RefusedSignal) as caught:
        read(**values)
    assert caught.value.kind == kind


def test_a_record_without_a_time_has_that_of_its_receipt_and_none_without_either():
    assert parse_signal({"score": 1}, NOON).published == NOON
    with pytest.raises(RefusedSignal, match="no published time"):
        parse_signal({"score": 1})


def test_a_provider_s_clock_may_be_five_seconds_ahead_and_no_more():
    assert read(NOON - 5_000_000, score=1).received == NOON - 5_000_000
    with pytest.raises(RefusedSignal, match="published after it was received"):
        read(NOON - 5_000_001, score=1)
    with pytest.raises(RefusedSignal, match="published after it was received"):
        parse_signal({"published": AT, "score": 1, "received": "2024-01-01T11:59:00Z"})


def test_without_an_id_equal_content_has_an_equal_one():
    one, same, other = (read(score=score).id for score in (5, 5.0, 6))
    assert one == same != other
    assert read(score=5, id=17).id == "17" == read(score=6, id=17.0).id


def test_names_are_equal_without_regard_to_case_and_an_empty_one_is_any():
    assert same_symbol("btc", "BTC")
    assert same_symbol("", "BTC")
    assert not same_symbol("BTC", "BTCUSDT")


SIGNALS = st.builds(
    dict,
    published=st.integers(-(10**15), 10**16).map(lambda micros: micros / 1e6)
    | st.datetimes(dt.datetime(1980, 1, 1), dt.datetime(2199, 1, 1)).map(str),
    score=st.floats() | st.none() | st.text(max_size=4),
    direction=st.sampled_from([None, 1, -1, 0, "buy", "sell", "x"]),
    conviction=st.floats(-0.5, 1.5) | st.none(),
    symbol=st.text(max_size=5),
)


@given(SIGNALS)
def test_what_is_read_is_in_range_and_comes_back_from_its_line(values):
    try:
        found = parse_signal(values)
    except RefusedSignal:
        return
    assert found.direction in (-1, 0, 1)
    assert math.isnan(found.score) or -100 <= found.score <= 100
    assert math.isnan(found.score) or found.direction == (found.score > 0) - (found.score < 0)
    assert math.isnan(found.conviction) or 0 <= found.conviction <= 1
    again = parse_signal(json.loads(json.dumps(to_plain(found))))
    assert repr(again) == repr(found)


def test_a_direction_without_any_conviction_is_none():
    found = parse_signal({"published": "2024-01-02", "direction": "buy", "conviction": 0.0})
    assert (found.score, found.direction) == (0.0, 0)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(["time", "score", "id", "symbol", "action"]), JSON) | JSON)
def test_anything_else_is_refused_and_raises_nothing_else(values):
    with contextlib.suppress(RefusedSignal):
        assert parse_signal(values, NOON).received == NOON
