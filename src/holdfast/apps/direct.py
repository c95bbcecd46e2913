"""The short way: an answer as soon as the request is whole, in the parser's own callback.

ASGI takes a task, an event, a scope and two messages for each request; a pure handler needs none of
them. What can't be answered at once goes the long way of uvicorn, on the same connection: streams,
and whatever comes while a client doesn't read, or behind a stream.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from holdfast.apps.asgi import CLOSE, EMPTY, Face, Receive, Scope, Send
from holdfast.apps.http import Request, Response
from holdfast.apps.listen import KEEP_ALIVE_S, SWEEP_S, Bounds, Connection, Refused
from holdfast.apps.streams import Stream

IDLE_SWEEPS_MAX: Final = round(KEEP_ALIVE_S / SWEEP_S)


class DirectConnection(Connection):
    """A connection to a face that answers everything itself (`otherwise` is none)."""

    def __init__(self, face: Face, bounds: Bounds, *args: Any, **kwargs: Any) -> None:
        super().__init__(bounds, *args, **kwargs)
        self._face = face
        self._long = False
        self._body = b""
        self._whole = True
        self._keep_alive = True
        self._idle_for: object = None
        self._idle_sweeps = 0

    def on_message_begin(self) -> None:
        self.in_head = True
        self.head_bytes = 0
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._body = b""
        self._whole = False

    def on_headers_complete(self) -> None:
        self.check_head()
        behind = self.cycle is not None and not self.cycle.response_complete
        self._long = behind or self.flow.write_paused
        if self._long:
            self._begin_long()
            return
        self._keep_alive = self.parser.get_http_version() != "1.0" and (
            self.parser.should_keep_alive()
        )
        if self.expect_100_continue:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        if self._long:
            super().on_body(body)
            return
        self._body_came = True
        self._body = self._body + body if self._body else body
        if len(self._body) > self._face.body_bytes_max:
            self._face.bodies_refused += 1
            self._face.count(413)
            self.refuse(413, "too-large", f"a body may have {self._face.body_bytes_max} bytes")
            raise Refused

    def on_message_complete(self) -> None:
        self._whole = True
        if self._long:
            super().on_message_complete()
            return
        if self.is_leaving():
            return
        self.drop_trailers()
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        if "%" in path:
            path = unquote(path)
        method = self.parser.get_method().decode("ascii")
        request = Request(method, path, url.query or b"", self.headers, self._body)
        answer = self._face.answer(request)
        if isinstance(answer, Response):
            self._respond(method, answer)
        elif answer is not None:
            self._begin_stream(answer)

    def arriving(self) -> bool:
        return self.in_head or (super().arriving() if self._long else not self._whole)

    def sweep(self) -> None:
        super().sweep()
        resting = self._whole and (self.cycle is None or self.cycle.response_complete)
        if not resting or self._idle_for is not self.headers:
            self._idle_for, self._idle_sweeps = self.headers, 0
            return
        self._idle_sweeps += 1
        if self._idle_sweeps > IDLE_SWEEPS_MAX and not self.is_leaving():
            self.transport.close()

    def _respond(self, method: str, answer: Response) -> None:
        """One write. A head is joined once and kept: prebuilt answers are sent again and again."""
        head = answer.head
        if not head:
            head = answer.head = _head(answer)
        parts = [head]
        parts += [b"%b: %b\r\n" % header for header in self.server_state.default_headers]
        closing = CLOSE in answer.headers
        if not self._keep_alive and not closing:
            parts.append(b"connection: close\r\n")
        parts.append(b"\r\n")
        if method != "HEAD":
            parts.append(answer.body)
        self.transport.write(b"".join(parts))
        if closing or not self._keep_alive:
            self.transport.close()

    def _begin_long(self) -> None:
        """Start uvicorn's own way, with what the parser has given so far."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        HttpToolsProtocol.on_message_begin(self)
        self.url, self.expect_100_continue = url, expects
        self.headers += headers
        super().on_headers_complete()

    def _begin_stream(self, stream: Stream) -> None:
        async def send_stream(scope: Scope, receive: Receive, send: Send) -> None:
            await self._face.stream(stream, scope, receive, send)

        app, self.app = self.app, send_stream
        self._begin_long()
        self.app = app
        super().on_message_complete()


def _head(answer: Response) -> bytes:
    lines = [STATUS_LINE[answer.status]]
    lines += [b"%b: %b\r\n" % header for header in answer.headers]
    if answer.status not in EMPTY:
        lines.append(b"content-length: %d\r\n" % len(answer.body))
    return b"".join(lines)
