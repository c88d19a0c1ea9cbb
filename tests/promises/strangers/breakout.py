"""Donchian breakout on hourly bitcoin: every entry is a bracket, sized in fractions of a coin."""

import datetime

import backtrader as bt

from bt_risk import load_data


class Donchian(bt.Indicator):
    lines = ("up", "down")
    params = dict(period=20)

    def __init__(self):
        self.l.up = bt.ind.Highest(self.data.high(-1), period=self.p.period)
        self.l.down = bt.ind.Lowest(self.data.low(-1), period=self.p.period)


class Breakout(bt.Strategy):
    params = dict(period=48, stake=0.5, stop=0.02, target=0.04, hold=12)

    def __init__(self):
        self.channel = Donchian(period=self.p.period)
        self.refs = []

    def notify_order(self, order):
        if not order.alive() and order.ref in self.refs:
            self.refs.remove(order.ref)

    def next(self):
        if self.refs or self.position:
            return
        price = self.data.close[0]
        if price > self.channel.up[0]:
            orders = self.buy_bracket(
                size=self.p.stake,
                price=price * 1.001,
                valid=datetime.timedelta(hours=self.p.hold),
                stopprice=price * (1 - self.p.stop),
                stopargs=dict(valid=None),
                limitprice=price * (1 + self.p.target),
                limitargs=dict(valid=None),
            )
            self.refs = [o.ref for o in orders]
        elif price < self.channel.down[0]:
            orders = self.sell_bracket(
                size=self.p.stake,
                price=price * 0.999,
                valid=datetime.timedelta(hours=self.p.hold),
                stopprice=price * (1 + self.p.stop),
                stopargs=dict(valid=None),
                limitprice=price * (1 - self.p.target),
                limitargs=dict(valid=None),
            )
            self.refs = [o.ref for o in orders]


def build():
    cerebro = bt.Cerebro()
    df = load_data("btcusd_1h").iloc[2000:3200]
    data = bt.feeds.PandasData(dataname=df, timeframe=bt.TimeFrame.Minutes, compression=60)
    cerebro.adddata(data, name="BTCUSD")
    cerebro.addstrategy(Breakout)
    cerebro.broker.setcash(20000.0)
    cerebro.broker.setcommission(commission=0.001)
    cerebro.addanalyzer(bt.analyzers.TradeAnalyzer, _name="ta")
    return cerebro


def main():
    cerebro = build()
    strats = cerebro.run()
    ta = strats[0].analyzers.ta.get_analysis()
    print("Trades:", ta.total.total)
    print(f"Final Portfolio Value: {cerebro.broker.getvalue():.2f}")


if __name__ == "__main__":
    main()
