"""One member of an etcd cluster, asked by its JSON gateway: every answer bounded in time and bytes.

What it says, or that it says nothing, comes out as one of three: an answer, `Refused` (no, and
nothing was done), or `NotNow` (somebody else may know better).
"""

from __future__ import annotations

import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import msgspec
import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, SSLError

from holdfast.adapters.etcd_address import CONNECT_S
from holdfast.adapters.etcd_wire import Refusal, Watched, decoder_of
from holdfast.adapters.http_line import Line
from holdfast.core.errors import Unavailable

ANSWER_BYTES_MAX: Final = 16 * 1024 * 1024
WATCH_BYTES_MAX: Final = 1024 * 1024
"""Of one stream: one that brought so much brought a change."""
IDLE_MAX: Final = 16
"""Connections that are kept for the next call."""
_CERTAIN: Final = {3, 5, 7, 8, 9, 11, 12, 16}
"""Codes of gRPC for "no, and nothing was done": a bad or refused call, not a bad moment."""
_SOON: Final = 14
"""Unavailable: without a leader, or with another one than a moment ago."""
_WAYS_OUT: Final = {
    7: "name a user in the store's URL who may read and write the prefix (to compact: a root)",
    8: "compact the store (holdfast store compact), or raise etcd's quota",
}


class Refused(Unavailable):
    """etcd said no, and nothing was done; `grpc` is its code."""

    def __init__(self, message: str, grpc: int) -> None:
        self.grpc = grpc
        super().__init__(message)


class NotNow(Exception):
    """An endpoint that did not answer. `sent`: the call may have arrived, and been carried out.

    `soon`: it answers, and may be able to in a moment.
    """

    def __init__(self, why: str, *, sent: bool = True, soon: bool = False) -> None:
        self.why = why
        self.sent = sent
        self.soon = soon
        super().__init__(why)


class TooMuch(Exception):
    """An answer of more than `ANSWER_BYTES_MAX`: ask for less."""


class Endpoint:
    """The member at `url`. Thread-safe."""

    def __init__(self, url: str, tls: ssl.SSLContext | None) -> None:
        self.url = url
        self.place = url.partition("://")[2]
        self.resting_until_s = 0.0
        """By the monotonic clock: until then the others are asked first."""
        self._tls = tls
        self._lock = threading.Lock()
        self._idle: deque[Line] = deque()
        self._watching: set[Line] = set()
        self._closed = False

    def ask(self, path: str, headers: Mapping[str, str], body: bytes, until_s: float) -> bytes:
        """The body of its answer. Raises `Refused`, `NotNow` and `TooMuch`."""
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            raise NotNow(f"{self.place}: no time was left for it", sent=False)
        line = self._line()
        try:
            line.bound(left_s, left_s, progress=False)
            status, content = _asked(line, path, headers, body)
        except (HTTPError, OSError, ValueError) as error:
            line.close()
            raise NotNow(f"{self.place}: {_reason(error)}", sent=_may_be_sent(error)) from None
        except BaseException:
            line.cut()
            line.close()
            raise
        self._keep(line)
        if status != 200:
            raise self._refusal(status, content)
        return content

    def wait_for_change(
        self,
        headers: Mapping[str, str],
        question: bytes,
        patience_s: float,
        ended: Callable[[], bool],
    ) -> None:
        """Watch until anything changed, at most so long. Raises `NotNow` when that can't be.

        `ended`: whether `end_waits` was for this one, asked when that can't be missed any more.
        """
        line = Line(self.url, CONNECT_S, self._tls)
        with self._lock:
            self._watching.add(line)
        if ended():
            line.cut()
        line.bound(patience_s, patience_s, progress=False)
        try:
            _read_until_change(line, headers, question)
        except (HTTPError, OSError, ValueError) as error:
            if not _is_silence(error) and not ended():
                raise NotNow(f"{self.place}: {_reason(error)}") from None
        finally:
            with self._lock:
                self._watching.discard(line)
            line.cut()
            line.close()

    def end_waits(self) -> None:
        """Every wait that is under way returns soon."""
        with self._lock:
            for line in self._watching:
                line.cut()

    def close(self) -> None:
        self._closed = True
        self.end_waits()
        with self._lock:
            while self._idle:
                self._idle.pop().close()

    def _line(self) -> Line:
        with self._lock:
            return self._idle.pop() if self._idle else Line(self.url, CONNECT_S, self._tls)

    def _keep(self, line: Line) -> None:
        with self._lock:
            if len(self._idle) < IDLE_MAX and not self._closed:
                self._idle.append(line)
                return
        line.close()

    def _refusal(self, status: int, content: bytes) -> Refused | NotNow:
        try:
            said = decoder_of(Refusal).decode(content)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            said = Refusal()
        if not said.error:
            return NotNow(
                f"{self.place} answered {status}: {_foreign(content)}", sent=status >= 500
            )
        text = f"{self.place}: {said.error}"
        if "too many requests" in text:
            return NotNow(text, sent=False, soon=True)
        if said.code in _CERTAIN:
            way_out = _WAYS_OUT.get(said.code, "")
            return Refused(f"{text}; {way_out}" if way_out else text, said.code)
        return NotNow(text, soon=said.code == _SOON)


def _asked(line: Line, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
    answer = line.open(path, headers, method="POST", body=body, body_bytes_max=ANSWER_BYTES_MAX)
    content = answer.read(ANSWER_BYTES_MAX + 1)
    if len(content) > ANSWER_BYTES_MAX:
        raise TooMuch
    answer.release_conn()
    return answer.status, content


def _read_until_change(line: Line, headers: Mapping[str, str], question: bytes) -> None:
    answer = line.open(
        "/v3/watch", headers, method="POST", body=question, body_bytes_max=WATCH_BYTES_MAX
    )
    if answer.status != 200:
        raise ValueError(f"it answered {answer.status} to a watch")
    for text in _lines(answer):
        result = decoder_of(Watched).decode(text).result
        if result.events or result.canceled:
            return


def _lines(answer: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    held = b""
    for piece in answer.stream():
        *whole, held = (held + piece).split(b"\n")
        yield from whole
        if len(held) > WATCH_BYTES_MAX:
            raise ValueError("a line of the stream is too long")


def _foreign(content: bytes) -> str:
    if b"CommonName" in content:  # etcd's own rule, since it takes such a name for a user's
        return "etcd has users: make the client's certificate without a CommonName"
    return "that is no etcd from 3.4 on, or something stands before it"


def _is_silence(error: Exception) -> bool:
    return "timed out" in str(error) or "took too long" in str(error)


def _may_be_sent(error: Exception) -> bool:
    """False only where the connection did not come about."""
    if isinstance(error, NewConnectionError | ConnectTimeoutError):
        return False
    text = str(error).lower()
    return not isinstance(error, SSLError) or not ("certificate" in text or "unknown ca" in text)


def _reason(error: Exception) -> str:
    """In short, without the addresses of objects that urllib3 puts before it."""
    if _is_silence(error):
        return "no answer in time"
    text = str(error) or type(error).__name__
    return text.rpartition(": ")[2] if isinstance(error, HTTPError) else text
