"""Large, immutable bytes under their digest, in etcd: records `blobs/DIGEST`, bodies in parts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Final

from holdfast.adapters.etcd_line import EtcdLine
from holdfast.adapters.etcd_records import EtcdRecords, Gone
from holdfast.adapters.etcd_wire import unchanged
from holdfast.core.errors import TooLarge, Unavailable
from holdfast.core.limits import SEGMENT_BYTES_MAX
from holdfast.ports import Stored

BLOBS: Final = "blobs/"
INLINE_BYTES_MAX: Final = 4096
"""Listing them reads no more than that of each."""
TRIES_MAX: Final = 4
_DIGEST: Final = re.compile("[0-9a-f]{64}")
_RESTORE: Final = "Commit the member lists of the segments again, or restore a backup"


class EtcdBlobs:
    """The `Blobs` port. A stamp is etcd's revision at which the blob was put last."""

    def __init__(self, line: EtcdLine) -> None:
        self._line = line
        self._records = EtcdRecords(line, INLINE_BYTES_MAX)

    def put(self, body: bytes) -> str:
        if len(body) > SEGMENT_BYTES_MAX:
            raise TooLarge(f"{len(body)} bytes in one blob, at most {SEGMENT_BYTES_MAX}")
        digest = hashlib.sha256(body).hexdigest()
        for _ in range(TRIES_MAX):
            packed = self._records.pack(BLOBS + digest, body)
            if self._line.change(packed.guards, (packed.write,)).succeeded:
                return digest
        raise Unavailable(f"{self._line.where}: blob {digest} is deleted as fast as it is put")

    def get(self, digest: str) -> bytes | None:
        if not _DIGEST.fullmatch(digest):
            return None
        found, _ = self._line.get(BLOBS + digest)
        if found is None:
            return None
        try:
            body = self._records.unpack(found)
        except Gone:
            return None
        if hashlib.sha256(body).hexdigest() != digest:
            raise self._records.damaged(f"the bytes kept under {digest} are others", _RESTORE)
        return body

    def all(self) -> Iterator[Stored]:
        for found in self._line.under(BLOBS):
            digest = self._line.name(found.key).removeprefix(BLOBS)
            yield Stored(digest, self._records.label(found).bytes, found.mod_revision)

    def delete(self, stored: Stored) -> bool:
        name = BLOBS + stored.digest
        same = unchanged(self._line.key(name), stored.stamp)
        return self._line.change((same,), self._records.remove(name), twice=False).succeeded
