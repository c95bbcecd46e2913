"""Large, immutable bytes under their digest, in PostgreSQL.

A blob's stamp comes from a sequence, drawn anew whenever it is put. Bodies are kept as they are
(`EXTERNAL`): most are tables of fingerprints, which nothing compresses.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final

from holdfast.adapters.postgres_line import PostgresLine
from holdfast.core.errors import TooLarge
from holdfast.core.limits import SEGMENT_BYTES_MAX
from holdfast.ports import Stored

_DIGEST_CHARS: Final = 64
_RESTORE: Final = "Restore a backup, or commit the member lists of the segments again"
_PAGE: Final = 1_000
# A body that is there already is written again: that heals one that was damaged.
_PUT: Final = (
    "INSERT INTO blobs VALUES (%b, nextval('stamps'), %b) ON CONFLICT (digest)"
    " DO UPDATE SET stamp = EXCLUDED.stamp, body = EXCLUDED.body"
)
_ALL: Final = (
    "SELECT digest, octet_length(body), stamp FROM blobs WHERE digest > %b ORDER BY digest LIMIT %s"
)


class PostgresBlobs:
    """The `Blobs` port on a line. Each body is checked against its digest whenever it is read."""

    def __init__(self, line: PostgresLine) -> None:
        self._line = line

    def put(self, body: bytes) -> str:
        if len(body) > SEGMENT_BYTES_MAX:
            raise TooLarge(f"{len(body)} bytes in one blob, at most {SEGMENT_BYTES_MAX}")
        digest = hashlib.sha256(body)
        self._line.rows(_PUT, (digest.digest(), body), len(body))
        return digest.hexdigest()

    def get(self, digest: str) -> bytes | None:
        try:
            key = bytes.fromhex(digest)
        except ValueError:
            return None
        if len(digest) != _DIGEST_CHARS:
            return None
        sizes = self._line.rows("SELECT octet_length(body) FROM blobs WHERE digest = %b", (key,))
        if not sizes:
            return None
        query = "SELECT body FROM blobs WHERE digest = %b"
        rows = self._line.rows(query, (key,), body_bytes=sizes[0][0])
        if not rows:
            return None
        body: bytes = rows[0][0]
        if hashlib.sha256(body).digest() != key:
            raise self._line.damaged(f"the bytes kept under {digest} are others", _RESTORE)
        return body

    def all(self) -> Iterator[Stored]:
        after = b""
        while rows := self._line.rows(_ALL, (after, _PAGE)):
            for digest, size, stamp in rows:
                yield Stored(digest.hex(), size, stamp)
            after = rows[-1][0]

    def delete(self, stored: Stored) -> bool:
        query = "DELETE FROM blobs WHERE digest = %b AND stamp = %s RETURNING stamp"
        return bool(self._line.rows(query, (bytes.fromhex(stored.digest), stored.stamp)))
