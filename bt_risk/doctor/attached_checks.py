"""Check a stop that is sent with its entry, as its child, where a broker declares `attached`.

What `docs/live.md` demands of such a broker is tried with whole fills: a purchase of the smallest
size seldom fills in parts.
"""

from __future__ import annotations

from typing import Any

import backtrader as bt

from bt_risk.doctor.orders import SentOrder
from bt_risk.doctor.prices import FAR
from bt_risk.doctor.session import Session, Step
from bt_risk.doctor.type_checks import end_order
from bt_risk.tolerances import SIZE_EPS

__all__ = ["check_attached"]

_CHECK = "type: attached stop"
_REMEDY = 'declare no "attached": bt_risk then sends stops when fills are reported'
_LIMIT = bt.Order.Limit


def check_attached(s: Session) -> Step:
    """Check that a child stop works for what its entry has filled, and for nothing else."""
    if not s.declares("attached"):
        s.skip(_CHECK, "the broker does not declare it")
        return
    s.capabilities["attached"] = False
    lacking = [name for name in ("stop", "brackets") if not s.capabilities.get(name, True)]
    if lacking:
        s.fail(_CHECK, f"it needs {' and '.join(lacking)}, which this store lacks; {_REMEDY}")
        return
    fault = yield from _check_unfilled(s)
    fault = fault or (yield from _check_cancel(s))
    fault = fault or (yield from _check_filled(s))
    if fault:
        s.fail(_CHECK, f"{fault}; {_REMEDY}")
        return
    fault, seen = yield from _check_trigger(s)
    if fault:
        s.fail(_CHECK, f"{fault}; {_REMEDY}")
        return
    s.capabilities["attached"] = True
    s.ok(_CHECK, f"the entry waits for its child, which only works for what that fills; {seen}")


def _send_child(s: Session, entry: SentOrder, price: float) -> SentOrder:
    stop: dict[str, Any] = {"exectype": bt.Order.Stop, "price": price, "parent": entry.order}
    return s.send("stop of the entry", -1, **stop)


def _send_resting(s: Session) -> Step:
    """Send an entry far below the market; its stop is far above it, and must not fill there.

    Return both, and what is wrong with them or "".
    """
    entry = s.send(
        "entry with a stop", +1, transmit=False, exectype=_LIMIT, price=s.prices.away(-FAR)
    )
    if entry.order is None:
        return [entry], f"the entry is refused: {entry.story()}"
    stop = _send_child(s, entry, s.prices.away(FAR))
    yield from s.until(lambda: entry.ended or entry.accepted)
    yield from s.until(lambda: stop.ended or entry.ended, s.watch)
    fault = ""
    if stop.refused:
        fault = f"the child is refused: {stop.story()}"
    elif stop.filled:
        fault = "the child has filled before its entry, and would have opened a position"
    elif stop.ended or not entry.accepted:
        fault = f"the entry does not rest with its child: {entry.story()}, and {stop.story()}"
    return [entry, stop], fault


def _check_unfilled(s: Session) -> Step:
    """Cancel an entry that has not filled: its child has to end. Return what is wrong, or ""."""
    family, fault = yield from _send_resting(s)
    if not fault:
        entry, stop = family
        s.cancel(entry)
        yield from s.until(lambda: entry.ended and stop.ended, s.watch)
        if not stop.ended:
            fault = "the child works on when its entry is cancelled unfilled"
    yield from _end_all(s, family)
    return fault


def _check_cancel(s: Session) -> Step:
    """Cancel a child alone: its entry has to work on. Return what is wrong, or ""."""
    family, fault = yield from _send_resting(s)
    if not fault:
        entry, stop = family
        s.cancel(stop)
        yield from s.until(lambda: stop.ended)
        yield from s.until(lambda: entry.ended, s.watch)
        if not stop.ended:
            fault = "the child cannot be cancelled while its entry works"
        elif entry.ended:
            fault = "the entry has ended with its child"
    yield from _end_all(s, family)
    return fault


def _send_filled(s: Session, price: float) -> Step:
    """Send an entry at the market and its child; return both, and what is wrong or ""."""
    entry = s.send("entry with a stop", +1, transmit=False)
    if entry.order is None:
        return [entry], f"the entry is refused: {entry.story()}"
    yield from s.until(lambda: entry.ended, s.watch)
    if entry.ended:
        return [entry], f"the entry does not wait for its child: {entry.story()}"
    stop = _send_child(s, entry, price)
    yield from s.until(lambda: entry.ended)
    fault = "" if entry.filled else f"the entry does not fill with its child: {entry.story()}"
    return [entry, stop], fault


def _check_filled(s: Session) -> Step:
    """Fill an entry: its child rests, is listed, and can be cancelled. Return what is wrong."""
    family, fault = yield from _send_filled(s, s.prices.away(-FAR))
    if not fault:
        stop = family[1]
        yield from s.until(lambda: stop.ended, s.watch)
        if stop.filled:
            fault = "the child far below the market has filled at once"
        elif stop.ended:
            fault = f"the child has ended with the fill of its entry: {stop.story()}"
        elif s.lists(stop) is None:
            fault = "the list of open orders lacks the child when its entry has filled"
    yield from _end_all(s, family)
    return fault


def _check_trigger(s: Session) -> Step:
    """Let the price pass a child; return what is wrong or "", and what was seen."""
    price = s.prices.near()
    family, fault = yield from _send_filled(s, price)
    seen = f"the price did not fall to {price:g}, so that its fill was not seen"
    if not fault:
        stop = family[1]
        yield from s.until(lambda: stop.ended, 2.0 * s.timeout)
        if stop.filled:
            seen = f"it filled at {stop.notes[-1].price:g}"
            if abs(stop.filled - s.size) > SIZE_EPS:
                fault = f"the child has filled {stop.filled:g} where its entry filled {s.size:g}"
        elif stop.ended:
            fault = f"the child ended as {stop.story()} when its entry had filled"
    yield from _end_all(s, family)
    return fault, seen


def _end_all(s: Session, family: list[SentOrder]) -> Step:
    for one in family:
        yield from end_order(s, _CHECK, one)
