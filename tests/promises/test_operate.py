"""docs/operate.md: every alert has a row, every verb is named, and the files of a service run."""

import configparser
import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml
from helpers.shared_data import ROOT

from bt_risk.cli.app import app
from bt_risk.errors import BtRiskError
from bt_risk.gate.journal import _LOUD
from bt_risk.state.file import is_running, read_state

PAGE = (ROOT / "docs" / "operate.md").read_text(encoding="utf-8")
OPERATE = ROOT / "examples" / "operate"
# The commands for the operator of a run; the others are for its author.
OPERATOR = {"status", "halt", "reduce", "flatten", "resume", "rearm", "explain", "journal"}


def test_every_alert_has_a_row_and_every_row_an_alert():
    begin = PAGE.index("## What to do at each alert")
    section = PAGE[begin : PAGE.index("## ", begin + 5)]
    rows = re.findall(r"^\| `([a-z ]+)` \| [^|]+ \| [^|]+ \|$", section, re.M)
    assert sorted(rows) == sorted(_LOUD)


def test_every_verb_is_named_and_is_one():
    commands = {command.name or command.callback.__name__ for command in app.registered_commands}
    named = set(re.findall(r"bt-risk ([a-z]+)", PAGE))
    assert named <= commands | {"status"}
    assert named >= OPERATOR & commands
    assert commands >= OPERATOR
    assert "STATE.kill" in PAGE


def test_the_page_is_linked():
    assert "(docs/operate.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert "(operate.md)" in (ROOT / "docs" / "live.md").read_text(encoding="utf-8")


# -- the files run -------------------------------------------------------------------------------


@pytest.fixture
def venue(tmp_path):
    """Yield the address of an exchange on loopback."""
    command = [sys.executable, "-m", "bt_risk.paper.exchange", "--speed", "5", "--port", "0"]
    with (
        (tmp_path / "exchange.log").open("w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.kill()


def runs_until_sigterm(command, environment, folder, state):
    """Run a service until its loop goes round, end it as its manager does, return the log."""
    log = folder / "service.log"
    with log.open("w") as stream:
        service = subprocess.Popen(
            command, env=environment, cwd=folder, stdout=stream, stderr=stream
        )
    until = time.monotonic() + 120
    try:
        while not beats(state):
            assert service.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.2)
        assert is_running(state)
        service.send_signal(signal.SIGTERM)
        assert service.wait(60) == 0, log.read_text()
    finally:
        service.kill()
        service.wait()
    assert not is_running(state)
    assert "SIGTERM received" in log.read_text()


def beats(state):
    with contextlib.suppress(BtRiskError):
        return ("run", "heartbeat") in read_state(state).records
    return False


def variables(path):
    """Return the variables of an environment file."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def below(folder, text):
    """Return a text with the absolute paths of a machine below a folder."""
    return re.sub(r"(?<![\w./])/(src|bot|state|srv|var|etc)\b", rf"{folder}/\1", text)


def shims(folder, **scripts):
    """Make commands that only note how they were called."""
    folder.mkdir()
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def test_the_unit_starts_the_example_and_ends_it(venue, tmp_path):
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read(OPERATE / "bt-risk.service")
    service = unit["Service"]
    # The commands of the page, in a machine that has only this folder.
    for name in ("srv/bt-risk/bin", "etc/systemd/system", "var/lib/bt-risk"):
        (tmp_path / name).mkdir(parents=True)
    note = f'echo "$0 $*" >> {tmp_path}/noted'
    path = shims(tmp_path / "shims", sudo='exec "$@"', useradd=note, python3=note)
    pip = tmp_path / "srv" / "bt-risk" / "bin" / "pip"
    shutil.copy(tmp_path / "shims" / "useradd", pip)
    block = re.search(r"## systemd.*?```bash\n(.*?)```", PAGE, re.S)[1]
    for line in block.splitlines():
        done = subprocess.run(
            ["bash", "-ec", below(tmp_path, line)], cwd=ROOT, env=os.environ | {"PATH": path}
        )
        assert done.returncode == 0, line
    noted = (tmp_path / "noted").read_text()
    assert "[live,notify]" in noted
    assert f"useradd --system {service['User']}" in noted
    assert (tmp_path / "etc" / "systemd" / "system" / "bt-risk.service").exists()
    # Then what systemd does.
    environment_file = tmp_path / service["EnvironmentFile"].lstrip("/")
    assert environment_file.stat().st_mode & 0o777 == 0o600
    environment = os.environ | variables(environment_file) | {"ADDRESS": venue}
    name, state = below(tmp_path, service["Environment"]).split("=", 1)
    python, script = shlex.split(below(tmp_path, service["ExecStart"]))
    assert python == str(pip.with_name("python"))
    folder = tmp_path / service["WorkingDirectory"].lstrip("/")
    assert service["StateDirectory"] == folder.name
    assert service["KillSignal"] == "SIGTERM"
    runs_until_sigterm(
        [sys.executable, script], environment | {name: state}, folder, folder / "risk.db"
    )


def test_the_dockerfile_builds_and_runs_the_example(venue, tmp_path):
    note = f'echo "$0 $*" >> {tmp_path}/noted'
    path = shims(tmp_path / "shims", pip=note, useradd=note, chown=note)
    environment, folder, command = os.environ | {"PATH": path}, tmp_path, None
    text = (OPERATE / "Dockerfile").read_text().replace("\\\n", " ")
    for line in text.splitlines():
        verb, _, rest = line.partition(" ")
        rest = below(tmp_path, rest)
        if verb == "COPY":
            source, target = shlex.split(rest)
            shutil.copytree(ROOT / source / "examples", f"{target}/examples")
        elif verb == "RUN":
            done = subprocess.run(["bash", "-ec", rest], cwd=folder, env=environment)
            assert done.returncode == 0, line
        elif verb == "WORKDIR":
            folder = tmp_path / rest
        elif verb == "ENV":
            name, value = rest.split("=", 1)
            environment[name] = value
        elif verb == "CMD":
            command = [word.strip(' "') for word in rest.strip("[]").split(",")]
        else:
            assert verb in ("#", "FROM", "USER", "STOPSIGNAL", ""), line
    assert "[live,notify]" in (tmp_path / "noted").read_text()
    compose = yaml.safe_load((OPERATE / "compose.yaml").read_text())
    bot = compose["services"]["bot"]
    assert (OPERATE / bot["build"]["context"] / bot["build"]["dockerfile"]).exists()
    assert {volume.partition(":")[0] for volume in bot["volumes"]} == set(compose["volumes"])
    environment |= variables(OPERATE / bot["env_file"]) | {"ADDRESS": venue}
    assert command[0] == "python"
    runs_until_sigterm([sys.executable, *command[1:]], environment, folder, folder / "risk.db")
