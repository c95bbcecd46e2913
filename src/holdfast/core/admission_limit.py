"""How many costly requests one batch may hold: Gradient2.

Source: Netflix concurrency-limits, `Gradient2Limit`. With g = clamp(long/short, 1/2, 1), where
`short` is the round trip seen now and `long` its average over a long time,
L <- 0.8 L + 0.2 (g L + 4), and no growth while fewer than L/2 are in flight. Here a round trip is
the length of a batch, and in flight is what was let into it.
"""

from __future__ import annotations

from typing import Final

START: Final = 20.0
LEAST: Final = 4.0
MOST: Final = 1_000.0
QUEUE: Final = 4.0
SMOOTHING: Final = 0.2
SAMPLES: Final = 600
RECOVERY: Final = 0.95
"""Of the long average, as long as it is more than twice what is seen now."""


class Limit:
    """`most` may be let into a batch."""

    __slots__ = ("_long_s", "most")

    def __init__(self) -> None:
        self.most = START
        self._long_s = 0.0

    def learn(self, round_trip_s: float, in_flight: int, least: float) -> None:
        """A batch took that long with so many; `least` is what the limit does not go below."""
        if round_trip_s <= 0:
            return
        if not self._long_s:
            self._long_s = round_trip_s
        self._long_s += (round_trip_s - self._long_s) * 2 / (SAMPLES + 1)
        if self._long_s > 2 * round_trip_s:
            self._long_s *= RECOVERY
        gradient = max(0.5, min(1.0, self._long_s / round_trip_s))
        if in_flight < self.most / 2 and gradient == 1.0:
            return
        aim = gradient * self.most + QUEUE
        found = (1 - SMOOTHING) * self.most + SMOOTHING * aim
        if in_flight < self.most / 2:
            found = min(found, self.most)
        self.most = min(MOST, max(LEAST, least, found))
