"""What stands: the same bytes however a node came there."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.a_node import Clock, Node, setting

from holdfast.adapters.memory import MemoryJournal
from holdfast.core.errors import Damaged, Unavailable
from holdfast.core.history import seal
from holdfast.core.lineage import Standing, decode_standing, encode_standing, rebuild
from holdfast.core.model import (
    GENESIS,
    Audience,
    DeleteService,
    DeleteSetting,
    Edit,
    Entry,
    Environment,
    PutEnvironment,
    PutSegment,
    PutService,
    PutSetting,
    PutToken,
    Rule,
    Scope,
    Segment,
    Service,
    Setting,
    Subject,
    Targeting,
    Token,
)
from holdfast.engine.views import View
from holdfast.ports import Checkpoint

DEADLINE_S = 20.0
SHORT = settings(deadline=None, max_examples=20)
LONG = settings(deadline=None, max_examples=1_000)
SHOP = (
    PutEnvironment("production", Environment()),
    PutEnvironment("staging", Environment()),
    PutService("shop", Service()),
    PutSetting("shop", "tiles", setting(9, "production", "staging")),
)
PILOT = Rule(logic={"$ref": "pilot"}, serve="many")
BASE: tuple[Edit, ...] = (
    *SHOP,
    PutService("shared", Service()),
    PutSegment("shared", "pilot", Segment(Audience(by="tenant", members=("a",)))),
    PutSetting("shared", "theme", setting(1, "production")),
)


def piloted(value: int) -> Setting:
    targeting = {"production": Targeting("few", rules=(PILOT,))}
    return Setting("integer", {"few": value, "many": 49}, targeting)


_numbers = st.integers(0, 3)
_edit: st.SearchStrategy[Edit] = st.one_of(
    st.builds(lambda n: PutSetting("shop", "tiles", setting(n, "production", "staging")), _numbers),
    st.builds(lambda n: PutSetting("shop", f"k{n}", setting(n)), _numbers),
    st.builds(lambda n: DeleteSetting("shop", f"k{n}"), _numbers),
    st.builds(lambda n: PutSetting("shared", "theme", piloted(n)), _numbers),
    st.builds(
        lambda n: PutSegment(
            "shared", "pilot", Segment(Audience(by="tenant", members=("a", "b", "c")[:n]))
        ),
        _numbers,
    ),
    st.sampled_from(
        [
            PutService("shop", Service(includes=("shared",))),
            PutService("shop", Service()),
            PutService("mail", Service(includes=("shared", "shop"))),
            DeleteService("mail"),
            PutEnvironment("staging", Environment(bucketing="v2")),
            PutToken("a1", Token("ci", "0" * 64, (Scope(("read",), "staging"),))),
        ]
    ),
)
_changes = st.lists(st.lists(_edit, min_size=1, max_size=3), min_size=1, max_size=10)


def journal_of(changes: list[list[Edit]]) -> MemoryJournal:
    journal = MemoryJournal()
    for edits in [list(BASE), *changes]:
        journal.append(seal(journal.head(), journal.head().revision, "ann", "", edits))
    return journal


def bodies(standing: Standing) -> dict[Subject, bytes]:
    return {subject: rebuild(standing, subject) for subject in standing.live}


def check_agreement(changes: list[list[Edit]], cut: int) -> None:
    """Replayed from scratch, from a checkpoint, and step by step: byte for byte the same."""
    whole = journal_of(changes)
    replayed = Node(whole)

    stepwise = Node()
    for entry in whole.read():
        stepwise.journal.append(entry)
        stepwise.view.catch_up()

    early = Node(MemoryJournal(list(whole.read(0, cut))))
    early.view.save_checkpoint()
    checkpoint = early.journal.checkpoint()
    later = MemoryJournal(list(whole.read()))
    if checkpoint is not None:
        later.save_checkpoint(checkpoint)
    resumed = Node(later)
    assert resumed.view.replayed == len(changes) + 1 - cut

    assert replayed.view.standing == stepwise.view.standing == resumed.view.standing
    assert encode_standing(replayed.view.standing) == encode_standing(resumed.view.standing)
    published = bodies(replayed.view.standing)
    assert published == bodies(resumed.view.standing)
    for subject in replayed.view.standing.live:
        for node in (replayed, stepwise, resumed):
            made = node.shelf.newest(subject)
            assert made is not None
            assert made.body == published[subject]


@given(_changes, st.data())
@SHORT
def test_every_way_to_a_revision_gives_the_same_bytes(
    changes: list[list[Edit]], data: st.DataObject
) -> None:
    check_agreement(changes, data.draw(st.integers(0, len(changes) + 1)))


@pytest.mark.long
@given(_changes, st.data())
@LONG
def test_every_way_to_a_revision_gives_the_same_bytes_at_length(
    changes: list[list[Edit]], data: st.DataObject
) -> None:
    check_agreement(changes, data.draw(st.integers(0, len(changes) + 1)))


@given(_changes)
@SHORT
def test_a_subject_that_nobody_touched_keeps_its_snapshot(changes: list[list[Edit]]) -> None:
    old: dict[Subject, bytes] = {}
    node = Node()
    for entry in journal_of(changes).read():
        node.journal.append(entry)
        node.view.catch_up()
        standing = node.view.standing
        now = bodies(standing)
        for subject, body in now.items():
            moved = standing.lineages[subject].revision == entry.revision
            assert moved == (old.get(subject) != body)
        old = {**old, **now}


def test_without_the_kept_lineage_a_restart_would_make_other_bytes() -> None:
    node = Node()
    node.commit(*SHOP)
    node.commit(PutSetting("shop", "tiles", setting(1)))
    standing = node.view.standing
    subject = Subject("production", "shop")
    kept = standing.lineages[subject]
    assert kept.previous is not None
    lineages = {one: lineage for one, lineage in standing.lineages.items() if one != subject}
    forgetful = Standing(standing.state, lineages, standing.live, standing.at_ms)
    entry = seal(standing.state.head, 1, "ann", "", [PutSetting("shop", "tiles", setting(2))])
    right, wrong = Node(node.journal), Node(node.journal)
    wrong.view.standing = forgetful
    digests = {one.view.prepare(entry).standing.lineages[subject].digest for one in (right, wrong)}
    assert len(digests) == 2


class TestStarting:
    def test_a_checkpoint_spares_the_replay(self) -> None:
        node = Node(checkpoint_entries=4)
        node.commit(*SHOP)
        for value in range(8):
            node.commit(PutSetting("shop", "tiles", setting(value)))
        assert Node(node.journal).view.replayed == 1
        node.view.close()
        assert Node(node.journal).view.replayed == 0

    def test_a_checkpoint_that_the_disk_refuses_is_counted_and_stops_nothing(self) -> None:
        node = Node(Hoarding(), checkpoint_entries=1)
        node.commit(*SHOP)
        node.commit(PutSetting("shop", "tiles", setting(1)))
        assert node.view.checkpoints_failed == 2
        assert node.view.state.head.revision == 2

    @pytest.mark.parametrize("body", [b"", b"{}", b'{"format":"holdfast.standing.v9"}'])
    def test_an_unusable_checkpoint_is_passed_over(self, body: bytes) -> None:
        node = Node()
        node.commit(*SHOP)
        node.journal.save_checkpoint(Checkpoint(1, body))
        again = Node(node.journal)
        assert again.view.replayed == 1
        assert again.view.standing == node.view.standing

    def test_a_checkpoint_of_another_journal_is_passed_over(self) -> None:
        other, node = Node(), Node()
        other.commit(PutEnvironment("elsewhere", Environment()))
        node.commit(*SHOP)
        node.journal.save_checkpoint(Checkpoint(1, encode_standing(other.view.standing)))
        assert Node(node.journal).view.standing == node.view.standing

    def test_a_standing_comes_back_as_it_was(self) -> None:
        node = Node()
        node.commit(*SHOP)
        body = encode_standing(node.view.standing)
        assert decode_standing(body) == node.view.standing
        with pytest.raises(Damaged):
            decode_standing(body[:-1])

    def test_an_entry_that_cannot_be_built_is_named(self) -> None:
        journal = MemoryJournal()
        rule = Rule(logic={"$ref": "nobody"}, serve="few")
        broken = Setting("integer", {"few": 1}, {"production": Targeting(rules=(rule,))})
        journal.append(seal(GENESIS, 1, "ann", "", [PutSetting("shop", "x", broken)]))
        with pytest.raises(Damaged, match="entry 1 was committed"):
            Node(journal)


class TestFollowing:
    def test_commits_of_another_node_come_by_themselves(self) -> None:
        journal = MemoryJournal()
        writer, reader = Node(journal), Node(journal)
        seen = threading.Event()
        reader.shelf.subscribe(lambda _: seen.set())
        reader.view.follow()
        writer.commit(*SHOP)
        assert seen.wait(DEADLINE_S)
        assert reader.shelf.newest(Subject("production", "shop")) is not None
        reader.view.close()
        writer.view.close()

    def test_what_keeps_it_from_following_is_told_and_passes(self) -> None:
        journal = Stuttering()
        view = View(journal, Clock(), watch_s=0.01)
        view.follow()
        journal.broken.set()
        wait_for(lambda: view.fault is not None)
        journal.broken.clear()
        wait_for(lambda: view.fault is None)
        view.close()

    def test_a_defect_of_ours_is_told_and_ends_no_thread(self) -> None:
        journal = Stuttering(ZeroDivisionError("ours"))
        view = View(journal, Clock(), watch_s=0.01)
        view.follow()
        journal.broken.set()
        wait_for(lambda: "ours" in str(view.fault))
        journal.broken.clear()
        wait_for(lambda: view.fault is None)
        view.close()

    def test_time_in_step_moves_on_while_nothing_is_written(self) -> None:
        clock = Clock()
        view = View(MemoryJournal(), clock, watch_s=0.01)
        started_s = view.current_s
        clock.now_s += 60
        view.follow()
        wait_for(lambda: view.current_s == started_s + 60)
        view.close()


class Hoarding(MemoryJournal):
    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        raise Unavailable("the disk is full")


class Stuttering(MemoryJournal):
    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.broken = threading.Event()
        self._error = error or Unavailable("the store does not answer")

    def watch(self, after: int, timeout_s: float) -> tuple[Entry, ...]:
        if self.broken.is_set():
            raise self._error
        return tuple(super().watch(after, timeout_s))


def wait_for(holds: Callable[[], bool]) -> None:
    """Wait until it holds; each look waits on an event that never comes."""
    never = threading.Event()
    for _ in range(int(DEADLINE_S / 0.01)):
        if holds():
            return
        never.wait(0.01)
    raise AssertionError("it did not come to hold")
