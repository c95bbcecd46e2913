"""How long a change waits for a store that stands still: less than a second, whatever it is.

An adapter's own time-outs bound one call, and a commit makes several. So it is looked at from
outside: every call to a store is counted as under way until its patience ends, and once one is late
whoever wants to write is told so. A change that waited is dropped; one that was in the middle of
its call may still be written, and its author reads the head, as after any lost answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final, TypeVar, cast

import msgspec

from holdfast.apps.control.parts import Parts
from holdfast.core.errors import Unavailable

PATIENCE_S: Final = 0.7
"""For one call: with what surrounds it, a caller has his answer within a second."""
BODY_BYTES_PER_S: Final = 8 * 1024 * 1024
"""Large bodies have more time, by this rate."""
LOOK_S: Final = 0.05
_FREE: Final = frozenset({"all", "append_all", "close", "save_checkpoint", "watch"})
"""Calls that no change waits for, or that take long by themselves."""

T = TypeVar("T")
Port = TypeVar("Port")


class Stalls:
    """Calls under way, and who is told of those that are late. `given_up` counts the told ones.

    `call` is for any thread, `bound` for the event loop.
    """

    def __init__(
        self, now_s: Callable[[], float] = time.monotonic, patience_s: float = PATIENCE_S
    ) -> None:
        self._now_s = now_s
        self._patience_s = patience_s
        self._due: dict[object, float] = {}
        self.given_up = 0

    @property
    def late(self) -> bool:
        """Whether a call has been under way for longer than it may."""
        now_s = self._now_s()
        return any(due_s < now_s for due_s in tuple(self._due.values()))

    @contextlib.contextmanager
    def call(self, body_bytes: int = 0) -> Iterator[None]:
        """A call to a store, of a body that large."""
        this = object()
        self._due[this] = self._now_s() + self._patience_s + body_bytes / BODY_BYTES_PER_S
        try:
            yield
        finally:
            del self._due[this]

    def timed_parts(self, parts: Parts) -> Parts:
        """The parts, the calls counted of all that a change is made with."""
        return msgspec.structs.replace(
            parts,
            journal=self.timed(parts.journal),
            blobs=self.timed(parts.blobs),
            proposals=self.timed(parts.proposals),
            digests=self.timed(parts.digests),
        )

    def timed(self, port: Port) -> Port:
        """The port, its calls counted."""
        return cast("Port", _Timed(port, self))

    async def bound(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What `work` comes to. Raises `Unavailable` once a call is late."""
        self._guard()
        task = asyncio.create_task(work())
        try:
            while not (await asyncio.wait({task}, timeout=LOOK_S))[0]:
                self._guard()
            return await task
        finally:
            task.cancel()

    def _guard(self) -> None:
        if self.late:
            self.given_up += 1
            raise Unavailable(
                "the store stands still: whether this was written, its head will tell"
            )


class _Timed:
    """Any port, each of its calls counted while it is under way."""

    def __init__(self, port: object, stalls: Stalls) -> None:
        self._port = port
        self._stalls = stalls

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if name in _FREE or not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            body_bytes = sum(len(each) for each in args if isinstance(each, bytes))
            with self._stalls.call(body_bytes):
                answer = found(*args, **kwargs)
            return self._each(answer) if isinstance(answer, Iterator) else answer

        setattr(self, name, call)
        return call

    def _each(self, answers: Iterator[T]) -> Iterator[T]:
        """What comes piece by piece is a call a piece; who takes the pieces has all time."""
        while True:
            with self._stalls.call():
                try:
                    answer = next(answers)
                except StopIteration:
                    return
            yield answer
