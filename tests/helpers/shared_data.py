"""Find real data that are not part of the product."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def shared_data(name):
    """Return the path of the file `name` of the shared data, or skip the test.

    The folder is BT_RISK_SHARED_DATA where that is set, else shared/data beside the repository.
    """
    folder = Path(os.environ.get("BT_RISK_SHARED_DATA", ROOT.parent / "shared" / "data"))
    path = folder / name
    if not path.exists():
        pytest.skip(f"shared data {name} is not there; BT_RISK_SHARED_DATA names its folder")
    return path
