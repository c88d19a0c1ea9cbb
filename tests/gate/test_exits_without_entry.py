"""Exits whose entry is gone when trading is halted: they could only open, so that they end with it.

The market stands still at 100; bar 10 reaches every price from 90 to 110. Trading is resumed at
once, so that nothing but the halt itself keeps such an order from opening a position.
"""

import dataclasses
import datetime as dt

import backtrader as bt
import pytest
from helpers.scenarios import MODES, Plan, bars, cerebro, flat, tape_of, taped

import bt_risk
from bt_risk import Blackout, Decision
from bt_risk.limits.trade_guards import Guard

Market, Close, Limit, Stop = bt.Order.Market, bt.Order.Close, bt.Order.Limit, bt.Order.Stop
ROWS = [*flat(9), (100, 110, 90, 100), *flat(4), (100, 110, 90, 100), *flat(3)]
GONE = "execution: cancelled, the entry that it was to close did not fill"
# Exits of a long position, by name: their arguments.
EXITS = {
    "market": {"exectype": Market},
    "close": {"exectype": Close},
    "limit": {"exectype": Limit, "price": 104},
    "stop": {"exectype": Stop, "price": 96},
    "stop limit": {"exectype": bt.Order.StopLimit, "price": 96, "plimit": 92},
    "trailing": {"exectype": bt.Order.StopTrail, "price": 100, "trailamount": 4},
}
RESTING = [name for name in EXITS if name not in ("market", "close")]


class Switch(Plan):
    """Halt and resume on one bar, or do what else a plan says of the gate."""

    def switch(self):
        self.broker.halt("news")
        self.broker.resume()

    def count(self):
        return [(w.closing, w.opening, w.remaining) for w in self.broker.book.working.values()]

    def cancel_entry(self):
        self.cancel(self.made[0])

    def reduce(self):
        self.broker.reduce_only("news")
        self.broker.resume()


def mirror(plan):
    swap = {"buy": "sell", "sell": "buy"}
    prices = {"price", "plimit"}
    return [
        (bar, swap.get(verb, verb), {k: 200 - v if k in prices else v for k, v in args.items()})
        for bar, verb, args in plan
    ]


def leave(name, bar=5, size=10):
    return (bar, "sell", {"size": size, **EXITS[name]})


def outcome(plan, side=1, mode="runonce", rows=ROWS, filler=None, margin=None, guards=()):
    engine = cerebro(bars(*rows))
    if filler:
        engine.broker.set_filler(Filler(filler))
    if margin:
        engine.broker.setcommission(margin=margin)
    limits = [bt_risk.NotionalLimit(1e9)]
    engine.setbroker(bt_risk.RiskBroker(engine.broker, limits=limits, guards=guards))
    engine.addanalyzer(bt_risk.RiskJournal)
    plan = plan if side > 0 else mirror(plan)
    strategy = taped(engine, plan, mode, strategy=Switch)
    return strategy, tape_of(strategy)


class Filler:
    """Fill so many units a bar."""

    def __init__(self, units):
        self.units = units

    def __call__(self, order, price, ago):
        return self.units


def reasons(strategy):
    decisions = strategy.analyzers.riskjournal.get_analysis()["decisions"]
    return [line["reason"] for line in decisions if line["rule"] == "execution"]


@pytest.mark.parametrize("how", ["switch", "reduce"])
@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("name", EXITS)
def test_an_entry_that_a_halt_cancels_takes_its_exits_along(name, side, how):
    plan = [(5, "buy", {"size": 10}), leave(name), (5, how, {})]
    _, tape = outcome(plan, side)
    assert tape["fills"] == []
    assert [note[1:] for note in tape["notes"][-2:]] == [(0, "Canceled"), (1, "Canceled")]


@pytest.mark.parametrize("mode", MODES)
def test_every_engine_does_the_same(mode):
    plan = [(5, "buy", {"size": 10}), leave("market"), leave("stop"), (5, "switch", {})]
    _, tape = outcome(plan, mode=mode)
    assert tape["fills"] == []


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("name", RESTING)
def test_an_exit_whose_entry_ended_margin_is_an_entry_to_a_halt(name, side):
    plan = [(5, "buy", {"size": 1_000}), leave(name), (7, "switch", {})]
    strategy, tape = outcome(plan, side, margin=1_000.0)
    assert (6, 0, "Margin") in tape["notes"]
    assert tape["fills"] == []
    assert reasons(strategy) == [GONE]


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("ends", [{}, {"valid": dt.timedelta(days=1)}])
def test_an_exit_whose_entry_was_cancelled_or_expired_is_an_entry_to_a_halt(ends, side):
    entry = {"size": 10, "exectype": Limit, "price": 98, **ends}
    plan = [(5, "buy", entry), leave("stop"), (8, "switch", {})]
    plan += [] if ends else [(6, "cancel_entry", {})]
    strategy, tape = outcome(plan, side)
    assert tape["fills"] == []
    assert reasons(strategy) == [GONE]


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("name", ["market", "limit", "stop"])
def test_an_exit_that_has_begun_to_open_is_ended_by_a_halt(name, side):
    """Its entry ended Margin, so that it was reviewed as an entry when it executed."""
    plan = [(8, "buy", {"size": 1_000}), leave(name, 8, 30), (11, "switch", {})]
    rows = [*flat(9), *[(100, 110, 90, 100)] * 6]
    _, tape = outcome(plan, side, rows=rows, filler=3, margin=1_000.0)
    begun = 9 if name == "market" else 10
    assert [fill[:3:2] for fill in tape["fills"]] == [(bar, -3 * side) for bar in range(begun, 12)]


def test_an_exit_that_has_begun_to_open_claims_no_position():
    """A position that comes later is another one: the order counts as an entry."""
    plan = [(8, "buy", {"size": 1_000}), leave("limit", 8, 30), (11, "count", {})]
    rows = [*flat(9), *[(100, 110, 90, 100)] * 6]
    strategy, _ = outcome(plan, rows=rows, filler=3, margin=1_000.0)
    assert strategy.made[-1] == [(0.0, 24.0, 24.0)]


@pytest.mark.parametrize("side", [1, -1])
def test_an_entry_that_a_guard_cancels_takes_its_stop_along(side):
    plan = [(5, "buy", {"size": 10, "exectype": Limit, "price": 98}), leave("stop")]
    guard = Blackout([("2020-01-07", "2020-01-08")])
    strategy, tape = outcome(plan, side, guards=[guard])
    assert tape["fills"] == []
    assert reasons(strategy) == [GONE]


def test_an_exit_stays_that_another_entry_may_give_a_position():
    """The guard takes the larger entry alone; the stop closes what the smaller one has opened."""
    entries = [(5, "buy", {"size": size, "exectype": Limit, "price": 98}) for size in (9, 2)]
    _, tape = outcome([*entries, leave("stop", size=11)], guards=[Deny9()])
    assert [fill[1:] for fill in tape["fills"]] == [("D0", 2, 98), ("D0", -2, 96)]


@dataclasses.dataclass(frozen=True)
class Deny9(Guard):
    """Take back orders that would open 9 units, once they rest."""

    def review(self, request, book):
        refused = request.again and request.size == 9
        return Decision(0.0, "nine", "nine") if refused else Decision(request.size)


def test_exits_with_a_position_work_on_in_a_halt():
    plan = [(3, "buy", {"size": 10}), leave("limit", size=4), leave("stop"), (7, "switch", {})]
    _, tape = outcome(plan)
    assert sum(fill[2] for fill in tape["fills"]) == 0
    assert len(tape["fills"]) == 3


def test_an_exit_of_one_strategy_is_none_of_what_another_holds():
    engine = cerebro(bars(*ROWS))
    engine.setbroker(bt_risk.RiskBroker(engine.broker, limits=[bt_risk.NotionalLimit(1e9)]))
    engine.addstrategy(Plan, plan=[(3, "buy", {"size": 10})])
    plan = [(5, "buy", {"size": 10}), leave("market"), leave("stop"), (5, "switch", {})]
    strategy = taped(engine, plan, strategy=Switch)
    assert strategy.broker.getposition(strategy.data).size == 10
