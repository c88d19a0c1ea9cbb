"""The job of one name in vectorbt, by an order function that numba compiles."""

import numpy as np
import vectorbt as vbt
from numba import njit
from rule import CASH, FEE, LEVEL
from rule import entry_size as _entry_size
from vectorbt.portfolio import nb
from wilder import wilder as _wilder

__all__ = ["stop"]

wilder, entry_size = njit(_wilder), njit(_entry_size)


@njit
def order(context, opens, closes, rsi, atr, level):
    """Decide at the close of the bar before, and trade at the open of this one."""
    i = context.i
    if i == 0 or np.isnan(rsi[i - 1]):
        return nb.order_nothing_nb()
    close, distance = closes[i - 1], 2.0 * atr[i - 1]
    held = context.position_now
    if held > 0.0:
        leaves = close < level[0]
        level[0] = max(level[0], close - distance)
        return nb.order_nb(-held, opens[i], fees=FEE) if leaves else nb.order_nothing_nb()
    if rsi[i - 1] < LEVEL:
        level[0] = close - distance
        size = entry_size(context.cash_now, close, distance)
        return nb.order_nb(size, opens[i], fees=FEE)
    return nb.order_nothing_nb()


def stop(frames):
    """Return what runs this job once, and gives the number of trades and the final value."""
    (prices,) = frames
    columns = {name: prices[name].to_numpy() for name in ("open", "high", "low", "close")}

    def run():
        rsi, atr = np.empty(len(prices)), np.empty(len(prices))
        wilder(columns["high"], columns["low"], columns["close"], rsi, atr)
        portfolio = vbt.Portfolio.from_order_func(
            prices["close"],
            order,
            columns["open"],
            columns["close"],
            rsi,
            atr,
            np.zeros(1),
            init_cash=CASH,
            freq="1h",
        )
        return portfolio.trades.count(), portfolio.final_value()

    return run
