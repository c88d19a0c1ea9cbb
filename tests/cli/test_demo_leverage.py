"""``bt-risk demo --leverage``: what leverage does with and without liquidation."""

import io
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.command_line import command_in
from rich.console import Console

import bt_risk
from bt_risk.cli.tables import print_leverage
from bt_risk.demo import runs as demo
from bt_risk.demo.portfolios import bundled_portfolios, leveraged
from bt_risk.demo.summary import leverage_summary
from bt_risk.errors import ParameterError
from bt_risk.feeds.bundled import load_data

LABELS = ["bare", "isolated", "cross", "protected"]


@pytest.fixture(scope="module")
def runs():
    """Return the runs at 20x on a slice of the prices, by label."""
    plain = bundled_portfolios()[0]
    frames = {name: frame.iloc[:1200] for name, frame in plain.frames.items()}
    ((*found,),) = demo.run([leveraged(replace(plain, frames=frames), 20.0)])
    return {run.label: run for run in found}


def rebuilt(run):
    """Return the equity of every close from fills, prices and what insurance paid alone."""
    times, (frame,) = run.portfolio.times, run.portfolio.frames.values()
    spent = run.fills["size"] * run.fills.price
    spent += demo.COMMISSION * spent.abs()
    if run.record.margin is not None:
        paid = run.record.margin.liquidations.set_index("time")["insured"]
        spent = pd.concat([spent.set_axis(run.fills.time), -paid])
    else:
        spent = spent.set_axis(run.fills.time)
    cash = demo.CASH - spent.groupby(level=0).sum().reindex(times).fillna(0.0).cumsum()
    held = run.fills.groupby("time")["size"].sum().reindex(times).fillna(0.0).cumsum()
    return cash + held * frame["close"]


def test_the_runs_differ_in_what_is_liquidated(runs):
    assert list(runs) == LABELS
    assert runs["bare"].portfolio.policy("bare") is None
    modes = [runs[label].portfolio.policy(label).guards[0].mode for label in LABELS[1:]]
    assert modes == ["isolated", "cross", "isolated"]
    first = [runs[label].fills.iloc[0] for label in LABELS[:3]]
    assert len({(one.time, one["size"], one.price) for one in first}) == 1
    # 95 % of equity are the margin, with commission for its notional.
    price = runs["bare"].portfolio.frames["BTC"]["close"].shift(1)[first[0].time]
    size = 0.95 * 100_000 / (1 / 20 + 0.001) / price
    assert first[0]["size"] == pytest.approx(size, abs=1e-4)


@pytest.mark.parametrize("label", LABELS)
def test_equity_is_what_fills_prices_and_insurance_make_it(runs, label):
    run = runs[label]
    lasted = run.exposure.index
    assert run.equity[lasted].to_numpy() == pytest.approx(rebuilt(run)[lasted].to_numpy())


def test_backtrader_goes_below_zero_and_a_margin_account_does_not(runs):
    found = {label: leverage_summary(run) for label, run in runs.items()}
    assert found["bare"]["lowest equity"] == runs["bare"].equity.min() < 0.0
    assert found["bare"]["bars below zero"] == np.sum(runs["bare"].equity < 0.0) > 0
    assert found["bare"]["liquidations"] is None
    for label in LABELS[1:]:
        assert found[label]["lowest equity"] >= 0.0
        assert found[label]["bars below zero"] == 0
    for label in ("isolated", "cross"):
        done = runs[label].record.margin.liquidations
        assert found[label]["liquidations"] == len(done) > 0
        prices = runs[label].portfolio.frames["BTC"].loc[done["time"]]
        assert (done["price"].to_numpy() >= prices["low"].to_numpy()).all()
        assert (done["price"].to_numpy() <= prices["high"].to_numpy()).all()
    assert found["protected"]["liquidations"] == 0


def test_the_table_says_what_the_summary_says(runs):
    text = io.StringIO()
    print_leverage(Console(file=text, width=100, highlight=False), list(runs.values()))
    lines = text.getvalue().splitlines()
    (line,) = [one for one in lines if one.startswith(" lowest equity")]
    lowest = [leverage_summary(run)["lowest equity"] for run in runs.values()]
    assert [one.strip() for one in line.split("\u2502")[1:]] == [f"{one:,.0f}" for one in lowest]
    (line,) = [one for one in lines if one.startswith(" liquidations")]
    assert [one.strip() for one in line.split("\u2502")[1:]][0] == "-"
    assert any("at 20x" in line for line in lines)
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("leverage", [0.5, 0.0, -20.0, float("nan"), float("inf")])
def test_a_leverage_must_be_one_or_more(leverage):
    with pytest.raises(ParameterError, match="demo: --leverage must be .*It is a multiple"):
        leveraged(bundled_portfolios()[0], leverage)


def test_the_command_runs_own_prices_with_leverage(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    command = command_in(100, monkeypatch, capsys)
    load_data("btcusd_1h").iloc[:500].to_csv("coin.csv")
    words = ["demo", "--data", "coin.csv", "--leverage", "1", "--out", "out"]
    status, out, err = command(*words, "--json")
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert list(found["portfolios"]["own-leverage"]) == LABELS
    assert found["portfolios"]["own-leverage"]["bare"]["bars below zero"] == 0
    assert found["wrote"] == [
        f"out/{name}"
        for name in ("own-leverage-isolated.html", "own-leverage-equity.png", "journal.csv")
    ]
    page = (tmp_path / "out" / "own-leverage-isolated.html").read_text(encoding="utf-8")
    assert '<section id="margin"' in page
    status, out, err = command(*words)
    assert (status, err) == (0, "")
    assert "which lends without end and" in out
    assert out.endswith("wrote out/journal.csv\n")
    assert command("demo", "--leverage", "0.5")[0] == 2


def test_the_sizer_of_the_demo_asks_for_nothing_without_equity():
    sizer = bt_risk.demo.portfolios.FractionSizer()

    class Broker:
        def getvalue(self):
            return -5.0

    sizer.broker = Broker()
    assert sizer._getsizing(None, 0.0, type("Data", (), {"close": [100.0]}), True) == 0.0
