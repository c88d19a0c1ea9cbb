"""verify: a journal decided again from its inputs, prices and policy."""

import json
import random
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import date, timedelta

import backtrader as bt
import pytest
from helpers import random_market
from helpers.command_line import command_in
from helpers.scenarios import MODES, cerebro, random_walk

import bt_risk
from bt_risk.gate.journal import FIELDS
from bt_risk.state.chain import Chain, add_inputs

POLICY = bt_risk.Policy(
    min_periods=20,
    window=40,
    drawdown_limit=0.08,
    action="pause",
    cooldown_bars=20,
    guards=[bt_risk.CooldownGuard(2)],
)
ENTRY_AT_OPEN = {"cheat_on_open": True}


class Trader(bt.Strategy):
    """Use every kind of order and everything else that a decision depends on, as a seed says."""

    params = {"seed": 0}

    def __init__(self):
        self.rng, self.mine = random.Random(self.p.seed), []
        bt.ind.SMA(self.data, period=7)

    def notify_order(self, order):
        if order.status == order.Completed and self.rng.random() < 0.1:
            self.buy(data=order.data, size=3)

    def next_open(self):
        if self.rng.random() < 0.05:
            self.buy(size=4)

    def next(self):
        if len(self) in (40, 80):
            self.broker.halt("by the user", flatten=len(self) == 80)
        elif len(self) in (44, 84):
            self.broker.resume()
        elif len(self) == 60:
            self.broker.reduce_only("carefully")
        elif len(self) == 63:
            self.broker.resume()
        for data in self.datas:
            act = self.rng.choice(ACTIONS)
            if self.rng.random() < 0.4:
                self.mine += [order for order in act(self, data) or () if order is not None]

    def stop(self):
        self.buy(size=2)

    # -- what it does ----------------------------------------------------------------------------

    def proposed(self, data):
        return [self.buy(data=data) if self.rng.random() < 0.6 else self.sell(data=data)]

    def closed(self, data):
        self.close(data=data)

    def resting(self, data):
        price, size = data.close[0], self.rng.choice([5, 50, 400])
        day = data.datetime.datetime(0) + timedelta(days=3)
        kind = self.rng.choice([bt.Order.Limit, bt.Order.Stop])
        side = self.rng.choice([self.buy, self.sell])
        return [side(data=data, size=size, exectype=kind, price=price * 0.99, valid=day)]

    def bracket(self, data):
        price = data.close[0]
        return self.buy_bracket(
            data=data, size=20, price=price, stopprice=price * 0.95, limitprice=price * 1.05
        )

    def target(self, data):
        self.order_target_percent(data, target=self.rng.choice([-0.3, 0, 0.3, 0.8]))

    def group(self, data):
        price = data.close[0]
        one = self.buy(data=data, size=7, exectype=bt.Order.Limit, price=price * 0.98)
        other = self.sell(data=data, size=7, exectype=bt.Order.Limit, price=price * 1.02, oco=one)
        return [one, other]

    def trail(self, data):
        return [self.buy(data=data, size=9, exectype=bt.Order.StopTrail, trailpercent=0.02)]

    def named_stop(self, data):
        return [self.buy(data=data, size=30, stop_price=data.close[0] * 0.9)]

    def cancelled(self, data):
        if self.mine:
            self.cancel(self.rng.choice(self.mine))

    def cash(self, data):
        self.rng.choice([self.broker.add_cash, self.broker.cash_flow])(500.0)


ACTIONS = [Trader.proposed] * 4 + [Trader.closed, Trader.resting, Trader.bracket] * 2
ACTIONS += [Trader.target, Trader.group, Trader.trail, Trader.named_stop]
ACTIONS += [Trader.cancelled, Trader.cash]


def builder(seed=1, datas=2, mode=None, bars=120):
    """Return a function that builds a Cerebro without strategies."""

    def build():
        frames = [random_walk(10 * seed + n, bars, volatility=0.02) for n in range(datas)]
        return cerebro(*frames, **(mode or {}))

    return build


def recorded(path, build, policy=POLICY, strategies=1, mode="enforce", seed=1):
    """Run a trader and write its journal."""
    engine = build()
    for number in range(strategies):
        engine.addstrategy(Trader, seed=100 * seed + number)
    bt_risk.protect(engine, policy, mode, journal=path)
    engine.run()
    return path


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return recorded(tmp_path_factory.mktemp("verify") / "journal.db", builder())


@pytest.fixture
def path(original, tmp_path):
    """Return a copy of the journal of one run, to be edited."""
    return shutil.copy(original, tmp_path / "journal.db")


def test_a_run_of_every_kind_of_order_is_decided_again(path):
    found = bt_risk.verify(path, builder(), POLICY)
    count = found.chain.lines
    said = f"{count} lines: as they were written, and {count} decided again: equal"
    assert str(found).splitlines()[0] == said
    assert found.repeated > 60
    with closing(sqlite3.connect(path)) as db:
        rules = {json.loads(value)[2] for (value,) in db.execute("SELECT value FROM decisions")}
        calls = {json.loads(value)["call"] for (value,) in db.execute("SELECT value FROM inputs")}
    assert {"RiskPerTrade", "ATRTrailingStop"} <= rules
    assert {"buy", "sell", "cancel", "halt", "resume", "add_cash", "cash_flow", "run"} <= calls


MANY = [
    name if name in ("exactbars", "cheat_on_open") else pytest.param(name, marks=pytest.mark.full)
    for name in (*MODES, "cheat_on_open")
]


@pytest.mark.parametrize("mode", MANY)
def test_every_mode_of_the_engine_is_decided_again(tmp_path, mode):
    build = builder(2, 2, ENTRY_AT_OPEN if mode == "cheat_on_open" else MODES[mode])
    path = recorded(tmp_path / "journal.db", build, seed=2)
    assert bt_risk.verify(path, build, POLICY).equal


@pytest.mark.parametrize(("datas", "strategies", "mode"), [(2, 2, "enforce"), (1, 1, "observe")])
def test_several_strategies_and_observe_mode_are_decided_again(tmp_path, datas, strategies, mode):
    build = builder(3, datas)
    path = recorded(tmp_path / "journal.db", build, strategies=strategies, mode=mode, seed=3)
    found = bt_risk.verify(path, build)
    assert found.equal
    assert "the policy is the one that the journal names" in found.notes


def test_a_run_that_the_breaker_ends_is_decided_again(tmp_path):
    policy = bt_risk.Policy(drawdown_limit=0.02, risk_limit=0.05, notional_limit=None)
    path = recorded(tmp_path / "journal.db", builder(4), policy, seed=4)
    with closing(sqlite3.connect(path)) as db:
        assert any('"halt"' in value for (value,) in db.execute("SELECT value FROM decisions"))
    assert bt_risk.verify(path, builder(4), policy).equal


WORLDS = [
    pytest.param(seed, marks=() if seed in (14, 104) else pytest.mark.full)
    # Backtrader itself raises in worlds 0 and 17, protected or not.
    for seed in (*range(1, 17), 18, 19, 76, 104, 117, 154, 224)
]


@pytest.mark.parametrize("seed", WORLDS)
def test_random_worlds_are_decided_again(tmp_path, seed):
    """Resampled feeds, timers, order history, fillers, futures, missing prices and more.

    In world 14 a strategy cancels a stop of ours, in 104 a feed that was asked for has no price.
    """
    world = random_market.World(seed, bars=90)
    engine, _ = world.cerebro()
    for number in range(world.strategies):
        engine.addstrategy(random_market.Everything, seed=seed + 1000 * number, **world.params)
    policy = bt_risk.Policy(
        min_periods=10,
        window=20,
        drawdown_limit=0.08,
        action="pause",
        cooldown_bars=8,
        atr_period=5,
    )
    mode = "observe" if seed % 4 == 3 else "enforce"
    bt_risk.protect(engine, policy, mode, journal=tmp_path / "journal.db")
    engine.run()
    found = bt_risk.verify(tmp_path / "journal.db", lambda: world.cerebro()[0], policy)
    assert found.equal, (world.features, found.sentences()[:4])


class Meddler(bt.Strategy):
    """Cancel what an order history has in the market, or link an order to what others have sent."""

    params = {"cancels": True}

    def __init__(self):
        self.leader = None

    def notify_order(self, order):
        others = (order.Historical, order.Stop)
        if order.exectype in others and order.status in (order.Accepted, order.Partial):
            self.leader = order

    def next(self):
        if len(self) in (20, 30):
            self.buy(size=5)
        elif self.p.cancels:
            for order in self.broker.get_orders_open():
                self.cancel(order)
        elif len(self) in (8, 12, 24):  # the leader has filled in part, has ended, is a stop
            for near in (0.99, 1.01):
                price = self.data.close[0] * near
                self.buy(size=1, exectype=bt.Order.Limit, price=price, oco=self.leader)


@pytest.mark.parametrize("cancels", [True, False])
def test_what_a_strategy_does_to_orders_that_it_has_not_requested_is_repeated(tmp_path, cancels):
    def build():
        engine = builder(bars=60, datas=1)()
        engine.add_order_history([[date(2020, 1, 6), 8, 100.0], [date(2020, 1, 15), -2, 100.0]])
        engine.broker.set_filler(bt.fillers.FixedSize(size=2))
        return engine

    engine, path = build(), tmp_path / "journal.db"
    engine.addstrategy(Meddler, cancels=cancels)
    bt_risk.protect(engine, bt_risk.Policy(atr_period=5), journal=path)
    engine.run()
    with closing(sqlite3.connect(path)) as db:
        given = [json.loads(value) for (value,) in db.execute("SELECT value FROM inputs")]
    if cancels:
        assert None in [one["order"] for one in given if one["call"] == "cancel"]
    else:
        links = [[*one["terms"]["oco"]] for one in given if "oco" in one.get("terms", ())]
        assert links == [["place"]] * 6
    found = bt_risk.verify(path, build)
    assert found.equal, found.sentences()


class Curious(bt.Strategy):
    """Ask for the position of another data feed between two orders of one bar."""

    def next(self):
        if not self.position and len(self) in (10, 20):
            self.buy(size=1)
            self.getposition(self.data1)
            self.buy(size=2)


def test_a_position_that_is_asked_for_between_two_orders_is_asked_for_again(tmp_path):
    """Backtrader values what somebody has asked for: without a price equity is NaN from then on."""

    def build():
        frames = [random_walk(n, 30) for n in range(2)]
        frames[1].iloc[[19, 20], frames[1].columns.get_loc("close")] = float("nan")
        return cerebro(*frames)

    engine, path = build(), tmp_path / "journal.db"
    engine.addstrategy(Curious)
    bt_risk.protect(engine, bt_risk.Policy(atr_period=5), journal=path)
    engine.run()
    with closing(sqlite3.connect(path)) as db:
        lines = [json.loads(value) for (value,) in db.execute("SELECT value FROM decisions")]
    assert "equity nan" in lines[-1][-1]
    found = bt_risk.verify(path, build)
    assert found.equal, found.sentences()


# -- whoever edits ---------------------------------------------------------------------------------


def forge(path, lines=None, inputs=None):
    """Let `lines` and `inputs` edit the rows of a journal, and make every hash anew."""
    with closing(sqlite3.connect(path)) as db, db:
        given = db.execute("SELECT line, value FROM inputs ORDER BY number").fetchall()
        query = "SELECT value, client_id, at FROM decisions ORDER BY number"
        decided = db.execute(query).fetchall()
        for edit, rows, place in ((inputs, given, 1), (lines, decided, 0)):
            if edit is not None:
                values = [json.loads(row[place]) for row in rows]
                edit(values)
                texts = [json.dumps(value) for value in values]
                kept = rows[: len(texts)]
                rows[:] = [
                    (*row[:place], text, *row[place + 1 :])
                    for row, text in zip(kept, texts, strict=True)
                ]
        db.execute("DELETE FROM inputs")
        db.execute("DELETE FROM decisions")
        Chain(0, add_inputs(db, given)).add(db, decided)


def changed(value):
    return value + 1.0 if isinstance(value, float) else f"{value}?"


def test_each_field_of_each_line_that_a_forger_edits_differs_from_the_verdict(path):
    """The forger has made every hash anew: the chain says nothing."""
    found = bt_risk.verify(path, builder(), POLICY)
    count = found.chain.lines
    assert found.equal

    def edit(values):
        # One field of each line, another one in each run: all are edited in the end.
        for number, line in enumerate(values):
            place = (number + shift) % len(FIELDS)
            line[place] = changed(0.0 if line[place] != line[place] else line[place])

    for shift in range(len(FIELDS)):
        forged = shutil.copy(path, path.with_name(f"forged-{shift}.db"))
        forge(forged, lines=edit)
        found = bt_risk.verify(forged, builder(), POLICY)
        assert not found.chain.faults
        assert [one.line for one in found.differences] == list(range(1, count + 1))
        fields = [[*one.fields] for one in found.differences]
        assert fields == [[FIELDS[(n + shift) % len(FIELDS)]] for n in range(count)]


def test_a_line_that_a_forger_leaves_out_is_missed(path):
    forge(path, lines=lambda values: values.pop())
    found = bt_risk.verify(path, builder(), POLICY)
    assert not found.chain.faults
    assert not found.equal
    (difference,) = found.differences
    assert "is not in the journal" in str(difference)


def test_a_request_that_a_forger_makes_smaller_is_found(path):
    def edit(values):
        sizes = [value for value in values if value.get("size") == 400]
        assert sizes
        sizes[0]["size"] = 5

    forge(path, inputs=edit)
    found = bt_risk.verify(path, builder(), POLICY)
    assert not found.chain.faults
    assert found.differences[0].fields["requested"] == (400.0, 5.0)


def test_a_size_that_the_sizer_did_not_propose_is_found(path):
    def edit(values):
        proposals = [v["size"]["proposal"] for v in values if isinstance(v.get("size"), dict)]
        proposals[2][0] += 1.0

    forge(path, inputs=edit)
    found = bt_risk.verify(path, builder(), POLICY)
    assert not found.equal
    assert "the sizer proposed" in found.troubles[0]


def test_an_edited_input_is_found_by_the_chain(path):
    with closing(sqlite3.connect(path)) as db, db:
        (count,) = db.execute("SELECT max(number) FROM inputs").fetchone()
    for number in (1, 2, count // 2, count):
        edited = shutil.copy(path, path.with_name(f"edited-{number}.db"))
        with closing(sqlite3.connect(edited)) as db, db:
            db.execute("UPDATE inputs SET value = value || ' ' WHERE number = ?", (number,))
        found = bt_risk.verify(edited, builder(), POLICY)
        (fault,) = found.chain.faults
        assert str(fault).startswith(f"input {number}: ")
        assert found.repeated is None
        assert found.notes == ["inputs are not what was written: nothing was decided again"]


@pytest.mark.parametrize("left", [0, 3, 8])
def test_a_line_that_was_cut_short_differs(path, left):
    with closing(sqlite3.connect(path)) as db, db:
        (text,) = db.execute("SELECT value FROM decisions WHERE number = 5").fetchone()
        cut = json.dumps(json.loads(text)[:left])
        db.execute("UPDATE decisions SET value = ? WHERE number = 5", (cut,))
    found = bt_risk.verify(path, builder(), POLICY)
    assert [fault.line for fault in found.chain.faults] == [5]
    assert [one.line for one in found.differences] == [5]


def test_inputs_that_were_cut_off_are_found_by_the_chain(path):
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DELETE FROM inputs WHERE number = (SELECT max(number) FROM inputs)")
    (fault,) = bt_risk.verify(path).chain.faults
    assert str(fault).startswith("line 1: ")


def test_other_prices_and_another_policy_differ(path):
    found = bt_risk.verify(path, builder(7), POLICY)
    assert not found.equal
    looser = bt_risk.Policy(
        min_periods=20, window=40, drawdown_limit=0.08, action="pause", cooldown_bars=20
    )
    found = bt_risk.verify(path, builder(), looser)
    assert not found.equal
    assert "the run had the rules" in found.troubles[0]
    assert "now CooldownGuard" not in found.troubles[0]
    assert any("the policy is not that of the run" in note for note in found.notes)


class Never(bt_risk.Limit):
    """Refuse whatever opens in D1."""

    name = "Never"

    def review(self, request, book):
        refused = request.instrument.name == "D1"
        return bt_risk.Decision(0.0 if refused else request.size, "Never: D1" if refused else "")


def test_limits_beside_the_policy_are_needed_to_decide_again(tmp_path):
    engine = builder()()
    engine.addstrategy(Trader, seed=1)
    bt_risk.protect(engine, POLICY, limits=[Never()], journal=tmp_path / "journal.db")
    engine.run()
    assert bt_risk.verify(tmp_path / "journal.db", builder(), POLICY, limits=[Never()]).equal
    found = bt_risk.verify(tmp_path / "journal.db", builder(), POLICY)
    assert "Never" in found.troubles[0]
    assert found.differences


class Smuggler(Trader):
    def next(self):
        super().next()
        if len(self) == 60:
            self.broker.inner.buy(self, self.data, 5)


def test_what_comes_after_a_bypass_is_not_decided_again(tmp_path):
    engine = builder()()
    engine.addstrategy(Smuggler, seed=1)
    bt_risk.protect(engine, POLICY, journal=tmp_path / "journal.db")
    engine.run()
    found = bt_risk.verify(tmp_path / "journal.db", builder(), POLICY)
    assert found.equal
    assert 10 < found.repeated < found.chain.lines
    assert "on nothing was decided again: something got around the gate" in found.notes[0]


# -- prices of files -------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    """Return a journal, and prices that begin before the run and end after it."""
    frames = {f"D{n}": random_walk(10 + n, 160, volatility=0.02) for n in range(2)}
    for name, frame in frames.items():
        frame.to_csv(tmp_path / f"{name}.csv")
    engine = cerebro(*(frame.iloc[20:140] for frame in frames.values()))
    engine.broker.setcommission(0.001, name="D1")
    engine.broker.set_slippage_perc(0.001)
    engine.addstrategy(Trader, seed=5)
    POLICY.to_toml(tmp_path / "policy.toml")
    bt_risk.protect(engine, POLICY, journal=tmp_path / "journal.db")
    engine.run()
    return tmp_path


def test_the_command_decides_again_from_files(files, monkeypatch, capsys):
    command = command_in(140, monkeypatch, capsys)
    prices = ["--data", files / "D0.csv", files / "D1.csv"]
    status, out, _ = command(
        "verify", files / "journal.db", *prices, "--policy", files / "policy.toml"
    )
    assert status == 0, out
    assert " decided again: equal\n" in out
    status, out, _ = command("verify", files / "journal.db", *prices, "--json")
    assert (status, json.loads(out)["equal"]) == (0, True)
    replace(POLICY, risk_limit=0.004).to_toml(files / "other.toml")
    prices += ["--policy", files / "other.toml"]
    status, out, _ = command("verify", files / "journal.db", *prices)
    assert status == 1
    assert "the policy is not that of the run: " in out
    assert " differs: " in out
    status, out, _ = command("verify", files / "journal.db", *prices, "--json")
    first = json.loads(out)["differences"][0]
    assert first["fields"].keys() <= {*FIELDS}
    assert f"line {first['line']} differs: " in str(
        bt_risk.verify(files / "journal.db", data=prices[1:3], policy=files / "other.toml")
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--data", "D0.csv"], "data must be a file for each of D0, D1; got"),
        (["--policy", "policy.toml"], "--data must be given with --policy"),
        (["--data", "D0.csv", "D1.csv", "--policy", "none.toml"], "none.toml"),
    ],
)
def test_what_is_missing_is_bad_input(files, words, said, monkeypatch, capsys):
    monkeypatch.chdir(files)
    status, _, err = command_in(140, monkeypatch, capsys)("verify", "journal.db", *words)
    assert status == 2
    assert said in err


def test_files_with_other_bars_are_refused(files):
    frame = random_walk(10, 160, volatility=0.02).drop(index="2020-03-01")
    frame.to_csv(files / "D0.csv")
    with pytest.raises(bt_risk.DataError, match="119 bars of the time of the run, and D0 had 120"):
        bt_risk.verify(files / "journal.db", data=[files / "D0.csv", files / "D1.csv"])


def test_what_only_python_can_build_is_refused(tmp_path):
    def build():
        engine = builder()()
        engine.broker.set_filler(bt.fillers.FixedSize(size=50))
        engine.resampledata(engine.datas[0], timeframe=bt.TimeFrame.Weeks, name="weekly")
        return engine

    path = recorded(tmp_path / "journal.db", build)
    assert bt_risk.verify(path, build, POLICY).equal
    with pytest.raises(bt_risk.ParameterError, match="neither resampled nor filtered"):
        bt_risk.verify(path, data=["D0.csv", "D1.csv", "weekly.csv"])
    with closing(sqlite3.connect(path)) as db:
        (text,) = db.execute("SELECT value FROM inputs ORDER BY number DESC").fetchone()
    assert json.loads(text)["broker"] is None


def test_a_journal_without_inputs_cannot_be_decided_again(tmp_path):
    engine = builder()()
    engine.addanalyzer(bt_risk.RiskJournal, path=tmp_path / "journal.db")
    engine.addstrategy(bt.Strategy)
    engine.run()
    assert bt_risk.verify(tmp_path / "journal.db").equal
    with pytest.raises(bt_risk.ParameterError, match="a file with the inputs of a run"):
        bt_risk.verify(tmp_path / "journal.db", builder())


def test_the_points_of_an_optimisation_write_their_journals_when_asked(tmp_path):
    """On several processes they would all write the same file."""
    engine = builder()()
    engine.optstrategy(Trader, seed=[1, 2])
    bt_risk.protect(engine, POLICY, journal=tmp_path / "journal.db")
    points = engine.run(maxcpus=2)
    assert not (tmp_path / "journal.db").exists()
    for (strategy,) in points:
        strategy.analyzers.riskjournal.to_db(tmp_path / "point.db")
        assert bt_risk.verify(tmp_path / "point.db", builder(), POLICY).equal


def test_a_run_without_such_a_journal_keeps_no_inputs():
    engine = builder()()
    engine.addstrategy(Trader)
    bt_risk.protect(engine, POLICY)
    (strategy,) = engine.run()
    assert strategy.broker.inputs is None
