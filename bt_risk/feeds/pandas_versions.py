"""What differs between pandas 2 and 3 where prices are read."""

from typing import Any

import pandas as pd

try:
    from pytz import InvalidTimeError  # what pandas 2 raises for a time that a zone does not have
except ImportError:
    InvalidTimeError = ValueError

__all__ = ["EXACT", "InvalidTimeError"]

# The last digit of a number: pandas 3 reads it by itself, and warns of the option.
EXACT: dict[str, Any] = {} if pd.__version__ >= "3" else {"float_precision": "round_trip"}
