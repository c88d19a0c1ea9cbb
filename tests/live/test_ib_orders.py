"""The store of Interactive Brokers: kinds of orders, orders and positions of others, contracts."""

import datetime as dt
import math

import backtrader as bt
import pytest
from helpers.hostile_brokers import Clock
from helpers.ib_run import BUY, LOOSE, connect, contract, journal, sound, stops, trade, tws

import bt_risk
from bt_risk.stores.ib import IBBroker, IBData

OFF = bt_risk.Policy(**LOOSE, trailing_stop=False)


def kinds(venue):
    return [(o.type, o.side * o.quantity, o.status) for o in venue.orders.values()]


# -- orders of the strategy ----------------------------------------------------------------------


def bracket(strategy):
    return strategy.buy_bracket(size=100, exectype=bt.Order.Market, stopprice=96, limitprice=104)


def test_a_bracket_is_sent_whole_and_one_of_its_children_fills():
    with tws() as venue:
        trade(venue, {21: bracket}, OFF)
        assert venue.trouble == []
        parent, stop, limit = list(venue.orders.values())[:3]
        assert (stop.parent, limit.parent) == (parent.order_id, parent.order_id)
        assert [parent.transmit, stop.transmit, limit.transmit] == [False, False, True]
        assert (parent.status, stop.status, limit.status) == ("Filled", "Cancelled", "Filled")
        assert venue.positions[1] == 0.0


def test_a_take_profit_that_fills_in_parts_leaves_a_stop_behind_the_rest():
    with tws() as venue:
        venue.parts = {3: [40]}
        trade(venue, {21: bracket}, OFF, until=23)
        stop = next(iter(stops(venue)))
        assert (venue.positions[1], stop.left) == (60.0, 60.0)


def group(strategy):
    stop = strategy.sell(size=100, exectype=bt.Order.Stop, price=95.5)
    return strategy.sell(size=100, exectype=bt.Order.Limit, price=104.5, oco=stop)


def test_one_order_of_an_oco_group_fills_and_the_other_ends():
    with tws() as venue:
        strategy = trade(venue, BUY | {22: group}, OFF)
        _, stop, limit = venue.orders.values()
        assert stop.oca == limit.oca != ""
        assert (stop.status, limit.status) == ("Cancelled", "Filled")
        assert venue.positions[1] == 0.0
    assert strategy.held[-1] == (0.0,)


@pytest.mark.parametrize("offset", [dict(trailamount=2.0), dict(trailpercent=0.02)])
def test_a_trailing_stop_of_the_strategy_trails_at_the_venue(offset):
    def trail(strategy):
        return strategy.sell(size=100, exectype=bt.Order.StopTrail, **offset)

    with tws() as venue:
        strategy = trade(venue, BUY | {22: trail}, OFF)
        sound(venue)
        order = list(venue.orders.values())[1]
        assert (order.type, order.status) == ("TRAIL", "Filled")
        if "trailamount" in offset:
            assert order.aux == 2.0
        else:
            assert order.percent == 2.0
    assert strategy.held[-1] == (0.0,)


def test_a_kind_of_order_that_is_not_there_is_refused_with_a_reason():
    def trail(strategy):
        kind = bt.Order.StopTrailLimit
        return strategy.sell(size=100, exectype=kind, trailamount=2.0, plimit=90.0)

    with tws() as venue:
        strategy = trade(venue, BUY | {22: trail}, OFF)
        assert len(venue.orders) == 1
    assert "IBBroker has no orders of type StopTrailLimit" in strategy.orders[-1][-1]


def test_prices_are_sent_in_whole_ticks():
    def limit(strategy):
        return strategy.buy(size=10, exectype=bt.Order.Limit, price=93.33333)

    with tws() as venue:
        trade(venue, {21: limit}, OFF)
        assert next(iter(venue.orders.values())).limit == 93.33


@pytest.mark.parametrize(
    ("valid", "tif", "until"),
    [
        (None, "GTC", ""),
        (bt.Order.DAY, "DAY", ""),
        (dt.datetime(2030, 5, 6, 7, 8, 9), "GTD", "20300506 07:08:09 UTC"),
    ],
)
def test_an_order_is_good_for_as_long_as_it_says(valid, tif, until):
    def limit(strategy):
        return strategy.buy(size=10, exectype=bt.Order.Limit, price=90.0, valid=valid)

    with tws() as venue:
        strategy = trade(venue, {21: limit}, OFF)
        assert next(iter(venue.orders.values())).tif == tif
        sent = next(iter(strategy.broker.inner.tracker.trades.values())).order
        assert sent.goodTillDate == until


def test_further_arguments_are_fields_of_the_order_and_an_unknown_one_is_refused():
    actions = {
        21: lambda s: s.buy(size=10, exectype=bt.Order.Limit, price=90.0, hidden=True),
        22: lambda s: s.buy(size=10, exectype=bt.Order.Limit, price=90.0, colour="red"),
    }
    with tws() as venue:
        strategy = trade(venue, actions, OFF)
        assert len(venue.orders) == 1
        sent = next(iter(strategy.broker.inner.tracker.trades.values())).order
        assert sent.hidden
    assert "orders have no colour" in strategy.orders[-1][-1]


# -- what others do ------------------------------------------------------------------------------


def test_a_position_that_is_changed_by_hand_is_seen():
    seen = []

    def look(strategy):
        seen.append(strategy.broker.inner.getposition(strategy.data).size)

    acts = {22: lambda venue: venue.trade_by_hand(-40)}
    with tws() as venue:
        trade(venue, BUY | {22: look, 24: look}, OFF, acts=acts, idle=150, reconcile_every=0)
        assert venue.positions[1] == 60.0
    assert seen == [100.0, 60.0]


@pytest.mark.parametrize("by_hand", [-100, -40, 50])
def test_a_trade_by_hand_leaves_one_stop_of_the_right_size(by_hand):
    """The clock of the gate runs fast, so that it compares its book with the venue between bars."""
    acts = {23: lambda venue: venue.trade_by_hand(by_hand)}
    with tws() as venue:
        live = dict(clock=Clock(step=0.05), retry_after=1.0)
        strategy = trade(venue, BUY, until=24, acts=acts, idle=150, **live)
        sound(venue, 100.0 + by_hand)
    assert strategy.broker.book.instruments[0].size == 100.0 + by_hand
    assert len(journal(strategy, "position gone" if by_hand == -100 else None)) > 0


def test_orders_of_other_clients_are_listed_and_left_alone():
    with tws() as venue:
        other = venue.order_of_another("SELL", 30, 120.0)
        strategy = trade(venue, BUY, until=24)
        listed = [o.info.client_id for o in strategy.made]  # what the strategy has sent
        assert other.alive
        assert other.ref not in listed
    assert "cancel" not in venue.log


# -- ids -----------------------------------------------------------------------------------------


def begin(venue, **settings):
    """Return a broker and its data feed that have started without a Cerebro."""
    store = connect(venue)
    data = IBData(store=store, contract=contract(**settings))
    broker = IBBroker(store=store)
    broker.start()
    return broker, data


def test_a_client_id_finds_what_works_what_has_filled_and_nothing_else():
    with tws() as venue:
        trade(venue, BUY, until=24)
        broker, data = begin(venue)
        one, two = (broker.order_by_client_id(name) for name in venue.seen)
        assert (one.status, one.executed.size) == (one.Completed, 100)
        assert (two.status, two.executed.remsize) == (two.Accepted, -100)
        assert two.created.price == stops(venue)[0].aux
        assert broker.order_by_client_id("three") is None
        assert broker.getposition(data).size == 100
        venue.error(-1, 1100, "lost")
        broker.next()
        with pytest.raises(ConnectionError):
            broker.order_by_client_id("three")
        with pytest.raises(ConnectionError):
            broker.get_orders_open()
        broker.stop()


# -- contracts and the account -------------------------------------------------------------------


def test_what_a_contract_is_comes_from_its_details():
    with tws(con_ids=(1, 2, 3)) as venue:
        broker, future = begin(venue, symbol="FUT", sec_type="FUT", exchange="CME")
        scheme = broker.getcommissioninfo(future)
        assert (scheme.p.mult, scheme.stocklike) == (50.0, False)
        assert scheme.profitandloss(2, 100.0, 101.0) == 100.0
        assert (future.contractdetails.minTick, future.multiplier) == (0.25, 50.0)
        share = IBData(store=broker.store, contract=contract(symbol="EEE", currency="EUR"))
        assert (share.currency, broker.currency) == ("EUR", "USD")
        assert [broker.rate(name) for name in ("USD", "EUR")] == [1.0, 1.1]
        assert math.isnan(broker.rate("JPY"))
        broker.stop()


def test_a_contract_that_is_not_exactly_one_is_an_error():
    with tws() as venue, pytest.raises(ValueError, match="0 contracts are named"):
        begin(venue, symbol="ZZZ")[1].contractdetails  # noqa: B018


def test_the_value_of_some_data_feeds_is_that_of_their_positions():
    seen = []
    actions = BUY | {23: lambda s: seen.append(s.broker.inner.getvalue([s.data]))}
    with tws() as venue:
        trade(venue, actions, OFF)
    assert seen == [100 * 103.0]


def test_cash_follows_the_fills_where_ib_reports_it_later():
    with tws() as venue:
        venue.silent_account = True
        strategy = trade(venue, BUY)
        sound(venue)
        assert strategy.broker.getcash() == pytest.approx(venue.cash)
    assert not any("unknown" in reason for reason in journal(strategy, "equity"))
