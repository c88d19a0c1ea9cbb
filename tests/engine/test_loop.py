"""When the quick loop runs, what it says of it, and that it leaves nothing behind."""

import io
import logging
import tracemalloc

import backtrader as bt
import pytest
from helpers import recording
from helpers import scenarios as feeds
from helpers.recording import RandomTrader, market, record

import bt_risk
from bt_risk.engine.feeds import QuickFeed, bars
from bt_risk.engine.loop import QuickLoop
from bt_risk.feeds import bulk

QUICK = "loop: quick"
OWN = "loop: Backtrader's own, because "


def cerebro_of(*, count=1, strategy=bt.Strategy, **params):
    cerebro = feeds.cerebro(*(feeds.random_walk(seed, 40) for seed in range(count)), **params)
    cerebro.addstrategy(strategy)
    return cerebro


def line_of(cerebro, caplog):
    """Run by `fast`; return what the log says of the loop."""
    bt_risk.fast(cerebro)
    with caplog.at_level(logging.INFO, "bt_risk"):
        cerebro.run()
    (line,) = [one.message for one in caplog.records if one.message.startswith("loop: ")]
    return line


def test_the_log_names_the_quick_loop(caplog):
    assert line_of(cerebro_of(count=3), caplog) == QUICK


def test_a_protected_run_uses_it_and_says_so(caplog):
    cerebro = cerebro_of()
    bt_risk.protect(cerebro)
    with caplog.at_level(logging.INFO, "bt_risk"):
        cerebro.run()
    assert QUICK in caplog.messages


def test_it_can_be_switched_off(caplog):
    cerebro = cerebro_of()
    bt_risk.protect(cerebro, fast=False)
    with caplog.at_level(logging.INFO, "bt_risk"):
        cerebro.run()
    assert not [line for line in caplog.messages if line.startswith("loop: ")]


@pytest.mark.parametrize("wrong", [None, 1, "yes"])
def test_a_switch_that_is_none_is_refused(wrong):
    with pytest.raises(bt_risk.ParameterError, match="protect: fast must be True or False"):
        bt_risk.protect(cerebro_of(), fast=wrong)


@pytest.mark.parametrize("wrong", [None, bt.Cerebro, "cerebro"])
def test_what_is_no_cerebro_is_refused(wrong):
    with pytest.raises(
        bt_risk.ParameterError, match=r"fast: cerebro must be a backtrader\.Cerebro"
    ):
        bt_risk.fast(wrong)


# -- when Backtrader's own loop runs --------------------------------------------------------------


class OwnFeed(bt.feeds.PandasData):
    def advance(self, *args, **kwargs):
        super().advance(*args, **kwargs)


class OwnTicks(bt.feeds.PandasData):
    tick_close = 1.0


class OwnStep(bt.Strategy):
    def _oncepost(self, dt):
        super()._oncepost(dt)


def with_feed(kind):
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(kind(dataname=feeds.random_walk(1, 40)), name="mine")
    return cerebro


def with_clone():
    cerebro = cerebro_of()
    cerebro.adddata(cerebro.datas[0].clone(), name="again")
    return cerebro


def replayed():
    cerebro = cerebro_of()
    cerebro.replaydata(cerebro.datas[0], timeframe=bt.TimeFrame.Weeks)
    return cerebro


NOT_PRELOADED = "bars are not preloaded into indicators"
NATIVE = {
    "runonce": (lambda: cerebro_of(runonce=False), NOT_PRELOADED),
    "preload": (lambda: cerebro_of(preload=False), NOT_PRELOADED),
    "exactbars": (lambda: cerebro_of(exactbars=1), NOT_PRELOADED),
    "live": (lambda: cerebro_of(live=True), NOT_PRELOADED),
    "replay": (replayed, NOT_PRELOADED),
    "own feed": (lambda: with_feed(OwnFeed), "mine has methods of its own"),
    "own ticks": (lambda: with_feed(OwnTicks), "mine has ticks of its own"),
    "clone": (with_clone, "again is a copy of another data feed"),
    "own step": (lambda: cerebro_of(strategy=OwnStep), "OwnStep has a loop of its own"),
}


@pytest.mark.parametrize("name", NATIVE)
def test_the_log_says_why_it_is_backtraders_own(name, caplog):
    make, why = NATIVE[name]
    assert line_of(make(), caplog) == OWN + why


def test_a_cerebro_with_a_loop_of_its_own_keeps_it():
    class Mine(bt.Cerebro):
        rounds = 0

        def _runonce(self, strategies):
            Mine.rounds += 1
            super()._runonce(strategies)

    cerebro = Mine(stdstats=False)
    cerebro.adddata(bt.feeds.PandasData(dataname=feeds.random_walk(1, 40)))
    bt_risk.fast(cerebro)
    cerebro.run()
    assert Mine.rounds == 1


# -- whatever a user has replaced is called -------------------------------------------------------


@pytest.mark.parametrize("quick", [True, False])
def test_a_broker_of_another_class_makes_its_own_rounds(quick):
    class Counting(bt.brokers.BackBroker):
        rounds = reads = 0

        def next(self):
            Counting.rounds += 1
            super().next()

        def getvalue(self, datas=None):
            Counting.reads += 1
            return super().getvalue(datas)

    cerebro = cerebro_of()
    cerebro.setbroker(Counting())
    if quick:
        bt_risk.fast(cerebro)
    cerebro.run()
    assert (Counting.rounds, Counting.reads) == (40, 41)


@pytest.mark.parametrize("quick", [True, False])
def test_methods_that_an_object_replaces_are_called(quick):
    seen = []

    class Replaces(bt.Strategy):
        def start(self):
            for name in ("notify_cashvalue", "notify_fund", "next", "prenext"):
                setattr(self, name, lambda *args, name=name: seen.append(name))

    cerebro = cerebro_of(strategy=Replaces)
    if quick:
        bt_risk.fast(cerebro)
    cerebro.run()
    assert {name: seen.count(name) for name in sorted(set(seen))} == {
        "next": 40,
        "notify_cashvalue": 40,
        "notify_fund": 40,
    }


def test_children_of_analyzers_are_called():
    class Child(bt.Analyzer):
        def start(self):
            self.bars = self.told = 0

        def next(self):
            self.bars += 1

        def notify_fund(self, *account):
            self.told += 1

    class Parent(bt.Analyzer):
        def __init__(self):
            self.child = Child()

    cerebro = cerebro_of()
    cerebro.addanalyzer(Parent)
    bt_risk.fast(cerebro)
    (strategy,) = cerebro.run()
    assert strategy.analyzers.parent.child.bars == 40
    assert strategy.analyzers.parent.child.told == 40


# -- the end of a run -----------------------------------------------------------------------------


def left(cerebro):
    """Return what a run may have left on the objects of a user."""
    names = {"_runonce", "_runnext", "stop_writers"} & vars(cerebro).keys()
    on_feeds = [name for data in cerebro.datas for name in vars(data) if "bt_risk" in name]
    on_broker = {"next", "_get_value"} & vars(cerebro.broker).keys()
    return names, on_feeds, on_broker


NOTHING = (set(), [], set())


class Ends(bt.Strategy):
    how = "end"

    def next(self):
        if len(self) == 20 and self.how == "raise":
            raise KeyError("mine")
        if len(self) == 20 and self.how == "stop":
            self.cerebro.runstop()


@pytest.mark.parametrize("how", ["end", "stop", "raise"])
def test_nothing_is_left_behind(how, monkeypatch):
    monkeypatch.setattr(Ends, "how", how)
    cerebro = cerebro_of(strategy=Ends)
    bt_risk.fast(cerebro)
    if how == "raise":
        with pytest.raises(KeyError, match="mine"):
            cerebro.run()
    else:
        (strategy,) = cerebro.run()
        assert len(strategy) == (40 if how == "end" else 20)
    assert left(cerebro) == NOTHING


class Asked(bt.Analyzer):
    """Count in the strategy how often it is asked."""

    def get_analysis(self):
        self.strategy.asked = getattr(self.strategy, "asked", 0) + 1
        return super().get_analysis()


class AskedJournal(bt_risk.RiskJournal):
    """Do so, too: what `RiskJournal` says of its analysis holds for its own only."""

    def get_analysis(self):
        self.strategy.asked = getattr(self.strategy, "asked", 0) + 1
        return super().get_analysis()


@pytest.mark.parametrize("writer", [False, True])
@pytest.mark.parametrize("kind", [Asked, AskedJournal])
def test_an_analyzer_of_a_user_is_asked_once_at_the_end(kind, writer):
    cerebro = cerebro_of()
    cerebro.addanalyzer(kind)
    if writer:
        cerebro.addwriter(bt.WriterFile, out=io.StringIO(), close_out=False)
    bt_risk.fast(cerebro)
    (strategy,) = cerebro.run()
    assert strategy.asked == 1
    assert left(cerebro) == NOTHING


@pytest.mark.parametrize("writer", [False, True])
@pytest.mark.parametrize("kind", [bt_risk.RiskJournal, bt_risk.ReportData])
def test_ours_are_asked_only_where_a_writer_reads_it(kind, writer, monkeypatch):
    asked, get_analysis = [], kind.get_analysis
    monkeypatch.setattr(kind, "get_analysis", lambda self: asked.append(1) or get_analysis(self))
    cerebro, out = cerebro_of(), io.StringIO()
    cerebro.addanalyzer(kind)
    if writer:
        cerebro.addwriter(bt.WriterFile, out=out)
    bt_risk.fast(cerebro)
    (strategy,) = cerebro.run()
    assert len(asked) == writer
    assert (kind.__name__.lower() in out.getvalue()) == writer
    assert strategy.analyzers[0].get_analysis()


def test_a_strategy_that_answers_writers_itself_is_asked():
    class Answers(bt.Strategy):
        told = 0

        def getwriterinfo(self):
            self.told += 1
            return super().getwriterinfo()

    cerebro = cerebro_of(strategy=Answers)
    bt_risk.fast(cerebro)
    (strategy,) = cerebro.run()
    assert strategy.told == 1


def test_a_cerebro_that_stops_its_writers_itself_does():
    class Mine(bt.Cerebro):
        told = 0

        def stop_writers(self, strategies):
            self.told += 1
            super().stop_writers(strategies)

    cerebro = Mine()
    cerebro.adddata(bt.feeds.PandasData(dataname=feeds.random_walk(0, 40)))
    bt_risk.fast(cerebro)
    cerebro.addanalyzer(Asked)
    (strategy,) = cerebro.run()
    assert (cerebro.told, strategy.asked) == (1, 1)


def test_the_times_of_a_run_are_held_once():
    frame = feeds.random_walk(3, 20_000)
    cerebro = feeds.cerebro(frame)
    cerebro.addstrategy(bt.Strategy)
    (strategy,) = cerebro.run()
    strategy.data.home()
    rounds = bars([QuickFeed(strategy.data)])
    tracemalloc.start()
    try:
        next(rounds)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20_000  # 8 bytes for each bar, if there was a copy


class Lagging(bt.Strategy):
    """Read what observers drew one bar and six bars before, from the first bar on."""

    def __init__(self):
        self.read = []

    def next(self):
        lines = [line for one in self.getobservers() for line in one.lines]
        self.read += [repr(line[ago]) for line in lines for ago in (0, -5)]


@pytest.mark.parametrize("counts", [(40, 40), (10, 40)])
def test_an_observer_holds_each_bar_once_and_reads_the_same_from_the_first_bar_on(counts):
    def run(fast):
        frames = [feeds.random_walk(seed, count) for seed, count in enumerate(counts)]
        cerebro = feeds.cerebro(*frames)
        cerebro.addstrategy(Lagging)
        cerebro.addobserver(bt.observers.Value)
        bt_risk.protect(cerebro, fast=fast)
        return cerebro.run()[0]

    quick, native = run(True), run(False)
    assert quick.read == native.read
    assert len(quick) == 40
    lines = [line for one in quick.getobservers() for line in one.lines]
    assert {len(line.array) for line in lines} == {40}


def test_a_feed_outside_of_the_loop_has_no_ticks_of_ours():
    cerebro = cerebro_of()
    bt_risk.fast(cerebro)
    cerebro.run()
    other = bt.feeds.PandasData(dataname=feeds.random_walk(2, 5))
    assert not hasattr(other, "tick_close")
    assert getattr(other, "tick_open", None) is None


def test_a_second_run_equals_the_first():
    cerebro = market(503, "runonce")
    cerebro.addstrategy(RandomTrader, seed=503)
    bt_risk.fast(cerebro)
    first = record(cerebro, recording.OTHERS)
    cerebro.analyzers = cerebro.analyzers[: -1 - len(recording.OTHERS)]
    assert record(cerebro, recording.OTHERS) == first


def test_fast_twice_is_fast_once():
    cerebro = cerebro_of()
    bt_risk.protect(cerebro)
    bt_risk.fast(cerebro)
    assert sum(isinstance(store, QuickLoop) for store in cerebro.stores) == 1


@pytest.mark.parametrize("maxcpus", [1, 2])
def test_an_optimisation_finds_what_it_finds_without(maxcpus):
    def optimise(quick):
        cerebro = market(401)
        cerebro._exactbars = 0
        cerebro.p.maxcpus = maxcpus
        if quick:
            bt_risk.fast(cerebro)
        cerebro.optstrategy(RandomTrader, seed=range(3))
        return record(cerebro)

    assert optimise(True) == optimise(False)


def test_an_optimisation_on_two_processes_loads_in_bulk_too(monkeypatch):
    answers, load = [], bulk.bulk_load
    monkeypatch.setattr(bulk, "bulk_load", lambda data: answers.append(load(data)))
    cerebro = bt.Cerebro(stdstats=False, maxcpus=2)
    cerebro.adddata(bt.feeds.PandasData(dataname=feeds.random_walk(1, 40)))
    bt_risk.fast(cerebro)
    cerebro.optstrategy(RandomTrader, seed=range(2))
    assert len(cerebro.run()) == 2
    assert answers == [None]
