"""The simulated clock: a heap of what is to happen, in the order of its time.

A heap of its own, since an event of `simpy` costs three times as much (ADR 015).
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Any, Final

TOLD_EVERY: Final = 20_000
"""Events between two words about progress."""


class Clock:
    """`now_s` is seconds since the fleet began. What is due at one time comes in the order in which
    it was asked for, so that a run is the same each time."""

    __slots__ = ("_heap", "_order", "events", "now_s")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._order = count()
        self.now_s = 0.0
        self.events = 0

    def at(self, at_s: float, act: Callable[..., object], *arguments: Any) -> None:
        """Call it then; at once, if that has passed."""
        heappush(self._heap, (max(at_s, self.now_s), next(self._order), act, arguments))

    def after(self, wait_s: float, act: Callable[..., object], *arguments: Any) -> None:
        self.at(self.now_s + wait_s, act, *arguments)

    def run(self, until_s: float, tell: Callable[[float], object]) -> None:
        """Let all happen that is due by then; `tell` hears the time once in a while."""
        heap = self._heap
        while heap and heap[0][0] <= until_s:
            self.now_s, _, act, arguments = heappop(heap)
            act(*arguments)
            self.events += 1
            if self.events % TOLD_EVERY == 0:
                tell(self.now_s)
        self.now_s = until_s
