"""Reports over HTTP: `POST /v1/reports` to one upstream, an edge or a control plane.

An upstream that answers nothing, or rubbish, costs its sender some seconds of a thread that has
nothing else to do: connection, silence, the whole answer and its bytes are bounded (`http_line`).
One that says `Retry-After` is left alone for so long, as far as what was signed allows it. Not
thread-safe; after a fork, make a new one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec
from urllib3.exceptions import HTTPError

from holdfast.adapters.http_line import Line
from holdfast.core.errors import Unavailable
from holdfast.core.pacing import UNSIGNED, obeyed_wait_s, retry_after_s
from holdfast.core.reports import BODY_BYTES_MAX, REPORTS_MAX, ConsumerReport
from holdfast.core.snapshot import Pacing

CONNECT_S: Final = 2.0
READ_S: Final = 5.0
TOTAL_S: Final = 8.0
"""For one batch, from its first byte to the last of the answer."""
_ANSWER_BYTES_MAX: Final = 64 * 1024
_BAD: Final = frozenset({400, 413, 422})
"""Answers to a batch that will never be taken: sending it again would only stop the others."""
_HEAD: Final = b'{"reports":['
_TAIL: Final = b"]}"


class HttpReports:
    """The `Reports` port on `base_url`."""

    def __init__(
        self,
        base_url: str,
        token: str = "",
        clock: Callable[[], float] = time.monotonic,
        contract: Callable[[], Pacing] = lambda: UNSIGNED,
    ) -> None:
        """`contract` is what was signed of pacing by now."""
        self._contract = contract
        self._name = base_url.rstrip("/") + "/v1/reports"
        self._headers = {"User-Agent": "holdfast-sdk", "Content-Type": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self.refused = 0
        """Batches that the upstream could make nothing of."""
        self._clock = clock
        self._away_until_s = float("-inf")
        self._line = Line(base_url, CONNECT_S)

    def send(self, reports: Sequence[ConsumerReport]) -> None:
        """Raises `Unavailable` when one batch was not taken; those after it are not sent then."""
        for body in batches(msgspec.json.encode(report) for report in reports):
            self._post(body)

    def close(self) -> None:
        self._line.close()

    def _post(self, body: bytes) -> None:
        if (left_s := self._away_until_s - self._clock()) > 0:
            raise Unavailable(f"{self._name} asked to be left alone for {left_s:.0f} s more")
        try:
            self._line.bound(READ_S, TOTAL_S)
            answer = self._line.open(
                "/v1/reports",
                self._headers,
                method="POST",
                body=body,
                body_bytes_max=_ANSWER_BYTES_MAX,
            )
            # What stands in the answer is nobody's concern; what is left unread must not become
            # the next one.
            if len(answer.read(_ANSWER_BYTES_MAX)) < _ANSWER_BYTES_MAX:
                answer.release_conn()
            else:
                answer.close()
        except (HTTPError, OSError) as error:
            raise Unavailable(f"{self._name}: {error}") from error
        if answer.status in _BAD:
            self.refused += 1
        elif not 200 <= answer.status < 300:
            self._keep_away(answer.headers.get("Retry-After", ""))
            raise Unavailable(f"{self._name} answered {answer.status}")

    def _keep_away(self, wish: str) -> None:
        asked_s = retry_after_s(wish, time.time())
        wait_s = obeyed_wait_s(self._contract(), asked_s, 0.0)  # whoever sends comes with jitter
        self._away_until_s = self._clock() + wait_s


def batches(encoded: Iterable[bytes]) -> Iterable[bytes]:
    """Bodies of `POST /v1/reports` within its bounds; a report that is too large is left out."""
    batch: list[bytes] = []
    room = BODY_BYTES_MAX
    for body in encoded:
        size = len(body) + 1
        if len(_HEAD) + size + len(_TAIL) > BODY_BYTES_MAX:
            continue
        if batch and (size > room or len(batch) == REPORTS_MAX):
            yield _HEAD + b",".join(batch) + _TAIL
            batch = []
        if not batch:
            room = BODY_BYTES_MAX - len(_HEAD) - len(_TAIL)
        batch.append(body)
        room -= size
    if batch:
        yield _HEAD + b",".join(batch) + _TAIL
