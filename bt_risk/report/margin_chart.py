"""The chart of a margin account, and its figures as text."""

from bt_risk.report.line_charts import BLUE, ORANGE, RED, Chart, LineChart
from bt_risk.report.margin_use import MarginUse
from bt_risk.report.page import format_number
from bt_risk.report.record import RunRecord

__all__ = ["margin_chart", "margin_rows"]

SHARES = ("Stop beyond liquidation", "Bars without a stop", "Nearest to liquidation")
MONEY = ("Liquidation fees", "Paid by insurance", "Funding paid", "Interest paid")
MOST_RATIO = 2.0  # of the chart: at 1 a position is liquidated
MOST_DISTANCE = 1.0


def margin_chart(record: RunRecord) -> Chart | None:
    """Draw the distance to liquidation and to the stop, over the margin ratio; None without any."""
    use = record.margin
    if use is None or use.samples.empty:
        return None
    times = record.times[record.bars["time"].notna()]
    at = use.nearest.reindex(times)
    chart = LineChart(times)
    title = "distance from the close, of what is nearest to liquidation; above 100 % is cut off"
    chart.pane(title, "percent", height=2)
    chart.line("liquidation", at["distance"].clip(-MOST_DISTANCE, MOST_DISTANCE), RED)
    chart.line("stop", at["stop"].clip(-MOST_DISTANCE, MOST_DISTANCE), BLUE, width=1)
    chart.pane("margin ratio; above 2 is cut off", "number")
    chart.line("margin ratio", at["ratio"].clip(upper=MOST_RATIO), ORANGE, width=1)
    chart.limit(use.call, "call", ORANGE)
    chart.limit(1.0, "liquidation")
    return chart.chart(
        "Where the stop is farther away than liquidation, liquidation comes first. The margin "
        f"ratio is maintenance margin / equity: entries are refused from {use.call:g}."
    )


def margin_rows(use: MarginUse) -> list[tuple[str, float, str]]:
    """Return name, value and text of each figure of a margin account."""
    return [(name, value, _text(name, value)) for name, value in use.figures().items()]


def _text(name: str, value: float) -> str:
    if name in SHARES:
        return format_number(value, "{:,.2%}")
    return format_number(value, "{:,.2f}" if name in MONEY or "ratio" in name else "{:,.0f}")
