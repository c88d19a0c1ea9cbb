"""First steps: buy above the moving average, sell below it, one order at a time."""

import datetime

import backtrader as bt

from bt_risk import load_data


class TestStrategy(bt.Strategy):
    params = (("maperiod", 15), ("printlog", False))

    def log(self, txt, doprint=False):
        if self.params.printlog or doprint:
            print(f"{self.datas[0].datetime.date(0).isoformat()}, {txt}")

    def __init__(self):
        self.dataclose = self.datas[0].close
        self.order = None
        self.buyprice = None
        self.buycomm = None
        self.sma = bt.indicators.SimpleMovingAverage(self.datas[0], period=self.params.maperiod)

    def notify_order(self, order):
        if order.status in [order.Submitted, order.Accepted]:
            return
        if order.status in [order.Completed]:
            if order.isbuy():
                self.log(f"BUY EXECUTED, {order.executed.price:.2f}")
                self.buyprice = order.executed.price
                self.buycomm = order.executed.comm
            else:
                self.log(f"SELL EXECUTED, {order.executed.price:.2f}")
        elif order.status in [order.Canceled, order.Margin, order.Rejected]:
            self.log("Order Canceled/Margin/Rejected")
        self.order = None

    def notify_trade(self, trade):
        if trade.isclosed:
            self.log(f"OPERATION PROFIT, GROSS {trade.pnl:.2f}, NET {trade.pnlcomm:.2f}")

    def next(self):
        self.log(f"Close, {self.dataclose[0]:.2f}")
        if self.order:
            return
        if not self.position:
            if self.dataclose[0] > self.sma[0]:
                self.log(f"BUY CREATE, {self.dataclose[0]:.2f}")
                self.order = self.buy()
        elif self.dataclose[0] < self.sma[0]:
            self.log(f"SELL CREATE, {self.dataclose[0]:.2f}")
            self.order = self.sell()

    def stop(self):
        self.log(f"(MA Period {self.params.maperiod}) Ending Value {self.broker.getvalue():.2f}")


def build():
    cerebro = bt.Cerebro()
    cerebro.addstrategy(TestStrategy)
    data = bt.feeds.PandasData(
        dataname=load_data("aapl_1d"),
        fromdate=datetime.datetime(2005, 1, 1),
        todate=datetime.datetime(2007, 1, 1),
    )
    cerebro.adddata(data)
    cerebro.broker.setcash(1000.0)
    cerebro.addsizer(bt.sizers.FixedSize, stake=10)
    cerebro.broker.setcommission(commission=0.001)
    return cerebro


def main():
    cerebro = build()
    print(f"Starting Portfolio Value: {cerebro.broker.getvalue():.2f}")
    cerebro.run()
    print(f"Final Portfolio Value: {cerebro.broker.getvalue():.2f}")


if __name__ == "__main__":
    main()
