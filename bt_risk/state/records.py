"""Positions, orders and trades as plain records for a state file, and back.

Owners are strategies, and the number of an order counts in its process: a record names the place
of the strategy among those of the run instead, and the id that the order was sent with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, TypeVar

from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.position import (
    ClosedTrade,
    OwnerPosition,
    SentOrder,
    place_of,
)
from bt_risk.rules.loss_distribution import TradeLoss
from bt_risk.state.file import Record

__all__ = [
    "ORDER",
    "part_record",
    "restore_part",
    "restored_sent",
    "restored_trade",
    "sent_record",
    "shifted",
    "trade_loss",
    "trade_record",
]

Event = TypeVar("Event", ClosedTrade, SentOrder)

_PART = (
    "size",
    "price",
    "entry",
    "stop_distance",
    "peak",
    "pnl",
    "paid",
    "beyond",
    "opened",
    "number",
    "lost",
    "lost_side",
    "stopped",
    "excess",
)
ORDER = (
    "side",
    "remaining",
    "opening",
    "closing",
    "kind",
    "price",
    "distance",
    "own",
    "stops",
    "size",
    "rule",
    "shared",
    "had_position",
    "cut",
    "void",
    "tradeid",
    "foreign",
    "assumed",
    "seen_at",
)
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


def part_record(part: OwnerPosition, place: int) -> Record:
    """Return an owner's position as plain values."""
    record = {name: getattr(part, name) for name in _PART}
    record["tradeids"] = list(part.tradeids.items())  # a key of JSON would become a text
    return record | {"data": part.instrument.name, "owner": place}


def restore_part(part: OwnerPosition, record: Record) -> None:
    """Give an owner's position the values of its record."""
    for name in _PART:
        setattr(part, name, record.get(name, getattr(part, name)))
    if part.size:  # Backtrader has no trades of an earlier process that a flat position could leave
        part.tradeids = dict(record.get("tradeids", [(record.get("tradeid", 0), part.size)]))


def trade_record(trade: ClosedTrade, place: int) -> Record:
    """Return a closed trade as plain values."""
    loss = {"loss": asdict(trade.loss)}
    return {name: getattr(trade, name) for name in _TRADE} | {"owner": place} | loss


def restored_trade(
    record: Record, owner: object, index: int, rounds: int, bars: int
) -> ClosedTrade:
    """Return a closed trade; its bars are counted back from the last saved bar."""
    values = {name: record[name] for name in _TRADE}
    values |= {"bar": record["bar"] - bars, "round": record["round"] - rounds}
    return ClosedTrade(owner=owner, index=index, loss=trade_loss(record), **values)


def trade_loss(record: Record) -> TradeLoss:
    """Return what a saved trade has lost beside the distance to its stop.

    A state file of an earlier version does not say that.
    """
    return TradeLoss(**record.get("loss", {"r_multiple": record["r_multiple"]}))


def sent_record(sent: SentOrder, name: str, strategies: Sequence[Any]) -> Record:
    """Return a sent order as plain values."""
    order = None
    if sent.order is not None:
        owner, *others = sent.order
        order = [place_of(owner, strategies), *others]
    return {"data": name} | sent._replace(order=None)._asdict() | {"order": order}


def restored_sent(
    record: Record, instrument: Instrument, rounds: int, bars: int, strategies: Sequence[Any]
) -> SentOrder:
    """Return a sent order; its bars are counted back from the last saved bar."""
    back = record["bar"] - bars, record["round"] - rounds
    order, saved = None, record.get("order")
    if saved is not None and saved[0] < len(strategies):
        place, size, kind, prices = saved
        order = strategies[place], size, kind, tuple(prices)
    return SentOrder(instrument.lead.index, record["side"], *back, record["time"], order)


def shifted(event: Event, bars: int, rounds: int) -> Event:
    """Return a trade or a sent order with its bars counted from another beginning."""
    bar, round_ = event.bar + bars, event.round + rounds
    if isinstance(event, SentOrder):
        return event._replace(bar=bar, round=round_)
    return replace(event, bar=bar, round=round_)
