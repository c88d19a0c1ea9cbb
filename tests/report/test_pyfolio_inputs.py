"""The hand-over to pyfolio, against what Backtrader itself says of each day."""

import backtrader as bt
import empyrical as ep
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyfolio
import pytest
from helpers.frames import PandasData
from helpers.scenarios import MODES, Plan, Tape, bars, cerebro, flat, random_walk

import bt_risk
from bt_risk.report import pyfolio_inputs
from bt_risk.report.calendar import check_periods_per_year, periods_per_year
from bt_risk.report.statistics import figures

BUY_ALL = tuple(
    (20, "buy" if number % 2 == 0 else "sell", (("data", number), ("size", 10 + number)))
    for number in range(3)
)
CLOSE_FIRST = ((60, "close", (("data", 0),)),)


class Truth(bt.Analyzer):
    """Value and cash of the account at every bar, as Backtrader has them."""

    def __init__(self):
        self.rows = []

    def next(self):
        times = [data.datetime.datetime(0) for data in self.strategy.datas if len(data)]
        broker = self.strategy.broker
        self.rows.append((max(times), broker.getvalue(), broker.getcash()))

    def days(self):
        frame = pd.DataFrame(self.rows, columns=["time", "value", "cash"])
        days = pd.DatetimeIndex(frame["time"]).round("ms").normalize()
        return frame.groupby(days)[["value", "cash"]].last().tz_localize("UTC")


def run(engine, plan=(), strategy=Plan, **kwargs):
    engine.addstrategy(strategy, **({"plan": plan} if strategy is Plan else {}))
    engine.addanalyzer(bt_risk.ReportData)
    engine.addanalyzer(Truth, _name="truth")
    return engine.run(**kwargs)[0]


def walks(count, length=120, freq="D"):
    return [random_walk(seed, length, freq=freq) for seed in range(count)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("freq", ["D", "h"])
def test_every_day_sums_to_equity_with_all_assets(mode, freq):
    strategy = run(cerebro(*walks(3, freq=freq)), BUY_ALL + CLOSE_FIRST, **MODES[mode])
    returns, positions, transactions = pyfolio_inputs(strategy)
    truth = strategy.analyzers.truth.days()
    assert list(positions.columns) == ["D0", "D1", "D2", "cash"]
    assert positions.index.equals(returns.index)
    assert positions.index.equals(truth.index.as_unit(positions.index.unit))
    assert np.allclose(positions.sum(axis=1), truth["value"], rtol=0, atol=0.01)
    assert np.allclose(positions["cash"], truth["cash"], rtol=0, atol=0.01)
    assert positions["D1"].iloc[-1] < 0
    assert positions["D0"].iloc[-1] == 0
    growth = (1 + returns).prod()
    assert growth == pytest.approx(truth["value"].iloc[-1] / 100_000, rel=1e-12)
    assert len(transactions) == 4


def test_daily_returns_are_those_of_backtrader_s_own_analyzer():
    engine = cerebro(*walks(2, 400, "h"))
    engine.addanalyzer(bt.analyzers.TimeReturn, timeframe=bt.TimeFrame.Days, _name="native")
    strategy = run(engine, BUY_ALL[:2])
    returns, _, _ = pyfolio_inputs(strategy)
    native = strategy.analyzers.native.get_analysis()
    assert np.allclose(returns.to_numpy(), list(native.values()), rtol=0, atol=1e-12)
    assert len(returns) == 17


def test_a_hand_made_run():
    """Bought 10 at 100 and 20 at 110, all sold at 121; the last close is 121."""
    rows = [(100, 100, 100, 100), (100, 100, 100, 100), (110, 110, 110, 110), (121, 121, 121, 121)]
    plan = (
        (1, "buy", (("size", 10),)),
        (2, "buy", (("size", 20),)),
        (3, "sell", (("size", 30),)),
    )
    returns, positions, transactions = pyfolio_inputs(
        run(cerebro(bars(*rows), cash=10_000.0), plan)
    )
    assert positions["D0"].tolist() == [0.0, 1000.0, 3300.0, 0.0]
    assert positions["cash"].tolist() == [10_000.0, 9_000.0, 6_800.0, 10_430.0]
    assert returns.tolist() == pytest.approx([0.0, 0.0, 0.01, 10_430 / 10_100 - 1], abs=1e-15)
    assert transactions["amount"].tolist() == [10, 20, -30]
    assert transactions["price"].tolist() == [100, 110, 121]
    assert transactions["symbol"].tolist() == ["D0"] * 3
    assert [time.day for time in transactions.index] == [2, 3, 4]
    assert {str(f.index.tz) for f in (returns, positions, transactions)} == {"UTC"}


def test_a_future_is_held_at_its_notional():
    engine = cerebro(bars(*flat(3), *[(110, 111, 109, 110)] * 2))
    engine.broker.setcommission(commission=2.0, margin=2000.0, mult=50.0)
    strategy = run(engine, ((1, "buy", (("size", 2),)),))
    _, positions, transactions = pyfolio_inputs(strategy)
    assert positions["D0"].iloc[-1] == 2 * 50 * 110
    assert positions.iloc[-1].sum() == pytest.approx(100_000 - 4 + 2 * 50 * 10)
    assert transactions["amount"].tolist() == [100.0]
    assert transactions["price"].tolist() == [100.0]


def test_deposits_are_no_returns():
    class Depositor(bt.Strategy):
        def next(self):
            if len(self) == 3:
                self.broker.add_cash(50_000)

    returns, positions, _ = pyfolio_inputs(run(cerebro(bars(*flat(6))), strategy=Depositor))
    assert returns.tolist() == pytest.approx([0.0] * 6, abs=1e-12)
    assert positions["cash"].iloc[-1] == 150_000


def test_feeds_without_a_name_and_feeds_of_one_name():
    engine = bt.Cerebro(stdstats=False)
    for frame, name in zip(walks(4), [None, "X", "X", "cash"], strict=True):
        engine.adddata(PandasData(dataname=frame), name=name)
    strategy = run(engine, BUY_ALL)
    _, positions, transactions = pyfolio_inputs(strategy)
    names = ["data0", "X", "X (data2)", "cash (data3)", "cash"]
    assert list(positions.columns) == names
    assert set(transactions["symbol"]) == set(names[:3])


def test_a_resampled_copy_shows_only_when_it_is_traded():
    for traded, columns in ((0, ["D0", "cash"]), (1, ["D0", "week", "cash"])):
        engine = cerebro(*walks(1))
        engine.resampledata(engine.datas[0], timeframe=bt.TimeFrame.Weeks, name="week")
        strategy = run(engine, ((70, "buy", (("data", traded), ("size", 5))),))
        assert list(pyfolio_inputs(strategy)[1].columns) == columns


@pytest.mark.parametrize("mode", MODES)
def test_a_halted_run_goes_on_flat_to_the_end_of_its_data(mode):
    fall = bars(*flat(20), *[(p, p + 1, p - 1, p) for p in range(99, 59, -1)], *flat(10, 60.0))
    engine = cerebro(fall)
    engine.addanalyzer(bt_risk.DrawdownBreaker, drawdown_limit=0.10)
    strategy = run(engine, ((18, "buy", (("size", 900),)),), **MODES[mode])
    returns, positions, _ = pyfolio_inputs(strategy)
    assert len(strategy) < 40
    assert len(returns) == len(positions) == 70
    assert (returns.iloc[45:] == 0).all()
    assert (positions["D0"].iloc[45:] == 0).all()
    assert positions["cash"].iloc[-1] == pytest.approx(strategy.broker.getvalue())
    assert (1 + returns).prod() == pytest.approx(strategy.broker.getvalue() / 100_000)


def test_a_bar_without_a_close_does_not_lose_the_day():
    frame = random_walk(0, 72, freq="h")
    frame.loc[frame.index[47], ["open", "high", "low", "close"]] = np.nan
    strategy = run(cerebro(frame), ((5, "buy", (("size", 10),)),))
    returns, positions, _ = pyfolio_inputs(strategy)
    assert len(returns) == 3
    assert np.isfinite(returns).all()
    known = 100_000 + 10 * (frame["close"].iloc[46] - frame["open"].iloc[5])
    assert positions.iloc[1].sum() == pytest.approx(known)
    assert positions["D0"].iloc[1] == pytest.approx(10 * frame["close"].iloc[46])


def test_an_account_that_is_ruined_loses_all_of_it_once():
    rise = bars(*flat(3), *[(p, p, p, p) for p in (300.0, 400.0, 350.0)])
    strategy = run(cerebro(rise, cash=10_000.0), ((1, "sell", (("size", 100),)),))
    returns, positions, _ = pyfolio_inputs(strategy)
    assert returns.tolist() == [0.0, 0.0, 0.0, -1.0, 0.0, 0.0]
    assert positions.iloc[3].sum() == pytest.approx(10_000 - 100 * 200)


def test_partial_fills_and_every_strategy_of_the_account_are_in():
    engine = cerebro(*walks(2))
    engine.broker.set_filler(bt.fillers.FixedSize(size=4))
    engine.addstrategy(Plan, plan=((30, "buy", (("data", 1), ("size", 6))),))
    strategy = run(engine, ((20, "buy", (("size", 10),)),))
    _, positions, transactions = pyfolio_inputs(strategy)
    amounts = transactions.groupby("symbol")["amount"].apply(list).to_dict()
    assert amounts == {"D0": [4, 4, 2], "D1": [4, 2]}
    _, _, others = pyfolio_inputs(engine.runstrats[0][1])
    assert others.equals(transactions)
    assert (positions.iloc[-1] != 0).all()


@pytest.mark.parametrize("maxcpus", [1, 2])
def test_optimised_strategies_bring_their_own(maxcpus):
    engine = cerebro(*walks(1))
    engine.optstrategy(Plan, plan=[((20, "buy", (("size", n),)),) for n in (1, 2)])
    engine.addanalyzer(bt_risk.ReportData)
    bt_risk.protect(engine, bt_risk.Policy(risk_limit=None))
    results = [point[0] for point in engine.run(maxcpus=maxcpus)]
    amounts = [pyfolio_inputs(result)[2]["amount"].iloc[0] for result in results]
    assert amounts == [1, 2]


def test_nothing_of_the_run_changes():
    def outcome(recorded):
        engine = cerebro(*walks(3))
        engine.addstrategy(Plan, plan=BUY_ALL + CLOSE_FIRST)
        engine.addanalyzer(Tape, _name="tape")
        if recorded:
            engine.addanalyzer(bt_risk.ReportData)
        strategy = engine.run()[0]
        assert type(strategy.broker) is bt.brokers.BackBroker
        return strategy.analyzers.tape.get_analysis(), list(strategy.broker.positions)[0]._name

    assert outcome(False) == outcome(True)


def test_a_run_without_the_analyzer_says_what_to_add():
    engine = cerebro(*walks(1))
    engine.addstrategy(Plan)
    with pytest.raises(bt_risk.ParameterError, match="ReportData"):
        pyfolio_inputs(engine.run()[0])


def test_a_run_without_a_bar_says_so():
    engine = cerebro(random_walk(0, 5), random_walk(1, 5).iloc[:0])
    engine.addstrategy(bt.Strategy)
    engine.addanalyzer(bt_risk.ReportData)
    strategy = engine.run()[0]
    if not len(strategy):
        with pytest.raises(bt_risk.DataError, match="had no bar"):
            pyfolio_inputs(strategy)


@pytest.mark.parametrize("plan", [(), BUY_ALL + CLOSE_FIRST], ids=["no trades", "trades"])
def test_a_notebook_s_one_line_works(plan, monkeypatch):
    monkeypatch.setattr("pyfolio.utils.display", lambda table: None)
    plt.switch_backend("agg")
    pyfolio.create_full_tear_sheet(*pyfolio_inputs(run(cerebro(*walks(3)), plan)))
    plt.close("all")


def test_leverage_and_turnover_are_those_of_all_assets():
    """Trap: Backtrader's PyFolio analyzer leaves one asset, and leverage and turnover with it."""
    engine = cerebro(*walks(3))
    engine.addanalyzer(bt.analyzers.PyFolio, _name="native")
    strategy = run(engine, BUY_ALL)
    _, native, _, _ = strategy.analyzers.native.get_pf_items()
    assert list(native.columns) == ["D2", "cash"]
    returns, positions, transactions = pyfolio_inputs(strategy)
    gross = pyfolio.timeseries.gross_lev(positions)
    last = [strategy.getposition(data).size * data.close[0] for data in strategy.datas]
    assert gross.iloc[-1] == pytest.approx(np.abs(last).sum() / strategy.broker.getvalue())
    turnover = pyfolio.txn.get_turnover(positions, transactions, "portfolio_value")
    traded = (transactions["amount"] * transactions["price"]).abs().sum()
    assert turnover.sum() == pytest.approx(traded / positions.sum(axis=1).loc[turnover.idxmax()])


def test_hourly_positions_are_one_row_a_day():
    """Trap: with hourly bars Backtrader's positions are hourly, beside daily returns."""
    engine = bt.Cerebro(stdstats=False)
    hours = dict(timeframe=bt.TimeFrame.Minutes, compression=60)
    engine.adddata(PandasData(dataname=walks(1, 24 * 10, "h")[0], **hours), name="D0")
    engine.addanalyzer(bt.analyzers.PyFolio, _name="native")
    strategy = run(engine, BUY_ALL[:1])
    native_returns, native_positions, _, _ = strategy.analyzers.native.get_pf_items()
    assert (len(native_returns), len(native_positions)) == (10, 240)
    returns, positions, _ = pyfolio_inputs(strategy)
    assert len(returns) == len(positions) == 10


SATURDAYS = pd.date_range("2023-01-07", "2025-01-01", freq="7D")
# Ten days of a year are holidays.
SESSIONS = pd.bdate_range("2021-01-01", "2024-12-31").delete(range(13, 1043, 26))


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        (pd.date_range("2024-01-01", "2024-12-31"), 365),
        (pd.bdate_range("2024-01-01", "2024-12-31"), 261),  # no exchange: it has no holidays
        (SESSIONS, 252),
        (SESSIONS[:70], 252),
        # Five days of 24 hours that begin on Sunday evening: in UTC there are six days a week.
        (pd.date_range("2023-01-01", "2024-12-31").difference(SATURDAYS), 313),
        (pd.date_range("2024-01-01", periods=120).difference(SATURDAYS), 313),
        (pd.date_range("2024-01-01", "2024-12-31").delete(range(100, 105)), 365),
        (pd.date_range("2020-01-03", periods=200, freq="W-FRI"), 52),
        (pd.date_range("2010-01-01", periods=60, freq="BMS"), 12),
        (pd.date_range("2024-01-01", periods=30), 365),
        (pd.bdate_range("2024-01-01", periods=22), 252),
        (pd.bdate_range("2024-01-01", periods=3), 252),
        (pd.date_range("2024-01-05", periods=3), 365),
    ],
)
def test_how_many_days_a_year_has(days, expected):
    assert periods_per_year(days) == expected


def test_an_exchange_is_asked_for_its_sessions():
    pytest.importorskip("exchange_calendars")
    days = pd.bdate_range("2024-01-02", "2024-12-31")
    assert check_periods_per_year("tear_sheet", "XNYS", days) == 252
    assert check_periods_per_year("tear_sheet", "XTKS", days) == 245
    with pytest.raises(bt_risk.ParameterError, match=r"tear_sheet: calendar must be .* 'NYSE2'"):
        check_periods_per_year("tear_sheet", "NYSE2", days)


def of_empyrical(returns, market, year):
    """Return what `figures` gives, computed by empyrical."""
    year = {"annualization": year}
    return {
        "Total return": ep.cum_returns_final(returns),
        "CAGR": ep.annual_return(returns, **year),
        "Volatility": ep.annual_volatility(returns, **year),
        "Sharpe": ep.sharpe_ratio(returns, **year),
        "Sortino": ep.sortino_ratio(returns, **year),
        "Calmar": ep.calmar_ratio(returns, **year),
        "Max drawdown": -ep.max_drawdown(returns),
        "Value at risk 5 %": -ep.value_at_risk(returns),
        "Expected shortfall 5 %": -ep.conditional_value_at_risk(returns),
        "Omega": ep.omega_ratio(returns, **year),
        "Tail ratio": ep.tail_ratio(returns),
        "Stability": ep.stability_of_timeseries(returns),
        "Alpha": ep.alpha(returns, market, **year),
        "Beta": ep.beta(returns, market),
    }


@pytest.mark.filterwarnings("ignore::RuntimeWarning:empyrical")
@pytest.mark.filterwarnings("ignore::RuntimeWarning:numpy")
@pytest.mark.parametrize(
    "days",
    [
        [],
        [0.0],
        [0.01],
        [-0.01],
        [0.0] * 5,
        [0.001] * 11,
        [-0.001] * 7,
        [0.1, 0.2],
        [-0.1, -0.2],
        [0.0, 0.0, 0.1],
        [0.0, 0.0, -0.1],
        [0.0, -1.0, 0.0, 0.2],
        *[np.random.default_rng(n).normal(0.001, 0.02, 3 + 40 * n) for n in range(8)],
    ],
    ids=lambda days: f"{len(days)}",
)
def test_figures_are_those_of_empyrical_for_every_history(days):
    index = pd.date_range("2024-01-01", periods=len(days))
    returns = pd.Series(np.asarray(days, dtype=float), index)
    market = pd.Series(np.random.default_rng(1).normal(0.0, 0.01, len(days)), index)
    found = figures(returns, 365, market)
    with np.errstate(all="ignore"):
        expected = of_empyrical(returns, market, 365)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12, nan_ok=True)
    alone = {name: found[name] for name in found if name not in ("Alpha", "Beta")}
    assert figures(returns, 365) == pytest.approx(alone, abs=0.0, rel=0.0, nan_ok=True)


def test_a_day_without_a_known_return_is_left_out():
    index = pd.date_range("2024-01-01", periods=4)
    found = figures(pd.Series([0.1, np.nan, -0.05, 0.02], index), 365, pd.Series(0.01, index))
    assert found["Total return"] == pytest.approx(1.1 * 0.95 * 1.02 - 1.0)
    assert found["Max drawdown"] == pytest.approx(0.05)


def test_figures_are_empyrical_s_with_the_right_year():
    strategy = run(cerebro(*walks(1, 24 * 30, "h")), BUY_ALL[:1])
    returns, _, _ = pyfolio_inputs(strategy)
    found = figures(returns, 365)
    assert found["Sharpe"] == pytest.approx(ep.sharpe_ratio(returns, annualization=365), abs=1e-9)
    assert found["Sharpe"] == pytest.approx(ep.sharpe_ratio(returns) * np.sqrt(365 / 252), abs=1e-9)
    assert found["Max drawdown"] == pytest.approx(-ep.max_drawdown(returns), abs=1e-9)
    assert found["Max drawdown"] > 0
