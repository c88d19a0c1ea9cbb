"""The verbs for a run with a state file: ``bt-risk status``, ``halt``, ``journal`` and others."""

import json
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bt_risk.cli.exit_status import BAD_INPUT, REFUSED
from bt_risk.cli.history import journal_json, order_values, print_journal, print_order
from bt_risk.cli.operate import operate
from bt_risk.cli.options import Json
from bt_risk.cli.status import print_status, watch_status
from bt_risk.report.state_summary import summary
from bt_risk.report.times import parse_since
from bt_risk.state.history import read_journal, read_order

__all__ = ["explain", "flatten", "halt", "journal", "rearm", "reduce", "resume", "status"]

State = Annotated[Path, typer.Argument(help="The state file of a run.")]
Reason = Annotated[str, typer.Option(help="Why; it stands in the journal and on refused orders.")]
Who = Annotated[str, typer.Option(help="Who asks, instead of user@host.")]


def status(
    state: State,
    seconds: Annotated[
        float | None,
        typer.Argument(min=0.1, help="With --watch: seconds between two pictures, 2 if left out."),
    ] = None,
    as_json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show it until Ctrl-C.")] = False,
) -> None:
    """Show a state file: whether the gate is halted and why, positions with stops, decisions."""
    if watch and as_json:
        raise typer.BadParameter("--watch and --json exclude each other")
    if watch:
        watch_status(Console(highlight=False), state, 2.0 if seconds is None else seconds)
        return
    if seconds is not None:
        raise typer.BadParameter("SECONDS goes with --watch")
    found = summary(state, time.time())
    if as_json:
        typer.echo(json.dumps(found))
    else:
        print_status(Console(highlight=False), found)
    if found["incomplete"]:
        raise typer.Exit(BAD_INPUT)


def halt(state: State, reason: Reason = "", who: Who = "") -> None:
    """Refuse and cancel entries; positions stay, with their stops."""
    _operate(state, "halt", reason, who)


def reduce(state: State, reason: Reason = "", who: Who = "") -> None:
    """Refuse entries; orders that reduce a position pass."""
    _operate(state, "reduce", reason, who)


def flatten(state: State, reason: Reason = "", who: Who = "") -> None:
    """Halt, and close every position at the market."""
    _operate(state, "flatten", reason, who)


def resume(
    state: State,
    reason: Reason = "",
    who: Who = "",
    gone: Annotated[
        bool,
        typer.Option("--stops-are-gone", help="The stops in question are not at the venue."),
    ] = False,
    there: Annotated[
        bool, typer.Option("--stops-are-there", help="The stops in question rest at the venue.")
    ] = False,
) -> None:
    """Take halt, reduce or flatten back; what a breaker has halted stays halted.

    With --stops-are-gone or --stops-are-there, only say what became of the stops of an earlier run
    that the broker does not list.
    """
    if gone and there:
        raise typer.BadParameter("--stops-are-gone and --stops-are-there exclude each other")
    _operate(state, "resume", reason, who, "gone" if gone else "there" if there else "")


def rearm(state: State, reason: Reason = "", who: Who = "") -> None:
    """Allow entries again after any halt, also a breaker's, or after the state was lost.

    The equity of that moment is the new high-water mark of each breaker.
    """
    _operate(state, "rearm", reason, who)


def _operate(state: Path, verb: str, reason: str, who: str, stops: str = "") -> None:
    """Leave a request and print what came of it; the status is 1 where it is not possible."""
    text, possible = operate(state, verb, reason, who, stops)
    typer.echo(text)
    if not possible:
        raise typer.Exit(REFUSED)


def journal(
    state: State,
    since: Annotated[
        str,
        typer.Option(help="Since a time of UTC (2026-11-28T03:00), or for a while (30m, 2d)."),
    ] = "",
    rule: Annotated[str | None, typer.Option(help="Lines of this rule only.")] = None,
    data: Annotated[str | None, typer.Option(help="Lines about this data feed only.")] = None,
    last: Annotated[int | None, typer.Option(min=1, help="At most so many, the newest.")] = None,
    bars: Annotated[bool, typer.Option("--bars", help="The time of the bar in the table.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each line.")] = False,
) -> None:
    """Print the decisions of a run, oldest first, with the times at which they were written."""
    if bars and as_json:
        raise typer.BadParameter("--bars is for the table; --json has both times")
    start = parse_since(since, time.time()) if since else 0.0
    lines = read_journal(state, start, rule, data, last)
    if as_json:
        for line in journal_json(lines):
            typer.echo(line)
    else:
        print_journal(Console(highlight=False), lines, bars)


def explain(
    state: State,
    order: Annotated[
        str, typer.Argument(help="Its id at the venue, its client id, or a line of the journal.")
    ],
    as_json: Json = False,
) -> None:
    """Show the life of an order: what was requested and allowed, why, fills, moves, its end."""
    found = read_order(state, order)
    if as_json:
        typer.echo(json.dumps(order_values(found)))
    else:
        print_order(Console(highlight=False), order, found)
