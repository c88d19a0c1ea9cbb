"""Check tick and step: whether an odd price or half of a size is refused, rounded or taken."""

from __future__ import annotations

import math

import backtrader as bt

from bt_risk.doctor.order_checks import buy_again
from bt_risk.doctor.prices import FAR
from bt_risk.doctor.session import Session, Step
from bt_risk.tolerances import SIZE_EPS

__all__ = ["check_step", "check_tick"]

# Where no tick is known, a price has this fraction more than a price with six digits.
_ODD = 3.3e-6


def check_tick(s: Session) -> Step:
    """Send a stop at a price between two ticks."""
    check = "tick"
    if not s.has_stops:
        s.skip(check, "there is no stop to send off the tick")
        return
    yield from buy_again(s)
    tick = s.prices.tick
    price = s.prices.away(-FAR) + (tick / 3.0 if tick else _ODD * s.prices.last)
    one = s.send(f"stop at {price:.10g}", -1, exectype=bt.Order.Stop, price=price)
    yield from s.until(lambda: one.ended or one.accepted)
    if one.refused:
        seen = f"a stop at {price:.10g} was refused: {one.story()}"
        if tick:
            s.facts["tick"] = tick
            s.ok(check, f"{seen}; with tick = {tick:g}, as written, stops rest at whole ticks")
        else:
            s.fail(check, f"{seen}; set the tick of the contract: the prices do not show it")
    elif one.accepted:
        resting = _resting(s, one.order.created.price)
        how = "taken as it is" if math.isclose(resting, price, rel_tol=1e-9) else "rounded"
        s.ok(check, f"a stop at {price:.10g} was {how}; no tick is needed")
    else:
        s.fail(check, f"a stop at {price:.10g} was not answered: {one.story()}")
    yield from s.withdraw(one)


def _resting(s: Session, price: float | None) -> float:
    listed = s.lists(s.sent[-1])
    shown = price if listed is None else listed.created.price
    return float(shown) if shown else math.nan


def check_step(s: Session) -> Step:
    """Send a stop for half of the size."""
    check, half = "step", s.size / 2.0
    if not s.has_stops:
        s.skip(check, "there is no stop to send with half of the size")
        return
    yield from buy_again(s)
    price = s.prices.away(-FAR)
    one = s.send(f"stop for {half:g}", -1, half, exectype=bt.Order.Stop, price=price)
    yield from s.until(lambda: one.ended or one.accepted)
    if one.refused:
        s.facts["step"] = s.size
        seen = f"half of the size, {half:g}, was refused: {one.story()}"
        s.ok(check, f"{seen}; step = {s.size:g}, as written, or less if your contract says so")
    elif one.accepted:
        size = abs(float(one.order.size or 0.0))
        if abs(size - half) <= SIZE_EPS:
            seen = f"{half:g} was taken, so this size is no smallest one"
            s.ok(check, f"{seen}; some stores drop a fraction without a word: look at your venue")
        else:
            s.facts["step"] = s.size
            s.ok(check, f"{half:g} was taken as {size:g}; step = {s.size:g} is written")
    else:
        s.fail(check, f"half of the size was not answered: {one.story()}")
    yield from s.withdraw(one)
