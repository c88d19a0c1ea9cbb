"""The ``bt-risk`` command: its verbs in groups, and how it ends."""

import sys
from typing import Annotated

import typer

import bt_risk
from bt_risk.cli.challenge import challenge
from bt_risk.cli.check import check
from bt_risk.cli.check_data import check_data
from bt_risk.cli.compare import compare
from bt_risk.cli.demo import demo
from bt_risk.cli.diff import diff
from bt_risk.cli.doctor import doctor
from bt_risk.cli.exit_status import BAD_INPUT, RAISED
from bt_risk.cli.headroom import headroom
from bt_risk.cli.live import explain, flatten, halt, journal, rearm, reduce, resume, status
from bt_risk.cli.new import new
from bt_risk.cli.paper import paper
from bt_risk.cli.run import run
from bt_risk.cli.screen import screen
from bt_risk.cli.signals import signals
from bt_risk.cli.sweep import sweep
from bt_risk.cli.tiers import tiers
from bt_risk.cli.verify import verify
from bt_risk.cli.walk_forward import walk_forward
from bt_risk.errors import BtRiskError
from bt_risk.evidence.user_traceback import user_traceback

__all__ = ["app", "main"]

app = typer.Typer(
    help="Risk controls for Backtrader.",
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
# What typer raises for a word that it does not take; older versions have it from click.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def main() -> None:
    """Run the command: the console entry point. Bad input is one line and the status 2."""
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except (BtRiskError, OSError) as error:
        reason = str(error)
    except _UsageError as error:
        reason = error.format_message()  # type: ignore[attr-defined]  # a subclass, see above
    except (typer.Abort, KeyboardInterrupt):
        reason = "interrupted"
    except Exception as error:
        own = user_traceback(error)
        if own is None:
            raise
        print(own, file=sys.stderr)
        sys.exit(RAISED)
    if reason:  # else it has printed the help
        print(f"bt-risk: {' '.join(reason.split())}", file=sys.stderr)
    sys.exit(BAD_INPUT)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """Risk controls for Backtrader."""
    if version:
        typer.echo(f"bt-risk {bt_risk.__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help().strip(), nl=False)  # empty where rich has printed it
        raise typer.Exit(BAD_INPUT)


def path() -> None:
    """Print the path of the file with every component, for Backtrader's own btrun.

    btrun --observer $(bt-risk path):ATRTrailingStop --analyzer $(bt-risk path):DrawdownBreaker ...
    """
    typer.echo(bt_risk.__file__)


_GROUPS = {
    "Backtests": (
        new,
        check_data,
        screen,
        run,
        compare,
        challenge,
        sweep,
        walk_forward,
        verify,
        demo,
        path,
    ),
    "Policies": (check, diff, headroom, tiers),
    "Live runs": (paper, doctor, status, journal, explain),
    "Operating a live run": (halt, reduce, flatten, resume, rearm),
}
for _group, _verbs in _GROUPS.items():
    for _verb in _verbs:
        app.command(_verb.__name__.replace("_", "-"), rich_help_panel=_group)(_verb)
app.add_typer(signals, name="signals", rich_help_panel="Live runs")
