"""The rules as plain functions of numpy arrays and pandas objects, without Backtrader.

All ratios are fractions (0.02 is 2 %), drawdown is positive, durations are bars. `side` is +1 for
long and -1 for short. *Risk* is what is lost if the stop is hit, *notional* is what is held.
"""
