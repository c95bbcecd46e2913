"""Taking a rollout back: edits on today's head that put back what its change found.

One environment goes back. What others have stays, as far as they can have something else: type,
variants and schema of a setting, the includes of a service and whether there is a segment are the
same everywhere. Where the change put those, its rollouts in other environments are taken back with
it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final, TypeAlias

import msgspec

from holdfast.core.conform import faults
from holdfast.core.covered import segment_at, segments_of, setting_at, settings_of
from holdfast.core.fold import after
from holdfast.core.json_check import check_json
from holdfast.core.logic_check import references
from holdfast.core.model import (
    JSON,
    DeleteSegment,
    DeleteSetting,
    Edit,
    MoveRollout,
    Probe,
    PutSegment,
    PutService,
    PutSetting,
    Segment,
    Service,
    Setting,
)
from holdfast.core.overrides import pushed_value
from holdfast.core.probe_check import WRITTEN_MAX
from holdfast.core.reproduce import subject_of
from holdfast.core.staging import schema_of
from holdfast.core.state import (
    Before,
    State,
    closure,
    same,
    segment_environments,
    segment_owners,
)

Settings: TypeAlias = dict[tuple[str, str], Setting | None]
Segments: TypeAlias = dict[tuple[str, str], Segment | None]

_SHARED: Final = ("type", "variants", "schema", "metadata", "probes")
"""Fields of a setting that belong to every environment."""


def ended(edits: Iterable[Edit]) -> dict[str, MoveRollout]:
    """Rollouts that the edits end -> the edit that does it."""
    return {
        edit.rollout: edit
        for edit in edits
        if isinstance(edit, MoveRollout) and edit.status in ("completed", "rolled-back")
    }


def rolled_back(
    state: State, rollout: str, reason: str = "", evidence: JSON = None
) -> tuple[Edit, ...]:
    """All edits that take a rollout back, for one change. Raises `KeyError` when none runs so."""
    names = _together(state, rollout)
    settings: Settings = {}
    segments: Segments = {}
    services: list[Edit] = []
    for name in names:
        one = state.rollouts[name]
        _put_back_settings(state, one.environment, one.before, settings)
        _put_back_segments(state, one.environment, one.before, segments)
    for name in names:
        services += _put_back_services(state, state.rollouts[name].before, settings)
    moves = [
        MoveRollout(name, state.rollouts[name].stage, "rolled-back", reason, evidence)
        for name in names
    ]
    return (
        *services,
        *_segment_edits(state, segments, settings),
        *_setting_edits(state, settings),
        *moves,
    )


def all_rolled_back(state: State, rollouts: Iterable[str], reason: str = "") -> Iterator[Edit]:
    """As `rolled_back`, of several: each as the ones before it leave what they have in common."""
    for rollout in rollouts:
        if rollout in state.rollouts:
            edits = rolled_back(state, rollout, reason)
            state = after(state, edits)
            yield from edits


def taken_back(state: State, edits: Iterable[Edit]) -> State:
    """The state without the rollouts that the edits take back, and nothing else of the edits."""
    names = [name for name, one in ended(edits).items() if one.status == "rolled-back"]
    return after(state, [*all_rolled_back(state, names)]) if names else state


def _together(state: State, rollout: str) -> list[str]:
    """The rollout and those of the same change that can't stay without it."""
    found = [rollout]
    for each in found:  # it grows meanwhile
        one = state.rollouts[each]
        for name, other in state.rollouts.items():
            if name not in found and other.started == one.started:
                includes = one.before.services.keys() & other.before.services.keys()
                if includes or _share(state, one.before, other.before):
                    found.append(name)
    return found


def _share(state: State, one: Before, other: Before) -> bool:
    for service, name, was in segments_of(one):
        came_or_went = was is None or segment_at(state.services, service, name) is None
        if came_or_went and name in other.segments.get(service, {}):
            return True
    for service, key, old in settings_of(one):
        now = setting_at(state.services, service, key)
        covered = key in other.settings.get(service, {})
        if covered and old and now and not _same_shared(old, now):
            return True
    return False


def _fitting(
    state: State, service: str, key: str, now: Setting | None, back: Setting | None
) -> Setting | None:
    """`back`, with today's schema too where what was pushed over the setting fits that alone.

    It stands until it is lifted, and is in no rollback's way.
    """
    if now is None or back is None or same(now.schema, back.schema):
        return back
    pushed = (
        over.keys[key].flag
        for name, over in state.overrides.items()
        if key in over.keys and service in closure(state.services, subject_of(name).service)
    )
    values = [pushed_value(flag) for flag in pushed if flag is not None]
    if all(not [*faults(back.schema, value)] for value in values):
        return back
    return msgspec.structs.replace(back, schema=_schema(now, back))


def _same_shared(old: Setting, now: Setting) -> bool:
    return all(same(getattr(old, field), getattr(now, field)) for field in _SHARED)


# Settings -----------------------------------------------------------------------------------------


def _put_back_settings(state: State, environment: str, before: Before, into: Settings) -> None:
    for service, key, old in settings_of(before):
        place = service, key
        now = into[place] if place in into else setting_at(state.services, service, key)
        into[place] = _fitting(state, service, key, now, _restored(environment, old, now))


def _restored(environment: str, old: Setting | None, now: Setting | None) -> Setting | None:
    """`now` with the environment as in `old`, and what all environments share."""
    if now is None:
        there = old.environments.get(environment) if old else None
        if old is None or there is None:
            return None
        return msgspec.structs.replace(old, environments={environment: there})
    environments = {name: one for name, one in now.environments.items() if name != environment}
    if old is None:
        return msgspec.structs.replace(now, environments=environments) if environments else None
    if environment in old.environments:
        environments[environment] = old.environments[environment]
    if _same_shared(old, now):
        return msgspec.structs.replace(now, environments=environments)
    if all(same(one, old.environments.get(name)) for name, one in environments.items()):
        return msgspec.structs.replace(old, environments=environments)
    return msgspec.structs.replace(
        old,
        environments=environments,
        variants={**now.variants, **old.variants},  # others may serve what this change added
        schema=_schema(now, old),
        probes=(
            *_probes_in({environment}, old),
            *_probes_in(environments.keys() - {environment}, now),
        )[:WRITTEN_MAX],
    )


def _schema(now: Setting, old: Setting) -> JSON:
    """One that both's values have; none where it would be nested too deep to be written."""
    schema = schema_of(now, old)
    return None if any(check_json(schema, "")) else schema


def _probes_in(environments: Collection[str], setting: Setting) -> Iterator[Probe]:
    """Those of its probes that hold in any of the environments, for these."""
    for probe in setting.probes:
        there = set(environments) & set(probe.environments or environments)
        if there:
            yield msgspec.structs.replace(probe, environments=tuple(sorted(there)))


def _probed_where_it_stands(setting: Setting) -> Setting:
    """Its probes name no environment any more that it is taken out of."""
    there = setting.environments.keys()
    if all(there >= set(probe.environments) for probe in setting.probes):
        return setting
    return msgspec.structs.replace(setting, probes=tuple(_probes_in(there, setting)))


def _setting_edits(state: State, settings: Settings) -> Iterator[Edit]:
    for (service, key), wanted in settings.items():
        if wanted is not None:
            yield PutSetting(service, key, _probed_where_it_stands(wanted))
        elif setting_at(state.services, service, key) is not None:
            yield DeleteSetting(service, key)


# Segments -----------------------------------------------------------------------------------------


def _put_back_segments(state: State, environment: str, before: Before, into: Segments) -> None:
    known = set(state.environments)
    for service, name, old in segments_of(before):
        place = service, name
        now = into[place] if place in into else segment_at(state.services, service, name)
        into[place] = _restored_segment(environment, old, now, known)


def _restored_segment(
    environment: str, old: Segment | None, now: Segment | None, known: set[str]
) -> Segment | None:
    """`now` with the audience that `old` has in the environment; none to take it away."""
    if old is None or now is None:
        return old
    if segment_environments(old, now, known) <= {environment}:
        return msgspec.structs.replace(old, description=now.description)
    audience = old.environments.get(environment, old.audience)
    return msgspec.structs.replace(now, environments={**now.environments, environment: audience})


def _segment_edits(state: State, segments: Segments, settings: Settings) -> Iterator[Edit]:
    for (service, name), wanted in segments.items():
        if wanted is not None:
            yield PutSegment(service, name, wanted)
        elif not _is_referred(state, service, name, settings):
            yield DeleteSegment(service, name)


def _is_referred(state: State, service: str, name: str, settings: Settings) -> bool:
    """Whether a rule of anybody who sees the segment names it, once the settings are put back."""
    return any(
        name in referred(settings.get((owner, key), one.setting))
        for owner, found in state.services.items()
        if service in closure(state.services, owner)
        for key, one in found.settings.items()
    )


def referred(setting: Setting | None) -> set[str]:
    """The segments that its rules name."""
    found: set[str] = set()
    for targeting in setting.environments.values() if setting else ():
        found |= references(targeting.logic)
        for rule in targeting.rules:
            found |= references(rule.logic)
    return found


# Services -----------------------------------------------------------------------------------------


def _put_back_services(state: State, before: Before, settings: Settings) -> Iterator[Edit]:
    services: Mapping[str, Service | None] = before.services
    for name, old in services.items():
        now = state.services.get(name)
        if now is not None:
            includes = _put_back_includes(state, name, old.includes if old else (), settings)
            yield PutService(name, msgspec.structs.replace(now.info, includes=includes))
        elif old is not None:
            there = tuple(one for one in old.depends_on if one in {*state.services, *services})
            yield PutService(name, msgspec.structs.replace(old, depends_on=there))


def _put_back_includes(
    state: State, name: str, before: tuple[str, ...], settings: Settings
) -> tuple[str, ...]:
    """Those of before, and what came with the change if rules that stay name a segment of it: other
    environments may have no rollout to take back. It comes last, and so changes no setting that was
    there.
    """
    services, now = state.services, state.services[name]
    info = msgspec.structs.replace(now.info, includes=before)
    back = {**services, name: msgspec.structs.replace(now, info=info)}
    for owner, found in services.items():
        if name in closure(services, owner):
            lost = segment_owners(services, owner).keys() - segment_owners(back, owner).keys()
            kept = (settings.get((owner, key), one.setting) for key, one in found.settings.items())
            if lost and any(not lost.isdisjoint(referred(one)) for one in kept):
                return (*before, *(one for one in now.info.includes if one not in before))
    return before
