"""Make and copy Backtrader's own orders in a fraction of the time that its metaclasses take.

An order that is sent is equal to one that BackBroker makes, in every attribute. An order that is
refused at once is of a subclass, which makes its parts when somebody reads them: strategies keep
every order that they were notified of, so a refusal must not take much memory.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime, time, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import backtrader as bt
from backtrader.order import BuyOrder, OrderData, SellOrder
from backtrader.utils import AutoOrderedDict

from bt_risk.known_engine import other_engine
from bt_risk.orders import ARGUMENTS, DEFAULTS, TRAILING

if TYPE_CHECKING:
    from bt_risk.orders import OrderRequest

__all__ = ["clone", "is_simple", "notify", "order_of", "refused_order", "send"]

# Another engine may have other orders: there its own constructors are called.
_KNOWN = not other_engine()
# What an order's parameters are made of, beside owner, data feed and size.
_TERMS = (
    "price",
    "plimit",
    "exectype",
    "tradeid",
    "trailamount",
    "trailpercent",
    "parent",
    "transmit",
)
_DEFAULT_TERMS = tuple([DEFAULTS[name] for name in _TERMS])
# Parameters that a strategy may pass although they are no arguments of every broker.
_RARE = frozenset({"simulated", "histnotify"})
# Methods that somebody may have replaced on the one broker, to see every order.
_REPLACEABLE = frozenset({"buy", "sell", "submit", "submit_accept", "transmit"})
# What an order has asked for has no executions. An empty deque takes 0.8 kB, so all orders share
# one, which takes nothing in.
_NO_EXECUTIONS: deque[Any] = deque(maxlen=0)
# Part of a day: a time beyond it may be rounded to the next day.
_ALMOST_A_DAY = 0.9999


def send(broker: Any, request: OrderRequest, size: float, own: bool = False) -> Any:
    """Send `size` units of a request to a BackBroker, as its ``buy`` and ``sell`` do.

    Of an order of bt_risk's `own`, of which no strategy hears before it fills, nobody is notified.
    """
    args = request.args
    if not (is_simple(request) and _REPLACEABLE.isdisjoint(vars(broker))):
        native = broker.buy if request.side > 0 else broker.sell
        return native(request.owner, request.sent_on.data, size, **args)
    order, check = order_of(request, size), True
    if len(args) > len(ARGUMENTS):
        more = {name: args[name] for name in args if name not in DEFAULTS}
        check = more.pop("_checksubmit", True)
        order.addinfo(**more)
    broker._ocoize(order, args["oco"])
    if args["parent"] is not None or not args["transmit"]:
        return broker.submit(order, check=check)
    broker._pchildren[order.ref].append(order)
    order.plen = request.sent_on.close.lencount
    if check and broker.p.checksubmit:
        order.status = order.Submitted
        broker.submitted.append(order)
        broker.orders.append(order)
    else:
        order.pannotated, order.status = None, order.Accepted
        broker.pending.append(order)
    if not own:
        broker.notify(order)
    return order


def notify(broker: Any, order: Any) -> None:
    """Let a BackBroker notify of an order, as its ``notify`` does."""
    broker.notifs.append(clone(order))


def is_simple(request: OrderRequest) -> bool:
    """Return whether the order of a request can be made here."""
    args = request.args
    return (
        _KNOWN
        and args["valid"] is None
        and args["exectype"] not in TRAILING
        and request.sent_on.priced
        and (len(args) == len(ARGUMENTS) or _RARE.isdisjoint(args))
    )


def order_of(request: OrderRequest, size: float) -> Any:
    """Return a new order for `size` units of a simple request, as BackBroker makes it.

    Its `info` is empty: what the strategy has added to the request is not in it yet.
    """
    args, side, sent_on = request.args, request.side, request.sent_on
    price, limit, exectype, tradeid, amount, percent, parent, transmit = terms = _terms(args)
    close, now = sent_on.close[0], sent_on.datetime[0]
    signed = size if side > 0 else -size
    kind = BuyOrder if side > 0 else SellOrder
    order: Any = object.__new__(kind)
    order.params = order.p = _params(kind, request.owner, sent_on.data, size, terms)
    order.ref = next(order.refbasis)
    order.broker = order.comminfo = None
    order.info = AutoOrderedDict()
    order.triggered = False
    order._active = parent is None
    order.status = order.Created
    order._plimit = limit
    order.exectype = order.Market if exectype is None else exectype
    # Backtrader finds these in `params`, by a detour, each time that an order is touched.
    order.owner, order.data, order.size = request.owner, sent_on.data, signed
    order.tradeid, order.parent, order.transmit, order.valid = tradeid, parent, transmit, None
    at = price if price or limit else close
    order.created = OrderData(now, signed, at, limit, 0, close, amount, percent)
    order.created.exbits = _NO_EXECUTIONS
    order.executed = OrderData(remsize=signed)
    order._limitoffset, order.position = 0.0, 0
    order.dteos = _session_end(sent_on.data, sent_on.datetime, now)
    return order


def _terms(args: dict[str, Any]) -> tuple[Any, ...]:
    """Return the values of `_TERMS`, the same object for every plain market order."""
    terms = tuple([args[name] for name in _TERMS])
    return _DEFAULT_TERMS if terms == _DEFAULT_TERMS else terms


def _params(kind: Any, owner: Any, data: Any, size: float, terms: tuple[Any, ...]) -> Any:
    """Return the parameters of an order as Backtrader's metaclass makes them."""
    params: Any = object.__new__(kind.params)
    params.owner, params.data, params.size = owner, data, size
    params.price, params.pricelimit, params.exectype = terms[:3]
    params.valid, params.tradeid, params.oco = None, terms[3], None
    params.trailamount, params.trailpercent, params.parent, params.transmit = terms[4:]
    params.simulated = params.histnotify = False
    return params


def _session_end(data: Any, clock: Any, now: float) -> float:
    """Return when the session of the bar at `now` ends, as an order computes it."""
    session = data.p.sessionend
    if clock._tz is None and data._tz is None:
        end = _plain_session_end(now, session)
        if end is not None:
            return end
    begin = bt.num2date(now, clock._tz)
    last = datetime.combine(begin.date(), session)
    return float(data.date2num(last if last >= begin else last + timedelta(days=1)))


@lru_cache(maxsize=64)
def _plain_session_end(now: float, session: time) -> float | None:
    """Return the same without a time zone; None where rounding may change the day."""
    day = int(now)
    if now - day < _ALMOST_A_DAY:
        end = float(bt.date2num(datetime.combine(datetime.fromordinal(day), session)))
        if end - now > 1.0 - _ALMOST_A_DAY:
            return end
    return None


def clone(order: Any) -> Any:
    """Return what ``order.clone()`` returns."""
    kind = type(order)
    if not _KNOWN or (kind is not BuyOrder and kind is not SellOrder):
        return order.clone()
    executed = order.executed
    executed.p1, executed.p2 = executed.p2, len(executed.exbits)  # as `markpending` does
    copied, done = object.__new__(kind), object.__new__(OrderData)
    copied.__dict__, done.__dict__ = vars(order).copy(), vars(executed).copy()
    copied.executed = done
    return copied


# -- an order that is refused ----------------------------------------------------------------------


def refused_order(request: OrderRequest, reason: str, broker: Any) -> Any:
    """Return an order that `broker` has rejected at once, with the reason in its `info`."""
    size, args = request.size, request.args
    order: Any
    if not is_simple(request) or len(args) > len(ARGUMENTS):
        order = request.native_order(size)
        order.addinfo(bt_risk=reason)
        order.submit(broker)
        order.reject(broker)
        return order
    sent_on, terms = request.sent_on, _terms(args)
    order = object.__new__(_RefusedBuy if request.side > 0 else _RefusedSell)
    order.ref = next(order.refbasis)
    order.broker, order.owner, order.data = broker, request.owner, sent_on.data
    order.size = size if request.side > 0 else -size
    order.exectype = order.Market if args["exectype"] is None else args["exectype"]
    order.plen = sent_on.close.lencount
    order._terms, order._reason = terms, reason
    order._close, order._now = sent_on.close[0], sent_on.datetime[0]
    return order


class _Refused:
    """Make the parts of an order when they are read; it was rejected before it was sent.

    Only `info` is stored then: a strategy may write to it.
    """

    status = bt.Order.Rejected
    comminfo = None
    triggered = False
    position = 0
    _limitoffset = 0.0
    ref: int
    owner: Any
    data: Any
    size: float
    _terms: tuple[Any, ...]
    _close: float
    _now: float
    _reason: str

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what `copy` and `pickle` look for before there is anything
            raise AttributeError(name)
        make = _PARTS.get(name)
        return getattr(self.p, name) if make is None else make(self)

    def clone(self) -> Any:
        """Return the order itself: nothing changes it any more."""
        return self


class _RefusedBuy(_Refused, BuyOrder):  # type: ignore[misc]  # Backtrader has no types
    """A buy order that was rejected before it was sent."""


class _RefusedSell(_Refused, SellOrder):  # type: ignore[misc]  # Backtrader has no types
    """A sell order that was rejected before it was sent."""


def _made_params(order: Any) -> Any:
    size = order.size if order.isbuy() else -order.size
    return _params(
        BuyOrder if order.isbuy() else SellOrder, order.owner, order.data, size, order._terms
    )


def _created(order: Any) -> OrderData:
    price, limit, _, _, amount, percent, _, _ = order._terms
    at, close = price if price or limit else order._close, order._close
    return OrderData(order._now, order.size, at, limit, 0, close, amount, percent)


def _executed(order: Any) -> OrderData:
    executed = OrderData(remsize=order.size)
    executed.dt = order._now
    return executed


def _info(order: Any) -> AutoOrderedDict:
    info = order.info = AutoOrderedDict()
    info["bt_risk"] = order._reason
    return info


_PARTS = {
    "created": _created,
    "executed": _executed,
    "info": _info,
    "dteos": lambda order: _session_end(order.data, order.data.datetime, order._now),
    "_active": lambda order: order._terms[6] is None,
    "_plimit": lambda order: order._terms[1],
}
# The metaclass takes `params` in a class for the declaration of parameters.
for _one in (_RefusedBuy, _RefusedSell):
    _one.params = _one.p = property(_made_params)
