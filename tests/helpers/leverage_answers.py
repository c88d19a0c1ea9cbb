"""Recorded answers of venues on their maintenance tiers, in the classes of ccxt that read them.

The tiers of BTCUSDT are those that Binance announced on 2021-03-18; their amounts follow from
floors and rates by hand.
"""

import json

import pytest

ccxt = pytest.importorskip("ccxt")

SYMBOL = "BTC/USDT:USDT"
BANDS = [  # floor, rate, leverage, what is taken off
    (0, 0.004, 125, 0.0),
    (50_000, 0.005, 100, 50.0),
    (250_000, 0.01, 50, 1_300.0),
    (1_000_000, 0.025, 20, 16_300.0),
    (10_000_000, 0.05, 10, 266_300.0),
    (20_000_000, 0.1, 5, 1_266_300.0),
    (50_000_000, 0.125, 4, 2_516_300.0),
    (100_000_000, 0.15, 3, 5_016_300.0),
    (200_000_000, 0.25, 2, 25_016_300.0),
    (300_000_000, 0.5, 1, 100_016_300.0),
]
CAP = 500_000_000
BYBIT = [("2000000", "0.005", "100.00", ""), ("2600000", "0.0056", "90.00", "1200")]


def recorded(kind, answer, **keys):
    """Return an exchange of ccxt with one market that answers each request with this."""

    class Recorded(kind):
        def fetch(self, url, method="GET", headers=None, body=None):
            assert "everage" in url or "risk-limit" in url
            return json.loads(json.dumps(answer))

    venue = Recorded(keys)
    market = {"id": "BTCUSDT", "symbol": SYMBOL, "base": "BTC", "quote": "USDT", "settle": "USDT"}
    market |= {"type": "swap", "swap": True, "spot": False, "contract": True, "linear": True}
    market |= {"inverse": False, "option": False, "future": False, "active": True}
    venue.set_markets([venue.safe_market_structure(market)])
    return venue


def binance():
    ends = [*(band[0] for band in BANDS[1:]), CAP]
    brackets = [
        {
            "bracket": number,
            "initialLeverage": leverage,
            "notionalCap": end,
            "notionalFloor": floor,
            "maintMarginRatio": rate,
            "cum": cum,
        }
        for number, ((floor, rate, leverage, cum), end) in enumerate(
            zip(BANDS, ends, strict=True), 1
        )
    ]
    answer = [{"symbol": "BTCUSDT", "brackets": brackets}]
    return recorded(ccxt.binanceusdm, answer, apiKey="x", secret="y")


def bybit():
    rows = [
        {
            "id": number,
            "symbol": "BTCUSDT",
            "riskLimitValue": end,
            "maintenanceMargin": rate,
            "maxLeverage": leverage,
            "mmDeduction": off,
        }
        for number, (end, rate, leverage, off) in enumerate(BYBIT, 1)
    ]
    return recorded(ccxt.bybit, {"retCode": 0, "result": {"category": "linear", "list": rows}})
