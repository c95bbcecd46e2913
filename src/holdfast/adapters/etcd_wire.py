"""What etcd's JSON gateway takes and gives (`/v3/…`, as in etcd's `rpc.proto`).

Integers of 64 bits are strings there, bytes are base64, and fields that are zero are left out:
decoders are lenient in that, and each field has a default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias, TypeVar

import msgspec

Operation: TypeAlias = Mapping[str, Any]
"""One request within a transaction, as the gateway takes it."""
Comparison: TypeAlias = Mapping[str, Any]
OPERATIONS_MAX: Final = 128
"""In one transaction, and as many comparisons: etcd's own bound, where it was not changed."""


class Header(msgspec.Struct, frozen=True):
    revision: int = 0
    member_id: int = 0


class KeyValue(msgspec.Struct, frozen=True):
    key: bytes = b""
    value: bytes = b""
    create_revision: int = 0
    mod_revision: int = 0
    lease: int = 0


class Range(msgspec.Struct, frozen=True):
    header: Header = Header()
    kvs: tuple[KeyValue, ...] = ()
    more: bool = False


class _Response(msgspec.Struct, frozen=True):
    response_range: Range = Range()


class Transaction(msgspec.Struct, frozen=True):
    """`found`: what each range in the branch that ran came to, empty for other operations."""

    header: Header = Header()
    succeeded: bool = False
    responses: tuple[_Response, ...] = ()

    @property
    def found(self) -> list[tuple[KeyValue, ...]]:
        return [each.response_range.kvs for each in self.responses]


class Refusal(msgspec.Struct, frozen=True):
    """`code` is gRPC's."""

    error: str = ""
    code: int = 0


class Event(msgspec.Struct, frozen=True):
    type: str = "PUT"


class WatchResult(msgspec.Struct, frozen=True):
    """`canceled`: by the server, for instance since the revision asked for was compacted."""

    canceled: bool = False
    events: tuple[Event, ...] = ()


class Watched(msgspec.Struct, frozen=True):
    result: WatchResult = WatchResult()


class Token(msgspec.Struct, frozen=True):
    token: str = ""


class Granted(msgspec.Struct, frozen=True, rename={"id": "ID", "ttl_s": "TTL"}):
    id: int = 0
    ttl_s: int = 0


class KeptAlive(msgspec.Struct, frozen=True):
    """Of a lease that is gone the `ttl_s` is 0."""

    result: Granted = Granted()


class Status(msgspec.Struct, frozen=True, rename="camel"):
    """Of one member. `leader`: the id of who leads, as it sees it; 0 for nobody."""

    header: Header = Header()
    version: str = ""
    db_size: int = 0
    db_size_in_use: int = 0
    leader: int = 0
    raft_term: int = 0
    errors: tuple[str, ...] = ()


class Member(msgspec.Struct, frozen=True, rename={"id": "ID", "client_urls": "clientURLs"}):
    name: str = ""
    id: int = 0
    client_urls: tuple[str, ...] = ()


class Members(msgspec.Struct, frozen=True):
    members: tuple[Member, ...] = ()


class Alarm(msgspec.Struct, frozen=True, rename={"member_id": "memberID"}):
    member_id: int = 0
    alarm: Literal["NONE", "NOSPACE", "CORRUPT"] = "NONE"


class Alarms(msgspec.Struct, frozen=True):
    alarms: tuple[Alarm, ...] = ()


class Nothing(msgspec.Struct, frozen=True):
    """An answer of which nothing matters but that it came."""


_Answer = TypeVar("_Answer")
_DECODERS: Final[Mapping[type, msgspec.json.Decoder[Any]]] = {
    kind: msgspec.json.Decoder(kind, strict=False)
    for kind in (
        *(Alarms, Granted, KeptAlive, Members, Nothing, Range),
        *(Refusal, Status, Token, Transaction, Watched),
    )
}
"""Made here, and not where an answer comes: see `decoder_of`."""


def decoder_of(kind: type[_Answer]) -> msgspec.json.Decoder[_Answer]:
    """The lenient decoder of an answer.

    msgspec makes what it knows of a type when it is first asked for it, and is not safe against two
    threads that ask first at the same time: the process dies (0.22.0).
    """
    return _DECODERS[kind]


def get(key: bytes, end: bytes = b"", *, keys_only: bool = False) -> Operation:
    """One key, or the first one from `key` up to but not including `end`."""
    return {"request_range": {"key": key, "range_end": end, "limit": "1", "keys_only": keys_only}}


def put(key: bytes, value: bytes, lease: int = 0) -> Operation:
    """`lease`: the key goes when that lease runs out."""
    return {"request_put": {"key": key, "value": value, "lease": str(lease)}}


def delete(key: bytes, end: bytes = b"") -> Operation:
    """One key, or all from `key` up to but not including `end`."""
    return {"request_delete_range": {"key": key, "range_end": end}}


def holds(key: bytes, value: bytes) -> Comparison:
    return {"key": key, "target": "VALUE", "result": "EQUAL", "value": value}


def absent(key: bytes) -> Comparison:
    return {"key": key, "target": "VERSION", "result": "EQUAL", "version": "0"}


def never_deleted(found: KeyValue) -> Comparison:
    """It is there, and was all the time since it was found so; it may have been put again."""
    revision = str(found.create_revision)
    return {"key": found.key, "target": "CREATE", "result": "EQUAL", "create_revision": revision}


def unchanged(key: bytes, mod_revision: int) -> Comparison:
    """`mod_revision` as it was read; 0 for a key that was not there."""
    return {"key": key, "target": "MOD", "result": "EQUAL", "mod_revision": str(mod_revision)}


def past(key: bytes) -> bytes:
    """Just past all keys that begin so."""
    return key[:-1] + bytes([key[-1] + 1])


def first(found: Sequence[KeyValue]) -> KeyValue | None:
    return found[0] if found else None
