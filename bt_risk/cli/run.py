"""``bt-risk run``: a strategy of a file under a policy, with what came of it."""

import json
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import backtrader as bt
import typer
from rich.console import Console
from rich.table import Table

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
from bt_risk.demo.runs import CASH, COMMISSION
from bt_risk.errors import ParameterError, check_choice, check_output
from bt_risk.evidence.metrics import MEASURES, days_of, measures
from bt_risk.evidence.number_format import format_measure
from bt_risk.report.labels import count_decisions
from bt_risk.report.no_trades import NO_TRADES, no_trades
from bt_risk.report.record import RunRecord, record_of
from bt_risk.report.statistics import loss_figures

__all__ = ["run"]

MODES = ("enforce", "observe", "bare")


def run(
    script: ScriptName,
    more: More = None,
    data: Data = None,
    policy: PolicyFile = None,
    settings: Settings = None,
    params: Params = None,
    mode: Annotated[str, typer.Option(help="enforce, observe, or bare.")] = "enforce",
    report: Annotated[Path | None, typer.Option(help="Page (HTML) to write.")] = None,
    journal: Annotated[
        Path | None, typer.Option(help="All decisions to write: CSV, or .db for verify.")
    ] = None,
    cash: Cash = CASH,
    commission: Commission = COMMISSION,
    as_json: Json = False,
) -> None:
    """Run a strategy under a policy; print its figures and what the rules decided."""
    check_choice("run", "--mode", mode, MODES)
    given = {"--policy": policy, "--set": settings, "--journal": journal}
    for option, value in given.items() if mode == "bare" else ():
        if value:
            remedy = "A bare run has no rules."
            raise ParameterError("run", option, "left out with --mode bare", str(value), remedy)
    chosen = policy_of("run", policy, settings)
    for option, path in (("--report", report), ("--journal", journal)):
        if path is not None:
            make_folder(path.parent, "run")
            check_output("run", option, path)
    build = script_of("run", script, (data, more), params, cash, commission)
    cerebro = build()
    if mode != "bare":
        bt_risk.protect(cerebro, chosen, mode, journal=journal)
    cerebro.addanalyzer(bt_risk.ReportData)
    with _reason_printed_once():
        (strategy,) = cerebro.run()
    found = _outcome(strategy, build.title, mode)
    written = [] if journal is None else [journal]
    if report is not None:
        written.append(bt_risk.report.tear_sheet(strategy, report, title=build.title))
    if as_json:
        typer.echo(json.dumps(found | {"wrote": [str(path) for path in written]}))
        return
    _print(Console(highlight=False), found)
    for path in written:
        typer.echo(f"wrote {path}")


@contextmanager
def _reason_printed_once() -> Iterator[None]:
    """Keep the reason of a run without trades out of the log: the command prints it itself."""

    def others(record: logging.LogRecord) -> bool:
        return getattr(record, "topic", "") != NO_TRADES

    log = logging.getLogger("bt_risk")
    log.addFilter(others)
    try:
        yield
    finally:
        log.removeFilter(others)


def _outcome(strategy: bt.Strategy, title: str, mode: str) -> dict[str, Any]:
    """Return what came of a run as plain values; what does not exist is None."""
    record = record_of(strategy)
    days, _, year = days_of(record)
    figures = measures(days, year)
    return {
        "run": title,
        "mode": mode,
        "no_trades": no_trades(record) or None,
        "from": _text(record, 0),
        "to": _text(record, -1),
        "bars": len(record.times),
        "equity": float(record.bars["equity"].iloc[-1]),
        "measures": {name: plain(value) for name, value in figures.items()},
        "decisions": count_decisions(record.decisions),
        "losses": _losses(record),
        "margin": _margin(record),
    }


def _losses(record: RunRecord) -> dict[str, Any] | None:
    """Return the losses in R as plain values, None where no trade with a known R was closed."""
    losses = record.losses
    if not losses.trades:
        return None
    figures = {name: plain(value) for name, value in loss_figures(losses).items()}
    causes = {f"beyond {limit:g} R": dict(by_cause) for limit, by_cause in losses.beyond.items()}
    return {"figures": figures, "causes": causes, "text": losses.sentences()}


def _margin(record: RunRecord) -> dict[str, Any] | None:
    """Return what the margin account did as plain values, None without one."""
    use = record.margin
    if use is None:
        return None
    figures = {name: plain(value) for name, value in use.figures().items()}
    return {"figures": figures, "text": use.sentences()}


def _text(record: RunRecord, place: int) -> str:
    return str(record.times[place].isoformat(sep=" ", timespec="minutes"))


def _print(console: Console, found: dict[str, Any]) -> None:
    """Print the outcome of a run for a reader."""
    console.print(f"{found['run']} ({found['mode']})", markup=False)
    console.print(f"{found['from']} to {found['to']}, {found['bars']:,} bars\n")
    if found["no_trades"]:
        console.print(f"{found['no_trades']}\n", markup=False)
    rows = {"final equity": f"{found['equity']:,.0f}"}
    for name in MEASURES:
        value = found["measures"][name]
        rows[name] = format_measure(name, math.nan if value is None else value)
    _print_rows(console, rows)
    if found["decisions"]:
        word = "would have decided" if found["mode"] == "observe" else "decided"
        console.print(f"\nWhat each rule {word}:\n")
        _print_rows(console, {name: f"{count:,}" for name, count in found["decisions"].items()})
    for part in ("losses", "margin"):
        if found[part]:
            console.print()
            for sentence in found[part]["text"]:
                console.print(sentence, markup=False)
    console.print()


def _print_rows(console: Console, rows: Mapping[str, str]) -> None:
    table = Table(box=None, show_header=False)
    table.add_column("", overflow="fold")
    table.add_column("", justify="right")
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)
