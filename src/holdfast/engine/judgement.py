"""What the policies say of one change, worked out on one head: `core.policy` with what it needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from holdfast.core import policy
from holdfast.core.authority import grant_of, may
from holdfast.core.difference import Difference
from holdfast.core.errors import Problem
from holdfast.core.model import Approve, BreakGlass, Change, Edit, StartRollout
from holdfast.core.policies import Approval
from holdfast.core.state import State
from holdfast.core.wire import canonical, digest
from holdfast.engine.glass import Glass
from holdfast.ports import Proposal

DELETIONS_S: Final = 3_600
"""Deletions of so long count together: one by one is no way around a second person."""

_decode_change = msgspec.json.Decoder(Change).decode


class Mandate(msgspec.Struct, frozen=True):
    """What a commit rests on beside its author's rights.

    - `proposal`: the waiting change that it is; the approvals of that one are counted.
    - `break_glass`: why approval, freeze and waiting are skipped; empty: they are not.
    - `automation`: Holdfast's own code moves a rollout or refreshes contexts. It may write the
      edits for that, and is not asked for approvals: the change that began it had them.
    - `fence`: the token of the lease in whose name a leader writes; 0 for what people write.
    - `attempt`: what a repeat of the request is known by, for the entry to keep; or empty.
    """

    proposal: Proposal | None = None
    break_glass: str = ""
    automation: bool = False
    fence: int = 0
    attempt: str = ""


ALONE: Final = Mandate()
AUTOMATION: Final = Mandate(automation=True)


class Case(msgspec.Struct, frozen=True):
    """A change, what it finds and what it leaves behind, at a time."""

    old: State
    new: State
    change: Change
    edits: Sequence[Edit]
    differences: Sequence[Difference]
    now_s: float


class Judged(msgspec.Struct, frozen=True):
    """The verdict, and the edits that the door adds for the record.

    `needed` approvals are asked for, `approvals` count; `lacking` is why it can't be committed now.
    """

    added: tuple[Edit, ...] = ()
    problems: tuple[Problem, ...] = ()
    needed: int = 0
    approvals: tuple[Approval, ...] = ()
    lacking: tuple[Problem, ...] = ()
    broken: tuple[BreakGlass, ...] = ()


def judge(
    case: Case, mandate: Mandate, glass: Glass, traffic_share: policy.TrafficShare | None
) -> Judged:
    """What the policies that stand before the change say of it."""
    if mandate.automation:
        return Judged()
    asked = policy.demands(
        case.old,
        case.new,
        case.differences,
        case.now_s,
        lambda: glass.unapproved(case.now_s - DELETIONS_S),
    )
    given = _approvals(case, mandate.proposal)
    broken: tuple[BreakGlass, ...] = ()
    problems = policy.cap_problems(case.old, case.new, case.differences, traffic_share)
    if mandate.break_glass:
        opened = policy.skipped(asked, len(given))
        broken = glass.break_for(opened, mandate.break_glass, case.now_s)
        problems += policy.break_glass_problems(mandate.break_glass, case.differences, opened)
    lacking = policy.refusals(asked, len(given), break_glass=bool(mandate.break_glass))
    return Judged(
        added=(*(Approve(one.digest, one.actor, one.at_ms) for one in given), *broken),
        problems=tuple(problems),
        needed=policy.approvals_needed(asked),
        approvals=given,
        lacking=tuple(lacking),
        broken=broken,
    )


def hastened(edits: Sequence[Edit], broken: Sequence[BreakGlass], state: State) -> tuple[Edit, ...]:
    """The edits, with the faster plan where glass is broken: waiting is skipped, no ring is."""
    fast = {
        one.environment: plan
        for one in broken
        if (plan := policy.policy_of(state, one.environment).fast) is not None
    }
    return tuple(
        StartRollout(edit.environment, fast[edit.environment])
        if isinstance(edit, StartRollout) and edit.environment in fast
        else edit
        for edit in edits
    )


def _approvals(case: Case, proposal: Proposal | None) -> tuple[Approval, ...]:
    """Those of the proposal that count today, if the change is the proposed one.

    A token approves while it could commit the change itself: who might have written it may vouch.
    """
    if proposal is None or not _is_proposed(case.change, proposal):
        return ()

    def stands(approval: Approval) -> bool:
        grant = grant_of(case.old, approval.token, case.now_s)
        return grant is not None and may(grant, case.edits, case.differences, case.old)

    author = (proposal.token, proposal.name)
    return policy.counted(proposal.approvals, proposal.digest, author, stands)


def _is_proposed(change: Change, proposal: Proposal) -> bool:
    """Whether it is the proposed change, put onto another base or not."""
    proposed = _decode_change(proposal.change)
    as_proposed = msgspec.structs.replace(change, base_revision=proposed.base_revision)
    return digest(proposal.change) == proposal.digest == digest(canonical(as_proposed))
