"""Guards of a trading day: by hand-made bars, for the account, one data feed and one side."""

import math

import backtrader as bt
import pytest
from helpers.frames import PandasData
from helpers.recording import ends, play
from helpers.scenarios import MODES, Plan, bars, cerebro, flat, random_walk, tape_of, taped

import bt_risk
from bt_risk import DailyLossLimit, DailyProfitTarget, ParameterError, ProfitLock

# Hours: 24 bars a day. 300 units of 100 win or lose 0.3 % of 100,000 with each point.
HELD = {4: lambda s: s.buy(size=300)}


def hours(rows, start="2020-01-01"):
    return bars(*rows, start=start, freq="h")


def guarded(*guards, rows=(), frames=None, **options):
    engine = cerebro(*(frames or [hours(rows)]))
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


# -- the loss of a day that closes what is held ---------------------------------------------------

FALL = [*flat(6), (100, 100, 89, 90), *flat(17, price=90.0), *flat(24, price=90.0)]


@pytest.mark.parametrize("mode", MODES)
def test_a_day_that_is_lost_closes_what_is_held_at_the_next_open(mode):
    plan = [(4, "buy", {"size": 300}), (10, "buy", {"size": 1}), (26, "buy", {"size": 1})]
    tape = tape_of(taped(guarded(DailyLossLimit(0.03, flatten=True), rows=FALL), plan, mode))
    assert [fill[:3] for fill in tape["fills"]] == [(5, "D0", 300), (8, "D0", -300), (27, "D0", 1)]
    assert [bar for bar, _ in tape["reasons"]] == [11]


def test_the_journal_says_that_a_day_is_over_and_that_all_is_closed():
    strategy = play(guarded(DailyLossLimit(0.03, flatten=True), rows=FALL), HELD)
    rows = journal(strategy, "over", "flat")
    reason = "DailyLossLimit: 0.0300 of equity lost in a day >= daily_loss_limit 0.0300"
    assert rows.reason.tolist() == [reason, f"flat: {reason}"]
    assert rows.measured.tolist() == pytest.approx([0.03, 0.03])
    assert rows.time.dt.hour.tolist() == [6, 7]


def test_what_is_closed_leaves_no_orders_of_its_own_behind():
    exits = {
        5: lambda s: (
            s.sell(size=300, exectype=bt.Order.Stop, price=80.0),
            s.sell(size=300, exectype=bt.Order.Limit, price=120.0),
        ),
        6: buy(5, exectype=bt.Order.Limit, price=50.0),
    }
    rows = [*FALL[:10], (90, 130, 40, 90), *FALL[11:]]
    strategy = play(guarded(DailyLossLimit(0.03, flatten=True), rows=rows), HELD | exits)
    assert strategy.held[-1] == (0,)
    assert min(held[0] for held in strategy.held) == 0
    assert sorted(statuses(strategy)) == ["Canceled"] * 3 + ["Completed"] * 2


def test_a_short_is_closed_too_and_prices_may_be_below_zero():
    rows = [*flat(6, price=-30.0), (-30, -19, -30, -20), *flat(17, price=-20.0)]
    engine = guarded(
        DailyLossLimit(0.03, flatten=True),
        rows=rows,
        instruments={"D0": {"negative_prices": True}},
    )
    engine.broker.setcommission(margin=100.0, mult=10.0)
    strategy = play(engine, {4: lambda s: s.sell(size=30)})
    assert strategy.held[6:9] == [(-30,), (0,), (0,)]


def test_only_the_data_feed_or_the_side_that_lost_is_closed():
    calm = hours(flat(48))
    actions = {
        4: lambda s: (s.buy(size=300), s.buy(data=s.data1, size=5)),
        30: lambda s: s.close(data=s.data1),
    }
    for options, left in (({"scope": "data"}, (0, 5)), ({"scope": "all"}, (0, 0))):
        guard = DailyLossLimit(0.03, flatten=True, **options)
        strategy = play(guarded(guard, frames=[hours(FALL), calm]), actions)
        assert strategy.held[10] == left
    guard = DailyLossLimit(0.03, flatten=True, side_aware=True)
    actions[4] = lambda s: (s.buy(size=300), s.sell(data=s.data1, size=5))
    strategy = play(guarded(guard, frames=[hours(FALL), calm]), actions)
    assert strategy.held[10] == (0, -5)


def test_two_strategies_are_closed_each():
    engine = guarded(DailyLossLimit(0.03, flatten=True), rows=FALL)
    engine.addstrategy(bt.Strategy)

    class Holder(bt.Strategy):
        params = dict(size=200)

        def next(self):
            if len(self) == 4:
                self.buy(size=self.p.size)

    engine.addstrategy(Holder, size=400)
    engine.addstrategy(Holder, size=-100)
    ran = engine.run()
    assert ran[0].broker.getposition(ran[0].data).size == 0
    assert [part.size for part in ran[0].broker.book.parts.values()] == [0.0, 0.0]


def test_observe_mode_writes_and_closes_nothing():
    nothing = dict.fromkeys(
        ("risk_limit", "notional_limit", "exposure_limit", "correlation_limit", "drawdown_limit")
    )
    engine = cerebro(hours(FALL))
    guards = [DailyLossLimit(0.03, flatten=True)]
    policy = bt_risk.Policy(**nothing, trailing_stop=False, sizer=False, guards=guards)
    bt_risk.protect(engine, policy, mode="observe")
    strategy = play(engine, HELD)
    assert strategy.held[-1] == (300,)
    assert journal(strategy, "over", "flat").action.tolist() == ["over"]


# -- inside the bar -------------------------------------------------------------------------------

DIP = [*flat(6), (100, 101, 89, 100), *flat(17), *flat(24)]


@pytest.mark.parametrize("mode", MODES)
def test_a_low_inside_a_bar_ends_the_day(mode):
    guard = DailyLossLimit(0.03, trigger="intrabar")
    plan = [(4, "buy", {"size": 300}), (10, "buy", {"size": 1}), (25, "buy", {"size": 1})]
    tape = tape_of(taped(guarded(guard, rows=DIP), plan, mode))
    reason = "DailyLossLimit: 0.0330 of equity lost in a day, inside a bar >= "
    assert tape["reasons"] == [
        (11, f"{reason}daily_loss_limit 0.0300; at most 0 would pass"),
    ]
    assert [fill[0] for fill in tape["fills"]] == [5, 26]


def test_the_close_is_judged_by_default():
    assert statuses(play(guarded(DailyLossLimit(0.03), rows=DIP), HELD | {10: buy()})) == [
        "Completed",
        "Completed",
    ]


def test_a_short_is_judged_at_the_high_and_a_hedge_at_both():
    guard = DailyLossLimit(0.03, trigger="intrabar")
    rows = [*flat(6), (100, 111, 99, 100), *flat(17)]

    def short(strategy):
        strategy.sell(size=300)

    strategy = play(guarded(guard, rows=rows), {4: short, 10: lambda s: s.sell(size=1)})
    assert len(reasons(strategy)) == 1
    both = {4: lambda s: (s.buy(size=200), s.sell(data=s.data1, size=200)), 10: buy()}
    frames = [hours([*flat(6), (100, 101, 92, 100), *flat(17)]), hours(rows)]
    strategy = play(guarded(guard, frames=frames), both)
    # 200 x 8 and 200 x 11 at once.
    assert reasons(strategy)[0].startswith("DailyLossLimit: 0.0380 of equity")


def test_a_stop_that_filled_first_counts_at_its_price():
    """Sold at 97 for a loss of 0.9 %: the low of 89 is no loss of this account."""
    guard = DailyLossLimit(0.03, trigger="intrabar")
    stop = {5: lambda s: s.sell(size=300, exectype=bt.Order.Stop, price=97.0), 10: buy()}
    assert reasons(play(guarded(guard, rows=DIP), HELD | stop)) == []
    # A gap beyond it fills at the open, 90.
    rows = [*flat(6), (90, 101, 89, 100), *flat(17)]
    loss = reasons(play(guarded(guard, rows=rows), HELD | stop))
    assert loss[0].startswith("DailyLossLimit: 0.0300 of equity")


def test_a_low_before_a_limit_took_the_profit_counts():
    """The bar falls to 89 and ends above the limit of 105: which came first it does not say."""
    guard = DailyLossLimit(0.03, trigger="intrabar")
    take = {5: lambda s: s.sell(size=300, exectype=bt.Order.Limit, price=105.0), 10: buy()}
    rows = [*flat(6), (100, 107, 89, 106), *flat(17, price=106.0)]
    # 300 x 16 below the fill, which brought 1,500.
    loss = reasons(play(guarded(guard, rows=rows), HELD | take))
    assert loss[0].startswith("DailyLossLimit: 0.0330 of equity")
    # It filled at the open, before all else.
    rows = [*flat(6), (106, 107, 89, 106), *flat(17, price=106.0)]
    assert reasons(play(guarded(guard, rows=rows), HELD | take)) == []
    # The stop of the pair would have filled first, at 97.
    pair = {5: _pair, 10: buy()}
    rows = [*flat(6), (100, 107, 89, 106), *flat(17, price=106.0)]
    assert reasons(play(guarded(guard, rows=rows), HELD | pair)) == []


def _pair(strategy):
    take = strategy.sell(size=300, exectype=bt.Order.Limit, price=105.0)
    strategy.sell(size=300, exectype=bt.Order.Stop, price=97.0, oco=take)


def test_the_bar_of_the_entry_counts_whole():
    strategy = play(
        guarded(DailyLossLimit(0.03, trigger="intrabar"), rows=DIP), {6: buy(300), 10: buy()}
    )
    assert len(reasons(strategy)) == 1


def test_what_is_not_held_loses_nothing_inside_a_bar():
    guard = DailyLossLimit(0.03, trigger="intrabar")
    assert reasons(play(guarded(guard, rows=DIP), {7: buy(300), 10: buy()})) == []


@pytest.mark.parametrize("bar", [(100, 89, 101, 100), (100, 101, math.nan, 100)])
def test_a_bar_that_cannot_be_true_ends_no_day(bar):
    rows = [*flat(30), bar, *flat(17)]
    guard = DailyLossLimit(0.001, trigger="intrabar", flatten=True)
    strategy = play(guarded(guard, rows=rows), {26: buy(20)})
    assert strategy.held[-1] == (20,)
    assert len(journal(strategy, "over")) == 0


def test_a_loss_inside_the_bar_closes_what_is_held_with_its_overshoot_in_the_journal():
    guard = DailyLossLimit(0.03, trigger="intrabar", flatten=True)
    strategy = play(guarded(guard, rows=DIP), HELD)
    over = journal(strategy, "over").iloc[0]
    assert (over.time.hour, over.measured, over.limit) == (6, pytest.approx(0.033), 0.03)
    assert strategy.held[6:8] == [(300,), (0,)]


# -- what the loss is measured from ---------------------------------------------------------------

# Up to 110 on the first day: 3,000 of open profit. The second day falls to 107 and 99.
RISE = [*flat(6), *flat(18, price=110.0), *flat(6, price=107.0), *flat(18, price=99.0)]


@pytest.mark.parametrize(
    ("base", "bar", "loss"),
    [
        # Equity was 103,000 at midnight: 300 x 11 / 103,000.
        ("equity", 31, 3300 / 103_000),
        ("higher", 31, 3300 / 103_000),
        # The balance was 100,000: at 99 the account is 300 below it.
        ("balance", 31, None),
    ],
)
def test_open_profit_is_in_equity_and_not_in_the_balance(base, bar, loss):
    guard = DailyLossLimit(0.03, base=base)
    strategy = play(guarded(guard, rows=RISE), HELD | {bar: buy()})
    assert len(reasons(strategy)) == (loss is not None)
    if loss is not None:
        assert f"{loss:.4f} of " in reasons(strategy)[0]


def test_an_open_loss_at_midnight_is_one_of_the_day_from_the_balance():
    """Down 2 % over night, measured from the balance: one more per cent ends the day."""
    rows = [*flat(6), *flat(18, price=94.0), *flat(6, price=91.0), *flat(18, price=90.0)]
    for base, bar, status in (
        ("equity", 32, "Completed"),
        ("balance", 29, "Completed"),
        ("balance", 32, "Rejected"),
        ("higher", 32, "Rejected"),
    ):
        guard = DailyLossLimit(0.03, base=base)
        strategy = play(guarded(guard, rows=rows), HELD | {bar: buy()})
        assert statuses(strategy)[-1] == status, base


def test_a_closed_profit_is_in_the_balance():
    guard = DailyLossLimit(0.03, base="balance")
    closed = {10: lambda s: s.close(), 22: buy(300), 31: buy()}
    strategy = play(guarded(guard, rows=RISE), HELD | closed)
    assert reasons(strategy) == [
        "DailyLossLimit: 0.0320 of the balance lost in a day >= daily_loss_limit 0.0300"
    ]


def test_an_amount_of_currency():
    for limit, status in ((3000, "Rejected"), (3001, "Completed")):
        guard = DailyLossLimit(limit, unit="currency")
        strategy = play(guarded(guard, rows=FALL), HELD | {10: buy()})
        assert statuses(strategy)[-1] == status
    guard = DailyLossLimit(3000, unit="currency")
    strategy = play(guarded(guard, rows=FALL), HELD | {10: buy()})
    assert reasons(strategy) == [
        "DailyLossLimit: 3000.00 lost in a day >= daily_loss_limit 3000.00"
    ]


def test_an_amount_is_lost_whatever_is_paid_in_on_that_day():
    """300,000 come before the fall: 3,000 are lost all the same, of 400,000."""
    paid = {5: lambda s: s.broker.add_cash(300_000.0), 10: buy()}
    strategy = play(guarded(DailyLossLimit(3000, unit="currency"), rows=FALL), HELD | paid)
    assert len(reasons(strategy)) == 1
    drawn = {5: lambda s: s.broker.add_cash(-40_000.0), 10: buy()}
    strategy = play(guarded(DailyLossLimit(3001, unit="currency"), rows=FALL), HELD | drawn)
    assert reasons(strategy) == []


@pytest.mark.parametrize(("limit", "refused"), [(3_000, 1), (3_100, 0)])
def test_an_amount_is_lost_before_and_after_a_deposit(limit, refused):
    """1,800 are lost before it and 1,230 after it: 3,030 on the same day."""
    rows = [*flat(6), (100, 100, 94, 94), *flat(4, price=94.0), *flat(8, price=89.9)]
    paid = {9: lambda s: s.broker.add_cash(100_000.0), 15: buy()}
    guard = DailyLossLimit(limit, unit="currency")
    assert len(reasons(play(guarded(guard, rows=rows), HELD | paid))) == refused


def test_the_day_begins_at_a_time_of_a_zone():
    """17:00 in New York is 22:00 UTC in winter: bar 23 is the first of its day."""
    guard = DailyLossLimit(0.03, reset="17:00 America/New_York")
    strategy = play(guarded(guard, rows=FALL), HELD | {22: buy(), 23: buy()})
    assert statuses(strategy) == ["Completed", "Rejected", "Completed"]


def test_a_zone_counts_for_every_data_feed_whatever_its_own():
    engine = bt.Cerebro(stdstats=False)
    frame = hours(FALL).tz_localize("UTC")
    engine.adddata(PandasData(dataname=frame, tz="Asia/Tokyo"), name="D0")
    engine.broker.setcash(100_000.0)
    guard = DailyLossLimit(0.03, reset="00:00 UTC")
    engine.setbroker(bt_risk.RiskBroker(engine.broker, guards=[guard]))
    strategy = play(engine, HELD | {16: buy(), 24: buy(), 25: buy()})
    assert statuses(strategy) == ["Completed", "Rejected", "Rejected", "Completed"]


# -- targets and locks ----------------------------------------------------------------------------

UP = [*flat(6), (100, 111, 100, 110), *flat(17, price=105.0), *flat(24, price=105.0)]


def test_a_target_ends_the_day_and_the_next_one_trades():
    strategy = play(guarded(DailyProfitTarget(0.03), rows=UP), HELD | {10: buy(), 25: buy()})
    assert statuses(strategy) == ["Completed", "Rejected", "Completed"]
    assert reasons(strategy) == [
        "DailyProfitTarget: 0.0300 of equity won in a day >= profit_target 0.0300"
    ]
    assert journal(strategy, "over").rule.tolist() == ["DailyProfitTarget"]


def test_a_target_that_flattens_takes_the_profit():
    guard = DailyProfitTarget(3000, unit="currency", flatten=True)
    strategy = play(guarded(guard, rows=UP), HELD)
    assert strategy.held[6:8] == [(300,), (0,)]
    assert (
        "3000.00 won in a day >= profit_target 3000.00" in journal(strategy, "over").iloc[0].reason
    )


def test_a_profit_that_is_given_back_ends_the_day():
    """From 110, 3 %, down to 105, 1.5 %: half of it."""
    for share, status in ((0.5, "Rejected"), (0.51, "Completed")):
        strategy = play(guarded(ProfitLock(share), rows=UP), HELD | {10: buy()})
        assert statuses(strategy)[-1] == status
    strategy = play(guarded(ProfitLock(0.5, flatten=True), rows=UP), HELD | {10: buy()})
    assert strategy.held[7:9] == [(300,), (0,)]
    assert reasons(strategy) == [
        "ProfitLock: 0.50 of a day's profit of 0.0300 of equity given back >= give_back 0.50"
    ]


def test_a_profit_below_its_begin_is_not_locked():
    strategy = play(guarded(ProfitLock(0.5, 0.031), rows=UP), HELD | {10: buy()})
    assert reasons(strategy) == []


def test_a_profit_may_be_given_back_inside_a_bar():
    rows = [*flat(6), *flat(3, price=110.0), (110, 111, 104, 110), *flat(14, price=110.0)]
    for trigger, count in (("close", 0), ("intrabar", 1)):
        guard = ProfitLock(0.5, trigger=trigger)
        assert len(reasons(play(guarded(guard, rows=rows), HELD | {12: buy()}))) == count


# -- parameters -----------------------------------------------------------------------------------


@pytest.mark.parametrize("guard", [DailyLossLimit, DailyProfitTarget, ProfitLock])
@pytest.mark.parametrize("options", [{"scope": "data"}, {"side_aware": True}])
def test_a_data_feed_and_a_side_have_no_balance(guard, options):
    with pytest.raises(ParameterError, match="base must be 'equity' with scope='data'"):
        guard(base="balance", **options)


def test_the_rules_in_words():
    guard = DailyLossLimit(0.03, flatten=True, base="balance", reset="00:00 Europe/Prague")
    assert guard.describe() == (
        "daily loss: closes positions, and no entry for the rest of a day that lost 3 % of the "
        "balance, open losses included, of the account, a day from 00:00 Europe/Prague"
    )
    assert DailyLossLimit(0.03).describe() == (
        "daily loss: no entry for the rest of a day that lost 3 % of equity, open losses "
        "included, of the account"
    )
    assert DailyProfitTarget(500, unit="currency").describe() == (
        "daily target: no entry for the rest of a day that won 500 in currency, from equity, open "
        "profits included, of the account"
    )
    assert ProfitLock(0.4, 0.02, trigger="intrabar").describe() == (
        "profit lock: no entry for the rest of a day that gave back 40 % of a profit of at least "
        "2 % of equity, each bar at its worst, of the account"
    )


# -- engines --------------------------------------------------------------------------------------

NOTHING = dict.fromkeys(
    ("risk_limit", "notional_limit", "exposure_limit", "correlation_limit", "drawdown_limit")
)
EVERYTHING = [
    DailyLossLimit(0.01, flatten=True, trigger="intrabar", base="higher"),
    DailyProfitTarget(0.02, flatten=True, reset="17:00 America/New_York"),
    ProfitLock(0.3, 0.002, flatten=True, scope="data", trigger="intrabar"),
    bt_risk.TradingHours(["Mon-Fri 04:00-20:00"], flat_before=90),
]


class AtOpen(Plan):
    """Send at the open of a bar."""

    def next_open(self):
        super().next()

    def next(self):
        pass


@pytest.mark.parametrize("seed", [3, 4])
@pytest.mark.parametrize("broker", ["", "coc", "coo"])
def test_the_quick_loop_and_every_mode_play_the_same_days(seed, broker):
    tapes = []
    for fast, mode in [(True, "runonce"), *((False, mode) for mode in MODES)]:
        if mode == "quicknotify":
            continue
        frames = [random_walk(seed + k, bars=240, freq="h", start="2024-01-04") for k in (0, 1)]
        engine = cerebro(*frames, cheat_on_open=broker == "coo")
        engine.broker.set_coc(broker == "coc")
        policy = bt_risk.Policy(**NOTHING, trailing_stop=False, sizer=False, guards=EVERYTHING)
        bt_risk.protect(engine, policy, fast=fast)
        plan = [
            (bar, "buy" if bar % 2 else "sell", {"size": 150 + bar % 7, "data": bar % 3 % 2})
            for bar in range(20, 220, 3)
        ]
        tape = tape_of(taped(engine, plan, mode, AtOpen if broker == "coo" else Plan))
        tapes.append((tape["fills"], tape["reasons"], tape["values"]))
    assert len(tapes[0][0]) > 20
    assert {len(tape[1]) > 5 for tape in tapes} == {True}
    assert all(tape == tapes[0] for tape in tapes[1:])
