"""Which subject a process evaluates at this moment, where it is found after its death.

A worker writes a number into memory that it shares with its parent before it evaluates, and 0 when
the answer is there: two stores. Who dies in between leaves the number behind, and the
parent knows which generation it died on. It is no file: to map one would make the process die of a
disk that fails.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping, MutableSequence
from typing import Any, Final, cast

from holdfast.core.model import Subject
from holdfast.core.sampling import Sampler
from holdfast.sdk.follower import draw

SUBJECTS_MAX: Final = 4_000
"""Subjects told apart; a death on another one is nobody's."""
ENTRY_BYTES: Final = 256


class NotedSampler(Sampler):
    """A sampler that is asked before each evaluation, and notes of which subject it is."""

    __slots__ = ("_doing", "_number")

    def __init__(self, subject: Subject, doing: MutableSequence[int], number: int) -> None:
        super().__init__(subject, draw)
        self._doing = doing
        self._number = number

    def offer(self, context: Mapping[str, Any]) -> None:
        self._doing[0] = self._number
        self._offered += 1
        if self._offered >= self._next:
            self._take_in(context)


class Doing:
    """One worker's memory. The worker names subjects and notes; the parent asks what it died on."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, (SUBJECTS_MAX + 1) * ENTRY_BYTES)
        self._numbers: dict[Subject, int] = {}
        # A view has what a sequence has that is set by index, and is none by type.
        self.now = cast("MutableSequence[int]", memoryview(self._memory).cast("I"))

    def sampler(self, subject: Subject) -> NotedSampler:
        """For all generations of the subject."""
        return NotedSampler(subject, self.now, self._numbers.get(subject, 0))

    def name(self, subject: Subject, digest: str) -> None:
        """From now on an evaluation of the subject is one of this generation."""
        text = f"{subject} {digest}\n".encode()
        number = self._numbers.setdefault(subject, len(self._numbers) + 1)
        if number > SUBJECTS_MAX or len(text) > ENTRY_BYTES:
            self._numbers[subject] = 0
        elif number:
            at = number * ENTRY_BYTES
            self._memory[at : at + len(text)] = text

    def left(self) -> tuple[Subject, str] | None:
        """The generation that the last process evaluated when it ended; none if it did not."""
        number, self.now[0] = self.now[0], 0
        if not 0 < number <= SUBJECTS_MAX:
            return None
        at = number * ENTRY_BYTES
        line = self._memory[at : at + ENTRY_BYTES].partition(b"\n")[0].decode(errors="replace")
        name, _, digest = line.partition(" ")
        environment, _, service = name.partition("/")
        return (Subject(environment, service), digest) if digest else None
