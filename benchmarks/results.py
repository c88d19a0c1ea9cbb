"""The rows as a table in the terminal and in Markdown, and as JSON."""

import json

from rich.console import Console
from rich.table import Table

from benchmarks.row import COLUMNS, Row

__all__ = ["earlier", "markdown", "show", "write_json"]

WIDTH = 160
RIGHT = ("ratio", "spread", "goal", "CPU time", "calls")


def show(rows, environment):
    """Print the table, a section for each part."""
    console = Console(highlight=False)
    console.width = max(console.width, WIDTH)
    table = Table(caption=caption(environment), caption_justify="left")
    for name in ("part", *COLUMNS):
        align = "right" if name in RIGHT else "left"
        table.add_column(name, justify=align, no_wrap=name in ("part", *RIGHT))
    for own in by_part(rows).values():
        table.add_section()
        before = None
        for row in own:
            work, *cells = row.cells()
            same = before is not None and row.work == before.work
            names = [row.part if before is None else "", "" if same else work]
            table.add_row(*names, *cells, style="red" if row.missed else None)
            before = row
    console.print(table)


def markdown(titles, rows, environment):
    """Return the same table in Markdown."""
    lines = []
    for part, own in by_part(rows).items():
        lines += [f"### {titles[part]}", "", _line(COLUMNS), _line("---" for _ in COLUMNS)]
        lines += [_line(row.cells()) for row in own] + [""]
    return "\n".join([*lines, caption(environment)])


def write_json(path, rows, environment):
    """Write the rows with what they were measured on."""
    record = {**environment, "rows": [row.record() for row in rows]}
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def earlier(path, parts, environment):
    """Return the rows of other parts that were measured before on the same machine and versions.

    A part can be measured anew on its own then. Rows of anything else are left out.
    """
    if not path.exists():
        return []
    record = json.loads(path.read_text(encoding="utf-8"))
    if {name: record.get(name) for name in environment} != environment:
        return []
    return [Row.of(one) for one in record["rows"] if one["part"] not in parts]


def by_part(rows):
    """Return the rows by part, in the order of their first row."""
    parts = {}
    for row in rows:
        parts.setdefault(row.part, []).append(row)
    return parts


def caption(environment):
    """Return the versions and the machine in one sentence."""
    versions = ", ".join(f"{name} {one}" for name, one in environment["versions"].items())
    machine = f"{environment['processor']}, {environment['cores']} cores, {environment['system']}"
    return f"{versions}; {machine}."


def _line(cells):
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
