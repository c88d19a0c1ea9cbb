"""strategy_step: what ``Strategy._oncepost`` does on a bar, without what cannot change anything."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import backtrader as bt
from backtrader.linebuffer import LineBuffer
from backtrader.lineseries import LineSeriesStub

from bt_risk.engine.feeds import QuickFeed

__all__ = ["overrides", "plain_line", "strategy_step"]

_IND, _OBS = bt.LineIterator.IndType, bt.LineIterator.ObsType
_STAGES = ("next", "nextstart", "prenext")
# Observers of Backtrader that do nothing on a bar without trades.
_TRADE_OBSERVERS = (bt.observers.Trades, bt.observers.DataTrades)


def overrides(thing: Any, base: type, *names: str) -> bool:
    """Return whether a class or an object replaces one of these methods of a base class."""
    kind = type(thing)
    own = vars(thing)
    return any(getattr(kind, name) is not getattr(base, name) or name in own for name in names)


def plain_line(line: Any) -> bool:
    """Return whether a line moves as a ``LineBuffer`` does, over an array that holds every bar."""
    kind = type(line)
    moves = kind.advance is LineBuffer.advance and kind.__len__ is LineBuffer.__len__
    return moves and line.mode == LineBuffer.UnBounded and type(line.array) is array


# -- indicators ------------------------------------------------------------------------------------


class _Followers:
    """The lines of a strategy's indicators, by the data feed whose bars they follow.

    Attributes
    ----------
    by_feed : dict of QuickFeed to list of LineBuffer
        Lines that move whenever the data feed has a bar.
    others : list
        Indicators with another clock: they are compared with it on every bar.
    """

    def __init__(self, strategy: Any, feeds: Sequence[QuickFeed]) -> None:
        self.by_feed: dict[QuickFeed, list[Any]] = {feed: [] for feed in feeds}
        self.others: list[Any] = []
        leads: dict[int, QuickFeed] = {}
        for feed in feeds:
            leads[id(feed.data)] = feed
            leads.update((id(line), feed) for line in feed.lines)
        for indicator in strategy._lineiterators[_IND]:
            clock = indicator._clock
            leader = leads.get(id(clock.lines[0] if isinstance(clock, LineSeriesStub) else clock))
            lines = _own_lines(indicator)
            moves = lines and not any(id(line) in leads for line in lines)
            if leader is None or not moves or len(indicator) != len(leader.head):
                self.others.append(indicator)
                continue
            self.by_feed[leader] += lines
            leads[id(indicator)] = leader
            leads.update((id(line), leader) for line in lines)

    @property
    def lines(self) -> list[Any]:
        """Return the lines that follow any data feed."""
        return [line for lines in self.by_feed.values() for line in lines]


def _own_lines(indicator: Any) -> list[Any]:
    """Return the lines that an indicator moves on a bar, none where that is not known."""
    if isinstance(indicator, LineBuffer):
        return [indicator] if plain_line(indicator) else []
    if not isinstance(indicator, bt.Indicator) or overrides(indicator, bt.Indicator, "advance"):
        return []
    if type(indicator).__len__ is not bt.LineSeries.__len__:
        return []
    lines: list[Any] = indicator.lines.lines
    return list(lines) if all(map(plain_line, lines)) else []


# -- analyzers -------------------------------------------------------------------------------------


def _stages(analyzers: Iterable[Any]) -> list[list[Callable[[], None]]]:
    """Return what analyzers do on a bar: in ``next``, in ``nextstart`` and in ``prenext``."""
    return [[call for one in analyzers for call in _calls(one, name)] for name in _STAGES]


def _calls(analyzer: Any, name: str) -> list[Callable[[], None]]:
    """Return the methods that ``Analyzer._next`` and its like call, without empty ones."""
    base = bt.Analyzer
    if overrides(analyzer, base, f"_{name}"):
        return [getattr(analyzer, f"_{name}")]
    calls = [call for child in analyzer._children for call in _calls(child, name)]
    # What is not overridden calls ``next``, which does nothing if that is not overridden either.
    last = name if overrides(analyzer, base, name) else "next"
    return [*calls, getattr(analyzer, last)] if overrides(analyzer, base, last) else calls


def _listens(analyzer: Any, name: str) -> bool:
    """Return whether an analyzer or a child of it uses a notification of cash or fund."""
    if overrides(analyzer, bt.Analyzer, f"_{name}"):
        quiet = getattr(type(analyzer), "ignores_account", False)
        return not quiet
    own = overrides(analyzer, bt.Analyzer, name)
    return own or any(_listens(child, name) for child in analyzer._children)


def _account_listeners(strategy: Any) -> bool:
    """Return whether anything uses the notifications of cash and fund value of every bar."""
    names = ("notify_cashvalue", "notify_fund")
    analyzers = [*strategy.analyzers, *strategy._slave_analyzers]
    if overrides(strategy, bt.Strategy, "_notify", *names):
        return True
    return any(_listens(one, name) for one in analyzers for name in names)


def _reads_only(broker: Any) -> bool:
    """Return whether reading cash and value changes nothing: they are BackBroker's own."""
    own = bt.brokers.BackBroker
    calls = (getattr(broker, name, None) for name in ("getcash", "getvalue"))
    return all(
        getattr(call, "__func__", None) in (own.get_cash, own.get_value)
        and type(getattr(call, "__self__", None)) is own
        for call in calls
    )


# -- observers -------------------------------------------------------------------------------------


class _Watcher:
    """One observer: the lines that it lengthens, and what it does on a bar.

    `acts` is None for an observer that does something on every bar, else it returns whether it does
    so on this one.
    """

    def __init__(self, observer: Any, strategy: Any) -> None:
        self.observer = observer
        self.lines: list[Any] = list(observer.lines.lines)
        self.calls = _stages(observer._analyzers)
        self.acts: Callable[[], Any] | None = None
        kind = type(observer)
        if not any(name in vars(observer) for name in _STAGES):
            if kind in _TRADE_OBSERVERS:
                self.acts = lambda: strategy._tradespending
            elif kind is bt.observers.BuySell:
                observer.curbuylen = observer.curselllen = 0
                self.acts = lambda: strategy._orderspending


# -- the step --------------------------------------------------------------------------------------


def strategy_step(
    strategy: Any, feeds: Sequence[QuickFeed]
) -> Callable[[float, Sequence[QuickFeed]], None]:
    """Return a function that brings a strategy to the next bar.

    It is called with the time of the bar and the data feeds that have one. Its steps are those of
    ``Strategy._oncepost``, in their sequence.
    """
    followers = _Followers(strategy, feeds)
    by_feed, all_followers, others = followers.by_feed, followers.lines, followers.others
    own_lines, times = list(strategy.lines.lines), strategy.lines.datetime
    stages = _stages(strategy.analyzers)
    watchers = [_Watcher(one, strategy) for one in strategy._lineiterators[_OBS]]
    tells = _account_listeners(strategy) or not _reads_only(strategy.broker)
    begun, nan = False, math.nan

    def step(time: float, due: Sequence[QuickFeed]) -> None:
        nonlocal begun
        moving = all_followers if due is feeds else [x for feed in due for x in by_feed[feed]]
        for line in moving:
            line._idx += 1
            line.lencount += 1
        for indicator in others:
            if len(indicator._clock) > len(indicator):
                indicator.advance()
        for line in own_lines:
            line._idx += 1
            line.lencount += 1
            line.array.append(nan)
        times.array[times._idx] = time
        for binding in times.bindings:
            binding[0] = time
        if tells or strategy._orderspending or strategy._tradespending:
            strategy._notify()
        if begun:
            strategy.next()
            stage = 0
        else:
            status = strategy._getminperstatus()
            begun = status < 0
            stage = 0 if begun else 1 if status == 0 else 2
            (strategy.next, strategy.nextstart, strategy.prenext)[stage]()
        for call in stages[stage]:
            call()
        for watcher in watchers:
            for call in watcher.calls[stage]:
                call()
            for line in watcher.lines:
                line._idx += 1
                line.lencount += 1
                # An observer has room for all bars already, to which Backtrader adds each again.
                if line._idx == len(line.array):
                    line.array.append(nan)
            if watcher.acts is None or watcher.acts():
                observer = watcher.observer
                (observer.next, observer.nextstart, observer.prenext)[stage]()
        if strategy._orderspending or strategy._tradespending:
            strategy.clear()

    return step
