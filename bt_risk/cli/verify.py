"""``bt-risk verify``: whether a journal is what was written."""

import json
from pathlib import Path
from typing import Annotated

import typer

from bt_risk.cli.exit_status import REFUSED
from bt_risk.cli.options import Json
from bt_risk.evidence.verification import verify as verify_journal

__all__ = ["verify"]


def verify(
    journal: Annotated[Path, typer.Argument(help="State file, or journal.db of a backtest.")],
    noted: Annotated[str, typer.Option(help="A hash that was noted before.")] = "",
    as_json: Json = False,
) -> None:
    """Check that no line of a journal was edited, removed, added or moved."""
    found = verify_journal(journal, noted=noted)
    typer.echo(json.dumps(found.values()) if as_json else str(found))
    if not found.equal:
        raise typer.Exit(REFUSED)
