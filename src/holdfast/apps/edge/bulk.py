"""All settings of one generation at once: answers encoded beforehand, chosen by one function.

The function is made in small pieces, on a thread that nobody waits for: before the generation
answers, when its predecessor was asked for all settings; else within a second of the first time
that it is asked (`build`). Until then each setting's own function answers, and those are compiled
before the generation answers.

A build in which all at once answer otherwise than each alone does not use what it has made: the
contexts of probes are tried on both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final, Generic, TypeVar

from holdfast.apps.edge.fragments import Part, fragment, joined, part
from holdfast.core.evaluate import Evaluator
from holdfast.core.probes import read
from holdfast.core.snapshot import Snapshot
from holdfast.core.targeting.fuse import Fused
from holdfast.core.targeting.outcome import Outcome

T = TypeVar("T")

TRIED_MAX: Final = 50
"""Contexts of probes that are tried."""


class AtOnce(Generic[T]):
    """All answers of one generation in one form.

    `asked`: somebody wanted them. `differs`: all at once would answer otherwise than each alone,
    and is not used.
    """

    __slots__ = ("_evaluator", "_join", "_render", "asked", "differs", "fused")

    def __init__(
        self,
        evaluator: Evaluator,
        render: Callable[[Outcome], T],
        join: Callable[[Iterable[T]], T],
    ) -> None:
        self._evaluator = evaluator
        self._render = render
        self._join = join
        self.fused: Fused[T] | None = None
        self.asked = False
        self.differs = False

    def whole(self, context: Mapping[str, Any]) -> T:
        """The answers of all settings, in order, joined.

        Raises `TooMuchWork` for a context in which that takes more than a request may.
        """
        self.asked = True
        context = self._evaluator.metered(context)
        if self.fused is not None:
            answers = self._join(self.fused(context))
        else:
            answers = self._one_by_one(context)
        self._evaluator.settle(context)
        return answers

    def fuse(self, contexts: Iterable[Mapping[str, Any]], pause: Callable[[], None]) -> None:
        """Make the function, and use it if it answers alike in these contexts.

        Takes some 0.1 ms of computing and 2 kB for each setting.
        """
        if self.fused is not None or self.differs:
            return
        fused = self._evaluator.fused(self._render, self._join, pause)
        for context in contexts:
            if self._join(fused(context)) != self._one_by_one(context):
                self.differs = True
                return
            pause()
        self.fused = fused

    def _one_by_one(self, context: Mapping[str, Any]) -> T:
        evaluator, render = self._evaluator, self._render
        return self._join([render(evaluator.function(key)(context)) for key in evaluator.keys()])  # noqa: SIM118


class Bulk:
    """All answers of one generation, as OFREP has them (`flags`: objects with commas between them)
    and as the ECS-shaped read does (`parts`).

    `equip` and `build` are for threads of the edge; answers are asked for on the event loop.
    """

    __slots__ = ("_evaluator", "_snapshot", "flags", "parts")

    def __init__(self, snapshot: Snapshot, evaluator: Evaluator) -> None:
        self._snapshot = snapshot
        self._evaluator = evaluator
        self.flags: AtOnce[bytes] = AtOnce(evaluator, fragment, b",".join)
        self.parts: AtOnce[Part] = AtOnce(evaluator, self._part, joined)

    @property
    def differs(self) -> bool:
        """See `AtOnce`, of either form."""
        return self.flags.differs or self.parts.differs

    def equip(self, before: Bulk | None, pause: Callable[[], None]) -> None:
        """Compile what will be asked for. `pause` lets other threads go on."""
        for key in self._evaluator.keys():  # noqa: SIM118 -- it is no dict
            self._evaluator.function(key)
            pause()
        if before is not None and before.flags.asked:
            self.flags.fuse(self._contexts(), pause)
        if before is not None and before.parts.asked:
            self.parts.fuse(self._contexts(), pause)

    def build(self, pause: Callable[[], None]) -> None:
        """Make what was asked for and isn't there yet."""
        if self.flags.asked:
            self.flags.fuse(self._contexts(), pause)
        if self.parts.asked:
            self.parts.fuse(self._contexts(), pause)

    def _part(self, outcome: Outcome) -> Part:
        return part(outcome, self._snapshot.setting(outcome.key).revision)

    def _contexts(self) -> Iterator[Mapping[str, Any]]:
        probes = self._snapshot.holdfast.probes
        every = (each.context for key, raw in probes.items() for each in read(key, raw))
        return islice(every, TRIED_MAX)
