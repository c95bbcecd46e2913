"""How a cluster is: every member asked by itself, and the cluster as a whole by one read."""

from __future__ import annotations

import time
from collections.abc import Mapping

import msgspec

from holdfast.adapters.etcd_endpoint import Endpoint
from holdfast.adapters.etcd_line import EtcdLine
from holdfast.adapters.etcd_wire import Member, Members, Status
from holdfast.core.errors import Unavailable
from holdfast.core.model import JSON


class _Asked(msgspec.Struct, frozen=True):
    """A member, where it was asked, and what it said; none when it did not answer."""

    member: Member
    url: str
    status: Status | None


def status_of(line: EtcdLine) -> Mapping[str, JSON]:
    """See `ports.Stores.status`; `errors` are in etcd's words, alarms for instance.

    Raises `Unavailable` when no member answers.
    """
    asked = _ask_all(line)
    said = [each.status for each in asked if each.status is not None]
    if not said:
        raise Unavailable(f"{line.where}: no member answers. Look at them, and at the network")
    newest = max(said, key=lambda status: status.raft_term)
    leader = next((each.member.name for each in asked if each.member.id == newest.leader), "")
    round_trip_ms = _round_trip_ms(line)
    errors = sorted({error.strip() for status in said for error in status.errors})
    return {
        "engine": "etcd",
        "version": min((status.version for status in said), key=_parts),
        "healthy": round_trip_ms is not None and not errors,
        "members": [_described(each) for each in asked],
        "leader": leader,
        "bytes": max(status.db_size for status in said),
        "round_trip_ms": round_trip_ms,
        "errors": errors,
    }


def lacking(line: EtcdLine) -> str:
    """Which members answer, and which do not, where they are too few to agree; else nothing.

    Nobody can read or write then, and every call ends with its time: who answers at all has to be
    asked one by one.
    """
    try:
        asked = _ask_all(line)
    except Unavailable:
        return ""
    up = [each for each in asked if each.status is not None]
    if len(up) > len(asked) // 2:
        return ""
    gone = ", ".join(f"{each.member.name} ({each.url})" for each in asked if each.status is None)
    there = ", ".join(each.member.name for each in up)
    return f"no quorum: of {len(asked)} members {there} answers, and {gone} not: start one of these"


def member_status(line: EtcdLine, endpoint: Endpoint) -> Status:
    """What one member says of itself. Raises `Unavailable`."""
    return line.call_one(endpoint, "/v3/maintenance/status", {}, Status, line.timeout_s)


def _ask_all(line: EtcdLine) -> list[_Asked]:
    """Members by name; those that the URL does not name are asked where they say they are."""
    answers = [(endpoint, _status(line, endpoint)) for endpoint in line.endpoints]
    by_id = {status.header.member_id: (endpoint, status) for endpoint, status in answers if status}
    asked = []
    for member in line.call("/v3/cluster/member/list", {}, Members).members:
        if member.id in by_id:
            endpoint, status = by_id[member.id]
            asked.append(_Asked(member, endpoint.url, status))
            continue
        url = member.client_urls[0] if member.client_urls else ""
        named = any(endpoint.url == url for endpoint, _ in answers)
        asked.append(_Asked(member, url, None if named or not url else _elsewhere(line, url)))
    return sorted(asked, key=lambda each: each.member.name)


def _elsewhere(line: EtcdLine, url: str) -> Status | None:
    endpoint = line.other(url)
    try:
        return _status(line, endpoint)
    finally:
        endpoint.close()


def _status(line: EtcdLine, endpoint: Endpoint) -> Status | None:
    try:
        return member_status(line, endpoint)
    except Unavailable:
        return None


def _described(asked: _Asked) -> JSON:
    status = asked.status
    described = {
        "name": asked.member.name,
        "url": asked.url,
        "healthy": status is not None and status.leader != 0,
    }
    if status is None:
        return described
    return {**described, "version": status.version, "bytes": status.db_size}


def _round_trip_ms(line: EtcdLine) -> float | None:
    """Of one linearizable read; none when a quorum does not answer."""
    started_s = time.perf_counter()
    try:
        line.get("head")
    except Unavailable:
        return None
    return round((time.perf_counter() - started_s) * 1000, 2)


def _parts(version: str) -> list[int]:
    return [int(part) if part.isdecimal() else 0 for part in version.split(".")]
