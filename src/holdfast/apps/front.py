"""What the connections of one server share: who answers, who lets in, what is counted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import lru_cache
from http import HTTPStatus
from time import perf_counter, thread_time
from typing import Final, Protocol

from holdfast.apps import http
from holdfast.apps.asgi import CLOSE, EMPTY, Face
from holdfast.apps.heads import Fault, Heads, Known
from holdfast.apps.http import Headers, Response

SWEPT_PER_TURN: Final = 50
"""Connections looked at, and perhaps refused, before the others have their turn: some 2 ms."""
REFUSALS_MAX: Final = 256
NEVER: Final = float("-inf")
SHORT_S: Final = 0.001
"""A batch that took less is taken for work, all of it."""
SHARE_SMOOTHING: Final = 0.2


class Gate(Protocol):
    """Who is let in while there is too much to do. Called on the event loop; must not raise.

    Whoever waited less than `alert_s` is let in, and need not be asked about; whenever the gate is
    called, that may change. Below 0 it asks about everybody, and what answers cost is to be exact.
    All times are those that this thread worked: what the machine gave to others is no queue, and
    nobody's price.
    """

    alert_s: float

    def admit(
        self,
        method: bytes,
        target: bytes,
        headers: Headers,
        waited_s: float,
        known: Known | None = None,
    ) -> bytes | None:
        """None lets a request in; bytes are the whole refusal, sent on the kept connection.

        Asked when a head is whole, before its body. `waited_s`: since the first bytes came after
        the event loop last looked for any. `known`: a head that came before; what the gate makes
        of method, target and headers it may keep there, and refusals for all who send the same
        before the batch is over: who waits longer is not let in either.
        """

    def again(self, known: Known, times: int) -> None:
        """So often the refusals that the gate left there were sent. Told before `batch`."""

    def done(self, took_s: float, requests: int = 1) -> None:
        """One that was let in is answered, or gone unanswered (0 seconds then).

        Those that it was not asked about may be told of together, before the next question.
        """

    def batch(self, length_s: float, requests: int) -> None:
        """All that came at once is answered."""


class Swept(Protocol):
    """A connection, as its server sees it."""

    def sweep(self) -> None:
        """Once in a while: end it if it takes too long."""

    def drain(self) -> None:
        """From now on the next answer is the last one."""

    def end_if_idle(self) -> None:
        """While draining: close it if nothing came, or went, since this was last asked."""

    def abort(self) -> None:
        """End it now; what was not sent yet is dropped."""


class Bounds:
    """What the connections of one server are bound by, and how often each bound was hit."""

    def __init__(self, connections_max: int, heads: Heads) -> None:
        self.connections_max = connections_max
        self._heads = heads
        self.connections: set[Swept] = set()
        self.connections_refused = 0
        self.heads_refused = 0
        self.arrivals_timed_out = 0
        self.idle_closed = 0
        self.aborted = 0

    def hits(self) -> dict[str, int]:
        """How often each bound was hit, by its name in the metrics."""
        return {
            "head": self.heads_refused,
            "connections": self.connections_refused,
            "arrival": self.arrivals_timed_out,
            "idle": self.idle_closed,
            "aborted": self.aborted,
            "heads_remembered": self._heads.cleared,
        }

    def sweep(self) -> None:
        """Once in a while: end the connections that take too long, some in each turn."""
        self._sweep_on(tuple(self.connections), 0)

    def _sweep_on(self, connections: Sequence[Swept], begin: int) -> None:
        end = begin + SWEPT_PER_TURN
        for connection in connections[begin:end]:
            connection.sweep()
        if end < len(connections):
            asyncio.get_running_loop().call_soon(self._sweep_on, connections, end)


class _Starts(dict[int, bytes]):
    """Status line and date, by status; `date` is set once a second."""

    date = b""

    def __missing__(self, status: int) -> bytes:
        phrase = HTTPStatus(status).phrase.encode()
        made = self[status] = b"HTTP/1.1 %d %b\r\ndate: %b\r\n" % (status, phrase, self.date)
        return made


class Front:
    """What all connections of one server share: who answers, who lets in, what is counted."""

    def __init__(self, face: Face, connections_max: int, gate: Gate | None = None) -> None:
        self.face = face
        self.gate = gate
        self.heads = Heads()
        self.bounds = Bounds(connections_max, self.heads)
        self.starts = _Starts()
        self.streams: set[asyncio.Transport] = set()
        """Connections that feeds took over."""
        self.draining = False
        self.calm_until_s = NEVER
        """Until then requests of the batch that is open are let in unasked. Each is counted by who
        answers it: in `calm`, and in `calm_s` how long it took."""
        self.calm = 0
        self.calm_s = 0.0
        self.meter = perf_counter
        """What answers are timed by: the thread's own time, which takes longer to read, as soon as
        anything is decided by it."""
        self._batch_began_s = 0.0
        self._batch_worked_s = 0.0
        self._batch_requests = 0
        self._refused: list[Known] = []
        """Heads that the gate left refusals at."""
        self._share = 1.0
        """Of a batch's time, what this thread worked, lately."""

    def tell_date(self, date: bytes) -> None:
        """What answers are dated with from now on."""
        self.starts.clear()
        self.starts.date = date

    def refusal(self, fault: Fault) -> bytes:
        """The last answer on a connection, counted."""
        self.face.count(fault.status)
        answer = _refusal_of(fault)
        return b"%b%b\r\n%b" % (self.starts[fault.status], head_of(answer), answer.body)

    def forget_streams(self) -> None:
        """Let go of the streams that have ended, once their last bytes are out."""
        over = [
            each for each in self.streams if each.is_closing() and not each.get_write_buffer_size()
        ]
        self.streams.difference_update(over)

    def abort(self) -> None:
        """End all that is open, whatever waits."""
        for connection in tuple(self.bounds.connections):
            connection.abort()
        for transport in self.streams:
            transport.abort()

    def admit(
        self,
        now_s: float,
        method: bytes,
        target: bytes,
        headers: Headers,
        known: Known | None = None,
    ) -> bytes | None:
        """One more request, for the gate that there is: none lets it in (`Gate.admit`)."""
        gate = self.gate
        assert gate is not None  # noqa: S101  who calls has looked
        if self._batch_requests == 0:
            self._batch_began_s = now_s
            self._batch_worked_s = thread_time()
            asyncio.get_running_loop().call_soon(self._end_batch)
        self._batch_requests += 1
        waited_s = now_s - self._batch_began_s
        refusal = None
        if waited_s >= gate.alert_s:
            if gate.alert_s < 0:
                waited_s *= self._share
            else:  # this decides about a state, and comes seldom
                waited_s = min(waited_s, thread_time() - self._batch_worked_s)
            if self.calm:
                self._tell_calm(gate)
            refusal = gate.admit(method, target, headers, waited_s, known)
            if known is not None and known.refusals:
                self._refused.append(known)
            self.meter = thread_time if gate.alert_s < 0 else perf_counter
        self.calm_until_s = self._batch_began_s + gate.alert_s
        return refusal

    def _tell_calm(self, gate: Gate) -> None:
        gate.done(self.calm_s, self.calm)
        self.calm, self.calm_s = 0, 0.0

    def _end_batch(self) -> None:
        gate = self.gate
        assert gate is not None  # noqa: S101  it opened the batch
        requests = self._batch_requests + self.calm
        self._batch_requests, self.calm_until_s = 0, NEVER
        if self.calm:
            self._tell_calm(gate)
        while self._refused:
            known = self._refused.pop()
            times, known.again, known.refusals = known.again, 0, ()
            requests += times
            gate.again(known, times)
        length_s, share = perf_counter() - self._batch_began_s, 1.0
        if length_s > SHORT_S:
            worked_s = thread_time() - self._batch_worked_s
            share = min(1.0, worked_s / length_s)
            length_s *= share
        self._share += (share - self._share) * SHARE_SMOOTHING
        gate.batch(length_s, requests)
        self.meter = thread_time if gate.alert_s < 0 else perf_counter


def head_of(answer: Response) -> bytes:
    """The headers of an answer, as they are sent; joined once and kept on it."""
    if not answer.head:
        lines = [b"%b: %b\r\n" % header for header in answer.headers]
        if answer.status not in EMPTY:
            lines.append(b"content-length: %d\r\n" % len(answer.body))
        answer.head = b"".join(lines)
    return answer.head


@lru_cache(REFUSALS_MAX)
def _refusal_of(fault: Fault) -> Response:
    """There are few kinds, each made once."""
    headers = [*http.error_headers(fault.status), CLOSE]
    return http.fault(fault.status, fault.code, fault.message, headers=headers)
