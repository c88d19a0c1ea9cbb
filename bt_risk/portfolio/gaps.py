"""The gaps between the bars of instruments, collected as bars close."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from bt_risk.rules.gaps import GapWindow

if TYPE_CHECKING:
    from bt_risk.portfolio.book import Book
    from bt_risk.portfolio.instrument import Instrument

__all__ = ["note_gaps", "track_gaps"]


def track_gaps(book: Book, window: int) -> None:
    """Collect the gaps of every instrument from now on; the longest window counts.

    Of the copies of one instrument only the first collects any: it has the most bars.
    """
    book.tracks_gaps = True
    for one in book.instruments:
        if one.lead is one and (one.gaps is None or one.gaps.window < window):
            one.gaps = GapWindow(window, one.stop_rule[0])


def note_gaps(fresh: Iterable[Instrument]) -> None:
    """Add the bars that have just closed; a bar that is not believed yet is left out."""
    for one in fresh:
        gaps, ago = one.gaps, one.forming
        close = one.closed
        if gaps is None or one.repeats or one.suspect or close != close or one.length <= ago:
            continue
        first = one.open
        opened = close if first is None else first.array[first._idx - ago]
        gaps.update(opened, one.top, one.bottom, close)
