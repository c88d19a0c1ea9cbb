"""``bt_risk.verify``: whether a journal is what was written, and what the policy decides."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import backtrader as bt

from bt_risk.errors import ParameterError, StateError
from bt_risk.evidence.journal_feeds import FromFiles
from bt_risk.evidence.journal_replay import Repeated, repeat
from bt_risk.evidence.policy_changes import policy_changes
from bt_risk.gate.journal import FIELDS
from bt_risk.limits.base import Limit, check_limits
from bt_risk.policy import Policy, policy_of
from bt_risk.state.chain import ChainCheck, check_chain
from bt_risk.state.file import reading
from bt_risk.state.history import Line, read_journal
from bt_risk.state.journal_file import read_inputs
from bt_risk.state.schema import HASHES_SINCE

__all__ = ["Difference", "Verification", "verify"]

COMPONENT = "verify"
_SQLITE = b"SQLite format 3\0"
_SHOWN = 10  # differences in words
_TOLERANCE = 1e-9  # relative: another machine may add in another sequence
_A_MOMENT = 1e-8  # days
# What a repeated run does not have: components of a user, and what happens at a live broker only.
_COMPONENTS = ("Screener",)
_AT_A_VENUE = (
    *("Equity", "broker", "broker error", "currency", "entry handover", "feed", "flatten"),
    *("foreign", "order sender", "orders_per_second", "reconciliation", "state"),
)
# The actions of verdicts. Of what a venue does on its own, such as a stop that fills, a live run
# hears in the middle of a bar, and a backtest at its end.
_VERDICTS = ("allow", "trim", "reject", "exit")
_LIVE = (
    "the run was live, and is repeated in Backtrader's simulation: where the venue has filled at "
    "another price, or not at all, what follows differs"
)
_EDITED = "inputs are not what was written: nothing was decided again"
_RESTORED = "the run went on from a state file, which is no input: nothing was decided again"


@dataclass(frozen=True)
class Difference:
    """A line of the journal that the policy does not give on these prices.

    Attributes
    ----------
    line : int
    fields : dict of (object, object)
        As written, and as decided now, by the names of `bt_risk.gate.journal.FIELDS`; a whole line
        that is missing on one side has None there for every field.
    """

    line: int
    fields: dict[str, tuple[Any, Any]]

    def __str__(self) -> str:
        one_side = [place for place in (0, 1) if _all_none(self.fields, place)]
        if one_side:
            verdict = " ".join(str(both[1 - one_side[0]]) for both in self.fields.values())
            where = "is not in the journal" if one_side == [0] else "is not decided now"
            return f"line {self.line} {where}: {verdict}"
        told = (f"{name} is {old!r}, now {new!r}" for name, (old, new) in self.fields.items())
        return f"line {self.line} differs: {'; '.join(told)}"


def _all_none(fields: Mapping[str, tuple[Any, Any]], place: int) -> bool:
    return all(both[place] is None for both in fields.values())


@dataclass(frozen=True)
class Verification:
    """What `verify` has found.

    Attributes
    ----------
    chain : ChainCheck
        Whether every line is as it was written.
    noted : str
        The hash that was noted elsewhere, empty for none.
    repeated : int or None
        How many lines were decided again; None where only the chain was checked.
    differences : list of Difference
        Lines that were decided otherwise.
    troubles : list of str
        What else differs: the rules of the run, sizes, requests that found no place.
    notes : list of str
        What was not decided again, and why.
    """

    chain: ChainCheck
    noted: str = ""
    repeated: int | None = None
    differences: list[Difference] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Return whether nothing differs."""
        forged = bool(self.noted) and self.chain.noted is None
        return not (self.chain.faults or forged or self.differences or self.troubles)

    def sentences(self) -> list[str]:
        """Return what was found in words, the verdict first."""
        chain = self.chain
        said = [f"{chain.lines:,} lines: {self._verdict()}"]
        said += [str(fault) for fault in chain.faults]
        if self.noted and chain.noted is None:
            said.append(f"no line has the hash {self.noted} that was noted: lines were replaced")
        elif self.noted:
            said.append(f"line {chain.noted} has the hash that was noted")
        said += self.troubles
        said += [str(one) for one in self.differences[:_SHOWN]]
        if len(self.differences) > _SHOWN:
            said.append(f"and {len(self.differences) - _SHOWN} more lines differ")
        if chain.unhashed:
            said.append(
                f"lines 1 to {chain.unhashed} were written by a version without hashes: they are "
                "as they were when the file was upgraded"
            )
        said += self.notes
        if chain.lines and not chain.faults:
            said.append(f"the hash of line {chain.lines} is {chain.last}: note it elsewhere")
        return said

    def _verdict(self) -> str:
        chain = self.chain
        if chain.faults or (self.noted and chain.noted is None):
            return "NOT as they were written"
        if self.repeated is None:
            return "as they were written"
        if not self.equal:
            return "as they were written, and NOT what the policy decides on these prices"
        return f"as they were written, and {self.repeated:,} decided again: equal"

    def values(self) -> dict[str, Any]:
        """Return what was found as plain values."""
        chain = self.chain
        faults = [{"in": one.table, "number": one.line, "what": one.what} for one in chain.faults]
        return {
            "equal": self.equal,
            "lines": chain.lines,
            "last_hash": chain.last or None,
            "noted_line": chain.noted,
            "unhashed_lines": chain.unhashed,
            "faults": faults,
            "repeated": self.repeated,
            "differences": [
                {
                    "line": one.line,
                    "fields": {k: list(map(_plain, v)) for k, v in one.fields.items()},
                }
                for one in self.differences
            ],
            "troubles": self.troubles,
            "notes": self.notes,
        }

    def __str__(self) -> str:
        return "\n".join(self.sentences())


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def verify(
    journal: str | Path,
    build: Callable[[], bt.Cerebro] | None = None,
    policy: Policy | Mapping[str, Any] | str | Path | None = None,
    *,
    data: Iterable[str | Path] | None = None,
    limits: Sequence[Limit] = (),
    noted: str = "",
) -> Verification:
    """Check that a journal is as it was written, and decide it again from prices and policy.

    Every line has a hash of itself and of the line before: an edited, removed, added or moved line
    is found. With prices the run is repeated: the requests of the journal go through the gate at
    the same moments, and every line must come out the same.

    Parameters
    ----------
    journal : str or path
        The file of ``protect(journal="journal.db")``; of a state file the hashes are checked.
    build : callable, optional
        Returns the Cerebro of the run, as for `compare`: data feeds, broker, and what you added to
        it. Its strategies are left out: the journal has their requests.
    policy : Policy, dict or path, optional
        The policy that decides; without it the one that the journal names.
    data : list of path, optional
        Prices in place of `build`: one file for each data feed, under its name. Broker and
        commissions are those that the journal names.
    limits : list of Limit, optional
        As in `protect`.
    noted : str
        A hash that an earlier call returned and that was noted elsewhere: one line must have it.

    Raises
    ------
    ParameterError
        The file has no hashes, or the run cannot be repeated from these arguments.
    StateError
        The file does not exist, cannot be read, or is of an older version.

    Notes
    -----
    Whoever can write the file can also forge it whole, with every hash; the repeated run finds that
    where a field decides, and `noted` always: no line up to the one that has a noted hash can be
    another one.
    """
    path = Path(journal)
    given = None if data is None else [data] if isinstance(data, (str, Path)) else list(data)
    if build is not None and given is not None:
        raise ParameterError(COMPONENT, "data", "left out where build is given", given)
    if build is None and given is None and (policy is not None or limits):
        raise ParameterError(COMPONENT, "policy", "given with build or data", policy or limits)
    chain, inputs = _contents(path, noted)
    if build is None and given is None:
        return Verification(chain, noted)
    if any(fault.table == "input" for fault in chain.faults):
        return Verification(chain, noted, notes=[_EDITED])
    if not inputs or inputs[-1].get("call") != "run":
        remedy = "A run with protect(journal='journal.db') writes them."
        raise ParameterError(COMPONENT, "journal", "a file with the inputs of a run", path, remedy)
    run = inputs[-1]
    if run["restored"]:
        return Verification(chain, noted, notes=[_RESTORED])
    chosen, notes = _policy(policy, run["policy"])
    if build is None:
        build = FromFiles(run, given or [], COMPONENT)
    found = repeat(build, chosen, inputs[:-1], run, check_limits(COMPONENT, limits))
    left_out = _COMPONENTS + (_AT_A_VENUE if run["live"] else ())
    lines, cut, more = _repeatable([_whole(line) for line in read_journal(path)], left_out)
    now = [line for line in found.lines if line[2] not in left_out]
    notes += [_LIVE] if run["live"] else []
    timed = _VERDICTS if run["live"] else None
    differences = list(_differences(lines, now[: len(lines)] if cut else now, timed))
    troubles = _troubles(found, run, cut)
    return Verification(chain, noted, len(lines), differences, troubles, notes + more)


def _contents(path: Path, noted: str) -> tuple[ChainCheck, list[dict[str, Any]]]:
    """Return what the chain says, and the inputs."""
    if not _is_database(path):
        remedy = "Other files have no hashes: write the journal with journal='journal.db'."
        raise ParameterError(COMPONENT, "journal", "a state file or a journal.db", path, remedy)
    with reading(path) as db:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version < HASHES_SINCE:
            remedy = "The next run with this bt_risk gives its lines hashes."
            raise StateError(f"state: {path} is of version {version}. {remedy}")
        return check_chain(db, noted), read_inputs(db)


def _is_database(path: Path) -> bool:
    """Return whether a file is one of SQLite; of one that is missing others tell."""
    if not path.is_file():
        return True
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE


def _policy(given: Any, recorded: str | None) -> tuple[Policy, list[str]]:
    """Return the policy that decides, and how it differs from the one that the journal names."""
    was = None
    if recorded is not None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "policy.toml"
            file.write_text(recorded, encoding="utf-8")
            was = Policy.from_toml(file)
    if given is None:
        if was is None:
            raise ParameterError(COMPONENT, "policy", "given: the journal has none", None)
        return was, ["the policy is the one that the journal names"]
    chosen = policy_of(COMPONENT, given)
    changes = policy_changes(was, chosen) if was is not None else []
    return chosen, [f"the policy is not that of the run: {change}" for change in changes]


def _whole(line: Line) -> Line:
    """Return a line with every field, None for those of a line that somebody has cut short."""
    values = line.values if isinstance(line.values, list) else []
    return replace(line, values=[*values, *[None] * len(FIELDS)][: len(FIELDS)])


def _repeatable(
    journal: Sequence[Line], left_out: Sequence[str]
) -> tuple[list[Line], bool, list[str]]:
    """Return the lines that a repeated run has, too, whether it ends early, and why."""
    lines = [line for line in journal if line.values[2] not in left_out]
    left = sorted({line.values[2] for line in journal} & {*left_out})
    count = len(journal) - len(lines)
    notes = [f"{count} lines of {', '.join(left)} were not decided again"] if left else []
    past = next((n for n, line in enumerate(lines) if line.values[3] == "bypass"), None)
    if past is None:
        return lines, False, notes
    why = "something got around the gate, and is no input"
    notes.append(f"from line {lines[past].number} on nothing was decided again: {why}")
    return lines[:past], True, notes


def _differences(
    lines: Sequence[Line], now: Sequence[Sequence[Any]], timed: Sequence[str] | None
) -> Iterable[Difference]:
    """Yield what differs, line by line; times are compared for `timed` actions, None for all."""
    nothing = (None,) * len(FIELDS)
    for line, decided in zip_longest(lines, now):
        was = nothing if line is None else line.values
        values = nothing if decided is None else decided
        both = zip(FIELDS, was, values, strict=True)
        fields = {name: (old, new) for name, old, new in both if not _same(name, old, new)}
        if timed is not None and was[3] == values[3] and was[3] not in timed:
            fields.pop("time", None)
        if fields:
            number = lines[-1].number + 1 if line is None else line.number
            yield Difference(number, fields)


def _same(name: str, old: Any, new: Any) -> bool:
    if not (isinstance(old, float) and isinstance(new, float)):
        return bool(old == new)
    if math.isnan(old) or math.isnan(new):
        return math.isnan(old) and math.isnan(new)
    if name == "time":
        return math.isclose(old, new, rel_tol=0.0, abs_tol=_A_MOMENT)
    return math.isclose(old, new, rel_tol=_TOLERANCE)


def _troubles(found: Repeated, run: Mapping[str, Any], cut: bool) -> list[str]:
    """Return what differs beside the lines, in words."""
    said = []
    if found.rules != run["rules"]:
        names = [", ".join(one) or "none" for one in (run["rules"], found.rules)]
        said.append(f"the run had the rules {names[0]}; now they are {names[1]}")
    if cut:
        return said
    for number, (old, new) in found.sizes.items():
        said.append(f"input {number} differs: the sizer proposed {old!r}, now {new!r}")
    if found.left:
        said.append(f"input {found.left[0]} found no place in the repeated run")
    return said
