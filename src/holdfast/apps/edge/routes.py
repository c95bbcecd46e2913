"""The edge's answer to a request, pure: `Routes.handle(request) -> Response | Stream`.

    POST /{environment}/{service}/ofrep/v1/evaluate/flags[/{key}]
    GET  /{environment}/{service}/ofrep/v1/stream
    GET  /config/v1/{client}/{version}
    POST /v1/reports
    POST /v1/push  GET /v1/push/{hash}
    GET  /healthz  /readyz  /metrics
    and those of `holdfast.apps.distribute`

The hot path is `_single`: one look-up by path gives the compiled setting, one by header value gives
the caller's right, one decode gives the context, and the outcome brings its encoded answer along.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol
from urllib.parse import parse_qs

import msgspec

from holdfast.apps import ecs, http, ofrep
from holdfast.apps.distribute import READ, Answer, Distribution
from holdfast.apps.edge.cors import Cors
from holdfast.apps.edge.door import EdgeDoor, credential
from holdfast.apps.edge.push import Pushes
from holdfast.apps.edge.relay import Relay
from holdfast.apps.edge.shard import Shard
from holdfast.apps.edge.table import Active, Table
from holdfast.apps.edge.tickets import Tickets
from holdfast.apps.edge.ways import (
    Bulk,
    BulkWay,
    Counts,
    RefusedWay,
    Single,
    SingleWay,
    snapshot_way,
)
from holdfast.apps.http import NO_STORE, Request, Response
from holdfast.apps.streams import HEARTBEAT, STREAM_HEADERS, Fanout, Refusal, Stream
from holdfast.core.errors import HoldfastError, NotFound, Unauthenticated, Unavailable
from holdfast.core.model import Subject
from holdfast.ports import Clock

SINGLES_MAX = 100_000
"""Paths remembered; only those of settings that there are get that far."""


class Health(Protocol):
    """What the process knows about itself."""

    def ready(self) -> tuple[bool, Mapping[str, Any]]:
        """Whether right answers come from here, and the facts behind that."""

    def expects(self, subject: Subject) -> bool:
        """Whether there is such a subject, and nothing of it can be answered from here now."""

    def metrics(self) -> tuple[bytes, str]:
        """The exposition and its content type."""


class Parts(msgspec.Struct, frozen=True):
    """What the routes are made of; `public_url` is where clients see this edge, if not here."""

    table: Table
    door: EdgeDoor
    distribution: Distribution
    refetches: Fanout
    relay: Relay
    pushes: Pushes
    tickets: Tickets
    cors: Cors
    health: Health
    clock: Clock
    shard: Shard = Shard()
    public_url: str = ""


class Routes:
    """All routes of an edge over its parts. Called on the event loop only."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._table = parts.table
        self._door = parts.door
        self._singles: dict[str, Single] = {}
        self._bulks: dict[str, Bulk] = {}
        self._epoch = -1
        self.counts = Counts()

    def handle(self, request: Request) -> Answer:
        """The answer to a request."""
        if self._epoch != self._table.epoch:
            self._epoch, self._singles, self._bulks = self._table.epoch, {}, {}
        single = self._singles.get(request.path)
        if single is not None and request.method == "POST":
            return self._single(single, request)
        bulk = self._bulks.get(request.path)
        if bulk is not None and request.method == "POST":
            return self._bulk(bulk, request)
        return self._route(request)

    def _single(self, single: Single, request: Request) -> Response:
        """The hot path: 3 look-ups, a decode and the setting's own function."""
        active = single.active
        headers = dict(request.headers)
        if not self._door.lets_read(credential(headers), active.name):
            refusal = self._refusal(request, active.subject)
            if refusal is not None:
                return self._refused(request, refusal, headers.get(b"origin"))
        try:
            context = ofrep.read_context(request.body)
        except ofrep.BadContext as error:
            answer = ofrep.failure(400, error.code, str(error), single.key)
        else:
            self.counts.evaluations += 1
            active.sampler.offer(context)
            answer = ofrep.answer(active, single.function(context))
        if active.stale_age_s is not None:
            answer = self._stale(active, answer)
        if b"origin" in headers:
            return self._readable(answer, headers[b"origin"])
        if request.kept:
            request.way = SingleWay(single, request, self._table, self._door, self.counts)
        return answer

    def _route(self, request: Request) -> Answer:  # noqa: PLR0911  one line each
        match request.path.split("/"):
            case ["", environment, service, "ofrep", "v1", *rest]:
                return self._ofrep(request, Subject(environment, service), rest)
            case ["", "config", "v1", client, version] if client and version:
                return _read_only(request) or self._ecs(request, client, version)
            case ["", "v1", "push", *_]:
                return self._parts.pushes.handle(request)
            case ["", "v1", "reports"]:
                return self._parts.relay.take(request)
            case ["", "healthz"]:
                return _read_only(request) or http.json_response({"ok": True}, headers=[NO_STORE])
            case ["", "readyz"]:
                return _read_only(request) or self._ready()
            case ["", "metrics"]:
                return _read_only(request) or self._metrics()
            case ["", environment, service, "snapshot" | "segments", *_]:
                elsewhere = self._parts.shard.elsewhere(Subject(environment, service))
                if elsewhere is not None:
                    return http.error_response(elsewhere)
        return self._distribute(request) or http.not_found(request.path)

    def _distribute(self, request: Request) -> Answer | None:
        answer = self._parts.distribution.handle(request)
        if request.kept and isinstance(answer, Response):
            request.way = snapshot_way(request, answer, self._parts.distribution, self._door)
        return answer

    def _ofrep(self, request: Request, subject: Subject, rest: list[str]) -> Answer:
        origin = request.header(b"origin")
        match rest:
            case ["evaluate", "flags", key]:
                method, answer = "POST", partial(self._first_single, request, subject, key)
            case ["evaluate", "flags"]:
                method, answer = "POST", partial(self._first_bulk, request, subject)
            case ["stream"]:
                return self._stream(request, subject, origin)
            case _:
                return http.not_found(request.path)
        if request.method == "OPTIONS":
            return self._parts.cors.preflight(origin)
        if request.method != method:
            return http.method_not_allowed(request.method, f"{method}, OPTIONS")
        refusal = self._refusal(request, subject)
        if refusal is not None:
            return self._refused(request, refusal, origin)
        return self._readable(answer(), origin)

    def _first_single(self, request: Request, subject: Subject, key: str) -> Response:
        """A path's first evaluation; afterwards `handle` knows the way."""
        active = self._table.get(subject)
        if active is None:
            return self._no_subject(subject, key)
        if not ofrep.is_key(key) or key not in active.evaluator:
            return ofrep.no_such_flag(key)
        if len(self._singles) >= SINGLES_MAX:
            self._singles.clear()
            self.counts.memo_clears += 1
        single = self._singles[request.path] = Single(active, key)
        without_origin = [header for header in request.headers if header[0] != b"origin"]
        return self._single(single, msgspec.structs.replace(request, headers=without_origin))

    def _first_bulk(self, request: Request, subject: Subject) -> Response:
        """As `_first_single`; there are as many paths as subjects."""
        active = self._table.get(subject)
        if active is None:
            return self._no_subject(subject, None)
        if len(self._bulks) >= SINGLES_MAX:
            self._bulks.clear()
            self.counts.memo_clears += 1
        bulk = self._bulks[request.path] = Bulk(active)
        without_origin = [header for header in request.headers if header[0] != b"origin"]
        return self._bulk(bulk, msgspec.structs.replace(request, headers=without_origin))

    def _bulk(self, bulk: Bulk, request: Request) -> Response:
        active = bulk.active
        headers = dict(request.headers)
        if not self._door.lets_read(credential(headers), active.name):
            refusal = self._refusal(request, active.subject)
            if refusal is not None:
                return self._refused(request, refusal, headers.get(b"origin"))
        self.counts.bulks += 1
        ticket = self._parts.tickets.issue(active.name)
        if bulk.tail is None or bulk.ticket is not ticket:
            bulk.ticket, bulk.tail = ticket, ofrep.tail(active, self._place(active, ticket))
        answer = ofrep.bulk(active, request.body, headers.get(b"if-none-match"), bulk.tail)
        if active.stale_age_s is not None:
            answer = self._stale(active, answer)
        if b"origin" in headers:
            return self._readable(answer, headers[b"origin"])
        if request.kept:
            request.way = BulkWay(
                bulk,
                request,
                self._table,
                self._door,
                tickets=self._parts.tickets,
                counts=self.counts,
            )
        return answer

    def _place(self, active: Active, ticket: str) -> dict[str, Any]:
        """Where changes are told, in OFREP's words."""
        uri = f"/{active.name}/ofrep/v1/stream?since={active.revision}&ticket={ticket}"
        if self._parts.public_url:
            return {"url": self._parts.public_url + uri}
        return {"endpoint": {"requestUri": uri}}

    def _stream(self, request: Request, subject: Subject, origin: bytes | None) -> Answer:
        if request.method != "GET":
            return http.method_not_allowed(request.method, "GET")
        query = parse_qs(request.query.decode("latin-1"))
        ticket = query.get("ticket", [""])[0]
        lifetime_s = self._parts.tickets.lifetime_s(str(subject), ticket)
        if lifetime_s is None:
            refusal = self._refusal(request, subject)
            if refusal is not None:
                return self._readable(refusal, origin)
        active = self._table.get(subject)
        if active is None:
            return self._readable(self._no_subject(subject, None), origin)
        sees = self._sees(request) if lifetime_s is None else _everything
        feed = self._parts.refetches.open(subject, sees, lifetime_s)
        if isinstance(feed, Refusal):
            refused = ofrep.failure(503, "GENERAL", feed.message).but(*feed.headers)
            return self._readable(refused, origin)
        seen = request.header(b"last-event-id") or query.get("since", [""])[0].encode("latin-1")
        missed = seen not in (b"", b"%d" % active.revision)
        headers = [*STREAM_HEADERS, *self._parts.cors.headers(origin)]
        return Stream(200, headers, feed, ofrep.refetch(active) if missed else HEARTBEAT)

    def _sees(self, request: Request) -> Callable[[Subject], bool]:
        """A ticket is good for its time; a token that was let in as long as nobody revokes it."""
        try:
            return self._door.sees(request.headers)
        except Unauthenticated:
            return _everything  # no token is known there, and reads are open

    def _ecs(self, request: Request, client: str, version: str) -> Response:
        try:
            question = ecs.read_question(client, version, request.query)
            agents = []
            for agent in question.agents:
                subject = Subject(question.environment, agent)
                self._door.admit(request.headers, "read", subject)
                agents.append((agent, self._table.get(subject)))
            if all(active is None for _, active in agents):
                subjects = [Subject(question.environment, agent) for agent in question.agents]
                raise self._missing(
                    f"none of {', '.join(question.agents)} is known here", *subjects
                )
        except HoldfastError as error:
            return http.error_response(error)
        self.counts.ecs_reads += 1
        return ecs.answer(question, agents, request, self._parts.clock())

    def _ready(self) -> Response:
        ready, facts = self._parts.health.ready()
        return http.json_response(facts, 200 if ready else 503, [NO_STORE])

    def _metrics(self) -> Response:
        body, content_type = self._parts.health.metrics()
        return Response(200, [(b"content-type", content_type.encode()), NO_STORE], body)

    def _refusal(self, request: Request, subject: Subject) -> Response | None:
        """Why the caller may not read there, in OFREP's shape; none when it may."""
        try:
            self._door.admit(request.headers, "read", subject)
        except HoldfastError as error:
            return ofrep.failure(http.status_of(error), "GENERAL", str(error))
        return None

    def _refused(self, request: Request, refusal: Response, origin: bytes | None) -> Response:
        answer = self._readable(refusal, origin)
        if request.kept:
            request.way = RefusedWay(answer, self._door)
        return answer

    def _no_subject(self, subject: Subject, key: str | None) -> Response:
        error = self._missing(f"there is no {subject} here", subject)
        code = "FLAG_NOT_FOUND" if isinstance(error, NotFound) else "GENERAL"
        return ofrep.failure(http.status_of(error), code, str(error), key)

    def _missing(self, message: str, *subjects: Subject) -> HoldfastError:
        # Before everything is loaded, "not here" would be a guess, and clients believe a 404. What
        # is there and was refused may be answered by another edge.
        health = self._parts.health
        if (elsewhere := self._parts.shard.elsewhere(*subjects)) is not None:
            return elsewhere
        if any(health.expects(subject) for subject in subjects):
            return Unavailable(f"{message} that can be believed")
        ready, _ = health.ready()
        return NotFound(message) if ready else Unavailable(f"{message} yet: this edge is starting")

    def _stale(self, active: Active, answer: Response) -> Response:
        self.counts.stale_answers += 1
        return answer.but(active.stale_header())

    def _readable(self, answer: Response, origin: bytes | None) -> Response:
        return answer if origin is None else self._parts.cors.allow(answer, origin)


def _read_only(request: Request) -> Response | None:
    """405 unless the request reads."""
    if request.method in READ:
        return None
    return http.method_not_allowed(request.method, ", ".join(READ))


def _everything(_subject: Subject) -> bool:
    return True
