"""The time by which tokens expire: the edge's own clock, held against what was signed.

A clock that jumps ahead, by an hour or by ten years, would lock out everybody whose token expires.
Freshness statements say, signed, what time it was at the control plane; since then the machine has
counted seconds by itself. The earlier of both is taken. So a clock that runs ahead locks nobody
out, and who keeps statements from arriving prolongs nothing: the count goes on. A clock that was
set back prolongs tokens, as it always would; revoking one needs no clock.

The control plane's clock may be wrong as well. Once it has agreed with the machine's, the count
since then is a third witness: a statement that agrees with neither is not believed, and the next
one is looked at in the same way. So both clocks may go wrong, one after the other or at once; only
a start with either of them wrong has no witness, and lasts until both agree.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from holdfast.core.snapshot import decode_freshness
from holdfast.core.wire import decode_envelope
from holdfast.ports import Clock

AGREE_S: Final = 120.0
"""Times that differ by no more agree: statements are late, the more so behind other edges."""


class AttestedClock:
    """Callable as a `Clock`: unix seconds. `count` is any clock in seconds that never goes back.

    Written by one thread, read by any.
    """

    def __init__(self, clock: Clock, count: Callable[[], float]) -> None:
        self._clock = clock
        self._count = count
        self._told: tuple[float, float, bool] | None = None
        self._leap_s = 0.0

    def __call__(self) -> float:
        told, now_s = self._told, self._clock()
        return now_s if told is None else min(now_s, told[0] + self._count() - told[1])

    def hear(self, sealed: bytes) -> None:
        """A newer freshness statement, verified by the follower: the latest time counts.

        An earlier one than expected does where the machine's clock agrees with it better: then the
        control plane's clock was ahead for a while. None does that is far from what is expected,
        once the two had agreed, unless they agree again.
        """
        at_s = decode_freshness(decode_envelope(sealed).body()).at_ms / 1000
        count, now_s, told = self._count(), self._clock(), self._told
        agreed, self._leap_s = abs(now_s - at_s) <= AGREE_S, 0.0
        if told is not None:
            expected_s = told[0] + count - told[1]
            if told[2] and not agreed and abs(at_s - expected_s) > AGREE_S:
                self._leap_s = at_s - expected_s
                return
            if at_s < expected_s and abs(now_s - at_s) >= abs(now_s - expected_s):
                return  # it lagged behind on its way
        self._told = (at_s, count, agreed or (told is not None and told[2]))

    def skew_s(self) -> float:
        """How far this machine's clock is ahead of what was signed; 0 while nothing was heard.

        That is of the newest statement, believed or not.
        """
        told = self._told
        if told is None:
            return 0.0
        return self._clock() - (told[0] + self._count() - told[1] + self._leap_s)
