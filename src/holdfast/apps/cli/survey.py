"""What `holdfast status` finds out: each process asked once, nothing believed that is not said."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

import msgspec

from holdfast.apps.cli.api import Api
from holdfast.apps.cli.connection import Connection
from holdfast.apps.control.audit_schemas import AuditBody
from holdfast.apps.control.policy_schemas import BrokenGlass, BrokenGlasses
from holdfast.apps.control.schemas import HeadBody
from holdfast.apps.distribute import FRESHNESS_HEADER, Listed
from holdfast.core.errors import HoldfastError
from holdfast.core.model import Subject
from holdfast.core.snapshot import Freshness
from holdfast.core.wire import decode_envelope
from holdfast.ports import Clock

SUBJECTS_MAX = 1_000
"""Subjects whose age is asked for at each edge."""


class Process(msgspec.Struct, frozen=True):
    """One process. `revision` is the control plane's head, none for an edge.

    `behind` counts the subjects in which an edge differs from the control plane.
    """

    process: str
    url: str
    ready: bool
    state: str
    subjects: int = 0
    behind: int = 0
    revision: int | None = None


class SubjectStatus(msgspec.Struct, frozen=True):
    """One subject: its newest revision, and (revision, age in seconds) at each edge.

    The age is that of the newest signed word that this revision is the newest one.
    """

    environment: str
    service: str
    revision: int | None
    edges: tuple[tuple[int | None, float | None], ...]


class Survey(msgspec.Struct, frozen=True):
    """`control` is the first node that is ready, else the first; `nodes` are all, as given.

    `broken` are the commits of the last day that skipped what a policy asks for.

    `rewritten` says what is gone or other in the journal than it was seen: somebody tampered.
    """

    control: Process
    edges: tuple[Process, ...]
    subjects: tuple[SubjectStatus, ...]
    well: bool
    broken: tuple[BrokenGlass, ...] = ()
    rewritten: tuple[str, ...] = ()
    nodes: tuple[Process, ...] = ()


class _Facts(msgspec.Struct):
    """What of `/readyz` an operator has to know: subjects that serve what was pushed over them."""

    pushed: tuple[str, ...] = ()


def survey(api: Api, edges: Sequence[str], clock: Clock) -> Survey:
    """Ask the control plane and each edge; who does not answer is part of the result."""
    newest = _catalogue(api)
    nodes = _nodes(api, newest)
    seen: list[Mapping[Subject, tuple[int, float | None]]] = []
    processes = []
    for url in edges:
        with Api(Connection(url.rstrip("/"), api.connection.token)) as edge:
            have = _catalogue(edge)
            processes.append(_edge(edge, have, newest))
            seen.append(
                {
                    one: (listed.revision, _age_s(edge, listed, clock))
                    for one, listed in (have or {}).items()
                }
            )
    subjects = sorted({*(newest or {}), *(subject for have in seen for subject in have)})
    rows = tuple(
        SubjectStatus(
            environment=subject.environment,
            service=subject.service,
            revision=newest[subject].revision if newest and subject in newest else None,
            edges=tuple(have.get(subject, (None, None)) for have in seen),
        )
        for subject in subjects
    )
    rewritten = _rewritten(api)
    control = next((node for node in nodes if node.ready), nodes[0])
    well = all(one.ready and not one.behind for one in (*nodes, *processes)) and not rewritten
    return Survey(control, tuple(processes), rows, well, _broken(api), rewritten, nodes)


def _rewritten(api: Api) -> tuple[str, ...]:
    try:
        found = api.call(AuditBody, "GET", "/v1/audit").findings
    except HoldfastError:
        return ()  # that it does not answer stands in its line
    return tuple(one.message for one in found)


def _broken(api: Api) -> tuple[BrokenGlass, ...]:
    try:
        return api.call(BrokenGlasses, "GET", "/v1/break-glass").broken
    except HoldfastError:
        return ()


def _nodes(api: Api, newest: Mapping[Subject, Listed] | None) -> tuple[Process, ...]:
    """All nodes; those that had less than another one are asked again, for as much."""
    asked = [_node(api, url, newest) for url in api.connection.servers]
    return tuple(
        one if one.revision in (None, api.revision) else _node(api, one.url, newest)
        for one in asked
    )


def _node(api: Api, url: str, newest: Mapping[Subject, Listed] | None) -> Process:
    """One node of the control plane; one that has not what another has is not ready."""
    revision = None
    with Api(Connection(url, api.connection.token, at_least=api.revision)) as node:
        ready, state = _readiness(node)
        if ready:
            revision = node.call(HeadBody, "GET", "/v1/head").revision
            api.revision = max(api.revision, revision)
    return Process("control plane", url, ready, state, len(newest or ()), 0, revision)


def _edge(
    edge: Api, have: Mapping[Subject, Listed] | None, newest: Mapping[Subject, Listed] | None
) -> Process:
    ready, state = _readiness(edge)
    # With the control plane dead there is nothing to be behind of.
    behind = sum((have or {}).get(subject) != listed for subject, listed in (newest or {}).items())
    return Process("edge", edge.connection.server, ready, state, len(have or ()), behind)


def _readiness(api: Api) -> tuple[bool, str]:
    try:
        told = msgspec.json.decode(api.raw("GET", "/readyz") or b"{}", type=_Facts)
    except HoldfastError as failed:
        return False, str(failed)
    except msgspec.MsgspecError:
        return True, "ready"
    pushed = ", ".join(told.pushed)
    return True, f"ready; PUSHED OFFLINE: {pushed}" if pushed else "ready"


def _catalogue(api: Api) -> dict[Subject, Listed] | None:
    try:
        listed = api.call(dict[str, list[Listed]], "GET", "/v1/catalogue")["subjects"]
    except HoldfastError:
        return None
    return {one.subject: one for one in listed}


def _ages(
    edge: Api, have: Mapping[Subject, Listed], clock: Clock
) -> dict[Subject, tuple[int, float | None]]:
    return {
        subject: (listed.revision, _age_s(edge, listed, clock) if at < SUBJECTS_MAX else None)
        for at, (subject, listed) in enumerate(have.items())
    }


def _age_s(edge: Api, listed: Listed, clock: Clock) -> float | None:
    try:
        headers = edge.head(f"/{listed.environment}/{listed.service}/snapshot")
        sealed = base64.b64decode(headers[FRESHNESS_HEADER.decode()])
        freshness = msgspec.json.decode(decode_envelope(sealed).body(), type=Freshness)
    except (HoldfastError, KeyError, ValueError):
        return None
    return max(0.0, clock() - freshness.at_ms / 1000)
