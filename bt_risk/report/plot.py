"""Backtrader's own picture, without a screen."""

from pathlib import Path

from backtrader import num2date

from bt_risk.errors import ParameterError
from bt_risk.report.pyfolio_sheet import headless

__all__ = ["plot"]


def plot(
    cerebro, path, *, width=16.0, height=None, dpi=100, numfigs=1, start=None, end=None, **scheme
):
    """Draw ``cerebro.plot()`` into a file; Backtrader itself insists on a screen.

    Parameters
    ----------
    cerebro : backtrader.Cerebro
        After its run; not with ``exactbars=1``, which keeps nothing to draw.
    path : str or path
        Picture to write, of the kind that its suffix says (png, svg, pdf). With several strategies
        or ``numfigs`` the further ones get -2, -3, ... before it.
    width, height : float
        Inches; the height grows with the number of panels when left out.
    dpi : int
        Dots per inch.
    numfigs : int
        Pictures to cut a run into.
    start, end : int, date or datetime, optional
        Bars to draw, as in ``cerebro.plot``.
    **scheme
        What ``cerebro.plot`` takes besides: ``style="candle"``, ``volume=False``, ...

    Returns
    -------
    list of Path

    Raises
    ------
    ParameterError
        If there is nothing to draw.
    """
    figures, rows = _figures(cerebro, scheme, numfigs=numfigs, start=start, end=end)
    if not figures:
        remedy = "Call it after cerebro.run(), with exactbars below 1 and data that is plotted."
        raise ParameterError("plot", "cerebro", "one whose run kept its bars", cerebro, remedy)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    written = []
    for number, (figure, lowest) in enumerate(figures, start=1):
        file = path if number == 1 else path.with_stem(f"{path.stem}-{number}")
        figure.set_size_inches(width, height or max(6.0, 1.1 * rows))
        # Backtrader shows the labels that are visible, and has hidden all of them before.
        for tick in lowest.xaxis.get_major_ticks():
            tick.label1.set(visible=True, rotation=15)
        figure.savefig(file, dpi=dpi, bbox_inches="tight")
        written.append(file)
    return written


def _figures(cerebro, scheme, **span):
    """Return ``(figure, its lowest axes)`` of all that Backtrader draws, and the rows of each."""
    with headless():
        import matplotlib.pyplot as plt
        from backtrader.plot import Plot, Plot_OldSync

        plt.switch_backend("agg")
        plotter = _headless_plotter(Plot_OldSync if cerebro.p.oldsync else Plot)(**scheme)
        drawn = cerebro.plot(plotter=plotter, iplot=False, **span) or []
        figures = [figure for strategy in drawn for figure in strategy or []]
        for figure in figures:
            plt.close(figure)
        pairs = list(zip(figures, plotter.lowest, strict=True))
        return pairs, plotter.pinf.nrows if figures else 0


def _headless_plotter(kind):
    """Return Backtrader's plotter without its screen, and with dates that matplotlib draws."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    class HeadlessPlot(kind):
        def __init__(self, **scheme):
            super().__init__(**scheme)
            self.lowest = []

        def show(self):
            """Nothing: there is no screen."""

        def setlocators(self, ax):
            """Write dates below the last panel: Backtrader's own are lost with matplotlib 3.11."""
            times = list(self.pinf.xreal)
            whole_days = all(time % 1.0 in (0.0, times[0] % 1.0) for time in times)
            form = "%Y-%m-%d" if whole_days else "%Y-%m-%d %H:%M"

            def text(place, _):
                place = round(place)
                return f"{num2date(times[place]):{form}}" if 0 <= place < len(times) else ""

            ax.xaxis.set_major_locator(MaxNLocator(12, integer=True))
            ax.xaxis.set_major_formatter(FuncFormatter(text))
            self.lowest.append(ax)

    return HeadlessPlot
