"""Report deposits and withdrawals to the gate of a run: `bt_risk.cash_flow`."""

from __future__ import annotations

from typing import Any

from bt_risk.errors import ParameterError
from bt_risk.gate.broker import RiskBroker
from bt_risk.gate.bypass import running_gate

__all__ = ["cash_flow"]


def cash_flow(run: Any, amount: float) -> None:
    """Report a deposit or a withdrawal: it is no gain and no loss.

    Behind a live broker it says what a move of cash is about that has come, or is to come, and
    nothing is paid; it counts once the cash of the account shows it. Backtrader's own simulation
    pays it, on the next bar. Any thread may call it.

    Parameters
    ----------
    run : Strategy or Cerebro
        Of the run that is protected.
    amount : float
        Currency of the account: positive for a deposit, negative for a withdrawal.

    Examples
    --------
    >>> import backtrader as bt
    >>> class Saving(bt.Strategy):
    ...     def next(self):
    ...         cash_flow(self, 1_000.0)
    """
    cerebro = getattr(run, "cerebro", run)
    gate = running_gate(cerebro) or getattr(cerebro, "broker", None)
    if not isinstance(gate, RiskBroker):
        remedy = "Call bt_risk.protect(cerebro) first."
        raise ParameterError("cash_flow", "run", "a protected Strategy or Cerebro", run, remedy)
    gate.cash_flow(amount)
