"""``bt-risk walk-forward``: parameters chosen on the past, and what they made afterwards."""

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
from bt_risk.cli.scheduler import Scheduler, client_of
from bt_risk.cli.space import SpaceText, space_of
from bt_risk.cli.tables import print_walk
from bt_risk.demo.runs import CASH, COMMISSION
from bt_risk.errors import check_output
from bt_risk.evidence.walk_forward import WalkForward

__all__ = ["walk_forward"]

COMMAND = "walk_forward"


def walk_forward(
    script: ScriptName,
    space: SpaceText,
    train: Annotated[int, typer.Option(help="Bars that parameters are chosen on.")],
    test: Annotated[int, typer.Option(help="Bars that they are then used on.")],
    more: More = None,
    data: Data = None,
    objective: Annotated[
        str, typer.Option(help="What is best: sharpe, cagr, calmar, max_drawdown ...")
    ] = "sharpe",
    purge: Annotated[int, typer.Option(help="Bars between training and test.")] = 1,
    anchored: Annotated[
        bool, typer.Option("--anchored", help="Each training begins with the first bar.")
    ] = False,
    warmup: Annotated[
        int | None, typer.Option(help="Bars that warm up indicators; all when left out.")
    ] = None,
    policy: PolicyFile = None,
    settings: Settings = None,
    params: Params = None,
    sampler: Annotated[str, typer.Option(help="grid, random or optuna.")] = "grid",
    points: Annotated[int | None, typer.Option(help="Points to draw; none with a grid.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of what is drawn.")] = 0,
    jobs: Annotated[int, typer.Option(help="Processes; -1 is one for each core.")] = -1,
    scheduler: Scheduler = None,
    store: Annotated[
        Path | None,
        typer.Option(help="Folder for results, as they come; SQLite, or Parquet in a .parquet."),
    ] = None,
    trials: Annotated[int, typer.Option(help="Settings that you tried before.")] = 0,
    out: Annotated[Path, typer.Option("--out", "--report", help="Page to write.")] = Path(
        "bt-risk-walk-forward.html"
    ),
    sheet: Annotated[
        Path | None, typer.Option("--sheet", help="Tear sheet of the account to write.")
    ] = None,
    cash: Cash = CASH,
    commission: Commission = COMMISSION,
    as_json: Json = False,
) -> None:
    """Choose parameters on the past, and show what they made on the time after it."""
    chosen, values = policy_of(COMMAND, policy, settings), space_of(COMMAND, space)
    for option, path in (("--out", out), ("--sheet", sheet)):
        if path is not None:
            make_folder(path.parent, COMMAND)
            check_output(COMMAND, option, path)
    build = script_of(COMMAND, script, (data, more), params, cash, commission)
    with client_of(COMMAND, scheduler) as client:
        result = bt_risk.walk_forward(
            build,
            values,
            train,
            test,
            objective,
            purge=purge,
            anchored=anchored,
            warmup=warmup,
            policy=chosen,
            sampler=sampler,
            points=points,
            seed=seed,
            n_jobs=jobs,
            client=client,
            store=store,
            trials=trials,
        )
    written = {"page": str(result.write(out, title=build.title))}
    if sheet is not None:
        title = f"{build.title}, out of sample"
        written["sheet"] = str(bt_risk.report.tear_sheet(result.record, sheet, title=title))
    if as_json:
        typer.echo(json.dumps(_values(result) | written))
        return
    print_walk(Console(highlight=False), result)
    for name in written.values():
        typer.echo(f"wrote {name}")


def _values(result: WalkForward) -> dict[str, Any]:
    """Return a walk-forward as plain values; what does not exist is null."""
    return {
        "sentences": result.sentences(),
        "figures": {name: plain(value) for name, value in result.figures.items()},
        "probabilistic": plain(result.probabilistic),
        "deflated": plain(result.deflated),
        "tries": result.tries,
        "folds": [
            {str(name): plain(value) for name, value in row.items()}
            for row in result.frame.to_dict("records")
        ],
    }
