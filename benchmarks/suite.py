"""Run the parts, print their rows in one table, and write them."""

import importlib
import sys
import time
import traceback

from benchmarks import PARTS
from benchmarks.environment import environment
from benchmarks.picture import draw
from benchmarks.results import earlier, markdown, show, write_json
from benchmarks.row import Row

__all__ = ["run"]


def run(parts, options):
    """Print and write the rows of `parts`; return 1 if a part has failed, else 0.

    What is written keeps the rows that other parts have there already.
    """
    modules = {part: importlib.import_module(f"benchmarks.{part}") for part in parts}
    rows, failed = [], False
    for part, module in modules.items():
        begin = time.monotonic()
        try:
            rows += module.rows(options)
        except Exception as error:  # the rows of the other parts are worth having
            traceback.print_exc()
            rows.append(Row(part, "", "", note=f"failed: {type(error).__name__}: {error}"))
            failed = True
        print(f"{part}: {time.monotonic() - begin:.0f} s", file=sys.stderr)
    measured = environment()
    show(rows, measured)
    out = options.out
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        rows = _in_order(rows + earlier(out / "results.json", parts, measured))
        titles = {row.part: importlib.import_module(f"benchmarks.{row.part}").TITLE for row in rows}
        write_json(out / "results.json", rows, measured)
        (out / "README.md").write_text(markdown(titles, rows, measured), encoding="utf-8")
        draw(out / "results.png", rows)
    return int(failed)


def _in_order(rows):
    """Return the rows by part, in the order of `PARTS`."""
    return sorted(rows, key=lambda row: PARTS.index(row.part))
