"""The write door: what comes through, what is refused, and that nothing comes through halfway."""

from __future__ import annotations

import threading

import msgspec
import pytest
from tests.engine.a_node import ADMIN, FREE, Clock, Node, setting

from holdfast.adapters.memory import MemoryJournal
from holdfast.core import limits
from holdfast.core.access import Grant
from holdfast.core.errors import Conflict, Forbidden, Invalid, Problem, Unavailable
from holdfast.core.model import (
    Change,
    DeleteService,
    DeleteSetting,
    DeleteToken,
    Edit,
    Entry,
    Environment,
    Head,
    PutEnvironment,
    PutService,
    PutSetting,
    PutToken,
    Rule,
    Scope,
    Service,
    Subject,
    Targeting,
    Token,
    Verb,
)

DEADLINE_S = 20.0
SHOP = (
    PutEnvironment("production", FREE),
    PutEnvironment("staging", FREE),
    PutService("shop", Service()),
    PutSetting("shop", "tiles", setting(9, "production", "staging")),
)


def grant(*verbs: Verb, environment: str = "*", service: str = "*") -> Grant:
    return Grant("t", "t", (Scope(verbs, environment, service),))


class TestCommitting:
    def test_a_commit_says_what_it_did(self, node: Node) -> None:
        node.commit(*SHOP)
        done = node.commit(PutSetting("shop", "tiles", setting(8, "production", "staging")))

        assert done.revision == 2
        assert done.hash == node.journal.head().hash
        assert [(one.service, one.name, one.environments) for one in done.differences] == [
            ("shop", "tiles", ("production", "staging"))
        ]
        assert done.differences[0].summary == "/variants/few 9 -> 8"
        assert [(one.subject, one.revision) for one in done.subjects] == [
            (Subject("production", "shop"), 2),
            (Subject("staging", "shop"), 2),
        ]

    def test_a_commit_is_seen_by_the_view_and_the_shelf_at_once(self, node: Node) -> None:
        done = node.commit(*SHOP)
        assert node.view.state.head == Head(done.revision, done.hash)
        for made in done.subjects:
            published = node.shelf.newest(made.subject)
            assert published is not None
            assert (published.revision, published.digest) == (made.revision, made.digest)

    def test_a_change_over_several_services_is_one_entry(self, node: Node) -> None:
        node.commit(*SHOP, PutService("mail", Service()), PutSetting("mail", "size", setting()))
        assert [entry.revision for entry in node.journal.read()] == [1]

    def test_what_differs_in_nothing_commits_nothing_and_says_so(self, node: Node) -> None:
        first = node.commit(*SHOP)
        again = node.commit(*SHOP)
        assert again.differences == ()
        assert (again.revision, again.hash) == (first.revision, first.hash)
        assert node.journal.head().revision == 1

    def test_time_never_goes_back_in_the_journal(self) -> None:
        clock = Clock()
        node = Node(clock=clock)
        node.commit(*SHOP)
        clock.now_s -= 3_600
        node.commit(PutSetting("shop", "tiles", setting(1)))
        restarted = Node(node.journal, clock=clock)
        restarted.commit(PutSetting("shop", "tiles", setting(2)))
        assert [entry.at_ms for entry in node.journal.read()] == [1_700_000_000_000] * 3

    def test_who_and_why_stand_in_the_entry(self, node: Node) -> None:
        node.publisher.commit(Change(SHOP, "a new shop"), "ann", ADMIN)
        entry = node.records.entry(1)
        assert (entry.actor, entry.reason) == ("ann", "a new shop")


class TestConflicts:
    def test_an_old_base_is_a_conflict_with_both_revisions(self, node: Node) -> None:
        node.commit(*SHOP)
        node.commit(PutSetting("shop", "tiles", setting(1)))
        with pytest.raises(Conflict) as caught:
            node.commit(PutSetting("shop", "other", setting()), base=1)
        assert (caught.value.expected_revision, caught.value.actual_revision) == (1, 2)
        with pytest.raises(Conflict):
            node.publisher.check(Change((DeleteSetting("shop", "tiles"),), base_revision=1))
        with pytest.raises(Conflict):
            node.commit(PutSetting("shop", "other", setting()), base=7)
        assert node.journal.head().revision == 2

    def test_of_two_writers_on_one_revision_one_wins(self) -> None:
        journal = MemoryJournal()
        nodes = [Node(journal), Node(journal)]
        nodes[0].commit(*SHOP)
        ready, outcomes = threading.Barrier(4), []

        def write(number: int) -> None:
            ready.wait(DEADLINE_S)
            try:
                nodes[number % 2].commit(PutSetting("shop", "tiles", setting(number)), base=1)
                outcomes.append("won")
            except Conflict:
                outcomes.append("lost")

        in_threads(write)
        assert sorted(outcomes) == ["lost", "lost", "lost", "won"]
        assert journal.head().revision == 2

    def test_writers_without_a_base_all_come_through(self) -> None:
        journal = MemoryJournal()
        nodes = [Node(journal), Node(journal)]
        nodes[0].commit(*SHOP)

        def write(number: int) -> None:
            for turn in range(5):
                nodes[number % 2].commit(PutSetting("shop", f"k{number}-{turn}", setting()))

        in_threads(write)
        for node in nodes:
            node.view.catch_up()
            assert node.view.state.head.revision == 21
            assert len(node.view.state.services["shop"].settings) == 21
        assert nodes[0].view.standing == nodes[1].view.standing


class TestRefusals:
    @pytest.mark.parametrize(
        "edit",
        [
            PutSetting("shop", "a/b", setting()),
            PutSetting("shop", "tiles", setting("nine")),
            PutSetting("shop", "tiles", setting(float("nan"))),
            PutSetting("shop", "tiles", setting(2**60)),
            PutSetting("shop", "tiles", setting("\ud800")),
            PutSetting("shop", "tiles", setting(1, "nowhere")),
            PutService("mail", Service(includes=("nowhere",))),
        ],
    )
    def test_what_is_wrong_is_refused_with_its_problems_and_changes_nothing(
        self, node: Node, edit: Edit
    ) -> None:
        node.commit(*SHOP)
        before = node.view.standing
        checked = node.publisher.check(Change((edit,)))
        assert not checked.ok
        with pytest.raises(Invalid) as caught:
            node.commit(edit)
        assert caught.value.problems
        assert node.view.standing is before
        assert node.journal.head().revision == 1

    def test_what_is_nested_too_deep_is_refused(self, node: Node) -> None:
        value: object = 1
        for _ in range(1_000):
            value = [value]
        with pytest.raises(Invalid):
            node.commit(*SHOP, PutSetting("shop", "deep", setting(value)))
        assert node.journal.head().revision == 0

    def test_what_cannot_be_built_is_never_appended(self, node: Node) -> None:
        node.commit(*SHOP)
        node.publisher._validate = no_problems
        rule = Rule(logic={"$ref": "nobody"}, serve="many")
        targeting = {"production": Targeting("few", rules=(rule,))}
        broken = msgspec.structs.replace(setting(), environments=targeting)
        with pytest.raises(Invalid):
            node.commit(PutSetting("shop", "tiles", broken))
        assert node.journal.head().revision == 1

    def test_a_change_has_bounds(self, node: Node) -> None:
        many = tuple(DeleteSetting("shop", "x") for _ in range(limits.EDITS_MAX + 1))
        wordy = Change(SHOP, "x" * (limits.TEXT_CHARS_MAX + 1))
        for change, code in ((Change(many), "too-many-edits"), (wordy, "too-long")):
            assert [one.code for one in node.publisher.check(change).problems] == [code]
            with pytest.raises(Invalid):
                node.publisher.commit(change, "ann", ADMIN)

    def test_a_journal_that_cannot_write_leaves_the_view_as_it_was(self) -> None:
        node = Node(Refusing())
        with pytest.raises(Unavailable):
            node.commit(*SHOP)
        assert node.view.state.head.revision == 0

    def test_an_entry_that_was_written_after_all_counts(self) -> None:
        node = Node(WritingAndThenRefusing())
        assert node.commit(*SHOP).revision == 1
        assert node.view.state.head == node.journal.head()

    def test_an_entry_that_another_node_brought_in_meanwhile_counts(self) -> None:
        """One push, handed to two nodes at once."""
        there = Node()
        there.commit(*SHOP)
        made = there.commit(PutSetting("shop", "tiles", setting(8, "production", "staging")))
        *before, entry = there.journal.read()
        journal = BroughtInByAnother(before)
        node = Node(journal)
        journal.meanwhile = True
        digests = {one.subject: one.digest for one in made.subjects}
        assert node.publisher.adopt(entry, ADMIN, digests).hash == entry.hash
        assert node.view.state.head == node.journal.head() == there.journal.head()


class TestRights:
    @pytest.mark.parametrize(
        ("edit", "enough", "lacking"),
        [
            (
                PutSetting("shop", "tiles", setting(8, "production", "staging")),
                grant("write", service="shop"),
                grant("write", environment="staging"),
            ),
            (
                PutSetting("shop", "only", setting(8, "staging")),
                grant("write", environment="staging", service="shop"),
                grant("write", environment="production"),
            ),
            (
                PutService("shop", Service(description="more")),
                grant("write", environment="staging", service="shop"),
                grant("read"),
            ),
            (DeleteService("shop"), grant("write"), grant("write", environment="production")),
            (PutEnvironment("test", Environment()), grant("admin"), grant("write")),
            (
                PutToken("a1", Token("ci", "0" * 64, (Scope(("read",), "staging"),))),
                grant("admin", environment="staging"),
                grant("admin", environment="production"),
            ),
        ],
    )
    def test_a_change_takes_rights_where_it_may_move_answers(
        self, node: Node, edit: Edit, enough: Grant, lacking: Grant
    ) -> None:
        node.commit(*SHOP)
        with pytest.raises(Forbidden):
            node.commit(edit, grant=lacking)
        assert node.journal.head().revision == 1
        assert node.commit(edit, grant=enough).revision == 2

    def test_a_token_can_only_be_revoked_by_who_could_have_given_it(self, node: Node) -> None:
        node.commit(*SHOP, PutToken("a1", Token("ci", "0" * 64, (Scope(("read",)),))))
        with pytest.raises(Forbidden):
            node.commit(DeleteToken("a1"), grant=grant("admin", environment="staging"))
        assert node.commit(DeleteToken("a1")).revision == 2


def no_problems(*_: object) -> list[Problem]:
    return []


class Refusing(MemoryJournal):
    def append(self, entry: Entry, fence: int = 0) -> None:
        raise Unavailable("the disk is full")


class WritingAndThenRefusing(MemoryJournal):
    def append(self, entry: Entry, fence: int = 0) -> None:
        super().append(entry, fence)
        raise Unavailable("the answer got lost")


class BroughtInByAnother(MemoryJournal):
    """With `meanwhile`, another node appends the same entry a moment before."""

    meanwhile = False

    def append(self, entry: Entry, fence: int = 0) -> None:
        super().append(entry, fence)
        if self.meanwhile:
            raise Conflict(entry.revision - 1, entry.revision)


def in_threads(work: object) -> None:
    started = [threading.Thread(target=work, args=(number,)) for number in range(4)]  # type: ignore[arg-type]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
