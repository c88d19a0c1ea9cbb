"""Quote the results in README.md and in benchmarks/README.md, from results/results.json.

python -m benchmarks quote             after a whole run
"""

import argparse
import json
from pathlib import Path

from benchmarks.row import number

__all__ = ["headline", "main", "quoted", "sentences"]

FOLDER = Path(__file__).resolve().parent
RESULTS = FOLDER / "results" / "results.json"
HEADLINE = "- Against plain Backtrader"
BEGIN, END = "<!-- quoted: python -m benchmarks quote -->", "<!-- end -->"


class Results:
    """The rows of a run, found by their part, work and names."""

    def __init__(self, path=RESULTS):
        self.rows = json.loads(path.read_text(encoding="utf-8"))["rows"]

    def ratio(self, part, run, to, work=""):
        """Return the ratio of the row as text."""
        for row in self.rows:
            own = (row["part"], row["run"], row["to"]) == (part, run, to)
            if own and row["work"].startswith(work) and row["ratio"]:
                return number(row["ratio"]["median"])
        return "-"


def headline(results):
    """Return the line of README.md."""
    one, many = (results.ratio("speed", "protect", "bare", f"{feeds} x") for feeds in (1, 50))
    return (
        f"{HEADLINE}, a protected run takes {one} of the CPU time with one data feed and {many} "
        "with 50 ([benchmarks](benchmarks/README.md))."
    )


def sentences(results):
    """Return the lines of benchmarks/README.md."""

    def speed(run, to="bare"):
        return " / ".join(
            results.ratio("speed", run, to, f"{feeds} x ") for feeds in (1, 10, 50, 500)
        )

    def engine(job, run):
        return results.ratio("peers", run, "backtrader", job)

    return [
        f"- With 1 / 10 / 50 / 500 data feeds, `protect` takes {speed('protect')} of the bare run.",
        f"- By Backtrader's own loop on both sides it takes {speed('protect, fast=False')}, by the "
        f"quick loop on both sides {speed('protect', 'bare, bt_risk.fast')}.",
        f"- `bt_risk.fast` without any rule takes {speed('bare, bt_risk.fast')}.",
        "- On one name, backtrader-next takes "
        f"{engine('stop', 'backtrader-next')} of Backtrader's time, ml4t-backtest "
        f"{engine('stop', 'ml4t-backtest')}, backtesting.py {engine('stop', 'backtesting.py')}, "
        f"back-trader-cpp {engine('stop', 'back-trader-cpp')}, vectorbt "
        f"{engine('stop', 'vectorbt')}.",
        "- On 50 names whose sizes are known before, `bt_risk.fast` takes "
        f"{engine('rotation', 'bt_risk.fast')}, ml4t-backtest "
        f"{engine('rotation', 'ml4t-backtest')}, backtrader-next "
        f"{engine('rotation', 'backtrader-next')}, back-trader-cpp "
        f"{engine('rotation', 'back-trader-cpp')}.",
    ]


def quoted(text, own, results):
    """Return a README with the figures; `own` says whether it is that of the benchmarks."""
    if not own:
        lines = text.split("\n")
        place = next(i for i, line in enumerate(lines) if line.startswith(HEADLINE))
        lines[place] = headline(results)
        return "\n".join(lines)
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return "\n".join([before + BEGIN, *sentences(results), END + after])


def main(arguments=None):
    """Write both files."""
    about = __doc__.partition("\n")[0]
    argparse.ArgumentParser("python -m benchmarks quote", description=about).parse_args(arguments)
    results = Results()
    for path, own in ((FOLDER.parent / "README.md", False), (FOLDER / "README.md", True)):
        text = path.read_text(encoding="utf-8")
        path.write_text(quoted(text, own, results), encoding="utf-8")
