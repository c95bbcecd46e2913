"""A node that sees its own journal being rewritten beneath it."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec

from holdfast.adapters.memory import MemoryJournal
from holdfast.adapters.sqlite_journal import SqliteJournal
from holdfast.core.history import decode_entry, encode_entry, seal
from holdfast.core.model import DeleteSetting, Entry, Head
from holdfast.engine.sentry import Sentry
from holdfast.ports import Journal


def grow(journal: Journal, entries: int, word: str = "k") -> list[Entry]:
    made = []
    for _ in range(entries):
        head = journal.head()
        made.append(seal(head, head.revision, "ann", "why", [DeleteSetting("shop", word)]))
        journal.append(made[-1])
    return made


def rewrite(path: Path, from_revision: int, keep: int) -> None:
    """Another reason in entries from one on, under hashes that fit; only `keep` entries stay."""
    with closing(sqlite3.connect(path)) as db:
        previous = ""
        for revision, was, old in db.execute("SELECT * FROM entries ORDER BY revision").fetchall():
            entry, digest = decode_entry(old, was.hex()), was
            if revision >= from_revision:
                before = previous or entry.previous
                changed = msgspec.structs.replace(entry, reason="other", previous=before)
                body = encode_entry(changed)
                digest = hashlib.sha256(body).digest()
                db.execute(
                    "UPDATE entries SET hash = ?, body = ? WHERE revision = ?",
                    (digest, body, revision),
                )
            previous = digest.hex()
            if revision == keep:
                db.execute("UPDATE head SET revision = ?, hash = ?", (revision, digest))
        db.execute("DELETE FROM entries WHERE revision > ?", (keep,))
        db.commit()


def codes(sentry: Sentry) -> set[tuple[str, int]]:
    return {(one.code, one.revision) for one in sentry.look()}


def test_nothing_is_found_in_a_journal_that_only_grows(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal.db")
    seen: dict[Head, int] = {}
    sentry = Sentry(journal, lambda: seen, journal.head)
    for _ in range(3):
        grow(journal, 2)
        seen[journal.head()] = 1
        assert codes(sentry) == set()
    journal.close()


def test_entries_changed_under_hashes_that_fit_are_found_by_what_consumers_saw(
    tmp_path: Path,
) -> None:
    journal = SqliteJournal(tmp_path / "journal.db")
    made = grow(journal, 6)
    seen = {Head(one.revision, one.hash): 3 for one in made[1:5]}
    sentry = Sentry(journal, lambda: seen, lambda: Head(0, ""))
    assert codes(sentry) == set()
    rewrite(tmp_path / "journal.db", 4, keep=6)
    (first, *_) = sentry.look()
    assert (first.code, first.revision, first.where) == ("rewritten", 4, "3 consumers")
    assert "entry 4 is" in first.message
    assert codes(sentry) == set(), "told once"
    assert sentry.findings
    journal.close()


def test_an_end_cut_off_is_found_by_what_the_node_itself_saw(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal.db")
    made = grow(journal, 6)
    sentry = Sentry(journal, dict, lambda: Head(6, made[-1].hash))
    assert codes(sentry) == set()
    rewrite(tmp_path / "journal.db", 7, keep=4)
    assert codes(sentry) | codes(sentry) == {("truncated", 6)}
    journal.close()


def test_a_head_that_another_node_is_about_to_show_is_waited_for() -> None:
    """A consumer may have seen what this node's store shows a moment later."""
    journal, ahead = MemoryJournal(), MemoryJournal()
    grow(journal, 2)
    grow(ahead, 3)
    seen = {ahead.head(): 1}
    sentry = Sentry(journal, lambda: seen, journal.head)
    assert codes(sentry) == set()
    grow(journal, 1)
    assert codes(sentry) == set()


def test_unwatched_nobody_notices(tmp_path: Path) -> None:
    """The damage: a journal that is rewritten with care opens as if nothing had been."""
    journal = SqliteJournal(tmp_path / "journal.db")
    grow(journal, 6)
    journal.close()
    rewrite(tmp_path / "journal.db", 4, keep=6)
    (tmp_path / "journal.db-head").unlink()
    again = SqliteJournal(tmp_path / "journal.db")
    assert [entry.reason for entry in again.read()] == ["why"] * 3 + ["other"] * 3
    again.close()
