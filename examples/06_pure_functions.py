"""What do the rules return without Backtrader, on nothing but pandas?

Expected last line: 34 signals before the breaker; bitcoin itself fell by 81.6 %
"""

# %%
import pandas as pd

import bt_risk

BTC = bt_risk.load_data("btcusd_1h").loc["2018"]
NAMES = ["sp500", "nasdaq", "ibm"]


# %% Rule 2: half Kelly, at most 2 % of capital. The article's example is $2,000, not $2,750.
def size():
    return bt_risk.half_kelly_position(win_rate=0.55, avg_win=1.5, avg_loss=-1.0, capital=100_000)


# %% Rule 2: a stop at 2 x ATR(14) that only tightens until it is hit.
def stops():
    return bt_risk.atr_stop(BTC.high, BTC.low, BTC.close)


# %% Rules 3 and 4: two longs that move together are one bet; the short is a hedge.
def exposure():
    closes = pd.DataFrame({n: bt_risk.load_data(f"{n}_1d").close for n in NAMES}).dropna()
    wanted = {"sp500": 3000.0, "nasdaq": 2000.0, "ibm": -1000.0}
    return bt_risk.correlation_exposure(wanted, closes.pct_change(), capital=100_000)


# %% Rule 5: the fall from the high-water mark, and the article's own class.
def breaker():
    manager = bt_risk.RiskManager(100_000)
    return [manager.update(pnl) for pnl in (5_000, -10_000, -501)]


def main():
    stop, allowed = stops(), exposure()
    deepest = bt_risk.drawdown(BTC.close).max()
    signals = bt_risk.generate_signal(BTC)
    print(f"half Kelly ${size():,.2f}; stop {stop.iloc[-1]:.2f} below {BTC.close.iloc[-1]:.2f}")
    print({name: round(value, 2) for name, value in allowed.items()}, breaker())
    print(
        f"{len(signals)} signals before the breaker; bitcoin itself fell by {100 * deepest:.1f} %"
    )
    return dict(size=size(), stop=stop, allowed=allowed, breaker=breaker(), signals=signals)


if __name__ == "__main__":
    main()
