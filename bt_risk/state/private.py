"""Files for the user of this process alone: a state holds positions, equity and halts."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

__all__ = ["create_private", "make_private"]

_log = logging.getLogger("bt_risk")

_OTHERS = stat.S_IRWXG | stat.S_IRWXO | stat.S_IXUSR


def create_private(path: Path) -> None:
    """Create an empty file for the user of this process alone, whatever the umask is."""
    number = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    os.close(number)
    path.chmod(0o600)


def make_private(path: Path) -> None:
    """Take the rights of everybody else on a file away, if it exists."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & _OTHERS:
            path.chmod(mode & ~_OTHERS)
    except FileNotFoundError:
        return
    except OSError as error:
        _log.warning("state: others may read %s: its mode cannot be changed (%s)", path, error)
