"""A run with something of everything on its page, and a Chromium to open it in."""

import shutil

import pytest
from helpers.pages import ANGRY
from helpers.scenarios import Plan, cerebro, random_walk
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

import bt_risk

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--no-first-run",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
]


@pytest.fixture(scope="session")
def protected():
    """Return a protected strategy with trims, refusals, stops and halts, one data badly named."""
    engine = cerebro(*[random_walk(seed, 500, 0.02) for seed in (1, 2, 3)], names=[ANGRY, "B", "C"])
    plan = tuple(
        (bar, verb, (("data", bar % 3), ("size", size)))
        for bar in range(20, 480, 4)
        for verb, size in ((("buy", 2000), ("sell", 300))[bar % 8 // 4],)
    )
    engine.addstrategy(Plan, plan=plan)
    engine.addanalyzer(bt_risk.ReportData)
    for observer in ("Drawdown", "Exposure", "Correlation"):
        engine.addobserver(getattr(bt_risk.components.observers, observer))
    policy = bt_risk.Policy(
        action="pause", cooldown_bars=40, drawdown_limit=0.03, taper_from=0.02, min_periods=40
    )
    bt_risk.protect(engine, policy)
    strategy = engine.run()[0]
    strategy.engine = engine
    return strategy


@pytest.fixture(scope="session")
def page(protected, tmp_path_factory):
    """Return the path of its page."""
    path = tmp_path_factory.mktemp("page") / "new folder" / "page.html"
    return bt_risk.report.tear_sheet(protected, path, benchmark="B", title="Angry <i>birds</i>")


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """Return a driver of a headless Chromium that has no network."""
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not (binary and driver):
        pytest.skip("no Chromium and chromedriver on this machine")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(driver))
    browser.execute_cdp_cmd("Network.enable", {})
    yield browser
    browser.quit()
