"""Listening: uvicorn with what it lacks, for every process of ours that has an HTTP face.

Bounds on heads (414, 431), on connections (503), on how long a request may take to arrive (408,
whatever trickles in meanwhile), connections that end at once when a slow reader is cut, and answers
that arrive although their client was still sending.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, Final, TypeAlias

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from holdfast.apps import http
from holdfast.apps.address import BACKLOG, Address, bind
from holdfast.apps.asgi import App
from holdfast.apps.heads import TOO_LARGE, Fault, Framing, framing_of
from holdfast.apps.linger import Lingering
from holdfast.apps.signals import ending

SWEEP_S: Final = 1.0
ARRIVAL_SWEEPS_MAX: Final = 10
"""Sweeps that a request may take to arrive whole, its head and its body."""
FLUSH_SWEEPS_MAX: Final = 10
"""Sweeps that a closing connection may take to send what is left."""
KEEP_ALIVE_S: Final = 75


UPGRADE: Final = Fault(400, "no-upgrade", "a body can't come with an upgrade: send it without one")


class Bounds:
    """What the connections of one listener share: the bound on their number, and counts."""

    def __init__(self, connections_max: int) -> None:
        self.connections_max = connections_max
        self.connections: set[Connection] = set()
        self.connections_refused = 0
        self.heads_refused = 0
        self.arrivals_timed_out = 0
        self.aborted = 0

    def hits(self) -> dict[str, int]:
        """How often each bound was hit, by its name in the metrics."""
        return {
            "head": self.heads_refused,
            "connections": self.connections_refused,
            "arrival": self.arrivals_timed_out,
            "aborted": self.aborted,
        }

    def sweep(self) -> None:
        """Once in `SWEEP_S`: end the connections that take too long."""
        for connection in tuple(self.connections):
            connection.sweep()


class Refused(Exception):
    """Leaves the parser after an answer was sent; `data_received` of uvicorn catches it."""


class Connection(HttpToolsProtocol):
    """One connection, bounded; the hot path pays three short methods for it, and no clock."""

    def __init__(self, bounds: Bounds, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.bounds = bounds
        self.head_bytes = 0
        self.in_head = True
        self._in_chunks = False
        self._body_came = False
        self._lingering: Lingering | None = None
        self._head_lines = 0
        self._seen: object = None
        self._sweeps = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.bounds.connections.add(self)
        if len(self.bounds.connections) > self.bounds.connections_max:
            self.bounds.connections_refused += 1
            self.refuse(
                503, "too-many-connections", "too many connections: try another edge", at_once=True
            )

    def connection_lost(self, exc: Exception | None) -> None:
        self.bounds.connections.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        headers = self.headers
        super().data_received(data)
        if self.in_head:
            # What else came in the same piece belongs to the requests before this one.
            before = 0 if self.headers is headers else data.rfind(b"\r\n\r\n") + 4
            self._count_head(len(data) - (before if before > 3 else 0))
        elif self._in_chunks and self._body_came:
            self._body_came, self.head_bytes = False, 0
        elif self._in_chunks:
            self._count_head(len(data))

    def _count_head(self, size: int) -> None:
        self.head_bytes += size
        if self.head_bytes > http.HEAD_BYTES_MAX and not self.is_leaving():
            self.bounds.heads_refused += 1
            self.refuse(TOO_LARGE.status, TOO_LARGE.code, TOO_LARGE.message)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.in_head = True
        self.head_bytes = 0

    def on_chunk_header(self) -> None:
        """A chunk follows, or behind the last one trailers, which come as headers do."""
        if not self._in_chunks:
            self._in_chunks, self._head_lines, self.head_bytes = True, len(self.headers), 0

    def on_body(self, body: bytes) -> None:
        self._body_came = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self.drop_trailers()
        super().on_message_complete()

    def drop_trailers(self) -> None:
        """Nobody here asks for trailers, and none may pass for a header (RFC 9110, 6.5.1)."""
        if self._in_chunks:
            self._in_chunks = self._body_came = False
            del self.headers[self._head_lines :]

    def on_headers_complete(self) -> None:
        self.check_head()
        scope: dict[str, Any] = self.scope  # type: ignore[assignment]  # with a key of our own
        scope["holdfast.abort"] = self.abort
        super().on_headers_complete()
        self.cycle.transport = _Answering(self, self.cycle)  # type: ignore[assignment]  # as used

    def check_head(self) -> None:
        """The head is whole: refuse it, and leave the parser, when it is out of bounds."""
        self.in_head = False
        found = framing_of(self.parser.get_http_version(), self.url, self.headers)
        if isinstance(found, Framing) and self.parser.should_upgrade():
            # uvicorn stops at such a head, and would take the body for the next request.
            found = UPGRADE if found.length or found.chunked else found
        if isinstance(found, Fault):
            self.bounds.heads_refused += 1
            self.refuse(found.status, found.code, found.message)
            raise Refused

    def send_400_response(self, msg: str) -> None:
        if not self.is_leaving():
            self.bounds.heads_refused += 1
            self.refuse(400, "bad-request", msg)

    def abort(self) -> None:
        """End the connection now; what was not sent yet is dropped."""
        self.bounds.aborted += 1
        self.transport.abort()

    def sweep(self) -> None:
        """Another sweep has passed: is the same request still arriving, or still leaving?"""
        leaving = self.is_leaving()
        # Each request has its own list of headers, so the list tells one request from the next.
        if not (leaving or self.arriving()) or self._seen is not self.headers:
            self._seen, self._sweeps = self.headers, 0
            return
        self._sweeps += 1
        if self._lingering is not None and self._lingering.is_silent():
            self.transport.close()
        if leaving and self._sweeps > FLUSH_SWEEPS_MAX:
            self.abort()
        elif not leaving and self._sweeps > ARRIVAL_SWEEPS_MAX:
            self.bounds.arrivals_timed_out += 1
            self._sweeps = 0
            self.refuse(408, "too-slow", "the request took too long to arrive", at_once=True)

    def arriving(self) -> bool:
        cycle = self.cycle
        return self.in_head or (cycle.more_body and not cycle.response_complete)

    def refuse(self, status: int, code: str, message: str, *, at_once: bool = False) -> None:
        """Answer at the transport, below any request, and close; `at_once`: without lingering."""
        refusal = http.fault(status, code, message, headers=http.error_headers(status))
        head = [
            f"HTTP/1.1 {status} {code}".encode(),
            *(b"%b: %b" % header for header in refusal.headers),
            b"content-length: %d" % len(refusal.body),
            b"connection: close",
        ]
        self.transport.write(b"\r\n".join([*head, b"", refusal.body]))
        if at_once:
            self.transport.close()
        else:
            self.linger()

    def is_leaving(self) -> bool:
        """Whether nothing more is answered here."""
        return self._lingering is not None or self.transport.is_closing()

    def linger(self) -> None:
        """End what we send, and read on for a while: a client that still sends reads its answer.

        A socket that is closed with unread data resets the connection, and the answer is lost.
        """
        if self.is_leaving():
            return
        self._lingering = Lingering(self.transport, self.connection_lost)
        self.flow.resume_reading()


class _Answering:
    """The transport as uvicorn's cycle has it: closed before the request is whole, it lingers."""

    def __init__(self, connection: Connection, cycle: RequestResponseCycle) -> None:
        self._connection = connection
        self._cycle = cycle
        self.is_closing = connection.is_leaving

    def write(self, data: bytes) -> None:
        if not self._connection.is_leaving():
            self._connection.transport.write(data)

    def close(self) -> None:
        if self._cycle.more_body:
            self._connection.linger()
        else:
            self._connection.transport.close()


MakeConnection: TypeAlias = Callable[..., Connection]
"""`Connection` itself, or one with other deadlines."""


class Listener(uvicorn.Server):
    """A listening server. `run` blocks until SIGINT, SIGTERM, SIGHUP or `stop`; then requests may
    finish.

    The socket is bound when the listener is made, so that `port` is known (0 asks for any) and a
    taken one is an `Unavailable` before anything else starts. `on_stop` is called first of all
    when it ends, to end what would never end by itself: streams.
    """

    def __init__(  # noqa: PLR0913 - who answers, where, and what differs between the processes
        self,
        app: App,
        address: Address,
        on_stop: Callable[[], None] = lambda: None,
        connection: MakeConnection = Connection,
        *,
        lifespan: bool = False,
        bound: socket.socket | None = None,
    ) -> None:
        """`lifespan`: whether `app` is told of its start and its end, as ASGI has it.

        `bound` is a socket that `bind` made of this address before there was an application.
        """
        self.bounds = Bounds(address.connections_max)
        self._socket = bound or bind(address.host, address.port)
        self.port: int = self._socket.getsockname()[1]
        self._on_stop = on_stop
        self.listening = threading.Event()
        super().__init__(
            uvicorn.Config(
                app,
                http=partial(connection, self.bounds),  # type: ignore[arg-type]  # it is called
                ws="none",
                loop="uvloop",
                lifespan="on" if lifespan else "off",
                interface="asgi3",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=max(1, round(address.shutdown_s)),
                backlog=BACKLOG,
            )
        )

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        super().run(sockets or [self._socket])

    def stop(self) -> None:
        """End it, from any thread or a signal's handler."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._sweeping = asyncio.create_task(self._sweep())
        self.listening.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._sweeping.cancel()
        self._on_stop()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """SIGINT, SIGTERM and SIGHUP end the server, not the process: whoever runs it has things to
        close.

        uvicorn's own raises them again afterwards, so that a clean end would look like a kill.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in ending()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            self.bounds.sweep()
