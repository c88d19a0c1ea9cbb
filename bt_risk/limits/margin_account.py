"""MarginAccount: leverage with margin, as a venue that liquidates has it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bt_risk.errors import (
    ParameterError,
    check_choice,
    check_fraction,
    check_positive,
)
from bt_risk.limits.base import Decision, Request
from bt_risk.limits.trade_guards import Guard
from bt_risk.parameters import read_toml
from bt_risk.portfolio.margin import (
    commission,
    entry_price,
    open_profit,
    opening_commission,
    opening_notional,
    staying,
)
from bt_risk.rules.funding import FundingRates
from bt_risk.rules.margin import BUFFER, MarginTiers, leverage_limit, maintenance_margin
from bt_risk.rules.stop_costs import largest_within
from bt_risk.tolerances import LIMIT_EPS

if TYPE_CHECKING:
    from bt_risk.portfolio.book import Book
    from bt_risk.portfolio.instrument import Instrument

__all__ = ["MarginAccount"]

ISOLATED, CROSS = "isolated", "cross"
# The name that stands for every data feed without tiers of its own.
_ANY = "*"
_TIMES = "Leverage is a multiple: 20 is 20x."


@dataclass(frozen=True)
class MarginAccount(Guard):
    """Trade on margin: entries need initial margin, and a venue liquidates what is short of it.

    Backtrader's broker lends without end: with leverage it goes on at an equity below zero. Here
    every bar is taken at its worst price against what is held, and a position is closed at the
    price at which its equity equals its maintenance margin; a stop that is nearer fills first, and
    after a gap beyond that price the position is closed at the open. Commission schemes for stocks
    get `leverage` in a backtest; those for futures keep their own margin in Backtrader's cash.

    Parameters
    ----------
    leverage : float
        Notional per unit of initial margin: 20 is 20x, a margin of 5 %.
    tiers : rows, dict, path or None
        Maintenance margin by notional: rows ``(floor, mmr)`` or ``(floor, mmr, max_leverage)`` of
        `MarginTiers`, the same by name of the data feed (``"*"``: of every other one), or a TOML
        file with a table ``[tiers]`` of them. None: half of the initial margin.
    mode : {"isolated", "cross"}
        What secures a position: its own initial margin, beyond which it loses nothing, or the
        equity of the whole account.
    call : float, default 0.8
        Margin ratio (maintenance margin / equity that secures it) from which entries are refused.
    liquidation_fee : float, default 0.0
        Fee of a liquidation, a fraction of its notional; at most what is left of the margin.
    funding : Series, frame, rows, path, dict or None
        Rate of each payment by its time, a fraction of what a position is worth: longs pay while it
        is positive, and shorts are paid. A CSV file has time and rate; a dict has such by name of
        the data feed.
    borrow_rate : float, default 0.0
        Interest a year, a fraction, on what is borrowed: a long's notional less its initial margin,
        and all of a short's.
    buffer : float or None, default 0.25
        Share of the stop distance by which liquidation is to lie beyond the stop: an order is cut
        or refused until ``leverage <= 1 / ((1 + buffer) d + mmr)``. None: stops are not asked.

    Examples
    --------
    >>> MarginAccount(20).describe()
    'margin: 20x, isolated, 2.5 % of notional maintains it; liquidation beyond 1.25 x the stop'
    """

    leverage: float
    tiers: Any = None
    mode: str = ISOLATED
    call: float = 0.8
    liquidation_fee: float = 0.0
    buffer: float | None = BUFFER
    funding: Any = None
    borrow_rate: float = 0.0

    def __post_init__(self) -> None:
        name = self.name
        check_positive(name, "leverage", self.leverage, remedy=_TIMES)
        if self.leverage < 1.0:
            raise ParameterError(name, "leverage", "1 or more", self.leverage, _TIMES)
        check_choice(name, "mode", self.mode, (ISOLATED, CROSS))
        check_fraction(name, "call", self.call)
        check_fraction(name, "liquidation_fee", self.liquidation_fee, zero=True, one=False)
        check_fraction(name, "borrow_rate", self.borrow_rate, zero=True)
        if self.buffer is not None:
            remedy = "It is a share of the stop distance; None asks for no stop."
            check_positive(name, "buffer", self.buffer, zero=True, remedy=remedy)
        tables = dict(_tables(name, self.tiers, self.leverage))
        self._set(tiers=_plain(self.tiers), _tables=tables)
        rates = _funding(name, self.funding)
        plain: Any = {feed: one.rows for feed, one in rates.items()}
        if not isinstance(self.funding, Mapping | str):  # a file is named as it was
            plain = plain.get(_ANY)
        self._set(funding=self.funding if isinstance(self.funding, str) else plain or None)
        self._set(_rates=rates)

    @property
    def active(self) -> bool:
        """Return True: without leverage, too, a short can be liquidated."""
        return True

    @property
    def isolated(self) -> bool:
        """Return whether each position has a margin of its own."""
        return self.mode == ISOLATED

    def tiers_of(self, name: str) -> MarginTiers:
        """Return the tiers of a data feed."""
        tables: dict[str, MarginTiers] = self._tables  # type: ignore[attr-defined]  # see _set
        return tables.get(name) or tables[_ANY]

    def rates_of(self, name: str) -> FundingRates | None:
        """Return the funding rates of a data feed, None without any."""
        rates: dict[str, FundingRates] = self._rates  # type: ignore[attr-defined]  # see _set
        return rates.get(name) or rates.get(_ANY)

    @property
    def charges(self) -> bool:
        """Return whether what is held costs funding or interest."""
        return bool(self.borrow_rate or self.funding)

    def describe(self) -> str:
        """Return the rule in words."""
        if self.tiers is None:
            kept = f"{100 * self.tiers_of('').tiers[0].mmr:g} % of notional maintains it"
        else:
            kept = "maintenance margin by tiers"
        stop = "" if self.buffer is None else f"; liquidation beyond {1 + self.buffer:g} x the stop"
        fee = f", fee {100 * self.liquidation_fee:g} %" if self.liquidation_fee else ""
        costs = ", funding" if self.funding else ""
        if self.borrow_rate:
            costs += f", {100 * self.borrow_rate:g} % a year on what is borrowed"
        return f"margin: {self.leverage:g}x, {self.mode}, {kept}{fee}{costs}{stop}"

    # -- the limit -------------------------------------------------------------------------------

    def review(self, request: Request, book: Book) -> Decision:
        """Return the `Decision` for `request`."""
        if book.margin_doubt:
            return self._refuse(book.margin_doubt, math.nan, self.call)
        equity, per_unit = book.equity, request.unit_notional
        if not (math.isfinite(equity) and per_unit > 0.0 and math.isfinite(per_unit)):
            return self._refuse("margin cannot be judged: equity or price is unknown", equity, 0.0)
        one, side = request.instrument, request.side
        beside = opening_notional(one, side)
        answers = [self._initial(request, book), self._bands(request, book, beside)]
        if self.buffer is not None:
            answers.append(self._stop(request, book, beside))
        return min(answers, key=lambda answer: answer.size)

    def _initial(self, request: Request, book: Book) -> Decision:
        """Return what the free equity affords as initial margin."""
        free = max(0.0, book.equity - self._used(book))
        per_unit = request.unit_notional / self.leverage

        def fee(size: float) -> float:
            return commission(request.instrument, request.side, size, request.price)

        paid = fee(request.size)
        wanted = request.size * per_unit + paid
        if wanted <= free * (1.0 + LIMIT_EPS):
            return Decision(request.size)
        size = free / per_unit
        if paid:
            size = largest_within(free, lambda units: units * per_unit + fee(units), request.size)
        what = "initial margin and commission" if paid else "initial margin"
        return self._cut(request, size, f"{what} {wanted:,.2f} > {free:,.2f} free", wanted, free)

    def _used(self, book: Book) -> float:
        """Return the equity that positions and working orders bind, in currency."""
        used = 0.0
        for one in book.instruments:
            if one.size:
                stays, entry = staying(book, one), entry_price(one)
                units = stays * abs(one.size) * one.multiplier
                used += units * abs(entry if self.isolated else one.price) / self.leverage
                if self.isolated:
                    used += stays * open_profit(one)  # it secures its own position alone
            if one.orders:
                used += (opening_notional(one, 1) + opening_notional(one, -1)) / self.leverage
                used += opening_commission(one)
        return used

    def _bands(self, request: Request, book: Book, beside: float) -> Decision:
        """Return what the tiers let be held at this leverage."""
        most = self.tiers_of(request.instrument.name).largest(self.leverage)
        held = _held(book, request.instrument, request.side) + beside
        wanted = held + request.size * request.unit_notional
        if wanted <= most * (1.0 + LIMIT_EPS):
            return Decision(request.size)
        reason = f"notional {wanted:,.0f} > {max(0.0, most):,.0f}, the most at {self.leverage:g}x"
        return self._cut(request, (most - held) / request.unit_notional, reason, wanted, most)

    def _stop(self, request: Request, book: Book, beside: float) -> Decision:
        """Return how much has its liquidation far enough beyond its stop."""
        one, per_unit = request.instrument, request.unit_notional
        # A sell stop fills at its own price or below, where its distance is a larger fraction.
        price = abs(request.price if request.order is None else request.order.riskiest)
        distance = request.stop_distance / price if price > 0.0 else math.nan
        if not (math.isfinite(distance) and distance > 0.0):
            return self._refuse(f"its stop is unknown: {one.why_unknown()}", math.nan, math.nan)
        held = _held(book, one, request.side) + beside
        tiers, away = self.tiers_of(one.name), (1.0 + (self.buffer or 0.0)) * distance
        wanted = held + request.size * per_unit
        if self.isolated:
            backed, share = 0.0, 1.0 / self.leverage
        else:
            backed, share = self._behind(book, one), 0.0
        # Equity at the stop, moved away by the buffer, covers the maintenance margin of every band.
        most = math.inf
        for tier in tiers:
            lacks = away + tier.mmr - share
            if lacks > 0.0:
                most = min(most, max(0.0, (backed + tier.cum) / lacks))
        if wanted <= most * (1.0 + LIMIT_EPS):
            return Decision(request.size)
        mmr = maintenance_margin(wanted, tiers) / wanted
        limit = leverage_limit(distance, mmr, self.buffer or 0.0)
        measured = self.leverage if self.isolated else wanted / backed if backed > 0 else math.inf
        formula = f"1 / ({1 + (self.buffer or 0.0):g} x {distance:.4f} + {mmr:.4f})"
        reason = f"leverage {measured:.2f} > {limit:.2f} = {formula}: its stop is too near to"
        return self._cut(
            request, (most - held) / per_unit, f"{reason} liquidation", measured, limit
        )

    def _behind(self, book: Book, instrument: Instrument) -> float:
        """Return the equity that other positions leave to one, cross, in currency."""
        others = [one for one in book.instruments if one.size and one is not instrument]
        needed = [
            maintenance_margin(
                _held(book, one, int(math.copysign(1, one.size))), self.tiers_of(one.name)
            )
            for one in others
        ]
        return book.equity - sum(needed)

    def _cut(
        self, request: Request, size: float, reason: str, measured: float, limit: float
    ) -> Decision:
        size = min(max(0.0, size), request.size)
        return Decision(size, f"{self.name}: {reason}", self.name, measured, limit)


def _held(book: Book, instrument: Instrument, side: int) -> float:
    """Return the notional of what is held on a side and stays, at the last close."""
    if not side * instrument.size > 0.0:
        return 0.0
    return staying(book, instrument) * abs(instrument.size * instrument.value)


def _tables(component: str, tiers: Any, leverage: float) -> Iterator[tuple[str, MarginTiers]]:
    """Yield the tiers by name of the data feed; those of ``"*"`` are for every other one."""
    yield _ANY, MarginTiers.flat(0.5 / leverage)
    if isinstance(tiers, str | Path):
        tiers = _from_file(component, Path(tiers))
    if not isinstance(tiers, Mapping):
        tiers = {} if tiers is None else {_ANY: tiers}
    for name, rows in tiers.items():
        yield name, _one(component if name == _ANY else f"{component}: {name}", rows)


def _one(component: str, rows: Any) -> MarginTiers:
    if isinstance(rows, MarginTiers):
        return rows
    cap = None
    if isinstance(rows, Mapping) and set(rows) == {"rows", "cap"}:
        rows, cap = rows["rows"], rows["cap"]
    if not isinstance(rows, list | tuple):
        raise ParameterError(component, "tiers", "rows of floor, mmr and max_leverage", rows)
    return MarginTiers.from_rows(rows, cap, component)


def _funding(component: str, funding: Any) -> dict[str, FundingRates]:
    """Return funding rates by name of the data feed; those of ``"*"`` are for every other one."""
    if funding is None:
        return {}
    by_name = funding if isinstance(funding, Mapping) else {_ANY: funding}
    return {name: FundingRates.read(component, one) for name, one in by_name.items()}


def _from_file(component: str, path: Path) -> Any:
    """Return the tiers of a file by name of the data feed."""
    missing = ParameterError(component, "tiers", "an existing file", str(path))
    values = read_toml(path, ["tiers"], missing, "It has one table, [tiers].")
    tables = values.get("tiers")
    if not isinstance(tables, dict):
        raise ParameterError(str(path), "tiers", "a table of rows by name", tables)
    return tables


def _plain(tiers: Any) -> Any:
    """Return tiers as a policy file has them: plain rows, by name where they differ."""
    if isinstance(tiers, MarginTiers) and math.isfinite(tiers.cap):
        return {_ANY: _rows(tiers)}
    if isinstance(tiers, Mapping):
        return {name: _rows(rows) for name, rows in tiers.items()}
    return str(tiers) if isinstance(tiers, Path) else _rows(tiers)


def _rows(rows: Any) -> Any:
    if isinstance(rows, MarginTiers):
        plain = tuple((one.floor, one.mmr, one.max_leverage) for one in rows)
        return plain if math.isinf(rows.cap) else {"rows": plain, "cap": rows.cap}
    if isinstance(rows, list | tuple):
        return tuple(dict(row) if isinstance(row, Mapping) else tuple(row) for row in rows)
    return rows
