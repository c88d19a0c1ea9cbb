"""RSI and ATR as Backtrader computes them, for engines that bring none of their own."""

import math

__all__ = ["PERIOD", "wilder"]

PERIOD = 14


def wilder(high, low, close, rsi, atr):
    """Fill `rsi` and `atr` by Wilder's smoothing, which begins with a mean of the first values."""
    gain = loss = span = 0.0
    for i in range(len(close)):
        rsi[i] = atr[i] = math.nan
        if i == 0:
            continue
        change = close[i] - close[i - 1]
        up, down = max(change, 0.0), max(-change, 0.0)
        reach = max(high[i], close[i - 1]) - min(low[i], close[i - 1])
        if i <= PERIOD:
            gain, loss, span = gain + up / PERIOD, loss + down / PERIOD, span + reach / PERIOD
        else:
            gain += (up - gain) / PERIOD
            loss += (down - loss) / PERIOD
            span += (reach - span) / PERIOD
        if i >= PERIOD:
            rsi[i] = 100.0 - 100.0 / (1.0 + gain / loss) if loss > 0.0 else 100.0
            atr[i] = span
