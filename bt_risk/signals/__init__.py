"""Signals in: one record, its files, the data feed, and what receives records over the network."""

from bt_risk.signals.data import SignalData

__all__ = ["SignalData"]
