"""Check openalgo-backtrader with `bt_risk.check_store`, in an environment with that store.

python tests/helpers/openalgo_doctor.py ASKED.json SAID.json
"""

import json
import sys
import time
from datetime import datetime
from pathlib import Path

import backtrader as bt
import openalgo_run
from openalgo_run import KEY, CheckedBroker, OABroker, OAStore, PacedData, history

import bt_risk

openalgo_run.DEADLINE = 400.0


class SlowData(PacedData):
    """Bring no more than some bars a second: this store polls every two seconds."""

    def _load(self):
        loaded = super()._load()
        if loaded:
            time.sleep(0.01)
        return loaded


def check(asked):
    """Return the rows, the settings and what is left."""

    def make_broker():
        host = f"http://127.0.0.1:{asked['port']}"
        store = OAStore(api_key=KEY, host=host)
        history.client.base_url = store.get_client().base_url
        history.client.api_key = KEY
        broker = (CheckedBroker if asked["checked"] else OABroker)(store=store)
        data = SlowData(
            name="TCS",
            symbol="NSE:TCS",
            timeframe=bt.TimeFrame.Minutes,
            fromdate=datetime(2024, 1, 1),
            todate=datetime(2024, 1, 2),
            host=host,
            live=True,
            ws_url=f"{host.replace('http', 'ws', 1)}/ws",
            venue=asked["port"],
            broker=broker,
        )
        return broker, data

    report = bt_risk.check_store(make_broker, size=1, yes=True, cash=asked["cash"], timeout=8.0)
    rows = {row.check: [row.result, row.seen] for row in report.rows}
    return {"rows": rows, "toml": report.settings.to_toml(), "left": report.left}


if __name__ == "__main__":
    said = check(json.loads(Path(sys.argv[1]).read_text()))
    Path(sys.argv[2]).write_text(json.dumps(said))
