"""The list of faults cannot rot: each fits today's source, and the tests that kill it exist."""

import ast
import functools
import itertools

import backtrader as bt
import pytest
from helpers import scenarios as feeds
from helpers.books import book_of, fill, work
from helpers.fake_broker import Venue
from helpers.recording import breaker_out_of_reach, ends, fills, limit_orders, play
from helpers.scenarios import bars, cerebro, flat

import bt_risk
from bt_risk.limits.base import Decision, NotionalLimit, RiskPerTrade
from bt_risk.portfolio.position import shrink_exits
from bt_risk.rules.drawdown import (
    TRIPPED,
    BreakerRule,
    BreakerState,
    rearm,
    step,
)
from mutants import run as mutants
from mutants.run import MUTANTS, ROOT, Mutant

BY_NAME = {one.name: one for one in MUTANTS}


needs_git = pytest.mark.skipif(
    not (ROOT / ".git").exists(), reason="git says what the repository holds"
)


@functools.cache
def functions(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_there_are_enough_faults_in_enough_files_and_each_has_a_name():
    assert len(BY_NAME) == len(MUTANTS) >= 26
    assert len({one.file for one in MUTANTS}) >= 15


@pytest.mark.parametrize("one", MUTANTS, ids=BY_NAME)
def test_a_fault_fits_the_source_of_today_and_the_tests_that_kill_it_exist(one):
    path, text = one.applied()
    assert text != path.read_text(encoding="utf-8")
    compile(text, path, "exec")
    assert one.tests
    for test in one.tests:
        file, _, function = test.partition("::")
        assert function in functions(ROOT / "tests" / file), test


# -- the script ----------------------------------------------------------------------------------

QUICK = "rules/test_sizing.py::test_rounding_down_to_the_step"
ROUNDS_UP = Mutant("up", "rules/sizing.py", "np.floor(ratio)", "np.ceil(ratio)", (QUICK,))
HARMLESS = Mutant("same", "rules/sizing.py", "np.floor(ratio)", "np.floor( ratio)", (QUICK,))


@pytest.mark.parametrize("old", ["ratio", "no such text"])
def test_a_fault_without_one_place_raises(old):
    with pytest.raises(ValueError, match="nowhere: [0-9]+ x"):
        Mutant("nowhere", "rules/sizing.py", old, "", (QUICK,)).applied()


@needs_git
def test_the_script_tells_a_fault_from_none(capsys):
    assert not mutants.judge([ROUNDS_UP, HARMLESS], processes=2)
    said = capsys.readouterr().out
    assert [line.split()[0] for line in said.splitlines()] == ["killed", "survived", "1"]
    assert "1 of 2 faults killed" in said


@needs_git
def test_tests_that_do_not_run_kill_nothing(capsys):
    broken = Mutant("gone", "rules/sizing.py", "np.floor(", "np.ceil(", ("test_nothing_there.py",))
    assert not mutants.judge([broken], processes=2)
    said = capsys.readouterr().out
    assert said.startswith("broken")
    assert "without a fault the tests do not pass either (broken)" in said


@pytest.mark.parametrize(("outcomes", "status"), [("kss", 1), ("kks", 0), ("kkk", 1)])
def test_the_exit_status_is_0_when_all_are_killed_and_the_tests_pass_without(
    outcomes, status, monkeypatch, capsys
):
    """The last letter is the run without a fault: it has to survive."""
    words = {"k": "killed", "s": "survived"}
    first, second = MUTANTS[:2]
    told = dict(zip((first, second, None), outcomes, strict=True))
    monkeypatch.setattr(
        mutants, "run_tests", lambda tests, fault=None: (words[told[fault]], 0.0, "")
    )
    assert mutants.main([first.name, second.name]) == status


def test_a_name_that_is_not_there_is_an_error(capsys):
    with pytest.raises(SystemExit) as error:
        mutants.main(["no-such-fault"])
    assert error.value.code == 2
    assert "no fault is called no-such-fault" in capsys.readouterr().err


def test_a_fault_that_does_not_fit_is_an_error_before_anything_runs(monkeypatch, capsys):
    monkeypatch.setattr(
        mutants, "MUTANTS", [Mutant("late", "gate/order_review.py", "gone", "", (QUICK,))]
    )
    with pytest.raises(SystemExit):
        mutants.main([])
    assert "late: 0 x 'gone' in" in capsys.readouterr().err


def test_list_names_every_fault_and_runs_none(capsys):
    assert mutants.main(["--list"]) == 0
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()] == list(BY_NAME)


# -- what no other test noticed ------------------------------------------------------------------


class NoShorts:
    """A limit that lets nothing open on the short side."""

    active = True

    def review(self, request, book):
        if request.side > 0:
            return Decision(request.size)
        return Decision(0.0, "NoShorts: no shorts")


def take_profit(strategy):
    return strategy.sell(size=100, exectype=bt.Order.Limit, price=105.0)


def without_shorts(actions, rows):
    engine = cerebro(bars(*rows))
    limit_orders(engine, NoShorts())
    return play(engine, {20: lambda s: s.buy(size=100), 25: take_profit} | actions)


def test_an_exit_that_passed_behind_a_resting_one_does_not_flip_when_that_fills_first():
    """The open of bar 30 is beyond the take-profit, which was placed first."""
    rows = [*flat(29), (106, 107, 105, 106), *flat(3, price=106)]
    strategy = without_shorts({29: lambda s: s.sell(size=100)}, rows)
    assert [end[0] for end in ends(strategy)] == ["Completed", "Completed", "Canceled"]
    assert {size for (size,) in strategy.held} == {0, 100}


def test_a_resting_exit_whose_position_another_one_closed_does_not_touch_the_next():
    rows = [*flat(32), (100, 106, 99, 100), *flat(3)]
    actions = {29: lambda s: s.sell(size=100), 31: lambda s: s.buy(size=50)}
    strategy = without_shorts(actions, rows)
    assert [end[0] for end in ends(strategy)] == ["Completed", "Canceled", "Completed", "Completed"]
    assert strategy.held[-1] == (50,)


def test_what_was_never_bought_is_void_once():
    """It asked for 1,000, got 500, and sells 1,000 and another 400: short of 400."""
    engine = cerebro(bars(*flat(30)))
    limit_orders(engine, NotionalLimit(0.5))
    sales = lambda s: (s.sell(size=1000), s.sell(size=400))  # noqa: E731
    strategy = play(engine, {20: lambda s: s.buy(size=1000), 25: sales})
    assert [end[:2] for end in ends(strategy)] == [
        ("Completed", 500),
        ("Completed", -500),
        ("Completed", -400),
    ]


def test_the_orders_of_an_oco_group_count_again_after_one_was_added():
    """250 units use up the risk limit; the smaller alternative of 50 does not make room."""
    engine = cerebro(bars(*flat(30)))
    limit_orders(engine, RiskPerTrade(0.01))

    def alternatives(strategy):
        first = strategy.buy(size=250, exectype=bt.Order.Limit, price=95.0)
        strategy.buy(size=50, exectype=bt.Order.Limit, price=96.0, oco=first)
        return strategy.buy(size=100)

    strategy = play(engine, {20: alternatives})
    assert [end[0] for end in ends(strategy)] == ["Accepted", "Accepted", "Rejected"]


def test_a_close_of_one_strategy_goes_before_the_stop_of_the_other():
    """close() sells what both hold, at the open of 97: nothing is left for the stop at 95."""
    engine = cerebro(bars(*flat(18), (97, 98, 90, 92), (92, 93, 91, 92)))
    engine.addobserver(bt_risk.ATRTrailingStop, atr_multiple=2.5)
    engine.addstrategy(feeds.Script, actions={15: lambda s: s.buy(size=10)})
    engine.addstrategy(feeds.Script, actions={15: lambda s: s.buy(size=5), 18: lambda s: s.close()})
    first, second = engine.run()
    assert fills(first) == [(16, 10, 100.0)]
    assert fills(second) == [(16, 5, 100.0), (19, -15, 97.0)]


def test_an_unaffordable_entry_ends_margin_although_the_next_open_is_cheap():
    engine = cerebro(bars(*flat(3), *flat(3, price=90.0)))
    breaker_out_of_reach(engine)
    strategy = play(engine, {3: lambda s: (s.buy(size=1001), s.buy(size=1))})
    assert [end[0] for end in ends(strategy)] == ["Margin", "Margin"]


def test_risk_is_measured_to_where_the_stop_has_moved():
    engine = cerebro(bars(*flat(20), *(row for p in (104.0, 108.0) for row in flat(1, price=p))))
    engine.addobserver(bt_risk.ATRTrailingStop, atr_multiple=2.0)
    engine.addanalyzer(bt_risk.PortfolioRisk, _name="risk")
    strategy = play(engine, {16: lambda s: s.buy(size=10)})
    stop = strategy.observers.atrtrailingstop.stop[0]
    assert stop > 98.0
    lost = 10 * (108.0 - stop) / strategy.broker.getvalue()
    assert strategy.analyzers.risk.frame().long_risk.iloc[-1] == pytest.approx(lost)


def test_a_short_counts_towards_the_notional_limit_like_a_long():
    engine = cerebro(bars(*flat(30)))
    limit_orders(engine, NotionalLimit(0.5))
    strategy = play(engine, {5: lambda s: s.sell(size=300), 10: lambda s: s.sell(size=300)})
    assert strategy.held[-1] == (-500,)


@pytest.mark.parametrize("order", [1, -1], ids=["nearest first", "farthest first"])
def test_the_nearest_stop_covers_where_there_is_more_than_one(order):
    book = book_of()
    fill(book, 10)
    for ref, price in enumerate([98.0, 95.0][::order]):
        work(book, ref, -1, 10, opening=0, kind="stop", price=price)
    assert book.exposure.position_risk(book.instruments[0]) == 20.0


def test_a_rest_of_rounding_is_flat_although_another_strategy_holds_some():
    book = book_of()
    fill(book, 5, owner="another")
    for _ in range(3):
        fill(book, 0.1)
    part = fill(book, -0.3)
    assert part.size == 0.0
    assert len(book.trades) == 1


def test_later_exits_shrink_to_what_earlier_ones_leave():
    orders = [(1, 1, "limit", 5.0), (2, 2, "limit", 5.0)]
    assert shrink_exits(orders, before=10.0, after=5.0) == {2: 0.0}


def test_exits_that_replace_each_other_shrink_alike():
    orders = [(1, "pair", "limit", 10.0), (2, "pair", "limit", 10.0)]
    assert shrink_exits(orders, before=10.0, after=5.0) == {1: 5.0, 2: 5.0}


def test_a_trimmed_reversal_opens_no_more_when_another_strategy_closes_first():
    """Of 1,000 to sell at 105, 476 may open and 100 close; then close() of the other is first."""
    engine = cerebro(bars(*flat(31), (100, 106, 99, 100), *flat(3)))
    limit_orders(engine, NotionalLimit(0.5))
    reverse = {"size": 1000, "exectype": bt.Order.Limit, "price": 105.0}
    engine.addstrategy(
        feeds.Script, actions={20: lambda s: s.buy(size=100), 25: lambda s: s.sell(**reverse)}
    )
    engine.addstrategy(feeds.Script, actions={28: lambda s: s.close()})
    first, second = engine.run()
    assert fills(second) == [(29, -100, 100.0)]
    assert first.held[-1] == (-476,)


class NotBefore(feeds.Script):
    """Ask for no position of a data without a bar: BackBroker would look for its price."""

    def prenext(self):
        pass


def test_a_resampled_copy_has_no_risk_limit_of_its_own():
    """250 units use up the risk limit; the copy is the same instrument."""
    engine = cerebro(bars(*flat(40)))
    engine.resampledata(engine.datas[0], timeframe=bt.TimeFrame.Weeks, name="weekly")
    limit_orders(engine, RiskPerTrade(0.01))

    def both(strategy):
        strategy.buy(size=250)
        strategy.buy(data=strategy.datas[1], size=100, stop_price=96.0)

    strategy = play(engine, {30: both}, NotBefore)
    assert sorted(end[0] for end in ends(strategy)) == ["Completed", "Rejected"]


def test_a_name_is_no_second_bet_on_its_resampled_copy():
    engine = cerebro(feeds.random_walk(3, 120), feeds.random_walk(4, 120))
    engine.resampledata(engine.datas[0], timeframe=bt.TimeFrame.Weeks, name="weekly")
    engine.setbroker(bt_risk.CorrelationCap(engine.broker))
    buys = {100: lambda s: s.buy(s.datas[2], size=1), 105: lambda s: s.buy(s.datas[0], size=1)}
    strategy = play(engine, buys, NotBefore)
    assert [end[0] for end in ends(strategy)] == ["Completed", "Completed"]


def test_the_stop_of_one_trade_does_not_touch_the_next_of_the_same_bar():
    """The old stop has risen above 106; the new one is as far from its fill at 108, near 105."""
    rows = [*flat(18), *((p, p + 1, p - 1, p) for p in (104, 108, 112, 110, 110))]
    rows += [(108, 109, 107.5, 108), (108, 109, 106, 108)]
    engine = cerebro(bars(*rows))
    engine.addobserver(bt_risk.ATRTrailingStop)
    again = lambda s: (s.close(), s.buy(size=10))  # noqa: E731
    strategy = play(engine, {16: lambda s: s.buy(size=10), 23: again})
    stops = list(strategy.observers.atrtrailingstop.stop.get(size=3))
    assert stops[0] > 106.0 > stops[1]
    assert fills(strategy) == [(17, 10, 100.0), (24, -10, 108.0), (24, 10, 108.0)]


def test_the_mark_rises_again_after_a_rebase():
    """Below the highest mark ever, which is that of the lifetime limit."""
    state = rearm(BreakerState(status=TRIPPED, high_water_mark=100.0, lifetime_mark=100.0), 80.0)
    state = step(state, 90.0, BreakerRule())
    assert (state.high_water_mark, state.lifetime_mark) == (90.0, 100.0)
    assert step(state, 80.0, BreakerRule()).status == TRIPPED


class WatchVenue(feeds.Script):
    """Note what is held, what our stops would close and what the user's exits would."""

    def next(self):
        super().next()
        working = self.broker.inner._working
        stops = [o.executed.remsize for o in working if o.exectype == bt.Order.Stop]
        exits = [o.executed.remsize for o in working if o.exectype == bt.Order.Market]
        self.made.append((self.position.size, sum(stops), sum(exits)))


def test_at_a_venue_the_stop_leaves_to_a_market_exit_what_that_will_close():
    """What is held has a bar every second day: the exit of 4 waits there beside the stop."""
    frame = bars(*flat(60))
    engine = cerebro(frame[::2], frame)
    engine.setbroker(Venue())
    engine.addobserver(bt_risk.ATRTrailingStop)
    engine.addstrategy(
        WatchVenue, actions={32: lambda s: s.buy(size=10), 36: lambda s: s.sell(size=4)}
    )
    strategy = engine.run()[0]
    seen = [row for row in strategy.made if isinstance(row, tuple)]
    assert (10, -10, 0) in seen
    assert (10, -6, -4) in seen
    assert seen[-1] == (6, -6, 0)
    assert all(stops + exits >= -held for held, stops, exits in seen if exits <= 0)


def test_the_close_of_the_entry_bar_does_not_trigger_a_stop():
    """Entry at 100, first stop at 96; the entry bar closes at 95, the next one at 97."""
    rows = [*flat(16), (100, 101, 94, 95), *flat(4, price=97.0)]
    engine = cerebro(bars(*rows))
    engine.addobserver(bt_risk.ATRTrailingStop, trigger="close")
    strategy = play(engine, {16: lambda s: s.buy(size=10)})
    assert strategy.held[-1] == (10,)


def test_the_atr_multiple_of_an_instrument_is_that_of_its_stop():
    """The close is 110, 103 before it: 14 bars of ATR 2, then ranges of 4 and 8."""
    rows = [*flat(17), (103, 104, 102, 103), (110, 111, 109, 110)]
    engine = cerebro(bars(*rows))
    engine.setbroker(bt_risk.RiskBroker(engine.broker, instruments={"D0": {"atr_multiple": 3.0}}))
    engine.addobserver(bt_risk.ATRTrailingStop, atr_multiple=2.0)
    strategy = play(engine, {16: lambda s: s.buy(size=10)})
    atr = (13 * (13 * 2.0 + 4.0) / 14 + 8.0) / 14
    assert strategy.observers.atrtrailingstop.stop[0] == pytest.approx(110.0 - 3.0 * atr)


def falling(bar):
    """Return an account value that falls by half at this call of the breaker."""
    calls = itertools.count(1)
    return lambda: 100.0 if next(calls) < bar else 50.0


def test_an_entry_that_a_venue_has_not_cancelled_yet_is_waited_for():
    engine = cerebro(bars(*flat(30)))
    venue = Venue()
    engine.setbroker(venue)
    engine.addanalyzer(bt_risk.DrawdownBreaker, equity=falling(10), _name="breaker")
    resting = {"size": 10, "exectype": bt.Order.Limit, "price": 90.0}
    strategy = play(engine, {5: lambda s: s.buy(**resting)})
    assert not venue._working
    assert len(strategy) < 30
    assert strategy.analyzers.breaker.get_analysis()["flattened"]


def test_a_cool_down_counts_bars_of_the_first_data_only():
    """The first data has a bar every second day: 3 bars are 6 days."""
    frame = bars(*flat(40))
    engine = cerebro(frame[::2], frame)
    engine.addanalyzer(bt_risk.DrawdownBreaker, action="pause", cooldown_bars=3, equity=falling(11))
    engine.addanalyzer(bt_risk.RiskJournal, _name="journal")
    strategy = play(engine, {})
    lines = strategy.analyzers.journal.get_analysis()["decisions"]
    halt, rearm = (
        next(line["time"] for line in lines if line["action"] == action)
        for action in ("halt", "rearm")
    )
    assert (rearm - halt).days == 6


def test_trades_of_unknown_risk_do_not_end_the_warm_up():
    """Two trades before there is an ATR have no R-multiple: the sample is empty still."""
    engine = cerebro(bars(*flat(30)))
    engine.addsizer(bt_risk.HalfKellySizer, min_trades=2, lookback=2, recalculate="trade")
    entries = dict.fromkeys((2, 6), lambda s: s.buy(size=1))
    exits = dict.fromkeys((4, 8), lambda s: s.close())
    strategy = play(engine, entries | exits | {20: lambda s: s.buy()})
    assert len(strategy.trades) == 2
    assert strategy.getsizer().state == "WARMUP"


class Repeating(Venue):
    """A venue that says everything twice."""

    def _notify(self, order):
        super()._notify(order)
        super()._notify(order)


def test_a_fill_that_a_venue_tells_twice_is_booked_once():
    """500 are allowed: 300 and then 200 more."""
    engine = cerebro(bars(*flat(30)))
    engine.setbroker(Repeating())
    limit_orders(engine, NotionalLimit(0.5))
    strategy = play(engine, {5: lambda s: s.buy(size=300), 10: lambda s: s.buy(size=300)})
    assert strategy.held[-1] == (500,)


class Slow(Venue):
    """A venue that takes note of a cancel one tick late."""

    def start(self):
        super().start()
        self._heard = []

    def cancel(self, order):
        self._heard.append(order)

    def next(self):
        super().next()
        for order in self._heard:
            super().cancel(order)
        self._heard.clear()


def test_an_exit_waits_until_a_slow_venue_has_cancelled_the_stop():
    """The cancel of bar 25 is heard on bar 26 and done on bar 27, whose low reaches the stop."""
    rows = [*flat(26), (100, 101, 90, 92), *flat(4, price=92.0)]
    engine = cerebro(bars(*rows))
    venue = Slow()
    engine.setbroker(venue)
    engine.addobserver(bt_risk.ATRTrailingStop)
    strategy = play(engine, {20: lambda s: s.buy(size=10), 25: lambda s: s.close()})
    assert venue.sizes == [10, 0]
    assert strategy.held[-1] == (0,)


def test_a_cancelled_exit_makes_room_at_once():
    """The 300 close 100 and open 200, which the limit of 250 units allows."""
    engine = cerebro(bars(*flat(32)))
    limit_orders(engine, RiskPerTrade(0.01))

    def instead(strategy):
        strategy.cancel(strategy.made[-1])
        strategy.sell(size=300)

    strategy = play(engine, {20: lambda s: s.buy(size=100), 25: take_profit, 28: instead})
    assert strategy.held[-1] == (-200,)


def test_a_named_stop_beyond_the_price_bounds_no_loss():
    engine = cerebro(bars(*flat(30)))
    limit_orders(engine, RiskPerTrade(0.01))
    strategy = play(engine, {20: lambda s: s.buy(size=10, stop_price=104.0)})
    (end,) = ends(strategy)
    assert end[0] == "Rejected"
    assert "its stop is not on the losing side of its price" in end[3]


def test_an_exit_that_waits_for_a_venue_can_be_cancelled():
    """The stop that made way for it is placed again: it fills on bar 31."""
    rows = [*flat(30), (100, 101, 90, 92), *flat(4, price=92.0)]
    engine = cerebro(bars(*rows))
    venue = Venue()
    engine.setbroker(venue)
    engine.addobserver(bt_risk.ATRTrailingStop)
    actions = {20: lambda s: s.buy(size=10), 25: lambda s: s.cancel(s.close())}
    strategy = play(engine, actions)
    assert [end[0] for end in ends(strategy)] == ["Completed", "Canceled", "Completed"]
    assert strategy.held[29] == (10,)
    assert venue.sizes == [10, 0]


class NeverSells(Venue):
    """A venue where no sell order fills."""

    def _try(self, order):
        if order.isbuy():
            super()._try(order)


def test_an_exit_that_a_venue_has_by_now_can_be_cancelled_by_its_old_number():
    """It is held back on bar 25, sent on bar 26, and the stop is back once it is cancelled."""
    engine = cerebro(bars(*flat(35)))
    venue = NeverSells()
    engine.setbroker(venue)
    engine.addobserver(bt_risk.ATRTrailingStop)
    closed = []
    actions = {
        20: lambda s: s.buy(size=10),
        25: lambda s: closed.append(s.close()),
        26: lambda s: s.cancel(closed[0]),
    }
    strategy = play(engine, actions)
    assert [end[0] for end in ends(strategy)] == ["Completed", "Canceled"]
    (stop,) = venue._working
    assert stop.executed.remsize == -10
