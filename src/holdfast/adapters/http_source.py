"""One upstream over HTTP, held to bounds: sizes, times, redirects, decompression.

An upstream may be slow, broken or hostile; here it can at most waste a few seconds and a few
megabytes. Not thread-safe, but for `hints`: each stream has a connection of its own. After a fork,
make a new one: no HTTP client survives a fork with a warm pool.
"""

from __future__ import annotations

import base64
import codecs
import io
import re
import socket
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final
from urllib.parse import quote, urlsplit

import msgspec
import urllib3
from sseclient import SSEClient
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError

from holdfast.core.bundle import BUNDLE_BYTES_MAX
from holdfast.core.errors import (
    Forbidden,
    HoldfastError,
    NotFound,
    Unauthenticated,
    Unavailable,
    Untrusted,
)
from holdfast.core.limits import SEGMENT_BYTES_MAX
from holdfast.core.model import NAME, Subject
from holdfast.core.wire import UNREADABLE
from holdfast.ports import Fetched

codecs.lookup("idna")  # urllib3 encodes hosts by it: imported now, not between two forks

CONNECT_S = 2.0
READ_S = 5.0
"""Longest silence in an answer."""
TOTAL_S = 20.0
"""Longest whole answer, however lively it drips."""
SILENCE_S = 45.0
"""A stream without even a heartbeat (one every 15 s) for this long counts as ended."""
CATALOGUE_BYTES_MAX = 64 * 1024 * 1024
HINT_BYTES_MAX = 64 * 1024
_CHUNK_BYTES: Final = 64 * 1024
_NAMED: Final = re.compile(NAME)
_ERRORS: Final[Mapping[int, type[HoldfastError]]] = {
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
}


class Timeouts(msgspec.Struct, frozen=True):
    """Seconds: to connect, between two bytes, for a whole answer, and of silence in a stream."""

    connect_s: float = CONNECT_S
    read_s: float = READ_S
    total_s: float = TOTAL_S
    silence_s: float = SILENCE_S


class HttpSource:
    """The `Source` port on `base_url`, e.g. `http://edge:8016`. Connects when first asked."""

    def __init__(self, base_url: str, token: str = "", timeouts: Timeouts = Timeouts()) -> None:  # noqa: B008  frozen
        self.name = base_url.rstrip("/")
        self._timeouts = timeouts
        self._headers = {"User-Agent": "holdfast-sdk", "Accept-Encoding": "gzip"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._line = Line(self.name, timeouts.connect_s)

    def catalogue(self) -> Mapping[Subject, str]:
        _, body = self._get("/v1/catalogue", CATALOGUE_BYTES_MAX)
        try:
            listed = _CATALOGUE.decode(body or b"")
        except UNREADABLE as error:
            raise Untrusted("catalogue", f"{self.name} sent no catalogue: {error}") from None
        return {each.subject: each.digest for each in listed.subjects if each.is_named()}

    def snapshot(self, subject: Subject, have: str | None) -> Fetched:
        path = f"/{quote(subject.environment)}/{quote(subject.service)}/snapshot"
        conditions = {}
        if have is not None:
            path, conditions = f"{path}?have={have}", {"If-None-Match": f'"{have}"'}
        headers, body = self._get(path, BUNDLE_BYTES_MAX, conditions)
        try:
            freshness = base64.b64decode(headers.get("Holdfast-Freshness", ""), validate=True)
        except ValueError:
            raise Untrusted("freshness", f"{self.name} sent bad base64 as freshness") from None
        return Fetched(body, freshness)

    def segment(self, subject: Subject, digest: str) -> bytes:
        path = f"/{quote(subject.environment)}/{quote(subject.service)}/segments/{quote(digest)}"
        _, body = self._get(path, SEGMENT_BYTES_MAX)
        return body or b""

    def hints(self) -> HttpHints:
        return HttpHints(self.name, self._headers, self._timeouts)

    def close(self) -> None:
        self._line.close()

    def _get(
        self, path: str, bytes_max: int, conditions: Mapping[str, str] | None = None
    ) -> tuple[Mapping[str, str], bytes | None]:
        """The headers and the body; no body on 304."""
        line, times = self._line, self._timeouts
        try:
            line.bound(times.read_s, times.total_s)
            response = line.open(path, {**self._headers, **(conditions or {})})
            try:
                if response.status == 304:
                    return response.headers, None
                _check_status(self.name, path, response)
                body = _body(response, bytes_max)
            except BaseException:
                response.close()  # what is left unread must not become the next answer
                raise
            response.release_conn()
        except (HTTPError, OSError, zlib.error) as error:
            raise Unavailable(f"{self.name}{path}: {error}") from error
        return response.headers, body


class HttpHints:
    """The `Hints` port: Server-Sent Events from `/v1/stream`. Opens in the constructor."""

    def __init__(self, base_url: str, headers: Mapping[str, str], timeouts: Timeouts) -> None:
        self._name = base_url
        self._line = Line(base_url, timeouts.connect_s)
        # Headers must come within the total; after them only silence ends a stream.
        self._line.bound(timeouts.read_s, timeouts.total_s)
        wanted = {**headers, "Accept": "text/event-stream", "Accept-Encoding": "identity"}
        try:
            self._response = self._line.open("/v1/stream", wanted)
            _check_status(base_url, "/v1/stream", self._response)
        except (HTTPError, OSError) as error:
            self._line.close()
            raise Unavailable(f"{base_url}/v1/stream: {error}") from error
        except HoldfastError:
            self._response.close()
            self._line.close()
            raise
        self._line.bound(timeouts.silence_s, float("inf"))

    def __iter__(self) -> Iterator[Mapping[Subject, str]]:
        try:
            for event in SSEClient(self._chunks()).events():
                if event.event == "change":
                    yield _hint(event.data)
        except (HTTPError, OSError, UnicodeDecodeError) as error:
            raise Unavailable(f"{self._name}/v1/stream: {error}") from error
        finally:
            self._response.close()
            self._line.close()

    def close(self) -> None:
        self._line.cut()

    def _chunks(self) -> Iterator[bytes]:
        waiting_bytes = 0
        while chunk := self._response.read1(_CHUNK_BYTES):
            waiting_bytes = 0 if b"\n\n" in chunk else waiting_bytes + len(chunk)
            if waiting_bytes > HINT_BYTES_MAX:
                raise Untrusted("hint-size", f"{self._name} sent a hint without an end")
            yield chunk


class _Listed(msgspec.Struct, frozen=True):
    environment: str
    service: str
    digest: str

    @property
    def subject(self) -> Subject:
        return Subject(self.environment, self.service)

    def is_named(self) -> bool:
        """Whether the names are names: they become paths, of URLs and of files."""
        service = self.service.removeprefix("_")
        return bool(_NAMED.match(self.environment) and _NAMED.match(service))


class _Catalogue(msgspec.Struct, frozen=True):
    subjects: tuple[_Listed, ...]


_CATALOGUE: Final = msgspec.json.Decoder(_Catalogue)
_HINT: Final = msgspec.json.Decoder(_Listed)


def _hint(data: str) -> Mapping[Subject, str]:
    try:
        listed = _HINT.decode(data)
    except UNREADABLE:
        return {}  # a hint from a later version: the poll goes on
    return {listed.subject: listed.digest} if listed.is_named() else {}


def _check_status(name: str, path: str, response: urllib3.BaseHTTPResponse) -> None:
    if response.status != 200:
        # Redirects count here too: following one would send the token where nobody meant it.
        kind = _ERRORS.get(response.status, Unavailable)
        raise kind(f"{name}{path} answered {response.status}")


def _body(response: urllib3.BaseHTTPResponse, bytes_max: int) -> bytes:
    """The body, decompressed; neither form is ever held beyond `bytes_max`."""
    announced = response.headers.get("Content-Length", "")
    if announced.isdecimal() and int(announced) > bytes_max:
        raise Untrusted("answer-size", f"an answer of {announced} bytes, at most {bytes_max}")
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding not in {"gzip", "identity"}:
        raise Untrusted("answer-encoding", f"an answer in the encoding {encoding[:40]!r}")
    unzip = zlib.decompressobj(wbits=31) if encoding == "gzip" else None
    body = bytearray()
    while chunk := response.read1(_CHUNK_BYTES, decode_content=False):
        body += unzip.decompress(chunk, bytes_max + 1 - len(body)) if unzip else chunk
        if len(body) > bytes_max or (unzip and unzip.unconsumed_tail):
            raise Untrusted("answer-size", f"an answer of more than {bytes_max} bytes")
    if unzip and not unzip.eof:
        raise Unavailable("the answer ended in the middle of its compressed body")
    return bytes(body)


class Line:
    """One connection at a time to one host, on which every single read has a deadline.

    Neither http.client nor urllib3 bounds how long headers or a body may take as a whole: an
    upstream that sends one byte every few seconds holds them for ever.
    """

    def __init__(self, base_url: str, connect_s: float) -> None:
        parts = urlsplit(base_url)
        self._prefix = parts.path.rstrip("/")
        self._silence_s = connect_s
        self._deadline_s = float("inf")
        self._sock: Any = None
        self._cut = False
        pool = _HttpsPool if parts.scheme == "https" else _HttpPool
        self._pool = pool(
            parts.hostname or "",
            parts.port,
            maxsize=1,
            timeout=urllib3.Timeout(connect=connect_s, read=None),
            retries=False,
        )
        self._pool.conn_kw["line"] = self

    def bound(self, silence_s: float, total_s: float) -> None:
        """From now on: longest silence, and longest time in all."""
        self._silence_s = silence_s
        self._deadline_s = time.monotonic() + total_s

    def open(self, path: str, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        return self._pool.urlopen(
            "GET",
            self._prefix + path,
            headers=headers,
            redirect=False,
            preload_content=False,
            decode_content=False,
        )

    def patience_s(self) -> float:
        """How long the next read may wait. Raises `TimeoutError` past the deadline."""
        left_s = self._deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the answer took too long as a whole")
        return min(self._silence_s, left_s)

    def hold(self, sock: Any) -> Any:
        self._sock = sock
        if self._cut:
            self.cut()
        return _Bounded(sock, self)

    def cut(self) -> None:
        """End whatever read is waiting; from any thread."""
        self._cut = True
        if self._sock is not None:
            with suppress(OSError):  # closed already
                self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._pool.close()


class _Bounded:
    """A socket whose `makefile` reads under its line's deadlines; all else is the socket's own."""

    def __init__(self, sock: Any, line: Line) -> None:
        self._sock = sock
        self._line = line

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def makefile(self, mode: str) -> io.BufferedReader:
        """http.client asks for `rb`, once per answer."""
        if mode != "rb":
            raise ValueError(mode)
        # The socket's own file object counts references, so that closing waits for it.
        return io.BufferedReader(_Reads(self._sock.makefile("rb", buffering=0), self))

    def read_into(self, buffer: Any) -> int:
        self._sock.settimeout(self._line.patience_s())
        return int(self._sock.recv_into(buffer))


class _Reads(io.RawIOBase):
    def __init__(self, owner: io.RawIOBase, bounded: _Bounded) -> None:
        self._owner = owner
        self._bounded = bounded

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._bounded.read_into(buffer)

    def close(self) -> None:
        self._owner.close()
        super().close()


class _HttpConnection(HTTPConnection):
    def __init__(self, *args: Any, line: Line, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._line = line

    def connect(self) -> None:
        super().connect()
        self.sock = self._line.hold(self.sock)


class _HttpsConnection(HTTPSConnection):
    def __init__(self, *args: Any, line: Line, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._line = line

    def connect(self) -> None:
        super().connect()
        self.sock = self._line.hold(self.sock)


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _HttpConnection


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _HttpsConnection
