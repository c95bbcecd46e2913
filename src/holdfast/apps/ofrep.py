"""OFREP 0.3.0, remote evaluation: bytes in, bytes out, over one active generation.

    POST {base}/ofrep/v1/evaluate/flags/{key}     one setting
    POST {base}/ofrep/v1/evaluate/flags           all of them, with an ETag
    GET  {base}/ofrep/v1/stream?ticket=…          "evaluate again" when the snapshot changes

`{base}` is `/{environment}/{service}`. An answer depends on the outcome alone, and outcomes are
prebuilt and shared, so each is encoded once and kept on the outcome (`outcome.wire`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from holdfast.apps import http
from holdfast.apps.edge.table import Active
from holdfast.apps.http import Headers, Request, Response
from holdfast.apps.streams import frame
from holdfast.core.json_check import has_half_characters
from holdfast.core.model import KEY, TARGETING_KEY
from holdfast.core.targeting.outcome import Outcome
from holdfast.core.wire import UNREADABLE

INACTIVITY_DELAY_S = 120
"""How long a client in the background keeps its stream open (OFREP's own default)."""

_KEY = re.compile(KEY)
_STATUS = {"FLAG_NOT_FOUND": 404}


class _Ask(msgspec.Struct, gc=False):
    context: dict[str, Any] = {}


class Failure(msgspec.Struct, omit_defaults=True):
    """OFREP's shape of an error: of one flag, of a bulk, and of what is wrong before that."""

    errorCode: str  # noqa: N815 -- the protocol's name
    errorDetails: str  # noqa: N815 -- the protocol's name
    key: str | msgspec.UnsetType = msgspec.UNSET


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


def answer(active: Active, key: str, outcome: Outcome) -> Response:
    """The answer for one outcome of one setting, encoded now if it never was."""
    wire: Response | None = outcome.wire
    # Outcomes may outlive a generation; the header names the one that this was encoded for.
    if wire is None or wire.headers[1] is not active.revision_header:
        wire = outcome.wire = encode(active, key, outcome)
    return wire


def encode(active: Active, key: str, outcome: Outcome) -> Response:
    """The answer for an outcome: success 200, an unknown key 404, any other error 400."""
    headers = [http.JSON_TYPE, active.revision_header]
    if outcome.error_code is not None:
        details = outcome.error_message or outcome.error_code
        body = msgspec.json.encode(Failure(outcome.error_code, details, key))
        return Response(_STATUS.get(outcome.error_code, 400), headers, body)
    success: dict[str, Any] = {
        "key": key,
        "reason": outcome.reason,
        "variant": outcome.variant or "",
    }
    if outcome.value is not None:
        success["value"] = outcome.value
    if metadata := _plain(outcome.metadata):
        success["metadata"] = metadata
    return Response(200, headers, msgspec.json.encode(success))


def _plain(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in metadata.items() if isinstance(v, bool | str | int | float)}


def no_such_flag(key: str) -> Response:
    """404 for a key; also for what can't be one, which is not looked up."""
    return failure(404, "FLAG_NOT_FOUND", f"there is no setting {key[:128]!r} here", key[:128])


def is_key(key: str) -> bool:
    """Whether this can be a setting's key at all."""
    return _KEY.fullmatch(key) is not None


def bulk(active: Active, request: Request, event_stream: Mapping[str, Any]) -> Response:
    """`POST …/evaluate/flags`: every setting, failures among them, and where changes are told.

    The ETag is the hash of the body. It depends on the context, and it changes with the stream's
    URL, so that nobody is left with a URL that has expired.
    """
    try:
        context = read_context(request.body)
    except BadContext as error:
        return failure(400, error.code, str(error))
    active.sampler.offer(context)
    evaluator = active.evaluator
    flags = [answer(active, key, evaluator.function(key)(context)).body for key in evaluator.keys()]  # noqa: SIM118
    rest = msgspec.json.encode(
        {"metadata": _plain(active.snapshot.metadata), "eventStreams": [event_stream]}
    )
    body = b'{"flags":[%b],%b' % (b",".join(flags), rest[1:])
    etag = b'"%b"' % hashlib.sha256(body).hexdigest()[:32].encode()
    headers = [(b"etag", etag), (b"cache-control", b"private, no-cache"), active.revision_header]
    if http.etag_matches(request.header(b"if-none-match"), etag):
        return Response(304, headers)
    return Response(200, [http.JSON_TYPE, *headers], body)


def refetch(active: Active) -> bytes:
    """The stream's frame after an activation: its id is the revision."""
    data = {
        "type": "refetchEvaluation",
        "etag": f'"{active.digest}"',
        "lastModified": int(active.activated_s),
    }
    return frame("message", data, active.revision)
