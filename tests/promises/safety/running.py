"""One run of a world with its model beside it, and the same run cut short."""

import random

import backtrader as bt
import pandas as pd

import bt_risk
from promises.safety.model import Model
from promises.safety.prices import Rows, rows
from promises.safety.trader import Trader
from promises.safety.world import Breach


class Tape(bt.brokers.BackBroker):
    """A BackBroker that tells the model everything before the gate hears of it."""

    model = None

    def next(self):
        self.model.open_bar()
        super().next()

    def notify(self, order):
        self.model.heard(order)
        super().notify(order)


class Points(bt.CommInfoBase):
    """A future that says what a point is worth in its profit, not in `mult`."""

    params = (("points", 1.0), ("stocklike", False), ("commtype", bt.CommInfoBase.COMM_FIXED))

    def profitandloss(self, size, price, newprice):
        return size * (newprice - price) * self.p.points

    cashadjust = profitandloss


class Converts(bt.CommInfoBase):
    """A currency pair whose second currency is not that of the account."""

    params = (("stocklike", False), ("commtype", bt.CommInfoBase.COMM_FIXED))

    def profitandloss(self, size, price, newprice):
        return size * (newprice - price) / newprice

    cashadjust = profitandloss


def run(world, until=None):
    """Run a world, cut off after bar `until`; return the `Model` with its breaches and its log."""
    tables = rows(world)
    if until is not None:
        times = sorted({row[0] for table in tables for row in table.tolist()})[:until]
        tables = [table[table[:, 0] <= times[-1]] for table in tables]
    tape = Tape()
    tape.model = model = Model(world, tables, tape)
    cerebro = _cerebro(world, tables, tape, model)
    model.datas = cerebro.datas[: len(tables)]
    _protect(cerebro, world)
    cerebro.addanalyzer(_Witness, model=model)
    try:
        cerebro.run()
    except Exception as error:  # a crash is a finding like any other
        model.breach(f"0 {type(error).__name__}", str(error))
        return model
    model.finish()
    return model


class _Witness(bt.Analyzer):
    """Show the model the gate, whose journal is what bt_risk says of itself."""

    params = (("model", None),)

    def start(self):
        self.p.model.gate = self.strategy.broker


def _cerebro(world, tables, tape, model):
    cerebro = bt.Cerebro(stdstats=False, **dict(world.engine))
    cerebro.setbroker(tape)
    for index, (table, feed) in enumerate(zip(tables, world.feeds, strict=True)):
        cerebro.adddata(Rows(table=table), name=f"D{index}")
        costs = {"commission": world.commission}
        if feed.scheme == "points":
            tape.addcommissioninfo(Points(margin=feed.margin, points=feed.mult), f"D{index}")
            continue
        if feed.scheme == "converts":
            tape.addcommissioninfo(Converts(margin=feed.margin), f"D{index}")
            continue
        if feed.margin:
            costs = {"commission": 100 * world.commission, "margin": feed.margin, "mult": feed.mult}
        tape.setcommission(name=f"D{index}", **costs)
    if world.signals:
        ttl, scores = world.signals
        records = [{"published": bt.num2date(time), "score": score} for time, score in scores]
        frame = pd.DataFrame(records)
        cerebro.adddata(bt_risk.SignalData(dataname=frame, ttl=f"{ttl}d"), name="S")
    tape.setcash(world.cash)
    tape.set_coc(world.coc)
    if world.slippage:
        tape.set_slippage_perc(world.slippage)
    if world.filler:
        tape.set_filler(bt.fillers.FixedBarPerc(perc=world.filler))
    for who in range(world.traders):
        cerebro.addstrategy(Trader, who=who, world=world, model=model)
    return cerebro


def _protect(cerebro, world):
    """Add the components."""
    policy = world.policy
    spreads = [f"D{index}" for index, feed in enumerate(world.feeds) if feed.spread]
    facts = {name: {"negative_prices": True} for name in spreads} or None
    if not world.parts:
        cerebro.setbroker(bt_risk.RiskBroker(cerebro.broker, instruments=facts))
        bt_risk.protect(cerebro, bt_risk.Policy(**policy))
        return
    cerebro.setbroker(bt_risk.RiskBroker(cerebro.broker, instruments=facts))
    if "cap" in world.parts:
        names = "correlation_limit window min_periods exposure_limit exposure_unit atr_period"
        names += " atr_multiple gross_limit net_limit position_limit groups group_limit halflife"
        names += " volatility_limit gap_limit gap_floor multi_bar downside hysteresis guards"
        args = {name: policy[name] for name in names.split()}
        args["estimator"] = policy["correlation_estimator"]
        cerebro.setbroker(bt_risk.CorrelationCap(cerebro.broker, **args))
    if "stop" in world.parts:
        args = {name: policy[name] for name in ("atr_period", "atr_multiple", "anchor")}
        cerebro.addobserver(bt_risk.ATRTrailingStop, **args)
    if "breaker" in world.parts:
        names = ("drawdown_limit", "action", "flatten", "cooldown_bars")
        args = {name: policy[name] for name in names}
        cerebro.addanalyzer(bt_risk.DrawdownBreaker, trigger=policy["drawdown_trigger"], **args)
    if "sizer" in world.parts:
        names = ("atr_period", "atr_multiple", "min_trades", "lookback")
        cerebro.addsizer(bt_risk.HalfKellySizer, **{name: policy[name] for name in names})


def check(world, causal=False):
    """Return the first breach of a world, or None; `causal` also compares with a run cut short."""
    model = run(world)
    if model.breaches or not causal:
        return (model.breaches or [None])[0]
    return foresight(world, model)


def foresight(world, whole):
    """Return a breach where what happened up to a bar depends on what came after it."""
    # Backtrader cannot run a data without a single bar: every one has begun before the cut.
    if whole.begun is None:
        return None
    until = random.Random(world.seed).randint(min(whole.begun + 1, whole.bar), whole.bar)
    cut = run(world, until)
    one = [line for line in whole.log if line[0] <= until]
    other = [line for line in cut.log if line[0] <= until]
    for a, b in zip(one + [None], other + [None], strict=False):
        if a != b:
            return Breach("5 the future changed the past", until, f"{a} became {b}")
    return None
