"""What a live account is worth: which values of a broker are believed, and which are not."""

import math

import backtrader as bt
import pytest
from helpers import hostile_brokers as hostile
from helpers.fake_broker import FakeBroker
from helpers.hostile_brokers import Clock, reasons, run
from helpers.scenarios import Script, bars, flat, random_walk

import bt_risk
from bt_risk.limits.base import NotionalLimit

CALM = flat(40)
# A fall of 13 % of the account, which prices could explain where 90,000 are held.
LOSS = 13_000.0


def enter(size):
    return {20: lambda s: (s.buy if size > 0 else s.sell)(size=abs(size))}


@pytest.mark.parametrize("side", [1, -1])
def test_a_loss_between_two_closes_is_believed_when_it_stands(side):
    """The position of a short is as large as that of a long: half of 90,000 can be explained."""
    venue = hostile.Valued(says=lambda v, bar, true: true - LOSS if bar >= 28 else true)
    breaker = dict(drawdown_limit=0.1)
    live = dict(stop=False, breaker=breaker, feed=dict(idle=30), clock=Clock(step=1.0))
    run(venue, CALM, enter(side * 900), **live)
    assert venue.sizes == [side * 900, 0]


@pytest.mark.parametrize("side", [1, -1])
def test_a_loss_at_prices_below_zero_is_believed_when_it_stands(side):
    """The market is at -100: 900 units are as much as at 100."""
    venue = hostile.Valued(says=lambda v, bar, true: true - LOSS if bar >= 28 else true)
    breaker = dict(drawdown_limit=0.1)
    facts = {"D0": {"negative_prices": True}}
    live = dict(stop=False, breaker=breaker, feed=dict(idle=30), clock=Clock(step=1.0))
    run(venue, flat(40, price=-100.0), enter(side * 900), instruments=facts, **live)
    assert venue.sizes == [side * 900, 0]


def test_bad_values_with_good_ones_between_them_are_never_enough():
    """Five bars far from each other are wrong; three in a row would have been believed."""
    wrong = (22, 25, 28, 31, 34)
    venue = hostile.Valued(says=lambda v, bar, true: true - LOSS if bar in wrong else true)
    breaker = dict(drawdown_limit=0.1)
    strategy, journal = run(venue, CALM, enter(900), stop=False, breaker=breaker)
    assert strategy.held[-1] == (900,)
    assert reasons(journal, "halt") == []


def test_a_small_position_that_is_left_out_is_no_loss():
    """The broker reports cash alone: 96,000 of 100,000, within the jump that needs no reason."""
    venue = hostile.Valued(says=lambda v, bar, true: v.cash)
    breaker = dict(drawdown_limit=0.03)
    strategy, journal = run(venue, CALM, enter(40), stop=False, breaker=breaker)
    assert strategy.held[-1] == (40,)
    assert (
        "96000 is not equity; cash and positions, 100000, are used"
        in (reasons(journal, "equity")[0])
    )


def test_a_value_that_need_not_move_may_stand_still():
    """One unit gains and loses a point: a ten-thousandth of the account would be ten."""
    rows = [(100 + k % 2, 102, 99, 100 + k % 2) for k in range(27)]
    venue = hostile.Valued(says=lambda v, bar, true: round(true, -3))
    _, journal = run(venue, rows, enter(1), stop=False, breaker={})
    assert reasons(journal, "equity") == []


def test_commission_explains_what_it_takes():
    """0.5 % of 90,000 is 450, and no more than 100 may go without a reason."""

    class Charging(FakeBroker):
        def start(self):
            super().start()
            self.setcommission(commission=0.005)

        def _try(self, order):
            fills = len(self.sizes)
            super()._try(order)
            if len(self.sizes) > fills:
                self.cash -= order.executed.comm

    venue = Charging()
    live = dict(stop=False, breaker={}, equity_jump_limit=0.001)
    _, journal = run(venue, CALM, enter(900), **live)
    assert venue.cash == 100_000.0 - 90_000.0 - 450.0
    assert reasons(journal, "equity") == []


# -- one wrong answer, or one wrong bar ----------------------------------------------------------


def moving(count=40):
    """Return bars that go up and down by a point, and end where they begin."""
    return [(100 + k % 2, 102, 99, 100 + k % 2) for k in range(count)]


def judged(strategy):
    breaker = strategy.analyzers.drawdownbreaker.get_analysis()
    return breaker["state"], breaker["high_water_mark"], breaker["max_drawdown"]


@pytest.mark.parametrize("size", [900, -900])
@pytest.mark.parametrize("close", [85.0, 115.0, 95.0, 105.0, 1000.0, 10.0])
def test_one_wrong_bar_does_not_overrule_a_broker_that_was_right(close, size):
    """The venue reports 100,000 all the time, and the breaker would trip at 4 %."""
    rows = flat(40)
    rows[28] = (100, max(close, 101), min(close, 99), close)
    venue = hostile.Valued(
        says=lambda v, bar, true: v.cash + sum(p.size * 100.0 for p in v._positions.values())
    )
    breaker = dict(drawdown_limit=0.04)
    strategy, journal = run(venue, rows, enter(size), stop=False, breaker=breaker)
    assert strategy.held[-1] == (size,)
    assert judged(strategy) == ("ARMED", pytest.approx(100_000.0), pytest.approx(0.0))
    assert reasons(journal, "halt") == []


def test_no_entry_is_sized_while_a_bar_contradicts_the_broker():
    rows = flat(40)
    rows[28] = (100, 101, 85, 85.0)
    venue = hostile.Valued(says=lambda v, bar, true: v.cash + 90_000.0 * bool(v.sizes))
    actions = enter(900) | {29: lambda s: s.buy(size=10), 30: lambda s: s.buy(size=10)}
    strategy, _ = run(venue, rows, actions, stop=False, breaker={}, limits=[NotionalLimit(2.0)])
    assert "equity nan" in next(row[-1] for row in strategy.orders if row[2] == "Rejected")
    assert strategy.held[-1] == (910,)


@pytest.mark.parametrize("size", [900, -900])
def test_a_fall_that_the_broker_does_not_follow_trips_when_the_next_bar_agrees(size):
    price = 100.0 - size / 900 * 18
    rows = [*flat(28), (100, max(100, price), min(100, price), price), *flat(11, price=price)]
    venue = hostile.Valued(
        says=lambda v, bar, true: v.cash + sum(p.size * 100.0 for p in v._positions.values())
    )
    breaker = dict(drawdown_limit=0.1)
    strategy, journal = run(venue, rows, enter(size), stop=False, breaker=breaker)
    assert venue.sizes == [size, 0]
    (halted,) = journal[journal.action == "halt"].time
    assert halted == bars(*rows).index[29]


def test_a_broker_that_bars_have_overruled_is_not_believed_for_standing_still():
    """Prices stand at 82 from bar 29 on, so that nothing shows the value of 100,000 as frozen."""
    venue = hostile.Valued(says=lambda v, bar, true: 100_000.0)
    breaker, rows = dict(drawdown_limit=0.5), [*flat(28), *flat(12, price=82.0)]
    strategy, journal = run(venue, rows, enter(900), stop=False, breaker=breaker)
    assert strategy.broker.equity() == pytest.approx(100_000.0 - 900 * 18)
    assert len(reasons(journal, "equity")) == 1


def test_a_bar_that_contradicts_less_than_the_one_before_begins_anew():
    """12 points low, then 8, then 12 again for one bar each: no two agree."""
    rows = flat(40)
    for bar, close in ((26, 88.0), (27, 92.0), (28, 88.0)):
        rows[bar] = (100, 101, close, close)
    venue = hostile.Valued(
        says=lambda v, bar, true: v.cash + sum(p.size * 100.0 for p in v._positions.values())
    )
    breaker = dict(drawdown_limit=0.1)
    strategy, _ = run(venue, rows, enter(900), stop=False, breaker=breaker)
    assert strategy.held[-1] == (900,)


@pytest.mark.parametrize("wrong", [0, 1])
def test_of_several_data_feeds_one_with_a_wrong_bar_waits_for_its_own_next_one(wrong):
    """The bars of the other one come in between, and agree with nothing."""
    slow, fast = flat(40), flat(160)
    slow[28] = (100, 101, 80, 80.0)
    frames = [bars(*slow, freq="4h"), bars(*fast, freq="h")]
    engine = bt.Cerebro(stdstats=False)
    for place in (wrong, 1 - wrong):
        engine.adddata(hostile.Ticking(dataname=frames[place], idle=0), name=f"D{place}")
    venue = hostile.Valued(
        says=lambda v, bar, true: v.cash + sum(p.size * 100.0 for p in v._positions.values())
    )
    engine.setbroker(bt_risk.RiskBroker(venue))
    slow_data = engine.datas[0 if wrong == 0 else 1]
    engine.addstrategy(Script, actions={90: lambda s: s.buy(data=slow_data, size=900)})
    engine.addanalyzer(bt_risk.DrawdownBreaker, drawdown_limit=0.1)
    (strategy,) = engine.run(quicknotify=True)
    assert venue.sizes == [900]
    assert judged(strategy)[0] == "ARMED"


@pytest.mark.parametrize("size", [900, -900])
@pytest.mark.parametrize("close", [93.0, 107.0, 85.0, 115.0])
@pytest.mark.parametrize(
    "says",
    [lambda v, bar, true: math.nan, lambda v, bar, true: 0.0, lambda v, bar, true: v.cash],
    ids=["nan", "zero", "cash only"],
)
def test_one_wrong_bar_trips_nothing_where_the_broker_s_value_is_no_help(says, close, size):
    rows = flat(40)
    rows[28] = (100, max(close, 101), min(close, 99), close)
    breaker = dict(drawdown_limit=0.04)
    venue = hostile.Valued(says=says)
    strategy, journal = run(venue, rows, enter(size), stop=False, breaker=breaker)
    assert strategy.held[-1] == (size,)
    assert judged(strategy) == ("ARMED", pytest.approx(100_000.0), pytest.approx(0.0))
    assert reasons(journal, "halt") == []


class Once:
    """Answer wrongly at one bar, or in the first rounds, and rightly at all others."""

    def __init__(self, venue, wrong, at=28):
        self.venue, self.wrong, self.at = venue, wrong, at

    def __call__(self):
        true = FakeBroker.getvalue(self.venue)
        if len(self.venue.cerebro.datas[0]) != self.at:
            return true
        return self.wrong(true) if callable(self.wrong) else self.wrong


@pytest.mark.parametrize("own", [True, False], ids=["equity=", "broker"])
@pytest.mark.parametrize("size", [0, 500, -500])
@pytest.mark.parametrize(
    "wrong",
    [0.0, math.nan, None, -5.0, 1e9, lambda v: v * 0.85, lambda v: v * 1.06, lambda v: v * 0.94],
    ids=["zero", "nan", "none", "negative", "large", "-15 %", "+6 %", "-6 %"],
)
@pytest.mark.parametrize("at", [1, 28])
def test_one_wrong_answer_moves_no_mark_trips_nothing_and_sizes_nothing(at, wrong, size, own):
    class Saying(FakeBroker):
        def getvalue(self, datas=None):
            return super().getvalue() if own else answer()

    venue = Saying()
    answer = Once(venue, wrong, at)
    actions = (enter(size) if size else {}) | {28: lambda s: s.buy(size=2000)}
    live = dict(equity=answer) if own else {}
    breaker, limits = dict(drawdown_limit=0.04), [NotionalLimit(1.0)]
    rows = moving()
    strategy, journal = run(
        venue, rows, actions, stop=False, breaker=breaker, limits=limits, **live
    )
    state, mark, fallen = judged(strategy)
    assert state == "ARMED"
    assert 98_900.0 <= mark <= 101_100.0  # 1,000 gain and lose a point
    assert fallen < 0.021
    assert reasons(journal, "halt") == []
    # 100 % of the account, whose value is 100,000 or less: long 500 more, or short to long.
    assert strategy.held[-1][0] <= 1010


@pytest.mark.parametrize("own", [True, False], ids=["equity=", "broker"])
def test_a_first_answer_that_cash_contradicts_has_to_stand(own):
    """At the start 300,000 are reported twice, and 100,000 from then on."""

    class Saying(FakeBroker):
        def getvalue(self, datas=None):
            return super().getvalue() if own else answer()

    def answer():
        return 300_000.0 if len(venue.cerebro.datas[0]) <= 2 else FakeBroker.getvalue(venue)

    venue = Saying()
    live = dict(equity=answer) if own else {}
    strategy, journal = run(venue, CALM, enter(100), stop=False, breaker={}, **live)
    assert judged(strategy) == ("ARMED", pytest.approx(100_000.0), pytest.approx(0.0))
    assert reasons(journal, "halt") == []


def test_what_an_account_holds_beside_cash_and_positions_counts_once_it_stands():
    venue = hostile.Valued(says=lambda v, bar, true: true + 250_000.0)
    strategy, journal = run(venue, CALM, enter(100), stop=False, breaker={})
    assert judged(strategy) == ("ARMED", pytest.approx(350_000.0), pytest.approx(0.0))
    assert reasons(journal, "equity") == []


def test_a_broker_that_recovers_after_a_bad_start_is_believed_and_no_gain():
    """Cash is the quote currency alone: 250,000 beside it are known only from the value."""
    venue = hostile.Valued(says=lambda v, bar, true: math.nan if bar < 5 else true + 250_000.0)
    strategy, _ = run(venue, CALM, enter(100), stop=False, breaker={})
    assert strategy.broker.equity() == pytest.approx(350_000.0)
    assert judged(strategy) == ("ARMED", pytest.approx(100_000.0), pytest.approx(0.0))


# -- a value that comes rarely -------------------------------------------------------------------


class Rarely(FakeBroker):
    """Report the value of every `every`th bar."""

    params = (("every", 3),)

    def start(self):
        super().start()
        self._value, self._at = self.p.cash, 0

    def getvalue(self, datas=None):
        bar = len(self.cerebro.datas[0])
        if bar != self._at and bar % self.p.every == 0:
            self._value = super().getvalue()
        self._at = bar
        return self._value


@pytest.mark.parametrize(("freq", "every"), [("1s", 180), ("1min", 3), ("10s", 18)])
def test_a_value_that_comes_every_three_minutes_is_no_alarm(freq, every):
    frame = random_walk(3, bars=800, volatility=0.001, freq=freq)
    engine = bt.Cerebro(stdstats=False)
    engine.adddata(hostile.Ticking(dataname=frame, idle=0), name="D0")
    venue = Rarely(every=every)
    engine.setbroker(bt_risk.RiskBroker(venue))
    engine.addstrategy(Script, actions={30: lambda s: s.buy(size=900)})
    engine.addanalyzer(bt_risk.DrawdownBreaker, drawdown_limit=0.2)
    engine.addanalyzer(bt_risk.RiskJournal)
    (strategy,) = engine.run(quicknotify=True)
    journal = strategy.analyzers.riskjournal.frame()
    assert reasons(journal, "equity") == []
    assert strategy.broker.equity() == venue._value


def test_a_value_that_has_stood_still_for_ten_minutes_is_not_equity():
    rows = [(100 + k % 2, 102, 99, 100 + k % 2) for k in range(40)]
    engine = bt.Cerebro(stdstats=False)
    engine.adddata(hostile.Ticking(dataname=bars(*rows, freq="1min"), idle=0), name="D0")
    engine.setbroker(bt_risk.RiskBroker(hostile.Valued(says=lambda v, bar, true: 100_000.0)))
    engine.addstrategy(Script, actions=enter(400))
    engine.addanalyzer(bt_risk.DrawdownBreaker)
    engine.addanalyzer(bt_risk.RiskJournal)
    (strategy,) = engine.run(quicknotify=True)
    journal = strategy.analyzers.riskjournal.frame()
    (at,) = journal[journal.action == "equity"].time
    # Filled in bar 21: the value follows no change from then on.
    assert 10 <= (at - bars(*rows, freq="1min").index[20]).total_seconds() / 60 <= 11
