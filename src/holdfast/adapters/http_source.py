"""One upstream over HTTP, held to bounds: sizes, times, redirects, decompression.

An upstream may be slow, broken or hostile; here it can at most waste a few seconds and a few
megabytes. Not thread-safe, but for `hints`: each stream has a connection of its own. After a fork,
make a new one: no HTTP client survives a fork with a warm pool.
"""

from __future__ import annotations

import base64
import io
import re
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Final
from urllib.parse import quote

import msgspec
import urllib3
from sseclient import SSEClient
from urllib3.exceptions import HTTPError

from holdfast.adapters.http_line import Line
from holdfast.core import pacing
from holdfast.core.bundle import BUNDLE_BYTES_MAX
from holdfast.core.conversation import PATIENCE_S
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

CONNECT_S = 2.0
READ_S = 3.0
"""Longest silence in an answer."""
SILENCE_S = 45.0
"""A stream without even a heartbeat for this long counts as ended."""
HEARTBEATS: Final = 2.0
"""After so many heartbeats' time without one, as they were announced, a stream is silent."""
SILENCE_MIN_S = 5.0
STREAM_BYTES_PER_S: Final = 1024 * 1024
STREAM_EVENTS_PER_S: Final = 5_000
"""A stream that brings more is read no faster; its sender waits."""
CATALOGUE_BYTES_MAX = 64 * 1024 * 1024
HINT_BYTES_MAX = 64 * 1024
HEARTBEAT_HEADER: Final = "Holdfast-Heartbeat"
"""Seconds between two heartbeats, as a stream announces them."""
_HEARTBEAT: Final = re.compile(r"[0-9]{1,4}(?:\.[0-9]{1,3})?")
_DIGEST_CHARS_MAX: Final = 128
_CHUNK_BYTES: Final = 64 * 1024
VIA_CHARS_MAX: Final = 1024
TAGS_MAX: Final = 10_000
"""Snapshots of which it is known how a cache names them."""
_NAMED: Final = re.compile(NAME)
_TAG: Final = re.compile(r'W/"([0-9a-f]{64})\.[0-9a-f]{1,16}"')
_ERRORS: Final[Mapping[int, type[HoldfastError]]] = {
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
}


class Timeouts(msgspec.Struct, frozen=True):
    """Seconds: to connect, between two bytes, for a whole answer where nobody says `within`, and of
    silence in a stream.
    """

    connect_s: float = CONNECT_S
    read_s: float = READ_S
    total_s: float = PATIENCE_S
    silence_s: float = SILENCE_S


class HttpSource:
    """The `Source` port on `base_url`, e.g. `http://edge:8016`. Connects when first asked."""

    def __init__(
        self,
        base_url: str,
        token: str = "",
        timeouts: Timeouts = Timeouts(),  # noqa: B008  frozen
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`headers` go with every question. `via` is the way that the last catalogue came."""
        self.name = base_url.rstrip("/")
        self._timeouts = timeouts
        self._headers = {"User-Agent": "holdfast-sdk", "Accept-Encoding": "gzip"}
        self._headers.update(headers or {})
        self.via = ""
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._line = Line(self.name, timeouts.connect_s)
        self._tags: dict[str, str] = {}
        self._until_s: float | None = None

    def within(self, total_s: float) -> None:
        self._until_s = time.monotonic() + total_s

    def catalogue(self) -> Mapping[Subject, str]:
        headers, body = self._get("/v1/catalogue", CATALOGUE_BYTES_MAX)
        self.via = headers.get("Holdfast-Via", "")[:VIA_CHARS_MAX]
        try:
            listed = _CATALOGUE.decode(body or b"")
        except UNREADABLE as error:
            raise Untrusted("catalogue", f"{self.name} sent no catalogue: {error}") from None
        return {each.subject: each.digest for each in listed.subjects if each.is_named()}

    def snapshot(self, subject: Subject, have: str | None) -> Fetched:
        path = f"/{quote(subject.environment)}/{quote(subject.service)}/snapshot"
        conditions = {}
        if have is not None:
            conditions = {"If-None-Match": f'"{have}"{self._tags.get(have, "")}'}
            path = f"{path}?have={have}"
        headers, body = self._get(path, BUNDLE_BYTES_MAX, conditions)
        self._note_tag(headers.get("ETag", ""))
        try:
            freshness = base64.b64decode(headers.get("Holdfast-Freshness", ""), validate=True)
        except ValueError:
            raise Untrusted("freshness", f"{self.name} sent bad base64 as freshness") from None
        return Fetched(body, freshness, pacing.pace_s(headers.get(pacing.PACE_HEADER, "")))

    def _note_tag(self, tag: str) -> None:
        """A cache on the way knows its answer by the whole tag, of which the digest is a part."""
        if found := _TAG.fullmatch(tag):
            if len(self._tags) >= TAGS_MAX:
                self._tags.clear()
            self._tags[found[1]] = f", {tag}"

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
            line.bound(times.read_s, self._left_s())
            wanted = {**self._headers, **(conditions or {})}
            response = line.open(path, wanted, body_bytes_max=bytes_max)
            try:
                if response.status == 304:
                    response.release_conn()
                    return response.headers, None
                _check_status(self.name, path, response)
                body = _body(line, response, bytes_max)
            except BaseException:
                response.close()  # what is left unread must not become the next answer
                raise
            response.release_conn()
        except (HTTPError, OSError, zlib.error) as error:
            raise Unavailable(f"{self.name}{path}: {error}") from error
        return response.headers, body

    def _left_s(self) -> float:
        if self._until_s is None:
            return self._timeouts.total_s
        left_s = self._until_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("no time is left for this question")
        return left_s


class HttpHints:
    """The `Hints` port: Server-Sent Events from `/v1/stream`. Opens in the constructor."""

    def __init__(self, base_url: str, headers: Mapping[str, str], timeouts: Timeouts) -> None:
        self._name = base_url
        self._timeouts = timeouts
        self.on_silence: Callable[[], None] = _nobody
        self._line = Line(base_url, timeouts.connect_s)
        # Headers must come within the total; after them only silence ends a stream.
        self._line.bound(timeouts.read_s, timeouts.total_s)
        wanted = {**headers, "Accept": "text/event-stream", "Accept-Encoding": "identity"}
        try:
            self._response = self._line.open("/v1/stream", wanted, body_bytes_max=float("inf"))
            _check_status(base_url, "/v1/stream", self._response)
        except (HTTPError, OSError) as error:
            self._line.close()
            raise Unavailable(f"{base_url}/v1/stream: {error}") from error
        except HoldfastError:
            self._response.close()
            self._line.close()
            raise
        self._quiet_s = _quiet_s(self._response.headers.get(HEARTBEAT_HEADER, ""), timeouts)
        self._line.bound(self._quiet_s, float("inf"))
        self._line.on_silence = self._was_silent

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

    def _was_silent(self) -> bool:
        """Tell of it, and be twice as patient the next time, up to the bound."""
        if self._quiet_s >= self._timeouts.silence_s:
            return False
        self.on_silence()
        self._quiet_s = min(2 * self._quiet_s, self._timeouts.silence_s)
        self._line.bound(self._quiet_s, float("inf"))
        return True

    def _chunks(self) -> Iterator[bytes]:
        waiting_bytes = 0
        pace = _Brake()
        while chunk := self._response.read1(_CHUNK_BYTES):
            waiting_bytes = 0 if b"\n\n" in chunk else waiting_bytes + len(chunk)
            if waiting_bytes > HINT_BYTES_MAX:
                raise Untrusted("hint-size", f"{self._name} sent a hint without an end")
            yield chunk
            pace.take(len(chunk), chunk.count(b"\n\n"))


class _Brake:
    """Lets a second's worth of a stream through in a second."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self._share = 0.0

    def take(self, size: int, events: int) -> None:
        self._share += max(size / STREAM_BYTES_PER_S, events / STREAM_EVENTS_PER_S)
        passed_s = time.monotonic() - self._began_s
        if self._share > passed_s + 1:
            time.sleep(min(1.0, self._share - passed_s))
        elif passed_s > self._share + 1:
            self._began_s, self._share = time.monotonic(), 0.0


def _nobody() -> None:
    """Nobody wants to know."""


def _quiet_s(announced: str, timeouts: Timeouts) -> float:
    """How long a stream with such heartbeats may be silent before somebody hears of it."""
    if not _HEARTBEAT.fullmatch(announced):
        return timeouts.silence_s
    return min(max(HEARTBEATS * float(announced), SILENCE_MIN_S), timeouts.silence_s)


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
        named = _NAMED.fullmatch(self.environment) and _NAMED.fullmatch(service)
        return bool(named) and len(self.digest) <= _DIGEST_CHARS_MAX


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
        message = f"{name}{path} answered {response.status}"
        if response.status in _ERRORS:
            raise _ERRORS[response.status](message)
        wished_s = pacing.retry_after_s(response.headers.get("Retry-After", ""), time.time())
        poll_s = pacing.pace_s(response.headers.get(pacing.PACE_HEADER, ""))
        raise Unavailable(message, wished_s, poll_s)


def _body(line: Line, response: urllib3.BaseHTTPResponse, bytes_max: int) -> bytes:
    """The body, decompressed; neither form is ever held beyond `bytes_max`."""
    announced = response.headers.get("Content-Length", "")
    if announced.isdecimal() and int(announced) > bytes_max:
        raise Untrusted("answer-size", f"an answer of {announced} bytes, at most {bytes_max}")
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding not in {"gzip", "identity"}:
        raise Untrusted("answer-encoding", f"an answer in the encoding {encoding[:40]!r}")
    unzip = zlib.decompressobj(wbits=31) if encoding == "gzip" else None
    line.content_came()
    body = io.BytesIO()  # hands out what it holds without a second copy
    while chunk := response.read1(_CHUNK_BYTES, decode_content=False):
        line.content_came()
        while chunk:  # a little of it at a time: 64 kB may hold 64 MB
            body.write(unzip.decompress(chunk, _CHUNK_BYTES) if unzip else chunk)
            chunk = unzip.unconsumed_tail if unzip else b""
            if body.tell() > bytes_max:
                raise Untrusted("answer-size", f"an answer of more than {bytes_max} bytes")
        if unzip and unzip.unused_data:
            raise Untrusted("answer-size", "an answer that goes on after the end of its body")
    if unzip and not unzip.eof:
        raise Unavailable("the answer ended in the middle of its compressed body")
    return body.getvalue()
