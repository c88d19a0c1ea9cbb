"""Replay without bt_risk the orders that a protected run has sent to Backtrader's broker.

A bare run of the same strategy makes other trades, so a ratio to it would also compare the trades.
A replayed run has the same strategy, computes the same signals, and sends the orders of a recording
at the same bars: both end with the same value to the cent.
"""

from collections import defaultdict
from dataclasses import dataclass

import backtrader as bt

from benchmarks.job import RsiEntry, build, protected

__all__ = ["Recording", "record", "replay"]


@dataclass(frozen=True)
class Recording:
    """What a run has sent to its broker, by bar, and what came of it."""

    events: dict
    orders: int
    value: float


class Recorder(bt.brokers.BackBroker):
    """Note every order, every cancel, and every change of a resting order."""

    def __init__(self):
        super().__init__()
        self.bar, self.events, self.sent, self.open = 0, defaultdict(list), {}, set()

    def submit(self, order, check=True):
        """Note an order."""
        if order.parent is not None or not order.transmit:
            raise NotImplementedError("a bracket cannot be replayed")
        arguments = dict(
            size=abs(order.created.size),
            price=order.created.price,
            exectype=order.exectype,
            tradeid=order.tradeid,
            _checksubmit=check,
        )
        self.sent[order.ref] = order, arguments, [order.created.size, order.created.price]
        self.open.add(order.ref)
        self._note("send", order.ref, order.isbuy(), order.data._name, arguments)
        return super().submit(order, check)

    def cancel(self, order, bracket=False):
        """Note a cancel."""
        self._note("cancel", order.ref)
        return super().cancel(order, bracket)

    def next(self):
        """Note what has changed since the last bar, then execute."""
        for ref in sorted(self.open):
            order, _, last = self.sent[ref]
            now = [order.created.size, order.created.price]
            if not order.alive():
                self.open.remove(ref)
            elif now != last:
                last[:] = now
                self._note("amend", ref, *now)
        self.bar += 1
        super().next()

    def _note(self, *event):
        self.events[self.bar].append(event)

    def recording(self):
        """Return what was noted; a market order has the size that it was cut to when it filled."""
        for order, arguments, _ in self.sent.values():
            if order.exectype == order.Market and order.executed.size:
                arguments["size"] = abs(order.executed.size)
        return Recording(dict(self.events), len(self.sent), self.getvalue())


class Replayed(RsiEntry):
    """Compute the same signals, and send the orders of a recording instead."""

    params = dict(events=None)

    def __init__(self):
        super().__init__()
        self.sent = {}

    def enter(self, data):
        """Send nothing: where the order was allowed, the recording has it."""

    def next(self):
        """Repeat what was sent at this bar."""
        super().next()
        for kind, ref, *event in self.p.events.get(len(self), ()):
            if kind == "send":
                buys, data, arguments = event
                send = self.buy if buys else self.sell
                self.sent[ref] = send(self.getdatabyname(data), **arguments)
            elif kind == "amend":
                order = self.sent[ref]
                order.size = order.created.size = order.executed.remsize = event[0]
                order.created.price = event[1]
            else:
                self.cancel(self.sent[ref])


def record(frames, **settings):
    """Run protected by Backtrader's own loop, and return the `Recording`."""
    recorder = Recorder()
    protected(frames, broker=recorder, fast=False, **settings).run()
    return recorder.recording()


def replay(frames, recording):
    """Return a Cerebro without bt_risk that sends the same orders."""
    return build(frames, Replayed, events=recording.events)
