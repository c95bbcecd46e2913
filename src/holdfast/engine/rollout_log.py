"""Rollouts as the journal tells them: how each began, every move of it and why, how it ended.

Read once from the journal and kept up with it; what began longer ago than the entries looked
through is not listed, and found by its id all the same.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final

import msgspec

from holdfast.core.errors import NotFound
from holdfast.core.model import (
    JSON,
    DeleteSegment,
    DeleteService,
    DeleteSetting,
    Entry,
    MoveRollout,
    PutSegment,
    PutService,
    PutSetting,
    RolloutStatus,
    StartRollout,
)
from holdfast.core.policies import Plan
from holdfast.ports import Journal

LOOKED_THROUGH_MAX: Final = 20_000
"""Entries looked through at the start, and for one id beyond them."""
KEPT_MAX: Final = 500
"""Rollouts kept; the oldest ones go first."""
ITEMS_MAX: Final = 1_000
"""Items named of one rollout."""


class Move(msgspec.Struct, frozen=True):
    """One verdict as it was committed; `at_ms` is in unix milliseconds."""

    revision: int
    at_ms: int
    actor: str
    stage: int
    status: RolloutStatus
    reason: str
    evidence: JSON = None


class Told(msgspec.Struct):
    """One rollout; `items` are what its change touched, as `service/key`."""

    rollout: str
    environment: str
    plan: Plan
    revision: int
    at_ms: int
    actor: str
    reason: str
    services: tuple[str, ...]
    items: tuple[str, ...]
    moves: list[Move] = []

    @property
    def stage(self) -> int:
        return self.moves[-1].stage if self.moves else 0

    @property
    def status(self) -> RolloutStatus:
        return self.moves[-1].status if self.moves else "running"

    @property
    def ended(self) -> bool:
        return self.status in ("completed", "rolled-back")


class RolloutLog:
    """Thread-safe."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._lock = threading.Lock()
        self._told: OrderedDict[str, Told] = OrderedDict()
        self._through: int | None = None

    def all(self) -> list[Told]:
        """Newest first."""
        with self._lock:
            self._catch_up()
            return list(reversed(self._told.values()))

    def one(self, rollout: str) -> Told:
        """Raises `NotFound`."""
        with self._lock:
            self._catch_up()
            found = self._told.get(rollout)
        return found or self._sought(rollout)

    def _catch_up(self) -> None:
        if self._through is None:
            self._through = max(0, self._journal.head().revision - LOOKED_THROUGH_MAX)
        for entry in self._journal.read(self._through):
            _take(self._told, entry)
            self._through = entry.revision
        while len(self._told) > KEPT_MAX:
            self._told.popitem(last=False)

    def _sought(self, rollout: str) -> Told:
        """One that began before what was looked through."""
        environment, _, number = rollout.rpartition(".")
        told: OrderedDict[str, Told] = OrderedDict()
        if environment and number.isascii() and number.isdecimal() and 0 < int(number) < 2**53:
            for entry in self._journal.read(int(number) - 1, LOOKED_THROUGH_MAX):
                _take(told, entry)
                if rollout not in told or told[rollout].ended:
                    break
        if rollout not in told:
            raise NotFound(f"there is no rollout {rollout[:128]!r}, nor was one")
        return told[rollout]


def _take(told: OrderedDict[str, Told], entry: Entry) -> None:
    for edit in entry.edits:
        if isinstance(edit, StartRollout):
            begun = _begun(edit, entry)
            told[begun.rollout] = begun
        elif isinstance(edit, MoveRollout) and edit.rollout in told:
            move = Move(
                revision=entry.revision,
                at_ms=entry.at_ms,
                actor=entry.actor,
                stage=edit.stage,
                status=edit.status,
                reason=edit.reason,
                evidence=edit.evidence,
            )
            told[edit.rollout].moves.append(move)


def _begun(edit: StartRollout, entry: Entry) -> Told:
    items: dict[str, None] = {}
    services: dict[str, None] = {}
    for each in entry.edits:
        match each:
            case PutSetting() | DeleteSetting():
                items[f"{each.service}/{each.key}"] = None
            case PutSegment() | DeleteSegment():
                items[f"{each.service}/segments/{each.segment}"] = None
            case PutService() | DeleteService():
                pass
            case _:
                continue
        services[each.service] = None
    return Told(
        rollout=f"{edit.environment}.{entry.revision}",
        environment=edit.environment,
        plan=edit.plan,
        revision=entry.revision,
        at_ms=entry.at_ms,
        actor=entry.actor,
        reason=entry.reason,
        services=tuple(sorted(services)),
        items=tuple(sorted(items)[:ITEMS_MAX]),
        moves=[],
    )
