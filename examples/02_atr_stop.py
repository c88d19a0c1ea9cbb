"""What does a trailing stop behind every position change, if the strategy stays as it is?

Expected last line: worst trade -13.8 % without the stop, -11.3 % with it
"""

# %%
import backtrader as bt

import bt_risk

PRICES = bt_risk.load_data("aapl_1d").loc["2004":]


# %%
class Cross(bt.Strategy):
    def __init__(self):
        self.cross = bt.ind.CrossOver(bt.ind.SMA(period=10), bt.ind.SMA(period=30))
        self.results, self.entry = [], 0.0

    def notify_trade(self, trade):
        if trade.justopened:
            self.entry = trade.price
        elif trade.isclosed:
            self.results.append(trade.pnl / (100 * self.entry))

    def next(self):
        if self.cross > 0:
            self.buy(size=100)
        elif self.cross < 0 and self.position:
            self.close()


# %% One line more: `addobserver` keeps a stop 2 x ATR behind every position.
def run(with_stop):
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(bt_risk.FrameData(dataname=PRICES), name="AAPL")
    cerebro.addstrategy(Cross)
    if with_stop:
        cerebro.addobserver(bt_risk.ATRTrailingStop, atr_multiple=2.0)
    cerebro.addanalyzer(bt_risk.RiskJournal)
    return cerebro.run()[0]


def main():
    bare, stopped = run(with_stop=False), run(with_stop=True)
    hits = stopped.analyzers.riskjournal.counts()["ATRTrailingStop", "stop"]
    without, worst = min(bare.results), min(stopped.results)
    print(f"{len(stopped.results)} trades, {hits} of them ended by the stop")
    print(f"worst trade {100 * without:.1f} % without the stop, {100 * worst:.1f} % with it")
    return dict(trades=len(stopped.results), hits=hits, without=without, worst=worst)


if __name__ == "__main__":
    main()
