"""One SQLite file as the journal and the stores use it: durable, bounded, refusing damage.

WAL with `synchronous=FULL`: a commit that returned survives the machine. One writer at a time
(a lock here, SQLite's own between processes), readers on connections of their own, kept in a small
pool. No call waits longer than `busy_timeout_s` for another writer.

Every `sqlite3` error leaves as `Damaged`, `SickDisk` or `Unavailable`, with the file and the way
out. A commit whose sync failed is undone, and its pages are written anew with the next one: what a
kernel forgets after a failed sync was never acknowledged.
"""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from holdfast.core.errors import Damaged, HoldfastError, SickDisk, Sickness, Unavailable

_DAMAGE: Final = frozenset(
    {
        sqlite3.SQLITE_CONSTRAINT,  # no writer of ours breaks one on a sound file
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FORMAT,
        sqlite3.SQLITE_NOTADB,
    }
)
_SICK: Final[dict[int, Sickness]] = {
    sqlite3.SQLITE_FULL: "disk-full",
    sqlite3.SQLITE_IOERR: "disk-fault",
    sqlite3.SQLITE_READONLY: "disk-read-only",
}
_SICK_ERRNO: Final[dict[int | None, Sickness]] = {
    errno.EDQUOT: "disk-full",
    errno.EFBIG: "disk-full",
    errno.EIO: "disk-fault",
    errno.ENOSPC: "disk-full",
    errno.EROFS: "disk-read-only",
}
_SCHEMA: Final = "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"
_WAL_BYTES_KEPT_MAX: Final = 16 * 1024 * 1024
_READERS_KEPT_MAX: Final = 8
_SHARED_BYTES: Final = 32 * 1024
"""By so much SQLite makes the file of its shared memory longer."""


class SqliteFile:
    """An open file of exactly this `schema`; made whole, or not at all, when it isn't there.

    `application` (a 32-bit integer) tells files of different use apart. Raises `Damaged` when what
    is there is something else or broken, and `Unavailable` when it can't be opened. Not to be
    carried over a fork: the child's calls are refused with `Unavailable`.
    """

    def __init__(
        self,
        path: Path,
        schema: Sequence[str],
        application: int,
        *,
        restore: str,
        busy_timeout_s: float = 5.0,
    ) -> None:
        self.path = path
        self._restore = restore
        self._busy_timeout_s = busy_timeout_s
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._readers: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue(_READERS_KEPT_MAX)
        self._closed = False
        with self._translated():
            if not path.exists():
                self._create(schema, application)
            self._writer = self._connect()
            try:
                self._check(schema, application)
            except BaseException:
                self._writer.close()
                raise

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction that may write: committed durably at the end, or nothing of it at all."""
        with self._sole_writer() as writer, _transaction(writer):
            yield writer

    def compact(self) -> int:
        """Write the file anew without its free pages, and empty the log; the bytes given back.

        Readers go on; it takes the disk as much again as the file has bytes.
        """
        before = self.size_bytes()
        with self._sole_writer() as writer:
            writer.execute("VACUUM")
            writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return max(0, before - self.size_bytes())

    def size_bytes(self) -> int:
        """The file with its log."""
        size = 0
        for part in ("", "-wal"):
            with contextlib.suppress(FileNotFoundError):
                size += self.path.with_name(self.path.name + part).stat().st_size
        return size

    @contextlib.contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection for short reads, each statement on what is committed by then."""
        self._guard()
        with self._translated():
            try:
                reader = self._readers.get_nowait()
            except queue.Empty:
                reader = self._connect()
            try:
                yield reader
            finally:
                self._keep(reader)

    def close(self) -> None:
        """Close all connections; in a forked child do nothing, they are the parent's."""
        if self._closed or os.getpid() != self._process:
            return
        with self._lock:
            self._closed = True
            while True:
                try:
                    self._readers.get_nowait().close()
                except queue.Empty:
                    break
            self._writer.close()

    def damaged(self, what: str) -> Damaged:
        """The error for content that is not what was written."""
        return Damaged(f"{self.path} is damaged: {what}. {self._restore}")

    def check_pages(self) -> None:
        """Raise `Damaged` unless every page hangs together; reads the whole file."""
        with self.read() as reader:
            found = [str(row[0]) for row in reader.execute("PRAGMA quick_check(1)")]
        if found != ["ok"]:
            raise self.damaged("; ".join(found) or "the check of its pages gave nothing")

    @contextlib.contextmanager
    def _sole_writer(self) -> Iterator[sqlite3.Connection]:
        self._guard()
        if not self._lock.acquire(timeout=self._busy_timeout_s):
            raise Unavailable(f"{self.path}: other writers held it for {self._busy_timeout_s:g} s")
        try:
            self._guard()
            with self._translated():
                yield self._writer
        finally:
            self._lock.release()

    def _keep(self, reader: sqlite3.Connection) -> None:
        if not self._closed:
            try:
                self._readers.put_nowait(reader)
            except queue.Full:
                pass
            else:
                return
        reader.close()

    def _guard(self) -> None:
        if os.getpid() != self._process:
            raise Unavailable(f"{self.path} was opened before a fork: open it anew in the child")
        if self._closed:
            raise Unavailable(f"{self.path} is closed")

    def _connect(self) -> sqlite3.Connection:
        uri = f"{self.path.absolute().as_uri()}?mode=rw"
        connection = sqlite3.connect(
            uri,
            uri=True,
            timeout=self._busy_timeout_s,
            isolation_level=None,
            check_same_thread=False,
        )
        for pragma in (
            "synchronous=FULL",
            f"journal_size_limit={_WAL_BYTES_KEPT_MAX}",
            "cell_size_check=ON",
            "trusted_schema=OFF",
        ):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    def _create(self, schema: Sequence[str], application: int) -> None:
        """Build the file aside and link it: an empty or half-made file under the name is damage."""
        aside = self.path.with_name(f"{self.path.name}.{os.getpid()}.new")
        aside.unlink(missing_ok=True)
        try:
            with contextlib.closing(sqlite3.connect(aside, isolation_level=None)) as connection:
                connection.execute(f"PRAGMA application_id={application}")
                with _transaction(connection):
                    for statement in schema:
                        connection.execute(statement)
            with contextlib.suppress(FileExistsError):  # another process was faster: the same file
                os.link(aside, self.path)
            sync_directory(self.path.parent)
        finally:
            aside.unlink(missing_ok=True)

    def _check(self, schema: Sequence[str], application: int) -> None:
        found = self._writer.execute("PRAGMA application_id").fetchone()[0]
        there = [row[0] for row in self._writer.execute(_SCHEMA)]
        if found != application or there != [one for one in schema if one.startswith("CREATE")]:
            raise self.damaged("its header or its tables are not those of such a file")
        mode = self._writer.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        if mode != "wal":
            raise Unavailable(f"{self.path}: the file system does not carry a write-ahead log")

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except HoldfastError:
            raise
        except UnicodeDecodeError as error:  # of a rotten name, even while SQLite complains of it
            raise self.damaged("a text in it is no UTF-8") from error
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", None)
            if code is not None and code & 0xFF in _DAMAGE:
                raise self.damaged(str(error)) from error
            primary = code & 0xFF if code is not None else 0
            if primary in _SICK:
                raise SickDisk(f"{self.path}: {error}", self._sickness(primary)) from error
            raise Unavailable(f"{self.path}: {error}") from error
        except OSError as error:
            message = f"{self.path}: {error.strerror or error}"
            if error.errno in _SICK_ERRNO:
                raise SickDisk(message, _SICK_ERRNO[error.errno]) from error
            raise Unavailable(message) from error

    def _sickness(self, primary: int) -> Sickness:
        """SQLite tells a full disk from the rest, but not where it makes its shared memory.

        There the file system says it, as it says that it is read-only.
        """
        with contextlib.suppress(OSError):
            there = os.statvfs(self.path.parent)
            if there.f_flag & os.ST_RDONLY:
                return "disk-read-only"
            if there.f_bavail * there.f_frsize < _SHARED_BYTES:
                return "disk-full"
        return _SICK[primary]


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # the first error tells; SQLite may have undone it
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        raise


def sync_directory(directory: Path) -> None:
    """Make a file's new name in `directory` survive the machine."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
