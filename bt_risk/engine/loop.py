"""The quick loop: ``Cerebro._runonce`` with the same results, and when it cannot be used."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import backtrader as bt
from backtrader.linebuffer import LineBuffer
from backtrader.lineseries import Lines

from bt_risk.engine.broker_round import quick_rounds, simulated_broker
from bt_risk.engine.collector import leave_old_objects
from bt_risk.engine.feeds import QuickFeed, bars, finite, tick_aliases, ticks_from_lines
from bt_risk.engine.once import bulk_forward
from bt_risk.engine.strategy_step import overrides, plain_line, strategy_step
from bt_risk.feeds.bulk import undo_bulk_preload, use_bulk_preload
from bt_risk.known_engine import other_engine

__all__ = ["QuickLoop"]

_log = logging.getLogger("bt_risk")

_FEED_METHODS = ("advance", "advance_peek", "_tick_nullify", "_tick_fill")
_LINES_METHODS = ("advance", "buflen", "__len__")
_STRATEGY_METHODS = (
    "_oncepost",
    "_getminperstatus",
    "_next_analyzers",
    "_next_observers",
    "clear",
    "forward",
    "__len__",
)


class QuickLoop:
    """Let one Cerebro run by the quick loop, wherever that is known to change no result.

    Cerebro starts its stores first and stops them last: as a store, this object is there for every
    run, and leaves nothing behind.
    """

    def __init__(self, cerebro: Any) -> None:
        self.cerebro = cerebro

    def start(self) -> None:
        """Replace the loops of the Cerebro, and the way its data feeds load, for this run."""
        cerebro, other = self.cerebro, other_engine()
        if other:
            _log.info("loop: Backtrader's own, because the engine is %s", other)
            return
        for data in cerebro.datas:
            use_bulk_preload(data)
        if not overrides(cerebro, bt.Cerebro, "_runonce", "_runnext"):
            cerebro._runonce = self._run_once
            cerebro._runnext = self._run_next

    def stop(self) -> None:
        """Give the methods back, and take the end of the run: Cerebro's writers follow its stores.

        Without a writer nobody reads what Cerebro would gather for them.
        """
        self._give_back()
        cerebro = self.cerebro
        own = overrides(cerebro, bt.Cerebro, "stop_writers")
        if not (cerebro.runwriters or own or other_engine()):
            cerebro.stop_writers = self._stop_no_writers

    def _give_back(self) -> None:
        """Give the Cerebro and its data feeds their own methods back."""
        for data in self.cerebro.datas:
            undo_bulk_preload(data)
        for name, mine in (("_runonce", self._run_once), ("_runnext", self._run_next)):
            if vars(self.cerebro).get(name) == mine:
                delattr(self.cerebro, name)

    def _stop_no_writers(self, strategies: Sequence[Any]) -> None:
        """Ask whoever may do more than answer for what ``Cerebro.stop_writers`` asks for."""
        del self.cerebro.stop_writers
        for data in self.cerebro.datas:
            data.getwriterinfo()
        for strategy in strategies:
            if overrides(strategy, bt.Strategy, "getwriterinfo"):
                strategy.getwriterinfo()
                continue
            strategy.broker.getvalue()
            for analyzer in strategy.analyzers:
                if not _only_answers(analyzer):
                    analyzer.get_analysis()

    def get_notifications(self) -> tuple[Any, ...]:
        """Return no notifications: Cerebro asks every store for them."""
        return ()

    def _run_once(self, strategies: Sequence[Any]) -> None:
        """Run with preloaded data feeds and indicators."""
        self._give_back()
        why = _why_native(self.cerebro, strategies)
        if why:
            _log.info("loop: Backtrader's own, because %s", why)
        else:
            _log.info("loop: quick")
        run = self.cerebro._runonce if why else partial(_run, self.cerebro)
        with leave_old_objects():
            run(strategies)

    def _run_next(self, strategies: Sequence[Any]) -> None:
        """Run bar by bar, which only Backtrader's own loop does."""
        self._give_back()
        _log.info("loop: Backtrader's own, because bars are not preloaded into indicators")
        self.cerebro._runnext(strategies)


def _why_native(cerebro: Any, strategies: Sequence[Any]) -> str:
    """Return why Backtrader's own loop must run, nothing if the quick one does."""
    if not strategies:
        return "there is no strategy"
    if cerebro._doreplay:
        return "a data feed is replayed"
    for data in cerebro.datas:
        why = _feed_needs_native(data)
        if why:
            return f"{data._name or type(data).__name__} {why}"
    for strategy in strategies:
        name = type(strategy).__name__
        if strategy._oldsync or overrides(strategy, bt.Strategy, *_STRATEGY_METHODS):
            return f"{name} has a loop of its own"
        if not all(map(plain_line, strategy.lines.lines)):
            return f"{name} has lines of another kind"
        for observer in strategy._lineiterators[bt.LineIterator.ObsType]:
            moves = overrides(observer, bt.Observer, "forward", "__len__")
            if moves or not all(map(plain_line, observer.lines.lines)):
                return f"{type(observer).__name__} has lines of another kind"
    return ""


def _only_answers(analyzer: Any) -> bool:
    """Return whether the class that defines ``get_analysis`` says that it changes nothing."""
    defines = next(cls for cls in type(analyzer).__mro__ if "get_analysis" in vars(cls))
    return "get_analysis" not in vars(analyzer) and bool(vars(defines).get("analysis_only_answers"))


def _feed_needs_native(data: Any) -> str:
    """Return why a data feed needs Backtrader's own loop, nothing if it does not."""
    base = bt.feed.AbstractDataBase
    if data._clone:
        return "is a copy of another data feed"
    if overrides(data, base, *_FEED_METHODS, "__len__", "forward", "home"):
        return "has methods of its own"
    names = [f"tick_{alias}" for alias in tick_aliases(data)]
    if any(name in vars(cls) for cls in type(data).__mro__ if cls is not base for name in names):
        return "has ticks of its own"
    kind = type(data.lines)
    if any(getattr(kind, name) is not getattr(Lines, name) for name in _LINES_METHODS):
        return "has lines of another kind"
    if any(type(line) is not LineBuffer or not plain_line(line) for line in data.lines.lines):
        return "has lines of another kind"
    if not finite(data.lines.datetime.array[: data.buflen()]):
        return "has a bar without a time"
    return ""


def _run(cerebro: Any, strategies: Sequence[Any]) -> None:
    """Run to the end of the bars, in the sequence of ``Cerebro._runonce``."""
    with bulk_forward(strategies):
        for strategy in strategies:
            strategy._once()
            strategy.reset()
    datas = sorted(cerebro.datas, key=lambda data: (data._timeframe, data._compression))
    feeds = [QuickFeed(data) for data in datas]
    steps = [strategy_step(strategy, feeds) for strategy in strategies]
    broker = simulated_broker(cerebro._broker)
    with ticks_from_lines(feeds), quick_rounds(broker, feeds):
        _rounds(cerebro, strategies, feeds, steps)
    for strategy in strategies:
        strategy._getminperstatus()


def _rounds(
    cerebro: Any,
    strategies: Sequence[Any],
    feeds: Sequence[QuickFeed],
    steps: Sequence[Callable[[float, Sequence[QuickFeed]], None]],
) -> None:
    """Make one round for each time at which a data feed has a bar."""
    all_lines = [line for feed in feeds for line in feed.lines]
    timers = partial(cerebro._check_timers, strategies)
    before, after = cerebro._timerscheat, cerebro._timers
    cheats, writes = cerebro.p.cheat_on_open, bool(cerebro.runwriters)
    for time, due in bars(feeds):
        lines = all_lines if due is feeds else [line for feed in due for line in feed.lines]
        for line in lines:
            line._idx += 1
            line.lencount += 1
        if before:
            timers(time, cheat=True)
        if cheats:
            for strategy in strategies:
                strategy._oncepost_open()
                if cerebro._event_stop:
                    return
        cerebro._brokernotify()
        if cerebro._event_stop:
            return
        if after:
            timers(time, cheat=False)
        for step in steps:
            step(time, due)
            if cerebro._event_stop:
                return
            if writes:
                cerebro._next_writers(strategies)
