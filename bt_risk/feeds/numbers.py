"""Prices and volumes as people write them: decimal comma, thousands, currency, K, M and B."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from bt_risk.errors import DataError

__all__ = ["check_points", "marks", "plain_numbers"]

BY_COMMAS = r"\D*\d{1,3}(?:,\d{3})+(?:\.\d*)?\D*"
BY_POINTS = r"\D*\d{1,3}(?:\.\d{3})+(?:,\d*)?\D*"
COMMA = r"\D*(?:\d+|\d{1,3}(?:\.\d{3})+),\d*\D*"
SCALES = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}


def marks(
    path: Path,
    frame: pd.DataFrame,
    decimal: str | None,
    grouped: bool,
    written: Callable[[], pd.DataFrame],
) -> tuple[str, str | None]:
    """Return the decimal mark and the mark of thousands of a frame that pandas has read plainly.

    `written` returns the frame as texts; it is called where the commas alone do not say it.

    Raises
    ------
    DataError
        Where 1,234 can be either number and nothing in the file says which.
    """
    text = pd.concat([_texts(frame[name]) for name in frame] or [pd.Series(dtype=str)])
    commas = text[text.str.contains(",", regex=False)]
    if decimal == ",":
        return ",", "."
    if commas.empty:
        return ".", None
    thousands = bool(commas.str.fullmatch(BY_COMMAS).all())
    fraction = bool(commas.str.fullmatch(COMMA).all())
    if thousands and fraction and not grouped and decimal is None:
        if _has_decimal_points(written()):
            return ".", ","
        raise DataError(
            f"read_prices: the comma must be a decimal mark or separate thousands; got "
            f"{commas.iloc[0]!r} in {frame.index.name} {commas.index[0]} of {path}, which can be "
            f"both. Give decimal=',' or decimal='.'."
        )
    if thousands:
        return ".", ","
    return (",", ".") if fraction and decimal is None else (".", None)


def check_points(path: Path, frame: pd.DataFrame) -> None:
    """Refuse a point that separates no thousands in `frame`, the texts of a file of decimal commas.

    Raises
    ------
    DataError
        For the first such value: without this check 10.5 would be read as 105.
    """
    for name in frame:
        text = frame[name].dropna().str.strip()
        pointed = text[text.str.contains(".", regex=False)]
        for line, value in pointed[~pointed.str.fullmatch(BY_POINTS)].items():
            raise DataError(
                f"read_prices: {name} must have a comma as decimal mark, as decimal= or the other "
                f"prices say; got {value!r} in {frame.index.name} {line} of {path}. Repair the "
                f"row, or change decimal=."
            )


def _has_decimal_points(frame: pd.DataFrame) -> bool:
    """Return whether a text has a point that can separate no thousands: 11.00."""
    text = pd.concat([frame[name].dropna().str.strip() for name in frame])
    pointed = text[text.str.contains(".", regex=False) & ~text.str.contains(",", regex=False)]
    return bool((~pointed.str.fullmatch(BY_POINTS)).any())


def _texts(column: pd.Series) -> pd.Series:
    """Return the values of a column that pandas has left as text."""
    if pd.api.types.is_numeric_dtype(column):
        return pd.Series(dtype=str)
    text = column.dropna().astype(str).str.strip()
    return text[pd.to_numeric(text, errors="coerce").isna()]


def plain_numbers(column: pd.Series, decimal: str, thousands: str | None) -> pd.Series:
    """Return a column as numbers: a currency sign goes, K, M, B and T multiply; else NaN."""
    numbers = pd.to_numeric(column, errors="coerce").astype(float)
    left = column[numbers.isna() & column.notna()].astype(str).str.strip()
    if left.empty:
        return numbers
    parts = left.str.extract(r"^[$€£]?\s*([+-]?[\d.,]+(?:[eE][+-]?\d+)?)\s*([KMBTkmbt]?)$")
    digits = parts[0].dropna()
    if thousands:
        digits = digits.str.replace(thousands, "", regex=False)
    digits = digits.str.replace(decimal, ".", regex=False)
    scale = parts[1].str.lower().map(SCALES).fillna(1.0)
    numbers.loc[digits.index] = pd.to_numeric(digits, errors="coerce") * scale[digits.index]
    return numbers
