"""Tolerances: differences up to which two numbers are the same, because arithmetic rounds.

They are far above what rounding leaves of a sum, and far below what can be traded or matters.
"""

__all__ = ["LIMIT_EPS", "PRICE_EPS", "RATIO_EPS", "SIZE_EPS"]

# Units. 3 x 0.1 - 0.3 leaves 5.6e-17 of a position; no market trades a billionth of a unit.
SIZE_EPS = 1e-9

# Share of a limit. A sum that equals the limit exactly may exceed it by rounding.
LIMIT_EPS = 1e-9

# Fractions of equity and multiples of R. A fall by exactly 10 % arrives as 0.09999999999999998.
RATIO_EPS = 1e-12

# Share of a price. It may be rounded on its way through a broker or a file.
PRICE_EPS = 1e-9
