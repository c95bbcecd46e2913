"""What a rollout covers: the items of one environment that its change found otherwise.

`found_before` says what a change found, `overlay` puts it back beside what stands, so that a build
sees both sides.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping

import msgspec

from holdfast.core.model import Segment, Service, Setting
from holdfast.core.state import (
    Before,
    RolloutState,
    SegmentState,
    ServiceState,
    SettingState,
    State,
    segment_environments,
    setting_environments,
)

Services = Mapping[str, ServiceState]


def settings_of(before: Before) -> Iterator[tuple[str, str, Setting | None]]:
    """(service, key, what stood there) of each covered setting."""
    for service, settings in before.settings.items():
        for key, setting in settings.items():
            yield service, key, setting


def segments_of(before: Before) -> Iterator[tuple[str, str, Segment | None]]:
    """(service, name, what stood there) of each covered segment."""
    for service, segments in before.segments.items():
        for name, segment in segments.items():
            yield service, name, segment


def services_of(before: Before) -> set[str]:
    """The services that anything covered belongs to."""
    return {*before.settings, *before.segments, *before.services}


def is_empty(before: Before) -> bool:
    return not services_of(before)


def setting_at(services: Services, service: str, key: str) -> Setting | None:
    owner = services.get(service)
    found = owner.settings.get(key) if owner else None
    return found.setting if found else None


def segment_at(services: Services, service: str, name: str) -> Segment | None:
    owner = services.get(service)
    found = owner.segments.get(name) if owner else None
    return found.segment if found else None


def differ(environment: str, old: Setting | None, new: Setting | None) -> bool:
    """Whether a setting answers otherwise in the environment, or is described otherwise there."""
    return environment in setting_environments(old, new)


def segments_differ(environment: str, old: Segment | None, new: Segment | None) -> bool:
    return environment in segment_environments(old, new, (environment,))


def overlay(services: Services, before: Before) -> Services:
    """`services` with what is covered as it was before. A service that is new has nothing then."""
    put_back: dict[str, ServiceState] = {}
    for name in services_of(before):
        now = services.get(name)
        info = now.info if now else Service()
        if name in before.services:
            info = before.services[name] or Service()
        put_back[name] = ServiceState(
            info=info,
            settings=_put_back_settings(now, before.settings.get(name, {})),
            segments=_put_back_segments(now, before.segments.get(name, {})),
            touched=now.touched if now else {},
            removed=now.removed if now else {},
            included_at=now.included_at if now else {},
            segments_removed=now.segments_removed if now else {},
        )
    return ChainMap(put_back, services)  # type: ignore[arg-type]  # it is only read


def _put_back_settings(
    now: ServiceState | None, before: Mapping[str, Setting | None]
) -> dict[str, SettingState]:
    settings = dict(now.settings) if now else {}
    for key, setting in before.items():
        if setting is None:
            settings.pop(key, None)
        else:
            settings[key] = SettingState(setting)
    return settings


def _put_back_segments(
    now: ServiceState | None, before: Mapping[str, Segment | None]
) -> dict[str, SegmentState]:
    segments = dict(now.segments) if now else {}
    for name, segment in before.items():
        if segment is None:
            segments.pop(name, None)
        else:
            segments[name] = SegmentState(segment)
    return segments


def leaving(rollouts: Mapping[str, RolloutState], services: Services) -> dict[str, set[str]]:
    """Deleted services that still answer -> environments where a rollout takes them out."""
    found: dict[str, set[str]] = {}
    for rollout in rollouts.values():
        for name, info in rollout.before.services.items():
            if info is not None and name not in services:
                found.setdefault(name, set()).add(rollout.environment)
    return found


def rollouts_in(state: State, environment: str) -> dict[str, RolloutState]:
    """Rollouts that have not ended there, by id in the order of their beginning."""
    there = [name for name, one in state.rollouts.items() if one.environment == environment]
    return {name: state.rollouts[name] for name in sorted(there, key=_begun(state))}


def _begun(state: State) -> Callable[[str], int]:
    return lambda name: state.rollouts[name].started


class Items(msgspec.Struct):
    """Items of one environment that are compared: each as it was, by where it stands."""

    settings: dict[tuple[str, str], Setting | None] = {}
    segments: dict[tuple[str, str], Segment | None] = {}
    services: dict[str, Service | None] = {}

    def add(self, before: Before) -> None:
        """Count what a rollout found as what was there: it is rolled back now."""
        for service, key, setting in settings_of(before):
            self.settings[service, key] = setting
        for service, name, segment in segments_of(before):
            self.segments[service, name] = segment
        self.services.update(before.services)


def found_before(environment: str, items: Items, services: Services) -> Before:
    """What of `items` is otherwise now in the environment; those that are the same are left out.

    Of `items.services` all count whose includes differ, or that are gone: the caller gives only
    those that reach anything in the environment.
    """
    before = Before(settings={}, segments={}, services={})
    for (service, key), setting in items.settings.items():
        if differ(environment, setting, setting_at(services, service, key)):
            before.settings.setdefault(service, {})[key] = setting
    for (service, name), segment in items.segments.items():
        if segments_differ(environment, segment, segment_at(services, service, name)):
            before.segments.setdefault(service, {})[name] = segment
    for service, info in items.services.items():
        now = services.get(service)
        includes = now.info.includes if now else ()
        if (info.includes if info else ()) != includes or (info and now is None):
            before.services[service] = info
    return before
