"""An index future: 50 dollars a point, margin, long above the channel and short below it."""

import backtrader as bt

from bt_risk import load_data


class Turtle(bt.Strategy):
    params = dict(entry=40, exit=20, contracts=4)

    def __init__(self):
        self.high = bt.ind.Highest(self.data.high, period=self.p.entry)
        self.low = bt.ind.Lowest(self.data.low, period=self.p.entry)
        self.exit_high = bt.ind.Highest(self.data.high, period=self.p.exit)
        self.exit_low = bt.ind.Lowest(self.data.low, period=self.p.exit)

    def next(self):
        close = self.data.close[0]
        if self.position.size == 0:
            if close > self.high[-1]:
                self.buy(size=self.p.contracts)
            elif close < self.low[-1]:
                self.sell(size=self.p.contracts)
        elif (
            self.position.size > 0
            and close < self.exit_low[-1]
            or self.position.size < 0
            and close > self.exit_high[-1]
        ):
            self.close()


def build():
    cerebro = bt.Cerebro()
    cerebro.adddata(bt.feeds.PandasData(dataname=load_data("sp500_1d")["2001":"2003"]), name="ES")
    cerebro.addstrategy(Turtle)
    cerebro.broker.setcash(500000.0)
    cerebro.broker.setcommission(commission=2.5, margin=20000.0, mult=50.0)
    cerebro.broker.set_slippage_fixed(0.25)
    cerebro.addobserver(bt.observers.DrawDown)
    return cerebro


def main():
    cerebro = build()
    cerebro.run()
    print(f"Final Portfolio Value: {cerebro.broker.getvalue():.2f}")


if __name__ == "__main__":
    main()
