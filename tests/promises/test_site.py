"""The site of docs/: every page is in its navigation, and every public name in its API."""

import re

from helpers.shared_data import ROOT

import bt_risk

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
