"""Would this strategy have passed the challenge of a trading firm?

Expected last line: bare: failed on 2017-07-19; with 1 % at risk: passed on 2017-10-02
"""

# %%
import backtrader as bt

import bt_risk

PRICES = bt_risk.load_data("btcusd_1h")

# %% 10 % may be lost, 5 % within a day of Prague; 10 % are to be earned, and four days traded.
CHALLENGE = [
    bt_risk.AccountFloor(0.10, daily=0.05, reset="00:00 Europe/Prague", trigger="intrabar"),
    bt_risk.ProfitTarget(0.10, action="stop"),
    bt_risk.MinimumTradingDays(4),
]
RULES = [guard.name for guard in CHALLENGE]


class Breakout(bt.Strategy):
    def __init__(self):
        self.high = bt.ind.Highest(self.data.high(-1), period=100)
        self.low = bt.ind.Lowest(self.data.low(-1), period=50)

    def next(self):
        if not self.position and self.data.close[0] > self.high[0]:
            self.order_target_percent(target=0.95)
        elif self.position and self.data.close[0] < self.low[0]:
            self.close()


# %% The strategy stays as it is: the rules are a policy.
def run(**rules):
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(bt_risk.FrameData(dataname=PRICES), name="BTC")
    cerebro.addstrategy(Breakout)
    cerebro.broker.setcash(100_000)
    cerebro.broker.setcommission(commission=0.0005)
    bt_risk.protect(cerebro, guards=CHALLENGE, drawdown_limit=None, sizer=False, **rules)
    journal = cerebro.run()[0].analyzers.riskjournal.frame()
    return journal[journal.rule.isin(RULES) & journal.action.isin(["halt", "note"])]


def main():
    verdicts, passed = [], {}
    off = dict(risk_limit=None, notional_limit=None, exposure_limit=None, trailing_stop=False)
    for name, rules in {"bare": off, "with 1 % at risk": {}}.items():
        lines = run(**rules)
        print(*lines.reason, sep="\n")
        passed[name], day = set(lines.rule) == set(RULES[1:]), lines.time.iloc[-1].date()
        verdicts.append(f"{name}: {'passed' if passed[name] else 'failed'} on {day}")
    print(*verdicts, sep="; ")
    return passed


if __name__ == "__main__":
    main()
