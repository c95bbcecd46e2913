"""The least HTTP/1.1 that a light client needs: one question at a time, and a stream of hints."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final, TypeAlias, cast
from urllib.parse import SplitResult

import msgspec

from holdfast.core.model import Subject
from holdfast.core.pacing import pace_s

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_RETRY: Final = re.compile(rb"\r\nretry-after: *(\d+)", re.IGNORECASE)
_REVISION: Final = re.compile(rb"\r\nholdfast-revision: *(\d+)", re.IGNORECASE)
_PACE: Final = re.compile(rb"\r\nholdfast-pace: *([^\r]+)", re.IGNORECASE)
_DATA: Final = re.compile(rb"event: change\ndata: (\{[^\n]*\})\n")


class Answer(msgspec.Struct, frozen=True, gc=False):
    """Status 0 stands for none at all. `head` is as it came."""

    status: int
    head: bytes = b""
    body: bytes = b""

    @property
    def retry_after_s(self) -> float:
        """0 for none."""
        found = _RETRY.search(self.head)
        return float(found[1]) if found else 0.0

    @property
    def revision(self) -> int:
        """Of the snapshot in it, as it says; 0 for none."""
        found = _REVISION.search(self.head)
        return int(found[1]) if found else 0

    @property
    def pace_s(self) -> float:
        found = _PACE.search(self.head)
        return pace_s(found[1].decode("latin-1")) if found else 0.0


NO_ANSWER: Final = Answer(0)
NOT_MODIFIED: Final = 304
LAST_CHUNK: Final = b"\r\n0\r\n\r\n"
Tell: TypeAlias = Callable[[Answer], None]


class _Listed(msgspec.Struct, frozen=True):
    environment: str
    service: str
    digest: str


_LISTED: Final = msgspec.json.Decoder(_Listed)


@lru_cache(maxsize=1_024)  # thousands of clients hear the same
def _listed(data: bytes) -> tuple[Subject, str]:
    listed = _LISTED.decode(data)
    return Subject(listed.environment, listed.service), listed.digest


class _Pipe(asyncio.Protocol):
    """One connection of an `_Asker`, which may have another one by the time this one ends."""

    __slots__ = ("asker", "transport")

    def __init__(self, asker: _Asker) -> None:
        self.asker = asker
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.asker.hear(self, data)

    def connection_lost(self, _exc: Exception | None) -> None:
        self.asker.lose(self)


class _Asker:
    """Asks on a connection that is opened when there is something to send, and kept."""

    def __init__(self, place: SplitResult, token: str) -> None:
        self._place = (place.hostname or "", place.port or 80)
        self._headers = f"host: {place.netloc}\r\n"
        if token:
            self._headers += f"authorization: Bearer {token}\r\n"
        self._pipe: _Pipe | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._read = b""

    def _send(self, loop: asyncio.AbstractEventLoop, path: str, extra: str, limit_s: float) -> None:
        """Send a request, on a new connection where there is none, and wait for so long."""
        request = f"GET {path} HTTP/1.1\r\n{self._headers}{extra}\r\n".encode()
        self._timer = loop.call_later(limit_s, self._give_up)
        transport = self._pipe.transport if self._pipe else None
        if transport is not None and not transport.is_closing():
            transport.write(request)
        else:
            self._pipe = None
            self._connecting = loop.create_task(self._connect(loop, request))

    async def _connect(self, loop: asyncio.AbstractEventLoop, request: bytes) -> None:
        try:
            _, self._pipe = await loop.create_connection(lambda: _Pipe(self), *self._place)
        except OSError:
            self._over()
            return
        if self._pipe.transport is not None:
            self._pipe.transport.write(request)

    def hear(self, pipe: _Pipe, data: bytes) -> None:
        if pipe is self._pipe:
            self._heard(data)

    def lose(self, pipe: _Pipe) -> None:
        if pipe is self._pipe:
            self._pipe = None
            self._over()

    def _give_up(self) -> None:
        self._drop()
        self._over()

    def _drop(self) -> None:
        """End the connection, or the attempt to make one."""
        if self._connecting is not None:
            self._connecting.cancel()
        pipe, self._pipe = self._pipe, None
        if pipe is not None and pipe.transport is not None:
            pipe.transport.abort()

    def _in_time(self) -> None:
        self._connecting = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _heard(self, data: bytes) -> None:
        raise NotImplementedError

    def _over(self) -> None:
        """There will be no answer."""
        raise NotImplementedError

    def _take(self, data: bytes) -> Answer | None:
        """The answer, once it is whole; of a stream it is the head."""
        self._read += data
        head, found, rest = self._read.partition(b"\r\n\r\n")
        if not found:
            return None
        status = int(head[9:12])
        length = _LENGTH.search(head)
        size = int(length[1]) if length and status != NOT_MODIFIED else 0
        if len(rest) < size:
            return None
        self._read = rest[size:]
        return Answer(status, head, rest[:size])


class Polling(_Asker):
    """One question at a time, on a connection that is kept."""

    _tell: Tell | None = None

    def ask(
        self,
        loop: asyncio.AbstractEventLoop,
        path: str,
        extra: str,
        tell: Tell,
        limit_s: float,
    ) -> None:
        """`tell` is called once, later, with the answer or with `NO_ANSWER`."""
        self._tell, self._read = tell, b""
        self._send(loop, path, extra, limit_s)

    def _heard(self, data: bytes) -> None:
        answer = self._take(data)
        if answer is not None:
            self._say(answer)

    def _over(self) -> None:
        self._say(NO_ANSWER)

    def _say(self, answer: Answer) -> None:
        self._in_time()
        tell, self._tell = self._tell, None
        if tell is not None:
            tell(answer)


class Listening(_Asker):
    """A stream of hints. `closed` is called once, with what it was answered, and if it was open."""

    def __init__(
        self,
        place: SplitResult,
        token: str,
        opened: Callable[[], None],
        hinted: Callable[[dict[Subject, str]], None],
        closed: Callable[[Answer, bool], None],
    ) -> None:
        super().__init__(place, token)
        self._opened, self._hinted, self._closed = opened, hinted, closed
        self._open = False
        self._ended = False
        self.farewell = False
        """Whether its end was announced: the last chunk of the answer came."""

    def open(self, loop: asyncio.AbstractEventLoop, limit_s: float) -> None:
        self._send(loop, "/v1/stream", "accept: text/event-stream\r\n", limit_s)

    def close(self) -> None:
        """End it; `closed` is called all the same."""
        self._give_up()

    def _heard(self, data: bytes) -> None:
        if not self._open:
            answer = self._take(data)
            if answer is None:
                return
            self._in_time()
            if answer.status != 200:
                self._end(answer)
                return
            self._open = True
            self._opened()
            data = self._read
            self._read = b""
        self._read += data
        self.farewell = self._read.endswith(LAST_CHUNK)
        place = self._read.rfind(b"\n\n") + 2
        if place > 1:
            whole, self._read = self._read[:place], self._read[place:]
            self._hear(whole)

    def _hear(self, data: bytes) -> None:
        found = _DATA.findall(data)
        if found:
            self._hinted(dict(_listed(each) for each in found))

    def _over(self) -> None:
        self._end(NO_ANSWER)

    def _end(self, answer: Answer) -> None:
        self._in_time()
        self._drop()
        if not self._ended:
            self._ended = True
            self._closed(answer, self._open)
