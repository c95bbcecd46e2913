"""What stands in a store, moved into another one, or into a file and back."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.engine.a_node import FREE, Node, setting

from holdfast.adapters.memory_store import MemoryStore
from holdfast.adapters.sqlite_store import SqliteStore
from holdfast.core.errors import Damaged, HoldfastError, Unavailable
from holdfast.core.history import decode_entry, encode_entry
from holdfast.core.limits import INLINE_MEMBERS_MAX
from holdfast.core.model import (
    Audience,
    Entry,
    Head,
    PutEnvironment,
    PutSegment,
    PutService,
    PutSetting,
    Segment,
    Service,
    Subject,
)
from holdfast.engine import backup
from holdfast.engine.backup import BackupContent, Contents, Header
from holdfast.engine.moving import FILLING, FROZEN, StoreContent, move
from holdfast.ports import Checkpoint, Imprint, Proposal, Stores

MEMBERS = tuple(f"user-{number}" for number in range(INLINE_MEMBERS_MAX + 1))


def say_nothing(*_: object) -> None:
    return None


class Stopped(Exception):
    """The process ended here."""


def filled(entries: int = 140, word: str = "tiles") -> MemoryStore:
    """A store in which all kinds of things stand."""
    stores = MemoryStore()
    node = Node(stores.journal, blobs=stores.blobs)
    pilot = PutSegment("shop", "pilot", Segment(Audience(by="user", members=MEMBERS)))
    node.commit(PutEnvironment("production", FREE), PutService("shop", Service()), pilot)
    for number in range(entries - 1):
        node.commit(PutSetting("shop", word, setting(number + 10)))
    node.view.save_checkpoint()
    head = stores.journal.head()
    subject = Subject("production", "shop")
    stores.digests.put([Imprint(subject, head.revision, head.hash, "ab" * 32, "b", 1, b"outline")])
    for name in "ca":
        stores.proposals.put(Proposal(name, "cd" * 32, name.encode(), "ann", 7))
    return stores


@pytest.fixture(scope="module")
def source() -> MemoryStore:
    return filled()


@pytest.fixture(params=["memory", "sqlite"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stores]:
    made: Stores = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "to")
    yield made
    made.close()


def content_of(stores: Stores) -> list[object]:
    return [
        list(stores.journal.read()),
        [(one.digest, stores.blobs.get(one.digest)) for one in stores.blobs.all()],
        list(stores.digests.all()),
        list(stores.proposals.all()),
        stores.journal.checkpoint(),
        stores.marked(),
    ]


def copied(source: Stores, target: Stores, **how: str) -> None:
    move(StoreContent(source, "here"), target, say_nothing, **how)


def backed_up(stores: Stores) -> io.BytesIO:
    file, content = io.BytesIO(), StoreContent(stores, "here")
    head = content.head()
    backup.write(content, file, Header(head.revision, head.hash, 7, "here", "b"), say_nothing)
    return file


def checked(file: io.BytesIO) -> Contents:
    return backup.verify(file, say_nothing)


class TestACopy:
    def test_holds_all_of_it(self, source: MemoryStore, target: Stores) -> None:
        moved = move(StoreContent(source, "here"), target, say_nothing)
        assert content_of(target) == content_of(source)
        assert (moved.revision, moved.blobs, moved.digests, moved.proposals) == (140, 2, 1, 2)
        assert (moved.grown_to, moved.resumed_after, moved.missing) == (140, 0, ())

    def test_is_refused_where_anything_stands(self, source: MemoryStore, target: Stores) -> None:
        copied(source, target)
        before = content_of(target)
        with pytest.raises(Unavailable, match="not empty"):
            copied(source, target)
        assert content_of(target) == before
        other = MemoryStore()
        other.blobs.put(b"a list")
        with pytest.raises(Unavailable, match="not empty"):
            copied(source, other)
        assert not other.marked()

    def test_of_nothing_is_refused(self, target: Stores) -> None:
        with pytest.raises(Unavailable, match="holds no entry"):
            copied(MemoryStore(), target)

    @pytest.mark.parametrize("after", [0, 1, 2, 3, 4])
    def test_that_was_interrupted_says_so_and_goes_on(
        self, source: MemoryStore, target: Stores, after: int
    ) -> None:
        """It ends at any of its steps: half of it is served by nobody, the second try completes."""
        left = [after]

        def stop(*_: object) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise Stopped

        with pytest.raises(Stopped):
            move(StoreContent(source, "here"), target, stop)
        assert target.marked().startswith(FILLING)
        with pytest.raises(Unavailable, match="no whole store"):
            StoreContent(target, "half")
        moved = move(StoreContent(source, "here"), target, say_nothing)
        assert content_of(target) == content_of(source)
        assert moved.resumed_after == (128 if after == 0 else 140)

    def test_goes_on_from_no_other_store(self, source: MemoryStore, target: Stores) -> None:
        def stop(*_: object) -> None:
            raise Stopped

        with pytest.raises(Stopped):
            move(StoreContent(source, "here"), target, stop)
        with pytest.raises(Unavailable, match="marked"):
            move(StoreContent(source, "elsewhere"), target, say_nothing)
        another = filled(140, word="another")
        with pytest.raises(Unavailable, match="another journal"):
            move(StoreContent(another, "here"), target, say_nothing)

    def test_tells_that_its_source_went_on(self, target: Stores) -> None:
        stores = filled(20)
        content = StoreContent(stores, "here")

        def write(what: str, *_: object) -> None:
            if what == "verified":
                grow(stores)

        moved = move(content, target, write)
        assert moved.revision == 20
        assert moved.grown_to > 20
        assert list(target.journal.read()) == list(stores.journal.read(0, 20))

    def test_that_freezes_its_source_loses_nothing(self, target: Stores) -> None:
        stores, wrote = filled(20), []

        def write(what: str, *_: object) -> None:
            if what == "verified" and not stores.marked():
                wrote.append(grow(stores))

        moved = move(StoreContent(stores, "here"), target, write, frozen="moved away")
        assert stores.marked() == f"{FROZEN}moved away"
        assert target.marked() == ""
        assert wrote
        assert list(target.journal.read()) == list(stores.journal.read())
        assert moved.grown_to == moved.revision == 20 + len(wrote)
        with pytest.raises(Unavailable, match="marked"):
            grow(stores)
        grow(target)

    def test_that_fails_lets_its_source_go_on(self) -> None:
        stores, target = filled(20), Forgetting()
        with pytest.raises(Damaged):
            copied(stores, target, frozen="moved away")
        assert stores.marked() == ""
        assert target.marked().startswith(FILLING)

    def test_that_another_command_took_over_stops(
        self, source: MemoryStore, target: Stores
    ) -> None:
        """The slower one of two deletes nothing, completes nothing, and takes no mark away."""

        def overtaken(what: str, *_: object) -> None:
            if what == "blobs verified" and target.marked().endswith("[first]"):
                move(StoreContent(source, "here"), target, say_nothing, by="second")
                target.proposals.put(Proposal("new", "cd" * 32, b"new", "bob", 9))

        with pytest.raises(Unavailable, match="complete by now"):
            move(StoreContent(source, "here"), target, overtaken, by="first")
        assert "new" in {one.proposal for one in target.proposals.all()}
        assert target.journal.head() == source.journal.head()

    def test_that_another_command_goes_on_with_stops(
        self, source: MemoryStore, target: Stores
    ) -> None:
        def overtaken(what: str, *_: object) -> None:
            if target.marked().endswith("[first]"):
                with pytest.raises(Stopped):
                    move(StoreContent(source, "here"), target, stopped, by="second")

        with pytest.raises(Unavailable, match="second"):
            move(StoreContent(source, "here"), target, overtaken, by="first")
        assert target.marked().endswith("[second]")
        move(StoreContent(source, "here"), target, say_nothing, by="third")
        assert content_of(target) == content_of(source)

    def test_that_another_command_marked_first_does_not_begin(self, source: MemoryStore) -> None:
        """Both saw an empty store without a mark; one of them fills it."""
        target = MarkedJustBefore("filling: what comes from elsewhere")
        with pytest.raises(Unavailable, match="what comes from elsewhere"):
            copied(source, target, by="late")
        assert target.marked() == "filling: what comes from elsewhere"
        assert not target.journal.head().revision

    def test_takes_no_mark_of_another_command_away(self) -> None:
        """The other one goes on, and no node may serve what it has not completed."""
        stores, target = filled(20), TakenOverAtTheEnd()
        with pytest.raises(Unavailable, match="by the other"):
            copied(stores, target, frozen="moved away", by="slow")
        assert target.marked() == "filling: by the other"
        assert stores.marked() == "", "its source goes on: nobody serves from the target"

    def test_that_another_command_completed_does_not_thaw_what_that_one_froze(
        self, target: Stores
    ) -> None:
        """Else the source would take entries that its successor never sees."""
        stores = filled(20)
        content = StoreContent(stores, "here")

        def overtaken(what: str, *_: object) -> None:
            if what == "verified" and stores.marked().endswith("[first]"):
                move(content, target, say_nothing, frozen="moved away", by="second")

        with pytest.raises(Unavailable, match="complete by now"):
            move(content, target, overtaken, frozen="moved away", by="first")
        assert stores.marked() == f"{FROZEN}moved away [second]"
        assert target.marked() == ""

    def test_begins_in_no_store_that_somebody_began_to_use(self, source: MemoryStore) -> None:
        """A node's first entry, between the look and the mark."""
        target = WrittenToJustBefore()
        with pytest.raises(Unavailable, match="was written to"):
            copied(source, target)
        assert target.marked() == ""
        assert grow(target) == 2

    def test_that_is_complete_is_told_to_be(self, source: MemoryStore, target: Stores) -> None:
        copied(source, target)
        with pytest.raises(Unavailable, match=r"not empty.*it was complete"):
            copied(source, target)

    def test_is_not_frozen_for_two_successors(self, target: Stores) -> None:
        stores = filled(20)
        copied(stores, target, frozen="moved to a")
        with pytest.raises(Unavailable, match="another successor"):
            copied(stores, MemoryStore(), frozen="moved to b")
        assert stores.marked() == f"{FROZEN}moved to a"
        copied(stores, MemoryStore())

    def test_is_not_frozen_for_two_successors_that_come_at_once(self) -> None:
        """Both have looked before either has frozen it; the second one is told at its turn."""
        stores = filled(20)
        with pytest.raises(Unavailable, match="another successor"):
            move(Racing(stores, "here"), MemoryStore(), say_nothing, frozen="moved to b")
        assert stores.marked() == f"{FROZEN}moved to a"

    def test_whose_last_answer_is_lost_leaves_its_source_frozen(self) -> None:
        """The target may be free by then: two journals of one past are what must not be."""
        stores, target = filled(20), LosingTheLast()
        with pytest.raises(Unavailable, match="lost"):
            copied(stores, target, frozen="moved away")
        assert (stores.marked(), target.marked()) == (f"{FROZEN}moved away", "")

    def test_has_the_lists_of_changes_that_came_late(self, target: Stores) -> None:
        stores, late = filled(20), b"a list that a late change names"

        def propose(what: str, *_: object) -> None:
            if what == "blobs verified":
                stores.blobs.put(late)
                stores.proposals.put(Proposal("late", "cd" * 32, b"late", "ann", 8))

        move(StoreContent(stores, "here"), target, propose)
        assert "late" in {one.proposal for one in target.proposals.all()}
        assert hashlib.sha256(late).hexdigest() in {one.digest for one in target.blobs.all()}

    def test_tells_what_was_missing_before(self, target: Stores) -> None:
        stores = filled(5)
        gone = next(iter(stores.blobs.all()))
        stores.blobs.delete(gone)
        moved = move(StoreContent(stores, "here"), target, say_nothing)
        assert moved.missing == (gone.digest,)


def grow(stores: Stores) -> int:
    node = Node(stores.journal, blobs=stores.blobs)
    value = 1_000 + node.view.state.head.revision
    return node.commit(PutSetting("shop", "tiles", setting(value))).revision


def stopped(*_: object) -> None:
    raise Stopped


class LosingTheLast(MemoryStore):
    """A store that takes the mark away, and does not get to say so."""

    def mark(self, text: str, was: str) -> bool:
        done = super().mark(text, was)
        if not text:
            raise Unavailable("the answer was lost")
        return done


class MarkedJustBefore(MemoryStore):
    """Somebody else marks it right before the first mark that is put here."""

    def __init__(self, mark: str) -> None:
        super().__init__()
        self._first = mark

    def mark(self, text: str, was: str) -> bool:
        first, self._first = self._first, ""
        if first:
            super().mark(first, "")
        return super().mark(text, was)


class WrittenToJustBefore(MemoryStore):
    """Somebody commits to it right before the first mark that is put here."""

    def mark(self, text: str, was: str) -> bool:
        if not self.journal.head().revision:
            node = Node(self.journal, blobs=self.blobs)
            node.commit(PutEnvironment("production", FREE), PutService("shop", Service()))
        return super().mark(text, was)


class TakenOverAtTheEnd(MemoryStore):
    """Somebody else marks it right before its mark is taken away."""

    def mark(self, text: str, was: str) -> bool:
        if not text:
            super().mark("filling: by the other", was)
        return super().mark(text, was)


class Forgetting(MemoryStore):
    """A store that acknowledges blobs and digests, and keeps none of the first."""

    def __init__(self) -> None:
        super().__init__()
        self.blobs.get = lambda _: None  # type: ignore[method-assign]


class Racing(StoreContent):
    """A content that somebody else freezes right before it is frozen here."""

    def freeze(self, text: str, was: str) -> bool:
        super().freeze(f"{FROZEN}moved to a", was)
        return super().freeze(text, was)


class Tampered:
    """A content whose entry 100 was changed, its hash computed again."""

    name = "here"

    def __init__(self, stores: Stores) -> None:
        self._content = StoreContent(stores, "here")

    def head(self) -> Head:
        return self._content.head()

    def entries(self, after: int, upto: int) -> Iterator[Entry]:
        for entry in self._content.entries(after, upto):
            if entry.revision != 100:
                yield entry
                continue
            body = encode_entry(entry).replace(b'"why"', b'"lie"')
            yield decode_entry(body, hashlib.sha256(body).hexdigest())

    def blobs(self, have: Collection[str]) -> Iterator[tuple[str, bytes]]:
        return self._content.blobs(have)

    def digests(self) -> Sequence[Imprint]:
        return self._content.digests()

    def proposals(self) -> Sequence[Proposal]:
        return self._content.proposals()

    def checkpoint(self) -> Checkpoint | None:
        return self._content.checkpoint()

    def marked(self) -> str:
        return self._content.marked()

    def freeze(self, text: str, was: str) -> bool:
        return self._content.freeze(text, was)


def test_a_journal_that_was_tampered_with_is_not_moved(source: MemoryStore, target: Stores) -> None:
    with pytest.raises(Damaged, match="does not continue entry 100"):
        move(Tampered(source), target, say_nothing)
    assert target.marked().startswith(FILLING)


class TestABackup:
    def test_comes_back_whole(self, source: MemoryStore, target: Stores) -> None:
        file = backed_up(source)
        found = checked(file)
        assert (found.revision, found.entries, found.blobs) == (140, 140, 2)
        move(BackupContent(file, "a file"), target, say_nothing)
        assert content_of(target) == content_of(source)

    def test_is_of_one_moment_while_others_write(self, target: Stores) -> None:
        stores, file = filled(20), io.BytesIO()
        content = StoreContent(stores, "here")
        head = content.head()
        header = Header(head.revision, head.hash, 7, "here", "b")
        backup.write(content, file, header, lambda *_: say_nothing(grow(stores)))
        assert stores.journal.head().revision > 20
        assert checked(file).revision == 20
        move(BackupContent(file, "a file"), target, say_nothing)
        assert target.journal.head() == head

    def test_of_nothing_is_refused(self) -> None:
        with pytest.raises(Unavailable, match="holds no entry"):
            backed_up(MemoryStore())

    @given(st.data())
    def test_with_any_byte_changed_is_refused(self, small: bytes, data: st.DataObject) -> None:
        place = data.draw(st.integers(0, len(small) - 1))
        flipped = data.draw(st.integers(1, 255))
        body = bytearray(small)
        body[place] ^= flipped
        with pytest.raises(HoldfastError):
            checked(io.BytesIO(bytes(body)))

    @given(st.data())
    def test_that_was_cut_off_anywhere_is_refused(self, small: bytes, data: st.DataObject) -> None:
        beginnings = st.integers(0, 2 * len(backup.MAGIC))
        left = data.draw(beginnings | st.integers(0, len(small) - 1))
        with pytest.raises(Damaged):
            checked(io.BytesIO(small[:left]))

    def test_that_something_was_put_behind_is_refused(self, small: bytes) -> None:
        with pytest.raises(Damaged):
            checked(io.BytesIO(small + b"x"))
        with pytest.raises(Damaged, match="follows the end"):
            checked(io.BytesIO(small + small[len(backup.MAGIC) :]))

    def test_of_a_newer_version_is_told_apart_from_damage(self) -> None:
        with pytest.raises(Unavailable, match="newer Holdfast"):
            checked(io.BytesIO(b"holdfast backup 10\n" + bytes(100)))

    def test_a_frame_of_another_backup_does_not_pass(self) -> None:
        """Each frame holds by itself; together they do not."""
        one, other = (backed_up(filled(entries)).getvalue() for entries in (5, 6))
        spliced = one[: len(one) // 2] + other[len(one) // 2 :]
        with pytest.raises(Damaged):
            checked(io.BytesIO(spliced))


@pytest.fixture(scope="module")
def small() -> bytes:
    return backed_up(filled(4)).getvalue()


def test_without_verification_half_a_backup_would_be_served(small: bytes) -> None:
    """The damage: what is left of a file that was cut off is a journal, and changes are gone."""
    half, restored = small[: len(small) * 2 // 3], MemoryStore()
    with pytest.raises(Damaged):
        checked(io.BytesIO(half))
    kept = (entry for entry in BackupContent(io.BytesIO(half), "half").entries(0, 4))
    restored.journal.append_all([next(kept), next(kept)])
    assert Node(restored.journal).view.state.head.revision == 2
