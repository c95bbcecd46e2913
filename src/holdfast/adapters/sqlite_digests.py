"""The first digest of each snapshot, in a SQLite file of its own beside the journal.

It is written before the entry that makes the snapshot is appended, under that entry's hash: a
build that follows finds the digest as soon as it finds the entry, whatever the writer dies of in
between. A row of an entry that was never appended is found by nobody, and goes with the oldest.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from holdfast.adapters.imprint_rows import COLUMNS, Row, pack, place, unpack
from holdfast.adapters.memory import IMPRINTS_KEPT
from holdfast.adapters.sqlite_file import SqliteFile
from holdfast.core.errors import Damaged
from holdfast.ports import Imprint

_IMPRINTS: Final = """CREATE TABLE imprints (
    environment TEXT NOT NULL, service TEXT NOT NULL, revision INTEGER NOT NULL,
    entry BLOB NOT NULL, format INTEGER NOT NULL, digest BLOB NOT NULL, build TEXT NOT NULL,
    outline BLOB NOT NULL, checksum BLOB NOT NULL,
    PRIMARY KEY (environment, service, revision, entry, format)
) STRICT, WITHOUT ROWID"""
SCHEMA: Final = (_IMPRINTS,)
APPLICATION: Final = 0x48464431  # "HFD1"
ALL_ROWS: Final = f"SELECT {COLUMNS} FROM imprints ORDER BY environment, service, revision"  # noqa: S608 - constants only
_RESTORE: Final = (
    "Delete it: digests stand in the journal too, and the newest ones are put again at the next "
    "start. Start the build that ran last, so that it is the one that is believed"
)
_SUBJECT: Final = "environment = ? AND service = ?"
_PLACE: Final = f"{_SUBJECT} AND revision = ? AND entry = ? AND format = ?"


class SqliteDigests:
    """The `Digests` port on `path`."""

    def __init__(self, path: Path) -> None:
        self._file = SqliteFile(path, SCHEMA, APPLICATION, restore=_RESTORE)

    def put(self, made: Sequence[Imprint]) -> Sequence[Imprint]:
        with self._file.read() as connection:
            stands = [self._find(connection, one) for one in made]
        if all(stands):
            return [one for one in stands if one]
        with self._file.write() as connection:  # another process may have been faster
            return [self._find(connection, one) or _insert(connection, one) for one in made]

    def all(self) -> Sequence[Imprint]:
        with self._file.read() as connection:
            return [self._imprint(row) for row in connection.execute(ALL_ROWS)]

    def size_bytes(self) -> int:
        return self._file.size_bytes()

    def compact(self) -> int:
        """Bytes given back."""
        return self._file.compact()

    def close(self) -> None:
        self._file.close()

    def _find(self, connection: sqlite3.Connection, one: Imprint) -> Imprint | None:
        query = f"SELECT {COLUMNS} FROM imprints WHERE {_PLACE}"  # noqa: S608 - constants only
        row = connection.execute(query, place(one)).fetchone()
        return self._imprint(row) if row else None

    def _imprint(self, row: Row) -> Imprint:
        try:
            return unpack(row)
        except Damaged as error:
            raise self._file.damaged(str(error)) from None


def _insert(connection: sqlite3.Connection, one: Imprint) -> Imprint:
    subject = place(one)[:2]
    newest = f"SELECT max(revision) FROM imprints WHERE {_SUBJECT}"  # noqa: S608 - constants only
    before = connection.execute(newest, subject).fetchone()[0] or 0
    outline = one.outline if one.revision >= before else b""
    _write(connection, one, outline)
    if one.revision > before:
        _strip(connection, one)
    connection.execute(
        f"DELETE FROM imprints WHERE {_SUBJECT} AND revision <= (SELECT revision FROM imprints "  # noqa: S608 - constants only
        f"WHERE {_SUBJECT} ORDER BY revision DESC LIMIT 1 OFFSET {IMPRINTS_KEPT})",
        subject + subject,
    )
    return one


def _strip(connection: sqlite3.Connection, newest: Imprint) -> None:
    """Drop the outlines of what is older than `newest`."""
    query = (
        f"SELECT {COLUMNS} FROM imprints WHERE {_SUBJECT} AND revision < ? "  # noqa: S608 - constants only
        "AND outline != x''"
    )
    where = (*place(newest)[:2], newest.revision)
    for row in connection.execute(query, where).fetchall():
        _write(connection, unpack(row), b"")


def _write(connection: sqlite3.Connection, one: Imprint, outline: bytes) -> None:
    connection.execute(
        f"INSERT OR REPLACE INTO imprints ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - constants only
        pack(one, outline),
    )
