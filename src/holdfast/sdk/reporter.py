"""One small thread that sends reports upstream: paced, jittered, and never in anybody's way.

Counters in reports are cumulative. So a report that can't be sent is simply not sent: the next one
says all that it said. `Pace` decides when, `Reporter` waits and sends.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

import msgspec

from holdfast.core.errors import HoldfastError
from holdfast.core.pacing import spread, steady

INTERVAL_S: Final = 10.0
SOON_S: Final = 1.0
"""What can't wait is sent within this time, evenly spread: others have the same to tell."""
GAP_S: Final = 2.0
"""Least time between two reports of one consumer, however urgent."""
DOUBLINGS_MAX: Final = 5
"""While an upstream takes no reports the interval doubles, up to this often."""


class Pace(msgspec.Struct, frozen=True):
    """When the next report is due. Times are of any clock that never goes back; chances even in
    [0, 1)."""

    due_s: float
    interval_s: float = INTERVAL_S
    gap_s: float = GAP_S
    sent_s: float = float("-inf")
    failures: int = 0

    @classmethod
    def begin(
        cls, now_s: float, chance: float, interval_s: float = INTERVAL_S, gap_s: float = GAP_S
    ) -> Pace:
        """The first one comes anywhere in the first interval: a fleet starts together."""
        return cls(now_s + spread(interval_s, chance), interval_s, gap_s)

    def every(self, now_s: float, chance: float, interval_s: float) -> Pace:
        """Another interval from now on."""
        due_s = min(self.due_s, now_s + spread(interval_s, chance))
        return msgspec.structs.replace(self, due_s=due_s, interval_s=interval_s)

    def soon(self, now_s: float, chance: float) -> Pace:
        """Something happened that can't wait."""
        gap_s = self.gap_s * 2.0**self.failures
        wanted_s = max(now_s + spread(min(SOON_S, self.gap_s), chance), self.sent_s + gap_s)
        return msgspec.structs.replace(self, due_s=min(self.due_s, wanted_s))

    def sent(self, now_s: float, chance: float, *, ok: bool) -> Pace:
        """A report was sent, or could not be."""
        failures = 0 if ok else min(self.failures + 1, DOUBLINGS_MAX)
        wait_s = steady(self.interval_s * 2.0**failures, chance)
        return msgspec.structs.replace(self, due_s=now_s + wait_s, sent_s=now_s, failures=failures)


class Reporter:
    """Calls `send` when a report is due; what it raises is counted in `failed`, and that is all."""

    def __init__(
        self,
        send: Callable[[], None],
        draw: Callable[[], float],
        interval_s: float = INTERVAL_S,
        gap_s: float = GAP_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._send = send
        self._draw = draw
        self._interval_s = interval_s
        self._gap_s = gap_s
        self._clock = clock
        self._wake = threading.Event()
        self._closed = False
        self._urgent = False
        self.sent = 0
        self.failed = 0

    def start(self) -> None:
        """A host without a thread left goes without reports."""
        thread = threading.Thread(target=self._run, name="holdfast-reporter", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            self.failed += 1

    def soon(self) -> None:
        """Report sooner than at the next interval. From any thread; costs next to nothing."""
        if not self._urgent:
            self._urgent = True
            self._wake.set()

    def every(self, interval_s: float) -> None:
        """Report at another interval from now on. From any thread."""
        if interval_s != self._interval_s:
            self._interval_s = interval_s
            self._wake.set()

    def renew(self) -> None:
        """In a child after a fork: a thread of its own."""
        self._wake = threading.Event()
        self._urgent = False
        if not self._closed:
            self.start()

    def close(self) -> None:
        self._closed = True
        self._wake.set()

    def _run(self) -> None:
        wake = self._wake
        pace = Pace.begin(self._clock(), self._draw(), self._interval_s, self._gap_s)
        while True:
            woken = wake.wait(max(0.0, pace.due_s - self._clock()))
            if self._closed:
                return
            if woken:
                wake.clear()
                if self._interval_s != pace.interval_s:
                    pace = pace.every(self._clock(), self._draw(), self._interval_s)
                if self._urgent:
                    pace = pace.soon(self._clock(), self._draw())
            if self._clock() >= pace.due_s:
                self._urgent = False
                pace = pace.sent(self._clock(), self._draw(), ok=self._try())

    def _try(self) -> bool:
        try:
            self._send()
        except HoldfastError:
            self.failed += 1
            return False
        except Exception:  # noqa: BLE001  reports are the least important thing that a client does
            self.failed += 1
            return False
        self.sent += 1
        return True
