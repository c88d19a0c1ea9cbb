"""The rules of a challenge in their plain form, read from the pages of firms: an oracle.

It shares no line with `bt_risk.rules`: a day is a dict, a floor is a number, and all is recomputed
from the whole past on every day.
"""

import math

PASSED, FLOOR, DAILY, INCOMPLETE, OPEN = "passed", "floor", "daily loss", "incomplete", "open"


def money(amount, base):
    return amount * base if amount < 1 else amount


def of_day(row, kind):
    """Return a day as a dict from the columns of `bt_risk.evidence.account_days`."""
    at = 3 if kind == "close" else 8
    low, high, low_before, high_before, low_after = row[at : at + 5]
    return {
        "end": row[0],
        "balance": row[1],
        "best balance": row[2],
        "low": low,
        "high": high,
        "before": (low_before, high_before),
        "after": low_after,
        "best close": row[4],
    }


def phases(start, past, today, rule):
    """Return the floor that must not be touched, and the lowest equity, in each part of a day."""
    if rule["amount"] is None:
        return [(-math.inf, today["low"])]
    lost = money(rule["amount"], start)
    marks = [start]
    if rule["mode"] == "trailing_closed":
        marks += [day["best balance"] for day in (*past, today)]
        marks += [day["balance"] for day in (*past, today)]
    elif rule["mode"] == "trailing_eod":
        marks += [reference(day["balance"], day["end"], rule["reference"]) for day in past]
    elif rule["mode"] == "trailing_intraday":
        # Before the highest point of the day the mark is that of the time until then.
        marks += [day["high"] for day in past]
        low, high = today["before"]
        early = capped(max(*marks, high) - lost, start, lost, rule)
        late = capped(max(*marks, today["high"]) - lost, start, lost, rule)
        return [(early, low), (late, today["after"])]
    return [(capped(max(marks) - lost, start, lost, rule), today["low"])]


def capped(level, start, lost, rule):
    if rule["lock"] is not None:
        level = max(min(level, start + rule["lock"]), start - lost)
    return level


def reference(balance, equity, kind):
    return {"balance": balance, "equity": equity, "higher": max(balance, equity)}[kind]


def daily_level(start, before, rule):
    value = reference(*before, rule["reference"])
    base = start if rule["daily base"] == "initial" else value
    return value - money(rule["daily"], base)


def consistent(start, past, limit):
    balances = [start, *(day["balance"] for day in past)]
    profit = balances[-1] - start
    if limit is None or profit <= 0:
        return True
    best = max(b - a for a, b in zip(balances[:-1], balances[1:], strict=True))
    return max(best, 0.0) <= limit * profit * (1 + 1e-9)


def outcome(start, rows, opened, rule):
    """Return how a challenge ends and on which day, counted from 1."""
    past, reached = [], False
    before = start, start
    for number, row in enumerate(rows, 1):
        today = of_day(row, rule["trigger"])
        daily = -math.inf if rule["daily"] is None else daily_level(start, before, rule)
        for floor, low in phases(start, past, today, rule):
            if low <= max(floor, daily) + 1e-12 * start:
                return (DAILY if daily > floor else FLOOR), number
        past.append(today)
        if rule["target"] is not None:
            value = today["best balance" if rule["of"] == "balance" else "best close"]
            reached = reached or value >= start + money(rule["target"], start) - 1e-9
            if reached and rule["stops"]:
                # Everything is closed there: what the day would have brought later does not count.
                past[-1] = today | {"balance": value, "end": value}
        traded = sum(opened[:number]) >= rule["days"]
        fine = consistent(start, past, rule["share"])
        if reached and traded and fine:
            return PASSED, number
        if reached and rule["stops"]:
            return INCOMPLETE, number
        before = today["balance"], today["end"]
    if rule["target"] is not None and not reached:
        return OPEN, len(rows)
    return (PASSED if traded and fine else INCOMPLETE), len(rows)
