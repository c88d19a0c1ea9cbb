"""The page: what it says, that it needs nothing else, and how it behaves in a browser."""

import base64
import html
import json
import math
import re

import backtrader as bt
import empyrical as ep
import numpy as np
import pandas as pd
import pytest
from helpers.pages import ANGRY
from helpers.scenarios import Plan, cerebro, random_walk
from helpers.shared_data import shared_data
from helpers.slices import sliced

import bt_risk
from bt_risk.demo.portfolios import Breakout
from bt_risk.feeds.frame import FrameData
from bt_risk.report import pyfolio_inputs, tear_sheet
from bt_risk.report.events import (
    halts,
    price_events,
    stop_line,
    worst_moment,
)
from bt_risk.report.record import record_of

SECTIONS = "figures equity prices kelly exposure correlation trades decisions policy pyfolio"


def figures_on(text):
    """Return the figures of a page by name, at full precision."""
    found = re.findall(r'data-figure="([^"]+)" data-value="([^"]+)"', text)
    return {html.unescape(name): float(value) for name, value in found}


# -- what it says ----------------------------------------------------------------------------------


def test_the_figures_are_those_that_empyrical_gives(protected, page):
    returns, _, _ = pyfolio_inputs(protected)
    found = figures_on(page.read_text(encoding="utf-8"))
    year = {"annualization": 365}
    expected = {
        "Total return": ep.cum_returns_final(returns),
        "CAGR": ep.annual_return(returns, **year),
        "Volatility": ep.annual_volatility(returns, **year),
        "Sharpe": ep.sharpe_ratio(returns, **year),
        "Sortino": ep.sortino_ratio(returns, **year),
        "Calmar": ep.calmar_ratio(returns, **year),
        "Max drawdown": -ep.max_drawdown(returns),
        "Expected shortfall 5 %": -ep.conditional_value_at_risk(returns),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-9), name
    closes = protected.analyzers.reportdata.record.closes["B"].pct_change().fillna(0.0)
    beta = ep.beta(returns, closes.set_axis(returns.index))
    assert found["Beta"] == pytest.approx(beta, abs=1e-9)


def test_nothing_is_fetched_and_nothing_is_taken_for_markup(page):
    text = page.read_text(encoding="utf-8")
    ours = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    sources = re.findall(r"(?:src|href)=\"([^\"]*)", ours)
    assert len(sources) > 10
    assert all(source.startswith(("data:image/webp;", "#")) for source in sources)
    assert "url(" not in re.search(r"<style>.*?</style>", text, re.DOTALL)[0]
    assert ANGRY not in text
    assert "<i>birds</i>" not in ours
    assert "Angry &lt;i&gt;birds&lt;/i&gt;" in ours


def test_every_section_is_there_and_the_policy_is_said(page):
    text = page.read_text(encoding="utf-8")
    for section in SECTIONS.split():
        assert f'<section id="{section}"' in text
        assert f'href="#{section}"' in text
    assert "a position loses at most 1 % of equity at its stop" in text
    assert "<code>cooldown_bars</code></th><td><code>40</code>" in text
    assert text.count("data:image/webp;base64,") == 5


def test_the_journal_on_the_page_is_the_journal(protected, page):
    text = page.read_text(encoding="utf-8")
    rows = json.loads(re.search(r'id="journal-rows">(.*?)</script>', text, re.DOTALL)[1])
    frame = protected.analyzers.riskjournal.frame()
    assert len(rows) == len(frame) > 50
    assert [row[3] for row in rows] == frame["action"].tolist()
    assert [row[8] for row in rows] == frame["reason"].tolist()


@pytest.mark.parametrize("kind", sliced(["bare", "observe", "components", "idle"], 4))
def test_any_run_has_a_page(kind, tmp_path):
    engine = cerebro(random_walk(1, 30))
    engine.addanalyzer(bt_risk.ReportData)
    if kind == "observe":
        bt_risk.protect(engine, mode="observe")
    if kind == "components":
        engine.addanalyzer(bt_risk.DrawdownBreaker)
    if kind == "idle":
        engine.addstrategy(bt.Strategy)
    else:
        engine.addstrategy(Plan, plan=((20, "buy", (("size", 5.5),)), (25, "close", ())))
    text = tear_sheet(engine.run()[0], tmp_path / "page.html").read_text(encoding="utf-8")
    words = {
        "bare": "without a gate",
        "observe": "nothing was changed",
        "components": "<dt>DrawdownBreaker</dt><dd>0.1</dd>",
        "idle": "there were none",
    }
    assert words[kind] in text
    assert ("pyfolio counts whole units only" in text) == (kind != "idle")
    assert figures_on(text)["Max drawdown"] >= 0


@pytest.mark.full
def test_the_year_is_the_data_s_unless_it_is_said(protected, tmp_path):
    text = tear_sheet(protected, tmp_path / "p.html", periods_per_year=252).read_text("utf-8")
    returns, _, _ = pyfolio_inputs(protected)
    assert figures_on(text)["Sharpe"] == pytest.approx(ep.sharpe_ratio(returns), abs=1e-9)
    assert "252 days a year" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"benchmark": "nobody"}, "benchmark must be a Series of daily returns, or one of"),
        ({"benchmark": [0.1, 0.2]}, "benchmark must be a Series of daily returns by time"),
        (
            {"benchmark": pd.Series([0.1], pd.DatetimeIndex(["1999-01-01"]))},
            "benchmark must be known between 2020-01-01",
        ),
        ({"periods_per_year": 0}, "periods_per_year must be positive"),
    ],
)
def test_bad_arguments_raise_before_anything_is_written(protected, tmp_path, arguments, message):
    with pytest.raises(bt_risk.ParameterError, match=message):
        tear_sheet(protected, tmp_path / "page.html", **arguments)
    assert not list(tmp_path.iterdir())


def test_pyfolio_is_left_as_it_was(protected, page):
    import empyrical.periods
    import pyfolio.plotting
    import pyfolio.timeseries

    assert empyrical.periods.ANNUALIZATION_FACTORS["daily"] == 252
    assert pyfolio.timeseries.APPROX_BDAYS_PER_YEAR == 252
    assert pyfolio.plotting.APPROX_BDAYS_PER_MONTH == 21
    assert pyfolio.utils.display.__module__.startswith("IPython")


# -- what the charts are made of -------------------------------------------------------------------


def test_halts_are_those_of_the_journal(protected):
    record = record_of(protected)
    found = halts(record)
    trips = protected.analyzers.drawdownbreaker.get_analysis()["trips"]
    assert [begin.to_pydatetime() for begin, _, _ in found] == [t["tripped_at"] for t in trips]
    assert len(found) >= 2
    assert all(begin < end for begin, end, _ in found)


def test_the_stop_line_and_the_events_are_those_of_the_run(protected):
    record = record_of(protected)
    stop = stop_line(record, "B")
    fills = record.fills[record.fills["name"] == "B"]
    held = stop.notna()
    assert held.any()
    assert not held[: fills["time"].iloc[0] - pd.Timedelta(days=1)].any()
    events = {kind: len(times) for kind, (times, _, _) in price_events(record, "B").items()}
    assert events["stop"] == fills["stop"].sum() > 0
    assert events["entry"] + events["exit"] + events["stop"] == len(fills)
    judged = record.decisions[record.decisions["data"] == "B"]["action"].value_counts()
    assert events["refused"] == judged["reject"]


def test_the_worst_moment_is_signed_by_side():
    """Long one, short its mirror image: the same bet, and the page must say so."""
    base = random_walk(5, 200, 0.02)
    mirror = (10_000 / base[["open", "low", "high", "close"]]).set_axis(
        ["open", "high", "low", "close"], axis=1
    )
    engine = cerebro(base, mirror.assign(volume=1000.0))
    plan = ((100, "buy", (("size", 3),)), (100, "sell", (("data", 1), ("size", 3))))
    engine.addstrategy(Plan, plan=plan)
    engine.addanalyzer(bt_risk.ReportData)
    worst = worst_moment(record_of(engine.run()[0]))
    assert worst.value == pytest.approx(1.0, abs=1e-6)
    assert worst.sides == {"D0": 1, "D1": -1}
    assert worst.pair == ("D0", "D1")


def test_kelly_through_time_is_what_the_sizer_used(protected):
    """Of 28 known R-multiples and a window of 20, against the rules themselves."""
    engine = cerebro(random_walk(3, 900, 0.02))

    class Flip(bt.Strategy):
        def next(self):
            if len(self) > 20 and len(self) % 5 == 0:
                self.close() if self.position else self.buy()

    engine.addstrategy(Flip)
    engine.addsizer(bt_risk.HalfKellySizer, lookback=20, min_trades=20)
    engine.addanalyzer(bt_risk.ReportData)
    engine.addobserver(bt_risk.ATRTrailingStop)
    engine.addanalyzer(bt_risk.RiskJournal)
    strategy = engine.run()[0]
    record = record_of(strategy)
    kelly, trades = record.kelly, record.trades
    assert kelly["time"].is_monotonic_increasing
    assert set(kelly["state"]) >= {"WARMUP"}
    for row in kelly.itertuples():
        monday = row.time.normalize() - pd.Timedelta(days=row.time.day_of_week)
        sample = trades[trades["closed"] < monday]["r_multiple"].dropna().tail(20)
        assert row.trades == len(sample)
        if len(sample) >= 10:
            full = bt_risk.rules.kelly.two_point_kelly(sample)
            assert (row.full, row.half) == pytest.approx((full, full / 2))
            assert row.lower == pytest.approx(bt_risk.kelly_lower_bound(sample))
        if len(sample) == 20:
            used = min(0.02, row.half) if row.half > 0 else 0.001
            assert row.used == pytest.approx(used)
        else:
            assert math.isnan(row.full) == (len(sample) < 10)
            assert row.used == 0.01


# -- in a browser ----------------------------------------------------------------------------------


def open_at(browser, path, width, dark=False):
    browser.get_log("browser")
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    browser.get(path.as_uri())


def drawn(browser):
    script = "return [...document.querySelectorAll('.chart')].map(c => !!c.querySelector('svg'))"
    return browser.execute_script(script)


def check_it_opens(browser, path, width, dark):
    open_at(browser, path, width, dark)
    assert browser.get_log("browser") == []
    assert all(drawn(browser))
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    outside = """return [...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll')
        && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"""
    assert browser.execute_script(outside) == []


@pytest.mark.parametrize(
    ("width", "dark"), sliced([(390, False), (390, True), (1440, False), (1440, True)], 3)
)
def test_it_opens_from_disk_without_an_error_and_fits(chromium, page, width, dark):
    check_it_opens(chromium, page, width, dark)
    ink = chromium.execute_script("return getComputedStyle(document.body).color")
    text = chromium.execute_script(
        "return document.querySelector('#chart-equity .ytick text').style.fill"
    )
    assert ink == text == ("rgb(230, 233, 237)" if dark else "rgb(28, 33, 39)")


def test_the_journal_filters_and_pages(chromium, page, protected):
    open_at(chromium, page, 1440)
    frame = protected.analyzers.riskjournal.frame()
    rows = "return [...document.querySelectorAll('#journal tbody tr')].map(r => r.innerText)"
    found = "return document.getElementById('found').innerText"
    typed = """const box = document.getElementById(arguments[0]); box.value = arguments[1];
        box.dispatchEvent(new Event(arguments[2]));"""
    assert chromium.execute_script(found) == f"{len(frame)} of {len(frame)} decisions"
    assert len(chromium.execute_script(rows)) == min(100, len(frame))
    chromium.execute_script(typed, "search", "HALT drawdownbreaker", "input")
    shown = chromium.execute_script(rows)
    assert len(shown) >= 2
    assert all("DrawdownBreaker" in row and "halt" in row for row in shown)
    chromium.execute_script(typed, "search", "", "input")
    chromium.execute_script(typed, "action", "reject", "change")
    rejected = (frame["action"] == "reject").sum()
    assert chromium.execute_script(found) == f"{rejected} of {len(frame)} decisions"
    chromium.execute_script(typed, "action", "", "change")
    chromium.find_element("id", "older").click()
    assert chromium.execute_script("return document.getElementById('page').innerText").startswith(
        "101 to "
    )


def test_the_price_chart_follows_its_selection(chromium, page):
    open_at(chromium, page, 1440)
    options = "return [...document.getElementById('feed').options].map(o => o.value)"
    assert chromium.execute_script(options) == [ANGRY, "B", "C"]
    chromium.execute_script(
        "feed = document.getElementById('feed'); feed.value = 'B';"
        "feed.dispatchEvent(new Event('change'));"
    )
    caption = "return document.getElementById('price-caption').innerText"
    assert chromium.execute_script(caption).startswith("B: ")


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


@pytest.mark.full
def test_a_year_of_hourly_bars_is_below_8_mb(chromium, tmp_path):
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
    assert path.stat().st_size < 8e6
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
    assert path.read_text(encoding="utf-8").count("<option>") == 50
    returns, positions, _ = pyfolio_inputs(strategy)
    assert positions.shape == (5000, 51)
    assert np.isfinite(returns).all()
