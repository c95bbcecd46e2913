"""The newest bundle of each subject, ready to send: signed once, compressed once, deltas kept.

A commit puts what it made on the shelf before anybody hears of it. After a start the shelf is empty
and a bundle is made when first asked for, or all by `warm`.
"""

from __future__ import annotations

import gzip
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

import msgspec

from holdfast.core.build import Fragments
from holdfast.core.bundle import Bundle, encode_bundle
from holdfast.core.errors import HoldfastError
from holdfast.core.lineage import Lineage, Standing
from holdfast.core.model import Subject
from holdfast.core.reproduce import NotReproducible
from holdfast.core.snapshot import (
    FRESHNESS_TYPE,
    STATEMENT_TYPE,
    Freshness,
    Snapshot,
    decode,
    freshness,
    statement,
)
from holdfast.core.wire import Envelope
from holdfast.engine.views import View
from holdfast.ports import Blobs, Sign

MakeDelta: TypeAlias = Callable[[bytes, bytes], bytes | None]
"""(old body, new body) -> canonical bytes of the delta, or none when it isn't worth it."""

BODIES_BYTES_MAX: Final = 512 * 1024 * 1024
"""Bytes kept ready; beyond, the bundles made longest ago are made again when asked for."""
PREVIOUS_MAX: Final = 4
"""Older bodies of a subject kept to make deltas from."""
FRESHNESS_INTERVAL_S: Final = 1.0
_ENVELOPE: Final = msgspec.json.Decoder(Envelope)
_GZIP_LEVEL: Final = 3  # a third of the time of 6 in every commit, for a tenth more bytes


class Published(msgspec.Struct, frozen=True):
    """A subject's newest snapshot. `bundle` goes on the wire, `gzipped` is it compressed.

    `roots` counts the root documents in the bundle, `tables` names the segments' tables.
    """

    subject: Subject
    revision: int
    digest: str
    body: bytes
    bundle: bytes
    gzipped: bytes
    signature: Envelope
    roots: int
    tables: frozenset[str]


class _Place(msgspec.Struct):
    """What the shelf has of one subject; `older` holds (digest, body), newest last."""

    published: Published
    older: deque[tuple[str, bytes]]
    deltas: dict[str, bytes | None] = {}
    freshness: bytes = b""
    fresh_s: float = 0.0

    def size(self) -> int:
        newest = self.published
        held = len(newest.body) + len(newest.bundle) + len(newest.gzipped)
        return held + sum(len(body) for _, body in self.older)


class Shelf:
    """Ready bytes over a `View`. Thread-safe; what is there already is handed out without waiting.

    `made` counts bundles made, `dropped` those that the bound on bytes pushed out, `failed` those
    that could not be signed when they were committed.
    """

    def __init__(
        self,
        view: View,
        blobs: Blobs,
        sign: Sign,
        make_delta: MakeDelta,
        *,
        bytes_max: int = BODIES_BYTES_MAX,
    ) -> None:
        self._view = view
        self._blobs = blobs
        self._sign = sign
        self._make_delta = make_delta
        self._bytes_max = bytes_max
        self._fragments = Fragments()
        self._lock = threading.RLock()
        self._places: OrderedDict[Subject, _Place] = OrderedDict()
        self._bytes = 0
        self._listeners: list[Callable[[Sequence[Published]], None]] = []
        self.made = 0
        self.failed = 0
        self.dropped = 0
        view.subscribe(self._changed)

    def newest(self, subject: Subject) -> Published | None:
        """The newest bundle, or none when there is no such subject.

        Raises `NotReproducible` when this build makes other bytes, of this subject or another one.
        """
        self._view.agreement.guard()
        standing = self._view.standing
        if subject not in standing.live:
            return None
        place = self._places.get(subject)
        if place is not None and _is_current(place.published, standing):
            return place.published
        if not self._lock.acquire(blocking=place is None):
            return place.published if place else None  # its successor is being made right now
        try:
            standing = self._view.standing  # it may have moved while this waited
            if subject not in standing.live:
                return None
            return self._put(standing, subject, self._rebuilt(standing, subject))
        finally:
            self._lock.release()

    def freshness(self, subject: Subject) -> bytes:
        """The signed statement that this snapshot is the newest, as of when that was known.

        Empty when there is no such subject, and while the snapshot at hand is not the newest.
        """
        current_s, standing = self._view.current_s, self._view.standing
        published, place = self.newest(subject), self._places.get(subject)
        if published is None or place is None or not _is_current(published, standing):
            return b""
        if place.freshness and 0.0 <= current_s - place.fresh_s < FRESHNESS_INTERVAL_S:
            return place.freshness
        head = standing.state.head
        made = Freshness(
            service=subject.service,
            environment=subject.environment,
            revision=published.revision,
            digest=published.digest,
            journal_revision=head.revision,
            journal_head=head.hash,
            at_ms=int(current_s * 1000),
        )
        place.freshness, place.fresh_s = self._sign(FRESHNESS_TYPE, freshness(made)), current_s
        return place.freshness

    def delta(self, subject: Subject, have: str) -> bytes | None:
        """The delta bundle from the snapshot with digest `have`, when it is kept and worth it."""
        published = self.newest(subject)
        place = self._places.get(subject)
        if published is None or place is None or place.published is not published:
            return None
        if have not in place.deltas:
            old = next((body for known, body in place.older if known == have), None)
            if old is None:
                return None
            place.deltas[have] = self._delta(published, old)
        return place.deltas[have]

    def segment(self, subject: Subject, digest: str) -> bytes | None:
        """The table under that digest, when the subject's newest snapshot names it."""
        published = self.newest(subject)
        if published is None or digest not in published.tables:
            return None
        return self._blobs.get(digest)

    def catalogue(self) -> list[tuple[Subject, Lineage]]:
        """Every live subject with its lineage, whether or not its bundle is made."""
        standing = self._view.standing
        return [(subject, standing.lineages[subject]) for subject in standing.live]

    def subscribe(self, listener: Callable[[Sequence[Published]], None]) -> None:
        """Call `listener` with what is new on the shelf; it must be quick and must not raise."""
        self._listeners.append(listener)

    def warm(self) -> None:
        """Make all bundles that are not there: build them all first, and sign none if one is other.

        Raises `NotReproducible`, with all that are.
        """
        self._view.agreement.guard()
        standing, bodies, other, held = self._view.standing, dict[Subject, bytes](), [], 0
        for subject in sorted(standing.live):
            place = self._places.get(subject)
            if place is not None and _is_current(place.published, standing):
                continue
            try:
                body = self._view.rebuild(subject, standing, self._fragments)
            except NotReproducible as error:
                other.append(error)
                continue
            held += len(body)
            if held <= self._bytes_max:  # beyond it a bundle is made again when it is asked for
                bodies[subject] = body
        if other:
            raise self._view.agreement.depart(_joined(other))
        for subject, body in bodies.items():
            with self._lock:
                now = self._view.standing
                if now.lineages[subject].digest == standing.lineages[subject].digest:
                    self._put(now, subject, body)

    def _rebuilt(self, standing: Standing, subject: Subject) -> bytes:
        try:
            return self._view.rebuild(subject, standing, self._fragments)
        except NotReproducible as error:
            raise self._view.agreement.depart(error) from None

    def _changed(self, standing: Standing, bodies: Mapping[Subject, bytes]) -> None:
        new = []
        with self._lock:
            for subject, body in bodies.items():
                try:
                    new.append(self._put(standing, subject, body))
                except HoldfastError:  # committed all the same: whoever asks for it is told why
                    self.failed += 1
                    self._forget(subject)
        for listener in self._listeners:
            listener(new)

    def _put(self, standing: Standing, subject: Subject, body: bytes) -> Published:
        before = self._places.get(subject)
        if before is not None and _is_current(before.published, standing):
            return before.published  # another thread was faster
        published = self._publish(standing, decode(body), body)
        place = _Place(published, deque(maxlen=PREVIOUS_MAX))
        if before is not None:
            place.older.extend(before.older)
            if before.published.digest != published.digest:
                place.older.append((before.published.digest, before.published.body))
            self._bytes -= before.size()
        self._bytes += place.size()
        self._places[subject] = place
        self._places.move_to_end(subject)
        while self._bytes > self._bytes_max and len(self._places) > 1:
            self._bytes -= self._places.popitem(last=False)[1].size()
            self.dropped += 1
        return published

    def _forget(self, subject: Subject) -> None:
        place = self._places.pop(subject, None)
        if place is not None:
            self._bytes -= place.size()

    def _publish(self, standing: Standing, snapshot: Snapshot, body: bytes) -> Published:
        lineage = standing.lineages[snapshot.subject]
        signed = self._sign(STATEMENT_TYPE, statement(snapshot, body))
        signature = _ENVELOPE.decode(signed)
        bundle = encode_bundle(Bundle(_roots(standing), signature, snapshot=body))
        gzipped = gzip.compress(bundle, _GZIP_LEVEL, mtime=0)
        self.made += 1
        return Published(
            subject=snapshot.subject,
            revision=lineage.revision,
            digest=lineage.digest,
            body=body,
            bundle=bundle,
            gzipped=gzipped if len(gzipped) < len(bundle) else b"",
            signature=signature,
            roots=len(standing.state.roots),
            tables=frozenset(one.digest for one in snapshot.holdfast.segments.values()),
        )

    def _delta(self, published: Published, old: bytes) -> bytes | None:
        delta = self._make_delta(old, published.body)
        if delta is None:
            return None
        return encode_bundle(Bundle(_roots(self._view.standing), published.signature, delta=delta))


def _joined(errors: Sequence[NotReproducible]) -> NotReproducible:
    departures = [departure for error in errors for departure in error.departures]
    bodies = {subject: body for error in errors for subject, body in error.bodies.items()}
    return NotReproducible(departures, bodies)


def _roots(standing: Standing) -> tuple[Envelope, ...]:
    return msgspec.convert(standing.state.roots, tuple[Envelope, ...])


def _is_current(published: Published, standing: Standing) -> bool:
    """Whether it is the newest one, with the newest roots."""
    lineage = standing.lineages[published.subject]
    return published.digest == lineage.digest and published.roots == len(standing.state.roots)
