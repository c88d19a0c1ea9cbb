"""``bt-risk paper``: an example that runs live, against an exchange on this machine."""

import signal
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bt_risk.cli.exit_status import REFUSED
from bt_risk.cli.status import watch_status
from bt_risk.paper.session import PaperSession

__all__ = ["paper"]


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
