"""The control plane's HTTP API as the commands call it; errors come back as `core.errors`."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self, TypeVar

import httpx2
import msgspec

from holdfast.apps.cli.connection import TIMEOUT_S, Connection
from holdfast.apps.http import Fault
from holdfast.core import errors
from holdfast.core.limits import SNAPSHOT_BYTES_MAX

Body = TypeVar("Body")

ANSWER_BYTES_MAX = 2 * SNAPSHOT_BYTES_MAX
"""Of any answer; a server that sends more is not one of ours."""


HEAD = "/v1/head"
"""Every control plane has it, and no edge."""


class _Failure(msgspec.Struct):
    error: Fault


class NoAnswer(errors.Unavailable):
    """Nobody answers at the control plane's address."""


class NotControl(errors.NotFound):
    """What answers is no control plane."""

    code = "not-control"


class Api:
    """One connection to one control plane. Every call is bounded in time and size."""

    def __init__(
        self, connection: Connection, transport: httpx2.BaseTransport | None = None
    ) -> None:
        self.connection = connection
        if not (connection.token.isascii() and connection.token.isprintable()):
            raise errors.Unauthenticated("the token has characters that no token has")
        headers = {"Authorization": f"Bearer {connection.token}"} if connection.token else {}
        self._client = httpx2.Client(
            base_url=connection.server,
            headers=headers,
            timeout=TIMEOUT_S,
            transport=transport,
            # Loopback is no business of a proxy that the surroundings name.
            trust_env=not connection.server.startswith(("http://127.", "http://localhost")),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def call(
        self,
        kind: type[Body],
        method: str,
        path: str,
        body: object = None,
        **query: object,
    ) -> Body:
        """The answer, checked against the shape that the caller needs. Raises `core.errors`.

        A query parameter that is none is left out.
        """
        content = None if body is None else msgspec.json.encode(body)
        return self._decoded(kind, path, self.raw(method, path, query=query, content=content))

    def call_with(self, kind: type[Body], method: str, path: str, content: bytes) -> Body:
        """`call` with a body that goes out as it is."""
        return self._decoded(kind, path, self.raw(method, path, content=content))

    def _decoded(self, kind: type[Body], path: str, content: bytes) -> Body:
        try:
            return msgspec.json.decode(content or b"null", type=kind)
        except msgspec.MsgspecError as wrong:
            raise errors.Unavailable(
                f"{self.connection.server}{path} answers in a shape that this version does not "
                f"know ({wrong}): is it another version, or another program?"
            ) from None

    def raw(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        content: bytes | None = None,
    ) -> bytes:
        """The answer's bytes. Raises `core.errors`."""
        return self._exchange(method, path, query or {}, content)[0]

    def head(self, path: str) -> Mapping[str, str]:
        """The headers of an answer; their names in any case. Raises `core.errors`."""
        return self._exchange("HEAD", path, {}, None)[1]

    def _exchange(
        self, method: str, path: str, query: Mapping[str, object], content: bytes | None
    ) -> tuple[bytes, Mapping[str, str]]:
        given = {name: str(value) for name, value in query.items() if value is not None}
        headers = {} if content is None else {"Content-Type": "application/json"}
        try:
            with self._client.stream(
                method, path, params=given, content=content, headers=headers
            ) as answer:
                received = _bounded(answer)
        except (httpx2.TransportError, httpx2.InvalidURL) as failed:
            raise NoAnswer(
                f"{self.connection.server} does not answer ({str(failed) or type(failed).__name__})"
            ) from None
        if answer.status_code == 404 and path != HEAD and self._is_edge():
            raise NotControl(
                f"{self.connection.server} is an edge: it answers for settings and takes no changes"
            )
        if answer.status_code >= 400:
            raise _error_of(answer.status_code, received, self.connection.server + path)
        return received, answer.headers

    def _is_edge(self) -> bool:
        """Whether what answers follows a control plane, and is none: it has no journal's head."""
        try:
            self.raw("GET", HEAD)
        except errors.NotFound:
            return True
        except errors.HoldfastError:
            return False
        return False


def _bounded(answer: httpx2.Response) -> bytes:
    parts = []
    size = 0
    for part in answer.iter_bytes():
        size += len(part)
        if size > ANSWER_BYTES_MAX:
            raise errors.Unavailable(
                f"{answer.url} answers with more than {ANSWER_BYTES_MAX} bytes"
            )
        parts.append(part)
    return b"".join(parts)


def _error_of(status: int, received: bytes, url: str) -> errors.HoldfastError:
    try:
        fault = msgspec.json.decode(received, type=_Failure).error
    except msgspec.MsgspecError:
        return errors.Unavailable(f"{url} answers {status}: is it a control plane of Holdfast?")
    if fault.problems:
        return (errors.Guarded if status == 403 else errors.Invalid)(fault.problems)
    kind = _KINDS.get(status, errors.CallerError if status < 500 else errors.OperatorError)
    error = kind(fault.message)
    error.code = fault.code
    return error


class Outdated(errors.Conflict):
    """A conflict as the server told it; its message names both revisions."""

    def __init__(self, message: str) -> None:
        errors.HoldfastError.__init__(self, message)


_KINDS: dict[int, type[errors.HoldfastError]] = {
    401: errors.Unauthenticated,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: Outdated,
    413: errors.TooLarge,
    503: errors.Unavailable,
}
