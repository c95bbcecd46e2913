"""A cache that two processes know and one writes: what is written before it is ours waits.

Reads go through at any time, over what waits. `take_up` makes it ours and writes what waits;
`lay_down` returns when nothing is being written any more, and nothing will be. What waits is
bounded by what there is: the newest generation of each subject, one body for each document.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial

from holdfast.core.errors import Unavailable
from holdfast.core.model import Subject
from holdfast.ports import Cache


class OwnedCache:
    """The `Cache` port over another one. Thread-safe. `failed` counts writes that came too late:
    they waited, and the disk refused them."""

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
        """It is ours from now on; what the disk refuses now is counted and let go."""
        with self._lock:
            self._ours = True
            saves, self._saves = self._saves, {}
            notes, self._notes = self._notes, {}
            forgiven, self._forgiven = self._forgiven, set()
            for prefix in forgiven:
                self._cache.forgive(prefix)
            for name, body in notes.items():
                self._try(partial(self._put, name, body))
            for subject, kept in saves.items():
                self._try(partial(self._cache.save, subject, *kept))
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
            else:
                self._saves[subject] = (revision, body, spared)

    def note(self, name: str, body: bytes) -> None:
        with self._lock:
            if self._ours:
                self._cache.note(name, body)
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
                self._cache.forget(name)
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

    def _try(self, write: Callable[[], None]) -> None:
        try:
            write()
        except Unavailable:
            self.failed += 1
