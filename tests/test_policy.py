"""Policy and protect: the whole policy in one line, on a strategy that stays as it is."""

import dataclasses
import math
import pickle

import backtrader as bt
import pandas as pd
import pytest
from helpers.scenarios import MODES, Plan, Tape, bars, cerebro, flat, optimised, tape_of, taped

import bt_risk
from bt_risk.errors import ParameterError

NAN = math.nan
CALM = bars(*flat(10))  # ATR 2, the stop 4 away: 1 % of 100,000 is 250 units
SHORT = bt_risk.Policy(atr_period=3)


def order(bar, method, **arguments):
    return bar, method, arguments


def protected(*frames, policy=SHORT, cash=100_000.0, **kwargs):
    engine = cerebro(*frames, cash=cash)
    bt_risk.protect(engine, policy, **kwargs)
    return engine


def only(**fields):
    """Return a policy in which every limit is off but the ones given."""
    off = dict.fromkeys(
        ("risk_limit", "notional_limit", "exposure_limit", "correlation_limit", "drawdown_limit")
    )
    return bt_risk.Policy(**({"atr_period": 3} | off | fields))


def sizes(result):
    return [fill[2] for fill in tape_of(result)["fills"]]


def decisions(result):
    return result.analyzers.riskjournal.get_analysis()["decisions"]


# -- one line ------------------------------------------------------------------------------------

CRASH = bars(*flat(6), (100, 101, 99, 100), (97, 98, 90, 91), *flat(3, price=91))


@pytest.mark.parametrize("mode", MODES)
def test_one_line_sizes_and_stops_an_unchanged_strategy(mode):
    """250 units at 100; the stop at 96 is hit in bar 8."""
    tape = tape_of(taped(protected(CRASH), [order(5, "buy")], mode))
    assert tape["fills"] == [(6, "D0", 250, 100.0), (8, "D0", -250, 96.0)]


def test_the_stop_is_that_of_the_policy():
    """With trigger="close" the position leaves at the open after the close beyond its stop."""
    policy = bt_risk.Policy(atr_period=3, trigger="close")
    tape = tape_of(taped(protected(CRASH, policy=policy), [order(5, "buy")]))
    assert tape["fills"] == [(6, "D0", 250, 100.0), (9, "D0", -250, 91.0)]


def test_an_explicit_size_is_trimmed_to_the_risk_per_trade():
    strategy = taped(protected(CALM), [order(5, "buy", size=1000)])
    assert sizes(strategy) == [250]
    (line,) = [d for d in decisions(strategy) if d["action"] == "trim"]
    assert (line["rule"], line["requested"], line["allowed"]) == ("RiskPerTrade", 1000, 250)
    assert line["measured"] == pytest.approx(0.04)
    assert line["limit"] == 0.01
    assert line["reason"] == "RiskPerTrade: 0.0400 of equity > risk_limit 0.0100"


def test_many_small_orders_do_not_walk_around_the_risk_per_trade():
    plan = [order(bar, "buy", size=100) for bar in (4, 5, 6, 7)]
    assert sizes(taped(protected(CALM), plan)) == [100, 100, 50]


def test_order_target_percent_on_every_bar_does_not_either():
    plan = [order(bar, "order_target_percent", target=0.9) for bar in range(4, 9)]
    assert sum(sizes(taped(protected(CALM), plan))) == 250


@pytest.mark.parametrize(
    ("policy", "units"),
    [
        (only(risk_limit=0.02), 500),
        (only(notional_limit=0.3), 300),
        (only(exposure_limit=0.03), 750),
        (only(exposure_limit=0.03, exposure_unit="notional"), 30),
        (only(risk_limit=0.02, atr_multiple=4.0), 250),
        (only(risk_limit=0.02, instruments={"D0": {"risk_limit": 0.005}}), 125),
        (only(risk_limit=0.02, instruments={"D0": {"step": 60}}), 480),
        (only(), 900),
    ],
)
def test_each_limit_alone_cuts_to_its_own_size(policy, units):
    assert sizes(taped(protected(CALM, policy=policy), [order(5, "buy", size=900)])) == [units]


def test_a_risk_limit_of_one_instrument_counts_without_one_for_all():
    policy = only(instruments={"D0": {"risk_limit": 0.005}})
    assert sizes(taped(protected(CALM, policy=policy), [order(5, "buy", size=900)])) == [125]


def test_article_row_10_exposure_and_risk_are_two_units():
    """1 % at risk is 250 units, a quarter of equity held: a 5 % cap in risk lets it pass.

    Read as notional, as the article may be, the same 5 % would allow 50 units, 0.2 % at risk.
    """
    risk = only(risk_limit=0.01, exposure_limit=0.05)
    notional = only(risk_limit=0.01, exposure_limit=0.05, exposure_unit="notional")
    assert risk.exposure_unit == "risk"
    assert sizes(taped(protected(CALM, policy=risk), [order(5, "buy", size=900)])) == [250]
    assert sizes(taped(protected(CALM, policy=notional), [order(5, "buy", size=900)])) == [50]


def test_the_defaults_are_those_of_the_five_rules():
    policy = bt_risk.Policy()
    assert (policy.risk_limit, policy.atr_multiple, policy.atr_period) == (0.01, 2.0, 14)
    assert (policy.atr_floor, policy.notional_limit) == (0.5, 1.0)
    assert (policy.kelly_scale, policy.kelly_limit) == (0.5, 0.02)
    assert (policy.exposure_limit, policy.exposure_unit) == (0.05, "risk")
    assert (policy.correlation_limit, policy.window) == (0.7, 252)
    assert policy.drawdown_limit == 0.10


def test_kelly_of_2_percent_is_cut_to_1_percent():
    history = tuple([1.5] * 55 + [-1.0] * 45)
    free = only(history=history)
    assert sizes(taped(protected(CALM, policy=free), [order(5, "buy")])) == [500]
    ruled = only(history=history, risk_limit=0.01)
    assert sizes(taped(protected(CALM, policy=ruled), [order(5, "buy")])) == [250]


def test_the_breaker_of_the_policy_ends_the_run():
    """900 units, 11 points down: 9.9 %; 12 points: 10.8 %. No stop is near (20 x 2 = 40)."""
    policy = only(drawdown_limit=0.10, atr_multiple=20.0)
    rows = [*flat(6), (100, 100, 89, 89), (89, 89, 88, 88), *flat(4, price=88)]
    strategy = taped(protected(bars(*rows), policy=policy), [order(4, "buy", size=900)])
    assert sizes(strategy) == [900, -900]
    assert len(tape_of(strategy)["values"]) == 9
    assert strategy.analyzers.drawdownbreaker.get_analysis()["flattened"]


# -- whatever broker is there --------------------------------------------------------------------


def test_a_broker_set_after_protect_is_gated():
    engine = protected(CALM)
    engine.setbroker(bt.brokers.BackBroker(cash=50_000.0))
    assert sizes(taped(engine, [order(5, "buy", size=400)])) == [125]


def test_a_cap_set_after_protect_is_joined():
    engine = protected(CALM, policy=only(risk_limit=0.02))
    cap = bt_risk.CorrelationCap(engine.broker, correlation_limit=None, exposure_limit=0.01)
    engine.setbroker(cap)
    assert sizes(taped(engine, [order(5, "buy", size=900)])) == [250]


class Keeps(bt.Strategy):
    """Keeps a reference to the broker before the run begins."""

    params = {"plan": ()}

    def __init__(self):
        self.mine = self.broker

    def next(self):
        if len(self) == 5:
            self.mine.buy(self, self.data, 1000)


def test_a_broker_kept_in_init_is_gated():
    assert sizes(taped(protected(CALM), strategy=Keeps)) == [250]


@pytest.mark.parametrize("set_before", [True, False])
def test_the_cerebro_has_its_own_broker_again_after_the_run(set_before):
    engine = cerebro(CALM)
    own = engine.broker
    bt_risk.protect(engine, SHORT)
    if not set_before:
        own = bt.brokers.BackBroker(cash=100_000.0)
        engine.setbroker(own)
    taped(engine, [order(5, "buy")])
    assert engine.broker is own
    assert not {"_try_exec", "_execute", "submit"} & set(vars(own))
    assert own.getposition(engine.datas[0]).size == 250


def test_settings_of_the_broker_after_protect_reach_it():
    engine = protected(CALM)
    engine.broker.setcash(10_000.0)
    engine.broker.setcommission(commission=0.01)
    strategy = taped(engine, [order(5, "buy")])
    assert sizes(strategy) == [25]
    assert engine.broker.getcash() == pytest.approx(10_000 - 25 * 101)


# -- whatever sizer is there ---------------------------------------------------------------------


class InInit(Plan):
    """Sets a sizer in ``__init__``."""

    def __init__(self):
        super().__init__()
        self.setsizer(bt.sizers.FixedSize(stake=9))


class InStart(Plan):
    """Sets a sizer in ``start``."""

    def start(self):
        self.setsizer(bt.sizers.FixedSize(stake=9))


@pytest.mark.parametrize("strategy", [InInit, InStart])
def test_a_sizer_of_the_strategy_stays(strategy):
    run = taped(protected(CALM), [order(5, "buy")], strategy=strategy)
    assert sizes(run) == [9]


@pytest.mark.parametrize(("stake", "filled"), [(1, 1), (7, 7), (1000, 250)])
def test_a_sizer_of_the_cerebro_stays_and_is_trimmed(stake, filled):
    engine = protected(CALM)
    engine.addsizer(bt.sizers.FixedSize, stake=stake)
    assert sizes(taped(engine, [order(5, "buy")])) == [filled]


def test_the_journal_says_once_where_sizes_come_from():
    notes = []
    for stake in (None, 7):
        engine = protected(CALM)
        if stake:
            engine.addsizer(bt.sizers.FixedSize, stake=stake)
        strategy = taped(engine, [order(5, "buy"), order(7, "buy")])
        notes += [d["reason"] for d in decisions(strategy) if d["rule"] == "protect"]
    assert notes == [
        "sizes come from HalfKellySizer: the strategy had the default of one unit",
        "sizes come from FixedSize, and the gate trims them",
    ]


def test_a_sizer_for_one_of_two_strategies_leaves_the_other_the_default():
    engine = protected(CALM)
    first = engine.addstrategy(Plan, plan=[order(5, "buy")])
    engine.addstrategy(InInit, plan=[])
    engine.addsizer_byidx(first, bt.sizers.FixedSize, stake=4)
    third = engine.addstrategy(Keeps)
    engine.addanalyzer(Tape, _name="tape")
    runs = engine.run()
    assert sizes(runs[first]) == [4]
    assert type(runs[third].getsizer()) is bt_risk.HalfKellySizer


# -- calls that cannot be right ------------------------------------------------------------------


def test_protecting_twice_raises():
    with pytest.raises(ParameterError, match="protected once"):
        bt_risk.protect(protected(CALM))


@pytest.mark.parametrize("policy", [[("risk_limit", 0.01)], 0.01, bt_risk.Policy])
def test_a_policy_that_is_none_raises(policy):
    with pytest.raises(ParameterError, match="policy must be a bt_risk.Policy"):
        bt_risk.protect(cerebro(CALM), policy)


def test_facts_of_a_data_that_is_not_there_raise():
    policy = dataclasses.replace(SHORT, instruments={"BTC": {"step": 1e-5}})
    with pytest.raises(ParameterError, match=r"named after a data feed of this Cerebro \(D0\)"):
        taped(protected(CALM, policy=policy))


FRACTION = "in (0, 1]"
OR_NONE = "in (0, 1], or None for no limit"
POSITIVE_OR_NONE = "positive, or None for no limit"
WHOLE = "a whole number of at least 1"
BAD = [
    ({"risk_limit": 1.5}, OR_NONE),
    ({"risk_limit": 0}, POSITIVE_OR_NONE),
    ({"costs_in_risk": 1}, "True or False"),
    ({"slippage": 1.5, "costs_in_risk": True}, "in [0, 1]"),
    ({"notional_limit": -1}, POSITIVE_OR_NONE),
    ({"exposure_limit": 0}, POSITIVE_OR_NONE),
    ({"gross_limit": 0}, POSITIVE_OR_NONE),
    ({"net_limit": -0.1}, POSITIVE_OR_NONE),
    ({"position_limit": NAN}, POSITIVE_OR_NONE),
    ({"groups": ["BTC", "ETH"]}, "a dict of lists of data names by name of the group"),
    ({"groups": {"majors": []}}, "a dict of lists of data names by name of the group"),
    ({"groups": {"majors": "BTC"}}, "a dict of lists of data names by name of the group"),
    (
        {"groups": None, "group_limit": 0.03},
        'given with group_limit, as {"majors": ["BTC", "ETH"]}',
    ),
    ({"group_limit": 0}, POSITIVE_OR_NONE),
    ({"exposure_unit": "vol"}, "one of 'risk', 'notional'"),
    ({"on_exposure": "drop"}, "one of 'trim', 'reject'"),
    ({"correlation_limit": 70}, OR_NONE),
    ({"window": 10}, "a whole number of at least 60"),
    ({"min_periods": 1}, "a whole number of at least 2"),
    ({"on_correlation": "drop"}, "one of 'reject', 'trim'"),
    ({"correlated_scale": 1}, "in (0, 1)"),
    ({"hysteresis": -0.1}, "zero or more, and finite"),
    ({"hysteresis": 0.7}, "below correlation_limit, which is 0.7"),
    ({"correlation_estimator": "mean"}, "one of 'rolling', 'ewm', 'ledoit-wolf'"),
    ({"halflife": 20}, 'None for any estimator but "ewm"'),
    ({"halflife": None, "correlation_estimator": "ewm"}, "positive and finite"),
    ({"multi_bar": 0}, WHOLE),
    ({"downside": 1}, "True or False"),
    ({"max_stale_bars": 0}, WHOLE),
    ({"bar_jump": 0}, "positive, or None for no limit"),
    ({"volatility_limit": 0}, POSITIVE_OR_NONE),
    ({"gap_limit": 3}, OR_NONE),
    ({"gap_floor": 0.02}, "0 without gap_limit"),
    ({"entry_stop": "now"}, "one of 'next bar', 'attached'"),
    ({"on_volatility": "drop"}, "one of 'trim', 'reject'"),
    ({"periods_per_year": 0}, "positive and finite"),
    ({"unknown": "pass"}, "one of 'refuse', 'allow'"),
    ({"drawdown_limit": 10}, OR_NONE),
    ({"action": "halt"}, "one of 'stop', 'pause'"),
    ({"flatten": "no"}, "True or False"),
    ({"cooldown_bars": 3}, "None with action='stop'"),
    ({"rearm_at": "recovery"}, "'rebase' with flatten=True"),
    ({"lifetime_limit": 2}, OR_NONE),
    ({"allow_extreme": 1}, "True or False"),
    ({"taper_from": 0.2}, "below drawdown_limit"),
    ({"confirmations": 0}, WHOLE),
    ({"atr_period": 0}, WHOLE),
    ({"atr_multiple": NAN}, "positive and finite"),
    ({"anchor": "low"}, "one of 'close', 'extreme', 'high'"),
    ({"buffer": -1}, "zero or more, and finite"),
    ({"trigger": "open"}, "one of 'intrabar', 'close'"),
    ({"drawdown_trigger": "open"}, "one of 'close', 'intrabar'"),
    ({"min_step": -1}, "zero or more, and finite"),
    ({"kelly_scale": 2}, FRACTION),
    ({"kelly_limit": 2}, FRACTION),
    ({"lookback": 50}, "a whole number of at least 100"),
    ({"min_trades": 0}, WHOLE),
    ({"warmup_risk": 1.2}, FRACTION),
    ({"probe_risk": -1}, "in [0, 1]"),
    ({"recalculate": "yearly"}, "one of 'weekly', 'daily', 'monthly', 'trade'"),
    ({"estimator": "mean"}, "one of 'two-point', 'empirical'"),
    ({"confidence": 1}, "in (0, 1)"),
    ({"history": (NAN,)}, "finite multiples of the risk taken (R)"),
    ({"win_rate": 55, "payoff_ratio": 1}, "in [0, 1]"),
    ({"payoff_ratio": 0, "win_rate": 0.5}, "positive and finite"),
    ({"pool": "all"}, "one of 'strategy', 'data'"),
    ({"atr_floor": -1}, "zero or more, and finite"),
    ({"trailing_stop": None}, "True or False"),
    ({"sizer": "half Kelly"}, "True or False"),
]


@pytest.mark.parametrize(("given", "constraint"), BAD, ids=[next(iter(g)) for g, _ in BAD])
def test_every_field_is_checked_when_the_policy_is_made(given, constraint):
    param = next(iter(given))
    with pytest.raises(ParameterError) as caught:
        bt_risk.Policy(**given)
    assert (caught.value.param, caught.value.constraint) == (param, constraint)
    assert repr(given[param]) in str(caught.value)


# Percent that were written as numbers, and the first value that is taken for that.
EXTREMES = {
    "risk_limit": (1, 0.5),
    "kelly_limit": (1, 0.5),
    "warmup_risk": (1, 0.5),
    "exposure_limit": (5, 0.5),
    "gross_limit": (10, 0.5),
    "net_limit": (3, 0.5),
    "position_limit": (2, 0.5),
    "drawdown_limit": (1, 1),
    "lifetime_limit": (1, 1),
}


@pytest.mark.parametrize("name", EXTREMES)
def test_percent_as_a_number_is_refused_with_the_way_to_write_it(name):
    wrong, first = EXTREMES[name]
    for value in (wrong, first):
        with pytest.raises(ParameterError, match=f"Policy: {name} must be below") as caught:
            bt_risk.Policy(**{name: value})
        assert "Write 0.01 for 1 %, or add allow_extreme=True if you mean it." in str(caught.value)
        assert getattr(bt_risk.Policy(**{name: value}, allow_extreme=True), name) == value
    bt_risk.Policy(**{name: first - 0.01})


@pytest.mark.parametrize("name", ["exposure_limit", "gross_limit", "net_limit", "position_limit"])
def test_notional_limits_may_be_above_equity(name):
    policy = bt_risk.Policy(**{name: 5.0}, exposure_unit="notional")
    assert getattr(policy, name) == 5.0


@pytest.mark.parametrize(
    "make",
    [
        lambda **more: bt_risk.CorrelationCap(exposure_limit=5, **more),
        lambda **more: taped(_breaker(drawdown_limit=1, **more), []),
        lambda **more: taped(_sizer(kelly_limit=1, **more), []),
    ],
)
def test_so_are_those_of_the_components(make):
    with pytest.raises(ParameterError, match="Write 0.01 for 1 %"):
        make()
    make(allow_extreme=True)


def _breaker(**params):
    engine = cerebro(CALM)
    engine.addanalyzer(bt_risk.DrawdownBreaker, **params)
    return engine


def _sizer(**params):
    engine = cerebro(CALM)
    engine.addsizer(bt_risk.HalfKellySizer, **params)
    return engine


def test_an_extreme_policy_is_what_it_says():
    policy = only(risk_limit=1.0, allow_extreme=True)
    assert sizes(taped(protected(CALM, policy=policy), [order(5, "buy", size=900)])) == [900]


def test_the_table_above_has_every_field():
    fields = {field.name for field in dataclasses.fields(bt_risk.Policy)}
    assert {next(iter(given)) for given, _ in BAD} | {"instruments", "guards"} == fields


def test_bad_instrument_facts_raise_when_the_policy_is_made():
    with pytest.raises(ParameterError, match="facts named"):
        bt_risk.Policy(instruments={"D0": {"stepp": 1}})


def test_a_misspelt_field_raises():
    with pytest.raises(TypeError, match="risk_limt"):
        bt_risk.Policy(risk_limt=0.01)


def test_a_policy_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SHORT.risk_limit = 0.5


# -- results -------------------------------------------------------------------------------------


@pytest.mark.parametrize("maxcpus", [1, 2])
def test_an_optimisation_gives_the_same_readable_results(maxcpus):
    plans = [[order(5, "buy", size=1000)], [], [order(5, "sell")]]
    single = [taped(protected(CRASH), plan) for plan in plans]
    results = optimised(protected(CRASH), plans, maxcpus)
    assert [tape_of(r) for r in results] == [tape_of(s) for s in single]
    for result, alone in zip(results, single, strict=True):
        pd.testing.assert_frame_equal(
            result.analyzers.riskjournal.frame(), alone.analyzers.riskjournal.frame()
        )
        assert result.analyzers.drawdownbreaker.get_analysis()["trips"] == []
    assert results[0].analyzers.riskjournal.counts()["RiskPerTrade", "trim"] == 1


def test_the_analyses_pickle():
    strategy = taped(protected(CRASH), [order(5, "buy", size=1000)])
    for name in ("riskjournal", "drawdownbreaker"):
        analysis = strategy.analyzers.getbyname(name).get_analysis()
        assert pickle.loads(pickle.dumps(analysis)).keys() == analysis.keys()


def test_a_second_run_of_the_same_cerebro_equals_the_first():
    engine = protected(CRASH)
    first = taped(engine, [order(5, "buy", size=1000)])
    second = engine.run()[0]
    assert tape_of(second) == tape_of(first)
    pd.testing.assert_frame_equal(
        second.analyzers.riskjournal.frame(), first.analyzers.riskjournal.frame()
    )


def test_journal_writes_a_csv(tmp_path):
    path = tmp_path / "journal.csv"
    strategy = taped(protected(CALM, journal=path), [order(5, "buy", size=1000)])
    written = pd.read_csv(path, parse_dates=["time"])
    assert written.columns.tolist() == strategy.analyzers.riskjournal.frame().columns.tolist()
    assert written.action.tolist() == ["note", "trim"]
    assert written.time.iloc[1] == pd.Timestamp("2020-01-05")


# -- observe -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_observe_changes_nothing_and_says_what_it_would_have_done(mode):
    plan = [order(5, "buy", size=900), order(6, "buy")]
    bare = tape_of(taped(cerebro(CRASH), plan, mode))
    strategy = taped(protected(CRASH, mode="observe"), plan, mode)
    assert tape_of(strategy) == bare
    trims = [d for d in decisions(strategy) if d["action"] in ("trim", "reject")]
    assert [(d["rule"], d["requested"]) for d in trims][0] == ("RiskPerTrade", 900)


def test_a_misspelt_mode_raises():
    with pytest.raises(ParameterError, match="mode must be one of 'enforce', 'observe'"):
        protected(CALM, mode="watch")


def test_a_journal_that_cannot_be_written_is_refused_before_the_run(tmp_path):
    path = tmp_path / "missing" / "journal.csv"
    with pytest.raises(ParameterError, match="protect: journal must .* There is no folder"):
        bt_risk.protect(cerebro(CALM), journal=path)
    engine = cerebro(CALM)
    engine.addanalyzer(bt_risk.RiskJournal, path=path)
    with pytest.raises(ParameterError, match="RiskJournal: path must .* There is no folder"):
        taped(engine, [])


# -- the ways to write a policy --------------------------------------------------------------------


def policy_of(*args, **kwargs):
    """Return the policy that `protect` takes."""
    engine = cerebro(CALM)
    bt_risk.protect(engine, *args, **kwargs)
    (install,) = [store for store in engine.stores if hasattr(store, "policy")]
    return install.policy


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((), dict(risk_limit=0.005, atr_period=3)),
        ((dict(risk_limit=0.005, atr_period=3),), {}),
        ((dict(risk_limit=0.005),), dict(atr_period=3)),
        ((bt_risk.Policy(risk_limit=0.005, atr_period=3),), {}),
    ],
)
def test_a_policy_may_be_written_by_name_or_as_a_dict(args, kwargs):
    expected = bt_risk.Policy(risk_limit=0.005, atr_period=3)
    assert policy_of(*args, **kwargs) == expected


MISSPELT = {
    "Policy": lambda: bt_risk.Policy(risk_limt=0.01),
    "protect": lambda: bt_risk.protect(cerebro(CALM), risk_limt=0.01),
    "protect, in a dict": lambda: bt_risk.protect(cerebro(CALM), {"risk_limt": 0.01}),
}


@pytest.mark.parametrize("how", MISSPELT)
def test_a_misspelt_parameter_is_answered_with_the_nearest(how):
    component = how.partition(",")[0]
    message = f"^{component} has no parameter 'risk_limt'; did you mean 'risk_limit'\\?$"
    with pytest.raises(TypeError, match=message):
        MISSPELT[how]()


def test_a_misspelt_setting_of_a_live_run_is_answered_too():
    with pytest.raises(TypeError, match="protect has no parameter 'stale_aftr'; did you mean"):
        bt_risk.protect(cerebro(CALM), stale_aftr=90)


def test_a_parameter_beside_a_policy_is_refused_with_the_way_to_write_it():
    with pytest.raises(ParameterError, match=r"Write Policy\(risk_limit=0\.01, \.\.\.\)"):
        bt_risk.protect(cerebro(CALM), bt_risk.Policy(), risk_limit=0.01)


def test_a_policy_by_name_is_checked_as_every_policy_is():
    with pytest.raises(ParameterError, match="Policy: risk_limit must be below 0.5"):
        bt_risk.protect(cerebro(CALM), risk_limit=1)
