"""One node to another: what a consumer told, and what a caller asks, handed to the node that leads.

It goes with the token of whoever sent it, so the other node lets through what it would let through
anyway. `HOP` says that it was handed on once: nobody hands it on again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
from urllib3.exceptions import HTTPError

from holdfast.adapters.http_line import Line
from holdfast.adapters.http_reports import batches
from holdfast.core.errors import Forbidden, Unauthenticated, Unavailable
from holdfast.core.reports import ConsumerReport

HOP: Final = "holdfast-hop"
"""The header of a request that another node has handed on."""
CONNECT_S: Final = 1.0
READ_S: Final = 2.0
TOTAL_S: Final = 4.0
"""For one request, from its first byte to the last of the answer."""
ANSWER_BYTES_MAX: Final = 16 * 1024 * 1024


_FOR_THE_TOKEN: Final = {401: Unauthenticated, 403: Forbidden}


class Relayed(msgspec.Struct, frozen=True):
    """What the other node answered."""

    status: int
    content_type: str
    body: bytes


class HttpRelay:
    """Requests to the node at `base_url`, one after the other. Not thread-safe.

    Raises `Unavailable` for what is no URL: another node said that it is to be reached there.
    """

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        try:
            self._line = Line(base_url, CONNECT_S)
        except ValueError as error:
            raise Unavailable(f"{base_url!r} is no URL: {error}") from error

    def report(
        self, token: str, reports: Sequence[ConsumerReport], at_least: int | None = None
    ) -> int:
        """Hand reports on in the name of one token; how many batches were refused for themselves.

        With `at_least` the other node first reads up to that revision, if it can. Raises
        `Unavailable` when a batch got no answer, or one that says to try again, and for the token's
        sake `Unauthenticated` and `Forbidden`.
        """
        target = "/v1/reports" if at_least is None else f"/v1/reports?at_least={at_least}"
        refused = 0
        for body in batches(msgspec.json.encode(report) for report in reports):
            answer = self.ask("POST", target, token, body)
            if answer.status in _FOR_THE_TOKEN:
                raise _FOR_THE_TOKEN[answer.status](f"{self.base_url} refuses the token")
            if answer.status >= 500 or answer.status == 429:
                raise Unavailable(f"{self.base_url} answered {answer.status} to reports")
            refused += answer.status >= 300
        return refused

    def ask(self, method: str, target: str, token: str, body: bytes | None = None) -> Relayed:
        """One request, whatever comes back. Raises `Unavailable` when nothing does in time."""
        try:
            self._line.bound(READ_S, TOTAL_S)
            answer = self._line.open(
                target,
                dict(_headers(token, body)),
                method=method,
                body=body,
                body_bytes_max=ANSWER_BYTES_MAX,
            )
            got = answer.read(ANSWER_BYTES_MAX + 1)
            if len(got) > ANSWER_BYTES_MAX:
                answer.close()
                raise Unavailable(f"{self.base_url} answered more than {ANSWER_BYTES_MAX} bytes")
            answer.release_conn()
        except (HTTPError, OSError) as error:
            raise Unavailable(f"{self.base_url}: {error}") from error
        return Relayed(answer.status, answer.headers.get("Content-Type", ""), got)

    def close(self) -> None:
        self._line.close()


def _headers(token: str, body: bytes | None) -> Iterable[tuple[str, str]]:
    yield "User-Agent", "holdfast-node"
    yield HOP, "1"
    if token:
        yield "Authorization", f"Bearer {token}"
    if body is not None:
        yield "Content-Type", "application/json"
