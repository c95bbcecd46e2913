"""Values in etcd that are checked when read, and may be larger than one request to etcd.

A record's value is a line of JSON, then the body:

    {"digest":"<SHA-256 of the body>","bytes":123,"parts":0}\\n<body>

A body above a bound lies in parts beside it, and the line alone stays: `parts/OWNER/DIGEST/00000`
and so on, for the record named `OWNER`. Parts are written first, and whoever puts the record checks
in its transaction that they are there: what is swept away in between is noticed. Parts that no
record refers to are garbage (`etcd_sweep`).
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Final

import msgspec

from holdfast.adapters.etcd_line import EtcdLine
from holdfast.adapters.etcd_wire import Comparison, KeyValue, Operation, delete, past, present, put
from holdfast.core.errors import Damaged

PART_BYTES: Final = 1024 * 1024
"""etcd takes requests of 1.5 MiB, unless it was told otherwise."""
PARTS: Final = "parts/"
_PART_PAGE: Final = 8
RESTORE: Final = (
    "Nothing of it is served. Stop all nodes, keep a snapshot of etcd for a look (etcdctl snapshot"
    " save), and restore the newest backup (holdfast store restore)"
)


class Label(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The first line of a record."""

    digest: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    bytes: Annotated[int, msgspec.Meta(ge=0)]
    parts: Annotated[int, msgspec.Meta(ge=0)] = 0


class Packed(msgspec.Struct, frozen=True):
    """What to put under a name, and what must hold in the transaction that puts it."""

    write: Operation
    bytes: int
    guards: tuple[Comparison, ...] = ()


_label: Final = msgspec.json.Decoder(Label)


class EtcdRecords:
    """Records whose bodies up to `inline_bytes_max` stand with them. Thread-safe."""

    def __init__(self, line: EtcdLine, inline_bytes_max: int = PART_BYTES) -> None:
        self._line = line
        self._inline_bytes_max = inline_bytes_max

    def pack(self, name: str, body: bytes) -> Packed:
        """Write the parts of a large body, durably. Raises `Unavailable`."""
        digest = hashlib.sha256(body).hexdigest()
        key = self._line.key(name)
        if len(body) <= self._inline_bytes_max:
            value = _encoded(Label(digest, len(body))) + body
            return Packed(put(key, value), len(value))
        count = -(-len(body) // PART_BYTES)
        for number in range(count):
            piece = body[number * PART_BYTES : (number + 1) * PART_BYTES]
            self._line.change((), (put(self._part(name, digest, number), piece),))
        value = _encoded(Label(digest, len(body), count))
        return Packed(put(key, value), len(value), (present(self._part(name, digest, 0)),))

    def unpack(self, found: KeyValue) -> bytes:
        """The body of a record. Raises `Damaged` when it is not what was put there."""
        name = self._line.name(found.key)
        label = self.label(found)
        body = self._parts(name, label) if label.parts else found.value.partition(b"\n")[2]
        if hashlib.sha256(body).hexdigest() != label.digest:
            raise self.damaged(f"{name} is not what was put there")
        return body

    def label(self, found: KeyValue) -> Label:
        """A record's first line. Raises `Damaged` for one that nobody wrote."""
        try:
            return _label.decode(found.value.partition(b"\n")[0])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise self.damaged(f"{self._line.name(found.key)} is no record") from None

    def remove(self, name: str) -> tuple[Operation, Operation]:
        """Delete a record and all parts that were ever written for it."""
        parts = self._line.key(f"{PARTS}{name}/")
        return delete(self._line.key(name)), delete(parts, past(parts))

    def remove_parts(self, name: str, digest: str) -> Operation:
        """Delete the parts of one body of a record."""
        parts = self._line.key(f"{PARTS}{name}/{digest}/")
        return delete(parts, past(parts))

    def damaged(self, what: str, way_out: str = RESTORE) -> Damaged:
        return Damaged(f"{self._line.where}: {what}. {way_out}")

    def _parts(self, name: str, label: Label) -> bytes:
        start = self._line.key(f"{PARTS}{name}/{label.digest}/")
        pieces = self._line.between(start, past(start), page=_PART_PAGE)
        return b"".join(piece.value for piece in pieces)

    def _part(self, name: str, digest: str, number: int) -> bytes:
        return self._line.key(f"{PARTS}{name}/{digest}/{number:05d}")


def _encoded(label: Label) -> bytes:
    return msgspec.json.encode(label) + b"\n"
