"""The journal in one SQLite file, for one machine and any number of processes on it.

Files, for a journal at `journal.db`:

    journal.db, journal.db-wal, -shm   entries, as canonical bytes under their hash, the head, and
                                       the lease (`sqlite_leases`), which fences what is appended
    journal.db-head                    the head once more (`head_witness`)
    journal.db-checkpoints/            folded states (`checkpoint_files`), all of them expendable
    journal.db-mark                    what is under way in the whole store, if anything is

What is read is checked: each row's bytes against its hash, each entry against the one before, the
last one against the head row and the witness; at open, SQLite's own check of all pages too. So
damage is refused, whether it changes, drops or cuts off entries.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from holdfast.adapters.checkpoint_files import CheckpointFiles
from holdfast.adapters.head_witness import HeadWitness
from holdfast.adapters.mark_file import MarkFile
from holdfast.adapters.sqlite_file import SqliteFile
from holdfast.adapters.sqlite_leases import LEASE, NO_LEASE, SqliteLeases, newest
from holdfast.core.errors import Conflict, Damaged, Fenced, Unavailable
from holdfast.core.history import Link, decode_entry, decode_link, encode_entry
from holdfast.core.model import GENESIS, Entry, Head
from holdfast.ports import Checkpoint, Clock

_HEAD: Final = """CREATE TABLE head (
    one INTEGER PRIMARY KEY CHECK (one = 1), revision INTEGER NOT NULL, hash BLOB NOT NULL
) STRICT"""
_ENTRIES: Final = """CREATE TABLE entries (
    revision INTEGER PRIMARY KEY, hash BLOB NOT NULL, body BLOB NOT NULL
) STRICT"""
SCHEMA: Final = (_HEAD, _ENTRIES, LEASE, "INSERT INTO head VALUES (1, 0, zeroblob(32))", NO_LEASE)
APPLICATION: Final = 0x48464A31  # "HFJ1"
_BATCH: Final = 256
_RESTORE: Final = (
    "Nothing of it is served. Stop all processes that use it, keep the damaged files for a look,"
    " and put back a backup of the file together with those that begin with its name"
)

_Row: TypeAlias = tuple[int, bytes, bytes]
"""revision, hash, canonical bytes"""


class SqliteJournal:
    """The `Journal` port on `path`; other processes' entries are seen within `poll_interval_s`.

    `leases` are those of the same file, and go with it. `clock` is theirs, one for all processes.
    """

    def __init__(
        self,
        path: Path,
        *,
        busy_timeout_s: float = 5.0,
        poll_interval_s: float = 0.05,
        clock: Clock = time.time,
    ) -> None:
        self._witness = HeadWitness(path.with_name(f"{path.name}-head"))
        witnessed = self._witness.read() or GENESIS
        if witnessed.revision and not path.exists():
            held = f"it held {witnessed.revision} entries"
            raise Damaged(f"{path} is missing, and {held}. {_RESTORE}")
        self._file = SqliteFile(
            path, SCHEMA, APPLICATION, restore=_RESTORE, busy_timeout_s=busy_timeout_s
        )
        self.leases = SqliteLeases(self._file, clock)
        self._mark = MarkFile(path.with_name(f"{path.name}-mark"))
        self._checkpoints = CheckpointFiles(path.with_name(f"{path.name}-checkpoints"))
        self._poll_interval_s = poll_interval_s
        self._grown = threading.Condition()
        self._closed = False
        try:
            self._file.check_pages()
            self._check_chain(witnessed)
            self.leases.current()
        except BaseException:
            self._file.close()
            raise

    def head(self) -> Head:
        with self._file.read() as connection:
            return self._head(connection)

    def append(self, entry: Entry, fence: int = 0) -> None:
        row = _sealed(entry)
        with self._file.write() as connection:
            if text := self._mark.read():
                raise Unavailable(f"the store is marked: no writes ({text})")
            if fence and fence != (token := newest(self._file, connection).token):
                raise Fenced(fence, token)
            self._put(connection, entry, row)
        self._told(entry)

    def append_all(self, entries: Sequence[Entry]) -> None:
        for start in range(0, len(entries), _BATCH):
            batch = entries[start : start + _BATCH]
            rows = [_sealed(entry) for entry in batch]
            with self._file.write() as connection:
                for entry, row in zip(batch, rows, strict=True):
                    self._put(connection, entry, row)
            self._told(batch[-1])

    def read(self, after: int = 0, limit: int | None = None) -> Iterator[Entry]:
        there = self.head().revision - after
        left = there if limit is None else min(limit, there)
        previous = self._at(after) if left > 0 else GENESIS
        while left > 0:
            rows = self._rows(previous.revision, min(left, _BATCH))
            for row in rows:
                entry = self._entry(previous, row)
                previous = Head(entry.revision, entry.hash)
                yield entry
            left -= len(rows)
            if not rows:
                self._check_is_head(previous)
                return

    def watch(self, after: int, timeout_s: float) -> Sequence[Entry]:
        deadline = time.monotonic() + timeout_s
        while not self._closed:
            with self._grown:
                if self.head().revision <= after:
                    left = deadline - time.monotonic()
                    if left <= 0:
                        break
                    self._grown.wait(min(left, self._poll_interval_s))
                    continue
            return tuple(self.read(after, _BATCH))
        return ()

    def mark(self, text: str) -> None:
        """`Stores.mark`: under the writers' lock, so that each append sees it or was before it."""
        with self._file.write():
            self._mark.write(text)

    def marked(self) -> str:
        return self._mark.read()

    def size_bytes(self) -> int:
        return self._file.size_bytes()

    def compact(self) -> int:
        """Bytes given back."""
        return self._file.compact()

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        self._checkpoints.save(checkpoint)

    def checkpoint(self) -> Checkpoint | None:
        return self._checkpoints.newest(self.head().revision)

    def close(self) -> None:
        with self._grown:
            self._closed = True
            self._grown.notify_all()
        self._file.close()
        self._witness.close()

    def _put(self, connection: sqlite3.Connection, entry: Entry, row: _Row) -> None:
        head = self._head(connection)
        if (head.revision, head.hash) != (entry.revision - 1, entry.previous):
            raise Conflict(entry.revision - 1, head.revision)
        connection.execute("INSERT INTO entries VALUES (?, ?, ?)", row)
        connection.execute("UPDATE head SET revision = ?, hash = ?", row[:2])

    def _told(self, last: Entry) -> None:
        self._witness.write(Head(last.revision, last.hash))
        with self._grown:
            self._grown.notify_all()

    def _head(self, connection: sqlite3.Connection) -> Head:
        rows = connection.execute("SELECT revision, hash FROM head").fetchall()
        if len(rows) != 1:
            raise self._file.damaged("it has no head")
        return Head(rows[0][0], rows[0][1].hex())

    def _rows(self, after: int, limit: int) -> list[_Row]:
        with self._file.read() as connection:
            return _select(connection, after, limit)

    def _at(self, revision: int) -> Head:
        """The chain's link at `revision`, from the entry's own row; revision 0 has none."""
        with self._file.read() as connection:
            return self._link(connection, revision)

    def _link(self, connection: sqlite3.Connection, revision: int) -> Head:
        if revision <= 0:
            return GENESIS
        for row in _select(connection, revision - 1, 1):
            entry = self._decode(*row)
            if entry.revision == revision:
                return Head(revision, entry.hash)
        raise self._file.damaged(f"entry {revision} is missing")

    def _entry(self, previous: Head, row: _Row) -> Entry:
        entry = self._decode(*row)
        if entry.revision != previous.revision + 1 or entry.previous != previous.hash:
            what = f"entry {entry.revision} does not continue entry {previous.revision}"
            raise self._file.damaged(what)
        return entry

    def _decode(self, revision: int, digest: bytes, body: bytes) -> Entry:
        try:
            entry = decode_entry(body, digest.hex())
        except Damaged as error:
            raise self._file.damaged(f"entry {revision}: {error}") from error
        if entry.revision != revision:
            raise self._file.damaged(f"entry {entry.revision} stands in the place of {revision}")
        return entry

    def _check_is_head(self, last: Head) -> None:
        """Entries ended: the last one must be the head, or further entries came just now."""
        head = self.head()
        if head != last and not self._rows(last.revision, 1):
            what = f"entries after {last.revision} up to {head.revision} are missing"
            raise self._file.damaged(what)

    def _check_chain(self, witnessed: Head) -> None:
        """Check every link, the head and the witness, all at one moment.

        About 3 us an entry: a damaged journal is refused at start, not when somebody asks for the
        part that broke.
        """
        with self._file.read() as connection:
            connection.execute("BEGIN")
            try:
                head, last, met = self._head(connection), GENESIS, not witnessed.revision
                for revision, digest, body in connection.execute(_SELECT, (0, -1)):
                    last = self._next(last, revision, digest, body)
                    met |= last == witnessed
            finally:
                connection.execute("ROLLBACK")
        if last != head:
            raise self._file.damaged(f"its last entry is {last.revision}, its head {head.revision}")
        if not met:
            raise self._file.damaged(
                f"entry {witnessed.revision} was acknowledged, and is missing or another one now"
                f" (delete {self._witness.path} to accept this loss)"
            )

    def _next(self, last: Head, revision: int, digest: bytes, body: bytes) -> Head:
        try:
            link = decode_link(body, digest.hex())
        except Damaged as error:
            raise self._file.damaged(f"entry {revision}: {error}") from error
        if revision != link.revision or link != Link(last.revision + 1, last.hash):
            what = f"entry {revision} does not continue entry {last.revision}"
            raise self._file.damaged(what)
        return Head(revision, digest.hex())


_SELECT: Final = (
    "SELECT revision, hash, body FROM entries WHERE revision > ? ORDER BY revision LIMIT ?"
)


def _sealed(entry: Entry) -> _Row:
    body, digest = encode_entry(entry), bytes.fromhex(entry.hash)
    if hashlib.sha256(body).digest() != digest:
        raise Damaged(f"entry {entry.revision} does not match its hash: it was not sealed")
    return entry.revision, digest, body


def _select(connection: sqlite3.Connection, after: int, limit: int) -> list[_Row]:
    return connection.execute(_SELECT, (after, limit)).fetchall()
