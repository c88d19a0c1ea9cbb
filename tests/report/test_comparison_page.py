"""The page of a comparison: what it says, and how it behaves in a browser."""

import functools
import html
import math
import re

import pytest
from helpers.pages import ANGRY
from helpers.scenarios import Plan, cerebro, random_walk
from selenium.webdriver.support.ui import WebDriverWait

import bt_risk
from bt_risk.evidence.attribution_table import attribution_columns
from bt_risk.evidence.variants import without

SECTIONS = "verdict figures equity sharpe variants losses regimes sequence shadow policy method"


def build(count=400):
    engine = cerebro(*[random_walk(seed, count, 0.02) for seed in (1, 51)], names=[ANGRY, "B"])
    engine.broker.setcommission(0.001)
    plan = []
    for bar in range(20, count - 10, 15):
        data = ("data", bar % 2)
        plan += [(bar, "buy", (data, ("size", 500))), (bar + 12, "close", (data,))]
    engine.addstrategy(Plan, plan=tuple(plan))
    return engine


@pytest.fixture(scope="module")
def result():
    policy = bt_risk.Policy(action="pause", cooldown_bars=20, drawdown_limit=0.05)
    return bt_risk.compare(functools.partial(build), policy, samples=200, workers=1)


@pytest.fixture(scope="module")
def page(result, tmp_path_factory):
    return result.write(tmp_path_factory.mktemp("page") / "new" / "page.html", "Angry <i>birds</i>")


def test_it_says_every_verdict_and_every_sum(result, page):
    text = html.unescape(page.read_text(encoding="utf-8"))
    assert re.findall(r'<section id="(\w+)"', text) == SECTIONS.split()
    for variant in result.sharpe.index[1:]:
        assert f"<li>{result.verdict(variant)}</li>" in text
    assert str(result.halt) in text
    for rule, row in result.shadow.by_rule().iterrows():
        assert f"{row['balance']:+,.0f}" in text, rule
    assert f"Together {result.shadow.difference:+,.0f}" in text
    for value in result.frame["value"].unstack().loc["protected"][["Sharpe", "Turnover"]]:
        assert f"{value:,.2f}" in text
    assert all(line in text for line in ("risk per trade", "Every parameter", "stationary"[1:]))


@pytest.fixture(scope="module")
def worth():
    """Return a comparison that tells what each of three rules is worth."""
    tight = bt_risk.Policy(notional_limit=0.3)
    policy = without(tight, "risk per trade", "size", "correlation", "drawdown")
    small = functools.partial(build, 150)
    return bt_risk.compare(small, policy, samples=200, workers=1, attribution=True)


def test_it_says_what_each_rule_is_worth_before_any_figure(worth, tmp_path):
    text = html.unescape(worth.write(tmp_path / "page.html").read_text(encoding="utf-8"))
    sections = re.findall(r'<section id="(\w+)"', text)
    # There are too few trades to show them in other sequences.
    others = [one for one in SECTIONS.split()[1:] if one != "sequence"]
    assert sections == ["verdict", "attribution", *others]
    for sentence in worth.attribution.sentences():
        assert f"<li>{sentence}</li>" in text
    assert text.index(f"<li>{worth.outcome()}</li>") < text.index("<li>what each rule is worth: ")
    columns = attribution_columns(worth.attribution)
    for rule in columns["Shapley"]:
        cells = "".join(f"<td>{column[rule]}</td>" for column in columns.values())
        assert f'<th scope="row">{rule}</th>{cells}' in text
    assert f"Together {worth.attribution.difference:+,.0f}" in text
    assert "Pairs of rules" in text


def test_a_browser_draws_what_each_rule_is_worth(worth, chromium, tmp_path):
    chromium.get(worth.write(tmp_path / "page.html").as_uri())
    wait = WebDriverWait(chromium, 60, 0.05)
    wait.until(lambda one: one.execute_script("return document.documentElement.dataset.drawn"))
    assert chromium.execute_script("return document.querySelectorAll('.effects').length") == 3
    count = "return document.querySelectorAll('#attribution .effects > div').length"
    assert chromium.execute_script(count) == len(worth.attribution.frame)
    assert [line for line in chromium.get_log("browser") if line["level"] == "SEVERE"] == []


def test_it_needs_nothing_else_and_takes_nothing_for_markup(page):
    text = page.read_text(encoding="utf-8")
    ours = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r'(src|href)="(?!#|data:|https://www.tradingview.com/")', ours)
    assert "Angry &lt;i&gt;birds" in text
    assert ANGRY not in ours


def test_nothing_that_is_no_number_is_shown(page):
    text = page.read_text(encoding="utf-8")
    cells = re.findall(r"<td[^>]*>(.*?)</td>", text, re.DOTALL)
    assert len(cells) > 100
    assert not [cell for cell in cells if "nan" in cell or "inf" in cell]


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_draws_every_chart_and_reports_no_error(page, chromium, width, scheme):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"name": "prefers-color-scheme", "value": scheme}
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    chromium.get(page.as_uri())
    wait = WebDriverWait(chromium, 60, 0.05)
    wait.until(lambda one: one.execute_script("return document.documentElement.dataset.drawn"))
    assert chromium.execute_script("return Page.charts.size") == 1
    assert chromium.execute_script("return document.querySelectorAll('.effects').length") == 2
    reach = chromium.execute_script("return document.documentElement.scrollWidth")
    assert reach <= width
    assert [line for line in chromium.get_log("browser") if line["level"] == "SEVERE"] == []


def test_a_difference_without_bounds_is_shown_without(result):
    row = result.sharpe.loc["only notional"]
    assert math.isnan(row["low"]) or row["low"] <= row["difference"] <= row["high"]
