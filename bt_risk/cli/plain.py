"""Values as JSON can have them."""

import math
from typing import Any

import pandas as pd

__all__ = ["plain"]


def plain(value: Any) -> Any:
    """Return a number or text of Python; None for what is no finite number, text for a time."""
    if isinstance(value, pd.Timestamp):
        return str(value)
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
