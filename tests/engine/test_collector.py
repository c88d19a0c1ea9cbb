"""The garbage collector leaves alone what is older than a run, and nothing else, nor for longer."""

import gc
import os
import threading
import weakref

import backtrader as bt
import pytest
from helpers import scenarios as feeds

import bt_risk
from bt_risk.engine.collector import leave_old_objects

PROTECTED, BARE = bt_risk.protect, bt_risk.fast
BARS = 6


class Plain(bt.Strategy):
    """Note on each bar whether objects are frozen."""

    def __init__(self):
        self.frozen = []

    def next(self):
        self.frozen.append(gc.get_freeze_count() > 0)


class Seen(Plain):
    """Do `act` on the third bar, too."""

    act = staticmethod(lambda strategy: None)

    def next(self):
        if len(self) == 3:
            self.act(self)
        super().next()


def cerebro_of(strategy=Seen, **params):
    cerebro = feeds.cerebro(feeds.random_walk(1, BARS), **params)
    cerebro.addstrategy(strategy)
    return cerebro


def raises(strategy):
    raise KeyError("mine")


def stops(strategy):
    strategy.cerebro.runstop()


@pytest.fixture(autouse=True)
def nothing_stays_frozen():
    before = gc.get_threshold()
    assert gc.get_freeze_count() == 0
    yield
    assert gc.isenabled()
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0


@pytest.mark.parametrize("use", [PROTECTED, BARE])
def test_older_objects_are_frozen_while_bars_are_run(use):
    cerebro = cerebro_of()
    use(cerebro)
    assert cerebro.run()[0].frozen == [True] * BARS


@pytest.mark.parametrize("act", [raises, stops])
@pytest.mark.parametrize("use", [PROTECTED, BARE])
def test_they_are_thawed_when_a_run_ends_early(use, act, monkeypatch):
    monkeypatch.setattr(Seen, "act", staticmethod(act))
    cerebro = cerebro_of()
    use(cerebro)
    if act is raises:
        with pytest.raises(KeyError, match="mine"):
            cerebro.run()
    else:
        assert cerebro.run()[0].frozen == [True] * 3


def test_what_a_run_makes_is_gone_through_more_seldom(monkeypatch):
    during = []
    monkeypatch.setattr(Seen, "act", staticmethod(lambda one: during.append(gc.get_threshold())))
    cerebro = cerebro_of()
    bt_risk.fast(cerebro)
    _, *older = gc.get_threshold()
    cerebro.run()
    assert during == [(10_000, *older)]


@pytest.mark.parametrize("young", [0, 50_000])
def test_a_threshold_of_its_owner_that_is_higher_or_none_stays(young, monkeypatch):
    during, before = [], gc.get_threshold()
    monkeypatch.setattr(Seen, "act", staticmethod(lambda one: during.append(gc.get_threshold())))
    cerebro = cerebro_of()
    bt_risk.fast(cerebro)
    gc.set_threshold(young, 20, 30)
    try:
        seen = cerebro.run()[0].frozen
        assert during == [(young, 20, 30)]
        assert gc.get_threshold() == (young, 20, 30)
        assert any(seen) == bool(young)
    finally:
        gc.set_threshold(*before)


def test_a_threshold_that_is_set_during_a_run_stays(monkeypatch):
    before = gc.get_threshold()
    monkeypatch.setattr(Seen, "act", staticmethod(lambda one: gc.set_threshold(1000, 20, 30)))
    cerebro = cerebro_of()
    bt_risk.fast(cerebro)
    try:
        cerebro.run()
        assert gc.get_threshold() == (1000, 20, 30)
    finally:
        gc.set_threshold(*before)


def test_so_it_is_by_backtraders_own_loop_over_preloaded_bars():
    class OwnStep(Seen):
        def _oncepost(self, dt):
            super()._oncepost(dt)

    cerebro = cerebro_of(OwnStep)
    bt_risk.fast(cerebro)
    assert cerebro.run()[0].frozen == [True] * BARS


@pytest.mark.parametrize("mode", [dict(runonce=False), dict(exactbars=1), dict(live=True)])
def test_nothing_is_frozen_where_bars_are_not_preloaded(mode):
    cerebro = cerebro_of(**mode)
    bt_risk.protect(cerebro)
    assert cerebro.run()[0].frozen == [False] * BARS


def test_nothing_is_frozen_where_nothing_is_to_be_quicker():
    cerebro = cerebro_of()
    bt_risk.protect(cerebro, fast=False)
    assert cerebro.run()[0].frozen == [False] * BARS


def test_what_its_owner_has_frozen_stays_so():
    cerebro = cerebro_of()
    bt_risk.fast(cerebro)
    gc.freeze()
    try:
        before = gc.get_freeze_count()
        cerebro.run()
        assert 0 < gc.get_freeze_count() <= before
    finally:
        gc.unfreeze()


def test_a_collector_that_is_off_stays_off():
    cerebro = cerebro_of()
    bt_risk.fast(cerebro)
    gc.disable()
    try:
        assert cerebro.run()[0].frozen == [False] * BARS
        assert not gc.isenabled()
    finally:
        gc.enable()


class Cycle:
    def __init__(self):
        self.me = self


def test_garbage_from_before_waits_for_the_end_and_that_of_the_run_does_not(monkeypatch):
    alive = []

    def collect(strategy):
        late = weakref.ref(Cycle())
        gc.collect()
        alive.extend([early() is not None, late() is not None])

    monkeypatch.setattr(Seen, "act", staticmethod(collect))
    cerebro = cerebro_of()
    bt_risk.fast(cerebro)
    gc.disable()
    early = weakref.ref(Cycle())
    gc.enable()
    cerebro.run()
    gc.collect()
    assert alive == [True, False]
    assert early() is None


def test_a_run_inside_of_a_run_thaws_nothing(monkeypatch):
    def nest(strategy):
        inner = cerebro_of(Plain)
        bt_risk.fast(inner)
        (inside,) = inner.run()
        assert inside.frozen == [True] * BARS

    monkeypatch.setattr(Seen, "act", staticmethod(nest))
    cerebro = cerebro_of()
    bt_risk.fast(cerebro)
    assert cerebro.run()[0].frozen == [True] * BARS


def beside(then):
    """Call `then` while another thread has older objects frozen; return once that has ended."""
    begun, end = threading.Event(), threading.Event()

    def other():
        with leave_old_objects():
            begun.set()
            assert end.wait(60.0)

    thread = threading.Thread(target=other)
    thread.start()
    assert begun.wait(60.0)
    try:
        then(lambda: (end.set(), thread.join()))
    finally:
        end.set()
        thread.join()


def test_of_two_runs_the_one_that_ends_last_thaws():
    def first(end_other):
        with leave_old_objects():
            pass
        assert gc.get_freeze_count() > 0

    def last(end_other):
        with leave_old_objects():
            end_other()
            assert gc.get_freeze_count() > 0
        assert gc.get_freeze_count() == 0

    beside(first)
    beside(last)


def forked(check):
    """Return whether `check` holds in a forked process."""
    child = os.fork()
    if not child:
        try:
            os._exit(0 if check() else 3)
        finally:
            os._exit(4)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="os.fork is there on POSIX only")


@needs_fork
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_does_not_wait_for_threads_that_it_does_not_have():
    def runs():
        before = gc.get_freeze_count()
        with leave_old_objects():
            inside = gc.get_freeze_count()
        return before == 0 < inside and gc.get_freeze_count() == 0

    beside(lambda end_other: forked(runs) or pytest.fail("the child is not as a new process"))


@needs_fork
def test_a_process_forked_inside_of_a_run_thaws_at_its_end():
    def runs():
        with leave_old_objects():
            pass
        inside = gc.get_freeze_count()
        mine.__exit__(None, None, None)
        return gc.get_freeze_count() == 0 < inside

    mine = leave_old_objects()
    with mine:
        assert forked(runs)
        assert gc.get_freeze_count() > 0
