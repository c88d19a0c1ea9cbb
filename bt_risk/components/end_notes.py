"""What a user should know at the end of a backtest that the rules have shaped."""

from collections.abc import Iterator
from typing import Any

import backtrader as bt

from bt_risk.gate.broker import RiskBroker

__all__ = ["halt_note", "traded"]


def traded(strategy: bt.Strategy) -> bool:
    """Return whether an order of this strategy was executed."""
    return any(trades for by_id in strategy._trades.values() for trades in by_id.values())


def halt_note(strategy: bt.Strategy, gate: RiskBroker) -> str:
    """Return what a halt in the first year means for a ratio of annual returns, "" without one."""
    halts = [line[0] for line in gate.journal.lines if line[3] == "halt"]
    if not (halts and strategy.cerebro._event_stop and any(_annual_ratios(strategy))):
        return ""
    first, last = (bt.num2date(time) for time in (_first_time(strategy), halts[-1]))
    if first.year != last.year:
        return ""
    return (
        f"the halt of {last:%Y-%m-%d} ended this run in its first year: SharpeRatio has one annual "
        "return and no result. SharpeRatio(timeframe=bt.TimeFrame.Days) needs days only, and a run "
        'with action="pause" goes on after a halt'
    )


def _annual_ratios(strategy: bt.Strategy) -> Iterator[bool]:
    for analyzer in strategy.analyzers:
        if isinstance(analyzer, bt.analyzers.SharpeRatio):
            yield analyzer.p.timeframe == bt.TimeFrame.Years


def _first_time(strategy: bt.Strategy) -> Any:
    return min(feed.datetime.array[0] for feed in strategy.datas if len(feed))
