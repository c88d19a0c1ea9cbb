"""Follow the webhooks of a provider under `protect`: `python webhook.py`.

The receiver, `bt-risk signals listen`, is a process of its own. It writes what it accepts to a
file, which the run follows. All of it is on this computer: a stand-in for the provider posts what
an alert of TradingView posts.
"""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

from market import trade

import bt_risk

TOKEN = secrets.token_hex(16)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def listen(path, port):
    """Start the receiver, and return its process once it listens."""
    command = [sys.executable, "-m", "bt_risk", "signals", "listen"]
    process = subprocess.Popen(
        [*command, "--port", str(port), "--out", str(path)],
        env=os.environ | {"BT_RISK_SIGNALS_TOKEN": TOKEN},
    )
    while process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            time.sleep(0.1)
    return process


def alert(port, action, score, minutes_late=0):
    """Return a function that posts one alert, as the provider would."""

    def post():
        made = datetime.now(UTC) - timedelta(minutes=minutes_late)
        values = {"token": TOKEN, "ticker": "BTC", "time": made.isoformat()}
        body = json.dumps(values | {"action": action, "score": score}).encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", body, timeout=10) as answer:
            late = f", {minutes_late} minutes late" if minutes_late else ""
            print(f"the provider posts {action}, score {score}{late}: HTTP {answer.status}")

    return post


def main(wait=0.1):
    with tempfile.TemporaryDirectory() as folder:
        path, port = Path(folder) / "signals.jsonl", free_port()
        receiver = listen(path, port)
        try:
            signals = bt_risk.SignalData(dataname=bt_risk.SignalTail(path), ttl="5min")
            events = {
                24: alert(port, "buy", 80, minutes_late=10),
                34: alert(port, "buy", 80),
                44: alert(port, "sell", -60),
            }
            return trade(signals, (20, 30, 40, 54), (48,), events, wait)
        finally:
            receiver.send_signal(signal.SIGINT)
            receiver.wait()


if __name__ == "__main__":
    main()
