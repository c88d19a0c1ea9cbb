"""Pairs: short the rich leg and buy the cheap one when the ratio is stretched."""

import backtrader as bt

from bt_risk import load_data


class PairsStrategy(bt.Strategy):
    params = dict(period=30, upper=1.8, lower=-1.8, exit=0.4, dollars=20000)

    def __init__(self):
        ratio = self.data0.close / self.data1.close
        mean = bt.ind.SMA(ratio, period=self.p.period)
        self.zscore = (ratio - mean) / bt.ind.StdDev(ratio, period=self.p.period)
        self.status = 0
        self.orderid = []

    def notify_order(self, order):
        if order.status in [bt.Order.Submitted, bt.Order.Accepted]:
            return
        if order.ref in self.orderid:
            self.orderid.remove(order.ref)

    def next(self):
        if self.orderid:
            return
        x = int(self.p.dollars / self.data0.close[0])
        y = int(self.p.dollars / self.data1.close[0])
        z = self.zscore[0]
        if z > self.p.upper and self.status != 1:
            a = self.sell(data=self.data0, size=x + self.getposition(self.data0).size)
            b = self.buy(data=self.data1, size=y - self.getposition(self.data1).size)
            self.orderid = [a.ref, b.ref]
            self.status = 1
        elif z < self.p.lower and self.status != 2:
            a = self.buy(data=self.data0, size=x - self.getposition(self.data0).size)
            b = self.sell(data=self.data1, size=y + self.getposition(self.data1).size)
            self.orderid = [a.ref, b.ref]
            self.status = 2
        elif abs(z) < self.p.exit and self.status != 0:
            self.close(self.data0)
            self.close(self.data1)
            self.status = 0


def build():
    cerebro = bt.Cerebro()
    for name in ("ibm_1d", "msft_1d"):
        df = load_data(name)["2005":"2007-06"]
        cerebro.adddata(bt.feeds.PandasData(dataname=df), name=name)
    cerebro.addstrategy(PairsStrategy)
    cerebro.broker.setcash(100000)
    cerebro.broker.setcommission(commission=0.0005)
    return cerebro


def main():
    cerebro = build()
    cerebro.run()
    print(f"Final Portfolio Value: {cerebro.broker.getvalue():.2f}")


if __name__ == "__main__":
    main()
