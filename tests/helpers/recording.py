"""Record what a run did, bar by bar and exactly, so that two runs can be compared.

Floats are kept as their ``repr``: equal means equal to the last bit, and NaN equals NaN. Order
references are numbered by first appearance, because they count on from run to run.
"""

import random

import backtrader as bt

import bt_risk
from helpers import scenarios as feeds

ANALYZERS = (
    bt.analyzers.AnnualReturn,
    bt.analyzers.Calmar,
    bt.analyzers.DrawDown,
    bt.analyzers.GrossLeverage,
    bt.analyzers.LogReturnsRolling,
    bt.analyzers.PeriodStats,
    bt.analyzers.PositionsValue,
    bt.analyzers.PyFolio,
    bt.analyzers.Returns,
    bt.analyzers.SharpeRatio,
    bt.analyzers.SharpeRatio_A,
    bt.analyzers.SQN,
    bt.analyzers.TimeDrawDown,
    bt.analyzers.TimeReturn,
    bt.analyzers.TradeAnalyzer,
    bt.analyzers.Transactions,
    bt.analyzers.VWR,
)

# BackBroker adds up positions in the order in which they were first asked for. These ask for all
# of them on the first bar, and so hide it if anything else does.
ASK_FOR_POSITIONS = (bt.analyzers.PositionsValue, bt.analyzers.PyFolio)
OTHERS = tuple(kind for kind in ANALYZERS if kind not in ASK_FOR_POSITIONS)


def plain(value):
    """Return nested dicts, lists and tuples of what `value` holds, floats as their repr."""
    if isinstance(value, dict):
        return {repr(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return repr(value)


class Recorder(bt.Analyzer):
    """Log every notification, and position, cash, value and fund value of every bar.

    `rows` are ``(bar, kind, what happened)``. It holds no object of the run, so it survives
    ``optstrategy``.
    """

    def start(self):
        self.rows, self._refs = [], {}

    def _log(self, kind, *what):
        self.rows.append((len(self.strategy), kind, what))

    def _ref(self, order):
        return self._refs.setdefault(order.ref, len(self._refs)) if order is not None else None

    def notify_order(self, order):
        asked, done = order.created, order.executed
        self._log(
            "order",
            self._ref(order),
            self._ref(order.parent),
            order.getstatusname(),
            order.getordername(),
            order.data._name,
            order.tradeid,
            (order.size, order.price, order.pricelimit, order.valid, order.triggered),
            (asked.size, asked.remsize, asked.price, asked.pricelimit, asked.dt),
            (done.size, done.remsize, done.price, done.value, done.comm, done.pnl, done.dt),
            (done.psize, done.pprice),
            dict(order.info.items()),
        )

    def notify_trade(self, trade):
        self._log(
            "trade",
            trade.data._name,
            trade.tradeid,
            trade.status,
            (trade.size, trade.price, trade.value, trade.commission, trade.pnl, trade.pnlcomm),
            (trade.isclosed, trade.barlen, trade.dtopen, trade.dtclose, trade.long),
        )

    def notify_cashvalue(self, cash, value):
        self._log("cash and value", cash, value)

    def notify_fund(self, cash, value, fundvalue, shares):
        self._log("fund", cash, value, fundvalue, shares)

    def prenext(self):
        self.next()

    def next(self):
        broker = self.strategy.broker
        positions = [
            (data._name, position.size, position.price)
            for data, position in broker.positions.items()
        ]
        self._log("bar", positions, broker.getcash(), broker.getvalue())

    def get_analysis(self):
        return self.rows


def record(cerebro, analyzers=ANALYZERS):
    """Run a Cerebro; return what every strategy of it saw, and what its analyzers say."""
    if cerebro.p.exactbars == 1:  # AnnualReturn reads bars that are not kept then
        analyzers = [kind for kind in analyzers if kind is not bt.analyzers.AnnualReturn]
    cerebro.addobserver(bt.observers.Broker)  # AnnualReturn reads it
    for number, kind in enumerate((Recorder, *analyzers)):
        cerebro.addanalyzer(kind, _name=f"recorded{number}")
    runs = cerebro.run()
    runs = runs if isinstance(runs[0], list) else [runs]  # optstrategy gives a list of lists
    return [
        [plain(strategy.analyzers.getbyname(f"recorded{n}").get_analysis()) for n in range(count)]
        for count in [1 + len(analyzers)]
        for strategies in runs
        for strategy in strategies
    ]


def rows(recorded, kind):
    """Return what any strategy of `record`'s answer saw of one kind."""
    return [what for run in recorded for _, seen, what in run[0] if seen == repr(kind)]


def statuses(recorded):
    """Return the set of order statuses that any strategy of `record`'s answer was notified of."""
    return {what[2].strip("'") for what in rows(recorded, "order")}


class RandomTrader(bt.Strategy):
    """Do anything that a strategy may do, from a seed, independent of bt_risk.

    What it does next depends on the notifications that it gets: where one is missing, late or
    different, the runs differ. `rich` leaves out the orders that end Margin, ``brackets=False``
    those with a stop of their own, which a protective stop takes its distance from.
    """

    params = {"seed": 0, "rich": False, "fractional": False, "brackets": True}

    def __init__(self):
        self.rng = random.Random(self.p.seed)
        self.alive = {}

    def notify_order(self, order):
        if order.alive():
            self.alive[order.ref] = order
        else:
            self.alive.pop(order.ref, None)

    def prenext(self):
        self.next()

    def next(self):
        for _ in range(self.rng.choice((0, 1, 1, 2))):
            self.act()

    def act(self):
        data = self.rng.choice([d for d in self.datas if len(d)])
        action = self.rng.choice(self.actions)
        if self.p.brackets or action not in BRACKETS:
            action(self, data)

    # -- pieces of an order ----------------------------------------------------------------------

    def size(self):
        size = self.rng.randint(1, 20)
        return size + 0.25 if self.p.fractional else size

    def valid(self, data):
        days = self.rng.choice((None, None, None, 0, 1, 2))
        if not days:
            return days
        return data.datetime.datetime(0) + bt.datetime.timedelta(days=days)

    def side(self):
        return self.rng.choice((self.buy, self.sell))

    def near(self, data, width=0.02):
        return data.close[0] * (1 + self.rng.uniform(-width, width))

    def keep(self, *orders):
        self.alive.update({order.ref: order for order in orders if order is not None})

    # -- actions ---------------------------------------------------------------------------------

    def market(self, data):
        self.keep(self.side()(data, size=self.size(), tradeid=self.rng.choice((0, 0, 7))))

    def sized_by_sizer(self, data):
        self.keep(self.side()(data))

    def resting(self, data):
        kind = self.rng.choice((bt.Order.Limit, bt.Order.Stop, bt.Order.Close))
        price, valid = self.near(data), self.valid(data)
        self.keep(self.side()(data, size=self.size(), exectype=kind, price=price, valid=valid))

    def stop_limit(self, data):
        kind, price = bt.Order.StopLimit, self.near(data)
        plimit = self.near(data)
        self.keep(self.side()(data, size=self.size(), exectype=kind, price=price, plimit=plimit))

    def trailing(self, data):
        kind = self.rng.choice((bt.Order.StopTrail, bt.Order.StopTrailLimit))
        trail = {"trailpercent": 0.01} if self.rng.random() < 0.5 else {"trailamount": 1.5}
        plimit = data.close[0] if kind == bt.Order.StopTrailLimit else None
        self.keep(self.side()(data, size=self.size(), exectype=kind, plimit=plimit, **trail))

    def leave(self, data):
        self.keep(self.close(data))

    def target(self, data):
        kind = self.rng.randrange(3)
        if kind == 0:
            self.keep(self.order_target_size(data, self.rng.randint(-15, 15)))
        elif kind == 1:
            self.keep(self.order_target_value(data, self.rng.uniform(-2000, 2000)))
        else:
            self.keep(self.order_target_percent(data, self.rng.uniform(-0.2, 0.2)))

    def bracket(self, data):
        close, up = data.close[0], self.rng.random() < 0.5
        low, high = close * 0.985, close * 1.015
        kind = self.rng.choice((bt.Order.Market, bt.Order.Limit))
        make = self.buy_bracket if up else self.sell_bracket
        stop, limit = (low, high) if up else (high, low)
        self.keep(
            *make(
                data=data,
                size=self.size(),
                exectype=kind,
                price=close,
                stopprice=stop,
                limitprice=limit,
            )
        )

    def bracket_by_hand(self, data):
        size, close = self.size(), data.close[0]
        parent = self.buy(data, size=size, transmit=False)
        stop = {"exectype": bt.Order.Stop, "price": close * 0.98}
        self.keep(parent, self.sell(data, size=size, parent=parent, transmit=True, **stop))

    def one_cancels_other(self, data):
        size, close = self.size(), data.close[0]
        make = self.side()
        first = make(data, size=size, exectype=bt.Order.Limit, price=close * 1.01)
        other = make(data, size=size, exectype=bt.Order.Stop, price=close * 0.99, oco=first)
        self.keep(first, other)

    def cancel_any(self, data):
        if self.alive:
            self.cancel(self.alive[self.rng.choice(sorted(self.alive))])

    def cancel_at_once(self, data):
        order = self.side()(data, size=self.size(), exectype=bt.Order.Limit, price=self.near(data))
        self.cancel(order)

    def unaffordable(self, data):
        if not self.p.rich:
            price = {"exectype": bt.Order.Limit, "price": self.near(data)}
            self.keep(self.buy(data, size=9000, **self.rng.choice(({}, price))))

    def tagged(self, data):
        self.keep(self.side()(data, size=self.size(), note="mine", weight=0.5))


ACTIONS = (
    RandomTrader.market,
    RandomTrader.sized_by_sizer,
    RandomTrader.resting,
    RandomTrader.stop_limit,
    RandomTrader.trailing,
    RandomTrader.leave,
    RandomTrader.leave,
    RandomTrader.target,
    RandomTrader.bracket,
    RandomTrader.bracket_by_hand,
    RandomTrader.one_cancels_other,
    RandomTrader.cancel_any,
    RandomTrader.cancel_at_once,
    RandomTrader.unaffordable,
    RandomTrader.tagged,
)

BRACKETS = (RandomTrader.bracket, RandomTrader.bracket_by_hand)
RandomTrader.actions = ACTIONS


def market(seed, mode=None, bars=50, cash=20_000.0, count=None):
    """Return a Cerebro with one to three random walks of different length, all from the seed."""
    rng = random.Random(seed)
    count = count or rng.randint(1, 3)
    frames = [feeds.random_walk(10 * seed + i, bars)[i * 7 :] for i in range(count)]
    if mode == "exactbars":  # Backtrader itself needs equal clocks there
        frames = [frame[-bars // 2 :] for frame in frames]
    return feeds.cerebro(*frames, cash=cash, **feeds.MODES.get(mode, {}))


# -- scripts --------------------------------------------------------------------------------------


def limit_orders(engine, *limits, instruments=None, atr_period=14, atr_multiple=2.0):
    """Put a gate with these limits in front of a Cerebro for its next run; return the gate."""
    gate = bt_risk.RiskBroker(engine.broker)
    engine.setbroker(gate)
    gate.bind(limits, instruments, (atr_period, atr_multiple))
    return gate


def breaker_out_of_reach(engine):
    """Add a component with a finite limit that nothing reaches: it only protects exits."""
    engine.addanalyzer(bt_risk.DrawdownBreaker, drawdown_limit=0.5, equity=lambda: 1.0)


def play(engine, actions, strategy=feeds.Script):
    """Run `actions`, ``{bar: callable(strategy)}``, and return the strategy."""
    engine.addstrategy(strategy, actions=actions)
    return engine.run()[0]


def ends(strategy):
    """Return how each order ended: ``[(status, executed size, executed price, reason)]``."""
    last = {row[1]: (row[2], *row[4:]) for row in strategy.orders}
    return [last[ref] for ref in sorted(last)]


def fills(strategy):
    """Return ``(bar, executed size, executed price)`` of every order that was filled whole."""
    return [(row[0], row[4], row[5]) for row in strategy.orders if row[2] == "Completed"]
