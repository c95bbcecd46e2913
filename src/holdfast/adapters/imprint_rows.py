"""The first digest of a snapshot as a row, under a checksum of all that stands in it."""

from __future__ import annotations

import hashlib
import zlib
from typing import Final, TypeAlias

from holdfast.core.errors import Damaged
from holdfast.core.model import Subject
from holdfast.ports import Imprint

OUTLINE_BYTES_MAX: Final = 16 * 1024 * 1024
COLUMNS: Final = "environment, service, revision, entry, format, digest, build, outline, checksum"
Row: TypeAlias = tuple[str, str, int, bytes, int, bytes, str, bytes, bytes]
Place: TypeAlias = tuple[str, str, int, bytes, int]
"""The first five columns: what names an imprint."""


def place(one: Imprint) -> Place:
    subject = one.subject
    return (
        subject.environment,
        subject.service,
        one.revision,
        bytes.fromhex(one.entry),
        one.format,
    )


def pack(one: Imprint, outline: bytes) -> Row:
    """The row, in the order of `COLUMNS`, with this outline."""
    packed = zlib.compress(outline, 1) if outline else b""
    facts = (*place(one), bytes.fromhex(one.digest), one.build, packed)
    return (*facts, _checksum(*facts))


def unpack(row: Row) -> Imprint:
    """Undo `pack`; raises `Damaged` when the row is not what was put there."""
    environment, service, revision, entry, made_format, digest, build, packed, checksum = row
    if _checksum(*row[:-1]) != checksum:
        raise Damaged(f"the digest of {environment}/{service} at revision {revision} was changed")
    unpacking = zlib.decompressobj()
    outline = unpacking.decompress(packed, OUTLINE_BYTES_MAX) if packed else b""
    subject = Subject(environment, service)
    return Imprint(subject, revision, entry.hex(), digest.hex(), build, made_format, outline)


def _checksum(*facts: str | int | bytes) -> bytes:
    covered = hashlib.sha256()
    for fact in facts:
        part = fact if isinstance(fact, bytes) else str(fact).encode()
        covered.update(b"%d:%b" % (len(part), part))
    return covered.digest()
