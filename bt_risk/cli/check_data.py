"""``bt-risk check-data``: what a file of prices is, and what to check in it."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from bt_risk.feeds.check import check_file

__all__ = ["check_data"]


def check_data(
    file: Annotated[Path, typer.Argument(help="Prices: CSV, gz or Parquet.")],
    format: Annotated[
        str | None, typer.Option(help="How times are written: %d/%m/%Y.", show_default=False)
    ] = None,
    tz: Annotated[str | None, typer.Option(help="Zone of times that name none; else UTC.")] = None,
    decimal: Annotated[str | None, typer.Option(help="Decimal mark: a comma or a point.")] = None,
    sort: Annotated[
        bool | None, typer.Option("--sort/--no-sort", help="Sort by time; refuse what is not.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show what a file of prices is: times, gaps, jumps, splits, and the call that reads it."""
    found = check_file(file, format=format, tz=tz, decimal=decimal, sort=sort)
    if as_json:
        typer.echo(json.dumps(found))
        return
    for line in _lines(found):
        typer.echo(line)


def _lines(found: dict[str, Any]) -> list[str]:
    """Return the report as lines of text."""
    volume = "with volume" if found["volume"] else "without volume"
    lines = [
        f"{found['file']}: {found['format']}, {found['bars']:,} bars, {volume}",
        f"from {found['first']} to {found['last']} (UTC), interval {found['interval'] or '-'}",
        *(f"repaired: {sentence}" for sentence in found["repairs"]),
    ]
    examples = {
        "gaps": "{from} to {to}: {length}",
        "zero_ranges": "{time}",
        "jumps": "{time}: {atr:+g} ATR ({change:+.1%})",
        "splits": "{time}: {ratio}",
    }
    titles = {"zero_ranges": "bars with high equal to low", "jumps": "jumps of more than 10 ATR"}
    titles["splits"] = "suspected splits"
    for name, text in examples.items():
        rows = found[name]["examples"]
        more = ["..."] if found[name]["count"] > len(rows) else []
        lines.append(f"{titles.get(name, name)}: {found[name]['count']:,}")
        lines += [f"  {line}" for line in [*(text.format(**row) for row in rows), *more]]
    return [*lines, f"read it with: {found['call']}"]
