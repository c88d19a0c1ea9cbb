"""The journal of a state file and the life of an order, in a terminal or as JSON lines."""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from bt_risk.cli.plain import plain
from bt_risk.gate.journal import FIELDS
from bt_risk.report.labels import ACTIONS
from bt_risk.report.times import bar_time, utc
from bt_risk.state.file import Record
from bt_risk.state.history import Line, OrderHistory

__all__ = ["decision_text", "journal_json", "order_values", "print_journal", "print_order"]


def print_journal(console: Console, lines: Iterable[Line], bars: bool) -> None:
    """Print lines of the journal as a table, with the time of the bar if `bars`."""
    time = "bar" if bars else "written (UTC)"
    table = Table(show_edge=False)
    for name in ("#", time, "data", "action"):
        table.add_column(name, no_wrap=name in ("#", time), overflow="fold")
    table.add_column("why", overflow="fold", ratio=1)
    for line in lines:
        when = bar_time(line.values[0]) if bars or not line.at else utc(line.at)[5:]
        table.add_row(
            str(line.number), when, line.values[1], line.values[3], decision_text(line.values)
        )
    console.print(table if table.row_count else "No line of the journal fits.")


def journal_json(lines: Iterable[Line]) -> Iterator[str]:
    """Yield one JSON object for each line of the journal; what is not a number is null."""
    yield from (json.dumps(_line_values(line)) for line in lines)


def _line_values(line: Line) -> dict[str, Any]:
    values = dict(zip(FIELDS, line.values, strict=True))
    values = {name: plain(value) for name, value in values.items()}
    bar = line.values[0]
    values["time"] = bar_time(bar) if bar == bar else None
    written = utc(line.at) if line.at else None
    first = {"number": line.number, "written": written}
    return first | values | {"order": line.client_id or None}


def order_values(order: OrderHistory) -> dict[str, Any]:
    """Return the life of an order as plain values; ``working`` is None once it has ended."""
    return {
        "order": order.client_id or None,
        "decisions": [_line_values(line) for line in order.lines],
        "events": [{"time": utc(at), "what": sentence} for at, sentence in order.events],
        "working": order.record,
    }


def print_order(console: Console, name: str, order: OrderHistory) -> None:
    """Print what was requested, decided and done, and how an order has ended."""
    sent = f"order {order.client_id}" if order.client_id else f"{name}: no order was sent"
    console.print(sent, end="\n\n")
    told = [(line.at, _decision(line)) for line in order.lines]  # first within a second
    told += order.events
    table = Table(show_edge=False)
    table.add_column("time (UTC)", no_wrap=True)
    table.add_column("what", overflow="fold")
    for at, sentence in sorted(told, key=lambda one: int(one[0])):
        table.add_row(utc(at), sentence)
    console.print(table, end="\n\n")
    if order.client_id:
        console.print(_now(order))


def _decision(line: Line) -> str:
    action, why = line.values[3], decision_text(line.values)
    label = "" if action in ("trim", "reject") else f"{ACTIONS.get(action, action)}: "
    return f"{label}{why} (line {line.number})"


def decision_text(values: Sequence[Any]) -> str:
    """Return the sizes and the reason of a decision, with its rule where the reason lacks it."""
    _, _, rule, _, requested, allowed, *_, reason = values
    sizes = f"{requested:g}" if _is_number(requested) else ""
    if sizes and _is_number(allowed) and allowed != requested:
        sizes = f"{sizes} refused" if not allowed else f"{sizes} cut to {allowed:g}"
    if reason and rule and not reason.startswith(rule):
        reason = f"{rule}: {reason}"
    return "; ".join([text for text in (sizes, reason) if text])


def _is_number(value: Any) -> bool:
    return value is not None and math.isfinite(value)


def _now(order: OrderHistory) -> str:
    record: Record | None = order.record
    if record is None:
        return "It does not work any more."
    price = f" at {record['price']:g}" if record["kind"] != "market" and record["price"] else ""
    known = record["venue_id"]
    where = f"as {known} at the venue" if known else "and the venue has given it no id yet"
    return f"It works: {record['remaining']:g} of {record['size']:g} are left{price}, {where}."
