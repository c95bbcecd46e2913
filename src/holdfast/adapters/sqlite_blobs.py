"""Large, immutable bytes under their digest, in a SQLite file of their own.

Apart from the journal, because that is read whole at each start and these are not. A blob's stamp
is its row's number, drawn anew whenever it is put.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from holdfast.adapters.sqlite_file import SqliteFile
from holdfast.core.errors import TooLarge
from holdfast.core.limits import SEGMENT_BYTES_MAX
from holdfast.ports import Stored

SCHEMA: Final = ("CREATE TABLE blobs (digest BLOB PRIMARY KEY, body BLOB NOT NULL) STRICT",)
APPLICATION: Final = 0x48464231  # "HFB1"
_DIGEST_CHARS: Final = 64
_STAMP_BITS: Final = 62
_RESTORE: Final = "Put back a backup of it, or commit the member lists of the segments again"


class SqliteBlobs:
    """The `Blobs` port on `path`. Each body is checked against its digest whenever it is read."""

    def __init__(self, path: Path) -> None:
        self._file = SqliteFile(path, SCHEMA, APPLICATION, restore=_RESTORE)

    def put(self, body: bytes) -> str:
        if len(body) > SEGMENT_BYTES_MAX:
            raise TooLarge(f"{len(body)} bytes in one blob, at most {SEGMENT_BYTES_MAX}")
        digest = hashlib.sha256(body).hexdigest()
        with self._file.write() as connection:
            # a body that is there already is written again: that heals one that was damaged
            connection.execute(
                "INSERT OR REPLACE INTO blobs (rowid, digest, body) VALUES (?, ?, ?)",
                (secrets.randbits(_STAMP_BITS), bytes.fromhex(digest), body),
            )
        return digest

    def get(self, digest: str) -> bytes | None:
        try:
            key = bytes.fromhex(digest)
        except ValueError:
            return None
        query = "SELECT body FROM blobs WHERE digest = ?"
        with self._file.read() as connection:
            row = connection.execute(query, (key,)).fetchone()
        if row is None or len(digest) != _DIGEST_CHARS:
            return None
        body: bytes = row[0]
        if hashlib.sha256(body).digest() != key:
            raise self._file.damaged(f"the bytes kept under {digest} are others")
        return body

    def all(self) -> Iterator[Stored]:
        query = "SELECT digest, length(body), rowid FROM blobs ORDER BY digest"
        with self._file.read() as connection:
            rows = connection.execute(query).fetchall()
        for digest, size, stamp in rows:
            yield Stored(digest.hex(), size, stamp)

    def delete(self, stored: Stored) -> bool:
        which = (bytes.fromhex(stored.digest), stored.stamp)
        with self._file.write() as connection:
            done = connection.execute("DELETE FROM blobs WHERE digest = ? AND rowid = ?", which)
            return done.rowcount == 1

    def size_bytes(self) -> int:
        return self._file.size_bytes()

    def compact(self) -> int:
        """Bytes given back."""
        return self._file.compact()

    def close(self) -> None:
        self._file.close()
