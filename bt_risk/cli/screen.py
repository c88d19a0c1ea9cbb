"""``bt-risk screen``: rank files of prices by an expression, at one close."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from bt_risk.cli.options import Json, More
from bt_risk.cli.plain import plain
from bt_risk.components.indicator_catalogue import indicators
from bt_risk.components.screened_files import ScreenedFile, files_in, screen_files
from bt_risk.errors import ParameterError, check_positive, check_whole

__all__ = ["screen"]


def screen(
    more: More = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Prices: a folder with a file for each name, or the files."),
    ] = None,
    rank: Annotated[
        str | None, typer.Option(help="What to rank by, the highest first: 'rsi(14)'.")
    ] = None,
    where: Annotated[
        str | None, typer.Option(help="What must be true: 'close > sma(200)'.")
    ] = None,
    top: Annotated[int | None, typer.Option(help="Show so many of those that are ranked.")] = None,
    at: Annotated[
        str | None, typer.Option(help="Date or time (UTC) of the close; else the newest.")
    ] = None,
    members: Annotated[
        Path | None, typer.Option(help="Table of name, from, to (CSV): who is ranked when.")
    ] = None,
    max_age_days: Annotated[
        float, typer.Option(help="Days by which a last bar may be older than the newest.")
    ] = 0.0,
    list_indicators: Annotated[
        bool, typer.Option("--indicators", help="List what an expression can name, and exit.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Rank files of prices by an expression, and say why a name cannot be ranked."""
    if list_indicators:
        _print_indicators(as_json)
        return
    if rank is None:
        raise ParameterError("screen", "--rank", "given", "nothing", "As in --rank 'rsi(14)'.")
    if top is not None:
        check_whole("screen", "--top", top, remedy="It counts names.")
    check_positive("screen", "--max-age-days", max_age_days, zero=True)
    files = files_in("screen", [*(data or ()), *(more or ())])
    found = screen_files(
        "screen", files, rank, where, at=at, members=members, max_age_days=max_age_days
    )
    ranked = [one for one in found if one.rank]
    shown = ranked[:top]
    others = [one for one in found if not one.rank]
    if as_json:
        rows = [_values(one) for one in [*shown, *others]]
        typer.echo(json.dumps({"rank": rank, "where": where, "ranked": len(ranked), "rows": rows}))
        return
    _print(Console(highlight=False), rank, where, found, shown)


def _values(one: ScreenedFile) -> dict[str, Any]:
    """Return a row as plain values; None for what is not known."""
    return {name: plain(value) for name, value in vars(one).items()}


def _print(
    console: Console,
    rank: str,
    where: str | None,
    found: list[ScreenedFile],
    shown: list[ScreenedFile],
) -> None:
    """Print a table of those that are ranked, and one of the others."""
    ranked = sum(1 for one in found if one.rank)
    newest = max(one.time for one in found).removesuffix(" 00:00:00")
    condition = f" where {where}" if where else ""
    title = f"{ranked} of {len(found)} ranked by {rank}{condition}, at the close of {newest}"
    console.print(title, markup=False)
    if shown:
        table = Table(show_edge=False)
        for column in ("", "name", "score", "close"):
            left = column == "name"
            table.add_column(column, justify="left" if left else "right", overflow="fold")
        for one in shown:
            table.add_row(str(one.rank), one.name, f"{one.score:.6g}", f"{one.close:.6g}")
        console.print()
        console.print(table)
    others = [one for one in found if not one.rank]
    if others:
        table = Table(show_edge=False)
        table.add_column("not ranked", overflow="fold")
        table.add_column("because", overflow="fold")
        for one in others:
            table.add_row(one.name, one.reason)
        console.print()
        console.print(table)


def _print_indicators(as_json: bool) -> None:
    """Print the indicators with their numbers and lines."""
    table = indicators().reset_index()
    if as_json:
        typer.echo(json.dumps({"indicators": table.to_dict("records")}))
        return
    shown = Table(show_edge=False)
    for column in ("indicator", "library", "numbers", "lines"):
        shown.add_column(column, overflow="fold")
    for row in table.itertuples():
        names = ", ".join([str(row.name), *str(row.other_names).split()])
        shown.add_row(names, str(row.source), str(row.parameters), str(row.lines))
    Console(highlight=False).print(shown)
