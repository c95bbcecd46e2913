"""A whole journal built again, and compared with what was published at every revision.

Unlike a node, which stops at the first difference, this goes on from what was published, so that
one difference is told once and not for every snapshot that follows it. Pure; the caller reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

import msgspec

from holdfast.core.build import Fragments, build
from holdfast.core.errors import HoldfastError
from holdfast.core.evaluate import Evaluator
from holdfast.core.fold import fold
from holdfast.core.history import verify_link
from holdfast.core.lineage import Lineage, Standing
from holdfast.core.model import JSON, Entry, Subject
from holdfast.core.probes import Answering, replay
from holdfast.core.reproduce import Departure, named, recorded, subject_of
from holdfast.core.snapshot import Previous, Snapshot, encode
from holdfast.core.state import State
from holdfast.core.subjects import revisions
from holdfast.core.targeting.segments import SegmentTable
from holdfast.core.wire import UNREADABLE, digest

Digests: TypeAlias = Mapping[tuple[Subject, int], str]
"""(subject, revision) -> the digest that was published."""
_PROBE_NAMES_MAX = 20


class Replayed(msgspec.Struct, frozen=True):
    """One entry, built again. `unrecorded` counts snapshots of which no digest is known."""

    revision: int
    standing: Standing
    bodies: dict[Subject, bytes]
    departures: tuple[Departure, ...]
    compared: int
    unrecorded: int


class _Recording(msgspec.Struct):
    published: dict[str, str] = {}


_recording = msgspec.json.Decoder(_Recording)


def published_in(bodies: Iterable[bytes]) -> dict[tuple[Subject, int], str]:
    """All digests that entries record, of their canonical bytes; what is none is passed over."""
    found = {}
    for body in bodies:
        try:
            values = _recording.decode(body).published
        except UNREADABLE:
            continue
        for name, value in values.items():
            revision, published = recorded(value)
            found[subject_of(name), revision] = published
    return found


def replayed(
    entries: Iterable[Entry],
    published: Digests,
    outlines: Mapping[str, bytes],
    builds_after: int = 0,
) -> Iterator[Replayed]:
    """Every entry in order. Up to revision `builds_after` what was published is taken at its word.

    `outlines` are those known, by digest. Raises `Damaged` for entries that are not linked.
    """
    standing, fragments = Standing(), Fragments()
    for entry in entries:
        verify_link(standing.state.head, entry)
        one = _Replaying(standing, entry, published, outlines, fragments)
        yield (made := one.replayed(builds_after))
        standing = made.standing


class _Replaying:
    def __init__(
        self,
        standing: Standing,
        entry: Entry,
        published: Digests,
        outlines: Mapping[str, bytes],
        fragments: Fragments,
    ) -> None:
        self._before = standing
        self._entry = entry
        self._published = published
        self._outlines = outlines
        self._fragments = fragments
        self._bodies: dict[Subject, bytes] = {}
        self._departures: list[Departure] = []
        self._compared = self._unrecorded = 0

    def replayed(self, builds_after: int) -> Replayed:
        state = fold(self._before.state, self._entry)
        lineages, now = dict(self._before.lineages), revisions(state)
        for subject, revision in now.items():
            before = lineages.get(subject)
            if before is not None and before.revision == revision:
                continue
            previous = Previous(before.revision, before.digest) if before else None
            stated = self._published.get((subject, revision), "")
            if not stated or revision > builds_after:
                stated = self._build(state, subject, revision, previous, stated) or stated
            lineages[subject] = Lineage(revision, self._entry.hash, stated, previous)
        return Replayed(
            revision=self._entry.revision,
            standing=Standing(state, lineages, frozenset(now), self._entry.at_ms),
            bodies=self._bodies,
            departures=tuple(self._departures),
            compared=self._compared,
            unrecorded=self._unrecorded,
        )

    def _build(
        self, state: State, subject: Subject, revision: int, previous: Previous | None, stated: str
    ) -> str:
        """Build and compare; the digest to go on from where none is stated."""
        where = (subject.environment, subject.service, revision)
        try:
            body = encode(build(state, subject, previous, fragments=self._fragments))
        except HoldfastError as error:
            self._departures.append(Departure(*where, stated, parts=(str(error)[:200],)))
            return ""
        self._bodies[subject] = body
        made = digest(body)
        if not stated:
            self._unrecorded += 1
            return made
        self._compared += 1
        if made != stated:
            found = Departure(*where, stated, made)
            outline = self._outlines.get(stated)
            self._departures.append(named(found, outline, body) if outline else found)
        return ""


class Answered(msgspec.Struct, frozen=True, omit_defaults=True):
    """One recorded evaluation: a line of a file that `holdfast verify` writes and checks.

    `value` is what came out of this snapshot, null where the caller's default applied.
    """

    environment: str
    service: str
    revision: int
    key: str
    context: dict[str, JSON]
    value: JSON = None
    variant: str | None = None
    reason: str = ""


def evaluator_of(snapshot: Snapshot, tables: Mapping[str, SegmentTable]) -> Evaluator:
    """This build's evaluator of a snapshot, at a clock that stands still. `tables` by segment."""
    return Evaluator(
        snapshot.flags,
        evaluators=snapshot.evaluators,
        metadata=snapshot.metadata,
        bucketing=snapshot.holdfast.semantics.bucketing,
        types={key: snapshot.setting(key).type for key in snapshot.flags},
        segments=tables,
        now_s=lambda: 0.0,
    )


def answered(snapshot: Snapshot, evaluator: Evaluator) -> Iterator[Answered]:
    """What comes out for each probe of the snapshot, as a record."""
    facts = snapshot.holdfast
    for key, probe, _ in replay(Answering(evaluator, snapshot.flags), facts.probes):
        outcome = evaluator.evaluate(key, probe.context)
        yield Answered(
            environment=facts.environment,
            service=facts.service,
            revision=facts.revision,
            key=key,
            context=probe.context,
            value=outcome.value,
            variant=outcome.variant,
            reason=outcome.reason,
        )


def moved(record: Answered, evaluator: Evaluator) -> str:
    """How the answer differs from the record; empty when it doesn't."""
    now = evaluator.evaluate(record.key, record.context)
    for name, before, after in (
        ("value", record.value, now.value),
        ("variant", record.variant, now.variant),
        ("reason", record.reason, now.reason),
    ):
        if _encode(before) != _encode(after):
            return f"{name} was {_shown(before)}, is {_shown(after)} for {_shown(record.context)}"
    return ""


def failed_probes(snapshot: Snapshot, evaluator: Evaluator) -> tuple[int, tuple[str, ...]]:
    """How many probes there are, and the settings of which one does not come out."""
    total, failed = 0, dict[str, None]()
    answering = Answering(evaluator, snapshot.flags)
    for key, probe, answer in replay(answering, snapshot.holdfast.probes):
        total += 1
        if not probe.holds(answer):
            failed[key] = None
    return total, tuple(failed)[:_PROBE_NAMES_MAX]


def _shown(value: object) -> str:
    text = _encode(value).decode()
    return text if len(text) <= 120 else text[:120] + "…"


_encode = msgspec.json.Encoder(order="deterministic").encode
