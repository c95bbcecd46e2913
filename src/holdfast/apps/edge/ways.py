"""Shorter ways for requests whose head came before, byte for byte (`Request.kept`).

All that their head says was looked at when they came first. What may have changed since is asked
each time: the generation, the caller's right, the freshness. Where it has, there is no answer here,
and the request goes the long way, once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from holdfast.apps import ofrep
from holdfast.apps.distribute import Distribution
from holdfast.apps.edge.door import EdgeDoor, credential
from holdfast.apps.edge.table import Active, Table
from holdfast.apps.http import Request, Response
from holdfast.core.model import Subject
from holdfast.core.targeting.outcome import Outcome


class Counts:
    """What the routes count, as plain numbers; rendered on scrape."""

    __slots__ = ("bulks", "ecs_reads", "evaluations", "memo_clears", "stale_answers")

    def __init__(self) -> None:
        self.evaluations = 0
        self.bulks = 0
        self.ecs_reads = 0
        self.stale_answers = 0
        self.memo_clears = 0


class Single:
    """A path of a single evaluation that was routed before."""

    __slots__ = ("active", "function", "key")

    def __init__(self, active: Active, key: str) -> None:
        self.active = active
        self.key = key
        self.function: Callable[[Mapping[str, Any]], Outcome] = active.evaluator.function(key)


class SingleWay:
    """One setting for one caller: a decode, the setting's function, the outcome's own answer."""

    __slots__ = ("_active", "_counts", "_credential", "_door", "_epoch", "_function", "_table")

    def __init__(
        self, single: Single, request: Request, table: Table, door: EdgeDoor, counts: Counts
    ) -> None:
        self._function = single.function
        self._active = single.active
        self._credential = credential(dict(request.headers))
        self._table = table
        self._epoch = table.epoch
        self._door = door
        self._counts = counts

    def __call__(self, request: Request) -> Response | None:
        active = self._active
        if self._table.epoch != self._epoch or active.stale_age_s is not None:
            return None
        if not self._door.lets_read(self._credential, active.name):
            return None
        try:
            context = ofrep.read_context(request.body)
        except ofrep.BadContext:
            return None
        self._counts.evaluations += 1
        active.sampler.offer(context)
        return ofrep.answer(active, self._function(context))


class SnapshotWay:
    """One caller's look at one snapshot: the same answer, as long as the snapshot is the newest."""

    __slots__ = ("_answer", "_credential", "_distribution", "_door", "_name", "_ready", "_subject")

    def __init__(
        self, request: Request, answer: Response, distribution: Distribution, door: EdgeDoor
    ) -> None:
        _, environment, service, _ = request.path.split("/")
        self._subject = Subject(environment, service)
        self._ready = distribution.ready(self._subject)
        self._name = str(self._subject)
        self._credential = credential(dict(request.headers))
        self._answer = answer
        self._distribution = distribution
        self._door = door

    def __call__(self, _request: Request) -> Response | None:
        if self._distribution.ready(self._subject) is not self._ready:
            return None
        return self._answer if self._door.lets_read(self._credential, self._name) else None


def snapshot_way(
    request: Request, answer: Response, distribution: Distribution, door: EdgeDoor
) -> SnapshotWay | None:
    """The way to the same answer again; none for an answer that is no snapshot's."""
    if answer.status not in {200, 304} or not request.path.endswith("/snapshot"):
        return None
    return SnapshotWay(request, answer, distribution, door)
