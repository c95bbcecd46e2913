"""`fold`: a state and an entry give the next state.

An entry counts as a whole: what it leaves is compared with what it found. So what it puts and takes
back touches nothing, and the order of its edits doesn't matter to what it touches.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from holdfast.core.marks import Found, Marks
from holdfast.core.model import (
    DeleteContract,
    DeleteSegment,
    DeleteService,
    DeleteSetting,
    DeleteToken,
    Edit,
    Entry,
    Head,
    PutContexts,
    PutContract,
    PutEnvironment,
    PutRoot,
    PutSegment,
    PutService,
    PutSetting,
    PutToken,
    Service,
    Subject,
    Token,
)
from holdfast.core.overrides import overridden
from holdfast.core.state import (
    ContractState,
    EnvironmentState,
    SegmentState,
    ServiceState,
    SettingState,
    State,
    TokenState,
    same,
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


class _Batch(Marks):
    """The states between two.

    An entry goes in three steps: note what the edits will find, make them, and then compare. So an
    entry counts as a whole: what it puts and takes back touches nothing, and the order of its
    edits doesn't matter to includes.
    """

    def apply(self, entry: Entry) -> None:
        found = Found()
        for edit in entry.edits:
            if isinstance(edit, PutService | DeleteService):
                self._note_service(edit, found)
            elif isinstance(edit, PutSetting | PutSegment) and edit.service not in self._services:
                found.services.setdefault(edit.service, None)
        for edit in entry.edits:
            self._edit(edit, found, entry.revision)
            self._overrides = overridden(self._overrides, edit, entry)
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

    def _note_service(self, edit: PutService | DeleteService, found: Found) -> None:
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

    # -- the edits

    def _edit(self, edit: Edit, found: Found, revision: int) -> None:
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

    def _edit_setting(self, edit: PutSetting | DeleteSetting, found: Found) -> None:
        if isinstance(edit, DeleteSetting) and edit.service not in self._services:
            return
        settings = self._own(edit.service).settings
        found.settings.setdefault((edit.service, edit.key), settings.get(edit.key))
        if isinstance(edit, PutSetting):
            settings[edit.key] = SettingState(edit.to)
        else:
            settings.pop(edit.key, None)

    def _edit_segment(self, edit: PutSegment | DeleteSegment, found: Found) -> None:
        if isinstance(edit, DeleteSegment) and edit.service not in self._services:
            return
        segments = self._own(edit.service).segments
        found.segments.setdefault((edit.service, edit.segment), segments.get(edit.segment))
        if isinstance(edit, PutSegment):
            segments[edit.segment] = SegmentState(edit.to)
        else:
            segments.pop(edit.segment, None)

    def _edit_contract(
        self, edit: PutContract | DeleteContract, found: Found, revision: int
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

    def _edit_contexts(self, edit: PutContexts, found: Found) -> None:
        subject = Subject(edit.environment, edit.service)
        found.contexts.setdefault(subject, self._contexts.get(str(subject), ()))
        self._contexts = {**self._contexts, str(subject): edit.contexts}

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
        changed, shaped, moved = revision, 0, dict[str, int]()
        if old is not None:
            was, to = old.environment, edit.to
            ahead = {name for one in (was.ahead, to.ahead) if one for name in one.services}
            moved = dict(old.moved)
            for name in ahead:
                if was.bucketing_of(name) != to.bucketing_of(name):
                    moved[name] = revision
            changed = revision if old.environment.bucketing != edit.to.bucketing else old.revision
            reshaped = not (same(was.policy.shape, to.policy.shape) and same(was.pacing, to.pacing))
            shaped = revision if reshaped else old.shaped
        self._environments[edit.environment] = EnvironmentState(edit.to, changed, shaped, moved)

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
