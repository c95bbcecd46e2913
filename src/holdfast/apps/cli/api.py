"""The control plane's HTTP API as the commands call it; errors come back as `core.errors`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Final, Self, TypeVar

import httpx2
import msgspec

from holdfast.apps.cli.connection import Connection
from holdfast.apps.cli.nodes import (
    CONNECT_S,
    NOTHING_DONE,
    READS,
    WHOLE_S,
    Care,
    Outcome,
    Silence,
    care_of,
    may_go_on,
    patience_s,
    told,
)
from holdfast.apps.http import Fault
from holdfast.core import errors
from holdfast.core.limits import SNAPSHOT_BYTES_MAX

Body = TypeVar("Body")

ANSWER_BYTES_MAX = 2 * SNAPSHOT_BYTES_MAX
"""Of any answer; a server that sends more is not one of ours."""


HEAD = "/v1/head"
"""Every control plane has it, and no edge."""
REVISION: Final = "Holdfast-Revision"
KEY: Final = "Idempotency-Key"
_UNKNOWN: Final = "it is not known whether the change was made"
_UNSENT: Final = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.UnsupportedProtocol,
    httpx2.InvalidURL,
)
"""What fails before a byte of the call has left."""


class _Failure(msgspec.Struct):
    error: Fault


class _Unready(msgspec.Struct):
    """What `/readyz` of an edge says while it is not."""

    ready: bool
    missing: tuple[str, ...] = ()
    silence: str = ""
    fault: str = ""

    def __str__(self) -> str:
        missing = f"nothing yet of {', '.join(self.missing)}" if self.missing else ""
        return self.fault or self.silence or missing or "it knows no tokens and no settings"


class NoAnswer(errors.Unavailable):
    """Nobody answers at the control plane's address, or none of its nodes."""


class OutcomeUnknown(errors.Unavailable):
    """A write was sent and its answer did not come: it may stand, and it may not."""

    code = "outcome-unknown"


class NotControl(errors.NotFound):
    """What answers is no control plane."""

    code = "not-control"


class Api:
    """The nodes of one control plane, as one. Every call is bounded in time and size.

    The node that answered last is asked first. `revision` is the newest one that this command knows
    to stand: answers are never from before it.
    """

    def __init__(
        self, connection: Connection, transport: httpx2.BaseTransport | None = None
    ) -> None:
        self.connection = connection
        self.revision = connection.at_least
        self._transport = transport
        if not (connection.token.isascii() and connection.token.isprintable()):
            raise errors.Unauthenticated("the token has characters that no token has")
        self._clients: dict[str, httpx2.Client] = {}
        self._answers = connection.server

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for client in self._clients.values():
            client.close()

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

    def call_based(
        self, kind: type[Body], method: str, path: str, content: bytes, key: str
    ) -> tuple[Body | Outdated, list[Silence]]:
        """A commit onto one revision, sent on as often as it takes: (its answer or the conflict,
        what the nodes before said). By `key` they know it again.
        """
        silences: list[Silence] = []
        try:
            received = self._exchange(method, path, {}, content, "based", silences, key)[0]
        except Outdated as conflict:
            return conflict, silences
        return self._decoded(kind, path, received), silences

    def _decoded(self, kind: type[Body], path: str, content: bytes) -> Body:
        try:
            return msgspec.json.decode(content or b"null", type=kind)
        except msgspec.MsgspecError as wrong:
            raise errors.Unavailable(
                f"{self._answers}{path} answers in a shape that this version does not "
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
        care = care_of(method, path)
        return self._exchange(method, path, query or {}, content, care, [])[0]

    def document(self, path: str, **query: object) -> bytes:
        """The bytes of a JSON object, as they came. Raises `core.errors`."""
        received = self.raw("GET", path, query=query)
        self._decoded(dict[str, msgspec.Raw], path, received)
        return received

    def head(self, path: str) -> Mapping[str, str]:
        """The headers of an answer; their names in any case. Raises `core.errors`."""
        return self._exchange("HEAD", path, {}, None, "again", [])[1]

    def _exchange(
        self,
        method: str,
        path: str,
        query: Mapping[str, object],
        content: bytes | None,
        care: Care,
        silences: list[Silence],
        key: str = "",
    ) -> tuple[bytes, Mapping[str, str]]:
        """The first answer of a node, those that answer first of all; `silences` grows by what the
        others said.
        """
        nodes = list(self._nodes())
        for number, url in enumerate(nodes):
            wait_s = patience_s(care, len(nodes) - number - 1)
            try:
                answer = self._ask(url, wait_s, method, path, query, content, key)
            except KeyboardInterrupt as stopped:
                if care == "again":
                    raise
                raise OutcomeUnknown(f"stopped while {url} was asked: {_UNKNOWN}") from stopped
            if not isinstance(answer, Silence):
                self._answers = url
                return answer
            silences.append(answer)
            if not may_go_on(care, answer.outcome):
                break
        if care != "again" and any(one.outcome == "unknown" for one in silences):
            raise OutcomeUnknown(f"{told(silences)}: {_UNKNOWN}")
        raise NoAnswer(told(silences))

    def _nodes(self) -> Iterator[str]:
        yield self._answers
        yield from (url for url in self.connection.servers if url != self._answers)

    def _ask(
        self,
        url: str,
        wait_s: float,
        method: str,
        path: str,
        query: Mapping[str, object],
        content: bytes | None,
        key: str = "",
    ) -> tuple[bytes, Mapping[str, str]] | Silence:
        given = {name: str(value) for name, value in query.items() if value is not None}
        if self.revision:
            given["at_least"] = str(self.revision)
        headers = {} if content is None else {"Content-Type": "application/json"}
        if key:
            headers[KEY] = key
        timeout = httpx2.Timeout(wait_s, connect=CONNECT_S)
        try:
            with self._client(url).stream(
                method, path, params=given, content=content, headers=headers, timeout=timeout
            ) as answer:
                received = _bounded(answer, time.monotonic() + WHOLE_S)
        except (httpx2.TransportError, httpx2.InvalidURL) as failed:
            why = str(failed) or type(failed).__name__
            if isinstance(failed, _UNSENT):
                return Silence(url, f"does not answer ({why})")
            return Silence(url, f"does not answer ({why})", "unknown")
        if answer.status_code == 404 and path != HEAD and self._is_edge(url):
            raise NotControl(f"{url} is an edge: it answers for settings and takes no changes")
        if answer.status_code >= 300:  # nothing of ours redirects
            error = _error_of(answer.status_code, received, url + path)
            if answer.status_code != 503:
                raise error
            outcome: Outcome = "nothing" if error.code in NOTHING_DONE else "unknown"
            return Silence(url, f"answers 503 {error.code}: {error}", outcome)
        if method not in READS or self.connection.others:
            self._saw(answer.headers.get(REVISION, ""))
        return received, answer.headers

    def _saw(self, revision: str) -> None:
        if revision.isdecimal():
            self.revision = max(self.revision, int(revision))

    def _client(self, url: str) -> httpx2.Client:
        client = self._clients.get(url)
        if client is None:
            token = self.connection.token
            client = self._clients[url] = httpx2.Client(
                base_url=url,
                headers={"Authorization": f"Bearer {token}"} if token else {},
                transport=self._transport,
                # Loopback is no business of a proxy that the surroundings name.
                trust_env=not url.startswith(("http://127.", "http://localhost")),
            )
        return client

    def _is_edge(self, url: str) -> bool:
        """Whether what answers follows a control plane, and is none: it has no journal's head."""
        try:
            self._ask(url, CONNECT_S, "GET", HEAD, {}, None)
        except errors.NotFound:
            return True
        except errors.HoldfastError:
            return False
        return False


def _bounded(answer: httpx2.Response, until_s: float) -> bytes:
    parts = []
    size = 0
    for part in answer.iter_bytes():
        size += len(part)
        if size > ANSWER_BYTES_MAX:
            raise errors.Unavailable(
                f"{answer.url} answers with more than {ANSWER_BYTES_MAX} bytes"
            )
        if time.monotonic() > until_s:
            raise httpx2.ReadTimeout(f"not whole after {WHOLE_S:.0f} s")
        parts.append(part)
    return b"".join(parts)


def _error_of(status: int, received: bytes, url: str) -> errors.HoldfastError:
    try:
        fault = msgspec.json.decode(received, type=_Failure).error
    except msgspec.MsgspecError:
        with suppress(msgspec.MsgspecError):
            return errors.Unavailable(f"not ready: {msgspec.json.decode(received, type=_Unready)}")
        return errors.Unavailable(f"{url} answers {status}: is it a control plane of Holdfast?")
    if fault.problems:
        return (errors.Guarded if status == 403 else errors.Invalid)(fault.problems)
    kind = _KINDS.get(status, errors.CallerError if status < 500 else errors.OperatorError)
    error = kind(fault.message)
    error.code = fault.code
    if isinstance(error, Outdated):
        error.actual_revision = fault.actual_revision or 0
    return error


class Outdated(errors.Conflict):
    """A conflict as the server told it; its message names both revisions."""

    def __init__(self, message: str) -> None:
        errors.HoldfastError.__init__(self, message)
        self.actual_revision = 0


_KINDS: dict[int, type[errors.HoldfastError]] = {
    401: errors.Unauthenticated,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: Outdated,
    413: errors.TooLarge,
    503: errors.Unavailable,
}
