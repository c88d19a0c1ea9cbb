"""Guards against a plain reading of the past: every trade, order and close looked at in turn."""

import math
from types import SimpleNamespace

from hypothesis import given, settings
from hypothesis import strategies as st

from bt_risk.limits.base import Request
from bt_risk.limits.clock_guards import OrderRateLimit
from bt_risk.limits.day_guards import DailyLossLimit
from bt_risk.limits.trade_guards import (
    CooldownGuard,
    LosingStreakGuard,
    MinimumEdgeGuard,
    StopoutGuard,
)
from bt_risk.portfolio.day_results import DayResults
from bt_risk.portfolio.position import ClosedTrade, SentOrder

quick = settings(max_examples=200, deadline=None, derandomize=True)
DAY = 10  # closes of a day in these tests: a time of 37.0 is on day 30


class Fake:
    """An instrument with a bar for every round."""

    def __init__(self, index, length):
        self.index, self.length, self.name = index, length, f"D{index}"
        self.lead = self.day = self
        self.name = "days of ten"

    def span(self, time):
        begin = time // DAY * DAY
        return begin, begin + DAY

    def begin(self, time):
        return self.span(time)[0]

    def end(self, time):
        return self.span(time)[1]


@st.composite
def pasts(draw):
    """Return the round of today and closed trades, oldest first, on two datas and sides."""
    steps = draw(st.lists(st.integers(0, 4), max_size=14))
    trades, number = [], 1
    for step in steps:
        number += step
        trades.append(
            ClosedTrade(
                "D",
                None,
                side=draw(st.sampled_from([1, -1])),
                pnl=draw(st.sampled_from([-2.0, -1.0, 0.0, 3.0])),
                r_multiple=draw(st.sampled_from([-1.0, 0.5, math.nan])),
                stopped=draw(st.booleans()),
                index=draw(st.integers(0, 1)),
                bar=number,
                round=number,
            )
        )
    return number + draw(st.integers(0, 6)), trades


def request(now, side):
    return Request(Fake(0, now), side, 5.0, 100.0, 2.0)


def counted(guard, trades, side):
    mine = [t for t in trades if guard.scope == "all" or t.index == 0]
    return [t for t in mine if not guard.side_aware or t.side == side]


def stopouts(guard, trades):
    last = trades[-1]
    known = [t for t in trades if t.stopped and t.pnl < 0]
    near = [t for t in known if last.round - t.round < guard.lookback]
    return last in known and len(near) >= guard.stopout_limit


def streak(guard, trades):
    last = [t.pnl < 0 for t in trades[-guard.streak_limit :]]
    return len(last) == guard.streak_limit and all(last)


def edge(guard, trades):
    known = [t.r_multiple for t in trades if not math.isnan(t.r_multiple)][-guard.lookback :]
    return len(known) == guard.lookback and sum(known) < guard.edge_floor


PLAIN = {
    "CooldownGuard": lambda guard, trades: True,
    "StopoutGuard": stopouts,
    "LosingStreakGuard": streak,
    "MinimumEdgeGuard": edge,
}


@quick
@given(
    pasts(),
    st.sampled_from([CooldownGuard, StopoutGuard, LosingStreakGuard, MinimumEdgeGuard]),
    st.sampled_from(["data", "all"]),
    st.booleans(),
    st.integers(1, 6),
    st.integers(1, 3),
    st.sampled_from([1, -1]),
)
def test_a_guard_refuses_if_a_trade_of_its_cool_down_had_tripped_it(
    past, kind, scope, side_aware, bars, count, side
):
    now, trades = past
    names = {
        StopoutGuard: {"stopout_limit": count, "lookback": 5},
        LosingStreakGuard: {"streak_limit": count},
        MinimumEdgeGuard: {"edge_floor": 0.0, "lookback": count},
    }
    options = names.get(kind, {})
    guard = kind(cooldown_bars=bars, scope=scope, side_aware=side_aware, **options)
    mine = counted(guard, trades, side)
    tripped = any(
        now - mine[end - 1].round < bars and PLAIN[guard.name](guard, mine[:end])
        for end in range(1, len(mine) + 1)
    )
    decision = guard.review(request(now, side), SimpleNamespace(trades=trades, rounds=now))
    assert decision.size == (0.0 if tripped else 5.0)
    assert decision.reason.startswith(f"{guard.name}: ") is tripped


@quick
@given(
    st.lists(st.sampled_from([90.0, 97.0, 99.0, 100.0, 104.0]), min_size=1, max_size=45),
    st.integers(0, 25),
)
def test_a_day_is_over_once_a_close_of_it_has_lost_the_limit(values, bars):
    days, guard = DayResults(), DailyLossLimit(0.03, cooldown_bars=bars)
    days.follow(guard)
    book = SimpleNamespace(trades=[], parts={}, instruments=[Fake(0, 0)], days=days)
    for time, value in enumerate(values):
        book.latest = float(time)
        days.mark(book, value, value)
    last = len(values) - 1

    def lost(close):
        before = values[max(close // DAY * DAY - 1, 0)]
        return (before - values[close]) / before >= 0.03 - 1e-12

    today = range(last // DAY * DAY, last + 1)
    tripped = any(lost(close) for close in {*today, *range(max(0, last - bars + 1), last + 1)})
    decision = guard.review(request(last, 1), book)
    assert decision.size == (0.0 if tripped else 5.0)


@quick
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1)), max_size=14),
    st.integers(1, 4),
    st.integers(1, 6),
    st.integers(0, 4),
)
def test_orders_are_counted_by_bar_and_by_day(steps, bar_limit, day_limit, bars):
    sent, now = [], 0
    for step, index in steps:
        now += step
        sent.append(SentOrder(index, 1, now, now, float(now)))
    guard = OrderRateLimit(bar_limit, None, day_limit, cooldown_bars=bars)
    book = SimpleNamespace(
        sent=sent, now=lambda instrument, side: SentOrder(0, side, now, now, now)
    )

    def full(orders, at):
        of_bar = [o for o in orders if o.round == at]
        of_day = [o for o in orders if o.time // DAY == at // DAY]
        return len(of_bar) >= bar_limit or len(of_day) >= day_limit

    tripped = full(sent, now) or any(
        now - sent[end - 1].round < bars and full(sent[:end], sent[end - 1].round)
        for end in range(1, len(sent) + 1)
    )
    assert guard.review(request(now, 1), book).size == (0.0 if tripped else 5.0)
