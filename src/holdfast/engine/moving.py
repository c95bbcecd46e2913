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

from holdfast.core.errors import Conflict, Damaged, HoldfastError, Unavailable
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

    def marked(self) -> str:
        """Why it must not grow, if anything says so."""

    def freeze(self, text: str, was: str) -> bool:
        """Let it grow no more, as `Stores.mark`; the empty text takes that back."""


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

    def marked(self) -> str:
        return self._stores.marked()

    def freeze(self, text: str, was: str) -> bool:
        return self._stores.mark(text, was)


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


def move(  # noqa: PLR0913  what may be wanted otherwise
    content: Content,
    target: Stores,
    tell: Tell,
    *,
    frozen: str = "",
    complete: Callable[[Journal], None] = lambda _: None,
    completes: Callable[[Entry], bool] = lambda _: False,
    by: str = "",
) -> Moved:
    """Fill `target` with all of `content`, and verify it there.

    With `frozen`, the source is marked with that text before its last entries are taken, so that
    nothing is lost. `complete` may append to the journal before it is verified; `completes` tells
    its entries, which an interrupted try may have left. `by` names this try: of two that fill one
    target, the one that marked it last goes on.

    Raises `Unavailable` when the target holds something already, or another try took it over;
    `Damaged` for what is not what was written on either side. The target stays marked then.
    """
    freezing = _Freezing(content, frozen, by) if frozen else None
    if freezing is not None:
        freezing.may_begin()
    head = content.head()
    filling = _Filling(target, content.name, by)
    resumed_after = filling.begin(content, head, completes)
    try:
        return _moved(content, filling, tell, freezing, complete, head, resumed_after)
    except (Conflict, Damaged) as error:
        filling.check()
        if isinstance(error, Conflict):
            raise Unavailable(
                f"another process wrote to the target, which is at revision {error.actual_revision}"
                " by now: let only one run, then run the same command again"
            ) from None
        raise


def _moved(  # noqa: PLR0913, PLR0917  what `move` was given
    content: Content,
    filling: _Filling,
    tell: Tell,
    freezing: _Freezing | None,
    complete: Callable[[Journal], None],
    head: Head,
    resumed_after: int,
) -> Moved:
    target = filling.target
    _fill(content, filling, head, tell)
    named: set[str] = set()
    verified = _verified(target, GENESIS, named, tell)
    held = _verified_blobs(target, {}, tell)
    with contextlib.ExitStack() as undone:
        if freezing is not None:
            freezing.begin()
            undone.callback(freezing.undo)
            head = content.head()
        waiting = content.proposals()  # before blobs: those that they name are there by then
        _fill(content, filling, head, tell)
        filling.check()
        digests = _beside(content, waiting, target, head)
        filling.check()
        complete(target.journal)
        verified = _verified(target, verified, named, tell)
        held = _verified_blobs(target, held, tell)
        if verified.revision < head.revision:
            raise Damaged(f"the target ends at {verified.revision}, not at {head.revision}")
        _keep_checkpoint(content, target)
        grown_to = max(content.head().revision, head.revision)
        filling.check()
        kept = undone.pop_all()  # a lost answer may hide that the target is free: not both may be
    if not filling.end():
        kept.close()
        raise filling.overtaken()
    return Moved(
        revision=verified.revision,
        hash=verified.hash,
        entries=verified.revision,
        blobs=len(held),
        blob_bytes=sum(held.values()),
        digests=digests,
        proposals=len(waiting),
        resumed_after=resumed_after,
        grown_to=grown_to,
        missing=tuple(sorted(named - held.keys())),
    )


class _Freezing:
    """The mark of what is moved for good: who succeeds it, and which try made it so."""

    def __init__(self, content: Content, frozen: str, by: str) -> None:
        self._content = content
        self._any = FROZEN + frozen
        self._text = _by(self._any, by)

    def may_begin(self) -> str:
        """The mark that this one takes the place of. Raises `Unavailable` for another successor."""
        was = self._content.marked()
        if was and not _is_of(was, self._any):
            raise self._another()
        return was

    def begin(self) -> None:
        if not self._content.freeze(self._text, self.may_begin()):
            raise self._another()

    def undo(self) -> None:
        """Let it grow again, unless another try goes on from there."""
        self._content.freeze("", self._text)

    def _another(self) -> Unavailable:
        return Unavailable(
            f"{self._content.name} has another successor: {self._content.marked()}. Leave out "
            "--freeze to copy it as it stands; holdfast store thaw takes the mark off, if that one "
            "is not in use"
        )


def _by(text: str, by: str) -> str:
    return f"{text} [{by}]" if by else text


def _is_of(mark: str, text: str) -> bool:
    """Whether the mark is that text, whichever try put it."""
    return mark == text or mark.startswith(f"{text} [")


class _Filling:
    """A target's mark while it is filled: whose content comes in, and which try brings it."""

    def __init__(self, target: Stores, name: str, by: str) -> None:
        self.target = target
        self._name = name
        self._any = (
            f"{FILLING}what comes from {name} is not all here; run the same command again, or "
            "empty the store"
        )
        self._text = _by(self._any, by)

    def begin(self, content: Content, head: Head, completes: Callable[[Entry], bool]) -> int:
        """Mark an empty target; one that was begun from the same content goes on after its head."""
        stands, was = self.target.journal.head(), self.target.marked()
        begun = _is_of(was, self._any)
        if was and not begun:
            raise Unavailable(f"the target is marked: {was}")
        if not begun:
            self._check_empty(content, stands, head, completes)
        elif stands.revision and not _is_begun(content, self.target, stands, head, completes):
            raise Unavailable(
                f"the target holds entry {stands.revision} of another journal than {self._name}: "
                "empty it, or name another one"
            )
        if not head.revision:
            raise Unavailable(f"{self._name} holds no entry: there is nothing to move")
        if not self.target.mark(self._text, was):
            raise self.overtaken()
        if not begun and self.target.journal.head() != stands:
            self.target.mark("", self._text)
            raise Unavailable("the target was written to just now: name an empty one")
        return stands.revision

    def check(self) -> None:
        """Raise `Unavailable` when another try took over; nothing more may be written then."""
        if self.target.marked() != self._text:
            raise self.overtaken()

    def end(self) -> bool:
        """Take the mark away, if it is still that of this try."""
        return self.target.mark("", self._text)

    def overtaken(self) -> Unavailable:
        mark = self.target.marked()
        now = f"it is marked now: {mark}" if mark else "it is complete by now"
        return Unavailable(
            f"another command fills the same target, and this one stopped: {now}. Let only one "
            "of them run, and look at it with holdfast store status"
        )

    def _check_empty(
        self, content: Content, stands: Head, head: Head, completes: Callable[[Entry], bool]
    ) -> None:
        if not stands.revision and not _holds_anything(self.target):
            return
        where = (
            f"the target is not empty: it is at revision {stands.revision}, with "
            f"{sum(1 for _ in self.target.blobs.all())} blobs"
        )
        if stands.revision and _is_begun(content, self.target, stands, head, completes):
            raise Unavailable(
                f"{where}. Its journal is that of {self._name} up to there, and it is not marked: "
                "if a copy was told to have failed, it was complete. Nothing was written"
            )
        raise Unavailable(f"{where}. Name an empty one; nothing was written")


def _is_begun(
    content: Content,
    target: Stores,
    stands: Head,
    head: Head,
    completes: Callable[[Entry], bool],
) -> bool:
    """Does the target's journal begin with that of `content`, with nothing else above it?"""
    shared = min(stands.revision, head.revision)
    if not shared:
        return False
    here = target.journal.read(shared - 1)
    first = next(here, None)
    there = next(content.entries(shared - 1, shared), None)
    same = first is not None and there is not None and first.hash == there.hash
    return same and all(completes(entry) for entry in here)


def _holds_anything(target: Stores) -> bool:
    beside = (target.blobs.all(), iter(target.digests.all()), iter(target.proposals.all()))
    return any(next(each, None) is not None for each in beside)


def _fill(content: Content, filling: _Filling, head: Head, tell: Tell) -> None:
    """Entries up to `head`, and all blobs that are there by then."""
    target = filling.target
    if target.journal.head().revision < head.revision:
        _fill_entries(content, filling, head, tell)
    have = {one.digest for one in target.blobs.all()}
    for number, (digest, body) in enumerate(content.blobs(have), 1):
        if target.blobs.put(body) != digest:
            raise Damaged(f"{content.name}: the bytes kept under {digest} are others")
        tell("blobs", number, 0)


def _fill_entries(content: Content, filling: _Filling, head: Head, tell: Tell) -> None:
    journal = filling.target.journal
    last = journal.head()
    waiting: list[Entry] = []
    for entry in content.entries(last.revision, head.revision):
        verify_link(last, entry)
        last = Head(entry.revision, entry.hash)
        waiting.append(entry)
        if len(waiting) == BATCH:
            filling.check()
            journal.append_all(waiting)
            waiting = []
            tell("entries", last.revision, head.revision)
    filling.check()
    journal.append_all(waiting)
    tell("entries", last.revision, head.revision)
    if last != head:
        raise Damaged(f"{content.name} ends at {last.revision}, and said that it is at {head}")


def _beside(content: Content, waiting: Sequence[Proposal], target: Stores, head: Head) -> int:
    """Digests of what is moved, how many, and the changes that wait, in their order."""
    made = [one for one in content.digests() if one.revision <= head.revision]
    for one, stands in zip(made, target.digests.put(made), strict=True):
        if stands.digest != one.digest:
            where = f"{one.subject} at revision {one.revision}"
            raise Damaged(f"the target has another digest of {where} than {content.name}")
    wanted = {one.proposal for one in waiting}
    for gone in target.proposals.all():
        if gone.proposal not in wanted:
            target.proposals.delete(gone)
    for proposal in waiting:
        target.proposals.put(proposal)
    if list(target.proposals.all()) != list(waiting):
        raise Damaged(f"the changes that wait are not those of {content.name}")
    return len(made)


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
