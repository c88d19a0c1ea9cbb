"""Live and backtest verdicts on the same bars are equal, and the journal of a live run says so."""

import backtrader as bt
import pytest
from helpers.live_exchange import FINE, ROWS, exchange, trade
from helpers.restarts import run
from helpers.scenarios import bars, cerebro

import bt_risk

POLICY = bt_risk.Policy(
    correlation_limit=None, exposure_limit=None, instruments=FINE, drawdown_limit=0.5
)
ACTIONS = {
    18: lambda s: s.buy(size=20),
    22: lambda s: s.buy(size=500),
    24: lambda s: s.close(),
    26: lambda s: s.buy(size=30),
    28: lambda s: s.sell(size=900, exectype=bt.Order.Limit, price=130.0),
}


def build(cash=100_000.0):
    return cerebro(bars(*ROWS, start="2024-01-01", freq="min"), cash=cash)


@pytest.fixture(scope="module")
def journal(tmp_path_factory):
    """Return the journal of a live run against the exchange on loopback."""
    folder = tmp_path_factory.mktemp("live")
    with exchange(ROWS, 5, folder) as venue:
        trade(venue, ACTIONS, POLICY, journal=folder / "journal.db")
    return folder / "journal.db"


def test_a_live_run_is_decided_again_on_its_bars(journal):
    found = bt_risk.verify(journal, build, POLICY)
    assert found.equal, str(found)
    assert found.repeated == found.chain.lines - 2
    assert found.notes[0].startswith("the run was live, and is repeated in Backtrader's simulation")
    assert found.notes[1] == "2 lines of feed were not decided again"


def test_another_account_decides_otherwise(journal):
    found = bt_risk.verify(journal, lambda: build(50_000.0), POLICY)
    trims = [one for one in found.differences if "allowed" in one.fields]
    assert trims
    assert not found.equal


def test_a_verdict_of_another_bar_differs(journal):
    """The same prices, a minute later."""

    def later():
        return cerebro(bars(*ROWS, start="2024-01-01 00:01", freq="min"))

    found = bt_risk.verify(journal, later, POLICY)
    assert [[*one.fields] for one in found.differences] == [["time"]] * 5


def test_prices_of_files_do_not_make_a_live_account(journal, tmp_path):
    bars(*ROWS, start="2024-01-01", freq="min").to_csv(tmp_path / "D0.csv")
    with pytest.raises(bt_risk.ParameterError, match="commissions were Backtrader's own"):
        bt_risk.verify(journal, data=[tmp_path / "D0.csv"])


def test_a_run_that_went_on_from_a_state_is_not_decided_again(tmp_path):
    policy = bt_risk.Policy(exposure_limit=None, correlation_limit=None, atr_multiple=5.0)
    path = tmp_path / "journal.db"
    run(tmp_path, policy=policy, live={"journal": path})
    assert "state file" not in str(bt_risk.verify(path, build, policy))
    run(tmp_path, policy=policy, live={"journal": path})
    found = bt_risk.verify(path, build, policy)
    assert (found.equal, found.repeated) == (True, None)
    assert found.notes == [
        "the run went on from a state file, which is no input: nothing was decided again"
    ]
    assert bt_risk.verify(tmp_path / "risk.db").equal  # its chain goes on
