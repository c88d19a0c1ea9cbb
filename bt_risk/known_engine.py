"""The engine whose internals are known: what replaces parts of a run is right for that one only."""

import backtrader as bt

__all__ = ["other_engine"]

_KNOWN = ("backtrader", "1.9.78.123")


def other_engine() -> str:
    """Return name and version of the engine, nothing if it is the one whose internals are known.

    Another engine may stand in for Backtrader: see docs/engines.md.
    """
    engine = bt.Cerebro.__module__.partition(".")[0], bt.__version__
    return "" if engine == _KNOWN else " ".join(engine)
