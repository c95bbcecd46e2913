"""The ASGI face of a pure `handle(request) -> Response | Stream`: reads bodies, writes answers.

No framework and no middleware: on the hot path this is one coroutine, three awaits long. What it
adds to the answers is the content-length, and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, MutableSequence
from typing import Any, TypeAlias

from holdfast.apps import http
from holdfast.apps.http import Request, Response
from holdfast.apps.observe import logger
from holdfast.apps.streaming import Feed
from holdfast.apps.streams import Stream

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Handle: TypeAlias = Callable[[Request], "Response | Stream | None"]

BODY_S = 10.0
"""A body must be here this long after its head."""
BODILESS = frozenset({"GET", "HEAD", "OPTIONS"})
"""A body sent along with these is not read."""
EMPTY = frozenset({204, 304})
"""Answers without a body, and so without its length."""
CLOSE = (b"connection", b"close")

_log = logger("holdfast.asgi")


class Face:
    """An ASGI application over `handle`.

    What `handle` answers with none goes to `otherwise`, another ASGI application (404 without one):
    so the control plane mounts the data plane's routes before its own. Bodies beyond
    `body_bytes_max` are refused while they are read, and counted in `bodies_refused`.
    `answered[status]` counts answers.
    """

    def __init__(self, handle: Handle, body_bytes_max: int, otherwise: App | None = None) -> None:
        self._handle = handle
        self.body_bytes_max = body_bytes_max
        self._otherwise = otherwise
        self.answered: dict[int, int] = {200: 0}
        self.bodies_refused = 0
        self.doing: MutableSequence[int] = [0]
        """Set to 0 with every answer: what was noted there while it was made is over."""
        self.failures = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._pass_on(scope, receive, send)
        body = b""
        if self._otherwise is None and scope["method"] not in BODILESS:
            message = await receive()
            body = message.get("body", b"")
            if message.get("more_body") or len(body) > self.body_bytes_max:
                whole = await self._rest(body, receive)
                if not isinstance(whole, bytes):
                    return await self._refuse(whole, send)
                body = whole
        request = Request(
            scope["method"], scope["path"], scope["query_string"], scope["headers"], body
        )
        answer = self.answer(request)
        if answer is None:
            return await self._pass_on(scope, receive, send)
        if isinstance(answer, Stream):
            return await self.stream(answer, scope, receive, send)
        return await send_whole(answer, send)

    def answer(self, request: Request) -> Response | Stream | None:
        """The counted answer; none is for `otherwise`. Never raises."""
        way = request.way
        try:
            answer: Response | Stream | None = None if way is None else way(request)
            if answer is None:
                request.way = None
                answer = self._handle(request)
        except Exception:  # noqa: BLE001 -- the process goes on; the log has all of it
            self.failures += 1
            _log.exception("a request failed", method=request.method, path=request.path[:256])
            answer = http.fault(500, "system", "the system is at fault, not the call")
        self.doing[0] = 0
        if answer is not None:
            self.answered[answer.status] = self.answered.get(answer.status, 0) + 1
        return answer

    def count(self, status: int) -> None:
        self.answered[status] = self.answered.get(status, 0) + 1

    async def _rest(self, body: bytes, receive: Receive) -> bytes | Response | None:
        """The whole body, or a refusal; none when the client has gone."""
        parts, size = [body], len(body)
        try:
            async with asyncio.timeout(BODY_S):
                while size <= self.body_bytes_max:
                    message = await receive()
                    if message["type"] != "http.request":
                        return None
                    parts.append(message["body"])
                    size += len(message["body"])
                    if not message["more_body"]:
                        break
        except TimeoutError:
            return http.fault(
                408, "too-slow", f"the body took longer than {BODY_S:.0f} s", headers=[CLOSE]
            )
        if size <= self.body_bytes_max:
            return b"".join(parts)
        self.bodies_refused += 1
        message_text = f"a body may have {self.body_bytes_max} bytes"
        return http.fault(413, "too-large", message_text, headers=[CLOSE])

    async def _refuse(self, refusal: Response | None, send: Send) -> None:
        if refusal is not None:
            self.count(refusal.status)
            await send_whole(refusal, send)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._otherwise is not None:
            await self._otherwise(scope, receive, send)
        elif scope["type"] == "http":
            await self._refuse(http.not_found(scope["path"]), send)
        else:
            raise RuntimeError(f"nothing here speaks {scope['type']}")

    async def stream(self, stream: Stream, scope: Scope, receive: Receive, send: Send) -> None:
        """Send a feed until it ends or the client goes; who is cut is cut without a farewell."""
        feed = stream.feed
        # Our own protocol (`holdfast.apps.listen`) says how to end a connection at once.
        feed.on_cut = scope.get("holdfast.abort")
        gone = asyncio.create_task(_until_gone(feed, receive))
        try:
            headers = stream.headers
            await send({"type": "http.response.start", "status": stream.status, "headers": headers})
            chunk: bytes | None = stream.first
            while chunk is not None:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                chunk = await feed.chunk()
            await send({"type": "http.response.body", "body": b""})
        finally:
            gone.cancel()
            feed.close()


async def _until_gone(feed: Feed, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    feed.close()


async def send_whole(answer: Response, send: Send) -> None:
    """An answer as ASGI's two messages, with its content-length."""
    headers = answer.headers
    if answer.status not in EMPTY:
        headers = [*headers, (b"content-length", b"%d" % len(answer.body))]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
