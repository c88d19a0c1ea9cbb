"""How the gate judges an exit beside others, one situation after the other, to the last fill.

`LongOnly` refuses whatever would open a short position: where an exit is taken for an entry, it
shows.
"""

import backtrader as bt
import pytest
from helpers.recording import ends, play
from helpers.scenarios import bars, cerebro, flat

import bt_risk
from bt_risk.limits.base import Decision

LIMIT, STOP = bt.Order.Limit, bt.Order.Stop
UP, DOWN = (106, 107, 105, 106), (94, 95, 93, 94)
CALM = (100, 101, 99, 100)
WIDE = (100, 106, 94, 100)
GONE = "execution: cancelled, the position it was to close is gone"


class LongOnly(bt_risk.Limit):
    """Refuse to open short positions."""

    def review(self, request, book):
        """Return the `Decision` for `request`."""
        if request.side > 0:
            return Decision(request.size)
        return Decision(0.0, f"LongOnly: {request.size:g} > 0", "LongOnly")


class Anything(bt_risk.Limit):
    """Allow every order: a gate with a limit clamps fills all the same."""

    def review(self, request, book):
        """Return the `Decision` for `request`."""
        return Decision(request.size)


def run(actions, *rows, limit=LongOnly):
    """Play actions from bar 3 on, followed by bars of the rows; return strategy and gate."""
    engine = cerebro(bars(*flat(4), *rows, CALM, CALM))
    gate = bt_risk.RiskBroker(engine.broker, limits=[limit()])
    engine.setbroker(gate)
    return play(engine, dict(enumerate(actions, 3))), gate


def final(strategy):
    return strategy.held[-1][0]


def statuses(strategy):
    return [(status, size) for status, size, *_ in ends(strategy)]


def reasons(gate):
    return [line[-1] for line in gate.journal.lines if line[-1]]


def buy(size=10, **options):
    return lambda s: s.buy(size=size, **options)


def sell(size=10, **options):
    return lambda s: s.sell(size=size, **options)


def all_of(*actions):
    return lambda s: [action(s) for action in actions]


def close(s):
    return s.close()


PROFIT = sell(exectype=LIMIT, price=105.0)
LOSS = sell(exectype=STOP, price=95.0)


def test_close_over_a_take_profit_leaves_the_account_flat_and_withdraws_it():
    strategy, gate = run([buy(), PROFIT, close], CALM, CALM, UP)
    assert statuses(strategy) == [("Completed", 10), ("Canceled", 0), ("Completed", -10)]
    assert reasons(gate) == [GONE]
    assert final(strategy) == 0


def test_close_has_nothing_to_close_where_the_take_profit_fills_first():
    strategy, gate = run([buy(), PROFIT, close], CALM, UP)
    assert statuses(strategy) == [("Completed", 10), ("Completed", -10), ("Canceled", 0)]
    assert (final(strategy), reasons(gate)) == (0, [GONE])


@pytest.mark.parametrize(("row", "filled"), [(UP, 1), (DOWN, 0), (WIDE, 0)])
def test_an_own_stop_and_limit_without_oco_are_two_exits(row, filled):
    strategy, gate = run([buy(), all_of(LOSS, PROFIT)], row)
    _, *exits = statuses(strategy)
    assert exits[filled] == ("Completed", -10)
    assert exits[1 - filled] == ("Canceled", 0)
    assert (final(strategy), reasons(gate)) == (0, [GONE])


def oco_pair(s):
    stop = LOSS(s)
    return s.sell(size=10, exectype=LIMIT, price=105.0, oco=stop)


def bracket(s):
    return s.buy_bracket(size=10, exectype=bt.Order.Market, stopprice=95.0, limitprice=105.0)


@pytest.mark.parametrize(
    "actions",
    [
        [buy(), oco_pair],
        [all_of(buy(), LOSS)],
        [all_of(buy(), sell())],
        [bracket, close],
        [buy(), sell(5), close],
        [buy(), all_of(sell(5), close)],
        [buy(), all_of(close, close)],
        [buy(), all_of(PROFIT, LOSS, close, close)],
    ],
    ids=["oco", "stop", "market", "bracket", "half", "half and rest", "twice", "over exits"],
)
@pytest.mark.parametrize("row", [UP, DOWN, WIDE])
def test_exits_are_no_short_entries_and_leave_the_account_flat(actions, row):
    strategy, gate = run(actions, row, WIDE)
    assert "Rejected" not in [status for status, _ in statuses(strategy)]
    assert not [reason for reason in reasons(gate) if "LongOnly" in reason]
    assert min(held for (held,) in strategy.held) == 0
    assert final(strategy) == 0


def test_a_second_limit_of_the_same_size_is_a_short_entry():
    """Nothing of it may open; it stays, and closes what the first one leaves."""
    both = all_of(PROFIT, sell(exectype=LIMIT, price=106.0))
    strategy, _ = run([buy(), both], UP, limit=Anything)
    assert (final(strategy), [size for _, size in statuses(strategy)]) == (-10, [10, -10, -10])
    strategy, gate = run([buy(), both], UP)
    assert statuses(strategy)[1:] == [("Completed", -10), ("Canceled", 0)]
    assert "LongOnly: 10 > 0" in reasons(gate)[0]


def test_a_straddle_is_two_entries_and_the_second_to_fill_closes_the_first():
    legs = all_of(buy(exectype=STOP, price=105.0), LOSS)
    strategy, _ = run([legs], UP, DOWN, limit=Anything)
    assert [held for (held,) in strategy.held[4:6]] == [10, 0]
    strategy, gate = run([legs], DOWN)
    assert [status for status, _ in statuses(strategy)][1] == "Rejected"


@pytest.mark.parametrize(("limit", "held"), [(Anything, -15), (LongOnly, 0)])
def test_a_larger_sale_closes_and_opens_what_is_allowed(limit, held):
    strategy, _ = run([buy(), sell(25)], limit=limit)
    assert final(strategy) == held


def test_a_child_closes_an_old_position_and_what_its_parent_adds():
    def add(s):
        parent = s.buy(size=5, transmit=False)
        return s.sell(size=15, exectype=STOP, price=95.0, parent=parent)

    strategy, gate = run([buy(), add], CALM, DOWN)
    assert statuses(strategy) == [("Completed", 10), ("Completed", 5), ("Completed", -15)]
    assert (final(strategy), reasons(gate)) == (0, [])


def test_an_entry_sent_again_at_another_price_keeps_its_stop():
    def enter(s):
        s.entry = s.buy(size=10, exectype=LIMIT, price=98.0)
        return LOSS(s)

    def again(s):
        s.cancel(s.entry)
        return s.buy(size=10, exectype=LIMIT, price=99.5)

    strategy, _ = run([enter, again], CALM, DOWN)
    assert statuses(strategy) == [("Canceled", 0), ("Completed", -10), ("Completed", 10)]
    assert final(strategy) == 0


def test_an_exit_that_never_had_a_position_is_reviewed_when_it_would_fill():
    """Its entry expires; the stop is reached later, and could only open a short position."""

    def enter(s):
        s.entry = s.buy(size=10, exectype=LIMIT, price=96.0)
        return LOSS(s)

    strategy, gate = run([enter, lambda s: s.cancel(s.entry)], CALM, DOWN)
    assert final(strategy) == 0
    (reason,) = [reason for reason in reasons(gate) if "LongOnly" in reason]
    assert reason == "LongOnly: 10 > 0 (the entry that it closes did not fill)"


def test_close_passes_in_a_halt():
    def halt(s):
        s.broker.halt("by hand")
        return close(s), close(s)

    strategy, _ = run([buy(), sell(5), halt], CALM)
    assert final(strategy) == 0
    assert "Rejected" not in [status for status, _ in statuses(strategy)]
