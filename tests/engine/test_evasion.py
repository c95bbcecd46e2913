"""Ways around what a policy asks, each of which is closed."""

from __future__ import annotations

import pytest
from tests.engine.a_node import ADMIN
from tests.engine.test_waiting import ANN, BOB, TILES, Office, grant

from holdfast.core.access import Grant
from holdfast.core.errors import Guarded, Invalid
from holdfast.core.model import (
    Audience,
    Change,
    DeleteSetting,
    Edit,
    Environment,
    MoveRollout,
    PutEnvironment,
    PutSegment,
    PutService,
    PutSetting,
    Segment,
    Service,
    Setting,
    Targeting,
)
from holdfast.core.policies import FAST_STAGES, RING_STAGES, Freeze, Plan, Policy
from holdfast.engine.advance import Advance
from holdfast.engine.fleet import Fleet
from holdfast.engine.judgement import AUTOMATION
from holdfast.engine.waiting import OF_ONE_MAX

EVERYBODY = Segment(Audience(logic=True))
NOBODY = Segment(Audience(logic=False))


def setting(value: int, *environments: str) -> Setting:
    where = {name: Targeting("few") for name in environments or ("production",)}
    return Setting("integer", {"few": value, "many": 49}, where)


def free(office: Office, *edits: Edit) -> None:
    """Commit without asking policies."""
    office.node.publisher.commit(Change(edits), "root", ADMIN, AUTOMATION)


@pytest.mark.parametrize(
    "edit",
    [
        PutSegment("shop", "pilots", EVERYBODY),
        PutEnvironment(
            "production", Environment(policy=Policy(traffic_percent_max=10), bucketing="v2")
        ),
    ],
)
def test_what_edits_no_setting_moves_traffic_too(edit: Edit) -> None:
    office = Office(Policy(traffic_percent_max=10))
    free(office, PutSegment("shop", "pilots", NOBODY))
    office.node.publisher._traffic_share = lambda _old, _new, _environment: 100.0
    with pytest.raises(Invalid, match="too-much-traffic"):
        office.node.commit(edit)


def test_a_policy_is_no_traffic() -> None:
    office = Office(Policy(traffic_percent_max=10))
    office.node.publisher._traffic_share = lambda _old, _new, _environment: 100.0
    office.node.commit(PutEnvironment("production", Environment(policy=Policy())))


def test_deletions_count_together_while_their_rollouts_go_on() -> None:
    office = Office(Policy(rollout=Plan(stages=RING_STAGES), fast=Plan(stages=FAST_STAGES)))
    free(office, *(PutSetting("shop", f"k{n}", setting(n)) for n in range(39)))

    def delete(*numbers: int) -> None:
        office.node.commit(*(DeleteSetting("shop", f"k{number}") for number in numbers))
        started = office.revision()
        office.node.clock.now_s += 10
        for stage in range(1, 4):
            free(office, MoveRollout(f"production.{started}", stage, "running", "baked"))
        free(office, MoveRollout(f"production.{started}", 3, "completed", "baked"))

    delete(0, 1)  # 5 % of 40
    with pytest.raises(Guarded, match="to delete 4 of 40 settings of shop"):
        delete(2, 3)
    office.node.clock.now_s += 3_600
    delete(2)


def test_a_kill_switch_hides_no_deletions() -> None:
    office = Office(Policy(rollout=Plan(stages=RING_STAGES), fast=Plan(stages=FAST_STAGES)))
    free(office, *(PutSetting("shop", f"k{n}", setting(n)) for n in range(39)))
    office.node.commit(PutSetting("shop", "k9", setting(1)))
    off = Setting(
        "integer", {"few": 9, "many": 49}, {"production": Targeting("few", enabled=False)}
    )
    office.node.commit(
        PutSetting("shop", "k9", off), DeleteSetting("shop", "k0"), DeleteSetting("shop", "k1")
    )
    with pytest.raises(Guarded, match="to delete 3 of 40 settings of shop"):
        office.node.commit(DeleteSetting("shop", "k2"))


def test_one_setting_of_each_of_many_services_is_many() -> None:
    office = Office(Policy())
    names = [f"part-{number}" for number in range(5)]
    free(
        office,
        *(PutService(name, Service()) for name in names),
        *(PutSetting(name, name, setting(1)) for name in names),
    )
    with pytest.raises(Guarded, match="to delete 1 of 1 settings of part-0"):
        office.node.commit(*(DeleteSetting(name, name) for name in names))
    office.node.commit(DeleteSetting("part-0", "part-0"))


def test_settings_that_a_service_includes_are_its_own_to_lose() -> None:
    office = Office(Policy())
    names = tuple(f"part-{number}" for number in range(5))
    free(
        office,
        *(PutService(name, Service()) for name in names),
        *(PutSetting(name, name, setting(1)) for name in names),
        PutService("mail", Service(includes=names)),
    )
    office.node.commit(DeleteSetting("part-0", "part-0"))
    with pytest.raises(Guarded, match="to delete 2 of 5 settings of mail"):
        office.node.commit(DeleteSetting("part-1", "part-1"))


class TestAFreezeThatWasAMistake:
    AMY, BEN = grant("amy", "write", "admin"), grant("ben", "write", "admin")
    FOREVER = Freeze(0, 253_402_300_799)

    def test_ends_when_two_people_want_it(self) -> None:
        office = Office(Policy(freezes=(self.FOREVER,), break_glass_s=0), self.AMY, self.BEN)
        lifted = PutEnvironment("production", Environment(policy=Policy()))
        with pytest.raises(Guarded, match="in a freeze takes 1 approval"):
            office.node.commit(lifted)
        proposal = office.propose(lifted, by=self.AMY)
        office.approve(proposal, self.BEN)
        office.waiting.commit(proposal.proposal, self.AMY)
        office.node.commit(TILES)

    def test_carries_nothing_else_out_of_it(self) -> None:
        office = Office(Policy(freezes=(self.FOREVER,)), self.AMY, self.BEN)
        lifted = PutEnvironment("production", Environment(policy=Policy()))
        for edits in (
            (lifted, TILES),
            (PutEnvironment("production", Environment(bucketing="v2", policy=Policy())),),
        ):
            proposal = office.propose(*edits, by=self.AMY)
            office.approve(proposal, self.BEN)
            with pytest.raises(Guarded, match="production is frozen"):
                office.waiting.commit(proposal.proposal, self.AMY)


def test_nobody_hurries_a_rollout_of_their_own_where_others_must_approve() -> None:
    office = Office(Policy(approvals=1, rollout=Plan(stages=RING_STAGES)))
    proposal = office.propose()
    office.approve(proposal, BOB)
    office.waiting.commit(proposal.proposal, ANN)
    node = office.node
    advance = Advance(
        view=node.view,
        publisher=node.publisher,
        fleet=Fleet(node.clock, lambda: node.view.state.rollouts),
        clock=node.clock,
        rights=ADMIN,
    )
    (rollout,) = node.view.state.rollouts
    again = Grant("ann1", "ann", ANN.scopes)
    for who in (ANN, again):
        with pytest.raises(Guarded, match="can't be the one who does not wait"):
            advance.go(rollout, "advance", who.actor, who, "now")
        advance.go(rollout, "hold", who.actor, who, "wait")
        advance.go(rollout, "resume", who.actor, who, "go on")
    advance.go(rollout, "advance", BOB.actor, BOB, "now")
    assert node.view.state.rollouts[rollout].stage == 1


def test_nobody_drowns_what_others_proposed() -> None:
    office = Office()
    theirs = office.propose(by=BOB)
    for _ in range(OF_ONE_MAX):
        office.propose()
    with pytest.raises(Invalid, match="100 changes of yours wait already") as caught:
        office.propose()
    assert caught.value.problems[0].hint
    assert office.waiting.get(theirs.proposal) == theirs
    office.propose(by=BOB)
