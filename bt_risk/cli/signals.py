"""``bt-risk signals listen``: receive the webhooks of a provider."""

import os
from pathlib import Path
from typing import Annotated

import typer

from bt_risk.signals.receiver import SignalReceiver

__all__ = ["signals"]

signals = typer.Typer(help="Receive signals of a provider.", no_args_is_help=True)
TOKEN, SECRET = "BT_RISK_SIGNALS_TOKEN", "BT_RISK_SIGNALS_SECRET"


@signals.callback()
def _signals() -> None:
    """Receive signals of a provider."""


@signals.command()
def listen(
    out: Annotated[Path, typer.Option(help="File of JSON lines to add to.")] = Path(
        "signals.jsonl"
    ),
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8080,
    host: Annotated[
        str, typer.Option(help="Address to listen on; put a server with TLS before any other.")
    ] = "127.0.0.1",
) -> None:
    """Add the signals that are posted to a file, which a run follows and a backtest replays.

    The variables BT_RISK_SIGNALS_TOKEN and BT_RISK_SIGNALS_SECRET hold what senders must know.
    """
    receiver = SignalReceiver(out, os.environ.get(TOKEN), os.environ.get(SECRET))
    typer.echo(f"listening on http://{host}:{port}/, writing {out}")
    receiver.run(port, host)
    counts = ", ".join(f"{count} x {what}" for what, count in receiver.counts.most_common())
    typer.echo(f"stopped: {counts or 'no request'}")
