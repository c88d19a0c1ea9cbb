"""Notify people of events, without waiting for the service that delivers the message."""

from __future__ import annotations

import json
import logging
import queue
import threading
import urllib.request
from collections.abc import Callable, Iterable
from typing import Any

from bt_risk.errors import check_positive
from bt_risk.live.heartbeat_url import HeartbeatUrl

__all__ = ["Alerts", "webhook"]

_log = logging.getLogger("bt_risk")

# The most sentences that wait for a listener; any further one is dropped and logged.
_ROOM = 1000
_LAST_WORDS_SECONDS = 2.0


class Alerts:
    """Call the listeners of one run from a thread of their own, and request its heartbeat URL.

    The thread begins with the first sentence and ends with `close`. A listener that raises is
    logged; one that hangs holds back the other listeners and nothing else.
    """

    # Made with the thread: a queue has a lock, and a gate that has one cannot be pickled for the
    # processes of an optimisation.
    _sentences: queue.Queue[str | HeartbeatUrl | None]

    def __init__(
        self, listeners: Iterable[Callable[[str], Any]], heartbeat: HeartbeatUrl | None = None
    ) -> None:
        self._listeners, self._heartbeat = tuple(listeners), heartbeat
        self._thread: threading.Thread | None = None

    def notify(self, sentence: str) -> None:
        """Pass a sentence on; return at once."""
        if self._listeners:
            self._put(sentence)

    def beat(self) -> None:
        """Let the heartbeat URL be requested where that is due; return at once."""
        if self._heartbeat is not None and self._heartbeat.due():
            self._put(self._heartbeat)

    def _put(self, what: str | HeartbeatUrl) -> None:
        if self._thread is None:
            self._sentences = queue.Queue(maxsize=_ROOM)
            self._thread = threading.Thread(target=self._run, name="bt_risk alerts", daemon=True)
            self._thread.start()
        try:
            self._sentences.put_nowait(what)
        except queue.Full:
            _log.error("notify: no listener keeps up, dropped: %s", what)

    def close(self) -> None:
        """Wait a moment for the last sentences, and end the thread."""
        if self._thread is None:
            return
        try:
            self._sentences.put(None, timeout=_LAST_WORDS_SECONDS)
        except queue.Full:
            return  # a daemon thread that hangs does not hold up the process
        self._thread.join(_LAST_WORDS_SECONDS)
        self._thread = None

    def _run(self) -> None:
        while (sentence := self._sentences.get()) is not None:
            if isinstance(sentence, HeartbeatUrl):
                sentence.send()
                continue
            for listener in self._listeners:
                try:
                    listener(sentence)
                except Exception:
                    _log.exception("notify: %r failed on: %s", listener, sentence)


def webhook(url: str, *, timeout: float = 5.0, key: str = "text") -> Callable[[str], None]:
    """Return a listener that posts each sentence to a URL as JSON.

    Parameters
    ----------
    url : str
        Where to post, ``http`` or ``https``.
    timeout : float, default 5.0
        Seconds.
    key : str, default "text"
        Name of the sentence in the JSON object, as Slack has it; Discord needs ``"content"``.

    Examples
    --------
    >>> bt_risk.protect(cerebro, notify=bt_risk.webhook("https://...."))  # doctest: +SKIP
    """
    check_positive("webhook", "timeout", timeout)

    def post(sentence: str) -> None:
        body = json.dumps({key: sentence}).encode()
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=timeout):
            pass

    return post
