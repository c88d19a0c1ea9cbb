"""Expressions: what they mean, what is no expression, and that nothing of them is executed."""

import contextlib
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bt_risk.errors import ParameterError
from bt_risk.rules.expressions import (
    Call,
    Line,
    Number,
    Past,
    leaves,
    parse,
    value_of,
    values_of,
)

LEAVES = {"close": 10.0, "open": 4.0, "high": 12.0, "low": -3.0, "volume": 0.0}


def value(text, values=LEAVES):
    """Return the value of an expression of lines alone."""
    return value_of(parse("Screener", "rank", text), 0, lambda node, _: values[node.name])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("close", 10.0),
        ("Close", 10.0),
        ("-close", -10.0),
        ("+close - -open", 14.0),
        ("1 + 2 * close / open", 6.0),
        ("(close - low) / (high - low)", 13 / 15),
        ("abs(low) + 1", 4.0),
        ("close > open", 1.0),
        ("close < open", 0.0),
        ("low < open < close <= 10", 1.0),
        ("low < open < open", 0.0),
        ("close == 10 and not open != 4", 1.0),
        ("close > 11 or volume == 0", 1.0),
        ("close / volume", math.nan),
        ("(close / volume > 1) or close > 0", math.nan),  # unknown is not safe
        ("volume / volume > 0", math.nan),
        ("1e308 * close * close", math.inf),
    ],
)
def test_the_value_of_an_expression(text, expected):
    assert value(text) == pytest.approx(expected, nan_ok=True)


SYMBOLS = ("+", "-", "*", "/", ">", ">=", "<", "<=", "==", "!=", "and", "or")
ODD = st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0, 2.5, -3.0, 1e308, 5e-324])


def combined(parts):
    two = st.tuples(parts, st.sampled_from(SYMBOLS), parts)
    one = st.tuples(st.sampled_from(["-", "+", "not ", "abs"]), parts)
    past = st.tuples(parts, st.integers(0, 4))
    return (
        two.map(lambda t: f"({t[0]} {t[1]} {t[2]})")
        | one.map(lambda t: f"({t[0]}({t[1]}))")
        | past.map(lambda t: f"abs({t[0]})(-{t[1]})")
        | st.tuples(parts, parts, parts).map(lambda t: f"({t[0]} < {t[1]} <= {t[2]})")
    )


TEXTS = st.recursive(st.sampled_from(["close", "open", "volume", "0", "2"]), combined, max_leaves=8)


@given(TEXTS, st.lists(st.tuples(ODD, ODD, ODD), min_size=6, max_size=6), st.integers(-3, 3))
def test_all_bars_at_once_have_the_values_of_each(text, rows, start):
    node = parse("Screener", "rank", text)
    columns = dict(zip(("close", "open", "volume"), zip(*rows, strict=True), strict=True))

    def at(node, place):
        return columns[node.name][place] if place >= 0 else math.nan

    def at_all(node, start, count):
        return np.array([at(node, place) for place in range(start, start + count)])

    each = np.array([value_of(node, start + k, at) for k in range(3)])
    at_once = values_of(node, start, 3, at_all)
    np.testing.assert_array_equal(at_once, each)
    known = ~np.isnan(each)
    np.testing.assert_array_equal(np.signbit(at_once[known]), np.signbit(each[known]))


def test_an_indicator_has_lines_then_numbers_then_names():
    call = parse("Screener", "rank", "talib.BBANDS(close, 20, nbdevup=2).lowerband")
    assert isinstance(call, Call)
    assert (call.name, call.source, call.output) == ("BBANDS", "talib", "lowerband")
    assert [node.text for node in call.inputs] == ["close"]
    assert call.numbers == (20.0,)
    assert call.named == (("nbdevup", 2.0),)


def test_what_an_indicator_is_computed_from_comes_before_it():
    tree = parse("Screener", "rank", "ema(rsi(14) - close, 9) / atr(14)(-5)")
    assert [node.text for node in leaves(tree)] == [
        "rsi(14)",
        "close",
        "ema(rsi(14) - close, 9)",
        "atr(14)",
    ]


def test_a_value_of_some_bars_ago():
    assert parse("Screener", "rank", "close(-3)") == Past("close(-3)", Line("close", "close"), 3)
    seen = []
    value_of(parse("Screener", "rank", "close(-3)"), 7, lambda node, place: seen.append(place))
    assert seen == [4]


def test_other_lines_of_a_data_feed_have_their_names():
    assert parse("Screener", "rank", "pe", ["close", "pe"]) == Line("pe", "pe")
    with pytest.raises(ParameterError, match="pe is no line; those of it are close, open"):
        parse("Screener", "rank", "pe", ["close", "open"])


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "got ''"),
        (None, "got None"),
        (14, "got 14"),
        ("rsi(14", "'(' was never closed"),
        ("rsi 14", "Invalid syntax"),
        ("clsoe", "Did you mean 'close'"),
        ("close(1)", "what comes later is not known"),
        ("close(-1.5)", "how many bars ago"),
        ("close(-1, -2)", "how many bars ago"),
        ("close(open)", "how many bars ago"),
        ("close(ago=-1)", "how many bars ago"),
        ("rsi(14)(1)", "what comes later is not known"),
        ("rsi(14, close)", "lines come first"),
        ("rsi(period=close)", "must be a name and a number"),
        ("rsi(**close)", "must be a name and a number"),
        ("rsi(*close)", "is not possible in it"),
        ("abs(close, 1)", "takes one value"),
        ("abs()", "takes one value"),
        ("True", "is no number"),
        ("1j * close", "is no number"),
        ("'close'", "is no number"),
        ("f'{close}'", "is not possible in it"),
        ("close ** 2", "is not possible in it"),
        ("close // 2", "is not possible in it"),
        ("close % 2", "is not possible in it"),
        ("close @ open", "is not possible in it"),
        ("~close", "is not possible in it"),
        ("close in open", "is not possible in it"),
        ("close is open", "is not possible in it"),
        ("close if open else high", "is not possible in it"),
        ("lambda: close", "is not possible in it"),
        ("[close]", "is not possible in it"),
        ("close[0]", "is not possible in it"),
        ("close.array", "is not possible in it"),
        ("close(-1).array", "is not possible in it"),
        ("(x := 1)", "is not possible in it"),
        ("[x for x in close]", "is not possible in it"),
        ("a.b.c(1)", "is not possible in it"),
        ("1e999 * close", "is too large"),
        ("9" * 400, "is too large"),
        ("-" * 60 + "close", "too many parts in each other"),
        ("(" * 300 + "close" + ")" * 300, "Too many nested parentheses"),
        ("close +" * 300 + "close", "It may have 1000 characters"),
        ("close\0", "null bytes"),
        ("close; open", "Invalid syntax"),
        ("import os", "Invalid syntax"),
    ],
)
def test_what_is_no_expression_says_why(text, part):
    with pytest.raises(ParameterError) as raised:
        parse("Screener", "rank", text)
    assert str(raised.value).startswith("Screener: rank must be an expression such as rsi(14), ")
    assert part in str(raised.value)


ATTACKS = (
    "__import__('pathlib').Path({path!r}).touch()",
    "open({path!r}, 'w')",
    "exec(\"open({path!r}, 'w')\")",
    "eval('1')",
    "(lambda: open({path!r}, 'w'))()",
    "[c for c in ().__class__.__base__.__subclasses__()]",
    "rsi.__globals__",
    "rsi(14).__class__",
    "bt.__loader__(14)",
    "os.system(14)",
    "close(-1).__class__",
    "rsi(period=open({path!r}, 'w'))",
)


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_is_executed(attack, tmp_path):
    path = tmp_path / "made"
    try:
        tree = parse("Screener", "rank", attack.format(path=str(path)))
    except ParameterError:
        pass
    else:  # names are looked up among the indicators alone, later
        assert isinstance(tree, Call)
    assert not path.exists()


WORDS = """close open rsi atr 1 14 0.5 -1 1e400 ( ) (-1) (14) , . + - * / ** < <= == and or not
abs( bt. talib. = period= [ ] { } ' " # : lambda __class__ \\ \0 \u00e9 \u0660 ; @ := ! % ~"""
PIECES = st.sampled_from([*WORDS.split(), " ", "\n"])


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=12).map("".join) | st.text(max_size=30))
@example("close" + "(-1)" * 20)
@example("-" * 990 + "1")
def test_every_text_is_an_expression_or_a_parameter_error(text):
    with contextlib.suppress(ParameterError):
        value_of(parse("Screener", "rank", text), 0, lambda *_: 1.0)


NUMBERS = st.integers(-3, 3).map(str) | st.sampled_from(["close", "open", "low", "volume"])


OPERATORS = ["+", "-", "*", "/", "<", ">=", "=="]


def _binary(parts):
    return st.builds("({} {} {})".format, parts, st.sampled_from(OPERATORS), parts)


@settings(max_examples=150, deadline=None)
@given(st.recursive(NUMBERS, lambda parts: _binary(parts) | parts.map("-{}".format), max_leaves=12))
def test_arithmetic_is_that_of_python(text):
    try:
        expected = float(eval(text, {}, LEAVES))  # an oracle, on a text of this test
    except ZeroDivisionError:
        expected = math.nan
    if math.isnan(value(text)):
        assert math.isnan(expected) or "/" in text
    else:
        assert value(text) == expected


def test_a_number_keeps_its_text():
    assert parse("Screener", "rank", "2.50") == Number("2.5", 2.5)
