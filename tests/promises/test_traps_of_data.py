"""Traps of feeds and analyzers: what plain Backtrader does, and what a user of ours has instead."""

import backtrader as bt
import pytest
from helpers.scenarios import Script, bars, cerebro, flat, random_walk

import bt_risk


def run(engine, **kwargs):
    engine.addstrategy(Script, actions={20: lambda s: s.buy(size=10), 25: lambda s: s.close()})
    return engine.run(**kwargs)[0]


def test_a_frame_indexed_by_dates_is_no_feed_and_ours_are_indexed_by_times():
    frame = random_walk(1, bars=30)
    frame.index = frame.index.date
    with pytest.raises(AttributeError, match="to_pydatetime"):
        run(cerebro(frame))
    strategy = run(cerebro(bt_risk.load_data("sp500_1d").iloc[:30]))
    assert len(strategy) == 30


def test_a_frame_with_numbers_for_names_is_no_feed():
    frame = random_walk(1, bars=30)
    frame.columns = range(5)
    with pytest.raises(AttributeError, match="lower"):
        run(cerebro(frame))


def test_bind2lines_fails_on_the_python_of_today():
    class Bound(Script):
        def __init__(self):
            super().__init__()
            bt.ind.SMA(self.data, period=2).bind2lines(0)

    engine = cerebro(bars(*flat(5)))
    engine.addstrategy(Bound)
    with pytest.raises(AttributeError, match="Iterable"):
        engine.run()


def test_backtraders_pyfolio_analyzer_drops_every_asset_but_the_last():
    engine = cerebro(*[random_walk(seed, bars=30) for seed in (1, 2, 3)])
    engine.addanalyzer(bt.analyzers.PyFolio)
    strategy = run(engine)
    _, positions, _, _ = strategy.analyzers.pyfolio.get_pf_items()
    assert list(positions.columns) == ["D2", "cash"]


def test_feeds_without_a_name_have_two_names_in_backtrader_and_one_here():
    engine = cerebro(random_walk(1, bars=30), names=[""])
    engine.addanalyzer(bt.analyzers.PyFolio)
    engine.addobserver(bt_risk.ATRTrailingStop)
    engine.addanalyzer(bt_risk.RiskJournal)
    strategy = run(engine)
    _, positions, transactions, _ = strategy.analyzers.pyfolio.get_pf_items()
    assert list(positions.columns) == ["Data0", "cash"]
    assert set(transactions["symbol"]) == {""}
    assert set(strategy.analyzers.riskjournal.frame()["data"]) == {"data0"}


class CallsWithoutHistory(Script):
    """Count when an indicator of ATR(14) lets `next` begin."""

    def next(self):
        self.made.append(len(self))

    def prenext(self):
        pass


def test_an_indicator_in_an_analyzer_delays_the_strategy_and_ours_do_not():
    class Delaying(bt.Analyzer):
        def __init__(self):
            self.atr = bt.ind.ATR(self.data, period=14)

    first = {}
    for name, component in {"theirs": Delaying, "ours": bt_risk.DrawdownBreaker}.items():
        engine = cerebro(bars(*flat(30)))
        engine.addstrategy(CallsWithoutHistory)
        engine.addanalyzer(component)
        engine.addobserver(bt_risk.ATRTrailingStop)
        first[name] = engine.run()[0].made[0]
    assert first == {"theirs": 15, "ours": 1}
