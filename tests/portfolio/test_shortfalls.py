"""Why trades lose more than 1 R: each cause by hand, on both sides.

The market stands still at 100 with an ATR of 2: an entry at the open of bar 6 has its stop 4 away,
so that R is 4 for each unit. Shorts see the mirror image.
"""

import backtrader as bt
import pytest
from helpers.scenarios import Plan, bars, cerebro, flat, taped

import bt_risk
from bt_risk.rules.loss_distribution import TradeLoss, loss_distribution

OFF = dict.fromkeys(
    ("risk_limit", "notional_limit", "exposure_limit", "correlation_limit", "drawdown_limit")
)
POLICY = dict(**OFF, atr_period=3, sizer=False)
ENTRY = (5, "buy", {"size": 100})
CALM = (100, 101, 99, 100)


def percent(broker):
    broker.setcommission(commission=0.001)


def slips(broker):
    broker.set_slippage_perc(0.01, slip_open=False)


# name: bars from the entry on, scheme, policy, orders; R-multiple and parts beyond 1 R
LONG = {
    "entry bar": ([(100, 101, 93, 94), (94, 95, 93, 94)], None, {}, (), -1.5, {"entry bar": 0.5}),
    "entry bar, then a gap": (
        [(100, 101, 93, 94), (93, 94, 92, 93)],
        *(None, {}, (), -1.75, {"entry bar": 0.5, "gap": 0.25}),
    ),
    "gap": ([CALM, (92, 93, 91, 92)], None, {}, (), -2.0, {"gap": 1.0}),
    "a gap on the bar after the next": (
        [CALM, CALM, (90, 93, 89, 92)],
        *(None, {}, (), -2.5, {"gap": 1.5}),
    ),
    "cost": ([CALM, (99, 99, 95, 97)], percent, {}, (), -1.049, {"cost": 0.049}),
    "cost that was planned": (
        [CALM, (99, 99, 95, 97)],
        *(percent, {"costs_in_risk": True}, (), -1.0, {}),
    ),
    "venue": ([CALM, (99, 99, 90, 97)], slips, {}, (), -1.24, {"venue": 0.24}),
    "venue that was planned": (
        [CALM, (99, 99, 90, 97)],
        *(slips, {"costs_in_risk": True, "slippage": 0.01}, (), -1.0, {}),
    ),
    "no stop": (
        [CALM, (99, 99, 93, 94), (94, 95, 93, 94), CALM],
        *(None, {"trailing_stop": False}, [(7, "close", {})], -1.5, {"no stop": 0.5}),
    ),
    "a stop that acts at the close": (
        [CALM, (99, 99, 92, 93), (92, 93, 91, 92)],
        *(None, {"trigger": "close"}, (), -2.0, {"no stop": 0.75, "gap": 0.25}),
    ),
    "added": (
        [CALM, (104, 105, 103, 104), (104, 105, 103, 104), (97, 98, 96, 97)],
        *(None, {"trailing_stop": False}, [(7, "buy", {"size": 100}), (8, "close", {})]),
        *(-1.25, {"added": 0.25}),
    ),
    "no more than was risked": ([CALM, (99, 99, 95, 97)], None, {}, (), -1.0, {}),
}


def mirrored(rows):
    return [(200 - o, 200 - low, 200 - high, 200 - c) for o, high, low, c in rows]


def played(rows, charge, changed, orders, short, mode="runonce"):
    rows = [*flat(5), *rows, *flat(2, rows[-1][-1])]
    flipped = {"buy": "sell"}
    plan = [(bar, flipped.get(m, m) if short else m, a) for bar, m, a in [ENTRY, *orders]]
    engine = cerebro(bars(*(mirrored(rows) if short else rows)))
    if charge is not None:
        charge(engine.broker)
    bt_risk.protect(engine, bt_risk.Policy(**POLICY | changed))
    engine.addanalyzer(bt_risk.ReportData)
    return taped(engine, plan, mode)


def cost_of(short, name, value):
    """A short pays 0.1 % of 104 in place of 96, and slips by 1 % of it: 1.04."""
    longer = {"cost": (0.049, 0.051), "venue": (0.24, 0.26)}
    low, high = longer.get(name, (0.0, 0.0))
    return value + high - low if short else value


@pytest.mark.parametrize("mode", ["runonce", "exactbars"])
@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("name", LONG)
def test_each_cause_is_what_was_lost_beyond_the_first_stop(name, short, mode):
    rows, charge, changed, orders, multiple, parts = LONG[name]
    result = played(rows, charge, changed, orders, short, mode)
    (trade,) = result.analyzers.riskjournal._journal.trades
    assert trade.r_multiple == pytest.approx(-cost_of(short, name, -multiple))
    expected = {cause: cost_of(short, name, part) for cause, part in parts.items()}
    assert trade.loss.parts() == pytest.approx(expected)
    assert trade.loss.cause == (max(expected, key=expected.get) if expected else "")
    record = result.analyzers.reportdata.record
    assert list(record.trades["cause"]) == [trade.loss.cause]
    assert record.losses == result.analyzers.riskjournal.losses()
    assert record.losses.worst == trade.r_multiple


def test_the_entry_bar_is_added_up():
    rows, *rest = LONG["entry bar, then a gap"]
    losses = played(rows, *rest[:3], False).analyzers.riskjournal.losses()
    assert (losses.entry_bar, losses.entry_bar_trades, losses.stopped_at_entry) == (0.5, 1, 0)
    assert "The unprotected bar of the entry cost 0.50 R beyond the stops of 1 trades." in (
        losses.sentences()
    )


def test_two_strategies_have_each_their_own_losses():
    rows = [*flat(5), CALM, (92, 93, 91, 92), *flat(2, 92)]
    engine = cerebro(bars(*rows))
    bt_risk.protect(engine, bt_risk.Policy(**POLICY))
    for size in (100, 50):
        engine.addstrategy(Plan, plan=[(5, "buy", {"size": size})])
    first, _ = engine.run()
    trades = first.analyzers.riskjournal._journal.trades
    assert [trade.loss.parts() for trade in trades] == [{"gap": 1.0}] * 2


def test_a_trade_that_is_closed_in_two_fills_shares_its_causes():
    # Half of it leaves at 98 (0.25 R of the whole), the rest through a gap at 92: 1 R and more.
    orders = [(6, "sell", {"size": 50})]
    rows = [CALM, (98, 99, 97, 98), (92, 93, 91, 92)]
    result = played(rows, None, {}, orders, False)
    (trade,) = result.analyzers.riskjournal._journal.trades
    assert trade.r_multiple == pytest.approx(-(50 * 2 + 50 * 8) / 400)
    assert trade.loss.beyond == pytest.approx({"gap": 50 * 4 / 400})
    assert trade.loss.parts() == pytest.approx({"gap": 0.25})


def test_a_second_trade_begins_without_losses():
    rows = [*flat(5), CALM, (92, 93, 91, 92), *flat(8), (99, 99, 95, 97), *flat(2)]
    engine = cerebro(bars(*rows))
    bt_risk.protect(engine, bt_risk.Policy(**POLICY))
    result = taped(engine, [ENTRY, (14, "buy", {"size": 50})])
    first, second = result.analyzers.riskjournal._journal.trades
    assert first.loss.beyond == {"gap": 1.0}
    assert second.loss.beyond == {}


def test_futures_count_their_points():
    def futures(broker):
        broker.setcommission(commission=0.0, margin=100.0, mult=10.0)

    rows, _, changed, orders, multiple, parts = LONG["gap"]
    (trade,) = played(rows, futures, changed, orders, False).analyzers.riskjournal._journal.trades
    assert (trade.r_multiple, trade.loss.parts()) == (multiple, parts)


def test_without_trades_there_is_nothing_to_say():
    losses = loss_distribution([])
    assert (losses.sentences(), losses.worst_cause) == ([], "")
    assert loss_distribution([TradeLoss(float("nan"))]).trades == 0
    assert TradeLoss(2.0, 0.05).parts() == {}
    planned = TradeLoss(-1.5, 0.05, 0.05, {"gap": 0.5})
    assert planned.parts() == pytest.approx({"gap": 0.5})
    assert loss_distribution([TradeLoss(-3.0)]).beyond[2.0] == {"unknown": 1}


def test_the_page_states_the_distribution(tmp_path):
    rows, charge, changed, orders, *_ = LONG["gap"]
    result = played(rows * 6, charge, changed, orders, True)
    page = bt_risk.report.tear_sheet(result, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "1 trade (100.0%) lost more than 1 R, the worst 2.00 R (gap)" in page
    assert 'data-figure="Trades beyond 1.5 R" data-value="1.0"' in page
    assert "A full stop-out costs 1.00 R with its commission." in page


def test_a_bracket_that_is_stopped_on_its_next_bar_is_no_gap():
    assert bt.Order.Stop  # its own stop is where the trade is judged
    rows = [*flat(5), CALM, (99, 99, 95, 97), *flat(2, 97)]
    engine = cerebro(bars(*rows))
    bt_risk.protect(engine, bt_risk.Policy(**POLICY, trailing_stop=False))
    bracket = {"size": 100, "exectype": bt.Order.Market, "stopprice": 96.0, "limitprice": 110.0}
    result = taped(engine, [(5, "buy_bracket", bracket)])
    (trade,) = result.analyzers.riskjournal._journal.trades
    assert (trade.r_multiple, trade.loss.parts()) == (-1.0, {})
