"""What the write door asks where something was pushed: that it is lifted before its setting goes.

Or before the setting changes so that it fits no more. A push stands until somebody lifts it, for
everybody alike. To delete what it stands over would lift it for all at once, however carefully the
deletion itself goes out; and what is made again under the same name would find a push over it that
nobody remembers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from holdfast.core.covered import Services, overlay, rollouts_in
from holdfast.core.errors import Problem
from holdfast.core.model import Edit, PutOverride, Setting, Subject
from holdfast.core.overrides import misfit, misfits, pushed_value
from holdfast.core.reproduce import subject_of
from holdfast.core.rollback import taken_back
from holdfast.core.state import State, closure


def check_overrides(old: State, edits: Sequence[Edit], new: State) -> Iterator[Problem]:
    """Problems of what is deleted under a push, or comes under one, or doesn't fit it any more.

    What takes a rollout back is never in its way. Of a change that goes out in stages what stands
    at the end counts: while both sides answer, the push may fit the old one alone.
    """
    put = {(e.environment, e.service, e.key) for e in edits if isinstance(e, PutOverride)}
    standing = [
        (subject_of(name), key)
        for name, over in old.overrides.items()
        for key, one in over.keys.items()
        if one.flag is not None
    ]
    back = taken_back(old, edits) if standing else old
    for subject, key in standing:
        if (subject.environment, subject.service, key) in put:
            continue
        before, now = (_presence(one, subject, key) for one in (back, new))
        if now < before:
            yield _stands(subject, key)
        elif now > before and not _presence(old, subject, key):
            yield _forgotten(subject, key)
        elif not any(_misfits(one, subject, key) for one in (old, back)):
            yield from (misfit(subject, key, what) for what in _misfits(new, subject, key))


def _presence(state: State, subject: Subject, key: str) -> int:
    """2 for what is there with what was pushed, 1 while a rollout takes it away, or else 0."""
    if state.overrides[str(subject)].keys[key].flag is None:
        return 0
    if _setting(state.services, subject, key):
        return 2
    running = rollouts_in(state, subject.environment).values()
    return int(any(_setting(overlay(state.services, r.before), subject, key) for r in running))


def _misfits(state: State, subject: Subject, key: str) -> list[str]:
    over, setting = state.overrides[str(subject)].keys[key], _setting(state.services, subject, key)
    if over.flag is None or setting is None:
        return []
    return misfits(pushed_value(over.flag), setting.type, setting.schema)


def _setting(services: Services, subject: Subject, key: str) -> Setting | None:
    """The one that the push stands over."""
    for name in closure(services, subject.service):
        one = services[name].settings.get(key)
        if one and subject.environment in one.setting.environments:
            return one.setting
    return None


def _stands(subject: Subject, key: str) -> Problem:
    return Problem(
        code="override",
        message=f"what was pushed over `{key}` in {subject} would be lifted for everybody at once",
        path=f"/overrides/{subject}/{key}",
        hint=f"lift it first: holdfast edge push --lift {subject.service}/{key}, or roll back what "
        "takes the setting away",
    )


def _forgotten(subject: Subject, key: str) -> Problem:
    return Problem(
        code="override",
        message=f"what was pushed over an earlier `{key}` in {subject} would stand over this one",
        path=f"/overrides/{subject}/{key}",
        hint=f"lift it first: holdfast edge push --lift {subject.service}/{key}",
    )
