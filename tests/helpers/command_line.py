"""Call the ``bt-risk`` command inside the process of a test."""

import sys

import pytest

from bt_risk.cli import app as cli


def command_in(columns, monkeypatch, capsys):
    """Return a callable that runs the command; it returns exit status, output and errors."""
    monkeypatch.setenv("COLUMNS", str(columns))

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["bt-risk", *map(str, words)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        return (exit_.value.code or 0, *capsys.readouterr())

    return call
