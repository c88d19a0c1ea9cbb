"""Screener: rank the data feeds of a Cerebro by an expression at each rebalance, and pick some."""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any

import backtrader as bt
import pandas as pd

from bt_risk.components.closed_bars import closed_bars
from bt_risk.components.indicator_catalogue import indicators
from bt_risk.components.membership import Membership
from bt_risk.components.quiet_analyzer import QuietAnalyzer
from bt_risk.components.ranking import Candidate, Placed, ranking
from bt_risk.components.target_weights import REFRESH
from bt_risk.errors import ParameterError, check_choice, check_whole, is_number
from bt_risk.gate.broker import RiskBroker
from bt_risk.gate.headroom import Headroom
from bt_risk.parameters import Check, PositiveOrZero, Settings, one_of
from bt_risk.portfolio.instrument import Instrument
from bt_risk.tolerances import SIZE_EPS

__all__ = ["Screener", "ScreenerSettings"]

PERIODS: dict[str, Callable[[date], Any]] = {"daily": lambda day: day, **REFRESH}

COLUMNS = ["time", "data", "rank", "score", "picked", "room", "rule", "reason"]


def _check_rebalance(component: str, param: str, value: Any) -> str | int:
    if is_number(value) and value >= 1 and value == int(value):
        return int(value)
    if value in PERIODS:
        return str(value)
    constraint = "'daily', 'weekly', 'monthly' or a whole number of bars"
    raise ParameterError(component, param, constraint, value)


@dataclass(frozen=True, kw_only=True)
class ScreenerSettings(Settings):
    """The parameters of `Screener`, which describes them."""

    rank: Any = None
    where: Any = None
    top: Annotated[int | None, Check(check_whole, optional=True, remedy="It counts names.")] = None
    rebalance: Annotated[str | int, Check(_check_rebalance)] = "weekly"
    members: Any = None
    datas: Any = None
    max_age_days: PositiveOrZero = 0.0
    side: Annotated[int, Check(check_choice, choices=(1, -1))] = 1
    on_no_room: Annotated[str, one_of("keep", "skip")] = "keep"


class Screener(QuietAnalyzer):
    """Rank data feeds at each rebalance, and pick the best.

    Params:

      - ``rank`` what to rank by, the highest first: an expression such as ``"rsi(14)"`` or
        ``"roc(126) / natr(20)"``, or a function that makes an indicator of a data feed
      - ``where`` (default: ``None``) an expression that must be true, as ``"close > sma(200)"``, or
        a function that makes an indicator which must not be zero
      - ``top`` (default: ``None``) names to pick; None: all that are ranked
      - ``rebalance`` (default: ``"weekly"``) at the first close of each ISO week; ``"daily"``,
        ``"monthly"``, or a whole number of bars
      - ``members`` (default: ``None``) a table of name, from and to (CSV file, frame or rows): on
        other days a name is not ranked
      - ``datas`` (default: ``None``) data feeds or their names; None: all, of a resampled or
        replayed copy only the first
      - ``max_age_days`` (default: ``0``) days by which the last bar of a name may be older than the
        newest one; bars of days and longer are compared by date
      - ``side`` (default: ``1``) the side for which ``room`` is asked: 1 buys, -1 sells
      - ``on_no_room`` (default: ``"keep"``) ``"skip"`` leaves out a name of which no order would
        pass and nothing is held on this side; the next one takes its place

    A name is not ranked, and its row says why, before its first bar, with too few bars, once its
    last bar is stale, on days without membership, where a value is unknown, and where ``where`` is
    not true. Equal scores are in the sequence of the names.

    ``picks`` has the names of the last rebalance, best first. A strategy that reads it in its
    ``next`` (``self.analyzers.screener.picks``) gets those of the bar that has just closed; later
    bars are in none of its numbers. No order is sent.

    get_analysis:

      - ``picks``: names by time (naive UTC datetimes) of each rebalance
      - ``rows``: one dict for each name and rebalance with the keys time, data, rank (0: not
        ranked), score, picked, room (units of the largest order that would pass; NaN where it was
        not asked), rule (that allows no more), reason (why not ranked or picked)

    Rule: bt_risk.rules.expressions      Acts: never      Persisted: no
    """

    params = ScreenerSettings.defaults()

    def __init__(self) -> None:
        settings = ScreenerSettings.from_params("Screener", self.p)
        self._settings = settings
        self._gate: Any = RiskBroker.of(self.strategy)
        # In a run that is preloaded all bars are there; what is computed of them is, too.
        loads = bool(self.strategy.cerebro._dopreload)
        instruments = self._instruments(settings.datas)
        self._feeds = [_Feed(one, settings, loads) for one in instruments]
        self._instrument = {one.name: one for one in instruments}
        self._members = Membership("Screener", settings.members)
        self._members.check([feed.name for feed in self._feeds])
        self._calendar = _Calendar(settings.rebalance, self._feeds[0].instrument)
        candidate = self._feeds[0].candidate
        where = "" if candidate.where is None else f" where {candidate.where.text}"
        self._title = f"{candidate.rank.text}{where}"
        self._each_round: list[_Feed] | None = None
        self._rounds, self._times = 0, 0
        self._latest = self._ranked_at = math.nan
        self._picks: tuple[str, ...] = ()
        self._rows: list[tuple[Any, ...]] = []
        self._batch = 0
        self._reasons: dict[str, str] = {}

    def _instruments(self, datas: Any) -> list[Instrument]:
        """Return what is ranked, each with a name of its own."""
        every = self._gate.book.instruments
        found = [one for one in every if one is one.lead]
        if datas is not None:
            given = [datas] if isinstance(datas, str) else list(datas)
            found = [one for one in every if any(_is(one, data) for data in given)]
            missing = [data for data in given if not any(_is(one, data) for one in every)]
            if missing or not found:
                known = ", ".join(one.name for one in every)
                constraint = f"data feeds of this Cerebro ({known})"
                raise ParameterError("Screener", "datas", constraint, missing or given)
        names = [one.name for one in found]
        if len(set(names)) < len(names):
            raise ParameterError("Screener", "datas", "data feeds with different names", names)
        return found

    @property
    def picks(self) -> tuple[str, ...]:
        """Return the names of the last rebalance, best first; of this bar, if it is one."""
        self._refresh()
        return self._picks

    @property
    def title(self) -> str:
        """Return what is ranked by, and the filter."""
        return self._title

    def next(self) -> None:
        """Rank at this close if it is that of a rebalance."""
        if self._each_round is None:
            self._each_round = [feed for feed in self._feeds if feed.forgets]
        for feed in self._each_round:
            feed.take()
        self._refresh()

    def stop(self) -> None:
        """Keep plain values only: an optimisation sends them between processes."""
        self._gate = self._each_round = None
        self._feeds, self._instrument = [], {}

    def get_analysis(self) -> dict[str, Any]:
        """Return the names that were picked at each rebalance, and a row for every name."""
        rows = [dict(zip(COLUMNS, row, strict=True)) for row in self._rows]
        picks: dict[Any, list[str]] = {}
        for row in rows:
            names = picks.setdefault(row["time"], [])
            if row["picked"]:
                names.append(row["data"])
        return {"picks": picks, "rows": rows}

    def frame(self) -> pd.DataFrame:
        """Return the rows as a DataFrame, in sequence of time and rank."""
        return pd.DataFrame(self._rows, columns=COLUMNS)

    def _repr_html_(self) -> str:
        """Return the rows as a table, for a notebook."""
        html: str = self.frame()._repr_html_()
        return html

    @staticmethod
    def indicators() -> pd.DataFrame:
        """Return a table of the indicators that an expression can name."""
        return indicators()

    def _refresh(self) -> None:
        """Rank if a bar has closed since the last call, and that is due."""
        gate = self._gate
        if gate is None or gate.book.rounds == self._rounds:
            return
        self._rounds, latest = gate.book.rounds, gate.book.latest
        if latest != self._latest:
            self._latest, self._times = latest, self._times + 1
        # In a live run bars of one time may come one after the other: the later ones count, too.
        if latest == self._ranked_at:
            del self._rows[self._batch :]
        elif not self._calendar.is_due(latest, self._times):
            return
        newest = max([feed.take() for feed in self._feeds])
        if newest > -math.inf:
            self._calendar.note(latest, self._times)
            self._ranked_at = latest
            self._rank(newest)

    def _rank(self, newest: float) -> None:
        """Rank at the newest close, and write down what has been found."""
        settings, time = self._settings, bt.num2date(newest)
        candidates = [feed.candidate for feed in self._feeds]
        placed = ranking(candidates, newest, settings.max_age_days, self._members)
        ranked = max([one.rank for one in placed])
        self._batch = len(self._rows)
        picks: list[str] = []
        for one in placed:
            room, reason = None, one.reason
            wanted = bool(one.rank) and len(picks) < (settings.top or ranked)
            if wanted:
                room = self._room(one.name)
                if settings.on_no_room == "skip" and not self._fits(one.name, room):
                    wanted, reason = False, f"no room: {room.reason}"
            if wanted:
                picks.append(one.name)
            self._rows.append(self._row(time, one, wanted, room, reason))
            if wanted or reason:
                self._note(newest, one, room, reason, ranked)
            else:
                self._reasons[one.name] = ""
        self._picks = tuple(picks)

    def _room(self, name: str) -> Headroom:
        data = self._instrument[name].data
        room: Headroom = self._gate.headroom(data, self._settings.side, owner=self.strategy)
        return room

    def _fits(self, name: str, room: Headroom) -> bool:
        """Return whether some order would pass, or something is held on this side."""
        held = self._instrument[name].size * self._settings.side > SIZE_EPS
        return held or room.size > SIZE_EPS

    @staticmethod
    def _row(
        time: Any, one: Placed, picked: bool, room: Headroom | None, reason: str
    ) -> tuple[Any, ...]:
        size, rule = (math.nan, "") if room is None else (room.size, room.rule)
        rule = "" if size == math.inf else rule
        return (time, one.name, one.rank, one.score, picked, size, rule, reason)

    def _note(
        self, newest: float, one: Placed, room: Headroom | None, reason: str, ranked: int
    ) -> None:
        """Add a line in the journal for a pick, and for a new reason against a name."""
        size = math.nan if room is None else room.size
        kind = re.sub(r"[\d.]+", "#", reason)
        line = {"measured": one.score, "allowed": size if size != math.inf else math.nan}
        if not reason:
            text = self._feeds[0].candidate.rank.text
            why = f"Screener: number {one.rank} of {ranked} by {text}"
            self._gate.journal.record(newest, one.name, "Screener", "pick", reason=why, **line)
        elif kind and kind != self._reasons.get(one.name):
            why = f"Screener: {reason}"
            self._gate.journal.record(newest, one.name, "Screener", "unranked", reason=why, **line)
        self._reasons[one.name] = kind


def _is(instrument: Instrument, data: Any) -> bool:
    """Return whether a data feed, or a name, is that of an instrument."""
    return data is instrument.data or (isinstance(data, str) and data == instrument.name)


class _Calendar:
    """Say at which closes to rank."""

    def __init__(self, rebalance: str | int, instrument: Instrument) -> None:
        self._period = PERIODS[rebalance] if isinstance(rebalance, str) else None
        self._bars = 0 if isinstance(rebalance, str) else rebalance
        self._instrument = instrument
        self._key: Any = None
        self._until, self._number = -math.inf, 0

    def is_due(self, time: float, number: int) -> bool:
        """Return whether the newest close, of this time and number, is one to rank at."""
        if self._period is None:
            return number >= self._number
        if time < self._until:
            return False
        key = self._period(self._instrument.day.date(time))
        if key == self._key:
            self._until = self._instrument.day.end(time)
        return bool(key != self._key)

    def note(self, time: float, number: int) -> None:
        """Begin to wait for the next one."""
        if self._period is None:
            self._number = number + self._bars
        else:
            self._key = self._period(self._instrument.day.date(time))
            self._until = self._instrument.day.end(time)


class _Feed:
    """A data feed that is ranked: it hands its closed bars to a `Candidate`.

    Where it `loads`, the data feed holds all bars before the first one closes: they are taken at
    once then, and count as they close.
    """

    def __init__(self, instrument: Instrument, settings: ScreenerSettings, loads: bool) -> None:
        self.instrument, self._settings = instrument, settings
        self.name = instrument.name
        self.candidate = self._candidate()
        names = self.candidate.bars.lines.getlinealiases()
        self._lines: list[Any] = [getattr(instrument.data.lines, name) for name in names]
        self._replays = bool(instrument.forming)
        # Bars of a function of the user come as they close: it may read a later one.
        self._loads, self._loaded = loads and self.candidate.causal, False
        self._formed = 0
        self._kept = [array("d") for _ in names]

    def _candidate(self) -> Candidate:
        bars = closed_bars(self.instrument.data)
        return Candidate("Screener", self.name, bars, self._settings.rank, self._settings.where)

    @property
    def forgets(self) -> bool:
        """Return whether bars must be taken in every round: later they are gone or have changed."""
        return self._replays or any(line.mode == line.QBuffer for line in self._lines)

    def take(self) -> float:
        """Take the bars that the gate has seen close since the last call.

        Return the time of the last one, minus infinity before the first.
        """
        length, candidate = self.instrument.length, self.candidate
        if self._loaded:
            candidate.count = length
        elif self._replays:
            self._take_forming(length)
        elif length > candidate.count and not self._load(length):
            self.candidate.take(self._new(self.candidate.count, length))
        return self.candidate.time

    def _load(self, length: int) -> bool:
        """Take all bars, of which so many have closed; return whether that could be done."""
        if not self._loads or self.forgets:
            return False
        self._loads, count = False, self.instrument.data.buflen()
        try:
            self.candidate.load([line.array[:count] for line in self._lines], length)
        except Exception:  # of an indicator, at a bar that is found when it closes
            self.candidate = self._candidate()
        else:
            self._loaded = True
        return self._loaded

    def _new(self, first: int, length: int) -> Iterable[Iterable[float]]:
        if self.forgets:
            return [(line[0],) for line in self._lines]
        return [line.array[first:length] for line in self._lines]

    def _take_forming(self, length: int) -> None:
        """Take bars of which the last one still changes: everything is computed anew."""
        if length > self._formed:
            self._formed = length
            for values in self._kept:
                values.append(math.nan)
        if length:
            for values, line in zip(self._kept, self._lines, strict=True):
                values[-1] = line[0]
        self.candidate = self._candidate()
        self.candidate.take(self._kept)
