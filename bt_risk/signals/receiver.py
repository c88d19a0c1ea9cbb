"""SignalReceiver: take signals that a provider posts, check them, and add them to a file."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import time
from collections import Counter
from pathlib import Path
from typing import Any

from bt_risk.errors import ParameterError, check_positive, check_whole
from bt_risk.signals.files import line_of, read_signals
from bt_risk.signals.record import RefusedSignal, Signal, parse_signal
from bt_risk.signals.sources import IdMemory, now_micros

__all__ = ["SignalReceiver"]

_log = logging.getLogger("bt_risk")

BODY_BYTES = 1 << 14
READ_SECONDS = 5.0
QUEUE = 1000  # signals that wait to be written
RATE = 200.0  # requests a second
SHORTEST = 16  # characters of a token or a secret


class SignalReceiver:
    """Receive webhooks: ``POST /`` with one JSON object, as an alert of TradingView has it.

    A request needs the token (in the object as ``token``, or as ``Authorization: Bearer ...``), or
    the signature of its body (``X-Signature``: HMAC-SHA256 with the secret, in hex). Each signal is
    stamped with the time of its receipt and added to `path`, a file of JSON lines that
    `bt_risk.SignalTail` follows and a backtest replays.

    Answers: 202 accepted; 200 its id was seen before; 401, 413, 422 (a record that cannot be true);
    408, 429 and 503 where it is too slow or too many.

    Parameters
    ----------
    path : str or path
        File to add to.
    token, secret : str, optional
        At least one of them, each of 16 characters or more.
    rate : float, default 200.0
        Requests a second that are looked at; any more get 429.
    """

    def __init__(
        self,
        path: str | Path,
        token: str | None = None,
        secret: str | None = None,
        rate: float = RATE,
    ) -> None:
        if not token and not secret:
            remedy = "Without one anybody could send signals."
            raise ParameterError("SignalReceiver", "token", "given, or a secret", token, remedy)
        for name, value in (("token", token), ("secret", secret)):
            if value and len(value) < SHORTEST:
                constraint = f"of at least {SHORTEST} characters"
                raise ParameterError("SignalReceiver", name, constraint, f"{len(value)} of them")
        self.path = Path(path)
        self._token, self._secret = (token or "").encode(), (secret or "").encode()
        self._rate = check_positive("SignalReceiver", "rate", rate)
        self._allowance, self._asked = self._rate, time.monotonic()
        self._ids = IdMemory()
        self.counts: Counter[str] = Counter()
        self._queue: asyncio.Queue[Signal]

    def app(self) -> Any:
        """Return the application of aiohttp."""
        from aiohttp import web

        app = web.Application(client_max_size=BODY_BYTES)
        app.router.add_post("/", self._post)
        app.cleanup_ctx.append(self._writing)
        return app

    def run(self, port: int, host: str = "127.0.0.1") -> None:
        """Listen until the process is interrupted."""
        try:
            from aiohttp import web
        except ImportError as error:
            remedy = "pip install 'bt_risk[signals]'"
            constraint = "run where aiohttp is installed"
            raise ParameterError("SignalReceiver", "it", constraint, "none", remedy) from error
        check_whole("SignalReceiver", "port", port, low=1, remedy="As 8080.")
        # It writes a traceback for each request that is no HTTP: whoever floods us fills the log,
        # and a pipe that nobody reads would stop this process.
        logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL + 1)
        web.run_app(self.app(), host=host, port=port, print=None, access_log=None)

    async def _writing(self, app: Any) -> Any:
        """Write what was accepted, until the end; remember the ids that the file has."""
        if self.path.exists() and self.path.stat().st_size:
            for signal in read_signals(self.path).signals:
                self._ids.is_new(signal.id)
        self._queue = asyncio.Queue(maxsize=QUEUE)
        task = asyncio.create_task(self._write())
        yield
        await self._queue.join()
        task.cancel()

    async def _write(self) -> None:
        while True:
            found = [await self._queue.get()]
            while not self._queue.empty():
                found.append(self._queue.get_nowait())
            try:
                await asyncio.to_thread(self._append, "".join(map(line_of, found)))
            except OSError:
                self.counts["lost"] += len(found)
                _log.exception("signals: %s cannot be written", self.path)
            for _ in found:
                self._queue.task_done()

    def _append(self, lines: str) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(lines)

    async def _post(self, request: Any) -> Any:
        from aiohttp import web

        status, text = await self._answer(request)
        self.counts[f"{status} {text}"] += 1
        headers = {"Retry-After": "1"} if status in (429, 503) else {}
        return web.json_response({"result": text}, status=status, headers=headers)

    async def _answer(self, request: Any) -> tuple[int, str]:
        """Return the status of one request, and the reason in few words."""
        from aiohttp.web import HTTPRequestEntityTooLarge

        received = now_micros()
        if not self._has_room():
            return 429, "too many requests"
        try:
            body = await asyncio.wait_for(request.read(), READ_SECONDS)
        except HTTPRequestEntityTooLarge:
            return 413, "too large"
        except TimeoutError:
            return 408, "too slow"
        except Exception:  # a broken encoding or length; whatever it is, it is no signal
            return 422, "not readable"
        values = _object(body)
        if not self._is_known(request.headers, body, values):
            return 401, "not authorised"
        if values is None:
            return 422, "not a JSON object"
        values.pop("received", None)  # a time of receipt is ours alone
        try:
            signal = parse_signal(values, received)
        except RefusedSignal as reason:
            return 422, reason.kind
        if self._queue.full():
            return 503, "busy"
        if not self._ids.is_new(signal.id):
            return 200, "id seen before"
        self._queue.put_nowait(signal)
        return 202, "accepted"

    def _has_room(self) -> bool:
        """Return whether one more request is looked at in this second."""
        now = time.monotonic()
        self._allowance += (now - self._asked) * self._rate
        self._allowance, self._asked = min(self._allowance, self._rate), now
        if self._allowance < 1.0:
            return False
        self._allowance -= 1.0
        return True

    def _is_known(self, headers: Any, body: bytes, values: dict[str, Any] | None) -> bool:
        """Return whether the sender has the token or the secret; each is compared in full."""
        signed = headers.get("X-Signature", "").removeprefix("sha256=")
        made = hmac.new(self._secret, body, hashlib.sha256).hexdigest()
        by_secret = bool(self._secret) and _equal(signed, made.encode())
        bearer = headers.get("Authorization", "").removeprefix("Bearer ")
        sent = bearer if values is None else values.pop("token", bearer)
        return by_secret or (bool(self._token) and _equal(sent, self._token))


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def _equal(sent: Any, expected: bytes) -> bool:
    text = sent if isinstance(sent, str) else ""
    return hmac.compare_digest(text.encode("utf-8", "replace"), expected)
