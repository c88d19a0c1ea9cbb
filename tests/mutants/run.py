"""Faults that cost money, put into the package one at a time: the tests must notice each.

    python tests/mutants/run.py [--list] [--processes N] [name ...]

Each fault goes into a copy of the repository of its own, where the tests that should notice it
run. It is killed when one of them fails, and survives when all of them pass; the exit status is 1
if any survives, or if these tests do not all pass without a fault.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KILLED, SURVIVED = "killed", "survived"
# pytest's word for it; any other status says that the tests themselves could not run.
OUTCOMES = {0: SURVIVED, 1: KILLED}
# Some twenty times what the slowest takes: a fault that hangs the tests is noticed, but not killed.
PATIENCE = 300.0


@dataclass(frozen=True)
class Mutant:
    """One fault: `old` stands once in ``bt_risk/<file>`` and becomes `new`.

    `tests` are files or functions below ``tests/``, as pytest names them; one must fail.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple

    def applied(self, root=ROOT):
        """Return the path of the file below `root`, and its text with the fault in it."""
        path = root / "bt_risk" / self.file
        text = path.read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: {text.count(self.old)} x {self.old!r} in {path}")
        return path, text.replace(self.old, self.new)


# One block a fault: its name and file, the lines that go, the lines that come, what kills it.
FAULTS = Path(__file__).with_name("faults.txt").read_text(encoding="utf-8")


def _parsed(block):
    head, *lines = block.splitlines()
    marked = ([line[2:] for line in lines if line.startswith(mark)] for mark in "-+?")
    old, new, tests = marked
    return Mutant(*head.split(), "\n".join(old), "\n".join(new), tuple(tests))


MUTANTS = [_parsed(block) for block in FAULTS.strip().split("\n\n")]


def copy_repository(folder):
    """Copy what git knows, and what it would take in, to `folder`."""
    command = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT)]
    command += ["ls-files", "-co", "--exclude-standard", "-z"]
    listed = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    for name in listed.split("\0"):
        source, target = ROOT / name, folder / name
        if name and source.is_file():  # one that is deleted but not committed is listed too
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def run_tests(tests, fault=None):
    """Run tests in a new copy of the repository; return the outcome, seconds and what was said."""
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder).resolve()
        copy_repository(copy)
        if fault is not None:
            path, text = fault.applied(copy)
            path.write_text(text, encoding="utf-8")
        outcome, said = _pytest(copy, tests)
    return outcome, time.perf_counter() - begin, said


def _pytest(folder, tests):
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-m", "not soak"]
    environment = os.environ | {"PYTHONPATH": str(folder)}
    environment.pop("PYTEST_ADDOPTS", None)
    try:
        done = subprocess.run(
            [*command, "-p", "no:cacheprovider", *(f"tests/{test}" for test in tests)],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired:
        return "hung", ""
    return OUTCOMES.get(done.returncode, "broken"), done.stdout + done.stderr


def judge(mutants, processes):
    """Run every fault and say what became of it; return whether all were killed."""
    tests = sorted({test for one in mutants for test in one.tests})
    with ThreadPoolExecutor(processes) as pool:
        bare = pool.submit(run_tests, tests)
        runs = [pool.submit(run_tests, one.tests, one) for one in mutants]
        for one, run in zip(mutants, runs, strict=True):
            outcome, seconds, said = run.result()
            print(f"{outcome:9} {seconds:6.1f} s  {one.file:24} {one.name}", flush=True)
            if outcome not in OUTCOMES.values():
                print(said)
        outcome, seconds, said = bare.result()
    killed = sum(run.result()[0] == KILLED for run in runs)
    print(f"{killed} of {len(mutants)} faults killed")
    if outcome != SURVIVED:
        print(f"without a fault the tests do not pass either ({outcome}): that proves nothing")
        print(said)
    return killed == len(mutants) and outcome == SURVIVED


def main(arguments=None):
    """Return the exit status: 0 if every fault that was asked for is killed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="name", help="only these faults")
    parser.add_argument("--list", action="store_true", help="name the faults and run nothing")
    parser.add_argument("--processes", type=int, default=2, help="how many run at once (2)")
    options = parser.parse_args(arguments)
    unknown = set(options.names) - {one.name for one in MUTANTS}
    if unknown:
        parser.error(f"no fault is called {', '.join(sorted(unknown))}; --list names them")
    chosen = [one for one in MUTANTS if not options.names or one.name in options.names]
    if options.list:
        for one in chosen:
            print(f"{one.file:24} {one.name}")
        return 0
    try:
        for one in chosen:
            one.applied()
    except ValueError as error:  # before anything runs
        parser.error(str(error))
    begin = time.perf_counter()
    passed = judge(chosen, options.processes)
    print(f"{time.perf_counter() - begin:.0f} s")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
