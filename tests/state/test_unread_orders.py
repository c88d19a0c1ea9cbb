"""A list of orders that raises errors after a restart says nothing about the orders there."""

import backtrader as bt
import pytest
from helpers.persistent_broker import PersistentBroker, bar_of, read
from helpers.restarts import run
from helpers.scenarios import flat

from bt_risk.state.file import read_state, request
from bt_risk.state.requests import OperatorRequest
from bt_risk.state.unread_orders import ORDERS

ROWS = flat(40)
SIDES = pytest.mark.parametrize("side", [1, -1], ids=["long", "short"])


class TakesProfit(bt.Strategy):
    """Hold 100 from bar 20 on, with a limit 20 away from bar 22 on."""

    side = 1

    def next(self):
        bar = bar_of(self.data)
        enter, leave = (self.buy, self.sell) if self.side > 0 else (self.sell, self.buy)
        if bar == 20 and not self.position:
            enter(size=100)
        if bar == 22 and self.position:
            leave(size=100, price=100 + 20 * self.side, exectype=bt.Order.Limit)


class Waits(bt.Strategy):
    """Rest an entry far below the market from bar 20 on."""

    def next(self):
        if bar_of(self.data) == 20:
            self.buy(size=10, price=50.0, exectype=bt.Order.Limit)


def of_side(side):
    return type("Trades", (TakesProfit,), {"side": side})


@pytest.fixture
def answers(monkeypatch):
    """Let the list of orders answer the n-th request of a run as ``answers[n]`` says, from 1 on.

    "error" raises; "blind" leaves out the orders of an earlier process.
    """
    found, start, listed = {}, PersistentBroker.start, PersistentBroker.get_orders_open

    def begin(self):
        start(self)
        self.asked = 0

    def answer(self):
        self.asked += 1
        says = found.get(self.asked, found.get("else"))
        if says == "error":
            raise TimeoutError("no list")
        orders = listed(self)
        return [o for o in orders if o.ref not in self._before] if says == "blind" else orders

    monkeypatch.setattr(PersistentBroker, "start", begin)
    monkeypatch.setattr(PersistentBroker, "get_orders_open", answer)
    return found


def resting(folder):
    """Return id, size and price of the orders at the venue."""
    return [(o["id"], o["left"], o["price"]) for o in read(folder / "venue.json")["orders"]]


def kinds(gate):
    return sorted(w.kind for w in gate.book.working.values())


@SIDES
def test_an_order_of_the_user_is_found_once_the_list_is_answered(tmp_path, answers, side):
    run(tmp_path, rows=ROWS[:24], strategy=of_side(side))
    before = resting(tmp_path)
    answers |= dict.fromkeys((1, 2, 3, 4), "error")
    gate = run(tmp_path, rows=ROWS[:30], strategy=bt.Strategy).broker
    assert kinds(gate) == ["limit", "stop"]
    assert gate.state == "ACTIVE"
    assert resting(tmp_path) == before


def test_an_entry_that_may_rest_unseen_lets_nothing_be_opened(tmp_path, answers):
    run(tmp_path, rows=ROWS[:24], strategy=Waits)
    answers["else"] = "error"
    gate = run(tmp_path, rows=ROWS[:30], strategy=Waits).broker
    state, reason = gate.trading_state.asked[ORDERS]
    assert state == "REDUCING"
    assert reason == (
        "state: the broker's list of orders cannot be read (TimeoutError: no list), and this may "
        "work there: buy 10 D0 (limit, id V1). It is asked again in every round; "
        f"`bt-risk rearm {tmp_path / 'risk.db'}` goes on without"
    )
    answers.clear()
    gate = run(tmp_path, rows=ROWS[:34], strategy=Waits).broker
    assert gate.state == "ACTIVE"
    assert kinds(gate) == ["limit"]


def test_an_entry_is_found_in_the_run_whose_list_is_answered_late(tmp_path, answers):
    run(tmp_path, rows=ROWS[:24], strategy=Waits)
    answers |= dict.fromkeys((1, 2, 3), "error")
    gate = run(tmp_path, rows=ROWS[:30], strategy=bt.Strategy).broker
    assert gate.state == "ACTIVE"
    assert kinds(gate) == ["limit"]


def test_rearm_goes_on_without_the_orders_that_cannot_be_listed(tmp_path, answers):
    run(tmp_path, rows=ROWS[:24], strategy=Waits)
    answers["else"] = "error"
    request(tmp_path / "risk.db", OperatorRequest("rearm", "ann@desk", 1.0, {}))
    assert run(tmp_path, rows=ROWS[:30], strategy=Waits).broker.state == "ACTIVE"


def test_a_first_run_is_not_refused_because_of_a_list(tmp_path, answers):
    answers["else"] = "error"
    assert run(tmp_path, rows=ROWS[:24], strategy=Waits).broker.state == "ACTIVE"
    assert len(resting(tmp_path)) == 1


@pytest.mark.parametrize("errors", [(1, 2, 3), (2, 3, 4), (2,)])
@SIDES
def test_a_store_that_can_prove_it_is_asked_in_every_round(tmp_path, answers, side, errors):
    """No minute passes: the clock of the run stands still."""
    run(tmp_path, rows=ROWS[:22], strategy=of_side(side))
    before = resting(tmp_path)
    answers |= {1: "blind"} | dict.fromkeys(errors, "error")
    gate = run(tmp_path, rows=ROWS[:30], strategy=bt.Strategy, live={"clock": lambda: 7.0}).broker
    assert gate.state == "ACTIVE"
    assert resting(tmp_path) == before


def test_a_stop_that_is_listed_although_the_operator_called_it_gone_is_cancelled(tmp_path):
    """For a while two rest; the one of the earlier run is ours, and is withdrawn."""
    run(tmp_path, rows=ROWS[:21], strategy=TakesProfit)
    (stop,) = resting(tmp_path)

    class Late(PersistentBroker):
        def get_orders_open(self):
            self._lists = "all" if self.book["clock"]["D0"] > 30 else "new"
            return super().get_orders_open()

    seconds = iter(range(10**6))
    live = {"clock": lambda: float(next(seconds))}
    request(tmp_path / "risk.db", OperatorRequest("resume", "ann@desk", 1.0, {"stops": "gone"}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("helpers.restarts.PersistentBroker", Late)
        run(tmp_path, rows=ROWS, strategy=bt.Strategy, live=live, can={})
    (left,) = resting(tmp_path)
    assert left[0] != stop[0]
    assert left[1:] == (-100, 90)
    assert "two stops" in [line[3] for line in read_state(tmp_path / "risk.db", 1000).decisions]
