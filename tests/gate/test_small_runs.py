"""Small worlds on the real engine: scripts of all kinds of orders on every path of two bars."""

import random

import pytest
from helpers.slices import sliced
from helpers.small_runs import KINDS, LEVELS, PATHS, Step, Units, play

import bt_risk

WORLDS = 100  # side by side in one Cerebro
SEEDS = sliced(range(24), every=20)


def one_unit(order, price, ago):
    """Fill an order by one unit a bar."""
    return 1


FILLERS = {"whole": None, "in parts": one_unit}


def limited(most):
    return lambda broker: bt_risk.RiskBroker(broker, limits=[Units(most)])


def any_order(rng, bar, script):
    """Return a step that sends any order; it may join the group of an earlier one."""
    if rng.random() < 0.15:
        kind = rng.choice(("market", "limit", "stop"))
        return Step(bar, "bracket", rng.choice((1, 2)), kind, side=rng.choice((1, -1)))
    earlier = [n for n, step in enumerate(script) if step.does in ("buy", "sell") and n]
    other = rng.choice(earlier) if earlier and rng.random() < 0.3 else None
    does, kind, price = rng.choice(("buy", "sell")), rng.choice(list(KINDS)), rng.choice(LEVELS)
    return Step(bar, does, rng.choice((1, 2)), kind, price, other, rng.random() < 0.15)


def change(rng, bar, script):
    """Return a step that changes what works: a cancel, the same order at another price, close()."""
    earlier = [n for n, step in enumerate(script) if step.does in ("buy", "sell")]
    if earlier and rng.random() < 0.6:
        does = rng.choice(("cancel", "reprice"))
        return Step(bar, does, price=rng.choice(LEVELS), other=rng.choice(earlier))
    return Step(bar, "close")


def anything(rng):
    """Return a script of any orders: a position first, then what rests, then changes of it."""
    script = [Step(1, rng.choice(("buy", "sell")), rng.choice((1, 2, 3)))]
    for _ in range(rng.randint(1, 3)):
        script.append(any_order(rng, 2, script))
    for bar in (3, 3, 4):
        if rng.random() < 0.5:
            script.append(rng.choice((any_order, change, change))(rng, bar, script))
    return script


def long_only(rng):
    """Return a script that buys, and sells what it holds: one exit of each account, and close().

    The two may be an OCO pair or not, and come with the entry or after it.
    """
    size = rng.choice((1, 2))
    script = [Step(1, "buy", size)]
    bar = rng.choice((1, 2))
    if rng.random() < 0.8:
        kind = rng.choice(("stop", "stop limit", "trail"))
        script.append(Step(bar, "sell", size, kind, LEVELS[0], exits=True))
    if rng.random() < 0.8:
        other = 1 if len(script) > 1 and rng.random() < 0.5 else None
        script.append(Step(bar, "sell", size, "limit", rng.choice(LEVELS[1:]), other, exits=True))
    if rng.random() < 0.3:
        script.append(Step(2, "bracket", 1, rng.choice(("limit", "stop"))))
    elif rng.random() < 0.5:
        script.append(change(rng, 3, script))
    if rng.random() < 0.3:
        script.append(Step(2, "buy", 1, rng.choice(("limit", "stop")), rng.choice(LEVELS)))
    if rng.random() < 0.3:
        script.append(Step(rng.choice((2, 3)), "sell", 1, "market", exits=True))
    for bar in (2, 3, 3, 4, 5):
        if rng.random() < 0.3:
            script.append(Step(bar, "close"))
    return script


def drawn(make, seed, owners=1):
    """Return scripts on random paths, as `play` takes them."""
    rng = random.Random(seed)
    paths = [rng.choice(PATHS) for _ in range(WORLDS)]
    return [(make(rng), path) for path in paths for _ in range(owners)]


def show(worlds):
    """Return the shortest of some worlds as text."""
    return [str(one) for one in sorted(worlds, key=lambda one: len(one.script))[:2]]


@pytest.mark.parametrize("filler", FILLERS.values(), ids=FILLERS)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_position_never_exceeds_the_units_of_the_limit(seed, filler):
    most = 1 + seed % 3
    worlds = play(drawn(anything, seed), limited(most), filler)
    assert show([one for one in worlds if max(map(abs, one.held)) > most]) == []
    assert max(max(one.held) for one in worlds) == most == -min(min(one.held) for one in worlds)


@pytest.mark.parametrize("seed", SEEDS)
def test_two_strategies_never_hold_more_than_the_limit_on_one_side(seed):
    worlds = play(drawn(anything, seed, owners=2), limited(3), owners=2)
    assert show([one for one in worlds if max(map(abs, one.account)) > 3]) == []


def test_an_allowance_that_stood_behind_a_position_is_reviewed_before_it_opens():
    """A sale of 2 may open 1; it closes 2 once the other sale is cancelled, and 1 once 1 is sold.

    Meanwhile another strategy was allowed all 3 units of the limit.
    """
    mine = [
        Step(1, "buy", 2),
        Step(2, "sell", 1, "limit", 11.0),
        Step(2, "sell", 2, "limit", 11.0),
        Step(3, "cancel", other=1),
        Step(4, "sell", 1),
    ]
    calm = ((10.0,) * 4,) * 3
    scripts = [(mine, calm), ([Step(3, "sell", 3, "stop", 9.0)], calm)]
    first, second = play(scripts, limited(3), owners=2)
    assert (first.held[-1], second.held[-1]) == (0, -3)
    reasons = [line[-1] for line in first.reasons]
    assert "Units: 4 > 3 (it stood behind a position since)" in reasons


@pytest.mark.parametrize("filler", FILLERS.values(), ids=FILLERS)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_strategy_that_only_buys_and_exits_never_goes_short(seed, filler):
    worlds = play(drawn(long_only, seed), limited(20), filler)
    assert show([one for one in worlds if min(one.held) < 0]) == []


@pytest.mark.parametrize("make", [anything, long_only])
@pytest.mark.parametrize("seed", SEEDS)
def test_with_every_limit_off_a_run_equals_the_bare_one(seed, make):
    scripts = drawn(make, seed)
    bare = play(scripts)
    gated = play(scripts, bt_risk.RiskBroker)
    assert show([one for one, two in zip(gated, bare, strict=True) if one.log != two.log]) == []


def unexplained(played):
    """Return how many orders ended without a fill of all of them, and without a reason.

    A strategy knows why where it has cancelled an order, its alternative or its bracket, and
    where another of these has filled or ended.
    """
    count = 0
    for ref, order in played.orders.items():
        if order.alive() or order.getstatusname() in ("Completed", "Expired"):
            continue
        mates = set().union(*(family for family in played.families if ref in family)) - {ref}
        known = ref in played.cancelled or any(
            not played.orders[mate].alive() or played.orders[mate].executed.size for mate in mates
        )
        count += not known and not order.info.get("bt_risk")
    return count


@pytest.mark.parametrize("seed", SEEDS)
def test_every_order_that_is_not_filled_whole_has_a_reason(seed):
    worlds = play(drawn(anything, seed), limited(2))
    wrong = []
    for one in worlds:
        ended = [line for line in one.reasons if "execution: cancelled" in line[-1]]
        if unexplained(one) > len(ended):
            wrong.append(one)
        cut = [o for o in one.orders.values() if o.getstatusname() == "Rejected"]
        if any(not order.info.get("bt_risk") for order in cut):
            wrong.append(one)
    assert show(wrong) == []
