"""Every notebook runs as it is, and prints what it was saved with."""

import re
import shutil

import nbformat
import pytest
from helpers.shared_data import ROOT
from nbclient import NotebookClient

FOLDER = ROOT / "examples" / "notebooks"
LIVE = "02_live"  # its times and prices differ each time
WIDGET = "application/vnd.jupyter.widget-view+json"  # a progress bar
DEFAULT = "01_first_run"
FILES = [
    pytest.param(path, marks=() if path.stem == DEFAULT else pytest.mark.full)
    for path in sorted(FOLDER.glob("*.ipynb"))
]


def texts(notebook):
    """Return what each cell shows as a table or text; warnings and pictures are left out."""
    found = []
    for cell in notebook.cells:
        outputs = cell.get("outputs", [])
        shown = [out["data"] for out in outputs if "data" in out]
        plain = [d.get("text/html", d["text/plain"]) for d in shown if WIDGET not in d]
        # The end of a bar is empty, in a <pre> or without one.
        plain = [text for text in plain if re.sub("<pre[^>]*></pre>", "", text).strip()]
        found.append([*plain, *(out["text"] for out in outputs if out.get("name") == "stdout")])
    return found


def test_there_are_four():
    assert [one.values[0].stem[:2] for one in FILES] == ["01", "02", "03", "04"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_was_saved(path, tmp_path):
    saved = nbformat.read(path, as_version=4)
    assert all(cell.outputs for cell in saved.cells[-1:]), "it has been executed"
    notebook = nbformat.read(shutil.copy(path, tmp_path), as_version=4)
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    if path.stem == LIVE:
        states = [text for shown in texts(notebook) for text in shown if text.startswith("'")]
        assert states == ["'ACTIVE'", "'HALTED'", "'ACTIVE'"]
    else:
        assert texts(notebook) == texts(saved)


def test_policies_odds_and_comparisons_are_shown_as_tables():
    """The views of a notebook: what a cell ends with is a table, not Python's own text."""
    shown = {
        path.values[0].stem: [
            out["data"].get("text/html", "")
            for cell in nbformat.read(path.values[0], as_version=4).cells
            for out in cell.get("outputs", [])
            if "data" in out
        ]
        for path in FILES
    }
    policy = next(html for html in shown["01_first_run"] if "risk per trade" in html)
    assert "a position loses at most 1 % of equity at its stop" in policy
    comparison = next(html for html in shown["03_evidence"] if "<li>" in html)
    assert "no evidence" in comparison
    assert "rule 2, stop" in comparison
    assert any(html.startswith("<p>A drawdown of 10 %") for html in shown["03_evidence"])
