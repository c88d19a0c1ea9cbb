"""The margin of what is held: its ratio, a margin call, and what it says.

The market stands still at 100; bar 6 fills what was ordered on bar 5. At 20x, 1 % maintains it: a
long from 100 has a margin of 5, and at 97 an equity of 2 against 0.97.
"""

import math

import pytest
from helpers.scenarios import bars, cerebro, flat, taped

import bt_risk
from bt_risk.monitors.margin import MarginMonitor

GUARD = bt_risk.MarginAccount(20, tiers=[(0, 0.01)], buffer=None, call=0.45)
BUY = (5, "buy", {"size": 1000})


def row(price):
    return (price, price, price, price)


def played(rows, orders=(BUY,), guard=GUARD, observe=False, prepare=None):
    engine = cerebro(bars(*flat(5), *rows))
    gate = bt_risk.RiskBroker(engine.broker, guards=[guard])
    gate.observe = observe
    engine.setbroker(gate)
    if prepare:
        prepare(engine)
    result = taped(engine, orders)
    return result, gate.registry.monitor(MarginMonitor), gate


def lines(gate, action):
    return [line[-1] for line in gate.journal.lines if line[3] == action]


@pytest.mark.parametrize("mode", ["isolated", "cross"])
def test_samples_have_ratio_and_distance(mode):
    guard = bt_risk.MarginAccount(20, [(0, 0.01)], mode, buffer=None)
    _, monitor, _ = played([row(100), row(97)], guard=guard)
    first, second = monitor.samples
    if mode == "isolated":
        assert (first.ratio, second.ratio) == pytest.approx((1 / 5, 0.97 / 2))
        at = 95 / 0.99
    else:
        assert (first.ratio, second.ratio) == pytest.approx((1_000 / 100_000, 970 / 97_000))
        at = 0.0  # the account is worth as much as the position
    assert second.distance == pytest.approx((97 - at) / 97)
    assert math.isnan(second.stop)
    assert monitor.ratio == second.ratio


def test_the_nearest_stop_is_sampled():
    stop = (6, "sell", {"size": 1000, "exectype": 3, "price": 96.0})
    _, monitor, _ = played([row(100), row(98), row(98)], [BUY, stop])
    assert [one.stop for one in monitor.samples] == pytest.approx(
        [math.nan, 2 / 98, 2 / 98], nan_ok=True
    )


def test_a_margin_call_refuses_entries_until_the_ratio_is_below_it():
    again = [(bar, "buy", {"size": 10}) for bar in (6, 7, 8, 9)]
    result, monitor, gate = played([row(100), row(97), row(97.5), row(99), row(99)], [BUY, *again])
    assert lines(gate, "margin call") == [
        "MarginAccount: margin ratio 0.48 >= 0.45: entries are refused"
    ]
    refused = [made.status == made.Rejected for made in result.made]
    # 97.5 has 0.975 / 2.5 = 0.39 (a little less for what was added).
    assert refused == [False, False, True, False, False]
    assert lines(gate, "note") == [
        "MarginAccount: margin ratio 0.39 < 0.45: entries are judged again"
    ]


def test_an_exit_passes_during_a_margin_call():
    result, _, _ = played([row(100), row(97), row(97), row(97)], [BUY, (7, "close", {})])
    assert result.position.size == 0


def test_a_call_ends_with_the_position():
    _, monitor, gate = played([row(100), row(97), row(97), row(97)], [BUY, (7, "close", {})])
    assert monitor.ratio == 0.0
    assert lines(gate, "note") == [
        "MarginAccount: margin ratio 0.00 < 0.45: entries are judged again"
    ]


def test_an_operator_can_rearm():
    _, monitor, gate = played([row(100), row(97)])
    monitor.rearm()
    assert not gate.trading_state
    assert lines(gate, "note") == ["MarginAccount: re-armed by hand: entries are judged again"]


def test_a_call_and_a_liquidation_are_alerts():
    heard = []
    played(
        [row(100), row(97), row(90)],
        prepare=lambda e: setattr(e.broker, "live", bt_risk.Live(notify=heard.append)),
    )
    assert ["margin call" in text for text in heard] == [True, False]
    assert ["D0 liquidation" in text for text in heard] == [False, True]


def test_observe_refuses_and_closes_nothing():
    result, monitor, gate = played([row(100), row(97), row(90)], observe=True)
    assert result.position.size == 1000
    assert monitor.liquidations == []
