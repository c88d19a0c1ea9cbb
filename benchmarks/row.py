"""Row: one line of the table, and its cells as text."""

from dataclasses import asdict, astuple, dataclass

from benchmarks.timing import Spread

__all__ = ["COLUMNS", "Row", "number"]

COLUMNS = ("work", "run", "ratio", "spread", "to", "goal", "CPU time", "calls", "note")


@dataclass(frozen=True)
class Row:
    """What one run has cost.

    Attributes
    ----------
    part, work, run : str
        The part of the benchmarks, the job, and the way it was done.
    ratio : Spread, optional
        CPU time of this run by that of `to`, over the rounds.
    goal : float, optional
        The highest ratio that is acceptable, or the most seconds where there is `more`.
    seconds : float, optional
        CPU time of one `unit`, the median.
    more : Spread, optional
        CPU time of one `unit` beyond that of `to`, in seconds.
    calls : float, optional
        Function calls of one `unit`.
    size : int, optional
        The number of bars, where rows differ by that.
    count, value : int, float, optional
        The number of trades or orders of an engine, and its final value.
    note : str
        What this run computes and what it does not, or why there is no figure.
    """

    part: str
    work: str
    run: str
    ratio: Spread | None = None
    to: str = ""
    goal: float | None = None
    seconds: float | None = None
    unit: str = "bar"
    calls: float | None = None
    size: int | None = None
    count: int | None = None
    value: float | None = None
    more: Spread | None = None
    note: str = ""

    @property
    def missed(self):
        """Whether the ratio, or the time, is above the goal."""
        measured = self.more or self.ratio
        return self.goal is not None and measured is not None and measured.median > self.goal

    def cells(self):
        """Return the cells of the columns as text."""
        ratio = self.ratio
        return (
            self.work,
            self.run,
            number(ratio.median) if ratio else "",
            f"{number(ratio.low)}-{number(ratio.high)}" if ratio and ratio.low < ratio.high else "",
            self.to,
            self._goal(),
            self._time(),
            f"{self.calls:,.0f}" if self.calls is not None else "",
            self.note,
        )

    def _goal(self):
        if self.goal is None:
            return ""
        goal = f"{1e6 * self.goal:.2f} us" if self.more else f"{self.goal:.2f}"
        return goal + (" missed" if self.missed else "")

    def _time(self):
        if self.more is not None:
            median, low, high = (f"{1e6 * one:+.2f}" for one in astuple(self.more))
            return f"{median} us a {self.unit}" + (f" ({low} to {high})" if low != high else "")
        return f"{duration(self.seconds)} a {self.unit}" if self.seconds is not None else ""

    @classmethod
    def of(cls, record):
        """Return the row that `record` gives."""
        spreads = {name: record.get(name) for name in ("ratio", "more")}
        return cls(**record | {name: one and Spread(**one) for name, one in spreads.items()})

    def record(self):
        """Return the row as JSON has it, with six digits."""
        return asdict(self, dict_factory=lambda pairs: {key: _short(one) for key, one in pairs})


def _short(value):
    return float(f"{value:.6g}") if isinstance(value, float) and abs(value) < 1e5 else value


def number(value):
    """Return a ratio as text."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def duration(seconds):
    """Return a time in the unit that suits it."""
    for factor, unit in ((1.0, "s"), (1e3, "ms")):
        if seconds * factor >= 1.0:
            return f"{seconds * factor:,.3g} {unit}"
    return f"{1e6 * seconds:,.3g} us"
