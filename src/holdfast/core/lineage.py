"""The chain of snapshots of every subject, revision by revision.

A snapshot names the one before it by digest, so its bytes depend on all that came before, and a
node that starts in the middle must know the last digest of each subject. That is a `Lineage`; with
the state they are a `Standing`, which checkpoints keep. Standing still, a subject's body can be
built again at any time: it must have the digest that its lineage names, on every build of Holdfast.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from holdfast.core.build import Fragments, build
from holdfast.core.errors import Damaged
from holdfast.core.fold import fold
from holdfast.core.history import verify_link
from holdfast.core.model import Entry, Head, MoveRollout, Subject
from holdfast.core.reproduce import Departure, NotReproducible, record, recorded, subject_of
from holdfast.core.snapshot import Previous, encode
from holdfast.core.state import EMPTY, State
from holdfast.core.subjects import revisions
from holdfast.core.wire import UNREADABLE, digest

CHECKPOINT_FORMAT: Final = "holdfast.standing.v1"


class Lineage(msgspec.Struct, frozen=True, gc=False):
    """A subject's newest snapshot: revision, that entry's hash, digest, and the one before."""

    revision: int
    hash: str
    digest: str
    previous: Previous | None


class Standing(msgspec.Struct, frozen=True):
    """Where the journal stands. `lineages` holds subjects that are gone too: they may come back.

    `live` are the subjects that there are now; `at_ms` is the newest entry's time. `unrecorded` are
    subjects whose newest digest no entry names yet: the next one does.
    """

    state: State = EMPTY
    lineages: dict[Subject, Lineage] = {}
    live: frozenset[Subject] = frozenset()
    at_ms: int = 0
    unrecorded: frozenset[Subject] = frozenset()


class Step(msgspec.Struct, frozen=True):
    """One entry taken: what stands then, and the bodies of the snapshots that it made anew."""

    standing: Standing
    bodies: dict[Subject, bytes]


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    subject: Subject
    lineage: Lineage


class _Checkpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    at_ms: int
    state: State
    lineages: tuple[_Kept, ...]
    unrecorded: tuple[Subject, ...] = ()


_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder(_Checkpoint).decode


def step(standing: Standing, entry: Entry, fragments: Fragments | None = None) -> Step:
    """Take the next entry. What people wrote as probes is in no way of one that moves a rollout.

    Raises `Damaged` for a wrong link, `Invalid` for what can't be built, and `NotReproducible` when
    the entry records other digests than this build made of the entries before it. Pure but for
    `fragments`, a memo that makes it faster and changes no byte.
    """
    verify_link(standing.state.head, entry)
    if departures := [*departed(standing.lineages, entry)]:
        raise NotReproducible(departures)
    state = fold(standing.state, entry)
    lineages, bodies = dict(standing.lineages), {}
    now = revisions(state)
    held = not any(isinstance(one, MoveRollout) for one in entry.edits)
    for subject, revision in now.items():
        before = lineages.get(subject)
        if before is not None and before.revision == revision:
            continue
        previous = Previous(before.revision, before.digest) if before else None
        body = encode(build(state, subject, previous, fragments=fragments, held=held))
        lineages[subject] = Lineage(revision, entry.hash, digest(body), previous)
        bodies[subject] = body
    made = Standing(
        state=state,
        lineages=lineages,
        live=frozenset(now),
        at_ms=max(entry.at_ms, standing.at_ms),
        unrecorded=(standing.unrecorded - set(map(subject_of, entry.published))) | bodies.keys(),
    )
    return Step(made, bodies)


def unrecorded(standing: Standing) -> dict[str, str]:
    """What the next entry records in `Entry.published`: the newest digests that none names yet."""
    lineages = standing.lineages
    return {
        str(subject): record(lineages[subject].revision, lineages[subject].digest)
        for subject in sorted(standing.unrecorded)
    }


def departed(lineages: Mapping[Subject, Lineage], entry: Entry) -> Iterator[Departure]:
    """Where the digests that the entry records are not those of `lineages`, made before it."""
    for name, value in entry.published.items():
        subject, (revision, published) = subject_of(name), recorded(value)
        ours = lineages.get(subject)
        if ours is None or (ours.revision, ours.digest) != (revision, published):
            made = ours.digest if ours is not None and ours.revision == revision else ""
            yield Departure(subject.environment, subject.service, revision, published, made)


def rebuild(standing: Standing, subject: Subject, fragments: Fragments | None = None) -> bytes:
    """The body of a live subject's newest snapshot.

    Raises `NotReproducible` when this build of Holdfast makes other bytes than the one that
    published them: then it must not serve them.
    """
    lineage = standing.lineages[subject]
    head = Head(lineage.revision, lineage.hash)
    snapshot = build(standing.state, subject, lineage.previous, head=head, fragments=fragments)
    body = encode(snapshot)
    if (made := digest(body)) != lineage.digest:
        where = (subject.environment, subject.service, lineage.revision)
        raise NotReproducible([Departure(*where, lineage.digest, made)], {subject: body})
    return body


def encode_standing(standing: Standing) -> bytes:
    """A standing as checkpoint bytes."""
    lineages = tuple(_Kept(one, standing.lineages[one]) for one in sorted(standing.lineages))
    unnamed = tuple(sorted(standing.unrecorded))
    kept = _Checkpoint(CHECKPOINT_FORMAT, standing.at_ms, standing.state, lineages, unnamed)
    return _encode(kept)


def decode_standing(body: bytes) -> Standing:
    """Undo `encode_standing`; raises `Damaged` for bytes of another format or shape."""
    try:
        kept = _decode(body)
    except UNREADABLE as error:
        raise Damaged(f"not a checkpoint that this version knows: {error}") from error
    if kept.format != CHECKPOINT_FORMAT:
        raise Damaged(f"a checkpoint of format {kept.format!r}, not {CHECKPOINT_FORMAT!r}")
    lineages: Mapping[Subject, Lineage] = {one.subject: one.lineage for one in kept.lineages}
    live = frozenset(revisions(kept.state))
    return Standing(kept.state, dict(lineages), live, kept.at_ms, frozenset(kept.unrecorded))
