"""Giving back space in etcd: parts that no record refers to, old revisions, free pages.

A part may just have been written for a record that is about to come: those of the newest revisions
are spared, and whoever puts a record checks that its parts are there. What is deleted is compared
with the record as it was read, in one transaction.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import groupby
from typing import Final

from holdfast.adapters.etcd_endpoint import Endpoint, Refused
from holdfast.adapters.etcd_line import EtcdLine
from holdfast.adapters.etcd_records import PARTS, EtcdRecords
from holdfast.adapters.etcd_status import member_status
from holdfast.adapters.etcd_wire import Alarms, KeyValue, Nothing, unchanged
from holdfast.core.errors import Damaged, Unavailable

MARGIN: Final = 1_000
"""So many of the newest revisions of etcd's stay: for readers, and for parts on their way."""
COMPACT_S: Final = 30.0
DEFRAGMENT_S: Final = 60.0
"""For one member, which answers nothing else meanwhile."""
_OUT_OF_RANGE: Final = 11


def give_back(line: EtcdLine, margin: int = MARGIN) -> dict[str, int]:
    """Free what can be freed, members one after the other, the leader last.

    An alarm for lack of space is taken back. Raises `Unavailable`: what was freed by then is freed.
    """
    _, revision = line.get("head")
    swept = sum(_swept(line, owner, digest, parts, revision - margin)
                for owner, digest, parts in _bodies(line))  # fmt: skip
    _forget(line, revision - margin)
    sizes = [_defragmented(line, each) for each in _leader_last(line)]
    _end_alarms(line)
    return {
        "swept_parts": swept,
        "defragmented_members": len(sizes),
        "freed_bytes": sum(max(0, before - after) for before, after in sizes),
    }


def _bodies(line: EtcdLine) -> Iterator[tuple[str, str, list[KeyValue]]]:
    """Each body that lies in parts: the name of its record, its digest, its parts."""
    found = line.under(PARTS, keys_only=True)
    for place, parts in groupby(found, lambda each: line.name(each.key).rpartition("/")[0]):
        owner, _, digest = place.removeprefix(PARTS).rpartition("/")
        yield owner, digest, list(parts)


def _swept(
    line: EtcdLine, owner: str, digest: str, parts: list[KeyValue], revision_max: int
) -> int:
    """How many of the parts were deleted."""
    if max(part.mod_revision for part in parts) > revision_max:
        return 0
    records = EtcdRecords(line)
    record, _ = line.get(owner)
    try:
        if record is not None and records.label(record).digest == digest:
            return 0
    except Damaged:  # whoever reads it says so; nothing of it is thrown away
        return 0
    same = unchanged(line.key(owner), record.mod_revision if record else 0)
    deleted = line.change((same,), (records.remove_parts(owner, digest),), twice=False)
    return len(parts) if deleted.succeeded else 0


def _forget(line: EtcdLine, revision: int) -> None:
    if revision <= 0:
        return
    question = {"revision": str(revision), "physical": True}
    try:
        line.call("/v3/kv/compaction", question, Nothing, deadline_s=time.monotonic() + COMPACT_S)
    except Refused as refused:
        if refused.grpc != _OUT_OF_RANGE:  # forgotten already, by etcd itself or another node
            raise


def _leader_last(line: EtcdLine) -> list[Endpoint]:
    """The members that answer."""
    led = []
    for endpoint in line.endpoints:
        try:
            status = member_status(line, endpoint)
        except Refused:
            raise
        except Unavailable:  # it is down: it has its turn when it is up
            continue
        led.append((status.leader == status.header.member_id, endpoint))
    return [endpoint for _, endpoint in sorted(led, key=lambda each: each[0])]


def _defragmented(line: EtcdLine, endpoint: Endpoint) -> tuple[int, int]:
    """The member's size in bytes, before and after."""
    before = member_status(line, endpoint).db_size
    line.call_one(endpoint, "/v3/maintenance/defragment", {}, Nothing, DEFRAGMENT_S)
    return before, member_status(line, endpoint).db_size


def _end_alarms(line: EtcdLine) -> None:
    for one in line.call("/v3/maintenance/alarm", {}, Alarms).alarms:
        if one.alarm == "NOSPACE":
            end = {"action": "DEACTIVATE", "memberID": str(one.member_id), "alarm": one.alarm}
            line.call("/v3/maintenance/alarm", end, Nothing)
