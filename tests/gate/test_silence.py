"""A strategy that orders nothing any more since our stop closed its position is named, once."""

import logging

import backtrader as bt
import pytest
from helpers.fake_broker import FakeBroker
from helpers.recording import play
from helpers.scenarios import MODES, Script, bars, cerebro, flat

import bt_risk

FALL = (100, 101, 90, 92)
# The stop fills on bar 25; the last bar is number 25 + AFTER.
AFTER = 150


def rows(after=AFTER):
    return [*flat(24), FALL, *flat(after, price=92.0)]


def mirrored(rows):
    """Return bars that rise where `rows` fall."""
    return [(200 - o, 200 - low, 200 - high, 200 - c) for o, high, low, c in rows]


def guarded(after=AFTER, turn=list, **mode):
    engine = cerebro(bars(*turn(rows(after))), **mode)
    engine.addobserver(bt_risk.ATRTrailingStop)
    engine.addanalyzer(bt_risk.RiskJournal, _name="journal")
    return engine


def silent(strategy):
    frame = strategy.analyzers.journal.frame()
    return frame[frame.action == "silent"].reason.tolist()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("side", "turn"), [("buy", list), ("sell", mirrored)])
def test_a_strategy_that_orders_nothing_since_its_stop_is_named(side, turn, mode, caplog):
    engine = guarded(turn=turn, **MODES[mode])
    strategy = play(engine, {20: lambda s: getattr(s, side)(size=10)})
    (reason,) = silent(strategy)
    assert reason == (
        "ATRTrailingStop: Script has ordered nothing for 150 bars since the stop closed its "
        "position in D0. If it keeps a flag of its own, it does not know that: see "
        "docs/faq.md: 'My strategy traded, and then never again'"
    )
    assert [r.levelno for r in caplog.records if "silent" in r.message] == [logging.WARNING]


@pytest.mark.parametrize(("after", "named"), [(100, 0), (101, 1)])
def test_a_hundred_bars_are_no_silence_yet(after, named):
    strategy = play(guarded(after), {20: lambda s: s.buy(size=10)})
    assert len(silent(strategy)) == named


def every(bar, until, do):
    return dict.fromkeys(range(bar, until, bar), do)


def rest(strategy):
    """Send an order that never fills: it counts as an order."""
    strategy.buy(size=1, exectype=bt.Order.Limit, price=1.0, valid=strategy.data.datetime.date(0))


def test_a_strategy_that_trades_on_is_not_named():
    actions = every(10, 200, rest) | {20: lambda s: s.buy(size=10)}
    assert not silent(play(guarded(), actions))


def test_an_order_that_is_refused_is_an_order_too():
    engine = guarded()
    engine.setbroker(bt_risk.RiskBroker(engine.broker))

    def refused(strategy):
        strategy.broker.halt("test")
        assert strategy.buy(size=5).status == bt.Order.Rejected

    actions = {20: lambda s: s.buy(size=10), 25: refused}
    assert not silent(play(engine, actions))


@pytest.mark.parametrize(("after", "named"), [(180, 0), (181, 1)])
def test_one_that_trades_seldom_has_longer(after, named):
    """Orders are 60 bars apart: 180 bars without one are usual, and 181 are not."""
    engine = cerebro(bars(*flat(360), *flat(20), FALL, *flat(after, price=92.0)))
    engine.addobserver(bt_risk.ATRTrailingStop)
    engine.addanalyzer(bt_risk.RiskJournal, _name="journal")
    reasons = silent(play(engine, every(60, 360, rest) | {360: lambda s: s.buy(size=10)}))
    assert len(reasons) == named
    expected = "for 181 bars since the stop closed its position in D0 (before that, every 60 bars)"
    assert all(expected in reason for reason in reasons)


class Flag(Script):
    """A strategy with a name of its own."""


@pytest.mark.parametrize("again", [False, True])
def test_of_two_strategies_the_silent_one_is_named_and_only_once(again):
    """The stops of the other fill on bars 200 and 375, and each time everybody is checked.

    With `again` it trades on bar 370 once more, and its stop fills on bar 375 as well.
    """
    engine = cerebro(bars(*rows(), *rows(), *rows()))
    engine.addobserver(bt_risk.ATRTrailingStop)
    engine.addanalyzer(bt_risk.RiskJournal, _name="journal")
    buy = {k: lambda s: s.buy(size=10) for k in (20, 20 + 175, 20 + 350)}
    engine.addstrategy(Script, actions=every(50, 525, rest) | buy)
    more = {370: buy[20], 371: rest, 372: rest} if again else {}
    engine.addstrategy(Flag, actions={20: buy[20]} | more)
    first, second = engine.run()
    stops = [line for line in second.broker.journal.lines if line[3] == "stop"]
    assert len(stops) == 4 + again
    assert silent(first) == silent(second)
    (reason,) = silent(first)
    assert reason.startswith("ATRTrailingStop: Flag has ordered nothing for 175 bars since the ")


def test_a_position_that_the_strategy_closed_itself_leaves_it_alone():
    actions = {20: lambda s: s.buy(size=10), 22: lambda s: s.close()}
    assert not silent(play(guarded(), actions))


def test_a_close_beyond_the_stop_counts_like_a_stop():
    engine = cerebro(bars(*rows()))
    engine.addobserver(bt_risk.ATRTrailingStop, trigger="close")
    engine.addanalyzer(bt_risk.RiskJournal, _name="journal")
    assert len(silent(play(engine, {20: lambda s: s.buy(size=10)}))) == 1


def test_a_live_run_names_it_while_it_runs():
    """A live run may never end."""
    heard, seen = [], []
    engine = cerebro(bars(*rows()))
    engine.setbroker(FakeBroker())
    bt_risk.protect(engine, notify=heard.append)
    actions = {20: lambda s: s.buy(size=10)}
    actions |= {k: lambda s: seen.append(len(s.broker.journal.lines)) for k in (125, 127)}
    engine.addstrategy(Script, actions=actions)
    strategy = engine.run(live=True)[0]
    assert seen[1] == seen[0] + 1
    frame = strategy.analyzers.riskjournal.frame()
    assert (frame.action == "silent").sum() == 1
    assert sum("since the stop" in sentence for sentence in heard) == 1


def test_it_is_in_the_file_of_the_journal(tmp_path):
    engine = cerebro(bars(*rows()))
    bt_risk.protect(engine, journal=tmp_path / "risk.csv")
    play(engine, {20: lambda s: s.buy(size=10)})
    assert "since the stop" in (tmp_path / "risk.csv").read_text(encoding="utf-8")
