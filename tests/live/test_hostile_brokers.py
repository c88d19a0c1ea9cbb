"""Any broker: whatever a store does, one stop a position, no order twice, no blind sale."""

import http.server
import json
import math
import signal
import threading
import time

import backtrader as bt
import pytest
from helpers import hostile_brokers as hostile
from helpers.fake_broker import FakeBroker
from helpers.frames import PandasData
from helpers.hostile_brokers import Clock, reasons, run
from helpers.scenarios import Script, bars, flat

import bt_risk
from bt_risk.limits.base import NotionalLimit, RiskPerTrade
from bt_risk.live.alerts import Alerts

BUY = {20: lambda s: s.buy(size=100)}
CALM = flat(40)
# The stop of an entry at 100 rests at 96: bar 31 reaches it.
DROP = [*flat(30), (100, 101, 90, 92), *flat(8, price=92.0)]
CRASH = [*flat(25), (80, 81, 79, 80), *flat(8, price=80.0)]


def one_stop_at_most(venue):
    """No tick ended with more resting in stops than was held."""
    assert min(venue.resting, default=0) >= -max(venue.sizes, default=0)
    assert max(venue.resting, default=0) == 0


# -- equity --------------------------------------------------------------------------------------


def glitch(value, at=(28,)):
    return lambda venue, bar, true: value if bar in at else true


def raises(venue, bar, true):
    if bar == 28:
        raise ConnectionError("no route")
    return true


@pytest.mark.parametrize(
    "says",
    [
        glitch(math.nan),
        glitch(math.inf),
        glitch(None),
        glitch(0.0),
        glitch(-1.0),
        glitch(70_000.0),
        glitch(1e9),
        raises,
        lambda venue, bar, true: venue.cash,
        lambda venue, bar, true: 100_000.0,
    ],
    ids=["nan", "inf", "none", "zero", "negative", "low", "high", "raises", "cash-only", "frozen"],
)
def test_no_bad_value_flattens_an_account_that_is_well(says):
    rows = [(100 + k % 3, 103 + k % 3, 99 + k % 3, 101 + k % 3) for k in range(40)]
    venue = hostile.Valued(says=says)
    actions = {20: lambda s: s.buy(size=800)}
    strategy, journal = run(venue, rows, actions, stop=False, breaker=dict(drawdown_limit=0.1))
    assert strategy.held[-1] == (800,)
    assert reasons(journal, "halt") == []


@pytest.mark.parametrize(
    "says",
    [
        None,
        lambda venue, bar, true: 100_000.0,
        lambda venue, bar, true: venue.cash,
        lambda venue, bar, true: math.nan,
    ],
    ids=["good", "frozen", "cash-only", "nan"],
)
def test_a_real_fall_trips_the_breaker_whatever_the_broker_says(says):
    venue = hostile.Valued(says=says)
    # Prices that move, so that a value that does not can be told from a market that stands still.
    rows = [(100 + k % 2, 102, 99, 100 + k % 2) for k in range(30)] + CRASH[25:]
    actions = {20: lambda s: s.buy(size=900)}
    strategy, journal = run(venue, rows, actions, stop=False, breaker=dict(drawdown_limit=0.1))
    assert venue.sizes == [900, 0]
    assert len(reasons(journal, "halt")) == 1


def test_a_slow_fall_counts_from_where_the_value_began_to_stand_still():
    """900 are held, and lose 900 in every bar from 26 on: 10.8 % of 100,000 at the twelfth.

    The value is that of the closes alone: the next bar has to agree.
    """
    fall = [(100 - k, 101 - k, 98 - k, 99 - k) for k in range(14)]
    venue = hostile.Valued(says=lambda venue, bar, true: 100_000.0)
    actions = {20: lambda s: s.buy(size=900)}
    rows = [*flat(25), *fall, *flat(4, price=86.0)]
    _, journal = run(venue, rows, actions, stop=False, breaker=dict(drawdown_limit=0.104))
    assert venue.sizes == [900, 0]
    (halt,) = journal[journal.action == "halt"].time
    assert halt == bars(*rows).index[25 + 13 - 1]


def test_a_fall_between_two_closes_is_believed_when_it_stands():
    """No bar says so yet: the third sample counts, seconds apart, and the breaker's second."""
    venue = hostile.Valued(says=lambda v, bar, true: true - 130 * 100 if bar >= 28 else true)
    actions = {20: lambda s: s.buy(size=900)}
    run(
        venue,
        CALM,
        actions,
        stop=False,
        breaker=dict(drawdown_limit=0.1),
        feed=dict(idle=30),
        clock=Clock(step=1.0),
    )
    assert venue.sizes == [900, 0]


@pytest.mark.parametrize("price", [0.0, -0.0, math.nan])
@pytest.mark.parametrize("side", [1, -1])
def test_a_fill_without_a_price_is_booked_at_the_price_of_its_order(price, side):
    """Booked at 0, an entry has no stop that could rest, and a loss of the whole position."""
    venue = hostile.Priceless(price=price)
    rows = [*flat(25), *([(100, 100, 90, 91)] if side > 0 else [(100, 110, 100, 109)]), *flat(5)]
    enter = {20: lambda s: (s.buy if side > 0 else s.sell)(size=100)}
    strategy, journal = run(venue, rows, enter, breaker=dict(drawdown_limit=0.1))
    assert venue.sizes == [100 * side, 0]
    (trade,) = strategy.broker.book.trades
    assert trade.pnl == -400.0  # from 100 to the stop, 4 away
    assert trade.r_multiple == -1.0
    assert reasons(journal, "halt") == []
    assert [reason.split(";")[1] for reason in reasons(journal, "doubt")] == [
        " 100 is booked",
        f" {100 - 4 * side:g} is booked",
    ]


def test_a_jump_beyond_what_prices_can_do_is_never_believed():
    """Held are 10,000: prices explain 5,000 of them and 1,000 of the account, not 30,000."""
    venue = hostile.Valued(says=lambda v, bar, true: true - 30_000.0 if bar >= 28 else true)
    strategy, journal = run(
        venue,
        CALM,
        BUY,
        stop=False,
        breaker=dict(drawdown_limit=0.1),
        feed=dict(idle=30),
        clock=Clock(step=1.0),
    )
    assert strategy.held[-1] == (100,)
    assert reasons(journal, "halt") == []
    (told,) = reasons(journal, "equity")
    assert "the broker's value 70000 is not equity; cash and positions, 100000, are used" in told


class Futures(FakeBroker):
    """Hold contracts of 10 a point, which cost nothing; report a value that never moves."""

    def start(self):
        super().start()
        self.setcommission(commission=0.0, margin=1000.0, mult=10.0)

    def getvalue(self, datas=None):
        return self.p.cash

    def _try(self, order):
        held, fills, cash = self._positions[order.data].clone(), len(self.sizes), self.cash
        super()._try(order)
        if len(self.sizes) > fills:
            closed = order.executed.size if held.size else 0
            self.cash = cash - closed * (order.executed.price - held.price) * 10.0


def test_a_future_adds_its_profit_or_loss_to_cash_and_not_its_value():
    """90 contracts lose 20 points of 10: 18,000 of 100,000. Their value is no part of equity."""
    rows = [(100 + k % 2, 102, 99, 100 + k % 2) for k in range(30)] + CRASH[25:]
    venue = Futures()
    actions = {20: lambda s: s.buy(size=90)}
    strategy, journal = run(venue, rows, actions, stop=False, breaker=dict(drawdown_limit=0.1))
    assert venue.sizes == [90, 0]
    assert "cash and positions" in reasons(journal, "equity")[0]
    (trip,) = strategy.analyzers.drawdownbreaker.get_analysis()["trips"]
    assert 0.17 < trip["drawdown_at_trip"] < 0.19


def test_a_sale_that_fills_while_it_is_sent_is_no_reason_to_doubt_the_value():
    """Our stop has to go first, so it is sent between bars; the breaker asks in the same breath."""

    class Slipping(hostile.Immediate):
        def _price(self, order):
            price = super()._price(order)
            return price if price is None else price - 0.1

    venue = Slipping()
    actions = {20: lambda s: s.buy(size=900), 25: lambda s: s.close()}
    _, journal = run(venue, CALM, actions, breaker=dict(drawdown_limit=0.1))
    assert venue.sizes == [900, 0]
    assert reasons(journal, "equity") == []


def test_entries_are_refused_while_nobody_knows_what_the_account_is_worth():
    class Blind(hostile.Valued):
        def getcash(self):
            return math.nan

    venue = Blind(says=lambda v, bar, true: math.nan)
    strategy, _ = run(venue, CALM, BUY, limits=[NotionalLimit(0.5)])
    assert strategy.orders[-1][2] == "Rejected"
    assert "equity nan" in strategy.orders[-1][-1]
    assert venue.sizes == []


def test_the_user_s_own_equity_goes_before_the_broker_s():
    venue = hostile.Valued(says=lambda v, bar, true: 1_000_000.0)
    strategy, _ = run(
        venue, CALM, BUY, limits=[NotionalLimit(0.05)], equity=lambda: 100_000.0, stop=False
    )
    assert strategy.held[-1] == (50,)


def test_an_equity_that_fails_is_unknown_and_no_reason_to_sell():
    def broken():
        raise OSError("no file")

    venue = FakeBroker()
    strategy, journal = run(
        venue, CALM, BUY, stop=False, breaker=dict(drawdown_limit=0.1), equity=broken
    )
    assert strategy.held[-1] == (100,)
    assert reasons(journal, "halt") == []


def test_behind_backbroker_the_value_is_asked_directly():
    engine = bt.Cerebro(stdstats=False)
    engine.adddata(PandasData(dataname=bars(*flat(5))))
    engine.setbroker(bt_risk.RiskBroker(engine.broker))
    engine.addstrategy(bt.Strategy)
    engine.run()
    assert engine.broker.equity == engine.broker.inner.getvalue
    assert engine.broker.unit_value == engine.broker.inner.get_fundvalue


def test_one_sample_is_never_enough():
    breaker = bt_risk.DrawdownBreaker
    assert breaker.params.confirmations == 1
    venue = FakeBroker()
    strategy, journal = run(
        venue, CRASH, {20: lambda s: s.buy(size=900)}, stop=False, breaker={}, feed=dict(idle=0)
    )
    halted = journal[journal.action == "halt"].time.iloc[0]
    assert halted == bars(*CRASH).index[26]  # the bar after the crash, with no tick in between


# -- requests that fail --------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["request", "answer"])
@pytest.mark.parametrize("deaf", [0, 2])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_request_without_an_answer_is_looked_for_and_never_sent_twice(number, lost, deaf):
    """1 is the entry, 2 its stop, 3 the stop that has moved."""
    rows = [*flat(25), (100, 106, 100, 106), *flat(12, price=106.0)]
    venue = hostile.WithIds(lose={number: lost}, deaf=deaf)
    strategy, journal = run(venue, rows, BUY, retry_after=0.0)
    one_stop_at_most(venue)
    (doubt,) = reasons(journal, "doubt")
    assert "TimeoutError" in doubt
    if number == 1 and lost == "request":
        assert [row[2] for row in strategy.orders][-1] == "Rejected"
        assert venue.sizes == []
        assert not venue._working
    else:
        assert venue.sizes == [100]
        (stop,) = venue._working
        assert stop.executed.remsize == -100
        assert stop.created.price > 100
    refs = {row[1] for row in strategy.orders}
    assert refs == {strategy.made[0].ref}  # the order in hand is the one that is spoken of


def test_an_entry_in_doubt_holds_its_place_in_the_limits():
    venue = hostile.WithIds(lose={1: "answer"}, deaf=10**6)
    actions = {20: lambda s: s.buy(size=500), 21: lambda s: s.buy(size=500)}
    strategy, _ = run(venue, CALM, actions, limits=[NotionalLimit(0.5)], clock=Clock(), stop=False)
    assert venue.requests == 1
    assert venue.sizes == [500]


def test_a_broker_that_cannot_be_asked_is_believed_when_it_notifies():
    """It does some ticks later; the order is looked for in each of them."""

    class Lost(hostile.Shuffled):
        def buy(self, owner, data, size, **kwargs):
            super().buy(owner, data, size, **kwargs)
            raise TimeoutError("no answer")

    venue = Lost(late=4)
    strategy, _ = run(venue, CALM, BUY, retry_after=0.0)
    assert venue.sizes == [100]
    assert [row[2] for row in strategy.orders][-1] == "Completed"
    assert {row[1] for row in strategy.orders} == {strategy.made[0].ref}
    (stop,) = venue._working
    assert stop.executed.remsize == -100


def test_an_order_that_nobody_has_heard_of_is_given_up_in_time():
    class Gone(FakeBroker):
        def buy(self, owner, data, size, **kwargs):
            raise TimeoutError("no answer")

    strategy, _ = run(Gone(), CALM, BUY, retry_after=0.0)
    assert strategy.orders[-1][2] == "Rejected"
    assert "the broker has never confirmed it" in strategy.orders[-1][-1]


def test_an_error_that_is_an_answer_becomes_a_native_rejected():
    class Poor(FakeBroker):
        def buy(self, owner, data, size, **kwargs):
            raise ValueError("insufficient balance")

    strategy, _ = run(Poor(), CALM, BUY)
    assert [row[2] for row in strategy.orders] == ["Rejected"]
    assert "insufficient balance" in strategy.orders[-1][-1]
    assert strategy.made[0].status == bt.Order.Rejected


def test_without_a_component_an_error_of_the_broker_is_the_user_s():
    class Poor(FakeBroker):
        def buy(self, owner, data, size, **kwargs):
            raise ValueError("insufficient balance")

    watched = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in watched]
    with pytest.raises(ValueError, match="insufficient"):
        run(Poor(), CALM, BUY, stop=False)
    for number, handler in zip(watched, before, strict=True):
        signal.signal(number, handler)  # a run that ends by an error gives them back at a signal


@pytest.mark.parametrize("silent", [False, True])
def test_an_order_that_comes_back_completed_is_guarded_and_forgotten(silent):
    venue = hostile.Immediate(silent=silent)
    strategy, _ = run(venue, DROP, BUY)
    assert venue.sizes == [100, 0]
    assert not strategy.broker.book.working
    one_stop_at_most(venue)


@pytest.mark.parametrize("late", [1, 2, 5])
def test_news_that_is_late_backwards_and_twice_is_booked_once(late):
    venue = hostile.Shuffled(late=late)
    strategy, _ = run(venue, CALM, BUY)
    assert strategy.broker.book.instruments[0].size == 100
    assert venue.sizes == [100]
    (stop,) = venue._working
    assert stop.executed.remsize == -100
    one_stop_at_most(venue)


def test_a_fill_that_stands_twice_in_one_list_is_booked_once():
    venue = hostile.Stuttering()
    strategy, _ = run(venue, CALM, BUY)
    assert strategy.broker.book.instruments[0].size == 100
    assert venue.resting[-1] == -100


@pytest.mark.parametrize("bits", [True, False])
def test_a_partly_filled_entry_has_a_stop_of_the_size_that_is_held(bits):
    """It fills for 50 on bar 21 and for the rest on bar 22."""
    venue = hostile.Stingy(bits=bits)
    strategy, _ = run(venue, CALM, BUY)
    assert venue.sizes == [50, 100]
    assert -50 in venue.resting
    assert venue.resting[-1] == -100
    assert strategy.broker.book.instruments[0].size == 100


@pytest.mark.parametrize("bits", [True, False])
def test_a_fill_that_comes_with_its_cancel_is_booked_and_guarded(bits):
    venue = hostile.Stingy(parts=4, cancels=True, bits=bits)
    strategy, _ = run(venue, CALM, BUY)
    assert venue.sizes == [25]
    assert venue.resting[-1] == -25
    assert strategy.broker.book.instruments[0].size == 25


# -- a Canceled that is not true -----------------------------------------------------------------


@pytest.mark.parametrize("late", [0, 1, 2, 4, 8, 12])
def test_a_stop_that_fills_after_its_cancel_takes_the_next_one_away(late):
    rows = [*flat(24), *[(100 + k, 102 + k, 99 + k, 101 + k) for k in range(5)], *flat(9, 105.0)]
    venue = hostile.Hasty(late=late)
    strategy, journal = run(venue, rows, BUY)
    assert venue.sizes == [100, 0]
    assert venue.resting[-1] == 0
    assert strategy.held[-1] == (0,)
    told = reasons(journal, "doubt")
    assert told == ["broker: it has filled after it was reported as ended"] * (late > 0)


@pytest.mark.parametrize("late", [0, 1, 2, 3, 4, 8, 12])
def test_what_a_late_fill_opens_after_a_halt_is_closed_and_the_halt_stays(late):
    """The exit and the stop that was said to be gone have both filled: nothing is held for long."""
    rows = [*flat(25), (100, 100.5, 96.5, 97), *flat(12, 97.0)]
    venue = hostile.Hasty(late=late)
    actions = {20: lambda s: s.buy(size=900), 35: lambda s: s.buy(size=10)}
    strategy, journal = run(venue, rows, actions, breaker=dict(drawdown_limit=0.02, action="pause"))
    assert venue.sizes == ([900, 0, -900, 0] if late else [900, 0])
    assert venue.resting[-1] == 0
    assert strategy.held[-1] == (0,)
    halt = strategy.analyzers.drawdownbreaker.get_analysis()
    assert (halt["state"], halt["flattened"], len(halt["trips"])) == ("LOCKED", True, 1)
    assert strategy.orders[-1][2] == "Rejected"
    again = [reason for reason in reasons(journal, "halt") if "came after" in reason]
    assert len(again) == (late > 2)  # earlier than that the breaker is still closing


# -- stops that a broker does not take -----------------------------------------------------------


def test_a_stop_that_is_refused_twice_is_placed_at_the_third_try():
    venue = FakeBroker(reject=("V2", "V3"))
    strategy, journal = run(venue, CALM, BUY)
    assert venue.resting[-1] == -100
    assert len(reasons(journal, "unprotected")) == 1
    assert strategy.held[-1] == (100,)


def drifting(side):
    """Return rows that go one way by a seventh each bar: never at whole ticks for long."""
    prices = [100 + side * k / 7 for k in range(40)]
    return [(price, price + 3, price - 3, price + side / 7) for price in prices]


@pytest.mark.parametrize("side", [1, -1])
def test_stops_rest_at_whole_ticks_and_risk_no_more_than_planned(side):
    rows = drifting(side)
    open_at_market = {20: lambda s: s.buy(size=100) if side > 0 else s.sell(size=100)}
    exact, ticked = hostile.Ticked(tick=None), hostile.Ticked()
    run(exact, rows, open_at_market)
    strategy, journal = run(ticked, rows, open_at_market, instruments={"D0": dict(tick=0.05)})
    assert reasons(journal, "unprotected") == []
    assert strategy.held[-1] == (side * 100,)
    assert len(ticked.asked) == len(exact.asked) > 10
    for price, wanted in zip(ticked.asked, exact.asked, strict=True):
        assert price == round(price, 2)
        assert 0.0 <= side * (price - wanted) < 0.05


def test_a_venue_that_takes_whole_ticks_only_leaves_a_position_without_a_stop_that_has_others():
    """What an instrument is without its tick: `docs/live.md` says that it needs one."""
    strategy, journal = run(hostile.Ticked(), drifting(1), BUY)
    assert len(reasons(journal, "unprotected")) == 2
    assert strategy.held[-1] == (0,)


@pytest.mark.parametrize("answer", ["exit", "halt"])
@pytest.mark.parametrize("kind", ["rejected", "none", "error"])
def test_a_position_without_a_stop_is_closed(answer, kind):
    class Unwilling(FakeBroker):
        def sell(self, owner, data, size, exectype=None, **kwargs):
            if exectype == bt.Order.Stop and kind == "none":
                return None
            if exectype == bt.Order.Stop and kind == "error":
                raise ValueError("unknown order type")
            return super().sell(owner, data, size, exectype=exectype, **kwargs)

    reject = ("V2", "V3", "V4") if kind == "rejected" else ()
    venue = Unwilling(reject=reject)
    actions = BUY | {35: lambda s: s.buy(size=10)}
    told = []
    strategy, journal = run(
        venue, CALM, actions, on_stop_rejected=answer, notify=told.append, stop_retries=2
    )
    assert venue.sizes[:2] == [100, 0]
    assert [text for text in told if "unprotected" in text]
    if answer == "halt":
        assert venue.sizes == [100, 0]
        assert strategy.orders[-1][2] == "Rejected"
    else:
        assert venue.sizes[2] == 10


def test_a_broker_without_stop_orders_has_them_emulated_on_bars_and_says_so():
    class Plain(FakeBroker):
        capabilities = {"stop": False}

    venue = Plain()
    told = []
    strategy, journal = run(venue, DROP, BUY, notify=told.append)
    assert venue.sizes == [100, 0]
    assert set(venue.resting) == {0}
    (line,) = reasons(journal, "emulated")
    assert "this process is the stop" in line
    assert any("emulated" in text for text in told)
    assert strategy.held[-1] == (0,)


def test_capabilities_that_are_declared_go_before_those_that_are_found():
    class Boasting(FakeBroker):
        capabilities = {"stop": True, "anything": 5}

    venue = Boasting()
    _, journal = run(venue, DROP, BUY, capabilities={"stop": False})
    assert set(venue.resting) == {0}
    assert reasons(journal, "emulated")


@pytest.mark.parametrize(
    ("declared", "words", "order"),
    [
        ({"stop": False}, "stop orders", dict(exectype=bt.Order.Stop, price=110.0)),
        ({}, "trailing stops", dict(exectype=bt.Order.StopTrail, trailamount=1.0)),
        ({}, "brackets", dict(transmit=False)),
    ],
)
def test_an_order_of_a_kind_that_the_broker_lacks_is_rejected_with_that_reason(
    declared, words, order
):
    """A store that says nothing is not trusted with what others have sold at the market."""
    venue = FakeBroker()
    actions = {20: lambda s: s.buy(size=10, **order)}
    strategy, _ = run(venue, CALM, actions, capabilities=declared)
    assert strategy.orders[-1][2] == "Rejected"
    assert f"capabilities: the broker has no {words}, unless" in strategy.orders[-1][-1]
    assert venue._orders == 0


def test_what_the_brokers_of_backtrader_can_do_is_known():
    """IBBroker needs a package that is not here: one that comes from its module stands for it."""

    class IBBroker(FakeBroker):
        pass

    native = IBBroker()
    IBBroker.__module__ = "backtrader.brokers.ibbroker"
    gates = [bt_risk.RiskBroker(broker) for broker in (native, FakeBroker())]
    assert [gate.order_sender.capabilities.can("oco") for gate in gates] == [True, False]


def test_an_order_that_a_broker_is_said_to_know_is_sent():
    actions = {20: lambda s: s.buy(size=10, exectype=bt.Order.StopTrail, trailamount=1.0)}
    venue = FakeBroker()
    run(venue, CALM, actions, capabilities={"trailing": True})
    assert venue._orders == 2  # and the stop behind it


def test_reduce_only_is_said_with_every_order_that_has_no_allowance():
    """The stop, and the exit; the second sale on bar 28 opens a short position."""
    seen = []

    class Reducing(FakeBroker):
        capabilities = {"reduce_only": True}

        def sell(self, *args, reduce_only=False, **kwargs):
            seen.append(reduce_only)
            return super().sell(*args, **kwargs)

    actions = BUY | {25: lambda s: s.close(), 28: lambda s: s.sell(size=10)}
    run(Reducing(), CALM, actions)
    assert seen == [True, True, False]


# -- replace -------------------------------------------------------------------------------------

RISE = [*flat(25), *[(100 + k, 102 + k, 99 + k, 101 + k) for k in range(15)]]


def test_a_broker_that_can_replace_is_never_left_without_a_stop():
    venue = hostile.Replacing()
    run(venue, RISE, BUY)
    assert venue.replaced > 5
    assert venue.cancels == 0
    held = venue.resting.index(-100)
    assert set(venue.resting[held:]) == {-100}


def test_a_replace_that_is_refused_becomes_cancel_and_replace():
    venue = hostile.Replacing(refuse=True)
    run(venue, RISE, BUY)
    assert venue.replaced == 0
    assert venue.cancels > 5
    one_stop_at_most(venue)


@pytest.mark.parametrize("silent", [False, True])
def test_a_cancel_that_gets_lost_is_asked_again(silent):
    venue = hostile.Deaf(fails=3, silent=silent)
    run(venue, RISE, BUY, clock=Clock(step=1.0), retry_after=3.0)
    (stop,) = venue._working
    assert stop.created.price > 105
    assert venue.cancels > 4
    one_stop_at_most(venue)


def test_an_entry_whose_cancel_got_lost_is_not_left_behind_by_a_halt():
    venue = hostile.Deaf(fails=2)
    actions = {
        20: lambda s: s.buy(size=10, price=50.0, exectype=bt.Order.Limit),
        25: lambda s: s.broker.halt("enough"),
    }
    run(venue, CALM, actions, clock=Clock(step=1.0), retry_after=3.0)
    assert not venue._working


def test_a_cancel_that_loses_against_the_fill_places_nothing():
    """Bar 31 moves the stop up and its low reaches the old one before the cancel is heard."""
    rows = [*flat(30), (100, 110, 100, 110), (110, 111, 90, 92), *flat(6, price=92.0)]
    venue = FakeBroker()
    strategy, _ = run(venue, rows, BUY, feed=dict(idle=0))
    assert venue.sizes == [100, 0]
    assert not venue._working
    assert strategy.held[-1] == (0,)


def test_a_take_profit_does_not_turn_into_a_short_once_the_stop_has_filled():
    rows = [*DROP, (92, 125, 92, 120), *flat(3, price=120.0)]
    venue = FakeBroker()
    actions = BUY | {22: lambda s: s.sell(size=100, price=115.0, exectype=bt.Order.Limit)}
    run(venue, rows, actions)
    assert venue.sizes == [100, 0]
    assert not venue._working


# -- stale data ----------------------------------------------------------------------------------

_Data = bt.feed.AbstractDataBase


@pytest.mark.parametrize("status", [_Data.DISCONNECTED, _Data.DELAYED, _Data.CONNBROKEN])
def test_a_data_that_says_it_is_not_live_gets_no_new_risk_and_keeps_its_stop(status):
    venue = FakeBroker()
    told = []
    actions = BUY | {
        26: lambda s: s.buy(size=10),
        27: lambda s: s.sell(size=40),
        30: lambda s: s.buy(size=20),
    }
    says = {25: status, 29: _Data.LIVE}
    strategy, journal = run(
        venue, CALM, actions, feed=dict(says=says), limits=[NotionalLimit(1.0)], notify=told.append
    )
    assert venue.sizes == [100, 60, 80]
    rejected = [row for row in strategy.orders if row[2] == "Rejected"]
    assert len(rejected) == 1
    assert _Data._NOTIFNAMES[status] in rejected[0][-1]
    assert len(reasons(journal, "stale")) == 1
    assert len([text for text in told if "stale" in text]) == 1
    assert venue.resting[-1] == -80


def test_a_data_without_a_bar_for_too_long_gets_no_new_risk():
    clock = Clock()

    def silence(strategy):
        clock.now += 100.0
        return strategy.buy(size=10)

    actions = BUY | {25: silence, 26: lambda s: s.buy(size=20)}
    strategy, _ = run(
        FakeBroker(), CALM, actions, limits=[NotionalLimit(1.0)], stale_after=60, clock=clock
    )
    (rejected,) = [row for row in strategy.orders if row[2] == "Rejected"]
    assert "no bar for 100 s, stale_after is 60 s" in rejected[-1]
    assert strategy.held[-1] == (120,)


def test_a_file_has_its_own_time():
    engine = bt.Cerebro(stdstats=False)
    engine.adddata(PandasData(dataname=bars(*CALM)), name="D0")
    clock = Clock(step=1000.0)
    gate = bt_risk.RiskBroker(
        engine.broker, limits=[NotionalLimit(1.0)], stale_after=1, clock=clock
    )
    engine.setbroker(gate)
    engine.addstrategy(Script, actions=BUY)
    assert engine.run()[0].held[-1] == (100,)


# -- telling people ------------------------------------------------------------------------------


def test_a_slow_and_a_failing_listener_hold_nobody_up():
    heard, release = [], threading.Event()

    def slow(text):
        release.wait(30)

    def failing(text):
        raise RuntimeError("no such channel")

    alerts = Alerts([failing, heard.append, slow])
    began = time.monotonic()
    for number in range(2000):
        alerts.notify(f"{number}")
    assert time.monotonic() - began < 1.0
    release.set()
    thread = alerts._thread
    alerts.close()
    thread.join(60)
    assert not thread.is_alive()
    assert heard[0] == "0"


def test_orders_of_ours_that_ended_long_ago_are_forgotten(monkeypatch):
    """The stop is replaced on every bar of a long rise."""
    monkeypatch.setattr("bt_risk.gate.exit_orders._REMEMBERED", 10)
    rise = [(100 + k, 102 + k, 99 + k, 101 + k) for k in range(60)]
    venue = FakeBroker()
    strategy, _ = run(venue, [*flat(20), *rise], BUY)
    own = strategy.broker.own
    assert venue._orders > 50
    assert len(own) <= 21
    assert [order for order in own.values() if order.alive()] == venue._working


def test_no_thread_is_left_behind_and_none_is_begun_without_news():
    before = threading.active_count()
    run(FakeBroker(), CALM, BUY, notify=print)
    assert threading.active_count() == before
    told = []
    run(FakeBroker(), CRASH, {20: lambda s: s.buy(size=900)}, breaker={}, notify=told.append)
    assert threading.active_count() == before
    assert sum("halt" in text for text in told) == 1


def test_a_webhook_posts_json():
    posted = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            length = int(self.headers["Content-Length"])
            posted.append((self.headers["Content-Type"], json.loads(self.rfile.read(length))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        bt_risk.webhook(f"http://127.0.0.1:{server.server_port}/hook", key="content")("halt")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert posted == [("application/json", {"content": "halt"})]


def test_protect_takes_the_settings_and_refuses_what_is_none():
    engine = bt.Cerebro()
    with pytest.raises(TypeError, match="protect has no parameter 'stale'"):
        bt_risk.protect(engine, stale=5)
    with pytest.raises(bt_risk.ParameterError, match="protect: stale_after must be"):
        bt_risk.protect(engine, stale_after=-5)
    engine.adddata(hostile.Ticking(dataname=bars(*CRASH)), name="D0")
    engine.addstrategy(Script, actions={20: lambda s: s.buy(size=900)})
    told = []
    bt_risk.protect(
        engine, bt_risk.Policy(risk_limit=None, exposure_limit=None), notify=told.append
    )
    engine.setbroker(FakeBroker())
    engine.run()
    assert any("halt" in text for text in told)


def test_a_risk_limit_judges_a_fall_of_the_account_at_the_venue_as_it_is():
    """Equity of 50,000 by the user's own measure halves what 1 % may lose."""
    venue = FakeBroker()
    strategy, _ = run(venue, CALM, {20: lambda s: s.buy(size=1000)}, limits=[RiskPerTrade(0.01)])
    whole = strategy.held[-1][0]
    strategy, _ = run(
        FakeBroker(),
        CALM,
        {20: lambda s: s.buy(size=1000)},
        limits=[RiskPerTrade(0.01)],
        equity=lambda: 50_000.0,
    )
    assert strategy.held[-1][0] == whole / 2
