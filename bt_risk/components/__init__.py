"""The Backtrader objects that a user adds: sizers, observers, analyzers and brokers."""

from bt_risk.components import observers as observers

__all__ = ["observers"]
