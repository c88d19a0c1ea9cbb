"""What does a run do with the signals that a provider posts while it goes on?

Expected last line: 3 signals posted; entries before the first, along it, against it: no, yes, no
"""

# %%
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

import backtrader as bt

import bt_risk

TOKEN = "only-on-this-computer"
with socket.create_server(("127.0.0.1", 0)) as free:  # a port that nothing else listens at
    PORT = free.getsockname()[1]
FOLDER = Path(tempfile.mkdtemp())
BARS = 60


# %% Prices of this very moment: a venue would bring them.
class Ticks(bt.feed.DataBase):
    params = dict(timeframe=bt.TimeFrame.Seconds)

    def islive(self):
        return True

    def _load(self):
        count = len(self)
        if count > BARS:
            return False
        time.sleep(0.1)
        close = 100.0 + (count % 5) / 10
        prices = dict(open=close, high=close + 0.2, low=close - 0.2, close=close, volume=1.0)
        for name, value in prices.items():
            getattr(self.lines, name)[0] = value
        self.lines.datetime[0] = bt.date2num(datetime.now(UTC).replace(tzinfo=None))
        return True


def post(**signal):
    body = json.dumps(signal | {"token": TOKEN, "ticker": "COIN"}).encode()
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/", body, timeout=5) as answer:
        return answer.status


# %% The provider posts at three bars; the strategy asks for an entry at three others.
class Entries(bt.Strategy):
    def __init__(self):
        self.posted, self.ends = 0, {}

    def notify_order(self, order):
        if not order.alive():
            self.ends[order.ref] = order.getstatusname()

    def next(self):
        if len(self) in (25, 26, 40):
            self.posted += post(score=80 if len(self) < 40 else -80, id=str(len(self))) == 202
        elif len(self) in (20, 35, 50):
            self.buy(size=1)
        elif len(self) == 38:
            self.close()


def main():
    command = ["-m", "bt_risk", "signals", "listen", "--port", str(PORT), "--out"]
    path = FOLDER / "signals.jsonl"
    env = os.environ | {"BT_RISK_SIGNALS_TOKEN": TOKEN}
    receiver = subprocess.Popen([sys.executable, *command, str(path)], env=env)
    try:
        for _ in range(900):
            try:
                post(score=500)
            except urllib.error.HTTPError:
                break  # it listens, and refuses that score
            except OSError:
                time.sleep(0.1)
        cerebro = bt.Cerebro(stdstats=False)
        cerebro.adddata(Ticks(), name="COIN")
        tail = bt_risk.SignalTail(path)
        cerebro.adddata(bt_risk.SignalData(dataname=tail, ttl="30s"), name="scores")
        cerebro.addstrategy(Entries)
        bt_risk.protect(cerebro, guards=[bt_risk.SignalGate()], sizer=False, trailing_stop=False)
        strategy = cerebro.run()[0]
    finally:
        receiver.terminate()
        receiver.wait()
    journal = strategy.analyzers.riskjournal.frame()
    asked = journal[journal.requested == 1]
    for reason in asked.reason[asked.action == "reject"]:
        print(reason)
    entries = [action for action in asked.action if action in ("allow", "reject")]
    entries = ["yes" if action == "allow" else "no" for action in entries]
    print(
        f"{strategy.posted} signals posted; entries before the first, along it, against it: "
        f"{', '.join(entries)}"
    )
    return dict(posted=strategy.posted, entries=entries)


if __name__ == "__main__":
    main()
