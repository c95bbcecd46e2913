"""On which generation workers died, and what follows: spared for a while, then put away.

Pure but for what it remembers; time is an argument. A worker may be killed by anybody in the middle
of anything, so that one death proves little, and is no reason to go back to older settings. It is
one to let the other workers live.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

from holdfast.apps.edge.quarantine import FOR_GOOD
from holdfast.core.generations import STREAK
from holdfast.core.model import Subject

SPARED_S: Final = 2.0
"""How long a generation is not asked after the first death on it; twice as long after the next."""
REMEMBERED_S: Final = 600.0
GENERATIONS_MAX: Final = 1_000


class Blame:
    """Deaths by generation, of all workers together."""

    def __init__(self) -> None:
        self._deaths: dict[tuple[Subject, str], deque[float]] = {}

    def died(self, subject: Subject, digest: str, now_s: float) -> None:
        deaths = self._deaths.setdefault((subject, digest), deque(maxlen=STREAK))
        deaths.append(now_s)
        while len(self._deaths) > GENERATIONS_MAX:
            del self._deaths[next(iter(self._deaths))]

    def found(self, now_s: float) -> Iterator[tuple[Subject, str, float]]:
        """(subject, digest, seconds from now on in which it is not to be asked)."""
        for (subject, digest), deaths in list(self._deaths.items()):
            recent = [each for each in deaths if each > now_s - REMEMBERED_S]
            if len(recent) == STREAK:
                yield subject, digest, FOR_GOOD
            elif recent:
                left_s = recent[-1] + SPARED_S * 2.0 ** (len(recent) - 1) - now_s
                if left_s > 0:
                    yield subject, digest, left_s
