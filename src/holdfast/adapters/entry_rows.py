"""Entries as rows of a durable journal: canonical bytes under their hash, and the chain they make.

What is read is checked: each row's bytes against its hash, each entry against the one before, the
last one against the head. So damage is refused, whether it changes, drops or cuts off entries.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Protocol, TypeAlias

from holdfast.core.errors import Damaged
from holdfast.core.history import Link, decode_entry, decode_link, encode_entry
from holdfast.core.model import GENESIS, Entry, Head

BATCH: Final = 256
"""Rows read or written at once."""
Row: TypeAlias = tuple[int, bytes, bytes]
"""revision, hash, canonical bytes"""


class Rows(Protocol):
    """Where the rows lie."""

    def head(self) -> Head: ...

    def rows(self, after: int, limit: int) -> Sequence[Row]:
        """Those above `after`, in order: at most `limit`, and at least one if there is any."""

    def damaged(self, what: str) -> Damaged:
        """The error for content that is not what was written, with the way out."""


def sealed(entry: Entry) -> Row:
    """The row of an entry; raises `Damaged` unless its hash is its own."""
    body, digest = encode_entry(entry), bytes.fromhex(entry.hash)
    if hashlib.sha256(body).digest() != digest:
        raise Damaged(f"entry {entry.revision} does not match its hash: it was not sealed")
    return entry.revision, digest, body


def read(kept: Rows, after: int, limit: int | None) -> Iterator[Entry]:
    """`Journal.read` over the rows that are kept somewhere."""
    there = kept.head().revision - after
    left = there if limit is None else min(limit, there)
    previous = _link(kept, after) if left > 0 else GENESIS
    while left > 0:
        rows = kept.rows(previous.revision, min(left, BATCH))
        for row in rows:
            entry = _decode(kept, row)
            if entry.revision != previous.revision + 1 or entry.previous != previous.hash:
                what = f"entry {entry.revision} does not continue entry {previous.revision}"
                raise kept.damaged(what)
            previous = Head(entry.revision, entry.hash)
            yield entry
        left -= len(rows)
        if not rows:
            _check_is_head(kept, previous)
            return


def places(kept: Rows, rows: Iterable[Row]) -> Iterator[Head]:
    """The chain's place after each row, every link checked; about 3 us an entry."""
    last = GENESIS
    for revision, digest, body in rows:
        try:
            link = decode_link(body, digest.hex())
        except Damaged as error:
            raise kept.damaged(f"entry {revision}: {error}") from error
        if revision != link.revision or link != Link(last.revision + 1, last.hash):
            raise kept.damaged(f"entry {revision} does not continue entry {last.revision}")
        last = Head(revision, digest.hex())
        yield last


def _link(kept: Rows, revision: int) -> Head:
    """The chain's place at `revision`, from the entry's own row; revision 0 has none."""
    if revision <= 0:
        return GENESIS
    for row in kept.rows(revision - 1, 1):
        entry = _decode(kept, row)
        if entry.revision == revision:
            return Head(revision, entry.hash)
    raise kept.damaged(f"entry {revision} is missing")


def _decode(kept: Rows, row: Row) -> Entry:
    revision, digest, body = row
    try:
        entry = decode_entry(body, digest.hex())
    except Damaged as error:
        raise kept.damaged(f"entry {revision}: {error}") from error
    if entry.revision != revision:
        raise kept.damaged(f"entry {entry.revision} stands in the place of {revision}")
    return entry


def _check_is_head(kept: Rows, last: Head) -> None:
    """Entries ended: the last one must be the head, or further entries came just now."""
    head = kept.head()
    if head != last and not kept.rows(last.revision, 1):
        raise kept.damaged(f"entries after {last.revision} up to {head.revision} are missing")
