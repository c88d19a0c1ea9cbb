"""Imitate a live broker that attaches a stop to its entry, as `attached` in docs/live.md says."""

import backtrader as bt

from helpers.capable_broker import CapableBroker

ATTACHED = ("brackets", "attached")


class AttachingBroker(CapableBroker):
    """Let a stop child fill for what its parent has filled, and never open anything with it.

    `late` maps the number of an order to the rounds that its notifications come late. `refuses`
    says how a child is refused: with "None", an "error", an order that is "Rejected" at once, or
    "later". `rounds` has of each round what is held, and the stops of bt_risk that may fill then,
    as (units, price).
    """

    params = (("late", None), ("refuses", None))

    def start(self):
        super().start()
        self.rounds, self._waiting, self._ended, self._bad = [], [], set(), set()

    # -- requests --------------------------------------------------------------------------------

    def _request(self, kind, owner, data, size, **kwargs):
        parent = kwargs.get("parent")
        child = parent is not None and kwargs.get("exectype") == bt.Order.Stop
        if child and self.p.refuses in ("None", "error"):
            self.requests.append(("refused", 0, 0, size, {}))
            if self.p.refuses == "error":
                raise ValueError("no children")
            return None
        order = super()._request(kind, owner, data, size, **kwargs)
        if child:
            assert parent in self._working, "the parent is not there"
            self._groups.pop(order.ref)  # it stays when its parent has filled in part
            if self.p.refuses == "Rejected":
                self._held.setdefault(parent.ref, [parent])
                self._end(order, order.reject)
            elif self.p.refuses == "later":
                self._bad.add(order.ref)
        return order

    def _child_of(self, order):
        """Return the parent of a stop child, None of any other order."""
        return self._parents.get(order.ref) if order.exectype == bt.Order.Stop else None

    # -- the venue's own time --------------------------------------------------------------------

    def _answer(self, order):
        if order.ref in self._bad:
            self._end(order, order.reject)
        else:
            super()._answer(order)

    def active(self, order):
        """Return the units of a stop that may fill now."""
        left, parent = abs(order.executed.remsize), self._child_of(order)
        if any(order in family for family in self._held.values()):
            return 0
        if parent is None:
            return left
        held = self._positions[order.data].size * (1 if parent.isbuy() else -1)
        filled = abs(parent.executed.size) - abs(order.executed.size)
        return max(0, min(left, filled, held))

    def _try(self, order):
        if self._child_of(order) is None:
            super()._try(order)
            return
        size = self.active(order)
        if order not in self._working or not size or self._price(order) is None:
            return
        self._fill_part(order, size)
        if not order.executed.remsize:
            self._working.remove(order)

    def _end_group(self, order):
        """End the children of an order that has ended unfilled; cut those of one that filled."""
        if order.alive():
            return
        for child in [o for o in self._working if self._child_of(o) is order]:
            self._parents.pop(child.ref)
            filled = abs(order.executed.size)
            if not filled:
                self._end(child, child.cancel)
                continue
            filled = min(filled, abs(child.created.size))  # it may have got another size
            signed = filled if child.isbuy() else -filled
            child.size = child.created.size = signed
            child.executed.remsize = signed - child.executed.size
            if not child.executed.remsize:
                self._end(child, child.cancel)
        super()._end_group(order)

    def _notify(self, order):
        late = (self.p.late or {}).get((order.info or {}).get("number"), 0)
        if late and order.executed.size:
            self._waiting.append([late, order.clone()])
        else:
            super()._notify(order)

    def next(self):
        super().next()
        for row in self._waiting:
            row[0] -= 1
        self._news.extend(order for left, order in self._waiting if left < 0)
        self._waiting = [row for row in self._waiting if row[0] >= 0]
        stops = [o for o in self._working if _is_ours(o) and self.active(o)]
        held = sum(position.size for position in self._positions.values())
        self.rounds.append((held, [(self.active(o), o.created.price) for o in stops]))


def _is_ours(order):
    return order.exectype == bt.Order.Stop and "bt_risk" in (order.info or {})
