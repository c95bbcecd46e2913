"""Which segment a name means in the rules of a service, lowered once for each build.

Names resolve along the includes: the first service on the way that has the segment owns it. While a
rollout changes that, there are two, and the rollout's exposure decides between them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import msgspec

from holdfast.core.lower import Choice, Lowered, segment_logic
from holdfast.core.model import JSON, Audience, Segment, Subject
from holdfast.core.snapshot import SegmentFacts
from holdfast.core.staging import Staging
from holdfast.core.state import ServiceState
from holdfast.core.subjects import reach
from holdfast.core.wire import canonical

Services: TypeAlias = Mapping[str, ServiceState]


class Found(msgspec.Struct, frozen=True):
    """A segment where the includes lead to it; `revision` is the newest that moved who is in it.

    Without a `segment` the name leads nowhere, since `revision`.
    """

    service: str = ""
    segment: Segment | None = None
    revision: int = 0


class Origin(msgspec.Struct, frozen=True):
    """All that a segment was lowered from."""

    new: Found
    old: Found | None = None
    exposure: Lowered | None = None

    def holds(self, other: Origin) -> bool:
        """Whether `other` is of the very same parts; its nouns are compared by identity."""
        if self.exposure is not other.exposure or not _alike(self.new, other.new):
            return False
        if self.old is None or other.old is None:
            return self.old is other.old
        return _alike(self.old, other.old)


Kept: TypeAlias = dict[tuple[str, str], tuple[Origin, Lowered | None]]
"""(service whose rules refer, name in them) -> what it was lowered from, and to."""


class VisibleSegments:
    """The segments of one subject. `before` are those of the build before, to be used again."""

    def __init__(
        self, subject: Subject, services: Services, stagings: Sequence[Staging], before: Kept
    ) -> None:
        self.kept: Kept = {}
        self._subject = subject
        self._services = services
        self._stagings = stagings
        self._before = before

    def get(self, owner: str, name: str) -> Lowered | None:
        """The segment that `name` means in the rules of `owner`."""
        known = self.kept.get((owner, name))
        if known is None:
            origin = self._origin(owner, name)
            known = self._before.get((owner, name))
            if known is None or not known[0].holds(origin):
                known = (origin, self._lowered(owner, name, origin))
            self.kept[owner, name] = known
        return known[1]

    def _origin(self, owner: str, name: str) -> Origin:
        new = self._found(self._services, owner, name)
        for staging in self._stagings:
            old = self._found(staging.services, owner, name)
            if self._audience(new) is not self._audience(old) or old.service != new.service:
                return Origin(new, old, staging.exposure)
        return Origin(new)

    def _found(self, services: Services, owner: str, name: str) -> Found:
        environment, removed_at = self._subject.environment, 0
        for service, included_at in reach(services, owner):
            found = services[service]
            removed_at = max(removed_at, found.segments_removed.get(name, 0))
            if (state := found.segments.get(name)) is not None:
                own = state.revisions.get(environment, 0)
                return Found(service, state.segment, max(own, included_at, removed_at))
        return Found(revision=removed_at)

    def _audience(self, found: Found) -> Audience | None:
        if found.segment is None:
            return None
        environments = found.segment.environments
        return environments.get(self._subject.environment, found.segment.audience)

    def _lowered(self, owner: str, name: str, origin: Origin) -> Lowered | None:
        new = self._side(name, origin.new, origin.new.revision)
        if origin.old is None or origin.exposure is None:
            return new
        revision = max(origin.new.revision, origin.old.revision, origin.exposure.revision)
        old = self._side(name, origin.old, revision)
        if new is None or old is None:
            there = new or old
            return msgspec.structs.replace(there, revision=revision) if there else None
        merged = new.name if new.name == old.name else f"{name}~{owner}"
        return _chosen(merged, revision, origin.exposure, new, old)

    def _side(self, name: str, found: Found, revision: int) -> Lowered | None:
        audience = self._audience(found)
        if audience is None:
            return None
        own = found.service == self._subject.service
        return Lowered(
            name=name if own else f"{found.service}/{name}",
            revision=revision,
            body=b"" if audience.members_digest else canonical(segment_logic(audience)),
            table=_table(audience) if audience.members_digest else None,
        )


def _alike(one: Found, other: Found) -> bool:
    same_place = one.service == other.service and one.revision == other.revision
    return same_place and one.segment is other.segment


def _chosen(name: str, revision: int, exposure: Lowered, new: Lowered, old: Lowered) -> Lowered:
    """One segment of two. The condition stands in it whole: flagd doesn't nest references."""
    new = msgspec.structs.replace(new, name=f"{name}~new")
    old = msgspec.structs.replace(old, name=f"{name}~old")
    condition = msgspec.json.decode(exposure.body)
    return Lowered(
        name=name,
        revision=revision,
        body=canonical({"if": [condition, _logic(new), _logic(old)]}),
        choice=Choice(exposure, new, old),
    )


def _logic(side: Lowered) -> JSON:
    if side.table is not None:
        return {"in_segment": [{"var": side.table.by}, side.name]}
    return msgspec.json.decode(side.body)


def _table(audience: Audience) -> SegmentFacts:
    return SegmentFacts(
        by=audience.by,
        digest=audience.table_digest,
        members=audience.member_count,
        bytes=audience.table_bytes,
    )
