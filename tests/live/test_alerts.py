"""Alerts by URL, and the URL of a dead man's switch, against a server on loopback."""

import contextlib
import http.server
import json
import logging
import pickle
import sys
import threading
import time
from importlib.util import find_spec

import pytest
from helpers.fake_broker import FakeBroker
from helpers.frames import PandasData
from helpers.hostile_brokers import Clock, run
from helpers.scenarios import flat

import bt_risk
from bt_risk.live.alerts import Alerts
from bt_risk.live.heartbeat_url import HeartbeatUrl

CALM = flat(40)
CRASH = [*flat(25), (80, 81, 79, 80), *flat(4, 80.0)]
BUY = {20: lambda s: s.buy(size=900)}


class Server(http.server.ThreadingHTTPServer):
    """Collect what is requested; answer with `status`, after `release` where that is set."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen, self.status, self.release = [], 200, None

    @property
    def address(self):
        return f"127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append((self.command, self.path, body))
        if self.server.release is not None:
            self.server.release.wait(30)
        with contextlib.suppress(OSError):
            self.send_response(self.server.status)
            self.end_headers()

    do_GET = do_POST = answer

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with Server() as one:
        thread = threading.Thread(target=one.serve_forever, daemon=True)
        thread.start()
        yield one
        if one.release is not None:
            one.release.set()
        one.shutdown()
        thread.join()


def sentences(server):
    return [json.loads(body)["message"] for verb, _, body in server.seen if verb == "POST"]


# -- alerts by URL -------------------------------------------------------------------------------

EXTRA = pytest.mark.skipif(find_spec("apprise") is None, reason="a URL needs bt_risk[notify]")


@EXTRA
@pytest.mark.parametrize("listed", [False, True])
def test_a_url_in_notify_gets_the_alerts(listed, server):
    url, heard = f"json://{server.address}/", []
    notify = [heard.append, url] if listed else url
    run(FakeBroker(), CRASH, BUY, breaker={}, notify=notify)
    assert sum("halt DrawdownBreaker" in text for text in sentences(server)) == 1
    assert heard == (sentences(server) if listed else [])


@EXTRA
def test_a_service_that_fails_is_logged_without_its_password(server, caplog):
    server.status = 500
    run(FakeBroker(), CRASH, BUY, breaker={}, notify=f"json://me:secret@{server.address}/")
    failed = [r.getMessage() for r in caplog.records if "failed on" in r.getMessage()]
    assert failed
    assert all("json://..." in text and "secret" not in text for text in failed)


@EXTRA
@pytest.mark.parametrize("url", ["https://example.org", "tgram://secret", "nonsense", ""])
def test_a_url_that_is_none_is_an_error_at_once_and_keeps_its_password(url):
    with pytest.raises(bt_risk.ParameterError, match="RiskBroker: notify must be a URL") as info:
        bt_risk.RiskBroker(FakeBroker(), notify=[print, url])
    assert "secret" not in str(info.value)


def test_without_apprise_a_url_is_one_clear_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(bt_risk.ParameterError, match=r"pip install 'bt_risk\[notify\]'"):
        bt_risk.RiskBroker(FakeBroker(), notify="json://127.0.0.1:1/")
    bt_risk.RiskBroker(FakeBroker(), notify=print)


@EXTRA
def test_a_gate_with_a_url_can_be_pickled():
    live = bt_risk.Live(notify="json://127.0.0.1:1/", heartbeat="http://127.0.0.1:1/")
    again = pickle.loads(pickle.dumps(live))
    assert [one.url for one in again.notify] == ["json://127.0.0.1:1/"]


# -- the dead man's switch -----------------------------------------------------------------------


class Slow(FakeBroker):
    """Let ten seconds pass in each round of the loop."""

    params = (("clock", None),)

    def next(self):
        self.p.clock.now += 10.0
        super().next()


def beat(server, every=60.0, path="/ping", rows=CALM, **live):
    clock = Clock()
    heartbeat = {"heartbeat": f"http://{server.address}{path}", "heartbeat_every": every}
    return run(Slow(clock=clock), rows, {}, clock=clock, **heartbeat, **live), clock


def wait_until(true):
    until = time.monotonic() + 30
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_the_url_is_requested_while_the_loop_goes_round(server):
    _, clock = beat(server)
    asked = [(verb, path) for verb, path, _ in server.seen]
    assert set(asked) == {("GET", "/ping")}
    # A server that is slower than this loop leaves some out, and never gets more.
    assert 1 <= len(asked) <= clock.now / 60.0 + 1


def test_it_is_requested_once_in_a_while():
    clock = Clock()
    one = HeartbeatUrl("http://127.0.0.1:1/", 60.0, clock)
    due = []
    for second in range(0, 200, 10):
        clock.now = float(second)
        if one.due():
            due.append(second)
            one._pending = False
    assert due == [0, 60, 120, 180]


def test_a_service_that_does_not_answer_holds_nobody_up(server):
    server.release = threading.Event()
    clock = Clock()
    alerts = Alerts([], HeartbeatUrl(f"http://{server.address}/", 1.0, clock))
    began = time.monotonic()
    for second in range(5000):
        clock.now = float(second)
        alerts.beat()
    assert time.monotonic() - began < 2.0
    wait_until(lambda: server.seen)
    assert alerts._sentences.qsize() == 0  # one at a time
    server.release.set()
    alerts.close()
    assert len(server.seen) == 1


def test_a_failure_is_logged_once_until_it_works_again(server, caplog):
    clock = Clock()
    one = HeartbeatUrl(f"http://{server.address}/", 1.0, clock)
    with caplog.at_level(logging.ERROR, "bt_risk"):
        for status in (500, 500, 200, 404, 404):
            server.status = status
            one.send()
    assert len([r for r in caplog.records if "heartbeat" in r.getMessage()]) == 2


def test_the_simulation_requests_nothing(server):
    import backtrader as bt
    from helpers.scenarios import bars

    engine = bt.Cerebro(stdstats=False)
    engine.adddata(PandasData(dataname=bars(*CALM)), name="D0")
    bt_risk.protect(engine, heartbeat=f"http://{server.address}/")
    engine.addstrategy(bt.Strategy)
    engine.run()
    assert server.seen == []
