"""``bt-risk challenge``: the odds that a strategy passes the rules of a firm, and a page."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

import bt_risk
from bt_risk.cli.options import (
    Cash,
    Commission,
    Data,
    Json,
    More,
    Params,
    PolicyFile,
    ScriptName,
    Settings,
    policy_of,
    script_of,
)
from bt_risk.cli.output_folder import make_folder
from bt_risk.cli.plain import plain
from bt_risk.cli.tables import print_challenge
from bt_risk.demo.runs import CASH, COMMISSION
from bt_risk.errors import check_output
from bt_risk.evidence.challenge import Challenge

__all__ = ["challenge"]


def challenge(
    script: ScriptName,
    rules: Annotated[Path, typer.Option(help="Rules of the firm (TOML): a table [[guards]] each.")],
    more: More = None,
    data: Data = None,
    policy: PolicyFile = None,
    settings: Settings = None,
    params: Params = None,
    days: Annotated[int, typer.Option(help="Trading days after which a challenge ends.")] = 60,
    blocks: Annotated[
        float | None,
        typer.Option(help="Mean days of a block; when left out, at least a mean trade."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "--report", help="Page to write.")] = Path(
        "bt-risk-challenge.html"
    ),
    cash: Cash = CASH,
    commission: Commission = COMMISSION,
    samples: Annotated[int, typer.Option(help="Resampled histories of the bootstrap.")] = 400,
    as_json: Json = False,
) -> None:
    """Show the odds that a strategy passes the challenge of a firm, bare and protected."""
    chosen = policy_of("challenge", policy, settings)
    make_folder(out.parent, "challenge")
    check_output("challenge", "--out", out)
    build = script_of("challenge", script, (data, more), params, cash, commission)
    result = bt_risk.challenge(build, chosen, rules, days=days, blocks=blocks, samples=samples)
    page = result.write(out, title=build.title)
    if as_json:
        typer.echo(json.dumps(_values(result) | {"page": str(page)}))
        return
    print_challenge(Console(highlight=False), result)
    typer.echo(f"wrote {page}")


def _values(result: Challenge) -> dict[str, Any]:
    """Return the odds as plain values; what does not exist is null."""
    return {
        "sentences": result.sentences(),
        "odds": _rows(result.frame),
        "by_risk": _rows(result.by_risk),
        "begun": _rows(result.begun),
        "multiple": result.multiple,
        "leverage": plain(result.leverage),
        "days": result.days,
        "history": result.history,
        "years": result.years,
        "block": result.block,
        "paths": result.paths,
    }


def _rows(frame: Any) -> dict[str, dict[str, Any]]:
    return {
        str(row): {str(name): plain(value) for name, value in values.items()}
        for row, values in frame.to_dict("index").items()
    }
