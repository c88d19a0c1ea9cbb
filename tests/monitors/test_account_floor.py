"""AccountFloor in a run: halts, days, flows, shorts, futures, restarts and live samples."""

from dataclasses import replace

import backtrader as bt
import pytest
from helpers import hostile_brokers as hostile
from helpers.fake_broker import FakeBroker
from helpers.persistent_broker import read
from helpers.recording import play
from helpers.restarts import POLICY, ROWS, Wants, run
from helpers.scenarios import MODES, bars, cerebro, flat, tape_of, taped

import bt_risk
from bt_risk import AccountFloor
from bt_risk.monitors.account_floor import FloorMonitor
from bt_risk.report.state_summary import gate_state
from bt_risk.state.file import read_state, request
from bt_risk.state.requests import OperatorRequest
from bt_risk.state.rooms import limits_in_use

CASH = 100_000.0


def ramp(*closes, start=100.0):
    """Return rows whose closes are these; each opens at the close before."""
    rows, before = [], start
    for close in closes:
        rows.append((before, max(before, close) + 0.1, min(before, close) - 0.1, close))
        before = close
    return rows


def floored(rows, *floors, freq="1D", start="2024-01-01", broker=None, **options):
    engine = cerebro(bars(*rows, freq=freq, start=start))
    engine.broker.setcash(CASH)
    if broker is not None:
        engine.setbroker(broker)
    engine.setbroker(bt_risk.RiskBroker(engine.broker, guards=list(floors), **options))
    engine.addanalyzer(bt_risk.RiskJournal)
    return engine


def lines(strategy, rule="AccountFloor"):
    decisions = strategy.analyzers.riskjournal.get_analysis()["decisions"]
    return [(d["action"], d["reason"]) for d in decisions if d["rule"] == rule]


def buy(size=500):
    return lambda s: s.buy(size=size)


def monitor(strategy):
    return strategy.broker.registry.monitor(FloorMonitor)


FALL = ramp(*[100.0] * 5, 99.0, 95.0, 85.0, 79.0, 78.0, 78.0, 78.0, 78.0)
# 500 bought at 100 on bar 4: 99,500, 97,500, 92,500, 89,500 (bar 9), closed on bar 10 at 79.


def test_a_static_floor_closes_at_the_next_open_and_ends_the_run():
    strategy = play(floored(FALL, AccountFloor(0.10)), {3: buy()})
    assert lines(strategy) == [
        ("halt", "AccountFloor: equity 89,500.00 <= the floor 90,000.00"),
        ("flat", "flat at an equity of 89,500.00"),
    ]
    assert len(strategy) == 10
    assert strategy.position.size == 0


def test_a_protected_run_ends_on_the_same_bar():
    engine = cerebro(bars(*FALL))
    engine.broker.setcash(CASH)
    policy = bt_risk.Policy(
        risk_limit=None,
        exposure_limit=None,
        drawdown_limit=None,
        trailing_stop=False,
        sizer=False,
        guards=[AccountFloor(0.10)],
    )
    bt_risk.protect(engine, policy)
    # Before the ATR is known nothing is bought by a risk rule: the floor alone needs none.
    strategy = play(engine, {3: buy()})
    assert [action for action, _ in lines(strategy)] == ["halt", "flat"]
    assert len(strategy) == 10


@pytest.mark.parametrize("mode", MODES)
def test_every_engine_mode_halts_on_the_same_bar(mode):
    plan = [(3, "buy", {"size": 500})]
    tape = tape_of(taped(floored(FALL, AccountFloor(0.10, action="pause")), plan, mode))
    assert [(bar, *rest) for bar, *rest in tape["fills"]][1][0] == 10


def test_a_pause_refuses_entries_and_lets_the_run_go_on():
    tries = {11: buy(1)}
    strategy = play(floored(FALL, AccountFloor(0.10, action="pause")), {3: buy()} | tries)
    assert len(strategy) == len(FALL)
    assert strategy.position.size == 0
    reason = "AccountFloor: equity 89,500.00 <= the floor 90,000.00"
    assert [d["reason"].partition(";")[0] for d in refused(strategy)] == [reason]


def refused(strategy):
    decisions = strategy.analyzers.riskjournal.get_analysis()["decisions"]
    return [d for d in decisions if d["action"] == "reject"]


def test_without_flatten_the_position_stays_and_exits_pass():
    floor = AccountFloor(0.10, action="pause", flatten=False)
    strategy = play(floored(FALL, floor), {3: buy(), 10: lambda s: s.sell(size=200)})
    assert strategy.position.size == 300
    assert [action for action, _ in lines(strategy)] == ["halt"]


def test_a_short_is_closed_too():
    rows = ramp(*[100.0] * 5, 105.0, 110.0, 121.0, 121.0, 121.0)
    strategy = play(floored(rows, AccountFloor(0.10)), {3: lambda s: s.sell(size=500)})
    assert lines(strategy)[0][1] == "AccountFloor: equity 89,500.00 <= the floor 90,000.00"
    assert strategy.position.size == 0


def test_a_future_counts_with_its_multiplier_and_below_zero():
    """10 contracts of 50 a point fall from 20 to -1: 10,500 lost."""
    rows = [(20, 20.2, 19.8, 20)] * 5 + [(20, 20, 9, 10), (10, 10, -1, -1)] + [(-1, 0, -2, -1)] * 4
    facts = {"D0": {"negative_prices": True}}
    engine = floored(rows, AccountFloor(0.10), instruments=facts, bar_jump=None)
    engine.broker.setcommission(commission=0, margin=1_000, mult=50.0)
    strategy = play(engine, {3: buy(10)})
    assert lines(strategy)[0][1] == "AccountFloor: equity 89,500.00 <= the floor 90,000.00"
    assert strategy.position.size == 0


# -- trailing modes -------------------------------------------------------------------------------

# 500 bought on bar 4: 105,000 on bar 6 (open profit), sold on bar 8 at 104: 102,000 closed.
RISE = ramp(*[100.0] * 4, 105.0, 110.0, 104.0, 104.0, *[104.0] * 6)


@pytest.mark.parametrize(
    ("mode", "floor"),
    [
        ("static", 97_000),
        ("trailing_closed", 99_000),
        ("trailing_eod", 99_000),
        ("trailing_intraday", 102_000),
    ],
)
def test_each_mode_follows_its_own_number(mode, floor):
    """3,000 below 100,000; the closed 102,000; the same at a day's end; the open 105,000."""
    guard = AccountFloor(3_000, mode, action="pause", flatten=False)
    strategy = play(floored(RISE, guard), {3: buy(), 7: lambda s: s.close()})
    assert monitor(strategy).state.floor == floor


def test_the_reference_is_the_number_at_the_end_of_a_day():
    guard = AccountFloor(3_000, "trailing_eod", reference="equity", action="pause", flatten=False)
    strategy = play(floored(RISE, guard), {3: buy(), 7: lambda s: s.close()})
    assert monitor(strategy).state.floor == 102_000


# -- the day --------------------------------------------------------------------------------------

HOURS = ramp(*[100.0] * 22, 97.0, 96.0, 95.0, 93.0, *[93.0] * 30)
# From 2024-01-01 00:00 UTC: Prague's midnight is 23:00 UTC, with bar 24 (96.0).


def test_the_day_of_prague_begins_at_23_utc_in_winter():
    guard = AccountFloor(daily=0.03, action="pause")
    strategy = play(floored(HOURS, guard, freq="1h"), {20: buy(1_000)})
    # 97,000 at 22:00 is the floor of the first day already.
    assert lines(strategy)[0] == (
        "halt",
        "AccountFloor: equity 97,000.00 <= the floor of the day 97,000.00",
    )
    guard = AccountFloor(daily=0.05, action="pause")
    strategy = play(floored(HOURS, guard, freq="1h"), {20: buy(1_000)})
    # 95,000 at 00:00 UTC: of the new day, whose balance is 100,000 still.
    assert monitor(strategy).trips[0]["floor"] == 95_000
    guard = AccountFloor(daily=0.05, action="pause", reference="equity")
    strategy = play(floored(HOURS, guard, freq="1h"), {20: buy(1_000)})
    # The equity of 22:00 is 97,000: 92,000 is not touched by 93,000.
    assert lines(strategy) == []


def test_a_daily_pause_lets_entries_pass_on_the_next_day():
    guard = AccountFloor(0.10, daily=0.03, on_daily="pause")
    tries = {24: buy(1), 30: buy(1)}
    rows = ramp(*[100.0] * 15, 96.0, *[96.0] * 40)
    strategy = play(floored(rows, guard, freq="1h"), {10: buy(1_000), 18: buy(1)} | tries)
    assert [action for action, _ in lines(strategy)] == ["halt", "flat", "reject", "rearm"]
    assert len(refused(strategy)) == 1
    assert strategy.position.size == 2


def test_a_session_over_midnight_is_a_day():
    guard = AccountFloor(daily=0.03, reset="session", action="pause")
    engine = floored(HOURS, guard, freq="1h")
    strategy = play(engine, {20: buy(1_000)})
    assert monitor(strategy).trips[0]["equity_at_trip"] == 97_000


# -- flows ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["add_cash", "set_cash", "cash_flow"])
@pytest.mark.parametrize("amount", [50_000.0, -20_000.0])
def test_flows_move_no_floor(how, amount):
    """10 % of 100,000 may be lost, whatever is paid in or out meanwhile."""

    def pay(strategy):
        broker = strategy.broker
        if how == "add_cash":
            broker.add_cash(amount)
        elif how == "set_cash":
            broker.set_cash(broker.get_cash() + amount)
        else:
            bt_risk.cash_flow(strategy, amount)

    guard = AccountFloor(0.10, "trailing_intraday")
    strategy = play(floored(FALL, guard), {3: buy(), 5: pay})
    floor, equity = 90_000 + amount, 89_500 + amount
    assert lines(strategy)[0] == (
        "halt",
        f"AccountFloor: equity {equity:,.2f} <= the floor {floor:,.2f}",
    )


# -- what is not one sample -----------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [(100, 101, 99, 0.0), (100, 1000, 99, 1000.0)])
@pytest.mark.parametrize("side", ["buy", "sell"])
@pytest.mark.parametrize("mode", ["static", "trailing_intraday"])
def test_one_wrong_bar_moves_no_floor_and_trips_nothing(wrong, side, mode):
    rows = flat(60)
    rows[40] = wrong
    guard = AccountFloor(0.10, mode, daily=0.05)
    strategy = play(floored(rows, guard), {30: lambda s: getattr(s, side)(size=250)})
    assert lines(strategy) == []
    assert len(strategy) == 60
    assert monitor(strategy).state.floor == pytest.approx(90_000, abs=300)


def test_observe_mode_closes_nothing_and_says_what_would_have_been():
    engine = cerebro(bars(*FALL))
    engine.broker.setcash(CASH)
    policy = bt_risk.Policy(
        risk_limit=None, exposure_limit=None, drawdown_limit=None, guards=[AccountFloor(0.10)]
    )
    bt_risk.protect(engine, policy, mode="observe")
    strategy = play(engine, {3: buy()})
    assert strategy.position.size == 500
    assert len(strategy) == len(FALL)
    assert lines(strategy)[0][0] == "halt"


def test_two_data_feeds_and_two_strategies_are_one_account():
    engine = floored(FALL, AccountFloor(0.10, action="pause"))
    engine.adddata(bt_risk.FrameData(dataname=bars(*FALL, start="2024-01-01")), name="D1")

    class Half(bt.Strategy):
        params = dict(data=0)

        def next(self):
            if len(self) == 4:
                self.buy(data=self.datas[self.p.data], size=250)

    engine.addstrategy(Half, data=0)
    engine.addstrategy(Half, data=1)
    first, second = engine.run()
    assert [len(first), len(second)] == [len(FALL)] * 2
    assert lines(first)[0][1] == "AccountFloor: equity 89,500.00 <= the floor 90,000.00"
    assert not first.getposition(first.data0).size
    assert not first.getposition(first.data1).size


# -- inside the bar -------------------------------------------------------------------------------

# 500 bought at 100 on bar 4; bar 6 falls to 79 inside and ends at 99.
DIP = [*flat(5, width=0.2), (100, 100.2, 79, 99), *flat(5, price=99.0, width=0.2)]


def test_a_low_inside_the_bar_is_judged_where_it_is_asked_for():
    assert lines(play(floored(DIP, AccountFloor(0.10)), {3: buy()})) == []
    strategy = play(floored(DIP, AccountFloor(0.10, trigger="intrabar")), {3: buy()})
    assert lines(strategy) == [
        ("halt", "AccountFloor: equity inside the bar 89,500.00 <= the floor 90,000.00"),
        ("flat", "flat at an equity of 99,500.00"),
    ]
    (trip,) = monitor(strategy).trips
    assert (trip["equity_at_trip"], trip["overshoot"]) == (89_500, -9_500)


def test_a_high_inside_the_bar_moves_a_floor_that_trails_inside_the_day():
    """Bar 6 rises to 110 and ends at 101: 105,000 were open, 500 of 3,000 are left at its end."""
    rows = [*flat(5, width=0.2), (100, 110, 99.8, 101), *flat(5, price=101.0, width=0.2)]
    guard = AccountFloor(6_000, "trailing_intraday", trigger="intrabar")
    strategy = play(floored(rows, guard), {3: buy()})
    assert monitor(strategy).state.floor == 99_000
    assert lines(strategy) == []
    short = play(
        floored([(o, 200 - low, 200 - h, 200 - c) for o, h, low, c in rows], guard),
        {3: lambda s: s.sell(size=500)},
    )
    assert monitor(short).state.floor == 99_000


# -- taper ----------------------------------------------------------------------------------------


def test_risk_is_scaled_down_over_the_last_half_of_the_room():
    """At 92,500 three quarters of the room are lost: half of the last half is left."""
    guard = AccountFloor(0.10, taper_to_floor=0.5, action="pause")
    strategy = play(floored(FALL, guard), {3: buy(), 8: buy(10)})
    sizes = [abs(d["allowed"]) for d in decisions(strategy, "trim")]
    assert sizes == [5]
    assert decisions(strategy, "trim")[0]["reason"] == (
        "AccountFloor: tapered to 0.5000 of the size"
    )


def decisions(strategy, action):
    found = strategy.analyzers.riskjournal.get_analysis()["decisions"]
    return [d for d in found if d["action"] == action]


# -- a restart ------------------------------------------------------------------------------------

# Long 1000 from bar 28 on at 97: 97 earlier trades aside, the account loses 1,000 a point.
FLOOR = AccountFloor(0.06, "trailing_eod", lock=0.0, daily=0.04)


def restarted(folder, *ends, floor=FLOOR):
    """Return the strategies of runs that end after so many bars, one after the other."""
    policy = replace(POLICY, drawdown_limit=None, guards=[floor])
    return [run(folder, rows=ROWS[:end], policy=policy) for end in ends]


def test_a_halt_lasts_until_it_is_rearmed(tmp_path):
    first, second = restarted(tmp_path, len(ROWS), len(ROWS))
    (action, reason), *_ = lines(first)
    assert action == "halt"
    assert second.broker.state == "HALTED"
    assert read(tmp_path / "venue.json")["positions"]["D0"][0] == 0
    saved = read_state(tmp_path / "risk.db")
    assert gate_state(saved) == ("HALTED", reason)
    request(tmp_path / "risk.db", OperatorRequest("rearm"))
    rows = [*ROWS, *flat(4, price=89.0)]
    policy = replace(POLICY, drawdown_limit=None, guards=[FLOOR])
    third = run(tmp_path, rows=rows, policy=policy)
    assert third.broker.state == "ACTIVE"
    assert read(tmp_path / "venue.json")["positions"]["D0"][0] == 1000
    state = monitor(third).state
    assert state.reference == pytest.approx(third.broker.equity(), abs=1_500)


@pytest.mark.parametrize("at", [22, 24, 27, 29, 31, 32])
def test_a_floor_is_the_same_with_a_restart(tmp_path, at):
    """Mark, day, reference and balance go on, whenever the run ends."""
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    (whole,) = restarted(tmp_path / "whole", 33)
    *_, last = restarted(tmp_path / "parts", at, 33)
    assert monitor(last).state.persist() == pytest.approx(monitor(whole).state.persist())
    assert monitor(last).trips == monitor(whole).trips


def test_the_end_of_the_last_day_is_known_after_a_restart(tmp_path):
    """97,000 at the end of the day of the first run: 4,500 less are touched by 92,000."""
    rows = [*flat(20), (100, 100, 97, 97), (97, 97, 92, 92), *flat(3, price=92.0)]
    guard = AccountFloor(daily=4_500.0, reference="equity", action="pause", reset="00:00 UTC")
    policy = replace(POLICY, drawdown_limit=None, guards=[guard])
    runs = [run(tmp_path, rows=rows[:end], policy=policy, strategy=Early) for end in (21, 25)]
    assert lines(runs[0]) == []
    assert [action for action, _ in lines(runs[1])][:2] == ["halt", "flat"]


class Early(Wants):
    """Hold 1000 from bar 15 on."""

    def next(self):
        if len(self.data) >= 15 and not self.position and not self.waiting():
            self.buy(size=1_000)


# -- a live broker --------------------------------------------------------------------------------

LIVE_FALL = [*flat(22), (100, 100, 95, 95), (95, 95, 88, 88), *flat(10, price=88.0)]


class Bank(FakeBroker):
    """Have `paid` come in or go out in the first round after bar 26."""

    params = (("paid", 0.0),)

    def next(self):
        super().next()
        if len(self.cerebro.datas[0]) >= 26:
            self.cash, self.p.paid = self.cash + self.p.paid, 0.0


def live(rows, *floors, venue=None):
    venue = venue or FakeBroker()
    strategy, _ = hostile.run(venue, rows, {20: buy(900)}, stop=False, guards=floors)
    return strategy, venue


def test_a_live_account_is_closed_after_two_samples():
    strategy, venue = live(LIVE_FALL, AccountFloor(0.10))
    assert [action for action, _ in lines(strategy)] == ["halt", "flat"]
    assert venue.sizes[-1] == 0


def test_one_sample_of_a_fall_closes_nothing():
    """With one sample a bar the bar after the fall is the second one."""
    venue, actions = FakeBroker(), {20: buy(900)}
    strategy, journal = hostile.run(
        venue, LIVE_FALL, actions, stop=False, guards=[AccountFloor(0.10)], feed=dict(idle=0)
    )
    halted = journal[journal.action == "halt"].time.iloc[0]
    assert halted == bars(*LIVE_FALL).index[24]


@pytest.mark.parametrize("mode", ["static", "trailing_intraday", "trailing_closed"])
@pytest.mark.parametrize("says", [0.5, 1.8])
def test_one_sample_of_a_live_broker_is_never_enough(mode, says):
    venue = hostile.Valued(says=lambda v, bar, true: true * says if bar == 26 else true)
    strategy, _ = live(flat(40), AccountFloor(0.10, mode, daily=0.05), venue=venue)
    assert lines(strategy) == []
    assert monitor(strategy).state.mark == pytest.approx(100_000, abs=100)


@pytest.mark.parametrize("amount", [-15_000.0, 30_000.0])
def test_a_flow_of_a_live_account_moves_no_floor(amount):
    venue = Bank(paid=amount)
    strategy, _ = live(flat(40), AccountFloor(0.10, "trailing_intraday", daily=0.05), venue=venue)
    assert lines(strategy) == []
    found = monitor(strategy)
    assert found.account.flows == pytest.approx(amount)
    assert found.state.mark == pytest.approx(100_000, abs=1)


def test_the_heartbeat_has_what_is_lost_and_what_may_be_lost():
    """92,500 on bar 8, of the initial 100,000; the day began with a balance of 100,000."""
    floor = AccountFloor(0.10, daily=8_000.0)
    gate = play(floored(FALL[:8], floor), {3: buy()}).broker
    uses = limits_in_use(gate.registry.monitors, [], gate.book)
    assert [(use["name"], use["used"], use["limit"]) for use in uses] == [
        ("account_floor", pytest.approx(0.075), pytest.approx(0.10)),
        ("account_floor of the day", pytest.approx(0.075), pytest.approx(0.08)),
    ]
