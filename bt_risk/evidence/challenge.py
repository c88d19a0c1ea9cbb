"""``bt_risk.challenge``: the probability that a strategy passes the challenge of a trading firm."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import backtrader as bt
import numpy as np
import pandas as pd

from bt_risk.errors import DataError, check_positive, check_whole
from bt_risk.evidence.account_days import AccountDays, days_run
from bt_risk.evidence.bootstrap import block_length, chance_interval, check_bootstrap
from bt_risk.evidence.challenge_judge import OUTCOMES, Judge, Outcome
from bt_risk.evidence.challenge_paths import Judged, drawn_days, judged, windows
from bt_risk.evidence.challenge_rules import ChallengeRules, OwnRules, own_rules, rules_of
from bt_risk.evidence.challenge_words import BEST, LEVELLED, challenge_sentences, own_run
from bt_risk.evidence.halt_odds import LEAST
from bt_risk.evidence.metrics import volatility
from bt_risk.evidence.variants import BARE, PROTECTED
from bt_risk.limits.trade_guards import Guard
from bt_risk.policy import Policy, policy_of

__all__ = ["BEST", "LEVELLED", "Challenge", "challenge"]

COMPONENT = "challenge"
PATHS = 25  # futures of each resampled history
SEARCHED = 5  # of them where the best risk is looked for
MULTIPLES = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0)
MOST_RISK = 0.25  # of equity in one trade: no size beyond it is tried
FANS = (5, 25, 50, 75, 95)  # percent of the paths that lie below
# What is at risk in one trade, in a policy.
_RISKS = ("risk_limit", "kelly_limit", "warmup_risk", "probe_risk")


@dataclass(frozen=True)
class Challenge:
    """The odds of a challenge, and how certain they are.

    Attributes
    ----------
    frame : DataFrame
        Indexed by variant: ``passed`` with ``low`` and ``high``; the shares of the other outcomes,
        ``floor``, ``daily loss``, ``halted`` (by the policy's own breaker or floor), ``incomplete``
        (target reached, days or consistency not) and ``open``; ``difference`` of the odds from bare
        with ``difference_low`` and ``difference_high``; and the median ``days`` until it is passed,
        NaN where no path passes.
    by_risk : DataFrame
        Indexed by multiple of the protected sizes: ``risk`` per trade (NaN without a risk limit)
        and ``passed``, from a fifth of the paths.
    begun : DataFrame
        Indexed by variant: shares of the outcomes of the challenges that begin on each day of the
        history itself. They overlap.
    fans : dict of DataFrame
        By variant: equity that so many percent of the paths are below (`FANS`), by day.
    multiple : float
        Multiple of the protected sizes at which the odds are best.
    leverage : float
        Multiple of the bare sizes that has the volatility of the protected run.
    rules, policy : tuple of Guard, Policy
    days, history, years : int, int, float
        Days of a challenge, and days and years that they are drawn from.
    block : float
        Mean length of the drawn blocks, in days.
    start : float
        Equity at the begin, in currency.
    confidence, samples : float, int
    """

    frame: pd.DataFrame
    by_risk: pd.DataFrame
    begun: pd.DataFrame
    fans: dict[str, pd.DataFrame] = field(repr=False)
    multiple: float
    leverage: float
    rules: tuple[Guard, ...]
    policy: Policy = field(repr=False)
    days: int
    history: int
    years: float
    block: float
    start: float
    confidence: float
    samples: int

    @property
    def paths(self) -> int:
        """Return how many paths each variant was judged on."""
        return self.samples * PATHS

    def sentences(self) -> list[str]:
        """Return the odds in words, and what they do not say."""
        return challenge_sentences(self)

    def __str__(self) -> str:
        return "\n".join(self.sentences())

    def _repr_html_(self) -> str:
        """Return sentences and odds, for a notebook."""
        from bt_risk.evidence.challenge_words import challenge_html

        return challenge_html(self)

    def write(self, path: str | Path, title: str = "Challenge") -> Path:
        """Write the page, one self-contained HTML file; return its path."""
        from bt_risk.evidence.challenge_page import challenge_page

        return challenge_page(self, Path(path), title)


def challenge(
    build: Callable[[], bt.Cerebro],
    policy: Policy | Mapping[str, Any] | str | Path | None,
    rules: Sequence[Guard] | str | Path,
    *,
    days: int = 60,
    blocks: float | None = None,
    confidence: float = 0.95,
    samples: int = 400,
    seed: int = 0,
) -> Challenge:
    """Return the odds that an unchanged strategy passes the challenge of a trading firm.

    Parameters
    ----------
    build : callable
        Returns a new Cerebro, without a policy, each time it is called. Its cash is the size of the
        account.
    policy : Policy, dict or path
        The policy of the protected run; None is the default policy.
    rules : list of guards, or path
        `AccountFloor`, `DailyLossLimit`, `ProfitTarget`, `MinimumTradingDays` and `Consistency`; a
        path names a TOML file with a table ``[[guards]]`` for each. A touched floor and a daily
        loss fail, unless the floor pauses (``on_daily="pause"``). Without a target a challenge is
        passed where nothing has failed on all days.
    days : int, default 60
        Trading days after which a challenge ends.
    blocks : float, optional
        Mean length of the blocks of days that are drawn. When left out: what the returns need, and
        at least as long as a mean trade.
    confidence : float
        Confidence of every interval: 0.95 is 95 %.
    samples : int
        Resampled histories, each with 25 futures.
    seed : int

    Returns
    -------
    Challenge

    Raises
    ------
    ParameterError
        If an argument is outside its range, a rule is none of a challenge, or days of different
        rules begin at different times.
    DataError
        If there are fewer than 20 days, no run has a trade, or a run ends before the others.

    Notes
    -----
    The strategy runs bare and protected. Each trading day of a run is one return with the lowest
    and highest equity inside it; days are drawn in blocks (stationary bootstrap, in two stages as
    in `halt_probability`), equity is their product, and the state machines of the rules judge every
    path. What of the policy ends a run (drawdown, `AccountFloor`, `ProfitTarget`) is judged on each
    path as well, and left out of the run that the days come from.

    References
    ----------
    Politis & Romano, The Stationary Bootstrap, JASA 89 (1994).
    """
    chosen = policy_of(COMPONENT, policy)
    check_bootstrap(COMPONENT, confidence, samples, seed)
    ahead = check_whole(COMPONENT, "days", days, remedy="Trading days of a challenge.")
    if blocks is not None:
        check_positive(COMPONENT, "blocks", blocks, remedy="Days of a mean block.")
    firm = rules_of(COMPONENT, rules)
    own = own_rules(COMPONENT, chosen, firm)
    runs = {
        BARE: days_run(COMPONENT, build, None, firm.reset),
        PROTECTED: days_run(COMPONENT, build, own.run, firm.reset),
    }
    start, runs = float(runs[BARE].begin[0]), _traded(runs)
    study = _Study(firm, start, ahead, confidence, samples, seed)
    returns = [one.returns for one in runs.values()]
    block = max(1.0, float(blocks)) if blocks is not None else block_length(*returns)
    if blocks is None:  # a path needs trades that open and close, or its balance is its equity
        lasting = max(one.trade_days for one in runs.values())
        block = max(block, min(lasting, len(runs[BARE]) / 4))
    study.draw(len(runs[BARE]), block)
    level = [float(volatility(one.returns)) for one in (runs[BARE], runs[PROTECTED])]
    leverage = level[1] / level[0] if level[0] > 0.0 else 0.0
    by_risk = study.by_risk(runs[PROTECTED], own, chosen.risk_limit)
    multiple = float(by_risk["passed"].idxmax())
    variants: dict[str, tuple[AccountDays, OwnRules | None]] = {
        BARE: (runs[BARE], None),
        LEVELLED: (runs[BARE].scaled(leverage), None),
        PROTECTED: (runs[PROTECTED], own),
        BEST: (_at_best(build, chosen, own, runs[PROTECTED], multiple, firm), own),
    }
    found = {label: study.judged(*one) for label, one in variants.items()}
    return Challenge(
        frame=study.frame(found),
        by_risk=by_risk,
        begun=pd.DataFrame({label: study.begun(*one) for label, one in variants.items()}).T,
        fans={label: _fan(one) for label, one in found.items()},
        multiple=multiple,
        leverage=leverage,
        rules=firm.guards,
        policy=chosen,
        days=ahead,
        history=len(runs[BARE]),
        years=float(np.ptp(runs[BARE].keys) + 1.0) / 365.25,
        block=block,
        start=start,
        confidence=confidence,
        samples=samples,
    )


def _traded(runs: Mapping[str, AccountDays]) -> dict[str, AccountDays]:
    """Return the runs from the first day on which one of them opened a position."""
    first, *others = (one.keys for one in runs.values())
    if any(not np.array_equal(first, keys) for keys in others):
        lengths = [len(one) for one in runs.values()]
        raise DataError(f"challenge: every run must have the same days: {lengths}.")
    opened = np.flatnonzero(np.any([one.opened for one in runs.values()], axis=0))
    if not len(opened):
        raise DataError("challenge: no run has opened a position: there is nothing to judge.")
    if len(first) - opened[0] < LEAST:
        count = len(first) - opened[0]
        raise DataError(f"challenge: at least {LEAST} days after the first entry; got {count}.")
    return {label: one.part(int(opened[0])) for label, one in runs.items()}


def _at_best(
    build: Callable[[], bt.Cerebro],
    policy: Policy,
    own: OwnRules,
    days: AccountDays,
    multiple: float,
    firm: ChallengeRules,
) -> AccountDays:
    """Return the days at the best risk: of a run of its own, where the policy makes the sizes."""
    if not own_run(policy, multiple):
        return days.scaled(multiple)
    changes = {name: multiple * getattr(own.run, name) for name in _RISKS}
    facts = {
        name: {k: multiple * v if k == "risk_limit" else v for k, v in of_one.items()}
        for name, of_one in (own.run.instruments or {}).items()
    }
    scaled = replace(own.run, **changes, instruments=facts or None)
    run = days_run(COMPONENT, build, scaled, firm.reset)
    return run.part(len(run) - len(days))


def _fan(found: Judged) -> pd.DataFrame:
    quantiles = np.quantile(found.equity, [one / 100 for one in FANS], axis=0)
    return pd.DataFrame(quantiles.T, columns=list(FANS)).rename_axis("day")


@dataclass
class _Study:
    """Judge variants of one strategy on the same drawn days."""

    rules: ChallengeRules
    start: float
    ahead: int
    confidence: float
    samples: int
    seed: int
    days: np.ndarray = field(default_factory=lambda: np.empty((0, 0), dtype=int))
    count: int = 0

    def draw(self, count: int, block: float) -> None:
        """Draw the days of every path."""
        self.count = count
        self.days = drawn_days(count, self.ahead, block, self.samples, PATHS, self.seed)

    def judged(self, account: AccountDays, own: OwnRules | None) -> Judged:
        """Return how every path ends."""
        return judged(Judge(self.rules, account, self.start, own), self.days)

    def begun(self, account: AccountDays, own: OwnRules | None) -> dict[str, float]:
        """Return the outcomes of the challenges that begin on each day of the history."""
        judge = Judge(self.rules, account, self.start, own)
        return judged(judge, windows(self.count, self.ahead)).shares()

    def by_risk(self, account: AccountDays, own: OwnRules, risk: float | None) -> pd.DataFrame:
        """Return the odds by multiple of the sizes, on some of the paths."""
        paths = self.days.reshape(self.samples, PATHS, self.ahead)[:, :SEARCHED]
        paths = paths.reshape(-1, self.ahead)
        rows = {}
        for multiple in MULTIPLES:
            if multiple * (risk or 0.0) > max(MOST_RISK, risk or 0.0):
                break
            judge = Judge(self.rules, account.scaled(multiple), self.start, own)
            passed = judged(judge, paths).outcomes == Outcome.PASSED
            at_risk = math.nan if risk is None else multiple * risk
            rows[multiple] = {"risk": at_risk, "passed": float(passed.mean())}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("multiple")

    def frame(self, found: Mapping[str, Judged]) -> pd.DataFrame:
        """Return the table of the odds, with bounds."""
        bare = self._passed(found[BARE])
        rows = {}
        for label, one in found.items():
            passed = self._passed(one)
            odds = chance_interval(passed, self.confidence)
            apart = chance_interval(passed - bare, self.confidence)
            ended = one.days[one.outcomes == Outcome.PASSED]
            rows[label] = {
                "passed": odds.value,
                "low": odds.low,
                "high": odds.high,
                **{name: share for name, share in one.shares().items() if name != OUTCOMES[0]},
                "difference": apart.value,
                "difference_low": apart.low,
                "difference_high": apart.high,
                "days": float(np.median(ended)) if len(ended) else math.nan,
            }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("variant")

    def _passed(self, one: Judged) -> np.ndarray:
        return (one.outcomes == Outcome.PASSED).astype(float).reshape(self.samples, PATHS)
