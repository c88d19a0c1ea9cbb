"""A restart beside a target that rests at the venue: it is found again, and never doubled."""

import pytest
from helpers import restarts
from helpers.persistent_broker import PersistentBroker, read
from helpers.scenarios import flat

import bt_risk

CAN = {"order_lists": True, "reduce_only": True, "two_exits": True}
# 100 units at 100 on bar 21; the stop is 10 away, so that the target is 20 away.
POLICY = bt_risk.Policy(
    **restarts.OFF, drawdown_limit=None, atr_multiple=5.0, guards=[bt_risk.TakeProfit(2.0)]
)
CALM = flat(27)
REACHED = [*CALM[:24], (100, 121, 99, 119), *flat(2, price=119.0)]
FALLEN = [*CALM[:24], (100, 101, 85, 86), *flat(2, price=86.0)]


class Venue(PersistentBroker):
    """Take `reduce_only`; this venue fills one order at a time, so that it need not act on it."""

    def buy(self, owner, data, size, reduce_only=False, **kwargs):
        return super().buy(owner, data, size, **kwargs)

    def sell(self, owner, data, size, reduce_only=False, **kwargs):
        return super().sell(owner, data, size, **kwargs)


@pytest.fixture(autouse=True)
def venue(monkeypatch):
    monkeypatch.setattr(restarts, "PersistentBroker", Venue)


def run(folder, rows, stops, **venue):
    """Let runs trade that end after so many bars; return the strategy of the last."""
    for last in (*stops, None):
        strategy = restarts.run(folder, rows=rows[:last], policy=POLICY, can=CAN, **venue)
    return strategy


def resting(strategy):
    return sorted((w.kind, w.remaining) for w in strategy.broker.book.working.values())


@pytest.mark.parametrize("stops", [(), (23,), (21, 22, 25)])
def test_one_stop_and_one_target_rest_after_a_restart(tmp_path, stops):
    strategy = run(tmp_path, CALM, stops)
    assert resting(strategy) == [("limit", 100), ("stop", 100)]
    sent = [row for row in read(tmp_path / "venue.json")["log"] if row["what"] == "sent"]
    assert len(sent) == 3  # the entry, its stop and its target


@pytest.mark.parametrize("stops", [(), (22,), (24,)])
@pytest.mark.parametrize("rows", [REACHED, FALLEN])
def test_the_one_that_fills_withdraws_the_other_after_a_restart(tmp_path, rows, stops):
    strategy = run(tmp_path, rows, stops)
    assert resting(strategy) == []
    assert read(tmp_path / "venue.json")["positions"].get("D0", [0])[0] == 0
    (trade,) = strategy.broker.book.trades
    assert (trade.pnl > 0) == (rows is REACHED)
