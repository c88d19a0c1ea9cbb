"""Which of many names should be held, ranked again each month by what was known then?

Expected last line: months picked: AAPL 97, GOOG 39, IBM 64, MSFT 35; 100,000 became 430,800
"""

# %%
import sys

import backtrader as bt

import bt_risk

STOCKS = {name.upper(): bt_risk.load_data(f"{name}_1d") for name in ("aapl", "goog", "ibm", "msft")}


# %% The strategy reads the names of the last ranking, and trades them through the rules.
class Rotate(bt.Strategy):
    def next(self):
        picks = self.analyzers.screener.picks
        for data in self.datas:
            if self.getposition(data) and data._name not in picks:
                self.close(data)
        for name in picks:
            if not self.getpositionbyname(name):
                self.order_target_percent(name, target=0.4)

    prenext = next  # from the first bar on, though Google is not listed yet


def run(feeds):
    cerebro = bt.Cerebro(stdstats=False)
    for name, prices in feeds.items():
        cerebro.adddata(bt_risk.FrameData(dataname=prices), name=name)
    cerebro.addstrategy(Rotate)
    cerebro.addanalyzer(
        bt_risk.Screener, rank="roc(126) / natr(20)", where="close > sma(200)", top=2,
        rebalance="monthly",
    )  # fmt: skip
    cerebro.broker.setcash(100_000)
    strategy = cerebro.run()[0]
    return strategy.analyzers.screener.frame(), cerebro.broker.getvalue()


# %% Without arguments the stocks that come with bt_risk; else your own files: prices/*.csv
def main(*files):
    feeds = {file.split("/")[-1].split(".")[0]: file for file in files} or STOCKS
    rows, value = run(feeds)
    last = rows[rows.time == rows.time.max()]
    print(last[["data", "rank", "score", "picked", "reason"]].to_string(index=False))
    held = rows[rows.picked].groupby("data").size()
    names = ", ".join(f"{name} {months}" for name, months in held.items())
    print(f"months picked: {names}; 100,000 became {value:,.0f}")
    return dict(rows=rows, held=held.to_dict(), value=value)


if __name__ == "__main__":
    main(*sys.argv[1:])
