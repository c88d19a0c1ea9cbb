"""The guards of the whole account: their parameters, and how they read in words."""

import inspect
from dataclasses import fields

import pytest

from bt_risk import (
    AccountFloor,
    Consistency,
    MinimumTradingDays,
    ParameterError,
    Policy,
    ProfitTarget,
)

AMOUNT = "a fraction below 0.5, or an amount of currency above 100"
WHEN = "'session', or a time and a zone, such as '00:00 Europe/Prague'"
BAD = [
    (AccountFloor, {"amount": 10}, "amount", AMOUNT),
    (AccountFloor, {"amount": 0.5}, "amount", AMOUNT),
    (AccountFloor, {"amount": 1}, "amount", AMOUNT),
    (AccountFloor, {"amount": 0}, "amount", "positive and finite"),
    (AccountFloor, {"amount": -0.1}, "amount", "positive and finite"),
    (AccountFloor, {"amount": "10 %"}, "amount", "positive and finite"),
    (AccountFloor, {"mode": "trailing"}, "mode", "one of 'static', 'trailing_closed'"),
    (AccountFloor, {"amount": 0.1, "lock": 0.0}, "lock", "None where no floor trails"),
    (
        AccountFloor,
        {"amount": 0.1, "mode": "trailing_eod", "lock": float("inf")},
        "lock",
        "a finite number, or None",
    ),
    (AccountFloor, {"daily": 5}, "daily", AMOUNT),
    (AccountFloor, {"daily": 0.05, "daily_base": "equity"}, "daily_base", "one of 'initial'"),
    (
        AccountFloor,
        {"daily": 2_000, "daily_base": "reference"},
        "daily_base",
        "'initial' where daily is no fraction",
    ),
    (AccountFloor, {"daily_base": "reference"}, "daily_base", "'initial' where daily is no"),
    (AccountFloor, {"daily": 0.05, "reset": "midnight"}, "reset", WHEN),
    (AccountFloor, {"daily": 0.05, "reset": "00:00 Europe/Prag"}, "reset", "the name of a time"),
    (AccountFloor, {"daily": 0.05, "reference": "cash"}, "reference", "one of 'balance'"),
    (AccountFloor, {"daily": 0.05, "on_daily": "stop"}, "on_daily", "one of 'halt', 'pause'"),
    (AccountFloor, {"amount": 0.1, "on_daily": "pause"}, "on_daily", "'halt' where daily is None"),
    (AccountFloor, {"trigger": "low"}, "trigger", "one of 'close', 'intrabar'"),
    (AccountFloor, {"action": "halt"}, "action", "one of 'stop', 'pause'"),
    (AccountFloor, {"flatten": 1}, "flatten", "True or False"),
    (AccountFloor, {"confirmations": 0}, "confirmations", "a whole number of at least 1"),
    (AccountFloor, {"taper_to_floor": 50}, "taper_to_floor", "in (0, 1]"),
    (AccountFloor, {"initial_balance": 0}, "initial_balance", "positive and finite"),
    (AccountFloor, {"allow_extreme": 1}, "allow_extreme", "True or False"),
    (ProfitTarget, {"amount": 8}, "amount", AMOUNT),
    (ProfitTarget, {"of": "cash"}, "of", "one of 'balance', 'equity'"),
    (ProfitTarget, {"action": "halt"}, "action", "one of 'report', 'pause', 'stop'"),
    (ProfitTarget, {"flatten": "yes"}, "flatten", "True or False"),
    (ProfitTarget, {"confirmations": 1.5}, "confirmations", "a whole number of at least 1"),
    (ProfitTarget, {"initial_balance": -1}, "initial_balance", "positive and finite"),
    (MinimumTradingDays, {"days": 0}, "days", "a whole number of at least 1"),
    (MinimumTradingDays, {"reset": "17:00"}, "reset", WHEN),
    (Consistency, {"best_day_limit": 50}, "best_day_limit", "in (0, 1]"),
    (Consistency, {"target": 8}, "target", AMOUNT),
    (Consistency, {"action": "pause"}, "target", "given with action='pause'"),
    (Consistency, {"action": "stop"}, "action", "one of 'report', 'pause'"),
    (Consistency, {"flatten": 0}, "flatten", "True or False"),
    (Consistency, {"reset": None}, "reset", WHEN),
    (Consistency, {"initial_balance": 0.0}, "initial_balance", "positive and finite"),
]


@pytest.mark.parametrize(("kind", "values", "name", "constraint"), BAD)
def test_a_bad_parameter_is_refused_when_the_guard_is_built(kind, values, name, constraint):
    with pytest.raises(ParameterError) as caught:
        kind(**values)
    assert str(caught.value).startswith(f"{kind.__name__}: {name} must be {constraint}")


@pytest.mark.parametrize("kind", [AccountFloor, ProfitTarget, MinimumTradingDays, Consistency])
def test_every_parameter_is_tested_and_in_the_docstring(kind):
    names = {field.name for field in fields(kind)}
    assert names == {name for one, _, name, _ in BAD if one is kind}
    assert all(name in inspect.getdoc(kind) for name in names)


def test_what_can_never_act_is_not_asked():
    assert not AccountFloor().active
    assert not AccountFloor(float("inf")).active
    assert not ProfitTarget().active
    assert not Consistency(1.0).active
    assert AccountFloor(daily=0.05).active


def test_percent_can_be_meant_and_a_remedy_is_named():
    assert AccountFloor(0.6, allow_extreme=True).amount == 0.6
    assert AccountFloor(50, allow_extreme=True).amount == 50
    with pytest.raises(ParameterError, match=r"Write 0\.1 for 10 %"):
        AccountFloor(10)


@pytest.mark.parametrize(
    ("floor", "words"),
    [
        (
            AccountFloor(0.10, daily=0.05),
            "account floor: equity 10 % of the initial balance below it, and within a day 5 % of "
            "the initial balance below the balance at 00:00 Europe/Prague closes everything and "
            "ends the run",
        ),
        (
            AccountFloor(2_000, "trailing_eod", lock=0.0, action="pause"),
            "account floor: equity 2,000 below the highest balance at the end of a day, up to the "
            "initial balance closes everything and refuses entries until re-armed",
        ),
        (
            AccountFloor(2_500, "trailing_intraday", lock=100, flatten=False),
            "account floor: equity 2,500 below the highest equity, up to the initial balance and "
            "100 ends the run",
        ),
        (
            AccountFloor(daily=0.05, daily_base="reference", reference="higher", on_daily="pause"),
            "account floor: equity within a day 5 % of it below the higher of balance and equity "
            "at 00:00 Europe/Prague (which refuses entries until the next day) closes everything "
            "and ends the run",
        ),
    ],
)
def test_a_floor_in_words(floor, words):
    assert Policy(guards=[floor]).describe().splitlines()[-1] == words
