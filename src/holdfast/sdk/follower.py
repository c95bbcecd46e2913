"""The one thread that performs what `core.follow` commands, for any number of subjects.

    follower = Follower(Following(sources=make_sources, subjects=(subject,), cache=cache))
    follower.start()                     # generations from disk answer when this returns
    follower.generation(subject)         # a reference, read without a lock
    follower.close()

The SDK follows one subject, an edge all of its upstream's catalogue. The thread sleeps on a queue
until an event comes or the machine wants to be woken. A stream of hints, which blocks as it reads,
has a thread of its own. Both are daemons.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from typing import Final

from holdfast.core.conversation import (
    Activate,
    Answered,
    Catalogued,
    CloseStream,
    Command,
    Event,
    Fetch,
    FetchCatalogue,
    Hinted,
    Keep,
    OpenStream,
    Refused,
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
from holdfast.core.errors import HoldfastError, NotFound, Unavailable
from holdfast.core.follow import Follow, Plan
from holdfast.core.generations import Pin
from holdfast.core.generations import refusal as refusal_of
from holdfast.core.model import Subject
from holdfast.core.roots import RootSet
from holdfast.core.trust import Generation
from holdfast.ports import Hints, Source
from holdfast.sdk.following import Following
from holdfast.sdk.handed import Handed, Offer
from holdfast.sdk.intake import Held, Intake, failed, is_stale, standing_of
from holdfast.sdk.looks import looks
from holdfast.sdk.status import FollowerStatus, SubjectStatus
from holdfast.sdk.trials import Trials, now_ms

__all__ = ["Follower", "FollowerStatus", "Following", "SubjectStatus", "boot_clock", "draw"]

CLOSE_S: Final = 2.0
"""How long `close` waits for a thread that is in the middle of a question."""
LOOK_GAP_S: Final = 1.0
"""How often pins are looked at, and the host's health while something is on probation."""
OURSELVES: Final = -1
"""The upstream of a refusal that no answer of any was the reason for."""
HINTS_WAITING_MAX: Final = 10_000
"""Hints beyond these, unread, are dropped: the steady poll finds what they told of."""


def boot_clock() -> float:
    """Seconds since boot, time asleep counted in: a machine that slept for a month is stale."""
    return time.clock_gettime(_BOOT)


_BOOT: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def draw() -> float:
    """Chance, evenly from [0, 1); another one in every process, after a fork too."""
    return int.from_bytes(os.urandom(6)) / 2**48


class Follower:
    """See the module. Reads (`generation`, `freshness`, `status`) are safe from any thread."""

    def __init__(self, following: Following, clock: Callable[[], float] = boot_clock) -> None:
        self._following = following
        self._clock = clock
        self._trials = Trials(following.cache, following.host, streak=following.checks.streak)
        self._intake = Intake(
            following.cache,
            following.root,
            following.verify,
            clock,
            self._trials,
            following.contract,
            following.checks,
        )
        self.edition = self._intake.edition
        self._looked_s = float("-inf")
        self.counts: Counter[str] = Counter()
        self._told: set[Subject] = set()
        self._told_root: RootSet | None = None
        self._closed = False
        self._begin()

    def _begin(self) -> None:
        """All that does not survive a fork."""
        following = self._following
        self._sources = tuple(following.sources())
        self._events: SimpleQueue[Event | Offer | None] = SimpleQueue()
        self._streams: dict[int, Hints] = {}
        self._stream_number = 0
        self._activated = threading.Condition()
        plan = Plan(
            upstreams=len(self._sources),
            subjects=following.subjects,
            catalogue=following.catalogue,
            streams=following.streams,
            poll_interval_s=following.poll_interval_s,
            gentle=following.gentle,
        )
        self._machine = Follow(plan, draw, self._clock())
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Restore from disk, in the caller's thread, then follow in a thread of its own."""
        known = self._following.subjects
        if self._following.catalogue:
            known = tuple({*known, *self._following.cache.subjects()})
        waiting: list[Command] = []
        self._trials.read_pins()
        for subject in known:
            event = self._restored(subject, self._intake.restore(subject))
            waiting = self._perform_local(self._machine.step(event, self._clock()), waiting)
        self._report_gone_back()
        self._run_thread([*waiting, *self._machine.step(Tick(), self._clock())])

    def _restored(self, subject: Subject, standings: tuple[Standing, ...]) -> Event:
        if standings and self._trials.pin(subject) is not None:
            return Returned(subject, standings[0], pinned=True)
        newest = max(standings, key=lambda one: one.revision, default=None)
        vouched_s = self._intake.vouched_s(subject, newest.digest) if newest else None
        return Restored(subject, standings, vouched_s)

    def renew(self) -> None:
        """In a child after a fork: new connections, locks and threads, the same generations."""
        # Nothing inherited is closed here: shutting a shared socket down would cut the parent off.
        held = {s: h.generation for s, h in self._intake.held.items() if h.generation}
        self._begin()
        if self._closed:
            return
        self._trials.renew()
        waiting: list[Command] = []
        for subject, generation in held.items():
            event = self._restored(subject, (standing_of(generation),))
            commands = self._machine.step(event, self._clock())
            waiting += [each for each in commands if not isinstance(each, Activate)]
            # The fork may have come between taking a generation in and telling of it.
            self._tell(self._following.on_activate, subject, generation)
        self._run_thread([*waiting, *self._machine.step(Tick(), self._clock())])

    def close(self) -> None:
        """Stop following; what is held stays readable. Returns within `CLOSE_S`."""
        self._closed = True
        self._events.put(None)
        for hints in list(self._streams.values()):
            hints.close()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(CLOSE_S)
        self._trials.close()

    def pin(self, subject: Subject, revision: int, reason: str = "") -> None:
        """Hold the subject to a revision that is on disk, whatever upstreams say, until `unpin`.

        It holds for every process of the cache. Raises `NotFound` when it isn't there.
        """
        if revision not in {one.revision for one in self._intake.kept(subject)}:
            raise NotFound(f"revision {revision} of {subject} is not on disk")
        self._trials.put_pin(subject, Pin(revision, reason, now_ms()))
        self._look_soon()

    def unpin(self, subject: Subject) -> None:
        """Follow again; what was refused before gets another chance."""
        self._trials.put_pin(subject, None)
        self._look_soon()

    def offer(self, offer: Offer) -> None:
        """Judge a bundle that was handed over as one that came from an upstream; soon."""
        self._events.put(offer)

    def _heard(self, event: Event | Offer, answers: deque[Event]) -> Event:
        """What the machine hears of it. A candidate that was proven beside another one than what is
        active by now is not activated but asked for again."""
        if isinstance(event, Offer):
            return self._take_offer(event, answers)
        if isinstance(event, Answered) and event.candidate is not None:
            subject, digest = event.subject, event.candidate.digest
            if digest not in self._intake.held[subject].candidates:
                self._events.put(Hinted({subject: digest}))
                return Answered(subject, event.upstream, None, event.poll_s)
        return event

    def _take_offer(self, offer: Offer, answers: deque[Event]) -> Event:
        subject = offer.subject
        verdict = self._intake.ask(Handed(offer), subject, OURSELVES)
        candidate = verdict.candidate if isinstance(verdict, Answered) else None
        if candidate is not None:
            if self._trials.pin(subject) is not None:
                verdict = Refused(subject, OURSELVES, "pinned", f"{subject} is pinned here")
            else:
                event = Restored(subject, (candidate,))
                self._perform(self._machine.step(event, self._clock()), answers)
                self._intake.keep(subject)
        self.counts[f"offered_{type(verdict).__name__.lower()}"] += 1
        offer.told(verdict)
        return Tick()

    def put_away(self, subject: Subject, digest: str, code: str, message: str) -> None:
        """Answer from that generation no more, in no process of this cache: it goes back to another
        one, where there is one. From any thread; soon."""
        self._trials.condemn(subject, digest, code, message)
        self._look_soon()

    def _look_soon(self) -> None:
        self._looked_s = float("-inf")
        self._events.put(Tick())

    def subjects(self) -> list[Subject]:
        """Every subject that has a generation."""
        return [s for s, held in list(self._intake.held.items()) if held.generation]

    def generation(self, subject: Subject) -> Generation | None:
        held = self._intake.held.get(subject)
        return held.generation if held else None

    def freshness(self, subject: Subject) -> bytes:
        """The newest freshness statement's envelope, empty when none came."""
        held = self._intake.held.get(subject)
        return held.sealed_freshness if held else b""

    def is_stale(self, subject: Subject) -> bool:
        """A label: nobody can say that what is held is the newest.

        No upstream answers, or those that do have had no newer freshness statement for the time
        that the snapshot names.
        """
        held = self._intake.held.get(subject)
        return held is None or self._machine.silent or is_stale(held, self._clock())

    @property
    def silence(self) -> str:
        """Why no upstream answers; empty while one does."""
        return self._intake.last_error if self._machine.silent else ""

    def wait_for(self, subject: Subject, timeout_s: float) -> bool:
        """Whether the host was told of a generation of the subject, waiting until the timeout."""
        with self._activated:
            return self._activated.wait_for(lambda: subject in self._told, timeout_s)

    def name_of(self, upstream: int) -> str:
        return self._sources[upstream].name if upstream >= 0 else "this process"

    def status(self) -> FollowerStatus:
        intake, now_s = self._intake, self._clock()
        roots = intake.pinned
        return FollowerStatus(
            upstream=self._sources[self._machine.upstream].name if self._sources else "",
            streaming=bool(self._streams),
            subjects={
                subject: self._subject_status(held, held.generation, now_s)
                for subject, held in list(intake.held.items())
                if held.generation is not None
            },
            last_error=intake.last_error,
            last_error_age_s=intake.last_error_age_s(),
            cache_error=intake.keeping.error,
            root_version=roots.version if roots else 0,
            root_development=bool(roots and roots.development),
            pinned_by_sight=intake.pinned_by_sight,
            counts={
                **self.counts,
                "cache_damaged": self._following.cache.damaged,
                "cache_failed": intake.keeping.failed,
                "cache_healed": intake.keeping.healed,
                "throttled": self._machine.throttled,
            },
        )

    def _run_thread(self, waiting: list[Command]) -> None:
        self._thread = threading.Thread(
            target=self._run, args=(waiting,), name="holdfast-follower", daemon=True
        )
        self._thread.start()

    def _run(self, commands: list[Command]) -> None:
        answers: deque[Event] = deque()
        wake_s = self._perform(commands, answers)
        while not self._closed:
            for event in self._next(answers, wake_s):
                if event is None:
                    break
                heard = self._heard(event, answers)
                wake_s = self._perform(self._machine.step(heard, self._clock()), answers)
                wake_s = self._look(answers, wake_s)
                self._tell(self._following.on_step)
        for source in self._sources:
            source.close()

    def _next(self, answers: deque[Event], wake_s: float | None) -> list[Event | Offer | None]:
        """What is to be taken now; when there is nothing, it is waited for.

        All that was heard by now comes before the next answer: with thousands of subjects there
        is always another answer, and hints must not wait until there is none.
        """
        heard = [self._events.get() for _ in range(self._events.qsize())]
        if answers:
            return [*heard, answers.popleft()]
        if heard:
            return heard
        look_s = self._looked_s + LOOK_GAP_S
        wait_s = max(0.0, min(look_s, look_s if wake_s is None else wake_s) - self._clock())
        try:
            return [self._events.get(timeout=wait_s)]
        except Empty:
            return [Tick()]

    def _look(self, answers: deque[Event], wake_s: float | None) -> float | None:
        """About once a second: what is pinned, and how the host is on what it has."""
        now_s = self._clock()
        if now_s - self._looked_s < LOOK_GAP_S:
            return wake_s
        self._looked_s = now_s
        for event in looks(self._trials, self._intake, now_s):
            wake_s = self._perform(self._machine.step(event, self._clock()), answers)
        self._report_gone_back()
        return wake_s

    def _report_gone_back(self) -> None:
        """Tell of what was refused without anybody having been asked."""
        gone, self._intake.gone_back = self._intake.gone_back, []
        for subject, one in gone:
            self._report(
                Report(subject, OURSELVES, one.code, one.message, one.key, one.revision, one.digest)
            )

    def _perform_local(self, commands: list[Command], waiting: list[Command]) -> list[Command]:
        """Perform what needs no upstream now; the rest is left for the thread."""
        for command in commands:
            if isinstance(command, Activate):
                self._activate(command)
            else:
                waiting.append(command)
        return waiting

    def _perform(self, commands: Sequence[Command], events: deque[Event]) -> float | None:
        """Perform all; answers go to `events`. Returns when to wake up, if it is said."""
        wake_s = None
        for command in commands:
            match command:
                case WakeAt(at_s=at_s):
                    wake_s = at_s
                case Fetch():
                    events.append(self._fetch(command))
                case Activate():
                    self._activate(command)
                case Keep(subject=subject):
                    self._intake.keep(subject)
                case OpenStream(upstream=upstream):
                    self._open_stream(upstream)
                case CloseStream():
                    self._close_streams()
                case Report():
                    self._report(command)
                case FetchCatalogue():
                    events.append(self._fetch_catalogue(command))
        return wake_s

    def _fetch(self, command: Fetch) -> Event:
        self.counts["asked"] += 1
        subject, source = command.subject, self._sources[command.upstream]
        sealed, generation = self.freshness(subject), self.generation(subject)
        event = self._intake.ask(source, subject, command.upstream, command.patience_s)
        self.counts[type(event).__name__.lower()] += 1
        renewed = self.generation(subject)
        if renewed is not None and renewed is not generation:  # the same, under newer roots
            self._intake.keep(subject)
            self._tell_root()
            self._tell(self._following.on_activate, subject, renewed)
        if self.freshness(subject) != sealed:
            self._tell(self._following.on_fresh, subject, self.freshness(subject))
        return event

    def _fetch_catalogue(self, command: FetchCatalogue) -> Event:
        upstream, event = command.upstream, failed(None, command.upstream)
        source = self._sources[upstream]
        self.counts["asked"] += 1
        try:
            source.within(command.patience_s)
            return Catalogued(upstream, source.catalogue())
        except HoldfastError as error:
            event = failed(None, upstream, error)
            self._intake.note_error(f"{source.name}: {error}")
        except Exception as error:  # noqa: BLE001  one bad catalogue must not end the thread
            self._intake.note_error(f"{source.name}: {error!r}")
        self.counts["failed"] += 1
        return event

    def _activate(self, command: Activate) -> None:
        generation = self._intake.activate(command.subject, command.standing.digest)
        self.counts["activated"] += 1
        self._tell_root()
        self._tell(self._following.on_activate, command.subject, generation)
        with self._activated:
            self._told.add(command.subject)
            self._activated.notify_all()

    def _report(self, report: Report) -> None:
        self.counts[f"refused_{report.code}"] += 1
        refusal = refusal_of(
            report.revision, report.digest, report.code, report.message, now_ms(), report.key
        )
        self._intake.refused(report.subject, refusal)
        self._tell(self._following.on_report, report)

    def _tell_root(self) -> None:
        roots = self._intake.pinned
        if roots is not None and roots != self._told_root:
            self._told_root = roots
            self._tell(self._following.on_root, roots, self._intake.seen_first)

    def _tell(self, callback: Callable[..., None], *facts: object) -> None:
        try:
            callback(*facts)
        except Exception:  # noqa: BLE001  the host's own error must not end the thread
            self.counts["callbacks_failed"] += 1

    def _open_stream(self, upstream: int) -> None:
        self._stream_number += 1
        thread = threading.Thread(
            target=self._listen,
            args=(upstream, self._stream_number, self._events, self._sources[upstream]),
            name="holdfast-stream",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError:  # the host has no thread left: polls do, and later it may have one
            self._events.put(StreamClosed(upstream))

    def _close_streams(self) -> None:
        self._stream_number += 1  # a stream that is still being opened closes itself
        for hints in list(self._streams.values()):
            hints.close()

    def _listen(
        self, upstream: int, number: int, events: SimpleQueue[Event | Offer | None], source: Source
    ) -> None:
        """One stream, to its end. Whatever ends it, the machine hears that it closed."""
        closed = StreamClosed(upstream)
        try:
            hints = source.hints()
            hints.on_silence = partial(events.put, StreamSilent(upstream))
            self._streams[number] = hints
            if number != self._stream_number or self._closed:
                hints.close()
            events.put(StreamOpened(upstream))
            for digests in hints:
                if events.qsize() < HINTS_WAITING_MAX:
                    events.put(Hinted(digests))
                else:
                    self.counts["hints_dropped"] += 1
        except Unavailable as error:
            closed = StreamClosed(upstream, error.retry_after_s, cut=True)
        except Exception:  # noqa: BLE001  the stream is a hint: whatever ends it, the poll goes on
            self.counts["streams_failed"] += 1
            closed = StreamClosed(upstream, cut=True)
        self._streams.pop(number, None)
        if number == self._stream_number:
            events.put(closed)

    def _subject_status(self, held: Held, generation: Generation, now_s: float) -> SubjectStatus:
        subject = generation.subject
        return SubjectStatus(
            revision=generation.revision,
            digest=generation.digest,
            age_s=None if held.fresh_s is None else now_s - held.fresh_s,
            stale=self.is_stale(subject),
            freshness=held.freshness,
            trust=self._trials.trust(subject, generation.digest),
            since_ms=held.since_ms,
            refusals=held.refusals,
            crashes=self._trials.record(subject).crashes,
        )
