"""What a live account is worth: which values of a broker are believed, and which are not."""

import pytest
from helpers import hostile_brokers as hostile
from helpers.fake_broker import FakeBroker
from helpers.hostile_brokers import Clock, reasons, run
from helpers.scenarios import flat

CALM = flat(40)
# A fall of 13 % of the account, which prices could explain where 90,000 are held.
LOSS = 13_000.0


def entry(side, size):
    return {20: lambda s: s.buy(size=size) if side > 0 else s.sell(size=size)}


@pytest.mark.parametrize("side", [1, -1])
def test_a_loss_between_two_closes_is_believed_when_it_stands(side):
    """The position of a short is as large as that of a long: half of 90,000 can be explained."""
    venue = hostile.Valued(says=lambda v, bar, true: true - LOSS if bar >= 28 else true)
    breaker = dict(drawdown_limit=0.1)
    live = dict(stop=False, breaker=breaker, feed=dict(idle=30), clock=Clock(step=1.0))
    run(venue, CALM, entry(side, 900), **live)
    assert venue.sizes == [side * 900, 0]


def test_bad_values_with_good_ones_between_them_are_never_enough():
    """Five bars far from each other are wrong; three in a row would have been believed."""
    wrong = (22, 25, 28, 31, 34)
    venue = hostile.Valued(says=lambda v, bar, true: true - LOSS if bar in wrong else true)
    breaker = dict(drawdown_limit=0.1)
    strategy, journal = run(venue, CALM, entry(1, 900), stop=False, breaker=breaker)
    assert strategy.held[-1] == (900,)
    assert reasons(journal, "halt") == []


def test_a_small_position_that_is_left_out_is_no_loss():
    """The broker reports cash alone: 96,000 of 100,000, within the jump that needs no reason."""
    venue = hostile.Valued(says=lambda v, bar, true: v.cash)
    breaker = dict(drawdown_limit=0.03)
    strategy, journal = run(venue, CALM, entry(1, 40), stop=False, breaker=breaker)
    assert strategy.held[-1] == (40,)
    assert (
        "96000 is not equity; cash and positions, 100000, are used"
        in (reasons(journal, "equity")[0])
    )


def test_a_value_that_need_not_move_may_stand_still():
    """One unit gains and loses a point: a ten-thousandth of the account would be ten."""
    rows = [(100 + k % 2, 102, 99, 100 + k % 2) for k in range(27)]
    venue = hostile.Valued(says=lambda v, bar, true: round(true, -3))
    _, journal = run(venue, rows, entry(1, 1), stop=False, breaker={})
    assert reasons(journal, "equity") == []


def test_commission_explains_what_it_takes():
    """0.5 % of 90,000 is 450, and no more than 100 may go without a reason."""

    class Charging(FakeBroker):
        def start(self):
            super().start()
            self.setcommission(commission=0.005)

        def _try(self, order):
            fills = len(self.sizes)
            super()._try(order)
            if len(self.sizes) > fills:
                self.cash -= order.executed.comm

    venue = Charging()
    live = dict(stop=False, breaker={}, equity_jump_limit=0.001)
    _, journal = run(venue, CALM, entry(1, 900), **live)
    assert venue.cash == 100_000.0 - 90_000.0 - 450.0
    assert reasons(journal, "equity") == []
