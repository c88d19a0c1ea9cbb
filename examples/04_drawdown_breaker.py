"""What is left when a crash meets a strategy that never sells?

Expected last line: equity 111,134; without the breaker it fell by 67.9 %
"""

# %%
import backtrader as bt

import bt_risk

PRICES = bt_risk.load_data("nasdaq_1d").loc["2000":"2002"]


# %% Buy and hold: it buys again after its position is closed.
class Hold(bt.Strategy):
    def next(self):
        if not self.position:
            self.order_target_percent(target=0.9)


# %% The breaker refuses entries, closes everything, waits until flat and ends the run.
def run(**breaker):
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(bt_risk.FrameData(dataname=PRICES), name="NASDAQ")
    cerebro.addstrategy(Hold)
    cerebro.addanalyzer(bt.analyzers.DrawDown)
    cerebro.addanalyzer(bt_risk.DrawdownBreaker, **breaker)
    cerebro.broker.setcash(100_000)
    strategy = cerebro.run()[0]
    strategy.equity = cerebro.broker.getvalue()
    return strategy


def main():
    bare, halted = run(drawdown_limit=None), run(drawdown_limit=0.10)
    result = halted.analyzers.drawdownbreaker.get_analysis()
    fall = bare.analyzers.drawdown.get_analysis().max.drawdown / 100
    for event, share in (("tripped_at", "drawdown_at_trip"), ("flat_at", "drawdown_at_flat")):
        print(f"{event} {result[event]:%Y-%m-%d}, down {100 * result[share]:.1f} %")
    print(f"equity {halted.equity:,.0f}; without the breaker it fell by {100 * fall:.1f} %")
    return dict(fall=fall, equity=halted.equity, bars=len(halted), **result)


if __name__ == "__main__":
    main()
