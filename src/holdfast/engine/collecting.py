"""Blobs that nothing names are collected, and none that anything will name.

What is live: whatever any entry of the journal names, however old, and any change that waits. So
history, comparisons and reverts always find their lists; garbage is what was put for checks, for
changes that were refused, and never used.

A publisher puts its blobs, then appends the entry that names them, and may be stopped in between
for as long as one likes. It never loses them, whoever collects, because

1. a publisher whose blobs were put longer than `publish.FRESH_S` ago puts them again before it
   appends; so what it appends stands on a head that it read within `FRESH_S` of its put;
2. a blob that nothing names is deleted only when it was seen so for `grace_s`, which is longer, and
   when the head then seen has been left behind. An append on that head, or on an older one, is
   refused;
3. a blob that was put again since it was looked at has another stamp, and is not deleted.

None of this asks two clocks to agree, or a stopped leader to know that it leads no more. While the
journal does not move, nothing goes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import msgspec

from holdfast.core.model import Head
from holdfast.engine.leading import uptime_s
from holdfast.ports import Blobs, Clock, Journal, Proposals, Stored

GRACE_S: Final = 86_400.0
_DIGEST = re.compile(rb'"([0-9a-f]{64})"')
_encode = msgspec.json.Encoder().encode


class Collected(msgspec.Struct, frozen=True):
    """One look: how many blobs there are, how many of them nothing names, what was deleted."""

    blobs: int = 0
    unnamed: int = 0
    deleted: int = 0
    deleted_bytes: int = 0


class _Waiting(msgspec.Struct):
    """A blob that nothing names since `since_s`; `head` is what stood when its grace was over."""

    since_s: float
    head: Head | None = None


class Collecting:
    """Used by one thread at a time. `clock` is monotonic, sleeps counted in.

    `grace_s` must be above `publish.FRESH_S`. `deleted` and `deleted_bytes` count.
    """

    def __init__(
        self,
        *,
        journal: Journal,
        blobs: Blobs,
        proposals: Proposals,
        clock: Clock = uptime_s,
        grace_s: float = GRACE_S,
    ) -> None:
        self._journal = journal
        self._blobs = blobs
        self._proposals = proposals
        self._clock = clock
        self._grace_s = grace_s
        self._named: set[bytes] = set()
        self._read_revision = 0
        self._waiting: dict[Stored, _Waiting] = {}
        self.last = Collected()
        self.deleted = 0
        self.deleted_bytes = 0

    def look(self, fence: Callable[[], int]) -> Collected:
        """Look at all blobs once, and delete those whose time has come.

        `fence` is asked before each deletion, and raises `Fenced` when this node leads no more.
        Raises `Unavailable` and `Damaged` as the stores do.
        """
        now_s = self._clock()
        there = list(self._blobs.all())
        head = self._read_entries() if there else self._journal.head()
        unnamed = self._unnamed(there)
        self._waiting = {stored: self._waiting.get(stored) or _Waiting(now_s) for stored in unnamed}
        gone = [stored for stored in unnamed if self._is_due(stored, now_s, head)]
        done = [stored for stored in gone if self._delete(stored, fence)]
        freed_bytes = sum(stored.bytes for stored in done)
        self.deleted += len(done)
        self.deleted_bytes += freed_bytes
        self.last = Collected(len(there) - len(done), len(unnamed), len(done), freed_bytes)
        return self.last

    def _delete(self, stored: Stored, fence: Callable[[], int]) -> bool:
        fence()
        return self._blobs.delete(stored)

    def _read_entries(self) -> Head:
        """Learn what entries name that came since the last look; the head that was read."""
        head = self._journal.head()
        new = head.revision - self._read_revision
        for entry in self._journal.read(self._read_revision, max(0, new)):
            self._named.update(_DIGEST.findall(_encode(entry.edits)))
            self._read_revision = entry.revision
        return head

    def _unnamed(self, there: list[Stored]) -> list[Stored]:
        found = [one for one in there if one.digest.encode() not in self._named]
        if not found:
            return found
        waiting = {name for one in self._proposals.all() for name in _DIGEST.findall(one.change)}
        return [one for one in found if one.digest.encode() not in waiting]

    def _is_due(self, stored: Stored, now_s: float, head: Head) -> bool:
        waiting = self._waiting[stored]
        if now_s - waiting.since_s < self._grace_s:
            return False
        if waiting.head is None:
            waiting.head = head
        return head.revision > waiting.head.revision
