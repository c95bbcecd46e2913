"""The journal in etcd, for any number of nodes.

    PREFIX/entries/0000000000000001     a record (`etcd_records`): an entry's canonical bytes
    PREFIX/head                         {"revision":1,"hash":"…"}, as canonical JSON
    PREFIX/checkpoints/0000000000000001 records of folded states, all of them expendable

An append is one transaction: it compares the head, the mark (`etcd_store`), and the lease's token
when it is fenced; then it puts the entry and the head. Reads are linearizable, and checked
(`entry_rows`); the whole chain is checked at the start. etcd's watch only wakes who waits; entries
are then read by number, so that neither compaction nor a new connection nor another leader makes a
gap.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from holdfast.adapters import entry_rows
from holdfast.adapters.entry_rows import Row
from holdfast.adapters.etcd_checkpoints import EtcdCheckpoints
from holdfast.adapters.etcd_endpoint import Refused
from holdfast.adapters.etcd_leases import TOKEN, token_of
from holdfast.adapters.etcd_line import PAGE, ROUND_S, EtcdLine, Lost
from holdfast.adapters.etcd_records import EtcdRecords, Packed
from holdfast.adapters.etcd_status import lacking
from holdfast.adapters.etcd_wire import (
    OPERATIONS_MAX,
    Comparison,
    KeyValue,
    Operation,
    Transaction,
    absent,
    first,
    get,
    holds,
    past,
    put,
)
from holdfast.core.errors import Conflict, Damaged, Fenced, Marked, Unavailable
from holdfast.core.model import GENESIS, Entry, Head
from holdfast.core.wire import canonical
from holdfast.ports import Checkpoint

HEAD: Final = "head"
MARK: Final = "mark"
ENTRIES: Final = "entries/"
LOOK_S: Final = 2.0
"""Who waits looks itself so often: a stream whose other end is stopped says nothing."""
AGAIN_S: Final = 0.1
BATCH_ENTRIES_MAX: Final = OPERATIONS_MAX - 8
BATCH_BYTES_MAX: Final = 768 * 1024
"""Of many entries in one transaction; one may be larger."""

_head: Final = msgspec.json.Decoder(Head)


class EtcdJournal:
    """The `Journal` port. Raises `Damaged` for a chain that is not whole, and `Unavailable`."""

    def __init__(self, line: EtcdLine) -> None:
        self._line = line
        self._records = EtcdRecords(line)
        self._checkpoints = EtcdCheckpoints(line)
        self._closed = threading.Event()
        self._seen = GENESIS
        self._check_chain()

    def head(self) -> Head:
        self._guard()
        return self._standing()[0]

    def append(self, entry: Entry, fence: int = 0) -> None:
        packed = self._packed(entry)
        compare = [
            self._is_head(entry.revision - 1, entry.previous),
            absent(self._line.key(_name(entry.revision))),
            absent(self._line.key(MARK)),
            *packed.guards,
        ]
        if fence:
            compare.append(holds(self._line.key(TOKEN), b"%d" % fence))
        names = (HEAD, _name(entry.revision), MARK, TOKEN)
        failure = [get(self._line.key(name)) for name in names]
        done, unsure = self._written(entry, compare, (packed.write, self._put_head(entry)), failure)
        if not done.succeeded:
            self._explain(entry, fence, done, unsure=unsure)
        self._saw(Head(*_place(entry)))

    def append_all(self, entries: Sequence[Entry]) -> None:
        batch: list[tuple[Entry, Packed]] = []
        for entry in entries:
            packed = self._packed(entry)
            size = packed.bytes + sum(each.bytes for _, each in batch)
            if batch and (len(batch) >= BATCH_ENTRIES_MAX or size > BATCH_BYTES_MAX):
                self._append_batch(batch)
                batch = []
            if batch and (entry.revision - 1, entry.previous) != _place(batch[-1][0]):
                raise Conflict(entry.revision - 1, batch[-1][0].revision)
            batch.append((entry, packed))
        if batch:
            self._append_batch(batch)

    def read(self, after: int = 0, limit: int | None = None) -> Iterator[Entry]:
        return entry_rows.read(self, after, limit)

    def rows(self, after: int, limit: int) -> list[Row]:
        """`entry_rows.Rows`: at most `limit`, all of one moment of each page."""
        return list(self._rows(after, after + limit))

    def damaged(self, what: str) -> Damaged:
        """`entry_rows.Rows`."""
        return self._records.damaged(what)

    def watch(self, after: int, timeout_s: float) -> Sequence[Entry]:
        deadline_s = time.monotonic() + timeout_s
        while not self._closed.is_set():
            try:
                head, revision = self._standing()
                if head.revision > after:
                    return tuple(self.read(after, PAGE))
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    break
                patience_s = min(left_s, LOOK_S)
                self._line.wait_for_change(HEAD, revision + 1, patience_s, self._closed.is_set)
            except Unavailable:
                if time.monotonic() + AGAIN_S >= deadline_s and not self._closed.is_set():
                    raise
                self._closed.wait(AGAIN_S)
        return ()

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        self._guard()
        self._checkpoints.save(checkpoint)

    def checkpoint(self) -> Checkpoint | None:
        return self._checkpoints.newest(self.head().revision)

    def close(self) -> None:
        self._closed.set()
        self._line.end_waits()

    def _guard(self) -> None:
        if self._closed.is_set():
            raise Unavailable("the journal is closed")

    def _standing(self) -> tuple[Head, int]:
        """The head, and etcd's revision at which it was that."""
        seen = self._seen
        head, revision = self._looked_up()
        if head.revision < seen.revision or (head != seen and head.revision == seen.revision):
            what = f"{self._line.where} stands at entry {head.revision}, and was at {seen.revision}"
            way_out = "A backup was restored, or a quorum was forced: restart the nodes"
            raise Unavailable(f"{what} before. {way_out} once it is the right one")
        self._saw(head)
        return head, revision

    def _saw(self, head: Head) -> None:
        if head.revision > self._seen.revision:
            self._seen = head

    def _looked_up(self) -> tuple[Head, int]:
        found, revision = self._line.get(HEAD)
        if found is not None:
            return self._decoded(found), revision
        start = self._line.key(ENTRIES)
        head, entry = self._line.look(get(self._line.key(HEAD)), get(start, past(start)))
        if entry and not head:
            raise self._records.damaged(f"{self._line.name(entry[0].key)} is there, and no head")
        return GENESIS, revision

    def _rows(self, after: int, last: int) -> Iterator[Row]:
        """Those above `after`, up to `last`."""
        start, end = (self._line.key(_name(revision + 1)) for revision in (after, last))
        for found in self._line.between(start, end, page=min(last - after, PAGE)):
            digits = self._line.name(found.key).removeprefix(ENTRIES)
            digest = bytes.fromhex(self._records.label(found).digest)
            yield int(digits) if digits.isdecimal() else 0, digest, self._records.unpack(found)

    def _check_chain(self) -> None:
        """Check every link up to the head: damage is refused at the start, not when it is met."""
        try:
            head, _ = self._standing()
        except Refused:
            raise
        except Unavailable as error:
            if told := lacking(self._line):
                raise Unavailable(f"{self._line.where} has {told}") from error
            raise
        last = GENESIS
        if head != GENESIS:
            for each in entry_rows.places(self, self._rows(0, head.revision)):
                last = each
        if last != head:
            raise self.damaged(f"its last entry is {last.revision}, its head {head.revision}")

    def _decoded(self, found: KeyValue) -> Head:
        try:
            return _head.decode(found.value)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise self._records.damaged("its head is not what was put there") from None

    def _packed(self, entry: Entry) -> Packed:
        self._guard()
        revision, _, body = entry_rows.sealed(entry)
        return self._records.pack(_name(revision), body)

    def _is_head(self, revision: int, digest: str) -> Comparison:
        key = self._line.key(HEAD)
        head = Head(revision, digest)
        return absent(key) if head == GENESIS else holds(key, canonical(head))

    def _put_head(self, entry: Entry) -> Operation:
        return put(self._line.key(HEAD), canonical(Head(*_place(entry))))

    def _written(
        self,
        entry: Entry,
        compare: Sequence[Comparison],
        success: Sequence[Operation],
        failure: Sequence[Operation],
    ) -> tuple[Transaction, bool]:
        """What became of the transaction, and whether one before it was sent and not answered.

        It is asked again where an answer was lost: by its comparison only one of them goes in, and
        what stands in the entry's place then tells whether one did.
        """
        deadline_s, unsure = self._line.deadline_s(), False
        while True:
            try:
                done = self._line.change(
                    compare, success, failure, deadline_s=deadline_s, twice=False
                )
            except Unavailable as error:
                if isinstance(error, Lost) and time.monotonic() + ROUND_S < deadline_s:
                    unsure = True
                    self._closed.wait(ROUND_S)  # without a leader members refuse at once
                    continue
                if unsure or isinstance(error, Lost):
                    what = f"whether entry {entry.revision} was written is not known"
                    raise Unavailable(f"{what}: {error}") from None
                raise
            return done, unsure

    def _explain(self, entry: Entry, fence: int, done: Transaction, *, unsure: bool) -> None:
        """Raise why an append was not carried out; return if the first time of asking did it."""
        head_found, stands, mark, newest = (first(found) for found in done.found)
        if unsure and stands and self._records.label(stands).digest == entry.hash:
            return
        if mark is not None:
            raise Marked(mark.value.decode(errors="replace"))
        if fence not in {0, token_of(newest)}:
            raise Fenced(fence, token_of(newest))
        head = self._decoded(head_found) if head_found else GENESIS
        if (head.revision, head.hash) != (entry.revision - 1, entry.previous):
            raise Conflict(entry.revision - 1, head.revision)
        if stands is not None:
            raise self._records.damaged(f"entry {entry.revision} is above the head")
        raise Unavailable(f"{self._line.where}: parts of the entry were swept away: try again")

    def _append_batch(self, batch: Sequence[tuple[Entry, Packed]]) -> None:
        opening, closing = batch[0][0], batch[-1][0]
        compare = [self._is_head(opening.revision - 1, opening.previous)]
        compare += [absent(self._line.key(_name(opening.revision)))]
        compare += [guard for _, packed in batch for guard in packed.guards]
        writes = [packed.write for _, packed in batch]
        done = self._line.change(compare, [*writes, self._put_head(closing)], twice=False)
        if not done.succeeded:
            raise Conflict(opening.revision - 1, self.head().revision)
        self._saw(Head(*_place(closing)))


def _name(revision: int) -> str:
    return f"{ENTRIES}{revision:016d}"


def _place(entry: Entry) -> tuple[int, str]:
    return entry.revision, entry.hash
