"""Make the folder of an output before any work begins."""

from pathlib import Path

from bt_risk.errors import ParameterError

__all__ = ["make_folder"]


def make_folder(out: Path, command: str = "demo") -> None:
    """Make the folder before anything runs: a mistake in its name should not cost a minute."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"{error.strerror}."
        raise ParameterError(
            command, "--out", "a folder that can be made", str(out), reason
        ) from error
