"""The page of a challenge: one self-contained HTML file in the style of the tear sheet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bt_risk.evidence.challenge_judge import OUTCOMES
from bt_risk.evidence.challenge_words import HEADINGS, challenge_cells
from bt_risk.limits.account_floor import AccountFloor
from bt_risk.limits.challenge import ProfitTarget
from bt_risk.report.bar_chart import BarChart, bar_chart
from bt_risk.report.fan_chart import FanChart, fan_chart
from bt_risk.report.page import write_page
from bt_risk.report.tables import policy_rows
from bt_risk.rules.account_floor import STATIC, in_currency

if TYPE_CHECKING:
    from bt_risk.evidence.challenge import Challenge

__all__ = ["challenge_page"]


def challenge_page(challenge: Challenge, path: Path, title: str) -> Path:
    """Write the page of a `bt_risk.evidence.Challenge`; return its path."""
    context = {
        "title": title,
        "about": (
            f"A challenge of {challenge.days} trading days, from {challenge.history:,} days of "
            f"{challenge.years:.1f} years."
        ),
        "challenge": challenge,
        "headings": list(HEADINGS.values()),
        "odds": [(name, list(of.values())) for name, of in challenge_cells(challenge).items()],
        "rules": [rule.describe() for rule in challenge.rules],
        "odds_chart": _odds_chart(challenge),
        "fans": [(label, _fan(challenge, label)) for label in challenge.fans],
        "risk_chart": _risk_chart(challenge),
        "begun_headings": list(OUTCOMES),
        "begun": _begun(challenge),
        "policy": policy_rows(challenge.policy),
    }
    return write_page(path, "challenge.html", context)


def _begun(challenge: Challenge) -> list[tuple[str, list[str]]]:
    rows = challenge.begun[list(OUTCOMES)].iterrows()
    return [(str(label), [f"{value:.0%}" for value in row]) for label, row in rows]


def _odds_chart(challenge: Challenge) -> BarChart:
    frame = challenge.frame
    texts = [f"{value:.0%}" for value in frame["passed"]]
    evident = (frame["difference_low"] > 0.0) | (frame["difference_high"] < 0.0)
    kinds = ["" if one else "open" for one in evident]
    caption = (
        f"Probability of passing within {challenge.days} days, with bounds of "
        f"{100 * challenge.confidence:g} %. Green: there is evidence of other odds than those of "
        "bare."
    )
    values = frame["low"], frame["high"], frame["passed"]
    return bar_chart(list(frame.index), texts, values, kinds, caption)


def _risk_chart(challenge: Challenge) -> BarChart:
    by_risk = challenge.by_risk
    names = [
        f"{multiple:g} times" + ("" if np.isnan(risk) else f", {100 * risk:.2g} %")
        for multiple, risk in by_risk["risk"].items()
    ]
    passed = by_risk["passed"]
    caption = (
        "Probability of passing by multiple of the protected sizes, and by risk per trade where "
        "the policy has that limit. All moves of a day are multiplied; the variant at the best "
        "risk is a run of its own, in which steps, cash and the other limits count. The highest of "
        "several odds is a little too high."
    )
    none = pd.Series(0.0, by_risk.index)
    return bar_chart(
        names,
        [f"{value:.0%}" for value in passed],
        (none, passed, passed),
        [""] * len(names),
        caption,
    )


def _fan(challenge: Challenge, label: str) -> FanChart:
    quantiles = challenge.fans[label]
    ends = quantiles.iloc[-1]
    caption = (
        f"Half of the paths end between {ends[25]:,.0f} and {ends[75]:,.0f}, nine of ten between "
        f"{ends[5]:,.0f} and {ends[95]:,.0f}, by day of the challenge. A path stays where it has "
        "passed or failed."
    )
    return fan_chart(quantiles.to_numpy(), _levels(challenge), caption)


def _levels(challenge: Challenge) -> list[tuple[str, float, str]]:
    """Return the floors at the begin, and the target."""
    found = []
    for rule in challenge.rules:
        initial = getattr(rule, "initial_balance", None) or challenge.start
        if isinstance(rule, AccountFloor) and rule.amount is not None:
            word = "floor" if rule.mode == STATIC else "floor at the begin"
            found.append(("loss", initial - in_currency(rule.amount, initial), word))
        if isinstance(rule, ProfitTarget) and rule.amount is not None:
            found.append(("gain", initial + in_currency(rule.amount, initial), "target"))
    return found
