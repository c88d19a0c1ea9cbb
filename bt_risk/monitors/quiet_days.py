"""Quiet days: let monitors sleep over the ends of days, and catch up with them when one wakes."""

from __future__ import annotations

import math
from collections.abc import Mapping

from bt_risk.monitors.base import LaterDays, Monitor, Quiet, Sample
from bt_risk.monitors.coming_bars import ComingBars

__all__ = ["catch_up", "later_days"]

_INF = math.inf
# What each sleeping monitor has said, and the round in which it was called last.
Asleep = dict[Monitor, tuple[Quiet, int]]


def later_days(asleep: Mapping[Monitor, tuple[Quiet, int]], sample: Sample) -> LaterDays | None:
    """Return on which bars after the first end of a day all sleep on; None: that is not known.

    One whose own day ends later has to stay in its present range, too.
    """
    until = min([quiet.until for quiet, _ in asleep.values()])
    all_of = LaterDays()
    for monitor, (quiet, _) in asleep.items():
        if quiet.until > until:
            here = LaterDays(quiet.low, quiet.high, quiet.balance, quiet.watched)
            all_of = _both(all_of, here)
        if quiet.until < _INF:
            found = monitor.later_days(sample)
            if found is None:
                return None
            all_of = _both(all_of, found)
    return all_of


def _both(one: LaterDays, other: LaterDays) -> LaterDays:
    """Return the bars on which both sleep on."""
    return LaterDays(
        max(one.low, other.low),
        min(one.high, other.high),
        min(one.balance, other.balance),
        one.watched + other.watched,
        min(one.fall, other.fall),
        min(one.rise, other.rise),
        max(one.longest, other.longest),
    )


def catch_up(coming: ComingBars, asleep: Asleep, sample: Sample, first: int, count: int) -> None:
    """Let sleeping monitors begin the days that begin on quiet bars; take these into the sample.

    There are `count` bars, from round `first` on. What a monitor does after `later_days` changes
    only what it knows, so that it may come later.
    """
    before = sample.value, sample.profit
    for monitor, (quiet, called) in asleep.items():
        begin, (sample.value, sample.profit) = 0, before
        if quiet.until <= coming.time_of(count):
            called = first - 1 - called  # bars that it has not taken before these
            begin, quiet = _pass_days(coming, monitor, quiet, sample, called, count)
            asleep[monitor] = quiet, first + begin - 1
        coming.catch_up(begin, count, quiet, sample)
        if quiet.trail < _INF:
            asleep[monitor] = _rise(coming, monitor, quiet, sample, count), called
    if len(asleep) > 1:  # the last one may not need the profit
        for quiet, _ in asleep.values():
            coming.stand_after(count, quiet, sample)


def _rise(coming: ComingBars, monitor: Monitor, quiet: Quiet, sample: Sample, count: int) -> Quiet:
    """Tell a monitor of the new highs of the account; return its range after them."""
    highs = coming.new_highs(count, quiet.high)
    for value, time in highs:
        monitor.rise(value, time)
    after = monitor.quiet(sample) if highs else quiet
    assert after is not None  # new highs within `Quiet.trail` wake nobody
    return after


def _pass_days(
    coming: ComingBars, monitor: Monitor, quiet: Quiet, sample: Sample, before: int, count: int
) -> tuple[int, Quiet]:
    """Begin all days; return how many bars come before the last of them, and its range.

    `before` are the quiet bars that came before these, and that the monitor has not taken.
    """
    last_day, until, bars = monitor.day_begin(coming.time_of(count)), quiet.until, 0
    if last_day is not None:
        begin, time = coming.first_from(last_day, count)
        coming.stand_after(begin, quiet, sample)
        bars = before + begin
    else:
        place, now = coming.first_from(until, count)
        while place < count:
            begin, time = place, now
            coming.stand_after(begin, quiet, sample)
            until = monitor.pass_day(sample, time)
            place, now = coming.first_from(until, count)
    found = monitor.go_on(sample, bars, time)
    assert found is not None  # as `later_days` has said
    return begin, found
