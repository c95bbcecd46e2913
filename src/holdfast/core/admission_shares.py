"""Fair shares of a server's time: who asks for more than his share, when there is not enough.

Demand is counted whether it is let in or not, in seconds of work. The fair share is that of max-min
fairness: whoever wants less gets all of it, and what is left is shared alike among the others
("water filling"; Bertsekas and Gallager, Data Networks, 6.5.2).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Final

KEYS_MAX: Final = 1_024
SMOOTHING: Final = 0.5
FORGOTTEN_S: Final = 1e-6
"""Demand below this is none."""
SEEN_LEAST_S: Final = 0.002
"""Of demand, before anybody is judged by it."""
INFINITE: Final = float("inf")
REST: Final = object()
"""All callers beyond `KEYS_MAX`, as one."""


class Shares:
    """What each caller wanted lately. `beyond` counts requests of callers that were too many."""

    __slots__ = ("_all_s", "_fair_s", "_new", "_now", "_usual", "beyond")

    def __init__(self) -> None:
        self._now: dict[Hashable, float] = {}
        self._usual: dict[Hashable, float] = {}
        self._fair_s = INFINITE
        self._all_s = 0.0
        self._new = True
        self.beyond = 0

    def __len__(self) -> int:
        """Callers that are told apart now."""
        return len(self._usual)

    @property
    def wanted_s(self) -> float:
        """What all have asked for in the window that is open."""
        return sum(self._now.values())

    @property
    def tells(self) -> bool:
        """Whether light callers are told from heavy ones: only if there is not enough for all."""
        return self._fair_s != INFINITE

    def is_heavy(self, caller: Hashable, cost_s: float, requests: int = 1) -> bool:
        """Count requests that would cost so much; whether their caller has had his share."""
        now = self._now
        before_s = now.get(caller)
        if before_s is None:
            if len(now) >= KEYS_MAX:
                caller = REST
                self.beyond += requests
            before_s = now.get(caller, 0.0)
        wanted_s = now[caller] = before_s + cost_s
        if self._new:
            # The first window: who is behind most of it all is plain before it is over.
            self._all_s += cost_s
            return 2 * wanted_s > self._all_s > SEEN_LEAST_S
        fair_s = self._fair_s
        return wanted_s > 2 * fair_s or self._usual.get(caller, 0.0) > fair_s

    def turn(self, capacity_s: float) -> float:
        """A window is over in which `capacity_s` seconds of work could be done; what was wanted."""
        wanted_in_all_s = self.wanted_s
        usual = {caller: SMOOTHING * wanted_s for caller, wanted_s in self._now.items()}
        for caller, wanted_s in self._usual.items():
            kept_s = (1 - SMOOTHING) * wanted_s
            if caller in usual:
                usual[caller] += kept_s
            elif kept_s > FORGOTTEN_S and len(usual) < 2 * KEYS_MAX:
                usual[caller] = kept_s
        self._usual, self._now, self._new = usual, {}, False
        self._fair_s = fair_share(usual.values(), capacity_s)
        return wanted_in_all_s

    def clear(self) -> None:
        """There is enough for all again."""
        self._now, self._usual, self._fair_s = {}, {}, INFINITE
        self._all_s, self._new = 0.0, True


def fair_share(wanted: Iterable[float], capacity: float) -> float:
    """The level f with sum(min(each, f)) = capacity; infinite when there is enough for all."""
    ordered = sorted(wanted)
    left = capacity
    for number, each in enumerate(ordered):
        level = left / (len(ordered) - number)
        if each > level:
            return level
        left -= each
    return INFINITE
