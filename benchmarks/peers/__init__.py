"""Other engines on the same jobs, in the same run: see `rule` for the jobs.

The engines are no dependencies of bt_risk. They are installed into an environment of their own:

    python3.12 -m venv benchmarks/.peers
    benchmarks/.peers/bin/pip install . -r benchmarks/peers.txt

Each engine works in a process of its own there, and they take turns. Bare Backtrader, to which the
others are compared, is one of them.
"""

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.peers.engine import Engine, EngineError
from benchmarks.prices import bitcoin, panel
from benchmarks.row import Row
from benchmarks.timing import Spread

TITLE = "Engines on the same job"
ANCHOR = "backtrader"
COUNTED = {"stop": "trades", "rotation": "orders"}
FOLDER = Path(__file__).resolve().parents[1] / ".peers"

# By job: data feeds, bars, rounds; and of a quick round.
JOBS = {"stop": (1, 8_784, 7), "rotation": (50, 1_000, 5)}
QUICK = {"stop": (1, 500, 1), "rotation": (12, 60, 1)}
# What each engine computes, and what it does not.
ENGINES = {
    "stop": {
        "backtrader": "broker with all order types, notifications, analyzers; no risk rules",
        "bt_risk.fast": "all of Backtrader, equal to the last bit; no risk rules",
        "bt_risk.protect": "all of Backtrader; every order judged by all rules, a stop at the "
        "broker, reasons in a journal: other trades",
        "backtrader-next": "Backtrader's interface, another argument of PandasData; no risk rules",
        "back-trader-cpp": "Backtrader's interface in C++, no analyzers of one's own; no risk "
        "rules",
        "backtesting.py": "one instrument, begins a bar later; no risk rules",
        "vectorbt": "a function compiled by numba; no resting orders, no notifications, no risk "
        "rules",
        "ml4t-backtest": "preset 'backtrader', indicators computed before; has risk rules, not "
        "used here",
    },
    "rotation": {
        "backtrader": "",
        "bt_risk.fast": "equal to Backtrader to the last bit",
        "bt_risk, observe": "the same orders; a journal of what each rule would have decided",
        "backtrader-next": "",
        "back-trader-cpp": "",
        "ml4t-backtest": "preset 'backtrader'",
    },
}


def rows(options):
    """Yield a row for each engine; one that is missing or fails gives the reason."""
    python = options.peers or _installed() or sys.executable
    for job, (feeds, bars, rounds) in (QUICK if options.quick else JOBS).items():
        frames = [bitcoin(bars)] if feeds == 1 else panel(feeds, bars)
        runs, errors = _measure(python, job, frames, rounds)
        if ANCHOR in errors:
            raise EngineError(f"{ANCHOR}: {errors[ANCHOR]}")
        work = f"{job}, {feeds} x {bars:,} bars"
        for name, note in ENGINES[job].items():
            if name in errors:
                yield Row("peers", work, name, note=errors[name])
            else:
                yield _row(job, work, name, runs[name], runs[ANCHOR], bars, note)


def _installed():
    """Return the Python of the environment of the engines, if it is where it should be."""
    places = [FOLDER / "bin" / "python", FOLDER / "Scripts" / "python.exe"]
    return next((place for place in places if place.exists()), None)


def _measure(python, job, frames, rounds):
    """Return the answers by engine, of which the first is not timed, and the errors."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for number, frame in enumerate(frames):
            frame.to_csv(folder / f"{number:03}.csv")
        engines = {
            name: stack.enter_context(Engine(python, job, name, folder)) for name in ENGINES[job]
        }
        runs, errors = {name: [] for name in engines}, {}
        for _ in range(rounds + 1):
            for name, engine in engines.items():
                if name not in errors:
                    try:
                        runs[name].append(engine.run())
                    except EngineError as error:
                        errors[name] = str(error)
    return runs, errors


def _row(job, work, name, runs, anchors, bars, note):
    first, *timed = runs
    taken = [one["seconds"] for one in timed]
    base = [one["seconds"] for one in anchors[1:]]
    ratio = Spread.of([one / other for one, other in zip(taken, base, strict=True)])
    seconds = Spread.of(taken).median
    facts = [f"{first['version']}: {first['count']:,} {COUNTED[job]}, {first['value']:,.2f}", note]
    if first["seconds"] > 10 * seconds:
        facts.append(f"the first call compiles for {first['seconds']:.0f} s")
    text = "; ".join(fact for fact in facts if fact)
    return Row(
        "peers",
        work,
        name,
        ratio,
        ANCHOR,
        None,
        seconds / bars,
        count=first["count"],
        value=first["value"],
        note=text,
    )
