"""The Python of the README and of docs/ runs, and prints what the pages show."""

import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest
from helpers.shared_data import ROOT

import bt_risk

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")

# The pages that are read where they stand; docs/site/ has what the site is built with.
PAGES = ["README.md", *(str(p.relative_to(ROOT)) for p in sorted((ROOT / "docs").rglob("*.md")))]
SLOW = ("docs/challenge.md", "docs/evidence.md", "docs/tear-sheet.md", "docs/walk-forward.md")
WITH_PYTHON = [page for page in PAGES if "\n```python\n" in (ROOT / page).read_text("utf-8")]
# Its block replaces the engine of a whole process: `engine.test_other_engine` runs it.
WITH_PYTHON.remove("docs/engines.md")

# Blocks that are parts of a script of the reader's: what that script has before each of them.
PARTS = {
    "docs/live.md": """
import backtrader as bt
import bt_risk
from ib_async import Stock

from bt_risk.stores.ib import IBBroker, IBData, IBStore


class Cerebro(bt.Cerebro):
    def run(self, **kwargs):
        assert kwargs == {"quicknotify": True}


Path("store.toml").write_text("stale_after = 180.0\\n")
cerebro, policy, strategy = Cerebro(), bt_risk.Policy(), bt.Cerebro()
cerebro.adddata(bt_risk.FrameData(dataname=bt_risk.load_data("goog_1d")))
strategy.setbroker(bt_risk.RiskBroker(strategy.broker))
key = host = ""
history = Mock()
total_of_transfers = float
OABroker, OAStore = type("OABroker", (bt.brokers.BackBroker,), {"params": {"store": None}}), Mock()
""",
    "docs/restart.md": """
import backtrader as bt
import bt_risk

cerebro, policy = bt.Cerebro(), bt_risk.Policy()
""",
}


def blocks(page):
    """Return the language and the text of each fenced block of a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "page", [pytest.param(p, marks=pytest.mark.full) if p in SLOW else p for p in WITH_PYTHON]
)
def test_python_blocks_run_in_order_and_print_the_text_that_follows(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found, namespace, compared = blocks(page), {}, 0
    for (kind, source), following in zip(found, [*found[1:], ("", "")], strict=True):
        if kind != "python":
            continue
        if page in PARTS:
            namespace = {"Mock": Mock, "Path": Path}
            exec(compile(PARTS[page], "before", "exec"), namespace)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(source, page, "exec"), namespace)
        if following[0] == "text":
            assert printed.getvalue() == following[1]
            compared += 1
    assert compared >= (page in ("README.md", "docs/index.md", "docs/rules.md"))
    if page == "docs/tear-sheet.md":
        assert {path.name for path in tmp_path.iterdir()} == {"sheet.html", "plot.png"}


def test_the_pages_that_show_python_are_found():
    assert len(WITH_PYTHON) >= 11
    assert set(PARTS) < set(WITH_PYTHON)


def test_the_readme_is_short_and_begins_with_a_picture():
    assert len(TEXT.splitlines()) <= 150
    picture = re.search(r"^!\[.+\]\((.+)\)$", TEXT, re.MULTILINE)
    assert (ROOT / picture[1]).is_file()
    assert picture.start() < TEXT.index("## ")


def test_every_link_between_the_pages_leads_somewhere():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*/README.md")]
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
@pytest.mark.parametrize(
    ("page", "options"), [("docs/demo.md", []), ("docs/margin.md", ["--leverage", "20"])]
)
def test_a_page_of_the_demo_quotes_what_it_prints_today(tmp_path, page, options):
    quoted = next(text for kind, text in blocks(page) if kind == "console")
    command = [sys.executable, "-m", "bt_risk", "demo", *options, "--out", str(tmp_path / "out")]
    package = str(Path(bt_risk.__file__).parent.parent)
    surroundings = os.environ | {"COLUMNS": "100", "PYTHONPATH": package}
    run = subprocess.run(command, capture_output=True, text=True, env=surroundings, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    printed = {line.rstrip() for line in run.stdout.splitlines()}
    assert [line for line in quoted.splitlines() if line not in printed] == []
