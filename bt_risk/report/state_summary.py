"""The status of a state file as one object of plain values, for a terminal and for a page."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bt_risk.gate.journal import FIELDS
from bt_risk.orders import ACTIVE, HALTED, REDUCING
from bt_risk.report.times import bar_time, utc
from bt_risk.rules.drawdown import ARMED, TRIPPED
from bt_risk.rules.loss_distribution import THRESHOLDS, LossDistribution, loss_distribution
from bt_risk.state.file import Record, SavedState, is_running, read_state
from bt_risk.state.inbox import kill_path
from bt_risk.state.loss import HALTERS
from bt_risk.state.records import trade_loss
from bt_risk.tolerances import PRICE_EPS

__all__ = ["Summary", "gate_state", "losses_of", "summary", "summary_of"]

Summary = dict[str, Any]
_STRICTEST = (HALTED, REDUCING)


def summary(path: Path, now: float, decisions: int = 10) -> Summary:
    """Return what a state file says of its run; times are text, in UTC.

    Parameters
    ----------
    path : Path
    now : float
        Seconds since 1970.
    decisions : int
        How many lines of the journal.
    """
    return summary_of(path, read_state(path, decisions), now)


def summary_of(path: Path, saved: SavedState, now: float) -> Summary:
    """Return the same of a state that has been read."""
    running = is_running(path)
    state, reason = gate_state(saved)
    beat = saved.records.get(("run", "heartbeat"))
    return {
        "state_file": str(path),
        "run": int(saved.meta.get("run", 0)),
        # A run that has just opened a new file has not written its number yet.
        "process": int(saved.meta["process"]) if running and "process" in saved.meta else None,
        "incomplete": saved.lost or None,
        "gate": {"state": state, "reason": reason},
        "heartbeat": _heartbeat(beat, now),
        "account": _account(beat),
        "limits": [_room(one) for one in (beat or {}).get("limits", ())],
        "breakers": [_breaker(one) for one in saved.of("breaker").values()],
        "unknown": _unknown(saved),
        "positions": list(_positions(saved, now)),
        "orders": [order for order in _orders(saved, now) if not order["protects"]],
        "unfinished": list(_unfinished(saved)),
        "differences": list(saved.records.get(("run", "differences"), {}).get("open", ())),
        "requests": [
            {"number": one.number, "verb": one.verb, "who": one.who, "at": _time(one.at)}
            | {"reason": one.args.get("reason")}
            for one in saved.requests
        ],
        "kill_file": kill_path(path).exists(),
        "closed_trades": len(saved.trades),
        "losses": _losses(saved),
        "decisions": [_decision(line) for line in saved.decisions],
    }


def gate_state(saved: SavedState) -> tuple[str, str]:
    """Return the strictest state that is requested, and its reason."""
    requested = [(record["state"], record["reason"]) for record in saved.of("gate").values()]
    for one in _halters(saved):
        if one["state"]["status"] != ARMED:
            requested.append((one["gate"], one["reason"]))
    for state in _STRICTEST:
        found = next((one for one in requested if one[0] == state), None)
        if found:
            return found
    return ACTIVE, ""


def _halters(saved: SavedState) -> Iterator[Record]:
    """Yield the records of the monitors that may have halted the run."""
    for kind in HALTERS:
        yield from saved.of(kind).values()


def losses_of(saved: SavedState) -> LossDistribution:
    """Return the losses in R of the trades that the runs of a state file have closed."""
    return loss_distribution(trade_loss(trade) for trade in saved.trades.values())


def _losses(saved: SavedState) -> Record:
    found = losses_of(saved)
    return {
        "trades": found.trades,
        "beyond": {f"{limit:g}": _plain(found.share(limit)) for limit in THRESHOLDS},
        "worst": _plain(found.worst),
        "causes": {f"{limit:g}": dict(found.beyond[limit]) for limit in THRESHOLDS},
        "full_stop_out": _plain(found.full_stop_out),
        "sentences": found.sentences(),
    }


# -- the account ---------------------------------------------------------------------------------


def _heartbeat(beat: Record | None, now: float) -> Record | None:
    if beat is None:
        return None
    return {"time": utc(beat["time"]), "age": max(0.0, now - beat["time"])}


def _account(beat: Record | None) -> Record | None:
    """Return equity, and the profit of the day; deposits and withdrawals are none."""
    if beat is None:
        return None
    day, value, equity = beat.get("day") or {}, beat.get("value"), beat["equity"]
    begun = day.get("value")
    known = None not in (begun, value, equity)
    return {
        "equity": equity,
        "day_pnl": equity * (1.0 - begun / value) if known and value else None,
        "day_return": value / begun - 1.0 if known and begun else None,
        "day_since": _time(day.get("since")),
    }


def _room(use: Record) -> Record:
    known = use["used"] is not None
    return use | {"room": use["limit"] - use["used"] if known else None}


def _breaker(breaker: Record) -> Record:
    state = breaker["state"]
    return {
        "status": state["status"],
        "final": state["final"],
        "drawdown": breaker["drawdown"],
        "high_water_mark": _plain(state["high_water_mark"]),
        "unit": breaker["unit"],
        "reason": breaker["reason"],
    }


# -- positions and orders ------------------------------------------------------------------------


def _unknown(saved: SavedState) -> list[str]:
    """Return the data feeds whose positions no run has compared with the broker; ``*`` is all."""
    if ("run", "bars") not in saved.records:
        return ["*"]
    return list(saved.records.get(("run", "unknown"), {}).get("names", ()))


def _positions(saved: SavedState, now: float) -> Iterator[Record]:
    """Yield each position with its stop, and with the order of the stop at the venue, if any."""
    stops = {key.partition(":")[2]: stop for key, stop in saved.of("stop").items()}
    orders = [one for one in _orders(saved, now) if one["protects"]]
    for key, part in saved.of("position").items():
        if part["size"]:
            place, stop = (part["data"], part["owner"]), stops.get(key, {})
            yield {
                "data": part["data"],
                "owner": part["owner"],
                "size": part["size"],
                "entry": _plain(part["entry"]),
                "first_stop": _plain(stop.get("first")),
                "stop": _plain(stop.get("price")),
                "best": _plain(stop.get("best")),
                "stop_orders": [one for one in orders if (one["data"], one["owner"]) == place],
            }


def _orders(saved: SavedState, now: float) -> Iterator[Record]:
    """Yield each working order; ``seen_at`` is when the venue has listed it last."""
    for client_id, order in saved.of("order").items():
        seen = order.get("seen_at")
        yield {
            "client_id": client_id,
            "venue_id": order["venue_id"],
            "data": order["data"],
            "owner": order["owner"],
            "size": order["side"] * order["remaining"],
            "kind": order["kind"],
            "price": _plain(order["price"]),
            "own": order["own"],
            "protects": bool(order["own"] and order["kind"] == "stop"),
            "seen_at": _time(seen),
            "seen_ago": max(0.0, now - seen) if seen else None,
        }


def _unfinished(saved: SavedState) -> Iterator[str]:
    """Yield a sentence for each exit and order that is not finished."""
    for record in saved.of("gate").values():
        if record["flattening"]:
            yield f"closing every position: {record['flattening']}"
    for one in _halters(saved):
        if one["state"]["status"] == TRIPPED:
            yield f"closing every position: {one['reason']}"
    resting = {record["data"]: record["price"] for record in saved.of("stop").values()}
    for key, order in saved.of("order").items():
        size = f"{order['side'] * order['remaining']:+g} {order['data']}"
        if order["own"] and order["kind"] == "stop":
            target = resting.get(order["data"], math.nan)
            if abs(target - order["price"]) > PRICE_EPS * abs(target):
                yield f"the stop of {order['data']} moves from {order['price']:g} to {target:g}"
        elif order["venue_id"] is None:
            yield f"order {key} for {size}: sent, not acknowledged yet"
        else:
            yield f"order {order['venue_id']} for {size}: working ({order['kind']})"


def _decision(line: list[Any]) -> Record:
    found = {name: _plain(value) for name, value in zip(FIELDS, line, strict=True)}
    return found | {"time": bar_time(line[0])}


def _time(seconds: float | None) -> str | None:
    return utc(seconds) if seconds else None


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
