"""`fold`: a state and an entry give the next state.

An entry counts as a whole: what it leaves is compared with what it found. So what it puts and takes
back touches nothing, and the order of its edits doesn't matter to what it touches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from holdfast.core import limits
from holdfast.core.covered import (
    Items,
    found_before,
    is_empty,
    overlay,
    segments_of,
    services_of,
    settings_of,
)
from holdfast.core.model import (
    JSON,
    DeleteContract,
    DeleteSegment,
    DeleteService,
    DeleteSetting,
    DeleteToken,
    Edit,
    Entry,
    Head,
    MoveRollout,
    PutContexts,
    PutContract,
    PutEnvironment,
    PutRoot,
    PutSegment,
    PutService,
    PutSetting,
    PutToken,
    Service,
    StartRollout,
    Subject,
    Token,
)
from holdfast.core.state import (
    ContractState,
    EnvironmentState,
    RolloutState,
    SegmentState,
    ServiceState,
    SettingState,
    State,
    TokenState,
    closure,
    same,
    segment_environments,
    segment_owners,
    setting_environments,
    visible,
)


def fold(state: State, entry: Entry) -> State:
    """The state after `entry`. The entry's link is not checked: `core.history.verify_link` is."""
    return fold_all(state, (entry,))


def fold_all(state: State, entries: Iterable[Entry]) -> State:
    """The state after all `entries`, in order; every map that changes is copied once."""
    batch = _Batch(state)
    for entry in entries:
        batch.apply(entry)
    return batch.state()


def after(state: State, edits: Sequence[Edit]) -> State:
    """What would stand after a change; nobody seals it, so its head has no hash."""
    head = state.head
    entry = Entry(
        revision=head.revision + 1,
        at_ms=0,
        actor="",
        reason="",
        edits=tuple(edits),
        previous=head.hash,
        hash="",
    )
    return fold(state, entry)


class _Reach(msgspec.Struct, frozen=True):
    """What a service reached through its includes before an entry."""

    owners: dict[tuple[str, str], str] = {}
    segments: dict[str, str] = {}
    removed: dict[tuple[str, str], int] = {}
    environments: set[str] = set()


class _Found(msgspec.Struct):
    """What one entry found, of all that it edits, before its first edit; none: not there."""

    services: dict[str, ServiceState | None] = {}
    settings: dict[tuple[str, str], SettingState | None] = {}
    segments: dict[tuple[str, str], SegmentState | None] = {}
    contracts: dict[tuple[str, str], ContractState | None] = {}
    contexts: dict[Subject, tuple[dict[str, JSON], ...]] = {}
    reaches: dict[str, _Reach] = {}


class _Batch:
    """The states between two: maps that it made itself it changes in place, all others it copies.

    An entry goes in three steps: note what the edits will find, make them, and then compare. So an
    entry counts as a whole: what it puts and takes back touches nothing, and the order of its
    edits doesn't matter to includes.
    """

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
        )

    def apply(self, entry: Entry) -> None:
        found = _Found()
        for edit in entry.edits:
            if isinstance(edit, PutService | DeleteService):
                self._note_service(edit, found)
            elif isinstance(edit, PutSetting | PutSegment) and edit.service not in self._services:
                found.services.setdefault(edit.service, None)
        for edit in entry.edits:
            self._edit(edit, found, entry.revision)
        self._mark_nouns(found, entry.revision)
        for service, reach in found.reaches.items():
            old = found.services[service]
            if self._mutable(service).info.includes != (old.info.includes if old else ()):
                self._mark_reach(service, reach, entry.revision)
        self._move_rollouts(entry, found)
        edited = {one for one, _ in (*found.settings, *found.segments)}
        for service in edited.union(found.services):
            self._forget(service)
        self._head = Head(revision=entry.revision, hash=entry.hash)

    # -- what the entry finds

    def _note_service(self, edit: PutService | DeleteService, found: _Found) -> None:
        old = self._services.get(edit.service)
        found.services.setdefault(
            edit.service,
            ServiceState(info=old.info, included_at=dict(old.included_at)) if old else None,
        )
        if old and isinstance(edit, DeleteService):
            for key, setting in old.settings.items():
                found.settings[edit.service, key] = setting
            for name, segment in old.segments.items():
                found.segments[edit.service, name] = segment
        includes = edit.to.includes if isinstance(edit, PutService) else ()
        if (old.info.includes if old else ()) != includes:
            found.reaches[edit.service] = self._reach(edit.service)

    def _reach(self, service: str) -> _Reach:
        reached = [self._services[name] for name in closure(self._services, service)]
        removed: dict[tuple[str, str], int] = {}
        for one in reached:
            for environment, keys in one.removed.items():
                for key, at in keys.items():
                    removed[environment, key] = max(at, removed.get((environment, key), 0))
        return _Reach(
            owners=visible(self._services, service),
            segments=segment_owners(self._services, service),
            removed=removed,
            environments={environment for one in reached for environment in one.touched},
        )

    # -- the edits

    def _edit(self, edit: Edit, found: _Found, revision: int) -> None:
        match edit:
            case PutSetting() | DeleteSetting():
                self._edit_setting(edit, found)
            case PutSegment() | DeleteSegment():
                self._edit_segment(edit, found)
            case PutService():
                service = self._own(edit.service)
                self._services[edit.service] = msgspec.structs.replace(service, info=edit.to)
            case DeleteService():
                self._delete_service(edit.service)
            case PutEnvironment():
                self._put_environment(edit, revision)
            case PutToken():
                self._put_token(edit.token, edit.to, revision)
            case DeleteToken():
                self._put_token(edit.token, None, revision)
            case PutRoot():
                self._roots = (*self._roots, edit.envelope)
            case PutContract() | DeleteContract():
                self._edit_contract(edit, found, revision)
            case PutContexts():
                self._edit_contexts(edit, found)

    def _edit_setting(self, edit: PutSetting | DeleteSetting, found: _Found) -> None:
        if isinstance(edit, DeleteSetting) and edit.service not in self._services:
            return
        settings = self._own(edit.service).settings
        found.settings.setdefault((edit.service, edit.key), settings.get(edit.key))
        if isinstance(edit, PutSetting):
            settings[edit.key] = SettingState(edit.to)
        else:
            settings.pop(edit.key, None)

    def _edit_segment(self, edit: PutSegment | DeleteSegment, found: _Found) -> None:
        if isinstance(edit, DeleteSegment) and edit.service not in self._services:
            return
        segments = self._own(edit.service).segments
        found.segments.setdefault((edit.service, edit.segment), segments.get(edit.segment))
        if isinstance(edit, PutSegment):
            segments[edit.segment] = SegmentState(edit.to)
        else:
            segments.pop(edit.segment, None)

    def _edit_contract(
        self, edit: PutContract | DeleteContract, found: _Found, revision: int
    ) -> None:
        contracts = dict(self._contracts.get(edit.service, {}))
        before = found.contracts.setdefault(
            (edit.service, edit.consumer), contracts.get(edit.consumer)
        )
        contracts.pop(edit.consumer, None)
        if isinstance(edit, PutContract):
            unchanged = before is not None and same(before.contract, edit.to)
            contracts[edit.consumer] = (
                before if before and unchanged else ContractState(edit.to, revision)
            )
        self._contracts = {**self._contracts, edit.service: contracts}
        if not contracts:
            self._contracts = {k: v for k, v in self._contracts.items() if k != edit.service}

    def _edit_contexts(self, edit: PutContexts, found: _Found) -> None:
        subject = Subject(edit.environment, edit.service)
        found.contexts.setdefault(subject, self._contexts.get(str(subject), ()))
        self._contexts = {**self._contexts, str(subject): edit.contexts}

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

    def _delete_service(self, name: str) -> None:
        service = self._services.pop(name, None)
        if service is not None:
            self._owned.discard(name)
            self._gone[name] = ServiceState(
                info=Service(),
                touched=service.touched,
                removed=service.removed,
                segments_removed=service.segments_removed,
            )

    def _put_environment(self, edit: PutEnvironment, revision: int) -> None:
        old = self._environments.get(edit.environment)
        changed, shaped = revision, 0
        if old is not None:
            changed = revision if old.environment.bucketing != edit.to.bucketing else old.revision
            reshaped = not same(old.environment.policy.shape, edit.to.policy.shape)
            shaped = revision if reshaped else old.shaped
        self._environments[edit.environment] = EnvironmentState(edit.to, changed, shaped)

    def _put_token(self, name: str, token: Token | None, revision: int) -> None:
        old = self._tokens.get(name)
        before = old.token if old else None
        if same(before, token):
            return
        if token is None:
            del self._tokens[name]
        else:
            self._tokens[name] = TokenState(token, revision)
        for one in (before, token):
            for scope in one.scopes if one else ():
                self._access[scope.environment] = revision

    # -- what differs after the edits

    def _mark_nouns(self, found: _Found, revision: int) -> None:
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
            self._touch(service, set(now.touched), revision)  # snapshots name them
        before, after = old.info.includes if old else (), now.info.includes
        stayed = [name for name in after if name in before]
        if stayed != [name for name in before if name in after]:
            stayed = []  # another order is another precedence: as if all had come anew
        included_at = {
            name: old.included_at[name] if old and name in stayed else revision for name in after
        }
        now.included_at.clear()
        now.included_at.update(included_at)

    def _mark_contexts(
        self, subject: Subject, before: tuple[dict[str, JSON], ...], revision: int
    ) -> None:
        """Other contexts make other probes. None are kept of what is not there."""
        now = self._contexts.get(str(subject), ())
        if subject.service not in self._services or not now:
            self._contexts = {k: v for k, v in self._contexts.items() if k != str(subject)}
        if subject.service in self._services and not same(before, now):
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
        if old is now or service not in self._services:
            return
        there = {
            environment
            for name in closure(self._services, service)
            for environment in self._services[name].touched
        }
        held = [one.contract.environments or there for one in (old, now) if one]
        self._touch(service, there & set[str]().union(*held), revision)

    def _mark_reach(self, service: str, before: _Reach, revision: int) -> None:
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
        self._touch(service, before.environments | after.environments, revision)

    # -- rollouts

    def _move_rollouts(self, entry: Entry, found: _Found) -> None:
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
        self, edit: StartRollout, entry: Entry, found: _Found, rolled_back: list[RolloutState]
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

    def _reached(self, service: str, found: _Found) -> set[str]:
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
