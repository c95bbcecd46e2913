"""Big segments: millions of members as a table of 64-bit fingerprints, mapped rather than read.

    header   24 bytes, little-endian: magic, format, slots, members
    checksum 16 bytes, MurmurHash3 x64-128 of the header and the slots
    slots    one fingerprint of 64 bits each, 0 where empty, little-endian

A member's fingerprint is the lower half of MurmurHash3 x64-128 of its UTF-8, 1 in place of 0. Its
home is `fingerprint * homes >> 64`, so that slots in order are fingerprints in order, with gaps:
the bytes depend on the members alone, and a look-up ends at the first gap or larger fingerprint.
Two slots a member make 16 bytes a member and a probe or two. A value that is not a member is taken
for one with a chance of about members / 2**64.
"""

from __future__ import annotations

import base64
import struct
import sys
from array import array
from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import Any, Final, TypeAlias

import mmh3

from holdfast.core.errors import Damaged

Buffer: TypeAlias = bytes | bytearray | memoryview
"""Or anything else with a buffer of bytes, as an mmap."""

MAGIC: Final = b"HFSEGMNT"
FORMAT: Final = 1
_HEADER: Final = struct.Struct("<8sIIQ")
_CHECKSUM_BYTES: Final = 16
HEADER_BYTES: Final = _HEADER.size + _CHECKSUM_BYTES
_SLOTS_PER_MEMBER: Final = 2


_PINNED: Final = base64.b64decode(
    "SEZTRUdNTlQBAAAABwAAAAMAAAAAAAAAR+pJo4+/SK5p+81A4y0OstSzrQZxiMogAAAAAAAAAABikqd6sOFObRHCrNcC"
    "DtmWAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
)
"""The table of "ada", "grace" and "größe", as format 1 has it for good."""


def finds_members() -> bool:
    """Whether this build looks members up as format 1 has them: no probe of a snapshot tells."""
    table = SegmentTable(_PINNED)
    found = [member in table for member in ("ada", "grace", "größe", "Ada", "linus", "")]
    return found == [True, True, True, False, False, False]


def build(members: Iterable[str]) -> bytes:
    """The table of these members; the same bytes whatever their order, repeated or not.

    Raises UnicodeEncodeError for a member that is not valid Unicode.
    """
    prints = sorted({_fingerprint(member) for member in members})
    slots = array("Q", _spread(prints, homes=len(prints) * _SLOTS_PER_MEMBER))
    if sys.byteorder == "big":
        slots.byteswap()
    body = slots.tobytes()
    header = _HEADER.pack(MAGIC, FORMAT, len(slots), len(prints))
    return header + _checksum(header, body) + body


def _checksum(header: Buffer, body: Buffer) -> bytes:
    hasher = mmh3.mmh3_x64_128(header)
    hasher.update(body)
    return bytes(hasher.digest())


def _fingerprint(member: str) -> int:
    return int(mmh3.mmh3_x64_128_utupledigest(member.encode())[0]) or 1


def _spread(prints: list[int], homes: int) -> Iterator[int]:
    """Each fingerprint at its home or as soon after it as there is room, and a gap at the end."""
    at = 0
    for fingerprint in prints:
        home = fingerprint * homes >> 64
        while at < home:
            yield 0
            at += 1
        yield fingerprint
        at += 1
    yield from repeat(0, max(homes - at, 0) + 1)


class SegmentTable:
    """`value in table`, for a table that `build` made. Immutable and thread-safe.

    Keeps the buffer that it is given, and copies nothing (on big-endian machines: one copy).
    Raises `Damaged` for bytes that are no such table, are cut short or were changed.
    """

    __slots__ = ("_homes", "_slots", "body_bytes", "members")

    def __init__(self, body: Buffer) -> None:
        view = memoryview(body).cast("B")
        if len(view) < HEADER_BYTES:
            raise Damaged("the segment table is cut short: fetch it again")
        header, checksum = view[: _HEADER.size], view[_HEADER.size : HEADER_BYTES]
        magic, version, slots, members = _HEADER.unpack(header)
        if magic != MAGIC or version != FORMAT:
            raise Damaged("these bytes are no segment table of format 1: fetch it again")
        content = view[HEADER_BYTES:]
        if len(content) != slots * 8 or slots <= members * _SLOTS_PER_MEMBER:
            raise Damaged("the segment table has not the size that it says: fetch it again")
        if _checksum(header, content) != checksum:
            raise Damaged("the segment table is not what was written: fetch it again")
        self._slots = content.cast("Q") if sys.byteorder == "little" else _swapped(content)
        if self._slots[-1]:
            raise Damaged("the segment table has no gap at its end: fetch it again")
        self._homes = members * _SLOTS_PER_MEMBER
        self.members: int = members
        self.body_bytes: int = len(view)

    def __contains__(self, value: Any, hash64: Any = mmh3.mmh3_x64_128_utupledigest) -> bool:
        """False for whatever is not a text."""
        try:
            wanted: int = hash64(value.encode())[0] or 1
        except (AttributeError, UnicodeEncodeError):
            return False
        slots = self._slots
        found: int
        at = wanted * self._homes >> 64
        while (found := slots[at]) < wanted and found:
            at += 1
        return found == wanted

    def __len__(self) -> int:
        return self.members

    def __repr__(self) -> str:
        return f"SegmentTable(members={self.members})"


def _swapped(content: memoryview) -> array[int]:
    slots = array("Q", content.tobytes())
    slots.byteswap()
    return slots
