"""Print the status of a run for its operator, who may read it at night and in a hurry."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from bt_risk.cli.history import decision_text
from bt_risk.errors import StateError
from bt_risk.gate.journal import FIELDS
from bt_risk.orders import ACTIVE, HALTED
from bt_risk.report.state_summary import Summary, summary
from bt_risk.report.times import duration

__all__ = ["page", "print_status", "watch_status"]

LATE = 30.0  # seconds without a heartbeat after which a loop may hang
POSITIONS = ("data", "size", "entry", "stop", "rests at", "venue id", "seen there (UTC)")
LIMITS = ("limit", "used", "at most", "room")
DECISIONS = ("bar", "data", "action", "why")
_COLOURS = {ACTIVE: "green", HALTED: "bold red"}


def print_status(console: Console, status: Summary) -> None:
    """Print what `bt_risk.report.state_summary.summary` returns."""
    console.print(page(status))


def watch_status(
    console: Console, path: Path, seconds: float, goes_on: Callable[[], bool] = lambda: True
) -> None:
    """Show the status of a state file again and again, until Ctrl-C or while `goes_on`."""
    with Live(_now(path), console=console, auto_refresh=False, screen=console.is_terminal) as live:
        try:
            while goes_on():
                time.sleep(seconds)
                live.update(_now(path), refresh=True)
        except KeyboardInterrupt:
            return


def _now(path: Path) -> RenderableType:
    """Return the present status, or why the file cannot be read: it may be read again."""
    try:
        return page(summary(path, time.time()))
    except StateError as error:
        return Text(str(error))


def page(status: Summary) -> RenderableType:
    """Return the status as something that rich can print, again and again."""
    parts: list[RenderableType] = [*_head(status)]
    parts += _table(LIMITS, _limits(status))
    parts += _table(POSITIONS, _positions(status))
    if not status["positions"] or status["unknown"]:
        parts += ["", Text(_no_position(status))]
    listed = [*_requests(status), *status["unfinished"]]
    parts += _list("Unfinished", "Nothing unfinished.", listed)
    parts += _list("Differences from the broker", "", status["differences"])
    parts += _table(DECISIONS, [_decision(one) for one in status["decisions"]])
    return Group(*parts)


# -- the head ------------------------------------------------------------------------------------


def _head(status: Summary) -> Iterator[Text]:
    process, state = status["process"], status["gate"]["state"]
    who = "no run has it open" if process is None else f"in use by process {process}"
    yield Text(f"{status['state_file']}: run {status['run']}, {who}")
    if status["incomplete"]:
        text = f"INCOMPLETE: {status['incomplete']}. The next run refuses entries until `rearm`."
        yield Text(text, style="bold red")
    if status["heartbeat"] is not None:
        yield _pulse(process, status["heartbeat"])
    reason = status["gate"]["reason"]
    gate = Text("gate ").append(state, style=_COLOURS.get(state, "bold yellow"))
    yield gate.append(f": {reason}" if reason else "")
    for breaker in status["breakers"]:
        yield Text(_breaker(breaker))
    if status["account"] is not None:
        yield Text(_account(status["account"]))
    closed = status["closed_trades"]
    yield Text(f"{closed} closed trade{'' if closed == 1 else 's'}")
    for sentence in status["losses"]["sentences"]:
        yield Text(sentence)


def _pulse(process: int | None, beat: dict[str, Any]) -> Text:
    """Return when the loop ran last, and whether that is too long ago."""
    if process is None:
        return Text(f"last loop at {beat['time']} UTC")
    text = Text(f"last loop {duration(beat['age'])} ago")
    if beat["age"] > LATE:
        text.append(": THE LOOP MAY HANG", style="bold red")
    return text


def _breaker(breaker: dict[str, Any]) -> str:
    final = ", permanently: the lifetime limit cannot be re-armed" if breaker["final"] else ""
    mark = "not known yet"
    if breaker["high_water_mark"] is not None:
        mark = f"{breaker['high_water_mark']:,.2f} ({breaker['unit']})"
    fallen = f"{100 * breaker['drawdown']:.2f} % below the mark of {mark}"
    return f"breaker {breaker['status']}{final}: {fallen}"


def _account(account: dict[str, Any]) -> str:
    equity = account["equity"]
    if equity is None:
        return "equity: not known; the broker's value did not come, or was not believed"
    text = f"equity {equity:,.2f}"
    if account["day_pnl"] is not None:
        text += f", today {account['day_pnl']:+,.2f} ({100 * account['day_return']:+.2f} %)"
        text += f" since {account['day_since']} UTC"
    return text


# -- tables --------------------------------------------------------------------------------------


def _limits(status: Summary) -> Iterator[list[str]]:
    for one in status["limits"]:
        most = _percent(one["limit"])
        if one["used"] is None:
            yield [one["name"], "not known", most, "-"]
        else:
            yield [one["name"], _percent(one["used"]), most, _percent(one["room"])]


def _positions(status: Summary) -> Iterator[list[str]]:
    for part in status["positions"]:
        row = [part["data"], f"{part['size']:+g}", _number(part["entry"]), _number(part["stop"])]
        for order in part["stop_orders"]:
            seen = order["seen_at"]
            where = [_number(order["price"]), order["venue_id"] or "none yet"]
            yield [*row, *where, f"{seen[5:]}" if seen else "not confirmed"]
            row = ["", "", "", ""]
        if not part["stop_orders"]:
            yield [*row, "no order", "-", "-"]


def _no_position(status: Summary) -> str:
    """Return what is known where no position is listed, and no more than that."""
    unknown, running = status["unknown"], status["process"] is not None
    if unknown == ["*"]:
        return "Positions are not known: no run has asked the broker yet."
    if unknown:
        names = ", ".join(unknown)
        return f"Not known yet: {names}. The broker's position has not been compared."
    if running:
        return "No position."
    return "No position when this was saved. The broker may hold something else by now."


def _requests(status: Summary) -> Iterator[str]:
    if status["kill_file"]:
        yield f"{status['state_file']}.kill is there: everything is closed when it is taken"
    for one in status["requests"]:
        who = f" by {one['who']}" if one["who"] else ""
        at = f" at {one['at']} UTC" if one["at"] else ""
        yield f"`{one['verb']}` is requested{who}{at}, and not answered yet"


def _decision(line: dict[str, Any]) -> list[str]:
    why = decision_text([line[name] for name in FIELDS])
    return [line["time"], line["data"], line["action"], why]


def _percent(value: float) -> str:
    return f"{round(100 * value, 2) + 0.0:.2f} %"  # never -0.00


def _number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:,.7g}"


def _list(title: str, nothing: str, lines: Sequence[str]) -> list[RenderableType]:
    """Return a title and lines, or the text `nothing` where there are none, if any."""
    if not lines:
        return ["", Text(nothing)] if nothing else []
    return ["", Text(f"{title}:"), *[Text(f"- {line}") for line in lines]]


def _table(columns: Sequence[str], rows: Any) -> list[RenderableType]:
    """Return a table after an empty line; nothing where it has no row."""
    table = Table(show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return ["", table] if table.row_count else []
