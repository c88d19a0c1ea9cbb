"""The chain of the journal: every edited, removed, added or moved line is found."""

import json
import sqlite3
from contextlib import closing

import backtrader as bt
import pytest
from helpers.command_line import command_in
from helpers.restarts import run
from helpers.scenarios import cerebro, random_walk

import bt_risk
from bt_risk.gate.journal import FIELDS
from bt_risk.state import schema
from bt_risk.state.chain import Chain, check_chain
from bt_risk.state.file import StateFile

LINES = [
    (
        json.dumps([736000.0 + n, "BTC", "rule", "trim", 10.0, 4.0, 0.5, 0.4, f"why {n}"]),
        f"id-{n}",
        n,
    )
    for n in range(1, 6)
]


@pytest.fixture
def path(tmp_path):
    """Return a state file with five lines of a journal."""
    file = StateFile(tmp_path / "risk.db")
    file.write({}, decisions=LINES[:2])
    file.write({}, decisions=LINES[2:])
    file.close()
    return file.path


def edit(path, *statements):
    with closing(sqlite3.connect(path)) as db, db:
        for statement in statements:
            db.execute(*statement) if isinstance(statement, tuple) else db.execute(statement)


def faults(path):
    return [fault.line for fault in bt_risk.verify(path).chain.faults]


def test_an_untouched_journal_is_equal(path):
    found = bt_risk.verify(path)
    assert found.equal
    assert found.chain.lines == 5
    assert found.sentences()[-1].startswith(f"the hash of line 5 is {found.chain.last}")


@pytest.mark.parametrize("line", range(1, 6))
@pytest.mark.parametrize("field", range(len(FIELDS)))
def test_any_edited_field_of_any_line_is_found(path, line, field):
    values = json.loads(LINES[line - 1][0])
    values[field] = values[field] + 1 if isinstance(values[field], float) else values[field] + "."
    edit(path, ("UPDATE decisions SET value = ? WHERE number = ?", (json.dumps(values), line)))
    assert faults(path) == [line]


@pytest.mark.parametrize("line", range(1, 6))
@pytest.mark.parametrize("column", ["client_id", "at", "hash"])
def test_an_edit_beside_the_fields_is_found(path, line, column):
    edit(path, f"UPDATE decisions SET {column} = {column} || 1 WHERE number = {line}")
    # The line after one whose hash was edited does not follow it; after the last is the end.
    assert faults(path) == ([line, min(line + 1, 5)] if column == "hash" else [line])


@pytest.mark.parametrize("line", range(1, 6))
def test_a_removed_line_is_found(path, line):
    edit(path, f"DELETE FROM decisions WHERE number = {line}")
    assert faults(path) == [min(line + 1, 5) if line < 5 else 4]


@pytest.mark.parametrize("line", range(1, 5))
def test_a_removed_line_is_found_where_the_others_are_numbered_anew(path, line):
    edit(
        path,
        f"DELETE FROM decisions WHERE number = {line}",
        f"UPDATE decisions SET number = number - 1 WHERE number > {line}",
    )
    assert faults(path)[0] == line


def test_a_cut_tail_is_found(path):
    edit(path, "DELETE FROM decisions WHERE number > 3")
    (fault,) = bt_risk.verify(path).chain.faults
    assert str(fault).startswith("line 3: the journal ends here, and the file says that line 5 is")


def test_a_journal_that_was_emptied_is_found(path):
    edit(path, "DELETE FROM decisions")
    assert not bt_risk.verify(path).equal


def test_swapped_lines_are_found(path):
    edit(
        path,
        "UPDATE decisions SET number = 9 WHERE number = 2",
        "UPDATE decisions SET number = 2 WHERE number = 3",
        "UPDATE decisions SET number = 3 WHERE number = 9",
    )
    assert faults(path) == [2, 3, 4]


@pytest.mark.parametrize("copy", range(1, 6))
def test_a_copied_line_at_the_end_is_found(path, copy):
    columns = "value, client_id, at, hash"
    edit(path, f"INSERT INTO decisions SELECT 6, {columns} FROM decisions WHERE number = {copy}")
    assert faults(path) == [6, 6]


@pytest.mark.parametrize("key", ["journal_lines", "journal_hash"])
def test_an_edited_end_is_found(path, key):
    edit(path, f"UPDATE meta SET value = value || 1 WHERE key = '{key}'")
    assert faults(path) == [5]


def test_a_cut_tail_stays_visible_when_a_run_goes_on(path):
    edit(path, "DELETE FROM decisions WHERE number > 3")
    file = StateFile(path)
    file.write({}, decisions=LINES[:1])
    file.close()
    (fault,) = bt_risk.verify(path).chain.faults
    assert str(fault) == "line 6: the one before it is 3"


def test_an_added_line_stays_visible_when_a_run_goes_on(path):
    with closing(sqlite3.connect(path)) as db, db:
        end = Chain.of(db)
        end.add(db, [LINES[0]])
        db.execute("UPDATE meta SET value = '5' WHERE key = 'journal_lines'")
        db.execute("UPDATE meta SET value = ? WHERE key = 'journal_hash'", (end.last,))
    file = StateFile(path)
    file.write({}, decisions=LINES[:1])
    file.close()
    assert faults(path) == [7]


def test_a_journal_that_was_forged_whole_is_found_by_a_noted_hash(path):
    """Nothing in the file can show it."""
    noted = bt_risk.verify(path).chain.last
    edit(path, "DELETE FROM decisions", "DELETE FROM meta WHERE key LIKE 'journal_%'")
    with closing(sqlite3.connect(path)) as db, db:
        Chain().add(db, [LINES[0], *LINES[2:]])
    assert bt_risk.verify(path).equal
    found = bt_risk.verify(path, noted=noted)
    assert not found.equal
    assert f"no line has the hash {noted}" in str(found)


def test_a_noted_hash_holds_while_the_journal_grows(path):
    noted = bt_risk.verify(path).chain.last
    file = StateFile(path)
    file.write({}, decisions=LINES[:2])
    file.close()
    found = bt_risk.verify(path, noted=noted)
    assert (found.equal, found.chain.lines, found.chain.noted) == (True, 7, 5)


def test_a_write_that_fails_leaves_the_chain_as_it_was(path):
    file = StateFile(path)
    with pytest.raises(sqlite3.Error):
        file.write({}, decisions=LINES[:1], events=[("id-1", 1.0, object())])
    file.write({}, decisions=LINES[:1])
    file.close()
    found = bt_risk.verify(path)
    assert (found.equal, found.chain.lines) == (True, 6)


def test_the_chain_goes_on_over_a_restart(tmp_path):
    policy = bt_risk.Policy(exposure_limit=None, correlation_limit=None, atr_multiple=5.0)
    run(tmp_path, policy=policy)
    first = bt_risk.verify(tmp_path / "risk.db")
    run(tmp_path, policy=policy)
    second = bt_risk.verify(tmp_path / "risk.db", noted=first.chain.last)
    assert first.equal
    assert second.equal
    assert second.chain.lines > second.chain.noted == first.chain.lines > 2


def test_lines_of_an_older_version_get_hashes_when_a_run_opens_them(path):
    edit(path, "ALTER TABLE decisions DROP COLUMN hash", "PRAGMA user_version = 2")
    edit(path, "DELETE FROM meta WHERE key LIKE 'journal_%'")
    with pytest.raises(bt_risk.StateError, match="is of version 2"):
        bt_risk.verify(path)
    StateFile(path).close()
    found = bt_risk.verify(path)
    assert found.equal
    assert "lines 1 to 5 were written by a version without hashes" in str(found)
    edit(path, "UPDATE decisions SET at = 9 WHERE number = 2")
    assert faults(path) == [2]


def test_an_upgrade_that_fails_leaves_the_file_as_it_was(path, monkeypatch):
    edit(path, "ALTER TABLE decisions DROP COLUMN hash", "PRAGMA user_version = 2")

    def fail(db):
        raise KeyError("dies")

    monkeypatch.setattr(schema, "add_hashes", fail)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        with pytest.raises(KeyError):
            schema.migrate(db)
        assert db.execute("PRAGMA user_version").fetchone() == (2,)
        assert "hash" not in [row[1] for row in db.execute("PRAGMA table_info(decisions)")]


# -- the journal of a backtest, and the command ----------------------------------------------------


class Buys(bt.Strategy):
    def next(self):
        if len(self) % 20 == 0:
            self.buy(size=50)
        elif len(self) % 20 == 10:
            self.close()


@pytest.fixture
def journal(tmp_path):
    """Return the journal of a backtest, and the lines that the run had."""
    engine = cerebro(random_walk(1, 200))
    engine.addstrategy(Buys)
    bt_risk.protect(engine, min_periods=20, journal=tmp_path / "journal.db")
    (strategy,) = engine.run()
    return tmp_path / "journal.db", strategy.analyzers.riskjournal


def test_the_journal_of_a_backtest_is_a_file_with_hashes(journal, monkeypatch, capsys):
    path, lines = journal
    found = bt_risk.verify(path)
    assert (found.equal, found.chain.lines) == (True, len(lines.frame()))
    _, out, _ = command_in(140, monkeypatch, capsys)("journal", path, "--json")
    read = [json.loads(line) for line in out.splitlines()]
    assert [line["reason"] for line in read] == lines.frame()["reason"].tolist()
    before = path.read_bytes()
    lines.to_db(path)  # again: the file is replaced
    assert bt_risk.verify(path, noted=found.chain.last).equal
    assert len(path.read_bytes()) == len(before)


def test_a_run_does_not_go_on_from_the_journal_of_a_backtest(journal):
    with pytest.raises(bt_risk.StateError, match="is the journal of a run"):
        StateFile(journal[0])


def test_the_command_has_the_status_of_what_it_finds(path, tmp_path, monkeypatch, capsys):
    command = command_in(140, monkeypatch, capsys)
    status, out, _ = command("verify", path)
    assert status == 0
    assert out.startswith("5 lines: as they were written\n")
    status, out, _ = command("verify", path, "--json", "--noted", "0000")
    assert status == 1
    assert json.loads(out)["noted_line"] is None
    edit(path, "UPDATE decisions SET at = 9 WHERE number = 2")
    status, out, _ = command("verify", path, "--json")
    assert status == 1
    assert [(one["in"], one["number"]) for one in json.loads(out)["faults"]] == [("line", 2)]
    (tmp_path / "journal.csv").write_text("time,data\n")
    status, _, err = command("verify", tmp_path / "journal.csv")
    assert status == 2
    assert "write the journal with journal='journal.db'" in err
    assert command("verify", tmp_path / "none.db")[0] == 2


def test_the_check_of_a_chain_counts_lines_and_not_numbers(path):
    with closing(sqlite3.connect(path)) as db:
        assert check_chain(db).lines == 5
