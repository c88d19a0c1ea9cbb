import math

import pytest

from bt_risk.rules.day_result import DayResult, base_level, gave_back, lost, won


def loss(gain, best):
    return lost(gain, 0.03)


def lock(gain, best):
    return gave_back(gain, best, share=0.5, profit_from=0.01)


def day_of(rule, *results, **options):
    day = DayResult()
    day.start(1.0)
    for result in results:
        gain, worst = result if isinstance(result, tuple) else (result, None)
        day.add(rule, gain, worst, **options)
    return day


def test_a_day_is_over_at_the_limit_and_stays_so():
    day = day_of(loss, -0.029, -0.03, 0.01)
    assert (day.over, day.confirmed, day.gain, day.low, day.best) == (True, True, 0.01, -0.03, 0.0)
    assert not day_of(loss, -0.029).over
    day.start(2.0)
    assert not day.over


def test_the_worst_loss_of_a_day_is_what_it_is_measured_by():
    assert day_of(loss, -0.03, -0.05, -0.04).measured == -0.05


def test_a_bar_is_judged_at_its_worst_where_that_is_known():
    day = day_of(loss, (0.0, -0.06))
    assert (day.over, day.gain, day.low, day.best) == (True, 0.0, -0.06, 0.0)
    # No better than its close.
    assert day_of(loss, (-0.04, -0.01)).measured == -0.04


def test_the_worst_of_one_bar_alone_does_not_count_where_two_must_agree():
    wrong = day_of(loss, (0.0, -0.06), (0.0, -0.01), confirmations=2)
    assert (wrong.over, wrong.low) == (False, -0.01)
    real = day_of(loss, (-0.02, -0.06), (-0.02, -0.04), confirmations=2)
    assert (real.over, real.confirmed, real.measured) == (True, True, -0.04)


def test_one_close_refuses_entries_and_two_close_positions_where_two_must_agree():
    once = day_of(loss, -0.04, -0.02, confirmations=2)
    assert (once.over, once.confirmed) == (True, False)
    assert day_of(loss, -0.04, -0.03, confirmations=2).confirmed


def test_one_value_moves_the_best_profit_where_two_must_agree_only_as_far_as_both_say():
    assert day_of(lock, 0.01, 0.50, 0.02, confirmations=2).best == 0.02
    assert day_of(lock, 0.01, 0.50, 0.40).best == 0.50


def test_a_profit_is_locked_from_its_begin_on():
    assert not day_of(lock, 0.008, 0.0).over  # it was never 1 %
    assert not day_of(lock, 0.02, 0.011).over
    day = day_of(lock, 0.02, 0.010, 0.04)
    assert (day.over, day.measured, day.best) == (True, 0.010, 0.02)
    # The low of the bar that made the best close came before it.
    assert not day_of(lock, (0.02, -0.01)).over
    assert day_of(lock, 0.02, (0.03, 0.01)).over


def test_a_target_is_reached_at_itself():
    def rule(gain, best):
        return won(gain, 0.03)

    assert not day_of(rule, 0.029).over
    assert day_of(rule, 0.03).over


def test_values_between_bars_move_neither_the_best_profit_nor_the_count():
    day = day_of(lock, 0.02)
    day.add(lock, 0.05, closed=False)
    assert (day.best, day.gain, day.marks) == (0.02, 0.02, 1)


def test_a_cool_down_counts_closes_from_the_last_breach():
    day = day_of(loss, -0.03, 0.0, 0.0)
    day.start(2.0)
    assert day.cools(3)
    assert not day.cools(2)
    assert not day_of(loss, 0.0).cools(99)


@pytest.mark.parametrize(("base", "level"), [("equity", 97.0), ("balance", 100.0)])
def test_an_open_loss_is_in_equity_and_not_in_the_balance(base, level):
    assert base_level(base, 97.0, -3.0) == level
    assert base_level("higher", 97.0, -3.0) == 100.0


def test_an_account_without_a_base_has_lost_all():
    assert lost(-math.inf, 0.03)
