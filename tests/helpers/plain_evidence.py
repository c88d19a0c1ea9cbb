"""The bootstrap of halts and the replay of a shadow book in their plain form: oracles."""

import numpy as np

from bt_risk.evidence.bootstrap import block_length, resampled_days
from bt_risk.evidence.counterfactual import Counterfactual
from bt_risk.evidence.halt_odds import PATHS
from bt_risk.evidence.paper_positions import PaperPositions
from bt_risk.tolerances import RATIO_EPS


def simulated(values, limit, ahead, samples, seed):
    """Return what ``halt_odds._simulate`` returns, one history after the other."""
    block = block_length(values)
    rng = np.random.default_rng([seed, 1])
    chances, firsts = [], []
    for days in resampled_days(len(values), block, samples, seed):
        history = values[days]
        returns = history[_futures(rng, len(history), ahead, block)]
        wealth = np.cumprod(1.0 + returns, axis=1)
        fall = 1.0 - wealth / np.maximum(np.maximum.accumulate(wealth, axis=1), 1.0)
        halted = fall >= limit - RATIO_EPS
        hit = halted.any(axis=1)
        chances.append(hit.mean())
        firsts.append(halted.argmax(axis=1)[hit] + 1)
    return np.array(chances), np.concatenate(firsts)


def _futures(rng, count, ahead, block):
    jumps = rng.random((PATHS, ahead)) < 1.0 / block
    jumps[:, 0] = True
    starts = rng.integers(0, count, (PATHS, ahead))
    places = np.arange(ahead)
    since = np.maximum.accumulate(np.where(jumps, places, 0), axis=1)
    return (np.take_along_axis(starts, since, axis=1) + places - since) % count


def replay_every_bar(monkeypatch):
    """Let a shadow book replay every bar in full, and add up every commission on each."""
    monkeypatch.setattr(Counterfactual, "_pass", lambda self, bar: self._replay(bar, (), (), ()))
    monkeypatch.setattr(
        PaperPositions, "commission", lambda self: sum([t.costs for t in self.paper_trades])
    )
