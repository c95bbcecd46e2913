"""Cells and shards: which edges serve which services, so that what hurts one spares the others.

A cell is a set of edges with bounds of its own; what it can't take is refused there and goes to no
other cell. Within a set of edges, a service may be assigned to a few of them (shuffle sharding,
as AWS describes it): two services then share all of their edges hardly ever, and one that brings
its edges down leaves every other one at least an edge.

The assignment is rendezvous hashing: each edge draws a number for each subject, the highest ones
serve it. So it needs no table and no coordination, and an edge that comes takes over only what it
draws highest for. Pure, and the same everywhere and for ever: `shard-v1` names the hash.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from hashlib import sha256
from itertools import combinations
from math import comb

import msgspec

from holdfast.core.model import Subject

_HASH = b"holdfast-shard-v1"


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which edges there are, by name or URL, and how many of them serve each service.

    Every edge and whoever chooses among them reads the same plan. `everywhere` are services that
    all of them serve.
    """

    edges: tuple[str, ...]
    per_service: int = 2
    everywhere: tuple[str, ...] = ()


class Overlap(msgspec.Struct, frozen=True):
    """How many edges two services share."""

    services: tuple[str, str]
    edges: tuple[str, ...]


def problems_of(plan: Plan) -> list[str]:
    """What can't be meant, all of it."""
    found = []
    if len(set(plan.edges)) != len(plan.edges) or not all(plan.edges):
        found.append("each edge is named once, and has a name")
    if not 1 <= plan.per_service <= len(plan.edges):
        found.append(f"{plan.per_service} of {len(plan.edges)} edges can't serve each service")
    return found


def assigned(plan: Plan, subject: Subject) -> tuple[str, ...]:
    """The edges that serve the subject, the first choice first; all where it is everybody's."""
    count = len(plan.edges) if is_everywhere(plan, subject.service) else plan.per_service
    ranked = sorted(plan.edges, key=lambda edge: (_draw(edge, subject), edge), reverse=True)
    return tuple(ranked[:count])


def serves(plan: Plan, edge: str, subject: Subject) -> bool:
    """Whether the edge is one of those that serve the subject."""
    return is_everywhere(plan, subject.service) or edge in assigned(plan, subject)


def is_everywhere(plan: Plan, service: str) -> bool:
    """Whether all edges serve it; tokens are followed everywhere, else nobody could come in."""
    return service.startswith("_") or service in plan.everywhere


def overlaps(plan: Plan, subjects: Collection[Subject]) -> list[Overlap]:
    """Every pair of an environment's services that shares an edge, the most first."""
    found = [
        Overlap(
            (str(one), str(other)), tuple(edge for edge in mine if edge in assigned(plan, other))
        )
        for one, other in combinations(sorted(subjects), 2)
        if one.environment == other.environment
        for mine in (assigned(plan, one),)
    ]
    shared = [one for one in found if one.edges]
    return sorted(shared, key=lambda one: (-len(one.edges), one.services))


def overlap_chances(edges: int, per_service: int) -> tuple[float, ...]:
    """P(two services share o edges) for o = 0..m, of n edges and m for each service.

    Both choose m of n evenly: P(o) = C(m, o) C(n-m, m-o) / C(n, m), the hypergeometric law.
    """
    n, m = edges, per_service
    return tuple(comb(m, o) * comb(n - m, m - o) / comb(n, m) for o in range(m + 1))


def moved(
    before: Plan, after: Plan, subjects: Iterable[Subject]
) -> Mapping[Subject, Sequence[str]]:
    """Subjects that an edge serves in `after` and did not in `before`, with these edges."""
    found = {
        subject: [edge for edge in assigned(after, subject) if not serves(before, edge, subject)]
        for subject in subjects
    }
    return {subject: edges for subject, edges in found.items() if edges}


def _draw(edge: str, subject: Subject) -> bytes:
    parts = (_HASH, edge.encode(), subject.environment.encode(), subject.service.encode())
    return sha256(b"\x00".join(parts)).digest()
