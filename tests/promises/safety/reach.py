"""What an order can close, and what it may open: claims and allowances, per trader and feed."""

from promises.safety.book import EPS, Book

# Whose claims stand before that of an order: what it competes with for one position.
ACCOUNTS = {
    "market": ("market",),
    "close": ("market", "close"),
    "limit": ("market", "limit"),
    "stop": ("market", "stop"),
}


class Reach(Book):
    """Split orders when they are asked for, and follow the parts until they have ended."""

    def against(self, asked):
        """Return what an order could close now: its trader's own part, of ``close()`` all parts."""
        return sum(self._parts_against(asked).values())

    def _parts_against(self, asked):
        """Return what an order could close of whom, in the order in which it does."""
        parts = {who: -asked.side * self.share(asked.index, who).size for who in self.traders}
        own = max(0.0, parts.pop(asked.who, 0.0))
        others = sorted(parts.items(), key=lambda part: -part[1]) if asked.leaves else ()
        return {asked.who: own} | {who: size for who, size in others if size > 0.0}

    def orders(self, index, side, who):
        """Return the orders of a trader that count."""
        alive = self.alive(index, side, who)
        return [a for a in alive if not a.waits and not a.late]

    def entry_of(self, asked):
        """Return the entry that an order waits for as its child, or None."""
        entry = self.asked.get(getattr(asked.parent, "ref", None))
        if entry is None or not entry.order.alive():
            return None
        same = (entry.index, entry.who, entry.side) == (asked.index, asked.who, -asked.side)
        return entry if same else None

    def coming(self, asked, size=lambda a: a.most, but=None):
        """Return what is opened for certain before an order fills, so that it can close it."""
        groups = {}
        for a in self.orders(asked.index, -asked.side, asked.who):
            if a is not but and a.most > EPS and self._certain(a, asked):
                groups[a.group] = max(groups.get(a.group, 0.0), min(size(a), a.left))
        return sum(groups.values())

    def _surely(self, asked):
        """Return what an entry surely opens: what a guard has ended, the model may not know.

        After a trip nothing opens any more, and it may not know of a trip.
        """
        unknown = self.guards or self.astray
        ended = self.blocked or (unknown and (self.at_open or asked.bar != self.now))
        return 0.0 if ended else asked.opening

    @staticmethod
    def _certain(entry, asked):
        """Market orders fill first, and a limit whose price is passed before a stop is reached."""
        if entry.kind == "market":
            return True
        passed = asked.side * (asked.trigger - entry.trigger) > 0.0
        return entry.kind == "limit" and asked.kind == "stop" and not asked.trails and passed

    def claimed(self, asked, kinds, size=lambda a: a.closing, who=None):
        """Return what other exits of some kinds are counted to close; of a group the largest."""
        groups = {}
        for a in self.orders(asked.index, asked.side, asked.who if who is None else who):
            same = asked.group is not None and a.group == asked.group
            if a is not asked and a.kind in kinds and not same and self.entry_of(a) is None:
                groups[a.group] = max(groups.get(a.group, 0.0), min(size(a), a.left))
        return sum(groups.values())

    def split(self, asked):
        """Work out what an order is counted to close, and what must pass of it as an exit.

        What others may open and close is known between two bounds, so that this is, too. What a
        parent opens is its children's, whatever other exits claim.
        """
        asked.held, entry = self.against(asked), self.entry_of(asked)
        asked.had, kinds = asked.held > EPS, ACCOUNTS[asked.kind]
        sure, given = (0.0, 0.0) if entry is None else (self._surely(entry), entry.most)
        least = asked.held + self.coming(asked, self._surely, entry)
        most = asked.held + self.coming(asked, but=entry)
        claim = self.claimed(asked, kinds, lambda a: a.claim)
        if asked.leaves:  # what the exits of others may close is left to them
            others = [who for who in self.traders if who != asked.who]
            claim += sum(self.claimed(asked, kinds, lambda a: a.claim, who) for who in others)
        asked.closing = min(asked.size, sure + max(0.0, least - claim))
        asked.claim = min(asked.size, given + max(0.0, most - self.claimed(asked, kinds)))
        asked.reduces = max(asked.claim, min(asked.size, given + most))
        if asked.parent is not None and entry is None:
            asked.closing = 0.0  # a child that adds to its parent is judged as an entry
        asked.must = asked.closing
        if asked.kind == "market":
            asked.must = max(asked.must, min(asked.size, asked.held))
        if asked.leaves:
            asked.must = asked.reduces = asked.size

    def leaving_before(self, asked):
        """Return the market exits that fill before an order: index, trader, units and order."""
        users = [
            (a.index, a.who, min(a.claim, a.left), a.order)
            for a in self.alive()
            if a.kind == "market" and a is not asked and a.claim > EPS and a.reachable
        ]
        ours = [
            (index, o.owner.who, abs(o.executed.remsize), o)
            for index in range(len(self.datas))
            for o in self.own_alive(index, "market")
        ]
        return users + ours

    # -- fills -----------------------------------------------------------------------------------

    def take(self, asked, size):
        """Take a fill off an order before the parts change: what it opens, and beyond its leave.

        An order that closes what another claims leaves it its own allowance in exchange.
        """
        closes = min(size, self.against(asked))
        self._exchange(asked, closes)
        opens = size - closes
        excess = max(0.0, opens - asked.most)
        asked.closing = max(0.0, asked.closing - closes)
        asked.claim = max(0.0, asked.claim - closes)
        asked.opening = max(0.0, asked.opening - opens)
        asked.most = max(0.0, asked.most - opens)
        return opens, excess

    def _exchange(self, asked, closes):
        least = min(max(0.0, closes - asked.claim), asked.opening)
        most = min(max(0.0, closes - asked.closing), asked.most)
        rivals = [
            a
            for a in self.orders(asked.index, asked.side, asked.who)
            if a.group != asked.group and not a.leaves and a.claim > EPS
        ]
        exact, given, sure = most - least <= EPS and len(rivals) < 2, most, least
        for other in rivals:
            # Where it is not plain how much is left to others, each may have got it.
            swap = min(given if exact else most, other.claim)
            other.most, given = other.most + swap, given - swap
            other.closing = max(0.0, other.closing - swap)
            swap = min(sure, other.claim) if exact else 0.0
            other.opening, other.claim = other.opening + swap, other.claim - swap
            sure -= swap
        asked.opening = max(0.0, asked.opening - (most - max(0.0, given)))
        asked.closing += least - sure
        asked.claim += most - max(0.0, given)
        asked.most -= least - sure

    def parts_of(self, asked, size):
        """Return whose part a fill changes, and by how much; what exceeds all is its trader's."""
        parts, left = {}, size
        for who, held in self._parts_against(asked).items():
            parts[who] = min(left, held)
            left -= parts[who]
        parts[asked.who] += left
        return {who: units for who, units in parts.items() if units > EPS or who == asked.who}

    def meet(self, index, who):
        """Note which orders have something to close now."""
        for side in (1, -1):
            for a in self.alive(index, side):
                a.had |= (a.who == who or a.leaves) and self.against(a) > EPS
            self.shut_in(index, side, who)

    def shut_in(self, index, side, who):
        """Count no entry as sure that closes more than it was counted to, and opens less.

        A position against it has grown, or another order has ended. Others may have got what it
        does not use, so that it is reviewed again before it opens, and then it may be cut. What
        each was allowed is known between two bounds: the most that it may have been counts here.
        """
        left, opening = {}, {}
        for a in self.orders(index, side, who):
            left[a.group] = max(left.get(a.group, 0.0), a.left)
            most = min(a.left, a.most)
            opening[a.group] = max(opening.get(a.group, 0.0), a.opening, most)
        held = max(0.0, -side * self.share(index, who).size)
        if held > EPS and sum(left.values()) - held < sum(opening.values()) - EPS:
            for a in self.orders(index, side, who):
                a.opening = 0.0

    def forget_relying(self):
        """Count no entry that relied on an exit as sure: tried without it, it may have been cut."""
        for a in self.alive():
            if a.relies:
                a.opening = 0.0

    # -- after the fills of a bar ------------------------------------------------------------------

    def check_stranded(self):
        """See that no exit rests whose position is gone: it could open another one.

        After a cancel the strategy may send its entry again: its exits stay until the next fills.
        """
        if not self.there:
            return
        patience = 1 if self.guards or self.blocked or self.switched else 0
        for a in self.alive():
            working = a.order.status in (a.order.Accepted, a.order.Partial)
            idle = a.waits or a.late or a.most > EPS or not a.had or self.entry_of(a) is not None
            idle = idle or not working or (a.index, a.who) in self.cancels
            stranded = not idle and self.against(a) <= EPS and self.coming(a) <= EPS
            a.stranded = a.stranded + 1 if stranded else 0
            late = a.leaves or a.parent is not None  # it is looked at when it would execute
            if a.stranded == patience + late + 1:
                text = f"{a.kind} {a.side * a.left:g} of trader {a.who} on D{a.index}"
                self.breach("3 an exit outlives its position", text)

    def withdrawn(self, asked):
        """Take down that an order was cancelled, and what it could have done."""
        if not self.there or asked.waits or asked.late or self._ended_otherwise(asked):
            return
        ours = any(o.owner.who == asked.who for o in self.own_alive(asked.index, "market"))
        lost = 0.0 if ours else min(self.against(asked), asked.closing)
        # What is reviewed again before it opens may end there.
        held_off = self.switched or self.guards or asked.relies or asked.ended
        held_off = held_off or asked.had or not asked.pure
        entry = 0.0 if held_off else min(asked.opening, abs(asked.order.executed.remsize))
        self.gone.append((asked, lost, entry))

    def check_withdrawn(self):
        """See that what was cancelled had nothing to close, and no leave to open."""
        for asked, lost, entry in self.gone:
            text = f"{asked.kind} of trader {asked.who} on D{asked.index}"
            if lost > EPS:
                self.breach("2 an exit was cancelled", f"{text}: {lost:g} to close")
            if entry > EPS and not self.blocked and not self.astray:
                self.breach("3 an entry was cancelled that was allowed", f"{text}: {entry:g}")
        self.gone = []

    def _ended_otherwise(self, asked):
        """Whether its strategy or Backtrader ended it, or may have."""
        if asked.order.ref in self.cancelled or asked.parent is not None:
            return True
        kin = [a for a in self.asked.values() if a.group == asked.group or a.parent is asked.order]
        return any(not a.order.alive() or a.filled for a in kin if a is not asked)
