"""Rollouts by conversation: what consumers tell, and what the automation commits about it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from tests.engine.a_node import ADMIN, Clock, Node, setting

from holdfast.core import limits
from holdfast.core.access import Grant
from holdfast.core.errors import Fenced, Forbidden, Invalid, NotFound, Unavailable
from holdfast.core.model import Environment, PutEnvironment, PutService, PutSetting, Scope, Service
from holdfast.core.policies import FAST_STAGES, Gates, Plan, Policy, Stage
from holdfast.core.reports import ConsumerReport, Outcomes, Refusal
from holdfast.engine import advance as module
from holdfast.engine.advance import Advance, Moved
from holdfast.engine.fleet import Fleet

STAGES = (
    Stage("first", ("ring0",), bake_s=60),
    Stage("half", percent=50, bake_s=60),
    Stage("all", percent=100, bake_s=10),
)


class Rollout:
    """A node whose environment rolls changes out, one change under way, and its consumers."""

    def __init__(self, **gates: Any) -> None:
        self.clock = Clock()
        self.node = Node(clock=self.clock)
        self.node.commit(
            PutEnvironment("production", Environment()),
            PutService("shop", Service()),
            PutSetting("shop", "tiles", setting(9)),
        )
        policy = Policy(rollout=Plan(STAGES, gates=Gates(**gates)))
        self.node.commit(PutEnvironment("production", Environment(policy=policy)))
        committed = self.node.commit(PutSetting("shop", "tiles", setting(12)))
        self.id = f"production.{committed.revision}"
        self.answers: list[float | None] = []
        self.start()
        self._sequences: dict[str, int] = {}
        self._sums: dict[str, dict[tuple[int, bool], list[int]]] = {}

    def start(self, fence: Callable[[], int] = lambda: 0) -> None:
        """As a control plane starts: nothing but the journal is known."""
        view = self.node.view
        self.fleet = Fleet(self.clock, lambda: view.state.rollouts)
        self.advance = Advance(
            view=view,
            publisher=self.node.publisher,
            fleet=self.fleet,
            clock=self.clock,
            rights=ADMIN,
            ask=lambda *_: self.answers[-1] if self.answers else None,
            fence=fence,
        )

    @property
    def now(self) -> Any:
        return self.node.view.state.rollouts.get(self.id)

    def value(self) -> Any:
        """What the setting is for those who are not in any rollout any more."""
        return self.node.view.state.services["shop"].settings["tiles"].setting.variants["few"]

    def tell(
        self, requests: int = 0, errors: int = 0, *, exposed: bool = True, **more: Any
    ) -> None:
        """A consumer's next report: so much more on its side of this stage."""
        consumer = more.pop("consumer", "consumer-a")
        if self.now is not None and requests:
            sums = self._sums.setdefault(consumer, {})
            row = sums.setdefault((self.now.stage, exposed), [0, 0])
            row[0] += requests
            row[1] += errors
        self._sequences[consumer] = self._sequences.get(consumer, 0) + 1
        outcomes = tuple(
            Outcomes(self.id, stage, side, *counts)
            for (stage, side), counts in self._sums.get(consumer, {}).items()
        )
        self.fleet.take(
            [
                ConsumerReport(
                    consumer=consumer,
                    service="shop",
                    environment="production",
                    kind="sdk",
                    build="holdfast/0",
                    sequence=self._sequences[consumer],
                    at_ms=0,
                    outcomes=outcomes,
                    **more,
                )
            ]
        )

    def after(self, seconds: float) -> list[Moved]:
        self.clock.now_s += seconds
        return self.advance.tick()


def actions(moved: list[Moved]) -> list[str]:
    assert not [each.error for each in moved if each.error]
    return [each.verdict.action for each in moved]


def test_a_healthy_rollout_goes_through_its_stages_and_completes() -> None:
    rollout = Rollout()
    assert actions(rollout.after(1)) == []
    for stage, bake_s in ((0, 60), (1, 60), (2, 10)):
        assert rollout.now.stage == stage
        rollout.tell(500, 5)
        rollout.tell(500, 5, exposed=False)
        assert actions(rollout.after(bake_s - 2)) == []
        assert rollout.advance.due_s() is not None
        assert actions(rollout.after(2)) == ["advance"]
    assert rollout.now is None
    assert rollout.value() == 12


def test_errors_of_the_exposed_roll_it_back_in_the_first_stage() -> None:
    rollout = Rollout()
    rollout.tell(1_000, 5, exposed=False)
    rollout.tell(10, 8)
    (moved,) = rollout.after(1)
    assert moved.verdict.action == "roll-back"
    assert rollout.now is None
    assert rollout.value() == 9
    entry = rollout.node.records.entry(moved.revision)
    assert entry.actor == module.AUTOMATON
    (verdict,) = [edit for edit in entry.edits if hasattr(edit, "rollout")]
    assert verdict.evidence["exposed"]["errors"] == 8
    assert verdict.evidence["errors_e"] > verdict.evidence["halt_e"]


def test_counts_beyond_any_entry_keep_no_rollout_from_going_back() -> None:
    """Whoever may report may tell of any numbers: verdicts with them must still be committed."""
    rollout = Rollout()
    for consumer in ("consumer-y", "consumer-z"):
        rollout.tell(2**53 - 1, consumer=consumer)
        rollout.tell(2**53 - 1, 2**53 - 1, exposed=False, consumer=consumer)
    assert actions(rollout.after(5)) == []
    rollout.tell(refusals=(Refusal(rollout.now.started, "d" * 64, "probe", "moved", 1, "tiles"),))
    assert actions(rollout.after(1)) == ["roll-back"]
    assert rollout.value() == 9


def test_consumers_report_each_in_its_own_time() -> None:
    """What the exposed tell first is compared with what the others tell a little later."""
    rollout = Rollout()
    rollout.tell(10, 8, consumer="consumer-b")
    assert actions(rollout.after(1)) == []
    assert actions(rollout.after(3)) == []
    rollout.tell(1_000, 5, exposed=False)
    assert actions(rollout.after(1)) == ["roll-back"]


def test_one_side_alone_says_nothing() -> None:
    rollout = Rollout()
    rollout.tell(100, 80)
    assert actions(rollout.after(59)) == []
    watched = rollout.advance.watched(rollout.id)
    assert watched is not None
    assert watched.watch.errors.value == 1.0


def test_with_the_gate_off_the_same_errors_reach_everybody() -> None:
    """The damage: nobody looks at what consumers tell, and the stages just bake."""
    rollout = Rollout(alpha=1e-300)
    for _ in STAGES:
        rollout.tell(1_000, 5, exposed=False)
        rollout.tell(10, 8)
        rollout.after(60)
    assert rollout.now is None
    assert rollout.value() == 12


def test_a_refusal_by_one_consumer_rolls_it_back() -> None:
    rollout = Rollout()
    revision = rollout.now.started
    rung: list[int] = []
    rollout.fleet.on_alarm = lambda: rung.append(1)
    refusal = Refusal(revision, "d" * 64, "schema", "12 is no string", 0, "tiles")
    rollout.tell(refusals=(refusal,))
    assert rung == [1]
    (moved,) = rollout.after(0)
    assert moved.verdict.action == "roll-back"
    assert "12 is no string" in moved.verdict.reason
    assert rollout.value() == 9


def test_a_refusal_of_something_older_is_none_of_its_business() -> None:
    rollout = Rollout()
    rollout.tell(refusals=(Refusal(rollout.now.started - 1, "", "schema", "", 0),))
    assert actions(rollout.after(1)) == []
    assert rollout.now.status == "running"


def test_a_crash_streak_rolls_it_back() -> None:
    rollout = Rollout()
    rollout.tell(1, revision=rollout.now.started)
    rollout.tell(1, revision=rollout.now.started - 1, crashes=1)
    assert actions(rollout.after(1)) == ["roll-back"]


@pytest.mark.parametrize("code", ["crash-streak", "health"])
def test_a_consumer_that_went_back_by_itself_rolls_it_back(code: str) -> None:
    """Its process is a new one by then, so that its first report has to tell it."""
    rollout = Rollout()
    went_back = Refusal(rollout.now.started, "d" * 64, code, "3 deaths in a row", 0)
    rollout.tell(refusals=(went_back,), crashes=1)
    (moved,) = rollout.after(1)
    assert moved.verdict.action == "roll-back"
    assert "crashed" in moved.verdict.reason


def test_silence_of_the_exposed_holds_it() -> None:
    rollout = Rollout(silence_s=30)
    rollout.tell(10)
    rollout.tell(1_000, exposed=False)
    assert actions(rollout.after(29)) == []
    rollout.tell(1_000, exposed=False)
    assert actions(rollout.after(2)) == ["hold"]
    assert rollout.now.status == "held"
    assert actions(rollout.after(1_000)) == [], "a person looks first"


def test_where_nobody_counts_outcomes_a_report_is_a_sign_of_life() -> None:
    rollout = Rollout(silence_s=30)
    revision = rollout.now.started
    rollout.tell(revision=revision)
    for _ in range(5):
        rollout.after(25)
        rollout.tell(revision=revision)
    assert rollout.now.status == "running"
    assert actions(rollout.after(31)) == ["hold"]


def test_a_held_rollout_is_still_rolled_back() -> None:
    rollout = Rollout()
    rollout.advance.go(rollout.id, "hold", "ann", ADMIN, "let me look")
    rollout.tell(1_000, 5, exposed=False)
    rollout.tell(10, 8)
    assert actions(rollout.after(1)) == ["roll-back"]


def test_a_query_over_its_bound_rolls_back_and_one_without_answer_waits() -> None:
    rollout = Rollout(query="errors", query_max=0.1, query_url="http://127.0.0.1:9090")
    assert actions(rollout.after(100)) == []
    rollout.answers = [0.05]
    assert actions(rollout.after(1)) == ["advance"]
    rollout.answers = [0.2]
    assert actions(rollout.after(1)) == ["roll-back"]


def test_after_a_restart_the_counts_come_again_before_it_goes_on() -> None:
    rollout = Rollout()
    rollout.tell(1_000, 5, exposed=False)
    rollout.tell(10, 1)
    rollout.after(50)
    rollout.start()
    assert actions(rollout.after(15)) == [], "baked, and yet nothing is known of it"
    rollout.tell(10, 9)
    assert actions(rollout.after(1)) == ["roll-back"]


def test_after_a_restart_a_healthy_one_goes_on() -> None:
    rollout = Rollout()
    rollout.after(59)
    rollout.start()
    assert actions(rollout.after(2)) == []
    assert actions(rollout.after(module.SETTLE_S)) == ["advance"]


class TestSeveralNodes:
    def test_one_that_follows_decides_nothing(self) -> None:
        rollout = Rollout()
        rollout.tell(10, 8)
        rollout.tell(1_000, 5, exposed=False)
        rollout.clock.now_s += 61
        assert rollout.advance.tick(leads=False) == []
        assert rollout.now.stage == 0

    def test_what_it_heard_while_it_followed_it_knows_when_it_leads(self) -> None:
        """The leader died before it could act on a refusal that came to another node."""
        rollout = Rollout()
        refusal = Refusal(rollout.now.started, "d" * 64, "schema", "12 is no string", 0, "tiles")
        rollout.tell(refusals=(refusal,))
        rollout.advance.tick(leads=False)
        rollout.advance.lead()
        assert actions(rollout.after(1)) == ["roll-back"]

    def test_one_that_begins_to_lead_waits_until_consumers_can_have_told_it(self) -> None:
        rollout = Rollout()
        rollout.clock.now_s += 59
        rollout.advance.tick(leads=False)
        rollout.advance.lead()
        assert actions(rollout.after(module.SETTLE_S - 1)) == [], "it has baked"
        assert actions(rollout.after(1)) == ["advance"]

    def test_what_began_under_it_does_not_wait(self) -> None:
        rollout = Rollout()
        rollout.advance.lead()
        rollout.advance.go(rollout.id, "hold", "ann", ADMIN, "wait")
        rollout.clock.now_s += 1
        rollout.advance.go(rollout.id, "resume", "ann", ADMIN, "go on")
        assert actions(rollout.after(60)) == ["advance"]

    def test_silence_before_it_led_is_nobodys(self) -> None:
        rollout = Rollout(silence_s=30)
        rollout.clock.now_s += 50
        rollout.advance.tick(leads=False)
        rollout.advance.lead()
        assert actions(rollout.after(29)) == []
        assert rollout.now.status == "running"
        assert actions(rollout.after(2)) == ["hold"]

    def test_a_verdict_carries_the_fence_and_one_that_lost_the_lease_writes_nothing(self) -> None:
        rollout = Rollout()
        leases = rollout.node.journal.leases  # type: ignore[attr-defined]
        mine = leases.take("mine", "", 60)
        rollout.start(fence=lambda: mine.token)
        leases.give_up(mine)
        leases.take("another's", "", 60)
        told: list[Fenced] = []
        rollout.node.publisher.on_fenced = told.append
        (moved,) = rollout.after(61 + module.SETTLE_S)
        assert "another node leads by now" in moved.error
        assert rollout.now.stage == 0
        assert [(one.fence, one.token) for one in told] == [(1, 2)]
        rollout.advance.go(rollout.id, "advance", "ann", ADMIN, "people write from any node")
        assert rollout.now.stage == 1


def test_what_a_person_held_at_another_node_is_not_advanced_by_an_older_verdict() -> None:
    """The verdict was worked out on what this node had read; the hold stands in the journal."""
    rollout = Rollout()
    rollout.after(1)
    rollout.tell(500, 5)
    rollout.tell(500, 5, exposed=False)
    other = Node(rollout.node.journal, blobs=rollout.node.blobs, clock=rollout.clock)
    hand = Advance(
        view=other.view,
        publisher=other.publisher,
        fleet=Fleet(rollout.clock, lambda: other.view.state.rollouts),
        clock=rollout.clock,
        rights=ADMIN,
    )
    hand.go(rollout.id, "hold", "ann", ADMIN, "it looks odd")
    assert rollout.after(60) == []
    assert (rollout.now.stage, rollout.now.status) == (0, "held")
    assert rollout.after(60) == []


def test_a_verdict_is_written_under_the_fence_that_it_was_made_under() -> None:
    """Another node led in between, and this one again: what it had made up its mind to is old."""
    rollout = Rollout(query_url="http://prometheus", query="errors", query_max=1.0)
    token, asked = [7], []

    class Turning(list[float | None]):
        def __getitem__(self, _: object) -> float:  # type: ignore[override]
            token[0] += 1
            return 5.0

    rollout.answers = Turning([5.0])
    rollout.start(lambda: token[0])
    append = rollout.node.journal.append

    def note(entry: Any, fence: int) -> None:
        asked.append(fence)
        append(entry)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollout.node.journal, "append", note)
        assert actions(rollout.after(1)) == ["roll-back"]
    assert asked == [7]
    assert token == [8]


def test_what_the_door_refuses_is_tried_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    rollout = Rollout()
    append = rollout.node.journal.append

    def refuse(_entry: object, _fence: int) -> None:
        raise Unavailable("the disk is full")

    monkeypatch.setattr(rollout.node.journal, "append", refuse)
    (moved,) = rollout.after(61)
    assert "the disk is full" in moved.error
    assert rollout.advance.failures == 1
    assert rollout.after(1) == [], "not at every tick"
    monkeypatch.setattr(rollout.node.journal, "append", append)
    assert actions(rollout.after(module.REST_S)) == ["advance"]


# By hand


def test_a_person_moves_it() -> None:
    rollout = Rollout()
    rollout.advance.go(rollout.id, "hold", "ann", ADMIN, "wait")
    assert actions(rollout.after(100)) == []
    rollout.advance.go(rollout.id, "resume", "ann", ADMIN, "go on")
    assert actions(rollout.after(1)) == [], "it bakes anew"
    rollout.advance.go(rollout.id, "advance", "ann", ADMIN, "sure")
    assert (rollout.now.stage, rollout.now.status) == (1, "running")
    rollout.advance.go(rollout.id, "advance", "ann", ADMIN, "sure")
    rollout.advance.go(rollout.id, "advance", "ann", ADMIN, "sure")
    assert rollout.now is None
    assert rollout.value() == 12


def test_a_person_rolls_it_back() -> None:
    rollout = Rollout()
    committed = rollout.advance.go(rollout.id, "roll-back", "ann", ADMIN, "no")
    assert rollout.now is None
    assert rollout.value() == 9
    assert rollout.node.records.entry(committed.revision).actor == "ann"


def test_what_takes_it_back_may_be_more_than_people_may_edit_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One edit deletes a service, and its rollback puts every setting of it."""
    rollout = Rollout()
    monkeypatch.setattr(limits, "EDITS_MAX", 1)
    rollout.advance.go(rollout.id, "roll-back", "ann", ADMIN, "no")
    assert not rollout.node.view.state.rollouts


def test_a_move_that_makes_no_sense_is_refused() -> None:
    rollout = Rollout()
    with pytest.raises(Invalid, match="running"):
        rollout.advance.go(rollout.id, "resume", "ann", ADMIN, "")
    with pytest.raises(NotFound):
        rollout.advance.go("production.77", "hold", "ann", ADMIN, "")


def test_moving_it_takes_the_rights_of_its_change() -> None:
    rollout = Rollout()
    reader = Grant("r", "r", (Scope(("read",)),))
    elsewhere = Grant("e", "e", (Scope(("write",), "staging", "*"),))
    for rights in (reader, elsewhere):
        for way in ("hold", "advance", "roll-back"):
            with pytest.raises(Forbidden):
                rollout.advance.go(rollout.id, way, "bob", rights, "")  # type: ignore[arg-type]
    assert rollout.now.status == "running"


def test_the_fast_plan_is_through_all_rings_within_ten_seconds() -> None:
    """Ring by ring, with the waits of the thread that ticks."""
    rollout = Rollout()
    rollout.advance.go(rollout.id, "roll-back", "ann", ADMIN, "")
    policy = Policy(rollout=Plan(FAST_STAGES))
    rollout.node.commit(PutEnvironment("production", Environment(policy=policy)))
    committed = rollout.node.commit(PutSetting("shop", "tiles", setting(13)))
    rollout.id = f"production.{committed.revision}"
    began_s, stages, wait_s = rollout.clock.now_s, set(), 1.0
    while rollout.now is not None:
        stages.add(rollout.now.stage)
        rollout.after(wait_s)
        due_s = rollout.advance.due_s()
        wait_s = 1.0 if due_s is None else min(1.0, max(0.05, due_s - rollout.clock.now_s))
        assert rollout.clock.now_s - began_s <= 10
    assert stages == {0, 1, 2, 3}


def test_its_history_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.engine.watched.POINTS_MAX", 10)
    rollout = Rollout()
    for number in range(50):
        rollout.tell(10 + number)
        rollout.advance.tick()
    watched = rollout.advance.watched(rollout.id)
    assert watched is not None
    assert len(watched.points) <= 10
    assert watched.points[0].exposed_requests == 10
    assert watched.points[-1].exposed_requests == sum(range(10, 60))


def test_null_rollouts_are_left_alone() -> None:
    """Both sides fail alike: over many looks nothing is halted."""
    chance = random.Random(7)
    rollout = Rollout()
    for _ in range(40):
        rollout.tell(50, sum(chance.random() < 0.05 for _ in range(50)))
        rollout.tell(450, sum(chance.random() < 0.05 for _ in range(450)), exposed=False)
        assert "roll-back" not in actions(rollout.after(1))
