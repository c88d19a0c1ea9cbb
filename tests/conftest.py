"""Run the tests with another engine in Backtrader's place: BT_RISK_ENGINE=backtrader_next pytest.

docs/engines.md tells how a user does the same; `helpers.engines` lists which tests are left out.
"""

import os

from hypothesis import settings

# Every run tries the same examples. No test asks the clock: 0.2 s on a busy machine is no fault.
settings.register_profile("bt_risk", deadline=None, derandomize=True)
settings.load_profile("bt_risk")

ENGINE = os.environ.get("BT_RISK_ENGINE", "backtrader")

if ENGINE != "backtrader":
    from helpers.engines import add_in_order, skip_left_out, stand_in

    stand_in(ENGINE)
    add_in_order()
    pytest_collection_modifyitems = skip_left_out
