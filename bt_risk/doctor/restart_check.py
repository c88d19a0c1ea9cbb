"""Check a restart: whether a second broker, in a process of its own, knows position and orders."""

from __future__ import annotations

import math
import multiprocessing
import pickle
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from bt_risk.doctor.factory import build
from bt_risk.doctor.orders import SentOrder
from bt_risk.doctor.session import Ended, Session, Step, brief
from bt_risk.tolerances import PRICE_EPS, SIZE_EPS

__all__ = ["Seen", "check_restart", "look"]


@dataclass(frozen=True)
class Seen:
    """What a new broker reports: position, and side, size and price of its open orders.

    `orders` is None where it has no list, `error` what it has raised.
    """

    position: float = math.nan
    orders: list[tuple[int, float, float]] | None = None
    error: str = ""
    alone: bool = field(default=True)


def look(make_broker: Any, name: str, timeout: float) -> Seen:
    """Build a new broker, and return what it knows once its data feed has brought a bar."""
    seen: list[Seen] = []

    def script(s: Session) -> Step:
        try:
            yield from s.until(lambda: len(s.prices.arrivals) > 0)
            yield from s.pause()  # some stores ask for orders once they are connected
            orders = s.open_orders()
            rows = None if orders is None else [_row(one) for one in orders if _is_of(s, one)]
            seen.append(Seen(s.position(), rows))
        except (Ended, Exception) as error:  # a store raises whatever its client raises
            seen.append(Seen(error=brief(error)))

    try:
        session = Session(build(make_broker), name, 0.0, timeout, None)
        session.run(script(session))
    except Exception as error:
        return Seen(error=brief(error))
    return seen[0]


def _is_of(s: Session, order: Any) -> bool:
    return order.data is s.data or order.data is None


def _row(order: Any) -> tuple[int, float, float]:
    price = order.created.price
    left = abs(float(order.executed.remsize or order.size))
    return 1 if order.isbuy() else -1, left, float(price) if price else math.nan


def check_restart(s: Session, one: SentOrder) -> Step:
    """Compare what a second broker reports with the position and the stop that are there."""
    try:
        seen: Seen = yield from _look_again(s)
    except Exception as error:  # a new process may not start
        seen = Seen(error=brief(error))
    check, listing = "restart: position", "restart: open orders"
    where = "in a new process" if seen.alone else "built again in this process"
    if seen.error:
        for name in (check, listing):
            s.skip(name, f"a second broker, {where}, has raised {seen.error}; restart by hand")
        return
    expected = s.position()
    if abs(seen.position - expected) <= SIZE_EPS:
        s.ok(check, f"a second broker, {where}, reports {seen.position:g}")
    else:
        report = f"a second broker, {where}, reports {seen.position:g} instead of {expected:g}"
        s.fail(check, f"{report}: hold nothing when you start a run")
    price = one.order.created.price or one.price
    fits = [row for row in seen.orders or () if _fits(row, one, float(price))]
    s.capabilities["order_lists"] = bool(fits)
    if fits:
        s.ok(listing, f"the stop at {price:g} is listed by a second broker, {where}")
    elif seen.orders is None:
        s.fail(listing, f"a second broker, {where}, has no list; have no order when you start")
    else:
        listed = f"lists {len(seen.orders)} orders, and not the stop at {price:g}"
        s.fail(listing, f"a second broker, {where}, {listed}: have no order when you start a run")


def _fits(row: tuple[int, float, float], one: SentOrder, price: float) -> bool:
    side, size, listed = row
    same = math.isclose(listed, price, rel_tol=10.0 * PRICE_EPS) or math.isnan(listed)
    return side == one.side and abs(size - one.size) <= SIZE_EPS and same


def _look_again(s: Session) -> Step:
    """Return what a second broker sees; in a new process where the factory can be sent to one."""
    args = s.make_broker, s.name, s.timeout
    try:
        pickle.dumps(s.make_broker)
    except Exception:  # a closure, a lambda, a local class: whatever pickle raises
        return _in_this_process(*args)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        future: Future[Seen] = pool.submit(look, *args)
        yield from s.until(future.done, s.timeout + 60.0)
        if not future.done():
            for process in list(pool._processes.values()):
                process.kill()
            return Seen(error="no answer")
        error = future.exception()
        return Seen(error=brief(error)) if error else future.result()


def _in_this_process(*args: Any) -> Seen:
    seen = look(*args)
    return Seen(seen.position, seen.orders, seen.error, alone=False)
