"""Check the data feed: bars, live status, their age, and what the contract says."""

from __future__ import annotations

import math

from bt_risk.doctor.session import Session, Step
from bt_risk.portfolio.contract_facts import tick_of

__all__ = ["check_feed", "suggest_stale_after"]

_DAY = 86_400.0
# A bar may be this many intervals old before its data feed counts as delayed.
_LATE = 3.0
# `stale_after` in intervals between two bars.
_SILENT = 3.0
_BY_HAND = "To test it by hand: cut the network for a minute while a run prints notify_data."


def check_feed(s: Session) -> Step:
    """Check that bars come, and what the data feed reports of itself."""
    came = yield from s.until(lambda: len(s.prices.arrivals) > 0)
    if not came:
        s.fail("bars", f"none came within {s.timeout:g} s; stops cannot be computed")
        return
    islive = bool(s.data.islive())
    live = yield from s.until(lambda: "LIVE" in s.statuses, s.timeout if islive else s.watch)
    s.ok("bars", f"the last close is {s.prices.last:g}")
    if islive:
        s.ok("islive()", "the data feed is live, so a run does not end with its history")
    else:
        s.fail("islive()", "missing or False: a run ends with the history; bt.Cerebro(live=True)")
    if live:
        s.ok("LIVE status", "the data feed has reported LIVE")
    else:
        heard = ", ".join(s.statuses) or "nothing"
        s.fail("LIVE status", f"it reported {heard}: bt_risk cannot tell history from live bars")
    _check_age(s)
    seen = "it reported DISCONNECTED" if "DISCONNECTED" in s.statuses else "it was not disconnected"
    row = s.ok if "DISCONNECTED" in s.statuses else s.skip
    row("DISCONNECTED", f"{seen}. {_BY_HAND} Without that status, stale_after does its work")
    reported, inferred = tick_of(s.data), s.prices.inferred_tick()
    if reported:
        s.facts["tick"] = reported
        s.ok("contract", f"the data feed reports a tick of {reported:g}")
    else:
        shown = f"; all prices are whole steps of {inferred:g}" if inferred else ""
        s.skip("contract", f"the data feed has neither `tick` nor `contractdetails`{shown}")


def _check_age(s: Session) -> None:
    age, interval = s.prices.age(), s.prices.interval()
    # A bar that is stamped with its opening time is one interval old when it comes.
    if not interval < _DAY:
        s.skip("age of bars", "bars of a day or more: their time says nothing about a delay")
    elif age < -interval - 60.0:
        seen = f"the last bar is stamped {-age:,.0f} s in the future: not UTC, or a clock is wrong"
        s.fail("age of bars", seen)
    elif age <= _LATE * interval + 60.0:
        s.ok("age of bars", f"the last bar was stamped {age:,.0f} s ago")
    elif age < _DAY:
        seen = f"the last bar is stamped {age / 60:,.0f} minutes ago"
        s.fail("age of bars", f"{seen}: delayed prices, times that are not UTC, or no trading now")
    else:
        seen = f"the last bar is stamped {age / _DAY:,.0f} days ago"
        s.skip("age of bars", f"{seen}: the market is closed, or this venue has its own clock")


def suggest_stale_after(s: Session) -> Step:
    """Suggest `stale_after` from the interval of the bars and the gaps between those that came."""
    yield from s.until(lambda: True)
    interval, gap = s.prices.interval(), s.prices.longest_gap()
    longest = max([one for one in (interval, gap) if one == one], default=math.nan)
    if math.isnan(longest):
        s.skip("stale_after", "the interval of the bars is not known; set three of them")
        return
    s.stale_after = float(f"{_SILENT * longest:.3g}")
    paces = f"bars stand for {interval:g} s" if interval == interval else "the interval is unknown"
    declared = s.prices.declared()
    if declared == declared and not 0.5 < declared / longest < 2.0:
        paces = f"{paces} (the data feed says {declared:g}: set its timeframe)"
    waited = f", and came at most {gap:.3g} s apart" if gap == gap else ""
    s.ok("stale_after", f"{paces}{waited}: set stale_after = {s.stale_after:g}")
