"""Ask less of what refuses: the client-side throttle of Google's SRE book ("Handling Overload").

Over the last two minutes: reject with p = max(0, (requests - K * accepts) / (requests + 1)), K = 2,
counting requests before they are sent, rejected ones too. One more rule is ours: what belongs to
the agreed rate is counted and never rejected. A consumer polls twice a minute; with four requests
in the window a rejected poll would only delay the finding that all is well again.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import msgspec

WINDOW_S: Final = 120.0
SLOTS: Final = 12
K: Final = 2.0
"""An upstream that takes half of what is asked is left alone with the rest."""


class _Slot(msgspec.Struct):
    number: int
    requests: int = 0
    accepts: int = 0


class Throttle:
    """Of one upstream. Bounded: `SLOTS` pairs of numbers."""

    def __init__(self) -> None:
        self._slots: deque[_Slot] = deque(maxlen=SLOTS)

    def ask(self, now_s: float, chance: float, *, agreed: bool) -> bool:
        """Whether a request may be sent now; `agreed` ones may, and count all the same."""
        rejects = not agreed and chance < self.rejected_share(now_s)
        self._slot(now_s).requests += 1
        return not rejects

    def accepted(self, now_s: float) -> None:
        """The upstream answered one, whatever it said."""
        self._slot(now_s).accepts += 1

    def rejected_share(self, now_s: float) -> float:
        """The probability with which a further request is rejected."""
        oldest = int(now_s * SLOTS / WINDOW_S) - SLOTS
        recent = [slot for slot in self._slots if slot.number > oldest]
        requests = sum(slot.requests for slot in recent)
        accepts = sum(slot.accepts for slot in recent)
        return max(0.0, (requests - K * accepts) / (requests + 1))

    def _slot(self, now_s: float) -> _Slot:
        number = int(now_s * SLOTS / WINDOW_S)
        if not self._slots or self._slots[-1].number != number:
            self._slots.append(_Slot(number))
        return self._slots[-1]
