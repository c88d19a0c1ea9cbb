"""``bt-risk verify``: whether a journal is what was written, and what the policy decides."""

import json
from pathlib import Path
from typing import Annotated

import typer

from bt_risk.cli.exit_status import REFUSED
from bt_risk.cli.options import Data, Json, More
from bt_risk.errors import ParameterError
from bt_risk.evidence.verification import verify as verify_journal

__all__ = ["verify"]


def verify(
    journal: Annotated[Path, typer.Argument(help="State file, or journal.db of a backtest.")],
    more: More = None,
    data: Data = None,
    policy: Annotated[
        Path | None, typer.Option(help="Policy (TOML); that of the journal when left out.")
    ] = None,
    noted: Annotated[str, typer.Option(help="A hash that was noted before.")] = "",
    as_json: Json = False,
) -> None:
    """Check that a journal is as it was written; with prices, decide it again."""
    files = [path for given in (data, more) for path in given or ()]
    if policy is not None and not files:
        raise ParameterError("verify", "--data", "given with --policy", "nothing")
    found = verify_journal(journal, policy=policy, data=files or None, noted=noted)
    typer.echo(json.dumps(found.values()) if as_json else str(found))
    if not found.equal:
        raise typer.Exit(REFUSED)
