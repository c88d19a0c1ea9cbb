"""``bt-risk check``, ``diff`` and ``headroom``: what a policy says, before anything is sent."""

import json

import pytest
from helpers.command_line import command_in
from helpers.scenarios import bars, flat

import bt_risk
from bt_risk import Policy
from bt_risk.evidence.policy_changes import CHANGED, LOOSENED, TIGHTENED, policy_changes
from bt_risk.evidence.policy_findings import policy_findings

GUARDS = [bt_risk.CooldownGuard(5), bt_risk.DailyLossLimit(0.03), bt_risk.CooldownGuard(9)]


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Return a function that runs bt-risk in a folder with a policy and prices."""
    Policy().to_toml(tmp_path / "policy.toml")
    bars(*flat(60)).to_csv(tmp_path / "spx.csv")
    bars(*flat(60, price=5000.0, width=50.0)).to_csv(tmp_path / "btc.csv")
    monkeypatch.chdir(tmp_path)
    return command_in(200, monkeypatch, capsys)


def kinds(before, after):
    return {change.key: change.kind for change in policy_changes(before, after)}


@pytest.mark.parametrize(
    ("stricter", "looser"),
    [
        ({"risk_limit": 0.01}, {"risk_limit": 0.011}),
        ({"risk_limit": 0.01}, {"risk_limit": None}),
        ({"exposure_limit": 0.05}, {"exposure_limit": None}),
        ({"correlation_limit": 0.7}, {"correlation_limit": 0.8}),
        ({"drawdown_limit": 0.1}, {"drawdown_limit": 0.2}),
        ({"hysteresis": 0.1}, {"hysteresis": 0.0}),
        ({"min_periods": 60}, {"min_periods": 20}),
        ({"on_exposure": "reject"}, {"on_exposure": "trim"}),
        ({"unknown": "refuse"}, {"unknown": "allow"}),
        ({"action": "stop"}, {"action": "pause"}),
        ({"flatten": True}, {"flatten": False}),
        ({"costs_in_risk": True}, {"costs_in_risk": False}),
        ({"trailing_stop": True}, {"trailing_stop": False}),
        ({"guards": [bt_risk.CooldownGuard(5)]}, {"guards": [bt_risk.CooldownGuard(4)]}),
        ({"guards": GUARDS}, {"guards": GUARDS[:2]}),
        ({"guards": GUARDS}, {"guards": GUARDS[1:]}),
        ({"guards": GUARDS}, {"guards": [*GUARDS[:1], *GUARDS[2:]]}),
        (
            {"guards": [bt_risk.OrderRateLimit(3)]},
            {"guards": [bt_risk.OrderRateLimit(None)]},
        ),
        ({"guards": [bt_risk.MaxPositions(3)]}, {"guards": [bt_risk.MaxPositions(4)]}),
        ({"guards": [bt_risk.DuplicateOrder(3)]}, {"guards": [bt_risk.DuplicateOrder(1)]}),
        ({"guards": [bt_risk.Deny(["X", "Y"])]}, {"guards": [bt_risk.Deny(["X"])]}),
        ({"guards": [bt_risk.Allow(["X"])]}, {"guards": [bt_risk.Allow(["X", "Y"])]}),
        ({"guards": [bt_risk.OrderSize(50)]}, {"guards": [bt_risk.OrderSize(None)]}),
        ({"guards": [bt_risk.Deny(["X"])]}, {"guards": [bt_risk.Deny(["X"], side=1)]}),
        ({"guards": [bt_risk.Allow(["X"], side=1)]}, {"guards": [bt_risk.Allow(["X"])]}),
        ({"guards": [bt_risk.AccountFloor(0.1)]}, {"guards": [bt_risk.AccountFloor(0.2)]}),
        (
            {"guards": [bt_risk.AccountFloor(0.1, mode="trailing_eod")]},
            {"guards": [bt_risk.AccountFloor(0.1)]},
        ),
        ({"guards": [bt_risk.MarginAccount(5)]}, {"guards": [bt_risk.MarginAccount(10)]}),
        (
            {"guards": [bt_risk.MarginAccount(5)]},
            {"guards": [bt_risk.MarginAccount(5, mode="cross")]},
        ),
        (
            {"guards": [bt_risk.DailyLossLimit(0.03, trigger="intrabar")]},
            {"guards": [bt_risk.DailyLossLimit(0.03)]},
        ),
        (
            {"group_limit": 0.02, "groups": {"a": ["X", "Y"]}},
            {"group_limit": 0.02, "groups": {"a": ["X"]}},
        ),
        (
            {"instruments": {"X": {"risk_limit": 0.005}}},
            {"instruments": {"X": {"risk_limit": 0.01}}},
        ),
        ({"instruments": {"X": {"risk_limit": 0.005}}}, {}),
        ({}, {"instruments": {"X": {"risk_limit": 0.02}}}),
    ],
)
def test_what_allows_more_is_loosened_and_the_way_back_tightened(stricter, looser):
    before, after = Policy(**stricter), Policy(**looser)
    assert set(kinds(before, after).values()) == {LOOSENED}
    assert set(kinds(after, before).values()) == {TIGHTENED}
    assert kinds(before, before) == {}


def test_what_has_no_direction_is_changed():
    after = Policy(window=300, atr_multiple=3.0, exposure_unit="notional")
    assert set(kinds(Policy(), after).values()) == {CHANGED}


def test_every_key_of_a_policy_has_a_known_direction():
    """A key that no table of `policy_changes` has counts as loosened both ways."""
    different = {"history": (1.0, -1.0), "win_rate": 0.5, "payoff_ratio": 2.0}
    for key, value in different.items():
        given = {"win_rate": 0.5, "payoff_ratio": 2.0} if key != "history" else {key: value}
        assert kinds(Policy(), Policy(**given))[key] == CHANGED


def test_diff_prints_what_was_loosened_first_and_fails_if_told_to(command):
    Policy(risk_limit=0.02, exposure_limit=0.04, window=300).to_toml("new.toml")
    expected = [
        "loosened: risk_limit 0.01 -> 0.02",
        "tightened: exposure_limit 0.05 -> 0.04",
        "changed: window 252 -> 300",
    ]
    status, out, err = command("diff", "policy.toml", "new.toml")
    assert (status, out.splitlines(), err) == (0, expected, "")
    assert command("diff", "policy.toml", "new.toml", "--fail-on-loosening")[0] == 1
    assert command("diff", "policy.toml", "policy.toml", "--fail-on-loosening")[:2] == (
        0,
        "no difference\n",
    )
    Policy(exposure_limit=0.04).to_toml("new.toml")
    assert command("diff", "policy.toml", "new.toml", "--fail-on-loosening")[0] == 0
    status, out, _ = command("diff", "new.toml", "policy.toml", "--json")
    assert json.loads(out) == {
        "loosened": True,
        "changes": [
            {"kind": "loosened", "key": "exposure_limit", "before": 0.04, "after": 0.05},
        ],
    }


@pytest.mark.parametrize(
    ("policy", "keys"),
    [
        ({"kelly_limit": 0.01}, []),
        ({}, ["kelly_limit"]),
        ({"sizer": False}, []),
        ({"sizer": False, "position_limit": 0.01}, ["position_limit"]),
        ({"sizer": False, "position_limit": 0.009}, ["risk_limit"]),
        ({"sizer": False, "gross_limit": 0.05}, ["exposure_limit"]),
        ({"sizer": False, "gross_limit": 0.1}, ["gross_limit"]),
        ({"sizer": False, "gross_limit": 0.09, "net_limit": 0.04}, []),
        ({"sizer": False, "net_limit": 0.05}, ["net_limit"]),
        ({"sizer": False, "exposure_limit": 0.005}, ["risk_limit"]),
        ({"sizer": False, "correlation_limit": 1.0}, ["correlation_limit"]),
        (
            {"sizer": False, "exposure_unit": "notional", "exposure_limit": 0.5},
            ["notional_limit"],
        ),
        ({"sizer": False, "groups": {"a": ["X"]}}, ["groups"]),
        (
            {"sizer": False, "instruments": {"X": {"risk_limit": 0.06}}},
            ["instruments.X.risk_limit"],
        ),
        ({"sizer": False, "guards": [bt_risk.CooldownGuard(0)]}, ["CooldownGuard"]),
        ({"sizer": False, "guards": [bt_risk.DailyLossLimit(0.1)]}, ["DailyLossLimit"]),
        ({"sizer": False, "guards": [bt_risk.OrderRateLimit(5, None, 3)]}, ["OrderRateLimit"]),
        ({"sizer": False, "guards": [bt_risk.OrderRateLimit(2, None, 3)]}, []),
        ({"sizer": False, "guards": [bt_risk.LongOnly(), bt_risk.Allow(["X"], -1)]}, ["guards"]),
        ({"sizer": False, "guards": [bt_risk.LongOnly(), bt_risk.Allow(["X"])]}, []),
        ({"sizer": False, "guards": [bt_risk.Allow([])]}, ["guards"]),
        (
            {
                "sizer": False,
                "guards": [bt_risk.Allow(["X"]), bt_risk.Deny(["X"]), bt_risk.LongOnly()],
            },
            ["guards"],
        ),
        ({"sizer": False, "guards": [bt_risk.Allow(["X", "Y"]), bt_risk.Deny(["X"])]}, []),
    ],
)
def test_a_limit_that_another_one_forestalls_is_named(policy, keys):
    assert [one.key for one in policy_findings(Policy(**policy))] == keys


def test_check_finds_what_is_out_of_reach(command):
    status, out, err = command("check", "policy.toml")
    assert (status, err) == (0, "")
    assert out.startswith("never binds: kelly_limit: 0.02 is above risk_limit 0.01")
    words = ["check", "policy.toml", "--equity", "1000", "--prices", "btc.csv", "spx.csv"]
    status, out, _ = command(*words, "--set", "kelly_limit=0.01")
    assert status == 1
    # One unit of btc risks 200 of 1,000, one of spx 4.
    lines = out.splitlines()
    assert [line.split(": ")[1] for line in lines if line.startswith("out of reach")] == [
        "RiskPerTrade",
        "NotionalLimit",
        "ExposureLimit",
        "kelly_limit",
        "warmup_risk",
        "probe_risk",
        "probe_risk",
    ]
    assert command("check", "policy.toml", "--prices", "spx.csv")[0] == 0


def test_check_finds_names_without_prices_and_what_never_binds_on_these(command):
    policy = Policy(
        sizer=False,
        notional_limit=10.0,
        groups={"a": ["spx", "ndx"]},
        group_limit=0.02,
        instruments={"dax": {"step": 0.1}},
    )
    policy.to_toml("policy.toml")
    status, out, _ = command("check", "policy.toml", "--prices", "spx.csv", "--json")
    found = json.loads(out)
    assert (status, found["passed"]) == (1, False)
    assert [(one["kind"], one["key"]) for one in found["findings"]] == [
        ("contradiction", "groups.a"),
        ("contradiction", "instruments"),
        ("never binds", "notional_limit"),
    ]


def test_headroom_is_that_of_the_gate(command):
    words = ["headroom", "policy.toml", "--prices", "spx.csv", "--side", "buy"]
    status, out, err = command(*words)
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == (
        "buy at most 250 spx at 100 (2020-02-29 00:00:00): "
        "RiskPerTrade: 0.0100 of equity > risk_limit 0.0100"
    )
    _, out, _ = command(*words, "--json", "--stop", "99", "--equity", "50000")
    (found,) = json.loads(out)["headroom"]
    assert (found["size"], found["rule"], found["stop_distance"]) == (500, "RiskPerTrade", 1.0)
    assert [one["size"] for one in found["answers"]] == [500, 500, 2500, None]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["headroom", "policy.toml"], "headroom: --prices must be given"),
        (["headroom", "policy.toml", "--prices", "spx.csv", "--side", "up"], "headroom: --side"),
        (["check", "policy.toml", "--equity", "5"], "check: --equity must be left out without"),
        (["check", "no.toml"], "Policy: path must be an existing file"),
        (["diff", "policy.toml", "no.toml"], "Policy: path must be an existing file"),
        (["check", "policy.toml", "--prices", "spx.csv", "spx.csv"], "check: --prices must be"),
        (["check", "policy.toml", "--prices", "spx.csv", "--equity", "-1"], "check: --equity"),
    ],
)
def test_bad_input_is_one_line_and_status_2(command, words, message):
    status, out, err = command(*words)
    assert (status, out) == (2, "")
    assert err.startswith(f"bt-risk: {message}")
    assert err.count("\n") == 1
