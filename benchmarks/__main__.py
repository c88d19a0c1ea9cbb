"""Run the benchmarks: ``python -m benchmarks``, or one part or tool of them by its name."""

import argparse
import importlib
import logging
import os
import sys
from pathlib import Path

from benchmarks import PARTS

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ("overhead", "gate", "journeys", "coverage", "article_2024", "quote")


def main(arguments):
    """Run what the arguments name; return the status of the process."""
    # One thread, so that CPU time is the time of the work; numpy reads it when it is imported.
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
    # What is measured is the installed package, where there is one, not the folder beside it.
    if sys.path[0] in ("", str(ROOT)):
        sys.path.append(sys.path.pop(0) or str(ROOT))
    if arguments and arguments[0] in TOOLS:
        importlib.import_module(f"benchmarks.{arguments[0]}").main(arguments[1:])
        return 0
    chosen = _chosen(arguments)
    logging.getLogger("bt_risk").setLevel(logging.CRITICAL)
    suite = importlib.import_module("benchmarks.suite")
    return suite.run(chosen.parts or PARTS, chosen)


def _chosen(arguments):
    parser = argparse.ArgumentParser(
        "python -m benchmarks",
        description="Measure what bt_risk costs and saves. "
        f"Tools with options of their own: {', '.join(TOOLS)}.",
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"one of {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="a short round, to see that it works")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="where JSON, picture and table go; benchmarks/results for a whole run, else nowhere",
    )
    parser.add_argument(
        "--peers",
        type=Path,
        metavar="PYTHON",
        help="the Python that has benchmarks/peers.txt installed",
    )
    chosen = parser.parse_args(arguments)
    unknown = [part for part in chosen.parts if part not in PARTS]
    if unknown:
        parser.error(f"{', '.join(unknown)}: the parts are {', '.join(PARTS)}")
    if chosen.out is None and not chosen.parts and not chosen.quick:
        chosen.out = ROOT / "benchmarks" / "results"
    return chosen


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
