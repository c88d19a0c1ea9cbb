"""The page of a run that is going on: what its state file says, written again and again."""

import math
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from bt_risk.errors import ParameterError, check_output, check_positive
from bt_risk.gate.journal import FIELDS
from bt_risk.orders import ACTIVE
from bt_risk.report.calendar import timestamps
from bt_risk.report.line_charts import BLUE, Chart, LineChart
from bt_risk.report.page import write_page
from bt_risk.report.state_summary import Summary, losses_of, summary_of
from bt_risk.report.tables import (
    JOURNAL_COLUMNS,
    JOURNAL_NUMBERS,
    journal_block,
    loss_causes,
    loss_rows,
    multiples_of,
)
from bt_risk.report.times import duration, utc
from bt_risk.state.file import Record, read_state

__all__ = ["live"]

COMPONENT = "report.live"
LATE = 30.0  # seconds without a heartbeat after which a loop may hang
LINES = 2_000  # of the journal


def live(
    state: str | os.PathLike[str],
    path: str | os.PathLike[str] | None = None,
    seconds: float = 5.0,
    goes_on: Callable[[], bool] = lambda: True,
) -> Path:
    """Write the page of a state file every few seconds, until Ctrl-C; only read the state.

    The page is one file without network, like the tear sheet. A browser that has it open loads it
    again by itself, and says so when nobody writes it any more. What a state file does not save,
    such as prices, is not on it.

    Parameters
    ----------
    state : str or path
        The state file of a run: `bt_risk.protect(cerebro, state=...)`.
    path : str or path, optional
        File to write; that of the state with ``.html`` behind it when left out.
    seconds : float, default 5
        Time between two pages.
    goes_on : callable, optional
        Asked after each page; writing ends when it returns False.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    StateError
        If the state cannot be read for the first page; later it is read again the next time.
    ParameterError
        If the path is not that of a file that can be written, or is that of the state itself.
    """
    source = Path(state)
    target = check_output(COMPONENT, "path", f"{source}.html" if path is None else path)
    check_positive(COMPONENT, "seconds", seconds)
    if target.absolute() == source.absolute():
        raise ParameterError(COMPONENT, "path", "another file than the state", str(target))
    try:
        _write(source, target, seconds)
        while goes_on():
            time.sleep(seconds)
            _write(source, target, seconds)
    except KeyboardInterrupt:
        pass
    return target


def _write(source: Path, target: Path, seconds: float) -> None:
    """Write the page at once: a browser never loads half of it."""
    part = target.with_name(f"{target.name}.part")
    write_page(part, "live.html", _context(source, time.time(), seconds))
    os.replace(part, target)


def _context(source: Path, now: float, seconds: float) -> dict[str, Any]:
    saved = read_state(source, LINES)
    status = summary_of(source, saved, now)
    decisions = pd.DataFrame(saved.decisions, columns=list(FIELDS))
    decisions["time"] = timestamps(decisions["time"].astype(float))
    journal, lines = journal_block(decisions)
    trades, losses = list(saved.trades.values()), losses_of(saved)
    return {
        "title": source.name,
        "headline": headline(status),
        "warnings": list(_warnings(status)),
        "status": status,
        "written": now,
        "written_at": utc(now),
        "seconds": seconds,
        "profit": _profit_chart(trades),
        "multiples": multiples_of(pd.Series([one["r_multiple"] for one in trades], dtype=float)),
        "losses": loss_rows(losses),
        "loss_causes": loss_causes(losses),
        "lists": [
            ("Working orders", [_order(one) for one in status["orders"]]),
            ("Unfinished", status["unfinished"]),
            ("Differences from the broker", status["differences"]),
            ("Requests without an answer", [one["verb"] for one in status["requests"]]),
        ],
        "journal": journal,
        "journal_lines": lines,
        "columns": [*JOURNAL_COLUMNS, *JOURNAL_NUMBERS],
    }


def headline(status: Summary) -> str:
    """Return one sentence about a running state."""
    gate = status["gate"]
    reason = "" if gate["state"] == ACTIVE or not gate["reason"] else f" ({gate['reason']})"
    account = status["account"] or {}
    equity = account.get("equity")
    worth = "equity is not known" if equity is None else f"equity is {equity:,.2f}"
    if equity is not None and account["day_pnl"] is not None:
        worth += f", today {account['day_pnl']:+,.2f} ({account['day_return']:+.2%})"
    held, trades = len(status["positions"]), status["closed_trades"]
    return (
        f"The gate is {gate['state']}{reason}; {worth}; {_count(held, 'position')} held, "
        f"{_count(trades, 'trade')} closed."
    )


def _count(number: int, name: str) -> str:
    return f"{number:,} {name}{'' if number == 1 else 's'}"


def _warnings(status: Summary) -> Iterable[str]:
    """Yield what whoever opens the page must read first."""
    if status["incomplete"]:
        yield f"INCOMPLETE: {status['incomplete']}. The next run refuses entries until `rearm`."
    beat = status["heartbeat"]
    if status["process"] is None:
        when = f" Its loop ran last at {beat['time']} UTC." if beat else ""
        yield f"No run has this state open.{when}"
    elif beat is not None and beat["age"] > LATE:
        yield f"The loop ran last {duration(beat['age'])} ago: it may hang."
    if status["kill_file"]:
        yield "The kill file is there: everything is closed when it is taken."
    if status["unknown"] == ["*"]:
        yield "Positions are not known: no run has asked the broker yet."
    elif status["unknown"]:
        yield f"Positions that the broker has not confirmed: {', '.join(status['unknown'])}."


def _order(order: Record) -> str:
    price = "" if order["price"] is None else f" at {order['price']:g}"
    return f"{order['size']:+g} {order['data']} ({order['kind']}{price})"


def _profit_chart(trades: list[Record]) -> Chart | None:
    """Draw the profit of closed trades, added up; None without one."""
    frame = pd.DataFrame(
        {
            "time": timestamps([one["closed"] for one in trades]),
            "pnl": [one["pnl"] for one in trades],
        }
    )
    frame = frame[frame["time"].notna()].sort_values("time", kind="stable")
    if frame.empty:
        return None
    total = frame["pnl"].astype(float).cumsum()
    chart = LineChart(frame["time"])
    chart.pane("profit of closed trades, added up", "money")
    chart.line("profit", total, BLUE, steps=True, fill=True)
    last = float(total.iloc[-1])
    known = f"{last:+,.2f}" if math.isfinite(last) else "an unknown sum"
    return chart.chart(f"{_count(len(frame), 'closed trade')}, together {known}.")
