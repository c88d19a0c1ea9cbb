"""``bt-risk headroom``: the largest order that a policy would let pass now."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from bt_risk.cli.options import Commission, Equity, Json, More, Prices, Settings, policy_of
from bt_risk.cli.plain import plain
from bt_risk.demo.runs import CASH
from bt_risk.errors import check_choice
from bt_risk.evidence.price_headroom import Asked, files_of, headroom_on
from bt_risk.gate.headroom import at_most

__all__ = ["headroom"]

SIDES = {"both": (1, -1), "buy": (1,), "sell": (-1,)}


def headroom(
    policy: Annotated[Path, typer.Argument(help="Policy (TOML).")],
    more: More = None,
    prices: Prices = None,
    equity: Equity = CASH,
    side: Annotated[str, typer.Option(help="buy, sell or both.")] = "both",
    stop: Annotated[
        float | None, typer.Option(help="Price of the stop behind the order; else by the ATR.")
    ] = None,
    settings: Settings = None,
    commission: Commission = 0.0,
    as_json: Json = False,
) -> None:
    """Show the largest order that would pass at the last close, and the rule that binds it."""
    check_choice("headroom", "--side", side, tuple(SIDES))
    chosen = policy_of("headroom", policy, settings)
    terms: dict[str, Any] = {"commission": commission, "sides": SIDES[side], "stop_price": stop}
    found = [
        one
        for file in files_of("headroom", [*(prices or ()), *(more or ())])
        for one in headroom_on("headroom", chosen, file, equity, **terms)[-1]
    ]
    if as_json:
        typer.echo(json.dumps({"equity": equity, "headroom": [_values(one) for one in found]}))
        return
    console = Console(highlight=False)
    for one in found:
        _print(console, one)


def _values(one: Asked) -> dict[str, Any]:
    """Return an answer as plain values; None for a size without a limit."""
    room = one.room
    answers = [
        {"rule": answer.rule, "size": plain(answer.size), "reason": answer.reason}
        for answer in room.answers
    ]
    return {
        "data": one.name,
        "side": "buy" if one.side > 0 else "sell",
        "time": one.time,
        "price": plain(one.price),
        "stop_distance": plain(one.distance),
        "size": plain(room.size),
        "rule": room.rule,
        "reason": room.reason,
        "answers": answers,
    }


def _print(console: Console, one: Asked) -> None:
    """Print an answer, and that of each limit."""
    verb = "buy" if one.side > 0 else "sell"
    found = f"{verb} at most {_size(one.room.size)} {one.name} at {one.price:g} ({one.time})"
    console.print(f"{found}: {one.room.reason or 'no limit'}", markup=False)
    table = Table(box=None, show_header=False)
    table.add_column("", overflow="fold")
    table.add_column("", justify="right")
    for answer in one.room.answers:
        table.add_row(answer.rule or "-", _size(answer.size))
    console.print(table)


def _size(size: float) -> str:
    return "no limit" if size == float("inf") else at_most(size)
