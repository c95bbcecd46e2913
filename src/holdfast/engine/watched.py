"""One rollout as it is watched: its sums, its gates, its alarms, and how they came about."""

from __future__ import annotations

from typing import Final

import msgspec

from holdfast.core.generations import OWN_CODES
from holdfast.core.rollout import Counts, Evidence, Verdict, Watch, observed
from holdfast.engine.fleet import Alarm, Sides

POINTS_MAX: Final = 240
"""Points of a rollout's history; beyond that every second one goes."""
REFUSALS_MAX: Final = 64
"""Refusals of one rollout that are told in words; all are counted."""
E_MAX: Final = 1e12
LOOK_S: Final = 5.0
"""Between two looks of the gates: about the interval at which consumers report meanwhile."""
ONE_SIDED_S: Final = 60.0
"""What has one side only for so long is taken without the other: it says nothing then."""


class Point(msgspec.Struct, frozen=True):
    """How a rollout stood at a look; counts are sums since its beginning, `at_ms` unix time."""

    at_ms: int
    stage: int
    exposed_requests: int
    exposed_errors: int
    baseline_requests: int
    baseline_errors: int
    errors_e: float
    slow_e: float


class Watched(msgspec.Struct):
    """What is known of a rollout beside the journal; rebuilt from consumers' counts after a start.

    `stages` are the sums of each stage; `heard_s` is when an exposed consumer last told anything.
    """

    watch: Watch = Watch()
    stages: dict[int, Sides] = msgspec.field(default_factory=dict)
    points: list[Point] = msgspec.field(default_factory=list)
    refusals: dict[str, None] = msgspec.field(default_factory=dict)
    refusal_count: int = 0
    crashes: int = 0
    heard_s: float | None = None
    query: float | None = None
    verdict: Verdict | None = None
    rest_until_s: float = 0.0
    pending: dict[int, Sides] = msgspec.field(default_factory=dict)
    looked_s: float = 0.0

    def blame(self, alarm: Alarm) -> None:
        """An alarm speaks against it."""
        if alarm.refusal is None or alarm.refusal.code in OWN_CODES:
            self.crashes += 1
            return
        self.refusal_count += 1
        if len(self.refusals) < REFUSALS_MAX:
            self.refusals[_in_words(alarm)] = None

    def look(self, stages: dict[int, Sides], now_s: float) -> None:
        """Take in what went by since the last call.

        The gates compare both sides of one look, and consumers report each in its own time: so a
        look is as long as the interval of reports, and waits for requests of both sides. When it
        ends hangs on times and numbers of requests alone, never on what went wrong.
        """
        for stage, sides in stages.items():
            for known in (self.stages, self.pending):
                sums = known.setdefault(stage, Sides())
                sums.exposed.add(sides.exposed)
                sums.baseline.add(sides.baseline)
        self.looked_s = self.looked_s or now_s - LOOK_S
        waited_s = now_s - self.looked_s
        if waited_s < LOOK_S:
            return
        for stage, sides in list(self.pending.items()):
            if waited_s >= ONE_SIDED_S or (sides.exposed.requests and sides.baseline.requests):
                self.watch = observed(self.watch, _counts(sides, exposed=True), _counts(sides))
                del self.pending[stage]
                self.looked_s = now_s

    def note(self, stage: int, now_s: float) -> None:
        """Add a point to the history, unless it says what the last one said."""
        watch = self.watch
        exposed = [each.exposed for each in self.stages.values()]
        baseline = [each.baseline for each in self.stages.values()]
        point = Point(
            at_ms=int(now_s * 1000),
            stage=stage,
            exposed_requests=sum(each.requests for each in exposed),
            exposed_errors=sum(each.errors for each in exposed),
            baseline_requests=sum(each.requests for each in baseline),
            baseline_errors=sum(each.errors for each in baseline),
            errors_e=min(watch.errors.value, E_MAX),
            slow_e=min(watch.slow.value, E_MAX),
        )
        last = self.points[-1] if self.points else None
        if last is not None and msgspec.structs.replace(last, at_ms=point.at_ms) == point:
            return
        if len(self.points) >= POINTS_MAX:
            del self.points[1::2]
        self.points.append(point)

    def evidence(self) -> Evidence:
        return Evidence(tuple(self.refusals), self.crashes, self.heard_s, self.query)


def _counts(sides: Sides, *, exposed: bool = False) -> Counts:
    side = sides.exposed if exposed else sides.baseline
    return Counts(side.requests, side.errors, side.slow)


def _in_words(alarm: Alarm) -> str:
    refusal = alarm.refusal
    assert refusal is not None  # noqa: S101  `blame` has asked
    key = f" {refusal.key}" if refusal.key else ""
    return f"{alarm.subject}{key} [{refusal.code}]: {refusal.message}"
