"""Signals of a live run: over real HTTP, by a file that grows, and again from their record."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import backtrader as bt
import pandas as pd
import pytest
from helpers.scenarios import MODES, cerebro, random_walk

import bt_risk
from bt_risk.errors import ParameterError
from bt_risk.signals.sources import IdMemory, SignalPoller, SignalSource, SignalTail, now_micros

FRAME = random_walk(4, 150, 0.02)


def record(name, score=50.0, **values):
    return {"id": name, "symbol": "D0", "score": score} | values


# -- polling -------------------------------------------------------------------------------------


class Server:
    """Answer each request with the next of `answers`: a list, bytes, a status, or a function."""

    def __init__(self):
        self.answers, self.asked = [], []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.asked.append(time.monotonic())
                answer = server.answers.pop(0) if server.answers else []
                if callable(answer):
                    answer = answer(self)
                status, headers, body = 200, {}, answer
                if isinstance(answer, tuple):
                    status, headers, body = answer
                body = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                for name, value in (headers | {"Content-Length": str(len(body))}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/?key=secret"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def server():
    made = Server()
    yield made
    made.close()


@pytest.fixture
def poll(server):
    started = []

    def start(*answers, url=None, **params):
        server.answers = list(answers)
        source = SignalPoller(url or server.url, **({"every": 0.02, "timeout": 0.5} | params))
        source.start()
        started.append(source)
        return source

    yield start
    for source in started:
        source.stop()


def until(found, seconds=20.0):
    """Wait until a condition holds; return what it holds with."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = found()
        if value:
            return value
        time.sleep(0.005)
    raise AssertionError("it never came true")


def test_what_a_server_answers_comes_once_and_is_stamped(poll):
    before = now_micros()
    source = poll([record("1"), record("2", -20)], {"signals": [record("2", -20), record("3")]})
    found = []
    until(lambda: found.extend(source.take()) or len(found) == 3)
    assert [one.id for one in found] == ["1", "2", "3"]
    assert all(before <= one.received <= now_micros() for one in found)
    assert source.refused == {"id seen before": 1}
    assert source.trouble == ""


def test_other_names_and_units_are_converted_and_what_fails_is_refused(poll):
    def convert(row):
        return {"score": 2 * float(row["value"]) - 100, "published": row["timestamp"]}

    rows = [
        {"value": "80", "timestamp": "1577836800"},
        {"value": "many", "timestamp": "1577836800"},
        {"timestamp": "1577836800"},
        "x",
        {"value": "101", "timestamp": "1577836800"},
    ]
    source = poll({"data": rows}, rows="data", convert=convert)
    (found,) = until(source.take)
    assert (found.score, found.direction, found.published) == (60.0, 1, 1_577_836_800_000_000)
    assert source.refused == {
        "convert failed with ValueError": 1,
        "convert failed with KeyError": 1,
        "convert failed with TypeError": 1,
        "score is out of range": 1,
    }
    assert source.trouble == ""


def slow(_):
    time.sleep(1.5)
    return []


def drip(handler):
    handler.send_response(200)
    handler.end_headers()
    for _ in range(30):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.1)
    return []


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ((500, {}, b"no"), "HTTP 500"),
        ((429, {}, b""), "HTTP 429"),
        (b'[{"score": ', "JSONDecodeError"),
        (b"\xff\xfe", "Decode"),
        ({"rows": []}, "the answer has no array"),
        (7, "the answer has no array"),
        (slow, "imed out"),
        (drip, "takes too long"),
        (b"[" + b" " * (1 << 20) + b"]", "larger than"),
        ([record("9", published="2190-01-01T00:00Z")], "published after it was received"),
        ([record("9", 101), "x", None], "each of its 3 records is refused"),
    ],
)
def test_a_fault_is_trouble_until_the_server_answers_again(poll, server, fault, words):
    source = poll(fault, [record("1")])
    until(lambda: source.trouble or len(server.asked) > 1)
    trouble = source.trouble or source.refused
    assert words in str(trouble) or len(server.asked) > 1
    begin = time.perf_counter()
    source.take()
    assert time.perf_counter() - begin < 0.1  # a run never waits for a server
    found = []
    until(lambda: found.extend(source.take()) or found)
    assert [one.id for one in found] == ["1"]
    until(lambda: source.trouble == "")


def test_a_server_that_is_down_is_trouble_without_its_password(poll, server):
    server.close()
    source = poll()
    trouble = until(lambda: source.trouble)
    assert "Connection refused" in trouble
    assert "secret" not in trouble


def test_retry_after_is_kept(poll, server):
    source = poll((429, {"Retry-After": "0.6"}, b""), [record("1")])
    until(lambda: source.take())
    assert server.asked[1] - server.asked[0] > 0.55


def test_a_flood_is_cut_and_counted(poll):
    source = poll([record(str(k)) for k in range(12_000)])
    found = until(lambda: source.take())
    assert len(found) <= 10_000
    assert source.refused["too many at once"] == 12_000 - 10_000


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"url": "file:///etc/passwd"}, "url must be one of http or https"),
        ({"url": "http://x", "every": 0}, "every must be positive"),
        ({"url": "http://x", "timeout": -1}, "timeout must be positive"),
        ({"url": "http://x", "convert": "value"}, "convert must be a function that makes a record"),
    ],
)
def test_a_parameter_out_of_range_raises(params, message):
    with pytest.raises(ParameterError, match=message):
        SignalPoller(**params)


# -- a file that grows ---------------------------------------------------------------------------


def test_only_whole_lines_count_and_without_a_time_those_that_come_after_the_start(tmp_path):
    path = tmp_path / "signals.jsonl"
    source = SignalTail(path)
    source.start()
    assert source.take() == []
    path.write_text(json.dumps(record("old")) + "\n")
    source.start()
    line = json.dumps(record("1")) + "\n"
    with path.open("a") as file:
        file.write(line + line + line[:20])
        file.flush()
        assert [one.id for one in source.take()] == ["1"]
        file.write(line[20:] + "not json\n" + json.dumps(record("2")) + "\n")
        file.flush()
        assert [one.id for one in source.take()] == ["2"]
    refused = {"no published time": 1, "id seen before": 2, "not an object with names": 1}
    assert source.refused == refused
    path.write_text(json.dumps(record("3")) + "\n")  # rotated
    assert [one.id for one in source.take()] == ["3"]


def test_a_line_without_end_fills_no_memory(tmp_path):
    path = tmp_path / "signals.jsonl"
    source = SignalTail(path)
    source.start()
    path.write_bytes(b"x" * 70_000)
    assert source.take() == []
    assert source.refused == {"line is too long": 1}


def test_an_unreadable_file_is_trouble(tmp_path):
    source = SignalTail(tmp_path)  # a folder
    source.take()
    assert "cannot be read" in source.trouble


def test_the_oldest_ids_are_forgotten_first():
    memory = IdMemory(2)
    assert [memory.is_new(name) for name in "aabca"] == [True, False, True, True, True]


# -- live, recorded, and replayed ----------------------------------------------------------------


class Scripted(SignalSource):
    """Bring signals at bars of the clock, each stamped some minutes before or after its time."""

    def __init__(self, plan):
        super().__init__()
        self.plan, self.bar, self.ended = plan, 0, False

    def take(self):
        self.bar += 1
        rows = []
        for minutes, row in self.plan.get(self.bar, ()):
            moment = FRAME.index[self.bar - 1] + pd.Timedelta(minutes=minutes)
            micros = round(moment.timestamp() * 1_000_000)
            rows += self.accept([row | {"published": micros / 1e6}], micros)
        return rows

    def stop(self):
        self.ended = True


PLAN = {
    bar: [
        # Late by two days, a minute late, early: a bar is never judged by what came after it.
        ((-2 * 1440, 1, -30)[bar % 3], record(str(bar), (-80, 90, 30)[bar % 4 % 3])),
        (-5, record(str(bar - 6), 70)),  # its id was seen before
    ]
    for bar in range(12, 140, 3)
}


class Trader(bt.Strategy):
    def next(self):
        if len(self) % 4 == 0:
            self.close()
        elif len(self) % 4 == 1:
            (self.buy if len(self) % 8 == 1 else self.sell)(size=400)


def session(dataname, mode="runonce", **params):
    engine = cerebro(FRAME)
    feed = bt_risk.SignalData(dataname=dataname, ttl="4d", **params)
    engine.adddata(feed, name="S")
    engine.addstrategy(Trader)
    guards = [bt_risk.SignalGate(), bt_risk.ConvictionScale()]
    bt_risk.protect(engine, guards=guards, sizer=False)
    strategy = engine.run(**MODES[mode])[0]
    return strategy.analyzers.riskjournal.frame(), strategy.broker.getvalue()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    path = tmp_path_factory.mktemp("signals") / "session.jsonl"
    source = Scripted(PLAN)
    found = session(source, record=path)
    assert source.ended
    return path, found


@pytest.mark.parametrize("mode", MODES)
def test_a_recorded_session_replays_to_an_equal_journal(recorded, mode):
    path, (journal, value) = recorded
    again, worth = session(path, mode)
    pd.testing.assert_frame_equal(again, journal)
    assert worth == value
    assert {"SignalGate", "ConvictionScale"} <= set(journal["rule"])
    assert set(journal["action"]) >= {"trim", "reject"}


def test_trouble_is_one_alert_and_entries_stop_by_age():
    sentences = []
    source = Scripted({12: [(-30, record("1", 90))]})
    plain = source.take

    def take():
        found = plain()
        source.trouble = "the server of signals does not answer" if source.bar >= 20 else ""
        return found

    source.take = take
    engine = cerebro(FRAME)
    engine.adddata(bt_risk.SignalData(dataname=source, ttl="9d"), name="S")
    engine.addstrategy(Trader)
    guards = [bt_risk.SignalGate()]
    bt_risk.protect(engine, guards=guards, sizer=False, notify=sentences.append)
    journal = engine.run()[0].analyzers.riskjournal.frame()
    assert [one.partition("stale ")[2] for one in sentences if "stale" in one] == [
        "SignalData: S: the server of signals does not answer"
    ]
    later = journal[journal["time"] > FRAME.index[22]]
    entries = later[later["action"].isin(["allow", "trim"])]
    assert entries.empty
    assert (later["rule"] == "SignalGate").any()


def test_a_record_needs_a_source(tmp_path):
    with pytest.raises(ParameterError, match="record must be None where no source"):
        bt_risk.SignalData(dataname="x.csv", ttl=60, record=tmp_path / "a.jsonl")
