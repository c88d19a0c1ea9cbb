"""A flatten goes on until the broker holds nothing, whatever it answers to our exits."""

import backtrader as bt
import pytest
from helpers.hand_traded import HandTraded, run
from helpers.scenarios import bars, flat

from bt_risk.limits.base import NotionalLimit


def lines(journal, action):
    return journal[journal.action == action].reason.tolist()


def halt(strategy):
    strategy.broker.halt("enough", flatten=True)


def entry(side, size=10):
    return {20: lambda s: s.buy(size=size) if side > 0 else s.sell(size=size), 26: halt}


class Closed(HandTraded):
    """Reject every market order that closes something while bars `at` last."""

    params = (("at", range(26, 60)),)

    def start(self):
        super().start()
        self.rejected = 0

    def _answer(self, order):
        exits = self._positions[order.data].size * order.size < 0
        market = order.exectype in (None, bt.Order.Market)
        if exits and market and len(order.data) in self.p.at:
            self.rejected += 1
            self._end(order, order.reject)
        else:
            super()._answer(order)


@pytest.mark.parametrize("side", [1, -1])
def test_an_exit_that_is_rejected_is_tried_again_until_the_market_opens(side):
    options = {"kind": Closed, "reconcile_every": 0.0}
    venue, _, journal = run({}, entry(side), flat(80), **options)
    assert venue.sizes == [side * 10, 0]
    seconds = 34 * 4 * 2.0  # bars, rounds of each, seconds of a round
    assert 0.5 * seconds / 5.0 < venue.rejected <= seconds / 5.0  # every `retry_after`
    alerts = lines(journal, "unfinished")
    assert len(alerts) >= 3
    assert alerts[0].endswith(f"{side * 10:+g} D0 is still held")
    assert lines(journal, "flat") == ["flat: enough"]


class DeafToStops(HandTraded):
    """Answer no cancel of a stop."""

    def cancel(self, order):
        if order.exectype != bt.Order.Stop:
            super().cancel(order)


@pytest.mark.parametrize("side", [1, -1])
def test_two_owners_behind_stops_that_do_not_answer_are_both_closed(side):
    options = {"kind": DeafToStops, "lists": False, "strategies": 2}
    venue, strategy, journal = run({}, entry(side), flat(70), **options)
    assert venue.sizes == [side * 10, side * 20, side * 10, 0]
    assert strategy.broker.book.instruments[0].size == 0
    assert len(lines(journal, "left over")) == 2


class OtherUnits(DeafToStops):
    """Report `says_of(size)` instead of the size that is held, once something was traded."""

    says_of = None

    def getposition(self, data, clone=True):
        position = super().getposition(data).clone()
        position.size = type(self).says_of(position.size) if self.sizes else 0.0
        return position


@pytest.mark.parametrize("every", [0.0, 5.0])
@pytest.mark.parametrize(
    "says", [lambda size: size / 10.0, lambda size: 0.0, lambda size: 7.0], ids=["lots", "0", "7"]
)
@pytest.mark.parametrize("side", [1, -1])
def test_a_broker_that_counts_otherwise_neither_blocks_nor_changes_a_flatten(side, says, every):
    class Counting(OtherUnits):
        says_of = staticmethod(says)

    options = {"kind": Counting, "lists": False, "reconcile_every": every}
    venue, _, journal = run({}, entry(side), flat(70), **options)
    assert venue.sizes == [side * 10, 0]
    assert lines(journal, "flat") == ["flat: enough"]


@pytest.mark.parametrize("side", [1, -1])
def test_a_rotation_does_not_wait_for_a_stop_that_does_not_answer(side):
    """The entry needs the room of the exit, which waits for the cancel of its stop."""

    def rotate(strategy):
        strategy.close()
        (strategy.buy if side > 0 else strategy.sell)(strategy.datas[1], size=600)

    first = entry(side, 600)[20]
    options = {
        "kind": DeafToStops,
        "lists": False,
        "limits": [NotionalLimit(0.7)],
        "frames": [bars(*flat(70)), bars(*flat(70))],
        "handover_timeout": 60.0,
    }
    venue, _, _ = run({}, {20: first, 26: rotate}, **options)
    sizes = [venue._positions[data].size for data in venue.cerebro.datas]
    assert sizes == [0, side * 600]
