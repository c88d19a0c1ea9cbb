"""The ``bt-risk`` command."""

import sys
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import bt_risk
from bt_risk.cli.status import gate_state, show_status
from bt_risk.cli.tables import (
    show,
    show_comparison,
    show_legend,
    show_odds,
)
from bt_risk.demo import runs as jobs
from bt_risk.demo.portfolios import COIN, bundled_portfolios, own_portfolios
from bt_risk.demo.runs import CASH, COMMISSION
from bt_risk.errors import (
    BtRiskError,
    ParameterError,
    StateError,
    check_fraction,
    check_positive,
)
from bt_risk.orders import ACTIVE
from bt_risk.state.file import is_running, read_state, request

__all__ = ["main"]

BAD_INPUT = 2

app = typer.Typer(
    help="Risk controls for Backtrader.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main():
    """Run the command: the console entry point."""
    try:
        app()
    except (BtRiskError, OSError) as error:
        print(f"bt-risk: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(BAD_INPUT)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
):
    """Risk controls for Backtrader."""
    if version:
        typer.echo(f"bt-risk {bt_risk.__version__}")
        raise typer.Exit


@app.command()
def path():
    """Print the file that holds every component, for Backtrader's own btrun.

    btrun --observer $(bt-risk path):ATRTrailingStop --analyzer $(bt-risk path):DrawdownBreaker ...
    """
    typer.echo(bt_risk.__file__)


@app.command()
def demo(
    data: Annotated[
        Path | None,
        typer.Option(help="Your own prices (CSV, gz or Parquet): mean reversion on these instead."),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for the pages, the pictures and the journal.")
    ] = Path("bt-risk-demo"),
    step: Annotated[
        float, typer.Option(help="Smallest tradable unit of --data: 1 for shares.")
    ] = COIN["step"],
):
    """Run real portfolios bare and protected, and show what each rule cost and saved."""
    portfolios = bundled_portfolios() if data is None else own_portfolios(data, step)
    _make_folder(out)
    results = _run(portfolios, out)
    written = list(_write(out, results))  # before the tables: `| head` must not lose it
    console = Console(highlight=False)
    show_odds(console, results)
    show_legend(console, {run.label for runs in results for run in runs})
    for runs in results:
        show(console, runs)
    for file in written:
        typer.echo(f"wrote {file}")


@app.command()
def status(state: Annotated[Path, typer.Argument(help="The state file of a run.")]):
    """Show what a state file holds: halted or not and why, positions with stops, decisions."""
    kept = read_state(state)
    show_status(Console(highlight=False), state, kept, is_running(state))


@app.command()
def rearm(state: Annotated[Path, typer.Argument(help="The state file of a run.")]):
    """Let entries pass again: after a halt, or after a state that was lost.

    A run that has the file open acts on it at once, else the next one. Each breaker begins with
    the equity of that moment as its new high-water mark.
    """
    kept = read_state(state)
    final = [b for b in kept.of("breaker").values() if b["state"]["final"]]
    if final:
        raise StateError(
            f"state: {final[0]['reason']}. The lifetime limit cannot be re-armed: "
            "begin with another state file if you mean it."
        )
    now, reason = gate_state(kept)
    if now == ACTIVE:
        typer.echo(f"{state}: nothing is halted")
        return
    request(state, "rearm")
    when = "within its next bar" if is_running(state) else "when the next run starts"
    typer.echo(f"{state}: {now} ({reason}) ends {when}")


@app.command()
def compare(
    script: Annotated[str, typer.Argument(metavar="SCRIPT:Strategy", help="Strategy in a file.")],
    more: Annotated[list[Path] | None, typer.Argument(metavar="FILE", hidden=True)] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Prices (CSV, gz or Parquet), a file for each data: --data A B C."),
    ] = None,
    policy: Annotated[Path | None, typer.Option(help="Policy (TOML); the default one.")] = None,
    rules: Annotated[
        str, typer.Option(help="each (alone), leave-one-out, or all of both.")
    ] = "each",
    out: Annotated[Path, typer.Option(help="Page to write.")] = Path("bt-risk-compare.html"),
    cash: Annotated[float, typer.Option(help="Currency at the start.")] = CASH,
    commission: Annotated[float, typer.Option(help="Share of the notional, a side.")] = COMMISSION,
    samples: Annotated[int, typer.Option(help="Resampled histories of the bootstrap.")] = 1000,
):
    """Run a strategy bare, protected, and with each rule alone or left out; say what differs."""
    from bt_risk.evidence.strategy_file import Script, parse_script

    files = (*(data or ()), *(more or ()))
    if not files:
        raise ParameterError("compare", "--data", "given", "nothing", "Prices: --data FILE ...")
    names = [path.name.split(".")[0] for path in files]
    if len(set(names)) < len(names):
        raise ParameterError("compare", "--data", "each a file of another name", names)
    check_positive("compare", "--cash", cash)
    check_fraction("compare", "--commission", commission, zero=True, one=False)
    build = Script(*parse_script(script), tuple(map(str, files)), cash, commission)
    build()  # a mistake in a file is said here, once, and not by every process
    _make_folder(out.parent, "compare")
    result = bt_risk.compare(build, policy, rules, samples=samples)
    page = result.write(out, title=f"{build.name}: {', '.join(names)}")
    show_comparison(Console(highlight=False), result)
    typer.echo(f"wrote {page}")


def _make_folder(out, command="demo"):
    """Make the folder before anything runs: a mistake in its name should not cost a minute."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"{error.strerror}."
        raise ParameterError(
            command, "--out", "a folder that can be made", str(out), reason
        ) from error


def _run(portfolios, out):
    """Run everything with a progress bar, which goes to a terminal only and leaves no trace."""
    console = Console(stderr=True)
    columns = TextColumn("running"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task("", total=sum(len(p.runs) for p in portfolios))
        return jobs.run(portfolios, jobs.cores(), lambda: progress.advance(task), pages=out)


def _write(out, results):
    """Write pictures and journal; yield what was written, the pages first."""
    from bt_risk.demo.charts import draw_equity, draw_stops

    yield from (run.page for runs in results for run in runs if run.page)
    for runs in results:
        file = out / f"{runs[0].portfolio.name}-equity.png"
        draw_equity(file, runs)
        yield file
    paused = next(run for run in results[0] if run.label == "pause")
    file = out / f"{paused.portfolio.name}-stops.png"
    draw_stops(file, paused)
    yield file
    _journal(results).to_csv(out / "journal.csv", index=False)
    yield out / "journal.csv"


def _journal(results):
    """Return every decision of every run, oldest first within a run."""
    parts = [
        run.decisions.assign(portfolio=run.portfolio.name, run=run.label)
        for runs in results
        for run in runs
        if len(run.decisions)
    ]
    frame = pd.concat(parts)
    return frame[["portfolio", "run", *frame.columns[:-2]]]
