"""SignalGate and ConvictionScale: by hand, in every mode, and never above the policy."""

import math

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from helpers.scenarios import MODES, Script, bars, cerebro, flat, random_walk
from hypothesis import given, settings
from hypothesis import strategies as st

import bt_risk
from bt_risk import ConvictionScale, Policy, SignalGate
from bt_risk.errors import ParameterError
from bt_risk.rules.conviction import conviction_scale

CALM = bars(*flat(60))  # ATR 2, so that a stop is 4 away: 1 % of 100,000 is 250 units
EVER = "999d"


def day(bar):
    """Return the time of a bar, counted from 1."""
    return CALM.index[bar - 1]


def signals(*rows):
    return pd.DataFrame(rows, columns=["published", "score"])


def play(actions, table, *guards, ttl=EVER, mode=None, engine=None, run="runonce", **policy):
    engine = engine or cerebro(CALM)
    if table is not None:
        engine.adddata(bt_risk.SignalData(dataname=table, ttl=ttl), name="S")
    engine.addstrategy(Script, actions=actions)
    given = {"sizer": False, "exposure_limit": None, "trailing_stop": False} | policy
    bt_risk.protect(engine, Policy(guards=guards, **given), mode=mode or "enforce")
    return engine.run(**MODES[run])[0]


def ends(strategy):
    last = {row[1]: row for row in strategy.orders}
    return [(row[2], row[4], row[6]) for row in last.values()]


BUY = {30: lambda s: s.buy(size=100)}
SELL = {30: lambda s: s.sell(size=100)}


# -- SignalGate ----------------------------------------------------------------------------------


@pytest.mark.parametrize("run", MODES)
@pytest.mark.parametrize(("score", "action"), [(1, BUY), (-1, SELL)])
def test_an_entry_along_the_signal_passes(score, action, run):
    strategy = play(action, signals((day(20), score)), SignalGate(), run=run)
    assert ends(strategy) == [("Completed", 100 * score, "")]


@pytest.mark.parametrize("run", MODES)
@pytest.mark.parametrize(
    ("score", "action", "reason"),
    [
        (-63, BUY, "no long entry in D0: S is short, score -63"),
        (63, SELL, "no short entry in D0: S is long, score 63"),
        (0, BUY, "no long entry in D0: S is flat, score 0"),
    ],
)
def test_an_entry_against_the_signal_is_rejected(score, action, reason, run):
    strategy = play(action, signals((day(20), score)), SignalGate(), run=run)
    assert ends(strategy) == [("Rejected", 0, f"SignalGate: {reason}; at most 0 would pass")]


def test_without_a_signal_and_with_one_that_is_too_old_there_is_no_entry():
    young = play(BUY, signals((day(31), 90)), SignalGate())
    assert "SignalGate: no signal: S has had no signal yet" in ends(young)[0][2]
    old = play(BUY, signals((day(20), 90)), SignalGate(), ttl="9d")
    assert (
        "no signal: the last of S is 10 days, 0:00:00 old > ttl 9 days, 0:00:00" in ends(old)[0][2]
    )
    assert ends(play(BUY, signals((day(20), 90)), SignalGate(), ttl="10d"))[0][0] == "Completed"
    none = play(BUY, None, SignalGate())
    assert "no signal: D0 has no SignalData" in ends(none)[0][2]


def test_a_signal_grows_old_while_its_own_clock_stands_still():
    """D1 goes on for 20 bars; the last signal of D0 was fresh at the last bar of D0."""
    engine = cerebro(bars(*flat(40)), CALM)
    actions = {k: lambda s: s.buy(size=1) for k in (40, 42, 44)}
    table = signals((day(38), 90))
    strategy = play(
        actions, table, SignalGate(), ttl="4d", engine=engine, max_stale_bars=30, run="next"
    )
    statuses = [end[0] for end in ends(strategy)]
    assert statuses[2] == "Rejected"
    assert "old > ttl 4 days" in ends(strategy)[2][2]
    assert statuses[1] != "Rejected"


def test_exits_pass_without_a_signal_and_against_it():
    table = signals((day(25), 90), (day(31), -90))
    actions = BUY | {35: lambda s: s.sell(size=40), 50: lambda s: s.close()}
    strategy = play(actions, table, SignalGate(), ConvictionScale(), ttl="9d")
    assert [end[:2] for end in ends(strategy)] == [
        ("Completed", 100),
        ("Completed", -40),
        ("Completed", -60),
    ]


def test_an_order_that_reverses_closes_and_opens_nothing():
    table = signals((day(20), 90))
    strategy = play(BUY | {40: lambda s: s.sell(size=150)}, table, SignalGate())
    assert strategy.held[-1][0] == 0


def test_a_resting_entry_is_cancelled_once_the_signal_turns_or_is_gone():
    def rest(s):
        return s.buy(size=10, exectype=bt.Order.Limit, price=90.0)

    for table, ttl in (
        (signals((day(20), 90), (day(35), -5)), EVER),
        (signals((day(20), 90)), "14d"),
    ):
        strategy = play({30: rest}, table, SignalGate(), ttl=ttl)
        (end,) = ends(strategy)
        bar = [row[0] for row in strategy.orders if row[2] in ("Canceled", "Cancelled")]
        assert end[0] in ("Canceled", "Cancelled")
        assert bar in ([35], [36])


def test_only_the_names_that_are_listed_need_a_signal():
    table = signals((day(20), -90))
    engine = cerebro(CALM, CALM)
    buys = {30: lambda s: [s.buy(data=data, size=10) for data in s.datas[:2]]}
    strategy = play(buys, table, SignalGate(names=["D0"]), engine=engine, correlation_limit=None)
    assert [end[0] for end in ends(strategy)] == ["Rejected", "Completed"]


def test_of_two_feeds_of_signals_each_counts():
    engine = cerebro(CALM)
    engine.adddata(bt_risk.SignalData(dataname=signals((day(20), 80)), ttl=EVER), name="A")
    strategy = play(BUY, signals((day(20), -80)), SignalGate(), engine=engine)
    assert "S is short" in ends(strategy)[0][2]


def test_the_gate_does_not_see_the_bar_that_has_only_opened():
    """In cheat-on-open a strategy acts at the open: the signal of that bar's end is not known."""

    class AtOpen(Script):
        def next_open(self):
            if len(self.data) == 30:
                self.made.append(self.buy(size=10))

    found = {}
    for bar in (29, 30):
        engine = cerebro(CALM, cheat_on_open=True)
        table = signals((day(bar), 90))
        engine.adddata(bt_risk.SignalData(dataname=table, ttl=EVER), name="S")
        engine.addstrategy(AtOpen)
        bt_risk.protect(
            engine,
            Policy(guards=[SignalGate()], sizer=False, trailing_stop=False, exposure_limit=None),
        )
        found[bar] = ends(engine.run()[0])[0][0]
    assert found == {29: "Completed", 30: "Rejected"}


# -- ConvictionScale -----------------------------------------------------------------------------


@pytest.mark.parametrize("run", MODES)
@pytest.mark.parametrize(
    ("score", "units"), [(100, 250), (60, 125), (-60, 125), (28, 25), (20.4, 1)]
)
def test_risk_grows_with_the_score(score, units, run):
    """250 units are 1 % at the stop; (60 - 20) / 80 is one half."""
    actions = {30: lambda s: s.buy(size=900)}
    strategy = play(actions, signals((day(20), score)), ConvictionScale(), run=run)
    ((status, size, _),) = ends(strategy)
    assert (status, size) == ("Completed", units)


@pytest.mark.parametrize("score", [20, -20, 5, 0])
def test_a_weak_signal_opens_nothing(score):
    (end,) = ends(play(BUY, signals((day(20), score)), ConvictionScale()))
    assert end[0] == "Rejected"
    assert f"ConvictionScale: S scores {score}, not beyond s0 20" in end[2]


def test_a_direction_without_a_score_has_no_conviction():
    table = pd.DataFrame({"published": [day(20)], "direction": ["buy"]})
    (end,) = ends(play(BUY, table, ConvictionScale()))
    assert "ConvictionScale: no signal: S states no score" in end[2]
    assert ends(play(BUY, table, SignalGate()))[0][0] == "Completed"


def test_many_small_orders_are_no_way_around_it():
    actions = {bar: lambda s: s.buy(size=40) for bar in range(30, 40)}
    strategy = play(actions, signals((day(20), 60)), ConvictionScale())
    assert strategy.held[-1][0] == 125


def test_it_never_allows_more_than_the_policy():
    actions = {30: lambda s: s.buy(size=900)}
    whole = play(actions, signals((day(20), 100)), ConvictionScale(base=0.2))
    assert ends(whole)[0][1] == 250
    half = play(actions, signals((day(20), 60)), ConvictionScale(base=0.2))
    assert ends(half)[0][1] == 250  # half of 20 % is above the 1 % of the policy
    small = play(actions, signals((day(20), 60)), ConvictionScale(base=0.004))
    assert ends(small)[0][1] == 50


def test_the_limit_of_an_instrument_is_its_base():
    actions = {30: lambda s: s.buy(size=900)}
    facts = {"D0": {"risk_limit": 0.002}}
    strategy = play(actions, signals((day(20), 60)), ConvictionScale(), instruments=facts)
    assert ends(strategy)[0][1] == 25


def test_without_a_risk_limit_the_order_is_scaled():
    actions = {30: lambda s: s.buy(size=90)}
    found = play(actions, signals((day(20), 60)), ConvictionScale(), risk_limit=None)
    assert ends(found)[0][1] == 45
    assert "0.5000 of the size" in ends(found)[0][2]


def test_observe_changes_nothing_and_says_what_would_have_been():
    table = signals((day(20), -60))
    strategy = play(BUY, table, SignalGate(), ConvictionScale(), mode="observe")
    assert ends(strategy)[0][:2] == ("Completed", 100)
    lines = strategy.analyzers.riskjournal.get_analysis()["decisions"]
    assert [(d["rule"], d["action"]) for d in lines if d["data"] == "D0"] == [
        ("SignalGate", "reject")
    ]


FACTORS = st.floats(-100, 100, allow_nan=False)


@given(FACTORS, st.floats(0, 99))
def test_the_share_is_between_nothing_and_all_and_grows_with_the_score(score, s0):
    share = conviction_scale(score, s0)
    assert 0.0 <= share <= 1.0
    assert share == conviction_scale(-score, s0)
    assert share == conviction_scale(np.array([score]), s0)[0]
    assert share <= conviction_scale(min(100.0, abs(score) * 1.1 + 0.1), s0)


def test_the_share_by_hand():
    scores = np.array([0, 20, 21, 60, 100, -100, 100.1, math.nan])
    expected = [0, 0, 0.0125, 0.5, 1, 1, math.nan, math.nan]
    assert np.array_equal(conviction_scale(scores), expected, equal_nan=True)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.floats(-100, 100).map(lambda score: round(score, 3)))
def test_a_policy_with_it_opens_no_more_than_one_without(size, score):
    found = []
    for guards in ((), (ConvictionScale(),)):
        actions = {16: lambda s: s.buy(size=size + 1)}
        engine = cerebro(CALM[:18])
        found.append(play(actions, signals((day(9), score)), *guards, engine=engine).held[-1][0])
    plain, scaled = found
    assert scaled == math.floor(min(plain, 250 * conviction_scale(score)) + 1e-9)


# -- policy, file and words ----------------------------------------------------------------------


def test_a_file_names_both_and_reads_them_back(tmp_path):
    guards = (SignalGate(names=("BTC",)), ConvictionScale(0.005, 30.0), SignalGate())
    policy = Policy(guards=guards)
    path = tmp_path / "risk.toml"
    policy.to_toml(path)
    assert Policy.from_toml(path) == policy
    words = policy.describe().splitlines()[-3:]
    assert words == [
        "signals: no entry in BTC against the signal, and none without one",
        "conviction: risk up to 0.5 % of equity at a score of 100, nothing up to 30, in proportion "
        "between",
        "signals: no entry against the signal, and none without one",
    ]
    assert "up to the risk limit at" in ConvictionScale().describe()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ConvictionScale(base=1), "base must be below 0.5"),
        (lambda: ConvictionScale(base=-0.01), "base must be in"),
        (lambda: ConvictionScale(s0=100), r"s0 must be in \[0, 100\); got 100"),
        (lambda: ConvictionScale(s0=-1), r"s0 must be in \[0, 100\); got -1"),
        (lambda: ConvictionScale(s0=True), "s0 must be in"),
        (lambda: SignalGate(names="BTC"), "names must be a list of names of data feeds"),
        (lambda: SignalGate(names=[]), "names must be a list of names of data feeds"),
    ],
)
def test_a_parameter_out_of_range_raises(make, message):
    with pytest.raises(ParameterError, match=message):
        make()
    assert ConvictionScale(base=1, allow_extreme=True).base == 1


def test_random_runs_open_nothing_against_a_signal():
    """Over random walks and random scores every fill that opens lies along a fresh signal."""
    for seed in range(6):
        frame = random_walk(seed, 120, 0.02)
        rng = np.random.default_rng(seed)
        rows = [(frame.index[k], round(rng.uniform(-100, 100), 1)) for k in range(5, 115, 3)]

        def act(s, rng=rng):
            (s.buy if rng.random() < 0.5 else s.sell)(size=int(rng.integers(1, 40)))

        engine = cerebro(frame)
        strategy = play(
            dict.fromkeys(range(16, 118), act),
            signals(*rows),
            SignalGate(),
            ttl="2d",
            engine=engine,
        )
        held = [0, *(row[0] for row in strategy.held)]
        known = dict(rows)
        for bar in range(2, len(held)):
            grown = abs(held[bar]) > abs(held[bar - 1]) or held[bar] * held[bar - 1] < 0
            if grown:  # the order was judged at the close before
                ages = [known.get(frame.index[bar - 2 - ago]) for ago in (0, 1, 2)]
                score = next(one for one in ages if one is not None)
                assert score * held[bar] > 0
