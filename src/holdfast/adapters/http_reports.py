"""Reports over HTTP: `POST /v1/reports` to one upstream, an edge or a control plane.

An upstream that answers nothing, or rubbish, costs its sender some seconds of a thread that has
nothing else to do. Not thread-safe; after a fork, make a new one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import urlsplit

import msgspec
import urllib3
from urllib3.exceptions import HTTPError

from holdfast.core.errors import Unavailable
from holdfast.core.reports import BODY_BYTES_MAX, REPORTS_MAX, ConsumerReport

CONNECT_S: Final = 2.0
READ_S: Final = 5.0
_ANSWER_BYTES_MAX: Final = 64 * 1024
_BAD: Final = frozenset({400, 413, 422})
"""Answers to a batch that will never be taken: sending it again would only stop the others."""
_HEAD: Final = b'{"reports":['
_TAIL: Final = b"]}"


class HttpReports:
    """The `Reports` port on `base_url`."""

    def __init__(self, base_url: str, token: str = "") -> None:
        parts = urlsplit(base_url)
        self._path = parts.path.rstrip("/") + "/v1/reports"
        self._name = base_url.rstrip("/") + "/v1/reports"
        self._headers = {"User-Agent": "holdfast-sdk", "Content-Type": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        kind = (
            urllib3.HTTPSConnectionPool if parts.scheme == "https" else urllib3.HTTPConnectionPool
        )
        self.refused = 0
        """Batches that the upstream could make nothing of."""
        self._pool = kind(
            parts.hostname or "",
            parts.port,
            maxsize=1,
            timeout=urllib3.Timeout(connect=CONNECT_S, read=READ_S),
            retries=False,
        )

    def send(self, reports: Sequence[ConsumerReport]) -> None:
        """Raises `Unavailable` when one batch was not taken; those after it are not sent then."""
        for body in batches(msgspec.json.encode(report) for report in reports):
            self._post(body)

    def close(self) -> None:
        self._pool.close()

    def _post(self, body: bytes) -> None:
        try:
            answer = self._pool.urlopen(
                "POST",
                self._path,
                body=body,
                headers=self._headers,
                redirect=False,
                preload_content=False,
                decode_content=False,
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
            raise Unavailable(f"{self._name} answered {answer.status}")


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
