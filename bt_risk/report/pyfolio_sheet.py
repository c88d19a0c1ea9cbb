"""pyfolio's full tear sheet as tables and pictures: no notebook, no screen."""

import base64
import io
import warnings
from contextlib import contextmanager

__all__ = ["Sheet", "full_sheet", "headless"]

UNITS = 1_000_000  # pyfolio keeps one price for each unit that a round trip holds
DPI = 70


class Sheet:
    """What pyfolio showed.

    Attributes
    ----------
    tables : list of str
        HTML tables, in pyfolio's order.
    pictures : list of (str, str)
        Title and WebP picture as a data URI.
    notes : list of str
        What was left out, and why.
    """

    def __init__(self):
        self.tables, self.pictures, self.notes = [], [], []

    def display(self, shown):
        """Take a table, as pyfolio hands it to a notebook."""
        self.tables.append(shown.data)

    def keep(self, title, figure):
        """Take a figure, and close it."""
        import matplotlib.pyplot as plt

        buffer, height = io.BytesIO(), figure.get_figheight()
        # matplotlib's margins are shares of the figure: of one six screens high, a screen.
        figure.subplots_adjust(0.07, 0.8 / height, 0.97, 1.0 - 0.6 / height)
        figure.savefig(buffer, format="webp", dpi=DPI, facecolor="white")
        plt.close(figure)
        encoded = base64.b64encode(buffer.getvalue()).decode()
        self.pictures.append((title, f"data:image/webp;base64,{encoded}"))


def full_sheet(returns, positions, transactions, benchmark, periods_per_year):
    """Return the `Sheet` of `bt_risk.report.pyfolio_inputs`, a benchmark's returns or None.

    It is ``create_full_tear_sheet`` taken apart: that divides turnover by the average book, which
    is infinite on a day that ends flat; here it is a share of equity. Rates are annualised with
    `periods_per_year`, where pyfolio knows 252 alone.
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
        sheet.keep("Returns", figure)
        figure = tears.create_interesting_times_tear_sheet(returns, benchmark, **context)
        if figure is not None:
            sheet.keep("Interesting times", figure)
        context["estimate_intraday"] = False
        sheet.keep("Positions", tears.create_position_tear_sheet(returns, positions, **context))
        if transactions is None:
            sheet.notes.append("Transactions and round trips: there were none.")
            return sheet
        figure = tears.create_txn_tear_sheet(
            returns, positions, transactions, turnover_denom="portfolio_value", **context
        )
        sheet.keep("Transactions", figure)
        _round_trips(sheet, returns, positions, transactions, context)
    return sheet


def _round_trips(sheet, returns, positions, transactions, context):
    from pyfolio import tears

    amounts = transactions["amount"]
    if (amounts % 1).any():
        sheet.notes.append(
            "Round trips: pyfolio counts whole units only, and cuts 0.5 of a coin to none."
        )
    elif amounts.abs().sum() > UNITS:
        sheet.notes.append(f"Round trips: pyfolio keeps every unit, and there are over {UNITS:,}.")
    else:
        figure = tears.create_round_trip_tear_sheet(returns, positions, transactions, **context)
        if figure is None:
            sheet.notes.append("Round trips: pyfolio wants five of them.")
        else:
            sheet.keep("Round trips", figure)


@contextmanager
def headless():
    """Draw without a screen, whatever backend matplotlib has; put that back afterwards."""
    import matplotlib.pyplot as plt

    before = plt.get_backend()
    plt.switch_backend("agg")
    try:
        yield
    finally:
        plt.switch_backend(before)


@contextmanager
def _quiet():
    """Drop what the age of pandas and the absence of zipline make pyfolio say."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _annualised(periods_per_year):
    """Let pyfolio and empyrical count this many days to a year; they have no parameter for it."""
    import empyrical.periods
    import pyfolio.plotting
    import pyfolio.timeseries

    factors, daily = empyrical.periods.ANNUALIZATION_FACTORS, empyrical.periods.DAILY
    places = [
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
def _showing(sheet):
    """Catch the tables that pyfolio would show in a notebook."""
    import pyfolio.utils

    display = pyfolio.utils.display
    pyfolio.utils.display = sheet.display
    try:
        yield
    finally:
        pyfolio.utils.display = display
