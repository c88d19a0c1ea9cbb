"""The initial margin of an entry, at the price at which it fills: it is cut there, not rejected.

The market stands still at 100, and bar 6 fills what was ordered on bar 5. 100,000 at 20x are 20,000
units of 100, which leave nothing: at an open of 101 they are 19,801.
"""

import itertools
import math

import backtrader as bt
import pytest
from helpers.scenarios import MODES, Plan, bars, cerebro, flat, tape_of, taped

import bt_risk
from bt_risk.limits.base import NotionalLimit

GUARD = bt_risk.MarginAccount(20, tiers=[(0, 0.0)], buffer=None, call=1.0)
CROSS = bt_risk.MarginAccount(20, tiers=[(0, 0.0)], mode="cross", buffer=None, call=1.0)


def row(price, opened=None):
    opened = price if opened is None else opened
    return (opened, max(opened, price), min(opened, price), price)


def buy(size=25_000, bar=5, **given):
    return (bar, "buy", {"size": size, **given})


def played(rows, orders, guard=GUARD, mode="runonce", commission=0.0, shortcash=True, **given):
    engine = cerebro(bars(*flat(5), *rows))
    engine.broker.set_shortcash(shortcash)
    engine.broker.setcommission(commission=commission, **given)
    gate = bt_risk.RiskBroker(engine.broker, guards=[guard])
    engine.setbroker(gate)
    result = taped(engine, orders, mode)
    return result, tape_of(result)["fills"], [line[-1] for line in gate.journal.lines]


@pytest.mark.parametrize("mode", MODES)
def test_an_entry_at_a_higher_open_is_cut_and_not_rejected(mode):
    result, fills, reasons = played([row(100, 101)], [buy()], mode=mode)
    assert [fill[2:] for fill in fills] == [(19_801, 101.0)]
    assert "cash: affords 19801 of 20000 at 101" in reasons
    assert result.made[0].status == bt.Order.Completed


def test_so_is_one_that_was_small_enough_at_the_close():
    _, fills, _ = played([row(100, 101)], [buy(19_900)])
    assert [fill[2:] for fill in fills] == [(19_801, 101.0)]
    _, fills, _ = played([row(100, 101)], [buy(19_800)])
    assert [fill[2:] for fill in fills] == [(19_800, 101.0)]


def test_commission_is_taken_of_the_free_margin():
    """5 of margin and 0.1 of commission for each unit: 100,000 / 5.1."""
    _, fills, reasons = played([row(100)], [buy()], commission=0.001)
    assert [fill[2] for fill in fills] == [19_607]
    text = "MarginAccount: initial margin and commission 127,500.00 > 100,000.00 free"
    assert any(text in reason for reason in reasons)
    # A fee of 1,000 for an order whatever its size leaves 99,000.
    fixed = {"stocklike": True, "commtype": bt.CommInfoBase.COMM_FIXED}
    _, fills, _ = played([row(100)], [buy()], commission=0.1, **fixed)
    assert [fill[2] for fill in fills] == [19_607]


def test_commission_of_working_orders_is_bound_as_well():
    """10,000 units at 90 bind 45,000, and 9,000 x 0.1 of commission: 54,100 / 5.1 are left."""
    resting = buy(10_000, exectype=bt.Order.Limit, price=90.0)
    _, fills, _ = played([row(100), row(100)], [resting, buy(bar=6)], commission=0.001)
    assert [fill[2] for fill in fills] == [int((55_000 - 900) / 5.1)]


@pytest.mark.parametrize(
    ("kind", "price", "opened", "size"),
    [
        ("Limit", 99.0, 100.0, 20_202),  # judged and filled at its own price: 100,000 / 4.95
        ("Stop", 102.0, 100.0, 19_607),  # at its price, 100,000 / 5.1
        ("Stop", 102.0, 104.0, 19_230),  # a gap beyond it: 100,000 / 5.2
        ("Close", None, 100.0, 19_047),  # it fills at a close of 105
    ],
)
def test_an_order_with_a_price_is_judged_there(kind, price, opened, size):
    rows = [(opened, 105, 99, 105), row(105)]
    _, fills, _ = played(rows, [buy(exectype=getattr(bt.Order, kind), price=price)])
    assert [fill[2] for fill in fills] == [size]


def test_open_profit_secures_no_entry_in_backtraders_cash():
    """10,000 from 100 bind 50,000; at 104 the account has 88,000 free, and Backtrader 50,000."""
    orders = [buy(10_000), buy(20_000, bar=7)]
    _, fills, reasons = played([row(100), row(104), row(104)], orders, guard=CROSS)
    assert [fill[2] for fill in fills] == [10_000, 9_615]
    assert "cash: affords 9615 of 16923 at 104" in reasons


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("direction", [1, -1])
def test_an_exit_of_all_that_was_asked_for_leaves_what_cash_never_bought(direction, mode):
    """19,900 at 101 were cut to 19,801: who sells 19,900 to be flat opens no short of 99."""
    enter, leave = ("buy", "sell") if direction > 0 else ("sell", "buy")
    orders = [(5, enter, {"size": 19_900}), (6, leave, {"size": 19_900})]
    rows, shortcash = [row(101)] * 3, direction > 0
    result, fills, reasons = played(rows, orders, mode=mode, shortcash=shortcash)
    assert [fill[2] * direction for fill in fills] == [19_801, -19_801]
    assert result.position.size == 0
    assert any("99" in reason and "never" in reason for reason in reasons)


@pytest.mark.parametrize("direction", [1, -1])
def test_an_exit_counts_on_no_more_than_what_is_left_of_an_entry_that_was_cut(direction):
    """Of 19,900 at 101, 19,801 are left; bar 6 fills 12,000 of them, and bar 7 the other 7,801.

    A stop for 19,900 that is sent between closes these 19,801 at 98, in two bars, and no more.
    """
    enter, leave = ("buy", "sell") if direction > 0 else ("sell", "buy")
    stop = {"exectype": bt.Order.Stop, "price": 101 - 3.0 * direction}
    orders = [(5, enter, {"size": 19_900}), (6, leave, {"size": 19_900, **stop})]
    engine = cerebro(bars(*flat(5), *[row(101)] * 3, *[row(101 - 4 * direction)] * 3))
    engine.broker.set_shortcash(direction > 0)
    engine.broker.set_filler(lambda order, price, ago: min(12_000, abs(order.executed.remsize)))
    gate = bt_risk.RiskBroker(engine.broker, guards=[GUARD])
    engine.setbroker(gate)
    result = taped(engine, orders, strategy=Counts)
    assert result.counted[6] == [(7_801, 7_801, 0), (19_801, 0, 19_801)]
    assert [fill[2] * direction for fill in tape_of(result)["fills"]] == [
        *(12_000, 7_801),
        *(-12_000, -7_801),
    ]


class Brackets(Plan):
    """Send a bracket of 19,900 at the market; note what works after each bar."""

    def bracket(self, direction, **options):
        send = self.buy_bracket if direction > 0 else self.sell_bracket
        prices = {"stopprice": 101 - 3.0 * direction, "limitprice": 101 + 3.0 * direction}
        return send(size=19_900, exectype=bt.Order.Market, **prices, **options)

    def next(self):
        super().next()
        self.left = [w.remaining for w in self.broker.book.working.values()]


WAYS = {
    "stop": [(101, 101, 96, 97)],
    "limit": [(101, 106, 101, 105)],
    "gap": [(90, 91, 89, 90)],
    "both": [(101, 106, 96, 101)],
    "one after the other": [(101, 106, 101, 105), (105, 105, 96, 97)],
}


@pytest.mark.parametrize("most", [math.inf, 12_000], ids=["whole", "in parts"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("direction", [1, pytest.param(-1, marks=pytest.mark.full)])
def test_the_children_of_an_entry_that_cash_has_cut_open_nothing(direction, way, most):
    """19,801 of 19,900 are bought at 101. Both children are for 19,900 and close those 19,801."""
    ways = WAYS[way]
    if direction < 0:
        ways = [(202 - o, 202 - low, 202 - h, 202 - c) for o, h, low, c in ways]
    rows = [*flat(5), *[row(101)] * 2, *ways, *[ways[-1]] * 3]
    engine = cerebro(bars(*rows))
    engine.broker.set_shortcash(direction > 0)
    engine.broker.set_filler(lambda order, price, ago: min(most, abs(order.executed.remsize)))
    engine.setbroker(bt_risk.RiskBroker(engine.broker, guards=[GUARD]))
    plan = [(5, "bracket", {"direction": direction})]
    result = taped(engine, plan, strategy=Brackets)
    sizes = [direction * fill[2] for fill in tape_of(result)["fills"]]
    assert sum(size for size in sizes if size > 0) == 19_801
    assert sum(sizes) == 0
    assert min(itertools.accumulate(sizes)) == 0
    assert result.left == []
    assert [order.alive() for order in result.made[0]] == [False] * 3
    assert {abs(order.created.size) for order in result.made[0][1:]} == {19_900}


def test_a_late_child_is_cut_to_what_is_left_of_its_parent():
    engine = cerebro(bars(*flat(5), *[row(101)] * 3))
    engine.broker.set_filler(lambda order, price, ago: min(12_000, abs(order.executed.remsize)))
    engine.setbroker(bt_risk.RiskBroker(engine.broker, guards=[GUARD]))
    result = taped(engine, [buy(19_900), (6, "protect", {})], strategy=Protects)
    assert result.child.size == -19_801
    assert "99" in result.child.info.bt_risk


class Protects(Plan):
    def protect(self):
        stop = {"exectype": bt.Order.Stop, "price": 98.0}
        self.child = self.sell(size=19_900, parent=self.made[0], **stop)


class Counts(Plan):
    """Keep what the gate counts of each working order after each bar: left, opening, closing."""

    def next(self):
        super().next()
        working = self.broker.book.working.values()
        counted = [(w.remaining, w.opening, w.closing) for w in working]
        self.counted = getattr(self, "counted", {}) | {len(self): counted}


class Reduces(Plan):
    def reduce(self):
        self.broker.reduce_only("a test")


def test_an_entry_that_is_held_back_keeps_its_size():
    engine = cerebro(bars(*flat(5), row(101), row(104), row(104)))
    engine.setbroker(bt_risk.RiskBroker(engine.broker, guards=[GUARD]))
    plan = [buy(exectype=bt.Order.Stop, price=102.0), (6, "reduce", {})]
    result = taped(engine, plan, strategy=Reduces)
    assert result.made[0].alive()
    assert result.made[0].executed.remsize == 19_607


def test_two_entries_of_one_bar_share_what_is_free():
    _, fills, _ = played([row(100, 101)], [buy(12_000), buy(12_000)])
    assert [fill[2] for fill in fills] == [12_000, 7_801]


@pytest.mark.parametrize("shortcash", [True, False])
def test_a_reversal_closes_whole_and_opens_what_is_free(shortcash):
    """What it closes, 50,000 of margin, opens the other side: cash alone affords 10,000."""
    orders = [(5, "sell", {"size": 10_000}), buy(20_000, bar=6)]
    rows = [row(100), row(100), row(100)]
    result, fills, _ = played(rows, orders, shortcash=shortcash)
    assert [fill[2] for fill in fills] == [-10_000, 20_000]
    assert result.position.size == 10_000


def test_an_entry_of_which_nothing_fits_is_rejected_as_margin():
    result, fills, _ = played([row(100), row(300)], [buy(20_000), buy(1, bar=6)])
    assert len(fills) == 1
    assert result.made[1].status == bt.Order.Rejected
    assert "initial margin 5.00 > 0.00 free" in result.made[1].info.bt_risk


def test_without_a_margin_account_backtrader_rejects_it_as_it_does():
    engine = cerebro(bars(*flat(5), row(100, 101)))
    engine.setbroker(bt_risk.RiskBroker(engine.broker, limits=[NotionalLimit(1.0)]))
    result = taped(engine, [buy(1_000)])
    assert result.made[0].status == bt.Order.Margin
