"""What the newest snapshots answer, and why."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from holdfast.apps.control import schemas
from holdfast.core.errors import NotFound
from holdfast.core.model import Subject
from holdfast.core.roots import RootSet
from holdfast.core.snapshot import decode
from holdfast.core.trust import Admitted, Generation, equip
from holdfast.engine.shelf import Published
from holdfast.ports import Blobs, Clock

GENERATIONS_MAX: Final = 16
"""Snapshots kept ready to answer."""
_OWN: Final = RootSet(version=1, development=False, roots={}, keys={})
"""What this process made itself needs no proof."""


class Answers:
    """Evaluates the snapshots of one shelf. Thread-safe."""

    def __init__(
        self, newest: Callable[[Subject], Published | None], blobs: Blobs, clock: Clock
    ) -> None:
        self._newest = newest
        self._blobs = blobs
        self._clock = clock
        self._lock = threading.Lock()
        self._generations: OrderedDict[str, Generation] = OrderedDict()

    def explain(self, asked: schemas.ExplainBody) -> schemas.Explained:
        """One answer and how it came about. Raises `NotFound` for a subject or key there is not."""
        generation = self._generation(Subject(asked.environment, asked.service))
        if asked.key not in generation.evaluator:
            raise NotFound(f"{generation.subject} has no setting {asked.key!r}")
        outcome = generation.evaluator.evaluate(asked.key, asked.context)
        return schemas.Explained(
            key=asked.key,
            value=outcome.value,
            variant=outcome.variant,
            reason=outcome.reason,
            error_code=outcome.error_code,
            error_message=outcome.error_message,
            revision=generation.revision,
        )

    def _published(self, subject: Subject) -> Published:
        published = self._newest(subject)
        if published is None:
            raise NotFound(f"there is no snapshot of {subject}")
        return published

    def _generation(self, subject: Subject) -> Generation:
        published = self._published(subject)
        with self._lock:
            known = self._generations.get(published.digest)
            if known is not None:
                self._generations.move_to_end(published.digest)
                return known
        admitted = Admitted(
            subject, decode(published.body), published.digest, published.body, b"", _OWN
        )
        tables = {digest: self._blobs.get(digest) or b"" for digest in published.tables}
        made = equip(admitted, tables, self._clock)
        with self._lock:
            self._generations[published.digest] = made
            if len(self._generations) > GENERATIONS_MAX:
                self._generations.popitem(last=False)
        return made
