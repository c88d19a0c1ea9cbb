"""Margin of a leveraged position: maintenance tiers, liquidation and bankruptcy price, funding.

`size` is in units and never negative, `side` is +1 for long and -1 for short, `multiplier` is
currency per price point and unit. *Margin* W is what secures a position: its own margin where that
is isolated, the balance of the account without open profit where it is cross. Contracts are linear:
profit is in the currency of the account.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

from bt_risk.errors import ParameterError, check_fraction, check_limit, check_positive, is_number

__all__ = [
    "BUFFER",
    "MarginTier",
    "MarginTiers",
    "bankruptcy_price",
    "borrow_interest",
    "funding_payment",
    "initial_margin",
    "leverage_limit",
    "liquidation_price",
    "maintenance_margin",
    "margin_ratio",
]

# Share of the distance to the stop by which liquidation is to lie beyond the stop.
BUFFER = 0.25
_DAYS_OF_A_YEAR = 365.0
_CUM_EPS = 1e-6  # of the floor: venues publish amounts that are rounded


@dataclass(frozen=True)
class MarginTier:
    """One band of notional and its maintenance margin.

    Attributes
    ----------
    floor : float
        Notional, in currency, from which on the band counts.
    mmr : float
        Maintenance margin rate, a fraction of notional.
    cum : float
        What is taken off, in currency, so that the margin does not jump at the floor.
    max_leverage : float
        Highest leverage in the band; infinity for no such limit.
    """

    floor: float
    mmr: float
    cum: float = 0.0
    max_leverage: float = math.inf


@dataclass(frozen=True)
class MarginTiers:
    """The bands of a contract by notional, the lowest first.

    Build them by `from_rows` or `flat`; `cum` follows from floors and rates.

    Attributes
    ----------
    tiers : tuple of MarginTier
    cap : float
        Highest notional that the venue takes, in currency; infinity for no such limit.
    """

    tiers: tuple[MarginTier, ...]
    cap: float = math.inf

    def __iter__(self) -> Iterator[MarginTier]:
        return iter(self.tiers)

    @classmethod
    def flat(cls, mmr: float) -> Self:
        """Return one band of a single rate.

        Examples
        --------
        >>> MarginTiers.flat(0.005).at(1e6).mmr
        0.005
        """
        return cls.from_rows([(0.0, mmr)])

    @classmethod
    def from_rows(
        cls, rows: Iterable[Any], cap: float | None = None, component: str = "MarginTiers"
    ) -> Self:
        """Return the tiers of rows ``(floor, mmr)``, ``(floor, mmr, max_leverage)``, or mappings.

        Parameters
        ----------
        rows : iterable
            The lowest band first, with a floor of 0. A mapping has the keys ``floor`` and ``mmr``,
            and if known ``max_leverage`` (else that of the band before) and ``cum``.
        cap : float, optional
            Highest notional that the venue takes.
        component : str
            Who is told of in a message.

        Raises
        ------
        ParameterError
            If the first floor is not 0, floors do not rise, a rate is not in [0, 1) or falls, or a
            `cum` that is given lets the margin jump at its floor.

        Notes
        -----
        ``cum_t = cum_(t-1) + floor_t x (mmr_t - mmr_(t-1))``.

        Examples
        --------
        >>> tiers = MarginTiers.from_rows([(0, 0.004, 125), (50_000, 0.005, 100)])
        >>> tiers.at(60_000.0)
        MarginTier(floor=50000.0, mmr=0.005, cum=50.0, max_leverage=100.0)
        """
        tiers: list[MarginTier] = []
        for row in rows:
            tiers.append(_tier(component, row, tiers[-1] if tiers else None))
        if not tiers:
            raise ParameterError(component, "tiers", "one row or more", list(tiers))
        _check_order(component, tiers)
        ceiling = check_limit(component, "cap", cap, remedy="It is notional, in currency.")
        if ceiling <= tiers[-1].floor:
            constraint = f"above the last floor, which is {tiers[-1].floor:g}"
            raise ParameterError(component, "cap", constraint, cap)
        return cls(tuple(tiers), ceiling)

    def at(self, notional: float) -> MarginTier:
        """Return the band of a notional; a floor belongs to the band that begins there."""
        found = self.tiers[0]
        for tier in self.tiers[1:]:
            if notional < tier.floor:
                break
            found = tier
        return found

    def max_leverage(self, notional: float) -> float:
        """Return the highest leverage at a notional: 0 above the cap."""
        return self.at(notional).max_leverage if notional <= self.cap else 0.0

    def largest(self, leverage: float) -> float:
        """Return the largest notional, in currency, that may be held at a leverage."""
        for tier in self.tiers:
            if tier.max_leverage < leverage:
                return math.nextafter(tier.floor, 0.0)
        return self.cap


def _tier(component: str, row: Any, before: MarginTier | None) -> MarginTier:
    """Return the band of a row, after the one before it."""
    known = ("floor", "mmr", "max_leverage", "cum")
    if isinstance(row, Mapping):
        values = dict(row)
    elif isinstance(row, list | tuple) and 2 <= len(row) <= 3:
        values = dict(zip(known, row, strict=False))
    else:
        values = {}
    if not {"floor", "mmr"} <= set(values) <= set(known):
        constraint = "rows of floor, mmr and if known max_leverage"
        raise ParameterError(component, "tiers", constraint, row)
    floor = float(check_positive(component, "floor", values["floor"], zero=True))
    mmr = float(check_fraction(component, "mmr", values["mmr"], zero=True, one=False))
    most = check_limit(component, "max_leverage", values.get("max_leverage"), remedy=_TIMES)
    if before is not None and values.get("max_leverage") is None:
        most = before.max_leverage
    cum = 0.0 if before is None else before.cum + floor * (mmr - before.mmr)
    given = values.get("cum")
    if given is not None and not (is_number(given) and abs(given - cum) <= _CUM_EPS * floor):
        constraint = f"{cum:g} at the floor {floor:g}, so that the margin does not jump there"
        raise ParameterError(component, "cum", constraint, given)
    return MarginTier(floor, mmr, cum, most)


_TIMES = "Leverage is a multiple: 20 is 20x."


def _check_order(component: str, tiers: list[MarginTier]) -> None:
    if tiers[0].floor:
        raise ParameterError(component, "floor", "0 in the first row", tiers[0].floor)
    for low, high in pairwise(tiers):
        if high.floor <= low.floor:
            constraint = f"above that of the row before, {low.floor:g}"
            raise ParameterError(component, "floor", constraint, high.floor)
        if high.mmr < low.mmr:
            constraint = f"that of the row before, {low.mmr:g}, or more"
            raise ParameterError(component, "mmr", constraint, high.mmr)
        if high.max_leverage > low.max_leverage:
            constraint = f"that of the row before, {low.max_leverage:g}, or less"
            raise ParameterError(component, "max_leverage", constraint, high.max_leverage)


def initial_margin(size: float, price: float, leverage: float, multiplier: float = 1.0) -> float:
    """Return the margin that opens a position, in currency: notional / leverage.

    Examples
    --------
    >>> initial_margin(2.0, 30_000.0, 20.0)
    3000.0
    """
    return size * price * multiplier / leverage


def maintenance_margin(notional: float, tiers: MarginTiers) -> float:
    """Return the equity below which a position is liquidated, in currency.

    Notes
    -----
    ``notional x mmr - cum``, of the band of the notional. At a price below zero the notional is
    what its amount is.

    Examples
    --------
    >>> tiers = MarginTiers.from_rows([(0, 0.004), (50_000, 0.005)])
    >>> maintenance_margin(50_000.0, tiers), maintenance_margin(100_000.0, tiers)
    (200.0, 450.0)
    """
    notional = abs(notional)
    tier = tiers.at(notional)
    return notional * tier.mmr - tier.cum


def liquidation_price(
    side: int,
    size: float,
    entry: float,
    margin: float,
    tiers: MarginTiers,
    *,
    others: float = 0.0,
    multiplier: float = 1.0,
) -> float:
    """Return the price at which the equity of a position equals its maintenance margin.

    Parameters
    ----------
    side : int
        +1 for long, -1 for short.
    size, entry : float
        Units, and the average price at which they were opened.
    margin : float
        What secures it, in currency: its own margin where that is isolated, the balance of the
        account where it is cross.
    tiers : MarginTiers
    others : float
        Cross: open profit of the other positions less their maintenance margin, in currency.
    multiplier : float
        Currency per price point and unit.

    Returns
    -------
    float
        Price. 0 for a long that no price above zero liquidates, and for a short without the margin
        for any price. NaN where there is no position, or an input is NaN.

    Notes
    -----
    ``P* = (W + others + cum - s q E) / (q (mmr - s))`` with the band at P*, not at the entry. The
    maintenance margin is the largest of all bands' ``N mmr - cum``, so that P* is the highest of
    their prices for a long, and the lowest for a short.

    Examples
    --------
    A long of 1 at 10,000 with 50x has 200 of margin: 9,849.25 at 0.5 %.

    >>> tiers = MarginTiers.flat(0.005)
    >>> round(liquidation_price(1, 1.0, 10_000.0, 200.0, tiers), 2)
    9849.25
    >>> round(liquidation_price(-1, 1.0, 8_000.0, 8_000 / 40, tiers), 2)
    8159.2
    """
    units = size * multiplier
    if not (units > 0.0 and entry == entry and margin + others == margin + others):
        return math.nan
    free = margin + others - side * units * entry
    prices = [(free + tier.cum) / (units * (tier.mmr - side)) for tier in tiers]
    return max(0.0, max(prices) if side > 0 else min(prices))


def bankruptcy_price(
    side: int, size: float, entry: float, margin: float, multiplier: float = 1.0
) -> float:
    """Return the price at which the margin of a position is lost: ``E - s W / q``.

    Never below 0. NaN where there is no position.

    Examples
    --------
    >>> bankruptcy_price(1, 2.0, 10_000.0, 400.0), bankruptcy_price(-1, 2.0, 10_000.0, 400.0)
    (9800.0, 10200.0)
    """
    units = size * multiplier
    return max(0.0, entry - side * margin / units) if units > 0.0 else math.nan


def margin_ratio(maintenance: float, equity: float) -> float:
    """Return maintenance margin as a fraction of equity: at 1 a position is liquidated.

    Parameters
    ----------
    maintenance : float
        Of everything that the equity secures, in currency.
    equity : float
        Margin and open profit, in currency.

    Returns
    -------
    float
        0 where nothing is held, infinity where something is and no equity is left.

    Examples
    --------
    >>> margin_ratio(50.0, 200.0), margin_ratio(50.0, -1.0), margin_ratio(0.0, 0.0)
    (0.25, inf, 0.0)
    """
    if maintenance <= 0.0:
        return 0.0
    return maintenance / equity if not equity <= 0.0 else math.inf


def leverage_limit(stop_distance: float, mmr: float, buffer: float = BUFFER) -> float:
    """Return the highest leverage at which the stop lies inside liquidation.

    Parameters
    ----------
    stop_distance : float or ndarray
        Distance to the stop, a fraction of the price of the entry.
    mmr : float or ndarray
        Maintenance margin rate.
    buffer : float
        Share of the distance by which liquidation lies beyond the stop.

    Returns
    -------
    float or ndarray
        ``1 / ((1 + buffer) d + mmr)``, a multiple.

    Examples
    --------
    A stop 1.42 % away, and 0.4 % of maintenance margin:

    >>> round(leverage_limit(0.0142, 0.004), 1)
    46.0
    """
    return 1.0 / ((1.0 + buffer) * stop_distance + mmr)


def funding_payment(
    side: int, size: float, mark: float, rate: float, multiplier: float = 1.0
) -> float:
    """Return what one payment of funding adds to cash, in currency: ``-s q mark rate``.

    A long pays while the rate is positive, and a short is paid.

    Examples
    --------
    >>> funding_payment(1, 2.0, 50_000.0, 0.0001), funding_payment(-1, 2.0, 50_000.0, 0.0001)
    (-10.0, 10.0)
    """
    return -side * size * mark * multiplier * rate


def borrow_interest(borrowed: float, rate: float, days: float) -> float:
    """Return the interest on a loan, in currency, at a rate per year of 365 days.

    Parameters
    ----------
    borrowed : float
        Currency; nothing is paid where it is zero or less.
    rate : float
        Per year, a fraction.
    days : float
        Calendar days.

    Examples
    --------
    >>> borrow_interest(36_500.0, 0.05, 2.0)
    10.0
    """
    return max(0.0, borrowed) * rate * days / _DAYS_OF_A_YEAR
