"""`State = fold(entries)`: everything that stands after a revision, and which revision touched it.

The bookkeeping here (`touched`, `revisions`, `removed`, `included_at`, `access`) is what makes
invariant 3, no unexplained change, decidable: an environment is touched by an entry exactly when
what the entry leaves behind differs there from what it found.

States are values: `fold` never changes the one that it is given. It copies the maps of a service
once per call, so `fold_all` over a batch costs the edits and not the size of the state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from holdfast.core import limits
from holdfast.core.model import (
    GENESIS,
    JSON,
    DeleteSegment,
    DeleteService,
    DeleteSetting,
    DeleteToken,
    Edit,
    Entry,
    Environment,
    Head,
    PutEnvironment,
    PutRoot,
    PutSegment,
    PutService,
    PutSetting,
    PutToken,
    Segment,
    Service,
    Setting,
    Token,
)

_encode = msgspec.json.Encoder(order="deterministic").encode


class SettingState(msgspec.Struct, frozen=True):
    """A setting, and per environment that it stands in the newest revision that changed it there.

    Type, variants, schema and metadata belong to every environment; targeting to its own;
    description, expiry and the way variants were written to none.
    """

    setting: Setting
    revisions: dict[str, int] = {}


class SegmentState(msgspec.Struct, frozen=True):
    """A segment, and per environment the newest revision that changed who is in it there.

    An environment that is missing came after the segment: read it as 0.
    """

    segment: Segment
    revisions: dict[str, int] = {}


class ServiceState(msgspec.Struct, frozen=True):
    """One service.

    - `touched`: environment -> newest revision that changed anything of this service there. The
      pair is a subject once it stands here. Included services are not counted in: see `closure`.
    - `removed`: environment -> key -> revision of the removal, for keys that went away, included
      keys of a dropped include among them. A key that came back through an include stays here: its
      answer changed at that revision. The oldest beyond `limits.SETTINGS_MAX` are forgotten.
    - `included_at`: include -> revision that (last) added it.
    """

    info: Service
    settings: dict[str, SettingState] = {}
    segments: dict[str, SegmentState] = {}
    touched: dict[str, int] = {}
    removed: dict[str, dict[str, int]] = {}
    included_at: dict[str, int] = {}


class EnvironmentState(msgspec.Struct, frozen=True):
    """An environment, and the newest revision that changed its bucketing (its first one too)."""

    environment: Environment
    revision: int


class TokenState(msgspec.Struct, frozen=True):
    token: Token
    revision: int


class State(msgspec.Struct, frozen=True):
    """All that stands after revision `head.revision`. Shared and read-only, its maps too.

    - `roots`: root documents as DSSE envelopes, version 1 first.
    - `access`: scope environment as written in tokens (`*` too) -> newest revision that added,
      changed or removed a token with such a scope.
    - `gone`: services that were deleted: no settings and segments any more, but their `touched` and
      `removed`, so that one made again under the same name goes on and not back.
    """

    head: Head = GENESIS
    services: dict[str, ServiceState] = {}
    environments: dict[str, EnvironmentState] = {}
    tokens: dict[str, TokenState] = {}
    roots: tuple[JSON, ...] = ()
    access: dict[str, int] = {}
    gone: dict[str, ServiceState] = {}


EMPTY = State()


def fold(state: State, entry: Entry) -> State:
    """The state after `entry`. The entry's link is not checked: `core.history.verify_link` is."""
    return fold_all(state, (entry,))


def fold_all(state: State, entries: Iterable[Entry]) -> State:
    """The state after all `entries`, in order; every map that changes is copied once."""
    batch = _Batch(state)
    for entry in entries:
        batch.apply(entry)
    return batch.state()


def closure(services: Mapping[str, ServiceState], service: str) -> tuple[str, ...]:
    """`service` and all that it includes, directly or not, each once, in order of precedence.

    Depth first in the order written; names that don't exist are left out; a cycle ends.
    """
    found: dict[str, None] = {}
    waiting = [service]
    while waiting:
        name = waiting.pop()
        if name in found or name not in services:
            continue
        found[name] = None
        waiting.extend(reversed(services[name].info.includes))
    return tuple(found)


def same(left: object, right: object) -> bool:
    """Whether two nouns are the same JSON. `==` is not enough: to Python, `True` equals 1."""
    return left is right or _encode(left) == _encode(right)


def setting_environments(old: Setting | None, new: Setting | None) -> set[str]:
    """Environments in which the two may answer differently; none stands for not being there."""
    if old is None or new is None:
        there = old or new
        return set(there.environments) if there else set()
    everywhere = old.environments.keys() | new.environments.keys()
    if _of_all_environments(old) != _of_all_environments(new):
        return set(everywhere)
    return {
        environment
        for environment in everywhere
        if not same(old.environments.get(environment), new.environments.get(environment))
    }


def segment_environments(
    old: Segment | None, new: Segment | None, environments: Iterable[str]
) -> set[str]:
    """Those of `environments` and of the segments' overrides in which the audience differs."""
    names = set(environments)
    for segment in (old, new):
        names.update(segment.environments if segment else ())
    return {name for name in names if not same(_audience(old, name), _audience(new, name))}


def _of_all_environments(setting: Setting) -> bytes:
    return _encode((setting.type, setting.variants, setting.schema, setting.metadata))


def _audience(segment: Segment | None, environment: str) -> object:
    return segment and segment.environments.get(environment, segment.audience)


def _visible(services: Mapping[str, ServiceState], service: str) -> dict[tuple[str, str], str]:
    """(environment, key) of all that the service's snapshots hold -> the service that owns it."""
    owners: dict[tuple[str, str], str] = {}
    for name in closure(services, service):
        for key, found in services[name].settings.items():
            for environment in found.setting.environments:
                owners.setdefault((environment, key), name)
    return owners


class _Reach(msgspec.Struct, frozen=True):
    """What a service reached through its includes before an entry."""

    owners: dict[tuple[str, str], str] = {}
    removed: dict[tuple[str, str], int] = {}
    environments: set[str] = set()


class _Found(msgspec.Struct):
    """What one entry found, of all that it edits, before its first edit; none: not there."""

    services: dict[str, ServiceState | None] = {}
    settings: dict[tuple[str, str], SettingState | None] = {}
    segments: dict[tuple[str, str], SegmentState | None] = {}
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
        )

    def apply(self, entry: Entry) -> None:
        found = _Found()
        for edit in entry.edits:
            if isinstance(edit, PutService | DeleteService):
                self._note_service(edit, found)
        for edit in entry.edits:
            self._edit(edit, found, entry.revision)
        for service, before in found.services.items():
            self._mark_service(service, before, entry.revision)
        for (service, key), old in found.settings.items():
            self._mark_setting(service, key, old, entry.revision)
        for (service, name), older in found.segments.items():
            self._mark_segment(service, name, older, entry.revision)
        for service, reach in found.reaches.items():
            self._mark_reach(service, reach, entry.revision)
        self._head = Head(revision=entry.revision, hash=entry.hash)

    # -- what the entry finds

    def _note_service(self, edit: PutService | DeleteService, found: _Found) -> None:
        old = self._services.get(edit.service)
        found.services.setdefault(
            edit.service,
            old and ServiceState(info=old.info, included_at=dict(old.included_at)),
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
        return _Reach(
            owners=_visible(self._services, service),
            removed={
                (environment, key): revision
                for one in reached
                for environment, keys in one.removed.items()
                for key, revision in keys.items()
            },
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
        )
        return service

    def _delete_service(self, name: str) -> None:
        service = self._services.pop(name, None)
        if service is not None:
            self._owned.discard(name)
            self._gone[name] = ServiceState(
                info=Service(), touched=service.touched, removed=service.removed
            )

    def _put_environment(self, edit: PutEnvironment, revision: int) -> None:
        old = self._environments.get(edit.environment)
        if old is not None and old.environment.bucketing == edit.to.bucketing:
            revision = old.revision
        self._environments[edit.environment] = EnvironmentState(edit.to, revision)

    def _put_token(self, name: str, token: Token | None, revision: int) -> None:
        old = self._tokens.get(name)
        if same(old and old.token, token):
            return
        if token is None:
            del self._tokens[name]
        else:
            self._tokens[name] = TokenState(token, revision)
        for one in (old and old.token, token):
            for scope in one.scopes if one else ():
                self._access[scope.environment] = revision

    # -- what differs after the edits

    def _mark_service(self, service: str, old: ServiceState | None, revision: int) -> None:
        if service not in self._services:
            return
        now = self._own(service)
        if old is None:
            self._touch(service, set(now.touched), revision)
        before, after = old.info.includes if old else (), now.info.includes
        stayed = [name for name in after if name in before]
        if stayed != [name for name in before if name in after]:
            stayed = []  # another order is another precedence: as if all had come anew
        included_at = {
            name: old.included_at[name] if old and name in stayed else revision for name in after
        }
        now.included_at.clear()
        now.included_at.update(included_at)

    def _mark_setting(
        self, service: str, key: str, old: SettingState | None, revision: int
    ) -> None:
        state = self._mutable(service)
        now = state.settings.get(key)
        changed = setting_environments(old and old.setting, now and now.setting)
        there = now.setting.environments if now else {}
        for environment in changed:
            if environment in there:
                state.removed.get(environment, {}).pop(key, None)
            else:
                _bury(state.removed, environment, key, revision)
        if now is not None:
            state.settings[key] = SettingState(
                now.setting, _revisions(there, changed, old and old.revisions, revision)
            )
        self._touch(service, changed, revision)

    def _mark_segment(
        self, service: str, name: str, old: SegmentState | None, revision: int
    ) -> None:
        state = self._mutable(service)
        now = state.segments.get(name)
        known = self._environments.keys() | state.touched.keys()
        changed = segment_environments(old and old.segment, now and now.segment, known)
        if now is not None:
            state.segments[name] = SegmentState(
                now.segment, _revisions(changed | known, changed, old and old.revisions, revision)
            )
        self._touch(service, changed, revision)

    def _mark_reach(self, service: str, before: _Reach, revision: int) -> None:
        """An include came or went: bury what went with it, touch all that it reaches."""
        state = self._mutable(service)
        after = self._reach(service)
        for (environment, key), owner in before.owners.items():
            if after.owners.get((environment, key)) not in (owner, service):
                _bury(state.removed, environment, key, revision)
        for (environment, key), at in before.removed.items():
            buried = state.removed.get(environment, {}).get(key, 0)
            if at > buried and (environment, key) not in after.owners:
                _bury(state.removed, environment, key, at)
        self._touch(service, before.environments | after.environments, revision)

    def _mutable(self, service: str) -> ServiceState:
        """The service, or what is left of it when the entry deleted it."""
        if service in self._services:
            return self._own(service)
        left = self._gone[service]
        if service not in self._owned:
            self._owned.add(service)
            removed = {environment: dict(keys) for environment, keys in left.removed.items()}
            left = ServiceState(info=left.info, touched=dict(left.touched), removed=removed)
            self._gone[service] = left
        return left

    def _touch(self, service: str, environments: Iterable[str], revision: int) -> None:
        self._mutable(service).touched.update(dict.fromkeys(environments, revision))


def _revisions(
    there: Iterable[str], changed: set[str], old: Mapping[str, int] | None, revision: int
) -> dict[str, int]:
    before = old or {}
    return {
        environment: revision if environment in changed else before[environment]
        for environment in there
        if environment in changed or environment in before
    }


def _bury(removed: dict[str, dict[str, int]], environment: str, key: str, revision: int) -> None:
    keys = removed.setdefault(environment, {})
    keys[key] = revision
    if len(keys) > limits.SETTINGS_MAX:
        del keys[min(keys, key=lambda one: (keys[one], one))]
