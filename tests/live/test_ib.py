"""The store of Interactive Brokers, against a TWS of our own that speaks its wire protocol."""

import pytest
from helpers.ib_run import BUY, LOOSE, filled, journal, sound, stops, trade, tws

import bt_risk


def test_an_entry_has_one_stop_which_moves_in_place_and_closes_the_position():
    with tws() as venue:
        strategy = trade(venue, BUY)
        sound(venue)
    stop = next(order for order in venue.orders.values() if order.type == "STP")
    assert [o.type for o in venue.orders.values()] == ["MKT", "STP"]
    assert stop.moves >= 4
    assert journal(strategy, "equity") == []
    assert strategy.held[-1] == (0.0,)


def test_what_a_trade_earns_is_what_the_account_has_earned():
    with tws() as venue:
        strategy = trade(venue, BUY)
    ((_, _, earned),) = strategy.trades
    assert earned == pytest.approx(venue.cash - 100_000.0)
    assert strategy.broker.getvalue() == pytest.approx(venue.value)
    assert strategy.broker.getcash() == pytest.approx(venue.cash)


@pytest.mark.parametrize("first", ["status", "execution", "position"])
@pytest.mark.parametrize("parts", [[40, 35], [1, 1, 1]])
def test_parts_of_an_entry_and_of_a_stop_are_counted_once(first, parts):
    with tws() as venue:
        venue.parts, venue.order_of = {1: list(parts), 2: list(parts)}, first
        strategy = trade(venue, BUY)
        sound(venue)
        assert sum(size for o, _, size, _ in venue.executions if o.side > 0) == 100
    assert strategy.held[-1] == (0.0,)
    assert max(strategy.held) == (100.0,)


def test_executions_that_come_only_when_asked_for_are_found():
    with tws() as venue:
        venue.late_executions = True
        strategy = trade(venue, BUY, idle=20)
        sound(venue)
        assert [o.type for o in venue.orders.values()] == ["MKT", "STP"]
    assert strategy.held[-1] == (0.0,)


def test_executions_that_come_long_after_the_end_are_waited_for():
    with tws() as venue:
        venue.late_executions, venue.forgetful = True, 3
        strategy = trade(venue, BUY, idle=40, reconcile_every=0)
        sound(venue)
    assert "Canceled" not in [row[2] for row in strategy.orders]


def test_a_fill_without_its_commission_is_booked_before_the_order_ends():
    with tws() as venue:
        venue.no_fees, venue.order_of = True, "execution"
        strategy = trade(venue, BUY)
        sound(venue)
        orders = strategy.broker.inner.tracker.by_client_id.values()
        assert [order.executed.psize for order in orders] == [100.0, 0.0]
    states = [row[2] for row in strategy.orders]
    assert states[:3] == ["Submitted", "Accepted", "Completed"]
    assert "Canceled" not in states


def test_an_execution_that_is_corrected_is_no_second_one():
    with tws() as venue:
        strategy = trade(venue, BUY, acts={22: lambda venue: venue.correct_last()})
        sound(venue)
    assert filled(strategy) == [100.0, -100.0]


@pytest.mark.parametrize(
    "warning",
    [
        (399, "Order Message: will not be placed at the exchange until the open"),
        (10167, "Requested market data is not subscribed"),
        (2109, "Outside Regular Trading Hours is ignored"),
        (404, "Order held while securities are located"),
        (110, "The price does not conform to the minimum price variation"),
        (10999, "A warning of next year"),
    ],
)
@pytest.mark.parametrize("number", [1, 2])
def test_a_warning_ends_no_order(warning, number):
    with tws() as venue:
        venue.warn = {number: warning}
        strategy = trade(venue, BUY)
        sound(venue)
        assert [o.type for o in venue.orders.values()] == ["MKT", "STP"]
    assert "Rejected" not in [row[2] for row in strategy.orders]


def test_an_order_that_is_listed_works_even_if_its_status_is_not_reported():
    with tws() as venue:
        venue.warn, venue.silent_lists = {2: (10999, "A warning of next year")}, True
        trade(venue, BUY)
        sound(venue)
        assert len(stops(venue)) == 1


@pytest.mark.parametrize("code", [105, 110, 321, 329, 201])
def test_a_stop_that_cannot_be_modified_is_cancelled_and_placed_again(code):
    with tws() as venue:
        venue.modify_answers = dict.fromkeys(range(2, 20), code)
        trade(venue, BUY, idle=20)
        sound(venue)
        assert len(stops(venue)) > 3


def test_a_refused_entry_is_rejected_with_the_reason_of_ib():
    with tws() as venue:
        venue.reject = {1: (201, "Order rejected - insufficient funds")}
        strategy = trade(venue, BUY)
        sound(venue)
    assert [row[2] for row in strategy.orders][-1] == "Rejected"


def test_a_refused_stop_is_placed_again():
    with tws() as venue:
        venue.reject = {2: (201, "Order rejected - try later")}
        strategy = trade(venue, BUY)
        sound(venue)
        assert len(stops(venue)) == 1
    assert len(journal(strategy, "unprotected")) == 1


def test_an_order_that_is_inactive_is_cancelled_before_it_counts_as_refused():
    with tws() as venue:
        acts = {21: lambda venue: venue.hold(stops(venue)[0])}
        trade(venue, BUY, acts=acts)
        sound(venue)
        assert [o.status for o in stops(venue)] == ["Cancelled", "Filled"]


def test_the_breaker_closes_everything_although_the_stop_is_gone_and_its_cancel_is_10148():
    """The venue has lost the stop: no fill, no word, and every cancel is answered with an error."""
    policy = bt_risk.Policy(**LOOSE, drawdown_limit=0.02, atr_multiple=8.0)
    with tws() as venue:
        acts = {27: lambda venue: venue.forget(stops(venue)[0])}
        strategy = trade(venue, {21: lambda s: s.buy(size=900)}, policy, idle=20, acts=acts)
        sound(venue)
        assert "cancel None" in venue.log
    assert strategy.analyzers.drawdownbreaker.get_analysis()["flattened"]


def test_a_cancel_that_is_refused_is_sent_again_and_the_order_stays_known():
    policy = bt_risk.Policy(**LOOSE, drawdown_limit=0.02, atr_multiple=8.0)
    with tws() as venue:
        venue.cancel_answers = {2: 10148}
        acts = {28: lambda venue: venue.cancel_answers.clear()}
        trade(venue, {21: lambda s: s.buy(size=900)}, policy, idle=20, acts=acts)
        sound(venue)


def test_halt_closes_everything():
    actions = BUY | {24: lambda s: s.broker.halt("by hand", flatten=True)}
    with tws() as venue:
        strategy = trade(venue, actions)
        sound(venue)
        assert [(o.type, o.status) for o in venue.orders.values()] == [
            ("MKT", "Filled"),
            ("STP", "Cancelled"),
            ("MKT", "Filled"),
        ]
    assert strategy.held[-1] == (0.0,)


def test_the_margin_ratio_is_maintenance_margin_by_equity_with_it():
    """100 of a unit of 100 need a quarter of their value, 2,500, of 100,000."""
    with tws() as venue:
        strategy = trade(venue, {21: lambda s: s.buy(size=100)}, until=23)
        broker = strategy.broker.inner
        needed = 0.25 * abs(venue.value - venue.cash)
    assert broker.margin_ratio() == pytest.approx(needed / venue.value, rel=1e-3)
    assert broker.margin_ratio() == pytest.approx(0.025, rel=0.1)
