"""The store of Interactive Brokers where the connection drops, or the process dies."""

import itertools
import signal

import pytest
from helpers.ib_run import BUY, LOOSE, ROWS, filled, killed_trade, sound, stops, trade, tws
from helpers.scenarios import Script
from helpers.slices import sliced

import bt_risk

HELD = {21: lambda s: s.buy(size=900)}
POLICY = bt_risk.Policy(**LOOSE, drawdown_limit=0.02, atr_multiple=3.0)


def lost(venue):
    """TWS loses Interactive Brokers, which goes on without it."""
    venue.connected_to_ib = False
    venue.error(-1, 1100, "Connectivity between IB and TWS has been lost")


def found(code):
    def act(venue):
        venue.connected_to_ib = True
        venue.error(-1, code, "Connectivity between IB and TWS has been restored")

    return act


@pytest.mark.parametrize(
    ("code", "bar"), sliced(itertools.product([1101, 1102], [20, 21, 24, 28]), 3)
)
def test_tws_loses_interactive_brokers_and_has_it_again(bar, code):
    told = []
    with tws() as venue:
        strategy = trade(
            venue, BUY, outages={bar: (lost, found(code))}, notify=told.append, idle=20
        )
        sound(venue)
        assert len(strategy) == len(ROWS)
    assert any("DISCONNECTED" in text for text in told) == (bar > 20)
    assert strategy.held[-1] == (0.0,)


@pytest.mark.parametrize("bar", sliced(range(20, 33), 4))
def test_a_socket_that_drops_is_opened_again_and_no_bar_is_missing(bar):
    with tws() as venue:
        strategy = trade(venue, HELD, POLICY, acts={bar: lambda venue: venue.drop()}, idle=20)
        sound(venue)
        assert len(strategy) == len(ROWS)
        assert sum(filled(strategy)) == 0.0
        assert max(filled(strategy)) == 900.0
    assert strategy.held[-1] == (0.0,)


def test_bars_and_fills_of_an_outage_are_there_after_it():
    """The stop fills while the socket is down; the position is not sold twice."""

    def drop(venue):
        venue.refuses = True
        venue.drop()

    def back(venue):
        while venue.positions[1]:
            assert venue.next_bar()
        venue.refuses = False

    with tws() as venue:
        strategy = trade(venue, BUY, outages={24: (drop, back)}, idle=20)
        sound(venue)
        assert len(strategy) == len(ROWS)
    assert [o.type for o in venue.orders.values()] == ["MKT", "STP"]
    assert len(strategy.trades) == 1


def test_an_order_that_never_arrived_ends_after_the_next_connection():
    with tws() as venue:
        venue.lose = {1}
        strategy = trade(venue, BUY, acts={22: lambda venue: venue.drop()}, idle=20)
        sound(venue)
    assert strategy.orders[-1][2] == "Canceled"


def test_one_list_that_lacks_an_order_ends_nothing():
    """After a connection TWS may not have loaded all orders yet."""
    with tws() as venue:
        venue.hidden = {2: 0}

        def drop(venue):
            venue.hidden[2] = 2  # the list of the connection, and the first look
            venue.drop()

        trade(venue, BUY, acts={24: drop}, idle=20, reconcile_every=0)
        sound(venue)
        assert venue.hidden[2] == 0
        assert len(stops(venue)) == 1


class Tries(Script):
    """Send an order while the connection is down, past the gate."""

    errors = ()

    def notify_data(self, data, status, *args, **kwargs):
        if status == data.DISCONNECTED:
            try:
                self.broker.inner.buy(self, data, 10)
            except ConnectionError as error:
                self.errors = (*self.errors, str(error))


def test_nothing_is_sent_while_tws_has_no_connection():
    with tws() as venue:
        outage = {24: (lost, found(1102))}
        strategy = trade(venue, None, outages=outage, strategy=Tries, idle=20)
        assert venue.orders == {}
    assert strategy.errors == ("IBBroker: TWS is not connected to Interactive Brokers",)


# With the first seven requests it connects, and begins: an error there ends the run before it
# trades. A run makes some twenty.
FIRST, REQUESTS = 8, 22


@pytest.mark.parametrize("number", sliced(range(1, FIRST), 3))
def test_a_connection_that_drops_while_it_is_made_is_one_clear_error(number):
    with tws() as venue:
        venue.drops = {number: "answer"}
        with pytest.raises(ConnectionError):
            trade(venue, HELD, POLICY)
        assert venue.orders == {}


@pytest.mark.parametrize(
    ("request_number", "kind"),
    sliced(itertools.product(range(FIRST, REQUESTS + 1), ["request", "answer"]), 7),
)
def test_a_connection_that_drops_with_any_request_leaves_the_account_as_it_should_be(
    request_number, kind
):
    with tws() as venue:
        venue.drops = {request_number: kind}
        strategy = trade(venue, HELD, POLICY, idle=40)
        sound(venue)
        assert len(strategy) == len(ROWS)
    assert strategy.held[-1] == (0.0,)


# -- a new process -------------------------------------------------------------------------------


def test_a_restart_finds_the_position_and_its_stop_and_places_no_second_one(tmp_path):
    with tws() as venue:
        trade(venue, BUY, until=24, state=tmp_path / "risk.db")
        sound(venue, 100.0)
        (stop,) = venue.working
        strategy = trade(venue, None, state=tmp_path / "risk.db")
        sound(venue)
        assert stops(venue) == [stop]
        assert stop.status == "Filled"
    assert "unprotected" not in set(strategy.analyzers.riskjournal.frame().action)


@pytest.mark.parametrize("bar", sliced(range(20, 32), 4))
def test_a_process_that_is_killed_at_a_bar_leaves_one_stop(bar, tmp_path):
    with tws() as venue:
        state = tmp_path / "risk.db"
        assert killed_trade(venue, BUY, bar=bar, state=state) == signal.SIGKILL
        trade(venue, BUY, state=state, idle=12)
        sound(venue, venue.positions.get(1, 0.0))


WRITES = 54


@pytest.mark.parametrize(
    ("write", "after"), sliced(itertools.product(range(1, WRITES), (False, True)), 15)
)
def test_a_process_that_is_killed_at_a_write_of_its_state_leaves_one_stop(write, after, tmp_path):
    with tws() as venue:
        state = tmp_path / "risk.db"
        killed_trade(venue, HELD, POLICY, write=write, after=after, state=state)
        trade(venue, None, POLICY, state=state, idle=12)
        sound(venue, venue.positions.get(1, 0.0))


def test_a_stop_that_has_filled_between_two_runs_is_booked_once(tmp_path):
    with tws() as venue:
        trade(venue, BUY, until=24, state=tmp_path / "risk.db")
        while venue.positions[1]:
            assert venue.next_bar()
        strategy = trade(venue, None, state=tmp_path / "risk.db")
        sound(venue)
    assert len(venue.orders) == 2
    assert strategy.position.size == 0


def test_without_a_state_file_the_position_is_protected_by_what_rests(tmp_path):
    """What the restart finds has no record: the stop of the earlier run is an order of nobody."""
    with tws() as venue:
        trade(venue, BUY, until=24)
        strategy = trade(venue, None)
        assert venue.trouble == []
        assert strategy.position.size == venue.positions[1]
