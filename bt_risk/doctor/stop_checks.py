"""Check stops: one is placed, listed, moved, cancelled, and another is triggered."""

from __future__ import annotations

import math
from functools import partial

import backtrader as bt

from bt_risk.doctor.order_checks import buy_again
from bt_risk.doctor.orders import SentOrder
from bt_risk.doctor.prices import FAR
from bt_risk.doctor.restart_check import check_restart
from bt_risk.doctor.session import CheckError, Session, Step, brief
from bt_risk.tolerances import PRICE_EPS

__all__ = ["check_stops", "check_trigger"]

_STOP = {"exectype": bt.Order.Stop}
_TRIGGER = "stop: triggered"
_TRIES = 3  # how many stops near the market are sent at most
_NO_STOP = 'set capabilities = {"stop": False}: bt_risk then checks stops itself'


def check_stops(s: Session) -> Step:
    """Check a stop far below the market, from its placement to its cancel."""
    if s.declines("stop", "stop: placed"):
        return
    price = s.prices.away(-FAR)
    one = s.send(f"stop at {price:g}", -1, price=price, **_STOP)
    yield from s.until(lambda: one.ended or one.has("Accepted"))
    yield from s.until(lambda: one.ended, s.watch)
    if not _rests(s, one, price):
        s.capabilities["stop"] = False
        for check in ("stop: listed", "stop: moved", "stop: cancelled"):
            s.skip(check, "there is no stop")
        yield from s.withdraw(one)
        return
    s.has_stops = True
    s.capabilities.setdefault("stop", True)
    _check_listed(s, one)
    yield from check_restart(s, one)
    yield from _check_move(s, one)
    yield from _check_cancel(s, one)
    if not one.ended:
        raise CheckError("an order cannot be cancelled, so none is sent that would have to be")


def _rests(s: Session, one: SentOrder, price: float) -> bool:
    check = "stop: placed"
    if one.filled:
        seen = f"a stop at {price:g} filled at once, with the market at {s.prices.last:g}"
        s.fail(check, f"{seen}: it was sent as another type; {_NO_STOP}")
    elif one.ended:
        s.fail(check, f"a stop at {price:g} was refused: {one.story()}; {_NO_STOP}")
    elif not one.accepted:
        s.fail(check, f"a stop was not accepted within {s.timeout:g} s: {one.story()}; {_NO_STOP}")
    else:
        s.ok(check, f"it rests at {price:g}, with the market at {s.prices.last:g}")
        return True
    return False


def _check_listed(s: Session, one: SentOrder) -> None:
    check = "stop: listed"
    try:
        listed = s.open_orders()
        found = s.lists(one)
    except Exception as error:  # a store raises whatever its client raises
        s.fail(check, f"the list of open orders has raised {brief(error)}")
        return
    names = "get_orders_open, orders, open_orders"
    if listed is None:
        s.fail(check, f"the broker has no list of open orders ({names}): bt_risk cannot look")
    elif found is None:
        s.fail(check, f"the list of open orders ({len(listed)}) lacks it: bt_risk cannot look")
    elif len(listed) > 1:
        others = len(listed) - 1
        s.ok(check, f"it is listed, and {others} more: of somebody else, or orders that have ended")
    else:
        s.ok(check, "it is listed, and nothing else")


def _check_move(s: Session, one: SentOrder) -> Step:
    check, replace = "stop: moved", getattr(s.broker, "replace", None)
    if not callable(replace):
        s.skip(check, "the broker has no replace: a stop moves by cancel and a new order")
        return
    price = s.prices.away(-0.8 * FAR)
    moved, error = _replace(s, one, price)
    yield from s.pause()
    s.capabilities["replace"] = False
    if error or not moved:
        seen = error or "replace returned False"
        s.fail(check, f"{seen}; a stop moves by cancel and a new order")
    elif one.filled or one.ended:
        s.fail(check, f"the stop has ended with it: {one.story()}; declare no replace")
    else:
        listed = _listed_price(s, one)
        if listed == listed and not math.isclose(listed, price, rel_tol=10.0 * PRICE_EPS):
            s.fail(check, f"replace to {price:g} answered yes, the list has {listed:g}")
            return
        s.capabilities["replace"] = True
        s.ok(check, f"to {price:g}; whether the venue has it, the stop that is triggered shows")


def _listed_price(s: Session, one: SentOrder) -> float:
    """Return the price of an order in the broker's list, NaN where it has none."""
    try:
        order = s.lists(one)
    except Exception:  # the listing has a check of its own
        return math.nan
    return float(order.created.price) if order is not None and order.created.price else math.nan


def _replace(s: Session, one: SentOrder, price: float) -> tuple[bool, str]:
    try:
        return bool(s.broker.replace(one.order, size=one.size, price=price)), ""
    except Exception as error:  # a store raises whatever its client raises
        return False, f"replace has raised {brief(error)}"


def _check_cancel(s: Session, one: SentOrder) -> Step:
    check = "stop: cancelled"
    if one.ended:
        s.skip(check, f"the stop has ended before: {one.story()}")
        return
    error = s.cancel(one)
    yield from s.until(lambda: one.ended)
    if error:
        s.fail(check, f"cancel has raised {error}")
    elif not one.ended:
        s.fail(check, f"its end was not reported within {s.timeout:g} s: {one.story()}")
    elif one.filled:
        s.fail(check, f"it filled instead: {one.story()}")
    else:
        listed = _is_listed(s, one)
        if listed:
            s.fail(check, "it was reported Canceled, and the list of open orders still has it")
        else:
            s.ok(check, f"{one.notes[-1].status} was reported")


def _is_listed(s: Session, one: SentOrder) -> bool:
    try:
        return s.lists(one) is not None
    except Exception:  # the listing has a check of its own
        return False


def check_trigger(s: Session) -> Step:
    """Check that a stop near the market fills when the price passes it; moved by replace if it can.

    A broker whose replace does nothing at the venue is found here: the price passes the new level.
    A venue refuses a stop that the market has passed while it was on its way: another one is sent
    then, after the next bar.
    """
    if not s.has_stops:
        s.skip(_TRIGGER, "there is no stop that could be")
        return
    yield from buy_again(s)
    for tries in range(1, _TRIES + 1):
        one, price, refusal = yield from _stop_near(s)
        lowest = yield from _wait_for(s, one, price)
        if tries == _TRIES or one.filled or not one.ended:
            break
        bars = len(s.prices.arrivals)
        yield from s.until(partial(_has_more_bars, s, bars), 2.0 * s.timeout)
    if refusal and not one.filled:
        s.capabilities["replace"] = False
        s.fail(_TRIGGER, f"{refusal}, {tries} times near the market: declare no replace")
    else:
        _judge_trigger(s, one, price, lowest)
    yield from s.withdraw(one)


def _stop_near(s: Session) -> Step:
    """Place a stop near the market; return it, its price and what replace has said against it."""
    moves = s.capabilities.get("replace")
    price = s.prices.away(-FAR) if moves else s.prices.near()
    one = s.send(f"stop at {price:g}", -1, price=price, **_STOP)
    yield from s.until(lambda: one.ended or one.accepted)
    if not (moves and one.accepted):
        return one, price, ""
    price = s.prices.near()
    moved, error = _replace(s, one, price)
    if moved:
        return one, price, ""
    yield from s.until(lambda: one.ended, s.watch)  # the venue may have cancelled the first half
    yield from s.withdraw(one)
    return one, price, error or "replace returned False"


def _wait_for(s: Session, one: SentOrder, price: float) -> Step:
    """Wait until the price falls below that of a stop and it has ended; return the lowest price."""
    lows = [s.prices.last]
    bars = len(s.prices.arrivals) + 1

    def passed() -> bool:
        # The low of the bar in which the stop was placed may be from before it.
        lows.append(min(s.data.low[0], s.prices.last) if _has_more_bars(s, bars) else s.prices.last)
        return min(lows) < price or one.ended

    if (yield from s.until(passed, 2.0 * s.timeout)):
        yield from s.until(lambda: one.ended)
    return min(lows)


def _has_more_bars(s: Session, count: int) -> bool:
    return len(s.prices.arrivals) > count


def _judge_trigger(s: Session, one: SentOrder, price: float, lowest: float) -> None:
    """Add the result of a stop near the market."""
    moves = bool(s.capabilities.get("replace"))
    if one.filled:
        fill = one.notes[-1].price
        by = ", moved by replace" if moves else ""
        s.ok(_TRIGGER, f"at {price:g}{by}; it filled at {fill:g}")
    elif one.ended:
        seen = f"{_TRIES} stops near the market have ended without a fill"
        s.fail(_TRIGGER, f"{seen}, the last, at {price:g}, as {one.story()}")
    elif lowest < price:
        seen = f"the price fell to {lowest:g}, and the stop at {price:g} has not filled"
        if moves:
            s.capabilities["replace"] = False
            seen = f"{seen}: replace answers yes and does nothing; declare no replace"
        s.fail(_TRIGGER, seen)
    else:
        waited = f"the price did not fall to {price:g} within {2.0 * s.timeout:g} s"
        s.skip(_TRIGGER, f"{waited}; try again, or with a larger --timeout")
