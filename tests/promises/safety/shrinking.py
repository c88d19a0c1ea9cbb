"""Shrinking a world that breaks a promise, and printing it so that it can be run again."""

from dataclasses import replace

from promises.safety.running import check, run
from promises.safety.world import CASH, COMPONENTS


def shrink(world, promise, fails=None, budget=250):
    """Return the smallest world that was found to break the same promise."""
    fails = fails or _fails(promise)
    left = [budget]

    def bad(candidate):
        left[0] -= 1
        return left[0] >= 0 and fails(candidate)

    world = _shrink_actions(world, bad)
    for simpler in _simpler(world):
        candidate = simpler(world)
        if candidate is not None and candidate != world and bad(candidate):
            world = candidate
    return _shrink_actions(world, bad)


def _fails(promise):
    causal = promise.startswith("5")

    def fails(world):
        if causal:
            breach = check(world, causal=True)
            return breach is not None and breach.promise == promise
        return any(breach.promise == promise for breach in run(world).breaches)

    return fails


def _shrink_actions(world, bad):
    """Leave out runs of actions, halving their length (delta debugging)."""
    actions, step = list(world.actions), max(1, len(world.actions) // 2)
    while step:
        at = 0
        while at < len(actions):
            fewer = actions[:at] + actions[at + step :]
            if bad(replace(world, actions=tuple(fewer))):
                actions = fewer
            else:
                at += step
        step //= 2
    return replace(world, actions=tuple(actions))


def _simpler(world):
    """Ways to make a world plainer, one at a time."""
    yield lambda w: replace(w, engine=(("runonce", False),))
    yield lambda w: replace(w, filler=0.0)
    yield lambda w: replace(w, coc=False)
    yield lambda w: replace(w, actions=tuple(a._replace(at_open=False) for a in w.actions))
    yield lambda w: replace(w, slippage=0.0, commission=0.0)
    yield lambda w: replace(w, cash=CASH)
    yield lambda w: replace(w, traders=1) if all(a.who == 0 for a in w.actions) else None
    for _ in range(2):
        yield _without_last_feed
    yield lambda w: replace(w, feeds=tuple(f._replace(gaps=0.0) for f in w.feeds))
    yield lambda w: replace(w, feeds=tuple(f._replace(nans=0.0) for f in w.feeds))
    yield lambda w: replace(w, feeds=tuple(f._replace(start=0.0, end=1.0) for f in w.feeds))
    yield lambda w: replace(w, feeds=tuple(f._replace(bad=0.0) for f in w.feeds))
    yield lambda w: replace(w, feeds=tuple(f._replace(scheme="") for f in w.feeds))
    yield lambda w: replace(w, feeds=tuple(_plain_feed(f) for f in w.feeds))
    yield lambda w: replace(w, own_parts=False)
    for part in COMPONENTS:
        yield lambda w, part=part: _without_part(w, part)
    yield lambda w: replace(w, limits=())


def _plain_feed(feed):
    return feed._replace(margin=0.0, mult=1.0, spread=False, scheme="")


def _without_last_feed(world):
    last = len(world.feeds) - 1
    if not last or any(a.data == last for a in world.actions):
        return None
    return replace(world, feeds=world.feeds[:-1])


def _without_part(world, part):
    parts = tuple(p for p in world.parts if p != part)
    return replace(world, parts=parts) if parts and parts != ("sizer",) else None


def report(world, breach):
    """Return what to print: the seed, the breach, and the smallest world that shows it."""
    small = shrink(world, breach.promise)
    again = check(small, causal=breach.promise.startswith("5"))
    actions = "".join(f"\n        {tuple(action)!r}," for action in small.actions)
    rest = replace(small, actions=())
    return (
        f"seed {world.seed} breaks: {breach.promise}\n  bar {breach.bar}: {breach.seen}\n"
        f"  shrunk from {len(world.actions)} to {len(small.actions)} actions: {again}\n"
        f"  check(replace({rest!r},\n"
        f"    actions=tuple(Action(*a) for a in ({actions}\n    ))))"
    )
