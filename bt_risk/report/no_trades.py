"""The reason why a run executed no order."""

from collections import Counter
from collections.abc import Iterable

from bt_risk.report.labels import rule_label, rules_in_order
from bt_risk.report.record import RunRecord

__all__ = ["NO_TRADES", "no_trades", "refusals"]

# The `topic` of the record in Python's log: who prints the reason has no need of it.
NO_TRADES = "no trades"

JUDGED = ("allow", "trim", "reject")


def no_trades(record: RunRecord) -> str:
    """Return why a run executed no order, as sentences for its user; "" where it executed one."""
    if len(record.fills):
        return ""
    sentences = ["No order was executed."]
    if record.mode == "bare":
        sentences.append("A run without a gate has no record of the orders that failed.")
    if record.mode == "enforce":
        lines = record.decisions[["rule", "action", "reason"]].itertuples(index=False, name=None)
        sentences = [refusals(lines) or "No order was executed: the strategy sent none."]
    return " ".join([*sentences, *_prices(record)])


def refusals(lines: Iterable[tuple[str, str, str]]) -> str:
    """Return why none of the judged orders was executed, "" where none was judged.

    Parameters
    ----------
    lines : iterable of tuple
        Rule, action and reason of every line of the journal.
    """
    judged = [line for line in lines if line[1] in JUDGED]
    if not judged:
        return ""
    refused = [(rule, reason) for rule, action, reason in judged if action == "reject"]
    passed = len(judged) - len(refused)
    text = f"No order was executed: {passed:,} of {len(judged):,} passed the rules and did not fill"
    if not refused:
        return f"{text}."
    counts = Counter(rule for rule, _ in refused)
    rules = ", ".join(f"{rule_label(rule)}: {counts[rule]:,}" for rule in rules_in_order(counts))
    reason = f"The first reason: {refused[0][1]}."
    if passed:
        return f"{text}, the others were refused ({rules}). {reason}"
    return f"No order was executed: each of {len(judged):,} was refused ({rules}). {reason}"


def _prices(record: RunRecord) -> list[str]:
    """Return a sentence for each data feed whose price was always above the whole account."""
    account = record.start[0]
    lowest = {name: closes.min() for name, closes in record.closes.items()}
    return [
        f"The price of {name} was never below {low:,.2f}, and the account had {account:,.2f}."
        for name, low in lowest.items()
        if low > account
    ]
