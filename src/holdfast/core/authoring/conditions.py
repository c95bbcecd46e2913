"""Conditions in edits that no file wrote: what `when` says is what `logic` does.

Files write one of the two. An edit may carry both, as the journal keeps them; then people read the
one and consumers evaluate the other, so the two must agree before anybody commits them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import msgspec

from holdfast.core.authoring.batch import segment_kinds
from holdfast.core.cel import Scope, lower
from holdfast.core.errors import Invalid, Problem
from holdfast.core.model import (
    JSON,
    AttributeType,
    Audience,
    Edit,
    PutSegment,
    PutSetting,
    Rule,
    Targeting,
)
from holdfast.core.pointer import pointer
from holdfast.core.state import ServiceState, closure
from holdfast.core.wire import canonical

_Condition = TypeVar("_Condition", Rule, Audience)


def carries_conditions(edits: Sequence[Edit]) -> bool:
    """Whether there is anything here for `settle_conditions` to do."""
    return any(
        any(rule.when for each in edit.to.environments.values() for rule in each.rules)
        if isinstance(edit, PutSetting)
        else any(each.when for each in (edit.to.audience, *edit.to.environments.values()))
        for edit in edits
        if isinstance(edit, PutSetting | PutSegment)
    )


def settle_conditions(
    edits: Sequence[Edit], services: Mapping[str, ServiceState]
) -> tuple[tuple[Edit, ...], tuple[Problem, ...]]:
    """The edits with the logic of every `when`, and all problems of conditions.

    `services` are those that stand after the edits: they say which attributes and segments a
    condition may speak of. Logic that is there already must be what its `when` lowers to. Paths
    begin with `/edits/<number>`.
    """
    problems: list[Problem] = []
    settled = tuple(
        _settled(edit, f"/edits/{number}/to", services, problems)
        for number, edit in enumerate(edits)
    )
    return settled, tuple(problems)


def _settled(
    edit: Edit, path: str, services: Mapping[str, ServiceState], problems: list[Problem]
) -> Edit:
    if not isinstance(edit, PutSetting | PutSegment) or not carries_conditions((edit,)):
        return edit
    scope = _scope(edit.service, services)
    if isinstance(edit, PutSetting):
        return _setting(edit, path, scope, problems)
    rules_only = Scope(scope.attributes)  # a segment speaks of no segments
    audience = _condition(edit.to.audience, f"{path}/audience", rules_only, problems)
    environments = _each(
        edit.to.environments,
        path,
        lambda one, place: _condition(one, place, rules_only, problems),
    )
    to = msgspec.structs.replace(edit.to, audience=audience, environments=environments)
    return msgspec.structs.replace(edit, to=to)


def _setting(edit: PutSetting, path: str, scope: Scope, problems: list[Problem]) -> PutSetting:
    def targeting(one: Targeting, place: str) -> Targeting:
        rules = tuple(
            _condition(rule, f"{place}/rules/{number}", scope, problems)
            for number, rule in enumerate(one.rules)
        )
        return msgspec.structs.replace(one, rules=rules)

    environments = _each(edit.to.environments, path, targeting)
    to = msgspec.structs.replace(edit.to, environments=environments)
    return msgspec.structs.replace(edit, to=to)


_Item = TypeVar("_Item")


def _each(
    environments: Mapping[str, _Item], path: str, settled: Callable[[_Item, str], _Item]
) -> dict[str, _Item]:
    return {
        name: settled(one, path + pointer(("environments", name)))
        for name, one in environments.items()
    }


def _condition(written: _Condition, path: str, scope: Scope, problems: list[Problem]) -> _Condition:
    if not written.when:
        return written
    lowered = lower(written.when, scope)
    if lowered.problems:
        problems += [msgspec.structs.replace(one, path=f"{path}/when") for one in lowered.problems]
    elif written.logic is not None and not _alike(written.logic, lowered.logic):
        hint = "leave `logic` out, it is made from `when`; or leave `when` out to keep the logic"
        message = "`logic` is not what `when` says"
        found = Problem(code="when-and-logic", message=message, path=f"{path}/logic", hint=hint)
        problems.append(found)
    return msgspec.structs.replace(written, logic=lowered.logic)


def _alike(left: JSON, right: JSON) -> bool:
    try:
        return canonical(left) == canonical(right)
    except Invalid:
        return False  # numbers beyond all JSON: no condition lowers to such


def _scope(service: str, services: Mapping[str, ServiceState]) -> Scope:
    """What conditions of a service may speak of: its own, and what its includes bring along."""
    attributes: dict[str, AttributeType] = {}
    segments: dict[str, frozenset[str]] = {}
    for name in closure(services, service):
        found = services[name]
        attributes = {**found.info.attributes, **attributes}
        kinds = {key: segment_kinds(each.segment) for key, each in found.segments.items()}
        segments = {**kinds, **segments}
    return Scope(attributes, segments)
