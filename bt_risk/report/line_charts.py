"""Charts of lines by time, in panes above each other, as data for the script of the page."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bt_risk.report.packing import differences, pack, seconds, series
from bt_risk.report.thinning import Envelope

__all__ = ["BLUE", "GREEN", "GREY", "ORANGE", "RED", "Chart", "LineChart"]

BLUE, ORANGE, GREEN, RED, GREY = "#3b82c4", "#d97706", "#2e9e6b", "#d64545", "#8a8f98"
POINTS = 8_000  # of one line: some five for each pixel of a wide screen
DAY = 86_400


@dataclass(frozen=True)
class Chart:
    """Hold a chart of the page.

    Attributes
    ----------
    block : str
        What the script of the page draws: see `pack`.
    caption : str
        What it shows, in sentences.
    """

    block: str
    caption: str


class LineChart:
    """Build a chart of lines by time.

    Parameters
    ----------
    times : iterable of timestamp
        The times of every line, not decreasing; of equal ones the last counts.
    points : int
        The largest number of points of a line. A longer one keeps the lowest and the highest value
        of each bucket of bars.
    """

    def __init__(self, times: Iterable[Any], points: int = POINTS) -> None:
        self._all = seconds(times)
        self._envelope = Envelope(self._all, points)
        self._panes: list[dict[str, Any]] = []
        self._bands: list[list[int]] = []

    def pane(self, title: str, form: str, height: int = 1, inverted: bool = False) -> None:
        """Begin a pane; `form` is ``percent``, ``money`` or ``number``."""
        pane = {"title": title, "form": form, "height": height, "inverted": inverted}
        self._panes.append(pane | {"lines": [], "limits": []})

    def line(
        self,
        name: str,
        values: Iterable[float],
        color: str,
        *,
        width: int = 2,
        dash: int = 0,
        steps: bool = False,
        fill: bool = False,
        hidden: bool = False,
    ) -> None:
        """Add a line to the last pane: `dash` is 0 solid, 1 dotted, 2 dashed, 3 long dashes."""
        kept = self._envelope.line(np.asarray(values, dtype=float))
        style = {"color": color, "width": width, "dash": dash, "stairs": steps, "fill": fill}
        one = {"name": name, "hidden": hidden, **style, **series(kept)}
        self._panes[-1]["lines"].append(one)

    def limit(self, value: float, label: str, color: str = RED) -> None:
        """Add a level to the last pane."""
        self._panes[-1]["limits"].append({"value": value, "label": label, "color": color})

    def bands(self, spans: Sequence[tuple[Any, Any]]) -> None:
        """Shade spans of time in every pane."""
        places = [np.searchsorted(self._envelope.times, seconds(span)) for span in spans]
        self._bands += [place.tolist() for place in places]

    def chart(self, caption: str) -> Chart:
        """Return the chart; the caption says how many bars share a point, where several do."""
        times, width = self._envelope.times, self._envelope.width
        if width > 1:
            caption += (
                f" The lines keep the lowest and the highest value of every {width:,} bars, because"
                f" {len(self._all):,} bars are more than a screen shows."
            )
        value = {
            "times": differences(times.astype(float), 1.0),
            "hours": bool((times % DAY).any()),
            "panes": self._panes,
            "bands": self._bands,
        }
        return Chart(pack(value), caption)
