"""RiskJournal: every decision of the gate as list, frame or file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import backtrader as bt
import pandas as pd

from bt_risk.components.quiet_analyzer import QuietAnalyzer
from bt_risk.components.run_settings import run_settings
from bt_risk.errors import check_output
from bt_risk.gate.journal import FIELDS, Journal
from bt_risk.portfolio.position import with_owner
from bt_risk.rules.loss_distribution import LossDistribution, loss_distribution
from bt_risk.state.journal_file import is_journal_file, write_journal

__all__ = ["RiskJournal"]


class RiskJournal(QuietAnalyzer):
    """Report every decision of the gate.

    Params:

      - ``path`` (default: ``None``) file to write at the end of the run: CSV, or where its name
        ends in ``.db`` one whose lines have hashes, for ``bt-risk verify``; points of an
        optimisation write none of that kind, and `to_db` does

    get_analysis:

      - ``decisions``: a list of dicts with the keys time (a naive UTC datetime), data, rule,
        action, requested, allowed, measured, limit, reason (sizes in units, ratios as fractions)
      - ``counts``: number of decisions by (rule, action)
    """

    params = dict(path=None)
    analysis_only_answers = True

    def __init__(self) -> None:
        if self.p.path is not None:
            check_output("RiskJournal", "path", self.p.path)
        self._journal: Journal | None = None
        self._inputs: list[tuple[int, dict[str, Any]]] = []
        self._names: dict[int, str] = {}

    def start(self) -> None:
        """Begin with the journal of this run's gate."""
        self._find()

    def _find(self) -> Journal:
        journal: Journal = getattr(self.strategy.broker, "journal", None) or Journal()
        self._journal = journal
        return journal

    def stop(self) -> None:
        """Copy the journal as plain values, so that optimisations can send it between processes."""
        silence = getattr(self.strategy.broker, "silence", None)
        if silence is not None:
            silence.check()  # the last line that a strategy may get
        journal, copy = self._find(), Journal()
        copy.lines = list(journal.lines)
        copy.trades = [with_owner(trade, None) for trade in journal.trades]
        self._journal = copy
        self._keep_inputs(journal)
        if is_journal_file(self.p.path):
            if not self.strategy.cerebro._dooptimize:  # the points would replace each other's
                self.to_db(self.p.path)
        elif self.p.path is not None:
            self.to_csv(self.p.path)

    def _keep_inputs(self, journal: Journal) -> None:
        """Copy what the decisions depend on, where the gate has recorded it."""
        gate = self.strategy.broker
        inputs = getattr(gate, "inputs", None)
        if inputs is not None:
            run = run_settings(gate, self._policy_text())
            self._inputs = [*inputs.rows, (len(journal.lines), run)]
            names = {line: inputs.number_of(ref) for line, ref in journal.orders.items()}
            self._names = {line: f"request-{number}" for line, number in names.items() if number}

    def _policy_text(self) -> str | None:
        """Return the policy of the run as TOML: only `protect` has one."""
        return None

    def get_analysis(self) -> dict[str, Any]:
        """Return the decisions and their counts."""
        decisions = [dict(zip(FIELDS, line, strict=True)) for line in self.rows()]
        for decision in decisions:
            time = decision["time"]
            decision["time"] = bt.num2date(time) if time == time else None
        return {"decisions": decisions, "counts": self.counts()}

    def counts(self) -> Counter[tuple[str, str]]:
        """Return the number of decisions by (rule, action)."""
        return Counter((line[2], line[3]) for line in self.rows())

    def _repr_html_(self) -> str:
        """Return the decisions as a table, for a notebook."""
        html: str = self.frame()._repr_html_()
        return html

    def rows(self) -> list[tuple[Any, ...]]:
        """Return the decisions as tuples, times as Backtrader's date numbers."""
        return self._journal.lines if self._journal else []

    def frame(self) -> pd.DataFrame:
        """Return the decisions as a DataFrame, times as naive UTC timestamps."""
        frame = pd.DataFrame(self.rows(), columns=list(FIELDS))
        frame["time"] = _timestamps(frame["time"])
        return frame

    def to_csv(self, path: str | Path) -> None:
        """Write the decisions to a CSV file."""
        self.frame().to_csv(path, index=False)

    def to_db(self, path: str | Path) -> None:
        """Write the decisions to an SQLite file with a hash for each: see `verify`."""
        write_journal(path, self.rows(), self._names, self._inputs)

    def to_jsonl(self, path: str | Path) -> None:
        """Write the decisions to a file with one JSON object on each line."""
        self.frame().to_json(path, orient="records", lines=True, date_format="iso")

    def trades(self) -> pd.DataFrame:
        """Return the closed trades, flat to flat: net P&L in currency and in R."""
        columns = ["data", "side", "opened", "closed", "size", "pnl", "r_multiple"]
        trades = self._journal.trades if self._journal else []
        rows = [
            (t.instrument, t.side, t.opened, t.closed, t.size, t.pnl, t.r_multiple) for t in trades
        ]
        frame = pd.DataFrame(rows, columns=columns)
        frame["opened"], frame["closed"] = _timestamps(frame.opened), _timestamps(frame.closed)
        return frame

    def r_multiples(self) -> list[float]:
        """Return the net result of every closed trade in multiples of the amount it risked.

        `HalfKellySizer(history=...)` takes them. Trades without a known stop distance are left out.
        """
        multiples: list[float] = self.trades()["r_multiple"].dropna().tolist()
        return multiples

    def losses(self) -> LossDistribution:
        """Return how many closed trades lost more than they risked, and why."""
        return loss_distribution(trade.loss for trade in (self._journal or Journal()).trades)


def _timestamps(numbers: Iterable[float]) -> Any:
    return pd.to_datetime([bt.num2date(n) if n == n else pd.NaT for n in numbers]).round("ms")
