"""All that stands in one store moved into an empty one, verified on the way and again where it is.

    mark -> entries, blobs -> freeze what it comes from, if asked -> what came meanwhile
    -> digests, proposals, checkpoint -> verify -> take the mark away

While it lasts, the target is marked: no node serves from it or writes to it, whatever this process
dies of. Run again, it goes on where it stopped, since everything is named by its content. What is
moved is the journal up to one revision, and every blob that those entries need: blobs are put
before the entries that name them.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final, Protocol, TypeAlias

import msgspec

from holdfast.core.errors import Damaged, HoldfastError, Unavailable
from holdfast.core.history import verify_link
from holdfast.core.model import GENESIS, Entry, Head
from holdfast.engine.members import blobs_of
from holdfast.ports import Checkpoint, Imprint, Journal, Proposal, Stores

FILLING: Final = "filling: "
FROZEN: Final = "frozen: "
BATCH: Final = 128
"""Entries appended at once: what a store takes in one transaction, it divides itself."""

Tell: TypeAlias = Callable[[str, int, int], None]
"""(what is being done, how much of it is done, all of it)"""


class Content(Protocol):
    """What can be moved. `name` is for people; each call reads anew, in this order."""

    name: str

    def head(self) -> Head:
        """How far it goes now."""

    def entries(self, after: int, upto: int) -> Iterator[Entry]: ...

    def blobs(self, have: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """Digest and body of each blob that is not among `have`."""

    def digests(self) -> Sequence[Imprint]: ...

    def proposals(self) -> Sequence[Proposal]: ...

    def checkpoint(self) -> Checkpoint | None: ...

    def freeze(self, text: str) -> None:
        """Let it grow no more; the empty text takes that back."""


class StoreContent:
    """A store as something to be moved. Raises `Unavailable` for one that is half filled itself."""

    def __init__(self, stores: Stores, name: str) -> None:
        self.name = name
        self._stores = stores
        if (text := stores.marked()).startswith(FILLING):
            raise Unavailable(f"{name} is no whole store: {text}")

    def head(self) -> Head:
        return self._stores.journal.head()

    def entries(self, after: int, upto: int) -> Iterator[Entry]:
        return self._stores.journal.read(after, upto - after)

    def blobs(self, have: Collection[str]) -> Iterator[tuple[str, bytes]]:
        for stored in self._stores.blobs.all():
            if stored.digest in have:
                continue
            body = self._stores.blobs.get(stored.digest)
            if body is not None:  # else it was collected meanwhile: no entry names it
                yield stored.digest, body

    def digests(self) -> Sequence[Imprint]:
        return self._stores.digests.all()

    def proposals(self) -> Sequence[Proposal]:
        return self._stores.proposals.all()

    def checkpoint(self) -> Checkpoint | None:
        return self._stores.journal.checkpoint()

    def freeze(self, text: str) -> None:
        self._stores.mark(text)


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in the target now. `grown_to` is above `revision` when the source went on."""

    revision: int
    hash: str
    entries: int
    blobs: int
    blob_bytes: int
    digests: int
    proposals: int
    resumed_after: int = 0
    grown_to: int = 0
    missing: tuple[str, ...] = ()
    """Blobs that entries name and that were not in the source either."""


def move(
    content: Content,
    target: Stores,
    tell: Tell,
    *,
    frozen: str = "",
    complete: Callable[[Journal], None] = lambda _: None,
) -> Moved:
    """Fill `target` with all of `content`, and verify it there.

    With `frozen`, the source is marked with that text before its last entries are taken, so that
    nothing is lost. `complete` may append to the journal before it is verified. Raises
    `Unavailable` when the target holds something already, `Damaged` for what is not what was
    written on either side; the target stays marked then.
    """
    head = content.head()
    resumed_after = _begin(content, target, head)
    _fill(content, target, head, tell)
    named: set[str] = set()
    verified = _verified(target, GENESIS, named, tell)
    held = _verified_blobs(target, {}, tell)
    with contextlib.ExitStack() as undone:
        if frozen:
            content.freeze(FROZEN + frozen)
            undone.callback(content.freeze, "")
            head = content.head()
            _fill(content, target, head, tell)
        digests, proposals = _beside(content, target, head)
        complete(target.journal)
        verified = _verified(target, verified, named, tell)
        held = _verified_blobs(target, held, tell)
        if verified.revision < head.revision:
            raise Damaged(f"the target ends at {verified.revision}, not at {head.revision}")
        _keep_checkpoint(content, target)
        target.mark("")
        undone.pop_all()
    return Moved(
        revision=verified.revision,
        hash=verified.hash,
        entries=verified.revision,
        blobs=len(held),
        blob_bytes=sum(held.values()),
        digests=digests,
        proposals=proposals,
        resumed_after=resumed_after,
        grown_to=max(content.head().revision, head.revision),
        missing=tuple(sorted(named - held.keys())),
    )


def _begin(content: Content, target: Stores, head: Head) -> int:
    """Mark an empty target; one that was begun from the same content goes on after its head."""
    text = (
        f"{FILLING}what comes from {content.name} is not all here; run the same command again, or "
        "empty the store"
    )
    stands, was = target.journal.head(), target.marked()
    if was == text:
        _check_begun(content, stands)
        return stands.revision
    if was:
        raise Unavailable(f"the target is marked: {was}")
    if stands.revision or _holds_anything(target):
        raise Unavailable(
            f"the target is not empty: it is at revision {stands.revision}, with "
            f"{sum(1 for _ in target.blobs.all())} blobs. Name an empty one; nothing was written"
        )
    if not head.revision:
        raise Unavailable(f"{content.name} holds no entry: there is nothing to move")
    target.mark(text)
    return 0


def _check_begun(content: Content, stands: Head) -> None:
    if not stands.revision:
        return
    for entry in content.entries(stands.revision - 1, stands.revision):
        if entry.hash == stands.hash:
            return
    raise Unavailable(
        f"the target holds entry {stands.revision} of another journal than {content.name}: "
        "empty it, or name another one"
    )


def _holds_anything(target: Stores) -> bool:
    beside = (target.blobs.all(), iter(target.digests.all()), iter(target.proposals.all()))
    return any(next(each, None) is not None for each in beside)


def _fill(content: Content, target: Stores, head: Head, tell: Tell) -> None:
    """Entries up to `head`, and all blobs that are there by then."""
    last = target.journal.head()
    waiting: list[Entry] = []
    for entry in content.entries(last.revision, head.revision):
        verify_link(last, entry)
        last = Head(entry.revision, entry.hash)
        waiting.append(entry)
        if len(waiting) == BATCH:
            target.journal.append_all(waiting)
            waiting = []
            tell("entries", last.revision, head.revision)
    target.journal.append_all(waiting)
    tell("entries", last.revision, head.revision)
    if last != head:
        raise Damaged(f"{content.name} ends at {last.revision}, and said that it is at {head}")
    have = {one.digest for one in target.blobs.all()}
    for number, (digest, body) in enumerate(content.blobs(have), 1):
        if target.blobs.put(body) != digest:
            raise Damaged(f"{content.name}: the bytes kept under {digest} are others")
        tell("blobs", number, 0)


def _beside(content: Content, target: Stores, head: Head) -> tuple[int, int]:
    """Digests of what is moved, and the changes that wait, in their order."""
    made = [one for one in content.digests() if one.revision <= head.revision]
    for one, stands in zip(made, target.digests.put(made), strict=True):
        if stands.digest != one.digest:
            where = f"{one.subject} at revision {one.revision}"
            raise Damaged(f"the target has another digest of {where} than {content.name}")
    waiting = content.proposals()
    for gone in {one.proposal for one in target.proposals.all()} - {
        one.proposal for one in waiting
    }:
        target.proposals.delete(gone)
    for proposal in waiting:
        target.proposals.put(proposal)
    if list(target.proposals.all()) != list(waiting):
        raise Damaged(f"the changes that wait are not those of {content.name}")
    return len(made), len(waiting)


def _verified(target: Stores, after: Head, named: set[str], tell: Tell) -> Head:
    """Every entry after `after` read from the target, its link and hash checked; the last one.

    `named` is given the blobs that they name.
    """
    head = target.journal.head()
    last = after
    for entry in target.journal.read(after.revision):
        verify_link(last, entry)
        last = Head(entry.revision, entry.hash)
        named.update(blobs_of(entry.edits))
        if not last.revision % BATCH:
            tell("verified", last.revision, head.revision)
    if last.revision < head.revision:
        raise Damaged(f"the target's journal ends at {last.revision}, its head is {head.revision}")
    tell("verified", last.revision, head.revision)
    return last


def _verified_blobs(target: Stores, known: dict[str, int], tell: Tell) -> dict[str, int]:
    """Bytes of every blob by digest; those that are not `known` are read and checked."""
    found: dict[str, int] = {}
    for number, stored in enumerate(target.blobs.all(), 1):
        found[stored.digest] = stored.bytes
        if stored.digest in known:
            continue
        body = target.blobs.get(stored.digest)
        if body is None or hashlib.sha256(body).hexdigest() != stored.digest:
            raise Damaged(f"the target has no sound blob {stored.digest}")
        tell("blobs verified", number, 0)
    return found


def _keep_checkpoint(content: Content, target: Stores) -> None:
    """It saves the first start some time; whatever is wrong with it, that start does without."""
    with contextlib.suppress(HoldfastError):
        checkpoint = content.checkpoint()
        if checkpoint is not None and checkpoint.revision <= target.journal.head().revision:
            target.journal.save_checkpoint(checkpoint)
