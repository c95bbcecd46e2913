"""What a run counts: requests and their ends by layer and region, and who had what when."""

from __future__ import annotations

from array import array
from collections import Counter
from typing import Final

import msgspec

SLOTS_MAX: Final = 600
"""Points of a curve; a slot is a second, or longer in long runs."""
ENDS: Final = (
    "new",
    "not_modified",
    "catalogue",
    "opened",
    "refused",
    "full",
    "turned_away",
    "unanswered",
    "timed_out",
)
"""How a request ends: a snapshot or a delta; nothing newer; a catalogue; a stream; refused by
admission; refused since there are too many streams; told 503 by a balancer, or that there is no
such subject yet; nobody there; no answer in time."""


class Load:
    """What one layer of one region did, by slot; requests weigh what they stand for."""

    def __init__(self, layer: str, region: str, slots: int, slot_s: float) -> None:
        self.layer, self.region = layer, region
        self.slot_s = slot_s
        self.servers = 0
        self.offered = array("d", bytes(8 * slots))
        self.refused = array("d", bytes(8 * slots))
        self.sent_bytes = array("d", bytes(8 * slots))
        self.busy_s = array("d", bytes(8 * slots))
        self.streams = array("d", bytes(8 * slots))
        self.ends: Counter[str] = Counter()
        self.asked = 0
        self.open = 0
        """Requests that have not ended."""
        self.streaming = 0
        """Streams that are open."""
        self.wasted = 0
        """Answers that came when nobody waited for them any more."""
        self.hints = 0

    def ask(self, now_s: float, weight: int) -> None:
        self.asked += weight
        self.open += weight
        self.offered[int(now_s / self.slot_s)] += weight

    def end(self, how: str, weight: int) -> None:
        self.ends[how] += weight
        self.open -= weight


class Spread(msgspec.Struct):
    """How long one change took to reach those of one group: seconds, and whom each stands for."""

    seconds: array[float] = msgspec.field(default_factory=lambda: array("d"))
    weights: array[int] = msgspec.field(default_factory=lambda: array("l"))

    def add(self, seconds: float, weight: int) -> None:
        self.seconds.append(seconds)
        self.weights.append(weight)


def quantile(spread: list[tuple[float, int]], share: float) -> float:
    """The least of the seconds that this share of all does not exceed; `spread` is in order."""
    wanted = share * sum(weight for _, weight in spread)
    seen = 0
    for seconds, weight in spread:
        seen += weight
        if seen >= wanted:
            return seconds
    return spread[-1][0] if spread else 0.0
