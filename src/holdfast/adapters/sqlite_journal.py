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

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from holdfast.adapters import entry_rows
from holdfast.adapters.checkpoint_files import CheckpointFiles
from holdfast.adapters.entry_rows import BATCH, Row
from holdfast.adapters.head_witness import HeadWitness
from holdfast.adapters.mark_file import MarkFile
from holdfast.adapters.sqlite_file import SqliteFile
from holdfast.adapters.sqlite_leases import LEASE, NO_LEASE, SqliteLeases, newest
from holdfast.core.errors import Conflict, Damaged, Fenced, Marked
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
_RESTORE: Final = (
    "Nothing of it is served. Stop all processes that use it, keep the damaged files for a look,"
    " and put back a backup of the file together with those that begin with its name"
)


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
        row = entry_rows.sealed(entry)
        with self._file.write() as connection:
            if text := self._mark.read():
                raise Marked(text)
            if fence and fence != (token := newest(self._file, connection).token):
                raise Fenced(fence, token)
            self._put(connection, entry, row)
        self._told(entry)

    def append_all(self, entries: Sequence[Entry]) -> None:
        for start in range(0, len(entries), BATCH):
            batch = entries[start : start + BATCH]
            rows = [entry_rows.sealed(entry) for entry in batch]
            with self._file.write() as connection:
                for entry, row in zip(batch, rows, strict=True):
                    self._put(connection, entry, row)
            self._told(batch[-1])

    def read(self, after: int = 0, limit: int | None = None) -> Iterator[Entry]:
        return entry_rows.read(self, after, limit)

    def rows(self, after: int, limit: int) -> Sequence[Row]:
        """`entry_rows.Rows`."""
        with self._file.read() as connection:
            return connection.execute(_SELECT, (after, limit)).fetchall()

    def damaged(self, what: str) -> Damaged:
        return self._file.damaged(what)

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
            return tuple(self.read(after, BATCH))
        return ()

    def mark(self, text: str, was: str) -> bool:
        """`Stores.mark`: under the writers' lock, so that each append sees it or was before it."""
        with self._file.write():
            if self._mark.read() not in {was, text}:
                return False
            self._mark.write(text)
            return True

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

    def _put(self, connection: sqlite3.Connection, entry: Entry, row: Row) -> None:
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

    def _check_chain(self, witnessed: Head) -> None:
        """Check every link, the head and the witness, all at one moment.

        A damaged journal is refused at start, not when somebody asks for the part that broke.
        """
        with self._file.read() as connection:
            connection.execute("BEGIN")
            try:
                head, last, met = self._head(connection), GENESIS, not witnessed.revision
                for each in entry_rows.places(self, connection.execute(_SELECT, (0, -1))):
                    last, met = each, met or each == witnessed
            finally:
                connection.execute("ROLLBACK")
        if last != head:
            raise self._file.damaged(f"its last entry is {last.revision}, its head {head.revision}")
        if not met:
            raise self._file.damaged(
                f"entry {witnessed.revision} was acknowledged, and is missing or another one now"
                f" (delete {self._witness.path} to accept this loss)"
            )


_SELECT: Final = (
    "SELECT revision, hash, body FROM entries WHERE revision > ? ORDER BY revision LIMIT ?"
)
