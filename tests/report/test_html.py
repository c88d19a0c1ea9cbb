"""The page: what it says, that it needs nothing else, and how it behaves in a browser."""

import hashlib
import html
import math
import re

import backtrader as bt
import empyrical as ep
import litecharts
import numpy as np
import pandas as pd
import pytest
from helpers.pages import ANGRY, figures_on, unpacked
from helpers.scenarios import Plan, cerebro, random_walk
from helpers.slices import sliced

import bt_risk
from bt_risk.report import pyfolio_inputs, tear_sheet
from bt_risk.report.events import (
    halts,
    price_events,
    stop_line,
    worst_moment,
)
from bt_risk.report.record import record_of

SECTIONS = "equity figures limits exposure correlation trades kelly decisions policy"


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
    assert len(sources) > 9
    home = "https://www.tradingview.com/"  # its licence asks for a link, which nobody has to follow
    assert all(source.startswith("#") or source == home for source in sources)
    assert "default-src 'none'" in text
    assert "url(" not in re.search(r"<style>.*?</style>", text, re.DOTALL)[0]
    assert ANGRY not in text
    assert "<i>birds</i>" not in ours
    assert "Angry &lt;i&gt;birds&lt;/i&gt;" in ours


def test_the_library_of_the_charts_is_that_of_tradingview(page):
    """That a small package carries it unchanged is checked, and not believed: version 5.1.0."""
    script = litecharts.getLwcScript().removeprefix("<script>").removesuffix("</script>")
    of_npm = "756b0ba9f58930226d6b8b9d47ad310448ab85d799ea1f7c2c02304777c10b52"
    assert hashlib.sha256(script.encode()).hexdigest() == of_npm
    assert script in page.read_text(encoding="utf-8")


def test_every_section_is_there_and_the_policy_is_said(page):
    text = page.read_text(encoding="utf-8")
    for section in SECTIONS.split():
        assert f'<section id="{section}"' in text
        assert f'href="#{section}"' in text
    assert "a position loses at most 1 % of equity at its stop" in text
    assert "<code>cooldown_bars</code></th><td><code>40</code>" in text
    assert 'id="pyfolio"' not in text


def test_pyfolio_s_own_sheet_is_last_and_only_there_if_requested(protected, tmp_path):
    text = tear_sheet(protected, tmp_path / "page.html", "B", pyfolio=True).read_text("utf-8")
    assert re.findall(r'<section id="(\w+)"', text)[-1] == "pyfolio"
    assert text.count("data:image/webp;base64,") == 5
    import empyrical.periods
    import pyfolio.plotting
    import pyfolio.timeseries

    # pyfolio is left as it was.
    assert empyrical.periods.ANNUALIZATION_FACTORS["daily"] == 252
    assert pyfolio.timeseries.APPROX_BDAYS_PER_YEAR == 252
    assert pyfolio.plotting.APPROX_BDAYS_PER_MONTH == 21
    assert pyfolio.utils.display.__module__.startswith("IPython")


def test_the_journal_on_the_page_is_the_journal(protected, page):
    text = page.read_text(encoding="utf-8")
    journal = unpacked(re.search(r'id="journal-lines">(.*?)</script>', text, re.DOTALL)[1])
    frame = protected.analyzers.riskjournal.frame()
    assert len(frame) > 50
    for name in ("data", "action", "reason", "rule"):
        found = journal[name]
        assert [found["texts"][code] for code in found["codes"]] == frame[name].tolist()
    known = frame["time"].notna().tolist()
    seconds = np.cumsum([step for step in journal["time"] if step is not None])
    assert pd.to_datetime(seconds, unit="s").tolist() == frame["time"][known].tolist()


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
        "idle": "Strategy did not trade. No order was executed",
    }
    assert words[kind] in text
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


def test_pyfolio_s_notes_are_said(tmp_path):
    engine = cerebro(random_walk(1, 30))
    engine.addanalyzer(bt_risk.ReportData)
    engine.addstrategy(Plan, plan=((20, "buy", (("size", 5.5),)), (25, "close", ())))
    path = tear_sheet(engine.run()[0], tmp_path / "page.html", pyfolio=True)
    assert "pyfolio counts whole units only" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["refused", "silent", "bare"])
def test_a_run_without_a_trade_says_so_first_and_why(kind, tmp_path):
    engine = cerebro(random_walk(1, 30))
    engine.addanalyzer(bt_risk.ReportData)
    if kind != "bare":
        bt_risk.protect(engine, bt_risk.Policy(notional_limit=0.001))
    engine.addstrategy(Plan, plan=((20, "buy", (("size", 5000),)),) * (kind == "refused"))
    text = tear_sheet(engine.run()[0], tmp_path / "page.html").read_text(encoding="utf-8")
    lead = re.search(r'<p class="lead">(.*?)</p>', text, re.DOTALL)[1]
    assert lead.startswith("Plan did not trade. No order was executed")
    words = {
        "refused": "(rule 2, position value: 1). The first reason: NotionalLimit: ",
        "silent": "the strategy sent none",
        "bare": "A run without a gate has no record",
    }
    assert words[kind] in lead
    assert html.unescape(text).count("no order was placed") == (1 if kind != "refused" else 0)


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
    events = {kind: len(found) for kind, found in price_events(record, "B").items()}
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
