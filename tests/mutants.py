"""Faults that cost money, put into the package one at a time: the tests must notice each.

    python tests/mutants.py [--list] [--processes N] [name ...]

Each fault goes into a copy of the repository of its own, where the tests that should notice it
run. It is killed when one of them fails, and survives when all of them pass; the exit status is 1
if any survives, or if these tests do not all pass without a fault.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KILLED, SURVIVED = "killed", "survived"
# pytest's word for it; any other status says that the tests themselves could not run.
OUTCOMES = {0: SURVIVED, 1: KILLED}
# Some twenty times what the slowest takes: a fault that hangs the tests is noticed, but not killed.
PATIENCE = 300.0


@dataclass(frozen=True)
class Mutant:
    """One fault: `old` stands once in ``bt_risk/<file>`` and becomes `new`.

    `tests` are files or functions below ``tests/``, as pytest names them; one must fail.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple

    def applied(self, root=ROOT):
        """Return the path of the file below `root`, and its text with the fault in it."""
        path = root / "bt_risk" / self.file
        text = path.read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: {text.count(self.old)} x {self.old!r} in {path}")
        return path, text.replace(self.old, self.new)


# One block a fault: its name and file, the lines that go, the lines that come, what kills it.
FAULTS = r"""
own-exit-not-clamped gate/simulated_execution.py
- min(working.remaining, self._free(part, working))
+ working.remaining
? test_traps.py::test_a_stop_and_a_close_of_one_bar_leave_the_account_flat

market-exits-not-subtracted gate/simulated_execution.py
- abs(part.size) - mine
+ abs(part.size)
? test_traps.py::test_a_stop_and_a_close_of_one_bar_leave_the_account_flat

exits-of-other-owners-not-subtracted gate/simulated_execution.py
- free = min(free, abs(part.instrument.size) - all_owners)
+ pass
? test_mutants.py::test_a_close_of_one_strategy_goes_before_the_stop_of_the_other

margin-loses-exits gate/simulated_execution.py
- if left >= 0.0 or not self._closes(order):
+ if True:
? test_traps.py::test_one_unaffordable_order_does_not_take_the_exits_of_its_bar_with_it

margin-forgives-entries gate/simulated_execution.py
- if left >= 0.0 or not self._closes(order):
+ if left >= 0.0:
? test_mutants.py::test_an_unaffordable_entry_ends_margin_although_the_next_open_is_cheap

nan-cash-goes-on gate/simulated_execution.py
- return cash if cash >= 0.0 else 0.0
+ return left
? test_safety.py::test_what_went_wrong_once_does_not_again

fills-at-no-price gate/simulated_execution.py
- if price is not None and math.isnan(price):
+ if False:
? test_modes.py::test_an_order_at_the_close_of_a_bar_that_has_none_waits_for_the_next

annotated-price-that-is-none-stays gate/simulated_execution.py
- order.pannotated = None
+ pass
? test_modes.py::test_an_exit_at_the_close_of_a_feed_that_pauses_waits_for_a_close_that_is_there

exit-cheats-at-a-close-that-is-none gate/simulated_execution.py
- order.addinfo(coc=False)
+ pass
? test_modes.py::test_on_the_close_an_exit_of_a_bar_that_has_none_leaves_at_the_next_open

exit-at-the-close-is-served-last gate/simulated_execution.py
- if working is None or working.kind != "market":
+ if working is None or not self._leaves_now(working):
? test_modes.py::test_an_exit_at_the_close_goes_with_the_position_whatever_rests_beside_it

stop-outlives-the-market-order-that-replaces-it portfolio/position.py
- taken[group, a], kept[group, a] = max(was, exits), max(now, keeps)
+ taken[group, kind], kept[group, kind] = max(was, exits), max(now, keeps)
? test_modes.py::test_a_stop_and_an_exit_at_the_close_that_replace_each_other_shrink_together

clamp-outlives-its-bar gate/simulated_execution.py
- if clamped and order.alive():
+ if clamped and order.alive() and order.executed.size == before:
? test_broker.py::test_an_exit_that_fills_in_parts_keeps_saying_what_is_left_of_it

cancelled-entry-takes-the-exit-of-its-group gate/exit_orders.py
- cancel = self.withdraw if hooks is None else hooks.cancel_alone
+ cancel = self.gate.inner.cancel
? test_breakers.py::test_an_entry_that_a_trip_cancels_takes_no_exit_with_it

sizer-asks-for-a-position-that-cannot-be components/half_kelly.py
- position = self.broker.known_position(data)
+ position = self.broker.getposition(data)
? test_traps.py::test_a_position_that_is_asked_for_before_the_first_bar_is_valued_and_ours_is_not

entry-not-fitted-to-cash gate/simulated_execution.py
- if 0 < size < wanted:
+ if False:
? test_traps.py::test_sizing_on_all_cash_ends_margin_and_our_sizer_is_cut_at_the_fill

begun-stop-waits-again gate/simulated_execution.py
- if begun:
+ if False:
? test_stops.py::test_a_begun_stop_goes_on_as_a_market_order

exits-outlive-the-stop gate/simulated_execution.py
- self._shrink_exits(part, working.side, held, left)
+ pass
? test_traps.py::test_a_take_profit_and_a_stop_that_one_wide_bar_reaches_leave_the_account_flat

guarded-exit-not-clamped gate/simulated_execution.py
- size = min(working.remaining, held + working.opening - held_back)
+ size = working.remaining
? test_mutants.py::test_an_exit_that_passed_behind_a_resting_one_does_not_flip_when_that_fills_first

hooks-left-in-the-broker gate/simulated_execution.py
- del self.inner._try_exec, self.inner._execute
+ pass
? test_broker.py::test_a_late_gate_takes_itself_away_at_the_end

stop-amended-without-its-size gate/exit_orders.py
- working.remaining = working.size = size
+ pass
? test_stops.py::test_stop_that

stop-amended-without-its-price gate/exit_orders.py
- order.created.price = price
+ pass
? test_stops.py::test_stop_that

risk-at-the-old-stop gate/exit_orders.py
-         working.price = price
+         pass
? test_mutants.py::test_risk_is_measured_to_where_the_stop_has_moved

own-order-never-withdrawn gate/exit_orders.py
- self.gate.inner.cancel(order)
+ pass
? test_broker.py::test_a_stop_at_a_venue_trails_by_cancel_and_replace_and_rests_once

breaker-closes-twice gate/exit_orders.py
- return w.handle.info.get("bt_risk") or "bt_risk: an exit"
+ return ""
? test_breakers.py::test_it_waits_for_a_data_that_has_no_bar

entry-of-the-same-bar-survives-the-halt gate/simulated_execution.py
- if order.ref in self.gate.exits.ended:
+ if False:
? test_states.py::test_an_entry_of_the_same_bar_takes_no_exit_with_it

venue-sold-twice-by-a-flatten gate/exit_orders.py
- return self.closing.get(part) == part.number or bool(self.leaving(part))
+ return False
? test_states.py::test_a_venue_is_not_sold_twice_by_the_stop_and_the_flatten

resting-entry-fills-in-reduce-only gate/simulated_execution.py
- held_back = working.opening if self.gate.states else 0.0
+ held_back = 0.0
? test_states.py::test_reduce_only_holds_back_what_rests_and_lets_it_go_on_after_resume

reduce-only-softens-a-halt gate/trading_state.py
- if self.asked.get(OPERATOR, ("",))[0] != HALTED:
+ if True:
? test_states.py::test_every_change_is_a_line_with_its_reason_and_no_change_is_none

resume-undoes-a-breaker gate/trading_state.py
- asked = self.asked.pop(OPERATOR, None)
+ asked = self.asked.clear() or True
? test_states.py::test_resume_does_not_undo_a_breaker

signal-forgets-the-entries live/shutdown.py
- self.gate.set_state("shutdown", HALTED, f"{self._received} received")
+ pass
? test_states.py::test_a_signal_ends_a_live_run_with_entries_cancelled_and_the_stop_at_work

signals-not-given-back gate/broker.py
- self.shutdown.restore()
+ pass
? test_states.py::test_a_live_run_gives_the_signals_back_and_takes_none_that_is_ignored

cool-down-one-bar-short limits/trade_guards.py
- if now - self._bar(trade) >= self.cooldown_bars:
+ if now - self._bar(trade) >= self.cooldown_bars - 1:
? test_guards.py::test_three_bars_lie_between_an_exit_and_the_next_entry

winner-counts-as-stopped-out limits/trade_guards.py
- return trade.stopped and trade.pnl < 0
+ return trade.stopped
? test_guards.py::test_a_stop_that_takes_a_profit_and_a_loss_without_a_stop_are_no_stop_outs

stop-of-ours-is-no-stop-out gate/exit_orders.py
- working.stops |= stops
+ pass
? test_guards.py::test_the_stop_of_bt_risk_counts_however_it_is_triggered

sides-not-told-apart limits/trade_guards.py
- same_side = not self.side_aware or event.side == request.side
+ same_side = True
? test_guards.py::test_a_cool_down_is_of_the_data_or_of_all_and_of_the_side_or_of_both

loss-that-comes-back-is-none portfolio/equity_curve.py
- lost = series[before] - min(series[first:end])
+ lost = series[before] - series[end - 1]
? test_guards.py::test_an_open_loss_ends_the_day_for_entries_also_when_it_comes_back

gap-over-night-is-no-loss portfolio/equity_curve.py
- series, before = self.series[key], max(begin - 1, 0)
+ series, before = self.series[key], begin
? test_guards.py::test_the_loss_of_a_day_is_measured_from_the_last_close_of_the_day_before

only-closed-trades-lose portfolio/equity_curve.py
- results[one.lead.index, part.side] += part.pnl + gain
+ pass
? test_guards.py::test_the_loss_is_of_the_account_or_of_a_data_and_of_one_side_or_of_both

withdrawal-is-a-loss-of-the-day monitors/guards.py
- book.latest, gate.unit_value(), gate.equity()
+ book.latest, gate.equity(), gate.equity()
? test_guards.py::test_a_deposit_is_no_gain_and_a_withdrawal_no_loss

resting-entry-outlives-a-guard monitors/guards.py
- if self.gate.exits.cancel_entry(working, decision.reason):
+ if False:
? test_guards.py::test_an_entry_that_rests_is_cancelled_when_the_cool_down_begins

weights-of-every-call components/target_weights.py
- if self._estimate is None or self._estimate.period != period:
+ if True:
? test_weights.py::test_weights_are_frozen_within_the_period

short-weighed-as-a-long rules/allocation.py
- matrix * signs[:, None] * signs
+ matrix
? test_weights.py::test_a_short_that_moves_with_the_longs_is_a_hedge_and_gets_more

gross-not-limited rules/allocation.py
- weights * min(1.0, limit / gross)
+ weights
? test_weights.py::test_the_volatility_of_the_portfolio_is_the_target_unless_gross_is_used_up

churn-inside-the-buffer components/target_weights.py
- return abs(weight - held) > buffer * abs(weight) + EPS
+ return abs(weight - held) > EPS
? test_weights.py::test_a_position_inside_its_buffer_is_not_traded

weight-without-the-multiplier components/risk_parity.py
- instrument.price * multiplier
+ instrument.price
? test_weights.py::test_steps_and_multipliers_count

bracket-uses-up-its-own-rate limits/clock_guards.py
- if request.again:
+ if False:
? test_guards.py::test_exits_pass_and_count_and_a_bracket_is_one

child-larger-than-its-parent gate/brackets.py
- closing = min(ticket.size, entry.opening)
+ closing = ticket.size
? test_brackets.py::test_children_with_sizes_of_their_own_never_exceed_a_trimmed_parent

family-not-judged gate/brackets.py
-             if refusal:
+             if False:
? test_brackets.py::test_a_bracket_is_judged_again_at_its_own_stop_and_rejected_together

children-of-a-rejected-parent-sent gate/brackets.py
- self.desk.rejected.get(ref) or
? test_brackets.py::test_a_rejected_parent_rejects_the_whole_bracket

bracket-stop-on-the-wrong-side gate/brackets.py
- losing_side(entry.side,
+ losing_side(1,
? test_brackets.py::test_a_short_bracket_is_judged_at_its_stop_too

orders-not-guarded gate/order_review.py
- self.gate.exits.guarded.add(order.ref)
+ pass
? test_mutants.py::test_a_trimmed_reversal_opens_no_more_when_another_strategy_closes_first

void-used-twice gate/order_review.py
- part.lost -= verdict.void
+ pass
? test_mutants.py::test_what_was_never_bought_is_void_once

overlapping-exits-not-guarded gate/order_review.py
- if verdict.overlaps:
+ if False:
? test_mutants.py::test_a_resting_exit_whose_position_another_one_closed_does_not_touch_the_next

trim-not-rounded gate/order_review.py
- size = max(closing, self.round(ticket, size))
+ size = max(closing, size)
? test_broker.py::test_a_rejected_order_carries_what_the_user_asked_for

nan-size-let-through gate/order_review.py
- not (math.isfinite(size) and size > EPS)
+ size <= EPS
? test_traps.py::test_a_size_that_is_nan_does_not_take_the_orders_of_its_bar_with_it

last-limit-decides gate/order_review.py
- if answer.size < decision.size:
+ if answer.reason or not decision.reason:
? test_broker.py::test_the_smallest_answer_counts_and_its_reason_is_given

state-of-the-gate-ignored gate/order_review.py
- if state != ACTIVE:
+ if False:
? test_broker.py::test_entries_are_refused_with_the_reason_of_the_state

exit-refused-behind-a-resting-one gate/order_review.py
- size = min(ticket.size, max(size, spare))
+ size = min(ticket.size, size)
? test_broker.py::test_a_take_profit_and_a_stop_without_oco_both_rest_and_never_flip_the_position

oco-group-not-restored gate/order_review.py
-                 w.opening = size
+                 pass
? test_mutants.py::test_the_orders_of_an_oco_group_count_again_after_one_was_added

stop-price-of-the-user-ignored gate/order_review.py
- if ticket.stop_price is not None:
+ if False:
? test_broker.py::test_stop_price_reaches_the_gate_and_not_the_broker

cash-is-equity gate/order_review.py
- self.gate.equity()
+ self.gate.inner.getcash()
? test_broker.py::test_small_buys_on_every_bar_cannot_walk_around_the_risk_limit

void-not-counted portfolio/book.py
- void = min(rest, part.lost)
+ pass
? test_broker.py::test_a_strategy_that_got_half_of_what_it_asked_sells_all_of_it_and_is_flat

working-exits-close-again portfolio/book.py
- own = -side * part.size - mine
+ own = -side * part.size
? test_broker.py::test_two_closes_of_one_bar_close_once

working-orders-not-in-risk portfolio/exposure.py
- return self._held(instrument, side, unit) + self._entering(instrument, side, unit)
+ return self._held(instrument, side, unit)
? test_book.py::test_held_and_working_orders_of_one_side_add_up

alternative-entries-counted-twice portfolio/exposure.py
- groups[w.group] = max(groups.get(w.group, 0.0), stake)
+ groups[w.group] = groups.get(w.group, 0.0) + stake
? test_book.py::test_alternative_entries_count_once_with_the_larger_stake

averaging-down-unseen portfolio/exposure.py
- self._worse_price(instrument, side) if from_entry else instrument.price
+ instrument.price
? test_strangers.py::test_a_target_placed_on_every_bar_cannot_average_down_to_the_stop

abs-of-a-short-dropped portfolio/exposure.py
- return abs(instrument.size) * instrument.value
+ return instrument.size * instrument.value
? test_mutants.py::test_a_short_counts_towards_the_notional_limit_like_a_long

farthest-stop-first portfolio/exposure.py
- in sorted(stops):
+ in sorted(stops, reverse=True):
? test_mutants.py::test_the_nearest_stop_covers_where_there_is_more_than_one

children-wait-for-nobody portfolio/book.py
- return working.parent is None or working.parent not in self.working
+ return True
? test_book.py::test_our_own_stop_and_waiting_children_are_no_exits_of_the_user

commission-of-the-entry-forgotten portfolio/book.py
- part.pnl -= commission
+ pass
? test_book.py::test_a_trade_runs_from_flat_to_flat

multiplier-not-in-r portfolio/position.py
- risk = part.stop_distance * part.peak * instrument.multiplier
+ risk = part.stop_distance * part.peak
? test_book.py::test_the_multiplier_counts_in_pnl_and_risk

resampled-copy-is-another-name portfolio/book.py
- others = leads != own.index
+ others = leads >= 0
? test_mutants.py::test_a_name_is_no_second_bet_on_its_resampled_copy

working-orders-not-in-correlation portfolio/book.py
- if opening or self._copied:
+ if self._copied:
? test_caps.py::test_siblings_of_one_bar_are_the_same_bet

dust-is-a-position portfolio/book.py
- if abs(part.size) <= EPS:
+ if part.size == 0.0:
? test_mutants.py::test_a_rest_of_rounding_is_flat_although_another_strategy_holds_some

unknown-correlation-passes portfolio/book.py
- signed = side * sides * rho
+ signed = side * sides * np.nan_to_num(rho)
? test_caps.py::test_too_little_history_refuses_even_a_hedge_and_says_how_much_there_is

risk-of-copies-not-added portfolio/exposure.py
- for copy in instrument.copies])
+ for copy in (instrument,)])
? test_mutants.py::test_a_resampled_copy_has_no_risk_limit_of_its_own

exits-not-shrunk-to-what-is-left portfolio/position.py
- left[a] -= max(0.0, keeps - now)
+ pass
? test_mutants.py::test_later_exits_shrink_to_what_earlier_ones_leave

alternatives-shrink-twice portfolio/position.py
- for ref, group, kind, remaining in orders:
+ for group, _, kind, remaining in orders:
? test_mutants.py::test_exits_that_replace_each_other_shrink_alike

entry-fills-before-exit portfolio/position.py
- self.opening = min(self.opening, self.remaining)
+ self.opening = max(0.0, self.opening - size)
? test_book.py::test_a_partial_fill_takes_what_closes_first

old-stop-behind-a-reversal monitors/trailing_stop.py
- if stop and (stop.number != part.number or not part.size):
+ if stop and not part.size:
? test_traps.py::test_a_reversal_takes_the_old_stop_away_and_brings_a_new_one

stop-not-resized monitors/trailing_stop.py
-  and abs(size - working.remaining) <= EPS
? test_stops.py::test_a_begun_stop_goes_on_as_a_market_order

short-stop-below-the-price monitors/trailing_stop.py
- anchor - side * multiple * atr
+ anchor - multiple * atr
? test_stops.py::test_stop_that

buffer-towards-the-price monitors/trailing_stop.py
- + rule.buffer
+ - rule.buffer
? test_stops.py::test_stop_that

stop-outlives-its-position monitors/trailing_stop.py
- self._end(self.stops.pop(key))
+ self.stops.pop(key)
? test_mutants.py::test_the_stop_of_one_trade_does_not_touch_the_next_of_the_same_bar

first-stop-of-a-short-below-entry monitors/trailing_stop.py
- part.entry - part.side * part.stop_distance
+ part.entry - part.stop_distance
? test_stops.py::test_stop_that

stop-below-zero-placed monitors/trailing_stop.py
- if not stop.price > 0.0 or size <= EPS:
-             stop.resting
+ if size <= EPS:
+             stop.resting
? test_stops.py::test_stop_that

stop-at-a-venue-covers-leaving-size monitors/trailing_stop.py
- if not self.gate.simulated:
+ if False:
? test_mutants.py::test_at_a_venue_the_stop_leaves_to_a_market_exit_what_that_will_close

entry-bar-triggers-close-stop monitors/trailing_stop.py
- instrument.length > stop.since
+ instrument.length >= stop.since
? test_mutants.py::test_the_close_of_the_entry_bar_does_not_trigger_a_stop

stop-off-the-tick portfolio/instrument.py
- math.ceil(ticks) if side > 0
+ ticks if side > 0
? test_hostile.py::test_stops_rest_at_whole_ticks_and_risk_no_more_than_planned

late-fill-after-a-halt-kept components/drawdown_breaker.py
- self.cleared = flat and not self.gate.observe
+ self.cleared = False
? test_hostile.py::test_what_a_late_fill_opens_after_a_halt_is_closed_and_the_halt_stays

facts-multiple-ignored-by-stop monitors/trailing_stop.py
- instrument.facts.get("atr_multiple", rule.atr_multiple)
+ rule.atr_multiple
? test_mutants.py::test_the_atr_multiple_of_an_instrument_is_that_of_its_stop

breaker-does-not-wait-until-flat components/drawdown_breaker.py
- if not self.flatten or self.gate.exits.all_flat():
+ if True:
? test_breakers.py::test_it_trips_at_exactly_the_limit_closes_at_the_next_open_and_stops

resting-entries-not-cancelled gate/exit_orders.py
-                 self.cancel_entry(working, reason)
+                 pass
? test_breakers.py::test_a_resting_entry_on_another_data_is_cancelled

resting-exits-not-cancelled gate/exit_orders.py
-                 self.withdraw(working.handle)
+                 pass
? test_breakers.py::test_a_bracket_around_the_position_is_gone_with_it

gate-stays-open-on-a-trip components/drawdown_breaker.py
- self.gate.states.ask(self, self._gate_state, reason)
+ pass
? test_breakers.py::test_a_strategy_that_buys_on_every_bar_is_flat_when_the_run_ends

working-orders-count-as-flat gate/exit_orders.py
- return not held and not any(w.opening > EPS or w.own for w in book.working.values())
+ return not held
? test_mutants.py::test_an_entry_that_a_venue_has_not_cancelled_yet_is_waited_for

state-forgotten-before-an-order gate/exit_orders.py
- recovery.intend(instrument, part.owner, side, size, kind, price, own=True)
+ pass
? test_restart.py::test_killed_at_any_write_it_goes_on

state-not-written-after-a-bar gate/broker.py
-         self._act(news)
-         if self.recovery is not None:
+         self._act(news)
+         if False:
? test_restart.py::test_every_write_is_a_point

halt-forgotten components/drawdown_breaker.py
-         if self.state.status != ARMED:
-             self.gate.states.ask
+         if False:
+             self.gate.states.ask
? test_restart.py::test_halted_stays_halted_until_it_is_rearmed

repeated-bars-traded gate/order_review.py
- if instrument.repeats:
+ if False:
? test_restart.py::test_killed_at_any_write_it_goes_on

repeated-bars-in-the-atr portfolio/instrument.py
- if time <= self.known_until:
+ if False:
? test_restart.py::test_windows_are_what_they_would_be_without_the_restart

stop-of-ours-not-known-again monitors/trailing_stop.py
- if sent:
+ if False:
? test_restart.py::test_killed_at_any_write_it_goes_on

fill-told-twice-counts-twice gate/fills.py
- seen = 0 if self.gate.recovery is None else self.gate.recovery.skips(order)
+ seen = 0
? test_restart.py::test_a_fill_that_the_venue_reports_again_counts_once

orphan-stop-left state/reconciler.py
- self._cancel_orphans(instrument)
+ pass
? test_restart.py::test_a_stop_that_outlived_its_position_in_the_state_too_is_cancelled

lost-state-trades-on state/recovery.py
- self.gate.states.set("state", REDUCING, reason)
+ pass
? test_restart.py::test_without_its_state_a_run_with_positions_refuses_entries_and_places_stops

second-process-let-in state/file.py
- lock.execute("BEGIN EXCLUSIVE")
+ pass
? test_restart.py::test_a_second_run_on_one_state_stops_with_an_error

first-strategy-ends-the-run components/drawdown_breaker.py
- if self._breaker.finished and last:
+ if self._breaker.finished:
? test_breakers.py::test_two_strategies_both_see_the_last_bar

withdrawal-is-a-drawdown components/drawdown_breaker.py
- return self.gate.unit_value()
+ return self.gate.equity()
? test_breakers.py::test_the_limit_counts_from_the_high_water_mark_and_not_from_the_start

taper-not-told components/drawdown_breaker.py
- self.gate.book.risk_scales[self] = left
+ pass
? test_breakers.py::test_taper_alone_scales_the_order

cool-down-counts-every-call components/drawdown_breaker.py
- new_bar=data0 in fresh
+ new_bar=True
? test_mutants.py::test_a_cool_down_counts_bars_of_the_first_data_only

week-begins-any-day components/half_kelly.py
- day -= datetime.timedelta(days=day.weekday())
+ pass
? test_sizers.py::test_the_estimate_is_frozen_within_the_iso_week

kelly-not-frozen components/half_kelly.py
- and trade.closed < begin
? test_sizers.py::test_asked_late_in_the_week_it_knows_what_was_closed_before_the_week_began

multiplier-not-in-size components/half_kelly.py
- floored, multiplier, step
+ floored, 1.0, step
? test_sizers.py::test_futures_are_sized_by_multiplier_and_margin

held-not-in-notional-room components/half_kelly.py
- notional_limit * equity - used
+ notional_limit * equity
? test_sizers.py::test_a_second_order_has_what_the_first_leaves_of_the_notional_limit

learns-from-another-strategy components/half_kelly.py
- if trade.owner is self.strategy
-             and
+ if
? test_sizers.py::test_a_strategy_does_not_learn_from_the_trades_of_another

no-volatility-floor components/half_kelly.py
- risk, floored,
+ risk, distance,
? test_sizers.py::test_atr_floor_keeps_calm_from_growing_the_size

size-not-limited-by-cash components/half_kelly.py
- size = affordable(gate, instrument, side, size, step)
+ pass
? test_sizers.py::test_size_that

unknown-r-in-the-sample components/half_kelly.py
-             and not math.isnan(trade.r_multiple)
-
? test_mutants.py::test_trades_of_unknown_risk_do_not_end_the_warm_up

buy-that-covers-a-short-is-a-new-size components/half_kelly.py
- if abs(held) > EPS and
+ if held > EPS and
? test_sizers.py::test_a_buy_that_closes_a_short_returns_the_position

reserved-cash-spent-twice gate/buying_power.py
- gate.inner.getcash() - _reserved(gate)
+ gate.inner.getcash()
? test_sizers.py::test_two_buys_in_one_bar_share_the_cash

commission-not-in-the-cost gate/buying_power.py
- return value + info.getcommission(size, price)
+ return value
? test_sizers.py::test_an_open_above_the_close_fits_to_the_cash_and_is_no_margin

fills-of-a-venue-counted-again gate/fills.py
- islice(order.executed.exbits, seen, None)
+ order.executed.exbits
? test_mutants.py::test_a_fill_that_a_venue_tells_twice_is_booked_once

fills-of-backbroker-counted-again gate/fills.py
- bits = order.executed.getpending() if
+ bits = list(order.executed.exbits) if
? test_stops.py::test_a_begun_stop_goes_on_as_a_market_order

adopted-position-has-no-stop gate/fills.py
- self.touched.append(part)
+ pass
? test_traps.py::test_a_position_from_before_the_run_gets_a_stop

exit-sent-before-the-stop-is-gone live/exit_handover.py
- if not resting:
+ if True:
? test_mutants.py::test_an_exit_waits_until_a_slow_venue_has_cancelled_the_stop

handed-over-exit-not-clamped live/exit_handover.py
- size = min(working.remaining, left)
+ size = working.remaining
? test_broker.py::test_a_close_at_a_venue_goes_out_behind_the_cancelled_stop

cancel-misses-a-waiting-exit live/exit_handover.py
- if held.order.ref == ref:
+ if False:
? test_mutants.py::test_an_exit_that_waits_for_a_venue_can_be_cancelled

cancel-misses-a-sent-exit live/exit_handover.py
- return self._sent.get(ref, order)
+ return None
? test_mutants.py::test_an_exit_that_a_venue_has_by_now_can_be_cancelled_by_its_old_number

exit-and-stop-both-at-the-venue live/exit_handover.py
- if self.gate.simulated or ticket.kind != "market":
+ if True:
? test_broker.py::test_a_close_at_a_venue_goes_out_behind_the_cancelled_stop

second-run-keeps-the-state gate/broker.py
-         self.inner.start()
-         self._begin()
+         self.inner.start()
+         if not self.book.instruments:
+             self._begin()
? test_traps.py::test_the_second_run_of_a_cerebro_starts_from_a_clean_state

event-stop-not-restored gate/broker.py
- self.cerebro._event_stop = False
+ pass
? test_breakers.py::test_the_later_points_of_an_optimisation_run_in_full

not-unhooked-at-the-end gate/broker.py
-         self._unhook()
-         for hook in self.hooks:
+         for hook in self.hooks:
? test_broker.py::test_a_late_gate_takes_itself_away_at_the_end

late-gate-stays gate/broker.py
-         if self.late:
-
+         if False:
+
? test_broker.py::test_a_late_gate_takes_itself_away_at_the_end

moves-of-the-stop-are-told gate/broker.py
- if filled or order.ref not in self.own:
+ if True:
? test_stops.py::test_a_resting_exit_shrinks_with_every_part_of_the_stop

user-cancels-the-stop gate/broker.py
-         if ref in self.own:
-
+         if False:
+
? test_stops.py::test_stop_that

cancelled-exit-counts-until-the-next-bar gate/broker.py
- self.absorb()  # an exit that is cancelled makes room for the next one at once
? test_mutants.py::test_a_cancelled_exit_makes_room_at_once

observe-changes gate/broker.py
- return self.judges and not self.observe
+ return self.judges
? test_transparency.py::test_observing_changes_nothing_however_tight_the_policy

users-sizer-replaced policy.py
- if default and not _chosen_sizer(strategy):
+ if default:
? test_policy.py::test_a_sizer_of_the_cerebro_stays_and_is_trimmed

stop-fills-on-its-own-bar portfolio/instrument.py
- def after(self, moment):
+ def after(self, moment):
+         return True
+
? test_stops.py::test_a_bar_of_another_data_does_not_trigger_the_stop

nan-close-is-a-price portfolio/instrument.py
- if price == price and price > 0:
+ if True:
? test_book.py::test_a_bar_of_nan_counts_but_says_nothing

refused-size-is-no-order orders.py
- return bool(self.reason) or float(self) != 0.0
+ return float(self) != 0.0
? test_brackets.py::test_a_bracket_of_no_size_is_rejected_with_a_reason

stop-beyond-the-price-bounds-a-loss orders.py
- return distance if distance > 0 else math.nan
+ return abs(distance)
? test_mutants.py::test_a_named_stop_beyond_the_price_bounds_no_loss

stop-loosens rules/trailing_stop.py
- return level if level > stop_price else stop_price
+ return level
? rules/test_trailing_stop.py::test_ratchet_moves_only_with_the_position

limit-itself-does-not-trip rules/drawdown.py
- < rule.drawdown_limit - _ROUNDING
+ <= rule.drawdown_limit
? rules/test_drawdown.py::test_each_transition

mark-not-rebased rules/drawdown.py
- status=ARMED, high_water_mark=value,
+ status=ARMED,
? rules/test_drawdown.py::test_a_sequence_by_hand_pauses_and_comes_back_at_the_new_mark

confirmations-not-consecutive rules/drawdown.py
- return replace(state, breaches=0) if state.breaches else state
+ return state
? rules/test_drawdown.py::test_a_good_value_between_two_bad_ones_starts_the_count_again

nan-judged-by-the-breaker rules/drawdown.py
-     if math.isfinite(value):
-
+     if True:
+
? rules/test_drawdown.py::test_each_transition

boundary-refused limits/base.py
- wanted <= limit * equity * (1 + SLACK)
+ wanted < limit * equity
? rules/test_limits.py::test_what_each_limit_allows

correlation-at-the-limit-refused limits/correlation.py
- if excess[k] <= SLACK:
+ if excess[k] < 0:
? rules/test_limits.py::test_what_the_correlation_limit_allows

unknown-correlation-allowed limits/correlation.py
- if self.model.unknown == "allow":
+ if True:
? rules/test_limits.py::test_what_the_correlation_limit_allows

gross-forgets-the-short-side portfolio/exposure.py
- total += _larger(self.stake(other, 1, unit), self.stake(other, -1, unit))
+ total += self.stake(other, 1, unit)
? test_portfolio_limits.py::test_what_each_exposure_leaves_for_another_name

gross-counts-a-straddle-twice portfolio/exposure.py
- total += _larger(self.stake(other, 1, unit), self.stake(other, -1, unit))
+ total += self.stake(other, 1, unit) + self.stake(other, -1, unit)
? test_portfolio_limits.py::test_what_each_exposure_leaves_for_another_name

gross-hides-an-unknown-risk portfolio/exposure.py
- return one + other if math.isnan(one) or math.isnan(other) else max(one, other)
+ return max(one, other)
? test_portfolio_limits.py::test_an_unknown_risk_elsewhere_is_not_none

net-is-gross portfolio/exposure.py
- total -= self._held(other, -side, unit)
+ pass
? test_portfolio_limits.py::test_what_each_exposure_leaves_for_another_name

net-counts-what-the-order-closes portfolio/exposure.py
- if other is not instrument:
+ if True:
? test_portfolio_limits.py::test_what_is_at_work_in_the_same_name

group-is-everything portfolio/exposure.py
- if names is None or any(copy.name in names for copy in other.copies):
+ if True:
? test_portfolio_limits.py::test_a_group_is_judged_by_its_members_only

group-forgets-copies limits/exposure.py
- copies = {copy.name for copy in request.instrument.copies}
+ copies = {request.instrument.name}
? test_portfolio_limits.py::test_a_copy_is_in_the_group_of_its_instrument

last-group-counts limits/exposure.py
- if decision.size < answer.size:
+ if decision.size < request.size:
? test_portfolio_limits.py::test_the_group_with_the_least_room_counts_and_is_named

typo-in-a-group-passes limits/exposure.py
- if name not in names:
+ if not name:
? test_portfolio_limits.py::test_a_group_of_a_data_that_is_not_there_raises_when_the_run_begins

no-hysteresis limits/correlation.py
- limits.append(released if key in book.latched else self.limit)
+ limits.append(self.limit)
? test_portfolio_limits.py::test_a_pair_that_was_refused_is_released_below_the_limit_less_hysteresis

latched-for-good limits/correlation.py
- book.latched.discard(key)
+ pass
? test_portfolio_limits.py::test_a_pair_that_was_refused_is_released_below_the_limit_less_hysteresis

latch-of-the-other-side limits/correlation.py
- key = id(self), pair, int(side) * request.side
+ key = id(self), pair
? test_portfolio_limits.py::test_the_opposite_bet_has_a_latch_of_its_own_and_the_pair_has_one

old-prices-correlate portfolio/book.py
- signed[np.isin(others, stale)] = math.nan
+ pass
? test_portfolio_limits.py::test_a_feed_that_has_ended_is_unknown_and_not_at_its_old_prices

old-prices-in-volatility portfolio/book.py
- return None, f"{self.instruments[k].name} has had no bar for {late} of the others"
+ pass
? test_portfolio_limits.py::test_a_feed_that_has_ended_is_unknown_and_not_at_its_old_prices

a-still-name-is-riskless portfolio/book.py
- if len(still):
+ if False:
? test_portfolio_limits.py::test_an_unknown_volatility_is_not_zero

smaller-root limits/volatility.py
- return room / (cross + root) if cross > 0 else (root - cross) / own
+ return room / (abs(cross) + root)
? test_portfolio_limits.py::test_a_hedge_always_passes_and_the_rest_is_cut_to_the_limit

covariance-not-in-the-order limits/volatility.py
- before, cross = float(weights @ moved), float(unit @ moved)
+ before, cross = float(weights @ moved), 0.0
? test_portfolio_limits.py::test_a_hedge_always_passes_and_the_rest_is_cut_to_the_limit

hedge-above-the-limit-refused limits/volatility.py
- ceiling = max(self.limit**2, before)
+ ceiling = self.limit**2 if before <= self.limit**2 else before * 0.99
? test_portfolio_limits.py::test_a_hedge_always_passes_and_the_rest_is_cut_to_the_limit

volatility-of-a-bar limits/volatility.py
- per_year = self.periods_per_year or covariance.bars_per_year
+ per_year = 1.0
? test_portfolio_limits.py::test_the_volatility_of_one_name_by_hand

a-resting-hedge-counts limits/volatility.py
- weights[k] += value / book.equity if value * pull[k] > 0 else 0.0
+ weights[k] += value / book.equity
? test_portfolio_limits.py::test_working_orders_count_whichever_way_is_worse

resting-entries-not-in-volatility portfolio/exposure.py
- resting.append((lead, way * (every - market)))
+ pass
? test_portfolio_limits.py::test_working_orders_count_whichever_way_is_worse

hour-after-the-day rules/time_frames.py
- if self._waits and time > self._end():
+ if False:
? rules/test_time_frames.py::test_whatever_the_holes_the_answer_is_that_of_the_batch

day-before-its-end rules/time_frames.py
- return time + _DAY if length > 0.9 * _DAY and time == int(time) else time
+ return time
? rules/test_time_frames.py::test_a_day_meets_the_last_hour_before_its_end

old-hour-at-a-new-day rules/time_frames.py
- self._closes[:] = np.nan
-         self._waits = False
+ self._waits = False
? rules/test_time_frames.py::test_an_hour_without_a_bar_since_the_day_before_has_no_close

finer-of-two rules/time_frames.py
- coarser = np.minimum(self._axis_of[others], self._axis_of[candidate])
+ coarser = np.maximum(self._axis_of[others], self._axis_of[candidate])
? rules/test_time_frames.py::test_a_day_beside_hours_is_known

falls-whatever-the-sides rules/estimators.py
- own = ones * np.expand_dims(side / np.sqrt(squares_one), -1)
+ own = ones * np.expand_dims(1 / np.sqrt(squares_one), -1)
? rules/test_estimators.py::test_the_correlation_of_falls_by_hand

falls-make-a-pair-less-alike rules/return_window.py
- sign * np.fmax(sign * rho, sign * down)
+ down
? rules/test_estimators.py::test_falls_never_make_a_pair_less_of_one_bet

oldest-counts-most rules/estimators.py
- fading = self._fading(np.arange(count)[::-1])
+ fading = self._fading(np.arange(count))
? rules/test_estimators.py::test_fading_weights_are_those_of_pandas

drawn-to-the-identity rules/return_window.py
- rho += intensity * (mean - rho)
+ rho -= intensity * rho
? rules/test_estimators.py::test_correlations_are_drawn_to_the_mean_of_all_that_is_asked_about

returns-span-the-seam rules/return_window.py
- return np.delete(steps, slice(first - begin, last - begin), axis=1) if last else steps
+ return steps
? rules/test_estimators.py::test_no_return_of_several_bars_spans_the_end_of_seeded_returns

variance-of-several-bars rules/covariance.py
- product = self._returns @ (path * self._weights) / self._multi_bar
+ product = self._returns @ (path * self._weights)
? rules/test_estimators.py::test_what_the_matrix_does_to_weights_needs_no_matrix

held-not-in-limit limits/base.py
- used + request.size
+ request.size
? rules/test_limits.py::test_what_each_limit_allows

own-risk-limit-ignored limits/base.py
- request.instrument.facts.get("risk_limit", self.limit)
+ self.limit
? rules/test_limits.py::test_what_each_limit_allows

sign-of-rho-flipped rules/correlation.py
- side_i * side_j * np.asarray(rho)
+ -side_i * side_j * np.asarray(rho)
? rules/test_correlation.py::test_same_bet_is_signed_and_counts_the_unknown_as_one

unknown-rho-counts-as-none rules/correlation.py
- np.where(np.isnan(rho), 1.0,
+ np.where(np.isnan(rho), 0.0,
? rules/test_correlation.py::test_same_bet_is_signed_and_counts_the_unknown_as_one

too-few-returns-known rules/return_window.py
- rho[counts < self.min_periods] = np.nan
+ pass
? rules/test_correlation.py::test_window_equals_pandas_at_every_fill

history-looks-ahead rules/history.py
- frame if before is None else frame[frame.index < before]
+ frame
? rules/test_correlation.py::test_history_that_overlaps_the_run_is_cut_at_its_first_bar

bad-close-in-the-window rules/return_window.py
- known = (closes > 0) & (closes < np.inf)
+ known = closes == closes
? rules/test_correlation.py::test_a_close_that_is_no_price_counts_as_missing

kelly-below-zero-bets rules/kelly.py
- if full_kelly > 0 else 0.0
-
-
- def
+ if full_kelly != 0 else 0.0
+
+
+ def
? rules/test_kelly.py::test_article_row_4_a_losing_system_gets_nothing_instead_of_a_negative_size

kelly-not-capped rules/kelly.py
- float(min(kelly_scale * full_kelly, limit))
+ float(kelly_scale * full_kelly)
? rules/test_kelly.py::test_article_row_1_the_example_gives_2000_not_2750

rounds-up rules/sizing.py
- np.floor(ratio)
+ np.rint(ratio)
? rules/test_sizing.py::test_multiplier_makes_each_contract_lose_more

mark-stays-after-a-rebase rules/drawdown.py
- if value <= state.high_water_mark and value <= state.lifetime_mark:
+ if value <= state.lifetime_mark:
? test_mutants.py::test_the_mark_rises_again_after_a_rebase

report-loses-deposits report/pyfolio.py
- units = _daily(record, "unit_value").to_numpy()
+ units = _daily(record, "equity").to_numpy() / record.start[0] * record.start[1]
? report/test_pyfolio_inputs.py::test_deposits_are_no_returns

report-loses-the-multiplier report/pyfolio.py
- (fills["size"] * fills["multiplier"]).to_numpy()
+ fills["size"].to_numpy()
? report/test_pyfolio_inputs.py::test_a_future_is_held_at_its_notional

report-ends-with-the-halt report/calendar.py
- if cerebro._event_stop:
+ if False:
? report/test_pyfolio_inputs.py::test_a_halted_run_goes_on_flat_to_the_end_of_its_data

report-counts-a-ruin-twice report/pyfolio.py
- returns = np.maximum(growth, 0.0) - 1.0
+ returns = growth - 1.0
? report/test_pyfolio_inputs.py::test_an_account_that_is_ruined_loses_all_of_it_once

report-counts-a-clone-twice report/record.py
- for bit in list(bits)[seen:]:
+ for bit in list(bits):
? report/test_pyfolio_inputs.py::test_partial_fills_and_every_strategy_of_the_account_are_in

report-forgets-the-side report/events.py
- signed = matrix * np.outer(signs, signs)
+ signed = matrix * 1.0
? report/test_page.py::test_the_worst_moment_is_signed_by_side

report-takes-252-for-coins report/calendar.py
- calendars = CALENDARS if weekend else CALENDARS[1:]
+ calendars = CALENDARS[1:]
? report/test_pyfolio_inputs.py::test_how_many_days_a_year_has

paper-loses-its-stop evidence/counterfactual.py
- stop = math.nan if after or self.stop_rule is None else price - side * distance
+ stop = math.nan
? evidence/test_shadow.py::test_the_first_stop_is_at_the_distance_that_the_order_was_judged_with

a-wish-again-is-a-second-paper evidence/counterfactual.py
- units = order.units - known
+ units = order.units
? evidence/test_shadow.py::test_a_wish_that_is_refused_on_every_bar_is_one_paper

paper-exit-is-free evidence/counterfactual.py
- self._reduce(paper, units, bar, fill.price, "exit", cost * units)
+ self._reduce(paper, units, bar, fill.price, "exit", 0.0)
? evidence/test_shadow.py::test_a_loser_and_a_winner_that_a_rule_refused_are_to_the_cent

missed-and-saved-swapped evidence/shadow_book.py
- saved, missed = -pnl[pnl < 0].sum(), pnl[pnl > 0].sum()
+ missed, saved = -pnl[pnl < 0].sum(), pnl[pnl > 0].sum()
? evidence/test_shadow.py::test_a_loser_and_a_winner_that_a_rule_refused_are_to_the_cent

resting-cut-is-no-paper gate/exit_orders.py
- self.gate.desk.tell_cut(working.handle, working.opening, reason)
+ pass
? evidence/test_shadow_orders.py::test_a_resting_entry_that_a_guard_cancels_is_a_paper_of_the_guard

cut-at-the-fill-is-no-paper gate/simulated_execution.py
- self.gate.desk.tell_cut(order, wanted - size, reason, price)
+ pass
? evidence/test_shadow_orders.py::test_what_cash_cuts_at_the_fill_is_a_paper_if_it_is_paid_for

paper-never-expires evidence/paper_broker.py
- return self.exectype != bt.Order.Market and bar.number > self.wish.valid
+ return False
? evidence/test_shadow_orders.py::test_a_limit_on_paper_is_good_until_its_date

paper-has-no-end-of-cash evidence/counterfactual.py
- units = self._payable(wish, units, price, cost, bar)
+ pass
? evidence/test_shadow_orders.py::test_what_neither_account_could_pay_for_is_no_paper

paper-does-not-slip evidence/shadow_book.py
- account, venue = Account(tape.cash), PaperVenue(**tape.settings)
+ account, venue = Account(tape.cash), PaperVenue()
? evidence/test_shadow_orders.py::test_the_paper_stop_slips_as_the_stop_of_a_run_that_was_allowed

bounds-not-joint evidence/bootstrap.py
- cut = float(np.quantile(np.min(shares, axis=0), 1.0 - confidence, method="lower"))
+ cut = 1.0 - confidence
? evidence/test_bootstrap.py::test_without_an_edge_evidence_is_claimed_as_often_as_the_level_says

differences-not-paired evidence/bootstrap.py
- levelled = _draws(bare, picks, year, level=days)
+ levelled = _draws(bare, picks[::-1], year, level=days)
? evidence/test_bootstrap.py::test_leverage_alone_is_no_difference_at_equal_volatility

excess-kurtosis evidence/sharpe.py
- kurtosis - 1.0
+ kurtosis - 4.0
? evidence/test_bootstrap.py::test_a_fat_tail_makes_a_sharpe_ratio_less_certain

halt-beyond-the-limit-only evidence/halt_odds.py
- fall >= limit - 1e-12
+ fall > limit + 0.05
? evidence/test_bootstrap.py::test_a_sure_halt_and_an_impossible_one

finer-closes-of-old-bars-are-not-kept state/records.py
- older = {of_name[bisect_right(of_name, end) - 1] for end in before}
+ older = set()
? test_kept_closes.py::test_windows_of_several_time_frames_are_made_again

missed-bars-do-not-tighten monitors/trailing_stop.py
- instrument in instruments and not instrument.repeats and not stop.late
+ False
? test_live_killed.py::test_a_high_that_no_run_has_seen_has_moved_the_stop

bars-of-the-past-trail-a-stop monitors/trailing_stop.py
- stop.late = self.gate.freshness.behind(part.instrument)
+ stop.late = False
? test_live_exchange.py::test_bars_of_the_past_neither_trip_the_breaker_nor_trail_a_stop

equity-at-prices-of-the-past live/equity_monitor.py
- if self._is_of_the_past():
+ if False:
? test_live_exchange.py::test_bars_of_the_past_neither_trip_the_breaker_nor_trail_a_stop

one-sample-trips-behind-a-venue components/drawdown_breaker.py
- rule = replace(rule, confirmations=max(rule.confirmations, LIVE_CONFIRMATIONS))
+ pass
? test_hostile.py::test_one_sample_is_never_enough

frozen-value-is-believed live/equity_monitor.py
- if self._still >= _FROZEN_CHANGES and
+ if False and
? test_hostile.py::test_a_slow_fall_counts_from_where_the_value_began_to_stand_still

sale-that-is-not-taken-in-yet-is-a-doubt live/equity_monitor.py
- return not (left_out and self._is_held())
+ return not left_out
? test_hostile.py::test_a_sale_that_fills_while_it_is_sent_is_no_reason_to_doubt_the_value

value-that-stands-still-is-believed-to-know-more live/equity_monitor.py
- if not self._still:
+ if True:
? test_hostile.py::test_a_slow_fall_counts_from_where_the_value_began_to_stand_still

jump-is-believed-at-once live/equity_monitor.py
- return self._doubts >= self.confirmations and
+ return True and
? test_hostile.py::test_no_bad_value_flattens_an_account_that_is_well

order-in-doubt-is-forgotten live/order_sender.py
- if not _may_have_arrived(error):
+ if True:
? test_hostile.py::test_a_request_without_an_answer_is_looked_for_and_never_sent_twice

order-in-doubt-is-given-up-at-once live/order_sender.py
- _PATIENCE = 6
+ _PATIENCE = 0
? test_hostile.py::test_a_broker_that_cannot_be_asked_is_believed_when_it_notifies

lacking-capability-is-ignored live/order_sender.py
- if lacking:
+ if False:
? test_hostile.py::test_an_order_of_a_kind_that_the_broker_lacks_is_rejected_with_that_reason

emulated-stop-sleeps monitors/trailing_stop.py
- stop.hit |= seen and stop.side * (reached - stop.price) <= 0.0
+ pass
? test_hostile.py::test_a_broker_without_stop_orders_has_them_emulated_on_bars_and_says_so

refused-stop-is-forgotten monitors/trailing_stop.py
- if stop.refused > self.gate.live.stop_retries and not self.gate.simulated:
+ if False:
? test_hostile.py::test_a_position_without_a_stop_is_closed

silent-data-gets-new-risk gate/order_review.py
- silent = self.gate.freshness.silent(instrument) if limits else ""
+ silent = ""
? test_hostile.py::test_a_data_that_says_it_is_not_live_gets_no_new_risk_and_keeps_its_stop

clock-of-a-data-stands-still live/feed_monitor.py
- if age <= self.limit:
+ if True:
? test_hostile.py::test_a_data_without_a_bar_for_too_long_gets_no_new_risk

fill-booked-beyond-the-order gate/fills.py
- size = min(float(abs(bit.size)), ordered - booked)
+ size = float(abs(bit.size))
? test_hostile.py::test_a_fill_that_stands_twice_in_one_list_is_booked_once

fill-that-comes-with-its-cancel-is-lost gate/fills.py
- if done - booked > EPS:
+ if False:
? test_hostile.py::test_a_fill_that_comes_with_its_cancel_is_booked_and_guarded

lost-cancel-is-not-asked-again gate/broker.py
- if self.states and not self.simulated:
+ if False:
? test_hostile.py::test_an_entry_whose_cancel_got_lost_is_not_left_behind_by_a_halt

worker-swallows-the-signal-to-end live/shutdown.py
- os.getpid() == self._process and
+ True and
? test_states.py::test_a_worker_that_a_live_run_has_forked_ends_by_a_signal

run-of-another-takes-the-signal live/shutdown.py
- frame.f_locals["self"] is cerebro
+ True
? test_states.py::test_after_a_run_that_ended_by_an_error_another_run_ends_by_a_signal
"""


def _parsed(block):
    head, *lines = block.splitlines()
    marked = ([line[2:] for line in lines if line.startswith(mark)] for mark in "-+?")
    old, new, tests = marked
    return Mutant(*head.split(), "\n".join(old), "\n".join(new), tuple(tests))


MUTANTS = [_parsed(block) for block in FAULTS.strip().split("\n\n")]


def copy_repository(folder):
    """Copy what git knows, and what it would take in, to `folder`."""
    command = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT)]
    command += ["ls-files", "-co", "--exclude-standard", "-z"]
    listed = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    for name in listed.split("\0"):
        source, target = ROOT / name, folder / name
        if name and source.is_file():  # one that is deleted but not committed is listed too
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def run_tests(tests, fault=None):
    """Run tests in a new copy of the repository; return the outcome, seconds and what was said."""
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder).resolve()
        copy_repository(copy)
        if fault is not None:
            path, text = fault.applied(copy)
            path.write_text(text, encoding="utf-8")
        outcome, said = _pytest(copy, tests)
    return outcome, time.perf_counter() - begin, said


def _pytest(folder, tests):
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-p", "no:cacheprovider"]
    environment = os.environ | {"PYTHONPATH": str(folder)}
    environment.pop("PYTEST_ADDOPTS", None)
    try:
        done = subprocess.run(
            [*command, *(f"tests/{test}" for test in tests)],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired:
        return "hung", ""
    return OUTCOMES.get(done.returncode, "broken"), done.stdout + done.stderr


def judge(mutants, processes):
    """Run every fault and say what became of it; return whether all were killed."""
    tests = sorted({test for one in mutants for test in one.tests})
    with ThreadPoolExecutor(processes) as pool:
        bare = pool.submit(run_tests, tests)
        runs = [pool.submit(run_tests, one.tests, one) for one in mutants]
        for one, run in zip(mutants, runs, strict=True):
            outcome, seconds, said = run.result()
            print(f"{outcome:9} {seconds:6.1f} s  {one.file:24} {one.name}", flush=True)
            if outcome not in OUTCOMES.values():
                print(said)
        outcome, seconds, said = bare.result()
    killed = sum(run.result()[0] == KILLED for run in runs)
    print(f"{killed} of {len(mutants)} faults killed")
    if outcome != SURVIVED:
        print(f"without a fault the tests do not pass either ({outcome}): that proves nothing")
        print(said)
    return killed == len(mutants) and outcome == SURVIVED


def main(arguments=None):
    """Return the exit status: 0 if every fault that was asked for is killed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="name", help="only these faults")
    parser.add_argument("--list", action="store_true", help="name the faults and run nothing")
    parser.add_argument("--processes", type=int, default=2, help="how many run at once (2)")
    options = parser.parse_args(arguments)
    unknown = set(options.names) - {one.name for one in MUTANTS}
    if unknown:
        parser.error(f"no fault is called {', '.join(sorted(unknown))}; --list names them")
    chosen = [one for one in MUTANTS if not options.names or one.name in options.names]
    if options.list:
        for one in chosen:
            print(f"{one.file:24} {one.name}")
        return 0
    try:
        for one in chosen:
            one.applied()
    except ValueError as error:  # before anything runs
        parser.error(str(error))
    begin = time.perf_counter()
    passed = judge(chosen, options.processes)
    print(f"{time.perf_counter() - begin:.0f} s")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
