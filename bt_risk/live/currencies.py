"""Currencies: convert what an instrument earns into the currency of the account, or refuse it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bt_risk.live.cash_flows import number
from bt_risk.portfolio.contract_facts import currency_of
from bt_risk.portfolio.instrument import Instrument

if TYPE_CHECKING:
    from bt_risk.live.protocols import Gate

__all__ = ["Currencies"]

# Fraction by which a rate may differ from the one before; a larger move has to be repeated.
_JUMP = 0.1


class Currencies:
    """Give every instrument of one `RiskBroker` the rate of its currency, where it has one.

    The account's currency is ``account_currency=``, or the attribute ``currency`` of the broker. A
    rate is what one unit is worth in it: from ``rates=``, or from the broker's method
    ``rate(currency)``. Backtrader's store of Interactive Brokers has both in what IB reports of the
    account. An answer that is no rate, or differs much from the one before and is not repeated,
    changes nothing.
    """

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self._rates: dict[str, float] = {}
        self._doubted: dict[str, float] = {}
        self._asked_at: dict[str, float] = {}

    def attach(self) -> None:
        """Let every instrument of the run ask for its rate when it is measured."""
        for instrument in self.gate.book.instruments:
            instrument.rate = self.rate

    def rate(self, instrument: Instrument) -> float:
        """Return what one unit of an instrument's currency is worth in the account, or NaN.

        It is 1.0 where the two are the same, or one of them is not known.
        """
        ours = self._of_account()
        theirs = currency_of(instrument.data, instrument.facts)
        instrument.unconverted = ""
        if not (ours and theirs) or ours == theirs:
            return 1.0
        rate = self._rate(theirs)
        what = f"{instrument.name} is priced in {theirs}, and the account is in {ours}"
        if math.isnan(rate):
            instrument.unconverted = f"{what}: there is no rate. Pass rates={{{theirs!r}: ...}}"
        elif self.gate.journal.once(("rate", instrument.index, theirs)):
            reason = f"currency: {what}: 1 {theirs} counts as {rate:g} {ours}"
            self.gate.journal.instrument(instrument, "currency", "note", reason)
        return rate

    def _rate(self, currency: str) -> float:
        now = self.gate.live.clock()
        if now - self._asked_at.get(currency, -math.inf) < self.gate.live.retry_after:
            return self._rates.get(currency, math.nan)
        self._asked_at[currency] = now
        rate, known = self._ask(currency), self._rates.get(currency, math.nan)
        if not 0.0 < rate < math.inf:
            return known
        doubted = self._doubted.pop(currency, math.nan)
        if abs(rate - known) > _JUMP * known and not abs(rate - doubted) <= _JUMP * doubted:
            self._doubted[currency] = rate
            return known
        self._rates[currency] = rate
        return rate

    def _ask(self, currency: str) -> float:
        """Return the rate that the user gives, else that of the broker, NaN without both."""
        given = self.gate.live.rates
        if callable(given):
            return number(lambda: given(currency))
        if isinstance(given, Mapping) and currency in given:
            return number(lambda: given[currency])
        broker = self.gate.inner
        ask = getattr(broker, "rate", None)
        if callable(ask):
            return number(lambda: ask(currency))
        return number(lambda: _reported(broker, "ExchangeRate")[currency])

    def _of_account(self) -> str:
        """Return the currency of the account, empty where it is not known."""
        broker = self.gate.inner
        known = self.gate.live.account_currency or getattr(broker, "currency", None)
        if not isinstance(known, str):
            known = next((key for key in _reported(broker, "NetLiquidation") if key != "BASE"), "")
        return known.upper()


def _reported(broker: Any, key: str) -> dict[str, Any]:
    """Return a value of the account by currency, as Backtrader's IBStore has them from IB."""
    accounts = getattr(getattr(broker, "ib", None), "acc_upds", None) or {}
    for values in accounts.values():
        if key in values:
            return dict(values[key])
    return {}
