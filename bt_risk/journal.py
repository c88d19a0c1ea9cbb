"""One line for every decision: what was asked, what was allowed, and why."""

import logging
import math
from collections import Counter
from dataclasses import replace

import backtrader as bt
import pandas as pd

__all__ = ["FIELDS", "Journal", "QuietAnalyzer", "RiskJournal"]

FIELDS = (
    "time",
    "data",
    "rule",
    "action",
    "requested",
    "allowed",
    "measured",
    "limit",
    "reason",
)

_log = logging.getLogger("bt_risk")

# What a user should hear about without asking; the rest is in the journal.
_LOUD = {"halt", "reduce", "resume", "open", "starved", "unprotected"}
_LOUD |= {"emulated", "equity", "stale", "doubt"}


class Journal:
    """The decisions of one run, oldest first, as tuples of `FIELDS`, and its closed trades.

    Actions: ``allow``, ``trim`` and ``reject`` judge an order; ``exit`` passes a reducing order
    that would have been lost; ``stop`` is a protective stop that filled; ``halt``, ``flat`` and
    ``rearm`` belong to the breaker; ``halt``, ``reduce``, ``resume``, ``flat`` and ``open`` (what a
    run that a signal has ended leaves open) to the kill switch; ``starved`` to the sizer;
    ``unprotected`` says that a position has no stop, ``emulated`` that this process is its stop;
    ``equity``, ``stale`` and ``doubt`` that the account, a data or an order is not to be trusted;
    ``note`` says what a user may wonder about. What is loud is logged as a warning, and passed to
    `tell` as one sentence.

    A `quiet` journal logs nothing as a warning: in observe mode nothing has happened.
    """

    def __init__(self, quiet=False, tell=None):
        self.quiet, self.tell = quiet, tell
        self.lines = []
        self.trades = []

    def record(
        self,
        time,
        data,
        rule,
        action,
        requested=math.nan,
        allowed=math.nan,
        measured=math.nan,
        limit=math.nan,
        reason="",
    ):
        """Add one line; sizes are unsigned units, `time` is a Backtrader date number."""
        # With exactbars prices are numpy scalars, which are no plain values to a reader.
        numbers = [float(n) for n in (requested, allowed, measured, limit)]
        self.lines.append((float(time), data, rule, action, *numbers, reason))
        loud = action in _LOUD and not self.quiet
        level = logging.WARNING if loud else logging.DEBUG
        if _log.isEnabledFor(level):
            _log.log(level, "%s", _sentence(time, data, action, reason))
        if loud and self.tell is not None:
            self.tell(_sentence(time, data, action, reason))


def _sentence(time, data, action, reason):
    when = bt.num2date(time).isoformat(" ", "seconds") if time == time else "before start"
    where = f" {data}" if data else ""
    return f"{when}{where} {action} {reason}"


class QuietAnalyzer(bt.Analyzer):
    """An analyzer that asks neither for cash nor for value: fewer calls on every bar."""

    def _notify_cashvalue(self, cash, value):
        """Nothing: it has no children either."""

    def _notify_fund(self, cash, value, fundvalue, shares):
        """Nothing: it has no children either."""


class RiskJournal(QuietAnalyzer):
    """Give the strategy's user every decision of the gate.

    Params:

      - ``path`` (default: ``None``) CSV file to write at the end of the run

    get_analysis:

      - ``decisions``: a list of dicts with the keys time (a naive UTC datetime), data, rule,
        action, requested, allowed, measured, limit, reason (sizes in units, ratios as fractions)
      - ``counts``: how many decisions by (rule, action)
    """

    params = dict(path=None)

    def __init__(self):
        self._journal = None

    def start(self):
        """Begin with the journal of this run's gate."""
        self._find()

    def _find(self):
        self._journal = getattr(self.strategy.broker, "journal", None) or Journal()

    def stop(self):
        """Keep plain values only, so that optimisations can send them between processes."""
        self._find()
        kept = Journal()
        kept.lines = list(self._journal.lines)
        kept.trades = [replace(trade, owner=None) for trade in self._journal.trades]
        self._journal = kept
        if self.p.path is not None:
            self.to_csv(self.p.path)

    def get_analysis(self):
        """Return the decisions and their counts."""
        decisions = [dict(zip(FIELDS, line, strict=True)) for line in self._lines()]
        for decision in decisions:
            time = decision["time"]
            decision["time"] = bt.num2date(time) if time == time else None
        return {"decisions": decisions, "counts": self.counts()}

    def counts(self):
        """Return a Counter of (rule, action)."""
        return Counter((line[2], line[3]) for line in self._lines())

    def frame(self):
        """Return the decisions as a DataFrame, times as naive UTC timestamps."""
        frame = pd.DataFrame(self._lines(), columns=list(FIELDS))
        frame["time"] = _timestamps(frame["time"])
        return frame

    def to_csv(self, path):
        """Write the decisions to a CSV file."""
        self.frame().to_csv(path, index=False)

    def to_jsonl(self, path):
        """Write the decisions to a file with one JSON object on each line."""
        self.frame().to_json(path, orient="records", lines=True, date_format="iso")

    def trades(self):
        """Return the closed trades, flat to flat: net P&L in currency and in R."""
        columns = ["data", "side", "opened", "closed", "size", "pnl", "r_multiple"]
        trades = self._journal.trades if self._journal else []
        rows = [
            (t.instrument, t.side, t.opened, t.closed, t.size, t.pnl, t.r_multiple) for t in trades
        ]
        frame = pd.DataFrame(rows, columns=columns)
        frame["opened"], frame["closed"] = _timestamps(frame.opened), _timestamps(frame.closed)
        return frame

    def r_multiples(self):
        """Return the net result of every closed trade in multiples of what it risked.

        It is what `HalfKellySizer(history=...)` takes. Trades without a known stop distance are
        left out.
        """
        return self.trades()["r_multiple"].dropna().tolist()

    def _lines(self):
        return self._journal.lines if self._journal else []


def _timestamps(numbers):
    return pd.to_datetime([bt.num2date(n) if n == n else pd.NaT for n in numbers]).round("ms")
