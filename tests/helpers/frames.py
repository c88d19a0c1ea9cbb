"""PandasData for whatever engine runs the tests."""

import backtrader as bt

from bt_risk.feeds.frame import FrameData
from bt_risk.known_engine import other_engine

__all__ = ["PandasData"]

# Another engine may give its own PandasData other parameters and values: there it is FrameData.
PandasData = FrameData if other_engine() else bt.feeds.PandasData
