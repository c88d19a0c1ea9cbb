"""The runs of the demo: each portfolio bare and protected, on real prices.

``bt-risk demo`` prints the results; `run` returns them as objects.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import backtrader as bt
import pandas as pd

from bt_risk.demo.portfolios import COMMISSION, FractionSizer, Portfolio
from bt_risk.evidence.order_log import OrderLog, OrderLogger
from bt_risk.evidence.runner import quiet, results_of
from bt_risk.feeds.frame import FrameData
from bt_risk.gate.journal import FIELDS
from bt_risk.policy import Policy
from bt_risk.protection import protect
from bt_risk.report.record import ReportData, RunRecord, is_trailing_stop, record_of

__all__ = ["PAGE", "PAGES", "DemoRun", "bare_cerebro", "cores", "protect_or_size", "run"]

PAGE = "pause"  # the run that continues after a halt, so it shows the most
# The runs with a tear sheet: the other one shows what is liquidated.
PAGES = (PAGE, "isolated")

CASH = 100_000.0


@dataclass(frozen=True)
class DemoRun:
    """The results of one run.

    Attributes
    ----------
    portfolio : Portfolio
    label : str
    equity : Series
        Currency at every close of the prices; flat after a halt has ended the run.
    exposure : Series
        Gross notional as a fraction of equity, while the run lasted.
    fills : DataFrame
        Columns time, data, size (signed), price, stop (whether it was our trailing stop).
    decisions : DataFrame
        The journal; empty for a bare run.
    trades : int
        Closed trades, flat to flat.
    stops : Series
        Price of the first instrument's stop after each close; NaN without one.
    record : bt_risk.report.RunRecord
    order_log : bt_risk.evidence.order_log.OrderLog
        Every order as the strategy requested it.
    page : Path or None
        Tear sheet of the run, if one was written.
    """

    portfolio: Portfolio
    label: str
    equity: pd.Series
    exposure: pd.Series
    fills: pd.DataFrame
    decisions: pd.DataFrame
    trades: int
    stops: pd.Series
    record: RunRecord
    order_log: OrderLog
    page: Path | None = None


def run(
    portfolios: Sequence[Portfolio],
    workers: int = 1,
    on_done: Callable[[], None] = lambda: None,
    pages: Path | None = None,
) -> list[list[DemoRun]]:
    """Run every portfolio with each of its policies.

    Parameters
    ----------
    portfolios : list of Portfolio
    workers : int
        Number of processes; 1 runs all in this one. A script with more needs the usual
        ``if __name__ == "__main__"``.
    on_done : callable
        Called after each run.
    pages : Path, optional
        Folder for the tear sheets of the runs `PAGES`; none are written when left out.

    Returns
    -------
    list of list of DemoRun
        One list per portfolio, in the order of its runs.
    """
    jobs = [(i, label) for i, portfolio in enumerate(portfolios) for label in portfolio.runs]
    done = {}
    work = {(i, label): (portfolios[i], label, pages) for i, label in jobs}
    for job, result in results_of(_run_one, work, workers):
        done[job] = result
        on_done()
    return [[done[i, label] for label in p.runs] for i, p in enumerate(portfolios)]


def cores() -> int:
    """Return the number of processes that the demo uses."""
    return min(2, os.cpu_count() or 1)


def _run_one(portfolio: Portfolio, label: str, pages: Path | None = None) -> DemoRun:
    """Run a portfolio with one policy."""
    cerebro = bare_cerebro(portfolio)
    cerebro.addanalyzer(_Recorder, _name="recorder")
    protect_or_size(cerebro, portfolio, portfolio.policy(label))
    cerebro.addanalyzer(ReportData)
    cerebro.addanalyzer(OrderLogger, _name="order_log")
    with quiet():
        (strategy,) = cerebro.run()
    page = None
    if pages is not None and label in PAGES:
        page = _write_page(portfolio, label, strategy, pages)
    return replace(_collect(portfolio, label, strategy), page=page)


def bare_cerebro(portfolio: Portfolio) -> bt.Cerebro:
    """Return a Cerebro with the prices and the strategy of a portfolio, without any sizer."""
    cerebro = bt.Cerebro(stdstats=False)
    for name, frame in portfolio.frames.items():
        cerebro.adddata(FrameData(dataname=frame), name=name)
    cerebro.addstrategy(portfolio.strategy, **portfolio.settings)
    cerebro.broker.setcash(CASH)
    cerebro.broker.setcommission(COMMISSION, leverage=portfolio.leverage or 1.0)
    return cerebro


def protect_or_size(cerebro: bt.Cerebro, portfolio: Portfolio, policy: Policy | None) -> None:
    """Protect a run; one without a policy, or without its sizer, has a fixed share of equity."""
    if policy is None or not policy.sizer:
        step = portfolio.facts.get("step", 1.0)
        cerebro.addsizer(FractionSizer, fraction=portfolio.fraction, step=step)
    if policy is not None:
        protect(cerebro, policy)


def _write_page(portfolio: Portfolio, label: str, strategy: bt.Strategy, folder: Path) -> Path:
    from bt_risk.report import tear_sheet

    path = folder / f"{portfolio.name}-{label}.html"
    return tear_sheet(strategy, path, title=f"{portfolio.title} ({label})")


class _Recorder(bt.Analyzer):
    """Record equity and exposure of every close, every fill and every closed trade."""

    def __init__(self) -> None:
        self.equity: list[float] = []
        self.exposure: list[float] = []
        self.fills: list[tuple[datetime, str, float, float, bool]] = []
        self.trades = 0

    def next(self) -> None:
        strategy = self.strategy
        equity = strategy.broker.getvalue()
        sizes = [(strategy.getposition(data).size, data) for data in strategy.datas]
        gross = sum(abs(size) * data.close[0] for size, data in sizes if size)
        self.equity.append(equity)
        self.exposure.append(gross / equity)

    def notify_order(self, order: bt.Order) -> None:
        if order.status == order.Completed:
            done, time = order.executed, bt.num2date(order.executed.dt)
            row = time, order.data._name, done.size, done.price, is_trailing_stop(order)
            self.fills.append(row)

    def notify_trade(self, trade: bt.Trade) -> None:
        self.trades += trade.isclosed


def _collect(portfolio: Portfolio, label: str, strategy: bt.Strategy) -> DemoRun:
    times, record = portfolio.times, strategy.analyzers.recorder
    lasted = times[: len(record.equity)]
    equity = pd.Series(record.equity, lasted, name=label).reindex(times).ffill()
    fills = pd.DataFrame(record.fills, columns=["time", "data", "size", "price", "stop"])
    fills["time"] = pd.to_datetime(fills["time"]).dt.round("ms")
    decisions = pd.DataFrame(columns=list(FIELDS))
    stops = pd.Series(float("nan"), times)
    if portfolio.runs[label] is not None:
        decisions = strategy.analyzers.riskjournal.frame()
    if hasattr(strategy.observers, "atrtrailingstop"):
        line = strategy.observers.atrtrailingstop.lines.stop.array
        stops = pd.Series(line[: len(lasted)], lasted).reindex(times)
    exposure = pd.Series(record.exposure, lasted)
    done = record_of(strategy), strategy.analyzers.order_log.log
    return DemoRun(
        portfolio, label, equity, exposure, fills, decisions, record.trades, stops, *done
    )
