"""The journal in PostgreSQL, for any number of nodes.

    entries       canonical bytes under their hash
    head          one row: the last entry's place in the chain, and the store's mark
    lease         one row (`postgres_leases`), which fences what is appended in a lease's name
    checkpoints   folded states, all of them expendable

An append is one statement, and so one transaction: it locks the lease's row when it is fenced, then
the head's, and writes only if both are what they have to be. Whoever takes the lease, or puts a
mark, changes one of these rows: so it waits for the appends before it, and those after it see it.

Reading checks what it reads (`entry_rows`). NOTIFY only wakes those who watch (`postgres_ear`).
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

from holdfast.adapters import entry_rows
from holdfast.adapters.entry_rows import Row
from holdfast.adapters.mark_file import mark_bytes
from holdfast.adapters.postgres_ear import PostgresEar
from holdfast.adapters.postgres_line import Line, PostgresLine
from holdfast.adapters.postgres_line import Rows as PostgresRows
from holdfast.core.errors import Conflict, Damaged, Fenced, Marked, Unavailable
from holdfast.core.model import GENESIS, Entry, Head
from holdfast.ports import Checkpoint

CHECKPOINTS_KEPT: Final = 2
PAGE_BYTES: Final = 4 * 1024 * 1024
_CHECKED_AT_ONCE: Final = 4_096
_PAUSE_S: Final = 0.1
_AT_ONE_MOMENT: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
_HEAD: Final = "SELECT revision, hash FROM head"
_APPEND: Final = """
WITH led AS MATERIALIZED (SELECT token FROM lease WHERE %(fence)s <> 0 FOR SHARE),
stood AS MATERIALIZED (SELECT revision, hash, mark FROM head FOR UPDATE),
put AS (
    INSERT INTO entries SELECT %(revision)s, %(hash)b, %(body)b FROM stood
    WHERE stood.revision = %(revision)s - 1 AND stood.hash = %(previous)b AND stood.mark = ''
    AND (%(fence)s = 0 OR EXISTS (SELECT FROM led WHERE token = %(fence)s))
    RETURNING revision, hash
),
moved AS (UPDATE head SET revision = put.revision, hash = put.hash FROM put)
SELECT stood.revision, stood.mark, (SELECT token FROM led), put.revision IS NOT NULL,
    CASE WHEN put.revision IS NOT NULL THEN pg_notify(%(channel)s, put.revision::text) END
FROM stood LEFT JOIN put ON true
"""
_PAGE: Final = """
SELECT revision, hash, body FROM (
    SELECT revision, hash, body, octet_length(body) AS size,
        sum(octet_length(body)) OVER (ORDER BY revision) AS so_far
    FROM entries WHERE revision > %s ORDER BY revision LIMIT %s
) AS page WHERE so_far - size < %s ORDER BY revision
"""
_APPEND_ALL: Final = (
    "INSERT INTO entries SELECT * FROM unnest(%b::bigint[], %b::bytea[], %b::bytea[])"
)


class PostgresJournal:
    """The `Journal` port on a line; its tables are there. Other nodes' entries wake who watches.

    The whole chain is checked at the start. A notice that got lost costs `poll_interval_s`.
    """

    def __init__(self, line: PostgresLine, *, poll_interval_s: float = 0.5) -> None:
        self._line = line
        self._channel = f"{line.schema} grew"[:63]
        self._ear = PostgresEar(line, self._channel)
        self._poll_interval_s = poll_interval_s
        self._closed = threading.Event()
        self._seen = GENESIS
        self.passed_over = 0
        """Damaged checkpoints that were met."""
        self._check_chain()

    def head(self) -> Head:
        """Raises `Unavailable` too for a head below one that was seen here before.

        So it is after a fail-over to a server that had not got what was acknowledged, and while a
        server that was replaced still answers.
        """
        seen = self._seen
        head = self._head(self._open().rows(_HEAD))
        if head.revision < seen.revision or (head != seen and head.revision == seen.revision):
            self._line.forget()
            raise Unavailable(
                f"{self._line.name} stands at entry {head.revision}, and entry {seen.revision} was "
                "seen before: another server took over that does not have it, or an old one goes "
                "on. Find the server that has it; if it is lost, or a backup was restored: restart"
            )
        self._saw(head)
        return head

    def append(self, entry: Entry, fence: int = 0) -> None:
        revision, digest, body = entry_rows.sealed(entry)
        with self._open().held(self._line.timeout_s) as line:
            line.expect(len(body))
            told = {"revision": revision, "hash": digest, "body": body, "fence": fence}
            told |= {"previous": bytes.fromhex(entry.previous), "channel": self._channel}
            row = line.execute(_APPEND.encode(), told).fetchone()
        if row is None:
            raise self.damaged("it has no head")
        there, mark, token, put, _ = row
        if mark:
            raise Marked(mark)
        if fence and token is None:
            raise self.damaged("it has no row for the lease")
        if fence and fence != token:
            raise Fenced(fence, token)
        if not put:
            raise Conflict(revision - 1, there)
        self._saw(Head(revision, entry.hash))
        self._ear.wake()

    def append_all(self, entries: Sequence[Entry]) -> None:
        batch: list[Entry] = []
        size = 0
        for entry in entries:
            batch.append(entry)
            size += len(entry_rows.sealed(entry)[2])
            if len(batch) == entry_rows.BATCH or size > PAGE_BYTES:
                self._append_batch(batch, size)
                batch, size = [], 0
        if batch:
            self._append_batch(batch, size)

    def read(self, after: int = 0, limit: int | None = None) -> Iterator[Entry]:
        return entry_rows.read(self, after, limit)

    def rows(self, after: int, limit: int) -> Sequence[Row]:
        """`entry_rows.Rows`: as many as fit into a page."""
        return self._open().rows(_PAGE, (after, limit, PAGE_BYTES), PAGE_BYTES)

    def damaged(self, what: str) -> Damaged:
        return self._line.damaged(what)

    def watch(self, after: int, timeout_s: float) -> Sequence[Entry]:
        """A store that fails meanwhile is asked again; `Unavailable` if it fails to the end."""
        deadline = time.monotonic() + timeout_s
        failed: Unavailable | None = None
        while not self._closed.is_set():
            try:
                if self.head().revision > after:
                    return tuple(self.read(after, entry_rows.BATCH))
                failed = None
                left = deadline - time.monotonic()
                if left > 0:
                    self._ear.wait(min(left, self._poll_interval_s))
            except Unavailable as error:
                failed = error
            left = deadline - time.monotonic()
            if left <= 0:
                break
            if failed is not None:
                self._closed.wait(min(left, _PAUSE_S))
        if failed is not None and not self._closed.is_set():
            raise failed
        return ()

    def mark(self, text: str, was: str) -> bool:
        """`Stores.mark`: in the head's row, which each append locks."""
        mark_bytes(text)
        put = "UPDATE head SET mark = %s WHERE mark IN (%s, %s) RETURNING revision"
        if self._open().rows(put, (text, was, text)):
            return True
        self.marked()  # raises where there is no row
        return False

    def marked(self) -> str:
        rows = self._open().rows("SELECT mark FROM head")
        if len(rows) != 1:
            raise self.damaged("it has no head")
        return str(rows[0][0])

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        row = (checkpoint.revision, _checksum(checkpoint), checkpoint.body)
        with self._open().transaction() as line:
            line.expect(len(checkpoint.body))
            line.execute(
                b"INSERT INTO checkpoints VALUES (%s, %s, %b) ON CONFLICT (revision)"
                b" DO UPDATE SET checksum = EXCLUDED.checksum, body = EXCLUDED.body",
                row,
            )
            line.execute(
                b"DELETE FROM checkpoints WHERE revision NOT IN"
                b" (SELECT revision FROM checkpoints ORDER BY revision DESC LIMIT %s)",
                (CHECKPOINTS_KEPT,),
            )

    def checkpoint(self) -> Checkpoint | None:
        there = self._open().rows(
            "SELECT revision, octet_length(body) FROM checkpoints ORDER BY revision DESC"
        )
        revision_max = self.head().revision
        for revision, size in there:
            query = "SELECT checksum, body FROM checkpoints WHERE revision = %s"
            for checksum, body in self._line.rows(query, (revision,), size):
                found = Checkpoint(revision, body)
                if revision <= revision_max and checksum == _checksum(found):
                    return found
                self.passed_over += 1
        return None

    def close(self) -> None:
        """End all that watch. The line is closed by who opened it: other stores use it too."""
        self._closed.set()
        self._ear.close()

    def _append_batch(self, batch: Sequence[Entry], size: int) -> None:
        rows = [entry_rows.sealed(entry) for entry in batch]
        with self._open().transaction() as line:
            line.expect(size)
            head = self._head(line.execute(f"{_HEAD} FOR UPDATE".encode()).fetchall())
            for entry in batch:
                if (head.revision, head.hash) != (entry.revision - 1, entry.previous):
                    raise Conflict(entry.revision - 1, head.revision)
                head = Head(entry.revision, entry.hash)
            columns: list[list[Any]] = [list(column) for column in zip(*rows, strict=True)]
            line.execute(_APPEND_ALL.encode(), columns)
            line.execute(b"UPDATE head SET revision = %s, hash = %b", rows[-1][:2])
            line.execute(b"SELECT pg_notify(%s, %s)", (self._channel, str(batch[-1].revision)))
        self._saw(head)
        self._ear.wake()

    def _saw(self, head: Head) -> None:
        if head.revision > self._seen.revision:
            self._seen = head

    def _check_chain(self) -> None:
        """Check every link, and the head, all at one moment."""
        last = GENESIS
        with self._line.transaction(_AT_ONE_MOMENT) as line:
            head = self._head(line.execute(_HEAD.encode()).fetchall())
            for each in entry_rows.places(self, self._pages(line)):
                last = each
        if last != head:
            raise self.damaged(f"its last entry is {last.revision}, its head {head.revision}")

    def _pages(self, line: Line) -> Iterator[Row]:
        after = 0
        while True:
            line.until_s = time.monotonic() + self._line.timeout_s
            given = (after, _CHECKED_AT_ONCE, PAGE_BYTES)
            rows = line.execute(_PAGE.encode(), given, binary=True).fetchall()
            yield from rows
            if not rows:
                return
            after = rows[-1][0]

    def _head(self, rows: PostgresRows) -> Head:
        if len(rows) != 1:
            raise self.damaged("it has no head")
        return Head(rows[0][0], rows[0][1].hex())

    def _open(self) -> PostgresLine:
        if self._closed.is_set():
            raise Unavailable(f"{self._line.name}: the journal is closed")
        return self._line


def _checksum(checkpoint: Checkpoint) -> str:
    covered = hashlib.sha256(b"%d\n" % checkpoint.revision)
    covered.update(checkpoint.body)
    return covered.hexdigest()
