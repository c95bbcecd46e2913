"""Following: events in, commands out. The one loop that performs the commands is `sdk.follower`.

For each subject the machine keeps what is active (its `Standing`) and when to ask next. Rules:

- The truth is the steady poll: it goes on at its jittered rate whatever the streams do.
- A hint only says "poll now". It is never believed, and never comes more often than `HINT_GAP_S`.
- One question at a time, hinted subjects first: the load on an upstream is bounded by that.
- A failure is retried with full jitter out of a budget; without budget the steady poll retries,
  and who has nothing to answer from at the rate of the budget's floor, whatever the throttle says.
  Who has an answer and nobody else to ask waits for that poll at once. Moving on to an upstream
  that is not known to fail needs no budget.
- What is asked beyond the steady polls goes through a throttle for each upstream.
- The rate is the one that was signed. An upstream's wishes slow it down, within the signed bounds.
- A start that answers from disk spreads its first questions; one that can't answer asks at once.
- A subject's revision never goes down, whoever answers; back goes only what failed on probation,
  or what somebody pins. What is pinned is not asked about.
- What was refused is reported once, and asked of another upstream while the refuser rests.

Time (`now_s`, seconds on any clock that never goes back) and chance are arguments.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import msgspec

from holdfast.core import pacing
from holdfast.core import upstreams as links
from holdfast.core.conversation import (
    PATIENCE_S,
    Activate,
    Answered,
    Catalogued,
    Command,
    Event,
    Failed,
    Fetch,
    FetchCatalogue,
    Hinted,
    Keep,
    Refused,
    Released,
    Report,
    Restored,
    Returned,
    Standing,
    StreamClosed,
    StreamOpened,
    StreamSilent,
    Tick,
    WakeAt,
)
from holdfast.core.listening import Listening
from holdfast.core.model import Subject
from holdfast.core.pacing import POLL_INTERVAL_MIN_S, RetryBudget, full_jitter, spread, steady
from holdfast.core.schedule import CATALOGUE, Schedule, Topic, Watch
from holdfast.core.snapshot import Pacing
from holdfast.core.throttle import Throttle

__all__ = ["POLL_INTERVAL_MIN_S", "Follow", "Plan"]

RETRY_BASE_S = 0.5
HINT_SPREAD_S = 0.01
"""A hint is acted on within this time, evenly spread."""
HINT_GAP_S = 0.05
"""Least time between two polls of one subject that hints ask for."""
LOOK_SPREAD_S = 1.0
"""After a stream opened or fell silent, polls come within this time, evenly spread."""
CLOSED_SPREAD_S = 4.0
"""After somebody ended a stream: many heard that at the same moment."""
START_SPREAD_S = 5.0
"""The first question of a start that answers from disk, but can't say how old that is."""
STREAM_STARTS = 3.0
"""Streams of such a start are opened within so many times its spread."""
LAGS = "rollback"
"""The code of an answer that was only older than what is active."""
REFUSED_REST_S = 60.0
"""How long other upstreams are preferred for a subject after a refusal, at least."""
PATIENCE_MAX_S = 60.0
"""For one question while nobody else could be asked: a large answer on a slow line arrives."""
LASTING = frozenset(
    {"schema", "contract", "shape", "probe", "unexplained", "crash-streak", "health"}
)
"""Codes of candidates that this consumer refuses whoever brings them: no hint about one hurries."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to follow, fixed for the life of a follower.

    `subjects` are followed from the start. With `catalogue`, the upstream's catalogue is polled
    too and every subject in it is followed; one that leaves it is still answered from what is
    there. Without `poll_interval_s` the interval is the one that the snapshots ask for. `gentle`
    off, in game days alone: no jitter, no budget, no throttle, no wish of an upstream obeyed.
    """

    upstreams: int
    subjects: tuple[Subject, ...] = ()
    catalogue: bool = False
    streams: bool = True
    poll_interval_s: float | None = None
    gentle: bool = True


class Follow:
    """The machine; see the module's docstring. `draw` gives chance, evenly from [0, 1)."""

    def __init__(self, plan: Plan, draw: Callable[[], float], now_s: float) -> None:
        self._plan = plan
        self._draw = draw
        self._links = links.known(plan.upstreams, now_s)
        self._throttles = [Throttle() for _ in range(plan.upstreams)]
        self._away_until_s = [0.0] * plan.upstreams
        self._slowed_s = [0.0] * plan.upstreams
        self._budget = RetryBudget(since_s=now_s)
        self._contracts: Counter[Pacing] = Counter()
        self._asking = False
        self._looks = True
        self._listening = Listening(wanted=plan.streams and plan.upstreams > 0, gentle=plan.gentle)
        self._schedule = Schedule()
        self.throttled = 0
        """Questions that were not asked, because too few of late were answered."""
        if plan.catalogue:
            self._schedule.watch(CATALOGUE, now_s)
        for subject in plan.subjects:
            self._schedule.watch(subject, now_s)

    @property
    def upstream(self) -> int:
        """The upstream in use."""
        return self._links.current

    @property
    def silent(self) -> bool:
        """Whether no upstream answers."""
        return links.silent(self._links)

    @property
    def subjects_dropped(self) -> int:
        """How often a subject was beyond the bound of those that are followed."""
        return self._schedule.dropped

    def standing(self, subject: Subject) -> Standing | None:
        watch = self._schedule.get(subject)
        return watch.standing if watch else None

    def step(self, event: Event, now_s: float) -> list[Command]:
        """Take one event in; the commands are to be performed in their order."""
        commands = self._take(event, now_s)
        commands += self._ask(now_s)
        commands += self._listening.step(self._links.current, now_s)
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
            case StreamOpened() | StreamClosed() | StreamSilent():
                return self._of_stream(event, now_s)
            case Tick():
                return []

    # What is heard

    def _restored(self, event: Restored, now_s: float) -> list[Command]:
        watch = self._schedule.watch(event.subject, now_s)
        newest = max(event.standings, key=lambda standing: standing.revision, default=None)
        if watch is None or newest is None or watch.revision >= newest.revision:
            return []
        self._stand(watch, newest)
        if self._plan.gentle and watch.asked_s < 0:
            self._start_gently(event, newest.pacing, now_s)
        return [Activate(event.subject, newest)]

    def _start_gently(self, event: Restored, contract: Pacing, now_s: float) -> None:
        """A fleet that starts together must not ask together; what is on disk answers meanwhile.

        Right after a restart the first poll comes when it would have come without one.
        """
        interval_s, known_s = self._interval_s(event.subject), event.vouched_s
        recent = known_s is not None and known_s <= 2 * contract.stale_after_s
        within_s = interval_s if recent else min(START_SPREAD_S, interval_s)
        if self._plan.catalogue:  # others follow this one: it says itself what is new
            self._schedule.put(event.subject, now_s + spread(START_SPREAD_S, self._draw()))
            return
        self._schedule.put(event.subject, now_s + spread(within_s, self._draw()))
        self._listening.not_before(now_s + spread(STREAM_STARTS * within_s, self._draw()))
        self._looks = False  # the steady poll finds what no stream told yet

    def _returned(self, event: Returned, now_s: float) -> list[Command]:
        watch = self._schedule.watch(event.subject, now_s)
        if watch is None:
            return []
        watch.pinned = event.pinned
        if watch.standing == event.standing:
            return []
        self._stand(watch, event.standing)
        return [Activate(event.subject, event.standing)]

    def _released(self, event: Released, now_s: float) -> list[Command]:
        watch = self._schedule.get(event.subject)
        if watch and watch.pinned:
            watch.pinned, watch.lasting = False, ""
            self._hurry(event.subject, watch, now_s)
        return []

    def _answered(self, event: Answered, now_s: float) -> list[Command]:
        watch, candidate = self._schedule[event.subject], event.candidate
        if candidate and candidate.revision < watch.revision and not watch.pinned:
            message = f"revision {candidate.revision} is older than {watch.revision}"
            return self._refused(Refused(event.subject, event.upstream, LAGS, message), now_s)
        self._heard(event.upstream, now_s)
        self._slowed_s[event.upstream] = event.poll_s if self._plan.gentle else 0.0
        watch.failures = 0
        watch.rests_until_s.pop(event.upstream, None)
        watch.reported.pop(event.upstream, None)
        commands: list[Command] = []
        if candidate and candidate.revision > watch.revision and not watch.pinned:
            self._stand(watch, candidate)
            commands = [Activate(event.subject, candidate), Keep(event.subject, candidate)]
        self._next_poll(event.subject, watch, now_s)
        return commands

    def _catalogued(self, event: Catalogued, now_s: float) -> list[Command]:
        self._heard(event.upstream, now_s)
        watch = self._schedule[CATALOGUE]
        watch.failures = 0
        self._next_poll(CATALOGUE, watch, now_s)
        self._schedule.follow(event.digests, self._plan.subjects, now_s)
        known = {s: digest for s, digest in event.digests.items() if s in self._schedule}
        return self._hinted(known, now_s)

    def _refused(self, event: Refused, now_s: float) -> list[Command]:
        self._heard(event.upstream, now_s)
        if weight := links.weight_of(event.code):
            self._links = links.doubted(self._links, event.upstream, weight, now_s)
        watch = self._schedule[event.subject]
        a_round_s = self._interval_s(event.subject) * (1 + len(self._links.links))
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

    def _heard(self, upstream: int, now_s: float) -> None:
        """An upstream answered, whatever it said."""
        self._asking = False
        self._links = links.answered(self._links, upstream, now_s)
        self._throttles[upstream].accepted(now_s)
        self._listening.answered(upstream)

    def _failed(self, event: Failed, now_s: float) -> list[Command]:
        self._asking = False
        self._links = links.failed(self._links, event.upstream, now_s, self._draw())
        watch = self._schedule[event.subject]
        if event.poll_s and self._plan.gentle:
            self._slowed_s[event.upstream] = event.poll_s
        if event.retry_after_s and self._plan.gentle:
            contract = self._contract(event.subject)
            wait_s = pacing.obeyed_wait_s(contract, event.retry_after_s, self._draw())
            self._away_until_s[event.upstream] = now_s + wait_s
        # Moving to one that isn't known to fail happens once per upstream: it needs no budget.
        untried = any(not link.failures for link in self._links.links)
        if not untried and watch.standing is None:
            self._budget = self._budget.wait(now_s)
        if untried or watch.standing is None or len(self._links.links) > 1 or not self._plan.gentle:
            self._retry(event.subject, watch, now_s, free=untried)
        else:
            watch.failures += 1
            self._next_poll(event.subject, watch, now_s)
        return []

    def _hinted(self, digests: Mapping[Subject, str], now_s: float) -> list[Command]:
        for subject, digest in digests.items():
            watch = self._schedule.get(subject)
            if watch is None:
                self._look_around(now_s, HINT_SPREAD_S, (CATALOGUE,))
            elif digest != watch.lasting and watch.is_news(digest):
                if watch.reported.get(self.upstream, ("",))[0] == LAGS:
                    watch.rests_until_s.pop(self.upstream, None)  # it may have caught up
                watch.wanted = digest
                self._hurry(subject, watch, now_s)
        return []

    def _of_stream(
        self, event: StreamOpened | StreamClosed | StreamSilent, now_s: float
    ) -> list[Command]:
        topics = self._topics()
        match event:
            case StreamOpened() if self._listening.opened(event.upstream, now_s):
                # What changed while nobody listened was not heard.
                self._look_around(now_s, LOOK_SPREAD_S, topics if self._looks else ())
                self._looks = True
            case StreamClosed() if self._closed(event, now_s) and self._alternatives(now_s):
                # The upstream may be gone: one question finds out, long before the steady poll.
                self._look_around(now_s, CLOSED_SPREAD_S, topics[:1])
            case StreamSilent() if event.upstream == self.upstream and self._alternatives(now_s):
                self._look_around(now_s, LOOK_SPREAD_S, topics[:1])
        return []

    def _closed(self, event: StreamClosed, now_s: float) -> bool:
        """Whether it had been open."""
        topic = next(iter(self._topics()), CATALOGUE)
        contract = self._contract(topic)
        wait_s = pacing.obeyed_wait_s(contract, event.retry_after_s, self._draw())
        event = msgspec.structs.replace(event, retry_after_s=wait_s)
        return self._listening.closed(event, now_s, self._interval_s(topic), self._draw())

    # What is asked

    def _ask(self, now_s: float) -> list[Command]:
        """The next question, if none is open and one is due."""
        if self._asking or not self._links.links:
            return []
        while (due := self._schedule.due(now_s)) is not None:
            (topic,) = due
            watch = self._schedule[topic]
            if watch.pinned:  # whatever is new, it would not be taken
                self._next_poll(topic, watch, now_s)
                continue
            upstream = self._upstream_for(topic, watch, now_s)
            if upstream is None:
                continue
            if not watch.extra:
                self._budget = self._budget.earn()
            if not self._may_ask(watch, upstream, now_s):
                self.throttled += 1
                self._schedule.put(topic, max(watch.steady_s, now_s))  # which always may be asked
                continue
            self._asking = True
            self._schedule.open(topic, now_s)
            patience_s = self._patience_s(upstream, watch, now_s)
            if topic is CATALOGUE:
                return [FetchCatalogue(upstream, patience_s)]
            have = watch.standing.digest if watch.standing else None
            return [Fetch(topic, upstream, have, patience_s)]
        return []

    def _may_ask(self, watch: Watch, upstream: int, now_s: float) -> bool:
        """Whether the throttle lets it pass; steady polls do, and the first try elsewhere."""
        if watch.paid:  # nor counted: else the first hints after it would be refused
            return True
        moves_on = watch.failures > 0 and not self._links.links[upstream].failures
        agreed = not watch.extra or moves_on or not self._plan.gentle
        return self._throttles[upstream].ask(now_s, self._draw(), agreed=agreed)

    def _upstream_for(self, topic: Topic, watch: Watch, now_s: float) -> int | None:
        """Whom to ask; none when all asked to be left alone: it is put off until that is over."""
        self._links, upstream = links.pick(self._links, now_s)
        upstream = links.unrefused(self._links, upstream, watch.rests_until_s, now_s)
        if self._away_until_s[upstream] <= now_s:
            return upstream
        others = [one for one, until_s in enumerate(self._away_until_s) if until_s <= now_s]
        usable = [one for one in links.usable(self._links, now_s) if one in others] or others
        if usable:
            return links.unrefused(self._links, usable[0], watch.rests_until_s, now_s)
        until_s = min(self._away_until_s)
        self._schedule.postpone(topic, until_s)
        return None

    def _patience_s(self, upstream: int, watch: Watch, now_s: float) -> float:
        others = [other for other in self._alternatives(now_s) if other != upstream]
        unrefused = [one for one in others if watch.rests_until_s.get(one, 0.0) <= now_s]
        return PATIENCE_S if unrefused else PATIENCE_MAX_S

    def _alternatives(self, now_s: float) -> list[int]:
        """Upstreams beside the one in use that may well answer."""
        usable = links.usable(self._links, now_s)
        return [
            one for one in usable if one != self._links.current and self._away_until_s[one] <= now_s
        ]

    # When it is asked

    def _topics(self) -> list[Topic]:
        """Whom to ask to learn what changed: the catalogue, if there is one, says it at once."""
        return [CATALOGUE] if CATALOGUE in self._schedule else list(self._schedule)

    def _look_around(self, now_s: float, within_s: float, topics: Iterable[Topic]) -> None:
        for topic in topics:
            if (watch := self._schedule.get(topic)) is None:
                continue
            due_s = max(now_s + self._spread_s(within_s), watch.asked_s + HINT_GAP_S)
            if watch.is_open:  # its answer may be older than what is heard now
                watch.again_s = within_s
            elif due_s < watch.due_s:
                self._schedule.put(topic, due_s, extra=True, paid=watch.paid)

    def _next_poll(self, topic: Topic, watch: Watch, now_s: float) -> None:
        interval_s = self._interval_s(topic)
        wait_s = steady(interval_s, self._draw()) if self._plan.gentle else interval_s
        at_s = now_s + wait_s
        slowed = bool(self._links.links) and self._slowed_s[self._links.current] > 0
        if self._plan.gentle and watch.extra and now_s < watch.steady_s < at_s and not slowed:
            # What comes on top moves no steady poll: else all who heard one hint poll together.
            at_s = watch.steady_s
        self._schedule.put(topic, at_s)
        if watch.again_s is not None:
            self._look_around(now_s, watch.again_s, (topic,))
        if watch.wanted and watch.is_news(watch.wanted) and not watch.pinned:
            self._hurry(topic, watch, now_s)

    def _retry(self, topic: Topic, watch: Watch, now_s: float, *, free: bool = False) -> None:
        watch.failures += 1
        if not self._plan.gentle:
            self._schedule.put(topic, now_s + RETRY_BASE_S, extra=True)
            return
        empty = not self._contracts
        self._budget = self._budget.wait(now_s) if empty else self._budget
        budget = self._budget if free else self._budget.spend()
        if budget is None and not empty:
            self._next_poll(topic, watch, now_s)
            return
        self._budget = budget or self._budget.lend()
        cap_s = self._interval_s(topic)
        most_s = min(cap_s, 1 / pacing.RETRIES_PER_S) if empty else cap_s
        wait_s = full_jitter(watch.failures, RETRY_BASE_S, most_s, self._draw())
        if budget is None:
            wait_s = self._budget.owed_s() * (1 + pacing.RETRY_SPREAD * self._draw())
        if watch.steady_s <= now_s:
            self._schedule.put(topic, now_s + steady(cap_s, self._draw()))
        self._schedule.put(topic, min(now_s + wait_s, watch.steady_s), extra=True, paid=empty)

    def _hurry(self, topic: Topic, watch: Watch, now_s: float) -> None:
        """Ask soon because of a hint; while its question is open, the answer looks at `wanted`."""
        if watch.is_open:
            return
        due_s = max(now_s + self._spread_s(HINT_SPREAD_S), watch.asked_s + HINT_GAP_S)
        if due_s < watch.due_s or not watch.urgent:  # overdue polls wait behind hints
            self._schedule.put(topic, min(due_s, watch.due_s), urgent=True, paid=watch.paid)

    def _spread_s(self, within_s: float) -> float:
        return spread(within_s, self._draw()) if self._plan.gentle else 0.0

    def _wake_s(self) -> float | None:
        """When the next thing is due by itself."""
        asks = self._schedule.next_s() if not self._asking and self._links.links else None
        times = (asks, self._listening.wake_s(self._links.current))
        return min((each for each in times if each is not None), default=None)

    # The contract

    def _stand(self, watch: Watch, standing: Standing) -> None:
        """This is active from now on, and what it says of pacing holds."""
        if watch.standing is not None:
            self._contracts[watch.standing.pacing] -= 1
        watch.standing = standing
        self._contracts[standing.pacing] += 1
        self._contracts = +self._contracts
        streams = any(each.streams for each in self._contracts)
        self._listening.wanted = streams and self._plan.streams and self._plan.upstreams > 0

    def _contract(self, topic: Topic) -> Pacing:
        """What was signed with the subject; for the catalogue, the quickest of all subjects."""
        watch = self._schedule.get(topic)
        if watch is not None and watch.standing is not None:
            return watch.standing.pacing
        signed = self._contracts if topic is CATALOGUE else ()
        return min(signed, key=lambda each: each.poll_interval_s, default=pacing.UNSIGNED)

    def _interval_s(self, topic: Topic) -> float:
        hint_s = self._slowed_s[self._links.current] if self._slowed_s else 0.0
        own_s = self._plan.poll_interval_s
        return pacing.obeyed_interval_s(self._contract(topic), own_s, hint_s)
