"""The first sentences of the page: what came of a run, and what its rules did."""

import pandas as pd

from bt_risk.report.account_charts import drawdowns
from bt_risk.report.events import halts
from bt_risk.report.labels import rule_label
from bt_risk.report.margin_use import margin_headline
from bt_risk.report.no_trades import no_trades
from bt_risk.report.record import RunRecord

__all__ = ["headline"]

YEAR = pd.Timedelta(days=365.25)


def headline(record: RunRecord, returns: pd.Series) -> str:
    """Return one sentence about a run, or why it has no trade."""
    reason = no_trades(record)
    return f"{record.strategy} did not trade. {reason}" if reason else _result(record, returns)


def _result(record: RunRecord, returns: pd.Series) -> str:
    total = float((1.0 + returns).prod()) - 1.0
    parts = [
        f"{record.strategy} {'made' if total >= 0 else 'lost'} {abs(total):,.1%} in "
        f"{_span(returns.index[-1] - returns.index[0])} with a deepest drawdown of "
        f"{drawdowns(record).max():.1%}{_allowed(record)}"
    ]
    if record.mode != "bare":
        parts += [_orders(record), *_losses(record), *margin_headline(record), _halts(record)]
    return "; ".join(parts) + "."


def _allowed(record: RunRecord) -> str:
    limits = [breaker["drawdown_limit"] for breaker in record.breakers]
    finite = [limit for limit in limits if limit < 1.0]
    return f" (limit {min(finite):.0%})" if finite else ""


def _orders(record: RunRecord) -> str:
    actions = record.decisions["action"].value_counts()
    passed, cut, refused = (int(actions.get(name, 0)) for name in ("allow", "trim", "reject"))
    if not cut + refused:
        return f"all {passed:,} entries passed whole"
    text = f"{passed:,} entries passed whole, {cut:,} were cut and {refused:,} refused"
    return f"{text}, most by {_busiest_rule(record)}"


def _busiest_rule(record: RunRecord) -> str:
    decisions = record.decisions
    rules = decisions[decisions["action"].isin(["trim", "reject"])]["rule"]
    return rule_label(str(rules.value_counts().index[0]))


def _losses(record: RunRecord) -> list[str]:
    """Return how many trades lost more than they risked, and the worst with its cause."""
    losses = record.losses
    if not losses.trades:
        return []
    share, many = losses.share(1.0), losses.count(1.0) != 1
    if not share:
        return ["no trade lost more than 1 R"]
    worst = f"the worst {-losses.worst:.2f} R ({losses.worst_cause})"
    count = f"{losses.count(1.0):,} trade{'s' if many else ''} ({share:.1%})"
    return [f"{count} lost more than 1 R, {worst}"]


def _halts(record: RunRecord) -> str:
    found = halts(record)
    if not (record.breakers or record.floors or found):
        return "it had no drawdown breaker"
    if not found:
        return "it was never halted"
    first = f"{found[0][0]:%Y-%m-%d}"
    if record.halted and len(found) == 1:
        return f"a halt ended it on {first}"
    return (
        f"it was halted {len(found):,} times, first on {first}"
        if found[1:]
        else (f"it was halted once, on {first}")
    )


def _span(span: pd.Timedelta) -> str:
    years = span / YEAR
    return f"{years:.1f} years" if years >= 2 else f"{span.days + 1:,} days"
