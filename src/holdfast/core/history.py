"""What the journal's entries mean: seal and check the hash chain, fold, diff, revert, restore.

seal(head, at_ms, actor, reason, edits) -> Entry     the next entry, hashed
verify_link(head, entry)                             or Damaged
fold(state, entry) -> State                          `core.fold`; `core.state` has the nouns
diff(old, new) -> tuple[Difference, ...]             `core.difference`
revert(before, after, head) -> Reverted              `core.revert`, and restore
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Annotated

import msgspec

from holdfast.core.difference import Difference, diff
from holdfast.core.errors import Damaged
from holdfast.core.fold import fold, fold_all
from holdfast.core.model import Edit, Entry, Head
from holdfast.core.revert import Undo, restore, revert
from holdfast.core.state import EMPTY, State, closure
from holdfast.core.wire import UNREADABLE, canonical

__all__ = [
    "CHECKPOINT_FORMAT",
    "EMPTY",
    "Difference",
    "Link",
    "State",
    "Undo",
    "closure",
    "decode_entry",
    "decode_link",
    "decode_state",
    "diff",
    "encode_entry",
    "encode_state",
    "fold",
    "fold_all",
    "restore",
    "revert",
    "seal",
    "verify_link",
]

CHECKPOINT_FORMAT = "holdfast.state.v1"
ATTEMPT = r"\A([0-9a-f]{64})?\Z"
"""`Entry.attempt`."""


class _Sealed(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """An entry's fields but its hash: what the hash covers."""

    revision: int
    at_ms: int
    actor: str
    reason: str
    edits: tuple[Edit, ...]
    previous: str
    published: dict[str, str] = {}
    attempt: Annotated[str, msgspec.Meta(pattern=ATTEMPT)] = ""


class Link(msgspec.Struct, frozen=True):
    """An entry's own revision, and the hash of the one before."""

    revision: int
    previous: str


class _Checkpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    state: State


_encoder = msgspec.json.Encoder(order="deterministic")
_sealed = msgspec.json.Decoder(_Sealed)
_link = msgspec.json.Decoder(Link)
_checkpoint = msgspec.json.Decoder(_Checkpoint)


def seal(  # noqa: PLR0913, PLR0917 - an entry's fields
    head: Head,
    at_ms: int,
    actor: str,
    reason: str,
    edits: Iterable[Edit],
    published: Mapping[str, str] | None = None,
    attempt: str = "",
) -> Entry:
    """The entry that follows `head`, with its hash.

    `published` is what the standing before it has to record (`core.lineage.unrecorded`), `attempt`
    what a repeat of its request is known by.

    What comes back went through its canonical bytes, so that what is folded now equals what is
    read from the journal later (1.0 is 1 in both). Raises `Invalid` for values without such bytes.
    """
    body = encode_entry(
        Entry(
            revision=head.revision + 1,
            at_ms=at_ms,
            actor=actor,
            reason=reason,
            edits=tuple(edits),
            previous=head.hash,
            hash="",
            published=dict(published or {}),
            attempt=attempt,
        )
    )
    return decode_entry(body, hashlib.sha256(body).hexdigest())


def encode_entry(entry: Entry) -> bytes:
    """The canonical bytes of all fields but the hash."""
    return canonical(
        _Sealed(
            revision=entry.revision,
            at_ms=entry.at_ms,
            actor=entry.actor,
            reason=entry.reason,
            edits=entry.edits,
            previous=entry.previous,
            published=entry.published,
            attempt=entry.attempt,
        )
    )


def decode_entry(body: bytes, digest: str) -> Entry:
    """The entry of canonical bytes and their hash; raises `Damaged` unless they belong together."""
    if hashlib.sha256(body).hexdigest() != digest:
        raise Damaged("an entry's bytes do not match its hash")
    try:
        sealed = _sealed.decode(body)
    except UNREADABLE as error:
        raise Damaged(f"an entry is not of a shape that this version knows: {error}") from error
    return Entry(
        revision=sealed.revision,
        at_ms=sealed.at_ms,
        actor=sealed.actor,
        reason=sealed.reason,
        edits=sealed.edits,
        previous=sealed.previous,
        hash=digest,
        published=sealed.published,
        attempt=sealed.attempt,
    )


def decode_link(body: bytes, digest: str) -> Link:
    """Only the place in the chain of an entry's canonical bytes, a tenth of the cost of it all.

    Raises `Damaged` like `decode_entry`; the rest of the bytes is as it was hashed.
    """
    if hashlib.sha256(body).hexdigest() != digest:
        raise Damaged("an entry's bytes do not match its hash")
    try:
        return _link.decode(body)
    except UNREADABLE as error:
        raise Damaged(f"an entry is not of a shape that this version knows: {error}") from error


def verify_link(previous: Head, entry: Entry) -> None:
    """Raise `Damaged` unless `entry` is the one after `previous` and its hash is its own."""
    if entry.revision != previous.revision + 1:
        raise Damaged(f"entry {entry.revision} stands after entry {previous.revision}")
    if entry.previous != previous.hash:
        raise Damaged(f"entry {entry.revision} does not continue entry {previous.revision}")
    if hashlib.sha256(encode_entry(entry)).hexdigest() != entry.hash:
        raise Damaged(f"entry {entry.revision} does not match its hash")


def encode_state(state: State) -> bytes:
    """A state as checkpoint bytes, its format named in them; equal states give equal bytes."""
    return _encoder.encode(_Checkpoint(CHECKPOINT_FORMAT, state))


def decode_state(body: bytes) -> State:
    """Undo `encode_state`; raises `Damaged` for bytes of another format or shape."""
    try:
        checkpoint = _checkpoint.decode(body)
    except UNREADABLE as error:
        raise Damaged(f"not a checkpoint that this version knows: {error}") from error
    if checkpoint.format != CHECKPOINT_FORMAT:
        raise Damaged(f"a checkpoint of format {checkpoint.format!r}, not {CHECKPOINT_FORMAT!r}")
    return checkpoint.state
