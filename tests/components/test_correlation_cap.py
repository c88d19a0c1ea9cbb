"""CorrelationCap and PortfolioRisk: what is the same bet, how much of one side, what is unknown."""

import math

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from helpers.recording import ends, play
from helpers.scenarios import (
    MODES,
    NextScript,
    bars,
    cerebro,
    flat,
    image,
    optimised,
    random_walk,
    tape_of,
    taped,
)

import bt_risk
from bt_risk.errors import ParameterError

NAN = math.nan
SHORT = {"window": 20, "min_periods": 10, "atr_period": 3}


def order(bar, method, **arguments):
    return bar, method, arguments


def capped(*frames, **params):
    engine = cerebro(*frames)
    engine.setbroker(bt_risk.CorrelationCap(engine.broker, **(SHORT | params)))
    return engine


WALK = random_walk(1, 90)


def sides(first, second, bar=30):
    """Return a plan that enters D0 and, one bar later, D1."""
    return [
        order(bar, "buy" if first > 0 else "sell", data=0, size=10),
        order(bar + 1, "buy" if second > 0 else "sell", data=1, size=10),
    ]


# -- rule 4 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("first", "second", "rho", "same"),
    [
        (1, 1, 1, True),
        (-1, -1, 1, True),
        (1, -1, 1, False),
        (-1, 1, 1, False),
        (1, 1, -1, False),
        (-1, -1, -1, False),
        (1, -1, -1, True),
        (-1, 1, -1, True),
    ],
)
def test_the_same_bet_is_refused_and_a_hedge_passes(first, second, rho, same, mode):
    tape = tape_of(taped(capped(WALK, image(WALK, rho)), sides(first, second), mode))
    assert [name for _, name, *_ in tape["fills"]] == (["D0"] if same else ["D0", "D1"])
    expected = "signed correlation with D0 1.0000 > correlation_limit 0.7000"
    assert [expected in reason for _, reason in tape["reasons"]] == [True] * same


@pytest.mark.parametrize(("above", "fills"), [(1e-6, 2), (-1e-6, 1)])
def test_the_limit_is_the_correlation_of_the_last_window(above, fills):
    """At bar 31 the last 20 log returns are those of bars 12 to 31."""
    other = random_walk(2, 90)
    mixed = image(WALK, 1) * other / 100
    logs = np.log(pd.DataFrame({"a": WALK.close, "b": mixed.close})).diff().iloc[11:31]
    rho = logs.corr().loc["a", "b"]
    assert 0.3 < rho < 0.95
    engine = capped(WALK, mixed, correlation_limit=rho + above)
    assert len(tape_of(taped(engine, sides(1, 1)))["fills"]) == fills


def test_exits_pass_whatever_the_correlation():
    engine = capped(WALK, image(WALK, 1), unknown="allow")
    plan = [
        *[order(2, "buy", data=d, size=10) for d in (0, 1)],  # unknown then, and allowed
        order(30, "sell", data=1, size=4),
        order(31, "close", data=1),
        order(33, "buy", data=1, size=10),
    ]
    tape = tape_of(taped(engine, plan))
    assert [fill[1:3] for fill in tape["fills"]][2:] == [("D1", -4), ("D1", -6)]
    assert len(tape["reasons"]) == 1


def test_of_a_reversal_only_the_part_that_opens_is_judged():
    """Long both by a hedge; selling 25 of D1 closes 10, and the 15 that open are the same bet."""
    engine = capped(WALK, image(WALK, -1))
    plan = [*sides(1, 1), order(40, "sell", data=1, size=25)]
    tape = tape_of(taped(engine, plan))
    assert tape["positions"][-1] == (10, 0)


def test_trim_scales_once():
    engine = capped(WALK, image(WALK, 1), image(WALK, 1), on_correlation="trim")
    plan = [*sides(1, 1), order(33, "buy", data=2, size=100)]
    sizes = [fill[2] for fill in tape_of(taped(engine, plan))["fills"]]
    assert sizes == [10, 8, 80]  # twice correlated, still 80 of 100


def test_correlated_scale_is_a_parameter():
    engine = capped(WALK, image(WALK, 1), on_correlation="trim", correlated_scale=0.5)
    assert [f[2] for f in tape_of(taped(engine, sides(1, 1)))["fills"]] == [10, 5]


@pytest.mark.parametrize("limit", [None, math.inf])
def test_without_a_limit_everything_passes(limit):
    engine = capped(WALK, image(WALK, 1), correlation_limit=limit)
    assert len(tape_of(taped(engine, sides(1, 1)))["fills"]) == 2


def test_siblings_of_one_bar_are_the_same_bet():
    plan = [order(30, "buy", data=d, size=10) for d in (0, 1)]
    tape = tape_of(taped(capped(WALK, image(WALK, 1)), plan))
    assert [name for _, name, *_ in tape["fills"]] == ["D0"]


def test_a_working_order_counts_until_it_is_cancelled():
    limit = order(30, "buy", data=0, size=10, price=1.0, exectype=bt.Order.Limit)
    plan = [limit, order(31, "buy", data=1, size=10), order(33, "cancel_all")]
    plan.append(order(35, "buy", data=1, size=10))
    tape = tape_of(taped(capped(WALK, image(WALK, 1)), plan))
    assert [fill[:2] for fill in tape["fills"]] == [(36, "D1")]
    assert [bar for bar, _ in tape["reasons"]] == [32]


def test_a_resampled_copy_is_the_instrument():
    engine = capped(WALK)
    engine.resampledata(engine.datas[0], timeframe=bt.TimeFrame.Weeks, name="weekly")
    plan = [order(30, "buy", data=0, size=10), order(37, "buy", data=1, size=10)]
    tape = tape_of(taped(engine, plan))
    assert [name for _, name, *_ in tape["fills"]] == ["D0", "weekly"]


def test_returns_are_joined_on_time():
    """D1 is D0 without every fifth bar: joined on time it is the same; by position it is not."""
    engine = capped(WALK, WALK[np.arange(90) % 5 != 0])
    tape = tape_of(taped(engine, sides(1, 1, bar=40)))
    assert [name for _, name, *_ in tape["fills"]] == ["D0"]
    assert "signed correlation with D0 1.0000" in tape["reasons"][0][1]


# -- unknown -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bar", "reasons"), [(38, ["37 of 60"]), (60, ["59 of 60"]), (61, [])], ids=str
)
def test_too_little_history_refuses_even_a_hedge_and_says_how_much_there_is(bar, reasons):
    engine = capped(WALK, image(WALK, -1), window=252, min_periods=60)
    tape = tape_of(taped(engine, sides(1, 1, bar=bar - 1)))
    assert len(tape["fills"]) == (1 if reasons else 2)
    texts = [reason for _, reason in tape["reasons"]]
    assert len(texts) == len(reasons)
    for text, part in zip(texts, reasons, strict=True):
        assert f"correlation with D0 unknown: {part} common returns" in text


def test_unknown_allow_lets_it_pass():
    engine = capped(WALK, image(WALK, 1), window=252, min_periods=60, unknown="allow")
    assert len(tape_of(taped(engine, sides(1, 1)))["fills"]) == 2


def test_a_name_alone_needs_no_correlation():
    assert len(tape_of(taped(capped(WALK), [order(4, "buy", size=1)]))["fills"]) == 1


def test_a_name_that_stands_still_is_unknown():
    frozen = bars(*flat(90))
    tape = tape_of(taped(capped(WALK, frozen), sides(1, 1)))
    assert [name for _, name, *_ in tape["fills"]] == ["D0"]
    assert "did not move" in tape["reasons"][0][1]


PAST = WALK.close.iloc[:60]
RUN = WALK.iloc[60:]


def prefilled(history, kind="prices", sign=1, plan=None, **params):
    engine = capped(
        RUN,
        image(WALK, sign).iloc[60:],
        window=60,
        min_periods=50,
        history=history,
        history_kind=kind,
        **params,
    )
    return taped(engine, plan or sides(1, 1, bar=4))


def pair(sign=1):
    return pd.DataFrame({"D0": WALK.close, "D1": image(WALK, sign).close})


@pytest.mark.parametrize(("sign", "fills"), [(1, 1), (-1, 2)])
@pytest.mark.parametrize("kind", ["prices", "returns"])
def test_history_fills_the_window_before_the_first_bar(kind, sign, fills):
    past = pair(sign).iloc[:60]
    history = past if kind == "prices" else past.pct_change().iloc[1:]
    tape = tape_of(prefilled(history, kind, sign))
    assert len(tape["fills"]) == fills
    assert not any("unknown" in reason for _, reason in tape["reasons"])


def test_without_history_the_same_run_refuses():
    assert "4 of 50" in tape_of(prefilled(None))["reasons"][0][1]


def test_history_that_overlaps_the_run_is_no_look_ahead():
    """What it says of the run itself, and it says nonsense here, is not used."""
    other = random_walk(2, 90)
    mixed = pd.DataFrame({"D0": WALK.close, "D1": WALK.close * other.close / 100})
    nonsense = mixed.copy()
    nonsense.iloc[60:] = random_walk(9, 60)[["open", "close"]].to_numpy()[:30]
    measured = []
    for history in (mixed.iloc[:60], nonsense):
        engine = capped(
            RUN,
            (image(WALK, 1) * other / 100).iloc[60:],
            correlation_limit=1e-6,
            window=60,
            min_periods=50,
            history=history,
        )
        engine.addanalyzer(bt_risk.RiskJournal)
        strategy = taped(engine, sides(1, 1, bar=4))
        measured.append([d["measured"] for d in journal_of(strategy) if d["action"] == "reject"])
    logs = np.log(mixed).diff().iloc[:65]  # the order on bar 5: bars 61 to 65 have closed
    assert measured[0] == measured[1] == [pytest.approx(logs.iloc[-60:].corr().iloc[0, 1])]


def journal_of(strategy):
    return strategy.analyzers.riskjournal.get_analysis()["decisions"]


# -- rule 3 --------------------------------------------------------------------------------------

# A range of 4: ATR 4, distance 8; 5 % of 100,000 is 5,000 at risk: 625 units.
WIDE = bars(*flat(12, width=2))
FIVE = {"correlation_limit": None, "exposure_limit": 0.05}


def exposed(plan, frames=(WIDE, WIDE), **params):
    tape = tape_of(taped(capped(*frames, **(FIVE | params)), plan))
    return [fill[1:3] for fill in tape["fills"]]


@pytest.mark.parametrize(
    ("size", "params", "filled"),
    [
        (625, {}, [625]),
        (626, {}, [625]),
        (900, {}, [625]),
        (900, {"on_exposure": "reject"}, []),
        (625, {"on_exposure": "reject"}, [625]),
        (900, {"exposure_limit": 0.04}, [500]),
        (900, {"exposure_unit": "notional"}, [50]),  # 5,000 at 100 a unit
        (50, {"exposure_unit": "notional", "on_exposure": "reject"}, [50]),
        (51, {"exposure_unit": "notional", "on_exposure": "reject"}, []),
        (900, {"atr_multiple": 4.0}, [312]),  # 16 away: 312.5
        (900, {"instruments": {"D0": {"step": 10}}}, [620]),
        (900, {"instruments": {"D0": {"atr_multiple": 4.0}}}, [312]),
        (900.5, {"instruments": {"D0": {"step": 0.5}}, "exposure_limit": 0.03}, [375.0]),
        (900, {"exposure_limit": None}, [900]),
        (900, {"exposure_limit": math.inf}, [900]),
    ],
)
def test_exposure_of_one_order(size, params, filled):
    assert [s for _, s in exposed([order(5, "buy", size=size)], **params)] == filled


def test_exposure_adds_up_over_names_on_one_side():
    """400 x 8 = 3,200; 1,800 are left: 225 units."""
    plan = [order(5, "buy", data=0, size=400), order(7, "buy", data=1, size=400)]
    assert exposed(plan) == [("D0", 400), ("D1", 225)]


def test_each_side_has_its_own_exposure():
    plan = [order(5, "buy", data=0, size=900), order(7, "sell", data=1, size=900)]
    assert exposed(plan) == [("D0", 625), ("D1", -625)]


def test_siblings_of_one_bar_share_the_exposure():
    plan = [order(5, "buy", data=0, size=400), order(5, "buy", data=1, size=400)]
    assert exposed(plan) == [("D0", 400), ("D1", 225)]


def test_a_resting_entry_uses_up_exposure():
    limit = order(5, "buy", data=0, size=400, price=90.0, exectype=bt.Order.Limit)
    assert exposed([limit, order(6, "buy", data=1, size=400)]) == [("D1", 225)]


def test_in_notional_a_resting_entry_counts_at_its_own_price():
    """50 at 90 are 4,500; 500 are left: 5 units at 100."""
    limit = order(5, "buy", data=0, size=50, price=90.0, exectype=bt.Order.Limit)
    plan = [limit, order(6, "buy", data=1, size=400)]
    assert exposed(plan, exposure_unit="notional") == [("D1", 5)]


def test_risk_is_unknown_before_the_atr():
    tape = tape_of(taped(capped(WIDE, **FIVE), [order(3, "buy", size=1)]))
    assert "ATR(3) needs 4 bars, D0 has 3" in tape["reasons"][0][1]


@pytest.mark.parametrize("maxcpus", [1, 2])
def test_an_optimisation_is_capped_as_single_runs_are(maxcpus):
    plans = [sides(1, 1), sides(1, -1), sides(-1, -1)]
    single = [tape_of(taped(capped(WALK, image(WALK, 1)), plan)) for plan in plans]
    engine = capped(WALK, image(WALK, 1))
    assert [tape_of(r) for r in optimised(engine, plans, maxcpus)] == single


def test_a_second_run_of_the_same_cerebro_equals_the_first():
    engine = capped(WALK, image(WALK, 1), history=None)
    first = taped(engine, sides(1, 1))
    assert tape_of(engine.run()[0]) == tape_of(first)


# -- PortfolioRisk -------------------------------------------------------------------------------


HAND = ["long_risk", "short_risk", "long_notional", "short_notional", "gross", "net"]


@pytest.mark.parametrize("mode", MODES)
def test_portfolio_risk_by_hand(mode):
    """100 long at 100 with 8 at risk each: 800 and 10,000; 50 short: 400 and 5,000."""
    engine = capped(WIDE, WIDE, **FIVE)
    engine.addanalyzer(bt_risk.PortfolioRisk)
    plan = [order(5, "buy", data=0, size=100), order(6, "sell", data=1, size=50)]
    report = taped(engine, plan, mode).analyzers.portfoliorisk.get_analysis()
    rows = {key: values[-1] for key, values in report.items() if key in HAND}
    assert rows == pytest.approx(
        {
            "long_risk": 0.008,
            "short_risk": 0.004,
            "long_notional": 0.10,
            "short_notional": 0.05,
            "gross": 0.15,
            "net": 0.05,
        }
    )
    assert len(report["time"]) == len(report["net"])


def test_portfolio_risk_knows_the_distance_to_the_stop():
    """Long 100 at 100, the stop at 92: 800; a close of 96 leaves 400 at risk of 99,600."""
    frame = bars(*flat(6, width=2), (100, 100, 96, 96))
    engine = cerebro(frame)
    engine.addobserver(bt_risk.ATRTrailingStop, atr_period=3)
    engine.addanalyzer(bt_risk.PortfolioRisk)
    report = taped(engine, [order(5, "buy", size=100)]).analyzers.portfoliorisk.frame()
    assert report.long_risk.tolist()[-2:] == pytest.approx([800 / 100_000, 400 / 99_600])


@pytest.mark.parametrize(("second", "expected"), [(1, 1.0), (-1, -1.0)])
def test_portfolio_risk_reports_the_signed_correlation(second, expected):
    engine = capped(WALK, image(WALK, 1), correlation_limit=1.0)
    engine.addanalyzer(bt_risk.PortfolioRisk)
    report = taped(engine, sides(1, second)).analyzers.portfoliorisk.frame()
    assert report.correlation.iloc[-1] == pytest.approx(expected)
    assert math.isnan(report.correlation.iloc[10])


# -- parameters ----------------------------------------------------------------------------------

BAD = [
    ("correlation_limit", {"correlation_limit": 70}, "in (0, 1], or None for no limit"),
    ("correlation_limit", {"correlation_limit": -0.7}, "positive, or None for no limit"),
    ("correlation_limit", {"correlation_limit": NAN}, "positive, or None for no limit"),
    ("window", {"window": 5}, "a whole number of at least 10"),
    ("window", {"window": 20.5}, "a whole number of at least 10"),
    ("min_periods", {"min_periods": 1}, "a whole number of at least 2"),
    ("exposure_limit", {"exposure_limit": 0}, "positive, or None for no limit"),
    ("exposure_unit", {"exposure_unit": "beta"}, "one of 'risk', 'notional'"),
    ("on_correlation", {"on_correlation": "scale"}, "one of 'reject', 'trim'"),
    ("on_exposure", {"on_exposure": "queue"}, "one of 'trim', 'reject'"),
    ("correlated_scale", {"correlated_scale": 1.0}, "in (0, 1)"),
    ("correlated_scale", {"correlated_scale": 0}, "in (0, 1)"),
    ("history_kind", {"history_kind": "closes"}, "one of 'prices', 'returns'"),
    ("unknown", {"unknown": "queue"}, "one of 'refuse', 'allow'"),
    ("atr_period", {"atr_period": 0}, "a whole number of at least 1"),
    ("atr_multiple", {"atr_multiple": 0}, "positive and finite"),
]


@pytest.mark.parametrize(("param", "given", "constraint"), BAD)
def test_a_bad_parameter_raises_and_says_what_would_be_good(param, given, constraint):
    with pytest.raises(ParameterError) as caught:
        bt_risk.CorrelationCap(**(SHORT | given))
    error = caught.value
    assert (error.param, error.constraint) == (param, constraint)
    assert error.component in ("CorrelationCap", "CorrelationLimit", "ExposureLimit")
    assert repr(given[param]) in str(error)


def test_a_history_that_is_no_frame_raises():
    with pytest.raises(ParameterError, match="history must be a DataFrame"):
        bt_risk.CorrelationCap(history=[1, 2, 3])


def test_a_history_without_times_raises():
    for index in (["a", "b"], [0, 1]):
        with pytest.raises(ParameterError, match="history"):
            bt_risk.CorrelationCap(history=pd.DataFrame({"D0": [1.0, 2.0]}, index=index))


@pytest.mark.parametrize(
    ("facts", "param"),
    [
        ({"D0": {"stepp": 1}}, "instruments['D0']"),
        ({"D0": {"step": 0}}, "instruments['D0']['step']"),
        ({"D0": {"risk_limit": 2}}, "instruments['D0']['risk_limit']"),
        ({"D0": {"min_notional": -1}}, "instruments['D0']['min_notional']"),
        ({"D0": {"atr_multiple": NAN}}, "instruments['D0']['atr_multiple']"),
    ],
)
def test_bad_instrument_facts_raise(facts, param):
    with pytest.raises(ParameterError) as caught:
        bt_risk.CorrelationCap(instruments=facts)
    assert caught.value.param == param


def test_facts_of_a_data_that_is_not_there_raise():
    with pytest.raises(ParameterError, match=r"named after a data feed of this Cerebro \(D0\)"):
        taped(capped(WIDE, instruments={"BTC": {"step": 1}}))


def test_a_misspelt_parameter_raises():
    with pytest.raises(TypeError, match="correlation_cap"):
        bt_risk.CorrelationCap(correlation_cap=0.7)


def test_wrapping_a_risk_broker_joins_it():
    engine = cerebro(WIDE)
    gate = bt_risk.RiskBroker(engine.broker)
    cap = bt_risk.CorrelationCap(gate, **(SHORT | FIVE))
    assert cap.inner is engine.broker
    engine.setbroker(cap)
    tape = tape_of(taped(engine, [order(5, "buy", size=900)]))
    assert [f[2] for f in tape["fills"]] == [625]


def test_a_name_is_no_second_bet_on_its_resampled_copy():
    engine = cerebro(random_walk(3, 120), random_walk(4, 120))
    engine.resampledata(engine.datas[0], timeframe=bt.TimeFrame.Weeks, name="weekly")
    engine.setbroker(bt_risk.CorrelationCap(engine.broker))
    buys = {100: lambda s: s.buy(s.datas[2], size=1), 105: lambda s: s.buy(s.datas[0], size=1)}
    strategy = play(engine, buys, NextScript)
    assert [end[0] for end in ends(strategy)] == ["Completed", "Completed"]
