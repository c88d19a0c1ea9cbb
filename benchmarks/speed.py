"""A protected run against the bare one, with 1 to 500 data feeds."""

from functools import partial

import bt_risk
from benchmarks.counting import count_calls
from benchmarks.job import protected
from benchmarks.prices import bitcoin, panel
from benchmarks.replay import record, replay
from benchmarks.row import Row
from benchmarks.timing import Spread, ratios, take_turns

TITLE = "A protected run against the bare one that sends the same orders"
BARE, FAST, DEFAULT, NATIVE = "bare", "bare, bt_risk.fast", "protect", "protect, fast=False"
PLACES = {  # data feeds: bars, rounds, bars whose calls are counted
    1: (8784, 15, 1500),
    10: (2520, 7, 200),
    50: (2520, 5, 100),
    500: (504, 3, 30),
}
QUICK = {1: (1000, 1, 200), 10: (100, 1, 60)}
GOALS = {(1, DEFAULT): 0.40, (50, DEFAULT): 0.30, (1, NATIVE): 1.25, (50, NATIVE): 1.10}


def rows(options):
    """Yield the rows of every number of data feeds."""
    for feeds, (bars, rounds, counted) in (QUICK if options.quick else PLACES).items():
        frames = [bitcoin(bars)] if feeds == 1 else panel(feeds, bars)
        yield from measure(frames, rounds, counted, {} if options.quick else GOALS)


def measure(frames, rounds, counted, goals):
    """Return the rows of one job; calls are counted over its first `counted` bars."""
    feeds, bars = len(frames), len(frames[0])
    recording = record(frames)
    ways = builders(frames, recording)
    times = take_turns(
        {name: partial(run, build, recording.value) for name, build in ways.items()}, rounds
    )
    short = builders([frame.iloc[:counted] for frame in frames], recording)
    calls = {name: count_calls(build().run).total() / counted for name, build in short.items()}

    def row(name, anchor, goal=None, note=""):
        seconds, ratio = Spread.of(times[name]).median / bars, ratios(times, anchor)[name]
        work = f"{feeds} x {bars:,} bars"
        return Row("speed", work, name, ratio, anchor, goal, seconds, calls=calls[name], note=note)

    return [
        row(BARE, BARE, note=f"Backtrader on PandasData, {recording.orders:,} orders"),
        row(FAST, BARE, note="the quick loop without rules"),
        row(DEFAULT, BARE, goals.get((feeds, DEFAULT)), "as it is by default"),
        row(NATIVE, BARE, goals.get((feeds, NATIVE)), "the same feed and loop on both sides"),
        row(DEFAULT, FAST, note="the quick loop on both sides"),
    ]


def builders(frames, recording):
    """Return what builds the Cerebro of each way."""
    bare = partial(replay, frames, recording)
    return {
        BARE: bare,
        FAST: partial(_fast, bare),
        DEFAULT: partial(protected, frames),
        NATIVE: partial(protected, frames, fast=False),
    }


def run(build, value):
    """Build and run; the account must end with this value, to the cent."""
    cerebro = build()
    cerebro.run()
    if round(cerebro.broker.getvalue(), 2) != round(value, 2):
        raise ArithmeticError(f"the runs end with {cerebro.broker.getvalue():.2f} and {value:.2f}")


def _fast(build):
    cerebro = build()
    bt_risk.fast(cerebro)
    return cerebro
