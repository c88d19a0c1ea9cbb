"""``bt-risk check``: limits that never bind, contradict each other, or are out of reach."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bt_risk.cli.exit_status import REFUSED
from bt_risk.cli.options import Json, More, Prices, Settings, policy_of
from bt_risk.demo.runs import CASH
from bt_risk.errors import ParameterError
from bt_risk.evidence.policy_findings import NEVER_BINDS, findings_on_prices, policy_findings
from bt_risk.evidence.price_headroom import files_of, headroom_on, name_of

__all__ = ["check"]

# Closes at which a policy is tried on prices, spread over all of them.
CLOSES = 100


def check(
    policy: Annotated[Path, typer.Argument(help="Policy (TOML).")],
    more: More = None,
    prices: Prices = None,
    equity: Annotated[
        float | None, typer.Option(help="Currency of an account that holds nothing: 100,000.")
    ] = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Show limits that never bind, contradict each other, or are below the smallest order."""
    chosen = policy_of("check", policy, settings)
    found = policy_findings(chosen)
    files = [*(prices or ()), *(more or ())]
    if equity is not None and not files:
        remedy = "It counts beside prices: --prices FILE ..."
        raise ParameterError("check", "--equity", "left out without --prices", equity, remedy)
    if files:
        cash = CASH if equity is None else equity
        asked = {
            name_of(file): headroom_on("check", chosen, file, cash, closes=CLOSES)
            for file in files_of("check", files)
        }
        found += findings_on_prices(chosen, asked, cash)
    passed = all(one.kind == NEVER_BINDS for one in found)
    if as_json:
        typer.echo(json.dumps({"passed": passed, "findings": [asdict(one) for one in found]}))
    else:
        for one in found:
            typer.echo(one)
        if not found:
            typer.echo("every limit can bind, and none contradicts another")
    if not passed:
        raise typer.Exit(REFUSED)
