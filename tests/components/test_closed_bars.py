"""ClosedBars: in pieces an indicator has the values that Backtrader gives it as a whole."""

import random
from array import array

import backtrader as bt
import numpy as np
import pytest
from helpers.frames import PandasData
from helpers.scenarios import random_walk

from bt_risk.components.closed_bars import ClosedBars, closed_bars
from bt_risk.components.formula import Formula
from bt_risk.components.indicator_catalogue import counts_whole, indicators

TABLE = indicators()
# At least these are asked in every run, all of them in a full one.
SOME = ["rsi", "atr", "macd", "psar", "kama", "heikinashi", "percentrank", "crossover"]
SOME += ["talib.rsi", "talib.sar", "talib.bbands", "talib.obv", "talib.cdlengulfing"]
TWO_LINES = ("bt.cross", "bt.cointn", "bt.ols", "bt.nonzero", "talib.mavp")


def every():
    names = [f"{row.source}.{row.name}" for row in TABLE.reset_index().itertuples()]
    full = [pytest.param(name, marks=pytest.mark.full) for name in names]
    return SOME + full


def columns(frame):
    values = frame.assign(openinterest=0.0, datetime=np.arange(len(frame)) + 730000.0)
    return [array("d", values[name]) for name in ClosedBars.lines._getlines()]


def text_of(name):
    full = name if "." in name else f"bt.{name}"
    return f"{name}(close, open)" if full.startswith(TWO_LINES) else f"{name}()"


def lines_of(bars):
    indicator = bars.made[-1]
    return {name: np.array(getattr(indicator.lines, name).array) for name in outputs(indicator)}


def outputs(indicator):
    """Return the names of its lines; Backtrader writes that of Ichimoku into earlier bars."""
    return [n for n in indicator.lines.getlinealiases() if n[0] != "_" and n != "chikou_span"]


@pytest.mark.parametrize("name", every())
def test_pieces_equal_the_whole(name):
    values, dice = columns(random_walk(3, 160)), random.Random(5)
    whole, pieces = ClosedBars(), ClosedBars()
    for bars in (whole, pieces):
        Formula(bars, "Screener", "rank", text_of(name))
    whole.append(values)
    whole.compute()
    done = 0
    while done < 160:
        step = dice.choice([1, 1, 2, 7, 40])
        pieces.append([column[done : done + step] for column in values])
        pieces.compute()
        done += step
    expected, got = lines_of(whole), lines_of(pieces)
    for line in expected:
        np.testing.assert_array_equal(got[line], expected[line], line)


def test_the_values_are_those_of_a_run():
    frame = random_walk(4, 120)

    class Native(bt.Strategy):
        def __init__(self):
            self.rsi, self.psar = bt.ind.RSI(period=14, safediv=True), bt.ind.PSAR()
            self.ta = bt.talib.NATR(self.data.high, self.data.low, self.data.close, timeperiod=20)

        def stop(self):
            self.values = [list(one.lines[0].array) for one in (self.rsi, self.psar, self.ta)]

    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(PandasData(dataname=frame))
    cerebro.addstrategy(Native)
    native = cerebro.run()[0].values
    for text, expected in zip(("rsi(14)", "psar()", "natr(20)"), native, strict=True):
        bars = ClosedBars()
        formula = Formula(bars, "Screener", "rank", text)
        bars.append(columns(frame))
        bars.compute()
        got = [formula.value(place) for place in range(120)]
        np.testing.assert_array_equal(got, expected, text)


@pytest.mark.parametrize(
    ("text", "needs"),
    [
        ("close", 1),
        ("close(-4)", 5),
        ("sma(5)", 5),
        ("talib.sma(5)", 5),
        ("rsi(14)", 15),
        ("talib.rsi(14)", 15),
        ("sma(talib.rsi(14), 5)", 19),
        ("ema(talib.rsi(14), 9)(-3) - close", 26),
        ("talib.ema(rsi(14), 9)", 23),
        ("talib.sma(close - talib.rsi(14), 5)", 19),
    ],
)
def test_the_first_value_comes_when_it_is_promised(text, needs):
    bars = ClosedBars()
    formula = Formula(bars, "Screener", "rank", text)
    bars.append(columns(random_walk(6, 40)))
    bars.compute()
    values = [formula.value(place) for place in range(40)]
    assert formula.needs == needs
    assert np.isnan(values[: needs - 1]).all()
    assert np.isfinite(values[needs - 1 :]).all()


def test_a_feed_with_more_lines_keeps_them():
    class Fundamental(PandasData):
        lines = ("pe",)
        params = (("pe", -1),)

    data = Fundamental(dataname=random_walk(1, 5).assign(pe=7.0), name="A")
    bars = closed_bars(data)
    assert bars.lines.getlinealiases()[-1] == "pe"
    assert type(bars) is type(closed_bars(data))
    assert Formula(bars, "Screener", "rank", "close / pe").needs == 1


def test_the_table_has_both_libraries_each_name_once():
    assert set(TABLE.source) == {"bt", "talib"}
    assert (TABLE.source == "bt").sum() > 110
    assert (TABLE.source == "talib").sum() >= 150
    names = TABLE.reset_index()[["source", "name"]]
    assert not names.duplicated().any()
    assert TABLE.loc["macd"].query("source == 'bt'").parameters.item().startswith("period_me1=12")


def test_periods_that_an_old_talib_names_as_floats_count_bars():
    """0.6.5 says 14.0, and then takes 14 alone: `.ci/run` computes with it."""
    old = {"timeperiod": 14.0, "fastk_period": 5.0, "matype": 0.0, "nbdevup": 2.0, "vfactor": 0.7}
    found = counts_whole(old)
    assert found == old
    whole = [name for name, value in found.items() if type(value) is int]
    assert whole == ["timeperiod", "fastk_period", "matype"]
