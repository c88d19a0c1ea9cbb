import math

import numpy as np
import pandas as pd
import pytest
import talib
from helpers.shared_data import shared_data

from bt_risk.errors import ParameterError
from bt_risk.feeds.files import read_prices
from bt_risk.rules import signals as module
from bt_risk.rules.signals import generate_signal
from bt_risk.rules.trailing_stop import WilderATR

# Short look-backs, so that a few hundred bars hold many trades.
QUICK = dict(rsi_period=3, atr_period=4, warmup=10, drawdown_limit=0.9)


def random_prices(seed, n_bars=250, volatility=0.02):
    generator = np.random.default_rng(seed)
    opening = 100 * np.exp(np.cumsum(generator.normal(0, volatility, n_bars)))
    close = opening * np.exp(generator.normal(0, volatility, n_bars))
    spread = 1 + generator.random((2, n_bars)) * volatility
    return pd.DataFrame(
        {
            "open": opening,
            "high": np.maximum(opening, close) * spread[0],
            "low": np.minimum(opening, close) / spread[1],
            "close": close,
        },
        index=pd.date_range("2024-01-01", periods=n_bars, freq="h"),
    )


def fall_then(*closes, opens=None):
    """101 falling bars from 120 to 100 (a signal on the last, ATR 1), then the bars of a test."""
    close = np.array([*np.linspace(120, 100, 101), *closes])
    opening = close.copy()
    if opens is not None:
        opening[101:] = opens
    high, low = np.maximum(opening, close) + 0.5, np.minimum(opening, close) - 0.5
    return pd.DataFrame(dict(open=opening, high=high, low=low, close=close))


def bar_by_bar(prices, capital=100000, oversold=30, commission=0.0, **periods):
    """The same rules as an event loop that sees one more bar each time and keeps nothing else."""
    equity = peak = capital
    trades, waiting, position, halted = [], None, None, False
    for t in range(len(prices)):
        o, low, c = (prices[name].iloc[t] for name in ("open", "low", "close"))
        seen = prices.iloc[: t + 1]
        average = WilderATR(periods["atr_period"])
        for bar in zip(seen.high, seen.low, seen.close, strict=True):
            distance = 2.0 * average.update(*bar)
        if waiting:
            trade, waiting = waiting, None
            trade.update(entry=o, stop=o - trade.pop("distance"))
            position, stop, since = trade, trade["stop"], t
        if position and t > since and low <= stop:
            price = o if o < stop else stop
            costs = commission * (position["entry"] + price)
            position.update(exit=price, exit_bar=t)
            position["pnl"] = position["size"] * (price - position["entry"] - costs)
            equity += position["pnl"]
            peak = max(peak, equity)
            halted = (peak - equity) / peak > periods["drawdown_limit"]
            position = None
        elif position:
            stop = max(stop, c - distance)
        if position or waiting or halted or t < periods["warmup"] or distance != distance:
            continue
        if talib.RSI(seen.close.to_numpy(), periods["rsi_period"])[-1] < oversold:
            waiting = dict(bar=t, size=0.01 * equity / distance, distance=distance)
            trades.append(waiting)
    return trades


def closed(found):
    return [signal for signal in found if signal["exit_bar"] is not None]


# ---------------------------------------------------------------- the article


def test_article_row_11_the_averages_are_computed_once_and_each_bar_is_walked_once(monkeypatch):
    work = dict(atr=0, rsi=0, ratchet=0)

    def counted(name, function, size):
        def wrapper(*args, **kwargs):
            work[name] += size(args)
            return function(*args, **kwargs)

        return wrapper

    monkeypatch.setattr(module, "atr", counted("atr", module.atr, lambda a: len(a[2])))
    monkeypatch.setattr(module, "ratchet", counted("ratchet", module.ratchet, lambda a: 1))
    monkeypatch.setattr(module.talib, "RSI", counted("rsi", talib.RSI, lambda a: len(a[0])))
    n_trades = {}
    for n_bars in (2000, 8000):
        work.update(atr=0, rsi=0, ratchet=0)
        n_trades[n_bars] = len(
            generate_signal(random_prices(1, n_bars), oversold=50, drawdown_limit=0.99)
        )
        assert work["atr"] == work["rsi"] == n_bars
        assert n_bars / 2 < work["ratchet"] <= n_bars
    assert n_trades[8000] > 2 * n_trades[2000] > 200


def test_article_row_11_the_breaker_sees_the_losses_and_ends_the_signals():
    # Each 1 % stop loses about 1 %; a falling market has many of them.
    prices = random_prices(3, 4000)
    prices = prices.mul(np.exp(-0.001 * np.arange(4000)), axis=0)
    found = generate_signal(prices, oversold=50, drawdown_limit=0.10)
    equity = 100_000 + np.cumsum([signal["pnl"] for signal in found])
    drawdown = 1 - equity / np.maximum.accumulate(np.r_[100_000, equity])[1:]
    assert (drawdown[:-1] <= 0.10).all()
    assert drawdown[-1] > 0.10
    assert len(generate_signal(prices, oversold=50, drawdown_limit=0.20)) > len(found)


def test_the_articles_loop_runs_and_its_frame_is_not_changed():
    prices = random_prices(2, 1000)
    before = prices.copy()
    for s in generate_signal(prices):
        assert s["size"] > 0
        assert s["stop"] < prices.close.iloc[s["bar"]] * 1.1
    pd.testing.assert_frame_equal(prices, before)


# ---------------------------------------------------------------- by hand


def test_a_trade_by_hand():
    # Signal at bar 100: close 100, ATR 1 (each bar spans 1 and falls 0.2: true range
    # max(1, 0.7) = 1), so the distance is 2 and the size 1,000 / 2 = 500. Entry at the next open,
    # 99.5, first stop 97.5. Bar 101 spans 99 to 101.5 around open 99.5, close 101: true range
    # 101.5 - 99 = 2.5, ATR (13 + 2.5) / 14 = 1.107: level 101 - 2.214 = 98.786 is the new stop.
    # Bar 102 opens at 99.5 and falls to 98 - 0.5: touched, paid at the stop. It is a signal again.
    found = generate_signal(fall_then(101.0, 98.0, opens=[99.5, 99.5]))
    stop = 101 - 2 * (13 + 2.5) / 14
    assert [signal["bar"] for signal in found] == [100, 102]
    signal = found[0]
    assert (signal["bar"], signal["time"], signal["exit_bar"]) == (100, 100, 102)
    assert signal["size"] == pytest.approx(500, rel=1e-9)
    assert signal["entry"] == 99.5
    assert signal["stop"] == pytest.approx(97.5, rel=1e-9)
    assert signal["exit"] == pytest.approx(stop, rel=1e-9)
    assert signal["pnl"] == pytest.approx(500 * (stop - 99.5), rel=1e-6)


def test_a_gap_through_the_stop_fills_at_the_open():
    # The stop after the entry bar is max(97.5, 100 - 2 ATR): bar 102 opens at 90, below it.
    signal = generate_signal(fall_then(100.0, 91.0, opens=[99.5, 90.0]))[0]
    assert signal["exit"] == 90.0
    assert signal["pnl"] == pytest.approx(500 * (90 - 99.5), rel=1e-9)


def test_the_bar_of_the_entry_is_not_protected():
    # Bar 101 falls from 99.5 to 90, through the first stop at 97.5; out at the next open, 90.
    signal = generate_signal(fall_then(90.0, 91.0, opens=[99.5, 90.0]))[0]
    assert (signal["stop"], signal["exit_bar"], signal["exit"]) == (pytest.approx(97.5), 102, 90.0)


def test_commission_and_multiplier_enter_the_profit():
    prices = fall_then(100.0, 91.0, opens=[99.5, 90.0])
    signal = generate_signal(prices, multiplier=10, commission=0.001)[0]
    # 1,000 / (2 x 10) = 50 contracts; (90 - 99.5 - 0.001 x 189.5) x 50 x 10.
    assert signal["size"] == pytest.approx(50, rel=1e-9)
    assert signal["pnl"] == pytest.approx((-9.5 - 0.1895) * 500, rel=1e-9)


def test_size_is_rounded_down_and_none_is_no_signal():
    prices = fall_then(100.0, 91.0, opens=[99.5, 90.0])
    assert generate_signal(prices, step=300)[0]["size"] == 300
    assert generate_signal(prices, step=600) == []


def test_a_signal_on_the_last_bar_waits_for_its_entry():
    signal = generate_signal(fall_then())[0]
    assert signal["bar"] == 100
    assert signal["size"] == pytest.approx(500, rel=1e-9)
    assert signal["stop"] == pytest.approx(98.0, rel=1e-9)
    assert math.isnan(signal["entry"])
    assert math.isnan(signal["exit"])
    assert math.isnan(signal["pnl"])


def test_without_opens_the_previous_close_stands_in_within_the_bars_range():
    prices = fall_then(101.0, 103.0, 95.0).drop(columns="open")
    # Entry: close 100 is below the bar's low of 100.5. Exit: the stop is below 103 - 2, the last
    # bar spans 94.5 to 95.5 and lies under it, so the best price of that bar is paid.
    signal = generate_signal(prices)[0]
    assert (signal["entry"], signal["exit"]) == (100.5, 95.5)


# ---------------------------------------------------------------- properties


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("commission", [0.0, 0.002])
def test_scan_equals_an_event_loop_that_recomputes_everything(seed, commission):
    prices = random_prices(seed)
    limit = {**QUICK, "drawdown_limit": 0.05 if seed % 2 else 0.9}
    found = generate_signal(prices, commission=commission, **limit)
    expected = bar_by_bar(prices, commission=commission, **limit)
    assert len(found) == len(expected) > 3
    for signal, trade in zip(found, expected, strict=True):
        for key in trade.keys() - {"distance"}:
            assert signal[key] == pytest.approx(trade[key], rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_more_bars_change_no_closed_trade_and_no_size(seed):
    prices = random_prices(seed, 150)
    whole = generate_signal(prices, **QUICK)
    for end in range(len(prices)):
        found = generate_signal(prices.iloc[:end], **QUICK)
        done = closed(found)
        assert done == whole[: len(done)]
        assert len(found) - len(done) in (0, 1)
        for seen, later in zip(found, whole, strict=False):
            assert {k: seen[k] for k in ("bar", "time", "size")} == {
                k: later[k] for k in ("bar", "time", "size")
            }


@pytest.mark.parametrize("seed", range(3))
def test_trades_do_not_overlap_and_stand_on_their_bars(seed):
    prices = random_prices(seed, 1000)
    found = closed(generate_signal(prices, **QUICK))
    assert len(found) > 10
    for signal, following in zip(found, found[1:], strict=False):
        assert signal["bar"] + 2 <= signal["exit_bar"] <= following["bar"]
    for signal in found:
        assert signal["entry"] == prices.open.iloc[signal["bar"] + 1]
        assert signal["time"] == prices.index[signal["bar"]]
        assert signal["exit_time"] == prices.index[signal["exit_bar"]]
        assert signal["stop"] < signal["entry"]
        exit_bar = prices.iloc[signal["exit_bar"]]
        assert exit_bar.low <= signal["exit"] <= exit_bar.open or signal["exit"] == exit_bar.open


def test_risk_at_the_first_stop_is_the_share_of_the_equity_of_that_time():
    found = closed(generate_signal(random_prices(4, 1500), risk_limit=0.02, **QUICK))
    equity = 100_000 + np.cumsum([0.0] + [signal["pnl"] for signal in found[:-1]])
    risked = [signal["size"] * (signal["entry"] - signal["stop"]) for signal in found]
    np.testing.assert_allclose(risked, 0.02 * equity, rtol=1e-9)
    assert len(set(np.round(risked))) > 10


def test_prices_and_capital_in_another_unit_make_the_same_trades():
    prices = random_prices(5, 1000)
    plain, scaled = generate_signal(prices, **QUICK), generate_signal(prices * 64, **QUICK)
    assert [s["exit_bar"] for s in plain] == [s["exit_bar"] for s in scaled]
    assert [s["size"] for s in plain] == [64 * s["size"] for s in scaled]


# ---------------------------------------------------------------- frames


def test_columns_are_found_in_any_case_and_order():
    prices = random_prices(1, 400)
    other = prices[["close", "low", "open", "high"]].rename(columns=str.upper).assign(VOLUME=1.0)
    assert generate_signal(other, **QUICK) == generate_signal(prices, **QUICK)


def test_a_bar_with_a_missing_price_is_skipped():
    prices = random_prices(1, 400)
    holes = [0, 57, 58, 200]
    broken = prices.copy()
    broken.iloc[holes, [0, 1, 2, 3]] = [nan_row(i) for i in range(4)]
    found = generate_signal(broken, **QUICK)
    without = generate_signal(prices.drop(prices.index[holes]), **QUICK)
    assert [s["time"] for s in found] == [s["time"] for s in without]
    assert [s["pnl"] for s in closed(found)] == [s["pnl"] for s in closed(without)]
    assert all(prices.index[s["bar"]] == s["time"] for s in found)


def nan_row(column):
    """A row with one price missing, another one each time."""
    return [math.nan if i == column else 100.0 for i in range(4)]


@pytest.mark.parametrize("n_bars", [0, 1, 14, 15, 100])
def test_too_few_bars_give_no_signal(n_bars):
    falling = fall_then().iloc[:n_bars]
    assert generate_signal(falling) == []


def test_warmup_of_zero_still_waits_for_the_averages():
    assert generate_signal(fall_then(), warmup=0)[0]["bar"] == 14
    assert generate_signal(fall_then(), warmup=0, atr_period=20)[0]["bar"] == 20
    assert generate_signal(fall_then(), warmup=30)[0]["bar"] == 30


def test_a_market_that_does_not_move_is_no_signal():
    still = pd.DataFrame(dict.fromkeys(["open", "high", "low", "close"], np.full(200, 100.0)))
    assert generate_signal(still) == []


def test_a_missing_column_is_named():
    prices = random_prices(1).drop(columns=["high", "close"])
    with pytest.raises(ParameterError, match=r"prices must be a DataFrame .*\(no high, close\)"):
        generate_signal(prices)
    with pytest.raises(ParameterError, match="prices must be a DataFrame"):
        generate_signal([1.0, 2.0])


@pytest.mark.parametrize(
    ("arguments", "param"),
    [
        (dict(capital=0), "capital"),
        (dict(rsi_period=1), "rsi_period"),
        (dict(oversold=101), "oversold"),
        (dict(oversold=math.nan), "oversold"),
        (dict(risk_limit=1.5), "risk_limit"),
        (dict(atr_period=0), "atr_period"),
        (dict(atr_multiple=-2), "atr_multiple"),
        (dict(multiplier=0), "multiplier"),
        (dict(commission=-0.001), "commission"),
        (dict(step=0), "step"),
        (dict(warmup=-1), "warmup"),
    ],
)
def test_arguments_outside_their_range_are_refused(arguments, param):
    with pytest.raises(ParameterError, match=f"generate_signal: {param} must be"):
        generate_signal(random_prices(1, 20), **arguments)


def test_a_drawdown_limit_in_percent_is_refused():
    with pytest.raises(ParameterError, match="drawdown_limit must be"):
        generate_signal(random_prices(1, 20), drawdown_limit=10)


def test_article_row_12_the_promised_year_is_not_there():
    """BTC 2024, hourly: the article expects a Sharpe of 1.2, 25 % and a drawdown of 12 %.

    Its rules, corrected, gain some 13 % without costs and lose with 0.1 % a side; the breaker is
    out of the way, and no position is larger than its 1 % of risk.
    """
    prices = read_prices(shared_data("crypto_1h_2024/BTCUSDT_1h_2024.csv.gz"))

    def year(commission):
        signals = generate_signal(prices, drawdown_limit=0.99, commission=commission)
        pnl = np.array([s["pnl"] for s in signals if not np.isnan(s["pnl"])])
        return pnl.sum() / 100_000, (1 - pd.Series(1 + pnl.cumsum() / 100_000).pipe(_fall)).max()

    gain, _ = year(commission=0.0)
    loss, fall = year(commission=0.001)
    assert 0.10 < gain < 0.20
    assert loss < 0.0
    assert fall > 0.12


def _fall(equity):
    return equity / equity.cummax().clip(lower=1.0)
