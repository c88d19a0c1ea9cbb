"""The two jobs in numbers, the same for every engine.

``stop`` has one name. Buy at the next open when RSI(14) closes below 30. The stop is 2 x ATR(14)
below the close, and only rises; a close below it sells at the next open. A trade risks 1 % of
equity at its stop, in whole units, and costs at most 95 % of equity. Each side pays 5 basis points.

``rotation`` has many names. Every 20 bars hold the ten that rose most in 20 bars, for the same
amount each; the sizes are known before. There are no costs.
"""

__all__ = ["CASH", "FEE", "LEVEL", "entry_size", "targets"]

CASH, FEE, LEVEL = 1_000_000.0, 0.0005, 30.0
EVERY, HELD, AMOUNT = 20, 10, 60_000.0


def entry_size(equity, close, distance):
    """Return the whole units to buy."""
    return int(min(0.01 * equity / distance, 0.95 * equity / close))


def targets(frames):
    """Return the sizes to hold, by the number of the bar and of the name."""
    closes = [frame["close"].tolist() for frame in frames]
    found = {}
    for bar in range(EVERY, len(closes[0]), EVERY):
        rises = [one[bar] / one[bar - EVERY] for one in closes]
        best = sorted(range(len(closes)), key=rises.__getitem__)[-HELD:]
        found[bar] = [int(AMOUNT / one[bar]) * (i in best) for i, one in enumerate(closes)]
    return found
