"""How much of a portfolio is one bet in different names?

Expected last line: 90 orders refused; held at once: 4 without, 3 with
"""

# %%
import backtrader as bt

import bt_risk

YEARS = slice("2004-01-01", "2008-12-31")
NAMES = ["sp500", "nasdaq", "ibm", "msft"]
FRAMES = {name: bt_risk.load_data(f"{name}_1d").loc[YEARS] for name in NAMES}


# %%
class Breakout(bt.Strategy):
    def __init__(self):
        self.tops = {d: bt.ind.Highest(d.high(-1), period=55) for d in self.datas}
        self.bottoms = {d: bt.ind.Lowest(d.low(-1), period=20) for d in self.datas}
        self.held_together = 0

    def next(self):
        for data in self.datas:
            held = self.getposition(data).size
            if not held and data.close[0] > self.tops[data][0]:
                self.order_target_percent(data, 0.2)
            elif held and data.close[0] < self.bottoms[data][0]:
                self.close(data)
        held = sum(bool(self.getposition(d)) for d in self.datas)
        self.held_together = max(self.held_together, held)


# %% The cap is a broker: it judges what reaches it, `order_target_percent` included.
def run(correlation_limit):
    cerebro = bt.Cerebro(stdstats=False)
    for name, frame in FRAMES.items():
        cerebro.adddata(bt_risk.FrameData(dataname=frame), name=name)
    cerebro.addstrategy(Breakout)
    cerebro.broker.setcash(1_000_000)
    cap = bt_risk.CorrelationCap(cerebro.broker, correlation_limit=correlation_limit)
    cerebro.setbroker(cap)
    cerebro.addanalyzer(bt_risk.RiskJournal)
    return cerebro.run()[0]


def main():
    free, capped = run(correlation_limit=None), run(correlation_limit=0.6)
    reasons = capped.analyzers.riskjournal.frame().query("action == 'reject'").reason
    print(reasons.iloc[-1])
    together = free.held_together, capped.held_together
    print(f"{len(reasons)} orders refused; held at once: {together[0]} without, {together[1]} with")
    return dict(refused=len(reasons), free=together[0], capped=together[1])


if __name__ == "__main__":
    main()
