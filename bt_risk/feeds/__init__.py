"""Prices in: a fast feed, the bundled series, a user's own file."""

from bt_risk.feeds.frame import FrameData

__all__ = ["FrameData"]
