"""Orders in review: what counts towards a limit, and what makes room again."""

import math

import backtrader as bt
import pytest
from helpers import scenarios as feeds
from helpers.recording import ends, fills, limit_orders, play
from helpers.scenarios import NextScript, bars, cerebro, flat

import bt_risk
from bt_risk.errors import ParameterError
from bt_risk.limits.base import NotionalLimit, RiskPerTrade


def test_the_orders_of_an_oco_group_count_again_after_one_was_added():
    """250 units use up the risk limit; the smaller alternative of 50 does not make room."""
    engine = cerebro(bars(*flat(30)))
    limit_orders(engine, RiskPerTrade(0.01))

    def alternatives(strategy):
        first = strategy.buy(size=250, exectype=bt.Order.Limit, price=95.0)
        strategy.buy(size=50, exectype=bt.Order.Limit, price=96.0, oco=first)
        return strategy.buy(size=100)

    strategy = play(engine, {20: alternatives})
    assert [end[0] for end in ends(strategy)] == ["Accepted", "Accepted", "Rejected"]


def test_a_short_counts_towards_the_notional_limit_like_a_long():
    engine = cerebro(bars(*flat(30)))
    limit_orders(engine, NotionalLimit(0.5))
    strategy = play(engine, {5: lambda s: s.sell(size=300), 10: lambda s: s.sell(size=300)})
    assert strategy.held[-1] == (-500,)


def test_a_named_stop_beyond_the_price_bounds_no_loss():
    engine = cerebro(bars(*flat(30)))
    limit_orders(engine, RiskPerTrade(0.01))
    strategy = play(engine, {20: lambda s: s.buy(size=10, stop_price=104.0)})
    (end,) = ends(strategy)
    assert end[0] == "Rejected"
    assert "its stop is not on the losing side of its price" in end[3]


def test_a_resampled_copy_has_no_risk_limit_of_its_own():
    """250 units use up the risk limit; the copy is the same instrument."""
    engine = cerebro(bars(*flat(40)))
    engine.resampledata(engine.datas[0], timeframe=bt.TimeFrame.Weeks, name="weekly")
    limit_orders(engine, RiskPerTrade(0.01))

    def both(strategy):
        strategy.buy(size=250)
        strategy.buy(data=strategy.datas[1], size=100, stop_price=96.0)

    strategy = play(engine, {30: both}, NextScript)
    assert sorted(end[0] for end in ends(strategy)) == ["Completed", "Rejected"]


# -- the worst price, distance and value of a point ----------------------------------------------

RISE = [*flat(31, width=0.1), (104, 104.2, 103.9, 104.0), *flat(5, price=104.0, width=0.1)]


@pytest.mark.parametrize("price", [1.0, 0.01, 103.0])
def test_a_sell_limit_below_the_market_is_worth_the_market(price):
    """It was placed at 100 and is filled at 104: 1,000 units are the whole equity."""
    engine = cerebro(bars(*RISE))
    limit_orders(engine, NotionalLimit(1.0))
    entry = {30: lambda s: s.sell(size=10**7, exectype=bt.Order.Limit, price=price)}
    strategy = play(engine, entry)
    assert strategy.held[-1] == (-int(100_000 / max(price, 100.0)),)


@pytest.mark.parametrize(("side", "price"), [(1, 90.0), (-1, 110.0)])
def test_a_stop_that_is_reached_already_is_worth_the_market_where_that_is_more(side, price):
    engine = cerebro(bars(*flat(40)))
    limit_orders(engine, NotionalLimit(0.5))
    way = "buy" if side > 0 else "sell"
    entry = {30: lambda s: getattr(s, way)(size=5000, exectype=bt.Order.Stop, price=price)}
    strategy = play(engine, entry)
    assert abs(strategy.held[-1][0]) == int(50_000 / max(price, 100.0))


def guarded(rows, actions):
    engine = cerebro(bars(*rows))
    limit_orders(engine, RiskPerTrade(0.01))
    engine.addobserver(bt_risk.ATRTrailingStop)
    return play(engine, actions)


@pytest.mark.parametrize("side", [1, -1])
def test_what_is_added_beyond_our_own_stop_risks_the_distance_of_a_new_one(side):
    """The bar of the entry closes beyond the stop: the addition has 2 ATR of its own."""
    rows = [*flat(30), (100, 100.5, 95.2, 95.5), (95.5, 96, 95, 95.4), *flat(5, price=95.4)]
    if side < 0:
        rows = [(200 - o, 200 - low, 200 - high, 200 - c) for o, high, low, c in rows]
    way = "buy" if side > 0 else "sell"
    actions = {
        30: lambda s: getattr(s, way)(size=100),
        31: lambda s: getattr(s, way)(size=5000),
    }
    strategy = guarded(rows, actions)
    added = [end for end in ends(strategy) if abs(end[1]) not in (0, 100)]
    assert [0 < abs(end[1]) <= 250 for end in added] == [True]


@pytest.mark.parametrize("side", [1, -1])
def test_the_stop_behind_a_position_covers_nothing_of_a_reversal(side):
    """The bar of the entry closes half a point beyond its stop, which is none of the short's.

    2 ATR is what the new position risks, or more than 4 points: 1 % is less than 250 units.
    """
    rows = [*flat(30), (100, 100.5, 95.2, 95.5), *flat(5, price=95.4, width=0.3)]
    if side < 0:
        rows = [(200 - o, 200 - low, 200 - high, 200 - c) for o, high, low, c in rows]
    ways = ["buy", "sell"][::side]
    actions = {
        30: lambda s: getattr(s, ways[0])(size=100),
        31: lambda s: getattr(s, ways[1])(size=5000),
    }
    strategy = guarded(rows, actions)
    assert 100 < max(-side * held for (held,) in strategy.held) < 250


def test_what_was_cut_is_void_again_once_an_exit_that_used_it_up_is_cancelled():
    """Of 1,000 the limit leaves 500. A resting sale of 1,000 is cancelled; the next makes flat."""
    engine = cerebro(bars(*flat(30)))
    limit_orders(engine, NotionalLimit(0.5))
    resting = {"size": 1000, "exectype": bt.Order.Limit, "price": 150.0}
    made = []
    actions = {
        10: lambda s: s.buy(size=1000),
        15: lambda s: made.append(s.sell(**resting)),
        18: lambda s: s.cancel(made[0]),
        20: lambda s: s.sell(size=1000),
    }
    strategy = play(engine, actions)
    assert [held for (held,) in strategy.held][10:] == [500] * 10 + [0] * 10


def test_a_stop_entry_risks_from_its_own_price_to_our_stop():
    """Held 50 at 100 with a stop at 96; at 110 a unit risks 14, so 1 % leaves less than 60."""
    rows = [*flat(40), (100, 112, 99.9, 111), *flat(5, price=111.0)]
    actions = {
        30: lambda s: s.buy(size=50),
        35: lambda s: s.buy(size=5000, exectype=bt.Order.Stop, price=110.0),
    }
    strategy = guarded(rows, actions)
    assert 0 < max(held for (held,) in strategy.held) - 50 <= (1000 - 50 * 4) / 14


def test_a_stop_price_that_is_no_price_is_refused_and_nothing_else_is_lost():
    for stop in ("96", math.nan, math.inf, object()):
        engine = cerebro(bars(*flat(30)))
        limit_orders(engine, RiskPerTrade(0.01))
        buy = {20: lambda s, stop=stop: s.buy(size=10, stop_price=stop)}
        (end,) = ends(play(engine, buy))
        assert end[0] == "Rejected"
        assert end[3].startswith("stop_price: must be a price; got")


def test_the_risk_of_a_contract_is_what_its_scheme_says():
    """100 a point and 4 points to the stop: 1 % of 100,000 is 2 contracts."""
    engine = cerebro(bars(*flat(40)))
    engine.broker.addcommissioninfo(Contract())
    limit_orders(engine, RiskPerTrade(0.01))
    assert play(engine, {30: lambda s: s.buy(size=10**5)}).held[-1] == (2,)


# -- bars that cannot be believed ----------------------------------------------------------------


def test_nothing_opens_on_a_suspect_bar_and_exits_pass():
    rows = flat(40)
    rows[29] = (100, 101, 99, 0.0)
    engine = cerebro(bars(*rows))
    limit_orders(engine, NotionalLimit(1.0))
    actions = {
        20: lambda s: s.buy(size=10),
        30: lambda s: (s.buy(size=5), s.sell(size=4)),
        31: lambda s: s.buy(size=1),
    }
    strategy = play(engine, actions)
    assert [end[0] for end in ends(strategy)] == ["Completed", "Rejected", "Completed", "Completed"]
    assert "its close 0 is not above zero" in ends(strategy)[1][3]


def test_no_size_comes_from_an_equity_that_a_suspect_bar_has_made():
    """D0 is held and stands at ten times its price for one bar; D1 waits for the next."""
    rows = flat(40)
    rows[29] = (100, 1000, 99, 1000.0)
    engine = cerebro(bars(*rows), bars(*flat(40)))
    limit_orders(engine, NotionalLimit(0.5))
    other = lambda s: s.buy(data=s.data1, size=10**6)  # noqa: E731
    strategy = play(engine, {20: lambda s: s.buy(size=100), 30: other, 31: other})
    assert "equity, while the last bar of D0" in ends(strategy)[1][3]
    assert ends(strategy)[2][1] == 500


def test_a_price_that_does_not_move_has_an_unknown_risk():
    engine = cerebro(bars(*flat(40, width=0.0)))
    limit_orders(engine, RiskPerTrade(0.01))
    (end,) = ends(play(engine, {30: lambda s: s.buy(size=990)}))
    assert end[0] == "Rejected"
    assert "ATR(14) of D0 is 0" in end[3]


def test_a_future_below_zero_is_traded_with_a_stop_that_rests_there():
    rows = [*flat(31, price=1.0, width=0.5), (1.0, 1.2, 0.4, 0.5), (0.5, 0.5, -1.5, -1.4)]
    rows += [(-1.4, -1.2, -4, -4), *flat(5, price=-4.0, width=0.5)]
    engine = cerebro(bars(*rows))
    engine.broker.setcommission(commission=0, margin=1000, mult=10)
    limit_orders(engine, RiskPerTrade(0.01))
    engine.addobserver(bt_risk.ATRTrailingStop)
    strategy = play(engine, {30: lambda s: s.buy(size=10)})
    assert [(end[0], end[2]) for end in ends(strategy)] == [("Completed", 1.0), ("Completed", -1.0)]


def test_a_stock_below_zero_has_one_clear_reason():
    engine = cerebro(bars(*flat(40, price=-5.0)))
    limit_orders(engine, NotionalLimit(1.0))
    (end,) = ends(play(engine, {30: lambda s: s.buy(size=10)}))
    assert end[3] == (
        "unknown: the last bar of D0: its close -5 is not above zero; "
        "declare negative_prices=True if that is a price"
    )


class BidAsk(bt.feeds.GenericCSVData):
    """Quotes without open, high, low and close."""

    linesoverride = True
    lines = ("bid", "ask", "datetime")
    params = dict(dtformat="%Y-%m-%d", datetime=0, time=-1, bid=1, ask=2)


class Buying(bt.Strategy):
    """Buy on bar 25, if asked to."""

    params = dict(buys=False)

    def next(self):
        if len(self) == 25 and self.p.buys:
            self.buy(size=1)


@pytest.mark.parametrize("limit", [0.01, math.inf])
def test_a_feed_without_a_close_runs_and_an_order_on_it_is_one_clear_error(tmp_path, limit):
    days = [f"2020-01-{day:02d},{100 + day % 2},{101 + day % 2}\n" for day in range(1, 31)]
    (tmp_path / "quotes.csv").write_text("dt,bid,ask\n" + "".join(days))
    for buys in (False, True):
        engine = bt.Cerebro(stdstats=False)
        engine.adddata(BidAsk(dataname=str(tmp_path / "quotes.csv")), name="Q")
        limit_orders(engine, RiskPerTrade(limit))
        engine.addstrategy(Buying, buys=buys)
        if not buys:
            assert len(engine.run()[0]) == 30
        elif math.isinf(limit):  # as without us
            with pytest.raises(AttributeError, match="close"):
                engine.run()
        else:
            with pytest.raises(ParameterError, match="must be one with open, high, low and close"):
                engine.run()


class Contract(bt.CommInfoBase):
    """A future whose size stands in the scheme's own words."""

    params = dict(stocklike=False, commtype=bt.CommInfoBase.COMM_FIXED, margin=100.0)

    def profitandloss(self, size, price, newprice):
        return size * (newprice - price) * 100.0

    cashadjust = profitandloss

    def _getcommission(self, size, price, pseudoexec):
        return 0.0


@pytest.mark.parametrize("second", [1, -1])
def test_each_strategy_has_a_risk_limit_of_its_own(second):
    """1 % of 100,000 at a stop 4 away is 250 units for each; the stop of each part fills alone."""
    engine = cerebro(bars(*flat(30)))
    limit_orders(engine, RiskPerTrade(0.01))
    engine.addstrategy(feeds.Script, actions={20: lambda s: s.buy(size=400)})
    send = {1: lambda s: s.buy(size=400), -1: lambda s: s.sell(size=400)}[second]
    engine.addstrategy(feeds.Script, actions={22: send})
    first, other = engine.run()
    assert [fills(first), fills(other)] == [[(21, 250, 100.0)], [(23, 250 * second, 100.0)]]
    assert first.held[-1] == (250 + 250 * second,)


def test_the_notional_of_an_instrument_is_that_of_each_side():
    """Two strategies may hold 50 % of equity on either side, and no more together on one."""
    engine = cerebro(bars(*flat(30)))
    limit_orders(engine, NotionalLimit(0.5))
    buys = {20: lambda s: s.buy(size=300), 24: lambda s: s.buy(size=300)}
    engine.addstrategy(feeds.Script, actions=buys)
    both = {22: lambda s: s.sell(size=600), 26: lambda s: s.sell(size=1)}
    engine.addstrategy(feeds.Script, actions=both)
    first, other = engine.run()
    assert [fill[1] for fill in fills(first)] == [300, 200]
    assert [fill[1] for fill in fills(other)] == [-500]
