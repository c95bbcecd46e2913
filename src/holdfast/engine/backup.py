"""One file with all that stands in a store at one revision, verifiable by itself.

    holdfast backup 1\\n
    frame*      kind (1 byte) | bytes (8, big-endian) | SHA-256 of kind and body (32) | body
    H           header: JSON (`Header`), the first frame
    E           entries: their canonical bytes, as a MessagePack list, compressed by zlib
    B           one blob: its digest (32), then its bytes, compressed by zlib
    D, P        imprints, proposals: a MessagePack list each, compressed by zlib
    C           the checkpoint: MessagePack, compressed by zlib; may be missing
    Z           trailer: JSON (`Trailer`), the last frame; nothing may follow

Every byte of a frame is under its digest, the trailer holds the digest of all frames' digests and
says how many there are of each kind, and the entries are a hash chain from the first one to the
head that the header names: what was flipped, cut off, left out or put in is found. What a reader
takes at once has a bound.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Collection, Iterator, Sequence
from typing import BinaryIO, Final, TypeVar

import msgspec

from holdfast.core.errors import Damaged, Unavailable
from holdfast.core.history import decode_entry, encode_entry, verify_link
from holdfast.core.limits import SEGMENT_BYTES_MAX
from holdfast.core.model import GENESIS, Entry, Head
from holdfast.engine.members import blobs_of
from holdfast.engine.moving import Content, Tell
from holdfast.ports import Checkpoint, Imprint, Proposal

MAGIC: Final = b"holdfast backup 1\n"
_NEWER: Final = re.compile(rb"holdfast backup [1-9][0-9]{0,8}\n")
_BATCH: Final = 128
_BATCH_BYTES: Final = 4 * 1024 * 1024
_HEAD_BYTES: Final = 41
_BODY_BYTES_MAX: Final = 1024 * 1024 * 1024
"""One frame, compressed or not: the changes that wait are the largest."""
_BLOB_BYTES_MAX: Final = SEGMENT_BYTES_MAX + 32
_KINDS: Final = b"HEBDPCZ"

T = TypeVar("T")


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a backup is of: `at_ms` is when it was begun, `source` has no password."""

    revision: int
    hash: str
    at_ms: int
    source: str
    build: str


class Trailer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was written before: counts, and the digest of all frames' digests."""

    entries: int
    blobs: int
    digests: int
    proposals: int
    sha256: str


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """A backup that was read from the first byte to the last, and holds."""

    revision: int
    hash: str
    at_ms: int
    source: str
    build: str
    entries: int
    blobs: int
    digests: int
    proposals: int
    bytes: int
    sha256: str
    missing: tuple[str, ...] = ()
    """Blobs that entries name and that were not in the store either."""


def write(content: Content, file: BinaryIO, header: Header, tell: Tell) -> None:
    """Write all of `content` up to the revision of `header`, which is its head by then.

    Raises `Unavailable` for a content without entries: a store that was named wrongly looks so.
    """
    if not header.revision:
        raise Unavailable(f"{content.name} holds no entry: is it the one that is meant?")
    out = _Writer(file)
    out.frame(b"H", msgspec.json.encode(header))
    entries = _write_entries(content, out, header, tell)
    proposals = list(content.proposals())  # before blobs: those that they name are there by then
    blobs = 0
    for digest, body in content.blobs(frozenset()):
        out.frame(b"B", bytes.fromhex(digest) + zlib.compress(body, 1))
        blobs += 1
        tell("blobs", blobs, 0)
    digests = [one for one in content.digests() if one.revision <= header.revision]
    out.packed(b"D", digests)
    out.packed(b"P", proposals)
    checkpoint = content.checkpoint()
    if checkpoint is not None and checkpoint.revision <= header.revision:
        out.packed(b"C", checkpoint)
    counts = (entries, blobs, len(digests), len(proposals))
    out.frame(b"Z", msgspec.json.encode(Trailer(*counts, out.sha256)))


def verify(file: BinaryIO, tell: Tell) -> Contents:
    """Read all of it; what it holds. Raises `Damaged`, with the place.

    Raises `Unavailable` for a backup of a newer version, which this build can't read.
    """
    seen = dict.fromkeys("EBDP", 0)
    last, covered, trailer = GENESIS, hashlib.sha256(), None
    named: set[str] = set()
    there: set[str] = set()
    reading = _Reader(file)
    header = reading.header()
    for kind, digest, body in reading.frames():
        if trailer is not None:
            raise Damaged(f"{reading.where}: something follows the end of the backup")
        if kind == b"Z":
            trailer = _json(body, Trailer, reading)
            continue
        covered.update(digest)
        if kind == b"E":
            for entry in _entries(body, reading):
                verify_link(last, entry)
                last = Head(entry.revision, entry.hash)
                named.update(blobs_of(entry.edits))
            seen["E"] = last.revision
            tell("entries read", last.revision, header.revision)
        elif kind == b"B":
            there.add(_blob(body, reading)[0])
            seen["B"] += 1
        elif kind == b"D":
            seen["D"] += len(_packed(body, list[Imprint], reading))
        elif kind == b"P":
            seen["P"] += len(_packed(body, list[Proposal], reading))
    if trailer is None:
        raise Damaged(f"{reading.where}: the backup ends before its end: it was cut off")
    counts = Trailer(seen["E"], seen["B"], seen["D"], seen["P"], covered.hexdigest())
    if counts != trailer:
        raise Damaged(f"the backup holds {counts}, and says that it holds {trailer}")
    if last != Head(header.revision, header.hash):
        raise Damaged(f"its last entry is {last.revision}, its header says {header.revision}")
    facts = msgspec.structs.asdict(header) | msgspec.structs.asdict(trailer)
    return Contents(**facts, bytes=reading.offset, missing=tuple(sorted(named - there)))


class BackupContent:
    """A backup as something to be moved into a store. It was verified before."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.name = name
        self._file = file
        header = _Reader(file).header()
        self._head = Head(header.revision, header.hash)

    def head(self) -> Head:
        return self._head

    def entries(self, after: int, upto: int) -> Iterator[Entry]:
        for body, reading in self._bodies(b"E"):
            for entry in _entries(body, reading):
                if after < entry.revision <= upto:
                    yield entry

    def blobs(self, have: Collection[str]) -> Iterator[tuple[str, bytes]]:
        for body, reading in self._bodies(b"B"):
            if body[:32].hex() not in have:
                yield _blob(body, reading)

    def digests(self) -> Sequence[Imprint]:
        for body, reading in self._bodies(b"D"):
            return _packed(body, list[Imprint], reading)
        return ()

    def proposals(self) -> Sequence[Proposal]:
        for body, reading in self._bodies(b"P"):
            return _packed(body, list[Proposal], reading)
        return ()

    def checkpoint(self) -> Checkpoint | None:
        for body, reading in self._bodies(b"C"):
            return _packed(body, Checkpoint, reading)
        return None

    def marked(self) -> str:
        """It was written and is no more."""
        return ""

    def freeze(self, text: str, was: str) -> bool:  # noqa: ARG002  # every content has them
        """It never grows."""
        return True

    def _bodies(self, wanted: bytes) -> Iterator[tuple[bytes, _Reader]]:
        reading = _Reader(self._file)
        for kind, _, body in reading.frames(wanted):
            if kind == wanted:
                yield body, reading


class _Writer:
    """Frames onto a file. `sha256` covers the digests of all that were written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._covered = hashlib.sha256()
        file.write(MAGIC)

    @property
    def sha256(self) -> str:
        return self._covered.hexdigest()

    def frame(self, kind: bytes, body: bytes) -> None:
        digest = hashlib.sha256(kind + body).digest()
        self._covered.update(digest)
        self._file.write(kind + len(body).to_bytes(8) + digest)
        self._file.write(body)

    def packed(self, kind: bytes, value: object) -> None:
        self.frame(kind, zlib.compress(msgspec.msgpack.encode(value), 1))


class _Reader:
    """Frames of a file from its beginning, each against its digest. `where` is for errors."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.offset = len(MAGIC)
        file.seek(0)
        beginning = file.read(2 * len(MAGIC))
        if not beginning.startswith(MAGIC):
            if _NEWER.match(beginning):
                raise Unavailable("a newer Holdfast made this backup: restore it with that one")
            raise Damaged("the file is no backup of a Holdfast store, or its beginning was changed")

    @property
    def where(self) -> str:
        return f"at byte {self.offset}"

    def header(self) -> Header:
        """That of the file; the next `frames` begin at it again."""
        for kind, _, body in self.frames():
            if kind != b"H":
                break
            return _json(body, Header, self)
        raise Damaged("the backup does not begin with a header")

    def frames(self, wanted: bytes = _KINDS) -> Iterator[tuple[bytes, bytes, bytes]]:
        """Kind, digest and body of each; bodies of kinds that are not `wanted` are passed over."""
        self.offset = len(MAGIC)
        while True:
            self._file.seek(self.offset)
            head = self._file.read(_HEAD_BYTES)
            if not head:
                return
            kind, size, digest = head[:1], int.from_bytes(head[1:9]), head[9:]
            if len(head) < _HEAD_BYTES or kind not in _KINDS or size > _BODY_BYTES_MAX:
                raise Damaged(f"{self.where}: no frame of a backup begins here")
            if kind in wanted:
                body = self._file.read(size)
                if len(body) != size or hashlib.sha256(kind + body).digest() != digest:
                    raise Damaged(f"{self.where}: a frame {kind.decode()} is not what was written")
                yield kind, digest, body
            self.offset += _HEAD_BYTES + size


def _write_entries(content: Content, out: _Writer, header: Header, tell: Tell) -> int:
    last, waiting, size = GENESIS, [], 0
    for entry in content.entries(0, header.revision):
        verify_link(last, entry)
        last = Head(entry.revision, entry.hash)
        waiting.append(encode_entry(entry))
        size += len(waiting[-1])
        if len(waiting) == _BATCH or size > _BATCH_BYTES:
            out.packed(b"E", waiting)
            waiting, size = [], 0
            tell("entries", last.revision, header.revision)
    out.packed(b"E", waiting)
    if last != Head(header.revision, header.hash):
        raise Damaged(f"the journal ends at {last.revision}, its head was {header.revision}")
    tell("entries", last.revision, header.revision)
    return last.revision


def _entries(body: bytes, reading: _Reader) -> Iterator[Entry]:
    for one in _packed(body, list[bytes], reading):
        yield decode_entry(one, hashlib.sha256(one).hexdigest())


def _blob(body: bytes, reading: _Reader) -> tuple[str, bytes]:
    digest, blob = body[:32].hex(), _unpacked(body[32:], _BLOB_BYTES_MAX, reading)
    if hashlib.sha256(blob).hexdigest() != digest:
        raise Damaged(f"{reading.where}: a blob is not what its digest says")
    return digest, blob


def _packed(body: bytes, kind: type[T], reading: _Reader) -> T:
    try:
        return msgspec.msgpack.decode(_unpacked(body, _BODY_BYTES_MAX, reading), type=kind)
    except msgspec.MsgspecError as error:
        raise Damaged(f"{reading.where}: {error}") from None


def _unpacked(body: bytes, bytes_max: int, reading: _Reader) -> bytes:
    unpacking = zlib.decompressobj()
    try:
        whole = unpacking.decompress(body, bytes_max)
    except zlib.error as error:
        raise Damaged(f"{reading.where}: {error}") from None
    if not unpacking.eof:
        raise Damaged(f"{reading.where}: what is packed there is longer than it may be")
    return whole


def _json(body: bytes, kind: type[T], reading: _Reader) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise Damaged(f"{reading.where}: {error}") from None
