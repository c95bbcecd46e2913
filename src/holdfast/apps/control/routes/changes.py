"""The write door over HTTP: check, propose, commit."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import delete, get, post
from litestar.params import JSONBody, PathParameter

from holdfast.apps.control import schemas
from holdfast.apps.control.door import needs
from holdfast.apps.control.openapi import READING, WRITING, errors
from holdfast.apps.control.routes.parameters import Caller, TheControl

ProposalId = Annotated[str, PathParameter(max_length=64, description="A waiting change's id.")]

_WRITE: dict[str, Any] = {
    "opt": needs("write"),
    "responses": errors(*WRITING),
    "tags": ["changes"],
}
_READ: dict[str, Any] = {"opt": needs("read"), "responses": errors(*READING), "tags": ["changes"]}


@post("/v1/changes/check", summary="Check a change", status_code=200, **_WRITE)
async def check_change(
    control: TheControl, caller: Caller, data: JSONBody[schemas.ChangeBody]
) -> schemas.Checked:
    """All problems of a change and all that it would do. Writes nothing.

    Documents that can't be read are problems of the answer (`ok` is false), not an error.
    """
    return await control.write(control.desk.check, caller, data)


@post("/v1/commits", summary="Check and commit a change", status_code=201, **_WRITE)
async def commit(
    control: TheControl, caller: Caller, data: JSONBody[schemas.ChangeBody]
) -> schemas.Committed:
    """Commit a change over any number of services at once: all of it, or nothing.

    422 carries all problems; 409 means that somebody else wrote first.
    """
    return await control.write(control.desk.commit, caller, data)


@post("/v1/changes", summary="Propose a change", status_code=201, **_WRITE)
async def propose_change(
    control: TheControl, caller: Caller, data: JSONBody[schemas.ChangeBody]
) -> schemas.Proposed:
    """Keep a change that has no errors, for a later commit by somebody else, say."""
    return await control.write(control.desk.propose, caller, data)


@get("/v1/changes", summary="List waiting changes", **_READ)
async def list_changes(control: TheControl, caller: Caller) -> schemas.Proposals:
    """Changes that wait for their commit, oldest first, on services that the token may see."""
    return await control.read(control.desk.waiting, caller)


@get("/v1/changes/{change:str}", summary="Get a waiting change", **_READ)
async def get_change(
    control: TheControl, caller: Caller, change: ProposalId
) -> schemas.ProposedDetail:
    """A waiting change, and what it would do on the newest revision."""
    return await control.write(control.desk.proposed, caller, change)


@post("/v1/changes/{change:str}/commit", summary="Commit a waiting change", **_WRITE)
async def commit_change(
    control: TheControl, caller: Caller, change: ProposalId, data: JSONBody[schemas.CommitProposed]
) -> schemas.Committed:
    """Check again on the newest revision and commit; the change waits no longer."""
    return await control.write(control.desk.commit_proposed, caller, change, data.digest)


@delete("/v1/changes/{change:str}", summary="Drop a waiting change", **_WRITE)
async def drop_change(control: TheControl, caller: Caller, change: ProposalId) -> None:
    """It is gone; nothing was written."""
    await control.write(control.desk.drop, caller, change)


ROUTES = (
    check_change,
    commit,
    propose_change,
    list_changes,
    get_change,
    commit_change,
    drop_change,
)
