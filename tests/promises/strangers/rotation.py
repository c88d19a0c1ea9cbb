"""Monthly rotation into the strongest of six names, in equal parts of the account."""

import backtrader as bt

from bt_risk import load_data

NAMES = ["aapl_1d", "goog_1d", "ibm_1d", "msft_1d", "sp500_1d", "nasdaq_1d"]


class Rotation(bt.Strategy):
    params = dict(lookback=60, top=3, reserve=0.05)

    def __init__(self):
        self.roc = {d: bt.ind.ROC(d, period=self.p.lookback) for d in self.datas}
        self.month = None

    def next(self):
        month = self.datetime.date(0).month
        if month == self.month:
            return
        self.month = month
        ranked = sorted(self.datas, key=lambda d: self.roc[d][0], reverse=True)
        best = [d for d in ranked[: self.p.top] if self.roc[d][0] > 0]
        for d in self.datas:
            if d not in best and self.getposition(d).size:
                self.order_target_percent(d, target=0.0)
        for d in best:
            self.order_target_percent(d, target=(1.0 - self.p.reserve) / self.p.top)


def build():
    cerebro = bt.Cerebro(stdstats=False)
    for name in NAMES:
        frame = load_data(name).loc["2005-01-01":"2006-12-31"]
        cerebro.adddata(bt.feeds.PandasData(dataname=frame, name=name.split("_")[0].upper()))
    cerebro.addstrategy(Rotation)
    cerebro.broker.setcash(100000)
    cerebro.broker.setcommission(commission=0.0005)
    cerebro.addanalyzer(bt.analyzers.SharpeRatio, _name="sharpe", timeframe=bt.TimeFrame.Months)
    cerebro.addanalyzer(bt.analyzers.DrawDown, _name="dd")
    return cerebro


def main():
    cerebro = build()
    strat = cerebro.run()[0]
    print("Max drawdown:", strat.analyzers.dd.get_analysis().max.drawdown)
    print(f"Final Portfolio Value: {cerebro.broker.getvalue():.2f}")


if __name__ == "__main__":
    main()
