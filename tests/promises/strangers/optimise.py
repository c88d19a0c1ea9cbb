"""Which pair of moving averages? A grid, run with optstrategy."""

import backtrader as bt

from bt_risk import load_data


class SmaCross(bt.Strategy):
    params = dict(pfast=10, pslow=30)

    def __init__(self):
        sma1 = bt.ind.SMA(period=self.p.pfast)
        sma2 = bt.ind.SMA(period=self.p.pslow)
        self.crossover = bt.ind.CrossOver(sma1, sma2)

    def next(self):
        if not self.position:
            if self.crossover > 0:
                self.buy()
        elif self.crossover < 0:
            self.close()


def build():
    cerebro = bt.Cerebro()
    cerebro.optstrategy(SmaCross, pfast=[5, 10], pslow=[20, 40])
    data = bt.feeds.PandasData(dataname=load_data("nasdaq_1d")["1999":"1999"])
    cerebro.adddata(data)
    cerebro.broker.setcash(100000.0)
    cerebro.addsizer(bt.sizers.PercentSizer, percents=80)
    cerebro.addanalyzer(bt.analyzers.Returns, _name="returns")
    cerebro.addanalyzer(bt.analyzers.DrawDown, _name="drawdown")
    return cerebro


def main(maxcpus=1):
    cerebro = build()
    results = []
    for run in cerebro.run(maxcpus=maxcpus):
        for strat in run:
            value = strat.analyzers.returns.get_analysis()["rnorm100"]
            results.append((value, strat.params.pfast, strat.params.pslow))
    for value, pfast, pslow in sorted(results, reverse=True):
        print(f"fast {pfast:3d} slow {pslow:3d} annual return {value:.2f} %")


if __name__ == "__main__":
    main()
