"""Enumerate the states of small worlds: see `helpers.worlds`."""

from helpers.worlds import State


def mirrored(state):
    """Return a state with long and short exchanged, and every price negated."""
    rows = [row._replace(side=-row.side, price=-row.price) for row in state.rows]
    return State(tuple(-size for size in state.held), tuple(rows))


def worlds(world, starts, menu, orders):
    """Return the states with up to so many orders, submitted one after the other.

    Of two states that are mirror images only one is returned.
    """
    every, newest = set(starts), set(starts)
    for _ in range(orders):
        sent = {world.submit(state, spec) for state in newest for spec in menu}
        newest = {min(state, mirrored(state)) for state in sent} - every
        every |= newest
    return every


def histories(world, starts, menu, orders):
    """Return the states of every history: fills, cancels and expiries between submissions, too.

    Strategies act between two bars, or right after a cancel of theirs: an entry that is cancelled
    and sent again at another price is among these.
    """
    every, acting = set(), set(starts)
    for number in range(orders + 1):
        newest = {min(state, mirrored(state)) for state in acting} - every
        while newest:
            every |= newest
            newest = {after for state in newest for after in _steps(world, state)} - every
        settled = {world.settle(state) for state in every}
        cancelled = {
            world.cancel(state, place) for state in settled for place in range(len(state.rows))
        }
        if number < orders:
            acting = {world.submit(state, spec) for state in settled | cancelled for spec in menu}
    return every


def _steps(world, state):
    yield from (after for after, _ in world.fills(state))
    for place in range(len(state.rows)):
        yield world.cancel(state, place)
    yield world.settle(state)
