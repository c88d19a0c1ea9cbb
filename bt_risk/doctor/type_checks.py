"""Check the other types of orders: each is taken as what it is, or refused, and never sold now.

A type that a store does not know and sends as a market order is the worst fault: an exit that was
to wait closes the position. Each is sent with the smallest size, far from the market.
"""

from __future__ import annotations

from typing import Any

import backtrader as bt

from bt_risk.doctor.order_checks import buy_again
from bt_risk.doctor.orders import SentOrder
from bt_risk.doctor.prices import FAR
from bt_risk.doctor.session import CheckError, Session, Step
from bt_risk.tolerances import SIZE_EPS

__all__ = ["check_brackets", "check_oco", "check_reduce_only", "check_types", "end_order"]

_AT_MARKET = "it was sent as a market order"


def check_types(s: Session) -> Step:
    """Check a limit, a stop limit and a trailing stop, each alone."""
    below, above = s.prices.away(-FAR), s.prices.away(FAR)
    under = s.prices.away(-1.2 * FAR)
    types: list[tuple[str, str, dict[str, Any]]] = [
        ("limit", "", {"exectype": bt.Order.Limit, "price": above}),
        ("stop limit", "", {"exectype": bt.Order.StopLimit, "price": below, "plimit": under}),
        ("trailing stop", "trailing", {"exectype": bt.Order.StopTrail, "trailpercent": FAR}),
    ]
    for name, capability, args in types:
        if capability and s.declines(capability, f"type: {name}"):
            continue
        yield from _check_type(s, name, capability, args)


def _check_type(s: Session, name: str, capability: str, args: dict[str, Any]) -> Step:
    yield from buy_again(s)
    check = f"type: {name}"
    one = s.send(name, -1, **args)
    yield from s.until(lambda: one.ended or one.accepted)
    yield from s.until(lambda: one.ended, s.watch)
    taken = False
    if one.filled:
        s.fail(check, f"{_AT_MARKET} and filled at once; {_undeclared(capability)}")
    elif one.refused:
        s.ok(check, f"it is refused, and nothing reaches the market: {one.story()}")
    elif not one.accepted:
        s.fail(check, f"neither accepted nor refused: {one.story()}; {_undeclared(capability)}")
    else:
        taken = True
        trails = "; whether it trails, only a longer run shows" if capability else ""
        s.ok(check, f"it is accepted, and rests{trails}")
    if capability:
        s.capabilities[capability] = taken
    yield from end_order(s, check, one)


def _undeclared(capability: str) -> str:
    if capability:
        return f'do not declare "{capability}": bt_risk then refuses such orders'
    return "do not use this type with this store"


def check_oco(s: Session) -> Step:
    """Check that two orders of an OCO group are one: the end of one ends the other."""
    check = "type: OCO"
    if s.declines("oco", check):
        return
    s.capabilities["oco"] = False
    stop, limit = yield from _oco(s, s.prices.away(FAR))
    if not stop.accepted and not stop.filled:
        s.skip(check, "there is no stop that another order could belong to")
    elif limit.filled or stop.filled:
        s.fail(check, f"{_AT_MARKET} and filled at once; {_undeclared('oco')}")
    elif not limit.accepted or not stop.accepted:
        s.ok(check, f"it is refused: {limit.story()}; {_undeclared('oco')}")
    else:
        s.cancel(stop)
        yield from s.until(lambda: stop.ended and limit.ended, s.watch)
        if limit.ended:
            s.capabilities["oco"] = True
            s.ok(check, "the cancel of one has ended the other")
        else:
            yield from end_order(s, check, limit)
            yield from _check_fill_of_one(s, check)
    yield from end_order(s, check, stop)
    yield from end_order(s, check, limit)


def _check_fill_of_one(s: Session, check: str) -> Step:
    """Fill the limit of a new group: at some venues only a fill ends the other order."""
    stop, limit = yield from _oco(s, s.prices.away(-0.5 * FAR))
    yield from s.until(lambda: limit.ended)
    yield from s.until(lambda: stop.ended, s.watch)
    if limit.filled and stop.ended and not stop.filled:
        s.capabilities["oco"] = True
        s.ok(check, "the fill of one has ended the other; the cancel of one has not")
    else:
        s.fail(
            check, f"the orders are sent one by one: neither ends the other; {_undeclared('oco')}"
        )
    yield from end_order(s, check, stop)
    yield from end_order(s, check, limit)


def _oco(s: Session, price: float) -> Step:
    """Send a stop far below the market and a limit at a price as one group; return both."""
    yield from buy_again(s)
    kinds = bt.Order
    stop = s.send("stop", -1, exectype=kinds.Stop, price=s.prices.away(-FAR))
    yield from s.until(lambda: stop.ended or stop.accepted)
    if not stop.accepted:
        return stop, stop
    limit = s.send("limit", -1, exectype=kinds.Limit, price=price, oco=stop.order)
    yield from s.until(lambda: limit.ended or limit.accepted)
    yield from s.until(lambda: limit.ended or stop.ended, s.watch)
    return stop, limit


def check_brackets(s: Session) -> Step:
    """Check that the children of a bracket wait for their parent, and end with it."""
    check, kinds = "type: bracket", bt.Order
    if s.declines("brackets", check):
        return
    s.capabilities["brackets"] = False
    entry = s.prices.away(-FAR)
    parent = s.send("bracket", +1, exectype=kinds.Limit, price=entry, transmit=False)
    if parent.order is None:
        s.ok(check, f"it is refused: {parent.story()}; {_undeclared('brackets')}")
        return
    stop = s.send(
        "stop of the bracket",
        -1,
        exectype=kinds.Stop,
        price=s.prices.away(-2.0 * FAR),
        parent=parent.order,
        transmit=False,
    )
    family = [parent, stop]
    if stop.order is not None:
        profit = s.send(
            "limit of the bracket",
            -1,
            exectype=kinds.Limit,
            price=s.prices.away(FAR),
            parent=parent.order,
        )
        family.append(profit)
    yield from s.until(lambda: parent.ended or parent.accepted)
    yield from s.until(lambda: any(one.filled for one in family), s.watch)
    if any(one.filled for one in family):
        s.fail(check, f"one of its orders filled at once; {_undeclared('brackets')}")
    elif any(one.refused for one in family):
        s.ok(check, f"it is refused, at least in part; {_undeclared('brackets')}")
    elif not parent.accepted:
        s.fail(check, f"neither accepted nor refused: {parent.story()}; {_undeclared('brackets')}")
    else:
        s.cancel(parent)
        yield from s.until(lambda: all(one.ended for one in family), s.watch)
        alive = [one for one in family if not one.ended]
        s.capabilities["brackets"] = not alive
        if alive:
            seen = f"the {alive[0].what} works on when its parent is cancelled: the orders are sent"
            s.fail(check, f"{seen} one by one; {_undeclared('brackets')}")
        else:
            s.ok(check, "the cancel of the parent has ended its children")
    for one in family:
        yield from end_order(s, check, one)


def check_reduce_only(s: Session) -> Step:
    """Check that a reduce-only sale opens nothing; it is the last order, with nothing held."""
    check = "reduce_only"
    if not s.declares("reduce_only"):
        s.skip(check, "the broker does not declare it")
        return
    if abs(s.position()) > SIZE_EPS:
        s.skip(check, f"{s.position():g} is held, which such a sale might reduce")
        return
    one = s.send("sale that may open nothing", -1, reduce_only=True)
    yield from s.until(lambda: one.ended, s.watch)
    yield from s.withdraw(one)
    s.capabilities["reduce_only"] = not one.filled
    if one.filled:
        s.fail(check, f"a reduce-only sale of {one.filled:g} was filled with nothing held")
    else:
        s.ok(check, f"with nothing held it does not fill: {one.story()}")


def end_order(s: Session, check: str, one: SentOrder) -> Step:
    """Cancel an order; a row where its end is not reported."""
    if not (yield from s.withdraw(one)):
        s.fail(f"{check}: cancelled", f"the end of the {one.what} was not reported: {one.story()}")
        raise CheckError("an order cannot be cancelled, so none is sent that would have to be")
