"""All stores of a node in memory: for tests, for trying out, and as the reference.

They keep the same promises as their durable twins, as the same contract suites show, but one: they
end with the process.
"""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from holdfast.adapters.mark_file import mark_bytes
from holdfast.core.errors import Conflict, Damaged, Fenced, Marked, TooLarge, Unavailable
from holdfast.core.history import encode_entry
from holdfast.core.limits import SEGMENT_BYTES_MAX
from holdfast.core.model import GENESIS, Entry, Head, Subject
from holdfast.ports import Checkpoint, Clock, Imprint, Lease, Proposal, Stored

CHECKPOINTS_KEPT: Final = 2
IMPRINTS_KEPT: Final = 16
"""Imprints of one subject."""
PROPOSALS_MAX: Final = 1_000
PROPOSALS_BYTES_MAX: Final = 256 * 1024 * 1024


class MemoryLeases:
    """The `Leases` port on one variable, under a lock that its journal shares."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self.lock = threading.RLock()
        self._clock = clock
        self._newest = Lease(0, "")
        self._until_s = -math.inf

    @property
    def token(self) -> int:
        """That of the newest lease ever given; 0 before the first."""
        return self._newest.token

    def take(self, holder: str, url: str, ttl_s: float) -> Lease | None:
        with self.lock:
            mine = self._newest.holder == holder and self._newest.token > 0
            if not mine and self.current() is not None:
                return None
            self._newest = Lease(self._newest.token + (not mine), holder, url)
            self._until_s = self._clock() + ttl_s
            return self._newest

    def current(self) -> Lease | None:
        with self.lock:
            return self._newest if self._clock() < self._until_s else None

    def give_up(self, lease: Lease) -> None:
        with self.lock:
            if lease.token == self._newest.token:
                self._until_s = -math.inf


class MemoryJournal:
    """The `Journal` port on a list. `entries`, sealed and linked, are what it starts with.

    It is fenced by `leases`, those of the same store.
    """

    def __init__(self, entries: Sequence[Entry] = (), leases: MemoryLeases | None = None) -> None:
        self.leases = leases or MemoryLeases()
        self._grown = threading.Condition(self.leases.lock)
        self._entries: list[Entry] = []
        self._checkpoints: dict[int, Checkpoint] = {}
        self._closed = False
        self._mark = ""
        for entry in entries:
            self.append(entry)

    def head(self) -> Head:
        with self._grown:
            self._guard()
            return self._head()

    def append(self, entry: Entry, fence: int = 0) -> None:
        _check_seal(entry)
        with self._grown:
            self._guard()
            if self._mark:
                raise Marked(self._mark)
            if fence not in (0, self.leases.token):
                raise Fenced(fence, self.leases.token)
            self._put(entry)

    def append_all(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            _check_seal(entry)
            with self._grown:
                self._guard()
                self._put(entry)

    def mark(self, text: str, was: str) -> bool:
        """`Stores.mark`."""
        mark_bytes(text)
        with self._grown:
            if self._mark not in {was, text}:
                return False
            self._mark = text
            return True

    def marked(self) -> str:
        return self._mark

    def read(self, after: int = 0, limit: int | None = None) -> Iterator[Entry]:
        with self._grown:
            self._guard()
            end = len(self._entries) if limit is None else after + limit
            found = self._entries[after:end]
        yield from found

    def watch(self, after: int, timeout_s: float) -> Sequence[Entry]:
        with self._grown:
            self._grown.wait_for(lambda: self._closed or len(self._entries) > after, timeout_s)
            return () if self._closed else tuple(self._entries[after:])

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        with self._grown:
            self._guard()
            self._checkpoints[checkpoint.revision] = checkpoint
            for revision in sorted(self._checkpoints)[:-CHECKPOINTS_KEPT]:
                del self._checkpoints[revision]

    def checkpoint(self) -> Checkpoint | None:
        with self._grown:
            self._guard()
            usable = [revision for revision in self._checkpoints if revision <= len(self._entries)]
            return self._checkpoints[max(usable)] if usable else None

    def close(self) -> None:
        with self._grown:
            self._closed = True
            self._grown.notify_all()

    def _put(self, entry: Entry) -> None:
        head = self._head()
        if (head.revision, head.hash) != (entry.revision - 1, entry.previous):
            raise Conflict(entry.revision - 1, head.revision)
        self._entries.append(entry)
        self._grown.notify_all()

    def _head(self) -> Head:
        last = self._entries[-1] if self._entries else None
        return Head(last.revision, last.hash) if last else GENESIS

    def _guard(self) -> None:
        if self._closed:
            raise Unavailable("the journal is closed")


def _check_seal(entry: Entry) -> None:
    if hashlib.sha256(encode_entry(entry)).hexdigest() != entry.hash:
        raise Damaged(f"entry {entry.revision} does not match its hash: it was not sealed")


class MemoryBlobs:
    """The `Blobs` port on a dictionary."""

    def __init__(self) -> None:
        self._bodies: dict[str, bytes] = {}
        self._stamps: dict[str, int] = {}
        self._lock = threading.Lock()
        self._puts = 0

    def put(self, body: bytes) -> str:
        if len(body) > SEGMENT_BYTES_MAX:
            raise TooLarge(f"{len(body)} bytes in one blob, at most {SEGMENT_BYTES_MAX}")
        digest = hashlib.sha256(body).hexdigest()
        with self._lock:
            self._puts += 1
            self._bodies[digest], self._stamps[digest] = bytes(body), self._puts
        return digest

    def get(self, digest: str) -> bytes | None:
        return self._bodies.get(digest)

    def all(self) -> Iterator[Stored]:
        with self._lock:
            kept = sorted(self._bodies.items())
            found = [Stored(name, len(body), self._stamps[name]) for name, body in kept]
        yield from found

    def delete(self, stored: Stored) -> bool:
        with self._lock:
            if self._stamps.get(stored.digest) != stored.stamp:
                return False
            del self._bodies[stored.digest], self._stamps[stored.digest]
            return True


class MemoryDigests:
    """The `Digests` port on dictionaries."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[Subject, dict[tuple[int, str, int], Imprint]] = {}

    def put(self, made: Sequence[Imprint]) -> Sequence[Imprint]:
        with self._lock:
            return [self._put(one) for one in made]

    def all(self) -> Sequence[Imprint]:
        with self._lock:
            kept = sorted(self._kept.items())
            return [one for _, each in kept for _, one in sorted(each.items())]

    def _put(self, one: Imprint) -> Imprint:
        place = (one.revision, one.entry, one.format)
        kept = self._kept.setdefault(one.subject, {})
        if place in kept:
            return kept[place]
        kept[place] = one
        newest = max(kept)[0]
        for each in sorted(kept)[:-IMPRINTS_KEPT]:
            del kept[each]
        for each, old in kept.items():
            if each[0] < newest and old.outline:
                kept[each] = msgspec.structs.replace(old, outline=b"")
        return one


class MemoryProposals:
    """The `Proposals` port on an ordered dictionary."""

    def __init__(
        self, *, proposals_max: int = PROPOSALS_MAX, bytes_max: int = PROPOSALS_BYTES_MAX
    ) -> None:
        self._kept: OrderedDict[str, Proposal] = OrderedDict()
        self._lock = threading.Lock()
        self._proposals_max = proposals_max
        self._bytes_max = bytes_max

    def put(self, proposal: Proposal) -> None:
        if len(proposal.change) > self._bytes_max:
            raise TooLarge(f"a proposal of {len(proposal.change)} bytes, at most {self._bytes_max}")
        with self._lock:
            self._kept.pop(proposal.proposal, None)
            self._kept[proposal.proposal] = proposal
            while len(self._kept) > self._proposals_max or self._bytes() > self._bytes_max:
                self._kept.popitem(last=False)

    def replace(self, old: Proposal, new: Proposal) -> bool:
        with self._lock:
            if new.proposal != old.proposal or self._kept.get(old.proposal) != old:
                return False
            self._kept[old.proposal] = new
            return True

    def get(self, proposal: str) -> Proposal | None:
        return self._kept.get(proposal)

    def all(self) -> Sequence[Proposal]:
        with self._lock:
            return tuple(self._kept.values())

    def due(self, now_s: float) -> Sequence[Proposal]:
        times = [(one.schedule.at_s, one) for one in self.all() if one.schedule is not None]
        come = [(at_s, one) for at_s, one in times if at_s <= now_s]
        return tuple(one for _, one in sorted(come, key=lambda each: each[0]))

    def delete(self, old: Proposal) -> bool:
        with self._lock:
            if self._kept.get(old.proposal) != old:
                return False
            del self._kept[old.proposal]
            return True

    def _bytes(self) -> int:
        return sum(len(one.change) for one in self._kept.values())
