"""What happens around every request: an id, a deadline, one line in the log, the metrics."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from secrets import token_hex
from time import perf_counter
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from holdfast.apps import http
from holdfast.apps.asgi import App, Message, Receive, Scope, Send, send_whole
from holdfast.apps.control.door import TokenDoor, known, remember
from holdfast.apps.listen import Bounds
from holdfast.apps.observe import REQUEST_BUCKETS_S, logger
from holdfast.engine.advance import Moved

REQUEST_S: Final = 30.0
"""From the head of a request to the head of its answer. Streams run on."""
UPLOAD_S: Final = 300.0
"""The same, for uploads of member lists."""
UPLOAD: Final = "/v1/blobs"
REQUEST_ID: Final = b"x-request-id"

_log = logger("holdfast.request")
_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_DATA_PLANE = re.compile(r"/[^/]+/[^/]+/(snapshot|segments/[^/]+)|/v1/(catalogue|stream)")
_HEALTH = ("/healthz", "/readyz", "/metrics")


class Metrics:
    """The control plane's own metrics. Labels are bounded: route templates, codes of errors."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.requests = Histogram(
            "holdfast_request_seconds",
            "From the head of a request to the end of its answer.",
            ["method", "route", "status"],
            buckets=REQUEST_BUCKETS_S,
            registry=registry,
        )
        self.refusals = Counter(
            "holdfast_refusals", "Requests refused, by error code.", ["code"], registry=registry
        )
        self.commits = Counter("holdfast_commits", "Changes committed.", registry=registry)
        self.conflicts = Counter(
            "holdfast_conflicts", "Commits refused: somebody else wrote first.", registry=registry
        )
        self.repeats = Counter(
            "holdfast_repeats",
            "Commits asked for again, and answered as the first time; they are conflicts, too.",
            registry=registry,
        )
        self.break_glass = Counter(
            "holdfast_break_glass",
            "Commits that skipped approval, freeze or waiting, by environment.",
            ["environment"],
            registry=registry,
        )
        self.scheduled = Counter(
            "holdfast_scheduled",
            "Scheduled commits, by outcome: committed, failed.",
            ["outcome"],
            registry=registry,
        )

        self.moves = Counter(
            "holdfast_rollout_moves",
            "Verdicts on rollouts that were committed, or (`failed`) could not be.",
            ["action"],
            registry=registry,
        )

    def moved(self, moved: Moved) -> None:
        """A rollout was moved by itself."""
        self.moves.labels("failed" if moved.error else moved.verdict.action).inc()

    def refused(self, code: str) -> None:
        self.refusals.labels(code).inc()

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A figure that is read when Prometheus asks."""
        Gauge(name, text, registry=self.registry).set_function(read)

    def limits(self, bounds: Bounds) -> None:
        """Tell of the listener's bounds, too."""
        self.registry.register(_Limits(bounds))


class _Limits(Collector):
    """The listener's bounds that were hit, and its open connections."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds

    def collect(self) -> Iterator[Metric]:
        hit = CounterMetricFamily("holdfast_limit_hits", "Bounds that were hit.", labels=["limit"])
        for limit, count in self._bounds.hits().items():
            hit.add_metric([limit], count)
        yield hit
        yield GaugeMetricFamily(
            "holdfast_connections", "Open connections.", value=len(self._bounds.connections)
        )


class Traffic:
    """ASGI around an application; `request_s` is the deadline of everything but streams."""

    def __init__(
        self, app: App, door: TokenDoor, metrics: Metrics, request_s: float = REQUEST_S
    ) -> None:
        self._app = app
        self._door = door
        self._metrics = metrics
        self._request_s = request_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started_s = perf_counter()
        remember(scope, self._door)
        answer = _Answer(send, _given_id(scope) or token_hex(8))
        try:
            await self._answer(scope, receive, answer)
        finally:
            self._report(scope, answer, perf_counter() - started_s)
        return None

    async def _answer(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        """Serve within the deadline; it is lifted as soon as the answer begins."""
        body = _Body(receive)
        try:
            within_s = UPLOAD_S if scope["path"] == UPLOAD else self._request_s
            async with asyncio.timeout(within_s) as deadline:
                answer.began = lambda: deadline.reschedule(None)
                await self._app(scope, body.receive, answer.send)
        except TimeoutError:
            if answer.status:
                raise
            answer.began = _nothing
            self._metrics.refused("timeout")
            late = (
                http.fault(503, "timeout", "no answer in time", headers=http.error_headers(503))
                if not body.awaited
                else http.fault(408, "timeout", "the body did not come in time")
            )
            await send_whole(late, answer.send)

    def _report(self, scope: Scope, answer: _Answer, took_s: float) -> None:
        route = _route(scope)
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.requests.labels(method, route, str(answer.status)).observe(took_s)
        caller = known(scope)
        (_log.debug if route in _HEALTH else _log.info)(
            "request",
            request_id=answer.request_id,
            token=caller.token if caller else None,
            method=method,
            route=route,
            status=answer.status,
            ms=round(took_s * 1000, 2),
        )


class _Body:
    """A `receive` that knows whether it was waited for when the time ran out."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.awaited = False

    async def receive(self) -> Message:
        self.awaited = True
        message = await self._receive()
        self.awaited = False
        return message


class _Answer:
    """A `send` that adds the request id, and keeps the status (0: no answer was sent)."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self.request_id = request_id
        self.status = 0
        self.began: Callable[[], None] = _nothing

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.began()
            headers = [*message.get("headers", ()), (REQUEST_ID, self.request_id.encode())]
            message = {**message, "headers": headers}
        await self._send(message)


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})


def _nothing() -> None:
    """No deadline to lift."""


def _given_id(scope: Any) -> str | None:
    for name, value in scope["headers"]:
        if name == REQUEST_ID and _ID.fullmatch(value):
            return str(value, "ascii")
    return None


def is_data_plane(path: str) -> bool:
    """Whether the path is a route of `apps.distribute`."""
    return _DATA_PLANE.fullmatch(path) is not None


def _route(scope: Scope) -> str:
    """The route's template: what a caller put into the path is no label."""
    template = scope.get("path_template")
    if template:
        return str(template)
    match = _DATA_PLANE.fullmatch(scope["path"])
    if match is None:
        return "unknown"
    if match[2]:
        return f"/v1/{match[2]}"
    return "/{environment}/{service}/" + ("snapshot" if match[1] == "snapshot" else "segments")
