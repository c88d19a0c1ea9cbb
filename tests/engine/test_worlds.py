"""The quick loop gives the run of Backtrader's own loop, to the last bit, or leaves it to that."""

import logging

import backtrader as bt
import pytest
from helpers import random_market as everything
from helpers import recording
from helpers import scenarios as feeds
from helpers.slices import sliced

import bt_risk

# What the quick loop can run at all; other modes are left to Backtrader's own loop.
QUICK_MODES = {
    "quicknotify",
    "cheat_on_open",
    "broker_coo",
    "tradehistory",
    "stdstats",
    "oldbuysell",
    "oldtrades",
    "lookahead",
}
WORLDS = range(5000, 6200)


def world_of(seed):
    """Return a world that preloads its data feeds, but where that cannot be."""
    world = everything.World(seed)
    if everything._fund_history not in world.extras:
        world.mode = {key: value for key, value in world.mode.items() if key in QUICK_MODES}
    return world


@pytest.mark.parametrize("seed", sliced(WORLDS, 12, full_every=6))
def test_a_world_is_the_same_by_the_quick_loop(seed):
    world = world_of(seed)
    assert everything.play(world, (bt_risk.fast,)) == everything.play(world), world.features


def test_most_worlds_are_run_by_the_quick_loop(caplog):
    with caplog.at_level(logging.INFO, "bt_risk"):
        for seed in WORLDS[::20]:
            everything.play(world_of(seed), (bt_risk.fast,))
    lines = [record.message for record in caplog.records if record.message.startswith("loop: ")]
    assert lines.count("loop: quick") > 0.6 * len(lines)


# -- what an ordinary strategy and its observers see -----------------------------------------------


class Watch(bt.Analyzer):
    """Record all that can be read on a bar, without listening to cash and value."""

    def start(self):
        self.rows = []

    def prenext(self):
        self.next()

    def next(self):
        strategy, broker = self.strategy, self.strategy.broker
        held = [
            (data._name, one.size, one.price, one.adjbase, getattr(one, "datetime", None), one.updt)
            for data, one in broker.positions.items()
        ]
        ticks = [[getattr(data, f"tick_{name}", "none") for name in TICKS] for data in self.datas]
        account = broker.getcash(), broker.getvalue(), broker.get_leverage(), broker.fundvalue
        lines = [[len(line), line[0] if len(line) else None] for line in strategy.watched]
        stats = [[line[0] for line in observer.lines] for observer in strategy.getobservers()]
        credit = {data._name: interest for data, interest in broker.d_credit.items()}
        self.rows.append((len(strategy), held, ticks, account, lines, stats, credit))

    def get_analysis(self):
        return self.rows


TICKS = ("open", "high", "low", "close", "volume", "last")


class Indicators(bt.Strategy):
    """Trade on one of many indicators, and offer the lines of all."""

    lines = ("own",)
    params = {"at_open": False, "short": False}

    def __init__(self):
        data, other = self.data, self.datas[-1]
        fast, slow = bt.ind.SMA(data, period=3), bt.ind.EMA(data, period=8)
        self.cross = bt.ind.CrossOver(fast, slow)
        macd = bt.ind.MACD(data)
        band = bt.ind.BollingerBands(other, period=6)
        ranged = bt.ind.Highest(data.high - data.low, period=4)
        chained = bt.ind.SMA(bt.ind.RSI_Safe(macd.macd, period=4), period=2)
        talib = bt.talib.ATR(other.high, other.low, other.close, timeperiod=5)
        # Backtrader computes with lines of one length only.
        same = other if other.buflen() == data.buflen() else data
        both = bt.And(data.close > fast, same.close > same.open)
        self.lines.own = data.close - same.close(-1)
        found = (fast, slow, self.cross, macd, band, ranged, chained, talib, both, self)
        self.watched = [line for one in found for line in getattr(one.lines, "lines", [one])]

    def act(self):
        for data in self.datas:  # from now on the broker values it
            self.getposition(data)
        if self.cross[0]:
            lowest = -10 if self.p.short else 0
            self.order_target_size(target=max(lowest, 10 * int(self.cross[0])))

    def next(self):
        if not self.p.at_open:
            self.act()

    def next_open(self):
        if self.p.at_open:
            self.act()


class Late(bt.Observer):
    """Look at the observer before and the one behind."""

    lines = ("before", "behind")

    def next(self):
        stats = self._owner.getobservers()
        self.lines.before[0] = stats[0].lines[0][0]
        self.lines.behind[0] = stats[-1].lines[0][0]


def stocks(broker):
    broker.setcommission(0.001)


def futures(broker):
    broker.setcommission(2.0, margin=300.0, mult=5.0)


def interest(broker):
    broker.setcommission(0.001, interest=0.1, interest_long=True)


def short_cash(broker):
    broker.set_shortcash(False)


def leveraged(broker):
    broker.setcommission(0.001, leverage=4.0)
    broker.set_fundmode(True, 10.0)


class Scheme(bt.CommInfoBase):
    """Value even a position of nothing."""

    params = {"stocklike": True}

    def getvaluesize(self, size, price):
        return size * price + 0.125


def own_scheme(broker):
    broker.addcommissioninfo(Scheme())


def integer_cash(broker):
    broker.setcash(20_000)


SHAPES = ["one", "three", "other clocks", "weekly too", "a close that is none"]
VARIANTS = [{"observers": False}, {"at_open": True}, {"zone": "US/Eastern"}]
BROKERS = [stocks, futures, interest, short_cash, leveraged, own_scheme, integer_cash]


def frames_of(shape):
    walks = [feeds.random_walk(seed, 160, start="2021-03-01") for seed in (7, 8, 9)]
    if shape == "one":
        return walks[:1]
    if shape == "a close that is none":
        walks[1].iloc[60, walks[1].columns.get_loc("close")] = float("nan")
    if shape == "other clocks":
        return [walks[0].iloc[20:], walks[1].drop(walks[1].index[20:40]), walks[2].iloc[:-20]]
    return walks


def watched(shape, configure, add=(), observers=True, zone=None, **params):
    cerebro = bt.Cerebro(stdstats=observers, cheat_on_open=params.get("at_open", False))
    for number, frame in enumerate(frames_of(shape)):
        cerebro.adddata(bt.feeds.PandasData(dataname=frame, tz=zone), name=f"D{number}")
    if shape == "weekly too":
        weekly = frames_of("one")[0].resample("W").last()
        feed = bt.feeds.PandasData(dataname=weekly, timeframe=bt.TimeFrame.Weeks)
        cerebro.adddata(feed, name="W")
    cerebro.broker.setcash(20_000.0)
    configure(cerebro.broker)
    if observers:
        cerebro.addobserver(Late)
        cerebro.addobservermulti(bt.observers.BuySell, barplot=False)
        cerebro.addobserver(bt.observers.DrawDown)
    cerebro.addstrategy(Indicators, **params)
    cerebro.addanalyzer(Watch)
    for one in add:
        one(cerebro)
    (strategy,) = cerebro.run()
    arrays = [
        line.array.tobytes() for holder in (*cerebro.datas, strategy) for line in holder.lines
    ]
    # Behind its last bar an observer has room that nobody reads.
    arrays += [
        (len(line), line.array[: len(line)].tobytes())
        for observer in strategy.getobservers()
        for line in observer.lines
    ]
    ends = [[vars(data).get(f"tick_{name}", "none") for name in TICKS] for data in cerebro.datas]
    rows = recording.plain(strategy.analyzers.watch.rows)
    return rows, arrays, ends, strategy._minperstatus, cerebro.broker.getvalue()


@pytest.mark.parametrize("configure", BROKERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_everything_that_can_be_read_on_a_bar_is_the_same(shape, configure):
    short = configure is not own_scheme  # it has something to say of a position of nothing
    bare = watched(shape, configure, short=short)
    assert watched(shape, configure, (bt_risk.fast,), short=short) == bare
    assert len(bare[0]) > 100


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "params", [{"observers": False}, {"at_open": True}, {"zone": "US/Eastern"}]
)
def test_so_it_is_without_observers_at_the_open_and_in_a_zone(shape, params):
    bare = watched(shape, stocks, **params)
    assert watched(shape, stocks, (bt_risk.fast,), **params) == bare
    assert any(row[1] and row[1][0][1] != "0" for row in bare[0])


@pytest.mark.parametrize("mode", ["enforce", "observe"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_protected_run_is_the_same_by_both_loops(shape, mode):
    def by(fast):
        def add(cerebro):
            bt_risk.protect(cerebro, bt_risk.Policy(drawdown_limit=0.5), mode, fast=fast)
            cerebro.addanalyzer(Journal)

        return watched(shape, stocks, (add,), short=True)

    assert by(True) == by(False)
    if mode == "observe":
        assert by(True)[0][:-1] == watched(shape, stocks, short=True)[0]


class Journal(bt.Analyzer):
    """Add the journal to what `Watch` has recorded."""

    def stop(self):
        found = self.strategy.broker.journal.lines
        self.strategy.analyzers.watch.rows += [[repr(line) for line in found]]


def test_the_worlds_hold_what_they_are_meant_to():
    rows, *_ = watched("other clocks", futures, short=True)
    assert [tick for row in rows for tick in row[2][0]][:6] == ["'none'"] * 6
    assert "None" in rows[-1][2][1]  # Backtrader has no ticks of the last bar
    sizes = {float(one[1]) for row in watched("one", stocks, short=True)[0] for one in row[1]}
    assert sizes == {10.0, -10.0, 0.0}
