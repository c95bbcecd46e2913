"""The lease of a journal's file: one row in it, so that one transaction sees both.

The row carries a checksum, as all that is read here is checked: a token that rotted downwards would
let a leader of old write again.
"""

from __future__ import annotations

import sqlite3
import zlib
from typing import Final

import msgspec

from holdfast.adapters.sqlite_file import SqliteFile
from holdfast.ports import Clock, Lease

LEASE: Final = """CREATE TABLE lease (
    one INTEGER PRIMARY KEY CHECK (one = 1), token INTEGER NOT NULL, holder TEXT NOT NULL,
    url TEXT NOT NULL, since_s REAL NOT NULL, ttl_s REAL NOT NULL, checksum INTEGER NOT NULL
) STRICT"""


class Given(msgspec.Struct, frozen=True):
    """The newest lease ever given; it holds from `since_s` on, for `ttl_s`."""

    token: int
    holder: str
    url: str
    since_s: float
    ttl_s: float

    def holds(self, now_s: float) -> bool:
        """A clock that was set back, before the lease was given, ends it: the fence guards."""
        return self.since_s <= now_s < self.since_s + self.ttl_s

    @property
    def lease(self) -> Lease:
        return Lease(self.token, self.holder, self.url)

    @property
    def checksum(self) -> int:
        return zlib.crc32(repr(msgspec.structs.astuple(self)).encode())


_NOBODY: Final = Given(0, "", "", 0.0, 0.0)
NO_LEASE: Final = f"INSERT INTO lease VALUES (1, 0, '', '', 0, 0, {_NOBODY.checksum})"  # noqa: S608 - constants only


class SqliteLeases:
    """The `Leases` port on the journal's `file`; `clock` is in seconds, one for all processes."""

    def __init__(self, file: SqliteFile, clock: Clock) -> None:
        self._file = file
        self._clock = clock

    def take(self, holder: str, url: str, ttl_s: float) -> Lease | None:
        with self._file.write() as connection:
            was, now_s = newest(self._file, connection), self._clock()
            mine = was.token > 0 and was.holder == holder
            if not mine and was.holds(now_s):
                return None
            given = Given(was.token + (not mine), holder, url, now_s, float(ttl_s))
            _write(connection, given)
        return given.lease

    def current(self) -> Lease | None:
        with self._file.read() as connection:
            given = newest(self._file, connection)
        return given.lease if given.holds(self._clock()) else None

    def give_up(self, lease: Lease) -> None:
        with self._file.write() as connection:
            was = newest(self._file, connection)
            if was.token == lease.token:
                _write(connection, msgspec.structs.replace(was, ttl_s=0.0))


def newest(file: SqliteFile, connection: sqlite3.Connection) -> Given:
    """The newest lease, whether it holds or not. Raises `Damaged`."""
    query = "SELECT token, holder, url, since_s, ttl_s, checksum FROM lease"
    rows = connection.execute(query).fetchall()
    if len(rows) != 1:
        raise file.damaged("it has no row for the lease")
    *fields, checksum = rows[0]
    given = Given(*fields)
    if given.checksum != checksum:
        raise file.damaged("its lease is not what was written")
    return given


def _write(connection: sqlite3.Connection, given: Given) -> None:
    row = (*msgspec.structs.astuple(given), given.checksum)
    connection.execute(
        "UPDATE lease SET token = ?, holder = ?, url = ?, since_s = ?, ttl_s = ?, checksum = ?", row
    )
