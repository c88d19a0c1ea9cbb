"""Backtrader's own picture: without a screen, with our lines where they belong."""

import math

import backtrader as bt
import matplotlib
import matplotlib.image
import numpy as np
import pytest
from helpers.scenarios import Plan, bars, cerebro, flat, random_walk

import bt_risk
from bt_risk.report import plot

BUY = ((20, "buy", (("size", 20),)),)


def test_the_picture_is_written_without_a_screen(protected, tmp_path):
    files = plot(protected.engine, tmp_path / "new" / "plot.png", volume=False)
    assert [file.name for file in files] == ["plot.png"]
    pixels = matplotlib.image.imread(files[0])
    assert pixels.shape[0] > 1000
    assert pixels.shape[1] > 1000


def test_the_backend_is_put_back(protected, tmp_path):
    import matplotlib.pyplot as plt

    plt.switch_backend("svg")
    plot(protected.engine, tmp_path / "plot.svg", volume=False)
    assert plt.get_backend() == "svg"
    assert plt.get_fignums() == []
    plt.switch_backend("agg")


def test_each_strategy_has_a_picture_of_its_own(tmp_path):
    engine = cerebro(random_walk(0, 60))
    engine.addstrategy(Plan, plan=BUY)
    engine.addstrategy(Plan, plan=())
    engine.run()
    files = plot(engine, tmp_path / "plot.png", dpi=40)
    assert [file.name for file in files] == ["plot.png", "plot-2.png"]
    files = plot(engine, tmp_path / "cut.png", dpi=40, numfigs=2)
    assert len(files) == 4


def test_nothing_to_draw_is_said(tmp_path):
    engine = cerebro(random_walk(0, 60))
    engine.addstrategy(Plan, plan=BUY)
    engine.run(exactbars=1)
    with pytest.raises(bt_risk.ParameterError, match="exactbars below 1"):
        plot(engine, tmp_path / "plot.png")


def test_a_stop_is_drawn_over_the_bars_of_its_data():
    """A data that begins late has fewer bars than the strategy, whose bars the line has."""
    early = random_walk(0, 120)
    late = random_walk(1, 120).iloc[50:]
    engine = cerebro(early, late)
    engine.addstrategy(Plan, plan=((80, "buy", (("data", 1), ("size", 20))),))
    engine.addobservermulti(bt_risk.ATRTrailingStop)
    strategy = engine.run()[0]
    stop = strategy.observers.atrtrailingstop[1]
    drawn = np.array(stop.lines.stop.plotrange(0, len(late)))
    by_bar = np.array(stop.lines.stop.array[:120])
    assert len(drawn) == len(late)
    assert np.array_equal(drawn, by_bar[50:], equal_nan=True)
    assert math.isnan(drawn[29])
    assert not math.isnan(drawn[30])


def drawn_lines(engine, name, mode):
    strategy = engine.run(**mode)[0]
    observer = getattr(strategy.observers, name)
    return {
        alias: np.array(getattr(observer.lines, alias).array[: len(strategy)])
        for alias in observer.getlinealiases()
    }


MODES = [{}, {"runonce": False}]


@pytest.mark.parametrize("mode", MODES, ids=["runonce", "next"])
def test_the_drawdown_is_the_breaker_s(mode):
    fall = bars(*flat(20), *[(p, p, p, p) for p in (99, 98, 97, 98, 100)])
    engine = cerebro(fall, cash=10_000.0)
    engine.addstrategy(Plan, plan=((19, "buy", (("size", 100),)),))
    engine.addanalyzer(bt_risk.DrawdownBreaker, drawdown_limit=0.5)
    engine.addobserver(bt_risk.components.observers.Drawdown)
    lines = drawn_lines(engine, "drawdown", mode)
    assert lines["drawdown"][-5:] == pytest.approx([0.01, 0.02, 0.03, 0.02, 0.0])
    assert (lines["limit"] == 0.5).all()


def test_the_drawdown_needs_no_breaker():
    fall = bars(*flat(20), *[(p, p, p, p) for p in (99, 98, 97, 98, 100)])
    engine = cerebro(fall, cash=10_000.0)
    engine.addstrategy(Plan, plan=((19, "buy", (("size", 100),)),))
    engine.addobserver(bt_risk.components.observers.Drawdown)
    lines = drawn_lines(engine, "drawdown", {})
    assert lines["drawdown"][-5:] == pytest.approx([0.01, 0.02, 0.03, 0.02, 0.0])
    assert np.isnan(lines["limit"]).all()


@pytest.mark.parametrize("mode", MODES, ids=["runonce", "next"])
@pytest.mark.parametrize("unit", ["risk", "notional"])
def test_the_exposure_is_by_side_and_in_its_unit(mode, unit):
    engine = cerebro(bars(*flat(30)), bars(*flat(30, 50.0)), cash=10_000.0)
    engine.setbroker(
        bt_risk.CorrelationCap(engine.broker, correlation_limit=None, exposure_limit=0.4)
    )
    plan = ((20, "buy", (("size", 10),)), (20, "sell", (("data", 1), ("size", 20))))
    engine.addstrategy(Plan, plan=plan)
    engine.addobserver(bt_risk.components.observers.Exposure, unit=unit)
    lines = drawn_lines(engine, "exposure", mode)
    # An ATR of 2 and a stop at twice that: 40 and 80 of 10,000.
    long, short = (0.004, -0.008) if unit == "risk" else (0.1, -0.1)
    assert lines["long"][-1] == pytest.approx(long)
    assert lines["short"][-1] == pytest.approx(short)
    assert lines["limit"][-1] == 0.4 if unit == "risk" else math.isnan(lines["limit"][-1])
    assert lines["long"][10] == 0


def test_the_correlation_is_the_highest_of_what_is_held():
    frame = random_walk(0, 150)
    engine = cerebro(frame, frame * 2)
    engine.setbroker(bt_risk.CorrelationCap(engine.broker, correlation_limit=0.9, unknown="allow"))
    plan = ((20, "buy", (("size", 10),)), (20, "buy", (("data", 1), ("size", 10))))
    engine.addstrategy(Plan, plan=plan)
    engine.addobserver(bt_risk.components.observers.Correlation)
    lines = drawn_lines(engine, "correlation", {})
    assert math.isnan(lines["correlation"][40])
    assert lines["correlation"][-1] == pytest.approx(1.0)
    assert (lines["limit"] == 0.9).all()


def test_a_unit_that_is_none_raises():
    engine = cerebro(random_walk(0, 30))
    engine.addstrategy(Plan)
    engine.addobserver(bt_risk.components.observers.Exposure, unit="percent")
    with pytest.raises(bt_risk.ParameterError, match="Exposure: unit must be one of"):
        engine.run()


def test_nothing_of_the_run_changes_by_looking():
    def outcome(*observers):
        engine = cerebro(random_walk(0, 80))
        engine.addstrategy(Plan, plan=BUY)
        for observer in observers:
            engine.addobserver(observer)
        engine.run()
        return engine.broker.getvalue(), isinstance(engine.broker, bt.brokers.BackBroker)

    watched = bt_risk.components.observers
    assert outcome() == outcome(watched.Drawdown, watched.Exposure, watched.Correlation)
