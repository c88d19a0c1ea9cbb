"""Run the parts, print their rows in one table, and write them."""

import importlib
import sys
import time
import traceback

from benchmarks.environment import environment
from benchmarks.picture import draw
from benchmarks.results import markdown, show, write_json
from benchmarks.row import Row

__all__ = ["run"]


def run(parts, options):
    """Print and write the rows of `parts`; return 1 if a part has failed, else 0."""
    modules = {part: importlib.import_module(f"benchmarks.{part}") for part in parts}
    titles = {part: module.TITLE for part, module in modules.items()}
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
        write_json(out / "results.json", rows, measured)
        (out / "README.md").write_text(markdown(titles, rows, measured), encoding="utf-8")
        draw(out / "results.png", rows)
    return int(failed)
