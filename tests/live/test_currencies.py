"""Instruments in another currency than the account's: converted by a rate, or refused."""

import math
from collections import defaultdict
from types import SimpleNamespace

import backtrader as bt
import pytest
from helpers import hostile_brokers as hostile
from helpers.fake_broker import FakeBroker
from helpers.hostile_brokers import Clock, reasons, run
from helpers.scenarios import Script, bars, flat

import bt_risk
from bt_risk.limits.base import NotionalLimit, RiskPerTrade

# An account of 15 million yen; 1 dollar is 150 yen.
YEN, RATE = 15_000_000.0, 150.0
DOLLARS = {"D0": dict(currency="USD")}
CALM = flat(40)
BUY = {20: lambda s: s.buy(size=100_000)}
SELL = {20: lambda s: s.sell(size=100_000)}


class Yen(FakeBroker):
    """Hold dollars' worth of instruments in an account in yen."""

    params = (("cash", YEN), ("rate", RATE))
    currency = "JPY"

    def getvalue(self, datas=None):
        held = sum(p.size * d.close[0] for d, p in self._positions.items() if p.size)
        return self.cash + held * self.p.rate

    def _try(self, order):
        before = self.cash
        super()._try(order)
        self.cash = before + (self.cash - before) * self.p.rate


class Rated(Yen):
    def rate(self, currency):
        return {"USD": self.p.rate}.get(currency, math.nan)


def largest(strategy):
    return abs(strategy.held[-1][0])


@pytest.mark.parametrize("enter", [BUY, SELL], ids=["long", "short"])
@pytest.mark.parametrize("limit", [NotionalLimit(0.5), RiskPerTrade(0.01)], ids=["value", "risk"])
@pytest.mark.parametrize(
    "live",
    [
        dict(rates={"USD": RATE}),
        dict(rates=lambda currency: {"USD": RATE}[currency]),
        dict(rates={"usd": RATE, "USD": RATE}, account_currency="jpy"),
        {},
    ],
    ids=["dict", "callable", "declared", "broker"],
)
def test_a_foreign_instrument_is_sized_in_the_currency_of_the_account(live, limit, enter):
    """15 million yen are 100,000 dollars: 500 units of 100, or 250 with a stop 4 away."""
    venue = Yen() if live else Rated()
    live = dict(instruments=DOLLARS, limits=[limit], stop=False) | live
    strategy, journal = run(venue, CALM, enter, breaker={}, **live)
    assert largest(strategy) == (500 if isinstance(limit, NotionalLimit) else 250)
    assert "1 USD counts as 150 JPY" in "".join(reasons(journal, "note"))
    assert reasons(journal, "equity") == []
    assert reasons(journal, "flow") == []


def test_without_a_rate_it_is_refused_with_that_reason_and_its_exits_pass():
    actions = BUY | {25: lambda s: s.buy(data=s.data0, size=1)}
    live = dict(instruments=DOLLARS, limits=[NotionalLimit(0.5)], stop=False)
    strategy, _ = run(Yen(), CALM, actions, **live)
    assert largest(strategy) == 0
    reason = "D0 is priced in USD, and the account is in JPY: there is no rate"
    assert reason in strategy.orders[-1][-1]


@pytest.mark.parametrize(
    ("facts", "live"),
    [
        ({}, {}),
        ({}, dict(account_currency="JPY")),
        (dict(currency="USD"), {}),
        (dict(currency="USD"), dict(account_currency="usd")),
    ],
)
def test_where_the_two_are_one_or_one_is_not_known_nothing_changes(facts, live):
    live = dict(instruments={"D0": facts}, limits=[NotionalLimit(0.5)], stop=False) | live
    strategy, journal = run(FakeBroker(), CALM, {20: lambda s: s.buy(size=9000)}, **live)
    assert largest(strategy) == 500
    assert "counts as" not in "".join(reasons(journal, "note"))


@pytest.mark.parametrize(
    "contract",
    [
        dict(currency="USD"),
        dict(contract=SimpleNamespace(currency="USD")),
        dict(contract=SimpleNamespace(m_currency="USD")),
        dict(contractdetails=SimpleNamespace(m_summary=SimpleNamespace(m_currency="usd"))),
        dict(contractdetails=SimpleNamespace(contract=SimpleNamespace(currency="USD"))),
    ],
)
def test_the_currency_stands_in_the_contract_of_the_data_feed(contract):
    class Contracted(hostile.Ticking):
        def start(self):
            super().start()
            vars(self).update(contract)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(hostile, "Ticking", Contracted)
        live = dict(limits=[NotionalLimit(0.5)], stop=False)
        strategy, _ = run(Rated(), CALM, BUY, **live)
    assert largest(strategy) == 500


def test_backtrader_s_store_of_interactive_brokers_knows_both():
    updates = defaultdict(dict)
    updates["NetLiquidation"] = {"JPY": YEN}
    updates["ExchangeRate"] = {"BASE": 1.0, "JPY": 1.0, "USD": RATE}
    venue = Yen()
    venue.currency = None
    venue.ib = SimpleNamespace(acc_upds={"U1": updates})
    live = dict(instruments=DOLLARS, limits=[NotionalLimit(0.5)], stop=False)
    strategy, _ = run(venue, CALM, BUY, **live)
    assert largest(strategy) == 500


def test_a_scheme_that_converts_is_not_converted_twice():
    """Dollars for yen in an account in dollars: the scheme earns in dollars already."""

    class Converting(bt.CommInfoBase):
        params = (("stocklike", False), ("margin", 1.0))

        def profitandloss(self, size, price, newprice):
            return size * (newprice - price) / newprice

    class Venue(FakeBroker):
        currency = "USD"

        def start(self):
            super().start()
            self.addcommissioninfo(Converting())

    rows = [(price * 1.5, high * 1.5, low * 1.5, close * 1.5) for price, high, low, close in CALM]
    sizes = []
    for live in ({}, dict(instruments={"D0": dict(currency="JPY")}, rates={"JPY": 1 / 150.0})):
        live |= dict(limits=[RiskPerTrade(0.01)], stop=False)
        strategy, _ = run(Venue(), rows, {20: lambda s: s.buy(size=10**6)}, **live)
        sizes.append(largest(strategy))
    assert sizes[0] == sizes[1] > 0


@pytest.mark.parametrize("wrong", [1.0, 1e9, 0.0, -150.0, math.nan, None])
def test_one_wrong_rate_sizes_nothing_and_moves_no_mark(wrong):
    answers = iter([RATE, wrong])
    live = dict(rates=lambda currency: next(answers, RATE), clock=Clock(step=6.0))
    live |= dict(instruments=DOLLARS, limits=[NotionalLimit(0.5)], stop=False)
    actions = {20: lambda s: s.buy(size=100), 25: lambda s: s.buy(size=100_000)}
    strategy, journal = run(Yen(), CALM, actions, breaker=dict(drawdown_limit=0.05), **live)
    assert largest(strategy) == 500
    assert reasons(journal, "halt") == []


def test_a_rate_that_stands_is_believed_and_is_a_gain():
    """The yen falls by 20 %: half of the account is in dollars."""
    venue = Yen()
    live = dict(rates=lambda currency: venue.p.rate, clock=Clock(step=6.0))
    live |= dict(instruments=DOLLARS, limits=[NotionalLimit(0.5)], stop=False)
    actions = {20: lambda s: s.buy(size=500), 28: lambda s: setattr(venue.p, "rate", 180.0)}
    strategy, journal = run(venue, CALM, actions, breaker={}, **live)
    assert strategy.broker.equity() == pytest.approx(YEN * 1.1)
    assert strategy.broker.unit_value() == pytest.approx(YEN * 1.1)
    assert strategy.broker.book.instruments[0].multiplier == 180.0
    assert reasons(journal, "flow") == []


@pytest.mark.parametrize("side", [1, -1])
def test_a_trade_earns_in_the_currency_of_the_account(side):
    rows = [*flat(25), *flat(15, price=103.0 if side > 0 else 97.0)]
    live = dict(instruments=DOLLARS, rates={"USD": RATE}, limits=[NotionalLimit(0.9)], stop=False)
    enter = {20: lambda s: (s.buy if side > 0 else s.sell)(size=10), 30: lambda s: s.close()}
    strategy, _ = run(Yen(), rows, enter, **live)
    (trade,) = strategy.broker.book.trades
    assert trade.pnl == pytest.approx(10 * 3 * RATE)
    assert trade.r_multiple == pytest.approx(0.75)


def test_a_position_without_a_rate_lets_nothing_else_in():
    """What is held already cannot be counted in any limit."""

    class Holding(Yen):
        def start(self):
            super().start()
            self._positions[self.cerebro.datas[0]].update(10, 100.0)

    engine = bt.Cerebro(stdstats=False)
    for name in ("D0", "D1"):
        engine.adddata(hostile.Ticking(dataname=bars(*CALM), idle=0), name=name)
    engine.setbroker(
        bt_risk.RiskBroker(Holding(), instruments=DOLLARS, limits=[NotionalLimit(0.5)])
    )
    actions = {20: lambda s: s.buy(data=s.data1, size=10), 25: lambda s: s.close(data=s.data0)}
    engine.addstrategy(Script, actions=actions | {30: lambda s: s.buy(data=s.data1, size=10)})
    (strategy,) = engine.run(quicknotify=True)
    assert "D0 is priced in USD" in strategy.orders[0][-1]
    assert strategy.held[-1] == (0, 10)


def test_cash_affords_what_its_currency_buys():
    """15 million yen buy 1,000 units of 100 dollars, whatever the sizer would risk."""
    engine = bt.Cerebro(stdstats=False)
    engine.adddata(hostile.Ticking(dataname=bars(*CALM)), name="D0")
    engine.setbroker(bt_risk.RiskBroker(Rated(), instruments=DOLLARS))
    engine.addsizer(bt_risk.HalfKellySizer, warmup_risk=0.2, notional_limit=None)
    engine.addstrategy(Script, actions={20: lambda s: s.buy()})
    (strategy,) = engine.run(quicknotify=True)
    assert largest(strategy) == 1000


def test_the_report_counts_in_the_currency_of_the_account():
    engine = bt.Cerebro(stdstats=False)
    engine.adddata(hostile.Ticking(dataname=bars(*CALM)), name="D0")
    engine.setbroker(bt_risk.RiskBroker(Rated(), instruments=DOLLARS, limits=[NotionalLimit(0.5)]))
    engine.addanalyzer(bt_risk.ReportData)
    engine.addstrategy(Script, actions=BUY)
    (strategy,) = engine.run(quicknotify=True)
    record = strategy.analyzers.reportdata.record
    assert record.fills["multiplier"].tolist() == [RATE]
    assert record.held["value"].iloc[-1] == pytest.approx(YEN / 2)
