"""OFREP 0.3.0, remote evaluation: bytes in, bytes out, over one active generation.

    POST {base}/ofrep/v1/evaluate/flags/{key}     one setting
    POST {base}/ofrep/v1/evaluate/flags           all of them, with an ETag
    GET  {base}/ofrep/v1/stream?ticket=…          "evaluate again" when the snapshot changes

`{base}` is `/{environment}/{service}`. An answer depends on the outcome alone, and outcomes are
prebuilt and shared, so each is encoded once and kept on the outcome (`outcome.wire`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from mmh3 import mmh3_x64_128_digest

from holdfast.apps import http
from holdfast.apps.edge.fragments import Failure, fragment, plain
from holdfast.apps.edge.table import Active
from holdfast.apps.http import Headers, Response
from holdfast.apps.streams import frame
from holdfast.core.json_check import has_half_characters
from holdfast.core.model import KEY, TARGETING_KEY
from holdfast.core.targeting.outcome import Outcome
from holdfast.core.targeting.work import TooMuchWork
from holdfast.core.wire import UNREADABLE

INACTIVITY_DELAY_S = 120
"""How long a client in the background keeps its stream open (OFREP's own default)."""

PRIVATE = (b"cache-control", b"private, no-cache")

TOO_MUCH = "the settings do too much work on this context: its lists are too long"

_KEY = re.compile(KEY)
_STATUS = {"FLAG_NOT_FOUND": 404}


class _Ask(msgspec.Struct, gc=False):
    context: dict[str, Any] = {}


class BadContext(Exception):
    """The body holds no context: `code` is OFREP's error code."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


_decode = msgspec.json.Decoder(_Ask).decode
_decode_any = msgspec.json.Decoder().decode


def read_context(body: bytes) -> dict[str, Any]:
    """The evaluation context of a request's body; an absent one is empty.

    Raises `BadContext`: PARSE_ERROR for what is no JSON object, INVALID_CONTEXT for a context that
    is no object or whose targetingKey is no string.
    """
    try:
        context = _decode(body).context
    except msgspec.ValidationError:
        raise _invalid(body) from None
    except UNREADABLE as error:
        raise _unreadable(body, error) from None
    if type(context.get(TARGETING_KEY, "")) is not str:
        raise BadContext("INVALID_CONTEXT", "targetingKey is to be a string")
    return context


def _invalid(body: bytes) -> BadContext:
    try:
        shape = type(_decode_any(body))
    except UNREADABLE as error:
        return _unreadable(body, error)
    if shape is not dict:
        return BadContext("PARSE_ERROR", 'the body is to be an object: {"context": {…}}')
    return BadContext("INVALID_CONTEXT", "context is to be an object")


def _unreadable(body: bytes, error: Exception) -> BadContext:
    if not body:
        return BadContext("PARSE_ERROR", 'the body is empty; it is to be {"context": {…}}')
    why = str(error)
    if isinstance(error, RecursionError):
        why = "it is nested too deep"
    elif has_half_characters(body):
        why = "half of a surrogate pair is not a character"
    return BadContext("PARSE_ERROR", f"the body is no JSON that can be read: {why}")


def failure(
    status: int, code: str, details: str, key: str | None = None, headers: Headers | None = None
) -> Response:
    """An error in OFREP's shape; `errorDetails` is always there (its clients read it unchecked)."""
    body = Failure(code, details, msgspec.UNSET if key is None else key)
    more = [*http.error_headers(status), *(headers or ())]
    return http.json_response(body, status, [http.NO_STORE, *more])


def answer(active: Active, outcome: Outcome) -> Response:
    """The answer for one outcome of one setting, encoded now if it never was."""
    wire: Response | None = outcome.wire
    # Outcomes may outlive a generation; the header names the one that this was encoded for.
    if wire is None or wire.headers[1] is not active.revision_header:
        wire = outcome.wire = encode(active, outcome)
    return wire


def encode(active: Active, outcome: Outcome) -> Response:
    """The answer for an outcome: success 200, an unknown key 404, any other error 400."""
    code = outcome.error_code
    status = 200 if code is None else _STATUS.get(code, 400)
    return Response(status, [http.JSON_TYPE, active.revision_header], fragment(outcome))


def no_such_flag(key: str) -> Response:
    """404 for a key; also for what can't be one, which is not looked up."""
    return failure(404, "FLAG_NOT_FOUND", f"there is no setting {key[:128]!r} here", key[:128])


def is_key(key: str) -> bool:
    """Whether this can be a setting's key at all."""
    return _KEY.fullmatch(key) is not None


class Tail(msgspec.Struct, frozen=True, gc=False):
    """What stands behind the flags in the bulk answers of one generation, and its mark.

    It names the stream where changes are told, and so it changes with the stream's ticket.
    """

    body: bytes
    mark: bytes


def tail(active: Active, place: Mapping[str, Any]) -> Tail:
    """`place` is where the stream is, in OFREP's words."""
    stream = {"type": "sse", **place, "inactivityDelaySec": INACTIVITY_DELAY_S}
    rest = msgspec.json.encode(
        {"metadata": plain(active.snapshot.metadata), "eventStreams": [stream]}
    )
    return Tail(b"]," + rest[1:], mmh3_x64_128_digest(rest).hex()[:16].encode())


def bulk(active: Active, body: bytes, if_none_match: bytes | None, tail: Tail) -> Response:
    """`POST …/evaluate/flags`: every setting, failures among them, and where changes are told.

    The ETag depends on the context, and it changes with the stream's URL, so that nobody is left
    with a URL that has expired. It is a hash of what is answered, by MurmurHash3: two answers of
    one generation to one client have the same one with a chance of 2**-128, and nobody gains by
    making some, for whoever may write answers may as well leave them as they are. SHA-256 takes a
    quarter of the whole answer's time.
    """
    try:
        context = read_context(body)
    except BadContext as error:
        return failure(400, error.code, str(error))
    active.sampler.offer(context)
    try:
        flags = active.bulk.flags.whole(context)
    except TooMuchWork:
        return failure(400, "INVALID_CONTEXT", TOO_MUCH)
    etag = b'"%b%b"' % (mmh3_x64_128_digest(flags).hex().encode(), tail.mark)
    headers = [(b"etag", etag), PRIVATE, active.revision_header]
    if http.etag_matches(if_none_match, etag):
        return Response(304, headers)
    return Response(200, [http.JSON_TYPE, *headers], b'{"flags":[%b%b' % (flags, tail.body))


def refetch(active: Active) -> bytes:
    """The stream's frame after an activation: its id is the revision."""
    data = {
        "type": "refetchEvaluation",
        "etag": f'"{active.digest}"',
        "lastModified": int(active.activated_s),
    }
    return frame("message", data, active.revision)
