"""Its own stop and take profit: two orders that the strategy cancels and moves by hand."""

import backtrader as bt

from bt_risk import load_data


class OwnStops(bt.Strategy):
    params = dict(period=20, stop=0.04, profit=0.07, risk=0.9, patience=25)

    def __init__(self):
        self.sma = bt.ind.SMA(period=self.p.period)
        self.up = bt.ind.CrossUp(self.data.close, self.sma)
        self.entry = self.stop_order = self.profit_order = None
        self.bar_executed = 0

    def notify_order(self, order):
        if order.status in (order.Submitted, order.Accepted, order.Partial):
            return
        if order == self.entry:
            self.entry = None
            if order.status == order.Completed:
                self.protect(order)
        elif order == self.stop_order:
            self.stop_order = None
            if order.status == order.Completed:
                self.cancel(self.profit_order)
        elif order == self.profit_order:
            self.profit_order = None
            if order.status == order.Completed:
                self.cancel(self.stop_order)

    def protect(self, order):
        size, price = order.executed.size, order.executed.price
        self.bar_executed = len(self)
        self.stop_order = self.sell(
            size=size, exectype=bt.Order.Stop, price=price * (1 - self.p.stop)
        )
        self.profit_order = self.sell(
            size=size, exectype=bt.Order.Limit, price=price * (1 + self.p.profit)
        )

    def next(self):
        if self.entry:
            return
        if not self.position:
            if self.up[0]:
                size = int(self.broker.getcash() * self.p.risk / self.data.close[0])
                self.entry = self.buy(size=size)
        elif len(self) > self.bar_executed + self.p.patience:
            if self.stop_order:
                self.cancel(self.stop_order)
            if self.profit_order:
                self.cancel(self.profit_order)
            self.close()


def build():
    cerebro = bt.Cerebro()
    cerebro.adddata(bt.feeds.PandasData(dataname=load_data("goog_1d")["2005":"2007"]), name="GOOG")
    cerebro.addstrategy(OwnStops)
    cerebro.broker.setcash(100000.0)
    cerebro.broker.setcommission(commission=0.001)
    return cerebro


def main():
    cerebro = build()
    cerebro.run()
    print(f"Final Portfolio Value: {cerebro.broker.getvalue():.2f}")


if __name__ == "__main__":
    main()
