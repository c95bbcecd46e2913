"""Waiting changes as conversations: who may approve what, what voids it, what time does to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.engine.a_node import ADMIN, Node, setting

from holdfast.core.access import Grant
from holdfast.core.errors import Conflict, Forbidden, Guarded, Invalid, NotFound, Unavailable
from holdfast.core.model import (
    Approve,
    BreakGlass,
    Change,
    DeleteService,
    DeleteSetting,
    DeleteToken,
    Edit,
    Entry,
    Environment,
    MoveRollout,
    PutEnvironment,
    PutService,
    PutSetting,
    PutToken,
    Scope,
    Service,
    StartRollout,
    Token,
    Verb,
)
from holdfast.core.policies import FAST_STAGES, RING_STAGES, Freeze, Plan, Policy
from holdfast.engine.judgement import AUTOMATION, Mandate
from holdfast.engine.waiting import LATE_MAX_S, Waiting
from holdfast.ports import Proposal

GUARDED = Policy(approvals=1)
TILES = PutSetting("shop", "tiles", setting(1))


def grant(name: str, *verbs: Verb, environment: str = "*", service: str = "*") -> Grant:
    return Grant(f"{name}0", name, (Scope(verbs or ("write",), environment, service),))


ANN, BOB, CID = grant("ann"), grant("bob"), grant("cid")


class Office:
    """A node with a guarded production and a free lab, and people whose tokens it knows."""

    def __init__(self, policy: Policy = GUARDED, *people: Grant) -> None:
        self.node = Node()
        self.node.commit(
            PutEnvironment("production", Environment(policy=policy)),
            PutEnvironment("lab", Environment()),
            PutService("shop", Service()),
            *(put(person) for person in (*(people or (ANN, BOB, CID)), ADMIN)),
        )
        first = PutSetting("shop", "tiles", setting(9, "production"))
        self.node.publisher.commit(
            Change((first, PutSetting("shop", "toy", setting(9, "lab")))), "root", ADMIN, AUTOMATION
        )

    @property
    def waiting(self) -> Waiting:
        return self.node.waiting

    @property
    def now_s(self) -> float:
        return self.node.clock.now_s

    def propose(self, *edits: Edit, by: Grant = ANN) -> Proposal:
        return self.waiting.propose(Change(edits or (TILES,), "why"), by)

    def approve(self, proposal: Proposal, by: Grant) -> Proposal:
        return self.waiting.approve(proposal.proposal, by, proposal.digest)

    def revision(self) -> int:
        return self.node.journal.head().revision

    def entry(self) -> Sequence[Edit]:
        return self.node.records.entry(self.revision()).edits

    def value(self) -> Any:
        return self.node.view.state.services["shop"].settings["tiles"].setting.variants["few"]


def put(person: Grant, expires_s: int = 0) -> PutToken:
    return PutToken(person.token, Token(person.name, "0" * 64, person.scopes, expires_s))


def codes(error: pytest.ExceptionInfo[Any]) -> list[str]:
    return [problem.code for problem in error.value.problems]


def at_its_append(office: Office, do: Callable[[], object]) -> None:
    """Let somebody do something while the next commit is being written."""
    append = office.node.journal.append

    def meanwhile(entry: Entry, fence: int = 0) -> None:
        office.node.journal.append = append  # type: ignore[method-assign]
        do()
        append(entry, fence)

    office.node.journal.append = meanwhile  # type: ignore[method-assign]


@pytest.fixture
def office() -> Office:
    return Office()


class TestApprovals:
    def test_without_approval_nothing_is_committed_and_the_way_out_is_told(
        self, office: Office
    ) -> None:
        before = office.revision()
        with pytest.raises(Guarded) as caught:
            office.node.commit(TILES, grant=ANN)
        assert codes(caught) == ["approval-needed"]
        assert caught.value.code == "approval-needed"
        assert "holdfast change approve" in caught.value.problems[0].hint
        proposal = office.propose()
        with pytest.raises(Guarded):
            office.waiting.commit(proposal.proposal, ANN)
        assert office.waiting.get(proposal.proposal) == proposal
        assert office.revision() == before

    def test_with_the_policy_off_the_same_change_goes_through(self) -> None:
        office = Office(Policy())
        office.node.commit(TILES, grant=ANN)
        assert office.value() == 1

    def test_another_person_approves_and_the_journal_says_who(self, office: Office) -> None:
        proposal = office.propose()
        office.approve(proposal, BOB)
        done = office.waiting.commit(proposal.proposal, ANN)
        assert office.value() == 1
        assert Approve(proposal.digest, BOB.actor, int(office.now_s * 1000)) in office.entry()
        assert done.revision == office.revision()
        with pytest.raises(NotFound):
            office.waiting.get(proposal.proposal)

    def test_nobody_approves_their_own_not_with_another_token_either(self) -> None:
        twin = Grant("ann1", "ann", ANN.scopes)
        office = Office(GUARDED, ANN, BOB, twin)
        proposal = office.propose()
        for own in (ANN, twin):
            with pytest.raises(Forbidden, match="of their own"):
                office.approve(proposal, own)
        with pytest.raises(Guarded):
            office.waiting.commit(proposal.proposal, BOB)

    def test_one_person_with_two_tokens_is_one_approval(self) -> None:
        twin = Grant("bob1", "bob", BOB.scopes)
        office = Office(Policy(approvals=2), ANN, BOB, CID, twin)
        proposal = office.propose()
        for each in (BOB, twin, BOB):
            office.approve(proposal, each)
        with pytest.raises(Guarded, match="2 approvals by others than the author; it has 1"):
            office.waiting.commit(proposal.proposal, ANN)
        office.approve(proposal, CID)
        office.waiting.commit(proposal.proposal, ANN)

    @pytest.mark.parametrize(
        "lacking",
        [
            grant("bob", "read"),
            grant("bob", environment="lab"),
            grant("bob", service="mail"),
        ],
    )
    def test_who_could_not_write_it_can_not_approve_it(self, lacking: Grant) -> None:
        office = Office(GUARDED, ANN, lacking)
        proposal = office.propose()
        with pytest.raises(Forbidden):
            office.approve(proposal, lacking)

    def test_an_approval_goes_with_the_right_to_give_it(self, office: Office) -> None:
        proposal = office.propose()
        office.approve(proposal, BOB)
        office.node.commit(DeleteToken(BOB.token))
        with pytest.raises(Guarded):
            office.waiting.commit(proposal.proposal, ANN)

    def test_and_with_the_time_of_the_token(self) -> None:
        office = Office()
        office.node.commit(put(BOB, int(office.now_s) + 60))
        proposal = office.propose()
        office.approve(proposal, BOB)
        office.node.clock.now_s += 60
        with pytest.raises(Guarded):
            office.waiting.commit(proposal.proposal, ANN)

    def test_what_was_looked_at_is_what_is_approved(self, office: Office) -> None:
        proposal = office.propose()
        with pytest.raises(Invalid) as caught:
            office.waiting.approve(proposal.proposal, BOB, "0" * 64)
        assert codes(caught) == ["another-change"]
        with pytest.raises(Invalid):
            office.waiting.commit(proposal.proposal, ANN, "0" * 64)

    def test_an_edit_voids_what_was_said(self, office: Office) -> None:
        proposal = office.propose()
        office.approve(proposal, BOB)
        other = Change((PutSetting("shop", "tiles", setting(2)),), "why")
        with pytest.raises(Forbidden, match="only its author"):
            office.waiting.revise(proposal.proposal, other, BOB)
        revised = office.waiting.revise(proposal.proposal, other, ANN)
        assert revised.digest != proposal.digest
        with pytest.raises(Guarded):
            office.waiting.commit(proposal.proposal, ANN)
        office.approve(revised, BOB)
        office.waiting.commit(proposal.proposal, ANN)
        assert office.value() == 2

    def test_a_change_smuggled_under_an_approved_digest_has_no_approvals(
        self, office: Office
    ) -> None:
        proposal = office.propose()
        approved = office.approve(proposal, BOB)
        other = Change((PutSetting("shop", "tiles", setting(2)),), "why")
        with pytest.raises(Guarded):
            office.node.publisher.commit(other, "ann", ANN, Mandate(proposal=approved))

    def test_a_commit_that_touched_the_same_voids_it_also_when_undone(self, office: Office) -> None:
        proposal = office.propose()
        office.approve(proposal, BOB)
        for value in (5, 9):
            edit = PutSetting("shop", "tiles", setting(value, "production"))
            office.node.publisher.commit(Change((edit,)), "root", ADMIN, AUTOMATION)
        with pytest.raises(Conflict):
            office.waiting.commit(proposal.proposal, ANN)
        with pytest.raises(Conflict):
            office.approve(proposal, CID)
        problems = office.waiting.look(proposal.proposal).problems
        assert "outdated" in [problem.code for problem in problems]

    def test_a_commit_of_something_else_does_not(self, office: Office) -> None:
        proposal = office.propose()
        office.approve(proposal, BOB)
        office.node.commit(PutSetting("shop", "toy", setting(1, "lab")), grant=ANN)
        office.waiting.commit(proposal.proposal, ANN)
        assert office.value() == 1

    def test_a_rejected_change_is_not_committed_until_it_is_edited(self, office: Office) -> None:
        proposal = office.propose()
        office.approve(proposal, BOB)
        office.waiting.reject(proposal.proposal, CID, "too few")
        with pytest.raises(Invalid, match="too few"):
            office.waiting.commit(proposal.proposal, ANN)
        with pytest.raises(Invalid):
            office.approve(proposal, BOB)
        revised = office.waiting.revise(proposal.proposal, Change((TILES,), "once more"), ANN)
        office.approve(revised, BOB)
        office.waiting.commit(proposal.proposal, ANN)

    def test_the_most_demanding_environment_decides(self) -> None:
        office = Office(Policy(approvals=2))
        lab = PutSetting("shop", "toy", setting(1, "lab"))
        office.node.commit(lab, grant=ANN)
        proposal = office.propose(TILES, PutSetting("shop", "toy", setting(2, "lab")))
        office.approve(proposal, BOB)
        with pytest.raises(Guarded, match="production"):
            office.waiting.commit(proposal.proposal, ANN)

    def test_a_description_of_what_stands_in_production_is_production_s(
        self, office: Office
    ) -> None:
        described = setting(9, "production", description="how many")
        with pytest.raises(Guarded):
            office.node.commit(PutSetting("shop", "tiles", described), grant=ANN)

    def test_a_policy_is_weakened_only_as_it_allows_itself(self, office: Office) -> None:
        free = PutEnvironment("production", Environment(policy=Policy()))
        with pytest.raises(Guarded):
            office.node.commit(free)
        with pytest.raises(Guarded):
            office.node.commit(free, TILES)

    def test_a_lost_answer_is_no_second_commit(self, office: Office) -> None:
        proposal = office.propose()
        office.approve(proposal, BOB)
        office.waiting.commit(proposal.proposal, ANN)
        kept = msgspec.structs.replace(proposal)
        office.node.proposals.put(kept)  # as if its end had been lost
        revision = office.revision()
        done = office.waiting.commit(proposal.proposal, ANN)
        assert (done.revision, done.differences) == (revision, ())

    def test_what_its_author_put_in_its_place_outlives_the_commit(self, office: Office) -> None:
        proposal = office.propose()
        office.approve(proposal, BOB)
        other = Change((PutSetting("shop", "tiles", setting(2)),), "why")
        at_its_append(office, lambda: office.waiting.revise(proposal.proposal, other, ANN))
        office.waiting.commit(proposal.proposal, ANN)
        assert office.value() == 1
        revised = office.waiting.get(proposal.proposal)
        assert (revised.digest == proposal.digest, revised.approvals) == (False, ())
        with pytest.raises(Invalid, match=revised.digest):
            office.waiting.drop(proposal)
        office.waiting.drop(revised)
        with pytest.raises(NotFound):
            office.waiting.drop(revised)

    def test_what_is_said_of_it_in_that_moment_does_not_keep_it(self, office: Office) -> None:
        proposal = office.propose()
        office.approve(proposal, BOB)
        at_its_append(office, lambda: office.approve(proposal, CID))
        office.waiting.commit(proposal.proposal, ANN)
        with pytest.raises(NotFound):
            office.waiting.get(proposal.proposal)

    def test_a_commit_that_fails_keeps_the_proposal_and_its_approvals(self) -> None:
        office = Office()
        approved = office.approve(office.propose(), BOB)
        append = office.node.journal.append

        def refuse(_entry: object, _fence: int) -> None:
            raise Unavailable("the disk is full")

        office.node.journal.append = refuse  # type: ignore[method-assign, assignment]
        with pytest.raises(Unavailable):
            office.waiting.commit(approved.proposal, ANN)
        assert office.waiting.get(approved.proposal) == approved
        office.node.journal.append = append  # type: ignore[method-assign]
        office.waiting.commit(approved.proposal, ANN)


class TestDeleting:
    MANY = tuple(PutSetting("shop", f"key-{n}", setting(n, "lab")) for n in range(20))

    def test_a_script_that_deletes_half_of_all_settings_is_refused(self, office: Office) -> None:
        office.node.commit(*self.MANY)
        half = tuple(DeleteSetting("shop", f"key-{n}") for n in range(10))
        with pytest.raises(Guarded, match="more than 5 %"):
            office.node.commit(*half)
        with pytest.raises(Guarded, match="the service shop"):
            Office(Policy()).node.commit(DeleteService("shop"))
        proposal = office.propose(*half)
        office.approve(proposal, BOB)
        office.waiting.commit(proposal.proposal, ANN)
        assert "key-3" not in office.node.view.state.services["shop"].settings

    def test_taking_the_environment_away_is_deleting(self) -> None:
        office = Office(Policy())
        office.node.commit(*self.MANY)
        moved = [PutSetting("shop", f"key-{n}", setting(n, "production")) for n in range(10)]
        with pytest.raises(Guarded, match="to delete 10 of 21 settings of shop"):
            office.node.commit(*moved)

    def test_dropping_an_include_is_deleting(self) -> None:
        office = Office(Policy())
        office.node.commit(PutService("mail", Service(includes=("shop",))))
        office.node.commit(
            *(PutSetting("shop", f"p-{n}", setting(n, "production")) for n in range(3))
        )
        with pytest.raises(Guarded, match="settings of mail"):
            office.node.commit(PutService("mail", Service()))

    def test_deleting_one_by_one_is_deleting_many(self) -> None:
        office = Office(Policy())
        office.node.commit(*(PutSetting("shop", f"x{n}", setting(n, "lab")) for n in range(59)))
        for number in range(3):  # 5 % of 60 settings
            office.node.commit(DeleteSetting("shop", f"x{number}"))
            office.node.clock.now_s += 10
        with pytest.raises(Guarded, match="to delete 4 of 60 settings of shop"):
            office.node.commit(DeleteSetting("shop", "x3"))
        proposal = office.propose(DeleteSetting("shop", "x3"))
        office.approve(proposal, BOB)
        office.waiting.commit(proposal.proposal, ANN)
        office.node.clock.now_s += 3_600
        office.node.commit(DeleteSetting("shop", "x4"))

    def test_what_came_back_does_not_count(self) -> None:
        office = Office(Policy())
        for _ in range(5):
            office.node.commit(DeleteSetting("shop", "toy"))
            office.node.commit(PutSetting("shop", "toy", setting(1, "lab")))

    def test_one_setting_may_go_and_the_rule_can_be_switched_off(self) -> None:
        office = Office(Policy())
        office.node.commit(DeleteSetting("shop", "toy"))
        free = Office(Policy(deletion_percent=100))
        free.node.commit(PutEnvironment("lab", Environment(policy=Policy(deletion_percent=100))))
        free.node.commit(DeleteService("shop"))


class TestCapsAndFreezes:
    def test_more_settings_than_the_cap_are_refused_with_break_glass_too(self) -> None:
        office = Office(Policy(settings_max=2))
        three = tuple(PutSetting("shop", f"k{n}", setting(n, "production")) for n in range(3))
        for reason in ("", "the shop is down"):
            with pytest.raises(Invalid) as caught:
                office.node.publisher.commit(
                    Change(three), "ann", ADMIN, Mandate(break_glass=reason)
                )
            assert "too-many-settings" in codes(caught)
        office.node.commit(*three[:2])

    def test_a_share_of_traffic_is_capped_where_it_is_known(self) -> None:
        office = Office(Policy(traffic_percent_max=10))
        checked = office.node.publisher.check(Change((TILES,)))
        assert [one.code for one in checked.problems] == ["traffic-unknown"]
        office.node.publisher._traffic_share = lambda _old, _new, _environment: 10.5
        with pytest.raises(Invalid, match="too-much-traffic"):
            office.node.commit(TILES)
        office.node.publisher._traffic_share = lambda _old, _new, _environment: 9.5
        office.node.commit(TILES)

    def test_nothing_changes_in_a_freeze_and_everything_after_it(self) -> None:
        now = 1_700_000_000
        office = Office(Policy(freezes=(Freeze(now - 10, now + 60, "sales"),)))
        with pytest.raises(Guarded, match="until 2023-11-14 22:14:20 UTC"):
            office.node.commit(TILES)
        office.node.commit(PutSetting("shop", "toy", setting(1, "lab")))
        proposal = office.propose()
        office.node.clock.now_s += 60
        office.waiting.commit(proposal.proposal, ANN)

    @pytest.mark.parametrize(
        "policy",
        [
            Policy(approvals=-1),
            Policy(traffic_percent_max=float("inf")),
            Policy(deletion_percent=101),
            Policy(break_glass_s=3_601),
            Policy(freezes=(Freeze(2, 1),)),
            Policy(freezes=(Freeze(1, 2**40),)),
        ],
    )
    def test_a_policy_out_of_range_is_refused(self, policy: Policy) -> None:
        with pytest.raises(Invalid):
            Node().commit(PutEnvironment("production", Environment(policy=policy)))


class TestBreakGlass:
    FIRE = Mandate(break_glass="the shop is down")

    def test_it_skips_approval_and_freeze_and_is_on_record(self) -> None:
        office = Office()
        freeze = Freeze(0, 1_700_000_000 + 9_999)
        policy = Policy(approvals=2, freezes=(freeze,), break_glass_s=600)
        office.node.publisher.commit(
            Change((PutEnvironment("production", Environment(policy=policy)),)),
            "root",
            ADMIN,
            AUTOMATION,
        )
        done = office.node.publisher.commit(Change((TILES,)), "ann", ANN, self.FIRE)
        broken = BreakGlass("production", "the shop is down", int(office.now_s) + 600)
        assert done.broken == (broken,)
        assert broken in office.entry()
        office.node.clock.now_s += 100
        more = office.node.publisher.commit(
            Change((PutSetting("shop", "tiles", setting(2)),)), "ann", ANN, self.FIRE
        )
        assert more.broken[0].until_s == broken.until_s, "one more change lengthens nothing"

    def test_it_skips_no_validation(self, office: Office) -> None:
        wrong = Change((PutSetting("shop", "tiles", setting("nine")),))
        with pytest.raises(Invalid):
            office.node.publisher.commit(wrong, "ann", ANN, self.FIRE)

    def test_it_can_not_change_a_policy_nor_be_without_a_reason(self, office: Office) -> None:
        free = Change((PutEnvironment("production", Environment(policy=Policy())),))
        with pytest.raises(Invalid, match="break-glass-policy"):
            office.node.publisher.commit(free, "root", ADMIN, self.FIRE)
        with pytest.raises(Invalid, match="break-glass-reason"):
            office.node.publisher.commit(Change((TILES,)), "ann", ANN, Mandate(break_glass="  "))

    def test_where_the_policy_has_none_it_breaks_nothing(self) -> None:
        office = Office(Policy(approvals=1, break_glass_s=0))
        with pytest.raises(Guarded, match="lets nobody break"):
            office.node.publisher.commit(Change((TILES,)), "ann", ANN, self.FIRE)

    def test_where_there_is_nothing_to_skip_none_is_broken(self, office: Office) -> None:
        toy = Change((PutSetting("shop", "toy", setting(1, "lab")),))
        done = office.node.publisher.commit(toy, "ann", ANN, self.FIRE)
        assert [problem.code for problem in done.problems] == ["glass-whole"]
        assert done.broken == ()

    def test_it_goes_the_fast_way_and_that_begins_at_the_first_ring(self) -> None:
        plan, fast = Plan(RING_STAGES), Plan(FAST_STAGES)
        office = Office(Policy(rollout=plan, fast=fast))
        office.node.commit(TILES)
        assert StartRollout("production", plan) in office.entry()
        office = Office(Policy(rollout=plan, fast=fast))
        office.node.publisher.commit(Change((TILES,)), "ann", ANN, self.FIRE)
        assert StartRollout("production", fast) in office.entry()


class TestReserved:
    @pytest.mark.parametrize(
        "edit",
        [
            Approve("0" * 64, "bob", 1),
            BreakGlass("production", "why", 1),
            MoveRollout("production.1", 1, "completed"),
        ],
    )
    def test_what_only_the_door_writes_no_author_writes(self, office: Office, edit: Edit) -> None:
        with pytest.raises(Invalid, match="reserved-edit"):
            office.node.commit(PutSetting("shop", "toy", setting(1, "lab")), edit)

    def test_a_plan_by_hand_only_where_the_policy_has_none(self) -> None:
        plan = Plan(FAST_STAGES)
        office = Office(Policy(rollout=Plan(RING_STAGES)))
        with pytest.raises(Invalid, match="reserved-edit"):
            office.node.commit(TILES, StartRollout("production", plan))
        office = Office(Policy())
        office.node.commit(TILES, StartRollout("production", plan))
        assert StartRollout("production", plan) in office.entry()


class TestSchedules:
    def due(self, office: Office, after_s: float = 100) -> Any:
        office.node.clock.now_s += after_s
        return office.waiting.run_due()

    def scheduled(self, office: Office, *, approved: bool = True) -> str:
        proposal = office.propose()
        if approved:
            office.approve(proposal, BOB)
        office.waiting.schedule(proposal.proposal, ANN, int(office.now_s) + 100)
        return proposal.proposal

    def test_it_is_committed_when_its_time_has_come(self, office: Office) -> None:
        name = self.scheduled(office)
        assert self.due(office, 99) == ()
        (ran,) = self.due(office, 1)
        assert ran.committed is not None
        assert office.value() == 1
        assert office.node.records.entry(office.revision()).actor == ANN.actor
        with pytest.raises(NotFound):
            office.waiting.get(name)

    @pytest.mark.parametrize(
        ("happens", "code"),
        [
            ("nobody approved", "approval-needed"),
            ("approver went", "approval-needed"),
            ("author went", "unauthenticated"),
            ("touched", "conflict"),
            ("freeze", "frozen"),
            ("long outage", "missed"),
        ],
    )
    def test_it_is_checked_again_and_a_failure_is_kept(
        self, office: Office, happens: str, code: str
    ) -> None:
        name = self.scheduled(office, approved=happens != "nobody approved")
        automation = office.node.publisher
        match happens:
            case "approver went":
                office.node.commit(DeleteToken(BOB.token))
            case "author went":
                office.node.commit(DeleteToken(ANN.token))
            case "touched":
                edit = PutSetting("shop", "tiles", setting(5, "production"))
                automation.commit(Change((edit,)), "root", ADMIN, AUTOMATION)
            case "freeze":
                policy = Policy(approvals=1, freezes=(Freeze(0, 2**33),))
                edits = (PutEnvironment("production", Environment(policy=policy)),)
                automation.commit(Change(edits), "root", ADMIN, AUTOMATION)
        before = office.revision()
        (ran,) = self.due(office, 101 + LATE_MAX_S if happens == "long outage" else 100)
        assert ran.failure is not None
        assert ran.failure.code == code
        assert office.revision() == before
        kept = office.waiting.get(name)
        assert (kept.failure, kept.schedule) == (ran.failure, None)
        assert office.waiting.run_due() == ()

    def test_a_time_missed_by_little_runs_late(self, office: Office) -> None:
        self.scheduled(office)
        (ran,) = self.due(office, 100 + LATE_MAX_S)
        assert ran.committed is not None

    def test_a_journal_that_does_not_answer_is_tried_again(self, office: Office) -> None:
        self.scheduled(office)
        append = office.node.journal.append

        def refuse(_entry: object, _fence: int) -> None:
            raise Unavailable("the disk is full")

        office.node.journal.append = refuse  # type: ignore[method-assign, assignment]
        (ran,) = self.due(office)
        assert (ran.committed, ran.failure) == (None, None)
        office.node.journal.append = append  # type: ignore[method-assign]
        (ran,) = self.due(office, 1)
        assert ran.committed is not None

    def test_times_have_bounds_and_can_be_taken_back(self, office: Office) -> None:
        name = self.scheduled(office)
        for at_s in (1, int(office.now_s) + 400 * 86_400):
            with pytest.raises(Invalid):
                office.waiting.schedule(name, ANN, at_s)
        with pytest.raises(Forbidden):
            office.waiting.schedule(name, grant("eve", "read"), int(office.now_s) + 9)
        office.waiting.schedule(name, ANN, 0)
        assert self.due(office) == ()


PEOPLE = tuple(grant(f"p{n}") for n in range(4))
NEEDED = 2
people = st.sampled_from(PEOPLE)
numbers = st.integers(0, 3)


class Guard(RuleBasedStateMachine):
    """Whatever k tokens try, nothing is committed to production without enough others' word.

    The model keeps, per waiting change, who wrote its present form and who vouched for it.
    """

    @initialize()
    def begin(self) -> None:
        self.office = Office(Policy(approvals=NEEDED), *PEOPLE)
        self.names: list[str] = []
        self.vouched: dict[str, set[str]] = {}
        self.author: dict[str, str] = {}
        self.base = self.office.revision()
        self.turn = 0

    def change(self, number: int) -> Change:
        self.turn += 1
        edit = PutSetting("shop", f"k{number}", setting(self.turn, "production"))
        return Change((edit,), f"turn {self.turn}")

    def any_name(self, number: int) -> str:
        return self.names[number % len(self.names)] if self.names else "none"

    def tried(self, what: Any, *arguments: Any) -> Any:
        try:
            return what(*arguments)
        except (Forbidden, Invalid, Conflict, NotFound):
            return None

    @rule(who=people, number=numbers)
    def propose(self, who: Grant, number: int) -> None:
        kept = self.office.waiting.propose(self.change(number), who)
        self.names.append(kept.proposal)
        self.vouched[kept.proposal], self.author[kept.proposal] = set(), who.name

    @rule(who=people, number=numbers, which=numbers)
    def revise(self, who: Grant, number: int, which: int) -> None:
        name = self.any_name(which)
        if self.tried(self.office.waiting.revise, name, self.change(number), who):
            assert self.author[name] == who.name
            self.vouched[name] = set()

    @rule(who=people, which=numbers)
    def approve(self, who: Grant, which: int) -> None:
        name = self.any_name(which)
        kept = self.tried(self.office.waiting.get, name)
        if kept and self.tried(self.office.waiting.approve, name, who, kept.digest):
            self.vouched[name].add(who.name)

    @rule(who=people, which=numbers)
    def reject(self, who: Grant, which: int) -> None:
        self.tried(self.office.waiting.reject, self.any_name(which), who, "no")

    @rule(who=people, which=numbers)
    def commit(self, who: Grant, which: int) -> None:
        self.settle(self.any_name(which), who)

    def settle(self, name: str, who: Grant) -> None:
        before = self.office.revision()
        self.tried(self.office.waiting.commit, name, who)
        if self.office.revision() > before:
            assert len(self.vouched[name] - {self.author[name]}) >= NEEDED

    @rule(who=people, number=numbers)
    def commit_past_the_proposals(self, who: Grant, number: int) -> None:
        assert not self.tried(self.office.node.publisher.commit, self.change(number), "x", who)

    @rule(which=numbers, person=people, number=numbers)
    def commit_another_under_its_name(self, which: int, person: Grant, number: int) -> None:
        kept = self.tried(self.office.waiting.get, self.any_name(which))
        if kept:
            mandate = Mandate(proposal=kept)
            door = self.office.node.publisher
            assert not self.tried(door.commit, self.change(number), "x", person, mandate)

    @rule(which=numbers, who=people)
    def let_time_come(self, which: int, who: Grant) -> None:
        name = self.any_name(which)
        soon = int(self.office.now_s) + 5
        self.tried(self.office.waiting.schedule, name, who, soon)
        self.office.node.clock.now_s += 10
        for ran in self.office.waiting.run_due():
            if ran.committed is not None:
                assert len(self.vouched[ran.proposal] - {self.author[ran.proposal]}) >= NEEDED

    @invariant()
    def every_entry_names_enough_others(self) -> None:
        for entry in self.office.node.journal.read(self.base):
            given = {edit.actor for edit in entry.edits if isinstance(edit, Approve)}
            assert len(given) >= NEEDED
        self.base = self.office.revision()


Guard.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestGuard = Guard.TestCase
