"""Is a server better off without its own defence? It is tried out, while the defence is engaged.

Now and then, after so many windows in which it refused something, it stands aside for a few. It was
not needed if as much came out as with it, and no queue stood in the end. Then it is disarmed for a
while, the longer the more often that happened, and comes back at once when a queue grows. These
judgements use figures of their own and not the operator's setting: that may be what is wrong.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

USEFUL_S: Final = 0.020
"""An answer after that long in front of the server and in it is of less use than a refusal."""
STANDING_S: Final = 0.005
"""A first one of a batch that has waited longer stands in a queue."""
FUSE_S: Final = 0.010
"""A request that has waited so long ends a trial, and a time without defence."""
NO_WORSE: Final = 0.95
ASIDE_MOST: Final = 5
"""Windows of one trial: with few requests, less may come out by chance."""
WINDOWS_FIRST: Final = 5
"""Windows with refusals before the first trial; after each that shows a need, twice as many."""
WINDOWS_MOST: Final = 160
DISARMED_FIRST_S: Final = 30.0
DISARMED_MOST_S: Final = 600.0


class Arms(Enum):
    """`ON`: the defence engages when it must. `ASIDE`: it is being tried how it goes without.
    `OFF`: it was no better with it."""

    ON = "on"
    ASIDE = "aside"
    OFF = "off"


class Trial:
    """Whether the defence is armed. Told once a window what came out of it."""

    __slots__ = (
        "_aside",
        "_engaged",
        "_off_s",
        "_until_s",
        "_wait",
        "_with_per_s",
        "arms",
        "needed",
        "over",
    )

    def __init__(self) -> None:
        self.arms = Arms.ON
        self.needed = 0
        """Trials that showed that the defence is needed."""
        self.over = 0
        """Trials that showed that it is not."""
        self._aside: list[float] = []
        self._engaged = 0
        self._wait = WINDOWS_FIRST
        self._with_per_s = 0.0
        self._off_s = DISARMED_FIRST_S
        self._until_s = 0.0

    def burn(self) -> None:
        """A request has waited for `FUSE_S`: without the defence it gets worse."""
        if self.arms is Arms.ASIDE:
            self._aside.clear()
            self._was_needed()
        self.arms = Arms.ON

    def window(self, now_s: float, useful_per_s: float, *, refusing: bool, standing: bool) -> Arms:
        """A window is over, with that goodput; how the next one is to be."""
        if self.arms is Arms.ASIDE:
            self._judge(now_s, useful_per_s, standing=standing)
        elif self.arms is Arms.OFF:
            if now_s >= self._until_s:
                self.arms = Arms.ON
        elif refusing:
            self._learn(useful_per_s)
            if self._engaged >= self._wait:
                self._engaged = 0
                self.arms = Arms.ASIDE
        return self.arms

    def _judge(self, now_s: float, useful_per_s: float, *, standing: bool) -> None:
        """One window without it: none more than so many, if less came out in those."""
        self._aside.append(useful_per_s)
        less = sum(self._aside) / len(self._aside) < NO_WORSE * self._with_per_s
        if less and not standing and len(self._aside) < ASIDE_MOST:
            return
        self._aside.clear()
        if less or standing:
            self._was_needed()
            self.arms = Arms.ON
        else:
            self._was_not_needed(now_s)

    def is_eased(self, now_s: float) -> bool:
        """Whether the operator's setting was found too strict, and its time has not passed."""
        return now_s < self._until_s

    def _learn(self, useful_per_s: float) -> None:
        self._engaged += 1
        share = 1.0 if self._engaged == 1 else 0.3
        self._with_per_s += (useful_per_s - self._with_per_s) * share

    def _was_needed(self) -> None:
        self.needed += 1
        self._wait = min(2 * self._wait, WINDOWS_MOST)
        self._off_s = DISARMED_FIRST_S

    def _was_not_needed(self, now_s: float) -> None:
        self.over += 1
        self._wait = WINDOWS_FIRST
        self.arms = Arms.OFF
        self._until_s = now_s + self._off_s
        self._off_s = min(2 * self._off_s, DISARMED_MOST_S)
