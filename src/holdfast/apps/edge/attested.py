"""The time by which tokens expire: the edge's own clock, held against what was signed.

A clock that jumps ahead, by an hour or by ten years, would lock out everybody whose token expires.
Freshness statements say, signed, what time it was at the control plane; since then the machine has
counted seconds by itself. The earlier of both is taken. So a clock that runs ahead locks nobody
out, and who keeps statements from arriving prolongs nothing: the count goes on. A clock that was
set back prolongs tokens, as it always would; revoking one needs no clock.
"""

from __future__ import annotations

from collections.abc import Callable

from holdfast.core.snapshot import decode_freshness
from holdfast.core.wire import decode_envelope
from holdfast.ports import Clock


class AttestedClock:
    """Callable as a `Clock`: unix seconds. `count` is any clock in seconds that never goes back.

    Written by one thread, read by any.
    """

    def __init__(self, clock: Clock, count: Callable[[], float]) -> None:
        self._clock = clock
        self._count = count
        self._told: tuple[float, float] | None = None

    def __call__(self) -> float:
        told, now_s = self._told, self._clock()
        return now_s if told is None else min(now_s, told[0] + self._count() - told[1])

    def hear(self, sealed: bytes) -> None:
        """A newer freshness statement, verified by the follower: the latest time counts.

        An earlier one than expected does where the machine's clock agrees with it better: then the
        control plane's clock was ahead for a while.
        """
        at_s = decode_freshness(decode_envelope(sealed).body()).at_ms / 1000
        count, told = self._count(), self._told
        if told is not None:
            expected_s, now_s = told[0] + count - told[1], self._clock()
            if at_s < expected_s and abs(now_s - at_s) >= abs(now_s - expected_s):
                return  # it lagged behind on its way
        self._told = (at_s, count)

    def skew_s(self) -> float:
        """How far this machine's clock is ahead of what was signed; 0 while nothing was heard."""
        told = self._told
        return 0.0 if told is None else self._clock() - (told[0] + self._count() - told[1])
