"""The ``bt-risk`` command."""

import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import bt_risk
from bt_risk.cli.check_data import check_data
from bt_risk.cli.doctor import print_report
from bt_risk.cli.history import journal_json, print_journal, print_order
from bt_risk.cli.operate import operate
from bt_risk.cli.status import print_status, watch_status
from bt_risk.cli.summary import summary
from bt_risk.cli.tables import (
    print_comparison,
    print_halt_odds,
    print_legend,
    print_portfolio,
)
from bt_risk.cli.times import parse_since
from bt_risk.demo import runs as jobs
from bt_risk.demo.portfolios import COIN, Portfolio, bundled_portfolios, own_portfolios
from bt_risk.demo.runs import CASH, COMMISSION, DemoRun
from bt_risk.doctor.factory import Factory
from bt_risk.errors import (
    BtRiskError,
    ParameterError,
    check_fraction,
    check_output,
    check_positive,
)
from bt_risk.paper.session import PaperSession
from bt_risk.state.history import read_journal, read_order

__all__ = ["main"]

BAD_INPUT = 2
REFUSED = 1  # by the run

app = typer.Typer(
    help="Risk controls for Backtrader.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """Run the command: the console entry point."""
    try:
        app()
    except (BtRiskError, OSError) as error:
        print(f"bt-risk: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(BAD_INPUT)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """Risk controls for Backtrader."""
    if version:
        typer.echo(f"bt-risk {bt_risk.__version__}")
        raise typer.Exit


@app.command()
def path() -> None:
    """Print the path of the file with every component, for Backtrader's own btrun.

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
) -> None:
    """Run real portfolios bare and protected, and show what each rule cost and saved."""
    portfolios = bundled_portfolios() if data is None else own_portfolios(data, step)
    _make_folder(out)
    results = _run(portfolios, out)
    written = list(_write(out, results))  # before the tables, so that `| head` gets the files
    console = Console(highlight=False)
    print_halt_odds(console, results)
    print_legend(console, {run.label for runs in results for run in runs})
    for runs in results:
        print_portfolio(console, runs)
    for file in written:
        typer.echo(f"wrote {file}")


app.command("check-data")(check_data)

State = Annotated[Path, typer.Argument(help="The state file of a run.")]
Reason = Annotated[str, typer.Option(help="Why; it stands in the journal and on refused orders.")]
Who = Annotated[str, typer.Option(help="Who asks, instead of user@host.")]


@app.command()
def status(
    state: State,
    seconds: Annotated[
        float, typer.Argument(min=0.1, help="With --watch: seconds between two pictures.")
    ] = 2.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show it until Ctrl-C.")] = False,
) -> None:
    """Show a state file: whether the gate is halted and why, positions with stops, decisions."""
    if watch:
        watch_status(Console(highlight=False), state, seconds)
        return
    found = summary(state, time.time())
    if as_json:
        typer.echo(json.dumps(found))
    else:
        print_status(Console(highlight=False), found)
    if found["incomplete"]:
        raise typer.Exit(BAD_INPUT)


@app.command()
def halt(state: State, reason: Reason = "", who: Who = "") -> None:
    """Refuse and cancel entries; positions stay, with their stops."""
    _operate(state, "halt", reason, who)


@app.command()
def reduce(state: State, reason: Reason = "", who: Who = "") -> None:
    """Refuse entries; orders that reduce a position pass."""
    _operate(state, "reduce", reason, who)


@app.command()
def flatten(state: State, reason: Reason = "", who: Who = "") -> None:
    """Halt, and close every position at the market."""
    _operate(state, "flatten", reason, who)


@app.command()
def resume(
    state: State,
    reason: Reason = "",
    who: Who = "",
    gone: Annotated[
        bool,
        typer.Option("--stops-are-gone", help="The stops in question are not at the venue."),
    ] = False,
    there: Annotated[
        bool, typer.Option("--stops-are-there", help="The stops in question rest at the venue.")
    ] = False,
) -> None:
    """Take halt, reduce or flatten back; what a breaker has halted stays halted.

    With --stops-are-gone or --stops-are-there, only say what became of the stops of an earlier run
    that the broker does not list.
    """
    if gone and there:
        raise typer.BadParameter("--stops-are-gone and --stops-are-there exclude each other")
    _operate(state, "resume", reason, who, "gone" if gone else "there" if there else "")


@app.command()
def rearm(state: State, reason: Reason = "", who: Who = "") -> None:
    """Allow entries again after any halt, also a breaker's, or after the state was lost.

    The equity of that moment is the new high-water mark of each breaker.
    """
    _operate(state, "rearm", reason, who)


def _operate(state: Path, verb: str, reason: str, who: str, stops: str = "") -> None:
    """Leave a request and print what came of it; the status is 1 where it is not possible."""
    text, possible = operate(state, verb, reason, who, stops)
    typer.echo(text)
    if not possible:
        raise typer.Exit(REFUSED)


@app.command()
def journal(
    state: State,
    since: Annotated[
        str,
        typer.Option(help="Since a time of UTC (2026-11-28T03:00), or for a while (30m, 2d)."),
    ] = "",
    rule: Annotated[str | None, typer.Option(help="Lines of this rule only.")] = None,
    data: Annotated[str | None, typer.Option(help="Lines about this data feed only.")] = None,
    last: Annotated[int | None, typer.Option(min=1, help="At most so many, the newest.")] = None,
    bars: Annotated[bool, typer.Option("--bars", help="The time of the bar in the table.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each line.")] = False,
) -> None:
    """Print the decisions of a run, oldest first, with the times at which they were written."""
    start = parse_since(since, time.time()) if since else 0.0
    lines = read_journal(state, start, rule, data, last)
    if as_json:
        for line in journal_json(lines):
            typer.echo(line)
    else:
        print_journal(Console(highlight=False), lines, bars)


@app.command()
def explain(
    state: State,
    order: Annotated[
        str, typer.Argument(help="Its id at the venue, its client id, or a line of the journal.")
    ],
) -> None:
    """Tell the life of an order: what was requested and allowed, why, fills, moves, its end."""
    print_order(Console(highlight=False), order, read_order(state, order))


@app.command()
def paper(
    speed: Annotated[float, typer.Option(min=0.1, help="Bars a second.")] = 1.0,
    bars: Annotated[int | None, typer.Option(min=1, help="End after so many bars.")] = None,
) -> None:
    """Run an example live, against an exchange on this machine with bundled prices.

    The status is shown until Ctrl-C. State and log stay here: bt-risk-paper.db, bt-risk-paper.log.
    """
    session = PaperSession(Path(), speed, bars)
    for name in ("SIGTERM", "SIGHUP"):  # a terminal that is closed ends it as Ctrl-C does
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.default_int_handler)
    try:
        session.start()
        watch_status(Console(highlight=False), session.state, 1.0, lambda: session.goes_on)
    except KeyboardInterrupt:
        pass
    finally:
        failed = session.failed
        session.stop()
    if failed is not None:
        typer.echo(f"bt-risk: paper: the example has ended by itself, see {session.log}", err=True)
        raise typer.Exit(REFUSED)
    typer.echo(f"The run has ended, and its stops stay. See: bt-risk status {session.state}")


@app.command()
def doctor(
    factory: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:FUNCTION",
            help="Function that returns a broker and a data feed: my_store.py:make_broker.",
        ),
    ],
    data: Annotated[
        str | None, typer.Option(help="Name of the data feed to trade; the first one by default.")
    ] = None,
    size: Annotated[
        float | None, typer.Option(help="Units of an order: the smallest that the venue takes.")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Send orders; use a paper account or loopback.")
    ] = False,
    cash: Annotated[
        float | None, typer.Option(help="The cash that the venue shows, to compare with.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="TOML to write, for protect(cerebro, store=...).")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds that an answer may take.")] = 60.0,
) -> None:
    """Check what a store does and does not do, and write the settings that it needs.

    Nothing is sent without --yes. The status is 1 where a check fails or something is left.
    """
    if out is not None:
        check_output("doctor", "--out", out)
    with Console(stderr=True).status("connecting") as shown:
        report = bt_risk.check_store(
            Factory(factory),
            data=data,
            size=size,
            yes=yes,
            cash=cash,
            timeout=timeout,
            progress=lambda row: shown.update(f"{row.check}: {row.result}"),
        )
    print_report(Console(highlight=False), report)
    if out is not None:
        report.to_toml(out)
        typer.echo(f"wrote {out}")
    if not report.passed:
        raise typer.Exit(REFUSED)


@app.command()
def compare(
    script: Annotated[str, typer.Argument(metavar="SCRIPT:Strategy", help="Strategy in a file.")],
    more: Annotated[list[Path] | None, typer.Argument(metavar="FILE", hidden=True)] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Prices (CSV, gz or Parquet), one file per data feed: --data A B C."),
    ] = None,
    policy: Annotated[
        Path | None, typer.Option(help="Policy (TOML); the default policy when left out.")
    ] = None,
    rules: Annotated[
        str, typer.Option(help="each (alone), leave-one-out, or all (both).")
    ] = "each",
    out: Annotated[Path, typer.Option(help="Page to write.")] = Path("bt-risk-compare.html"),
    cash: Annotated[float, typer.Option(help="Currency at the start.")] = CASH,
    commission: Annotated[float, typer.Option(help="Share of the notional, a side.")] = COMMISSION,
    samples: Annotated[int, typer.Option(help="Resampled histories of the bootstrap.")] = 1000,
) -> None:
    """Run a strategy bare, protected, and with each rule alone or left out; show what differs."""
    from bt_risk.evidence.strategy_file import Script, parse_script

    files = (*(data or ()), *(more or ()))
    if not files:
        raise ParameterError("compare", "--data", "given", "nothing", "Prices: --data FILE ...")
    names = [path.name.split(".")[0] for path in files]
    if len(set(names)) < len(names):
        raise ParameterError("compare", "--data", "files with different names", names)
    check_positive("compare", "--cash", cash)
    check_fraction("compare", "--commission", commission, zero=True, one=False)
    _make_folder(out.parent, "compare")
    check_output("compare", "--out", out)
    build = Script(*parse_script(script), tuple(map(str, files)), cash, commission)
    build()  # so that a mistake in a file raises here once, and not in every process
    result = bt_risk.compare(build, policy, rules, samples=samples)
    page = result.write(out, title=f"{build.name}: {', '.join(names)}")
    print_comparison(Console(highlight=False), result)
    typer.echo(f"wrote {page}")


def _make_folder(out: Path, command: str = "demo") -> None:
    """Make the folder before anything runs: a mistake in its name should not cost a minute."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"{error.strerror}."
        raise ParameterError(
            command, "--out", "a folder that can be made", str(out), reason
        ) from error


def _run(portfolios: list[Portfolio], out: Path) -> list[list[DemoRun]]:
    """Run all portfolios with a progress bar, which only a terminal shows and which is erased."""
    console = Console(stderr=True)
    columns = TextColumn("running"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task("", total=sum(len(p.runs) for p in portfolios))
        return jobs.run(portfolios, jobs.cores(), lambda: progress.advance(task), pages=out)


def _write(out: Path, results: list[list[DemoRun]]) -> Iterator[Path]:
    """Write pictures and journal; yield the files written, the pages first."""
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
