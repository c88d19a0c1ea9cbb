"""``bt-risk demo``: real portfolios, bare and protected."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bt_risk.cli.options import Json
from bt_risk.cli.output_folder import make_folder
from bt_risk.cli.plain import plain
from bt_risk.cli.tables import (
    print_halt_odds,
    print_legend,
    print_leverage,
    print_portfolio,
)
from bt_risk.demo import runs as jobs
from bt_risk.demo.portfolios import (
    COIN,
    Portfolio,
    bundled_portfolios,
    leveraged,
    own_portfolios,
)
from bt_risk.demo.runs import DemoRun
from bt_risk.demo.summary import leverage_summary, summary
from bt_risk.errors import ParameterError
from bt_risk.evidence.attribution import Attribution

__all__ = ["demo"]


def demo(
    data: Annotated[
        Path | None,
        typer.Option(help="Your own prices (CSV, gz or Parquet): mean reversion on these instead."),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for the pages, the pictures and the journal.")
    ] = Path("bt-risk-demo"),
    step: Annotated[
        float | None,
        typer.Option(
            help=f"Smallest tradable unit of --data, {COIN['step']:g} if left out: 1 for shares."
        ),
    ] = None,
    attribution: Annotated[
        bool,
        typer.Option(
            "--attribution",
            help="Say what each rule of the run with a pause is worth: hundreds of runs, minutes.",
        ),
    ] = False,
    leverage: Annotated[
        float | None,
        typer.Option(help="Run the first portfolio with this leverage instead: 20 is 20x."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Run real portfolios bare and protected, and show what each rule decided."""
    if data is None and step is not None:
        remedy = "It is the unit of prices of your own; the bundled ones have theirs."
        raise ParameterError("demo", "--step", "given with --data", step, remedy)
    own = {} if step is None else {"step": step}
    portfolios = bundled_portfolios() if data is None else own_portfolios(data, **own)
    if leverage is not None:
        if attribution:
            remedy = "Its runs differ in the account, not in the rules."
            raise ParameterError("demo", "--attribution", "left out with --leverage", True, remedy)
        portfolios = [leveraged(portfolios[0], leverage)]
    make_folder(out)
    results = _run(portfolios, out)
    written = list(_write(out, results))  # before the tables, so that `| head` gets the files
    worth = _worth(portfolios) if attribution else {}
    if as_json:
        found = _values(results) | {"wrote": [str(path) for path in written]}
        found |= {"attribution": {name: one.sentences() for name, one in worth.items()}}
        typer.echo(json.dumps(found))
        return
    console = Console(highlight=False)
    if leverage is not None:
        print_leverage(console, results[0])
    else:
        _print(console, results, worth)
    for file in written:
        typer.echo(f"wrote {file}")


def _print(
    console: Console, results: list[list[DemoRun]], worth: Mapping[str, Attribution]
) -> None:
    """Print the odds of a halt, and the tables of every portfolio."""
    print_halt_odds(console, results)
    print_legend(console, {run.label for runs in results for run in runs})
    for runs in results:
        print_portfolio(console, runs, worth.get(runs[0].portfolio.name))


def _values(results: list[list[DemoRun]]) -> dict[str, Any]:
    """Return the figures of every run by portfolio and label; what does not exist is null."""
    found: dict[str, Any] = {}
    for runs in results:
        figures_of = leverage_summary if runs[0].portfolio.leverage else summary
        by_label = {run.label: figures_of(run) for run in runs}
        found[runs[0].portfolio.name] = {
            label: {name: plain(value) for name, value in figures.items()}
            for label, figures in by_label.items()
        }
    return {"portfolios": found}


def _run(portfolios: list[Portfolio], out: Path) -> list[list[DemoRun]]:
    """Run all portfolios with a progress bar, which only a terminal shows and which is erased."""
    console = Console(stderr=True)
    if not console.is_terminal:
        return jobs.run(portfolios, jobs.cores(), lambda: None, pages=out)
    columns = TextColumn("running"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=sum(len(p.runs) for p in portfolios))
        return jobs.run(portfolios, jobs.cores(), lambda: progress.advance(task), pages=out)


def _worth(portfolios: Sequence[Portfolio]) -> dict[str, Attribution]:
    """Return what each rule is worth by portfolio; a terminal shows which one is at work."""
    from bt_risk.demo.worth import attributed

    console, found = Console(stderr=True), {}
    for portfolio in portfolios:
        if console.is_terminal:
            console.print(f"running all subsets of the rules: {portfolio.title}")
        found[portfolio.name] = attributed(portfolio, workers=jobs.cores())
    return found


def _write(out: Path, results: list[list[DemoRun]]) -> Iterator[Path]:
    """Write pictures and journal; yield the files written, the pages first."""
    from bt_risk.demo.charts import draw_equity, draw_stops

    yield from (run.page for runs in results for run in runs if run.page)
    for runs in results:
        file = out / f"{runs[0].portfolio.name}-equity.png"
        draw_equity(file, runs)
        yield file
    for paused in [run for run in results[0] if run.label == "pause"]:
        file = out / f"{paused.portfolio.name}-stops.png"
        draw_stops(file, paused)
        yield file
    _journal(results).to_csv(out / "journal.csv", index=False)
    yield out / "journal.csv"


def _journal(results: list[list[DemoRun]]) -> pd.DataFrame:
    """Return every decision of every run, oldest first within a run."""
    parts = [
        run.decisions.assign(portfolio=run.portfolio.name, run=run.label)
        for runs in results
        for run in runs
        if len(run.decisions)
    ]
    frame = pd.concat(parts)
    return frame[["portfolio", "run", *frame.columns[:-2]]]
