"""The tear sheet: one self-contained HTML file with the result of a run and of its rules."""

import math
from pathlib import Path
from typing import Any

import backtrader as bt
import pandas as pd

from bt_risk.errors import ParameterError
from bt_risk.report.account_charts import equity_chart, exposure_chart, kelly_chart
from bt_risk.report.calendar import check_periods_per_year
from bt_risk.report.events import WorstMoment, worst_moment
from bt_risk.report.labels import count_decisions
from bt_risk.report.limit_use import limit_uses, use_chart
from bt_risk.report.margin_chart import margin_chart, margin_rows
from bt_risk.report.page import format_number, write_page
from bt_risk.report.price_charts import price_charts
from bt_risk.report.pyfolio import daily_returns, pyfolio_inputs
from bt_risk.report.pyfolio_sheet import full_sheet
from bt_risk.report.record import RunRecord, record_of
from bt_risk.report.screened import screened_names
from bt_risk.report.statistics import figures, loss_figures
from bt_risk.report.summary import headline
from bt_risk.report.tables import (
    JOURNAL_COLUMNS,
    JOURNAL_NUMBERS,
    correlation_table,
    journal_block,
    loss_causes,
    loss_rows,
    months,
    multiples_of,
    policy_rows,
)

__all__ = ["tear_sheet"]

COMPONENT = "tear_sheet"
PERCENT = {
    "Total return",
    "CAGR",
    "Volatility",
    "Max drawdown",
    "Value at risk 5 %",
    "Expected shortfall 5 %",
    "Alpha",
}
MODES = {
    "bare": "without a gate: no order was judged",
    "enforce": "protected: the decisions were enforced",
    "observe": "observed: nothing was changed, and the decisions show what would have happened",
}


def tear_sheet(
    strategy: bt.Strategy | RunRecord,
    path: str | Path,
    benchmark: pd.Series | str | None = None,
    *,
    periods_per_year: float | str | None = None,
    title: str | None = None,
    pyfolio: bool = False,
) -> Path:
    """Write the result of a run and of its rules into one self-contained HTML file.

    Parameters
    ----------
    strategy : Strategy
        As ``cerebro.run()`` returns it, run with `bt_risk.ReportData`; for a run without a gate
        the page has no decisions.
    path : str or path
        File to write; its folder is made.
    benchmark : Series or str, optional
        Simple daily returns by day, or the name of a data feed of the run.
    periods_per_year : float or str, optional
        Days a year that returns are annualised with: 365 for a market that never closes, 252 for
        stocks, or the name of an exchange (``"XNYS"``, from exchange_calendars), whose sessions are
        counted; the days of the run in each year that has elapsed when left out.
    title : str, optional
        Heading; the strategy's name when left out.
    pyfolio : bool, default False
        Whether pyfolio's full tear sheet stands at the end of the page. It takes longer than all
        the rest.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ParameterError
        If the strategy ran without `ReportData`, or an argument is outside its range.
    DataError
        If the run had no bar.
    """
    record = record_of(strategy, COMPONENT)
    returns = daily_returns(record).tz_localize("UTC")
    reference = _benchmark(record, benchmark, returns.index)
    year = check_periods_per_year(COMPONENT, periods_per_year, returns.index)
    worst = worst_moment(record)
    uses = limit_uses(record, worst)
    journal, lines = journal_block(record.decisions)
    context = {
        "title": title or record.strategy,
        "headline": headline(record, returns),
        "record": record,
        "mode": MODES[record.mode],
        "period": (returns.index[0], returns.index[-1]),
        "year": year,
        "figures": _figures(returns, year, reference),
        "months": months(returns),
        "prices": price_charts(record),
        "equity": equity_chart(record, reference),
        "uses": uses,
        "use": use_chart(record, uses),
        "margin": record.margin,
        "margin_chart": margin_chart(record),
        "margin_rows": margin_rows(record.margin) if record.margin else [],
        "exposure": exposure_chart(record),
        "correlation": _correlation(record, worst),
        "multiples": multiples_of(record.trades["r_multiple"]),
        "losses": loss_rows(record.losses),
        "loss_causes": loss_causes(record.losses),
        "loss_figures": loss_figures(record.losses) if record.losses.trades else {},
        "loss_notes": record.losses.sentences(),
        "kelly": kelly_chart(record),
        "screened": {title: screened_names(rows) for title, rows in record.screened.items()},
        "decided": count_decisions(record.decisions),
        "journal": journal,
        "journal_lines": lines,
        "columns": [*JOURNAL_COLUMNS, *JOURNAL_NUMBERS],
        "policy": policy_rows(record.policy, record),
        "sheet": full_sheet(*pyfolio_inputs(record), reference, year) if pyfolio else None,
    }
    return write_page(Path(path), "page.html", context)


def _benchmark(
    record: RunRecord, benchmark: pd.Series | str | None, days: pd.DatetimeIndex
) -> pd.Series | None:
    """Return the benchmark's daily returns on the days of the run; days without one are 0."""
    if benchmark is None:
        return None
    if isinstance(benchmark, str):
        if benchmark not in record.names:
            constraint = f"a Series of daily returns, or one of {', '.join(record.names)}"
            raise ParameterError(COMPONENT, "benchmark", constraint, benchmark)
        closes = record.closes[benchmark]
        closes = closes.groupby(closes.index.normalize()).last().dropna()
        benchmark = closes.pct_change().fillna(0.0).rename(benchmark)
    if not isinstance(benchmark, pd.Series) or not isinstance(benchmark.index, pd.DatetimeIndex):
        constraint = "a Series of daily returns by time, or the name of a data feed"
        raise ParameterError(COMPONENT, "benchmark", constraint, type(benchmark).__name__)
    index = benchmark.index
    index = index.tz_localize("UTC") if index.tz is None else index.tz_convert("UTC")
    aligned = benchmark.set_axis(index.normalize()).reindex(days)
    if not aligned.notna().any():
        remedy = "Its days must be days of the run."
        constraint = f"known between {days[0]:%Y-%m-%d} and {days[-1]:%Y-%m-%d}"
        raise ParameterError(COMPONENT, "benchmark", constraint, "no such day", remedy)
    return aligned.fillna(0.0)


def _figures(
    returns: pd.Series, year: float, reference: pd.Series | None
) -> tuple[list[tuple[str, float, str]], dict[str, tuple[float, str]] | None]:
    """Return name, value and text of each figure, and those of the benchmark by name."""
    found = figures(returns, year, reference)
    own = [(name, value, _figure(name, value)) for name, value in found.items()]
    if reference is None:
        return own, None
    other = figures(reference, year)
    return own, {name: (value, _figure(name, value)) for name, value in other.items()}


def _figure(name: str, value: float) -> str:
    return format_number(value, "{:,.2%}" if name in PERCENT else "{:,.2f}")


def _correlation(record: RunRecord, found: WorstMoment | None) -> dict[str, Any] | None:
    """Return the correlations at the worst moment, with a caption; None without one."""
    if found is None:
        return None
    names, cells = correlation_table(found)
    limit = record.limits.get("CorrelationLimit", math.inf)
    limit_text = f", limit {limit:.2f}" if math.isfinite(limit) else ""
    caption = (
        f"{found.time:%Y-%m-%d %H:%M}: {found.pair[0]} and {found.pair[1]} had a signed "
        f"correlation of {found.value:.2f}{limit_text}. Computed whenever a position opens, closes "
        "or changes sides, and at each month's end; positive is the same bet twice, negative a "
        "hedge. The cap judges entries: the correlation of open positions may drift above it."
    )
    if len(names) < len(found.matrix):
        caption += f" Of {len(found.matrix)} names the {len(names)} with the highest are shown."
    return {"names": names, "cells": cells, "caption": caption}
