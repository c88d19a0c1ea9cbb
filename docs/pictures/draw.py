"""Draw the pictures of docs/components from the bundled prices: ``python docs/pictures/draw.py``.

Their background is transparent and their text is grey, for light and dark pages.
"""

from pathlib import Path

import backtrader as bt
import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

import bt_risk

HERE = Path(__file__).parent
GREY, PRICE, ALERT = "#808890", "#4c8dd6", "#e07b39"
STYLE = {
    "font.family": "sans-serif",
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "bt_risk",  # the same file each time
    "text.color": GREY,
    "axes.edgecolor": GREY,
    "axes.labelcolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "date.converter": "concise",
    "legend.frameon": False,
}
PICTURES = {}


def picture(draw):
    """Register a function that draws on a figure: its name is that of the picture."""
    PICTURES[draw.__name__] = draw
    return draw


class Cross(bt.Strategy):
    """Buy at a cross of two averages, sell at the next."""

    params = dict(fast=10, slow=30)

    def __init__(self):
        fast, slow = bt.ind.SMA(period=self.p.fast), bt.ind.SMA(period=self.p.slow)
        self.cross = bt.ind.CrossOver(fast, slow)

    def next(self):
        """Buy or sell all."""
        if self.cross > 0:
            self.buy()
        elif self.cross < 0 and self.position:
            self.close()


class Hold(bt.Strategy):
    """Hold nine tenths of the account in each data feed's share, whatever happens."""

    def __init__(self):
        self.values = []

    def next(self):
        """Buy what is not held."""
        self.values.append(self.broker.getvalue())
        for data in self.datas:
            if not self.getposition(data):
                self.order_target_percent(data, target=0.9 / len(self.datas))


class Trend(bt.Strategy):
    """Hold what is above its average of 50 bars."""

    def __init__(self):
        self.averages = [bt.ind.SMA(data, period=50) for data in self.datas]

    def next(self):
        """Buy and sell each data feed by itself."""
        for data, average in zip(self.datas, self.averages, strict=True):
            held = self.getposition(data).size
            if data.close[0] > average[0] and not held:
                self.buy(data)
            elif data.close[0] < average[0] and held:
                self.close(data)


def run(strategy, frames, policy=None, analyzer=None):
    """Return the strategy after a run under a policy."""
    cerebro = bt.Cerebro(stdstats=False)
    for name, frame in frames.items():
        cerebro.adddata(bt_risk.FrameData(dataname=frame), name=name)
    cerebro.addstrategy(strategy)
    cerebro.broker.setcash(100_000)
    if policy is not None:
        bt_risk.protect(cerebro, policy)
    if analyzer is not None:
        cerebro.addanalyzer(analyzer)
    return cerebro.run()[0]


@picture
def half_kelly(figure):
    """Draw growth per trade against the fraction at risk, of trades on Apple."""
    trades = run(Cross, {"AAPL": bt_risk.load_data("aapl_1d")}, bt_risk.Policy(drawdown_limit=None))
    multiples = np.array(trades.analyzers.riskjournal.r_multiples())
    best = bt_risk.empirical_kelly(multiples)
    risks = np.linspace(0, 2.2 * best, 200)
    growth = [100 * np.mean(np.log1p(np.maximum(risk * multiples, -0.999))) for risk in risks]
    axes = figure.subplots()
    axes.plot(100 * risks, growth, color=PRICE)
    for risk, name in ((best, "Kelly"), (best / 2, "half Kelly"), (0.02, "cap 2 %")):
        height = 100 * np.mean(np.log1p(risk * multiples))
        axes.plot(100 * risk, height, "o", color=ALERT)
        axes.annotate(name, (100 * risk, height), xytext=(6, -14), textcoords="offset points")
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set_xlabel("% of equity at risk in each trade")
    axes.set_ylabel("growth, % per trade")


@picture
def trailing_stop(figure):
    """Draw closes of Apple and the stop behind them."""
    prices = bt_risk.load_data("aapl_1d").loc["2005-05":"2006-02"]
    stop = bt_risk.atr_stop(prices.high, prices.low, prices.close)
    axes = figure.subplots()
    axes.plot(prices.index, prices.close, color=PRICE, label="close")
    axes.step(stop.index, stop, where="post", color=ALERT, label="stop, 2 x ATR(14)")
    axes.set_ylabel("price")
    axes.legend(loc="upper left")


@picture
def risk_per_trade(figure):
    """Draw how much a position may be worth that loses 1 % at its stop."""
    prices = bt_risk.load_data("sp500_1d").loc["2007-06":"2009-06"]
    distance = 2 * bt_risk.atr(prices.high, prices.low, prices.close) / prices.close
    top, bottom = figure.subplots(2, sharex=True)
    top.plot(distance.index, 100 * distance, color=PRICE)
    top.set_ylabel("stop distance, %")
    bottom.plot(distance.index, 100 * np.minimum(0.01 / distance, 1.0), color=ALERT)
    bottom.set_ylabel("position, % of equity")
    bottom.set_ylim(0)


@picture
def correlation_cap(figure):
    """Draw the correlation of two indices over 252 bars, and the limit."""
    names = {"sp500": "S&P 500", "nasdaq": "NASDAQ", "ibm": "IBM"}
    returns = pd.DataFrame(
        {name: np.log(bt_risk.load_data(f"{name}_1d").close).diff() for name in names}
    ).loc["2000":"2012"]
    axes = figure.subplots()
    matrices = bt_risk.rolling_correlation(returns, window=252)
    for name, color in (("nasdaq", PRICE), ("ibm", ALERT)):
        rho = matrices[name].xs("sp500", level=1).iloc[::5]  # each fifth bar: a small file
        axes.plot(rho.index, rho, color=color, label=f"S&P 500 and {names[name]}")
    axes.axhline(0.7, color=GREY, linestyle="--", label="limit 0.7")
    axes.set_ylabel("correlation, 252 bars")
    axes.legend(loc="lower right")


@picture
def exposure(figure):
    """Draw the risk of all longs with and without a limit, of six instruments that are held."""
    names = ["sp500", "nasdaq", "aapl", "goog", "ibm", "msft"]
    frames = {name: bt_risk.load_data(f"{name}_1d").loc["2004-10":"2005"] for name in names}
    axes = figure.subplots()
    for limit, color in ((None, PRICE), (0.02, ALERT)):
        policy = bt_risk.Policy(exposure_limit=limit, correlation_limit=None, drawdown_limit=None)
        strategy = run(Trend, frames, policy, bt_risk.PortfolioRisk)
        risk = strategy.analyzers.portfoliorisk.frame().long_risk
        axes.plot(risk.index, 100 * risk, color=color, label=f"exposure_limit={limit}")
    axes.set_ylabel("at risk in longs, % of equity")
    axes.set_ylim(0)
    axes.legend(loc="upper center", ncols=2, bbox_to_anchor=(0.5, 1.12))


@picture
def drawdown_breaker(figure):
    """Draw the equity of a position held through the fall of 2000, with and without a limit."""
    prices = bt_risk.load_data("nasdaq_1d").loc["2000":"2001"]
    axes = figure.subplots()
    for limit, color, name in ((None, PRICE, "no limit"), (0.10, ALERT, "drawdown_limit=0.10")):
        policy = bt_risk.Policy(
            drawdown_limit=limit, action="pause", trailing_stop=False, sizer=False, risk_limit=None
        )
        values = run(Hold, {"NASDAQ": prices}, policy).values
        axes.plot(prices.index, np.array(values) / 1000, color=color, label=name)
    axes.set_ylabel("equity, thousands")
    axes.legend(loc="upper right")


@picture
def risk_parity(figure):
    """Draw the weights of four stocks, estimated each month from 252 returns."""
    names = ["aapl", "goog", "ibm", "msft"]
    closes = pd.DataFrame({n: bt_risk.load_data(f"{n}_1d").close for n in names}).dropna()
    returns = np.log(closes).diff().dropna()
    rows = {
        time: bt_risk.risk_parity(returns.loc[:time].tail(252).cov())
        for time in returns.iloc[252:].groupby(pd.Grouper(freq="MS")).tail(1).index
    }
    weights = pd.DataFrame(rows).T
    axes = figure.subplots()
    colors = (PRICE, ALERT, "#57a773", "#9b72cf")
    axes.stackplot(weights.index, 100 * weights.T, labels=[n.upper() for n in names], colors=colors)
    axes.set_ylabel("weight, %")
    axes.set_ylim(0, 100)
    axes.legend(loc="upper center", ncols=4, bbox_to_anchor=(0.5, 1.12))


@picture
def guards(figure):
    """Draw entries that a guard refuses after stop-outs."""
    prices = bt_risk.load_data("msft_1d").loc["2004":"2005"]
    policy = bt_risk.Policy(guards=[bt_risk.StopoutGuard(2, 60, 40)], drawdown_limit=None)
    journal = run(Hold, {"MSFT": prices}, policy).analyzers.riskjournal.frame()
    axes = figure.subplots()
    axes.plot(prices.index, prices.close, color=PRICE)
    marks = (
        (journal.action == "stop", "v", ALERT, "stopped out"),
        (journal.rule == "StopoutGuard", "x", GREY, "entry refused"),
    )
    for chosen, marker, color, name in marks:
        times = journal[chosen & (journal.action != "note")].time.dt.normalize()
        closes = prices.close.reindex(times.unique())
        axes.plot(closes.index, closes, marker, color=color, label=name, markersize=4)
    axes.set_ylabel("price")
    axes.legend(loc="upper left")


def main():
    """Draw every picture beside this file."""
    for name, draw in PICTURES.items():
        with mpl.rc_context(STYLE):
            figure = Figure(figsize=(7.2, 3.4), layout="constrained")
            FigureCanvasSVG(figure)
            draw(figure)
            path = HERE / f"{name}.svg"
            figure.savefig(path, transparent=True, metadata={"Date": None, "Creator": "bt_risk"})
        path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")


if __name__ == "__main__":
    main()
