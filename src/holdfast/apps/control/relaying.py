"""What only the node that leads can judge reaches it, whichever node it came to.

Reports are kept here too, so that this node knows them if it leads next, and owed to the leader
until it took them. Views of the fleet and of rollouts are asked of the leader, who has heard all;
without one, or while that one hangs, this node tells what it knows itself, and says so. Both go one
hop, never two.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from holdfast.adapters.http_relay import HOP, HttpRelay, Relayed
from holdfast.apps import http
from holdfast.apps.asgi import App, Message, Receive, Scope, Send, send_whole
from holdfast.apps.control.door import known
from holdfast.apps.control.leader import Leader
from holdfast.apps.http import NO_STORE, Response
from holdfast.apps.observe import logger
from holdfast.core.errors import CallerError, HoldfastError
from holdfast.core.reports import ConsumerReport
from holdfast.engine.owed import Owed
from holdfast.ports import Clock

GAP_S: Final = 0.25
"""Least time between two rounds of reports."""
REST_S: Final = 1.0
"""After a leader that did not answer, or did not take all."""
UNKNOWN_S: Final = 30.0
"""For so long the leader may not know what a token of this node's may: it has not read it yet."""
TOKENS_MAX: Final = 1_024
"""Such tokens remembered; beyond that the longest known one is tried anew."""
HANGS_S: Final = 10.0
"""After a view that the leader did not answer in time, the next one is asked of it."""
ASKERS: Final = 4
"""Views asked of the leader at once; one more is answered from here."""
NODE_HEADER: Final = b"holdfast-answered-by"
ALONE_HEADER: Final = b"holdfast-alone"
"""On a view from a node that does not lead: it told what it heard itself."""

_HOP: Final = HOP.encode()
_VIEWS: Final = re.compile(r"/v1/(fleet|rollouts(/[\w.-]+)?)")
_log = logger("holdfast.leader")


class Relaying(Collector):
    """Hands reports to the leader. Thread-safe. `sent`, `refused`, `failed` and `alone` count.

    `head` is the newest revision here: the leader reads so far before it refuses a token for good.
    """

    def __init__(
        self, leader: Leader, head: Callable[[], int], clock: Clock = time.monotonic
    ) -> None:
        self._leader = leader
        self._head = head
        self._clock = clock
        self._owed = Owed()
        self._unknown: OrderedDict[str, float] = OrderedDict()
        self._line: HttpRelay | None = None
        self._closed = threading.Event()
        self._news = threading.Event()
        self._thread = threading.Thread(target=self._run, name="holdfast-relay", daemon=True)
        self._told = False
        self.sent = self.refused = self.failed = self.alone = 0

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
            self._closed.wait(GAP_S if self._round() else REST_S)
            if len(self._owed):
                self._news.set()

    def _round(self) -> bool:
        """As `_hand_over`; what nobody foresaw ends no thread."""
        try:
            return self._hand_over()
        except Exception as error:  # noqa: BLE001  whatever it is: else no report went there any more
            self.failed += 1
            _log.error("reports can't be handed to the node that leads", exc_info=error)
            return False

    def _hand_over(self) -> bool:
        """Send all that is owed; whether nothing is owed any more."""
        self._leader.look()
        if self._leader.leads:
            self._owed.take()  # this node has heard all of it
            return True
        url = self._leader.elsewhere
        if not url:
            return False  # nobody leads that it knows of
        owed, kept = self._owed.take(), list[tuple[str, Sequence[ConsumerReport]]]()
        try:
            while owed:
                token, reports = owed.pop()
                try:
                    settled = self._settled(url, token, reports)
                except HoldfastError as error:
                    self._missed(url, error)
                    owed.append((token, reports))
                    break
                if not settled:
                    kept.append((token, reports))
        finally:
            for each in (*owed, *kept):
                self._owed.put(*each)
        return not owed and not kept

    def _line_to(self, url: str) -> HttpRelay:
        if self._line is None or self._line.base_url != url:
            if self._line is not None:
                self._line.close()
            self._line = HttpRelay(url)
        return self._line

    def _settled(self, url: str, token: str, reports: Sequence[ConsumerReport]) -> bool:
        """Whether they need not be sent again. Raises `Unavailable`.

        A token that was made, or may more, since a moment ago may be unknown to the leader: it is
        told how far to read, and if it refuses still, tried again for `UNKNOWN_S`.
        """
        try:
            refused = self._reported(self._line_to(url), token, reports)
        except CallerError:
            now_s = self._clock()
            if now_s - self._unknown.setdefault(token, now_s) < UNKNOWN_S:
                return False
            self.refused += 1
            return True
        finally:
            while len(self._unknown) > TOKENS_MAX:
                self._unknown.popitem(last=False)
        self._unknown.pop(token, None)
        self.refused += refused
        self.sent += len(reports)
        self._told = False
        return True

    def _reported(self, line: HttpRelay, token: str, reports: Sequence[ConsumerReport]) -> int:
        try:
            return line.report(token, reports)
        except CallerError:
            return line.report(token, reports, at_least=self._head())

    def count_alone(self) -> None:
        """A view was answered here, and this node does not lead."""
        self.alone += 1

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
            ("refused", "Batches of reports that it refused for good.", self.refused),
            ("failed", "Rounds of reports that did not reach it.", self.failed),
            ("dropped", "Reports for it that a bound pushed out.", self._owed.dropped),
        ):
            yield CounterMetricFamily(f"holdfast_relayed_reports_{name}", what, value=count)
        what = "Views answered from what this node heard, which does not lead."
        yield CounterMetricFamily("holdfast_views_alone", what, value=self.alone)
        what = "Consumers whose newest report waits for the node that leads."
        yield GaugeMetricFamily("holdfast_relayed_reports_waiting", what, value=len(self._owed))


class Circuit:
    """Whether to ask somebody who may hang; seconds on any clock that never goes back.

    Once he did not answer nobody asks him for `HANGS_S`. Then one does, and all others wait for
    what comes of that.
    """

    def __init__(self) -> None:
        self._until_s: float | None = None

    def asks(self, now_s: float) -> bool:
        """Whether to ask him now; who is told so, asks."""
        if self._until_s is not None:
            if now_s < self._until_s:
                return False
            self._until_s = now_s + HANGS_S
        return True

    def ended(self, now_s: float, *, answered: bool) -> None:
        """What came of a question."""
        self._until_s = None if answered else now_s + HANGS_S


class AtLeader:
    """ASGI around the API: views of what only the leader has heard are asked of it.

    `head` is the newest revision here: the leader catches up with it first, so that who wrote here
    sees it there. What it refuses, or does not answer, this node looks at by itself, says so in the
    answer, and calls `alone`.
    """

    def __init__(
        self,
        app: App,
        leader: Leader,
        head: Callable[[], int],
        alone: Callable[[], None],
        clock: Clock = time.monotonic,
    ) -> None:
        self._app = app
        self._leader = leader
        self._head = head
        self._alone = alone
        self._clock = clock
        self._circuit = "", Circuit()
        self._askers = ThreadPoolExecutor(ASKERS, thread_name_prefix="holdfast-asker")
        self._asking = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            try:
                return await self._app(scope, receive, send)
            finally:
                self._askers.shutdown(wait=False, cancel_futures=True)
        if self._leader.shared and not self._leader.leads and _is_view(scope):
            url = self._leader.elsewhere
            if url and self._asking < ASKERS and self._circuit_of(url).asks(self._clock()):
                answer = await self._asked(url, scope)
                if answer is not None:
                    return await send_whole(answer, send)
            self._alone()
            send = _labelled(send, self._leader.url)
        return await self._app(scope, receive, send)

    def _circuit_of(self, url: str) -> Circuit:
        """That of the node which leads; of another one nothing is known."""
        if self._circuit[0] != url:
            self._circuit = url, Circuit()
        return self._circuit[1]

    async def _asked(self, url: str, scope: Scope) -> Response | None:
        """The leader's answer; none when it has none to give."""
        circuit = self._circuit_of(url)
        query = scope["query_string"].decode("latin-1")  # of two revisions the first one counts
        target = f"{scope['path']}?at_least={self._head()}" + (f"&{query}" if query else "")
        token = http.token_text(scope["headers"]) or ""
        self._asking += 1
        try:
            answer = await asyncio.get_running_loop().run_in_executor(
                self._askers, _ask, url, target, token
            )
        except HoldfastError:
            circuit.ended(self._clock(), answered=False)
            return None
        finally:
            self._asking -= 1
        circuit.ended(self._clock(), answered=True)
        if answer.status != 200:
            return None
        headers = [(b"content-type", answer.content_type.encode("latin-1")), NO_STORE]
        return Response(
            answer.status, [*headers, (NODE_HEADER, url.encode("latin-1"))], answer.body
        )


def _labelled(send: Send, url: str) -> Send:
    """A `send` that says which node answers, and that it told what it heard itself."""

    async def labelled(message: Message) -> None:
        if message["type"] == "http.response.start":
            told = ((NODE_HEADER, url.encode("latin-1")), (ALONE_HEADER, b"1"))
            message = {**message, "headers": [*message.get("headers", ()), *told]}
        await send(message)

    return labelled


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
    with contextlib.closing(HttpRelay(url)) as line:
        return line.ask("GET", target, token)
