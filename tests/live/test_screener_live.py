"""A screener in a live run: bars of one close come one after the other, and it ranks again."""

import backtrader as bt
import pandas as pd
import pytest
from helpers.fake_broker import FakeBroker
from helpers.live_feed import LiveFrame
from helpers.scenarios import bars, cerebro, random_walk

import bt_risk
from bt_risk import Screener


class Late(LiveFrame):
    """Bring each bar some rounds of the loop after the feeds that are not late."""

    params = (("late", 0),)

    def start(self):
        super().start()
        self._wait, self._ended = self.p.late, False

    def _load(self):
        if self._ended:  # two that wait in turn would wait for each other for ever
            return False
        loaded = super()._load()
        self._ended = loaded is False
        return loaded


class Reader(bt.Strategy):
    """Note the picks in each round that brings a bar: ``(close of data0, picks)``."""

    def __init__(self):
        self.read = []

    def prenext(self):
        self.next()

    def next(self):
        day = self.data0.datetime.date(0).day if len(self.data0) else 0
        self.read.append((day, self.analyzers.screener.picks))


def live(frames, lates, venue=None, **params):
    engine = bt.Cerebro(stdstats=False)
    for (name, frame), late in zip(frames.items(), lates, strict=True):
        engine.adddata(Late(dataname=frame, late=late), name=name)
    if venue is not None:
        engine.setbroker(venue)
    bt_risk.protect(engine, sizer=False, trailing_stop=False)
    engine.addstrategy(Reader)
    engine.addanalyzer(Screener, **({"rank": "close", "rebalance": 1} | params))
    return engine.run(quicknotify=True)[0]


def closing(*closes):
    return bars(*((c, c + 1, c - 1, c) for c in closes))


FRAMES = {"A": closing(1, 5, 5), "B": closing(3, 3, 9)}


@pytest.mark.parametrize("venue", [None, FakeBroker])
def test_a_name_whose_bar_comes_later_is_ranked_when_it_comes(venue):
    strategy = live(FRAMES, (0, 3), venue and venue(), top=1)
    # Of each day the bar of A comes first, and alone: B was picked the day before.
    assert strategy.read == [
        (1, ("A",)),
        (1, ("B",)),
        (2, ("A",)),
        (2, ("A",)),
        (3, ("A",)),
        (3, ("B",)),
    ]
    rows = strategy.analyzers.screener.frame()
    found = [(row.time.day, row.data, row.rank, row.picked) for row in rows.itertuples()]
    assert found == [
        (1, "B", 1, True),
        (1, "A", 2, False),
        (2, "A", 1, True),
        (2, "B", 2, False),
        (3, "B", 1, True),
        (3, "A", 2, False),
    ]


def test_what_was_ranked_before_a_late_bar_is_in_the_journal_too():
    journal = live(FRAMES, (0, 3), top=1).analyzers.riskjournal.frame().query("rule == 'Screener'")
    assert [(line.time.day, line.data, line.action) for line in journal.itertuples()] == [
        (1, "A", "pick"),
        (1, "B", "unranked"),
        (1, "B", "pick"),
        (2, "A", "pick"),
        (2, "B", "unranked"),
        (2, "A", "pick"),
        (3, "A", "pick"),
        (3, "B", "unranked"),
        (3, "B", "pick"),
    ]


WALKS = {name: random_walk(k, 60) for k, name in enumerate("ABC")}
RULE = {"rank": "roc(5) / natr(5)", "where": "close > sma(8) or talib.rsi(5) < 50", "top": 2}


@pytest.mark.parametrize("rebalance", [1, 3, "weekly"])
@pytest.mark.parametrize("lates", [(0, 2, 4), (3, 0, 1), (5, 5, 0)])
def test_late_bars_lead_to_the_rows_of_a_backtest(rebalance, lates):
    """A rebalance is a close, however many rounds of the loop that takes."""
    engine = cerebro(*WALKS.values(), names=list(WALKS))
    bt_risk.protect(engine, sizer=False, trailing_stop=False)
    engine.addstrategy(Reader)
    engine.addanalyzer(Screener, rebalance=rebalance, **RULE)
    backtest = engine.run()[0].analyzers.screener
    found = live(WALKS, lates, rebalance=rebalance, **RULE).analyzers.screener
    columns = ["time", "data", "rank", "score", "picked", "reason"]
    pd.testing.assert_frame_equal(
        found.frame()[columns], backtest.frame()[columns], check_exact=True
    )
    assert found.picks == backtest.picks
    assert len(found.frame()) >= 6


def test_a_bar_that_comes_after_the_next_close_of_another_name_waits_for_the_next_rebalance():
    """LiveFrame waits 6 rounds between bars: B is two closes behind A."""
    strategy = live(FRAMES, (0, 20), top=1)
    rows = strategy.analyzers.screener.frame()
    found = [(row.time.day, row.data, row.rank, row.reason[:8]) for row in rows.itertuples()]
    assert found == [
        (1, "A", 1, ""),
        (1, "B", 0, "no bar y"),
        (2, "A", 1, ""),
        (2, "B", 0, "no bar y"),
        (3, "B", 1, ""),
        (3, "A", 2, ""),
    ]
