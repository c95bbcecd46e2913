"""Rollouts as edits: what a change begins. `core.rollback` takes back, `core.verdict` decides.

    staged(state, edits, new)      the change with a rollout for each environment that asks for one
    rolled_back(state, rollout)    edits that put back what the rollout's change found
    decide(rollout, watch, …)      what to do next, and `move`, the same as an edit

Changes of what a rollout covers are refused while it runs (`core.rollout_check`), but for a kill
switch: one that sets `enabled: false` first takes the rollout back, whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from holdfast.core.covered import differ, setting_at, settings_of
from holdfast.core.fold import after
from holdfast.core.model import (
    DeleteSegment,
    DeleteSetting,
    Edit,
    MoveRollout,
    PutSetting,
    Setting,
    StartRollout,
)
from holdfast.core.rollback import all_rolled_back, ended, referred, rolled_back
from holdfast.core.rollout_check import crosses
from holdfast.core.state import RolloutState, State
from holdfast.core.verdict import Counts, Evidence, Verdict, Watch, decide, observed, shown

__all__ = [
    "Counts",
    "Evidence",
    "Verdict",
    "Watch",
    "decide",
    "ended",
    "move",
    "observed",
    "rolled_back",
    "shown",
    "staged",
]


def staged(state: State, edits: Sequence[Edit], new: State) -> tuple[Edit, ...]:
    """The edits with a `StartRollout` for each environment whose policy asks for one.

    `new` is the state after `edits`. The policies are those of `state`, so that no change gets rid
    of the one that holds for itself. Where a policy asks, plans given in `edits` make way for it.
    """
    asked = [
        (name, one.environment.policy, one.environment.policy.rollout)
        for name, one in state.environments.items()
    ]
    plans = {name: (policy, plan) for name, policy, plan in asked if plan is not None}
    kept = tuple(
        one
        for one in (*_taken_back(state, edits, new), *edits)
        if not isinstance(one, StartRollout) or one.environment not in plans
    )
    if not plans:
        return kept
    tried = after(state, (*kept, *(StartRollout(name, plan) for name, (_, plan) in plans.items())))
    starts = []
    for name, (policy, plan) in plans.items():
        begun = tried.rollouts.get(f"{name}.{tried.head.revision}")
        if begun is not None:
            fast = policy.fast if policy.fast and _is_urgent(begun, tried) else plan
            starts.append(StartRollout(name, fast))
    return (*kept, *starts)


def move(rollout: str, verdict: Verdict) -> MoveRollout:
    """A verdict other than to wait, as an edit. One to roll back is `rolled_back` instead."""
    return MoveRollout(rollout, verdict.stage, verdict.status, verdict.reason, verdict.evidence)


def _is_urgent(begun: RolloutState, new: State) -> bool:
    """Kill switches, deletions and segment edits alone go at the faster pace."""
    before, environment = begun.before, begun.environment
    return all(
        _is_off(setting_at(new.services, service, key), environment)
        for service, key, _ in settings_of(before)
    ) and all(old and name not in new.services for name, old in before.services.items())


def _is_off(setting: Setting | None, environment: str) -> bool:
    """Whether callers get their code defaults."""
    there = setting.environments.get(environment) if setting else None
    return there is None or not there.enabled


def _taken_back(state: State, edits: Sequence[Edit], new: State) -> Iterator[Edit]:
    """Edits that take back the rollouts in whose way a kill switch is; the change goes on top.

    What is switched off keeps its rules, and so the segments that came with them. It is not deleted
    first, which would lift what was pushed over it.
    """
    named = {name for one in edits if isinstance(one, PutSetting) for name in referred(one.to)}
    over = set(ended(edits))
    put = {(one.service, one.key) for one in edits if isinstance(one, PutSetting)}
    killed = [
        name
        for name, rollout in state.rollouts.items()
        if name not in over and _is_killed(rollout, edits, state, new)
    ]
    for each in all_rolled_back(state, killed, "a kill switch of what it covers"):
        named_still = isinstance(each, DeleteSegment) and each.segment in named
        put_anew = isinstance(each, DeleteSetting) and (each.service, each.key) in put
        if not (named_still or put_anew):
            yield each


def _is_killed(rollout: RolloutState, edits: Sequence[Edit], state: State, new: State) -> bool:
    """Whether all that the change does to what the rollout covers is to switch it off.

    Where it does nothing to that, whether all that it does to what the rollout's includes lead to
    is.
    """
    environment = rollout.environment
    put = {(one.service, one.key) for one in edits if isinstance(one, PutSetting)}
    changed = []
    for service, key, _ in settings_of(rollout.before):
        was, now = (setting_at(one.services, service, key) for one in (state, new))
        if differ(environment, was, now):
            changed.append((service, key) in put and _is_off(now, environment))
    if not changed:
        changed = [
            isinstance(one, PutSetting)
            and _is_off(setting_at(new.services, one.service, one.key), environment)
            for one in edits
            if crosses(state, new, one, rollout)
        ]
    return bool(changed) and all(changed)
