"""Read-your-writes: a node that is asked `at_least=REVISION` catches up first, or says it can't.

Nodes follow one journal, each at its own pace: what one has committed, another may not have read
yet. Whoever knows a revision (every answer carries one, `Holdfast-Revision`) gets no answer from
before it by sending it along, whichever node he asks.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Final

from holdfast.apps import http
from holdfast.apps.asgi import App, Message, Receive, Scope, Send, send_whole
from holdfast.apps.control.door import TokenDoor, known, remember
from holdfast.apps.distribute import REVISION_HEADER
from holdfast.core.errors import Behind, CallerError, HoldfastError, Unavailable
from holdfast.core.limits import SAFE_INTEGER_MAX

WAIT_S: Final = 3.0
"""The longest that a request waits for its node to catch up: above one round trip that times out
at the store (2 s), below what a caller has patience for."""
RETRY_S: Final = 0.05
"""Between two tries while the store does not answer."""

_ASKED: Final = re.compile(rb"(?:^|&)at_least=([^&]*)")
_REVISION: Final = re.compile(rb"[0-9]{1,16}")
_READS: Final = frozenset({"GET", "HEAD"})


class Abreast:
    """ASGI around a control plane's application, inside of what authenticates (`traffic`).

    `head` is the newest revision that this node has taken, `catch_up` takes all that the journal
    has. However many wait, one catching up is under way at a time.
    """

    def __init__(  # noqa: PLR0913  # every part by name
        self,
        app: App,
        *,
        door: TokenDoor,
        head: Callable[[], int],
        catch_up: Callable[[], Awaitable[None]],
        refused: Callable[[str], None],
        wait_s: float = WAIT_S,
    ) -> None:
        self._app = app
        self._door = door
        self._head = head
        self._catch_up = catch_up
        self._refused = refused
        self._wait_s = wait_s
        self._task: asyncio.Future[None] | None = None
        self._started = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        if b"at_least=" in scope["query_string"]:
            try:
                await self._wait(scope)
            except HoldfastError as error:
                self._refused(error.code)
                return await send_whole(http.error_response(error), send)
        return await self._app(scope, receive, self._telling(scope, send))

    async def _wait(self, scope: Scope) -> None:
        """Raises `Behind`, `NotReproducible`, and `CallerError` for what is no revision."""
        asked = _ASKED.search(scope["query_string"])
        if asked is None:
            return
        if not _REVISION.fullmatch(asked[1]) or int(asked[1]) > SAFE_INTEGER_MAX:
            raise CallerError("`at_least` is no revision: give a number, as commits answer it")
        revision = int(asked[1])
        if self._head() >= revision:
            return
        if known(scope) is None:
            # Perhaps a token that was made just now: looked up again, and nobody waits for more.
            await self._reach(revision, rounds_max=1)
            remember(scope, self._door)
            return
        fault = await self._reach(revision)
        if self._head() < revision:
            raise Behind(revision, self._head(), fault)

    async def _reach(self, revision: int, rounds_max: int | None = None) -> bool:
        """Until this node has `revision`, or knows that the journal has not; whether it ended for
        the store's sake, which did not answer in time.
        """
        came, rounds, heard = self._started, 0, False
        try:
            async with asyncio.timeout(self._wait_s):
                while self._head() < revision and rounds != rounds_max:
                    rounds += 1
                    catching = self._catching()
                    fresh = self._started > came  # it reads the journal as it is by now
                    try:
                        await asyncio.shield(catching)
                    except Unavailable:
                        await asyncio.sleep(RETRY_S)
                    else:
                        heard = fresh
                        if fresh:
                            break
        except TimeoutError:
            pass
        return not heard

    def _catching(self) -> asyncio.Future[None]:
        if self._task is None or self._task.done():
            self._started += 1
            self._task = asyncio.ensure_future(self._catch_up())
            self._task.add_done_callback(_looked_at)
        return self._task

    def _telling(self, scope: Scope, send: Send) -> Send:
        """A `send` that adds the revision: of a read, the one it can't be older than."""
        before = self._head() if scope["method"] in _READS else None

        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message.get("headers", ())
                if all(name != REVISION_HEADER for name, _ in headers):
                    revision = self._head() if before is None else before
                    told = (REVISION_HEADER, b"%d" % revision)
                    message = {**message, "headers": [*headers, told]}
            await send(message)

        return telling


def _looked_at(task: asyncio.Future[None]) -> None:
    """Those who waited may all be gone; what failed then is nobody's surprise."""
    if not task.cancelled():
        task.exception()
