"""Two strategies on one account: one follows the trend, the other buys the dips."""

import backtrader as bt

from bt_risk import load_data


class Trend(bt.Strategy):
    params = dict(fast=10, slow=30)

    def __init__(self):
        fast = bt.ind.EMA(self.data, period=self.p.fast)
        slow = bt.ind.EMA(self.data, period=self.p.slow)
        self.crossover = bt.ind.CrossOver(fast, slow)
        self.size = 0

    def next(self):
        if self.crossover > 0 and not self.size:
            self.size = 300
            self.buy(size=self.size)
        elif self.crossover < 0 and self.size:
            self.sell(size=self.size)
            self.size = 0


class Dips(bt.Strategy):
    params = dict(period=3, low=20, high=60, stake=200)

    def __init__(self):
        self.rsi = {d: bt.ind.RSI_Safe(d, period=self.p.period) for d in self.datas}
        self.held = dict.fromkeys(self.datas, 0)

    def notify_order(self, order):
        if order.status == order.Completed:
            self.held[order.data] += order.executed.size

    def next(self):
        for d in self.datas:
            if self.rsi[d][0] < self.p.low and not self.held[d]:
                self.buy(data=d, size=self.p.stake)
            elif self.rsi[d][0] > self.p.high and self.held[d]:
                self.sell(data=d, size=self.held[d])


def build():
    cerebro = bt.Cerebro()
    for name in ("msft_1d", "ibm_1d"):
        cerebro.adddata(bt.feeds.PandasData(dataname=load_data(name)["2004":"2005-06"]), name=name)
    cerebro.addstrategy(Trend)
    cerebro.addstrategy(Dips)
    cerebro.broker.setcash(100000)
    cerebro.broker.setcommission(commission=0.001)
    return cerebro


def main():
    cerebro = build()
    cerebro.run()
    print(f"Final Portfolio Value: {cerebro.broker.getvalue():.2f}")


if __name__ == "__main__":
    main()
