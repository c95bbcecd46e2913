"""Who runs what, as consumers tell it: the newest report of each, and what went by since the last.

Reports carry counters that only grow while their consumer lives. The fleet keeps the last ones seen
and adds up differences, so that a report which is lost, doubled or late changes nothing. All of it
is in memory: after a restart the first report of each consumer brings its whole counts again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias

import msgspec

from holdfast.core import limits
from holdfast.core.generations import CRASH_STREAK
from holdfast.core.model import Head, Subject
from holdfast.core.reports import ConsumerReport, Outcomes, Refusal, Sample
from holdfast.ports import Clock

CONSUMERS_MAX: Final = 20_000
"""Consumers remembered; beyond that the one that was silent for longest goes."""
REPORTS_BYTES_MAX: Final = 128 * 1024 * 1024
"""And so many bytes of their newest reports, as JSON: whoever may report may send large ones."""
SILENT_S: Final = 90.0
"""Without a report for so long a consumer counts as silent."""
FORGET_S: Final = 3_600.0
"""And for so long, as gone: it is in no view any more."""
ALARMS_MAX: Final = 1_000
"""New refusals and crashes kept until somebody takes them."""
WITNESSED_MAX: Final = 1_000
"""Journal heads kept that consumers have seen."""

_Key: TypeAlias = tuple[str, str, str]
_encode: Final = msgspec.json.Encoder().encode


class Consumer(msgspec.Struct, frozen=True):
    """One consumer of one subject: its newest report and when it came, in unix seconds."""

    report: ConsumerReport
    first_s: float
    seen_s: float

    @property
    def subject(self) -> Subject:
        return Subject(self.report.environment, self.report.service)


class Alarm(msgspec.Struct, frozen=True):
    """A refusal that was not reported before, or `refusal` none for a crash streak."""

    consumer: str
    subject: Subject
    at_s: float
    revision: int
    refusal: Refusal | None = None


class Counts(msgspec.Struct):
    """How requests went on one side of one stage; `units` as consumers told them apart.

    They stay within `limits.SAFE_INTEGER_MAX`, or no entry of the journal could hold them.
    """

    requests: int = 0
    errors: int = 0
    slow: int = 0
    units: int = 0

    def add(self, other: Counts) -> None:
        most = limits.SAFE_INTEGER_MAX
        self.requests = min(most, self.requests + other.requests)
        self.errors = min(most, self.errors + other.errors)
        self.slow = min(most, self.slow + other.slow)
        self.units = min(most, self.units + other.units)


class Sides(msgspec.Struct):
    """Both sides of one stage of one rollout."""

    exposed: Counts = msgspec.field(default_factory=Counts)
    baseline: Counts = msgspec.field(default_factory=Counts)


class Fleet:
    """Thread-safe. Counts by bound: `forgotten` consumers, `dropped` alarms.

    - `running()`: ids of the rollouts whose outcomes are worth adding up; the rest is passed over.
    - `on_alarm()` is called after a report with a new refusal or crash, without the lock.
    - `on_samples(subject, samples)` gets the contexts of each report, likewise.
    """

    def __init__(
        self,
        clock: Clock,
        running: Callable[[], Iterable[str]],
        consumers_max: int = CONSUMERS_MAX,
    ) -> None:
        self._clock = clock
        self._running = running
        self._consumers_max = consumers_max
        self._lock = threading.Lock()
        self._consumers: OrderedDict[_Key, Consumer] = OrderedDict()
        self._bytes = 0
        self._looks: dict[tuple[str, int], Sides] = {}
        self._exposed_s: dict[str, float] = {}
        self._told: set[str] = set()
        self._alarms: list[Alarm] = []
        self._witnessed: OrderedDict[tuple[int, str], set[str]] = OrderedDict()
        self.on_alarm: Callable[[], None] = _pass_over
        self.on_samples: Callable[[Subject, tuple[Sample, ...]], None] = _pass_over
        self.taken = self.forgotten = self.dropped = 0

    def take(self, reports: Iterable[ConsumerReport]) -> None:
        """Take reports in, any order; one that is not newer than what is known is passed over."""
        sampled: list[ConsumerReport] = []
        alarmed = False
        with self._lock:
            running = frozenset(self._running())
            for report in reports:
                known = self._consumers.get(_key(report))
                if known is not None and known.report.sequence >= report.sequence:
                    continue
                self.taken += 1
                alarmed |= self._alarm(known, report)
                self._add_up(known, report, running)
                self._keep(known, report)
                if report.contexts:
                    sampled.append(report)
        for report in sampled:
            self.on_samples(Subject(report.environment, report.service), report.contexts)
        if alarmed:
            self.on_alarm()

    def consumers(self, environment: str = "", service: str = "") -> list[Consumer]:
        """Those heard of within `FORGET_S`, by subject and consumer."""
        with self._lock:
            all_known = list(self._consumers.values())
        since_s = self._clock() - FORGET_S
        found = [
            each
            for each in all_known
            if each.seen_s >= since_s
            and environment in ("", each.report.environment)
            and service in ("", each.report.service)
        ]
        return sorted(found, key=lambda each: (each.subject, each.report.consumer))

    @property
    def remembered(self) -> int:
        """Consumers remembered, silent ones too."""
        return len(self._consumers)

    def look(self, rollout: str) -> dict[int, Sides]:
        """What was added up for a rollout since the last look, by stage; taken away by this."""
        with self._lock:
            stages = [stage for name, stage in self._looks if name == rollout]
            return {stage: self._looks.pop((rollout, stage)) for stage in sorted(stages)}

    def alarms(self) -> list[Alarm]:
        """New refusals and crashes since the last call; taken away by this."""
        with self._lock:
            taken, self._alarms = self._alarms, []
        return taken

    def exposed_s(self, rollout: str) -> float | None:
        """When an exposed request was last told of; none if never."""
        return self._exposed_s.get(rollout)

    def counts_outcomes(self, rollout: str) -> bool:
        """Whether any consumer has ever told of requests on either side."""
        return rollout in self._told

    def heads(self) -> dict[Head, int]:
        """Journal heads that consumers have seen signed, with how many saw each."""
        with self._lock:
            return {
                Head(revision, digest): len(seen)
                for (revision, digest), seen in self._witnessed.items()
            }

    def forget(self, running: Iterable[str]) -> None:
        """Forget the sums of rollouts that are not `running` any more."""
        kept = frozenset(running)
        with self._lock:
            self._looks = {key: each for key, each in self._looks.items() if key[0] in kept}
            self._exposed_s = {key: at_s for key, at_s in self._exposed_s.items() if key in kept}
            self._told &= kept

    def _keep(self, known: Consumer | None, report: ConsumerReport) -> None:
        now_s, key = self._clock(), _key(report)
        kept = msgspec.structs.replace(report, contexts=())
        self._consumers[key] = Consumer(kept, known.first_s if known else now_s, now_s)
        self._consumers.move_to_end(key)
        self._bytes += _size(kept) - (_size(known.report) if known else 0)
        while len(self._consumers) > self._consumers_max or self._bytes > REPORTS_BYTES_MAX:
            _, oldest = self._consumers.popitem(last=False)
            self._bytes -= _size(oldest.report)
            self.forgotten += 1
        for head in report.heads:
            seen = self._witnessed.setdefault((head.revision, head.hash), set())
            if len(seen) < WITNESSED_MAX:
                seen.add(report.consumer)
        while len(self._witnessed) > WITNESSED_MAX:
            self._witnessed.popitem(last=False)

    def _alarm(self, known: Consumer | None, report: ConsumerReport) -> bool:
        """Note what is new; whether anything is."""
        before = frozenset(known.report.refusals) if known else frozenset()
        subject, now_s = Subject(report.environment, report.service), self._clock()
        new = [
            Alarm(report.consumer, subject, now_s, refusal.revision, refusal)
            for refusal in report.refusals
            if refusal not in before
        ]
        told = any(alarm.refusal and alarm.refusal.code == CRASH_STREAK for alarm in new)
        if known is not None and report.crashes > known.report.crashes and not told:
            new.append(Alarm(report.consumer, subject, now_s, known.report.revision))
        room = ALARMS_MAX - len(self._alarms)
        self.dropped += max(0, len(new) - room)
        self._alarms += new[:room]
        return bool(new)

    def _add_up(
        self, known: Consumer | None, report: ConsumerReport, running: frozenset[str]
    ) -> None:
        if known is None and report.sequence > 1 and self.forgotten:
            return  # it may have been counted before it was forgotten
        before = _by_side(known.report.outcomes) if known else {}
        for place, row in _by_side(report.outcomes).items():
            if row.rollout not in running:
                continue
            grown = _growth(before.get(place), row)
            if not grown.requests:
                continue
            self._told.add(row.rollout)
            sides = self._looks.setdefault((row.rollout, row.stage), Sides())
            (sides.exposed if row.exposed else sides.baseline).add(grown)
            if row.exposed:
                self._exposed_s[row.rollout] = self._clock()


def _growth(before: Outcomes | None, now: Outcomes) -> Counts:
    """No more of a kind than requests: whoever tells of more is not to be believed so far."""
    known = before or Outcomes(now.rollout, now.stage, now.exposed)
    requests = max(0, now.requests - known.requests)
    return Counts(
        requests,
        min(requests, max(0, now.errors - known.errors)),
        min(requests, max(0, now.slow - known.slow)),
        min(requests, max(0, now.units - known.units)),
    )


def _by_side(rows: Iterable[Outcomes]) -> Mapping[tuple[str, int, bool], Outcomes]:
    return {(row.rollout, row.stage, row.exposed): row for row in rows}


def _size(report: ConsumerReport) -> int:
    return len(_encode(report))


def _key(report: ConsumerReport) -> _Key:
    return report.consumer, report.environment, report.service


def _pass_over(*_: object) -> None:
    """Nobody asked to be told."""
