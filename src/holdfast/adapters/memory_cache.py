"""The `Cache` port in memory: for tests, and for hosts without a disk."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from holdfast.core.model import Subject

GENERATIONS_KEPT = 3


class MemoryCache:
    """Lives as long as the process. `damaged` stays 0."""

    def __init__(self, kept: int = GENERATIONS_KEPT) -> None:
        self.damaged = 0
        self._kept = kept
        self._generations: dict[Subject, dict[int, bytes]] = {}
        self._noted: dict[str, bytes] = {}

    def load(self, subject: Subject) -> Iterator[bytes]:
        kept = self._generations.get(subject, {})
        yield from [kept[revision] for revision in sorted(kept, reverse=True)]

    def save(
        self, subject: Subject, revision: int, body: bytes, spared: Collection[int] = ()
    ) -> None:
        kept = {**self._generations.get(subject, {}), revision: body}
        stay = {*sorted(kept)[-self._kept :], *spared}
        self._generations[subject] = {n: kept[n] for n in kept if n in stay}

    def note(self, name: str, body: bytes) -> None:
        self._noted[name] = body

    def noted(self, name: str) -> bytes | None:
        return self._noted.get(name)

    def names(self, prefix: str) -> Sequence[str]:
        return sorted(name for name in list(self._noted) if name.startswith(prefix))

    def forget(self, name: str) -> None:
        self._noted.pop(name, None)

    def enter(self, name: str) -> None:
        """Nobody who dies here leaves anything behind: there is nothing to note."""

    def leave(self, name: str) -> None: ...

    def deaths(self, name: str) -> int:  # noqa: ARG002  the port's signature
        return 0

    def forgive(self, prefix: str) -> None: ...

    def subjects(self) -> Sequence[Subject]:
        return sorted(self._generations)
