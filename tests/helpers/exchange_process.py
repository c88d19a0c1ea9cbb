"""Serve an exchange in a process of its own, which is forked from one that has imported it."""

import asyncio
import multiprocessing
import socket
import sys

from bt_risk.paper.exchange import given_bars

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["bt_risk.paper.exchange"])


def start(path, kind):
    """Start an exchange of class `kind` with the bars of a file.

    Return the process, and a file that gives the port and ends the process when it is closed.
    """
    ours, theirs = socket.socketpair()
    process = _PROCESSES.Process(target=_serve, args=(str(path), kind, theirs), daemon=True)
    with theirs:
        process.start()
    with ours:
        return process, ours.makefile("r", encoding="utf-8")


def _serve(path, kind, line):
    sys.stdin, sys.stdout = line.makefile("r"), line.makefile("w")
    asyncio.run(given_bars(path, kind))
