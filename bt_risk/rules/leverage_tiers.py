"""Maintenance tiers as ccxt gives them: of an exchange, or of an answer that was saved."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from bt_risk.errors import DataError, ParameterError, is_number
from bt_risk.rules.margin import MarginTiers

__all__ = ["leverage_tiers"]

_NAME = "leverage_tiers"
_SOURCE = "a ccxt exchange, or what its fetch_leverage_tiers returns"
# Where a venue states a band in currency, by the name that it has there. Others state contracts or
# coins under the same name of ccxt, which are no currency before they meet a price.
_IN_CURRENCY = {
    "notionalCap",  # Binance
    "riskLimitValue",  # Bybit
    "risk_limit",  # Gate
    "endUnit",  # Bitget
    "maxTierValue",  # Bitget, unified account
    "maxPositionVal",  # BingX
    "maxRiskLimit",  # KuCoin
    "maxNominalValue",  # XT
    "numNonContractUnits",  # Kraken Futures
}
_FIELDS = ("minNotional", "maintenanceMarginRate", "maxLeverage")
_DEDUCTIONS = ("cum", "mmDeduction", "deduction")  # Binance, Bybit, Gate


def leverage_tiers(source: Any, symbol: str) -> MarginTiers:
    """Return the maintenance tiers of a linear contract, for `MarginAccount`, from ccxt.

    Parameters
    ----------
    source : ccxt exchange, or dict
        An exchange, which is asked over the network, or what `fetch_leverage_tiers` has returned.
    symbol : str
        As ccxt writes it: ``"BTC/USDT:USDT"``.

    Returns
    -------
    MarginTiers
        Floors and cap in currency; `cum` follows from floors and rates.

    Raises
    ------
    ParameterError
        If the source is neither, or the symbol is not that of a linear contract.
    DataError
        If it has no tiers of that symbol, or they are incomplete or not in currency.

    Notes
    -----
    Where bands leave a gap, the higher one begins at its lower end. Errors of ccxt itself pass.

    Examples
    --------
    >>> first = {"minNotional": 0, "maxNotional": 50_000, "maintenanceMarginRate": 0.004}
    >>> second = {"minNotional": 50_000, "maxNotional": 250_000, "maintenanceMarginRate": 0.005}
    >>> tiers = leverage_tiers({"BTC/USDT:USDT": [first, second]}, "BTC/USDT:USDT")
    >>> tiers.at(60_000.0).cum, tiers.cap
    (50.0, 250000.0)
    """
    _check_linear(symbol)
    if not isinstance(source, Mapping):
        source = _asked(source, symbol)
    tiers = source.get(symbol)
    if not isinstance(tiers, list | tuple) or not tiers:
        raise DataError(f"{_NAME}: there are no tiers of {symbol}.")
    rows = _rows(symbol, tiers)
    cap = tiers[-1].get("maxNotional")
    return MarginTiers.from_rows(rows, cap if is_number(cap) else None, _NAME)


def _check_linear(symbol: str) -> None:
    """Raise ParameterError for spot and for contracts that pay in the coin."""
    quote, _, settled = symbol.partition("/")[2].partition(":")
    if not quote or quote != settled.partition("-")[0]:
        constraint = "a linear contract as ccxt writes it, like 'BTC/USDT:USDT'"
        raise ParameterError(_NAME, "symbol", constraint, symbol)


def _asked(exchange: Any, symbol: str) -> dict[str, Any]:
    """Return what an exchange answers."""
    ask = getattr(exchange, "fetch_market_leverage_tiers", None)
    if ask is None or inspect.iscoroutinefunction(ask):
        remedy = "One of ccxt.async_support is asked with await." if ask else ""
        raise ParameterError(_NAME, "source", _SOURCE, type(exchange).__name__, remedy)
    exchange.load_markets()
    return {symbol: ask(symbol)}


def _rows(symbol: str, tiers: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of `MarginTiers.from_rows`."""
    rows: list[dict[str, Any]] = []
    last: Any = 0.0  # where the band before ends
    for number, tier in enumerate(tiers, 1):
        where = f"{_NAME}: tier {number} of {symbol}"
        _check_currency(where, tier.get("info"))
        floor, rate, most = (tier.get(name) for name in _FIELDS)
        floors = [one for one in (floor, last) if is_number(one)]
        if not floors:
            raise DataError(f"{where} has no floor.")
        if not (is_number(rate) and rate > 0.0):
            raise DataError(f"{where} has no maintenance margin rate.")
        if is_number(most) and rate * most > 1.0 + 1e-9:
            raise DataError(
                f"{where} has a maintenance margin rate of {rate:g} at {most:g}x, more than its "
                "initial margin: is it percent?"
            )
        row = {"floor": min(floors) if rows else 0.0, "mmr": rate, "max_leverage": most}
        rows.append(row | _deduction(tier.get("info")))
        last = tier.get("maxNotional")
    return rows


def _check_currency(where: str, info: Any) -> None:
    """Raise DataError where the venue's own answer does not state the band in currency."""
    if isinstance(info, Mapping) and info and not _IN_CURRENCY & set(info):
        raise DataError(
            f"{where} is not known to be in currency: the venue states {', '.join(info)}. Write "
            "its tiers by hand."
        )


def _deduction(info: Any) -> dict[str, float]:
    """Return the amount that the venue takes off in a band, where it says so."""
    found = info if isinstance(info, Mapping) else {}
    for name in _DEDUCTIONS:
        try:
            return {"cum": float(found[name])}
        except (KeyError, TypeError, ValueError):
            continue
    return {}
