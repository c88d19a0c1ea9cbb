"""StoreReport: what the checks of a store have seen, and the settings that follow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from bt_risk.live.store_settings import StoreSettings

__all__ = ["FAIL", "NOT_TESTED", "PASS", "Row", "StoreReport"]

PASS, FAIL, NOT_TESTED = "pass", "fail", "not tested"


@dataclass(frozen=True)
class Row:
    """One check: what was checked, how it ended, what was seen, and what to set."""

    check: str
    result: str
    seen: str


@dataclass
class StoreReport:
    """What `check_store` has found out about a store.

    Attributes
    ----------
    store : str
        The class of the broker.
    rows : list of Row
        All checks, in the order in which they were made.
    settings : StoreSettings
        The settings that `protect` needs with this store.
    left : list of str
        What the checks have opened and could not close: look at the venue.
    """

    store: str
    rows: list[Row] = field(default_factory=list)
    settings: StoreSettings = field(default_factory=StoreSettings)
    left: list[str] = field(default_factory=list)

    @property
    def failed(self) -> list[Row]:
        """Return the checks that have failed."""
        return [row for row in self.rows if row.result == FAIL]

    @property
    def passed(self) -> bool:
        """Return whether no check has failed and nothing is left at the venue."""
        return not self.failed and not self.left

    def row(self, check: str) -> Row:
        """Return the row of a check by its name."""
        return next(row for row in self.rows if row.check == check)

    def count(self, result: str) -> int:
        """Return how many checks have ended with a result."""
        return sum(row.result == result for row in self.rows)

    def summary(self) -> str:
        """Return the numbers of all results in words."""
        counts = (f"{self.count(result)} {result}" for result in (PASS, FAIL, NOT_TESTED))
        return f"{self.store}: {', '.join(counts)}"

    def to_toml(self, path: str | Path | None = None) -> str:
        """Return the settings as TOML, with what has failed above, and write it to `path`."""
        text = self.settings.to_toml(tuple(self._comments()))
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    def _comments(self) -> Iterable[str]:
        yield f"bt-risk doctor, {self.summary()}"
        for row in self.failed:
            yield f"{row.check}: {' '.join(row.seen.split())}"
        for sentence in self.left:
            yield f"left at the venue: {sentence}"
