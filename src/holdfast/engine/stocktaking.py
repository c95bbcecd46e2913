"""What stands in a store, how it is, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import msgspec

from holdfast.core.errors import HoldfastError
from holdfast.core.model import JSON, Head
from holdfast.ports import Lease, Stores

T = TypeVar("T")
_USUAL = frozenset({"engine", "version", "healthy", "members", "leader", "bytes", "round_trip_ms"})


class Member(msgspec.Struct, frozen=True):
    """One server of the engine."""

    name: str
    url: str
    healthy: bool


class Stock(msgspec.Struct, frozen=True, kw_only=True):
    """A store at one moment. `bytes` is what it takes on its engine, all told.

    `checkpoint` is the revision of the newest one, 0 for none; `holder` is the node that leads.
    `round_trip_ms` is none when no quorum answers; `facts` are more that the engine tells.
    """

    store: str
    engine: str
    version: str
    members: tuple[Member, ...]
    leader: str
    round_trip_ms: float | None
    bytes: int
    revision: int
    hash: str
    checkpoint: int
    blobs: int
    blob_bytes: int
    digests: int
    proposals: int
    mark: str
    holder: str
    holder_url: str
    token: int
    facts: dict[str, JSON]
    wrong: tuple[str, ...]
    ok: bool


def take_stock(stores: Stores, name: str) -> Stock:
    """All that can be told without reading every entry. Raises `Unavailable`, `Damaged`."""
    engine = stores.status()
    members = tuple(Member(one["name"], one["url"], one["healthy"]) for one in engine["members"])
    head = stores.journal.head()
    checkpoint = stores.journal.checkpoint()
    lease = stores.leases.current() or Lease(0, "")
    wrong = [*_wrong(engine, members, stores, head)]
    blobs = _held("blobs", lambda: list(stores.blobs.all()), wrong)
    return Stock(
        store=name,
        engine=engine["engine"],
        version=engine["version"],
        members=members,
        leader=engine["leader"],
        round_trip_ms=engine["round_trip_ms"],
        bytes=engine["bytes"],
        revision=head.revision,
        hash=head.hash,
        checkpoint=checkpoint.revision if checkpoint else 0,
        blobs=len(blobs),
        blob_bytes=sum(one.bytes for one in blobs),
        digests=len(_held("digests", lambda: list(stores.digests.all()), wrong)),
        proposals=len(_held("changes that wait", lambda: list(stores.proposals.all()), wrong)),
        mark=stores.marked(),
        holder=lease.holder,
        holder_url=lease.url,
        token=lease.token,
        facts={name: value for name, value in engine.items() if name not in _USUAL},
        wrong=tuple(wrong),
        ok=not wrong,
    )


def _wrong(
    engine: Mapping[str, JSON], members: tuple[Member, ...], stores: Stores, head: Head
) -> Iterator[str]:
    if not engine["healthy"]:
        yield f"{engine['engine']} says that it is not healthy"
    for member in members:
        if not member.healthy:
            yield f"member {member.name} ({member.url}) is not healthy"
    if len(members) > 1 and not engine["leader"]:
        yield "no member leads: nothing can be written"
    if mark := stores.marked():
        yield f"it is marked, no node serves from it: {mark}"
    if head.revision:
        try:
            last = [entry.hash for entry in stores.journal.read(head.revision - 1, 1)]
        except HoldfastError as error:
            yield f"the last entry can't be read: {error}"
        else:
            if last != [head.hash]:
                yield f"the last entry is not the head's, {head.revision}"


def _held(what: str, read: Callable[[], Sequence[T]], wrong: list[str]) -> Sequence[T]:
    try:
        return read()
    except HoldfastError as error:
        wrong.append(f"{what} can't be read: {error}")
        return ()
