"""Property: whatever a person or a fault does at the venue, the books agree after two looks."""

import math

import backtrader as bt
import pytest
from helpers.hand_traded import HandTraded, run
from helpers.scenarios import flat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

LIMIT = bt.Order.Limit
# A look is made every third round, a bar has four rounds: by then every answer has been given.
BARS_UNTIL_SETTLED = 14


class Watched(HandTraded):
    """Note every order of the gate's own that has opened a position at the venue.

    What the plan fills in the moment of another trade by hand, no gate can know of before.
    """

    def start(self):
        super().start()
        self.opened = []

    def _try(self, order):
        before = self._positions[order.data].size
        done = order.executed.size
        super()._try(order)
        after = self._positions[order.data].size
        opened = order.executed.size != done and abs(after) > abs(before)
        if opened and order.ref in self.own and self._price_now is None:
            self.opened.append((len(order.data), before, after))

    @property
    def own(self):
        return self.cerebro.broker.own


def close(v, share):
    v.by_hand(-share * v._positions[v.data].size)


def trade(v, size):
    v.by_hand(size)


def lose_stop(v, _):
    v.lose(*v.stops())


def lose_fill(v, _):
    for order in v.stops()[:1]:
        v.fill_unheard(order)


def lose_limit(v, _):
    v.lose(*[o for o in v._working if o.exectype == LIMIT])


def fill_limit(v, _):
    for order in [o for o in v._working if o.exectype == LIMIT and o.info["venue_id"] != "F1"][:1]:
        v.fill_unheard(order)


def cancel_stop(v, _):
    for order in v.stops():
        v._cancelling.add(order.ref)


def someone(v, size):
    if not any(o.info["venue_id"] == "F1" for o in v._working):
        v.foreign(size, 80.0 if size > 0 else 120.0, LIMIT)


def flip(v, share):
    v.by_hand(-(1 + share) * v._positions[v.data].size)


CHANGES = st.one_of(
    st.tuples(st.just(close), st.sampled_from([1.0, 0.5, 0.3])),
    st.tuples(st.just(flip), st.sampled_from([0.5, 1.0])),
    st.tuples(st.just(trade), st.sampled_from([3.0, -3.0, 0.1, 12.0, -12.0])),
    st.tuples(st.just(lose_stop), st.none()),
    st.tuples(st.just(lose_fill), st.none()),
    st.tuples(st.just(lose_limit), st.none()),
    st.tuples(st.just(fill_limit), st.none()),
    st.tuples(st.just(cancel_stop), st.none()),
    st.tuples(st.just(someone), st.sampled_from([2.0, -2.0])),
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    side=st.sampled_from([1, -1]),
    limit=st.booleans(),
    lists=st.sampled_from([None, False, True]),
    changes=st.lists(st.tuples(st.integers(22, 34), CHANGES), min_size=1, max_size=3),
)
def test_the_books_agree_and_no_order_of_ours_opens_a_position(side, limit, lists, changes):
    """Without a list (None), or where the broker does not declare it, a stop may stay lost."""
    plan = {}
    for bar, (change, argument) in changes:
        before = plan.get(bar)

        def both(v, before=before, change=change, argument=argument):
            if before is not None:
                before(v)
            change(v, argument)

        plan[bar] = both

    def enter(s):
        (s.buy if side > 0 else s.sell)(size=10)

    def protect(s):
        far = s.sell if side > 0 else s.buy
        far(size=10, exectype=LIMIT, price=110.0 if side > 0 else 90.0)

    actions = {20: enter} | ({21: protect} if limit else {})
    rows = flat(36 + BARS_UNTIL_SETTLED)
    venue, strategy, _ = run(
        plan, actions, rows, kind=Watched, lists=lists is not None, can={"order_lists": bool(lists)}
    )
    held = venue._positions[venue.data].size
    assert strategy.broker.book.instruments[0].size == pytest.approx(held, abs=1e-7)
    assert venue.opened == []
    resting = sum(order.executed.remsize for order in venue.stops())
    assert held * resting <= 0.0
    if lists or not any(change is lose_stop for _, (change, _) in changes):
        assert math.isclose(resting, -held, abs_tol=1e-7)
    assert abs(resting) <= abs(held) + 1e-7
    assert strategy.broker.state == "ACTIVE"
