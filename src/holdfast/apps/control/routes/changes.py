"""The write door over HTTP: check, propose, approve, schedule, commit."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import delete, get, post, put
from litestar.params import JSONBody, PathParameter

from holdfast.apps.control import proposal_schemas, schemas
from holdfast.apps.control.door import needs
from holdfast.apps.control.openapi import READING, WRITING, errors
from holdfast.apps.control.routes.parameters import Attempt, Caller, TheControl

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

    Documents that can't be read are problems of the answer (`ok` is false), not an error. What a
    policy asks for and the change has not yet is a warning.
    """
    return await control.write(control.desk.check, caller, data)


@post("/v1/commits", summary="Check and commit a change", status_code=201, **_WRITE)
async def commit(
    control: TheControl, caller: Caller, attempt: Attempt, data: JSONBody[schemas.ChangeBody]
) -> schemas.Committed:
    """Commit a change over any number of services at once: all of it, or nothing.

    422 carries all problems; 409 means that somebody else wrote first; 403 with the code
    `approval-needed` or `frozen` that a policy asks for more. With `break_glass`, a reason, the
    policy is skipped, and everybody is told.
    """
    return await control.write(control.desk.commit, caller, data, attempt)


@post("/v1/changes", summary="Propose a change", status_code=201, **_WRITE)
async def propose_change(
    control: TheControl, caller: Caller, data: JSONBody[schemas.ChangeBody]
) -> proposal_schemas.Proposed:
    """Keep a change that has no errors, for approvals and a later commit."""
    return await control.write(control.proposals.propose, caller, data)


@post("/v1/changes/revert", summary="Propose to undo a revision", status_code=201, **_WRITE)
async def propose_revert(
    control: TheControl, caller: Caller, data: JSONBody[schemas.RevertBody]
) -> proposal_schemas.Proposed:
    """Keep the change that undoes a revision, for approvals and a later commit."""
    return await control.write(control.proposals.propose_revert, caller, data)


@get("/v1/changes", summary="List waiting changes", **_READ)
async def list_changes(control: TheControl, caller: Caller) -> proposal_schemas.Proposals:
    """Changes that wait for their commit, oldest first, on services that the token may see."""
    return await control.read(control.proposals.list, caller)


@get("/v1/changes/{change:str}", summary="Get a waiting change", **_READ)
async def get_change(
    control: TheControl, caller: Caller, change: ProposalId
) -> proposal_schemas.ProposedDetail:
    """A waiting change, what it would do on the newest revision, and what it still lacks."""
    return await control.write(control.proposals.detail, caller, change)


@put("/v1/changes/{change:str}", summary="Edit a waiting change", **_WRITE)
async def revise_change(
    control: TheControl, caller: Caller, change: ProposalId, data: JSONBody[schemas.ChangeBody]
) -> proposal_schemas.Proposed:
    """Put another change in its place; only its author can. Approvals, rejection and schedule go:
    they were of another digest.
    """
    return await control.write(control.proposals.revise, caller, change, data)


@post("/v1/changes/{change:str}/approve", summary="Approve a change", status_code=200, **_WRITE)
async def approve_change(
    control: TheControl,
    caller: Caller,
    change: ProposalId,
    data: JSONBody[proposal_schemas.ApproveBody],
) -> proposal_schemas.Proposed:
    """Vouch for a change as it was looked at. It takes the rights to commit it, and somebody else
    than its author; it is void once the change is edited, or somebody touches what it touches.
    """
    return await control.write(control.proposals.approve, caller, change, data.digest)


@post("/v1/changes/{change:str}/reject", summary="Reject a change", status_code=200, **_WRITE)
async def reject_change(
    control: TheControl,
    caller: Caller,
    change: ProposalId,
    data: JSONBody[proposal_schemas.RejectBody],
) -> proposal_schemas.Proposed:
    """It can't be committed any more, unless its author edits it."""
    return await control.write(control.proposals.reject, caller, change, data.reason)


@put("/v1/changes/{change:str}/schedule", summary="Schedule a change", **_WRITE)
async def schedule_change(
    control: TheControl,
    caller: Caller,
    change: ProposalId,
    data: JSONBody[proposal_schemas.ScheduleBody],
) -> proposal_schemas.Proposed:
    """Let it be committed at a time, by the rights and with the approvals that it has by then.

    A time that was missed by more than an hour, and a commit that is refused, is a failure: the
    change waits on and says why.
    """
    return await control.write(control.proposals.schedule, caller, change, data.at_s)


@post("/v1/changes/{change:str}/commit", summary="Commit a waiting change", **_WRITE)
async def commit_change(
    control: TheControl,
    caller: Caller,
    change: ProposalId,
    data: JSONBody[proposal_schemas.CommitProposed],
) -> schemas.Committed:
    """Check again on the newest revision and commit; the change waits no longer.

    403 with the code `approval-needed` or `frozen` when a policy asks for more.
    """
    return await control.write(control.proposals.commit, caller, change, data)


@delete("/v1/changes/{change:str}", summary="Drop a waiting change", **_WRITE)
async def drop_change(control: TheControl, caller: Caller, change: ProposalId) -> None:
    """It is gone; nothing was written."""
    await control.write(control.proposals.drop, caller, change)


ROUTES = (
    check_change,
    commit,
    propose_change,
    propose_revert,
    list_changes,
    get_change,
    revise_change,
    approve_change,
    reject_change,
    schedule_change,
    commit_change,
    drop_change,
)
