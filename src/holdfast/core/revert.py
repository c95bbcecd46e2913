"""Edits that undo: a revision or a range of them, or one deletion, on top of today's head.

Undoing is one more change through the write door; nothing is ever taken out of the journal. What
was changed again since is not undone over the newer work: it comes back as a problem.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from holdfast.core.difference import Difference, Kind, Noun, Place, changes, diff, escape
from holdfast.core.errors import Problem
from holdfast.core.model import (
    JSON,
    Contract,
    DeleteContract,
    DeleteSegment,
    DeleteService,
    DeleteSetting,
    Edit,
    Environment,
    PutContract,
    PutEnvironment,
    PutSegment,
    PutService,
    PutSetting,
    Segment,
    Service,
    Setting,
)
from holdfast.core.state import Overridden, State, same

_ORDER: Final = (PutService, PutEnvironment, PutSegment, PutSetting, DeleteSetting, DeleteSegment)
_DELETES: Final[Mapping[str, Callable[[str, str], Edit]]] = {
    "setting": DeleteSetting,
    "segment": DeleteSegment,
    "contract": DeleteContract,
}
_ABSENT: Final = object()
_MERGED_DEPTH: Final = 2  # fields, and the members of maps: environments, variants, attributes


class Undo(msgspec.Struct, frozen=True):
    """Edits on today's head, and what they leave out and why. With an error don't commit them."""

    edits: tuple[Edit, ...] = ()
    problems: tuple[Problem, ...] = ()


def revert(before: State, after: State, head: State) -> Undo:
    """Undo what happened between two states, `before` and `after`, on top of `head`.

    Field by field and environment by environment: what nobody changed since goes back to what it
    was before; what was changed again since is a problem with code `changed-since`. Tokens, roots,
    new environments, and what was pushed over settings are never undone: warnings with code
    `not-undone`.
    """
    edits: list[Edit] = []
    problems: list[Problem] = []
    undone = list(changes(before, after))
    for place, (old, new) in undone:
        if place[0] == "token" or (place[0] == "environment" and old is None):
            problems.append(_not_undone(place))
            continue
        wanted = _merge(place, old, new, _noun(head, place), problems)
        if not same(wanted, _noun(head, place)):
            edits.append(_edit(place, wanted))
    if len(after.roots) > len(before.roots):
        problems.append(_not_undone(("root", "", str(len(after.roots)))))
    problems += _overrides(diff(before, after), head)
    edits.sort(key=lambda edit: _ORDER.index(type(edit)) if type(edit) in _ORDER else len(_ORDER))
    problems += [*_orphans(edits, head), *_homeless(edits, head)]
    return Undo(edits=tuple(edits), problems=tuple(problems))


def restore(past: State, head: State, service: str, key: str = "") -> Undo:
    """Bring back a setting, or with no key a whole service, as it stood in `past`.

    Problems: `not-found` when it did not stand there, `exists` when it stands now.
    """
    was, now = past.services.get(service), head.services.get(service)
    where = f"/{escape(service)}" + (f"/settings/{escape(key)}" if key else "")
    if was is None or (key and key not in was.settings):
        message = f"revision {past.head.revision} has no {key or service}"
        hint = "look at the history for the revision in which it still stood"
        return Undo(problems=(Problem(code="not-found", message=message, path=where, hint=hint),))
    if now is not None and (not key or key in now.settings):
        return Undo(problems=(still_stands(key or service, where),))
    edits: list[Edit] = [] if now else [PutService(service, was.info)]
    if not key:
        edits += [PutSegment(service, name, one.segment) for name, one in was.segments.items()]
    keys = (key,) if key else was.settings
    edits += [PutSetting(service, one, was.settings[one].setting) for one in keys]
    return Undo(edits=tuple(edits))


def still_stands(name: str, path: str = "") -> Problem:
    """What is to be brought back is there."""
    message = f"`{name}` still stands: there is nothing to bring back"
    hint = "to undo changes of it, revert their revisions (holdfast history)"
    return Problem(code="exists", message=message, path=path, hint=hint)


def _noun(state: State, place: Place) -> Noun | None:
    kind, service, name = place
    if kind == "environment":
        environment = state.environments.get(name)
        return environment.environment if environment else None
    if kind == "contract":
        contract = state.contracts.get(service, {}).get(name)
        return contract.contract if contract else None
    owner = state.services.get(service)
    if owner is None or kind == "service":
        return owner.info if owner else None
    if kind == "setting":
        setting = owner.settings.get(name)
        return setting.setting if setting else None
    segment = owner.segments.get(name)
    return segment.segment if segment else None


def _merge(
    place: Place, old: Noun | None, new: Noun | None, now: Noun | None, problems: list[Problem]
) -> Noun | None:
    """`now` with what went from `old` to `new` taken back."""
    if same(now, new) or same(now, old):
        return old
    if old is None or new is None or now is None:
        problems.append(_changed_since(_path(place)))
        return now
    conflicts: list[str] = []
    was, then, today = (msgspec.to_builtins(one) for one in (old, new, now))
    merged = _merge_maps(was, then, today, conflicts, "")
    if conflicts:
        problems += [_changed_since(_path(place) + path) for path in conflicts]
        return now
    return msgspec.convert(merged, type(now))


def _merge_maps(
    old: dict[str, Any], new: dict[str, Any], now: dict[str, Any], conflicts: list[str], path: str
) -> dict[str, Any]:
    merged = dict(now)
    for key in dict.fromkeys((*old, *new)):
        was, then, today = (one.get(key, _ABSENT) for one in (old, new, now))
        where = f"{path}/{escape(key)}"
        if _alike(was, then) or _alike(was, today):
            continue
        if _alike(then, today):
            merged[key] = was
        elif (
            isinstance(was, dict)
            and isinstance(then, dict)
            and isinstance(today, dict)
            and where.count("/") < _MERGED_DEPTH
        ):
            merged[key] = _merge_maps(was, then, today, conflicts, where)
        else:
            conflicts.append(where)
    return {key: value for key, value in merged.items() if value is not _ABSENT}


def _alike(left: JSON, right: JSON) -> bool:
    return left is right or (left is not _ABSENT and right is not _ABSENT and same(left, right))


def _edit(place: Place, wanted: Noun | None) -> Edit:
    _, service, name = place
    match wanted:
        case Service():
            return PutService(service, wanted)
        case Setting():
            return PutSetting(service, name, wanted)
        case Segment():
            return PutSegment(service, name, wanted)
        case Environment():
            return PutEnvironment(name, wanted)
        case Contract():
            return PutContract(service, name, wanted)
    delete = _DELETES.get(place[0])
    return delete(service, name) if delete else DeleteService(service)


def _orphans(edits: list[Edit], head: State) -> Iterator[Problem]:
    """What stands in a service that is to go, and came after what is undone."""
    going: set[Place] = {
        ("setting", edit.service, edit.key)
        if isinstance(edit, DeleteSetting)
        else ("segment", edit.service, edit.segment)
        for edit in edits
        if isinstance(edit, DeleteSetting | DeleteSegment)
    }
    for edit in edits:
        if isinstance(edit, DeleteService):
            owner = head.services[edit.service]
            places: list[tuple[Kind, str]] = [("setting", key) for key in owner.settings]
            places += [("segment", name) for name in owner.segments]
            for kind, name in places:
                if (kind, edit.service, name) not in going:
                    yield _changed_since(_path((kind, edit.service, name)))


def _homeless(edits: list[Edit], head: State) -> Iterator[Problem]:
    """What would come back into a service that was deleted since, and with it the service."""
    there = {*head.services, *(edit.service for edit in edits if isinstance(edit, PutService))}
    for edit in edits:
        match edit:
            case PutSetting() if edit.service not in there:
                yield _changed_since(_path(("setting", edit.service, edit.key)))
            case PutSegment() if edit.service not in there:
                yield _changed_since(_path(("segment", edit.service, edit.segment)))


def _overrides(differences: Iterable[Difference], head: State) -> Iterator[Problem]:
    """What was pushed and stands, and what was lifted: both are a hand's work on a live system."""
    for one in differences:
        if one.kind != "override":
            continue
        [environment], where = one.environments, f"{one.service}/{one.name}"
        over = head.overrides.get(f"{environment}/{one.service}", Overridden()).keys.get(one.name)
        stands = over is not None and over.flag is not None
        if stands == (one.after is not None):
            yield Problem(
                code="not-undone",
                message=f"what was pushed over {where} in {environment} stays"
                + (" lifted" if one.after is None else ""),
                path=f"/overrides/{environment}/{where}",
                hint="push it again"
                if one.after is None
                else f"lift it: holdfast edge push --lift {where} --environment {environment}",
                severity="warning",
            )


def _path(place: Place) -> str:
    kind, service, name = place
    if kind == "service":
        return f"/{escape(service)}"
    return (f"/{escape(service)}" if service else "") + f"/{kind}s/{escape(name)}"


def _changed_since(path: str) -> Problem:
    return Problem(
        code="changed-since",
        message="changed again since: undoing would take the newer work away",
        path=path,
        hint="revert the newer revisions too, as a range, or edit it by hand",
    )


def _not_undone(place: Place) -> Problem:
    return Problem(
        code="not-undone",
        message=f"{place[0]} {place[2]} stays: tokens, roots and environments are not undone",
        path=_path(place),
        hint="make a new one, or change it by hand",
        severity="warning",
    )
