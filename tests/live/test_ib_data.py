"""The data feed and the connection of Interactive Brokers."""

import socket
import subprocess
import sys

import backtrader as bt
import pytest
from helpers.ib_run import BUY, ROWS, connect, contract, sound, trade, tws
from helpers.tws import START

from bt_risk.stores.ib import IBData, IBStore


class Seen(bt.Strategy):
    """Note the bars, and the states of the data feed."""

    params = (("actions", None),)

    def __init__(self):
        self.bars, self.states = [], []

    def notify_data(self, data, status, *args, **kwargs):
        self.states.append((len(self), data._getstatusname(status)))

    def next(self):
        data = self.data
        self.bars.append((data.open[0], data.high[0], data.low[0], data.close[0]))


def test_every_bar_is_there_once_and_the_past_comes_before_live():
    with tws() as venue:
        strategy = trade(venue, None, strategy=Seen)
    assert strategy.bars == ROWS
    assert strategy.states == [(0, "DELAYED"), (20, "LIVE")]
    first = bt.num2date(strategy.data.datetime.array[0])
    assert first.timestamp() == START - first.astimezone().utcoffset().total_seconds()


def test_what_was_missed_comes_between_disconnected_and_live():
    def down(venue):
        venue.refuses = True
        venue.drop()

    def up(venue):
        for _ in range(3):
            venue.next_bar()
        venue.refuses = False

    with tws() as venue:
        strategy = trade(venue, None, strategy=Seen, outages={24: (down, up)}, idle=20)
    assert strategy.bars == ROWS
    states = [state for state in strategy.states if state[0] >= 24]
    assert states == [(24, "DISCONNECTED"), (24, "DELAYED"), (27, "LIVE")]


@pytest.mark.parametrize("code", [162, 10197, 366])
def test_bars_that_end_with_an_error_begin_again(code):
    acts = {24: lambda venue: venue.end_bars(code)}
    with tws() as venue:
        strategy = trade(venue, BUY, acts=acts, idle=20)
        sound(venue)
        assert len(strategy) == len(ROWS)


@pytest.mark.parametrize("code", [2104, 2106, 2158, 10167])
def test_a_notice_ends_no_bars(code):
    acts = {24: lambda venue: venue.end_bars(code)}
    with tws() as venue:
        strategy = trade(venue, None, strategy=Seen, acts=acts)
    assert "DISCONNECTED" not in [name for _, name in strategy.states]
    assert strategy.bars == ROWS


def test_a_history_that_is_refused_is_asked_for_again():
    with tws() as venue:
        venue.no_history = 2
        strategy = trade(venue, None, strategy=Seen)
    assert strategy.bars == ROWS


def test_the_last_bar_of_a_session_closes_without_a_later_one():
    """Its end is five seconds ago, and nothing trades."""
    now = [START + 60.0 * 20]
    with tws() as venue:
        store = connect(venue, now=lambda: now[0])
        data = IBData(store=store, contract=contract())
        bt.Cerebro().adddata(data)
        data._start()
        store.wait_for(lambda: len(data._waiting) == 20, 5.0)
        data._close_late_bar()
        assert len(data._waiting) == 20
        now[0] += 60.0 + 5.0
        data._close_late_bar()
        data._close_late_bar()
        assert len(data._waiting) == 21
        store.stop()


@pytest.mark.parametrize(
    ("asked", "days"), [(None, 1), (3600.0, 1), (86_400.0 * 2.5, 3), (86_400.0 * 900, 365)]
)
def test_the_history_reaches_back_to_the_last_bar(asked, days):
    with tws() as venue:
        store = connect(venue, now=lambda: 1e9)
        data = IBData(store=store, contract=contract())
        data._newest = 1e9 - asked if asked else 0.0
        bt.Cerebro().adddata(data)
        data._start()
        store.wait_for(lambda: venue.durations, 5.0)
        assert venue.durations == [f"{days} D"]
        store.stop()


@pytest.mark.parametrize(
    ("timeframe", "compression", "size"),
    [
        (bt.TimeFrame.Seconds, 5, "5 secs"),
        (bt.TimeFrame.Minutes, 1, "1 min"),
        (bt.TimeFrame.Minutes, 15, "15 mins"),
        (bt.TimeFrame.Minutes, 60, "1 hour"),
        (bt.TimeFrame.Minutes, 240, "4 hours"),
        (bt.TimeFrame.Days, 1, "1 day"),
    ],
)
def test_bars_have_the_names_that_ib_gives_them(timeframe, compression, size):
    settings = dict(timeframe=timeframe, compression=compression)
    assert IBData(store=IBStore(), contract=contract(), **settings)._size == size


def test_bars_that_ib_does_not_have_are_an_error():
    with pytest.raises(ValueError, match="IB has no live bars of 7 Minutes"):
        IBData(store=IBStore(), contract=contract(), compression=7)


def test_a_tws_that_does_not_answer_is_one_clear_error():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        store = IBStore(port=taken.getsockname()[1])
        with pytest.raises(ConnectionError, match="Is its API enabled"):
            store.start()


def test_a_login_with_several_accounts_needs_to_know_which():
    with tws() as venue:
        venue.accounts = "DU1,DU2"
        store = connect(venue)
        with pytest.raises(ValueError, match="account must be one of DU1, DU2"):
            store.start()
        store.stop()
        store = connect(venue, account="DU1")
        store.start()
        assert store.account == "DU1"
        store.stop()


def test_without_ib_async_the_import_says_what_to_install():
    code = "import sys; sys.modules['ib_async'] = None; import bt_risk; import bt_risk.stores.ib"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == (
        "ImportError: bt_risk.stores.ib needs ib_async: pip install 'bt_risk[ib]'"
    )
