"""Percent that were written as numbers, in limits, guards and facts that a user builds by hand."""

import pytest

import bt_risk
from bt_risk.errors import ParameterError
from bt_risk.limits.guard_config import guard_from, guard_table
from bt_risk.live.store_settings import StoreSettings

GROUPS = {"pair": ["A", "B"]}
FACTS = {"A": {"risk_limit": 1}}
ALLOWED = {"A": {"risk_limit": 1, "allow_extreme": True}}
REMEDY = "Write 0.01 for 1 %, or add allow_extreme=True if you mean it."
BUILT = {
    "RiskPerTrade": lambda value, **more: bt_risk.RiskPerTrade(value, **more),
    "ExposureLimit": lambda value, **more: bt_risk.ExposureLimit(value, **more),
    "GrossLimit": lambda value, **more: bt_risk.GrossLimit(value, **more),
    "NetLimit": lambda value, **more: bt_risk.NetLimit(value, **more),
    "PositionLimit": lambda value, **more: bt_risk.PositionLimit(value, **more),
    "GroupLimit": lambda value, **more: bt_risk.GroupLimit(GROUPS, value, **more),
    "GapLimit": lambda value, **more: bt_risk.GapLimit(value, **more),
    "DailyLossLimit": lambda value, **more: bt_risk.DailyLossLimit(value, **more),
    "DailyProfitTarget": lambda value, **more: bt_risk.DailyProfitTarget(value, **more),
}


@pytest.mark.parametrize("value", [0.5, 1])
@pytest.mark.parametrize("name", BUILT)
def test_a_limit_of_risk_from_one_half_on_is_percent_by_mistake(name, value):
    with pytest.raises(ParameterError, match=f"{name}: [a-z_]+ must be below 0.5") as caught:
        BUILT[name](value)
    assert str(caught.value).endswith(REMEDY)
    assert BUILT[name](value, allow_extreme=True).active
    assert BUILT[name](0.49).active


@pytest.mark.parametrize("off", [None, float("inf")])
@pytest.mark.parametrize("name", BUILT)
def test_no_limit_is_no_mistake(name, off):
    assert not BUILT[name](off).active


@pytest.mark.parametrize("name", BUILT)
def test_the_switch_is_checked_too(name):
    with pytest.raises(ParameterError, match="allow_extreme must be True or False"):
        BUILT[name](0.01, allow_extreme=1)


def test_the_profit_that_a_lock_begins_at_is_checked_and_an_amount_of_currency_is_not():
    with pytest.raises(ParameterError, match="ProfitLock: profit_from must be below 0.5"):
        bt_risk.ProfitLock(profit_from=1)
    assert bt_risk.ProfitLock(profit_from=500, unit="currency").active
    assert bt_risk.DailyProfitTarget(500, unit="currency").active
    with pytest.raises(ParameterError, match="gap_limit must be below 0.5"):
        bt_risk.Policy(gap_limit=1, exposure_unit="notional")


def test_notional_limits_may_be_above_equity():
    kinds = bt_risk.ExposureLimit, bt_risk.GrossLimit, bt_risk.NetLimit, bt_risk.PositionLimit
    assert [kind(5.0, "notional").limit for kind in kinds] == [5.0] * 4
    assert bt_risk.GroupLimit(GROUPS, 5.0, "notional").limit == 5.0
    assert bt_risk.NotionalLimit(5.0).limit == 5.0


@pytest.mark.parametrize(
    "make",
    [
        lambda facts, **more: bt_risk.Policy(instruments=facts, **more),
        lambda facts, **more: bt_risk.CorrelationCap(instruments=facts, **more),
        lambda facts: bt_risk.RiskBroker(instruments=facts),
        lambda facts: StoreSettings(instruments=facts),
    ],
    ids=["Policy", "CorrelationCap", "RiskBroker", "StoreSettings"],
)
def test_the_limit_of_one_instrument_is_checked_like_that_of_all(make):
    with pytest.raises(
        ParameterError, match=r"instruments\['A'\]\['risk_limit'\] must be"
    ) as caught:
        make(FACTS)
    assert str(caught.value).endswith(REMEDY)
    make(ALLOWED)
    make({"A": {"risk_limit": 0.49}})
    with pytest.raises(ParameterError, match="must be True or False"):
        make({"A": {"risk_limit": 0.01, "allow_extreme": 1}})


def test_what_allows_a_policy_or_a_cap_allows_its_instruments():
    policy = bt_risk.Policy(instruments=FACTS, allow_extreme=True)
    assert policy.limits()[0].active
    cap = bt_risk.CorrelationCap(instruments=FACTS, allow_extreme=True)
    assert cap.instruments["A"]["risk_limit"] == 1


def test_an_extreme_policy_survives_its_file(tmp_path):
    policy = bt_risk.Policy(
        risk_limit=0.9,
        exposure_limit=2.0,
        instruments=FACTS,
        guards=[bt_risk.DailyLossLimit(0.9, allow_extreme=True), bt_risk.DailyLossLimit(0.03)],
        allow_extreme=True,
    )
    policy.to_toml(tmp_path / "policy.toml")
    assert bt_risk.Policy.from_toml(tmp_path / "policy.toml") == policy
    assert [limit.limit for limit in policy.limits()[:3]] == [0.9, 1.0, 2.0]


def test_a_guard_in_a_file_is_checked_as_in_python():
    table = {"guard": "DailyLossLimit", "daily_loss_limit": 1}
    with pytest.raises(ParameterError, match="Write 0.01 for 1 %"):
        guard_from("p.toml", table)
    guard = guard_from("p.toml", table | {"allow_extreme": True})
    assert guard_table(guard)["allow_extreme"] is True
    assert "allow_extreme" not in guard_table(bt_risk.DailyLossLimit(0.03))
