"""Positions, orders and trades as plain records, and back: what a state file keeps of the book.

Owners are strategies, and orders have a number of their process: a record names the place of the
strategy among those of the run, and the id that an order was sent with.
"""

from bisect import bisect_right
from dataclasses import replace

from bt_risk.portfolio.position import EPS, ClosedTrade, SentOrder

__all__ = [
    "CLIENT_ID",
    "order_record",
    "part_record",
    "restore_part",
    "restored_trade",
    "sent_again",
    "sent_record",
    "shifted",
    "thinned",
    "trade_record",
    "venue_id",
]

_PART = (
    "size",
    "price",
    "entry",
    "stop_distance",
    "peak",
    "pnl",
    "opened",
    "number",
    "tradeid",
    "lost",
    "lost_side",
    "stopped",
)
_ORDER = ("side", "remaining", "opening", "kind", "price", "distance", "own", "stops", "size")
_TRADE = (
    "instrument",
    "side",
    "opened",
    "closed",
    "size",
    "pnl",
    "r_multiple",
    "stopped",
    "bar",
    "round",
)


def part_record(part, place):
    """Return a part of a position as plain values."""
    record = {name: getattr(part, name) for name in _PART}
    return record | {"data": part.instrument.name, "owner": place}


def restore_part(part, record):
    """Make a part what it was."""
    for name in _PART:
        setattr(part, name, record[name])
    part.instrument.size = sum([one.size for one in part.instrument.parts])
    if abs(part.instrument.size) <= EPS:
        part.instrument.size = 0.0


def order_record(working, place):
    """Return a working order as plain values."""
    record = {name: getattr(working, name) for name in _ORDER}
    return record | {"data": working.instrument.name, "owner": place}


def trade_record(trade, place):
    """Return a closed trade as plain values."""
    return {name: getattr(trade, name) for name in _TRADE} | {"owner": place}


def restored_trade(record, owner, index, rounds, bars):
    """Return a closed trade; its bars are counted back from the last one that was kept."""
    values = {name: record[name] for name in _TRADE}
    values |= {"bar": record["bar"] - bars, "round": record["round"] - rounds}
    return ClosedTrade(owner=owner, index=index, **values)


def sent_record(sent, name):
    """Return an order that went out as plain values."""
    return {"data": name} | sent._asdict()


def sent_again(record, instrument, rounds, bars):
    """Return an order that went out; its bars are counted back from the last that was kept."""
    back = record["bar"] - bars, record["round"] - rounds
    return SentOrder(instrument.lead.index, record["side"], *back, record["time"])


def shifted(event, bars, rounds):
    """Return a trade or a sent order with its bars counted from another beginning."""
    later = {"bar": event.bar + bars, "round": event.round + rounds}
    return event._replace(**later) if isinstance(event, SentOrder) else replace(event, **later)


def thinned(closes, depth):
    """Return the closes that windows are made of again, oldest first.

    Those are the last `depth` of each name and, where another name has bars so old that these do
    not reach back to them, the last one before each of those bars ended.

    Parameters
    ----------
    closes : dict
        ``{time: {name: close}}``, times in days.
    depth : int
        Closes that a window looks back on.
    """
    times = {}
    for time in sorted(closes):
        for name in closes[time]:
            times.setdefault(name, []).append(time)
    last = {name: of_name[-depth:] for name, of_name in times.items()}
    ends = {time for of_name in last.values() for time in of_name}
    ends |= {time + 1.0 for time in ends if time == int(time)}  # a day that is stamped at midnight
    rows = {}
    for name, of_name in times.items():
        before = [end for end in ends if of_name[0] <= end < last[name][0]]
        older = {of_name[bisect_right(of_name, end) - 1] for end in before}
        for time in older.union(last[name]):
            rows.setdefault(time, {})[name] = closes[time][name]
    return dict(sorted(rows.items()))


# Under this name an order's `info` has the id that it was sent with.
CLIENT_ID = "client_id"


# Where the stores that we know of put the venue's own id of an order.
_VENUE_IDS = ("venue_id", "order_id", "orderid", "exchange_id")


def venue_id(order):
    """Return the id that the venue has given an order, None where the broker does not say."""
    info = getattr(order, "info", None) or {}
    for name in _VENUE_IDS:
        found = info.get(name) or getattr(order, name, None)
        if found:
            return str(found)
    native = getattr(order, "ccxt_order", None)
    return str(native["id"]) if native else None
