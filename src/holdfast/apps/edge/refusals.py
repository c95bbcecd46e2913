"""Refusals of an overloaded edge, as bytes that are made before they are needed.

Each tells when to come back. Those who are refused one after the other are told different times, so
that they do not come back together; the more is asked, the later. What is told stays within the
signed pacing contract of what they asked for (`core.pacing`).
"""

from __future__ import annotations

from typing import Final

import msgspec

from holdfast.apps import http
from holdfast.apps.edge.fragments import Failure
from holdfast.apps.http import JSON_TYPE, NO_STORE, Headers
from holdfast.core.pacing import advised_pace, advised_retry_s
from holdfast.core.snapshot import Pacing

VARIANTS: Final = 16
"""Different times to come back."""
STRIDE: Final = 7
"""From one to the next refusal; no divisor of `VARIANTS`, so that each has its turn."""
WAIT_MOST_S: Final = 32.0
MESSAGE: Final = (
    "more is asked than this edge can answer: come back after Retry-After, or ask another"
)

_OFREP: Final = msgspec.json.encode(Failure("GENERAL", MESSAGE))
_OWN: Final = msgspec.json.encode({"error": http.Fault("overloaded", MESSAGE)})


class Refusals:
    """The refusals that are sent now. `pressure` is what is asked, in times of what can be done.

    `epoch` counts how often they changed.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self._times = 1.0

    def press(self, pressure: float) -> None:
        """So much is asked now; in steps, so that not every window makes new ones."""
        times = float(2 ** max(0, min(int(pressure), 16)).bit_length())
        if times != self._times:
            self._times = times
            self.epoch += 1

    def made(self, pacing: Pacing, headers: Headers, *, ofrep: bool) -> list[bytes]:
        """Refusals to be sent in turn, until `epoch` changes; `headers` are further ones."""
        order = [number * STRIDE % VARIANTS for number in range(VARIANTS)]
        return [self.make(pacing, headers, number, ofrep=ofrep) for number in order]

    def make(self, pacing: Pacing, headers: Headers, number: int, *, ofrep: bool) -> bytes:
        """One of them, by its number below `VARIANTS`: the higher, the later to come back."""
        wait_s = min(2 * self._times, WAIT_MOST_S) * (number + 1) / VARIANTS
        body = _OFREP if ofrep else _OWN
        lines: Headers = [
            JSON_TYPE,
            NO_STORE,
            (b"retry-after", b"%d" % advised_retry_s(pacing, wait_s)),
            (b"holdfast-pace", advised_pace(pacing, self._times).encode()),
            *headers,
            (b"content-length", b"%d" % len(body)),
        ]
        head = b"".join(b"%b: %b\r\n" % line for line in lines)
        return b"HTTP/1.1 503 Service Unavailable\r\n" + head + b"\r\n" + body
