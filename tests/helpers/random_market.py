"""Draw any mode and feature of Backtrader from a seed: a set-up, and a trader that uses it.

A seed draws an engine mode, the shape of the feeds, how the broker fills and charges, and what else
is added to the Cerebro. `play` runs it and returns everything visible of the run, or the error that
it ended with: Backtrader refuses some combinations itself.
"""

import datetime
import io
import math
import random
import re

import backtrader as bt

from helpers import recording
from helpers import scenarios as feeds
from helpers.recording import RandomTrader

DAY = datetime.timedelta(days=1)


# -- the trader -----------------------------------------------------------------------------------


class Everything(RandomTrader):
    """Trade as `RandomTrader`; use timers, the open, deposits and every way to name an order.

    `at_open` trades in ``next_open`` instead of ``next``, `cheat` is that of its timer (None: it
    has no timer).
    """

    params = {"at_open": False, "cheat": None, "weekdays": [1, 3]}

    def __init__(self):
        super().__init__()
        if self.p.cheat is not None:
            kind = bt.timer.SESSION_END if self.p.seed % 2 else bt.timer.SESSION_START
            self.add_timer(kind, weekdays=self.p.weekdays, cheat=self.p.cheat)

    def next(self):
        if not self.p.at_open:
            super().next()

    def next_open(self):
        if self.p.at_open and any(len(d) for d in self.datas):
            super().next()

    def prenext_open(self):
        self.next_open()

    def notify_timer(self, timer, when, *args, **kwargs):
        if any(len(d) for d in self.datas):
            self.act()

    # -- more actions ----------------------------------------------------------------------------

    def oco_group(self, data):
        """Place three orders of which one fills; the third names the second."""
        size, close, make = self.size(), data.close[0], self.side()
        first = make(data, size=size, exectype=bt.Order.Limit, price=close * 0.99)
        second = make(data, size=size, exectype=bt.Order.Stop, price=close * 1.01, oco=first)
        third = make(data, size=size, exectype=bt.Order.Limit, price=close * 1.02, oco=second)
        self.keep(first, second, third)

    def brackets_at_once(self, data):
        """Place a long and a short one; this trails its stop or lacks one of its children."""
        close = data.close[0]
        self.keep(
            *self.buy_bracket(
                data=data,
                size=self.size(),
                price=close * 0.995,
                valid=self.valid(data),
                stopprice=close * 0.98,
                limitprice=close * 1.02,
            )
        )
        trail = {"stopexec": bt.Order.StopTrail, "stopargs": {"trailpercent": 0.01}}
        without = self.rng.choice(({}, {"limitexec": None}, {"stopexec": None}))
        self.keep(
            *self.sell_bracket(
                data=self.rng.choice([d for d in self.datas if len(d)]),
                size=self.size(),
                exectype=bt.Order.Market,
                limitprice=close * 0.98,
                **(trail | without),
            )
        )

    def bracket_cancelled_at_once(self, data):
        close = data.close[0]
        orders = self.buy_bracket(
            data=data,
            size=self.size(),
            price=close,
            stopprice=close * 0.98,
            limitprice=close * 1.02,
        )
        self.keep(*orders)
        self.cancel(self.rng.choice(orders))

    def expiring(self, data):
        valid = self.rng.choice((DAY, 3 * DAY, bt.Order.DAY, data.datetime.date(0) + 2 * DAY))
        make, price = self.side(), self.near(data, 0.05)
        kind = self.rng.choice((bt.Order.Limit, bt.Order.StopLimit))
        self.keep(
            make(data, size=self.size(), exectype=kind, price=price, plimit=price, valid=valid)
        )

    def leave_in_part(self, data):
        self.keep(self.close(data, size=self.rng.randint(1, 5)))

    def by_name(self, data):
        self.keep(self.side()(data=data._name, size=self.size(), price=None))

    def target_by_limit(self, data):
        limit = {"exectype": bt.Order.Limit, "price": self.near(data)}
        self.keep(self.order_target_size(data, self.rng.randint(-9, 9), **limit))

    def deposit(self, data):
        self.broker.add_cash(self.rng.choice((2000.0, -1000.0)))

    def cancel_open(self, data):
        for order in self.broker.get_orders_open():
            self.cancel(order)

    def as_the_broker_says(self, data):
        """Trade on the broker's answers: runs with different answers differ afterwards."""
        broker = self.broker
        answers = (
            len(broker.get_orders_open()),
            broker.getvalue([data]) > 1000.0,
            broker.get_cash() > broker.get_value() / 2,
            broker.getposition(data).size > 0,
            broker.get_fundvalue() > 100.0 if hasattr(broker, "get_fundvalue") else 0,
            sum(map(bool, self.getpositions().values())),
            broker.startingcash > 0,
        )
        side = self.buy if hash(answers) % 2 else self.sell
        self.keep(side(data, size=1 + answers[0] % 5))


Everything.actions = (
    *RandomTrader.actions,
    Everything.oco_group,
    Everything.brackets_at_once,
    Everything.bracket_cancelled_at_once,
    Everything.expiring,
    Everything.leave_in_part,
    Everything.by_name,
    Everything.target_by_limit,
    Everything.deposit,
    Everything.cancel_open,
    Everything.as_the_broker_says,
)


class Opposite(bt.Indicator):
    """Signal the opposite of the last bar."""

    lines = ("signal",)

    def __init__(self):
        self.lines.signal = self.data.close(-1) - self.data.close


# -- how a feed may look --------------------------------------------------------------------------


def _whole(frame, rng):
    return frame


def _with_nan_closes(frame, rng):
    frame.iloc[rng.sample(range(5, len(frame)), 3), frame.columns.get_loc("close")] = math.nan
    return frame


def _with_nan_bars(frame, rng):
    frame.iloc[rng.sample(range(5, len(frame)), 3), :4] = math.nan
    return frame


def _with_missing_bars(frame, rng):
    return frame.drop(frame.index[rng.sample(range(len(frame)), 8)])


def _late(frame, rng):
    return frame.iloc[rng.randint(5, 25) :]


def _ending_early(frame, rng):
    return frame.iloc[: -rng.randint(5, 20)]


def _without_volume(frame, rng):
    frame.iloc[rng.sample(range(len(frame)), 15), frame.columns.get_loc("volume")] = 0.0
    return frame


SHAPES = (
    _whole,
    _whole,
    _with_nan_closes,
    _with_nan_bars,
    _with_missing_bars,
    _late,
    _ending_early,
    _without_volume,
)

# -- how Cerebro may run --------------------------------------------------------------------------

MODES = (
    {},
    {"runonce": False},
    {"preload": False},
    {"exactbars": 1},
    {"exactbars": False},
    {"exactbars": -1},
    {"exactbars": -2},
    {"quicknotify": True},
    {"cheat_on_open": True},
    {"cheat_on_open": True, "broker_coo": False},
    {"cheat_on_open": True, "exactbars": -1},
    {"live": True},
    {"oldsync": True},
    {"oldsync": True, "runonce": False},
    {"tradehistory": True},
    {"stdstats": True},
    {"stdstats": True, "oldbuysell": True, "oldtrades": True},
    {"lookahead": 3},
)

# -- how the broker may fill and charge -----------------------------------------------------------


BROKERS = {
    "plain": lambda b, r: None,
    "slippage": lambda b, r: b.set_slippage_perc(0.002, slip_open=True, slip_limit=False),
    "fixed slippage": lambda b, r: b.set_slippage_fixed(0.1, slip_open=True, slip_out=True),
    "slippage without a match": lambda b, r: b.set_slippage_fixed(1.0, slip_match=False),
    "parts of one size": lambda b, r: b.set_filler(bt.fillers.FixedSize(size=r.randint(2, 6))),
    "parts of the volume": lambda b, r: b.set_filler(bt.fillers.FixedBarPerc(perc=0.5)),
    "parts of the range": lambda b, r: b.set_filler(bt.fillers.BarPointPerc(minmov=0.1, perc=50.0)),
    "commission": lambda b, r: b.setcommission(0.001),
    "a fee a trade": lambda b, r: b.setcommission(
        3.0, commtype=bt.CommInfoBase.COMM_FIXED, stocklike=True
    ),
    "leverage": lambda b, r: b.setcommission(0.0005, leverage=3.0),
    "interest": lambda b, r: b.setcommission(0.0, interest=0.2, interest_long=True),
    "futures": lambda b, r: b.setcommission(2.0, margin=400.0, mult=5.0),
    "futures on one data": lambda b, r: b.setcommission(2.0, margin=400.0, mult=5.0, name="D0"),
    "automatic margin": lambda b, r: b.setcommission(2.0, automargin=0.1, mult=2.0),
    "cheat on close": lambda b, r: b.set_coc(True),
    "end of session bars": lambda b, r: b.set_eosbar(True),
    "no cash check": lambda b, r: b.set_checksubmit(False),
    "no short cash": lambda b, r: b.set_shortcash(False),
    "fund mode": lambda b, r: b.set_fundmode(True, 50.0),
    "interest outside of the result": lambda b, r: (
        b.set_int2pnl(False),
        b.setcommission(0.0, interest=0.2),
    ),
}

# -- what else may hang on it ---------------------------------------------------------------------


def _resampled(engine, rng):
    timeframe = rng.choice((bt.TimeFrame.Weeks, bt.TimeFrame.Months))
    engine.resampledata(engine.datas[0], timeframe=timeframe, name="resampled")


def _resampled_days(engine, rng):
    frame = bt.TimeFrame.Days
    engine.resampledata(engine.datas[0], timeframe=frame, compression=3, name="three days")


def _replayed(engine, rng):
    engine.replaydata(engine.datas[0], timeframe=bt.TimeFrame.Weeks, name="replayed")


def _weekly_feed(engine, rng):
    frame = feeds.random_walk(rng.randint(0, 999), 10, start="2020-01-03", freq="W")
    weekly = bt.feeds.PandasData(dataname=frame, timeframe=bt.TimeFrame.Weeks)
    engine.adddata(weekly, name="weekly")


def _timer(engine, rng):
    engine.add_timer(bt.timer.SESSION_START, weekdays=[2, 5], strats=True, cheat=rng.random() < 0.5)


def _signals(engine, rng):
    kind = rng.choice((bt.SIGNAL_LONGSHORT, bt.SIGNAL_LONG, bt.SIGNAL_SHORT))
    engine.add_signal(kind, Opposite)
    engine.signal_strategy(bt.SignalStrategy)  # Backtrader fails to look among the others
    engine.signal_accumulate(rng.random() < 0.3)
    engine.signal_concurrent(rng.random() < 0.3)


def _order_history(engine, rng):
    days = sorted(rng.sample(range(5, 40), 6))
    start = datetime.date(2020, 1, 1)
    sizes = rng.choices((-8, -3, 3, 8), k=6)
    history = [[start + n * DAY, size, 100.0 + n] for n, size in zip(days, sizes, strict=True)]
    engine.add_order_history(history, notify=rng.random() < 0.5)


def _fund_history(engine, rng):
    start = datetime.date(2020, 1, 1)
    engine.set_fund_history([[start + n * DAY, 100.0 + n, 20_000.0 + n] for n in range(0, 40, 5)])


def _percent_sizer(engine, rng):
    engine.addsizer(bt.sizers.PercentSizer, percents=rng.choice((10, 60)))


def _observers(engine, rng):
    for kind in (bt.observers.DrawDown, bt.observers.FundValue, bt.observers.LogReturns):
        engine.addobserver(kind)
    engine.addobservermulti(bt.observers.BuySell)


def _indicator(engine, rng):
    engine.addindicator(bt.ind.ATR, period=6)


EXTRAS = (
    _resampled,
    _resampled_days,
    _replayed,
    _weekly_feed,
    _timer,
    _signals,
    _order_history,
    _fund_history,
    _percent_sizer,
    _observers,
    _indicator,
)

RESAMPLED = (_resampled, _resampled_days)
# Backtrader needs feeds of one clock with it, and forgets what these look back to.
NOT_WITH_EXACTBARS_1 = (*RESAMPLED, _replayed, _weekly_feed, _signals, _indicator)


# -- one world ------------------------------------------------------------------------------------


class World:
    """Hold what a seed has drawn; `features` names all of it."""

    def __init__(self, seed, bars=46):
        rng = random.Random(seed)
        self.seed, self.bars = seed, bars
        self.mode = dict(rng.choice(MODES))
        if rng.random() < 0.3:
            self.mode |= rng.choice(MODES)
        self.one_clock = self.mode.get("exactbars") == 1
        shape = [_whole] if self.one_clock else SHAPES
        self.shapes = [rng.choice(shape) for _ in range(rng.randint(1, 3))]
        self.brokers = rng.sample(sorted(BROKERS), rng.randint(1, 2))
        allowed = [e for e in EXTRAS if not (self.one_clock and e in NOT_WITH_EXACTBARS_1)]
        self.extras = rng.sample(allowed, rng.randint(0, 3))
        if _fund_history in self.extras:  # it asks for a clock that only ``_runnext`` has
            self.mode |= {"runonce": False, "oldsync": False}
        self.params = {
            "fractional": rng.random() < 0.2,
            "at_open": self.mode.get("cheat_on_open", False) and rng.random() < 0.8,
            "cheat": rng.choice((None, None, False, True)),
        }
        self.strategies = rng.choice((1, 1, 1, 2))
        self.analyzers = self._some_analyzers(rng)
        self.draw = rng.random()

    def _some_analyzers(self, rng):
        """Return analyzers; those that read every position fail before a late feed has a bar."""
        late = _late in self.shapes or {_weekly_feed, _replayed, *RESAMPLED} & {*self.extras}
        kinds = recording.OTHERS if late else recording.ANALYZERS
        return rng.sample(kinds, 5)

    @property
    def features(self):
        timer = {None: [], False: ["timer"], True: ["cheating timer"]}[self.params["cheat"]]
        modes = [f"{key}={value}" for key, value in self.mode.items()]
        named = [function.__name__.strip("_") for function in (*self.shapes, *self.extras)]
        at_open = ["orders at the open"] if self.params["at_open"] else []
        return [*modes, *named, *self.brokers, *timer, *at_open]

    def cerebro(self):
        """Return the Cerebro without its strategies, and what its writer writes to."""
        rng = random.Random(self.draw)
        walks = [feeds.random_walk(7 * self.seed + i, self.bars) for i in range(len(self.shapes))]
        frames = [shape(walk, rng) for shape, walk in zip(self.shapes, walks, strict=True)]
        mode = dict(self.mode)
        stdstats = mode.pop("stdstats", False)
        engine = feeds.cerebro(*frames, cash=20_000.0, **mode)
        engine.p.stdstats = stdstats
        for name in self.brokers:
            BROKERS[name](engine.broker, rng)
        for add in self.extras:
            add(engine, rng)
        written = io.StringIO()
        engine.addwriter(bt.WriterFile, csv=True, rounding=9, out=written, close_out=False)
        return engine, written


def play(world, setup=()):
    """Run a world with the components of `setup`; return everything visible of it."""
    engine, written = world.cerebro()
    for add in setup:
        add(engine)
    for number in range(world.strategies):
        engine.addstrategy(Everything, seed=world.seed + 1000 * number, **world.params)
    try:
        seen = recording.record(engine, world.analyzers)
    except Exception as error:
        return type(error), re.sub("0x[0-9a-f]+", "", str(error))
    table, _, _ = written.getvalue().partition("\n====")
    return seen, table


def full_world(seed):
    """Return a Cerebro with something of everything; other processes can import this function."""
    drawn = World(seed)
    engine, _ = drawn.cerebro()
    for number in range(drawn.strategies):
        engine.addstrategy(Everything, seed=seed + 1000 * number, **drawn.params)
    return engine
