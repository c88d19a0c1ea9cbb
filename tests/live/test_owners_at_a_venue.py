"""One strategy closes at a live broker: what it sells of others has no stop behind it meanwhile."""

import backtrader as bt
import pytest
from helpers.owners import NotingBroker, closes, enters, leaves, mirrored, run_owners
from helpers.persistent_broker import PersistentBroker, PersistentFeed, read
from helpers.restarts import POLICY, STILL
from helpers.scenarios import Script, bars, flat

import bt_risk

SHORT = pytest.param(-1, marks=pytest.mark.full, id="short")
SIDES = pytest.mark.parametrize("side", [pytest.param(1, id="long"), SHORT])
TWO = pytest.param(("reduce_only", "two_exits"), marks=pytest.mark.full)
CAN = pytest.mark.parametrize("can", [(), ("replace",), TWO])
LIMIT, STOP = bt.Order.Limit, bt.Order.Stop
PAIR = ("reduce_only", "two_exits")


def two(side, closing, other=None):
    """Return the plans of two owners, of 10 and 60; the first sends `closing` on bar 25."""
    return [{20: enters(side, 10), 25: closing}, {20: enters(side, 60), **(other or {})}]


def sizes(strategies):
    """Return what each strategy holds, in its sequence."""
    parts = strategies[0].broker.book.parts
    return [parts[0, strategy].size for strategy in strategies]


@SIDES
@CAN
@pytest.mark.parametrize("lag", [0, 2])
def test_no_stop_rests_behind_what_the_close_of_another_owner_sells(side, can, lag):
    venue = NotingBroker(can=can, lag=lag)
    strategies = run_owners(venue, flat(32), two(side, closes), side=side)
    assert venue.beyond == []
    assert venue.sizes == [side * 10, side * 70, 0]
    assert sizes(strategies) == [0, 0]
    assert not venue._working
    assert strategies[0].broker.book.working == {}


@SIDES
def test_a_bar_through_the_stop_opens_nothing_while_the_close_of_another_is_on_its_way(side):
    """The exit, order 5, takes until bar 30; on bar 27 the price falls far below both stops."""
    rows = [*flat(26), (100, 100, 70, 75), *flat(8, price=75.0)]
    venue = NotingBroker(slow={5: 30})
    strategies = run_owners(venue, rows, two(side, closes), side=side)
    assert venue.sizes == [side * 10, side * 70, 0]
    assert sizes(strategies) == [0, 0]


@SIDES
@CAN
def test_the_stops_of_all_owners_are_back_where_the_close_is_refused(side, can):
    venue = NotingBroker(can=can, reject=("V5",))
    strategies = run_owners(venue, flat(32), two(side, closes), side=side)
    assert strategies[0].orders[-1][2] == "Rejected"
    assert sizes(strategies) == [side * 10, side * 60]
    assert venue.rounds[-1] == (32, 70, [10, 60], [])
    assert venue.beyond == []


@SIDES
@CAN
def test_a_close_that_is_cancelled_when_a_part_of_it_has_filled_leaves_stops_for_the_rest(
    side, can
):
    """30 of 70 fill on bar 26: the closer's 10 first, then 20 of the other's 60."""
    venue = NotingBroker(can=can, parts={5: 30}, slow={5: 26})
    plans = two(side, closes)
    plans[0][26] = lambda s: s.cancel(s.made[-1])
    strategies = run_owners(venue, flat(34), plans, side=side)
    assert venue.sizes == [side * 10, side * 70, side * 40]
    assert sizes(strategies) == [0, side * 40]
    assert venue.rounds[-1] == (34, 40, [40], [])
    assert venue.beyond == []


@SIDES
def test_what_another_owner_adds_while_the_close_is_on_its_way_has_a_stop(side):
    """The exit takes until bar 30; 8 are bought on bar 26."""
    venue = NotingBroker(slow={5: 30})
    plans = two(side, closes, {26: enters(side, 8)})
    strategies = run_owners(venue, flat(35), plans, side=side)
    assert (29, 78, [8], [70]) in venue.rounds
    assert sizes(strategies) == [0, side * 8]
    assert venue.rounds[-1] == (35, 8, [8], [])
    assert venue.beyond == []


@SIDES
def test_a_flatten_leaves_out_what_the_close_of_another_owner_sells(side):
    venue = NotingBroker(slow={5: 30})
    plans = two(side, closes, {27: lambda s: s.broker.halt("enough", flatten=True)})
    run_owners(venue, flat(35), plans, side=side)
    assert venue.sizes == [side * 10, side * 70, 0]
    assert venue.beyond == []


class Losing(NotingBroker):
    """Lose order 5 without a word, as if it had never arrived."""

    def next(self):
        for order in [one for one in self._working if one.info.number == 5]:
            self._working.remove(order)
            self._news.clear()
        super().next()


@SIDES
def test_a_flatten_sells_what_the_lost_close_of_another_owner_would_have_sold(side):
    venue = Losing()
    plans = two(side, closes, {26: lambda s: s.broker.halt("enough", flatten=True)})
    ticks = iter(range(10**6))
    options = {"clock": lambda: 0.1 * next(ticks), "reconcile_every": 0.0}
    run_owners(venue, flat(60), plans, side=side, **options)
    assert venue.sizes[-1] == 0
    assert min(side * size for size in venue.sizes) == 0


@SIDES
def test_of_two_closes_and_a_sale_of_others_each_unit_is_sold_once(side):
    """10, 60 and 30 are held; the third sells 12 itself, and the first closes twice."""

    def twice(s):
        return [s.close(), s.close()]

    plans = [*two(side, twice), {20: enters(side, 30), 25: leaves(side, 12)}]
    venue = NotingBroker(parts={7: 5})
    strategies = run_owners(venue, flat(36), plans, side=side)
    assert venue.beyond == []
    assert venue.sizes[-1] == 0
    assert sizes(strategies) == [0, 0, 0]


@SIDES
def test_a_second_close_makes_room_for_what_the_first_leaves_to_it(side):
    """Two owners close the 60 of the second, that one once 70 more are held by a third.

    40 of these have a stop by then.
    """
    plans = [{25: closes}, {20: enters(side, 60), 25: closes}]
    plans.append({26: enters(side, 40), 28: enters(side, 30)})
    venue = NotingBroker(slow={3: 32}, lag=2)
    strategies = run_owners(venue, flat(36), plans, side=side)
    assert (28, 100, [40], [60]) in venue.rounds
    assert (31, 70, [10], [60]) in venue.rounds
    assert venue.beyond == []
    assert sizes(strategies) == [0, 0, side * 10]
    assert venue.rounds[-1] == (36, 10, [10], [])


@SIDES
def test_a_sale_beside_a_close_that_sells_it_already_ends_and_takes_nothing_from_others(side):
    """The first closes 70 on the bar on which the second sells its 60, and the third buys 30."""
    plans = [*two(side, closes, {25: leaves(side, 60)}), {25: enters(side, 30)}]
    strategies = run_owners(NotingBroker(), flat(32), plans, side=side)
    assert strategies[1].orders[-1][2] == "Canceled"
    assert sizes(strategies) == [0, 0, side * 30]


# -- a stop on the close -------------------------------------------------------------------------

CRASH = [*flat(25), (100, 100, 85, 86), *flat(8, price=86.0)]


@SIDES
@pytest.mark.parametrize("refused", [False, True])
def test_a_stop_on_the_close_sells_nothing_that_the_strategy_is_selling(side, refused):
    """The close of bar 26 is beyond the stop, and the strategy's own exit, order 2, is on its way.

    It fills on bar 28; where it is refused, the stop closes all.
    """
    venue = NotingBroker(slow={2: 28}, reject=("V2",) if refused else ())
    plans = [{20: enters(side, 10), 25: closes}]
    strategies = run_owners(venue, CRASH, plans, side=side, trigger="close")
    assert venue.beyond == []
    assert venue.sizes == [side * 10, 0]
    assert [row[3] for row in venue.requests if row[0] == "send"] == [10] * (3 if refused else 2)
    assert strategies[0].broker.book.working == {}


@SIDES
def test_a_stop_on_the_close_sells_nothing_that_the_close_of_another_owner_does(side):
    venue = NotingBroker(slow={3: 28})
    strategies = run_owners(venue, CRASH, two(side, closes), side=side, trigger="close")
    assert venue.beyond == []
    assert venue.sizes == [side * 10, side * 70, 0]
    assert strategies[0].broker.book.working == {}


@SIDES
def test_a_stop_on_the_close_waits_until_what_rests_is_cancelled(side):
    """The price is back on bar 27: the close of bar 26 counts all the same."""
    limit = leaves(side, 10, exectype=LIMIT, price=100.0 + 20 * side)
    venue, rows = NotingBroker(lag=2), [*CRASH[:26], *flat(6)]
    run_owners(venue, rows, [{20: enters(side, 10), 23: limit}], side=side, trigger="close")
    assert venue.sizes == [side * 10, 0]
    assert [row[0] for row in venue.requests][-1] == "send"
    assert "cancel" in [row[0] for row in venue.requests]


# -- what rests of other owners --------------------------------------------------------------------


@SIDES
def test_the_stop_order_of_another_owner_rests_beside_a_close_that_waits_for_its_price(side):
    """A limit that closes all and a stop of one owner are two exits: both may rest."""
    price = {1: 110.0, -1: 90.0}

    def close_at(s):
        return s.close(exectype=LIMIT, price=price[side])

    loss = leaves(side, 60, exectype=STOP, price=price[-side])
    venue = NotingBroker()
    rows = [*flat(32), (100, 100, 89, 89), *flat(3, price=89.0)]
    strategies = run_owners(venue, rows, two(side, close_at, {27: loss}), side=side)
    # Two stops of ours, of 10 and 60, and the strategy's.
    assert (30, 70, [10, 60, 60], []) in venue.rounds
    assert venue.sizes[-1] == 0
    assert strategies[0].broker.book.working == {}


@SIDES
def test_a_limit_of_another_owner_waits_for_a_close_at_a_limit(side):
    """The limit that closes all 70 rests; one of 60 beside it could open a position.

    Of 5 that its owner adds later the limit of the other may sell as much.
    """
    price = {1: 110.0, -1: 90.0}

    def close_at(s):
        return s.close(exectype=LIMIT, price=price[side])

    profit = leaves(side, 60, exectype=LIMIT, price=price[side])
    venue = NotingBroker()
    plans = two(side, close_at, {26: profit})
    plans[0] |= {28: enters(side, 5), 30: lambda s: s.cancel(s.made[1])}
    resting = {}

    def note(bar):
        return lambda s: resting.update({bar: sorted(abs(w.executed.remsize) for w in limits())})

    def limits():
        return [order for order in venue._working if order.exectype == LIMIT]

    plans.append({27: note(27), 30: note(30), 34: note(34)})
    run_owners(venue, flat(35), plans, side=side)
    assert resting == {27: [70], 30: [5, 70], 34: [60]}


def close_behind(side, other):
    """Let one owner close 70 at a limit after another did `other`; return what rests of limits."""
    resting = []

    def close_at(s):
        return s.close(exectype=LIMIT, price=100.0 + side * 10)

    def note(s):
        limits = [order for order in venue._working if order.exectype == LIMIT]
        resting.append(sorted(abs(order.executed.remsize) for order in limits))

    plans = [{20: enters(side, 10), 27: close_at, 29: note}]
    plans.append({20: enters(side, 60), 25: other})
    venue = NotingBroker(slow={5: 30})
    run_owners(venue, flat(35), plans, side=side)
    return resting, venue.sizes[2:]


@SIDES
def test_a_close_at_a_limit_leaves_out_what_another_owner_sells_at_the_market(side):
    """Of 70, 20 are on their way out until bar 30: 50 may rest at the limit."""
    assert close_behind(side, leaves(side, 20)) == ([[50]], [side * 50])


@SIDES
def test_a_close_at_a_limit_leaves_out_the_limit_of_another_owner(side):
    profit = leaves(side, 60, exectype=LIMIT, price=100.0 + side * 10)
    assert close_behind(side, profit) == ([[10, 60]], [])


# -- a restart -------------------------------------------------------------------------------------


class Planned(Script):
    """Play a plan by the date of the bar, so that a second run goes on with it."""

    def next(self):
        action = (self.p.actions or {}).get(self.data.datetime.date(0).day)
        if action is not None:
            action(self)


def two_run(folder, rows, plans, venue=PersistentBroker, can=None):
    """Let two owners trade at a venue whose book is in a file, until the rows end."""
    engine = bt.Cerebro(stdstats=False)
    history = read(folder / "venue.json")["clock"].get("D0", 0)
    engine.adddata(PersistentFeed(dataname=bars(*rows), history=history), name="D0")
    engine.setbroker(venue(file=str(folder / "venue.json"), can=can))
    for plan in plans:
        engine.addstrategy(Planned, actions=plan)
    bt_risk.protect(engine, POLICY, state=folder / "risk.db", **STILL)
    return engine.run()


@SIDES
@pytest.mark.parametrize("until", [25, 26])
def test_after_a_restart_no_stop_rests_behind_what_the_close_of_another_owner_sells(
    side, until, tmp_path
):
    """The exit is at the venue when the run ends after bar 25, and has filled after bar 26."""
    rows = mirrored(flat(31), side)
    two_run(tmp_path, rows[:until], two(side, closes))
    strategies = two_run(tmp_path, rows, [{}, {}])
    book = read(tmp_path / "venue.json")
    assert [row["size"] for row in book["log"] if row["what"] == "filled"] == [
        side * 10,
        side * 60,
        -side * 70,
    ]
    for row in [row for row in book["log"] if row["what"] == "guard"]:
        leaving = -side * (sum(size for size, _ in row["stops"]) + sum(row["leaving"]))
        assert leaving <= side * row["held"] or row["bar"] < 25
    assert book["orders"] == []
    assert strategies[0].broker.book.working == {}


UP = [*flat(26), (100, 110, 100, 108), *flat(8, price=108.0)]
DOWN = [*flat(26), (100, 100, 90, 92), *flat(8, price=92.0)]
REDUCING = pytest.mark.parametrize("can", [("reduce_only",), ("reduce_only", "two_exits")])


@SIDES
@REDUCING
@pytest.mark.parametrize(
    ("rows", "venue_sizes", "held"), [(UP, [60, 40, 60], [60, 0]), (DOWN, [60, 40, -20], [0, -20])]
)
def test_of_owners_on_opposite_sides_each_stop_fills_whole(side, can, rows, venue_sizes, held):
    """The venue holds 40: to it, a purchase reduces nothing, and a sale of 60 reduces it by 40."""
    venue = NotingBroker(can=can)
    plans = [{20: enters(side, 60)}, {20: enters(-side, 20)}]
    strategies = run_owners(venue, rows, plans, side=side)
    assert venue.sizes == [side * size for size in venue_sizes]
    assert sizes(strategies) == [side * size for size in held]
    assert strategies[0].analyzers.riskjournal.frame().action.to_list() == ["allow"] * 2 + ["stop"]


@SIDES
@REDUCING
def test_an_exit_against_the_larger_side_of_another_owner_fills(side, can):
    venue = NotingBroker(can=can)
    plans = [{20: enters(side, 60)}, {20: enters(-side, 20), 25: leaves(-side, 20)}]
    strategies = run_owners(venue, flat(32), plans, side=side)
    assert venue.sizes == [side * 60, side * 40, side * 60]
    assert sizes(strategies) == [side * 60, 0]


@SIDES
def test_a_stop_that_may_open_something_moves_alone(side):
    """The stop of 60 is placed while the other owner is short; then prices rise, and it trails."""
    rows = [*flat(25), *[(100 + k, 101 + k, 99 + k, 100 + k) for k in range(6)]]
    venue = NotingBroker(can=("reduce_only", "two_exits"))
    plans = [{21: enters(side, 60)}, {20: enters(-side, 20), 23: leaves(-side, 20)}]
    run_owners(venue, rows, plans, side=side)
    assert venue.sizes == [-side * 20, side * 40, side * 60]
    assert max(len(stops) for bar, _, stops, _ in venue.rounds if bar > 24) == 1


class Hedger(PersistentBroker):
    """Take `reduce_only`: no order of these runs would be cut by it."""

    def buy(self, owner, data, size, reduce_only=False, **kwargs):
        return super().buy(owner, data, size, **kwargs)

    def sell(self, owner, data, size, reduce_only=False, **kwargs):
        return super().sell(owner, data, size, **kwargs)


@SIDES
@pytest.mark.parametrize("until", [24, 26])
def test_a_stop_that_may_open_something_moves_alone_after_a_restart(tmp_path, side, until):
    rows = [*flat(25), *[(100 + k, 101 + k, 99 + k, 100 + k) for k in range(6)]]
    plans = [{21: enters(side, 60)}, {20: enters(-side, 20), 23: leaves(-side, 20)}]
    can = {"order_lists": True, "reduce_only": True, "two_exits": True}
    for last in (until, None):
        two_run(tmp_path, mirrored(rows, side)[:last], plans, can=can, venue=Hedger)
        plans = [{}, {}]
    log = [row for row in read(tmp_path / "venue.json")["log"] if row.get("bar", 0) > 26]
    moves = [row["what"] for row in log if row["what"] in ("sent", "cancel")]
    assert moves[:4] == ["cancel", "sent"] * 2
    assert moves == ["cancel", "sent"] * (len(moves) // 2)


@SIDES
def test_no_second_stop_rests_once_another_owner_is_on_the_other_side(side):
    rows = [*flat(25), *[(100 + k, 101 + k, 99 + k, 100 + k) for k in range(6)]]
    venue = NotingBroker(can=("reduce_only", "two_exits"))
    plans = [{20: enters(side, 60)}, {23: enters(-side, 20)}]
    run_owners(venue, rows, plans, side=side)
    assert venue.sizes[:2] == [side * 60, side * 40]
    assert max(len(stops) for bar, _, stops, _ in venue.rounds if bar > 24) == 1


# The ATR is 2: of an entry at 100 the stop is at 96, and the target of 2 R at 108.
REACHED = {
    "both": [(100, 115, 85, 100), *flat(6)],
    "the target": [(100, 109, 99, 104), (104, 109, 103, 109), *flat(6, price=109.0)],
    "the stop": [(100, 101, 95, 97), *flat(6, price=97.0)],
}


class BothKinds(NotingBroker):
    """Note how many stops and limits of positions on `side` rest in each round."""

    def start(self):
        super().start()
        self.pairs = []

    def next(self):
        super().next()
        rest = [o.exectype for o in self._working if o.isbuy() == (self.side < 0)]
        self.pairs.append((len(self.cerebro.datas[0]), rest.count(STOP), rest.count(LIMIT)))


@SIDES
@pytest.mark.parametrize("can", [PAIR, (*PAIR, "replace")])
@pytest.mark.parametrize("lag", [0, 2])
@pytest.mark.parametrize("other", [19, 22])
@pytest.mark.parametrize("reached", REACHED)
def test_no_target_rests_beside_a_stop_that_may_open_something(side, can, lag, other, reached):
    """The other owner is on the other side before the entry, or after stop and target were sent.

    Of those that were sent before, `reduce_only` keeps the stop from selling all of it at once.
    """
    rows = [*flat(26), *REACHED[reached]]
    venue = BothKinds(can=can, lag=lag)
    plans = [{20: enters(side, 60)}, {other: enters(-side, 20)}]
    limits = [bt_risk.NotionalLimit(50.0), bt_risk.TakeProfit(2.0)]
    strategies = run_owners(venue, rows, plans, side=side, limits=limits)
    assert min(side * size for size in venue.sizes) >= -20
    assert sizes(strategies)[0] * side == (20 if (other, reached) == (22, "both") else 0)
    assert sum(sizes(strategies)) == venue.sizes[-1]
    assert {pair[1:] for pair in venue.pairs if pair[0] == 26} == {(1, 0)}
    notes = [line for line in notes_of(strategies) if "judged at closes" in line]
    assert len(notes) == 2  # one for each of the two


@SIDES
def test_a_target_rests_again_when_nobody_is_on_the_other_side(side):
    """The first stop was sent before the other owner came, so that it has `reduce_only`."""
    venue = BothKinds(can=PAIR)
    plans = [{20: enters(side, 60)}, {22: enters(-side, 20), 24: leaves(-side, 20)}]
    limits = [bt_risk.NotionalLimit(50.0), bt_risk.TakeProfit(2.0)]
    run_owners(venue, flat(30), plans, side=side, limits=limits)
    assert venue.pairs[-1] == (30, 1, 1)


@SIDES
def test_no_target_rests_beside_a_stop_of_an_earlier_opposition(side):
    venue = BothKinds(can=PAIR)
    plans = [{21: enters(side, 60)}, {20: enters(-side, 20), 24: leaves(-side, 20)}]
    limits = [bt_risk.NotionalLimit(50.0), bt_risk.TakeProfit(2.0)]
    run_owners(venue, flat(30), plans, side=side, limits=limits)
    assert venue.pairs[-1] == (30, 1, 0)


def notes_of(strategies):
    frame = strategies[0].analyzers.riskjournal.frame()
    return frame.reason[frame.action == "note"].to_list()
