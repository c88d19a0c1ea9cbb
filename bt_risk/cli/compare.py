"""``bt-risk compare``: what each rule does to a strategy, as tables and as a page."""

import json
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
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
from bt_risk.cli.tables import print_comparison
from bt_risk.demo.runs import CASH, COMMISSION
from bt_risk.errors import check_output
from bt_risk.evidence.comparison import Comparison
from bt_risk.evidence.variants import BARE

__all__ = ["compare"]


def compare(
    script: ScriptName,
    more: More = None,
    data: Data = None,
    policy: PolicyFile = None,
    settings: Settings = None,
    params: Params = None,
    rules: Annotated[
        str, typer.Option(help="each (alone), leave-one-out, or all (both).")
    ] = "each",
    out: Annotated[Path, typer.Option("--out", "--report", help="Page to write.")] = Path(
        "bt-risk-compare.html"
    ),
    cash: Cash = CASH,
    commission: Commission = COMMISSION,
    samples: Annotated[int, typer.Option(help="Resampled histories of the bootstrap.")] = 1000,
    attribution: Annotated[
        bool, typer.Option("--attribution", help="Run subsets of the rules: what is each worth?")
    ] = False,
    permutations: Annotated[
        int, typer.Option(help="Sampled orders of the rules, where there are too many subsets.")
    ] = 24,
    costs: Annotated[
        bool, typer.Option("--costs", help="Run at other costs: where is the edge gone?")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run a strategy bare, protected, and with each rule alone or left out; show what differs."""
    chosen = policy_of("compare", policy, settings)
    make_folder(out.parent, "compare")
    check_output("compare", "--out", out)
    build = script_of("compare", script, (data, more), params, cash, commission)
    result = bt_risk.compare(
        build,
        chosen,
        rules,
        samples=samples,
        attribution=attribution,
        permutations=permutations,
        costs=costs,
    )
    page = result.write(out, title=build.title)
    if as_json:
        typer.echo(json.dumps(_values(result) | {"page": str(page)}))
        return
    print_comparison(Console(highlight=False), result)
    typer.echo(f"wrote {page}")


def _values(result: Comparison) -> dict[str, Any]:
    """Return a comparison as plain values; what does not exist is null."""
    variants = list(result.sharpe.index)
    return {
        "halt": str(result.halt),
        "verdicts": {name: result.verdict(name) for name in variants if name != BARE},
        "attribution": _attribution(result),
        "costs": _costs(result),
        "measures": {name: _rows(result.frame.loc[name]) for name in variants},
        "sharpe": _rows(result.sharpe),
        "ledger": _rows(result.shadow.by_rule()),
        "losses": _rows(result.losses),
        "days": result.days,
        "year": result.year,
    }


def _attribution(result: Comparison) -> dict[str, Any] | None:
    """Return what each rule is worth, None where it was not asked for."""
    found = result.attribution
    if found is None:
        return None
    pairs = found.pairs.to_dict("split")
    return {
        "sentences": found.sentences(),
        "rules": _rows(found.frame),
        "pairs": [
            {"rules": list(pair), "interaction": plain(value), "named": bool(named)}
            for pair, (value, named) in zip(pairs["index"], pairs["data"], strict=True)
        ],
        "difference": plain(found.difference),
        "runs": found.runs,
        "permutations": found.permutations,
    }


def _costs(result: Comparison) -> dict[str, Any] | None:
    """Return both runs at other costs, None where it was not asked for."""
    found = result.costs
    if found is None:
        return None
    rows = found.frame.reset_index().to_dict("records")
    return {
        "sentences": found.sentences(),
        "grid": [{name: plain(value) for name, value in row.items()} for row in rows],
        "break_even": _rows(found.break_even),
        "runs": found.runs,
    }


def _rows(frame: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return a frame as dicts by row and column."""
    return {
        str(row): {name: plain(value) for name, value in values.items()}
        for row, values in frame.to_dict("index").items()
    }
