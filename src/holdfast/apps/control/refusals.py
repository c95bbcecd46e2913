"""Every refusal in one shape: exceptions of ours and of the framework, to `http`'s error body."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from holdfast.apps import http
from holdfast.apps.control.body import BadBody
from holdfast.apps.observe import logger
from holdfast.core.errors import HoldfastError, OperatorError, Problem

_log = logger("holdfast.control")
_Request = Request[Any, Any, Any]

_CODES = {
    400: "bad-call",
    401: "unauthenticated",
    404: "not-found",
    405: "method-not-allowed",
    413: "too-large",
    415: "bad-body",
    429: "too-many-requests",
}
_SHOWN_CHARS_MAX = 256
_HUNG_UP = "client disconnected prematurely"
"""What Litestar calls an error of the server: whoever sent half a body is gone."""


def handlers(count: Callable[[str], None]) -> dict[int | type[Exception], Any]:
    """Litestar's exception handlers; `count` gets each refusal's code."""

    def refuse(answer: http.Response, code: str) -> Response[bytes]:
        count(code)
        return as_litestar(answer)

    def ours(_request: _Request, error: HoldfastError) -> Response[bytes]:
        if isinstance(error, OperatorError):
            _log.error("system at fault", code=error.code, error=str(error))
        if isinstance(error, BadBody):
            return refuse(http.fault(400, error.code, str(error), error.problems), error.code)
        return refuse(http.error_response(error), error.code)

    def framework(request: _Request, error: HTTPException) -> Response[bytes]:
        if error.detail == _HUNG_UP:
            return refuse(http.fault(400, "bad-body", "the body ended too early"), "bad-body")
        code = _CODES.get(error.status_code, "bad-call")
        if error.status_code >= 500:
            return fault(request, error)
        return refuse(_framework_answer(request, error, code), code)

    def too_deep(_request: _Request, _error: RecursionError) -> Response[bytes]:
        return refuse(http.fault(400, "bad-body", "the values are nested too deep"), "bad-body")

    def fault(request: _Request, error: Exception) -> Response[bytes]:
        _log.error("request failed", route=request.scope.get("path_template"), exc_info=error)
        return refuse(http.error_response(HoldfastError()), "error")

    return {
        HoldfastError: ours,
        HTTPException: framework,
        RecursionError: too_deep,
        Exception: fault,
    }


def as_litestar(answer: http.Response) -> Response[bytes]:
    headers = {name.decode(): value.decode("latin-1") for name, value in answer.headers}
    media_type = headers.pop("content-type", None)
    return Response(answer.body, status_code=answer.status, headers=headers, media_type=media_type)


def _framework_answer(request: _Request, error: HTTPException, code: str) -> http.Response:
    headers = http.error_headers(error.status_code)
    match error.status_code:
        case 400 if _lacks_body(error):
            problem = Problem(code="bad-body", message="the body is empty", hint="send JSON")
            return http.fault(400, "bad-body", problem.message, (problem,), headers)
        case 404:
            return http.not_found(request.scope["path"])
        case 405:
            allow = (error.headers or {}).get("allow", "")
            return http.method_not_allowed(request.method, allow)
        case 413:
            message = "the body is larger than this route takes"
        case 429:
            message = "too many requests with this token: wait, then go on more slowly"
        case _:
            message = _line(error.detail)
    return http.fault(error.status_code, code, message, _problems(error), headers)


def _problems(error: HTTPException) -> tuple[Problem, ...]:
    """What Litestar says of parameters that it could not read."""
    if not isinstance(error, ValidationException) or not isinstance(error.extra, list):
        return ()
    return tuple(
        Problem(
            code="bad-parameter",
            message=f"{extra.get('key', 'parameter')}: {_line(str(extra.get('message', '')))}",
            hint="see the API's OpenAPI document for this parameter",
        )
        for extra in error.extra
        if isinstance(extra, dict)
    )


def _lacks_body(error: HTTPException) -> bool:
    """Litestar tells a handler's missing body as a parameter called `data`."""
    extra = error.extra if isinstance(error.extra, list) else []
    return any(isinstance(one, dict) and one.get("key") == "data" for one in extra)


def _line(text: str) -> str:
    return re.sub(r"\s+", " ", text)[:_SHOWN_CHARS_MAX]
