"""What the shadow book needs of a protected run: its bars, and what every order asked for."""

import math
from dataclasses import dataclass

import backtrader as bt
import pandas as pd

from bt_risk.components.quiet_analyzer import QuietAnalyzer
from bt_risk.evidence.paper_broker import SETTINGS, RequestedOrder
from bt_risk.evidence.paper_cash import TradingCosts
from bt_risk.gate.broker import RiskBroker
from bt_risk.report.calendar import timestamps
from bt_risk.report.record import unique_names

__all__ = ["ASKED", "ENDED", "OrderLogger", "OrderLog"]

ASKED = ["time", "at_bar", "name", *RequestedOrder._fields]
ENDED = ["time", "at_bar", "name", "number"]
_BARS = ["open", "high", "low", "close", "number"]
_OVER = (bt.Order.Canceled, bt.Order.Expired)
CASH = "cash"


@dataclass(frozen=True)
class OrderLog:
    """Plain values of one run.

    Attributes
    ----------
    asked : DataFrame
        Every order that opens or closes something as it was asked for, and as it was when
        something was cut from it later, columns `ASKED`: see
        `bt_risk.evidence.paper_broker.RequestedOrder`. What has at_bar counts from the bar of
        its time on, the rest from the one after.
    ended : DataFrame
        Orders that were cancelled, expired, or made void by another of their group, columns
        `ENDED`.
    bars : dict of DataFrame
        open, high, low, close and Backtrader's date number by time, for each data.
    terms : dict of Terms
        What a data costs, for each.
    cash : Series
        Of the account, by time.
    settings : dict
        How the broker lets orders slip: `bt_risk.evidence.paper_broker.SETTINGS`.
    """

    asked: pd.DataFrame
    ended: pd.DataFrame
    bars: dict
    terms: dict
    cash: pd.Series
    settings: dict


class _Follower:
    """What `OrderLogger` hears from the desk of the gate, as rows of plain values."""

    def __init__(self, gate, names):
        self.gate, self.names = gate, names
        self.rows, self.over = [], []
        self._numbers, self._names, self._asked = {}, {}, {}
        self._groups, self._cut = {}, set()

    def asked(self, asked):
        """Write down an order; one that is asked about again has been refused since."""
        order, number = asked.order, self._number(asked.order)
        time = self.gate.find(order.data).time
        if number in self._asked:
            self._cut.add(number)
        self._asked[number] = asked, time
        said = asked._asdict()
        self._row(time, False, said.pop("order"), batch=time, **said)

    def cut(self, cut):
        """Write down what was taken from an order, as it stood at that moment."""
        order, number = cut.order, self._number(cut.order)
        self._cut.add(number)
        filled = not math.isnan(cut.price)
        asked, time = self._asked.get(number, (None, self.gate.latest))
        step = math.nan if asked is None else asked.step
        now = order.data.datetime[0] if filled else self.gate.latest
        rest = {"opening": cut.units, "allowed": 0.0, "distance": cut.distance, "rule": cut.rule}
        rest |= {"kind": "filled", "price": cut.price} if filled else {}
        # What rested together is different orders, whenever each was asked for.
        batch = time if filled else now
        self._row(now, filled, order, batch=batch, again=True, step=step, **rest)

    def heard(self, order):
        """Write down that an order is over, or that cash did not cover it."""
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

    def withdrawn(self, ref):
        """Write down that the strategy has cancelled an order, which may be refused already."""
        number = self._numbers.get(ref)
        if number in self._asked:
            self._end(number, at_bar=False)

    def _starved(self, order, number):
        asked, time = self._asked[number]
        units = min(asked.allowed, abs(order.executed.remsize))
        rest = {"opening": units, "allowed": 0.0, "distance": asked.distance, "rule": CASH}
        rest |= {"batch": time, "again": True, "step": asked.step}
        self._row(self.gate.latest, True, order, **rest)

    def _end(self, number, at_bar=True):
        self.over.append((self.gate.latest, at_bar, self._names[number], number))

    def _row(self, time, at_bar, order, **values):
        number, group = self._number(order), self._group(order)
        self._groups.setdefault(group, set()).add(number)
        self._names[number] = name = self.names[self.gate.find(order.data).index]
        values = _terms_of(order) | {"number": number, "group": group} | values
        self.rows.append((time, at_bar, name, *RequestedOrder(**values)))

    def _number(self, order):
        """Count orders as they come: Backtrader's own numbers go on from run to run."""
        return self._numbers.setdefault(order.ref, len(self._numbers))

    def _group(self, order):
        leader = self.gate.venue.oco_leader(order)
        return self._numbers.setdefault(order.ref if leader is None else leader, len(self._numbers))


def _terms_of(order):
    """Return what an order waits for, as it stands now."""
    made, kind = order.created, order.ExecTypes[order.exectype].lower()
    return {
        "side": 1 if order.isbuy() else -1,
        "kind": kind,
        "price": _number(made.price),
        "limit": _number(made.pricelimit),
        "offset": _number(order._limitoffset),
        "trailamount": _number(order.trailamount),
        "trailpercent": _number(order.trailpercent),
        # BackBroker takes no date and zero alike: the order does not expire.
        "valid": _number(order.valid or None),
        "session": _number(order.dteos),
        "placed": _number(made.dt),
        "close": _number(made.pclose),
        "noted": _number(getattr(order, "pannotated", None)),
        "triggered": bool(order.triggered),
        "coc": bool(order.info.get("coc", True)),
    }


def _number(value):
    return math.nan if value is None else float(value)


class OrderLogger(QuietAnalyzer):
    """Write down every order as it was asked for, and every bar; nothing of the run is changed.

    `tape` is the `OrderLog` of the run, once it is over.
    """

    def __init__(self):
        self.tape = self._follower = None

    def start(self):
        """Follow the orders of the gate, if there is one."""
        self._names = unique_names(self.strategy.datas)
        self._rows, self._cash = [[] for _ in self._names], []
        gate = self.strategy.broker
        # Several strategies share one gate: the first of them follows for all.
        first = self.strategy is self.strategy.cerebro.runningstrats[0]
        if isinstance(gate, RiskBroker) and first:
            self._follower = _Follower(gate, self._names)
            gate.events.followers.append(self._follower)

    def next(self):
        """Keep the bars that have closed; one that is still replayed is kept as it is last."""
        latest = -math.inf
        for feed, rows in zip(self.strategy.datas, self._rows, strict=True):
            if not len(feed):
                continue
            time = feed.datetime[0]
            latest = max(latest, time)
            row = time, feed.open[0], feed.high[0], feed.low[0], feed.close[0], time
            if len(feed) > len(rows):
                rows.append(row)
            elif feed.replaying:
                rows[-1] = row
        self._cash.append((latest, self.strategy.broker.getcash()))

    def stop(self):
        """Keep plain values only, so that results can be sent between processes."""
        asked = pd.DataFrame(self._follower.rows if self._follower else [], columns=ASKED)
        ended = pd.DataFrame(self._follower.over if self._follower else [], columns=ENDED)
        cash = pd.DataFrame(self._cash, columns=["time", CASH], dtype=float)
        bars, terms, broker = {}, {}, self.strategy.broker
        for name, feed, rows in zip(self._names, self.strategy.datas, self._rows, strict=True):
            frame = pd.DataFrame(rows, columns=["time", *_BARS], dtype=float)
            bars[name] = frame[_BARS].set_axis(timestamps(frame["time"]))
            terms[name] = _terms(broker, feed)
        params = getattr(broker, "p", None)
        self.tape = OrderLog(
            asked.assign(time=timestamps(asked["time"])),
            ended.assign(time=timestamps(ended["time"])),
            bars,
            terms,
            cash[CASH].set_axis(timestamps(cash["time"])),
            {name: getattr(params, name) for name in SETTINGS if hasattr(params, name)},
        )
        self._rows = self._cash = self._follower = None


def _terms(broker, feed):
    """Return the `TradingCosts` of a data feed, asked at its last close."""
    info = broker.getcommissioninfo(feed)
    multiplier = float(getattr(info.p, "mult", 1.0))
    price = feed.close[0] if len(feed) else math.nan
    full = getattr(info, "_stocklike", True)
    rate = info.getcommission(1.0, price) / (price * multiplier) if price > 0 else 0.0
    return TradingCosts(
        multiplier,
        math.nan if full else float(info.get_margin(price) or 0.0) / float(info.get_leverage()),
        float(info.get_leverage()),
        bool(getattr(broker.p, "shortcash", True)) if hasattr(broker, "p") else True,
        float(rate),
    )
