"""Kill switch and states: what passes, what rests, what is closed, and what a signal does."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import backtrader as bt
import pytest
from helpers.fake_broker import FakeBroker
from helpers.live_feed import LiveFrame
from helpers.recording import ends, play
from helpers.scenarios import MODES, Plan, Script, bars, cerebro, flat, optimised, tape_of, taped

import bt_risk
from bt_risk import ParameterError

Limit, Stop = bt.Order.Limit, bt.Order.Stop


def gated(*rows, broker=None, frames=None):
    engine = cerebro(*(frames or [bars(*(rows or flat(40)))]))
    engine.setbroker(bt_risk.RiskBroker(broker or engine.broker))
    engine.addanalyzer(bt_risk.RiskJournal)
    return engine


def at_venue(*rows, stop=False, idle=6):
    engine = bt.Cerebro(stdstats=False)
    engine.adddata(LiveFrame(dataname=bars(*(rows or flat(40))), idle=idle), name="D0")
    engine.setbroker(bt_risk.RiskBroker(FakeBroker()))
    engine.addanalyzer(bt_risk.RiskJournal)
    if stop:
        engine.addobserver(bt_risk.ATRTrailingStop)
    return engine


def halt(s):
    s.broker.halt("news")


def reduce_only(s):
    s.broker.reduce_only("news")


def resume(s):
    s.broker.resume()


HOW = {"HALTED": halt, "REDUCING": reduce_only}


def statuses(strategy):
    return [end[0] for end in ends(strategy)]


def said(strategy, rule="RiskBroker"):
    decisions = strategy.analyzers.riskjournal.get_analysis()["decisions"]
    return [(d["action"], d["reason"]) for d in decisions if d["rule"] == rule]


# -- what passes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("state", HOW)
def test_nothing_opens_from_flat_on_either_side_until_resume(state):
    actions = {
        5: HOW[state],
        6: lambda s: (s.buy(size=1), s.sell(size=1), s.order_target_size(target=3)),
        7: lambda s: s.made.append(s.broker.state),
        8: resume,
        9: lambda s: s.buy(size=1),
    }
    strategy = play(gated(), actions)
    assert statuses(strategy) == ["Rejected"] * 3 + ["Completed"]
    assert ends(strategy)[0][-1] == "news"
    assert state in strategy.made
    assert strategy.broker.state == "ACTIVE"


@pytest.mark.parametrize("state", HOW)
def test_a_position_is_not_turned_round_by_one_order_nor_by_two(state):
    actions = {
        5: lambda s: s.buy(size=10),
        7: HOW[state],
        8: lambda s: (s.sell(size=4), s.sell(size=50), s.sell(size=10), s.close()),
        10: lambda s: s.sell(size=1),
    }
    strategy = play(gated(), actions)
    assert strategy.held[-1] == (0,)
    assert [end[:2] for end in ends(strategy)] == [
        ("Completed", 10),
        ("Completed", -4),
        ("Canceled", -6),
        ("Canceled", 0),
        ("Canceled", 0),
        ("Rejected", 0),
    ]


@pytest.mark.parametrize("state", HOW)
def test_resting_exits_and_stops_work_on(state):
    rows = [*flat(9), (100, 106, 99, 105), *flat(5, price=105.0)]
    actions = {
        5: lambda s: s.buy(size=10),
        6: lambda s: s.sell(size=10, exectype=Limit, price=104.0),
        7: HOW[state],
    }
    strategy = play(gated(*rows), actions)
    assert statuses(strategy) == ["Completed", "Completed"]
    assert strategy.held[-1] == (0,)


@pytest.mark.parametrize("state", HOW)
def test_a_stop_of_bt_risk_is_set_and_fills_in_every_state(state):
    rows = [*flat(24), (99, 99, 90, 91), *flat(5, price=91.0)]
    engine = gated(*rows)
    engine.addobserver(bt_risk.ATRTrailingStop)
    strategy = play(engine, {20: lambda s: s.buy(size=10), 21: HOW[state]})
    assert [row[1:3] for row in ends(strategy)] == [(10, 100.0), (-10, 96.0)]


# -- what rests -----------------------------------------------------------------------------------

DIP = [*flat(9), (100, 101, 94, 100), *flat(3), (100, 101, 94, 100), *flat(3)]


def test_a_halt_cancels_what_rests_at_once():
    actions = {
        5: lambda s: s.buy(size=1, exectype=Limit, price=95.0),
        7: halt,
        11: resume,
    }
    strategy = play(gated(*DIP), actions)
    assert [row[0::2][:2] for row in strategy.orders][-1] == (8, "Canceled")
    assert strategy.held[-1] == (0,)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", ["halt", "reduce_only"])
def test_an_entry_of_the_same_bar_is_cancelled_too(mode, how):
    """BackBroker has not accepted it yet, and cannot cancel it: it ends when it would fill."""
    plan = [
        (5, "buy", {"size": 1}),
        (5, how, {}),
        (8, "resume", {}),
        (9, "buy", {"size": 3}),
    ]
    tape = tape_of(taped(gated(), plan, mode, strategy=Switch))
    assert [fill[2] for fill in tape["fills"]] == [3]
    assert "Canceled" in [note[2] for note in tape["notes"]]


class Switch(Plan):
    def halt(self):
        self.broker.halt("news")

    def flatten(self):
        self.broker.halt("news", flatten=True)

    def reduce_only(self):
        self.broker.reduce_only("news")

    def resume(self):
        self.broker.resume()


@pytest.mark.parametrize("how", ["halt", "reduce_only"])
def test_an_entry_of_the_same_bar_takes_no_exit_with_it(how):
    """The stop is an alternative to the order that adds: BackBroker would cancel both."""
    rows = [*flat(9), (100, 101, 90, 91), *flat(5, price=91.0)]

    def add(s):
        more = s.buy(size=5)
        s.sell(size=10, exectype=Stop, price=95.0, oco=more)
        getattr(s.broker, how)("news")

    strategy = play(gated(*rows), {5: lambda s: s.buy(size=10), 7: add})
    assert statuses(strategy) == ["Completed", "Canceled", "Completed"]
    assert strategy.held[-1] == (0,)


@pytest.mark.parametrize("exectype", [Limit, Stop])
def test_reduce_only_holds_back_what_rests_and_lets_it_go_on_after_resume(exectype):
    price = 95.0 if exectype == Limit else 102.0
    rows = [*flat(9), (100, 103, 94, 100), *flat(3), (100, 103, 94, 100), *flat(3)]
    actions = {
        5: lambda s: s.buy(size=1, exectype=exectype, price=price),
        7: reduce_only,
        12: resume,
    }
    strategy = play(gated(*rows), actions)
    assert statuses(strategy) == ["Completed"]
    assert strategy.held[9] == strategy.held[12] == (0,)
    assert strategy.held[-1] == (1,)


def test_a_resting_reversal_only_closes_in_reduce_only():
    """What it would open is held back until `resume`, as every entry that rests."""
    rows = [*flat(9), (100, 106, 99, 105), *flat(5, price=105.0)]
    actions = {
        5: lambda s: s.buy(size=10),
        6: lambda s: s.sell(size=25, exectype=Limit, price=104.0),
        7: reduce_only,
        12: resume,
    }
    strategy = play(gated(*rows), actions)
    assert [fill[1] for fill in ends(strategy)] == [10, -25]
    assert strategy.held[9:12] == [(0,)] * 3
    assert strategy.held[-1] == (-15,)


def test_a_market_order_that_would_turn_round_only_closes_when_the_halt_comes_after_it():
    actions = {
        5: lambda s: s.buy(size=10),
        7: lambda s: (s.sell(size=25), s.broker.halt("news")),
    }
    strategy = play(gated(), actions)
    assert strategy.held[-1] == (0,)


def test_a_bracket_whose_parent_is_cancelled_goes_as_a_whole():
    actions = {
        5: lambda s: s.buy_bracket(size=1, price=95.0, stopprice=90.0, limitprice=110.0)[0],
        7: halt,
    }
    strategy = play(gated(*DIP), actions)
    assert statuses(strategy) == ["Canceled"] * 3


# -- flatten --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_a_halt_that_flattens_closes_everything_at_the_next_open(mode):
    plan = [
        (5, "buy", {"size": 10, "data": 0}),
        (5, "sell", {"size": 7, "data": 1}),
        (6, "sell", {"size": 10, "exectype": Limit, "price": 120.0, "data": 0}),
        (8, "flatten", {}),
        (9, "buy", {"size": 1, "data": 0}),
    ]
    engine = gated(frames=[bars(*flat(20)), bars(*flat(20))])
    strategy = taped(engine, plan, mode, strategy=Switch)
    tape = tape_of(strategy)
    assert tape["fills"][2:] == [(9, "D0", -10, 100.0), (9, "D1", 7, 100.0)]
    assert tape["positions"][-1] == (0, 0)
    assert len(tape["reasons"]) == 1
    assert [line[0] for line in said(strategy)] == ["halt", "flat", "reject"]
    assert strategy.broker.inner.get_orders_open() == []


def test_a_user_s_exit_during_the_flatten_is_covered_already():
    actions = {
        5: lambda s: s.buy(size=10),
        7: lambda s: (s.broker.halt("news", flatten=True), s.close()),
    }
    strategy = play(gated(), actions)
    assert strategy.held[-1] == (0,)
    assert ("Rejected", 0, 0.0, "news; it is being closed already") in ends(strategy)


@pytest.mark.parametrize("reach", [True, False])
def test_a_venue_is_not_sold_twice_by_the_stop_and_the_flatten(reach):
    """The bar after the halt goes through the stop at 96: one of the two orders must be gone."""
    after = [(99, 99, 90, 91), *flat(4, price=91.0)] if reach else flat(5)
    engine = at_venue(*flat(24), *after, stop=True, idle=0)
    actions = {20: lambda s: s.buy(size=10), 24: lambda s: s.broker.halt("news", flatten=True)}
    strategy = play(engine, actions)
    assert engine.broker.inner.sizes == [10, 0]
    assert strategy.held[-1] == (0,)


def test_a_venue_is_flat_after_a_halt_with_a_take_profit_and_the_stop_at_work():
    engine = at_venue(*flat(24), (100, 121, 99, 100), *flat(6), stop=True, idle=0)
    actions = {
        20: lambda s: s.buy(size=10),
        22: lambda s: s.sell(size=10, exectype=Limit, price=120.0),
        23: lambda s: s.broker.halt("news", flatten=True),
    }
    strategy = play(engine, actions)
    assert min(engine.broker.inner.sizes) == 0
    assert strategy.held[-1] == (0,)


def test_a_position_after_the_flatten_has_its_stop_again():
    engine = at_venue(*flat(40), stop=True)
    actions = {
        20: lambda s: s.buy(size=10),
        22: lambda s: s.broker.halt("news", flatten=True),
        30: lambda s: (s.broker.resume(), s.buy(size=5)),
    }
    play(engine, actions)
    assert engine.broker.inner.resting[-1] == -5


def test_at_a_venue_reduce_only_cancels_what_rests():
    rows = [*flat(12), (100, 101, 94, 100), *flat(5)]
    engine = at_venue(*rows)
    actions = {
        5: lambda s: s.buy(size=1, exectype=Limit, price=95.0),
        8: reduce_only,
    }
    strategy = play(engine, actions)
    assert statuses(strategy) == ["Canceled"]
    assert strategy.held[-1] == (0,)


# -- who may ask for what -------------------------------------------------------------------------


def test_every_change_is_a_line_with_its_reason_and_no_change_is_none():
    actions = {
        3: resume,
        5: reduce_only,
        6: reduce_only,
        7: halt,
        8: halt,
        9: reduce_only,
        10: lambda s: s.made.append(s.broker.state),
        12: resume,
        13: lambda s: s.broker.set_state("watchdog", "REDUCING", "watchdog: no heartbeat"),
        15: lambda s: s.broker.set_state("watchdog", "ACTIVE"),
    }
    strategy = play(gated(), actions)
    assert said(strategy) == [
        ("reduce", "news"),
        ("halt", "news"),
        ("resume", "resumed by the operator"),
        ("reduce", "watchdog: no heartbeat"),
        ("resume", "watchdog: ACTIVE"),
    ]
    assert "HALTED" in strategy.made  # reduce_only does not soften a halt


def test_resume_does_not_undo_a_breaker():
    rows, seen = [*flat(6), (100, 100, 80, 80), *flat(20, price=80.0)], []
    engine = gated(*rows)
    engine.addanalyzer(bt_risk.DrawdownBreaker, drawdown_limit=0.1, action="pause")
    actions = {
        4: lambda s: s.buy(size=900),
        9: lambda s: (s.broker.halt("news"), s.broker.resume()),
        10: lambda s: (seen.append(s.broker.state), s.buy(size=1)),
        12: lambda s: s.analyzers.drawdownbreaker.rearm(),
        13: lambda s: s.buy(size=1),
    }
    strategy = play(engine, actions)
    assert seen == ["REDUCING"]
    assert statuses(strategy) == ["Completed", "Completed", "Rejected", "Completed"]
    action, reason = said(strategy)[-1]
    assert action == "resume"
    assert reason.startswith("resumed by the operator; still REDUCING: DrawdownBreaker: drawdown")


def test_a_breaker_that_re_arms_does_not_undo_a_halt():
    rows = [*flat(6), (100, 100, 80, 80), *flat(20, price=80.0)]
    engine = gated(*rows)
    options = {"drawdown_limit": 0.1, "action": "pause", "cooldown_bars": 3}
    engine.addanalyzer(bt_risk.DrawdownBreaker, **options)
    actions = {4: lambda s: s.buy(size=900), 9: halt, 20: lambda s: s.buy(size=1)}
    strategy = play(engine, actions)
    assert strategy.analyzers.drawdownbreaker.state == "ARMED"
    assert statuses(strategy)[-1] == "Rejected"


@pytest.mark.parametrize("maxcpus", [1, 2])
def test_every_point_of_an_optimisation_and_a_second_run_begin_active(maxcpus):
    plan = [(5, "halt", {}), (6, "buy", {"size": 1})]
    points = optimised(gated(), [plan, plan[1:], plan], maxcpus, strategy=Switch)
    assert [len(tape_of(p)["fills"]) for p in points] == [0, 1, 0]
    engine = gated()
    engine.addstrategy(Script, actions={5: halt})
    engine.run()
    assert engine.run()[0].broker.state == "HALTED"
    assert len(engine.runningstrats[0].analyzers.riskjournal.frame()) == 1


def test_a_halt_in_observe_mode_changes_nothing_and_says_so():
    plan = [
        (5, "buy", {"size": 5}),
        (6, "buy", {"size": 1, "exectype": Limit, "price": 95.0}),
        (7, "flatten", {}),
        (8, "buy", {"size": 2}),
    ]

    class Free(Switch):
        def flatten(self):
            pass

    def run(strategy, protect):
        engine = cerebro(bars(*DIP))
        if protect:
            bt_risk.protect(engine, mode="observe")
        return taped(engine, plan, strategy=strategy)

    observed = run(Switch, True)
    assert tape_of(observed) == tape_of(run(Free, False))
    assert [line[0] for line in said(observed)] == ["halt", "reject"]
    assert said(observed)[1] == ("reject", "news")


@pytest.mark.parametrize("reason", ["", " ", None, 3])
@pytest.mark.parametrize("how", ["halt", "reduce_only"])
def test_a_reason_is_asked_for(how, reason):
    with pytest.raises(ParameterError, match="RiskBroker: reason must be a few words"):
        getattr(bt_risk.RiskBroker(), how)(reason)


def test_a_state_that_does_not_exist_is_refused():
    with pytest.raises(ParameterError, match="state must be one of 'ACTIVE', 'REDUCING', 'HALTED'"):
        bt_risk.RiskBroker().set_state("me", "CLOSED")
    with pytest.raises(ParameterError, match="flatten must be True or False; got 1"):
        bt_risk.RiskBroker().halt("news", flatten=1)


# -- signals --------------------------------------------------------------------------------------

LIVE = """
import os, signal, sys, time
# Tests that run in the background of a shell ignore it, and so does what they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path[:0] = {tests!r}
import backtrader as bt
import bt_risk
from helpers.scenarios import Script, bars, flat
from helpers.live_feed import LiveFrame
from helpers.fake_broker import FakeBroker

class Slow(LiveFrame):
    def _load(self):
        time.sleep(0.002)
        return super()._load()

engine = bt.Cerebro(stdstats=False)
engine.adddata(Slow(dataname=bars(*flat(2000)), idle=2), name="D0")
engine.setbroker(bt_risk.RiskBroker(FakeBroker()))
engine.addobserver(bt_risk.ATRTrailingStop)
engine.addanalyzer(bt_risk.RiskJournal, path={path!r})

def rest(s):
    s.buy(size=1, exectype=bt.Order.Limit, price=50.0)

def ready(s):
    print("ready", flush=True)
    {then}

actions = {{20: lambda s: s.buy(size=10), 22: rest, 25: ready}}
engine.addstrategy(Script, actions=actions)
before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
strategy = engine.run()[0]
assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
print("ended", len(strategy), engine.broker.inner.resting[-1], strategy.orders[-1][2], flush=True)
"""


def live_process(tmp_path, then="pass"):
    tests = [str(Path(__file__).parents[1])]
    script = textwrap.dedent(LIVE).format(tests=tests, path=str(tmp_path / "risk.csv"), then=then)
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_live_run_with_entries_cancelled_and_the_stop_at_work(tmp_path, number):
    process = live_process(tmp_path)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    ended, bars_seen, resting, last = out.split()
    assert ended == "ended"
    assert 25 <= int(bars_seen) < 2000
    assert int(resting) == -10  # the stop of the ten that are held rests on at the venue
    assert last == "Canceled"  # and the strategy has heard of its entry
    journal = (tmp_path / "risk.csv").read_text(encoding="utf-8")
    assert f"{number.name} received" in journal
    assert re.search(r"\+10 D0: left open, stops at 96\b", journal)
    assert re.search(r"\+10 D0: left open, stops at 96\b", err)


def test_a_second_signal_acts_as_before(tmp_path):
    """The venue does not confirm the cancel: the first signal waits for it."""
    deaf = "engine.broker.inner.cancel = lambda order: None"
    process = live_process(tmp_path, deaf)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)  # two at once are one to the system
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "KeyboardInterrupt" in err


def test_a_venue_that_never_confirms_is_not_waited_for_for_ever(tmp_path):
    process = live_process(tmp_path, "engine.broker.inner.cancel = lambda order: None")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.startswith("ended")
    assert "+1 D0: an entry whose cancel is not confirmed" in err


@pytest.fixture(autouse=True)
def _ctrl_c_interrupts():
    """Wherever the tests run: in the background of a shell it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def handlers():
    return signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)


def test_a_backtest_and_observe_mode_leave_the_signals_alone():
    before, seen = handlers(), []
    play(gated(), {5: lambda s: seen.append(handlers())})
    engine = at_venue()
    engine.setbroker(FakeBroker())
    bt_risk.protect(engine, mode="observe")
    play(engine, {5: lambda s: seen.append(handlers())})
    assert seen == [before, before]


def test_a_live_run_gives_the_signals_back_and_takes_none_that_is_ignored():
    before, seen = handlers(), []
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        play(at_venue(), {5: lambda s: seen.append(handlers())})
        assert seen[0][0] == signal.SIG_IGN
        assert seen[0][1] not in (before[1], signal.SIG_IGN)
        assert handlers() == (signal.SIG_IGN, before[1])
    finally:
        signal.signal(signal.SIGTERM, before[0])


def test_a_live_run_in_another_thread_installs_nothing():
    seen, before = [], handlers()
    thread = threading.Thread(
        target=lambda: play(at_venue(), {5: lambda s: seen.append(handlers())})
    )
    thread.start()
    thread.join()
    assert seen == [before]


def test_after_a_run_that_ended_by_an_error_the_first_signal_acts_as_before():
    def fail(s):
        raise ZeroDivisionError

    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # another test's run may have ended like that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    before = handlers()
    engine = at_venue()
    with pytest.raises(ZeroDivisionError):
        play(engine, {5: fail})
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert handlers() == before


def test_after_a_run_that_ended_by_an_error_another_run_ends_by_a_signal():
    """As a worker of an optimisation does, which was told to end and never did."""

    def fail(s):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        play(at_venue(), {5: fail})
    with pytest.raises(KeyboardInterrupt):
        play(gated(), {5: lambda s: signal.raise_signal(signal.SIGINT)})


def test_a_worker_that_a_live_run_has_forked_ends_by_a_signal():
    ended = []

    def fork(s):
        pid = os.fork()
        if not pid:
            signal.raise_signal(signal.SIGTERM)
            os._exit(0)
        ended.append(os.waitpid(pid, 0)[1])

    play(at_venue(), {5: fork})
    assert [os.WTERMSIG(status) for status in ended] == [signal.SIGTERM]
