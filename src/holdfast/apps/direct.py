"""The edge's own connection: HTTP/1.1 over `httptools`, answered in the parser's callback.

A request goes one of two ways. The short one is for a head that came before, byte for byte, whole
with its body in one piece, on a connection where nothing waits: one look-up, the pure handler, one
write. All else is parsed; what the parser finds is held against `holdfast.apps.heads`, and answered
in order, so many a turn, as long as the client reads what it gets.

Nothing here reads a clock for the bounds on time: whoever serves sweeps once in `SWEEP_S`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import perf_counter
from typing import Final, NoReturn

import httptools

from holdfast.apps import http
from holdfast.apps.asgi import BODILESS, CLOSE
from holdfast.apps.front import Front, head_of
from holdfast.apps.heads import (
    CONTINUE,
    HEAD_END,
    TOO_LARGE,
    Fault,
    Known,
    framing_of,
    request_of,
    too_large,
    unfinished_bytes_max,
    without_upgrade,
)
from holdfast.apps.http import Headers, Request, Response
from holdfast.apps.linger import Lingering, has_unread
from holdfast.apps.observe import logger
from holdfast.apps.streams import Stream

SWEEP_S: Final = 1.0
ARRIVAL_SWEEPS_MAX: Final = 6
"""Sweeps that a request may take to arrive whole, its head and its body: it has 7 to 8 s."""
FLUSH_SWEEPS_MAX: Final = 10
"""Sweeps that a client may let answers wait without taking `FLUSH_BYTES` in one of them."""
FLUSH_BYTES: Final = 4 * 1024
IDLE_SWEEPS_MAX: Final = 75
"""Sweeps between two requests of one connection."""
ANSWERS_PER_TURN: Final = 32
"""Answered on one connection before the others have their turn."""
SLICE_BYTES: Final = 16 * 1024
"""Parsed at a time; what is behind it waits as bytes."""
UNREAD_BYTES_MAX: Final = 64 * 1024
"""Of answers that a client has not taken; more, and nothing more is read from it, or answered."""
JOINED_BYTES_MAX: Final = 8 * 1024
"""A body up to this size is kept joined with its head, for one copy of one piece."""
LINGERING_MAX: Final = 1_000
"""Connections over the bound that are told so with patience."""

_log = logger("holdfast.edge.connection")


class _Left(Exception):
    """Leaves the parser: nothing more is answered here."""


class Connection(asyncio.Protocol):
    """One connection. `answered` counts its answers, `left` says that there will be no more."""

    __slots__ = (
        "_alone", "_body", "_bounds", "_choked", "_chunks", "_ended", "_final", "_framing",
        "_front", "_head_done", "_headers", "_inside", "_keep", "_known", "_last", "_let_in",
        "_lingering", "_method", "_parser", "_paused", "_refusal", "_request", "_rest",
        "_scheduled", "_seen", "_short", "_sweeps", "_taken", "_target", "_transport", "_turn",
        "_unread", "_upgrading", "_waiting", "answered", "left",
    )  # fmt: skip

    def __init__(self, front: Front) -> None:
        self._front = front
        self._bounds = front.bounds
        self._known = front.heads.known
        self._last: Known | None = None
        self._parser: httptools.HttpRequestParser | None = None
        self._short = True  # nothing of a request is here, and nothing waits
        self._inside = False  # some of a request is here, and not all
        self._waiting: deque[tuple[Request | bytes, bool, bool]] = deque()
        self._rest = self._final = b""
        self._choked = self._paused = self._scheduled = self._ended = False
        self._turn = self._taken = self._let_in = self._sweeps = self._unread = 0
        self._lingering: Lingering | None = None
        self._seen = ("", 0)
        self.answered = 0
        self.left = False
        self.on_message_begin()
        self._inside = False

    # -- from the transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        transport.set_write_buffer_limits(high=UNREAD_BYTES_MAX)
        bounds = self._bounds
        bounds.connections.add(self)
        many = len(bounds.connections) + len(self._front.streams) - bounds.connections_max
        if many > 0:
            bounds.connections_refused += 1
            why = Fault(503, "too-many-connections", "too many connections: try another edge")
            self._refuse(why, at_once=many > LINGERING_MAX)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._bounds.connections.discard(self)
        self._leave()
        gate = self._front.gate
        while gate is not None and self._let_in:
            self._let_in -= 1
            gate.done(0.0)

    def data_received(self, data: bytes) -> None:
        if self._short:
            known = self._last  # most clients ask the same again and again
            if known is not None and len(data) == known.size and data.startswith(known.head):
                self._answer_known(known, data)
                return
            head = data[: data.find(HEAD_END) + 4]
            self._last = self._known.get(head)
            known = self._last or self._front.heads.find(head)
            if known is not None and len(data) - len(head) == known.length:
                self._answer_known(known, data)
                return
        self._turn = 0
        if self._rest or self._waiting:
            self._rest += data
        else:
            self._take(data)

    def eof_received(self) -> bool:
        """The client sends no more; what it asked before is answered all the same."""
        self._ended = True
        self._short = False
        return bool(self._waiting or self._rest or self._final)

    def pause_writing(self) -> None:
        self._choked = True
        self._short = False

    def resume_writing(self) -> None:
        self._choked = False
        self._settle()

    # -- what came, a slice at a time, and what waits, so much a turn

    def _take(self, data: bytes) -> None:
        """Parse what came, and learn its head if it was one whole request."""
        if len(data) > SLICE_BYTES:
            self._rest = data
            self._go_on()
            return
        whole, answered = not self._inside, self.answered
        self._feed(data)
        self._settle()
        if whole and self._short and self.answered == answered + 1:
            self._learn(data)

    def _learn(self, data: bytes) -> None:
        """Remember the head of a request that came alone, in one piece."""
        framing, request = self._framing, self._request
        if request is None or framing.chunked or framing.expects or self._upgrading:
            return
        cut = data.find(HEAD_END) + 4
        if self._refusal is not None and request.method not in BODILESS:
            request.body = data[cut:]  # it was dropped; its length is part of what is learnt
        # Where the length comes out, the head is all that stands before it.
        if len(data) - cut == framing.length == len(request.body):
            self._front.heads.learn(data[:cut], request, self._target)

    def _go_on(self) -> None:
        """A turn for what waits: answers first, then more of what came."""
        self._scheduled, self._turn = False, 0
        while self._turn < ANSWERS_PER_TURN and not (self.left or self._choked):
            if self._waiting:
                self._turn += 1
                self._answer(*self._waiting.popleft())
            elif self._final:
                self._end_with(self._final)
            elif self._rest:
                data, self._rest = self._rest[:SLICE_BYTES], self._rest[SLICE_BYTES:]
                self._feed(data)
            else:
                break
        self._settle()

    def _settle(self) -> None:
        """Read on when nothing waits; else go on in another turn, or when the client reads."""
        if self.left:
            return
        if not (self._choked or self._waiting or self._rest or self._final):
            if self._ended:
                self.close()
                return
            self._short = not (self._inside or self._front.draining)
            if self._paused:
                self._paused = False
                self._transport.resume_reading()
            return
        self._short = False
        if not self._paused:
            self._paused = True
            self._transport.pause_reading()
        if not (self._choked or self._scheduled):
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._go_on)

    def _feed(self, data: bytes) -> None:
        """Parse some bytes; answers are given from within."""
        begun, rest, self._alone = self._inside, data, True
        while rest:
            rest = self._parse(rest)
        if self._inside and not (self.left or self._final):
            self._taken += len(data) if begun or self._alone else 0
            body_bytes_max = self._front.face.body_bytes_max if self._head_done else 0
            if self._taken > unfinished_bytes_max(body_bytes_max):
                self._refuse_head(TOO_LARGE)

    def _parse(self, data: bytes) -> bytes:
        """Give it to the parser; what it has to get again, if it stopped."""
        if self._parser is None:
            self._parser = httptools.HttpRequestParser(self)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # It stops at such a head; it gets the same without what made it stop.
            version, self._parser = self._parser.get_http_version(), None
            head = without_upgrade(self._method, self._target, version, self._headers)
            return head + data[upgrade.args[0] :]
        except httptools.HttpParserCallbackError as error:
            if not isinstance(error.__context__, _Left):
                _log.error("a connection failed", exc_info=error.__context__)
                self.abort()
        except httptools.HttpParserError as error:
            if not (self.left or self._final):
                self._refuse_head(Fault(400, "bad-request", f"this is no HTTP: {error}"))
        return b""

    # -- from the parser

    def on_message_begin(self) -> None:
        self._target = self._body = b""
        self._headers: Headers = []
        self._head_done = self._upgrading = False
        self._refusal: bytes | None = None
        self._request: Request | None = None
        self._inside = True
        self._taken = 0

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._head_done:  # trailers are dropped: none may pass for a header
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        assert parser is not None  # noqa: S101  it is the one that calls
        self._head_done = True
        self._method = parser.get_method()
        if self._method == b"CONNECT":
            self._leave_parser(Fault(405, "method-not-allowed", "this is no proxy"))
        if self._taken and too_large(self._target, self._headers):
            self._leave_parser(TOO_LARGE)
        if parser.should_upgrade():
            self._upgrading = True
            return
        version = parser.get_http_version()
        framing = framing_of(version, self._target, self._headers)
        if isinstance(framing, Fault):
            self._leave_parser(framing)
        self._framing = framing
        self._chunks = version == "1.1"
        self._keep = self._chunks and parser.should_keep_alive()
        if framing.length > self._front.face.body_bytes_max:
            self._refuse_body()
        if (front := self._front).gate is not None:
            refusal = front.admit(perf_counter(), self._method, self._target, self._headers)
            if refusal is not None and self._method == b"HEAD":
                refusal = refusal[: refusal.find(HEAD_END) + 4]
            self._refusal = refusal
            self._let_in += refusal is None
        if framing.expects and self._refusal is None and not self._waiting:
            # Behind answers that wait nothing is said: the client sends its body after a while.
            self._transport.write(CONTINUE)

    def on_body(self, body: bytes) -> None:
        if self._refusal is None:
            self._body = self._body + body if self._body else body
            if len(self._body) > self._front.face.body_bytes_max:
                self._refuse_body()

    def on_message_complete(self) -> None:
        if self._upgrading:
            return
        self._inside = self._alone = False
        method = self._method.decode("ascii")
        body = b"" if method in BODILESS else self._body
        request = request_of(method, self._target, self._headers, body)
        if request is not None and self._keep and method != "HEAD":
            self._request = request
        if self._refusal is not None:
            self._put(self._refusal)
        elif request is None:
            self._leave_parser(Fault(400, "bad-request", "the target is no path"))
        else:
            self._put(request)

    def _put(self, what: Request | bytes) -> None:
        """Answer now, or behind what waits; bytes are a refusal."""
        if self._waiting or self._choked or self._turn >= ANSWERS_PER_TURN:
            self._waiting.append((what, self._keep, self._chunks))
            return
        self._turn += 1
        self._answer(what, self._keep, self._chunks)
        if self.left:
            raise _Left

    # -- answers

    def _answer_known(self, known: Known, data: bytes) -> None:
        """The short way: `data` is the whole request."""
        self.answered += 1
        if known.refusals:  # to the same question, in the same batch
            known.again += 1
            self._transport.write(known.refusals[known.again % len(known.refusals)])
            return
        front, request, gate = self._front, known.request, self._front.gate
        began_s, calm = perf_counter(), True
        if gate is not None and began_s >= front.calm_until_s:
            calm = False
            refusal = front.admit(began_s, known.method, known.target, known.headers, known)
            if refusal is not None:
                self._transport.write(refusal)
                return
            began_s = front.meter()
        if known.length:
            request.body = data[-known.length :]
            answer = front.face.answer(request)
            request.body = b""  # heads are remembered, bodies are not
        else:
            answer = front.face.answer(request)
        if calm:
            front.calm_s += perf_counter() - began_s
            front.calm += 1
        elif gate is not None:
            gate.done(front.meter() - began_s)
        if type(answer) is Response and answer.wire and not front.draining:
            self._transport.write(front.starts[answer.status] + answer.wire)
        else:
            self._send(request, answer, True, True)

    def _answer(self, what: Request | bytes, keep: bool, chunks: bool) -> None:
        self.answered += 1
        front = self._front
        if isinstance(what, bytes):
            self._transport.write(what)
            if not keep:  # a refusal says nothing of an end, so that there is none while draining
                self.close()
        else:
            began_s = front.meter()
            answer = front.face.answer(what)
            if front.gate is not None:
                self._let_in -= 1
                front.gate.done(front.meter() - began_s)
            self._send(what, answer, keep, chunks)

    def _send(
        self, request: Request, answer: Response | Stream | None, keep: bool, chunks: bool
    ) -> None:
        front = self._front
        if answer is None:
            front.face.count(404)
            answer = http.not_found(request.path)
        start, bodied = front.starts[answer.status], request.method != "HEAD"
        keep = keep and not front.draining
        if isinstance(answer, Stream):
            self._leave()
            self._bounds.connections.discard(self)
            front.streams.add(self._transport)
            answer.begin(self._transport, chunked=chunks, start=start)
            return
        if answer.wire and keep and bodied:
            self._transport.write(start + answer.wire)
            return
        closing = CLOSE in answer.headers
        if closing or not keep:
            more = b"\r\n" if closing else b"connection: close\r\n\r\n"
            body = answer.body if bodied else b""
            self._transport.write(b"".join((start, head_of(answer), more, body)))
            self.close()
        elif not bodied:
            self._transport.write(b"".join((start, head_of(answer), b"\r\n")))
        elif len(answer.body) > JOINED_BYTES_MAX:
            self._transport.writelines((b"%b%b\r\n" % (start, head_of(answer)), answer.body))
        else:
            if answer.head:  # it was sent before, so it will be again
                answer.wire = b"%b\r\n%b" % (answer.head, answer.body)
            self._transport.write(b"".join((start, head_of(answer), b"\r\n", answer.body)))

    # -- the end

    def _leave_parser(self, fault: Fault) -> NoReturn:
        self._refuse_head(fault)
        raise _Left

    def _refuse_head(self, fault: Fault) -> None:
        self._bounds.heads_refused += 1
        self._refuse(fault)

    def _refuse_body(self) -> NoReturn:
        face = self._front.face
        face.bodies_refused += 1
        message = f"a body may have {face.body_bytes_max} bytes"
        self._refuse(Fault(413, "too-large", message))
        raise _Left

    def _refuse(self, fault: Fault, *, at_once: bool = False) -> None:
        """The last answer here, in its order; `at_once`: without patience."""
        data = self._front.refusal(fault)
        if at_once:
            self._transport.write(data)
            self.close()
        elif self._waiting:
            self._final, self._rest = data, b""
        else:
            self._end_with(data)

    def _end_with(self, data: bytes) -> None:
        """Write it and linger: a client that still sends reads its answer."""
        self._transport.write(data)
        if self._ended:
            self.close()
            return
        self._leave()
        self._lingering = Lingering(self._transport, self.connection_lost)
        self._transport.resume_reading()

    def close(self) -> None:
        """End it as soon as the answers are out."""
        self._leave()
        self._transport.close()

    def _leave(self) -> None:
        self.left = True
        self._short = False
        self._parser = None
        self._waiting.clear()
        self._rest = self._final = b""

    # -- time

    def sweep(self) -> None:
        """Another sweep has passed: has anything moved?"""
        kind, unread = self._kind(), self._transport.get_write_buffer_size()
        taken = self._unread - unread
        self._unread = unread
        if self._seen != (kind, self.answered) or taken >= FLUSH_BYTES:
            self._seen, self._sweeps = (kind, self.answered), 0
            return
        self._sweeps += 1
        if kind == "arriving" and self._sweeps > ARRIVAL_SWEEPS_MAX:
            self._bounds.arrivals_timed_out += 1
            self._refuse(Fault(408, "too-slow", "the request took too long to arrive"))
        elif kind == "resting" and self._sweeps > IDLE_SWEEPS_MAX:
            self._bounds.idle_closed += 1
            self.close()
        elif kind == "leaving" and self._lingering is not None and self._lingering.is_silent():
            self._transport.close()
        if kind in {"unread", "leaving"} and self._sweeps > FLUSH_SWEEPS_MAX:
            self.abort()

    def _kind(self) -> str:
        if self.left:
            return "leaving"
        if self._choked or self._waiting or self._transport.get_write_buffer_size():
            return "unread"
        return "arriving" if self._inside or not self.answered else "resting"

    def abort(self) -> None:
        """End it now; what was not sent yet is dropped."""
        self._bounds.aborted += 1
        self._leave()
        self._transport.abort()

    def drain(self) -> None:
        """From now on the next answer is the last one."""
        self._short = False

    def end_if_idle(self) -> None:
        """While draining: close it if nothing came, or went, since this was last asked."""
        if self._kind() != "resting" or self._seen != ("draining", self.answered):
            self._seen = ("draining", self.answered)
        elif not has_unread(self._transport):
            self.close()
