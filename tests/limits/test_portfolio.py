"""Exposure, correlation and volatility of the whole portfolio: by hand, in the book and in runs."""

import math

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from helpers.books import ME, book_of, close, fill, work
from helpers.frames import PandasData
from helpers.scenarios import MODES, bars, cerebro, flat, image, random_walk, tape_of, taped
from hypothesis import example, given, settings
from hypothesis import strategies as st

import bt_risk
from bt_risk.errors import ParameterError
from bt_risk.limits.base import Request
from bt_risk.limits.correlation import CorrelationLimit
from bt_risk.limits.exposure import (
    ExposureLimit,
    GrossLimit,
    GroupLimit,
    NetLimit,
    PositionLimit,
)
from bt_risk.limits.volatility import VolatilityLimit, largest_size
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.preview import preview_order

NAN = math.nan


def ask(book, index, side, size, price=100.0, distance=4.0):
    return Request(book.instruments[index], side, size, price, distance, owner=ME)


def order(bar, method, **arguments):
    return bar, method, arguments


# -- exposure by hand: 100,000 of equity, price 100, stops 4 away ---------------------------------


def portfolio():
    """Long 100 of D0, short 50 of D1, a buy of 30 and a sell of 20 of D2 rest; D3 is flat."""
    book = book_of(4)
    fill(book, 100, index=0)
    fill(book, -50, index=1)
    work(book, 1, 1, 30, index=2)
    work(book, 2, -1, 20, index=2)
    return book


# In notional: long 10,000 + 3,000 that rest; short 5,000 + 2,000. In risk: 4 % of that.
EXPOSURES = [
    (ExposureLimit, 0.20, 1, 70),  # 13,000 used
    (ExposureLimit, 0.20, -1, 130),  # 7,000 used
    (GrossLimit, 0.20, 1, 20),  # 10,000 + 5,000 + the worse 3,000 of D2
    (GrossLimit, 0.20, -1, 20),
    (NetLimit, 0.20, 1, 120),  # 10,000 - 5,000 + 3,000 that rest on this side
    (NetLimit, 0.20, -1, 200),  # 5,000 - 10,000 + 2,000: -3,000, so 230 fit
    (PositionLimit, 0.15, 1, 150),
    (PositionLimit, 0.15, -1, 150),
]


@pytest.mark.parametrize("unit", ["notional", "risk"])
@pytest.mark.parametrize(("kind", "limit", "side", "allowed"), EXPOSURES)
def test_what_each_exposure_leaves_for_another_name(kind, limit, side, allowed, unit):
    share = 1.0 if unit == "notional" else 0.04
    judged = kind(limit * share, unit).review(ask(portfolio(), 3, side, 200), portfolio())
    assert judged.size == pytest.approx(min(allowed, 200))
    assert bool(judged.reason) == (allowed < 200)
    refused = kind(limit * share, unit, "reject").review(
        ask(portfolio(), 3, side, 200), portfolio()
    )
    assert refused.size == (0 if allowed < 200 else 200)


@pytest.mark.parametrize(
    ("kind", "index", "side", "allowed"),
    [
        (PositionLimit, 0, 1, 100),  # 10,000 of 20,000 are held
        (PositionLimit, 2, 1, 170),  # 3,000 rest
        (PositionLimit, 2, -1, 180),
        (GrossLimit, 0, 1, 20),
        (GrossLimit, 2, -1, 30),  # 15,000 elsewhere and 2,000 here: the 3,000 to buy are not added
        (NetLimit, 0, -1, 130),  # an order that opens on this side has closed the 100 first
    ],
)
def test_what_is_at_work_in_the_same_name(kind, index, side, allowed):
    book = portfolio()
    assert kind(0.20, "notional").review(ask(book, index, side, 500), book).size == pytest.approx(
        allowed
    )


def test_gross_adds_absolute_values_and_net_does_not():
    """Long 100, short 100: gross 20 %, net 0 %."""
    book = book_of(3)
    fill(book, 100, index=0)
    fill(book, -100, index=1)
    assert book.exposure.gross(book.instruments[2], "notional") == 20_000
    assert book.exposure.net(book.instruments[2], ME, 1, "notional") == 0
    assert book.exposure.net(book.instruments[2], ME, -1, "notional") == 0


@pytest.mark.parametrize("kind", [ExposureLimit, GrossLimit, NetLimit, PositionLimit])
def test_an_unknown_risk_is_not_none(kind):
    """D1 is held with an order at work whose stop distance nobody knows."""
    book = book_of(2)
    fill(book, 10, index=1)
    work(book, 1, 1, 30, index=1, distance=NAN)
    judged = kind(0.4).review(ask(book, 1, 1, 1), book)
    assert judged.size == 0
    assert "cannot be judged" in judged.reason


def test_an_unknown_risk_elsewhere_is_not_none():
    """Of D1 the side to buy is known and the side to sell is not, or the other way round."""
    for unknown in (1, -1):
        book = book_of(2)
        work(book, 1, unknown, 30, index=1, distance=NAN)
        work(book, 2, -unknown, 30, index=1)
        assert GrossLimit(0.4).review(ask(book, 0, 1, 1), book).size == 0


def test_copies_are_one_instrument_in_every_sum():
    book = book_of(3)
    twins = book.instruments[:2]
    twins[1].root = twins[0].root
    for twin in twins:
        twin.copies = tuple(twins)
    fill(book, 100, index=0)
    fill(book, 50, index=1)
    for index in (0, 1):
        limit = PositionLimit(0.2, "notional")
        assert limit.review(ask(book, index, 1, 500), book).size == pytest.approx(50)
    assert book.exposure.gross(book.instruments[2], "notional") == 15_000
    assert book.exposure.gross(twins[1], "notional") == 0


# -- groups --------------------------------------------------------------------------------------


def grouped(limit=0.2, **groups):
    return GroupLimit(groups or {"pair": ["D0", "D2"]}, limit, "notional")


@pytest.mark.parametrize(
    ("index", "allowed"),
    [(0, 70), (1, 500), (2, 70), (3, 500)],  # D0 100 long, D2 30 to buy or 20 to sell: 13,000
)
def test_a_group_is_judged_by_its_members_only(index, allowed):
    book = portfolio()
    assert grouped().review(ask(book, index, 1, 500), book).size == pytest.approx(allowed)


def test_long_and_short_of_a_group_add_up():
    book = portfolio()
    limit = grouped(pair=["D0", "D1"])
    assert limit.review(ask(book, 0, 1, 500), book).size == pytest.approx(50)


def test_the_group_with_the_least_room_counts_and_is_named():
    book = portfolio()
    limit = grouped(0.2, narrow=["D3", "D0", "D1"], wide=["D3", "D2"])
    judged = limit.review(ask(book, 3, 1, 500), book)
    assert judged.size == pytest.approx(50)
    expected = "GroupLimit: 0.6500 of equity > group_limit of 'narrow' 0.2000"
    assert judged.reason == expected


def test_a_copy_is_in_the_group_of_its_instrument():
    book = book_of(2)
    weekly = Instrument(book.instruments[0].data, 2, "weekly", book.instruments[0].root)
    book.instruments.append(weekly)
    for one in (book.instruments[0], weekly):
        one.copies = (book.instruments[0], weekly)
    fill(book, 100, index=0)
    assert grouped(pair=["D0"]).review(ask(book, 2, 1, 500), book).size == pytest.approx(100)


@pytest.mark.parametrize("protect", [False, True])
def test_a_group_of_a_data_that_is_not_there_raises_when_the_run_begins(protect):
    engine = cerebro(bars(*flat(20)), bars(*flat(20)), names=["BTC", "ETH"])
    wrong = dict(groups={"majors": ["BTC", "ETC"]}, group_limit=0.03)
    if protect:
        bt_risk.protect(engine, bt_risk.Policy(**wrong))
    else:
        engine.setbroker(bt_risk.CorrelationCap(engine.broker, **wrong))
    with pytest.raises(
        ParameterError, match=r"groups\['majors'\] must be .*\(BTC, ETH\); got 'ETC'"
    ):
        taped(engine)


def test_a_group_limit_without_groups_raises_and_groups_without_a_limit_do_nothing():
    with pytest.raises(ParameterError, match="groups must be given with group_limit"):
        bt_risk.CorrelationCap(group_limit=0.03)
    assert not GroupLimit({"a": ["D0"]}, None).active


# -- whatever happens: what is held after the gate stays below the cap ----------------------------

ORDERS = st.lists(
    st.tuples(
        st.integers(0, 3), st.sampled_from([1, -1]), st.floats(1, 500), st.booleans(), st.booleans()
    ),
    min_size=1,
    max_size=25,
)


def gross(book):
    return sum(abs(i.size) for i in book.instruments) * 100


def net(book):
    return abs(sum(i.size for i in book.instruments)) * 100


def one_side(book):
    """Return what is held on the side with more, and what may be beside it.

    A dormant order is reviewed again before it opens anything: its allowance is not counted.
    """
    if any(order.dormant for order in book.working.values()):
        return max(sum(max(0.0, s * i.size) for i in book.instruments) for s in (1, -1)) * 100
    return max(book.exposure.of_side(side, "notional") for side in (1, -1))


MEASURES = {
    ExposureLimit: one_side,
    GrossLimit: gross,
    PositionLimit: lambda book: max(abs(i.size) * 100 for i in book.instruments),
}


@pytest.mark.parametrize("kind", MEASURES)
@settings(max_examples=60, deadline=None)
@given(orders=ORDERS)
@example([(0, -1, 1.0, False, False), (0, 1, 400.0, True, False), (0, 1, 1.0, False, True)])
@example([(0, 1, 5.0, False, False), (0, -1, 1.0, True, False), (0, -1, 5.0, False, True)])
@example(
    [(0, 1, 3.0, False, False), (1, -1, 297.0, True, False), (1, 1, 1.0, False, False)]
    + [(0, 1, 1.0, False, False), (1, -1, 1.0, False, True)]
)
@example(  # an exit gives the resting sale back what others were allowed in its place
    [(0, -1, 199.0, False, False), (1, -1, 1.0, True, False), (1, 1, 1.0, True, True)]
    + [(0, -1, 101.0, False, False), (1, -1, 1.0, False, False), (2, 1, 1.0, False, True)]
)
def test_exposure_after_the_gate_is_at_most_the_cap(kind, orders):
    """Orders rest or fill at once, later or never; what they open is cut to what is left."""
    book, limit, resting = book_of(4), kind(0.3, "notional"), {}
    for ref, (index, side, size, rests, fills) in enumerate(orders):
        preview = preview_order(book, book.instruments[index], "me", side, size)
        closing, opening = preview.closing, preview.opening
        if opening:
            # What rests beside it may open what it leaves: its size counts as one that closes.
            work(book, -1, side, size, 0.0, index=index)
            opening = limit.review(ask(book, index, side, opening), book).size
            book.drop(-1)
        size = closing + opening
        if size > 1e-6 and rests:
            resting[ref] = work(book, ref, side, size, opening, index=index), opening
        elif size > 1e-6:
            fill(book, side * size, index=index)
        if fills and resting:
            ref, (order, size) = resting.popitem()
            book.drop(ref)
            index, side = order.instrument.index, order.side
            if size and order.dormant:  # it was out of reach, so the gate reviews it again
                size = limit.review(ask(book, index, side, size), book).size
            # What it was to close may have been closed by another: the gate cuts that part.
            if size > 1e-6 and side * book.instruments[index].size >= 0:
                fill(book, side * size, index=index)
        assert MEASURES[kind](book) <= 30_000 * (1 + 1e-6)


@settings(max_examples=60, deadline=None)
@given(orders=ORDERS)
def test_net_exposure_after_an_entry_is_at_most_the_cap_or_nearer_to_zero(orders):
    book, limit = book_of(4), NetLimit(0.3, "notional")
    for index, side, size, *_ in orders:
        before = net(book)
        preview = preview_order(book, book.instruments[index], "me", side, size)
        if not preview.opening or preview.closing:
            continue
        size = limit.review(ask(book, index, side, preview.opening), book).size
        if size:
            fill(book, side * size, index=index)
        assert net(book) <= max(30_000 * (1 + 1e-6), before)


# -- hysteresis ----------------------------------------------------------------------------------


class Pairs:
    """A book in which the signed correlation with the one other name is what the test says."""

    def __init__(self):
        self.latched, self.instruments, self.signed, self.side = set(), book_of(2).instruments, 0, 1
        self.rounds = 0
        self.correlations = self

    def all_within(self, instrument, side, model, limit):
        return False  # each pair must be asked

    def same_bets(self, instrument, side, model, downside):
        one = np.ones(1, dtype=int)
        return one, one * self.side, np.array([self.signed]), one * 252

    def is_stale(self, instrument):
        return False


def test_a_pair_that_was_refused_is_released_below_the_limit_less_hysteresis():
    book, limit = Pairs(), CorrelationLimit(0.7, hysteresis=0.1)
    answers = []
    for signed in (0.65, 0.71, 0.65, 0.601, 0.6, 0.65, 0.71, 0.59, 0.7, 0.701):
        book.signed = signed
        answers.append(limit.review(ask(book, 0, 1, 100), book).size)
    assert answers == [100, 0, 0, 0, 100, 100, 0, 100, 100, 0]


def test_what_keeps_a_pair_refused_is_said():
    book, limit = Pairs(), CorrelationLimit(0.7, hysteresis=0.1)
    for book.signed in (0.71, 0.65):
        reason = limit.review(ask(book, 0, 1, 100), book).reason
    assert reason == (
        "CorrelationLimit: signed correlation with D1 0.6500 "
        "> correlation_limit 0.7000 - hysteresis 0.1000"
    )


def test_the_opposite_bet_has_a_latch_of_its_own_and_the_pair_has_one():
    book, limit = Pairs(), CorrelationLimit(0.7, hysteresis=0.1)
    book.signed = 0.71
    assert limit.review(ask(book, 0, 1, 100), book).size == 0
    book.signed, book.side = 0.65, -1
    assert limit.review(ask(book, 0, 1, 100), book).size == 100
    book.side = 1
    assert limit.review(ask(book, 0, 1, 100), book).size == 0


def test_without_hysteresis_a_pair_flickers():
    book, limit = Pairs(), CorrelationLimit(0.7)
    answers = []
    for book.signed in (0.71, 0.69, 0.71):
        answers.append(limit.review(ask(book, 0, 1, 100), book).size)
    assert answers == [0, 100, 0]


# -- volatility ----------------------------------------------------------------------------------

YEAR = 365.25


def market_of(returns, held=(), equity=100_000.0, limit=None, working=()):
    """Return a book whose names have had these log returns, a day each, and end at 100."""
    book = book_of(len(returns), bars=0)
    limit.prepare(book)
    path = np.column_stack([np.zeros(len(returns)), np.cumsum(returns, axis=1)])
    closes = 100 * np.exp(path - path[:, -1:])
    for day, row in enumerate(closes.T):
        for instrument, price in zip(book.instruments, row, strict=True):
            close(instrument.data, float(day), price)
        book.update()
    book.equity = equity
    for index, size in enumerate(held):
        if size:
            fill(book, size, index=index)
    for ref, (index, size, kind) in enumerate(working):
        work(book, ref, int(np.sign(size)), abs(size), index=index, kind=kind)
    return book


def square(*rows, times=30):
    """Return returns that repeat hand-made rows."""
    return np.tile(np.array(rows) / 100, times)


def per_year(value, count):
    """Return the variance of a year of alternating returns of +-`value`, sample of `count`."""
    return value**2 * count / (count - 1) * YEAR


def volatility(limit, periods=None, **options):
    return VolatilityLimit(limit, window=60, min_periods=30, periods_per_year=periods, **options)


def test_the_volatility_of_one_name_by_hand():
    """+-1 % a day over 60 days: sd sqrt(60 / 59) %, 19.27 % a year; 10 % allow 51.9 % of equity."""
    limit = volatility(0.10)
    book = market_of(square([1, -1]), limit=limit)
    judged = limit.review(ask(book, 0, 1, 1000), book)
    sd = math.sqrt(per_year(0.01, 60))
    assert sd == pytest.approx(0.19272, abs=1e-5)
    assert judged.size == pytest.approx(0.10 / sd * 1000)
    assert judged.reason == f"VolatilityLimit: {sd:.4f} of equity a year > volatility_limit 0.1000"
    assert judged.measured == pytest.approx(sd)


def test_periods_per_year_are_what_the_user_says():
    limit = volatility(0.10, periods=252)
    book = market_of(square([1, -1]), limit=limit)
    sd = math.sqrt(0.01**2 * 60 / 59 * 252)
    assert limit.review(ask(book, 0, 1, 1000), book).size == pytest.approx(0.10 / sd * 1000)


def test_two_names_without_correlation_add_in_squares():
    """Long 300 (30 %) of one; sqrt(0.3^2 + x^2) x 19.27 % = 10 %: x = 42.3 % of equity."""
    limit = volatility(0.10)
    book = market_of(square([1, -1, 1, -1], [1, 1, -1, -1], times=15), (300,), limit=limit)
    sd = math.sqrt(per_year(0.01, 60))
    expected = math.sqrt((0.10 / sd) ** 2 - 0.3**2) * 1000
    assert limit.review(ask(book, 1, 1, 1000), book).size == pytest.approx(expected)


TWINS = square([1, -1], [1, -1])


@pytest.mark.parametrize(
    ("held", "side", "size", "allowed"),
    [
        (400, 1, 1000, "0.519 - 0.4"),  # the same bet: what is left
        (400, -1, 400, "all"),  # a perfect hedge
        (400, -1, 5000, "0.519 + 0.4"),  # over-hedged to the limit on the other side
        (900, 1, 100, "none"),  # above the limit already
        (900, -1, 100, "all"),  # a hedge passes above the limit, in part
        (900, -1, 1800, "all"),  # and up to where it would be as much the other way
        (900, -1, 2500, "2 x 0.9"),
    ],
)
def test_a_hedge_always_passes_and_the_rest_is_cut_to_the_limit(held, side, size, allowed):
    limit = volatility(0.10)
    book = market_of(TWINS, (held,), limit=limit)
    fits = 0.10 / math.sqrt(per_year(0.01, 60))
    expected = {
        "all": size,
        "none": 0,
        "0.519 - 0.4": (fits - 0.4) * 1000,
        "0.519 + 0.4": (fits + 0.4) * 1000,
        "2 x 0.9": 1800,
    }[allowed]
    assert limit.review(ask(book, 1, side, size), book).size == pytest.approx(expected, abs=1e-6)


def test_reject_refuses_what_trim_would_cut_and_lets_a_hedge_pass():
    limit = volatility(0.10, on_volatility="reject")
    book = market_of(TWINS, (400,), limit=limit)
    assert limit.review(ask(book, 1, 1, 1000), book).size == 0
    assert limit.review(ask(book, 1, 1, 100), book).size == 100
    assert limit.review(ask(book, 1, -1, 400), book).size == 400


@pytest.mark.parametrize(
    ("working", "counted"),
    [
        ([(0, 400, "market")], 0.4),  # a sibling of this bar counts
        ([(0, -400, "market")], -0.4),
        ([(0, 400, "limit")], 0.4),  # an entry that rests may fill
        ([(0, -400, "limit")], 0.0),  # a hedge that rests may not
        ([(0, 400, "limit"), (0, -300, "stop")], 0.4),  # nor does it pay for another entry
        ([(0, 400, "limit"), (1, -300, "limit")], 0.4),
        ([(0, 300, "market"), (0, 100, "stop"), (0, -200, "limit")], 0.4),
    ],
)
def test_working_orders_count_whichever_way_is_worse(working, counted):
    limit = volatility(0.10)
    book = market_of(TWINS, limit=limit, working=working)
    fits = 0.10 / math.sqrt(per_year(0.01, 60))
    expected = 1000 * (fits - counted)
    assert limit.review(ask(book, 1, 1, 5000), book).size == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["limit", "stop"])
@pytest.mark.parametrize(
    ("returns", "rests"),
    [
        (square([1, -1, 1, -1], [1, 1, -1, -1], times=15), (500,)),  # nothing to do with it
        (square([1, -1, 1, -1], [1, 1, -1, -1], times=15), (-500,)),
        (square([1, -1, 1, -1], [1, 1, -1, -1], times=15), (400, -500)),  # either side may fill
        (square([1, -1, 1, -1], [1, 1, -1, -1], times=15), (500, -400)),
    ],
)
def test_an_entry_that_rests_adds_in_squares_where_it_does_not_correlate(returns, rests, kind):
    """50 % of D0 rest, 51.9 % are allowed alone: sqrt(0.519^2 - 0.5^2), 13.9 % of D1, beside it."""
    limit = volatility(0.10)
    working = [(0, size, kind) for size in rests]
    book = market_of(returns, limit=limit, working=working)
    left = math.sqrt((0.10 / math.sqrt(per_year(0.01, 60))) ** 2 - 0.5**2)
    assert left == pytest.approx(0.139, abs=1e-3)
    assert limit.review(ask(book, 1, 1, 5000), book).size == pytest.approx(1000 * left)


def test_an_entry_that_rests_counts_although_it_hedges_a_little():
    """Correlation of -0.2 (60 days, 36 apart): the two together still add up beyond the limit."""
    one, other = [1, -1] * 30, [-1, 1] * 18 + [1, -1] * 12
    limit = volatility(0.10)
    book = market_of(np.array([one, other]) / 100, limit=limit, working=[(0, 500, "limit")])
    f, rho = 0.10 / math.sqrt(per_year(0.01, 60)), -0.2
    # The larger root of x^2 + 2 rho 0.5 x + 0.5^2 = f^2.
    expected = -rho * 0.5 + math.sqrt((rho * 0.5) ** 2 - 0.5**2 + f**2)
    assert limit.review(ask(book, 1, 1, 5000), book).size == pytest.approx(1000 * expected)


def test_of_a_reversal_what_is_held_has_been_closed():
    limit = volatility(0.10)
    book = market_of(square([1, -1]), (400,), limit=limit)
    fits = 0.10 / math.sqrt(per_year(0.01, 60))
    assert limit.review(ask(book, 0, -1, 5000), book).size == pytest.approx(1000 * fits)


@pytest.mark.parametrize(
    ("returns", "held", "words"),
    [
        (square([1, -1], times=14), (), "volatility unknown: 28 of 30 returns common to all"),
        (np.zeros((1, 60)), (), "volatility unknown: D0 did not move"),
        (np.vstack([square([1, -1]), np.zeros(60)]), (0, 5), "volatility unknown: D1 did not"),
    ],
)
@pytest.mark.parametrize("unknown", ["refuse", "allow"])
def test_an_unknown_volatility_is_not_zero(returns, held, words, unknown):
    limit = volatility(0.10, unknown=unknown)
    book = market_of(returns, held, limit=limit)
    judged = limit.review(ask(book, 0, 1, 10), book)
    assert judged.size == (0 if unknown == "refuse" else 10)
    assert (words in judged.reason) == (unknown == "refuse")


# -- prices at and below zero ----------------------------------------------------------------------

ABOVE = [1.0, 2.0] * 20
NO_LOGS = "volatility unknown: D0 has closed at or below zero, where no log return exists"


def spread_of(closes, limit, working=()):
    """Return a book of one spread, whose price may be below zero, with these closes a day each."""
    book = book_of(1, bars=0)
    limit.prepare(book)
    (spread,) = book.instruments
    spread.negative_prices = True
    for day, price in enumerate(closes):
        close(spread.data, float(day), price)
        book.update()
    book.equity = 100_000.0
    for ref, (side, size, kind, price) in enumerate(working):
        work(book, ref, side, size, kind=kind, price=price)
    return book


@pytest.mark.parametrize("last", [0.0, -1.0])
@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("working", [(), [(1, 40, "stop", -0.9)], [(-1, 40, "market", -1.0)]])
def test_below_zero_a_volatility_is_unknown_whatever_rests(working, side, last):
    """The 39 returns above zero, +-69 % a bar, say nothing of the fall from 2 to -1.

    A buy of 40 rested at -0.9 and a sell of 14 came at the market: the one would have raised, by
    such a volatility, what the other lowered.
    """
    limit = volatility(0.05)
    book = spread_of([*ABOVE, last], limit, working)
    judged = limit.review(ask(book, 0, side, 14, price=last), book)
    assert (judged.size, judged.reason) == (0, f"VolatilityLimit: {NO_LOGS}")
    allow = volatility(0.05, unknown="allow")
    assert allow.review(ask(spread_of([*ABOVE, last], allow), 0, side, 14), book).size == 14


@pytest.mark.parametrize(("since", "known"), [(1, False), (60, False), (61, True)])
def test_a_close_below_zero_is_forgotten_once_it_has_left_the_window(since, known):
    """60 returns need 61 closes: until then one would span the bar below zero."""
    limit = volatility(9.0)
    book = spread_of([*ABOVE, -1.0, *([1.0, 2.0] * 31)[:since]], limit)
    judged = limit.review(ask(book, 0, 1, 14), book)
    assert (judged.size, NO_LOGS in judged.reason) == ((14, False) if known else (0, True))


@pytest.mark.parametrize("equity", [0.0, -5.0, NAN, math.inf])
def test_without_equity_there_is_no_volatility(equity):
    limit = volatility(0.10)
    book = market_of(square([1, -1]), equity=equity, limit=limit)
    assert limit.review(ask(book, 0, 1, 10), book).size == 0


def test_a_price_that_is_none_is_refused():
    limit = volatility(0.10)
    book = market_of(square([1, -1]), limit=limit)
    assert limit.review(ask(book, 0, 1, 10, price=NAN), book).size == 0


@settings(max_examples=200, deadline=None)
@given(
    before=st.floats(0, 10),
    slope=st.floats(-1, 1),
    own=st.floats(1e-6, 10),
    extra=st.floats(0, 10),
)
def test_the_largest_size_keeps_the_ceiling_and_is_the_largest(before, slope, own, extra):
    cross = slope * math.sqrt(before * own)  # what covariances can be
    ceiling = before + extra

    def after(size):
        return before + 2 * cross * size + own * size * size

    size = largest_size(before, cross, own, ceiling)
    assert size >= 0
    assert after(size) == pytest.approx(ceiling, rel=1e-6, abs=1e-9)
    assert after(size * 1.01 + 1e-3) > ceiling * (1 - 1e-9)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    sizes=st.lists(st.integers(-900, 900), min_size=3, max_size=3),
    asked=st.integers(1, 3000),
    side=st.sampled_from([1, -1]),
    limit=st.floats(0.02, 0.4),
    estimator=st.sampled_from(["rolling", "ewm", "ledoit-wolf"]),
)
def test_volatility_after_the_gate_is_at_most_the_limit_or_what_it_was(
    seed, sizes, asked, side, limit, estimator
):
    """Against the whole matrix: kept, maximal, and a hedge passes whole."""
    rng = np.random.default_rng(seed)
    returns = rng.normal(0, 0.01, (4, 60)) + rng.normal(0, 0.01, 60)
    options = {"estimator": estimator} | ({"halflife": 20.0} if estimator == "ewm" else {})
    rule = volatility(limit, **options)
    book = market_of(returns, (0, *sizes), limit=rule)
    judged = rule.review(ask(book, 0, side, asked), book).size
    held = [place for place in range(1, 4) if sizes[place - 1]]
    # What is drawn towards their mean depends on which names there are: those at stake.
    covariance, _ = book.correlations.covariance(
        [book.instruments[k] for k in (0, *held)], rule.model
    )
    matrix = covariance.matrix() * YEAR

    def after(size):
        weights = np.array([side * size, *[sizes[k - 1] for k in held]]) * 100 / book.equity
        return math.sqrt(max(weights @ matrix @ weights, 0))

    ceiling = max(limit, after(0))
    assert 0 <= judged <= asked
    assert after(judged) <= ceiling * (1 + 1e-6)
    if after(asked) <= ceiling * (1 - 1e-9):
        assert judged == asked
    if judged < asked:
        assert after(judged + 0.01 * asked + 1e-3) > ceiling * (1 - 1e-9)


# -- in a run ------------------------------------------------------------------------------------

DAYS = 120


def capped(frames, plan, mode="runonce", names=None, **params):
    engine = cerebro(*frames, names=names)
    off = {"correlation_limit": None, "atr_period": 3, "window": 60, "min_periods": 30}
    engine.setbroker(bt_risk.CorrelationCap(engine.broker, **(off | params)))
    engine.addanalyzer(bt_risk.PortfolioRisk)
    engine.addanalyzer(bt_risk.RiskJournal)
    return taped(engine, plan, mode)


WALKS = [random_walk(seed, DAYS) for seed in (1, 2)]


@pytest.mark.parametrize("mode", MODES)
def test_the_volatility_of_the_report_is_at_most_the_limit_where_prices_stand(mode):
    """Cut to the limit at the close; at the open of the next bar it fills near that."""
    plan = [order(80, "buy", data=0, size=2000), order(82, "buy", data=1, size=2000)]
    strategy = capped(WALKS, plan, mode, volatility_limit=0.05)
    report = strategy.analyzers.portfoliorisk.frame()
    assert report.volatility.iloc[:80].eq(0.0).all()
    assert report.volatility.iloc[-30:].between(0.03, 0.07).all()
    trims = [d for d in decisions(strategy) if d["rule"] == "VolatilityLimit"]
    assert {d["action"] for d in trims} <= {"trim", "reject"}
    assert trims
    assert 0 < tape_of(strategy)["fills"][0][2] < 2000


def decisions(strategy):
    return strategy.analyzers.riskjournal.get_analysis()["decisions"]


def test_the_report_by_hand():
    """Against pandas on the last 60 returns at the last close."""
    plan = [order(80, "buy", data=0, size=100), order(80, "sell", data=1, size=200)]
    strategy = capped(WALKS, plan, exposure_limit=9.0, allow_extreme=True)
    analyzer = strategy.analyzers.portfoliorisk
    report, frame = analyzer.get_analysis(), analyzer.frame()
    closes = pd.DataFrame({f"D{i}": walk.close for i, walk in enumerate(WALKS)})
    returns = np.log(closes).diff().tail(252)
    matrix = returns.cov() * 365.25
    value = np.array([100, -200]) * closes.iloc[-1] / strategy.broker.getvalue()
    expected = math.sqrt(value @ matrix @ value)
    assert frame.volatility.iloc[-1] == pytest.approx(expected, rel=1e-9)
    shares = value * (matrix @ value) / expected**2
    assert report["risk_share"][-1] == pytest.approx(dict(zip(["D0", "D1"], shares, strict=True)))
    assert sum(report["risk_share"][-1].values()) == pytest.approx(1.0)
    rho = returns.corr().loc["D0", "D1"]
    assert report["correlations"][-1] == {"D0": {"D1": pytest.approx(rho)}}
    assert frame.correlation.iloc[-1] == pytest.approx(-rho)
    apart = abs(value) @ np.sqrt(np.diag(matrix))
    assert frame.effective_bets.iloc[-1] == pytest.approx(min(2, apart**2 / expected**2))
    assert report["risk_share"][10] == report["correlations"][10] == {}
    assert len({len(values) for values in report.values()}) == 1


def test_the_report_alone_watches_for_itself():
    engine = cerebro(*WALKS)
    engine.addanalyzer(bt_risk.PortfolioRisk)
    plan = [order(80, "buy", data=d, size=10) for d in (0, 1)]
    frame = taped(engine, plan).analyzers.portfoliorisk.frame()
    assert frame.iloc[-1].notna().all()


def test_a_copy_is_no_pair_with_its_instrument():
    engine = cerebro(*WALKS)
    engine.resampledata(engine.datas[0], timeframe=bt.TimeFrame.Weeks, name="weekly")
    engine.addanalyzer(bt_risk.PortfolioRisk)
    plan = [order(80, "buy", data=d, size=10) for d in range(3)]
    report = taped(engine, plan).analyzers.portfoliorisk.get_analysis()
    assert list(report["correlations"][-1]) == ["D0"]
    assert list(report["correlations"][-1]["D0"]) == ["D1"]
    assert list(report["risk_share"][-1]) == ["D0", "D1"]


def test_the_report_draws_correlations_to_the_mean_of_all_that_is_held():
    frames = [random_walk(seed, DAYS) for seed in (1, 2, 3)]
    plan = [order(80, "buy", data=d, size=10) for d in range(3)]
    strategy = capped(frames, plan, volatility_limit=9.0, estimator="ledoit-wolf")
    pairs = strategy.analyzers.portfoliorisk.get_analysis()["correlations"][-1]
    returns = np.log(pd.DataFrame({i: f.close for i, f in enumerate(frames)})).diff().tail(60)
    full = returns.corr().to_numpy()[np.triu_indices(3, 1)]
    drawn = np.array([pairs["D0"]["D1"], pairs["D0"]["D2"], pairs["D1"]["D2"]])
    kept = (drawn - full.mean()) / (full - full.mean())
    assert np.ptp(kept) < 1e-9  # one intensity for all
    assert -1e-9 <= kept[0] < 1


def test_a_group_in_a_run():
    """A 10 % cap on a pair, notional: the first takes 8 %, the second gets the rest, D2 is free."""
    calm = [bars(*flat(40)) for _ in range(3)]
    plan = [order(20, "buy", data=d, size=80) for d in range(3)]
    strategy = capped(
        calm,
        plan,
        names=["BTC", "ETH", "SPX"],
        groups={"majors": ["BTC", "ETH"]},
        group_limit=0.10,
        exposure_unit="notional",
    )
    filled = {name: size for _, name, size, _ in tape_of(strategy)["fills"]}
    assert filled == {"BTC": 80, "ETH": 20, "SPX": 80}


def told(decision):
    """Return a decision as text, without the last digits: an older BLAS moves them with memory."""
    return str(decision | {"measured": f"{decision['measured']:.11g}"})


@pytest.mark.parametrize(
    "params",
    [
        {"volatility_limit": 0.04},
        {"correlation_limit": 0.1, "hysteresis": 0.05, "downside": True},
        {"correlation_limit": 0.1, "estimator": "ewm", "halflife": 10},
        {"correlation_limit": 0.1, "estimator": "ledoit-wolf", "multi_bar": 3},
        {"gross_limit": 0.02, "net_limit": 0.01, "position_limit": 0.01},
    ],
    ids=lambda p: next(iter(p)),
)
def test_what_comes_later_changes_nothing_that_was_decided(params):
    frames = [random_walk(seed, DAYS) for seed in (1, 2, 3)]
    plan = [order(bar, "buy", data=bar % 3, size=50 + bar) for bar in range(35, DAYS, 4)]
    whole = decisions(capped(frames, plan, **params))
    for cut in (60, 90):
        short = decisions(capped([frame.iloc[:cut] for frame in frames], plan, **params))
        known = [d for d in whole if d["time"] <= frames[0].index[cut - 1]]
        assert [told(d) for d in short] == [told(d) for d in known]
    assert any(d["action"] in ("trim", "reject") for d in whole)


# -- what is no price any more ---------------------------------------------------------------------


@pytest.mark.parametrize(("max_stale_bars", "refused"), [(5, True), (1000, False)])
@pytest.mark.parametrize("rule", ["correlation_limit", "volatility_limit"])
def test_a_feed_that_has_ended_is_unknown_and_not_at_its_old_prices(rule, max_stale_bars, refused):
    """D0 is held and ends on bar 80; 70 returns in common are not enough when they are over."""
    params = {"correlation_limit": None, rule: 0.99, "max_stale_bars": max_stale_bars}
    plan = [order(70, "buy", data=0, size=10), order(90, "buy", data=1, size=10)]
    strategy = capped([WALKS[0].iloc[:80], WALKS[1]], plan, **params)
    assert len(tape_of(strategy)["fills"]) == (1 if refused else 2)
    if refused:
        assert "D0" in tape_of(strategy)["reasons"][0][1]
        assert "has had no bar for 10 of the others" in tape_of(strategy)["reasons"][0][1]


def spread_bars(closes):
    """Return bars that open at the close before them."""
    rows = zip([closes[0], *closes], closes, strict=False)
    return bars(*[(one, max(one, two), min(one, two), two) for one, two in rows])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("rule", ["correlation_limit", "volatility_limit"])
def test_no_log_return_spans_a_price_below_zero(rule, own, mode):
    """D0 closes at -1 on bar 61, after 60 bars at 1 and 2: it is ordered itself, or it is held."""
    frames = [spread_bars([1.0, 2.0] * 30 + [-1.0] * 9), WALKS[1].iloc[:69]]
    first, second = (1, 0) if own else (0, 1)
    plan = [order(50, "buy", data=first, size=1), order(64, "sell", data=second, size=1)]
    facts = {"D0": {"negative_prices": True}}
    params = {"correlation_limit": None, rule: 0.99, "instruments": facts}
    strategy = capped(frames, plan, mode, **params)
    tape = tape_of(strategy)
    assert len(tape["fills"]) == 1
    words = "has closed at or below zero, where no log return exists"
    assert [f"D0 {words}" in reason for _, reason in tape["reasons"]] == [True]
    report = strategy.analyzers.portfoliorisk.frame()
    assert report.volatility.iloc[-1] > 0 if own else math.isnan(report.volatility.iloc[-1])
    held = report.long_notional.iloc[-1] * strategy.broker.getvalue()
    assert held == pytest.approx(WALKS[1].close.iloc[68] if own else 1.0)


# -- different time frames -----------------------------------------------------------------------


def hourly_of(seed, closed="right", days=90):
    """Return an hourly walk and the daily bars it makes, stamped at their midnight.

    Backtrader stamps bars at their end, so midnight's hour is the last of the day before.
    """
    hourly = random_walk(seed, 24 * days, volatility=0.004, freq="h")
    rules = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    return hourly, hourly.resample("D", closed=closed, label="left").agg(rules).iloc[1:-1]


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize(("closed", "rho"), [("right", 1.0), ("left", 0.97)])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_daily_name_beside_an_hourly_one_is_known_and_signed(sign, closed, rho, declared):
    """The daily bars are those that the hours make: one bet, or its mirror image.

    Where hours are stamped at their beginning, midnight's is one hour of 24 too late.
    """
    hourly, daily = hourly_of(1, closed)
    engine = bt.Cerebro(stdstats=False)
    frame = dict(timeframe=bt.TimeFrame.Minutes, compression=60) if declared else {}
    engine.adddata(PandasData(dataname=hourly, **frame), name="hour")
    engine.adddata(PandasData(dataname=image(daily, sign)), name="day")
    engine.setbroker(bt_risk.CorrelationCap(engine.broker, window=60, min_periods=50))
    engine.addanalyzer(bt_risk.RiskJournal)
    bar = 24 * 80
    plan = [order(bar, "buy", data=0, size=1), order(bar + 1, "buy", data=1, size=1)]
    strategy = taped(engine, plan)
    assert len(tape_of(strategy)["fills"]) == (1 if sign > 0 else 2)
    if sign > 0:
        (refused,) = [d for d in decisions(strategy) if d["action"] == "reject"]
        assert refused["measured"] == pytest.approx(rho, abs=1e-9 if rho == 1 else 0.02)


def test_two_daily_names_among_hours_have_a_window_of_days():
    hourly, daily = hourly_of(1)
    engine = cerebro(hourly, daily, daily.copy())
    engine.setbroker(bt_risk.CorrelationCap(engine.broker, window=60, min_periods=50))
    bar = 24 * 80
    plan = [order(bar, "buy", data=1, size=1), order(bar + 1, "buy", data=2, size=1)]
    tape = tape_of(taped(engine, plan))
    assert len(tape["fills"]) == 1
    assert "signed correlation with D1 1.0000" in tape["reasons"][0][1]
