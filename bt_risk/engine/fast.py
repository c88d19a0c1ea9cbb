"""fast: the quick loop for a Cerebro, with or without risk controls."""

from __future__ import annotations

import backtrader as bt

from bt_risk.engine.loop import QuickLoop
from bt_risk.errors import ParameterError
from bt_risk.feeds.bulk import use_bulk_preload

__all__ = ["fast"]


def fast(cerebro: bt.Cerebro) -> None:
    """Let a Cerebro run in about half of the time or less, with the same results.

    Every bar, order, notification, value and analysis is equal to the last bit. Where that is not
    certain, Backtrader's own loop runs; a line of the log ``bt_risk`` (level INFO) says which one
    does, and why. `bt_risk.protect` does this by itself.

    Parameters
    ----------
    cerebro : backtrader.Cerebro

    Raises
    ------
    ParameterError
        If that is no Cerebro.
    """
    if not isinstance(cerebro, bt.Cerebro):
        raise ParameterError("fast", "cerebro", "a backtrader.Cerebro", cerebro)
    if not any(isinstance(store, QuickLoop) for store in cerebro.stores):
        cerebro.addstore(QuickLoop(cerebro))
        # An optimisation on several processes preloads before it starts its stores.
        for data in cerebro.datas:
            use_bulk_preload(data)
