"""The checks of a store: a sound one passes them all, and each planted fault is named."""

import pickle
import re
import signal

import backtrader as bt
import pytest
from helpers import doctor_brokers as brokers
from helpers.fake_broker import FakeBroker
from helpers.hostile_brokers import Valued, run
from helpers.scenarios import flat

import bt_risk
from bt_risk.doctor import session
from bt_risk.doctor.factory import Factory
from bt_risk.live.store_settings import StoreSettings

SIZE = 2.0
ALL = dict(replace=True, reduce_only=True, client_ids=True, oco=True, brackets=True)


@pytest.fixture(autouse=True)
def brief_waits(monkeypatch):
    """Watch for less time for what must not come: these venues answer within milliseconds."""
    monkeypatch.setattr(session, "_WATCH", 0.15)


def check(kind, feed=None, **settings):
    """Return the report on a broker, and the broker that was checked."""
    make, book = brokers.factory(kind, feed)
    settings = dict(size=SIZE, yes=True, timeout=2.0, cash=100_000.0) | settings
    report = bt_risk.check_store(make, **settings)
    return report, book["first"], book.get("log", [])


def failures(report):
    return [row.check for row in report.failed]


def is_flat(broker):
    return not any(p.size for p in broker._positions.values()) and not broker._working


# -- a sound store ---------------------------------------------------------------------------------


def test_a_sound_store_passes_and_gets_its_settings():
    report, broker, log = check(brokers.Sound)
    assert failures(report) == []
    assert report.passed
    assert is_flat(broker)
    never = {row.check for row in report.rows if row.result == "not tested"}
    assert never == {"DISCONNECTED", "contract", "buy: partial fills", "type: attached stop"}
    found = report.settings
    assert found.capabilities == ALL | {"stop": True, "trailing": False, "order_lists": True}
    assert (found.equity, found.stale_after) == ("broker", 180.0)
    assert found.instruments == {"AAA": {"tick": 0.05}}
    assert {size for _, size, _ in log} == {SIZE, SIZE / 2}
    assert "refused" in report.row("type: trailing stop").seen


def test_nothing_is_sent_without_yes():
    report, broker, log = check(brokers.Sound, yes=False)
    assert log == []
    assert failures(report) == []
    assert "2 AAA, worth 2" in report.row("buy").seen
    assert report.row("stop").seen.startswith("would send a stop 5 % below the market")
    assert report.settings.capabilities == {}


def test_a_size_of_one_contract_is_found_by_the_refusal_of_half():
    report, _, _ = check(brokers.Sound, size=1.0)
    assert report.settings.instruments["AAA"]["step"] == 1.0


def test_what_the_account_held_before_is_left_alone():
    def start(self):
        brokers.Sound.start(self)
        if self.first is self:
            data = self.cerebro.datas[0]
            self._positions[data].update(7.0, 100.0)

    report, broker, _ = check(type("Holding", (brokers.Sound,), {"start": start}))
    assert failures(report) == []
    assert report.row("reduce_only").result == "not tested"
    assert [p.size for p in broker._positions.values()] == [7.0]


@pytest.mark.parametrize(
    ("ratio", "result", "words"),
    [
        (0.25, "pass", "reports 0.25 of the equity"),
        (25.0, "fail", "reports 25, which can be none: 0 is nothing needed"),
        (RuntimeError("no account"), "fail", "RuntimeError: no account.*margin_ratio="),
    ],
    ids=["fraction", "percent", "error"],
)
def test_a_margin_ratio_is_a_fraction(ratio, result, words):
    def margin_ratio(self):
        if isinstance(ratio, Exception):
            raise ratio
        return ratio

    report, _, _ = check(
        type("Margined", (brokers.Sound,), {"margin_ratio": margin_ratio}), yes=False
    )
    row = report.row("margin ratio")
    assert row.result == result
    assert re.search(words, row.seen)


# -- planted faults --------------------------------------------------------------------------------

FULL = pytest.mark.full
PLANTED = [
    (brokers.WithoutPositions, "value with a position", 'leaves positions out.*"positions"'),
    (brokers.Frozen, "value moves with prices", 'it stayed 100,000.00.*"positions"'),
    (brokers.StopAtMarket, "stop: placed", "sent as another type.*False"),
    (brokers.LyingCancel, "cancel of a filled order", "Canceled although it had filled"),
    (brokers.HastyCancel, "cancel of a filled order", "Canceled although it had filled"),
    (brokers.CompletedTwice, "buy: notifications", "Completed 2 times"),
    (brokers.WrongSign, "buy: size and price of the fill", "-2 for a purchase: the sign is wrong"),
    (brokers.Forgetful, "restart: open orders", "lists 0 orders, and not the stop"),
    (brokers.IdleReplace, "stop: triggered", "replace answers yes and does nothing"),
    (brokers.TrailingAtMarket, "type: trailing stop", "sent as a market order and filled at once"),
    (brokers.BrokenList, "stop: listed", "RuntimeError: not implemented for this exchange"),
    (brokers.LoneOrders, "type: OCO", "neither ends the other"),
    (brokers.LoneOrders, "type: bracket", "works on when its parent is cancelled"),
    (brokers.FailingLoop, "the store's own methods", "next.. has raised KeyError"),
    (brokers.Fictional, "cash", "reports 1,000,000.00, the account has 100,000.00"),
    (brokers.Fictional, "cash with a position", "cash stayed 1,000,000.00"),
]
ALWAYS = {0, 2, 4, 8, 9}


@pytest.mark.parametrize(
    ("kind", "row", "words"),
    [pytest.param(*p, marks=() if n in ALWAYS else FULL) for n, p in enumerate(PLANTED)],
)
def test_a_planted_fault_is_named_and_all_is_closed(kind, row, words):
    report, broker, _ = check(kind, timeout=1.0)
    assert row in failures(report)
    assert not report.passed
    assert re.search(words, report.row(row).seen), report.row(row).seen
    assert is_flat(broker)
    assert report.left == []


def test_each_fault_sets_what_goes_around_it():
    assert check(brokers.WithoutPositions, timeout=1.0)[0].settings.equity == "positions"
    found = check(brokers.HastyCancel)[0].settings.capabilities
    assert found["stop"] is False
    assert check(brokers.LoneOrders)[0].settings.capabilities["oco"] is False


@pytest.mark.full
def test_a_broker_without_value_and_cash_needs_a_callable():
    report, _, _ = check(brokers.Fictional, timeout=1.0)
    assert report.settings.equity == "callable"


@pytest.mark.full
def test_a_replace_that_does_nothing_is_not_declared():
    report, _, _ = check(brokers.IdleReplace, timeout=1.0)
    assert report.settings.capabilities["replace"] is False


@pytest.mark.parametrize("kind", [brokers.MarketAhead, brokers.MarketAheadWithoutReplace])
def test_a_stop_that_the_market_has_passed_on_its_way_is_sent_again(kind):
    report, broker, _ = check(kind)
    assert failures(report) == []
    assert "it filled at" in report.row("stop: triggered").seen
    assert broker.passed < 0
    assert is_flat(broker)


def test_stops_that_are_never_taken_near_the_market_are_a_fault():
    report, broker, _ = check(brokers.NoStopsNear)
    seen = "replace returned False, 3 times near the market: declare no replace"
    assert report.row("stop: triggered").seen == seen
    assert report.settings.capabilities["replace"] is False
    assert is_flat(broker)
    report, broker, _ = check(brokers.NoStopsNearWithoutReplace)
    seen = "3 stops near the market have ended without a fill, the last, at .*, as .*Rejected"
    assert re.match(seen, report.row("stop: triggered").seen)
    assert is_flat(broker)


def test_an_oco_group_that_only_a_fill_ends_is_one():
    report, broker, _ = check(brokers.OcoByFill)
    assert report.row("type: OCO").seen.startswith("the fill of one has ended the other")
    assert report.settings.capabilities["oco"] is True
    assert is_flat(broker)


def test_fills_without_a_word_end_the_checks_and_are_closed():
    report, broker, log = check(brokers.SilentFill, timeout=0.5)
    assert "buy: notifications" in failures(report)
    assert report.row("types").seen == "fills are not reported, and bt_risk relies on them"
    assert is_flat(broker)
    assert len(log) == 2  # the purchase, and the sale of what the broker reports
    assert report.left[0].startswith("the buy at the market may still be working")


def test_orders_that_cannot_be_cancelled_are_few_and_named():
    report, broker, _ = check(brokers.RefusedCancel, timeout=0.5)
    assert report.row("stop: cancelled").seen == "cancel has raised ConnectionError: no answer"
    assert "cannot be cancelled" in report.row("types").seen
    assert len(broker._working) == 1
    assert len(report.left) == 1
    assert "may still be working" in report.left[0]
    assert not any(p.size for p in broker._positions.values())


# -- a stop that is sent with its entry ------------------------------------------------------------


def test_a_broker_that_attaches_stops_is_found_to_do_so():
    report, broker, _ = check(brokers.Attaching)
    assert failures(report) == []
    assert report.settings.capabilities["attached"] is True
    row = report.row("type: attached stop").seen
    assert re.search(r"only works for what that fills; it filled at [0-9.]+$", row)
    assert is_flat(broker)
    assert report.left == []


ATTACHED = [
    (brokers.EagerEntry, "the entry does not wait for its child: Submitted, Accepted, Completed"),
    (brokers.OpeningChild, "has filled before its entry, and would have opened a position"),
    (brokers.StayingChild, "the child works on when its entry is cancelled unfilled"),
    (brokers.TakingEntry, "the entry has ended with its child"),
    (brokers.UnlistedChild, "the list of open orders lacks the child when its entry has filled"),
    (brokers.RefusedChild, "the child is refused: Submitted, Rejected"),
]


@pytest.mark.parametrize(
    ("kind", "words"),
    [pytest.param(*p, marks=() if n in (0, 1) else FULL) for n, p in enumerate(ATTACHED)],
)
def test_a_broker_that_attaches_stops_wrongly_is_told_to_declare_it_no_more(kind, words):
    report, broker, _ = check(kind, timeout=1.0)
    seen = report.row("type: attached stop")
    assert seen.result == "fail"
    assert words in seen.seen
    assert 'declare no "attached"' in seen.seen
    assert report.settings.capabilities["attached"] is False
    assert is_flat(broker)
    assert report.left == []


@pytest.mark.full
def test_attached_without_brackets_is_none():
    class Both(brokers.LoneOrders, brokers.Attaching):
        pass

    report, broker, _ = check(Both, timeout=1.0)
    seen = report.row("type: attached stop").seen
    assert seen.startswith("it needs brackets, which this store lacks")
    assert is_flat(broker)


# -- what ends a run -------------------------------------------------------------------------------


def test_ctrl_c_closes_everything():
    class Interrupted(brokers.Sound):
        def _answer(self, order):
            super()._answer(order)
            if order.exectype == bt.Order.Stop and not self.p.book.get("struck"):
                self.p.book["struck"] = True
                signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    report, broker, log = check(Interrupted)
    assert "interrupted: the checks are not complete" in report.row("the run").seen
    assert len(log) == 3  # purchase, stop, sale
    assert is_flat(broker)
    assert report.left == []
    assert signal.getsignal(signal.SIGINT) is before


def test_an_error_inside_the_store_ends_no_cleaning_up():
    class Raising(brokers.Walk):
        def _load(self):
            if len(self) > 60:
                raise ZeroDivisionError("the feed")
            return super()._load()

    class AtOnce(brokers.Sound):
        """Fill without bars: after the error there are none."""

        def next(self):
            self._accepted_at = dict.fromkeys(self._accepted_at, -1)
            super().next()

    book = {}
    report = bt_risk.check_store(
        lambda: (AtOnce(book=book), Raising()), size=SIZE, yes=True, timeout=2.0
    )
    seen = [row.seen for row in report.failed if row.check == "the run"]
    assert seen[0] == "it has ended with ZeroDivisionError: the feed"
    assert seen[1] == "the data feed has ended: the checks are not complete"
    assert report.left == []
    assert is_flat(book["first"])


def test_a_data_feed_that_brings_nothing_or_is_not_live_is_named():
    report, _, log = check(brokers.Sound, feed={"bars": 0}, timeout=0.3)
    assert "the data feed has ended" in report.row("the run").seen
    assert log == []
    report, _, _ = check(brokers.Sound, feed={"live": False}, yes=False, timeout=0.3)
    assert failures(report) == ["islive()", "LIVE status"]


# -- what a factory may return ---------------------------------------------------------------------


def test_a_factory_returns_a_broker_with_feeds_or_a_cerebro():
    def cerebro():
        engine = bt.Cerebro()
        engine.adddata(brokers.Walk(), name="BBB")
        engine.setbroker(FakeBroker())
        return engine

    report = bt_risk.check_store(cerebro, data="BBB", timeout=0.5)
    assert report.store == "helpers.fake_broker.FakeBroker"
    assert report.row("bars").result == "pass"
    report = bt_risk.check_store(FakeBroker, timeout=0.5)
    assert report.row("value").result == "pass"
    assert report.row("buy").seen == "would send a purchase at the market"


def protected():
    engine = bt.Cerebro()
    engine.setbroker(FakeBroker())
    bt_risk.protect(engine)
    return engine


def with_strategy():
    engine = bt.Cerebro()
    engine.setbroker(FakeBroker())
    engine.addstrategy(bt.Strategy)
    return engine


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (None, "make_broker must be a callable"),
        (lambda: None, "make_broker must be a callable that returns a live broker"),
        (lambda: (FakeBroker(), 3), "make_broker must be a callable that returns a live broker"),
        (bt.Cerebro, "own simulation needs no settings"),
        (lambda: bt.brokers.BackBroker(), "own simulation needs no settings"),
        (with_strategy, "It has a strategy"),
        (protected, "checked without bt_risk"),
        (lambda: bt_risk.RiskBroker(FakeBroker()), "checked without bt_risk"),
    ],
)
def test_anything_else_is_one_clear_error(make, words):
    with pytest.raises(bt_risk.ParameterError, match=words):
        bt_risk.check_store(make)


def test_orders_need_a_size_and_a_data_feed():
    make, _ = brokers.factory(brokers.Sound)
    with pytest.raises(bt_risk.ParameterError, match="size must be given with yes"):
        bt_risk.check_store(make, yes=True)
    with pytest.raises(bt_risk.ParameterError, match="make_broker must be one with a data feed"):
        bt_risk.check_store(FakeBroker, yes=True, size=1.0)
    with pytest.raises(bt_risk.ParameterError, match="data must be one of AAA; got 'BBB'"):
        bt_risk.check_store(make, data="BBB")


def test_a_factory_by_name_pickles_and_names_its_mistakes(tmp_path):
    file = tmp_path / "some_store.py"
    file.write_text("def make():\n    return 5\n\nvalue = 3\n")
    made = pickle.loads(pickle.dumps(Factory(f"{file}:make")))
    assert made() == 5
    for text, words in [
        ("make", "FACTORY must be like"),
        (f"{file}:value", "FACTORY must be a function of"),
        (f"{tmp_path}/none.py:make", "FACTORY must be an existing file"),
    ]:
        with pytest.raises(bt_risk.ParameterError, match=words):
            Factory(text)()
    with pytest.raises(bt_risk.DataError, match="no_such_module cannot be imported"):
        Factory("no_such_module:make")()


# -- the settings as a file ------------------------------------------------------------------------


def test_the_report_writes_what_protect_reads(tmp_path):
    path = tmp_path / "store.toml"
    report, _, _ = check(brokers.LoneOrders)
    text = report.to_toml(path)
    assert text.startswith("# bt-risk doctor, helpers.doctor_brokers.LoneOrders: ")
    assert "# type: OCO: the orders are sent one by one" in text
    assert StoreSettings.from_toml(path) == report.settings
    engine = bt.Cerebro()
    policy = bt_risk.Policy(instruments={"AAA": {"tick": 0.5, "step": 3.0}, "BBB": {"step": 1.0}})
    bt_risk.protect(
        engine, policy, store=path, stale_after=7, capabilities={"oco": True, "trailing": True}
    )
    install = engine.stores[0]
    assert install.live.stale_after == 7
    assert install.live.capabilities == report.settings.capabilities | {
        "oco": True,
        "trailing": True,
    }
    assert install.instruments == {"AAA": {"tick": 0.5, "step": 3.0}, "BBB": {"step": 1.0}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("equity = 3", "equity must be one of 'broker', 'positions', 'callable'; got 3"),
        ("stale_after = -1", "stale_after must be positive"),
        ("stale_aftr = 90", "a key must be one of .*Did you mean stale_after"),
        ("retry_after = 90", "a key must be one of .*Other settings are for protect"),
        ("capabilities = {stops = true}", "capabilities must be named stop"),
        ("capabilities = 3", "capabilities must be a dict"),
        ("[instruments.A]\ntikc = 1", "instruments.*facts named step"),
        ("equity = ", "the file must be TOML"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_the_file(tmp_path, text, words):
    path = tmp_path / "store.toml"
    path.write_text(text)
    with pytest.raises(bt_risk.ParameterError, match=words) as error:
        bt_risk.protect(bt.Cerebro(), store=path)
    assert "store.toml" in str(error.value)


def test_a_store_without_equity_needs_a_callable(tmp_path):
    path = tmp_path / "store.toml"
    path.write_text(StoreSettings(equity="callable").to_toml())
    with pytest.raises(bt_risk.ParameterError, match="equity must be a callable that returns"):
        bt_risk.protect(bt.Cerebro(), store=path)
    engine = bt.Cerebro()
    bt_risk.protect(engine, store=path, equity=lambda: 5.0)
    assert engine.stores[0].live.equity() == 5.0


def test_no_file_and_something_else_than_a_path():
    with pytest.raises(bt_risk.ParameterError, match="store must be an existing file"):
        bt_risk.protect(bt.Cerebro(), store="none.toml")
    with pytest.raises(bt_risk.ParameterError, match="store must be a path of a TOML file"):
        bt_risk.protect(bt.Cerebro(), store=FakeBroker())


# -- equity by positions ---------------------------------------------------------------------------

HALF = [(110.0, 111.0, 109.0, 110.0)]
MOVES = [*flat(20), *HALF, *[(112.0, 113.0, 111.0, 112.0)] * 4]


def test_equity_by_positions_leaves_the_value_of_the_broker_aside():
    seen = []

    class Watched(Valued):
        def next(self):
            super().next()
            gate = bt_risk.RiskBroker.of(self.cerebro.runningstrats[0])
            seen.append(gate.equity())

    broker = Watched(says=lambda broker, bar, true: 500_000.0 + bar)
    actions = {18: lambda s: s.buy(size=10)}
    _, journal = run(broker, MOVES, actions, stop=False, equity="positions")
    assert "equity" not in set(journal.action)
    assert max(value for value in seen if value == value) < 101_000.0


def test_the_source_of_equity_is_checked():
    for source in ("broker", "positions", None, lambda: 1.0):
        assert bt_risk.Live(equity=source).equity is source
    with pytest.raises(bt_risk.ParameterError, match="equity must be 'broker', 'positions' or"):
        bt_risk.Live(equity="cash")


# -- the example on the loopback exchange ----------------------------------------------------------

SWING = [99.9, 100.1, 100.3, 100.0, 99.8, 100.0, 100.2]


def swings(count):
    """Return bars whose close goes up and down within half a percent."""
    closes = [SWING[k % len(SWING)] for k in range(count)]
    pairs = zip([100.0, *closes], closes, strict=False)
    return [(o, max(o, c) + 0.1, min(o, c) - 0.1, c) for o, c in pairs]


@pytest.mark.full
def test_the_example_passes_on_the_loopback_exchange(tmp_path):
    from helpers.live_exchange import Lockstep, exchange, live_ccxt

    with exchange(swings(4000), 30, tmp_path) as one:
        one.call("set", {"market": "now"})

        stores = []

        def make():
            store = live_ccxt.Store(one.client(), "BTC/USDT", f"ws://127.0.0.1:{one.port}/ws")
            store.start()
            stores.append(store)
            data = Lockstep(store=store, exchange=one, qcheck=0.001, idle=8, name="BTC")
            return live_ccxt.Broker(store=store, data=data, poll=0.0), data

        report = bt_risk.check_store(make, size=0.5, yes=True, cash=100_000.0, timeout=5.0)
        book = one.book
        for store in stores:
            store.stop()
    assert [(row.check, row.seen) for row in report.failed] == []
    assert (book["position"], book["open"]) == (0.0, [])
    assert report.left == []
    kinds = {order["type"] for order in book["orders"]}
    assert kinds == {"MARKET", "LIMIT", "STOP_LOSS"}
    assert report.row("restart: open orders").result == "pass"
    found = report.settings
    assert (found.equity, found.stale_after) == ("broker", 180.0)
    none = dict.fromkeys(("trailing", "oco", "brackets"), False)
    some = dict.fromkeys(("stop", "replace", "client_ids", "order_lists"), True)
    assert found.capabilities == none | some


@pytest.mark.full
def test_the_store_of_interactive_brokers_passes():
    pytest.importorskip("ib_async")
    from helpers import ib_run

    from bt_risk.stores.ib import IBBroker

    with ib_run.tws(swings(20_000), 20) as venue:

        def make():
            contract = ib_run.Contract(
                symbol="AAA", secType="STK", exchange="SMART", currency="USD"
            )
            store = ib_run.connect(venue)
            data = ib_run.Lockstep(store=store, contract=contract, venue=venue, name="AAA")
            return IBBroker(store=store, **ib_run.QUICK), data

        report = bt_risk.check_store(make, size=1, yes=True, cash=100_000.0, timeout=5.0)
        assert [order for order in venue.orders.values() if order.alive] == []
        assert set(venue.positions.values()) == {0.0}
    assert failures(report) == []
    assert report.left == []
    found = report.settings
    assert found.instruments == {"AAA": {"tick": 0.01}}
    wanted = ("stop", "trailing", "oco", "brackets", "replace", "client_ids")
    assert {name: found.capabilities[name] for name in wanted} == dict.fromkeys(wanted, True)
