"""Contract facts: what a data feed itself reports of its contract."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["currency_of", "tick_of"]

# The names of the smallest price step in the contract details of ib_async and of IbPy.
_MIN_TICK = ("minTick", "m_minTick")
_CURRENCY = ("currency", "m_currency")
_CONTRACTS = ("contract", "m_summary")


def tick_of(data: Any) -> float:
    """Return the tick that a data feed reports, 0 where it reports none.

    It is the attribute ``tick`` of the data feed, or the one in its ``contractdetails``, as the
    data feeds of Interactive Brokers have them.

    Examples
    --------
    >>> from types import SimpleNamespace as Feed
    >>> tick_of(Feed(tick=0.05)), tick_of(Feed(contractdetails=Feed(m_minTick=0.25)))
    (0.05, 0.25)
    >>> tick_of(Feed())
    0.0
    """
    details = getattr(data, "contractdetails", None)
    reported = [getattr(data, "tick", None), *(getattr(details, name, None) for name in _MIN_TICK)]
    ticks = [float(tick) for tick in reported if isinstance(tick, int | float)]
    return next((tick for tick in ticks if 0.0 < tick < math.inf), 0.0)


def currency_of(data: Any, facts: Mapping[str, Any]) -> str:
    """Return the currency of the prices of a data feed, an empty text where it is not known.

    It is the fact ``currency``, the attribute or parameter of that name of the data feed, or the
    one in its ``contract`` or ``contractdetails``.

    Examples
    --------
    >>> from types import SimpleNamespace as Feed
    >>> currency_of(Feed(contract=Feed(m_currency="USD")), {})
    'USD'
    >>> currency_of(Feed(contract=Feed(m_currency="USD")), {"currency": "EUR"})
    'EUR'
    """
    details = getattr(data, "contractdetails", None)
    holders = [data, getattr(data, "contract", None), getattr(data, "p", None)]
    holders += [getattr(details, name, None) for name in _CONTRACTS]
    reported = [getattr(holder, name, None) for holder in holders for name in _CURRENCY]
    known = [facts.get("currency"), *reported]
    return next((text.upper() for text in known if isinstance(text, str) and text), "")
