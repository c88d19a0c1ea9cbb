"""Invariant 1: where nothing is limited, a run is the run of plain Backtrader, to the last bit."""

import itertools
import math

import backtrader as bt
import pytest
from helpers import random_market as everything
from helpers import recording
from helpers import scenarios as feeds
from helpers.recording import RandomTrader, market, record
from helpers.slices import sliced

import bt_risk

SEEDS = range(64)
MODES = list(feeds.MODES)


def gate(cerebro):
    cerebro.setbroker(bt_risk.RiskBroker(cerebro.broker))


def cap_none(cerebro):
    cerebro.setbroker(
        bt_risk.CorrelationCap(cerebro.broker, correlation_limit=None, exposure_limit=None)
    )


def cap_infinite(cerebro):
    cerebro.setbroker(
        bt_risk.CorrelationCap(cerebro.broker, correlation_limit=math.inf, exposure_limit=math.inf)
    )


def breaker(cerebro):
    cerebro.addanalyzer(bt_risk.DrawdownBreaker, drawdown_limit=None)


def reports(cerebro):
    cerebro.addanalyzer(bt_risk.PortfolioRisk)
    cerebro.addanalyzer(bt_risk.RiskJournal)


SETUPS = [
    (gate,),
    (cap_none,),
    (cap_infinite,),
    (breaker,),
    (reports,),
    *itertools.permutations((gate, cap_none, breaker, reports), 4),
]


def run(seed, setup=(), configure=None, mode=None, strategies=1, **params):
    cerebro = market(seed, mode or MODES[seed % len(MODES)])
    if configure is not None:
        configure(cerebro.broker)
    for add in setup:
        add(cerebro)
    for number in range(strategies):
        cerebro.addstrategy(RandomTrader, seed=seed + 1000 * number, **params)
    return record(cerebro, recording.OTHERS if seed % 2 else recording.ANALYZERS)


@pytest.mark.parametrize("seed", sliced(SEEDS, 7))
def test_a_run_without_limits_is_the_run_of_plain_backtrader(seed):
    setup = SETUPS[seed % len(SETUPS)]
    params = {"fractional": seed % 4 == 3, "strategies": 1 + (seed % 5 == 4)}
    bare = run(seed, **params)
    assert len(recording.rows(bare, "order")) > 10
    assert run(seed, setup, **params) == bare


def test_the_seeds_reach_every_kind_of_order_and_every_end_of_one():
    runs = [run(seed) for seed in range(0, 64, 3)]
    seen = set().union(*map(recording.statuses, runs))
    kinds = {what[3].strip("'") for one in runs for what in recording.rows(one, "order")}
    assert seen == {
        "Submitted",
        "Accepted",
        "Completed",
        "Canceled",
        "Margin",
        "Expired",
        "Rejected",  # children whose parent has ended Margin
    }
    assert kinds == {
        "Market",
        "Close",
        "Limit",
        "Stop",
        "StopLimit",
        "StopTrail",
        "StopTrailLimit",
    }
    assert all(recording.rows(one, "trade") for one in runs)


EACH_AND_ALL = [(gate,), (cap_none,), (breaker,), (breaker, cap_none, reports)]


@pytest.mark.parametrize(("mode", "setup"), sliced(itertools.product(MODES, EACH_AND_ALL), 3))
def test_every_setup_is_transparent_in_every_engine_mode(mode, setup):
    assert run(101, setup, mode=mode) == run(101, mode=mode)


CONFIGURATIONS = {
    "slippage": lambda b: b.set_slippage_perc(0.002, slip_open=True),
    "fixed slippage": lambda b: b.set_slippage_fixed(0.05, slip_open=True, slip_match=False),
    "commission": lambda b: b.setcommission(0.001),
    "leverage": lambda b: b.setcommission(0.0005, leverage=3.0),
    "interest": lambda b: b.setcommission(0.0005, interest=0.05, interest_long=True),
    "futures": lambda b: b.setcommission(2.0, margin=500.0, mult=5.0),
    "cheat on close": lambda b: b.set_coc(True),
    "partial fills": lambda b: b.set_filler(bt.fillers.FixedSize(size=3)),
    "partial fills by volume": lambda b: b.set_filler(bt.fillers.FixedBarPerc(perc=0.5)),
    "no cash check": lambda b: b.set_checksubmit(False),
    "fund mode": lambda b: b.set_fundmode(True, 50.0),
    "no short cash": lambda b: b.set_shortcash(False),
}


@pytest.mark.parametrize("name", sliced(CONFIGURATIONS, 5))
def test_what_is_configured_on_the_broker_works_behind_the_gate(name):
    for seed, setup in ((201, (gate,)), (202, (cap_none, breaker))):
        bare = run(seed, (), CONFIGURATIONS[name])
        assert run(seed, setup, CONFIGURATIONS[name]) == bare
        assert run(seed, (), None) != bare


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_what_is_configured_on_the_gate_reaches_the_broker(name):
    def through(cerebro):
        CONFIGURATIONS[name](cerebro.broker)

    assert run(203, (gate, through)) == run(203, (), CONFIGURATIONS[name])


@pytest.mark.parametrize("seed", sliced(range(301, 304), 3))
def test_strategies_that_share_a_broker_see_what_they_would_see_without_the_gate(seed):
    bare = run(seed, strategies=3)
    assert len(bare) == 3
    assert run(seed, (cap_none, reports), strategies=3) == bare


def optimise(setup, maxcpus):
    cerebro = market(401)
    cerebro._exactbars = 0
    cerebro.p.maxcpus = maxcpus
    for add in setup:
        add(cerebro)
    cerebro.optstrategy(RandomTrader, seed=range(3))
    return record(cerebro)


@pytest.mark.parametrize("maxcpus", [1, 2])
def test_optimisations_are_transparent(maxcpus):
    bare = optimise((), maxcpus)
    assert len(bare) == 3
    assert optimise((gate, breaker, reports), maxcpus) == bare
    assert optimise((cap_none,), maxcpus) == bare


def test_deposits_and_withdrawals_through_the_gate_are_transparent():
    class Saver(RandomTrader):
        def next(self):
            if len(self) in (10, 30):
                self.broker.add_cash(5000.0 if len(self) == 10 else -3000.0)
            super().next()

    def go(*setup):
        cerebro = market(402, "runonce")
        for add in setup:
            add(cerebro)
        cerebro.addstrategy(Saver, seed=402)
        return record(cerebro)

    assert go(gate) == go(cap_none, breaker) == go()


def test_cheat_on_open_is_transparent():
    class AtTheOpen(RandomTrader):
        def next(self):
            pass

        def next_open(self):
            super().next()

    def go(setup):
        cerebro = market(501, "runonce")
        cerebro.p.cheat_on_open = True
        for add in setup:
            add(cerebro)
        cerebro.addstrategy(AtTheOpen, seed=501)
        return record(cerebro)

    bare = go(())
    assert "Completed" in recording.statuses(bare)
    assert go((gate,)) == bare
    assert go((breaker, cap_none)) == bare


def test_resampled_and_replayed_feeds_are_transparent():
    def go(setup, kind):
        cerebro = market(502, "runonce", count=1)
        getattr(cerebro, kind)(cerebro.datas[0], timeframe=bt.TimeFrame.Weeks, name="weekly")
        for add in setup:
            add(cerebro)
        cerebro.addstrategy(RandomTrader, seed=502)
        return record(cerebro, recording.OTHERS)  # the others need a bar of every data

    for kind in ("resampledata", "replaydata"):
        bare = go((), kind)
        assert len(recording.rows(bare, "order")) > 10
        assert go((gate, breaker), kind) == bare


def test_a_second_run_of_the_same_cerebro_equals_the_first():
    def twice(setup):
        cerebro = market(503, "runonce")
        for add in setup:
            add(cerebro)
        cerebro.addstrategy(RandomTrader, seed=503)
        first = record(cerebro, recording.OTHERS)
        cerebro.analyzers = cerebro.analyzers[: -1 - len(recording.OTHERS)]
        return first, record(cerebro, recording.OTHERS)

    first, second = twice((cap_none, breaker))
    assert second == first
    assert first == run(503, mode="runonce")


# -- every mode and feature -----------------------------------------------------------------------

WORLDS = range(1000, 1140)


def observe(cerebro):
    tight = bt_risk.Policy(risk_limit=1e-6, notional_limit=1e-6, drawdown_limit=1e-3)
    bt_risk.protect(cerebro, tight, mode="observe")


@pytest.mark.parametrize("seed", sliced(WORLDS, 19))
def test_in_every_mode_and_with_every_feature_nothing_changes(seed):
    world = everything.World(seed)
    bare = everything.play(world)
    adds = (gate, cap_none, cap_infinite)[seed % 3], breaker, reports
    assert everything.play(world, adds[:: 1 - 2 * (seed % 2)]) == bare, world.features
    assert everything.play(world, (observe,)) == bare, world.features


def test_the_worlds_hold_every_mode_and_feature_more_than_once():
    drawn = [feature for seed in WORLDS for feature in everything.World(seed).features]
    names = {f"{key}={value}" for mode in everything.MODES for key, value in mode.items()}
    named = (*everything.SHAPES, *everything.EXTRAS)
    names |= {function.__name__.strip("_") for function in named}
    names |= {*everything.BROKERS, "timer", "cheating timer", "orders at the open"}
    assert {name for name in names if drawn.count(name) < 2} == set()


def test_most_worlds_run_to_their_end_and_trade():
    runs = [everything.play(everything.World(seed)) for seed in WORLDS[::7]]
    done = [run for run, _ in runs if not isinstance(run, type)]
    assert len(done) > 0.85 * len(runs)
    traded = [one for one in done if len(recording.rows(one, "trade")) > 5]
    assert len(traded) > 0.7 * len(done)
    seen = set().union(*map(recording.statuses, done))
    assert seen > {"Partial", "Completed", "Canceled", "Margin", "Expired", "Rejected"}
    tables = [table for run, table in runs if not isinstance(run, type)]
    assert all(table.count("\n") > 20 for table in tables)


# -- observe mode ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", sliced(range(551, 571), 7))
def test_observing_changes_nothing_however_tight_the_policy(seed):
    params = {"fractional": seed % 4 == 3, "strategies": 1 + (seed % 5 == 4)}
    assert run(seed, (observe,), **params) == run(seed, **params)


def test_the_policy_that_only_observes_would_have_refused():
    def enforce(cerebro):
        tight = bt_risk.Policy(risk_limit=1e-6, notional_limit=1e-6, drawdown_limit=1e-3)
        bt_risk.protect(cerebro, tight)

    assert run(551, (enforce,)) != run(551)


def test_observing_an_optimisation_changes_nothing():
    assert optimise((observe,), 1) == optimise((), 1)


# -- components with a limit that nothing reaches -------------------------------------------------


def same_until_a_clamp(bare, guarded):
    """Return whether two runs are one up to the first order that would open what nobody reviewed.

    The random traders let exits rest whose position another order closes. Plain Backtrader opens a
    position with them; behind a finite limit they fill for what they close, wait for an entry that
    is on its way, or end Canceled.
    """
    for one, other in zip(bare[0][0], guarded[0][0], strict=False):
        if one != other:
            # All notifications of an order share its info: the first has the reason of its end.
            ended = other[2][2] in ("'Partial'", "'Canceled'") or "execution: " in repr(other[2])
            filled = one[1] == "'order'" and one[2][2] in ("'Partial'", "'Completed'")
            waits = filled and one not in guarded[0][0]
            return waits or (other[1] == "'order'" and ended)
    return guarded == bare


def out_of_reach(cerebro):
    cerebro.addanalyzer(bt_risk.DrawdownBreaker, drawdown_limit=0.5, equity=lambda: 1.0)


@pytest.mark.parametrize("seed", sliced(range(601, 616), 7))
def test_a_breaker_that_never_trips_changes_nothing(seed):
    bare = run(seed, rich=True)
    assert "Margin" not in recording.statuses(bare)
    assert same_until_a_clamp(bare, run(seed, (out_of_reach,), rich=True))


@pytest.mark.parametrize("seed", sliced(range(631, 646), 7))
def test_a_breaker_that_never_trips_lets_entries_end_margin(seed):
    """An unaffordable entry stays one; what parts the runs, if anything, is a rescued exit."""
    bare, guarded = run(seed), run(seed, (out_of_reach, reports))
    for one, other in zip(bare[0][0], guarded[0][0], strict=False):
        if one != other:
            rescued = one[1:2] + one[2][2:3] == ["'order'", "'Margin'"]
            assert (rescued and other[2][2] == "'Accepted'") or same_until_a_clamp(bare, guarded)
            break
    else:
        assert guarded == bare


def huge_cap(cerebro):
    cerebro.setbroker(
        bt_risk.CorrelationCap(
            cerebro.broker,
            correlation_limit=None,
            exposure_limit=1e9,
            exposure_unit="notional",
        )
    )


@pytest.mark.parametrize("seed", sliced(range(651, 661), 5))
def test_a_cap_that_nothing_reaches_changes_nothing(seed):
    bare = run(seed, rich=True)
    assert same_until_a_clamp(bare, run(seed, (huge_cap,), rich=True))


def far_stop(cerebro):
    cerebro.addobserver(bt_risk.ATRTrailingStop, atr_multiple=500.0, atr_period=2)


@pytest.mark.parametrize("seed", sliced(range(671, 689), 7))
def test_until_a_protective_stop_fills_nothing_of_the_user_changes(seed):
    """Before the bar of the first fill of ours all is as without; most runs never have one."""
    bare, guarded = run(seed, rich=True), run(seed, (far_stop,), rich=True)
    ours = [row for row in guarded[0][0] if "ATRTrailingStop" in repr(row[2])]
    assert {what[2].strip("'") for _, _, what in ours} <= {"Partial", "Completed"}
    filled = [bar for bar, _, _ in ours]
    if not filled or same_until_a_clamp(bare, guarded):
        assert same_until_a_clamp(bare, guarded)
        return
    before = [[row for row in one[0][0] if int(row[0]) < int(filled[0])] for one in (guarded, bare)]
    assert before[0] == before[1]


@pytest.mark.parametrize("seed", sliced(range(701, 704), 3))
def test_all_of_them_out_of_reach_change_nothing_in_any_order(seed):
    bare = run(seed, rich=True, brackets=False)
    for order in itertools.permutations((huge_cap, far_stop, out_of_reach)):
        assert same_until_a_clamp(bare, run(seed, order, rich=True, brackets=False))


# -- errors ---------------------------------------------------------------------------------------

MISUSE = {
    "a stop that trails nothing": lambda s: s.sell(size=1, exectype=bt.Order.StopTrail),
    "an order for a data that is none": lambda s: s.buy(data="nobody", size=1),
    "a bracket without a size": lambda s: (s.setsizer(_Nothing()), s.buy_bracket(price=100.0)),
    "an expiry that is no date": lambda s: s.buy(size=1, valid="tomorrow"),
    "a size that is text": lambda s: s.buy(size="ten"),
    "an order type that does not exist": lambda s: s.buy(size=1, exectype="limit"),
    "an unknown oco": lambda s: s.buy(size=1, oco="order"),
    "a parent that is no order": lambda s: s.buy(size=1, parent="order"),
    "cancel of nothing": lambda s: s.cancel(None),
    "a filler that raises": lambda s: (s.broker.set_filler(lambda *given: 1 / 0), s.buy(size=1)),
    "cash that is text": lambda s: s.broker.add_cash("much"),
    "history of a day that is none": lambda s: s.broker.add_order_history([["soon", 1, 1.0]], True),
    "history of a data that is none": lambda s: s.broker.add_order_history(
        [["2020-01-01", 1, 1.0, "nobody"]], True
    ),
    "a commission of another data": lambda s: (
        s.broker.setcommission(margin="x", mult=2.0),
        s.buy(size=1),
    ),
}


class _Nothing(bt.Sizer):
    def _getsizing(self, comminfo, cash, data, isbuy):
        return 0


def outcome(action, setup):
    cerebro = market(801, "runonce")
    for add in setup:
        add(cerebro)
    cerebro.addstrategy(feeds.Script, actions={5: action})
    try:
        (strategy,) = cerebro.run()
    except Exception as error:
        return type(error), str(error)
    return [row[2:] for row in strategy.orders], strategy.held


@pytest.mark.parametrize("name", MISUSE)
def test_where_bare_backtrader_raises_the_gate_raises_the_same(name):
    bare = outcome(MISUSE[name], ())
    assert outcome(MISUSE[name], (gate,)) == bare
    assert outcome(MISUSE[name], (cap_none, breaker)) == bare


# -- the harness can fail -------------------------------------------------------------------------


def test_the_harness_sees_one_order_that_is_larger_by_one_unit():
    class Clumsy(bt_risk.RiskBroker):
        def buy(self, owner, data, size, *args, **kwargs):
            return super().buy(owner, data, size + (len(data) == 20), *args, **kwargs)

    def clumsy(cerebro):
        cerebro.setbroker(Clumsy(cerebro.broker))

    assert any(run(seed, (clumsy,)) != run(seed) for seed in range(901, 906))
    worlds = [everything.World(seed) for seed in WORLDS[:5]]
    assert any(everything.play(one, (clumsy,)) != everything.play(one) for one in worlds)
    assert all(run(seed, (gate,)) == run(seed) for seed in range(901, 906))


def test_the_harness_sees_one_notification_that_is_late():
    class Late(bt_risk.RiskBroker):
        def get_notification(self):
            if len(self._notifications) == 3:
                self._notifications.rotate(1)
            return super().get_notification()

    def late(cerebro):
        cerebro.setbroker(Late(cerebro.broker))

    assert any(run(seed, (late,)) != run(seed) for seed in range(911, 916))
