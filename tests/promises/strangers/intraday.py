"""Day trading by the clock: in after the morning, out in the evening, with the daily trend."""

import datetime

import backtrader as bt

from bt_risk import load_data


class Clock(bt.Strategy):
    params = dict(entry=datetime.time(9, 0), exit=datetime.time(20, 0), days=5)

    def __init__(self):
        self.add_timer(when=self.p.entry, weekdays=[1, 2, 3, 4, 5], enter=True)
        self.add_timer(when=self.p.exit, enter=False)
        self.trend = bt.ind.SMA(self.data1.close, period=self.p.days)
        self.pending = None

    def notify_timer(self, timer, when, enter, *args, **kwargs):
        if not len(self.trend) or not len(self.data1):
            return
        if not enter:
            if self.position:
                self.close()
            return
        if not self.position and self.pending is None and self.data0.close[0] > self.trend[0]:
            self.pending = self.buy(data=self.data0)

    def notify_order(self, order):
        if self.pending is not None and order.ref == self.pending.ref and not order.alive():
            self.pending = None

    def next(self):
        pass


class PercentSizerFractional(bt.Sizer):
    params = dict(percents=50)

    def _getsizing(self, comminfo, cash, data, isbuy):
        position = self.broker.getposition(data)
        if position:
            return position.size
        return round(cash * self.p.percents / 100 / data.close[0], 4)


def build():
    cerebro = bt.Cerebro()
    df = load_data("btcusd_1h").iloc[:1100]
    data = bt.feeds.PandasData(dataname=df, timeframe=bt.TimeFrame.Minutes, compression=60)
    cerebro.adddata(data, name="BTC")
    cerebro.resampledata(data, timeframe=bt.TimeFrame.Days, compression=1, name="BTC-day")
    cerebro.addstrategy(Clock)
    cerebro.addsizer(PercentSizerFractional)
    cerebro.broker.setcash(50000)
    cerebro.broker.setcommission(commission=0.0005)
    return cerebro


def main():
    cerebro = build()
    cerebro.run()
    print(f"Final Portfolio Value: {cerebro.broker.getvalue():.2f}")


if __name__ == "__main__":
    main()
