"""What a notebook shows of a policy, a journal, odds and a comparison."""

import pytest

import bt_risk
from bt_risk.components.risk_journal import RiskJournal
from bt_risk.evidence.halt_odds import HaltOdds


def test_a_policy_is_its_own_words_in_a_table():
    html = bt_risk.Policy(drawdown_limit=0.15, correlation_limit=None)._repr_html_()
    assert "<td>risk per trade</td>" in html
    assert "15 % below the high-water mark" in html
    assert "<td>no limit</td>" in html  # correlation
    assert html.count("<tr>") + html.count("<tr ") == 1 + len(
        bt_risk.Policy().describe().split("\n")
    )


def test_names_of_a_user_are_text():
    groups = dict(groups={"<b>big</b>": ["A"]}, group_limit=0.02)
    html = bt_risk.Policy(**groups)._repr_html_()
    assert "<b>" not in html
    assert "&lt;b&gt;big" in html


def test_a_journal_is_its_frame():
    assert "_repr_html_" in vars(RiskJournal)


def test_odds_are_a_sentence():
    odds = HaltOdds(float("inf"), 252, 252, 0.95, (0, 0, 0), (0, 0, 0))
    assert odds._repr_html_() == "<p>No drawdown limit: nothing halts this run.</p>"
    with pytest.raises(AttributeError):
        odds.horizon = 3
