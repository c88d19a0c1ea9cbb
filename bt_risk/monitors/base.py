"""Monitor: the base of what acts on every bar and every fill."""

from collections.abc import Iterable
from typing import Any

from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.position import OwnerPosition

__all__ = ["Monitor"]


class Monitor:
    """Act on the bars and fills of one gate; a subclass overrides the hooks that it needs.

    `name` is the rule that its lines in the journal bear. A monitor with a `state_kind` is saved
    under that name and restored in the next run.
    """

    name = ""
    state_kind = ""

    def on_fill(self, part: OwnerPosition) -> None:
        """Act on a fill of an owner's position."""

    def on_bar(self, fresh: list[Instrument]) -> None:
        """Act on the instruments that have a new bar; the list may be empty in live mode."""

    def on_missed(self, instruments: list[Instrument]) -> None:
        """Act on instruments whose bars arrived late: they closed before this run could act."""

    def on_end(self) -> None:
        """Finish at the end of the run."""

    def persist(self) -> Iterable[tuple[str, dict[str, Any]]]:
        """Return ``(key, plain values)`` of everything that must survive the process."""
        return ()

    def restore(self, saved: dict[str, dict[str, Any]]) -> None:
        """Go on from the values that `persist` returned in an earlier run, by key."""

    @property
    def final(self) -> bool:
        """Return whether it has tripped for good, so that no operator can re-arm it."""
        return False

    def rearm(self) -> None:
        """Take back what was tripped: entries are judged again."""
