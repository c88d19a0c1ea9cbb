"""Every example runs, prints the last line that it promises, and gives numbers that hold."""

import ast
import contextlib
import io
import runpy

import pytest
from helpers.shared_data import ROOT

import bt_risk

FILES = sorted((ROOT / "examples").glob("*.py"))
MARK = "Expected last line: "
SLOW = ("07_risk_parity", "btc_mean_reversion")
EACH = [pytest.param(p, marks=pytest.mark.full) if p.stem in SLOW else p for p in FILES]


def half_kelly(r):
    assert r["first"] == pytest.approx(0.01, rel=0.01)  # before 30 trades: 1 %, whole shares
    assert r["first"] <= 0.01
    assert 0.01 < r["largest"] <= 0.02
    assert r["trades"] > 30


def atr_stop(r):
    assert 0 < r["hits"] <= r["trades"]
    assert r["without"] < r["worst"] < 0


def correlation_cap(r):
    assert r["refused"] > 0
    assert r["capped"] < r["free"] == 4


def drawdown_breaker(r):
    assert 0.10 <= r["drawdown_at_trip"] < 0.11
    assert r["flat_at"] > r["tripped_at"]
    assert r["flattened"]
    assert r["bars"] < len(bt_risk.load_data("nasdaq_1d").loc["2000":"2002"])
    assert r["fall"] > 0.6


def all_together(r):
    assert r["safe"] < 0.12 < r["bare"]
    assert r["counts"]["CorrelationLimit", "reject"] > 0
    assert r["counts"]["ATRTrailingStop", "stop"] > 0


def pure_functions(r):
    assert r["size"] == 2000.0
    # 3000 x 0.8 for the pair, then 2400 + 2000 + 1000 scaled to 5 % of 100,000.
    expected = {"sp500": 2400 / 1.08, "nasdaq": 2000 / 1.08, "ibm": -1000 / 1.08}
    assert r["allowed"] == pytest.approx(expected)
    # 105,000 is the peak: 95,000 is down 9.5 %, 94,499 is down 10.001 %.
    assert r["breaker"] == [True, True, False]
    assert r["stop"].notna().sum() == len(r["stop"]) - 14
    assert len(r["signals"]) > 0


def risk_parity(r):
    equal, parity, capped = r.values()
    assert equal[1] > parity[1] > capped[1]  # volatility
    assert equal[2] > parity[2] > capped[2]  # drawdown


def challenge(r):
    assert r == {"bare": False, "with 1 % at risk": True}


def own_limit(r):
    assert r["refused"] > 0
    assert r["falls"][1] < 0.7 * r["falls"][0]


def screener(r):
    rows = r["rows"]
    reasons = rows.reason.str.replace(r"^\d+", "some", regex=True)
    listed = rows[rows.data == "GOOG"].groupby(reasons).time.min()
    assert listed["no bar yet"] < listed["some of 200 bars"] < listed[""]
    assert rows.groupby("time").picked.sum().max() == 2
    assert sum(r["held"].values()) == rows.picked.sum() > 200
    assert r["value"] > 200_000


def btc_mean_reversion(r):
    assert r["plain"]["trades"] > r["filtered"]["trades"] > 0
    assert r["filtered"]["fall"] < 0.12
    assert r["change"] < -0.7 < r["plain"]["equity"] / 100_000 - 1 < 0


CHECKS = {
    "01_half_kelly": half_kelly,
    "02_atr_stop": atr_stop,
    "03_correlation_cap": correlation_cap,
    "04_drawdown_breaker": drawdown_breaker,
    "05_all_together": all_together,
    "06_pure_functions": pure_functions,
    "07_risk_parity": risk_parity,
    "08_challenge": challenge,
    "09_own_limit": own_limit,
    "10_screener": screener,
    "btc_mean_reversion": btc_mean_reversion,
}


def test_every_example_is_checked():
    assert [path.stem for path in FILES] == list(CHECKS)


@pytest.mark.parametrize("path", EACH, ids=lambda path: path.stem)
def test_the_example_prints_what_it_promises(path):
    promised = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))).partition(MARK)[2]
    printed = io.StringIO()
    # Backtrader looks the module of a strategy up by name: this one is there.
    main = runpy.run_path(str(path), run_name=__name__)["main"]
    with contextlib.redirect_stdout(printed):
        result = main()
    assert printed.getvalue().splitlines()[-1] == promised
    CHECKS[path.stem](result)


def test_every_example_is_short_and_imports_only_what_is_installed():
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) < 60, path
        assert text.startswith('"""'), path
        assert text.split("\n")[0].endswith("?"), path
        assert "# %%" in text, path
        allowed = {"bt_risk", "pandas"} | ({"backtrader"} if "06" not in path.stem else set())
        assert imported(text) - {"sys"} <= allowed, path


def imported(text):
    """Return the names of the modules that this source imports."""
    return {
        alias.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }


def test_the_page_of_the_examples_has_each_with_its_question():
    page = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    for path in FILES:
        question = path.read_text(encoding="utf-8").splitlines()[0].removeprefix('"""')
        assert f"| [{path.name}]({path.name}) | {question} |" in page
