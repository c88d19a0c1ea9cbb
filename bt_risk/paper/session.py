"""Run the example of a live strategy against an exchange on loopback, and show its status."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from importlib.resources import files
from pathlib import Path
from typing import IO

from bt_risk.errors import BtRiskError
from bt_risk.state.file import is_running

__all__ = ["STATE", "PaperSession"]

STATE = "bt-risk-paper.db"
_LOG = "bt-risk-paper.log"
_PATIENCE = 20.0  # seconds for the example to cancel its entries and end


class PaperSession:
    """Hold both processes of a paper run: the exchange and the example.

    Parameters
    ----------
    folder : Path
        Where the state file and the log go; those of an earlier paper run are replaced.
    speed : float
        Bars a second.
    bars : int or None
        Number of bars after which it ends; None: all that there are.
    """

    def __init__(self, folder: Path, speed: float, bars: int | None) -> None:
        for package in ("ccxt", "aiohttp"):
            if importlib.util.find_spec(package) is None:
                raise BtRiskError(f"paper: {package} is missing. pip install 'bt_risk[live]'")
        self.folder, self.speed, self.bars = folder, speed, bars
        self.state, self.log = folder / STATE, folder / _LOG
        self._exchange: subprocess.Popen[str] | None = None
        self._example: subprocess.Popen[str] | None = None
        self._ended = threading.Event()

    def start(self) -> None:
        """Start the exchange, and the example behind it."""
        self._forget_earlier()
        with self.log.open("w", encoding="utf-8") as log:
            asked = ["--speed", str(self.speed), "--port", "0"]
            asked += [] if self.bars is None else ["--count", str(self.bars)]
            command = [sys.executable, "-m", "bt_risk.paper.exchange", *asked]
            self._exchange = _run(command, subprocess.PIPE, log)
            assert self._exchange.stdout is not None
            port = self._exchange.stdout.readline().strip()
            if not port:
                self.stop()
                raise BtRiskError(f"paper: the exchange did not start, see {self.log}")
            threading.Thread(target=self._wait, args=(self._exchange.stdout,), daemon=True).start()
            script = str(example_folder() / "run.py")
            address = f"http://127.0.0.1:{port}"
            self._example = _run([sys.executable, script, address, str(self.state)], log, log)
        while self.goes_on and not self.state.exists():
            time.sleep(0.1)

    def _forget_earlier(self) -> None:
        """Remove the state of an earlier paper run: its exchange has gone."""
        if is_running(self.state):
            raise BtRiskError(f"paper: another run uses {self.state}")
        for path in self.folder.glob(f"{STATE}*"):
            path.unlink()

    def _wait(self, lines: IO[str]) -> None:
        lines.readline()  # printed when the prices have ended
        self._ended.set()

    @property
    def goes_on(self) -> bool:
        """Whether there are more prices, and a process that trades on them."""
        return not self._ended.is_set() and self.failed is None

    @property
    def failed(self) -> int | None:
        """The exit status of an example that has ended by itself, None while it runs."""
        return None if self._example is None else self._example.poll()

    def stop(self) -> None:
        """End the example as Ctrl-C does: its stops stay. Then end the exchange."""
        if self._example is not None and self._example.poll() is None:
            self._example.send_signal(signal.SIGINT)
            try:
                self._example.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                self._example.kill()
                self._example.wait()
        if self._exchange is not None:
            self._exchange.kill()
            self._exchange.wait()


def _run(command: list[str], stdout: int | IO[str], stderr: IO[str]) -> subprocess.Popen[str]:
    """Start a process that the Ctrl-C of this one does not reach."""
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )


def example_folder() -> Path:
    """Return the folder of the example: in the package, or in a checkout not installed."""
    installed = Path(str(files("bt_risk.paper"))) / "example"
    return installed if installed.exists() else installed.parents[2] / "examples" / "live_ccxt"
