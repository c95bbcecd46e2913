"""Blobs that nothing names go; none that a stopped publisher is about to name does.

The rehearsal of an outage: a publisher stops between putting its lists and appending its entry, the
others publish and collect for days, and it goes on.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.engine.a_node import FREE, Clock, Node

from holdfast.adapters.memory import MemoryBlobs, MemoryJournal, MemoryProposals
from holdfast.core.errors import Conflict, Fenced, Unavailable
from holdfast.core.limits import INLINE_MEMBERS_MAX
from holdfast.core.model import (
    Audience,
    DeleteSegment,
    Entry,
    PutEnvironment,
    PutSegment,
    PutService,
    Segment,
    Service,
)
from holdfast.engine.collecting import Collected, Collecting
from holdfast.engine.members import blobs_of
from holdfast.engine.publish import FRESH_S
from holdfast.ports import Proposal

GRACE_S = 2 * FRESH_S
EVERYBODY = [f"user-{number}" for number in range(INLINE_MEMBERS_MAX + 1)]


def big(name: str, who: str) -> PutSegment:
    return PutSegment("shop", name, Segment(Audience(by="user", members=(*EVERYBODY, who))))


class Stopping(MemoryJournal):
    """A journal on which one append is stopped before it begins."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: Callable[[], None] | None = None

    def append(self, entry: Entry, fence: int = 0) -> None:
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
        super().append(entry, fence)


class World:
    """Two nodes on one store, and whoever collects."""

    def __init__(self, grace_s: float = GRACE_S) -> None:
        self.clock = Clock()
        self.journal = Stopping()
        self.blobs = MemoryBlobs()
        self.proposals = MemoryProposals()
        self.one, self.other = (self._node() for _ in range(2))
        self.one.commit(PutEnvironment("production", FREE), PutService("shop", Service()))
        self.collecting = Collecting(
            journal=self.journal,
            blobs=self.blobs,
            proposals=self.proposals,
            clock=self.clock,
            grace_s=grace_s,
        )

    def _node(self) -> Node:
        return Node(self.journal, blobs=self.blobs, clock=self.clock)

    def look(self, after_s: float = 0.0) -> Collected:
        self.clock.now_s += after_s
        return self.collecting.look(lambda: 1)

    def write(self) -> None:
        """Somebody else publishes something."""
        few = Audience(by="user", members=(f"user-{self.journal.head().revision}",))
        self.other.commit(PutSegment("shop", "few", Segment(few)))

    def collect_for_days(self) -> int:
        """Look again and again, while others publish; how many blobs went."""
        before = self.collecting.deleted
        for _ in range(6):
            self.look(GRACE_S)
            self.write()
        self.look()
        return self.collecting.deleted - before

    def stop_after_put(self, stopped: Callable[[], None], edit: PutSegment) -> None:
        """Commit on a node that stands still when its lists are in the blob store."""
        catch_up = self.one.view.catch_up

        def late() -> None:
            stopped()
            catch_up()

        self.one.view.catch_up = late  # type: ignore[method-assign]
        self.one.commit(edit)

    def segments(self) -> set[str]:
        """Names of those that stand."""
        self.other.view.catch_up()
        return set(self.other.view.state.services["shop"].segments)

    def missing(self) -> set[str]:
        named = {name for entry in self.journal.read() for name in blobs_of(entry.edits)}
        return {name for name in named if self.blobs.get(name) is None}


@pytest.fixture
def world() -> World:
    return World()


def test_a_list_that_no_entry_names_goes_when_its_grace_is_over_and_the_journal_moved_on(
    world: World,
) -> None:
    digest = world.blobs.put(b"never used")
    assert world.look() == Collected(1, 1, 0, 0)
    assert world.look(GRACE_S - 1) == Collected(1, 1, 0, 0)
    assert world.look(1).deleted == 0  # on the same head a publisher might still append
    world.write()
    assert world.look() == Collected(0, 1, 1, 10)
    assert world.blobs.get(digest) is None


def test_while_the_journal_does_not_move_nothing_goes(world: World) -> None:
    world.blobs.put(b"never used")
    for _ in range(5):
        assert world.look(10 * GRACE_S).deleted == 0


def test_what_any_entry_names_stays_however_old(world: World) -> None:
    world.one.commit(big("pilot", "ann"))
    world.one.commit(DeleteSegment("shop", "pilot"))
    assert world.collect_for_days() == 0
    assert world.missing() == set()


def test_what_a_waiting_change_names_stays(world: World) -> None:
    digest = world.blobs.put(b"a list\n")
    change = b'{"edits":[{"members_digest":"%s"}]}' % digest.encode()
    waiting = Proposal("p", "0" * 64, change, "ann", 7)
    world.proposals.put(waiting)
    assert world.collect_for_days() == 0
    assert world.proposals.delete(waiting)
    assert world.collect_for_days() == 1


def test_a_list_that_is_put_again_begins_its_grace_anew(world: World) -> None:
    world.blobs.put(b"wanted again")
    world.look()
    world.look(GRACE_S)
    world.blobs.put(b"wanted again")
    world.write()
    assert world.look().deleted == 0
    assert world.look(GRACE_S - 1).deleted == 0


def test_who_leads_no_more_deletes_nothing(world: World) -> None:
    def lost() -> int:
        raise Fenced(1, 2)

    world.blobs.put(b"never used")
    world.look()
    world.look(GRACE_S)
    world.write()
    with pytest.raises(Fenced):
        world.collecting.look(lost)
    assert len(list(world.blobs.all())) == 1


class TestAStoppedPublisher:
    def test_loses_nothing_and_its_stale_write_is_refused(self, world: World) -> None:
        base = world.journal.head().revision

        def meanwhile() -> None:
            world.write()
            assert world.collect_for_days() == 2

        world.journal.meanwhile = meanwhile
        with pytest.raises(Conflict):
            world.one.commit(big("pilot", "ann"), base=base)
        assert world.missing() == set()
        assert "pilot" not in world.segments()

    def test_without_a_base_puts_its_lists_again_and_commits(self, world: World) -> None:
        def meanwhile() -> None:
            world.write()
            assert world.collect_for_days() == 2

        world.journal.meanwhile = meanwhile
        world.one.commit(big("pilot", "ann"))
        assert world.missing() == set()
        assert world.collect_for_days() == 0

    def test_that_nobody_overtook_finds_its_lists(self, world: World) -> None:
        def meanwhile() -> None:
            for _ in range(5):
                assert world.look(10 * GRACE_S).deleted == 0

        world.journal.meanwhile = meanwhile
        world.one.commit(big("pilot", "ann"))
        assert world.missing() == set()

    def test_that_was_stopped_before_it_read_the_head_puts_its_lists_again(
        self, world: World
    ) -> None:
        """After the put, before the plan: the head that it plans on is new, its lists are old."""

        def stopped() -> None:
            world.clock.now_s += FRESH_S
            world.write()

        with pytest.raises(Unavailable, match="stood still"):
            world.stop_after_put(stopped, big("pilot", "ann"))
        assert world.missing() == set()

    def test_without_the_grace_it_names_a_list_that_is_gone(self) -> None:
        """The damage: its lists go before it would put them again by itself."""
        world = World(grace_s=0.0)

        def meanwhile() -> None:
            world.look()
            world.write()
            assert world.look().deleted == 2

        world.journal.meanwhile = meanwhile
        world.one.commit(big("pilot", "ann"))
        assert len(world.missing()) == 2
