"""A component that is added by the wrong call says by which one it is added."""

import re

import backtrader as bt
import pytest
from helpers.scenarios import bars, cerebro, flat

import bt_risk


class Mine(bt_risk.DrawdownBreaker):
    pass


ANALYZER = "{0} is an analyzer: cerebro.addanalyzer({1}{0})"
OBSERVER = "{0} is an observer: cerebro.addobserver({1}{0})"
SIZER = "{0} is a sizer: cerebro.addsizer({1}{0})"
BROKER = "{0} is a broker: cerebro.setbroker({1}{0}(cerebro.broker))"
RIGHT = {
    bt_risk.DrawdownBreaker: (ANALYZER, "bt_risk."),
    bt_risk.RiskJournal: (ANALYZER, "bt_risk."),
    bt_risk.PortfolioRisk: (ANALYZER, "bt_risk."),
    bt_risk.ReportData: (ANALYZER, "bt_risk."),
    Mine: (ANALYZER, ""),
    bt_risk.ATRTrailingStop: (OBSERVER, "bt_risk."),
    bt_risk.observers.Exposure: (OBSERVER, "bt_risk.observers."),
    bt_risk.HalfKellySizer: (SIZER, "bt_risk."),
    bt_risk.RiskParitySizer: (SIZER, "bt_risk."),
    bt_risk.CorrelationCap: (BROKER, "bt_risk."),
    bt_risk.RiskBroker: (BROKER, "bt_risk."),
}
CALLS = {"addanalyzer": ANALYZER, "addsizer": SIZER, "addobserver": OBSERVER}
WRONG = [
    (kind, call)
    for kind, (right, _) in RIGHT.items()
    for call, own in CALLS.items()
    if own is not right and not (call == "addobserver" and right is BROKER)
]


@pytest.mark.parametrize(("kind", "call"), WRONG)
def test_the_right_call_is_named(kind, call):
    right, where = RIGHT[kind]
    engine = cerebro(bars(*flat(30)))
    engine.addstrategy(bt.Strategy)
    getattr(engine, call)(kind)
    with pytest.raises(TypeError, match=re.escape(right.format(kind.__name__, where))):
        engine.run()


@pytest.mark.parametrize("kind", [bt_risk.HalfKellySizer, bt_risk.RiskParitySizer])
def test_a_sizer_is_no_strategy(kind):
    engine = cerebro(bars(*flat(30)))
    engine.addstrategy(kind)
    with pytest.raises(TypeError, match=re.escape(SIZER.format(kind.__name__, "bt_risk."))):
        engine.run()


@pytest.mark.parametrize("wrong", [None, bt.Cerebro, bt.Strategy])
def test_only_a_cerebro_can_be_protected(wrong):
    with pytest.raises(bt_risk.ParameterError, match=r"cerebro must be a backtrader\.Cerebro"):
        bt_risk.protect(wrong)
