"""Backtrader's own plot, written to a file without a screen."""

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import backtrader as bt
from backtrader import num2date

from bt_risk.errors import ParameterError
from bt_risk.report.pyfolio_sheet import headless

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot"]


def plot(
    cerebro: bt.Cerebro,
    path: str | Path,
    *,
    width: float = 16.0,
    height: float | None = None,
    dpi: int = 100,
    numfigs: int = 1,
    start: int | date | None = None,
    end: int | date | None = None,
    **scheme: Any,
) -> list[Path]:
    """Draw ``cerebro.plot()`` into a file; Backtrader itself needs a screen.

    Parameters
    ----------
    cerebro : backtrader.Cerebro
        After its run; not with ``exactbars=1``, which leaves nothing to draw.
    path : str or path
        Picture to write, in the format of its suffix (png, svg, pdf). With several strategies or
        ``numfigs`` the names of the others end with -2, -3, ...
    width, height : float
        Inches; the height grows with the number of panels when left out.
    dpi : int
        Dots per inch.
    numfigs : int
        Number of pictures that the run is divided into.
    start, end : int, date or datetime, optional
        Bars to draw, as in ``cerebro.plot``.
    **scheme
        Further arguments of ``cerebro.plot``: ``style="candle"``, ``volume=False``, ...

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
        raise ParameterError("plot", "cerebro", "one whose run stored its bars", cerebro, remedy)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    written = []
    for number, (figure, lowest) in enumerate(figures, start=1):
        file = path if number == 1 else path.with_stem(f"{path.stem}-{number}")
        figure.set_size_inches(width, height or max(6.0, 1.1 * rows))
        # Backtrader has hidden the labels of all axes, the lowest ones included.
        for tick in lowest.xaxis.get_major_ticks():
            tick.label1.set(visible=True, rotation=15)
        figure.savefig(file, dpi=dpi, bbox_inches="tight")
        written.append(file)
    return written


def _figures(
    cerebro: bt.Cerebro, scheme: dict[str, Any], **span: Any
) -> tuple[list[tuple["Figure", "Axes"]], int]:
    """Return ``(figure, its lowest axes)`` of all that Backtrader draws, and the rows of each."""
    with headless():
        import matplotlib.pyplot as plt
        from backtrader.plot import Plot, Plot_OldSync

        plt.switch_backend("agg")
        old = getattr(cerebro.p, "oldsync", False)
        plotter = _headless_plotter(Plot_OldSync if old else Plot)(**scheme)
        # backtrader-next has charts of its own under the name of `plot`.
        draw = getattr(cerebro, "old_plot", cerebro.plot)
        drawn = draw(plotter=plotter, iplot=False, **span) or []
        figures = [figure for strategy in drawn for figure in strategy or []]
        for figure in figures:
            plt.close(figure)
        pairs = list(zip(figures, plotter.lowest, strict=True))
        return pairs, plotter.pinf.nrows if figures else 0


def _headless_plotter(kind: type) -> type:
    """Return Backtrader's plotter without its screen, and with dates that matplotlib draws."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    class HeadlessPlot(kind):
        def __init__(self, **scheme: Any) -> None:
            super().__init__(**scheme)
            self.lowest: list[Axes] = []

        def show(self) -> None:
            """Do nothing: there is no screen."""

        def setlocators(self, ax: "Axes") -> None:
            """Write dates below the last panel: matplotlib 3.11 does not draw Backtrader's own."""
            times = list(self.pinf.xreal)
            whole_days = all(time % 1.0 in (0.0, times[0] % 1.0) for time in times)
            form = "%Y-%m-%d" if whole_days else "%Y-%m-%d %H:%M"

            def text(place: float, _: int) -> str:
                place = round(place)
                return f"{num2date(times[place]):{form}}" if 0 <= place < len(times) else ""

            ax.xaxis.set_major_locator(MaxNLocator(12, integer=True))
            ax.xaxis.set_major_formatter(FuncFormatter(text))
            self.lowest.append(ax)

    return HeadlessPlot
