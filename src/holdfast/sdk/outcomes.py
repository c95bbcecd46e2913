"""How requests went, by whether each was exposed to the rollouts that run: what gates look at.

    ledger.replace(snapshot)                    # which rollouts run, and who is exposed to them
    ledger.count(context, ok=False)             # one request came to its end
    ledger.rows()                               # cumulative counts by rollout, stage and side

A request is exposed when `$evaluators["rollout:<id>"]` holds in its context: the very condition
that the targeting goes by, evaluated by the client's own evaluator. Events of one unit are not
independent, so that at most one error and one slow request of each unit count in a window.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import msgspec

from holdfast.core.evaluate import Evaluator
from holdfast.core.model import TARGETING_KEY
from holdfast.core.snapshot import Snapshot
from holdfast.core.targeting.outcome import Outcome

WINDOW_S: Final = 60.0
EVENTS_MAX: Final = 10_000
"""Errors and slow requests of different units in one window and rollout; the rest is dropped.

Of both sides alike: whichever side comes later, so that neither looks better for it.
"""
UNITS_MAX: Final = 2_000
"""Distinct units told apart on each side of a stage."""
ROLLOUTS_MAX: Final = 16
"""Rollouts of one snapshot that are counted; the rest are dropped."""
ROWS_MAX: Final = 64
"""Rows kept (`core.reports.OUTCOMES_MAX`); the oldest go first."""
EXPOSURE: Final = "rollout:{id}"

_Kind = Literal["error", "slow"]
_PROBE: Final = "exposed"
_CONDITION: Final = (
    '{"state":"ENABLED","variants":{"yes":true,"no":false},'
    '"targeting":{"if":[{"$ref":%s},"yes","no"]}}'
)


class RolloutFacts(msgspec.Struct, frozen=True):
    """What a consumer needs of one entry of `holdfast.rollouts`."""

    stage: int
    unit: str = TARGETING_KEY
    objective_ms: float = 0.0


_FACTS: Final = msgspec.json.Decoder(RolloutFacts)


class Side:
    """Counts of one side of a stage; they only grow. `units` are told apart up to `UNITS_MAX`."""

    __slots__ = ("errors", "known", "requests", "slow", "units")

    def __init__(self) -> None:
        self.requests = self.errors = self.slow = self.units = 0
        self.known: set[int] = set()


class _Exposure:
    """One rollout at one stage: who is exposed, both sides' counts, and the events of a window."""

    __slots__ = ("exposed", "facts", "rollout", "seen", "sides", "window")

    def __init__(
        self, rollout: str, facts: RolloutFacts, exposed: Callable[[Any], Outcome]
    ) -> None:
        self.rollout = rollout
        self.facts = facts
        self.exposed = exposed
        self.sides = (Side(), Side())
        self.seen: set[tuple[_Kind, int]] = set()
        self.window = -1


Row = tuple[str, int, bool, Side]
"""(rollout, stage, exposed, counts)."""


class Ledger:
    """Counts outcomes of requests. Thread-safe and bounded; `dropped` counts by bound.

    `clock` gives seconds on any clock that never goes back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._exposures: tuple[_Exposure, ...] = ()
        self._past: list[_Exposure] = []
        self.dropped: dict[str, int] = {"events": 0, "rollouts": 0, "rows": 0}

    def replace(self, snapshot: Snapshot) -> None:
        """Count by the rollouts of this snapshot from now on."""
        found = dict(list(snapshot.holdfast.rollouts.items())[:ROLLOUTS_MAX])
        with self._lock:
            self.dropped["rollouts"] += len(snapshot.holdfast.rollouts) - len(found)
            known = {
                (each.rollout, each.facts.stage): each for each in (*self._past, *self._exposures)
            }
            made = [_exposure(snapshot, name, body, known) for name, body in found.items()]
            before, self._exposures = self._exposures, tuple(filter(None, made))
            leaving = [each for each in before if each not in self._exposures]
            past = [
                each
                for each in (*self._past, *leaving)
                if each.rollout in found and each not in self._exposures
            ]
            room = ROWS_MAX // 2 - len(self._exposures)
            self.dropped["rows"] += max(0, len(past) - room)
            self._past = past[-room:]
            for each in leaving:
                each.seen.clear()
                for side in each.sides:
                    side.known.clear()

    def count(
        self, context: Mapping[str, Any], ok: bool = True, latency_ms: float | None = None
    ) -> None:
        """One request came to its end."""
        for each in self._exposures:
            exposed = each.exposed(context).value is True
            unit = hash(str(context.get(each.facts.unit)))
            objective_ms = each.facts.objective_ms
            slow = bool(objective_ms and latency_ms is not None and latency_ms > objective_ms)
            with self._lock:
                side = each.sides[exposed]
                side.requests += 1
                if unit not in side.known and len(side.known) < UNITS_MAX:
                    side.known.add(unit)
                    side.units += 1
                if not ok and self._is_first(each, ("error", unit)):
                    side.errors += 1
                if slow and self._is_first(each, ("slow", unit)):
                    side.slow += 1

    @property
    def counting(self) -> bool:
        """Whether a rollout is under way."""
        return bool(self._exposures)

    def rows(self) -> list[Row]:
        """All counts so far, newest rollouts last."""
        with self._lock:
            return [
                (each.rollout, each.facts.stage, bool(exposed), side)
                for each in (*self._past, *self._exposures)
                for exposed, side in enumerate(each.sides)
                if side.requests
            ]

    def clear(self) -> None:
        """Begin at zero: another process, and so another consumer, counts from here on."""
        self._lock = threading.Lock()
        self._past = []
        for each in self._exposures:
            each.sides, each.seen = (Side(), Side()), set()

    def _is_first(self, each: _Exposure, event: tuple[_Kind, int]) -> bool:
        """Whether this is the unit's first event of its kind in the window."""
        window = int(self._clock() / WINDOW_S)
        if window != each.window:
            each.window = window
            each.seen.clear()
        if event in each.seen:
            return False
        if len(each.seen) >= EVENTS_MAX:
            self.dropped["events"] += 1
            return False
        each.seen.add(event)
        return True


def _exposure(
    snapshot: Snapshot,
    rollout: str,
    body: msgspec.Raw,
    counted: Mapping[tuple[str, int], _Exposure],
) -> _Exposure | None:
    """A rollout of a snapshot, with the counts that its stage has already; none for a bad one.

    A stage may come again, after a generation that went back: two rows of one would count twice.
    """
    name = EXPOSURE.format(id=rollout)
    condition = snapshot.evaluators.get(name)
    try:
        facts = _FACTS.decode(body)
    except msgspec.MsgspecError:
        return None
    if condition is None:
        return None
    evaluator = Evaluator(
        {_PROBE: (_CONDITION % msgspec.json.encode(name).decode()).encode()},
        evaluators={name: condition},
        bucketing=snapshot.holdfast.semantics.bucketing,
        now_s=time.time,
    )
    made = _Exposure(rollout, facts, evaluator.function(_PROBE))
    known = counted.get((rollout, facts.stage))
    if known is not None:
        known.exposed, known.facts = made.exposed, facts
        return known
    return made
