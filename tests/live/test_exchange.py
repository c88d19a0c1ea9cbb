"""End to end on loopback: a real ccxt client, a store, and an exchange whose book is the oracle."""

import gc
import itertools
import random
import threading
import tracemalloc

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from helpers.frames import PandasData
from helpers.live_exchange import FINE, ROWS, exchange, live_ccxt, trade
from helpers.scenarios import Script, bars, flat, random_walk
from helpers.slices import sliced

import bt_risk

STARTED = pd.Timestamp("2024-01-01")
LOOSE = dict(risk_limit=None, exposure_limit=None, action="pause")


def sound(book, position=None):
    """The oracle: no flip, no order twice, one stop of the right size, or nothing at all."""
    assert book["trouble"] == []
    if position is not None:
        assert book["position"] == pytest.approx(position)
    stops = [o for o in book["open"] if o["type"] == "STOP_LOSS"]
    assert stops == book["open"]
    left = sum(float(o["origQty"]) - float(o["executedQty"]) for o in stops)
    assert left == pytest.approx(book["position"])
    assert len(stops) == (book["position"] > 0)


# -- the same decisions in a backtest and live ---------------------------------------------------

DECISIONS = ["allow", "trim", "reject", "exit", "halt"]


def decisions(strategy):
    """Return what was decided; where a stop was and when it filled is compared by its effect."""
    frame = strategy.analyzers.riskjournal.frame()
    frame = frame[frame.action.isin(DECISIONS)]
    return frame[["time", "data", "rule", "action", "requested", "allowed"]].reset_index(drop=True)


def half(strategy):
    size = round(strategy.position.size / 2, 5)
    return strategy.sell(size=size) if size else None


CHOICES = [
    lambda s: s.buy(),
    lambda s: s.buy(size=3.0),
    lambda s: s.close() if s.position else None,
    half,
    lambda s: s.order_target_percent(target=0.3),
]


def rows_at_random(seed, bars, volatility):
    """Return a random walk as rows, in cents of cents as a venue has them."""
    frame = random_walk(seed, bars, volatility, start=STARTED, freq="min").round(4)
    frame["high"] = np.maximum(frame.high, frame[["open", "close"]].max(axis=1))
    frame["low"] = np.minimum(frame.low, frame[["open", "close"]].min(axis=1))
    return frame, frame[["open", "high", "low", "close"]].to_numpy().tolist()


@pytest.mark.parametrize("seed", sliced([1, 2, 3, 4], 4))
def test_the_backtest_and_the_live_path_decide_the_same(seed, tmp_path):
    frame, rows = rows_at_random(seed, 120, 0.02)
    policy = bt_risk.Policy(action="pause", drawdown_limit=0.03, instruments=FINE)
    rng = random.Random(seed)
    actions = {bar: rng.choice(CHOICES) for bar in range(20, len(frame), 4)}

    engine = bt.Cerebro(stdstats=False)
    engine.adddata(PandasData(dataname=frame), name="D0")
    engine.broker.setcash(100_000)
    engine.addstrategy(Script, actions=actions)
    bt_risk.protect(engine, policy)
    simulated = engine.run(quicknotify=True)[0]

    with exchange(rows, 1, tmp_path) as venue:
        live = trade(venue, actions, policy)
        sound(venue.book)
    assert len(live) == len(simulated) == len(frame)
    expected = decisions(simulated)
    assert len(expected) > 10
    pd.testing.assert_frame_equal(decisions(live), expected, rtol=1e-4)
    assert live.held == [(pytest.approx(size, rel=1e-4, abs=1e-4),) for (size,) in simulated.held]


# -- the fault matrix ----------------------------------------------------------------------------

ACTIONS = {21: lambda s: s.buy(size=900), 25: lambda s: s.sell(size=200) if s.position else None}
POLICY = bt_risk.Policy(**LOOSE, drawdown_limit=0.02, atr_multiple=3.0, instruments=FINE)
REQUESTS = 13
KINDS = ["503", "lost request", "lost answer", "partial", "sockets"]


def faulty_run(folder, *faults, rows=ROWS, actions=ACTIONS, policy=POLICY, **live):
    with exchange(rows, 20, folder) as venue:
        for fault in faults:
            venue.call("fault", fault)
        strategy = trade(venue, actions, policy, idle=12, **live)
        return strategy, venue.book


def test_without_a_fault_the_whole_life_of_a_position_is_there(tmp_path):
    strategy, book = faulty_run(tmp_path)
    sound(book, position=0)
    journal = strategy.analyzers.riskjournal.frame()
    assert {"allow", "exit", "halt", "flat"} <= set(journal.action)
    assert [fill[1] for fill in book["fills"]] == ["BUY", "SELL", "SELL"]
    ended = [order["status"] for order in book["orders"] if order["type"] == "STOP_LOSS"]
    assert ended.count("CANCELED") >= 5  # replaced, made way for the exit, and for the halt
    assert book["mutations"] == REQUESTS


@pytest.mark.parametrize(
    ("at", "kind"), sliced(itertools.product(range(1, REQUESTS + 1), KINDS), 13)
)
def test_a_fault_at_any_step_leaves_the_account_as_it_should_be(at, kind, tmp_path):
    """At each request that changes something, from the entry to the flattening."""
    strategy, book = faulty_run(tmp_path, {"kind": kind, "at": at})
    sound(book, position=0)
    assert strategy.held[-1][0] == pytest.approx(0)
    assert strategy.broker.book.working == {}


@pytest.mark.parametrize("kind", ["503", "lost request"])
def test_an_outage_of_many_requests_is_lived_through(kind, tmp_path):
    fault = {"kind": kind, "changes": False, "at": 8, "times": 12}
    _, book = faulty_run(tmp_path, fault)
    sound(book, position=0)


def test_a_line_that_drops_is_said_and_its_bars_are_taken_up(tmp_path):
    told = []
    faults = [{"kind": "sockets", "at": at} for at in (2, 4, 6)]
    strategy, book = faulty_run(tmp_path, *faults, notify=told.append)
    assert len(strategy) == len(ROWS)
    assert any("DISCONNECTED" in text for text in told)
    sound(book, position=0)


def test_positions_and_orders_from_before_are_found(tmp_path):
    rows = [*flat(20), *flat(30)]
    with exchange(rows, 20, tmp_path) as venue:
        client = venue.client()
        client.create_order("BTC/USDT", "market", "buy", 5, None, {"clientOrderId": "mine"})
        venue.call("next", {})
        strategy = trade(venue, {}, POLICY)
        sound(venue.book, position=5)
    assert strategy.held[-1] == (5.0,)
    assert strategy.position.price == 100.0


def test_bars_of_the_past_neither_trip_the_breaker_nor_trail_a_stop(tmp_path):
    """What is held now was not held when the price stood higher, nor is what it said then the last.

    Without a state: the position is one that nobody knows.
    """
    peak = [(100 + 2 * k, 103 + 2 * k, 99 + 2 * k, 102 + 2 * k) for k in range(20)]
    back = [(140 - 2 * k, 141 - 2 * k, 137 - 2 * k, 138 - 2 * k) for k in range(10)]
    rows = [*flat(20), *peak, *back, *flat(8, 120.0)]
    with exchange(rows, 52, tmp_path) as venue:
        client = venue.client()
        client.create_order("BTC/USDT", "market", "buy", 700, None, {"clientOrderId": "mine"})
        venue.call("next", {})
        strategy = trade(venue, {}, POLICY)
        book = venue.book
    sound(book, position=700)
    journal = strategy.analyzers.riskjournal.frame()
    assert not {"halt", "trip", "flat"} & set(journal.action)
    frame = bars(*rows)
    atr = bt_risk.atr(frame.high, frame.low, frame.close).to_numpy()
    first = 120.0 - 3.0 * atr[52]
    assert len(book["guards"]) == 1 + len(rows) - 53
    for bar, held, stops, leaving in book["guards"][1:]:
        level = max([first, *(120.0 - 3.0 * atr[52:bar])])
        assert (held, stops, leaving) == (700, [[-700, pytest.approx(level)]], [])


# -- a stop that moves -----------------------------------------------------------------------


UP = [(100 + k, 102 + k, 99 + k, 101 + k) for k in range(40)]
BUY_AND_CLOSE = {21: lambda s: s.buy(size=100), 55: lambda s: s.close()}


def test_a_position_is_hardly_ever_without_a_stop(tmp_path):
    """The clock of this exchange counts its requests; the stop moves on each of 33 bars."""
    with exchange([*flat(20), *UP], 20, tmp_path, market="now") as venue:
        trade(venue, BUY_AND_CLOSE, bt_risk.Policy(**LOOSE, instruments=FINE))
        book = venue.book
    assert [fill[1] for fill in book["fills"]] == ["BUY", "SELL"]
    stops = [o for o in book["orders"] if o["type"] == "STOP_LOSS"]
    assert len(stops) > 30
    assert len({o["clientOrderId"].partition("-r")[0] for o in stops}) == 1  # one that moves
    assert book["held_for"] > 300
    assert book["unguarded_for"] <= 4  # the entry has filled, or the exit is on its way
    assert book["unguarded_for"] / book["held_for"] < 0.02
    assert book["trouble"] == []


def test_an_order_with_news_ends_the_waiting_for_a_bar():
    store = live_ccxt.Store(None, "BTC/USDT", "ws://nowhere")
    store.wake()
    store.wake()
    assert store.next_message(timeout=30)[0] == "wake"
    assert store.next_message(timeout=0.001) == (None, None)
    store.wake()
    assert store.next_message(timeout=30)[0] == "wake"


MOVES = [*flat(20), *UP[:6], *flat(3, 105.0), (104, 104, 60, 61), *flat(5, 61.0)]


@pytest.mark.parametrize("at", [3, 5])
@pytest.mark.parametrize("kind", ["503", "lost request", "lost answer"])
def test_a_move_of_the_stop_that_is_not_answered_leaves_one_stop(at, kind, tmp_path):
    """Requests: 1 the entry, 2 its stop, from 3 on its moves."""
    fault = {"kind": kind, "at": at}
    _, book = faulty_run(
        tmp_path,
        fault,
        rows=MOVES,
        actions={21: lambda s: s.buy(size=100)},
        policy=bt_risk.Policy(**LOOSE, instruments=FINE),
    )
    assert [fill[1] for fill in book["fills"]] == ["BUY", "SELL"]
    sound(book, position=0)
    moved = [o["clientOrderId"].partition("-r")[2] for o in book["orders"]]
    assert sum(name != "" for name in moved) >= 4


def test_a_move_that_the_venue_half_makes_ends_with_the_position_closed(tmp_path):
    """The old stop is cancelled, the new one would trigger at once: the market is beyond it."""
    with exchange([*flat(20), *UP[:6], *flat(6, 105.0)], 20, tmp_path) as venue:

        def drop(s):
            venue.call("set", {"refuse": 1})

        actions = {21: lambda s: s.buy(size=100), 24: drop}
        trade(venue, actions, bt_risk.Policy(**LOOSE, instruments=FINE), idle=12)
        book = venue.book
    sound(book, position=100)
    bases = {o["clientOrderId"].partition("-r")[0] for o in book["orders"][1:]}
    assert len(bases) == 2  # a new stop took the place of the one that was cancelled


def test_a_stop_that_has_moved_is_known_after_a_restart(tmp_path):
    rows, policy = [*flat(20), *UP[:12]], bt_risk.Policy(**LOOSE, instruments=FINE)
    with exchange(rows, 20, tmp_path) as venue:

        def end(s):
            s.env.runstop()

        state, actions = tmp_path / "risk.db", {21: lambda s: s.buy(size=100), 25: end}
        trade(venue, actions, policy, state=state)
        before = venue.book
        trade(venue, {}, policy, state=state)
        book = venue.book
    (stop,) = before["open"]
    assert "-r" in stop["clientOrderId"]
    sound(book, position=100)
    (last,) = book["open"]
    assert last["clientOrderId"].partition("-r")[0] == stop["clientOrderId"].partition("-r")[0]
    assert float(last["stopPrice"]) > float(stop["stopPrice"])


# -- for a long time -----------------------------------------------------------------------------


def soak(folder, bars, seed):
    """Run many bars with faults at random; return the memory of each quarter, in bytes."""
    rng = random.Random(seed)
    _, rows = rows_at_random(seed, bars, 0.01)
    sizes = []
    tracemalloc.start()
    with exchange(rows, 1, folder) as venue:

        def act(strategy):
            if rng.random() < 0.1:
                kind = rng.choice([*KINDS, "latency"])
                venue.call("fault", {"kind": kind, "changes": rng.random() < 0.5})
            if len(strategy) % (bars // 4) == 0:
                gc.collect()
                sizes.append(tracemalloc.get_traced_memory()[0])
            if any(not w.own for w in strategy.broker.book.working.values()):
                return None  # as a strategy does that keeps its order in hand
            if strategy.position and rng.random() < 0.3:
                return strategy.close()
            return strategy.buy(size=rng.choice([10, 50])) if not strategy.position else None

        policy = bt_risk.Policy(**LOOSE, drawdown_limit=None, instruments=FINE)
        strategy = trade(venue, dict.fromkeys(range(16, bars - 20), act), policy, idle=6)
        sound(venue.book)
    tracemalloc.stop()
    assert len(strategy) == bars
    return sizes


@pytest.mark.full
def test_a_short_soak_leaves_no_thread_behind(tmp_path):
    before = threading.active_count()
    soak(tmp_path, bars=200, seed=5)
    assert threading.active_count() == before


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_ten_thousand_bars_with_faults_stay_flat_in_memory(tmp_path):
    before = threading.active_count()
    sizes = soak(tmp_path, bars=10_000, seed=6)
    assert threading.active_count() == before
    per_bar = (sizes[-1] - sizes[0]) / 7_500
    # What the script keeps (its own orders, whole), Backtrader's lines, the journal, closed trades.
    assert per_bar < 4_096
