"""What limits need of the last bars of instruments: closes, and the gaps between bars."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from bt_risk.rules.gaps import GapWindow

if TYPE_CHECKING:
    from bt_risk.portfolio.book import Book
    from bt_risk.portfolio.instrument import Instrument

__all__ = ["note_bars", "track_closes", "track_gaps"]


def track_gaps(book: Book, window: int) -> None:
    """Collect the gaps of every instrument from now on; the longest window counts.

    Of the copies of one instrument only the first collects any: it has the most bars.
    """
    book.notes_bars = True
    for one in book.instruments:
        if one.lead is one and (one.gaps is None or one.gaps.window < window):
            one.gaps = GapWindow(window, one.stop_rule[0])


def track_closes(book: Book, count: int) -> None:
    """Keep so many closes of every instrument from now on: see `Instrument.last_closes`."""
    book.notes_bars = True
    for one in book.instruments:
        if one.lead is one:
            one.keep_closes(count)


def note_bars(fresh: Iterable[Instrument]) -> None:
    """Add the bars that have just closed; a bar that is not believed yet is left out.

    Instruments whose bars are all loaded read them when somebody asks.
    """
    for one in fresh:
        if one.loaded or one.repeats or one.suspect or one.length <= one.forming:
            continue
        gaps, kept, close = one.gaps, one.kept, one.closed
        if close != close:
            continue
        if kept is not None:
            kept.append(close)
        if gaps is not None:
            first = one.open
            opened = close if first is None else first.array[first._idx - one.forming]
            gaps.update(opened, one.top, one.bottom, close)
