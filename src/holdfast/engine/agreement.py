"""This build against the one that was first: what it makes must have the digests on record.

The view asks it about every snapshot, before the entry that makes it is appended and before anybody
hears of it. Once this build has departed, it stays so until the process ends: nothing is prepared,
signed or handed out by it any more, and whoever subscribed is told why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import msgspec

from holdfast.core.errors import HoldfastError
from holdfast.core.lineage import Lineage
from holdfast.core.model import Subject
from holdfast.core.reproduce import Departure, NotReproducible, named, outline
from holdfast.ports import Digests, Imprint

Told: TypeAlias = Callable[[Sequence[Departure]], None]


class Agreement:
    """Thread-safe. `digests` is none where no other build can be met: in tests, in memory.

    `build` is what this one calls itself on the record.
    """

    def __init__(self, digests: Digests | None = None, build: str = "") -> None:
        self._digests = digests
        self._build = build
        self._listeners: list[Told] = []
        self._error: NotReproducible | None = None

    @property
    def departures(self) -> tuple[Departure, ...]:
        """In what this build departs; empty while it agrees."""
        return self._error.departures if self._error else ()

    def subscribe(self, told: Told) -> None:
        """Call `told` when this build departs, at once when it has; it must be quick."""
        self._listeners.append(told)
        if self._error:
            told(self._error.departures)

    def guard(self) -> None:
        """Raise `NotReproducible` once this build has departed."""
        if self._error:
            raise self._error

    def claim(self, lineages: Mapping[Subject, Lineage], bodies: Mapping[Subject, bytes]) -> None:
        """Put these snapshots on record, durably, unless others are there.

        `bodies` may lack some: their outlines are then not kept. Raises `NotReproducible` when
        others are there, and `Unavailable` when the record can't be written.
        """
        self.guard()
        if self._digests is None or not lineages:
            return
        made = [
            self._imprint(subject, lineage, bodies.get(subject))
            for subject, lineage in sorted(lineages.items())
        ]
        stands = self._digests.put(made)
        departures = [
            _departure(theirs, ours.digest)
            for ours, theirs in zip(made, stands, strict=True)
            if theirs.digest != ours.digest
        ]
        if departures:
            raise self.depart(NotReproducible(departures, bodies))

    def depart(self, error: NotReproducible) -> NotReproducible:
        """Note that this build departs, with what differs named where it is known; the error."""
        if self._error is None:
            known = {(one.subject, one.digest): one for one in self._record()}
            told = [_named(one, known, error.bodies) for one in error.departures]
            self._error = NotReproducible(told, error.bodies)
            for listener in self._listeners:
                listener(self._error.departures)
        return self._error

    def _imprint(self, subject: Subject, lineage: Lineage, body: bytes | None) -> Imprint:
        return Imprint(
            subject=subject,
            revision=lineage.revision,
            entry=lineage.hash,
            digest=lineage.digest,
            build=self._build,
            outline=outline(body) if body else b"",
        )

    def _record(self) -> Sequence[Imprint]:
        """Only tells what differs: without it this build departs all the same."""
        if self._digests is None:
            return ()
        try:
            return self._digests.all()
        except HoldfastError:
            return ()


def _departure(theirs: Imprint, made: str) -> Departure:
    return Departure(
        environment=theirs.subject.environment,
        service=theirs.subject.service,
        revision=theirs.revision,
        published=theirs.digest,
        made=made,
        by=theirs.build,
    )


def _named(
    departure: Departure,
    known: Mapping[tuple[Subject, str], Imprint],
    bodies: Mapping[Subject, bytes],
) -> Departure:
    subject = Subject(departure.environment, departure.service)
    theirs, body = known.get((subject, departure.published)), bodies.get(subject)
    if theirs is None:
        return departure
    departure = msgspec.structs.replace(departure, by=theirs.build)
    return named(departure, theirs.outline, body) if body and theirs.outline else departure
