"""Run a strategy at a venue whose book is in a file, and end it at a write of its state."""

import os
import signal
import traceback

import backtrader as bt

import bt_risk
from bt_risk.state.file import StateFile
from helpers.persistent_broker import PersistentBroker, PersistentFeed, bar_of, read
from helpers.scenarios import bars, flat

OFF = dict.fromkeys(("risk_limit", "notional_limit", "exposure_limit", "correlation_limit"))
POLICY = bt_risk.Policy(**OFF, drawdown_limit=0.06, atr_multiple=5.0)

# A trade that the trailing stop ends, one that the breaker ends, and bars for a third that is not.
ROWS = [
    *flat(20),
    (100, 104, 100, 104),
    (104, 108, 103, 108),
    (108, 112, 107, 112),
    (112, 116, 111, 116),
    (116, 116, 113, 114),
    (110, 110, 95, 97),
    *flat(3, price=97.0),
    (97, 98, 96, 97),
    (97, 98, 95, 96),
    (96, 96, 93, 93),
    (93, 93, 89, 89),
    (89, 90, 88, 89),
    *flat(6, price=89.0),
]
FRAME = bars(*ROWS)


class Wants(bt.Strategy):
    """Be long 100 from bar 20 to 26, and 1000 from bar 28 on; decide on every bar."""

    def next(self):
        bar = bar_of(self.data)
        size = 100 if 20 <= bar < 24 else 1000 if bar >= 28 else 0
        if size and not self.position and not self.waiting():
            self.buy(size=size)

    def waiting(self):
        return [w for w in self.broker.book.working.values() if w.side > 0]


# A heartbeat would come when five seconds are over, and be one more write.
STILL = {"now": lambda: 1_600_000_000.0}


def run(
    folder,
    rows=ROWS,
    policy=POLICY,
    state=True,
    strategy=Wants,
    names=("D0",),
    skip=0,
    live=None,
    **venue,
):
    """Let a run trade at the venue in `folder` until the rows end; return its strategy.

    The feed brings the bars again that were there before, without the first `skip`. `live` has
    settings of `bt_risk.Live`.
    """
    file = folder / "venue.json"
    history = read(file)["clock"].get("D0", 0)
    engine = bt.Cerebro(stdstats=False)
    for name in names:
        feed = PersistentFeed(dataname=bars(*rows), history=history, skip=skip)
        engine.adddata(feed, name=name)
    engine.setbroker(PersistentBroker(file=str(file), **venue))
    engine.addstrategy(strategy)
    bt_risk.protect(
        engine, policy, state=folder / "risk.db" if state else None, **(STILL | (live or {}))
    )
    return engine.run()[0]


def start_child(work, *args, **kwargs):
    """Start `work` in a process of its own and return its number; it exits with 1 on an error."""
    pid = os.fork()
    if not pid:
        try:
            work(*args, **kwargs)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return pid


def in_child(work, *args, **kwargs):
    """Do something in a process of its own; return the signal that ended it, 0 for none."""
    status = status_of(start_child(work, *args, **kwargs))
    assert os.WIFSIGNALED(status) or not os.WEXITSTATUS(status)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def status_of(pid):
    """Wait for a child and return its status; it does not outlive a test that has run too long."""
    try:
        return os.waitpid(pid, 0)[1]
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def killed_run(folder, point, after, **kwargs):
    """Run, and die just before or just after a write of the state."""
    write, count = StateFile.write, iter(range(1, 10**6))

    def counted(self, *args, **kwargs):
        number = next(count)
        if number == point and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        write(self, *args, **kwargs)
        if number == point:
            os.kill(os.getpid(), signal.SIGKILL)

    StateFile.write = counted
    run(folder, **kwargs)


def count_writes(folder):
    """Return how many writes an uninterrupted run makes."""
    write, numbers = StateFile.write, []
    StateFile.write = lambda self, *args, **kwargs: (
        numbers.append(1),
        write(self, *args, **kwargs),
    )
    try:
        run(folder)
    finally:
        StateFile.write = write
    return len(numbers)


# -- what the book of a venue states -------------------------------------------------------------


def levels(fills, until, rows=ROWS, multiple=5.0):
    """Return where the stop of a trade belongs after each bar, from prices alone."""
    frame = bars(*rows)
    atr = bt_risk.atr(frame.high, frame.low, frame.close).to_numpy()
    bar, price = fills
    level, found = price - multiple * atr[bar - 2], {}
    for number in range(bar, until + 1):
        level = max(level, frame.close.iloc[number - 1] - multiple * atr[number - 1])
        found[number] = level
    return found


def round_trips(log):
    """Return ``(entry bar, entry price, exit bar, P&L)`` of every position, from the fills."""
    trips, held, entry, cash = [], 0, None, 0.0
    for row in log:
        if row["what"] == "filled":
            entry = (row["bar"], row["price"]) if not held else entry
            held += row["size"]
            cash -= row["size"] * row["price"]
            assert held >= 0, "the position was turned round"
            if not held:
                trips.append((*entry, row["bar"], cash))
                cash = 0.0
    return trips, entry if held else None
