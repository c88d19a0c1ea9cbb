"""``bt-risk doctor``: check a store, and print the report in a terminal."""

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

import bt_risk
from bt_risk.cli.exit_status import REFUSED
from bt_risk.cli.options import Json
from bt_risk.doctor.factory import Factory
from bt_risk.doctor.report import FAIL, NOT_TESTED, PASS, StoreReport
from bt_risk.errors import check_output

__all__ = ["doctor", "print_report"]

_STYLES = {PASS: "green", FAIL: "bold red", NOT_TESTED: "dim"}


def doctor(
    factory: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:FUNCTION",
            help="Function that returns a broker and a data feed: my_store.py:make_broker.",
        ),
    ],
    data: Annotated[
        str | None, typer.Option(help="Name of the data feed to trade; the first one by default.")
    ] = None,
    size: Annotated[
        float | None, typer.Option(help="Units of an order: the smallest that the venue takes.")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Send orders; use a paper account or loopback.")
    ] = False,
    cash: Annotated[
        float | None, typer.Option(help="The cash that the venue shows, to compare with.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="TOML to write, for protect(cerebro, store=...).")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds that an answer may take.")] = 60.0,
    as_json: Json = False,
) -> None:
    """Check what a store does and does not do, and write the settings that it needs.

    Nothing is sent without --yes. The status is 1 where a check fails or something is left.
    """
    if out is not None:
        check_output("doctor", "--out", out)
    with Console(stderr=True).status("connecting") as shown:
        report = bt_risk.check_store(
            Factory(factory),
            data=data,
            size=size,
            yes=yes,
            cash=cash,
            timeout=timeout,
            progress=lambda row: shown.update(f"{row.check}: {row.result}"),
        )
    if out is not None:
        report.to_toml(out)
    if as_json:
        typer.echo(json.dumps(_values(report)))
    else:
        print_report(Console(highlight=False), report)
        if out is not None:
            typer.echo(f"wrote {out}")
    if not report.passed:
        raise typer.Exit(REFUSED)


def _values(report: StoreReport) -> dict[str, Any]:
    """Return a report as plain values."""
    return {
        "passed": report.passed,
        "checks": [{"check": r.check, "result": r.result, "seen": r.seen} for r in report.rows],
        "left": list(report.left),
        "summary": report.summary(),
        "settings": tomllib.loads(report.settings.to_toml()),
    }


def print_report(console: Console, report: StoreReport) -> None:
    """Print each check with its result, what is left at the venue, and the settings to use."""
    table = Table(show_edge=False)
    table.add_column("check", overflow="fold", max_width=24)
    table.add_column("result", no_wrap=True)
    table.add_column("what was seen, and what to set", overflow="fold", ratio=1)
    for row in report.rows:
        style = _STYLES[row.result]
        table.add_row(row.check, f"[{style}]{row.result}[/]", _plain(row.seen))
    console.print(table)
    for sentence in report.left:
        console.print(f"\n[bold red]LEFT AT THE VENUE:[/] {_plain(sentence)}")
    console.print(f"\n{_plain(report.summary())}\n")
    console.print(_plain(report.settings.to_toml()), end="")


def _plain(text: str) -> str:
    """Return a text in which no bracket is markup."""
    return text.replace("[", "\\[")
