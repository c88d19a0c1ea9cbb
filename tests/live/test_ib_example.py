"""The example for Interactive Brokers runs as it is written, against a TWS of our own."""

import importlib.util
import os
import signal
import sys

import pytest
from helpers.ib_run import sound, tws
from helpers.shared_data import ROOT
from ib_async import util

PATH = ROOT / "examples" / "live_ib" / "run.py"
# A cross upwards, and then one downwards.
PRICES = [
    *[104.0 - 0.2 * k for k in range(20)],
    *[100.0 + k for k in range(10)],
    *[110.0 - 2 * k for k in range(20)],
]
ROWS = [(price, price + 1, price - 1, price) for price in PRICES]


@pytest.fixture
def example(monkeypatch):
    """Return the example as a module."""
    spec = importlib.util.spec_from_file_location("live_ib_run", PATH)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def test_the_example_buys_sells_and_ends_with_ctrl_c(example, tmp_path):
    with tws(ROWS, 20) as venue:

        def more():
            if venue.next_bar():
                util.getLoop().call_later(0.03, more)
            else:
                os.kill(os.getpid(), signal.SIGINT)

        util.getLoop().call_later(1.0, more)
        strategy = example.main("AAA", tmp_path / "risk.db", port=venue.port, now=lambda: 0.0)
        sound(venue)
        assert {order.side for order in venue.orders.values()} == {1, -1}
    assert len(strategy) > 40
