"""The judge of a challenge: against plain rules, closed forms, and days worked by hand."""

import math
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
from helpers.plain_challenge import outcome as plain_outcome

import bt_risk
from bt_risk import (
    AccountFloor,
    Consistency,
    DailyLossLimit,
    MinimumTradingDays,
    ParameterError,
    Policy,
    ProfitTarget,
)
from bt_risk.evidence import challenge_paths
from bt_risk.evidence.account_days import (
    BALANCE,
    BALANCE_HIGH,
    BARS,
    CLOSES,
    END,
    AccountDays,
    _columns,
    account_of_returns,
)
from bt_risk.evidence.challenge_judge import OUTCOMES, Judge
from bt_risk.evidence.challenge_paths import drawn_days, judged, path_columns, windows
from bt_risk.evidence.challenge_rules import own_rules, rules_of

NORMAL = NormalDist()
START = 100_000.0
UTC = "00:00 UTC"
OFF = Policy(
    risk_limit=None,
    notional_limit=None,
    exposure_limit=None,
    correlation_limit=None,
    drawdown_limit=None,
    trailing_stop=False,
    sizer=False,
)


def account(bars, opened=None, held=None):
    """Return days from bars of (balance, equity, worst, best) as multiples of the day's begin.

    `held` has, for each day, the number, open profit and units of what is open at its end.
    """
    days = [np.array(one, dtype=float).T for one in bars]
    growth = [one[1, -1] for one in days]
    held = np.array(held or [(0, 0.0, 0.0)] * len(days), dtype=float)
    return AccountDays(
        keys=np.arange(len(days), dtype=float),
        begin=START * np.r_[1.0, np.cumprod(growth)[:-1]],
        ratios=np.array([_columns(one) for one in days]),
        opened=np.array([True] * len(days) if opened is None else opened),
        open_profit=held[:, 1:2],
        trades=held[:, :1],
        sizes=held[:, 2:],
        bars=tuple(days),
    )


def verdict(days, rules, policy=None, places=None, start=START):
    """Return outcome and day of the path of the whole history, or of these places."""
    firm = rules_of("challenge", rules)
    own = None if policy is None else own_rules("challenge", policy, firm)
    path = np.arange(len(days))[None] if places is None else np.array([places])
    found = judged(Judge(firm, days, start, own), path)
    return OUTCOMES[found.outcomes[0]], int(found.days[0]), found.equity[0].round(2).tolist()


def bar(end, low=None, high=None, balance=None):
    """Return a day of one bar, as multiples of its begin; flat at its end where no balance is."""
    return [(end if balance is None else balance, end, low or min(end, 1.0), high or max(end, 1.0))]


# -- against plain rules ---------------------------------------------------------------------------


def random_account(rng, count, bars=3):
    """Return days of several bars, with open positions that last over days."""
    days, held, number, profit, equity, size = [], [], 0, 0.0, START, 0.0
    opened = []
    for _ in range(count):
        begin, rows, opens = equity, [], False
        for _ in range(bars):
            move = equity * rng.normal(0.0005, 0.012) if size else 0.0
            low = equity + min(move, 0.0) - (equity * abs(rng.normal(0, 0.004)) if size else 0.0)
            high = equity + max(move, 0.0) + (equity * abs(rng.normal(0, 0.004)) if size else 0.0)
            equity, profit = equity + move, profit + move
            if size and rng.random() < 0.2:
                size = profit = 0.0
            elif not size and rng.random() < 0.5:
                number, size, profit, opens = number + 1, 1.0, 0.0, True
            rows.append(((equity - profit) / begin, equity / begin, low / begin, high / begin))
        days.append(rows)
        opened.append(opens)
        held.append((number if size else 0, profit, size))
    return account(days, opened, held)


def random_rules(rng):
    """Return rules as a list of guards, and as the dict that the oracle reads."""
    pick = rng.choice
    mode = str(pick(["static", "trailing_closed", "trailing_eod", "trailing_intraday"]))
    amount = pick([None, 0.06, 0.1, 4_000.0], p=[0.1, 0.3, 0.4, 0.2])
    daily = pick([None, 0.02, 0.03, 2_500.0])
    if amount is None:
        mode = "static"
    if amount is None and daily is None:
        daily = 0.03
    plain = {
        "amount": amount,
        "mode": mode,
        "lock": None if mode == "static" else pick([None, 0.0, 1_000.0]),
        "daily": daily,
        "daily base": str(pick(["initial", "reference"])) if daily and daily < 1 else "initial",
        "reference": str(pick(["balance", "equity", "higher"])),
        "trigger": str(pick(["close", "intrabar"])),
        "target": pick([None, 0.05, 8_000.0]),
        "of": str(pick(["balance", "equity"])),
        "stops": bool(pick([True, False])),
        "days": int(pick([0, 4, 9])),
        "share": pick([None, 0.4]),
    }
    rules = [
        AccountFloor(
            amount,
            mode,
            lock=plain["lock"],
            daily=daily,
            daily_base=plain["daily base"],
            reference=plain["reference"],
            trigger=plain["trigger"],
            reset=UTC,
        )
    ]
    if plain["target"] is not None:
        action = "stop" if plain["stops"] else "report"
        rules.append(ProfitTarget(plain["target"], of=plain["of"], action=action))
    if plain["days"]:
        rules.append(MinimumTradingDays(plain["days"], reset=UTC))
    if plain["share"] is not None:
        rules.append(Consistency(plain["share"], reset=UTC))
    return rules, plain


@pytest.mark.parametrize(
    ("kinds", "paths"), [(40, 15), pytest.param(200, 50, marks=pytest.mark.full)]
)
def test_every_path_ends_as_under_plain_rules(kinds, paths):
    """600 paths by default, 10,000 under the marker `full`."""
    rng, seen = np.random.default_rng(18), set()
    history = random_account(rng, 300)
    for kind in range(kinds):
        rules, plain = random_rules(rng)
        days = drawn_days(len(history), 40, 6.0, paths // 5, 5, kind)
        found = judged(Judge(rules_of("challenge", rules), history, START), days)
        columns = path_columns(history, days, START)
        for path, places in enumerate(days):
            expected = plain_outcome(START, columns[path].tolist(), history.opened[places], plain)
            ended = OUTCOMES[found.outcomes[path]], int(found.days[path])
            assert ended == expected, (kind, path, plain)
            seen.add(expected[0])
    assert seen == {"passed", "floor", "daily loss", "incomplete", "open"}


@pytest.mark.parametrize("kind", range(12))
def test_paths_on_which_nothing_happens_end_as_if_they_had_been_judged(kind, monkeypatch):
    rng = np.random.default_rng(100 + kind)
    history = random_account(rng, 200)
    rules, _ = random_rules(rng)
    rules = [*rules, DailyLossLimit(0.04, reset=UTC, base=str(rng.choice(["equity", "higher"])))]
    policy = replace(OFF, drawdown_limit=float(rng.choice([0.05, 0.2])))
    firm = rules_of("challenge", rules)
    judge = Judge(firm, history, START, own_rules("challenge", policy, firm))
    days = drawn_days(len(history), 12, 6.0, 10, 8, kind)
    quick = judged(judge, days)
    every = np.ones(len(days), dtype=bool)
    monkeypatch.setattr(challenge_paths, "eventful", lambda judge, columns: every[: len(columns)])
    slow = judged(judge, days)
    assert (quick.outcomes == slow.outcomes).all()
    assert (quick.days == slow.days).all()
    assert quick.equity == pytest.approx(slow.equity)


# -- closed forms ----------------------------------------------------------------------------------

SIGMA, STEPS = 0.03, 32  # a day, and steps of it
SHIFT = math.exp(0.5826 * SIGMA / math.sqrt(STEPS))  # Broadie, Glasserman & Kou (1997)


def brownian(drift, paths, days, seed):
    """Return an account of independent days of a geometric Brownian motion, and one path each."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(drift / STEPS, SIGMA / math.sqrt(STEPS), (paths * days, STEPS))
    history = account_of_returns(list(np.expm1(steps)), START)
    return history, np.arange(paths * days).reshape(paths, days)


def shares(history, days, rules):
    return judged(Judge(rules_of("challenge", rules), history, START), days).shares()


@pytest.mark.parametrize("drift", [0.0, 0.002, -0.002])
@pytest.mark.parametrize("count", [400, pytest.param(2_500, marks=pytest.mark.full)])
def test_target_before_floor_is_the_closed_form_of_two_barriers(drift, count):
    """P(a before -b) = (1 - exp(2mb/s^2)) / (exp(-2ma/s^2) - exp(2mb/s^2)) of a drifting motion.

    The motion is seen at steps: barriers lie farther away by 0.5826 standard deviations of one.
    """
    history, days = brownian(drift, count, 40, 1)
    found = shares(history, days, [AccountFloor(0.10), ProfitTarget(0.10, of="equity")])
    up, down = math.log(1.10 * SHIFT), -math.log(0.90 / SHIFT)
    odds = down / (up + down)
    if drift:
        power = 2.0 * drift / SIGMA**2
        odds = (1 - math.exp(power * down)) / (math.exp(-power * up) - math.exp(power * down))
    ended = found["passed"] + found["floor"]
    error = math.sqrt(odds * (1 - odds) / count)
    assert ended > 0.95
    assert found["passed"] / ended == pytest.approx(odds, abs=3 * error)


@pytest.mark.parametrize("drift", [0.0, 0.001, -0.002])
@pytest.mark.parametrize("count", [400, pytest.param(2_500, marks=pytest.mark.full)])
def test_a_floor_within_some_days_is_the_closed_form_of_one_barrier(drift, count):
    """P(min < -b within T) = N((-b - mT)/(s sqrt T)) + exp(-2mb/s^2) N((-b + mT)/(s sqrt T))."""
    history, days = brownian(drift, count, 20, 2)
    found = shares(history, days, [AccountFloor(0.12)])
    down, scale = -math.log(0.88 / SHIFT), SIGMA * math.sqrt(20)
    odds = NORMAL.cdf((-down - 20 * drift) / scale)
    odds += math.exp(-2 * drift * down / SIGMA**2) * NORMAL.cdf((-down + 20 * drift) / scale)
    error = math.sqrt(odds * (1 - odds) / count)
    assert found["floor"] == pytest.approx(odds, abs=3 * error)
    assert found["passed"] == pytest.approx(1 - found["floor"])


# -- days worked by hand ---------------------------------------------------------------------------


def test_a_low_inside_the_day_fails_only_where_bars_are_judged_at_their_worst():
    days = account([bar(1.02), bar(1.01, low=0.87), bar(1.08)])
    target = ProfitTarget(0.10)
    assert verdict(days, [AccountFloor(0.10), target])[:2] == ("passed", 3)
    assert verdict(days, [AccountFloor(0.10, trigger="intrabar"), target])[:2] == ("floor", 2)


def test_the_floor_of_a_day_counts_before_its_profit():
    days = account([[(1.11, 1.11, 0.9, 1.11)]])
    assert verdict(days, [AccountFloor(0.10, trigger="intrabar"), ProfitTarget(0.10)])[0] == "floor"


def test_a_trailing_floor_is_judged_in_the_order_of_the_day():
    """Down 3 % and then up 4 % touches no floor 5 % behind the highest equity; the reverse does."""
    rule = [AccountFloor(0.05, "trailing_intraday", trigger="intrabar")]
    down, up, back = (0.97, 0.97, 0.97, 1.0), (1.04, 1.04, 1.0, 1.04), (1.0, 1.0, 0.97, 1.0)
    assert verdict(account([[down, back, up]]), rule)[0] == "passed"
    assert verdict(account([[up, down, back]]), rule)[0] == "floor"


def test_open_profit_of_before_the_challenge_is_none_of_its_balance():
    """Day 2 ends with 20,000 open, of which 10,000 were open at its begin."""
    held = [(1, 10_000.0, 5.0), (1, 20_000.0, 5.0), (0, 0.0, 0.0)]
    days = account(
        [bar(1.1, balance=1.0), bar(12 / 11, balance=10 / 11), bar(1.0, balance=1.0)], held=held
    )
    whole = path_columns(days, np.array([[0, 1, 2]]), START)[0]
    assert whole[:, END].round().tolist() == [110_000, 120_000, 120_000]
    assert whole[:, BALANCE].round().tolist() == [100_000, 100_000, 120_000]
    # Begun on day 2: 9,091 of profit are open, and the balance is what it began with.
    late = path_columns(days, np.array([[1, 2]]), START)[0]
    assert late[:, END].round().tolist() == [109_091, 109_091]
    assert late[:, BALANCE].round().tolist() == [100_000, 109_091]
    # After a jump: day 3 is flat, and day 2 follows it.
    jump = path_columns(days, np.array([[0, 2, 1]]), START)[0]
    assert jump[:, BALANCE].round().tolist() == [100_000, 110_000, 110_000]


def test_half_of_what_was_open_is_sold_within_a_block():
    held = [(1, 10_000.0, 4.0), (1, 5_000.0, 2.0)]
    days = account([bar(1.1, balance=1.0), bar(1.0, balance=105 / 110)], held=held)
    late = path_columns(days, np.array([[1]]), START)[0]
    assert late[0, BALANCE] == pytest.approx(START)  # sold at the price it was taken over at


def test_a_floor_that_pauses_ends_the_day_where_it_was_touched():
    day = [(0.99, 0.99, 0.99, 1.0), (0.96, 0.96, 0.95, 0.99), (1.04, 1.04, 0.94, 1.05)]
    days = account([day, bar(1.0), bar(1.05)])
    rule = AccountFloor(0.10, daily=0.03, on_daily="pause", trigger="intrabar", reset=UTC)
    # Closed at 0.96; the days after it begin from there.
    found = verdict(days, [rule, ProfitTarget(0.02)])
    assert found == ("open", 3, [START, 96_000, 96_000, 100_800])
    assert verdict(days, [replace(rule, on_daily="halt")])[:2] == ("daily loss", 1)


def test_a_paused_account_is_still_below_the_other_floor():
    day = [(0.96, 0.96, 0.95, 1.0)]
    days = account([day, day, day])
    rule = AccountFloor(0.10, daily=0.03, on_daily="pause", trigger="intrabar", reset=UTC)
    assert verdict(days, [rule])[:2] == ("floor", 3)


@pytest.mark.parametrize(
    ("guard", "outcome"),
    [
        (DailyLossLimit(0.03), "passed"),
        (DailyLossLimit(0.03, trigger="intrabar"), "daily loss"),
        (DailyLossLimit(0.02), "daily loss"),
        (DailyLossLimit(2_000.0, unit="currency"), "daily loss"),
        (DailyLossLimit(2_100.0, unit="currency"), "passed"),
    ],
)
def test_a_daily_loss_fails(guard, outcome):
    assert verdict(account([bar(1.0), bar(0.98, low=0.965)]), [guard])[0] == outcome


def test_a_daily_loss_may_be_measured_from_the_balance():
    """5,000 are open at the begin of day 2, and all of it is lost: nothing of the balance is."""
    days = account(
        [bar(1.05, balance=1.0), bar(100 / 105)], held=[(1, 5_000.0, 1.0), (0, 0.0, 0.0)]
    )
    assert verdict(days, [DailyLossLimit(0.03)])[0] == "daily loss"
    assert verdict(days, [DailyLossLimit(0.03, base="balance")])[0] == "passed"


def test_a_target_that_stops_before_the_days_are_traded_is_incomplete():
    days = account([bar(1.12), bar(1.0), bar(1.0)])
    minimum = MinimumTradingDays(3, reset=UTC)
    assert verdict(days, [ProfitTarget(0.1), minimum])[:2] == ("passed", 3)
    assert verdict(days, [ProfitTarget(0.1, action="stop"), minimum])[:2] == ("incomplete", 1)
    rare = replace(days, opened=np.array([True, False, False]))
    assert verdict(rare, [ProfitTarget(0.1), minimum])[:2] == ("incomplete", 3)


def test_one_lucky_day_passes_once_the_others_have_earned_as_much():
    days = account([bar(1.10), bar(1.05), bar(1.06)])
    rules = [ProfitTarget(0.1), Consistency(0.5, reset=UTC)]
    assert verdict(days, rules)[:2] == ("passed", 3)  # 10,000 of 22,430


def test_the_own_breaker_ends_the_run_before_the_floor_does():
    day = [(0.94, 0.94, 0.94, 1.0), (0.89, 0.89, 0.89, 0.94)]
    days = account([day, bar(1.3)])
    rules = [AccountFloor(0.10), ProfitTarget(0.10)]
    assert verdict(days, rules)[0] == "floor"
    breaker = replace(OFF, drawdown_limit=0.05)
    assert verdict(days, rules, breaker)[:2] == ("halted", 1)
    assert verdict(days, rules, breaker)[2] == [START, 94_000, 94_000]


def test_a_breaker_that_pauses_rests_for_days_and_goes_on():
    days = account([bar(0.94), bar(1.2), bar(1.2), bar(1.2)])
    policy = replace(OFF, drawdown_limit=0.05, action="pause", cooldown_bars=2)
    found = verdict(days, [ProfitTarget(0.10)], policy)
    assert found == ("passed", 4, [START, 94_000, 94_000, 94_000, 112_800])


def test_an_own_floor_is_judged_on_the_path_and_not_in_the_run():
    policy = replace(OFF, guards=(AccountFloor(0.03), bt_risk.CooldownGuard(3)))
    own = own_rules("challenge", policy, rules_of("challenge", [ProfitTarget(0.1)]))
    assert own.run.guards == (bt_risk.CooldownGuard(3),)
    days = account([bar(0.96), bar(1.2)])
    assert verdict(days, [ProfitTarget(0.1)], policy)[:2] == ("halted", 1)


def test_risk_that_a_floor_scales_down_moves_the_account_less():
    """Half of the room is left after day 1: half of the move of day 2, and so on."""
    policy = replace(OFF, guards=(AccountFloor(0.10, taper_to_floor=1.0),))
    days = account([bar(0.95), bar(0.96)])
    assert verdict(days, [ProfitTarget(0.4, of="equity")], policy)[2] == [START, 95_000, 93_100]


def test_an_own_target_is_enough_of_it():
    policy = replace(OFF, guards=(ProfitTarget(0.05, action="stop"),))
    days = account([bar(1.06), bar(1.2)])
    assert verdict(days, [ProfitTarget(0.1)], policy)[:2] == ("halted", 1)
    assert verdict(days, [ProfitTarget(0.05)], policy)[:2] == ("passed", 1)


def test_amounts_in_currency_are_those_of_the_account():
    days = account([bar(0.97), bar(1.1)])
    assert verdict(days, [AccountFloor(2_000)], start=50_000.0)[0] == "passed"
    assert verdict(days, [AccountFloor(2_000)], start=100_000.0)[0] == "floor"


def test_an_account_below_its_floor_at_the_begin_has_failed():
    days = account([bar(1.0), bar(1.0)])
    rule = AccountFloor(0.10, initial_balance=120_000.0)
    assert verdict(days, [rule])[:2] == ("floor", 1)


def test_leverage_scales_every_move_of_a_day():
    days = account([[(1.01, 1.02, 0.97, 1.05)]], held=[(1, 1_000.0, 1.0)]).scaled(2.0)
    assert days.ratios[0, [END, BALANCE, BARS.low, BARS.high]].tolist() == pytest.approx(
        [1.04, 1.02, 0.94, 1.10]
    )
    assert days.open_profit[0, 0] == 2_000.0
    assert days.bars[0][:, 0].tolist() == pytest.approx([1.02, 1.04, 0.94, 1.10])


def test_a_day_is_cut_where_it_is_highest():
    bars = [(1, 0.99, 0.97, 1.01), (1, 1.02, 0.98, 1.04), (1.03, 1.01, 0.96, 1.03)]
    (row,) = account([bars]).ratios
    closes = [row[place] for place in vars(CLOSES).values()]
    assert closes == pytest.approx([0.99, 1.02, 0.99, 1.0, 1.01])
    worst = [row[place] for place in vars(BARS).values()]
    assert worst == pytest.approx([0.96, 1.04, 0.97, 1.01, 0.96])
    assert row[BALANCE_HIGH] == 1.03


def test_every_window_of_a_history_is_one_challenge():
    assert windows(5, 3).tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 4]]
    assert windows(2, 3).shape == (0, 3)


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ([], "at least one that is switched on"),
        ([AccountFloor()], "at least one that is switched on"),
        ([bt_risk.CooldownGuard(3)], "a list of AccountFloor"),
        (AccountFloor(0.1), "a list of AccountFloor"),
        ([ProfitTarget(0.1), ProfitTarget(0.2)], "one ProfitTarget at most"),
        ([DailyLossLimit(0.03), MinimumTradingDays(4)], "whose days begin at one time"),
        ([DailyLossLimit(0.03, scope="data")], "scope must be 'all'"),
        ([AccountFloor(0.1, confirmations=2)], "confirmations must be 1"),
        ([AccountFloor(0.1, taper_to_floor=0.5)], "taper_to_floor must be None"),
        ([Consistency(0.5, target=0.1, action="pause")], "action must be 'report'"),
        ("no.toml", "an existing file"),
    ],
)
def test_rules_that_no_path_can_be_judged_by_are_refused(rules, words):
    with pytest.raises(ParameterError, match=words):
        rules_of("challenge", rules)


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (replace(OFF, drawdown_limit=0.1, flatten=False), "flatten must be True"),
        (replace(OFF, drawdown_limit=0.1, confirmations=2), "confirmations must be 1"),
        (replace(OFF, guards=(AccountFloor(0.1, daily=0.05),)), "reset must be 'session'"),
    ],
)
def test_a_policy_that_no_path_can_be_judged_by_is_refused(policy, words):
    with pytest.raises(ParameterError, match=words):
        own_rules("challenge", policy, rules_of("challenge", [ProfitTarget(0.1)]))


def test_a_file_has_a_table_for_each_rule(tmp_path):
    file = tmp_path / "ftmo.toml"
    file.write_text(
        '[[guards]]\nguard = "AccountFloor"\namount = 0.1\ndaily = 0.05\n\n'
        '[[guards]]\nguard = "ProfitTarget"\namount = 0.1\n'
    )
    found = rules_of("challenge", file)
    assert found.floors == (AccountFloor(0.1, daily=0.05),)
    assert found.target == ProfitTarget(0.1)
    assert found.reset == "00:00 Europe/Prague"
    file.write_text("risk_limit = 0.01\n")
    with pytest.raises(ParameterError, match=r"a key must be one of guards; got 'risk_limit'"):
        rules_of("challenge", file)
