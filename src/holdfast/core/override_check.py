"""What the write door asks where something was pushed: that it is lifted before its setting goes.

Or before the setting changes so that it fits no more. A push stands until somebody lifts it, for
everybody alike. To delete what it stands over would lift it for all at once, however carefully the
deletion itself goes out; and a service that is made again under the same name would find a push
over it that nobody remembers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from holdfast.core.errors import Problem
from holdfast.core.model import Edit, PutOverride, Setting, Subject
from holdfast.core.overrides import misfit, misfits, pushed_value
from holdfast.core.reproduce import subject_of
from holdfast.core.rollback import taken_back
from holdfast.core.state import State, closure


def check_overrides(old: State, edits: Sequence[Edit], new: State) -> Iterator[Problem]:
    """Problems of what is deleted under a push, or changed so that the push fits no more.

    What takes a rollout back is never in its way. Of a change that goes out in stages what stands
    at the end counts: while both sides answer, the push may fit the old one alone.
    """
    put = {(e.environment, e.service, e.key) for e in edits if isinstance(e, PutOverride)}
    standing = [
        (subject_of(name), key)
        for name, over in old.overrides.items()
        for key, one in over.keys.items()
        if one.flag is not None and _setting(old, subject_of(name), key)
    ]
    back = taken_back(old, edits) if standing else old
    for subject, key in standing:
        if (subject.environment, subject.service, key) in put:
            continue
        if _stays(back, subject, key) and not _stays(new, subject, key):
            yield _stands(subject, key)
        elif not any(_misfits(one, subject, key) for one in (old, back)):
            yield from (misfit(subject, key, what) for what in _misfits(new, subject, key))


def _stays(state: State, subject: Subject, key: str) -> bool:
    over = state.overrides[str(subject)].keys[key]
    return over.flag is not None and _setting(state, subject, key) is not None


def _misfits(state: State, subject: Subject, key: str) -> list[str]:
    over, setting = state.overrides[str(subject)].keys[key], _setting(state, subject, key)
    if over.flag is None or setting is None:
        return []
    return misfits(pushed_value(over.flag), setting.type, setting.schema)


def _setting(state: State, subject: Subject, key: str) -> Setting | None:
    """The one that the push stands over, as it is once its rollout is through."""
    for name in closure(state.services, subject.service):
        one = state.services[name].settings.get(key)
        if one and subject.environment in one.setting.environments:
            return one.setting
    return None


def _stands(subject: Subject, key: str) -> Problem:
    return Problem(
        code="override",
        message=f"what was pushed over `{key}` in {subject} would be lifted for everybody at once",
        path=f"/overrides/{subject}/{key}",
        hint=f"lift it first: holdfast edge push --lift {subject.service}/{key}",
    )
