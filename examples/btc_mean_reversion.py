"""The article's strategy with the article's rules on a year of bitcoin: what is left of it?

Expected last line: 100,000 became 64,069, with the filter 92,561; bitcoin itself -73.4 %
"""

# %%
import backtrader as bt

import bt_risk

PRICES = bt_risk.load_data("btcusd_1h").loc["2018"]
BTC = dict(step=1e-5, min_notional=10)
POLICY = bt_risk.Policy(action="pause", cooldown_bars=60, instruments={"BTC": BTC})


# %% Buy while RSI(14) is below 30. The rules decide size and exit.
class MeanReversion(bt.Strategy):
    params = dict(trend=None)

    def __init__(self):
        self.rsi = bt.ind.RSI(period=14)
        self.average = bt.ind.SMA(period=self.p.trend) if self.p.trend else None

    def next(self):
        rising = self.average is None or self.data.close[0] > self.average[0]
        if not self.position and self.rsi < 30 and rising:
            self.buy()


def run(**settings):
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(bt_risk.FrameData(dataname=PRICES), name="BTC")
    cerebro.addstrategy(MeanReversion, **settings)
    cerebro.addanalyzer(bt.analyzers.DrawDown)
    cerebro.broker.setcash(100_000)
    cerebro.broker.setcommission(0.001)
    bt_risk.protect(cerebro, POLICY)
    strategy = cerebro.run()[0]
    fall = strategy.analyzers.drawdown.get_analysis().max.drawdown / 100
    trades = strategy.analyzers.riskjournal.trades()
    return dict(equity=cerebro.broker.getvalue(), fall=fall, trades=len(trades))


# %% The article expects a Sharpe of 1.2. Costs of 0.1 % a side and a falling market leave none.
def main():
    plain, filtered = run(), run(trend=200)
    for name, result in (("plain", plain), ("with the filter", filtered)):
        print(f"{name}: {result['trades']} trades, max drawdown {100 * result['fall']:.1f} %")
    change = PRICES.close.iloc[-1] / PRICES.open.iloc[0] - 1
    left = f"{plain['equity']:,.0f}, with the filter {filtered['equity']:,.0f}"
    print(f"100,000 became {left}; bitcoin itself {100 * change:.1f} %")
    return dict(plain=plain, filtered=filtered, change=change)


if __name__ == "__main__":
    main()
