"""benchmarks/article_2024.py: what benchmarks/README.md says of it is what it finds."""

import pytest
from helpers.benchmark_package import load
from helpers.shared_data import ROOT, shared_data

article = load("article_2024")


@pytest.mark.full
def test_the_figures_of_the_benchmark_are_those_that_are_written_down(monkeypatch):
    path = shared_data("crypto_1h_2024/BTCUSDT_1h_2024.csv.gz")
    monkeypatch.setenv("BT_RISK_SHARED_DATA", str(path.parents[1]))
    text = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    found = article.compared(article.prices(), article.SIDE)
    growth = found.frame["value"].unstack()["CAGR"]
    for value in (growth["bare"], growth["protected"]):
        assert f"{100 * value:.1f} %" in text
    rules = found.shadow.by_rule()["balance"]
    for rule in ("ATRTrailingStop", "sizes of the sizer", "DrawdownBreaker"):
        assert f"{abs(rules[rule]):,.0f}" in text
    assert rules.sum() == pytest.approx(found.shadow.difference)
    assert not found.sharpe["evidence"].any()


def test_without_the_prices_it_says_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("BT_RISK_SHARED_DATA", str(tmp_path))
    with pytest.raises(SystemExit, match="BT_RISK_SHARED_DATA names the folder"):
        article.main([])
