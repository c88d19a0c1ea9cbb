"""Shadow books of small runs, and counterfactuals of one data feed without a run."""

import pytest

import bt_risk
from bt_risk.evidence.counterfactual import Counterfactual
from bt_risk.evidence.paper_trade import Bar
from bt_risk.evidence.runner import run_variant
from bt_risk.evidence.shadow_book import shadow_book
from bt_risk.evidence.variants import RULES, without
from helpers.scenarios import Plan, cerebro

OFF = without(bt_risk.Policy(atr_period=3), *RULES)


def only(**fields):
    return bt_risk.Policy(**{f: getattr(OFF, f) for f in OFF.__dataclass_fields__} | fields)


def book_of(build, policy):
    bare, protected = run_variant(build, None), run_variant(build, policy)
    book = shadow_book(bare.record, protected.record, protected.order_log, policy)
    ends = [run.record.bars["equity"].iloc[-1] for run in (bare, protected)]
    assert book.difference == pytest.approx(ends[1] - ends[0])
    assert book.ledger["balance"].sum() == pytest.approx(book.difference, abs=1e-6)
    return book


def building(*frames, plan, commission=0.0, strategy=Plan, **kwargs):
    def build():
        engine = cerebro(*frames, **kwargs)
        engine.broker.setcommission(commission)
        engine.addstrategy(strategy, plan=plan)
        return engine

    return build


def order(bar, method, **arguments):
    return bar, method, tuple(arguments.items())


def replayed(rows, bare=(), protected=(), requested=(), atr=2.0, **kwargs):
    bars = [Bar(k, *row, atr) for k, row in enumerate(rows)]
    counterfactual = Counterfactual(bars, **kwargs)
    counterfactual.run(dict(bare), dict(protected), dict(requested))
    return counterfactual
