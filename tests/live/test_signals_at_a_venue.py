"""Signals at a live venue: entries stop when they are too old, exits pass, one alert is sent."""

import json

import backtrader as bt
import pandas as pd
import pytest
from helpers.fake_broker import FakeBroker
from helpers.live_feed import LiveFrame
from helpers.scenarios import Script, bars, flat

import bt_risk

FRAME = bars(*flat(45))
LIMIT = {"exectype": bt.Order.Limit, "price": 90.0}


def line(bar, score):
    received = FRAME.index[bar - 1] - pd.Timedelta(minutes=5)
    return json.dumps({"id": str(bar), "score": score, "received": received.isoformat()}) + "\n"


class Receiver(bt.Analyzer):
    """Write to the file of a receiver after some bars; nobody can read it once it `breaks`."""

    params = (("path", None), ("lines", ()), ("breaks", 99))

    def next(self):
        path, bar = self.p.path, len(self.strategy.data)
        if bar == self.p.breaks:
            path.unlink()
            path.mkdir()
        elif bar < self.p.breaks:
            with path.open("a") as file:
                file.writelines(line(at, score) for at, score in self.p.lines if at == bar + 1)


@pytest.fixture
def play(tmp_path):
    def run(actions, lines, breaks=99, venue=None, **params):
        path, sentences = tmp_path / "signals.jsonl", []
        engine = bt.Cerebro(stdstats=False)
        engine.adddata(LiveFrame(dataname=FRAME, idle=3), name="D0")
        tail = bt_risk.SignalTail(path)
        feed = bt_risk.SignalData(dataname=tail, ttl="8d", record=tmp_path / "record.jsonl")
        engine.adddata(feed, name="S")
        engine.setbroker(venue or FakeBroker())
        engine.addstrategy(Script, actions=actions)
        engine.addanalyzer(Receiver, path=path, lines=lines, breaks=breaks)
        guards = [bt_risk.SignalGate(), *params.pop("guards", ())]
        policy = bt_risk.Policy(sizer=False, trailing_stop=False, guards=guards)
        bt_risk.protect(engine, policy, notify=sentences.append)
        return engine.run(quicknotify=True)[0], sentences

    return run


def ends(strategy):
    """Return the last state of each order: status, what was done, and why."""
    last = {row[1]: row for row in strategy.orders}
    return [(row[2], row[4], row[6].partition(";")[0]) for row in last.values()]


OLD = "SignalGate: no signal: the last of S is 10 days, 0:05:00 old > ttl 8 days, 0:00:00"


def test_entries_stop_with_old_signals_exits_pass_and_one_alert_is_sent(play):
    strategy, sentences = play(
        {
            19: lambda s: s.buy(size=10),
            22: lambda s: s.buy(size=10),
            26: lambda s: s.close(),
            27: lambda s: (s.buy(size=20), s.buy(size=5, **LIMIT)),
            30: lambda s: s.buy(size=10),
            32: lambda s: s.close(),
        },
        [(20, 80)],
        breaks=24,
    )
    assert ends(strategy) == [
        ("Rejected", 0, "SignalGate: no signal: S has had no signal yet"),
        ("Completed", 10, ""),
        ("Completed", -10, ""),  # nobody can read the file by now
        ("Completed", 20, ""),  # what is known counts until it is too old
        ("Canceled", 0, ""),
        ("Rejected", 0, OLD),
        ("Completed", -20, ""),
    ]
    assert [held[0] for held in strategy.held][21:34] == [0, 10, 10, 10, 10, 0, *[20] * 5, 0, 0]
    (alert,) = [one for one in sentences if "SignalData" in one]
    assert "stale SignalData: S: " in alert
    assert "cannot be read" in alert
    assert strategy.broker.inner.resting[-1] == 0


def test_a_signal_that_turns_ends_what_rests_and_lets_the_other_side_in(play):
    strategy, sentences = play(
        {
            22: lambda s: s.buy(size=5, **LIMIT),
            24: lambda s: s.buy(size=10),
            26: lambda s: s.sell(size=10),
            28: lambda s: s.close(),
        },
        [(20, 80), (24, -60)],
    )
    assert [end[:2] for end in ends(strategy)] == [
        ("Canceled", 0),
        ("Rejected", 0),
        ("Completed", -10),
        ("Completed", 10),
    ]
    assert ends(strategy)[1][2] == "SignalGate: no long entry in D0: S is short, score -60"
    assert [one for one in sentences if "SignalData" in one] == []


def test_the_risk_of_an_entry_at_a_venue_follows_the_score(play):
    """ATR 2 and a stop 4 away: 1 % of 100,000 is 250 units, and (60 - 20) / 80 of them 125."""
    strategy, _ = play(
        {22: lambda s: s.buy(size=300)}, [(20, 60)], guards=[bt_risk.ConvictionScale()]
    )
    assert strategy.held[-1][0] == 125
