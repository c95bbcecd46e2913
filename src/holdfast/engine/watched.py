"""One rollout as it is watched: its sums, its gates, its alarms, and how they came about."""

from __future__ import annotations

from typing import Final

import msgspec

from holdfast.core.rollout import Counts, Evidence, Verdict, Watch, observed
from holdfast.engine.fleet import Alarm, Sides

POINTS_MAX: Final = 240
"""Points of a rollout's history; beyond that every second one goes."""
REFUSALS_MAX: Final = 64
"""Refusals of one rollout that are told in words; all are counted."""
E_MAX: Final = 1e12


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

    def blame(self, alarm: Alarm) -> None:
        """An alarm speaks against it."""
        if alarm.refusal is None or alarm.refusal.code.startswith("crash"):
            self.crashes += 1
            return
        self.refusal_count += 1
        if len(self.refusals) < REFUSALS_MAX:
            self.refusals[_in_words(alarm)] = None

    def look(self, stages: dict[int, Sides]) -> None:
        """Take in what went by since the last look."""
        for stage, sides in stages.items():
            known = self.stages.setdefault(stage, Sides())
            known.exposed.add(sides.exposed)
            known.baseline.add(sides.baseline)
            self.watch = observed(self.watch, _counts(sides, exposed=True), _counts(sides))

    def note(self, stage: int, now_s: float) -> None:
        """Add a point to the history, unless it says what the last one said."""
        watch = self.watch
        point = Point(
            at_ms=int(now_s * 1000),
            stage=stage,
            exposed_requests=watch.exposed.requests,
            exposed_errors=watch.exposed.errors,
            baseline_requests=watch.other.requests,
            baseline_errors=watch.other.errors,
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
