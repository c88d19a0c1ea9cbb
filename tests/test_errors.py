"""The errors say who, what, the rule, the value and the remedy; the checks raise them."""

import math
import pickle

import numpy as np
import pytest

from bt_risk import errors
from bt_risk.errors import (
    BtRiskError,
    DataError,
    ParameterError,
    StateError,
    check_choice,
    check_fraction,
    check_limit,
    check_output,
    check_positive,
    check_whole,
    is_number,
)

NAN, INF = math.nan, math.inf


def test_the_message_has_the_documented_form():
    error = ParameterError("HalfKellySizer", "kelly_scale", "in (0, 1]", 50, "Half is 0.5.")
    assert str(error) == "HalfKellySizer: kelly_scale must be in (0, 1]; got 50. Half is 0.5."


def test_without_a_remedy_it_ends_with_the_value():
    assert str(ParameterError("C", "p", "good", "bad")) == "C: p must be good; got 'bad'."


@pytest.mark.parametrize("kind", [ParameterError, DataError, StateError])
def test_all_errors_have_one_root(kind):
    assert issubclass(kind, BtRiskError)


@pytest.mark.parametrize("kind", [ParameterError, DataError])
def test_bad_values_are_value_errors_too(kind):
    assert issubclass(kind, ValueError)


def test_a_parameter_error_comes_back_whole_from_another_process():
    error = ParameterError("C", "p", "good", 3.5, "Do.")
    back = pickle.loads(pickle.dumps(error))
    assert (str(back), back.component, back.param, back.value) == (str(error), "C", "p", 3.5)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, True),
        (0.5, True),
        (-INF, True),
        (np.float64(2), True),
        (np.int64(2), True),
        (NAN, False),
        (True, False),
        (np.float64("nan"), False),
        ("1", False),
        (None, False),
        ([1], False),
    ],
)
def test_what_is_a_number(value, expected):
    assert is_number(value) is expected


GOOD, BAD = "good", "bad"
CHECKS = [
    (check_fraction, 0.5, {}, GOOD),
    (check_fraction, 1, {}, GOOD),
    (check_fraction, 5e-324, {}, GOOD),
    (check_fraction, 0, {}, BAD),
    (check_fraction, 0, {"zero": True}, GOOD),
    (check_fraction, -1e-12, {"zero": True}, BAD),
    (check_fraction, 1, {"one": False}, BAD),
    (check_fraction, math.nextafter(1, 0), {"one": False}, GOOD),
    (check_fraction, math.nextafter(1, 2), {}, BAD),
    (check_fraction, NAN, {}, BAD),
    (check_fraction, True, {}, BAD),
    (check_fraction, "0.5", {}, BAD),
    (check_positive, 1e-300, {}, GOOD),
    (check_positive, 0, {}, BAD),
    (check_positive, 0, {"zero": True}, GOOD),
    (check_positive, -1, {"zero": True}, BAD),
    (check_positive, INF, {}, BAD),
    (check_positive, NAN, {"zero": True}, BAD),
    (check_whole, 1, {}, GOOD),
    (check_whole, 2.0, {}, GOOD),
    (check_whole, 0, {}, BAD),
    (check_whole, 0, {"low": 0}, GOOD),
    (check_whole, 1.5, {}, BAD),
    (check_whole, INF, {}, BAD),
    (check_whole, NAN, {}, BAD),
    (check_whole, True, {}, BAD),
    (check_limit, 0.1, {}, GOOD),
    (check_limit, 3, {}, GOOD),
    (check_limit, 0, {}, BAD),
    (check_limit, -0.1, {}, BAD),
    (check_limit, NAN, {}, BAD),
    (check_limit, 1, {"fraction": True}, GOOD),
    (check_limit, 1.01, {"fraction": True}, BAD),
    (check_limit, INF, {"fraction": True}, GOOD),
]


@pytest.mark.parametrize(("check", "value", "options", "verdict"), CHECKS)
def test_each_check_at_its_borders(check, value, options, verdict):
    if verdict == GOOD:
        assert check("C", "p", value, **options) == value
    else:
        with pytest.raises(ParameterError) as caught:
            check("C", "p", value, **options)
        assert (caught.value.component, caught.value.param) == ("C", "p")
        assert caught.value.value is value


def test_a_whole_number_comes_back_as_int():
    assert type(check_whole("C", "p", 3.0)) is int


def test_no_limit_is_infinite():
    assert check_limit("C", "p", None) == INF


def test_a_choice_lists_what_there_is():
    assert check_choice("C", "p", "a", ("a", "b")) == "a"
    with pytest.raises(ParameterError, match="one of 'a', 'b'; got 'c'"):
        check_choice("C", "p", "c", ("a", "b"))


def test_the_path_of_an_output_is_checked_before_any_work(tmp_path):
    good = tmp_path / "new.csv"
    assert check_output("C", "p", str(good)) == good
    good.write_text("old")
    assert check_output("C", "p", good) == good
    wrong = {
        tmp_path: "That is a folder: name a file in it.",
        tmp_path / "none" / "new.csv": f"There is no folder {tmp_path / 'none'}: make it first.",
        "": "",
        5: "",
    }
    for path, remedy in wrong.items():
        with pytest.raises(ParameterError, match="C: p must be the path of a file") as caught:
            check_output("C", "p", path)
        assert caught.value.remedy == remedy


def test_a_file_that_may_not_be_written_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(errors.os, "access", lambda path, mode: path != tmp_path)  # not as root
    with pytest.raises(ParameterError, match="You may not write there"):
        check_output("C", "p", tmp_path / "new.csv")


def test_what_is_public_is_the_error_classes():
    assert errors.__all__ == sorted(errors.__all__)
    assert {"BtRiskError", "DataError", "ParameterError", "StateError"} <= set(errors.__all__)
