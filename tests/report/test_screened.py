"""The section of a page on a screener."""

import re

import backtrader as bt
from helpers.scenarios import bars, cerebro

import bt_risk
from bt_risk.report import tear_sheet
from bt_risk.report.screened import ScreenedName, screened_names


def closing(*closes):
    return bars(*((c, c + 1, c - 1, c) for c in closes))


def screened(*closes, **params):
    engine = cerebro(*(closing(*one) for one in closes), names=list("ABCDEFG"[: len(closes)]))
    engine.addstrategy(bt.Strategy)
    engine.addanalyzer(bt_risk.Screener, rank="close", rebalance=1, top=1, **params)
    engine.addanalyzer(bt_risk.ReportData)
    return engine.run()[0]


def test_the_names_by_how_often_they_were_picked():
    strategy = screened((1, 2, 9, 9), (5, 5, 5, 5), (2, 2, 2), where="close > 1")
    found = screened_names(strategy.analyzers.screener.frame())
    assert (found.rebalances, found.time.day, found.left_out) == (4, 4, 0)
    assert (
        found.rows
        == [
            ScreenedName("A", 2, 3, 1, 9.0, ""),
            ScreenedName("B", 2, 4, 2, 5.0, ""),
        ][::-1]
        + found.rows[2:]
    )
    (last,) = found.rows[2:]
    assert (last.name, last.picked, last.ranked, last.rank) == ("C", 0, 3, 0)
    assert last.reason == "its last bar, of 2020-01-03 00:00, is stale"


def test_the_page_has_a_section_only_with_a_screener(tmp_path):
    strategy = screened((1, 2), (3, 1), where="close > 1")
    page = tear_sheet(strategy, tmp_path / "with.html").read_text(encoding="utf-8")
    section = re.search(r'<section id="screener".+?</section>', page, re.DOTALL)[0]
    assert "<code>close where close &gt; 1</code>" in section
    assert "not close &gt; 1" in section
    engine = cerebro(closing(1, 2, 3))
    engine.addstrategy(bt.Strategy)
    engine.addanalyzer(bt_risk.ReportData)
    bare = tear_sheet(engine.run()[0], tmp_path / "bare.html").read_text(encoding="utf-8")
    assert 'id="screener"' not in bare
