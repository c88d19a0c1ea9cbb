"""Check the account: cash, value, and how the value follows a position and its price."""

from __future__ import annotations

import math

from bt_risk.doctor.session import Session, Step, brief
from bt_risk.live.venue_margin import is_margin_ratio
from bt_risk.portfolio.point_value import point_value

__all__ = ["check_account", "check_value_held", "check_value_moves", "money", "worth"]

# A value that differs from cash by no more than this fraction of the position leaves it out.
_LEFT_OUT = 0.05
# The most that costs and the price of the fill may explain, as a fraction of the position.
_COSTS = 0.02
# A value counts as frozen after so many price changes and timeouts: some brokers (IB) report it
# every three minutes.
_CHANGES, _TIMES = 5, 4.0
_POSITIONS = 'set equity = "positions"'
_CALLABLE = "pass equity=, a callable that asks the venue"


def worth(s: Session, size: float, price: float) -> float:
    """Return what a position adds to cash, in currency, where it costs its price."""
    return size * price * point_value(s.broker.getcommissioninfo(s.data), price)


def money(amount: float) -> str:
    """Return an amount of currency; the smallest sizes need more than two digits.

    Examples
    --------
    >>> money(1234.5), money(0.100125)
    ('1,234.50', '0.100125')
    """
    text = f"{amount:,.6f}".rstrip("0")
    return text + "0" * max(0, 2 - len(text.partition(".")[2]))


def check_account(s: Session) -> Step:
    """Check cash and value as they are at the start."""
    yield from s.until(lambda: True)
    cash, value = _number(s, "cash", s.broker.getcash), _number(s, "value", s.broker.getvalue)
    if math.isnan(cash) or math.isnan(value):
        s.equity = "callable"
        return
    if s.cash is None:
        seen = f"the broker reports {money(cash)}; compare it with what your venue shows"
        seen = f"{seen}, or pass that (cash=, --cash). If it is not the same: {_CALLABLE}"
        s.skip("cash", seen)
    elif abs(cash - s.cash) > 0.01 * abs(s.cash):
        s.equity = "callable"
        seen = f"the broker reports {money(cash)}, the account has {money(s.cash)}"
        s.fail("cash", f"{seen}: value and cash of this broker are fiction; {_CALLABLE}")
    else:
        s.ok("cash", f"{money(cash)}, as the account has")
    _check_margin(s)
    held = _held(s)
    if not value > 0.0:
        s.equity = _source(s)
        s.fail("value", f"the broker reports {money(value)} as value; {_remedy(s)}")
    elif held and abs(value - cash) <= _LEFT_OUT * abs(held):
        s.equity = _source(s)
        seen = f"{money(value)} is cash alone; the positions, {money(held)}, are left out"
        s.fail("value", f"{seen}; {_remedy(s)}")
    elif abs(value - cash - held) <= max(_COSTS * abs(held), 1e-4 * abs(value)):
        s.ok("value", f"{money(value)} is cash {money(cash)} plus positions {money(held)}")
    else:
        other = money(value - cash - held)
        seen = f"{money(value)} has {other} beside cash {money(cash)} and positions {money(held)}"
        s.skip("value", f"{seen}: other holdings, futures, or an error; compare it with your venue")


def _check_margin(s: Session) -> None:
    """Check the margin ratio of a broker that has one, for `MarginAccount`."""
    ask = getattr(s.broker, "margin_ratio", None)
    if not callable(ask):
        return
    remedy = "0 is nothing needed, 1 is liquidated; pass margin_ratio=, a callable that returns it"
    try:
        ratio = float(ask())
    except Exception as error:  # a store raises whatever its client raises
        s.fail("margin ratio", f"the broker has raised {brief(error)}; {remedy}")
        return
    if is_margin_ratio(ratio):
        seen = f"the broker reports {ratio:g} of the equity; compare it with what your venue shows"
        s.ok("margin ratio", seen)
    else:
        s.fail("margin ratio", f"the broker reports {ratio:g}, which can be none: {remedy}")


def check_value_held(s: Session, cash: float, value: float) -> Step:
    """Check cash and value after a purchase; `cash` and `value` are those before it."""
    price = s.prices.last
    held = worth(s, s.net(), price)

    def explained() -> bool:
        return bool(abs(s.broker.getvalue() - value) <= max(_COSTS * held, 1e-9 * abs(value)))

    stocklike = getattr(s.broker.getcommissioninfo(s.data), "stocklike", True)
    if not (held > 0.0 and abs(cash) > 0.0):
        s.skip("value with a position", "nothing is held, so nothing can be compared")
        return
    paid = yield from s.until(lambda: abs(s.broker.getcash() - cash) > 0.5 * held, s.watch)
    now = s.broker.getcash()
    if stocklike and not paid:
        s.equity = "callable"
        seen = f"cash stayed {money(now)} when {money(held)} were bought; {_CALLABLE}"
        s.fail("cash with a position", seen)
    elif stocklike:
        s.ok("cash with a position", f"{money(cash)} before, {money(now)} after")
    yield from s.until(explained, s.watch)
    after, held = s.broker.getvalue(), worth(s, s.net(), s.prices.last)
    seen = f"{money(value)} before, {money(after)} after, with a position of {money(held)}"
    if explained():
        s.ok("value with a position", seen)
        return
    s.equity = _source(s)
    what = "the value leaves positions out" if abs(after - now) <= _LEFT_OUT * held else "wrong"
    s.fail("value with a position", f"{what}: {seen}; {_remedy(s)}")


def check_value_moves(s: Session) -> Step:
    """Check that the value follows the price while a position is held."""
    check, net = "value moves with prices", s.net()
    if net <= 0.0:
        s.skip(check, "nothing is held")
        return
    value, prices = s.broker.getvalue(), {s.prices.last}

    def moved() -> bool:
        prices.add(s.prices.last)
        return bool(s.broker.getvalue() != value)

    yield from s.until(moved, _TIMES * s.timeout)
    changes, low, high = len(prices) - 1, min(prices), max(prices)
    swing = worth(s, net, high) - worth(s, net, low)
    if s.broker.getvalue() != value:
        s.ok(check, f"{money(value)} to {money(s.broker.getvalue())} as the price moved")
    elif changes >= _CHANGES and swing > 0.02 and swing > 1e-9 * abs(value):
        s.equity = _source(s)
        seen = f"it stayed {money(value)} through {changes} price changes, worth {money(swing)}"
        s.fail(check, f"{seen}; {_remedy(s)}")
    else:
        s.skip(
            check, f"only {changes} price changes, worth {money(swing)}; a larger --timeout helps"
        )


def _held(s: Session) -> float:
    """Return what all positions at the start are worth in currency."""
    total = 0.0
    for data in s.setup.datas:
        size = float(s.broker.getposition(data).size)
        if size and len(data):
            total += worth(s, size, float(data.close[0]))
    return total


def _number(s: Session, check: str, ask: object) -> float:
    """Return an answer as a number; NaN, and a row, where it is none."""
    try:
        number = float(ask())  # type: ignore[operator]  # a method of the broker
    except Exception as error:  # a store raises whatever its client raises
        s.fail(check, f"the broker has raised {brief(error)}; {_CALLABLE}")
        return math.nan
    if not math.isfinite(number):
        s.fail(check, f"the broker reports {number}; {_CALLABLE}")
        return math.nan
    return number


def _source(s: Session) -> str:
    """Return where the value may come from instead: a callable where cash is wrong as well."""
    return "callable" if s.equity == "callable" else "positions"


def _remedy(s: Session) -> str:
    return _CALLABLE if s.equity == "callable" else _POSITIONS
