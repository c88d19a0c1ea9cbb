"""Interactive Brokers for Backtrader, on ib_async: connection, data feed and broker.

It needs TWS or IB Gateway with its API enabled, and the extra ``ib`` of this package. The module
works in one thread: the event loop of ib_async runs while Backtrader's loop waits for a bar.
"""

try:
    import ib_async  # noqa: F401  # the submodules need it: one error says so
except ImportError as error:
    raise ImportError("bt_risk.stores.ib needs ib_async: pip install 'bt_risk[ib]'") from error

from bt_risk.stores.ib.broker import IBBroker
from bt_risk.stores.ib.connection import IBStore
from bt_risk.stores.ib.data import IBData

__all__ = ["IBBroker", "IBData", "IBStore"]
