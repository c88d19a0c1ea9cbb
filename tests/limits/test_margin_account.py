"""MarginAccount as a limit: initial margin, tiers, and a stop inside liquidation, by hand.

The market stands at 100 with an ATR of 2, so that a stop is 4 away: 4 % of the price, and 5 % with
the buffer. Equity is 100,000.
"""

import inspect
import math

import backtrader as bt
import pytest
from helpers.books import ME, OTHER, book_of, work
from helpers.scenarios import bars, cerebro, flat, taped

import bt_risk
from bt_risk import MarginAccount, MarginTiers, ParameterError, Policy
from bt_risk.limits.base import Request

FREE = {"tiers": [(0, 0.0)], "buffer": None}
TIMES = "1 or more; got 0.5. Leverage is a multiple: 20 is 20x."
BAD = [
    ({"leverage": 0}, "leverage must be positive and finite"),
    ({"leverage": 0.5}, f"leverage must be {TIMES}"),
    ({"leverage": math.inf}, "leverage must be positive and finite"),
    ({"mode": "hedged"}, "mode must be one of 'isolated', 'cross'"),
    ({"call": 80}, "call must be in (0, 1]"),
    ({"liquidation_fee": 1}, "liquidation_fee must be in [0, 1)"),
    ({"buffer": -0.1}, "buffer must be zero or more"),
    ({"tiers": 0.005}, "tiers must be rows of floor, mmr and max_leverage"),
    ({"tiers": [(1, 0.01)]}, "floor must be 0 in the first row"),
    ({"tiers": {"BTC": 0.005}}, "tiers must be rows of floor, mmr and max_leverage"),
    ({"tiers": "nowhere.toml"}, "tiers must be an existing file; got 'nowhere.toml'"),
]


def request(book, side=1, size=1.0, price=100.0, distance=4.0, index=0):
    return Request(book.instruments[index], side, size, price, distance, owner=ME)


def hold(book, size, price=100.0, index=0, owner=ME):
    book.fill(book.part(book.instruments[index], owner), size, price, 0.0, 3.0, 4.0)


def answer(guard, book, **given):
    return guard.review(request(book, **given), book)


@pytest.mark.parametrize(("given", "message"), BAD)
def test_parameters_are_checked(given, message):
    with pytest.raises(ParameterError) as caught:
        MarginAccount(**{"leverage": 20} | given)
    assert message in str(caught.value)


# ---------------------------------------------------------------- initial margin


def test_an_order_is_cut_to_what_is_free():
    # 20 x 100,000 are 20,000 units at 100.
    guard, book = MarginAccount(20, **FREE), book_of()
    assert answer(guard, book, size=20_000).size == 20_000
    cut = answer(guard, book, size=25_000)
    assert cut.size == pytest.approx(20_000)
    assert cut.reason == "MarginAccount: initial margin 125,000.00 > 100,000.00 free"
    assert answer(guard, book, side=-1, size=25_000).size == pytest.approx(20_000)


def test_positions_and_working_orders_bind_margin():
    guard, book = MarginAccount(20, **FREE), book_of(2)
    hold(book, 5_000)  # 25,000
    work(book, 1, 1, 2_000, price=100.0, index=1)  # 10,000
    work(book, 2, -1, 1_000, price=100.0, index=1)  # 5,000
    assert answer(guard, book, size=20_000, index=1).size == pytest.approx(12_000)


@pytest.mark.parametrize(("mode", "left"), [("isolated", 15_000), ("cross", 16_000)])
def test_open_profit_frees_margin_in_cross_mode_alone(mode, left):
    # 5,000 from 80: a margin of 20,000 (isolated, at the entry) or 25,000 (cross, at the mark), and
    # an open profit of 100,000 of the equity of 200,000 - here half of it, at 90.
    guard, book = MarginAccount(20, mode=mode, **FREE), book_of(2)
    hold(book, 4_000, price=75.0)
    book.equity = 100_000.0
    # isolated: 100,000 - 15,000 - 100,000 of open profit = -15,000; cross: 100,000 - 20,000.
    found = answer(guard, book, size=20_000, index=1)
    assert found.size == pytest.approx(0.0 if mode == "isolated" else left)


def test_nothing_is_free_where_equity_is_gone_or_unknown():
    guard, book = MarginAccount(20, **FREE), book_of()
    book.equity = -1.0
    assert answer(guard, book).size == 0.0
    book.equity = math.nan
    cut = answer(guard, book)
    assert (cut.size, cut.reason) == (
        0.0,
        "MarginAccount: margin cannot be judged: equity or price is unknown",
    )


# ---------------------------------------------------------------- tiers


def test_the_bands_limit_what_may_be_held_at_a_leverage():
    guard = MarginAccount(100, tiers=[(0, 0.004, 125), (50_000, 0.005, 50)], buffer=None)
    book = book_of()
    hold(book, 100)
    work(book, 1, 1, 150, price=100.0)
    # 50,000 less 25,000 are 250 units, and less the floor itself.
    cut = answer(guard, book, size=1_000)
    assert cut.size == pytest.approx(250)
    assert cut.reason == "MarginAccount: notional 125,000 > 50,000, the most at 100x"
    # The other side closes first: what it opens is another position.
    assert answer(guard, book, side=-1, size=1_000).size == pytest.approx(500)


def test_above_the_cap_nothing_is_held():
    tiers = MarginTiers.from_rows([(0, 0.01)], cap=50_000)
    assert answer(MarginAccount(5, tiers=tiers, buffer=None), book_of(), size=1_000).size == 500


def test_tiers_by_name_and_for_every_other_name():
    guard = MarginAccount(20, tiers={"D1": [(0, 0.01)], "*": [(0, 0.02)]})
    assert [guard.tiers_of(name).at(1.0).mmr for name in ("D0", "D1")] == [0.02, 0.01]
    assert MarginAccount(20).tiers_of("D0").at(1.0).mmr == 0.025  # half of the initial margin


# ---------------------------------------------------------------- the stop


@pytest.mark.parametrize(
    ("leverage", "mmr", "passes"),
    [(16.6, 0.01, True), (16.7, 0.01, False), (20, 0.0, True), (20.1, 0.0, False)],
)
@pytest.mark.parametrize("side", [1, -1])
def test_the_stop_lies_inside_liquidation(leverage, mmr, passes, side):
    # 1 / (1.25 x 0.04 + 0.01) = 16.67; without maintenance margin 20.
    guard = MarginAccount(leverage, tiers=[(0, mmr)])
    assert answer(guard, book_of(), side=side, size=10.0).size == (10.0 if passes else 0.0)


@pytest.mark.parametrize(
    ("side", "price", "refusal"),
    [
        (-1, 98.0, "19.60 = 1 / (1.25 x 0.0408 + 0.0000)"),  # it fills at 98 or below
        (1, 102.0, ""),  # it fills at 102 or above
        (-1, 102.0, ""),  # it is reached already, and fills at 100
        (1, 98.0, ""),
    ],
)
def test_a_stop_entry_is_judged_at_the_price_that_it_fills_at(side, price, refusal):
    """4 of 100 are 4 %, and with the buffer 5 %: 20x passes."""
    engine = cerebro(bars(*flat(30, width=1.0)))
    guard = MarginAccount(20, tiers=[(0, 0.0)])
    engine.setbroker(bt_risk.RiskBroker(engine.broker, guards=[guard], atr_multiple=2.0))
    order = (
        20,
        "sell" if side < 0 else "buy",
        {"size": 10, "price": price, "exectype": bt.Order.Stop},
    )
    made = taped(engine, [order], "runonce").made
    reason = made[0].info.get("bt_risk", "")
    assert refusal in reason
    assert bool(reason) == bool(refusal)


def test_the_reason_has_the_formula():
    reason = answer(MarginAccount(50, tiers=[(0, 0.01)]), book_of()).reason
    assert reason == (
        "MarginAccount: leverage 50.00 > 16.67 = 1 / (1.25 x 0.0400 + 0.0100): "
        "its stop is too near to liquidation"
    )


def test_isolated_an_order_is_cut_to_the_band_in_which_it_passes():
    # 16x leaves 0.0625 - 0.05 = 0.0125 for maintenance: 1 % up to 100,000, then 2 % less 1,000:
    # (0.02 - 0.0125) N = 1,000 at N = 133,333.
    guard = MarginAccount(16, tiers=[(0, 0.01), (100_000, 0.02)])
    assert answer(guard, book_of(), size=5_000).size == pytest.approx(1_333.33, abs=0.01)


def test_cross_the_equity_behind_it_counts():
    # N (0.05 + 0.01) <= 100,000: 16,667 units whatever the leverage; another position needs 1 % of
    # 500,000 of it.
    guard, book = MarginAccount(50, tiers=[(0, 0.01)], mode="cross"), book_of(2)
    assert answer(guard, book, size=40_000).size == pytest.approx(100_000 / 0.06 / 100)
    hold(book, 5_000, index=1)
    assert answer(guard, book, size=40_000).size == pytest.approx(95_000 / 0.06 / 100)


def leave(book, units, index=0, owner=ME):
    """Count so many units as sold by market exits that fill first."""
    book.leaving[book.part(book.instruments[index], owner)] += units


@pytest.mark.parametrize("side", [1, -1])
def test_what_a_market_exit_closes_binds_nothing(side):
    # Isolated, 20x: 15,000 at 100 bind 75,000 of 100,000, which leaves 5,000 units; after an exit
    # of 6,000 of them 11,000.
    guard, book = MarginAccount(20, **FREE), book_of(2)
    hold(book, side * 15_000)
    assert answer(guard, book, size=30_000, index=1).size == pytest.approx(5_000)
    leave(book, 6_000)
    assert answer(guard, book, size=30_000, index=1).size == pytest.approx(11_000)
    leave(book, 9_000)
    assert answer(guard, book, size=30_000, index=1).size == pytest.approx(20_000)


@pytest.mark.parametrize(("entry", "left"), [(96.0, 11_200), (102.0, 16_900)])
def test_of_what_leaves_the_open_profit_is_money(entry, left):
    # 10,000 from 96 to 100 bind 48,000 and 40,000 of profit; half of them, 44,000: 56,000 are free,
    # 11,200 units. From 102 they bind 51,000 less a loss of 20,000; half of them 15,500: 16,900.
    guard, book = MarginAccount(20, **FREE), book_of(2)
    hold(book, 10_000, price=entry)
    leave(book, 5_000)
    assert answer(guard, book, size=30_000, index=1).size == pytest.approx(left)


def test_cross_what_a_market_exit_closes_needs_no_maintenance():
    # 1 % of 500,000 was needed: see above. Of the bands, too, it takes no room.
    guard, book = MarginAccount(50, tiers=[(0, 0.01)], mode="cross"), book_of(2)
    hold(book, 5_000, index=1)
    leave(book, 2_500, index=1)
    assert answer(guard, book, size=40_000).size == pytest.approx(97_500 / 0.06 / 100)
    leave(book, 2_500, index=1)
    assert answer(guard, book, size=40_000).size == pytest.approx(100_000 / 0.06 / 100)


def test_the_bands_have_room_for_what_leaves():
    guard = MarginAccount(100, tiers=[(0, 0.004, 125), (50_000, 0.005, 50)], buffer=None)
    book = book_of()
    hold(book, 400)
    assert answer(guard, book, size=1_000).size == pytest.approx(100)
    leave(book, 300)
    assert answer(guard, book, size=1_000).size == pytest.approx(400)


def test_the_exit_of_one_owner_may_add_to_the_net_position_of_all():
    # Long 12,000 and short 2,000: 10,000 net bind 50,000. Once the short is closed it is 12,000.
    guard, book = MarginAccount(20, **FREE), book_of(2)
    hold(book, 12_000)
    hold(book, -2_000, owner=OTHER)
    before = answer(guard, book, size=30_000, index=1).size
    leave(book, 2_000, owner=OTHER)
    assert answer(guard, book, size=30_000, index=1).size == before == pytest.approx(10_000)


def test_below_zero_a_position_binds_margin_like_any_other():
    # 5,000 at -100 bind 25,000, and their 1 % of maintenance is 5,000.
    for mode in ("isolated", "cross"):
        guard, book = MarginAccount(20, mode=mode, **FREE), book_of(2)
        hold(book, 5_000, price=-100.0)
        book.instruments[0].price = -100.0
        assert answer(guard, book, size=30_000, index=1).size == pytest.approx(15_000)
    guard, book = MarginAccount(50, tiers=[(0, 0.01)], mode="cross"), book_of(2)
    hold(book, 5_000, price=-100.0, index=1)
    book.instruments[1].price = -100.0
    assert answer(guard, book, size=40_000).size == pytest.approx(95_000 / 0.06 / 100)


@pytest.mark.parametrize("distance", [math.nan, 0.0, -1.0])
def test_an_unknown_stop_is_not_safe(distance):
    cut = answer(MarginAccount(2), book_of(), distance=distance)
    assert cut.size == 0.0
    assert cut.reason.startswith("MarginAccount: its stop is unknown: ")


def test_without_a_buffer_stops_are_not_asked():
    assert answer(MarginAccount(50, buffer=None), book_of(), distance=math.nan).size == 1.0


def test_two_owners_share_one_margin():
    guard, book = MarginAccount(20, **FREE), book_of()
    hold(book, 6_000)
    hold(book, 6_000, owner=OTHER)
    assert answer(guard, book, size=20_000).size == pytest.approx(8_000)


# ---------------------------------------------------------------- in a policy


@pytest.mark.parametrize(
    "tiers",
    [
        None,
        [(0, 0.004, 125), (50_000, 0.005)],
        {"BTC": [(0, 0.004)], "*": [(0, 0.01)]},
        MarginTiers.from_rows([(0, 0.004, 125), (50_000, 0.005, 100)], cap=1e6),
        [{"floor": 0, "mmr": 0.004}],
    ],
)
def test_a_policy_file_gives_the_same_guard(tiers, tmp_path):
    guard = MarginAccount(20, tiers, "cross", 0.7, 0.001, buffer=0.5)
    Policy(guards=[guard]).to_toml(tmp_path / "policy.toml")
    (again,) = Policy.from_toml(tmp_path / "policy.toml").guards
    for name in ("BTC", "ETH"):
        assert again.tiers_of(name) == guard.tiers_of(name)
    assert again.describe() == guard.describe()
    assert (again.call, again.liquidation_fee, again.buffer) == (0.7, 0.001, 0.5)


def test_funding_in_a_policy_file(tmp_path):
    rows = [("2024-01-01T00:00:00", 0.0001)]
    (tmp_path / "f.csv").write_text("time,rate\n2024-01-01,0.0001\n")
    for funding in (rows, {"BTC": rows}, str(tmp_path / "f.csv")):
        guard = MarginAccount(20, funding=funding, borrow_rate=0.05)
        Policy(guards=[guard]).to_toml(tmp_path / "policy.toml")
        (again,) = Policy.from_toml(tmp_path / "policy.toml").guards
        assert again.rates_of("BTC").rows == guard.rates_of("BTC").rows == tuple(rows)
        assert (again.rates_of("ETH") is None) == isinstance(funding, dict)
        assert again.describe() == guard.describe()
    assert MarginAccount(20, funding=rows, borrow_rate=0.05).describe() == (
        "margin: 20x, isolated, 2.5 % of notional maintains it, funding, 5 % a year on what is "
        "borrowed; liquidation beyond 1.25 x the stop"
    )


def test_tiers_come_from_a_file(tmp_path):
    path = tmp_path / "tiers.toml"
    path.write_text("[tiers]\nBTC = [[0, 0.004, 125], [50000, 0.005, 100]]\n")
    guard = MarginAccount(20, tiers=path)
    assert guard.tiers_of("BTC").at(60_000).cum == pytest.approx(50.0)
    assert guard.tiers_of("ETH").at(60_000).mmr == 0.025
    path.write_text("rows = 1\n")
    with pytest.raises(ParameterError, match="a key must be one of tiers"):
        MarginAccount(20, tiers=path)


def test_it_reads_as_a_sentence():
    assert MarginAccount(20, mode="cross", tiers=[(0, 0.01)], liquidation_fee=0.005).describe() == (
        "margin: 20x, cross, maintenance margin by tiers, fee 0.5 %; "
        "liquidation beyond 1.25 x the stop"
    )
    assert "stop" not in MarginAccount(5, buffer=None).describe()


def test_the_docstring_names_each_parameter():
    for name in inspect.signature(MarginAccount).parameters:
        assert f"\n{name} : " in inspect.getdoc(MarginAccount)
