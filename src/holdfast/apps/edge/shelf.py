"""What an edge hands on: the bundles that it follows, with deltas from the last few.

A thread of its own compares and compresses, so that an activation is never slower for it. The hint
to those who follow this edge goes out when the delta is there, not before: they come at once.
"""

from __future__ import annotations

import gzip
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue
from typing import Final

import msgspec

from holdfast.apps.distribute import Listed, Shelved, Watchers, listed_of
from holdfast.apps.observe import logger
from holdfast.core.bundle import Bundle, decode_bundle, encode_bundle
from holdfast.core.delta import make_delta
from holdfast.core.edition import Edition
from holdfast.core.model import Subject
from holdfast.core.trust import Generation

OLDER_MAX: Final = 3
"""Older snapshots of a subject kept to make deltas from."""
GZIP_LEVEL: Final = 6

_log = logger("holdfast.edge.shelf")


class _Place(msgspec.Struct, frozen=True):
    """What there is of one subject; `older` is newest first."""

    shelved: Shelved
    generation: Generation
    older: tuple[tuple[str, bytes], ...] = ()
    deltas: Mapping[str, bytes] = {}


class EdgeShelf:
    """`holdfast.apps.distribute.Shelf` over a follower's generations.

    `freshness` gives the newest freshness statement of a subject, and whoever changes one turns
    `edition`, as the shelf itself does. `put` is for the follower's thread; everything else may be
    called from any.
    """

    def __init__(self, freshness: Callable[[Subject], bytes], edition: Edition) -> None:
        self._freshness = freshness
        self.edition = edition
        self._places: dict[Subject, _Place] = {}
        self._newest: dict[Subject, tuple[Shelved, Shelved]] = {}
        self._watchers = Watchers()
        self._work: SimpleQueue[Generation | None] = SimpleQueue()
        # Each counted by one thread alone.
        self._given: Counter[Subject] = Counter()
        self._done: Counter[Subject] = Counter()
        self._thread = threading.Thread(target=self._run, name="holdfast-shelf", daemon=True)
        self.deltas_made = 0
        self.failures = 0

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Finish what is queued and end the thread."""
        self._work.put(None)
        self._thread.join()

    def put(self, generation: Generation) -> None:
        """Hand a generation on from soon on; from now on, if it is its subject's first."""
        self._given[generation.subject] += 1
        self._places.setdefault(generation.subject, _Place(_shelved(generation), generation))
        self.edition.turn()
        self._work.put(generation)

    def is_busy(self, subject: Subject) -> bool:
        """Whether a generation of it is not handed on yet, and will be."""
        return self._given[subject] != self._done[subject]

    def newest(self, subject: Subject) -> Shelved | None:
        place = self._places.get(subject)
        if place is None:
            return None
        shelved, freshness = place.shelved, self._freshness(subject)
        made = self._newest.get(subject)
        if made is None or made[0] is not shelved or made[1].freshness is not freshness:
            made = (shelved, msgspec.structs.replace(shelved, freshness=freshness))
            self._newest[subject] = made
        return made[1]

    def delta(self, subject: Subject, have: str) -> bytes | None:
        place = self._places.get(subject)
        return place.deltas.get(have) if place else None

    def segment(self, subject: Subject, digest: str) -> bytes | None:
        place = self._places.get(subject)
        return place.generation.tables.get(digest) if place else None

    def catalogue(self) -> Sequence[Listed]:
        return listed_of({s: place.shelved for s, place in list(self._places.items())})

    def subscribe(self, callback: Callable[[Listed], None]) -> None:
        self._watchers.add(callback)

    def _run(self) -> None:
        while (generation := self._work.get()) is not None:
            try:
                self._shelve(generation)
            except Exception:  # noqa: BLE001 -- without this thread nothing new is handed on, ever
                # It was verified before, so this is a fault of ours; what was there stays.
                self.failures += 1
                _log.exception("not shelved", subject=str(generation.subject))
            self._done[generation.subject] += 1

    def _shelve(self, generation: Generation) -> None:
        before = self._places[generation.subject]
        place = before
        if before.generation is not generation:
            older = ((before.shelved.digest, before.generation.body), *before.older)[:OLDER_MAX]
            deltas = self._deltas(generation, older)
            place = _Place(_shelved(generation), generation, older, deltas)
            self._places[generation.subject] = place
            self.edition.turn()
        shelved = place.shelved
        where = shelved.subject
        self._watchers.tell(
            Listed(where.environment, where.service, shelved.revision, shelved.digest)
        )
        gzipped = gzip.compress(shelved.body, GZIP_LEVEL, mtime=0)
        if len(gzipped) < len(shelved.body):
            shelved = msgspec.structs.replace(shelved, gzipped=gzipped)
            self._places[where] = msgspec.structs.replace(place, shelved=shelved)
            self.edition.turn()

    def _deltas(
        self, generation: Generation, older: Sequence[tuple[str, bytes]]
    ) -> dict[str, bytes]:
        parts = decode_bundle(generation.bundle)
        made = {}
        for digest, body in older:
            delta = make_delta(body, generation.body)
            if delta is not None:
                self.deltas_made += 1
                made[digest] = encode_bundle(Bundle(parts.roots, parts.signature, delta=delta))
        return made


def _shelved(generation: Generation) -> Shelved:
    return Shelved(
        subject=generation.subject,
        revision=generation.revision,
        digest=generation.digest,
        body=generation.bundle,
    )
