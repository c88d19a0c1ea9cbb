"""The lines of a user in a traceback, without those of the packages that call them."""

import sysconfig
import traceback
from pathlib import Path

import bt_risk.errors

__all__ = ["InChild", "error_line", "user_traceback"]

_OWN = Path(bt_risk.errors.__file__).parent
_FOLDERS = ("stdlib", "purelib", "platlib", "scripts")
_LIBRARIES = [Path(sysconfig.get_path(name)) for name in _FOLDERS]


class InChild(Exception):
    """Show the traceback of an error in a process, as the cause of that error."""

    def __init__(self, text: str) -> None:
        super().__init__(f"\n{text}")


def user_traceback(error: BaseException) -> str | None:
    """Return the traceback of an error from the first line of a user on; None without such a line.

    Lines of Backtrader, bt_risk and other packages between those of the user are left out, but for
    the last one: it is where the error was raised.
    """
    frames = traceback.extract_tb(error.__traceback__)
    kept = [frame for frame in frames if _is_users(frame.filename)]
    if not kept:
        cause = error.__cause__
        return str(cause).strip() if isinstance(cause, InChild) else None
    if frames[-1] is not kept[-1]:
        kept.append(frames[-1])
    head = "Traceback (most recent call last), without the lines of packages:\n"
    lines = traceback.format_list(kept) + traceback.format_exception_only(error)
    return (head + "".join(lines)).rstrip()


def error_line(error: BaseException) -> str:
    """Return an error in one line, with the last line of a user that it came through."""
    text = " ".join("".join(traceback.format_exception_only(type(error), error)).split())
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _is_users(frame.filename)]
    if not own:
        return text
    return f"{text} ({Path(own[-1].filename).name}:{own[-1].lineno} in {own[-1].name})"


def _is_users(filename: str) -> bool:
    path = Path(filename)
    return path.is_file() and not any(path.is_relative_to(folder) for folder in (_OWN, *_LIBRARIES))
