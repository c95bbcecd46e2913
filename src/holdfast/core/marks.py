"""What differs after an entry's edits, and what that touches.

`Marks` holds the maps between two states. An entry counts as a whole: what it leaves is compared
with what it found, and an environment is touched exactly when that differs there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from holdfast.core import limits
from holdfast.core.covered import (
    Items,
    found_before,
    is_empty,
    leaving,
    overlay,
    segments_of,
    services_of,
    settings_of,
)
from holdfast.core.model import (
    JSON,
    Entry,
    MoveRollout,
    Service,
    StartRollout,
    Subject,
)
from holdfast.core.state import (
    ContractState,
    RolloutState,
    SegmentState,
    ServiceState,
    SettingState,
    State,
    closure,
    same,
    segment_environments,
    segment_owners,
    setting_environments,
    visible,
)


class Reach(msgspec.Struct, frozen=True):
    """What a service reached through its includes before an entry."""

    owners: dict[tuple[str, str], str] = {}
    segments: dict[str, str] = {}
    removed: dict[tuple[str, str], int] = {}
    segments_removed: dict[str, int] = {}
    environments: set[str] = set()


class Found(msgspec.Struct):
    """What one entry found, of all that it edits, before its first edit; none: not there."""

    services: dict[str, ServiceState | None] = {}
    settings: dict[tuple[str, str], SettingState | None] = {}
    segments: dict[tuple[str, str], SegmentState | None] = {}
    contracts: dict[tuple[str, str], ContractState | None] = {}
    contexts: dict[Subject, tuple[dict[str, JSON], ...]] = {}
    reaches: dict[str, Reach] = {}


class Marks:
    """The maps between two states: those made here change in place, all others are copied."""

    def __init__(self, state: State) -> None:
        self._head = state.head
        self._services = dict(state.services)
        self._environments = dict(state.environments)
        self._tokens = dict(state.tokens)
        self._roots = state.roots
        self._access = dict(state.access)
        self._gone = dict(state.gone)
        self._contracts = state.contracts
        self._rollouts = dict(state.rollouts)
        self._contexts = state.contexts
        self._overrides = state.overrides
        self._owned: set[str] = set()

    def state(self) -> State:
        return State(
            head=self._head,
            services=self._services,
            environments=self._environments,
            tokens=self._tokens,
            roots=self._roots,
            access=self._access,
            gone=self._gone,
            contracts=self._contracts,
            rollouts=self._rollouts,
            contexts=self._contexts,
            overrides=self._overrides,
        )

    # -- the maps

    def _own(self, name: str) -> ServiceState:
        """The service with maps that this batch may change; made when it isn't there."""
        service = self._services.get(name)
        if name in self._owned and service is not None:
            return service
        service = service or self._gone.pop(name, None) or ServiceState(info=Service())
        self._owned.add(name)
        self._services[name] = service = ServiceState(
            info=service.info,
            settings=dict(service.settings),
            segments=dict(service.segments),
            touched=dict(service.touched),
            removed={environment: dict(keys) for environment, keys in service.removed.items()},
            included_at=dict(service.included_at),
            segments_removed=dict(service.segments_removed),
        )
        return service

    def _reach(self, service: str) -> Reach:
        reached = [self._services[name] for name in closure(self._services, service)]
        removed: dict[tuple[str, str], int] = {}
        segments_removed: dict[str, int] = {}
        for one in reached:
            for environment, keys in one.removed.items():
                for key, at in keys.items():
                    removed[environment, key] = max(at, removed.get((environment, key), 0))
            for name, at in one.segments_removed.items():
                segments_removed[name] = max(at, segments_removed.get(name, 0))
        return Reach(
            owners=visible(self._services, service),
            segments=segment_owners(self._services, service),
            removed=removed,
            segments_removed=segments_removed,
            environments={environment for one in reached for environment in one.touched},
        )

    # -- what differs after the edits

    def _mark_nouns(self, found: Found, revision: int) -> None:
        for service, old in found.services.items():
            self._mark_service(service, old, revision)
        for (service, key), setting in found.settings.items():
            self._mark_setting(service, key, setting, revision)
        for (service, name), segment in found.segments.items():
            self._mark_segment(service, name, segment, revision)
        for (service, consumer), contract in found.contracts.items():
            self._mark_contract(service, consumer, contract, revision)
        for subject, contexts in found.contexts.items():
            self._mark_contexts(subject, contexts, revision)

    def _mark_service(self, service: str, old: ServiceState | None, revision: int) -> None:
        if service not in self._services and service not in self._gone:
            return
        now = self._mutable(service)
        if (old is None) == (service in self._services):  # it came, or it went
            self._touch(service, set(now.touched), revision)
        if old is not None and old.info.attributes.keys() != now.info.attributes.keys():
            self._touch_all_with(service, revision)  # snapshots name them
        before, after = old.info.includes if old else (), now.info.includes
        stayed = [name for name in after if name in before]
        if stayed != [name for name in before if name in after]:
            stayed = []  # another order is another precedence: as if all had come anew
        included_at = {
            name: old.included_at[name] if old and name in stayed else revision for name in after
        }
        now.included_at.clear()
        now.included_at.update(included_at)

    def _touch_all_with(self, service: str, revision: int) -> None:
        """Its snapshots and those of all that include it, which it may itself have nothing in."""
        for name in list(self._services):
            if service in closure(self._services, name):
                self._touch(name, self._snapshots_of(name), revision)

    def _mark_contexts(
        self, subject: Subject, before: tuple[dict[str, JSON], ...], revision: int
    ) -> None:
        """Other contexts make other probes. None are kept of what is not there."""
        now = self._contexts.get(str(subject), ())
        there = subject.service in self._services or (
            subject.environment in self._snapshots_of(subject.service)
        )
        if not there or not now:
            self._contexts = {k: v for k, v in self._contexts.items() if k != str(subject)}
        if there and not same(before, now):
            self._touch(subject.service, (subject.environment,), revision)

    def _mark_setting(
        self, service: str, key: str, old: SettingState | None, revision: int
    ) -> None:
        state = self._mutable(service)
        now = state.settings.get(key)
        changed = setting_environments(old.setting if old else None, now.setting if now else None)
        there = now.setting.environments if now else {}
        for environment in changed:
            if environment in there:
                state.removed.get(environment, {}).pop(key, None)
            else:
                _bury(state.removed, environment, key, revision)
        if now is not None:
            state.settings[key] = SettingState(
                now.setting, _revisions(there, changed, old.revisions if old else {}, revision)
            )
        self._touch(service, changed, revision)

    def _mark_segment(
        self, service: str, name: str, old: SegmentState | None, revision: int
    ) -> None:
        state = self._mutable(service)
        now = state.segments.get(name)
        known = self._environments.keys() | state.touched.keys()
        before, after = old.segment if old else None, now.segment if now else None
        changed = segment_environments(before, after, known)
        if now is None and old is not None:
            state.segments_removed[name] = revision
        if now is not None:
            state.segments_removed.pop(name, None)
            state.segments[name] = SegmentState(
                now.segment,
                _revisions(changed | known, changed, old.revisions if old else {}, revision),
            )
        self._touch(service, changed, revision)

    def _mark_contract(
        self, service: str, consumer: str, old: ContractState | None, revision: int
    ) -> None:
        """Snapshots name the contracts that hold in them; where there is none, nothing is made."""
        now = self._contracts.get(service, {}).get(consumer)
        if old is now:
            return
        there = self._snapshots_of(service)
        held = [one.contract.environments or there for one in (old, now) if one]
        if marked := there & set[str]().union(*held):
            self._touch(service, marked, revision)

    def _snapshots_of(self, service: str) -> set[str]:
        """Environments that have a snapshot of it; of a deleted one those that it still leaves."""
        if service not in self._services:
            return leaving(self._rollouts, self._services).get(service, set())
        return {
            environment
            for name in closure(self._services, service)
            for environment in self._services[name].touched
        }

    def _mark_reach(self, service: str, before: Reach, revision: int) -> None:
        """An include came or went: bury what went with it, touch all that it reaches."""
        state = self._mutable(service)
        after = self._reach(service)
        for (environment, key), owner in before.owners.items():
            if after.owners.get((environment, key)) not in (owner, service):
                _bury(state.removed, environment, key, revision)
        for name, owner in before.segments.items():
            if after.segments.get(name) not in (owner, service):
                state.segments_removed[name] = revision
        for (environment, key), at in before.removed.items():
            buried = state.removed.get(environment, {}).get(key, 0)
            if at > buried and (environment, key) not in after.owners:
                _bury(state.removed, environment, key, at)
        for name, at in before.segments_removed.items():
            took_over = after.segments.get(name) not in (None, service)
            if took_over and at > state.segments_removed.get(name, 0):
                state.segments_removed[name] = at
        self._touch(service, before.environments | after.environments, revision)

    # -- rollouts

    def _move_rollouts(self, entry: Entry, found: Found) -> None:
        """First the verdicts, then what begins: it may take over what an ended one covered."""
        rolled_back: list[RolloutState] = []
        for edit in entry.edits:
            rollout = self._rollouts.get(edit.rollout) if isinstance(edit, MoveRollout) else None
            if rollout is None or not isinstance(edit, MoveRollout):
                continue
            if edit.status in ("completed", "rolled-back"):
                del self._rollouts[edit.rollout]
            else:
                self._rollouts[edit.rollout] = msgspec.structs.replace(
                    rollout,
                    stage=edit.stage,
                    status=edit.status,
                    moved=entry.revision,
                    moved_ms=entry.at_ms,
                )
            if edit.status == "rolled-back":
                rolled_back.append(rollout)
            self._touch_covered(rollout, entry.revision)
        for edit in entry.edits:
            if isinstance(edit, StartRollout):
                self._start_rollout(edit, entry, found, rolled_back)

    def _start_rollout(
        self, edit: StartRollout, entry: Entry, found: Found, rolled_back: list[RolloutState]
    ) -> None:
        """A change that is nothing new in the environment begins nothing there."""
        items = Items(
            settings={place: old.setting if old else None for place, old in found.settings.items()},
            segments={place: old.segment if old else None for place, old in found.segments.items()},
            services={
                service: old.info if old else None
                for service, old in found.services.items()
                if edit.environment in self._reached(service, found)
            },
        )
        for rollout in rolled_back:
            if rollout.environment == edit.environment:
                items.add(rollout.before)
        before = found_before(edit.environment, items, self._services)
        if not is_empty(before):
            self._rollouts[f"{edit.environment}.{entry.revision}"] = RolloutState(
                environment=edit.environment,
                plan=edit.plan,
                before=before,
                started=entry.revision,
                moved=entry.revision,
                moved_ms=entry.at_ms,
                actor=entry.actor,
                reason=entry.reason,
            )

    def _reached(self, service: str, found: Found) -> set[str]:
        """Environments in which the service, with all it includes, has anything, now or before."""
        left, reach = self._gone.get(service), found.reaches.get(service)
        environments = set(left.touched) if left else set[str]()
        environments |= reach.environments if reach else set()
        return environments | self._reach(service).environments

    def _touch_covered(self, rollout: RolloutState, revision: int) -> None:
        """What a rollout covers may answer otherwise after each of its steps."""
        before, environment = rollout.before, rollout.environment
        for service, key, _ in settings_of(before):
            state = self._mutable(service)
            now = state.settings.get(key)
            if now is not None and environment in now.setting.environments:
                revisions = {**now.revisions, environment: revision}
                state.settings[key] = SettingState(now.setting, revisions)
            else:
                _bury(state.removed, environment, key, revision)
        for service, name, _ in segments_of(before):
            state = self._mutable(service)
            there = state.segments.get(name)
            if there is not None:
                revisions = {**there.revisions, environment: revision}
                state.segments[name] = SegmentState(there.segment, revisions)
            else:
                self._bury_segment(service, name, revision)
        for service in before.services:
            self._touch_reach(service, rollout, revision)
        for service in services_of(before):
            self._touch(service, (environment,), revision)

    def _touch_reach(self, service: str, rollout: RolloutState, revision: int) -> None:
        """Keys and segments that the service's rules reach otherwise than before the rollout."""
        was, environment = overlay(self._services, rollout.before), rollout.environment
        old, new = visible(was, service), visible(self._services, service)
        for place in old.keys() | new.keys():
            if place[0] == environment and old.get(place) != new.get(place):
                _bury(self._mutable(service).removed, environment, place[1], revision)
        owners, now = segment_owners(was, service), segment_owners(self._services, service)
        for name in owners.keys() | now.keys():
            if owners.get(name) != now.get(name):
                self._bury_segment(service, name, revision)

    def _bury_segment(self, service: str, name: str, revision: int) -> None:
        """In all environments: removals of segments are not told apart by them."""
        state = self._mutable(service)
        state.segments_removed[name] = revision
        self._touch(service, self._environments.keys() | state.touched.keys(), revision)

    def _forget(self, service: str) -> None:
        """Forget the oldest removals beyond their bounds, but for names that another one has.

        What took over under such a name moved at that removal, and must go on to say so.
        """
        left = self._services.get(service) or self._gone.get(service)
        if left is None:
            return
        there = self._services.values()
        for gone in left.removed.values():
            _forget_oldest(
                gone, limits.SETTINGS_MAX, lambda key: any(key in one.settings for one in there)
            )
        _forget_oldest(
            left.segments_removed,
            limits.SEGMENTS_MAX,
            lambda name: any(name in one.segments for one in there),
        )

    def _mutable(self, service: str) -> ServiceState:
        """The service, or what is left of it when the entry deleted it."""
        if service in self._services:
            return self._own(service)
        left = self._gone[service]
        if service not in self._owned:
            self._owned.add(service)
            removed = {environment: dict(keys) for environment, keys in left.removed.items()}
            left = ServiceState(
                info=left.info,
                touched=dict(left.touched),
                removed=removed,
                segments_removed=dict(left.segments_removed),
            )
            self._gone[service] = left
        return left

    def _touch(self, service: str, environments: Iterable[str], revision: int) -> None:
        self._mutable(service).touched.update(dict.fromkeys(environments, revision))


def _revisions(
    there: Iterable[str], changed: set[str], before: Mapping[str, int], revision: int
) -> dict[str, int]:
    return {
        environment: revision if environment in changed else before[environment]
        for environment in there
        if environment in changed or environment in before
    }


def _bury(removed: dict[str, dict[str, int]], environment: str, key: str, revision: int) -> None:
    removed.setdefault(environment, {})[key] = revision


def _forget_oldest(gone: dict[str, int], names_max: int, stands: Callable[[str], bool]) -> None:
    left = len(gone) - names_max
    for name in sorted(gone, key=lambda one: (gone[one], one)) if left > 0 else ():
        if left > 0 and not stands(name):
            del gone[name]
            left -= 1
