"""``data1.compensate(data0)``: an order on data1 is an order on the position of data0."""

import math

import backtrader as bt
import pytest
from helpers.fake_broker import FakeBroker
from helpers.frames import PandasData
from helpers.recording import RandomTrader, limit_orders, record
from helpers.scenarios import Script, bars, cerebro, flat, random_walk

import bt_risk
from bt_risk.limits.base import NotionalLimit

FALL = [*flat(24), *flat(3, price=90.0), *flat(4, price=89.0)]
RISE = [*flat(24), *flat(3, price=110.0), *flat(4, price=111.0)]


class Fills(Script):
    """Keep ``(bar, data, size, price)`` of every fill, and the trades that are open."""

    def __init__(self):
        super().__init__()
        self.fills, self.open = [], {}

    def notify_order(self, order):
        super().notify_order(order)
        if order.status == order.Completed:
            done = order.executed
            self.fills.append((len(self), order.data._name, done.size, done.price))

    def notify_trade(self, trade):
        self.open[trade.ref] = 0 if trade.isclosed else trade.size


def engine_of(*frames, compensates=((1, 0),), **kwargs):
    engine = cerebro(*frames, names=["future", "spot", "other"][: len(frames)], **kwargs)
    for one, other in compensates:
        engine.datas[one].compensate(engine.datas[other])
    return engine


def run(actions, rows=FALL, second=None, side=1, stop=True, broker=None, **kwargs):
    """Run actions on a future and the spot that compensates it, behind a trailing stop."""
    mirror = lambda rows: [(200 - o, 200 - low, 200 - high, 200 - c) for o, high, low, c in rows]  # noqa: E731
    second = rows if second is None else second
    frames = [bars(*(mirror(one) if side < 0 else one)) for one in (rows, second)]
    engine = engine_of(*frames, **kwargs)
    if broker is not None:
        engine.setbroker(broker)
    if stop:
        engine.addobserver(bt_risk.ATRTrailingStop)
    engine.addstrategy(Fills, actions=actions)
    return engine.run()[0]


def order(side, size, data=0, **kwargs):
    """Return an action that orders on one side of a data feed."""
    return lambda s: (s.buy if side > 0 else s.sell)(s.datas[data], size=size, **kwargs)


def reasons(strategy):
    return [row[-1] for row in strategy.broker.journal.lines if row[-1]]


@pytest.mark.parametrize("side", [1, -1])
def test_an_order_on_the_other_data_feed_is_the_exit(side):
    """Our stop ends with the position, and nothing fills in the fall that comes after."""
    ran = run({16: order(side, 10), 20: order(-side, 10, 1)}, side=side)
    assert ran.fills == [(17, "future", side * 10, 100.0), (21, "spot", -side * 10, 100.0)]
    assert ran.held[-1] == (0, 0)
    assert not any(ran.open.values())
    assert ran.broker.book.working == {}
    assert [trade.size for trade in ran.broker.book.trades] == [10]


@pytest.mark.parametrize("state", ["halt", "reduce_only"])
def test_it_passes_in_every_state(state):
    both = lambda s: (getattr(s.broker, state)("enough"), s.sell(s.data1, size=10))  # noqa: E731
    ran = run({16: order(1, 10), 20: both})
    assert ran.held[-1] == (0, 0)
    assert ran.fills[-1][:3] == (21, "spot", -10)


def test_it_is_no_short_entry_in_something_correlated():
    engine = engine_of(random_walk(1, bars=60), random_walk(1, bars=60))
    engine.setbroker(bt_risk.CorrelationCap(engine.broker, min_periods=60))
    engine.addstrategy(Fills, actions={16: order(1, 10), 20: order(-1, 10, 1)})
    ran = engine.run()[0]
    assert ran.held[-1] == (0, 0)
    assert [fill[:3] for fill in ran.fills] == [(17, "future", 10), (21, "spot", -10)]


def test_a_part_that_leaves_makes_the_stop_smaller():
    ran = run({16: order(1, 10), 20: order(-1, 4, 1)})
    assert [fill[1:3] for fill in ran.fills] == [("future", 10), ("spot", -4), ("future", -6)]
    assert ran.held[-1] == (0, 0)


def test_an_exit_and_our_stop_of_one_bar_leave_the_account_flat():
    ran = run({16: order(1, 10), 24: order(-1, 10, 1)})
    assert [fill[1:3] for fill in ran.fills] == [("future", 10), ("spot", -10)]
    assert ran.held[-1] == (0, 0)


def test_a_resting_exit_on_the_other_data_feed_ends_with_the_position():
    """The take-profit on the spot would open a short future in the rise after the stop."""
    rows = [*FALL, *flat(5, price=120.0)]
    target = order(-1, 10, 1, exectype=bt.Order.Limit, price=110.0)
    ran = run({16: order(1, 10), 18: target}, rows=rows)
    assert [fill[1:3] for fill in ran.fills] == [("future", 10), ("future", -10)]
    assert ran.held[-1] == (0, 0)


@pytest.mark.parametrize("side", [1, -1])
def test_what_it_opens_is_reviewed_held_and_guarded_where_it_is_held(side):
    """500 units of 100 are half of the account."""
    engine = engine_of(*[bars(*(FALL if side > 0 else RISE))] * 2)
    limit_orders(engine, NotionalLimit(0.5))
    engine.addobserver(bt_risk.ATRTrailingStop)
    engine.addstrategy(Fills, actions={16: order(side, 900, 1)})
    ran = engine.run()[0]
    assert ran.held[20] == (side * 500, 0)
    assert [fill[1:3] for fill in ran.fills] == [("spot", side * 500), ("future", -side * 500)]
    assert any("NotionalLimit" in reason for reason in reasons(ran))


def test_an_addition_counts_what_is_held_already():
    engine = engine_of(bars(*flat(30)), bars(*flat(30)))
    limit_orders(engine, NotionalLimit(0.5))
    engine.addstrategy(Fills, actions={16: order(1, 400), 20: order(1, 400, 1)})
    assert engine.run()[0].held[-1] == (500, 0)


def test_a_reversal_closes_whole_and_opens_what_is_allowed():
    engine = engine_of(bars(*flat(30)), bars(*flat(30)))
    limit_orders(engine, NotionalLimit(0.5))
    engine.addstrategy(Fills, actions={16: order(1, 400), 20: order(-1, 1400, 1)})
    assert engine.run()[0].held[-1] == (-500, 0)


def test_it_is_judged_at_the_price_of_the_data_feed_that_it_is_sent_on():
    """The spot stands at 200: 250 units are half of the account."""
    engine = engine_of(bars(*flat(30)), bars(*flat(30, price=200.0)))
    limit_orders(engine, NotionalLimit(0.5))
    engine.addstrategy(Fills, actions={16: order(1, 900, 1)})
    assert engine.run()[0].held[-1] == (250, 0)


def test_a_rejected_order_is_one_on_its_own_data_feed():
    """The strategy recognises it by that, and so does the journal."""
    engine = engine_of(bars(*flat(30)), bars(*flat(30)))
    limit_orders(engine, NotionalLimit(1e-6))
    engine.addstrategy(Fills, actions={16: order(1, 900, 1)})
    ran = engine.run()[0]
    assert [(made.status, made.data._name) for made in ran.made] == [(bt.Order.Rejected, "spot")]
    lines = [line for line in ran.broker.journal.lines if line[3] == "reject"]
    assert [line[1] for line in lines] == ["spot"]


def test_a_tradeid_is_that_of_the_position():
    """Of 10 under 1 and 10 under 2 the spot closes 10 under 2: the stop closes those under 1."""
    both = lambda s: (s.buy(s.data0, size=10, tradeid=1), s.buy(s.data0, size=10, tradeid=2))  # noqa: E731
    ran = run({16: both, 20: order(-1, 10, 1, tradeid=2)})
    assert not any(ran.open.values())
    assert ran.held[-1] == (0, 0)


def test_the_journal_says_once_where_such_orders_are_judged():
    ran = run({16: order(1, 10), 18: order(-1, 5, 1), 20: order(-1, 5, 1)})
    notes = [reason for reason in reasons(ran) if reason.startswith("compensate")]
    assert notes == [
        "compensate: orders on spot change the position of future and are judged there"
    ]


def test_our_sizer_returns_the_position_for_an_order_without_a_size():
    engine = engine_of(bars(*flat(40)), bars(*flat(40)))
    engine.addsizer(bt_risk.HalfKellySizer)
    actions = {20: order(1, 10), 24: lambda s: s.sell(s.data1)}
    engine.addstrategy(Fills, actions=actions)
    ran = engine.run()[0]
    assert [fill[1:3] for fill in ran.fills] == [("future", 10), ("spot", -10)]


def test_a_data_feed_without_a_bar_opens_nothing():
    """The spot begins ten bars later: an order on it would be made at a price to come."""
    late = bars(*flat(20), start="2020-01-25")
    engine = engine_of(bars(*flat(40)), late)
    limit_orders(engine, bt_risk.PositionLimit(5, allow_extreme=True))
    engine.addstrategy(Fills, actions={16: order(1, 10, 1), 30: order(1, 10, 1)})
    ran = engine.run()[0]
    assert [row[0] for row in ran.orders if row[2] == "Rejected"] == [17]
    assert ran.held[-1] == (10, 0)


# -- what is not supported -----------------------------------------------------------------------


def test_a_chain_is_refused():
    """Backtrader follows one step only: an order on other changes spot, and one on spot future."""
    frames = [bars(*flat(30))] * 3
    engine = engine_of(*frames, compensates=[(1, 0), (2, 1)])
    engine.addobserver(bt_risk.ATRTrailingStop)
    engine.addstrategy(Fills, actions={16: order(1, 10, 2), 20: order(1, 10, 1)})
    ran = engine.run()[0]
    refused = "compensate: other compensates spot, which compensates another data feed itself"
    assert [(row[2], row[-1]) for row in ran.orders if row[2] == "Rejected"] == [
        ("Rejected", refused)
    ]
    assert ran.held[-1] == (10, 0, 0)


def test_a_data_feed_that_is_not_in_the_run_is_refused():
    engine = cerebro(bars(*flat(30)), names=["spot"])
    engine.datas[0].compensate(PandasData(dataname=bars(*flat(30))))
    engine.addobserver(bt_risk.ATRTrailingStop)
    engine.addstrategy(Fills, actions={16: order(1, 10)})
    ran = engine.run()[0]
    assert [row[2] for row in ran.orders] == ["Rejected"]
    assert "no data feed of this Cerebro" in ran.orders[0][-1]


def test_a_data_feed_that_compensates_itself_is_an_ordinary_one():
    engine = engine_of(bars(*FALL), compensates=[(0, 0)])
    engine.addobserver(bt_risk.ATRTrailingStop)
    engine.addstrategy(Fills, actions={16: order(1, 10)})
    ran = engine.run()[0]
    assert [fill[1:3] for fill in ran.fills] == [("future", 10), ("future", -10)]


def test_at_a_venue_nothing_is_opened_on_it_and_an_exit_passes():
    """A real broker nets nothing: the future and the spot are two positions there."""

    def begin(strategy):
        strategy.buy(strategy.data1, size=10)

    def compensate(strategy):
        strategy.data1.compensate(strategy.data0)

    actions = {
        16: begin,
        18: compensate,
        19: order(1, 10),
        20: order(-1, 4, 1),
        22: order(1, 10, 1),
    }
    ran = run(actions, rows=flat(40), broker=FakeBroker(), compensates=())
    assert ran.held[-1] == (10, 6)
    (reason,) = {row[-1] for row in ran.orders if row[2] == "Rejected"}
    assert reason == (
        "compensate: the broker nets no positions: an order on spot leaves that of future"
    )


def test_a_stop_that_would_change_another_position_does_not_rest():
    """The spot is held when its orders begin to change the future: no order can close it."""
    actions = {
        16: order(1, 10, 1),
        20: lambda s: s.data1.compensate(s.data0),
    }
    ran = run(actions, compensates=())
    assert ran.held[-1] == (0, 10)
    assert len(ran.fills) == 1
    assert ran.broker.book.working == {}
    assert any("unprotected" in row for row in ran.broker.journal.lines)


# -- limits off ----------------------------------------------------------------------------------


def observed(engine):
    bt_risk.protect(engine, bt_risk.Policy(), mode="observe")


def unlimited(engine):
    cap = bt_risk.CorrelationCap(engine.broker, correlation_limit=math.inf, exposure_limit=math.inf)
    engine.setbroker(cap)


def recorded(seed, add=lambda engine: None, compensates=((1, 0),)):
    frames = [random_walk(seed + k, bars=120) for k in (0, 50, 90)]
    engine = engine_of(*frames, compensates=compensates)
    engine.addstrategy(RandomTrader, seed=seed)
    add(engine)
    return record(engine)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("add", [observed, unlimited])
@pytest.mark.parametrize("compensates", [((1, 0),), ((1, 0), (2, 1)), ((1, 0), (0, 1))])
def test_without_limits_the_run_is_the_bare_run(seed, add, compensates):
    assert recorded(seed, add, compensates) == recorded(seed, compensates=compensates)


class Compared(RandomTrader):
    """Compare our record of the future with Backtrader's position and trades, on every bar."""

    def next(self):
        gate = self.broker
        part = gate.book.part(gate.find(self.data0), self)
        assert part.size == self.getposition(self.data0).size
        trades = {t: one[-1].size for t, one in self._trades[self.data0].items() if one[-1].size}
        assert part.tradeids == trades
        assert not self.getposition(self.data1).size
        super().next()


@pytest.mark.parametrize("seed", range(6))
def test_our_record_is_that_of_backtrader(seed):
    engine = engine_of(random_walk(seed, bars=200), random_walk(seed + 50, bars=200))
    engine.addobserver(bt_risk.ATRTrailingStop, atr_multiple=1.0)
    engine.addstrategy(Compared, seed=seed)
    ran = engine.run()[0]
    assert len(ran.broker.book.trades) > 3
