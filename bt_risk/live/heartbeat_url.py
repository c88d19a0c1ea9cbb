"""HeartbeatUrl: request a URL regularly while a run goes on; its service alerts when that stops."""

from __future__ import annotations

import logging
import math
import urllib.request
from collections.abc import Callable

__all__ = ["HeartbeatUrl"]

_log = logging.getLogger("bt_risk")

_TIMEOUT_SECONDS = 10.0


class HeartbeatUrl:
    """Request one URL, no more often than every `every` seconds of a clock.

    A failure is logged once, and again only after a request that worked.
    """

    def __init__(self, url: str, every: float, clock: Callable[[], float]) -> None:
        self.url, self.every, self.clock = url, every, clock
        self._last, self._pending, self._failed = -math.inf, False, False

    def due(self) -> bool:
        """Return whether to send now; the caller sends then."""
        now = self.clock()
        if self._pending or now - self._last < self.every:
            return False
        self._last, self._pending = now, True
        return True

    def send(self) -> None:
        """Request the URL, and wait for the answer for some seconds."""
        try:
            with urllib.request.urlopen(self.url, timeout=_TIMEOUT_SECONDS):
                self._failed = False
        except Exception as error:  # the run goes on whatever the service answers
            if not self._failed:
                _log.error("heartbeat: the URL does not answer: %s", error)
            self._failed = True
        self._pending = False
