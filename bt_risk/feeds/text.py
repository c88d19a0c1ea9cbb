"""Text files as tables: encoding, separator, lines before the names, values without names."""

from __future__ import annotations

import csv
import io
import re
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from bt_risk.errors import DataError
from bt_risk.feeds.formats import PRICES, Layout, bare_layout
from bt_risk.feeds.packed import text_bytes
from bt_risk.feeds.pandas_versions import EXACT

__all__ = ["Text", "open_text"]

SNIFFED = 1 << 16  # bytes
LEADING = 10  # lines
MIN_CELLS = 4
SEPARATORS = "\t;|,"  # where two are as frequent: the comma is a decimal mark
DATE = re.compile(r"\d[\d./:-]{5,}([ T].*)?$")
TICKER_TIMES = ("date", "datetime")


@dataclass(frozen=True)
class Text:
    """A text file, and how its lines are to be read."""

    content: bytes
    encoding: str
    separator: str
    skipped: int  # lines
    names: tuple[str, ...] | None = None  # where they are not in the first line that is read
    layout: Layout | None = None

    def table(self, **options: Any) -> pd.DataFrame:
        """Return the content with the line of each row as its index; pandas reads it."""
        if self.names is not None:
            options |= dict(header=None, names=list(self.names))
        with warnings.catch_warnings():
            # More values in a line than there are names: pandas drops them with a warning.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            try:
                table = pd.read_csv(
                    io.BytesIO(self.content),
                    sep=self.separator,
                    encoding=self.encoding,
                    skiprows=self.skipped,
                    skip_blank_lines=False,
                    index_col=False,
                    low_memory=False,
                    **EXACT,
                    **options,
                )
            except pd.errors.ParserWarning as error:
                raise ValueError(
                    "the lines have more values than the first line has names"
                ) from error
        first = self.skipped + 1 + (self.names is None)
        table.index = pd.RangeIndex(first, first + len(table), name="line")
        return table.dropna(how="all")


def open_text(path: Path, names: tuple[str, ...] | None = None) -> Text:
    """Read a file and find out how its lines are to be read; `names` are those of the caller."""
    content = text_bytes(path)
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    head = content[:SNIFFED].decode(encoding, errors="ignore").splitlines()[:LEADING]
    declared = re.match(r'"?sep=(.)', head[0]) if head else None
    start, separator = _first_line(head, declared[1] if declared else None)
    text = Text(content, encoding, separator, start)
    if start == len(head):
        return text
    return _named(path, text, names, [_cells(line, separator) for line in head[start : start + 3]])


def _first_line(head: list[str], declared: str | None) -> tuple[int, str]:
    """Return the first line that holds names or values, and the separator; Excel declares it."""
    full = None
    for row, line in enumerate(head):
        if not line.strip() or (declared and not row):
            continue
        separator = declared or max(SEPARATORS, key=line.count)
        if sum(map(bool, _cells(line, separator))) >= MIN_CELLS:
            return row, separator
        # A line of few cells is a title, or the names of a file that lacks columns.
        full = full or (row, separator)
    return full or (len(head), ",")


def _named(path: Path, text: Text, names: tuple[str, ...] | None, lines: list[list[str]]) -> Text:
    """Return `text` with the names that its first line does not hold; `lines` starts with it."""
    cells, below = lines[0], lines[1:]
    count = [str(place) for place in range(len(cells))]
    numbered = bool(below) and cells == ["", *count[:-1]]  # pandas has saved the index too
    counted = numbered or (bool(below) and cells == count)
    if names is not None:
        kept = any(map(_is_number, cells)) and not counted  # names hold no number
        return replace(text, names=names, skipped=text.skipped + (not kept))
    if counted or _is_bar(cells):
        layout = bare_layout(below[0][int(numbered) :] if counted else cells)
        if layout is None:
            raise DataError(
                f"read_prices: {path} must have names in its first line, as the order of its "
                f"{len(cells)} columns is not known; got {text.separator.join(cells)!r}. Give "
                f"columns=['datetime', 'open', 'high', 'low', 'close', ...]."
            )
        names = (*(["row"] if numbered else []), *layout.columns)
        return replace(text, names=names, layout=layout, skipped=text.skipped + counted)
    if len(below) == 2 and _names_the_index(below[1]):
        titles, second = cells, below[0]
        if {name.lower() for name in second} >= set(PRICES):  # grouped by ticker
            titles, second = second, titles
        tickers = sorted(set(filter(None, second[1:])))
        if len(tickers) > 1:
            raise DataError(
                f"read_prices: {path} must hold one instrument; got {len(tickers)} "
                f"({', '.join(tickers[:5])}). Write a file for each."
            )
        layout = Layout("yfinance", ("date", *titles[1:]))
        return replace(text, names=layout.columns, layout=layout, skipped=text.skipped + 3)
    return text


def _cells(line: str, separator: str) -> list[str]:
    """Return the values of a line; an empty one at its end is no value."""
    cells = [cell.strip() for cell in next(csv.reader([line], delimiter=separator), [])]
    return cells[:-1] if cells and not cells[-1] else cells


def _is_bar(cells: list[str]) -> bool:
    """Return whether a line holds values: a time, and numbers or times of day after it."""
    if len(cells) < MIN_CELLS:
        return False
    first = _is_number(cells[0]) or DATE.match(cells[0]) is not None
    return first and all(_is_number(c) or re.match(r"\d{1,2}:\d\d", c) for c in cells[1:])


def _is_number(text: str) -> bool:
    """Return whether `text` reads as a number, with a comma or a point."""
    return re.fullmatch(r"[+-]?[\d.,]*\d[\d.,]*(e[+-]?\d+)?", text, re.IGNORECASE) is not None


def _names_the_index(cells: list[str]) -> bool:
    """Return whether a line holds the name of an index of pandas and nothing else."""
    return bool(cells) and cells[0].lower() in TICKER_TIMES and not any(cells[1:])
