"""What a state file says, for somebody who runs it: halted or not, why, and what is open."""

import datetime
import math

from rich.table import Table

from bt_risk.orders import ACTIVE, HALTED, REDUCING
from bt_risk.rules.drawdown import ARMED
from bt_risk.tolerances import PRICE_EPS

__all__ = ["gate_state", "show_status", "unfinished"]

_STRICTEST = (HALTED, REDUCING)
_DAY_ONE = datetime.datetime(1, 1, 1)


def show_status(console, path, kept, running):
    """Print the state of the gate, positions with their stops, what is unfinished, and decisions.

    Parameters
    ----------
    console : rich.console.Console
    path : Path
    kept : bt_risk.state.Kept
    running : bool
        Whether a process has the file open.
    """
    process = f"in use by process {kept.meta.get('process')}" if running else "no run has it open"
    console.print(f"{path}: run {kept.meta.get('run')}, {process}")
    state, reason = gate_state(kept)
    console.print(f"gate {state}{': ' if reason else ''}{reason}")
    for breaker in kept.of("breaker").values():
        console.print(_breaker_line(breaker))
    console.print(f"{len(kept.trades)} closed trades", end="\n\n")
    _print(console, "No position.", POSITIONS, _positions(kept))
    _print(console, "Nothing unfinished.", ("unfinished",), [[text] for text in unfinished(kept)])
    _print(console, "No decision yet.", DECISIONS, [_decision(line) for line in kept.decisions])


POSITIONS = ("data", "size", "entry", "first stop", "stop", "resting", "best", "at the venue")
DECISIONS = ("time", "data", "rule", "action", "reason")


def gate_state(kept):
    """Return the strictest state that anything asks for, and its reason."""
    asked = [(record["state"], record["reason"]) for record in kept.of("gate").values()]
    for breaker in kept.of("breaker").values():
        if breaker["state"]["status"] != ARMED:
            asked.append((breaker["gate"], breaker["reason"]))
    for state in _STRICTEST:
        found = next((one for one in asked if one[0] == state), None)
        if found:
            return found
    return ACTIVE, ""


def unfinished(kept):
    """Return what is on its way, in words."""
    lines = [f"`{verb}` is asked for" for _, verb in kept.requests]
    for record in kept.of("gate").values():
        if record["flattening"]:
            lines.append(f"closing every position: {record['flattening']}")
    for breaker in kept.of("breaker").values():
        if breaker["state"]["status"] == "TRIPPED":
            lines.append(f"closing every position: {breaker['reason']}")
    resting = {record["data"]: record["price"] for record in kept.of("stop").values()}
    for key, order in kept.of("order").items():
        size = f"{order['side'] * order['remaining']:+g} {order['data']}"
        if order["own"] and order["kind"] == "stop":
            wanted = resting.get(order["data"], math.nan)
            if abs(wanted - order["price"]) > PRICE_EPS * abs(wanted):
                lines.append(f"the stop of {order['data']} moves to {wanted:g}")
        elif order["venue_id"] is None:
            lines.append(f"order {key} for {size}: sent, not acknowledged yet")
        else:
            lines.append(f"order {order['venue_id']} for {size}: working ({order['kind']})")
    return lines


def _breaker_line(breaker):
    state = breaker["state"]
    final = ", for good: the lifetime limit cannot be re-armed" if state["final"] else ""
    return (
        f"breaker {state['status']}{final}: {100 * breaker['drawdown']:.2f} % below the mark of "
        f"{state['high_water_mark']:,.2f} ({breaker['unit']})"
    )


def _positions(kept):
    stops = {key.partition(":")[2]: stop for key, stop in kept.of("stop").items()}
    orders = [o for o in kept.of("order").values() if o["own"] and o["kind"] == "stop"]
    for key, part in kept.of("position").items():
        if not part["size"]:
            continue
        stop = stops.get(key, {})
        order = next(
            (o for o in orders if (o["data"], o["owner"]) == (part["data"], part["owner"])), None
        )
        levels = [_number(stop.get(name, math.nan)) for name in ("first", "price")]
        rests = order["price"] if order else math.nan
        at_venue = (order["venue_id"] or "not acknowledged") if order else "none"
        yield [
            part["data"],
            f"{part['size']:+g}",
            _number(part["entry"]),
            *levels,
            _number(rests),
            _number(stop.get("best", math.nan)),
            at_venue,
        ]


def _decision(line):
    time, data, rule, action, *_, reason = line
    return [_when(time), data, rule, action, reason]


def _when(number):
    if number != number:
        return "before start"
    moment = _DAY_ONE + datetime.timedelta(days=number - 1.0)
    return (moment + datetime.timedelta(milliseconds=500)).isoformat(" ", "seconds")


def _number(value):
    return "-" if value is None or value != value else f"{value:,.10g}"


def _print(console, nothing, columns, rows):
    rows = list(rows)
    if not rows:
        console.print(nothing, end="\n\n")
        return
    table = Table(show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table, end="\n\n")
