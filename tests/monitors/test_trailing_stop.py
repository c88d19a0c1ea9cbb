"""The trailing stop of every trade, bar by bar: where it stands and what it closes."""

import backtrader as bt
import pytest
from helpers import scenarios as feeds
from helpers.fake_broker import FakeBroker
from helpers.recording import fills, play
from helpers.scenarios import bars, cerebro, flat

import bt_risk


def test_risk_is_measured_to_where_the_stop_has_moved():
    engine = cerebro(bars(*flat(20), *(row for p in (104.0, 108.0) for row in flat(1, price=p))))
    engine.addobserver(bt_risk.ATRTrailingStop, atr_multiple=2.0)
    engine.addanalyzer(bt_risk.PortfolioRisk, _name="risk")
    strategy = play(engine, {16: lambda s: s.buy(size=10)})
    stop = strategy.observers.atrtrailingstop.stop[0]
    assert stop > 98.0
    lost = 10 * (108.0 - stop) / strategy.broker.getvalue()
    assert strategy.analyzers.risk.frame().long_risk.iloc[-1] == pytest.approx(lost)


def test_the_stop_of_one_trade_does_not_touch_the_next_of_the_same_bar():
    """The old stop has risen above 106; the new one is as far from its fill at 108, near 105."""
    rows = [*flat(18), *((p, p + 1, p - 1, p) for p in (104, 108, 112, 110, 110))]
    rows += [(108, 109, 107.5, 108), (108, 109, 106, 108)]
    engine = cerebro(bars(*rows))
    engine.addobserver(bt_risk.ATRTrailingStop)
    again = lambda s: (s.close(), s.buy(size=10))  # noqa: E731
    strategy = play(engine, {16: lambda s: s.buy(size=10), 23: again})
    stops = list(strategy.observers.atrtrailingstop.stop.get(size=3))
    assert stops[0] > 106.0 > stops[1]
    assert fills(strategy) == [(17, 10, 100.0), (24, -10, 108.0), (24, 10, 108.0)]


def test_the_close_of_the_entry_bar_does_not_trigger_a_stop():
    """Entry at 100, first stop at 96; the entry bar closes at 95, the next one at 97."""
    rows = [*flat(16), (100, 101, 94, 95), *flat(4, price=97.0)]
    engine = cerebro(bars(*rows))
    engine.addobserver(bt_risk.ATRTrailingStop, trigger="close")
    strategy = play(engine, {16: lambda s: s.buy(size=10)})
    assert strategy.held[-1] == (10,)


def test_the_atr_multiple_of_an_instrument_is_that_of_its_stop():
    """The close is 110, 103 before it: 14 bars of ATR 2, then ranges of 4 and 8."""
    rows = [*flat(17), (103, 104, 102, 103), (110, 111, 109, 110)]
    engine = cerebro(bars(*rows))
    engine.setbroker(bt_risk.RiskBroker(engine.broker, instruments={"D0": {"atr_multiple": 3.0}}))
    engine.addobserver(bt_risk.ATRTrailingStop, atr_multiple=2.0)
    strategy = play(engine, {16: lambda s: s.buy(size=10)})
    atr = (13 * (13 * 2.0 + 4.0) / 14 + 8.0) / 14
    assert strategy.observers.atrtrailingstop.stop[0] == pytest.approx(110.0 - 3.0 * atr)


class WatchVenue(feeds.Script):
    """Note what is held, what our stops would close and what the user's exits would."""

    def next(self):
        super().next()
        working = self.broker.inner._working
        stops = [o.executed.remsize for o in working if o.exectype == bt.Order.Stop]
        exits = [o.executed.remsize for o in working if o.exectype == bt.Order.Market]
        self.made.append((self.position.size, sum(stops), sum(exits)))


def test_at_a_venue_the_stop_leaves_to_a_market_exit_what_that_will_close():
    """What is held has a bar every second day: the exit of 4 waits there beside the stop."""
    frame = bars(*flat(60))
    engine = cerebro(frame[::2], frame)
    engine.setbroker(FakeBroker())
    engine.addobserver(bt_risk.ATRTrailingStop)
    engine.addstrategy(
        WatchVenue, actions={32: lambda s: s.buy(size=10), 36: lambda s: s.sell(size=4)}
    )
    strategy = engine.run()[0]
    seen = [row for row in strategy.made if isinstance(row, tuple)]
    assert (10, -10, 0) in seen
    assert (10, -6, -4) in seen
    assert seen[-1] == (6, -6, 0)
    assert all(stops + exits >= -held for held, stops, exits in seen if exits <= 0)


@pytest.mark.parametrize("side", [1, -1])
def test_the_first_stop_counts_from_the_first_fill_of_a_bar_that_has_two(side):
    """10 fill at 100 and 30 at 97, both on bar 21: the stop is 4 from 100, not from 97.75.

    The close of that bar would put it at 97.5 less 2 ATR, which is farther away.
    """
    rows = [
        *flat(20),
        (100, 101, 96.5, 97.5),
        (97.5, 98, 96.2, 97),
        *flat(3, price=97.0, width=0.5),
    ]
    if side < 0:
        rows = [(200 - o, 200 - low, 200 - high, 200 - c) for o, high, low, c in rows]
    engine = cerebro(bars(*rows))
    engine.addobserver(bt_risk.ATRTrailingStop)

    def enter(strategy):
        way = strategy.buy if side > 0 else strategy.sell
        way(size=10)
        way(size=30, exectype=bt.Order.Limit, price=100.0 - side * 3.0)

    strategy = play(engine, {20: enter})
    assert strategy.held[20] == (side * 40,)
    assert strategy.observers.atrtrailingstop.stop.array[20] == 100.0 - side * 4.0
