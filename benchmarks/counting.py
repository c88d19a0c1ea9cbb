"""Function calls of a run, by ``sys.setprofile``: the same on every run with the same versions."""

import sys
from collections import Counter
from pathlib import Path

__all__ = ["count_calls"]


def count_calls(action):
    """Call `action`; return a Counter of all calls by ``file:function``, of C functions too."""
    counts = Counter()

    def profile(frame, event, called):
        if event == "call":
            code = frame.f_code
            counts[code.co_filename, code.co_name] += 1
        elif event == "c_call":
            counts[frame.f_code.co_filename, frame.f_code.co_name, called.__name__] += 1

    sys.setprofile(profile)
    try:
        action()
    finally:
        sys.setprofile(None)
    labelled = Counter()
    for key, count in counts.items():
        labelled[_label(key)] += count
    return labelled


def _label(key):
    file, function, *called = key
    return " > ".join([f"{Path(file).name}:{function}", *called])
