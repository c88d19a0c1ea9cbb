"""How large is a position when the risk of a trade decides, and not the cash?

Expected last line: after 59 trades the sizer is in state KELLY
"""

# %%
import backtrader as bt

import bt_risk

PRICES = bt_risk.load_data("aapl_1d")


# %% A strategy that names no size: Backtrader asks the sizer.
class Cross(bt.Strategy):
    def __init__(self):
        self.cross = bt.ind.CrossOver(bt.ind.SMA(period=10), bt.ind.SMA(period=30))
        self.atr = bt.ind.ATR(period=14)
        self.risks, self.closed = [], 0

    def notify_trade(self, trade):
        self.closed += trade.isclosed

    def next(self):
        if self.cross > 0:
            order = self.buy()
            at_the_stop = order.size * 2 * self.atr[0]
            self.risks.append(at_the_stop / self.broker.getvalue())
        elif self.cross < 0 and self.position:
            self.close()


# %% 1 % of equity until there are 30 trades, half Kelly and at most 2 % from then on.
def main():
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(bt_risk.FrameData(dataname=PRICES), name="AAPL")
    cerebro.addstrategy(Cross)
    cerebro.addsizer(bt_risk.HalfKellySizer, min_trades=30)
    cerebro.broker.setcash(100_000)
    cerebro.broker.setcommission(0.001)
    strategy = cerebro.run()[0]
    risks, state = strategy.risks, strategy.getsizer().state
    first, largest = 100 * risks[0], 100 * max(risks)
    print(f"at risk at the first entry: {first:.2f} % of equity, at most {largest:.2f} %")
    print(f"after {strategy.closed} trades the sizer is in state {state}")
    return dict(first=risks[0], largest=max(risks), trades=strategy.closed, state=state)


if __name__ == "__main__":
    main()
