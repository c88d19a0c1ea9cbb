"""A target that rests beside the stop: which of the two a bar fills, and that both never do.

The market stands still at 100 with an ATR of 2, so that a stop is 4 away and a target of 2 R is 8
away; bar 6 executes what was ordered on bar 5. Shorts see the mirror image.
"""

import dataclasses
from datetime import timedelta

import backtrader as bt
import pytest
from helpers.scenarios import MODES, Plan, bars, cerebro, flat, tape_of, taped

import bt_risk
from bt_risk import ParameterError, Policy, TakeProfit

OFF = dict.fromkeys(
    ("risk_limit", "notional_limit", "exposure_limit", "correlation_limit", "drawdown_limit")
)
POLICY = Policy(**OFF, atr_period=3, sizer=False, guards=[TakeProfit(2.0)])
CALM = (100, 101, 99, 100)
BUY = (5, "buy", {"size": 100})
LIMIT, STOP = bt.Order.Limit, bt.Order.Stop
HALF_A_DAY = timedelta(hours=12)


def exit_at(kind, price, size=100, bar=6, **more):
    return (bar, "sell", {"size": size, "exectype": kind, "price": price, **more})


# name: bars from bar 6 on, orders, fills from bar 6 on as (bar, size, price)
LONG = {
    "the high is beyond the target": (
        [CALM, (100, 109, 99, 104)],
        *([BUY], [(6, 100, 100), (7, -100, 108)]),
    ),
    "the high is the target": (
        [CALM, (100, 108, 99, 104)],
        *([BUY], [(6, 100, 100), (7, -100, 108)]),
    ),
    "the high stays below it": ([CALM, (100, 107.5, 99, 104)], [BUY], [(6, 100, 100)]),
    "a bar that opens beyond it": (
        [CALM, (110, 111, 109, 110)],
        *([BUY], [(6, 100, 100), (7, -100, 110)]),
    ),
    "the bar of the entry": ([(100, 109, 99, 100), CALM], [BUY], [(6, 100, 100)]),
    "a bar that contains both": (
        [CALM, (100, 109, 95, 104)],
        *([BUY], [(6, 100, 100), (7, -100, 96)]),
    ),
    "a bar that contains both and opens beyond the target": (
        [CALM, (110, 111, 90, 91)],
        *([BUY], [(6, 100, 100), (7, -100, 110)]),
    ),
    "a bar that contains both and opens beyond the stop": (
        [CALM, (94, 109, 93, 104)],
        *([BUY], [(6, 100, 100), (7, -100, 94)]),
    ),
    "a market exit of the strategy goes first": (
        [CALM, (100, 109, 99, 104), (104, 115, 103, 104)],
        *([BUY, (6, "sell", {"size": 100})], [(6, 100, 100), (7, -100, 100)]),
    ),
    "a market exit that leaves the target out of reach": (
        [CALM, CALM],
        *([BUY, (6, "sell", {"size": 100})], [(6, 100, 100), (7, -100, 100)]),
    ),
    "a half leaves at the open": (
        [CALM, (100, 109, 99, 104), (104, 120, 103, 104)],
        *([BUY, (6, "sell", {"size": 50})], [(6, 100, 100), (7, -50, 100), (7, -50, 108)]),
    ),
    "close() of the strategy": (
        [CALM, (110, 111, 109, 110), (110, 120, 80, 110)],
        *([BUY, (6, "close", {})], [(6, 100, 100), (7, -100, 110)]),
    ),
    "what is added moves it: 150 at 101 on average": (
        [CALM, (103, 104, 102, 103), (105, 110, 104, 109)],
        *([BUY, (6, "buy", {"size": 50})], [(6, 100, 100), (7, 50, 103), (8, -150, 109)]),
    ),
    "a nearer limit of the strategy": (
        [CALM, (100, 109, 99, 104)],
        *([BUY, exit_at(LIMIT, 105, 60)], [(6, 100, 100), (7, -60, 105), (7, -40, 108)]),
    ),
    "a farther limit of the strategy": (
        [CALM, (100, 112, 99, 104), (104, 120, 103, 104)],
        *([BUY, exit_at(LIMIT, 111)], [(6, 100, 100), (7, -100, 108)]),
    ),
    "a stop of the strategy inside the same bar": (
        [CALM, (100, 109, 98, 104)],
        *([BUY, exit_at(STOP, 98.5)], [(6, 100, 100), (7, -100, 98.5)]),
    ),
    "a limit of the strategy that has expired": (
        [CALM, (100, 109, 99, 104)],
        *([BUY, exit_at(LIMIT, 105, 60, valid=HALF_A_DAY)], [(6, 100, 100), (7, -100, 108)]),
    ),
    "a bracket of the strategy": (
        [CALM, (100, 121, 99, 104), (104, 130, 80, 104)],
        [
            (
                5,
                "buy_bracket",
                {"size": 100, "exectype": bt.Order.Market, "stopprice": 90, "limitprice": 125},
            )
        ],
        [(6, 100, 100), (7, -100, 120)],
    ),
}


def mirrored(rows):
    return [(200 - o, 200 - low, 200 - high, 200 - c) for o, high, low, c in rows]


def mirror(plan):
    swap = {"buy": "sell", "sell": "buy", "buy_bracket": "sell_bracket", "close": "close"}
    prices = {"price", "stopprice", "limitprice"}
    return [
        (bar, swap[method], {k: 200 - v if k in prices else v for k, v in args.items()})
        for bar, method, args in plan
    ]


def world(case, side=1):
    rows, plan, expected = LONG[case]
    rows = [*flat(5), *rows]
    if side < 0:
        rows, plan = mirrored(rows), mirror(plan)
        expected = [(bar, -size, 200 - price) for bar, size, price in expected]
    return rows, plan, expected


def engine_of(rows, policy=POLICY, **protect):
    engine = cerebro(bars(*rows), cash=1e6)
    bt_risk.protect(engine, policy, **protect)
    engine.addanalyzer(bt_risk.RiskJournal, _name="journal")
    return engine


def filled(strategy, name="D0"):
    fills = [row for row in tape_of(strategy)["fills"] if row[1] == name]
    return [(bar, size, round(price, 9)) for bar, _, size, price in fills]


def lines(strategy, action):
    decisions = strategy.analyzers.journal.get_analysis()["decisions"]
    return [line for line in decisions if line["action"] == action]


class StopFirst(Plan):
    """Have the stop sent before the target: BackBroker tries it first."""

    def start(self):
        self.broker.registry.monitors.reverse()


def own_alive(strategy):
    return [w for w in strategy.broker.book.working.values() if w.own]


@pytest.mark.parametrize("sequence", [Plan, StopFirst])
@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("case", LONG)
def test_what_a_bar_does_to_stop_and_target(case, side, sequence):
    rows, plan, expected = world(case, side)
    strategy = taped(engine_of(rows), plan, strategy=sequence)
    assert sorted(filled(strategy)) == sorted(expected)
    held = tape_of(strategy)["positions"][-1][0]
    assert held == sum(size for _, size, _ in expected)
    left = {w.kind for w in own_alive(strategy)}
    assert left == ({"stop", "limit"} if held else set())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", ["a bar that contains both", "the high is beyond the target"])
def test_every_engine_does_the_same(case, mode):
    rows, plan, expected = world(case)
    strategy = taped(engine_of(rows, fast=False), plan, mode)
    assert filled(strategy) == expected


def test_a_limit_that_has_filled_is_in_the_journal_once():
    rows, plan, _ = world("the high is beyond the target")
    (line,) = lines(taped(engine_of([*rows, CALM, CALM]), plan), "close")
    assert (line["rule"], line["measured"], line["limit"]) == ("TakeProfit", 108.0, 108.0)
    assert line["reason"] == "TakeProfit: filled at 108, the target of 2 R"


def test_it_is_no_stop_out():
    rows, plan, _ = world("the high is beyond the target")
    strategy = taped(engine_of(rows), plan)
    (trade,) = strategy.broker.book.trades
    assert (trade.stopped, trade.r_multiple) == (False, 2.0)


def test_a_volume_filler_fills_it_in_part_and_the_stop_covers_the_rest():
    """Bars of 1,000 units: 4 % are 40 a bar, 10 % of what the stop would need."""
    rows = [*flat(5), CALM, CALM, CALM, (100, 109, 99, 104), (104, 105, 95, 96), *flat(3, 95.0)]
    engine = engine_of(rows)
    engine.broker.set_filler(bt.fillers.FixedBarPerc(perc=4.0))
    strategy = taped(engine, [BUY])
    assert filled(strategy)[:4] == [(6, 40, 100), (7, 40, 100), (8, 20, 100), (9, -40, 108)]
    assert min(held for (held,) in tape_of(strategy)["positions"]) == 0
    assert tape_of(strategy)["positions"][-1] == (0,)


def test_a_stop_that_has_begun_to_fill_leaves_nothing_to_the_target():
    """The bar reaches the stop first; the rest of the position leaves at the market."""
    rows = [*flat(5), *[CALM] * 3, (100, 109, 95, 104), (104, 112, 103, 104), *[CALM] * 2]
    engine = engine_of(rows)
    engine.broker.set_filler(bt.fillers.FixedBarPerc(perc=4.0))
    fills = filled(taped(engine, [BUY]))
    assert fills[3:] == [(9, -40, 96), (10, -40, 104), (11, -20, 100)]


def test_a_nearer_limit_that_turns_the_position_round_leaves_one_target():
    """It fills while the target is off the queue, and the stop of the short within its bar."""
    rows = [*flat(5), CALM, (100, 108.5, 99, 104)]
    policy = dataclasses.replace(POLICY, entry_stop="attached")
    strategy = taped(engine_of(rows, policy), [BUY, exit_at(LIMIT, 105, 160)])
    assert filled(strategy) == [(6, 100, 100), (7, -160, 105)]
    left = [(w.kind, w.side, w.remaining) for w in own_alive(strategy)]
    assert sorted(left) == [("limit", 1, 60), ("stop", 1, 60)]


def test_what_is_added_to_a_target_that_has_filled_in_part():
    """The rest of it is cancelled and sent anew, because a part cannot be amended."""
    rows = [*flat(5), *[CALM] * 3, (100, 109, 99, 104), (104, 105, 103, 104), *[CALM] * 2]
    rows += [(104, 125, 103, 124)] * 8
    engine = engine_of(rows)
    engine.broker.set_filler(bt.fillers.FixedBarPerc(perc=4.0))
    strategy = taped(engine, [BUY, (9, "buy", {"size": 40})])
    positions = [held for (held,) in tape_of(strategy)["positions"]]
    assert positions[8:10] == [60, 100]
    assert min(positions) == 0 == positions[-1]


def test_two_strategies_have_each_their_own_target():
    rows = [*flat(5), CALM, CALM, (100, 109, 99, 104), (104, 114, 103, 113)]

    class Second(Plan):
        params = {"plan": ((7, "buy", {"size": 30}),)}

    engine = engine_of(rows)
    engine.addstrategy(Second)
    strategy = taped(engine, [BUY])
    (both,) = engine.runstrats
    # The second one buys at the open of bar 8: its target is there from bar 9 on.
    assert [filled(one) for one in both] == [
        [(8, 30, 100), (9, -30, 108)],
        [(6, 100, 100), (8, -100, 108)],
    ]
    first, second = strategy.broker.book.parts.values()
    assert (first.size, second.size) == (0, 0)
    assert strategy.broker.getposition(strategy.data).size == 0


def test_each_tradeid_has_its_own_limit():
    rows = [*flat(5), CALM, CALM, CALM, (100, 112, 99, 104)]
    plan = [(5, "buy", {"size": 60, "tradeid": 1}), (6, "buy", {"size": 40, "tradeid": 2})]
    strategy = taped(engine_of(rows), plan)
    assert filled(strategy)[2:] == [(9, -60, 108), (9, -40, 108)]
    assert [row[1] for row in tape_of(strategy)["trades"]] == [1, 2]


def test_the_nearest_of_two_targets_counts():
    rows = [*flat(5), CALM, (100, 105, 99, 104)]
    policy = dataclasses.replace(POLICY, guards=[TakeProfit(2.0), TakeProfit(1.0)])
    assert filled(taped(engine_of(rows, policy), [BUY])) == [(6, 100, 100), (7, -100, 104)]
    policy = dataclasses.replace(POLICY, guards=[TakeProfit(1.0), TakeProfit(2.0)])
    assert filled(taped(engine_of(rows, policy), [BUY])) == [(6, 100, 100), (7, -100, 104)]


def test_without_a_stop_it_rests_alone():
    rows = [*flat(5), CALM, (100, 109, 80, 104)]
    policy = dataclasses.replace(POLICY, trailing_stop=False)
    assert filled(taped(engine_of(rows, policy), [BUY])) == [(6, 100, 100), (7, -100, 108)]


def test_an_attached_stop_that_fills_on_the_bar_of_the_entry_takes_it_along():
    rows = [*flat(5), (100, 101, 95, 99), (100, 109, 99, 104)]
    policy = dataclasses.replace(POLICY, entry_stop="attached")
    strategy = taped(engine_of(rows, policy), [BUY])
    assert filled(strategy) == [(6, 100, 100), (6, -100, 96)]
    assert own_alive(strategy) == []


def test_a_target_still_fills_after_an_operator_has_halted():
    class Halting(Plan):
        def next(self):
            super().next()
            if len(self) == 6:
                self.broker.halt("by hand")

    rows = [*flat(5), CALM, (100, 109, 99, 104), (104, 115, 80, 104)]
    strategy = taped(engine_of(rows), [BUY], strategy=Halting)
    assert filled(strategy) == [(6, 100, 100), (7, -100, 108)]
    assert own_alive(strategy) == []


def test_a_target_below_zero_cannot_rest():
    """A short at 100 with a stop 4 away and 30 R: at -20 there is no price."""
    rows = [*flat(5), CALM, (100, 101, 60, 62), *[(62, 63, 61, 62)] * 3]
    policy = dataclasses.replace(POLICY, guards=[TakeProfit(30.0)])
    strategy = taped(engine_of(rows, policy), [(5, "sell", {"size": 100})])
    assert {w.kind for w in own_alive(strategy)} == {"stop"}


def test_nothing_rests_in_observe_mode_and_none_switches_it_off():
    rows, plan, _ = world("the high is beyond the target")
    strategy = taped(engine_of(rows, mode="observe"), plan)
    assert filled(strategy) == [(6, 100, 100)]
    off = dataclasses.replace(POLICY, guards=[TakeProfit(None)])
    assert filled(taped(engine_of(rows, off), plan)) == [(6, 100, 100)]


def test_the_strategy_hears_of_its_fill_alone():
    rows, plan, _ = world("the high is beyond the target")
    strategy = taped(engine_of(rows), plan)
    notes = [(bar, status) for bar, order, status in tape_of(strategy)["notes"] if order == 1]
    assert notes == [(7, "Completed")]


def test_a_trigger_that_is_unknown_is_refused():
    with pytest.raises(ParameterError, match="TakeProfit: trigger must be"):
        TakeProfit(2.0, trigger="open")
