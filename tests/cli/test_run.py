"""``bt-risk new``, ``run`` and ``compare --json``: from nothing to a protected strategy."""

import csv
import json
import logging
import tomllib

import pytest
from helpers.command_line import command_in

import bt_risk
from bt_risk.cli.new import policy_text
from bt_risk.feeds.bundled import load_data

SOURCE = """
import backtrader as bt


class Cross(bt.Strategy):
    params = dict(fast=10, slow=40, target=0.95)

    def __init__(self):
        fast, slow = bt.ind.SMA(period=self.p.fast), bt.ind.SMA(period=self.p.slow)
        self.cross = bt.ind.CrossOver(fast, slow)

    def next(self):
        if self.cross > 0:
            self.order_target_percent(target=self.p.target)
        elif self.cross < 0:
            self.close()
"""


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Return a function that runs bt-risk in a folder with a strategy and prices."""
    (tmp_path / "cross.py").write_text(SOURCE)
    load_data("sp500_1d").iloc[:500].to_csv(tmp_path / "spx.csv")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    return command_in(80, monkeypatch, capsys)


WORDS = ["cross.py:Cross", "--data", "spx.csv"]
RUN = ["run", *WORDS]


def of_run(command, *words):
    """Return the JSON of a run that succeeds."""
    status, out, err = command(*RUN, *words, "--json")
    assert (status, err) == (0, "")
    return json.loads(out)


def test_a_new_file_is_the_default_policy_and_is_never_replaced_unasked(command, tmp_path):
    assert command("new", "my/policy.toml") == (0, "wrote my/policy.toml\n", "")
    file = tmp_path / "my" / "policy.toml"
    assert bt_risk.Policy.from_toml(file) == bt_risk.Policy(costs_in_risk=True)
    text = file.read_text(encoding="utf-8")
    assert max(len(line) for line in text.splitlines()) <= 100
    file.write_text("risk_limit = 0.002\n", encoding="utf-8")
    status, out, err = command("new", "my/policy.toml")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "Add --force to replace it." in err
    assert file.read_text(encoding="utf-8") == "risk_limit = 0.002\n"
    assert command("new", "my/policy.toml", "--force")[0] == 0
    assert file.read_text(encoding="utf-8") == text


def test_what_the_file_shows_as_a_comment_is_a_policy_too():
    lines = policy_text("p.toml").splitlines()
    begin = lines.index("# [[guards]]")
    shown = [line.removeprefix("# ") for line in lines[begin:]]
    pause = [line.removeprefix("# ") for line in lines if "cooldown_bars =" in line]
    values = tomllib.loads("\n".join([*pause, 'action = "pause"', *shown]))
    guards = values.pop("guards")
    guard = getattr(bt_risk, guards[0].pop("guard"))(**guards[0])
    assert bt_risk.Policy(**values, guards=[guard]).guards == (bt_risk.DailyLossLimit(0.03),)


def test_a_run_prints_figures_and_decisions_and_writes_page_and_journal(command, tmp_path):
    words = [*RUN, "--report", "out/a.html", "--journal", "j.csv"]
    status, out, err = command(*words)
    assert (status, err) == (0, "")
    assert out.startswith("Cross: spx (enforce)\n1999-01-04 00:00 to ")
    assert "500 bars" in out
    assert "What each rule decided:" in out
    assert "rule 1, risk per trade: order cut" in out
    assert out.endswith("wrote j.csv\nwrote out/a.html\n")
    assert "Cross: spx" in (tmp_path / "out" / "a.html").read_text(encoding="utf-8")
    with (tmp_path / "j.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert "trim" in {line["action"] for line in lines}
    assert max(map(len, out.splitlines())) <= 80


def test_the_figures_are_those_of_the_same_run_in_python(command):
    found = of_run(command, "--set", "action=pause", "--set", "cooldown_bars=60", "--cash", "50000")
    cerebro = bt_risk.evidence.strategy_file.Script("cross.py", "Cross", ("spx.csv",), 50_000.0)()
    bt_risk.protect(cerebro, bt_risk.Policy(action="pause", cooldown_bars=60))
    (strategy,) = cerebro.run()
    assert found["equity"] == cerebro.broker.getvalue()
    counts = strategy.analyzers.riskjournal.counts()
    assert found["decisions"]["rule 2, stop: stopped out"] == counts["ATRTrailingStop", "stop"]


def test_a_margin_account_has_sentences_of_its_own(command, tmp_path):
    text = 'notional_limit = 20.0\n[[guards]]\nguard = "MarginAccount"\nleverage = 5\n'
    (tmp_path / "margin.toml").write_text(text)
    found = of_run(command, "--policy", "margin.toml")
    assert found["margin"]["figures"]["Bars in a position"] > 0
    assert found["margin"]["text"][-1] == "No position was liquidated."
    assert "\nNo position was liquidated.\n" in command(*RUN, "--policy", "margin.toml")[1]
    assert of_run(command)["margin"] is None


def test_parameters_of_strategy_and_policy_are_set(command, tmp_path):
    bare = of_run(command, "--mode", "bare")
    assert bare["decisions"] == {}
    assert of_run(command, "--mode", "observe")["equity"] == bare["equity"]
    smaller = of_run(command, "--mode", "bare", "--param", "target=0.5", "--param", "fast=5")
    assert smaller["measures"]["Exposure"] < bare["measures"]["Exposure"]
    (tmp_path / "p.toml").write_text("risk_limit = 0.001\n")
    usual, file = of_run(command), of_run(command, "--policy", "p.toml")
    both = of_run(command, "--policy", "p.toml", "--set", "risk_limit=0.01")
    assert file["measures"]["Exposure"] < usual["measures"]["Exposure"]
    assert both == usual
    assert of_run(command, "--set", "risk_limit=inf", "--set", "exposure_limit=inf") != usual


def test_a_comparison_as_json_has_the_figures_of_the_tables(command):
    words = [*WORDS, "--samples", "400", "--set", "sizer=false"]
    status, out, err = command("compare", *words, "--param", "fast=5", "--json")
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert {"bare", "protected", "only stop", "no drawdown"} <= set(found["measures"])
    assert "only size" not in found["measures"]  # sizer=false
    assert set(found["verdicts"]) == set(found["measures"]) - {"bare"}
    assert found["measures"]["bare"]["CAGR"]["difference"] in (0.0, None)
    assert found["ledger"]["ATRTrailingStop"]["paper_trades"] > 0
    assert found["page"] == "bt-risk-compare.html"


THREE = [("--set", f"{name}=inf") for name in ("notional_limit", "exposure_limit", "risk_limit")]


def test_a_comparison_says_what_each_rule_is_worth_if_it_is_asked(command):
    rules = [*WORDS, "--samples", "400", "--set", "sizer=false", *sum(THREE, ())]
    status, out, err = command("compare", *rules, "--attribution", "--json")
    assert (status, err) == (0, "")
    found = json.loads(out)
    worth, ends = found["attribution"], found["attribution"]["rules"]
    assert list(ends) == ["stop", "correlation", "drawdown"]
    assert sum(row["shapley"] for row in ends.values()) == pytest.approx(worth["difference"])
    assert (worth["runs"], worth["permutations"], len(worth["pairs"])) == (8, 0, 3)
    assert ends["correlation"]["low"] is None  # it never acts
    status, out, err = command("compare", *rules, "--attribution")
    assert (status, err) == (0, "")
    text = " ".join(out.split())
    assert all(sentence in text for sentence in worth["sentences"])
    assert text.index("- protected ends with") < text.index("What each rule is worth:")
    assert "all subsets of the rules (8 runs)" in text
    assert command("compare", *rules, "--json")[1].count('"attribution": null') == 1


def test_a_comparison_says_at_which_costs_the_edge_is_gone_if_it_is_asked(command):
    stop = [*WORDS, "--samples", "200", "--set", "sizer=false", *sum(THREE, ())]
    status, out, err = command("compare", *stop, "--costs", "--json")
    assert (status, err) == (0, "")
    found = json.loads(out)["costs"]
    assert (found["runs"], len(found["grid"])) == (30, 16)
    assert set(found["break_even"]) == {"bare", "protected", "worth"}
    text = " ".join(command("compare", *stop, "--costs")[1].split())
    assert all(sentence in text for sentence in found["sentences"])
    assert "Bare and protected at other costs." in text
    assert "5 x commission, slippage 0.25 %" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "cross.py:Cross"], "--data must be given"),
        ([*RUN, "--mode", "dry"], "--mode must be one of"),
        (
            [*RUN, "--param", "fats=3"],
            "Did you mean 'fast'",
        ),
        ([*RUN, "--param", "3"], "must be like name=value"),
        ([*RUN, "--set", "risk_limt=1"], "'risk_limit'?"),
        ([*RUN, "--set", "risk_limit=1"], "Write 0.01"),
        ([*RUN, "--mode", "bare", "--set", "risk_limit=0.1"], "left out with --mode bare"),
        ([*RUN, "--mode", "bare", "--journal", "j.csv"], "--journal must be left out"),
        (["demo", "--step", "100"], "--step must be given with --data"),
        ([*RUN, "--report", "."], "--report must be"),
        (["run", "cross.py:Cros", "--data", "spx.csv"], "It has Cross."),
        ([*RUN, "--cash", "much"], "valid"),
        (["run"], "Missing"),
        (["run", "--dta", "spx.csv"], "--dta"),
        (["rnu"], "No such command"),
        (["new", "."], "path must be"),
    ],
)
def test_a_mistake_is_one_line_and_the_status_2(command, words, said):
    status, out, err = command(*words)
    assert (status, out) == (2, "")
    assert said in err
    assert err.startswith("bt-risk: ")
    assert err.count("\n") == 1


def test_help_has_groups_and_fits_80_columns(command):
    status, out, err = command("--help")
    assert (status, err) == (0, "")
    assert [line.split("─ ")[1].split(" ─")[0] for line in out.splitlines() if "─ " in line] == [
        "Options",
        "Backtests",
        "Policies",
        "Live runs",
        "Operating a live run",
    ]
    assert max(map(len, out.splitlines())) <= 80
    assert command()[0] == 2  # without a verb: the help, and not a success


def test_it_completes_in_shells(command, monkeypatch):
    monkeypatch.setenv("_BT_RISK_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "bt-risk check-")
    monkeypatch.setenv("COMP_CWORD", "1")
    status, out, _ = command()
    assert (status, out.split()) == (0, ["check-data"])


def test_the_reason_of_a_run_without_trades_is_printed_once(command, caplog):
    status, out, err = command(*RUN, "--set", "risk_limit=1e-9")
    assert status == 0
    assert "".join([*out.split("\n"), err, caplog.text]).count("No order was executed") == 1
    assert not logging.getLogger("bt_risk").filters
    found = of_run(command, "--set", "risk_limit=1e-9")
    assert found["no_trades"].startswith("No order was executed: each of")
    assert "No order was executed" not in caplog.text
