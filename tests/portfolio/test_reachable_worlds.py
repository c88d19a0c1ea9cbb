"""Every small world: no history of fills opens more than what was reviewed.

Positions are -2 to 2 units of each owner, orders have one or two units. See `helpers.worlds` for
what may happen in a world. Four orders with all features at once are too many: `WORLDS` combines
them in pairs and threes.
"""

import random
from dataclasses import dataclass

import pytest
from helpers.histories import histories, mirrored, worlds
from helpers.worlds import (
    ALL,
    SIDES,
    Spec,
    State,
    World,
    sums,
)

from bt_risk.portfolio.preview import OrderTerms, preview_order

# A buy limit at 0 is passed before a sell stop at -1 is reached, and not before one at +1.
KINDS = {
    "market": ("market", 0.0),
    "close": ("close", 0.0),
    "limit": ("limit", 0.0),
    "stop": ("stop", -1.0),
    "other stop": ("stop", 1.0),
}
ONE_OWNER = [State((float(size),)) for size in range(-2, 3)]
TWO_OWNERS = [State((float(a), float(b))) for a in (-2, 0, 1) for b in (-1, 0, 2)]


@dataclass(frozen=True)
class Menu:
    """The orders that are tried: so many in one world, of these kinds and sizes."""

    orders: int
    kinds: tuple = tuple(KINDS)
    sizes: tuple = (1.0, 2.0)
    features: tuple = ()
    partial: bool = True
    between: bool = False

    def specs(self):
        """Return every order of the menu."""
        plain = [
            Spec(side, size, *KINDS[kind])
            for side in SIDES
            for size in self.sizes
            for kind in self.kinds
        ]
        specs = list(plain)
        if "oco" in self.features:
            specs += [spec._replace(oco=True) for spec in plain]
        if "child" in self.features:
            specs += [spec._replace(child=True) for spec in plain if spec.kind != "close"]
        if "close()" in self.features:
            specs += [
                Spec(s, 0.0, kind, closes=True) for s in SIDES for kind in ("market", "limit")
            ]
        if "trail" in self.features:
            specs += [spec._replace(trails=True) for spec in plain if spec.kind == "stop"]
        if "owners" in self.features:
            specs += [spec._replace(owner=1) for spec in specs]
        return specs

    def states(self, world):
        """Return every state that the orders of the menu make."""
        starts = TWO_OWNERS if "owners" in self.features else ONE_OWNER
        for owner in range(len(starts[0].held)):
            world.book.part(world.instrument, owner)
        every = histories if self.between else worlds
        return every(world, starts, self.specs(), self.orders)


SLICE = {
    "two orders of all kinds": Menu(2, features=("oco", "child", "close()", "trail")),
    "three orders": Menu(3, ("market", "limit", "stop"), (2.0,)),
    "three with groups": Menu(3, ("market", "stop"), (2.0,), ("oco", "child")),
    "two owners": Menu(2, ("market", "limit"), (1.0, 2.0), ("close()", "owners")),
    "orders between fills": Menu(2, ("market", "limit", "stop"), (1.0, 2.0), between=True),
}
WHOLE = {
    "three orders of all kinds": Menu(3),
    "four orders that fill whole": Menu(4, ("market", "limit", "stop"), partial=False),
    "three with groups of all kinds": Menu(
        3, ("market", "limit", "stop"), (2.0,), ("oco", "child", "close()")
    ),
    "two owners with groups": Menu(
        2, ("market", "limit", "stop"), (1.0, 2.0), ("oco", "child", "close()", "owners")
    ),
    "groups between fills": Menu(
        2, ("market", "limit", "stop", "other stop"), features=("oco", "child"), between=True
    ),
    "three orders between fills": Menu(3, ("market", "limit", "stop"), (2.0,), between=True),
}


def of_each(menus):
    """Run a test with every menu of a dict, named by its key."""
    return pytest.mark.parametrize("menu", menus.values(), ids=menus)


# -- what must hold in a state ---------------------------------------------------------------------


def reviewed(state, side):
    """Return what may open on a side: of a group only the largest allowance counts."""
    most = {}
    for place, row in enumerate(state.rows):
        if row.side == side:
            group = (row.owner, row.group, row.parent) if row.group or row.parent else place
            most[group] = max(most.get(group, 0.0), row.opening)
    return sum(most.values())


def judged_higher(state):
    """Return whether limits may count more than what can be reached.

    A child is counted although it may have nothing left to open once its parent has closed a
    position, and of a group the largest size and the largest allowance, which two different orders
    may have.
    """
    groups = [row for row in state.rows if row.group]
    unequal = len({(row.side, row.remaining, row.opening) for row in groups}) > 1
    return unequal or any(row.parent for row in state.rows)


def violations(world, state):
    """Return what is wrong in a state, as text."""
    reach = world.reach(state)
    world.load(state)
    found = []
    for number, side in enumerate(SIDES):
        exposure = world.exposure(side)
        held, opened = reach.held[number], reach.opened[number]
        if held > exposure or (held < exposure and not judged_higher(state)):
            found.append(f"side {side:+d}: limits count {exposure:g}, {held:g} can be held")
        if opened > reviewed(state, side):
            found.append(f"side {side:+d}: {opened:g} can be opened")
    return found + exits_refused(world, state)


def exits_refused(world, state):
    """Return the market exits of whole positions that would be refused or cut."""
    found = []
    for owner, size in enumerate(state.held):
        if size:
            side = -1 if size > 0.0 else 1
            ask = world.book, world.instrument, owner, side, abs(size)
            if preview_order(*ask).reduces < abs(size):
                found.append(f"owner {owner}: an exit of {size:g} is cut")
            closing = preview_order(*ask, OrderTerms(closes=True))
            if closing.reduces < abs(size) or closing.opening:
                found.append(f"owner {owner}: close() of {size:g} is cut or opens")
    return found


def smallest(found):
    """Return the violations of the smallest states, as lines to print."""
    first = sorted(found, key=lambda one: (len(one[0].rows), sum(map(abs, one[0].held))))[:3]
    return [f"{state}\n   {'; '.join(why)}" for state, why in first]


# -- the tests -------------------------------------------------------------------------------------


@of_each(SLICE)
def test_limits_count_the_most_that_can_be_held_and_nothing_opens_beyond_it(menu):
    world = World(partial=menu.partial)
    found = [(state, violations(world, state)) for state in menu.states(world)]
    assert len(found) > 500
    assert smallest([one for one in found if one[1]]) == []


@pytest.mark.soak
def test_limits_count_the_most_that_can_be_held_by_four_orders():
    menu = Menu(4, ("market", "limit", "stop"), (2.0,))
    test_limits_count_the_most_that_can_be_held_and_nothing_opens_beyond_it(menu)


@pytest.mark.full
@of_each(WHOLE)
def test_limits_count_the_most_that_can_be_held_in_every_world(menu):
    test_limits_count_the_most_that_can_be_held_and_nothing_opens_beyond_it(menu)


LIMITED = {
    "two orders": Menu(2, ("market", "limit", "stop"), (1.0, 2.0), ("oco", "child"), between=True),
}
LIMITED_WHOLE = {
    "two owners": Menu(2, ("market", "limit"), (2.0,), ("oco", "close()", "owners"), between=True),
    "three orders": Menu(3, ("market", "limit", "stop"), (2.0,), ("oco",), between=True),
    "three with children": Menu(3, ("market", "stop"), (2.0,), ("child",), between=True),
}


@of_each(LIMITED)
def test_no_history_holds_more_than_the_limit(menu):
    """An exit that never had a position is reviewed when it is about to execute."""
    world = World(limit=3.0, late=3.0)
    states = menu.states(world)
    assert len(states) > 500
    assert smallest([(s, ["too much"]) for s in states if max(sums(s)) > 3.0]) == []


@pytest.mark.full
@of_each(LIMITED_WHOLE)
def test_no_history_holds_more_than_the_limit_in_every_world(menu):
    test_no_history_holds_more_than_the_limit(menu)


def test_without_a_position_no_exit_rests_that_had_one():
    """One that an entry on its way, or its parent, will give a position stays."""
    world, menu = World(), SLICE["orders between fills"]
    left = [
        (state, [str(row)])
        for state in map(world.settle, menu.states(world))
        for row in state.rows
        if not state.held[row.owner] and row.had_position and not row.opening and not row.parent
        if not any(one.opening and one.side != row.side for one in state.rows)
    ]
    assert smallest(left) == []


def test_long_and_short_are_treated_alike():
    world = World()
    menu = Menu(2, features=("oco", "child", "close()"))
    for spec in menu.specs():
        other = spec._replace(side=-spec.side, price=-spec.price)
        for start in Menu(1).states(world):
            assert mirrored(world.submit(start, spec)) == world.submit(mirrored(start), other)
            after = world.submit(start, spec)
            assert mirrored_reach(world, after) == world.reach(mirrored(after))


def mirrored_reach(world, state):
    held, opened = world.reach(state)
    return held[::-1], opened[::-1]


# -- random histories ------------------------------------------------------------------------------


def play(seed, owners, steps=40, most=3.0):
    """Return what went wrong in one random history under a limit, and how many exits it had."""
    rng, world = random.Random(seed), World(limit=most, late=most)
    state = State((0.0,) * owners)
    for owner in range(owners):
        world.book.part(world.instrument, owner)
    features = ("oco", "child", "close()", "trail", *(("owners",) if owners > 1 else ()))
    specs, exits = Menu(1, features=features).specs(), 0
    for _ in range(steps):
        act, place = rng.random(), rng.randrange(len(state.rows)) if state.rows else None
        held = [owner for owner, size in enumerate(state.held) if size]
        if act < 0.15 and held:
            owner = rng.choice(held)
            size = state.held[owner]
            spec = Spec(-1 if size > 0.0 else 1, abs(size), "market", owner=owner)
            state, before = world.submit(state, spec), len(state.rows)
            exits += 1
            if len(state.rows) != before + 1 or state.rows[-1].remaining != abs(size):
                return f"an exit of {size:g} was refused or cut", exits
        elif act < 0.5 and len(state.rows) < 8:
            state = world.submit(state, rng.choice(specs))
        elif place is not None and act < 0.85:
            if not state.rows[place].parent:
                state = world.fill(state, place, rng.choice((ALL, 1.0)))[0]
        elif place is not None and act < 0.92:
            state = world.cancel(state, place)
        else:
            state = world.settle(state)
        if max(sums(state)) > most:
            return f"{state.held} is beyond the limit", exits
    return "", exits


def check_histories(seeds, owners):
    played = [(seed, *play(seed, owners)) for seed in range(seeds)]
    assert [one for one in played if one[1]] == []
    assert sum([exits for _, _, exits in played]) > seeds


@pytest.mark.parametrize("owners", [1, 2])
def test_random_histories_stay_within_a_limit_and_every_exit_is_accepted(owners):
    check_histories(300, owners)


@pytest.mark.full
@pytest.mark.parametrize("owners", [1, 2])
def test_many_random_histories_stay_within_a_limit(owners):
    check_histories(2500, owners)
