"""The engine's records in the API's shapes, each caller shown what its token may see."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from holdfast.apps.control import schemas
from holdfast.apps.control.door import require_somewhere
from holdfast.core import limits
from holdfast.core.access import EVERY, Grant, may_grant
from holdfast.core.difference import Difference
from holdfast.core.errors import CallerError, Forbidden, NotFound
from holdfast.core.model import (
    Approve,
    BreakGlass,
    DeleteToken,
    Edit,
    Entry,
    MoveRollout,
    PutEnvironment,
    PutRoot,
    PutToken,
    SettingType,
    StartRollout,
)
from holdfast.core.state import SettingState
from holdfast.engine.records import Records


class Query(msgspec.Struct, frozen=True):
    """A search: all that is given must hold."""

    words: str
    service: str | None
    environment: str | None
    type: SettingType | None
    cursor: str | None
    limit: int


class Reading:
    """Reads on behalf of callers. Thread-safe."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def history(
        self, caller: Grant, service: str | None, key: str | None, before: int | None, limit: int
    ) -> schemas.History:
        """Entries below `before`, newest first. Raises `NotFound` and `Forbidden`."""
        self._require(caller, service)
        if key is not None and service is None:
            raise CallerError("`key` is one of a service: give `service`, too")
        page = self._records.history(
            service=service or "", key=key or "", before=before or 0, limit=limit
        )
        return schemas.History(tuple(map(_recorded, page.entries)), page.before or None)

    def entry(self, caller: Grant, revision: int) -> schemas.RecordedDetail:
        """One entry, as far as the caller may see it. Raises `NotFound` and `Forbidden`."""
        entry = self._records.entry(revision)
        edits = tuple(_shown(edit) for edit in entry.edits if _may_see(caller, edit))
        if not edits:
            raise Forbidden(f"the token {caller.token} may see nothing of revision {revision}")
        return schemas.RecordedDetail(
            revision=entry.revision,
            at_ms=entry.at_ms,
            actor=entry.actor,
            reason=entry.reason,
            previous=entry.previous,
            hash=entry.hash,
            edits=edits,
            hidden_edit_count=len(entry.edits) - len(edits),
            differences=visible(caller, self._records.changes(revision)),
        )

    def differences(
        self, caller: Grant, from_revision: int, to_revision: int, service: str | None
    ) -> schemas.Differences:
        """What differs between two revisions. Raises `NotFound` and `Forbidden`."""
        self._require(caller, service)
        found = visible(caller, self._records.differences(from_revision, to_revision))
        if service is not None:
            found = tuple(each for each in found if each.service == service)
        return schemas.Differences(from_revision, to_revision, found)

    def _require(self, caller: Grant, service: str | None) -> None:
        require_somewhere(caller, "read", service or EVERY)
        if service is not None and not self._records.knows(service):
            raise NotFound(f"there is no service {service[: limits.NAME_CHARS_MAX]!r}, nor was one")

    def search(self, caller: Grant, query: Query) -> schemas.Settings:
        """Settings that the caller may see, by service and key."""
        found: list[schemas.SettingLine] = []
        cursor = query.cursor or ""
        while True:
            page = self._records.settings(
                query.words,
                service=query.service or "",
                environment=query.environment or "",
                limit=schemas.PAGE_MAX,
                cursor=cursor,
            )
            for each in page.settings:
                if query.type not in (None, each.state.setting.type):
                    continue
                if caller.allows_somewhere("read", each.service):
                    if len(found) == query.limit:
                        last = found[-1]
                        return schemas.Settings(tuple(found), f"{last.service}/{last.key}")
                    found.append(setting_line(each.service, each.key, each.state))
            if not page.cursor:
                return schemas.Settings(tuple(found), None)
            cursor = page.cursor


def visible(caller: Grant, differences: Iterable[Difference]) -> tuple[Difference, ...]:
    """The differences that a caller may see: those of services by `read`, tokens by `admin`."""

    def seen(each: Difference) -> bool:
        if each.kind == "token":
            return caller.allows("admin", EVERY, EVERY)
        return not each.service or caller.allows_somewhere("read", each.service)

    return tuple(each for each in differences if seen(each))


def setting_line(service: str, key: str, found: SettingState) -> schemas.SettingLine:
    return schemas.SettingLine(
        service=service,
        key=key,
        type=found.setting.type,
        description=found.setting.description,
        environments=tuple(sorted(found.setting.environments)),
        revision=max(found.revisions.values(), default=0),
    )


def _may_see(caller: Grant, edit: Edit) -> bool:
    match edit:
        case PutEnvironment() | PutRoot() | StartRollout() | MoveRollout() | Approve():
            return True
        case BreakGlass():
            return True
        case PutToken():
            return all(may_grant(caller, scope) for scope in edit.to.scopes)
        case DeleteToken():
            return caller.allows("admin", EVERY, EVERY)
        case _:
            return caller.allows_somewhere("read", edit.service)


def _shown(edit: Edit) -> Edit:
    """An edit fit to be shown: a token's hash stays in the journal."""
    if isinstance(edit, PutToken):
        return PutToken(edit.token, msgspec.structs.replace(edit.to, secret_sha256=""))
    return edit


def _recorded(entry: Entry) -> schemas.Recorded:
    return schemas.Recorded(
        revision=entry.revision,
        at_ms=entry.at_ms,
        actor=entry.actor,
        reason=entry.reason,
        hash=entry.hash,
        edit_count=len(entry.edits),
        approval_count=sum(isinstance(edit, Approve) for edit in entry.edits),
        break_glass=next((one.reason for one in entry.edits if isinstance(one, BreakGlass)), ""),
    )
