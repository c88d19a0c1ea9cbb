"""No strategy at all: an indicator whose sign says long or short, and one that says get out."""

import backtrader as bt

from bt_risk import load_data


class MACDSignal(bt.Indicator):
    lines = ("signal",)

    def __init__(self):
        self.lines.signal = bt.ind.MACDHisto(self.data).histo


class Exhausted(bt.Indicator):
    lines = ("signal",)

    def __init__(self):
        self.lines.signal = 75.0 - bt.ind.RSI(self.data, period=14)


def build():
    cerebro = bt.Cerebro()
    cerebro.adddata(bt.feeds.PandasData(dataname=load_data("msft_1d")["2005":"2007"]))
    cerebro.add_signal(bt.SIGNAL_LONGSHORT, MACDSignal)
    cerebro.add_signal(bt.SIGNAL_LONGEXIT, Exhausted)
    cerebro.addsizer(bt.sizers.AllInSizerInt, percents=90)
    cerebro.broker.setcash(50000.0)
    cerebro.broker.setcommission(commission=0.001)
    return cerebro


def main():
    cerebro = build()
    cerebro.run()
    print(f"Final Portfolio Value: {cerebro.broker.getvalue():.2f}")


if __name__ == "__main__":
    main()
