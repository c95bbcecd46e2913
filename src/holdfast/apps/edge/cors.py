"""Which web pages may read answers here (CORS, the Fetch standard)."""

from __future__ import annotations

from collections.abc import Collection

from holdfast.apps.http import Headers, Response

ANY = "*"
_EXPOSED = (
    b"access-control-expose-headers",
    b"etag, retry-after, holdfast-revision, holdfast-stale",
)
_PREFLIGHT: Headers = [
    (b"access-control-allow-methods", b"GET, POST"),
    (b"access-control-allow-headers", b"authorization, content-type, if-none-match, x-api-key"),
    (b"access-control-max-age", b"7200"),
]


class Cors:
    """The origins allowed, `*` for any; without one, browsers get no answer they may read."""

    def __init__(self, origins: Collection[str]) -> None:
        self._any = ANY in origins
        self._origins = {origin.encode("ascii") for origin in origins}

    def allow(self, answer: Response, origin: bytes) -> Response:
        """The answer as a page of `origin` may read it."""
        return answer.but(*self._allowed(origin))

    def headers(self, origin: bytes | None) -> Headers:
        """What a streamed answer carries for a page of `origin`."""
        return self._allowed(origin) if origin is not None else []

    def preflight(self, origin: bytes | None) -> Response:
        """The answer to OPTIONS."""
        allowed = self._allowed(origin) if origin is not None else []
        return Response(204, [*allowed, *_PREFLIGHT] if len(allowed) > 1 else allowed)

    def _allowed(self, origin: bytes) -> Headers:
        if self._any:
            return [(b"access-control-allow-origin", b"*"), _EXPOSED]
        vary = (b"vary", b"origin")
        if origin not in self._origins:
            return [vary]
        return [(b"access-control-allow-origin", origin), _EXPOSED, vary]
