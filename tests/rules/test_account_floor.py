"""Loss floors: worked examples of firms and of simulators, and an oracle that reads all history."""

import math
import random

import pytest

from bt_risk.rules.account_floor import (
    BASES,
    MODES,
    ON_DAILY,
    REFERENCES,
    FloorRule,
    FloorState,
    in_currency,
)

INF, NAN = math.inf, math.nan


def follow(rule, *days):
    """Return the state after days of closed balances, one list for each; it stops at a trip.

    A number is balance and equity at once, a pair is both.
    """
    state = FloorState(rule)
    for day, samples in enumerate(days, 1):
        for sample in samples:
            balance, equity = sample if isinstance(sample, tuple) else (sample, sample)
            if state.update(balance, equity, float(day)):
                return state
    return state


def outcome(rule, *days):
    """Return what has tripped and on which day, or nothing."""
    state = follow(rule, *days)
    return (state.cause, int(state.tripped_on)) if state.cause else None


# -- examples that firms publish ------------------------------------------------------------------
# Each is worked out on the page that is named, in other words; docs/prop-firms.md has the dates.


def test_ftmo_a_balance_of_92000_and_a_floating_loss_of_2001_are_below_90000():
    """academy.ftmo.com, maximum loss: equity counts, not the balance."""
    rule = FloorRule(0.10)
    assert outcome(rule, [100_000, 92_000, (92_000, 90_001)]) is None
    assert outcome(rule, [100_000, 92_000, (92_000, 92_000 - 2_001)]) == ("floor", 1)


def test_ftmo_a_floating_loss_that_was_allowed_before_midnight_breaks_the_day_after_it():
    """academy.ftmo.com, maximum daily loss: 200,000, 4,000 earned on Monday, then -13,000 open.

    Monday's floor is 200,000 - 10,000, so 191,000 passes; at midnight it is 204,000 - 10,000.
    """
    rule = FloorRule(0.10, daily=0.05)
    monday = [200_000, 204_000, (204_000, 191_000)]
    assert outcome(rule, monday) is None
    assert outcome(rule, monday, [(204_000, 191_000)]) == ("daily", 2)
    assert follow(rule, monday, [(204_000, 195_000)]).daily == 194_000


def test_ftmo_one_step_trails_the_highest_balance_at_midnight():
    """ftmo.com, 1-Step: 90,000; 94,000 after a day that ends at 104,000; still so after 103,000."""
    rule = FloorRule(0.10, "trailing_eod")
    assert follow(rule, [100_000]).floor == 90_000
    assert follow(rule, [100_000, 104_000], [104_000]).floor == 94_000
    assert follow(rule, [100_000, 104_000], [103_000], [103_000]).floor == 94_000


def test_ftmo_open_profit_within_the_day_moves_no_floor():
    """The same page: changes of open positions within the day do not matter."""
    rule = FloorRule(0.10, "trailing_eod")
    assert follow(rule, [100_000, (100_000, 109_000)], [(100_000, 109_000)]).floor == 90_000


def test_topstep_the_limit_trails_the_day_and_stops_at_the_start():
    """help.topstep.com: 50,000 and 2,000: 48,500 after +500, the same after -500, then 50,000."""
    rule = FloorRule(2_000, "trailing_eod", lock=0.0)
    days = [[50_000, 50_500], [50_000], [52_500], [54_000], [54_000]]
    floors = [follow(rule, *days[:n], days[n - 1][-1:]).floor for n in range(1, 5)]
    assert floors == [48_500, 48_500, 50_000, 50_000]
    assert outcome(rule, *days, [50_001]) is None
    assert outcome(rule, *days, [50_000]) == ("floor", 6)


def test_topstep_fx_trails_realised_profit_within_the_day():
    """help.fx.topstep.com: 3,000 with 2,000 to lose: 1,000; 1,500 after +500; never above 3,000."""
    rule = FloorRule(2_000, "trailing_closed", lock=0.0)
    assert follow(rule, [3_000]).floor == 1_000
    assert follow(rule, [3_000, (3_000, 3_500)]).floor == 1_000  # not realised yet
    assert follow(rule, [3_000, 3_500]).floor == 1_500
    assert follow(rule, [3_000, 6_000]).floor == 3_000


def test_e8_one_trails_the_closed_balance_and_locks_at_the_start():
    """help.e8markets.com: 94,000; 95,000 at once with 101,000; 100,000 from 106,000 on."""
    rule = FloorRule(0.06, "trailing_closed", lock=0.0)
    assert follow(rule, [100_000]).floor == 94_000
    assert follow(rule, [100_000, 101_000]).floor == 95_000
    assert follow(rule, [100_000, 106_000]).floor == 100_000
    assert follow(rule, [100_000, 112_000]).floor == 100_000


@pytest.mark.parametrize("equity", [101_000, 99_000])
def test_alpha_capital_what_is_open_at_midnight_does_not_move_the_day(equity):
    """help.alphacapitalgroup.uk: a balance of 100,000 is 95,000, whatever is open."""
    rule = FloorRule(daily=0.05, daily_base="reference")
    state = follow(rule, [100_000, (100_000, equity)], [(100_000, equity)])
    assert state.daily == 95_000
    assert outcome(rule, [(100_000, equity)], [(100_000, equity), (100_000, 95_001)]) is None
    assert outcome(rule, [(100_000, equity)], [(100_000, equity), (100_000, 95_000)])


def test_breakout_and_siegfund_take_the_fraction_of_the_days_balance():
    """4 % of 105,000 leave 100,800, 5 % leave 99,750."""
    for fraction, floor in ((0.04, 100_800), (0.05, 99_750)):
        rule = FloorRule(daily=fraction, daily_base="reference")
        assert follow(rule, [100_000, 105_000], [105_000]).daily == pytest.approx(floor)


def test_fundednext_a_profit_of_the_morning_can_be_lost_beside_the_limit():
    """help.fundednext.com: 100,000, +2,000 by noon: 7,000 may be lost from there."""
    rule = FloorRule(0.10, daily=0.05)
    assert outcome(rule, [100_000, 102_000, 102_000 - 6_999]) is None
    assert outcome(rule, [100_000, 102_000, 102_000 - 7_000]) == ("daily", 1)


def test_the5ers_take_the_higher_of_balance_and_equity():
    """help.the5ers.com: 5 % of the higher of the two at the begin of the day."""
    rule = FloorRule(0.10, daily=0.05, daily_base="reference", reference="higher")
    assert follow(rule, [(100_000, 102_000)], [(100_000, 102_000)]).daily == 96_900
    assert follow(rule, [(100_000, 97_000)], [(100_000, 97_000)]).daily == 95_000


def test_apex_trails_the_peak_of_open_profit():
    """damnpropfirms.com on Apex: 47,500; 48,375 after 50,875; a close at 50,100 changes nothing."""
    rule = FloorRule(2_500, "trailing_intraday")
    assert follow(rule, [50_000]).floor == 47_500
    assert follow(rule, [50_000, (50_000, 50_875), 50_100]).floor == 48_375


def test_apteros_stops_trailing_ten_thousand_above_the_start():
    """apterostrading.com: 95,000, 95,000, 98,000, 110,000 at 115,000, and there it stays."""
    rule = FloorRule(5_000, "trailing_eod", lock=10_000)
    closes = [100_000, 99_000, 103_000, 115_000, 150_000]
    floors = [follow(rule, *[[c] for c in closes[:n]], [closes[n - 1]]).floor for n in range(1, 6)]
    assert floors == [95_000, 95_000, 98_000, 110_000, 110_000]


# -- LuxAlgo/prop-firm-sim, docs/rule-semantics.md and its tests: 100,000 --------------------------


def test_a_static_floor_is_touched_on_the_second_day():
    rule = FloorRule(0.10)
    assert outcome(rule, [100_000, 97_000, 94_000, 91_000], [89_000]) == ("floor", 2)
    assert outcome(rule, [100_000, 90_000]) == ("floor", 1)  # exactly at it
    assert outcome(rule, [100_000, 104_000, 90_001]) is None  # a profit is a cushion


def test_a_spike_moves_no_floor_of_the_days_end_and_a_trader_above_the_start_can_fail():
    """97,000 after a spike to 104,000 and a close at 99,500; 101,500 after one at 104,500."""
    days = [[100_000, 104_000, 99_500], [104_500], [101_000]]
    eod = FloorRule(3_000, "trailing_eod")
    assert follow(eod, days[0]).floor == 97_000
    assert outcome(eod, *days) == ("floor", 3)
    assert follow(eod, *days).floor == 101_500
    assert outcome(FloorRule(3_000, "trailing_intraday"), *days) == ("floor", 1)


def test_open_profit_that_is_given_back_fails_inside_the_day_and_not_with_a_static_floor():
    days = [[100_000, (100_000, 102_000), 98_500]]
    assert follow(FloorRule(3_000, "trailing_intraday"), *days).floor == 99_000
    assert outcome(FloorRule(3_000, "trailing_intraday"), *days) == ("floor", 1)
    assert outcome(FloorRule(3_000), *days) is None


def test_a_new_peak_never_touches_the_floor_that_it_moves():
    assert outcome(FloorRule(1_000, "trailing_intraday"), [100_000, 105_000, 110_000]) is None


def test_a_locked_floor_lets_the_account_fall_back_to_the_start():
    """+4,000: 101,000 would be the floor, and it stays at 100,000."""
    days = [[100_000, 104_000], [100_100], [99_900]]
    assert outcome(FloorRule(3_000, "trailing_intraday", lock=0.0), *days) == ("floor", 3)
    assert outcome(FloorRule(3_000, "trailing_intraday"), *days) == ("floor", 2)


def test_a_lock_at_the_start_and_an_offset_is_exact():
    days = [[100_000, 104_000], [104_000]]
    rule = FloorRule(3_000, "trailing_eod", lock=100)
    assert outcome(rule, *days, [100_150]) is None
    assert outcome(rule, *days, [100_050]) == ("floor", 3)
    assert outcome(FloorRule(3_000, "trailing_eod", lock=0.0), *days, [100_050]) is None


def test_five_percent_of_what():
    """Yesterday closed at 102,000: 97,000 of the initial balance, 96,900 of the day's."""
    days = [[100_000, 102_000], [99_000, 96_950]]
    assert outcome(FloorRule(0.20, daily=0.05), *days) == ("daily", 2)
    assert outcome(FloorRule(0.20, daily=0.05, daily_base="reference"), *days) is None


def test_a_day_that_is_judged_at_its_end_alone_is_one_sample():
    """-6,000 and then +2,000: 94,000 within the day fails, 96,000 at its end does not."""
    rule = FloorRule(0.20, daily=0.05)
    assert outcome(rule, [100_000, 94_000, 96_000]) == ("daily", 1)
    assert outcome(rule, [100_000], [96_000]) is None


def test_of_two_floors_the_higher_one_was_touched_first():
    assert outcome(FloorRule(3_000, daily=2_000), [100_000, 96_500]) == ("daily", 1)
    assert outcome(FloorRule(3_000, daily=4_000), [100_000, 95_500]) == ("floor", 1)


# -- after a trip ----------------------------------------------------------------------------------


def test_a_daily_pause_ends_with_the_day():
    rule = FloorRule(0.10, daily=0.02, on_daily="pause")
    state = follow(rule, [100_000, 98_000])
    assert (state.status, state.cause) == ("TRIPPED", "daily")
    state.after_flat()
    assert state.status == "PAUSED"
    assert not state.update(97_900, 97_900, 1.0)
    assert not state.update(97_900, 97_900, 2.0)
    assert (state.status, state.cause, state.daily) == ("ARMED", "", 95_900)


def test_a_day_that_ends_while_positions_are_closed_pauses_nothing():
    state = follow(FloorRule(0.10, daily=0.02, on_daily="pause"), [100_000, 98_000])
    state.update(98_000, 98_000, 2.0)
    state.after_flat()
    assert state.status == "ARMED"


@pytest.mark.parametrize("on_daily", ["pause", "halt"])
@pytest.mark.parametrize("flat_first", [True, False])
def test_a_fall_through_both_floors_is_a_touched_floor(on_daily, flat_first):
    """What is still open, or fills late, may lose the rest after the day has tripped."""
    state = follow(FloorRule(0.10, daily=0.02, on_daily=on_daily), [100_000, 98_000])
    if flat_first:
        state.after_flat()
    assert state.update(90_000, 90_000, 1.0)
    assert state.cause == "floor"
    state.after_flat()
    assert state.status == "LOCKED"
    state.update(100_000, 100_000, 2.0)
    assert state.status == "LOCKED"


def test_a_rearmed_account_begins_anew_after_a_floor_and_only_the_day_after_a_daily_loss():
    state = follow(FloorRule(0.10, "trailing_closed", daily=0.15), [100_000, 104_000, 94_000])
    assert state.cause == "floor"
    state.after_flat()
    state.rearm()
    assert (state.status, state.initial, state.floor, state.daily) == (
        "ARMED",
        94_000,
        84_600,
        94_000 - 14_100,
    )
    rule = FloorRule(0.10, "trailing_closed", daily=0.05)
    state = follow(rule, [100_000, 104_000], [104_000, 99_000])
    assert state.cause == "daily"
    state.after_flat()
    state.rearm()
    assert (state.status, state.floor, state.daily) == ("ARMED", 94_000, 94_000)


def test_nothing_is_concluded_from_a_nan():
    state = FloorState(FloorRule(0.10, "trailing_intraday", daily=0.05))
    assert not state.update(NAN, NAN, 1.0)
    state.rearm()
    assert math.isnan(state.initial)
    state.update(100_000, 100_000, 1.0)
    for balance, equity, worst, best in [
        (NAN, 50_000, None, None),
        (50_000, NAN, None, None),
        (50_000, 50_000, NAN, None),
        (50_000, 50_000, -INF, None),
        (50_000, 200_000, None, INF),
    ]:
        assert not state.update(balance, equity, 2.0, worst, best)
    assert (state.day, state.mark, state.equity) == (1.0, 100_000, 100_000)


def test_one_sample_moves_no_mark_and_trips_nothing_where_two_are_asked_for():
    rule = FloorRule(3_000, "trailing_intraday", confirmations=2)
    state = follow(rule, [100_000, 150_000, 100_000, 90_000, 100_000])
    assert (state.cause, state.mark) == ("", 100_000)
    assert follow(rule, [100_000, 104_000, 105_000]).mark == 104_000
    assert outcome(rule, [100_000, 96_000, 96_500]) == ("floor", 1)


def test_the_worst_of_a_bar_comes_after_its_best():
    state = FloorState(FloorRule(3_000, "trailing_intraday"))
    state.update(100_000, 100_000, 1.0)
    assert state.update(100_000, 101_000, 1.0, worst=99_500, best=102_500)
    assert state.floor == 99_500


def test_the_initial_balance_can_be_given():
    """An account of 100,000 that has earned 5,000 before this run may fall to 90,000."""
    assert follow(FloorRule(0.10, initial=100_000), [105_000]).floor == 90_000


def test_a_rounding_above_the_floor_touches_it():
    state = FloorState(FloorRule(0.1))
    state.update(1.1, 1.1, 1.0)
    assert state.update(1.1 - 0.1 - 0.01, 1.1 - 0.1 - 0.01, 1.0)  # 0.9900000000000001


def test_a_restored_state_goes_on_as_the_saved_one():
    rule = FloorRule(0.06, "trailing_eod", lock=0.0, daily=0.03)
    whole, first = FloorState(rule), FloorState(rule)
    samples = [(100_000.0, 1.0), (104_000.0, 1.0), (103_500.0, 2.0), (101_200.0, 2.0)]
    for value, day in samples[:2]:
        first.update(value, value, day)
        whole.update(value, value, day)
    second = FloorState(rule)
    second.restore(first.persist())
    for value, day in samples[2:]:
        whole.update(value, value, day)
        second.update(value, value, day)
    assert second.persist() == whole.persist()
    assert (second.floor, second.daily) == (whole.floor, whole.daily)


# -- the oracle -----------------------------------------------------------------------------------


def levels(rule, history):
    """Return both floors after the samples so far, each computed from all of them.

    A sample is (day, balance, equity, worst, best).
    """
    first = history[0][1] if rule.initial is None else rule.initial
    amount = in_currency(rule.amount, first)
    ends = {day: (balance, equity) for day, balance, equity, *_ in history}  # the last of each day
    today = history[-1][0]
    value = {
        "balance": lambda balance, equity: balance,
        "equity": lambda balance, equity: equity,
        "higher": lambda balance, equity: max(balance, equity),
    }[rule.reference]
    past = [value(*end) for day, end in sorted(ends.items()) if day < today]
    n = rule.confirmations
    runs = list(zip(history, history[1:], strict=False)) if n > 1 else [(h, h) for h in history]
    trailed = {
        "static": [],
        "trailing_closed": [min(a[1], b[1]) for a, b in runs],
        "trailing_eod": past,
        "trailing_intraday": [min(a[2] if n > 1 else a[4], b[4]) for a, b in runs],
    }[rule.mode]
    floor = max([first, *trailed]) - amount
    if rule.mode != "static" and rule.lock is not None:
        floor = min(floor, first + in_currency(rule.lock, first))
    floor = max(floor, first - amount)
    opened = past[-1] if past else value(*history[0][1:3])
    base = first if rule.daily_base == "initial" else opened
    return floor, opened - in_currency(rule.daily, base)


def oracle(rule, path):
    """Yield (cause, day) of every trip, by a walk that remembers nothing but all samples."""
    in_a_row, paused = 0, None
    for place, (day, *_, worst, _) in enumerate(path):
        floor, daily = levels(rule, path[: place + 1])
        if paused == day:
            daily = -INF
        in_a_row = in_a_row + 1 if worst <= max(floor, daily) else 0
        if in_a_row < rule.confirmations:
            continue
        cause = "floor" if floor >= daily else "daily"
        yield cause, day
        if cause == "floor":
            return
        if rule.on_daily == "halt":
            paused = INF  # for good: only the other floor counts
            daily = -INF
            rest = path[place + 1 :]
            yield from _floor_only(rule, path, place + 1, rest)
            return
        in_a_row, paused = 0, day


def _floor_only(rule, path, begin, rest):
    in_a_row = 0
    for place, (day, *_, worst, _) in enumerate(rest, begin):
        floor, _ = levels(rule, path[: place + 1])
        in_a_row = in_a_row + 1 if worst <= floor else 0
        if in_a_row == rule.confirmations:
            yield "floor", day
            return


def walked(rule, path):
    state, found = FloorState(rule), []
    for day, balance, equity, worst, best in path:
        if state.update(balance, equity, day, worst, best):
            found.append((state.cause, day))
            state.after_flat()
    return found


def random_rule(rng):
    amount = rng.choice([INF, 0.02, 0.06, 0.1, 3_000.0])
    return FloorRule(
        amount=amount,
        mode=rng.choice(MODES),
        lock=rng.choice([None, 0.0, 100.0, 0.01, -500.0]),
        daily=rng.choice([INF, 0.01, 0.03, 1_500.0]),
        daily_base=rng.choice(BASES),
        reference=rng.choice(REFERENCES),
        on_daily=rng.choice(ON_DAILY),
        confirmations=rng.choice([1, 1, 1, 2, 3]),
        initial=rng.choice([None, None, 100_000.0]),
    )


def random_path(rng):
    balance, day, path = 100_000.0, 1.0, []
    for _ in range(rng.randrange(2, 25)):
        day += rng.random() < 0.3
        balance += rng.choice([0.0, 0.0, 500.0, -500.0, rng.uniform(-1_500, 1_700)])
        equity = balance + rng.choice([0.0, 1_000.0, rng.uniform(-1_500, 1_500)])
        worst = equity - rng.choice([0.0, 0.0, rng.uniform(0, 800)])
        best = equity + rng.choice([0.0, 0.0, rng.uniform(0, 800)])
        path.append((day, balance, equity, worst, best))
    return path


@pytest.mark.parametrize("block", range(10))
def test_random_paths_agree_with_an_oracle_that_reads_all_history_at_each_step(block):
    """10,000 paths in all."""
    rng, tripped = random.Random(block), 0
    for _ in range(1_000):
        rule, path = random_rule(rng), random_path(rng)
        expected = list(oracle(rule, path))
        assert walked(rule, path) == expected, (rule, path)
        tripped += bool(expected)
    assert 200 < tripped < 900
