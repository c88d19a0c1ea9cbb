"""bt-risk status: what it says of an account, and what it does not know."""

import json
from pathlib import Path

import pytest
from helpers.command_line import command_in
from helpers.persistent_broker import PersistentFeed
from helpers.restarts import ROWS, Wants, run
from helpers.scenarios import flat

import bt_risk
from bt_risk.cli import status as status_page
from bt_risk.cli.status import print_status
from bt_risk.report.state_summary import summary
from bt_risk.state.file import StateFile, request
from bt_risk.state.requests import OperatorRequest

AT = 1_600_000_000.0  # 2020-09-13 12:26:40 UTC


@pytest.fixture
def command(monkeypatch, capsys):
    return command_in(120, monkeypatch, capsys)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Return the state file of a run that holds 100."""
    folder, times = tmp_path_factory.mktemp("status"), iter(range(10**6))
    limits = {"notional_limit": None, "correlation_limit": None}
    policy = bt_risk.Policy(
        **limits,
        risk_limit=0.5,
        allow_extreme=True,
        exposure_limit=0.4,
        drawdown_limit=0.06,
        atr_multiple=5.0,
        guards=[bt_risk.DailyLossLimit(0.03)],
    )
    run(folder, rows=ROWS[:23], policy=policy, live={"now": lambda: AT + next(times)})
    return folder / "risk.db"


def text_of(found, monkeypatch, capsys, columns=120):
    from rich.console import Console

    monkeypatch.setenv("COLUMNS", str(columns))
    print_status(Console(highlight=False), found)
    return capsys.readouterr().out


def test_the_room_to_each_limit_is_shown(path):
    limits = {one["name"]: one for one in summary(path, AT)["limits"]}
    assert {"drawdown_limit", "exposure_limit long", "daily_loss_limit"} <= limits.keys()
    exposure = limits["exposure_limit long"]
    assert 0.0 < exposure["used"] < 0.4
    assert exposure["room"] == pytest.approx(0.4 - exposure["used"])
    assert limits["exposure_limit short"]["used"] == 0.0
    assert limits["drawdown_limit"]["room"] == pytest.approx(0.06)


def test_equity_and_the_profit_of_the_day(path, command):
    account = summary(path, AT)["account"]
    assert account["equity"] == pytest.approx(100_000.0 + account["day_pnl"])
    assert account["day_pnl"] > 100.0
    assert account["day_return"] == pytest.approx(account["day_pnl"] / 100_000.0)
    assert account["day_since"].startswith("2020-09-13 12:2")
    out = command("status", path)[1]
    assert f"equity {account['equity']:,.2f}, today +" in out
    assert f"since {account['day_since']} UTC" in out


def test_a_day_begins_with_the_last_value_of_the_day_before(tmp_path):
    """Also after a restart: the profit of the night is of the new day."""
    seconds = {"at": AT}
    live = {"now": lambda: seconds["at"]}
    run(tmp_path, rows=ROWS[:21], live=live)
    first = summary(tmp_path / "risk.db", AT)["account"]
    seconds["at"] += 86400.0
    run(tmp_path, rows=ROWS[:25], live=live)
    found = summary(tmp_path / "risk.db", AT)["account"]
    assert found["day_since"] == "2020-09-13 12:26:40"
    assert found["day_pnl"] == pytest.approx(found["equity"] - first["equity"])


def test_a_deposit_is_no_profit_of_the_day():
    from bt_risk.report.state_summary import _account

    beat = {"equity": 300_000.0, "value": 110.0, "day": {"value": 100.0, "since": AT}}
    account = _account(beat)
    assert account["day_return"] == pytest.approx(0.1)
    assert account["day_pnl"] == pytest.approx(300_000.0 / 11.0)


def test_equity_that_is_not_known_is_said(path, monkeypatch, capsys):
    found = summary(path, AT)
    found["account"]["equity"] = None
    assert "equity: not known" in text_of(found, monkeypatch, capsys)


def test_a_stop_that_no_list_has_shown_is_not_confirmed(path, command):
    row = next(line for line in command("status", path)[1].splitlines() if "│ +100" in line)
    assert row.rstrip().endswith("not confirmed")


def test_a_stop_is_seen_when_the_venue_has_listed_it(path, monkeypatch, capsys):
    found = summary(path, AT)
    found["positions"][0]["stop_orders"][0]["seen_at"] = "2020-09-13 12:26:38"
    out = text_of(found, monkeypatch, capsys)
    row = next(line for line in out.splitlines() if "│ +100" in line)
    assert row.rstrip().endswith("09-13 12:26:38")


def test_a_position_without_a_stop_order_says_so(path, monkeypatch, capsys):
    found = summary(path, AT)
    found["positions"][0]["stop_orders"] = []
    assert "no order" in text_of(found, monkeypatch, capsys)


def test_no_position_is_said_only_of_a_run_that_has_asked(tmp_path, command):
    file = StateFile(tmp_path / "risk.db")
    out = command("status", tmp_path / "risk.db")[1]
    assert "Positions are not known: no run has asked the broker yet." in out
    assert "No position" not in out
    file.close()


def test_positions_of_a_run_that_has_not_settled_are_not_known(tmp_path, command, monkeypatch):
    """The state is lost, and the data feed has no bar for some rounds."""
    begin = PersistentFeed.start

    def begin_late(self):
        begin(self)
        self._wait = 3

    run(tmp_path, rows=ROWS[:23])
    for file in tmp_path.glob("risk.db*"):
        file.unlink()
    found = []
    monkeypatch.setattr(PersistentFeed, "start", begin_late)

    class Reads(Wants):
        def start(self):
            recorder = self.broker.recovery.recorder
            save = recorder.save

            def saved():
                answer = save()
                found.append(command("status", tmp_path / "risk.db")[1])
                return answer

            recorder.save = saved

    run(tmp_path, rows=ROWS[:24], strategy=Reads)
    unknown = [out for out in found if "Not known yet: D0." in out]
    assert unknown
    assert not [out for out in unknown if "No position" in out]
    assert "+100" in found[-1]


def test_a_loop_without_a_heartbeat_is_shouted(path, monkeypatch, capsys):
    found = summary(path, AT) | {"process": 4711}
    for age, shown in (
        (4.0, "last loop 4 s ago\n"),
        (90.0, "last loop 90 s ago: THE LOOP MAY HANG\n"),
    ):
        found["heartbeat"]["age"] = age
        assert shown in text_of(found, monkeypatch, capsys)


def test_differences_and_unanswered_requests_are_listed(path, monkeypatch, capsys):
    request(path, OperatorRequest("halt", "ann@desk", AT, {"reason": "news"}))
    kill = path.with_name("risk.db.kill")
    kill.touch()
    found = summary(path, AT) | {"differences": ["position gone: 100 D0 were closed by hand"]}
    kill.unlink()
    out = text_of(found, monkeypatch, capsys, columns=400)
    assert "`halt` is requested by ann@desk at 2020-09-13 12:26:40 UTC, and not answered yet" in out
    assert "risk.db.kill is there: everything is closed when it is taken" in out
    assert "Differences from the broker:\n- position gone: 100 D0 were closed by hand" in out


def test_the_object_of_json_has_the_names_of_the_documentation(path, command):
    found = json.loads(command("status", path, "--json")[1])
    documented = (Path(__file__).parents[2] / "docs" / "restart.md").read_text()
    assert [name for name in found if f"`{name}`" not in documented] == []


def test_watch_shows_the_status_again_until_it_is_interrupted(path, command, monkeypatch):
    naps = []

    def sleep(seconds):
        naps.append(seconds)
        if len(naps) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(status_page.time, "sleep", sleep)
    status, out, _ = command("status", path, "--watch", "0.5")
    assert (status, naps) == (0, [0.5] * 3)
    assert "gate ACTIVE" in out


def test_watch_goes_on_while_the_file_cannot_be_read(tmp_path, command, monkeypatch):
    def sleep(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(status_page.time, "sleep", sleep)
    status, out, _ = command("status", tmp_path / "risk.db", "--watch")
    assert status == 0
    assert "does not exist" in out


@pytest.mark.parametrize("columns", [80, 120])
def test_no_line_is_wider_than_the_terminal(path, monkeypatch, capsys, columns):
    out = text_of(summary(path, AT), monkeypatch, capsys, columns)
    assert max(map(len, out.splitlines())) <= columns


GAP = [*flat(23), (80, 81, 79, 80), *flat(3, price=80.0)]


@pytest.fixture(scope="module")
def gapped(tmp_path_factory):
    """Return the state file of a run that buys 100 at 100, with a stop at 90, and leaves at 80."""
    folder = tmp_path_factory.mktemp("gapped")
    run(folder, rows=GAP)
    return folder / "risk.db"


def test_the_losses_in_r_are_shown_with_their_causes(gapped, command):
    found = summary(gapped, AT)["losses"]
    assert (found["trades"], found["worst"]) == (1, pytest.approx(-2.0))
    assert found["beyond"] == {"1": 1.0, "1.5": 1.0, "2": 0.0}
    assert found["causes"] == {"1": {"gap": 1}, "1.5": {"gap": 1}, "2": {}}
    assert found["full_stop_out"] == 1.0
    out = command("status", gapped)[1]
    assert "100.0% beyond 1 R, 100.0% beyond 1.5 R, 0.0% beyond 2 R, worst -2.00 R (gap)." in out


def test_losses_are_kept_over_a_restart(tmp_path):
    """The second run closes nothing, and its journal knows the trade of the first."""
    run(tmp_path, rows=GAP[:25])
    strategy = run(tmp_path, rows=GAP)
    assert summary(tmp_path / "risk.db", AT)["losses"]["worst"] == pytest.approx(-2.0)
    losses = strategy.analyzers.riskjournal.losses()
    assert (losses.trades, losses.worst_cause) == (1, "gap")


def test_without_a_trade_nothing_is_said_of_losses(path, command):
    losses = summary(path, AT)["losses"]
    assert (losses["trades"], losses["worst"], losses["sentences"]) == (0, None, [])
    assert "Losses" not in command("status", path)[1]
