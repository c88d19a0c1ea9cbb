"""examples/live_signals on loopback: each prints what its page shows, and decides as it says."""

import re
import sys

import pytest
from helpers.shared_data import ROOT

FOLDER = ROOT / "examples" / "live_signals"
PAGE = (FOLDER / "README.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def _beside(monkeypatch):
    """Let the examples import what lies beside them, as where they are run."""
    monkeypatch.syspath_prepend(FOLDER)
    yield
    for name in ("market", "poll", "webhook"):
        sys.modules.pop(name, None)


def shown(name):
    """Return the lines that the page has of the output of an example, without times and ports."""
    block = re.search(rf"{name}.py\n```\n\n```text\n(.*?)```", PAGE, re.DOTALL)[1]
    return plain(block)


def plain(text):
    """Leave out what differs from run to run: lines of the log, ports, and seconds of an age."""
    text = re.sub(r"127.0.0.1:\d+|writing \S+", "", text)
    text = re.sub(r"0:1\d:\d\d old", "0:10 old", text)
    return [line for line in text.splitlines() if not line.startswith("2")]


def reasons(strategy):
    return [(side, size > 0.0, why.partition(";")[0]) for side, size, why in strategy.ends]


def test_a_run_that_follows_webhooks(capfd):
    pytest.importorskip("aiohttp")
    import webhook

    strategy = webhook.main(wait=0.05)
    first, second, third, leaves, last = reasons(strategy)
    assert first == ("buy", False, "SignalGate: no signal: scores has had no signal yet")
    assert second[:2] == ("buy", False)
    assert re.fullmatch(r"SignalGate: .* 0:1\d:\d\d old > ttl 0:05:00", second[2])
    assert third[:2] == ("buy", True)
    assert "base x 0.7500" in third[2]  # (80 - 20) / 80 of 1 %
    assert leaves[:2] == ("sell", True)  # although the signal is short, and the entries end
    assert last == ("buy", False, "SignalGate: no long entry in BTC: scores is short, score -60")
    assert sorted(plain(capfd.readouterr().out)) == sorted(shown("webhook"))


def test_a_run_that_asks_a_server(capfd):
    import poll

    strategy = poll.main(wait=0.05)
    against, along, leaves = reasons(strategy)
    assert against == ("buy", False, "SignalGate: no long entry in BTC: scores is short, score -70")
    assert along[:2] == ("buy", True)
    assert "base x 0.3750" in along[2]  # (50 - 20) / 80
    assert leaves[:2] == ("sell", True)  # although the server is down
    journal = strategy.analyzers.riskjournal.frame()
    down = journal[(journal.rule == "SignalData") & (journal.action == "stale")]
    assert len(down) == 2  # before the first answer, and from bar 46 on
    assert all("HTTP 503" in reason for reason in down.reason)
    assert sorted(plain(capfd.readouterr().out)) == sorted(shown("poll"))
