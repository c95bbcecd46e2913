"""One PromQL query against a Prometheus server, bounded in time and size.

`GET /api/v1/query` as in Prometheus' HTTP API: an instant query gives a vector of samples, or one
scalar. Whatever goes wrong is `Unavailable`: a gate that can't be asked holds.
"""

from __future__ import annotations

import math
import threading
from typing import Annotated, Final, Literal
from urllib.parse import urlencode

import msgspec
from urllib3.exceptions import HTTPError

from holdfast.adapters.http_line import Line
from holdfast.core.errors import Unavailable

CONNECT_S: Final = 1.0
READ_S: Final = 3.0
"""Longest silence in an answer."""
TOTAL_S: Final = 5.0
"""Longest whole answer, however lively it drips."""
BYTES_MAX: Final = 1024 * 1024
QUERY_CHARS_MAX: Final = 4_096

_Sample = tuple[float, str]


class _Series(msgspec.Struct):
    value: _Sample


class _Vector(msgspec.Struct, tag_field="resultType", tag="vector"):
    result: list[_Series]


class _Scalar(msgspec.Struct, tag_field="resultType", tag="scalar"):
    result: _Sample


class _Answer(msgspec.Struct):
    status: Annotated[Literal["success"], msgspec.Meta(description="`error` is no answer")]
    data: _Vector | _Scalar


_decode: Final = msgspec.json.Decoder(_Answer).decode


class Prometheus:
    """Asks any server, each time anew. Thread-safe; `close` ends what is being asked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: set[Line] = set()

    def ask(self, base_url: str, query: str) -> list[float]:
        """The values that the query gives now, none for an empty vector. Raises `Unavailable`."""
        url = base_url.rstrip("/") + "/api/v1/query"
        if not url.startswith(("http://", "https://")):
            raise Unavailable(f"{url} is no address of a Prometheus server")
        try:
            status, body = self._get(url, urlencode({"query": query[:QUERY_CHARS_MAX]}))
        except (HTTPError, OSError, ValueError) as error:
            raise Unavailable(f"{url}: {error}") from error
        if status != 200:
            raise Unavailable(f"{url} answered {status}")
        return _values(url, body)

    def close(self) -> None:
        with self._lock:
            for line in self._lines:
                line.cut()

    def _get(self, url: str, query: str) -> tuple[int, bytes]:
        line = Line(url, CONNECT_S)
        line.bound(READ_S, TOTAL_S)
        with self._lock:
            self._lines.add(line)
        try:
            answer = line.open(f"?{query}", {"User-Agent": "holdfast"}, body_bytes_max=BYTES_MAX)
            return answer.status, answer.read(BYTES_MAX + 1)
        finally:
            with self._lock:
                self._lines.discard(line)
            line.close()


def _values(url: str, body: bytes) -> list[float]:
    if len(body) > BYTES_MAX:
        raise Unavailable(f"{url} answered with more than {BYTES_MAX} bytes")
    try:
        data = _decode(body).data
        samples = (
            [each.value for each in data.result] if isinstance(data, _Vector) else [data.result]
        )
        values = [float(value) for _, value in samples]
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise Unavailable(f"{url} answered with no vector and no scalar: {error}") from None
    if any(math.isnan(value) for value in values):
        raise Unavailable(f"{url} answered NaN: that is no measurement")
    return values
