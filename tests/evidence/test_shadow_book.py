"""The shadow book: worked out by hand, to the cent, and adding up whatever is run."""

import datetime
import math
import random

import backtrader as bt
import pandas as pd
import pytest
from helpers.plain_evidence import replay_every_bar
from helpers.scenarios import bars, flat, random_walk
from helpers.shadow_runs import book_of, building, only, order, replayed
from helpers.slices import sliced
from helpers.step_by_step import plain as exactly
from hypothesis import given, settings
from hypothesis import strategies as st

import bt_risk
from bt_risk.evidence.counterfactual import Fill
from bt_risk.evidence.paper_broker import RequestedOrder
from bt_risk.evidence.paper_trade import PaperStop
from bt_risk.evidence.runner import run_variant
from bt_risk.evidence.shadow_book import shadow_book
from bt_risk.evidence.variants import without
from bt_risk.report.labels import COMPOUNDING, DIFFERENCES, KNOCK_ON, SIZER_SIZES

# A loser in bar 6, a winner in bar 10: buys at the open, sells at the open.
TWO = bars(
    *flat(5),
    (100, 101, 99, 100),
    (100, 100, 89, 90),
    (90, 91, 89, 90),
    *flat(1, 90),
    (90, 91, 89, 90),
    (90, 111, 90, 110),
    (110, 111, 109, 110),
    *flat(2, 110),
)
TWO_ORDERS = (
    order(5, "buy", size=600),
    order(7, "close"),
    order(9, "buy", size=600),
    order(11, "close"),
)


def test_a_loser_and_a_winner_that_a_rule_refused_are_to_the_cent():
    """600 at 100 is 60 % of equity; half is allowed, so that the rest is refused on exposure.

    Bare: 600 x (90 - 100) and 600 x (110 - 90), with 0.1 % a side.
    """
    refuse = only(exposure_limit=0.5, exposure_unit="notional", on_exposure="reject")
    book = book_of(building(TWO, plan=TWO_ORDERS, commission=0.001), refuse)
    loser, winner = book.paper_trades.to_dict("records")
    assert (loser["rule"], loser["entry"], loser["exit"]) == ("ExposureLimit", 100.0, 90.0)
    assert loser["pnl"] == pytest.approx(-6000 - 60 - 54)
    assert winner["pnl"] == pytest.approx(12000 - 54 - 66)
    assert [loser["end"], winner["end"]] == ["exit", "exit"]
    rules = book.by_rule()
    row = rules.loc["ExposureLimit"]
    assert row["lost"] == pytest.approx(6114)
    assert row["made"] == pytest.approx(11880)
    assert row["balance"] == pytest.approx(-(11880 - 6114)) == pytest.approx(book.difference)
    # Risk is the size times 2 x ATR(3): 4 before the fall; R of the loser is -6114 / 2400.
    assert loser["r_multiple"] == pytest.approx(-6114 / 2400)
    assert rules["balance"][list(DIFFERENCES)].tolist() == [0, 0, 0]
    assert row["knock_on"] == pytest.approx(0, abs=1e-9)
    assert book.residual == pytest.approx(0, abs=1e-9)


def test_what_was_cut_from_an_order_leaves_with_the_rest_of_it():
    cut = only(exposure_limit=0.5, exposure_unit="notional", on_exposure="trim")
    book = book_of(building(TWO, plan=TWO_ORDERS[:2], commission=0.001), cut)
    (trade,) = book.paper_trades.to_dict("records")
    assert trade["units"] == 100
    assert trade["pnl"] == pytest.approx(-1000 - 10 - 9)
    assert book.difference == pytest.approx(1019)


def test_a_stop_is_followed_to_the_strategy_s_own_exit():
    """Entry 100, stop 96: hit in bar 7, and the price comes back before the strategy leaves."""
    path = bars(*flat(6), (100, 101, 90, 95), (95, 112, 94, 110), *flat(3, 110))
    orders = (order(5, "buy", size=10), order(8, "close"))
    book = book_of(building(path, plan=orders), only(trailing_stop=True))
    (trade,) = book.paper_trades.to_dict("records")
    assert (trade["rule"], trade["entry"], trade["exit"]) == ("ATRTrailingStop", 96.0, 110.0)
    assert trade["pnl"] == pytest.approx(140)
    assert book.difference == pytest.approx(-140)
    assert trade["r_multiple"] == pytest.approx(140 / 40)


def test_a_refused_order_keeps_its_stop_and_the_stop_answers_for_what_comes_after():
    """With the stop on, the refused order loses 4 a unit; from there on it is the stop's."""
    path = bars(*flat(6), (100, 101, 90, 95), (95, 112, 94, 110), *flat(3, 110))
    orders = (order(5, "buy", size=600), order(8, "close"))
    refuse = only(
        exposure_limit=0.5, exposure_unit="notional", on_exposure="reject", trailing_stop=True
    )
    book = book_of(building(path, plan=orders, commission=0.001), refuse)
    first, second = book.paper_trades.to_dict("records")
    assert (first["rule"], first["end"], first["exit"]) == ("ExposureLimit", "stop", 96.0)
    assert first["pnl"] == pytest.approx(-2400 - 60 - 57.6)
    assert (second["rule"], second["entry"], second["exit"]) == ("ATRTrailingStop", 96.0, 110.0)
    assert second["pnl"] == pytest.approx(600 * 14 + 57.6 - 66)
    assert book.difference == pytest.approx(-(6000 - 60 - 66))


def test_the_paper_stop_is_the_stop_of_a_run_that_was_allowed():
    """On random walks: every refused order leaves on paper where its stop would really fill."""
    reached = 0
    for seed in range(6):
        frame = random_walk(seed, 120, 0.03)
        orders = (order(20, "buy", size=600), order(100, "close"))
        build = building(frame, plan=orders)
        refuse = only(
            exposure_limit=0.01, exposure_unit="notional", on_exposure="reject", trailing_stop=True
        )
        allowed = run_variant(build, only(trailing_stop=True)).record.fills
        trade = book_of(build, refuse).paper_trades.iloc[0]
        exit_ = allowed.iloc[1]
        assert (trade["entry"], trade["exit"]) == pytest.approx(
            (allowed["price"].iloc[0], exit_["price"])
        )
        assert trade["closed"] == exit_["time"]
        reached += trade["end"] == "stop"
    assert reached >= 3


def test_a_breaker_that_ends_the_run_answers_for_the_rest_of_the_data():
    crash = bars(*flat(6), (100, 101, 80, 80), *flat(4, 80), (80, 121, 80, 120), *flat(3, 120))
    orders = (order(5, "buy", size=900), order(8, "close"), order(10, "buy", size=100))
    book = book_of(building(crash, plan=orders), only(drawdown_limit=0.1))
    first, second = book.paper_trades.to_dict("records")
    # Closed at the open of bar 8 at 80; the strategy itself leaves at 80 in bar 9.
    assert (first["rule"], first["entry"], first["exit"]) == ("DrawdownBreaker", 80.0, 80.0)
    assert (second["rule"], second["end"]) == ("DrawdownBreaker", "end of data")
    assert second["pnl"] == pytest.approx(100 * 40)
    assert book.difference == pytest.approx(-4000)


def test_a_floor_that_ends_the_run_answers_for_the_rest_of_the_data():
    """The account falls to 82,000, below a floor of 90,000, and misses the rise to 120."""
    crash = bars(*flat(6), (100, 101, 80, 80), *flat(4, 80), (80, 121, 80, 120), *flat(3, 120))
    orders = (order(5, "buy", size=900), order(8, "close"), order(10, "buy", size=100))
    book = book_of(building(crash, plan=orders), only(guards=[bt_risk.AccountFloor(0.1)]))
    first, second = book.paper_trades.to_dict("records")
    assert (first["rule"], first["entry"], first["exit"]) == ("AccountFloor", 80.0, 80.0)
    assert (second["rule"], second["end"]) == ("AccountFloor", "end of data")
    assert second["pnl"] == pytest.approx(100 * 40)
    assert book.by_rule().loc["AccountFloor", "balance"] == pytest.approx(-4000)
    assert book.difference == pytest.approx(-4000)


@pytest.mark.parametrize("action", ["stop", "pause"])
def test_what_a_floor_has_closed_is_followed_to_the_strategy_s_own_exit(action):
    """900 leave at 80 on bar 8; the strategy would have held them to 60 on bar 12."""
    slide = bars(*flat(6), (100, 101, 80, 80), *flat(3, 80), (80, 80, 60, 60), *flat(3, 60))
    orders = (order(5, "buy", size=900), order(11, "close"))
    floor = bt_risk.AccountFloor(0.1, action=action)
    book = book_of(building(slide, plan=orders, commission=0.001), only(guards=[floor]))
    (trade,) = book.paper_trades.to_dict("records")
    assert (trade["rule"], trade["entry"], trade["exit"]) == ("AccountFloor", 80.0, 60.0)
    # The commission of the exit at 80 is paid in place of that at 60.
    assert trade["pnl"] == pytest.approx(900 * -20 + 72 - 54)
    rules = book.by_rule()["balance"]
    assert rules["AccountFloor"] == pytest.approx(17_982) == pytest.approx(book.difference)
    assert book.by_rule().loc["AccountFloor", "knock_on"] == pytest.approx(0, abs=1e-9)


class Wanting(bt.Strategy):
    """Ask on every bar until it holds something, and leave when told to."""

    params = dict(plan=())

    def next(self):
        first, last = self.p.plan
        if first <= len(self) < last and not self.position:
            self.buy(size=60)
        elif len(self) == last and self.position:
            self.close()


def test_a_request_that_is_refused_on_every_bar_is_one_paper_trade():
    frame = bars(*flat(20), *flat(10, 120))
    refuse = only(exposure_limit=0.05, exposure_unit="notional", on_exposure="reject")
    book = book_of(building(frame, plan=(5, 25), strategy=Wanting), refuse)
    (trade,) = book.paper_trades.to_dict("records")
    assert trade["pnl"] == pytest.approx(60 * 20)
    assert book.difference == pytest.approx(-1200)


def test_the_book_changes_nothing_of_the_run():
    frame = random_walk(3, 300, 0.02)
    plan = tuple(order(b, "buy" if b % 20 else "close", size=700) for b in range(20, 280, 10))
    plan = tuple((b, m, a if m == "buy" else ()) for b, m, a in plan)
    build, policy = building(frame, plan=plan), bt_risk.Policy(action="pause", cooldown_bars=20)
    engine = build()
    engine.addanalyzer(bt_risk.ReportData)
    bt_risk.protect(engine, policy)
    plain = engine.run()[0].analyzers.reportdata.record
    followed = run_variant(build, policy).record
    pd.testing.assert_frame_equal(plain.fills, followed.fills)
    pd.testing.assert_frame_equal(plain.bars, followed.bars)
    pd.testing.assert_frame_equal(plain.decisions, followed.decisions)


VERBS = st.sampled_from(["buy", "sell", "close", "order_target_percent"])
PLANS = st.lists(st.tuples(st.integers(5, 110), VERBS, st.integers(1, 900)), max_size=25)
POLICIES = [
    bt_risk.Policy(),
    bt_risk.Policy(action="pause", cooldown_bars=10, drawdown_limit=0.05),
    bt_risk.Policy(trigger="close", anchor="extreme", buffer=0.5, exposure_limit=0.01),
    without(bt_risk.Policy(risk_limit=0.002), "stop"),
    bt_risk.Policy(guards=(bt_risk.DailyLossLimit(0.005), bt_risk.CooldownGuard(5))),
]
WAYS = [
    {},
    {"exectype": bt.Order.Limit, "price": 97.0, "valid": datetime.timedelta(days=20)},
    {"exectype": bt.Order.StopTrail, "trailamount": 2.0},
    {"exectype": bt.Order.Stop, "price": 103.0},
]


@pytest.mark.full
@settings(max_examples=40, deadline=None)
@given(PLANS, st.integers(0, 50), st.sampled_from(POLICIES), st.sampled_from([0.0, 0.002]))
def test_the_parts_always_sum_to_the_difference(steps, seed, policy, commission):
    plan = []
    for bar, verb, size in steps:
        given_ = {"size": size, **WAYS[size % 4]} if verb in ("buy", "sell") else {}
        given_ |= {"target": size / 1000} if verb == "order_target_percent" else {}
        plan.append(order(bar, verb, data=size % 2, **given_))
    frames = random_walk(seed, 120, 0.03), random_walk(seed + 100, 120, 0.02)
    book = book_of(building(*frames, plan=tuple(plan), commission=commission), policy)
    assert (book.paper_trades["units"] >= 0).all()
    assert book.paper_trades["end"].isin(["stop", "exit", "re-entered", "end of data"]).all()
    assert book.paper_trades["pnl"].notna().all()


# -- one data, without a run -----------------------------------------------------------------------


def shadow_of(runs, policy):
    bare, protected = runs
    book = shadow_book(bare.record, protected.record, protected.order_log, policy)
    return exactly(book.ledger), exactly(book.paper_trades), repr(book.difference)


@pytest.mark.parametrize("seed", sliced(range(24), 4))
def test_bars_on_which_nothing_happens_can_be_passed_over(seed, monkeypatch):
    """Against the replay of every bar, with every commission added up again: to the last bit."""
    rng, plan = random.Random(seed), []
    for bar in sorted(rng.sample(range(5, 110), 18)):
        verb, size = (
            rng.choice(("buy", "sell", "close", "order_target_percent")),
            rng.randint(1, 900),
        )
        terms = {"size": size, **WAYS[size % 4]} if verb in ("buy", "sell") else {}
        terms |= {"target": size / 1000} if verb == "order_target_percent" else {}
        plan.append(order(bar, verb, data=size % 2, **terms))
    frames = random_walk(seed, 120, 0.03), random_walk(seed + 100, 120, 0.02).iloc[seed:]
    policy = POLICIES[seed % len(POLICIES)]
    build = building(*frames, plan=tuple(plan), commission=0.002 * (seed % 2))
    runs = run_variant(build, None), run_variant(build, policy)
    found = shadow_of(runs, policy)
    replay_every_bar(monkeypatch)
    assert shadow_of(runs, policy) == found


def test_a_limit_that_was_refused_fills_where_its_price_is_reached():
    rows = [(100, 101, 99, 100), (100, 101, 99, 100), (97, 98, 94, 95), (95, 105, 95, 104)]
    replay = replayed(
        rows, requested={0: [RequestedOrder(1, "limit", 96.0, 10.0, 0.0, 4.0, "rule")]}
    )
    (trade,) = replay.paper_trades
    assert (trade.opened, trade.entry, trade.end, trade.pnl) == (2, 96.0, "end of data", 80.0)
    # Nobody held it in the bare run: what is missed and what is residual cancel out.
    assert replay.differences == {SIZER_SIZES: 0.0, COMPOUNDING: 0.0, KNOCK_ON: 80.0}


@pytest.mark.parametrize(
    ("side", "kind", "price", "bar", "expected"),
    [
        (1, "market", 0, (97, 98, 94, 95), 97),
        (1, "limit", 98, (97, 98, 94, 95), 97),
        (1, "stop", 96, (95, 98, 94, 95), 96),
        (-1, "limit", 96, (95, 98, 94, 95), 96),
        (-1, "stop", 96, (95, 98, 94, 95), 95),
        (-1, "limit", 99, (95, 98, 94, 95), None),
    ],
)
def test_orders_on_paper_fill_like_those_of_the_broker(side, kind, price, bar, expected):
    request = RequestedOrder(side, kind, price, 10.0, 0.0, 4.0, "rule")
    replay = replayed([(95, 98, 94, 95), bar], requested={0: [request]})
    assert [trade.entry for trade in replay.paper_trades] == (
        [] if expected is None else [expected]
    )


def test_an_order_that_passes_later_replaces_its_paper_trade():
    rows = [(100, 101, 99, 100)] * 2 + [(100, 110, 100, 110), (110, 111, 109, 110)]
    request = RequestedOrder(1, "market", 0, 10.0, 0.0, 4.0, "rule")
    replay = replayed(
        rows,
        bare={1: [Fill(10, 100.0)]},
        protected={3: [Fill(10, 110.0)]},
        requested={0: [request], 2: [request._replace(allowed=10.0, rule="")]},
    )
    (trade,) = replay.paper_trades
    assert (trade.end, trade.exit, trade.pnl) == ("re-entered", 110.0, 100.0)
    assert not any(replay.differences.values())


@pytest.mark.parametrize("side", [1, -1])
def test_a_gap_goes_through_a_paper_stop(side):
    def mirrored(*row):
        return row if side > 0 else (200 - row[0], 200 - row[2], 200 - row[1], 200 - row[3])

    rows = [mirrored(100, 101, 99, 100)] * 2 + [mirrored(90, 91, 89, 90)]
    request = RequestedOrder(side, "market", 0, 1.0, 0.0, 4.0, "rule")
    replay = replayed(rows, requested={0: [request]}, stop_rule=PaperStop(2.0))
    (trade,) = replay.paper_trades
    assert (trade.end, trade.pnl) == ("stop", -10.0)


def test_the_first_stop_is_at_the_distance_that_the_order_was_judged_with():
    """2 below the fill, where twice the ATR would be 4 below."""
    rows = [(100, 101, 99, 100)] * 2 + [(100, 101, 97, 100)]
    request = RequestedOrder(1, "market", 0, 1.0, 0.0, 2.0, "rule")
    (trade,) = replayed(rows, requested={0: [request]}, stop_rule=PaperStop(2.0)).paper_trades
    assert (trade.end, trade.exit) == ("stop", 98.0)


def test_an_unknown_distance_means_no_stop_until_there_is_an_atr():
    rows = [(100, 101, 99, 100)] * 2 + [(90, 91, 89, 90)]
    request = RequestedOrder(1, "market", 0, 1.0, 0.0, math.nan, "rule")
    replay = replayed(rows, requested={0: [request]}, stop_rule=PaperStop(2.0), atr=math.nan)
    assert replay.paper_trades[0].end == "end of data"
