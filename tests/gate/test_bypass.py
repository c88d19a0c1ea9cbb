"""What gets around the gate is noticed by its effects, named, and brought under the rules."""

import backtrader as bt
import pytest
from helpers.fake_broker import FakeBroker
from helpers.recording import fills, play, record
from helpers.scenarios import MODES, Script, bars, cerebro, flat, random_walk

import bt_risk
from bt_risk.errors import ParameterError
from bt_risk.limits.base import NotionalLimit

# 100,000 of equity, price 100, ATR(14) 2: rule 1 allows 250 units.
CALM = flat(40)


def protected(*frames, broker=None, policy=None, **options):
    engine = cerebro(*frames or [bars(*CALM)])
    if broker is not None:
        engine.setbroker(broker)
    bt_risk.protect(engine, policy, **options)
    return engine


def lines(strategy, action="bypass"):
    return [line for line in strategy.broker.journal.lines if line[3] == action]


def reasons(strategy, action="bypass"):
    return [line[-1] for line in lines(strategy, action)]


# -- a reference from before ---------------------------------------------------------------------


def kept(engine, actions, kind=Script):
    """Play with the broker that the Cerebro had before the run, as `actions` of it."""
    before = engine.broker
    given = {bar: (lambda s, act=act: act(s, before)) for bar, act in actions.items()}
    return play(engine, given, kind)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("side", [1, -1])
def test_a_fill_that_the_gate_has_not_sent_is_named_counted_and_guarded(mode, side):
    heard = []
    engine = cerebro(bars(*CALM), **MODES[mode])
    bt_risk.protect(engine, notify=heard.append)
    send = {1: bt.brokers.BackBroker.buy, -1: bt.brokers.BackBroker.sell}[side]
    strategy = kept(engine, {20: lambda s, before: send(before, s, s.data, 900)})
    (line,) = lines(strategy)
    assert line[1:4] == ("D0", "bypass", "bypass")
    assert line[-1] == (
        f"bypass: an order for {side * 900:+d} D0 has filled at 100 that the gate has not sent: "
        "no rule has judged it"
    )
    assert any("bypass" in sentence for sentence in heard)
    assert strategy.broker.bypass.count == 1
    assert strategy.held[-1] == (side * 900,)
    (stop,) = [o for o in strategy.broker.inner.pending if o.exectype == bt.Order.Stop]
    assert (stop.size, stop.created.price) == (-side * 900, 100 - side * 4)
    assert strategy.broker.state == "ACTIVE"


def test_limits_count_what_the_gate_has_not_sent():
    engine = protected()
    actions = {
        20: lambda s, before: before.buy(s, s.data, 900),
        25: lambda s, before: s.buy(size=10),
    }
    strategy = kept(engine, actions)
    assert strategy.held[-1] == (900,)
    assert reasons(strategy, "reject")[0].startswith("RiskPerTrade: ")


def test_an_order_that_fills_in_parts_is_named_once():
    engine = protected()
    engine.broker.set_filler(bt.broker.fillers.FixedSize(size=100))
    strategy = kept(engine, {20: lambda s, before: before.buy(s, s.data, 300)})
    assert strategy.held[-1] == (300,)
    assert len(lines(strategy)) == strategy.broker.bypass.count == 1
    (stop,) = [o for o in strategy.broker.inner.pending if o.exectype == bt.Order.Stop]
    assert stop.size == -300


def test_an_exit_that_goes_past_the_gate_ends_the_stop():
    engine = protected()
    actions = {
        20: lambda s, before: s.buy(size=100),
        25: lambda s, before: before.sell(s, s.data, 100),
    }
    strategy = kept(engine, actions)
    assert strategy.held[-1] == (0,)
    assert not strategy.broker.inner.pending
    assert len(lines(strategy)) == 1


def test_a_bypass_halts_where_that_is_set_and_exits_pass():
    engine = protected(on_bypass="halt")
    actions = {
        20: lambda s, before: before.buy(s, s.data, 900),
        25: lambda s, before: s.buy(size=10),
        30: lambda s, before: s.close(),
    }
    strategy = kept(engine, actions)
    assert strategy.broker.state == "HALTED"
    (halt,) = reasons(strategy, "halt")
    assert halt.startswith("bypass: an order for +900 D0 has filled at 100")
    assert strategy.made[1].status == bt.Order.Rejected
    assert strategy.made[1].info.bt_risk == halt
    assert strategy.held[-1] == (0,)


def test_an_entry_that_rests_is_cancelled_by_that_halt_and_no_fill_is_lost():
    engine = protected(on_bypass="halt")
    actions = {
        19: lambda s, before: s.buy(size=10, exectype=bt.Order.Limit, price=90.0),
        20: lambda s, before: (before.buy(s, s.data, 30), s.buy(size=20)),
    }
    strategy = kept(engine, actions)
    assert strategy.held[-1] == (50,)
    assert strategy.made[0].status == bt.Order.Canceled
    book = strategy.broker.book
    assert book.instruments[0].size == 50
    assert [o.size for o in strategy.broker.inner.pending] == [-50]


def test_observing_names_it_and_changes_nothing():
    engine = protected(mode="observe", on_bypass="halt")
    actions = {
        20: lambda s, before: before.buy(s, s.data, 900),
        25: lambda s, before: s.buy(size=10),
    }
    strategy = kept(engine, actions)
    assert len(lines(strategy)) == 1
    assert strategy.held[-1] == (910,)


def test_components_alone_notice_it_too():
    engine = cerebro(bars(*CALM))
    before = engine.broker
    gate = bt_risk.RiskBroker(before, limits=[NotionalLimit(1.0)], on_bypass="halt")
    engine.setbroker(gate)
    strategy = play(engine, {20: lambda s: before.buy(s, s.data, 900)})
    assert gate.state == "HALTED"
    assert len(lines(strategy)) == 1


def test_a_joined_gate_keeps_what_the_first_one_does_after_a_bypass():
    first = bt_risk.RiskBroker(on_bypass="halt")
    assert bt_risk.RiskBroker(first).on_bypass == "halt"
    engine = cerebro(bars(*CALM))
    engine.setbroker(first)
    bt_risk.protect(engine)
    engine.addstrategy(Script)
    engine.run()
    assert first.on_bypass == "halt"


@pytest.mark.parametrize("on_bypass", ["alert", "halt"])
def test_a_stop_that_is_cancelled_at_the_wrapped_broker_is_placed_again_and_named_once(on_bypass):
    engine = protected(on_bypass=on_bypass)

    def cancel(strategy, before):
        for order in before.get_orders_open():
            before.cancel(order)

    actions = dict.fromkeys(range(25, 30), cancel) | {20: lambda s, before: s.buy(size=10)}
    strategy = kept(engine, actions)
    assert reasons(strategy) == [
        "bypass: the stop of D0 was cancelled, and not by the gate: it is placed again, and until "
        "then nothing protects"
    ]
    assert strategy.broker.state == ("HALTED" if on_bypass == "halt" else "ACTIVE")
    assert [o.size for o in strategy.broker.inner.pending] == [-10]


class Cancels(FakeBroker):
    """A venue that cancels every order by itself at bar 25, as at the end of a day."""

    def next(self):
        super().next()
        if len(self.cerebro.datas[0]) == 25:
            for order in list(self._working):
                self._end(order, order.cancel)


def test_a_stop_that_a_venue_cancels_is_placed_again_and_named():
    venue = Cancels()
    strategy = play(protected(broker=venue), {20: lambda s: s.buy(size=10)})
    assert [o.executed.remsize for o in venue._working] == [-10]
    assert "was cancelled, and not by the gate" in reasons(strategy)[0]


def test_a_stop_that_moves_by_cancel_and_replace_is_the_gate_s_own_doing():
    rows = [*flat(22), *[(p, p + 1, p - 1, p) for p in range(100, 120)]]
    actions = {20: lambda s: s.buy(size=10), 30: lambda s: s.sell(size=4), 35: lambda s: s.close()}
    strategy = play(protected(bars(*rows), broker=FakeBroker()), actions)
    assert strategy.held[-1] == (0,)
    assert not lines(strategy)


# -- a broker of its own -------------------------------------------------------------------------


def in_env(strategy, broker):
    strategy.env.broker = broker


def by_setbroker(strategy, broker):
    strategy.cerebro.setbroker(broker)


def in_both(strategy, broker):
    strategy.env.broker = strategy.broker = broker


SETS = [in_env, by_setbroker, in_both]


class Own(Script):
    """Set a broker of its own: in ``__init__``, in ``start()``, or at the bar `when`."""

    params = {"when": "init", "how": in_both, "make": lambda s: bt.brokers.BackBroker(cash=1e5)}

    def _set(self, when):
        if self.p.when == when:
            self.p.how(self, self.p.make(self))

    def __init__(self):
        super().__init__()
        self._set("init")

    def start(self):
        self._set("start")

    def next(self):
        self._set(len(self))
        super().next()


WHENS = ["init", "start", 1, 25]


def run_own(engine, actions, **params):
    engine.addstrategy(Own, actions=actions, **params)
    return engine.run()[0]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("when", WHENS)
@pytest.mark.parametrize("how", SETS)
def test_a_broker_that_a_strategy_sets_is_wrapped_and_its_orders_are_judged(how, when, mode):
    heard = []
    engine = cerebro(bars(*CALM), **MODES[mode])
    bt_risk.protect(engine, notify=heard.append)
    strategy = run_own(engine, {30: lambda s: s.buy(size=900)}, how=how, when=when)
    assert strategy.held[-1] == (250,)
    (reason,) = reasons(strategy)
    assert reason == (
        "bypass: a strategy has replaced the broker of the run by BackBroker of its own: the gate "
        "wraps that one now, and judges every order from now on"
    )
    assert len([sentence for sentence in heard if "bypass" in sentence]) == 1
    assert not reasons(strategy, "halt")
    (stop,) = strategy.broker.inner.pending
    assert stop.size == -250


def test_its_own_cash_and_commissions_hold():
    def make(strategy):
        broker = bt.brokers.BackBroker(cash=5e4)
        broker.setcommission(commission=0.01)
        return broker

    engine = protected()
    strategy = run_own(engine, {30: lambda s: s.buy(size=900)}, make=make)
    assert strategy.held[-1] == (125,)
    assert engine.broker.getcash() == 5e4 - 125 * 100 * 1.01


@pytest.mark.parametrize("when", ["start", 5])
def test_an_order_that_was_sent_to_it_before_is_named_and_guarded(when):
    def order(strategy):
        strategy.buy(size=900)

    engine = protected(bars(*flat(20), *CALM))
    strategy = run_own(engine, {5: order}, when=when if when == "start" else 5)
    if when == "start":
        assert strategy.held[-1] == (0,)  # the gate was in front again: the ATR is unknown
        return
    assert strategy.held[-1] == (900,)
    assert len(reasons(strategy)) == 2
    assert [o.size for o in strategy.broker.inner.pending] == [-900]


def test_what_the_old_broker_held_is_gone_and_no_loss():
    """Position, working orders and stops stay with a broker that nobody runs any more."""
    engine = protected(policy=bt_risk.Policy(drawdown_limit=0.01))
    actions = {
        18: lambda s: (s.buy(size=100), s.sell(size=1, exectype=bt.Order.Limit, price=200.0)),
        30: lambda s: s.buy(size=40),
    }

    def make(strategy):
        return bt.brokers.BackBroker(cash=5e4)

    strategy = run_own(engine, actions, when=25, make=make)
    assert strategy.held[-1] == (40,)
    assert strategy.broker.book.instruments[0].size == 40
    assert not reasons(strategy, "halt")
    (stop,) = strategy.broker.inner.pending
    assert (stop.size, [*strategy.broker.book.working]) == (-40, [stop.ref])


def test_a_broker_that_is_set_after_a_gain_is_no_loss():
    """Its fund value begins at 100 again: a breaker must not take that for a drawdown."""
    rows = [*flat(22), *[(p, p + 1, p - 1, p) for p in range(100, 130, 3)], *flat(9, price=127.0)]
    engine = protected(bars(*rows), policy=bt_risk.Policy(drawdown_limit=0.02))
    strategy = run_own(engine, {18: lambda s: s.buy(size=200)}, when=32)
    assert strategy.broker.unit_value() > 104
    assert not reasons(strategy, "halt")
    assert len(strategy) == len(rows)


class Elsewhere(FakeBroker):
    """Hold more than there are data feeds for, which loses 400 a bar from bar 30 on."""

    def getvalue(self, datas=None):
        return super().getvalue() - 400.0 * max(0, len(self.cerebro.datas[0]) - 29)


def test_a_breaker_follows_the_broker_that_was_set():
    """Nothing else happens: no order is sent, and nothing fills."""

    def make(strategy):
        venue = Elsewhere()
        venue.start()
        return venue

    policy = bt_risk.Policy(drawdown_limit=0.03, action="pause")
    strategy = run_own(protected(policy=policy), {}, when=25, make=make)
    assert strategy.broker.state == "REDUCING"


def test_a_stop_at_a_broker_that_was_set_sells_no_more_than_is_held():
    """The exit and the stop are reached within one bar."""
    rows = [*flat(34), (100, 100, 80, 85), *flat(4, price=85.0)]
    engine = protected(bars(*rows))
    actions = {30: lambda s: s.buy(size=100), 34: lambda s: s.sell(size=100)}
    for when in ("init", 25):
        assert run_own(engine, actions, when=when).held[-1] == (0,)
        engine = protected(bars(*rows))


@pytest.mark.parametrize("fast", [True, False])
def test_a_stop_that_has_moved_fills_at_its_new_price_at_a_broker_that_comes_back(fast):
    """The first broker had orders on its queue before another one took its place for a while."""
    rise = [(100 + k, 101 + k, 99 + k, 100 + k) for k in range(1, 4)]
    rows = [*flat(60), *rise, (103, 104, 102, 103), (103, 104, 96, 97), *flat(3, price=97.0)]
    engine = cerebro(bars(*rows))
    first = engine.broker
    bt_risk.protect(engine, bt_risk.Policy(atr_multiple=3.0), fast=fast)
    actions = {
        18: lambda s: s.buy(size=10),
        20: lambda s: s.close(),
        24: lambda s: in_both(s, bt.brokers.BackBroker(cash=1e5)),
        27: lambda s: in_both(s, first),
        30: lambda s: s.buy(size=10),
    }
    strategy = play(engine, actions)
    assert strategy.broker.inner is first
    assert [line[0] for line in fills(strategy)] == [19, 21, 31, 65]


def test_a_position_that_the_new_broker_brings_is_guarded():
    def make(strategy):
        broker = bt.brokers.BackBroker(cash=1e5)
        broker.positions[strategy.data].update(70, 100.0)
        return broker

    engine = protected()
    strategy = run_own(engine, {}, when=25, make=make)
    assert [o.size for o in strategy.broker.inner.pending] == [-70]
    assert reasons(strategy)[-1] == (
        "bypass: the broker holds 70 D0 where the orders of the gate make 0: no rule has judged "
        "the difference"
    )


def test_the_wrapped_broker_in_the_place_of_the_gate_changes_nothing():
    engine = protected()

    def make(strategy):
        return strategy.broker.inner

    actions = {18: lambda s: s.buy(size=10), 30: lambda s: s.buy(size=900)}
    strategy = run_own(engine, actions, when=25, make=make)
    assert strategy.held[-1] == (250,)
    assert len(reasons(strategy)) == 1


def test_a_gate_of_its_own_brings_its_limits():
    def make(strategy):
        return bt_risk.RiskBroker(bt.brokers.BackBroker(cash=1e5), limits=[NotionalLimit(0.1)])

    strategy = run_own(protected(), {30: lambda s: s.buy(size=900)}, make=make)
    assert strategy.held[-1] == (100,)
    assert len(reasons(strategy)) == 1


def test_joining_the_gate_is_no_bypass():
    def make(strategy):
        return bt_risk.RiskBroker(strategy.env.broker, limits=[NotionalLimit(0.1)])

    for when in ("start", 25):
        strategy = run_own(protected(), {30: lambda s: s.buy(size=900)}, when=when, make=make)
        assert strategy.held[-1] == (250,)
        assert not reasons(strategy)


def only_attribute(strategy, broker):
    strategy.broker = broker


@pytest.mark.parametrize("when", WHENS)
def test_a_strategy_whose_broker_attribute_is_another_gets_the_gate_back(when):
    engine = protected()
    strategy = run_own(engine, {30: lambda s: s.buy(size=900)}, how=only_attribute, when=when)
    assert strategy.held[-1] == (250,)
    assert reasons(strategy) == [
        "bypass: Own has set BackBroker of its own as its broker instead of the gate: it has the "
        "gate again, which judges every order from now on"
    ]


@pytest.mark.parametrize("how", [in_both, only_attribute])
@pytest.mark.parametrize("when", WHENS)
def test_another_broker_halts_where_that_is_set(when, how):
    engine = protected(on_bypass="halt")
    strategy = run_own(engine, {30: lambda s: s.buy(size=900)}, how=how, when=when)
    assert strategy.held[-1] == (0,)
    assert strategy.broker.state == "HALTED"
    assert len(reasons(strategy, "halt")) == 1


def test_the_second_strategy_is_watched_as_well():
    engine = protected()
    engine.addstrategy(Script, actions={30: lambda s: s.buy(size=100)})
    engine.addstrategy(Own, actions={31: lambda s: s.buy(size=900)}, when=25)
    first, second = engine.run()
    assert first.broker is second.broker
    assert len(reasons(second)) == 1
    assert second.held[-1] == (350,)  # rule 1 allows each strategy 250 units


def test_the_run_after_it_begins_anew():
    engine = protected()
    engine.addstrategy(Own, actions={30: lambda s: s.buy(size=900)})
    for _ in range(2):
        strategy = engine.run()[0]
        assert strategy.held[-1] == (250,)
        assert len(reasons(strategy)) == 1


def test_a_run_with_its_own_broker_and_every_limit_off_is_the_bare_run():
    def engine(protects):
        run = cerebro(random_walk(3, 120))
        if protects:
            off = dict.fromkeys(bt_risk.Policy.switches())
            bt_risk.protect(run, bt_risk.Policy(**off, trailing_stop=False, sizer=False))
        actions = {
            20: lambda s: s.buy(size=700),
            30: lambda s: s.sell(size=900),
            40: lambda s: s.buy(size=1, exectype=bt.Order.Stop, price=s.data.close[0] * 1.01),
            80: lambda s: s.close(),
        }
        run.addstrategy(Own, actions=actions)
        return run

    assert record(engine(True)) == record(engine(False))


@pytest.mark.parametrize("maxcpus", [1, 2])
def test_an_optimisation_notices_it_in_every_point(maxcpus):
    engine = cerebro(bars(*CALM), maxcpus=maxcpus)
    bt_risk.protect(engine)
    engine.optstrategy(OwnPlain, size=[900, 700])
    for (point,) in engine.run():
        counts = point.analyzers.riskjournal.counts()
        assert counts["bypass", "bypass"] == counts["RiskPerTrade", "trim"] == 1


class OwnPlain(bt.Strategy):
    params = {"size": 1}

    def __init__(self):
        self.env.broker = self.broker = bt.brokers.BackBroker(cash=1e5)

    def next(self):
        if len(self) == 30:
            self.buy(size=self.p.size)


# -- positions -----------------------------------------------------------------------------------


def test_a_position_that_was_written_into_the_broker_is_found_at_the_next_fill():
    engine = protected()
    actions = {
        20: lambda s: s.broker.positions[s.data].update(60, 100.0),
        25: lambda s: s.buy(size=10),
    }
    strategy = play(engine, actions)
    assert len(lines(strategy)) == 1
    assert strategy.broker.book.instruments[0].size == 70
    assert [o.size for o in strategy.broker.inner.pending] == [-70]


def limited(*frames):
    """Return a Cerebro whose gate judges orders by a limit that cuts none."""
    engine = cerebro(*frames, cash=1e15)
    gate = bt_risk.RiskBroker(engine.broker, limits=[NotionalLimit(1e6)])
    engine.setbroker(gate)
    return engine


def test_large_sizes_that_round_are_no_difference():
    """The book adds up what each strategy holds, BackBroker the fills in their sequence."""
    engine = limited(bars(*CALM))
    for share in (0.1, 0.7, 1 / 3):
        actions = {k: lambda s, x=share * k: s.buy(size=123456789.0 * x) for k in range(17, 30)}
        engine.addstrategy(Script, actions=actions)
    strategy = engine.run()[0]
    held = strategy.broker.book.instruments[0].size
    assert 1e-9 < abs(held - strategy.position.size) < 1e-3
    assert not lines(strategy)


def test_a_position_that_data_feeds_share_is_that_of_the_book():
    engine = limited(bars(*CALM), bars(*CALM))
    engine.datas[1].compensate(engine.datas[0])
    actions = {20: lambda s: s.buy(size=10), 25: lambda s: s.sell(s.data1, size=4)}
    strategy = play(engine, actions)
    assert strategy.held[-1] == (6, 0)
    assert not lines(strategy)


class Late(FakeBroker):
    """A venue whose fills are notified two ticks after its positions have changed."""

    def start(self):
        super().start()
        self._later = []

    def _notify(self, order):
        delay = 2 if order.status == order.Completed else 0
        self._later.append((self.ticks + delay if hasattr(self, "ticks") else 0, order.clone()))

    def next(self):
        self.ticks = getattr(self, "ticks", 0) + 1
        super().next()
        due = [row for row in self._later if row[0] <= self.ticks]
        self._later = [row for row in self._later if row[0] > self.ticks]
        self._news.extend(order for _, order in due)


def test_a_fill_that_is_notified_late_is_no_bypass():
    venue = Late()
    engine = protected(broker=venue)
    actions = {k: lambda s: s.buy(size=1) for k in range(18, 30)} | {31: lambda s: s.close()}
    strategy = play(engine, actions)
    assert not lines(strategy)


class Revived(FakeBroker):
    """A venue that fills an order one tick after it has reported it as cancelled."""

    def next(self):
        for order in self._ended:
            order.status = order.Accepted
            order.exectype = bt.Order.Market
            self._working.append(order)
        self._ended = []
        super().next()

    def start(self):
        super().start()
        self._ended = []

    def _end(self, order, how):
        super()._end(order, how)
        if order.exectype == bt.Order.Limit:
            self._ended.append(order)


def test_an_order_of_the_gate_that_fills_after_its_end_is_no_bypass():
    venue = Revived()
    engine = protected(broker=venue)
    made = []
    actions = {
        20: lambda s: made.append(s.buy(size=10, exectype=bt.Order.Limit, price=90.0)),
        25: lambda s: s.cancel(made[0]),
    }
    strategy = play(engine, actions)
    assert venue.sizes == [10]
    assert not lines(strategy)
    assert [o.executed.remsize for o in venue._working] == [-10]


class Invents(FakeBroker):
    """A store that invents an order to explain a position from before the run."""

    def next(self):
        super().next()
        data = self.cerebro.datas[0]
        if len(data) == 1 and not self._positions[data]:
            order = bt.order.BuyOrder(
                owner=None, data=data, size=7, price=100.0, exectype=bt.Order.Market, simulated=True
            )
            order.addcomminfo(self.getcommissioninfo(data))
            order.accept(self)
            self._working.append(order)
            self._try(order)


def test_an_order_that_a_store_invents_for_an_old_position_is_no_bypass():
    venue = Invents()
    strategy = play(protected(broker=venue), {})
    assert venue.sizes == [7]
    assert not lines(strategy)
    assert strategy.broker.book.instruments[0].size == 7


# -- orders of the past --------------------------------------------------------------------------

HISTORY = [["2020-01-20", 5000, 101.0], ["2020-01-30", -5000, 101.5]]


@pytest.mark.parametrize("notify", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_a_historical_fill_passes_with_a_line_and_gets_a_stop(mode, notify):
    """It is no bypass, so that nothing halts."""
    engine = cerebro(bars(*CALM), **MODES[mode])
    engine.broker.setcommission(leverage=10)
    engine.add_order_history(HISTORY, notify=notify)
    bt_risk.protect(engine, on_bypass="halt")
    rested = []
    actions = {25: lambda s: rested.extend(o.size for o in s.broker.inner.pending)}
    strategy = play(engine, actions)
    assert strategy.held[24] == (5000,)
    assert strategy.held[-1] == (0,)
    assert rested == [-5000]
    said = [line for line in strategy.broker.journal.lines if line[2] == "history"]
    assert [line[1:6] for line in said] == [("D0", "history", "note", 5000.0, 5000.0)] * 2
    assert said[0][-1] == (
        "history: an order for +5000 D0 has filled at 101; it comes from add_order_history, and "
        "no rule has judged it"
    )
    assert not lines(strategy)
    assert not reasons(strategy, "halt")


# -- parameters ----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["stop", "", None, True])
def test_protect_refuses_another_word_for_what_follows(value):
    with pytest.raises(ParameterError) as caught:
        bt_risk.protect(cerebro(bars(*CALM)), on_bypass=value)
    assert str(caught.value).startswith("protect: on_bypass must be one of 'alert', 'halt'")
