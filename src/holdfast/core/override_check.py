"""What the write door asks where something was pushed: that it is lifted before its setting goes.

A push stands until somebody lifts it, for everybody alike. To delete what it stands over would lift
it for all at once, however carefully the deletion itself goes out; and a service that is made again
under the same name would find a push over it that nobody remembers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from holdfast.core.errors import Problem
from holdfast.core.model import Edit, PutOverride, Subject
from holdfast.core.reproduce import subject_of
from holdfast.core.rollback import ended
from holdfast.core.state import State, closure


def check_overrides(old: State, edits: Sequence[Edit], new: State) -> Iterator[Problem]:
    """Problems of what is deleted under a push. What takes a rollout back is never in its way."""
    if any(one.status == "rolled-back" for one in ended(edits).values()):
        return
    put = {(e.environment, e.service, e.key) for e in edits if isinstance(e, PutOverride)}
    for name, over in old.overrides.items():
        subject, left = subject_of(name), new.overrides[name].keys
        for key, one in over.keys.items():
            if one.flag is None or (subject.environment, subject.service, key) in put:
                continue
            stays = left[key] is one and _is_there(new, subject, key)
            if not stays and _is_there(old, subject, key):
                yield _stands(subject, key)


def _is_there(state: State, subject: Subject, key: str) -> bool:
    services = state.services
    found = (services[one].settings.get(key) for one in closure(services, subject.service))
    return any(one and subject.environment in one.setting.environments for one in found)


def _stands(subject: Subject, key: str) -> Problem:
    return Problem(
        code="override",
        message=f"what was pushed over `{key}` in {subject} would be lifted for everybody at once",
        path=f"/overrides/{subject}/{key}",
        hint=f"lift it first: holdfast edge push --lift {subject.service}/{key}",
    )
