"""The list of faults cannot rot: each fits today's source, and the tests that kill it exist."""

import ast
import functools

import pytest

from mutants import run as mutants
from mutants.run import MUTANTS, ROOT, Mutant

BY_NAME = {one.name: one for one in MUTANTS}


needs_git = pytest.mark.skipif(
    not (ROOT / ".git").exists(), reason="git says what the repository holds"
)


@functools.cache
def functions(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_there_are_enough_faults_in_enough_files_and_each_has_a_name():
    assert len(BY_NAME) == len(MUTANTS) >= 26
    assert len({one.file for one in MUTANTS}) >= 15


def misfit(one):
    """Return why a fault can not be put into the source and tested there, None if it can."""
    try:
        path, text = one.applied()
        if path.suffix == ".py":  # the scripts of a page are no Python
            compile(text, path, "exec")
    except (OSError, SyntaxError, ValueError) as error:
        return f"{one.name}: {error}"
    if text == path.read_text(encoding="utf-8") or not one.tests:
        return f"{one.name} changes nothing, or names no test"
    missing = [test for test in one.tests if not exists(test)]
    return f"{one.name}: there is no {', '.join(missing)}" if missing else None


def exists(test):
    """Return whether a test file has the function that is named after ``::``."""
    file, _, function = test.partition("::")
    path = ROOT / "tests" / file
    return path.is_file() and function in functions(path)


def test_every_fault_fits_the_source_of_today_and_the_tests_that_kill_it_exist():
    assert [why for why in map(misfit, MUTANTS) if why] == []


# -- the script ----------------------------------------------------------------------------------

QUICK = "rules/test_sizing.py::test_rounding_down_to_the_step"
ROUNDS_UP = Mutant("up", "rules/sizing.py", "math.floor(ratio)", "math.ceil(ratio)", (QUICK,))
HARMLESS = Mutant("same", "rules/sizing.py", "math.floor(ratio)", "math.floor( ratio)", (QUICK,))


@pytest.mark.parametrize("old", ["ratio", "no such text"])
def test_a_fault_without_one_place_raises(old):
    with pytest.raises(ValueError, match="nowhere: [0-9]+ x"):
        Mutant("nowhere", "rules/sizing.py", old, "", (QUICK,)).applied()


@needs_git
@pytest.mark.full
def test_the_script_tells_a_fault_from_none(capsys):
    assert not mutants.judge([ROUNDS_UP, HARMLESS], processes=2)
    said = capsys.readouterr().out
    assert [line.split()[0] for line in said.splitlines()] == ["killed", "survived", "1"]
    assert "1 of 2 faults killed" in said


@needs_git
def test_tests_that_do_not_run_kill_nothing(capsys):
    broken = Mutant("gone", "rules/sizing.py", "np.floor(", "np.ceil(", ("test_nothing_there.py",))
    assert not mutants.judge([broken], processes=2)
    said = capsys.readouterr().out
    assert said.startswith("broken")
    assert "without a fault the tests do not pass either (broken)" in said


@pytest.mark.parametrize(("outcomes", "status"), [("kss", 1), ("kks", 0), ("kkk", 1)])
def test_the_exit_status_is_0_when_all_are_killed_and_the_tests_pass_without(
    outcomes, status, monkeypatch, capsys
):
    """The last letter is the run without a fault: it has to survive."""
    words = {"k": "killed", "s": "survived"}
    first, second = MUTANTS[:2]
    told = dict(zip((first, second, None), outcomes, strict=True))
    monkeypatch.setattr(
        mutants, "run_tests", lambda tests, fault=None: (words[told[fault]], 0.0, "")
    )
    assert mutants.main([first.name, second.name]) == status


def test_a_name_that_is_not_there_is_an_error(capsys):
    with pytest.raises(SystemExit) as error:
        mutants.main(["no-such-fault"])
    assert error.value.code == 2
    assert "no fault is called no-such-fault" in capsys.readouterr().err


def test_a_fault_that_does_not_fit_is_an_error_before_anything_runs(monkeypatch, capsys):
    monkeypatch.setattr(
        mutants, "MUTANTS", [Mutant("late", "gate/order_review.py", "never there", "", (QUICK,))]
    )
    with pytest.raises(SystemExit):
        mutants.main([])
    assert "late: 0 x 'never there' in" in capsys.readouterr().err


def test_list_names_every_fault_and_runs_none(capsys):
    assert mutants.main(["--list"]) == 0
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()] == list(BY_NAME)
