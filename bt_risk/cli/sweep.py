"""``bt-risk sweep``: a strategy and its policy with many parameters, as tables and as a page."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

import bt_risk
from bt_risk.cli.exit_status import BAD_INPUT
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
from bt_risk.cli.scheduler import Scheduler, client_of
from bt_risk.cli.space import SpaceText, space_of
from bt_risk.cli.tables import print_sweep
from bt_risk.demo.runs import CASH, COMMISSION
from bt_risk.errors import check_output
from bt_risk.evidence.sweep import Sweep
from bt_risk.evidence.sweep_space import label

__all__ = ["sweep"]


def sweep(
    script: ScriptName,
    space: SpaceText,
    more: More = None,
    data: Data = None,
    objective: Annotated[
        str, typer.Option(help="What is best: sharpe, cagr, calmar, max_drawdown ...")
    ] = "sharpe",
    policy: PolicyFile = None,
    settings: Settings = None,
    params: Params = None,
    sampler: Annotated[str, typer.Option(help="grid, random or optuna.")] = "grid",
    points: Annotated[int | None, typer.Option(help="Points to draw; none with a grid.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of what is drawn.")] = 0,
    jobs: Annotated[int, typer.Option(help="Processes; -1 is one for each core.")] = -1,
    scheduler: Scheduler = None,
    store: Annotated[
        Path, typer.Option(help="Results, as they come: a SQLite file or a .parquet folder.")
    ] = Path("sweep.db"),
    trials: Annotated[int, typer.Option(help="Settings that you tried before.")] = 0,
    out: Annotated[Path, typer.Option("--out", "--report", help="Page to write.")] = Path(
        "bt-risk-sweep.html"
    ),
    cash: Cash = CASH,
    commission: Commission = COMMISSION,
    as_json: Json = False,
) -> None:
    """Run a protected strategy with many parameters, and say whether the best is luck."""
    chosen, values = policy_of("sweep", policy, settings), space_of("sweep", space)
    make_folder(out.parent, "sweep")
    check_output("sweep", "--out", out)
    build = script_of("sweep", script, (data, more), params, cash, commission)
    with client_of("sweep", scheduler) as client:
        result = bt_risk.sweep(
            build,
            values,
            objective,
            policy=chosen,
            sampler=sampler,
            points=points,
            seed=seed,
            n_jobs=jobs,
            client=client,
            store=store,
            trials=trials,
        )
    page = result.write(out, title=build.title)
    if as_json:
        typer.echo(json.dumps(_values(result) | {"page": str(page)}))
    else:
        print_sweep(Console(highlight=False), result)
        typer.echo(f"wrote {page}")
    if not result.complete:
        raise typer.Exit(BAD_INPUT)


def _values(result: Sweep) -> dict[str, Any]:
    """Return a sweep as plain values; what does not exist is null."""
    return {
        "sentences": result.sentences(),
        "best": None
        if result.best is None
        else {name: plain(label(value)) for name, value in result.best.items()},
        "deflated": plain(result.deflated),
        "tries": result.tries,
        "asked": result.asked,
        "complete": result.complete,
        "store": str(result.store),
        "points": [
            {str(name): plain(value) for name, value in row.items()}
            for row in result.frame.to_dict("records")
        ],
    }
