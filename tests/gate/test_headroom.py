"""headroom: what would pass passes, one lot more does not, and asking changes nothing."""

import math
import random

import backtrader as bt
import pytest
from helpers import scenarios as feeds
from helpers.scenarios import Tape, bars, cerebro, flat, random_walk, tape_of

import bt_risk
from bt_risk.errors import ParameterError
from bt_risk.gate.headroom import _most

LIMITS = (
    {},
    {"on_exposure": "reject", "exposure_limit": 0.02, "gross_limit": 0.03},
    {"exposure_unit": "notional", "exposure_limit": 0.6, "net_limit": 0.4},
    {"correlation_limit": 0.2, "min_periods": 10, "window": 20, "hysteresis": 0.1},
    {"correlation_limit": 0.2, "min_periods": 10, "window": 20, "on_correlation": "trim"},
    {"volatility_limit": 0.1, "min_periods": 10, "window": 20, "correlation_limit": None},
    {"volatility_limit": 0.1, "min_periods": 10, "window": 20, "on_volatility": "reject"},
    {"risk_limit": None, "exposure_limit": None, "notional_limit": 0.3},
    {"guards": [bt_risk.CooldownGuard(3), bt_risk.OrderRateLimit(bar_limit=2)]},
    {"guards": [bt_risk.OrderSize(90, currency=20_000.0), bt_risk.DuplicateOrder(4)]},
    {"guards": [bt_risk.OrderSize(90, on_size="trim"), bt_risk.PriceCollar(0.4)]},
    {"guards": [bt_risk.MaxPositions(1), bt_risk.RepeatedOrders(9), bt_risk.LongOnly()]},
    {"guards": [bt_risk.TimeExit(9), bt_risk.TakeProfit(1.0)], "gap_limit": 0.01},
    {"guards": [bt_risk.AccountFloor(0.05, action="pause")], "costs_in_risk": True},
)


class World(bt.Strategy):
    """Send orders by the dice, and ask before them where `asks` says so.

    `wrong` collects the orders that contradict what was answered. With "always" all sides of all
    data feeds are asked on every bar, and no order depends on it.
    """

    params = {"seed": 0, "asks": ""}

    def __init__(self):
        self.dice, self.wrong, self.answers = random.Random(self.p.seed), [], []

    def next(self):
        if self.p.asks == "always":
            for data in self.datas:
                for side in (1, -1):
                    self.broker.headroom(data, side, owner=self)
        for _ in range(self.dice.choice([0, 0, 1, 2])):
            self.act()

    def act(self):
        dice = self.dice
        data, side = dice.choice(self.datas), dice.choice([1, -1])
        price, size = data.close[0], dice.choice([1, 7, 40, 300, 5000])
        act = dice.choice(["ask", "ask", "ask", "market", "limit", "bracket", "close", "cancel"])
        if act == "close":
            self.close(data)
        elif act == "cancel":
            for order in self.broker.get_orders_open()[:2]:
                self.cancel(order)
        elif act == "bracket":
            lower, higher = price * 0.97, price * 1.04
            stop, limit = (lower, higher) if side > 0 else (higher, lower)
            make = self.buy_bracket if side > 0 else self.sell_bracket
            make(data=data, size=size, exectype=None, stopprice=stop, limitprice=limit)
        elif act == "limit":
            kind = dice.choice([bt.Order.Limit, bt.Order.Stop])
            self.make(data, side, size, exectype=kind, price=price * dice.uniform(0.97, 1.03))
        elif act == "market":
            self.make(data, side, size)
        else:
            self.ask(data, side, price)

    def make(self, data, side, size, **terms):
        return (self.buy if side > 0 else self.sell)(data=data, size=size, **terms)

    def ask(self, data, side, price):
        terms = {"exectype": None, "price": None}
        if self.dice.random() < 0.3:
            terms = {"exectype": bt.Order.Limit, "price": price * (1 - side * 0.01)}
        stop = price * (1 - side * 0.02) if self.dice.random() < 0.3 else None
        more = self.dice.choice([0, 1])
        if self.p.asks != "here":
            self.make(data, side, 1 + more, **terms, stop_price=stop)
            return
        room = self.broker.headroom(data, side, stop, owner=self, **terms)
        self.answers.append(room)
        lot = self.broker.find(data).facts.get("step", 1.0)
        size = room.size + more * lot if math.isfinite(room.size) else 1e6 * lot
        if not size:
            return
        order = self.make(data, side, size, **terms, stop_price=stop)
        passed = order.status != order.Rejected and abs(order.created.size) >= size - 1e-9
        if passed != (not more or room.size == math.inf):
            self.wrong.append((len(self), data._name, side, room, more, order))
        if not passed and order.status == order.Rejected and room.answers[0].rule != "trim":
            text = order.info.bt_risk
            if "would pass" in text and f"at most {room.size:.12g} would pass" not in text:
                self.wrong.append((len(self), room, text))


def run(seed, asks, mode="runonce"):
    dice = random.Random(seed)
    frames = [random_walk(seed * 7 + k, 70, 0.02) for k in range(dice.choice([1, 2, 3]))]
    engine = cerebro(*frames, cash=100_000.0)
    facts = {}
    for k in range(len(frames)):
        name, kind = f"D{k}", dice.choice(["stock", "stock", "future", "coin"])
        if kind == "future":
            engine.broker.setcommission(commission=2.0, margin=500.0, mult=10.0, name=name)
        if kind == "coin":
            facts[name] = {"step": 0.001, "min_notional": 10.0}
    policy = bt_risk.Policy(
        **LIMITS[seed % len(LIMITS)],
        instruments=facts,
        sizer=False,
        trailing_stop=dice.random() < 0.6,
        drawdown_limit=dice.choice([None, 0.05]),
        action="pause",
        flatten=False,
    )
    engine.addanalyzer(Tape, _name="tape")
    for k in range(dice.choice([1, 1, 2])):
        engine.addstrategy(World, seed=seed + 1000 * k, asks=asks)
    bt_risk.protect(engine, policy)
    return engine.run(**feeds.MODES[mode])


@pytest.mark.parametrize("seed", range(42))
def test_what_would_pass_passes_and_one_lot_more_does_not(seed):
    for strategy in run(seed, "here"):
        assert strategy.wrong == []
        assert strategy.answers


@pytest.mark.parametrize("seed", range(18))
def test_a_run_that_asks_on_every_bar_is_the_run_that_does_not(seed):
    mode = list(feeds.MODES)[seed % len(feeds.MODES)]
    asked, bare = run(seed, "always", mode), run(seed, "", mode)
    for one, other in zip(asked, bare, strict=True):
        assert tape_of(one) == tape_of(other)
    gates = asked[0].broker, bare[0].broker
    lines, expected = ([str(line) for line in gate.journal.lines] for gate in gates)
    assert lines == expected
    assert lines
    book, other = (gate.book for gate in gates)
    assert [key[0] for key in book.parts] == [key[0] for key in other.parts]
    assert len(book.latched) == len(other.latched)


class Asking(bt.Strategy):
    """Keep what `ask` returns on bar 30."""

    params = {"ask": None}

    def next(self):
        if len(self) == 30:
            self.answer = self.p.ask(self)


def answer(ask, strategies=1, **policy):
    engine = cerebro(bars(*flat(40)))
    for _ in range(strategies):
        engine.addstrategy(Asking, ask=ask)
    if policy:
        bt_risk.protect(engine, bt_risk.Policy(**policy))
    else:
        engine.setbroker(bt_risk.RiskBroker(engine.broker))
    return engine.run()[0].answer


def test_every_limit_answers_for_itself():
    # 1 % of 100,000 at a stop 4 away; 100 % of it at a price of 100; 5 % at risk.
    room = answer(lambda s: s.broker.headroom(s.data, 1), trailing_stop=True)
    assert (room.size, room.rule) == (250, "RiskPerTrade")
    assert room.reason == "RiskPerTrade: 0.0100 of equity > risk_limit 0.0100"
    sizes = {one.rule: one.size for one in room.answers}
    assert sizes == {
        "RiskPerTrade": 250,
        "NotionalLimit": 1000,
        "ExposureLimit": 1250,
        "CorrelationLimit": math.inf,
    }


def test_a_nearer_stop_makes_room():
    room = answer(lambda s: s.broker.headroom(s.data, -1, stop_price=102.0), risk_limit=0.01)
    assert room.size == 500


def test_without_a_limit_there_is_no_end():
    assert answer(lambda s: s.broker.headroom(s.data, 1)) == bt_risk.Headroom(math.inf)


def test_nothing_passes_in_a_halt_but_what_is_held():
    def ask(strategy):
        strategy.broker.halt("news")
        return strategy.broker.headroom(strategy.data, 1)

    room = answer(ask, risk_limit=0.01)
    assert (room.size, room.rule, room.reason) == (0, "RiskBroker", "news")
    assert len(room.answers) == 1


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda s: s.broker.headroom(s.data, 2), "side must be one of"),
        (lambda s: s.broker.headroom("D0", 1), "data must be a data feed of this Cerebro"),
        (lambda s: s.broker.headroom(s.data, 1, owner="me"), "owner must be a strategy of this"),
    ],
)
def test_a_question_that_cannot_be_answered_raises(ask, words):
    with pytest.raises(ParameterError, match=words):
        answer(ask)


def test_with_several_strategies_one_is_named():
    with pytest.raises(ParameterError, match="owner must be a strategy"):
        answer(lambda s: s.broker.headroom(s.data, 1), strategies=2)
    room = answer(lambda s: s.broker.headroom(s.data, 1, owner=s), strategies=2, risk_limit=0.01)
    assert room.size == 250


def test_a_rejected_order_says_what_would_have_passed():
    """Also for a fraction of a unit without a step, with as many digits as count."""

    def ask(strategy):
        return [strategy.buy(size=size).info.bt_risk for size in (5000, 5000.5)]

    reasons = answer(
        ask, notional_limit=None, exposure_limit=0.00123456789, on_exposure="reject", sizer=False
    )
    ends = [reason.rpartition("; ")[2] for reason in reasons]
    # 123.456789 at risk, 4 a unit.
    assert ends == ["at most 30 would pass", "at most 30.86 would pass"]


def test_a_rejected_order_counts_every_limit():
    """The exposure limit, which refuses whole orders, would let 1,000 pass: rule 1 only 250."""
    reason = answer(
        lambda s: s.buy(size=5000).info.bt_risk,
        exposure_limit=0.04,
        on_exposure="reject",
        notional_limit=None,
        sizer=False,
    )
    assert reason.endswith("; at most 250 would pass")


class Latching(bt_risk.Limit):
    """Refuse orders of more than 10 units, and note every question as `CorrelationLimit` does."""

    limit = 10.0

    def review(self, request, book):
        """Return the `Decision` for `request`."""
        book.latched.add((len(book.latched), frozenset(), 1))
        if request.size <= 10:
            return bt_risk.Decision(request.size)
        return self.refuse(0.0, f"{request.size:g} units > 10")


def test_asking_leaves_no_trace_in_the_book():
    seen = []

    def ask(strategy):
        book = strategy.broker.book
        before = book.equity, set(book.latched), list(book.parts), list(book.instruments[0].parts)
        assert strategy.broker.headroom(strategy.data, 1).size == 10
        assert math.isnan(before[0])  # no order was judged yet
        assert math.isnan(book.equity)
        assert before[1:] == (book.latched, list(book.parts), book.instruments[0].parts)
        order = strategy.buy(size=500)
        seen.append((order.info.bt_risk, len(book.latched)))

    engine = cerebro(bars(*flat(40)))
    engine.addstrategy(Asking, ask=ask)
    engine.setbroker(bt_risk.RiskBroker(engine.broker, limits=[Latching()]))
    engine.run()
    # The order itself was judged once.
    assert seen == [("Latching: 500 units > 10; at most 10 would pass", 1)]


@pytest.mark.parametrize("most", [0, 1, 2, 3, 17, 263, 10**9])
@pytest.mark.parametrize("hint", [0, 1, 262, 263, 264, 10**6])
def test_the_search_finds_the_most_from_any_hint(most, hint):
    asked = []

    def passes(lots):
        asked.append(lots)
        return lots <= most

    assert _most(passes, hint) == most
    assert most + 1 in asked
    assert len(asked) < 70
    assert _most(passes, hint, max(most + 1, 10**9 + 1, hint)) == most
