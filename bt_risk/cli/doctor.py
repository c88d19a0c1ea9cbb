"""The report on a store, in a terminal."""

from rich.console import Console
from rich.table import Table

from bt_risk.doctor.report import FAIL, NOT_TESTED, PASS, StoreReport

__all__ = ["print_report"]

_STYLES = {PASS: "green", FAIL: "bold red", NOT_TESTED: "dim"}


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
