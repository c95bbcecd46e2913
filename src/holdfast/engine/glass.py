"""What the journal knows of late: where glass was broken, and what nobody else vouched for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from holdfast.core.model import Approve, BreakGlass, Entry, MoveRollout, StartRollout
from holdfast.core.policy import Demand
from holdfast.core.policy_check import BREAK_GLASS_MAX_S
from holdfast.ports import Journal

LOOKED_THROUGH_MAX: Final = 20_000
"""Entries looked through, newest first, for those of the time that is asked about."""
_BATCH: Final = 500


class Broken(msgspec.Struct, frozen=True):
    """One entry that broke the glass of one environment."""

    revision: int
    at_ms: int
    actor: str
    environment: str
    reason: str
    until_s: int


class Glass:
    """Reads a journal backwards, no further than it has to."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def since(self, from_s: float) -> tuple[Broken, ...]:
        """Every entry from a time on that broke glass, newest first."""
        return tuple(
            Broken(
                revision=entry.revision,
                at_ms=entry.at_ms,
                actor=entry.actor,
                environment=edit.environment,
                reason=edit.reason,
                until_s=edit.until_s,
            )
            for entry in self._backwards(from_s)
            for edit in entry.edits
            if isinstance(edit, BreakGlass)
        )

    def unapproved(self, from_s: float) -> frozenset[int]:
        """Revisions from a time on that nobody but their author vouched for.

        A rollout that goes on takes away again what its change did: it is one of them if that was.
        What one takes back was never everybody's: a rollback that begins nothing is none of them.
        """
        found: set[int] = set()
        moves: list[tuple[int, int]] = []
        for entry in self._backwards(from_s):
            moved = [edit for edit in entry.edits if isinstance(edit, MoveRollout)]
            if moved and not any(isinstance(edit, StartRollout) for edit in entry.edits):
                moves += (
                    (entry.revision, _begun(edit.rollout))
                    for edit in moved
                    if edit.status != "rolled-back"
                )
            elif not any(isinstance(edit, Approve) for edit in entry.edits):
                found.add(entry.revision)
        return frozenset(found | {revision for revision, begun in moves if begun in found})

    def break_for(
        self, opened: Sequence[Demand], reason: str, now_s: float
    ) -> tuple[BreakGlass, ...]:
        """The edits that say so. While the glass is broken, one more change lengthens nothing."""
        if not opened:
            return ()
        ends: dict[str, int] = {}
        for one in self.since(now_s - BREAK_GLASS_MAX_S):
            if one.until_s > now_s:
                ends.setdefault(one.environment, one.until_s)
        return tuple(
            BreakGlass(
                environment=demand.environment,
                reason=reason,
                until_s=ends.get(demand.environment, int(now_s) + demand.break_glass_s),
            )
            for demand in opened
        )

    def _backwards(self, from_s: float) -> Iterator[Entry]:
        above = self._journal.head().revision + 1
        floor = max(0, above - 1 - LOOKED_THROUGH_MAX)
        while above - 1 > floor:
            after = max(floor, above - 1 - _BATCH)
            for entry in reversed(tuple(self._journal.read(after, above - 1 - after))):
                if entry.at_ms < from_s * 1000:
                    return
                yield entry
            above = after + 1


def _begun(rollout: str) -> int:
    """The revision that its id names; 0 for none."""
    number = rollout.rpartition(".")[2]
    return int(number) if number.isascii() and number.isdecimal() else 0
