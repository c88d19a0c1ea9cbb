"""What each rule is worth in a run of the demo: every subset of its rules runs."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import backtrader as bt

from bt_risk.demo.portfolios import Portfolio
from bt_risk.demo.runs import PAGE, bare_cerebro, protect_or_size
from bt_risk.errors import ParameterError
from bt_risk.evidence.attribution import Attribution, RunsBySubset, attribute, plan_subsets
from bt_risk.evidence.bootstrap import block_length, resampled_days
from bt_risk.evidence.forked import can_fork, forked_runs, loaded
from bt_risk.evidence.runner import RunEnd, quiet, results_of
from bt_risk.evidence.variants import BARE
from bt_risk.policy import Policy
from bt_risk.report.record import ReportData, record_of

__all__ = ["attributed"]

PERMUTATIONS, SAMPLES, SEED, CONFIDENCE = 24, 1000, 0, 0.95  # the defaults of `bt_risk.compare`


def attributed(
    portfolio: Portfolio,
    label: str = PAGE,
    workers: int = 1,
    on_done: Callable[[], None] = lambda: None,
) -> Attribution:
    """Divide what one run of a portfolio earned more or less than bare among its rules.

    Where the sizer of the policy is off, positions have the share of equity of the bare run.

    Parameters
    ----------
    portfolio : Portfolio
    label : str
        The run.
    workers : int
        Number of processes, where processes can be forked.
    on_done : callable
        Called after each run.
    """
    policy = portfolio.policy(label)
    if policy is None:
        raise ParameterError("demo", "label", "that of a protected run", label)
    plan = plan_subsets(policy, PERMUTATIONS, SEED)
    ends = {}
    with _running(portfolio, plan.policies(policy), workers) as results:
        for name, end in results:
            ends[name] = end
            on_done()
    bare = ends[BARE].returns
    block = block_length(bare, *(end.returns - bare for end in ends.values()))
    picks = resampled_days(len(bare), block, SAMPLES, SEED)
    return attribute(RunsBySubset(plan, ends), picks, block, CONFIDENCE)


@contextmanager
def _running(
    portfolio: Portfolio, policies: Mapping[str, Policy | None], workers: int
) -> Iterator[Iterator[tuple[str, RunEnd]]]:
    if workers == 1 or not can_fork():
        yield results_of(_run, {name: (portfolio, one) for name, one in policies.items()}, 1)
        return
    cerebro = bare_cerebro(portfolio)

    def run(name: str) -> RunEnd:
        return _end(cerebro, portfolio, policies[name])

    with loaded(cerebro), forked_runs(run, policies, workers) as results:
        yield results


def _run(portfolio: Portfolio, policy: Policy | None) -> RunEnd:
    return _end(bare_cerebro(portfolio), portfolio, policy)


def _end(cerebro: bt.Cerebro, portfolio: Portfolio, policy: Policy | None) -> RunEnd:
    protect_or_size(cerebro, portfolio, policy)
    cerebro.addanalyzer(ReportData)
    with quiet():
        (strategy,) = cerebro.run()
    return RunEnd.of(record_of(strategy))
