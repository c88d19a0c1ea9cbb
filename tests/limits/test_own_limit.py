"""A limit that a user has written: asked on every order, beside those of bt_risk."""

import math

import pytest
from helpers.scenarios import MODES, bars, cerebro, flat, optimised, tape_of, taped

import bt_risk
from bt_risk import CooldownGuard, Decision, Limit, NotionalLimit, ParameterError

CALM = bars(*flat(12))


class AtMost(Limit):
    """An order opens at most so many units."""

    def __init__(self, limit=50):
        self.limit, self.asked, self.prepared = limit, [], []

    def prepare(self, book):
        self.prepared.append([(one.name, one.length) for one in book.instruments])

    def review(self, request, book):
        self.asked.append((request.side, request.size))
        if request.size <= self.limit:
            return Decision(request.size)
        return self.refuse(self.limit, f"{request.size:g} units > {self.limit:g}", request.size)


class Silent(Limit):
    """Cuts every order and gives no reason."""

    def __init__(self, size):
        self.size = size

    def review(self, request, book):
        return Decision(self.size)


def order(bar, method, **arguments):
    return bar, method, arguments


def limited(*limits, wrap=bt_risk.RiskBroker, frames=(CALM,), **options):
    engine = cerebro(*frames)
    engine.setbroker(wrap(engine.broker, limits=list(limits), **options))
    engine.addanalyzer(bt_risk.RiskJournal)
    return engine


def sizes(strategy):
    return [fill[2] for fill in tape_of(strategy)["fills"]]


def lines(strategy, action):
    decisions = strategy.analyzers.riskjournal.get_analysis()["decisions"]
    return [(d["rule"], d["reason"]) for d in decisions if d["action"] == action]


@pytest.mark.parametrize("mode", MODES)
def test_it_is_asked_before_an_order_opens_and_cuts_it(mode):
    limit = AtMost()
    plan = [order(3, "buy", size=80), order(5, "close"), order(7, "sell", size=60)]
    strategy = taped(limited(limit), plan, mode)
    assert sizes(strategy) == [50, -50, -50]
    assert limit.asked == [(1, 80), (-1, 60)]
    assert lines(strategy, "trim") == [
        ("AtMost", "AtMost: 80 units > 50"),
        ("AtMost", "AtMost: 60 units > 50"),
    ]


@pytest.mark.parametrize("wrap", [bt_risk.RiskBroker, bt_risk.CorrelationCap])
def test_it_stands_beside_limits_and_guards_and_the_smallest_answer_counts(wrap):
    limits = [AtMost(50), NotionalLimit(0.03)]
    strategy = taped(
        limited(*limits, wrap=wrap, guards=[CooldownGuard(9)]),
        [order(3, "buy", size=80), order(5, "close"), order(7, "buy", size=10)],
    )
    assert sizes(strategy) == [30, -30]
    assert [rule for rule, _ in lines(strategy, "trim")] == ["NotionalLimit"]
    assert [rule for rule, _ in lines(strategy, "reject")] == ["CooldownGuard"]


def test_it_is_prepared_before_the_first_bar_of_every_run():
    limit = AtMost()
    engine = limited(limit, frames=(CALM, CALM))
    for _ in range(2):
        taped(engine, [])
    assert limit.prepared == [[("D0", 0), ("D1", 0)]] * 2


def test_one_that_is_switched_off_is_not_asked():
    limit = AtMost(math.inf)
    assert sizes(taped(limited(limit), [order(3, "buy", size=80)])) == [80]
    assert (limit.asked, limit.prepared) == ([], [])


@pytest.mark.parametrize("size", [0, 0.0, 20])
def test_a_cut_without_a_reason_is_made_and_explained(size):
    strategy = taped(limited(Silent(size)), [order(3, "buy", size=80)])
    assert sizes(strategy) == ([size] if size else [])
    (line,) = lines(strategy, "trim") + lines(strategy, "reject")
    end = "" if size else "; at most 0 would pass"
    assert line == ("Silent", f"Silent: at most {size:g} units{end}")


@pytest.mark.parametrize("size", [math.nan, -1.0])
def test_a_size_that_is_none_raises(size):
    with pytest.raises(ParameterError, match="Decision: size must be zero or more; got"):
        taped(limited(Silent(size)), [order(3, "buy", size=80)])


def test_more_than_was_requested_is_no_more():
    assert sizes(taped(limited(Silent(1e6)), [order(3, "buy", size=80)])) == [80]


def test_protect_takes_it_beside_the_policy():
    engine = cerebro(CALM)
    limit = AtMost(20)
    bt_risk.protect(engine, bt_risk.Policy(atr_period=3), limits=[limit])
    strategy = taped(engine, [order(5, "buy", size=80)])
    assert sizes(strategy) == [20]
    assert lines(strategy, "trim") == [("AtMost", "AtMost: 80 units > 20")]


@pytest.mark.parametrize("cpus", [1, 2])
def test_every_run_of_an_optimisation_asks_it(cpus):
    plans = [[order(3, "buy", size=size)] for size in (40, 80)]
    runs = optimised(limited(AtMost()), plans, cpus)
    assert [run.analyzers.riskjournal.counts()["AtMost", "trim"] for run in runs] == [0, 1]


BAD = [
    NotionalLimit,
    (NotionalLimit(1.0), AtMost),
    [object()],
    [lambda request, book: Decision(0)],
    [Limit()],
    AtMost(),
    None,
    "AtMost",
]


@pytest.mark.parametrize("limits", BAD)
@pytest.mark.parametrize("name", ["RiskBroker", "CorrelationCap", "protect"])
def test_what_is_no_list_of_limits_raises(name, limits):
    engine = cerebro(CALM)
    protected = engine if name == "protect" else engine.broker
    with pytest.raises(ParameterError, match=f"{name}: limits must be a list of limits, such as"):
        getattr(bt_risk, name)(protected, limits=limits)


def test_the_base_class_names_what_is_missing():
    with pytest.raises(TypeError, match="Limit has no review"):
        Limit().review(None, None)
