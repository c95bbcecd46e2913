"""Edits that no author may write: the door and Holdfast's own automation do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from holdfast.core.build import build
from holdfast.core.errors import Problem
from holdfast.core.model import (
    Approve,
    BreakGlass,
    Edit,
    Head,
    MoveRollout,
    PutContexts,
    PutOverride,
    StartRollout,
    Subject,
    TouchSubject,
)
from holdfast.core.overrides import lift_problem
from holdfast.core.policy import policy_of
from holdfast.core.state import State
from holdfast.core.subjects import written_revision


def reserved(edits: Sequence[Edit], state: State, *, automation: bool) -> Iterator[Problem]:
    """Problems of a change that carries what is not for its author to write.

    A rollout may be started by hand where the policy asks for none: that is more careful than
    what the policy asks, and nowhere else can a hand-written plan be less so unseen.
    """
    for number, edit in enumerate(edits):
        why = _reason(edit, state, automation=automation)
        if why:
            yield Problem(
                code="reserved-edit",
                message=f"a change can't carry such an edit: {why}",
                path=f"/edits/{number}",
                hint=_way_out(edit),
            )


def _way_out(edit: Edit) -> str:
    if isinstance(edit, PutOverride) and edit.to is None:
        return (
            "let it serve the same by itself first, with a change of its own; until then it stays"
        )
    return "leave it out"


def _reason(edit: Edit, state: State, *, automation: bool) -> str:  # noqa: PLR0911  one line each
    match edit:
        case Approve():
            return "approvals are given to a waiting change (holdfast change approve ID)"
        case BreakGlass():
            return "the glass is broken with the commit (--break-glass REASON)"
        case MoveRollout() | PutContexts() if not automation:
            return "rollouts are moved, and contexts kept, by Holdfast itself"
        case StartRollout() if policy_of(state, edit.environment).rollout and not automation:
            return f"the policy of {edit.environment} says how its changes go out"
        case PutOverride(to=None):
            return _unliftable(edit, state)
        case PutOverride() | TouchSubject() if not automation:
            return "overrides come with a push that was signed (holdfast edge push --import FILE)"
        case _:
            return ""


def _unliftable(edit: PutOverride, state: State) -> str:
    """Why the override can't be lifted now: that would move answers, for everybody at once."""
    subject = Subject(edit.environment, edit.service)
    over = state.overrides.get(str(subject))
    if over is None or edit.key not in over.keys:
        return f"nothing stands over {edit.key!r} in {subject}"
    head = Head(written_revision(state, subject), state.head.hash)
    written = build(msgspec.structs.replace(state, overrides={}), subject, None, head=head)
    return lift_problem(written, edit.key, over.keys[edit.key])
