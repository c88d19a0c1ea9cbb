"""The order log of a protected run: its bars, and every order as the strategy requested it."""

import math
from array import array
from dataclasses import dataclass
from typing import Any

import backtrader as bt
import numpy as np
import pandas as pd

from bt_risk.components.quiet_analyzer import QuietAnalyzer
from bt_risk.evidence.paper_broker import SETTINGS, RequestedOrder
from bt_risk.evidence.paper_cash import TradingCosts
from bt_risk.gate.broker import RiskBroker
from bt_risk.gate.order_events import OrderAsked, OrderCut
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.point_value import point_value
from bt_risk.report.calendar import timestamps
from bt_risk.report.record import exchange_of
from bt_risk.report.seen_bars import seen_bars, unique_names

__all__ = ["ENDED", "REQUESTED", "OrderLog", "OrderLogger"]

REQUESTED = ["time", "at_bar", "name", *RequestedOrder._fields]
ENDED = ["time", "at_bar", "name", "number"]
_PRICES = ["open", "high", "low", "close"]
_OVER = (bt.Order.Canceled, bt.Order.Expired)
CASH = "cash"


@dataclass(frozen=True)
class OrderLog:
    """The log of one run, in plain values.

    Attributes
    ----------
    requested : DataFrame
        Every order that opens or closes something as it was requested, and as it was when
        something was cut from it later, columns `REQUESTED`: see
        `bt_risk.evidence.paper_broker.RequestedOrder`. A row with at_bar counts from the bar of
        its time on, any other from the bar after.
    ended : DataFrame
        Orders that were cancelled, expired, or made void by another of their group, columns
        `ENDED`.
    bars : dict of DataFrame
        open, high, low, close and Backtrader's date number by time, for each data feed.
    trading_costs : dict of TradingCosts
        What trading costs, for each data feed.
    cash : Series
        Cash of the account, by time.
    settings : dict
        Slippage and order settings of the broker: `bt_risk.evidence.paper_broker.SETTINGS`.
    """

    requested: pd.DataFrame
    ended: pd.DataFrame
    bars: dict[str, pd.DataFrame]
    trading_costs: dict[str, TradingCosts]
    cash: pd.Series
    settings: dict[str, Any]


class _OrderFollower:
    """Record what the gate reports about orders, as rows of plain values."""

    def __init__(self, gate: RiskBroker, names: tuple[str, ...]) -> None:
        self.gate, self.names = gate, names
        self.rows: list[tuple[Any, ...]] = []
        self.ended: list[tuple[float, bool, str, int]] = []
        self._numbers: dict[int, int] = {}
        self._names: dict[int, str] = {}
        self._asked: dict[int, tuple[OrderAsked, float]] = {}
        self._groups: dict[int, set[int]] = {}
        self._cut: set[int] = set()

    def asked(self, asked: OrderAsked) -> None:
        """Record a requested order; one that is reported again has been refused since."""
        order, number = asked.order, self._number(asked.order)
        time = self._instrument(order).time
        if number in self._asked:
            self._cut.add(number)
        self._asked[number] = asked, time
        values = asked._asdict()
        self._row(time, False, values.pop("order"), batch=time, **values)

    def cut(self, cut: OrderCut) -> None:
        """Record what was taken from an order, as it stood at that moment."""
        order, number = cut.order, self._number(cut.order)
        self._cut.add(number)
        filled = not math.isnan(cut.price)
        asked, time = self._asked.get(number, (None, self.gate.latest))
        step = math.nan if asked is None else asked.step
        now = order.data.datetime[0] if filled else self.gate.latest
        rest = {"opening": cut.units, "allowed": 0.0, "distance": cut.distance, "rule": cut.rule}
        rest |= {"kind": "filled", "price": cut.price} if filled else {}
        # Orders that rested together are different orders, whenever each was requested.
        batch = time if filled else now
        self._row(now, filled, order, batch=batch, is_update=True, step=step, **rest)

    def heard(self, order: bt.Order) -> None:
        """Record that an order is over, or that cash did not cover it."""
        number = self._numbers.get(order.ref)
        if number is None or number not in self._asked:
            return
        if order.status == bt.Order.Margin:
            self._starved(order, number)
        elif order.status in _OVER and number not in self._cut:
            self._end(number)
        elif order.status in (bt.Order.Partial, bt.Order.Completed):
            for other in self._groups.get(self._group(order), ()):
                if other != number:
                    self._end(other)

    def withdrawn(self, ref: int) -> None:
        """Record that the strategy has cancelled an order, which may be refused already."""
        number = self._numbers.get(ref)
        if number is not None and number in self._asked:
            self._end(number, at_bar=False)

    def _starved(self, order: bt.Order, number: int) -> None:
        asked, time = self._asked[number]
        units = min(asked.allowed, abs(order.executed.remsize))
        rest = {"opening": units, "allowed": 0.0, "distance": asked.distance, "rule": CASH}
        rest |= {"batch": time, "is_update": True, "step": asked.step}
        self._row(self.gate.latest, True, order, **rest)

    def _end(self, number: int, at_bar: bool = True) -> None:
        self.ended.append((self.gate.latest, at_bar, self._names[number], number))

    def _row(self, time: float, at_bar: bool, order: bt.Order, **values: Any) -> None:
        number, group = self._number(order), self._group(order)
        self._groups.setdefault(group, set()).add(number)
        self._names[number] = name = self.names[self._instrument(order).index]
        values = _conditions(order) | {"number": number, "group": group} | values
        self.rows.append((time, at_bar, name, *RequestedOrder(**values)))

    def _instrument(self, order: bt.Order) -> Instrument:
        return self.gate.book.by_data[id(order.data)]

    def _number(self, order: bt.Order) -> int:
        """Count orders as they come: Backtrader's own numbers go on from run to run."""
        return self._numbers.setdefault(order.ref, len(self._numbers))

    def _group(self, order: bt.Order) -> int:
        leader = self.gate.venue.oco_leader(order)
        return self._numbers.setdefault(order.ref if leader is None else leader, len(self._numbers))


def _conditions(order: bt.Order) -> dict[str, Any]:
    """Return what an order waits for, as it stands now, by the fields of `RequestedOrder`."""
    created, kind = order.created, order.ExecTypes[order.exectype].lower()
    return {
        "side": 1 if order.isbuy() else -1,
        "kind": kind,
        "price": _number(created.price),
        "limit": _number(created.pricelimit),
        "offset": _number(order._limitoffset),
        "trailamount": _number(order.trailamount),
        "trailpercent": _number(order.trailpercent),
        # BackBroker treats no date and zero alike: the order does not expire.
        "valid": _number(order.valid or None),
        "session": _number(order.dteos),
        "placed": _number(created.dt),
        "close": _number(created.pclose),
        "noted": _number(getattr(order, "pannotated", None)),
        "triggered": bool(order.triggered),
        "coc": bool(order.info.get("coc", True)),
    }


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


class OrderLogger(QuietAnalyzer):
    """Log every order as it was requested, and every bar; the run itself does not change.

    `log` is the `OrderLog` of the run, once it is over.
    """

    def __init__(self) -> None:
        self.log: OrderLog | None = None
        self._follower: _OrderFollower | None = None
        self._cash = array("d")

    def start(self) -> None:
        """Follow the orders of the gate, if there is one."""
        self._seen = seen_bars(self.strategy, _PRICES)
        self._names = unique_names(self._seen.feeds)
        gate = self.strategy.broker
        # Several strategies share one gate: the first of them follows for all.
        first = self.strategy is self.strategy.cerebro.runningstrats[0]
        if isinstance(gate, RiskBroker) and first:
            self._follower = _OrderFollower(gate, self._names)
            gate.events.followers.append(self._follower)

    def next(self) -> None:
        """Record the cash of this bar; `stop` reads the bars out of the data feeds."""
        self._seen.note()
        self._cash.append(self.strategy.broker.getcash())

    def stop(self) -> None:
        """Convert everything to plain values, so that results can be sent between processes."""
        follower, broker = self._follower, self.strategy.broker
        requested = pd.DataFrame(follower.rows if follower else [], columns=REQUESTED)
        ended = pd.DataFrame(follower.ended if follower else [], columns=ENDED)
        feeds = dict(zip(self._names, self._seen.feeds, strict=True))
        params = getattr(broker, "p", None)
        self.log = OrderLog(
            requested.assign(time=timestamps(requested["time"])),
            ended.assign(time=timestamps(ended["time"])),
            {name: self._bars(place) for place, name in enumerate(feeds)},
            {
                name: _trading_costs(broker, feed, self._last_close(place))
                for place, (name, feed) in enumerate(feeds.items())
            },
            self._cash_by_time(),
            {name: getattr(params, name) for name in SETTINGS if hasattr(params, name)},
        )
        del self._seen, self._follower, self._cash

    def _last_close(self, place: int) -> float:
        """Return the last close of a data feed, NaN without a bar."""
        line = self._seen.feeds[place].close
        try:
            return float(line[0]) if len(line) else math.nan
        except IndexError:  # with exactbars=1 Backtrader has forgotten it
            return float(self._seen.bars(place, "close")[-1])

    def _cash_by_time(self) -> pd.Series:
        latest = self._seen.latest(range(len(self._names)), before=-math.inf)
        return pd.Series(np.array(self._cash), timestamps(latest), name=CASH)

    def _bars(self, place: int) -> pd.DataFrame:
        times, *prices = (self._seen.bars(place, name) for name in ("datetime", *_PRICES))
        columns = dict(zip(_PRICES, prices, strict=True))
        return pd.DataFrame(columns | {"number": times}, timestamps(times))


def _trading_costs(broker: bt.BrokerBase, feed: bt.AbstractDataBase, price: float) -> TradingCosts:
    """Return the `TradingCosts` of a data feed at a price."""
    info = broker.getcommissioninfo(feed)
    multiplier = point_value(info, price)
    full = getattr(info, "_stocklike", True)
    rate = info.getcommission(1.0, price) / (price * multiplier) if price > 0 else 0.0
    return TradingCosts(
        multiplier * exchange_of(broker, feed),
        math.nan if full else float(info.get_margin(price) or 0.0) / float(info.get_leverage()),
        float(info.get_leverage()),
        bool(getattr(broker.p, "shortcash", True)) if hasattr(broker, "p") else True,
        float(rate),
    )
