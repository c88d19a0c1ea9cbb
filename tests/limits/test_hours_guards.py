"""TradingHours and Blackout: by hand-made bars of 15 minutes, one hour and one day."""

import math
import pickle

import backtrader as bt
import pytest
from helpers.frames import PandasData
from helpers.recording import ends, play
from helpers.scenarios import MODES, bars, cerebro, flat, tape_of, taped

import bt_risk
from bt_risk import Blackout, ParameterError, Policy, TradingHours

# Friday, 5 January 2024, from 09:00 on: bar 3 begins at 09:30, bar 28 at 15:45, bar 29 at 16:00.
START = "2024-01-05 09:00"
DAY = bars(*flat(40), start=START, freq="15min")
OPEN = "Mon-Fri 09:30-16:00"


def guarded(*guards, frames=(DAY,), tz=None, **options):
    if tz is None:
        engine = cerebro(*frames)
    else:
        engine = bt.Cerebro(stdstats=False)
        for k, frame in enumerate(frames):
            engine.adddata(PandasData(dataname=frame.tz_localize("UTC"), tz=tz), name=f"D{k}")
        engine.broker.setcash(100_000.0)
    engine.setbroker(bt_risk.RiskBroker(engine.broker, guards=list(guards), **options))
    engine.addanalyzer(bt_risk.RiskJournal)
    return engine


def buy(size=1, **kwargs):
    return lambda s: s.buy(size=size, **kwargs)


def statuses(strategy):
    return [end[0] for end in ends(strategy)]


def reasons(strategy):
    found = [end[-1] for end in ends(strategy) if end[0] == "Rejected"]
    return [reason.removesuffix("; at most 0 would pass") for reason in found]


def journal(strategy, *actions):
    frame = strategy.analyzers.riskjournal.frame()
    return frame[frame.action.isin(actions)]


def refused(guard, *bar_numbers, **options):
    """Return the bars whose order is refused, of those that buy one unit each."""
    strategy = play(guarded(guard, **options), {bar: buy() for bar in bar_numbers})
    return [
        bar for bar, one in zip(bar_numbers, ends(strategy), strict=True) if one[0] != "Completed"
    ]


# -- windows --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_an_entry_is_sent_and_fills_within_the_window(mode):
    """Bar 2 is before it, bar 3 the first; what bar 28 sends would fill at 16:00."""
    plan = [(bar, "buy", {"size": 1}) for bar in (2, 3, 27, 28, 29, 35)]
    tape = tape_of(taped(guarded(TradingHours([OPEN])), plan, mode))
    assert [fill[0] for fill in tape["fills"]] == [4, 28]
    assert [bar for bar, _ in tape["reasons"]] == [3, 29, 30, 36]


def test_the_reason_names_the_time_and_the_window():
    strategy = play(guarded(TradingHours([OPEN])), {2: buy(), 28: buy()})
    assert reasons(strategy) == [
        "TradingHours: Fri 2024-01-05 09:15 UTC is outside Mon-Fri 09:30-16:00",
        "TradingHours: the next bar after Fri 2024-01-05 15:45 UTC is not before "
        "Fri 2024-01-05 16:00 UTC, the end of Mon-Fri 09:30-16:00",
    ]


def test_exits_pass_at_any_time_and_a_reversal_only_closes():
    actions = {10: buy(10), 35: lambda s: s.sell(size=15)}
    strategy = play(guarded(TradingHours([OPEN])), actions)
    assert strategy.held[-1] == (0,)


def test_a_resting_entry_is_cancelled_before_the_window_ends():
    actions = {10: buy(5, exectype=bt.Order.Limit, price=50.0)}
    strategy = play(guarded(TradingHours([OPEN])), actions)
    assert statuses(strategy) == ["Canceled"]
    (row,) = journal(strategy, "trim").itertuples()
    assert (row.time.hour, row.time.minute) == (15, 45)


def test_the_zone_is_that_of_the_guard_else_of_the_data_feed_else_utc():
    """09:30 in New York is 14:30 UTC, bar 23."""
    new_york = TradingHours([OPEN], tz="America/New_York")
    assert refused(new_york, 22, 23) == [22]
    assert refused(TradingHours([OPEN]), 22, 23, tz="America/New_York") == [22]
    assert refused(TradingHours([OPEN], tz="UTC"), 22, 23, tz="America/New_York") == []


def test_the_weekend():
    frame = bars(*flat(24 * 4), start="2024-01-05 00:00", freq="h")
    # Bar 24 is Friday 23:00: its order would fill on Saturday. Bar 73 is Monday 00:00.
    assert refused(TradingHours("Mon-Fri"), 22, 24, 30, 72, 73, frames=(frame,)) == [24, 30, 72]


def test_only_the_data_feeds_that_are_named_are_concerned():
    actions = {35: lambda s: (s.buy(size=1), s.buy(data=s.data1, size=1))}
    strategy = play(guarded(TradingHours([OPEN], names=["D1"]), frames=(DAY, DAY)), actions)
    assert sorted(statuses(strategy)) == ["Completed", "Rejected"]
    assert strategy.held[-1] == (1, 0)


def test_clocks_that_change_are_followed():
    """New York is 5 hours behind UTC on Friday, 8 March 2024, and 4 hours on Monday."""
    hours = TradingHours([OPEN], tz="America/New_York")
    for day, first in (("2024-03-08", "14:30"), ("2024-03-11", "13:30")):
        frame = bars(*flat(60), start=f"{day} 12:00", freq="15min")
        bar = frame.index.get_loc(f"{day} {first}") + 1
        assert refused(hours, bar - 1, bar, frames=(frame,)) == [bar - 1]


def test_a_half_day_of_an_exchange_ends_at_noon():
    """The New York Stock Exchange closes at 13:00, 18:00 UTC, on 29 November 2024."""
    frame = bars(*flat(40), start="2024-11-29 14:00", freq="15min")
    hours = TradingHours(calendar="XNYS", flat_before=10)
    strategy = play(guarded(hours, frames=(frame,)), {5: buy(10), 15: buy(), 20: buy()})
    assert statuses(strategy) == ["Completed", "Completed", "Rejected", "Rejected"]
    left = [frame.index[k] for k, held in enumerate(strategy.held) if held != (0,)]
    assert str(left[-1]) == "2024-11-29 17:30:00"  # closed at the open of 17:45


def test_nothing_opens_at_lunch_and_nothing_is_held_over_it():
    """Hong Kong pauses from 04:00 to 05:00 UTC; the file has bars of that hour nevertheless."""
    frame = bars(*flat(26), start="2024-03-05 01:30", freq="15min")
    hours = TradingHours(calendar="XHKG")
    # Bar 10 is that of 03:45: an order sent there fills at 04:00.
    assert refused(hours, 9, 10, 12, 14, 15, frames=(frame,)) == [10, 12, 14]
    hours = TradingHours(calendar="XHKG", flat_before=10)
    strategy = play(guarded(hours, frames=(frame,)), {5: buy(10), 16: buy(10)})
    held = [str(frame.index[k])[11:16] for k, sizes in enumerate(strategy.held) if sizes != (0,)]
    assert (held[0], held[-1]) == ("02:45", "07:30")
    assert "03:30" in held
    assert not {"03:45", "04:00", "04:45", "05:00"} & set(held)


# -- flat before the end --------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("minutes", "fills_at"),
    # 15 minutes before 16:00 is the open of bar 28; 16 minutes before, the last is bar 27.
    [(15, 28), (16, 27), (30, 27), (31, 26), (5, 28), (0, 28)],
)
def test_positions_are_closed_at_the_last_open_that_is_early_enough(mode, minutes, fills_at):
    plan = [(10, "buy", {"size": 10}), (fills_at - 1, "buy", {"size": 1})]
    guard = TradingHours([OPEN], flat_before=minutes)
    tape = tape_of(taped(guarded(guard), plan, mode))
    assert [fill[::2] for fill in tape["fills"]] == [(11, 10), (fills_at, -10)]


def test_shorts_of_every_strategy_are_closed_too():
    engine = guarded(TradingHours([OPEN], flat_before=15), frames=(DAY, DAY))
    actions = {10: lambda s: (s.sell(size=10), s.buy(data=s.data1, size=5))}
    strategy = play(engine, actions)
    assert strategy.held[26] == (-10, 5)
    assert strategy.held[27] == (0, 0)
    rows = journal(strategy, "over")
    assert rows.data.tolist() == journal(strategy, "flat").data.tolist() == ["D0", "D1"]
    assert rows.reason.iloc[0] == (
        "TradingHours: flat 15 minutes before Fri 2024-01-05 16:00 UTC, the end of "
        "Mon-Fri 09:30-16:00"
    )


def test_nothing_opens_that_would_be_closed_at_once():
    strategy = play(guarded(TradingHours([OPEN], flat_before=30)), {26: buy()})
    assert reasons(strategy) == [
        "TradingHours: Fri 2024-01-05 15:15 UTC is too late to be flat 30 minutes before "
        "Fri 2024-01-05 16:00 UTC, the end of Mon-Fri 09:30-16:00"
    ]


def test_bars_that_are_longer_than_the_minutes_close_one_bar_before_the_end():
    """Hours from 09:30 on: the last that ends within the window begins at 14:30, then 15:30."""
    frame = bars(*flat(12), start="2024-01-05 08:30", freq="h")
    strategy = play(guarded(TradingHours([OPEN], flat_before=10), frames=(frame,)), {3: buy(10)})
    assert strategy.held[5] == (10,)  # 13:30
    assert strategy.held[6] == (0,)  # closed at the open of 14:30
    (note,) = journal(strategy, "note").reason
    assert note == (
        "TradingHours: bars of 60 minutes are longer than flat_before 10: positions are closed "
        "60 minutes before the end"
    )


def test_what_is_held_outside_a_window_is_closed():
    """The bars before the end are missing: the position is closed on the first that comes."""
    frame = DAY.drop(DAY.index[20:30])
    strategy = play(guarded(TradingHours([OPEN], flat_before=15), frames=(frame,)), {10: buy(10)})
    assert strategy.held[-1] == (0,)


def test_a_protective_stop_goes_with_the_position():
    engine = guarded(TradingHours([OPEN], flat_before=15))
    engine.addobserver(bt_risk.ATRTrailingStop)
    rows = DAY.copy()
    rows.iloc[30:] = [50.0, 51.0, 49.0, 50.0, 1000.0]
    engine.datas.clear()
    engine.datasbyname.clear()
    engine.adddata(PandasData(dataname=rows), name="D0")
    strategy = play(engine, {20: buy(10)})
    assert strategy.held[-1] == (0,)
    assert min(held[0] for held in strategy.held) == 0


def test_bars_of_a_day_are_judged_by_their_date_and_cannot_be_flat_before_the_end():
    frame = bars(*flat(10), start="2024-01-04", freq="D")
    # 6 and 7 January are a weekend, bars 3 and 4.
    assert refused(TradingHours([OPEN]), 2, 3, 4, 5, frames=(frame,)) == [3, 4]
    assert refused(TradingHours([OPEN], flat_before=5), 2, 5, frames=(frame,)) == [2, 5]
    friday = TradingHours("Mon-Fri", flat_before=5)
    frame = bars(*flat(10), start="2024-01-08", freq="D")
    strategy = play(guarded(friday, frames=(frame,)), {2: buy(10)})
    # Closed at the open of Friday, the last day of the week.
    assert [held[0] for held in strategy.held[:6]] == [0, 0, 10, 10, 0, 0]


def test_observe_mode_closes_nothing():
    nothing = dict.fromkeys(
        ("risk_limit", "notional_limit", "exposure_limit", "correlation_limit", "drawdown_limit")
    )
    engine = cerebro(DAY)
    guards = [TradingHours([OPEN], flat_before=15)]
    bt_risk.protect(
        engine, Policy(**nothing, trailing_stop=False, sizer=False, guards=guards), mode="observe"
    )
    strategy = play(engine, {10: buy(10)})
    assert strategy.held[-1] == (10,)
    assert len(journal(strategy, "over")) == 1


# -- blackouts ------------------------------------------------------------------------------------

NEWS = [("2024-01-05 13:25", "2024-01-05 14:05")]  # bars 18 (13:15), 19, 20, 21 (14:00), 22


def test_no_entry_while_a_blackout_lasts():
    assert refused(Blackout(NEWS), 17, 18, 19, 21, 22) == [18, 19, 21]
    strategy = play(guarded(Blackout(NEWS)), {19: buy()})
    assert reasons(strategy) == [
        "Blackout: Fri 2024-01-05 13:30 UTC is inside Fri 2024-01-05 13:25 UTC to "
        "Fri 2024-01-05 14:05 UTC"
    ]


def test_flat_before_a_blackout_begins():
    strategy = play(guarded(Blackout(NEWS, flat_before=10)), {10: buy(10)})
    # The last open that is 15 minutes before 13:25 is that of 13:00, bar 17.
    assert [k + 1 for k, held in enumerate(strategy.held) if held != (0,)] == list(range(11, 17))


def test_blackouts_of_a_file_with_reasons(tmp_path):
    path = tmp_path / "news.csv"
    path.write_text(
        "begin,end,reason\n2024-01-05 08:25, 2024-01-05 09:05, payrolls\n\n# none\n"
        "2024-01-05T20:00+00:00,2024-01-05T21:00+00:00\n",
        encoding="utf-8",
    )
    guard = Blackout(path, tz="America/New_York")
    assert refused(guard, 17, 18, 22) == [18]
    assert "(payrolls)" in reasons(play(guarded(guard), {19: buy()}))[0]
    assert guard.describe() == f"blackout: no entry in 2 intervals of {path}"
    policy = Policy(guards=[guard])
    policy.to_toml(tmp_path / "policy.toml")
    assert Policy.from_toml(tmp_path / "policy.toml") == policy


def test_a_blackout_without_an_interval_is_off():
    assert not Blackout([]).active
    assert Policy(guards=[Blackout()]).describe() == Policy().describe()


# -- parameters -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "guard",
    [
        TradingHours([OPEN, "Sun 10:00-11:00"], tz="Asia/Tokyo", flat_before=5, names=["D0"]),
        TradingHours(calendar="XNYS"),
        Blackout(NEWS, tz="UTC", flat_before=0),
    ],
)
def test_a_guard_survives_pickling_and_a_policy_file(guard, tmp_path):
    assert pickle.loads(pickle.dumps(guard)) == guard
    path = tmp_path / "risk.toml"
    policy = Policy(guards=[guard])
    policy.to_toml(path)
    assert Policy.from_toml(path) == policy
    assert policy.describe().splitlines()[-1] == guard.describe()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TradingHours(), "windows must be given, or a calendar in their place"),
        (lambda: TradingHours([OPEN], calendar="XNYS"), "windows must be given, or a calendar"),
        (lambda: TradingHours(["noon"]), "windows must be windows such as '09:30-16:00'"),
        (lambda: TradingHours(5), "windows must be a list of windows"),
        (lambda: TradingHours(calendar="MOON"), "calendar must be the name of a calendar"),
        (lambda: TradingHours(calendar=5), "calendar must be a text"),
        (lambda: TradingHours([OPEN], tz="Mars"), "tz must be the name of a time zone"),
        (lambda: TradingHours([OPEN], flat_before=-1), "flat_before must be zero or more"),
        (lambda: TradingHours([OPEN], names=3), "names must be a list of names of data feeds"),
        (lambda: Blackout(5), "intervals must be a list of (begin, end), or the path"),
        (lambda: Blackout([("a", "b")]), "intervals must be intervals that begin before they end"),
        (lambda: Blackout([NEWS[0][::-1]]), "intervals must be intervals that begin before"),
        (lambda: Blackout("no.csv"), "intervals must be a list of intervals, or a file that can"),
    ],
)
def test_parameters_are_checked(make, message):
    with pytest.raises(ParameterError) as raised:
        make()
    assert message in str(raised.value)


def test_a_missing_package_is_an_error_with_its_remedy(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "exchange_calendars", None)
    with pytest.raises(ParameterError, match=r"pip install 'bt_risk\[calendars\]'"):
        TradingHours(calendar="XNYS")


def test_the_length_of_a_bar_is_that_of_its_time_frame_until_two_have_come():
    data = PandasData(dataname=DAY, timeframe=bt.TimeFrame.Minutes, compression=15)
    engine = bt.Cerebro(stdstats=False)
    engine.adddata(data, name="D0")
    engine.setbroker(bt_risk.RiskBroker(engine.broker, guards=[TradingHours("09:00-16:00")]))
    assert statuses(play(engine, {1: buy()})) == ["Completed"]
    strategy = play(guarded(TradingHours("09:00-16:00", flat_before=5)), {1: buy(), 2: buy()})
    assert statuses(strategy) == ["Rejected", "Completed", "Completed"]  # bought, and closed
    assert "is unknown before its second one" in reasons(strategy)[0]
    assert math.isclose(strategy.broker.book.instruments[0].shortest_gap, 15 / 1440, rel_tol=1e-6)
