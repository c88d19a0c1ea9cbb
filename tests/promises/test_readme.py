"""The README's Python runs, and prints what the README says."""

import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path

from helpers.shared_data import ROOT

import bt_risk

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def test_python_blocks_run_in_order_and_print_the_text_that_follows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace, compared = {}, 0
    for (kind, source), following in zip(BLOCKS, [*BLOCKS[1:], ("", "")], strict=True):
        if kind != "python":
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(source, "README.md", "exec"), namespace)
        if following[0] == "text":
            assert printed.getvalue() == following[1]
            compared += 1
    assert compared >= 3


def test_the_python_of_the_tear_sheet_s_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "tear-sheet.md").read_text(encoding="utf-8")
    namespace = {}
    for source in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        exec(compile(source, "tear-sheet.md", "exec"), namespace)
    assert {path.name for path in tmp_path.iterdir()} == {"sheet.html", "plot.png"}


def test_readme_names_every_public_component_and_parameter_of_a_rule():
    for name in ("HalfKellySizer", "ATRTrailingStop", "CorrelationCap", "DrawdownBreaker"):
        assert f"bt_risk.{name}" in TEXT
        assert name in bt_risk.__all__
    rows = [line for line in TEXT.splitlines() if re.match(r"\| [1-5] ", line)]
    parameters = {p for row in rows for p in re.findall(r"`(\w+)`", row.split("|")[5])}
    assert parameters
    known = set(bt_risk.Policy.__dataclass_fields__)
    assert parameters <= known


def test_the_readme_quotes_what_the_demo_prints_today(tmp_path):
    quoted = next(text for kind, text in BLOCKS if kind == "console")
    command = [sys.executable, "-m", "bt_risk", "demo", "--out", str(tmp_path / "out")]
    package = str(Path(bt_risk.__file__).parent.parent)
    surroundings = os.environ | {"COLUMNS": "100", "PYTHONPATH": package}
    run = subprocess.run(command, capture_output=True, text=True, env=surroundings, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    printed = {line.rstrip() for line in run.stdout.splitlines()}
    assert [line for line in quoted.splitlines() if line not in printed] == []
