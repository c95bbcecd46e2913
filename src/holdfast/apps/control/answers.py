"""What the newest snapshots answer, and why."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import msgspec

from holdfast.apps.control import schemas
from holdfast.core import exposure
from holdfast.core.errors import NotFound
from holdfast.core.evaluate import Explanation
from holdfast.core.model import Subject
from holdfast.core.roots import RootSet
from holdfast.core.snapshot import Snapshot, decode
from holdfast.core.state import State
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
        self,
        newest: Callable[[Subject], Published | None],
        state: Callable[[], State],
        blobs: Blobs,
        clock: Clock,
    ) -> None:
        self._newest = newest
        self._state = state
        self._blobs = blobs
        self._clock = clock
        self._lock = threading.Lock()
        self._generations: OrderedDict[str, Generation] = OrderedDict()

    def explain(self, asked: schemas.ExplainBody) -> Explanation:
        """One answer and how it came about. Raises `NotFound` for a subject or key there is not."""
        generation = self._generation(Subject(asked.environment, asked.service))
        if asked.key not in generation.evaluator:
            raise NotFound(f"{generation.subject} has no setting {asked.key!r}")
        names = self._rule_names(generation.snapshot, asked.key)
        return generation.evaluator.explain(asked.key, asked.context, names)

    def _rule_names(self, snapshot: Snapshot, key: str) -> tuple[str, ...]:
        """The rules' names, which snapshots do not carry; none when the setting has moved on.

        While a rollout changes the setting its flag asks for the exposure only, and has the rules
        of both sides within.
        """
        match msgspec.json.decode(snapshot.flags[key]).get("targeting"):
            case {"if": [{"$ref": str(first)}, *_]} if first.startswith(exposure.PREFIX):
                return (first,)
        subject = snapshot.subject
        owner = self._state().services.get(snapshot.setting(key).service or subject.service)
        found = owner.settings.get(key) if owner else None
        targeting = found.setting.environments.get(subject.environment) if found else None
        return tuple(rule.name for rule in targeting.rules) if targeting else ()

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
