"""The tear sheet: one self-contained HTML file with the result of a run and of its rules."""

import json
import math
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import backtrader as bt
import jinja2
import pandas as pd
from plotly.offline import get_plotlyjs

from bt_risk.errors import ParameterError
from bt_risk.report import charts
from bt_risk.report.calendar import check_periods_per_year
from bt_risk.report.labels import count_decisions
from bt_risk.report.pyfolio import pyfolio_inputs
from bt_risk.report.pyfolio_sheet import full_sheet
from bt_risk.report.record import RunRecord, record_of
from bt_risk.report.statistics import figures

__all__ = ["embedded_chart", "policy_rows", "tear_sheet", "write_page"]

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
COLUMNS = ["time", "data", "rule", "action", "requested", "allowed", "measured", "limit", "reason"]


def tear_sheet(
    strategy: bt.Strategy | RunRecord,
    path: str | Path,
    benchmark: pd.Series | str | None = None,
    *,
    periods_per_year: float | None = None,
    title: str | None = None,
) -> Path:
    """Write pyfolio's full tear sheet and that of bt_risk into one self-contained HTML file.

    Parameters
    ----------
    strategy : Strategy
        As ``cerebro.run()`` returns it, run with `bt_risk.ReportData`; for a run without a gate
        the page has no decisions.
    path : str or path
        File to write; its folder is made.
    benchmark : Series or str, optional
        Simple daily returns by day, or the name of a data feed of the run.
    periods_per_year : float, optional
        Days a year that returns are annualised with: 365 for a market that never closes, 252 for
        stocks; derived from the days of the run when left out.
    title : str, optional
        Heading; the strategy's name when left out.

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
    returns, positions, transactions = pyfolio_inputs(record)
    reference = _benchmark(record, benchmark, returns.index)
    year = check_periods_per_year(COMPONENT, periods_per_year, returns.index)
    path = Path(path)
    arrays: dict[str, Any] = {}
    context = {
        "title": title or record.strategy,
        "record": record,
        "mode": MODES[record.mode],
        "period": (returns.index[0], returns.index[-1]),
        "year": year,
        "figures": _figures(returns, year, reference),
        "months": _months(returns),
        "charts": _charts(record, reference, arrays),
        "prices": {
            name: embedded_chart(charts.price_chart(record, name), arrays) for name in record.names
        },
        "arrays": arrays,
        "decided": count_decisions(record.decisions),
        "journal": _journal(record.decisions),
        "columns": COLUMNS,
        "policy": policy_rows(record.policy, record),
        "sheet": full_sheet(returns, positions, transactions, reference, year),
    }
    return write_page(path, "page.html", context)


def write_page(path: Path, template: str, context: dict[str, Any]) -> Path:
    """Render a template of this folder with the scripts of every page; return the path."""
    common = {
        "plotly": get_plotlyjs(),
        "style": _asset("page.css"),
        "script": _asset("page.js"),
    }
    text = _environment().get_template(template).render(common | context)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_asset),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["embedded"] = _embedded
    environment.filters["percent"] = lambda value: _formatted(value, "{:,.2%}")
    return environment


def _asset(name: str) -> str:
    return files("bt_risk.report").joinpath(name).read_text(encoding="utf-8")


def _embedded(value: Any) -> str:
    """Return JSON that cannot end the script element around it."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _formatted(value: float, form: str) -> str:
    return form.format(value) if math.isfinite(value) else "-"


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
    return _formatted(value, "{:,.2%}" if name in PERCENT else "{:,.2f}")


def _months(returns: pd.Series) -> list[tuple[int, list[float | None], float]]:
    """Return the compounded return of each month as rows by year, the year's own last."""
    table = []
    for year, of_year in returns.groupby(returns.index.year):
        months = of_year.groupby(of_year.index.month).apply(_compounded)
        row = [months.get(month) for month in range(1, 13)]
        table.append((year, [None if v is None else float(v) for v in row], _compounded(of_year)))
    return table


def _compounded(returns: pd.Series) -> float:
    return float((1.0 + returns).prod() - 1.0)


def _charts(
    record: RunRecord, reference: pd.Series | None, arrays: dict[str, Any]
) -> dict[str, dict[str, Any] | None]:
    drawn = {
        "equity": charts.equity_chart(record, reference),
        "exposure": charts.exposure_chart(record),
        "kelly": charts.kelly_chart(record),
        "correlation": charts.correlation_chart(record),
        "r": charts.r_multiple_chart(record),
    }
    return {name: embedded_chart(chart, arrays) if chart else None for name, chart in drawn.items()}


def embedded_chart(chart: charts.Chart, arrays: dict[str, Any]) -> dict[str, Any]:
    """Return a figure and its caption as the templates expect them."""
    figure, caption = chart
    return {"figure": _shared(json.loads(figure.to_json()), arrays), "caption": caption}


def _shared(value: Any, arrays: dict[str, Any]) -> Any:
    """Replace every array by its place in `arrays`: most lines share their times."""
    if isinstance(value, list):
        return [_shared(one, arrays) for one in value]
    if not isinstance(value, dict):
        return value
    if "bdata" in value:
        key = json.dumps(value, sort_keys=True)
        return {"shared": arrays.setdefault(key, (len(arrays), value))[0]}
    return {name: _shared(one, arrays) for name, one in value.items()}


def _journal(decisions: pd.DataFrame) -> list[list[Any]]:
    """Return the decisions as rows of plain values, times as text."""
    frame = decisions[COLUMNS].copy()
    frame["time"] = frame["time"].dt.strftime("%Y-%m-%d %H:%M").fillna("")
    numbers = ["requested", "allowed", "measured", "limit"]
    frame[numbers] = frame[numbers].map(lambda value: f"{value:.6g}" if value == value else "")
    return frame.to_numpy().tolist()


def policy_rows(
    policy: Any, record: RunRecord | None = None
) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """Return the rules of a `bt_risk.Policy` with their descriptions, and every parameter.

    A run without a policy has its limits and breakers, and no parameters.
    """
    if policy is not None:
        lines = [line.partition(": ") for line in policy.describe().splitlines()]
        fields = {name: str(value) for name, value in asdict(policy).items()}
        return [(rule, description) for rule, _, description in lines], fields
    if record is None:
        return [], {}
    rows = [
        (name, f"{value:.4g}" if math.isfinite(value) else "no limit")
        for name, value in record.limits.items()
    ]
    rows += [("DrawdownBreaker", f"{b['drawdown_limit']:.4g}") for b in record.breakers]
    return rows, {}
