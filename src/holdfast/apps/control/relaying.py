"""What only the node that leads can judge reaches it, whichever node it came to.

Reports are kept here too, so that this node knows them if it leads next, and owed to the leader
until it took them. Views of the fleet and of rollouts are asked of the leader, who has heard all;
without one this node tells what it knows itself. Both go one hop, never two.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from holdfast.adapters.http_relay import HOP, HttpRelay, Relayed
from holdfast.apps import http
from holdfast.apps.asgi import App, Receive, Scope, Send, send_whole
from holdfast.apps.control.door import known
from holdfast.apps.control.leader import Leader
from holdfast.apps.http import NO_STORE, Response
from holdfast.apps.observe import logger
from holdfast.core.errors import HoldfastError
from holdfast.core.reports import ConsumerReport
from holdfast.engine.owed import Owed

GAP_S: Final = 0.25
"""Least time between two rounds of reports."""
REST_S: Final = 1.0
"""After a leader that did not answer."""
ASKERS: Final = 4
"""Views asked of the leader at once; one more is answered from here."""
NODE_HEADER: Final = b"holdfast-answered-by"

_HOP: Final = HOP.encode()
_VIEWS: Final = re.compile(r"/v1/(fleet|rollouts(/[\w.-]+)?)")
_log = logger("holdfast.leader")


class Relaying(Collector):
    """Hands reports to the leader. Thread-safe. `sent`, `refused` and `failed` count."""

    def __init__(self, leader: Leader) -> None:
        self._leader = leader
        self._owed = Owed()
        self._line: HttpRelay | None = None
        self._closed = threading.Event()
        self._news = threading.Event()
        self._thread = threading.Thread(target=self._run, name="holdfast-relay", daemon=True)
        self._told = False
        self.sent = self.refused = self.failed = 0

    def owe(self, token: str, reports: Sequence[ConsumerReport]) -> None:
        """Reports that were taken here, and that the leader is to hear of."""
        if not self._leader.leads:
            self._owed.put(token, reports)
            self._news.set()

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._news.set()
        if self._thread.is_alive():
            self._thread.join(REST_S)

    def _run(self) -> None:
        while not self._closed.is_set():
            self._news.wait()
            self._news.clear()
            self._closed.wait(GAP_S if self._hand_over() else REST_S)
            if len(self._owed):
                self._news.set()

    def _hand_over(self) -> bool:
        """Send all that is owed; whether the leader took it."""
        self._leader.look()
        if self._leader.leads:
            self._owed.take()  # this node has heard all of it
            return True
        url = self._leader.elsewhere
        if not url:
            return False  # nobody leads that it knows of
        owed = self._owed.take()
        if self._line is None or self._line.base_url != url:
            if self._line is not None:
                self._line.close()
            self._line = HttpRelay(url)
        while owed:
            token, reports = owed[0]
            try:
                self.refused += self._line.report(token, reports)
            except HoldfastError as error:
                self._missed(url, error)
                for each in owed:
                    self._owed.put(*each)
                return False
            self.sent += len(reports)
            self._told = False
            del owed[0]
        return True

    def _missed(self, url: str, error: HoldfastError) -> None:
        self.failed += 1
        if not self._told:
            self._told = True
            _log.warning("reports do not reach the node that leads", url=url, why=str(error))

    def describe(self) -> list[Metric]:
        """Nothing before the first scrape."""
        return []

    def collect(self) -> Iterator[Metric]:
        for name, what, count in (
            ("sent", "Reports handed to the node that leads.", self.sent),
            ("refused", "Batches of reports that it refused.", self.refused),
            ("failed", "Rounds of reports that did not reach it.", self.failed),
            ("dropped", "Reports for it that a bound pushed out.", self._owed.dropped),
        ):
            yield CounterMetricFamily(f"holdfast_relayed_reports_{name}", what, value=count)
        what = "Consumers whose newest report waits for the node that leads."
        yield GaugeMetricFamily("holdfast_relayed_reports_waiting", what, value=len(self._owed))


class AtLeader:
    """ASGI around the API: views of what only the leader has heard are asked of it.

    `head` is the newest revision here: the leader catches up with it first, so that who wrote here
    sees it there. What it refuses, this node looks at by itself.
    """

    def __init__(self, app: App, leader: Leader, head: Callable[[], int]) -> None:
        self._app = app
        self._leader = leader
        self._head = head
        self._askers = ThreadPoolExecutor(ASKERS, thread_name_prefix="holdfast-asker")
        self._asking = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            try:
                return await self._app(scope, receive, send)
            finally:
                self._askers.shutdown(wait=False, cancel_futures=True)
        url = self._leader.elsewhere
        if url and self._asking < ASKERS and _is_view(scope):
            answer = await self._asked(url, scope)
            if answer is not None:
                return await send_whole(answer, send)
        return await self._app(scope, receive, send)

    async def _asked(self, url: str, scope: Scope) -> Response | None:
        """The leader's answer; none when it has none to give."""
        query = scope["query_string"].decode("latin-1")  # of two revisions the first one counts
        target = f"{scope['path']}?at_least={self._head()}" + (f"&{query}" if query else "")
        token = http.token_text(scope["headers"]) or ""
        self._asking += 1
        try:
            answer = await asyncio.get_running_loop().run_in_executor(
                self._askers, _ask, url, target, token
            )
        except HoldfastError:
            return None
        finally:
            self._asking -= 1
        if answer.status != 200:
            return None
        headers = [(b"content-type", answer.content_type.encode("latin-1")), NO_STORE]
        return Response(
            answer.status, [*headers, (NODE_HEADER, url.encode("latin-1"))], answer.body
        )


def _is_view(scope: Scope) -> bool:
    """A read that the leader answers better, of a caller whom this node knows as well."""
    return (
        scope["type"] == "http"
        and scope["method"] == "GET"
        and _VIEWS.fullmatch(scope["path"]) is not None
        and known(scope) is not None
        and not any(name == _HOP for name, _ in scope["headers"])
    )


def _ask(url: str, target: str, token: str) -> Relayed:
    line = HttpRelay(url)
    try:
        return line.ask("GET", target, token)
    finally:
        line.close()
