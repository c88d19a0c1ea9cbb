"""The site of docs/: every page is in its navigation, and every public name in its API."""

import re
from dataclasses import MISSING, fields

import pytest
from helpers.shared_data import ROOT

import bt_risk
from bt_risk.components.risk_parity import RiskParitySettings
from bt_risk.components.settings import SizerSettings
from bt_risk.limits.guard_config import GUARDS
from bt_risk.limits.settings import LimitSettings, TradeSettings
from bt_risk.monitors.settings import BreakerSettings, StopSettings

NAV = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
DOCS = ROOT / "docs"


def test_every_page_is_in_the_navigation_once():
    named = re.findall(r"(\S+\.md)$", NAV, re.MULTILINE)
    assert len(named) == len(set(named))
    assert {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")} <= set(named)
    elsewhere = [name for name in named if not (DOCS / name).exists()]
    assert [name for name in elsewhere if name != "readme.md" and not (ROOT / name).exists()] == []


def test_every_public_name_is_in_the_api_once():
    text = "".join(path.read_text(encoding="utf-8") for path in (DOCS / "api").glob("*.md"))
    names = re.findall(r"^::: bt_risk\.(\S+)$", text, re.MULTILINE)
    assert len(names) == len(set(names))
    assert set(bt_risk.__all__) - {"observers"} <= set(names)


COMPONENTS = {
    "risk-per-trade": [TradeSettings],
    "half-kelly": [SizerSettings],
    "trailing-stop": [StopSettings],
    "exposure": [LimitSettings],
    "correlation-cap": [LimitSettings],
    "drawdown-breaker": [BreakerSettings],
    "risk-parity": [RiskParitySettings],
    "guards": list(GUARDS.values()),
}


def defaults(page):
    """Return the defaults that the tables of a component's page show, in their order."""
    text = (DOCS / "components" / f"{page}.md").read_text(encoding="utf-8")
    return [
        (name.replace("correlation_estimator", "estimator"), shown.replace('"', "'"))
        for name, shown in re.findall(r"^\| `(\w+)` \| `(.+?)` \| .+ \|$", text, re.MULTILINE)
    ]


@pytest.mark.parametrize("page", COMPONENTS)
def test_a_page_of_a_component_shows_the_defaults_of_the_code(page):
    known = [
        (one.name.replace("correlation_estimator", "estimator"), repr(one.default))
        for kind in COMPONENTS[page]
        for one in fields(kind)
        if one.default is not MISSING  # what must be given has a dash on the page
    ]
    shown = defaults(page)
    assert sorted(set(shown) - set(known)) == []
    if COMPONENTS[page] != [LimitSettings]:
        assert sorted(shown) == sorted(known)


def test_the_two_pages_of_the_cap_have_all_of_its_parameters():
    shown = {name for page in ("exposure", "correlation-cap") for name, _ in defaults(page)}
    names = {one.name for one in fields(LimitSettings)} - {"correlation_estimator"}
    assert shown == names | {"estimator"}


def test_each_page_of_a_component_has_a_picture_and_says_when_not_to_use_it():
    pages = sorted((DOCS / "components").glob("*.md"))
    assert {page.stem for page in pages} == set(COMPONENTS)
    pictures = {path.name for path in (DOCS / "pictures").glob("*.svg")}
    script = (DOCS / "pictures" / "draw.py").read_text(encoding="utf-8")
    assert {f"{name}.svg" for name in re.findall(r"@picture\ndef (\w+)", script)} == pictures
    for page in pages:
        text = page.read_text(encoding="utf-8")
        titles = re.findall(r"^## (.+)$", text, re.MULTILINE)
        assert titles == ["Formula", "Parameters", "Example", "When not to use it"]
        pictures -= set(re.findall(r"\.\./pictures/(\w+\.svg)", text))
    assert pictures == set()
    assert all(path.stat().st_size < 60_000 for path in (DOCS / "pictures").iterdir())
