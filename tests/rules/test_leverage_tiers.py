"""Maintenance tiers out of ccxt: recorded answers of venues, and what cannot be used."""

import re

import pytest
from helpers.leverage_answers import BANDS, CAP, SYMBOL, binance, bybit
from helpers.shared_data import ROOT

import bt_risk
from bt_risk.errors import DataError, ParameterError
from bt_risk.rules.leverage_tiers import leverage_tiers


def tier(floor, end, rate=0.005, leverage=100, **info):
    found = {"minNotional": floor, "maxNotional": end, "maintenanceMarginRate": rate}
    return found | {"maxLeverage": leverage, "info": info}


def of(*tiers):
    return leverage_tiers({SYMBOL: list(tiers)}, SYMBOL)


def test_the_tiers_of_binance_are_those_it_announced():
    found = leverage_tiers(binance(), SYMBOL)
    assert [(t.floor, t.mmr, t.max_leverage) for t in found] == [band[:3] for band in BANDS]
    assert [t.cum for t in found] == pytest.approx([band[3] for band in BANDS])
    assert found.cap == CAP
    account = bt_risk.MarginAccount(20, tiers=found)
    assert account.tiers_of("BTC") == found
    assert account.tiers_of("BTC").largest(20) == pytest.approx(10_000_000)


def test_the_whole_answer_of_an_exchange_gives_the_same():
    venue = binance()
    assert leverage_tiers(venue.fetch_leverage_tiers([SYMBOL]), SYMBOL) == leverage_tiers(
        venue, SYMBOL
    )


def test_the_tiers_of_bybit_take_off_what_it_says():
    found = leverage_tiers(bybit(), SYMBOL)
    assert [(t.floor, t.mmr, t.max_leverage) for t in found] == [
        (0, 0.005, 100),
        (2_000_000, 0.0056, 90),
    ]
    assert [t.cum for t in found] == pytest.approx([0.0, 1_200.0])
    assert found.cap == 2_600_000


def test_a_gap_belongs_to_the_stricter_band():
    found = of(tier(0, 500), tier(501, 1_000, 0.01))
    assert found.at(500.0).mmr == 0.01
    assert of(tier(None, 500), tier(None, None, 0.01)).at(500.0).mmr == 0.01
    assert of(tier(10, None), tier(500, None, 0.01)).at(0.0).mmr == 0.005


def test_without_a_last_end_there_is_no_cap():
    assert of(tier(0, None)).cap == float("inf")


@pytest.mark.parametrize(
    ("tiers", "said"),
    [
        ([tier(0, 500, None)], "tier 1 of BTC/USDT:USDT has no maintenance margin rate"),
        ([tier(0, 500, 0.0)], "has no maintenance margin rate"),
        ([tier(0, 500, float("nan"))], "has no maintenance margin rate"),
        ([tier(0, None), tier(None, None)], "tier 2 of BTC/USDT:USDT has no floor"),
        ([tier(0, 500, 0.5)], "a maintenance margin rate of 0.5 at 100x, .* percent"),
        ([tier(0, 500, minSz="0", maxSz="500")], "not known to be in currency.*minSz, maxSz"),
        ([], "there are no tiers of BTC/USDT:USDT"),
    ],
)
def test_what_is_incomplete_or_no_currency_is_refused(tiers, said):
    with pytest.raises(DataError, match=f"^leverage_tiers: .*{said}"):
        of(*tiers)


def test_a_margin_that_jumps_at_a_floor_is_refused():
    """A venue without a deduction maintains more than these tiers would."""
    with pytest.raises(ParameterError, match="cum must be 2.5 at the floor 500"):
        of(
            tier(0, 500, risk_limit="500", deduction="0"),
            tier(500, 900, 0.01, risk_limit="900", deduction="0"),
        )


@pytest.mark.parametrize("symbol", ["BTC/USDT", "BTC/USD:BTC", "BTCUSDT", "", "BTC/USDT:USD"])
def test_spot_and_inverse_contracts_are_refused(symbol):
    with pytest.raises(ParameterError, match="symbol must be a linear contract"):
        leverage_tiers({symbol: [tier(0, 500)]}, symbol)


def test_a_dated_contract_is_linear_too():
    symbol = "BTC/USDT:USDT-250328"
    assert leverage_tiers({symbol: [tier(0, 500)]}, symbol).cap == 500


def test_an_exchange_that_must_be_awaited_is_refused():
    class Later:
        async def fetch_market_leverage_tiers(self, symbol):
            return []

    for source, said in ((Later(), "asked with await"), (3, "got 'int'")):
        with pytest.raises(ParameterError, match=f"source must be a ccxt exchange.*{said}"):
            leverage_tiers(source, SYMBOL)


def test_the_example_of_the_docs_is_the_same_table(tmp_path):
    page = (ROOT / "docs" / "margin.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```toml\n(\[tiers\.BTC\].+?)```", page, re.DOTALL)
    (tmp_path / "tiers.toml").write_text(block)
    guard = bt_risk.MarginAccount(20, tiers=tmp_path / "tiers.toml")
    assert guard.tiers_of("BTC") == leverage_tiers(binance(), SYMBOL)
