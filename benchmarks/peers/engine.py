"""Engine: a process that runs the job of one engine when it is asked."""

import json
import os
import subprocess
import threading
from pathlib import Path

__all__ = ["Engine", "EngineError"]

WORKER = Path(__file__).with_name("worker.py")
PATIENCE = 300.0


class EngineError(Exception):
    """The engine has no answer; the message says why."""


class Engine:
    """One engine in its own process, which stays for all rounds."""

    def __init__(self, python, job, name, folder):
        threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [python, WORKER, job, name, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | threads,
        )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._process.kill()
        self._process.communicate()

    def run(self):
        """Return what one run has taken and found; it may take some minutes."""
        clock = threading.Timer(PATIENCE, self._process.kill)
        clock.start()
        try:
            print("run", file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        finally:
            clock.cancel()
        if not answer:
            raise EngineError(f"its process ended without an answer ({self._process.wait()})")
        found = json.loads(answer)
        if "error" in found:
            raise EngineError(found["error"])
        return found
