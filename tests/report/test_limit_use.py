"""The room to each limit, the first sentence, and the histogram, against the record itself."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.pages import numbers, unpacked

from bt_risk.report.events import worst_moment
from bt_risk.report.limit_use import limit_uses, use_chart
from bt_risk.report.price_charts import price_charts
from bt_risk.report.pyfolio import daily_returns
from bt_risk.report.record import record_of
from bt_risk.report.summary import headline
from bt_risk.report.tables import correlation_table, r_bins


@pytest.fixture
def record(protected):
    return record_of(protected)


def test_the_use_of_each_limit_is_that_of_its_bars(record):
    limits = {"ExposureLimit": 0.05, "GrossLimit": 0.1, "NetLimit": 0.2, "NotionalLimit": 1.0}
    record = replace(record, limits=record.limits | limits)
    uses = {use.rule: use for use in limit_uses(record, worst_moment(record))}
    bars = record.bars
    expected = {
        "ExposureLimit": bars[["long_risk", "short_risk"]].max(axis=1).max(),
        "GrossLimit": (bars["long_risk"] + bars["short_risk"]).max(),
        "NetLimit": (bars["long_risk"] - bars["short_risk"]).abs().max(),
        "DrawdownBreaker": bars["breaker_drawdown"].max(),
        "CorrelationLimit": worst_moment(record).value,
    }
    for rule, value in expected.items():
        assert uses[rule].most == value > 0, rule
    assert uses["DrawdownBreaker"].used == pytest.approx(expected["DrawdownBreaker"] / 0.03)
    assert math.isnan(uses["RiskPerTrade"].used)
    judged = record.decisions[record.decisions["action"].isin(["trim", "reject"])]
    assert uses["RiskPerTrade"].judged == (judged["rule"] == "RiskPerTrade").sum()
    drawn = unpacked(use_chart(record, list(uses.values())).block)["panes"][0]
    assert [line["name"] for line in drawn["lines"]] == [
        uses[rule].label for rule in uses if uses[rule].line is not None
    ]


def test_the_first_sentence_has_the_result_and_what_the_rules_did(record):
    returns = daily_returns(record)
    text = headline(record, returns)
    total = (1 + returns).prod() - 1
    actions = record.decisions["action"].value_counts()
    assert text.startswith(f"Plan {'made' if total >= 0 else 'lost'} {abs(total):,.1%} in ")
    assert f"{actions['allow']:,} entries passed whole, {actions['trim']:,} were cut" in text
    assert f"{actions['reject']:,} refused, most by rule" in text
    assert "(limit 3%)" in text
    assert "it was halted" in text


def test_the_chart_of_a_feed_has_its_bars_its_fills_and_its_refusals(record):
    chart = price_charts(record)["B"]
    found = unpacked(chart.block)
    closes = record.closes["B"]
    assert numbers(found["close"], found["unit"]) == pytest.approx(closes, abs=found["unit"])
    times = numbers(found["times"], 1)
    fills = record.fills[record.fills["name"] == "B"]
    marks = [found["events"].get(kind, {"count": []}) for kind in ("entry", "exit", "stop")]
    assert sum(sum(mark["count"]) for mark in marks) == len(fills)
    entries = found["events"]["entry"]
    first = fills.iloc[0]
    assert pd.Timestamp(times[entries["at"][0]], unit="s") == first["time"]
    assert entries["text"][0] == f"{first['size']:+g} at {first['price']:g}"
    assert "refused" in found["events"]
    assert len(found["bands"]) >= 2


@pytest.mark.parametrize("scale", [0.01, 1.0, 3.0, 1e6])
def test_the_histogram_has_every_trade_once(scale):
    multiples = pd.Series(np.random.default_rng(2).normal(0, scale, 500))
    bins = r_bins(multiples)
    assert sum(one.count for one in bins) == 500
    assert len(bins) <= 43
    assert any(one.low == 0 for one in bins)
    for one in bins:
        inside = (multiples >= one.low) & (multiples < one.high)
        assert one.count == inside.sum()


def test_of_many_names_the_most_correlated_are_shown(record):
    size = 30
    matrix = np.full((size, size), 0.1)
    matrix[3, 7] = matrix[7, 3] = 0.9
    sides = {f"D{n}": 1 if n % 2 else -1 for n in range(size)}
    moment = replace(worst_moment(record), sides=sides, correlations=matrix, value=0.9)
    names, cells = correlation_table(moment)
    assert len(names) == len(cells) == 20
    assert {"D3 long", "D7 long"} <= set(names)
    assert moment.pair == ("D3", "D7")
