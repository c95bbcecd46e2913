"""From one snapshot to the next: per key what to put and what to drop, and nothing that stayed.

A delta is worth what its result is: the digest of the bytes that come out is checked, so a delta
needs no signature of its own. The sections with a member per setting are patched, all else is
carried whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from holdfast.core import limits
from holdfast.core.errors import Invalid, Untrusted
from holdfast.core.snapshot import FORMAT
from holdfast.core.wire import UNREADABLE, canonical, digest

WORTH_SHARE_MAX: Final = 0.5
"""A delta above this share of the whole is none: the whole compresses as well, and checks less."""
_PATCHED: Final = ("settings", "schemas", "removed", "segments", "probes")


class Patch(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What becomes of one map: members to put, and keys to drop."""

    put: dict[str, msgspec.Raw] = {}
    drop: tuple[str, ...] = ()


class Delta(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Turns the snapshot with the digest `base` into the one with `digest`, of `bytes` bytes.

    `rest` is the `holdfast` block without the maps in `patches`, which name a map of that block, or
    `flags` or `$evaluators` of the document.
    """

    base: str
    digest: str
    bytes: int
    patches: dict[str, Patch]
    rest: dict[str, msgspec.Raw]
    metadata: msgspec.Raw
    format: int = FORMAT


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A snapshot by its sections, none of them read."""

    flags: dict[str, msgspec.Raw]
    holdfast: dict[str, msgspec.Raw]
    metadata: msgspec.Raw
    evaluators: dict[str, msgspec.Raw] = msgspec.field(name="$evaluators")


_DELTA: Final = msgspec.json.Decoder(Delta)
_DOCUMENT: Final = msgspec.json.Decoder(_Document)
_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def make_delta(old_body: bytes, new_body: bytes) -> bytes | None:
    """The canonical bytes of a delta between two encoded snapshots; none when it isn't worth it.

    Raises `Untrusted` code `shape` for what is no snapshot.
    """
    document = _document(new_body)
    old, new = _sections(_document(old_body)), _sections(document)
    patches = {name: _patch(old[name], part) for name, part in new.items()}
    delta = canonical(
        Delta(
            base=digest(old_body),
            digest=digest(new_body),
            bytes=len(new_body),
            patches={name: patch for name, patch in patches.items() if patch.put or patch.drop},
            rest={k: raw for k, raw in document.holdfast.items() if k not in _PATCHED},
            metadata=document.metadata,
        )
    )
    return delta if len(delta) <= len(new_body) * WORTH_SHARE_MAX else None


def decode_delta(body: bytes) -> Delta:
    """Raises `Untrusted` with code `delta`, `format` or `snapshot-size` (of what it leads to)."""
    try:
        delta = _DELTA.decode(body)
    except UNREADABLE as error:
        raise Untrusted("delta", f"not a delta: {error}") from None
    if delta.format != FORMAT:
        raise Untrusted("format", f"a delta of format {delta.format}, known is {FORMAT}")
    if max(delta.bytes, len(body)) > limits.SNAPSHOT_BYTES_MAX:
        raise Untrusted("snapshot-size", f"a delta to {delta.bytes} bytes")
    return delta


def apply_delta(old_body: bytes, body: bytes) -> bytes:
    """The encoded snapshot that the delta leads to, its digest checked.

    Raises `Untrusted` with code `delta-base` (made for another snapshot than `old_body`: fetch the
    whole), `delta` (garbage, or the result has another digest), `format` or `snapshot-size`.
    """
    delta = decode_delta(body)
    if digest(old_body) != delta.base:
        raise Untrusted("delta-base", "the delta was made for another snapshot")
    sections = _sections(_document(old_body))
    if not delta.patches.keys() <= sections.keys():
        raise Untrusted("delta", "the delta patches what is no section")
    for name, patch in delta.patches.items():
        _apply(sections[name], patch)
    made = _assemble(sections, delta)
    if digest(made) != delta.digest:
        raise Untrusted("delta", "the delta leads to other bytes than it says")
    return made


def _assemble(sections: dict[str, dict[str, msgspec.Raw]], delta: Delta) -> bytes:
    document = {
        "$evaluators": sections.pop("$evaluators"),
        "flags": sections.pop("flags"),
        "holdfast": {**delta.rest, **sections},
        "metadata": delta.metadata,
    }
    try:
        return canonical(document)
    except Invalid as error:
        raise Untrusted("delta", f"the delta leads to no snapshot: {error}") from None


def _document(body: bytes) -> _Document:
    try:
        return _DOCUMENT.decode(body)
    except UNREADABLE as error:
        raise Untrusted("shape", f"no snapshot: {error}") from None


def _sections(document: _Document) -> dict[str, dict[str, msgspec.Raw]]:
    """The maps to patch, by name."""
    try:
        inner = {name: _MEMBERS.decode(document.holdfast[name]) for name in _PATCHED}
    except (KeyError, *UNREADABLE) as error:
        raise Untrusted("shape", f"no snapshot: {error}") from None
    return {"flags": document.flags, "$evaluators": document.evaluators, **inner}


def _patch(old: Mapping[str, msgspec.Raw], new: Mapping[str, msgspec.Raw]) -> Patch:
    return Patch(
        put={key: raw for key, raw in new.items() if old.get(key) != raw},
        drop=tuple(sorted(old.keys() - new.keys())),
    )


def _apply(section: dict[str, Any], patch: Patch) -> None:
    for key in patch.drop:
        section.pop(key, None)
    section.update(patch.put)
