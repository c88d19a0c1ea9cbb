"""The report of a margin account: distance to liquidation, stops beyond it, and its costs.

The market stands still at 100; bar 6 fills what was ordered on bar 5. At 20x, 1 % maintains it: a
long from 100 has a margin of 5, and is liquidated at 95 / 0.99 = 95.96.
"""

import math
import re

import backtrader as bt
import pandas as pd
import pytest
from helpers.pages import figures_on, numbers, unpacked
from helpers.scenarios import Plan, bars, cerebro, flat
from helpers.shared_data import shared_data

import bt_risk
from bt_risk.report import tear_sheet
from bt_risk.report.margin_chart import margin_chart, margin_rows
from bt_risk.report.pyfolio import daily_returns
from bt_risk.report.record import record_of
from bt_risk.report.summary import headline

AT = 95 / 0.99
TIERS = [(0, 0.01)]
GUARD = bt_risk.MarginAccount(20, tiers=TIERS, buffer=None)
BUY = (5, "buy", (("size", 1000),))
FALLS = [(100, 100, 100, 100), (97, 97, 97, 97), (97, 97, 97, 97)]


def stop(price, bar=6):
    return (bar, "sell", (("size", 1000), ("exectype", bt.Order.Stop), ("price", price)))


def ran(*frames, plan=(BUY,), guard=GUARD, observe=False):
    engine = cerebro(*frames)
    gate = bt_risk.RiskBroker(engine.broker, guards=[guard] if guard else [])
    gate.observe = observe
    engine.setbroker(gate)
    engine.addstrategy(Plan, plan=tuple(plan))
    engine.addanalyzer(bt_risk.ReportData)
    return engine.run()[0]


def reported(rows, *plan, guard=GUARD, observe=False):
    """Return what a margin account did with a long of 1,000."""
    return record_of(
        ran(bars(*flat(5), *rows), plan=[BUY, *plan], guard=guard, observe=observe)
    ).margin


@pytest.mark.parametrize(("price", "beyond"), [(95.0, 2 / 3), (96.0, 0.0)])
def test_a_stop_beyond_liquidation_is_counted_and_one_inside_is_not(price, beyond):
    # Held on three bars; on the first the stop was not there yet.
    use = reported(FALLS, stop(price))
    found = use.figures()
    assert found["Bars in a position"] == 3
    assert found["Bars without a stop"] == pytest.approx(1 / 3)
    assert found["Stop beyond liquidation"] == pytest.approx(beyond)
    assert found["Nearest to liquidation"] == pytest.approx((97 - AT) / 97)
    assert found["Highest margin ratio"] == pytest.approx(0.97 / 2)
    count = "2 of 3 bars in a position (66.7%)" if beyond else "0 of 3 bars in a position (0.0%)"
    end = ", where it protects nothing." if beyond else "."
    assert use.sentences() == [
        f"On {count} the stop lay beyond the liquidation price{end}",
        "The nearest to liquidation was D0 on 2020-01-07: the close was 1.07% of the price away "
        "from it.",
        "No position was liquidated.",
    ]


def test_liquidations_with_their_fees_and_what_insurance_paid():
    dear = bt_risk.MarginAccount(20, tiers=TIERS, buffer=None, liquidation_fee=0.001)
    use = reported([FALLS[0], (97, 97, 90, 92)], guard=dear)
    assert use.figures()["Liquidation fees"] == pytest.approx(0.001 * 1000 * AT)
    assert use.sentences()[2] == "1 liquidation; fees of 95.96."
    use = reported([FALLS[0], (90, 90, 90, 90)], guard=dear)
    assert use.figures()["Liquidations"] == 1
    assert use.figures()["Paid by insurance"] == pytest.approx(5_000)  # 10 lost, 5 of margin
    expected = "1 liquidation, 1 of them after a gap at the open; insurance paid 5,000.00"
    assert use.sentences()[2] == f"{expected} beyond the margin."


def test_funding_and_interest_are_entries_of_their_own(tmp_path):
    rates = pd.Series(0.0001, pd.date_range("2020-01-07", periods=2))
    guard = bt_risk.MarginAccount(20, TIERS, buffer=None, funding=rates, borrow_rate=0.0365)
    strategy = ran(bars(*flat(5), *[FALLS[0]] * 3), guard=guard)
    record = record_of(strategy)
    # Bars 7 and 8: 0.01 % of 100,000 each, and a day at 3.65 % a year on the 95,000 borrowed.
    costs = {"Funding paid": 20.0, "Interest paid": 19.0}
    found = record.margin.figures()
    assert {name: found[name] for name in costs} == pytest.approx(costs)
    sentence = "20.00 of funding and 19.00 of interest"
    assert record.margin.sentences()[-1] == f"What was held cost {sentence}."
    assert f"; what it held cost {sentence};" in headline(record, daily_returns(record))
    text = tear_sheet(strategy, tmp_path / "page.html").read_text(encoding="utf-8")
    on_page = figures_on(text)
    assert {name: on_page[name] for name in costs} == pytest.approx(costs)
    without = reported(FALLS).figures()
    assert not set(costs) & set(without)


def test_the_page_draws_the_distances_and_has_a_section_only_with_an_account(tmp_path):
    strategy = ran(bars(*flat(5), *FALLS), plan=[BUY, stop(95.0)])
    record = record_of(strategy)
    drawn = unpacked(margin_chart(record).block)
    distances, ratios = drawn["panes"]
    lines = {one["name"]: numbers(one["steps"], one["unit"]) for one in distances["lines"]}
    assert lines["liquidation"][:5] == lines["stop"][:5] == [None] * 5
    assert lines["liquidation"][5:] == pytest.approx(
        [(100 - AT) / 100, (97 - AT) / 97, (97 - AT) / 97], abs=1e-5
    )
    assert lines["stop"][5] is None
    assert lines["stop"][6:] == pytest.approx([2 / 97] * 2, abs=1e-5)
    (line,) = ratios["lines"]
    assert numbers(line["steps"], line["unit"])[5:] == pytest.approx([0.2, 0.485, 0.485], abs=1e-4)
    assert [limit["value"] for limit in ratios["limits"]] == [0.8, 1.0]
    page = tear_sheet(strategy, tmp_path / "with.html").read_text(encoding="utf-8")
    section = re.search(r'<section id="margin".+?</section>', page, re.DOTALL)[0]
    assert 'href="#margin"' in page
    for sentence in record.margin.sentences():
        assert sentence in section
    for name, _, text in margin_rows(record.margin):
        assert f">{name}</th>" in section
        assert f">{text}</td>" in section
    bare = ran(bars(*flat(5), *FALLS), guard=None)
    assert record_of(bare).margin is None
    assert margin_chart(record_of(bare)) is None
    assert "#margin" not in tear_sheet(bare, tmp_path / "bare.html").read_text(encoding="utf-8")


def test_the_first_sentence_names_liquidations_and_stops_that_protect_nothing():
    record = record_of(ran(bars(*flat(5), *FALLS, (90, 90, 90, 90)), plan=[BUY, stop(95.0)]))
    text = headline(record, daily_returns(record))
    assert "; it had 1 liquidation; its stop lay beyond liquidation on 66.7% of its bars" in text
    calm = record_of(ran(bars(*flat(5), *FALLS)))
    assert "liquidation" not in headline(calm, daily_returns(calm))


def test_of_several_positions_the_nearest_is_drawn():
    fall = bars(*flat(5), *FALLS)
    still = bars(*flat(5), *[FALLS[0]] * 3)
    both = [(5, "buy", (("data", number), ("size", 100))) for number in (0, 1)]
    use = record_of(ran(still, fall, plan=both)).margin
    assert use.figures()["Bars in a position"] == 6
    assert use.nearest["name"].tolist()[1:] == ["D1", "D1"]


def test_a_position_whose_feed_is_silent_counts_on_each_bar():
    """A feed with a bar every second day is held on the days between, too."""
    daily = bars(*flat(5), *[FALLS[0]] * 6)
    seldom = daily.iloc[::2]
    use = record_of(ran(daily, seldom, plan=[(5, "buy", (("data", 1), ("size", 100)))])).margin
    times = use.samples["time"]
    assert use.samples["name"].unique().tolist() == ["D1"]
    assert times.tolist() == list(pd.date_range(times.iloc[0], "2020-01-11"))
    assert len(times) == 5


def test_an_unknown_distance_counts_as_the_nearest():
    fall = bars(*flat(5), *FALLS)
    both = [(5, "buy", (("data", number), ("size", 100))) for number in (0, 1)]
    use = record_of(ran(fall, fall, plan=both)).margin
    use.samples.loc[2, "distance"] = math.nan
    assert use.nearest["distance"].isna().tolist() == [False, True, False]
    assert use.figures()["Nearest to liquidation"] == pytest.approx((97 - AT) / 97)


def test_an_observed_run_says_that_nothing_was_liquidated():
    use = reported([FALLS[0], (90, 90, 90, 90)], observe=True)
    assert use.sentences()[-1] == "Nothing was liquidated or charged by bt_risk in this run."
    assert "Liquidations" not in use.figures()
    assert use.figures()["Nearest to liquidation"] == pytest.approx((90 - AT) / 90)  # beyond it
    assert use.figures()["Highest margin ratio"] == math.inf


def test_an_account_without_a_position_says_so():
    record = record_of(ran(bars(*flat(8)), plan=[]))
    assert record.margin.sentences()[0] == "No position was held at the close of a bar."
    assert margin_chart(record) is None
    assert math.isnan(record.margin.figures()["Stop beyond liquidation"])


class Always(bt.Strategy):
    """Hold a long with a stop of 2 ATR on every bar, without leverage in its size."""

    def next(self):
        if not self.position:
            self.buy(size=0.001)


@pytest.mark.parametrize(("leverage", "low", "high"), [(20, 0.0, 0.001), (125, 0.35, 0.36)])
def test_at_125x_a_stop_protects_nothing_for_a_third_of_the_hours(leverage, low, high):
    path = shared_data("crypto_1h_2024/BTCUSDT_1h_2024.csv.gz")
    frame = bt_risk.read_prices(path).iloc[:2000]
    engine = cerebro(frame, names=["BTC"])
    guard = bt_risk.MarginAccount(leverage, tiers=[(0, 0.004)], buffer=None)
    engine.setbroker(bt_risk.RiskBroker(engine.broker, guards=[guard]))
    engine.addobserver(bt_risk.ATRTrailingStop)
    engine.addstrategy(Always)
    engine.addanalyzer(bt_risk.ReportData)
    use = record_of(engine.run()[0]).margin
    assert len(use.samples) > 1_600
    assert low <= use.share_beyond <= high
