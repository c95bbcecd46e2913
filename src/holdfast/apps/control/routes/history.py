"""The journal read: head, entries, differences; and undoing, which is one more change."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import get, post
from litestar.params import JSONBody, QueryParameter

from holdfast.apps.control import schemas
from holdfast.apps.control.door import needs
from holdfast.apps.control.openapi import READING, WRITING, errors
from holdfast.apps.control.routes.parameters import (
    Attempt,
    Caller,
    Limit,
    RevisionNumber,
    TheControl,
)
from holdfast.core import limits

_READ: dict[str, Any] = {"opt": needs("read"), "responses": errors(*READING), "tags": ["history"]}
_WRITE: dict[str, Any] = {
    "opt": needs("write"),
    "responses": errors(*WRITING),
    "tags": ["history"],
}
OneService = Annotated[str | None, QueryParameter(description="Only what touched this service.")]


@get("/v1/head", summary="Get the newest revision", sync_to_thread=False, **_READ)
def get_head(control: TheControl) -> schemas.HeadBody:
    """The newest revision and its hash. Whoever keeps it can prove later that nobody rewrote."""
    head = control.state().head
    return schemas.HeadBody(head.revision, head.hash)


@get("/v1/history", summary="List the journal", **_READ)
async def list_history(  # noqa: PLR0913  # the parameters of a query
    *,
    control: TheControl,
    caller: Caller,
    service: OneService = None,
    key: Annotated[
        str | None, QueryParameter(description="Only what touched this setting; needs `service`.")
    ] = None,
    before: Annotated[
        int | None,
        QueryParameter(
            ge=1, le=limits.SAFE_INTEGER_MAX, description="Only revisions below this one."
        ),
    ] = None,
    limit: Limit = schemas.PAGE,
) -> schemas.History:
    """Entries, newest first. Without `service` it takes a token that may read every service."""
    return await control.read(control.reading.history, caller, service, key, before, limit)


@get("/v1/history/{revision:int}", summary="Get one entry", **_READ)
async def get_entry(
    control: TheControl, caller: Caller, revision: RevisionNumber
) -> schemas.RecordedDetail:
    """One entry with its edits and what they changed."""
    return await control.read(control.reading.entry, caller, revision)


@get("/v1/diff", summary="Compare two revisions", **_READ)
async def get_diff(
    control: TheControl,
    caller: Caller,
    from_revision: Annotated[
        int,
        QueryParameter(name="from", ge=0, le=limits.SAFE_INTEGER_MAX, description="The older one."),
    ],
    to_revision: Annotated[
        int | None,
        QueryParameter(
            name="to",
            ge=0,
            le=limits.SAFE_INTEGER_MAX,
            description="The newer one; else the head.",
        ),
    ] = None,
    service: OneService = None,
) -> schemas.Differences:
    """All that differs between two revisions, item by item."""
    newer = control.state().head.revision if to_revision is None else to_revision
    return await control.read(control.reading.differences, caller, from_revision, newer, service)


@post("/v1/revert", summary="Undo a revision", status_code=201, **_WRITE)
async def revert(
    control: TheControl, caller: Caller, attempt: Attempt, data: JSONBody[schemas.RevertBody]
) -> schemas.Committed:
    """Undo what one revision did, as one more change. What was changed again since is a problem."""
    return await control.write(control.desk.revert, caller, data, attempt)


@post("/v1/restore", summary="Restore what was deleted", status_code=201, **_WRITE)
async def restore(
    control: TheControl, caller: Caller, attempt: Attempt, data: JSONBody[schemas.RestoreBody]
) -> schemas.Committed:
    """Bring back a setting, a segment or a whole service, as one more change."""
    return await control.write(control.desk.restore, caller, data, attempt)


ROUTES = (get_head, list_history, get_entry, get_diff, revert, restore)
