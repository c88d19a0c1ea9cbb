"""docs/messages.md: an entry for every rule, every line of the journal and every error."""

import ast
import pickle
import re
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from helpers.shared_data import ROOT

import bt_risk
from bt_risk.errors import BtRiskError, DataError, ParameterError, StateError
from bt_risk.report.labels import RULES

PAGE = (ROOT / "docs" / "messages.md").read_text(encoding="utf-8")
HEADINGS = set(re.findall(r"^### (.+)$", PAGE, re.MULTILINE))
SOURCES = sorted((ROOT / "bt_risk").rglob("*.py"))


def calls():
    """Yield the name, the arguments, and the constants of its module, of each call in bt_risk."""
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        constants = {
            node.targets[0].id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and isinstance(node.value, ast.Constant)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and node.args:
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                yield name, node.args, constants


def text(node, constants):
    """Return a text of the source with ``...`` for what is filled in; None for anything else."""
    if isinstance(node, ast.Name):
        node = ast.Constant(constants.get(node.id))
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.FormattedValue):
        return text(node.value, constants) or "..."
    if isinstance(node, ast.JoinedStr):
        return "".join(text(part, constants) for part in node.values)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):  # "...".rstrip()
        return text(node.func.value, constants)
    return None


def test_every_rule_of_the_labels_has_an_entry():
    assert set(RULES) <= HEADINGS


def test_every_rule_that_a_line_of_the_journal_names_has_an_entry():
    places = {"account": 0, "order": 1, "instrument": 1, "record": 2}
    found = set()
    for name, args, constants in calls():
        if name in places and len(args) > places[name] + 1:
            rule = text(args[places[name]], constants)
            if rule and re.fullmatch(r"[A-Za-z_ ]+", rule):
                found.add(rule)
    assert len(found) > 12
    assert sorted(found - HEADINGS) == []


def test_every_component_that_raises_a_parameter_error_has_an_entry():
    raising = re.compile("ParameterError|check_[a-z]+|checked|from_params|named|raised_as")
    found = {
        text(args[0], constants) for name, args, constants in calls() if raising.fullmatch(name)
    } - {None}
    found = {one for one in found if re.fullmatch(r"[A-Za-z_. ]+", one)}
    assert len(found) > 40
    assert sorted(found - HEADINGS) == []


@pytest.mark.parametrize("kind", ["DataError", "StateError"])
def test_every_other_error_has_its_words_on_the_page(kind):
    flat = PAGE.replace("`", "")
    found = [text(args[0], constants) for name, args, constants in calls() if name == kind]
    assert len(found) > 15
    missing = []
    for message in found:
        words = message.partition(": ")[2].replace("`", "")
        stems = [
            stem
            for part in re.split(r"\.\.\.|[.:;] ", words)
            if len(stem := part.strip(" .:;(),")) > 8
        ]
        if stems and not any(stem in flat for stem in stems):
            missing.append(message)
    assert missing == []


@pytest.mark.parametrize(
    ("error", "heading"),
    [
        (ParameterError("Policy", "risk_limit", "good", 1), "Policy"),
        (ParameterError("ReturnWindow.seed", "history", "good", 1), "ReturnWindow.seed"),
        (ParameterError("strategy file", "SCRIPT", "good", 1), "strategy file"),
        (ParameterError("my/policy.toml", "a key", "good", 1), "A policy file"),
        (ParameterError("policy.toml", "a key", "good", 1), "A policy file"),
        (DataError("read_prices: x.csv is empty. Fill it."), "read_prices"),
        (StateError("state: risk.db does not exist."), "state"),
    ],
)
def test_a_traceback_ends_with_the_place_of_the_error(error, heading):
    assert heading in HEADINGS
    place = re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
    last = "".join(traceback.format_exception(error)).splitlines()[-1]
    assert last == f"See docs/messages.md#{place}"
    assert "docs/messages.md" not in str(error)


def test_the_note_comes_once_from_another_process():
    back = pickle.loads(pickle.dumps(ParameterError("Policy", "risk_limit", "good", 1)))
    assert back.__notes__ == ["See docs/messages.md#policy"]
    assert BtRiskError().__notes__


def test_the_command_line_prints_one_line_without_the_note():
    command = [sys.executable, "-m", "bt_risk", "check-data", "no-such-file.csv"]
    package = str(Path(bt_risk.__file__).parent.parent)
    done = subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": package})
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "docs/messages.md" not in done.stderr
