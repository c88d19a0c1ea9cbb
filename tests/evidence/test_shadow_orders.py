"""The shadow book by order: what rests, expires, trails, slips, or could not have been paid for."""

import datetime

import backtrader as bt
import pandas as pd
import pytest
from helpers.scenarios import bars, flat, random_walk
from helpers.shadow_runs import book_of, building, only, order, replayed
from helpers.slices import sliced

import bt_risk
from bt_risk.evidence.counterfactual import Fill
from bt_risk.evidence.paper_broker import PaperBroker, PaperOrder, RequestedOrder
from bt_risk.evidence.paper_cash import PaperCash, TradingCosts
from bt_risk.evidence.paper_trade import Bar, PaperStop
from bt_risk.evidence.runner import run_variant
from bt_risk.report.labels import DIFFERENCES

REFUSE = only(exposure_limit=0.001, exposure_unit="notional", on_exposure="reject")
HALF = only(exposure_limit=0.5, exposure_unit="notional", on_exposure="trim")


def rows(book):
    return book.paper_trades.to_dict("records")


def knock_on(book):
    """Return what no order explains: the one rule that is on has it."""
    rules = book.by_rule()
    assert rules["balance"][list(DIFFERENCES)].tolist() == [0, 0, 0]
    return rules["knock_on"].sum()


# -- cut while it rests ----------------------------------------------------------------------------

# 900 are bought at 100; at the close of bar 7 they have lost 12 % of 100,000, or 5 %.
CRASH = (order(5, "buy", size=900), order(5, "buy", size=100, exectype=bt.Order.Limit, price=70.0))


def test_a_resting_entry_that_a_halt_cancels_is_a_paper_trade_of_the_breaker():
    """The position goes at 88; the limit is reached in bar 9, and both are at 75 in the end."""
    path = bars(*flat(6), (100, 101, 88, 88), *flat(1, 88), (88, 88, 69, 75), *flat(2, 75))
    policy = only(drawdown_limit=0.1, action="pause", cooldown_bars=50)
    book = book_of(building(path, plan=CRASH, commission=0.001), policy)
    held, resting = rows(book)
    assert (held["rule"], held["entry"], held["units"]) == ("DrawdownBreaker", 88.0, 900)
    assert held["pnl"] == pytest.approx(-900 * 13 + 79.2)
    assert (resting["rule"], resting["entry"], resting["units"]) == ("DrawdownBreaker", 70.0, 100)
    assert resting["pnl"] == pytest.approx(100 * 5 - 7)
    assert knock_on(book) == pytest.approx(0, abs=1e-9)


def test_a_resting_entry_that_a_guard_cancels_is_a_paper_trade_of_the_guard():
    """The day has lost 4.5 % at the close; the limit at 70 is reached an hour later."""
    path = bars(*flat(6), (100, 101, 95, 95), (95, 95, 69, 80), *flat(2, 80), freq="h")
    book = book_of(building(path, plan=CRASH), only(guards=(bt_risk.DailyLossLimit(0.03),)))
    (trade,) = rows(book)
    assert (trade["rule"], trade["entry"], trade["pnl"]) == ("DailyLossLimit", 70.0, 1000.0)
    assert book.difference == pytest.approx(-1000)
    assert knock_on(book) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    "guard",
    [
        bt_risk.DailyLossLimit(0.03, flatten=True),
        bt_risk.TradingHours(["00:00-08:00"], flat_before=60),
    ],
    ids=lambda guard: guard.name,
)
def test_what_a_guard_has_closed_is_a_paper_trade_of_the_guard(guard):
    """900 are closed at 95, at the open of 07:00, and would be at 80 in the end."""
    path = bars(*flat(6), (100, 101, 95, 95), (95, 95, 91, 91), *flat(6, 80), freq="h")
    book = book_of(building(path, plan=CRASH[:1]), only(guards=(guard,)))
    (trade,) = rows(book)
    assert (trade["rule"], trade["entry"], trade["units"]) == (guard.name, 95.0, 900)
    assert trade["pnl"] == pytest.approx(-900 * 15)
    assert knock_on(book) == pytest.approx(0, abs=1e-9)


LIMIT, STOP, CLOSE = bt.Order.Limit, bt.Order.Stop, bt.Order.Close
WAITING = [
    {"exectype": LIMIT, "price": 0.96},
    {"exectype": STOP, "price": 1.03},
    {"exectype": bt.Order.StopLimit, "price": 1.03, "plimit": 1.02},
    {"exectype": bt.Order.StopTrail, "trailamount": 4.0},
    {"exectype": bt.Order.StopTrailLimit, "price": 1.0, "plimit": 1.01, "trailpercent": 0.04},
]
ENTRIES = [(e, late) for e in WAITING for late in (False, True)] + [({"exectype": CLOSE}, False)]


def kind(value):
    return bt.Order.ExecTypes[value["exectype"]] if isinstance(value, dict) else str(value)


@pytest.mark.parametrize(("entry", "late"), sliced(ENTRIES, 3), ids=kind)
def test_every_kind_of_order_fills_on_paper_as_it_does_in_the_bare_run(entry, late):
    """Same bar, same price, slippage included, on random walks.

    The order is refused at once, or cancelled `late`, by a halt in bar 26.
    """
    other = bars(*flat(25), (100, 100, 80, 80), *flat(94, 80))
    policy = only(drawdown_limit=0.05, action="pause", cooldown_bars=200) if late else REFUSE
    found = 0
    for seed in range(12):
        frame = random_walk(seed, 120, 0.012)
        near = frame["close"].iloc[19]
        given = {key: v * near if key in ("price", "plimit") else v for key, v in entry.items()}
        plan = order(10, "buy", data=1, size=500), order(20, "buy", data=0, size=10, **given)
        build = building(frame, other, plan=plan if late else plan[1:])

        def slipping(build=build):
            engine = build()
            engine.broker.set_slippage_perc(0.002)
            return engine

        bare = run_variant(slipping, None).record.fills
        bare = bare[bare["name"] == "D0"]
        if bare.empty or (late and bare["time"].iloc[0] <= other.index[25]):
            continue
        trades = book_of(slipping, policy).paper_trades
        (trade,) = trades[trades["data"] == "D0"].to_dict("records")
        assert trade["entry"] == pytest.approx(bare["price"].iloc[0], rel=1e-12)
        assert trade["opened"] == bare["time"].iloc[0]
        found += 1
        if found == 3:
            return
    pytest.fail("too few of the walks fill the order")


def test_what_is_cut_from_a_limit_goes_when_the_strategy_cancels_the_rest():
    path = bars(*flat(8), (100, 101, 89, 95), *flat(2, 95))
    plan = order(5, "buy", size=600, exectype=bt.Order.Limit, price=90.0), order(7, "cancel_all")
    book = book_of(building(path, plan=plan), HALF)
    assert book.paper_trades.empty
    assert book.difference == 0.0


class Fickle(bt.Strategy):
    """Place a limit order, and cancel it two bars later, whatever has become of it."""

    params = dict(plan=())

    def next(self):
        if len(self) == 5:
            self.order = self.buy(size=600, exectype=bt.Order.Limit, price=90.0)
        elif len(self) == self.p.plan[0]:
            self.cancel(self.order)


@pytest.mark.parametrize(("cancelled", "trades"), [(7, 0), (8, 0), (9, 1)])
def test_a_refused_order_that_the_strategy_cancels_is_no_paper_trade_from_then_on(
    cancelled, trades
):
    """Bar 9 reaches the limit: what was cancelled at the close of bar 8 is not there any more."""
    path = bars(*flat(8), (100, 101, 89, 95), *flat(2, 95))
    book = book_of(building(path, plan=(cancelled,), strategy=Fickle), REFUSE)
    assert len(book.paper_trades) == trades
    assert book.difference == pytest.approx(-3000 * trades)


# -- how long it waits -----------------------------------------------------------------------------


@pytest.mark.parametrize(("days", "trades"), [(2, 0), (3, 1)])
def test_a_limit_on_paper_is_good_until_its_date(days, trades):
    """Placed on the fifth of January, reached on the eighth."""
    path = bars(*flat(7), (100, 101, 89, 95), *flat(2, 95))
    limit = {"exectype": bt.Order.Limit, "price": 90.0}
    plan = (order(5, "buy", size=600, valid=datetime.timedelta(days=days), **limit),)
    book = book_of(building(path, plan=plan), REFUSE)
    assert [p["entry"] for p in rows(book)] == [90.0] * trades
    assert book.difference == pytest.approx(-600 * 5 * trades)


def test_two_orders_of_one_close_are_two_paper_trades():
    path = bars(*flat(8), (100, 101, 89, 95), *flat(2, 95))
    limit = order(5, "buy", size=100, exectype=bt.Order.Limit, price=90.0)
    lower = order(5, "buy", size=200, exectype=bt.Order.Limit, price=89.5)
    book = book_of(building(path, plan=(limit, lower)), REFUSE)
    assert [(p["units"], p["entry"]) for p in rows(book)] == [(100, 90.0), (200, 89.5)]
    assert book.difference == pytest.approx(-(500 + 1100))


def test_a_refused_limit_that_is_requested_again_is_one_order():
    asked = [
        RequestedOrder(1, "limit", price, 10.0, 0.0, 4.0, "rule", batch=k)
        for k, price in enumerate((97, 96))
    ]
    path = [(100, 101, 98, 100)] * 3 + [(100, 101, 95, 100)]
    replay = replayed(path, requested={0: asked[:1], 1: asked[1:]})
    assert [(trade.units, trade.entry) for trade in replay.paper_trades] == [(0.0, 96)]


def test_of_a_group_only_one_is_filled_on_paper():
    pair = [
        RequestedOrder(1, "limit", 98, 10.0, 0.0, 4.0, "rule", batch=0, group=0),
        RequestedOrder(1, "stop", 102, 20.0, 0.0, 4.0, "rule", number=1, batch=0, group=0),
    ]
    replay = replayed([(100, 101, 99, 100)] * 2 + [(100, 103, 97, 100)], requested={0: pair})
    assert [(trade.peak, trade.entry) for trade in replay.paper_trades] == [(10.0, 98)]


# -- what cash affords -----------------------------------------------------------------------------

# 600 at 90 with a stop at 50 risk 24,000: 1,000 are allowed, 25 units. Each unit earns 20.
RICHER = order(5, "buy", size=600, stop_price=50.0), order(7, "close")
RISE = (*flat(5, 90), (90, 111, 90, 110), *flat(3, 110))


def test_what_cash_refuses_whole_is_a_paper_trade_of_cash():
    """1,000 at 110: the bare account has 112,000 by then, the protected one 100,500."""
    path = bars(*RISE, (110, 121, 110, 120), *flat(2, 120))
    plan = (*RICHER, order(9, "buy", size=1000, stop_price=109.5))
    book = book_of(building(path, plan=plan), only(risk_limit=0.01))
    cut, starved = rows(book)
    assert (cut["rule"], cut["units"], cut["pnl"]) == ("RiskPerTrade", 575, 11500)
    assert (starved["rule"], starved["units"], starved["entry"]) == ("cash", 1000, 110.0)
    assert starved["pnl"] == pytest.approx(10_000)
    assert book.difference == pytest.approx(-21_500)
    assert knock_on(book) == pytest.approx(0, abs=1e-9)


def test_what_neither_account_could_pay_for_is_no_paper_trade():
    """900 at 100 are on paper: the 10,000 that are left buy no 500 at 100, in no run."""
    second = bars(*flat(8), (100, 121, 100, 120), *flat(2, 120))
    plan = order(5, "buy", data=0, size=900), order(7, "buy", data=1, size=500)
    book = book_of(building(bars(*flat(11)), second, plan=plan), REFUSE)
    assert [(p["data"], p["units"]) for p in rows(book)] == [("D0", 900)]
    assert book.by_rule().loc["ExposureLimit", "made"] == 0.0
    assert knock_on(book) == pytest.approx(0, abs=1e-9)


class AnotherWay(bt.Strategy):
    """Trade the first data; where it was refused, buy the second afterwards."""

    params = dict(plan=())

    def next(self):
        if len(self) == 5:
            self.first = self.buy(self.datas[0], size=900)
        elif len(self) == 7:
            self.close(self.datas[0])
        elif len(self) == 8 and self.first.status == bt.Order.Rejected:
            self.buy(self.datas[1], size=self.p.plan[0])


@pytest.mark.parametrize(("size", "trades"), [(1180, 1), (1181, 0)])
def test_a_paper_trade_can_be_paid_from_the_gain_of_another_data_feed_on_paper(size, trades):
    """100,000 and 20 x 900 buy 1,180 at 100, and the bare run buys none of them."""
    first = bars(*flat(6), (100, 121, 100, 120), *flat(4, 120))
    second = bars(*flat(9), (100, 111, 100, 110), *flat(1, 110))
    book = book_of(building(first, second, plan=(size,), strategy=AnotherWay), REFUSE)
    assert [p["pnl"] for p in rows(book)] == [18_000.0] + [11_800.0] * trades


def test_what_cash_cuts_at_the_fill_is_a_paper_trade_if_it_is_paid_for():
    """The sizer proposes all of 100,500 at 110, 913 units; at 111 cash affords 905 of them.

    The account that the first order was not cut for has 11,500 more: it buys the other 8.
    """
    rise = (*flat(5, 90, 0.01), (90, 111, 90, 110), *flat(40, 110, 0.01))
    path = bars(*rise, (111, 121, 111, 120), *flat(2, 120))
    plan = (*RICHER, order(46, "buy"))
    policy = only(risk_limit=0.01, sizer=True)
    book = book_of(building(path, plan=plan), policy)
    cash = [p for p in rows(book) if p["rule"] == "cash"]
    assert [(p["units"], p["entry"]) for p in cash] == [(8, 111.0)]
    assert cash[0]["pnl"] == pytest.approx(8 * 9)
    poor = book_of(building(path, plan=plan[2:]), policy)
    assert poor.paper_trades.empty


def account(cash, request, **terms):
    """Replay one request that fills at 100 with so much cash; return the units bought on paper."""
    book = PaperCash(pd.Series([cash], [0]))
    replay = replayed(
        [(100, 101, 99, 100)] * 2,
        requested={0: [request]},
        trading_costs=TradingCosts(**terms),
        cash=book,
    )
    return [trade.peak for trade in replay.paper_trades]


@pytest.mark.parametrize(
    ("cash", "step", "terms", "expected"),
    [
        (1000.0, float("nan"), {}, [10.0]),
        (999.0, float("nan"), {}, []),
        (999.0, 1.0, {}, [9.0]),
        (955.0, 0.5, {}, [9.5]),
        (500.0, float("nan"), {"leverage": 2.0}, [10.0]),
        (499.0, float("nan"), {"leverage": 2.0}, []),
        (250.0, float("nan"), {"margin": 25.0}, [10.0]),
        (249.0, 1.0, {"margin": 25.0}, [9.0]),
    ],
)
def test_cash_is_checked_as_backtrader_checks_it(cash, step, terms, expected):
    request = RequestedOrder(1, "market", 0, 10.0, 0.0, 4.0, "rule", step=step)
    assert account(cash, request, **terms) == expected


@pytest.mark.parametrize(("shortcash", "expected"), [(True, [10.0]), (False, [])])
def test_a_short_sale_brings_cash_unless_the_broker_says_otherwise(shortcash, expected):
    assert account(0.0, RequestedOrder(-1, "market", 0, 10.0, 0.0), shortcash=shortcash) == expected


# -- what it costs ---------------------------------------------------------------------------------


def test_a_paper_trade_without_a_bare_fill_slips_like_the_broker():
    """One percent: in at 101; the stop 4 below it, at 97, is left at 96.03; sold at 99 from 100."""
    broker = PaperBroker(slip_perc=0.01, slip_open=True)
    path = [(100, 102, 99, 100)] * 2 + [(100, 102, 96, 100), (100, 102, 98, 100)]
    request = RequestedOrder(1, "market", 0, 10.0, 0.0, 4.0, "rule")
    (stopped,) = replayed(
        path, requested={0: [request]}, stop_rule=PaperStop(9.0), broker=broker
    ).paper_trades
    assert (stopped.entry, stopped.end) == (101.0, "stop")
    assert stopped.exit == pytest.approx(97 * 0.99)
    against = RequestedOrder(-1, "market", 0, 10.0, 10.0)
    (left,) = replayed(path, requested={0: [request], 2: [against]}, broker=broker).paper_trades
    assert (left.end, left.exit) == ("exit", 99.0)


def test_the_paper_stop_slips_as_the_stop_of_a_run_that_was_allowed():
    reached = 0
    for seed in range(6):
        plan = order(20, "buy", size=600), order(100, "close")
        build = building(random_walk(seed, 120, 0.03), plan=plan)

        def slipping(build=build):
            engine = build()
            engine.broker.set_slippage_fixed(0.4)
            return engine

        refuse = only(
            exposure_limit=0.01, exposure_unit="notional", on_exposure="reject", trailing_stop=True
        )
        allowed = run_variant(slipping, only(trailing_stop=True)).record.fills["price"]
        trade = book_of(slipping, refuse).paper_trades.iloc[0]
        assert (trade["entry"], trade["exit"]) == pytest.approx(tuple(allowed[:2]))
        reached += trade["end"] == "stop"
    assert reached >= 3


class SecondChance(bt.Strategy):
    """Buy the second data where the first has not come."""

    params = dict(plan=())

    def next(self):
        if len(self) == 5:
            self.buy(self.datas[0], size=900)
        elif len(self) == 7 and not self.getposition(self.datas[0]):
            self.buy(self.datas[1], size=50)


def test_a_commission_that_no_run_has_paid_is_that_of_the_broker():
    """Nobody trades the second data: 50 at 100 cost 0.2 %, which is 10, and earn 10 each."""
    second = bars(*flat(8), (100, 111, 100, 110), *flat(2, 110))
    build = building(bars(*flat(11)), second, plan=(), strategy=SecondChance, commission=0.002)
    book = book_of(build, REFUSE)
    (trade,) = [p for p in rows(book) if p["data"] == "D1"]
    assert (trade["units"], trade["entry"]) == (50, 100.0)
    assert trade["pnl"] == pytest.approx(500 - 10)
    assert knock_on(book) == pytest.approx(490)


def test_a_limit_waits_for_its_price_although_the_bare_run_buys_something_else():
    path = [(100, 101, 99, 100)] * 2 + [(100, 101, 95, 100)]
    request = RequestedOrder(1, "limit", 96.0, 10.0, 0.0, 4.0, "rule")
    (trade,) = replayed(path, bare={1: [Fill(5, 100.0)]}, requested={0: [request]}).paper_trades
    assert (trade.opened, trade.entry) == (2, 96.0)


def test_a_close_order_fills_at_the_close_of_its_session():
    """Backtrader notes the last close of a session, and fills there once the session is over."""
    broker, request = (
        PaperBroker(),
        RequestedOrder(1, "close", 0, 1.0, 0.0, session=2.5, placed=1.0),
    )
    waiting = PaperOrder(request)
    fills = [broker.fill_price(waiting, Bar(k, 1, 9, 1, 4 + k, 1.0, number=k)) for k in (2, 3)]
    assert fills == [None, 6]
    cut = PaperOrder(request._replace(noted=5.5))  # cut once the last close was noted
    assert broker.fill_price(cut, Bar(3, 1, 9, 1, 7, 1.0, number=3)) == 5.5
