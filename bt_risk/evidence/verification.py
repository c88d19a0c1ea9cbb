"""``bt_risk.verify``: whether a journal is what was written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bt_risk.errors import ParameterError, StateError
from bt_risk.state.chain import ChainCheck, check_chain
from bt_risk.state.file import reading
from bt_risk.state.schema import HASHES_SINCE

__all__ = ["Verification", "verify"]

COMPONENT = "verify"
_SQLITE = b"SQLite format 3\0"


@dataclass(frozen=True)
class Verification:
    """What `verify` has found.

    Attributes
    ----------
    chain : ChainCheck
        Whether every line is as it was written.
    noted : str
        The hash that was noted elsewhere, empty for none.
    """

    chain: ChainCheck
    noted: str = ""

    @property
    def equal(self) -> bool:
        """Return whether nothing differs."""
        return not self.chain.faults and not (self.noted and self.chain.noted is None)

    def sentences(self) -> list[str]:
        """Return what was found in words, the verdict first."""
        chain = self.chain
        said = [f"{chain.lines:,} lines: {'equal' if self.equal else 'NOT as they were written'}"]
        said += [str(fault) for fault in chain.faults]
        if self.noted and chain.noted is None:
            said.append(f"no line has the hash {self.noted} that was noted: lines were replaced")
        elif self.noted:
            said.append(f"line {chain.noted} has the hash that was noted")
        if chain.unhashed:
            said.append(
                f"lines 1 to {chain.unhashed} were written by a version without hashes: they are "
                "as they were when the file was upgraded"
            )
        if chain.lines and not chain.faults:
            said.append(f"the hash of line {chain.lines} is {chain.last}: note it elsewhere")
        return said

    def values(self) -> dict[str, Any]:
        """Return what was found as plain values."""
        chain = self.chain
        return {
            "equal": self.equal,
            "lines": chain.lines,
            "last_hash": chain.last or None,
            "noted_line": chain.noted,
            "unhashed_lines": chain.unhashed,
            "faults": [{"line": one.line, "what": one.what} for one in chain.faults],
        }

    def __str__(self) -> str:
        return "\n".join(self.sentences())


def verify(journal: str | Path, *, noted: str = "") -> Verification:
    """Check that no line of a journal was edited, removed, added or moved since it was written.

    Parameters
    ----------
    journal : str or path
        A state file, or the file of ``protect(journal="journal.db")``.
    noted : str
        A hash that an earlier call returned and that was noted elsewhere: one line must have it.

    Raises
    ------
    ParameterError
        The file has no hashes: CSV and JSON lines have none.
    StateError
        It does not exist, cannot be read, or is of an older version.

    Notes
    -----
    Whoever can write the file can also forge it whole, with every hash. Only `noted` finds that:
    no line up to the one that has a noted hash can be another one.
    """
    path = Path(journal)
    if not _is_database(path):
        remedy = "Other files have no hashes: write the journal with journal='journal.db'."
        raise ParameterError(
            COMPONENT, "journal", "a state file or a journal.db", str(path), remedy
        )
    with reading(path) as db:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version < HASHES_SINCE:
            remedy = "The next run with this bt_risk gives its lines hashes."
            raise StateError(f"state: {path} is of version {version}. {remedy}")
        return Verification(check_chain(db, noted), noted)


def _is_database(path: Path) -> bool:
    """Return whether a file is one of SQLite; of one that is missing others tell."""
    if not path.is_file():
        return True
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE
