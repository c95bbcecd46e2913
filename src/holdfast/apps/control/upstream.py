"""The control plane as an upstream of edges: the engine's shelf in the data plane's words."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from holdfast.apps.distribute import Listed, Shelved
from holdfast.core.model import Subject
from holdfast.engine.shelf import Published, Shelf


class Upstream:
    """`distribute.Shelf` over an `engine.shelf.Shelf`."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def newest(self, subject: Subject) -> Shelved | None:
        published = self._shelf.newest(subject)
        if published is None:
            return None
        return Shelved(
            subject=subject,
            revision=published.revision,
            digest=published.digest,
            body=published.bundle,
            gzipped=published.gzipped,
            freshness=self._shelf.freshness(subject),
        )

    def delta(self, subject: Subject, have: str) -> bytes | None:
        return self._shelf.delta(subject, have)

    def segment(self, subject: Subject, digest: str) -> bytes | None:
        return self._shelf.segment(subject, digest)

    def catalogue(self) -> Sequence[Listed]:
        return [
            Listed(subject.environment, subject.service, lineage.revision, lineage.digest)
            for subject, lineage in self._shelf.catalogue()
        ]

    def subscribe(self, callback: Callable[[Listed], None]) -> None:
        def tell(published: Sequence[Published]) -> None:
            for each in published:
                subject = each.subject
                callback(Listed(subject.environment, subject.service, each.revision, each.digest))

        self._shelf.subscribe(tell)
