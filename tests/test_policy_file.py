"""A policy as a TOML file and in words."""

import logging
import math

import backtrader as bt
import pytest
from helpers.scenarios import cerebro, random_walk
from hypothesis import given, settings
from hypothesis import strategies as st

import bt_risk
from bt_risk import ParameterError, Policy


def written(tmp_path, text):
    path = tmp_path / "risk.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_policy_comes_back_from_its_file_as_it_went(tmp_path):
    policy = Policy(
        drawdown_limit=0.2,
        action="pause",
        cooldown_bars=60,
        history=(1.5, -1.0),
        instruments={"BTC": {"step": 1e-5, "min_notional": 10}},
    )
    path = tmp_path / "risk.toml"
    text = policy.to_toml(path)
    assert path.read_text(encoding="utf-8") == text
    assert Policy.from_toml(path) == policy


def test_no_limit_is_written_as_inf_and_stays_no_limit(tmp_path):
    path = tmp_path / "risk.toml"
    Policy(risk_limit=None, lifetime_limit=None).to_toml(path)
    assert "risk_limit = inf" in path.read_text(encoding="utf-8")
    again = Policy.from_toml(path)
    assert again.risk_limit is None
    assert not any(limit.active for limit in again.limits() if limit.name == "RiskPerTrade")


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    limit=st.floats(0.001, 0.999),
    bars=st.integers(1, 500),
    action=st.sampled_from(["stop", "pause"]),
)
def test_every_policy_survives_its_file(tmp_path_factory, limit, bars, action):
    path = tmp_path_factory.mktemp("policy") / "risk.toml"
    policy = Policy(drawdown_limit=limit, atr_period=bars, action=action)
    policy.to_toml(path)
    assert Policy.from_toml(path) == policy


def test_a_policy_of_extreme_limits_survives_its_file(tmp_path):
    policy = Policy(risk_limit=1, allow_extreme=True)
    text = policy.to_toml(tmp_path / "risk.toml")
    assert "allow_extreme = true" in text
    assert "allow_extreme" not in Policy().to_toml()
    assert Policy.from_toml(tmp_path / "risk.toml") == policy


WRONG = {
    "drawdown_limit = 10": "drawdown_limit must be in (0, 1], or None for no limit; got 10.",
    "risk_limit = 1.5": "risk_limit must be in (0, 1], or None for no limit; got 1.5.",
    "risk_limit = true": "risk_limit must be positive, or None for no limit; got True.",
    'atr_period = "14"': "atr_period must be a whole number of at least 1; got '14'.",
    "flatten = 1": "flatten must be True or False; got 1.",
    'action = "halt"': "action must be one of 'stop', 'pause'; got 'halt'.",
    "drawdwn = 0.1": "a key must be one of costs_in_risk, ",
    'instruments.BTC.steps = 1\naction = "stop"': "instruments['BTC'] must be facts named step",
    "history = [1, nan]": "history must be finite multiples of the risk taken (R)",
    "group_limit = 0.1": "groups must be given with group_limit",
    "[groups]\nmajors = 5": "groups must be a dict of lists of data names",
    'correlation_estimator = "mean"': "correlation_estimator must be one of 'rolling', 'ewm'",
    "history = 5": "history must be a list of numbers; got 5.",
    "risk_limit 0.01": "the file must be TOML (",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_in_a_file_is_one_error_with_file_key_constraint_and_value(tmp_path, text):
    path = written(tmp_path, text)
    with pytest.raises(ParameterError) as caught:
        Policy.from_toml(path)
    assert str(caught.value).startswith(f"{path}: {WRONG[text]}")
    assert "\n" not in str(caught.value)


def test_ten_for_ten_percent_says_how_to_write_it(tmp_path):
    with pytest.raises(ParameterError, match=r"Ratios are fractions: 2 % is 0\.02\."):
        Policy.from_toml(written(tmp_path, "drawdown_limit = 10"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("drawdwn_limit = 0.1", "Did you mean drawdown_limit?"),
        ("[policy]\nrisk_limit = 0.01", "got 'policy'. Keys are at the top level."),
    ],
)
def test_a_key_that_there_is_not_comes_with_what_may_have_been_meant(tmp_path, text, said):
    with pytest.raises(ParameterError) as caught:
        Policy.from_toml(written(tmp_path, text))
    assert str(caught.value).endswith(said)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ParameterError, match="an existing file; got '.*nowhere.toml'"):
        Policy.from_toml(tmp_path / "nowhere.toml")


def test_every_rule_is_described_with_its_unit():
    assert Policy().describe().splitlines() == [
        "risk per trade: a position loses at most 1 % of equity at its stop",
        "size: 0.5 x Kelly of the last 100 trades, at most 2 % of equity at risk",
        "stop: 2 x ATR(14) behind the close, intrabar",
        "one position: worth at most 100 % of equity",
        "one direction: at most 5 % of equity at the stops",
        "correlation: at most 0.7 with what is held on the same side of the bet, over 252 bars",
        "drawdown: 10 % below the high-water mark closes everything and ends the run",
    ]


def test_limits_that_were_asked_for_are_described_too():
    policy = Policy(
        gross_limit=1.5,
        net_limit=0.5,
        position_limit=0.2,
        groups={"majors": ["BTC", "ETH"]},
        group_limit=0.3,
        exposure_unit="notional",
        volatility_limit=0.15,
        correlation_estimator="ewm",
        halflife=63,
        multi_bar=5,
        downside=True,
        hysteresis=0.1,
    )
    lines = policy.describe().splitlines()
    assert lines[5].endswith(
        "over 252 bars, weights that halve every 63 of them, returns of 5 bars, of falls where it "
        "is worse, released 0.1 below"
    )
    assert lines[6:11] == [
        "long and short together: at most 150 % of equity in positions",
        "long less short: at most 50 % of equity in positions",
        "one instrument: at most 20 % of equity in positions",
        "one group: at most 30 % of equity in positions (majors: BTC, ETH)",
        "volatility: at most 15 % of equity a year, ex-ante",
    ]


def test_groups_and_estimators_come_back_from_a_file(tmp_path):
    policy = Policy(
        groups={"majors": ["BTC", "ETH"]},
        group_limit=0.03,
        volatility_limit=0.2,
        correlation_estimator="ewm",
        halflife=63.0,
        downside=True,
    )
    path = tmp_path / "risk.toml"
    policy.to_toml(path)
    assert Policy.from_toml(path) == policy


def test_what_is_switched_off_or_different_is_described_as_it_is():
    policy = Policy(
        exposure_limit=None,
        correlation_limit=math.inf,
        action="pause",
        cooldown_bars=60,
        flatten=False,
    )
    lines = policy.describe().splitlines()
    assert lines[4] == "one direction: no limit"
    assert lines[5] == "correlation: no limit"
    assert lines[6] == "drawdown: 10 % below the high-water mark refuses entries for 60 bars"


@pytest.mark.parametrize("mode", ["enforce", "observe"])
def test_a_run_begins_with_one_line_that_says_what_holds(tmp_path, caplog, mode):
    engine = cerebro(random_walk(1, bars=30))
    engine.addstrategy(bt.Strategy)
    engine.addstrategy(bt.Strategy)
    path = written(tmp_path, "drawdown_limit = 0.2\nmin_periods = 30\n")
    bt_risk.protect(engine, path, mode)
    with caplog.at_level(logging.INFO, logger="bt_risk"):
        engine.run()
    line, loop = [r.getMessage() for r in caplog.records if r.levelno == logging.INFO]
    assert loop == "loop: quick"
    assert line.startswith("observe: nothing is changed; " if mode == "observe" else "enforce; ")
    assert "drawdown: 20 % below the high-water mark" in line
