"""A journal's files read and never written: beside the node that uses them, or of a backup.

What stands in the rows comes out as it is, right or wrong: the reader judges. All reads of one
`JournalCopy` see one moment.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

import msgspec

from holdfast.adapters.checkpoint_files import CheckpointFiles
from holdfast.adapters.head_witness import HeadWitness
from holdfast.adapters.imprint_rows import unpack
from holdfast.adapters.sqlite_digests import ALL_ROWS
from holdfast.core.errors import Damaged, Unavailable
from holdfast.core.model import Head
from holdfast.ports import Checkpoint, Imprint

JOURNAL: Final = "journal.db"
DIGESTS: Final = "digests.db"
BLOBS: Final = "blobs.db"
_ENTRIES: Final = "SELECT revision, hash, body FROM entries WHERE revision > ? ORDER BY revision"
_REVISION_MAX: Final = 2**53 - 1


class Row(msgspec.Struct, frozen=True):
    """One entry as it lies there: its number, its hash in hex, its canonical bytes."""

    revision: int
    hash: str
    body: bytes


class ReadOnly(Protocol):
    """A journal with what lies beside it, read and never written.

    `name` is for people; `folder` is where its files are, if it is of files. `head` and `witnessed`
    are what its head and its witness say.
    """

    @property
    def name(self) -> str: ...
    @property
    def folder(self) -> Path | None: ...
    @property
    def head(self) -> Head | None: ...
    @property
    def witnessed(self) -> Head | None: ...

    def rows(self, after: int = 0) -> Iterator[Row]:
        """Every entry above `after`, by number. Raises `Damaged` where it can't be read."""

    def checkpoint(self) -> Checkpoint | None: ...

    def imprints(self) -> tuple[list[Imprint], list[str]]:
        """The record of first digests, and what is wrong with it."""

    def blob(self, digest: str) -> bytes | None: ...

    def close(self) -> None: ...


class JournalCopy:
    """The journal at `path`: its file, or the data directory that holds it.

    `head` is what its head row says, `witnessed` what the witness file beside it says. Raises
    `Unavailable` when there is none, `Damaged` when it is no journal.
    """

    def __init__(self, path: Path) -> None:
        self.path = path / JOURNAL if path.is_dir() else path
        if not self.path.is_file():
            raise Unavailable(f"{self.path} is not there: name a data directory, or a journal.db")
        self.name, self.folder = str(self.path), self.path.parent
        self._blobs: sqlite3.Connection | None = None
        self._connection = _open(self.path)
        try:
            self._connection.execute("BEGIN")
            rows = self._connection.execute("SELECT revision, hash FROM head").fetchall()
        except sqlite3.Error as error:
            self._connection.close()
            raise Damaged(f"{self.path}: {error}") from None
        self.head = Head(rows[0][0], rows[0][1].hex()) if len(rows) == 1 else None
        self.witnessed = HeadWitness(self.path.with_name(f"{self.path.name}-head")).read()

    def rows(self, after: int = 0) -> Iterator[Row]:
        """Every entry above `after`, by number. Raises `Damaged` where the file can't be read."""
        try:
            for revision, digest, body in self._connection.execute(_ENTRIES, (after,)):
                yield Row(revision, bytes(digest).hex(), bytes(body))
        except (sqlite3.Error, TypeError) as error:
            raise Damaged(f"{self.path}: {error}") from None

    def checkpoint(self) -> Checkpoint | None:
        """The newest whole checkpoint beside it, whatever journal it is of."""
        folder = self.path.with_name(f"{self.path.name}-checkpoints")
        return CheckpointFiles(folder).newest(_REVISION_MAX)

    def imprints(self) -> tuple[list[Imprint], list[str]]:
        """The record of first digests beside it, and what is wrong with it; empty without one."""
        path = self.path.with_name(DIGESTS)
        if not path.is_file():
            return [], []
        found, wrong = [], []
        connection = _open(path)
        try:
            for row in connection.execute(ALL_ROWS):
                try:
                    found.append(unpack(row))
                except Damaged as error:
                    wrong.append(f"{path}: {error}")
        except sqlite3.Error as error:
            wrong.append(f"{path}: {error}")
        finally:
            connection.close()
        return found, wrong

    def blob(self, digest: str) -> bytes | None:
        """Bytes of the blob store beside it, under their digest; none when they are not there."""
        path = self.path.with_name(BLOBS)
        if self._blobs is None:
            if not path.is_file():
                return None
            self._blobs = _open(path)
        query = "SELECT body FROM blobs WHERE digest = ?"
        try:
            row = self._blobs.execute(query, (bytes.fromhex(digest),)).fetchone()
        except sqlite3.Error as error:
            raise Damaged(f"{path}: {error}") from None
        if row is None or hashlib.sha256(row[0]).hexdigest() != digest:
            return None
        return bytes(row[0])

    def close(self) -> None:
        self._connection.close()
        if self._blobs is not None:
            self._blobs.close()


def _open(path: Path) -> sqlite3.Connection:
    """Read only; of a directory that can't be written, which then nobody else writes either."""
    for how in ("mode=ro", "immutable=1"):
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?{how}", uri=True, isolation_level=None
        )
        try:
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        except sqlite3.OperationalError:
            connection.close()
        except sqlite3.Error as error:
            connection.close()
            raise Damaged(f"{path}: {error}") from None
        else:
            return connection
    raise Unavailable(f"{path} can't be opened for reading")
