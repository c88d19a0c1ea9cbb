"""Contracts: what the details of a contract mean for Backtrader."""

from __future__ import annotations

from typing import Any

import backtrader as bt

__all__ = ["IBCommission", "bar_size", "multiplier_of", "price_source", "scheme_of", "to_tick"]

# Types of contracts that cost their price; the others are held on margin.
_PAID = ("STK", "OPT", "FOP", "WAR", "BOND", "FUND", "CASH", "CRYPTO", "CMDTY", "IND")
_SIZES = {
    bt.TimeFrame.Seconds: {5: "5 secs", 10: "10 secs", 15: "15 secs", 30: "30 secs"},
    bt.TimeFrame.Minutes: {1: "1 min"}
    | {n: f"{n} mins" for n in (2, 3, 5, 10, 15, 20, 30)}
    | {60: "1 hour"}
    | {60 * n: f"{n} hours" for n in (2, 3, 4, 8)},
    bt.TimeFrame.Days: {1: "1 day"},
    bt.TimeFrame.Weeks: {1: "1 week"},
    bt.TimeFrame.Months: {1: "1 month"},
}
_LENGTHS = {bt.TimeFrame.Seconds: 1, bt.TimeFrame.Minutes: 60}


class IBCommission(bt.CommInfoBase):
    """Multiply by the size of a contract; IB reports the commissions themselves.

    What a future takes of cash is assumed to be 10 % of its value. IB checks the margin.
    """

    params = (("commtype", bt.CommInfoBase.COMM_FIXED), ("automargin", 1.0))

    def getvaluesize(self, size: float, price: float) -> float:
        """Return what units are worth: options cost a hundred times their price."""
        value: float = super().getvaluesize(size, price)
        return value * self.p.mult if self.stocklike else value

    def getoperationcost(self, size: float, price: float) -> float:
        """Return the cash that an order takes."""
        cost: float = super().getoperationcost(size, price)
        return cost * self.p.mult if self.stocklike else cost


def multiplier_of(details: Any) -> float:
    """Return what a point of a contract is worth in its currency."""
    return float(details.contract.multiplier or 1.0) / float(details.priceMagnifier or 1)


def scheme_of(details: Any) -> IBCommission:
    """Return the commission scheme of a contract."""
    mult = multiplier_of(details)
    paid = details.contract.secType in _PAID
    return IBCommission(mult=mult, stocklike=paid, automargin=0.1 * mult)


def price_source(details: Any) -> str:
    """Return which prices the bars of a contract are made of."""
    sources = {"CASH": "MIDPOINT", "CRYPTO": "AGGTRADES", "CMDTY": "MIDPOINT", "CFD": "MIDPOINT"}
    return sources.get(details.contract.secType, "TRADES")


def bar_size(timeframe: int, compression: int) -> tuple[str, float]:
    """Return what IB calls a bar, and its seconds; 0 where they vary. ValueError for others."""
    name = _SIZES.get(timeframe, {}).get(compression)
    if name is None:
        what = bt.TimeFrame.getname(timeframe, compression)
        raise ValueError(f"IBData: IB has no live bars of {compression} {what}")
    return name, float(_LENGTHS.get(timeframe, 0) * compression)


def to_tick(price: float | None, tick: float) -> float | None:
    """Return the whole tick next to a price: IB refuses any other."""
    return price if not price or not tick else round(round(price / tick) * tick, 10)
