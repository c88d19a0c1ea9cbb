"""The facts that a broker and its data feeds report themselves: capabilities and ticks."""

from types import SimpleNamespace

import backtrader as bt
import pytest
from helpers.fake_broker import FakeBroker
from helpers.hostile_brokers import Ticked, Ticking, reasons
from helpers.scenarios import Script, bars

import bt_risk

RISING = [(100 + k / 7, 103 + k / 7, 97 + k / 7, 100 + (k + 1) / 7) for k in range(40)]


class IBBroker(FakeBroker):
    """Stand for Backtrader's own, which needs a package that is not installed."""


IBBroker.__module__ = "backtrader.brokers.ibbroker"


class Corrected(IBBroker):
    """Correct something in a broker of Backtrader, as users do."""


class Plainer(Corrected):
    """Cannot do one of the things."""

    capabilities = {"oco": False}


@pytest.mark.parametrize(
    ("broker", "can"),
    [
        (Corrected, [True, True]),
        (Plainer, [True, False]),
        (FakeBroker, [False, False]),
    ],
)
def test_a_subclass_of_a_known_broker_can_do_what_that_can(broker, can):
    capabilities = bt_risk.RiskBroker(broker()).order_sender.capabilities
    assert [capabilities.can("brackets"), capabilities.can("oco")] == can


class LateContract(Ticking):
    """Know its contract once it has started, as the data feed of Backtrader's IBStore does."""

    def start(self):
        super().start()
        self.contractdetails = SimpleNamespace(m_minTick=0.05)


class Ticks(Ticking):
    """Report a tick itself, from the beginning."""

    tick = 0.05


@pytest.mark.parametrize("feed", [LateContract, Ticks])
def test_the_tick_that_a_data_feed_reports_needs_no_setting(feed):
    venue, engine = Ticked(), bt.Cerebro(stdstats=False)
    engine.adddata(feed(dataname=bars(*RISING)), name="D0")
    engine.setbroker(venue)
    engine.addstrategy(Script, actions={20: lambda s: s.buy(size=100)})
    bt_risk.protect(engine, bt_risk.Policy(risk_limit=None, exposure_limit=None))
    strategy = engine.run(quicknotify=True)[0]
    assert reasons(strategy.analyzers.riskjournal.frame(), "unprotected") == []
    assert strategy.held[-1] == (100,)
    assert len(venue.asked) > 10
