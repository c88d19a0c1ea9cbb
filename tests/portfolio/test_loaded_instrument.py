"""Instruments and windows that read the loaded bars know the same as those that go bar by bar."""

import math
import random
from array import array

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from helpers.scenarios import cerebro, flat, random_walk

import bt_risk
from bt_risk.portfolio.bar_history import note_bars
from bt_risk.portfolio.book import Book
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.loaded_instrument import LoadedInstrument, load
from bt_risk.rules.gaps import GapWindow
from bt_risk.rules.return_model import ReturnModel

PERIODS = (3, 14, 5)  # the last is added on the way
SAVED = ("price", "closed", "top", "bottom", "time", "longest_gap", "length", "round")
NAMES = ("open", "high", "low", "close", "datetime")


class Line:
    """Imitate a line of Backtrader that holds all bars before the first one closes."""

    UnBounded = 0

    def __init__(self, values):
        self.array, self.mode, self._idx, self.lencount = array("d", values), 0, -1, 0

    def __getitem__(self, ago):
        return self.array[self._idx + ago]

    def advance(self):
        self._idx += 1
        self.lencount += 1


class Feed:
    """Imitate a loaded data feed; `advance` brings its next bar."""

    def __init__(self, rows, times):
        columns = [*zip(*rows, strict=True), times]
        self.lines = [Line(column) for column in columns]
        vars(self).update(zip(NAMES, self.lines, strict=True))

    def buflen(self):
        return len(self.close.array)

    def advance(self):
        for line in self.lines:
            line.advance()


def rows(rng, count):
    """Return ``(open, high, low, close)`` of a walk that Backtrader could have loaded."""
    frame = random_walk(rng.randrange(10**6), count, volatility=rng.choice((0.002, 0.01, 0.05)))
    table = frame[["open", "high", "low", "close"]].to_numpy().copy()
    if rng.random() < 0.5:  # odd bars: no close, a jump, a close beyond the high
        for place in rng.sample(range(count), max(1, count // 60)):
            how = rng.randrange(4)
            if how == 0:
                table[place, 3] = math.nan
            elif how == 1:
                table[place] *= rng.choice((0.2, 0.5, 3.0))
            elif how == 2:
                table[place:] *= rng.choice((0.5, 2.0))
            else:
                table[place, 3] = table[place, 1] * rng.choice((1.00001, 1.01))
    elif rng.random() < 0.3:
        table = np.round(table, 1)  # closes stand still, and the ATR may be 0
        table[:, 1], table[:, 2] = table.max(axis=1), table.min(axis=1)
    return table.tolist()


def times(rng, count):
    """Return increasing date numbers with holes."""
    steps = [rng.choice((1.0, 1.0, 1.0, 3.0, 7 / 24)) for _ in range(count)]
    return np.cumsum([730_000.0 + rng.random(), *steps])[:count].tolist()


def known(instrument):
    """Return all that an instrument says of its bars."""
    seen = {name: getattr(instrument, name) for name in SAVED}
    seen |= {f"atr {p}": instrument.atr(p) for p in instrument.atr_periods}
    floored = {p: instrument.floored_atr(p, 0.5) for p in instrument.atr_periods}
    more = (instrument.stop_distance(), instrument.quote(), instrument.value, instrument.suspect)
    kept = instrument.last_closes(7) if instrument.kept is not None else None
    past = instrument.gaps and instrument.gaps.persist(), kept
    return repr((seen, floored, more, past, instrument.moment(), instrument.suspect_bars))


@pytest.mark.parametrize("seed", range(40))
def test_it_knows_the_same_after_every_bar(seed):
    rng = random.Random(seed)
    count = rng.choice((1, 3, 20, 150, 260))
    feed = Feed(rows(rng, count), times(rng, count))
    one, other = (Instrument(feed, 0, "D0") for _ in range(2))
    for instrument in (one, other):
        for period in PERIODS[:2]:
            instrument.track_atr(period)
        instrument.stop_rule = (3, 2.0)
        instrument.gaps = GapWindow(30, 14)
        instrument.keep_closes(5)
        instrument.keep_closes(9)
    loaded = load(one)
    assert loaded == (type(one) is LoadedInstrument)
    for instrument in (one, other) if seed % 2 else ():  # a guard may ask for gaps later
        instrument.gaps = GapWindow(20, 14)
    assert known(one) == known(other)
    added, unloaded = rng.randrange(count), rng.choice((None, rng.randrange(count)))
    for number in range(count):
        feed.advance()
        assert known(one) == known(other)  # a bar that has come and is not processed
        one.advance(number + 1)
        other.advance(number + 1)
        note_bars([one, other])
        if rng.random() < 0.3:
            assert known(one) == known(other)
        if number == added:
            one.track_atr(PERIODS[2])
            other.track_atr(PERIODS[2])
        if number == unloaded:
            assert repr(one.persist()) == repr(other.persist())
            assert type(one) is Instrument
    assert known(one) == known(other)
    assert repr(one.persist()) == repr(other.persist())


def test_most_of_these_walks_are_loaded():
    loaded = 0
    for seed in range(40):
        rng = random.Random(seed)
        one = Instrument(Feed(rows(rng, 50), times(rng, 50)))
        one.track_atr(14)
        loaded += load(one)
    assert loaded > 20


ODD = {
    "a close that is not known": (3, (100.0, 101.0, 99.0, math.nan)),
    "an open that is not known": (3, (math.nan, 101.0, 99.0, 100.0)),
    "a bar that is not known": (3, (math.nan, math.nan, math.nan, math.nan)),
    "a first bar that is not known": (0, (math.nan, math.nan, math.nan, math.nan)),
    "high below low": (3, (100.0, 99.0, 101.0, 100.0)),
    "a close above the high": (3, (100.0, 101.0, 99.0, 101.001)),
    "an open below the low": (3, (98.9, 101.0, 99.0, 100.0)),
    "a jump of 20 ATR": (16, (141.0, 142.0, 139.0, 140.5)),
    "a fall of 20 ATR": (16, (60.0, 61.0, 59.0, 59.5)),
    "a jump while the ATR is not known": (5, (299.0, 302.0, 290.0, 300.0)),
    "the last bar": (19, (60.0, 61.0, 59.0, 59.5)),
}
UNREADABLE = {
    "an infinite high": (3, (100.0, math.inf, 99.0, 100.0)),
    "a high that is not known": (3, (100.0, math.nan, 99.0, 100.0)),
    "a close of zero": (3, (0.0, 1.0, 0.0, 0.0)),
    "a price below zero": (3, (-4.0, -3.0, -5.0, -4.0)),
}


def with_bar(place, bar, stays=False):
    """Return a data feed that stands at 100, with one odd bar, or with that price from there on."""
    table = [list(row) for row in flat(20)]
    table[place : None if stays else place + 1] = [list(bar)] * (20 - place if stays else 1)
    return Feed(table, range(20))


def pair(feed, jump=20.0):
    """Return two instruments on a data feed; the first is to be loaded."""
    both = [Instrument(feed, 0, "D0") for _ in range(2)]
    for one in both:
        one.track_atr(14)
        one.track_atr(3)
        one.bar_jump = jump
    return both


def run(feed, one, other):
    """Compare two instruments after every bar, and what is saved of them at the end."""
    for number in range(feed.buflen()):
        feed.advance()
        one.advance(number)
        other.advance(number)
        assert known(one) == known(other)
    assert repr(one.persist()) == repr(other.persist())
    assert known(one) == known(other)


@pytest.mark.parametrize("jump", [20.0, 1.0, math.inf])
@pytest.mark.parametrize("stays", [False, True])
@pytest.mark.parametrize("name", ODD)
def test_an_odd_bar_means_what_it_means_bar_by_bar(name, stays, jump):
    feed = with_bar(*ODD[name], stays)
    one, other = pair(feed, jump)
    if not stays:
        assert load(one)
    else:
        load(one)
    run(feed, one, other)


@pytest.mark.parametrize("name", UNREADABLE)
def test_bars_that_depend_on_what_is_traded_are_met_bar_by_bar(name):
    one, _ = pair(with_bar(*UNREADABLE[name]))
    assert not load(one)
    assert type(one) is Instrument


def test_bars_whose_tick_will_be_known_later_are_met_bar_by_bar():
    feed = with_bar(*ODD["a close above the high"])
    feed.tick = 0.01
    one, _ = pair(feed)
    assert not load(one)
    one.tick = 0.01
    assert load(one)


def test_a_feed_of_many_odd_bars_is_met_bar_by_bar():
    table = [list(row) for row in flat(100)]
    for place in range(10, 70, 10):
        table[place][3] = math.nan
    assert load(pair(Feed(table[:70], range(70)))[0]) is False
    assert load(pair(Feed(table[:21], range(21)))[0])


@pytest.mark.parametrize("line", NAMES[:4])
def test_lines_that_do_not_hold_every_bar_are_not_read(line):
    feed = Feed(flat(20), range(20))
    getattr(feed, line).mode = 1
    one = Instrument(feed)
    one.track_atr(14)
    assert not load(one)


def test_a_late_gate_goes_bar_by_bar():
    feed = Feed(flat(20), range(20))
    for _ in range(5):
        feed.advance()
    one, other = Instrument(feed), Instrument(feed)
    for instrument in (one, other):
        instrument.track_atr(14)
    assert load(one)
    for number in range(10):
        one.advance(number)
        other.advance(number)
        feed.advance()
    assert type(one) is Instrument
    assert known(one) == known(other)


# -- in a run ----------------------------------------------------------------------------------


class Kinds(bt.Strategy):
    """Note the classes of the instruments of the run."""

    def stop(self):
        self.kinds = [type(one) for one in self.broker.book.instruments]


def kinds(add=None, state=None, **options):
    """Return the classes of the instruments of a protected run on two data feeds."""
    engine = cerebro(random_walk(1, 30), random_walk(2, 30), **options)
    if add is not None:
        add(engine)
    engine.addstrategy(Kinds)
    bt_risk.protect(engine, bt_risk.Policy(), state=state)
    return engine.run()[0].kinds


def weekly(engine):
    engine.resampledata(engine.datas[0], timeframe=bt.TimeFrame.Weeks, name="weekly")


def replayed(engine):
    engine.replaydata(engine.datas[0], timeframe=bt.TimeFrame.Weeks, name="replayed")


def test_a_backtest_reads_the_loaded_bars():
    assert kinds() == [LoadedInstrument] * 2
    assert kinds(runonce=False) == [LoadedInstrument] * 2


@pytest.mark.parametrize(
    "options",
    [{"preload": False}, {"exactbars": 1}, {"live": True}, {"add": replayed}, {"add": weekly}],
)
def test_what_is_not_loaded_before_it_closes_is_met_bar_by_bar(options):
    assert set(kinds(**options)) == {Instrument}


def test_what_is_saved_is_met_bar_by_bar(tmp_path):
    assert kinds(state=tmp_path / "state.db") == [Instrument] * 2


# -- windows of closes -------------------------------------------------------------------------


def books(rng, model, count):
    """Return two books on the same data feeds, one of which reads the loaded bars."""
    clock, shape = times(rng, 60), rng.choice(("equal", "equal", "holes", "hours", "late"))
    clocks = {
        "equal": lambda k: clock,
        "holes": lambda k: sorted(rng.sample(clock, 50)),
        "hours": lambda k: [time + k / 24 for time in clock],
        "late": lambda k: clock[5 * k :],
    }
    feeds = []
    for k in range(count):
        own = clocks[shape](k)
        feeds.append(Feed(rows(rng, len(own)), own))
    past = pd.DataFrame(
        {f"D{k}": np.cumsum(np.ones(30)) + 90 + k * np.sin(range(30)) for k in range(count)},
        index=np.arange(729_900.0, 729_930.0),
    )
    history = rng.choice((None, None, (past, "prices"), (past.pct_change(), "returns")))
    found = []
    for loads in (True, False):
        book = Book([Instrument(feed, i, f"D{i}") for i, feed in enumerate(feeds)], 3)
        book.loads_bars = loads
        book.windows.add(model, history)
        found.append(book)
    return feeds, found


@pytest.mark.parametrize("seed", range(40))
def test_windows_that_are_read_late_hold_the_same(seed):
    rng = random.Random(seed)
    count, multi = rng.choice((2, 3, 6)), rng.choice((1, 1, 2))
    model = ReturnModel(rng.choice((5, 20, 200)), 2, multi_bar=multi)
    feeds, (late, early) = books(rng, model, count)
    seen = 0
    while True:
        due = min([f.datetime.array[f.close.lencount] for f in feeds if _left(f)], default=None)
        if due is None:
            break
        for feed in feeds:
            if _left(feed) and feed.datetime.array[feed.close.lencount] <= due:
                feed.advance()
        assert len(late.update()) == len(early.update())
        if rng.random() < 0.2:
            others = [k for k in range(count) if k]
            one, other = (b.windows[model].correlations(0, others) for b in (late, early))
            assert repr(one) == repr(other)
            seen += int(not np.isnan(one[0]).all())
    one, other = (b.windows[model].covariance([0, 1]) for b in (late, early))
    assert one[1] == other[1]
    assert seen or one[1] < 20


def _left(feed):
    return feed.close.lencount < feed.buflen()
