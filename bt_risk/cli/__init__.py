"""The ``bt-risk`` command."""

import warnings

# A docstring of Backtrader has an escape that Python warns of when it compiles the module: from
# 3.12 on in everybody's terminal, before the one line that the command has to say.
with warnings.catch_warnings():
    warnings.filterwarnings("ignore", ".*invalid escape sequence", module=".*backtrader")
    import backtrader  # noqa: F401  # the command needs it in any case

from bt_risk.cli.app import main  # noqa: E402  # it imports Backtrader, too

__all__ = ["main"]
