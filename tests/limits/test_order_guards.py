"""Guards of a single order: price, size, repetition, names, sides, number of positions."""

import backtrader as bt
import pytest
from helpers.recording import ends, play
from helpers.scenarios import MODES, NextScript, Script, bars, cerebro, flat

import bt_risk
from bt_risk import (
    Allow,
    Deny,
    DuplicateOrder,
    LongOnly,
    MaxPositions,
    OrderSize,
    Policy,
    PriceCollar,
    RepeatedOrders,
)

CALM = bars(*flat(60))
DEAR = bars(*flat(60, price=500.0))
EVERY = (
    PriceCollar(atr=3.0, fraction=0.1),
    PriceCollar(fraction=0.2, lookback=5),
    OrderSize(100, currency=5000.0, volume_share=0.05, on_size="trim"),
    DuplicateOrder(3),
    RepeatedOrders(7),
    Allow(["D0", "D1"], side=1),
    Deny(["D2"]),
    LongOnly(),
    MaxPositions(3),
)


def reasons(guards, actions, frames=(CALM,), **facts):
    """Return the status and the reason of each order, in the sequence of their numbers."""
    engine = cerebro(*frames, cash=1e6)
    engine.setbroker(bt_risk.RiskBroker(engine.broker, guards=list(guards), **facts))
    return [(end[0], end[3].partition("; at most")[0]) for end in ends(play(engine, actions))]


def statuses(guards, actions, **options):
    return [status for status, _ in reasons(guards, actions, **options)]


def limit(price, size=1, side=1, **terms):
    return lambda s: (s.buy if side > 0 else s.sell)(
        size=size, exectype=bt.Order.Limit, price=price, valid=None, **terms
    )


@pytest.mark.parametrize(
    ("guard", "price", "side", "passes"),
    [
        (PriceCollar(atr=3), 94.0, 1, True),
        (PriceCollar(atr=3), 93.9, 1, False),
        (PriceCollar(atr=3), 106.1, 1, False),
        (PriceCollar(atr=3), 93.9, -1, False),
        (PriceCollar(atr=3), 106.0, -1, True),
        (PriceCollar(fraction=0.1), 90.0, 1, True),
        (PriceCollar(fraction=0.1), 89.9, 1, False),
        (PriceCollar(atr=30, fraction=0.1), 89.9, 1, False),
        (PriceCollar(), 1.0, 1, True),
    ],
)
def test_a_price_too_far_from_the_market_is_refused(guard, price, side, passes):
    """The ATR is 2, the market stands at 100."""
    ((status, reason),) = reasons([guard], {30: limit(price, side=side)})
    assert (status != "Rejected") == passes
    assert passes or reason.startswith(f"PriceCollar: its price {price:g} is ")


def test_both_prices_of_a_stop_limit_order_count_and_a_market_order_has_none():
    stop = bt.Order.StopLimit
    actions = {
        30: lambda s: s.buy(size=1, exectype=stop, price=101, plimit=120),
        31: lambda s: s.buy(size=1, exectype=stop, price=120, plimit=101),
        32: lambda s: s.buy(size=1),
        33: lambda s: s.close(exectype=bt.Order.Limit, price=150.0),
    }
    found = statuses([PriceCollar(atr=3)], actions)
    assert found == ["Rejected", "Rejected", "Completed", "Accepted"]


def test_without_an_atr_a_collar_in_atrs_refuses():
    ((status, reason),) = reasons([PriceCollar(atr=3)], {5: limit(100.0)})
    assert status == "Rejected"
    assert reason == "PriceCollar: atr cannot be judged: ATR(14) needs 15 bars, D0 has 5"


# The median of the last five closes is 100 up to bar 32 and 110 from bar 33 on.
RISEN = bars(*flat(30), *flat(30, price=110.0))
OF_FIVE = PriceCollar(fraction=0.08, lookback=5)


@pytest.mark.parametrize(
    ("order", "passes"),
    [
        ({31: lambda s: s.buy(size=1)}, False),
        ({31: lambda s: s.sell(size=1)}, False),
        ({32: lambda s: s.buy(size=1)}, False),
        ({33: lambda s: s.buy(size=1)}, True),
        ({31: limit(108.0)}, True),
        ({31: limit(108.1)}, False),
        ({31: limit(92.0)}, True),
        ({31: limit(91.9)}, False),
        ({31: limit(107.0, side=-1)}, False),  # it fills at the market, 110
        ({33: limit(107.0, side=-1)}, True),
    ],
)
def test_a_price_too_far_from_the_last_closes_is_refused(order, passes):
    ((status, reason),) = reasons([OF_FIVE], order, frames=(RISEN,))
    assert (status != "Rejected") == passes
    assert passes or "0 of the price from 100, the median of 5 closes > fraction 0.08" in reason


def test_exits_pass_into_a_market_that_has_run_away():
    actions = {
        29: lambda s: s.buy(size=2),
        31: lambda s: s.sell(size=5),  # what it opens is refused
        32: lambda s: s.buy(size=1),
    }
    found = reasons([OF_FIVE], actions, frames=(RISEN,))
    assert [status for status, _ in found] == ["Completed", "Completed", "Rejected"]


def test_before_so_many_closes_the_reference_is_unknown():
    frame = CALM.copy()
    frame.iloc[2, :4] = float("nan")  # a bar without a close is none of them
    actions = {bar: lambda s: s.buy(size=1) for bar in (5, 6)}
    (early, _), (later, _) = found = reasons([OF_FIVE], actions, frames=(frame,))
    assert (early, later) == ("Rejected", "Completed")
    assert found[0][1] == "PriceCollar: the reference is unknown: D0 has 4 of 5 closes"


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_every_engine_mode_knows_the_same_closes(mode):
    """A bar that is not believed is none of them."""
    frame = RISEN.copy()
    frame.iloc[27, :4] *= 5.0
    engine = cerebro(frame, cash=1e6)
    engine.setbroker(bt_risk.RiskBroker(engine.broker, guards=[OF_FIVE]))
    actions = {bar: lambda s: s.buy(size=1) for bar in range(29, 36)}
    engine.addstrategy(Script, actions=actions)
    found = [end[0] for end in ends(engine.run(**mode)[0])]
    assert found == ["Completed"] * 2 + ["Rejected"] * 2 + ["Completed"] * 3


@pytest.mark.parametrize(
    ("guard", "most", "reason"),
    [
        (OrderSize(50), 50, "OrderSize: 51 units > units 50"),
        (OrderSize(currency=2500.0), 25, "OrderSize: 2600 in currency > currency 2500"),
        (
            OrderSize(volume_share=0.02),
            20,
            "OrderSize: 0.0210 of the volume of a bar > volume_share 0.0200",
        ),
        (OrderSize(50, currency=2500.0, volume_share=1.0), 25, None),
    ],
)
def test_a_size_beyond_what_one_order_may_have_is_refused_whole(guard, most, reason):
    """A bar has a volume of 1,000."""
    actions = {30: lambda s: s.buy(size=most), 31: lambda s: s.buy(size=most + 1)}
    actions |= {32: lambda s: s.buy(size=10 * most), 34: lambda s: s.close()}
    found = reasons([guard], actions)
    assert [status for status, _ in found] == ["Completed", "Rejected", "Rejected", "Completed"]
    assert reason is None or found[1][1] == reason


def test_a_size_can_be_cut_instead():
    engine = cerebro(CALM)
    guard = OrderSize(currency=2550.0, on_size="trim")
    engine.setbroker(bt_risk.RiskBroker(engine.broker, guards=[guard]))
    strategy = play(engine, {30: lambda s: s.sell(size=100)})
    assert ends(strategy)[0][:2] == ("Completed", -25)


def test_the_multiplier_counts():
    engine = cerebro(CALM, cash=1e6)
    engine.broker.setcommission(commission=0.0, margin=100.0, mult=50.0)
    engine.setbroker(bt_risk.RiskBroker(engine.broker, guards=[OrderSize(currency=10_000.0)]))
    strategy = play(engine, {30: lambda s: (s.buy(size=2), s.buy(size=3))[0]})
    assert [end[0] for end in ends(strategy)] == ["Completed", "Rejected"]


def test_a_bar_without_a_volume_is_unknown():
    for frame in (CALM.assign(volume=0.0), CALM.drop(columns="volume")):
        ((status, reason),) = reasons(
            [OrderSize(volume_share=0.1)], {30: lambda s: s.buy(size=1)}, frames=(frame,)
        )
        assert status == "Rejected"
        assert reason == "OrderSize: volume_share cannot be judged: it is unknown"


def test_the_same_order_is_refused_within_so_many_bars():
    twice = lambda s: (s.buy(size=5), s.buy(size=5), s.buy(size=6))[0]  # noqa: E731
    found = reasons([DuplicateOrder(2)], {30: twice, 31: lambda s: s.buy(size=5)})
    assert [status for status, _ in found] == ["Completed", "Rejected", "Completed", "Rejected"]
    assert found[1][1] == "DuplicateOrder: the same order was sent 0 bars ago < within 2"
    assert found[3][1] == "DuplicateOrder: the same order was sent 1 bars ago < within 2"
    assert (
        statuses([DuplicateOrder(2)], {30: twice, 32: lambda s: s.buy(size=5)})[-1] == "Completed"
    )
    assert statuses([DuplicateOrder(None)], {30: twice}) == ["Completed"] * 3


def test_another_price_side_or_instrument_is_another_order():
    orders = lambda s: (  # noqa: E731
        limit(99.0)(s),
        limit(98.0)(s),
        s.sell(size=1, exectype=bt.Order.Limit, price=150.0),
        s.buy(s.datas[1], size=1),
        s.buy(size=1),
    )[0]
    assert "Rejected" not in statuses([DuplicateOrder(1)], {30: orders}, frames=(CALM, DEAR))


def test_two_exits_of_one_size_both_pass():
    actions = {30: lambda s: s.buy(size=10), 32: lambda s: (s.sell(size=5), s.sell(size=5))[0]}
    assert statuses([DuplicateOrder(5)], actions) == ["Completed"] * 3


def test_the_same_order_of_two_strategies_is_two_orders():
    engine = cerebro(CALM)
    engine.setbroker(bt_risk.RiskBroker(engine.broker, guards=[DuplicateOrder(1)]))
    for _ in range(2):
        engine.addstrategy(Script, actions={30: lambda s: s.buy(size=5)})
    assert [ends(one)[0][0] for one in engine.run()] == ["Completed"] * 2


def test_too_many_entries_in_a_row_end_every_entry():
    buy = lambda s: s.buy(size=1)  # noqa: E731
    actions = dict.fromkeys(range(30, 34), buy)
    actions |= {36: lambda s: s.close(), 38: lambda s: s.sell(s.datas[1], size=1)}
    found = reasons([RepeatedOrders(3)], actions, frames=(CALM, DEAR))
    assert [status for status, _ in found] == [
        *["Completed"] * 3,
        "Rejected",
        "Completed",
        "Rejected",
    ]
    assert found[3][1] == "RepeatedOrders: 3 entries of D0 in a row >= n 3"
    assert found[5][1] == found[3][1]


def test_a_loop_within_one_bar_is_stopped_within_it():
    found = statuses([RepeatedOrders(3)], {30: lambda s: [s.buy(size=1) for _ in range(9)][0]})
    assert found == ["Completed"] * 3 + ["Rejected"] * 6


def test_a_position_that_is_closed_in_between_begins_the_count_anew():
    actions = {}
    for bar in range(20, 50, 4):
        actions |= {bar: lambda s: s.buy(size=1), bar + 2: lambda s: s.close()}
    assert set(statuses([RepeatedOrders(2)], actions)) == {"Completed"}


def test_the_account_trades_again_once_an_operator_has_re_armed():
    buy = lambda s: s.buy(size=1)  # noqa: E731
    actions = dict.fromkeys(range(30, 33), buy)
    actions |= {34: lambda s: s.broker.trading_state.rearm()}
    actions |= dict.fromkeys((35, 36), buy)
    found = statuses([RepeatedOrders(2)], actions)
    assert found == ["Completed", "Completed", "Rejected", "Completed", "Completed"]


@pytest.mark.parametrize(
    ("guard", "passes"),
    [
        (Allow(["D0"]), [True, True, False, False]),
        (Allow(["D0"], side=1), [True, False, False, False]),
        (Allow([]), [False, False, False, False]),
        (Deny(["D0"]), [False, False, True, True]),
        (Deny(["D0"], side=-1), [True, False, True, True]),
        (Deny([]), [True, True, True, True]),
        (LongOnly(), [True, False, True, False]),
    ],
)
def test_names_and_sides_decide_what_may_be_opened(guard, passes):
    orders = lambda s: [  # noqa: E731
        (s.buy if side > 0 else s.sell)(data, size=1, exectype=bt.Order.Limit, price=price)
        for data, low, high in ((s.datas[0], 90.0, 110.0), (s.datas[1], 450.0, 550.0))
        for side, price in ((1, low), (-1, high))
    ][0]
    found = statuses([guard], {30: orders}, frames=(CALM, DEAR))
    assert [status != "Rejected" for status in found] == passes


def test_a_reversal_of_a_long_only_account_closes_and_opens_nothing():
    engine = cerebro(CALM)
    engine.setbroker(bt_risk.RiskBroker(engine.broker, guards=[LongOnly()]))
    actions = {30: lambda s: s.buy(size=10), 32: lambda s: s.sell(size=25)}
    strategy = play(engine, actions)
    assert strategy.held[-1] == (0,)
    assert ends(strategy)[1][1] == -10


def test_a_resampled_copy_is_the_instrument_itself():
    engine = cerebro(CALM)
    engine.resampledata(engine.datas[0], timeframe=bt.TimeFrame.Weeks, name="W0")
    guards = [Deny(["D0"])]
    engine.setbroker(bt_risk.RiskBroker(engine.broker, guards=guards))
    strategy = play(engine, {40: lambda s: s.buy(s.datas[1], size=1)}, NextScript)
    assert ends(strategy)[0][0] == "Rejected"


def test_no_more_instruments_than_so_many():
    frames = (CALM, DEAR, CALM)
    one = lambda k, side=1: lambda s: (s.buy if side > 0 else s.sell)(s.datas[k], size=1)  # noqa: E731
    actions = {30: one(0), 31: one(1, -1), 32: one(2), 33: one(0), 34: one(1)}
    actions |= {36: one(2)}
    found = reasons([MaxPositions(2)], actions, frames=frames)
    assert [status for status, _ in found] == [
        "Completed",
        "Completed",
        "Rejected",
        "Completed",
        "Completed",
        "Completed",
    ]
    assert found[2][1] == "MaxPositions: 2 other instruments held >= n 2"


def test_a_position_that_leaves_before_the_entry_fills_makes_room():
    actions = {
        30: lambda s: s.buy(s.datas[0], size=1),
        32: lambda s: (s.close(s.datas[0]), s.buy(s.datas[1], size=1))[0],
        34: lambda s: (s.buy(s.datas[0], size=1), s.close(s.datas[1]))[0],
    }
    found = statuses([MaxPositions(1)], actions, frames=(CALM, DEAR))
    assert found == ["Completed", "Completed", "Completed", "Rejected", "Completed"]


def test_a_resting_entry_counts_as_an_instrument():
    actions = {
        30: lambda s: (limit(50.0)(s), s.buy(s.datas[1], size=1))[0],
    }
    assert statuses([MaxPositions(1)], actions, frames=(CALM, DEAR)) == ["Accepted", "Rejected"]


def test_a_resting_entry_is_not_judged_again_by_price_and_size():
    """The market moves away from the limit order; its volume dries up."""
    rows = [*flat(40), *flat(20, price=160.0)]
    frame = bars(*rows)
    frame.loc[frame.index[40:], "volume"] = 0.0
    guards = [PriceCollar(atr=3), OrderSize(volume_share=0.1), DuplicateOrder(50)]
    assert statuses(guards, {30: limit(96.0)}, frames=(frame,)) == ["Accepted"]


def test_they_survive_a_file_and_have_words(tmp_path):
    policy = Policy(guards=EVERY)
    path = tmp_path / "policy.toml"
    policy.to_toml(path)
    assert Policy.from_toml(path) == policy
    lines = policy.describe().splitlines()[-len(EVERY) :]
    assert lines == [
        "price collar: no entry at a price more than 3 ATR or 0.1 of the price from the market",
        "price collar: no entry at a price more than 0.2 of the price from the median of 5 closes",
        "order size: at most 100 units, 5000 in currency, 0.0500 of the volume of a bar in one "
        "order",
        "duplicates: no entry that repeats an order of the last 3 bars",
        "repetition: no entry after 7 in a row of one strategy, until re-armed",
        "allowed: entries long in D0, D1 only",
        "denied: no entry long and short in D2",
        "long only: no short entry",
        "positions: at most 3 instruments at a time",
    ]


def test_they_change_nothing_in_observe_mode_and_headroom_knows_them():
    engine = cerebro(CALM)
    rooms = []

    def ask(strategy):
        rooms.append(strategy.broker.headroom(strategy.data, 1))
        strategy.buy(size=500)

    bt_risk.protect(engine, Policy(guards=[OrderSize(17)], sizer=False), mode="observe")
    strategy = play(engine, {30: ask})
    assert ends(strategy)[0][:2] == ("Completed", 500)
    assert (rooms[0].size, rooms[0].rule) == (17, "OrderSize")


def test_a_preset_is_a_policy_to_which_more_can_be_added():
    preset = Policy.checks("market-access")
    assert [guard.name for guard in preset.guards] == [
        "PriceCollar",
        "DuplicateOrder",
        "OrderRateLimit",
        "RepeatedOrders",
    ]
    more = Policy.checks("market-access", risk_limit=0.005, guards=[LongOnly()])
    assert (more.risk_limit, more.guards) == (0.005, (*preset.guards, LongOnly()))
    assert Policy().guards == ()
    with pytest.raises(bt_risk.ParameterError, match="Policy.checks: name must be one of"):
        Policy.checks("prime-broker")
