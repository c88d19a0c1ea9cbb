"""Nothing waits for ever on an order that the broker does not answer for."""

import backtrader as bt
import pytest
from helpers.hand_traded import HandTraded, run
from helpers.scenarios import bars, flat

import bt_risk

LIMIT = bt.Order.Limit
FALL = [(100 - 2 * k, 101 - 2 * k, 97 - 2 * k, 98 - 2 * k) for k in range(30)]


def entry(side, size=10):
    return {20: lambda s: s.buy(size=size) if side > 0 else s.sell(size=size)}


def falling(side, calm=26):
    """Return bars that stand still, and then move against a position on `side`."""
    rows = FALL if side > 0 else [(200 - o, 200 - low, 200 - h, 200 - c) for o, h, low, c in FALL]
    return flat(calm) + rows


def lines(journal, action):
    return journal[journal.action == action].reason.tolist()


class Deaf(HandTraded):
    """Answer no cancel at all."""

    def cancel(self, order):
        self.cancels.append(order.ref)


class Lossy(HandTraded):
    """Lose the market orders that sell (with `side` 1) or buy, the first `losses` of them."""

    params = (("side", 1), ("losses", 1))

    def _make(self, kind, owner, data, size, price, exectype, valid, tradeid):
        order = super()._make(kind, owner, data, size, price, exectype, valid, tradeid)
        sells = order.isbuy() == (self.p.side < 0)
        if exectype in (None, bt.Order.Market) and sells and self.p.losses:
            self.p.losses -= 1
            self.lose(next(o for o in self._working if o.ref == order.ref))
            self._news.clear()
        return order


# -- a flatten -----------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [0.0, 5.0])
@pytest.mark.parametrize("lists", [True, False])
@pytest.mark.parametrize("side", [1, -1])
def test_a_breaker_closes_what_is_held_although_the_venue_has_lost_the_stop(side, lists, every):
    """The cancel of that stop is never answered, and the price goes on against the position."""
    plan = {24: lambda v: v.lose(*v.stops())}
    options = {"lists": lists, "reconcile_every": every}
    options["breaker"] = {"drawdown_limit": 0.05, "action": "pause"}
    venue, _, journal = run(plan, entry(side, 500), falling(side), **options)
    assert venue.sizes == [side * 500, 0]
    assert venue.getvalue() > 80_000
    stopped = lists and every  # then the stop was placed again, and has filled before the breaker
    assert bool(lines(journal, "flat")) != bool(stopped)


@pytest.mark.parametrize("side", [1, -1])
def test_an_operator_s_flatten_waits_for_three_requests_and_no_longer(side):
    actions = entry(side) | {26: lambda s: s.broker.halt("enough", flatten=True)}
    options = {"kind": Deaf, "lists": False, "reconcile_every": 0.0}
    venue, _, journal = run({}, actions, flat(60), **options)
    assert venue.sizes == [side * 10, 0]
    (line,) = lines(journal, "unanswered")
    assert line.startswith("cancel: the broker has not answered 3 requests to cancel the stop")
    assert "cancel it by hand" in line
    assert lines(journal, "flat") == ["flat: enough"]


@pytest.mark.parametrize("side", [1, -1])
def test_the_stop_that_was_given_up_fills_after_all_and_what_it_opens_is_closed(side):
    actions = entry(side) | {26: lambda s: s.broker.halt("enough", flatten=True)}
    rows = flat(50) + [(100, 110, 90, 100)] + flat(20)
    options = {"kind": Deaf, "lists": False, "reconcile_every": 0.0}
    venue, strategy, _ = run({}, actions, rows, **options)
    assert venue.sizes == [side * 10, 0, -side * 10, 0]
    assert strategy.broker.book.instruments[0].size == 0


@pytest.mark.parametrize("side", [1, -1])
def test_a_stop_that_has_filled_without_a_word_is_not_sold_a_second_time(side):
    """The broker's position says so, while the stop is still working in the book."""

    def fill(venue):
        venue.fill_unheard(venue.stops()[0], 96.0)

    actions = entry(side) | {26: lambda s: s.broker.halt("enough", flatten=True)}
    options = {"kind": Deaf, "lists": False, "reconcile_every": 0.0}
    venue, _, _ = run({25: fill}, actions, flat(60), **options)
    assert venue.sizes == [side * 10, 0]


@pytest.mark.parametrize("side", [1, -1])
def test_a_market_exit_that_the_broker_has_never_had_is_sent_again(side):
    actions = entry(side) | {26: lambda s: s.broker.halt("enough", flatten=True)}
    venue, _, journal = run({}, actions, flat(80), kind=Lossy, lists=False, side=side)
    assert venue.sizes == [side * 10, 0]
    assert lines(journal, "flat") == ["flat: enough"]


@pytest.mark.parametrize("lists", [True, False])
def test_a_flatten_that_does_not_progress_is_reported_each_minute(lists):
    """The market is closed: the broker has acknowledged the exit, which does not fill."""

    def shut(venue):
        venue._try = lambda order: None

    actions = entry(1) | {26: lambda s: s.broker.halt("enough", flatten=True)}
    options = {"stop": False, "reconcile_every": 0.0, "seconds": 2.0, "lists": lists}
    venue, _, journal = run({26: shut}, actions, flat(60), **options)
    found = lines(journal, "unfinished")
    assert found[0] == "flatten: it has not progressed for 16 s: +10 D0 is still held"
    assert found[1] == "flatten: it has not progressed for 76 s: +10 D0 is still held"
    sent = [order for order in venue._working if order.exectype in (None, bt.Order.Market)]
    assert len(sent) == 1, "an exit that the broker has acknowledged is left to fill"


# -- a strategy's exit ---------------------------------------------------------------------------


@pytest.mark.parametrize("side", [1, -1])
def test_a_close_is_not_held_back_by_a_stop_whose_cancel_is_never_answered(side):
    actions = entry(side) | {26: lambda s: s.close()}
    options = {"kind": Deaf, "lists": False, "reconcile_every": 0.0}
    venue, strategy, journal = run({}, actions, flat(60), **options)
    assert venue.sizes == [side * 10, 0]
    assert len(lines(journal, "unanswered")) == 1
    assert strategy.broker.state == "ACTIVE"


@pytest.mark.parametrize("side", [1, -1])
def test_a_close_is_not_held_back_by_a_take_profit_whose_cancel_is_never_answered(side):
    far = 120 if side > 0 else 80

    def act(strategy):
        send = strategy.sell if side > 0 else strategy.buy
        send(size=10, price=far, exectype=LIMIT)

    actions = entry(side) | {22: act, 26: lambda s: s.close()}
    options = {"kind": Deaf, "lists": False, "reconcile_every": 0.0, "stop": False}
    venue, _, _ = run({}, actions, flat(60), limits=[bt_risk.NotionalLimit(2.0)], **options)
    assert venue.sizes == [side * 10, 0]


@pytest.mark.parametrize("side", [1, -1])
def test_a_stop_that_moves_is_never_two_where_its_cancel_is_not_answered(side):
    """It stays where it was; the position is guarded by it."""
    rows = flat(26) + [
        (100 + side * k, 101 + side * k, 99 + side * k, 100 + side * k) for k in range(20)
    ]
    options = {"kind": Deaf, "lists": False, "reconcile_every": 0.0}
    venue, _, journal = run({}, entry(side), rows, **options)
    assert [order.executed.remsize for order in venue.stops()] == [-side * 10]
    assert len(lines(journal, "unanswered")) == 1


def test_two_data_feeds_of_which_one_does_not_answer():
    def close(strategy):
        strategy.broker.halt("enough", flatten=True)

    actions = {20: lambda s: (s.buy(s.datas[0], size=10), s.sell(s.datas[1], size=10)), 26: close}

    class OneDeaf(HandTraded):
        def cancel(self, order):
            if order.data is self.cerebro.datas[0]:
                super().cancel(order)

    frames = [bars(*flat(60)), bars(*flat(60))]
    options = {"kind": OneDeaf, "lists": False, "reconcile_every": 0.0, "frames": frames}
    venue, _, _ = run({}, actions, **options)
    assert [venue._positions[data].size for data in venue.cerebro.datas] == [0, 0]


@pytest.mark.parametrize("every", [0.0, 5.0])
def test_a_flatten_is_not_finished_while_the_broker_holds_something(every):
    """The exit is reported as filled, and has not filled at the venue; or somebody buys again."""
    actions = entry(1) | {26: lambda s: s.broker.halt("enough", flatten=True)}

    def buy_again(venue):
        venue.by_hand(5)

    venue, _, journal = run({27: buy_again}, actions, flat(60), reconcile_every=every, stop=False)
    assert bool(lines(journal, "flat")) == bool(every)
    assert venue._positions[venue.data].size == (0 if every else 5)
