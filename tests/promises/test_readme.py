"""The Python of the README and of docs/ runs, and prints what the pages show."""

import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.shared_data import ROOT
from helpers.slices import sliced

import bt_risk

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")

# How many blocks of each page are followed by what they print.
PAGES = {
    "README.md": 1,
    "docs/evidence.md": 1,
    "docs/prices.md": 1,
    "docs/rules.md": 4,
    "docs/tear-sheet.md": 1,
}


def blocks(page):
    """Return the language and the text of each fenced block of a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", sliced(PAGES, len(PAGES)))
def test_python_blocks_run_in_order_and_print_the_text_that_follows(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found, namespace, compared = blocks(page), {}, 0
    for (kind, source), following in zip(found, [*found[1:], ("", "")], strict=True):
        if kind != "python":
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(source, page, "exec"), namespace)
        if following[0] == "text":
            assert printed.getvalue() == following[1]
            compared += 1
    assert compared == PAGES[page]
    if page == "docs/tear-sheet.md":
        assert {path.name for path in tmp_path.iterdir()} == {"sheet.html", "plot.png"}


def test_the_readme_is_short_and_begins_with_a_picture():
    assert len(TEXT.splitlines()) <= 150
    picture = re.search(r"^!\[.+\]\((.+)\)$", TEXT, re.MULTILINE)
    assert (ROOT / picture[1]).is_file()
    assert picture.start() < TEXT.index("## ")


def test_every_link_between_the_pages_leads_somewhere():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("*/README.md")]
    pages += ROOT.glob("examples/*/README.md")
    assert len(pages) > 12
    broken = []
    for page in pages:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            path, _, heading = target.partition("#")
            file = page.parent / path if path else page
            if not re.match("https?:", target) and not (file.exists() and has(file, heading)):
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert broken == []


def has(file, heading):
    """Return whether a page has a heading under the name that a link gives it."""
    if not heading:
        return True
    titles = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return heading in {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in titles}


def test_readme_names_every_public_component_and_parameter_of_a_rule():
    for name in ("HalfKellySizer", "ATRTrailingStop", "CorrelationCap", "DrawdownBreaker"):
        assert f"bt_risk.{name}" in TEXT
        assert name in bt_risk.__all__
    rows = [line for line in TEXT.splitlines() if re.match(r"\| [1-5] ", line)]
    parameters = {p for row in rows for p in re.findall(r"`(\w+)`", row.split("|")[5])}
    assert parameters
    known = set(bt_risk.Policy.__dataclass_fields__)
    assert parameters <= known


@pytest.mark.full
def test_the_page_of_the_demo_quotes_what_it_prints_today(tmp_path):
    quoted = next(text for kind, text in blocks("docs/demo.md") if kind == "console")
    command = [sys.executable, "-m", "bt_risk", "demo", "--out", str(tmp_path / "out")]
    package = str(Path(bt_risk.__file__).parent.parent)
    surroundings = os.environ | {"COLUMNS": "100", "PYTHONPATH": package}
    run = subprocess.run(command, capture_output=True, text=True, env=surroundings, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    printed = {line.rstrip() for line in run.stdout.splitlines()}
    assert [line for line in quoted.splitlines() if line not in printed] == []
