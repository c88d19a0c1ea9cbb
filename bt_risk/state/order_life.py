"""The life of an order, from what a state file has saved of it: sentences, oldest first."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from bt_risk.state.file import Record
from bt_risk.tolerances import PRICE_EPS, SIZE_EPS

__all__ = ["order_events"]

_WAITS = ("limit", "stop", "stoplimit")


def order_events(rows: Iterable[tuple[float, Record]]) -> Iterator[tuple[float, str]]:
    """Yield ``(seconds since 1970, sentence)`` for each change between the rows of one order.

    Parameters
    ----------
    rows : iterable of (float, dict)
        What `StateRecorder` has saved of the order, oldest first.
    """
    before: Record = {}
    for at, row in rows:
        if "status" in row:
            yield at, _end(row, before)
        elif not before:
            yield at, _sent(row)
        else:
            for sentence in _changes(before, row):
                yield at, sentence
        before = row


def _sent(row: Record) -> str:
    price = f" at {row['price']:g}" if row["kind"] in _WAITS and _known(row["price"]) else ""
    whose = "by bt_risk" if row["own"] else f"by strategy {row['owner']}"
    opens = "an exit" if not row["opening"] else "an entry"
    if 0 < row["opening"] < row["size"] - SIZE_EPS:
        opens = f"of which {row['opening']:g} may open a position"
    reason = f" ({row['reason']})" if row.get("reason") else ""
    known = f"; the venue calls it {row['venue_id']}" if row["venue_id"] else ""
    side, order = "buy" if row["side"] > 0 else "sell", f"{row['size']:g} {row['data']}"
    return f"sent {whose}: {side} {order}, {row['kind']}{price}, {opens}{reason}{known}"


def _changes(old: Record, new: Record) -> Iterator[str]:
    if new["venue_id"] and new["venue_id"] != old["venue_id"]:
        reason = f" ({new['reason']})" if new.get("reason") else ""
        yield f"the venue calls it {new['venue_id']}{reason}"
    if abs(new["size"] - old["size"]) > SIZE_EPS:
        yield f"resized from {old['size']:g} to {new['size']:g}"
    elif new["remaining"] < old["remaining"] - SIZE_EPS:
        filled, price = old["remaining"] - new["remaining"], new.get("paid")
        on_average = f"; {price:g} on average" if _known(price) else ""
        yield f"filled {filled:g}, {new['remaining']:g} left{on_average}"
    elif new["opening"] < old["opening"] - SIZE_EPS:
        yield f"may open {new['opening']:g} from now on, not {old['opening']:g}"
    known = _known(old["price"]) and _known(new["price"])
    if known and abs(new["price"] - old["price"]) > PRICE_EPS * abs(old["price"]):
        yield f"is to move from {old['price']:g} to {new['price']:g}"


def _end(row: Record, before: Record) -> str:
    filled = f", {row['filled']:g} filled at {row['paid']:g}" if row.get("filled") else ""
    why = row.get("reason")
    told = not why or why == before.get("reason") or row["status"] == "Completed"
    reason = "" if told else f" ({why})"
    if row["status"] is None:
        return "ended: it was not sent, or the broker does not list it after a restart"
    return f"ended {row['status']}{filled}{reason}"


def _known(value: float | None) -> bool:
    return value is not None and not math.isnan(value)
