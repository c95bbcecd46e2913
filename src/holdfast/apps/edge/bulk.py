"""All settings of one generation at once: answers encoded beforehand, chosen by one function.

The function is made on a thread that nobody waits for: before the generation answers, when its
predecessor was asked for all settings; else within a second of the first time that it is asked
(`build`). Until then each setting's own function answers, and those are compiled before the
generation answers.

A build in which all at once answer otherwise than each alone does not use what it has made: the
contexts of probes are tried on both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

from holdfast.apps.edge.fragments import fragment
from holdfast.core.evaluate import Evaluator
from holdfast.core.probes import read
from holdfast.core.snapshot import Snapshot
from holdfast.core.targeting.fuse import Fused

FUSED_MAX: Final = 5_000
"""Settings in one function: larger snapshots are evaluated setting by setting. To make it takes
0.1 ms of computing each, and some 10 kB."""
TRIED_MAX: Final = 50
"""Contexts of probes that are tried."""


class Bulk:
    """All answers of one generation.

    `equip` and `build` are for threads of the edge; the rest is called on the event loop.
    `differs`: all at once would answer otherwise than each alone, and is not used.
    """

    __slots__ = ("_asked", "_evaluator", "_fused", "_snapshot", "differs")

    def __init__(self, snapshot: Snapshot, evaluator: Evaluator) -> None:
        self._snapshot = snapshot
        self._evaluator = evaluator
        self._fused: Fused[bytes] | None = None
        self._asked = False
        self.differs = False

    def fragments(self, context: Mapping[str, Any]) -> list[bytes]:
        """OFREP's objects of all settings in order; an item may be several, joined by commas."""
        self._asked = True
        if self._fused is not None:
            return self._fused(context)
        return self._one_by_one(context)

    def equip(self, before: Bulk | None, pause: Callable[[], None]) -> None:
        """Compile what will be asked for. `pause` lets other threads go on."""
        for key in self._evaluator.keys():  # noqa: SIM118 -- it is no dict
            self._evaluator.function(key)
            pause()
        if before is not None and before._asked:  # noqa: SLF001 -- another of this class
            self._fuse(pause)

    def build(self, pause: Callable[[], None]) -> None:
        """Make the function, if all settings were asked for and it isn't there yet."""
        if self._asked and self._fused is None and not self.differs:
            self._fuse(pause)

    def _fuse(self, pause: Callable[[], None]) -> None:
        if len(self._evaluator) > FUSED_MAX:
            return
        fused = self._evaluator.fused(fragment, b",".join, pause)
        for context in islice(self._contexts(), TRIED_MAX):
            if b",".join(fused(context)) != b",".join(self._one_by_one(context)):
                self.differs = True
                return
            pause()
        self._fused = fused

    def _one_by_one(self, context: Mapping[str, Any]) -> list[bytes]:
        function = self._evaluator.function
        return [fragment(function(key)(context)) for key in self._evaluator.keys()]  # noqa: SIM118

    def _contexts(self) -> Iterator[Mapping[str, Any]]:
        for key, raw in self._snapshot.holdfast.probes.items():
            yield from (probe.context for probe in read(key, raw))
