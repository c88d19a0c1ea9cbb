"""The status of a state file for its operator: whether the gate is halted, why, what is open."""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bt_risk.cli.times import bar_time
from bt_risk.orders import ACTIVE, HALTED, REDUCING
from bt_risk.rules.drawdown import ARMED
from bt_risk.state.file import SavedState
from bt_risk.tolerances import PRICE_EPS

__all__ = ["gate_state", "print_status", "unfinished"]

_STRICTEST = (HALTED, REDUCING)


def print_status(console: Console, path: Path, saved: SavedState, running: bool) -> None:
    """Print the state of the gate, positions with their stops, what is unfinished, and decisions.

    Parameters
    ----------
    console : rich.console.Console
    path : Path
    saved : bt_risk.state.file.SavedState
    running : bool
        Whether a process has the file open.
    """
    process = f"in use by process {saved.meta.get('process')}" if running else "no run has it open"
    console.print(f"{path}: run {saved.meta.get('run')}, {process}")
    state, reason = gate_state(saved)
    console.print(f"gate {state}{': ' if reason else ''}{reason}")
    for breaker in saved.of("breaker").values():
        console.print(_breaker_line(breaker))
    console.print(f"{len(saved.trades)} closed trades", end="\n\n")
    _print(console, "No position.", POSITIONS, _positions(saved))
    _print(console, "Nothing unfinished.", ("unfinished",), [[text] for text in unfinished(saved)])
    _print(console, "No decision yet.", DECISIONS, [_decision(line) for line in saved.decisions])


POSITIONS = ("data", "size", "entry", "first stop", "stop", "resting", "best", "at the venue")
DECISIONS = ("time", "data", "rule", "action", "reason")


def gate_state(saved: SavedState) -> tuple[str, str]:
    """Return the strictest state that is requested, and its reason."""
    requested = [(record["state"], record["reason"]) for record in saved.of("gate").values()]
    for breaker in saved.of("breaker").values():
        if breaker["state"]["status"] != ARMED:
            requested.append((breaker["gate"], breaker["reason"]))
    for state in _STRICTEST:
        found = next((one for one in requested if one[0] == state), None)
        if found:
            return found
    return ACTIVE, ""


def unfinished(saved: SavedState) -> list[str]:
    """Return a sentence for each request, exit and order that is not finished."""
    lines = [f"`{one.verb}` is requested" for one in saved.requests]
    for record in saved.of("gate").values():
        if record["flattening"]:
            lines.append(f"closing every position: {record['flattening']}")
    for breaker in saved.of("breaker").values():
        if breaker["state"]["status"] == "TRIPPED":
            lines.append(f"closing every position: {breaker['reason']}")
    resting = {record["data"]: record["price"] for record in saved.of("stop").values()}
    for key, order in saved.of("order").items():
        size = f"{order['side'] * order['remaining']:+g} {order['data']}"
        if order["own"] and order["kind"] == "stop":
            target = resting.get(order["data"], math.nan)
            if abs(target - order["price"]) > PRICE_EPS * abs(target):
                lines.append(f"the stop of {order['data']} moves to {target:g}")
        elif order["venue_id"] is None:
            lines.append(f"order {key} for {size}: sent, not acknowledged yet")
        else:
            lines.append(f"order {order['venue_id']} for {size}: working ({order['kind']})")
    return lines


def _breaker_line(breaker: dict[str, Any]) -> str:
    state = breaker["state"]
    final = ", permanently: the lifetime limit cannot be re-armed" if state["final"] else ""
    return (
        f"breaker {state['status']}{final}: {100 * breaker['drawdown']:.2f} % below the mark of "
        f"{state['high_water_mark']:,.2f} ({breaker['unit']})"
    )


def _positions(saved: SavedState) -> Iterator[list[str]]:
    stops = {key.partition(":")[2]: stop for key, stop in saved.of("stop").items()}
    orders = [o for o in saved.of("order").values() if o["own"] and o["kind"] == "stop"]
    for key, part in saved.of("position").items():
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


def _decision(line: list[Any]) -> list[str]:
    time, data, rule, action, *_, reason = line
    return [bar_time(time), data, rule, action, reason]


def _number(value: float | None) -> str:
    return "-" if value is None or value != value else f"{value:,.10g}"


def _print(
    console: Console, nothing: str, columns: Iterable[str], found: Iterable[list[str]]
) -> None:
    """Print a table, or the line `nothing` where it would have no row."""
    rows = list(found)
    if not rows:
        console.print(nothing, end="\n\n")
        return
    table = Table(show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table, end="\n\n")
