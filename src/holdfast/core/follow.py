"""Following: events in, commands out. The one loop that performs the commands is `sdk.follower`.

For each subject the machine keeps what is active (its `Standing`) and when to ask next. Rules:

- The truth is the steady poll: it goes on at its jittered rate whatever the streams do.
- A hint only says "poll now". It is never believed, and never comes more often than `HINT_GAP_S`.
- One question at a time, hinted subjects first: the load on an upstream is bounded by that.
- A failure is retried with full jitter out of a budget; without budget the steady poll retries.
  Moving on to an upstream that is not known to fail needs none.
- A subject's revision never goes down, whoever answers; back goes only what failed on probation,
  or what somebody pins. What is pinned is not asked about.
- What was refused is reported once, and asked of another upstream while the refuser rests.

Time (`now_s`, seconds on any clock that never goes back) and chance are arguments.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from typing import Final, TypeAlias

import msgspec

from holdfast.core import upstreams as links
from holdfast.core.conversation import (
    Activate,
    Answered,
    Catalogued,
    CloseStream,
    Command,
    Event,
    Failed,
    Fetch,
    FetchCatalogue,
    Hinted,
    Keep,
    OpenStream,
    Refused,
    Released,
    Report,
    Restored,
    Returned,
    Standing,
    StreamClosed,
    StreamOpened,
    Tick,
    WakeAt,
)
from holdfast.core.limits import ENVIRONMENTS_MAX, SERVICES_MAX
from holdfast.core.model import Subject
from holdfast.core.pacing import RetryBudget, full_jitter, spread, steady

POLL_INTERVAL_S = 30.0
POLL_INTERVAL_MIN_S = 0.05
POLL_INTERVAL_MAX_S = 3600.0
RETRY_BASE_S = 0.5
HINT_SPREAD_S = 0.01
"""A hint is acted on within this time, evenly spread."""
HINT_GAP_S = 0.05
"""Least time between two polls of one subject that hints ask for."""
LOOK_SPREAD_S = 1.0
"""After a stream opened or closed, polls come within this time, evenly spread."""
STREAM_BASE_S = 0.5
CLOSINGS_NOTED = 3
"""Short-lived streams in a row after which one more is no reason to ask."""
STREAM_PROVEN_S = 30.0
"""A stream that lived this long reopens without the backoff of the failures before it."""
REFUSED_REST_S = 60.0
"""How long other upstreams are preferred for a subject after a refusal, at least."""
LASTING = frozenset(
    {"schema", "contract", "shape", "probe", "unexplained", "crash-streak", "health"}
)
"""Codes of candidates that this consumer refuses whoever brings them: no hint about one hurries."""
SUBJECTS_MAX = ENVIRONMENTS_MAX * SERVICES_MAX


CATALOGUE: Final = None
"""The topic of catalogue questions, beside one topic per subject."""
_Topic: TypeAlias = Subject | None


class _Watch(msgspec.Struct):
    """One topic. `due_s` is when to ask next; `wanted` the digest that a hint named last.

    `lasting` is the digest of what this consumer refuses whoever brings it.
    """

    due_s: float
    urgent: bool = False
    standing: Standing | None = None
    wanted: str | None = None
    failures: int = 0
    asked_s: float = float("-inf")
    pinned: bool = False
    lasting: str = ""
    rests_until_s: dict[int, float] = msgspec.field(default_factory=dict)
    reported: dict[int, tuple[str, str]] = msgspec.field(default_factory=dict)


class _Stream(msgspec.Struct):
    """`upstream` is where a stream is, or is being, opened; none while there is none."""

    upstream: int | None = None
    opened_s: float | None = None
    failures: int = 0
    reopen_s: float = 0.0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to follow, fixed for the life of a follower.

    `subjects` are followed from the start. With `catalogue`, the upstream's catalogue is polled
    too and every subject in it is followed; one that leaves it is still answered from what is
    there. Without `poll_interval_s` the interval is the one that the snapshots ask for.
    """

    upstreams: int
    subjects: tuple[Subject, ...] = ()
    catalogue: bool = False
    streams: bool = True
    poll_interval_s: float | None = None


class Follow:
    """The machine; see the module's docstring. `draw` gives chance, evenly from [0, 1)."""

    def __init__(self, plan: Plan, draw: Callable[[], float], now_s: float) -> None:
        self._draw = draw
        self._links = links.known(plan.upstreams, now_s)
        self._paced_by_server = plan.poll_interval_s is None
        self._poll_interval_s = plan.poll_interval_s or POLL_INTERVAL_S
        self._budget = RetryBudget()
        self._asking = False
        self._streams = plan.streams and plan.upstreams > 0
        self._stream = _Stream()
        self._watches: dict[_Topic, _Watch] = {}
        self._order = count()
        self._queues: tuple[list[tuple[float, int, _Topic]], ...] = ([], [])
        self.subjects_dropped = 0
        if plan.catalogue:
            self._watch(CATALOGUE, now_s)
        for subject in plan.subjects:
            self._watch(subject, now_s)

    @property
    def upstream(self) -> int:
        """The upstream in use."""
        return self._links.current

    @property
    def silent(self) -> bool:
        """Whether no upstream answers."""
        return links.silent(self._links)

    def standing(self, subject: Subject) -> Standing | None:
        watch = self._watches.get(subject)
        return watch.standing if watch else None

    def step(self, event: Event, now_s: float) -> list[Command]:
        """Take one event in; the commands are to be performed in their order."""
        commands = self._take(event, now_s)
        commands += self._ask(now_s)
        commands += self._listen(now_s)
        wake = self._wake_s()
        return commands if wake is None else [*commands, WakeAt(wake)]

    def _take(self, event: Event, now_s: float) -> list[Command]:  # noqa: PLR0911  one line each
        match event:
            case Answered():
                return self._answered(event, now_s)
            case Hinted():
                return self._hinted(event.digests, now_s)
            case Failed():
                return self._failed(event, now_s)
            case Refused():
                return self._refused(event, now_s)
            case Catalogued():
                return self._catalogued(event, now_s)
            case Restored():
                return self._restored(event, now_s)
            case Returned():
                return self._returned(event, now_s)
            case Released():
                return self._released(event, now_s)
            case StreamOpened():
                return self._stream_opened(event, now_s)
            case StreamClosed():
                return self._stream_closed(event, now_s)
            case Tick():
                return []

    def _restored(self, event: Restored, now_s: float) -> list[Command]:
        watch = self._watch(event.subject, now_s)
        newest = max(event.standings, key=lambda standing: standing.revision, default=None)
        if watch is None or newest is None or _revision(watch) >= newest.revision:
            return []
        watch.standing = newest
        self._obey(newest)
        return [Activate(event.subject, newest)]

    def _returned(self, event: Returned, now_s: float) -> list[Command]:
        watch = self._watch(event.subject, now_s)
        if watch is None:
            return []
        watch.pinned = event.pinned
        if watch.standing == event.standing:
            return []
        watch.standing = event.standing
        return [Activate(event.subject, event.standing)]

    def _released(self, event: Released, now_s: float) -> list[Command]:
        watch = self._watches.get(event.subject)
        if watch and watch.pinned:
            watch.pinned, watch.lasting = False, ""
            self._hurry(event.subject, watch, now_s)
        return []

    def _answered(self, event: Answered, now_s: float) -> list[Command]:
        watch, candidate = self._watches[event.subject], event.candidate
        if candidate and candidate.revision < _revision(watch) and not watch.pinned:
            message = f"revision {candidate.revision} is older than {_revision(watch)}"
            return self._refused(Refused(event.subject, event.upstream, "rollback", message), now_s)
        self._asking = False
        self._links = links.answered(self._links, event.upstream, now_s)
        watch.failures = 0
        watch.rests_until_s.pop(event.upstream, None)
        watch.reported.pop(event.upstream, None)
        commands: list[Command] = []
        if candidate and candidate.revision > _revision(watch) and not watch.pinned:
            watch.standing = candidate
            self._obey(candidate)
            commands = [Activate(event.subject, candidate), Keep(event.subject, candidate)]
        self._next_poll(event.subject, watch, now_s)
        return commands

    def _catalogued(self, event: Catalogued, now_s: float) -> list[Command]:
        self._asking = False
        self._links = links.answered(self._links, event.upstream, now_s)
        watch = self._watches[CATALOGUE]
        watch.failures = 0
        self._next_poll(CATALOGUE, watch, now_s)
        for subject in event.digests:
            self._watch(subject, now_s)
        known = {s: digest for s, digest in event.digests.items() if s in self._watches}
        return self._hinted(known, now_s)

    def _refused(self, event: Refused, now_s: float) -> list[Command]:
        self._asking = False
        self._links = links.answered(self._links, event.upstream, now_s)
        watch = self._watches[event.subject]
        a_round_s = self._poll_interval_s * (1 + len(self._links.links))
        watch.rests_until_s[event.upstream] = now_s + max(REFUSED_REST_S, a_round_s)
        resting = sum(until_s > now_s for until_s in watch.rests_until_s.values())
        if resting < len(self._links.links):
            self._retry(event.subject, watch, now_s)
        else:
            self._next_poll(event.subject, watch, now_s)
        if event.code in LASTING:
            watch.lasting = event.digest
        said = (event.code, event.message)
        if watch.reported.get(event.upstream) == said:
            return []
        watch.reported[event.upstream] = said
        return [
            Report(
                subject=event.subject,
                upstream=event.upstream,
                code=event.code,
                message=event.message,
                key=event.key,
                revision=event.revision,
                digest=event.digest,
            )
        ]

    def _failed(self, event: Failed, now_s: float) -> list[Command]:
        self._asking = False
        self._links = links.failed(self._links, event.upstream, now_s, self._draw())
        # Moving to one that isn't known to fail happens once per upstream: it needs no budget.
        untried = any(not link.failures for link in self._links.links)
        self._retry(event.subject, self._watches[event.subject], now_s, free=untried)
        return []

    def _hinted(self, digests: Mapping[Subject, str], now_s: float) -> list[Command]:
        for subject, digest in digests.items():
            watch = self._watches.get(subject)
            if watch is None:
                self._look_around(now_s, HINT_SPREAD_S, (CATALOGUE,))
            elif digest != watch.lasting and _is_news(watch, digest):
                watch.wanted = digest
                self._hurry(subject, watch, now_s)
        return []

    def _stream_opened(self, event: StreamOpened, now_s: float) -> list[Command]:
        if event.upstream == self._stream.upstream:
            self._stream.opened_s = now_s
            # What changed while nobody listened was not heard.
            self._look_around(now_s, LOOK_SPREAD_S, self._topics())
        return []

    def _stream_closed(self, event: StreamClosed, now_s: float) -> list[Command]:
        stream = self._stream
        if event.upstream != stream.upstream:
            return []
        opened_s = stream.opened_s
        proven = opened_s is not None and now_s - opened_s >= STREAM_PROVEN_S
        failures = 1 if proven else stream.failures + 1
        wait_s = full_jitter(failures, STREAM_BASE_S, self._poll_interval_s, self._draw())
        self._stream = _Stream(failures=failures, reopen_s=now_s + wait_s)
        if opened_s is not None and failures <= CLOSINGS_NOTED:
            # The upstream may be gone: one question finds out, long before the steady poll.
            self._look_around(now_s, LOOK_SPREAD_S, self._topics()[:1])
        return []

    def _ask(self, now_s: float) -> list[Command]:
        """The next question, if none is open and one is due."""
        if self._asking or not self._links.links:
            return []
        due = self._due(now_s)
        while due and self._watches[due[0]].pinned:  # whatever is new, it would not be taken
            self._next_poll(due[0], self._watches[due[0]], now_s)
            due = self._due(now_s)
        if due is None:
            return []
        (topic,) = due
        watch = self._watches[topic]
        self._links, upstream = links.pick(self._links, now_s)
        upstream = self._unrefused(watch, upstream, now_s)
        if not watch.urgent and not watch.failures:
            self._budget = self._budget.earn()
        self._asking = True
        watch.asked_s, watch.due_s, watch.wanted = now_s, float("inf"), None
        if topic is CATALOGUE:
            return [FetchCatalogue(upstream)]
        return [Fetch(topic, upstream, watch.standing.digest if watch.standing else None)]

    def _listen(self, now_s: float) -> list[Command]:
        """Keep the one stream on the upstream in use."""
        stream, current = self._stream, self._links.current
        if not self._streams or stream.upstream == current:
            return []
        if stream.upstream is not None:
            self._stream = _Stream(failures=stream.failures, reopen_s=now_s)
            return [CloseStream(), *self._listen(now_s)]
        if now_s < stream.reopen_s:
            return []
        self._stream = _Stream(upstream=current, failures=stream.failures)
        return [OpenStream(current)]

    def _watch(self, topic: _Topic, now_s: float) -> _Watch | None:
        watch = self._watches.get(topic)
        if watch is None:
            if len(self._watches) > SUBJECTS_MAX:
                self.subjects_dropped += 1
                return None
            watch = self._watches[topic] = _Watch(due_s=now_s)
            self._schedule(topic, watch, now_s)
        return watch

    def _topics(self) -> list[_Topic]:
        """Whom to ask to learn what changed: the catalogue, if there is one, says it at once."""
        return [CATALOGUE] if CATALOGUE in self._watches else list(self._watches)

    def _look_around(self, now_s: float, within_s: float, topics: Iterable[_Topic]) -> None:
        for topic in topics:
            watch = self._watches.get(topic)
            due_s = now_s + spread(within_s, self._draw())
            if watch and due_s < watch.due_s and not self._is_open(watch):
                self._schedule(topic, watch, due_s)

    def _next_poll(self, topic: _Topic, watch: _Watch, now_s: float) -> None:
        self._schedule(topic, watch, now_s + steady(self._poll_interval_s, self._draw()))
        if watch.wanted and _is_news(watch, watch.wanted) and not watch.pinned:
            self._hurry(topic, watch, now_s)

    def _retry(self, topic: _Topic, watch: _Watch, now_s: float, *, free: bool = False) -> None:
        watch.failures += 1
        budget = self._budget if free else self._budget.spend()
        if budget is None:
            self._next_poll(topic, watch, now_s)
            return
        self._budget = budget
        wait_s = full_jitter(watch.failures, RETRY_BASE_S, self._poll_interval_s, self._draw())
        self._schedule(topic, watch, now_s + wait_s)

    def _obey(self, standing: Standing) -> None:
        """Poll at the rate that the publisher asks for, within bounds."""
        if self._paced_by_server and standing.poll_interval_s:
            wished_s = max(standing.poll_interval_s, POLL_INTERVAL_MIN_S)
            self._poll_interval_s = min(wished_s, POLL_INTERVAL_MAX_S)

    def _hurry(self, topic: _Topic, watch: _Watch, now_s: float) -> None:
        """Ask soon because of a hint; while its question is open, the answer looks at `wanted`."""
        if self._is_open(watch):
            return
        due_s = max(now_s + spread(HINT_SPREAD_S, self._draw()), watch.asked_s + HINT_GAP_S)
        if due_s < watch.due_s or not watch.urgent:  # overdue polls wait behind hints
            self._schedule(topic, watch, min(due_s, watch.due_s), urgent=True)

    @staticmethod
    def _is_open(watch: _Watch) -> bool:
        return watch.due_s == float("inf")

    def _schedule(
        self, topic: _Topic, watch: _Watch, due_s: float, *, urgent: bool = False
    ) -> None:
        watch.due_s, watch.urgent = due_s, urgent
        heapq.heappush(self._queues[0 if urgent else 1], (due_s, next(self._order), topic))

    def _due(self, now_s: float) -> tuple[_Topic] | None:
        for queue in self._queues:
            self._drop_outdated(queue)
            if queue and queue[0][0] <= now_s:
                return (heapq.heappop(queue)[2],)
        return None

    def _drop_outdated(self, queue: list[tuple[float, int, _Topic]]) -> None:
        while queue and self._watches[queue[0][2]].due_s != queue[0][0]:
            heapq.heappop(queue)

    def _wake_s(self) -> float | None:
        """When the next thing is due by itself."""
        times = []
        if not self._asking and self._links.links:
            for queue in self._queues:
                self._drop_outdated(queue)
                times += [queue[0][0]] if queue else []
        if self._streams and self._stream.upstream is None:
            times.append(self._stream.reopen_s)
        return min(times, default=None)

    def _unrefused(self, watch: _Watch, upstream: int, now_s: float) -> int:
        """Another upstream, if this one's answers about the topic were refused of late."""
        refused = {other for other, until_s in watch.rests_until_s.items() if until_s > now_s}
        if upstream not in refused:
            return upstream
        unrefused = set(range(len(self._links.links))) - refused
        # One that failed may be back: it is tried rather than one that is known to be wrong.
        others = unrefused.intersection(links.usable(self._links, now_s)) or unrefused
        if others:
            return min(others)
        # When all were refused, the longest ago comes first: each has its turn.
        return min(refused, key=lambda other: watch.rests_until_s[other])


def _is_news(watch: _Watch, digest: str) -> bool:
    return watch.standing is None or watch.standing.digest != digest


def _revision(watch: _Watch) -> int:
    return watch.standing.revision if watch.standing else 0
