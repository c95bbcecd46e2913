"""HTTP as values: a request, a response, and what every face of every process agrees on.

The errors' table is here, and only here:

    error             status  exit code
    Invalid              422          1   problems found
    AuthorError          422          1
    Conflict             409          1
    Misdirected          421          1
    NotFound             404          1
    Unauthenticated      401          2   wrong use
    Forbidden            403          2
    Guarded              403          1   a policy asks for more
    TooLarge             413          2
    CallerError          400          2
    Untrusted            502          1   problems found, in the system
    NotReproducible      503          1   this node is of a build that makes other bytes
    Fenced               503          1   another node leads: nothing was written
    Unavailable          503          1
    Damaged              500          1
    OperatorError        500          1

An error's body on our own routes is
`{"error": {"code": "…", "message": "…", "problems": [Problem, …]}}`; OFREP has its own shapes
(`holdfast.apps.ofrep`). What an operator must mend is not told to callers in words: they get the
code, the log gets the message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import msgspec

from holdfast.core import errors
from holdfast.core.errors import HoldfastError, Problem
from holdfast.core.reproduce import NotReproducible

Headers: TypeAlias = list[tuple[bytes, bytes]]
"""As on the wire, in order; names in lower case."""

TARGET_BYTES_MAX = 8 * 1024
"""Path and query of one request."""
HEAD_BYTES_MAX = 32 * 1024
"""Request line and headers of one request."""
HEADERS_MAX = 64
"""Header lines of one request."""
TOKEN_CHARS_MAX = 256
"""Text of one API token; what is longer is no token of ours."""

JSON_TYPE = (b"content-type", b"application/json")
NO_STORE = (b"cache-control", b"no-store")

_STATUS: dict[type[HoldfastError], tuple[int, int]] = {
    errors.Invalid: (422, 1),
    errors.AuthorError: (422, 1),
    errors.Conflict: (409, 1),
    errors.Misdirected: (421, 1),
    errors.NotFound: (404, 1),
    errors.Unauthenticated: (401, 2),
    errors.Forbidden: (403, 2),
    errors.Guarded: (403, 1),
    errors.TooLarge: (413, 2),
    errors.CallerError: (400, 2),
    errors.Untrusted: (502, 1),
    NotReproducible: (503, 1),
    errors.Fenced: (503, 1),
    errors.Unavailable: (503, 1),
    errors.Damaged: (500, 1),
    errors.OperatorError: (500, 1),
    HoldfastError: (500, 1),
}


def status_of(error: HoldfastError) -> int:
    """The HTTP status of an error, by its nearest class in the table."""
    return _row(error)[0]


def exit_code_of(error: HoldfastError) -> int:
    """The exit code of a command that ends with this error."""
    return _row(error)[1]


def _row(error: HoldfastError) -> tuple[int, int]:
    return next(_STATUS[cls] for cls in type(error).__mro__ if cls in _STATUS)


class Request(msgspec.Struct, gc=False):
    """One request, its body read whole.

    `path` is percent-decoded and begins with a slash, `query` is as sent, without the `?`.

    A face that gives the very same object again, with another body, says so by `kept`. Who answers
    may then leave a shorter way in `way`: the face calls it first with the request, and it answers,
    or gives none when it is out of date.
    """

    method: str
    path: str
    query: bytes = b""
    headers: Sequence[tuple[bytes, bytes]] = ()
    body: bytes = b""
    kept: bool = False
    way: Callable[[Request], Response | None] | None = None

    def header(self, name: bytes) -> bytes | None:
        """The first header of that name (lower case), or none."""
        for each, value in self.headers:
            if each == name:
                return value
        return None


class Response(msgspec.Struct, gc=False):
    """One answer. `headers` hold no content-length: the face adds it, of `body`.

    A response may be handed out many times, so nobody changes one. `head` and `wire` are the
    face's own: its headers as they are sent, and those with a small body behind them.
    """

    status: int
    headers: Headers
    body: bytes = b""
    head: bytes = b""
    wire: bytes = b""

    def but(self, *headers: tuple[bytes, bytes]) -> Response:
        """The same answer with more headers."""
        return Response(self.status, [*self.headers, *headers], self.body)


class Fault(msgspec.Struct, omit_defaults=True):
    """What stands under `error` in the body of an answer that is none.

    The revisions stand in conflicts (the change was made on one, the journal is at the other), and
    where a node is behind (one was asked for, it is at the other).
    """

    code: str
    message: str
    problems: tuple[Problem, ...] = ()
    expected_revision: int | None = None
    actual_revision: int | None = None


def json_response(
    body: object, status: int = 200, headers: Iterable[tuple[bytes, bytes]] = ()
) -> Response:
    """Any value msgspec can encode, as JSON; already encoded bytes go through `msgspec.Raw`."""
    return Response(status, [JSON_TYPE, *headers], msgspec.json.encode(body))


def fault(
    status: int,
    code: str,
    message: str,
    problems: Sequence[Problem] = (),
    headers: Iterable[tuple[bytes, bytes]] = (),
) -> Response:
    """An error in the shape of our own routes; never cached."""
    body = {"error": Fault(code, message, tuple(problems))}
    return json_response(body, status, [NO_STORE, *headers])


def error_response(error: HoldfastError) -> Response:
    """The answer for an error, by the table of this module."""
    status = status_of(error)
    body = Fault(error.code, public_message(error))
    if isinstance(error, errors.Invalid | errors.Guarded):
        body.problems = error.problems
    if isinstance(error, errors.Conflict | errors.Behind):
        body.expected_revision = error.expected_revision
        body.actual_revision = error.actual_revision
    return json_response({"error": body}, status, [NO_STORE, *error_headers(status)])


def public_message(error: HoldfastError) -> str:
    """What a caller may read of an error: an operator's errors may name paths and peers."""
    if not isinstance(error, errors.OperatorError):
        return str(error) or error.code
    if isinstance(error, NotReproducible):
        return (
            "this node runs a build of Holdfast that makes other snapshots than were published: it "
            "commits, signs and serves nothing. Ask another node; /readyz of this one says more"
        )
    if isinstance(error, errors.SickDisk | errors.Marked):
        return error.public
    if isinstance(error, errors.Behind):
        return str(error)
    if isinstance(error, errors.Unavailable):
        return "a part of the system does not answer; try again"
    return "the system is at fault, not the call; its log says more"


def error_headers(status: int) -> Headers:
    """What a status must be sent with."""
    if status == 401:
        return [(b"www-authenticate", b'Bearer realm="holdfast"')]
    if status in {429, 503}:
        return [(b"retry-after", b"1")]
    return []


def not_found(path: str) -> Response:
    return fault(404, "not-found", f"no such route: {path[:256]}")


def method_not_allowed(method: str, allow: str) -> Response:
    """405 with the methods that the route has: `allow` is `GET, HEAD`, say."""
    message = f"{method} is not for this route, but {allow}"
    return fault(405, "method-not-allowed", message, headers=[(b"allow", allow.encode())])


def token_text(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The token of `Authorization: Bearer …` or of `X-API-Key: …`; none when there is none.

    An authorization of another scheme, and what can't be a token, count as none.
    """
    for name, value in headers:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return _text(value[7:])
        if name == b"x-api-key":
            return _text(value)
    return None


def _text(value: bytes) -> str | None:
    text = value.strip()
    if not text or len(text) > TOKEN_CHARS_MAX or not text.isascii():
        return None
    return text.decode("ascii")


def etag_matches(if_none_match: bytes | None, etag: bytes) -> bool:
    """Whether the caller has this representation (RFC 9110, 13.1.2: weak comparison).

    `etag` is quoted, as it is sent.
    """
    if if_none_match is None:
        return False
    if if_none_match == etag:
        return True
    candidates = (each.strip() for each in if_none_match.split(b","))
    return any(each == b"*" or each.removeprefix(b"W/") == etag for each in candidates)


def accepts_gzip(accept_encoding: bytes | None) -> bool:
    """Whether gzip may be sent: it is named (or `*` is) and not with a weight of nothing."""
    if not accept_encoding:
        return False
    weights = dict(_codings(accept_encoding))
    return weights.get(b"gzip", weights.get(b"*", 0.0)) > 0


def _codings(accept_encoding: bytes) -> Iterable[tuple[bytes, float]]:
    for part in accept_encoding.lower().split(b","):
        coding, _, parameter = part.partition(b";")
        _, given, weight = parameter.partition(b"q=")
        try:
            yield coding.strip(), float(weight) if given else 1.0
        except ValueError:
            yield coding.strip(), 0.0
