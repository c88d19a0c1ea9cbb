"""The demo: what its tables say is computed again here, from fills and prices alone."""

import io
import math
import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import talib
from helpers.scenarios import bars as make_bars
from helpers.scenarios import flat
from rich.console import Console

import bt_risk
from bt_risk.cli.tables import (
    print_halt_odds,
    print_legend,
    print_portfolio,
    shadow_books,
)
from bt_risk.demo import runs as demo
from bt_risk.demo.portfolios import (
    Breakout,
    MeanReversion,
    Portfolio,
    bundled_portfolios,
    own_portfolios,
)
from bt_risk.demo.summary import (
    annual_growth,
    max_drawdown,
    sharpe_ratio,
    summary,
)
from bt_risk.demo.worth import attributed
from bt_risk.errors import DataError, ParameterError
from bt_risk.evidence.halt_odds import halt_probability
from bt_risk.feeds.bundled import load_data
from bt_risk.report.labels import count_decisions, decisions_in_order
from bt_risk.report.pyfolio import bar_returns

SLICES = {"btc": slice(0, 900), "btc-filter": slice(0, 900), "trend": slice(900, 1700)}


def cut(portfolio):
    """Return the portfolio on a slice of its prices; GOOG begins within that of the stocks."""
    times = portfolio.times[SLICES[portfolio.name]]
    frames = {n: f.loc[times[0] : times[-1]] for n, f in portfolio.frames.items()}
    return replace(portfolio, frames=frames)


@pytest.fixture(scope="module")
def portfolios():
    return [cut(portfolio) for portfolio in bundled_portfolios()]


@pytest.fixture(scope="module")
def results(portfolios):
    """Return the runs by (portfolio, label)."""
    runs = [run for group in demo.run(portfolios) for run in group]
    return {(run.portfolio.name, run.label): run for run in runs}


LABELS = ["bare", "protected", "pause", "rules"]
ALL = [
    *((name, label) for name in ("btc", "btc-filter") for label in LABELS),
    *(("trend", label) for label in ("bare", "protected", "cap 0.5", "groups", "pause", "rules")),
]
GUARDED = [key for key in ALL if key[1] != "bare"]
each_run = pytest.mark.parametrize("key", ALL, ids="-".join)
each_guarded = pytest.mark.parametrize("key", GUARDED, ids="-".join)


def rebuilt(run):
    """Return equity and exposure of every close from fills and prices alone."""
    times = run.portfolio.times
    cash, held = pd.Series(demo.CASH, times), {}
    for name, frame in run.portfolio.frames.items():
        fills = run.fills[run.fills.data == name]
        spent = fills["size"] * fills.price + demo.COMMISSION * fills["size"].abs() * fills.price
        cash -= spent.groupby(fills.time).sum().reindex(times).fillna(0).cumsum()
        sizes = fills.groupby("time")["size"].sum().reindex(times).fillna(0).cumsum()
        held[name] = sizes * frame["close"].reindex(times).ffill().fillna(0)
    values = pd.DataFrame(held)
    equity = cash + values.sum(axis=1)
    return equity, values.abs().sum(axis=1) / equity


# What is run.


def test_the_portfolios_are_those_of_the_readme():
    plain, filtered, trend = bundled_portfolios()
    assert (plain.strategy, filtered.strategy, trend.strategy) == (
        MeanReversion,
        MeanReversion,
        Breakout,
    )
    assert plain.settings == {}
    assert filtered.settings == {"trend_period": 200}
    assert list(plain.frames) == list(filtered.frames) == ["BTC"]
    assert list(trend.frames) == ["SP500", "NASDAQ", "AAPL", "GOOG", "IBM", "MSFT"]
    assert (trend.times[0], trend.times[-1]) == (
        pd.Timestamp("2000-03-01"),
        pd.Timestamp("2013-03-01"),
    )
    assert [list(p.runs) for p in (plain, filtered, trend)] == [
        LABELS,
        LABELS,
        ["bare", "protected", "cap 0.5", "groups", "pause", "rules"],
    ]
    assert [p.days_per_year for p in (plain, filtered, trend)] == [365, 365, 252]


def test_the_policies_differ_from_the_default_in_one_thing_each():
    trend = bundled_portfolios()[2]
    default = trend.policy("protected")
    assert trend.policy("bare") is None
    assert (default.correlation_limit, default.drawdown_limit, default.action) == (0.7, 0.1, "stop")
    assert trend.policy("cap 0.5") == replace(default, correlation_limit=0.5)
    assert trend.policy("pause") == replace(default, action="pause", cooldown_bars=60)
    rules = trend.policy("rules")
    assert (rules.costs_in_risk, rules.entry_stop, rules.gap_limit) == (True, "attached", 0.03)
    assert [type(guard) for guard in rules.guards] == [bt_risk.DailyLossLimit]
    assert bundled_portfolios()[0].policy("pause").instruments == {
        "BTC": dict(step=1e-5, min_notional=10)
    }


@pytest.mark.parametrize(
    ("freq", "bars", "expected"), [("h", 9000, 365), ("D", 900, 365), ("B", 900, 252)]
)
def test_a_year_has_as_many_days_as_the_data_trade(freq, bars, expected):
    frame = make_bars(*flat(bars), freq=freq)
    assert portfolio_of(frame).days_per_year == expected


@pytest.mark.parametrize(("freq", "expected"), [("W", 52), ("MS", 12)])
def test_weeks_and_months_are_not_taken_for_days(freq, expected):
    assert portfolio_of(make_bars(*flat(400), freq=freq)).days_per_year == expected


def portfolio_of(frame, **kwargs):
    return Portfolio("x", "X", "Does it.", {"X": frame}, MeanReversion, 0.95, {}, **kwargs)


# What the strategies do.


def test_mean_reversion_buys_at_the_open_after_the_relative_strength_is_low(results):
    run = results["btc", "bare"]
    prices = run.portfolio.frames["BTC"]
    rsi = talib.RSI(prices["close"], timeperiod=14).to_numpy()
    signal = int(np.argmax(rsi < 30))
    first, second = run.fills.iloc[0], run.fills.iloc[1]
    assert first.time == prices.index[signal + 1]
    assert first.price == prices["open"].iloc[signal + 1]
    # A fixed fraction of equity at the close of the signal, in steps of 0.00001.
    assert first["size"] == pytest.approx(0.95 * 100_000 / prices["close"].iloc[signal], abs=1e-5)
    out = signal + 1 + int(np.argmax(rsi[signal + 1 :] > 70))
    assert second.time == prices.index[out + 1]
    assert second["size"] == -first["size"]


def test_the_filter_buys_only_above_the_average(results):
    run = results["btc-filter", "bare"]
    prices = run.portfolio.frames["BTC"]
    rising = prices["close"] > prices["close"].rolling(200).mean()
    before = prices.index[prices.index.searchsorted(run.fills[run.fills["size"] > 0].time) - 1]
    assert len(before) > 0
    assert rising[before].all()
    plain = results["btc", "bare"].fills
    assert len(plain) > len(run.fills)


def test_each_stock_trades_once_its_own_channel_is_there(results):
    run = results["trend", "bare"]
    starts = {}
    for name, prices in run.portfolio.frames.items():
        breakout = prices["close"] > prices["high"].rolling(55).max().shift(1)
        signal = int(np.argmax(breakout.to_numpy()))
        bought = run.fills[run.fills.data == name].iloc[0]
        assert bought.time == prices.index[signal + 1], name
        assert bought["size"] == math.floor(bought["size"]) > 0
        starts[name] = prices.index[0]
    # The others did not wait for GOOG, which begins later.
    assert starts["GOOG"] > run.fills.time.iloc[0] > starts["SP500"]


# What came of it.


@each_run
def test_equity_is_what_fills_and_prices_make_it(results, key):
    equity, exposure = rebuilt(results[key])
    run = results[key]
    pd.testing.assert_series_equal(
        run.equity, equity, check_names=False, check_freq=False, rtol=1e-9
    )
    assert summary(run)["exposure"] == pytest.approx(exposure[run.exposure.index].mean(), rel=1e-9)
    assert len(run.fills) >= 2


@each_run
def test_the_numbers_are_those_of_pandas(results, key):
    run = results[key]
    numbers, equity = summary(run), run.equity
    years = (equity.index[-1] - equity.index[0]) / pd.Timedelta(days=365.25)
    assert numbers["CAGR"] == pytest.approx((equity.iloc[-1] / equity.iloc[0]) ** (1 / years) - 1)
    daily = equity.resample("D").last().dropna().pct_change().dropna()
    year = 252 if key[0] == "trend" else 365
    assert numbers["Sharpe"] == pytest.approx(daily.mean() / daily.std() * math.sqrt(year))
    assert numbers["max drawdown"] == pytest.approx((1 - equity / equity.cummax()).max())
    assert numbers["final equity"] == equity.iloc[-1]
    assert numbers["first trade"] == run.fills.time.min()
    assert numbers["trades"] == round_trips(run)


def round_trips(run):
    """Count how often a position came back to zero."""
    sizes = run.fills.groupby("data")["size"].cumsum()
    return int((sizes.abs() < 1e-9).sum())


@each_guarded
def test_the_journal_accounts_for_every_fill(results, key):
    run = results[key]
    numbers, journal, fills = summary(run), run.decisions, run.fills
    judged = journal[journal.action.isin(["allow", "trim", "reject", "exit"])]
    judged = judged[~judged.rule.isin(["cash", "execution"])]
    assert numbers["orders judged"] == len(judged)
    assert numbers["rejected"] == (judged.action == "reject").sum()
    assert numbers["trimmed"] == (judged.action == "trim").sum()
    assert numbers["stops hit"] == fills.stop.sum() > 0
    # What passed was filled at the next open, unless the data ended first.
    entered = judged.action.isin(["allow", "trim"]).sum()
    assert entered - (fills["size"] > 0).sum() in (0, 1)


@each_guarded
def test_what_each_rule_decided_adds_up(results, key):
    run = results[key]
    words, numbers = count_decisions(run.decisions), summary(run)

    def total(*ends):
        return sum(count for name, count in words.items() if name.endswith(ends))

    assert total("order refused") == numbers["rejected"]
    assert total("halt") - total("flat after a halt") == numbers["halts"]
    assert total("stopped out") == numbers["stops hit"]
    notes = (run.decisions.action == "note").sum()
    assert sum(words.values()) == len(run.decisions) - notes


def test_the_cap_refuses_more_when_it_is_lower(results):
    refused = [
        count_decisions(results["trend", label].decisions).get(
            "rule 4, correlation: order refused", 0
        )
        for label in ("protected", "cap 0.5")
    ]
    assert 0 < refused[0] < refused[1]


def test_a_halted_run_goes_on_flat_to_the_end_of_the_data(results):
    run, bare = results["btc", "protected"], results["btc", "bare"]
    assert summary(run)["halts"] == 1
    assert run.equity.index.equals(bare.equity.index)
    lasted = len(run.exposure)
    assert lasted < len(run.equity) == len(bare.exposure)
    assert run.equity.iloc[lasted - 1 :].nunique() == 1
    assert run.equity.notna().all()
    assert run.fills.time.max() <= run.exposure.index[-1]
    assert 0.10 <= summary(run)["max drawdown"] < 0.12


def test_a_paused_run_trades_again_after_its_bars(results):
    run = results["btc", "pause"]
    journal, times = run.decisions, run.portfolio.times
    flat_at = journal[journal.action == "flat"].time.iloc[0]
    again = journal[journal.action == "rearm"].time.iloc[0]
    assert times.get_loc(again) - times.get_loc(flat_at) == 60
    between = run.fills[(run.fills.time > flat_at) & (run.fills.time <= again)]
    assert between.empty
    assert (run.fills.time > again).any()
    assert len(run.exposure) == len(run.equity)


def test_no_protected_run_of_the_slice_falls_far_below_its_limit(results):
    for key in GUARDED:
        if key[1] == "protected":
            assert summary(results[key])["max drawdown"] < 0.12, key


def test_the_stop_line_never_falls_within_a_trade(results):
    run = results["btc", "pause"]
    entries = run.fills[run.fills["size"] > 0].time
    trade = pd.Series(1, entries).groupby(level=0).sum().reindex(run.stops.index).cumsum().ffill()
    steps = run.stops.groupby(trade).diff().dropna()
    assert len(steps) > 50
    assert (steps >= 0).all()
    assert (steps > 0).any()


def test_a_bare_run_has_no_gate_and_a_portfolio_runs_twice_the_same(portfolios, results):
    run = results["btc", "bare"]
    assert run.decisions.empty
    assert run.stops.isna().all()
    assert summary(run)["orders judged"] is None
    again = demo._run_one(portfolios[0], "pause")
    pd.testing.assert_series_equal(again.equity, results["btc", "pause"].equity)


def test_two_processes_give_what_one_gives(portfolios, results):
    done = []
    ((*runs,),) = demo.run(portfolios[:1], workers=2, on_done=lambda: done.append(1))
    assert [run.label for run in runs] == LABELS
    assert len(done) == 4
    for run in runs:
        expected = results["btc", run.label]
        pd.testing.assert_series_equal(run.equity, expected.equity, check_freq=False)
        pd.testing.assert_frame_equal(run.fills, expected.fills)


def test_a_market_that_stands_still_trades_nothing_and_breaks_nothing():
    portfolio = replace(
        portfolio_of(make_bars(*flat(400, width=0.0), freq="h")), runs={"bare": None}
    )
    ((run,),) = demo.run([portfolio])
    numbers = summary(run)
    assert (numbers["trades"], numbers["first trade"]) == (0, None)
    assert math.isnan(numbers["Sharpe"])
    assert numbers["CAGR"] == 0.0


# The formulas, by hand.


def test_annual_growth_by_hand():
    times = pd.to_datetime(["2020-01-01", "2021-01-01", "2022-01-01"])
    equity = pd.Series([100.0, 50.0, 144.0], times)
    assert annual_growth(equity) == pytest.approx(1.44 ** (365.25 / 731) - 1)
    assert annual_growth(equity * [1, 1, 0]) == -1.0
    assert math.isnan(annual_growth(equity.set_axis(times[0] + pd.to_timedelta([0, 1, 2], "h"))))


def test_sharpe_compounds_the_bars_of_a_day():
    # Closes of the days: 100, 110, 99, 108.9, hence 10 %, -10 %, 10 %.
    times = pd.date_range("2020-01-01", periods=8, freq="12h")
    equity = pd.Series([90.0, 100, 50, 110, 300, 99, 1, 108.9], times)
    mean, spread = 0.1 / 3, math.sqrt(2 * (0.2 / 3) ** 2 / 2 + (0.4 / 3) ** 2 / 2)
    assert sharpe_ratio(equity, 365) == pytest.approx(mean / spread * math.sqrt(365))
    assert math.isnan(sharpe_ratio(equity.iloc[:4], 365))  # one return has no spread


def test_max_drawdown_by_hand():
    assert max_drawdown(pd.Series([100.0, 120, 90, 130, 120])) == 0.25


# A user's own prices.


def test_own_prices_are_named_after_their_file(tmp_path):
    path = tmp_path / "ETH_1h.csv.gz"
    load_data("btcusd_1h").iloc[:300].to_csv(path)
    plain, filtered = own_portfolios(path, step=0.5)
    assert list(plain.frames) == list(filtered.frames) == ["ETH_1h"]
    assert len(plain.times) == 300
    assert plain.policy("pause").instruments == {"ETH_1h": {"step": 0.5}}
    assert pickle.loads(pickle.dumps(plain)).name == "own"


def test_own_prices_must_be_enough(tmp_path):
    path = tmp_path / "short.csv"
    load_data("btcusd_1h").iloc[:299].to_csv(path)
    with pytest.raises(DataError, match="must hold at least 300 bars; got 299"):
        own_portfolios(path)


@pytest.mark.parametrize("step", [0.0, -1.0, math.nan])
def test_a_step_must_be_positive(tmp_path, step):
    path = tmp_path / "prices.csv"
    load_data("btcusd_1h").iloc[:300].to_csv(path)
    with pytest.raises(ParameterError, match="demo: step must be positive"):
        own_portfolios(path, step)


# The tables.


def test_decisions_are_listed_by_rule_and_what_no_rule_touched_comes_last():
    names = [
        "rule 1, risk per trade: order cut",
        "rule 2, stop: stopped out",
        "rule 4, correlation: order refused",
        "rule 5, drawdown: order refused",
        "rule 5, drawdown: halt",
        "cash at the fill: order cut",
        "entry passed whole",
        "exit passed",
    ]
    assert decisions_in_order(set(names)) == names


def test_the_table_of_decisions_has_every_decision_of_every_run(results):
    lines = shown(results, "trend", 120)
    end = next(i for i, line in enumerate(lines) if line.startswith("The ledger of orders"))
    lines = lines[lines.index("What each rule decided:") : end]
    listed = [line.split("\u2502")[0].strip() for line in lines if "\u2502" in line]
    made = {
        name
        for key in GUARDED
        if key[0] == "trend"
        for name in count_decisions(results[key].decisions)
    }
    assert listed == decisions_in_order(made)
    assert len(listed) > 2


def test_the_ledger_adds_up_to_what_the_run_ended_with_more_or_less(results):
    for name in SLICES:
        runs = [run for key, run in results.items() if key[0] == name]
        for run, book in zip(runs[1:], shadow_books(runs).values(), strict=True):
            more = run.equity.iloc[-1] - runs[0].equity.iloc[-1]
            assert book.difference == pytest.approx(more)
            assert book.ledger["balance"].sum() == pytest.approx(more, abs=1e-6)
        text = shown(results, name, 120)
        (line,) = [one for one in text if one.startswith(" total")]
        totals = [one.strip() for one in line.split("\u2502")[1:]]
        last = [run.equity.iloc[-1] - runs[0].equity.iloc[-1] for run in runs[1:]]
        assert totals == [f"{more:+,.0f}" for more in last]


FEW = dict(notional_limit=None, exposure_limit=None, correlation_limit=None)


def test_what_each_rule_is_worth_sums_to_what_the_run_ended_with_more_or_less():
    policy = dict(action="pause", cooldown_bars=60, **FEW)
    btc = bundled_portfolios()[0]
    frames = {"BTC": btc.frames["BTC"].iloc[:500]}
    btc = replace(btc, frames=frames, runs={"bare": None, "pause": policy})
    (runs,) = demo.run([btc])
    bare, paused = (run.equity.iloc[-1] for run in runs)
    worth = attributed(btc)
    assert list(worth.frame.index) == ["risk per trade", "size", "stop", "drawdown"]
    assert worth.frame["shapley"].sum() == pytest.approx(paused - bare, abs=1e-6)
    # Without the sizer of the policy, positions have the share of equity of the bare run.
    (unsized,) = demo.run([replace(btc, runs={"pause": {**policy, "sizer": False}})])[0]
    assert worth.frame.loc["size", "leave_one_out"] == paused - unsized.equity.iloc[-1]
    assert unsized.order_log.requested["opening"].iloc[0] == runs[0].fills["size"].iloc[0]
    text = io.StringIO()
    print_portfolio(Console(file=text, width=300), runs, worth)
    lines = text.getvalue().splitlines()
    first = next(k for k, line in enumerate(lines) if line.startswith("- "))
    assert lines[first].startswith(f"- pause ends with {paused:,.0f} instead of {bare:,.0f} (")
    assert lines[first + 1 :][: len(worth.sentences())] == [f"- {one}" for one in worth.sentences()]
    assert "What each rule of pause is worth:" in lines
    with pytest.raises(ParameterError, match="that of a protected run"):
        attributed(btc, "bare")


def test_the_odds_of_a_halt_are_said_first_and_need_twenty_days(results):
    groups = [[run for key, run in results.items() if key[0] == name] for name in SLICES]
    text = io.StringIO()
    print_halt_odds(Console(file=text, width=300), groups)
    lines = text.getvalue().splitlines()
    assert [line.startswith("- ") for line in lines] == [False, True, True, True, False]
    for line, runs in zip(lines[1:4], groups, strict=True):
        odds = halt_probability(bar_returns(runs[0].record), samples=200)
        assert line == f"- {runs[0].portfolio.title}: {odds}"
    few = cut(bundled_portfolios()[0])
    few = replace(few, frames={"BTC": few.frames["BTC"].iloc[:300]}, runs={"bare": None})
    text = io.StringIO()
    print_halt_odds(Console(file=text, width=300), demo.run([few]))
    assert text.getvalue().splitlines()[1].endswith(": too few days to say.")


def shown(results, name, width):
    """Return the lines that one portfolio prints on a terminal of this width."""
    text = io.StringIO()
    console = Console(file=text, width=width, highlight=False)
    runs = [run for key, run in results.items() if key[0] == name]
    print_legend(console, {run.label for run in runs})
    print_portfolio(console, runs)
    return text.getvalue().splitlines()


@pytest.mark.parametrize("width", [34, 50, 80, 120, 160])
@pytest.mark.parametrize("name", ["btc", "trend"])
def test_no_number_is_cut_off_at_any_width(results, name, width):
    lines = shown(results, name, width)
    assert max(map(len, lines)) <= width
    tables = [line for line in lines if "\u2502" in line]
    assert not [line for line in tables if "\u2026" in line]
    rows = pd.Series([[cell.strip() for cell in line.split("\u2502")] for line in tables])
    for (portfolio, label), run in results.items():
        if portfolio == name:
            numbers = summary(run)
            for cell in (f"{numbers['final equity']:,.0f}", f"{numbers['trades']:,}"):
                assert rows.map(lambda row, cell=cell: cell in row).any(), (label, cell)


def test_the_table_says_what_the_summary_says(results):
    lines = shown(results, "btc", 80)
    numbers = [summary(results["btc", label]) for label in LABELS]

    def row(name):
        line = next(line for line in lines if line.startswith(f" {name} "))
        return [cell.strip() for cell in line.split("\u2502")[1:]]

    assert row("CAGR") == [f"{100 * n['CAGR']:.1f} %" for n in numbers]
    assert row("Sharpe") == [f"{n['Sharpe']:.2f}" for n in numbers]
    assert row("max drawdown") == [f"{100 * n['max drawdown']:.1f} %" for n in numbers]
    assert row("first trade") == [f"{n['first trade']:%Y-%m-%d}" for n in numbers]
    assert row("halts") == ["-", *(str(n["halts"]) for n in numbers[1:])]
    assert row("rule 2, stop: stopped out") == [str(n["stops hit"]) for n in numbers[1:]]
    text = " ".join(" ".join(lines).split())
    assert "95 % of equity into each position" in text
    assert "0.1 %" in text
    assert "No cap" in text
    assert "cap 0.5" not in text


def test_the_rules_keep_every_loss_within_what_was_risked(results):
    paused, ruled = (results["btc", label].record.losses for label in ("pause", "rules"))
    assert paused.share(1.0) > 0.2
    assert paused.worst_cause == "entry bar"
    assert (ruled.share(1.0), ruled.entry_bar) == (0.0, 0)
    assert ruled.full_stop_out == pytest.approx(1.0, abs=0.001)
    assert ruled.stopped_at_entry > 0
