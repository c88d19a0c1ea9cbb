"""The ledger of a shadow book: additions, freed cash, and three differences, each by hand."""

import backtrader as bt
import pytest
from helpers.scenarios import bars, flat
from helpers.shadow_runs import book_of, building, only, order, replayed

import bt_risk
from bt_risk.evidence.counterfactual import Counterfactual, Fill
from bt_risk.evidence.ledger_table import ledger_columns
from bt_risk.evidence.paper_broker import RequestedOrder
from bt_risk.evidence.paper_trade import Bar
from bt_risk.evidence.variants import RULES, only_rule
from bt_risk.report.labels import COMPOUNDING, DIFFERENCES, KNOCK_ON, SIZER_SIZES
from bt_risk.report.labels import RULES as LABELS

CEILING = dict(exposure_limit=0.25, exposure_unit="notional")
IDLE = dict(drawdown_limit=0.9)  # a second rule, which never acts


def balances(book):
    return book.by_rule()["balance"].round(6).to_dict()


# -- additions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [1, -1])
def test_every_refused_addition_is_a_paper_trade(side):
    """Five orders of 100: three are refused, fill at 102, 103 and 104 and leave at 115: 3,600."""

    def mirrored(*row):
        return row if side > 0 else (200 - row[0], 200 - row[2], 200 - row[1], 200 - row[3])

    rise = [(102, 103, 101, 103), (103, 104, 102, 104), (104, 105, 103, 105)]
    path = [*flat(7), *rise, (105, 116, 104, 115), *flat(3, 115)]
    verb = "buy" if side > 0 else "sell"
    plan = (*(order(bar, verb, size=100) for bar in range(5, 10)), order(12, "close"))
    build = building(bars(*(mirrored(*row) for row in path)), plan=plan)
    book = book_of(build, only(**CEILING, on_exposure="reject"))
    assert book.paper_trades["rule"].tolist() == ["ExposureLimit"] * 3
    assert book.paper_trades["pnl"].tolist() == pytest.approx([1300, 1200, 1100])
    row = book.by_rule().loc["ExposureLimit"]
    assert (row["made"], row["balance"]) == pytest.approx((3600, -3600))
    assert row["knock_on"] == pytest.approx(0)
    assert [balances(book)[name] for name in DIFFERENCES] == [0, 0, 0]


def test_what_the_bare_run_adds_while_an_order_is_refused_again_is_added_once():
    """Ten are refused on each bar; the bare run has bought them once, and four more later."""
    rows = [(100, 101, 99, 100)] * 4 + [(110, 111, 109, 110)]
    refused = RequestedOrder(1, "market", 0, 10.0, 0.0, 4.0, "rule")
    replay = replayed(
        rows,
        bare={1: [Fill(10, 100.0)], 3: [Fill(4, 100.0)]},
        requested={k: [refused._replace(number=k, batch=float(k))] for k in range(3)},
    )
    assert [trade.peak for trade in replay.paper_trades] == [10, 4]
    assert sum(trade.pnl for trade in replay.paper_trades) == pytest.approx(140)
    assert not any(replay.differences.values())


@pytest.mark.parametrize(("ended", "peaks"), [({}, [10, 10]), ({2: [0]}, [10])])
def test_a_grid_of_limits_is_followed_where_the_bare_run_fills_it(ended, peaks):
    """Two limits rest, each refused at its own close; the bare run buys at 96 and at 98."""
    rows = [(100, 101, 99, 100)] * 2 + [(100, 101, 95, 96), (96, 111, 96, 110)]
    high, low = (RequestedOrder(1, "limit", price, 10.0, 0.0, 4.0, "rule") for price in (98, 96))
    replay = Counterfactual([Bar(k, *row, 2.0) for k, row in enumerate(rows)])
    bare = {2: [Fill(10, 98.0), Fill(10, 96.0)]}
    asked = {0: [high._replace(number=0, batch=0.0)], 1: [low._replace(number=1, batch=1.0)]}
    replay.load(bare, {}, asked, order_ends=ended)
    for k in range(len(rows)):
        replay.step(k)
    replay.finish()
    assert [trade.peak for trade in replay.paper_trades] == peaks
    assert [trade.entry for trade in replay.paper_trades] == [96, 98][: len(peaks)]
    left = 10 * (110 - 98) if ended else 0  # the strategy has cancelled the first
    assert sum(replay.differences.values()) == pytest.approx(-left)


# -- freed cash ------------------------------------------------------------------------------------

# Of 600 A 300 are allowed; the bare run cannot pay for B then. A earns 20 a unit, B loses 10.
A = bars(*flat(8), (100, 121, 99, 120), *flat(4, 120))
B = bars(*flat(8, 50), (50, 51, 39, 40), *flat(4, 40))
BOTH = (
    order(5, "buy", data=0, size=600),
    order(6, "buy", data=1, size=1200),
    order(10, "close", data=0),
    order(10, "close", data=1),
)


def test_what_freed_cash_buys_belongs_to_the_only_rule_that_is_on():
    """300 A would have made 6,000, and 600 B have lost 6,000."""
    book = book_of(building(A, B, plan=BOTH), only(notional_limit=0.3))
    assert book.difference == pytest.approx(-12_000)
    row = book.by_rule().loc["NotionalLimit"]
    assert (row["made"], row["knock_on"], row["balance"]) == pytest.approx((6000, -6000, -12_000))
    assert [balances(book)[name] for name in DIFFERENCES] == [0, 0, 0]
    assert book.residual == 0
    columns = ledger_columns(book)
    label = "rule 2, position value"
    assert (columns["knock-on"][label], columns["balance"][label]) == ("-6,000", "-12,000")
    assert columns["balance"]["total"] == "-12,000"


def test_where_two_rules_are_on_what_freed_cash_buys_cannot_be_told_apart():
    book = book_of(building(A, B, plan=BOTH), only(notional_limit=0.3, **IDLE))
    assert balances(book) == {
        "NotionalLimit": -6000,
        SIZER_SIZES: 0,
        COMPOUNDING: 0,
        KNOCK_ON: -6000,
    }
    assert book.residual == pytest.approx(-6000)
    assert "knock-on" not in ledger_columns(book)  # a row here, no column


@pytest.mark.parametrize("rule", RULES)
def test_the_only_rule_that_is_on_has_its_name_of_the_journal(rule):
    whole = bt_risk.Policy(
        gross_limit=0.4,
        net_limit=0.4,
        position_limit=0.4,
        groups={"all": ["A"]},
        group_limit=0.4,
        volatility_limit=0.2,
        gap_limit=0.05,
        guards=[bt_risk.SignalGate() if rule == "signals" else bt_risk.CooldownGuard(5)],
    )
    policy = only(**{name: getattr(whole, name) for name in (*RULES[rule], "groups")})
    known = {"guards": "CooldownGuard", "signals": "SignalGate", "stop": "ATRTrailingStop"}
    name = only_rule(policy)
    assert name in LABELS
    assert name == known.get(rule, name)
    assert only_rule(whole) is None
    assert only_rule(only()) is None


# -- sizes -----------------------------------------------------------------------------------------

# From 100 to 110, in the bar that both runs buy in.
UP = [(100, 101, 99, 100), (100, 111, 99, 110)]


def sized(bare, protected, growth=1.0, step=None):
    """Return the differences of a bar in which both buy, and the price rises by 10."""
    asked = RequestedOrder(1, "market", 0, protected, protected, 4.0)
    asked = asked if step is None else asked._replace(step=step)
    replay = replayed(
        UP,
        bare={1: [Fill(bare, 100.0)]},
        protected={1: [Fill(protected, 100.0)]},
        requested={0: [asked]},
        growth=[growth, 99.0],
    )
    return [pytest.approx(replay.differences[name]) for name in DIFFERENCES]


def test_a_size_of_our_sizer_is_its_own():
    assert sized(10, 30, step=1.0) == [200, 0, 0]
    assert sized(10, 4, step=1.0) == [-60, 0, 0]


def test_a_size_of_our_sizer_grows_with_the_account():
    """With 1.5 times the equity 30 are 20 of the sizer's, 10 more than bare, and 10 of growth."""
    assert sized(10, 30, 1.5, step=1.0) == [100, 100, 0]
    assert sized(10, 30, 0.5, step=1.0) == [500, -300, 0]


def test_another_size_compounds_as_far_as_growth_explains_it():
    assert sized(10, 12, 1.2) == [0, 20, 0]
    assert sized(10, 15, 1.2) == [0, 20, 30]
    assert sized(10, 5, 0.4) == [0, -50, 0]
    assert sized(10, 15, 0.4) == [0, 0, 50]
    assert sized(10, 10, 2.0) == [0, 0, 0]  # a fixed size does not grow


def test_what_is_left_of_a_position_keeps_its_shares():
    """The bare run sells half of 10, ours half of 30; then the price rises by another 10."""
    asked = RequestedOrder(1, "market", 0, 30.0, 30.0, 4.0, step=1.0)
    replay = replayed(
        [*UP, (110, 121, 109, 120)],
        bare={1: [Fill(10, 100.0)], 2: [Fill(-5, 110.0)]},
        protected={1: [Fill(30, 100.0)], 2: [Fill(-15, 110.0)]},
        requested={0: [asked]},
        growth=[1.5, 1.0, 1.0],
    )
    found = [replay.differences[name] for name in DIFFERENCES]
    assert found == pytest.approx([100 + 50, 100 + 50, 0])


def test_commission_follows_the_units_that_it_was_paid_for():
    asked = RequestedOrder(1, "market", 0, 30.0, 30.0, 4.0, step=1.0)
    replay = replayed(
        UP,
        bare={1: [Fill(10, 100.0, 1.0)]},
        protected={1: [Fill(30, 100.0, 3.0)]},
        requested={0: [asked]},
        growth=[1.5],
    )
    found = [replay.differences[name] for name in DIFFERENCES]
    assert found == pytest.approx([100 - 1, 100 - 1, 0])


def test_another_side_and_another_time_are_knock_on():
    other = replayed(UP, bare={1: [Fill(10, 100.0)]}, protected={1: [Fill(-10, 100.0)]})
    assert other.differences == {SIZER_SIZES: 0, COMPOUNDING: 0, KNOCK_ON: -200}
    alone = replayed(UP, protected={1: [Fill(10, 100.0)]})
    assert alone.differences == {SIZER_SIZES: 0, COMPOUNDING: 0, KNOCK_ON: 100}


class HalfOfIt(bt.Strategy):
    """Put half of equity into two trades, one after the other."""

    params = dict(plan=())

    def next(self):
        if len(self) in (5, 9):
            self.buy(size=0.5 * self.broker.getvalue() / self.data.close[0])
        elif len(self) in (7, 11):
            self.close()


def test_a_smaller_account_buys_less_the_next_time():
    """Half of each order is cut. After the first trade bare has 110,000, and the protected account
    105,000, which then asks for 437.5 units in place of 458.33: 250 less in a rise by 12.
    """
    path = bars(*flat(6), (100, 121, 99, 120), *flat(3, 120), (120, 133, 119, 132), *flat(3, 132))
    build = building(path, plan=(), strategy=HalfOfIt)
    book = book_of(build, only(**CEILING, **IDLE))
    assert balances(book) == {
        "ExposureLimit": pytest.approx(-5000 - 2625, abs=0.01),
        SIZER_SIZES: 0,
        COMPOUNDING: pytest.approx(-250, abs=0.01),
        KNOCK_ON: pytest.approx(0, abs=0.01),
    }
