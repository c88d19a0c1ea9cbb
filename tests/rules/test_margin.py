import math

import numpy as np
import pytest
from helpers.shared_data import shared_data
from hypothesis import assume, example, given
from hypothesis import strategies as st

from bt_risk import atr, read_prices
from bt_risk.errors import ParameterError
from bt_risk.rules.margin import (
    MarginTier,
    MarginTiers,
    bankruptcy_price,
    borrow_interest,
    funding_payment,
    initial_margin,
    leverage_limit,
    liquidation_price,
    maintenance_margin,
    margin_ratio,
)

# Binance's worked example of 2021: the tiers of its BTC and ETH contracts then.
BTC = MarginTiers.from_rows(
    [(0, 0.004), (50_000, 0.005), (250_000, 0.01), (1e6, 0.025), (5e6, 0.05)]
)
ETH = MarginTiers.from_rows(
    [(0, 0.005), (1e4, 0.0065), (1e5, 0.01), (5e5, 0.02), (1e6, 0.05), (2e6, 0.1), (5e6, 0.125)]
)
WALLET = 1_535_443.01


@st.composite
def tiers(draw):
    """Tiers of up to five bands."""
    steps = draw(st.lists(st.floats(1e3, 1e6), max_size=4))
    rate = st.integers(0, 5_000).map(lambda k: k / 10_000)
    rates = sorted(draw(st.lists(rate, min_size=len(steps) + 1, max_size=len(steps) + 1)))
    floors = np.concatenate([[0.0], np.cumsum(steps)])
    return MarginTiers.from_rows(list(zip(floors.tolist(), rates, strict=True)))


def equity(side, size, entry, margin, price, others=0.0, multiplier=1.0):
    return margin + others + side * size * multiplier * (price - entry)


# ---------------------------------------------------------------- tiers


def test_the_amount_taken_off_follows_from_floors_and_rates():
    # 50,000 x 0.001 = 50; + 250,000 x 0.005 = 1,300; + 1,000,000 x 0.015 = 16,300.
    assert [tier.cum for tier in BTC][:4] == pytest.approx([0.0, 50.0, 1_300.0, 16_300.0])
    assert ETH.at(4_918_700.0).cum == pytest.approx(135_365.0)


@given(tiers(), st.floats(1e-9, 1e-3))
def test_the_margin_does_not_jump_at_a_floor_and_never_falls(bands, share):
    for tier in list(bands)[1:]:
        below = maintenance_margin(tier.floor * (1.0 - share), bands)
        at = maintenance_margin(tier.floor, bands)
        assert 0.0 <= at - below <= tier.floor * share * tier.mmr + 1e-9 * tier.floor


def test_a_floor_belongs_to_the_band_that_begins_there():
    assert BTC.at(49_999.99).mmr == 0.004
    assert BTC.at(50_000.0).mmr == 0.005


def test_leverage_and_notional_are_limited_by_the_bands():
    bands = MarginTiers.from_rows([(0, 0.004, 125), (50_000, 0.005, 100)], cap=250_000)
    assert bands.max_leverage(49_999.0) == 125.0
    assert bands.max_leverage(50_000.0) == bands.max_leverage(250_000.0) == 100.0
    assert bands.max_leverage(250_001.0) == 0.0
    assert bands.largest(100.0) == 250_000.0
    assert 49_999.0 < bands.largest(101.0) < 50_000.0
    assert bands.largest(126.0) <= 0.0


def test_rows_of_a_file_are_mappings_and_their_amounts_are_checked():
    rows = [dict(floor=0, mmr=0.004, cum=0), dict(floor=50_000, mmr=0.005, cum=50)]
    assert MarginTiers.from_rows(rows) == MarginTiers.from_rows([(0, 0.004), (50_000, 0.005)])
    rows[1]["cum"] = 51
    with pytest.raises(ParameterError, match="cum must be 50 at the floor 50000"):
        MarginTiers.from_rows(rows)


@pytest.mark.parametrize(
    ("rows", "constraint"),
    [
        ([], "tiers must be one row or more"),
        ([(1, 0.01)], "floor must be 0 in the first row"),
        ([(0, 0.01), (0, 0.02)], "floor must be above that of the row before, 0"),
        ([(0, 0.02), (100, 0.01)], "mmr must be that of the row before, 0.02, or more"),
        ([(0, 0.01, 20), (100, 0.02, 50)], "max_leverage must be that of the row before, 20, or"),
        ([(0, 1.0)], r"mmr must be in \[0, 1\)"),
        ([(0, math.nan)], r"mmr must be in \[0, 1\)"),
        ([(-1, 0.1)], "floor must be zero or more"),
        ([(0, 0.1, 0)], "max_leverage must be positive"),
        ([0.01], "tiers must be rows of floor, mmr and if known max_leverage"),
        ([{"floor": 0}], "tiers must be rows of floor, mmr"),
        ([{"floor": 0, "mmr": 0.1, "rate": 1}], "tiers must be rows of floor, mmr"),
    ],
)
def test_rows_that_are_no_tiers_are_refused(rows, constraint):
    with pytest.raises(ParameterError, match=constraint):
        MarginTiers.from_rows(rows)


def test_a_band_without_a_leverage_has_that_of_the_band_before():
    bands = MarginTiers.from_rows([(0, 0.004, 125), (50_000, 0.005)])
    assert bands.max_leverage(60_000.0) == 125.0


def test_a_cap_lies_above_the_last_floor():
    with pytest.raises(ParameterError, match="cap must be above the last floor, which is 100"):
        MarginTiers.from_rows([(0, 0.01), (100, 0.02)], cap=100)


# ---------------------------------------------------------------- liquidation: goldens


@pytest.mark.parametrize(
    ("size", "entry", "bands", "others", "price"),
    [
        (3_683.979, 1_456.84, ETH, 0.0, 1_114.78),
        (109.488, 32_481.98, BTC, 0.0, 18_778.73),
        (3_683.979, 1_456.84, ETH, -56_354.57 - 71_200.81144, 1_153.26),
        (109.488, 32_481.98, BTC, -448_192.89 - 356_512.508, 26_316.89),
    ],
)
def test_binances_worked_example(size, entry, bands, others, price):
    # As published in words and numbers by Binance, and by freqtrade's tests after it: isolated
    # with the whole balance as its margin, and cross with the other position.
    found = liquidation_price(1, size, entry, WALLET, bands, others=others)
    assert found == pytest.approx(price, abs=0.006)


def test_a_rate_on_the_entry_as_bybit_and_jesse_have_it_differs_by_the_rate_on_the_move():
    # Both publish E (1 -+ (1/L - mmr)), with maintenance on the entry: 9,850 and 8,160. Here it is
    # on the mark: 9,800 / 0.995 and 8,200 / 1.005.
    half = MarginTiers.flat(0.005)
    for side, entry, leverage, published in [(1, 1e4, 50, 9_850.0), (-1, 8e3, 40, 8_160.0)]:
        price = liquidation_price(side, 1.0, entry, entry / leverage, half)
        assert price == pytest.approx(published + side * 0.005 * (price - entry))
    four = MarginTiers.flat(0.004)
    price = liquidation_price(1, 1.0, 100.0, 1.0, four)
    assert price == pytest.approx(100.0 * (1.0 - 0.01 + 0.004) + 0.004 * (price - 100.0))


def test_a_long_at_a_hundred_times():
    # 1,000 units at 100 with 1,000 of margin, mmr 0.5 %: 99,000 / 995 = 99.497487...
    tiers_ = MarginTiers.flat(0.005)
    assert liquidation_price(1, 1_000.0, 100.0, 1_000.0, tiers_) == pytest.approx(99_000 / 995)
    assert liquidation_price(-1, 1_000.0, 100.0, 1_000.0, tiers_) == pytest.approx(101_000 / 1_005)
    assert bankruptcy_price(1, 1_000.0, 100.0, 1_000.0) == 99.0
    assert bankruptcy_price(-1, 1_000.0, 100.0, 1_000.0) == 101.0


def test_the_band_is_that_at_the_liquidation_price():
    # A short of 490 at 100 is worth 49,000, in the first band; it is liquidated in the second one:
    # (1,000 + 50 + 49,000) / (490 x 1.005) = 101.6346..., worth 49,801; with the first one's rate
    # 50,000 / (490 x 1.004) = 101.634. So take 495: (2,000 + 50 + 49,500) / (495 x 1.005).
    price = liquidation_price(-1, 495.0, 100.0, 2_000.0, BTC)
    assert price == pytest.approx(51_550 / (495 * 1.005))
    assert price * 495.0 > 50_000.0 > 495.0 * 100.0


def test_a_long_without_leverage_is_never_liquidated():
    assert liquidation_price(1, 10.0, 100.0, 1_000.0, BTC) == 0.0
    assert bankruptcy_price(1, 10.0, 100.0, 2_000.0) == 0.0


def test_a_short_without_margin_is_liquidated_at_any_price():
    assert liquidation_price(-1, 10.0, 100.0, -1_001.0, BTC) == 0.0


@pytest.mark.parametrize("bad", [{"size": 0.0}, {"size": math.nan}, {"entry": math.nan}])
def test_no_position_has_no_price(bad):
    given_ = {"size": 1.0, "entry": 100.0, "margin": 5.0} | bad
    assert math.isnan(liquidation_price(1, **given_, tiers=BTC))
    assert math.isnan(liquidation_price(1, 1.0, 100.0, math.nan, BTC))
    assert math.isnan(bankruptcy_price(1, 0.0, 100.0, 5.0))


# ---------------------------------------------------------------- liquidation: closed forms


@given(
    bands=tiers(),
    side=st.sampled_from([1, -1]),
    size=st.floats(1e-3, 1e4),
    entry=st.floats(1e-2, 1e5),
    leverage=st.floats(1.0, 150.0),
    others=st.floats(-0.5, 2.0),
    multiplier=st.sampled_from([1.0, 50.0, 0.001]),
)
@example(BTC, -1, 495.0, 100.0, 24.75, 0.0, 1.0)
def test_equity_equals_maintenance_margin_at_the_price(
    bands, side, size, entry, leverage, others, multiplier
):
    margin = initial_margin(size, entry, leverage, multiplier)
    rest = others * margin
    found = liquidation_price(side, size, entry, margin, bands, others=rest, multiplier=multiplier)
    notional = size * multiplier * entry
    left = equity(side, size, entry, margin, found, rest, multiplier)
    needed = maintenance_margin(size * multiplier * found, bands)
    if found == 0.0:
        assert side * (left - needed) >= -1e-9 * notional
        return
    scale = notional + size * multiplier * found
    assert left == pytest.approx(needed, abs=1e-9 * scale)
    # Nearer to the entry it is safe, farther from it, it is not.
    for step in (1e-3, 0.1):
        safe, lost = found * (1.0 + side * step), found * (1.0 - side * step)
        for price, sign in ((safe, 1), (lost, -1)):
            over = equity(side, size, entry, margin, price, rest, multiplier)
            over -= maintenance_margin(size * multiplier * price, bands)
            assert sign * over >= -1e-9 * scale


@given(
    tiers(), st.sampled_from([1, -1]), st.floats(0.1, 1e3), st.floats(1.0, 1e4), st.floats(1, 99)
)
def test_liquidation_comes_before_bankruptcy_and_later_with_more_margin(
    bands, side, size, entry, leverage
):
    margin = initial_margin(size, entry, leverage)
    price = liquidation_price(side, size, entry, margin, bands)
    bankrupt = bankruptcy_price(side, size, entry, margin)
    assert side * (price - bankrupt) >= -1e-9 * entry
    more = liquidation_price(side, size, entry, 1.1 * margin, bands)
    assert side * (price - more) >= -1e-9 * entry


@given(st.sampled_from([1, -1]), st.floats(1e-4, 0.15), st.floats(0.0, 0.1), st.floats(0.0, 1.0))
def test_at_the_highest_leverage_the_stop_lies_inside_liquidation(side, distance, mmr, buffer):
    leverage = leverage_limit(distance, mmr, buffer)
    assume(leverage >= 1.0)
    price = liquidation_price(side, 1.0, 100.0, 100.0 / leverage, MarginTiers.flat(mmr))
    away = side * (100.0 - price) / 100.0
    # 1 / L = (1 + b) d + mmr puts it (1 + b) d / (1 - s mmr) away.
    assert away == pytest.approx((1.0 + buffer) * distance / (1.0 - side * mmr), rel=1e-9)


# ---------------------------------------------------------------- ratio, funding, interest


def test_margin_ratio_is_one_at_the_liquidation_price():
    price = liquidation_price(1, 2.0, 30_000.0, 1_000.0, BTC)
    left = equity(1, 2.0, 30_000.0, 1_000.0, price)
    assert margin_ratio(maintenance_margin(2.0 * price, BTC), left) == pytest.approx(1.0)


def test_margin_ratio_without_equity_or_position():
    assert margin_ratio(10.0, 0.0) == margin_ratio(10.0, -5.0) == math.inf
    assert margin_ratio(0.0, -5.0) == 0.0
    assert math.isnan(margin_ratio(10.0, math.nan))


def test_a_long_pays_funding_while_the_rate_is_positive():
    # 0.01 % of 2 x 50,000 are 10.
    assert funding_payment(1, 2.0, 50_000.0, 0.0001) == -10.0
    assert funding_payment(-1, 2.0, 50_000.0, 0.0001) == 10.0
    assert funding_payment(1, 2.0, 50_000.0, -0.0001) == 10.0
    assert funding_payment(1, 2.0, 5_000.0, 0.0001, multiplier=10.0) == -10.0


def test_interest_is_paid_on_what_is_borrowed():
    assert borrow_interest(36_500.0, 0.05, 2.0) == 10.0
    assert borrow_interest(-36_500.0, 0.05, 2.0) == 0.0


def test_leverage_limit_takes_arrays():
    limits = leverage_limit(np.array([0.0142, 0.05]), 0.004)
    assert limits == pytest.approx([45.9770, 15.0376], abs=1e-4)


def test_a_tier_of_your_own_keeps_its_amount():
    one = MarginTiers((MarginTier(0.0, 0.1, 135_365.0),))
    assert liquidation_price(1, 3_683.979, 1_456.84, WALLET, one) == pytest.approx(
        1_114.78, abs=0.006
    )


@pytest.mark.parametrize(("leverage", "share"), [(20, 0.0031), (50, 0.3542), (125, 0.9987)])
def test_the_hours_of_bitcoin_in_2024_whose_stop_lay_beyond_liquidation(leverage, share):
    """A stop 2 ATR from the close of each hour, at 0.4 % of maintenance margin."""
    prices = read_prices(shared_data("crypto_1h_2024/BTCUSDT_1h_2024.csv.gz"))
    average = atr(prices["high"], prices["low"], prices["close"], 14)
    distance = (2.0 * average / prices["close"]).dropna().to_numpy()
    assert len(distance) > 8_700
    beyond = leverage_limit(distance, 0.004, 0.0) < leverage
    assert np.mean(beyond) == pytest.approx(share, abs=1e-4)
