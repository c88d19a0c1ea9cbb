"""Ask a server for its scores again and again, under `protect`: `python poll.py`.

Without an address a stand-in on this computer answers in the shape of the fear and greed index:
`python poll.py https://api.alternative.me/fng/` asks for that itself, which needs no key.
"""

import contextlib
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from market import trade

import bt_risk


def record(row):
    """Return what a row of the index says as a score: 0, fear, is -100; 100, greed, is 100."""
    return {"score": 2 * float(row["value"]) - 100, "published": row["timestamp"]}


class Index(ThreadingHTTPServer):
    """Answer with a value of the index, or without one with HTTP 503."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.value = None
        self.url = f"http://127.0.0.1:{self.server_address[1]}/"

    def state(self, value):
        """Return a function that changes the value."""

        def change():
            self.value = value
            print("the server fails" if value is None else f"the index is {value}")

        return change


class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        value = self.server.value
        row = {"value": str(value), "timestamp": str(int(time.time()))}
        body = json.dumps({"name": "Fear and Greed Index", "data": [row]}).encode()
        self.send_response(503 if value is None else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving():
    server = Index()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def follow(url, every, events, wait):
    poller = bt_risk.SignalPoller(url, every=every, rows="data", convert=record)
    signals = bt_risk.SignalData(dataname=poller, ttl="2d")
    return trade(signals, (20, 40), (54,), events, wait)


def main(url=None, wait=0.1):
    if url is not None:
        return follow(url, 3600, {}, wait)
    with serving() as server:
        events = {4: server.state(15), 24: server.state(75), 46: server.state(None)}
        return follow(server.url, 0.1, events, wait)


if __name__ == "__main__":
    main(*sys.argv[1:])
