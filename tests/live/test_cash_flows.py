"""Deposits and withdrawals of a live account: no profit, no loss, and no reason to sell."""

import math

import backtrader as bt
import pytest
from helpers import hostile_brokers as hostile
from helpers.fake_broker import FakeBroker
from helpers.hostile_brokers import Clock, reasons, run
from helpers.persistent_broker import PersistentBroker, PersistentFeed, read, write
from helpers.scenarios import Script, bars, cerebro, flat

import bt_risk

CALM = flat(40)
BREAKER = dict(drawdown_limit=0.05)


class Bank(hostile.Valued):
    """Have `paid` come in or go out: ``{bar: amount}``, in the first round after that bar."""

    params = (("paid", None),)

    def start(self):
        super().start()
        self._due = dict(self.p.paid)

    def next(self):
        super().next()
        for bar in [b for b in self._due if len(self.cerebro.datas[0]) >= b]:
            self.cash += self._due.pop(bar)


class Margined(Bank):
    """Hold contracts of 10 a point, which cost nothing."""

    def start(self):
        super().start()
        self.setcommission(commission=0.0, margin=1000.0, mult=10.0)

    def getvalue(self, datas=None):
        held = [(p, d) for d, p in self._positions.items() if p.size]
        return self.cash + sum(p.size * (d.close[0] - p.price) * 10.0 for p, d in held)

    def _try(self, order):
        held, fills, cash = self._positions[order.data].clone(), len(self.sizes), self.cash
        super()._try(order)
        if len(self.sizes) > fills:
            closed = order.executed.size if held.size else 0
            self.cash = cash - closed * (order.executed.price - held.price) * 10.0


def enter(size):
    return {20: lambda s: s.buy(size=size) if size > 0 else s.sell(size=-size)}


def judged(strategy):
    """Return state, mark and largest drawdown of the breaker."""
    breaker = strategy.analyzers.drawdownbreaker.get_analysis()
    return breaker["state"], breaker["high_water_mark"], breaker["max_drawdown"]


CALM_JUDGED = "ARMED", pytest.approx(100_000.0), pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("size", [0, 500, -500])
@pytest.mark.parametrize(
    "paid",
    [
        {28: -15_000.0},
        {28: -6_000.0},
        {25: -6_000.0, 31: -6_000.0},
        {28: 1_000.0},
        {28: 900_000.0},
        {28: 40_000.0, 33: -110_000.0},
    ],
    ids=["15 %", "6 %", "6 % twice", "1 % in", "tenfold", "in and out"],
)
def test_what_is_paid_in_or_out_moves_no_mark_and_is_no_drawdown(paid, size):
    venue = Bank(paid=paid)
    breaker = dict(drawdown_limit=0.05)
    strategy, journal = run(venue, CALM, enter(size) if size else {}, stop=False, breaker=breaker)
    assert strategy.held[-1] == (size,)
    assert judged(strategy) == CALM_JUDGED
    told = reasons(journal, "flow")
    assert [("deposit" in line, "withdrawal" in line) for line in told] == [
        (amount > 0, amount < 0) for amount in paid.values()
    ]
    assert reasons(journal, "equity") == []


@pytest.mark.parametrize("size", [20, -20])
def test_a_flow_beside_a_future_is_none_of_its_profit(size):
    rows = [*flat(25), *[(100 + k, 102 + k, 99 + k, 101 + k) for k in range(15)]]
    venue = Margined(paid={30: -20_000.0})
    strategy, journal = run(venue, rows, enter(size), stop=False, breaker=dict(drawdown_limit=0.5))
    assert len(reasons(journal, "flow")) == 1
    gained = size * 10.0 * 15
    at_flow = 100_000.0 + size * 10.0 * 5
    assert strategy.broker.unit_value() == pytest.approx(
        at_flow * (100_000.0 + gained - 20_000.0) / (at_flow - 20_000.0), rel=2e-3
    )


def test_the_alert_names_the_amount():
    venue = Bank(paid={28: -15_000.0})
    _, journal = run(venue, CALM, enter(500), stop=False, breaker=BREAKER)
    (told,) = reasons(journal, "flow")
    assert told.startswith("flow: a withdrawal of 15,000, no gain and no loss")


@pytest.mark.parametrize(("amount", "flows"), [(-400.0, 0), (400.0, 0), (-700.0, 1), (700.0, 1)])
def test_fees_funding_and_dividends_stay_profit_and_loss(amount, flows):
    venue = Bank(paid={28: amount})
    strategy, journal = run(venue, CALM, enter(500), stop=False, breaker=BREAKER)
    assert len(reasons(journal, "flow")) == flows
    unit = 100_000.0 + (0.0 if flows else amount)
    assert strategy.broker.unit_value() == pytest.approx(unit)


def test_a_loss_is_no_withdrawal():
    """The position falls by 12 points of 100 while 5,000 are taken out: the loss trips."""
    rows = [*flat(27), *[(100 - 2 * k, 101 - 2 * k, 97 - 2 * k, 98 - 2 * k) for k in range(6)]]
    venue = Bank(paid={29: -5_000.0})
    breaker = dict(drawdown_limit=0.1)
    rows += flat(5, price=88.0)
    strategy, journal = run(venue, rows, enter(900), stop=False, breaker=breaker)
    assert venue.sizes == [900, 0]
    assert len(reasons(journal, "flow")) == 1


@pytest.mark.parametrize("wrong", [0.0, 50_000.0, 1e6, math.nan])
def test_one_wrong_answer_about_cash_is_no_flow(wrong):
    class Once(FakeBroker):
        def getcash(self):
            return wrong if len(self.cerebro.datas[0]) == 28 else self.cash

    rows = [(100 + k % 3, 103 + k % 3, 99 + k % 3, 101 + k % 3) for k in range(40)]
    strategy, journal = run(Once(), rows, enter(500), stop=False, breaker=BREAKER)
    assert reasons(journal, "flow") == []
    assert strategy.broker.unit_value() == pytest.approx(strategy.broker.inner.getvalue())


@pytest.mark.parametrize("wrong", [0.6, 1.4])
def test_one_wrong_answer_about_cash_and_value_is_no_flow(wrong):
    class Once(FakeBroker):
        def getcash(self):
            return self.cash * wrong if len(self.cerebro.datas[0]) == 28 else self.cash

        def getvalue(self, datas=None):
            return super().getvalue() - self.cash + self.getcash()

    strategy, journal = run(
        Once(), CALM, enter(500), stop=False, breaker=BREAKER, feed=dict(idle=5), clock=Clock()
    )
    assert strategy.held[-1] == (500,)
    assert reasons(journal, "flow") == []
    assert judged(strategy) == CALM_JUDGED


def test_cash_that_an_order_reserves_is_no_flow():
    """The value of the account stays: 3,000 are only not free, for ten bars."""

    class Reserving(FakeBroker):
        def getcash(self):
            return self.cash - 3_000.0 * (25 <= len(self.cerebro.datas[0]) < 35)

    rows = [(100 + k % 3, 103 + k % 3, 99 + k % 3, 101 + k % 3) for k in range(40)]
    strategy, journal = run(Reserving(), rows, enter(300), stop=False, breaker=BREAKER)
    assert reasons(journal, "flow") == []
    assert reasons(journal, "equity") == []
    assert strategy.broker.unit_value() == pytest.approx(strategy.broker.inner.getvalue())


def test_a_withdrawal_that_the_value_shows_later_than_cash_is_one_flow():
    venue = Bank(paid={28: -15_000.0})
    venue.p.says = lambda v, bar, true: true + 15_000.0 if 28 <= bar < 32 else true
    strategy, journal = run(venue, CALM, enter(500), stop=False, breaker=BREAKER)
    assert strategy.held[-1] == (500,)
    assert judged(strategy) == CALM_JUDGED
    assert len(reasons(journal, "flow")) == 1


def test_cash_alone_shows_a_flow_where_the_value_cannot_be_used():
    venue = Bank(paid={28: -15_000.0}, says=lambda v, bar, true: math.nan)
    strategy, journal = run(venue, CALM, enter(500), stop=False, breaker=BREAKER)
    assert strategy.held[-1] == (500,)
    assert judged(strategy) == CALM_JUDGED
    assert len(reasons(journal, "flow")) == 1


# -- announced -----------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [25, 27, 28, 29, 33])
@pytest.mark.parametrize("amount", [-300.0, 300.0, -15_000.0])
def test_an_announced_flow_counts_once_whatever_comes_first(at, amount):
    """The strategy says so before, while and after cash shows it."""
    venue = Bank(paid={28: amount})
    actions = enter(500) | {at: lambda s: bt_risk.cash_flow(s, amount)}
    strategy, journal = run(venue, CALM, actions, stop=False, breaker=BREAKER)
    assert strategy.broker.unit_value() == pytest.approx(100_000.0)
    assert len(reasons(journal, "flow")) == 1
    assert strategy.held[-1] == (500,)


def test_an_announcement_is_used_up_by_the_move_that_it_is_about():
    """The second 300 are a fee: as much as was announced, but only once."""
    venue = Bank(paid={26: -300.0, 31: -300.0})
    actions = enter(500) | {25: lambda s: bt_risk.cash_flow(s, -300.0)}
    strategy, journal = run(venue, CALM, actions, stop=False, breaker=BREAKER)
    assert strategy.broker.unit_value() == pytest.approx(99_700.0, rel=2e-5)
    assert len(reasons(journal, "flow")) == 1


def test_an_announced_flow_that_never_comes_changes_nothing():
    actions = enter(500) | {25: lambda s: bt_risk.cash_flow(s, -15_000.0)}
    strategy, journal = run(FakeBroker(), CALM, actions, stop=False, breaker=BREAKER)
    assert judged(strategy) == CALM_JUDGED
    assert reasons(journal, "flow") == []


@pytest.mark.parametrize("late", [0, 3])
def test_flows_are_asked_for_and_counted_once(late):
    venue = Bank(paid={26: -300.0, 31: 20_000.0})

    def flows():
        bar = len(venue.cerebro.datas[0])
        return 7.0 - 300.0 * (bar >= 26 + late) + 20_000.0 * (bar >= 31 + late)

    live = dict(flows=flows, retry_after=0.0)
    strategy, journal = run(venue, CALM, enter(500), stop=False, breaker=BREAKER, **live)
    assert strategy.broker.unit_value() == pytest.approx(100_000.0)
    assert len(reasons(journal, "flow")) == 2


@pytest.mark.parametrize("answer", [OSError("no route"), math.nan, None])
def test_flows_that_fail_change_nothing(answer):
    def flows():
        if isinstance(answer, Exception):
            raise answer
        return answer

    strategy, journal = run(
        FakeBroker(), CALM, enter(500), stop=False, breaker=BREAKER, flows=flows
    )
    assert judged(strategy) == CALM_JUDGED
    assert reasons(journal, "flow") == []


@pytest.mark.parametrize("amount", [0, math.nan, math.inf, True, "5", None])
def test_a_flow_is_a_number_other_than_zero(amount):
    with pytest.raises(bt_risk.ParameterError, match="cash_flow"):
        bt_risk.RiskBroker(FakeBroker()).cash_flow(amount)


def test_a_cerebro_without_a_gate_takes_no_flow():
    with pytest.raises(bt_risk.ParameterError, match="protect"):
        bt_risk.cash_flow(cerebro(bars(*flat(3))), 5.0)


def test_in_a_backtest_it_pays_and_is_no_profit():
    engine = cerebro(bars(*flat(40)))
    engine.addanalyzer(bt_risk.DrawdownBreaker, drawdown_limit=0.05)
    pay = {25: lambda s: bt_risk.cash_flow(s, -15_000.0)}
    engine.addstrategy(Script, actions=enter(500) | pay)
    (strategy,) = engine.run()
    assert strategy.broker.getvalue() == pytest.approx(85_000.0)
    state, _, fallen = judged(strategy)
    assert (state, fallen) == ("ARMED", pytest.approx(0.0, abs=1e-9))


# -- across a restart ----------------------------------------------------------------------------


ROWS = [(100 + k % 2, 102, 99, 100 + k % 2) for k in range(60)]


def saved_run(folder, rows, actions=None, paid=0.0, **live):
    """Let a run with a state file trade at the venue in `folder`, after `paid` has come in."""
    file = folder / "venue.json"
    book = read(file)
    write(file, book | {"cash": book["cash"] + paid})
    engine = bt.Cerebro(stdstats=False)
    history = book["clock"].get("D0", 0)
    engine.adddata(PersistentFeed(dataname=bars(*rows), history=history), name="D0")
    engine.setbroker(PersistentBroker(file=str(file)))
    engine.addstrategy(Script, actions=actions)
    policy = bt_risk.Policy(
        trailing_stop=False, risk_limit=None, exposure_limit=None, drawdown_limit=0.05
    )
    bt_risk.protect(engine, policy, state=folder / "risk.db", **live)
    return engine.run()[0]


def journal_of(strategy, action="flow"):
    return reasons(strategy.analyzers.riskjournal.frame(), action)


@pytest.mark.parametrize("size", [0, 300, -300])
@pytest.mark.parametrize("paid", [-15_000.0, -6_000.0, 1_000.0, 400_000.0])
def test_what_is_paid_while_no_process_ran_moves_no_mark(tmp_path, size, paid):
    saved_run(tmp_path, ROWS[:30], enter(size) if size else {})
    strategy = saved_run(tmp_path, ROWS, paid=paid)
    state, mark, fallen = judged(strategy)
    assert state == "ARMED"
    assert mark == pytest.approx(100_000.0, rel=4e-3)
    assert fallen < 0.004
    assert len(journal_of(strategy)) == 1
    assert strategy.held[-1] == (size,)


def test_the_unit_value_survives_a_restart(tmp_path):
    saved_run(tmp_path, ROWS[:30], paid=0.0)
    saved_run(tmp_path, ROWS[:45], paid=-50_000.0)
    strategy = saved_run(tmp_path, ROWS, paid=0.0)
    assert judged(strategy) == CALM_JUDGED
    assert journal_of(strategy) == []
    assert strategy.broker.unit_value() == pytest.approx(100_000.0)
    assert strategy.broker.equity() == pytest.approx(50_000.0)


def test_a_position_that_was_closed_while_no_process_ran_is_no_flow(tmp_path):
    """It was sold 3 below the close at which it is booked: that is a loss."""
    saved_run(tmp_path, ROWS[:30], enter(300))
    book = read(tmp_path / "venue.json")
    cash = book["cash"] + 300 * 97.0
    write(tmp_path / "venue.json", book | {"positions": {"D0": [0, 0.0]}, "cash": cash})
    strategy = saved_run(tmp_path, ROWS)
    assert journal_of(strategy) == []
    assert judged(strategy)[0] == "ARMED"
    assert strategy.broker.unit_value() == pytest.approx(cash)


def test_flows_go_on_after_a_restart(tmp_path):
    saved_run(tmp_path, ROWS[:30], flows=lambda: 5.0)
    strategy = saved_run(tmp_path, ROWS, paid=-200.0, flows=lambda: -195.0, retry_after=0.0)
    (told,) = journal_of(strategy)
    assert "a withdrawal of 200, " in told
    assert strategy.broker.unit_value() == pytest.approx(100_000.0)


@pytest.mark.parametrize("wrong", [0.5, 2.0])
def test_one_wrong_answer_right_after_a_restart_meets_the_saved_mark_in_vain(tmp_path, wrong):
    saved_run(tmp_path, ROWS[:30], enter(300))

    class Once(PersistentBroker):
        asked = 0

        def getvalue(self, datas=None):
            self.asked += 1
            return super().getvalue() * (wrong if self.asked <= 6 else 1.0)

    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(globals(), "PersistentBroker", Once)
        strategy = saved_run(tmp_path, ROWS)
    state, mark, fallen = judged(strategy)
    assert state == "ARMED"
    assert mark == pytest.approx(100_000.0, rel=4e-3)
    assert fallen < 0.004


@pytest.mark.parametrize("size", [300, -300])
def test_cash_shows_no_flow_where_the_book_is_not_the_broker_s(size):
    """The value cannot be used, and the fill of an order is notified ten bars late."""

    class Late(Bank):
        def _notify(self, order):
            if order.status == order.Completed:
                self.held_back = order.clone()
            else:
                super()._notify(order)

        def next(self):
            super().next()
            if len(self.cerebro.datas[0]) == 31 and self.held_back is not None:
                self._news.append(self.held_back)
                self.held_back = None

        held_back = None

    venue = Late(paid={}, says=lambda v, bar, true: math.nan)
    live = dict(stop=False, breaker=BREAKER, reconcile_every=0)
    strategy, journal = run(venue, CALM, enter(size), **live)
    assert reasons(journal, "flow") == []
    assert strategy.broker.unit_value() == pytest.approx(100_000.0)
