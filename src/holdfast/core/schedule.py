"""When to ask about what: one watch per topic, and two queues of those that are due.

Hinted topics are urgent and go first. A topic is in the queues once for each time that it was
scheduled; what is outdated there is dropped when it comes up. Not more than `SUBJECTS_MAX` topics.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator
from itertools import count
from typing import Final, TypeAlias

import msgspec

from holdfast.core.conversation import Standing
from holdfast.core.limits import ENVIRONMENTS_MAX, SERVICES_MAX
from holdfast.core.model import Subject

SUBJECTS_MAX: Final = ENVIRONMENTS_MAX * SERVICES_MAX
CATALOGUE: Final = None
"""The topic of catalogue questions, beside one topic per subject."""
Topic: TypeAlias = Subject | None
_OPEN: Final = float("inf")


class Watch(msgspec.Struct):
    """One topic. `due_s` is when to ask next; `wanted` the digest that a hint named last.

    `extra` is what comes before the steady poll, which is due at `steady_s`; `paid` what a budget
    bounds already. `again_s`: while the question was open, something made it outdated; it is to be
    asked again within that time. `lasting` is the digest of what this consumer refuses whoever
    brings it.
    """

    due_s: float
    steady_s: float
    urgent: bool = False
    extra: bool = False
    paid: bool = False
    again_s: float | None = None
    standing: Standing | None = None
    wanted: str | None = None
    failures: int = 0
    asked_s: float = float("-inf")
    pinned: bool = False
    lasting: str = ""
    rests_until_s: dict[int, float] = msgspec.field(default_factory=dict)
    reported: dict[int, tuple[str, str]] = msgspec.field(default_factory=dict)

    @property
    def revision(self) -> int:
        return self.standing.revision if self.standing else 0

    @property
    def is_open(self) -> bool:
        """Whether its question is being asked now."""
        return self.due_s == _OPEN

    def is_news(self, digest: str) -> bool:
        return self.standing is None or self.standing.digest != digest


class Schedule:
    """All watches. Times are of any clock that never goes back."""

    def __init__(self) -> None:
        self._watches: dict[Topic, Watch] = {}
        self._order = count()
        self._queues: tuple[list[tuple[float, int, Topic]], ...] = ([], [])
        self.dropped = 0
        """Topics beyond the bound."""

    def __contains__(self, topic: Topic) -> bool:
        return topic in self._watches

    def __getitem__(self, topic: Topic) -> Watch:
        return self._watches[topic]

    def __iter__(self) -> Iterator[Topic]:
        return iter(self._watches)

    def get(self, topic: Topic) -> Watch | None:
        return self._watches.get(topic)

    def watch(self, topic: Topic, now_s: float) -> Watch | None:
        """The topic's watch, from now on if it is new; none beyond the bound."""
        watch = self._watches.get(topic)
        if watch is None:
            if len(self._watches) > SUBJECTS_MAX:
                self.dropped += 1
                return None
            watch = self._watches[topic] = Watch(now_s, now_s)
            self.put(topic, now_s)
        return watch

    def follow(self, named: Collection[Subject], always: Collection[Subject], now_s: float) -> None:
        """Watch what a catalogue names, and no more what it doesn't name and nobody ever had.

        Else names that one upstream made up would be asked of all others for ever.
        """
        unheld = [topic for topic, watch in self._watches.items() if watch.standing is None]
        for topic in unheld:
            if topic is not None and topic not in named and topic not in always:
                del self._watches[topic]
        for subject in named:
            self.watch(subject, now_s)

    def put(
        self,
        topic: Topic,
        due_s: float,
        *,
        extra: bool = False,
        urgent: bool = False,
        paid: bool = False,
    ) -> None:
        """Ask about it then, and not before; what is `urgent` is asked before the others."""
        watch = self._watches[topic]
        watch.paid = paid
        watch.due_s, watch.extra, watch.urgent = due_s, extra or urgent, urgent
        watch.steady_s = watch.steady_s if watch.extra else due_s
        heapq.heappush(self._queues[0 if urgent else 1], (due_s, next(self._order), topic))

    def postpone(self, topic: Topic, due_s: float) -> None:
        """Ask as it was to be asked, and not before."""
        watch = self._watches[topic]
        self.put(topic, due_s, extra=watch.extra, urgent=watch.urgent, paid=watch.paid)

    def open(self, topic: Topic, now_s: float) -> Watch:
        """The question is asked now; it is due again when it was answered."""
        watch = self._watches[topic]
        watch.asked_s, watch.due_s, watch.wanted, watch.again_s = now_s, _OPEN, None, None
        return watch

    def due(self, now_s: float) -> tuple[Topic] | None:
        """The next one that is due, taken out of the queue; whoever takes it puts it back."""
        for queue in self._queues:
            self._drop_outdated(queue)
            if queue and queue[0][0] <= now_s:
                return (heapq.heappop(queue)[2],)
        return None

    def next_s(self) -> float | None:
        """When the first one is due."""
        times = []
        for queue in self._queues:
            self._drop_outdated(queue)
            times += [queue[0][0]] if queue else []
        return min(times, default=None)

    def _drop_outdated(self, queue: list[tuple[float, int, Topic]]) -> None:
        while queue:
            due_s, _, topic = queue[0]
            watch = self._watches.get(topic)
            if watch is not None and watch.due_s == due_s:
                return
            heapq.heappop(queue)
