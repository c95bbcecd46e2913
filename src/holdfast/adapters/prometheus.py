"""One PromQL query against a Prometheus server, bounded in time and size.

`GET /api/v1/query` as in Prometheus' HTTP API: an instant query gives a vector of samples, or one
scalar. Whatever goes wrong is `Unavailable`: a gate that can't be asked holds.
"""

from __future__ import annotations

import math
from typing import Annotated, Final, Literal

import msgspec
import urllib3
from urllib3.exceptions import HTTPError

from holdfast.core.errors import Unavailable

CONNECT_S: Final = 1.0
READ_S: Final = 3.0
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
    """Asks any server; keeps a few connections. Thread-safe."""

    def __init__(self) -> None:
        self._pool = urllib3.PoolManager(
            num_pools=4,
            maxsize=1,
            timeout=urllib3.Timeout(connect=CONNECT_S, read=READ_S),
            retries=False,
        )

    def ask(self, base_url: str, query: str) -> list[float]:
        """The values that the query gives now, none for an empty vector. Raises `Unavailable`."""
        url = base_url.rstrip("/") + "/api/v1/query"
        if not url.startswith(("http://", "https://")):
            raise Unavailable(f"{url} is no address of a Prometheus server")
        try:
            answer = self._pool.request(
                "GET",
                url,
                fields={"query": query[:QUERY_CHARS_MAX]},
                redirect=False,
                preload_content=False,
            )
            body = answer.read(BYTES_MAX + 1)
            answer.release_conn()
        except (HTTPError, OSError, ValueError) as error:
            raise Unavailable(f"{url}: {error}") from error
        if answer.status != 200:
            raise Unavailable(f"{url} answered {answer.status}")
        return _values(url, body)

    def close(self) -> None:
        self._pool.clear()


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
