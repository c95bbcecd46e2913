"""The `Source` port in memory: an upstream that tests script, without sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from queue import SimpleQueue
from typing import Final

from holdfast.core.errors import HoldfastError, NotFound, Unavailable
from holdfast.core.model import Subject
from holdfast.ports import Fetched

_END: Final = None


class MemorySource:
    """Answers from what was `put`; with `error` set, every call raises it. Thread-safe enough."""

    def __init__(self, name: str = "memory") -> None:
        self.name = name
        self.error: HoldfastError | None = None
        self.asked = 0
        self._newest: dict[Subject, tuple[str, bytes, bytes]] = {}
        self._segments: dict[str, bytes] = {}
        self._streams: list[MemoryHints] = []

    def put(self, subject: Subject, digest: str, bundle: bytes, freshness: bytes = b"") -> None:
        """Hold a bundle as the newest, whatever it is."""
        self._newest[subject] = (digest, bundle, freshness)

    def put_segment(self, digest: str, table: bytes) -> None:
        self._segments[digest] = table

    def hint(self, subject: Subject, digest: str) -> None:
        """Tell all streams."""
        for stream in list(self._streams):
            stream.tell({subject: digest})

    def fail(self, error: HoldfastError | None) -> None:
        """Raise `error` from now on and end all streams; none to answer again."""
        self.error = error
        for stream in list(self._streams):
            stream.close()

    def within(self, total_s: float) -> None:
        """Memory answers at once."""

    def catalogue(self) -> Mapping[Subject, str]:
        self._answer()
        return {subject: digest for subject, (digest, _, _) in self._newest.items()}

    def snapshot(self, subject: Subject, have: str | None) -> Fetched:
        self._answer()
        if subject not in self._newest:
            raise NotFound(f"{self.name} has no {subject}")
        digest, bundle, freshness = self._newest[subject]
        return Fetched(None if digest == have else bundle, freshness)

    def segment(self, subject: Subject, digest: str) -> bytes:
        self._answer()
        if digest not in self._segments:
            raise NotFound(f"{self.name} has no segment {digest} of {subject}")
        return self._segments[digest]

    def hints(self) -> MemoryHints:
        self._answer()
        stream = MemoryHints()
        self._streams = [open_ for open_ in self._streams if not open_.ended] + [stream]
        return stream

    def close(self) -> None:
        self.fail(Unavailable(f"{self.name} is closed"))

    def _answer(self) -> None:
        self.asked += 1
        if self.error is not None:
            raise self.error


class MemoryHints:
    """The `Hints` port in memory."""

    def __init__(self) -> None:
        self.on_silence: Callable[[], None] = self.close
        self.ended = False
        self._told: SimpleQueue[Mapping[Subject, str] | None] = SimpleQueue()

    def tell(self, digests: Mapping[Subject, str]) -> None:
        self._told.put(digests)

    def __iter__(self) -> Iterator[Mapping[Subject, str]]:
        while (digests := self._told.get()) is not _END:
            yield digests

    def close(self) -> None:
        self.ended = True
        self._told.put(_END)
