"""Values in etcd that are checked when read, and may be larger than one request to etcd.

A record's value is a line of JSON, then the body:

    {"digest":"<SHA-256 of the body>","bytes":123,"parts":0}\\n<body>

A body above a bound lies in parts beside it, and the line alone stays: `parts/OWNER/DIGEST/00000`
and so on, for the record named `OWNER`. Parts are written first, and whoever puts the record checks
in its transaction that the first one was there all the time: parts of one body go all at once, so
what is swept away in between is noticed, even if somebody else has begun to write it anew. Parts
that no record refers to are garbage (`etcd_sweep`).

A record and its parts are read one after the other. Who misses a part looks at the record again,
and reads what was put in its place meanwhile: only what stands there still, and does not fit, is
damage.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Final

import msgspec

from holdfast.adapters.etcd_line import EtcdLine
from holdfast.adapters.etcd_wire import (
    Comparison,
    KeyValue,
    Operation,
    delete,
    get,
    never_deleted,
    past,
    put,
)
from holdfast.core.errors import Damaged, Unavailable

PART_BYTES: Final = 1024 * 1024
"""etcd takes requests of 1.5 MiB, unless it was told otherwise."""
PARTS: Final = "parts/"
_PART_PAGE: Final = 8
READS_MAX: Final = 8
"""Each but the last met a record that was replaced while it was read."""
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


class Gone(Damaged):
    """A record whose parts are not there any more: it was deleted while it was read."""


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
        pieces = [body[start : start + PART_BYTES] for start in range(0, len(body), PART_BYTES)]
        written = [
            self._put_part(self._part(name, digest, number), piece)
            for number, piece in enumerate(pieces)
        ]
        value = _encoded(Label(digest, len(body), len(pieces)))
        return Packed(put(key, value), len(value), (never_deleted(written[0]),))

    def unpack(self, found: KeyValue) -> bytes:
        """The body of a record, or of what was put in its place while it was read.

        Raises `Damaged` when it is not what was put there, `Gone` when it was deleted meanwhile.
        """
        name = self._line.name(found.key)
        for _ in range(READS_MAX):
            label = self.label(found)
            body = self._parts(name, label) if label.parts else found.value.partition(b"\n")[2]
            if hashlib.sha256(body).hexdigest() == label.digest:
                return body
            stands, _ = self._line.get(name)
            if stands is None:
                raise Gone(f"{self._line.where}: {name} was deleted while it was read")
            if stands.mod_revision == found.mod_revision:
                raise self.damaged(f"{name} is not what was put there")
            found = stands
        what = f"{name} is replaced as fast as it is read"
        raise Unavailable(f"{self._line.where}: {what}: try again")

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

    def _put_part(self, key: bytes, piece: bytes) -> KeyValue:
        """It, as it stands once it is written, without its value."""
        _, (stands,) = self._line.change((), (put(key, piece), get(key, keys_only=True))).found
        return stands

    def _parts(self, name: str, label: Label) -> bytes:
        start = self._line.key(f"{PARTS}{name}/{label.digest}/")
        pieces = self._line.between(start, past(start), page=_PART_PAGE)
        return b"".join(piece.value for piece in pieces)

    def _part(self, name: str, digest: str, number: int) -> bytes:
        return self._line.key(f"{PARTS}{name}/{digest}/{number:05d}")


def _encoded(label: Label) -> bytes:
    return msgspec.json.encode(label) + b"\n"
