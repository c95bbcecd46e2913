"""A cache that two processes know and one writes: what is written before it is ours waits.

Reads go through at any time, over what waits. `take_up` makes it ours and writes what waits; what
the disk refuses then goes on waiting until it takes something again.
`lay_down` returns when nothing is being written any more, and nothing will be. What waits is
bounded by what there is: the newest generation of each subject, one body for each document.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence

from holdfast.core.errors import Unavailable
from holdfast.core.model import Subject
from holdfast.ports import Cache


class OwnedCache:
    """The `Cache` port over another one. Thread-safe. `failed` counts the times that the disk
    refused what had waited."""

    def __init__(self, cache: Cache, *, ours: bool = True) -> None:
        self._cache = cache
        self._ours = ours
        self._lock = threading.RLock()
        self._saves: dict[Subject, tuple[int, bytes, Collection[int]]] = {}
        self._notes: dict[str, bytes | None] = {}
        self._forgiven: set[str] = set()
        self._entered: set[str] = set()
        self.failed = 0

    @property
    def ours(self) -> bool:
        return self._ours

    @property
    def damaged(self) -> int:
        return self._cache.damaged

    @damaged.setter
    def damaged(self, count: int) -> None:
        self._cache.damaged = count

    def take_up(self) -> None:
        """It is ours from now on."""
        with self._lock:
            self._ours = True
            forgiven, self._forgiven = self._forgiven, set()
            for prefix in forgiven:
                self._cache.forgive(prefix)
            self._write_waiting()
            for name in self._entered:
                self._cache.enter(name)

    def lay_down(self) -> None:
        """It is ours no more: what this process is in the middle of, it does for itself alone."""
        with self._lock:
            self._ours = False
            for name in self._entered:
                self._cache.leave(name)

    def load(self, subject: Subject) -> Iterator[bytes]:
        waiting = self._saves.get(subject)
        if waiting is not None:
            yield waiting[1]
        yield from self._cache.load(subject)

    def save(
        self, subject: Subject, revision: int, body: bytes, spared: Collection[int] = ()
    ) -> None:
        with self._lock:
            if self._ours:
                self._cache.save(subject, revision, body, spared)
                self._saves.pop(subject, None)
                self._write_waiting()
            else:
                self._saves[subject] = (revision, body, spared)

    def note(self, name: str, body: bytes) -> None:
        with self._lock:
            if self._ours:
                self._put(name, body)
                self._notes.pop(name, None)
                self._write_waiting()
            else:
                self._notes[name] = body

    def noted(self, name: str) -> bytes | None:
        with self._lock:
            return self._notes[name] if name in self._notes else self._cache.noted(name)

    def names(self, prefix: str) -> Sequence[str]:
        with self._lock:
            found = set(self._cache.names(prefix))
            for name in self._notes:
                if name.startswith(prefix):
                    (found.discard if self._notes[name] is None else found.add)(name)
        return sorted(found)

    def forget(self, name: str) -> None:
        with self._lock:
            if self._ours:
                self._put(name, None)
                self._notes.pop(name, None)
            else:
                self._notes[name] = None

    def subjects(self) -> Sequence[Subject]:
        with self._lock:
            return sorted({*self._cache.subjects(), *self._saves})

    def enter(self, name: str) -> None:
        with self._lock:
            self._entered.add(name)
            if self._ours:
                self._cache.enter(name)

    def leave(self, name: str) -> None:
        with self._lock:
            self._entered.discard(name)
            if self._ours:
                self._cache.leave(name)

    def deaths(self, name: str) -> int:
        return self._cache.deaths(name)

    def forgive(self, prefix: str) -> None:
        with self._lock:
            if self._ours:
                self._cache.forgive(prefix)
            else:
                self._forgiven.add(prefix)

    def _put(self, name: str, body: bytes | None) -> None:
        if body is None:
            self._cache.forget(name)
        else:
            self._cache.note(name, body)

    def _write_waiting(self) -> None:
        """Until the disk refuses one: it is sick, and what is left waits for another time."""
        try:
            for name in list(self._notes):
                self._put(name, self._notes[name])
                del self._notes[name]
            for subject in list(self._saves):
                self._cache.save(subject, *self._saves[subject])
                del self._saves[subject]
        except Unavailable:
            self.failed += 1
