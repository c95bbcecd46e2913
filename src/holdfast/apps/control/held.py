"""What runs anywhere, where a change is checked: a node that follows asks the one that leads.

A change's schemas are held against the versions that consumers still run (`engine.held_versions`),
and only the leader has heard of all of them. So before a change is taken here it is asked, in the
name of the caller, for what he may write. Where it gave no answer the check is made with what this
node knows, and says so: nobody is to take it for a whole one.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import MappingProxyType
from typing import Final

import msgspec
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from holdfast.adapters.http_relay import HOP, HttpRelay
from holdfast.apps import http
from holdfast.apps.asgi import App, Receive, Scope, Send
from holdfast.apps.control.door import known
from holdfast.apps.control.fleet_schemas import RunningBody
from holdfast.apps.control.leader import Leader
from holdfast.core.access import Grant
from holdfast.core.compatibility import asks_history, remembers
from holdfast.core.errors import HoldfastError, Problem
from holdfast.core.state import State
from holdfast.engine.held_versions import Running
from holdfast.ports import Clock

PATH: Final = "/v1/running"
AGAIN_S: Final = 5.0
"""For so long an answer, or none, does for all changes of one token."""
FRESH_S: Final = 30.0
"""An answer older than this is none: the change waited for its turn, or the leader is away."""
WAIT_S: Final = 1.5
"""The longest that a change waits for the leader."""
ASKERS: Final = 2
ASKING_MAX: Final = 16
"""Questions under way or waiting; a change beyond that is checked with what is known."""
TOKENS_MAX: Final = 256
"""Tokens remembered, with when they were asked for."""

_RUNNING: Final = msgspec.json.Decoder(RunningBody)
_HOP: Final = HOP.encode()
_CHANGES: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_HARMLESS: Final = frozenset({"/v1/reports", "/v1/blobs", "/v1/explain", "/v1/can-deploy"})
"""Calls with a body that check no schema."""


class _Told(msgspec.Struct, frozen=True):
    asked_s: float
    whole: bool
    running: Running


class Held(Collector):
    """What the leader told of running versions. Thread-safe. `asked` and `failed` count.

    `settled()` says whether all consumers had time to report to this node since it began to lead.
    """

    def __init__(
        self,
        leader: Leader,
        settled: Callable[[], bool],
        clock: Clock = time.monotonic,
    ) -> None:
        self._leader = leader
        self._settled = settled
        self._clock = clock
        self._told: dict[str, _Told] = {}
        self._lock = threading.Lock()
        self.asked = self.failed = 0

    @property
    def whole(self) -> bool:
        """Whether this node has heard of all that runs, by itself."""
        return not self._leader.shared or (self._leader.leads and self._settled())

    def told(self, service: str) -> Running:
        """Revisions of a service that run elsewhere, as far as the leader told lately."""
        told = self._fresh(service)
        return MappingProxyType({}) if told is None else told.running

    def doubts(self, old: State, new: State) -> list[Problem]:
        """A warning, where the change was checked against less than all that runs."""
        if self.whole:
            return []
        found = [(name, self._fresh(name)) for name in asks_history(old, new)]
        lacking = [name for name, told in found if told is None or not told.whole]
        return [_doubt(lacking)] if lacking else []

    def ask(self, url: str, token: str, revision: int) -> None:
        """Ask the node at `url` in the name of one token, once it has read that revision. Waits; a
        failure is counted."""
        asked_s = self._clock()
        try:
            with contextlib.closing(HttpRelay(url)) as line:
                answer = line.ask("GET", f"{PATH}?at_least={revision}", token)
            body = _RUNNING.decode(answer.body)
        except (HoldfastError, msgspec.MsgspecError):
            self._count(failed=1)
            return
        self._count(asked=1)
        news = {
            service: _Told(asked_s, body.whole, {one.revision: one.by for one in running})
            for service, running in body.services.items()
        }
        with self._lock:
            kept = {name: told for name, told in self._told.items() if self._is_fresh(told)}
            self._told = kept | news

    def _count(self, asked: int = 0, failed: int = 0) -> None:
        with self._lock:
            self.asked += asked
            self.failed += failed

    def _fresh(self, service: str) -> _Told | None:
        told = self._told.get(service)
        return told if told is not None and self._is_fresh(told) else None

    def _is_fresh(self, told: _Told) -> bool:
        return self._clock() - told.asked_s <= FRESH_S

    def describe(self) -> list[Metric]:
        """Nothing before the first scrape."""
        return []

    def collect(self) -> Iterator[Metric]:
        for name, what, count in (
            ("asked", "Times that the leader told which versions run.", self.asked),
            ("failed", "Times that it was asked for that and did not tell.", self.failed),
        ):
            yield CounterMetricFamily(f"holdfast_running_versions_{name}", what, value=count)


class AskingLeader:
    """ASGI around the API: before a change is taken here, the leader is asked for what runs."""

    def __init__(
        self, app: App, leader: Leader, held: Held, state: Callable[[], State], clock: Clock
    ) -> None:
        self._app = app
        self._leader = leader
        self._held = held
        self._state = state
        self._clock = clock
        self._askers = ThreadPoolExecutor(ASKERS, thread_name_prefix="holdfast-held")
        self._asked: OrderedDict[tuple[str, str], tuple[float, Future[None]]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            try:
                return await self._app(scope, receive, send)
            finally:
                self._askers.shutdown(wait=False, cancel_futures=True)
        url = self._leader.elsewhere
        caller = known(scope) if _is_change(scope) else None
        if url and caller is not None and remembers(self._state()):
            asked = self._asking(url, caller, http.token_text(scope["headers"]) or "")
            if asked is not None:  # what is known when time is up has to do
                await asyncio.wait({asyncio.wrap_future(asked)}, timeout=WAIT_S)
        return await self._app(scope, receive, send)

    def _asking(self, url: str, caller: Grant, token: str) -> Future[None] | None:
        """A question of this token that is under way, or that was answered lately; none when too
        many wait."""
        now_s = self._clock()
        key = (url, caller.token)
        at_s, asked = self._asked.get(key, (now_s, None))
        if asked is not None and (not asked.done() or now_s - at_s < AGAIN_S):
            return asked
        if sum(not each.done() for _, each in self._asked.values()) >= ASKING_MAX:
            return None
        asked = self._askers.submit(self._held.ask, url, token, self._state().head.revision)
        self._asked[key] = (now_s, asked)
        self._asked.move_to_end(key)
        while len(self._asked) > TOKENS_MAX:
            self._asked.popitem(last=False)
        return asked


def _is_change(scope: Scope) -> bool:
    return (
        scope["type"] == "http"
        and scope["method"] in _CHANGES
        and scope["path"] not in _HARMLESS
        and not any(name == _HOP for name, _ in scope["headers"])
    )


def _doubt(services: list[str]) -> Problem:
    more = f" and {len(services) - 5} more" if len(services) > 5 else ""
    return Problem(
        code="running-unknown",
        message="this node does not know all versions that consumers of "
        f"{', '.join(services[:5])}{more} run: what it does not know was not checked",
        path="/services",
        hint="check the change again in half a minute, or at the node that leads",
        severity="warning",
    )
