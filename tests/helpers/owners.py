"""Run several strategies on one data feed at a fake venue that notes what is held and what rests.

Each is an owner: it holds a part of the position, with a stop of its own.
"""

import backtrader as bt

import bt_risk
from helpers.capable_broker import CapableBroker
from helpers.hostile_brokers import Ticking
from helpers.scenarios import Script, bars


class NotingBroker(CapableBroker):
    """Note in every round ``(bar, held, stops, market exits)``, in units of positions on `side`."""

    side = 1

    def start(self):
        super().start()
        self.rounds = []

    def next(self):
        super().next()
        held = sum(position.size for position in self._positions.values())
        side = self.side
        rows = [(o.exectype, -side * o.executed.remsize) for o in self._working]
        stops = [size for kind, size in rows if kind == bt.Order.Stop and size > 0]
        exits = [size for kind, size in rows if kind in (None, bt.Order.Market) and size > 0]
        bar = max(len(data) for data in self.cerebro.datas)
        self.rounds.append((bar, side * held, sorted(stops), sorted(exits)))

    @property
    def beyond(self):
        """The rounds in which more would be sold than is held, if all of it filled."""
        return [row for row in self.rounds if sum(row[2]) + sum(row[3]) > row[1] + 1e-9]


def mirrored(rows, side):
    """Return bars for a short that are what `rows` are for a long."""
    return rows if side > 0 else [(200 - o, 200 - low, 200 - h, 200 - c) for o, h, low, c in rows]


def run_owners(venue, rows, plans, *, side=1, trigger="intrabar", **options):
    """Run a strategy for each plan, ``{bar: callable(strategy)}``; return the strategies."""
    engine = bt.Cerebro(stdstats=False)
    engine.adddata(Ticking(dataname=bars(*mirrored(rows, side))), name="D0")
    settings = {"retry_after": 0.0, "limits": [bt_risk.NotionalLimit(50.0)]} | options
    venue.side = side
    engine.setbroker(bt_risk.RiskBroker(venue, **settings))
    for plan in plans:
        engine.addstrategy(Script, actions=plan)
    engine.addobserver(bt_risk.ATRTrailingStop, trigger=trigger)
    engine.addanalyzer(bt_risk.RiskJournal)
    return engine.run(quicknotify=True)


def enters(side, size):
    return lambda s: s.buy(size=size) if side > 0 else s.sell(size=size)


def leaves(side, size, **options):
    return lambda s: s.sell(size=size, **options) if side > 0 else s.buy(size=size, **options)


def closes(s):
    return s.close()
