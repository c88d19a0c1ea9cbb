"""Run the benchmarks: ``python -m benchmarks``, or one tool or part of them by its name."""

import importlib
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ("overhead", "gate", "journeys", "article_2024")


def main(arguments):
    """Run the tool that the arguments name."""
    # One thread, so that CPU time is the time of the work; numpy reads it when it is imported.
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
    # What is measured is the installed package, where there is one, not the folder beside it.
    if sys.path[0] in ("", str(ROOT)):
        sys.path.append(sys.path.pop(0) or str(ROOT))
    name, *rest = arguments or ["overhead"]
    if name not in TOOLS:
        sys.exit(f"{name} is none of {', '.join(TOOLS)}")
    importlib.import_module(f"benchmarks.{name}").main(rest)


if __name__ == "__main__":
    main(sys.argv[1:])
