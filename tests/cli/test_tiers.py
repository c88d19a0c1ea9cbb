"""``bt-risk tiers``: what it writes is what a margin account reads."""

import json
import tomllib

import pytest
from helpers.command_line import command_in
from helpers.leverage_answers import binance

import bt_risk

ccxt = pytest.importorskip("ccxt")

ANSWER = {
    "BTC/USDT:USDT": [
        {
            "minNotional": 0,
            "maxNotional": 50_000,
            "maintenanceMarginRate": 0.004,
            "maxLeverage": 125,
        },
        {"minNotional": 50_000, "maxNotional": 250_000, "maintenanceMarginRate": 0.005},
    ],
    "ETH/USDT:USDT": [{"minNotional": 0, "maintenanceMarginRate": 0.01, "maxLeverage": 50}],
}


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "answer.json").write_text(json.dumps(ANSWER))
    return command_in(200, monkeypatch, capsys)


def test_the_file_is_read_by_a_margin_account_and_by_a_policy(command, tmp_path):
    words = ["tiers", "answer.json", "BTC=BTC/USDT:USDT", "ETH/USDT:USDT"]
    assert command(*words, "--out", "my/tiers.toml") == (0, "wrote my/tiers.toml\n", "")
    guard = bt_risk.MarginAccount(20, tiers="my/tiers.toml")
    assert guard.tiers_of("BTC") == bt_risk.leverage_tiers(ANSWER, "BTC/USDT:USDT")
    assert guard.tiers_of("BTC").cap == 250_000
    assert guard.tiers_of("ETH/USDT:USDT").at(1.0).mmr == 0.01
    assert guard.tiers_of("other").at(1.0).mmr == 0.025  # half of the initial margin
    policy = '[[guards]]\nguard = "MarginAccount"\nleverage = 20\ntiers = "my/tiers.toml"\n'
    (tmp_path / "policy.toml").write_text(policy)
    (one,) = bt_risk.Policy.from_toml(tmp_path / "policy.toml").guards
    assert one.tiers_of("BTC") == guard.tiers_of("BTC")


def test_it_prints_what_it_would_write_and_json(command):
    status, out, err = command("tiers", "answer.json", "BTC/USDT:USDT")
    assert (status, err) == (0, "")
    assert out.startswith("# Maintenance tiers of answer.json, 20")
    rows = [[0.0, 0.004, 125.0], [50_000.0, 0.005, 125.0]]
    table = {"BTC/USDT:USDT": {"cap": 250_000.0, "rows": rows}}
    assert tomllib.loads(out) == {"tiers": table}
    found = json.loads(command("tiers", "answer.json", "BTC/USDT:USDT", "--json")[1])
    assert found == {"exchange": "answer.json", "tiers": table}


def test_an_exchange_is_asked_with_the_keys_of_the_environment(command, monkeypatch):
    given, venue = [], binance()

    def made(keys):
        given.append(keys)
        return venue

    monkeypatch.setattr(ccxt, "binanceusdm", made)
    monkeypatch.setenv("BT_RISK_EXCHANGE_KEY", "key")
    monkeypatch.setenv("BT_RISK_EXCHANGE_SECRET", "secret")
    status, out, err = command("tiers", "binanceusdm", "BTC=BTC/USDT:USDT")
    assert (status, err) == (0, "")
    assert given == [{"apiKey": "key", "secret": "secret"}]
    assert len(tomllib.loads(out)["tiers"]["BTC"]["rows"]) == 10


def test_what_ccxt_refuses_is_one_line(command, monkeypatch):
    class Refuses:
        def __init__(self, keys):
            assert keys == {}

        def load_markets(self):
            raise ccxt.AuthenticationError("binanceusdm requires apiKey")

        def fetch_market_leverage_tiers(self, symbol):
            raise AssertionError

    for name in ("BT_RISK_EXCHANGE_KEY", "BT_RISK_EXCHANGE_SECRET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(ccxt, "binanceusdm", Refuses)
    status, out, err = command("tiers", "binanceusdm", "BTC/USDT:USDT")
    said = "tiers: binanceusdm did not answer: binanceusdm requires apiKey"
    assert (status, out, err) == (2, "", f"bt-risk: {said}\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["binanceusd", "BTC/USDT:USDT"], "Did you mean 'binanceus"),
        (["none.json", "BTC/USDT:USDT"], "EXCHANGE must be a file of JSON"),
        (["list.json", "BTC/USDT:USDT"], "EXCHANGE must be a file of JSON"),
        (["answer.json", "SOL/USDT:USDT"], "there are no tiers of SOL/USDT:USDT"),
        (["answer.json", "BTC/USDT"], "symbol must be a linear contract"),
        (["answer.json", "A=BTC/USDT:USDT", "A=ETH/USDT:USDT"], "SYMBOL must be"),
        (["answer.json", "BTC/USDT:USDT", "--out", "."], "--out must be"),
        (["answer.json"], "Missing"),
    ],
)
def test_a_mistake_is_one_line_and_the_status_2(command, tmp_path, words, said):
    (tmp_path / "list.json").write_text("[]")
    status, out, err = command("tiers", *words)
    assert (status, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
