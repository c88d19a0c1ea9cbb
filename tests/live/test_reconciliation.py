"""Reconciliation: the broker's book and ours are compared, and every difference has an answer."""

import copy

import backtrader as bt
import pytest
from helpers.fake_broker import FakeBroker
from helpers.hand_traded import HandTraded, run
from helpers.scenarios import bars, flat

LIMIT, STOP = bt.Order.Limit, bt.Order.Stop


def entry(side, size=10):
    """Return the actions of a run that holds `size` from bar 21 on."""
    return {20: lambda s: s.buy(size=size) if side > 0 else s.sell(size=size)}


def names(journal):
    """Return the differences of a journal, in order."""
    rows = journal[journal.rule == "reconciliation"]
    return [action for action in rows.action if action not in ("note", "reduce", "resume")]


def reason_of(journal, action):
    (reason,) = journal[journal.action == action].reason
    return reason


def check_guarded(venue, strategy, data=0):
    """The book is that of the broker, one stop rests for what is held, and entries pass."""
    feed = venue.cerebro.datas[data]
    held = venue._positions[feed].size
    assert strategy.broker.book.instruments[data].size == pytest.approx(held)
    stops = [order.executed.remsize for order in venue.stops(feed)]
    assert stops == ([pytest.approx(-held)] if held else [])
    assert strategy.broker.state == "ACTIVE"


# -- positions -----------------------------------------------------------------------------------

HANDS = [
    ("position gone", -10, 0),
    ("position smaller", -4, 6),
    ("position larger", 5, 15),
    ("position gone", -15, -5),
    ("position smaller", -0.5, 9.5),
]


@pytest.mark.parametrize("lists", [True, False])
@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize(("name", "hand", "left"), HANDS)
def test_what_is_traded_by_hand_moves_the_book_and_the_stop(name, hand, left, side, lists):
    venue, strategy, journal = run({25: lambda v: v.by_hand(side * hand)}, entry(side), lists=lists)
    assert venue._positions[venue.data].size == side * left
    check_guarded(venue, strategy)
    assert names(journal) == [name]
    assert "(inferred)" in reason_of(journal, name)


@pytest.mark.parametrize("side", [1, -1])
def test_a_position_that_is_closed_by_hand_leaves_no_stop_that_opens_one(side):
    """The market falls through the stop a little later."""
    rows = flat(26) + [(100, 101, 99, 100)] * 4 + [(90, 110, 80, 100)] * 5
    venue, strategy, _ = run({22: lambda v: v.close_by_hand()}, entry(side), rows)
    assert venue.sizes == [10 * side, 0]
    check_guarded(venue, strategy)


@pytest.mark.parametrize("size", [10, -7])
def test_a_position_that_is_opened_by_hand_after_one_of_the_gate_is_guarded(size):
    actions = entry(1) | {24: lambda s: s.close()}
    venue, strategy, journal = run({30: lambda v: v.by_hand(size)}, actions)
    assert venue._positions[venue.data].size == size
    check_guarded(venue, strategy)
    assert names(journal) == ["position new"]


@pytest.mark.parametrize("side", [1, -1])
def test_a_position_from_before_the_run_that_is_closed_by_hand_leaves_no_stop(side):
    class Holds(HandTraded):
        def start(self):
            super().start()
            self.by_hand(10 * side, 100.0)

    plan = {18: lambda v: v.close_by_hand()}
    venue, strategy, journal = run(plan, {}, kind=Holds)
    check_guarded(venue, strategy)
    assert names(journal) == ["position gone"]


def test_a_position_that_is_changed_before_the_first_look_is_believed():
    """It was checked once before: both books have agreed on it."""

    class Holds(HandTraded):
        def start(self):
            super().start()
            self.by_hand(10, 100.0)

    plan = {5: lambda v: v.close_by_hand()}
    venue, strategy, journal = run(plan, {}, kind=Holds, reconcile_every=60)
    assert strategy.broker.book.instruments[0].size == 0
    assert names(journal) == ["position gone"]


def test_a_position_in_a_data_feed_that_was_never_traded_is_not_touched():
    frames = [bars(*flat(50)), bars(*flat(50, price=50.0))]
    plan = {25: lambda v: v.by_hand(7, data=v.cerebro.datas[1])}
    venue, strategy, journal = run(plan, entry(1), frames=frames)
    assert venue.stops(venue.cerebro.datas[1]) == []
    assert names(journal) == []


def test_one_wrong_answer_is_no_difference():
    def spoil(v):
        answers = iter([True])
        v.says = lambda p: bt.position.Position(0) if next(answers, False) else p

    venue, strategy, journal = run({25: spoil}, entry(1))
    check_guarded(venue, strategy)
    assert names(journal) == []


def test_no_number_is_no_difference_however_often():
    def spoil(v):
        v.says = lambda p: bt.position.Position(float("nan"), 1.0)

    def mend(v):
        v.says = None

    venue, strategy, journal = run({25: spoil, 40: mend}, entry(1))
    check_guarded(venue, strategy)
    assert names(journal) == []


@pytest.mark.parametrize("units", [0.0, 100.0])
def test_a_store_that_counts_otherwise_takes_no_stop_away_and_makes_none_larger(units):
    def position(p):
        answer = copy.copy(p)
        answer.size *= units
        return answer

    def count(v):
        v.says = position

    venue, strategy, journal = run({2: count}, entry(1))
    venue.says = None
    check_guarded(venue, strategy)
    (reason,) = journal[journal.rule == "reconciliation"].reason
    assert reason.endswith("because the two have never agreed in this run")


def test_a_position_that_is_answered_from_an_older_copy_is_no_difference():
    """For 14 seconds after each fill the broker answers with what it held before."""

    class Cached(HandTraded):
        def start(self):
            super().start()
            self._old = []

        def next(self):
            super().next()
            self._old.append((self.clock.now, self._positions[self.data].clone()))

        def getposition(self, data, clone=True):
            old = [p for at, p in self._old if at <= self.clock.now - 14]
            return old[-1].clone() if old else bt.position.Position()

    actions = {k: lambda s: s.buy(size=1) for k in (20, 24, 28, 32)} | {40: lambda s: s.close()}
    venue, strategy, journal = run({}, actions, kind=Cached)
    assert venue.sizes == [1, 2, 3, 4, 0]
    assert names(journal) == []


def test_sums_that_round_and_less_than_a_step_are_no_difference():
    actions = {20: lambda s: s.buy(size=0.1), 22: lambda s: s.buy(size=0.2)}
    dust = {30: lambda v: v.by_hand(4e-6)}
    facts = {"D0": {"step": 1e-5}}
    venue, strategy, journal = run(dust, actions, instruments=facts)
    assert names(journal) == []
    assert strategy.broker.book.instruments[0].size == pytest.approx(0.3, abs=1e-9)


def test_a_close_by_hand_takes_from_the_largest_part_of_several_owners():
    class Two(HandTraded):
        pass

    def actions(s):
        s.buy(size=10 if s is s.cerebro.runningstrats[0] else 4)

    venue, strategy, _ = run({26: lambda v: v.by_hand(-12)}, {20: actions}, strategies=2, kind=Two)
    parts = strategy.broker.book.instruments[0].parts
    assert sorted(part.size for part in parts) == [0, 2]
    assert [order.executed.remsize for order in venue.stops()] == [-2]


def test_owners_on_both_sides_hold_nothing_where_the_broker_does():
    """A stop of either would open a position."""

    def enter(s):
        first = s is s.cerebro.runningstrats[0]
        (s.buy if first else s.sell)(size=10 if first else 4)

    plan = {26: lambda v: v.close_by_hand()}
    rows = flat(36) + [(100, 120, 80, 100)] * 6
    venue, strategy, _ = run(plan, {20: enter}, rows, strategies=2)
    assert [part.size for part in strategy.broker.book.instruments[0].parts] == [0, 0]
    assert venue.sizes == [10, 6, 0]
    assert venue.stops() == []
    assert strategy.broker.fill_tracker.flow == pytest.approx(0.0)


class Pooled(HandTraded):
    """A venue with one contract, whichever data feed is asked about."""

    def getposition(self, data, clone=True):
        return super().getposition(self.data)


class One(Pooled):
    def _try(self, order):
        order.data, data = self.data, order.data
        try:
            super()._try(order)
        finally:
            order.data = data


def test_data_feeds_of_one_name_share_a_position_at_the_venue():
    plan = {30: lambda v: v.close_by_hand(0.5), 40: lambda v: v.by_hand(4)}
    actions = entry(1) | {24: lambda s: s.buy(data=s.datas[1], size=2)}
    frames = [bars(*flat(60)), bars(*flat(60))]
    venue, strategy, journal = run(plan, actions, frames=frames, kind=One, contract="XAUUSD")
    first, second = strategy.broker.book.instruments
    assert first.size + second.size == venue._positions[venue.data].size
    assert names(journal) == ["position smaller", "position larger"]
    assert sum(order.executed.remsize for order in venue.stops()) == -first.size - second.size


@pytest.mark.parametrize("hand", [-5, 5])
def test_two_data_feeds_of_one_contract_are_no_second_position(hand):
    """The second is only traded before the first holds anything."""

    plan = {30: lambda v: v.by_hand(hand)}
    actions = {
        16: lambda s: s.buy(data=s.datas[1], size=2),
        18: lambda s: s.close(data=s.datas[1]),
        22: lambda s: s.buy(size=10),
    }
    frames = [bars(*flat(50)), bars(*flat(50))]
    venue, strategy, journal = run(plan, actions, frames=frames, kind=One)
    first, second = strategy.broker.book.instruments
    assert (first.size, second.size) == (10 + hand, 0)
    assert [order.executed.remsize for order in venue.stops()] == [-10 - hand]


def test_a_future_that_is_closed_by_hand_is_no_gain_and_no_loss():
    class Futures(HandTraded):
        def start(self):
            self.setcommission(commission=0.0, mult=50.0, margin=1000.0)
            super().start()

        def getvalue(self, datas=None):
            return 100_000.0

    venue, strategy, journal = run({30: lambda v: v.close_by_hand(0.5)}, entry(-1), kind=Futures)
    (one,) = strategy.broker.book.instruments
    assert one.size == -5
    assert strategy.broker.fill_tracker.flow == pytest.approx(5 * 100 * 50.0)


def test_a_position_under_two_tradeids_loses_the_oldest_first():
    actions = {20: lambda s: (s.buy(size=6, tradeid=1), s.buy(size=4, tradeid=2))}
    venue, strategy, _ = run({25: lambda v: v.by_hand(-7)}, actions)
    assert strategy.broker.book.instruments[0].parts[0].tradeids == {2: 3}
    assert [(o.executed.remsize, o.tradeid) for o in venue.stops()] == [(-3, 2)]


@pytest.mark.parametrize("seconds", [0.2, 2.0])
def test_a_stop_that_moves_on_every_bar_does_not_hide_a_trade_by_hand(seconds):
    """At 0.2 s a round something is always on its way."""
    rising = [(100 + k, 101.5 + k, 99.5 + k, 101 + k) for k in range(200)]
    plan = {40: lambda v: v.close_by_hand(0.6)}
    venue, strategy, journal = run(
        plan, entry(1), flat(20) + rising, seconds=seconds, instruments={"D0": {"step": 0.1}}
    )
    assert venue.sizes == [10, pytest.approx(4)]
    assert strategy.broker.book.instruments[0].size == pytest.approx(4)
    assert [o.executed.remsize for o in venue.stops()] == [pytest.approx(-4)]
    assert names(journal) == ["position smaller"]


def test_a_trade_by_hand_during_a_flatten_leaves_nothing():
    actions = entry(1) | {26: lambda s: s.broker.halt("test", flatten=True)}
    for bar in (24, 25, 28):
        venue, strategy, journal = run({bar: lambda v: v.close_by_hand(0.5)}, actions)
        assert venue._positions[venue.data].size == 0
        assert strategy.broker.book.instruments[0].size == 0
        assert venue.stops() == []


def test_a_broker_with_a_snapshot_is_asked_once_for_each_look():
    class Whole(HandTraded):
        asked = 0

        def account_snapshot(self, datas):
            self.asked += 1
            sizes = {data: self._positions[data].size for data in datas}
            return sizes, [order.clone() for order in self._working]

        def get_orders_open(self):
            raise AssertionError("asked twice")

    plan = {25: lambda v: v.close_by_hand(0.5), 30: lambda v: v.lose(*v.stops())}
    venue, strategy, journal = run(plan, entry(1), kind=Whole)
    check_guarded(venue, strategy)
    assert names(journal) == ["position smaller", "stop missing"]
    assert venue.asked <= 45  # 240 seconds with an instrument to look at, a look every six


# -- fills that are lost -------------------------------------------------------------------------


@pytest.mark.parametrize("lists", [True, False])
@pytest.mark.parametrize("side", [1, -1])
def test_a_fill_of_the_stop_that_is_never_notified_is_found_by_the_position(side, lists):
    plan = {25: lambda v: v.fill_unheard(v.stops()[0])}
    venue, strategy, journal = run(plan, entry(side), lists=lists)
    assert venue.sizes == [10 * side, 0]
    check_guarded(venue, strategy)
    assert names(journal) == ["position gone"]
    assert len(journal[journal.action == "stop"]) == 1


class Silent(HandTraded):
    """A store whose own objects do not show what it has lost, either."""

    def fill_unheard(self, order, price=None):
        price = price or order.created.price or self.data.close[0]
        self._working.remove(order)
        self.lost.add(order.ref)
        size = order.executed.remsize
        self._positions[order.data].update(size, price)
        self.cash -= size * price
        self.sizes.append(self._positions[order.data].size)


def take_profit(side):
    def enter(s):
        (s.buy if side > 0 else s.sell)(size=10)

    def protect(s):
        price = 105.0 if side > 0 else 95.0
        (s.sell if side > 0 else s.buy)(size=10, exectype=LIMIT, price=price)

    return {20: enter, 22: protect}


def limit_of(venue):
    return next(o for o in venue._working if o.exectype == LIMIT)


@pytest.mark.parametrize("kind", [HandTraded, Silent])
@pytest.mark.parametrize("side", [1, -1])
def test_a_take_profit_whose_fill_is_lost_reaches_the_strategy(side, kind):
    plan = {28: lambda v: v.fill_unheard(limit_of(v))}
    venue, strategy, journal = run(plan, take_profit(side), kind=kind)
    check_guarded(venue, strategy)
    assert venue.sizes == [10 * side, 0]
    note = next(row for row in strategy.orders if row[2] == "Completed" and row[0] > 25)
    assert note[4:6] == (-10 * side, 105.0 if side > 0 else 95.0)
    assert ("inferred" in note[6]) is (kind is Silent)
    assert [round(pnl) for _, pnl, _ in strategy.trades] == [50]
    assert strategy.broker.book.trades[0].pnl == pytest.approx(50)


@pytest.mark.parametrize("side", [1, -1])
def test_a_fill_that_is_notified_after_it_was_inferred_is_booked_once(side):
    def late(v):
        order = v.kept
        order.execute(v.data.datetime[0], order.executed.remsize, 105.0 if side > 0 else 95.0,
                      order.executed.remsize, 0, 0, 0, 0, 0, 0, 0, 0, 0)  # fmt: skip
        v.lost.discard(order.ref)
        v._notify(order)

    def lose(v):
        v.kept = limit_of(v)
        v.fill_unheard(v.kept)

    venue, strategy, journal = run({28: lose, 40: late}, take_profit(side), kind=Silent)
    check_guarded(venue, strategy)
    done = [row for row in strategy.orders if row[2] == "Completed"]
    assert len(done) == 2
    assert len(strategy.trades) == len(strategy.broker.book.trades) == 1
    assert names(journal) == ["position gone"]


@pytest.mark.parametrize("side", [1, -1])
def test_a_fill_that_was_taken_for_a_trade_by_hand_and_is_notified_later_is_booked_once(side):
    """Without a list of orders nothing says that it was the take-profit."""

    def late(v):
        v.lost.discard(v.kept.ref)
        order = v.kept
        order.execute(v.data.datetime[0], order.executed.remsize, 105.0 if side > 0 else 95.0,
                      order.executed.remsize, 0, 0, 0, 0, 0, 0, 0, 0, 0)  # fmt: skip
        v._notify(order)

    def lose(v):
        v.kept = limit_of(v)
        v.fill_unheard(v.kept)

    venue, strategy, _ = run({28: lose, 40: late}, take_profit(side), kind=Silent, lists=False)
    check_guarded(venue, strategy)
    assert venue.sizes == [10 * side, 0]
    assert len(strategy.broker.book.trades) == 1


def test_an_entry_whose_fill_is_lost_gets_a_stop():
    actions = entry(1, 5) | {24: lambda s: s.buy(size=10)}

    class Lossy(Silent):
        def _try(self, order):
            if order.size == 10 and order.isbuy():
                self.fill_unheard(order)
            else:
                super()._try(order)

    venue, strategy, journal = run({}, actions, kind=Lossy)
    assert venue.sizes == [5, 15]
    check_guarded(venue, strategy)
    assert names(journal) == ["position larger"]
    done = [row for row in strategy.orders if row[2] == "Completed"]
    assert [row[4] for row in done] == [5, 10]


def test_a_store_that_never_reports_a_partial_fill_leaves_nothing_without_a_stop():
    """A part of the entry fills; what is left of it is cancelled while the books differ."""

    class Coarse(HandTraded):
        def _try(self, order):
            if order.size != 10 or not order.isbuy() or order.exectype == STOP:
                return super()._try(order)
            if order.executed.size == 0 and not self.half:
                self.half = True
                self._positions[order.data].update(4, 100.0)
                self.cash -= 400.0
                self.sizes.append(self._positions[order.data].size)
            return None

        half = False

    actions = {12: lambda s: s.buy(size=5), 16: lambda s: s.close(), 24: lambda s: s.buy(size=10)}
    venue, strategy, journal = run({}, actions | {17: lambda s: s.buy(size=2)}, kind=Coarse)
    assert venue._positions[venue.data].size == 6
    check_guarded(venue, strategy)
    notes = [row for row in strategy.orders if row[3] == 10]
    assert [row[2] for row in notes][-2:] == ["Partial", "Canceled"]
    assert notes[-1][4] == 4


# -- orders --------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [1, -1])
def test_a_stop_that_the_venue_loses_is_placed_again(side):
    venue, strategy, journal = run({25: lambda v: v.lose(*v.stops())}, entry(side))
    check_guarded(venue, strategy)
    assert names(journal) == ["stop missing"]
    assert venue.sizes == [10 * side]


@pytest.mark.parametrize("declared", [True, False])
def test_a_stop_that_is_only_not_listed_for_a_while_is_never_doubled(declared):
    def hide(v):
        v.hidden = {o.ref for o in v.stops()}

    can = {"order_lists": True} if declared else None
    venue, strategy, journal = run({25: hide}, entry(1), can=can)
    check_guarded(venue, strategy)
    assert min(venue.resting) == -10


@pytest.mark.parametrize("error", [OSError("down"), RuntimeError("429 Too Many Requests")])
def test_a_list_that_fails_never_places_a_stop_again(error):
    def fail(v):
        v.list_error = error
        v.lose(*v.stops())

    venue, strategy, journal = run({25: fail}, entry(1))
    assert venue.stops() == []
    assert venue.cancels == []
    assert names(journal) == []


def test_a_position_that_is_answered_while_the_list_fails_is_not_believed():
    """The connection is down: both answers are worth nothing, however often they come."""

    def fail(v):
        v.list_error = OSError("down")
        v.says = lambda p: bt.position.Position(0)

    def mend(v):
        v.list_error = v.says = None

    venue, strategy, journal = run({25: fail, 40: mend}, entry(1))
    check_guarded(venue, strategy)
    assert names(journal) == []
    assert venue.cancels == []


def test_a_list_that_never_had_the_stop_proves_nothing():
    class Poor(HandTraded):
        def get_orders_open(self):
            return [o for o in super().get_orders_open() if o.exectype != STOP]

    venue, strategy, journal = run({}, entry(1), kind=Poor)
    assert venue.cancels == []
    check_guarded(venue, strategy)
    assert names(journal) == []


def test_a_declared_list_is_believed_from_the_first_time():
    venue, strategy, journal = run(
        {21: lambda v: v.lose(*v.stops())}, entry(1), can={"order_lists": True}
    )
    check_guarded(venue, strategy)


def test_an_order_of_the_strategy_that_the_venue_loses_ends_canceled():
    def lose(v):
        v.lose(limit_of(v))

    venue, strategy, journal = run({28: lose}, take_profit(1))
    check_guarded(venue, strategy)
    assert names(journal) == ["order missing"]
    last = strategy.orders[-1]
    assert last[2] == "Canceled"
    assert "does not list it any more" in last[6]


@pytest.mark.parametrize("side", [1, -1])
def test_a_stop_that_fills_after_it_was_given_up_leaves_nothing_open(side):
    def lose(v):
        v.kept = v.stops()
        v.lose(*v.kept)

    def fill(v):
        for order in v.kept:
            v._working.append(order)
            v._fill_at(order, order.created.price)

    venue, strategy, journal = run({22: lose, 40: fill}, entry(side), flat(60))
    check_guarded(venue, strategy)
    assert not any(size * side < 0 for size in venue.sizes)


@pytest.mark.parametrize("side", [1, -1])
def test_a_stop_that_was_told_as_rejected_and_works_is_withdrawn(side):
    """A warning ("will not be placed until the open") is notified as an end: three stops rest."""

    class Warns(HandTraded):
        warned = 0

        def _answer(self, order):
            if order.exectype == STOP and self.warned < 1:
                self.warned += 1
                order.accept(self)
                news = order.clone()
                news.reject(self)
                self._news.append(news)
                return
            super()._answer(order)

    rows = flat(40) + [(100, 101, 99, 100)] * 3 + [(90, 110, 80, 100)] * 6
    venue, strategy, journal = run({}, entry(side), rows, kind=Warns)
    assert "two stops" in names(journal)
    check_guarded(venue, strategy)
    assert venue.sizes == [10 * side, 0]


@pytest.mark.parametrize("foreign", ["count", "reduce"])
@pytest.mark.parametrize(("size", "price"), [(5, 90.0), (-5, 110.0)])
def test_an_order_of_somebody_else_is_counted_and_never_cancelled(size, price, foreign):
    seen = {}

    def halt(s):
        seen["state"] = s.broker.state
        seen["orders"] = [w.remaining for w in s.broker.book.working.values() if w.foreign]
        s.broker.halt("test", flatten=True)

    plan = {25: lambda v: v.foreign(size, price, LIMIT)}
    venue, strategy, journal = run(plan, entry(1) | {35: halt}, foreign=foreign)
    assert seen == {"state": "REDUCING" if foreign == "reduce" else "ACTIVE", "orders": [5]}
    assert [o.info["venue_id"] for o in venue._working] == ["F1"]
    assert venue.sizes == [10, 0]
    assert names(journal)[0] == "foreign order"


def test_an_order_of_somebody_else_that_fills_is_a_trade_by_hand():
    plan = {25: lambda v: v.foreign(-4, 101.5, LIMIT)}
    rows = flat(35) + [(100, 102, 99, 100)] + flat(20)
    venue, strategy, journal = run(plan, entry(1), rows)
    assert venue.sizes == [10, 6]
    check_guarded(venue, strategy)


def test_a_request_without_an_answer_is_found_in_the_list_and_is_nobody_else_s():
    """The entry has arrived; nothing notifies that, and no question by client id is possible."""

    class Unanswered(HandTraded):
        def buy(self, *args, **kwargs):
            order = super().buy(*args, **kwargs)
            if kwargs["exectype"] == LIMIT:
                self.lost.add(order.ref)
                self._news = type(self._news)(o for o in self._news if o.ref != order.ref)
                raise TimeoutError("no answer")
            return order

    resting = {20: lambda s: s.buy(size=10, exectype=LIMIT, price=90.0)}
    venue, strategy, journal = run({}, resting, kind=Unanswered)
    assert names(journal) == []
    assert len(venue._working) == 1
    (working,) = strategy.broker.book.working.values()
    assert not working.foreign
    assert any("the broker has received it" in reason for reason in journal.reason)


# -- the broker's own errors ---------------------------------------------------------------------


def test_an_error_in_the_broker_s_own_methods_is_a_difference_and_no_traceback():
    """The execution arrives before its status: Backtrader raises, and the fill is lost."""

    class Early(Silent):
        def next(self):
            if len(self.data) == 30 and not self.raised:
                self.raised = True
                self.fill_unheard(self.stops()[0])
                raise KeyError(7)
            super().next()

        raised = False

    venue, strategy, journal = run({}, entry(1), kind=Early)
    check_guarded(venue, strategy)
    assert names(journal) == ["broker error", "position gone"]
    assert "KeyError: 7" in reason_of(journal, "broker error")


def test_an_error_in_get_notification_does_not_end_the_run():
    class Broken(HandTraded):
        failed = 0

        def get_notification(self):
            if 30 <= len(self.data) < 33:
                self.failed += 1
                raise ValueError("half a message")
            return super().get_notification()

    venue, strategy, journal = run({}, entry(1), kind=Broken)
    assert venue.failed
    check_guarded(venue, strategy)
    assert names(journal) == ["broker error"]


def test_without_any_limit_an_error_of_the_broker_is_the_user_s():
    def fail(v):
        v.raising = KeyError(7)

    with pytest.raises(KeyError):
        run({25: fail}, entry(1), stop=False)


# -- settings ------------------------------------------------------------------------------------


def test_it_can_be_switched_off():
    venue, strategy, journal = run({25: lambda v: v.close_by_hand()}, entry(1), reconcile_every=0)
    assert names(journal) == []
    assert strategy.broker.book.instruments[0].size == 10


def test_nothing_new_is_opened_while_a_difference_is_open():
    states = {}

    def note(s):
        states[len(s)] = s.broker.state

    actions = entry(1) | dict.fromkeys(range(21, 50), note)
    run({25: lambda v: v.close_by_hand(0.5)}, actions)
    assert "REDUCING" in states.values()
    assert states[49] == "ACTIVE"


def test_a_bypass_that_halts_does_so_for_a_trade_by_hand():
    venue, strategy, journal = run({25: lambda v: v.by_hand(5)}, entry(1), on_bypass="halt")
    assert strategy.broker.state == "HALTED"
    assert strategy.broker.bypass.count == 1


def test_differences_and_times_are_in_the_state_file(tmp_path):
    seen = []

    def note(s):
        records = s.broker.recovery.file.saved.records if not seen else {}
        rows = dict(s.broker.recovery.recorder._snapshot())
        stop = next(row for (kind, _), row in rows.items() if kind == "order")
        seen.append((len(s), rows.get(("run", "differences")), stop["seen_at"]))
        assert ("run", "differences") not in records

    actions = entry(1) | dict.fromkeys(range(22, 35), note)
    run({25: lambda v: v.close_by_hand(0.5)}, actions, state=tmp_path / "risk.db")
    texts = [row["open"][0] for _, row, _ in seen if row]
    assert texts
    assert texts[0].startswith("reconciliation: the broker holds 5 D0 where")
    assert seen[-1][1] is None
    assert seen[-1][2] > 100


def test_every_listed_stop_has_the_time_at_which_it_was_seen():
    seen = []

    def note(s):
        seen.append([w.seen_at for w in s.broker.book.working.values() if w.own])

    venue, strategy, _ = run({}, entry(1) | {40: note})
    assert seen[0][0] > 100


def test_a_broker_of_backtrader_s_kind_without_lists_is_left_alone():
    """`FakeBroker` answers positions, and has no list of orders at all."""
    assert not hasattr(FakeBroker, "get_orders_open")
    venue, strategy, journal = run({}, entry(1), lists=False)
    check_guarded(venue, strategy)
    assert names(journal) == []


def test_a_strategy_whose_broker_does_not_say_what_it_holds_sees_the_book():
    """An error there would end the run; without limits it is the user's, as in plain Backtrader."""
    seen = []

    def fail(position):
        raise ConnectionError("no answer")

    def act(strategy):
        strategy.broker.inner.says = fail
        seen.append((strategy.position.size, strategy.position.price))

    def mend(strategy):
        strategy.broker.inner.says = None

    actions = entry(1) | {25: act, 26: mend}
    venue, strategy, journal = run({}, actions)
    assert seen == [(10, 100.0)]
    check_guarded(venue, strategy)
    assert "getposition() has raised ConnectionError" in reason_of(journal, "broker error")
    with pytest.raises(ConnectionError):
        run({}, {20: act}, stop=False)
