"""The page in a browser: it opens, fits, draws, filters, leads to the chart, and prints."""

import base64

import backtrader as bt
import empyrical as ep
import numpy as np
import pandas as pd
import pytest
from helpers.pages import ANGRY, figures_on
from helpers.scenarios import Plan, cerebro, random_walk
from helpers.shared_data import shared_data
from helpers.slices import sliced
from selenium.webdriver.support.ui import WebDriverWait

import bt_risk
from bt_risk.demo.portfolios import Breakout
from bt_risk.feeds.frame import FrameData
from bt_risk.report import pyfolio_inputs, tear_sheet

ROWS = "return [...document.querySelectorAll('#journal tbody tr')].map(r => r.innerText)"
FOUND = "return document.getElementById('found').innerText"
TYPED = """const box = document.getElementById(arguments[0]); box.value = arguments[1];
    box.dispatchEvent(new Event(arguments[2]));"""


def open_at(browser, path, width, dark=False):
    browser.get_log("browser")
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    browser.get(path.as_uri())
    wait_for(browser, "return document.documentElement.dataset.drawn === 'all'")


def wait_for(browser, script):
    WebDriverWait(browser, 60, 0.05).until(lambda one: one.execute_script(script))


def check_it_opens(browser, path, width, dark):
    open_at(browser, path, width, dark)
    assert browser.get_log("browser") == []
    undrawn = """return [...document.querySelectorAll('.chart')]
        .filter(c => !c.querySelector('canvas'))"""
    assert browser.execute_script(undrawn) == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    outside = """return [...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll')
        && !e.closest('.chart') && e.getBoundingClientRect().right > innerWidth + 1)
        .map(e => e.outerHTML.slice(0, 80))"""
    assert browser.execute_script(outside) == []


@pytest.mark.parametrize(
    ("width", "dark"), sliced([(390, False), (390, True), (1440, False), (1440, True)], 3)
)
def test_it_opens_from_disk_without_an_error_and_fits(chromium, page, width, dark):
    check_it_opens(chromium, page, width, dark)
    ink = chromium.execute_script("return getComputedStyle(document.body).color")
    assert ink == ("rgb(230, 233, 237)" if dark else "rgb(28, 33, 39)")
    wait_for(chromium, "return Page.charts.size === 5")
    texts = "return [...Page.charts].map(chart => chart.options().layout.textColor)"
    expected = "#e6e9ed" if dark else "#1c2127"
    assert set(chromium.execute_script(texts)) == {expected}


def test_the_first_screen_has_the_sentence_and_the_chart(chromium, page):
    for width in (390, 1440):
        open_at(chromium, page, width)
        bottom = "return document.getElementById(arguments[0]).getBoundingClientRect().bottom"
        assert chromium.execute_script(bottom, "chart-price") <= 900
        assert "deepest drawdown" in chromium.find_element("class name", "lead").text


def test_a_name_and_a_title_are_text_and_never_markup(chromium, page):
    open_at(chromium, page, 1440)
    assert (
        chromium.execute_script(
            "return document.querySelectorAll('i:not(.key i, .histogram i), b').length"
        )
        == 0
    )
    options = "return [...document.getElementById('feed').options].map(o => o.value)"
    assert set(chromium.execute_script(options)) == {ANGRY, "B", "C"}
    assert ANGRY in chromium.execute_script("return document.getElementById('of-feed').innerText")
    assert "Angry <i>birds</i>" in chromium.find_element("tag name", "h1").text


def test_the_journal_filters(chromium, page, protected):
    open_at(chromium, page, 1440)
    frame = protected.analyzers.riskjournal.frame()
    assert chromium.execute_script(FOUND) == f"{len(frame)} of {len(frame)} decisions"
    chromium.execute_script(TYPED, "search", "HALT drawdownbreaker", "input")
    shown = chromium.execute_script(ROWS)
    assert len(shown) >= 2
    assert all("DrawdownBreaker" in row and "halt" in row for row in shown)
    chromium.execute_script(TYPED, "search", "", "input")
    chromium.execute_script(TYPED, "action", "reject", "change")
    rejected = frame["action"] == "reject"
    assert chromium.execute_script(FOUND) == f"{rejected.sum()} of {len(frame)} decisions"
    chromium.execute_script(TYPED, "of-feed", "B", "change")
    of_b = (rejected & (frame["data"] == "B")).sum()
    assert chromium.execute_script(FOUND) == f"{of_b} of {len(frame)} decisions"


def test_the_journal_has_only_the_rows_in_sight(chromium, page, protected):
    open_at(chromium, page, 1440)
    frame = protected.analyzers.riskjournal.frame()
    assert len(chromium.execute_script(ROWS)) < 60 < len(frame)
    chromium.execute_script("const p = document.getElementById('journal-pane'); p.scrollTop = 1e9;")
    last = str(frame["reason"].iloc[-1]) or str(frame["action"].iloc[-1])
    wait_for(chromium, f"{ROWS}.at(-1).includes({last!r})")
    assert len(chromium.execute_script(ROWS)) < 60


def test_a_line_of_the_journal_leads_to_its_candle(chromium, page, protected):
    open_at(chromium, page, 1440)
    frame = protected.analyzers.riskjournal.frame()
    line = frame[(frame["action"] == "reject") & (frame["data"] == "C")].iloc[-1]
    chromium.execute_script(TYPED, "action", "reject", "change")
    chromium.execute_script(TYPED, "of-feed", "C", "change")
    chromium.execute_script("document.getElementById('journal-pane').scrollTop = 1e9;")
    day = f"{line['time']:%Y-%m-%d}"
    wait_for(chromium, f"{ROWS}.at(-1).includes({day!r})")
    chromium.execute_script("[...document.querySelectorAll('#journal .link')].at(-1).click()")
    status = "return document.getElementById('price-status').innerText"
    wait_for(chromium, f"{status}.includes('refused')")
    told = chromium.execute_script(status)
    assert told.startswith(day)
    assert line["reason"] in told
    assert chromium.execute_script("return document.getElementById('feed').value") == "C"


def test_the_price_chart_follows_its_selection_and_zooms(chromium, page):
    open_at(chromium, page, 1440)
    chromium.execute_script(TYPED, "feed", "B", "change")
    wait_for(
        chromium, "return document.getElementById('price-caption').innerText.startsWith('B: ')"
    )
    wait_for(chromium, "return Page.charts.size === 5")  # the one before is removed
    seen = """const r = [...Page.charts].at(-1).timeScale().getVisibleLogicalRange();
        return r.to - r.from"""
    whole = chromium.execute_script(seen)
    assert whole == pytest.approx(500, abs=2)
    chromium.find_element("css selector", "[data-zoom='91d']").click()
    # A chart moves in the next frame.
    wait_for(chromium, f"{seen} < {whole / 4}")
    chromium.find_element("css selector", "[data-zoom='all']").click()
    wait_for(chromium, f"{seen} > {whole - 0.1}")
    assert chromium.execute_script(seen) == pytest.approx(whole, abs=0.1)


def test_it_can_be_read_without_seeing_it(chromium, page):
    """Every chart has a name, every input a label, every region that scrolls takes the keyboard."""
    open_at(chromium, page, 1440)
    unnamed = """return [...document.querySelectorAll('.chart, img, .scroll')].filter(e =>
        !(e.getAttribute('aria-label') || e.alt)).length"""
    assert chromium.execute_script(unnamed) == 0
    unlabelled = """return [...document.querySelectorAll('input, select')].filter(e =>
        !e.labels.length)"""
    assert chromium.execute_script(unlabelled) == []
    assert chromium.execute_script("return document.documentElement.lang") == "en"
    deaf = "return [...document.querySelectorAll('.scroll')].filter(e => e.tabIndex < 0).length"
    assert chromium.execute_script(deaf) == 0


def test_it_prints(chromium, page):
    open_at(chromium, page, 1440, dark=True)
    printed = base64.b64decode(chromium.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert printed.startswith(b"%PDF")
    assert chromium.get_log("browser") == []


def test_a_print_of_a_dark_page_is_light(chromium, page):
    open_at(chromium, page, 1440, dark=True)
    chromium.execute_script("""
        const corner = canvas => [...canvas.getContext('2d')
            .getImageData(canvas.width - 1, 1, 1, 1).data.slice(0, 3)].join();
        addEventListener('beforeprint', () => window.seen = [
            getComputedStyle(document.body).backgroundColor,
            ...[...document.querySelectorAll('.printed')].map(corner)]);""")
    ranges = (
        "return [...Page.charts].map(c => Object.values(c.timeScale().getVisibleLogicalRange()))"
    )
    before = chromium.execute_script(ranges)
    chromium.execute_cdp_cmd("Page.printToPDF", {})
    assert chromium.execute_script("return seen") == ["rgb(255, 255, 255)", *["255,255,255"] * 5]
    assert chromium.find_elements("class name", "printed") == []
    assert chromium.execute_script("return getComputedStyle(document.body).color") == (
        "rgb(230, 233, 237)"
    )
    texts = "return [...Page.charts].map(chart => chart.options().layout.textColor)"
    assert set(chromium.execute_script(texts)) == {"#e6e9ed"}
    after = chromium.execute_script(ranges)
    assert np.array(after) == pytest.approx(np.array(before), abs=0.1)


@pytest.mark.full
def test_a_year_of_hourly_bars_is_below_1_mb(chromium, tmp_path):
    engine = bt.Cerebro(stdstats=False)
    for coin in ("BTC", "ETH", "SOL", "LTC"):
        frame = bt_risk.read_prices(shared_data(f"crypto_1h_2024/{coin}USDT_1h_2024.csv.gz"))
        engine.adddata(FrameData(dataname=frame), name=coin)
    engine.addstrategy(Breakout)
    engine.addanalyzer(bt_risk.ReportData)
    facts = {coin: {"step": 1e-5, "min_notional": 10} for coin in ("BTC", "ETH", "SOL", "LTC")}
    policy = bt_risk.Policy(action="pause", cooldown_bars=60, instruments=facts)
    bt_risk.protect(engine, policy)
    strategy = engine.run()[0]
    path = tear_sheet(strategy, tmp_path / "year.html", benchmark="BTC")
    assert path.stat().st_size < 1e6
    text = path.read_text(encoding="utf-8")
    returns, _, _ = pyfolio_inputs(strategy)
    assert len(returns) == 366
    sharpe = ep.sharpe_ratio(returns, annualization=365)
    assert figures_on(text)["Sharpe"] == pytest.approx(sharpe, abs=1e-9)
    check_it_opens(chromium, path, 390, dark=False)
    check_it_opens(chromium, path, 1440, dark=True)


@pytest.mark.full
def test_fifty_assets_and_twenty_years_have_a_page(tmp_path):
    frames = [random_walk(seed, 5000 if seed == 0 else 100, freq="B") for seed in range(50)]
    plan = tuple((20 + n, "buy", (("data", n), ("size", 1))) for n in range(50))
    engine = cerebro(*frames)
    engine.addstrategy(Plan, plan=plan)
    engine.addanalyzer(bt_risk.ReportData)
    strategy = engine.run()[0]
    path = tear_sheet(strategy, tmp_path / "wide.html")
    text = path.read_text(encoding="utf-8")
    assert text.count('<option value="') == 50  # nothing was decided, so there is no filter
    returns, positions, _ = pyfolio_inputs(strategy)
    assert positions.shape == (5000, 51)
    assert np.isfinite(returns).all()
    assert path.stat().st_size < 2e6


def test_a_million_bars_are_below_2_mb_and_open(chromium, tmp_path, protected):
    """The record of a run that was not made: what the page does with it is what counts."""
    from dataclasses import replace

    from bt_risk.report.record import record_of

    record, count = record_of(protected), 1_000_000
    times = pd.date_range("2000-01-01", periods=count, freq="min")
    closes = 100 + np.random.default_rng(1).normal(0, 0.01, count).cumsum()
    prices = np.array([closes, closes + 0.01, closes - 0.01], dtype=np.float32)
    rows = record.bars.iloc[np.arange(count) % len(record.bars)].reset_index(drop=True)
    long = replace(
        record,
        names=("B",),
        roots=(0,),
        bars=rows.assign(time=times),
        closes={"B": pd.Series(closes, times)},
        ranges={"B": prices},
        held=record.held[record.held["name"] == "B"],
        fills=record.fills[record.fills["name"] == "B"],
        decisions=record.decisions[record.decisions["data"].isin(["B", ""])],
    )
    path = tear_sheet(long, tmp_path / "long.html")
    assert path.stat().st_size < 2e6
    text = path.read_text(encoding="utf-8")
    assert "Each candle is 8 of 1,000,000 bars" in text
    assert "lowest and the highest value of every 250 bars" in text
    check_it_opens(chromium, path, 1440, dark=False)
