"""The ``bt-risk`` command."""

from bt_risk.cli.app import main

__all__ = ["main"]
