"""A margin account behind a live broker: it judges entries, and the venue liquidates and charges.

The market stands still at 100. At 20x, 1 % maintains it: a long of 1000 from 100 has a margin of
5,000, and at 97 an equity of 2,000 against 970.
"""

import math

import backtrader as bt
import pytest
from helpers.fake_broker import FakeBroker
from helpers.hostile_brokers import Clock, reasons, run
from helpers.restarts import ROWS, Wants
from helpers.restarts import run as saved_run
from helpers.scenarios import flat

import bt_risk
from bt_risk.monitors.margin import MarginMonitor
from bt_risk.report.live_page import headline
from bt_risk.report.state_summary import summary
from bt_risk.state.file import read_state

GUARD = bt_risk.MarginAccount(20, tiers=[(0, 0.01)], buffer=None, call=0.45)
CROSS = bt_risk.MarginAccount(20, tiers=[(0, 0.01)], mode="cross", buffer=None, call=0.45)
CALM = flat(30)
BUY = {20: lambda s: s.buy(size=1000)}
DOUBT = "MarginAccount: the venue's margin ratio is not known"


class Margined(FakeBroker):
    """Report a margin ratio: ``says(bar)`` returns it, 0.1 without; `asked` are the bars."""

    params = (("says", None),)

    def start(self):
        super().start()
        self.asked = []

    def margin_ratio(self):
        bar = max((len(data) for data in self.cerebro.datas), default=0)
        self.asked.append(bar)
        answer = 0.1 if self.p.says is None else self.p.says(bar)
        if isinstance(answer, Exception):
            raise answer
        return answer


def row(price):
    return (price, price, price, price)


def played(venue, actions=BUY, rows=CALM, guard=GUARD, **live):
    live = dict(retry_after=0.0, guards=[guard], stop=False) | live
    strategy, journal = run(venue, rows, actions, **live)
    gate = strategy.broker
    return strategy, journal, gate.registry.monitor(MarginMonitor)


def ends(strategy):
    """Return the last status of each order, by the bar that it was sent on, and its reason."""
    last = {one[1]: one for one in strategy.orders}
    return [(one[2], one[6].partition(";")[0]) for one in last.values()]


# -- without a ratio of the venue ------------------------------------------------------------------


@pytest.mark.parametrize("guard", [GUARD, CROSS], ids=["isolated", "cross"])
def test_nothing_is_liquidated_or_charged_at_a_live_venue(guard):
    """At 94 an isolated position would be gone at 95.96, and an interest would have come due."""
    costly = bt_risk.MarginAccount(
        20, [(0, 0.01)], guard.mode, buffer=None, borrow_rate=0.5, liquidation_fee=0.01
    )
    rows = [*flat(21), row(100), row(94), row(94), row(94)]
    strategy, journal, monitor = played(FakeBroker(), rows=rows, guard=costly)
    assert strategy.held[-1] == (1000,)
    assert strategy.broker.inner.getvalue() == pytest.approx(94_000.0)
    assert (monitor.liquidations, monitor.interest) == ([], 0.0)
    assert reasons(journal, "liquidation") == []
    assert monitor.venue is None


def test_an_entry_needs_its_initial_margin_beside_what_is_bound():
    """100,000 at 20x are 20,000 units of 100; 1,000 bind 5,000 and leave 19,000."""
    actions = BUY | {24: lambda s: s.buy(size=20_000)}
    strategy, _, _ = played(FakeBroker(), actions)
    assert strategy.held[-1] == (20_000,)
    assert "initial margin 100,000.00 > 95,000.00 free" in strategy.orders[-1][-1]


def test_an_entry_has_its_stop_inside_liquidation():
    """ATR 2 and a stop 4 away: 1 / (1.25 x 0.04 + 0.01) = 16.67."""
    refused, _, _ = played(FakeBroker(), guard=bt_risk.MarginAccount(20, [(0, 0.01)]))
    assert "leverage 20.00 > 16.67 = 1 / (1.25 x 0.0400 + 0.0100)" in ends(refused)[0][1]
    passed, _, _ = played(FakeBroker(), guard=bt_risk.MarginAccount(16, [(0, 0.01)]))
    assert passed.held[-1] == (1000,)


def test_tiers_are_asked():
    guard = bt_risk.MarginAccount(20, [(0, 0.01, 20), (50_000, 0.02, 10)], buffer=None)
    strategy, _, _ = played(FakeBroker(), guard=guard)
    assert strategy.held[-1] == (500,)


def test_one_close_begins_no_call_and_two_do():
    """At 97 the ratio is 0.485; one such close refuses entries, a second one cancels what rests."""
    resting = {22: lambda s: s.buy(size=1, exectype=bt.Order.Limit, price=50.0)}
    asks = {bar: lambda s: s.buy(size=1) for bar in (23, 25, 26, 29)}
    rows = [*flat(21), row(100), row(97), row(99), row(97), row(97), row(99), row(99), *flat(4)]
    strategy, journal, _ = played(FakeBroker(), BUY | resting | asks, rows)
    assert reasons(journal, "margin call") == [
        "MarginAccount: margin ratio 0.48 >= 0.45: entries are refused"
    ]
    once = "MarginAccount: margin ratio 0.48 >= 0.45, which one more sample has to confirm"
    found = ends(strategy)
    assert found[2] == ("Rejected", once)
    assert found[1][0] == "Canceled"
    assert [status for status, _ in found] == [
        *("Completed", "Canceled", "Rejected", "Rejected", "Rejected", "Completed")
    ]
    assert len(reasons(journal, "note")) == 1


# -- with one --------------------------------------------------------------------------------------


def test_the_venue_is_asked_every_few_seconds_and_never_by_an_order():
    clock = Clock()
    venue = Margined()
    actions = {bar: lambda s: (s.buy(size=1), s.buy(size=1)) for bar in range(20, 30)}
    _, _, monitor = played(venue, actions, clock=clock, retry_after=5.0)
    assert len(venue.asked) == 1
    assert monitor.venue.ratio == 0.1
    slow = Margined()
    played(slow, actions, clock=Clock(0.1), retry_after=5.0)
    assert 2 < len(slow.asked) < 40


def test_the_call_acts_on_the_worse_of_both():
    worse = Margined(says=lambda bar: 0.5 if 23 <= bar < 26 else 0.1)
    asks = {bar: lambda s: s.buy(size=1) for bar in (22, 24, 28)}
    strategy, journal, _ = played(worse, BUY | asks)
    assert [status for status, _ in ends(strategy)] == [
        *("Completed", "Completed", "Rejected", "Completed")
    ]
    assert reasons(journal, "margin call") == [
        "MarginAccount: the venue's margin ratio 0.50 >= 0.45: entries are refused"
    ]
    ours = Margined(says=lambda bar: 0.1)
    rows = [*flat(21), row(100), *[row(97)] * 8]
    _, journal, _ = played(ours, rows=rows)
    assert reasons(journal, "margin call") == [
        "MarginAccount: margin ratio 0.48 >= 0.45: entries are refused"
    ]


def test_exits_pass_in_a_call_of_the_venue():
    venue = Margined(says=lambda bar: 0.9 if bar >= 23 else 0.1)
    strategy, _, _ = played(venue, BUY | {26: lambda s: s.close()})
    assert strategy.held[-1] == (0,)


def test_one_answer_at_the_call_refuses_entries_and_cancels_nothing():
    clock, resting = Clock(), {22: lambda s: s.buy(size=1, exectype=bt.Order.Limit, price=50.0)}
    venue = Margined(says=lambda bar: 0.7 if bar == 23 else 0.1)

    def later(strategy):
        clock.now += 5.0

    asked = dict.fromkeys(range(20, 30), later)
    asked[24] = lambda s: (s.buy(size=1), later(s))
    asked[20] = lambda s: (BUY[20](s), later(s))
    asked[22] = lambda s: (resting[22](s), later(s))
    strategy, journal, _ = played(venue, asked, clock=clock, retry_after=5.0)
    assert reasons(journal, "margin call") == []
    found = ends(strategy)
    assert found[1][0] == "Accepted"
    assert found[2][1] == (
        "MarginAccount: the venue's margin ratio 0.70 >= 0.45, which one more sample has to confirm"
    )


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (math.nan, "nan"),
        (math.inf, "inf"),
        (-0.1, "-0.1"),
        (45.0, "45"),
        (ConnectionError("gone"), "ConnectionError: gone"),
    ],
    ids=["nan", "inf", "negative", "percent", "error"],
)
def test_an_answer_that_can_be_none_stops_entries_with_one_alert(answer, told):
    sentences = []
    venue = Margined(says=lambda bar: answer if 23 <= bar < 27 else 0.1)
    asks = {bar: lambda s: s.buy(size=1) for bar in (24, 29)} | {25: lambda s: s.sell(size=400)}
    strategy, journal, monitor = played(venue, BUY | asks, notify=sentences.append)
    assert ends(strategy)[1:] == [("Rejected", DOUBT), ("Completed", ""), ("Completed", "")]
    alert = f"{DOUBT} (it answers {told}): entries are refused"
    assert reasons(journal, "margin") == [alert]
    assert [alert in one for one in sentences] == [True]
    assert "known again: 0.10" in "".join(reasons(journal, "note"))
    assert reasons(journal, "margin call") == []
    assert monitor.venue.ratio == 0.1


def test_an_unknown_ratio_ends_no_call():
    venue = Margined(says=lambda bar: 0.1 if bar < 23 else 0.9 if bar < 25 else math.nan)
    _, journal, _ = played(venue)
    assert len(reasons(journal, "margin call")) == 1
    assert "judged again" not in "".join(reasons(journal, "note"))


def test_nothing_opens_before_the_first_answer():
    venue = Margined(says=lambda bar: math.nan)
    strategy, _, _ = played(venue)
    assert ends(strategy) == [("Rejected", DOUBT)]


def test_the_callable_of_the_user_goes_first():
    venue = Margined()
    _, _, monitor = played(venue, margin_ratio=lambda: 0.3)
    assert (monitor.venue.ratio, venue.asked) == (0.3, [])
    with pytest.raises(bt_risk.ParameterError, match="margin_ratio"):
        bt_risk.Live(margin_ratio=0.3)


def test_a_venue_that_asks_for_fewer_requests_is_left_alone():
    clock = Clock(0.01)
    venue = Margined(says=lambda bar: RuntimeError("429 Too Many Requests"))
    played(venue, clock=clock, retry_after=0.0)
    assert len(venue.asked) <= 4


# -- what an operator sees -------------------------------------------------------------------------


def test_status_and_live_page_show_both_ratios_and_the_call(tmp_path):
    class Called(Wants):
        def next(self):
            super().next()
            record = read_state(tmp_path / "risk.db").records.get(("run", "heartbeat"))
            if record:
                seen.append({one["name"]: one for one in record["limits"]})

    seen, ratio = [], {"now": 0.25}
    policy = bt_risk.Policy(
        risk_limit=None, exposure_limit=None, notional_limit=None, guards=[CROSS], sizer=False
    )
    times = iter(range(1_600_000_000, 1_700_000_000, 5))
    live = {"now": lambda: float(next(times)), "retry_after": 0.0}
    live["margin_ratio"] = lambda: ratio["now"]
    saved_run(tmp_path, ROWS[:23], policy, strategy=Called, live=live)
    last = seen[-1]
    assert last["margin ratio, venue"] == {
        "name": "margin ratio, venue",
        "used": 0.25,
        "limit": 0.45,
    }
    assert 0.0 < last["margin ratio"]["used"] < 0.01
    assert summary(tmp_path / "risk.db", 0.0)["gate"]["state"] == "ACTIVE"

    ratio["now"] = 0.9
    saved_run(tmp_path, ROWS[:26], policy, strategy=Called, live=live)
    status = summary(tmp_path / "risk.db", 0.0)
    assert status["gate"] == {
        "state": "REDUCING",
        "reason": "MarginAccount: the venue's margin ratio 0.90 >= 0.45",
    }
    assert "The gate is REDUCING (MarginAccount: the venue's" in headline(status)

    ratio["now"] = 0.1  # a restart goes on in the call, and two samples end it
    again = saved_run(tmp_path, ROWS[:29], policy, strategy=Called, live=live)
    assert summary(tmp_path / "risk.db", 0.0)["gate"]["state"] == "ACTIVE"
    notes = [line[-1] for line in again.broker.journal.lines if line[3] == "note"]
    assert "MarginAccount: margin ratio 0.10 < 0.45: entries are judged again" in notes
