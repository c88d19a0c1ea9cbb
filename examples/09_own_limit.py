"""How do I add a rule of my own that every order has to pass?

Expected last line: 100 orders refused; fell 50.6 % without, 30.2 % with
"""

# %%
import backtrader as bt

import bt_risk

PRICES = bt_risk.load_data("nasdaq_1d").loc["1998":"2003"]


# %% A limit is a class with `review`: it returns how many units of the request may be sent.
class LongTrend(bt_risk.Limit):
    bars = 200

    def review(self, request, book):
        closes = request.instrument.data.close.get(size=self.bars)
        mean = sum(closes) / self.bars
        if request.side < 0 or len(closes) < self.bars or request.price >= mean:
            return bt_risk.Decision(request.size)
        return self.refuse(0.0, f"{request.price:.0f} < {mean:.0f}, the mean of {self.bars} bars")


class Dips(bt.Strategy):
    def __init__(self):
        self.low = bt.ind.Lowest(self.data.low(-1), period=10)
        self.high = bt.ind.Highest(self.data.high(-1), period=10)

    def next(self):
        if self.position and self.data.close[0] > self.high[0]:
            self.close()
        elif self.data.close[0] < self.low[0]:
            self.order_target_percent(target=0.9)


# %% Exits never reach a limit; a refused entry comes back as Rejected, and the journal has it.
def run(*limits):
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(bt_risk.FrameData(dataname=PRICES), name="NASDAQ")
    cerebro.addstrategy(Dips)
    cerebro.setbroker(bt_risk.RiskBroker(cerebro.broker, limits=list(limits)))
    cerebro.addanalyzer(bt.analyzers.DrawDown)
    cerebro.addanalyzer(bt_risk.RiskJournal)
    return cerebro.run()[0].analyzers


def main():
    free, limited = run(), run(LongTrend())
    falls = [run.drawdown.get_analysis().max.drawdown for run in (free, limited)]
    refused = limited.riskjournal.frame().query("action == 'reject'")
    print(refused.reason.iloc[-1])
    print(f"{len(refused)} orders refused; fell {falls[0]:.1f} % without, {falls[1]:.1f} % with")
    return dict(refused=len(refused), falls=falls)


if __name__ == "__main__":
    main()
