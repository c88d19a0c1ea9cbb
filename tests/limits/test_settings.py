"""Parameters: each stands once, with its default, unit and check, and reaches what it is for."""

import dataclasses
import inspect
import math
from typing import Annotated

import pytest

import bt_risk
from bt_risk.components.risk_parity import RiskParitySettings
from bt_risk.components.settings import SizerSettings
from bt_risk.errors import ParameterError, check_whole
from bt_risk.limits.portfolio import portfolio_limits
from bt_risk.limits.settings import ESTIMATOR, LimitSettings, TradeSettings
from bt_risk.monitors.settings import BreakerSettings, StopSettings
from bt_risk.parameters import Bars, Check, FractionLimit, Settings, ceiling, one_of

COMPONENTS = {
    bt_risk.HalfKellySizer: SizerSettings,
    bt_risk.ATRTrailingStop: StopSettings,
    bt_risk.DrawdownBreaker: BreakerSettings,
    bt_risk.RiskParitySizer: RiskParitySettings,
}
EVERY = [LimitSettings, TradeSettings, *COMPONENTS.values(), bt_risk.Policy]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trend(Settings):
    window: Bars = 200
    trend_limit: FractionLimit = None
    at: Annotated[str, one_of("close", "open")] = "close"
    wait: Annotated[int | None, Check(check_whole, optional=True)] = None


# Settings whose value in the limits has another name there.
OTHER = {
    "exposure_limit": 0.11,
    "gross_limit": 0.12,
    "net_limit": 0.13,
    "position_limit": 0.14,
    "group_limit": 0.15,
    "gap_limit": 0.18,
    "correlation_limit": 0.16,
    "volatility_limit": 0.17,
}


def test_a_setting_is_checked_by_its_type():
    for name, value in {"window": 0, "trend_limit": 2, "at": "noon", "wait": 1.5}.items():
        with pytest.raises(ParameterError, match=f"^Trend: {name} must be"):
            Trend(**{name: value})
        with pytest.raises(ParameterError, match=f"^TrendGuard: {name} must be"):
            Trend.checked("TrendGuard", {name: value})


def test_an_error_bears_the_name_that_the_component_has_for_it():
    with pytest.raises(ParameterError, match="^C: bars must be a whole number"):
        Trend.checked("C", {"bars": 0.5}, {"bars": "window"})
    assert Trend.checked("C", {"bars": 5}, {"bars": "window"}).window == 5


def test_no_limit_is_none_however_it_is_written():
    assert Trend(trend_limit=math.inf) == Trend(trend_limit=None)
    assert ceiling(None) == math.inf
    assert Trend.switches() == {"trend_limit"}


def test_a_whole_number_is_an_int():
    assert type(Trend(window=20.0).window) is int


@pytest.mark.parametrize("kind", EVERY)
def test_the_defaults_pass_their_own_checks(kind):
    settings = kind()
    assert kind(**{one.name: getattr(settings, one.name) for one in dataclasses.fields(kind)})


@pytest.mark.parametrize(("component", "kind"), COMPONENTS.items())
def test_a_component_has_the_parameters_of_its_settings(component, kind):
    assert dict(component.params._getitems()) == dict(kind.defaults())


@pytest.mark.parametrize(("component", "kind"), COMPONENTS.items())
def test_the_docstring_of_a_component_describes_every_parameter_and_its_default(component, kind):
    text = inspect.getdoc(component).partition("Params:")[2]
    for name, default in kind.defaults():
        assert f"``{name}``" in text
        shown = {f'"{default}"', f"{default}", f"{default:.2f}" if type(default) is float else ""}
        entry = text.partition(f"``{name}``")[2].partition("\n  - ")[0]
        assert any(f"``{one}``" in entry for one in shown if one), name


def test_a_policy_has_the_settings_and_defaults_of_its_components():
    own = {one.name: one.default for one in dataclasses.fields(bt_risk.Policy)}
    for kind in (LimitSettings, TradeSettings, *COMPONENTS.values()):
        if kind is RiskParitySettings:
            continue
        for name, default in kind.defaults():
            if name not in ("step", "equity", "exposure_limit"):
                # The breaker's trigger has a name of its own in a policy, that of the stop has not.
                renamed = kind is BreakerSettings and name == "trigger"
                assert own["drawdown_trigger" if renamed else name] == default


def test_every_limit_gets_its_own_setting():
    limits = portfolio_limits(LimitSettings(**OTHER, groups={"all": ["D0"]}))
    assert [limit.limit for limit in limits] == list(OTHER.values())


@pytest.mark.parametrize("make", [LimitSettings, bt_risk.Policy])
def test_the_estimator_of_the_limits_is_not_that_of_kelly(make):
    settings = make(correlation_estimator="ewm", halflife=21, volatility_limit=0.2)
    *_, correlation, volatility = portfolio_limits(settings)
    assert correlation.model.estimator.kind == volatility.model.estimator.kind == "ewm"
    cap = bt_risk.CorrelationCap(estimator="ewm", halflife=21, volatility_limit=0.2)
    models = [one.model for one in cap.registry.permanent if hasattr(one, "model")]
    assert models == [correlation.model, volatility.model]


def test_the_signature_of_the_cap_names_every_parameter():
    shown = inspect.signature(bt_risk.CorrelationCap).parameters
    expected = dict(LimitSettings.defaults())
    for name, parameter in shown.items():
        setting = ESTIMATOR.get(name, name)
        if setting in expected:
            assert parameter.default == expected.pop(setting)
    assert not expected
    assert {"broker", "history", "instruments", "guards", "limits", "state"} <= set(shown)
    text = inspect.getdoc(bt_risk.CorrelationCap)
    assert [name for name in shown if name not in text] == []


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("correlation_limt", "; did you mean 'correlation_limit'?"),
        ("stale_aftr", "; did you mean 'stale_after'?"),
        ("guard", "; did you mean 'guards'?"),
        ("nonsense", ""),
    ],
)
def test_a_misspelt_parameter_of_the_cap_is_named_with_the_nearest_one(wrong, hint):
    with pytest.raises(TypeError) as caught:
        bt_risk.CorrelationCap(**{wrong: 1})
    assert str(caught.value) == f"CorrelationCap has no parameter {wrong!r}{hint}"


def test_a_refused_cap_leaves_the_gate_that_it_would_join_as_it_was():
    gate = bt_risk.RiskBroker()
    with pytest.raises(ParameterError):
        bt_risk.CorrelationCap(gate, correlation_limit=7)
    assert gate.registry.permanent == []
