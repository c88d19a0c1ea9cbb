"""The view of a comparison in a notebook: odds, verdicts, and the figures of every variant."""

from html import escape
from typing import TYPE_CHECKING

import pandas as pd

from bt_risk.evidence.attribution_table import attribution_columns, attribution_note
from bt_risk.evidence.cost_grid import COST_NOTE, cost_columns
from bt_risk.evidence.ledger_table import LEDGER_NOTE, ledger_columns
from bt_risk.evidence.metrics import MEASURES
from bt_risk.evidence.number_format import format_measure

if TYPE_CHECKING:
    from bt_risk.evidence.comparison import Comparison

__all__ = ["comparison_html"]


def comparison_html(comparison: "Comparison") -> str:
    """Return a `bt_risk.evidence.Comparison` as HTML: sentences and tables."""
    verdicts = "".join(f"<li>{escape(verdict)}</li>" for verdict in comparison.verdicts())
    parts = [
        f"<p>{escape(str(comparison.halt))}</p><ul>{verdicts}</ul>",
        *_attribution(comparison),
        *_costs(comparison),
        _table(_figures(comparison)),
        f"<p>{LEDGER_NOTE}</p>",
        _table(pd.DataFrame(ledger_columns(comparison.shadow))),
    ]
    return "\n".join(parts)


def _attribution(comparison: "Comparison") -> list[str]:
    """Return what each rule is worth, nothing where nobody asked for it."""
    found = comparison.attribution
    if found is None or found.frame.empty:
        return []
    return [
        _table(pd.DataFrame(attribution_columns(found))),
        f"<p>{escape(attribution_note(found))}</p>",
    ]


def _costs(comparison: "Comparison") -> list[str]:
    """Return both runs at other costs, nothing where nobody asked for it."""
    if comparison.costs is None:
        return []
    return [_table(pd.DataFrame(cost_columns(comparison.costs))), f"<p>{COST_NOTE}</p>"]


def _figures(comparison: "Comparison") -> pd.DataFrame:
    """Return every measure of every variant as text."""
    values = comparison.frame["value"]
    columns = {
        variant: [format_measure(name, values[variant, name]) for name in MEASURES]
        for variant in comparison.sharpe.index
    }
    return pd.DataFrame(columns, index=list(MEASURES))


def _table(frame: pd.DataFrame) -> str:
    html: str = frame.to_html(border=0)
    return html
