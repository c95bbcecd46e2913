"""A cell, at the door of one of its edges: who means another one is sent away before it costs.

A cell is a set of edges with bounds of its own; each edge holds to its share of them. Clients and
edges may say which one they mean (`Holdfast-Cell`). One that means another is answered 421, out of
no budget. What is above the cell's requests per second is answered 503 and goes nowhere else by
us: what hurts one cell stays there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import msgspec

from holdfast.apps import http
from holdfast.apps.heads import Known
from holdfast.apps.http import Headers
from holdfast.apps.serve import Gate

CELL: Final = b"holdfast-cell"
ALWAYS_S: Final = -1.0
"""Nobody waits less: each is asked about."""
BURST_S: Final = 1.0
"""So many seconds' worth may come at once."""


class CellGate:
    """Stands before another gate, or none. Called on the event loop; counts are read from others.

    `requests_per_s` 0 is no bound. `clock` is monotonic, in seconds.
    """

    def __init__(
        self,
        cell: str,
        requests_per_s: float,
        inner: Gate | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cell = cell.encode()
        self._rate = requests_per_s
        self._left = requests_per_s * BURST_S
        self._at_s = clock()
        self._inner = inner
        self._clock = clock
        self._elsewhere = _refusal(
            421, "another-cell", f"this edge is of the cell {cell!r}: ask your own"
        )
        here = f"the cell {cell} answers" if cell else "here are answered"
        self._full = _refusal(503, "cell-full", f"{here} {requests_per_s:g} requests/s, no more")
        self.alert_s = ALWAYS_S
        self.misdirected = 0
        self.over = 0

    def admit(
        self,
        method: bytes,
        target: bytes,
        headers: Headers,
        waited_s: float,
        known: Known | None = None,
    ) -> bytes | None:
        """None lets it in; else the whole refusal."""
        for name, value in headers:
            if name == CELL and value != self._cell:
                self.misdirected += 1
                return self._elsewhere
        if self._rate and target not in _FREE and not self._takes():
            self.over += 1
            return self._full
        if self._inner is None:
            return None
        return self._inner.admit(method, target, headers, waited_s, known)

    def again(self, known: Known, times: int) -> None:
        if self._inner is not None:
            self._inner.again(known, times)

    def done(self, took_s: float, requests: int = 1) -> None:
        if self._inner is not None:
            self._inner.done(took_s, requests)

    def batch(self, length_s: float, requests: int) -> None:
        if self._inner is not None:
            self._inner.batch(length_s, requests)

    def _takes(self) -> bool:
        now_s = self._clock()
        self._left = min(self._rate * BURST_S, self._left + (now_s - self._at_s) * self._rate)
        self._at_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True


_FREE: Final = frozenset({b"/healthz", b"/readyz", b"/metrics"})
"""Who looks after the edge is let in when nobody else is."""


def _refusal(status: int, code: str, message: str) -> bytes:
    body = msgspec.json.encode({"error": http.Fault(code, message)})
    retry = b"retry-after: 1\r\n" if status == 503 else b""
    phrase = b"Misdirected Request" if status == 421 else b"Service Unavailable"
    head = b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncache-control: no-store\r\n"
    return (head + b"%bcontent-length: %d\r\n\r\n%b") % (status, phrase, retry, len(body), body)
