"""Which rollout an alarm speaks against: a refusal or a crash that a consumer told of."""

from __future__ import annotations

from typing import Final

from holdfast.core.covered import overlay, rollouts_in, services_of
from holdfast.core.model import Subject
from holdfast.core.state import RolloutState, State
from holdfast.core.subjects import known_services, reach
from holdfast.engine.fleet import Alarm

ON_THE_WAY: Final = frozenset(
    {"delta", "delta-base", "digest", "revision", "rollback", "size", "subject"}
)
"""Codes of refusals that say that other bytes came than were published: no rollout's fault."""
DEFECT: Final = "defect"
"""The code of a candidate on which the consumer's own code failed; its revision is not known."""


def blamed(alarm: Alarm, state: State) -> tuple[str, ...]:
    """Ids of the running rollouts that it speaks against, none for an alarm about the way.

    Of those that reach the subject and began by the alarm's revision, it is the one that moved
    last: what came before was taken. When that one has company in the same entry, all are.
    """
    refusal = alarm.refusal
    if refusal is not None and (refusal.code in ON_THE_WAY or _is_unattributed(alarm)):
        return ()
    reached = {
        name: each
        for name, each in rollouts_of(state, alarm.subject).items()
        if not alarm.revision or each.started <= alarm.revision
    }
    moved = {name: _moved(each, alarm.revision) for name, each in reached.items()}
    last = max(moved.values(), default=0)
    return tuple(sorted(name for name, revision in moved.items() if revision == last))


def rollouts_of(state: State, subject: Subject) -> dict[str, RolloutState]:
    """The running rollouts that cover anything which the subject reaches, now or before them."""
    services, found = known_services(state), {}
    for name, rollout in rollouts_in(state, subject.environment).items():
        sides = (services, overlay(services, rollout.before))
        names = {each for there in sides for each, _ in reach(there, subject.service)}
        if not services_of(rollout.before).isdisjoint(names):
            found[name] = rollout
    return found


def _is_unattributed(alarm: Alarm) -> bool:
    return alarm.revision == 0 and (alarm.refusal is None or alarm.refusal.code != DEFECT)


def _moved(state: RolloutState, revision: int) -> int:
    """When it last moved, as far as the one who tells can know of it."""
    return state.moved if not revision or state.moved <= revision else state.started
