"""The odds of a challenge in words, and as cells of a table."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

import pandas as pd

from bt_risk.evidence.challenge_judge import OUTCOMES
from bt_risk.evidence.variants import BARE, PROTECTED
from bt_risk.policy import Policy

if TYPE_CHECKING:
    from bt_risk.evidence.challenge import Challenge

__all__ = [
    "BEST",
    "HEADINGS",
    "LEVELLED",
    "challenge_cells",
    "challenge_html",
    "challenge_sentences",
    "own_run",
]

LEVELLED, BEST = "bare at equal volatility", "protected at the best risk"
# Columns of the table: name in `Challenge.frame`, and heading.
HEADINGS = {
    "passed": "passed",
    "floor": "floor",
    "daily loss": "daily loss",
    "halted": "halted",
    "incomplete": "incomplete",
    "open": "open",
    "difference": "less bare",
    "days": "days to pass",
}


def challenge_sentences(challenge: Challenge) -> list[str]:
    """Return the odds of every variant, what differs, and what the history cannot say."""
    frame = challenge.frame
    found = [f"{label} {_odds(challenge, label)}" for label in frame.index]
    found.append(_difference(challenge))
    found.append(_best(challenge))
    found.append(_begun(challenge))
    apart = challenge.history // challenge.days
    found.append(
        f"the bounds are what {challenge.years:.1f} years leave open, which have room for {apart} "
        f"challenges of {challenge.days} days one after the other; they do not know other markets"
    )
    return found


def _odds(challenge: Challenge, label: str) -> str:
    row = challenge.frame.loc[label]
    bounds = f"{100 * challenge.confidence:g} %: {_percent(row['low'])} to {_percent(row['high'])}"
    days = "" if math.isnan(row["days"]) else f", in the median after {row['days']:.0f} days"
    return f"passes with a probability of {_percent(row['passed'])} % ({bounds} %){days}"


def _difference(challenge: Challenge) -> str:
    row = challenge.frame.loc[PROTECTED]
    low, high = row["difference_low"], row["difference_high"]
    figures = (
        f"{_points(row['difference'])} percentage points, {100 * challenge.confidence:g} % "
        f"{_points(low)} to {_points(high)}"
    )
    if low > 0.0 or high < 0.0:
        word = "more" if low > 0.0 else "less"
        return f"evidence that protected passes {word} often than bare: {figures}"
    return f"no evidence that protected passes more or less often than bare: {figures}"


def _best(challenge: Challenge) -> str:
    row = challenge.by_risk.loc[challenge.multiple]
    if not row["passed"] > 0.0:
        return "no multiple of the protected sizes passes on any path"
    risk = "" if math.isnan(row["risk"]) else f", {100 * row['risk']:.2g} % at risk per trade"
    edge = ""
    if challenge.multiple in (challenge.by_risk.index[0], challenge.by_risk.index[-1]):
        edge = "; that is the last one tried, and the best may lie beyond"
    odds = f": {_percent(row['passed'])} % with every move multiplied"
    if own_run(challenge.policy, challenge.multiple):
        run = challenge.frame.loc[BEST, "passed"]
        odds += f", {_percent(run)} % in a run with that limit"
    return (
        f"the odds are best at {challenge.multiple:g} times the protected sizes{risk}{odds}{edge}"
    )


def own_run(policy: Policy, multiple: float) -> bool:
    """Return whether the best risk has a run of its own: where the policy makes the sizes."""
    return multiple != 1.0 and policy.risk_limit is not None and policy.sizer


def _begun(challenge: Challenge) -> str:
    begun = challenge.begun["passed"]
    count = max(challenge.history - challenge.days + 1, 0)
    if not count:
        return f"the history is shorter than one challenge of {challenge.days} days"
    return (
        f"of the {count:,} challenges that begin on a day of the history and end within it, bare "
        f"passes {_percent(begun[BARE])} % and protected {_percent(begun[PROTECTED])} %"
    )


def challenge_cells(challenge: Challenge) -> dict[str, dict[str, tuple[str, str]]]:
    """Return the table of the odds: figure and bounds of each column, by variant."""
    cells = {}
    for label, row in challenge.frame.iterrows():
        texts = {name: (f"{_percent(row[name])} %", "") for name in OUTCOMES}
        texts["passed"] = texts["passed"][0], f"{_percent(row['low'])} to {_percent(row['high'])} %"
        texts["difference"] = _points(row["difference"]), ""
        if label != BARE:
            bounds = _points(row["difference_low"]), _points(row["difference_high"])
            texts["difference"] = texts["difference"][0], " to ".join(bounds)
        days = "-" if math.isnan(row["days"]) else f"{row['days']:.0f}"
        texts["days"] = days, ""
        cells[str(label)] = {name: texts[name] for name in HEADINGS}
    return cells


def challenge_html(challenge: Challenge) -> str:
    """Return sentences and the table of the odds as HTML, for a notebook."""
    sentences = "".join(f"<li>{escape(one)}</li>" for one in challenge.sentences())
    cells = challenge_cells(challenge)
    rows = {
        label: [" ".join(filter(None, one)) for one in of.values()] for label, of in cells.items()
    }
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=list(HEADINGS.values()))
    table: str = frame.to_html(border=0)
    return f"<ul>{sentences}</ul>\n{table}"


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.0f}"


def _points(share: float) -> str:
    text = f"{100 * share:+.0f}"
    return "0" if text in ("+0", "-0") else text
