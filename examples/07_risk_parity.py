"""What do equal risk and a correlation cap change in a portfolio of four stocks?

Expected last line: with cap 0.5  2.77 times the cash, volatility 19.2%, max drawdown 46.0%
"""

# %%
import backtrader as bt

import bt_risk

YEARS = slice("2004-09-01", "2012-12-31")
NAMES = ["aapl", "goog", "ibm", "msft"]
FRAMES = {name: bt_risk.load_data(f"{name}_1d").loc[YEARS] for name in NAMES}


# %% Weights are estimated once a month; a position is traded when it is 10 % away from its weight.
class Monthly(bt.Strategy):
    params = dict(method="equal")

    def __init__(self):
        self.weights()  # bt_risk records closes from here on

    def weights(self):
        return bt_risk.target_weights(self, self.p.method, refresh="monthly", gross_limit=0.95)

    def next(self):
        for data, weight in self.weights().items():
            self.order_target_percent(data, target=weight)


def run(method, correlation_limit=None):
    cerebro = bt.Cerebro(stdstats=False)
    for name, frame in FRAMES.items():
        cerebro.adddata(bt_risk.FrameData(dataname=frame), name=name)
    cerebro.broker.setcash(1_000_000)
    cerebro.broker.setcommission(0.001)
    cerebro.setbroker(bt_risk.CorrelationCap(cerebro.broker, correlation_limit=correlation_limit))
    cerebro.addstrategy(Monthly, method=method)
    cerebro.addanalyzer(bt.analyzers.TimeReturn)
    cerebro.addanalyzer(bt.analyzers.DrawDown)
    result = cerebro.run()[0].analyzers
    returns = list(result.timereturn.get_analysis().values())
    volatility = (252 * sum(r * r for r in returns) / len(returns)) ** 0.5
    fall = result.drawdown.get_analysis().max.drawdown / 100
    return cerebro.broker.getvalue() / 1e6, volatility, fall


def main():
    rows = {"equal weight": run("equal"), "risk parity": run("risk_parity")}
    rows["with cap 0.5"] = run("risk_parity", correlation_limit=0.5)
    for name, (growth, volatility, fall) in rows.items():
        growth = f"{growth:5.2f} times the cash"
        print(f"{name:12} {growth}, volatility {volatility:.1%}, max drawdown {fall:.1%}")
    return rows


if __name__ == "__main__":
    main()
