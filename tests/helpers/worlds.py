"""Small worlds: every history of a few units and a few orders, on the portfolio layer alone.

A `State` is a plain tuple, so that histories which meet are followed once. `World` loads a state
into one `Book`, makes one step with the functions of the product, and returns the next state. It
imitates what `SimulatedExecution` and BackBroker do around them:

- any order may fill at any time, in whole or by one unit, except a child before its parent;
- a fill ends the other orders of its OCO group, a completed child its siblings;
- a cancel or an expiry ends the group, the siblings and the children of its order;
- exits without a position are withdrawn between two bars, not between two fills of one bar.

BackBroker allows fewer sequences: prices and the queue decide. What holds here holds there.
"""

from typing import NamedTuple

from bt_risk.portfolio.position import WorkingOrder
from bt_risk.portfolio.preview import OrderTerms, preview_order
from bt_risk.portfolio.reachable import (
    allowed_fill,
    book_claims,
    coming,
    held_for,
    parts_closed,
    stranded,
)
from bt_risk.tolerances import SIZE_EPS
from helpers.books import book_of

ALL, NONE = float("inf"), 0.0
SIDES = (1, -1)


class Row(NamedTuple):
    """A working order of a state; `parent` is the place of its parent in the state plus one."""

    owner: int
    side: int
    remaining: float
    opening: float
    closing: float
    kind: str
    price: float
    trails: bool
    group: int
    parent: int
    child: bool
    shared: bool
    had_position: bool
    dormant: bool


class State(NamedTuple):
    """What the owners hold, and the orders that work, in the sequence of their submission."""

    held: tuple
    rows: tuple = ()


class Spec(NamedTuple):
    """An order to submit.

    `oco` lets it join the group of the newest order of its owner, `child` makes it the child of the
    newest order of its owner that has no parent; `closes` sends it by ``close()``, for all that is
    held.
    """

    side: int
    size: float
    kind: str
    price: float = 0.0
    owner: int = 0
    oco: bool = False
    child: bool = False
    closes: bool = False
    trails: bool = False


class Reached(NamedTuple):
    """The most that any sequence of fills reaches from a state, (long, short) each."""

    held: tuple
    opened: tuple


def sums(state):
    """Return what the owners hold on each side of a state."""
    held = state.held
    if len(held) == 1:
        return (held[0], 0.0) if held[0] > 0.0 else (0.0, -held[0])
    return sum([size for size in held if size > 0.0]), -sum([size for size in held if size < 0.0])


class World:
    """Step from state to state.

    `limit` is what a limit allows all owners together to hold on one side; `late` the same for an
    exit without a position that is reviewed when it is about to execute. `partial` lets orders fill
    by one unit.
    """

    def __init__(self, limit=ALL, late=NONE, partial=True):
        self.book = book_of(price=1.0)
        self.instrument = self.book.instruments[0]
        self.limit, self.late, self.partial = limit, late, partial
        self._children, self._reached, self._rows = set(), {}, {}

    # -- from a state to a book and back -----------------------------------------------------------

    def load(self, state):
        """Make the book what a state says."""
        book, instrument = self.book, self.instrument
        book.working.clear()
        instrument.orders.clear()
        book.trades.clear()
        self._children.clear()
        for owner, size in enumerate(state.held):
            book.part(instrument, owner).size = size
        instrument.size, instrument.held = sum(state.held), any(state.held)
        for ref, row in enumerate(state.rows, 1):
            group = ("group", row.group) if row.group else None
            if row.parent:
                group = ("children of", row.parent)
            working = WorkingOrder(
                ref,
                instrument,
                row.owner,
                row.side,
                row.remaining,
                row.opening,
                row.kind,
                row.price,
                1.0,
                group,
                row.parent or None,
                closing=row.closing,
                trails=row.trails,
                shared=row.shared,
                had_position=row.had_position,
                dormant=row.dormant,
                part=book.part(instrument, row.owner),
                dearest=1.0,
            )
            book.working[ref] = instrument.orders[ref] = working
            if row.child:
                self._children.add(ref)

    def state(self):
        """Return the state that the book is in."""
        working = self.book.working
        places = {ref: place for place, ref in enumerate(working, 1)}
        groups = {}
        for w in working.values():
            groups.setdefault(w.group, []).append(places[w.ref])
        rows = []
        for ref, w in working.items():
            members = groups[w.group]
            row = Row(
                w.owner,
                w.side,
                w.remaining,
                w.opening,
                w.closing,
                w.kind,
                w.price,
                w.trails,
                members[0] if len(members) > 1 else 0,
                places.get(w.parent, 0),
                ref in self._children,
                w.shared,
                w.had_position,
                w.dormant,
            )
            rows.append(self._rows.setdefault(row, row))
        held = [0.0] * len(self.instrument.parts)
        for part in self.instrument.parts:
            held[part.owner] = part.size
        return State(tuple(held), tuple(rows))

    # -- what strategies do ------------------------------------------------------------------------

    def submit(self, state, spec):
        """Return the state with one more order; the same state if it is refused, or makes no sense.

        A whole exit at the market is never refused or cut.
        """
        self.load(state)
        working = self.book.working
        mine = [w for w in working.values() if w.owner == spec.owner]
        group = parent = None
        if spec.oco:
            leaders = [w for w in mine if w.parent is None]
            if not leaders:
                return state
            group = leaders[-1].group
        if spec.child:
            parents = [w for w in mine if w.ref not in self._children]
            if not parents:
                return state
            parent = parents[-1]
        self._send(spec, parent, group)
        return self.state()

    def _send(self, spec, parent, group):
        exits = parent if parent is not None and parent.side != spec.side else None
        terms = OrderTerms(spec.kind, spec.price, spec.trails, group, exits, spec.closes)
        size = self._whole(spec)
        owner, side = spec.owner, spec.side
        preview = preview_order(self.book, self.instrument, owner, side, size, terms)
        working = WorkingOrder(
            1 + max(self.book.working, default=0),
            self.instrument,
            owner,
            side,
            size,
            0.0,
            spec.kind,
            spec.price,
            1.0,
            ("children of", parent.ref) if parent is not None else group,
            None if parent is None else parent.ref,
            closing=preview.closing,
            trails=spec.trails,
            shared=spec.closes,
            dearest=1.0,
        )
        allowed = self._review(working, preview.opening, self.limit)
        sent = size if parent is not None else max(preview.closing + allowed, preview.reduces)
        if max(preview.closing + allowed, sent if parent is None else 0.0) <= SIZE_EPS:
            return None
        working.cut_to(sent)
        working.opening = min(allowed, working.remaining - working.closing)
        self.book.add_back(working)
        if parent is not None:
            self._children.add(working.ref)
        return working

    def _whole(self, spec):
        if not spec.closes:
            return spec.size
        return max(0.0, -spec.side * self.instrument.size)

    def _review(self, working, opening, limit):
        """Return how many whole units of an order may open so that no side exceeds a limit."""
        if limit == ALL or opening <= SIZE_EPS:
            return opening
        orders, ref = self.instrument.orders, working.ref
        before = orders.get(ref)
        orders[ref], kept = working, working.opening
        while opening > SIZE_EPS:
            working.opening = opening
            if self.exposure(working.side) <= limit + SIZE_EPS:
                break
            opening -= 1.0
        working.opening = kept
        if before is None:
            del orders[ref]
        return max(0.0, opening)

    def cancel(self, state, place):
        """Return the state without an order, as a strategy cancels it, or as it expires."""
        self.load(state)
        self._end(self.book.working[place + 1])
        return self.state()

    # -- what the broker does ----------------------------------------------------------------------

    def fill(self, state, place, size=ALL):
        """Return the state after a fill of at most `size`, and what that has opened."""
        self.load(state)
        self._execute(self.book.working[place + 1], size)
        after = self.state()
        longer, shorter = (b - a for a, b in zip(sums(state), sums(after), strict=True))
        return after, (max(0.0, longer), max(0.0, shorter))

    def _execute(self, w, size):
        part = self.book.part(self.instrument, w.owner)
        rest = w.remaining
        if w.dormant and rest > part.held_against(w.side) + SIZE_EPS:
            opening, w.opening, w.dormant = w.opening, 0.0, False
            w.opening = self._review(w, opening, self.limit)
        allowed = allowed_fill(part, w)
        if allowed <= SIZE_EPS and not w.had_position and self._comes(part, w) <= SIZE_EPS:
            w.opening = self._review(w, rest, self.late)
            allowed = allowed_fill(part, w)
        filled = min(allowed, size)
        if filled > SIZE_EPS:
            excess = book_claims(part, w, filled)
            assert excess == 0.0, "a clamped fill exceeds what was reviewed"
            for one, units in parts_closed(part, w.side, filled, w.shared):
                self.book.fill(one, w.side * units, 1.0, 0.0, 9.0, 1.0)
            if w.ref not in self._children:
                self._end_group(w)
        if w.remaining <= SIZE_EPS:
            self._complete(w)
        elif allowed < rest - SIZE_EPS:
            more = w.opening, self._comes(part, w), held_for(part, w.side, w.shared)
            if max(more) <= SIZE_EPS:
                self._end(w)

    @staticmethod
    def _comes(part, w):
        return coming(part, w.kind, w.side, w.price, w.trails, w)

    def _complete(self, w):
        self.book.drop(w.ref)
        if w.ref in self._children:
            self._end_group(w)

    def _end(self, w):
        self.book.drop(w.ref)
        self._end_group(w)
        self._end_children(w)

    def _end_group(self, w):
        for other in [o for o in self.book.working.values() if o.group == w.group and o is not w]:
            self.book.drop(other.ref)
            self._end_children(other)

    def _end_children(self, w):
        for child in [o for o in self.book.working.values() if o.parent == w.ref]:
            self.book.drop(child.ref)

    def settle(self, state):
        """Return the state between two bars: without the exits that `stranded` names."""
        self.load(state)
        found = True
        while found:
            found = [w for part in self.instrument.parts for w in stranded(part)]
            for w in found:
                self.book.drop(w.ref)
                self._end_children(w)
        return self.state()

    # -- what can be reached -----------------------------------------------------------------------

    def exposure(self, side):
        """Return the units that limits judge on a side."""
        return self.book.exposure.of(self.instrument, side, "notional")

    def fills(self, state):
        """Yield what one fill makes of a state, and what it opens."""
        for place, row in enumerate(state.rows):
            if not row.parent:
                for size in (ALL, 1.0) if self.partial and row.remaining > 1.0 else (ALL,):
                    after, opened = self.fill(state, place, size)
                    if after != state:
                        yield after, opened

    def reach(self, state):
        """Return the most that fills alone can make of a state."""
        known = self._reached.get(state)
        if known is None:
            long, short = sums(state)
            bought = sold = 0.0
            for after, (opens, sells) in self.fills(state):
                held, opened = self.reach(after)
                long, short = max(long, held[0]), max(short, held[1])
                bought, sold = max(bought, opens + opened[0]), max(sold, sells + opened[1])
            known = self._reached[state] = Reached((long, short), (bought, sold))
        return known
