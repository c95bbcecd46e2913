"""Shorter ways for requests whose head came before, byte for byte (`Request.kept`).

All that their head says was looked at when they came first. What may have changed since is asked
each time: the generation, the caller's right, the freshness. Where it has, there is no answer here,
and the request goes the long way, once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from holdfast.apps import ofrep
from holdfast.apps.distribute import Distribution, Ready
from holdfast.apps.edge.door import EdgeDoor, credential
from holdfast.apps.edge.table import Active, Table
from holdfast.apps.edge.tickets import Tickets
from holdfast.apps.http import Request, Response
from holdfast.core.model import Subject
from holdfast.core.targeting.outcome import Outcome

REFUSED: Final = frozenset({401, 403})


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
        self.function: Callable[[Mapping[str, Any]], Outcome] = active.evaluator.bounded(key)


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


class Bulk:
    """A path of a bulk evaluation that was routed before; `tail` is good as long as `ticket`."""

    __slots__ = ("active", "tail", "ticket")

    def __init__(self, active: Active) -> None:
        self.active = active
        self.ticket = ""
        self.tail: ofrep.Tail | None = None


class BulkWay:
    """All settings for one caller."""

    __slots__ = ("_bulk", "_counts", "_credential", "_door", "_epoch", "_had", "_table", "_tickets")

    def __init__(  # noqa: PLR0913 - all that may have changed since
        self,
        bulk: Bulk,
        request: Request,
        table: Table,
        door: EdgeDoor,
        *,
        tickets: Tickets,
        counts: Counts,
    ) -> None:
        headers = dict(request.headers)
        self._bulk = bulk
        self._credential = credential(headers)
        self._had = headers.get(b"if-none-match")
        self._table = table
        self._epoch = table.epoch
        self._door = door
        self._tickets = tickets
        self._counts = counts

    def __call__(self, request: Request) -> Response | None:
        bulk = self._bulk
        active, tail = bulk.active, bulk.tail
        if self._table.epoch != self._epoch or active.stale_age_s is not None:
            return None
        if not self._door.lets_read(self._credential, active.name):
            return None
        if tail is None or self._tickets.issue(active.name) is not bulk.ticket:
            return None
        self._counts.bulks += 1
        return ofrep.bulk(active, request.body, self._had, tail)


class RefusedWay:
    """A caller who was turned away is so again, as long as no tokens were learnt."""

    __slots__ = ("_answer", "_door", "_tokens")

    def __init__(self, answer: Response, door: EdgeDoor) -> None:
        self._answer = answer
        self._door = door
        self._tokens = door.tokens

    def __call__(self, _request: Request) -> Response | None:
        if self._door.tokens is not self._tokens:
            return None
        self._door.refused += 1
        return self._answer


class SnapshotWay:
    """One caller's look at one snapshot: the same answer, as long as the snapshot is the newest."""

    __slots__ = (
        "_answer", "_credential", "_distribution", "_door", "_edition", "_name", "_ready", "_seen",
        "_subject",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913 - all that it was made of
        self,
        request: Request,
        answer: Response,
        subject: Subject,
        *,
        ready: Ready,
        distribution: Distribution,
        door: EdgeDoor,
    ) -> None:
        self._subject = subject
        self._edition = distribution.edition
        self._seen: object = None
        self._ready = ready
        self._name = str(self._subject)
        self._credential = credential(dict(request.headers))
        self._answer = answer
        self._distribution = distribution
        self._door = door

    def __call__(self, _request: Request) -> Response | None:
        edition = self._edition
        if edition is None or edition.now is not self._seen:
            seen = edition.now if edition is not None else None
            if self._distribution.ready(self._subject) is not self._ready:
                return None
            self._seen = seen
        return self._answer if self._door.lets_read(self._credential, self._name) else None


def snapshot_way(
    request: Request, answer: Response, distribution: Distribution, door: EdgeDoor
) -> SnapshotWay | RefusedWay | None:
    """The way to the same answer again; none for an answer that is no snapshot's."""
    if answer.status in REFUSED:
        return RefusedWay(answer, door)
    if answer.status not in {200, 304} or not request.path.endswith("/snapshot"):
        return None
    _, environment, service, _ = request.path.split("/")
    subject = Subject(environment, service)
    ready = distribution.ready(subject)
    if ready is None or not ready.made(answer):  # another thread brings new ones
        return None
    return SnapshotWay(request, answer, subject, ready=ready, distribution=distribution, door=door)
