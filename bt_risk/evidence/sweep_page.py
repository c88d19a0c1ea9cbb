"""The page of a sweep: one self-contained HTML file in the style of the tear sheet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bt_risk.evidence.sweep_heat import heat_maps
from bt_risk.evidence.sweep_words import best_cells, format_value
from bt_risk.report.page import write_page
from bt_risk.report.tables import policy_rows

if TYPE_CHECKING:
    from bt_risk.evidence.sweep import Sweep

__all__ = ["sweep_page"]

_BEST, _FAILED = 20, 20


def sweep_page(sweep: Sweep, path: Path, title: str) -> Path:
    """Write the page of a `bt_risk.evidence.Sweep`; return its path."""
    cells = best_cells(sweep, _BEST)
    failed = sweep.failed.head(_FAILED)
    errors = zip(failed[sweep.space.names].itertuples(index=False), failed["error"], strict=True)
    context = {
        "title": title,
        "about": f"{len(sweep.frame):,} points, ranked by {sweep.objective.name}.",
        "sweep": sweep,
        "headings": list(cells.columns),
        "best": cells.to_numpy().tolist(),
        "maps": heat_maps(sweep),
        "names": sweep.space.names,
        "failed": [([format_value(one) for one in values], error) for values, error in errors],
        "policy": policy_rows(sweep.best_policy),
    }
    return write_page(path, "sweep.html", context)
