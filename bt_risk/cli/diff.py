"""``bt-risk diff``: what one policy allows that another does not."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bt_risk.cli.exit_status import REFUSED
from bt_risk.cli.options import Json
from bt_risk.cli.plain import plain
from bt_risk.evidence.policy_changes import LOOSENED, policy_changes
from bt_risk.policy import Policy

__all__ = ["diff"]


def diff(
    before: Annotated[Path, typer.Argument(help="Policy (TOML) as it was.")],
    after: Annotated[Path, typer.Argument(help="Policy (TOML) as it is to be.")],
    fail: Annotated[
        bool, typer.Option("--fail-on-loosening", help="Status 1 if anything was loosened.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what was loosened, tightened or changed from one policy to another."""
    changes = policy_changes(Policy.from_toml(before), Policy.from_toml(after))
    loosened = [change for change in changes if change.kind == LOOSENED]
    if as_json:
        rows = [{key: plain(value) for key, value in asdict(one).items()} for one in changes]
        typer.echo(json.dumps({"loosened": bool(loosened), "changes": rows}, default=str))
    else:
        for change in sorted(changes, key=lambda change: change.kind != LOOSENED):
            typer.echo(change)
        if not changes:
            typer.echo("no difference")
    if fail and loosened:
        raise typer.Exit(REFUSED)
