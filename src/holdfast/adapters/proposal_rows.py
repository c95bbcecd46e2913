"""A proposal as a row: its change beside its facts, which are one JSON text, under a checksum."""

from __future__ import annotations

import hashlib
from typing import Final, TypeAlias

import msgspec

from holdfast.core.errors import Damaged
from holdfast.ports import Proposal

COLUMNS: Final = "proposal, due_s, facts, change, checksum"
Row: TypeAlias = tuple[str, int | None, bytes, bytes, bytes]
_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder(Proposal).decode


def pack(proposal: Proposal) -> Row:
    """The row, in the order of `COLUMNS`. Equal proposals have equal rows."""
    due_s = proposal.schedule.at_s if proposal.schedule else None
    facts = _encode(msgspec.structs.replace(proposal, change=b""))
    change = proposal.change
    return (
        proposal.proposal, due_s, facts, change,
        _checksum(proposal.proposal, due_s, facts, change),
    )  # fmt: skip


def unpack(row: Row) -> Proposal:
    """Undo `pack`; raises `Damaged` when the row is not what was put there."""
    name, due_s, facts, change, checksum = row
    if _checksum(name, due_s, facts, change) != checksum:
        raise Damaged(f"proposal {name} is not what was put there")
    return msgspec.structs.replace(_decode(facts), change=change)


def _checksum(proposal: str, due_s: int | None, facts: bytes, change: bytes) -> bytes:
    parts = (proposal.encode(), str(due_s).encode(), facts, change)
    return hashlib.sha256(b"".join(b"%d\n%b" % (len(part), part) for part in parts)).digest()
