"""The receiver over real HTTP on loopback: what it takes, what it refuses, and hostile requests."""

import asyncio
import hashlib
import hmac
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import pytest

import bt_risk
from bt_risk.errors import ParameterError
from bt_risk.signals.files import read_signals
from bt_risk.signals.receiver import SignalReceiver
from bt_risk.signals.sources import SignalTail

web = pytest.importorskip("aiohttp.web")

TOKEN, SECRET = "a-token-of-some-length", "a-secret-of-some-length"
GOOD = {"ticker": "BTC", "score": 40, "token": TOKEN}


class Listening:
    """A receiver in a thread of its own."""

    def __init__(self, path, **params):
        self.receiver = SignalReceiver(path, TOKEN, SECRET, **params)
        self.loop, self.ready = asyncio.new_event_loop(), threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        assert self.ready.wait(20)

    def _run(self):
        asyncio.set_event_loop(self.loop)
        self.runner = web.AppRunner(self.receiver.app())
        self.loop.run_until_complete(self.runner.setup())
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        self.loop.run_until_complete(site.start())
        self.port = self.runner.addresses[0][1]
        self.ready.set()
        self.loop.run_forever()
        self.loop.run_until_complete(self.runner.cleanup())
        self.loop.close()

    def post(self, values, **headers):
        body = values if isinstance(values, bytes) else json.dumps(values).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, json.load(answer)["result"]
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)["result"]

    def close(self):
        if self.thread.is_alive():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join(20)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "signals.jsonl"


@pytest.fixture
def listening(path):
    made = Listening(path)
    yield made
    made.close()


def test_a_signal_is_stamped_and_written_once(listening, path):
    begin = time.time_ns() // 1000
    first = GOOD | {"id": "7", "time": "2024-01-01T00:00:00Z", "received": "2020-01-01T00:00Z"}
    assert listening.post(first) == (202, "accepted")
    assert listening.post(first) == (200, "id seen before")
    listening.close()
    (found,) = read_signals(path).signals
    assert (found.id, found.symbol, found.score) == ("7", "BTC", 40.0)
    assert begin <= found.received <= time.time_ns() // 1000
    assert TOKEN not in path.read_text()
    again = Listening(path)  # the ids of the file are known after a restart
    assert again.post(first) == (200, "id seen before")
    again.close()


@pytest.mark.parametrize(
    ("values", "answer"),
    [
        (GOOD | {"token": TOKEN + "x"}, (401, "not authorised")),
        (GOOD | {"token": ""}, (401, "not authorised")),
        (GOOD | {"token": None}, (401, "not authorised")),
        (GOOD | {"token": [TOKEN]}, (401, "not authorised")),
        (GOOD | {"token": "é\udc00"}, (401, "not authorised")),
        (b"[]", (401, "not authorised")),
        (GOOD | {"score": 101}, (422, "score is out of range")),
        (GOOD | {"score": None}, (422, "neither score nor direction")),
        (GOOD | {"time": "2190-01-01T00:00Z"}, (422, "published after it was received")),
        (GOOD | {"note": "x" * 20_000}, (413, "too large")),
    ],
)
def test_what_is_refused_has_its_reason(listening, path, values, answer):
    assert listening.post(values) == answer
    assert not path.exists()


def test_a_signature_of_the_body_is_as_good_as_a_token(listening):
    body = json.dumps({"ticker": "BTC", "action": "buy"}).encode()
    made = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    assert listening.post(body, **{"X-Signature": made[:-1] + "0"})[0] in (401, 202)
    assert listening.post(body + b" ", **{"X-Signature": made}) == (401, "not authorised")
    assert listening.post(body, **{"X-Signature": f"sha256={made}"}) == (202, "accepted")
    assert listening.post(b"{}", Authorization=f"Bearer {TOKEN}")[0] == 422


def test_too_many_requests_are_told_to_wait(path):
    made = Listening(path, rate=3.0)
    found = [made.post(GOOD | {"id": str(k)})[0] for k in range(12)]
    made.close()
    assert 429 in found
    assert found.count(202) == len(read_signals(path).signals)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "token must be given, or a secret"),
        ({"token": "short"}, "token must be of at least 16 characters; got '5 of them'"),
        ({"secret": "short"}, "secret must be of at least 16 characters"),
        ({"token": TOKEN, "rate": 0}, "rate must be positive"),
    ],
)
def test_a_parameter_out_of_range_raises(path, params, message):
    with pytest.raises(ParameterError, match=message):
        SignalReceiver(path, **params)


# -- hostile requests ----------------------------------------------------------------------------


def http(body, method=b"POST", target=b"/", length=None, extra=b""):
    length = len(body) if length is None else length
    head = b"%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%sContent-Length: %d\r\n\r\n"
    return head % (method, target, extra, length) + body


def hostile(rng, number):
    """Return the bytes of one request, and the id of the signal where it is a good one."""
    noise = rng.randbytes(rng.randint(0, 400))
    kind = rng.randrange(14)
    odd = dict(GOOD)
    odd[rng.choice(["score", "time", "id", "ticker", "token", "direction"])] = rng.choice(
        [None, True, -1e308, 1e999, "x" * 300, [], {"a": {}}, "\x00", 10**30, "NaN", -100.1]
    )
    if kind == 0:
        good = f"good-{number}"
        return http(json.dumps(GOOD | {"id": good}).encode()), good
    made = [
        noise,
        http(noise),
        http(json.dumps(odd).encode()),
        http(json.dumps(GOOD | {"token": noise.hex()}).encode()),
        http(b"[" * rng.randint(1, 9000)),
        http(b"{" + b'"a":{' * 3000),
        http(b"x" * rng.randint(16_000, 40_000)),
        http(b"{}", method=rng.choice([b"GET", b"PUT", b"BREW"])),
        http(b"{}", target=b"/" + noise.hex().encode()),
        http(b"{}", length=rng.choice([0, 1, 10**12])),
        http(b"{}", extra=b"X-Signature: " + noise.hex().encode() + b"\r\n"),
        http(b"{}", extra=b"A: " + b"b" * rng.randint(1, 20_000) + b"\r\n"),
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n" + noise,
    ]
    return made[kind - 1], None


def send(port, content, wait, seconds=10.0):
    try:
        with socket.create_connection(("127.0.0.1", port), 10) as connection:
            connection.sendall(content)
            if wait:
                connection.settimeout(seconds)
                return connection.recv(64)
    except OSError:
        pass
    return b""


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


MANY = pytest.param(10_000, marks=[pytest.mark.full, pytest.mark.timeout(1200)])


@pytest.mark.parametrize("count", [1000, MANY])
def test_hostile_requests_neither_stop_the_receiver_nor_slow_the_loop_of_a_run(path, count):
    """The receiver is a process of its own, as a user starts it; the run follows its file."""
    port = free_port()
    env = os.environ | {"BT_RISK_SIGNALS_TOKEN": TOKEN}
    command = ["-m", "bt_risk", "signals", "listen", "--port", str(port), "--out", str(path)]
    process = subprocess.Popen(
        [sys.executable, *command], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        end = time.monotonic() + 60
        while not send(port, http(b"{}"), wait=True) and time.monotonic() < end:
            time.sleep(0.1)
        sent, rng = [], random.Random(17)

        def flood():
            for number in range(count):
                content, good = hostile(rng, number)
                waits = bool(good) or number % 2  # of the others half hang up at once
                answer = send(port, content, waits, 10.0 if good else 0.05)
                if good and b" 202 " in answer:
                    sent.append(good)

        tail, found, times = SignalTail(path), [], []
        tail.start()

        def rounds(until):
            spent = []
            while not until():
                begin = time.perf_counter()
                found.extend(tail.take())
                spent.append(time.perf_counter() - begin)
                time.sleep(0.002)
            return spent

        quiet_end = time.monotonic() + 1.0
        quiet = rounds(lambda: time.monotonic() > quiet_end)
        thread = threading.Thread(target=flood)
        thread.start()
        times = rounds(lambda: not thread.is_alive())
        last = time.monotonic() + 20
        arrived = lambda: sent[-1:] == [one.id for one in found if one.id in sent][-1:]  # noqa: E731
        rounds(lambda: arrived() or time.monotonic() > last)
        final = http(json.dumps(GOOD | {"id": "end"}).encode())
        answer = send(port, final, wait=True)
        while b" 429 " in answer and time.monotonic() < last + 20:  # the flood counts for a second
            time.sleep(0.2)
            answer = send(port, final, wait=True)
        assert b" 202 " in answer
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[0].decode()
    assert sent
    assert [one.id for one in found if one.id.startswith("good-")] == sent
    assert all(-100.0 <= one.score <= 100.0 and one.direction in (-1, 0, 1) for one in found)
    assert "202 accepted" in said
    assert "Traceback" not in said
    assert statistics.median(times) < statistics.median(quiet) + 0.002
    assert bt_risk.signals.files.read_signals(path).signals[-1].id == "end"
