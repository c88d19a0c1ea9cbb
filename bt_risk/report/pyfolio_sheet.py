"""pyfolio's full tear sheet as tables and pictures, without a notebook and without a screen."""

import base64
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Sheet", "full_sheet", "headless"]

UNITS = 1_000_000  # pyfolio stores one price for each unit of a round trip
DPI = 70


class Sheet:
    """Collect the tables and pictures that pyfolio shows.

    Attributes
    ----------
    tables : list of str
        HTML tables, in pyfolio's order.
    pictures : list of (str, str)
        Title and WebP picture as a data URI.
    notes : list of str
        What was left out, and why.
    """

    def __init__(self) -> None:
        self.tables: list[str] = []
        self.pictures: list[tuple[str, str]] = []
        self.notes: list[str] = []

    def display(self, table: Any) -> None:
        """Add a table that pyfolio displays in a notebook."""
        self.tables.append(table.data)

    def add_picture(self, title: str, figure: "Figure") -> None:
        """Add a figure, and close it."""
        import matplotlib.pyplot as plt

        buffer, height = io.BytesIO(), figure.get_figheight()
        # matplotlib's margins are shares of the figure, hence too large in a high one.
        figure.subplots_adjust(0.07, 0.8 / height, 0.97, 1.0 - 0.6 / height)
        figure.savefig(buffer, format="webp", dpi=DPI, facecolor="white")
        plt.close(figure)
        encoded = base64.b64encode(buffer.getvalue()).decode()
        self.pictures.append((title, f"data:image/webp;base64,{encoded}"))


def full_sheet(
    returns: pd.Series,
    positions: pd.DataFrame,
    transactions: pd.DataFrame | None,
    benchmark: pd.Series | None,
    periods_per_year: float,
) -> Sheet:
    """Return the `Sheet` of `bt_risk.report.pyfolio_inputs`, a benchmark's returns or None.

    It makes the parts of ``create_full_tear_sheet`` one by one, because that divides turnover by
    the average gross position, which gives infinity on a day that ends flat; here turnover is a
    share of equity. Rates are annualised with `periods_per_year`; pyfolio always uses 252.
    """
    sheet = Sheet()
    with _quiet(), headless(), _annualised(periods_per_year), _showing(sheet):
        from pyfolio import tears

        context = {"set_context": True, "return_fig": True}
        figure = tears.create_returns_tear_sheet(
            returns,
            positions=positions,
            transactions=transactions,
            benchmark_rets=benchmark,
            turnover_denom="portfolio_value",
            **context,
        )
        sheet.add_picture("Returns", figure)
        figure = tears.create_interesting_times_tear_sheet(returns, benchmark, **context)
        if figure is not None:
            sheet.add_picture("Interesting times", figure)
        context["estimate_intraday"] = False
        sheet.add_picture(
            "Positions", tears.create_position_tear_sheet(returns, positions, **context)
        )
        if transactions is None:
            sheet.notes.append("Transactions and round trips: there were none.")
            return sheet
        figure = tears.create_txn_tear_sheet(
            returns, positions, transactions, turnover_denom="portfolio_value", **context
        )
        sheet.add_picture("Transactions", figure)
        _round_trips(sheet, returns, positions, transactions, context)
    return sheet


def _round_trips(
    sheet: Sheet,
    returns: pd.Series,
    positions: pd.DataFrame,
    transactions: pd.DataFrame,
    context: dict[str, Any],
) -> None:
    """Add the round trips, or a note that says why pyfolio cannot count them."""
    from pyfolio import tears

    amounts = transactions["amount"]
    if (amounts % 1).any():
        sheet.notes.append(
            "Round trips: pyfolio counts whole units only, and rounds 0.5 of a coin to 0."
        )
    elif amounts.abs().sum() > UNITS:
        sheet.notes.append(f"Round trips: pyfolio stores every unit, and there are over {UNITS:,}.")
    else:
        figure = tears.create_round_trip_tear_sheet(returns, positions, transactions, **context)
        if figure is None:
            sheet.notes.append("Round trips: pyfolio needs at least five.")
        else:
            sheet.add_picture("Round trips", figure)


@contextmanager
def headless() -> Iterator[None]:
    """Draw without a screen, whatever backend matplotlib has; restore that backend afterwards."""
    import matplotlib.pyplot as plt

    before = plt.get_backend()
    plt.switch_backend("agg")
    try:
        yield
    finally:
        plt.switch_backend(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress pyfolio's warnings about a newer pandas and a missing zipline."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _annualised(periods_per_year: float) -> Iterator[None]:
    """Set the days a year of pyfolio and empyrical, which have no parameter for it."""
    import empyrical.periods
    import pyfolio.plotting
    import pyfolio.timeseries

    factors, daily = empyrical.periods.ANNUALIZATION_FACTORS, empyrical.periods.DAILY
    places: list[tuple[dict[str, Any], str, float]] = [
        (factors, daily, periods_per_year),
        (vars(pyfolio.timeseries), "APPROX_BDAYS_PER_YEAR", periods_per_year),
        (vars(pyfolio.plotting), "APPROX_BDAYS_PER_MONTH", max(1, round(periods_per_year / 12))),
    ]
    before = [names[name] for names, name, _ in places]
    for names, name, value in places:
        names[name] = value
    try:
        yield
    finally:
        for (names, name, _), value in zip(places, before, strict=True):
            names[name] = value


@contextmanager
def _showing(sheet: Sheet) -> Iterator[None]:
    """Collect the tables that pyfolio would show in a notebook."""
    import pyfolio.utils

    display = pyfolio.utils.display
    pyfolio.utils.display = sheet.display
    try:
        yield
    finally:
        pyfolio.utils.display = display
